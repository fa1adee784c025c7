"""Pictures of sweeps: sensitivity to a hyperparameter, heat map of two, parallel axes of many.

Style and rules are those of `plotting`: 95% stratified-bootstrap intervals, none from fewer than three
seeds, colours that any colour vision tells apart, `.png` or `.pdf`. Scores are finite and higher is
better: what a diverged run is worth is for the caller to say (`statistics.replace_diverged`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from purejaxpg.reporting import plotting, statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOUR_MAP = "cividis"
"""Rises in lightness and looks the same with any colour vision."""
_LABEL_DISTANCE = 0.05  # of labels on a parallel axis
_LOG_RANGE = 20.0  # positive values that differ by more than this factor get a logarithmic axis


def sensitivity(
    values: ArrayLike,
    scores: ArrayLike,
    *,
    x_label: str,
    y_label: str,
    diverged: ArrayLike | None = None,
    joined: bool = True,
    title: str | None = None,
    path: plotting.Output = None,
) -> Figure:
    """Draw the IQM of each configuration with its interval over the value of one hyperparameter.

    A line joins the IQM over all runs with the same value.

    Args:
      values: `[configurations]`, values of the hyperparameter; the axis is logarithmic where they are
        positive and span a wide range.
      scores: `[configurations, seeds]`.
      x_label: name of the hyperparameter with its unit.
      y_label: name of the score with its unit.
      diverged: `[configurations]`, number of seeds that have diverged; where there are any, the
        configuration is drawn as a cross. None stands for none.
      joined: whether to draw the line. Leave it out where other hyperparameters vary and hardly any value
        repeats.
      title: what is written above the axes; nothing if None.
      path: where to save the figure, a `.png` or `.pdf`; None saves nothing.

    Returns:
      The matplotlib Figure, attached to no window.

    Raises:
      ValueError: shapes that do not match, a score that is not finite, an empty label of an axis, or
        another suffix of `path`.

    Example:
      >>> from purejaxpg.reporting.sweep_plots import sensitivity
      >>> figure = sensitivity(
      ...     [0.1, 0.2], [[1.0, 3.0], [5.0, 7.0]], x_label="clip_eps", y_label="return"
      ... )
      >>> figure.axes[0].lines[-1].get_ydata().tolist()  # the line through the IQMs
      [2.0, 6.0]
    """
    x, y = np.asarray(values, np.float64), _two_axes(scores)
    if x.shape != y.shape[:1]:
        raise ValueError(
            f"Values {x.shape} and scores {y.shape} must be of one configuration each."
        )
    plotting.check_output(path, x_label, y_label)
    bad = np.zeros(len(x), bool) if diverged is None else np.asarray(diverged) > 0
    figure, (axes,) = plotting.new_figure()
    intervals = (plotting.interval_or_point(statistics.iqm, row) for row in y)
    centre, low, high = map(np.array, zip(*intervals))
    ends = np.clip([centre - low, high - centre], 0.0, None)
    at = np.unique(x)
    repeated = len(at) < len(x)
    alpha = 0.6 if repeated else 1.0
    style: dict[str, Any] = {"markersize": 6, "capsize": 2.5, "linewidth": 1.0, "alpha": alpha}
    drawn: dict[str, Any] = {}
    for chosen, marker, colour, what in (
        (~bad, "o", plotting.PALETTE[0], "configuration"),
        (bad, "X", plotting.PALETTE[1], "configuration with diverged seeds"),
    ):
        if chosen.any():
            drawn[what] = axes.errorbar(
                x[chosen], centre[chosen], ends[:, chosen], fmt=marker, color=colour, **style
            )
    pooled = [float(statistics.iqm(y[x == value].ravel())) for value in at]
    if joined:
        (line,) = axes.plot(at, pooled, color=plotting.PALETTE[0], linewidth=1.6, zorder=1)
        if repeated:
            drawn["IQM of all runs with the value"] = line
    if _is_wide(x):
        axes.set_xscale("log")
    plotting.decorate(axes, x_label, y_label, title)
    of_seeds = plotting.describe_interval(y.shape[1], 0.95)
    plotting.legend_below(figure, list(drawn.values()), list(drawn), of_seeds)
    return plotting.finish(figure, path)


def heat_map(
    rows: ArrayLike,
    columns: ArrayLike,
    scores: ArrayLike,
    *,
    x_label: str,
    y_label: str,
    score_label: str,
    title: str | None = None,
    path: plotting.Output = None,
) -> Figure:
    """Draw the IQM over seeds for every pair of values of two hyperparameters.

    Args:
      rows: `[configurations]`, values of the hyperparameter on the vertical axis.
      columns: `[configurations]`, values of the one on the horizontal axis. Pairs that are missing stay
        white.
      scores: `[configurations, seeds]`; runs of configurations with the same pair are pooled.
      x_label: name of the hyperparameter of `columns` with its unit.
      y_label: name of the hyperparameter of `rows` with its unit.
      score_label: name of the score with its unit.
      title: what is written above the axes; nothing if None.
      path: where to save the figure, a `.png` or `.pdf`; None saves nothing.

    Returns:
      The matplotlib Figure, attached to no window.

    Raises:
      ValueError: shapes that do not match, a score that is not finite, an empty label of an axis, or
        another suffix of `path`.

    Example:
      >>> from purejaxpg.reporting.sweep_plots import heat_map
      >>> figure = heat_map(
      ...     [1, 1], [8, 16], [[1.0, 3.0], [5.0, 7.0]],
      ...     x_label="num_steps", y_label="num_epochs", score_label="return",
      ... )
      >>> [text.get_text() for text in figure.axes[0].texts]
      ['2', '6']
    """
    row, column, y = np.asarray(rows), np.asarray(columns), _two_axes(scores)
    if not row.shape == column.shape == y.shape[:1]:
        raise ValueError(f"{row.shape}, {column.shape} and {y.shape} differ in configurations.")
    plotting.check_output(path, x_label, y_label, score_label)
    at_row, at_column = np.unique(row), np.unique(column)
    table = np.full((len(at_row), len(at_column)), np.nan)
    for i, j in np.ndindex(table.shape):
        chosen = (row == at_row[i]) & (column == at_column[j])
        if chosen.any():
            table[i, j] = statistics.iqm(y[chosen].ravel())
    ticks = [[plotting.short(value) for value in at] for at in (at_column, at_row)]
    # Wide enough for the labels side by side, and high enough for them one above the other.
    width = 1.8 + len(at_column) * (0.15 + 0.09 * max(map(len, ticks[0])))
    height = 1.2 + 0.25 * len(at_row)
    figure, (axes,) = plotting.new_figure(width=max(6.0, width), height=max(4.0, height))
    image = axes.imshow(table, cmap=COLOUR_MAP, origin="lower", aspect="auto")
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for i, j in np.argwhere(np.isfinite(table)):
        colour = "white" if table[i, j] < middle or len(np.unique(table)) == 1 else "black"
        axes.text(j, i, f"{table[i, j]:.3g}", ha="center", va="center", color=colour, fontsize=9)
    plotting.decorate(axes, x_label, y_label, title)
    axes.grid(False)
    axes.set_xticks(range(len(at_column)), ticks[0])
    axes.set_yticks(range(len(at_row)), ticks[1])
    figure.colorbar(image, label=f"{score_label}, IQM of {y.shape[1]} seeds")
    return plotting.finish(figure, path)


def parallel_axes(
    hyperparameters: Mapping[str, ArrayLike],
    scores: ArrayLike,
    *,
    score_label: str,
    title: str | None = None,
    path: plotting.Output = None,
) -> Figure:
    """Draw a line per configuration through its values, coloured by the IQM over its seeds.

    Args:
      hyperparameters: name -> values `[configurations]`, numbers or strings.
      scores: `[configurations, seeds]`. The best configurations are drawn last, on top.
      score_label: name of the score with its unit.
      title: what is written above the axes; nothing if None.
      path: where to save the figure, a `.png` or `.pdf`; None saves nothing.

    Returns:
      The matplotlib Figure, attached to no window.

    Raises:
      ValueError: no hyperparameters, shapes that do not match, a score that is not finite, an empty label of
        an axis, or another suffix of `path`.

    Example:
      >>> from purejaxpg.reporting.sweep_plots import parallel_axes
      >>> figure = parallel_axes(
      ...     {"clip_eps": [0.1, 0.2], "gae": ["on", "off"]}, [[1.0, 3.0], [5.0, 7.0]], score_label="return"
      ... )
      >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
      ['clip_eps', 'gae', 'result']
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    y = _two_axes(scores)
    if not hyperparameters or any(np.shape(x) != y.shape[:1] for x in hyperparameters.values()):
        raise ValueError("Every hyperparameter needs a value of each configuration.")
    plotting.check_output(path, score_label, *hyperparameters)
    worth = np.asarray(statistics.iqm(y.T[:, None, :]))
    heights, ticks = zip(*(_heights(np.asarray(x)) for x in hyperparameters.values()))
    low, high = worth.min(), worth.max()
    final = (worth - low) / (high - low if high > low else 1.0)
    points = np.stack([*heights, final])  # [axes, configurations]
    colours = ScalarMappable(Normalize(low, high if high > low else low + 1), COLOUR_MAP)
    figure, (axes,) = plotting.new_figure(width=max(6.0, 1.6 * len(points)))
    for i in np.argsort(worth, kind="stable"):
        axes.plot(points[:, i], color=colours.to_rgba(worth[i]), linewidth=1.2, alpha=0.85)
    box = {"color": "white", "alpha": 0.7, "pad": 0.5}
    for position, labels in enumerate(ticks):
        axes.axvline(position, color="0.3", linewidth=0.8)
        for height, text in labels:
            axes.text(position - 0.03, height, text, fontsize=9, ha="right", va="center", bbox=box)
    names = [textwrap.fill(name, 14, break_long_words=False) for name in hyperparameters]
    axes.set_xticks(range(len(points)), [*names, "result"], fontsize=10)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.35, len(points) - 0.95)
    if title is not None:
        axes.set_title(title, fontsize=12)
    figure.colorbar(colours, ax=axes, label=f"{score_label}, IQM of {y.shape[1]} seeds")
    return plotting.finish(figure, path)


