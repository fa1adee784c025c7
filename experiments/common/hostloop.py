"""The host's side of a training run: chunks of updates, progress, evaluations, files."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from experiments.common.interrupts import stop_in_order
from experiments.common.processes import any_of, first_does, is_first
from experiments.common.results import (
    Arrays,
    ResultsError,
    read_history,
    restore_state,
    save_state,
    write_arrays,
)
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
    def read(cls, folder: Path, update: int, episodes: int) -> "History":
        """As it was after so many updates; what was written later is done again.

        Args:
          episodes: of each evaluation. Of what a sweep kept only their mean is known: it stands for each.
        """

        def of_all(x):
            return np.broadcast_to(x, (*x.shape[:2], episodes)) if x.ndim == 3 else x

        metrics, evaluations = read_history(folder)
        seconds = float(metrics.pop("seconds"))
        if any(x.shape[1] < update for x in metrics.values()):
            raise ResultsError(f"{folder / 'metrics.npz'} is of before the checkpoint.")
        times = int(np.sum(evaluations["update"] <= update))
        return cls(
            {name: x[:, :update] for name, x in metrics.items()},
            {name: of_all(x[:, :times]) for name, x in evaluations.items()},
            seconds,
        )


@dataclass(frozen=True)
class Outcome:
    finished: bool
    update: int
    metrics: Arrays
    evaluations: Arrays
    seconds: float


class Restored(NamedTuple):
    """Where a run is gone on from, and the update at which its present stage began."""

    state: PyTree
    history: History
    first: int = 0


def restore_training(run: Run, folder: Path, first: int) -> Restored:
    """Where a run was at its newest checkpoint.

    Args:
      first: the update at which its present stage began.

    Raises:
      FileNotFoundError, ValueError: there is none, or a file is damaged.
    """
    state = restore_state(folder, run.like())
    history = History.read(folder, int(np.max(state.update)), run.options.eval_episodes)
    return Restored(state, history, first)


def run_training(
    run: Run, folder: Path, restored: Restored | None, tracker: Tracker | None
) -> Outcome:
    """Train to the end or to the first signal; either way a checkpoint and the files are there afterwards.

    Args:
      restored: from `restore_training`; None begins.
      tracker: what is also told of metrics and evaluations, at their environment steps per seed.
    """
    tracker = tracker or Tracker(lambda step, metrics: None, lambda: None)
    keys, options, test = run.keys(), run.options, _testing(run)

    def look_at(state, history, update):
        episodes = {name: np.asarray(x)[:, None] for name, x in test(keys, state)._asdict().items()}
        newest = {"update": np.array([[update]]), **episodes}
        history.evaluations = _joined(history.evaluations, newest)
        returns = newest["returns"][:, 0].mean(axis=-1)
        tracker.log(update * options.steps_per_update, {"eval_return": returns})

    def keep(state, history, update):
        def write():
            history.write(folder)
            save_state(folder, state, update)

        first_does(write)

    first = restored.first if restored else 0
    chunks = run.chunks(first)
    ends = first + np.cumsum(chunks)
    at = np.ceil(np.arange(1, options.evaluations + 1) * len(ends) / options.evaluations) - 1
    evaluate_at = set(ends[at.astype(int)].tolist())
    programs = {length: _training(run, length) for length in set(chunks)}
    words = "Stopping after this chunk of updates, with a checkpoint; once more stops at once."
    begun = 0 if restored is None else int(np.max(restored.state.update))
    with stop_in_order(words) as stop, closing(tracker), _progress(run, begun) as progress:
        if restored is None:
            progress.set_postfix_str("compiles, and evaluates the untrained policy")
            state, history = distribute(run.initial_state)(keys), History({}, {})
            look_at(state, history, 0)
            keep(state, history, 0)
        else:
            state, history, _ = restored
        progress.set_postfix_str("compiles, and trains the first chunk of updates")
        update, saved, stopping = begun, time.monotonic(), any_of(bool(stop))
        for length, end in zip(chunks, ends.tolist()):
            if stopping or end <= update:
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
            stopping = any_of(bool(stop))
            if stopping or update in evaluate_at or time.monotonic() - saved > SAVE_EVERY:
                keep(state, history, update)
                saved = time.monotonic()
            _show(progress, run, length, history)
    return Outcome(update == run.num_updates, update, **vars(history))


@lru_cache(maxsize=16)  # a run that goes on in the same process compiles nothing again
def _training(run: Run, length: int) -> Callable:
    def program(key, state):
        return train(key, run.algorithm, run.env_params, num_updates=length, state=state)

    return distribute(program, donate=(1,))


@lru_cache(maxsize=16)
def _testing(run: Run) -> Callable:
    def test(key, state):
        return evaluate(
            evaluation_key(key, state.update), run.algorithm, state, run.env, run.env_params,
            num_episodes=run.options.eval_episodes, deterministic=run.options.deterministic,
            max_steps=run.options.eval_max_steps,
        )  # fmt: skip

    return distribute(test)


def _joined(old: Arrays, new: Arrays) -> Arrays:
    """Of all seeds, one after the other in time."""
    return {name: np.concatenate([x, new[name]], axis=1) for name, x in old.items()} or new


def _progress(run: Run, update: int) -> tqdm:
    per_update = run.options.steps_per_update * run.options.seeds
    return tqdm(
        total=run.num_updates * per_update,
        initial=update * per_update,
        unit="step",
        unit_scale=True,
        dynamic_ncols=True,
        disable=not is_first(),
        desc=f"{run.name} {run.options.env}, {run.options.seeds} seeds",
    )


def _show(progress: tqdm, run: Run, length: int, history: History) -> None:
    count = history.metrics["episode_count"][:, -length:].sum()
    if count:
        mean = history.metrics["episode_return_sum"][:, -length:].sum() / count
        progress.set_postfix({"return": f"{mean:.1f}"}, refresh=False)
    progress.update(length * run.options.steps_per_update * run.options.seeds)
