"""Values as distributions over fixed numbers: large and small returns with one scale and a bounded gradient."""

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from purejaxpg.arguments import check_shapes, checked


@checked
def symlog(x: jax.Array) -> jax.Array:
    """sign(x) log(1 + |x|), which squeezes large numbers of either sign.

    Hafner et al. 2023 (DreamerV3), arXiv:2301.04104, eq. 9.

    Args:
      x: `[...]`.

    Returns:
      `[...]`. Gradients are at most 1.

    Raises:
      TypeError: the argument is no array.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> [round(x, 3) for x in pg.symlog(jnp.array([-1.0, 0.0, 1.0])).tolist()]
      [-0.693, 0.0, 0.693]
    """
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


@checked
def symexp(x: jax.Array) -> jax.Array:
    """sign(x) (exp|x| - 1), the inverse of `symlog`.

    Hafner et al. 2023 (DreamerV3), arXiv:2301.04104, eq. 9.

    Args:
      x: `[...]`; infinite results from |x| of about 88 on in float32.

    Returns:
      `[...]`.

    Raises:
      TypeError: the argument is no array.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> [round(x, 3) for x in pg.symexp(jnp.log(jnp.array([1.0, 3.0]))).tolist()]
      [0.0, 2.0]
    """
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


@checked
def two_hot(x: jax.Array, bins: jax.Array) -> jax.Array:
    """Probabilities of the two bins that a number lies between, so that their mean is the number.

    Bellemare et al. 2017, arXiv:1707.06887, section 4; Hafner et al. 2023, arXiv:2301.04104, eq. 10.

    Args:
      x: `[...]`; counts as the first or last bin beyond them. No gradient flows.
      bins: `[n]`, increasing numbers, at least 2; `symexp(jnp.linspace(-20.0, 20.0, 255))` in DreamerV3.

    Returns:
      `[..., n]`, rows that sum to 1.

    Raises:
      TypeError: an argument is no array.
      ValueError: `bins` are no vector of at least 2.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.two_hot(jnp.array([1.5, -9.0]), jnp.array([0.0, 1.0, 3.0])).tolist()
      [[0.0, 0.75, 0.25], [1.0, 0.0, 0.0]]
    """
    if bins.ndim != 1 or len(bins) < 2:
        raise ValueError(f"bins must be a vector of at least 2 numbers, not of shape {bins.shape}.")
    x, bins = stop_gradient(jnp.clip(x, bins[0], bins[-1])), stop_gradient(bins)
    below = jnp.clip(jnp.searchsorted(bins, x, side="right") - 1, 0, len(bins) - 2)
    upper = (x - bins[below]) / (bins[below + 1] - bins[below])
    low, high = (jax.nn.one_hot(i, len(bins), dtype=upper.dtype) for i in (below, below + 1))
    return (1 - upper)[..., None] * low + upper[..., None] * high


@checked
def two_hot_mean(logits: jax.Array, bins: jax.Array) -> jax.Array:
    """sum_i softmax(logits)_i bins_i: the value that logits stand for.

    Hafner et al. 2023 (DreamerV3), arXiv:2301.04104, eq. 10.

    Args:
      logits: `[..., n]`. Gradients flow.
      bins: `[n]`, increasing numbers.

    Returns:
      `[...]`, in the units of the bins.

    Raises:
      TypeError: an argument is no array.
      ValueError: there are not as many bins as logits.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> float(pg.two_hot_mean(jnp.zeros(3), jnp.array([0.0, 1.0, 5.0])))
      2.0
    """
    _check_bins(logits, bins)
    return jnp.sum(jax.nn.softmax(logits) * stop_gradient(bins), axis=-1)


@checked
def two_hot_value_loss(logits: jax.Array, target: jax.Array, bins: jax.Array) -> jax.Array:
    """-sum_i two_hot(target)_i log softmax(logits)_i, the cross-entropy of a value.

    Hafner et al. 2023 (DreamerV3), arXiv:2301.04104, eq. 10; Farebrother et al. 2024, arXiv:2403.03950.

    Args:
      logits: `[..., n]`, of V(s). Gradients flow: softmax(logits) - two_hot(target), bounded for any target.
      target: `[...]`, in the units of the bins. Stopped.
      bins: `[n]`, increasing numbers.

    Returns:
      `[...]`, in nats. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: there are not as many bins as logits, or as many targets.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> bins = jnp.array([0.0, 1.0])
      >>> round(float(pg.two_hot_value_loss(jnp.zeros(2), jnp.array(0.25), bins)), 3)  # log 2
      0.693
    """
    _check_bins(logits, bins)
    check_shapes(**{"logits without their last axis": logits[..., 0], "target": target})
    return -jnp.sum(two_hot(target, bins) * jax.nn.log_softmax(logits), axis=-1)


def _check_bins(logits: jax.Array, bins: jax.Array) -> None:
    if logits.shape[-1:] != bins.shape:
        raise ValueError(
            f"logits need one number for each bin along their last axis, not shape {logits.shape} for bins "
            f"of shape {bins.shape}."
        )
