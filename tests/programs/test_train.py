"""The command-line programs, run as a user runs them: most in this process, some in one of their own."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
from pathlib import Path

import gymnax
import jax
import numpy as np
import pytest
import scipy.stats
from matplotlib.image import imread

from experiments import evaluate, train
from experiments.common import hostloop, results
from experiments.common.algorithms import ALGORITHMS
from experiments.common.defaults import DEFAULTS, ENVIRONMENTS, defaults
from experiments.common.options import RunOptions, fill, options_type
from experiments.common.recipes import ADAPTERS
from experiments.common.results import read_arrays, read_config, restore_state
from experiments.common.runs import make_run, run_from_config
from purejaxpg.reporting import statistics
from purejaxpg.training import checkpoint
from tests.environments.test_every_environment import OFFLINE
from tests.programs.tiny import (
    TINY,
    UPDATES,
    assert_same_results,
    command,
    contents,
    refused,
    sentence,
)

EXPERIMENTS = Path(train.__file__).parent

# A whole run.


def test_a_run_writes_its_folder(finished):
    names = {path.name for path in finished.iterdir()}
    files = {"config.json", "metrics.npz", "evaluations.npz", "summary.json", "learning_curve.png"}
    assert names == files | {"checkpoints", ".lock"}
    assert [path.name for path in (finished / "checkpoints").iterdir()] == [f"{UPDATES:09d}"]
    assert (finished / "learning_curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert imread(finished / "learning_curve.png").shape[:2] == (600, 900)


def test_config_records_every_option_and_version(finished):
    content = json.loads((finished / "config.json").read_text())
    options = [field.name for field in dataclasses.fields(options_type("ppo", {}))]
    assert set(content["config"]) == {"algorithm", *options}
    assert content["config"]["hidden_sizes"] == [8]
    assert content["config"]["discount"] == DEFAULTS["ppo"]["CartPole-v1"]["discount"]
    assert content["versions"]["jax"] == jax.__version__
    assert {"python", "jaxlib", "flax", "optax", "gymnax", "devices"} <= set(content["versions"])


def test_shapes_of_metrics_and_evaluations(finished):
    metrics = read_arrays(finished / "metrics.npz")
    assert metrics.pop("seconds") > 0
    assert {x.shape for x in metrics.values()} == {(3, UPDATES)}
    np.testing.assert_array_equal(metrics["env_steps"][0], 64 * np.arange(1, UPDATES + 1))
    evaluations = read_arrays(finished / "evaluations.npz")
    np.testing.assert_array_equal(evaluations["update"], [[0, 4, 8, 12]])
    assert evaluations["returns"].shape == evaluations["lengths"].shape == (3, 4, 4)
    assert evaluations["completed"].all()


def test_compiled_programs_are_cached_where_told(finished, cache):
    assert {"test", "program"} <= {
        path.name.split("-")[0].removeprefix("jit_") for path in cache.iterdir()
    }


def test_summary_is_of_the_last_evaluation(finished):
    summary = json.loads((finished / "summary.json").read_text())
    final = read_arrays(finished / "evaluations.npz")["returns"][:, -1].mean(axis=1)
    np.testing.assert_allclose(summary["return_per_seed"], final, rtol=1e-6)
    assert summary["seeds"] == 3 and summary["seeds_diverged"] == 0
    assert summary["env_steps_per_seed"] == 768
    low, high = summary["return_iqm_95"]
    assert low <= summary["return_iqm"] <= high
    first = read_arrays(finished / "evaluations.npz")["returns"][:, 0].mean(axis=1)
    np.testing.assert_allclose(summary["return_iqm_untrained"], statistics.iqm(first), rtol=1e-6)
    assert summary["return_iqm_untrained"] != summary["return_iqm"]


def test_chunks_sum_to_the_updates(finished):
    run = run_from_config(read_config(finished)["config"])
    for updates in (1, 2, 49, 50, 97, 1000, 1001, 12_207):
        options = dataclasses.replace(run.options, total_steps=64 * updates + 63)
        chunks = dataclasses.replace(run, options=options).chunks()
        assert sum(chunks) == updates and min(chunks) >= 1
        assert len(set(chunks)) <= 2 and len(chunks) <= 100


# Folders of results.


def test_an_existing_folder_is_refused(copied, capsys):
    before = contents(copied)
    message = sentence(refused(capsys, train, command(*TINY, output=copied.parent)))
    assert "--resume" in message and "--overwrite" in message
    assert contents(copied) == before


def test_overwrite_empties_a_folder_of_results(copied):
    (copied / "metrics.npz").write_bytes(b"old")
    _, folder, restored, _ = train.prepare(command(*TINY, "--overwrite", output=copied.parent))
    assert folder == copied and restored is None
    results.release()
    assert {path.name for path in copied.iterdir()} == {"config.json", ".lock"}


@pytest.mark.parametrize("config", [None, "{}", '{"config": {}}', "[", '["config", "chunks"]'])
def test_overwrite_leaves_other_folders_alone(config, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "precious.txt").write_text("a thesis")
    if config is not None:
        (folder / "config.json").write_text(config)
    before = contents(folder)
    sentence(refused(capsys, train, command(*TINY, "--overwrite", output=tmp_path)))
    assert contents(folder) == before


def test_output_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    message = refused(capsys, train, command(*TINY, output=tmp_path / "file"))
    assert message.startswith("error: ") and message.count("\n") == 1


# Stopping and going on.


def test_interrupted_run_goes_on_bitwise(finished, tmp_path, monkeypatch, capsys):
    handler = signal.getsignal(signal.SIGINT)  # ignored in the background of a shell
    seen = []

    def interrupt(progress, run, length, history):
        seen.append(length)
        if sum(seen) == 5:  # Ctrl-C
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(hostloop, "_show", interrupt)
        assert train.main(command(*TINY, output=tmp_path)) == 130
    assert "Stopped after 6 of 12 updates; go on with --resume." in capsys.readouterr().out
    folder = tmp_path / "run"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["000000006"]
    assert read_arrays(folder / "metrics.npz")["env_steps"].shape == (3, 6)
    assert not (folder / "summary.json").exists()
    # No other option is needed: those that the run was begun with hold.
    assert train.main(command("--resume", output=tmp_path)) == 0
    assert_same_results(folder, finished)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"ppo"}))
def test_every_algorithm_runs_and_goes_on_bitwise(name, cache, tmp_path, monkeypatch):
    arguments = [
        *(name, "--output", str(tmp_path), "--seeds", "2", "--total-steps", "256"),
        *("--num-envs", "4", "--num-steps", "16", "--hidden-sizes", "8", "--eval-episodes", "4"),
        *("--evaluations", "2", "--env-params", "max_steps_in_episode", "10"),
    ]
    assert train.main([*arguments, "--name", "whole"]) == 0
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["env_steps_per_seed"] == 256 and summary["seeds_diverged"] == 0
    with monkeypatch.context() as patch:
        patch.setattr(hostloop, "_show", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        assert train.main([*arguments, "--name", "parts"]) == 130
    assert train.main([name, "--output", str(tmp_path), "--name", "parts", "--resume"]) == 0
    assert_same_results(tmp_path / "parts", tmp_path / "whole")
    assert evaluate.main([str(tmp_path / "parts"), "--episodes", "2", "--seed", "1"]) == 0


def test_second_interrupt_stops_at_once(tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(hostloop, "train", interrupt)  # while the first chunk is being traced
    monkeypatch.setattr(hostloop, "evaluate", lambda *_, **__: evaluate.Episodes(*np.zeros((4, 4))))
    unlike_others = ("--discount", "0.986")  # what a test before has compiled is not traced again
    assert train.main(command(*TINY, *unlike_others, output=tmp_path)) == 130
    assert "--resume" in capsys.readouterr().err


KILLED = """
import os, signal, sys
from experiments import train
from experiments.common import hostloop

