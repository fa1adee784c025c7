"""Actor-critic's own promises: A2C's gradient, value regression apart, traced hyperparameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purejaxpg as pg
from tests.small import (
    assert_scalars_are_traced_and_matter,
    cartpole,
    small_actor_critic,
)

POLICY = pg.policy_network(pg.Discrete(2), pg.MLP((8,)))
VALUE = pg.value_network(pg.MLP((8,)))


@pytest.mark.parametrize("normalized", [False, True])
def test_a2c_is_a_step_down_its_joint_loss(normalized):
    """Mnih et al. 2016 with n = 3 of 14 steps, its loss written out here, against plain gradient steps."""
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=6, theta_threshold_radians=0.06)
    discount, bonus = 0.9, 0.3
    algorithm = small_actor_critic(
        env, env_params, advantage_fn=partial(pg.n_step_advantage, discount=discount, n=3),
        entropy_coef=bonus, optimizer=optax.sgd(1.0), num_steps=14,
        normalize_advantages=normalized,
    )  # fmt: skip
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    state = state._replace(params=jax.tree.map(lambda x: 3.0 * x, state.params))
    new, seen, _ = jax.device_get(jax.jit(algorithm.step)(jax.random.key(1), state, env_params))
    assert seen.terminated.any() and (seen.truncated & ~seen.terminated).any()

    @jax.jit
    def values(params, obs):
        return VALUE.apply(params.value, (), obs, seen.start)[0]

    v_next = np.asarray(values(state.params, seen.next_obs), np.float64)
    target = np.zeros_like(v_next)
    length = len(target)
    for env_index in range(target.shape[1]):
        for t in range(length):
            for k in range(3):
                u = t + k
                target[t, env_index] += discount**k * float(seen.reward[u, env_index])
                ended = seen.terminated[u, env_index]
                if ended or seen.truncated[u, env_index] or k == 2 or u == length - 1:
                    target[t, env_index] += discount ** (k + 1) * v_next[u, env_index] * (not ended)
                    break
    advantage = target - np.asarray(values(state.params, seen.obs), np.float64)

    if normalized:
        advantage = (advantage - advantage.mean()) / advantage.std()

    def loss(params):
        probs = POLICY.apply(params.policy, (), seen.obs, seen.start)[0].probs
        log_prob = jnp.log(jnp.take_along_axis(probs, seen.action[..., None], -1))[..., 0]
        entropy = -jnp.sum(probs * jnp.log(probs), -1)
        error = values(params, seen.obs) - target
        return jnp.mean(-log_prob * advantage - bonus * entropy + 0.5 * error**2)

    gradient = jax.jit(jax.grad(loss))(state.params)
    step = jax.tree.map(np.subtract, state.params, new.params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-4), step, gradient
    )


def test_more_value_regression_fits_better_and_leaves_the_policy_alone():
    env, env_params = cartpole()

    def update(num_value_epochs):
        algorithm = small_actor_critic(
            env, env_params, num_value_epochs=num_value_epochs, num_value_minibatches=2
        )
        state = algorithm.init(jax.random.key(0), env_params)
        return algorithm.step(jax.random.key(1), state, env_params)

    once, seen, _ = jax.jit(lambda: update(1))()
    often, seen_again, _ = jax.jit(lambda: update(20))()
    # Two programs, which round differently.
    both = (seen, once.params.policy), (seen_again, often.params.policy)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), *both)

    @jax.jit
    def error(state):  # of a target that both were drawn towards: the returns of the rollout
        value = VALUE.apply(state.params.value, (), seen.obs, seen.start)[0]
        zeros = jnp.zeros_like(value)
        returns = pg.discounted_returns(
            seen.reward, zeros, seen.terminated, seen.truncated, discount=0.99
        )
        return jnp.mean((value - returns) ** 2)

    assert error(often) < error(once)


def test_targets_may_differ_from_advantages():
    """V is drawn to Monte Carlo targets while the policy follows one-step advantages."""
    env, env_params = cartpole()
    td = partial(pg.td_advantage, discount=0.9)
    monte_carlo = partial(pg.monte_carlo_advantage, discount=0.9)

    def update(advantage_fn):
        algorithm = small_actor_critic(env, env_params, advantage_fn=advantage_fn)
        state = algorithm.init(jax.random.key(0), env_params)
        return algorithm.step(jax.random.key(1), state, env_params)[0].params

    each = (pg.with_target_of(td, monte_carlo), td, monte_carlo)
    both, of_td, of_returns = (jax.device_get(jax.jit(partial(update, x))()) for x in each)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
    jax.tree.map(close, both.policy, of_td.policy)
    jax.tree.map(close, both.value, of_returns.value)
    apart = jax.tree.map(lambda x, y: np.abs(x - y).max(), of_td, of_returns)
    assert min(max(jax.tree.leaves(network)) for network in apart) > 1e-4


def test_scalars_are_traced_and_matter():
    env, env_params = cartpole()

    def run(key, discount, gae_lambda, entropy_coef):
        advantage_fn = partial(pg.gae_advantage, discount=discount, gae_lambda=gae_lambda)
        algorithm = small_actor_critic(
            env, env_params, advantage_fn=advantage_fn, entropy_coef=entropy_coef,
            normalize_advantages=True, optimizer=pg.adam(1e-2),
        )  # fmt: skip
        return pg.train(key, algorithm, env_params, num_updates=2)[0].params.policy

    rows = [[0.9, 0.9, 0.1], [0.5, 0.9, 0.1], [0.9, 0.5, 0.1], [0.9, 0.9, 0.9]]
    assert_scalars_are_traced_and_matter(run, rows)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"num_steps": 0}, "num_steps must be at least 1, not 0"),
        ({"num_value_minibatches": 5}, r"divide num_envs \* num_steps = 32"),
    ],
)
def test_wrong_arguments(options, sentence):
    env, env_params = cartpole()
    with pytest.raises(ValueError, match=sentence):
        small_actor_critic(env, env_params, **options)
