"""Every environment of gymnax that needs no download, through a few updates of one algorithm.

All algorithms on all of them are the slow `test_every_environment` of test_algorithms.py.
"""

import jax
import numpy as np
import pytest
from gymnax import registered_envs

import purejaxpg as pg
from tests.small import small_actor_critic

OFFLINE = sorted(set(registered_envs) - {"MNISTBandit-bsuite"})


def test_there_are_25():
    assert len(OFFLINE) == 25


@pytest.mark.parametrize("env_id", OFFLINE)
def test_some_updates_are_finite(env_id):
    env, env_params = pg.make(env_id)
    algorithm = small_actor_critic(env, env_params)
    key = jax.random.key(0)
    quick = {"xla_backend_optimization_level": 0}  # compiling takes longer than running
    state = jax.jit(algorithm.init, compiler_options=quick)(key, env_params)
    step = jax.jit(algorithm.step, compiler_options=quick)
    before = state.params
    for i in range(3):
        state, seen, metrics = step(jax.random.fold_in(key, i), state, env_params)
        assert all(np.isfinite(value).all() for value in metrics.values())
        assert np.isfinite(seen.reward).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    moved = jax.tree.map(lambda x, y: bool((x != y).any()), before, state.params)
    assert any(jax.tree.leaves(moved.policy)) and any(jax.tree.leaves(moved.value))
