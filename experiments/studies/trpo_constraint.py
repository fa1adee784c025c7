"""Whether TRPO keeps its constraint: KL(old, new) of every update of a training run, computed outside of it.

    python experiments/studies/trpo_constraint.py --output results/trpo_constraint

Trains TRPO with the default options of each environment, without normalisation, all seeds at once, and after
every update computes the mean KL(old, new) over the rollout's states again, in a program of its own, from the
parameters before and after.
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.defaults import defaults
from experiments.common.options import fill
from experiments.common.recipes import networks
from experiments.common.runs import Run, make_run
from experiments.common.study import Study, panels, run_study
from purejaxpg.reporting.plotting import PALETTE
from purejaxpg.training.sweep import distribute


@dataclass(frozen=True)
class Options:
    output: Path = Path("results/trpo_constraint")
    """New folder for the numbers and the picture."""
    envs: tuple[str, ...] = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1")
    """Environments."""
    seeds: int = 10
    """Training runs of each."""
    seed: int = 0
    """The first one's."""
    total_steps: int = 100_000
    """Environment steps of each run, rounded down to whole updates."""


def main(arguments: list[str]) -> int:
    return run_study(Options, build, study, arguments)


def build(options: Options) -> dict[str, Run]:
    """Environment -> its run."""
    plain = {"normalize_observations": False, "normalize_rewards": False}
    rows = [{**defaults("trpo", x), **dataclasses.asdict(options), **plain} for x in options.envs]
    return {row["env"]: make_run("trpo", fill("trpo", row)) for row in rows}


def study(options: Options) -> Study:
    numbers, bounds = {}, {}
    for env_id, run in build(options).items():
        numbers[env_id], bounds[env_id] = measure(run), run.options.max_kl
        print(f"{env_id} done", flush=True)
    kept = {env_id: over_seeds(table) for env_id, table in numbers.items()}
    return {"updates": kept}, draw(numbers, bounds), findings(numbers, bounds)


def measure(run: Run) -> dict[str, np.ndarray]:
    """KL as computed here and as the search saw it, and what it did: `[seeds, updates]` each."""
    policy, _ = networks(run.options, run.env.action_space(run.env_params))

    def step(key, state):
        key = jax.random.fold_in(key, state.update)
        new, transitions, metrics = run.algorithm.step(key, state, run.env_params)
        return new, (transitions.obs, transitions.start), metrics

    def kl(params, new_params, transitions):
        obs, start = transitions
        seen = run.env.observe(obs, run.env_params)
        old, new = (policy.apply(x, (), seen, start)[0] for x in (params, new_params))
        return jnp.mean(old.kl_divergence(new))

    one_update, recompute = distribute(step), distribute(kl)
    state = distribute(run.initial_state)(run.keys())
    rows = []
    for _ in range(run.num_updates):
        new, transitions, metrics = one_update(run.keys(), state)
        row = {
            "kl": recompute(state.params.policy, new.params.policy, transitions),
            "kl_in_search": metrics["kl"],
            "kl_proposed": metrics["kl_proposed"],
            "accepted": metrics["step_accepted"],
            "candidate": metrics["accepted_candidate"],
        }
        rows.append(jax.tree.map(np.asarray, row))
        state = new
    return jax.tree.map(lambda *x: np.stack(x, axis=1), *rows)


def over_seeds(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is kept of the numbers: the largest KL of each update, and how many seeds accepted it."""
    largest = {name: table[name].max(axis=0) for name in ("kl", "kl_in_search", "kl_proposed")}
    return {**largest, "seeds_accepted": table["accepted"].sum(axis=0)}


def findings(numbers: dict[str, dict[str, np.ndarray]], bounds: dict[str, float]) -> list[str]:
    lines = []
    for env_id, table in numbers.items():
        accepted = table["accepted"] == 1
        kl = table["kl"][accepted]
        lines.append(
            f"{env_id}: {accepted.mean():.1%} of {accepted.size} updates accepted, "
            f"{(table['candidate'] == 0).mean():.1%} with the full step; KL of accepted updates at most "
            f"{kl.max() / bounds[env_id]:.4f} of the bound, {np.sum(kl > bounds[env_id])} beyond it; of "
            f"rejected ones {np.abs(table['kl'][~accepted]).max(initial=0.0):g}; full steps' KL beyond the "
            f"bound in {(table['kl_proposed'] > bounds[env_id]).mean():.1%}."
        )
    return lines


def draw(numbers: dict[str, dict[str, np.ndarray]], bounds: dict[str, float]) -> Any:
    figure, axes = panels(len(numbers))
    for axis, (env_id, table) in zip(axes, numbers.items()):
        update = np.broadcast_to(np.arange(1, table["kl"].shape[1] + 1), table["kl"].shape)
        for i, (name, label) in enumerate((("kl_proposed", "full step"), ("kl", "step taken"))):
            axis.plot(update.ravel(), table[name].ravel(), ".", color=PALETTE[1 - i], label=label)
        axis.axhline(bounds[env_id], color="0.3", linewidth=1, linestyle="--", label="bound")
        axis.set(xlabel="update", title=f"{env_id}, {len(update)} seeds", yscale="log")
    axes[0].set_ylabel("mean KL(old, new) over the rollout, nats")
    axes[0].legend(fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
