"""Coefficients that change over a run."""

import jax
import jax.numpy as jnp
import optax

from purejaxpg.types import Coefficient, Scalar


def linear_decay(start: Scalar, steps: int):
    """The schedule `count -> start (1 - count / steps)`, 0 from `steps` on. `start` may be traced."""
    return lambda count: start * optax.linear_schedule(1.0, 0.0, steps)(count)


def resolve(coefficient: Coefficient, update: jax.Array) -> Scalar:
    """The value of a coefficient at an update: itself, or what its schedule gives there."""
    return coefficient(update) if callable(coefficient) else coefficient


def adapt_kl_coef(kl_coef: jax.Array, kl: jax.Array, *, target: Scalar) -> jax.Array:
    """The weight of a KL penalty for the next update: twice or half this one, or the same.

    Schulman et al. 2017, arXiv:1707.06347, section 4: half where kl < target / 1.5, twice where
    kl > 1.5 target. Where kl is NaN it stays.

    Args:
      kl_coef: the weight in the update that was made.
      kl: mean KL(old, new) of that update, in nats.
      target: what kl should be, a positive number of nats.
    """
    doubled = jnp.where(kl > 1.5 * target, 2.0 * kl_coef, kl_coef)
    return jnp.where(kl < target / 1.5, kl_coef / 2.0, doubled)
