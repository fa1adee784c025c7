"""Training and evaluation, on environments whose returns are known beforehand."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.training.train import evaluation_key
from tests.small import ALGORITHMS, cartpole, constant_reward_env, small_ppo


def episodes_of_random_length():
    """An episode draws its length from 1 to 5 at reset; the reward is 1 per step."""

    def reset(key, params):
        length = jax.random.randint(key, (), 1, 6)
        return length[None].astype(jnp.float32), (jnp.zeros((), jnp.int32), length)

    def step(key, state, action, params):
        time, length = state[0] + 1, state[1]
        obs = length[None].astype(jnp.float32)
        return obs, (time, length), jnp.ones(()), time >= length, jnp.array(False), {}

    return pg.Env(reset, step, lambda params: pg.Box(1, 5, (1,)), lambda params: pg.Discrete(2))


def test_evaluate_plays_first_episodes_whatever_their_length():
    env = pg.episode_statistics(episodes_of_random_length())
    algorithm = small_ppo(env, None)
    state = jax.jit(algorithm.init)(jax.random.key(0), None)
    episodes = jax.jit(
        lambda key: pg.evaluate(key, algorithm, state, env, None, num_episodes=5000)
    )(jax.random.key(1))
    np.testing.assert_array_equal(episodes.returns, episodes.lengths)
    assert episodes.completed.all()
    # Uniform on 1..5: mean 3, standard error 0.02. The first 5,000 to finish would be shorter.
    assert abs(float(episodes.lengths.mean()) - 3.0) < 0.1
    counts = np.bincount(np.asarray(episodes.lengths), minlength=6)[1:]
    assert (np.abs(counts - 1000) < 150).all()


def test_evaluate_gives_up_after_max_steps():
    env = constant_reward_env(100)
    algorithm = small_ppo(env, None)
    state = jax.jit(algorithm.init)(jax.random.key(0), None)
    test = partial(pg.evaluate, env=env, env_params=None, num_episodes=3, max_steps=7)
    episodes = jax.jit(lambda key: test(key, algorithm, state))(jax.random.key(1))
    np.testing.assert_array_equal(episodes.returns, [7.0] * 3)
    assert not episodes.completed.any()
    with pytest.raises(ValueError, match="num_episodes must be at least 1, not 0"):
        pg.evaluate(jax.random.key(1), algorithm, state, env, None, num_episodes=0)


def test_evaluation_during_a_run_leaves_training_alone():
    env, env_params = cartpole()
    algorithm = small_ppo(env, env_params)
    key = jax.random.key(2)

    def test(key, state):
        return pg.evaluate(key, algorithm, state, env, env_params, num_episodes=4).returns

    state, (metrics, returns) = jax.jit(
        lambda: pg.train_and_evaluate(
            key, algorithm, env_params, num_updates=6, evaluate_every=2, evaluate_fn=test
        )
    )()
    alone, alone_metrics = jax.jit(lambda: pg.train(key, algorithm, env_params, num_updates=6))()
    assert returns.shape == (3, 4)
    assert (returns[0] != returns[1]).any()  # other keys each time
    # Two programs may round differently; another random stream would give other observations.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5),
        (state.loop, metrics),
        (alone.loop, alone_metrics),
    )


class Noted(NamedTuple):
    update: jax.Array
    first_key: jax.Array


def test_every_key_is_used_once():
    """An algorithm notes the keys of its beginning and of its updates; those of evaluations are others."""

    def init(key, env_params):
        return Noted(jnp.zeros((), jnp.int32), jax.random.key_data(key))

    def step(key, state, env_params):
        return state._replace(update=state.update + 1), None, {"key": jax.random.key_data(key)}

    algorithm, key = pg.Algorithm(init, step, None, None), jax.random.key(0)
    state, metrics = pg.train(key, algorithm, None, num_updates=5)
    tests = [jax.random.key_data(evaluation_key(key, update)) for update in range(6)]
    found = np.stack([*metrics["key"], state.first_key, *tests, jax.random.key_data(key)])
    assert len(np.unique(found, axis=0)) == len(found) == 5 + 1 + 6 + 1


@pytest.mark.parametrize(
    ("num_updates", "evaluate_every", "words"),
    [
        (5, 2, "evaluate_every=2 must divide num_updates=5"),
        (4, 0, "evaluate_every must be at least 1, not 0"),
    ],
)
def test_periods_must_divide_the_run(num_updates, evaluate_every, words):
    env, env_params = cartpole()
    with pytest.raises(ValueError, match=words):
        pg.train_and_evaluate(
            jax.random.key(0), small_ppo(env, env_params), env_params, num_updates=num_updates,
            evaluate_every=evaluate_every, evaluate_fn=lambda key, state: None,
        )  # fmt: skip


def test_negative_length_is_refused():
    env, env_params = cartpole()
    with pytest.raises(ValueError, match="num_updates must be at least 0 and finite, not -1"):
        pg.train(jax.random.key(0), small_ppo(env, env_params), env_params, num_updates=-1)


def test_memory_does_not_grow_with_the_number_of_updates():
    """Arguments, results and temporaries of the compiled program, but for the metrics themselves."""
    env, env_params = cartpole()
    algorithm = small_ppo(env, env_params)

    def analysis(num_updates):
        run = jax.jit(lambda key: pg.train(key, algorithm, env_params, num_updates=num_updates))
        compiled = run.lower(jax.random.key(0)).compile()
        _, metrics = jax.eval_shape(run, jax.random.key(0))
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(metrics))
        memory = compiled.memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes, size

    (short, short_metrics), (long, long_metrics) = analysis(10), analysis(1000)
    # The metrics may be there twice: as a result, and as the scan's own buffer.
    assert long - short <= 2 * (long_metrics - short_metrics) + 0.05 * short


PEAK = """
import resource, sys
import jax
from tests.small import ALGORITHMS, cartpole, small_ppo
import purejaxpg as pg
env, env_params = cartpole()
algorithm = small_ppo(env, env_params, num_envs=32, num_steps=32)
run = jax.jit(lambda key: pg.train(key, algorithm, env_params, num_updates=int(sys.argv[1])))
_, metrics = jax.block_until_ready(run(jax.random.key(0)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, sum(x.nbytes for x in metrics.values()))
"""


def test_a_process_needs_no_more_memory_for_ten_times_as_many_updates():
    """Its peak grows by less than 5% plus the metrics; the rollouts of 900 updates would be 40 MB."""
    root = Path(__file__).parents[2]

    def peak(num_updates):
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PEAK, str(num_updates)],
            env={**os.environ, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
            timeout=200,
        )
        return map(int, run.stdout.split())

    (short, few), (long, many) = peak(100), peak(1000)
    assert long - short < 0.05 * short + (many - few)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda env, params: small_ppo(env, params, num_envs=2), "num_envs"),
        (
            lambda env, params: small_ppo(env, params, cell=nn.GRUCell(4)),
            "must be one of this algorithm",
        ),
        (
            lambda env, params: small_ppo(env, params, value=pg.value_network(pg.MLP((5,)))),
            "networks",
        ),
        (ALGORITHMS["trpo"], "not a TRPOState"),
        (ALGORITHMS["reinforce"], "not a ReinforceState"),
    ],
)
def test_a_state_of_something_else_is_refused(other, words):
    env, env_params = cartpole()
    algorithm, other = small_ppo(env, env_params), other(env, env_params)
    state = jax.eval_shape(other.init, jax.random.key(0), env_params)

    def go_on(state):
        return pg.train(jax.random.key(0), algorithm, env_params, num_updates=1, state=state)

    def go_on_and_evaluate(state):
        return pg.train_and_evaluate(
            jax.random.key(0), algorithm, env_params, num_updates=1, evaluate_every=1,
            evaluate_fn=lambda key, state: 0, state=state,
        )  # fmt: skip

    for call in (go_on, go_on_and_evaluate):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(call, state)


def test_actions_of_another_kind_are_refused():
    env, env_params = cartpole()
    algorithm = small_ppo(env, env_params)
    state = jax.eval_shape(algorithm.init, jax.random.key(0), env_params)
    for shape in ((), (1,), (2,)):
        forces = env._replace(action_space=lambda params, shape=shape: pg.Box(-1.0, 1.0, shape))
        with pytest.raises(ValueError, match="acts with int32 of shape"):
            jax.eval_shape(
                lambda key, state, env=forces: pg.evaluate(
                    key, algorithm, state, env, env_params, num_episodes=1
                ),
                jax.random.key(0),
                state,
            )


def breaking_env(break_at):
    """Reward 1 for ten steps; what `break_at` names is not finite from its step on."""

    def value(time, name, number=0.0):
        return jnp.where(time >= break_at.get(name, 100), break_at.get("value", jnp.nan), number)

    def reset(key, params):
        # A number that is infinite from the start says nothing: the best that was found so far, say.
        return jnp.zeros(2), (jnp.zeros((), jnp.int32), jnp.zeros(3), jnp.full((), jnp.inf))

    def step(key, state, action, params):
        time = state[0] + 1
        obs = jnp.zeros(2).at[1].set(value(time, "obs"))
        state = (time, jnp.zeros(3).at[2].set(value(time, "state")), state[2])
        return obs, state, value(time, "reward", 1.0), time >= 10, jnp.array(False), {}

    return pg.Env(reset, step, lambda params: pg.Box(0, 1, (2,)), lambda params: pg.Discrete(2))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_return_from_a_broken_world_is_none(number):
    steps = {"obs": 3, "state": 10, "reward": 1, "nothing": 5}
    for name, at in steps.items():
        env = pg.episode_statistics(breaking_env({name: at, "value": number}))
        algorithm = small_ppo(env, None)
        state = jax.jit(algorithm.init)(jax.random.key(0), None)
        episodes = pg.evaluate(jax.random.key(1), algorithm, state, env, None, num_episodes=2)
        sound = name == "nothing"
        assert episodes.finite.tolist() == [sound] * 2
        np.testing.assert_array_equal(episodes.returns, [10.0 if sound else np.nan] * 2)
