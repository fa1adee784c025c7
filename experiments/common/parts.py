"""The results of a sweep: a long table in files, one per chunk of runs, and its columns as arrays again.

A file has one row per (configuration, seed, update) and every column as an array: `configuration`,
`seed`, `update`, the values of the configuration, `diverged`, `evaluated`, `eval_return` (the mean over
episodes after that update; NaN where not evaluated), then the metrics of training.
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.results import Arrays, read_arrays, write_arrays
from experiments.common.scores import has_diverged


def part_path(folder: Path, group: int, start: int) -> Path:
    """The file of the chunk of a group's runs that begins with this one."""
    return folder / "parts" / f"{group:03d}-{start:07d}.npz"


def write_part(
    path: Path,
    configurations: dict[int, dict[str, Any]],
    configuration: np.ndarray,
    seed: np.ndarray,
    metrics: Arrays,
    returns: np.ndarray,
) -> None:
    """Write the rows of some runs.

    Args:
      configurations: number -> its values.
      configuration, seed: `[runs]`.
      metrics: `[runs, updates]`; returns: `[runs, evaluations]`, the last one after the last update.
    """
    runs, updates = next(iter(metrics.values())).shape
    every = updates // returns.shape[1]
    evaluated = np.arange(1, updates + 1) % every == 0
    returns_at = np.full((runs, updates), np.nan, np.float32)
    returns_at[:, evaluated] = returns
    names = next(iter(configurations.values()))
    values = {
        name: np.array([_plain(configurations[c][name]) for c in configuration]) for name in names
    }
    per_run = {"configuration": configuration.astype(np.int32), "seed": seed.astype(np.int32)}
    columns = {
        **{name: np.repeat(x, updates) for name, x in (per_run | values).items()},
        "update": np.tile(np.arange(1, updates + 1, dtype=np.int32), runs),
        "evaluated": np.tile(evaluated, runs),
        "eval_return": returns_at.ravel(),
        "diverged": has_diverged(metrics).ravel(),
        **{name: x.ravel() for name, x in metrics.items()},
    }
    path.parent.mkdir(exist_ok=True)
    write_arrays(path, columns)


def read_columns(folder: Path, names: list[str] | None = None) -> Arrays:
    """Columns of the whole table, all of them or those named; other columns are not even unpacked.

    Raises:
      FileNotFoundError, ValueError: there are no results, or a file is damaged.
    """
    paths = sorted((folder / "parts").glob("[0-9]*.npz"))  # none that a kill left unfinished
    if not paths:
        raise FileNotFoundError(f"{folder} holds no results of a sweep yet.")
    parts = [read_arrays(path, names) for path in paths]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else str(value)
