"""Whole episodes of a rollout: which steps belong to one, and what each step weighs in a mean over them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.agent.acting import PolicyValue, initial_memory
from purejaxpg.agent.experience import Experience, gather_experience
from purejaxpg.agent.rollout import begin, first_steps
from purejaxpg.types import Env, PyTree, RewardFn, Transition


class WholeEpisodes(NamedTuple):
    """The episodes of a rollout that ended in it.

    Attributes:
      first: `[T, B]` int32, the row in which each step's episode began.
      counts: `[T, B]` boolean, true for steps of episodes that count.
      weight: `[T, B]`, 1 / their number where a step counts, else 0.
    """

    first: jax.Array
    counts: jax.Array
    weight: jax.Array


def gather_from_start(
    keys: tuple[jax.Array, jax.Array],
    env: Env,
    env_params: PyTree,
    networks: PolicyValue,
    params: PolicyValue,
    *,
    num_envs: int,
    num_steps: int,
    reward_fn: RewardFn | None,
) -> Experience:
    """Reset all environments and act, so that every column of the rollout begins an episode.

    Args:
      keys: for the resets, and for the rollout; consumed.
      env: the environment.
      env_params: its parameters.
      networks: policy and value network, of raw observations.
      params: of both networks.
      num_envs: environments in parallel.
      num_steps: steps of each environment.
      reward_fn: as of `gather_experience`.

    Returns:
      The experience.
    """
    reset_key, rollout_key = keys
    memory = initial_memory(networks, num_envs)
    loop = begin(reset_key, env, env_params, memory, num_envs=num_envs)
    _, experience = gather_experience(
        rollout_key, env, env_params, networks, params, loop,
        num_steps=num_steps, reward_fn=reward_fn,
    )  # fmt: skip
    return experience


def whole_episodes(transitions: Transition, *, first_only: bool) -> WholeEpisodes:
    """The episodes that ended in a rollout which began with fresh ones.

    Args:
      transitions: `[T, B, ...]`, every column of which begins an episode.
      first_only: count the first episode of each column only.

    Returns:
      What counts of every step.
    """
    first = first_steps(transitions.start)
    done = transitions.terminated | transitions.truncated
    counts = jax.lax.cumsum(done.astype(jnp.int32), reverse=True) > 0
    if first_only:
        counts &= first == 0
    number = jnp.maximum(jnp.sum(counts & done), 1)
    return WholeEpisodes(first, counts, jnp.where(counts, 1.0 / number, 0.0))
