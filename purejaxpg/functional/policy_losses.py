"""Losses of a policy as functions of a minibatch: what the `policy_loss` of `ppo` and `trpo` takes.

Each returns one number per sample, to be minimised; the algorithm takes the mean.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax

from purejaxpg.arguments import NotNegative, Positive, check_shapes, checked
from purejaxpg.functional.losses import ppo_clip_loss, ppo_kl_penalty_loss, surrogate_loss
from purejaxpg.types import Transition

if TYPE_CHECKING:  # importing distrax costs more than this whole module
    from purejaxpg.functional.distributions import Distribution


class PolicyBatch(NamedTuple):
    """What a policy's loss may depend on: a minibatch `[L, B, ...]` of B sequences of L steps.

    Attributes:
      log_prob: `[L, B]`, log pi(a | s) under the policy that is being changed. Gradients flow.
      old_log_prob: `[L, B]`, of the same actions under the policy that took them.
      advantage: `[L, B]`, normalised if the algorithm does so.
      distribution: of the policy that is being changed, batch shape `[L, B]`. Gradients flow.
      old_distribution: of the policy that took the actions, batch shape `[L, B]`.
      transitions: the transitions of the minibatch.
      extras: name -> `[L, B]`, what `reward_fn` returned beside the reward.
    """

    log_prob: jax.Array
    old_log_prob: jax.Array
    advantage: jax.Array
    distribution: "Distribution"
    old_distribution: "Distribution"
    transitions: Transition
    extras: dict[str, jax.Array]


PolicyLoss = Callable[[PolicyBatch], jax.Array]
"""`(batch) -> loss [L, B]`, one number per sample."""


@checked
def per_sample(policy_loss: PolicyLoss, batch: PolicyBatch) -> jax.Array:
    """The loss of a minibatch, whose shape is checked: a mean in place of it would pass unnoticed.

    Args:
      policy_loss: `(batch) -> loss`.
      batch: the minibatch.

    Returns:
      `[L, B]`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the loss has another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.policy_losses import PolicyBatch, per_sample, surrogate_policy_loss
      >>> zero, two = jnp.zeros((1, 1)), 2 * jnp.ones((1, 1))
      >>> per_sample(surrogate_policy_loss, PolicyBatch(zero, zero, two, None, None, None, {})).tolist()
      [[-2.0]]
    """
    loss = policy_loss(batch)
    check_shapes(log_prob=batch.log_prob, **{"loss of policy_loss": loss})
    return loss


@checked
def surrogate_policy_loss(batch: PolicyBatch) -> jax.Array:
    """`surrogate_loss` of a minibatch, -ratio advantage.

    Args:
      batch: the minibatch.

    Returns:
      `[L, B]`.

    Raises:
      TypeError: `batch` is no `PolicyBatch`.
      ValueError: its arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.policy_losses import PolicyBatch, surrogate_policy_loss
      >>> zero, two = jnp.zeros((1, 1)), 2 * jnp.ones((1, 1))
      >>> surrogate_policy_loss(PolicyBatch(zero, zero, two, None, None, None, {})).tolist()
      [[-2.0]]
    """
    return surrogate_loss(batch.log_prob, batch.old_log_prob, batch.advantage)


@checked
def clip_policy_loss(batch: PolicyBatch, *, clip_eps: Positive) -> jax.Array:
    """`ppo_clip_loss` of a minibatch, -min(ratio advantage, clip(ratio, 1 - eps, 1 + eps) advantage).

    Args:
      batch: the minibatch.
      clip_eps: a positive number.

    Returns:
      `[L, B]`.

    Raises:
      TypeError: `batch` is no `PolicyBatch`.
      ValueError: its arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.policy_losses import PolicyBatch, clip_policy_loss
      >>> one = jnp.ones((1, 1))  # the ratio is e
      >>> batch = PolicyBatch(one, 0 * one, one, None, None, None, {})
      >>> round(float(clip_policy_loss(batch, clip_eps=0.2)[0, 0]), 3)
      -1.2
    """
    return ppo_clip_loss(batch.log_prob, batch.old_log_prob, batch.advantage, clip_eps=clip_eps)


@checked
def kl_penalty_policy_loss(batch: PolicyBatch, *, kl_coef: NotNegative) -> jax.Array:
    """`ppo_kl_penalty_loss` of a minibatch with the exact KL(old, new), -ratio advantage + kl_coef KL.

    Args:
      batch: the minibatch.
      kl_coef: a non-negative number.

    Returns:
      `[L, B]`.

    Raises:
      TypeError: `batch` is no `PolicyBatch`.
      ValueError: its arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.policy_losses import PolicyBatch, kl_penalty_policy_loss
      >>> import purejaxpg as pg
      >>> zero, even = jnp.zeros((1, 1)), pg.categorical(jnp.zeros((1, 1, 2)))
      >>> batch = PolicyBatch(zero, zero, zero + 2, even, even, None, {})
      >>> kl_penalty_policy_loss(batch, kl_coef=1.0).tolist()
      [[-2.0]]
    """
    kl = batch.old_distribution.kl_divergence(batch.distribution)
    return ppo_kl_penalty_loss(
        batch.log_prob, batch.old_log_prob, batch.advantage, kl, kl_coef=kl_coef
    )
