"""Bias and variance of value targets while V is being fitted, and what n of n-step returns does to learning.

    python experiments/studies/value_targets.py --output results/value_targets

First the even policy on FrozenLake, whose V is known exactly. A table is fitted by gradient steps on one-step
targets from 0 on; at several stages the n-step targets that this unfinished V gives are held against the
exact V: bias^2, variance and their sum, the mean square error, meant over the states that the policy visits.
Then actor-critic is trained with n-step advantages and targets for every n, many seeds each, all else equal.
"""

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
from experiments.common.study import Study, described, draw_band, first_episodes, panels, run_study
from purejaxpg.functional import finite_mdp
from purejaxpg.reporting.plotting import PALETTE
from purejaxpg.reporting.statistics import bootstrap_interval, iqm

TARGET_N = (1, 2, 3, 5, 8, 12, 20, 40, 100)
LEARNING_N = (1, 2, 4, 8, 16, 32, 64, 128)
BATCH = 1000


@dataclass(frozen=True)
class Options:
    output: Path = Path("results/value_targets")
    """New folder for the numbers and the picture."""
    discount: float = 0.95
    """Discount of V on the lake, in [0, 1)."""
    episodes: int = 20_000
    """Episodes that biases and variances are of; a multiple of 1,000."""
    stages: tuple[int, ...] = (0, 10, 40, 160)
    """Passes of fitting V after which its targets are looked at."""
    envs: tuple[str, ...] = ("CartPole-v1", "Acrobot-v1")
    """Environments that actor-critic learns in."""
    seeds: int = 16
    """Seeds of each n."""
    total_steps: int = 200_000
    """Environment steps of each seed."""
    seed: int = 0
    """The first seed."""


def main(arguments: list[str]) -> int:
    return run_study(Options, check, study, arguments)


def check(options: Options) -> None:
    if options.episodes < BATCH or options.episodes % BATCH:
        raise ValueError(f"--episodes must be a multiple of {BATCH}, not {options.episodes}.")
    if not 0 <= options.discount < 1 or options.seeds < 3:
        raise ValueError("--discount must be in [0, 1) and --seeds at least 3.")
    for env_id in options.envs:
        pg.make(env_id)


def study(options: Options) -> Study:
    numbers: dict[str, Any] = {"targets": measure_targets(options), "learning": {}}
    for env_id in options.envs:
        numbers["learning"][env_id] = learn(options, *pg.make(env_id))
        print(f"{env_id} done", flush=True)
    return numbers, draw(numbers), findings(numbers)


