"""Small environments and algorithms that several tests share. Each program compiles in seconds."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg

SIZES = {"num_envs": 4, "num_steps": 8}


def small(algorithm, optimizers, **defaults):
    """`algorithm` with networks of 8 units, so many times one optimizer, and these defaults.

    Its options: `action_space` where `env` needs other parameters than these, `value`, `cell` for both
    networks, `optimizer`, and the algorithm's own.
    """

    def build(env, env_params, **options):
        torso = pg.MLP((8,))
        space = options.pop("action_space", None) or env.action_space(env_params)
        cell = options.pop("cell", None)
        value = options.pop("value", None) or pg.value_network(torso, cell)
        optimizer = options.pop("optimizer", pg.adam(1e-3))
        options = {**SIZES, **defaults, **options}
        return algorithm(
            env, pg.policy_network(space, torso, cell), value, *[optimizer] * optimizers, **options
        )

    return build


small_ppo = small(pg.ppo, 1, num_epochs=2, num_minibatches=2, entropy_coef=0.0)
small_trpo = small(pg.trpo, 1, num_value_epochs=2, num_value_minibatches=2)
small_reinforce = small(
    pg.reinforce, 2, normalize_advantages=False, num_value_epochs=1, num_value_minibatches=1
)
small_online_actor_critic = small(pg.online_actor_critic, 2, trace_lambda=0.9)


def small_actor_critic(env, env_params, discount=0.99, **options):
    """Actor-critic with GAE, unless `advantage_fn` says otherwise, and networks of 8 units."""
    options = {
        "advantage_fn": partial(pg.gae_advantage, discount=discount, gae_lambda=0.95),
        **options,
    }
    return small(pg.actor_critic, 2)(env, env_params, **options)


def small_off_policy_gradient(env, env_params, discount=0.99, **options):
    """Two steps on each rollout, weighed by the ratio of each action unless `weighting_fn` says otherwise."""
    options = {"weighting_fn": partial(pg.per_step_weighting, discount=discount), **options}
    build = small(
        pg.off_policy_gradient, 2, num_policy_steps=2, num_value_epochs=1, num_value_minibatches=1
    )
    return build(env, env_params, **options)


ALGORITHMS = {
    "ppo": small_ppo,
    "trpo": small_trpo,
    "reinforce": small_reinforce,
    "off_policy_gradient": small_off_policy_gradient,
    "actor_critic": small_actor_critic,
    "online_actor_critic": small_online_actor_critic,
}
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


def on_the_grid(obs):
    """Moves left, down, right, up that stay on a 4 x 4 grid, `[..., 4]` of the states `obs`, in NumPy."""
    row, column = np.divmod(np.asarray(obs), 4)
    return np.stack([column > 0, row < 3, column < 3, row > 0], axis=-1)


def frozen_lake_under(mask_of):
    """FrozenLake-misc where `mask_of` its 16 states, in NumPy, says what is allowed."""
    return frozen_lake_with(jnp.asarray(mask_of(np.arange(16))))


def frozen_lake_with(table):
    """FrozenLake-misc where a table `[16, 4]`, which may be traced, says what is allowed."""
    env, env_params = pg.make("FrozenLake-misc")
    return pg.mask_actions(env, lambda obs, params: table[obs]), env_params


def assert_scalars_are_traced_and_matter(run, rows):
    """`run(key, *scalars) -> parameters` swept over rows of scalars, against the first row as Python floats.

    Every other row differs from the first in one scalar, and must give other parameters.
    """
    keys = jax.random.split(jax.random.key(0), 1)
    swept = pg.sweep(run, keys, *np.array(rows, np.float32).T, devices=jax.local_devices()[:1])
    alone = jax.jit(lambda key: run(key, *rows[0]))(keys[0])
    swept, alone = jax.device_get((swept, alone))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x[0, 0], y, rtol=1e-4, atol=1e-5), swept, alone
    )
    for i in range(1, len(rows)):
        moved = jax.tree.map(lambda x, i=i: np.abs(x[i] - x[0]).max(), swept)
        assert max(jax.tree.leaves(moved)) > 1e-6


def assert_trees_equal(x, y):
    """The same structure, dtypes and bits."""
    assert jax.tree.structure(x) == jax.tree.structure(y)
    for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y)):
        assert a.dtype == b.dtype
        assert (np.asarray(a) == np.asarray(b)).all()
