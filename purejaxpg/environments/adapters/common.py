"""What the adapters share: time limits, masks inside observations, names, and states that a scan can carry."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.arguments import near
from purejaxpg.environments.wrappers import mask_actions
from purejaxpg.types import Env, PyTree, Scalar


class TimeLimit(NamedTuple):
    """Parameters of an environment under `time_limit`."""

    max_steps_in_episode: Scalar


class Timed(NamedTuple):
    """State of an environment under `time_limit`."""

    env_state: PyTree
    steps: jax.Array


def time_limit(env: Env) -> Env:
    """Truncate an episode at its step number `params.max_steps_in_episode`."""

    def reset(key, params):
        obs, state = env.reset(key, params)
        return obs, Timed(state, jnp.zeros((), jnp.int32))

    def step(key, state, action, params):
        obs, env_state, reward, terminated, truncated, info = env.step(
            key, state.env_state, action, params
        )
        steps = state.steps + 1
        truncated = truncated | (steps >= params.max_steps_in_episode)
        return obs, Timed(env_state, steps), reward, terminated, truncated, info

    return env._replace(reset=reset, step=step)


def join_mask(obs: jax.Array, mask: jax.Array) -> jax.Array:
    """An observation and the mask of the actions that are allowed after it as one vector.

    Where nothing is allowed any more, as at the end of many a game, everything is: a policy needs an action.
    """
    mask = mask.ravel() | ~mask.any()
    return jnp.concatenate([obs.ravel(), mask.astype(obs.dtype)])


def split_masks(env: Env, shape: tuple[int, ...]) -> Env:
    """Show networks what `join_mask` joined: float32 observations of this shape, and the mask beside them."""
    size = int(np.prod(shape))

    def observe(obs, params):
        return obs[..., :size].reshape((*obs.shape[:-1], *shape)).astype(jnp.float32)

    return mask_actions(
        env._replace(observe=observe), lambda obs, params: obs[..., size:].astype(bool)
    )


def check_name(name: str, known: Iterable[str], library: str) -> None:
    """Raise ValueError, one sentence, where a library has no environment of this name."""
    known = sorted(known)
    if name not in known:
        raise ValueError(
            f"{library} has no environment {name!r}{near(name, known)}; it has {', '.join(known)}."
        )


def typed_like(new: PyTree, old: PyTree) -> PyTree:
    """`new` with the types of `old`, none of them weak."""
    return jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), new, old)
