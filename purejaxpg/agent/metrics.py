"""Metrics of a rollout."""

import jax
import jax.numpy as jnp

from purejaxpg.types import Transition


def rollout_metrics(update: jax.Array, transitions: Transition) -> dict[str, jax.Array]:
    """Environment steps after `update` rollouts of this size, and `episode_metrics` of the last one."""
    # float32: int32 would overflow in long runs.
    return {
        "env_steps": update.astype(jnp.float32) * transitions.reward.size,
        **episode_metrics(transitions),
    }


def episode_metrics(transitions: Transition) -> dict[str, jax.Array]:
    """Sum of the returns and lengths of the episodes that ended in a rollout, and their number."""
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
