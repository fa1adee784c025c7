"""Training as one scan over updates, and evaluation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from purejaxpg.arguments import Count, EnvParams, Key, Steps, checked, described, same_structure
from purejaxpg.leaves import leaf_paths
from purejaxpg.types import Algorithm, PyTree


@checked
def begin_training(key: Key, algorithm: Algorithm, env_params: EnvParams) -> PyTree:
    """The state in which the run with this key begins: where `train` starts if it is given none.

    Args:
      key: of the whole run.
      algorithm: to be trained.
      env_params: parameters of its environment.

    Returns:
      The state before the first update.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> algorithm = pg.ppo(env, policy, pg.value_network(), pg.adam())
      >>> int(pg.begin_training(jax.random.key(0), algorithm, env_params).update)
      0
    """
    return algorithm.init(jax.random.split(key)[0], env_params)


@checked
def train(
    key: Key,
    algorithm: Algorithm,
    env_params: EnvParams,
    *,
    num_updates: Steps,
    state: PyTree = None,
) -> tuple[PyTree, dict[str, jax.Array]]:
    """Run an algorithm for `num_updates` updates.

    Update i, counted by the state, uses a key made from `key` and i alone: training on from a returned
    state with the same key gives what one longer run would have given.

    Args:
      key: of the whole run; the same key when training goes on.
      algorithm: to be trained.
      env_params: parameters of its environment.
      num_updates: calls of `algorithm.step`.
      state: where to go on; a fresh one, drawn from `key`, if None.

    Returns:
      The state after the last update, and the metrics `[num_updates]` of each.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a negative number of updates, or a state of another algorithm, of other networks or of
        another number of environments.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> algorithm = pg.ppo(env, policy, pg.value_network(), pg.adam())
      >>> def run(key):
      ...     return pg.train(key, algorithm, env_params, num_updates=100)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # jax.jit(run)(key) computes it
      >>> metrics["entropy"].shape
      (100,)
    """
    if state is None:
        state = begin_training(key, algorithm, env_params)
    else:
        _check_state(state, algorithm, env_params)
    return _train(key, algorithm, env_params, state, num_updates)


def _train(
    key: jax.Array, algorithm: Algorithm, env_params: PyTree, state: PyTree, num_updates: int
) -> tuple[PyTree, dict[str, jax.Array]]:
    run_key = jax.random.split(key)[1]

    def update(state, _):
        step_key = jax.random.fold_in(run_key, state.update)
        state, _, metrics = algorithm.step(step_key, state, env_params)
        return state, metrics

    return jax.lax.scan(update, state, length=num_updates)


@checked
def train_and_evaluate(
    key: Key,
    algorithm: Algorithm,
    env_params: EnvParams,
    *,
    num_updates: Steps,
    evaluate_every: Count,
    evaluate_fn: Callable[[jax.Array, PyTree], PyTree],
    state: PyTree = None,
) -> tuple[PyTree, tuple[dict[str, jax.Array], PyTree]]:
    """Train, and evaluate after every `evaluate_every` updates, inside one program.

    Args:
      key: of the whole run.
      algorithm: to be trained.
      env_params: parameters of its environment.
      num_updates: calls of `algorithm.step`.
      evaluate_every: updates between evaluations; must divide `num_updates`.
      evaluate_fn: `(key, state) -> anything`, e.g. `lambda key, state: evaluate(key, algorithm, ...)`.
        Its keys come from a stream of their own, so that training is the same without it.
      state: where to go on; a fresh one, drawn from `key`, if None.

    Returns:
      The last state, and metrics `[num_updates]` beside evaluations `[num_updates // evaluate_every]`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: `evaluate_every` does not divide `num_updates`, or the state is not one of this algorithm.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> algorithm = pg.ppo(env, policy, pg.value_network(), pg.adam())
      >>> def test(key, state):
      ...     return pg.evaluate(key, algorithm, state, env, env_params, num_episodes=8).returns.mean()
      >>> def run(key):
      ...     return pg.train_and_evaluate(
      ...         key, algorithm, env_params, num_updates=100, evaluate_every=10, evaluate_fn=test)
      >>> _, (_, returns) = jax.eval_shape(run, jax.random.key(0))
      >>> returns.shape
      (10,)
    """
    if num_updates % evaluate_every:
        raise ValueError(f"{evaluate_every=} must divide {num_updates=} evenly.")
    if state is None:
        state = begin_training(key, algorithm, env_params)
    else:
        _check_state(state, algorithm, env_params)

    def period(state, _):
        state, metrics = _train(key, algorithm, env_params, state, evaluate_every)
        evaluation = evaluate_fn(evaluation_key(key, state.update), state)
        return state, (metrics, evaluation)

    num_periods = num_updates // evaluate_every
    state, (metrics, evaluations) = jax.lax.scan(period, state, length=num_periods)
    return state, (jax.tree.map(lambda x: x.reshape(num_updates), metrics), evaluations)


def evaluation_key(key: jax.Array, update: jax.Array) -> jax.Array:
    """A key for the evaluation after so many updates of the run with this key, unused by training."""
    # The third of three keys is none of the two of `begin_training` and `train`.
    return jax.random.fold_in(jax.random.split(key, 3)[2], update)


def _check_state(state: PyTree, algorithm: Algorithm, env_params: PyTree) -> None:
    """Raise ValueError unless a state has the structure, shapes and types of the algorithm's own."""
    expected = jax.eval_shape(algorithm.init, jax.random.key(0), env_params)
    if not same_structure(state, expected):
        raise ValueError(
            f"The state must be one of this algorithm and these networks, as train returns it first, not "
            f"{described(state)}."
        )
    for (path, leaf), found in zip(leaf_paths(expected).items(), jax.tree.leaves(state)):
        if (leaf.shape, leaf.dtype) != (jnp.shape(found), jnp.result_type(found)):
            raise ValueError(
                f"The state does not fit the algorithm: {path} is {jnp.result_type(found)} "
                f"{jnp.shape(found)} where {leaf.dtype} {leaf.shape} is needed; networks and num_envs "
                "must be those it was made with."
            )
