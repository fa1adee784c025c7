"""Exact answers of the study of importance sampling, in float64: policies, moments of weights, bias, variance.

The process is FourRooms with restart: an episode never ends before its horizon, since an absorbing end
would let weights stop growing. It begins in any state, so that rewards are near from the first step on.
Policies are tables `[S, A]`.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

import purejaxpg as pg
from purejaxpg.functional import finite_mdp, finite_mdp_weights

LONGEST = 1000
"""Steps within which trajectories have lost their worth."""
Moments = tuple[float, float]
"""Mean and standard deviation of an estimate from one episode."""


class Pair(NamedTuple):
    """The policy that acted, and a new one whose return is asked for."""

    old: np.ndarray
    new: np.ndarray


def restarting_rooms() -> pg.FiniteMDP:
    """FourRooms, where the goal leads back to the first state, begun in any state; in float64."""
    rooms = [np.asarray(x, np.float64) for x in pg.four_rooms().mdp]
    with jax.enable_x64(True):
        mdp = finite_mdp.with_restart(pg.FiniteMDP(*map(jnp.asarray, rooms)))
    start: Any = np.full(len(mdp.start), 1 / len(mdp.start))
    transition, reward = jax.tree.map(np.asarray, mdp[:2])
    return pg.FiniteMDP(transition, reward, start)


def exactly(
    function: Callable, mdp: pg.FiniteMDP, *policies: np.ndarray, **options: Any
) -> np.ndarray:
    """A function of `finite_mdp` or `finite_mdp_weights` in float64."""
    with jax.enable_x64(True):
        arrays = pg.FiniteMDP(*map(jnp.asarray, mdp))
        return np.asarray(_compiled(function)(arrays, *map(jnp.asarray, policies), **options))


@cache
def _compiled(function: Callable) -> Callable:
    """One program for all policies."""
    static = inspect.signature(function).parameters.keys() & {"horizon", "power"}
    return jax.jit(function, static_argnames=tuple(static))


def divergence(mdp: pg.FiniteMDP, pair: Pair) -> float:
    """KL(old, new), averaged over the steps that the old policy makes in the long run, in nats."""
    in_states = np.sum(pair.old * np.log(pair.old / pair.new), axis=-1)
    return float(exactly(finite_mdp_weights.stationary_distribution, mdp, pair.old) @ in_states)


def step_along(mdp: pg.FiniteMDP, logits: np.ndarray, direction: np.ndarray, kl: float) -> Pair:
    """The step from the policy of these logits along a direction, as long as KL(old, new) says."""
    old = softmax(logits, axis=-1)
    visits = exactly(finite_mdp_weights.stationary_distribution, mdp, old)

    def excess(size: float) -> float:
        new = softmax(logits + size * direction, axis=-1)
        return float(visits @ np.sum(old * np.log(old / new), axis=-1)) - kl

    longest = 1.0
    while excess(longest) < 0:
        longest *= 2
    size = brentq(excess, 0.0, longest, xtol=1e-12 * longest, rtol=1e-12)
    return Pair(old, softmax(logits + size * direction, axis=-1))


def tilted(mdp: pg.FiniteMDP, kl: float) -> Pair:
    """From equal probabilities to one action that is preferred alike in every state."""
    first = np.zeros(mdp.reward.shape)
    first[:, 0] = 1.0
    return step_along(mdp, np.zeros(mdp.reward.shape), first, kl)


def directions(mdp: pg.FiniteMDP, logits: np.ndarray, discount: float) -> dict[str, np.ndarray]:
    """Of steps up the discounted return: the gradient, and the natural one.

    In logits the natural gradient is the advantage (Kakade 2001, "A natural policy gradient", theorem 1).
    """
    old = softmax(logits, axis=-1)
    value = exactly(finite_mdp.state_values, mdp, old, discount=discount)
    advantage = mdp.reward + discount * mdp.transition @ value - value[:, None]
    visits = exactly(finite_mdp.state_visits, mdp, old, discount=discount)
    return {"gradient": visits[:, None] * old * advantage, "natural": advantage}


class Crossing(NamedTuple):
    """The number of steps after which the exact effective sample size is below 1%."""

    exact: int
    predicted: float
    """(log 100 - log C) / log rho, from the spectral radius rho of M and its eigenvectors."""
    log_rho: float
    slope: float
    """Of the logarithm of the second moment, between the last two steps: log rho in the limit."""
    per_step: float
    """log E_old[(new / old)^2] of one step in the long run."""


def log_moments(mdp: pg.FiniteMDP, pair: Pair, power: int) -> np.ndarray:
    """log E[w_t^power] of the weight of the first t + 1 steps, `[LONGEST]`."""
    return exactly(
        finite_mdp_weights.log_weight_moments, mdp, pair.new, pair.old, horizon=LONGEST, power=power
    )


def crossing(mdp: pg.FiniteMDP, pair: Pair) -> Crossing:
    """Where the second moment of the trajectory's weight passes 100, and where the theory puts it."""
    log_second = log_moments(mdp, pair, 2)
    square = pair.new**2 / pair.old
    matrix = np.einsum("sa,sat->st", square, mdp.transition)
    (radius, right), (_, left) = _perron(matrix), _perron(matrix.T)
    constant = (mdp.start @ right) * left.sum() / (left @ right)
    visits = exactly(finite_mdp_weights.stationary_distribution, mdp, pair.old)
    return Crossing(
        int(np.argmax(log_second > np.log(100)) + 1),
        float((np.log(100) - np.log(constant)) / np.log(radius)),
        float(np.log(radius)),
        float(log_second[-1] - log_second[-2]),
        float(np.log(visits @ square.sum(-1))),
    )


