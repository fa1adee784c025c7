"""What sampled episodes say in the study of importance sampling, beside the exact answers.

Everything that weighs is the library's own: logarithms of weights, effective sample sizes and weightings.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from experiments.common.importance_exact import Gradients, Pair, density_ratios, exactly
from purejaxpg.functional import finite_mdp, weightings


class Episodes(NamedTuple):
    """Episodes of one length, `[T, number]` each."""

    state: jax.Array
    action: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Walk(NamedTuple):
    """A process and a policy as cumulative probabilities, of the few states only that can follow."""

    action: jax.Array
    """`[S, A - 1]`"""
    successor: jax.Array
    """`[S, A, K]`, numbers of states."""
    chance: jax.Array
    """`[S, A, K - 1]`"""


def walk_of(mdp: pg.FiniteMDP, policy: np.ndarray) -> Walk:
    """Episodes that begin anywhere and do not end are drawn much faster so than by an environment."""
    transition = np.asarray(mdp.transition)
    most = np.count_nonzero(transition, axis=-1).max()
    successor = np.argsort(-transition, axis=-1)[..., :most]
    chance = np.take_along_axis(transition, successor, axis=-1)
    cumulative = (jnp.float32(np.cumsum(x, axis=-1)[..., :-1]) for x in (policy, chance))
    action, following = cumulative
    return Walk(action, jnp.int32(successor), following)


def draw_episodes(key: jax.Array, walk: Walk, *, horizon: int, number: int) -> Episodes:
    """So many episodes, cut at the horizon."""

    def one_of(uniform, cumulative):
        return jnp.sum(uniform[:, None] >= cumulative, axis=-1)

    def step(state, now):
        key, is_last = now
        uniform = jax.random.uniform(key, (2, number))
        action = one_of(uniform[0], walk.action[state])
        following = one_of(uniform[1], walk.chance[state, action])
        ends = jnp.zeros(number, bool), jnp.full(number, is_last)
        return walk.successor[state, action, following], Episodes(state, action, *ends)

    start_key, key = jax.random.split(key)
    first = jax.random.randint(start_key, (number,), 0, len(walk.action))
    is_last = jnp.arange(horizon) == horizon - 1
    return jax.lax.scan(step, first, (jax.random.split(key, horizon), is_last))[1]


class Weights(NamedTuple):
    """Of replications of a sample of weights, `[replications, T]` each."""

    log_second: Any
    """log of the mean of w_t^2, w_t of the first t + 1 steps."""
    effective: Any
    """The effective sample size of w_t, as a fraction of the sample."""
    step_second: Any
    """The mean of ratio_t^2."""


def sample_weights(
    key: jax.Array, mdp: pg.FiniteMDP, pair: Pair, *, horizon: int, number: int, replications: int
) -> Weights:
    """Second moments of importance weights as samples of so many episodes show them."""
    walk, log_ratio = walk_of(mdp, pair.old), jnp.float32(np.log(pair.new / pair.old))

    def replicate(key):
        episodes = draw_episodes(key, walk, horizon=horizon, number=number)
        taken = log_ratio[episodes[:2]]
        ends = episodes[2:]
        log_weight = pg.per_decision_log_weights(taken, *ends)
        log_second = jax.nn.logsumexp(2 * log_weight, axis=1) - jnp.log(number)
        effective = pg.effective_sample_size(log_weight, axis=1) / number
        return Weights(log_second, effective, jnp.mean(jnp.exp(2 * taken), axis=1))

    return _replicated(key, replicate, replications)


def sample_returns(
    key: jax.Array, mdp: pg.FiniteMDP, pair: Pair, *, discount: float, horizon: int, number: int,
    replications: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Estimates of J(new), each the mean of so many episodes, `[replications]`."""
    walk, log_ratio = walk_of(mdp, pair.old), jnp.float32(np.log(pair.new / pair.old))
    density = jnp.float32(density_ratios(mdp, pair, horizon=horizon))
    rewards = jnp.float32(mdp.reward)
    time = jnp.arange(horizon)[:, None]

    def replicate(key):
        episodes = draw_episodes(key, walk, horizon=horizon, number=number)
        taken, reward = log_ratio[episodes[:2]], rewards[episodes[:2]] * discount**time
        ends = episodes[2:]
        weights = {
            "no weights": jnp.zeros_like(taken),
            "trajectory": pg.trajectory_log_weights(taken, *ends),
            "per decision": pg.per_decision_log_weights(taken, *ends),
            "marginalised": jnp.log(density[time, episodes.state]) + taken,
            "per step": taken,
        }
        return {name: jnp.sum(jnp.exp(w) * reward) / number for name, w in weights.items()}

    return _replicated(key, replicate, replications)


