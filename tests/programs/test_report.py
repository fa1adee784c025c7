"""Reports of made-up sweeps whose numbers are known, and of real folders of runs."""

import html
import re
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import report
from experiments.common.parts import part_path, write_part
from experiments.common.results import write_arrays, write_json
from purejaxpg.reporting import plotting

CONFIGURATIONS = [
    {"hidden_sizes": sizes, "learning_rate": rate, "clip_eps": clip}
    for sizes in ([8], [64, 64])
    for rate in (1e-3, 1e-2, 1e3)
    for clip in (0.1, 0.3)
]


def make_sweep(folder: Path, configurations: int, seeds: int, updates: int, metrics: int) -> None:
    """A folder as sweep.py writes it, of two groups, every configuration one part."""
    half = CONFIGURATIONS[: configurations // 2]
    traced = {name: [row[name] for row in half] for name in ("learning_rate", "clip_eps")}
    options = {"algorithm": "ppo", "env": "CartPole-v1", "seeds": seeds}
    groups = [
        {"options": options, "static": {"hidden_sizes": x}, "hyperparameters": traced}
        for x in ([8], [64, 64])
    ]
    folder.mkdir()
    config = {"algorithm": "ppo", "groups": groups}
    write_json(folder / "config.json", {"config": config, "chunk_sizes": [seeds] * 2})
    rng = np.random.default_rng(0)
    steps = np.tile(np.arange(1, updates + 1, dtype=np.float32) * 64, (seeds, 1))
    for c in range(configurations):
        values = {c: CONFIGURATIONS[c % len(CONFIGURATIONS)]}
        noise = {f"metric_{i}": rng.random((seeds, updates), np.float32) for i in range(metrics)}
        if values[c]["learning_rate"] == 1e3:
            noise["metric_0"][0, -1] = np.nan  # the first seed diverges in the last update
        returns = np.full((seeds, updates + 1), np.nan)
        returns[:, [0, -1]] = 10.0 * c + np.arange(seeds)[:, None] + np.array([0.0, 100.0])
        number = np.full(seeds, c), np.arange(seeds)
        write_part(
            part_path(folder, c // (configurations // 2), c * seeds), values, *number,
            noise | {"env_steps": steps}, returns, np.array([0, updates]),
        )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "sweep"
    make_sweep(folder, configurations=12, seeds=4, updates=4, metrics=2)
    assert report.main([str(folder), "--target", "300"]) == 0
    return folder


def test_a_report_has_every_picture_twice_and_stands_alone(made):
    names = {path.stem for path in (made / "report").iterdir()}
    expected = {"learning_curves", "profiles", "aggregates", "parallel_axes", "report"}
    assert names == expected | {"sensitivity_learning_rate", "sensitivity_clip_eps"}
    assert len(list((made / "report").iterdir())) == 2 * 6 + 1
    page = (made / "report" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert not re.search(r'(src|href)="(?!data:)', page)  # refers to no other file
    assert "hyperparameters" in page and "chunk_sizes" in page  # the whole configuration


def test_the_table_counts_diverged_runs_as_worst(made):
    page = (made / "report" / "report.html").read_text()
    body = re.search(r"<tbody>(.*)</tbody>", page, re.S).group(1)
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in body.split("</tr>")[:-1]]
    assert len(rows) == 12  # none is dropped
    # The returns of configuration c end at 10 c + 100 + (0, 1, 2, 3), and the worst of all is 0.
    assert {tuple(row[3:6]) for row in rows} == {("256", "finished", "4")}
    by_values = {tuple(row[:3]): row[6:] for row in rows}
    sound = by_values["64x64", "0.01", "0.3"]  # number 9
    assert sound[:2] == ["0", "191.50"] and sound[-2:] == ["190.00", "193.00"]
    broken = by_values["64x64", "1000", "0.3"]  # number 11: its first seed counts 0
    assert broken[:2] == ["1", "211.50"] and broken[-2:] == ["0.00", "213.00"]
    assert [float(row[7]) for row in rows] == sorted((float(row[7]) for row in rows), reverse=True)


def write_sweep(folder: Path, traced: dict, static: list[dict], seeds: int = 3) -> Path:
    """A folder as sweep.py writes it; returns rise, and are told from each other by noise."""
    folder.mkdir()
    rng, steps = np.random.default_rng(0), np.tile(np.arange(1, 5) * 6400.0, (seeds, 1))
    number = len(next(iter(traced.values()), [0]))
    options = {"algorithm": "ppo", "env": "CartPole-v1", "seeds": seeds}
    groups = [{"options": options, "static": x, "hyperparameters": traced} for x in static]
    config = {"algorithm": "ppo", "groups": groups}
    content = {"kind": "sweep", "config": config, "chunk_sizes": [seeds] * len(static)}
    write_json(folder / "config.json", content)
    for c in range(len(static) * number):
        group, i = divmod(c, number)
        values = {c: {**static[group], **{name: x[i] for name, x in traced.items()}}}
        returns = rng.normal(100, 5, (seeds, 5)) + 10 * np.arange(5)
        which = np.full(seeds, c), np.arange(seeds)
        metrics = {"env_steps": steps.astype(np.float32)}
        path = part_path(folder, group, i * seeds)
        write_part(path, values, *which, metrics, returns, np.arange(5))
    return folder


RATES = [1e-4, 0.0002512, 0.0006667, 1e-3, 0.001133, 0.0025]
DISCOUNTS = [0.9, 0.95, 0.99, 0.995, 0.999, 0.9995]
GRID = {"value_learning_rate": np.repeat(RATES, 6).tolist(), "discount": DISCOUNTS * 6}
SIZES = [[64, 64], [256, 256, 256]]
STATIC = [{"hidden_sizes": x, "normalize_advantages": y} for x in SIZES for y in (True, False)]
SWEEPS = {
    "grid": (GRID, [{}]),
    "wide grid": (
        {
            "learning_rate": [x * 1.2345 for x in range(1, 16)] * 2,
            "discount": [0.9] * 15 + [1] * 15,
        },
        [{}],
    ),
    "static": ({}, STATIC),
    "mixed": ({"value_learning_rate": RATES, "gae_lambda": DISCOUNTS}, STATIC),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Name of a sweep -> name of a picture -> the figure; drawn when first asked for."""
    folder, made = tmp_path_factory.mktemp("drawn"), {}

    def figures(name):
        if name not in made:
            sweep = write_sweep(folder / name, *SWEEPS[name])
            with pytest.MonkeyPatch.context() as patch:
                finish, found = plotting.finish, {}

                def kept(figure, path):
                    found.update({} if path is None else {Path(path).stem: figure})
                    return finish(figure, path)

                patch.setattr(plotting, "finish", kept)
                assert report.main([str(sweep), "--output", str(folder / f"{name} report")]) == 0
            made[name] = found
        return made[name]

    return figures


def tick_labels(axis):
    """Those that are drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_ticklocs(), axis.get_ticklabels())
    return [label for at, label in ticks if low <= at <= high and label.get_text()]


@pytest.mark.parametrize("name", SWEEPS)
def test_no_text_is_cut_or_on_another_one(name, drawn):
    for picture, figure in drawn(name).items():
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        texts = [*figure.texts, *(x for legend in figure.legends for x in legend.get_texts())]
        for axes in figure.axes:
            groups = [tick_labels(axes.xaxis), tick_labels(axes.yaxis), axes.texts]
            for group in groups:
                found = [x.get_window_extent() for x in group]
                pairs = [(a, b) for i, a in enumerate(found) for b in found[:i]]
                assert not [pair for pair in pairs if pair[0].overlaps(pair[1])], picture
                texts += group
            texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for text in texts:
            box = text.get_window_extent()
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside or not text.get_text(), (picture, text)


def test_learning_curves_begin_before_training(drawn):
    (axes,) = drawn("grid")["learning_curves"].axes
    assert len(axes.lines) == report.SHOWN
    for line in axes.lines:
        np.testing.assert_array_equal(line.get_xdata(), 6400.0 * np.arange(5))
    assert axes.get_xlim()[0] <= 0


def test_heat_maps_are_of_whole_grids(drawn, tmp_path):
    """Two hyperparameters, each value of the one with each of the other."""
    assert [len(drawn(x)["heat_map"].axes[0].texts) for x in ("grid", "static")] == [36, 4]
    assert "heat_map" not in drawn("mixed")
    sweep = write_sweep(tmp_path / "part", GRID, [{}])
    next((sweep / "parts").iterdir()).unlink()
    assert report.main([str(sweep), "--output", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "heat_map.png").exists()
    assert (tmp_path / "out" / "parallel_axes.png").exists()


def test_truth_values_are_no_numbers(drawn):
    assert not [name for name in drawn("static") if name.startswith("sensitivity")]


def test_dollars_in_names_are_no_formula(drawn, tmp_path):
    sweeps = [
        write_sweep(tmp_path / name, {"discount": [0.9, 0.95]}, [{}])
        for name in ("a $x$", "cost $\\$ $_{")
    ]
    assert report.main([*map(str, sweeps), "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "parallel_axes.png").exists()


def test_the_best_of_a_sweep_comes_with_a_warning(made):
    page = html.unescape((made / "report" / "report.html").read_text())
    assert "biased upwards by the selection" in page
    (command,) = re.findall(r"<pre>(python experiments/train.py .*)</pre>", page)
    assert "--seed 4 --seeds 4" in command and "--clip-eps 0.3" in command
    assert "evaluate.py" not in page  # nothing was kept


def make_run(folder: Path, algorithm: str, level: float) -> Path:
    """A folder as train.py writes it: 3 seeds, evaluated at the updates 0 and 2, the last seed broken."""
    folder.mkdir()
    config = {"algorithm": algorithm, "env": "CartPole-v1", "num_envs": 2, "num_steps": 8}
    config["total_steps"] = 40  # two whole updates
    write_json(folder / "config.json", {"config": config, "chunks": [2]})
    loss = np.array([[1, 1], [1, 1], [1, np.nan]], np.float32)
    write_arrays(folder / "metrics.npz", {"kl": loss, "seconds": np.array(1.0)})
    returns = level + np.array([[0, 100], [1, 101], [2, 102]])
    episodes = np.repeat(returns[..., None], 4, axis=-1).astype(np.float32)
    arrays = {"update": np.array([[0, 2]]), "returns": episodes}
    write_arrays(folder / "evaluations.npz", arrays)
    return folder


def test_runs_are_compared_side_by_side(tmp_path):
    runs = [make_run(tmp_path / name, name, level) for name, level in (("ppo", 10), ("trpo", 50))]
    output = tmp_path / "comparison"
    assert report.main([*map(str, runs), "--output", str(output)]) == 0
    names = {path.name for path in output.glob("*.p*")}
    assert names == {
        f"{n}.{s}" for n in ("learning_curves", "profiles", "aggregates") for s in ("png", "pdf")
    }
    page = (output / "report.html").read_text()
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in page.split("</tr>")[1:-1]]
    # Steps, state, seeds, diverged, IQM of three seeds (their mean), interval, mean, min, max; the worst is 10.
    assert [row[:3] for row in rows] == [[x, "32", "finished"] for x in ("trpo", "ppo")]
    assert [row[3:6] for row in rows] == [["3", "1", "103.67"], ["3", "1", "77.00"]]
    assert [row[-2:] for row in rows] == [["10.00", "151.00"], ["10.00", "111.00"]]
    load = report.load(runs[0])
    np.testing.assert_array_equal(load.curves[0].steps, [0, 32])


def test_incomplete_configurations_wait(tmp_path, capsys):
    make_sweep(tmp_path / "sweep", configurations=4, seeds=3, updates=2, metrics=1)
    for part in list((tmp_path / "sweep" / "parts").iterdir())[1:]:
        part.unlink()
    assert report.main([str(tmp_path / "sweep")]) == 0
    assert capsys.readouterr().out.startswith("1 configurations")


def test_what_cannot_be_reported_is_refused_in_a_sentence(made, tmp_path, capsys):
    make_sweep(tmp_path / "other", configurations=2, seeds=3, updates=2, metrics=1)
    config = (tmp_path / "other" / "config.json").read_text()
    (tmp_path / "other" / "config.json").write_text(config.replace("CartPole-v1", "Acrobot-v1"))
    for folders, words in [
        ([tmp_path / "nothing"], "There is no"),
        ([made, tmp_path / "other"], "Returns of Acrobot-v1, CartPole-v1 cannot be compared"),
    ]:
        assert report.main([*map(str, folders), "--output", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and words in error and error.count("\n") == 1
    for part in (tmp_path / "other" / "parts").iterdir():
        part.write_bytes(part.read_bytes()[:100])
    assert report.main([str(tmp_path / "other")]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_a_hundred_megabytes_are_reported_within_a_minute(tmp_path):
    make_sweep(tmp_path / "sweep", configurations=12, seeds=64, updates=1000, metrics=40)
    size = sum(path.stat().st_size for path in (tmp_path / "sweep" / "parts").iterdir())
    assert size > 100e6
    began = time.monotonic()
    assert report.main([str(tmp_path / "sweep")]) == 0
    assert time.monotonic() - began < 60
