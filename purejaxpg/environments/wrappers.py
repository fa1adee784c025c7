"""Wrappers of environments: plain functions `Env -> Env`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.types import Box, Discrete, Env, Masked, PyTree, on_obs


class EpisodeStatistics(NamedTuple):
    """State of `episode_statistics`."""

    env_state: PyTree
    episode_return: jax.Array
    episode_length: jax.Array


def episode_statistics(env: Env) -> Env:
    """Add `episode_return` and `episode_length` up to and with this step to `info`.

    The innermost wrapper, so that it counts the raw reward. Read them where an episode ended.
    """

    def reset(key, params):
        obs, state = env.reset(key, params)
        return obs, EpisodeStatistics(state, jnp.zeros(()), jnp.zeros((), jnp.int32))

    def step(key, state, action, params):
        obs, env_state, reward, terminated, truncated, info = env.step(
            key, state.env_state, action, params
        )
        state = EpisodeStatistics(
            env_state, state.episode_return + reward, state.episode_length + 1
        )
        info = {
            **info,
            "episode_return": state.episode_return,
            "episode_length": state.episode_length,
        }
        return obs, state, reward, terminated, truncated, info

    return env._replace(reset=reset, step=step)


def boolean_observations(env: Env) -> Env:
    """Store observations that are all 0 or 1 as booleans, a quarter of their size."""

    def reset(key, params):
        obs, state = env.reset(key, params)
        return obs.astype(bool), state

    def step(key, state, action, params):
        obs, *rest = env.step(key, state, action, params)
        return obs.astype(bool), *rest

    return env._replace(
        reset=reset,
        step=step,
        observe=lambda obs, params: env.observe(obs.astype(jnp.float32), params),
    )


def flatten_observations(env: Env) -> Env:
    """Make every observation, raw and observed, a vector."""

    def raw_shape(params):
        return env.observation_space(params).shape

    def reset(key, params):
        obs, state = env.reset(key, params)
        return obs.reshape(-1), state

    def step(key, state, action, params):
        obs, *rest = env.step(key, state, action, params)
        return obs.reshape(-1), *rest

    def observation_space(params):
        space = env.observation_space(params)
        if isinstance(space, Discrete):
            return Box(0, space.n - 1, (1,))
        return Box(-np.inf, np.inf, (int(np.prod(space.shape)),))

    def observe(obs, params):
        leading = obs.shape[:-1]
        seen = env.observe(obs.reshape(leading + raw_shape(params)), params)
        return on_obs(lambda x: x.reshape((*leading, -1)), seen)

    return env._replace(
        reset=reset, step=step, observation_space=observation_space, observe=observe
    )


def mask_actions(env: Env, mask_fn: Callable[[jax.Array, PyTree], jax.Array]) -> Env:
    """Forbid actions: policies then give them probability exactly 0.

    Args:
      mask_fn: `(obs, params) -> [..., n]` boolean of the *raw* observations `[..., *shape]`, true where
        an action is allowed, at least one of them. Where the mask does not follow from what is observed,
        put it into the observation, from where `mask_fn` takes it.
    """

    def observe(obs, params):
        space = env.action_space(params)
        mask = mask_fn(obs, params)
        if not isinstance(space, Discrete) or mask.shape[-1:] != (space.n,):
            raise ValueError(
                f"A mask of {mask.shape[-1:]} actions does not fit the actions {space}."
            )
        return Masked(env.observe(obs, params), mask)

    return env._replace(observe=observe)


def clip_actions(env: Env) -> Env:
    """Clip continuous actions to the bounds of the action space. Stored actions stay unclipped."""

    def transform(action, space):
        return jnp.clip(action, space.low, space.high)

    return _transform_actions(env, transform, lambda space: space, "clip_actions")


def rescale_actions(env: Env) -> Env:
    """Let continuous actions in [-1, 1] span the bounds of the action space, affinely."""

    def transform(action, space):
        return space.low + (action + 1) / 2 * (space.high - space.low)

    return _transform_actions(
        env, transform, lambda space: Box(-1.0, 1.0, space.shape), "rescale_actions"
    )


def squash_actions(env: Env) -> Env:
    """Let unbounded continuous actions span the bounds of the action space through tanh.

    The policy stays Gaussian: ratios and KL are those of the squashed policy, the entropy is the Gaussian's.
    """

    def transform(action, space):
        return space.low + (jnp.tanh(action) + 1) / 2 * (space.high - space.low)

    return _transform_actions(
        env, transform, lambda space: Box(-np.inf, np.inf, space.shape), "squash_actions"
    )


def _transform_actions(env: Env, transform, transform_space, name: str) -> Env:
    def bounded(params) -> Box:
        space = env.action_space(params)
        if isinstance(space, Discrete):
            raise ValueError(f"{name} needs continuous actions; this environment's are {space}.")
        return space

    def step(key, state, action, params):
        return env.step(key, state, transform(action, bounded(params)), params)

    return env._replace(step=step, action_space=lambda params: transform_space(bounded(params)))
