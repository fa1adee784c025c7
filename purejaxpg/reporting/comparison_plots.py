"""Pictures that compare algorithms or configurations: performance profiles and bars of statistics.

Style and rules are those of `plotting`: 95% stratified-bootstrap intervals (Agarwal et al. 2021,
arXiv:2108.13264), none from fewer than three seeds, `.png` or `.pdf`. Scores are `[seeds]` or
`[seeds, tasks]`, finite, and higher is better.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from purejaxpg.reporting import plotting, statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABEL_WIDTH = 36  # characters beside the panels


def performance_profiles(
    scores: Mapping[str, ArrayLike],
    *,
    x_label: str,
    title: str | None = None,
    path: plotting.Output = None,
) -> Figure:
    """Draw the fraction of runs that score above each threshold, with pointwise intervals.

    Args:
      scores: label -> `[seeds]` or `[seeds, tasks]`, the same tasks for all labels.
      x_label: name of the score with its unit.
      title: what is written above the axes; nothing if None.
      path: where to save the figure, a `.png` or `.pdf`; None saves nothing.

    Returns:
      The matplotlib Figure, attached to no window.

    Raises:
      ValueError: no scores, a score that is not finite, an empty label of the axis, or another suffix of
        `path`.

    Example:
      >>> from purejaxpg.reporting.comparison_plots import performance_profiles
      >>> figure = performance_profiles({"PPO": [100.0, 200.0]}, x_label="return")
      >>> figure.axes[0].lines[0].get_ydata().tolist()  # below 100, at 100, at 200 and above
      [1.0, 0.5, 0.0, 0.0]
    """
    plotting.check_output(path, x_label)
    checked = _checked(scores)
    steps = np.unique(np.concatenate([runs.ravel() for runs in checked.values()]))
    margin = 0.03 * max(steps[-1] - steps[0], 1e-9)
    # It changes at scores only: at each of them, since a run is not above its own score.
    thresholds = np.concatenate([steps[:1] - margin, steps, steps[-1:] + margin])
    figure, (axes,) = plotting.new_figure()
    profile = partial(statistics.performance_profile, thresholds=thresholds)
    lines = []
    for i, runs in enumerate(checked.values()):
        interval = plotting.interval_or_point(profile, runs)
        style = plotting.line_style(i)
        lines += axes.step(thresholds, interval.estimate, where="post", linewidth=1.6, **style)
        band = {"color": style["color"], "alpha": 0.2, "linewidth": 0}
        axes.fill_between(thresholds, interval.low, interval.high, step="post", **band)
    axes.set_ylim(-0.02, 1.02)
    plotting.decorate(axes, x_label, "fraction of runs above", title)
    plotting.legend_below(figure, lines, list(checked), _described(checked))
    return plotting.finish(figure, path)


def aggregate_bars(
    scores: Mapping[str, ArrayLike],
    *,
    target: float,
    score_label: str,
    title: str | None = None,
    path: plotting.Output = None,
) -> Figure:
    """Draw mean, median, IQM and optimality gap of every label, a panel per statistic, with intervals.

    Args:
      scores: label -> `[seeds]` or `[seeds, tasks]`. With one task the median is the mean, and its panel
        is left out.
      target: the score from which on a run is as good as can be, for the optimality gap.
      score_label: name of the score with its unit.
      title: what is written above the panels; nothing if None.
      path: where to save the figure, a `.png` or `.pdf`; None saves nothing.

    Returns:
      The matplotlib Figure, attached to no window.

    Raises:
      ValueError: no scores, a score that is not finite, an empty label of the axes, or another suffix of
        `path`.

    Example:
      >>> from purejaxpg.reporting.comparison_plots import aggregate_bars
      >>> figure = aggregate_bars({"PPO": [100.0, 200.0]}, target=500.0, score_label="return")
      >>> [axes.get_title() for axes in figure.axes]
      ['mean', 'IQM', 'gap to 500']
    """
    plotting.check_output(path, score_label)
    checked = _checked(scores)
    panels: dict[str, Any] = {
        "mean": statistics.mean,
        "median of tasks": statistics.median,
        "IQM": statistics.iqm,
        f"gap to {plotting.short(target)}": partial(statistics.optimality_gap, target=target),
    }
    if all(runs.shape[1] == 1 for runs in checked.values()):
        del panels["median of tasks"]
    labels = [plotting.in_lines(label, _LABEL_WIDTH) for label in checked]
    each = max(0.35, 0.2 * max(label.count("\n") + 1 for label in labels))
    figure, every = plotting.new_figure(len(panels), width=8.0, height=1.4 + each * len(labels))
    for axes, (name, statistic) in zip(every, panels.items()):
        for i, runs in enumerate(checked.values()):
            interval = plotting.interval_or_point(statistic, runs)
            length, colour = interval.high - interval.low, plotting.line_style(i)["color"]
            axes.barh(i, length, left=interval.low, height=0.6, color=colour, alpha=0.5)
            axes.plot([interval.estimate] * 2, [i - 0.3, i + 0.3], color="black", linewidth=1.6)
        plotting.decorate(axes, score_label, "", None)
        axes.set_title(name, fontsize=11)
        axes.set_yticks(range(len(labels)), labels if axes is every[0] else [])
        axes.set_ylim(len(checked) - 0.5, -0.5)
        axes.use_sticky_edges = False
        axes.margins(x=0.08)
    if title is not None:
        figure.suptitle(title, fontsize=12)
    figure.supxlabel(f"line: estimate; bar: interval; {_described(checked)}", fontsize=9)
    return plotting.finish(figure, path)


def _checked(scores: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    if not scores:
        raise ValueError("There are no scores to draw.")
    return {label: statistics.check_scores(x) for label, x in scores.items()}


def _described(scores: Mapping[str, np.ndarray]) -> str:
    numbers = {len(x) for x in scores.values()}
    if min(numbers) < statistics.MIN_SEEDS:
        return f"no interval from fewer than {statistics.MIN_SEEDS} seeds"
    seeds = " to ".join(str(n) for n in sorted({min(numbers), max(numbers)}))
    return f"{seeds} seeds, 95% stratified bootstrap"
