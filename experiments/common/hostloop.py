"""The host's side of a training run: chunks of updates, progress, evaluations, files."""

import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.common.results import Arrays, read_arrays, restore_state, save_state, write_arrays
from experiments.common.runs import Run
from experiments.common.trackers import Tracker
from purejaxpg.training.evaluate import evaluate
from purejaxpg.training.sweep import distribute
from purejaxpg.training.train import evaluation_key, train
from purejaxpg.types import PyTree

SAVE_EVERY = 30.0
"""Seconds between checkpoints, at least; there is one at each evaluation as well."""


@dataclass
class History:
    """What a run has shown so far: metrics `[seeds, updates]`, evaluations `[seeds, times, episodes]`."""

    metrics: Arrays
    evaluations: Arrays
    seconds: float = 0.0

    def write(self, folder: Path) -> None:
        metrics = {**self.metrics, "seconds": np.array(self.seconds)}
        write_arrays(folder / "metrics.npz", metrics)
        write_arrays(folder / "evaluations.npz", self.evaluations)

    @classmethod
    def read(cls, folder: Path, update: int) -> "History":
        """As it was after so many updates; what was written later is done again."""
        metrics = read_arrays(folder / "metrics.npz")
        evaluations = read_arrays(folder / "evaluations.npz")
        seconds = float(metrics.pop("seconds"))
        times = int(np.sum(evaluations["update"] <= update))
        return cls(
            {name: x[:, :update] for name, x in metrics.items()},
            {name: x[:, :times] for name, x in evaluations.items()},
            seconds,
        )


@dataclass(frozen=True)
class Outcome:
    finished: bool
    update: int
    metrics: Arrays
    evaluations: Arrays
    seconds: float


Restored = tuple[PyTree, History] | None
"""Where a run is gone on from; None begins."""


def restore_training(run: Run, folder: Path) -> tuple[PyTree, History]:
    """Where a run was at its newest checkpoint.

    Raises:
      FileNotFoundError, ValueError: there is none, or a file is damaged.
    """
    state = restore_state(folder, run.like())
    return state, History.read(folder, int(np.max(state.update)))


def run_training(run: Run, folder: Path, restored: Restored, tracker: Tracker | None) -> Outcome:
    """Train to the end or to Ctrl-C; either way a checkpoint and the files are there afterwards.

    Args:
      restored: from `restore_training`.
      tracker: what is also told of metrics and evaluations, at their environment steps per seed.
    """
    tracker = tracker or Tracker(lambda step, metrics: None, lambda: None)
    keys, options = run.keys(), run.options

    @distribute
    def test(key, state):
        return evaluate(
            evaluation_key(key, state.update), run.algorithm, state, run.env, run.env_params,
            num_episodes=options.eval_episodes, deterministic=options.deterministic,
        )  # fmt: skip

    def look_at(state, history, update):
        episodes = {name: np.asarray(x)[:, None] for name, x in test(keys, state)._asdict().items()}
        newest = {"update": np.array([[update]]), **episodes}
        history.evaluations = _joined(history.evaluations, newest)
        returns = newest["returns"][:, 0].mean(axis=-1)
        tracker.log(update * options.steps_per_update, {"eval_return": returns})

    def compiled(length):
        def program(key, state):
            return train(key, run.algorithm, run.env_params, num_updates=length, state=state)

        return distribute(program, donate=(1,))

    chunks = run.chunks()
    ends = np.cumsum(chunks)
    at = np.ceil(np.arange(1, options.evaluations + 1) * len(ends) / options.evaluations) - 1
    evaluate_at = set(ends[at.astype(int)].tolist())
    programs = {length: compiled(length) for length in set(chunks)}
    with _stop_on_interrupt() as stop, closing(tracker):
        if restored is None:
            state, history = distribute(run.initial_state)(keys), History({}, {})
            look_at(state, history, 0)
        else:
            state, history = restored
        update = int(np.max(state.update))
        saved = time.monotonic()
        with _progress(run, update) as progress:
            for length, end in zip(chunks, ends.tolist()):
                if end <= update:
                    continue
                began = time.monotonic()
                state, metrics = jax.block_until_ready(programs[length](keys, state))
                history.seconds += time.monotonic() - began
                update = end
                metrics = {name: np.asarray(x) for name, x in metrics.items()}
                history.metrics = _joined(history.metrics, metrics)
                for i in range(length):
                    step = (end - length + 1 + i) * options.steps_per_update
                    tracker.log(step, {name: x[:, i] for name, x in metrics.items()})
                if update in evaluate_at:
                    look_at(state, history, update)
                # Looked at once: a stop between here and the end is for the next turn.
                stopping = bool(stop)
                if stopping or update in evaluate_at or time.monotonic() - saved > SAVE_EVERY:
                    history.write(folder)
                    save_state(folder, state, update)
                    saved = time.monotonic()
                _show(progress, run, length, history)
                if stopping:
                    break
    return Outcome(update == run.num_updates, update, **vars(history))


def _joined(old: Arrays, new: Arrays) -> Arrays:
    """Of all seeds, one after the other in time."""
    return {name: np.concatenate([x, new[name]], axis=1) for name, x in old.items()} or new


@contextmanager
def _stop_on_interrupt() -> Iterator[list[int]]:
    """A list that Ctrl-C puts something into; a second Ctrl-C interrupts at once."""
    stop: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.append(number)

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


def _progress(run: Run, update: int) -> tqdm:
    per_update = run.options.steps_per_update * run.options.seeds
    return tqdm(
        total=run.num_updates * per_update,
        initial=update * per_update,
        unit="step",
        unit_scale=True,
        dynamic_ncols=True,
        desc=f"{run.name} {run.options.env}, {run.options.seeds} seeds",
    )


def _show(progress: tqdm, run: Run, length: int, history: History) -> None:
    count = history.metrics["episode_count"][:, -length:].sum()
    if count:
        mean = history.metrics["episode_return_sum"][:, -length:].sum() / count
        progress.set_postfix({"return": f"{mean:.1f}"}, refresh=False)
    progress.update(length * run.options.steps_per_update * run.options.seeds)
