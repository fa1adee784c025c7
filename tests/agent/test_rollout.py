"""Rollouts of small deterministic environments against tables written by hand, and counts of episodes."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.agent.metrics import episode_metrics
from purejaxpg.agent.rollout import begin, first_episodes, unroll
from purejaxpg.environments.gymnax import make
from purejaxpg.environments.wrappers import clip_actions, episode_statistics
from purejaxpg.types import Box, Discrete, Env, Transition


class Count(NamedTuple):
    count: jax.Array


def _count_reset(key, params):
    return jnp.zeros((1,)), Count(jnp.zeros((), jnp.int32))


def _count_step(key, state, action, params):
    count = state.count + 1
    kind = action[0]
    terminated = ((kind == 1) & (count == 3)) | ((kind == 2) & (count == 5))
    reward = 10.0 * kind + count
    obs = count.astype(jnp.float32)[None]
    return obs, Count(count), reward, terminated, count == 5, {"count": count}


COUNT = Env(
    _count_reset,
    _count_step,
    lambda params: Box(0.0, 5.0, (1,)),
    lambda params: Box(-np.inf, np.inf, (4,)),
)
"""Observes the number of steps made. The action is (kind, what else `act` was given). Kind 0 is
truncated at 5, kind 1 terminates at 3, kind 2 does both at 5."""

B = 3
KINDS = jnp.arange(3.0)


def act(key, memory, obs, start):
    """Memory counts the steps since the last start. The action reports all that is given."""
    memory = jnp.where(start, 0, memory)
    return jnp.stack([KINDS, obs[:, 0], start, memory], axis=-1), memory + 1


@partial(jax.jit, static_argnames="num_steps")
def count_unroll(key, loop, num_steps):
    return unroll(key, COUNT, None, act, loop, num_steps=num_steps)


def fresh_loop():
    return begin(jax.random.key(0), COUNT, None, jnp.full(B, -7), num_envs=B)


# The columns are kinds 0, 1 and 2.
OBS = np.array(
    [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 0, 3], [4, 1, 4], [0, 2, 0], [1, 0, 1], [2, 1, 2]]
)
NEXT_OBS = np.array(
    [[1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 1, 4], [5, 2, 5], [1, 3, 1], [2, 1, 2], [3, 2, 3]]
)
TERMINATED = np.zeros((8, 3), bool)
TERMINATED[[2, 5], 1] = TERMINATED[4, 2] = True
TRUNCATED = np.zeros((8, 3), bool)
TRUNCATED[4, [0, 2]] = True
START = np.zeros((8, 3), bool)
START[0] = START[[3, 6], 1] = START[5, [0, 2]] = True


def check_table(transitions, rows):
    assert isinstance(transitions, Transition)
    np.testing.assert_array_equal(transitions.obs[..., 0], OBS[rows])
    np.testing.assert_array_equal(transitions.next_obs[..., 0], NEXT_OBS[rows])
    np.testing.assert_array_equal(transitions.terminated, TERMINATED[rows])
    np.testing.assert_array_equal(transitions.truncated, TRUNCATED[rows])
    np.testing.assert_array_equal(transitions.start, START[rows])
    np.testing.assert_array_equal(transitions.reward, NEXT_OBS[rows] + [0, 10, 20])
    np.testing.assert_array_equal(transitions.info["count"], NEXT_OBS[rows])
    # What `act` was given: the observation, the flag, and a memory that `act` itself sets back.
    kind, obs, start, memory = np.moveaxis(transitions.action, -1, 0)
    np.testing.assert_array_equal(kind, np.broadcast_to([0, 1, 2], kind.shape))
    np.testing.assert_array_equal(obs, OBS[rows])
    np.testing.assert_array_equal(start, START[rows])
    np.testing.assert_array_equal(memory, OBS[rows])


def test_begin():
    loop = fresh_loop()
    assert loop.start.all() and loop.start.dtype == bool
    np.testing.assert_array_equal(loop.obs, np.zeros((B, 1)))
    np.testing.assert_array_equal(loop.env_state.count, np.zeros(B))
    np.testing.assert_array_equal(loop.memory, [-7] * B)


def test_unroll_by_hand():
    loop, transitions = count_unroll(jax.random.key(0), fresh_loop(), 8)
    check_table(transitions, slice(0, 8))
    np.testing.assert_array_equal(loop.obs[:, 0], [3, 2, 3])
    np.testing.assert_array_equal(loop.env_state.count, [3, 2, 3])
    np.testing.assert_array_equal(loop.memory, [3, 2, 3])
    assert not loop.start.any()


@pytest.mark.parametrize("first", [1, 3, 5])  # 3 and 5 end with the last step of an episode
def test_rollouts_go_on_where_the_last_one_stopped(first):
    loop, before = count_unroll(jax.random.key(0), fresh_loop(), first)
    check_table(before, slice(0, first))
    np.testing.assert_array_equal(loop.start, START[first])
    np.testing.assert_array_equal(loop.obs[:, 0], OBS[first])
    np.testing.assert_array_equal(loop.env_state.count, OBS[first])
    _, after = count_unroll(jax.random.key(1), loop, 8 - first)
    check_table(after, slice(first, 8))


def test_statistics_through_a_rollout():
    env = episode_statistics(COUNT)
    loop = begin(jax.random.key(0), env, None, jnp.zeros(B, jnp.int32), num_envs=B)
    _, transitions = unroll(jax.random.key(0), env, None, act, loop, num_steps=8)
    np.testing.assert_array_equal(transitions.info["episode_length"], NEXT_OBS)
    reward, returns = NEXT_OBS + np.array([0, 10, 20]), np.zeros((8, 3))
    for t in range(8):
        returns[t] = reward[t] + np.where(START[t], 0, returns[t - 1])
    np.testing.assert_array_equal(transitions.info["episode_return"], returns)
    # Ended: kind 0 once (1 + ... + 5), kind 1 twice (11 + 12 + 13), kind 2 once (21 + ... + 25).
    metrics = episode_metrics(transitions)
    assert metrics == {
        "episode_return_sum": 15 + 2 * 36 + 115,
        "episode_length_sum": 5 + 2 * 3 + 5,
        "episode_count": 4,
    }


def test_actions_are_stored_as_they_were_chosen():
    seen = Env(
        _count_reset,
        lambda key, state, action, params: (
            *_count_step(key, state, jnp.zeros(4), params)[:5],
            {"taken": action[0]},
        ),
        COUNT.observation_space,
        lambda params: Box(-1.0, 1.0, (1,)),
    )
    env = clip_actions(seen)
    loop = begin(jax.random.key(0), env, None, (), num_envs=2)
    wild = lambda key, memory, obs, start: (jnp.array([[7.0], [0.5]]), memory)  # noqa: E731
    _, transitions = unroll(jax.random.key(0), env, None, wild, loop, num_steps=3)
    np.testing.assert_array_equal(transitions.action[..., 0], [[7.0, 0.5]] * 3)
    np.testing.assert_array_equal(transitions.info["taken"], [[1.0, 0.5]] * 3)


def test_every_key_is_used_once():
    """All that is drawn, by resets, steps and `act`, is different."""

    def reset(key, params):
        obs = jax.random.uniform(key)
        return obs, ()

    def step(key, state, action, params):
        obs, end = jax.random.uniform(key), jnp.array(True)
        return obs, (), action, end, end, {}

    env = Env(reset, step, lambda params: Box(0, 1, ()), lambda params: Box(0, 1, ()))
    draw = lambda key, memory, obs, start: (jax.random.uniform(key, obs.shape), memory)  # noqa: E731
    loop = begin(jax.random.key(0), env, None, (), num_envs=4)
    numbers = []
    for seed in range(2):  # each step ends an episode, so obs and next_obs are all drawn
        loop, transitions = unroll(jax.random.key(seed), env, None, draw, loop, num_steps=6)
        numbers += [transitions.obs, transitions.next_obs, transitions.action]
    numbers = np.stack([*map(np.asarray, numbers)])
    assert len(np.unique(numbers)) == numbers.size
    again = unroll(jax.random.key(1), env, None, draw, loop, num_steps=6)[1]
    np.testing.assert_array_equal(again.action, transitions.action)


def test_what_a_wrapper_draws_at_reset_is_drawn_anew_in_each_episode():
    def draws(env):
        def reset(key, params):
            key, draw_key = jax.random.split(key)
            obs, state = env.reset(key, params)
            return obs, (state, jax.random.normal(draw_key))

        def step(key, state, action, params):
            obs, inner, *rest, info = env.step(key, state[0], action, params)
            return obs, (inner, state[1]), *rest, {**info, "drawn": state[1]}

        return env._replace(reset=reset, step=step)

    env = draws(COUNT)
    loop = begin(jax.random.key(0), env, None, jnp.zeros(B, jnp.int32), num_envs=B)
    loop, transitions = unroll(jax.random.key(0), env, None, act, loop, num_steps=8)
    drawn = np.asarray(transitions.info["drawn"])
    same = drawn[1:] == drawn[:-1]
    np.testing.assert_array_equal(same, ~START[1:])
    assert len(np.unique(drawn)) == START.sum()  # 7 episodes
    np.testing.assert_array_equal(loop.env_state[1], drawn[-1])


@pytest.mark.parametrize("env_id", ["Breakout-MinAtar", "FrozenLake-misc", "Catch-bsuite"])
def test_info_holds_nothing_of_the_size_of_an_observation(env_id):
    env, params = make(env_id)

    def run(key):
        loop = begin(key, env, params, (), num_envs=3)
        still = lambda key, memory, obs, start: (jnp.zeros(3, jnp.int32), memory)  # noqa: E731
        return unroll(key, env, params, still, loop, num_steps=5)

    loop, transitions = jax.eval_shape(run, jax.random.key(0))
    assert {leaf.shape for leaf in transitions.info.values()} == {(5, 3)}
    assert transitions.obs.shape == (5, 3, *env.observation_space(params).shape)
    assert transitions.obs.dtype == transitions.next_obs.dtype == loop.obs.dtype


# First episodes.


class Drawn(NamedTuple):
    length: jax.Array
    count: jax.Array


def _drawn_reset(key, params):
    length = jax.random.randint(key, (), 1, 9)
    return jnp.zeros(()), Drawn(length, jnp.zeros((), jnp.int32))


def _drawn_step(key, state, action, params):
    count = state.count + 1
    over, odd = count >= state.length, state.length % 2 == 1
    reward = jnp.where(count > state.length, jnp.nan, state.length.astype(jnp.float32) ** 2)
    state = state._replace(count=count)
    return jnp.zeros(()), state, reward, over & odd, over & ~odd, {}


DRAWN = Env(_drawn_reset, _drawn_step, lambda params: Box(0, 1, ()), lambda params: Discrete(2))
"""An episode of a length n drawn at reset from 1, ..., 8, which pays n^2 a step and is worth n^3: it
terminates if n is odd and is truncated if n is even. After its end it pays NaN."""


@partial(jax.jit, static_argnames="max_steps")
def drawn_episodes(key, max_steps=50):
    still = lambda key, memory, obs, start: (jnp.zeros(512, jnp.int32), memory)  # noqa: E731
    return first_episodes(key, DRAWN, None, still, (), num_episodes=512, max_steps=max_steps)


def test_first_episodes_count_the_first_episode_only():
    episodes = drawn_episodes(jax.random.key(0))
    assert episodes.completed.all()
    lengths = np.asarray(episodes.lengths)
    np.testing.assert_array_equal(episodes.returns, lengths.astype(np.float32) ** 3)
    assert episodes.lengths.dtype == jnp.int32
    # No length is favoured: 64 of each expected, standard deviation 7.5.
    assert np.abs(np.bincount(lengths, minlength=9)[1:] - 64).max() < 5 * 7.5


def test_first_episodes_add_up_what_each_step_pays():
    """The action is a different number in each step and environment, and it is the reward."""

    def pays_the_action(key, state, action, params):
        obs, state, reward, *rest = _drawn_step(key, state, action, params)
        return obs, state, jnp.where(jnp.isnan(reward), reward, action), *rest

    def count(key, memory, obs, start):
        return memory, memory + 1.0

    first = jnp.array([100.0, 200.0, 300.0, 400.0, 500.0, 600.0])
    episodes = first_episodes(
        jax.random.key(2),
        DRAWN._replace(step=pays_the_action),
        None,
        count,
        first,
        num_episodes=6,
        max_steps=50,
    )
    for start, length, found in zip(first, episodes.lengths, episodes.returns, strict=True):
        assert found == sum(float(start) + step for step in range(int(length)))
    assert len(np.unique(episodes.lengths)) > 1


def test_first_episodes_stop_at_max_steps():
    key = jax.random.key(0)
    whole, cut = drawn_episodes(key), drawn_episodes(key, max_steps=4)
    lengths = np.asarray(whole.lengths)
    np.testing.assert_array_equal(cut.completed, lengths <= 4)
    np.testing.assert_array_equal(cut.lengths, np.minimum(lengths, 4))
    np.testing.assert_array_equal(cut.returns, np.minimum(lengths, 4) * lengths**2)
    long_enough = drawn_episodes(key, max_steps=8)
    jax.tree.map(np.testing.assert_array_equal, long_enough, whole)


def test_first_episodes_give_act_the_start_and_its_memory():
    """Memory counts calls; the action, which is the reward, is memory and 100 more at a start."""

    def step(key, state, action, params):
        count = state.count + 1
        flag = count == 3
        return jnp.zeros((1,)), Count(count), action, flag, jnp.array(False), {}

    env = COUNT._replace(step=step)

    def act(key, memory, obs, start):
        return 100.0 * start + memory, memory + 1.0

    memory = jnp.array([0.0, 10.0])
    episodes = first_episodes(
        jax.random.key(0), env, None, act, memory, num_episodes=2, max_steps=None
    )
    np.testing.assert_array_equal(episodes.returns, [100 + 0 + 1 + 2, 100 + 10 + 11 + 12])
    np.testing.assert_array_equal(episodes.lengths, [3, 3])


def test_first_episodes_draw_anew_in_each_step():
    """A coin ends the episode in each step: lengths are geometric, with mean 2 and variance 2."""

    def step(key, state, action, params):
        end = jax.random.bernoulli(key)
        return jnp.zeros(()), state, jnp.ones(()), end, jnp.array(False), {}

    env = DRAWN._replace(step=step)
    still = lambda key, memory, obs, start: (jnp.zeros(2000, jnp.int32), memory)  # noqa: E731
    episodes = first_episodes(
        jax.random.key(0), env, None, still, (), num_episodes=2000, max_steps=100
    )
    assert episodes.completed.all()
    np.testing.assert_array_equal(episodes.returns, episodes.lengths)
    assert abs(np.mean(episodes.lengths) - 2) < 5 * np.sqrt(2 / 2000)


# Metrics.


def transitions_with(info, terminated, truncated):
    nothing = jnp.zeros(terminated.shape)
    return Transition(nothing, nothing, nothing, terminated, truncated, nothing, nothing, info)


def test_episode_metrics_by_hand():
    returns = jnp.array([[1.0, 5.0], [2.0, jnp.inf], [4.0, -3.0]])
    lengths = jnp.array([[1, 7], [2, 8], [3, 9]])
    terminated = jnp.array([[False, True], [False, False], [True, False]])
    truncated = jnp.array([[False, False], [False, False], [True, True]])
    info = {"episode_return": returns, "episode_length": lengths}
    metrics = episode_metrics(transitions_with(info, terminated, truncated))
    assert metrics == {
        "episode_return_sum": 5.0 + 4.0 - 3.0,
        "episode_length_sum": 7 + 3 + 9,
        "episode_count": 3,
    }
    assert metrics["episode_count"].dtype == jnp.int32
    never = jnp.zeros((3, 2), bool)
    metrics = episode_metrics(transitions_with(info, never, never))
    assert set(map(float, metrics.values())) == {0.0}


def test_episode_metrics_need_the_statistics():
    flag = jnp.zeros((3, 2), bool)
    with pytest.raises(ValueError, match=r"no 'episode_return'; wrap it: episode_statistics\(env"):
        episode_metrics(transitions_with({"count": flag}, flag, flag))
