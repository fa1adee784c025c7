"""What holds an update back: table 1 of the PPO paper (Schulman et al. 2017, arXiv:1707.06347), and more.

    python experiments/studies/surrogate_ablation.py --output results/surrogate_ablation

PPO without a clip or a penalty, with a clip, with an adaptive and with a fixed KL penalty, at the paper's
coefficients and settings (2,048 steps per update, 10 epochs, minibatches of 64, Adam at 3e-4, lambda 0.95),
and beside them TRPO, the natural gradient without a line search, and REINFORCE with a value baseline. Every
form of loss is one compiled sweep over its coefficients and all seeds. A score is the return of the final
policy, 0 that of the policy before training and 1 that of the best column in the same environment, means over
seeds. A seed whose parameters are not finite counts as the worst of its environment. Called again, an
interrupted run goes on.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from experiments.common.command_line import read_options, run_program
from experiments.common.results import read_json, write_json
from experiments.common.runs import seed_keys
from experiments.common.study import described, new_folder, panels, stored_options, write
from purejaxpg.functional.policy_losses import surrogate_policy_loss
from purejaxpg.reporting.plotting import PALETTE
from purejaxpg.reporting.statistics import bootstrap_interval, iqm, mean, replace_diverged

SIZES = {"num_envs": 8, "num_steps": 256}
STEPS_PER_UPDATE = SIZES["num_envs"] * SIZES["num_steps"]
EPOCHS, MINIBATCHES = 10, 32
ENVS = (
    *("CartPole-v1", "Acrobot-v1", "Catch-bsuite"),
    *("Pendulum-v1", "PointRobot-misc", "Reacher-misc"),
)
DISCOUNTS = {"Pendulum-v1": 0.9}
RANDOM = "before training"
FORMS: dict[str, tuple[float, ...]] = {
    RANDOM: (0.0,),
    "no clip or penalty": (0.0,),
    "clip": (0.1, 0.2, 0.3),
    "adaptive KL": (0.003, 0.01, 0.03),
    "fixed KL": (0.3, 1.0, 3.0, 10.0),
    "TRPO": (0.01,),
    "natural gradient": (0.01,),
    "REINFORCE": (3e-3, 1e-2, 3e-2),
}
"""Form -> its coefficients: clip, target of KL, weight of KL, bound on KL twice, learning rate."""
Returns = dict[str, dict[str, list[list[float | None]]]]
"""Environment -> form -> return of the final policy, [coefficients][seeds]; None where it diverged."""


@dataclass(frozen=True)
class Options:
    output: Path = Path("results/surrogate_ablation")
    """New folder for the numbers and the picture, or that of an interrupted run to go on with."""
    envs: tuple[str, ...] = ENVS
    """Environments."""
    seeds: int = 10
    """Training runs of each column and environment."""
    seed: int = 0
    """The first one's."""
    total_steps: int = 200_000
    """Environment steps of each run, rounded down to whole updates of 2,048."""
    eval_episodes: int = 128
    """Stochastic episodes of the final policy whose mean return is the run's."""

    @property
    def num_updates(self) -> int:
        return self.total_steps // STEPS_PER_UPDATE


def main(arguments: list[str]) -> int:
    return run_program(prepare, study, arguments)


def prepare(arguments: list[str]) -> tuple[Options, Returns]:
    """Options, and the returns that are there already; none in a new folder.

    Raises:
      FileExistsError, ValueError: the folder holds something else, or was started with other options.
    """
    options = read_options(Options, arguments)
    if options.seeds < 3 or options.eval_episodes < 1 or options.num_updates < 1:
        raise ValueError(
            "--seeds must be at least 3, --eval-episodes at least 1 and --total-steps at least "
            f"{STEPS_PER_UPDATE}."
        )
    for env_id in options.envs:
        pg.make(env_id)
    partial_file = options.output / "partial.json"
    if not partial_file.is_file():
        new_folder(options.output)
        return options, {}
    stored = read_json(partial_file)
    if stored.get("config") != json.loads(json.dumps(stored_options(options))):
        raise ValueError(
            f"{options.output} was started with other options; choose another --output."
        )
    return options, stored["returns"]


def study(options: Options, table: Returns) -> None:
    partial_file = options.output / "partial.json"
    for env_id in options.envs:
        made = pg.make(env_id)
        for form, coefficients in FORMS.items():
            if form not in table.setdefault(env_id, {}):
                table[env_id][form] = measure(options, env_id, *made, form, coefficients)
                write_json(partial_file, {"config": stored_options(options), "returns": table})
                print(f"{env_id}, {form} done", flush=True)
    scores = score(table)
    numbers = {"returns": table, "scores": {name: summary(x) for name, x in scores.items()}}
    write(options, numbers, draw(scores), findings(scores))
    partial_file.unlink(missing_ok=True)


