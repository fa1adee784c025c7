"""Configurations of a sweep by what their runs are worth in the end."""

from typing import Any, NamedTuple

import numpy as np

from experiments.common.results import Arrays, ResultsError
from experiments.common.scores import as_worst, has_diverged, mean_returns
from purejaxpg.reporting import plotting, statistics

COLUMNS = ["configuration", "seed", "env_steps", "evaluated", "eval_return", "diverged"]
"""What `curves` reads."""
NO_RETURN = "No evaluated episode stayed in a finite world: there is no return to report."
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


def curve_of_run(metrics: Arrays, evaluations: Arrays, steps_per_update: int) -> Curve:
    """That of what train.py keeps of a run."""
    returns = mean_returns(evaluations["returns"])  # [seeds, times]
    times = evaluations["update"][0]
    broken = np.pad(has_diverged(metrics), ((0, 0), (1, 0)))  # nothing has at update 0
    return Curve(times * steps_per_update, returns, broken[:, times] | ~np.isfinite(returns))


def curves(columns: Arrays, num_seeds: int) -> dict[int, Curve]:
    """Configuration -> its curve, for those all of whose seeds are in the table."""
    x = {name: column[columns["evaluated"]] for name, column in columns.items()}
    number, returns = x["configuration"], x["eval_return"].astype(np.float64)
    every = x["env_steps"], returns, x["diverged"] | ~np.isfinite(returns)
    # Rows are in the order configuration, seed, update: so each configuration is one slice.
    ends = np.flatnonzero(np.diff(number, append=-1)) + 1
    found = {}
    for begin, end in zip([0, *ends[:-1]], ends):
        if len(np.unique(x["seed"][begin:end])) == num_seeds:
            steps, *of_seeds = (column[begin:end].reshape(num_seeds, -1) for column in every)
            found[int(number[begin])] = Curve(steps[0], *of_seeds)
    return found


def scored(every: list[Curve]) -> list[np.ndarray]:
    """The returns of each, where runs that have diverged count as the worst of all.

    Raises:
      ResultsError: there is no finite return at all.
    """
    returns = np.concatenate([curve.returns.ravel() for curve in every])
    diverged = np.concatenate([curve.diverged.ravel() for curve in every])
    if not np.isfinite(returns).any():
        raise ResultsError(NO_RETURN)
    ends = np.cumsum([curve.returns.size for curve in every])
    parts = np.split(as_worst(returns, diverged), ends[:-1])
    return [part.reshape(curve.returns.shape) for part, curve in zip(parts, every)]


def final_summary(curve: Curve, final: np.ndarray) -> dict[str, Any]:
    """The final scores of the seeds of a curve, as plain JSON."""
    return {
        "seeds": len(final),
        "seeds_diverged": int(curve.diverged[:, -1].sum()),
        "return_iqm": float(statistics.iqm(final)),
        "return_iqm_95": iqm_interval(final),
        "return_mean": float(final.mean()),
        "return_min": float(final.min()),
        "return_max": float(final.max()),
    }


def iqm_interval(scores: np.ndarray) -> list[float] | None:
    """Both ends of the 95% interval, or None: there are too few seeds."""
    if len(scores) < statistics.MIN_SEEDS:
        return None
    interval = statistics.bootstrap_interval(statistics.iqm, scores)
    return [float(interval.low), float(interval.high)]


def interval_text(interval: list[float] | None, digits: int) -> str:
    return " to ".join(f"{end:.{digits}f}" for end in interval) if interval else "none"


def rank(every: list[Curve], values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per configuration, as plain JSON, the best final IQM first.

    Args:
      values: of each curve's configuration.
    """
    rows = []
    for number, (curve, scores) in enumerate(zip(every, scored(every))):
        final = scores[:, -1]
        row = {"configuration": number, "values": values[number]}
        rows.append(row | final_summary(curve, final))
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
        iqm, low, high = (f"{row[f'return_{of}']:.1f}" for of in ("iqm", "min", "max"))
        values = [short(row["values"][name]) for name in names]
        diverged = f"{row['seeds_diverged']} of {row['seeds']}"
        cells.append([*values, iqm, interval_text(row["return_iqm_95"], 1), low, high, diverged])
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join(x.rjust(width) for x, width in zip(row, widths)) for row in cells]
    hidden = len(rows) - SHOWN
    return "\n".join(lines + ([f"and {hidden} more in summary.json"] if hidden > 0 else []))
