"""Accuracy, calibration and units of a reward model, by loops and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.rlhf.calibration import accuracy, calibration, standardize, standardized
from purejaxpg.rlhf.preferences import Comparisons


def sum_of(weight, texts):
    return weight * texts.sum(axis=-1)


def test_accuracy_counts_pairs():
    pairs = Comparisons(np.array([[1, 2], [0, 0], [5, 1]]), np.array([[1, 1], [0, 1], [3, 3]]))
    assert float(accuracy(sum_of, 1.0, pairs)) == pytest.approx((1 + 0 + 0.5) / 3)
    assert float(accuracy(sum_of, -1.0, pairs)) == pytest.approx((0 + 1 + 0.5) / 3)


def test_the_table_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    probability = np.append(rng.uniform(0, 0.69, 198), [1.0, 0.0]).astype(np.float32)
    outcome = rng.random(200) < probability**2
    table = calibration(probability, outcome, bins=5)
    error = 0.0
    for b in range(5):
        inside = (probability >= b / 5) & ((probability < (b + 1) / 5) | (b == 4))
        assert int(table.samples[b]) == inside.sum()
        if inside.any():
            means = probability[inside].mean(), outcome[inside].mean()
            assert float(table.predicted[b]) == pytest.approx(means[0], abs=1e-5)
            assert float(table.observed[b]) == pytest.approx(means[1], abs=1e-5)
            error += inside.mean() * abs(means[0] - means[1])
    assert float(table.expected_error) == pytest.approx(error, abs=1e-5)
    assert int(table.samples.sum()) == 200


def test_an_empty_bin_has_no_means_and_no_error():
    table = calibration(jnp.array([0.05, 0.05]), jnp.array([False, False]), bins=10)
    assert np.isnan(np.asarray(table.predicted)[1:]).all()
    assert np.isnan(np.asarray(table.observed)[1:]).all()
    assert float(table.expected_error) == pytest.approx(0.05)


def test_a_calibrated_forecast_has_a_small_error():
    key, other = jax.random.split(jax.random.key(0))
    probability = jax.random.uniform(key, (20_000,))
    outcome = jax.random.bernoulli(other, probability)
    assert float(calibration(probability, outcome).expected_error) < 0.02
    assert float(calibration(1 - probability, outcome).expected_error) > 0.4


def test_reference_texts_have_mean_zero_and_deviation_one():
    texts = np.random.default_rng(1).integers(0, 9, (50, 3))
    params = standardize(sum_of, 2.5, texts)
    score = standardized(sum_of)
    scores = np.asarray(score(params, texts))
    assert scores.mean() == pytest.approx(0, abs=1e-5)
    assert scores.std() == pytest.approx(1, abs=1e-5)
    raw = 2.5 * texts.sum(axis=-1)
    one = score(params, np.array([[1, 1, 1]]))
    assert float(one[0]) == pytest.approx((7.5 - raw.mean()) / raw.std(), abs=1e-5)


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="at least one prediction"):
        calibration(jnp.zeros(0), jnp.zeros(0))
    with pytest.raises(ValueError, match="must have the same shape"):
        calibration(jnp.zeros(2), jnp.zeros(3))
    with pytest.raises(ValueError, match="bins must be at least 1, not 0"):
        calibration(jnp.zeros(2), jnp.zeros(2), bins=0)
    with pytest.raises(ValueError, match="at least 2 buffers"):
        standardize(sum_of, 1.0, jnp.zeros((1, 3), int))
    with pytest.raises(TypeError, match="score must be a function"):
        standardized(None)
