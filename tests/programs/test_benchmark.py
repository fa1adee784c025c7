"""The benchmark runs every part and writes what it prints."""

import json

import pytest

from experiments import benchmark


def test_parts_are_timed(tmp_path, capsys):
    file = tmp_path / "figures.json"
    code = benchmark.main(
        "ppo --num-envs 2 --num-steps 8 --num-minibatches 1 --num-epochs 1 --hidden-sizes 4 --repeats 2"
        f" --updates 3 --output {file}".split()
    )
    assert code == 0
    content = json.loads(file.read_text())
    assert list(content["figures"]) == ["environment", "rollout", "update", "training"]
    for part, figure in content["figures"].items():
        assert figure["min_seconds"] <= figure["median_seconds"] <= figure["max_seconds"]
        steps = 16 * (3 if part == "training" else 1)
        assert figure["steps_per_second"] == pytest.approx(steps / figure["median_seconds"])
    assert content["peak_memory_bytes"] > 0
    assert "peak memory" in capsys.readouterr().out


def test_training_is_compared_with_plain_vmap(tmp_path, capsys):
    file = tmp_path / "figures.json"
    sizes = "ppo --num-envs 2 --num-steps 8 --num-minibatches 1 --num-epochs 1 --hidden-sizes 4"
    more = f"--seeds 3 --repeats 1 --updates 2 --against-vmap --output {file}"
    assert benchmark.main([*sizes.split(), *more.split()]) == 0
    content = json.loads(file.read_text())
    both = [content["figures"][part] for part in ("plain vmap", "sharded")]
    vmap, sharded = (figure["median_seconds"] for figure in both)
    assert content["times_as_fast_as_vmap"] == pytest.approx(vmap / sharded)
    assert all(f["steps_per_second"] == pytest.approx(96 / f["median_seconds"]) for f in both)
    assert f"{vmap / sharded:.2f} times as fast as plain vmap" in capsys.readouterr().out


def test_wrong_options_are_one_sentence(capsys):
    assert benchmark.main(["ppo", "--repeats", "0"]) == 2
    assert benchmark.main(["nothing"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
