"""Metrics of an update: an algorithm's own, and those that all have."""

import jax
import jax.numpy as jnp

from purejaxpg.functional.diagnostics import mean_where
from purejaxpg.types import Transition

Metrics = dict[str, jax.Array]


def complete_metrics(
    own: Metrics, update: jax.Array, transitions: Transition, extras: Metrics
) -> Metrics:
    """An algorithm's own metrics, those of the rollout, and the means of what `reward_fn` returned.

    Args:
      own: name -> scalar, the algorithm's.
      update: the number of updates done, this one included.
      transitions: of this update's rollout.
      extras: name -> `[T, num_envs]`, beside the reward; their means are over live steps.

    Returns:
      name -> scalar. `env_steps` is the number of environment steps after so many rollouts of this size.

    Raises:
      ValueError: one of the extras has the name of a metric, or episodes are not counted.
    """
    # float32: int32 would overflow in long runs.
    env_steps = update.astype(jnp.float32) * transitions.reward.size
    metrics = {**own, "env_steps": env_steps, **episode_metrics(transitions)}
    if twice := sorted(metrics.keys() & extras.keys()):
        raise ValueError(f"reward_fn returns extras named as metrics are: {', '.join(twice)}.")
    live = transitions.info.get("live")
    return metrics | {name: mean_where(x, live) for name, x in extras.items()}


def mean_terms(
    terms: Metrics, where: jax.Array | None, others: dict[str, jax.Array | None]
) -> Metrics:
    """Means of the terms of a loss, in one reduction: small updates are bound by the number of kernels.

    Args:
      terms: name -> `[L, B]`.
      where: `[L, B]` boolean, the rows that a mean is over; all if None.
      others: name -> the same for terms that have rows of their own.

    Returns:
      name -> scalar, 0 where no row counts.
    """
    stacked = jnp.stack([*terms.values()])
    rows = [others.get(name, where) for name in terms]
    if all(x is None for x in rows):
        return dict(zip(terms, stacked.mean(axis=(1, 2))))
    counts = jnp.stack([jnp.ones(stacked.shape[1:], bool) if x is None else x for x in rows])
    total = jnp.where(counts, stacked, 0.0).sum(axis=(1, 2))
    return dict(zip(terms, total / jnp.maximum(counts.sum(axis=(1, 2)), 1)))


def episode_metrics(transitions: Transition) -> Metrics:
    """Sum of the returns and lengths of the episodes that ended in a rollout, and their number.

    Args:
      transitions: of an environment whose episodes `episode_statistics` counts.

    Returns:
      `episode_return_sum` (in units of the reward), `episode_length_sum` (steps) and `episode_count`: sums and
      a count, so that nothing has to stand for the mean where no episode ended.

    Raises:
      ValueError: episodes are not counted.
    """
    if "episode_return" not in transitions.info:
        raise ValueError(
            "The environment's info has no 'episode_return'; wrap it: episode_statistics(env)."
        )
    done = transitions.terminated | transitions.truncated
    return {
        "episode_return_sum": jnp.sum(jnp.where(done, transitions.info["episode_return"], 0.0)),
        "episode_length_sum": jnp.sum(jnp.where(done, transitions.info["episode_length"], 0)),
        "episode_count": jnp.sum(done, dtype=jnp.int32),
    }
