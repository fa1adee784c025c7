"""Normalised observations and rewards: outer algorithms around any builder of an algorithm.

    build = normalize_observations(normalize_rewards(lambda env: ppo(env, ...), discount=0.99))
    algorithm = build(env)

Statistics are those of all steps of training so far. They do not change during a rollout and its update, so
that a policy means the same while it acts and while it is updated; one set serves all environments
of a seed. Evaluation sees raw rewards, and observations through the statistics in the state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.agent.rollout import begin, unroll
from purejaxpg.functional.running_statistics import (
    RunningStatistics,
    empty_statistics,
    update_statistics,
)
from purejaxpg.types import Algorithm, Build, Env, PyTree, Scalar, on_obs, split_mask

_LIMIT = 10.0
_EPSILON = 1e-8
_WARMUP_ENVS = 16


class NormalizationParams(NamedTuple):
    """Parameters of the environment below, and the statistics that it is seen through."""

    params: PyTree
    statistics: RunningStatistics


class NormalizationState(NamedTuple):
    inner: Any
    statistics: RunningStatistics

    @property
    def update(self) -> jax.Array:
        return self.inner.update


class DiscountedReturn(NamedTuple):
    """State of an environment under `normalize_rewards`."""

    env_state: PyTree
    discounted_return: jax.Array


def normalize_observations(build: Build, *, warmup_steps: int = 0) -> Build:
    """Show networks (obs - mean) / deviation of each element, clipped to +-10. Observations are stored raw.

    Args:
      warmup_steps: steps of 16 environments in `init` that an untrained policy takes, for the first
        statistics; they are not counted in metrics. Without any, the first update sees raw observations.
    """

    def build_normalized(env: Env) -> Algorithm:
        def observe(obs, params):
            statistics = params.statistics
            deviation = jnp.sqrt(statistics.variance + _EPSILON)

            def standardise(seen):
                return jnp.clip((seen - statistics.mean) / deviation, -_LIMIT, _LIMIT)

            return on_obs(standardise, env.observe(obs, params.params))

        def shape_of(env_params):
            def first(key):
                return split_mask(env.observe(env.reset(key, env_params)[0], env_params))[0]

            return jax.eval_shape(first, jax.random.key(0)).shape

        def samples_of(transitions, env_params):
            seen, _ = split_mask(env.observe(transitions.obs, env_params))
            return seen.reshape(-1, *seen.shape[2:])

        below = _nested(env)._replace(observe=observe)
        return _normalized(build, below, shape_of, samples_of, warmup_steps=warmup_steps)

    return build_normalized


def normalize_rewards(build: Build, *, discount: Scalar, warmup_steps: int = 0) -> Build:
    """Divide rewards by the deviation of the discounted return, and clip them to +-10; no mean is subtracted.

    That return is G = discount G + reward along the steps of an environment, from 0 in every episode
    (Engstrom et al. 2020, arXiv:2005.12729, section 3); it is the `discounted_return` in `info`.
    The value loss falls with the square of that deviation: where one optimizer minimises it together with the
    policy's, as in `ppo`, a larger `value_coef` restores its weight.

    Args:
      discount: the algorithm's.
      warmup_steps: as of `normalize_observations`; without any, the first update sees raw rewards.
    """

    def build_normalized(env: Env) -> Algorithm:
        def reset(key, params):
            obs, env_state = env.reset(key, params.params)
            return obs, DiscountedReturn(env_state, jnp.zeros(()))

        def step(key, state, action, params):
            obs, env_state, reward, terminated, truncated, info = env.step(
                key, state.env_state, action, params.params
            )
            if "discounted_return" in info:
                raise ValueError(
                    "Rewards are normalised already: normalize_rewards once is enough."
                )
            total = discount * state.discounted_return + reward
            deviation = jnp.sqrt(params.statistics.variance + _EPSILON)
            reward = jnp.clip(reward / deviation, -_LIMIT, _LIMIT)
            info = {**info, "discounted_return": total}
            return obs, DiscountedReturn(env_state, total), reward, terminated, truncated, info

        def samples_of(transitions, env_params):
            return transitions.info["discounted_return"].reshape(-1)

        below = _nested(env)._replace(reset=reset, step=step)
        return _normalized(build, below, lambda _: (), samples_of, warmup_steps=warmup_steps)

    return build_normalized


def _nested(env: Env) -> Env:
    """The environment with its parameters nested in `NormalizationParams`, otherwise unchanged."""
    return Env(
        reset=lambda key, params: env.reset(key, params.params),
        step=lambda key, state, action, params: env.step(key, state, action, params.params),
        observation_space=lambda params: env.observation_space(params.params),
        action_space=lambda params: env.action_space(params.params),
        observe=lambda obs, params: env.observe(obs, params.params),
    )


def _normalized(
    build: Build, below: Env, shape_of: Callable, samples_of: Callable, *, warmup_steps: int
) -> Algorithm:
    """The algorithm `build(below)`, and beside it the statistics of what it meets.

    Args:
      shape_of: `(env_params) -> shape` of one sample.
      samples_of: `(transitions, env_params) -> samples [N, *shape]`.
    """
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps} must not be negative.")
    inner = build(below)

    def warm_up(key, statistics, env_params):
        policy_key, reset_key, rollout_key = jax.random.split(key, 3)
        nested = NormalizationParams(env_params, statistics)
        state = inner.init(policy_key, nested)

        def act(key, memory, obs, start):
            return inner.act(key, state, memory, obs, start, env_params=nested)

        memory = inner.initial_memory(_WARMUP_ENVS)
        loop = begin(reset_key, below, nested, memory, num_envs=_WARMUP_ENVS)
        _, seen = unroll(rollout_key, below, nested, act, loop, num_steps=warmup_steps)
        return update_statistics(statistics, samples_of(seen, env_params))

    def init(key, env_params):
        warmup_key, init_key = jax.random.split(key)
        statistics = empty_statistics(shape_of(env_params))
        if warmup_steps:
            statistics = warm_up(warmup_key, statistics, env_params)
        inner_state = inner.init(init_key, NormalizationParams(env_params, statistics))
        return NormalizationState(inner_state, statistics)

    def step(key, state, env_params):
        nested = NormalizationParams(env_params, state.statistics)
        inner_state, transitions, metrics = inner.step(key, state.inner, nested)
        statistics = update_statistics(state.statistics, samples_of(transitions, env_params))
        return NormalizationState(inner_state, statistics), transitions, metrics

    def act(key, state, memory, obs, start, *, deterministic=False, env_params=None):
        nested = NormalizationParams(env_params, state.statistics)
        return inner.act(
            key, state.inner, memory, obs, start, deterministic=deterministic, env_params=nested
        )

    return Algorithm(init, step, act, inner.initial_memory)
