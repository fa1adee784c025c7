"""Facts that the lecture states, where no other test holds them, each on a process that is enumerated."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.functional import finite_mdp
from tests.functional.test_finite_mdp import ACTIONS, HORIZON, STATES, random_mdp, trajectories


def test_drum_exam():
    """A policy that always takes a1: V = Q(s, a1) and A(s, a1) = 0; A of the other actions is not 0."""
    mdp, _ = random_mdp()
    policy = jnp.zeros((STATES, ACTIONS)).at[:, 0].set(1.0)
    value = finite_mdp.state_values(mdp, policy, discount=0.9)
    q = finite_mdp.action_values(mdp, policy, discount=0.9)
    advantage = finite_mdp.advantages(mdp, policy, discount=0.9)
    np.testing.assert_allclose(value, q[:, 0], rtol=1e-5)
    np.testing.assert_allclose(advantage[:, 0], 0.0, atol=1e-6)
    assert (jnp.abs(advantage[:, 1]) > 0.1).all()


def expectation(weight_fn):
    """E[sum_t grad log pi(a_t|s_t) weight_t] over all trajectories, `[S, A]`, in float64.

    `weight_fn(rewards, states) -> weights`; the policy is a softmax with logits theta.
    """
    mdp, policy = random_mdp(1, survive=0.9)
    policy = np.asarray(policy, np.float64)
    total = np.zeros((STATES, ACTIONS))
    for probability, states, actions in trajectories(mdp, policy, HORIZON):
        rewards = np.array([float(mdp.reward[s, a]) for s, a in zip(states, actions)])
        weights = weight_fn(rewards, states)
        for t, (s, a) in enumerate(zip(states, actions)):
            total[s] += probability * weights[t] * ((np.arange(ACTIONS) == a) - policy[s])
    return total


def powers(rewards, discount):
    return discount ** np.arange(len(rewards))


def whole_return(rewards, states, discount):
    return np.full(len(rewards), np.sum(powers(rewards, discount) * rewards))


def reward_to_go(rewards, states, discount):
    return [np.sum(powers(rewards[t:], discount) * rewards[t:]) for t in range(len(rewards))]


def exact_gradient(discount):
    mdp, policy = random_mdp(1, survive=0.9)
    return jax.grad(
        lambda theta: finite_mdp.finite_horizon_return(
            mdp, jax.nn.softmax(theta), discount=discount, horizon=HORIZON
        )
    )(jnp.log(policy))


def test_a_baseline_of_the_state_adds_nothing_to_the_expected_gradient():
    baseline = np.array([3.0, -20.0, 7.0])
    added = expectation(lambda rewards, states: baseline[list(states)])
    assert np.abs(added).max() <= 1e-6


def test_reward_to_go_and_whole_return_have_the_exact_gradient_as_mean():
    whole = expectation(partial(whole_return, discount=1.0))
    to_go = expectation(partial(reward_to_go, discount=1.0))
    np.testing.assert_allclose(whole, to_go, atol=1e-7)
    np.testing.assert_allclose(whole, exact_gradient(1.0), atol=1e-5)


def test_the_usual_discounted_form_is_not_the_gradient_of_the_discounted_return():
    discount = 0.7
    exact = exact_gradient(discount)
    usual = expectation(partial(reward_to_go, discount=discount))
    weighted = expectation(
        lambda rewards, states: powers(rewards, discount) * reward_to_go(rewards, states, discount)
    )
    np.testing.assert_allclose(weighted, exact, atol=1e-5)
    np.testing.assert_allclose(
        expectation(partial(whole_return, discount=discount)), exact, atol=1e-5
    )
    assert np.abs(usual - exact).max() > 0.05


def test_discounting_is_a_death_state_for_every_policy():
    mdp, _ = random_mdp(5, survive=1.0)  # without a discount it goes on for ever
    discount = 0.8
    dying = finite_mdp.with_death(mdp, discount=discount)
    for seed in range(3):
        policy = jnp.asarray(
            np.random.default_rng(seed).dirichlet(np.ones(ACTIONS), size=STATES), jnp.float32
        )
        np.testing.assert_allclose(
            finite_mdp.state_values(dying, policy, discount=1.0),
            finite_mdp.state_values(mdp, policy, discount=discount),
            rtol=1e-5,
        )
