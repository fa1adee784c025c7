"""Forced moves, and the rest of an episode that is over, are in no mean."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.agent.metrics import mean_terms
from tests.small import ALGORITHMS

LIVE = 4
"""Steps of an episode in which anything happens."""
SAME = {
    "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm", "kl", "kl_proposed",
    "improvement", "expected_improvement", "curvature", "cg_residual", "explained_variance", "noise",
}  # fmt: skip


def waiting_env(length, *, forced=(), garbage=0.0):
    """Rewards of state and action for LIVE steps, then nothing until the episode is so long.

    Observations are the step, and a number that says something in live steps and is `garbage` in others. In the
    steps `forced` there is one action.
    """
    rewards = jnp.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0], [2.0, -0.5]])

    def observation(state):
        number = jnp.where(state < LIVE, jnp.sin(1.0 * state), garbage)
        return jnp.stack([1.0 * jnp.minimum(state, LIVE), number])

    def reset(key, params):
        state = jnp.zeros((), jnp.int32)
        return observation(state), state

    def step(key, state, action, params):
        live = state < LIVE
        reward = jnp.where(live, rewards[jnp.minimum(state, LIVE - 1), action], 0.0)
        state = state + 1
        ends = state >= length, jnp.zeros((), bool)
        return observation(state), state, reward, *ends, {"live": live}

    def observe(obs, params):
        now = obs[..., :1]
        one = jnp.any(jnp.stack([now == x for x in (LIVE, *forced)]), axis=0)
        mask = jnp.concatenate([jnp.ones_like(one), ~one], axis=-1)
        return pg.Masked(jnp.where(now < LIVE, obs, 0.0), mask)

    box = pg.Box(-np.inf, np.inf, (2,))
    env = pg.Env(reset, step, lambda params: box, lambda params: pg.Discrete(2), observe)
    return pg.episode_statistics(env)


def value_of_nothing_is_zero(network):
    def apply(params, memory, obs, start):
        values, memory = network.apply(params, memory, obs, start)
        over = jnp.all(obs.obs == 0, axis=-1)
        return jnp.where(over, 0.0, values), memory

    return network._replace(apply=apply)


def noisy_reward(transitions, log_prob, env_params):
    """The environment's, and an extra that is not 0 anywhere."""
    return transitions.reward, {"noise": 1.0 + transitions.obs[..., 0]}


ONE_BATCH = {
    "ppo": {"num_minibatches": 1, "entropy_coef": 0.1},
    "trpo": {"num_value_minibatches": 1, "entropy_coef": 0.1},
    "reinforce": {"normalize_advantages": True, "entropy_coef": 0.1},
    "off_policy_gradient": {"normalize_advantages": True, "entropy_coef": 0.1},
    "actor_critic": {"normalize_advantages": True, "entropy_coef": 0.1},
}


def updated(name, length, **options):
    """Metrics and parameters after an update on rollouts of one episode of this length in each column."""
    env = waiting_env(length, **options)
    algorithm = ALGORITHMS[name](
        env, None, num_steps=length, reward_fn=noisy_reward,
        value=value_of_nothing_is_zero(pg.value_network(pg.MLP((8,)))), **ONE_BATCH[name],
    )  # fmt: skip

    @jax.jit
    def run(key):
        state = algorithm.init(key, None)
        state, _, metrics = algorithm.step(jax.random.fold_in(key, 1), state, None)
        return state.params, metrics

    params, metrics = jax.device_get(run(jax.random.key(3)))
    return params, {name: x for name, x in metrics.items() if name in SAME}


@pytest.mark.parametrize("name", ONE_BATCH)
def test_rows_after_the_end_change_nothing(name):
    """Neither how many nor what they hold. A longer rollout begins with the draws of a shorter one."""
    params, metrics = updated(name, LIVE)
    assert {"entropy", "value_loss", "explained_variance", "noise"} <= metrics.keys()
    assert metrics["noise"] == 2.5  # the mean of 1, 2, 3, 4
    for other in (updated(name, LIVE + 3), updated(name, LIVE + 3, garbage=1e9)):
        for x, y in zip(*(jax.tree.leaves(tree) for tree in ((params, metrics), other))):
            np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["trpo", "ppo"])
def test_forced_moves_are_in_no_mean_of_the_policy(name):
    """At the beginning of training a policy is near even: where it has two actions its entropy is log 2."""
    _, metrics = updated(name, LIVE, forced=(1, 3))
    np.testing.assert_allclose(metrics["entropy"], np.log(2), atol=2e-3)


def test_means_of_terms_by_hand():
    x = jnp.array([[1.0, 2.0], [3.0, np.nan]])
    where = jnp.array([[True, False], [True, False]])
    other = jnp.array([[False, True], [True, False]])
    found = mean_terms(
        {"a": x, "b": 10 * x, "c": x}, where, {"b": other, "c": jnp.zeros_like(where)}
    )
    assert {name: float(value) for name, value in found.items()} == {"a": 2.0, "b": 25.0, "c": 0.0}
    gradient = jax.grad(lambda x: mean_terms({"a": x}, where, {})["a"])(x)
    np.testing.assert_array_equal(gradient, [[0.5, 0], [0.5, 0]])


def test_fisher_products_over_some_states():
    """F of two states of three is that of the two alone."""
    features = jax.random.normal(jax.random.key(0), (3, 4))

    def policy(weight, rows):
        return pg.categorical(features[rows] @ weight)

    weight = jax.random.normal(jax.random.key(1), (4, 2))
    v = jax.random.normal(jax.random.key(2), (4, 2))
    where = jnp.array([True, False, True])
    of_all = pg.fisher_vector_product(
        partial(policy, rows=jnp.arange(3)), weight, damping=0.1, where=where
    )
    of_two = pg.fisher_vector_product(partial(policy, rows=jnp.array([0, 2])), weight, damping=0.1)
    np.testing.assert_allclose(of_all(v), of_two(v), rtol=1e-5)
