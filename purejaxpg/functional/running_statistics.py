"""Mean and variance of a stream of batches, element by element."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.arguments import checked


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


@checked
def empty_statistics(shape: tuple[int, ...]) -> RunningStatistics:
    """The statistics before the first sample: mean 0 and variance 1, so that standardising changes nothing.

    Args:
      shape: the shape of one sample.

    Returns:
      `RunningStatistics` of 0 samples.

    Raises:
      TypeError: the shape is no sequence of integers.

    Example:
      >>> from purejaxpg.functional.running_statistics import empty_statistics
      >>> [x.tolist() for x in empty_statistics((2,))]
      [0.0, [0.0, 0.0], [1.0, 1.0]]
    """
    return RunningStatistics(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))


@checked
def update_statistics(statistics: RunningStatistics, batch: jax.Array) -> RunningStatistics:
    """The statistics of all samples up to now and those of a batch together.

    With w the fraction of all samples that are in the batch and d the difference of the two means:
    mean + w d, and (1 - w) variance + w (batch variance) + w (1 - w) d^2 (Chan, Golub and LeVeque 1979,
    eq. 2.1). However a stream is cut into batches, the result is the same up to rounding. A sample with an
    element that is NaN or infinite is left out: one of them would spoil the mean for ever.

    Args:
      statistics: of the samples before the batch.
      batch: `[N, *shape]`, N samples. Without a finite one nothing changes.

    Returns:
      `RunningStatistics` of all of them.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the samples of the batch have another shape than those before.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.running_statistics import empty_statistics, update_statistics
      >>> statistics = update_statistics(empty_statistics(()), jnp.array([1.0, 3.0]))
      >>> [x.tolist() for x in update_statistics(statistics, jnp.array([5.0, 7.0]))]
      [4.0, 4.0, 5.0]
    """
    if batch.shape[1:] != statistics.mean.shape or batch.ndim == 0:
        shape = ", ".join(["N", *map(str, statistics.mean.shape)])
        raise ValueError(
            f"batch must have the shape [{shape}] of samples as before, not {batch.shape}."
        )
    if batch.shape[0] == 0:
        return statistics
    finite = finite_samples(batch)
    size = jnp.sum(finite, dtype=jnp.float32)
    # Moments about the first sample: exact for constants, and no cancellation far from 0.
    shift = batch[jnp.argmax(finite)]
    counted = finite.reshape(-1, *[1] * (batch.ndim - 1))
    shifted = jnp.where(counted, batch - shift, 0.0)
    shifted_mean = jnp.sum(shifted, axis=0) / jnp.maximum(size, 1.0)
    squares = jnp.where(counted, jnp.square(shifted - shifted_mean), 0.0)
    variance = jnp.sum(squares, axis=0) / jnp.maximum(size, 1.0)
    num_samples = statistics.num_samples + size
    weight = size / jnp.maximum(num_samples, 1.0)
    difference = jnp.where(size > 0, shift + shifted_mean - statistics.mean, 0.0)
    return RunningStatistics(
        num_samples,
        statistics.mean + weight * difference,
        # Not variance + weight (batch's - variance): from the variance of 1 without samples, small ones cancel.
        (1 - weight) * statistics.variance
        + weight * variance
        + weight * (1 - weight) * jnp.square(difference),
    )


@checked
def finite_samples(batch: jax.Array) -> jax.Array:
    """Which samples of a batch have finite elements only.

    Args:
      batch: `[N, *shape]`.

    Returns:
      `[N]` boolean.

    Raises:
      TypeError: the batch is no array.
      ValueError: it has no axis.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.running_statistics import finite_samples
      >>> finite_samples(jnp.array([[1.0, 2.0], [jnp.inf, 0.0]])).tolist()
      [True, False]
    """
    if batch.ndim == 0:
        raise ValueError(
            f"batch must have a first axis, that of the samples, not shape {batch.shape}."
        )
    return jnp.isfinite(batch).all(axis=tuple(range(1, batch.ndim)))
