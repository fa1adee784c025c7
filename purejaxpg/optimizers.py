"""The usual optimizer of policy gradients, and schedules of coefficients."""

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from purejaxpg.types import Coefficient, PyTree, Scalar


def adam(
    learning_rate: Scalar,
    *,
    max_grad_norm: Scalar = 0.5,
    decay_steps: int | None = None,
    eps: Scalar = 1e-5,
) -> optax.GradientTransformation:
    """Clip the gradient to a global norm, then Adam (Kingma and Ba 2015, arXiv:1412.6980).

    Args:
      learning_rate: the (initial) step size; may be traced.
      max_grad_norm: gradients g become g min(1, max_grad_norm / |g|), |g| the norm of all parameters.
      decay_steps: the rate falls linearly to 0 over so many optimizer steps; None keeps it constant.
        An update of PPO makes `num_epochs * num_minibatches` steps.
      eps: Adam's epsilon.
    """
    rate = learning_rate if decay_steps is None else linear_decay(learning_rate, decay_steps)
    chain = optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(rate, eps=eps))
    return optax.flatten(
        chain
    )  # one long vector: a third fewer kernels in an update of small networks


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


def gradient_norm(gradient: PyTree) -> jax.Array:
    """The Euclidean norm of all entries together."""
    # Of one vector, as `adam` makes it: a norm leaf by leaf takes two kernels per leaf more.
    return optax.tree.norm(ravel_pytree(gradient)[0])
