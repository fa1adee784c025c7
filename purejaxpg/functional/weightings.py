"""How old data count in the policy gradient of a new policy: estimators of one signature.

`(reward, value, next_value, log_ratio, terminated, truncated) -> (weighted advantage, value_target)`, all
`[T, ...]`. The gradient of `policy_gradient_loss(log_prob, weighted advantage)` is then an estimate of the
policy gradient of the *new* policy, log_ratio being log new(a|s) - log old(a|s) and the data those of the old
one. An algorithm takes a `partial` with the hyperparameters filled in; `vtrace` has this signature too. At log
ratios of 0 each is REINFORCE. Weights count as at most e^20, so that nothing overflows: for estimates as such
use `importance_sampling` on logarithms.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from purejaxpg.arguments import Fractions, Positive, check_shapes, checked
from purejaxpg.functional.importance_sampling import (
    per_decision_log_weights,
    self_normalized_by_age,
    trajectory_log_weights,
)
from purejaxpg.functional.off_policy_returns import per_decision_returns
from purejaxpg.functional.ratios import MAX_LOG_RATIO, clipped_ratio
from purejaxpg.functional.returns import check_rollout, cut_rows, discounted_returns


class WeightingFn(Protocol):
    """What data of an old policy count for under a new one, with its hyperparameters filled in."""

    def __call__(
        self,
        reward: jax.Array,
        value: jax.Array,
        next_value: jax.Array,
        log_ratio: jax.Array,
        terminated: jax.Array,
        truncated: jax.Array,
        /,
    ) -> tuple[jax.Array, jax.Array]:
        """Weighted advantages and value targets of a rollout.

        Args:
          reward: `[T, ...]`.
          value: `[T, ...]`, V(obs[t]).
          next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
          log_ratio: `[T, ...]`, log new(a_t|s_t) - log old(a_t|s_t), in nats.
          terminated: `[T, ...]` boolean, true where the task ended.
          truncated: `[T, ...]` boolean, true where a time limit cut the episode.

        Returns:
          `(weighted advantage, value_target)`, `[T, ...]` each.
        """


@checked
def unweighted(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    log_ratio: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions = 0.99,
) -> tuple[jax.Array, jax.Array]:
    """G_t - V(s_t), as if the data were the new policy's: several steps of REINFORCE on one rollout.

    Args:
      reward: `[T, ...]`.
      value: `[T, ...]`, V(obs[t]).
      next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
      log_ratio: `[T, ...]`, not used.
      terminated: `[T, ...]` boolean, true where the task ended.
      truncated: `[T, ...]` boolean, true where a time limit cut the episode.
      discount: Discount factor.

    Returns:
      `(weighted advantage, value_target)`, `[T, ...]` each, in units of the reward; the target is G_t.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.weightings import unweighted
      >>> ones, ends = jnp.ones(2), jnp.array([False, True])
      >>> unweighted(ones, ones, ones, ones, ends, ends, discount=0.5)[0].tolist()
      [0.5, 0.0]
    """
    check_shapes(reward=reward, value=value, log_ratio=log_ratio)
    returns = discounted_returns(reward, next_value, terminated, truncated, discount=discount)
    return returns - value, returns


@checked
def per_step_weighting(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    log_ratio: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions = 0.99,
    max_weight: Positive | None = None,
) -> tuple[jax.Array, jax.Array]:
    """ratio_t (G_t - V(s_t)): corrects the action, but neither the states nor what came afterwards.

    The gradient of the surrogate of TRPO and PPO (Schulman et al. 2015, arXiv:1502.05477, eq. 14): right to
    first order around the old policy. Its variance does not grow with time, its bias does with the step.

    Args:
      reward: `[T, ...]`.
      value: `[T, ...]`, V(obs[t]).
      next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
      log_ratio: `[T, ...]`, log new(a_t|s_t) - log old(a_t|s_t), in nats.
      terminated: `[T, ...]` boolean, true where the task ended.
      truncated: `[T, ...]` boolean, true where a time limit cut the episode.
      discount: Discount factor.
      max_weight: Largest weight; None for none below e^20.

    Returns:
      `(weighted advantage, value_target)`, `[T, ...]` each, in units of the reward; the target is G_t.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.weightings import per_step_weighting
      >>> ones, ends, twice = jnp.ones(2), jnp.array([False, True]), jnp.log(jnp.full(2, 2.0))
      >>> per_step_weighting(ones, 0 * ones, ones, twice, ends, ends, discount=0.5)[0].tolist()
      [3.0, 2.0]
    """
    advantage, target = unweighted(
        reward, value, next_value, log_ratio, terminated, truncated, discount=discount
    )
    return clipped_ratio(log_ratio, max_weight) * advantage, target


@checked
def trajectory_weighting(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    log_ratio: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions = 0.99,
    reward_to_go: bool = True,
    max_weight: Positive | None = None,
    self_normalize: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """w (G_t - V(s_t)), w the product of all ratios of the episode: the lecture's off-policy gradient.

    Unbiased, with a variance that grows exponentially with the length of the episode.

    Args:
      reward: `[T, ...]`.
      value: `[T, ...]`, V(obs[t]).
      next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
      log_ratio: `[T, ...]`, log new(a_t|s_t) - log old(a_t|s_t), in nats.
      terminated: `[T, ...]` boolean, true where the task ended.
      truncated: `[T, ...]` boolean, true where a time limit cut the episode.
      discount: Discount factor.
      reward_to_go: Weigh a step by what came after it, not by the return of the whole episode.
      max_weight: Largest weight; None for none below e^20.
      self_normalize: Divide weights by their mean over episodes, before they are clipped.

    Returns:
      `(weighted advantage, value_target)`, `[T, ...]` each, in units of the reward; the target is G_t.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.weightings import trajectory_weighting
      >>> ones, ends, twice = jnp.ones(2), jnp.array([False, True]), jnp.log(jnp.full(2, 2.0))
      >>> trajectory_weighting(ones, 0 * ones, ones, twice, ends, ends, discount=0.5)[0].tolist()
      [6.0, 4.0]
    """
    advantage, target = unweighted(
        reward, value, next_value, log_ratio, terminated, truncated, discount=discount
    )
    ends = terminated, truncated
    if not reward_to_go:
        advantage = _of_first_step(advantage, cut_rows(*ends))
    log_weight = trajectory_log_weights(log_ratio, *ends)
    return _weights(log_weight, ends, max_weight, self_normalize) * advantage, target


@checked
def per_decision_weighting(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    log_ratio: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions = 0.99,
    max_weight: Positive | None = None,
    self_normalize: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """sum_{u >= t} discount^{u-t} w_u r_u - w_t V(s_t), w_u the product of the ratios up to step u.

    Every reward has the ratios of the actions that led to it (Precup, Sutton and Singh 2000). Unbiased, of
    less variance than with the weights of whole trajectories.

    Args:
      reward: `[T, ...]`.
      value: `[T, ...]`, V(obs[t]).
      next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
      log_ratio: `[T, ...]`, log new(a_t|s_t) - log old(a_t|s_t), in nats.
      terminated: `[T, ...]` boolean, true where the task ended.
      truncated: `[T, ...]` boolean, true where a time limit cut the episode.
      discount: Discount factor.
      max_weight: Largest weight; None for none below e^20.
      self_normalize: Divide weights by their mean over episodes of that age, before they are clipped.

    Returns:
      `(weighted advantage, value_target)`, `[T, ...]` each, in units of the reward; the target is the
      per-decision return from s_t on.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.weightings import per_decision_weighting
      >>> ones, ends, twice = jnp.ones(2), jnp.array([False, True]), jnp.log(jnp.full(2, 2.0))
      >>> per_decision_weighting(ones, 0 * ones, ones, twice, ends, ends, discount=0.5)[0].tolist()
      [4.0, 4.0]
    """
    check_rollout(reward=reward, value=value, next_value=next_value, log_ratio=log_ratio)
    ends = terminated, truncated
    log_weight = per_decision_log_weights(log_ratio, *ends)
    weight = _weights(log_weight, ends, max_weight, self_normalize)
    cut = jnp.where(cut_rows(*ends), next_value, 0.0)
    returns = discounted_returns(weight * reward, weight * cut, *ends, discount=discount)
    target = per_decision_returns(reward, next_value, log_ratio, *ends, discount=discount)
    return returns - weight * value, target


def _weights(
    log_weight: jax.Array,
    ends: tuple[jax.Array, jax.Array],
    max_weight: Positive | None,
    self_normalize: bool,
) -> jax.Array:
    if not self_normalize:
        return clipped_ratio(log_weight, max_weight)
    weight = self_normalized_by_age(log_weight, *ends)
    return jnp.minimum(weight, jnp.exp(MAX_LOG_RATIO) if max_weight is None else max_weight)


def _of_first_step(x: jax.Array, cut: jax.Array) -> jax.Array:
    """What x is where the episode begins."""
    row = jnp.arange(len(x)).reshape(-1, *(1,) * (x.ndim - 1))
    starts = jnp.where(jnp.roll(cut, 1, axis=0), row, 0)
    return jnp.take_along_axis(x, jax.lax.cummax(starts, axis=0), axis=0)
