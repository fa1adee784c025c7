"""A value function fitted to the outcomes of a fixed policy, held against its exact values in every state.

    python experiments/studies/policy_evaluation.py --output results/policy_evaluation

FourRooms with random first cells; the policy takes the best move most of the time. V(s) is the expected
discounted outcome from s (1 at the goal), as AlphaGo's value network predicts who wins from a position.
Four functions are fitted to the same episodes, over their number: a table and a network of the cell's
coordinates, each to Monte Carlo outcomes and to bootstrapped targets r + discount V(s'), made anew before
every pass. The error is the root mean square over all states, in units of the deviation of the exact V.
"""

import itertools
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from experiments.common.runs import seed_keys
from experiments.common.study import Study, draw_band, draw_grid, first_episodes, panels, run_study
from purejaxpg.agent.values import fit_value
from purejaxpg.functional import finite_mdp
from purejaxpg.reporting.plotting import PALETTE
from purejaxpg.reporting.statistics import iqm


@dataclass(frozen=True)
class Options:
    output: Path = Path("results/policy_evaluation")
    """New folder for the numbers and the picture."""
    discount: float = 0.97
    """Discount of outcomes, in [0, 1)."""
    greed: float = 0.6
    """Probability of the best move; the rest is spread evenly over all four."""
    episodes: tuple[int, ...] = (10, 30, 100, 300)
    """Sizes of the data sets, in episodes."""
    shown: int = 100
    """Size whose fitted values are drawn on the grid."""
    passes: int = 200
    """Passes over the data, of every fit."""
    seeds: int = 10
    """Data sets of each size."""
    seed: int = 0
    """The first one's."""


def main(arguments: list[str]) -> int:
    return run_study(Options, check, study, arguments)


def check(options: Options) -> None:
    if not (0 <= options.discount < 1 and 0 <= options.greed <= 1):
        raise ValueError("--discount must be in [0, 1) and --greed in [0, 1].")
    if min(*options.episodes, options.passes) < 1 or options.seeds < 3:
        raise ValueError("--episodes and --passes must be at least 1, and --seeds at least 3.")
    if options.shown not in options.episodes:
        raise ValueError(f"--shown must be one of --episodes, {options.episodes}.")


def study(options: Options) -> Study:
    at = pg.four_rooms()
    numbers = measure(options, at)
    return numbers, draw(options, at, numbers), findings(numbers)


def best_moves(mdp: pg.FiniteMDP, discount: float) -> jax.Array:
    """Value iteration: the greedy action in every state."""

    def backup(value, _):
        return (mdp.reward + discount * mdp.transition @ value).max(axis=1), None

    value, _ = jax.lax.scan(backup, jnp.zeros(len(mdp.reward)), length=2000)
    return jnp.argmax(mdp.reward + discount * mdp.transition @ value, axis=1)


