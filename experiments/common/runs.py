"""A checked run: its options, and what they build."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from experiments.common.algorithms import ALGORITHMS
from experiments.common.options import RunOptions, check_options, fill
from experiments.common.recipes import build_algorithm, build_env
from purejaxpg.training.train import begin_training, train
from purejaxpg.types import Algorithm, Env, PyTree

CHUNKS = 50
"""Calls of the compiled program per run, about: each one shows progress and can be stopped after."""


def seed_keys(options: Any) -> jax.Array:
    """`[seeds]`: the keys of the seeds that options with `seed` and `seeds` speak of."""
    return jax.vmap(jax.random.key)(np.arange(options.seed, options.seed + options.seeds))


@dataclass(frozen=True)
class Run:
    """A checked run, ready to go."""

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

    def chunks(self) -> list[int]:
        """Numbers of updates that sum to `num_updates`, all alike where a divisor allows it."""
        total = self.num_updates
        wanted = max(1, total // CHUNKS)
        length = next((n for n in range(wanted, 4 * wanted + 1) if total % n == 0), wanted)
        whole, rest = divmod(total, length)
        return [length] * whole + ([rest] if rest else [])


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
    env, env_params = build_env(options)
    algorithm = build_algorithm(name, options, env, env_params)
    run = Run(name, options, env, env_params, algorithm)

    def one_update(key):
        return train(key, algorithm, env_params, num_updates=1)

    jax.eval_shape(one_update, jax.random.key(0))  # networks, spaces and parameters must fit
    return run


def run_from_config(config: Mapping[str, Any]) -> Run:
    """The run that a stored configuration (`Run.config`) describes."""
    name = config.get("algorithm")
    if name not in ALGORITHMS:
        raise ValueError(f"Unknown algorithm {name!r} in a configuration.")
    return make_run(name, fill(name, config))
