"""Estimators of one signature: from a rollout and its values to advantages and value targets.

`(reward, value, next_value, terminated, truncated) -> (advantage, value_target)`, all `[T, ...]`; the
recursions are those of `purejaxpg.functional.returns`, and so are the conventions of time limits. An algorithm
takes a `partial` with the hyperparameters filled in, `partial(n_step_advantage, discount=0.99, n=5)` for
example. Defaults are the usual ones. Gradients flow through all real arguments; the losses stop them.
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from purejaxpg.arguments import Count, Fractions, check_shapes, checked
from purejaxpg.functional.diagnostics import shift
from purejaxpg.functional.returns import (
    discounted_returns,
    gae,
    lambda_returns,
    n_step_returns,
    td_targets,
)


class AdvantageFn(Protocol):
    """An estimator of advantages and value targets, with its hyperparameters filled in."""

    def __call__(
        self,
        reward: jax.Array,
        value: jax.Array,
        next_value: jax.Array,
        terminated: jax.Array,
        truncated: jax.Array,
        /,
    ) -> tuple[jax.Array, jax.Array]:
        """Advantages and value targets of a rollout.

        Args:
          reward: `[T, ...]`.
          value: `[T, ...]`, V(obs[t]).
          next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
          terminated: `[T, ...]` boolean, true where the task ended.
          truncated: `[T, ...]` boolean, true where a time limit cut the episode.

        Returns:
          `(advantage, value_target)`, `[T, ...]` each.
        """


@checked
def td_advantage(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions = 0.99,
) -> tuple[jax.Array, jax.Array]:
    """One step: target r_t + discount V(s_{t+1}), advantage target - V(s_t).

    Sutton and Barto 2018, eq. 6.2. Low variance; biased as far as V is wrong.

    Args:
      reward: `[T, ...]`.
      value: `[T, ...]`, V(obs[t]).
      next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
      terminated: `[T, ...]` boolean, true where the task ended.
      truncated: `[T, ...]` boolean, true where a time limit cut the episode; not used.
      discount: Discount factor.

    Returns:
      `(advantage, value_target)`, `[T, ...]` each, in units of the reward.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> zeros = jnp.zeros(2)
      >>> advantage, target = pg.td_advantage(zeros + 1, zeros + 3, zeros + 2, zeros, zeros, discount=0.5)
      >>> advantage.tolist(), target.tolist()
      ([-1.0, -1.0], [2.0, 2.0])
    """
    check_shapes(reward=reward, value=value, truncated=truncated)
    target = td_targets(reward, next_value, terminated, discount=discount)
    return target - value, target


@checked
def n_step_advantage(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions = 0.99,
    n: Count = 5,
) -> tuple[jax.Array, jax.Array]:
    """n rewards, then V: the target is the n-step return, the advantage is target - V(s_t).

    Sutton and Barto 2018, eq. 7.1. n = 1 is `td_advantage`, n >= T is `monte_carlo_advantage`.

    Args:
      reward: `[T, ...]`.
      value: `[T, ...]`, V(obs[t]).
      next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
      terminated: `[T, ...]` boolean, true where the task ended.
      truncated: `[T, ...]` boolean, true where a time limit cut the episode.
      discount: Discount factor.
      n: Rewards in an n-step return.

    Returns:
      `(advantage, value_target)`, `[T, ...]` each, in units of the reward.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> zeros = jnp.zeros(3)
      >>> _, target = pg.n_step_advantage(zeros + 1, zeros, zeros + 8, zeros, zeros, discount=0.5, n=2)
      >>> target.tolist()
      [3.5, 3.5, 5.0]
    """
    check_shapes(reward=reward, value=value)
    target = n_step_returns(reward, next_value, terminated, truncated, discount=discount, n=n)
    return target - value, target


@checked
def lambda_advantage(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions = 0.99,
    lambda_: Fractions = 0.95,
) -> tuple[jax.Array, jax.Array]:
    """All n-step returns, weighted by (1 - lambda) lambda^{n-1}: the lambda-return, and that minus V(s_t).

    Sutton and Barto 2018, eq. 12.9. lambda = 0 is `td_advantage`, lambda = 1 is `monte_carlo_advantage`.

    Args:
      reward: `[T, ...]`.
      value: `[T, ...]`, V(obs[t]).
      next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
      terminated: `[T, ...]` boolean, true where the task ended.
      truncated: `[T, ...]` boolean, true where a time limit cut the episode.
      discount: Discount factor.
      lambda_: Lambda of generalised advantage estimation and of lambda-returns.

    Returns:
      `(advantage, value_target)`, `[T, ...]` each, in units of the reward.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> zeros = jnp.zeros(2)
      >>> rollout = zeros + 1, zeros, zeros + 4, zeros, zeros
      >>> _, target = pg.lambda_advantage(*rollout, discount=0.5, lambda_=0.5)
      >>> target.tolist()
      [2.75, 3.0]
    """
    check_shapes(reward=reward, value=value)
    target = lambda_returns(
        reward, next_value, terminated, truncated, discount=discount, lambda_=lambda_
    )
    return target - value, target


@checked
def monte_carlo_advantage(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions = 0.99,
) -> tuple[jax.Array, jax.Array]:
    """All rewards up to the end of the episode: the discounted return, and that minus V(s_t).

    Sutton and Barto 2018, eq. 3.9. V counts only where a time limit or the end of the rollout cut the episode.
    No bias but from there; high variance.

    Args:
      reward: `[T, ...]`.
      value: `[T, ...]`, V(obs[t]).
      next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
      terminated: `[T, ...]` boolean, true where the task ended.
      truncated: `[T, ...]` boolean, true where a time limit cut the episode.
      discount: Discount factor.

    Returns:
      `(advantage, value_target)`, `[T, ...]` each, in units of the reward.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> zeros = jnp.zeros(3)
      >>> _, target = pg.monte_carlo_advantage(zeros + 1, zeros, zeros + 8, zeros, zeros, discount=0.5)
      >>> target.tolist()
      [2.75, 3.5, 5.0]
    """
    check_shapes(reward=reward, value=value)
    target = discounted_returns(reward, next_value, terminated, truncated, discount=discount)
    return target - value, target


@checked
def gae_advantage(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: Fractions = 0.99,
    gae_lambda: Fractions = 0.95,
) -> tuple[jax.Array, jax.Array]:
    """Generalised advantage estimates; the value target is advantage + V(s_t).

    Schulman et al. 2016, arXiv:1506.02438, eq. 16. The same as `lambda_advantage` where next_value_t is
    value_{t+1} unless the episode was cut.

    Args:
      reward: `[T, ...]`.
      value: `[T, ...]`, V(obs[t]).
      next_value: `[T, ...]`, V(next_obs[t]) of the observation before any reset.
      terminated: `[T, ...]` boolean, true where the task ended.
      truncated: `[T, ...]` boolean, true where a time limit cut the episode.
      discount: Discount factor.
      gae_lambda: Lambda of generalised advantage estimation and of lambda-returns.

    Returns:
      `(advantage, value_target)`, `[T, ...]` each, in units of the reward. Advantages are not normalised.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> zeros = jnp.zeros(2)
      >>> rollout = zeros + 1, zeros + 4, zeros + 4, zeros, zeros
      >>> advantage, target = pg.gae_advantage(*rollout, discount=0.5, gae_lambda=0.5)
      >>> advantage.tolist(), target.tolist()
      ([-1.25, -1.0], [2.75, 3.0])
    """
    advantage = gae(
        reward, value, next_value, terminated, truncated, discount=discount, gae_lambda=gae_lambda
    )
    return advantage, advantage + value


@checked
def with_target_of(advantage_fn: AdvantageFn, target_fn: AdvantageFn) -> AdvantageFn:
    """The advantage of one estimator beside the value target of another, e.g. that of Monte Carlo.

    Args:
      advantage_fn: the estimator whose advantages are taken.
      target_fn: the estimator whose value targets are taken.

    Returns:
      An estimator of the same signature.

    Raises:
      TypeError: an argument is no function.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> zeros = jnp.zeros(2)
      >>> both = pg.with_target_of(pg.td_advantage, pg.monte_carlo_advantage)
      >>> advantage, target = both(zeros + 1, zeros, zeros, zeros, zeros)
      >>> advantage.tolist(), round(float(target[0]), 2)
      ([1.0, 1.0], 1.99)
    """

    def both(*rollout: jax.Array) -> tuple[jax.Array, jax.Array]:
        return advantage_fn(*rollout)[0], target_fn(*rollout)[1]

    return both


@checked
def normalize(advantage: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Shift and scale to mean 0 and standard deviation 1 over the samples that count; constants become 0.

    Args:
      advantage: an array of any shape.
      where: boolean of the same shape: the samples that the mean and the standard deviation are taken over;
        all if None. The others may be anything, and are shifted and scaled alike. Without any that count all
        are NaN.

    Returns:
      `(advantage - mean) / (standard deviation + 1e-8)`, of the same shape.

    Raises:
      TypeError: an argument is no array.
      ValueError: there are no samples, or `where` has another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.advantages import normalize
      >>> normalize(jnp.array([1.0, 3.0])).tolist(), normalize(jnp.array([0.1, 0.1])).tolist()
      ([-1.0, 1.0], [0.0, 0.0])
    """
    if where is not None:
        check_shapes(advantage=advantage, where=where)
    advantage = shift(advantage, where)
    mean, deviation = jnp.mean(advantage, where=where), jnp.std(advantage, where=where)
    return (advantage - mean) / (deviation + 1e-8)
