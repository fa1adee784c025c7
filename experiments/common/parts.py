"""The results of a sweep: a long table in files, one per chunk of runs, and its columns as arrays again.

A file has one row per (configuration, seed, update) and every column as an array: `configuration`,
`seed`, `update` (from 0, before the first), the values of the configuration, `diverged`, `evaluated`,
`eval_return` (the mean over episodes after that update; NaN where not evaluated), then the metrics of training,
which the row of update 0 has none of: NaN, or 0 of counts and of `env_steps`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.results import Arrays, ResultsError, read_arrays, write_arrays
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
    times: np.ndarray,
) -> None:
    """Write the rows of some runs.

    Args:
      configurations: number -> its values.
      configuration, seed: `[runs]`.
      metrics: `[runs, updates]`; returns: `[runs, updates + 1]`, which count after these numbers of updates.
    """
    runs, rows = returns.shape
    evaluated = np.isin(np.arange(rows), times)
    names = next(iter(configurations.values()))
    values = {
        name: np.array([_plain(configurations[c][name]) for c in configuration]) for name in names
    }
    per_run = {"configuration": configuration.astype(np.int32), "seed": seed.astype(np.int32)}
    columns = {
        **{name: np.repeat(x, rows) for name, x in (per_run | values).items()},
        "update": np.tile(np.arange(rows, dtype=np.int32), runs),
        "evaluated": np.tile(evaluated, runs),
        "eval_return": returns.ravel(),
        "diverged": np.pad(has_diverged(metrics), ((0, 0), (1, 0))).ravel(),
        **{name: _with_row_0(name, x).ravel() for name, x in metrics.items()},
    }
    path.parent.mkdir(exist_ok=True)
    write_arrays(path, columns)


def is_whole(path: Path, runs: int) -> bool:
    """Whether a part is there and can be read, every column of it, with the rows of so many runs.

    One that is damaged is computed again; so it is moved aside, not lost.
    """
    if not path.is_file():
        return False
    try:
        columns = read_arrays(path)
        sizes = {len(x) for x in columns.values()}
        updates = columns["update"]
        if len(sizes) == 1 and len(updates) == runs * len(np.unique(updates)):
            return True
    except (ResultsError, KeyError, TypeError):
        pass
    path.replace(path.with_name(f"damaged-{path.name}"))
    return False


def read_columns(folder: Path, names: list[str] | None = None) -> Arrays:
    """Columns of the whole table, all of them or those named; other columns are not even unpacked.

    Raises:
      FileNotFoundError, ValueError: there are no results, or a file is damaged.
    """
    paths = sorted((folder / "parts").glob("[0-9]*.npz"))  # none that a kill left unfinished
    if not paths:
        raise FileNotFoundError(f"{folder} holds no results of a sweep yet.")
    parts = [read_arrays(path, names) for path in paths]
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except (KeyError, ValueError) as error:
        raise ResultsError(
            f"The parts in {folder / 'parts'} do not fit together: {error}."
        ) from None


def _with_row_0(name: str, metric: np.ndarray) -> np.ndarray:
    """`[runs, updates]` -> `[runs, updates + 1]`."""
    counts = name == "env_steps" or not np.issubdtype(metric.dtype, np.floating)
    return np.pad(metric, ((0, 0), (1, 0)), constant_values=0 if counts else np.nan)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else str(value)
