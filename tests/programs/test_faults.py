"""What goes wrong around the programs: signals, full disks, damaged files, other processes, broken worlds."""

import contextlib
import errno
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

from experiments import benchmark, evaluate, render, report, sweep, train
from experiments.common import command_line, hostloop, interrupts, parts, results, runs, runtime
from experiments.common.results import ResultsError, read_arrays, read_config, write_arrays
from experiments.common.runs import run_from_config
from purejaxpg.training import sweep as library_sweep
from tests.programs.test_sweep_program import arguments as sweep_arguments
from tests.programs.test_sweep_program import plan_file
from tests.programs.tiny import (
    TINY,
    assert_same_results,
    command,
    contents,
    refused,
    sentence,
)

SWEEP = """
algorithm = "ppo"
[options]
seeds = 2
num_envs = 4
num_steps = 16
total_steps = 128
num_minibatches = 2
hidden_sizes = [8]
evaluations = 1
eval_episodes = 2
"""
ROOT = Path(train.__file__).parents[1]


SHORT = (*TINY, "--total-steps", "192", "--evaluations", "1")  # three updates


@pytest.fixture(scope="module")
def short(tmp_path_factory, cache) -> Path:
    output = tmp_path_factory.mktemp("short")
    assert train.main(command(*SHORT, output=output)) == 0
    return output / "run"


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_every_signal_stops_in_order_with_a_checkpoint(
    number, finished, tmp_path, monkeypatch, capfd
):
    before = signal.getsignal(number)
    show = hostloop._show

    sent = []

    def once(progress, run, length, history):
        show(progress, run, length, history)
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(hostloop, "_show", once)
        assert train.main(command(*TINY, output=tmp_path)) == 130
    out, err = capfd.readouterr()
    assert "Stopped after 2 of 12 updates" in out and "Stopping after this chunk" in err
    assert signal.getsignal(number) is before
    assert train.main(command("--resume", output=tmp_path)) == 0
    assert_same_results(tmp_path / "run", finished)


def test_a_hangup_that_is_ignored_stays_so(tmp_path):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.interrupted():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("program", [evaluate, render, report, benchmark])
def test_every_other_program_ends_with_a_word(program, monkeypatch, capsys):
    def prepare(arguments):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(program, "prepare", prepare)
    assert program.main([]) == 130
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Interrupted.\n")


