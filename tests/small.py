"""Small environments and algorithms that several tests share. Each program compiles in seconds."""

from functools import lru_cache

import jax
import jax.numpy as jnp

import purejaxpg as pg
from purejaxpg.algorithms.trpo import trpo

SIZES = {"num_envs": 4, "num_steps": 8}


def small_ppo(env, env_params, **options):
    """PPO with networks of 8 units; `action_space` where `env` needs other parameters than these."""
    torso = pg.MLP((8,))
    optimizer = options.pop("optimizer", pg.adam(1e-3))
    space = options.pop("action_space", None) or env.action_space(env_params)
    options = {**SIZES, "num_epochs": 2, "num_minibatches": 2, **options}
    policy = pg.policy_network(space, torso)
    return pg.ppo(env, policy, pg.value_network(torso), optimizer, **options)


def small_trpo(env, env_params, **options):
    """TRPO with networks of 8 units; `action_space` as above."""
    torso = pg.MLP((8,))
    optimizer = options.pop("value_optimizer", pg.adam(1e-3))
    space = options.pop("action_space", None) or env.action_space(env_params)
    options = {**SIZES, "num_value_epochs": 2, "num_value_minibatches": 2, **options}
    policy = pg.policy_network(space, torso)
    return trpo(env, policy, pg.value_network(torso), optimizer, **options)


ALGORITHMS = {"ppo": small_ppo, "trpo": small_trpo}
"""name -> (env, env_params, **options) -> Algorithm. Every contract test runs over all of them."""


@lru_cache
def cartpole():
    return pg.make("CartPole-v1")


def constant_reward_env(limit: int) -> pg.Env:
    """Reward 1 forever, truncated after `limit` steps; observation 0, two actions."""

    def reset(key, params):
        return jnp.zeros(1), jnp.zeros((), jnp.int32)

    def step(key, state, action, params):
        state = state + 1
        return jnp.zeros(1), state, jnp.ones(()), jnp.array(False), state >= limit, {}

    env = pg.Env(reset, step, lambda params: pg.Box(0, 0, (1,)), lambda params: pg.Discrete(2))
    return pg.episode_statistics(env)


def assert_trees_equal(x, y):
    """The same structure, dtypes and bits."""
    assert jax.tree.structure(x) == jax.tree.structure(y)
    for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y)):
        assert a.dtype == b.dtype
        assert (jnp.asarray(a) == jnp.asarray(b)).all()
