"""Time the parts of a training run on this machine: environment, rollout, update, whole training.

    python experiments/benchmark.py ppo --env CartPole-v1 --num-envs 64 --num-steps 128

Compilation is timed apart from steady state. Each figure is the median of the repeats, with the fastest
and the slowest beside it. `environment` steps with random actions, `rollout` with the policy, `update` is
one update of all seeds, rollout included, and `training` is many updates in one program. With
`--against-vmap` training is timed in turns with the same seeds by plain `jax.vmap` on one device.
"""

import dataclasses
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import runtime
from experiments.common.command_line import algorithm_name, environment_id, parse_options
from experiments.common.defaults import defaults
from experiments.common.options import check_options
from experiments.common.recipes import build_algorithm, build_env
from experiments.common.results import write_json
from purejaxpg.agent.rollout import begin, unroll
from purejaxpg.training.sweep import distribute
from purejaxpg.training.train import begin_training, train
from purejaxpg.types import Algorithm, Box, Env, PyTree


@dataclass(frozen=True)
class BenchmarkOptions:
    repeats: int = 5
    """Timed calls of each part, after one that is not timed."""
    updates: int = 20
    """Updates of the whole training."""
    against_vmap: bool = False
    """Time training by plain jax.vmap as well."""
    output: Path | None = None
    """JSON file to write the figures to."""


def main(arguments: list[str]) -> int:
    runtime.set_up()
    # Compilation is timed. Before anything is compiled: later JAX would not look at it any more.
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        name = algorithm_name(arguments, str(__doc__))
        run, options = parse(name, arguments)
        env, env_params = build_env(run)
        algorithm = build_algorithm(name, run, env, env_params)
    except (ValueError, TypeError, ConnectionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    keys = jax.random.split(jax.random.key(run.seed), run.seeds)
    steps = run.steps_per_update * run.seeds
    programs = parts(algorithm, env, env_params, run, options.updates)
    print(
        f"{name} on {run.env}: {run.seeds} seed(s), {run.num_envs} environments x "
        f"{run.num_steps} steps; {', '.join(map(str, jax.devices()))}"
    )
    print(
        f"{'part':14}{'compile s':>10}{'median ms':>11}{'fastest':>10}{'slowest':>10}{'steps/s':>13}"
    )
    figures = {}
    begin_run = partial(begin_training, algorithm=algorithm, env_params=env_params)
    state = jax.block_until_ready(distribute(begin_run)(keys))
    for part, (program, needs_state, updates) in programs.items():
        figure = measure(program, (keys, state) if needs_state else (keys,), options.repeats)
        figure["steps_per_second"] = steps * updates / figure["median_seconds"]
        figures[part] = figure
        show(part, figure)
    ratio = None
    if options.against_vmap:
        ratio = compare(programs["training"][0], keys, state, options.repeats, figures)
        for part in ("sharded", "plain vmap"):
            figures[part]["steps_per_second"] = (
                steps * options.updates / figures[part]["median_seconds"]
            )
            show(part, figures[part])
        print(f"sharded is {ratio:.2f} times as fast as plain vmap")
    peak = peak_memory()
    print(f"peak memory {peak / 2**20:,.0f} MiB")
    if options.output is not None:
        content = {
            "algorithm": name,
            "config": dataclasses.asdict(run),
            "updates": options.updates,
            "repeats": options.repeats,
            "figures": figures,
            "times_as_fast_as_vmap": ratio,
            "peak_memory_bytes": peak,
            "versions": runtime.describe(),
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.output, content)
    return 0


def parse(name: str, arguments: list[str]) -> tuple[Any, BenchmarkOptions]:
    row = {**defaults(name, environment_id(arguments)), "seeds": 1}
    options, own = parse_options(
        arguments, row, BenchmarkOptions(), program="benchmark.py", description=str(__doc__)
    )
    check_options(options)
    if min(own.repeats, own.updates) < 1:
        raise ValueError("--repeats and --updates must be at least 1.")
    return options, own


def parts(
    algorithm: Algorithm, env: Env, env_params: PyTree, run: Any, updates: int
) -> dict[str, tuple[Callable, bool, int]]:
    """Name -> program of (key[, state]), whether it wants a state, and updates' worth of steps."""
    num_envs, num_steps = run.num_envs, run.num_steps

    def environment(key):
        def act(key, memory, obs, start):
            return random_actions(key, env.action_space(env_params), num_envs), memory

        loop = begin(key, env, env_params, (), num_envs=num_envs)
        return digest(unroll(key, env, env_params, act, loop, num_steps=num_steps))

    def rollout(key, state):
        def act(key, memory, obs, start):
            return algorithm.act(key, state, memory, obs, start, env_params=env_params)

        loop = begin(key, env, env_params, algorithm.initial_memory(num_envs), num_envs=num_envs)
        return digest(unroll(key, env, env_params, act, loop, num_steps=num_steps))

    def update(key, state):
        state, _, metrics = algorithm.step(key, state, env_params)
        return state, metrics

    def training(key, state):
        return train(key, algorithm, env_params, num_updates=updates, state=state)

    return {
        "environment": (environment, False, 1),
        "rollout": (rollout, True, 1),
        "update": (update, True, 1),
        "training": (training, True, updates),
    }


def random_actions(key: jax.Array, space: Any, num_envs: int) -> jax.Array:
    if isinstance(space, Box):
        return jax.random.normal(key, (num_envs, *space.shape))
    return jax.random.randint(key, (num_envs,), 0, space.n)


def digest(tree: PyTree) -> jax.Array:
    """One number that depends on every leaf, so that nothing is optimised away or copied out."""
    return sum((jnp.sum(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(tree)), jnp.zeros(()))


def show(part: str, figure: dict[str, float]) -> None:
    print(f"{part:14}{figure['compile_seconds']:10.2f}{1e3 * figure['median_seconds']:11.2f}"
          f"{1e3 * figure['min_seconds']:10.2f}{1e3 * figure['max_seconds']:10.2f}"
          f"{figure['steps_per_second']:13,.0f}")  # fmt: skip


def measure(program: Callable, arguments: tuple, repeats: int) -> dict[str, float]:
    call = distribute(program)
    first, *rest = (seconds(call, arguments) for _ in range(1 + repeats))
    return summary(first, rest)


def compare(
    program: Callable, keys: jax.Array, state: PyTree, repeats: int, figures: dict[str, Any]
) -> float:
    """Time a program over devices and by plain vmap on one, in turns. Returns how many times as fast."""
    one = jax.device_put((keys, state), jax.devices()[0])
    ways: dict[str, tuple[Callable, tuple]] = {
        "sharded": (distribute(program), (keys, state)),
        "plain vmap": (jax.jit(jax.vmap(program)), one),
    }
    taken = [{name: seconds(*way) for name, way in ways.items()} for _ in range(1 + repeats)]
    for name in ways:
        first, *rest = (turn[name] for turn in taken)
        figures[name] = summary(first, rest)
    return figures["plain vmap"]["median_seconds"] / figures["sharded"]["median_seconds"]


def seconds(call: Callable, arguments: tuple) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call(*arguments))
    return time.perf_counter() - began


def summary(first: float, rest: list[float]) -> dict[str, float]:
    median = float(np.median(rest))
    return {
        "compile_seconds": max(0.0, first - median),
        "median_seconds": median,
        "min_seconds": min(rest),
        "max_seconds": max(rest),
    }


def peak_memory() -> int:
    """Bytes, at their peak: of the device where it says so, of the process elsewhere."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(statistics.get("peak_bytes_in_use", process))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
