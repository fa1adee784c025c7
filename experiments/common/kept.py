"""Policies that a sweep keeps: first in parts beside its table, then in folders as train.py writes them.

A part holds the last states of the runs of a chunk, and the seconds that each of them took. Parts make a
sweep with kept policies as safe as its table is; they go when the folders that are made of them are there.
"""

import os
import shlex
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import runtime
from experiments.common.algorithms import CHOICE_FLAGS
from experiments.common.defaults import defaults
from experiments.common.options import fill, words_of
from experiments.common.parts import part_path
from experiments.common.plan import Group, Plan
from experiments.common.results import (
    ResultsError,
    read_arrays,
    save_state,
    write_arrays,
    write_json,
)
from purejaxpg.training import checkpoint
from purejaxpg.types import PyTree

Keep = Literal["none", "best", "all"]
_NO_METRICS = ("configuration", "seed", "update", "diverged", "evaluated", "eval_return")


def states_path(folder: Path, group: int, start: int) -> Path:
    """The checkpoint of the chunk of a group's runs that begins with this one."""
    return folder / "states" / part_path(folder, group, start).stem


def kept_path(folder: Path, configuration: int) -> Path:
    return folder / "configurations" / f"{configuration:03d}"


def announcement(plan: Plan, keep: Keep) -> str:
    """How much will be written, from shapes alone."""
    sizes = [_bytes(group) * group.run.options.seeds for group in plan.groups]  # a configuration's
    total = sum(size * len(group.configurations) for size, group in zip(sizes, plan.groups))
    number = len(plan.configurations)
    stay = total if keep == "all" else max(sizes)
    return (
        f"--keep {keep}: the states of {number} configurations take {total / 2**20:,.1f} MiB while "
        f"the sweep goes on, and what is kept {stay / 2**20:,.1f} MiB."
    )


def _bytes(group: Group) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(_like(group, 1)))


def _like(group: Group, runs: int) -> PyTree:
    """Shapes and types of so many states; nothing is computed."""
    state = jax.eval_shape(group.run.initial_state, jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((runs, *x.shape), x.dtype), state)


def _like_part(group: Group, runs: int) -> PyTree:
    return {
        "state": _like(group, runs),
        "seconds": jax.ShapeDtypeStruct((runs,), np.float32),
    }


def write_states(path: Path, state: PyTree, seconds: float) -> None:
    """Write the states `[runs, ...]` of a chunk that took so long; what is there of an earlier try goes."""
    shutil.rmtree(path, ignore_errors=True)
    runs = len(jax.tree.leaves(state)[0])
    checkpoint.save(path, {"state": state, "seconds": np.full(runs, seconds / runs, np.float32)})


