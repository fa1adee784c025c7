"""Bias, variance and signal-to-noise of every estimator of the policy gradient, against the exact gradient.

    python experiments/studies/gradient_variance.py --output results/gradient_variance

The policy is a table with random logits on FrozenLake, so that the gradient of J, the expected discounted
return of an episode, is known exactly. An estimator makes one gradient [S, A] from one episode; from many
episodes follow its bias |E g - grad J|, its variance tr Cov g, and its signal-to-noise ratio at N episodes,
|grad J|^2 N / tr Cov g. Two forms: with the factor discount^t at step t of the episode, and without it, which
is what is usually computed and not the gradient of J. Biases are in units of |grad J|; `excess` is the squared
error of the mean over all episodes in units of what its variance explains: about 1 for an unbiased one.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from experiments.common.study import Study, first_episodes, panels, run_study
from purejaxpg.functional import finite_mdp
from purejaxpg.reporting.plotting import PALETTE

N_STEPS = (1, 2, 3, 5, 8, 12, 20, 40)
LAMBDAS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0)
SAMPLE_SIZES = (1, 4, 16, 64, 256, 1024)
LADDER = (
    "trajectory",
    "trajectory, mean baseline",
    "reward to go",
    "reward to go, mean baseline",
    "reward to go, fitted V",
    "reward to go, exact V",
    "TD, fitted V",
    "TD, exact V",
)
# Steps of the ladder, each of which theory or the lecture says to reduce variance.
RUNGS = (
    ("trajectory", "reward to go"),
    ("trajectory", "trajectory, mean baseline"),
    ("trajectory, mean baseline", "reward to go, mean baseline"),
    ("reward to go", "reward to go, mean baseline"),
    ("reward to go, mean baseline", "reward to go, fitted V"),
    ("reward to go, mean baseline", "reward to go, exact V"),
    ("reward to go, fitted V", "TD, fitted V"),
    ("reward to go, exact V", "TD, exact V"),
)
UNBIASED = (*LADDER[:6], "TD, exact V")
BATCH = 2000


@dataclass(frozen=True)
class Options:
    output: Path = Path("results/gradient_variance")
    """New folder for the numbers and the picture."""
    map_name: Literal["4x4", "8x8"] = "4x4"
    """Map of FrozenLake-misc."""
    success_rate: float = 0.8
    """Probability of the move that was chosen; it slips to a side else."""
    rewards: tuple[float, float, float] = (1.0, -1.0, -0.1)
    """Of reaching the goal, of falling into a hole, of any other step."""
    discount: float = 0.95
    """Discount of J, in [0, 1]."""
    logit_deviation: float = 1.0
    """Standard deviation of the policy's logits."""
    episodes: int = 200_000
    """Episodes that means and variances are of; a multiple of 2,000."""
    fitting_episodes: int = 100
    """Episodes that V is fitted to: the mean return from each state."""
    seed: int = 0
    """Of the policy and of all episodes."""


def main(arguments: list[str]) -> int:
    return run_study(Options, check, study, arguments)


def check(options: Options) -> None:
    if options.episodes < BATCH or options.episodes % BATCH:
        raise ValueError(f"--episodes must be a multiple of {BATCH}, not {options.episodes}.")
    if not (0 <= options.discount <= 1 and options.fitting_episodes >= 1):
        raise ValueError("--discount must be in [0, 1] and --fitting-episodes at least 1.")


def advantages(
    rollout: Any, *, zero: jax.Array, exact: jax.Array, fitted: jax.Array, discount: float
) -> dict[str, jax.Array]:
    """Name -> advantages of transitions, by estimators with one of three tables of V."""

    def by(advantage_fn, v, **options):
        values = rollout.reward, v[rollout.obs], v[rollout.next_obs]
        ends = rollout.terminated, rollout.truncated
        return advantage_fn(*values, *ends, discount=discount, **options)[0]

    return {
        "reward to go": by(pg.monte_carlo_advantage, zero),
        "reward to go, exact V": by(pg.monte_carlo_advantage, exact),
        "reward to go, fitted V": by(pg.monte_carlo_advantage, fitted),
        "TD, exact V": by(pg.td_advantage, exact),
        "TD, fitted V": by(pg.td_advantage, fitted),
        **{f"{n}-step, fitted V": by(pg.n_step_advantage, fitted, n=n) for n in N_STEPS},
        **{f"GAE({x:g}), fitted V": by(pg.gae_advantage, fitted, gae_lambda=x) for x in LAMBDAS},
    }


