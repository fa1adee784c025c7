"""What the studies of the lecture's claims share: a new folder with numbers (JSON) and a picture (PNG)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.common import runtime
from experiments.common.results import write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_folder(folder: Path) -> Path:
    """Make a folder that is not there yet.

    Raises:
      FileExistsError: it is.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists: choose another --output.")
    folder.mkdir(parents=True)
    return folder


def panels(number: int, *, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes, side by side unless told otherwise, attached to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = columns or number
    rows = -(-number // columns)
    figure = Figure(figsize=(5.2 * columns, 4.0 * rows), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.grid(color="0.9", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat)


def draw_grid(axes: Axes, cells: np.ndarray, values: np.ndarray, **style: Any) -> Any:
    """Draw the values `[S]` of states that are cells `[S, 2]` (row, column) of a grid; others stay empty."""
    grid = np.full(cells.max(axis=0) + 1, np.nan)
    grid[tuple(cells.T)] = values
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes.imshow(grid, **style)


def write(
    folder: Path, options: Any, numbers: dict[str, Any], figure: Figure, sentences: Sequence[str]
) -> None:
    """Write results.json and figure.png, and print what was found."""
    config = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in dataclasses.asdict(options).items()
        if key != "output"
    }
    content = {
        "config": config,
        "versions": runtime.describe(),
        "findings": list(sentences),
        **_plain(numbers),
    }
    write_json(folder / "results.json", content)
    figure.savefig(folder / "figure.png")
    for sentence in sentences:
        print(sentence)
    print(f"written to {folder}")


def _plain(x: Any) -> Any:
    """Arrays as lists, with six significant digits: enough to draw, small enough to keep."""
    if isinstance(x, dict):
        return {str(key): _plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(value) for value in x]
    if hasattr(x, "tolist"):
        return _plain(x.tolist())
    return float(f"{x:.6g}") if isinstance(x, float) else x
