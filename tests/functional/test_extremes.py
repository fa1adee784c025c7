"""Losses and distributions at extremes: values and gradients are those of float64, and finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.functional import losses

LOG_RATIOS = np.array(
    [-1e9, -100.0, -20.0, -1e-3, 0.0, 0.1, 1.0, 19.0, 30.0, 88.0, 100.0, 1e4, 1e9]
)
ADVANTAGES = np.array([-1e6, -2.0, 0.0, 3.0, 1e6])
LOG_RATIO, ADVANTAGE = (x.ravel() for x in np.meshgrid(LOG_RATIOS, ADVANTAGES))
# In float64, with the bound that the module's docstring states.
BOUNDED = np.minimum(LOG_RATIO, 20.0)
RATIO = np.exp(BOUNDED)


def value_and_gradient(loss, *arrays):
    """Of every sample, with respect to the first array."""
    arrays = [jnp.asarray(x, jnp.float32) for x in arrays]
    return jax.vmap(jax.value_and_grad(loss))(*arrays)


def close(found, expected):
    for x, y in zip(found, expected):
        assert np.isfinite(x).all()
        np.testing.assert_allclose(x, y, rtol=3e-5, atol=1e-6)


def test_surrogate():
    found = value_and_gradient(losses.surrogate_loss, LOG_RATIO, 0 * LOG_RATIO, ADVANTAGE)
    close(found, (-RATIO * ADVANTAGE, -RATIO * ADVANTAGE))


def test_clip():
    found = value_and_gradient(
        lambda *x: losses.ppo_clip_loss(*x, clip_eps=0.2), LOG_RATIO, 0 * LOG_RATIO, ADVANTAGE
    )
    expected = -np.minimum(RATIO * ADVANTAGE, np.clip(RATIO, 0.8, 1.2) * ADVANTAGE)
    flat = np.where(ADVANTAGE > 0, RATIO > 1.2, RATIO < 0.8)
    close(found, (expected, np.where(flat, 0.0, -RATIO * ADVANTAGE)))


def test_kl_penalty():
    def loss(log_prob, old, advantage):
        return losses.ppo_kl_penalty_loss(log_prob, old, advantage, 0.5 * log_prob, kl_coef=2.0)

    found = value_and_gradient(loss, LOG_RATIO, 0 * LOG_RATIO, ADVANTAGE)
    close(found, (LOG_RATIO - RATIO * ADVANTAGE, 1.0 - RATIO * ADVANTAGE))


def test_estimates_of_the_kl():
    close(value_and_gradient(losses.kl_k1, LOG_RATIOS, 0 * LOG_RATIOS), (-LOG_RATIOS, -1.0))
    bounded = np.minimum(LOG_RATIOS, 20.0)
    found = value_and_gradient(losses.kl_k3, LOG_RATIOS, 0 * LOG_RATIOS)
    close(found, (np.expm1(bounded) - bounded, np.expm1(bounded)))


def test_bradley_terry():
    difference = np.array([-1e9, -100.0, 0.0, 100.0, 1e9])
    found = value_and_gradient(losses.bradley_terry_loss, difference, 0 * difference)
    expected = np.maximum(-difference, 0) + np.log1p(np.exp(-np.abs(difference)))
    close(found, (expected, -1 / (1 + np.exp(np.clip(difference, -700, 700)))))


LOGITS = [
    [-np.inf, 0.0, 1.0],
    [-np.inf, -np.inf, 3.0],
    [1e30, 0.0, -1e30],
    [-1e12, -1e12, -2e12],
    [3e38, -3e38, 3e38],
    [np.inf, 0.0, 1.0],
    [40.0, -40.0, 0.0],
]


def exact(logits):
    """Probabilities in float64, infinite logits being the largest float32 of their sign."""
    logits = np.clip(np.array(logits, np.float64), -3.4028235e38, 3.4028235e38)
    probs = np.exp(logits - logits.max())
    return probs / probs.sum()


def entropy_gradient(probs):
    """dH / d logit_i = -p_i (log p_i + H), which is 0 where p_i is."""
    log = np.log(np.where(probs > 0, probs, 1.0))
    return -probs * (log - probs @ log)


@pytest.mark.parametrize("logits", LOGITS)
def test_categorical(logits):
    probs = exact(logits)
    log = np.log(np.where(probs > 0, probs, 1.0))
    logits = jnp.array(logits, jnp.float32)
    policy = pg.categorical(logits)
    np.testing.assert_allclose(policy.probs, probs, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(policy.probs) == 0, probs == 0)
    value, gradient = jax.value_and_grad(lambda x: pg.categorical(x).entropy())(logits)
    np.testing.assert_allclose(value, -probs @ log, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, entropy_gradient(probs), rtol=1e-5, atol=1e-6)
    for action in range(3):
        found = policy.log_prob(jnp.array(action))
        assert found == -1e9 if probs[action] == 0 else abs(found - log[action]) < 1e-5
        gradient = jax.grad(lambda x, a=action: pg.categorical(x).log_prob(jnp.array(a)))(logits)
        # Neither what has probability 0 nor what is infinite has a gradient.
        moves = (probs > 0) & np.isfinite(logits)
        expected = np.where(moves, (np.arange(3) == action) * 1.0 - probs, 0.0)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
    samples = policy.sample(seed=jax.random.key(0), sample_shape=2000)
    counts = np.bincount(np.asarray(samples), minlength=3) / 2000
    assert (counts[probs == 0] == 0).all()
    assert (np.abs(counts - probs) < 5 * np.sqrt(probs * (1 - probs) / 2000) + 1e-9).all()


@pytest.mark.parametrize("logits", LOGITS)
@pytest.mark.parametrize("other", LOGITS)
def test_divergence_of_categoricals(logits, other):
    """Where the other policy forbids what this one does it is large and finite, elsewhere exact."""
    p, q = exact(logits), exact(other)
    arrays = jnp.array(logits, jnp.float32), jnp.array(other, jnp.float32)

    def divergence(x, y):
        return pg.categorical(x).kl_divergence(pg.categorical(y))

    value, gradients = jax.value_and_grad(divergence, argnums=(0, 1))(*arrays)
    assert np.isfinite(value) and all(np.isfinite(x).all() for x in gradients)
    both = p > 1e-6
    if (q[both] > 0).all():
        exactly = np.sum(p[both] * (np.log(p[both]) - np.log(q[both])))
        np.testing.assert_allclose(value, exactly, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(gradients[1], np.where(q > 0, q - p, 0), rtol=1e-5, atol=1e-5)
    else:
        assert value > 1e6


def test_a_forbidden_action_does_no_harm_at_entropy_coefficient_0():
    def loss(logits):
        policy = pg.categorical(logits)
        return -policy.log_prob(jnp.array(1)) - 0.0 * policy.entropy()

    found = jax.grad(loss)(jnp.array([-jnp.inf, 0.0, 1.0]))
    p = exact([0.0, 1.0])
    np.testing.assert_allclose(found, [0.0, p[0] - 1, p[1]], rtol=1e-6)


def test_masks_hold_whatever_the_logits():
    policy = pg.categorical(jnp.array([-1e12, -1e12, 1e12]), jnp.array([True, True, False]))
    np.testing.assert_allclose(policy.probs, [0.5, 0.5, 0.0])


@pytest.mark.parametrize("log_std", [-1e9, -100.0, -20.0, 0.0, 20.0, 100.0, 1e9])
def test_gaussian(log_std):
    std = np.exp(np.clip(log_std, -20.0, 20.0))
    action, mean = 1.5, 0.5

    def log_prob(mean, log_std):
        policy = pg.diagonal_gaussian(mean[None], log_std[None])
        return policy.log_prob(jnp.array([action]))

    given = jnp.float32(mean), jnp.float32(log_std)
    value, gradients = jax.value_and_grad(log_prob, argnums=(0, 1))(*given)
    z = (action - mean) / std
    within = abs(log_std) < 20.0
    np.testing.assert_allclose(
        value, -0.5 * z**2 - np.log(std) - 0.5 * np.log(2 * np.pi), rtol=1e-5
    )
    np.testing.assert_allclose(gradients[0], z / std, rtol=1e-5)
    assert np.isfinite(gradients[1])
    if within:
        np.testing.assert_allclose(gradients[1], z**2 - 1, rtol=1e-5, atol=1e-6)
    elif abs(log_std) > 20.0:
        assert gradients[1] == 0.0
