"""Networks with memory: reset exactly where an episode starts, in acting, updating and evaluation alike.

The oracle plays every episode by itself, step by step, from a memory that Python made fresh; it never
passes a `start` that is true, so that none of the code that resets takes part in it.
"""

from functools import lru_cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import purejaxpg as pg
from purejaxpg.agent.acting import (
    PolicyValue,
    begin_agent,
    network_output,
    raw_networks,
)
from purejaxpg.agent.experience import gather_experience
from purejaxpg.agent.minibatch import sequences
from tests.small import (
    ALGORITHMS,
    cartpole,
    constant_reward_env,
    frozen_lake_under,
    on_the_grid,
    small_ppo,
    small_trpo,
)

T, B, F, H = 6, 3, 4, 5
CELLS = {
    "gru": nn.GRUCell(H),
    "lstm": nn.OptimizedLSTMCell(H),
    "attention": pg.AttentionCell(H, window=4, num_heads=1),
}
each_cell = pytest.mark.parametrize("cell", CELLS)


def policy_of(cell, scale=100):
    """With a larger head: with one of 0.01, slips of a step would hardly show."""
    policy = pg.policy_network(pg.Discrete(2), pg.MLP((8,)), CELLS[cell])

    def init(key, obs):
        params = policy.init(key, obs)
        return {**params, "head": jax.tree.map(lambda x: scale * x, params["head"])}

    return policy._replace(init=jax.jit(init))


def value_of(cell):
    return pg.value_network(pg.MLP((8,)), CELLS[cell])


NO_START = np.zeros((1, 1), bool)
compiled = lru_cache(jax.jit)  # once for all calls of the same network


def one_by_one(network, params, obs, start, memory=None):
    """What the network says of every step, `[T, B, ...]`, by the oracle; and the memory after each, `[B]`."""
    apply = compiled(network.apply)
    params, obs, memory = jax.device_get((params, obs, memory))  # slices of NumPy compile nothing
    said, after = [], []
    for b in range(start.shape[1]):
        now = None if memory is None else jax.tree.map(lambda x, b=b: x[b : b + 1], memory)
        column, memories = [], []
        for t in range(len(start)):
            if start[t, b]:
                now = network.initial_memory(1)
            output, now = jax.device_get(apply(params, now, obs[t : t + 1, b : b + 1], NO_START))
            column.append(jax.tree.map(lambda x: x[0, 0], output))
            memories.append(now)
        said.append(jax.tree.map(lambda *x: np.stack(x), *column))
        after.append(memories)
    return jax.tree.map(lambda *x: np.stack(x, axis=1), *said), after


flags = arrays(bool, (T, B), elements=st.booleans())
COMPILED = {}


def in_every_way(cell):
    """cell -> parameters, and log-probabilities of all actions: one pass, acting steps, and two pieces."""
    if cell not in COMPILED:
        policy = policy_of(cell)
        params = policy.init(jax.random.key(0), jnp.zeros((1, B, F)))

        @jax.jit
        def three(memory, obs, start):
            whole, last = policy.apply(params, memory, obs, start)
            steps, pieces, carried = [], [], memory
            for t in range(T):
                output, carried = policy.apply(params, carried, obs[t : t + 1], start[t : t + 1])
                steps.append(output.logits)
            for piece in (slice(0, T // 2), slice(T // 2, T)):
                output, memory = policy.apply(params, memory, obs[piece], start[piece])
                pieces.append(output.logits)
            said = whole.logits, jnp.concatenate(steps), jnp.concatenate(pieces)
            return said, (last, carried, memory)

        COMPILED[cell] = policy, params, three
    return COMPILED[cell]


@each_cell
@given(start=flags, seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_any_pattern_of_resets_is_the_episodes_one_by_one(cell, start, seed):
    policy, params, three = in_every_way(cell)
    rng = np.random.default_rng(seed)
    obs = jnp.asarray(rng.normal(size=(T, B, F)), jnp.float32)
    shapes = policy.initial_memory(B)
    memory = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes)
    said, memories = jax.device_get(three(memory, obs, start))
    expected, after = one_by_one(policy, params, obs, start, memory)
    for logits, last in zip(said, memories):
        np.testing.assert_allclose(logits, expected.logits, rtol=1e-5, atol=1e-5)
        for b in range(B):
            jax.tree.map(
                lambda x, y, b=b: np.testing.assert_allclose(x[b], y[0], rtol=1e-5, atol=1e-5),
                last,
                after[b][-1],
            )


@each_cell
def test_no_gradient_flows_across_the_start_of_an_episode(cell):
    policy = policy_of(cell)
    obs = jax.random.normal(jax.random.key(1), (T, 1, F))
    params = policy.init(jax.random.key(0), obs)
    memory = jax.tree.map(jnp.ones_like, policy.initial_memory(1))
    start = jnp.zeros((T, 1), bool).at[3].set(True)

    def last_entropy(obs, memory):
        return policy.apply(params, memory, obs, start)[0].entropy()[-1, 0]

    by_obs, by_memory = jax.jit(jax.grad(last_entropy, argnums=(0, 1)))(obs, memory)
    size = np.abs(np.asarray(by_obs)).max(axis=(1, 2))
    assert (size[:3] == 0).all()  # exactly
    assert (size[3:] > 1e-6).all()
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(by_memory))

    def third_entropy(obs, memory):
        return policy.apply(params, memory, obs, start)[0].entropy()[2, 0]

    by_obs, by_memory = jax.jit(jax.grad(third_entropy, argnums=(0, 1)))(obs, memory)
    size = np.abs(np.asarray(by_obs)).max(axis=(1, 2))
    assert (size[:3] > 1e-6).all() and (size[3:] == 0).all()
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(by_memory))


