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
import optax
from jax.lax import stop_gradient

from purejaxpg.arguments import AboveOne, NotNegative, Positive, check_shapes, checked
from purejaxpg.functional.ratios import bounded, log_ratio_of, ratio_of

if TYPE_CHECKING:  # importing distrax costs more than this whole module
    from purejaxpg.functional.distributions import Distribution


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
    return -ratio_of(log_prob, old_log_prob) * stop_gradient(advantage)


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
    ratio = ratio_of(log_prob, old_log_prob)
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
    return -log_ratio_of(log_prob, old_log_prob)


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
    log_ratio = bounded(log_ratio_of(log_prob, old_log_prob))
    return jnp.expm1(log_ratio) - log_ratio


@checked
def kl_k2(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
    """(log ratio)^2 / 2: a biased estimate of KL(old, new) that varies little and is never negative.

    Schulman 2020, "Approximating KL divergence", http://joschu.net/blog/kl-approx.html. The mean of its
    gradient over actions of the policy that is being changed is the gradient of KL(new, old).

    Args:
      log_prob: `[...]`, of the actions under the new policy, in nats. Gradients flow.
      old_log_prob: `[...]`, of the same actions under the old policy. Stopped.

    Returns:
      `[...]`, in nats. Mask: `jnp.sum(kl * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.kl_k2(jnp.array([-2.0]), jnp.array([-4.0])).tolist()
      [2.0]
    """
    return 0.5 * jnp.square(log_ratio_of(log_prob, old_log_prob))


@checked
def dual_clip_loss(
    log_prob: jax.Array,
    old_log_prob: jax.Array,
    advantage: jax.Array,
    *,
    clip_eps: Positive,
    dual_clip: AboveOne = 3.0,
) -> jax.Array:
    """`ppo_clip_loss`, and where the advantage is negative at most -dual_clip advantage.

    Ye et al. 2020, arXiv:1912.09729, eq. 5: bounds the loss of an action that has become much more probable and
    is bad. The gradient is zero there.

    Args:
      log_prob: `[...]`, log pi(a | s) of the actions taken, in nats. Gradients flow.
      old_log_prob: `[...]`, of the same actions under the policy that took them. Stopped.
      advantage: `[...]`. Stopped.
      clip_eps: half the width of the interval of ratios, a positive number; may be traced.
      dual_clip: the largest ratio that counts where the advantage is negative, above 1; 3 in the paper.

    Returns:
      `[...]`, in the units of the advantage. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> log_prob = jnp.log(jnp.full(2, 8.0))  # both ratios are 8
      >>> pg.dual_clip_loss(log_prob, jnp.zeros(2), jnp.array([1.0, -1.0]), clip_eps=0.25).tolist()
      [-1.25, 3.0]
    """
    loss = ppo_clip_loss(log_prob, old_log_prob, advantage, clip_eps=clip_eps)
    bound = -dual_clip * stop_gradient(advantage)
    return jnp.where(advantage < 0, jnp.minimum(loss, bound), loss)


@checked
def awr_loss(
    log_prob: jax.Array,
    advantage: jax.Array,
    *,
    temperature: Positive,
    max_weight: Positive = 20.0,
) -> jax.Array:
    """-min(exp(advantage / temperature), max_weight) log_prob: advantage-weighted regression.

    Peng et al. 2019, arXiv:1910.00177, eq. 14 and algorithm 1.

    Args:
      log_prob: `[...]`, log pi(a | s) of the actions taken, in nats. Gradients flow.
      advantage: `[...]`. Stopped.
      temperature: beta, a positive number in the units of the advantage; may be traced.
      max_weight: the largest weight, a positive number; 20 in the paper.

    Returns:
      `[...]`. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.awr_loss(jnp.array([-1.0, -1.0]), jnp.array([0.0, 99.0]), temperature=1.0).tolist()
      [1.0, 20.0]
    """
    check_shapes(log_prob=log_prob, advantage=advantage)
    log_weight = jnp.minimum(advantage / temperature, jnp.log(max_weight))
    return -stop_gradient(jnp.exp(log_weight)) * log_prob


@checked
def expected_policy_gradient_loss(probs: jax.Array, q_value: jax.Array) -> jax.Array:
    """-sum_a pi(a|s) Q(s, a): the policy gradient of a state with all actions, without sampling one.

    Sutton et al. 2000, theorem 1; Ciosek and Whiteson 2018, arXiv:1706.05374, eq. 9. Any baseline subtracted
    from Q leaves the gradient as it is.

    Args:
      probs: `[..., A]`, pi(a | s), `categorical(...).probs` for example. Gradients flow.
      q_value: `[..., A]`, Q(s, a) or an advantage; finite, also where an action is forbidden. Stopped.

    Returns:
      `[...]`, in the units of Q. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> float(pg.expected_policy_gradient_loss(jnp.array([0.25, 0.75]), jnp.array([4.0, 8.0])))
      -7.0
    """
    check_shapes(probs=probs, q_value=q_value)
    return -jnp.sum(probs * stop_gradient(q_value), axis=-1)


@checked
def dpo_loss(
    chosen_log_prob: jax.Array,
    rejected_log_prob: jax.Array,
    reference_chosen_log_prob: jax.Array,
    reference_rejected_log_prob: jax.Array,
    *,
    beta: Positive,
) -> jax.Array:
    """`bradley_terry_loss` of the rewards beta log(pi / pi_ref): direct preference optimisation.

    Rafailov et al. 2023, arXiv:2305.18290, eq. 7.

    Args:
      chosen_log_prob: `[...]`, log pi of the whole preferred answer, summed over its tokens. Gradients flow.
      rejected_log_prob: `[...]`, of the other answer. Gradients flow.
      reference_chosen_log_prob: `[...]`, log pi_ref of the preferred answer. Stopped.
      reference_rejected_log_prob: `[...]`, of the other answer. Stopped.
      beta: strength of the implied KL penalty, a positive number; may be traced.

    Returns:
      `[...]`, in nats. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> same = jnp.array([-3.0])
      >>> round(float(pg.dpo_loss(same, same, same, same, beta=0.1)[0]), 3)  # log 2
      0.693
    """
    chosen = log_ratio_of(chosen_log_prob, reference_chosen_log_prob)
    rejected = log_ratio_of(rejected_log_prob, reference_rejected_log_prob)
    return bradley_terry_loss(beta * chosen, beta * rejected)


@checked
def huber_value_loss(value: jax.Array, target: jax.Array, *, delta: Positive = 1.0) -> jax.Array:
    """1/2 e^2 where |e| = |value - target| <= delta, and delta (|e| - delta / 2) beyond.

    Huber 1964. The gradient is that of `value_loss`, clipped to [-delta, delta].

    Args:
      value: `[...]`, V(s). Gradients flow.
      target: `[...]`, any of `purejaxpg.functional.returns`. Stopped.
      delta: a positive number, in the units of the values.

    Returns:
      `[...]`. Mask: `jnp.sum(loss * mask) / jnp.sum(mask)`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.huber_value_loss(jnp.array([1.0, 5.0]), jnp.zeros(2)).tolist()
      [0.5, 4.5]
    """
    check_shapes(value=value, target=target)
    return optax.losses.huber_loss(value, stop_gradient(target), delta=delta)
