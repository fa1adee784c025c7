"""Importance sampling: what old data are worth under a new policy, exact values beside measured ones.

    python experiments/studies/importance_sampling.py --output results/importance_sampling

The weight of a trajectory is the product of new(a|s) / old(a|s) over its steps; the dynamics cancel. Four
parts. (a) Two normal distributions, where E[w^2] = exp(shift^2). (b) The second moment of a trajectory's
weight over its length, for steps of a policy of three sizes: tilted alike in every state, random, along the
gradient and along the natural gradient. The effective sample size of N episodes is N / E[w^2], which a
spectral radius foretells. (c) Bias and deviation of estimators of the new policy's return, all exact by
recursion, and of its gradient, by Monte Carlo against the exact one. (d) CartPole: what k policy steps on one
rollout do under each weighting, and what whole runs learn.

(b) and (c) are on FourRooms with restart, in float64 where values are exact.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import purejaxpg as pg
from experiments.common import importance_exact as exact
from experiments.common import importance_samples as samples
from experiments.common.importance_learning import one_rollout, whole_runs
from experiments.common.importance_pictures import draw
from experiments.common.study import Study, run_study, spoken_iqm
from purejaxpg.functional import finite_mdp

SHIFTS = np.linspace(0.0, 3.0, 31)
KLS = (0.01, 0.03, 0.1)
RETURN_KL = GRADIENT_KL = 0.01
RETURN_HORIZONS = (10, 20, 50, 100, 200, 500)
GRADIENT_HORIZONS = (2, 5, 10, 20, 50, 100)
BIAS_KLS = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
EPISODES = 1000
"""Of each estimate in (c)."""
BEYOND = 1.6
"""So many times the exact crossing is the horizon of (b): samples cross late."""


@dataclass(frozen=True)
class Options:
    output: Path = Path("results/importance_sampling")
    """New folder for the numbers and the picture."""
    samples: int = 100_000
    """Episodes of each sample of weights, in (a) and (b)."""
    replications: int = 20
    """Samples, in (a) to (c)."""
    discount: float = 0.99
    """Discount of the return in (b) and (c), in [0, 1)."""
    seeds: int = 10
    """Seeds of (d); 0 leaves it out."""
    seed: int = 100
    """The first one's, and of all samples and policies."""
    stage: int = 20
    """REINFORCE updates before the one rollout of (d)."""
    fresh_episodes: int = 1024
    """Episodes that KL and effective sample sizes of (d) are measured on."""
    eval_episodes: int = 128
    """Episodes that a return of (d) is the mean of."""
    total_steps: int = 100_000
    """Steps of each whole run of (d)."""


def main(arguments: list[str]) -> int:
    return run_study(Options, check, study, arguments)


def check(options: Options) -> None:
    if options.samples < 100 or options.replications < 3:
        raise ValueError("--samples must be at least 100 and --replications at least 3.")
    if not 0 <= options.discount < 1:
        raise ValueError(f"--discount must be in [0, 1), not {options.discount:g}.")
    if options.seeds and options.seeds < 3:
        raise ValueError(f"--seeds must be 0 or at least 3, not {options.seeds}.")
    if min(options.stage, options.fresh_episodes, options.eval_episodes) < 1:
        raise ValueError("--stage, --fresh-episodes and --eval-episodes must be at least 1.")
    if options.total_steps < 2048:
        raise ValueError("--total-steps must be at least 2048, the steps of a rollout.")


