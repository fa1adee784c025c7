"""Environments against gymnax's own `step_env`, transitions computed by hand, and small stand-ins."""

import inspect
import re
import urllib.error
from functools import cache, partial
from importlib.metadata import version

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax import registration
from gymnax.environments import environment, spaces
from gymnax.utils import load_mnist
from gymnax.wrappers import FlattenObservationWrapper, LogWrapper

from purejaxpg.environments.gymnax import from_gymnax, make
from purejaxpg.environments.wrappers import (
    boolean_observations,
    clip_actions,
    episode_statistics,
    flatten_observations,
    rescale_actions,
    squash_actions,
)
from purejaxpg.types import Box, Discrete, Env

T, B = 20, 4
OFFLINE = [env_id for env_id in gymnax.registered_envs if env_id != "MNISTBandit-bsuite"]
MINATAR = [env_id for env_id in OFFLINE if env_id.endswith("MinAtar")]
each = pytest.mark.parametrize("env_id", OFFLINE)
# Each program runs once, so that compiling it fast matters more than how fast it then is.
OPTIONS: dict[str, object] = {"xla_backend_optimization_level": 0}
if version("jaxlib").startswith("0.10."):
    OPTIONS["xla_cpu_use_fusion_emitters"] = False
jit = partial(jax.jit, compiler_options=OPTIONS)


def sample(key, space, stretch=1.0):
    """An action drawn uniformly from a space, times `stretch` if it is continuous."""
    if isinstance(space, Discrete):
        return jax.random.randint(key, (), 0, space.n)
    return stretch * jax.random.uniform(key, space.shape, minval=space.low, maxval=space.high)


def select(pred, yes, no):
    return jax.tree.map(lambda x, y: jnp.where(pred, x, y), yes, no)


@cache
def play(env_id):
    """T random steps of B instances, beside gymnax's own from the same states with the same keys.

    Continuous actions overstep their bounds by half; gymnax is given the clipped ones. An instance
    whose episode has ended stays in the state before, so that nothing depends on resets.
    """
    env, params = make(env_id)
    theirs, their_params = gymnax.make(env_id)
    space = env.action_space(params)

    def one_step(state, key):
        action_key, key = jax.random.split(key)
        action = sample(action_key, space, stretch=1.5)
        obs, new_state, *ours = env.step(key, state, action, params)
        legal = jnp.clip(action, space.low, space.high) if isinstance(space, Box) else action
        gymnax_obs, gymnax_state, reward, terminated, _ = theirs.step_env(
            key, state.env_state, legal, their_params
        )
        truncated = theirs.is_truncated(gymnax_state, their_params)
        expected = (gymnax_obs, gymnax_state, reward, terminated, truncated)
        found = (obs, new_state.env_state, *ours[:3])
        new_state = select(ours[1] | ours[2], state, new_state)
        return new_state, (found, expected, env.observe(obs, params))

    @jit
    @jax.vmap
    def run(key):
        reset_key, key = jax.random.split(key)
        obs, state = env.reset(reset_key, params)
        return obs, jax.lax.scan(one_step, state, jax.random.split(key, T))[1]

    return jax.device_get(run(jax.random.split(jax.random.key(3), B)))


def test_there_are_25_offline_environments():
    assert len(OFFLINE) == 25


@each
def test_random_steps_are_those_of_gymnax(env_id):
    _, (found, expected, _) = play(env_id)
    assert len(jax.tree.leaves(found)) == len(jax.tree.leaves(expected))
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(
            ours.astype(np.float64), theirs.astype(np.float64), rtol=1e-5, atol=1e-6
        )


@each
def test_shapes_types_and_finiteness(env_id):
    env, params = make(env_id)
    space = env.observation_space(params)
    first, ((obs, _, reward, terminated, truncated), _, seen) = play(env_id)
    assert first.shape == (B, *space.shape)
    assert obs.shape == (B, T, *space.shape)
    assert obs.dtype == first.dtype
    assert reward.shape == terminated.shape == truncated.shape == (B, T)
    assert reward.dtype == np.float32
    assert terminated.dtype == truncated.dtype == bool
    assert seen.dtype == np.float32
    assert seen.shape == (B, T, *((space.n,) if isinstance(space, Discrete) else space.shape))
    for array in (first, obs, reward, seen):
        assert np.isfinite(array).all()


