"""Robust statistics of scores over seeds and tasks: IQM and stratified-bootstrap intervals.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv:2108.13264). Runs on the host: NumPy in, float64 out.

Scores are `[num_seeds, num_tasks]`, higher is better. `[num_seeds]` is read as one task. Further
axes are kept: a learning curve is `[num_seeds, num_tasks, T]` (`[num_seeds, 1, T]` for one task,
never `[num_seeds, T]`, which means T tasks). Every statistic reduces the first two axes and raises
ValueError, as `check_scores` does, where there are no scores or one of them is NaN or infinite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from purejaxpg.arguments import Count, Range, Steps, checked, described

Array = NDArray[np.float64]

MIN_SEEDS = 3  # an interval from fewer is refused
Confidence = Annotated[float, Range("between 0 and 1, both excluded", lambda x: 0 < x < 1)]
_CHUNK_FLOATS = 2**21  # resampled scores held at once: 16 MiB


class Interval(NamedTuple):
    """A statistic of the scores themselves and its confidence interval.

    Attributes:
      estimate: `[...]`, the statistic, in the units of the scores.
      low: `[...]`, the lower end of the interval.
      high: `[...]`, the upper end of the interval.
    """

    estimate: Array
    low: Array
    high: Array


def as_numbers(name: str, values: Any) -> Array:
    """Values as a float64 array.

    Args:
      name: what they are, for messages.
      values: numbers, or sequences of equal lengths of them.

    Returns:
      The array.

    Raises:
      TypeError: they are no such numbers. A record such as `Episodes` is none: one of its fields is meant.

    Example:
      >>> from purejaxpg.reporting.statistics import as_numbers
      >>> as_numbers("scores", [1, 2]).tolist()
      [1.0, 2.0]
    """
    fields = getattr(values, "_fields", ())
    try:
        if not fields and values is not None:
            return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        pass
    hint = f"; take one of its fields, {', '.join(fields)}" if fields else ""
    raise TypeError(
        f"{name} must be an array of numbers, or lists of equal lengths of them, not {described(values)}{hint}."
    )


@checked
def check_scores(scores: ArrayLike) -> Array:
    """Check scores and give them their full shape.

    Args:
      scores: `[num_seeds]` or `[num_seeds, num_tasks, ...]`.

    Returns:
      `[num_seeds, num_tasks, ...]`, float64; a 1-D array becomes one task.

    Raises:
      TypeError: the scores are no numbers.
      ValueError: there are no seeds or no tasks, or a score is NaN or infinite.

    Example:
      >>> from purejaxpg.reporting.statistics import check_scores
      >>> check_scores([1, 2, 3]).shape
      (3, 1)
    """
    array = as_numbers("Scores", scores)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"Scores must be a non-empty [num_seeds, num_tasks, ...], got shape {np.shape(scores)}."
        )
    if count := np.count_nonzero(~np.isfinite(array)):
        raise ValueError(
            f"{count} of {array.size} scores are NaN or infinite: a diverged run must count as a "
            "bad one and not be dropped, so state what it is worth with replace_diverged."
        )
    return array


@checked
def replace_diverged(scores: ArrayLike, worst: ArrayLike) -> Array:
    """Replace each NaN, +inf and -inf by the score that a diverged run is given.

    Args:
      scores: `[num_seeds]` or `[num_seeds, num_tasks, ...]`.
      worst: that score, for instance the least return that a task allows: one number, or one per task
        `[num_tasks]`.

    Returns:
      A float64 copy, of the shape of `scores`.

    Raises:
      TypeError: an argument is no array of numbers.
      ValueError: `worst` is not finite, or neither one number nor one per task.

    Example:
      >>> import math
      >>> import purejaxpg as pg
      >>> pg.statistics.replace_diverged([8.0, math.nan], worst=-1.0).tolist()
      [8.0, -1.0]
    """
    array, value = as_numbers("Scores", scores), as_numbers("worst", worst)
    if not np.isfinite(value).all():
        raise ValueError(f"The worst score must be finite, got {worst!r}.")
    if value.ndim > 1 or (value.ndim == 1 and value.shape != array.shape[1:2]):
        raise ValueError(
            f"worst must be one number or one per task, got shape {value.shape} for scores of "
            f"shape {array.shape}."
        )
    if value.ndim == 1:
        value = value.reshape(-1, *(1,) * (array.ndim - 2))
    return np.where(np.isfinite(array), array, value)


@checked
def mean(scores: ArrayLike) -> Array:
    """Mean over seeds and tasks.

    Args:
      scores: `[num_seeds]` or `[num_seeds, num_tasks, ...]`.

    Returns:
      `[...]`, in the units of the scores.

    Raises:
      TypeError: the scores are no numbers.
      ValueError: there are none, or one of them is not finite.

    Example:
      >>> import purejaxpg as pg
      >>> float(pg.statistics.mean([[1.0, 2.0], [3.0, 6.0]]))
      3.0
    """
    return check_scores(scores).mean(axis=(0, 1))


@checked
def median(scores: ArrayLike) -> Array:
    """Median over tasks of each task's mean over seeds (the definition of Agarwal et al.).

    With one task it is therefore the mean over seeds.

    Args:
      scores: `[num_seeds]` or `[num_seeds, num_tasks, ...]`.

    Returns:
      `[...]`, in the units of the scores.

    Raises:
      TypeError: the scores are no numbers.
      ValueError: there are none, or one of them is not finite.

    Example:
      >>> import purejaxpg as pg
      >>> float(pg.statistics.median([[1.0, 2.0, 9.0], [1.0, 4.0, 9.0]]))
      3.0
    """
    return np.median(check_scores(scores).mean(axis=0), axis=0)


@checked
def iqm(scores: ArrayLike) -> Array:
    """Interquartile mean: the 25% trimmed mean over all seeds and tasks together.

    Of n = num_seeds * num_tasks scores, the floor(n / 4) lowest and as many of the highest are left
    out and the rest averaged with equal weights, as `scipy.stats.trim_mean(scores.ravel(), 0.25)`
    does. Where 4 does not divide n a little less than half is cut; for n < 4 nothing is.

    Args:
      scores: `[num_seeds]` or `[num_seeds, num_tasks, ...]`.

    Returns:
      `[...]`, in the units of the scores.

    Raises:
      TypeError: the scores are no numbers.
      ValueError: there are none, or one of them is not finite.

    Example:
      >>> import purejaxpg as pg
      >>> float(pg.statistics.iqm([-100.0, 1.0, 2.0, 100.0]))
      1.5
    """
    array = check_scores(scores)
    pooled = array.reshape(-1, *array.shape[2:])
    num_scores = len(pooled)
    cut = num_scores // 4
    ordered = np.partition(pooled, (cut, num_scores - cut - 1), axis=0)
    return ordered[cut : num_scores - cut].mean(axis=0)


@checked
def optimality_gap(scores: ArrayLike, *, target: float = 1.0) -> Array:
    """Mean over seeds and tasks of max(target - score, 0); lower is better.

    Equal to `target - mean(min(score, target))`, as in Agarwal et al.

    Args:
      scores: `[num_seeds]` or `[num_seeds, num_tasks, ...]`.
      target: the score from which on a run is as good as can be; 1 as in Agarwal et al., whose scores are
        normalised.

    Returns:
      `[...]`, in the units of the scores.

    Raises:
      TypeError: the scores are no numbers.
      ValueError: there are none, or one of them is not finite.

    Example:
      >>> import purejaxpg as pg
      >>> float(pg.statistics.optimality_gap([0.5, 2.0]))
      0.25
    """
    return np.maximum(target - check_scores(scores), 0.0).mean(axis=(0, 1))


@checked
def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    """Fraction of the runs of all tasks that score above each threshold.

    F(tau) = mean over tasks m and seeds n of 1[x_nm > tau], with a strict inequality: the
    run-score distribution of Agarwal et al.

    Args:
      scores: `[num_seeds]` or `[num_seeds, num_tasks, ...]`.
      thresholds: `[num_thresholds]`, not empty, in the units of the scores.

    Returns:
      `[num_thresholds, ...]`, in [0, 1].

    Raises:
      TypeError: an argument is no array of numbers.
      ValueError: `thresholds` is empty, not one axis, or has a NaN.

    Example:
      >>> import purejaxpg as pg
      >>> pg.statistics.performance_profile([1.0, 2.0], [0.0, 1.0, 2.0]).tolist()
      [1.0, 0.5, 0.0]
    """
    array = check_scores(scores)
    taus = as_numbers("thresholds", thresholds)
    if taus.ndim != 1 or taus.size == 0 or np.isnan(taus).any():
        raise ValueError(f"thresholds must be [num_thresholds], not empty, no NaN, got {taus}.")
    return np.stack([(array > tau).mean(axis=(0, 1)) for tau in taus])


@checked
def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> Array:
    """Mean over tasks of P(X > Y) + P(X = Y) / 2 for one run of each of two algorithms.

    Per task this is the Mann-Whitney U statistic of x over num_seeds_x * num_seeds_y.

    Args:
      x: `[num_seeds_x]` or `[num_seeds_x, num_tasks, ...]`, scores of the first algorithm.
      y: `[num_seeds_y]` or `[num_seeds_y, num_tasks, ...]`, scores of the second one on the same tasks in
        the same order.

    Returns:
      `[...]`, in [0, 1].

    Raises:
      TypeError: an argument is no array of numbers.
      ValueError: the shapes differ in more than the number of seeds.

    Example:
      >>> import purejaxpg as pg
      >>> float(pg.statistics.probability_of_improvement([2.0, 3.0], [1.0, 3.0]))  # (1 + 0 + 1 + 1/2) / 4
      0.625
    """
    x, y = check_scores(x), check_scores(y)
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"x and y must differ only in seeds, got shapes {x.shape} and {y.shape}.")
    wins = np.zeros(x.shape[1:])
    for run in x:  # one x at a time: [num_seeds_y, num_tasks, ...] is held, not all the pairs
        wins += (run > y).mean(axis=0) + 0.5 * (run == y).mean(axis=0)
    return wins.mean(axis=0) / len(x)


@checked
def bootstrap_interval(
    statistic: Callable[..., Array],
    *scores: ArrayLike,
    confidence: Confidence = 0.95,
    num_resamples: Count = 2000,
    seed: Steps = 0,
) -> Interval:
    """Percentile interval of `statistic(*scores)` from the stratified bootstrap.

    Seeds are drawn with replacement within each task, independently of the other tasks (the
    strata) and jointly over the axes after the second, so a run keeps its whole curve and the
    interval at each point of a curve is pointwise. Several arrays (`probability_of_improvement`)
    are each resampled on their own. The ends are the (1 - confidence) / 2 and
    (1 + confidence) / 2 quantiles over the resamples. The same seed gives the same interval.

    Args:
      statistic: takes as many arrays `[num_seeds, num_tasks, ...]` as there are `scores`, reduces
        the first two axes and maps over any others. All resamples of a chunk come in one call, as a
        last axis, which the result must keep: so name axes by counting from the front. Every
        statistic of this module qualifies; give options with `functools.partial`.
      *scores: arrays `[num_seeds]`, `[num_seeds, num_tasks]` or `[num_seeds, num_tasks, ...]`.
      confidence: nominal coverage of the interval, between 0 and 1; 0.95 as in Agarwal et al.
      num_resamples: number of bootstrap resamples, at least 1.
      seed: seed of the resampling, a non-negative integer.

    Returns:
      `Interval(estimate, low, high)`, three arrays of the shape of `statistic(*scores)`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: fewer than three seeds, a score that is not finite, an option out of range, or a
        statistic that does not keep the last axis.

    Example:
      >>> import purejaxpg as pg
      >>> interval = pg.statistics.bootstrap_interval(pg.statistics.iqm, [4.0, 4.0, 4.0])
      >>> [float(x) for x in interval]
      [4.0, 4.0, 4.0]
    """
    if not scores:
        raise ValueError("bootstrap_interval needs at least one array of scores.")
    arrays = [check_scores(array) for array in scores]
    fewest = min(len(array) for array in arrays)
    if fewest < MIN_SEEDS:
        raise ValueError(
            f"An interval needs at least {MIN_SEEDS} seeds, got {fewest}: resampling one or two "
            "runs says nothing about how far other runs would spread."
        )
    estimate = np.asarray(statistic(*arrays))
    generators = [np.random.default_rng((seed, i)) for i in range(len(arrays))]
    chunk = max(1, _CHUNK_FLOATS // sum(array.size for array in arrays))
    samples = []
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        draws = (_resample(a, g, size) for a, g in zip(arrays, generators, strict=True))
        values = np.asarray(statistic(*draws))
        if values.shape != (*estimate.shape, size):
            raise ValueError(
                f"The statistic gave shape {estimate.shape} for the scores and {values.shape} for "
                f"{size} resamples of them along a new last axis: it must reduce the first two axes, "
                "counted from the front, and keep the others."
            )
        samples.append(values)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(np.concatenate(samples, axis=-1), (tail, 1.0 - tail), axis=-1)
    return Interval(estimate[()], low, high)


def _resample(array: Array, generator: np.random.Generator, size: int) -> Array:
    """`size` resamples over seeds, drawn per task: `[num_seeds, num_tasks, ..., size]`."""
    num_seeds, num_tasks = array.shape[:2]
    index = generator.integers(num_seeds, size=(size, num_seeds, num_tasks))
    return np.moveaxis(array[index, np.arange(num_tasks)], 0, -1)
