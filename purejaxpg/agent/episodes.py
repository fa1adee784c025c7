"""Whole episodes of a rollout: which steps belong to one, and what each step weighs in a mean over them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.agent.rollout import first_steps
from purejaxpg.types import Transition


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
