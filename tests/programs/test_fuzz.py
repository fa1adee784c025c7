"""Command lines of all programs, drawn from right, borderline and wrong words: nothing ever breaks.

A line ends with the exit code 0, 1, 2 or 130 and a sentence, never with a traceback; it reports no number that
is not finite, and leaves what a user has beside the results, and results of before, as they are.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import benchmark, evaluate, render, report, summarize, sweep, train
from experiments.common.algorithms import ALGORITHMS
from experiments.common.results import ResultsError, read_arrays
from tests.programs.test_faults import SWEEP
from tests.programs.tiny import (
    contents,
)

SEED = os.environ.get("FUZZ_SEED", "0")
"""Another one draws other lines."""


def words(text: str) -> list[str]:
    return text.split()


# fmt: off
SIZES = {
    "--seeds": "2", "--total-steps": "128", "--num-envs": "4", "--num-steps": "16", "--hidden-sizes": "8",
    "--eval-episodes": "2", "--evaluations": "1",
}
MINIBATCHES = {"--num-epochs": "2", "--num-minibatches": "2"}  # of PPO alone
COUNTS = ["", " ", "9" * 30, *words(
    "0 -1 1 2 3 1.5 nan inf -inf many 1e9 1e30 1_0 ٣ 0x10 +2 00 1000000000 2147483647 2147483648 1e0 "
    "1e400 True"
)]
REALS = ["", *words("0 -1 1 0.5 nan inf -inf 1e30 -1e30 1e-30 1e400 1,5 None true ٣ 1/2 1e9")]
NAMES = ["", " ", "a b", "a\nb", "\t", "\x1b[31m", "x" * 300, "\udcff", *words(
    "new run policy table mine file . .. ../thesis ../thesis/new a/b [x] $x$ {x} * ? it's \"x\" ~ -x --x "
    "ü 訓練 %s new.gif new.json file/x run/config.json a\\b &<b> nan 1e3"
)]
PARAMETERS = ["", *words(
    "gravity masscart masspole length max_steps_in_episode force_mag x_threshold lenght total_mass "
    "polemass_length tau __class__ nan theta_threshold_radians éà"
)]
ENVS = ["", " ", "no module:x", "a\nb", *words(
    "CartPole-v1 cartpole Acrobot-v1 Pendulum-v1 MountainCarContinuous-v0 Catch-bsuite DeepSea-bsuite "
    "FrozenLake-misc brax:hopper brax: : json:loads json:nothing :x ..:x numpy:pi Breakout-MinAtar ü nan "
    "[x] results"
)]
KWARGS = ["", *words("size map_name first nothing class 1")]
CHOICES = {
    "--actions": "clip rescale tanh none",
    "--network": "mlp cnn rnn",
    "--activation": "tanh relu TANH",
    "--memory": "none gru attention nothing",
    "--advantages": "td n-step lambda monte-carlo gae GAE",
    "--value-targets": "td n-step nan",
    "--baseline": "none mean value x",
    "--tracker": "none tensorboard wandb x",
}
FLAGS = ["", "a\nb", "\udcff", *words(
    "--resume --overwrite --deterministic --no-deterministic --normalize-observations --normalize-rewards "
    "--no-resume --anneal-learning-rate --no-anneal-learning-rate --anneal-clip-eps --unknown --no-seeds "
    "-- - --- -h --resume=1 --seeds --env --name --run.seeds word ü --= --help"
)]
LISTS = ["", "8 8", *words("8 0 -1 nan 1e9 8,8 [8]")]
COUNT_FLAGS = words(
    "--seeds --seed --total-steps --num-envs --num-steps --num-epochs --num-minibatches --evaluations "
    "--eval-episodes --eval-max-steps --warmup-steps --memory-size --n --memory-window --num-value-epochs "
    "--cg-iterations --chunk-size --process --processes"
)
REAL_FLAGS = words(
    "--learning-rate --discount --gae-lambda --clip-eps --entropy-coef --max-grad-norm "
    "--value-learning-rate --eps --max-kl --damping --value-coef --target-kl --kl-coef"
)
TOML_KEYS = ["'a b'", "''", *words(
    "seeds learning_rate num_steps hidden_sizes env env_params clip_eps evaluations seed discount "
    "configurations memory 'ü' overwrite total_steps deterministic eps"
)]
TOML_VALUES = ["9" * 30, "\"a\\nb\"", "\"\\u0000\"", "[1, 'x']", "{x = 1}", "'a b'", "[0.1, 0.2]"]
TOML_VALUES += ["{uniform = [0.1, 0.2]}", "{uniform = [0.2, 0.1]}", "{uniform = 1}", "{log_uniform = [0, 1]}"]
TOML_VALUES += ["{choice = []}", "{choice = [0.1, nan]}", "[[8], [4]]", *words(
    "0 -1 1 2 1e30 nan -inf '' 'x' [] [[]] {} true 2024-01-01 1e400 [nan] [1e-3] '--seed' 1000000000000"
)]
FOLDERS = ("run", "policy", "table", "catch")
# fmt: on


# What a line meets: results, whole and damaged, and what is a user's.


def a_user(home: Path) -> None:
    """Files beside the results, and a folder among them."""
    for folder in (home / "thesis", home / "out" / "mine"):
        folder.mkdir(parents=True)
        (folder / "precious.txt").write_text("a thesis")
        (folder / "summary.json").write_text("[]")
    (home / "out" / "file").write_text("numbers")


def changed_config(key: str, value: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text())
        (content["config"] if key in content["config"] else content)[key] = value
        path.write_text(json.dumps(content))

    return damage


def changed_arrays(name: str, key: str, value: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        arrays = read_arrays(folder / name)
        arrays.pop(key, None)
        if value is not None:
            arrays[key] = np.asarray(value)
        np.savez(folder / name, **arrays)

    return damage


def written(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content)


def a_folder(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir(parents=True)

    return damage


def removed(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    return damage


# fmt: off
CHANGES: dict[str, list[Any]] = {  # of config.json
    "stages": [3, [], [{}], [{"updates": "x"}], [{"updates": 10**9, "config": {}}]],
    "algorithm": [None, "dqn", "trpo", ["ppo"]],
    "seeds": [None, "2", 1, 3, 10**9, 2.0, []],
    "hidden_sizes": [None, "8", 8, [[8]], [8.5], [16]],
    "env_params": [None, 3, {"length": "x"}, {"length": None}, {"lenght": 1.0}, []],
    "env": [None, 3, "nothing", "Acrobot-v1", []],
    "kind": [None, "sweep", "policy", "run", ["run"], {}],
    "num_envs": [0, 3, None, "4", float("inf")],
    "chunk_sizes": [None, [], ["x"], 3],
    "groups": [None, [], [{}], 3],
    "versions": [None, 3],
    "policy_of_seed": [None, "5", [5]],
    "training": [None, {}, {"update": "x"}, {"update": 1, "worst_return": None}],
}
DAMAGES = [
    *(written("config.json", x) for x in (b"", b"{", b"{}", b"[]", b"\xff", b'{"config": {}}')),
    *(written("config.json", b'{"kind": "%s", "config": {}}' % x) for x in (b"run", b"sweep", b"policy", b"x")),
    *map(removed, words("config.json metrics.npz evaluations.npz checkpoints parts policy")),
    *(written(x, b"PK\x03\x04") for x in ("metrics.npz", "evaluations.npz")),
    *map(a_folder, words(
        "config.json metrics.npz checkpoints/000000099 checkpoints/x parts/000-0000000.npz report "
        "summary.json learning_curve.png .lock .tmp-config.json"
    )),
    *(changed_config(key, value) for key, values in CHANGES.items() for value in values),
    *(changed_arrays("metrics.npz", "seconds", x) for x in (None, [1.0, 2.0])),
    *(changed_arrays("metrics.npz", "env_steps", x) for x in (None, np.zeros((3, 1)), 1.0)),
    *(changed_arrays("metrics.npz", "value_loss", x) for x in (None, np.full((2, 2), np.nan))),
    *(changed_arrays("evaluations.npz", "update", x) for x in (None, [[5, 6]], [])),
    *(changed_arrays("evaluations.npz", "returns", x) for x in (None, np.full((2, 2, 2), np.nan), [["a"]])),
]
# fmt: on


# Lines.


def one_of(draw: random.Random, words: list[str]) -> list[str]:
    """A word, or none where one is expected."""
    return [] if draw.random() < 0.06 else [draw.choice(words)]


def change(draw: random.Random) -> list[str]:
    """A few words that may make no sense."""
    kind = draw.randrange(8)
    if kind <= 1:
        return [draw.choice(COUNT_FLAGS), *one_of(draw, COUNTS)]
    if kind == 2:
        return [draw.choice(REAL_FLAGS), *one_of(draw, REALS)]
    if kind == 3:
        flag, choices = draw.choice([*CHOICES.items()])
        return [flag, *one_of(draw, ["", *choices.split()])]
    if kind == 4:
        return ["--env-params", *parameters(draw)[draw.choice((0, 0, 0, 1)) :]]
    if kind == 5:
        more = draw.choice([(), ("--env-kwargs", draw.choice(KWARGS), draw.choice(COUNTS[:7]))])
        return ["--env", *one_of(draw, ENVS), *more]
    if kind == 6:
        return [draw.choice(FLAGS)]
    return ["--hidden-sizes", *draw.choice(LISTS).split(" ")]


def out(draw: random.Random, *likely: str) -> str:
    return f"out/{draw.choice((*likely, *NAMES)) if draw.random() < 0.3 else likely[0]}"


def named(draw: random.Random) -> list[str]:
    """Where a run or a sweep writes."""
    line = ["--output", draw.choice(("out", "out", "out", "out/file", "out/new", "out/ü"))]
    if draw.random() < 0.7:
        line += ["--name", *one_of(draw, ["new", "run", "table", *NAMES])]
    if draw.random() < 0.4:
        line.append(draw.choice(("--resume", "--resume", "--overwrite")))
    return line


def changes(draw: random.Random, most: int) -> list[str]:
    return [word for _ in range(draw.randint(0, most)) for word in change(draw)]


def given(words: dict[str, str]) -> list[str]:
    return [word for pair in words.items() for word in pair]


def train_line(draw: random.Random, home: Path) -> list[str]:
    name = draw.choice((*ALGORITHMS, "ppo", "ppo"))
    if draw.random() < 0.04:
        name = draw.choice(("dqn", "", "PPO", "--env", "-h"))
    sizes = SIZES if draw.random() < 0.8 or "run" not in os.listdir(home / "out") else {}
    sizes = sizes | (MINIBATCHES if name == "ppo" and sizes else {})
    return [name, *given(sizes), *named(draw), *changes(draw, 2)]


def sweep_line(draw: random.Random, home: Path) -> list[str]:
    text = SWEEP
    for _ in range(draw.randint(0, 2)):
        section = draw.choice(
            ("", "[options]", *words("[grid] [random] [[list]] [static] [gird] [list]"))
        )
        line = f"{draw.choice(TOML_KEYS)} = {draw.choice(TOML_VALUES).strip()}"
        if section in ("", "[options]"):  # in place of what is there
            place = re.escape(draw.choice(("seeds", "num_steps", line.partition(" = ")[0])))
            text = re.sub(rf"(?m)^{place} = .*$", lambda _, line=line: line, text)
            continue
        if section == "[random]" and draw.random() < 0.7:
            line = f"configurations = 2\n{line}"
        text += f"{section}\n{line}\n"
    file = draw.choice(
        (
            "tiny.toml",
            "tiny.toml",
            "table.toml",
            "a b.toml",
            "ü",
            "[x].toml",
            "-x.toml",
            "a\nb.toml",
        )
    )
    (home / file).write_text(text)
    if draw.random() < 0.1:
        file = draw.choice(
            ("nothing.toml", "out", "", "out/file", "--seeds", "--output", "out/run/metrics.npz")
        )
    return [file, *named(draw), *changes(draw, 1)]


def evaluate_line(draw: random.Random, home: Path) -> list[str]:
    line = [out(draw, *draw.sample(FOLDERS, 4)), "--episodes", often(draw, "2", COUNTS)]
    line += draw.choice(([], ["--seed", often(draw, "1", COUNTS)]))
    line += draw.choice(([], [], ["--save", out(draw, "new", "run", "policy/x")]))
    line += draw.choice(([], ["--output", out(draw, "new.json", "file", "run")]))
    line += draw.choice(
        ([], [], ["--max-steps", draw.choice(COUNTS)], ["--key", draw.choice(COUNTS)])
    )
    more = ([], ["--deterministic"], ["--env-params", *parameters(draw)], [draw.choice(FLAGS)])
    return line + draw.choice(more)


def often(draw: random.Random, right: str, others: list[str]) -> str:
    return right if draw.random() < 0.8 else draw.choice(others)


def parameters(draw: random.Random) -> list[str]:
    if draw.random() < 0.3:
        return ["masscart", "0", "masspole", "0"]
    return [
        word
        for _ in range(draw.randint(1, 2))
        for word in (draw.choice(PARAMETERS), draw.choice(REALS))
    ]


def render_line(draw: random.Random, home: Path) -> list[str]:
    line = [
        out(draw, "catch", *FOLDERS),
        "--output",
        out(draw, "new.gif", "run", "x.GIF", "a/new.gif"),
    ]
    line += draw.choice(([], ["--seed", often(draw, "0", COUNTS)], ["--key", draw.choice(COUNTS)]))
    line += ["--max-steps", often(draw, "3", COUNTS)]
    return line + draw.choice(([], ["--deterministic"], [draw.choice(FLAGS)]))


def report_line(draw: random.Random, home: Path) -> list[str]:
    line = [out(draw, *FOLDERS) for _ in range(draw.choice((1, 1, 1, 2, 2, 0)))]
    line += draw.choice(([], ["--output", out(draw, "new", "mine", "file", "run", "run/report")]))
    return line + draw.choice(([], [], ["--target", draw.choice(REALS)], [draw.choice(FLAGS)]))


def benchmark_line(draw: random.Random, home: Path) -> list[str]:
    name = draw.choice((*ALGORITHMS, "dqn"))
    line = [name, *given(SIZES | (MINIBATCHES if name == "ppo" else {}))]
    line += [
        "--repeats",
        often(draw, "1", COUNTS),
        "--updates",
        often(draw, "1", COUNTS),
    ]
    line += draw.choice(
        ([], ["--output", out(draw, "new.json", "file", "mine")], ["--against-vmap"])
    )
    return line + changes(draw, 1)


def summarize_line(draw: random.Random, home: Path) -> list[str]:
    root = home / "out" / "checkout"
    results = root / "experiments" / "results"
    results.mkdir(parents=True)
    source = summarize.ROOT / "experiments" / "results"
    for path in [
        *source.glob("*/*.json"),
        *source.glob("*.json"),
        *source.glob("*.md"),
        *source.glob("*.gif"),
    ]:
        copy = results / path.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    shutil.copy(summarize.ROOT / "README.md", root)
    if draw.random() < 0.7:
        path = draw.choice(sorted(x for x in root.rglob("*") if x.suffix in (".json", ".md")))
        content = path.read_bytes()
        half = content[: len(content) // 2]
        path.write_bytes(
            draw.choice((b"", b"{}", b"[]", b"null", b"3", b"[{}]", half, b"\xff", content + b" "))
        )
        if draw.random() < 0.1:
            path.unlink()
    line = [
        "--root",
        draw.choice(
            ("out/checkout", "out/checkout", "out/checkout", "out", "out/file", "nothing", "")
        ),
    ]
    return ["--check", *line, *draw.choice(([], [], [draw.choice(FLAGS)]))]


PROGRAMS: dict[Any, tuple[Callable[[random.Random, Path], list[str]], int, float]] = {
    train: (train_line, 120, 0.3),
    sweep: (sweep_line, 80, 0.25),
    evaluate: (evaluate_line, 70, 0.6),
    render: (render_line, 25, 0.3),
    report: (report_line, 40, 0.3),
    benchmark: (benchmark_line, 25, 0.2),
    summarize: (summarize_line, 25, 1.0),
}
"""Program -> what draws its lines, how many, and how many of those that are right do what they say."""


def is_small(program: Any, prepared: tuple) -> bool:
    """Whether a line that was accepted does little: a moment's work, and no memory to speak of."""
    if program in (train, sweep, benchmark):
        first = prepared[0]
        runs = [first] if program is not sweep else [group.run for group in first.groups]
        tables = (
            [1] if program is not sweep else [len(group.configurations) for group in first.groups]
        )
        return len(runs) <= 2 and sum(tables) <= 8 and all(map(is_small_run, runs)) and (
            program is not benchmark or max(prepared[1].repeats, prepared[1].updates) <= 3
        )  # fmt: skip
    options = prepared[0]
    if program is evaluate:
        return options.episodes <= 20
    return program is not render or options.max_steps <= 20


