"""Estimators of one signature: from a rollout and its values to an advantage and a value target.

`(reward, value, next_value, terminated, truncated) -> (advantage, value_target)`, all `[T, ...]`; see
`purejaxpg.functional.returns` for the arguments. `partial(n_step_advantage, discount=0.99, n=5)` is what an
algorithm takes. But for `gae_advantage` the advantage is target - value, for the targets of Sutton and
Barto 2018:
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from purejaxpg.functional.diagnostics import shift
from purejaxpg.functional.returns import (
    discounted_returns,
    gae,
    lambda_returns,
    n_step_returns,
    td_targets,
)
from purejaxpg.types import Scalar

AdvantageFn = Callable[..., tuple[jax.Array, jax.Array]]


def td_advantage(reward, value, next_value, terminated, truncated, *, discount: Scalar):
    """One step (eq. 6.2): target r_t + discount V(s_{t+1}). Low variance; biased as far as V is wrong."""
    target = td_targets(reward, next_value, terminated, discount=discount)
    return target - value, target


def n_step_advantage(reward, value, next_value, terminated, truncated, *, discount: Scalar, n: int):
    """n rewards, then V (eq. 7.1). n = 1 is `td_advantage`, n >= T `monte_carlo_advantage`."""
    target = n_step_returns(reward, next_value, terminated, truncated, discount=discount, n=n)
    return target - value, target


def lambda_advantage(
    reward, value, next_value, terminated, truncated, *, discount: Scalar, lambda_: Scalar
):
    """All n-step targets, weighted by (1 - lambda) lambda^{n-1} (eq. 12.9)."""
    target = lambda_returns(
        reward, next_value, terminated, truncated, discount=discount, lambda_=lambda_
    )
    return target - value, target


def monte_carlo_advantage(reward, value, next_value, terminated, truncated, *, discount: Scalar):
    """All rewards up to the end of the episode (eq. 3.9), V only where a time limit or the rollout cut it."""
    target = discounted_returns(reward, next_value, terminated, truncated, discount=discount)
    return target - value, target


def gae_advantage(
    reward, value, next_value, terminated, truncated, *, discount: Scalar, gae_lambda: Scalar
):
    """Generalized advantage estimates (arXiv:1506.02438, eq. 16); the target is advantage + value.

    The same as `lambda_advantage` where next_value_t = value_{t+1} unless cut.
    """
    advantage = gae(
        reward, value, next_value, terminated, truncated, discount=discount, gae_lambda=gae_lambda
    )
    return advantage, advantage + value


def with_target_of(advantage_fn: AdvantageFn, target_fn: AdvantageFn) -> AdvantageFn:
    """The advantage of one estimator beside the value target of another, e.g. of Monte Carlo."""

    def both(*rollout):
        return advantage_fn(*rollout)[0], target_fn(*rollout)[1]

    return both


def normalize(advantage: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Shift and scale to mean 0 and standard deviation 1 over all samples; constants become 0.

    Args:
      where: the samples that the mean and deviation are of; all if None. Without any they are NaN.
    """
    advantage = shift(advantage)
    mean, deviation = jnp.mean(advantage, where=where), jnp.std(advantage, where=where)
    return (advantage - mean) / (deviation + 1e-8)
