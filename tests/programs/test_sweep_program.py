"""Sweeps from a file: results against plain training, kills and resumptions against an uninterrupted sweep."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import purejaxpg as pg
from experiments import sweep
from experiments.common.algorithms import ALGORITHMS
from experiments.common.defaults import DEFAULTS
from experiments.common.options import options_type
from experiments.common.parts import read_columns
from experiments.common.plan import read_plan, real_options
from experiments.common.scores import as_worst, has_diverged
from tests.programs.tiny import refused

PROGRAM = Path(sweep.__file__)
TINY = """
algorithm = "ppo"
[options]
seeds = 3
seed = 5
num_envs = 4
num_steps = 16
total_steps = 384
num_epochs = 2
num_minibatches = 2
hidden_sizes = [8]
evaluations = 2
eval_episodes = 4
"""
GRID = "[grid]\nlearning_rate = [1e-3, 1e30, 3e-3]\ndiscount = [0.9, 0.99]\n"
UPDATES, RUNS = 6, 18
ROWS = UPDATES + 1  # of a run: one before the first update


def plan_file(folder: Path, text: str, name: str = "tiny.toml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def arguments(folder: Path, *more: str) -> list[str]:
    return [str(folder / "tiny.toml"), "--output", str(folder / "results"), *more]


def table(folder: Path) -> dict[str, np.ndarray]:
    return read_columns(folder / "results" / "tiny")


def assert_same_table(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].dtype == two[name].dtype
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> dict[str, str]:
    return {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }


def start(folder: Path, cache: dict[str, str], *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(PROGRAM), *arguments(folder, *more)],
        env={**os.environ, **cache},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache) -> Path:
    """The folder of an uninterrupted sweep, by a process of its own: 18 runs in chunks of 4."""
    folder = tmp_path_factory.mktemp("finished")
    plan_file(folder, TINY + GRID)
    process = start(folder, cache, "--chunk-size", "4")
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    assert "3 of 3" in out and "0 of 3" in out  # seeds that diverged, of each configuration
    return folder


def test_the_table_has_a_row_per_configuration_seed_and_update(finished):
    columns = table(finished)
    assert {x.shape for x in columns.values()} == {(RUNS * ROWS,)}
    index = np.arange(RUNS * ROWS)
    np.testing.assert_array_equal(columns["configuration"], index // (3 * ROWS))
    np.testing.assert_array_equal(columns["seed"], 5 + index // ROWS % 3)
    np.testing.assert_array_equal(columns["update"], index % ROWS)
    np.testing.assert_array_equal(columns["evaluated"], columns["update"] % 3 == 0)
    np.testing.assert_array_equal(np.isfinite(columns["eval_return"]), columns["evaluated"])
    rates = np.repeat(np.array([1e-3, 1e30, 3e-3], np.float32), 6 * ROWS)
    np.testing.assert_array_equal(columns["learning_rate"].astype(np.float32), rates)
    parts = sorted(p.name for p in (finished / "results" / "tiny" / "parts").iterdir())
    assert parts == [f"000-{start:07d}.npz" for start in range(0, RUNS, 4)]


def test_rows_are_what_plain_training_gives(finished):
    """Configuration 5 (learning rate 3e-3, discount 0.99), seed 6, by itself and by hand."""
    env, env_params = pg.make("CartPole-v1")
    torso = pg.MLP((8,), jax.nn.tanh)
    policy = pg.policy_network(env.action_space(env_params), torso)
    algorithm = pg.ppo(
        env, policy, pg.value_network(torso), pg.adam(3e-3, decay_steps=UPDATES * 4),
        num_envs=4, num_steps=16, num_epochs=2, num_minibatches=2, discount=0.99, gae_lambda=0.8,
        entropy_coef=0.0,
    )  # fmt: skip
    key = jax.random.key(6)
    _, metrics = jax.jit(lambda: pg.train(key, algorithm, env_params, num_updates=UPDATES))()
    columns = table(finished)
    rows = (columns["configuration"] == 5) & (columns["seed"] == 6)
    for name, values in metrics.items():
        first, *found = columns[name][rows]
        assert first == 0 or np.isnan(first)
        np.testing.assert_allclose(found, values, rtol=1e-3, atol=1e-3, err_msg=name)


def test_a_diverged_configuration_is_reported_counted_as_worst_and_kept(finished):
    columns = table(finished)
    broken = np.isin(columns["configuration"], (2, 3))  # learning rate 1e30
    broken &= columns["update"] > 0
    np.testing.assert_array_equal(columns["diverged"], broken)
    summary = json.loads((finished / "results" / "tiny" / "summary.json").read_text())
    assert len(summary) == 6
    assert {row["configuration"] for row in summary[-2:]} == {2, 3}
    worst = columns["eval_return"][columns["evaluated"] & ~broken].min()
    for row in summary:
        diverged = row["configuration"] in (2, 3)
        assert row["seeds_diverged"] == (3 if diverged else 0)
        if diverged:
            assert row["return_iqm"] == row["return_max"] == pytest.approx(worst)


def test_config_states_every_option_and_the_chunk_size(finished):
    content = json.loads((finished / "results" / "tiny" / "config.json").read_text())
    (group,) = content["config"]["groups"]
    assert group["options"]["num_steps"] == 16 and group["options"]["gae_lambda"] == 0.8
    assert content["chunk_sizes"] == [4]
    assert len(group["hyperparameters"]["discount"]) == 6
    assert content["versions"]["jax"] == jax.__version__


# Interrupted sweeps.


def test_a_killed_sweep_goes_on_bitwise(finished, cache, tmp_path):
    kill_and_resume(plan_file(tmp_path, TINY + GRID).parent, cache, kills=1)
    assert_same_table(table(tmp_path), table(finished))


@pytest.mark.slow
def test_a_sweep_killed_ten_times_goes_on_bitwise(cache, tmp_path):
    text = TINY.replace("seeds = 3", "seeds = 40") + GRID
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        plan_file(folder, text)
    process = start(whole, cache, "--chunk-size", "4")
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    kill_and_resume(killed, cache, kills=10)
    assert_same_table(table(killed), table(whole))


def kill_and_resume(folder: Path, cache: dict[str, str], kills: int) -> None:
    """Kill the sweep so many times, each a random moment after it has begun to write; then to the end."""
    config, parts = (folder / "results" / "tiny" / name for name in ("config.json", "parts"))
    moments = random.Random(0)
    for _ in range(kills):
        before = written(parts)
        more = ("--resume",) if config.exists() else ("--chunk-size", "4")
        process = start(folder, cache, *more)
        deadline = time.monotonic() + 120
        while len(written(parts)) == len(before) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL  # it was not finished yet
        after = written(parts)
        assert before.items() < after.items()  # what was written stays as it is
    process = start(folder, cache, "--resume")
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    assert after.items() < written(parts).items()


def written(parts: Path) -> dict[Path, int]:
    """Finished files and when they were made."""
    return {path: path.stat().st_mtime_ns for path in parts.glob("[0-9]*.npz")}


def test_a_resumed_sweep_computes_what_is_missing(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    parts = tmp_path / "results" / "tiny" / "parts"
    (parts / "000-0000008.npz").unlink()
    (parts / ".tmp-000-0000008.npz").write_bytes(b"half")  # what a kill may leave
    assert len(table(tmp_path)["seed"]) == 14 * ROWS  # the half of a file is not read
    assert sweep.main(arguments(tmp_path, "--resume")) == 0
    one, two = table(tmp_path), table(finished)
    # The processes of these tests and this one compile with other options: not bit by bit.
    np.testing.assert_allclose(one["value_loss"], two["value_loss"], rtol=1e-3)
    assert not (parts / ".tmp-000-0000008.npz").exists()


def test_what_does_not_fit_the_folder_is_refused(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = table(tmp_path)
    for more, words in [
        ((), "go on with --resume"),
        (("--resume", "--num-epochs", "3"), "other options"),
        (("--resume", "--chunk-size", "5"), "chunks of [4]"),
        (("--resume", "--overwrite"), "choose one"),
        (("--chunk-size", "0", "--name", "other"), "--chunk-size must be at least 1"),
    ]:
        assert words in refused(capsys, sweep, arguments(tmp_path, *more))
    assert_same_table(table(tmp_path), before)


# Plans.


def read(folder: Path, text: str, *more: str):
    return read_plan(plan_file(folder, text), sweep.SweepOptions(), list(more))[0]


def test_every_combination_of_static_options_is_a_group(tmp_path):
    text = TINY + "[static]\nhidden_sizes = [[8], [4, 4]]\nnormalize_advantages = [true, false]\n"
    text += "[[list]]\nclip_eps = 0.1\n[[list]]\nclip_eps = 0.3\n"
    text += "[random]\nconfigurations = 3\nlearning_rate = {log_uniform = [1e-4, 1e-2]}\n"
    plan = read(tmp_path, text, "--seeds", "2")
    assert len(plan.groups) == 4 and len(plan.configurations) == 4 * 2 * 3
    assert [group.first for group in plan.groups] == [0, 6, 12, 18]
    assert [group.run.options.hidden_sizes for group in plan.groups] == [(8,)] * 2 + [(4, 4)] * 2
    flags = [group.run.options.normalize_advantages for group in plan.groups]
    assert flags == [True, False] * 2
    rates = np.array([row["learning_rate"] for row in plan.configurations])
    rates = rates.reshape(4, 3, 2)  # the list changes faster than the draws
    assert (rates == rates[:1, :, :1]).all() and len(set(rates.ravel())) == 3
    assert ((rates >= 1e-4) & (rates < 1e-2)).all()
    assert plan.groups[0].run.options.seeds == 2


def test_groups_are_swept_one_after_the_other(tmp_path):
    text = TINY.replace("seeds = 3", "seeds = 2") + "[static]\nnum_steps = [16, 32]\n"
    plan_file(tmp_path, text)
    assert sweep.main(arguments(tmp_path)) == 0
    columns = table(tmp_path)
    np.testing.assert_array_equal(columns["configuration"], [0] * 14 + [1] * 8)
    np.testing.assert_array_equal(columns["num_steps"], [16] * 14 + [32] * 8)
    np.testing.assert_array_equal(columns["env_steps"][-8:], [0, 128, 256, 384] * 2)
    at = columns["update"][columns["evaluated"]].reshape(
        -1, 3
    )  # as often as told, and before the first
    np.testing.assert_array_equal(at, [[0, 3, 6]] * 2 + [[0, 2, 3]] * 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("algorithm = ", "no TOML file"),
        ("", "needs an algorithm"),
        (TINY + "[gird]\n", "has gird; known are"),
        (TINY + "[grid]\nnum_envs = [1]\n", "num_envs cannot be traced"),
        (TINY + "[grid]\nlearning_rat = [1]\n", "learning_rat cannot be traced"),
        (TINY + "[grid]\nlearning_rate = ['x']\n", "learning_rate needs finite numbers"),
        (TINY + "[grid]\nlearning_rate = [0.1, -0.1]\n", "--learning-rate must be at least 0"),
        (TINY + "[grid]\nlearning_rate = [1e39]\n", "learning_rate needs finite numbers"),
        (TINY + "[grid]\ndiscount = [1.5]\n", "--discount must be between 0 and 1"),
        (TINY + "[[list]]\nclip_eps = 1\n[grid]\nclip_eps = [1]\n", "Given twice: clip_eps"),
        (TINY + "[grid]\nlearning_rate = 'x'\nclip_eps = 1\n", "learning_rate needs finite"),
        (TINY + "[[list]]\n[list.learning_rate]\nx = 1\n", "learning_rate needs finite"),
        (TINY + "[random]\nconfigurations = 2\nclip_eps = 3\n", "cannot be read"),
        (TINY + "[random]\nclip_eps = {uniform = [0, 1]}\n", "configurations"),
        (TINY + "[random]\nconfigurations = 2\nclip_eps = {normal = [0, 1]}\n", "one of uniform"),
        (TINY + "[static]\nnum_envs = 3\n", "needs a list"),
        (TINY + "[static]\nseeds = [3, 4]\n", "seeds cannot be in [static]"),
        (TINY + "[static]\nnum_minibatches = [2, 7]\n", "num_minibatches=7"),
        (
            TINY.replace("evaluations = 2", "evaluations = 7"),
            "at most the 6 updates of a run, not 7",
        ),
        (TINY + "[grid]\n", "[grid] or [[list]]"),
        (TINY + "[list]\nclip_eps = 0.1\n", "[[list]]"),
        (TINY + "[[grid]]\nclip_eps = [0.1]\n", "[grid]"),
        (TINY.replace("seeds = 3", "overwrite = true"), "overwrite belong on the command line"),
        (TINY.replace("seeds = 3", "clip_eps = 0.1") + "[grid]\nclip_eps = [1]\n", "give it once"),
        (TINY + "[grid]\nclip_eps = [1]\n[static]\nclip_eps = [0.1]\n", "give it once"),
        (TINY + "[random]\nconfigurations = 2\nclip_eps = {choice = [[1, 2]]}\n", "choice needs"),
        (TINY.replace("seeds = 3", "warmup_steps = 3"), "--warmup-steps is for"),
        (
            TINY.replace("seeds = 3", "seeds = 3000000") + "[grid]\nclip_eps = [1, 2, 3, 4]\n",
            "runs are",
        ),
        (TINY.replace("seeds = 3", "seeds = 0"), "--seeds must be at least 1"),
        (TINY.replace("seeds = 3", "seds = 3"), "--seds"),
        (TINY.replace("seeds = 3", "seeds = 1.5"), "--seeds"),
    ],
)
def test_senseless_plans_are_refused_in_a_sentence(text, words, tmp_path, capsys):
    plan_file(tmp_path, text)
    assert words in refused(capsys, sweep, arguments(tmp_path))
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_real_option_may_be_traced(name, tmp_path):
    """One update with all of them as tracers at once; Python's `if` on one of them would raise."""
    real = sorted(real_options(options_type(name, {})))
    assert "learning_rate" in real or "value_learning_rate" in real
    assert {"discount", "entropy_coef"} < set(real)
    sizes = "num_envs = 2\nnum_steps = 8\ntotal_steps = 32\nhidden_sizes = [4]\n"
    if "num_minibatches" in DEFAULTS[name]["CartPole-v1"]:
        sizes += "num_minibatches = 1\n"
    values = "".join(f"{option} = [0.5]\n" for option in real)
    (group,) = read(tmp_path, f'algorithm = "{name}"\n[options]\n{sizes}[grid]\n{values}').groups
    table = {option: x[0] for option, x in group.table.items()}
    metrics, returns = jax.eval_shape(sweep.program(group.run), jax.random.key(0), table)
    assert metrics["env_steps"].shape == returns.shape == (3,) and returns.dtype == np.float32


