"""Jumanji (Bonnet et al. 2023, arXiv:2306.09884): combinatorial problems and games. Extra `jumanji`."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.environments.adapters import common
from purejaxpg.environments.wrappers import episode_statistics
from purejaxpg.types import Box, Discrete, Env, Scalar, strong

_NEVER = 2**31 - 1
_NOT_SEEN = ("action_mask", "step_count")


def make_jumanji(
    env_id: str, *, max_steps_in_episode: Scalar | None = None, **env_kwargs: Any
) -> tuple[Env, common.TimeLimit]:
    """An environment of Jumanji with one agent, and its parameters.

    Jumanji reports a time limit as the end of the task. Here it truncates instead: the environment is built
    with a limit that is never reached, and what it ends by itself terminates. Networks are given what Jumanji
    observes except the count of steps: one array as it is, several ones (and scalars) joined to a vector;
    always float32. Several discrete actions at a time become one, actions that are not allowed get a mask.

    Args:
      env_id: `"Snake-v1"`, `"Game2048-v1"`, ...
      max_steps_in_episode: time limit in steps, may be traced. If None, it is Jumanji's own, and infinite
        where Jumanji has none.
      **env_kwargs: arguments of the environment's constructor, e.g. `num_rows=6`.

    Returns:
      The environment and a `TimeLimit`.

    Raises:
      ValueError: there is no such environment.
      ModuleNotFoundError: Jumanji is not installed.
      TypeError: its constructor takes no such argument, or it has several agents or continuous actions.

    Example:
      >>> from purejaxpg.environments.adapters.jumanji import make_jumanji
      >>> env, env_params = make_jumanji("Snake-v1", max_steps_in_episode=100)
      >>> env_params.max_steps_in_episode, env.action_space(env_params).n
      (100, 4)
    """
    import jumanji
    from jumanji import specs

    common.check_name(env_id, jumanji.registered_environments(), "Jumanji")
    game = jumanji.make(env_id, **env_kwargs)
    spec = game.action_spec
    start = jax.eval_shape(game.reset, jax.random.PRNGKey(0))[1]
    counts = np.atleast_1d(np.asarray(getattr(spec, "num_values", 0)))
    mask = getattr(start.observation, "action_mask", None)
    several_agents = start.reward.shape or (mask is not None and mask.shape != tuple(counts))
    if not isinstance(spec, specs.DiscreteArray | specs.MultiDiscreteArray) or several_agents:
        raise TypeError(f"{env_id} has several agents or continuous actions; supported is neither.")
    limit = getattr(game, "time_limit", None)
    if limit is not None:
        game = jumanji.make(env_id, **{**env_kwargs, "time_limit": _NEVER})
    if max_steps_in_episode is None:
        max_steps_in_episode = math.inf if limit is None else limit

    def arrays_of(observation):
        fields = observation._asdict().items()
        return jax.tree.leaves({name: x for name, x in fields if name not in _NOT_SEEN})

    arrays = arrays_of(start.observation)
    shape = arrays[0].shape if len(arrays) == 1 else (sum(math.prod(x.shape) for x in arrays),)

    def join(observation):
        obs = jnp.concatenate([x.ravel().astype(jnp.float32) for x in arrays_of(observation)])
        if mask is None:
            return obs.reshape(shape)
        return common.join_mask(obs, observation.action_mask)

    def reset(key, params):
        state, timestep = game.reset(jax.random.key_data(key))
        return join(timestep.observation), jax.tree.map(strong, state)

    def step(key, state, action, params):
        if isinstance(spec, specs.MultiDiscreteArray):
            action = jnp.stack(jnp.unravel_index(action, tuple(counts)))
        new, timestep = game.step(state, action.astype(spec.dtype))
        new, obs = common.typed_like(new, state), join(timestep.observation)
        reward, last = timestep.reward.astype(jnp.float32), timestep.last()
        cut = timestep.discount > 0
        return obs, new, reward, last & ~cut, last & cut, {}

    observations = Box(-np.inf, np.inf, jax.eval_shape(join, start.observation).shape)
    actions = Discrete(int(np.prod(counts)))
    env = Env(reset, step, lambda params: observations, lambda params: actions)
    env = env if mask is None else common.split_masks(env, shape)
    return episode_statistics(common.time_limit(env)), common.TimeLimit(max_steps_in_episode)
