"""Craftax-Classic beside its own stepping, and its ends by death and by time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.adapted import assert_ppo_stays_finite
from tests.environments.test_gymnax import assert_types

pytest.importorskip("craftax")

from craftax.craftax_env import make_craftax_env_from_name

from purejaxpg.environments.adapters.craftax import make_craftax

NAME = "Craftax-Classic-Symbolic-v1"


def test_types():
    assert_types(*make_craftax(NAME))


def test_steps_and_ends():
    """The same keys and actions as Craftax's own step, up to the time limit and by a death at it or before."""
    env, params = make_craftax(NAME, max_timesteps=3)
    theirs = make_craftax_env_from_name(NAME, auto_reset=False)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    obs, state = reset(jax.random.key(0), params)
    their_obs, their_state = theirs.reset(jax.random.key_data(jax.random.key(0)), params)
    np.testing.assert_array_equal(obs, their_obs)
    for i, action in enumerate((1, 5, 3)):
        before, key, action = state, jax.random.key(i), jnp.array(action)
        obs, state, reward, terminated, truncated, info = step(key, state, action, params)
        their_obs, their_state, their_reward, done, their_info = theirs.step(
            jax.random.key_data(key), their_state, action, params
        )
        np.testing.assert_array_equal(obs, their_obs)
        assert reward == their_reward
        assert done == (i == 2)
        assert (terminated.item(), truncated.item()) == (False, i == 2)
        assert info["score"] == their_info["score"]
    starved = before._replace(env_state=before.env_state.replace(player_health=jnp.array(-9)))
    *_, terminated, truncated, _ = step(key, starved, action, params)
    assert terminated and truncated
    *_, terminated, truncated, _ = step(key, starved, action, params.replace(max_timesteps=9))
    assert terminated and not truncated


@pytest.mark.slow
def test_ppo():
    assert_ppo_stays_finite(*make_craftax(NAME), num_updates=1)


def test_refusals():
    with pytest.raises(ValueError, match=r"Craftax has no environment 'Craftax' \(did you mean Cr"):
        make_craftax("Craftax")
    with pytest.raises(ValueError, match=r"no parameter 'max_steps' \(did you mean max_timesteps"):
        make_craftax(NAME, max_steps=3)