def _two_axes(scores: ArrayLike) -> np.ndarray:
    array = np.asarray(scores, np.float64)
    if array.ndim != 2:
        raise ValueError(f"Scores must be [configurations, seeds], got shape {array.shape}.")
    return statistics.check_scores(array)


def _is_wide(x: np.ndarray) -> bool:
    return bool(x.min() > 0 and x.max() / x.min() > _LOG_RANGE)


def _heights(values: np.ndarray) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Positions in [0, 1] on an axis, and where it has labels: at each of few values, else at five."""
    distinct = np.unique(values)
    if values.dtype.kind not in "fiu" or len(distinct) == 1:
        at = np.linspace(0, 1, len(distinct)) if len(distinct) > 1 else np.array([0.5])
        return at[np.searchsorted(distinct, values)], [*zip(at, map(plotting.short, distinct))]
    scale, unscale = (np.log, np.exp) if _is_wide(values) else (np.asarray, np.asarray)
    low, high = scale(distinct[0]), scale(distinct[-1])
    few = len(distinct) <= 8
    shown, digits = (distinct, 4) if few else (unscale(np.linspace(low, high, 5)), 3)
    place = lambda x: (scale(x) - low) / (high - low)  # noqa: E731
    heights = place(shown)
    apart = [0]  # of labels that would overlap, the lower one is written; the highest always is
    for i in range(1, len(shown)):
        if heights[i] - heights[apart[-1]] >= _LABEL_DISTANCE:
            apart.append(i)
    apart[-1] = len(shown) - 1 if 1 - heights[apart[-1]] < _LABEL_DISTANCE else apart[-1]
    return place(values), [(heights[i], f"{shown[i]:.{digits}g}") for i in apart]
