"""Importance ratios exp(log new - log old) that neither overflow nor lose their gradient."""

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from purejaxpg.arguments import check_shapes
from purejaxpg.types import Scalar

MAX_LOG_RATIO = 20.0
"""A larger log ratio counts as this one."""


def log_ratio_of(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """log_prob - old_log_prob.

    Args:
      log_prob: `[...]`, in nats. Gradients flow.
      old_log_prob: `[...]`. Stopped.

    Returns:
      `[...]`, in nats.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.ratios import log_ratio_of
      >>> float(log_ratio_of(jnp.array(1.0), jnp.array(3.0)))
      -2.0
    """
    check_shapes(log_prob=log_prob, old_log_prob=old_log_prob)
    return log_prob - stop_gradient(old_log_prob)


def ratio_of(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """exp(log_prob - old_log_prob), at most e^20, with the gradient ratio d log_prob.

    Args:
      log_prob: `[...]`, in nats. Gradients flow.
      old_log_prob: `[...]`. Stopped.

    Returns:
      `[...]`.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.ratios import ratio_of
      >>> float(ratio_of(jnp.array(2.0), jnp.array(2.0)))
      1.0
    """
    return jnp.exp(bounded(log_ratio_of(log_prob, old_log_prob)))


@jax.custom_jvp
def bounded(log_ratio: jax.Array) -> jax.Array:
    """At most 20, with the gradient of what it was."""
    return jnp.minimum(log_ratio, MAX_LOG_RATIO)


bounded.defjvps(lambda tangent, bounded, log_ratio: tangent)


def clipped_ratio(log_ratio: jax.Array, most: Scalar | None = None) -> jax.Array:
    """min(exp(log_ratio), most, e^20), without a gradient where it is clipped.

    Clipped before the exponential: its gradient would be infinite in the branch that is not taken.

    Args:
      log_ratio: `[...]`, in nats. Gradients flow.
      most: a positive number, which may be infinite; e^20 if None.

    Returns:
      `[...]`.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.ratios import clipped_ratio
      >>> clipped_ratio(jnp.array([0.0, 100.0]), 2.0).tolist()
      [1.0, 2.0]
    """
    limit = MAX_LOG_RATIO if most is None else jnp.minimum(jnp.log(most), MAX_LOG_RATIO)
    return jnp.exp(jnp.minimum(log_ratio, limit))
