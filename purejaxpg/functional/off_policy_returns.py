"""Targets and advantages of a new policy from the data of an old one.

The conventions are those of `purejaxpg.functional.returns`; log_ratio_t = log pi_new(a_t | s_t) - log
pi_old(a_t | s_t), `[T, ...]`. A ratio counts as at most e^20, where one that is clipped has no gradient.
At log ratios of 0 each function is its namesake of `returns`.
"""

import jax
import jax.numpy as jnp

from purejaxpg.arguments import Clip, Fractions, checked
from purejaxpg.functional.ratios import clipped_ratio
from purejaxpg.functional.returns import check_rollout, cut_rows, sum_to_cut, td_targets


@checked
def per_decision_returns(
    reward: jax.Array,
    next_value: jax.Array,
    log_ratio: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions,
) -> jax.Array:
    """Monte Carlo returns of the new policy, G_t = ratio_t (r_t + discount G_{t+1}).

    Precup, Sutton and Singh 2000, "Eligibility traces for off-policy policy evaluation", eq. 4: every reward
    is weighed by the ratios up to it. An unbiased estimate of V_new(s_t), of high variance.

    Args:
      reward: `[T, ...]`, reward r_t of each step.
      next_value: `[T, ...]`, V(next_obs[t]); used where an episode is truncated and at the last row.
      log_ratio: `[T, ...]`, log new(a_t|s_t) - log old(a_t|s_t), in nats.
      terminated: `[T, ...]`, true where the task ended with this step.
      truncated: `[T, ...]`, true where a time limit cut the episode after this step.
      discount: discount factor, a real number in [0, 1] or an array of one per step.

    Returns:
      `[T, ...]`, in the units of the reward.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> ones, ends = jnp.ones(2), jnp.array([False, True])
      >>> twice = jnp.log(2 * ones)
      >>> pg.per_decision_returns(ones, ones, twice, ends, ends, discount=0.5).tolist()
      [4.0, 2.0]
    """
    check_rollout(
        reward=reward, next_value=next_value, log_ratio=log_ratio,
        terminated=terminated, truncated=truncated, discount=discount,
    )  # fmt: skip
    ratio, cut = clipped_ratio(log_ratio), cut_rows(terminated, truncated)
    target = td_targets(reward, jnp.where(cut, next_value, 0.0), terminated, discount=discount)
    return sum_to_cut(ratio * target, terminated, truncated, decay=ratio * discount)