def avals(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


def assert_types(env, params):
    """A scan can carry the state, and a step gives what a rollout needs. Nothing is computed."""

    def reset(key):  # traced, so that a leaf that is not an array is a Python number
        result = env.reset(key, params)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(result))
        return result

    def step(key, state):
        action = sample(key, env.action_space(params))
        result = env.step(key, state, action, params)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(result))
        return result

    key = jax.random.key(0)
    obs, state = jax.eval_shape(reset, key)
    new_obs, new_state, reward, terminated, truncated, info = jax.eval_shape(step, key, state)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    assert avals(new_state) == avals(state)
    assert avals(new_obs) == avals(obs)
    assert avals((reward, terminated, truncated)) == (
        ((), np.float32, False),
        ((), bool, False),
        ((), bool, False),
    )
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((obs, state)))
    assert all(leaf.shape == () for leaf in info.values())  # no observation
    assert {"episode_return", "episode_length"} <= set(info)
    assert "discount" not in info
    assert obs.shape == env.observation_space(params).shape


@each
def test_a_step_leaves_the_type_of_the_state(env_id):
    assert_types(*make(env_id))


def test_frozen_lake_is_observed_one_hot():
    env, params = make("FrozenLake-misc")
    assert env.observation_space(params) == Discrete(16)
    position = jnp.array([[0, 3], [15, 7]])
    seen = env.observe(position, params)
    assert seen.dtype == jnp.float32
    np.testing.assert_array_equal(seen, np.eye(16)[np.asarray(position)])


@pytest.mark.parametrize("env_id", MINATAR)
def test_minatar_observations_are_boolean(env_id):
    _, ((obs, *_), (gymnax_obs, *_), seen) = play(env_id)
    assert obs.dtype == bool
    assert set(np.unique(gymnax_obs)) == {0, 1}
    np.testing.assert_array_equal(obs, gymnax_obs)
    np.testing.assert_array_equal(seen, gymnax_obs)


def test_boolean_observations_are_observed_as_below():
    def nothing(*args):
        raise AssertionError

    below = Env(nothing, nothing, nothing, nothing, lambda obs, scale: scale * obs)
    seen = boolean_observations(below).observe(jnp.array([True, False]), 3.0)
    assert seen.dtype == jnp.float32
    np.testing.assert_array_equal(seen, [3.0, 0.0])


# Ends of episodes.


def follow(env, params, policy, num_steps, seed=0):
    """`(obs, state, reward, terminated, truncated, info)` of steps without resets, `[num_steps, ...]`."""

    def one_step(carry, key):
        obs, state = carry
        result = env.step(key, state, policy(obs), params)
        return result[:2], result

    @jit
    def run(key):
        reset_key, key = jax.random.split(key)
        carry = env.reset(reset_key, params)
        return jax.lax.scan(one_step, carry, jax.random.split(key, num_steps))[1]

    return run(jax.random.key(seed))


def test_cart_pole_is_truncated_at_its_limit():
    env, params = make("CartPole-v1", max_steps_in_episode=5)
    balance = lambda obs: (obs[2] + obs[3] > 0).astype(int)  # noqa: E731
    _, _, reward, terminated, truncated, info = follow(env, params, balance, 5)
    np.testing.assert_array_equal(truncated, [False] * 4 + [True])
    assert not terminated.any()
    np.testing.assert_array_equal(reward, np.ones(5))
    np.testing.assert_array_equal(info["episode_length"], [1, 2, 3, 4, 5])


def test_cart_pole_terminates_when_pushed_to_one_side():
    env, params = make("CartPole-v1")
    *_, terminated, truncated, _ = follow(env, params, lambda obs: jnp.array(1), 15)
    assert terminated.any()
    assert not truncated.any()


def test_pendulum_is_truncated_at_200():
    env, params = make("Pendulum-v1")
    *_, terminated, truncated, _ = follow(env, params, lambda obs: jnp.zeros(1), 200)
    assert not terminated.any()
    np.testing.assert_array_equal(np.flatnonzero(truncated), [199])


def test_deep_sea_terminates_and_is_truncated_at_once():
    env, params = make("DeepSea-bsuite")
    *_, terminated, truncated, _ = follow(env, params, lambda obs: jnp.array(0), 8)
    np.testing.assert_array_equal(terminated, [False] * 7 + [True])
    np.testing.assert_array_equal(truncated, [False] * 7 + [True])


# Wrappers of actions.