@pytest.mark.parametrize("then", ["goes on", "raises"])
def test_an_interrupt_that_python_ignores_is_heard(then, monkeypatch, capsys):
    """As in a callback, or in an import, which turns it into an ImportError."""

    def prepare(arguments):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        if then == "raises":
            raise ImportError("initialization failed")
        return ()

    monkeypatch.setattr(evaluate, "prepare", prepare)
    monkeypatch.setattr(evaluate, "play", lambda: 1 / 0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert evaluate.main([]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "Interrupted.\n"


def test_the_first_second_is_interrupted_in_order(tmp_path):
    """While JAX is still being imported."""
    hear = "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    hear += "del sys.argv[0]; import experiments; print('hears', flush=True); "
    hear += "runpy.run_path(sys.argv[0], run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-c", hear, "experiments/train.py", "ppo", "--output", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout.readline() == "hears\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "Interrupted.\n")
    assert not list(tmp_path.iterdir())


# Going on where nothing, or little, is saved.


@pytest.mark.parametrize("left", ["nothing", "folder", "temporary", "config", "untrained"])
def test_resume_begins_at_the_start_where_nothing_is_saved(left, finished, tmp_path):
    folder = tmp_path / "run"
    if left != "nothing":
        folder.mkdir()
    if left == "temporary":  # of a process that was killed in its first write
        (folder / ".tmp-config.json").write_text("{")
    if left in ("config", "untrained"):
        shutil.copy(finished / "config.json", folder)
    if left == "untrained":  # killed between the files and the first checkpoint
        write_arrays(folder / "metrics.npz", {"seconds": np.array(0.0)})
    options = () if left in ("config", "untrained") else TINY
    run, _, restored, _ = train.prepare(command(*options, "--resume", output=tmp_path))
    results.release()
    assert restored is None and run.config() == read_config(finished)["config"]


def test_a_finished_run_goes_on_in_a_new_stage(copied, capsys):
    more = ("--resume", "--total-steps", "1e3", "--learning-rate", "1e-3")
    assert train.main(command(*more, output=copied.parent)) == 0
    content = read_config(copied)
    assert content["config"]["total_steps"] == 1000 and content["config"]["learning_rate"] == 1e-3
    (stage,) = content["stages"]
    assert stage["updates"] == 12 and stage["config"]["total_steps"] == 768
    metrics, evaluations = (read_arrays(copied / f"{x}.npz") for x in ("metrics", "evaluations"))
    assert metrics["env_steps"].shape == (3, 15)
    assert evaluations["update"][0].tolist() == [0, 4, 8, 12, 13, 14, 15]
    capsys.readouterr()
    for refusal, words in [
        (("--total-steps", "960"), "must be more than the 960"),
        (
            ("--total-steps", "2000", "--hidden-sizes", "4"),
            "other values of total_steps, hidden_sizes",
        ),
        (("--total-steps", "2000", "--seeds", "4"), "other values of"),
    ]:
        message = refused(capsys, train, command("--resume", *refusal, output=copied.parent))
        assert words in message and message.count("\n") == 1


def test_an_unfinished_run_keeps_its_options(copied, capsys):
    config = read_config(copied)
    config["config"]["total_steps"] = 2000
    (copied / "config.json").write_text(json.dumps(config))
    message = refused(
        capsys, train, command("--resume", "--learning-rate", "1", output=copied.parent)
    )
    assert "only a finished run goes on" in sentence(message)


# Two processes in one folder.


def test_a_folder_is_held_by_one_process(copied, capsys):
    script = "import sys; from pathlib import Path; from experiments.common.results import hold\n"
    script += "hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(copied)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert other.stdout.readline() == "held\n"
    before = contents(copied)
    for more in (("--resume",), (*TINY, "--overwrite")):
        message = sentence(refused(capsys, train, command(*more, output=copied.parent)))
        assert "in use by another process" in message
    assert contents(copied) == before
    other.kill()  # the system lets go
    other.communicate()
    assert train.main(command("--resume", output=copied.parent)) == 0


# A full disk.


class FullDisk:
    """Writing fails in the middle of the n-th file, and of every one after it."""

    def __init__(self, monkeypatch, at: int):
        self.writes, self.at = 0, at
        write_whole, save = results.write_whole, results.checkpoint.save

        def half(temporary: Path) -> None:
            temporary.write_bytes(b"half")
            self.fail()

        monkeypatch.setattr(
            results,
            "write_whole",
            lambda path, write: write_whole(path, half if self.is_full() else write),
        )
        monkeypatch.setattr(
            results.checkpoint,
            "save",
            lambda path, state: self.fail() if self.is_full() else save(path, state),
        )

    def is_full(self) -> bool:
        self.writes += 1
        return self.writes > self.at

    def fail(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def fill_the_disk(at, short, tmp_path, monkeypatch, capsys):
    """At every write: the configuration; twice metrics, evaluations and a checkpoint; then the summary."""
    with monkeypatch.context() as patch:
        disk = FullDisk(patch, at)
        code = train.main(command(*SHORT, output=tmp_path))
    err = capsys.readouterr().err
    folder = tmp_path / "run"
    assert disk.writes == at + 1
    assert code == (2 if at == 0 else 1) and "No space left" in err and "Traceback" not in err
    assert not [path for path in folder.rglob("*") if path.name.startswith(".tmp-")]
    again = command(*(SHORT if at == 0 else ()), "--resume", output=tmp_path)
    assert train.main(again) == 0
    assert_same_results(folder, short)


@pytest.mark.parametrize("at", (0, 3, 5))
def test_a_disk_that_fills_loses_nothing_that_was_saved(at, short, tmp_path, monkeypatch, capsys):
    fill_the_disk(at, short, tmp_path, monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("at", (1, 2, 4, 6, 7))
def test_a_disk_that_fills_at_any_write(at, short, tmp_path, monkeypatch, capsys):
    fill_the_disk(at, short, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("how", ["SIGTERM", "a full disk"])
def test_a_sweep_that_is_stopped_goes_on_to_the_same_table(how, tmp_path, monkeypatch, capsys):
    """After its first part."""
    plan_file(tmp_path, SWEEP + "[grid]\nlearning_rate = [1e-3, 1e-2]\n")
    whole, stopped = (("--chunk-size", "2", "--name", name) for name in ("whole", "stopped"))
    assert sweep.main(sweep_arguments(tmp_path, *whole)) == 0
    write = sweep.write_results
    with monkeypatch.context() as patch:
        if how == "SIGTERM":

            def write_and_stop(*arguments):
                write(*arguments)
                os.kill(os.getpid(), signal.SIGTERM)

            patch.setattr(sweep, "write_results", write_and_stop)
        else:
            FullDisk(patch, 2)  # the configuration, and one part
        assert sweep.main(sweep_arguments(tmp_path, *stopped)) == (130 if how == "SIGTERM" else 1)
    assert "--resume goes on" in capsys.readouterr().err
    folders = [tmp_path / "results" / name for name in ("whole", "stopped")]
    assert len(list((folders[1] / "parts").glob("[0-9]*"))) == 1
    assert sweep.main(sweep_arguments(tmp_path, *stopped, "--resume")) == 0
    one, two = (parts.read_columns(folder) for folder in folders)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


# Damaged files.


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def test_damaged_arrays_are_one_sentence_or_nothing_is_wrong(finished, tmp_path):
    """500 changed bytes, and files that are cut off."""
    content = (finished / "evaluations.npz").read_bytes()
    whole = read_arrays(finished / "evaluations.npz")
    places = random.Random(0).choices(range(len(content)), k=500)
    damaged = [flipped(content, at) for at in places] + [content[:n] for n in places[:50]]
    path, found = tmp_path / "damaged.npz", 0
    for bytes_ in damaged:
        path.write_bytes(bytes_)
        try:
            arrays = read_arrays(path)
        except ResultsError as error:
            found += 1
            assert str(path) in str(error) and "\n" not in str(error)
        else:  # a byte that says nothing of the arrays
            assert not arrays.keys() ^ whole.keys() or set(arrays) != set(whole)
            for name in arrays.keys() & whole.keys():
                np.testing.assert_array_equal(arrays[name], whole[name])
    assert found > 300


def test_a_damaged_part_is_computed_again(tmp_path, capsys):
    plan_file(tmp_path, SWEEP + "[grid]\nlearning_rate = [1e-3, 1e-2]\n")
    assert sweep.main(sweep_arguments(tmp_path, "--chunk-size", "2")) == 0
    folder = tmp_path / "results" / "tiny" / "parts"
    first, second = sorted(folder.glob("[0-9]*"))
    before = parts.read_columns(folder.parent)
    first.write_bytes(first.read_bytes()[:-40])
    second.write_bytes(flipped(second.read_bytes(), second.stat().st_size // 2))
    assert sweep.main(sweep_arguments(tmp_path, "--resume")) == 0
    after = parts.read_columns(folder.parent)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert sorted(x.name for x in folder.glob("damaged-*")) == [
        f"damaged-{first.name}",
        f"damaged-{second.name}",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_sizes": [4]}, "is needed"),
        ({"num_envs": 8}, "is needed"),
        ({"seeds": 2}, "is needed"),
        ({"env": "Acrobot-v1"}, "is needed"),
        ({"algorithm": "trpo"}, "no such option|is needed|is nothing there|there, and nothing"),
        ({"total_steps": 64}, "more updates than its config.json says"),
        ({"memory": "gru"}, "is needed"),
    ],
)
def test_a_configuration_that_does_not_fit_the_checkpoint_is_refused(
    changes, words, copied, capsys
):
    content = read_config(copied)
    content["config"] |= changes
    (copied / "config.json").write_text(json.dumps(content))
    message = sentence(refused(capsys, evaluate, [str(copied)]))
    assert any(word in message for word in words.split("|"))


def test_older_checkpoints_stay_until_the_new_one_can_be_read(tmp_path, monkeypatch):
    def damaged(path, like):
        raise ValueError(f"{path} is damaged.")

    state = {"a": np.arange(3, dtype=np.int32)}
    results.save_state(tmp_path, state, 1)
    monkeypatch.setattr(results.checkpoint, "restore", damaged)
    with pytest.raises(ValueError, match="damaged"):
        results.save_state(tmp_path, state, 2)
    assert (tmp_path / "checkpoints" / "000000001").is_dir()


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "sweep"},
        {"kind": ["run"]},
        {"kind": "policy", "policy_of_seed": "5"},
        {"kind": "policy", "policy_of_seed": 5, "training": {"update": None}},
        {"stages": [{}]},
        {"stages": 3},
    ],
)
def test_a_configuration_made_by_hand_is_refused(changed, copied, capsys):
    content = read_config(copied) | changed
    (copied / "config.json").write_text(json.dumps(content))
    for program, words in [
        (evaluate, [str(copied)]),
        (train, command("--resume", output=copied.parent)),
    ]:
        assert "is no configuration of these programs" in sentence(refused(capsys, program, words))


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("metrics", "seconds", None),
        ("metrics", "env_steps", np.zeros((3, 1))),
        ("metrics", "value_loss", np.array(1.0)),
        ("evaluations", "update", None),
        ("evaluations", "update", [[0, 99, 8, 12]]),
        ("evaluations", "returns", np.zeros((3, 1, 4))),
        ("evaluations", "returns", [[["x"]]]),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(file, name, value, copied, capsys):
    arrays = read_arrays(copied / f"{file}.npz")
    del arrays[name]
    if value is not None:
        arrays[name] = np.asarray(value)
    write_arrays(copied / f"{file}.npz", arrays)
    for program, words in [
        (evaluate, [str(copied)]),
        (train, command("--resume", output=copied.parent)),
    ]:
        assert "do not fit together" in sentence(refused(capsys, program, words))


# Files of a user.


def test_nothing_of_a_user_is_overwritten(finished, tmp_path, capsys):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "profiles.png").write_text("a figure")
    file = tmp_path / "figures.json"
    file.write_text("numbers")
    before = contents(tmp_path)
    for program, words in [
        (report, [str(finished), "--output", str(mine)]),
        (report, [str(finished), "--output", str(file)]),
        (benchmark, ["ppo", *TINY[:4], "--output", str(file)]),
        (evaluate, [str(finished), "--output", str(file)]),
        (evaluate, [str(finished), "--seed", "5", "--save", str(mine)]),
        (render, [str(finished), "--output", str(file)]),
    ]:
        sentence(refused(capsys, program, words))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["..", "../thesis", "a/../../b", ".", "/elsewhere"])
def test_a_name_is_that_of_a_folder_below_the_output(name, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    message = refused(capsys, train, command(*TINY, output=tmp_path / "out", name=name))
    assert "--name must be that of a folder below --output" in sentence(message)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\udcff"])
def test_an_error_is_one_line_whatever_is_in_it(name, tmp_path, capsys):
    """And is printed whatever the terminal knows."""
    message = sentence(refused(capsys, evaluate, [str(tmp_path / name)]))
    assert repr(name)[1:-1] in message


def test_a_word_that_is_missing_is_said_in_a_sentence(tmp_path, capsys):
    message = refused(capsys, train, ["ppo", "--output", str(tmp_path), "--name"])
    assert "--name: expected one argument" in sentence(message)


# Worlds that do not stay finite.


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_parameters_that_are_not_finite_are_refused(value, finished, tmp_path, capsys):
    arguments = command(*TINY, "--env-params", "gravity", value, output=tmp_path)
    assert "gravity of CartPole-v1 must be finite" in sentence(refused(capsys, train, arguments))
    arguments = [str(finished), "--env-params", "gravity", value]
    assert "must be finite" in sentence(refused(capsys, evaluate, arguments))
    assert not list(tmp_path.iterdir())


MASSLESS = ("--env-params", "masscart", "0", "masspole", "0")


def test_no_return_is_reported_from_a_world_that_breaks(tmp_path, capsys):
    assert train.main(command(*TINY, *MASSLESS, output=tmp_path)) == 1
    out, err = capsys.readouterr()
    assert "there is no return to report" in err and "IQM" not in out
    assert not (tmp_path / "run" / "summary.json").exists()


def test_evaluation_in_a_world_that_breaks_is_the_worst_there_was(finished, tmp_path, capsys):
    output = tmp_path / "broken.json"
    saved = tmp_path / "policy"
    assert evaluate.main([str(finished), "--seed", "6", "--save", str(saved)]) == 0
    worst = read_arrays(finished / "evaluations.npz")["returns"].min()
    for folder, seeds in ((finished, 3), (saved, 1)):
        path = output.with_stem(folder.name)
        assert evaluate.main([str(folder), *MASSLESS, "--output", str(path)]) == 0
        written = json.loads(path.read_text())
        assert written["return_per_seed"] == [worst] * seeds
        assert written["episodes_not_finite"] == 100 * seeds
        assert "did not stay finite" in capsys.readouterr().out


# What is known of a run is said wherever it is used.


def test_diverged_and_unfinished_runs_are_known_as_such(copied, tmp_path, capsys):
    metrics = read_arrays(copied / "metrics.npz")
    metrics["value_loss"][1, 5:] = np.nan
    write_arrays(copied / "metrics.npz", metrics)
    content = read_config(copied)
    content["config"]["total_steps"] = 20_000
    (copied / "config.json").write_text(json.dumps(content))
    output = tmp_path / "e.json"
    assert evaluate.main([str(copied), "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert "diverged in training: seed 6" in out
    assert "training was not finished: 12 of 312 updates" in out
    written = json.loads(output.read_text())
    per_seed = written["return_per_seed"]
    assert per_seed[1] == min(per_seed) and written["seeds_diverged"] == 1
    assert report.main([str(copied)]) == 0
    page = (copied / "report" / "report.html").read_text()
    assert "<td>768</td><td>not finished: 12 of 312 updates</td><td>3</td><td>1</td>" in page
    assert evaluate.main([str(copied), "--seed", "6", "--save", str(tmp_path / "p")]) == 0
    capsys.readouterr()
    assert evaluate.main([str(tmp_path / "p")]) == 0
    out = capsys.readouterr().out
    assert "diverged in training: seed 6" in out and "12 of 312 updates" in out


def test_evaluation_ends_where_episodes_do_not(finished, tmp_path, capsys):
    output = tmp_path / "e.json"
    endless = ("--env-params", "theta_threshold_radians", "1e9", "x_threshold", "1e9")
    endless += ("max_steps_in_episode", "1000000000")
    given = [str(finished), *endless, "--episodes", "2", "--max-steps", "700"]
    assert evaluate.main([*given, "--output", str(output)]) == 0
    assert "given up after 700 steps: 6 of 6" in capsys.readouterr().out
    assert json.loads(output.read_text())["episodes_given_up"] == 6


# Keys.


def test_keys_of_evaluation_are_none_of_training(finished, tmp_path, monkeypatch):
    """Whatever a program hands to `evaluate` or begins an episode with, training never uses."""
    run = run_from_config(read_config(finished)["config"])
    used = set()
    for key in list(run.keys()):
        begin, of_run = jax.random.split(key)
        updates = [jax.random.fold_in(of_run, i) for i in range(200)]
        for k in (key, begin, of_run, *updates):
            used.add(jax.random.key_data(k).tobytes())
            for child in jax.random.split(k, 3):
                used.add(jax.random.key_data(child).tobytes())
    seen = []

    def note(keys):
        seen.extend(x.tobytes() for x in np.asarray(jax.random.key_data(keys)).reshape(-1, 2))

    for program in (hostloop, evaluate):
        play = program.evaluate

        def watched(key, *arguments, play=play, **options):
            jax.debug.callback(note, jax.random.key_data(key))
            return play(key, *arguments, **options)

        monkeypatch.setattr(program, "evaluate", watched)
    monkeypatch.setattr(sweep.pg, "evaluate", hostloop.evaluate)
    begun = render.pg.begin

    def watched_begin(key, *arguments, **options):
        jax.debug.callback(note, jax.random.key_data(key))
        return begun(key, *arguments, **options)

    unlike_others = ("--discount", "0.987")  # what a test before has compiled is not traced again
    assert train.main(command(*TINY, *unlike_others, output=tmp_path)) == 0
    jax.effects_barrier()
    assert len(set(seen)) == 3 * 4  # seeds, times
    assert evaluate.main([str(finished), "--episodes", "2"]) == 0
    jax.effects_barrier()
    assert len(set(seen)) == 3 * 4 + 3
    plan_file(tmp_path, SWEEP)
    assert sweep.main(sweep_arguments(tmp_path, "--seed", "5", *unlike_others)) == 0
    jax.effects_barrier()
    monkeypatch.setattr(render.pg, "begin", watched_begin)
    options = render.Options(finished, tmp_path / "x.gif", max_steps=3)
    render.play(evaluate.take(evaluate.load(finished), 5), options)
    jax.effects_barrier()
    assert len(set(seen)) > 3 * 4 + 3 + 2
    assert not used & set(seen)


# Other systems.


def test_a_system_that_does_not_tell_which_cores(monkeypatch):
    """As macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert runtime.cores() == 7
    assert "7 cores" in runtime.describe()["machine"]


def test_a_user_without_a_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(runtime.Path, "home", no_home)
    assert runtime.cache_folder() is None
    monkeypatch.setattr(runtime.Path, "home", lambda: Path("/proc/nowhere"))
    assert runtime.cache_folder() is None


def test_memory_of_a_container_and_of_windows(monkeypatch, tmp_path):
    limits = {"/sys/fs/cgroup/memory.max": "1000\n"}
    monkeypatch.setattr(
        library_sweep.Path,
        "read_text",
        lambda self: limits.get(str(self), "max"),
    )
    assert library_sweep._physical_memory() == 1000
    limits.clear()
    assert library_sweep._physical_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )
    monkeypatch.delattr(os, "sysconf")
    assert library_sweep._physical_memory() == 8 * 2**30


def test_more_seeds_than_memory_are_refused_before_any_is_asked_for(tmp_path, capsys):
    for program in (train, benchmark):
        arguments = ["ppo", *TINY[2:], "--seeds", "1000000000"]
        extra = ["--output", str(tmp_path)] if program is train else []
        message = refused(capsys, program, [x for x in arguments if x not in ("--eval",)] + extra)
        assert "at most" in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_more_episodes_than_memory_are_refused(finished, tmp_path, capsys):
    for program, words in [
        (train, command(*TINY, "--eval-episodes", "1e9", output=tmp_path)),
        (evaluate, [str(finished), "--episodes", "2000000000"]),
    ]:
        assert "at most" in sentence(refused(capsys, program, words))
    plan_file(
        tmp_path, SWEEP + "[random]\nconfigurations = 2000000\nclip_eps = {uniform = [0, 1]}\n"
    )
    message = sentence(refused(capsys, sweep, sweep_arguments(tmp_path)))
    assert "configurations of [random] must be at most 1000000" in message


def test_what_must_fit_into_memory_is_counted_in_bytes(finished, monkeypatch):
    run = run_from_config(read_config(finished)["config"])
    state = jax.tree.leaves(run.like())
    size = sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in state)
    devices = len(jax.local_devices())
    monkeypatch.setattr(runs, "memory_limit_of", lambda _: -(-size // devices))
    runs.check_memory(run)
    monkeypatch.setattr(runs, "memory_limit_of", lambda _: size // devices - 1)
    with pytest.raises(ValueError, match="--seeds 3 at once need"):
        runs.check_memory(run)


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate."), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: x")],
)
def test_too_little_memory_is_said_in_a_sentence(error, monkeypatch, capsys):
    def work():
        raise error

    assert command_line.run_program(lambda arguments: (), work, []) == 1
    assert "There is too little memory" in sentence(capsys.readouterr().err)


# Own environments.


OWN = """
import jax.numpy as jnp
from gymnax.environments.classic_control.cartpole import CartPole

class Short(CartPole):
    def __init__(self, steps=5):
        super().__init__()
        self.steps = steps

    @property
    def default_params(self):
        return super().default_params.replace(max_steps_in_episode=self.steps)
"""


def test_an_environment_of_ones_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_env.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    own = ("--env", "own_env:Short", "--env-kwargs", "steps", "6", "--env-params", "length", "0.7")
    run, *_ = train.prepare(command(*TINY, *own, output=tmp_path))
    results.release()
    assert run.env_params.max_steps_in_episode == 6 and run.env_params.length == 0.7
    for env, words in [
        ("own_env:Shrot", "cannot be built"),
        ("own_environment:Short", "no module 'own_environment'"),
        ("own_env:jnp", "cannot be built"),
        ("json:JSONDecoder", "makes no environment of gymnax"),
    ]:
        arguments = command(*TINY, "--env", env, output=tmp_path, name="other")
        assert words in sentence(refused(capsys, train, arguments))


@pytest.mark.parametrize("text", ["1e3", "1E3", "1.0e3", "1e+3"])
def test_whole_numbers_in_powers_of_ten(text, tmp_path):
    for words in (("--total-steps", text), (f"--total-steps={text}",)):
        run, *_ = train.parse(command(*TINY, *words, output=tmp_path))
        assert run.options.total_steps == 1000
    run, *_ = train.parse(
        command(*TINY, "--learning-rate", "1e-3", "--name", "1e3", output=tmp_path)
    )
    assert run.options.learning_rate == 1e-3


# Several processes.


def start_one_of_two(number: int, port: int, folder: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable, "-W", "ignore", "experiments/train.py", "ppo", *TINY[2:], "--seeds", "4",
            "--output", str(folder), "--name", "two", "--coordinator", f"localhost:{port}",
            "--processes", "2", "--process", str(number), *words,
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
    )  # fmt: skip


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


@pytest.mark.slow  # four processes
def test_two_processes_train_together_and_go_on_after_a_kill(tmp_path):
    """The first one writes; where one is killed both end, and both resume."""
    assert train.main(command(*TINY[2:], "--seeds", "4", output=tmp_path, name="one")) == 0
    port = free_port()
    both = [start_one_of_two(i, port, tmp_path) for i in (0, 1)]
    deadline = time.monotonic() + 120
    while not list((tmp_path / "two").glob("checkpoints/*4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    both[1].kill()
    for process in both:
        process.communicate(timeout=120)
    assert both[0].returncode != 0 or (tmp_path / "two" / "summary.json").exists()
    port = free_port()
    both = [start_one_of_two(i, port, tmp_path, "--resume") for i in (0, 1)]
    outs = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert "final return, IQM" in outs[0] and "IQM" not in outs[1]
    one, two = (read_arrays(tmp_path / name / "metrics.npz") for name in ("one", "two"))
    for name in one.keys() - {"seconds"}:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--process", "0"), "together"),
        (("--coordinator", "localhost:1", "--process", "0"), "together"),
        (("--distributed", "--process", "0"), "together"),
        (("--coordinator", "localhost:1", "--process", "2", "--processes", "2"), "from 0 to"),
        (("--coordinator", "localhost:1", "--process", "x", "--processes", "2"), "from 0 to"),
    ],
)
def test_processes_that_do_not_fit_together_are_refused(words, expected, tmp_path, capsys):
    message = refused(capsys, train, command(*TINY, *words, output=tmp_path))
    assert expected in sentence(message)
