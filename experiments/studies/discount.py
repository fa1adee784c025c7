"""A discount is a death state, and a task that goes on for ever needs one.

    python experiments/studies/discount.py --output results/discount

The even policy on FourRooms that begins again whenever it finds the goal. Left: its discounted value, exact and
estimated, beside the undiscounted value where every step is survived with probability `discount`. Middle: the
undiscounted return of H steps grows with H without end, by the average reward per step; the discounted one
settles. Right: regression of V on one-step targets of the exact model; without a discount it diverges.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from experiments.common.study import Study, first_episodes, panels, run_study
from purejaxpg.functional import finite_mdp
from purejaxpg.reporting.plotting import PALETTE

DISCOUNTS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
BACKUP_DISCOUNTS = (0.9, 0.99, 1.0)
EVERY = 20  # of the points of curves are kept


@dataclass(frozen=True)
class Options:
    output: Path = Path("results/discount")
    """New folder for the numbers and the picture."""
    episodes: int = 20_000
    """Episodes of each estimate."""
    horizon: int = 2000
    """The longest return, and the number of regression steps."""
    seed: int = 0
    """Of the episodes."""


def main(arguments: list[str]) -> int:
    return run_study(Options, check, study, arguments)


def check(options: Options) -> None:
    if options.episodes < 100 or options.horizon < 100:
        raise ValueError("--episodes and --horizon must be at least 100.")


def study(options: Options) -> Study:
    # The goal next to the start: it is found often.
    at = pg.four_rooms(goal_fixed=[3, 2])
    mdp = finite_mdp.with_restart(at.mdp)
    probs = jnp.full(mdp.reward.shape, 0.25)

    def sample(key, env_params, limit):
        """Undiscounted and discounted return of the first episode of each environment."""
        env = pg.from_mdp(mdp, limit=limit)
        shape = limit, options.episodes
        transitions, going_on = first_episodes((key, key), env, env_params, shape)
        reward = transitions.reward * going_on
        powers = jnp.array(DISCOUNTS)[:, None] ** jnp.arange(limit)
        return reward.sum(0), powers @ reward

    run = jax.jit(sample, static_argnums=2)
    keys = jax.random.split(jax.random.key(options.seed), len(DISCOUNTS))
    death = []
    for i, (key, discount) in enumerate(zip(keys, DISCOUNTS)):
        limit = int(np.ceil(np.log(1e-4) / np.log(discount)))  # 1 in 10,000 lives longer
        dying = finite_mdp.with_death(mdp, discount=discount)
        alive_key, dying_key = jax.random.split(key)
        row: dict[str, Any] = {
            "discount": discount,
            "exact_discounted": finite_mdp.expected_return(mdp, probs, discount=discount),
            "exact_dying": finite_mdp.expected_return(dying, probs, discount=1.0),
        }
        discounted, undiscounted = run(alive_key, mdp, limit)[1][i], run(dying_key, dying, limit)[0]
        for name, returns in (("discounted", discounted), ("dying", undiscounted)):
            row[f"{name}_mean"] = np.float64(returns).mean()
            row[f"{name}_error"] = 1.96 * np.float64(returns).std() / np.sqrt(options.episodes)
        death.append(row)
    # The average reward per step: of the stationary distribution, an eigenvector.
    chain = np.einsum("sa,sat->st", np.float64(probs), np.float64(mdp.transition))
    eigenvalues, vectors = np.linalg.eig(chain.T)
    stationary = np.real(vectors[:, np.argmax(np.real(eigenvalues))])
    stationary = stationary / stationary.sum()
    rate = stationary @ np.float64(probs * mdp.reward).sum(1)

    def regression(discount):
        """|V| over gradient steps on 1/2 (V - y)^2, y = r + discount V(s') expected exactly."""
        reward = jnp.sum(probs * mdp.reward, axis=1)

        def one(value, _):
            target = reward + discount * jnp.asarray(chain, jnp.float32) @ value
            value = value - 0.5 * jax.grad(lambda v: jnp.sum(pg.value_loss(v, target)))(value)
            return value, jnp.abs(value).max()

        return jax.lax.scan(one, jnp.zeros(len(reward)), length=options.horizon)[1][::EVERY]

    def values(discount):
        sizes = {"discount": discount, "horizon": options.horizon}
        return finite_mdp.finite_horizon_values(mdp, probs, **sizes)[::EVERY, 0]

    def fixed_point(discount):
        return float(finite_mdp.state_values(mdp, probs, discount=discount).max())

    numbers = {
        "death": jax.device_get(death),
        "average_reward": float(rate),
        "growth": {discount: values(discount) for discount in BACKUP_DISCOUNTS},
        "regression": {discount: regression(discount) for discount in BACKUP_DISCOUNTS},
        "fixed_points": {discount: fixed_point(discount) for discount in BACKUP_DISCOUNTS[:-1]},
    }
    return numbers, draw(numbers), findings(numbers)


def findings(numbers: dict[str, Any]) -> list[str]:
    rows = numbers["death"]
    apart = max(abs(row["exact_dying"] / row["exact_discounted"] - 1) for row in rows)
    inside = sum(
        abs(row[f"{name}_mean"] - row["exact_discounted"]) <= row[f"{name}_error"]
        for row in rows
        for name in ("discounted", "dying")
    )
    growth, regression = numbers["growth"], numbers["regression"]
    half = len(growth[1.0]) // 2
    slope = float((growth[1.0][-1] - growth[1.0][half]) / (EVERY * (len(growth[1.0]) - 1 - half)))
    lines = [
        f"Exact values of discounting and of dying differ by at most {apart:.1e} of the value; of "
        f"{2 * len(rows)} estimates {inside} have it inside their 95% interval.",
        f"Without a discount the return grows by {slope:.5f} per step, the average reward is "
        f"{numbers['average_reward']:.5f}: it has no limit.",
    ]
    for discount, path in regression.items():
        late = float(path[-1] / path[len(path) // 2])
        line = (
            f"Regression with discount {discount:g}: |V| = {float(path[-1]):.3f} at step "
            f"{EVERY * (len(path) - 1)}, {late:.3f} times that of half as many steps"
        )
        if discount < 1:
            line += f"; the fixed point is {numbers['fixed_points'][discount]:.3f}"
        lines.append(f"{line}.")
    return lines


def draw(numbers: dict[str, Any]) -> Any:
    figure, (death, growth, regression) = panels(3)
    rows = numbers["death"]
    x = np.arange(len(rows))
    death.plot(x, [row["exact_discounted"] for row in rows], color="0.3", label="exact")
    labels = {"discounted": "discounted", "dying": "dying, undiscounted"}
    for i, (name, label) in enumerate(labels.items()):
        death.errorbar(
            x + 0.12 * (2 * i - 1),
            [row[f"{name}_mean"] for row in rows],
            [row[f"{name}_error"] for row in rows],
            fmt="o", markersize=4, capsize=3, color=PALETTE[i], label=f"{label}, 95%",
        )  # fmt: skip
    death.set_xticks(x, [f"{row['discount']:g}" for row in rows])
    death.set(xlabel="discount = chance to survive a step", ylabel="return", yscale="log")
    death.set_title("a discount is a death state")
    for axis, name in ((growth, "growth"), (regression, "regression")):
        for i, (discount, values) in enumerate(numbers[name].items()):
            steps = EVERY * np.arange(len(values))
            axis.plot(steps, values, color=PALETTE[i], label=f"discount {discount:g}")
    growth.set(xlabel="steps", ylabel="expected return of so many steps")
    growth.set_title("a task that goes on for ever")
    for height in numbers["fixed_points"].values():
        regression.axhline(height, color="0.5", linestyle=":", linewidth=1)
    regression.set(xlabel="regression steps", ylabel="largest |V(s)|", title="regression of V")
    for axis in (death, growth, regression):
        axis.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
