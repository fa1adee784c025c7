"""What the tests of adapters share."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from purejaxpg.types import split_mask
from tests.small import small_ppo


def legal_action(key, env, params, obs):
    """An action drawn uniformly from those that are allowed."""
    space = env.action_space(params)
    if isinstance(space, pg.Box):
        return jax.random.uniform(key, space.shape, minval=2 * space.low, maxval=2 * space.high)
    _, mask = split_mask(env.observe(obs, params))
    logits = jnp.zeros(space.n) if mask is None else jnp.where(mask, 0.0, -jnp.inf)
    return jax.random.categorical(key, logits)


@partial(jax.jit, static_argnums=(1, 3, 4))
def play(key, env, params, num_steps, num_envs):
    """Legal random steps of `num_envs` instances without resets: the first obs, then `[num_envs, num_steps]` of
    obs, state, action, key of the step, reward, terminated, truncated."""

    def one_step(carry, key):
        obs, state = carry
        act_key, key = jax.random.split(key)
        action = legal_action(act_key, env, params, obs)
        obs, state, reward, terminated, truncated, _ = env.step(key, state, action, params)
        return (obs, state), (obs, state, action, key, reward, terminated, truncated)

    def one(key):
        obs, state = env.reset(key, params)
        return obs, jax.lax.scan(one_step, (obs, state), jax.random.split(key, num_steps))[1]

    return jax.vmap(one)(jax.random.split(key, num_envs))


def until_done(done):
    """`[num_envs, num_steps]`: whether a step belongs to the first episode, the last step of which is done."""
    return np.cumsum(done, axis=1) - done == 0


def assert_ppo_stays_finite(env, params, num_updates=3):
    """Some updates of two seeds at once; every seed moves its own way."""
    algorithm = small_ppo(env, params)

    @jax.jit
    @jax.vmap
    def run(key):
        before, _ = pg.train(key, algorithm, params, num_updates=0)
        after, metrics = pg.train(key, algorithm, params, num_updates=num_updates)
        return before.params, after.params, metrics

    before, after, metrics = run(jax.random.split(jax.random.key(0), 2))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((after, metrics)))
    moved = jax.tree.map(
        lambda x, y: np.abs(x - y).max(axis=tuple(range(1, x.ndim))), before, after
    )
    assert np.all(np.max(np.stack(jax.tree.leaves(moved)), axis=0) > 0)
    kernels = [x for x in jax.tree.leaves(after) if x.ndim == 3]
    assert all((x[0] != x[1]).any() for x in kernels)
