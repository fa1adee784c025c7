"""Normalised observations and rewards: outer algorithms around any builder of an algorithm.

    build = normalize_observations(normalize_rewards(lambda env: ppo(env, ...), discount=0.99))
    algorithm = build(env)

Statistics are those of all steps of training so far. They do not change during a rollout and its update, so
that a policy means the same while it acts and while it is updated; one set serves all environments
of a seed. Evaluation sees raw rewards, and observations through the statistics in the state.

A sample that is NaN or infinite is left out of them; the metrics `observations_left_out` and `rewards_left_out`
count these per update.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.agent.rollout import begin, unroll
from purejaxpg.arguments import INT32, NOT_NEGATIVE, Fraction, check, checked
from purejaxpg.functional.running_statistics import (
    RunningStatistics,
    empty_statistics,
    finite_samples,
    update_statistics,
)
from purejaxpg.types import Algorithm, Build, Env, PyTree, on_obs, split_mask

_LIMIT = 10.0
_EPSILON = 1e-8
_WARMUP_ENVS = 16
WarmupSteps = Annotated[int, NOT_NEGATIVE, INT32]


class NormalizationParams(NamedTuple):
    """`env_params` of an environment that is normalised.

    Attributes:
      params: of the environment inside.
      statistics: what its observations or rewards are normalised by.
    """

    params: PyTree
    statistics: RunningStatistics


class ObservationParams(NormalizationParams):
    """`env_params` of an environment whose observations are normalised."""


class RewardParams(NormalizationParams):
    """`env_params` of an environment whose rewards are normalised."""


class NormalizationState(NamedTuple):
    """State of a normalised algorithm.

    Attributes:
      inner: of the algorithm inside.
      statistics: of all steps of training so far.
    """

    inner: Any
    statistics: RunningStatistics

    @property
    def update(self) -> jax.Array:
        return self.inner.update


class DiscountedReturn(NamedTuple):
    """State of an environment under `normalize_rewards`.

    Attributes:
      env_state: of the environment inside.
      discounted_return: of the rewards since the episode began.
    """

    env_state: PyTree
    discounted_return: jax.Array


@checked
def normalize_observations(build: Build, *, warmup_steps: WarmupSteps = 0) -> Build:
    """Show networks (obs - mean) / standard deviation of each element, clipped to +-10.

    Observations are stored raw. Statistics are those of all steps of training so far.

    Args:
      build: `(env) -> algorithm`, what makes the algorithm inside.
      warmup_steps: Steps of 16 environments, beside the total, that an untrained policy takes in `init` for the
        first statistics. Without any, the first update sees raw observations.

    Returns:
      `(env) -> algorithm`, around it.

    Raises:
      TypeError: `build` is no function.
      ValueError: a negative number of steps.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("Pendulum-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> build = pg.normalize_observations(lambda env: pg.ppo(env, policy, pg.value_network(), pg.adam()))
      >>> state = jax.eval_shape(build(env).init, jax.random.key(0), env_params)
      >>> state.statistics.mean.shape
      (3,)
    """

    def build_normalized(env: Env) -> Algorithm:
        def observe(obs, params):
            def standardise(observed):
                return _scaled(observed - params.statistics.mean, params.statistics)

            return on_obs(standardise, env.observe(obs, params.params))

        def shape_of(env_params):
            def first(key):
                return split_mask(env.observe(env.reset(key, env_params)[0], env_params))[0]

            return jax.eval_shape(first, jax.random.key(0)).shape

        def samples_of(transitions, env_params):
            observed, _ = split_mask(env.observe(transitions.obs, env_params))
            return observed.reshape(-1, *observed.shape[2:])

        below = _nested(env)._replace(observe=observe)
        return _normalized(
            build, below, ObservationParams, shape_of, samples_of, warmup_steps=warmup_steps
        )

    return build_normalized


@checked
def normalize_rewards(build: Build, *, discount: Fraction, warmup_steps: WarmupSteps = 0) -> Build:
    """Divide rewards by the standard deviation of the discounted return, and clip them to +-10.

    No mean is subtracted.

    That return is G = discount G + reward along the steps of an environment, from 0 in every episode
    (Engstrom et al. 2020, arXiv:2005.12729, section 3); it is the `discounted_return` in `info`.
    The value loss falls with the square of that deviation: where one optimizer minimises it together with the
    policy's, as in `ppo`, a larger `value_coef` restores its weight.

    Args:
      build: `(env) -> algorithm`, what makes the algorithm inside.
      discount: the algorithm's. May be traced.
      warmup_steps: Steps of 16 environments, beside the total, that an untrained policy takes in `init` for the
        first statistics. Without any, the first update sees raw rewards.

    Returns:
      `(env) -> algorithm`, around it.

    Raises:
      TypeError: `build` is no function.
      ValueError: a number is out of range, or rewards are normalised already.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("Pendulum-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> build = pg.normalize_rewards(
      ...     lambda env: pg.ppo(env, policy, pg.value_network(), pg.adam(), discount=0.9), discount=0.9)
      >>> state = jax.eval_shape(build(env).init, jax.random.key(0), env_params)
      >>> state.statistics.mean.shape
      ()
    """

    def build_normalized(env: Env) -> Algorithm:
        def reset(key, params):
            obs, env_state = env.reset(key, params.params)
            return obs, DiscountedReturn(env_state, jnp.zeros(()))

        def step(key, state, action, params):
            obs, env_state, reward, terminated, truncated, info = env.step(
                key, state.env_state, action, params.params
            )
            total = discount * state.discounted_return + reward
            reward = _scaled(reward, params.statistics)
            info = {**info, "discounted_return": total}
            return obs, DiscountedReturn(env_state, total), reward, terminated, truncated, info

        def samples_of(transitions, env_params):
            return transitions.info["discounted_return"].reshape(-1)

        below = _nested(env)._replace(reset=reset, step=step)
        return _normalized(
            build, below, RewardParams, lambda _: (), samples_of, warmup_steps=warmup_steps
        )

    return build_normalized


def _scaled(x: jax.Array, statistics: RunningStatistics) -> jax.Array:
    """In standard deviations, and clipped."""
    return jnp.clip(x / jnp.sqrt(statistics.variance + _EPSILON), -_LIMIT, _LIMIT)


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
    build: Build,
    below: Env,
    params_type: type[NormalizationParams],
    shape_of: Callable,
    samples_of: Callable,
    *,
    warmup_steps: int,
) -> Algorithm:
    """The algorithm `build(below)`, and beside it the statistics of what it meets.

    Args:
      params_type: of the parameters of `below`.
      shape_of: `(env_params) -> shape` of one sample.
      samples_of: `(transitions, env_params) -> samples [N, *shape]`.
    """
    inner = build(below)
    check("what build returns", inner, Algorithm)
    what = "observations" if params_type is ObservationParams else "rewards"

    def warm_up(key, statistics, env_params):
        policy_key, reset_key, rollout_key = jax.random.split(key, 3)
        nested = params_type(env_params, statistics)
        state = inner.init(policy_key, nested)

        def act(key, memory, obs, start):
            return inner.act(key, state, memory, obs, start, env_params=nested)

        memory = inner.initial_memory(_WARMUP_ENVS)
        loop = begin(reset_key, below, nested, memory, num_envs=_WARMUP_ENVS)
        _, transitions = unroll(rollout_key, below, nested, act, loop, num_steps=warmup_steps)
        return update_statistics(statistics, samples_of(transitions, env_params))

    def init(key, env_params):
        inside = env_params
        while hasattr(inside, "params"):
            if isinstance(inside, params_type):
                raise ValueError(f"The {what} are normalised already; normalise them once.")
            inside = inside.params
        warmup_key, init_key = jax.random.split(key)
        statistics = empty_statistics(shape_of(env_params))
        if warmup_steps:
            statistics = warm_up(warmup_key, statistics, env_params)
        inner_state = inner.init(init_key, params_type(env_params, statistics))
        return NormalizationState(inner_state, statistics)

    def step(key, state, env_params):
        nested = params_type(env_params, state.statistics)
        inner_state, transitions, metrics = inner.step(key, state.inner, nested)
        samples = samples_of(transitions, env_params)
        statistics = update_statistics(state.statistics, samples)
        metrics = {**metrics, f"{what}_left_out": jnp.sum(~finite_samples(samples))}
        return NormalizationState(inner_state, statistics), transitions, metrics

    def act(key, state, memory, obs, start, *, deterministic=False, env_params):
        nested = params_type(env_params, state.statistics)
        return inner.act(
            key, state.inner, memory, obs, start, deterministic=deterministic, env_params=nested
        )

    return Algorithm(init, step, act, inner.initial_memory)
