"""Evaluation of a trained policy."""

import jax

from purejaxpg.agent.rollout import Episodes, first_episodes
from purejaxpg.types import Algorithm, Env, PyTree


def evaluate(
    key: jax.Array,
    algorithm: Algorithm,
    state: PyTree,
    env: Env,
    env_params: PyTree,
    *,
    num_episodes: int,
    deterministic: bool = False,
    max_steps: int | None = None,
) -> Episodes:
    """Play the first episode of each of `num_episodes` fresh environments with the current policy.

    Args:
      key: consumed; training's random stream is not touched.
      env: the plain environment, or any other with the same spaces (shifted dynamics, say).
      deterministic: take the mode of the policy instead of a sample.
      max_steps: give up on episodes that are longer; None waits for the last one to end.

    Returns:
      `Episodes(returns, lengths, completed)`, `[num_episodes]` each; returns are undiscounted sums of
      the rewards of `env`.
    """
    if num_episodes < 1:
        raise ValueError(f"num_episodes={num_episodes} must be at least 1.")

    def act(key, memory, obs, start):
        return algorithm.act(
            key, state, memory, obs, start, deterministic=deterministic, env_params=env_params
        )

    memory = algorithm.initial_memory(num_episodes)
    return first_episodes(
        key, env, env_params, act, memory, num_episodes=num_episodes, max_steps=max_steps
    )
