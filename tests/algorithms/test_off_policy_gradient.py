"""Several steps on one rollout: REINFORCE where there is one, and the weights of the policy as it moves."""

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
    small_off_policy_gradient,
    small_reinforce,
)

SHORT = {"num_steps": 16, "normalize_advantages": True}


def short_cartpole():
    """Episodes of at most 6 steps: some end by falling, some by the limit, and rollouts cut others."""
    return pg.make("CartPole-v1", max_steps_in_episode=6, theta_threshold_radians=0.06)


def one_update(algorithm, env_params):
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    return state, *jax.jit(algorithm.step)(jax.random.key(1), state, env_params)


@pytest.mark.parametrize(
    "weighting, options",
    [
        (pg.per_step_weighting, {}),
        (partial(pg.per_decision_weighting, self_normalize=True), {}),
        (partial(pg.trajectory_weighting, reward_to_go=False), {"reward_to_go": False}),
        (pg.vtrace, {}),
    ],
)
def test_one_step_is_reinforce(weighting, options):
    env, env_params = short_cartpole()
    once = small_off_policy_gradient(
        env, env_params, weighting_fn=weighting, num_policy_steps=1, entropy_coef=0.1, **SHORT
    )
    reinforce = small_reinforce(env, env_params, entropy_coef=0.1, **SHORT, **options)
    (_, new, _, metrics), (_, expected, _, theirs) = (
        one_update(x, env_params) for x in (once, reinforce)
    )
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
        new.params, expected.params,
    )  # fmt: skip
    assert float(metrics["kl"]) == 0.0
    for name, value in theirs.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_the_second_step_weighs_by_the_ratio_to_the_policy_that_acted():
    """By hand from the policy after the first step: sum over counted steps of ratio advantage score."""
    env, env_params = short_cartpole()
    build = partial(
        small_off_policy_gradient, env, env_params, optimizer=optax.sgd(0.3), num_steps=16,
        normalize_advantages=False, value=pg.zero_value_network(), discount=0.9,
    )  # fmt: skip
    (state, first, seen, _), (_, second, again, metrics) = (
        one_update(build(num_policy_steps=k), env_params) for k in (1, 2)
    )
    np.testing.assert_array_equal(seen.obs, again.obs)
    policy = pg.policy_network(env.action_space(env_params), pg.MLP((8,)))

    def log_prob(params):
        probs = policy.apply(params, (), seen.obs, seen.start)[0].probs
        return jnp.log(jnp.take_along_axis(probs, seen.action[..., None], -1))[..., 0]

    done = np.asarray(seen.terminated | seen.truncated)
    weight, returns = np.zeros(done.shape), np.zeros(done.shape)
    for b in range(done.shape[1]):
        later, counts = 0.0, False
        for t in reversed(range(len(done))):
            if done[t, b]:
                later, counts = 0.0, True  # V is 0, also behind a time limit
            later = 1.0 + 0.9 * later
            returns[t, b], weight[t, b] = later, counts / done.sum()
    ratio = np.exp(log_prob(first.params.policy) - log_prob(state.params.policy))
    assert np.abs(ratio - 1).max() > 0.05

    def objective(params):
        return jnp.sum(weight * ratio * returns * log_prob(params))

    expected = jax.grad(objective)(first.params.policy)
    moved = jax.tree.map(lambda x, y: (x - y) / 0.3, second.params.policy, first.params.policy)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=1e-4), moved, expected
    )
    assert float(metrics["kl"]) > 0


def test_more_steps_go_further():
    env, env_params = cartpole()
    moved = {}
    for k in (1, 5):
        state, new, _, metrics = one_update(
            small_off_policy_gradient(env, env_params, num_policy_steps=k, num_steps=64), env_params
        )
        moved[k] = float(optax.tree.norm(optax.tree.sub(new.params.policy, state.params.policy)))
        assert all(np.isfinite(x) for x in metrics.values())
    assert moved[5] > 2 * moved[1]


def test_a_weighting_of_another_shape_is_refused():
    env, env_params = cartpole()
    for weighting, sentence in (
        (lambda *x: x[0], r"weighting_fn must return \(advantage, value_target\), not"),
        (lambda *x: (x[0].mean(), x[0]), "must have the same shape"),
    ):
        algorithm = small_off_policy_gradient(env, env_params, weighting_fn=weighting)
        state = jax.eval_shape(algorithm.init, jax.random.key(0), env_params)
        with pytest.raises(ValueError, match=sentence):
            jax.eval_shape(algorithm.step, jax.random.key(0), state, env_params)


def test_scalars_are_traced_and_matter():
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=5)

    def run(key, discount, max_weight, entropy_coef):
        weighting = partial(pg.trajectory_weighting, discount=discount, max_weight=max_weight)
        algorithm = small_off_policy_gradient(
            env, env_params, weighting_fn=weighting, entropy_coef=entropy_coef,
            optimizer=pg.adam(1e-1), num_policy_steps=3,
        )  # fmt: skip
        return pg.train(key, algorithm, env_params, num_updates=2)[0].params.policy

    rows = [[0.9, 2.0, 0.1], [0.5, 2.0, 0.1], [0.9, 1.01, 0.1], [0.9, 2.0, 0.9]]
    assert_scalars_are_traced_and_matter(run, rows)