def measure(options: Options, at: Any) -> dict[str, Any]:
    discount, states = options.discount, len(at.cells)
    limit = 200  # steps; hardly an episode of this policy is longer
    env_params = at.env_params.replace(resample_init_pos=True, max_steps_in_episode=limit)
    probs = jax.nn.one_hot(best_moves(at.mdp, discount), 4)
    probs = options.greed * probs + (1 - options.greed) / 4
    exact = finite_mdp.state_values(at.mdp, probs, discount=discount)
    coordinates = jnp.asarray(at.cells / 6.0 - 1.0, jnp.float32)
    fits = {
        "table": (pg.tabular_value(), jnp.eye(states), 0.1),
        "network": (pg.value_network(pg.MLP((64, 64))), coordinates, 3e-3),
    }

    def choose(key, obs):
        return jax.random.categorical(key, jnp.log(probs)[obs])

    def fit(value, view, rate, target_fn, key, transitions, going_on):
        """Full passes over the data with targets that are made anew before each."""
        begin_key, key = jax.random.split(key)
        params = value.init(begin_key, view[None, :1])
        optimizer = pg.adam(rate, max_grad_norm=jnp.inf, decay_steps=4 * options.passes)

        def values(params, obs):
            return value.apply(params, (), view[obs], None)[0]

        def one_pass(carry, key):
            params, opt_state = carry
            table = values(params, jnp.arange(states)[None])[0]
            target = target_fn(transitions, table)
            params, opt_state, _ = fit_value(
                key, values, optimizer, params, opt_state, (transitions.obs,), target, going_on * 1.0,
                num_epochs=1, num_minibatches=4,
            )  # fmt: skip
            return (params, opt_state), None

        keys = jax.random.split(key, options.passes)
        (params, _), _ = jax.lax.scan(one_pass, (params, optimizer.init(params)), keys)
        return values(params, jnp.arange(states)[None])[0]

    def monte_carlo(x, table):
        # No V enters: episodes that the time limit cuts are few, and end with outcome 0.
        zeros = jnp.zeros_like(x.reward)
        return pg.discounted_returns(x.reward, zeros, x.terminated, x.truncated, discount=discount)

    def bootstrapped(x, table):
        return pg.td_targets(x.reward, table[x.next_obs], x.terminated, discount=discount)

    def run(key, *, number):
        reset_key, data_key, *fit_keys = jax.random.split(key, 6)
        data = first_episodes((reset_key, data_key), at.env, env_params, (limit, number), choose)
        targets = {"Monte Carlo": monte_carlo, "bootstrapped": bootstrapped}
        kinds = itertools.product(fits, targets)
        return {
            f"{name}, {label}": fit(*fits[name], targets[label], key, *data)
            for key, (name, label) in zip(fit_keys, kinds)
        }

    errors: dict[str, dict[int, list[float]]] = {}
    shown = {}
    for number in options.episodes:
        fitted = jax.device_get(pg.sweep(partial(run, number=number), seed_keys(options)))
        for name, values in fitted.items():
            square = np.mean((values[0] - np.asarray(exact)) ** 2, axis=-1)
            errors.setdefault(name, {})[number] = (np.sqrt(square) / float(exact.std())).tolist()
            if number == options.shown:
                shown[name] = values[0][0]
        print(f"{number} episodes done", flush=True)
    return {"exact": exact, "fitted": shown, "errors": errors}


def findings(numbers: dict[str, Any]) -> list[str]:
    lines = []
    for name, table in numbers["errors"].items():
        row = ", ".join(f"{iqm(np.array(x)):.3f} of {n}" for n, x in table.items())
        lines.append(f"Error of {name}, from episodes: {row}.")
    for kind in ("table", "network"):
        mc, td = (numbers["errors"][f"{kind}, {x}"] for x in ("Monte Carlo", "bootstrapped"))
        better = [n for n in mc if iqm(np.array(td[n])) < iqm(np.array(mc[n]))]
        lines.append(f"Bootstrapped targets of the {kind} are nearer at sizes {better or 'none'}.")
    return lines


def draw(options: Options, at: Any, numbers: dict[str, Any]) -> Any:
    figure, (*grid, curve) = panels(6, columns=3)
    style: dict[str, Any] = {"vmin": 0, "vmax": np.max(numbers["exact"]), "cmap": "viridis"}
    image = draw_grid(grid[0], at.cells, np.asarray(numbers["exact"]), **style)
    grid[0].set_title("exact V")
    for axis, (name, values) in zip(grid[1:], numbers["fitted"].items()):
        draw_grid(axis, at.cells, values, **style)
        axis.set_title(f"{name}, {options.shown} episodes")
    figure.colorbar(image, ax=grid, shrink=0.6, label="expected discounted outcome")
    for i, (name, table) in enumerate(numbers["errors"].items()):
        line = "o-" if "Monte" in name else "s--"
        draw_band(curve, table, line, label=name, color=PALETTE[i])
    curve.set(xscale="log", yscale="log", xlabel="episodes", ylabel="RMSE / deviation of exact V")
    curve.set_title(f"IQM of {options.seeds} data sets, 95%")
    curve.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
