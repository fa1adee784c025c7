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
    """Parameters of an environment under `time_limit`.

    Attributes:
      max_steps_in_episode: the number of the step that truncates an episode, counted from 1; may be traced
        and may be infinite.
    """

    max_steps_in_episode: Scalar


class Timed(NamedTuple):
    """State of an environment under `time_limit`.

    Attributes:
      env_state: the state of the environment itself.
      steps: number of steps since the episode began, an int32 scalar.
    """

    env_state: PyTree
    steps: jax.Array


def time_limit(env: Env) -> Env:
    """Truncate an episode at its step number `params.max_steps_in_episode`.

    Args:
      env: an environment that needs no parameters of its own.

    Returns:
      The environment, whose parameters are a `TimeLimit`.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.environments.adapters.common import TimeLimit, time_limit
      >>> env = pg.Env(
      ...     reset=lambda key, params: (0.0, ()),
      ...     step=lambda key, state, action, params: (0.0, (), 1.0, False, jnp.array(False), {}),
      ...     observation_space=lambda params: pg.Box(0.0, 1.0, ()),
      ...     action_space=lambda params: pg.Discrete(2),
      ... )
      >>> env, params = time_limit(env), TimeLimit(max_steps_in_episode=1)
      >>> _, state = env.reset(None, params)
      >>> bool(env.step(None, state, 0, params)[4])
      True
    """

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
    """Join an observation and the mask of the actions that are allowed after it into one vector.

    Where nothing is allowed any more, as at the end of many a game, everything is: a policy needs an action.

    Args:
      obs: `[*shape]`, of a dtype that holds 0 and 1.
      mask: `[*actions]` boolean, true where an action is allowed.

    Returns:
      `[prod(shape) + prod(actions)]`, of the dtype of `obs`.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.environments.adapters.common import join_mask
      >>> join_mask(jnp.array([[5.0], [6.0]]), jnp.array([True, False])).tolist()
      [5.0, 6.0, 1.0, 0.0]
    """
    mask = mask.ravel() | ~mask.any()
    return jnp.concatenate([obs.ravel(), mask.astype(obs.dtype)])


def split_masks(env: Env, shape: tuple[int, ...]) -> Env:
    """Split what `join_mask` joined, for networks: a float32 observation, and the mask beside it.

    Args:
      env: an environment whose raw observations are results of `join_mask`.
      shape: the shape of an observation without its mask.

    Returns:
      The environment, whose `observe` gives a `Masked`.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.environments.adapters.common import split_masks
      >>> env = pg.Env(
      ...     reset=lambda key, params: (jnp.array([5.0, 6.0, 1.0, 0.0]), ()),
      ...     step=lambda key, state, action, params: (jnp.zeros(4), (), 1.0, False, False, {}),
      ...     observation_space=lambda params: pg.Box(0.0, 9.0, (4,)),
      ...     action_space=lambda params: pg.Discrete(2),
      ... )
      >>> env = split_masks(env, (2, 1))
      >>> [x.tolist() for x in env.observe(env.reset(None, None)[0], None)]
      [[[5.0], [6.0]], [True, False]]
    """
    size = int(np.prod(shape))

    def observe(obs, params):
        return obs[..., :size].reshape((*obs.shape[:-1], *shape)).astype(jnp.float32)

    return mask_actions(
        env._replace(observe=observe), lambda obs, params: obs[..., size:].astype(bool)
    )


def check_name(name: str, known: Iterable[str], library: str) -> None:
    """Check that a library has an environment of a name.

    Args:
      name: the name.
      known: all names that the library has.
      library: how the library is called in the message.

    Raises:
      ValueError: it has none of this name; the message, one sentence, names near matches.

    Example:
      >>> from purejaxpg.environments.adapters.common import check_name
      >>> check_name("ant", ["ant", "hopper"], "Brax")
    """
    known = sorted(known)
    if name not in known:
        raise ValueError(
            f"{library} has no environment {name!r}{near(name, known)}; it has {', '.join(known)}."
        )


def typed_like(new: PyTree, old: PyTree) -> PyTree:
    """Give arrays the dtypes of others, none of them weak, so that a scan can carry them.

    Args:
      new: a pytree of arrays or numbers.
      old: a pytree of arrays of the same structure.

    Returns:
      `new` with the dtypes of `old`.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.environments.adapters.common import typed_like
      >>> str(typed_like(1, jnp.zeros((), jnp.int8)).dtype)
      'int8'
    """
    return jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), new, old)
