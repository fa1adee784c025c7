"""Environments of other libraries from the command line."""

from importlib.metadata import version

import pytest

from experiments import train
from experiments.common import recipes
from experiments.common.defaults import DEFAULTS
from experiments.common.options import RunOptions
from experiments.common.recipes import ADAPTERS, build_env
from experiments.common.results import read_config, read_json
from tests.programs.test_train import assert_defaults_make_a_run
from tests.programs.tiny import TINY, refused, sentence

ROWS = [(name, env_id) for name, rows in DEFAULTS.items() for env_id in rows if ":" in env_id]


@pytest.mark.filterwarnings("ignore::UserWarning:brax", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "env_id"), ROWS)
def test_defaults_make_runs(name, env_id):
    library, _, _ = env_id.partition(":")
    assert library in ADAPTERS
    pytest.importorskip(library)
    assert_defaults_make_a_run(name, env_id)


def test_options_reach_the_adapter(monkeypatch):
    """Of `env_kwargs` literals, of `env_params` numbers."""
    given = []
    monkeypatch.setitem(
        ADAPTERS, "pgx", lambda *args, **kwargs: given.append((args, kwargs)) or (1, 2)
    )
    monkeypatch.setattr(recipes, "find_spec", lambda name: name)
    options = RunOptions("pgx:go_9x9", {"max_steps_in_episode": 7.0}, {"first": "True"})
    assert build_env(options) == (1, 2)
    assert given == [(("go_9x9",), {"first": True, "max_steps_in_episode": 7.0})]


def test_a_run_writes_its_folder(tmp_path, capsys):
    pytest.importorskip("pgx")
    arguments = ["ppo", "--env", "pgx:tic_tac_toe", "--env-kwargs", "first", "True", *TINY]
    assert train.main([*arguments, "--output", str(tmp_path)]) == 0
    folder = tmp_path / "ppo-pgx-tic_tac_toe"
    assert read_config(folder)["versions"]["pgx"] == version("pgx")
    summary = read_json(folder / "summary.json")
    assert summary["seeds_diverged"] == 0
    assert all(-1 <= x <= 1 for x in summary["return_per_seed"])
    assert train.main([*arguments, "--output", str(tmp_path), "--resume"]) == 0
    capsys.readouterr()


def test_a_library_that_is_not_installed_is_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(recipes, "find_spec", lambda name: None)
    for library in ADAPTERS:
        arguments = ["ppo", "--env", f"{library}:x", "--output", str(tmp_path)]
        expected = f"error: {library} is not installed: pip install -e .[{library}].\n"
        assert sentence(refused(capsys, train, arguments)) == expected
    assert list(tmp_path.iterdir()) == []


def test_unknown_libraries_and_names_are_refused(tmp_path, capsys):
    output = ("--output", str(tmp_path))
    message = sentence(refused(capsys, train, ["ppo", "--env", "gym:CartPole-v1", *output]))
    assert (
        "no module 'gym' for gym:CartPole-v1; libraries are brax, craftax, jumanji, pgx" in message
    )
    pytest.importorskip("pgx")
    message = sentence(refused(capsys, train, ["ppo", "--env", "pgx:tictactoe", *output]))
    assert "Pgx has no environment 'tictactoe' (did you mean tic_tac_toe?)" in message
    assert list(tmp_path.iterdir()) == []