@checked
def vtrace(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    log_ratio: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions = 0.99,
    lambda_: Fractions = 1.0,
    clip_rho: Clip = 1.0,
    clip_c: Clip = 1.0,
    clip_pg_rho: Clip = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """V-trace targets and policy-gradient advantages.

    Espeholt et al. 2018 (IMPALA), arXiv:1802.01561, section 4. With rho_t = min(clip_rho, ratio_t), c_t =
    lambda min(clip_c, ratio_t) and delta_t = rho_t (r_t + discount next_value_t - value_t),

        target_t = value_t + delta_t + discount c_t (target_{t+1} - value_{t+1}),
        advantage_t = min(clip_pg_rho, ratio_t) (r_t + discount next_t - value_t),

    next_t being (1 - lambda) next_value_t + lambda target_{t+1}, and next_value_t at a cut row. At ratio 1 the
    target is the lambda-return and the advantage GAE, if next_value_t = value_{t+1}. With infinite clips,
    lambda 1 and V = 0 the target is the per-decision return.

    Args:
      reward: `[T, ...]`, reward r_t of each step.
      value: `[T, ...]`, V(obs[t]).
      next_value: `[T, ...]`, V(next_obs[t]).
      log_ratio: `[T, ...]`, log new(a_t|s_t) - log old(a_t|s_t), in nats.
      terminated: `[T, ...]`, true where the task ended with this step.
      truncated: `[T, ...]`, true where a time limit cut the episode after this step.
      discount: Discount factor.
      lambda_: Lambda of generalised advantage estimation and of lambda-returns.
      clip_rho: Largest ratio in a TD error: decides what V is learnt. Positive, may be infinite.
      clip_c: Largest ratio that hands TD errors on: decides how fast. Positive, may be infinite.
      clip_pg_rho: Largest ratio in the advantage. Positive, may be infinite.

    Returns:
      `(advantage, value_target)`, `[T, ...]` each, in units of the reward.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> ones, ends = jnp.ones(2), jnp.array([False, True])
      >>> advantage, target = pg.vtrace(ones, 0 * ones, ones, jnp.log(ones / 2), ends, ends, discount=0.5)
      >>> advantage.tolist(), target.tolist()
      ([0.625, 0.5], [0.875, 0.5])
    """
    check_rollout(
        reward=reward, value=value, next_value=next_value, log_ratio=log_ratio,
        terminated=terminated, truncated=truncated, discount=discount, lambda_=lambda_,
    )  # fmt: skip
    delta = td_targets(reward, next_value, terminated, discount=discount) - value
    ends, decay = (terminated, truncated), lambda_ * discount * clipped_ratio(log_ratio, clip_c)
    target = value + sum_to_cut(clipped_ratio(log_ratio, clip_rho) * delta, *ends, decay=decay)
    later = (1.0 - lambda_) * next_value + lambda_ * jnp.roll(target, -1, axis=0)
    bootstrap = jnp.where(cut_rows(*ends), next_value, later)
    estimate = td_targets(reward, bootstrap, terminated, discount=discount)
    return clipped_ratio(log_ratio, clip_pg_rho) * (estimate - value), target


@checked
def retrace(
    reward: jax.Array,
    q_value: jax.Array,
    next_value: jax.Array,
    log_ratio: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions,
    lambda_: Fractions = 1.0,
) -> jax.Array:
    """Retrace(lambda) targets of action values.

    Munos et al. 2016, arXiv:1606.02647, eq. 3: target_t = Q_t + delta_t + discount c_{t+1} (target_{t+1} -
    Q_{t+1}), with delta_t = r_t + discount next_value_t - Q_t and c_t = lambda_t min(1, ratio_t). Safe for
    every pair of policies; at ratio 1 it is Q(lambda) without off-policy correction.

    Args:
      reward: `[T, ...]`, reward r_t of each step.
      q_value: `[T, ...]`, Q(s_t, a_t) of the action taken.
      next_value: `[T, ...]`, sum_a new(a|s_{t+1}) Q(s_{t+1}, a), of the observation before any reset.
      log_ratio: `[T, ...]`, log new(a_t|s_t) - log old(a_t|s_t), in nats.
      terminated: `[T, ...]`, true where the task ended with this step.
      truncated: `[T, ...]`, true where a time limit cut the episode after this step.
      discount: discount factor, a real number in [0, 1] or an array of one per step.
      lambda_: weight of longer returns, a real number in [0, 1] or an array; that of row t weighs TD errors
        from step t on in the targets before it.

    Returns:
      `[T, ...]`, targets of Q(s_t, a_t), in units of the reward.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> ones, ends = jnp.ones(2), jnp.array([False, True])
      >>> pg.retrace(ones, 0 * ones, 0 * ones, jnp.log(ones / 2), ends, ends, discount=0.5).tolist()
      [1.25, 1.0]
    """
    check_rollout(
        reward=reward, q_value=q_value, next_value=next_value, log_ratio=log_ratio,
        terminated=terminated, truncated=truncated, discount=discount, lambda_=lambda_,
    )  # fmt: skip
    delta = td_targets(reward, next_value, terminated, discount=discount) - q_value
    trace = lambda_ * clipped_ratio(log_ratio, 1.0)
    # The row that wraps around meets the cut of the last.
    decay = discount * jnp.roll(trace, -1, axis=0)
    return q_value + sum_to_cut(delta, terminated, truncated, decay=decay)
