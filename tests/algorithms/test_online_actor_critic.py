"""Online actor-critic against the five steps of the method, one transition after the other, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purejaxpg as pg
from tests.small import (
    assert_scalars_are_traced_and_matter,
    assert_trees_equal,
    cartpole,
    small_online_actor_critic,
)

POLICY = pg.policy_network(pg.Discrete(2), pg.MLP((4,)))
VALUE = pg.value_network(pg.MLP((4,)))
POLICY_RATE, VALUE_RATE, DISCOUNT, BONUS = 0.05, 0.1, 0.9, 0.1


def one(x):
    return jnp.asarray(x)[None, None]


@jax.jit
def value_and_grad(params, obs):
    return jax.value_and_grad(lambda p: VALUE.apply(p, (), one(obs), one(False))[0][0, 0])(params)


@jax.jit
def policy_grads(params, obs, action):
    def probs(params):
        return POLICY.apply(params, (), one(obs), one(False))[0].probs[0, 0]

    log_prob = jax.grad(lambda params: jnp.log(probs(params)[action]))(params)
    entropy = jax.grad(lambda params: -jnp.sum(probs(params) * jnp.log(probs(params))))(params)
    return log_prob, entropy


def replay(params, seen, trace_lambda):
    """The slide's steps over recorded transitions; the gradients alone come from JAX."""
    policy, value = params
    num_steps, num_envs = seen.reward.shape
    zeros = [jax.tree.map(jnp.zeros_like, params) for _ in range(num_envs)]
    policy_z, value_z = [z.policy for z in zeros], [z.value for z in zeros]

    def add(x, scale, y):
        return jax.tree.map(lambda x, y: x + scale * y, x, y)

    def error(value, t, e):  # r + discount V(s') - V(s)
        v, _ = value_and_grad(value, seen.obs[t, e])
        v_next, _ = value_and_grad(value, seen.next_obs[t, e])
        v_next = 0.0 if seen.terminated[t, e] else v_next
        return seen.reward[t, e] + DISCOUNT * v_next - v

    for t in range(num_steps):
        new_value = value
        for e in range(num_envs):  # update V toward r + discount V(s')
            keep = 0.0 if seen.start[t, e] else DISCOUNT * trace_lambda
            _, gradient = value_and_grad(value, seen.obs[t, e])
            value_z[e] = add(gradient, keep, value_z[e])
            new_value = add(new_value, VALUE_RATE * error(value, t, e) / num_envs, value_z[e])
        value = new_value
        new_policy = policy
        for e in range(num_envs):  # A = r + discount V(s') - V(s), of the new V; step
            keep = 0.0 if seen.start[t, e] else DISCOUNT * trace_lambda
            score, entropy = policy_grads(policy, seen.obs[t, e], seen.action[t, e])
            policy_z[e] = add(score, keep, policy_z[e])
            step = add(jax.tree.map(lambda x: BONUS * x, entropy), error(value, t, e), policy_z[e])
            new_policy = add(new_policy, POLICY_RATE / num_envs, step)
        policy = new_policy
    return policy, value


@pytest.mark.parametrize("trace_lambda", [0.0, 0.8])
def test_five_steps_for_every_transition(trace_lambda):
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=6, theta_threshold_radians=0.06)
    algorithm = pg.online_actor_critic(
        env, POLICY, VALUE, optax.sgd(POLICY_RATE), optax.sgd(VALUE_RATE), num_envs=2, num_steps=9,
        discount=DISCOUNT, trace_lambda=trace_lambda, entropy_coef=BONUS,
    )  # fmt: skip
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    step = jax.jit(algorithm.step)
    params, rollouts = state.params, []
    for i in range(2):  # traces live on from one call to the next
        state, seen, _ = step(jax.random.key(i), state, env_params)
        rollouts.append(seen)
    seen = jax.tree.map(lambda *x: np.concatenate(x), *rollouts)
    assert seen.terminated.any() and (seen.truncated & ~seen.terminated).any()
    assert not seen.start[9].all()
    policy, value = replay(params, seen, trace_lambda)
    for found, expected, begun in (
        (state.params.policy, policy, params.policy),
        (state.params.value, value, params.value),
    ):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5), found, expected
        )
        moved = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), found, begun)
        assert max(jax.tree.leaves(moved)) > 1e-2


def test_calls_of_any_length_are_one_stream_of_transitions():
    """The state holds all there is: 2 calls of 3 transitions see as many resets as one of 6."""
    env, env_params = cartpole()
    algorithm = small_online_actor_critic(env, env_params, num_steps=3)
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    step = jax.jit(algorithm.step)
    middle, first, _ = step(jax.random.key(0), state, env_params)
    _, second, _ = step(jax.random.key(1), middle, env_params)
    going_on = ~(first.terminated | first.truncated)[-1]
    assert going_on.any()
    np.testing.assert_array_equal(second.obs[0][going_on], first.next_obs[-1][going_on])
    np.testing.assert_array_equal(second.start[0], ~going_on)
    assert_trees_equal(middle.loop.obs, second.obs[0])


def test_scalars_are_traced_and_matter():
    env, env_params = cartpole()

    def run(key, discount, trace_lambda, entropy_coef):
        algorithm = small_online_actor_critic(
            env, env_params, discount=discount, trace_lambda=trace_lambda, entropy_coef=entropy_coef
        )
        return pg.train(key, algorithm, env_params, num_updates=2)[0].params.policy

    rows = [[0.9, 0.9, 0.1], [0.5, 0.9, 0.1], [0.9, 0.5, 0.1], [0.9, 0.9, 0.9]]
    assert_scalars_are_traced_and_matter(run, rows)


def test_wrong_arguments():
    env, env_params = cartpole()
    with pytest.raises(ValueError, match="num_envs must be at least 1, not 0"):
        small_online_actor_critic(env, env_params, num_envs=0)
