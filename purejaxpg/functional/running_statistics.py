"""Mean and variance of a stream of batches, element by element."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class RunningStatistics(NamedTuple):
    """Statistics of all samples of a stream up to now.

    Attributes:
      num_samples: their number, a float32 scalar.
      mean: `[*shape]`, the mean of each element.
      variance: `[*shape]`, the population variance of each element (divided by the number of samples).
    """

    num_samples: jax.Array
    mean: jax.Array
    variance: jax.Array


def empty_statistics(shape: tuple[int, ...]) -> RunningStatistics:
    """The statistics before the first sample: mean 0 and variance 1, so that standardising changes nothing.

    Args:
      shape: the shape of one sample.

    Returns:
      `RunningStatistics` of 0 samples.

    Example:
      >>> from purejaxpg.functional.running_statistics import empty_statistics
      >>> [x.tolist() for x in empty_statistics((2,))]
      [0.0, [0.0, 0.0], [1.0, 1.0]]
    """
    return RunningStatistics(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))


def update_statistics(statistics: RunningStatistics, batch: jax.Array) -> RunningStatistics:
    """The statistics of all samples up to now and those of a batch together.

    With w the fraction of all samples that are in the batch and d the difference of the two means:
    mean + w d, and (1 - w) variance + w (batch variance) + w (1 - w) d^2 (Chan, Golub and LeVeque 1979,
    eq. 2.1). However a stream is cut into batches, the result is the same up to rounding.

    Args:
      statistics: of the samples before the batch.
      batch: `[N, *shape]`, N samples. N = 0 changes nothing.

    Returns:
      `RunningStatistics` of all of them.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.running_statistics import empty_statistics, update_statistics
      >>> statistics = update_statistics(empty_statistics(()), jnp.array([1.0, 3.0]))
      >>> [x.tolist() for x in update_statistics(statistics, jnp.array([5.0, 7.0]))]
      [4.0, 4.0, 5.0]
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
