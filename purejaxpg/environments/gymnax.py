"""Environments of gymnax as `Env`s, and wrappers as functions `Env -> Env`. The only file that imports gymnax.

No environment here resets itself; `rollout.unroll` does. gymnax is imported when an environment is
made, not with this file.
"""

import inspect
import urllib.error
from typing import Any

import jax
import jax.numpy as jnp

from purejaxpg.arguments import check, near
from purejaxpg.environments.parameters import override
from purejaxpg.environments.wrappers import boolean_observations, clip_actions, episode_statistics
from purejaxpg.types import Box, Discrete, Env, PyTree, Space, strong


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

    Returns:
      `(env, env_params)`.

    Raises:
      ValueError: unknown id, constructor argument or parameter; the message names near matches.
      TypeError: the id is no string, or `env_kwargs` no dict.
      ConnectionError: the environment downloads data (MNISTBandit-bsuite) and cannot.

    Example:
      >>> import purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1", length=0.7)
      >>> env.action_space(env_params), round(env_params.polemass_length, 3)
      (Discrete(n=2), 0.07)
    """
    from gymnax import registration

    if not isinstance(env_id, str):
        raise TypeError(
            f"env_id must be a string, not a {type(env_id).__name__}; from_gymnax takes an environment."
        )
    check("env_kwargs", env_kwargs, dict[str, Any] | None)
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
    env_params = override(env_params, params, owner=env_id)
    env = from_gymnax(gymnax_env)
    if type(gymnax_env).__module__.startswith("gymnax.environments.minatar."):
        env = boolean_observations(env)
    return env, env_params


def from_gymnax(gymnax_env: Any) -> Env:
    """A gymnax environment (one's own, for example) as an `Env`.

    Its `reset_env`, `step_env` and `is_truncated` are used; rewards become float32, observations what
    the environment really gives, its state loses weak types. Episode statistics are counted and
    continuous actions clipped. `observe` casts to float32, or one-hot encodes a Discrete observation.

    Args:
      gymnax_env: an instance of `gymnax.environments.environment.Environment`.

    Returns:
      An `Env`, whose parameters are those of `gymnax_env.default_params`.

    Raises:
      TypeError: a gymnax wrapper, an environment with its own `step`, or a space that is not supported.

    Example:
      >>> import gymnax, purejaxpg as pg
      >>> gymnax_env, env_params = gymnax.make("Pendulum-v1")
      >>> pg.from_gymnax(gymnax_env).action_space(env_params).shape
      (1,)
    """
    from gymnax.environments import spaces
    from gymnax.environments.environment import Environment

    name = type(gymnax_env).__name__
    if not isinstance(gymnax_env, Environment):
        raise TypeError(
            f"{name} is no gymnax Environment (a wrapper, perhaps, whose step_env would bypass it); "
            "pass the bare environment and use the wrappers of purejaxpg.environments.wrappers."
        )
    own_step = type(gymnax_env).step is not Environment.step
    if own_step and not type(gymnax_env).__module__.startswith("gymnax.environments."):
        raise TypeError(
            f"{name} overrides `step`, which is not used here (auto-reset is the rollout's affair); "
            "put the dynamics into step_env and time limits into is_truncated."
        )

    def convert(space: Any, role: str) -> Space:
        if isinstance(space, spaces.Discrete):
            return Discrete(int(space.n))
        if isinstance(space, spaces.Box):
            return Box(space.low, space.high, space.shape)
        raise TypeError(
            f"{name} has a {type(space).__name__} {role} space; supported are Discrete and Box."
        )

    default = gymnax_env.default_params
    # Unsupported spaces are refused at once, not when they are first asked for.
    default_action_space = convert(gymnax_env.action_space(default), "action")
    default_space = convert(gymnax_env.observation_space(default), "observation")
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
        obs, reward = jnp.asarray(obs, reset_obs.dtype), jnp.asarray(reward, jnp.float32)
        terminated, truncated = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
        info = {name: value for name, value in info.items() if name != "discount"}
        return obs, new_state, reward, terminated, truncated, info

    def observation_space(params):
        space = gymnax_env.observation_space(default if params is None else params)
        space = convert(space, "observation")
        # The shape is that of the observations: spaces lie.
        return space._replace(shape=reset_obs.shape) if isinstance(space, Box) else space

    def action_space(params):
        return convert(gymnax_env.action_space(default if params is None else params), "action")

    def observe(obs, params):
        if isinstance(default_space, Discrete):
            return jax.nn.one_hot(obs, default_space.n, dtype=jnp.float32)
        return obs.astype(jnp.float32)

    env = episode_statistics(Env(reset, step, observation_space, action_space, observe))
    return clip_actions(env) if isinstance(default_action_space, Box) else env