@each_cell
def test_experience_of_two_rollouts_is_that_of_the_episodes(cell):
    """Log-probabilities, V(obs) and V(next_obs), also at time limits, against the oracle over both rollouts."""
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=4)
    policy, value = policy_of(cell, scale=500), value_of(cell)
    networks = PolicyValue(policy, value)
    params, loop = jax.jit(lambda key: begin_agent(key, env, env_params, networks, num_envs=B))(
        jax.random.key(0)
    )
    raw = raw_networks(networks, env, env_params)

    @jax.jit
    def gather(key, loop):
        return gather_experience(
            key, env, env_params, raw, params, loop, num_steps=T, reward_fn=None
        )

    loop, first = jax.device_get(gather(jax.random.key(1), loop))
    loop, second = jax.device_get(gather(jax.random.key(2), loop))
    both = jax.tree.map(lambda x, y: np.concatenate([x, y]), first, second)
    seen = both.transitions
    assert seen.truncated.any() and seen.start[1:].any() and not seen.start[T].all()
    distribution, _ = one_by_one(policy, params.policy, seen.obs, seen.start)
    np.testing.assert_allclose(
        both.log_prob, distribution.log_prob(seen.action), rtol=1e-5, atol=1e-5
    )
    assert both.log_prob.std() > 0.1  # far from uniform
    values, after = one_by_one(value, params.value, seen.obs, seen.start)
    np.testing.assert_allclose(both.value, values, rtol=1e-5, atol=1e-5)
    for t in range(2 * T):
        for b in range(B):
            next_obs = seen.next_obs[t : t + 1, b : b + 1]
            expected, _ = compiled(value.apply)(params.value, after[b][t], next_obs, NO_START)
            np.testing.assert_allclose(both.next_value[t, b], expected[0, 0], rtol=1e-5, atol=1e-5)
    # The update asks again, in pieces of the rollout, with the memory from before each.
    for length in (1, 2, T):
        cut = jax.device_get(jax.jit(partial(sequences, length=length))(second))
        transitions, memory = cut.transitions, cut.memory
        again = jax.jit(partial(network_output, raw.policy))(
            params.policy, memory.policy, transitions
        )
        found = again.log_prob(transitions.action)
        assert found.shape == (length, T // length * B)
        np.testing.assert_allclose(found, cut.log_prob, rtol=1e-5, atol=1e-5)
        values = jax.jit(partial(network_output, raw.value))(
            params.value, memory.value, transitions
        )
        np.testing.assert_allclose(values, cut.value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"sequence_length": 4}])
def test_first_ratio_is_one(options):
    """In every update of PPO, also after others have changed the parameters that memory came from."""
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=6)

    def largest(batch):
        off = jnp.abs(batch.log_prob - batch.old_log_prob) / (1 + jnp.abs(batch.old_log_prob))
        return jnp.max(off) + 0 * batch.log_prob

    algorithm = pg.ppo(
        env, policy_of("gru", scale=500), value_of("gru"), pg.adam(1e-2), num_envs=4, num_steps=8, num_epochs=1,
        **{"num_minibatches": 1, **options}, policy_loss=largest,
    )  # fmt: skip
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    step = jax.jit(algorithm.step)
    for i in range(4):
        state, _, metrics = step(jax.random.key(i), state, env_params)
        assert float(metrics["policy_loss"]) <= 1e-5


def remembering_policy(num_bits):
    """Plays MemoryChain perfectly: keeps the bits that an episode's first observation shows."""

    def apply(params, memory, obs, start):
        def step(bits, now):
            obs, start = now
            bits = jnp.where(start[:, None], obs[:, 2:], bits)
            query = obs[:, 1].astype(jnp.int32)
            answer = jnp.take_along_axis(bits, query[:, None], axis=1)[:, 0]
            return bits, 50.0 * jnp.stack([-answer, answer], axis=-1)

        bits, logits = jax.lax.scan(step, memory, (obs, start))
        return pg.categorical(logits), bits

    return pg.Network(
        lambda key, obs: jnp.zeros(()), lambda batch: jnp.zeros((batch, num_bits)), apply
    )