def study(options: Options) -> Study:
    lake: dict[str, Any] = {"map_name": options.map_name, "success_rate": options.success_rate}
    at = pg.frozen_lake(**lake, reward_schedule=options.rewards)
    discount, limit = options.discount, int(at.env_params.max_steps_in_episode)
    policy_key, fit_key, key = jax.random.split(jax.random.key(options.seed), 3)
    logits = options.logit_deviation * jax.random.normal(policy_key, at.mdp.reward.shape)
    probs = jax.nn.softmax(logits)

    def expected_return(logits):
        probs = jax.nn.softmax(logits)
        return finite_mdp.finite_horizon_return(at.mdp, probs, discount=discount, horizon=limit)

    exact_return, exact_gradient = jax.value_and_grad(expected_return)(logits)
    policy: Any = pg.tabular_policy(logits.shape[1])

    def episodes(key, number):
        def choose(key, obs):
            observed = at.env.observe(obs, at.env_params)[None]
            return policy.apply(logits, (), observed, None)[0].sample(seed=key)[0]

        return first_episodes((key, key), at.env, at.env_params, (limit, number), choose)

    @jax.jit
    def fit(key):
        x, going_on = episodes(key, options.fitting_episodes)
        cut = jnp.zeros_like(x.reward), x.terminated, x.truncated
        returns = pg.discounted_returns(x.reward, *cut, discount=discount)
        here = jax.nn.one_hot(x.obs, len(logits)) * going_on[..., None]
        return jnp.einsum("tb,tbs->s", returns, here) / jnp.maximum(here.sum((0, 1)), 1)

    value = {
        "zero": jnp.zeros(len(logits)),
        "exact": finite_mdp.state_values(at.mdp, probs, discount=discount),
        "fitted": fit(fit_key),
    }

    def gradients(key):
        """Name -> form -> gradient of each episode, `[number, S, A]`."""
        transitions, going_on = episodes(key, BATCH)
        time = jnp.arange(limit)[:, None]
        advantage = advantages(transitions, **value, discount=discount)
        to_go = advantage["reward to go"]
        advantage["trajectory"] = jnp.broadcast_to(to_go[0], to_go.shape)
        # Means of the other episodes: independent of the one that they are subtracted from.
        others = (to_go[0].sum() - to_go[0]) / (to_go.shape[1] - 1)
        advantage["trajectory, mean baseline"] = advantage["trajectory"] - others
        here = jnp.where(going_on, to_go, 0.0)
        others = (here.sum() - here.sum(0)) / (going_on.sum() - going_on.sum(0))
        advantage["reward to go, mean baseline"] = to_go - others

        def loss(logits, obs, action, weight, advantage):
            observed = jax.nn.one_hot(obs, len(logits))[:, None]
            start = jnp.zeros(observed.shape[:2], bool)  # a table has no memory to reset
            log_prob = policy.apply(logits, (), observed, start)[0].log_prob(action[:, None])[:, 0]
            return jnp.sum(weight * pg.policy_gradient_loss(log_prob, advantage))

        one = jax.vmap(jax.grad(loss), in_axes=(None, 1, 1, 1, 1))

        def both(name, advantage):
            usual = going_on * 1.0
            # The whole return is discounted from the episode's start already.
            weighted = usual if name.startswith("trajectory") else going_on * discount**time
            return {
                form: -one(logits, transitions.obs, transitions.action, weight, advantage)
                for form, weight in (("discount^t", weighted), ("usual", usual))
            }

        return {name: both(name, x) for name, x in advantage.items()}

    def square_error(g, size):
        """Of the mean over groups of so many episodes, meant over groups."""
        groups = g[: BATCH // size * size].reshape(-1, size, *g.shape[1:])
        return jnp.mean(jnp.sum((groups.mean(1) - exact_gradient) ** 2, (1, 2)))

    def summarise(g):
        """Sum of gradients, sum of their squares, and square errors of the sample sizes."""
        return g.sum(0), jnp.sum(g**2), {n: square_error(g, n) for n in SAMPLE_SIZES}

    batch = jax.jit(lambda key: jax.tree.map(summarise, gradients(key)))
    batches = options.episodes // BATCH
    parts = [jax.device_get(batch(k)) for k in jax.random.split(key, batches)]
    sums = jax.tree.map(lambda *x: np.sum(np.asarray(x, np.float64), axis=0), *parts)
    exact = np.asarray(exact_gradient, np.float64)
    norm = np.linalg.norm(exact)

    def describe(total, squares, errors):
        mean = total / options.episodes
        variance = squares / options.episodes - np.sum(mean**2)
        noise = variance / options.episodes  # in the square of the mean's error
        square = np.sum((mean - exact) ** 2)
        return {
            "bias": np.sqrt(max(square - noise, 0.0)) / norm,
            "excess": square / noise,
            "variance": variance / norm**2,
            "snr_of_100_episodes": 100 * norm**2 / variance,
            "cosine_of_mean": np.sum(mean * exact) / np.linalg.norm(mean) / norm,
            "rmse": {size: np.sqrt(error / batches) / norm for size, error in errors.items()},
        }

    numbers = {
        "expected_return": float(exact_return),
        "gradient_norm": float(norm),
        "rmse_of_fitted_value": float(jnp.sqrt(jnp.mean((value["fitted"] - value["exact"]) ** 2))),
        "estimators": {
            name: {form: describe(*x) for form, x in forms.items()} for name, forms in sums.items()
        },
    }
    return numbers, draw(numbers), findings(numbers)


def findings(numbers: dict[str, Any]) -> list[str]:
    """What was measured, claim by claim, in sentences; nothing is assumed to hold."""
    table = {name: forms["discount^t"] for name, forms in numbers["estimators"].items()}
    usual = numbers["estimators"]["reward to go"]["usual"]
    excess = ", ".join(f"{name} {table[name]['excess']:.2f}" for name in UNBIASED)
    lines = [
        f"Squared error of the mean in units of its variance, about 1 if unbiased: {excess}.",
        f"Without the factor discount^t, reward to go is off by {100 * usual['bias']:.1f}% of the "
        f"gradient's norm (cosine {usual['cosine_of_mean']:.4f}, excess {usual['excess']:.1f}).",
    ]
    for worse, better in RUNGS:
        ratio = table[better]["variance"] / table[worse]["variance"]
        falls = "falls" if ratio < 1 else "does NOT fall"
        lines.append(f"Variance {falls} from {worse} to {better}: {ratio:.3f} times.")
    for size in (16, 256):
        best = min(table, key=lambda name: table[name]["rmse"][size])
        lines.append(f"Nearest to the gradient with {size} episodes: {best}.")
    return lines


def draw(numbers: dict[str, Any]) -> Any:
    table = {name: forms["discount^t"] for name, forms in numbers["estimators"].items()}
    figure, (ladder, sizes, trade, forms) = panels(4, columns=2)

    ladder.barh(LADDER, [table[name]["variance"] for name in LADDER], color=PALETTE[0])
    ladder.invert_yaxis()
    ladder.set(xscale="log", xlabel="tr Cov g / |grad J|\u00b2, one episode", title="the ladder")

    shown = (*LADDER[0:1], *LADDER[2:4], *LADDER[5:], "GAE(0.95), fitted V")
    for i, name in enumerate(shown):
        rmse = table[name]["rmse"]
        sizes.plot(*zip(*rmse.items()), "o-", markersize=3, color=PALETTE[i], label=name)
    sizes.set(xscale="log", yscale="log", title="error over sample size")
    sizes.set(xlabel="episodes", ylabel="RMSE of the mean / |grad J|")
    sizes.legend(fontsize=8, loc="lower left")

    length = [1 / (1 - x) for x in LAMBDAS[:-1]]
    families = {
        "n-step": (N_STEPS, [f"{n}-step, fitted V" for n in N_STEPS]),
        "GAE": (length, [f"GAE({x:g}), fitted V" for x in LAMBDAS[:-1]]),
    }
    for i, (label, (x, names)) in enumerate(families.items()):
        bias = [table[name]["bias"] or np.nan for name in names]  # 0: none that shows
        noise = [np.sqrt(table[name]["variance"] / 64) for name in names]
        trade.plot(x, bias, "o-", color=PALETTE[i], label=f"{label}: bias")
        trade.plot(x, noise, "s--", color=PALETTE[i], label=f"{label}: deviation, 64 episodes")
    trade.set(xscale="log", yscale="log", title="bias against variance, fitted V")
    trade.set(xlabel="n of n-step, 1 / (1 - lambda) of GAE", ylabel="in units of |grad J|")
    trade.legend(fontsize=8)

    compared = ("reward to go", "reward to go, exact V", "TD, exact V", "TD, fitted V")
    for i, form in enumerate(("discount^t", "usual")):
        bias = [numbers["estimators"][name][form]["bias"] for name in compared]
        at = np.arange(len(compared)) + 0.4 * i
        forms.barh(at, bias, height=0.38, color=PALETTE[i], label=f"form: {form}")
    forms.set_yticks(np.arange(len(compared)) + 0.2, compared)
    forms.set(xlabel="|E g - grad J| / |grad J|", title="bias of the usual form")
    forms.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
