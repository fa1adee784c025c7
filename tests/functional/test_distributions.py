"""Distributions against scipy.stats and closed forms in NumPy, and masks against what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from purejaxpg.functional.distributions import categorical, diagonal_gaussian

N, K, D = 6, 4, 3


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(0).normal(scale=2.0, size=(2, N, K)).astype(np.float32)


@pytest.fixture(scope="module")
def mask():
    """From one to all actions allowed."""
    mask = np.random.default_rng(1).random((N, K)) < 0.6
    mask[:, 1] |= ~mask.any(-1)
    mask[0], mask[1] = [False, False, True, False], True
    return mask


@pytest.fixture(scope="module")
def gaussians():
    rng = np.random.default_rng(2)
    mean, log_std = rng.normal(size=(2, 2, N, D)).astype(np.float32)
    return mean, 0.5 * log_std


def softmax(logits, mask=True):
    return special.softmax(np.where(mask, logits.astype(np.float64), -np.inf), axis=-1)


def close(found, expected):
    assert found.dtype == jnp.float32
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# Categorical.


@pytest.mark.parametrize("masked", [False, True])
def test_categorical(logits, mask, masked):
    allowed = mask if masked else np.ones_like(mask)
    p, q = softmax(logits[0], allowed), softmax(logits[1], allowed)
    mine, other = (categorical(x, mask if masked else None) for x in logits)
    close(mine.probs, p)
    for action in range(K):
        found = np.asarray(mine.log_prob(jnp.full(N, action)))[allowed[:, action]]
        close(found, np.log(p[:, action][allowed[:, action]]))
    close(mine.entropy(), stats.entropy(p, axis=-1))
    close(mine.kl_divergence(other), special.rel_entr(p, q).sum(-1))
    np.testing.assert_array_equal(mine.mode(), p.argmax(-1))
    assert mine.mode().dtype == mine.sample(seed=jax.random.key(0)).dtype == jnp.int32
    assert mine.batch_shape == (N,)


@pytest.mark.parametrize("masked", [False, True])
def test_samples_of_a_categorical(logits, mask, masked):
    number = 100_000
    allowed = mask if masked else np.ones_like(mask)
    p = softmax(logits[0], allowed)
    distribution = categorical(logits[0], mask if masked else None)
    sample = jax.jit(lambda key: distribution.sample(seed=key, sample_shape=(number,)))
    actions = np.asarray(sample(jax.random.key(0)))
    assert actions.shape == (number, N)
    counts = np.stack([(actions == action).sum(0) for action in range(K)], axis=-1)
    assert (counts[~allowed] == 0).all()
    assert (np.abs(counts - number * p) <= 5 * np.sqrt(number * p * (1 - p))).all()


def test_kl_is_of_the_first_against_the_second():
    """KL((1/2, 1/2) || (1/4, 3/4)) = ln(4/3) / 2, and the other way ln(27/16) / 4."""
    even, odd = categorical(jnp.zeros(2)), categorical(jnp.log(jnp.array([1.0, 3.0])))
    close(even.kl_divergence(odd), np.log(4 / 3) / 2)
    close(odd.kl_divergence(even), np.log(27 / 16) / 4)
    # KL(N(0, 1) || N(1, 2^2)) = ln 2 + 2/8 - 1/2, and the other way -ln 2 + 5/2 - 1/2.
    narrow = diagonal_gaussian(jnp.zeros(1), jnp.zeros(1))
    wide = diagonal_gaussian(jnp.ones(1), jnp.log(2 * jnp.ones(1)))
    close(narrow.kl_divergence(wide), np.log(2) - 0.25)
    close(wide.kl_divergence(narrow), 2 - np.log(2))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_forbidden_actions_are_impossible(logits, mask, scale):
    """Exactly so, and however large their logits."""
    distribution = categorical(scale * logits[0], mask)
    probs = np.asarray(distribution.probs)
    assert (probs[~mask] == 0).all()
    np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-6)
    for action in range(K):
        log_prob = distribution.log_prob(jnp.full(N, action))
        assert (np.exp(log_prob)[~mask[:, action]] == 0).all()
    assert mask[np.arange(N), distribution.mode()].all()


def test_one_allowed_action_is_certain():
    only = jnp.array([False, True, False])
    distribution = categorical(jnp.array([3.0, -2.0, 1.0]), only)
    assert distribution.mode() == 1
    assert distribution.entropy() == 0
    assert distribution.log_prob(1) == 0
    assert distribution.kl_divergence(categorical(jnp.array([0.0, 5.0, 9.0]), only)) == 0


@pytest.mark.parametrize("legal", [1, 2, 4])
def test_gradients_through_masks(legal):
    """Finite, zero at forbidden actions, and where actions are left those of the smaller softmax."""
    mask = np.arange(K) < legal
    rng = np.random.default_rng(3)
    logits, others = rng.normal(size=(2, K)).astype(np.float32)

    def functions(make):
        return (
            lambda x: make(x).log_prob(0),
            lambda x: make(x).entropy(),
            lambda x: make(x).kl_divergence(make_other),
            lambda x: make_other.kl_divergence(make(x)),
        )

    make_other = categorical(others, mask)
    masked = [jax.grad(f)(logits) for f in functions(lambda x: categorical(x, mask))]
    make_other = categorical(others[:legal])
    small = [jax.grad(f)(logits[:legal]) for f in functions(categorical)]
    for found, expected in zip(masked, small, strict=True):
        assert np.isfinite(found).all()
        assert (found[legal:] == 0).all()
        np.testing.assert_allclose(found[:legal], expected, rtol=1e-4, atol=1e-6)


# Gaussian.


def test_gaussian(gaussians):
    (mean, other_mean), (log_std, other_log_std) = gaussians
    mine = diagonal_gaussian(jnp.array(mean), jnp.array(log_std))
    other = diagonal_gaussian(jnp.array(other_mean), jnp.array(other_log_std))
    mean, other_mean = mean.astype(np.float64), other_mean.astype(np.float64)
    std, other_std = np.exp(log_std.astype(np.float64)), np.exp(other_log_std.astype(np.float64))

    action = np.random.default_rng(4).normal(size=(N, D)).astype(np.float32)
    close(mine.log_prob(action), stats.norm.logpdf(action, mean, std).sum(-1))
    close(mine.entropy(), stats.norm.entropy(mean, std).sum(-1))
    kl = np.log(other_std / std) + (std**2 + (mean - other_mean) ** 2) / (2 * other_std**2) - 0.5
    close(mine.kl_divergence(other), kl.sum(-1))
    close(mine.mode(), mean)
    assert (mine.batch_shape, mine.event_shape) == ((N,), (D,))


def test_samples_of_a_gaussian(gaussians):
    """Five standard errors: std / sqrt(n) of a mean, std / sqrt(2 n) of a deviation."""
    number = 50_000
    mean, log_std = gaussians[0][0], gaussians[1][0]
    distribution = diagonal_gaussian(jnp.array(mean), jnp.array(log_std))
    samples = jax.jit(lambda key: distribution.sample(seed=key, sample_shape=(number,)))(
        jax.random.key(0)
    )
    assert samples.shape == (number, N, D)
    std, samples = np.exp(log_std), np.asarray(samples, np.float64)
    assert (np.abs(samples.mean(0) - mean) < 5 * std / np.sqrt(number)).all()
    assert (np.abs(samples.std(0) - std) < 5 * std / np.sqrt(2 * number)).all()
    correlation = np.corrcoef(samples[:, 0], rowvar=False)[np.triu_indices(D, 1)]
    assert (np.abs(correlation) < 5 / np.sqrt(number)).all()


def test_log_std_is_broadcast(gaussians):
    mean = jnp.array(gaussians[0][0])
    shared = diagonal_gaussian(mean, jnp.array([0.1, 0.2, 0.3]))
    full = diagonal_gaussian(mean, jnp.tile(jnp.array([0.1, 0.2, 0.3]), (N, 1)))
    np.testing.assert_array_equal(shared.log_prob(mean + 1), full.log_prob(mean + 1))
    assert all(leaf.shape == (N, D) for leaf in jax.tree.leaves(shared))


# Pytrees.


MAKERS = {
    "categorical": (categorical, lambda x: jnp.argmax(x, -1)),
    "masked": (lambda x: categorical(x, x > -1.5), lambda x: jnp.argmax(x, -1)),
    "gaussian": (lambda x: diagonal_gaussian(x, 0.3 * x), lambda x: x + 0.5),
}


@pytest.mark.parametrize("name", MAKERS)
def test_distributions_are_pytrees(name):
    """Made inside jit, vmap or scan, reshaped leaf by leaf, they say what they say when made at once."""
    make, choose = MAKERS[name]
    x = jax.random.normal(jax.random.key(0), (N, 5, K))
    action = choose(x)
    whole = make(x)
    log_prob, entropy = whole.log_prob(action), whole.entropy()
    assert log_prob.shape == entropy.shape == (N, 5)

    made = {
        "jit": jax.jit(make)(x),
        "vmap": jax.vmap(make)(x),
        "vmap of vmap": jax.vmap(jax.vmap(make))(x),
        "scan": jax.lax.scan(lambda carry, row: (carry, make(row)), 0, x)[1],
        "reshape": jax.tree.map(
            lambda leaf: leaf.reshape(N, 5, *leaf.shape[1:]), make(x.reshape(N * 5, K))
        ),
    }
    for distribution in made.values():
        assert distribution.batch_shape == (N, 5)
        np.testing.assert_allclose(distribution.log_prob(action), log_prob, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(distribution.entropy(), entropy, rtol=1e-5, atol=1e-6)
        close(distribution.kl_divergence(whole), np.zeros((N, 5)))

    into = jax.jit(lambda distribution, action: distribution.log_prob(action))(whole, action)
    np.testing.assert_allclose(into, log_prob, rtol=1e-5, atol=1e-6)
    row = jax.tree.map(lambda leaf: leaf[2, 3], whole)
    np.testing.assert_allclose(row.log_prob(action[2, 3]), log_prob[2, 3], rtol=1e-5, atol=1e-6)
    each = jax.vmap(lambda distribution, action: distribution.log_prob(action))(whole, action)
    np.testing.assert_allclose(each, log_prob, rtol=1e-5, atol=1e-6)
