"""Evaluate trained policies in their environment, or in one with shifted parameters.

    python experiments/evaluate.py results/ppo-CartPole-v1 --episodes 100 --env-params length 0.7

prints a line per seed, and the interquartile mean over seeds with its 95% bootstrap interval. `--seed 3
--save policies/cartpole` writes the policy of one seed by itself; the folder that it makes can be evaluated
in the same way and needs no other file.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import tyro

from experiments.common import runtime
from experiments.common.command_line import read_options, run_program
from experiments.common.ranking import NO_RETURN, interval_text, iqm_interval
from experiments.common.results import (
    ResultsError,
    read_config,
    read_history,
    restore_state,
    write_json,
)
from experiments.common.runs import Run, check_episodes, run_from_config
from experiments.common.scores import as_worst, has_diverged, mean_returns
from purejaxpg.agent.rollout import Episodes
from purejaxpg.arguments import INT32, Count, check
from purejaxpg.environments.parameters import override
from purejaxpg.reporting.statistics import iqm
from purejaxpg.training import checkpoint
from purejaxpg.training.evaluate import evaluate
from purejaxpg.training.sweep import distribute
from purejaxpg.types import PyTree


@dataclass(frozen=True)
class Options:
    folder: tyro.conf.Positional[Path]
    """Folder of results, or of a policy that --save wrote."""
    seed: int | None = None
    """Seed, as numbered in training; all of them if not given."""
    episodes: int = 100
    """Episodes of each seed."""
    deterministic: bool = False
    """Take the mode of the policy instead of its samples."""
    env_params: dict[str, float] = field(default_factory=dict)
    """Parameters of the environment to shift, e.g. `length 0.7`; the others are as in training."""
    max_steps: int = 20_000
    """Steps after which an episode is given up; its return is that up to then."""
    key: int = 0
    """Number of the random key of the evaluation."""
    save: Path | None = None
    """New folder for the policy of --seed by itself."""
    output: Path | None = None
    """New JSON file for the mean return of each seed, and their interquartile mean."""


class PolicyParams(NamedTuple):
    policy: PyTree


class PolicyState(NamedTuple):
    """As much of an algorithm's state as its `act` needs."""

    params: PolicyParams


def without_training(state: PyTree) -> PyTree:
    """A state with only what acting needs: the policy, and what outer algorithms hold beside it."""
    if hasattr(state, "inner"):
        return state._replace(inner=without_training(state.inner))
    return PolicyState(PolicyParams(state.params.policy))


class Trained(NamedTuple):
    """States `[seeds, ...]` of a run, and what is known of them."""

    run: Run
    seeds: list[int]
    """Their numbers."""
    state: PyTree
    diverged: list[bool]
    """Of each seed."""
    update: int
    """Updates that were done."""
    worst: float
    """The lowest finite return of an episode in training's evaluations, the untrained policy's included."""

    def notes(self) -> list[str]:
        """What whoever uses these policies has to know."""
        notes, num_updates = [], self.run.num_updates
        if self.update < num_updates:
            notes.append(f"training was not finished: {self.update} of {num_updates} updates")
        if broken := [str(seed) for seed, x in zip(self.seeds, self.diverged) if x]:
            notes.append(f"diverged in training: seed {', '.join(broken)}")
        return notes


def main(arguments: list[str]) -> int:
    return run_program(prepare, play, arguments)


def prepare(arguments: list[str]) -> tuple[Options, Trained, PyTree]:
    """Options, what is to be evaluated, and the parameters of the environment that it is evaluated in."""
    options = read_options(Options, arguments)
    check("--episodes", options.episodes, Count)
    check("--max-steps", options.max_steps, Count)
    check("--key", options.key, Annotated[int, INT32])
    trained = load(options.folder)
    if options.seed is not None:
        trained = take(trained, options.seed)
    run = trained.run
    check_episodes(run, len(trained.seeds), "--episodes", options.episodes)
    shifted = override(run.env_params, options.env_params, owner=run.options.env)
    if options.output is not None:
        if options.output.exists():
            raise FileExistsError(f"{options.output} exists: choose another file to --output to.")
        options.output.parent.mkdir(parents=True, exist_ok=True)
    if options.save is not None:
        save(trained, options.save)
    return options, trained, shifted


def play(options: Options, trained: Trained, env_params: PyTree) -> None:
    def test(key, state):
        return evaluate(
            key, trained.run.algorithm, state, trained.run.env, env_params,
            num_episodes=options.episodes, deterministic=options.deterministic,
            max_steps=options.max_steps,
        )  # fmt: skip

    # A seed's episodes depend on its number and --key, not on which other seeds are evaluated with it.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(options.key), np.array(trained.seeds)
    )
    devices = jax.local_devices()[: len(trained.seeds)]
    report(options, trained, distribute(test, devices=devices)(keys, trained.state))


