"""Configurations of a sweep by what their runs are worth in the end."""

from typing import Any, NamedTuple

import numpy as np

from experiments.common.results import Arrays
from experiments.common.scores import as_worst
from purejaxpg.reporting import plotting, statistics

COLUMNS = ["configuration", "seed", "env_steps", "evaluated", "eval_return", "diverged"]
"""What `curves` reads."""
SHOWN = 20
"""Configurations in a printed table."""


class Curve(NamedTuple):
    """Returns of the seeds of a configuration over its evaluations."""

    steps: np.ndarray
    """`[evaluations]`: environment steps per seed."""
    returns: np.ndarray
    """`[seeds, evaluations]`"""
    diverged: np.ndarray
    """`[seeds, evaluations]`"""


def curves(columns: Arrays, num_seeds: int) -> dict[int, Curve]:
    """Configuration -> its curve, for those all of whose seeds are in the table."""
    at = columns["evaluated"]
    number, returns = columns["configuration"][at], columns["eval_return"][at].astype(np.float64)
    diverged = columns["diverged"][at] | ~np.isfinite(returns)
    seeds, steps = columns["seed"][at], columns["env_steps"][at]
    # Rows are in the order configuration, seed, update: so each configuration is one slice.
    ends = np.flatnonzero(np.diff(number, append=-1)) + 1
    found = {}
    for begin, end in zip([0, *ends[:-1]], ends):
        rows = slice(begin, end)
        if len(np.unique(seeds[rows])) == num_seeds:
            shape = (num_seeds, -1)
            of_seeds = returns[rows].reshape(shape), diverged[rows].reshape(shape)
            found[int(number[begin])] = Curve(steps[rows].reshape(shape)[0], *of_seeds)
    return found


def scored(every: list[Curve]) -> list[np.ndarray]:
    """The returns of each, where runs that have diverged count as the worst of all."""
    flat = (
        [np.concatenate([x.ravel() for x in xs]) for xs in list(zip(*every))[1:]] if every else []
    )
    ends = np.cumsum([curve.returns.size for curve in every])[:-1]
    parts = np.split(as_worst(*flat), ends) if every else []
    return [part.reshape(curve.returns.shape) for part, curve in zip(parts, every)]


def rank(
    every: list[Curve], values: list[dict[str, Any]], confidence: float = 0.95
) -> list[dict[str, Any]]:
    """A row per configuration, as plain JSON, the best final IQM first.

    Args:
      values: of each curve's configuration.
    """
    rows = []
    for number, (curve, scores) in enumerate(zip(every, scored(every))):
        final = scores[:, -1]
        interval = None
        if len(final) >= statistics.MIN_SEEDS:
            ends = statistics.bootstrap_interval(statistics.iqm, final, confidence=confidence)
            interval = [float(ends.low), float(ends.high)]
        rows.append(
            {
                "configuration": number,
                "values": values[number],
                "seeds": len(final),
                "seeds_diverged": int(curve.diverged[:, -1].sum()),
                "return_iqm": float(statistics.iqm(final)),
                "return_iqm_95": interval,
                "return_mean": float(final.mean()),
                "return_min": float(final.min()),
                "return_max": float(final.max()),
            }
        )
    return sorted(rows, key=lambda row: -row["return_iqm"])


def label(values: dict[str, Any]) -> str:
    """A configuration in few words: `learning_rate 0.001, hidden_sizes 64x64`."""
    return ", ".join(f"{name} {short(value)}" for name, value in values.items()) or "all runs"


def short(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else plotting.short(value)


def table_text(rows: list[dict[str, Any]]) -> str:
    """The best configurations, and how many seeds of each have diverged."""
    names = list(rows[0]["values"])
    cells = [[*names, "IQM", "95% interval", "min", "max", "diverged"]]
    for row in rows[:SHOWN]:
        interval = row["return_iqm_95"]
        cells.append(
            [
                *(short(row["values"][name]) for name in names),
                f"{row['return_iqm']:.1f}",
                f"{interval[0]:.1f} to {interval[1]:.1f}" if interval else "none",
                f"{row['return_min']:.1f}",
                f"{row['return_max']:.1f}",
                f"{row['seeds_diverged']} of {row['seeds']}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join(x.rjust(width) for x, width in zip(row, widths)) for row in cells]
    hidden = len(rows) - SHOWN
    return "\n".join(lines + ([f"and {hidden} more in summary.json"] if hidden > 0 else []))
