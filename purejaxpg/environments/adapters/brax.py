"""Brax (Freeman et al. 2021, arXiv:2106.13281): rigid-body physics. Extra `brax`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.environments.adapters.common import TimeLimit, check_name, time_limit, typed_like
from purejaxpg.environments.wrappers import clip_actions, episode_statistics
from purejaxpg.types import Box, Env, Scalar, strong


def make_brax(
    env_id: str, *, max_steps_in_episode: Scalar = 1000, **env_kwargs: Any
) -> tuple[Env, TimeLimit]:
    """An environment of Brax, without any of its wrappers, and its parameters.

    What Brax calls `done` terminates; the time limit, which Brax leaves to a wrapper, truncates. Actions are
    clipped to [-1, 1], `info` has Brax's metrics, episode statistics are counted.

    Args:
      env_id: `"ant"`, `"hopper"`, `"inverted_pendulum"`, ...
      max_steps_in_episode: time limit in steps, may be traced; 1000 is that of Brax's own programs.
      **env_kwargs: arguments of the environment's constructor, `backend="spring"` for example.

    Returns:
      The environment and a `TimeLimit`.

    Raises:
      ValueError: there is no such environment.
      ModuleNotFoundError: Brax is not installed.
      TypeError: its constructor takes no such argument, or its observations are not one array.

    Example:
      >>> from purejaxpg.environments.adapters.brax import make_brax
      >>> env, env_params = make_brax("fast")
      >>> env_params.max_steps_in_episode, env.action_space(env_params).shape
      (1000, (1,))
    """
    from brax import envs

    check_name(env_id, envs._envs, "Brax")
    brax_env = envs.get_environment(env_id, **env_kwargs)
    start = jax.eval_shape(brax_env.reset, jax.random.PRNGKey(0))
    if not hasattr(start.obs, "shape"):
        raise TypeError(f"{env_id} has observations that are not one array; Env needs one.")

    def reset(key, params):
        state = jax.tree.map(strong, brax_env.reset(jax.random.key_data(key)))
        return state.obs, state

    def step(key, state, action, params):
        # A copy: Brax changes the dicts inside of a state in place.
        new = typed_like(brax_env.step(jax.tree.map(lambda x: x, state), action), state)
        reward = new.reward.astype(jnp.float32)
        return new.obs, new, reward, new.done.astype(bool), jnp.array(False), dict(new.metrics)

    observations = Box(-np.inf, np.inf, start.obs.shape)
    actions = Box(-1.0, 1.0, (brax_env.action_size,))
    env = Env(reset, step, lambda params: observations, lambda params: actions)
    return clip_actions(episode_statistics(time_limit(env))), TimeLimit(max_steps_in_episode)
