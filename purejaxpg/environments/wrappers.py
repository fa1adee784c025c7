"""Wrappers of environments: plain functions `Env -> Env`.

The examples wrap an environment of one observation that pays the action it was given as the reward.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.arguments import check_step, checked
from purejaxpg.types import Box, Discrete, Env, Masked, PyTree, on_obs


class EpisodeStatistics(NamedTuple):
    """State of an environment under `episode_statistics`.

    Attributes:
      env_state: the state of the environment itself.
      episode_return: sum of the rewards of the episode up to now, a float32 scalar.
      episode_length: number of steps of the episode up to now, an int32 scalar.
    """

    env_state: PyTree
    episode_return: jax.Array
    episode_length: jax.Array


@checked
def episode_statistics(env: Env) -> Env:
    """Add the return and the length of the episode, up to and with this step, to `info`.

    It has to be the innermost wrapper, so that it counts the raw reward. The two numbers are those of a whole
    episode where an episode ended.

    Args:
      env: any environment.

    Returns:
      The environment, whose `info` also has `episode_return` (units of the reward) and `episode_length`
      (steps).

    Raises:
      TypeError: `env` is no `Env`.
      ValueError: by `step`, where that of `env` does not return six values.

    Example:
      >>> import purejaxpg as pg
      >>> env = pg.Env(
      ...     reset=lambda key, params: (0.0, ()),
      ...     step=lambda key, state, action, params: (0.0, (), action, False, False, {}),
      ...     observation_space=lambda params: pg.Box(0.0, 1.0, ()),
      ...     action_space=lambda params: pg.Box(0.0, 10.0, ()),
      ... )
      >>> env = pg.episode_statistics(env)
      >>> _, state = env.reset(None, None)
      >>> for action in (3.0, 4.0):
      ...     _, state, *_, info = env.step(None, state, action, None)
      >>> float(info["episode_return"]), int(info["episode_length"])
      (7.0, 2)
    """

    def reset(key, params):
        obs, state = env.reset(key, params)
        return obs, EpisodeStatistics(state, jnp.zeros(()), jnp.zeros((), jnp.int32))

    def step(key, state, action, params):
        obs, env_state, reward, *ends, info = check_step(
            env.step(key, state.env_state, action, params)
        )
        new = EpisodeStatistics(env_state, state.episode_return + reward, state.episode_length + 1)
        counts = {"episode_return": new.episode_return, "episode_length": new.episode_length}
        return obs, new, reward, *ends, {**info, **counts}

    return env._replace(reset=reset, step=step)


@checked
def map_observations(env: Env, function: Callable[[jax.Array], jax.Array]) -> Env:
    """Store other observations: a function of the raw ones.

    Args:
      env: the environment, whose `observe` and spaces stay as they are.
      function: `observation -> observation` of one environment.

    Returns:
      The environment, which gives `function` of its observations.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.environments.wrappers import map_observations
      >>> env = pg.Env(
      ...     reset=lambda key, params: (jnp.array([3.0, 4.0]), ()),
      ...     step=lambda key, state, action, params: (jnp.zeros(2), (), action, False, False, {}),
      ...     observation_space=lambda params: pg.Box(0.0, 10.0, (2,)),
      ...     action_space=lambda params: pg.Box(0.0, 10.0, ()),
      ... )
      >>> map_observations(env, lambda obs: obs / 2).reset(None, None)[0].tolist()
      [1.5, 2.0]
    """

    def reset(key, params):
        obs, state = env.reset(key, params)
        return function(obs), state

    def step(key, state, action, params):
        obs, *rest = env.step(key, state, action, params)
        return function(obs), *rest

    return env._replace(reset=reset, step=step)


@checked
def boolean_observations(env: Env) -> Env:
    """Store observations that are all 0 or 1 as booleans, which take a quarter of the memory of float32.

    Args:
      env: an environment whose observations hold nothing but 0 and 1.

    Returns:
      The environment, with boolean raw observations. `observe` makes them float32 again, before anything
      that the environment's own `observe` does.

    Raises:
      TypeError: `env` is no `Env`.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> env = pg.Env(
      ...     reset=lambda key, params: (jnp.array([0.0, 1.0]), ()),
      ...     step=lambda key, state, action, params: (jnp.zeros(2), (), action, False, False, {}),
      ...     observation_space=lambda params: pg.Box(0.0, 1.0, (2,)),
      ...     action_space=lambda params: pg.Box(0.0, 10.0, ()),
      ... )
      >>> env = pg.boolean_observations(env)
      >>> obs, _ = env.reset(None, None)
      >>> obs.tolist(), env.observe(obs, None).tolist()
      ([False, True], [0.0, 1.0])
    """

    return map_observations(env, lambda obs: obs.astype(bool))._replace(
        observe=lambda obs, params: env.observe(obs.astype(jnp.float32), params)
    )


@checked
def flatten_observations(env: Env) -> Env:
    """Make every observation a vector, as it is stored and as networks are given it.

    Args:
      env: an environment with observations of any shape; a mask of actions beside them stays as it is.

    Returns:
      The environment, with raw observations `[prod(shape)]`; those of a `Discrete` space become `[1]`.

    Raises:
      TypeError: `env` is no `Env`.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> env = pg.Env(
      ...     reset=lambda key, params: (jnp.zeros((2, 3)), ()),
      ...     step=lambda key, state, action, params: (jnp.ones((2, 3)), (), action, False, False, {}),
      ...     observation_space=lambda params: pg.Box(0.0, 1.0, (2, 3)),
      ...     action_space=lambda params: pg.Box(0.0, 10.0, ()),
      ... )
      >>> env = pg.flatten_observations(env)
      >>> env.observation_space(None).shape, env.reset(None, None)[0].shape
      ((6,), (6,))
    """

    def observation_space(params):
        space = env.observation_space(params)
        if isinstance(space, Discrete):
            return Box(0, space.n - 1, (1,))
        return Box(-np.inf, np.inf, (int(np.prod(space.shape)),))

    def observe(obs, params):
        leading, shape = obs.shape[:-1], env.observation_space(params).shape
        observed = env.observe(obs.reshape(leading + shape), params)
        return on_obs(lambda x: x.reshape((*leading, -1)), observed)

    flat = map_observations(env, lambda obs: obs.reshape(-1))
    return flat._replace(observation_space=observation_space, observe=observe)


@checked
def mask_actions(env: Env, mask_fn: Callable[[jax.Array, PyTree], jax.Array]) -> Env:
    """Forbid actions: policies then give them probability exactly 0.

    Where the mask does not follow from what is observed, put it into the observation, from where `mask_fn`
    takes it.

    Args:
      env: an environment with `Discrete(n)` actions.
      mask_fn: `(obs, params) -> [..., n]` boolean of the *raw* observations `[..., *shape]`, true where
        an action is allowed, at least one of them.

    Returns:
      The environment, whose `observe` gives a `Masked`.

    Raises:
      TypeError: `env` is no `Env`, or `mask_fn` no function.
      ValueError: by `observe`, where the actions are continuous or the mask is not one of n actions.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> env = pg.Env(
      ...     reset=lambda key, params: (jnp.zeros(3), ()),
      ...     step=lambda key, state, action, params: (jnp.zeros(3), (), action, False, False, {}),
      ...     observation_space=lambda params: pg.Box(0.0, 1.0, (3,)),
      ...     action_space=lambda params: pg.Discrete(3),
      ... )
      >>> env = pg.mask_actions(env, lambda obs, params: obs < 0.5)
      >>> env.observe(jnp.array([0.0, 1.0, 0.0]), None).mask.tolist()
      [True, False, True]
    """

    def observe(obs, params):
        space = env.action_space(params)
        mask = mask_fn(obs, params)
        if not isinstance(space, Discrete) or np.shape(mask)[-1:] != (space.n,):
            raise ValueError(
                f"A mask of shape {np.shape(mask)[-1:]} does not fit the actions {space}: it needs one boolean "
                "for each of the discrete actions."
            )
        return Masked(env.observe(obs, params), mask)

    return env._replace(observe=observe)


@checked
def clip_actions(env: Env) -> Env:
    """Clip continuous actions to the bounds of the action space. Stored actions stay unclipped.

    Args:
      env: an environment with actions in a `Box`.

    Returns:
      The environment, with the same action space.

    Raises:
      TypeError: `env` is no `Env`.
      ValueError: by `step` and `action_space`, where the actions are discrete.

    Example:
      >>> import purejaxpg as pg
      >>> env = pg.Env(
      ...     reset=lambda key, params: (0.0, ()),
      ...     step=lambda key, state, action, params: (0.0, (), action, False, False, {}),
      ...     observation_space=lambda params: pg.Box(0.0, 1.0, ()),
      ...     action_space=lambda params: pg.Box(0.0, 10.0, ()),
      ... )
      >>> float(pg.clip_actions(env).step(None, (), 12.5, None)[2])
      10.0
    """

    def transform(action, space):
        return jnp.clip(action, space.low, space.high)

    return _transform_actions(env, transform, lambda space: space, "clip_actions", finite=False)


@checked
def rescale_actions(env: Env) -> Env:
    """Let continuous actions in [-1, 1] span the bounds of the action space, affinely.

    Args:
      env: an environment with actions in a `Box` with finite bounds.

    Returns:
      The environment, with the actions `Box(-1.0, 1.0, shape)`. Actions beyond these are not clipped.

    Raises:
      TypeError: `env` is no `Env`.
      ValueError: by `step` and `action_space`, where the actions are discrete or their bounds infinite.

    Example:
      >>> import purejaxpg as pg
      >>> env = pg.Env(
      ...     reset=lambda key, params: (0.0, ()),
      ...     step=lambda key, state, action, params: (0.0, (), action, False, False, {}),
      ...     observation_space=lambda params: pg.Box(0.0, 1.0, ()),
      ...     action_space=lambda params: pg.Box(0.0, 10.0, ()),
      ... )
      >>> float(pg.rescale_actions(env).step(None, (), 0.5, None)[2])
      7.5
    """

    def transform(action, space):
        return space.low + (action + 1) / 2 * (space.high - space.low)

    return _transform_actions(
        env, transform, lambda space: Box(-1.0, 1.0, space.shape), "rescale_actions"
    )


@checked
def squash_actions(env: Env) -> Env:
    """Let unbounded continuous actions span the bounds of the action space through tanh.

    The policy stays Gaussian: ratios and KL are those of the squashed policy, the entropy is the Gaussian's.

    Args:
      env: an environment with actions in a `Box` with finite bounds.

    Returns:
      The environment, with the actions `Box(-inf, inf, shape)`.

    Raises:
      TypeError: `env` is no `Env`.
      ValueError: by `step` and `action_space`, where the actions are discrete or their bounds infinite.

    Example:
      >>> import purejaxpg as pg
      >>> env = pg.Env(
      ...     reset=lambda key, params: (0.0, ()),
      ...     step=lambda key, state, action, params: (0.0, (), action, False, False, {}),
      ...     observation_space=lambda params: pg.Box(0.0, 1.0, ()),
      ...     action_space=lambda params: pg.Box(0.0, 10.0, ()),
      ... )
      >>> env = pg.squash_actions(env)
      >>> [float(env.step(None, (), action, None)[2]) for action in (0.0, 100.0)]
      [5.0, 10.0]
    """

    def transform(action, space):
        return space.low + (jnp.tanh(action) + 1) / 2 * (space.high - space.low)

    return _transform_actions(
        env, transform, lambda space: Box(-np.inf, np.inf, space.shape), "squash_actions"
    )


def _transform_actions(
    env: Env, transform: Callable, transform_space: Callable, name: str, *, finite: bool = True
) -> Env:
    def bounded(params) -> Box:
        space = env.action_space(params)
        if isinstance(space, Discrete):
            raise ValueError(f"{name} needs continuous actions; this environment's are {space}.")
        if finite and not np.isfinite([*np.ravel(space.low), *np.ravel(space.high)]).all():
            raise ValueError(f"{name} needs finite bounds of the actions; they are {space}.")
        return space

    def step(key, state, action, params):
        return env.step(key, state, transform(action, bounded(params)), params)

    return env._replace(step=step, action_space=lambda params: transform_space(bounded(params)))
