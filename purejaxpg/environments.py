"""Environments of gymnax as `Env`s, and wrappers as functions `Env -> Env`. The only file that imports gymnax.

No environment here resets itself; `rollout.unroll` does. gymnax is imported when an environment is
made, not with this file.
"""

import dataclasses
import difflib
import inspect
import urllib.error
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.types import Box, Discrete, Env, Masked, PyTree, Space, on_obs


def make(
    env_id: str, *, env_kwargs: dict[str, Any] | None = None, **params: Any
) -> tuple[Env, PyTree]:
    """Build a registered gymnax environment, ready to train on, and its parameters.

    The result counts episode statistics, clips continuous actions to their bounds, gives float32 rewards
    and, for MinAtar, boolean observations (which `observe` makes float32).

    Args:
      env_id: an id of gymnax, or one given to `gymnax.register`.
      env_kwargs: arguments of the environment's constructor, e.g. `{"size": 10}` for DeepSea-bsuite.
      **params: fields of its parameters to override, e.g. `max_steps_in_episode=200`; Python numbers
        or arrays, traced ones too. CartPole's `total_mass` and `polemass_length` follow from `masscart`,
        `masspole` and `length` unless given.

    Raises:
      ValueError: unknown id, constructor argument or parameter; the message names near matches.
      ConnectionError: the environment downloads data (MNISTBandit-bsuite) and cannot.
    """
    from gymnax import registration

    env_kwargs = env_kwargs or {}
    if env_id not in registration._registry:
        raise ValueError(
            f"Unknown environment {env_id!r}{near(env_id, registration.registered_envs)}; "
            f"registered are {', '.join(registration.registered_envs)}."
        )
    signature = inspect.signature(registration._registry[env_id])
    try:
        signature.bind(**env_kwargs)
    except TypeError as error:
        raise ValueError(f"env_kwargs of {env_id}: {error}; it takes {signature}.") from None
    try:
        gymnax_env, env_params = registration.make(env_id, **env_kwargs)
    except urllib.error.URLError as error:
        raise ConnectionError(
            f"{env_id} downloads its data when it is built, and the download failed ({error.reason}); "
            "it needs a network connection."
        ) from None
    env_params = override(env_id, env_params, params)
    env = from_gymnax(gymnax_env)
    if type(gymnax_env).__module__.startswith("gymnax.environments.minatar."):
        env = boolean_observations(env)
    return env, env_params


def from_gymnax(gymnax_env: Any) -> Env:
    """A gymnax environment (one's own, for example) as an `Env`.

    Its `reset_env`, `step_env` and `is_truncated` are used; rewards become float32, observations what
    the environment really gives, its state loses weak types. Episode statistics are counted and
    continuous actions clipped. `observe` casts to float32, or one-hot encodes a Discrete observation.

    Raises:
      TypeError: a gymnax wrapper, an environment with its own `step`, or a space that is not supported.
    """
    from gymnax.environments import spaces
    from gymnax.environments.environment import Environment

    name = type(gymnax_env).__name__
    if not isinstance(gymnax_env, Environment):
        raise TypeError(
            f"{name} is no gymnax Environment (a wrapper, perhaps, whose step_env would bypass it); "
            "pass the bare environment and use the wrappers of purejaxpg.environments."
        )
    own_step = type(gymnax_env).step is not Environment.step
    if own_step and not type(gymnax_env).__module__.startswith("gymnax.environments."):
        raise TypeError(
            f"{name} overrides `step`, which is not used here (auto-reset is the rollout's affair); "
            "put the dynamics into step_env and time limits into is_truncated."
        )

    def convert(space: Any, role: str, shape: tuple[int, ...]) -> Space:
        if isinstance(space, spaces.Discrete):
            return Discrete(int(space.n))
        if isinstance(space, spaces.Box):
            return Box(space.low, space.high, shape)
        raise TypeError(
            f"{name} has a {type(space).__name__} {role} space; supported are Discrete and Box."
        )

    default = gymnax_env.default_params
    action_space = gymnax_env.action_space(default)
    # Refuse unsupported spaces now, and take the shape of observations from the observations: spaces lie.
    convert(action_space, "action", action_space.shape if hasattr(action_space, "shape") else ())
    convert(gymnax_env.observation_space(default), "observation", ())
    reset_obs = jax.eval_shape(gymnax_env.reset_env, jax.random.key(0), default)[0]
    if not hasattr(reset_obs, "shape"):
        raise TypeError(
            f"{name} has observations that are not one array; supported are single arrays."
        )

    def reset(key, params):
        obs, state = gymnax_env.reset_env(key, params)
        return strong(obs), jax.tree.map(strong, state)

    def step(key, state, action, params):
        obs, new_state, reward, terminated, info = gymnax_env.step_env(key, state, action, params)
        truncated = gymnax_env.is_truncated(new_state, params)
        new_state = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), new_state, state)
        info = {name: value for name, value in info.items() if name != "discount"}
        return (
            jnp.asarray(obs, reset_obs.dtype),
            new_state,
            jnp.asarray(reward, jnp.float32),
            jnp.asarray(terminated, bool),
            jnp.asarray(truncated, bool),
            info,
        )

    def observation_space(params):
        space = gymnax_env.observation_space(default if params is None else params)
        return convert(space, "observation", reset_obs.shape)

    def convert_action_space(params):
        space = gymnax_env.action_space(default if params is None else params)
        return convert(space, "action", space.shape)

    def observe(obs, params):
        space = observation_space(None)
        if isinstance(space, Discrete):
            return jax.nn.one_hot(obs, space.n, dtype=jnp.float32)
        return obs.astype(jnp.float32)

    env = episode_statistics(Env(reset, step, observation_space, convert_action_space, observe))
    return clip_actions(env) if isinstance(convert_action_space(None), Box) else env


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


def override(env_id: str, env_params: PyTree, overrides: dict[str, Any]) -> PyTree:
    """Parameters (a dataclass) with other values of some. ValueError for unknown names and for no numbers."""
    names = [field.name for field in dataclasses.fields(env_params)]
    for name, value in overrides.items():
        if name not in names:
            raise ValueError(
                f"{env_id} has no parameter {name!r}{near(name, names)}; it has {', '.join(names)}."
            )
        if not isinstance(value, (bool, int, float, np.ndarray, np.generic, jax.Array)):
            raise ValueError(
                f"Parameter {name} of {env_id} must be a number or an array: {value!r}."
            )
    env_params = env_params.replace(**overrides)
    if {"masscart", "masspole", "length"} & set(overrides) and "polemass_length" in names:
        # gymnax stores what follows from these three; left alone they would be wrong physics.
        derived = {
            "total_mass": env_params.masscart + env_params.masspole,
            "polemass_length": env_params.masspole * env_params.length,
        }
        env_params = env_params.replace(
            **{name: value for name, value in derived.items() if name not in overrides}
        )
    return env_params


def near(name: str, names: Iterable[str]) -> str:
    """` (did you mean x, y?)`, or nothing where no name is like this one."""
    lower = {known.lower(): known for known in names}
    matches = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    return f" (did you mean {', '.join(lower[match] for match in matches)}?)" if matches else ""


def strong(x: Any) -> jax.Array:
    """An array of x's own dtype that is not weakly typed."""
    return jax.lax.convert_element_type(jnp.asarray(x), jnp.asarray(x).dtype)