def study(options: Options) -> Study:
    keys = iter(jax.random.split(jax.random.fold_in(jax.random.key(options.seed), 4), 100))
    mdp = exact.restarting_rooms()
    random = np.random.default_rng(options.seed)
    logits, direction = random.normal(size=(2, *mdp.reward.shape))
    along = exact.directions(mdp, logits, options.discount)
    along["random"] = direction

    def step(kind: str, kl: float) -> exact.Pair:
        return exact.step_along(mdp, logits, along[kind], kl)

    numbers: dict[str, Any] = {"normal": normal(next(keys), options), "weights": {}}
    for kind in ("tilted", *along):
        pairs = {kl: exact.tilted(mdp, kl) if kind == "tilted" else step(kind, kl) for kl in KLS}
        numbers["weights"][kind] = {
            str(kl): weights(next(keys), options, mdp, pair) for kl, pair in pairs.items()
        }
    print("weights: done", flush=True)
    pair = step("gradient", RETURN_KL)
    numbers["returns"] = {
        str(horizon): returns(next(keys), options, mdp, pair, horizon)
        for horizon in RETURN_HORIZONS
    }
    print("returns: done", flush=True)
    pair = step("random", GRADIENT_KL)
    exactly = exact.gradients(mdp, pair, GRADIENT_HORIZONS, discount=options.discount)
    numbers["gradients"] = {
        str(horizon): gradients(next(keys), options, mdp, pair, horizon, one)
        for horizon, one in zip(GRADIENT_HORIZONS, exactly)
    }
    numbers["gradient_bias"] = {
        kind: {str(kl): bias(options, mdp, step(kind, kl)) for kl in BIAS_KLS}
        for kind in ("random", "gradient")
    }
    print("gradients: done", flush=True)
    if options.seeds:
        numbers["one_rollout"], numbers["whole_runs"] = one_rollout(options), whole_runs(options)
    return numbers, draw(numbers), findings(numbers)


def normal(key: jax.Array, options: Options) -> dict[str, Any]:
    """(a): effective fractions of N(0, 1) for N(shift, 1), exact and in samples of several sizes."""
    measured = {}
    for size in sorted({100, 10_000, options.samples}):
        fractions = samples.gaussian_weights(
            key, SHIFTS, number=size, replications=options.replications
        )
        measured[str(size)] = np.quantile(fractions, (0.05, 0.5, 0.95), axis=0)
    return {"shift": SHIFTS, "exact": np.exp(-(SHIFTS**2)), "measured": measured}


def weights(
    key: jax.Array, options: Options, mdp: pg.FiniteMDP, pair: exact.Pair
) -> dict[str, Any]:
    """(b): second moments over the length of the episode, exact beside measured."""
    crossing = exact.crossing(mdp, pair)
    horizon = int(BEYOND * crossing.exact) + 5
    second, fourth = (exact.log_moments(mdp, pair, power)[:horizon] for power in (2, 4))
    found = samples.sample_weights(
        key, mdp, pair, horizon=horizon, number=options.samples, replications=options.replications
    )
    # Standard errors from the exact fourth moment: the sample's own are too small where they matter.
    error = np.sqrt(np.expm1(fourth - 2 * second) / options.samples)
    z = np.expm1(found.log_second - second) / error

    states = exact.exactly(finite_mdp.state_distributions, mdp, pair.old, horizon=horizon)
    step_second, step_fourth = (
        states @ np.sum(pair.new**power / pair.old ** (power - 1), axis=-1) for power in (2, 4)
    )
    number = options.samples * options.replications
    step_error = np.sqrt((step_fourth - step_second**2) / number)
    step_z = (found.step_second.mean(0) - step_second) / step_error

    below = found.effective < 0.01
    crossed = [int(np.argmax(row)) + 1 if row.any() else None for row in below]
    measured = np.median(found.effective, axis=0)
    apart = measured > 2 * np.exp(-second)
    shown = np.unique(np.geomspace(1, horizon, 40).astype(int)) - 1
    return {
        "crossing": crossing._asdict(),
        "measured_crossings": crossed,
        "z_within_3": np.mean(np.abs(z) < 3),
        "largest_step_z": np.abs(step_z).max(),
        "step_second_moment": [step_second.min(), step_second.max()],
        "parts_at": int(np.argmax(apart)) + 1 if apart.any() else None,
        "curve": {
            "steps": shown + 1,
            "log_second_moment": second[shown],
            "effective": np.exp(-second[shown]),
            "measured_effective": np.quantile(found.effective, (0.05, 0.5, 0.95), axis=0)[:, shown],
        },
    }


def returns(
    key: jax.Array, options: Options, mdp: pg.FiniteMDP, pair: exact.Pair, horizon: int
) -> dict[str, Any]:
    """(c): estimators of J(new), exact bias and deviation, and the error of means as measured."""
    by: dict[str, Any] = {"discount": options.discount, "horizon": horizon}
    moments = exact.return_moments(mdp, pair, **by)
    found = samples.sample_returns(
        key, mdp, pair, number=EPISODES, replications=options.replications, **by
    )
    true = exact.exactly(finite_mdp.finite_horizon_return, mdp, pair.new, **by)
    table = {}
    for name, (mean, deviation) in moments.items():
        rmse = np.sqrt((mean - true) ** 2 + deviation**2 / EPISODES)
        measured = np.sqrt(np.mean((found[name] - true) ** 2))
        table[name] = {
            "mean": mean,
            "deviation": deviation,
            "rmse": rmse,
            "measured_rmse": measured,
        }
    return {"old": moments["no weights"][0], "new": float(true), "estimators": table}