def _perron(matrix: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest eigenvalue of a matrix without negative entries, and its eigenvector."""
    values, vectors = np.linalg.eig(matrix)
    largest = np.argmax(np.abs(values))
    return float(np.abs(values[largest])), np.abs(vectors[:, largest])


def return_moments(
    mdp: pg.FiniteMDP, pair: Pair, *, discount: float, horizon: int
) -> dict[str, Moments]:
    """Estimators of J(new) from one episode of the old policy: mean and standard deviation, by recursion.

    With ratio = new / old, all products and sums from the episode's start:

      no weights     sum_t discount^t r_t
      trajectory     (prod_t ratio_t) sum_t discount^t r_t
      per decision   sum_t discount^t (prod_{u <= t} ratio_u) r_t
      marginalised   sum_t discount^t P_new(s_t) / P_old(s_t) ratio_t r_t
      per step       sum_t discount^t ratio_t r_t
    """
    old, new = pair
    ratio = new / old
    densities = density_ratios(mdp, pair, horizon=horizon)
    powers = discount ** np.arange(horizon)

    def of_sum(weight: Callable[[int], np.ndarray]) -> Moments:
        """Of sum_t weight_t(s_t, a_t) r_t."""
        first = second = np.zeros(len(mdp.start))
        for t in reversed(range(horizon)):
            now, later = weight(t) * powers[t] * mdp.reward, mdp.transition @ first
            second = np.sum(old * (now**2 + 2 * now * later + mdp.transition @ second), axis=-1)
            first = np.sum(old * (now + later), axis=-1)
        return _described(mdp, first, second)

    return {
        "no weights": of_sum(lambda t: np.ones_like(ratio)),
        "trajectory": _trajectory(mdp, pair, discount, horizon),
        "per decision": _per_decision(mdp, pair, discount, horizon),
        "marginalised": of_sum(lambda t: densities[t][:, None] * ratio),
        "per step": of_sum(lambda t: ratio),
    }


def density_ratios(mdp: pg.FiniteMDP, pair: Pair, *, horizon: int) -> np.ndarray:
    """P_new(s_t = s) / P_old(s_t = s), `[horizon, S]`; 0 where neither is ever found."""
    new, old = (
        exactly(finite_mdp.state_distributions, mdp, policy, horizon=horizon)
        for policy in (pair.new, pair.old)
    )
    return np.divide(new, old, out=np.zeros_like(new), where=old > 0)


def _per_decision(mdp: pg.FiniteMDP, pair: Pair, discount: float, horizon: int) -> Moments:
    """Backwards, X_t = ratio_t (r_t + discount X_{t+1})."""
    old, ratio = pair.old, pair.new / pair.old
    first = second = np.zeros(len(mdp.start))
    for _ in range(horizon):
        now, later = mdp.reward, discount * mdp.transition @ first
        squares = now**2 + 2 * now * later + discount**2 * mdp.transition @ second
        first = np.sum(old * ratio * (now + later), axis=-1)
        second = np.sum(old * ratio**2 * squares, axis=-1)
    return _described(mdp, first, second)


def _trajectory(mdp: pg.FiniteMDP, pair: Pair, discount: float, horizon: int) -> Moments:
    """Backwards E[W^2], E[W^2 G] and E[W^2 G^2], with W_t = ratio_t W_{t+1}, G_t = r_t + discount G_{t+1}."""
    square = pair.new**2 / pair.old
    weight = np.ones(len(mdp.start))
    once = twice = np.zeros(len(mdp.start))
    for _ in range(horizon):
        after, after_once = mdp.transition @ weight, discount * mdp.transition @ once
        after_twice = discount**2 * mdp.transition @ twice
        twice = np.sum(
            square * (mdp.reward**2 * after + 2 * mdp.reward * after_once + after_twice), axis=-1
        )
        once = np.sum(square * (mdp.reward * after + after_once), axis=-1)
        weight = np.sum(square * after, axis=-1)
    mean = exactly(
        finite_mdp.finite_horizon_return, mdp, pair.new, discount=discount, horizon=horizon
    )
    return float(mean), float(np.sqrt(mdp.start @ twice - mean**2))


def _described(mdp: pg.FiniteMDP, first: np.ndarray, second: np.ndarray) -> Moments:
    mean = mdp.start @ first
    return float(mean), float(np.sqrt(mdp.start @ second - mean**2))


class Gradients(NamedTuple):
    """Means of estimators of the gradient of J(new) in its logits, `[S, A]` each."""

    exact: np.ndarray
    biased: dict[str, np.ndarray]
    """Of those that use returns of the old policy."""


def gradients(
    mdp: pg.FiniteMDP, pair: Pair, horizons: Sequence[int], *, discount: float
) -> list[Gradients]:
    """What estimators of the policy gradient of the new policy are on average, from the old one's data.

    Each is E[sum_t discount^t weight_t (G_t - V_old(s_t)) d log new(a_t|s_t)], with G_t the return of the old
    policy: so `marginalised`, though it has the right states and actions, is not the exact one either.
    """
    old, new = pair
    longest = max(horizons)
    options = {"discount": discount, "horizon": longest}
    q_new, q_old = (
        exactly(finite_mdp_weights.finite_horizon_action_values, mdp, policy, **options)
        for policy in (new, old)
    )  # row k with k steps left
    p_new, p_old = (
        exactly(finite_mdp.state_distributions, mdp, policy, horizon=longest)
        for policy in (new, old)
    )
    powers = discount ** np.arange(longest)

    def mean(horizon: int, states: np.ndarray, actions: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Sum over t of discount^t P(s_t = s) sum_a actions(a|s) A(s, a) d log new(a|s)."""
        left = q[horizon:0:-1]
        advantage = left - np.sum(old * left, axis=-1, keepdims=True)
        weighed = np.einsum("t,ts,tsa->sa", powers[:horizon], states[:horizon], advantage * actions)
        return weighed - weighed.sum(-1, keepdims=True) * new

    return [
        Gradients(
            mean(horizon, p_new, new, q_new),
            {
                "no weights": mean(horizon, p_old, old, q_old),
                "per step": mean(horizon, p_old, new, q_old),
                "marginalised, old returns": mean(horizon, p_new, new, q_old),
            },
        )
        for horizon in horizons
    ]
