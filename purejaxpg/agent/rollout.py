"""The only loops over an environment, and the only reset."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.arguments import (
    Count,
    EnvParams,
    Key,
    check_alike,
    check_pair,
    check_step,
    checked,
    same_structure,
)
from purejaxpg.types import Env, PyTree, Transition


class Loop(NamedTuple):
    """Where a batch of environments stands between two rollouts; `[num_envs, ...]` in every leaf.

    Attributes:
      env_state: of the environments.
      obs: raw observations to act on next.
      start: boolean, true where `obs` begins an episode.
      memory: of what acts.
    """

    env_state: PyTree
    obs: jax.Array
    start: jax.Array
    memory: PyTree


class Episodes(NamedTuple):
    """Whole episodes.

    Attributes:
      returns: `[num_episodes]`, undiscounted sums of rewards; NaN where the world did not stay finite.
      lengths: `[num_episodes]` int32, steps.
      completed: `[num_episodes]` boolean, false where `max_steps` ran out before the episode ended.
      finite: `[num_episodes]` boolean, false where a number of the state or the observation that had been
        finite at the start, or a reward, was NaN or infinite: a return from such a world is none.
    """

    returns: jax.Array
    lengths: jax.Array
    completed: jax.Array
    finite: jax.Array


@checked
def begin(key: Key, env: Env, env_params: EnvParams, memory: PyTree, *, num_envs: Count) -> Loop:
    """Reset environments: what makes the `loop` of `unroll`.

    Args:
      key: consumed.
      env: the environment.
      env_params: its parameters.
      memory: `[num_envs, ...]` of what will act, `()` for none.
      num_envs: environments in parallel.

    Returns:
      A `Loop` in which every environment begins an episode.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: `num_envs` is below 1, or `Env.reset` does not return two values.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> pg.begin(jax.random.key(0), env, env_params, (), num_envs=3).start.tolist()
      [True, True, True]
    """
    obs, env_state = _reset(jax.random.split(key, num_envs), env, env_params)
    return Loop(env_state, obs, jnp.ones(num_envs, bool), memory)


@checked
def unroll(
    key: Key, env: Env, env_params: EnvParams, act: Callable, loop: Loop, *, num_steps: Count
) -> tuple[Loop, Transition]:
    """Step every environment `num_steps` times, resetting each one when its episode ends.

    Args:
      key: consumed.
      env: the environment.
      env_params: its parameters.
      act: `(key, memory, obs [num_envs, ...], start [num_envs]) -> (action, memory)`.
      loop: where the last rollout stopped, or what `begin` gives.
      num_steps: steps of each environment.

    Returns:
      Where this rollout stopped, and its transitions `[num_steps, num_envs, ...]`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: `num_steps` is below 1, or `Env.step` or `act` does not return what it should.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> def push_right(key, memory, obs, start):
      ...     return jax.numpy.ones(len(obs), int), memory
      >>> loop = pg.begin(jax.random.key(0), env, env_params, (), num_envs=3)
      >>> loop, transitions = pg.unroll(jax.random.key(1), env, env_params, push_right, loop, num_steps=5)
      >>> transitions.reward.shape
      (5, 3)
    """
    num_envs = loop.start.shape[0]
    act_key, step_key, reset_key = jax.random.split(key, 3)
    # All keys are made ahead: inside the scan the same work costs a quarter of a rollout more.
    keys = (
        jax.random.split(act_key, num_steps),
        jax.random.split(step_key, (num_steps, num_envs)),
        jax.random.split(reset_key, (num_steps, num_envs)),
    )

    def one_step(loop: Loop, keys) -> tuple[Loop, Transition]:
        act_key, step_keys, reset_keys = keys
        action, memory = _act(act, act_key, loop)
        next_obs, next_state, reward, terminated, truncated, info = _step(
            step_keys, env, loop.env_state, action, env_params
        )
        done = terminated | truncated
        fresh = _reset(reset_keys, env, env_params)
        _check_continues((next_obs, next_state), fresh)
        obs, env_state = jax.tree.map(
            lambda new, old: jnp.where(_align(done, new), new, old), fresh, (next_obs, next_state)
        )
        transition = Transition(
            loop.obs, action, reward, terminated, truncated, next_obs, loop.start, info
        )
        return Loop(env_state, obs, done, memory), transition

    return jax.lax.scan(one_step, loop, keys, length=num_steps)


def first_episodes(
    key: jax.Array,
    env: Env,
    env_params: PyTree,
    act: Callable,
    memory: PyTree,
    *,
    num_episodes: int,
    max_steps: int | None,
) -> Episodes:
    """Play the first episode of each of `num_episodes` environments, without any reset after it.

    The first episode of each, not the first ones to finish: those would favour short episodes.

    Args:
      key: consumed.
      env: the environment.
      env_params: its parameters.
      act: as in `unroll`.
      memory: `[num_episodes, ...]` of what acts.
      num_episodes: environments in parallel, one episode each.
      max_steps: stop after so many steps, or never (None), even if some episodes still go on.

    Returns:
      The episodes.
    """
    reset_key, loop_key = jax.random.split(key)
    loop = begin(reset_key, env, env_params, memory, num_envs=num_episodes)
    none = jnp.zeros(num_episodes, bool)
    episodes = Episodes(jnp.zeros(num_episodes), jnp.zeros(num_episodes, jnp.int32), none, ~none)
    finite_at_start = [jnp.isfinite(x) for x in _reals((loop.obs, loop.env_state))]

    def running(carry):
        step, _, episodes = carry
        going_on = jnp.any(~episodes.completed & episodes.finite)
        return going_on if max_steps is None else going_on & (step < max_steps)

    def one_step(carry):
        step, loop, episodes = carry
        act_key, step_key = jax.random.split(jax.random.fold_in(loop_key, step))
        action, memory = _act(act, act_key, loop)
        obs, env_state, reward, terminated, truncated, _ = _step(
            jax.random.split(step_key, num_episodes), env, loop.env_state, action, env_params
        )
        counted = ~episodes.completed
        stayed = [
            (~before | jnp.isfinite(x)).reshape(num_episodes, -1).all(axis=1)
            for before, x in zip(finite_at_start, _reals((obs, env_state)))
        ]
        finite = jnp.stack([*stayed, jnp.isfinite(reward)]).all(axis=0)
        episodes = Episodes(
            episodes.returns + jnp.where(counted, reward, 0.0),
            episodes.lengths + counted,
            episodes.completed | terminated | truncated,
            episodes.finite & (finite | ~counted),
        )
        return step + 1, Loop(env_state, obs, jnp.zeros_like(loop.start), memory), episodes

    episodes = jax.lax.while_loop(running, one_step, (jnp.zeros((), jnp.int32), loop, episodes))[2]
    return episodes._replace(returns=jnp.where(episodes.finite, episodes.returns, jnp.nan))


def first_steps(start: jax.Array) -> jax.Array:
    """For every step of a rollout the row in which its episode began; 0 if that was before the rollout.

    Args:
      start: `[T, B]`, true where an episode begins.

    Returns:
      `[T, B]` int32.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.agent.rollout import first_steps
      >>> first_steps(jnp.array([[False], [True], [False]])).tolist()
      [[0], [1], [1]]
    """
    row = jnp.arange(start.shape[0], dtype=jnp.int32)[:, None]
    return jax.lax.cummax(jnp.where(start, row, 0), axis=0)


def _act(act: Callable, key: jax.Array, loop: Loop) -> tuple[jax.Array, PyTree]:
    acted = act(key, loop.memory, loop.obs, loop.start)
    action, memory = check_pair("act", acted, "action", "memory")
    check_alike(**{"the memory that act is given": loop.memory, "that which it returns": memory})
    for shape in map(jnp.shape, jax.tree.leaves(action)):
        if shape[:1] != loop.start.shape:
            raise ValueError(
                f"act must return one action for each of the {loop.start.size} environments, not an array "
                f"of shape {shape}."
            )
    return action, memory


def _reset(keys: jax.Array, env: Env, env_params: PyTree):
    def reset(key, params):
        try:
            result = env.reset(key, params)
        except AttributeError as error:
            if params is not None:
                raise
            raise TypeError(
                "env_params must be the parameters of this environment, not None: make gives both, "
                "env, env_params = make(env_id)."
            ) from error
        return check_pair("Env.reset", result, "obs", "state")

    return jax.vmap(reset, in_axes=(0, None))(keys, env_params)


def _step(keys: jax.Array, env: Env, env_state: PyTree, action: jax.Array, env_params: PyTree):
    def step(key, state, action, params):
        return check_step(env.step(key, state, action, params))

    stepped = jax.vmap(step, in_axes=(0, 0, 0, None))(keys, env_state, action, env_params)
    _, _, reward, terminated, truncated, _ = stepped
    flags = (("terminated", terminated, jnp.bool), ("truncated", truncated, jnp.bool))
    for name, x, kind in (("reward", reward, jnp.floating), *flags):
        if jnp.shape(x) != keys.shape or not jnp.issubdtype(jnp.result_type(x), kind):
            raise ValueError(
                f"{name} of Env.step must be one {'real number' if name == 'reward' else 'boolean'} for each "
                f"environment, not {jnp.result_type(x)} of shape {jnp.shape(x)[1:]}."
            )
    return stepped


def _check_continues(stepped: PyTree, fresh: PyTree) -> None:
    """Refuse what the next step could not be given: JAX's own error of a loop is a page long."""
    for what, new, old in zip(("observation", "state"), stepped, fresh):
        same = same_structure(new, old)
        pairs = zip(jax.tree.leaves(new), jax.tree.leaves(old)) if same else ()
        for x, y in pairs:
            if x.shape != y.shape or jnp.result_type(x, y) != y.dtype:
                raise ValueError(
                    f"The {what} of Env.step must be like that of Env.reset, {y.dtype} of shape {y.shape[1:]}, "
                    f"not {x.dtype} of shape {x.shape[1:]}."
                )
        if not same:
            raise ValueError(
                f"The {what} of Env.step must have the structure that it has in Env.reset, "
                "the same containers with as many arrays."
            )


def _align(mask: jax.Array, x: jax.Array) -> jax.Array:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))


def _reals(tree: PyTree) -> list[jax.Array]:
    """The leaves that are real numbers."""
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
