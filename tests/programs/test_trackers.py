"""What trackers write is read back from their files, and is what the run itself has stored."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import train
from experiments.common import trackers
from experiments.common.results import read_arrays

METRICS = [(64, {"loss": [0.5, 1.5], "kl": [1, 2]}), (128, {"loss": [0.25, np.nan], "kl": [3, 4]})]
TINY = "ppo --seeds 2 --seed 3 --num-envs 2 --num-steps 8 --total-steps 64 --num-minibatches 1 "
TINY += "--num-epochs 1 --hidden-sizes 4 --eval-episodes 2 --evaluations 2"


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """name -> (step, value) in the order written: TFRecords are length, crc, data, crc."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("events*")):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_has_a_run_per_seed(tmp_path):
    pytest.importorskip("tensorboardX")
    tracker = trackers.tensorboard(tmp_path, [3, 7], config={"learning_rate": 0.1})
    for step, metrics in METRICS:
        tracker.log(step, metrics)
    tracker.close()
    assert scalars(tmp_path / "seed-3") == {
        "loss": [(64, 0.5), (128, 0.25)],
        "kl": [(64, 1), (128, 3)],
    }
    other = scalars(tmp_path / "seed-7")
    assert other["loss"][0] == (64, 1.5) and np.isnan(other["loss"][1][1])
    assert b"learning_rate: 0.1" in next((tmp_path / "seed-3").glob("events*")).read_bytes()


def test_training_writes_its_metrics_for_tensorboard_and_goes_on_with_them(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    arguments = [
        *TINY.split(),
        "--tracker",
        "tensorboard",
        "--output",
        str(tmp_path),
        "--name",
        "x",
    ]
    assert train.main(arguments) == 0
    metrics, evaluations = (
        read_arrays(tmp_path / "x" / f"{n}.npz") for n in ("metrics", "evaluations")
    )
    metrics.pop("seconds")
    for i, seed in enumerate((3, 4)):
        found = scalars(tmp_path / "x" / "tensorboard" / f"seed-{seed}")
        steps, values = np.array(found.pop("eval_return")).T
        np.testing.assert_array_equal(steps, evaluations["update"][0] * 16)
        np.testing.assert_allclose(values, evaluations["returns"][i].mean(axis=-1))
        assert found.keys() == metrics.keys()
        for name, pairs in found.items():
            steps, values = np.array(pairs).T
            np.testing.assert_array_equal(steps, [16, 32, 48, 64])
            np.testing.assert_allclose(values, metrics[name][i], rtol=1e-6)

    purged = []
    monkeypatch.setattr(
        trackers, "tensorboard", lambda *_, first_step, **__: purged.append(first_step)
    )
    assert train.main([*arguments, "--resume"]) == 0
    assert purged == [80]  # what follows the checkpoint


def records(file: Path) -> list:
    """What a W&B file holds: after 7 bytes, records of crc, length, type and data."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, found = file.read_bytes()[7:], []
    while content:
        length, kind = struct.unpack("<HB", content[4:7])
        assert kind == 1  # whole, as they are in a small file
        found.append(Record.FromString(content[7 : 7 + length]))
        content = content[7 + length :]
    return found


def test_weights_and_biases_has_a_run_per_seed(tmp_path):
    wandb = pytest.importorskip("wandb")
    tracker = trackers.wandb_offline(tmp_path, [3, 7], config={"learning_rate": 0.1}, group="g")
    for step, metrics in METRICS:
        tracker.log(step, metrics)
    tracker.close()
    assert wandb.run is None
    found = {}
    for file in tmp_path.glob("wandb/offline-run-*/*.wandb"):
        deadline = time.monotonic() + 60  # W&B's own process may write a little later
        while not any(record.HasField("exit") for record in records(file)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        every = records(file)
        (run,) = {(r.run.display_name, r.run.run_group) for r in every if r.HasField("run")}
        rows = [r.history.item for r in every if r.HasField("history")]
        rows = [{x.key or x.nested_key[0]: x.value_json for x in items} for items in rows]
        found[run] = [(row["_step"], row["loss"], row["kl"]) for row in rows]
    assert found == {
        ("seed 3", "g"): [("64", "0.5", "1"), ("128", "0.25", "3")],
        ("seed 7", "g"): [("64", "1.5", "2"), ("128", "NaN", "4")],
    }


def test_a_tracker_that_is_not_installed_is_refused_first(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "find_spec", lambda name: None)
    for name in ("tensorboard", "wandb"):
        assert train.main([*TINY.split(), "--tracker", name, "--output", str(tmp_path)]) == 2
        assert capsys.readouterr().err == (
            f"error: --tracker {name} needs an extra: pip install -e .[{name}].\n"
        )
    assert not list(tmp_path.iterdir())
