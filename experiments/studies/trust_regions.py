"""Steps of every kind from the same policies on the same batches: KL really moved against return gained.

    python experiments/studies/trust_regions.py --output results/trust_regions

Policies are taken from TRPO runs, one per seed, at several stages. From each, one update of every kind is
made on the same rollout, over a range of sizes: a step in a parameter ball (the scaled gradient), the natural
gradient without a line search, TRPO, and epochs of the surrogate with PPO's clip and without one. Then the mean
KL(old, new) over the batch is computed from both policies, and the new policy's return from fresh episodes,
less that of the old policy in episodes with the same keys.
"""

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
from experiments.common.runs import seed_keys
from experiments.common.study import Study, panels, run_study
from purejaxpg.functional.policy_losses import clip_policy_loss, surrogate_policy_loss
from purejaxpg.reporting.plotting import PALETTE
from purejaxpg.reporting.statistics import iqm
from purejaxpg.training.sweep import distribute

SIZES = {"num_envs": 8, "num_steps": 256, "gae_lambda": 0.95}
KLS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
CLIPS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
DISCOUNTS = {"Pendulum-v1": 0.9}


@dataclass(frozen=True)
class Options:
    output: Path = Path("results/trust_regions")
    """New folder for the numbers and the picture."""
    envs: tuple[str, ...] = ("CartPole-v1", "Pendulum-v1")
    """Environments."""
    stages: tuple[int, ...] = (5, 20)
    """TRPO updates after which the policies are taken."""
    seeds: int = 16
    """Policies, and batches, of each stage."""
    seed: int = 0
    """The first one's."""
    eval_episodes: int = 128
    """Episodes that a return is the mean of."""


def main(arguments: list[str]) -> int:
    return run_study(Options, check, study, arguments)


def check(options: Options) -> None:
    if min(*options.stages, options.eval_episodes) < 1 or options.seeds < 3:
        raise ValueError("--stages and --eval-episodes must be at least 1, --seeds at least 3.")
    for env_id in options.envs:
        pg.make(env_id)


def study(options: Options) -> Study:
    numbers = {
        f"{env_id}, update {stage}": measure(options, env_id, stage)
        for env_id in options.envs
        for stage in options.stages
    }
    return {"steps": numbers}, draw(numbers), findings(numbers)


def measure(options: Options, env_id: str, stage: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Kind -> size -> KL and gain of every seed."""
    env, env_params = pg.make(env_id)
    policy, value = pg.policy_network(env.action_space(env_params)), pg.value_network()
    common: dict[str, Any] = {**SIZES, "discount": DISCOUNTS.get(env_id, 0.99)}

    def trpo(max_kl, **kind):
        return pg.trpo(env, policy, value, pg.adam(1e-3), max_kl=max_kl, **common, **kind)

    def ppo(rate, policy_loss):
        return pg.ppo(
            env, policy, value, pg.adam(rate), num_epochs=10, num_minibatches=8,
            entropy_coef=0.0, policy_loss=policy_loss, **common,
        )  # fmt: skip

    def clipped(rate, eps):
        return ppo(rate, partial(clip_policy_loss, clip_eps=eps))

    def unclipped(rate):
        return ppo(rate, surrogate_policy_loss)

    kinds: dict[str, tuple[tuple[float, ...], Callable[[jax.Array], pg.Algorithm]]] = {
        "parameter ball": (KLS, partial(trpo, natural=False, line_search=False)),
        "natural gradient": (KLS, partial(trpo, line_search=False)),
        "TRPO": (KLS, trpo),
        "PPO, over its clip": (CLIPS, lambda eps: clipped(1e-3, eps)),
        "PPO, over learning rates": (RATES, lambda rate: clipped(rate, 0.2)),
        "without a clip, over learning rates": (RATES, unclipped),
    }

    def begin(key):
        return pg.train(key, trpo(0.01), env_params, num_updates=stage)[0]

    def one_step(key, state, size, *, build, epochs):
        init_key, step_key, test_key = jax.random.split(key, 3)
        algorithm = build(size)
        if epochs:  # TRPO's networks and environments, and an optimizer that begins
            fresh = algorithm.init(init_key, env_params)
            state = fresh._replace(params=state.params, loop=state.loop, update=state.update)
        new, transitions, _ = algorithm.step(step_key, state, env_params)
        rollout = env.observe(transitions.obs, env_params), transitions.start

        def look_at(state):
            number = options.eval_episodes
            test = pg.evaluate(test_key, algorithm, state, env, env_params, num_episodes=number)
            return policy.apply(state.params.policy, (), *rollout)[0], test.returns.mean()

        (old_policy, old_return), (new_policy, new_return) = look_at(state), look_at(new)
        return jnp.mean(old_policy.kl_divergence(new_policy)), new_return - old_return

    keys = seed_keys(options)
    states = distribute(begin)(keys)
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for name, (sizes, build) in kinds.items():
        row = np.tile(np.arange(options.seeds), len(sizes))
        kl, gain = distribute(partial(one_step, build=build, epochs=sizes is not KLS))(
            keys[row], jax.tree.map(lambda x, row=row: x[row], states),
            jnp.repeat(jnp.array(sizes), options.seeds),
        )  # fmt: skip
        rows = zip(sizes, *(np.asarray(x).reshape(len(sizes), -1) for x in (kl, gain)))
        results[name] = {f"{size:g}": {"kl": kl, "gain": gain} for size, kl, gain in rows}
    print(f"{env_id}, update {stage} done", flush=True)
    return results


def findings(numbers: dict[str, Any]) -> list[str]:
    lines = []
    for where, kinds in numbers.items():
        for name, table in kinds.items():
            gains = {size: float(iqm(row["gain"])) for size, row in table.items()}
            shown = ", ".join(
                f"{gains[size]:+.1f} at {size} (median KL "
                f"{np.median(table[size]['kl']):.2g}, largest {np.max(table[size]['kl']):.2g})"
                for size in (max(gains, key=gains.__getitem__), min(gains, key=gains.__getitem__))
            )
            lines.append(f"{where}, {name}: return gained, best and worst size, IQM: {shown}.")
    return lines


def draw(numbers: dict[str, Any]) -> Any:
    figure, axes = panels(len(numbers), columns=2)
    for axis, (where, kinds) in zip(axes, numbers.items()):
        for i, (name, table) in enumerate(kinds.items()):
            kl = [np.median(row["kl"]) for row in table.values()]
            gain = [float(iqm(row["gain"])) for row in table.values()]
            axis.plot(kl, gain, "o-", color=PALETTE[i], markersize=4, label=name)
        axis.axhline(0, color="0.4", linewidth=1, linestyle=":")
        axis.set(xscale="log", xlabel="mean KL(old, new) that was moved, median, nats")
        axis.set(ylabel="return gained by one update, IQM", title=where)
    axes[0].legend(fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
