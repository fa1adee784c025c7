"""Running mean and variance against NumPy over all samples at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purejaxpg.functional.running_statistics import (
    RunningStatistics,
    empty_statistics,
    update_statistics,
)

update = jax.jit(update_statistics)


def over(batches, shape=()) -> RunningStatistics:
    statistics = empty_statistics(shape)
    for batch in batches:
        statistics = update(statistics, jnp.asarray(batch, jnp.float32))
    return statistics


def test_empty_standardises_nothing():
    number, mean, variance = empty_statistics((2,))
    assert number == 0
    np.testing.assert_array_equal(mean, [0, 0])
    np.testing.assert_array_equal(variance, [1, 1])


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 2, 5, 17]), max_size=8),
    seed=st.integers(0, 2**31),
    offset=st.sampled_from([0.0, 3.0, -1e3]),
)
def test_any_batching_is_numpy_over_all_samples(sizes, seed, offset):
    rng = np.random.default_rng(seed)
    scale = np.array([1e-2, 1.0, 50.0], np.float32)
    batches = [np.float32(offset + scale * rng.normal(size=(size, 3))) for size in sizes]
    statistics = over(batches, (3,))
    together = np.concatenate([np.zeros((0, 3)), *batches]).astype(np.float64)
    assert statistics.num_samples == len(together)
    if len(together) == 0:
        expected = np.zeros(3), np.ones(3)
    else:
        expected = together.mean(axis=0), together.var(axis=0)
    # Float32 inputs of size `offset` carry that much rounding into a deviation.
    noise = 1e-6 * abs(offset)
    np.testing.assert_allclose(statistics.mean, expected[0], rtol=1e-5, atol=1e-5 + noise)
    np.testing.assert_allclose(
        np.sqrt(statistics.variance), np.sqrt(expected[1]), rtol=1e-4, atol=1e-7 + noise
    )


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e6])
def test_constants_have_exactly_no_variance(constant):
    statistics = over([np.full(size, constant) for size in (3, 1, 1000)])
    assert statistics.mean == np.float32(constant)
    assert statistics.variance == 0


def test_far_from_zero_little_cancels():
    rng = np.random.default_rng(0)
    batches = [np.float32(1e4 + rng.normal(size=500)) for _ in range(20)]
    together = np.concatenate(batches).astype(np.float64)
    statistics = over(batches)
    np.testing.assert_allclose(statistics.variance, together.var(), rtol=1e-3)


def test_a_long_stream_keeps_its_mean():
    """100 million samples: the number is rounded, and the statistics stay."""
    old = RunningStatistics(jnp.float32(1e8), jnp.float32(2.0), jnp.float32(9.0))
    new = update(old, jnp.full(2048, 5.0))
    assert new.num_samples == 1e8 + 2048
    weight = 2048 / (1e8 + 2048)
    np.testing.assert_allclose(new.mean, 2 + 3 * weight, rtol=1e-6)
    np.testing.assert_allclose(new.variance, 9 - 9 * weight + 9 * weight, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 2, 5]), max_size=6),
    seed=st.integers(0, 2**31),
    share=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_samples_that_are_not_finite_are_left_out(sizes, seed, share):
    rng = np.random.default_rng(seed)
    batches = [np.float32(rng.normal(size=(size, 3))) for size in sizes]
    for batch in batches:
        for i in np.flatnonzero(rng.random(len(batch)) < share):
            batch[i, rng.integers(3)] = rng.choice([np.nan, np.inf, -np.inf])
    found = over(batches, (3,))
    finite = over([batch[np.isfinite(batch).all(axis=1)] for batch in batches], (3,))
    for x, y in zip(found, finite):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
        assert np.isfinite(x).all()
