"""Learning from weighed data in the study of importance sampling: CartPole, one rollout or a whole run."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from experiments.common.runs import seed_keys
from experiments.common.study import first_episodes
from purejaxpg.functional import weightings
from purejaxpg.functional.weightings import WeightingFn
from purejaxpg.training.sweep import distribute

WEIGHTINGS: dict[str, WeightingFn] = {
    "no weights": weightings.unweighted,
    "per step": weightings.per_step_weighting,
    "per step, at most 2": partial(weightings.per_step_weighting, max_weight=2.0),
    "per decision": weightings.per_decision_weighting,
    "trajectory": weightings.trajectory_weighting,
    "trajectory, at most 2": partial(weightings.trajectory_weighting, max_weight=2.0),
    "trajectory, self-normalised": partial(weightings.trajectory_weighting, self_normalize=True),
    "V-trace": pg.vtrace,
}
POLICY_STEPS = (1, 4, 16, 64)
RATES = (5e-4, 2e-3, 8e-3)
RATE = 2e-3
STEPS_PER_ROLLOUT = 8
"""Of the policy, where whole runs learn."""

Table = dict[str, dict[str, Any]]
"""Weighting -> what was varied -> scores of the seeds."""


def build(
    weighting: WeightingFn, policy_steps: int, rate: Any = RATE, **options: Any
) -> tuple[pg.Algorithm, pg.Env, Any, Any]:
    """The algorithm on CartPole, its environment and parameters, and the policy network."""
    env, env_params = pg.make("CartPole-v1")
    policy = pg.policy_network(env.action_space(env_params))
    algorithm = pg.off_policy_gradient(
        env, policy, pg.value_network(), pg.adam(rate), pg.adam(2e-3),
        num_policy_steps=policy_steps, weighting_fn=weighting, **options,
    )  # fmt: skip
    return algorithm, env, env_params, policy


class Fresh(NamedTuple):
    """Episodes that the old policy plays for measurements alone, `[T, episodes, ...]`."""

    observed: Any
    action: jax.Array
    log_prob: jax.Array
    counts: jax.Array
    ends: tuple[jax.Array, jax.Array]


def one_rollout(options: Any) -> Table:
    """What k steps on one rollout make of a policy: KL, effective samples of fresh episodes, return."""
    sizes = {"num_envs": 16, "num_steps": 500, "first_episodes_only": True}
    start, env, env_params, policy = build(weightings.unweighted, 1, num_value_epochs=20, **sizes)

    def begin(key):
        return pg.train(key, start, env_params, num_updates=options.stage)[0]

    def play(key, state):
        params = state.params.policy

        def choose(key, obs):
            observed = env.observe(obs, env_params)[None]
            return policy.apply(params, (), observed, None)[0].sample(seed=key)[0]

        shape = (sizes["num_steps"], options.fresh_episodes)
        x, counts = first_episodes(jax.random.split(key), env, env_params, shape, choose)
        observed = env.observe(x.obs, env_params)
        log_prob = policy.apply(params, (), observed, None)[0].log_prob(x.action)
        return Fresh(observed, x.action, log_prob, counts, (x.terminated, x.truncated))

    def update(key, state, *, algorithm):
        return algorithm.step(key, state, env_params)[0]

    def measure(key, old, new, fresh):
        before, after = (
            policy.apply(x.params.policy, (), fresh.observed, None)[0] for x in (old, new)
        )
        log_ratio = jnp.where(fresh.counts, after.log_prob(fresh.action) - fresh.log_prob, 0.0)
        trajectory = pg.trajectory_log_weights(log_ratio, *fresh.ends)[0]  # of the first episodes
        steps = jnp.sum(fresh.counts)
        played = pg.evaluate(key, start, new, env, env_params, num_episodes=options.eval_episodes)
        return {
            "kl": jnp.sum(jnp.where(fresh.counts, before.kl_divergence(after), 0.0)) / steps,
            "trajectory_ess": pg.effective_sample_size(trajectory) / options.fresh_episodes,
            "step_ess": pg.effective_sample_size(log_ratio, where=fresh.counts) / steps,
            "return": played.returns.mean(),
        }

    keys = seed_keys(options)
    step_keys, fresh_keys, test_keys = (  # training begins with a split of its key
        jax.vmap(jax.random.fold_in, (0, None))(keys, i) for i in (1, 2, 3)
    )
    old = distribute(begin)(keys)
    fresh, look = distribute(play)(fresh_keys, old), distribute(measure)
    table: Table = {"before": {"0": look(test_keys, old, old, fresh)}}
    for name, weighting in WEIGHTINGS.items():
        table[name] = {}
        for k in POLICY_STEPS:
            algorithm = build(weighting, k, **sizes)[0]
            new = distribute(partial(update, algorithm=algorithm))(step_keys, old)
            table[name][str(k)] = jax.tree.map(np.asarray, look(test_keys, old, new, fresh))
        print(f"one rollout, {name}: done", flush=True)
    return table


def whole_runs(options: Any) -> Table:
    """The return after a whole run with several steps on each rollout, over learning rates."""
    env, env_params = pg.make("CartPole-v1")

    def run(key, rate, *, weighting):
        algorithm = build(weighting, STEPS_PER_ROLLOUT, rate, num_value_epochs=10)[0]
        updates = max(1, options.total_steps // 2048)
        state, _ = pg.train(key, algorithm, env_params, num_updates=updates)
        test_key = jax.random.fold_in(key, 1)  # training begins with a split of its key
        number = options.eval_episodes
        test = pg.evaluate(test_key, algorithm, state, env, env_params, num_episodes=number)
        return test.returns.mean()

    keys = jnp.tile(seed_keys(options), len(RATES))
    rates = jnp.repeat(jnp.array(RATES), options.seeds)
    table: Table = {}
    for name, weighting in WEIGHTINGS.items():
        returns = distribute(partial(run, weighting=weighting))(keys, rates)
        rows = np.asarray(returns).reshape(len(RATES), -1)
        table[name] = {f"{rate:g}": row for rate, row in zip(RATES, rows)}
        print(f"whole runs, {name}: done", flush=True)
    return table
