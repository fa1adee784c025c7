"""TRPO here and in sb3-contrib: the same environments, budget and hyperparameters; returns and speed.

    python experiments/studies/compare_sb3.py --output results/trpo-against-sb3-contrib.json

The other side needs `pip install sb3-contrib`. A side that the file does not hold yet is added to it, so that
each may run in an environment of its options. Compilation, and sb3-contrib's first update, are not timed.
"""

import dataclasses
import importlib.util
import itertools
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

import purejaxpg as pg
from experiments.common import runtime
from experiments.common.command_line import read_options, run_program
from experiments.common.options import fill
from experiments.common.results import read_json, write_json
from experiments.common.runs import Run, make_run
from purejaxpg.reporting.statistics import iqm
from purejaxpg.training.sweep import distribute

COMMON = {"num_envs": 2, "cg_steps": 15, "value_learning_rate": 1e-3, "max_grad_norm": 1e9}
CARTPOLE = {"num_steps": 512, "damping": 1e-3, "gae_lambda": 0.98, "num_value_epochs": 20}
PENDULUM = {"num_steps": 1024, "discount": 0.9, "num_value_epochs": 15}
ROWS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {**COMMON, **CARTPOLE, "num_value_minibatches": 8},  # of 128 samples
    "Pendulum-v1": {**COMMON, **PENDULUM, "num_value_minibatches": 16},
}
"""Those of rl-baselines3-zoo without its state-dependent exploration; sb3-contrib clips no gradient."""


@dataclass(frozen=True)
class Options:
    output: Path
    """JSON file that the results are written or added to."""
    sides: tuple[Literal["purejaxpg", "sb3-contrib"], ...] = ("purejaxpg", "sb3-contrib")
    """Which to run."""
    envs: tuple[Literal["CartPole-v1", "Pendulum-v1"], ...] = ("CartPole-v1", "Pendulum-v1")
    """Environments."""
    seeds: int = 10
    """Runs of each side."""
    seed: int = 0
    """The first one's."""
    total_steps: int = 100_000
    """Environment steps of each run, rounded down to whole updates."""
    eval_episodes: int = 128
    """Episodes of each final policy with sampled actions, and again with its mode."""


def main(arguments: list[str]) -> int:
    return run_program(prepare, compare, arguments)


def prepare(arguments: list[str]) -> tuple[Options, list[Run], dict[str, Any]]:
    """Options, a run for each environment, and what the file holds already."""
    options = read_options(Options, arguments)
    if "sb3-contrib" in options.sides and importlib.util.find_spec("sb3_contrib") is None:
        raise ValueError("sb3-contrib is not installed: pip install sb3-contrib.")
    rows = [{**dataclasses.asdict(options), "env": env, **ROWS[env]} for env in options.envs]
    runs = [make_run("trpo", fill("trpo", row)) for row in rows]
    results = read_json(options.output) if options.output.exists() else {}
    if any(set(options.sides) & set(results.get(env, {})) for env in options.envs):
        raise ValueError(f"{options.output} holds such results: choose another --output.")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    return options, runs, results


def compare(options: Options, runs: list[Run], results: dict[str, Any]) -> None:
    for run, side in itertools.product(runs, options.sides):
        found = {"config": run.config(), **(ours if side == "purejaxpg" else theirs)(run)}
        results.setdefault(run.options.env, {})[side] = found
        write_json(options.output, results)
        for policy in ("sampled", "mode"):
            means = np.array(found[policy])
            shown = f"{iqm(means):.1f}, {means.min():.1f} to {means.max():.1f}"
            print(f"{run.options.env}, {side}, {policy}: IQM of {len(means)} seeds {shown}")
        print(f"{run.options.env}, {side}, steps/s: {found['steps_per_second']}", flush=True)


def ours(run: Run) -> dict[str, Any]:
    def training(key):
        return pg.train(key, run.algorithm, run.env_params, num_updates=run.num_updates)[0]

    @distribute
    def test(key, state):
        def mean(key, deterministic):
            return pg.evaluate(
                key, run.algorithm, state, run.env, run.env_params,
                num_episodes=run.options.eval_episodes, deterministic=deterministic,
            ).returns.mean()  # fmt: skip

        sampled_key, mode_key = jax.random.split(jax.random.fold_in(key, 1))
        return mean(sampled_key, False), mean(mode_key, True)

    keys, steps = run.keys(), run.num_updates * run.options.steps_per_update
    program, seconds, speed = distribute(training), {}, {}
    for number in sorted({1, len(keys)}):
        marks = [time.perf_counter()]
        for _ in range(2):  # the first call compiles
            states = jax.block_until_ready(program(keys[:number]))
            marks.append(time.perf_counter())
        first, second = np.diff(marks).tolist()
        seconds[f"{number} at once"] = {"compilation": first - second, "training": second}
        speed[f"{number} at once"] = number * steps / second
    sampled, mode = (np.asarray(x, float).tolist() for x in test(keys, states))
    return {
        "sampled": sampled,
        "mode": mode,
        "seconds": seconds,
        "steps_per_second": speed,
        "versions": runtime.describe(),
    }


def theirs(run: Run) -> dict[str, Any]:
    from sb3_contrib import TRPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    options = run.options
    steps = run.num_updates * options.steps_per_update

    def begin(seed: int) -> Any:
        return TRPO(
            "MlpPolicy", make_vec_env(options.env, options.num_envs, seed=seed), seed=seed, device="cpu",
            n_steps=options.num_steps, batch_size=options.steps_per_update // options.num_value_minibatches,
            learning_rate=options.value_learning_rate, n_critic_updates=options.num_value_epochs,
            gamma=options.discount, gae_lambda=options.gae_lambda, target_kl=options.max_kl,
            cg_max_steps=options.cg_steps, cg_damping=options.damping,
        )  # fmt: skip

    begin(0).learn(1)  # the first update of a process takes many times as long
    found: dict[str, list[float]] = {"sampled": [], "mode": [], "seconds": []}
    for seed in range(options.seed, options.seed + options.seeds):
        model, began = begin(seed), time.perf_counter()
        model.learn(steps)
        found["seconds"].append(time.perf_counter() - began)
        for policy in ("sampled", "mode"):
            tests = make_vec_env(options.env, 16, seed=100_000 + 16 * seed)
            mean, _ = evaluate_policy(model, tests, options.eval_episodes, policy == "mode")
            found[policy].append(float(mean))
    packages = ("sb3-contrib", "stable-baselines3", "torch", "gymnasium", "numpy")
    return {
        **found,
        "steps_per_second": {"1 at once": steps / float(np.median(found["seconds"]))},
        "versions": {name: version(name) for name in packages},
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
