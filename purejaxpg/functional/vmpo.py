"""The losses of V-MPO (Song et al. 2020, arXiv:1909.12238): policy, temperature and trust region apart."""

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from purejaxpg.arguments import NotNegative, Positive, check_shapes, checked
from purejaxpg.types import Scalar


@checked
def vmpo_policy_loss(
    log_prob: jax.Array,
    advantage: jax.Array,
    *,
    temperature: Positive,
    top_fraction: Positive = 0.5,
) -> jax.Array:
    """-N psi log_prob, psi being the softmax of advantage / temperature over the best samples, else 0.

    Song et al. 2020, arXiv:1909.12238, eq. 2 and 4; the mean over the N samples is the paper's L_pi.

    Args:
      log_prob: `[...]`, log pi(a | s) of the actions taken, in nats. Gradients flow.
      advantage: `[...]`, all of a batch: the best are chosen among them. Stopped.
      temperature: eta, a positive number in the units of the advantage; learnt, see
        `vmpo_temperature_loss`. Stopped.
      top_fraction: of the samples that count, above 0 and at most 1; static. At least one counts.

    Returns:
      `[...]`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> (0.0 + pg.vmpo_policy_loss(-jnp.array([1.0, 2.0]), jnp.array([0.0, 9.0]), temperature=1.0)).tolist()
      [0.0, 4.0]
    """
    check_shapes(log_prob=log_prob, advantage=advantage)
    weight = jax.nn.softmax(_scaled_best(advantage, stop_gradient(temperature), top_fraction))
    return -advantage.size * weight.reshape(advantage.shape) * log_prob


@checked
def vmpo_temperature_loss(
    advantage: jax.Array,
    *,
    temperature: Positive,
    epsilon: NotNegative,
    top_fraction: Positive = 0.5,
) -> jax.Array:
    """eta epsilon + eta log(mean over the best samples of exp(advantage / eta)), eta the temperature.

    Song et al. 2020, arXiv:1909.12238, eq. 3: the dual of a bound epsilon on KL(psi, uniform).

    Args:
      advantage: `[...]`, all of a batch. Stopped.
      temperature: eta, a positive number in the units of the advantage. Gradients flow.
      epsilon: the bound, a non-negative number, in nats; 0.01 to 0.1 in the paper.
      top_fraction: of the samples that count, above 0 and at most 1; static. At least one counts.

    Returns:
      A scalar, in the units of the advantage.

    Raises:
      TypeError: an argument is no array.
      ValueError: a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> best = jnp.array([2.0, 2.0, -5.0, -9.0])  # eta epsilon + 2
      >>> float(pg.vmpo_temperature_loss(best, temperature=4.0, epsilon=0.5))
      4.0
    """
    scaled = _scaled_best(advantage, temperature, top_fraction)
    number = jnp.log(jnp.asarray(_number(advantage, top_fraction), scaled.dtype))
    return temperature * (epsilon + jax.nn.logsumexp(scaled) - number)


@checked
def vmpo_alpha_loss(kl: jax.Array, *, alpha: NotNegative, epsilon: NotNegative) -> jax.Array:
    """alpha (epsilon - stop(kl)) + stop(alpha) kl: the trust region as a Lagrangian.

    Song et al. 2020, arXiv:1909.12238, eq. 5. Descent raises alpha where kl exceeds its bound, and lowers kl.

    Args:
      kl: `[...]`, KL(old, new) at each state, in nats. Gradients flow in the second term.
      alpha: the multiplier, a non-negative number. Gradients flow in the first term.
      epsilon: the bound, a non-negative number, in nats.

    Returns:
      `[...]`. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.vmpo_alpha_loss(jnp.array([0.5]), alpha=2.0, epsilon=0.25).tolist()
      [0.5]
    """
    return alpha * (epsilon - stop_gradient(kl)) + stop_gradient(alpha) * kl


def _number(advantage: jax.Array, top_fraction: Scalar) -> int:
    """How many samples are among the best."""
    if top_fraction > 1 or advantage.size == 0:
        raise ValueError(
            f"top_fraction must be at most 1 of at least one sample, not {top_fraction} of "
            f"{advantage.size}."
        )
    return max(1, int(top_fraction * advantage.size))


def _scaled_best(advantage: jax.Array, temperature: Scalar, top_fraction: Scalar) -> jax.Array:
    """advantage / temperature, flat, -inf but for the best."""
    flat = stop_gradient(advantage).reshape(-1)
    _, best = jax.lax.top_k(flat, _number(advantage, top_fraction))
    return jnp.full_like(flat, -jnp.inf).at[best].set(flat[best] / temperature)
