"""The contract of `Algorithm`, over every algorithm; nothing here knows how one works."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnax import registered_envs

import purejaxpg as pg
from tests.small import (
    ALGORITHMS,
    SIZES,
    assert_trees_equal,
    cartpole,
    constant_reward_env,
    frozen_lake_under,
    on_the_grid,
)

pytestmark = pytest.mark.parametrize("name", ALGORITHMS)


def avals(tree):
    """Structure, shape, dtype and weak type of every leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves]


def run_on(env, env_params, name, num_updates=3, **options):
    algorithm = ALGORITHMS[name](env, env_params, **options)
    return jax.jit(lambda key: pg.train(key, algorithm, env_params, num_updates=num_updates))


class Programs(NamedTuple):
    begin: Callable
    """key -> the state in which its run begins"""
    go_on: dict[int, Callable]
    """number of updates -> (key, state) -> the state after them, and metrics"""

    def __call__(self, key):
        """A run of four updates."""
        return self.go_on[4](key, self.begin(key))


@pytest.fixture(scope="module")
def runs():
    """name -> the compiled programs of runs on CartPole."""

    def of(name):
        env, env_params = cartpole()
        algorithm = ALGORITHMS[name](env, env_params)

        def go_on(number):
            return jax.jit(
                lambda key, state: pg.train(
                    key, algorithm, env_params, num_updates=number, state=state
                )
            )

        begin = jax.jit(lambda key: pg.begin_training(key, algorithm, env_params))
        return Programs(begin, {number: go_on(number) for number in (2, 4)})

    return {name: of(name) for name in ALGORITHMS}


@lru_cache
def three_seeds(name):
    """The algorithm on CartPole, three keys, and what four updates of each make, `[1, 3, ...]`."""
    env, env_params = cartpole()
    algorithm = ALGORITHMS[name](env, env_params)
    keys = jax.random.split(jax.random.key(3), 3)
    trained = pg.sweep(lambda key: pg.train(key, algorithm, env_params, num_updates=4), keys)
    return algorithm, keys, jax.device_get(trained)


def test_state_and_metrics_keep_their_form(name):
    """Nothing is computed: types say it all."""
    env, env_params = cartpole()
    algorithm = ALGORITHMS[name](env, env_params)
    key = jax.random.key(0)
    state = jax.eval_shape(algorithm.init, key, env_params)
    assert isinstance(state, tuple)
    assert hasattr(state, "_fields")
    for leaf in jax.tree.leaves(state):
        assert not leaf.weak_type  # as Python's numbers would be
        assert not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    assert state.update.dtype == jnp.int32
    new, transitions, metrics = jax.eval_shape(algorithm.step, key, state, env_params)
    assert avals(state) == avals(new)
    assert transitions.reward.shape == (SIZES["num_steps"], SIZES["num_envs"])
    for value in metrics.values():
        assert value.shape == ()
        assert not value.weak_type


def test_metrics_count_steps_and_episodes(name, runs):
    _, metrics = runs[name](jax.random.key(0))
    per_update = SIZES["num_steps"] * SIZES["num_envs"]
    np.testing.assert_array_equal(metrics["env_steps"], per_update * np.arange(1, 5))
    # CartPole's reward is 1 per step, so the return of an episode is its length.
    np.testing.assert_array_equal(metrics["episode_return_sum"], metrics["episode_length_sum"])
    assert all(np.isfinite(value).all() for value in metrics.values())


def test_same_key_same_bits_other_key_other_bits(name, runs):
    first, again = runs[name](jax.random.key(0)), runs[name](jax.random.key(0))
    assert_trees_equal(first, again)
    other, _ = runs[name](jax.random.key(1))
    params = jax.device_get((first[0].params, other.params))
    assert any(jax.tree.leaves(jax.tree.map(lambda x, y: (x != y).any(), *params)))


def test_vmapped_seeds_are_the_seeds_one_by_one(name, runs):
    # 1e-4: rounding differs between the programs and grows with updates; four are few enough.
    _, keys, together = three_seeds(name)
    for i in range(3):
        alone, metrics = jax.device_get(runs[name](keys[i]))
        one = jax.tree.map(lambda x, i=i: x[0, i], together)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4),
            one,
            (alone, metrics),
        )


def test_one_compilation_for_many_calls(name, runs):
    run = runs[name]
    for i in range(3):
        run(jax.random.key(i))
    assert run.begin._cache_size() == run.go_on[4]._cache_size() == 1


def test_training_on_is_training_longer(name, runs):
    """Resuming from a checkpoint, chunk by chunk, is bitwise what an uninterrupted run does."""
    key, run = jax.random.key(5), runs[name]
    begun = run.begin(key)
    middle, first_metrics = run.go_on[2](key, begun)
    end, last_metrics = run.go_on[2](key, middle)
    long, metrics = run.go_on[4](key, begun)
    assert_trees_equal(end, long)
    assert_trees_equal(
        jax.tree.map(lambda x, y: np.concatenate([x, y]), first_metrics, last_metrics), metrics
    )
    assert (int(begun.update), int(middle.update), int(long.update)) == (0, 2, 4)