def test_memory_in_rollouts_and_evaluation_is_reset_and_kept():
    """A policy that needs its memory in every episode, and nothing else, always gets the reward of 1."""
    env, env_params = pg.make("MemoryChain-bsuite", env_kwargs={"num_bits": 3}, memory_length=4)
    algorithm = pg.ppo(
        env, remembering_policy(3), pg.zero_value_network(), pg.adam(0.0), num_envs=4, num_steps=16,
        num_minibatches=2,
    )  # fmt: skip
    run = jax.jit(lambda key: pg.train(key, algorithm, env_params, num_updates=4))
    state, metrics = run(jax.random.key(0))
    assert metrics["episode_count"].sum() == 4 * (64 // 5)  # episodes of 5 steps
    np.testing.assert_array_equal(metrics["episode_return_sum"], metrics["episode_count"])
    test = jax.jit(
        lambda key, state: pg.evaluate(key, algorithm, state, env, env_params, num_episodes=50)
    )(jax.random.key(1), state)
    np.testing.assert_array_equal(test.returns, 1)
    np.testing.assert_array_equal(test.lengths, 5)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_where_a_memory_is_wanted(name):
    """Its state keeps its form, seeds vmap, and all parts of both networks move."""
    env, env_params = pg.make("MemoryChain-bsuite", memory_length=3)
    cell = None if name == "online_actor_critic" else nn.GRUCell(4)  # it takes none
    algorithm = ALGORITHMS[name](env, env_params, cell=cell)
    keys = jax.random.split(jax.random.key(0), 2)
    begun = jax.jit(jax.vmap(algorithm.init, (0, None)))(keys, env_params)
    step = jax.jit(
        jax.vmap(algorithm.step, (0, 0, None)),
        compiler_options={"xla_backend_optimization_level": 0},
    )
    state, _, _ = step(keys, begun, env_params)
    state, _, metrics = step(keys, state, env_params)
    assert jax.tree.structure(begun) == jax.tree.structure(state)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), tree) for tree in (begun, state)]
    assert shapes[0] == shapes[1]
    assert all(np.isfinite(value).all() for value in metrics.values())
    moved = jax.tree.map(lambda x, y: bool((x != y).any()), begun.params, state.params)
    for network in moved:
        for part in ("params",) if cell is None else ("torso", "cell", "head"):
            assert any(jax.tree.leaves(network[part])), part


def test_policy_with_memory_and_value_without_it():
    env, env_params = cartpole()
    algorithm = small_ppo(env, env_params, cell=nn.GRUCell(4), value=pg.value_network(pg.MLP((8,))))
    run = jax.jit(lambda key: pg.train(key, algorithm, env_params, num_updates=1))
    _, metrics = run(jax.random.key(0))
    assert all(np.isfinite(value).all() for value in metrics.values())


def test_continuous_actions_masks_and_normalisation_go_with_memory():
    for env, env_params in (pg.make("Pendulum-v1"), frozen_lake_under(on_the_grid)):
        space = env.action_space(env_params)
        build = partial(small_ppo, env_params=None, action_space=space, cell=nn.GRUCell(4))
        algorithm = pg.normalize_observations(build)(env)
        state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
        state, _, metrics = jax.jit(algorithm.step)(jax.random.key(0), state, env_params)
        assert all(np.isfinite(value).all() for value in metrics.values())


def test_what_memory_cannot_do_is_refused():
    env, env_params = cartpole()
    cell = nn.GRUCell(4)
    with pytest.raises(ValueError, match="must have no memory"):
        ALGORITHMS["online_actor_critic"](env, env_params, cell=cell)
    with pytest.raises(ValueError, match="leave it at 1 for a policy with memory"):
        small_trpo(env, env_params, cell=cell, fisher_subsample=2)
    with pytest.raises(
        ValueError, match="sequence_length=3 must be at least 1 and divide num_steps"
    ):
        small_ppo(env, env_params, cell=cell, sequence_length=3)
    with pytest.raises(
        ValueError, match=r"num_minibatches=8 .*num_envs . num_steps / 8 = 4 evenly"
    ):
        small_ppo(env, env_params, cell=cell, num_minibatches=8)
    assert small_ppo(env, env_params, cell=cell, num_minibatches=8, sequence_length=4)


def test_time_limits_are_bootstrapped_with_memory():
    """Reward 1 for ever, cut after 10 steps: V of a fresh memory approaches 1 / (1 - 0.9) = 10."""
    env = constant_reward_env(10)
    algorithm = small_ppo(
        env, None, action_space=pg.Discrete(2), cell=nn.GRUCell(4), discount=0.9, num_steps=16,
        optimizer=pg.adam(1e-2), num_minibatches=1,
    )  # fmt: skip
    state, _ = jax.jit(lambda key: pg.train(key, algorithm, None, num_updates=600))(
        jax.random.key(0)
    )
    value = pg.value_network(pg.MLP((8,)), nn.GRUCell(4))
    learnt, _ = value.apply(
        state.params.value, value.initial_memory(1), jnp.zeros((10, 1, 1)),
        jnp.zeros((10, 1), bool),
    )  # fmt: skip
    np.testing.assert_allclose(learnt[:, 0], 10, atol=0.5)
