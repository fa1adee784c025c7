"""Pictures: what is drawn is what the statistics say, and the file is whole."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread

from purejaxpg.reporting.plotting import PALETTE, learning_curve
from purejaxpg.reporting.statistics import bootstrap_interval, iqm

X = np.linspace(0.0, 1e6, 20)
AXES = {"x_label": "environment steps", "y_label": "episode return"}


def runs(num_seeds, seed=0):
    return np.random.default_rng(seed).normal(size=(num_seeds, len(X))).cumsum(axis=1)


def lines(figure):
    return figure.axes[0].lines


def bands(figure):
    return [c for c in figure.axes[0].collections if isinstance(c, PolyCollection)]


def legend(figure):
    (box,) = figure.legends
    return [text.get_text() for text in box.get_texts()], box.get_title().get_text()


def test_saves_a_png_of_paper_size(tmp_path):
    path = tmp_path / "new folder" / "curve.png"
    learning_curve({"PPO": (X, runs(5)), "TRPO": (X, runs(5, 1))}, **AXES, path=path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (900, 600)  # 6 x 4 inches at 150 dpi
    assert 10_000 < len(data) < 500_000
    colours = {to_hex(c) for c in np.unique(imread(path)[..., :3].reshape(-1, 3), axis=0)}
    assert {"#ffffff", *(c.lower() for c in PALETTE[:2])} <= colours
    assert os.listdir(path.parent) == ["curve.png"]  # no temporary file is left


def test_saves_a_pdf_that_depends_on_nothing_but_the_data(tmp_path):
    for name in ("a.pdf", "b.pdf"):
        learning_curve({"PPO": (X, runs(5))}, **AXES, path=str(tmp_path / name))
    data = (tmp_path / "a.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert b"/Type3" not in data
    assert data == (tmp_path / "b.pdf").read_bytes()


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "curve.png"
    path.write_bytes(b"old")

    def half_written(figure, file, **_):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half_written)
    with pytest.raises(OSError, match="disk full"):
        learning_curve({"PPO": (X, runs(5))}, **AXES, path=path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["curve.png"]


def test_line_is_the_iqm_and_band_its_bootstrap_interval():
    scores = {"PPO": runs(5), "TRPO": runs(5, seed=1)}
    figure = learning_curve({k: (X, s) for k, s in scores.items()}, **AXES, num_resamples=500)
    assert len(lines(figure)) == len(bands(figure)) == 2
    for line, band, s in zip(lines(figure), bands(figure), scores.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), X)
        np.testing.assert_allclose(line.get_ydata(), iqm(s[:, None, :]), rtol=1e-12)
        interval = bootstrap_interval(iqm, s[:, None, :], num_resamples=500)
        corners = band.get_paths()[0].vertices
        for t, x in enumerate(X):
            heights = corners[corners[:, 0] == x, 1]
            np.testing.assert_allclose(heights.min(), interval.low[t])
            np.testing.assert_allclose(heights.max(), interval.high[t])
        assert to_hex(band.get_facecolor()[0]) == to_hex(line.get_color())


def test_legend_states_the_statistic_and_axes_their_units():
    figure = learning_curve({"PPO": (X, runs(7))}, **AXES, title="CartPole-v1")
    assert legend(figure) == (["PPO"], "IQM of 7 seeds, 95% stratified bootstrap")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "environment steps"
    assert axes.get_ylabel() == "episode return"
    assert axes.get_title() == "CartPole-v1"
    figure = learning_curve({"PPO": (X, runs(7))}, **AXES, confidence=0.9)
    assert legend(figure)[1] == "IQM of 7 seeds, 90% stratified bootstrap"


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_fewer_than_three_seeds_are_drawn_one_by_one_without_a_band(num_seeds):
    scores = runs(num_seeds)
    figure = learning_curve({"PPO": (X, scores)}, **AXES)
    assert not bands(figure)
    assert len(lines(figure)) == num_seeds
    for line, run in zip(lines(figure), scores, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), run)
    labels, title = legend(figure)
    assert labels == ["PPO"]
    assert title.endswith("no interval from fewer than 3")
    assert "IQM" not in title


def test_curves_of_different_numbers_of_seeds_say_so_each():
    curves = {"PPO": (X, runs(9)), "TRPO": (X, runs(3)), "A2C": (X, runs(2))}
    figure = learning_curve(curves, **AXES)
    assert len(bands(figure)) == 2
    assert legend(figure)[0] == [
        "PPO (IQM of 9 seeds, 95% stratified bootstrap)",
        "TRPO (IQM of 3 seeds, 95% stratified bootstrap)",
        "A2C (each of 2 seeds, no interval from fewer than 3)",
    ]


def test_reference_is_a_horizontal_line_with_its_name():
    curves = {"PPO": (X, runs(3))}
    figure = learning_curve(curves, **AXES, reference=500.0, reference_label="maximum")
    assert set(lines(figure)[-1].get_ydata()) == {500.0}
    assert legend(figure)[0] == ["PPO", "maximum"]
    assert figure.axes[0].get_ylim()[1] > 500.0


def test_many_curves_differ_in_colour_or_dashes():
    figure = learning_curve({str(i): (X, runs(1, i)) for i in range(20)}, **AXES)
    looks = {(line.get_color(), line.get_linestyle()) for line in lines(figure)}
    assert len(looks) == 20


def test_a_single_point_is_visible(tmp_path):
    figure = learning_curve({"PPO": ([1.0], runs(5)[:, :1])}, **AXES, path=tmp_path / "a.png")
    assert lines(figure)[0].get_marker() == "o"


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "no curves"),
        ({"PPO": (X, runs(5).T)}, "'PPO' must have x"),
        ({"PPO": (X, runs(5)[0])}, "'PPO' must have x"),
        ({"PPO": (X[::-1], runs(5))}, "increase"),
        ({"PPO": (X, np.where(X > 9e5, np.nan, runs(5)))}, "'PPO'.*replace_diverged"),
        ({"PPO": (X, np.where(X > 9e5, np.inf, runs(2)))}, "'PPO'.*replace_diverged"),
    ],
)
def test_wrong_curves_are_refused(curves, message):
    with pytest.raises(ValueError, match=message):
        learning_curve(curves, **AXES)


def test_wrong_labels_and_suffixes_are_refused(tmp_path):
    curves = {"PPO": (X, runs(3))}
    with pytest.raises(ValueError, match="label"):
        learning_curve(curves, x_label="environment steps", y_label=" ")
    for name in ("curve.jpg", "curve"):
        with pytest.raises(ValueError, match="saved as"):
            learning_curve(curves, **AXES, path=tmp_path / name)
    assert not os.listdir(tmp_path)


def test_neither_importing_nor_drawing_touches_pyplot():
    program = f"""
import sys
import purejaxpg.reporting.plotting as plotting
assert not [name for name in sys.modules if name.split(".")[0] == "matplotlib"]
plotting.learning_curve(
    {{"a": ([0, 1], [[0.0, 1.0]] * 3)}}, x_label="{AXES["x_label"]}", y_label="{AXES["y_label"]}"
)
assert "matplotlib.pyplot" not in sys.modules
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=120)