def sample_gradients(
    key: jax.Array, mdp: pg.FiniteMDP, pair: Pair, *, discount: float, horizon: int, number: int,
    replications: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Estimates of the gradient of J(new), each the mean of so many episodes, `[replications, S, A]`.

    The baseline is the exact V of the policy that acted, with the number of steps that are left.
    """
    walk, log_ratio = walk_of(mdp, pair.old), jnp.float32(np.log(pair.new / pair.old))
    density = jnp.float32(density_ratios(mdp, pair, horizon=horizon))
    values = exactly(
        finite_mdp.finite_horizon_values, mdp, pair.old, discount=discount, horizon=horizon
    )
    baseline, rewards = jnp.float32(values[:0:-1]), jnp.float32(mdp.reward)
    new, time = jnp.float32(pair.new), jnp.arange(horizon)[:, None]

    def replicate(key):
        states, actions, *ends = draw_episodes(key, walk, horizon=horizon, number=number)
        taken, reward = log_ratio[states, actions], rewards[states, actions]
        value, here = baseline[time, states], density[time, states]
        nothing = jnp.zeros_like(reward)  # beyond the horizon

        def by(weighting, log_ratio=taken):
            return weighting(reward, value, nothing, log_ratio, *ends, discount=discount)

        _, later = by(
            weightings.per_decision_weighting
        )  # its target: weighted rewards from here on
        step = jnp.exp(taken)
        advantages = {
            "no weights": by(weightings.unweighted)[0],
            "trajectory": by(weightings.trajectory_weighting)[0],
            "per decision": by(weightings.per_decision_weighting)[0],
            "per step": by(weightings.per_step_weighting)[0],
            "marginalised": here * (later - step * value),
            "marginalised, old returns": here * by(weightings.per_step_weighting)[0],
        }

        def gradient(advantage):
            weighed = discount**time * advantage / number
            table = jnp.zeros_like(new).at[states, actions].add(weighed)
            return table - table.sum(-1, keepdims=True) * new

        return {name: gradient(x) for name, x in advantages.items()}

    return _replicated(key, replicate, replications)


def gradient_errors(found: np.ndarray, exact: Gradients) -> dict[str, float]:
    """How far estimates `[replications, S, A]` are from the gradient, in units of its norm.

    `excess` is the squared error of their mean in units of what their variance explains, 1 on average where
    there is no bias.
    """
    norm = np.linalg.norm(exact.exact)
    found = np.asarray(found, np.float64)
    error = found - exact.exact
    of_mean, noise = np.sum(error.mean(0) ** 2), np.sum(found.var(0, ddof=1)) / len(found)
    products = np.einsum("rsa,sa->r", found, exact.exact)
    cosine = products / np.linalg.norm(found, axis=(1, 2)) / norm
    return {
        "rmse": float(np.sqrt(np.mean(np.sum(error**2, axis=(1, 2)))) / norm),
        "bias": float(np.sqrt(max(of_mean - noise, 0.0)) / norm),
        "cosine": float(np.median(cosine)),
        "excess": float(of_mean / noise),
    }


def gaussian_weights(
    key: jax.Array, shifts: np.ndarray, *, number: int, replications: int
) -> np.ndarray:
    """Fractions of effective samples of N(0, 1) for N(shift, 1), `[replications, shifts]`."""

    def replicate(key):
        x = jax.random.normal(key, (number, 1))
        mean = jnp.float32(shifts)
        return pg.effective_sample_size(mean * x - mean**2 / 2, axis=0) / number

    return _replicated(key, replicate, replications)


def _replicated(key: jax.Array, replicate: Callable, replications: int) -> Any:
    """`replicate(key)` so many times, in one program, one after the other: one sample fills memory."""
    keys = jax.random.split(key, replications)
    return jax.tree.map(np.asarray, jax.jit(partial(jax.lax.map, replicate))(keys))
