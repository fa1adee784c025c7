"""Numbers that tell whether training goes well."""

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purejaxpg.arguments import check, check_shapes, checked
from purejaxpg.types import PyTree, Scalar


@checked
def explained_variance(
    value: jax.Array, target: jax.Array, where: jax.Array | None = None
) -> jax.Array:
    """1 - Var[target - value] / Var[target] over the samples that count.

    1 is perfect, 0 is as good as a constant, and below 0 is worse than one.

    Args:
      value: `[...]`, V(s).
      target: `[...]`, what the values are fitted to.
      where: `[...]` boolean, the samples that count; all if None. The others may be anything.

    Returns:
      A scalar of at most 1; 0 where the targets do not vary, or where no sample counts.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or are empty.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.diagnostics import explained_variance
      >>> float(explained_variance(jnp.array([0.0, 1.0]), jnp.array([0.0, 2.0])))  # 1 - (1/4) / 1
      0.75
    """
    check_shapes(value=value, target=target)
    variance = jnp.var(shift(target, where), where=where)
    unexplained = jnp.var(target - value, where=where)
    varies = variance > 0
    return jnp.where(varies, 1 - unexplained / jnp.where(varies, variance, 1.0), 0.0)


def gradient_norm(gradient: PyTree) -> jax.Array:
    """The Euclidean norm of all entries of a pytree together.

    Args:
      gradient: a pytree of arrays.

    Returns:
      A scalar, in the units of the entries.

    Raises:
      TypeError: a leaf is no array.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.diagnostics import gradient_norm
      >>> float(gradient_norm({"kernel": jnp.array([[3.0]]), "bias": jnp.array([4.0])}))
      5.0
    """
    for leaf in jax.tree.leaves(gradient):
        check("a leaf of gradient", leaf, Scalar)
    # Of one vector, as `adam` makes it: a norm leaf by leaf takes two kernels per leaf more.
    return optax.tree.norm(ravel_pytree(gradient)[0])


@checked
def shift(x: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Subtract the first sample that counts from all of them.

    The result is exactly 0 if all samples are equal, where subtracting their mean need not give 0: the
    computed mean of many copies of 0.1, say, may differ from 0.1 by rounding.

    Args:
      x: `[...]`, not empty.
      where: `[...]` boolean, the samples that count; all if None.

    Returns:
      `[...]`, with 0 for the first sample that counts, in row-major order.

    Raises:
      TypeError: an argument is no array.
      ValueError: `x` is empty, or `where` has another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.diagnostics import shift
      >>> shift(jnp.array([2.0, 5.0])).tolist()
      [0.0, 3.0]
    """
    if x.size == 0:
        raise ValueError(f"An array of at least one sample is needed, not of shape {x.shape}.")
    if where is None:
        return x - x.reshape(-1)[0]
    check_shapes(x=x, where=where)
    return x - x.reshape(-1)[jnp.argmax(where)]


@checked
def mean_where(x: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """The mean over the samples that count, 0 if there are none.

    Args:
      x: `[...]`. What does not count may be anything.
      where: `[...]` boolean, the samples that count; all if None.

    Returns:
      A scalar.

    Raises:
      TypeError: an argument is no array.
      ValueError: `where` has another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.diagnostics import mean_where
      >>> float(mean_where(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([True, True, False])))
      2.0
    """
    if where is None:
        return jnp.mean(x)
    check_shapes(x=x, where=where)
    return jnp.sum(jnp.where(where, x, 0.0)) / jnp.maximum(jnp.sum(where), 1)
