"""Arrays of real environments, checked by sampling these with their noise on."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import purejaxpg as pg
from purejaxpg.agent.rollout import begin
from purejaxpg.environments import tabular
from purejaxpg.functional import finite_mdp

MAKE = {"lake": pg.frozen_lake, "rooms": pg.four_rooms}


@lru_cache
def made(name):
    return MAKE[name]()


def test_sizes_and_cells():
    lake, rooms = made("lake"), made("rooms")
    assert lake.mdp.reward.shape == (11, 4)  # 16 cells less 4 holes and the goal
    assert rooms.mdp.reward.shape == (103, 4)  # Sutton et al. 1999: 104 cells, one of them the goal
    for at in (lake, rooms):
        assert len({tuple(cell) for cell in at.cells.tolist()}) == len(at.cells)
    assert lake.cells[0].tolist() == [0, 0] and rooms.cells[0].tolist() == [4, 1]
    holes_and_goal = {(1, 1), (1, 3), (2, 3), (3, 0), (3, 3)}
    assert not holes_and_goal & {tuple(cell) for cell in lake.cells.tolist()}
    assert lake.env.observation_space(lake.env_params) == pg.Discrete(11)


def test_other_maps_and_no_noise():
    sure = pg.frozen_lake(success_rate=1.0, desc=("SFG", "FHF"))
    assert sure.cells.tolist() == [[0, 0], [1, 0], [0, 1], [1, 2]][: len(sure.cells)]
    right = int(np.flatnonzero(np.asarray(sure.mdp.reward).sum(axis=0))[-1])
    policy = jax.nn.one_hot(jnp.full(len(sure.cells), right), 4)
    assert float(finite_mdp.finite_horizon_return(sure.mdp, policy, discount=1.0, horizon=2)) == 1.0


@pytest.mark.parametrize("name", MAKE)
def test_arrays_are_those_of_the_noisy_environment(name):
    """Chi-square over successors of every (state, action) met by a random policy; 1e-6 overall."""
    at = made(name)
    space = at.env.action_space(at.env_params)

    def act(key, memory, obs, start):
        return jax.random.randint(key, obs.shape, 0, space.n), memory

    @jax.jit
    def sample(key):
        loop = begin(key, at.env, at.env_params, (), num_envs=256)
        return pg.unroll(key, at.env, at.env_params, act, loop, num_steps=1000)[1]

    seen = jax.tree.map(np.asarray, sample(jax.random.key(0)))
    states, actions = at.mdp.reward.shape
    after = np.where(seen.terminated, states, seen.next_obs)  # the last column: termination
    counts = np.zeros((states, actions, states + 1))
    np.add.at(counts, (seen.obs, seen.action, after), 1)
    rewards = np.zeros((states, actions))
    np.add.at(rewards, (seen.obs, seen.action), seen.reward)
    transition = np.asarray(at.mdp.transition, np.float64)
    chances = np.concatenate([transition, 1 - transition.sum(-1, keepdims=True)], axis=-1)
    chances = np.where(chances < 1e-6, 0.0, chances)
    assert counts[chances == 0].sum() == 0
    number = counts.sum(-1, keepdims=True)
    assert (number[..., 0] > 200).mean() > 0.5  # most were met often
    expected = number * chances
    enough = (expected >= 5) & (chances > 0)
    square = np.where(enough, (counts - expected) ** 2 / np.where(enough, expected, 1), 0).sum()
    freedom = enough.sum() - (number[..., 0] > 0).sum()
    assert square < stats.chi2.isf(1e-6, freedom)
    deviation = np.abs(rewards - number[..., 0] * np.asarray(at.mdp.reward))
    assert (deviation <= 6 * np.sqrt(number[..., 0] + 1)).all()
    assert rewards.sum() > 10


@pytest.mark.parametrize("name", MAKE)
def test_returns_agree_with_exact_ones(name):
    at = made(name)
    limit, discount = at.env_params.max_steps_in_episode, 0.97
    policy = pg.tabular_policy(4)
    params = policy.init(jax.random.key(0), jnp.zeros((1, 1, len(at.cells))))
    params = params + jax.random.normal(jax.random.key(1), params.shape)

    def act(key, memory, obs, start):
        distribution, memory = policy.apply(params, memory, at.env.observe(obs, None)[None], start)
        return distribution.sample(seed=key)[0], memory

    @jax.jit
    def sample(key):
        loop = begin(key, at.env, at.env_params, (), num_envs=1000)
        return pg.unroll(key, at.env, at.env_params, act, loop, num_steps=limit)[1]

    seen = jax.tree.map(np.asarray, sample(jax.random.key(2)))
    first = np.cumsum(seen.start, axis=0) == 1
    returns = (discount ** np.arange(limit)[:, None] * seen.reward * first).sum(axis=0)
    exact = finite_mdp.finite_horizon_return(
        at.mdp, jax.nn.softmax(params), discount=discount, horizon=limit
    )
    assert abs(returns.mean() - float(exact)) < 4 * returns.std() / np.sqrt(1000)
    assert returns.std() > 0


def test_from_mdp_is_the_process_it_was_given():
    transition = jnp.zeros((2, 2, 2)).at[0, 0, 1].set(0.5).at[1, 0, 0].set(1.0).at[1, 1, 1].set(1.0)
    mdp = finite_mdp.FiniteMDP(
        transition, jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([0.25, 0.75])
    )
    env = pg.from_mdp(mdp, limit=7)

    def act(key, memory, obs, start):
        return jax.random.randint(key, obs.shape, 0, 2), memory

    @jax.jit
    def sample(key):
        loop = begin(key, env, mdp, (), num_envs=500)
        return pg.unroll(key, env, mdp, act, loop, num_steps=50)[1]

    seen = jax.tree.map(np.asarray, sample(jax.random.key(0)))
    np.testing.assert_array_equal(seen.reward, np.asarray(mdp.reward)[seen.obs, seen.action])
    np.testing.assert_array_equal(seen.truncated, seen.info["episode_length"] == 7)
    going_on = ~seen.terminated
    for (s, a), after in {(0, 0): [0, 0.5], (0, 1): [0, 0], (1, 0): [1, 0], (1, 1): [0, 1]}.items():
        here = (seen.obs == s) & (seen.action == a)
        found = [(here & going_on & (seen.next_obs == t)).sum() / here.sum() for t in (0, 1)]
        np.testing.assert_allclose(found, after, atol=0.05)
    assert abs((seen.obs[seen.start] == 1).mean() - 0.75) < 0.03
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        pg.from_mdp(mdp, limit=0)


def test_tables_are_networks():
    obs = jax.nn.one_hot(jnp.array([[2, 0]]), 3)
    start = jnp.zeros((1, 2), bool)
    policy, value = tabular.tabular_policy(4), tabular.tabular_value()
    logits = policy.init(jax.random.key(0), obs)
    distribution, memory = policy.apply(logits, (), obs, start)
    np.testing.assert_allclose(distribution.probs, np.full((1, 2, 4), 0.25))
    assert memory == ()
    assert value.init(jax.random.key(0), obs).shape == (3,)
    np.testing.assert_array_equal(
        value.apply(jnp.array([5.0, 6.0, 7.0]), (), obs, start)[0], [[7.0, 5.0]]
    )


@pytest.mark.parametrize("options", [{"is_slippery": False}, {"desc": None}, {"success_rate": 0.5}])
def test_the_noise_of_the_lake_is_that_of_its_options(options):
    """Every action many times from the first cell: successors as often as the arrays say."""
    at = pg.frozen_lake(**options)
    _, state = at.env.reset(jax.random.key(0), at.env_params)
    step = jax.jit(jax.vmap(at.env.step, in_axes=(0, None, None, None)))
    for action in range(4):
        keys = jax.random.split(jax.random.key(action), 4000)
        found, *_ = step(keys, state, jnp.int32(action), at.env_params)
        shares = np.bincount(np.asarray(found), minlength=len(at.cells)) / 4000
        np.testing.assert_allclose(shares, at.mdp.transition[0, action], atol=0.05)
        if options == {"is_slippery": False}:
            assert sorted(np.asarray(at.mdp.transition[0, action]))[-1] == 1.0


def test_rounding_ends_no_episode():
    """A row that sums to a little less than 1 in float32 is one that never terminates."""
    row = np.float32(1) - np.float32(6e-8)
    assert row < 1
    mdp = finite_mdp.FiniteMDP(jnp.full((1, 1, 1), row), jnp.ones((1, 1)), jnp.ones(1))
    assert float(tabular.chances_of(mdp.transition[0, 0])[-1]) == 0.0
    dying = finite_mdp.with_death(mdp, discount=0.999)
    np.testing.assert_allclose(tabular.chances_of(dying.transition[0, 0])[-1], 1e-3, rtol=1e-3)