def test_value_approaches_the_infinite_sum_at_time_limits(name):
    """Reward 1 for ever, cut after 10 steps: V = 1 / (1 - 0.9) = 10, not the 6.5 of ten steps."""
    env = constant_reward_env(10)
    algorithm = ALGORITHMS[name](env, None, discount=0.9, num_steps=16, optimizer=optax.adam(3e-2))
    state, _ = jax.jit(lambda key: pg.train(key, algorithm, None, num_updates=500))(
        jax.random.key(0)
    )
    value = pg.value_network(pg.MLP((8,)))
    learnt, _ = value.apply(state.params.value, (), jnp.zeros((1, 1, 1)), jnp.zeros((1, 1), bool))
    assert abs(float(learnt[0, 0]) - 10.0) < 0.3


@pytest.mark.parametrize("kind", ["Pendulum-v1", "Breakout-MinAtar", "masked"])
def test_other_kinds_of_environments(name, kind):
    """`masked` is FrozenLake, observed one-hot, on which some actions are forbidden.

    One that wants a memory: test_every_algorithm_where_a_memory_is_wanted of test_memory.py.
    """
    if name == "actor_critic" and kind != "masked":
        pytest.skip("on every environment in test_every_environment.py")
    if name in ("ppo", "trpo") and kind == "masked":
        pytest.skip("on it in test_updates_stay_finite_and_legal of test_masks.py")
    env, env_params = frozen_lake_under(on_the_grid) if kind == "masked" else pg.make(kind)
    state, metrics = run_on(env, env_params, name, num_updates=2)(jax.random.key(0))
    assert all(np.isfinite(value).all() for value in metrics.values())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


@pytest.mark.slow
@pytest.mark.parametrize("env_id", sorted(set(registered_envs) - {"MNISTBandit-bsuite"}))
def test_every_environment(name, env_id):
    env, env_params = pg.make(env_id)
    state, metrics = run_on(env, env_params, name, num_updates=3)(jax.random.key(0))
    assert all(np.isfinite(value).all() for value in metrics.values())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_a_seed_can_be_taken_out_and_act(name):
    env, env_params = cartpole()
    algorithm, _, (states, _) = three_seeds(name)
    state = jax.tree.map(lambda x: x[0, 1], states)
    obs, _ = env.reset(jax.random.key(1), env_params)
    memory = algorithm.initial_memory(1)
    start = jnp.ones(1, bool)
    act = partial(algorithm.act, deterministic=True, env_params=env_params)
    action, memory = act(jax.random.key(2), state, memory, obs[None], start)
    again, _ = act(jax.random.key(3), state, memory, obs[None], start)
    assert action.shape == (1,)
    assert int(action[0]) == int(again[0]) in (0, 1)


class CountedParams(NamedTuple):
    params: object
    counts: jax.Array


class CountedState(NamedTuple):
    inner: object
    transitions: jax.Array

    @property
    def update(self):
        return self.inner.update


def counted(build):
    """An outer algorithm: wraps the environment, nests env_params, counts the inner transitions.

    Its environment adds the count so far to the observation, so that acting depends on its state.
    """

    def build_outer(env):
        def shift(obs, params):
            seen = env.observe(obs, None if params is None else params.params)
            return seen + params.counts.astype(jnp.float32) * 1e-3

        below = env._replace(
            reset=lambda key, params: env.reset(key, params.params),
            step=lambda key, state, action, params: env.step(key, state, action, params.params),
            observation_space=lambda params: env.observation_space(params.params),
            action_space=lambda params: env.action_space(params.params),
            observe=shift,
        )
        inner = build(below)

        def init(key, env_params):
            zero = jnp.zeros((), jnp.int32)
            return CountedState(inner.init(key, CountedParams(env_params, zero)), zero)

        def step(key, state, env_params):
            nested = CountedParams(env_params, state.transitions)
            inner_state, transitions, metrics = inner.step(key, state.inner, nested)
            count = state.transitions + transitions.reward.size
            metrics = {**metrics, "transitions": count}
            return CountedState(inner_state, count), transitions, metrics

        def act(key, state, memory, obs, start, *, deterministic=False, env_params):
            nested = CountedParams(env_params, state.transitions)
            return inner.act(
                key, state.inner, memory, obs, start, deterministic=deterministic, env_params=nested
            )

        return pg.Algorithm(init, step, act, inner.initial_memory)

    return build_outer


def test_outer_algorithms_compose(name):
    env, env_params = cartpole()

    space = env.action_space(env_params)

    def build(env):
        return ALGORITHMS[name](env, env_params, action_space=space)

    algorithm = counted(counted(build))(env)

    def run(key):
        state, metrics = pg.train(key, algorithm, env_params, num_updates=3)
        return metrics, pg.evaluate(
            jax.random.key(1), algorithm, state, env, env_params, num_episodes=2
        )

    metrics, episodes = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 2))
    per_update = SIZES["num_steps"] * SIZES["num_envs"]
    np.testing.assert_array_equal(metrics["transitions"], [per_update * np.arange(1, 4)] * 2)
    assert episodes.returns.shape == (2, 2)
    np.testing.assert_array_equal(episodes.returns, episodes.lengths)
    assert episodes.completed.all()