def pendulum_step(wrap, action):
    """One step from theta = 0.3, theta' = 0.5; returns the reward and the state arrived at."""
    env, params = make("Pendulum-v1")
    env = wrap(env)
    _, state = env.reset(jax.random.key(0), params)
    inner = state.env_state.replace(theta=jnp.float32(0.3), theta_dot=jnp.float32(0.5))
    state = state._replace(env_state=inner)
    _, state, reward, *_ = env.step(jax.random.key(1), state, jnp.array([action]), params)
    return reward, state.env_state


@pytest.mark.parametrize(
    ("wrap", "action", "torque"),
    [
        (lambda env: env, 1.5, 1.5),
        (lambda env: env, 5.0, 2.0),
        (lambda env: env, -5.0, -2.0),
        (rescale_actions, 0.5, 1.0),
        (rescale_actions, -1.0, -2.0),
        (rescale_actions, 3.0, 2.0),  # clipped below
        (squash_actions, 0.5, 2 * np.tanh(0.5)),
        (squash_actions, -9.0, 2 * np.tanh(-9.0)),
    ],
)
def test_torque_of_pendulum(wrap, action, torque):
    reward, state = pendulum_step(wrap, action)
    speed = 0.5 + (15.0 * np.sin(0.3) + 3.0 * torque) * 0.05
    np.testing.assert_allclose(state.theta_dot, speed, rtol=1e-5)
    np.testing.assert_allclose(state.theta, 0.3 + 0.05 * speed, rtol=1e-5)
    expected = -(0.3**2 + 0.1 * 0.5**2 + 0.001 * torque**2)
    np.testing.assert_allclose(reward, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("wrap", "action", "move"),
    [
        (lambda env: env, [0.05, -3.0], [0.05, -0.1]),
        (rescale_actions, [0.5, -0.2], [0.05, -0.02]),
        (squash_actions, [1.0, -2.0], [0.1 * np.tanh(1.0), 0.1 * np.tanh(-2.0)]),
    ],
)
def test_move_of_point_robot(wrap, action, move):
    env, params = make("PointRobot-misc")
    env = wrap(env)
    _, state = env.reset(jax.random.key(0), params)
    here = jnp.array([0.1, -0.5])  # the goal is on the upper half of the unit circle
    state = state._replace(env_state=state.env_state.replace(pos=here))
    obs, state, *_ = env.step(jax.random.key(1), state, jnp.array(action), params)
    np.testing.assert_allclose(state.env_state.pos, np.add(here, move), atol=1e-6)
    np.testing.assert_allclose(obs[3:5], move, atol=1e-6)  # the last action, as it was taken


def lopsided():
    """Actions between (-1, 0) and (3, 10), reported in `info`."""

    def step(key, state, action, params):
        flag = jnp.array(False)
        return jnp.zeros(1), state, action.sum(), flag, flag, {"action": action}

    return Env(
        lambda key, params: (jnp.zeros(1), ()),
        step,
        lambda params: Box(-1.0, 1.0, (1,)),
        lambda params: Box(np.array([-1.0, 0.0]), np.array([3.0, 10.0]), (2,)),
    )


@pytest.mark.parametrize(
    ("wrap", "action", "expected", "low", "high"),
    [
        (clip_actions, [-4.0, 4.0], [-1.0, 4.0], [-1.0, 0.0], [3.0, 10.0]),
        (clip_actions, [4.0, 44.0], [3.0, 10.0], [-1.0, 0.0], [3.0, 10.0]),
        (rescale_actions, [-1.0, 1.0], [-1.0, 10.0], -1.0, 1.0),
        (rescale_actions, [0.0, 0.5], [1.0, 7.5], -1.0, 1.0),
        (rescale_actions, [1.0, -1.0], [3.0, 0.0], -1.0, 1.0),
        (squash_actions, [0.0, 0.0], [1.0, 5.0], -np.inf, np.inf),
        (squash_actions, [1.0, 99.0], [1 + 2 * np.tanh(1.0), 10.0], -np.inf, np.inf),
    ],
)
def test_lopsided_bounds(wrap, action, expected, low, high):
    env = wrap(lopsided())
    *_, info = env.step(jax.random.key(0), (), jnp.array(action), None)
    np.testing.assert_allclose(info["action"], expected, rtol=1e-6)
    space = env.action_space(None)
    assert space.shape == (2,)
    np.testing.assert_array_equal(space.low, low)
    np.testing.assert_array_equal(space.high, high)


