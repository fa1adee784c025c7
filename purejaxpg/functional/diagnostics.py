"""What tells whether training goes well."""

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purejaxpg.types import PyTree


def explained_variance(value: jax.Array, target: jax.Array) -> jax.Array:
    """1 - Var[target - value] / Var[target] over all samples: 1 is perfect, 0 as good as a constant.

    Where the targets do not vary it is 0.
    """
    variance = jnp.var(shift(target))
    varies = variance > 0
    return jnp.where(varies, 1 - jnp.var(target - value) / jnp.where(varies, variance, 1.0), 0.0)


def gradient_norm(gradient: PyTree) -> jax.Array:
    """The Euclidean norm of all entries together."""
    # Of one vector, as `adam` makes it: a norm leaf by leaf takes two kernels per leaf more.
    return optax.tree.norm(ravel_pytree(gradient)[0])


def shift(x: jax.Array) -> jax.Array:
    """x less its first sample: exactly 0 if constant, where x less its mean need not be (0.1, say)."""
    return x - x.reshape(-1)[0]