def load(folder: Path) -> Trained:
    """The newest checkpoint of a folder of results, or the policy in a folder that `save` made.

    Raises:
      FileNotFoundError, ValueError: there is none, or config.json does not fit it.
    """
    content = read_config(folder)
    run = run_from_config(content["config"])
    if content["kind"] == "policy":
        like = without_training(jax.eval_shape(run.initial_state, jax.random.key(0)))
        state = checkpoint.restore(folder / "policy", like)
        about = content.get("training", {"update": run.num_updates})  # not stored before
        diverged, worst = [about.get("diverged", False)], about.get("worst_return", np.inf)
        state = jax.tree.map(lambda x: x[None], state)
        return Trained(run, [content["policy_of_seed"]], state, diverged, about["update"], worst)
    seeds = list(range(run.options.seed, run.options.seed + run.options.seeds))
    state = restore_state(folder, run.like())
    update = int(np.max(state.update))
    if update > run.num_updates:
        raise ValueError(f"{folder} has a checkpoint of more updates than its config.json says.")
    metrics, evaluations = read_history(folder)
    del metrics["seconds"]
    broken = has_diverged(metrics)[:, :update].any(axis=1)
    finite = evaluations["returns"][np.isfinite(evaluations["returns"])]
    diverged = np.broadcast_to(broken, len(seeds)).tolist()
    return Trained(run, seeds, state, diverged, update, float(finite.min(initial=np.inf)))


def take(trained: Trained, seed: int) -> Trained:
    """One seed alone, as the only entry of the leading axis."""
    if seed not in trained.seeds:
        known = " to ".join(map(str, dict.fromkeys((trained.seeds[0], trained.seeds[-1]))))
        raise ValueError(f"There is no seed {seed} here, only {known}.")
    index = trained.seeds.index(seed)
    state = jax.tree.map(lambda x: x[index : index + 1], trained.state)
    return trained._replace(seeds=[seed], state=state, diverged=[trained.diverged[index]])


def save(trained: Trained, folder: Path) -> None:
    """Write a policy by itself: what acting needs, and the configuration that rebuilds its network."""
    if len(trained.seeds) != 1:
        raise ValueError("--save writes the policy of one seed: choose it with --seed.")
    if folder.exists():
        raise FileExistsError(f"{folder} exists: choose another folder to --save to.")
    state = without_training(trained.state)
    checkpoint.save(folder / "policy", jax.tree.map(lambda x: x[0], state))
    content = {"kind": "policy", "policy_of_seed": trained.seeds[0], "config": trained.run.config()}
    about: dict[str, Any] = {"update": trained.update, "diverged": trained.diverged[0]}
    if np.isfinite(trained.worst):
        about["worst_return"] = trained.worst
    content |= {"training": about, "versions": runtime.describe()}
    write_json(folder / "config.json", content)


def report(options: Options, trained: Trained, episodes: Episodes) -> None:
    """Print mean, standard deviation, min and max over the episodes of each seed and of all, and the IQM."""
    policy = "deterministic" if options.deterministic else "stochastic"
    print(
        f"{trained.run.name.upper()} on {trained.run.options.env}: {options.episodes} episodes of the {policy} "
        f"policy of each seed, key {options.key}"
    )
    statistics = ("mean", "std", "min", "max")
    columns = [f"{what} {of}" for what in ("return", "length") for of in statistics]
    print("  ".join(["seed".rjust(10), *(column.rjust(11) for column in columns)]))
    lengths, finite = np.asarray(episodes.lengths, np.float64), np.asarray(episodes.finite)
    means = mean_returns(np.asarray(episodes.returns), trained.worst)
    if np.isnan(means).any():
        raise ResultsError(NO_RETURN)
    returns = np.asarray(episodes.returns, np.float64)
    worst = min(trained.worst, returns[finite].min(initial=np.inf))
    returns = np.where(finite, returns, worst)
    means = as_worst(means, np.array(trained.diverged))
    rows = {str(seed): (returns[i], lengths[i]) for i, seed in enumerate(trained.seeds)}
    if len(rows) > 1:
        rows["all"] = (returns, lengths)
    for label, both in rows.items():
        values = [getattr(x, of)() for x in both for of in statistics]
        print("  ".join([label.rjust(10), *(f"{value:11.2f}" for value in values)]))
    notes, left = trained.notes(), int((~np.asarray(episodes.completed) & finite).sum())
    if not finite.all():
        number = f"{(~finite).sum()} of {finite.size}"
        notes.append(
            f"episodes in a world that did not stay finite, each counts as {worst:.2f}: {number}"
        )
    if left:
        notes.append(f"episodes given up after {options.max_steps} steps: {left} of {finite.size}")
    print(*(f"note: {note}" for note in notes), sep="\n", end="\n" if notes else "")
    summary: dict[str, Any] = {
        "policy": policy,
        "episodes_per_seed": options.episodes,
        "env_params": options.env_params,
        "key": options.key,
        "seeds": trained.seeds,
        "return_per_seed": means.tolist(),
        "seeds_diverged": sum(trained.diverged),
        "episodes_not_finite": int((~finite).sum()),
        "episodes_given_up": left,
        "updates": trained.update,
    }
    if interval := iqm_interval(means):
        summary |= {"return_iqm": float(iqm(means)), "return_iqm_95": interval}
        print(
            f"IQM of the seeds' mean returns {iqm(means):.2f}, 95% bootstrap interval "
            f"{interval_text(interval, 2)}"
        )
    if options.output is not None:
        write_json(options.output, summary)
        print(f"written to {options.output}")
    if options.save is not None:
        print(f"the policy is in {options.save}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