def measure(
    options: Options, env_id: str, env: pg.Env, env_params: Any, form: str, coefficients: Any
) -> list[list[float | None]]:
    """What `Returns` has of a form in an environment."""
    build = builders(env, env_params, DISCOUNTS.get(env_id, 0.99))[form]

    def run(key, coefficient):
        algorithm = build(coefficient)
        train_key, test_key = jax.random.split(key)
        updates = 0 if form == RANDOM else options.num_updates
        state, _ = pg.train(train_key, algorithm, env_params, num_updates=updates)
        number = options.eval_episodes
        test = pg.evaluate(test_key, algorithm, state, env, env_params, num_episodes=number)
        finite = jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(state.params)])
        return jnp.where(finite.all(), test.returns.mean(), jnp.nan)

    values = np.array(coefficients, np.float32)
    returns = np.asarray(pg.sweep(run, seed_keys(options), values))
    return [[float(x) if np.isfinite(x) else None for x in row] for row in returns]


def builders(env: pg.Env, env_params: Any, discount: float) -> dict[str, Callable[..., Any]]:
    """Form -> what makes an algorithm of one of its coefficients."""
    networks = env, pg.policy_network(env.action_space(env_params)), pg.value_network()
    common: dict[str, Any] = {**SIZES, "discount": discount}
    value_fit = {"num_value_epochs": EPOCHS, "num_value_minibatches": MINIBATCHES, **common}
    ppo = partial(
        pg.ppo, *networks, pg.adam(3e-4), num_epochs=EPOCHS, num_minibatches=MINIBATCHES,
        entropy_coef=0.0, **common,
    )  # fmt: skip
    trpo = partial(pg.trpo, *networks, pg.adam(1e-3), **value_fit)
    return {
        RANDOM: lambda _: ppo(),
        "no clip or penalty": lambda _: ppo(policy_loss=surrogate_policy_loss),
        "clip": lambda eps: ppo(clip_eps=eps),
        "adaptive KL": lambda target: ppo(kl_coef=1.0, adaptive_kl=target),
        "fixed KL": lambda coef: ppo(kl_coef=coef),
        "TRPO": lambda max_kl: trpo(max_kl=max_kl),
        "natural gradient": lambda max_kl: trpo(max_kl=max_kl, line_search=False),
        "REINFORCE": lambda rate: pg.reinforce(
            *networks, pg.adam(rate), pg.adam(1e-3), normalize_advantages=False, **value_fit
        ),
    }


def score(table: Returns) -> dict[str, np.ndarray]:
    """Column -> scores [seeds, environments]; 0 is the policy before training, 1 the best column's mean."""
    columns: dict[str, list[np.ndarray]] = {}
    for forms in table.values():
        names = []
        for form in forms:
            several = len(FORMS[form]) > 1
            names += [f"{form} {x:g}" if several else form for x in FORMS[form]]
        returns = np.concatenate([np.array(rows, np.float64) for rows in forms.values()])
        returns = replace_diverged(returns, np.nanmin(returns))
        start = returns[names.index(RANDOM)].mean()
        gain = returns.mean(axis=1).max() - start
        for name, row in zip(names, (returns - start) / (gain or 1.0)):  # 0: nothing was learnt
            columns.setdefault(name, []).append(row)
    return {name: np.stack(rows, axis=1) for name, rows in columns.items()}


def summary(scores: np.ndarray) -> dict[str, Any]:
    """Of a column."""
    return {
        "mean": bootstrap_interval(mean, scores)._asdict(),
        "iqm": bootstrap_interval(iqm, scores)._asdict(),
        "mean_per_env": scores.mean(axis=0),
    }


def findings(scores: dict[str, np.ndarray]) -> list[str]:
    lines = []
    for name, x in sorted(scores.items(), key=lambda item: -item[1].mean()):
        plain, robust = (described(bootstrap_interval(f, x), 2) for f in (mean, iqm))
        lines.append(f"{name}: mean score {plain}, IQM {robust}.")
    return lines


def draw(scores: dict[str, np.ndarray]) -> Any:
    figure, (axis,) = panels(1)
    figure.set_size_inches(7.5, 6.0)
    shown = {name: x for name, x in scores.items() if name != RANDOM}
    colors = {form: PALETTE[i % len(PALETTE)] for i, form in enumerate(FORMS)}
    for y, (name, x) in enumerate(shown.items()):
        form = next(form for form in FORMS if name.startswith(form))
        interval = bootstrap_interval(mean, x)
        axis.plot([interval.low, interval.high], [y, y], color=colors[form], linewidth=2)
        axis.plot(interval.estimate, y, "o", color=colors[form], markersize=7)
        axis.plot(x.mean(axis=0), np.full(x.shape[1], y), "|", color="0.45", markersize=9)
    axis.set_yticks(range(len(shown)), list(shown))
    axis.invert_yaxis()
    for at in (0, 1):
        axis.axvline(at, color="0.4", linewidth=1, linestyle=":")
    axis.set_xlabel("score: 0 before training, 1 the best column of each environment")
    axis.set_title("mean over environments and seeds, 95% interval; | one environment", fontsize=10)
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