def is_small_run(run: Any) -> bool:
    x = run.options
    sizes = [
        getattr(x, name, 1)
        for name in ("num_epochs", "num_value_epochs", "cg_iterations", "warmup_steps")
    ]
    small = max(x.seeds * max(x.total_steps, x.steps_per_update), 100 * x.eval_episodes) <= 5000
    return (
        small
        and max(*x.hidden_sizes, x.memory_size, *sizes) <= 64
        and x.env in ("CartPole-v1", "Catch-bsuite")
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory, cache) -> Path:
    """Folders that lines begin with: a run, one of another environment, a policy, a sweep."""
    home = tmp_path_factory.mktemp("results")
    words = ["ppo", *given(SIZES | MINIBATCHES), "--output", str(home)]
    assert train.main([*words, "--name", "run"]) == 0
    assert train.main([*words, "--env", "Catch-bsuite", "--name", "catch"]) == 0
    assert evaluate.main([str(home / "run"), "--seed", "1", "--save", str(home / "policy")]) == 0
    (home / "table.toml").write_text(SWEEP + "[grid]\nclip_eps = [0.1, 0.2]\n")
    assert sweep.main([str(home / "table.toml"), "--output", str(home)]) == 0
    (home / "table.toml").unlink()
    return home


@pytest.fixture
def home(results, tmp_path, monkeypatch) -> Path:
    home = tmp_path / "home"
    a_user(home)
    shutil.copytree(results, home / "out", dirs_exist_ok=True)
    monkeypatch.chdir(home)
    return home


