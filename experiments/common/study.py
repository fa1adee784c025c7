"""What the studies of the lecture's claims share: a new folder with numbers (JSON) and a picture (PNG)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from experiments.common import runtime
from experiments.common.command_line import read_options, run_program
from experiments.common.results import write_json
from purejaxpg.reporting.statistics import Interval, bootstrap_interval, iqm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Study = tuple[dict[str, Any], Any, list[str]]
"""Numbers, a figure, and sentences of what was found."""


def run_study(
    options_type: type, check: Callable, study: Callable[[Any], Study], arguments: list[str]
) -> int:
    """Do a study of a command line, in a new folder. Returns the exit code.

    Args:
      options_type: the dataclass of its options, among them `output`.
      check: raises ValueError where options make no sense.
      study: does the work.
    """

    def prepare(arguments: list[str]) -> tuple:
        options: Any = read_options(options_type, arguments)
        check(options)
        new_folder(options.output)
        return (options,)

    def work(options: Any) -> None:
        write(options, *study(options))

    return run_program(prepare, work, arguments)


def new_folder(folder: Path) -> None:
    """Make a folder that is not there yet.

    Raises:
      FileExistsError: it is.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists: choose another --output.")
    folder.mkdir(parents=True)


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


def draw_band(axes: Axes, table: Mapping[Any, Any], line: str, **style: Any) -> None:
    """Draw the IQM over seeds and its 95% interval: x -> scores of the seeds."""
    x, scores = list(table), np.array(list(table.values())).T
    interval = bootstrap_interval(iqm, scores[:, None, :])
    (curve,) = axes.plot(x, interval.estimate, line, **style)
    axes.fill_between(x, interval.low, interval.high, color=curve.get_color(), alpha=0.2)


def evenly(key: jax.Array, obs: jax.Array) -> jax.Array:
    """Each of four actions with the same probability."""
    return jax.random.randint(key, obs.shape, 0, 4)


def first_episodes(
    keys: Any, env: pg.Env, env_params: Any, shape: tuple[int, int], choose: Callable = evenly
) -> tuple[Any, jax.Array]:
    """The first episode of each environment, and true where it goes on.

    Args:
      keys: for the first states, and for the steps.
      shape: number of steps, and of environments.
      choose: (key, obs) -> actions.
    """

    def act(key, memory, obs, start):
        return choose(key, obs), memory

    loop = pg.begin(keys[0], env, env_params, (), num_envs=shape[1])
    transitions = pg.unroll(keys[1], env, env_params, act, loop, num_steps=shape[0])[1]
    return transitions, jnp.cumsum(transitions.start, axis=0) == 1


def described(interval: Interval, digits: int) -> str:
    """An estimate and its interval in a sentence."""
    estimate, low, high = (f"{x:.{digits}f}" for x in interval)
    return f"{estimate} ({low} to {high})"


def spoken_iqm(scores: Any, digits: int) -> str:
    """The IQM of one score for each seed, and its 95% interval, in a sentence."""
    return described(bootstrap_interval(iqm, np.asarray(scores)[:, None]), digits)


def write(options: Any, numbers: dict[str, Any], figure: Figure, sentences: Sequence[str]) -> None:
    """Write results.json and figure.png to the folder `output`, and print what was found."""
    folder = options.output
    content = {
        "config": stored_options(options),
        "versions": runtime.describe(),
        "findings": list(sentences),
        **_plain(numbers),
    }
    write_json(folder / "results.json", content)
    figure.savefig(folder / "figure.png")
    print(*sentences, f"written to {folder}", sep="\n")


def stored_options(options: Any) -> dict[str, Any]:
    """What determines the numbers: not where they are written to."""
    return {key: x for key, x in dataclasses.asdict(options).items() if key != "output"}


def _plain(x: Any) -> Any:
    """Arrays as lists, with six significant digits: enough to draw, small enough to keep."""
    if isinstance(x, dict):
        return {str(key): _plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(value) for value in x]
    if hasattr(x, "tolist"):
        return _plain(x.tolist())
    return float(f"{x:.6g}") if isinstance(x, float) else x