def has_states(folder: Path, keep: Keep, group: Group, path: Path, index: np.ndarray) -> bool:
    """Whether the states of these runs of a group can be read, or are not needed any more."""
    if keep == "none":
        return True
    if keep == "best" and any((folder / "configurations").glob("[0-9]*")):
        return True
    numbers = np.unique(group.first + index // group.run.options.seeds).tolist()
    if all(kept_path(folder, number).is_dir() for number in numbers):
        return True
    try:
        checkpoint.restore(path, _like_part(group, len(index)))
    except (ValueError, FileNotFoundError):
        return False
    return True


def keeper(folder: Path, plan: Plan, chunk_sizes: list[int]) -> Callable[[int], None]:
    """A function of the number of a configuration, which makes its folder of table and states."""

    @lru_cache(maxsize=1)  # neighbours share parts
    def read(which: int, start: int) -> tuple[dict[str, np.ndarray], PyTree]:
        columns = read_arrays(part_path(folder, which, start))
        runs = len(columns["seed"]) // len(np.unique(columns["update"]))
        like = _like_part(plan.groups[which], runs)
        try:
            part = checkpoint.restore(states_path(folder, which, start), like)
        except ValueError as error:  # whole when it was written or last looked at
            raise ResultsError(f"{error} With --resume it is computed again.") from None
        return {name: x.reshape(runs, -1) for name, x in columns.items()}, part

    def keep(number: int) -> None:
        path = kept_path(folder, number)
        if path.exists():
            return
        which = max(i for i, group in enumerate(plan.groups) if group.first <= number)
        group, size = plan.groups[which], chunk_sizes[which]
        seeds = group.run.options.seeds
        first = (number - group.first) * seeds
        found = []
        for start in range(first // size * size, first + seeds, size):
            mine = slice(max(first - start, 0), first + seeds - start)
            found.append(jax.tree.map(lambda x, mine=mine: x[mine], read(which, start)))
        tables, parts = zip(*found)
        columns = {name: np.concatenate([x[name] for x in tables]) for name in tables[0]}
        part = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
        unfinished = path.with_name(f".tmp-{path.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _write_run(unfinished, group, plan.config(), number, columns, part)
        os.rename(unfinished, path)

    return keep


def _write_run(
    folder: Path,
    group: Group,
    plan: dict[str, Any],
    number: int,
    columns: dict[str, np.ndarray],
    part: PyTree,
) -> None:
    """What train.py would have written of a configuration, `[seeds, updates + 1]` in every column."""
    no_metrics = (*_NO_METRICS, *group.configurations[0])
    metrics = {name: x[:, 1:] for name, x in columns.items() if name not in no_metrics}
    seconds = np.array(float(np.sum(part["seconds"])))
    write_arrays(folder / "metrics.npz", metrics | {"seconds": seconds})
    evaluated = columns["evaluated"][0]
    returns = columns["eval_return"][:, evaluated, None]  # means, each as a single episode
    unknown = np.zeros(returns.shape, np.int32), np.zeros(returns.shape, bool)
    evaluations = {
        "update": columns["update"][:1, evaluated].astype(int),
        "returns": returns,
        "lengths": unknown[0],
        "completed": unknown[1],
        "finite": np.isfinite(returns),
    }
    write_arrays(folder / "evaluations.npz", evaluations)
    content = {"kind": "run", "config": run_config(plan, number), "chunks": group.run.chunks()}
    write_json(folder / "config.json", content | {"versions": runtime.describe()})
    save_state(folder, part["state"], group.run.num_updates)


def remove_states(folder: Path) -> None:
    shutil.rmtree(folder / "states", ignore_errors=True)


def run_config(plan: dict[str, Any], number: int) -> dict[str, Any]:
    """What train.py would call the configuration of a run, for one of a plan (`Plan.config`)."""
    for group in plan["groups"]:
        rows = list(zip(*group["hyperparameters"].values())) or [()]
        if number < len(rows):
            return {**group["options"], **dict(zip(group["hyperparameters"], rows[number]))}
        number -= len(rows)
    raise IndexError(number)


def advice(folder: Path, plan: dict[str, Any], number: int) -> list[str]:
    """Two commands that find out what the best of a sweep is worth, each after a sentence on why."""
    name, config = plan["algorithm"], run_config(plan, number)
    lines = [
        "The best of many is chosen by its returns, so they are biased upwards by the selection."
    ]
    path = kept_path(folder, number)
    if path.is_dir():
        lines += [
            "Fresh episodes of its policies are free of the luck of the episodes:",
            shlex.join(["python", "experiments/evaluate.py", str(path), "--episodes", "100"]),
        ]
    options = vars(fill(name, config))
    # Which decide on the other options.
    chosen: dict[str, Any] = {x: options[x] for x in CHOICE_FLAGS if x in options}
    usual = vars(fill(name, {**defaults(name, config["env"]), **chosen}))
    own = ("env", "seed", "seeds", *chosen)
    other = {x: value for x, value in options.items() if x not in own and value != usual[x]}
    fresh = {
        "env": options["env"],
        "seed": options["seed"] + options["seeds"],
        "seeds": options["seeds"],
        **chosen,
        **other,
        "output": str(folder.parent),
        "name": f"{folder.name}-{number:03d}-fresh",
    }
    lines += [
        "Fresh seeds are free of the luck of the seeds as well:",
        shlex.join(["python", "experiments/train.py", name, *words_of(fresh)]),
    ]
    return lines
