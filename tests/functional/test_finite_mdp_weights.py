"""Exact moments of importance weights: enumeration, hand-computed cases, eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.functional.finite_mdp import FiniteMDP, with_restart
from purejaxpg.functional.finite_mdp_weights import (
    finite_horizon_action_values,
    log_weight_moments,
    stationary_distribution,
)
from tests.functional.test_finite_mdp import ACTIONS, STATES, random_mdp, trajectories


def two_policies(seed=1):
    rng = np.random.default_rng(seed)
    return jnp.float32(rng.dirichlet(np.ones(ACTIONS), size=(2, STATES)))


@pytest.mark.parametrize("power", [1, 2, 4])
def test_moments_by_enumeration(power):
    """Of all trajectories, those that end early included, with their probability under the old policy."""
    mdp, _ = random_mdp()
    new, old = two_policies()
    horizon = 3
    ratio = np.float64(new) / np.float64(old)
    moment = np.zeros(horizon)
    for probability, states, actions in trajectories(mdp, old, horizon):
        weight = np.cumprod(ratio[list(states), list(actions)])
        padded = np.append(weight, np.full(horizon - len(weight), weight[-1]))
        moment += probability * padded**power
    found = log_weight_moments(mdp, new, old, horizon=horizon, power=power)
    np.testing.assert_allclose(found, np.log(moment), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("p", "kl", "crossing"), [(0.314, 0.01, 211.2), (0.467, 0.1, 20.5)])
def test_the_tilt_pair(p, kl, crossing):
    """From four equal actions to p and three equal ones: E[w^2] is the same power in every process."""
    mdp = with_restart(FiniteMDP(*(jnp.asarray(x, jnp.float32) for x in pg.four_rooms().mdp)))
    old = jnp.full(mdp.reward.shape, 0.25)
    tilt = np.array([p, *[(1 - p) / 3] * 3])
    new = jnp.broadcast_to(jnp.float32(tilt), old.shape)
    np.testing.assert_allclose(-np.log(4 * tilt).mean(), kl, rtol=0.02)
    d2 = np.log(np.sum(tilt**2 / 0.25))
    found = log_weight_moments(mdp, new, old, horizon=250)
    np.testing.assert_allclose(found, d2 * np.arange(1, 251), rtol=1e-3)
    np.testing.assert_allclose(np.log(100) / d2, crossing, rtol=0.02)  # p is given to three digits


def test_the_slope_is_the_spectral_radius():
    rooms = [np.float64(x) for x in pg.four_rooms().mdp]
    with jax.enable_x64(True):
        mdp = with_restart(FiniteMDP(*map(jnp.asarray, rooms)))
        rng = np.random.default_rng(0)
        logits = rng.normal(size=(2, *mdp.reward.shape))
        old, new = (
            jnp.asarray(x / x.sum(-1, keepdims=True)) for x in np.exp([logits[0], logits.sum(0)])
        )
        found = log_weight_moments(mdp, new, old, horizon=1501)
        assert found.dtype == np.float64
        found = np.asarray(found)
    matrix = np.einsum(
        "sa,sat->st", np.asarray(new) ** 2 / np.asarray(old), np.asarray(mdp.transition)
    )
    radius = np.abs(np.linalg.eigvals(matrix)).max()
    np.testing.assert_allclose(found[1500] - found[1499], np.log(radius), rtol=1e-6)


def test_actions_that_are_never_taken():
    mdp = FiniteMDP(jnp.ones((1, 3, 1)), jnp.zeros((1, 3)), jnp.ones(1))
    old = jnp.array([[0.5, 0.5, 0.0]])
    found = log_weight_moments(mdp, jnp.array([[1.0, 0.0, 0.0]]), old, horizon=2)
    np.testing.assert_allclose(found, np.log([2.0, 4.0]), rtol=1e-6)
    assert (log_weight_moments(mdp, jnp.array([[0.5, 0.0, 0.5]]), old, horizon=3) == np.inf).all()


def test_stationary_distribution():
    mdp, policy = random_mdp()
    mdp = with_restart(mdp)
    chain = np.einsum("sa,sat->st", np.float64(policy), np.float64(mdp.transition))
    expected = np.linalg.matrix_power(chain, 500)[0]
    np.testing.assert_allclose(stationary_distribution(mdp, policy), expected, rtol=1e-4)
    ending, _ = random_mdp()
    with pytest.raises(ValueError, match="no stationary distribution: use with_restart"):
        stationary_distribution(ending, policy)


def test_action_values_of_a_finite_horizon():
    mdp, policy = random_mdp()
    transition, reward, _ = (np.float64(x) for x in mdp)
    q = [np.zeros_like(reward)]
    for _ in range(4):
        q.append(reward + 0.9 * transition @ (np.float64(policy) * q[-1]).sum(1))
    found = finite_horizon_action_values(mdp, policy, discount=0.9, horizon=4)
    np.testing.assert_allclose(found, q, rtol=1e-4, atol=1e-5)
