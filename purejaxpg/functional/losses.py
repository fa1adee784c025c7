"""Losses of policies, value functions and reward models, one number per sample.

All are element-wise: arrays of one shape `[...]` in, that shape out, to be minimised. The caller
takes the mean or, with a mask, `jnp.sum(loss * mask) / jnp.sum(mask)`. Where masked samples may be
NaN or infinite, first replace the *arguments* there, `jnp.where(mask, log_prob, 0.0)` and likewise
the others: a product with 0, or a `where` around the loss alone, leaves a NaN in the gradient.

Gradients flow through the first argument alone (`log_prob`, `value`) unless a docstring says
otherwise: advantages, targets and everything `old_` are stopped here. The importance ratio is
ratio = exp(log_prob - old_log_prob). A log ratio above 20 counts as 20 there, so that no ratio and no
gradient of one overflows; the gradient stays that of the ratio, ratio d log_prob. Real hyperparameters may
be traced; Python numbers out of range and arrays of different shapes raise ValueError.
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from purejaxpg.arguments import NotNegative, Positive, check_shapes, checked

if TYPE_CHECKING:  # importing distrax costs more than this whole module
    from purejaxpg.functional.distributions import Distribution

_MAX_LOG_RATIO = 20.0


@checked
def policy_gradient_loss(log_prob: jax.Array, advantage: jax.Array) -> jax.Array:
    """-log_prob advantage, whose gradient is minus the policy gradient.

    Williams 1992 (REINFORCE); Schulman et al. 2017, arXiv:1707.06347, eq. 2.

    Args:
      log_prob: `[...]`, log pi(a | s) of the actions taken, in nats. Gradients flow.
      advantage: `[...]`, or a return or any other estimate of Q(s, a) minus a baseline. Stopped.

    Returns:
      `[...]`. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.policy_gradient_loss(jnp.array([-0.5, -2.0]), jnp.array([4.0, -1.0])).tolist()
      [2.0, -2.0]
    """
    check_shapes(log_prob=log_prob, advantage=advantage)
    return -log_prob * stop_gradient(advantage)


@checked
def surrogate_loss(log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array) -> jax.Array:
    """-L^CPI = -ratio advantage. At ratio 1 its gradient is that of `policy_gradient_loss`.

    Kakade and Langford 2002; Schulman et al. 2015, arXiv:1502.05477, eq. 14; Schulman et al. 2017,
    arXiv:1707.06347, eq. 6.

    Args:
      log_prob: `[...]`, log pi(a | s) of the actions taken, in nats. Gradients flow.
      old_log_prob: `[...]`, of the same actions under the policy that took them. Stopped.
      advantage: `[...]`. Stopped.

    Returns:
      `[...]`, in the units of the advantage. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> log_prob, old_log_prob = jnp.log(jnp.array([0.5])), jnp.log(jnp.array([0.25]))
      >>> round(float(pg.surrogate_loss(log_prob, old_log_prob, jnp.array([3.0]))[0]), 3)
      -6.0
    """
    check_shapes(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage)
    return -_ratio(log_prob, old_log_prob) * stop_gradient(advantage)


@checked
def ppo_clip_loss(
    log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, *, clip_eps: Positive
) -> jax.Array:
    """-L^CLIP = -min(ratio advantage, clip(ratio, 1 - clip_eps, 1 + clip_eps) advantage).

    Schulman et al. 2017, arXiv:1707.06347, eq. 7. The gradient is zero where the advantage is
    positive and ratio > 1 + clip_eps, or it is negative and ratio < 1 - clip_eps; elsewhere it is
    that of `surrogate_loss`.

    Args:
      log_prob: `[...]`, log pi(a | s) of the actions taken, in nats. Gradients flow.
      old_log_prob: `[...]`, of the same actions under the policy that took them. Stopped.
      advantage: `[...]`. Stopped.
      clip_eps: half the width of the interval of ratios, a positive number; 0.2 in the paper's best
        results. May be traced.

    Returns:
      `[...]`, in the units of the advantage. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> log_prob, advantage = jnp.log(jnp.full(2, 2.0)), jnp.array([1.0, -1.0])  # both ratios are 2
      >>> loss = pg.ppo_clip_loss(log_prob, jnp.zeros(2), advantage, clip_eps=0.25)
      >>> [round(x, 3) for x in loss.tolist()]
      [-1.25, 2.0]
    """
    check_shapes(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage)
    ratio = _ratio(log_prob, old_log_prob)
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    advantage = stop_gradient(advantage)
    return -jnp.minimum(ratio * advantage, clipped * advantage)


@checked
def ppo_kl_penalty_loss(
    log_prob: jax.Array,
    old_log_prob: jax.Array,
    advantage: jax.Array,
    kl: jax.Array,
    *,
    kl_coef: NotNegative,
) -> jax.Array:
    """-L^KLPEN = -ratio advantage + kl_coef kl.

    Schulman et al. 2017, arXiv:1707.06347, eq. 8.

    Args:
      log_prob: `[...]`, log pi(a | s) of the actions taken, in nats. Gradients flow.
      old_log_prob: `[...]`, of the same actions under the policy that took them. Stopped.
      advantage: `[...]`. Stopped.
      kl: `[...]`, KL(old, new) at the same states in nats, exact or from `kl_k3`. Gradients flow.
      kl_coef: weight of the penalty (beta in the paper), a non-negative number; may be traced.

    Returns:
      `[...]`, in the units of the advantage. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> same, advantage, kl = jnp.zeros(1), jnp.array([3.0]), jnp.array([0.5])  # the ratio is 1
      >>> pg.ppo_kl_penalty_loss(same, same, advantage, kl, kl_coef=2.0).tolist()
      [-2.0]
    """
    check_shapes(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage, kl=kl)
    return surrogate_loss(log_prob, old_log_prob, advantage) + kl_coef * kl


@checked
def value_loss(value: jax.Array, target: jax.Array) -> jax.Array:
    """1/2 (value - target)^2.

    Sutton and Barto 2018, eq. 9.1, for one state; the 1/2 makes the gradient value - target.

    Args:
      value: `[...]`, V(s). Gradients flow.
      target: `[...]`, any of `purejaxpg.functional.returns`. Stopped.

    Returns:
      `[...]`. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.value_loss(jnp.array([1.0, 5.0]), jnp.array([3.0, 5.0])).tolist()
      [2.0, 0.0]
    """
    check_shapes(value=value, target=target)
    return 0.5 * jnp.square(value - stop_gradient(target))


@checked
def clipped_value_loss(
    value: jax.Array, old_value: jax.Array, target: jax.Array, *, clip_eps: Positive
) -> jax.Array:
    """max(1/2 (value - target)^2, 1/2 (clipped - target)^2), clipped within clip_eps of old_value.

    clipped = old_value + clip(value - old_value, -clip_eps, clip_eps). Not in the PPO paper but in
    OpenAI baselines' ppo2; Engstrom et al. 2020, arXiv:2005.12729. The gradient is zero where value
    lies outside the interval and nearer to the target than `clipped` does.

    Args:
      value: `[...]`, V(s). Gradients flow.
      old_value: `[...]`, V(s) at the time of the rollout. Stopped.
      target: `[...]`, any of `purejaxpg.functional.returns`. Stopped.
      clip_eps: a positive number, in the units of the values; may be traced.

    Returns:
      `[...]`. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> value, old_value, target = jnp.array([3.0]), jnp.array([0.0]), jnp.array([4.0])
      >>> pg.clipped_value_loss(value, old_value, target, clip_eps=2.0).tolist()  # 1/2 (2 - 4)^2
      [2.0]
    """
    check_shapes(value=value, old_value=old_value, target=target)
    old_value = stop_gradient(old_value)
    clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    return jnp.maximum(value_loss(value, target), value_loss(clipped, target))


@checked
def bradley_terry_loss(chosen_reward: jax.Array, rejected_reward: jax.Array) -> jax.Array:
    """-log sigmoid(chosen_reward - rejected_reward): minus log P(chosen is preferred).

    Bradley and Terry 1952; Christiano et al. 2017, arXiv:1706.03741, eq. 1; Ouyang et al. 2022,
    arXiv:2203.02155, eq. 1. It neither overflows nor loses its gradient for large differences.

    Args:
      chosen_reward: `[...]`, the reward model's output for the preferred answer. Gradients flow.
      rejected_reward: `[...]`, its output for the other answer. Gradients flow.

    Returns:
      `[...]`, in nats. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> round(float(pg.bradley_terry_loss(jnp.array(1.0), jnp.array(1.0))), 3)  # log 2
      0.693
    """
    check_shapes(chosen_reward=chosen_reward, rejected_reward=rejected_reward)
    return jax.nn.softplus(rejected_reward - chosen_reward)


@checked
def entropy_loss(distribution: "Distribution") -> jax.Array:
    """-H(pi(. | s)), the entropy bonus as a loss.

    Williams and Peng 1991; Mnih et al. 2016, arXiv:1602.01783, section 4.

    Args:
      distribution: a policy's output, batch shape `[...]`. Gradients flow.

    Returns:
      `[...]`, in nats. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: the argument is no distribution.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> round(float(pg.entropy_loss(pg.categorical(jnp.zeros(2)))), 3)  # -log 2
      -0.693
    """
    return -distribution.entropy()


@checked
def kl_k1(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """-log ratio: an unbiased estimate of KL(old, new) from actions of the old policy.

    Schulman 2020, "Approximating KL divergence", http://joschu.net/blog/kl-approx.html. Near the
    old policy it varies more than `kl_k3`, and single numbers may be negative. The gradient is
    unbiased too.

    Args:
      log_prob: `[...]`, of the old policy's actions under the new one, in nats. Gradients flow.
      old_log_prob: `[...]`, of the same actions under the old policy. Stopped.

    Returns:
      `[...]`, in nats. Mask: `jnp.sum(kl * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.kl_k1(jnp.array([-2.0, -1.0]), jnp.array([-1.5, -3.0])).tolist()
      [0.5, -2.0]
    """
    return -_log_ratio(log_prob, old_log_prob)


@checked
def kl_k3(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """(ratio - 1) - log ratio: an unbiased estimate of KL(old, new), never negative.

    Schulman 2020, "Approximating KL divergence", http://joschu.net/blog/kl-approx.html. The actions
    are those of the old policy, whose support must contain the new one's. The gradient is unbiased
    too.

    Args:
      log_prob: `[...]`, of the old policy's actions under the new one, in nats. Gradients flow.
      old_log_prob: `[...]`, of the same actions under the old policy. Stopped.

    Returns:
      `[...]`, in nats. Mask: `jnp.sum(kl * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> log_prob = jnp.log(jnp.array([0.5]))
      >>> round(float(pg.kl_k3(log_prob, jnp.zeros(1))[0]), 3)  # (0.5 - 1) - log 0.5
      0.193
    """
    log_ratio = _bounded(_log_ratio(log_prob, old_log_prob))
    return jnp.expm1(log_ratio) - log_ratio


def _log_ratio(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    check_shapes(log_prob=log_prob, old_log_prob=old_log_prob)
    return log_prob - stop_gradient(old_log_prob)


def _ratio(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    return jnp.exp(_bounded(_log_ratio(log_prob, old_log_prob)))


@jax.custom_jvp
def _bounded(log_ratio: jax.Array) -> jax.Array:
    """At most 20, with the gradient of what it was."""
    return jnp.minimum(log_ratio, _MAX_LOG_RATIO)


_bounded.defjvps(lambda tangent, bounded, log_ratio: tangent)