save_state = hostloop.save_state

def die_at_the_second(folder, state, update):
    if update == 8:  # the metrics are written already, the checkpoint is not
        os.kill(os.getpid(), signal.SIGKILL)
    save_state(folder, state, update)

hostloop.save_state = die_at_the_second
sys.exit(train.main(sys.argv[1:]))
"""


def test_killed_run_goes_on_bitwise_in_other_processes(finished, cache, tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(EXPERIMENTS.parent),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }

    def python(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )

    killed = python("-c", KILLED, "ppo", *TINY)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tmp_path / "results" / "ppo-CartPole-v1"  # relative to where the program runs
    assert [p.name for p in (folder / "checkpoints").iterdir() if p.name.isdigit()] == ["000000004"]
    assert read_arrays(folder / "metrics.npz")["env_steps"].shape == (3, 8)  # later than it

    resumed = python(str(EXPERIMENTS / "train.py"), "ppo", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "final return, IQM" in resumed.stdout and "seeds (diverged)" in resumed.stdout
    assert "Warning" not in resumed.stderr
    assert_same_results(folder, finished)


def test_resume_of_a_finished_run_reports_again(copied, capsys):
    (copied / "summary.json").unlink()
    before = contents(copied)
    assert train.main(command("--resume", output=copied.parent)) == 0
    out = capsys.readouterr().out
    for text in (
        "seeds (diverged)                3 (0)",
        "IQM",
        "95% bootstrap interval",
        str(copied),
    ):
        assert text in out
    after = contents(copied)
    assert json.loads(after.pop("summary.json"))["env_steps_per_seed"] == 768
    after.pop("learning_curve.png"), before.pop("learning_curve.png")
    assert after == before


def test_resume_refuses_changed_options_by_name(copied, capsys):
    changes = ("--learning-rate", "0.1", "--env-params", "length", "0.7")
    message = sentence(refused(capsys, train, command("--resume", *changes, output=copied.parent)))
    assert "other values of env_params, learning_rate;" in message


def test_resume_repeats_and_keeps_options_that_are_dicts(tmp_path):
    given = ("--env-params", "length", "0.7")
    first, *_ = train.prepare(command(*TINY, *given, output=tmp_path))
    for again in ((), given):
        run, *_ = train.parse(command("--resume", *again, output=tmp_path))
        assert run.config() == first.config()
        assert run.env_params.length == 0.7


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda folder: shutil.rmtree(folder / "checkpoints"), "holds metrics but no checkpoint"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
        (lambda folder: (folder / "config.json").write_text("{}"), "is no configuration"),
        (
            lambda folder: (folder / "metrics.npz").write_bytes(b"PK\x03\x04"),
            "metrics.npz is damaged",
        ),
        (lambda folder: (folder / "evaluations.npz").unlink(), "There is no"),
    ],
)
def test_resume_of_a_damaged_folder_says_what_is_wrong(damage, words, copied, capsys):
    damage(copied)
    message = refused(capsys, train, command("--resume", output=copied.parent))
    assert message.startswith("error: ") and message.count("\n") == 1 and words in message


@pytest.mark.parametrize("name", ["_METADATA", "_CHECKPOINT_METADATA"])
def test_resume_from_a_damaged_checkpoint_says_so(name, copied, capsys):
    # Not its data files: there orbax's threads complain on their own as well, at any later time.
    path = copied / "checkpoints" / f"{UPDATES:09d}" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = refused(capsys, train, command("--resume", output=copied.parent))
    assert message.startswith("error: ") and message.count("\n") == 1


def test_resume_and_overwrite_exclude_each_other(copied, capsys):
    before = contents(copied)
    arguments = command("--resume", "--overwrite", output=copied.parent)
    assert "choose one" in sentence(refused(capsys, train, arguments))
    assert contents(copied) == before


# Bad input.


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("--env CartPole", "did you mean CartPole-v1"),
        ("--num-envs 3 --num-minibatches 7", "num_minibatches=7"),
        ("--seeds 0", "--seeds must be at least 1, not 0"),
        ("--seed -1", "--seed must be at least 0"),
        ("--seed 2147483647", "--seed must be less than 2^31"),
        ("--learning-rate -0.1", "--learning-rate must be at least 0"),
        ("--learning-rate nan", "--learning-rate must be at least 0 and finite, not nan"),
        ("--learning-rate inf", "--learning-rate must be at least 0 and finite, not inf"),
        ("--entropy-coef nan", "--entropy-coef must be at least 0"),
        ("--discount 1.5", "--discount must be between 0 and 1, not 1.5"),
        ("--gae-lambda -0.5", "--gae-lambda"),
        ("--total-steps 255", "--total-steps must be at least 256"),
        ("--hidden-sizes 64 0", "--hidden-sizes must be at least 1, not 0"),
        ("--env-params lenght 0.7", "did you mean length"),
        ("--env-kwargs size 8", "env_kwargs of CartPole-v1"),
        ("--env DeepSea-bsuite --env-kwargs sise 8", "env_kwargs of DeepSea-bsuite"),
        ("--env DeepSea-bsuite --env-kwargs size 0", "cannot be built with {'size': 0}"),
        ("--network cnn", "CNN needs observations"),
        ("--actions tanh", "needs continuous actions"),
        ("--actions rescale", "needs continuous actions"),
    ],
)
def test_senseless_options_are_refused_in_a_sentence(arguments, words, tmp_path, capsys):
    message = refused(capsys, train, command(*arguments.split(), output=tmp_path))
    assert words in sentence(message)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("--lerning-rate 0.1", "--learning-rate"),
        ("--seeds 1.5", "--seeds"),
        ("--num-steps many", "--num-steps"),
        ("--env-params length", "--env-params"),
        ("--env-params length long", "--env-params"),
        ("--network rnn", "mlp"),
        ("--env", "--env"),
    ],
)
def test_options_that_cannot_be_read_are_refused(arguments, words, tmp_path, capsys):
    message = refused(capsys, train, [*command(output=tmp_path), *arguments.split()])
    assert words in message
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["dqn"], ["--env", "CartPole-v1"]])
def test_an_algorithm_is_asked_for(arguments, capsys):
    message = sentence(refused(capsys, train, arguments))
    assert "must be an algorithm (ppo" in message


def test_an_environment_that_cannot_download_is_refused(tmp_path, capsys, monkeypatch):
    def no_network(*_):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("gymnax.utils.load_mnist.load_mnist", no_network)
    arguments = command("--env", "MNISTBandit-bsuite", output=tmp_path)
    assert "needs a network connection" in sentence(refused(capsys, train, arguments))


# Divergence.


def test_diverged_seeds_are_counted_as_worst(tmp_path, capsys):
    assert train.main(command(*TINY, "--learning-rate", "1e30", output=tmp_path)) == 0
    assert "seeds (diverged)                3 (3)" in capsys.readouterr().out
    folder = tmp_path / "run"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["seeds_diverged"] == 3
    # CartPole's returns are finite even when the policy is not: before training they are sound.
    returns = read_arrays(folder / "evaluations.npz")["returns"].astype(np.float64).mean(axis=-1)
    assert summary["return_per_seed"] == [returns[:, 0].min()] * 3
    assert imread(folder / "learning_curve.png").shape[:2] == (600, 900)


def test_one_diverged_seed_is_worst_and_the_others_stay(copied):
    run = run_from_config(read_config(copied)["config"])
    metrics = read_arrays(copied / "metrics.npz")
    metrics.pop("seconds")
    metrics["value_loss"][1, 6] = np.nan  # after the second evaluation, before the third
    evaluations = read_arrays(copied / "evaluations.npz")
    returns = np.array([[9, 20, 30, 40], [10, 21, 31, 500], [11, 22, 32, 42]])
    evaluations["returns"] = np.repeat(returns[..., None], 4, axis=-1).astype(np.float32)
    train.report(run, copied, hostloop.Outcome(True, UPDATES, metrics, evaluations, 1.0))
    summary = json.loads((copied / "summary.json").read_text())
    assert summary["seeds_diverged"] == 1
    assert summary["return_per_seed"] == [40, 9, 42]


# Evaluating.


def rows(out: str) -> dict[str, list[float]]:
    lines = [line.split() for line in out.splitlines()[2:] if not line.startswith("IQM")]
    return {first: [float(x) for x in others] for first, *others in lines}


def test_evaluate_prints_every_seed_and_takes_one_out(finished, tmp_path, capsys):
    output = tmp_path / "evaluation.json"
    command = [str(finished), "--episodes", "6"]
    assert evaluate.main([*command, "--output", str(output)]) == 0
    *lines, iqm, where = capsys.readouterr().out.splitlines()
    every = rows("\n".join(lines))
    written = json.loads(output.read_text())
    np.testing.assert_allclose(written["return_per_seed"], [every[s][0] for s in "567"], atol=0.01)
    middle = scipy.stats.trim_mean(written["return_per_seed"], 0.25)  # of three: all of them
    assert f"mean returns {middle:.2f}, 95%" in iqm and str(output) in where
    before = output.read_bytes()
    assert "exists" in sentence(refused(capsys, evaluate, [*command, "--output", str(output)]))
    assert output.read_bytes() == before
    assert list(every) == ["5", "6", "7", "all"]
    for mean, std, low, high, *lengths in every.values():
        assert low <= mean <= high and std >= 0
        assert lengths == [mean, std, low, high]  # CartPole pays 1 a step
    np.testing.assert_allclose(every["all"][0], np.mean([every[s][0] for s in "567"]), atol=0.01)
    assert evaluate.main([str(finished), "--episodes", "6", "--seed", "6"]) == 0
    assert rows(capsys.readouterr().out) == {"6": every["6"]}


def test_a_seed_without_a_return_counts_as_the_worst(finished, tmp_path, monkeypatch, capsys):
    returns, ones = np.array([[np.nan, 9.0], [12.0, 12.0], [70.0, 70.0]]), np.ones((3, 2))
    broken = evaluate.Episodes(returns, ones, ones > 0, np.isfinite(returns))
    monkeypatch.setattr(evaluate, "distribute", lambda *_, **__: lambda *_: broken)
    output = tmp_path / "new" / "evaluation.json"
    assert evaluate.main([str(finished), "--output", str(output)]) == 0
    # The worst episode of training's evaluations, in which CartPole falls after 8 to 10 steps at the earliest.
    worst = min(9.0, read_arrays(finished / "evaluations.npz")["returns"].min())
    written = json.loads(output.read_text())
    assert written["return_per_seed"] == [(worst + 9.0) / 2, 12, 70]
    assert written["episodes_not_finite"] == 1
    assert f"counts as {worst:.2f}: 1 of 6" in capsys.readouterr().out


def test_saved_policy_needs_nothing_else(copied, tmp_path, capsys):
    flags = ("--episodes", "6", "--deterministic", "--env-params", "max_steps_in_episode", "9")
    saved = tmp_path / "policies" / "one"
    assert evaluate.main([str(copied), *flags, "--seed", "7", "--save", str(saved)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert str(saved) in last and "6 episodes of the deterministic policy" in lines[0]
    assert rows("\n".join(lines))["7"][7] <= 9  # the shifted time limit
    run = run_from_config(read_config(copied)["config"])
    state = restore_state(copied, run.like())
    shutil.rmtree(copied)

    assert {path.name for path in saved.iterdir()} == {"config.json", "policy"}
    assert evaluate.main([str(saved), *flags]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    like = evaluate.without_training(jax.eval_shape(run.initial_state, jax.random.key(0)))
    policy = checkpoint.restore(saved / "policy", like).params.policy
    seventh = jax.tree.map(lambda x: x[2], state).params.policy
    jax.tree.map(np.testing.assert_array_equal, policy, seventh)

    message = sentence(refused(capsys, evaluate, [str(saved), "--seed", "5"]))
    assert "There is no seed 5" in message
    # A policy is no folder of results: it is neither overwritten nor gone on with.
    before = contents(saved)
    for flag in ("--overwrite", "--resume"):
        arguments = command(flag, output=saved.parent, name=saved.name)
        message = refused(capsys, train, arguments)
        assert message.startswith("error: ")
    assert contents(saved) == before


def test_a_normalised_run_goes_on_and_its_statistics_are_saved(
    cache, tmp_path, monkeypatch, capsys
):
    flags = (
        "--normalize-observations",
        "--normalize-rewards",
        "--warmup-steps",
        "4",
        "--seeds",
        "1",
    )
    arguments = command(*TINY, *flags, output=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(hostloop, "_show", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        assert train.main(arguments) == 130
    assert train.main([*arguments, "--resume"]) == 0
    folder, saved = tmp_path / "run", tmp_path / "policy"
    state = restore_state(folder, run_from_config(read_config(folder)["config"]).like())
    assert state.statistics.num_samples == state.inner.statistics.num_samples == 16 * 4 + 768
    capsys.readouterr()
    play = ("--episodes", "6", "--deterministic")
    assert evaluate.main([str(folder), *play, "--save", str(saved)]) == 0
    *lines, _ = capsys.readouterr().out.splitlines()
    shutil.rmtree(folder)
    assert evaluate.main([str(saved), *play]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    stored = evaluate.load(saved).state
    np.testing.assert_array_equal(stored.statistics.mean, state.statistics.mean)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ("RUN --seed 3", "There is no seed 3 here, only 5 to 7"),
        ("RUN --episodes 0", "--episodes must be at least 1"),
        ("RUN --env-params lenght 1", "did you mean length"),
        ("RUN --save elsewhere", "choose it with --seed"),
        ("RUN --seed 5 --save RUN", "exists"),
        ("nowhere", "There is no nowhere/config.json"),
    ],
)
def test_evaluate_refuses_in_a_sentence(arguments, words, finished, capsys):
    before = contents(finished)
    message = refused(capsys, evaluate, arguments.replace("RUN", str(finished)).split())
    assert words in sentence(message)
    assert contents(finished) == before


@pytest.mark.parametrize("content", ["", "{}", '{"config": {"algorithm": "dqn"}}'])
def test_evaluate_refuses_what_holds_no_results(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content)
    sentence(refused(capsys, evaluate, [str(tmp_path)]))


def test_evaluate_refuses_unknown_options(capsys):
    assert "--episode" in refused(capsys, evaluate, ["results", "--episode", "3"])


# Defaults, and the set-up of XLA.


@pytest.mark.parametrize("name", ALGORITHMS)
def test_defaults_are_options_of_registered_environments(name):
    known = {field.name for field in dataclasses.fields(options_type(name, {}))}
    assert "" in DEFAULTS[name]
    for env_id, row in DEFAULTS[name].items():
        assert env_id in ("", *gymnax.registered_envs) or env_id.partition(":")[0] in ADAPTERS
        assert set(row) <= known, (env_id, set(row) - known)


def test_defaults_cover_every_environment():
    assert set(ENVIRONMENTS) == set(gymnax.registered_envs)
    known = {field.name for field in dataclasses.fields(options_type("ppo", {}))}
    assert all(set(row) <= known for row in ENVIRONMENTS.values())
    # What holds for one algorithm alone is nearer than what holds for an environment.
    assert defaults("actor_critic", "Pendulum-v1")["discount"] == 0.95
    assert defaults("reinforce", "Pendulum-v1")["discount"] == 0.9


def assert_defaults_make_a_run(name, env_id):
    """Values are of the right kind, minibatches divide, networks fit."""
    row = defaults(name, env_id)
    run = make_run(name, fill(name, row))  # checks every value against its annotation
    assert run.num_updates >= 10


@pytest.mark.parametrize("name", ALGORITHMS)
def test_defaults_make_runs(name):
    for env_id in DEFAULTS[name]:
        if ":" not in env_id:  # those need extras: test_adapter_programs.py
            assert_defaults_make_a_run(name, env_id or RunOptions.env)


def test_runtime_respects_what_the_user_set():
    user = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    script = (
        "import os, jax; from experiments.common import runtime; runtime.set_up();"
        "cache = jax.config.jax_compilation_cache_dir;"
        "print(jax.device_count(), cache, os.environ['XLA_FLAGS'].count('device'))"
    )
    base = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA"))}
    for cache in ({"XDG_CACHE_HOME": "/xdg"}, {"JAX_COMPILATION_CACHE_DIR": "/mine"}):
        environment = {**base, **user, **cache, "JAX_PLATFORMS": "cpu"}
        environment["PYTHONPATH"] = str(EXPERIMENTS.parent)
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        where = "/mine" if "JAX_COMPILATION_CACHE_DIR" in cache else "/xdg/purejaxpg/xla"
        assert done.stdout.split() == ["3", where, "1"], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("env_id", OFFLINE)
def test_every_environment_through_the_program(env_id, tmp_path):
    words = ["ppo", "--env", env_id, "--seeds", "2", "--num-envs", "2", "--num-steps", "4"]
    words += ["--num-minibatches", "2", "--total-steps", "16", "--evaluations", "1"]
    assert train.main([*words, "--eval-episodes", "2", "--output", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / f"ppo-{env_id}" / "summary.json").read_text())
    assert np.isfinite(summary["return_per_seed"]).all()
