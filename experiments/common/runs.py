"""A checked run: its options, and what they build."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from experiments.common.algorithms import ALGORITHMS
from experiments.common.options import RunOptions, check_options, fill
from experiments.common.recipes import build_algorithm, build_env
from purejaxpg.agent.rollout import begin
from purejaxpg.arguments import Count, check
from purejaxpg.training.sweep import memory_limit_of
from purejaxpg.training.train import begin_training, train
from purejaxpg.types import Algorithm, Env, PyTree

CHUNKS = 50
"""Calls of the compiled program per run, about: each one shows progress and can be stopped after."""


def seed_keys(options: Any) -> jax.Array:
    """`[seeds]`: the keys of the seeds that options with `seed` and `seeds` speak of."""
    return jax.vmap(jax.random.key)(np.arange(options.seed, options.seed + options.seeds))


@dataclass(frozen=True, eq=False)
class Run:
    """A checked run, ready to go. The same options give the same object, and so the same compiled programs."""

    name: str
    options: Any
    """Of the type that `options_type` makes for the algorithm: `RunOptions`, and the algorithm's own."""
    env: Env
    env_params: PyTree
    algorithm: Algorithm

    @property
    def num_updates(self) -> int:
        return self.options.num_updates

    def config(self) -> dict[str, Any]:
        """What determines the result, as plain JSON."""
        options = dataclasses.asdict(self.options)
        return json.loads(json.dumps({"algorithm": self.name, **options}))

    def algorithm_with(self, values: Mapping[str, Any]) -> Algorithm:
        """The algorithm with other values of real-valued options, which may be traced."""
        options = dataclasses.replace(self.options, **values)
        return build_algorithm(self.name, options, self.env, self.env_params)

    def initial_state(self, key: jax.Array) -> PyTree:
        """The state in which the seed with this key begins."""
        return begin_training(key, self.algorithm, self.env_params)

    def like(self) -> PyTree:
        """Shapes `[seeds, ...]` and types of the states of all seeds; nothing is computed."""
        return jax.eval_shape(jax.vmap(self.initial_state), self.keys())

    def keys(self) -> jax.Array:
        """`[seeds]`: seed i of a run does not depend on how many there are."""
        return seed_keys(self.options)

    def chunks(self, first: int = 0) -> list[int]:
        """Numbers of updates that sum to `num_updates - first`, all alike where a divisor allows it.

        There are as many as evaluations, at least, if there are as many updates.
        """
        total = self.num_updates - first
        longest = max(1, total // min(total, self.options.evaluations)) if total else 1
        wanted = min(max(1, total // CHUNKS), longest)
        divisors = (n for n in range(wanted, min(4 * wanted, longest) + 1) if total % n == 0)
        length = next(divisors, wanted)
        whole, rest = divmod(total, length)
        return [length] * whole + ([rest] if rest else [])


def check_memory(run: Run) -> None:
    """Refuse so many seeds that not even their states fit into memory, before any is asked for.

    Raises:
      ValueError: they do not, or their evaluations do not.
    """
    state = jax.eval_shape(run.initial_state, jax.random.key(0))
    _check_fits("--seeds", run.options.seeds, state, 1)
    check_episodes(run, run.options.seeds, "--eval-episodes", run.options.eval_episodes)


def check_episodes(run: Run, seeds: int, flag: str, number: int) -> None:
    """Refuse so many episodes at once that not even their environments fit into memory.

    Raises:
      ValueError: they do not.
    """

    def one(key):
        memory = run.algorithm.initial_memory(1)
        return begin(key, run.env, run.env_params, memory, num_envs=1)

    _check_fits(flag, number, jax.eval_shape(one, jax.random.key(0)), seeds)


def _check_fits(flag: str, number: int, one: PyTree, times: int) -> None:
    """Raise ValueError if so many of `times` such trees are more than memory holds."""
    devices = tuple(jax.local_devices())
    each = times * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(one))
    limit = memory_limit_of(devices) * len(devices)
    if each * number > limit:
        raise ValueError(
            f"{flag} {number:,} at once need at least {each * number / 2**30:,.0f} GiB, "
            f"{limit / 2**30:,.0f} are allowed: at most {limit // each:,} fit."
        )


def make_run(name: str, options: RunOptions) -> Run:
    """Check options, and build what they describe. Nothing compiles yet.

    Raises:
      ValueError, TypeError, ConnectionError: one sentence that says what makes no sense.
    """
    check_options(options)
    if options.num_updates < 1:
        raise ValueError(
            f"--total-steps must be at least {options.steps_per_update}, the steps of one "
            f"update, not {options.total_steps}."
        )
    check("The number of updates", options.num_updates, Count)
    return _built(ALGORITHMS[name], name, _ByText(options))


class _ByText:
    """Options, whose dictionaries have no hash, as an argument of a function with a cache."""

    def __init__(self, options: RunOptions):
        self.options, self.text = options, repr(options)

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByText) and self.text == other.text


@lru_cache(maxsize=16)
def _built(function: Callable, name: str, by_text: _ByText) -> Run:
    """The run of an algorithm's function and options that were checked."""
    options = by_text.options
    env, env_params = build_env(options)
    algorithm = build_algorithm(name, options, env, env_params)

    def one_update(key):
        return train(key, algorithm, env_params, num_updates=1)

    jax.eval_shape(one_update, jax.random.key(0))  # networks, spaces and parameters must fit
    return Run(name, options, env, env_params, algorithm)


def run_from_config(config: Mapping[str, Any]) -> Run:
    """The run that a stored configuration (`Run.config`) describes."""
    name = config.get("algorithm")
    if name not in ALGORITHMS:
        raise ValueError(f"Unknown algorithm {name!r} in a configuration.")
    return make_run(name, fill(name, config))
