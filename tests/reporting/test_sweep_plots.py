"""What the pictures of sweeps and comparisons show, read back from their axes."""

import numpy as np
import pytest
import scipy.stats
from matplotlib.image import imread

from purejaxpg.reporting import comparison_plots, statistics, sweep_plots

RNG = np.random.default_rng(0)
SCORES = RNG.normal(100.0, 20.0, size=(6, 5))  # [configurations, seeds]
LABELS = {"x_label": "learning rate", "y_label": "return"}


def middle(scores):
    return scipy.stats.trim_mean(scores, 0.25, axis=None)


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_sensitivity_shows_the_iqm_and_the_interval_of_each_configuration():
    x = np.array([1e-2, 1e-4, 1e-3, 1e-1, 1.0, 10.0])
    figure = sweep_plots.sensitivity(x, SCORES, **LABELS, diverged=[0, 0, 0, 0, 2, 0])
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert texts(figure) == ["configuration", "configuration with diverged seeds"]
    sound, broken = axes.containers
    np.testing.assert_allclose(sound.lines[0].get_xdata(), np.delete(x, 4))
    np.testing.assert_allclose(broken.lines[0].get_ydata(), [middle(SCORES[4])])
    np.testing.assert_allclose(
        sound.lines[0].get_ydata(), [middle(SCORES[i]) for i in (0, 1, 2, 3, 5)]
    )
    interval = statistics.bootstrap_interval(statistics.iqm, SCORES[4])
    (segment,) = broken.lines[2][0].get_segments()
    np.testing.assert_allclose(segment[:, 1], [interval.low, interval.high])
    line = axes.lines[-1]  # from the lowest value to the highest
    np.testing.assert_allclose(line.get_xdata(), np.sort(x))
    np.testing.assert_allclose(line.get_ydata(), [middle(SCORES[i]) for i in np.argsort(x)])


def test_sensitivity_joins_the_pooled_runs_where_values_repeat():
    figure = sweep_plots.sensitivity([1, 1, 1, 2, 2, 3], SCORES, **LABELS)
    (axes,) = figure.axes
    assert axes.get_xscale() == "linear"
    assert "IQM of all runs with the value" in texts(figure)
    pooled = [middle(SCORES[:3]), middle(SCORES[3:5]), middle(SCORES[5:])]
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), pooled)
    apart = sweep_plots.sensitivity([1, 1, 1, 2, 2, 3], SCORES, **LABELS, joined=False)
    assert len(apart.axes[0].lines) == len(axes.lines) - 1
    assert texts(apart) == ["configuration"]


def test_heat_map_has_the_iqm_of_each_pair_and_leaves_missing_ones_white():
    rows, columns = [1, 1, 2, 2, 2, 1], ["a", "b", "a", "b", "b", "c"]
    figure = sweep_plots.heat_map(rows, columns, SCORES, **LABELS, score_label="return")
    axes = figure.axes[0]
    table = np.ma.filled(axes.images[0].get_array(), np.nan)
    expected = [
        [middle(SCORES[0]), middle(SCORES[1]), middle(SCORES[5])],
        [middle(SCORES[2]), middle(SCORES[3:5]), np.nan],
    ]
    np.testing.assert_allclose(table, expected)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["1", "2"]
    assert len(axes.texts) == 5


def test_parallel_axes_have_a_line_per_configuration_the_best_on_top():
    table = {
        "rate": [1e-4, 1e-3, 1e-2, 1e-1, 1e-3, 1e-2],
        "size": ["8", "64x64", "8", "8", "8", "8"],
    }
    figure = sweep_plots.parallel_axes(table, SCORES, score_label="return")
    axes = figure.axes[0]
    lines = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 3]
    assert len(lines) == 6
    worth = np.array([middle(row) for row in SCORES])
    order = np.argsort(worth)
    np.testing.assert_allclose([y[0] for y in lines], np.array([0, 1, 2, 3, 1, 2])[order] / 3)
    np.testing.assert_allclose([y[1] for y in lines], np.array([1, 0, 1, 1, 1, 1])[order])
    heights = (worth[order] - worth.min()) / np.ptp(worth)
    np.testing.assert_allclose([y[2] for y in lines], heights, atol=1e-12)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["rate", "size", "result"]


