"""The comparison's own side runs; the other side needs a package that is not there for tests."""

import json

import numpy as np
import pytest

from experiments.studies import compare_sb3

TINY = {"num_steps": 16, "num_value_epochs": 1, "num_value_minibatches": 2, "hidden_sizes": (4,)}


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.setitem(compare_sb3.ROWS, "CartPole-v1", {**compare_sb3.COMMON, **TINY})
    options = "--envs CartPole-v1 --seeds 3 --seed 2 --total-steps 64 --eval-episodes 2"
    return ["--output", str(tmp_path / "new" / "file.json"), *options.split()]


def test_own_side_is_added_to_what_the_file_holds(arguments, tmp_path, capsys):
    file = tmp_path / "new" / "file.json"
    file.parent.mkdir()
    before = {"CartPole-v1": {"sb3-contrib": {"sampled": [1.0]}}, "other": {}}
    file.write_text(json.dumps(before))
    assert compare_sb3.main([*arguments, "--sides", "purejaxpg"]) == 0
    content = json.loads(file.read_text())
    found = content["CartPole-v1"].pop("purejaxpg")
    assert content == before
    for policy in ("sampled", "mode"):
        returns = np.array(found[policy])
        assert returns.shape == (3,) and ((returns >= 1) & (returns <= 500)).all()
        np.testing.assert_array_equal(returns * 2, np.round(returns * 2))  # of 2 whole numbers
    for number, name in ((1, "1 at once"), (3, "3 at once")):
        seconds = found["seconds"][name]["training"]
        assert found["steps_per_second"][name] == pytest.approx(number * 64 / seconds)
    assert found["config"]["num_steps"] == 16 and found["config"]["seed"] == 2

    text = file.read_text()
    assert compare_sb3.main([*arguments, "--sides", "purejaxpg"]) == 2
    assert "choose another --output" in capsys.readouterr().err
    assert file.read_text() == text


def test_what_is_missing_or_senseless_is_one_sentence(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compare_sb3.importlib.util, "find_spec", lambda name: None)
    assert compare_sb3.main(arguments) == 2
    assert "pip install sb3-contrib" in capsys.readouterr().err
    assert compare_sb3.main([*arguments, "--sides", "purejaxpg", "--seeds", "0"]) == 2
    assert "--seeds must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
