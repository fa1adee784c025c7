"""Coefficients that change over a run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from purejaxpg.arguments import Count, Positive, checked
from purejaxpg.types import Coefficient, Scalar


@checked
def linear_decay(start: Scalar, steps: Count) -> Callable[[jax.Array], Scalar]:
    """The schedule `count -> start (1 - count / steps)`, and 0 from `steps` on.

    Args:
      start: the value at count 0; may be traced.
      steps: the count at which it arrives at 0, at least 1.

    Returns:
      A function of the count, as optax's schedules are.

    Raises:
      TypeError: `start` is no number, or `steps` no integer.
      ValueError: `steps` is below 1.

    Example:
      >>> import purejaxpg as pg
      >>> schedule = pg.linear_decay(0.2, 10)
      >>> [round(float(schedule(count)), 3) for count in (0, 5, 10, 20)]
      [0.2, 0.1, 0.0, 0.0]
    """
    return lambda count: start * optax.linear_schedule(1.0, 0.0, steps)(count)


@checked
def resolve(coefficient: Coefficient, update: Any) -> Scalar:
    """The value of a coefficient at an update: itself, or what its schedule gives there.

    Args:
      coefficient: a number, traced or not, or a function of the update count.
      update: the number of updates done.

    Returns:
      A number.

    Raises:
      TypeError: the coefficient is neither a number nor a function.

    Example:
      >>> from purejaxpg.functional.schedules import resolve
      >>> resolve(0.2, 7), resolve(lambda update: 0.1 * update, 2)
      (0.2, 0.2)
    """
    return coefficient(update) if callable(coefficient) else coefficient


@checked
def adapt_kl_coef(kl_coef: Scalar, kl: Scalar, *, target: Positive) -> jax.Array:
    """The weight of a KL penalty for the next update: twice or half this one, or the same.

    Schulman et al. 2017, arXiv:1707.06347, section 4: half where kl < target / 1.5, twice where
    kl > 1.5 target. Where kl is NaN it stays.

    Args:
      kl_coef: the weight in the update that was made.
      kl: mean KL(old, new) of that update, in nats.
      target: what kl should be, a positive number of nats.

    Returns:
      The weight in the next update.

    Raises:
      TypeError: an argument is no number.
      ValueError: a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.schedules import adapt_kl_coef
      >>> one = jnp.array(1.0)
      >>> [float(adapt_kl_coef(one, kl, target=0.01)) for kl in (0.1, 0.01, 0.001)]
      [2.0, 1.0, 0.5]
    """
    doubled = jnp.where(kl > 1.5 * target, 2.0 * kl_coef, kl_coef)
    return jnp.where(kl < target / 1.5, kl_coef / 2.0, doubled)
