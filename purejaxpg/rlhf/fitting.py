"""Steps down a loss on random minibatches: what a language model and a reward model are fitted by."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from purejaxpg.arguments import Count, Key, checked
from purejaxpg.types import PyTree


@checked
def descend(
    key: Key,
    loss_fn: Callable,
    params: PyTree,
    opt_state: PyTree,
    data: PyTree,
    optimizer: optax.GradientTransformation,
    *,
    num_steps: Count,
    batch_size: Count,
) -> tuple[PyTree, PyTree, jax.Array]:
    """Minimise a mean over samples by steps on minibatches, drawn with replacement, in one scan.

    Args:
      key: consumed.
      loss_fn: `(params, batch) -> loss`, a scalar.
      params: what is fitted.
      opt_state: of the optimizer.
      data: `[N, ...]` in every leaf.
      optimizer: makes the steps.
      num_steps: how many of them.
      batch_size: samples in a minibatch `[batch_size, ...]`.

    Returns:
      New parameters and state of the optimizer, and the losses `[num_steps]`, each from before its step.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is below 1, or the leaves of the data are not `[N, ...]` of one N, at least 1.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from purejaxpg.rlhf.fitting import descend
      >>> sgd, zero = optax.sgd(0.5), jnp.zeros(())
      >>> def loss_fn(mean, x):
      ...     return jnp.mean((x - mean) ** 2) / 2
      >>> mean, _, loss = descend(
      ...     jax.random.key(0), loss_fn, zero, sgd.init(zero), jnp.full(9, 2.0), sgd,
      ...     num_steps=2, batch_size=3)
      >>> float(mean), loss.tolist()
      (1.5, [2.0, 0.5])
    """
    data = jax.tree.map(jnp.asarray, data)
    shapes = {jnp.shape(x)[:1] for x in jax.tree.leaves(data)}
    if len(shapes) != 1 or shapes <= {(), (0,)}:
        raise ValueError(
            "The data must be arrays [N, ...] of one N, at least 1; found first axes "
            f"{sorted(shapes)}."
        )
    ((size,),) = shapes

    def one_step(carry, key):
        params, opt_state = carry
        index = jax.random.randint(key, (batch_size,), 0, size)
        loss, gradient = jax.value_and_grad(loss_fn)(params, jax.tree.map(lambda x: x[index], data))
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    keys = jax.random.split(key, num_steps)
    (params, opt_state), loss = jax.lax.scan(one_step, (params, opt_state), keys)
    return params, opt_state, loss
