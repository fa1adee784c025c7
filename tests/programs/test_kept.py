"""Policies that sweeps keep: folders as train.py writes them, of parts that survive what tables survive."""

import errno
import json
import shlex
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import evaluate, report, sweep, train
from experiments.common import kept
from experiments.common.parts import read_columns
from experiments.common.results import read_arrays, read_config, restore_state
from experiments.common.runs import run_from_config
from tests.programs.test_faults import SWEEP
from tests.programs.test_sweep_program import arguments, plan_file
from tests.programs.tiny import assert_same_results, refused, sentence

PLAN = SWEEP + 'activation = "relu"\n[grid]\nlearning_rate = [1e-3, 1e30, 3e-3]\n'
UPDATES, SEEDS = 2, 2
CHUNKS = ("--chunk-size", "4")  # six runs: the second configuration is in two parts


def swept(folder: Path, *more: str) -> int:
    plan_file(folder, PLAN)
    return sweep.main(arguments(folder, *more))


def kept_ones(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "results/tiny/configurations").iterdir())


@pytest.fixture(scope="module")
def everything(tmp_path_factory, cache) -> Path:
    folder = tmp_path_factory.mktemp("all")
    assert swept(folder, "--keep", "all", *CHUNKS) == 0
    return folder


@pytest.fixture
def copied(everything, tmp_path) -> Path:
    return Path(shutil.copytree(everything, tmp_path / "copied"))


def test_every_configuration_is_a_folder_of_train_py(everything, tmp_path, capsys):
    assert kept_ones(everything) == ["000", "001", "002"]
    assert not (everything / "results/tiny/states").exists()
    folder = everything / "results/tiny/configurations/002"
    run = run_from_config(read_config(folder, "run")["config"])
    assert run.options.learning_rate == pytest.approx(3e-3) and run.options.activation == "relu"
    options = kept.words_of({"output": tmp_path, "name": "run"} | vars(run.options))
    assert train.main(["ppo", *options]) == 0
    found, expected = ({x.name for x in f.iterdir()} for f in (folder, tmp_path / "run"))
    assert found == expected - {".lock", "summary.json", "learning_curve.png"}
    assert read_config(folder) == read_config(tmp_path / "run")
    for name in ("metrics", "evaluations"):
        one, two = (read_arrays(x / f"{name}.npz") for x in (folder, tmp_path / "run"))
        assert one.keys() == two.keys()
        if name == "evaluations":
            assert two["returns"].shape == (SEEDS, 2, 2) and one["returns"].shape == (SEEDS, 2, 1)
            assert one["returns"].dtype == two["returns"].dtype
            assert not one["completed"].any() and not one["lengths"].any() and one["finite"].all()
            one["returns"], two["returns"] = (x["returns"].mean(axis=-1) for x in (one, two))
            one, two = ({x: y[x] for x in ("update", "returns")} for y in (one, two))
        for key in one.keys() - {"seconds"}:
            np.testing.assert_allclose(one[key], two[key], rtol=1e-3, atol=1e-3, err_msg=key)
        assert name == "evaluations" or one["seconds"] > 0
    states = (restore_state(x, run.like()) for x in (folder, tmp_path / "run"))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-3), *states)


def test_other_programs_work_on_what_is_kept(copied, capsys):
    folder = copied / "results/tiny/configurations"
    assert evaluate.main([str(folder / "000"), "--episodes", "2", "--max-steps", "20"]) == 0
    assert evaluate.main([str(folder / "001"), "--episodes", "2", "--max-steps", "20"]) == 0
    assert "diverged in training: seed 0, 1" in capsys.readouterr().out
    assert report.main([str(folder / "000"), str(folder / "002")]) == 0
    more = ["--output", str(folder), "--name", "000", "--resume"]
    assert train.main(["ppo", *more]) == 0  # nothing is left to do but to report
    assert train.main(["ppo", *more, "--total-steps", "192"]) == 0
    evaluations = read_arrays(folder / "000" / "evaluations.npz")
    assert evaluations["returns"].shape == evaluations["lengths"].shape == (SEEDS, 3, 2)
    assert evaluations["update"].tolist() == [[0, 2, 3]]
    np.testing.assert_array_equal(*np.moveaxis(evaluations["returns"][:, :2], -1, 0))
    assert swept(copied, "--keep", "all", "--resume") == 0  # leaves it as it is
    assert len(read_arrays(folder / "000" / "evaluations.npz")["update"][0]) == 3


