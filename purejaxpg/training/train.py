"""Training as one scan over updates, and evaluation."""

from collections.abc import Callable
from functools import partial

import jax

from purejaxpg.types import Algorithm, PyTree


def begin_training(key: jax.Array, algorithm: Algorithm, env_params: PyTree) -> PyTree:
    """The state in which the run with this key begins: where `train` starts if it is given none."""
    return algorithm.init(_init_and_run_keys(key)[0], env_params)


def train(
    key: jax.Array,
    algorithm: Algorithm,
    env_params: PyTree,
    *,
    num_updates: int,
    state: PyTree = None,
) -> tuple[PyTree, dict[str, jax.Array]]:
    """Run an algorithm for `num_updates` updates.

    Update i, counted by the state, uses a key made from `key` and i alone: training on from a returned
    state with the same key gives what one longer run would have given.

    Args:
      key: of the whole run; the same key when training goes on.
      state: where to go on; a fresh one, drawn from `key`, if None.

    Returns:
      The state after the last update, and the metrics `[num_updates]` of each.
    """
    if num_updates < 0:
        raise ValueError(f"num_updates={num_updates} must not be negative.")
    run_key = _init_and_run_keys(key)[1]
    if state is None:
        state = begin_training(key, algorithm, env_params)

    def update(state, _):
        step_key = jax.random.fold_in(run_key, state.update)
        state, _, metrics = algorithm.step(step_key, state, env_params)
        return state, metrics

    return jax.lax.scan(update, state, length=num_updates)


def train_and_evaluate(
    key: jax.Array,
    algorithm: Algorithm,
    env_params: PyTree,
    *,
    num_updates: int,
    evaluate_every: int,
    evaluate_fn: Callable[[jax.Array, PyTree], PyTree],
    state: PyTree = None,
) -> tuple[PyTree, tuple[dict[str, jax.Array], PyTree]]:
    """Train, and evaluate after every `evaluate_every` updates, inside one program.

    Args:
      evaluate_fn: `(key, state) -> anything`, e.g. `lambda key, state: evaluate(key, algorithm, ...)`.
        Its keys come from a stream of their own, so that training is the same without it.

    Returns:
      The last state, and metrics `[num_updates]` beside evaluations `[num_updates // evaluate_every]`.
    """
    if evaluate_every < 1 or num_updates % evaluate_every:
        raise ValueError(f"{evaluate_every=} must be at least 1 and divide {num_updates=} evenly.")
    continue_training = partial(train, key, algorithm, env_params)
    if state is None:
        state = begin_training(key, algorithm, env_params)

    def period(state, _):
        state, metrics = continue_training(num_updates=evaluate_every, state=state)
        evaluation = evaluate_fn(evaluation_key(key, state.update), state)
        return state, (metrics, evaluation)

    state, (metrics, evaluations) = jax.lax.scan(
        period, state, length=num_updates // evaluate_every
    )
    return state, (jax.tree.map(lambda x: x.reshape(num_updates), metrics), evaluations)


def evaluation_key(key: jax.Array, update: jax.Array) -> jax.Array:
    """A key for the evaluation after so many updates of the run with this key, unused by training."""
    # The third of three keys is none of the two of `_init_and_run_keys`.
    return jax.random.fold_in(jax.random.split(key, 3)[2], update)


def _init_and_run_keys(key: jax.Array) -> jax.Array:
    return jax.random.split(key)