def gradients(
    key: jax.Array,
    options: Options,
    mdp: pg.FiniteMDP,
    pair: exact.Pair,
    horizon: int,
    exactly: exact.Gradients,
) -> dict[str, Any]:
    """(c): errors of estimators of the gradient, by Monte Carlo against the exact gradient."""
    found = samples.sample_gradients(
        key, mdp, pair, discount=options.discount, horizon=horizon, number=EPISODES,
        replications=options.replications,
    )  # fmt: skip
    return {name: samples.gradient_errors(table, exactly) for name, table in found.items()}


def bias(options: Options, mdp: pg.FiniteMDP, pair: exact.Pair) -> dict[str, float]:
    """(c): biases of gradient estimators at the longest horizon, in units of the gradient's norm."""
    (found,) = exact.gradients(mdp, pair, RETURN_HORIZONS[-1:], discount=options.discount)
    norm = np.linalg.norm(found.exact)
    return {name: float(np.linalg.norm(x - found.exact) / norm) for name, x in found.biased.items()}


def findings(numbers: dict[str, Any]) -> list[str]:
    """What was found, in sentences; nothing is assumed to hold."""
    lines = []
    for kind, table in numbers["weights"].items():
        for kl, row in table.items():
            crossing, parted = row["crossing"], row["parts_at"]
            late = [x or np.inf for x in row["measured_crossings"]]
            missed = abs(crossing["exact"] - crossing["predicted"])
            lines.append(
                f"{kind}, KL {kl}: the effective sample size is below 1% from step "
                f"{crossing['exact']} on (foretold {crossing['predicted']:.1f}; samples say "
                f"{np.median(late):g}); log rho is {crossing['log_rho'] / crossing['per_step']:.2f} "
                "times log E[ratio^2]; "
                + (f"samples show twice as much at step {parted}" if parted else "samples agree")
                + (f"; log rho and C alone are {missed:.1f} steps off." if missed > 1 else ".")
            )
    longest = list(numbers["returns"].values())[-1]
    gain = longest["new"] - longest["old"]
    for name, row in longest["estimators"].items():
        missed = 100 * (row["mean"] - longest["new"]) / gain
        lines.append(
            f"Return of {RETURN_HORIZONS[-1]} steps, {name}: deviation of one episode "
            f"{row['deviation']:.3g}, bias {missed:+.1f}% of the gain; error of the mean of "
            f"{EPISODES} {row['rmse']:.3g}, measured {row['measured_rmse']:.3g}."
        )
    for horizon, table in numbers["gradients"].items():
        rmse = ", ".join(f"{name} {row['rmse']:.2f}" for name, row in table.items())
        lines.append(f"Gradient, {horizon} steps, error over its norm: {rmse}.")
    for kind, table in numbers["gradient_bias"].items():
        shown = ", ".join(f"{100 * row['per step']:.3g}% at {kl}" for kl, row in table.items())
        lines.append(f"Bias of the per-step gradient after a {kind} step, by KL: {shown}.")
    return lines + learning_findings(numbers)


def learning_findings(numbers: dict[str, Any]) -> list[str]:
    if "one_rollout" not in numbers:
        return []

    (before,) = numbers["one_rollout"]["before"].values()
    lines = [f"CartPole, before the rollout: return {spoken_iqm(before['return'], 1)}."]
    for name, table in numbers["one_rollout"].items():
        for k, row in table.items() if name != "before" else ():
            lines.append(
                f"{k} steps on one rollout, {name}: return {spoken_iqm(row['return'], 1)}, median KL "
                f"{np.median(row['kl']):.2g}, median effective fraction of trajectories "
                f"{np.median(row['trajectory_ess']):.2g}, of steps {np.median(row['step_ess']):.2g}."
            )
    for name, table in numbers["whole_runs"].items():
        shown = "; ".join(
            f"{spoken_iqm(scores, 1)} at rate {rate}" for rate, scores in table.items()
        )
        lines.append(f"Whole runs, {name}: {shown}.")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