def measure_targets(options: Options) -> dict[int, dict[int, dict[str, float]]]:
    """Stage -> n -> bias^2, variance and mean square error of the n-step target."""
    at = pg.frozen_lake(success_rate=0.8, reward_schedule=(1.0, -1.0, -0.1))
    states, limit = len(at.cells), int(at.env_params.max_steps_in_episode)
    probs = jnp.full((states, 4), 0.25)
    exact = finite_mdp.state_values(at.mdp, probs, discount=options.discount)
    # The time limit is left out of the exact V: of 100 steps next to nothing is ever left.
    value_at = pg.tabular_value()

    def episodes(key, number):
        return first_episodes((key, key), at.env, at.env_params, (limit, number))

    def rollout(x, value):
        return x.reward, value[x.next_obs], x.terminated, x.truncated

    @jax.jit
    def fit(key, value):
        """One pass: a gradient step on the mean one-step error of 100 episodes."""
        transitions, going_on = episodes(key, 100)
        target = pg.td_targets(*rollout(transitions, value)[:3], discount=options.discount)

        def loss(value):
            seen = at.env.observe(transitions.obs, at.env_params)
            found = value_at.apply(value, (), seen, transitions.start)[0]
            return jnp.sum(going_on * pg.value_loss(found, target)) / going_on.sum()

        return value - jax.grad(loss)(value)

    @partial(jax.jit, static_argnames="n")
    def moments(key, value, n):
        """Per state: number of visits, sum of errors of the target, and of their squares."""
        transitions, going_on = episodes(key, BATCH)
        target = pg.n_step_returns(*rollout(transitions, value), discount=options.discount, n=n)
        error = target - exact[transitions.obs]
        here = jax.nn.one_hot(transitions.obs, states) * going_on[..., None]
        return tuple(jnp.einsum("tb,tbs->s", error**k, here) for k in range(3))

    fit_key, key = jax.random.split(jax.random.key(options.seed))
    value, passes = jnp.zeros(states), 0
    results: dict[int, dict[int, dict[str, float]]] = {}
    keys = jax.random.split(key, options.episodes // BATCH)
    for stage in sorted(options.stages):
        for passes in range(passes, stage):  # noqa: B020  # goes on where it stopped
            value = fit(jax.random.fold_in(fit_key, passes), value)
        passes = stage
        results[stage] = {}
        for n in TARGET_N:
            sums = [np.float64(moments(key, value, n)) for key in keys]
            count, first, second = np.sum(sums, axis=0)
            weight = count / count.sum()
            bias, error = (x / np.maximum(count, 1) for x in (first, second))
            results[stage][n] = {
                "bias_squared": float(weight @ bias**2),
                "variance": float(weight @ (error - bias**2)),
                "mean_square_error": float(weight @ error),
            }
    return results


def learn(options: Options, env: pg.Env, env_params: Any) -> dict[int, list[float]]:
    """n -> final return of each seed: 8 environments x 128 steps, the same rollouts for all n."""
    num_envs, num_steps, epochs, minibatches = 8, 128, 4, 4
    updates = options.total_steps // (num_envs * num_steps)
    space = env.action_space(env_params)

    def run(key, *, n):
        train_key, test_key = jax.random.split(key)
        algorithm = pg.actor_critic(
            env, pg.policy_network(space), pg.value_network(),
            pg.adam(3e-3, decay_steps=updates),
            pg.adam(3e-3, decay_steps=updates * epochs * minibatches),
            advantage_fn=partial(pg.n_step_advantage, discount=0.99, n=n), normalize_advantages=True,
            num_envs=num_envs, num_steps=num_steps,
            num_value_epochs=epochs, num_value_minibatches=minibatches,
        )  # fmt: skip
        state, _ = pg.train(train_key, algorithm, env_params, num_updates=updates)
        sizes: dict[str, Any] = {"num_episodes": 128, "max_steps": 1000}
        return pg.evaluate(test_key, algorithm, state, env, env_params, **sizes).returns.mean()

    keys = seed_keys(options)
    return {n: np.asarray(pg.sweep(partial(run, n=n), keys))[0].tolist() for n in LEARNING_N}


def findings(numbers: dict[str, Any]) -> list[str]:
    lines = []
    for stage, table in numbers["targets"].items():
        best = min(table, key=lambda n: table[n]["mean_square_error"])
        lines.append(
            f"V after {stage} passes: n = 1 has bias^2 {table[1]['bias_squared']:.4f} and variance "
            f"{table[1]['variance']:.4f}, Monte Carlo {table[100]['bias_squared']:.4f} and "
            f"{table[100]['variance']:.4f}; least mean square error at n = {best}."
        )
    for env_id, table in numbers["learning"].items():
        spans = {n: bootstrap_interval(iqm, np.array(x)) for n, x in table.items()}
        best = max(spans, key=lambda n: float(spans[n].estimate))
        verdict = "n > 1 works better" if spans[best].low > spans[1].high else "no clear difference"
        shown = ", ".join(f"n = {n} {described(span, 1)}" for n, span in spans.items())
        lines.append(f"{env_id}: {verdict}; IQM and 95% interval: {shown}.")
    return lines


def draw(numbers: dict[str, Any]) -> Any:
    stages, learning = numbers["targets"], numbers["learning"]
    figure, axes = panels(len(stages) + len(learning), columns=3)
    labels = {"bias_squared": "bias\u00b2", "variance": "variance", "mean_square_error": "sum"}
    for axis, (stage, table) in zip(axes, stages.items()):
        for i, (name, label) in enumerate(labels.items()):
            y = [table[n][name] for n in TARGET_N]
            axis.plot(TARGET_N, y, "o-", color=PALETTE[i], markersize=4, label=label)
        axis.set(xscale="log", xlabel="n", ylabel="error of the target\u00b2", ylim=(0, None))
        axis.set_title(f"V after {stage} passes of fitting")
        axis.legend(fontsize=8)
    for axis, (env_id, table) in zip(axes[len(stages) :], learning.items()):
        draw_band(axis, table, "o-", color=PALETTE[0])
        seeds = len(next(iter(table.values())))
        axis.set(xscale="log", xlabel="n", ylabel=f"final return, IQM of {seeds} seeds, 95%")
        axis.set_title(f"actor-critic on {env_id}")
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
