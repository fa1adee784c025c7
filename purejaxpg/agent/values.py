"""Values of the states of a rollout and of their successors, and what is made of them."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.minibatch import sequences, shuffled_epochs
from purejaxpg.arguments import StepsPerUpdate, check_shapes
from purejaxpg.functional.diagnostics import mean_where
from purejaxpg.functional.losses import value_loss
from purejaxpg.types import PyTree, Transition

ValueOptimizer = Annotated[
    optax.GradientTransformation, StepsPerUpdate(("num_value_epochs", "num_value_minibatches"))
]
"""Of a value function that is fitted by regression to every rollout: `fit_value`."""


def state_values(
    value_fn: Callable[[jax.Array], jax.Array], transitions: Transition
) -> tuple[jax.Array, jax.Array]:
    """V(obs) and V(next_obs), `[T, B]` each, for little more than the cost of the first.

    Where an episode goes on, next_obs[t] is obs[t + 1], so one pass over the T + 1 observations gives
    both. Only where an episode was truncated does next_obs[t] have to be evaluated by itself; a loop
    does so, B states at a time, as long as there are any. V(next_obs) is not corrected where an episode
    terminated: every estimator in `returns` ignores it there.

    Args:
      value_fn: values `[T', B']` of raw observations `[T', B', ...]`, without memory.
      transitions: `[T, B, ...]`, as `unroll` gives them.

    Returns:
      `(value, next_value)`, `[T, B]` each.
    """
    obs, next_obs = transitions.obs, transitions.next_obs
    num_steps, num_envs = transitions.reward.shape
    values = value_fn(jnp.concatenate([obs, next_obs[-1:]]))
    value, next_value = values[:-1], values[1:]

    wrong = transitions.truncated & ~transitions.terminated
    wrong = wrong.at[-1].set(False).reshape(-1)  # the last row was evaluated at next_obs itself
    size = num_steps * num_envs
    flat_next_obs = next_obs.reshape(size, *next_obs.shape[2:])

    def correct(carry):
        wrong, flat_value = carry
        (index,) = jnp.nonzero(wrong, size=num_envs, fill_value=size)
        true_value = value_fn(flat_next_obs.at[index].get(mode="clip")[None])[0]
        flat_value = flat_value.at[index].set(true_value, mode="drop")
        return wrong.at[index].set(False, mode="drop"), flat_value

    _, flat_value = jax.lax.while_loop(
        lambda carry: jnp.any(carry[0]), correct, (wrong, next_value.reshape(size))
    )
    return value, flat_value.reshape(num_steps, num_envs)


def recurrent_state_values(
    value_fn: Callable[[PyTree, jax.Array, jax.Array], tuple[jax.Array, PyTree, PyTree]],
    memory: PyTree,
    transitions: Transition,
) -> tuple[tuple[jax.Array, jax.Array], PyTree, PyTree]:
    """V(obs) and V(next_obs) where V remembers: the second from the memory after obs, of no later step.

    Args:
      value_fn: `(memory [B'], obs [T', B', ...], start [T', B']) -> (values [T', B'], memory before each
        step [T', B', ...], memory after all [B'])`.
      memory: before the rollout, `[B, ...]`.
      transitions: `[T, B, ...]`, as `unroll` gives them.

    Returns:
      `(value, next_value)`, `[T, B]` each, the memory before each step and that after all.
    """
    value, before, after = value_fn(memory, transitions.obs, transitions.start)
    size = value.size
    after_each = jax.tree.map(lambda x, last: jnp.concatenate([x[1:], last[None]]), before, after)
    # Every successor is one more step from a memory of its own: T * B sequences of length 1.
    flat_memory = jax.tree.map(lambda x: x.reshape(size, *x.shape[2:]), after_each)
    flat_next_obs = transitions.next_obs.reshape(1, size, *transitions.next_obs.shape[2:])
    next_value, *_ = value_fn(flat_memory, flat_next_obs, jnp.zeros((1, size), bool))
    return (value, next_value.reshape(value.shape)), before, after


def fit_value(
    key: jax.Array,
    value_fn: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    inputs: tuple[PyTree, ...],
    target: jax.Array,
    weight: jax.Array | None = None,
    *,
    where: jax.Array | None = None,
    num_epochs: int,
    num_minibatches: int,
    sequence_length: int = 1,
) -> tuple[PyTree, PyTree, jax.Array]:
    """Regress V on targets: shuffled epochs on L = mean of weight (V(obs) - target)^2 / 2.

    Args:
      key: consumed.
      value_fn: `(params, *inputs) -> values`, `[L, N]` where L is `sequence_length`.
      optimizer: of the value function.
      params: of the value function.
      opt_state: of the optimizer.
      inputs: observations, and what else V is a function of, `[T, B, ...]` each.
      target: `[T, B]`.
      weight: `[T, B]`; weights of 1 if None, 0 leaves a sample out.
      where: `[T, B]` boolean, the samples that the mean is over; all if None.
      num_epochs: passes over the samples.
      num_minibatches: per pass; must divide T / L * B.
      sequence_length: L, of contiguous steps that stay together; it divides T.

    Returns:
      New parameters and state of the optimizer, and the loss L averaged over all minibatches, each as it was
      before its step.

    Raises:
      ValueError: target, weight and inputs are not all `[T, B, ...]`, or minibatches or sequences do not
        divide the rollout.

    Example:
      >>> import jax, optax
      >>> obs, target = jax.numpy.ones((1, 2)), jax.numpy.full((1, 2), 3.0)
      >>> sgd, zero = optax.sgd(0.5), jax.numpy.zeros(())
      >>> weight, _, loss = fit_value(
      ...     jax.random.key(0), lambda w, x: w * x, sgd, zero, sgd.init(zero), (obs,), target,
      ...     num_epochs=1, num_minibatches=1)
      >>> float(weight), float(loss)
      (1.5, 4.5)
    """
    weight = jnp.ones_like(target) if weight is None else weight
    check_shapes(target=target, weight=weight)

    def step(carry, batch):
        params, opt_state = carry
        inputs, target, weight, where = batch

        def loss_fn(params):
            return mean_where(weight * value_loss(value_fn(params, *inputs), target), where)

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    data = sequences((inputs, target, weight, where), sequence_length)
    (params, opt_state), losses = shuffled_epochs(
        key, step, (params, opt_state), data, num_epochs=num_epochs, num_minibatches=num_minibatches
    )
    return params, opt_state, jnp.mean(losses)
