"""Exact values against hand-computed cases, value iteration, and enumeration of all trajectories."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.functional import finite_mdp
from purejaxpg.functional.finite_mdp import FiniteMDP

STATES, ACTIONS, HORIZON = 3, 2, 4


def random_mdp(seed=0, survive=0.8):
    rng = np.random.default_rng(seed)
    transition = survive * rng.dirichlet(np.ones(STATES), size=(STATES, ACTIONS))
    mdp = FiniteMDP(transition, rng.normal(size=(STATES, ACTIONS)), rng.dirichlet(np.ones(STATES)))
    policy = rng.dirichlet(np.ones(ACTIONS), size=STATES)
    return FiniteMDP(*(jnp.asarray(x, jnp.float32) for x in mdp)), jnp.asarray(policy, jnp.float32)


def value_iteration(mdp, policy, discount):
    """V in float64 by repeated backups, until nothing moves."""
    transition, reward, _ = (np.asarray(x, np.float64) for x in mdp)
    policy = np.asarray(policy, np.float64)
    value = np.zeros(len(reward))
    for _ in range(5000):
        value = (policy * (reward + discount * transition @ value)).sum(axis=1)
    return value


def trajectories(mdp, policy, horizon):
    """(probability, states, actions) of every trajectory, those that terminate early included."""
    transition, _, start = (np.asarray(x, np.float64) for x in mdp)
    policy = np.asarray(policy, np.float64)
    for length in range(1, horizon + 1):
        for states in product(range(STATES), repeat=length):
            for actions in product(range(ACTIONS), repeat=length):
                probability = start[states[0]]
                for t in range(length):
                    probability *= policy[states[t], actions[t]]
                    if t + 1 < length:
                        probability *= transition[states[t], actions[t], states[t + 1]]
                if length < horizon:  # it terminates here
                    probability *= 1 - transition[states[-1], actions[-1]].sum()
                yield probability, states, actions


def test_a_chain_by_hand():
    """s0 -> s1 -> end with rewards 1 and 2: V = [1 + 2 g, 2]; the other action ends at once for 5."""
    transition = jnp.zeros((2, 2, 2)).at[0, 0, 1].set(1.0)
    mdp = FiniteMDP(transition, jnp.array([[1.0, 5.0], [2.0, 5.0]]), jnp.array([1.0, 0.0]))
    policy = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    value = finite_mdp.state_values(mdp, policy, discount=0.5)
    np.testing.assert_allclose(value, [2.0, 2.0])
    q = finite_mdp.action_values(mdp, policy, discount=0.5)
    np.testing.assert_allclose(q, [[2.0, 5.0], [2.0, 5.0]])
    np.testing.assert_allclose(finite_mdp.advantages(mdp, policy, discount=0.5), [[0, 3], [0, 3]])
    np.testing.assert_allclose(finite_mdp.expected_return(mdp, policy, discount=1.0), 3.0)
    np.testing.assert_allclose(finite_mdp.state_visits(mdp, policy, discount=0.5), [1.0, 0.5])
    half = jnp.array([[0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(
        finite_mdp.state_values(mdp, half, discount=1.0), [0.5 * 3 + 0.5 * 5, 2.0]
    )


@pytest.mark.parametrize("discount", [0.5, 0.9, 1.0])
def test_values_against_value_iteration(discount):
    mdp, policy = random_mdp()
    value = value_iteration(mdp, policy, discount)
    np.testing.assert_allclose(
        finite_mdp.state_values(mdp, policy, discount=discount), value, rtol=1e-4, atol=1e-5
    )
    q = np.asarray(mdp.reward) + discount * np.asarray(mdp.transition) @ value
    np.testing.assert_allclose(
        finite_mdp.action_values(mdp, policy, discount=discount), q, rtol=1e-4, atol=1e-5
    )
    advantage = finite_mdp.advantages(mdp, policy, discount=discount)
    np.testing.assert_allclose(advantage, q - value[:, None], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose((policy * advantage).sum(axis=1), 0.0, atol=1e-5)
    returned = finite_mdp.expected_return(mdp, policy, discount=discount)
    np.testing.assert_allclose(returned, np.asarray(mdp.start) @ value, rtol=1e-4, atol=1e-5)
    # The same return, counted by visits instead of by values.
    visits = finite_mdp.state_visits(mdp, policy, discount=discount)
    np.testing.assert_allclose(visits @ (policy * mdp.reward).sum(1), returned, rtol=1e-4)


def test_finite_horizons_against_all_trajectories():
    mdp, policy = random_mdp(1, survive=0.9)
    discount, total, expected, seen = 0.7, 0.0, 0.0, np.zeros((HORIZON, STATES))
    for probability, states, actions in trajectories(mdp, policy, HORIZON):
        total += probability
        for t, (s, a) in enumerate(zip(states, actions)):
            expected += probability * discount**t * float(mdp.reward[s, a])
            seen[t, s] += probability
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)
    found = finite_mdp.finite_horizon_return(mdp, policy, discount=discount, horizon=HORIZON)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        finite_mdp.state_distributions(mdp, policy, horizon=HORIZON), seen, rtol=1e-5, atol=1e-7
    )
    values = finite_mdp.finite_horizon_values(mdp, policy, discount=discount, horizon=60)
    assert values.shape == (61, STATES)
    np.testing.assert_array_equal(values[0], 0.0)
    np.testing.assert_allclose(values[-1], value_iteration(mdp, policy, discount), rtol=1e-4)


def test_gradient_is_that_of_the_policy_gradient_theorem():
    """sum_s d(s) sum_a grad pi(a|s) Q(s, a), Sutton and Barto 2018, eq. 13.5, term by term."""
    mdp, _ = random_mdp(2)
    theta = jnp.asarray(np.random.default_rng(3).normal(size=(STATES, ACTIONS)), jnp.float32)
    discount = 0.9
    gradient = jax.grad(
        lambda theta: finite_mdp.expected_return(mdp, jax.nn.softmax(theta), discount=discount)
    )(theta)
    policy = np.asarray(jax.nn.softmax(theta), np.float64)
    value = value_iteration(mdp, policy, discount)
    q = np.asarray(mdp.reward) + discount * np.asarray(mdp.transition) @ value
    d, add = np.zeros(STATES), np.asarray(mdp.start, np.float64)
    chain = np.einsum("sa,sat->st", policy, np.asarray(mdp.transition, np.float64))
    for _ in range(1000):
        d, add = d + add, discount * add @ chain
    expected = np.zeros((STATES, ACTIONS))
    for s, a, b in product(range(STATES), range(ACTIONS), range(ACTIONS)):
        expected[s, b] += d[s] * policy[s, a] * ((a == b) - policy[s, b]) * q[s, a]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_restart_and_death_and_noise():
    mdp, policy = random_mdp(4)
    dying = finite_mdp.with_death(mdp, discount=0.6)
    np.testing.assert_allclose(
        finite_mdp.state_values(dying, policy, discount=1.0),
        value_iteration(mdp, policy, 0.6),
        rtol=1e-4,
    )
    endless = finite_mdp.with_restart(mdp)
    np.testing.assert_allclose(endless.transition.sum(-1), 1.0, rtol=1e-6)
    going_on = np.asarray(mdp.transition[0, 1])
    np.testing.assert_allclose(
        endless.transition[0, 1], going_on + (1 - going_on.sum()) * np.asarray(mdp.start), rtol=1e-5
    )
    noisy = finite_mdp.with_action_noise(mdp, jnp.array([[0.75, 0.25], [0.0, 1.0]]))
    np.testing.assert_allclose(
        noisy.reward[:, 0], 0.75 * mdp.reward[:, 0] + 0.25 * mdp.reward[:, 1], rtol=1e-6
    )
    np.testing.assert_allclose(
        noisy.transition[:, 0], 0.75 * mdp.transition[:, 0] + 0.25 * mdp.transition[:, 1], rtol=1e-6
    )
    np.testing.assert_array_equal(noisy.transition[:, 1], mdp.transition[:, 1])


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda mdp: mdp._replace(start=mdp.start[:2]), "not shapes .*, .* and \\(2,\\)"),
        (lambda mdp: mdp._replace(reward=mdp.reward[0]), "needs transition \\[S, A, S\\]"),
        (lambda mdp: mdp._replace(transition=2 * mdp.transition), "sum to at most 1"),
        (lambda mdp: mdp._replace(transition=-mdp.transition), "must be probabilities"),
        (lambda mdp: mdp._replace(start=mdp.start / 2), "start must be probabilities"),
    ],
)
def test_wrong_arrays_are_refused(change, sentence):
    mdp, _ = random_mdp()
    assert finite_mdp.check(mdp) is mdp
    with pytest.raises(ValueError, match=sentence):
        finite_mdp.check(change(mdp))