@pytest.mark.parametrize("wrap", [clip_actions, rescale_actions, squash_actions])
def test_wrappers_of_actions_refuse_discrete_ones(wrap):
    env, params = make("CartPole-v1")
    message = f"{wrap.__name__} needs continuous actions; .*Discrete"
    with pytest.raises(ValueError, match=message):
        wrap(env).action_space(params)
    _, state = env.reset(jax.random.key(0), params)
    with pytest.raises(ValueError, match=message):
        wrap(env).step(jax.random.key(0), state, jnp.array(0), params)


# Wrappers of observations, and episode statistics.


@pytest.mark.parametrize(
    ("env_id", "wrap", "raw", "seen"),
    [
        ("Catch-bsuite", lambda env: env, 50, 50),
        ("Catch-bsuite", boolean_observations, 50, 50),
        ("FrozenLake-misc", lambda env: env, 1, 16),
    ],
)
def test_flatten_observations(env_id, wrap, raw, seen):
    env, params = make(env_id)
    env = wrap(env)
    flat = flatten_observations(env)
    assert flat.observation_space(params).shape == (raw,)
    assert flat.action_space(params) == env.action_space(params)
    obs, state = env.reset(jax.random.key(0), params)
    flat_obs, flat_state = flat.reset(jax.random.key(0), params)
    key, action = jax.random.key(1), jnp.array(1)
    obs, flat_obs = (
        [obs, env.step(key, state, action, params)[0]],
        [flat_obs, flat.step(key, flat_state, action, params)[0]],
    )
    for one, flat_one in zip(obs, flat_obs):
        assert flat_one.shape == (raw,)
        assert flat_one.dtype == one.dtype
        np.testing.assert_array_equal(flat_one, np.ravel(one))
    batch = jnp.broadcast_to(jnp.stack(flat_obs), (3, 2, raw))  # [T, B, raw]
    batch_seen = flat.observe(batch, params)
    assert batch_seen.shape == (3, 2, seen)
    assert batch_seen.dtype == jnp.float32
    np.testing.assert_array_equal(batch_seen[2, 1], np.ravel(env.observe(obs[1], params)))


def test_statistics_count_the_raw_reward():
    env, params = make("Pendulum-v1")

    def tenfold(key, state, action, params):
        obs, state, reward, *rest = env.step(key, state, action, params)
        return obs, state, 10 * reward, *rest

    _, state, reward, *_, info = follow(
        env._replace(step=tenfold), params, lambda obs: jnp.ones(1), 12
    )
    np.testing.assert_allclose(info["episode_return"], np.cumsum(reward) / 10, rtol=1e-5)
    np.testing.assert_array_equal(info["episode_length"], np.arange(1, 13))
    assert info["episode_return"].dtype == jnp.float32
    assert info["episode_length"].dtype == jnp.int32
    np.testing.assert_array_equal(state.episode_length, info["episode_length"])


def test_statistics_keep_what_info_holds():
    env = episode_statistics(lopsided())
    _, state = env.reset(jax.random.key(0), None)
    *_, info = env.step(jax.random.key(0), state, jnp.array([1.0, 2.0]), None)
    assert set(info) == {"action", "episode_return", "episode_length"}
    assert (info["episode_return"], info["episode_length"]) == (3.0, 1)


# Parameters.


def test_masses_of_cart_pole_follow():
    close = lambda params, total, moment: np.testing.assert_allclose(  # noqa: E731
        [params.total_mass, params.polemass_length], [total, moment], rtol=1e-6
    )
    close(make("CartPole-v1")[1], 1.1, 0.05)
    close(make("CartPole-v1", gravity=5.0)[1], 1.1, 0.05)
    close(make("CartPole-v1", masscart=2.0)[1], 2.1, 0.05)
    close(make("CartPole-v1", length=1.0)[1], 1.1, 0.1)
    close(make("CartPole-v1", masspole=0.3, length=2.0)[1], 1.3, 0.6)
    close(make("CartPole-v1", masspole=0.3, total_mass=7.0)[1], 7.0, 0.15)
    close(make("CartPole-v1", masspole=0.3, polemass_length=9.0)[1], 1.3, 9.0)
    close(make("CartPole-v1", total_mass=7.0)[1], 7.0, 0.05)


