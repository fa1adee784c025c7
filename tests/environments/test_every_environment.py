"""Every environment of gymnax that needs no download, through a few updates of one algorithm.

All algorithms on all of them are the slow `test_every_environment` of test_algorithms.py, and all of them
through the program, evaluation included, the slow test of programs/test_train.py.
"""

import jax
import numpy as np
import pytest
from gymnax import registered_envs

import purejaxpg as pg
from purejaxpg.training.sweep import distribute
from tests.small import small_actor_critic

OFFLINE = sorted(set(registered_envs) - {"MNISTBandit-bsuite"})


def test_there_are_25():
    assert len(OFFLINE) == 25


@pytest.mark.parametrize("env_id", OFFLINE)
def test_some_updates_are_finite(env_id):
    env, env_params = pg.make(env_id)
    algorithm = small_actor_critic(env, env_params)

    def run(key):  # one program: the environment is compiled in it but once
        def update(state, key):
            state, seen, metrics = algorithm.step(key, state, env_params)
            return state, (seen.reward, metrics)

        begun = algorithm.init(key, env_params)
        after, seen = jax.lax.scan(update, begun, jax.random.split(key, 3))
        return begun.params, after.params, seen

    # Sharded, as users run it: where a program is compiled for several devices other things can go wrong.
    keys = jax.random.split(jax.random.key(0), len(jax.devices()))
    before, after, seen = jax.device_get(distribute(run)(keys))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((after, seen)))
    moved = jax.tree.map(lambda x, y: (x != y).any(), before, after)
    assert any(jax.tree.leaves(moved.policy)) and any(jax.tree.leaves(moved.value))
