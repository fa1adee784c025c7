"""Losses of later papers, group advantages and two-hot values: rlax, optax, hand-computed cases, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax

import purejaxpg as pg
from tests.functional.test_extremes import (
    ADVANTAGE,
    LOG_RATIO,
    LOG_RATIOS,
    RATIO,
    close,
    value_and_gradient,
)

RNG = np.random.default_rng(0)


def test_leave_one_out_is_each_less_the_mean_of_the_others():
    reward = RNG.normal(size=(4, 5, 3)).astype(np.float32)
    found = pg.leave_one_out_advantage(reward, axis=1)
    for k in range(5):
        others = np.delete(reward, k, axis=1).mean(axis=1)
        np.testing.assert_allclose(found[:, k], reward[:, k] - others, rtol=1e-4, atol=1e-5)
    equal = pg.leave_one_out_advantage(jnp.full((2, 3), 0.1))
    np.testing.assert_allclose(equal, 0.0, atol=1e-7)


def test_group_normalised():
    reward = RNG.normal(3.0, 5.0, size=(4, 5)).astype(np.float32)
    found = np.float64(pg.group_normalized_advantage(reward))
    np.testing.assert_allclose(found.mean(1), 0.0, atol=1e-6)
    np.testing.assert_allclose(found.std(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.argsort(found), np.argsort(reward))
    assert (pg.group_normalized_advantage(jnp.full((7, 3), 0.1)) == 0.0).all()
    assert (pg.group_normalized_advantage(jnp.full((7, 3), 0.1), axis=0) == 0.0).all()


@pytest.mark.parametrize("advantage", [pg.leave_one_out_advantage, pg.group_normalized_advantage])
def test_a_group_needs_two_answers(advantage):
    for reward, axis in ((jnp.ones((3, 1)), -1), (jnp.ones(3), 1)):
        with pytest.raises(ValueError, match=f"A group needs at least 2 answers along axis {axis}"):
            advantage(reward, axis=axis)


def test_dual_clip_at_extremes():
    found = value_and_gradient(
        lambda *x: pg.dual_clip_loss(*x, clip_eps=0.2, dual_clip=3.0),
        LOG_RATIO,
        0 * LOG_RATIO,
        ADVANTAGE,
    )
    objective = np.minimum(RATIO * ADVANTAGE, np.clip(RATIO, 0.8, 1.2) * ADVANTAGE)
    objective = np.where(ADVANTAGE < 0, np.maximum(objective, 3.0 * ADVANTAGE), objective)
    flat = np.where(ADVANTAGE > 0, RATIO > 1.2, (RATIO < 0.8) | (RATIO > 3.0))
    close(found, (-objective, np.where(flat, 0.0, -RATIO * ADVANTAGE)))
    with pytest.raises(ValueError, match=r"dual_clip must be greater than 1, not 1\.0"):
        pg.dual_clip_loss(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1), clip_eps=0.2, dual_clip=1.0)


def test_advantage_weighted_regression_at_extremes():
    def loss(log_prob, advantage):
        return pg.awr_loss(log_prob, advantage, temperature=2.0)

    log_prob = np.full_like(ADVANTAGE, -1.5)
    weight = np.minimum(np.exp(np.minimum(ADVANTAGE / 2.0, 10.0)), 20.0)
    close(value_and_gradient(loss, log_prob, ADVANTAGE), (1.5 * weight, -weight))


def test_second_estimate_of_the_kl_at_extremes():
    found = value_and_gradient(pg.kl_k2, LOG_RATIOS, 0 * LOG_RATIOS)
    close(found, (0.5 * LOG_RATIOS**2, LOG_RATIOS))


def test_gradient_of_the_second_estimate_is_that_of_the_reverse_kl():
    """Mean over the actions of the policy that is being changed, by enumeration."""
    logits, other = jnp.array([0.3, -0.4, 1.0]), jnp.array([-0.2, 0.5, 0.1])
    reference = jax.nn.log_softmax(other)

    def estimate(x):
        weight = jax.lax.stop_gradient(jax.nn.softmax(x))
        return jnp.sum(weight * pg.kl_k2(jax.nn.log_softmax(x), reference))

    def exact(x):
        return jnp.sum(jax.nn.softmax(x) * (jax.nn.log_softmax(x) - reference))

    np.testing.assert_allclose(
        jax.grad(estimate)(logits), jax.grad(exact)(logits), rtol=1e-4, atol=1e-6
    )


def test_all_actions_against_rlax():
    logits, q_value = RNG.normal(size=(2, 6, 4)).astype(np.float32)
    gradient = jax.grad(
        lambda x: pg.expected_policy_gradient_loss(jax.nn.softmax(x), q_value).mean()
    )
    expected = jax.grad(lambda x: rlax.qpg_loss(x, q_value))
    np.testing.assert_allclose(gradient(logits), expected(logits), rtol=1e-4, atol=1e-6)
    loss = pg.expected_policy_gradient_loss(jnp.array([[0.0, 1.0]]), jnp.array([[1e30, -2.0]]))
    np.testing.assert_allclose(loss, [2.0])


def test_direct_preference():
    """By hand: beta 0.5, log ratios 2 and -4, so -log sigmoid(3); its gradient is -beta sigmoid(-3)."""
    arrays = [jnp.float32(x) for x in (-1.0, -5.0, -3.0, -1.0)]

    def loss(*x):
        return pg.dpo_loss(*x, beta=0.5)

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(*arrays)
    np.testing.assert_allclose(value, np.log1p(np.exp(-3.0)), rtol=1e-5)
    slope = 0.5 / (1 + np.exp(3.0))
    np.testing.assert_allclose(gradients, [-slope, slope, 0.0, 0.0], rtol=1e-5)
    for chosen in (-1e9, 1e9):
        found = jax.value_and_grad(loss)(jnp.float32(chosen), 0.0 * arrays[0], *arrays[2:])
        assert np.isfinite(found).all()


def test_huber_against_rlax_and_extremes():
    error = np.array([-1e9, -2.0, -0.5, 0.0, 1.0, 3.0, 1e9], np.float32)
    found = value_and_gradient(lambda *x: pg.huber_value_loss(*x, delta=2.0), error, 0 * error)
    expected = rlax.huber_loss(error, 2.0)
    close(found, (expected, np.clip(error, -2.0, 2.0)))
    assert jax.grad(pg.huber_value_loss, argnums=1)(1.0 * jnp.ones(()), jnp.zeros(())) == 0.0


def test_symlog_and_symexp_against_rlax():
    x = np.array([-1e6, -3.0, -1e-3, 0.0, 0.5, 1e6], np.float32)
    np.testing.assert_allclose(pg.symlog(x), rlax.signed_logp1(x), rtol=1e-6)
    np.testing.assert_allclose(pg.symexp(pg.symlog(x)), x, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        pg.symexp(0.01 * x[1:5]), rlax.signed_expm1(0.01 * x[1:5]), rtol=1e-5
    )
    slope = jax.vmap(jax.grad(pg.symlog))(jnp.array([0.5, -1e30]))
    np.testing.assert_allclose(slope, [1 / 1.5, 0.0], rtol=1e-5, atol=1e-20)


def test_two_hot_against_rlax():
    x = RNG.uniform(-3.0, 5.0, size=(6, 2)).astype(np.float32)
    bins = jnp.linspace(-2.0, 4.0, 13)
    expected = rlax.transform_to_2hot(x, -2.0, 4.0, 13)
    np.testing.assert_allclose(pg.two_hot(x, bins), expected, atol=1e-4)


def test_two_hot_keeps_the_number_between_uneven_bins():
    bins = pg.symexp(jnp.linspace(-5.0, 5.0, 21))
    x = np.clip(RNG.normal(0.0, 30.0, size=50), bins[0], bins[-1]).astype(np.float32)
    probs = np.asarray(pg.two_hot(x, bins))
    np.testing.assert_allclose(probs @ np.asarray(bins), x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-6)
    assert ((probs > 0).sum(-1) <= 2).all() and (probs >= 0).all()
    with np.errstate(divide="ignore"):
        logits = np.log(probs)
    np.testing.assert_allclose(
        pg.two_hot_mean(jnp.maximum(logits, -1e9), bins), x, rtol=1e-4, atol=1e-4
    )


def test_two_hot_loss_against_optax():
    bins, target = jnp.array([-1.0, 0.0, 2.0, 5.0]), jnp.array([0.5, -7.0, 1e30, 5.0])
    logits = RNG.normal(size=(4, 4)).astype(np.float32)
    value, gradient = jax.vmap(jax.value_and_grad(pg.two_hot_value_loss), (0, 0, None))(
        logits, target, bins
    )
    labels = np.array([[0, 0.75, 0.25, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]], np.float32)
    expected = optax.losses.softmax_cross_entropy(logits, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, jax.nn.softmax(logits) - labels, rtol=1e-4, atol=1e-6)
    for wrong in (target[:, None], target[0]):
        with pytest.raises(ValueError, match="same shape"):
            pg.two_hot_value_loss(logits, wrong, bins)
    with pytest.raises(ValueError, match="one number for each bin"):
        pg.two_hot_value_loss(logits[:, :3], target, bins)


def penalty(alpha, epsilon):
    return rlax.LagrangePenalty(jnp.float32(alpha), epsilon, False)


@pytest.mark.parametrize("top_fraction", [0.5, 0.25, 1.0])
def test_vmpo_against_rlax(top_fraction):
    log_prob, advantage, kl = RNG.normal(size=(3, 8)).astype(np.float32)
    kl, alpha, temperature = np.abs(kl), 0.7, 1.3

    def ours(log_prob, temperature, alpha, kl):
        policy = pg.vmpo_policy_loss(
            log_prob, advantage, temperature=temperature, top_fraction=top_fraction
        ).mean()
        dual = pg.vmpo_temperature_loss(
            advantage, temperature=temperature, epsilon=0.1, top_fraction=top_fraction
        )
        return policy + dual + pg.vmpo_alpha_loss(kl, alpha=alpha, epsilon=0.02).mean()

    def theirs(log_prob, temperature, alpha, kl):
        total, _ = rlax.vmpo_loss(
            log_prob, advantage, penalty(1.0, 0.1)._replace(alpha=temperature),
            [(kl, penalty(1.0, 0.02)._replace(alpha=alpha))], top_k_fraction=top_fraction,
        )  # fmt: skip
        return jnp.mean(total)

    arguments = jnp.asarray(log_prob), jnp.float32(temperature), jnp.float32(alpha), jnp.asarray(kl)
    for found, expected in zip(
        *(jax.value_and_grad(f, argnums=(0, 1, 2, 3))(*arguments) for f in (ours, theirs))
    ):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), found, expected
        )


def test_vmpo_at_extremes():
    advantage = jnp.array([-1e6, 1e6, 0.0, 3.0])
    weights = -jax.grad(lambda x: pg.vmpo_policy_loss(x, advantage, temperature=1e-3).mean())(
        jnp.zeros(4)
    )
    np.testing.assert_allclose(weights, [0.0, 1.0, 0.0, 0.0], atol=1e-6)
    found = jax.value_and_grad(
        lambda x: pg.vmpo_temperature_loss(advantage, temperature=x, epsilon=0.1)
    )(jnp.float32(1e-3))
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="top_fraction must be at most 1"):
        pg.vmpo_policy_loss(jnp.zeros(2), jnp.zeros(2), temperature=1.0, top_fraction=1.5)
