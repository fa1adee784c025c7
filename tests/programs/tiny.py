"""A tiny run of train.py, and what tests of programs ask of its folder and of what is refused."""

from pathlib import Path

import jax
import numpy as np

from experiments.common.results import read_arrays, read_config, restore_state
from experiments.common.runs import run_from_config

TINY = (
    *("--seeds", "3", "--seed", "5", "--total-steps", "768", "--num-envs", "4"),
    *("--num-steps", "16", "--num-epochs", "2", "--num-minibatches", "2", "--hidden-sizes", "8"),
    *("--eval-episodes", "4", "--evaluations", "3"),
)
UPDATES = 12


def command(*arguments: str, output: Path, name: str = "run") -> list[str]:
    return ["ppo", *arguments, "--output", str(output), "--name", name]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_same_results(one: Path, two: Path) -> None:
    """Bitwise: metrics, evaluations and the newest checkpoint. Only the time they took may differ."""
    for name in ("metrics.npz", "evaluations.npz"):
        a, b = read_arrays(one / name), read_arrays(two / name)
        a.pop("seconds", None), b.pop("seconds", None)
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key], err_msg=f"{name} {key}")
    like = run_from_config(read_config(one)["config"]).like()
    jax.tree.map(np.testing.assert_array_equal, restore_state(one, like), restore_state(two, like))


def refused(capsys, program, arguments: list[str]) -> str:
    """Run a program that must refuse its arguments: exit code 2 and a message, which is returned."""
    try:
        code = program.main(arguments)
    except SystemExit as stop:  # argparse and tyro
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    return err


def sentence(message: str) -> str:
    """Our own messages are one sentence on one line."""
    assert message.startswith("error: ") and message.endswith(".\n") and message.count("\n") == 1
    return message