LINES = [(p, i) for p, (_, number, _) in PROGRAMS.items() for i in range(number)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "number"), LINES, ids=[f"{p.__name__.rpartition('.')[2]}-{i}" for p, i in LINES]
)
def test_no_line_breaks_anything(program, number, home, monkeypatch, capsys):
    draw = random.Random(f"{SEED} {program.__name__} {number}")
    line_of, _, share = PROGRAMS[program]
    if draw.random() < 0.4:
        damaged = home / "out" / draw.choice(FOLDERS)
        other_kind = (FileNotFoundError, NotADirectoryError, ResultsError)  # of folder
        with suppress(*other_kind):
            draw.choice(DAMAGES)(damaged)
    line, works = line_of(draw, home), draw.random() < share
    print(line)  # where it fails
    prepare = program.prepare

    def prepare_little(arguments):
        prepared = prepare(arguments)
        if not works or not is_small(program, prepared):
            raise KeyboardInterrupt  # the user thinks better of it
        return prepared

    monkeypatch.setattr(program, "prepare", prepare_little)
    capsys.readouterr()
    before = contents(home)
    code, (said, err) = run(program, line, capsys)
    note = f"{line}\n{said}\n{err}"
    after = contents(home)
    assert code in (0, 1, 2, 130), note
    assert "Traceback" not in said + err, note
    assert code != 130 or "Interrupted.\n" in err, note
    if code == 2:
        assert said == "", note
        assert is_refusal(err), note
        assert after == before | {x: b"" for x in after if x.endswith("/.lock")}, note
    if code == 1:
        assert program is summarize or is_refusal(err[err.rindex("error: ") :]), note
    if "--help" not in line and "-h" not in line:
        assert not re.search(r"(?i)(?<![\w/.'-])-?(nan|inf|infinity)(?![\w/.'-])", said), note
    assert_kept(before, after, may_empty="--overwrite" in line, note=note)
    assert_finite({x: after[x] for x in after if after[x] != before.get(x)}, note)


