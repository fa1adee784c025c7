"""Mean and variance of a stream of batches, element by element."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class RunningStatistics(NamedTuple):
    """Of all samples so far: their number, and the mean and (population) variance of each element."""

    num_samples: jax.Array
    mean: jax.Array
    variance: jax.Array


def empty_statistics(shape: tuple[int, ...]) -> RunningStatistics:
    """Of no samples of `shape`: mean 0 and variance 1, so that to standardise by them changes nothing."""
    return RunningStatistics(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))


def update_statistics(statistics: RunningStatistics, batch: jax.Array) -> RunningStatistics:
    """The statistics of all samples so far and those of a batch together.

    With w the batch's part of all samples and d the difference of the two means: mean + w d, and
    (1 - w) variance + w (batch variance) + w (1 - w) d^2 (Chan, Golub and LeVeque 1979, eq. 2.1).
    However a stream is cut into batches, the result is the same but for rounding.

    Args:
      batch: `[N, *shape]` samples.
    """
    size = batch.shape[0]
    if size == 0:
        return statistics
    # Moments about the first sample: exact for constants, and no cancellation far from 0.
    shift = batch[0]
    shifted_mean = jnp.mean(batch - shift, axis=0)
    variance = jnp.mean(jnp.square(batch - shift - shifted_mean), axis=0)
    num_samples = statistics.num_samples + size
    weight = size / num_samples
    difference = shift + shifted_mean - statistics.mean
    return RunningStatistics(
        num_samples,
        statistics.mean + weight * difference,
        # Not variance + weight (batch's - variance): from the variance of 1 without samples, small ones cancel.
        (1 - weight) * statistics.variance
        + weight * variance
        + weight * (1 - weight) * jnp.square(difference),
    )