def test_cart_pole_moves_with_its_masses():
    """The equations of motion of Florian (2007), which gym's CartPole uses, in float64."""
    masscart, masspole, length = 2.0, 0.4, 0.8
    env, params = make("CartPole-v1", masscart=masscart, masspole=masspole, length=length)
    obs, state = env.reset(jax.random.key(4), params)
    new_obs, *_ = env.step(jax.random.key(0), state, jnp.array(1), params)
    x, x_dot, theta, theta_dot = np.asarray(obs, np.float64)
    total, sin, cos = masscart + masspole, np.sin(theta), np.cos(theta)
    push = (10.0 + masspole * length * theta_dot**2 * sin) / total
    theta_acc = (9.8 * sin - cos * push) / (length * (4 / 3 - masspole * cos**2 / total))
    x_acc = push - masspole * length * theta_acc * cos / total
    expected = np.array([x, x_dot, theta, theta_dot])
    expected += 0.02 * np.array([x_dot, x_acc, theta_dot, theta_acc])
    np.testing.assert_allclose(new_obs, expected, rtol=1e-5)


def test_parameters_may_be_arrays_and_traced():
    assert make("CartPole-v1", gravity=np.float32(3.0))[1].gravity == 3.0
    assert make("CartPole-v1", gravity=jnp.array(3.0))[1].gravity == 3.0
    assert make("PointRobot-misc", dense_reward=True)[1].dense_reward is True

    def speed(masspole):
        env, params = make("CartPole-v1", masspole=masspole)
        _, state = env.reset(jax.random.key(0), params)
        return params.total_mass, env.step(jax.random.key(0), state, jnp.array(1), params)[0][1]

    masses = jnp.array([0.1, 0.5])
    total, speeds = jit(jax.vmap(speed))(masses)
    np.testing.assert_allclose(total, [1.1, 1.5], rtol=1e-6)
    np.testing.assert_allclose(speeds, [speed(m)[1] for m in masses], rtol=1e-5)
    assert speeds[0] > speeds[1]


def test_arguments_of_the_constructor():
    env, params = make("DeepSea-bsuite", env_kwargs={"size": 10})
    assert env.observation_space(params).shape == (10, 10)
    assert params.max_steps_in_episode == 10
    env, params = make("FrozenLake-misc", env_kwargs={"map_name": "8x8"}, max_steps_in_episode=7)
    assert env.observation_space(params) == Discrete(64)
    assert env.observe(jnp.array(63), params).shape == (64,)
    assert params.max_steps_in_episode == 7


def test_env_params_may_be_left_out_where_only_spaces_are_asked():
    env, params = make("Pendulum-v1")
    assert env.observation_space(None).shape == env.observation_space(params).shape == (3,)
    assert (env.action_space(None).low, env.action_space(None).high) == (-2.0, 2.0)
    assert make("Pendulum-v1", max_torque=1.0)[0].action_space(params).high == 2.0
    narrow = make("Pendulum-v1", max_torque=1.0)
    assert narrow[0].action_space(narrow[1]).high == 1.0


# Environments of one's own.


@struct.dataclass
class CountState(environment.EnvState):
    total: int
    time: int


@struct.dataclass
class CountParams(environment.EnvParams):
    goal: int = 3
    max_steps_in_episode: int = 4


class Count(environment.Environment):
    """Adds up actions; terminates from `goal` on. State, reward and flag are Python numbers."""

    def __init__(self, offset: int = 0):
        self.offset = offset

    @property
    def default_params(self):
        return CountParams()

    def reset_env(self, key, params):
        return jnp.array([0, self.offset]), CountState(total=0, time=0)

    def step_env(self, key, state, action, params):
        state = CountState(total=state.total + action, time=state.time + 1)
        obs = jnp.array([state.total, self.offset])
        return obs, state, state.total, state.total >= params.goal, {"discount": 1.0, "two": 2}

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(0, 99, (2,), jnp.float32)


