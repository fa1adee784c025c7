"""Craftax and Craftax-Classic (Matthews et al. 2024, arXiv:2402.16801): open worlds. Extra `craftax`."""

from typing import Any

import jax
import jax.numpy as jnp

from purejaxpg.environments.adapters.common import check_name, typed_like
from purejaxpg.environments.parameters import override
from purejaxpg.environments.wrappers import episode_statistics
from purejaxpg.types import Box, Discrete, Env, PyTree, strong

NAMES = tuple(
    f"Craftax-{name}-v1" for name in ("Symbolic", "Pixels", "Classic-Symbolic", "Classic-Pixels")
)
_NEVER = 2**31 - 1


def make_craftax(env_id: str, **params: Any) -> tuple[Env, PyTree]:
    """An environment of Craftax, without auto-reset, and its own parameters.

    Craftax ends an episode by death or success, which terminate, and after `max_timesteps`, which truncates.
    Where an episode ends, `info` has a number per achievement, 100 or 0. Every step of a rollout also makes
    a new world, nearly all of which are thrown away, and that takes most of its time.

    Args:
      env_id: one of `NAMES`.
      **params: fields of its parameters to override, e.g. `max_timesteps=500`.

    Returns:
      The environment and Craftax's parameters.

    Raises:
      ValueError: there is no such environment or parameter.
      ModuleNotFoundError: Craftax is not installed.

    Example:
      >>> from purejaxpg.environments.adapters.craftax import make_craftax
      >>> env, env_params = make_craftax("Craftax-Classic-Symbolic-v1", max_timesteps=500)
      >>> int(env_params.max_timesteps), env.action_space(env_params).n
      (500, 17)
    """
    from craftax.craftax_env import make_craftax_env_from_name

    check_name(env_id, NAMES, "Craftax")
    game = make_craftax_env_from_name(env_id, auto_reset=False)
    env_params = override(game.default_params, params, owner=env_id)
    space = game.observation_space(env_params)
    observations = Box(space.low, space.high, space.shape)

    def reset(key, params):
        obs, state = game.reset_env(jax.random.key_data(key), params)
        return strong(obs), jax.tree.map(strong, state)

    def step(key, state, action, params):
        obs, new, reward, _, info = game.step_env(jax.random.key_data(key), state, action, params)
        new = typed_like(new, state)
        terminated = game.is_terminal(new, params.replace(max_timesteps=_NEVER))
        truncated = new.timestep >= params.max_timesteps
        info = {name: value for name, value in info.items() if name != "discount"}
        return obs, new, jnp.asarray(reward, jnp.float32), terminated, truncated, info

    env = Env(reset, step, lambda params: observations, lambda params: Discrete(game.num_actions))
    return episode_statistics(env), env_params
