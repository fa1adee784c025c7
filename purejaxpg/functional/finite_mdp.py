"""Exact values, returns and policy gradients of small Markov decision processes, by linear algebra.

A policy is an array `[S, A]` of probabilities. Everything differentiates and vmaps: the exact gradient of
the softmax policy with logits theta `[S, A]` is

    jax.grad(lambda theta: expected_return(mdp, jax.nn.softmax(theta), discount=0.99))(theta)

Results have the dtype of the arrays. Systems with a discount near 1 and long episodes are ill-conditioned:
in float32 about 1e-7 / (1 - discount) of a value is lost.

The examples are about a process of one state and two actions. Action 0 ("stay") gives reward 1 and goes on;
action 1 ("leave") gives reward 3 and ends the episode.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.types import Scalar


class FiniteMDP(NamedTuple):
    """Arrays of a Markov decision process with S states and A actions.

    Attributes:
      transition: `[S, A, S]`, probability of the next state s'. What a row lacks to 1 is the probability of
        termination; terminal states are none of the S.
      reward: `[S, A]`, expected reward of the step.
      start: `[S]`, distribution of the first state.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> mdp = pg.FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> mdp.reward.shape
      (1, 2)
    """

    transition: jax.Array
    reward: jax.Array
    start: jax.Array


def check(mdp: FiniteMDP, *, tolerance: float = 1e-5) -> FiniteMDP:
    """Check that the arrays of a process fit together. Not for traced arrays.

    Args:
      mdp: the process.
      tolerance: how far probabilities may be off, a non-negative number.

    Returns:
      `mdp` itself.

    Raises:
      ValueError: the shapes do not fit, a row of `transition` is negative or sums to more than 1, or
        `start` is no distribution.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, check
      >>> stay_or_leave = jnp.array([[[1.0], [0.0]]])
      >>> mdp = check(FiniteMDP(stay_or_leave, jnp.array([[1.0, 3.0]]), jnp.array([1.0])))
    """
    transition, reward, start = (np.asarray(x) for x in mdp)
    states, actions = reward.shape if reward.ndim == 2 else (0, 0)
    if states == 0 or transition.shape != (states, actions, states) or start.shape != (states,):
        raise ValueError(
            "A FiniteMDP needs transition [S, A, S], reward [S, A] and start [S], found "
            f"{transition.shape}, {reward.shape} and {start.shape}."
        )
    if transition.min() < -tolerance or transition.sum(-1).max() > 1 + tolerance:
        raise ValueError("Rows of transition must be probabilities that sum to at most 1.")
    if start.min() < -tolerance or abs(start.sum() - 1) > tolerance:
        raise ValueError("start must be probabilities that sum to 1.")
    return mdp


def state_values(mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar) -> jax.Array:
    """V, the solution of V = r_pi + discount P_pi V (Sutton and Barto 2018, eq. 3.14).

    Without a discount below 1 it exists only where every episode ends; elsewhere the result is not finite,
    or large and meaningless.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.

    Returns:
      `[S]`, in the units of the reward.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, state_values
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> state_values(mdp, jnp.array([[1.0, 0.0]]), discount=0.5).tolist()  # 1 + 1/2 + 1/4 + ...
      [2.0]
    """
    chain, reward = _chain(mdp, policy)
    return jnp.linalg.solve(jnp.eye(len(reward), dtype=reward.dtype) - discount * chain, reward)


def action_values(mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar) -> jax.Array:
    """Q, with Q(s, a) = r(s, a) + discount sum_s' P(s'|s, a) V(s').

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action after the first one, a.
      discount: discount factor, a real number in [0, 1]; may be traced.

    Returns:
      `[S, A]`, in the units of the reward.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, action_values
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> action_values(mdp, jnp.array([[1.0, 0.0]]), discount=0.5).tolist()
      [[2.0, 3.0]]
    """
    return mdp.reward + discount * mdp.transition @ state_values(mdp, policy, discount=discount)


def advantages(mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar) -> jax.Array:
    """A, with A(s, a) = Q(s, a) - V(s).

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.

    Returns:
      `[S, A]`, in the units of the reward.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, advantages
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> advantages(mdp, jnp.array([[1.0, 0.0]]), discount=0.5).tolist()
      [[0.0, 1.0]]
    """
    values = state_values(mdp, policy, discount=discount)
    return mdp.reward + discount * mdp.transition @ values - values[:, None]


def expected_return(mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar) -> jax.Array:
    """J, the expected discounted return of an episode: the mean of V over the first state.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.

    Returns:
      A scalar, in the units of the reward.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> mdp = pg.FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> float(pg.expected_return(mdp, jnp.array([[0.0, 1.0]]), discount=0.5))
      3.0
    """
    return mdp.start @ state_values(mdp, policy, discount=discount)


def state_visits(mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar) -> jax.Array:
    """d, with d(s) = sum_t discount^t P(s_t = s): the solution of d = start + discount P_pi^T d.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.

    Returns:
      `[S]`, the expected discounted number of visits in an episode; not normalised.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, state_visits
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> state_visits(mdp, jnp.array([[1.0, 0.0]]), discount=0.75).tolist()
      [4.0]
    """
    chain, reward = _chain(mdp, policy)
    eye = jnp.eye(len(reward), dtype=reward.dtype)
    return jnp.linalg.solve(eye - discount * chain.T, mdp.start)


def finite_horizon_values(
    mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar, horizon: int
) -> jax.Array:
    """V_k, the value with k steps left, from V_0 = 0 by dynamic programming.

    Nothing counts after the last step, as when a time limit is taken for the end of the task.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.
      horizon: the largest k, a static non-negative integer.

    Returns:
      `[horizon + 1, S]`, in the units of the reward.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, finite_horizon_values
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> finite_horizon_values(mdp, jnp.array([[1.0, 0.0]]), discount=0.5, horizon=2).tolist()
      [[0.0], [1.0], [1.5]]
    """
    chain, reward = _chain(mdp, policy)

    def one_more(value, _):
        value = reward + discount * chain @ value
        return value, value

    zero = jnp.zeros_like(reward)
    return jnp.concatenate([zero[None], jax.lax.scan(one_more, zero, length=horizon)[1]])


def finite_horizon_return(
    mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar, horizon: int
) -> jax.Array:
    """J_H, the expected discounted return of the first `horizon` steps of an episode.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.
      horizon: number of steps that count, a static non-negative integer.

    Returns:
      A scalar, in the units of the reward.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, finite_horizon_return
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> float(finite_horizon_return(mdp, jnp.array([[1.0, 0.0]]), discount=0.5, horizon=2))
      1.5
    """
    return mdp.start @ finite_horizon_values(mdp, policy, discount=discount, horizon=horizon)[-1]


def state_distributions(mdp: FiniteMDP, policy: jax.Array, *, horizon: int) -> jax.Array:
    """P(s_t = s) for t = 0, ..., horizon - 1.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      horizon: number of time steps, a static non-negative integer.

    Returns:
      `[horizon, S]`; row t sums to the probability that the episode has not terminated before step t.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, state_distributions
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> state_distributions(mdp, jnp.array([[0.5, 0.5]]), horizon=3).tolist()
      [[1.0], [0.5], [0.25]]
    """
    chain, _ = _chain(mdp, policy)
    return jax.lax.scan(lambda d, _: (d @ chain, d), mdp.start, length=horizon)[1]


def with_death(mdp: FiniteMDP, *, discount: Scalar) -> FiniteMDP:
    """Discounting as a death state: every step is followed by termination with probability 1 - discount.

    The undiscounted values of the new process are the discounted ones of the old process.

    Args:
      mdp: the process.
      discount: probability to survive a step, a real number in [0, 1]; may be traced.

    Returns:
      The process with `transition` multiplied by `discount`.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, state_values, with_death
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> state_values(with_death(mdp, discount=0.5), jnp.array([[1.0, 0.0]]), discount=1.0).tolist()
      [2.0]
    """
    return mdp._replace(transition=discount * mdp.transition)


def with_restart(mdp: FiniteMDP) -> FiniteMDP:
    """A continuing task: where an episode would terminate, the next one begins.

    Args:
      mdp: the process.

    Returns:
      The process in which what a row of `transition` lacks to 1 leads to the first state.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, with_restart
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> with_restart(mdp).transition.tolist()
      [[[1.0], [1.0]]]
    """
    ends = 1 - mdp.transition.sum(-1, keepdims=True)
    return mdp._replace(transition=mdp.transition + ends * mdp.start)


def with_action_noise(mdp: FiniteMDP, noise: jax.Array) -> FiniteMDP:
    """Where action a was chosen, action b is carried out with probability `noise[a, b]`.

    Args:
      mdp: the process in which the chosen action is carried out.
      noise: `[A, A]`, rows sum to 1.

    Returns:
      The process with `transition` and `reward` averaged over the action carried out.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, with_action_noise
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> with_action_noise(mdp, jnp.array([[0.5, 0.5], [0.0, 1.0]])).reward.tolist()
      [[2.0, 3.0]]
    """
    return mdp._replace(
        transition=jnp.einsum("ab,sbt->sat", noise, mdp.transition), reward=mdp.reward @ noise.T
    )


def _chain(mdp: FiniteMDP, policy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """P_pi `[S, S]` and r_pi `[S]`."""
    transition = jnp.einsum("sa,sat->st", policy, mdp.transition)
    return transition, jnp.sum(policy * mdp.reward, axis=-1)
