"""Masks from an environment through acting and updating: forbidden actions never happen, and nothing breaks."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.agent.acting import choose_action, on_raw_observations
from purejaxpg.agent.rollout import begin
from purejaxpg.outer.normalization import NormalizationParams
from tests.algorithms.test_ppo import large_head_policy
from tests.small import ALGORITHMS, frozen_lake_under, frozen_lake_with, on_the_grid


def only_one(obs):
    """Every state but the last row's allows one action: the state's number modulo 4."""
    return np.where((np.asarray(obs) < 12)[..., None], np.eye(4, dtype=bool)[obs % 4], True)


@pytest.mark.parametrize("mask_of", [on_the_grid, only_one])
def test_forbidden_actions_never_happen(mask_of):
    """In 10^5 samples of a policy far from uniform; their probability is exactly 0 and recorded so."""
    env, env_params = frozen_lake_under(mask_of)
    policy = large_head_policy(env.action_space(env_params))
    obs = jnp.arange(16)[None]
    seen = env.observe(obs, env_params)
    params = policy.init(jax.random.key(0), seen)
    distribution, _ = policy.apply(params, (), seen, jnp.zeros((1, 16), bool))
    allowed = mask_of(np.arange(16))
    probs = np.asarray(distribution.probs[0])
    assert (probs[~allowed] == 0).all()
    np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-6)

    def act(key, memory, obs, start):
        network = on_raw_observations(policy, env, env_params)
        return choose_action(key, network, params, memory, obs, start)

    @jax.jit
    def play(key):
        loop = begin(key, env, env_params, (), num_envs=500)
        _, seen = pg.unroll(key, env, env_params, act, loop, num_steps=200)
        again, _ = policy.apply(params, (), env.observe(seen.obs, env_params), seen.start)
        return seen.obs, seen.action, again.log_prob(seen.action)

    obs, action, log_prob = (np.asarray(x) for x in play(jax.random.key(1)))
    assert action.size == 100_000
    assert mask_of(obs)[np.arange(200)[:, None], np.arange(500), action].all()
    assert np.isfinite(log_prob).all()
    if mask_of is only_one:
        assert (log_prob[obs < 12] == 0).all()


@lru_cache
def masked(name):
    """`init` and `step` of an algorithm, compiled once for every table of masks, their last argument."""

    def of(table):
        env, env_params = frozen_lake_with(table)
        return ALGORITHMS[name](env, env_params, entropy_coef=0.01), env_params

    def init(key, table):
        algorithm, env_params = of(table)
        return algorithm.init(key, env_params)

    def step(key, state, table):
        algorithm, env_params = of(table)
        return algorithm.step(key, state, env_params)

    return jax.jit(init), jax.jit(step)


@pytest.mark.parametrize("mask_of", [on_the_grid, only_one])
@pytest.mark.parametrize("name", ["ppo", "trpo"])
def test_updates_stay_finite_and_legal(name, mask_of):
    """Also where one action is left: gradients, KL and Fisher products are those of fewer actions."""
    init, step = masked(name)
    table = jnp.asarray(mask_of(np.arange(16)))
    state = init(jax.random.key(0), table)
    for i in range(3):
        state, seen, metrics = jax.device_get(step(jax.random.key(i), state, table))
        assert all(np.isfinite(value).all() for value in metrics.values())
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
        allowed = np.take_along_axis(mask_of(seen.obs), np.asarray(seen.action)[..., None], -1)
        assert allowed.all()


def test_the_hidden_part_of_a_normalised_observation_is_the_mask():
    """Statistics are of the observation alone, and the mask comes through as it was."""
    env, env_params = frozen_lake_under(on_the_grid)
    space = env.action_space(env_params)
    below = []

    def build(env):
        below.append(env)
        return ALGORITHMS["ppo"](env, None, action_space=space)

    algorithm = pg.normalize_observations(build, warmup_steps=20)(env)
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    assert state.statistics.mean.shape == (16,)
    np.testing.assert_allclose(state.statistics.mean.sum(), 1, rtol=1e-5)  # of one-hot vectors
    seen = below[0].observe(jnp.arange(16), NormalizationParams(env_params, state.statistics))
    np.testing.assert_array_equal(seen.mask, on_the_grid(np.arange(16)))
    assert seen.mask.dtype == bool
    mean, variance = (np.asarray(x, np.float64) for x in state.statistics[1:])
    expected = np.clip((np.eye(16) - mean) / np.sqrt(variance + 1e-8), -10, 10)
    np.testing.assert_allclose(seen.obs, expected, rtol=1e-4, atol=1e-4)


def test_flattened_observations_keep_their_mask():
    env, env_params = frozen_lake_under(on_the_grid)
    flat = pg.flatten_observations(env)
    obs, _ = flat.reset(jax.random.key(0), env_params)
    seen = flat.observe(obs, env_params)
    assert (seen.obs.shape, seen.mask.shape) == ((16,), (4,))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_masks_that_do_not_fit_are_refused(env_id):
    env, env_params = pg.make(env_id)
    masked = pg.mask_actions(env, lambda obs, params: jnp.ones((*obs.shape[:-1], 3), bool))
    with pytest.raises(ValueError, match=r"A mask of shape \(3,\) does not fit the actions"):
        masked.observe(jnp.zeros(4), env_params)
