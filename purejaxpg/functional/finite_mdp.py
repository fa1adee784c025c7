"""Exact values, returns and policy gradients of small Markov decision processes, by linear algebra.

A policy is an array `[S, A]` of probabilities. Where arrays are not traced, a policy or a process whose rows
are no probabilities raises ValueError. Everything differentiates and vmaps: the exact gradient of the softmax
policy with logits theta `[S, A]` is

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

from purejaxpg.arguments import Fraction, NotNegative, Steps, checked
from purejaxpg.arguments import check as check_kind


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


@checked
def check(mdp: FiniteMDP, *, tolerance: NotNegative = 1e-5) -> FiniteMDP:
    """Check that the arrays of a process fit together. Not for traced arrays.

    Args:
      mdp: the process.
      tolerance: how far probabilities may be off, a non-negative number.

    Returns:
      `mdp` itself.

    Raises:
      TypeError: `mdp` is no `FiniteMDP` of arrays.
      ValueError: the shapes do not fit, a row of `transition` is negative or sums to more than 1, or
        `start` is no distribution.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, check
      >>> stay_or_leave = jnp.array([[[1.0], [0.0]]])
      >>> mdp = check(FiniteMDP(stay_or_leave, jnp.array([[1.0, 3.0]]), jnp.array([1.0])))
    """
    _check_shapes(mdp)
    transition, reward, start = (np.asarray(x) for x in mdp)
    if not (transition.min() >= -tolerance and transition.sum(-1).max() <= 1 + tolerance):
        raise ValueError("Rows of transition must be probabilities that sum to at most 1.")
    if not np.isfinite(reward).all():
        raise ValueError("reward must be finite.")
    if not (start.min() >= -tolerance and abs(start.sum() - 1) <= tolerance):
        raise ValueError("start must be probabilities that sum to 1.")
    return mdp


@checked
def state_values(mdp: FiniteMDP, policy: jax.Array, *, discount: Fraction) -> jax.Array:
    """V, the solution of V = r_pi + discount P_pi V (Sutton and Barto 2018, eq. 3.14).

    Without a discount below 1 it exists only where every episode ends; elsewhere the result is not finite,
    or large and meaningless.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.

    Returns:
      `[S]`, in the units of the reward.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, state_values
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> state_values(mdp, jnp.array([[1.0, 0.0]]), discount=0.5).tolist()  # 1 + 1/2 + 1/4 + ...
      [2.0]
    """
    chain, reward = _chain(mdp, policy)
    return jnp.linalg.solve(jnp.eye(len(reward), dtype=reward.dtype) - discount * chain, reward)


@checked
def action_values(mdp: FiniteMDP, policy: jax.Array, *, discount: Fraction) -> jax.Array:
    """Q, with Q(s, a) = r(s, a) + discount sum_s' P(s'|s, a) V(s').

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action after the first one, a.
      discount: discount factor, a real number in [0, 1]; may be traced.

    Returns:
      `[S, A]`, in the units of the reward.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, action_values
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> action_values(mdp, jnp.array([[1.0, 0.0]]), discount=0.5).tolist()
      [[2.0, 3.0]]
    """
    return mdp.reward + discount * mdp.transition @ state_values(mdp, policy, discount=discount)


@checked
def advantages(mdp: FiniteMDP, policy: jax.Array, *, discount: Fraction) -> jax.Array:
    """A, with A(s, a) = Q(s, a) - V(s).

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.

    Returns:
      `[S, A]`, in the units of the reward.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, advantages
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> advantages(mdp, jnp.array([[1.0, 0.0]]), discount=0.5).tolist()
      [[0.0, 1.0]]
    """
    values = state_values(mdp, policy, discount=discount)
    return mdp.reward + discount * mdp.transition @ values - values[:, None]


@checked
def expected_return(mdp: FiniteMDP, policy: jax.Array, *, discount: Fraction) -> jax.Array:
    """J, the expected discounted return of an episode: the mean of V over the first state.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.

    Returns:
      A scalar, in the units of the reward.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> mdp = pg.FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> float(pg.expected_return(mdp, jnp.array([[0.0, 1.0]]), discount=0.5))
      3.0
    """
    return mdp.start @ state_values(mdp, policy, discount=discount)


@checked
def state_visits(mdp: FiniteMDP, policy: jax.Array, *, discount: Fraction) -> jax.Array:
    """d, with d(s) = sum_t discount^t P(s_t = s): the solution of d = start + discount P_pi^T d.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.

    Returns:
      `[S]`, the expected discounted number of visits in an episode; not normalised.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

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


@checked
def finite_horizon_values(
    mdp: FiniteMDP, policy: jax.Array, *, discount: Fraction, horizon: Steps
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

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

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


@checked
def finite_horizon_return(
    mdp: FiniteMDP, policy: jax.Array, *, discount: Fraction, horizon: Steps
) -> jax.Array:
    """J_H, the expected discounted return of the first `horizon` steps of an episode.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      discount: discount factor, a real number in [0, 1]; may be traced.
      horizon: number of steps that count, a static non-negative integer.

    Returns:
      A scalar, in the units of the reward.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, finite_horizon_return
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> float(finite_horizon_return(mdp, jnp.array([[1.0, 0.0]]), discount=0.5, horizon=2))
      1.5
    """
    return mdp.start @ finite_horizon_values(mdp, policy, discount=discount, horizon=horizon)[-1]


@checked
def state_distributions(mdp: FiniteMDP, policy: jax.Array, *, horizon: Steps) -> jax.Array:
    """P(s_t = s) for t = 0, ..., horizon - 1.

    Args:
      mdp: the process.
      policy: `[S, A]`, probability of each action.
      horizon: number of time steps, a static non-negative integer.

    Returns:
      `[horizon, S]`; row t sums to the probability that the episode has not terminated before step t.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, state_distributions
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> state_distributions(mdp, jnp.array([[0.5, 0.5]]), horizon=3).tolist()
      [[1.0], [0.5], [0.25]]
    """
    chain, _ = _chain(mdp, policy)
    return jax.lax.scan(lambda d, _: (d @ chain, d), mdp.start, length=horizon)[1]


@checked
def with_death(mdp: FiniteMDP, *, discount: Fraction) -> FiniteMDP:
    """Discounting as a death state: every step is followed by termination with probability 1 - discount.

    The undiscounted values of the new process are the discounted ones of the old process.

    Args:
      mdp: the process.
      discount: probability to survive a step, a real number in [0, 1]; may be traced.

    Returns:
      The process with `transition` multiplied by `discount`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or the arrays are no process.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, state_values, with_death
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> state_values(with_death(mdp, discount=0.5), jnp.array([[1.0, 0.0]]), discount=1.0).tolist()
      [2.0]
    """
    _check(mdp)
    return mdp._replace(transition=discount * mdp.transition)


@checked
def with_restart(mdp: FiniteMDP) -> FiniteMDP:
    """A continuing task: where an episode would terminate, the next one begins.

    Args:
      mdp: the process.

    Returns:
      The process in which what a row of `transition` lacks to 1 leads to the first state.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or the arrays are no process.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, with_restart
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> with_restart(mdp).transition.tolist()
      [[[1.0], [1.0]]]
    """
    _check(mdp)
    ends = 1 - mdp.transition.sum(-1, keepdims=True)
    return mdp._replace(transition=mdp.transition + ends * mdp.start)


@checked
def with_action_noise(mdp: FiniteMDP, noise: jax.Array) -> FiniteMDP:
    """Where action a was chosen, action b is carried out with probability `noise[a, b]`.

    Args:
      mdp: the process in which the chosen action is carried out.
      noise: `[A, A]`, rows sum to 1.

    Returns:
      The process with `transition` and `reward` averaged over the action carried out.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or arrays do not fit together or are no probabilities.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.finite_mdp import FiniteMDP, with_action_noise
      >>> mdp = FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> with_action_noise(mdp, jnp.array([[0.5, 0.5], [0.0, 1.0]])).reward.tolist()
      [[2.0, 3.0]]
    """
    _check(mdp)
    _check_rows("noise", noise, "[A, A]", 2 * mdp.reward.shape[1:])
    return mdp._replace(
        transition=jnp.einsum("ab,sbt->sat", noise, mdp.transition), reward=mdp.reward @ noise.T
    )


def _chain(mdp: FiniteMDP, policy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """P_pi `[S, S]` and r_pi `[S]`. Refuses what are no probabilities, where arrays are not traced."""
    _check(mdp)
    _check_rows("policy", policy, "[S, A]", mdp.reward.shape)
    transition = jnp.einsum("sa,sat->st", policy, mdp.transition)
    return transition, jnp.sum(policy * mdp.reward, axis=-1)


def _check(mdp: FiniteMDP) -> None:
    """`check`, of the shapes alone where arrays are traced."""
    if any(isinstance(x, jax.core.Tracer) for x in mdp):
        _check_shapes(mdp)
    else:
        check(mdp)


def _check_shapes(mdp: FiniteMDP) -> None:
    for name, x in mdp._asdict().items():
        check_kind(f"{name} of a FiniteMDP", x, jax.Array)
    transition, reward, start = (x.shape for x in mdp)
    if len(reward) != 2 or 0 in reward or transition != (*reward, reward[0]) or start != reward[:1]:
        raise ValueError(
            "A FiniteMDP needs transition [S, A, S], reward [S, A] and start [S], not shapes "
            f"{transition}, {reward} and {start}."
        )


def _check_rows(name: str, rows: jax.Array, axes: str, shape: tuple[int, ...]) -> None:
    """Refuse rows of another shape, or that are no probabilities where they are not traced."""
    if rows.shape != shape:
        raise ValueError(
            f"{name} needs probabilities {axes} = {shape}, not an array of shape {rows.shape}."
        )
    if not isinstance(rows, jax.core.Tracer):
        host = np.asarray(rows)
        if not (host >= -1e-5).all() or not (abs(host.sum(-1) - 1) < 1e-4).all():
            raise ValueError(f"Rows of {name} must be probabilities that sum to 1.")