def test_profiles_are_steps_at_the_scores():
    scores = {"one": [1.0, 2.0, 3.0], "two": [[1.0, 5.0]] * 4}
    figure = comparison_plots.performance_profiles(scores, x_label="return")
    one, two = figure.axes[0].lines
    assert one.get_drawstyle() == "steps-post"
    at = np.clip(one.get_xdata(), 1, 5)
    np.testing.assert_array_equal(at, [1, 1, 2, 3, 5, 5])
    np.testing.assert_allclose(one.get_ydata(), [1, 2 / 3, 1 / 3, 0, 0, 0])
    np.testing.assert_allclose(two.get_ydata(), [1, 0.5, 0.5, 0.5, 0, 0])
    assert texts(figure) == ["one", "two"]
    assert "3 to 4 seeds, 95%" in figure.legends[0].get_title().get_text()


def test_bars_span_the_intervals_of_each_statistic():
    scores = {"one": SCORES[:, :2], "two": SCORES[:, 2:4] + 50}
    figure = comparison_plots.aggregate_bars(scores, target=150.0, score_label="return")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["mean", "median of tasks", "IQM", "gap to 150"]
    for axes, statistic in zip(figure.axes, [np.mean, None, middle]):
        if statistic is not None:
            at = [line.get_xdata()[0] for line in axes.lines]
            np.testing.assert_allclose(at, [statistic(x) for x in scores.values()])
    gaps = [line.get_xdata()[0] for line in figure.axes[3].lines]
    np.testing.assert_allclose(gaps, [np.maximum(150 - x, 0).mean() for x in scores.values()])
    interval = statistics.bootstrap_interval(statistics.iqm, scores["two"])
    bar = figure.axes[2].patches[1]
    np.testing.assert_allclose(bar.get_x(), interval.low)
    np.testing.assert_allclose(bar.get_x() + bar.get_width(), interval.high)
    single = comparison_plots.aggregate_bars({"one": SCORES[0]}, target=1.0, score_label="return")
    assert len(single.axes) == 3  # the median of one task is its mean


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_pictures_are_saved(suffix, tmp_path):
    values = np.arange(6.0)
    some = {"one": SCORES[0], "two": SCORES[1]}
    more = {"title": "CartPole-v1", "path": tmp_path / f"x{suffix}"}
    for draw in (
        lambda: sweep_plots.sensitivity(values, SCORES, **LABELS, **more),
        lambda: sweep_plots.heat_map(values, values, SCORES, **LABELS, score_label="r", **more),
        lambda: sweep_plots.parallel_axes({"a": values}, SCORES, score_label="return", **more),
        lambda: comparison_plots.performance_profiles(some, x_label="return", **more),
        lambda: comparison_plots.aggregate_bars(some, target=1.0, score_label="return", **more),
    ):
        draw()
        if suffix == ".png":
            assert imread(more["path"]).std() > 0.05
        more["path"].unlink()


def test_wrong_arguments_are_refused(tmp_path):
    values = np.arange(6.0)
    for draw, words in [
        (lambda: sweep_plots.sensitivity(values[:5], SCORES, **LABELS), "one configuration each"),
        (lambda: sweep_plots.sensitivity(values, SCORES[0], **LABELS), "configurations, seeds"),
        (lambda: sweep_plots.sensitivity(values, SCORES * np.nan, **LABELS), "NaN"),
        (lambda: sweep_plots.sensitivity(values, SCORES, x_label="", y_label="r"), "label"),
        (
            lambda: sweep_plots.heat_map(values[:3], values, SCORES, **LABELS, score_label="r"),
            "differ",
        ),
        (lambda: sweep_plots.parallel_axes({}, SCORES, score_label="r"), "needs a value"),
        (lambda: comparison_plots.performance_profiles({}, x_label="r"), "no scores"),
        (
            lambda: comparison_plots.aggregate_bars(
                {"a": [1.0] * 3}, target=1.0, score_label="r", path=tmp_path / "x.svg"
            ),
            "saved as",
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            draw()
    assert not list(tmp_path.iterdir())


def test_two_seeds_have_points_and_no_intervals():
    figure = sweep_plots.sensitivity(np.arange(6.0), SCORES[:, :2], **LABELS)
    assert "no interval from fewer than 3" in figure.legends[0].get_title().get_text()
    segments = figure.axes[0].containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([np.ptp(segment[:, 1]) for segment in segments], 0)
