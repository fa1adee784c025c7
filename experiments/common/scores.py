"""Which runs have diverged, and what such a run is worth: as little as any run, never nothing."""

import numpy as np

from experiments.common.results import Arrays
from purejaxpg.reporting import statistics

EXCESS = 1e3
"""Value losses beyond so many squared returns are those of a run that has diverged."""


def has_diverged(metrics: Arrays) -> np.ndarray:
    """`[runs, updates]`: whether this or an earlier update is one of a run that has diverged.

    From then on the run counts as such, whatever the return of its broken policy. A run has diverged when
    a metric is NaN or infinite, or when the value loss exceeds `EXCESS` times the square of the largest
    mean return (at least 1) that its episodes have had: no state can be worth so much. Too large a step
    size need not lead to infinity, since Adam's steps are bounded and tanh's gradient vanishes.
    """
    if not metrics:
        return np.zeros((1, 0), bool)  # before the first update
    broken = ~np.all([np.isfinite(values) for values in metrics.values()], axis=0)
    if "value_loss" in metrics:
        count = metrics["episode_count"].astype(np.float64)
        mean = np.abs(metrics["episode_return_sum"]) / np.maximum(count, 1)
        largest = np.fmax.accumulate(np.maximum(mean, 1.0), axis=-1)
        known = np.logical_or.accumulate(count > 0, axis=-1)
        broken |= known & (metrics["value_loss"] > EXCESS * largest**2)
    return np.logical_or.accumulate(broken, axis=-1)


def as_worst(returns: np.ndarray, diverged: np.ndarray) -> np.ndarray:
    """Returns, and where diverged the lowest of all that are not (of all finite ones if all are)."""
    finite = np.isfinite(returns)
    sound = finite & ~diverged if (finite & ~diverged).any() else finite
    worst = float(returns[sound].min()) if sound.any() else 0.0  # nothing else: all are alike
    return statistics.replace_diverged(np.where(diverged, np.nan, returns), worst)


def mean_returns(returns: np.ndarray, worst: float = np.inf) -> np.ndarray:
    """Means over the last axis, episodes; one whose world did not stay finite (NaN) counts as the worst of all.

    Args:
      returns: `[..., episodes]`, those of the untrained policy among them where there are any.
      worst: what may be worse than all of these.

    Returns:
      `[...]`, NaN if no episode at all stayed finite.
    """
    returns = returns.astype(np.float64)
    finite = np.isfinite(returns)
    worst = min(worst, returns[finite].min(initial=np.inf))
    return np.where(finite, returns, worst if np.isfinite(worst) else np.nan).mean(axis=-1)
