"""The host's side of a training run: chunks of updates, progress, evaluations, files."""

import dataclasses
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from recipes import RunOptions
from results import Arrays, read_arrays, restore_state, save_state, write_arrays
from tqdm import tqdm

from purejaxpg.sweep import distribute
from purejaxpg.train import evaluate, evaluation_key, train
from purejaxpg.types import Algorithm, Env, PyTree

CHUNKS = 50
"""Calls of the compiled program per run, about: each one shows progress and can be stopped after."""
SAVE_EVERY = 30.0
"""Seconds between checkpoints, at least; there is one at each evaluation as well."""


@dataclass(frozen=True)
class Run:
    """A checked run, ready to go."""

    name: str
    options: RunOptions
    algorithm_options: Any
    env: Env
    env_params: PyTree
    algorithm: Algorithm

    @property
    def num_updates(self) -> int:
        return self.options.total_steps // self.algorithm_options.steps_per_update

    def config(self) -> dict[str, Any]:
        """What determines the result, as plain JSON."""
        options = dataclasses.asdict(self.options) | dataclasses.asdict(self.algorithm_options)
        return json.loads(json.dumps({"algorithm": self.name, **options}))

    def keys(self) -> jax.Array:
        """`[seeds]`: seed i of a run does not depend on how many there are."""
        first = self.options.seed
        return jax.vmap(jax.random.key)(np.arange(first, first + self.options.seeds))

    def chunks(self) -> list[int]:
        """Numbers of updates that sum to `num_updates`, all alike where a divisor allows it."""
        total = self.num_updates
        wanted = max(1, total // CHUNKS)
        divisors = [n for n in range(wanted, 4 * wanted + 1) if total % n == 0]
        length = divisors[0] if divisors else wanted
        whole, rest = divmod(total, length)
        return [length] * whole + ([rest] if rest else [])


@dataclass
class History:
    """What a run has shown so far: metrics `[seeds, updates]`, evaluations `[seeds, times, episodes]`."""

    metrics: list[Arrays]
    evaluations: list[Arrays]
    seconds: float = 0.0

    def append_metrics(self, metrics: Any) -> None:
        self.metrics.append({name: np.asarray(value) for name, value in metrics.items()})

    def append_evaluation(self, update: int, episodes: Any) -> None:
        arrays = {name: np.asarray(x)[:, None] for name, x in episodes._asdict().items()}
        self.evaluations.append({"update": np.array([[update]]), **arrays})

    def write(self, folder: Path) -> None:
        write_arrays(
            folder / "metrics.npz", {**_join(self.metrics), "seconds": np.array(self.seconds)}
        )
        write_arrays(folder / "evaluations.npz", _join(self.evaluations))

    @classmethod
    def read(cls, folder: Path, update: int) -> "History":
        """As it was after so many updates; what was written later is done again."""
        metrics, evaluations = (
            read_arrays(folder / "metrics.npz"),
            read_arrays(folder / "evaluations.npz"),
        )
        seconds = float(metrics.pop("seconds"))
        times = int(np.sum(evaluations["update"] <= update))
        return cls(
            [{name: x[:, :update] for name, x in metrics.items()}],
            [{name: x[:, :times] for name, x in evaluations.items()}],
            seconds,
        )


@dataclass(frozen=True)
class Outcome:
    finished: bool
    update: int
    metrics: Arrays
    evaluations: Arrays
    seconds: float


def run_training(run: Run, folder: Path, *, resume: bool) -> Outcome:
    """Train to the end or to Ctrl-C; either way a checkpoint and the files are there afterwards."""
    keys, options = run.keys(), run.options
    continue_training = partial(_continue, run.algorithm, run.env_params)

    @distribute
    def test(key, state):
        return evaluate(
            evaluation_key(key, state.update),
            run.algorithm,
            state,
            run.env,
            run.env_params,
            num_episodes=options.eval_episodes,
            deterministic=options.deterministic,
        )

    begin = distribute(lambda key: train(key, run.algorithm, run.env_params, num_updates=0)[0])
    if resume:
        state = restore_state(folder, jax.eval_shape(begin, keys))
        update = int(np.max(state.update))
        history = History.read(folder, update)
    else:
        state, update, history = begin(keys), 0, History([], [])
        history.append_evaluation(0, test(keys, state))

    chunks = run.chunks()
    ends = np.cumsum(chunks)
    at = np.ceil(np.arange(1, options.evaluations + 1) * len(ends) / options.evaluations) - 1
    evaluate_at = set(ends[at.astype(int)].tolist())
    programs = {n: distribute(continue_training(n), donate=(1,)) for n in set(chunks)}
    saved = time.monotonic()
    with _stop_on_interrupt() as stop, _progress(run, update) as progress:
        for length, end in zip(chunks, ends.tolist()):
            if end <= update:
                continue
            began = time.monotonic()
            state, metrics = jax.block_until_ready(programs[length](keys, state))
            history.seconds += time.monotonic() - began
            update = end
            history.append_metrics(metrics)
            if update in evaluate_at:
                history.append_evaluation(update, test(keys, state))
            if stop or update in evaluate_at or time.monotonic() - saved > SAVE_EVERY:
                history.write(folder)
                save_state(folder, state, update)
                saved = time.monotonic()
            _show(progress, run, length, history)
            if stop:
                break
    finished = update == run.num_updates
    return Outcome(
        finished, update, _join(history.metrics), _join(history.evaluations), history.seconds
    )


def _continue(algorithm: Algorithm, env_params: PyTree, num_updates: int):
    def program(key, state):
        return train(key, algorithm, env_params, num_updates=num_updates, state=state)

    return program


def _join(parts: list[Arrays]) -> Arrays:
    if not parts:
        return {}
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


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
    per_update = run.algorithm_options.steps_per_update * run.options.seeds
    return tqdm(
        total=run.num_updates * per_update,
        initial=update * per_update,
        unit="step",
        unit_scale=True,
        dynamic_ncols=True,
        desc=f"{run.name} {run.options.env}, {run.options.seeds} seeds",
    )


def _show(progress: tqdm, run: Run, length: int, history: History) -> None:
    newest = history.metrics[-1]
    count = newest["episode_count"].sum()
    if count:
        progress.set_postfix(
            {"return": f"{newest['episode_return_sum'].sum() / count:.1f}"}, refresh=False
        )
    progress.update(length * run.algorithm_options.steps_per_update * run.options.seeds)
