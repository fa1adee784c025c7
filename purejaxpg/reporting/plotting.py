"""Learning curves with honest intervals: IQM over seeds and its stratified-bootstrap band; shared style.

Matplotlib is imported inside the functions, so importing this module costs nothing, and its
object-oriented interface is used throughout: no pyplot, no display, no global figure.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from purejaxpg.arguments import Count, Steps, checked, described
from purejaxpg.reporting import statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision; its yellow is lost on white paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINE_STYLES = ("-", "--", ":", "-.")  # the next one each time the palette is used up
_FORMATS = (".png", ".pdf")
_LEGEND_WIDTH = 90  # characters of legend that fit on a line of the figure
_LEGEND_LINES = 2  # for which a figure has room
_LEGEND_INCHES = 0.18  # of a line
_LEGEND_STYLE = {
    "loc": "outside lower center",
    "frameon": False,
    "fontsize": 9,
    "title_fontsize": 9,
}

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
Output = str | os.PathLike[str] | None


@checked
def learning_curve(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str,
    y_label: str,
    title: str | None = None,
    path: Output = None,
    reference: float | None = None,
    reference_label: str = "reference",
    confidence: statistics.Confidence = 0.95,
    num_resamples: Count = 2000,
    seed: Steps = 0,
) -> Figure:
    """Draw the IQM over seeds of each curve with its pointwise stratified-bootstrap band.

    The legend says what is drawn: "IQM of N seeds, 95% stratified bootstrap". A curve of fewer than
    three seeds has no interval: each of its seeds is a line of its own, and the legend says so.

    Args:
      curves: label -> (x `[T]`, increasing; scores `[num_seeds, T]`, higher is better).
      x_label: name of the horizontal axis with its unit, such as "environment steps".
      y_label: name of the vertical axis with its unit, such as "return of an episode".
      title: what is written above the axes; nothing if None.
      path: where to save the figure, 6 x 4 inches, and higher where the legend is long: `.png` (at 150 dots
        per inch) or `.pdf`. Folders are made where missing, and the file appears as a whole or not at all.
        None saves nothing.
      reference: height of a horizontal line, such as a known optimum; no line if None.
      reference_label: what the legend calls that line.
      confidence: nominal coverage of the band, between 0 and 1.
      num_resamples: number of bootstrap resamples, at least 1.
      seed: seed of the resampling, a non-negative integer.

    Returns:
      The matplotlib Figure, attached to no window.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: no curves, an empty axis label, shapes that do not match, x not increasing, a
        score that is not finite (see `statistics.replace_diverged`), or another suffix of `path`.

    Example:
      >>> import purejaxpg as pg
      >>> curves = {"PPO": ([0, 1000], [[0.0, 5.0], [0.0, 6.0], [0.0, 7.0]])}
      >>> figure = pg.plotting.learning_curve(curves, x_label="environment steps", y_label="return")
      >>> figure.axes[0].lines[0].get_ydata().tolist()  # the IQM of three seeds is their mean
      [0.0, 6.0]
    """
    if not curves:
        raise ValueError("There are no curves to draw.")
    check_output(path, x_label, y_label)
    drawn = {label: _check_curve(label, curve) for label, curve in curves.items()}

    figure, (axes,) = new_figure()
    handles = []
    for i, (x, scores) in enumerate(drawn.values()):
        style = line_style(i) | {"marker": "o" if len(x) == 1 else ""}
        if len(scores) < statistics.MIN_SEEDS:
            first, *_ = axes.plot(x, scores.T, linewidth=1.0, **style)
            handles.append(first)  # it stands for all seeds in the legend
            continue
        one_task = scores[:, None, :]
        interval = statistics.bootstrap_interval(
            statistics.iqm, one_task, confidence=confidence, num_resamples=num_resamples, seed=seed
        )
        handles += axes.plot(x, interval.estimate, linewidth=1.6, **style)
        edge = 1.0 if len(x) == 1 else 0.0  # the band of a single point is an upright line
        band = {"color": style["color"], "alpha": 0.2, "linewidth": edge}
        axes.fill_between(x, interval.low, interval.high, **band)
    labels, legend_title = _legend_text(drawn, confidence)
    if reference is not None:
        handles.append(axes.axhline(reference, color="0.35", linestyle=(0, (5, 3)), linewidth=1.0))
        labels.append(reference_label)
    decorate(axes, x_label, y_label, title)
    legend_below(figure, handles, labels, legend_title)
    return finish(figure, path)


@checked
def new_figure(
    columns: Count = 1, *, width: float = 6.0, height: float = 4.0
) -> tuple[Figure, list[Axes]]:
    """A figure attached to no window, with axes side by side.

    Args:
      columns: number of axes.
      width: of the figure, in inches.
      height: of the figure, in inches.

    Returns:
      The matplotlib Figure, of 150 dots per inch, and its axes from left to right.

    Example:
      >>> from purejaxpg.reporting.plotting import new_figure
      >>> figure, axes = new_figure(2)
      >>> len(axes), figure.get_size_inches().tolist()
      (2, [6.0, 4.0])
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


