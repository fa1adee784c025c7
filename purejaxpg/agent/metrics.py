"""Metrics of an update: an algorithm's own, and those that all have."""

import jax
import jax.numpy as jnp

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
      extras: name -> `[T, num_envs]`, beside the reward.

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
    return metrics | {name: jnp.mean(x) for name, x in extras.items()}


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