def run(program: Any, line: list[str], capsys) -> tuple[Any, tuple[str, str]]:
    try:
        code = program.main(line)
    except SystemExit as stop:  # argparse and tyro
        code = stop.code or 0
    return code, capsys.readouterr()


def is_refusal(err: str) -> bool:
    """One sentence of ours, or a box of tyro."""
    if err.startswith("error: "):
        return err[:-1].isprintable() and err.endswith("\n") and len(err) > 20
    return "For full helptext" in err


def assert_kept(before: dict, after: dict, *, may_empty: bool, note: str) -> None:
    """Nothing of a user has changed, and no result is lost."""
    for path, content in before.items():
        top = path.split("/")[1] if path.startswith("out/") else ""
        if top not in FOLDERS:
            assert after.get(path) == content, f"{path} changed: {note}"
        elif not may_empty and "/checkpoints/" not in path and "/.tmp-" not in path:
            folder, _, file = path.rpartition("/")
            assert path in after or f"{folder}/damaged-{file}" in after, f"{path} is lost: {note}"
    if not may_empty:
        for path in after.keys() & before.keys():
            if path.endswith("/metrics.npz") and after[path] != before[path]:
                assert steps_in(after[path]) >= steps_in(before[path]), note
        for folder in FOLDERS:
            place = f"out/{folder}/checkpoints/0"
            old, new = (
                max((x for x in y if x.startswith(place)), default="") for y in (before, after)
            )
            assert old.split("/")[:4] <= new.split("/")[:4], note
    outside = {x for x in after.keys() - before.keys() if not x.startswith("out/")}
    assert not outside, note


def steps_in(content: bytes) -> int:
    path = Path("metrics-to-count.npz")
    path.write_bytes(content)
    try:
        return np.size(read_arrays(path)["env_steps"])
    except (ResultsError, KeyError):
        return 0
    finally:
        path.unlink()


def assert_finite(changed: dict[str, bytes], note: str) -> None:
    """Every number of what was written as JSON, configurations apart."""

    def refuse(constant):
        raise AssertionError(f"{constant}: {note}")

    for path, content in changed.items():
        if path.endswith(".json") and path.rpartition("/")[2] != "config.json":
            found = json.loads(content, parse_constant=refuse)
            assert np.isfinite(list(numbers(found))).all(), note


def numbers(content: Any):
    """All numbers in what JSON says."""
    if isinstance(content, dict | list):
        for x in content.values() if isinstance(content, dict) else content:
            yield from numbers(x)
    elif isinstance(content, int | float):
        yield float(content)