def test_the_best_alone_is_kept(everything, tmp_path, capsys):
    assert swept(tmp_path, "--keep", "best", *CHUNKS) == 0
    output = tmp_path / "results/tiny"
    best = json.loads((output / "summary.json").read_text())[0]["configuration"]
    assert kept_ones(tmp_path) == [f"{best:03d}"] and not (output / "states").exists()
    path = f"results/tiny/configurations/{best:03d}"
    assert_same_results(tmp_path / path, everything / path)
    out = capsys.readouterr().out
    size = sum(x.nbytes for x in jax.tree.leaves(restore(everything / path))) / 2**20
    assert out.startswith(f"--keep best: the states of 3 configurations take {3 * size:,.1f} MiB ")
    assert f"and what is kept {size:,.1f} MiB." in out.splitlines()[0]
    assert "biased upwards" in out
    assert f"evaluate.py {tmp_path / path} --episodes" in out
    (words,) = (shlex.split(x) for x in out.splitlines() if "experiments/train.py" in x)
    run, own, _ = train.parse(words[2:])
    assert run.config() == read_config(tmp_path / path)["config"] | {"seed": SEEDS}
    assert own.output == tmp_path / "results" and own.name == f"tiny-{best:03d}-fresh"
    assert report.main([str(output)]) == 0
    page = (output / "report/report.html").read_text()
    assert "biased upwards" in page and shlex.join(words) in page
    assert swept(tmp_path, "--keep", "best", "--resume") == 0
    assert kept_ones(tmp_path) == [f"{best:03d}"]


def restore(folder: Path):
    return restore_state(folder, run_from_config(read_config(folder)["config"]).like())


@pytest.mark.parametrize("where", ["state", "table", "second folder"])
@pytest.mark.parametrize("keep", ["best", "all"])
def test_a_sweep_that_stops_anywhere_keeps_the_same(
    keep, where, everything, tmp_path, monkeypatch, capsys
):
    """Where it stops, nothing but files of other names or whole ones are there, as after a kill."""
    module, name = {
        "state": (kept, "write_states"),
        "table": (sweep, "write_part"),
        "second folder": (kept, "save_state"),
    }[where]
    write, calls = getattr(module, name), []

    def fail_at_the_last(*arguments):
        calls.append(arguments)
        if len(calls) == (1 if keep == "best" and where == "second folder" else 2):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, fail_at_the_last)
        assert swept(tmp_path, "--keep", keep, *CHUNKS) == 1
    assert "--resume goes on from there" in capsys.readouterr().err
    states = tmp_path / "results/tiny/states"
    assert len(list(states.glob("[0-9]*"))) == (1 if where == "state" else 2)
    assert swept(tmp_path, "--keep", keep, "--resume") == 0
    assert not states.exists()
    for number in kept_ones(tmp_path):
        path = f"results/tiny/configurations/{number}"
        assert_same_results(tmp_path / path, everything / path)
    assert len(kept_ones(tmp_path)) == (1 if keep == "best" else 3)


def test_damaged_states_are_computed_again(everything, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(kept, "keeper", lambda *arguments: lambda number: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            swept(tmp_path, "--keep", "all", *CHUNKS)
    first, _ = sorted((tmp_path / "results/tiny/states").iterdir())
    largest = max((x for x in first.rglob("*") if x.is_file()), key=lambda x: x.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    before = [x.stat().st_mtime_ns for x in (tmp_path / "results/tiny/parts").iterdir()]
    assert swept(tmp_path, "--keep", "all", "--resume") == 0
    after = [x.stat().st_mtime_ns for x in (tmp_path / "results/tiny/parts").iterdir()]
    assert len(set(before) & set(after)) == 1  # the other chunk was not computed again
    for number in kept_ones(tmp_path):
        path = f"results/tiny/configurations/{number}"
        assert_same_results(tmp_path / path, everything / path)


def test_configurations_of_several_programs_are_kept(tmp_path, cache):
    plan_file(tmp_path, SWEEP + "[static]\nnum_steps = [16, 32]\n[grid]\ndiscount = [0.9, 0.99]\n")
    assert sweep.main(arguments(tmp_path, "--keep", "all", "--chunk-size", "3")) == 0
    assert kept_ones(tmp_path) == ["000", "001", "002", "003"]
    columns = read_columns(tmp_path / "results/tiny")
    for number in range(4):
        folder = tmp_path / f"results/tiny/configurations/{number:03d}"
        config, metrics = read_config(folder)["config"], read_arrays(folder / "metrics.npz")
        assert config["num_steps"] == (16, 16, 32, 32)[number]
        assert config["discount"] == pytest.approx((0.9, 0.99)[number % 2])
        rows = (columns["configuration"] == number) & (columns["update"] > 0)
        for name in metrics.keys() - {"seconds"}:
            np.testing.assert_array_equal(metrics[name].ravel(), columns[name][rows])
        assert (np.asarray(restore(folder).update) == 128 // (4 * config["num_steps"])).all()


@pytest.mark.parametrize("keep", ["none", "best"])
def test_a_sweep_goes_on_with_what_it_was_told_to_keep(keep, copied, capsys):
    plan_file(copied, PLAN)
    more = ("--keep", keep) if keep == "best" else ()
    message = sentence(refused(capsys, sweep, arguments(copied, "--resume", *more)))
    assert "was started with --keep all" in message and f"not with --keep {keep}" in message


def test_many_configurations_have_longer_numbers(tmp_path):
    assert kept.kept_path(tmp_path, 7).name == "007"
    assert kept.kept_path(tmp_path, 12345).name == "12345"