@checked
def line_style(i: Steps) -> dict[str, Any]:
    """Colour and dashes of the i-th line; no two of 28 are alike.

    Args:
      i: number of the line, counted from 0.

    Returns:
      Keyword arguments of matplotlib's `plot`.

    Example:
      >>> from purejaxpg.reporting.plotting import line_style
      >>> line_style(0), line_style(7)
      ({'color': '#0072B2', 'linestyle': '-'}, {'color': '#0072B2', 'linestyle': '--'})
    """
    dashes = _LINE_STYLES[i // len(PALETTE) % len(_LINE_STYLES)]
    return {"color": PALETTE[i % len(PALETTE)], "linestyle": dashes}


def legend_below(figure: Figure, handles: Any, labels: list[str], title: str | None = None) -> None:
    """Add a legend below the axes, where it never hides data; a long one makes the figure higher.

    Args:
      figure: where to add it.
      handles: the artists that it explains.
      labels: one for each handle.
      title: what is written above the labels; nothing if None.

    Example:
      >>> from purejaxpg.reporting.plotting import legend_below, new_figure
      >>> figure, (axes,) = new_figure()
      >>> legend_below(figure, axes.plot([0.0, 1.0]), ["PPO"])
      >>> [text.get_text() for text in figure.legends[0].get_texts()]
      ['PPO']
    """
    labels = [in_lines(label, _LEGEND_WIDTH - 8) for label in labels]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = max(1, min(len(labels), _LEGEND_WIDTH // (longest + 8)))
    figure.legend(handles, labels, title=title, ncols=columns, **_LEGEND_STYLE)
    lines = -(-sum(label.count("\n") + 1 for label in labels) // columns)
    more = max(0, lines - _LEGEND_LINES)
    figure.set_figheight(figure.get_figheight() + _LEGEND_INCHES * more)


@checked
def in_lines(label: str, width: Count) -> str:
    """A label, broken after commas where it is long.

    Args:
      label: of a line or a bar.
      width: characters that a line may have; a part without a comma may have more.

    Returns:
      The label, with line breaks.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a width below 1.

    Example:
      >>> from purejaxpg.reporting.plotting import in_lines
      >>> in_lines("clip_eps 0.2, discount 0.9, num_steps 128", 30)
      'clip_eps 0.2, discount 0.9,\\nnum_steps 128'
    """
    lines: list[str] = []
    for part in label.split(", "):
        if lines and len(lines[-1]) + len(part) + 2 < width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return ",\n".join(lines)


def _check_curve(label: str, curve: tuple[ArrayLike, ArrayLike]) -> Curve:
    """Returns x `[T]` and scores `[num_seeds, T]` as float64, or raises ValueError."""
    if not isinstance(curve, list | tuple) or len(curve) != 2:
        raise TypeError(f"Curve {label!r} must be a tuple of x and scores, not {described(curve)}.")
    steps = statistics.as_numbers(f"x of curve {label!r}", curve[0])
    runs = statistics.as_numbers(f"scores of curve {label!r}", curve[1])
    if steps.ndim != 1 or runs.ndim != 2 or runs.shape[1:] != steps.shape:
        raise ValueError(
            f"Curve {label!r} must have x [T] and scores [num_seeds, T], got shapes {steps.shape} "
            f"and {runs.shape}."
        )
    if not (np.isfinite(steps).all() and (np.diff(steps) > 0).all()):
        raise ValueError(f"The x of curve {label!r} must be finite and increase.")
    try:
        statistics.check_scores(runs)
    except ValueError as error:
        raise ValueError(f"Curve {label!r}: {error}") from error
    return steps, runs


def _legend_text(curves: Mapping[str, Curve], confidence: float) -> tuple[list[str], str | None]:
    """Labels and title of the legend: what is drawn is said once where it is the same for all."""
    drawn = [describe_interval(len(scores), confidence) for _, scores in curves.values()]
    if len(set(drawn)) == 1:
        return list(curves), drawn[0]
    return [f"{label} ({what})" for label, what in zip(curves, drawn, strict=True)], None


@checked
def interval_or_point(
    statistic: Callable[..., Any], scores: ArrayLike, **options: Any
) -> statistics.Interval:
    """The bootstrap interval of a statistic, of width 0 where there are too few seeds for one.

    Args:
      statistic: as for `statistics.bootstrap_interval`.
      scores: `[num_seeds]` or `[num_seeds, num_tasks, ...]`.
      **options: of `statistics.bootstrap_interval`.

    Returns:
      An `Interval`.

    Raises:
      ValueError: a score is not finite, or an option is out of range.

    Example:
      >>> from purejaxpg.reporting.plotting import interval_or_point
      >>> from purejaxpg.reporting.statistics import mean
      >>> [float(x) for x in interval_or_point(mean, [1.0, 3.0])]
      [2.0, 2.0, 2.0]
    """
    array = statistics.check_scores(scores)
    if len(array) >= statistics.MIN_SEEDS:
        return statistics.bootstrap_interval(statistic, array, **options)
    estimate = np.asarray(statistic(array))
    return statistics.Interval(estimate, estimate, estimate)


def short(value: Any) -> str:
    """A value in few characters.

    Args:
      value: real numbers are given four digits, anything else is written as `str` does.

    Returns:
      The characters.

    Example:
      >>> from purejaxpg.reporting.plotting import short
      >>> short(0.000123456), short(128)
      ('0.0001235', '128')
    """
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


@checked
def describe_interval(num_seeds: Count, confidence: statistics.Confidence) -> str:
    """What a line and its band are, for a legend.

    Args:
      num_seeds: number of seeds that the line is of.
      confidence: nominal coverage of the band, between 0 and 1.

    Returns:
      A phrase.

    Example:
      >>> from purejaxpg.reporting.plotting import describe_interval
      >>> describe_interval(10, 0.95)
      'IQM of 10 seeds, 95% stratified bootstrap'
    """
    if num_seeds >= statistics.MIN_SEEDS:
        return f"IQM of {num_seeds} seeds, {100 * confidence:g}% stratified bootstrap"
    each = "1 seed" if num_seeds == 1 else f"each of {num_seeds} seeds"
    return f"{each}, no interval from fewer than {statistics.MIN_SEEDS}"


def decorate(axes: Axes, x_label: str, y_label: str, title: str | None) -> None:
    """Add labels and a light grid, and write 200k or 1M in place of 200000 or 1e6.

    Args:
      axes: the matplotlib Axes, after everything is drawn.
      x_label: name of the horizontal axis with its unit.
      y_label: name of the vertical axis with its unit.
      title: what is written above the axes; nothing if None.

    Example:
      >>> from purejaxpg.reporting.plotting import decorate, new_figure
      >>> figure, (axes,) = new_figure()
      >>> decorate(axes, "environment steps", "return", None)
      >>> axes.get_xlabel()
      'environment steps'
    """
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel(x_label, fontsize=11)
    axes.set_ylabel(y_label, fontsize=11)
    if title is not None:
        axes.set_title(title, fontsize=12)
    axes.tick_params(labelsize=10)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)
    if max(map(abs, axes.get_xlim())) >= 1e4:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


@checked
def check_output(path: Output, *labels: str) -> None:
    """Check the labels and the path of a figure before it is drawn.

    Args:
      path: where it is to be saved; None if nowhere.
      *labels: names of its axes.

    Raises:
      ValueError: a label is empty, or `path` ends in neither `.png` nor `.pdf`.

    Example:
      >>> from purejaxpg.reporting.plotting import check_output
      >>> check_output("curve.pdf", "environment steps", "return")
    """
    if not all(label.strip() for label in labels):
        raise ValueError("All axes need a label that says what is drawn, with its unit.")
    if path is not None and Path(path).suffix.lower() not in _FORMATS:
        raise ValueError(f"A figure is saved as {' or '.join(_FORMATS)}, got {str(path)!r}.")


def finish(figure: Figure, path: Output) -> Figure:
    """Save a figure, as a whole (by a rename) or not at all.

    Args:
      figure: the matplotlib Figure.
      path: a `.png` or `.pdf`, whose folders are made where missing; None saves nothing.

    Returns:
      The figure.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from purejaxpg.reporting.plotting import finish, new_figure
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     figure = finish(new_figure()[0], Path(folder, "empty.png"))
      ...     [file.name for file in Path(folder).iterdir()]
      ['empty.png']
    """
    import matplotlib

    if path is None:
        return figure
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    # No date, so that the same figure is the same file; TrueType fonts, which publishers ask for.
    metadata = {"CreationDate": None} if suffix == ".pdf" else None
    try:
        with matplotlib.rc_context({"pdf.fonttype": 42}):
            figure.savefig(temporary, format=suffix[1:], metadata=metadata)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return figure
