"""Environments of Brax beside its own stepping and its own time limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.environments.adapters.brax import make_brax
from tests.adapted import assert_ppo_stays_finite, play, until_done
from tests.environments.test_gymnax import assert_types

pytestmark = [
    pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Accessing .* directly from `Data`:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Brax System:UserWarning"),
]


@pytest.fixture(autouse=True)
def envs():
    return pytest.importorskip("brax.envs")


@pytest.mark.parametrize(("env_id", "limit"), [("fast", 15), ("inverted_pendulum", 3)])
def test_steps_and_time_limit_are_those_of_brax(envs, env_id, limit):
    """Actions overstep their bounds by half; Brax is given the clipped ones."""
    env, params = make_brax(env_id, max_steps_in_episode=limit)
    assert_types(env, params)
    theirs = envs.create(env_id, episode_length=limit, auto_reset=False)
    first, (obs, _, action, _, reward, terminated, truncated) = play(
        jax.random.key(0), env, params, 15, 6
    )

    @jax.jit
    @jax.vmap
    def run(key, actions):
        def one_step(state, action):
            state = theirs.step(state, action)
            done, cut = state.done, state.info["truncation"]
            return state, (state.obs, state.reward, done * (1 - cut), cut)

        state = theirs.reset(jax.random.key_data(key))
        return state.obs, jax.lax.scan(one_step, state, actions)[1]

    actions = jnp.clip(action, -1, 1)
    assert (actions != action).any()
    start, (their_obs, their_reward, done, cut) = run(
        jax.random.split(jax.random.key(0), 6), actions
    )
    np.testing.assert_allclose(first, start, rtol=1e-6)
    counted = until_done(terminated | truncated)
    np.testing.assert_allclose(obs[counted], their_obs[counted], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(reward[counted], their_reward[counted], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(terminated[counted], done[counted])
    np.testing.assert_array_equal((truncated & ~terminated)[counted], cut[counted])
    assert truncated.any()
    assert terminated.any() == (env_id == "inverted_pendulum")


def test_fast_is_truncated_at_its_limit():
    """A push adds 0.02 to the speed and 0.02 times the speed to the position, the reward."""
    env, params = make_brax("fast", max_steps_in_episode=4)
    _, state = env.reset(jax.random.key(0), params)
    for n in range(1, 5):
        obs, state, reward, terminated, truncated, info = env.step(
            None, state, jnp.array([0.7]), params
        )
        np.testing.assert_allclose(obs, [4e-4 * n * (n + 1) / 2, 0.02 * n], rtol=1e-5)
        assert reward == obs[0]
        assert (terminated.item(), truncated.item()) == (False, n == 4)
        assert info["episode_length"] == n


def test_a_step_leaves_the_state_before_as_it_was():
    """Brax writes into the dicts of a state, which eager code would see."""
    env, params = make_brax("reacher")
    shapes = jax.eval_shape(lambda key: env.reset(key, params)[1], jax.random.key(0))
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    metrics = dict(state.env_state.env_state.metrics)
    jax.make_jaxpr(lambda action: env.step(None, state, action, params))(jnp.ones(2))
    assert metrics and state.env_state.env_state.metrics == metrics


def test_ppo():
    assert_ppo_stays_finite(*make_brax("fast"))


def test_refusals():
    with pytest.raises(ValueError, match=r"Brax has no environment 'hoper' \(did you mean hopper"):
        make_brax("hoper")
    with pytest.raises(TypeError, match="gravity"):
        make_brax("reacher", gravity=3.0)