def test_from_gymnax_on_an_own_environment():
    env = from_gymnax(Count(offset=5))
    assert env.action_space(None) == Discrete(2)
    assert env.observation_space(None).shape == (2,)
    params = CountParams()
    obs, state = env.reset(jax.random.key(0), params)
    assert obs.dtype == jnp.int32
    assert env.observe(obs, params).dtype == jnp.float32
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))

    always = follow(env, params, lambda obs: jnp.array(1), 4)
    np.testing.assert_array_equal(always[0], [[1, 5], [2, 5], [3, 5], [4, 5]])
    np.testing.assert_array_equal(always[2], [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(always[3], [False, False, True, True])
    np.testing.assert_array_equal(always[4], [False, False, False, True])
    assert always[2].dtype == jnp.float32
    assert set(always[5]) == {"two", "episode_return", "episode_length"}
    never = follow(env, params, lambda obs: jnp.array(0), 4)
    assert not never[3].any()
    np.testing.assert_array_equal(never[4], [False, False, False, True])


@pytest.fixture
def registered():
    gymnax.register("Count-v0", Count)
    yield "Count-v0"
    del registration._registry["Count-v0"]
    registration.registered_envs.remove("Count-v0")


def test_registered_environments_are_found(registered):
    env, params = make(registered, env_kwargs={"offset": 8}, goal=1)
    assert params == CountParams(goal=1)
    obs, state = env.reset(jax.random.key(0), params)
    np.testing.assert_array_equal(obs, [0, 8])
    assert env.step(jax.random.key(0), state, jnp.array(1), params)[3]
    with pytest.raises(ValueError, match="did you mean Count-v0"):
        make("count-v1")


# Refusals.


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("cartpole-v1", "CartPole-v1"),
        ("Breakout", "Breakout-MinAtar"),
        ("MountainCar-v1", "MountainCar-v0"),
    ],
)
def test_unknown_environment(wrong, near):
    message = f"Unknown environment '{wrong}' (did you mean [^)]*{near}.*; registered are CartPole"
    with pytest.raises(ValueError, match=message.replace("(did", r"\(did")):
        make(wrong)


def test_unknown_environment_unlike_any_other():
    with pytest.raises(ValueError, match="Unknown environment 'xyzzy'; registered are"):
        make("xyzzy")


def test_unknown_parameter():
    message = r"CartPole-v1 has no parameter 'gravty' \(did you mean gravity.*; it has .*masscart"
    with pytest.raises(ValueError, match=message):
        make("CartPole-v1", gravty=9.8)
    with pytest.raises(ValueError, match=r"has no parameter 'size'; it has"):
        make("Pendulum-v1", size=9)


def test_unknown_argument_of_the_constructor():
    message = r"env_kwargs of DeepSea-bsuite: .*'sise'.*; it takes \(.*size"
    with pytest.raises(ValueError, match=message):
        make("DeepSea-bsuite", env_kwargs={"sise": 10})
    with pytest.raises(ValueError, match="env_kwargs of CartPole-v1: "):
        make("CartPole-v1", env_kwargs={"gravity": 1.0})


@pytest.mark.parametrize("value", ["9.8", None, [9.8], {"x": 1.0}])
def test_parameters_are_numbers(value):
    message = f"Parameter gravity of CartPole-v1 must be a number or an array: {value!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        make("CartPole-v1", gravity=value)


@pytest.mark.parametrize("wrapper", [LogWrapper, FlattenObservationWrapper])
def test_wrappers_of_gymnax_are_refused(wrapper):
    message = f"{wrapper.__name__} is no gymnax Environment .*purejaxpg.environments"
    with pytest.raises(TypeError, match=message):
        from_gymnax(wrapper(gymnax.make("CartPole-v1")[0]))


def test_an_own_step_is_refused():
    class OwnStep(Count):
        def step(self, key, state, action, params=None):
            raise NotImplementedError

    with pytest.raises(TypeError, match=r"OwnStep overrides `step`, .*step_env.*is_truncated"):
        from_gymnax(OwnStep())


def test_unsupported_spaces_are_refused():
    class DictObs(Count):
        def observation_space(self, params):
            return spaces.Dict({"a": spaces.Discrete(2)})

    class TupleAction(Count):
        def action_space(self, params):
            return spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2)))

    class LyingObs(Count):
        def reset_env(self, key, params):
            return {"a": jnp.zeros(2)}, CountState(total=0, time=0)

    with pytest.raises(TypeError, match="DictObs has a Dict observation space; supported are"):
        from_gymnax(DictObs())
    with pytest.raises(TypeError, match="TupleAction has a Tuple action space; supported are"):
        from_gymnax(TupleAction())
    with pytest.raises(TypeError, match="LyingObs has observations that are not one array"):
        from_gymnax(LyingObs())


def test_mnist_without_a_network(monkeypatch, tmp_path):
    def unreachable(url, filename):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(load_mnist, "urlretrieve", unreachable)
    # Not its default folder: data that an earlier download left there would be found.
    assert list(inspect.signature(load_mnist.load_mnist).parameters) == ["directory"]
    monkeypatch.setattr(load_mnist.load_mnist, "__defaults__", (str(tmp_path),))
    with pytest.raises(ConnectionError, match=r"MNISTBandit-bsuite downloads .*no route to host"):
        make("MNISTBandit-bsuite")
