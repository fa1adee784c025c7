"""Time the parts of a training run on this machine: environment, rollout, update, whole training.

    python experiments/benchmark.py ppo --env CartPole-v1 --num-envs 64 --num-steps 128

Compilation is timed apart from steady state. Each figure is the median of the repeats, with the fastest
and the slowest beside it. `environment` steps with random actions, `rollout` with the policy, `update` is
one update of all seeds, rollout included, and `training` is many updates in one program. With
`--against-vmap` training is timed in turns with the same seeds by plain `jax.vmap` on one device.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from experiments.common import command_line, runtime
from experiments.common.defaults import defaults
from experiments.common.options import check_options
from experiments.common.recipes import build_algorithm, build_env
from experiments.common.results import write_json
from experiments.common.runs import Run, check_memory
from purejaxpg.training.sweep import distribute
from purejaxpg.types import PyTree


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
    return command_line.run_program(prepare, benchmark, arguments)


def prepare(arguments: list[str]) -> tuple[Run, BenchmarkOptions]:
    # Compilation is timed. Before anything is compiled: later JAX would not look at it any more.
    jax.config.update("jax_enable_compilation_cache", False)
    name = command_line.algorithm_name(arguments, str(__doc__))
    row = {**defaults(name, command_line.environment_id(arguments)), "seeds": 1}
    options, own = command_line.parse_options(arguments, row, BenchmarkOptions(), str(__doc__))
    check_options(options)
    if min(own.repeats, own.updates) < 1:
        raise ValueError("--repeats and --updates must be at least 1.")
    if own.output is not None:
        if own.output.exists():
            raise FileExistsError(f"{own.output} exists: choose another --output.")
        own.output.parent.mkdir(parents=True, exist_ok=True)
    env, env_params = build_env(options)
    run = Run(name, options, env, env_params, build_algorithm(name, options, env, env_params))
    check_memory(run)
    return run, own


def benchmark(run: Run, own: BenchmarkOptions) -> None:
    options = run.options
    keys = jax.random.split(jax.random.key(options.seed), options.seeds)
    steps = options.steps_per_update * options.seeds
    print(
        f"{run.name} on {options.env}: {options.seeds} seed(s), {options.num_envs} environments x "
        f"{options.num_steps} steps; {', '.join(map(str, jax.devices()))}"
    )
    print(
        f"{'part':14}{'compile s':>10}{'median ms':>11}{'fastest':>10}{'slowest':>10}{'steps/s':>13}"
    )
    figures: dict[str, dict[str, float]] = {}

    def keep(part: str, figure: dict[str, float], updates: int) -> None:
        figure["steps_per_second"] = steps * updates / figure["median_seconds"]
        figures[part] = figure
        print(f"{part:14}{figure['compile_seconds']:10.2f}{1e3 * figure['median_seconds']:11.2f}"
              f"{1e3 * figure['min_seconds']:10.2f}{1e3 * figure['max_seconds']:10.2f}"
              f"{figure['steps_per_second']:13,.0f}")  # fmt: skip

    state = jax.block_until_ready(distribute(run.initial_state)(keys))
    programs = parts(run, own.updates)
    for part, program in programs.items():
        given = (keys,) if part == "environment" else (keys, state)
        updates = own.updates if part == "training" else 1
        (figure,) = measure((distribute(program), given), repeats=own.repeats)
        keep(part, figure, updates)
    ratio = None
    if own.against_vmap:
        program, one = programs["training"], jax.device_put((keys, state), jax.devices()[0])
        ways = (distribute(program), (keys, state)), (jax.jit(jax.vmap(program)), one)
        sharded, plain = measure(*ways, repeats=own.repeats)
        keep("sharded", sharded, own.updates)
        keep("plain vmap", plain, own.updates)
        ratio = plain["median_seconds"] / sharded["median_seconds"]
        print(f"sharded is {ratio:.2f} times as fast as plain vmap")
    peak = peak_memory()
    print(f"peak memory {peak / 2**20:,.0f} MiB")
    if own.output is not None:
        content = {
            "algorithm": run.name,
            "config": dataclasses.asdict(options),
            "updates": own.updates,
            "repeats": own.repeats,
            "figures": figures,
            "times_as_fast_as_vmap": ratio,
            "peak_memory_bytes": peak,
            "versions": runtime.describe(),
        }
        write_json(own.output, content)


def parts(run: Run, updates: int) -> dict[str, Callable]:
    """Name -> program of a key and a state; `environment` takes no state."""
    env, env_params, algorithm = run.env, run.env_params, run.algorithm
    num_envs, num_steps = run.options.num_envs, run.options.num_steps

    def play(key, act, memory):
        loop = pg.begin(key, env, env_params, memory, num_envs=num_envs)
        return digest(pg.unroll(key, env, env_params, act, loop, num_steps=num_steps))

    def environment(key):
        def act(key, memory, obs, start):
            return random_actions(key, env.action_space(env_params), num_envs), memory

        return play(key, act, ())

    def rollout(key, state):
        def act(key, memory, obs, start):
            return algorithm.act(key, state, memory, obs, start, env_params=env_params)

        return play(key, act, algorithm.initial_memory(num_envs))

    def update(key, state):
        state, _, metrics = algorithm.step(key, state, env_params)
        return state, metrics

    def training(key, state):
        return pg.train(key, algorithm, env_params, num_updates=updates, state=state)

    return {"environment": environment, "rollout": rollout, "update": update, "training": training}


def random_actions(key: jax.Array, space: Any, num_envs: int) -> jax.Array:
    if isinstance(space, pg.Box):
        return jax.random.normal(key, (num_envs, *space.shape))
    return jax.random.randint(key, (num_envs,), 0, space.n)


def digest(tree: PyTree) -> jax.Array:
    """One number that depends on every leaf, so that nothing is optimised away or copied out."""
    return sum((jnp.sum(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(tree)), jnp.zeros(()))


def measure(*ways: tuple[Callable, tuple], repeats: int) -> list[dict[str, float]]:
    """Time calls of functions with their arguments, in turns; the first one compiles."""
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(1 + repeats):
        for seconds, (call, arguments) in zip(taken, ways):
            began = time.perf_counter()
            jax.block_until_ready(call(*arguments))
            seconds.append(time.perf_counter() - began)
    return [summary(first, rest) for first, *rest in taken]


def summary(first: float, rest: list[float]) -> dict[str, float]:
    median = float(np.median(rest))
    return {
        "compile_seconds": max(0.0, first - median),
        "median_seconds": median,
        "min_seconds": min(rest),
        "max_seconds": max(rest),
    }


def peak_memory() -> int:
    """Bytes, at their peak: of the device where it says so, of the process elsewhere, 0 if nothing says."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return int(statistics["peak_bytes_in_use"])
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