def test_files_in_the_project_are_plans():
    files = sorted((PROGRAM.parent / "sweeps").glob("*.toml"))
    assert files
    for file in files:
        read_plan(file, sweep.SweepOptions(), [])


# What counts as diverged.


def of_loss(loss, returns, count):
    return {
        "value_loss": np.array([loss], np.float32),
        "episode_return_sum": np.array([returns], np.float32) * np.array([count]),
        "episode_count": np.array([count], np.int32),
    }


@pytest.mark.parametrize(
    ("loss", "returns", "count", "expected"),
    [
        ([1, np.nan, 1], [9, 9, 9], [1, 1, 1], [False, True, True]),
        ([1, np.inf, 1], [9, 9, 9], [1, 1, 1], [False, True, True]),
        ([1e9, 1e4, 2e7], [0, -100, 1], [0, 2, 1], [False, False, True]),  # nothing known at first
        ([999, 1001, 1], [0.1, 0.1, 9], [1, 1, 1], [False, True, True]),  # small returns count as 1
        ([1e6, 1e6, 1e6], [-200, 1, 0], [3, 3, 0], [False, False, False]),
    ],
)
def test_diverged_is_not_finite_or_a_value_loss_beyond_all_returns(loss, returns, count, expected):
    np.testing.assert_array_equal(has_diverged(of_loss(loss, returns, count)), [expected])


def test_diverged_runs_are_worth_the_worst():
    returns = np.array([[5.0, 7.0], [1.0, 9.0], [np.nan, 8.0]])
    diverged = np.array([[False, False], [True, True], [True, False]])
    np.testing.assert_array_equal(as_worst(returns, diverged), [[5, 7], [5, 5], [5, 8]])
    np.testing.assert_array_equal(as_worst(returns[1:2], diverged[1:2]), [[1, 1]])
    np.testing.assert_array_equal(as_worst(np.array([np.nan]), np.array([True])), [0])
