"""Environments of Jumanji beside its own stepping, and their ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.adapted import assert_ppo_stays_finite, play, until_done
from tests.environments.test_gymnax import assert_types

jumanji = pytest.importorskip("jumanji")

from jumanji.environments import Snake  # noqa: E402
from jumanji.types import truncation  # noqa: E402

from purejaxpg.environments.adapters.jumanji import make_jumanji  # noqa: E402
from purejaxpg.types import Discrete  # noqa: E402

SMALL = {"num_rows": 6, "num_cols": 6}


@pytest.mark.parametrize(
    ("env_id", "num_actions", "raw", "shape"),
    [
        ("Snake-v1", 4, (12 * 12 * 5 + 4,), (12, 12, 5)),
        ("Minesweeper-v0", 100, (100 + 1 + 100,), (101,)),
        ("RubiksCube-partly-scrambled-v0", 18, (6, 3, 3), (6, 3, 3)),
    ],
)
def test_types_and_shapes(env_id, num_actions, raw, shape):
    env, params = make_jumanji(env_id)
    assert_types(env, params)
    assert env.action_space(params) == Discrete(num_actions)
    assert env.observation_space(params).shape == raw
    seen = env.observe(jnp.zeros((3, 2, *raw)), params)
    assert getattr(seen, "obs", seen).shape == (3, 2, *shape)


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [("Snake-v1", SMALL), ("Minesweeper-v0", {}), ("RubiksCube-partly-scrambled-v0", {})],
)
def test_steps_are_those_of_jumanji(env_id, kwargs):
    """Jumanji's own environment, with its own time limit, given the same key and actions."""
    env, params = make_jumanji(env_id, **kwargs)
    game = jumanji.make(env_id, **kwargs)
    first, (obs, _, action, _, reward, terminated, truncated) = play(
        jax.random.key(0), env, params, 20, 8
    )
    if env_id == "Minesweeper-v0":
        action = jnp.stack([action // 10, action % 10], axis=-1)
    elif env_id.startswith("Rubiks"):
        action = jnp.stack([action // 3, jnp.zeros_like(action), action % 3], axis=-1)

    @jax.jit
    @jax.vmap
    def theirs(key, actions):
        state, start = game.reset(jax.random.key_data(key))
        return start, jax.lax.scan(game.step, state, actions)[1]

    start, steps = theirs(jax.random.split(jax.random.key(0), 8), action)
    seen = env.observe(jnp.concatenate([first[:, None], obs], axis=1), params)
    counted = until_done(terminated | truncated)
    grid = {"Snake-v1": "grid", "Minesweeper-v0": "board"}.get(env_id, "cube")
    for part, at in ((start.observation, 0), (steps.observation, slice(1, None))):
        expected = np.asarray(getattr(part, grid), np.float32)
        if env_id == "Minesweeper-v0":
            flat = expected.reshape(*expected.shape[:-2], 100)
            expected = np.concatenate([flat, part.num_mines[..., None]], axis=-1)
        found = np.asarray(getattr(seen, "obs", seen))[:, at]
        where = counted if at else slice(None)
        np.testing.assert_array_equal(found[where], expected[where])
        if not env_id.startswith("Rubiks"):
            allowed = np.asarray(part.action_mask).reshape(*found.shape[: 2 if at else 1], -1)
            legal = np.asarray(seen.mask)[:, at]
            np.testing.assert_array_equal(
                legal[where], (allowed | ~allowed.any(-1, keepdims=True))[where]
            )
    np.testing.assert_array_equal(reward[counted], steps.reward[counted])
    np.testing.assert_array_equal((terminated | truncated)[counted], steps.last()[counted])
    limited = env_id.startswith("Rubiks")  # after 20 steps
    assert truncated.any() == limited
    assert terminated.any() == (env_id == "Minesweeper-v0")


def test_a_time_limit_truncates_where_jumanji_terminates():
    """Snakes on their way at the limit, and one that leaves the board before it."""
    made = [make_jumanji("Snake-v1", **SMALL, time_limit=5)]
    made.append(make_jumanji("Snake-v1", **SMALL, max_steps_in_episode=5))
    for env, params in made:
        *_, terminated, truncated = play(jax.random.key(1), env, params, 5, 8)[1]
        assert not terminated.any()
        np.testing.assert_array_equal(truncated, np.tile(np.arange(5) == 4, (8, 1)))
    game = Snake(**SMALL, time_limit=5)
    state, _ = game.reset(jax.random.key_data(jax.random.key(1)))
    _, last = game.step(state.replace(step_count=jnp.array(4)), jnp.argmax(state.action_mask))
    assert last.last() and last.discount == 0

    obs, state = env.reset(jax.random.key(3), params)
    for _ in range(7):
        wall = ~env.observe(obs, params).mask[0]
        obs, state, _, terminated, truncated, _ = env.step(None, state, jnp.array(0), params)
        assert terminated == wall
        if terminated:
            break
    assert terminated and not truncated


def test_everything_is_allowed_where_nothing_is_left():
    env, params = make_jumanji("Game2048-v1", board_size=2)
    _, (obs, *_, terminated, truncated) = play(jax.random.key(0), env, params, 40, 16)
    ends = np.asarray(terminated & until_done(terminated))
    assert ends.sum() == 16 and not truncated.any()
    seen = env.observe(obs, params)
    assert seen.mask[ends].all()
    boards = np.asarray(seen.obs)[ends]
    assert (boards > 0).all()
    assert (boards[:, 0] != boards[:, 1]).all() and (boards[..., 0] != boards[..., 1]).all()


class Interrupted(Snake):
    """Cut, not lost, at its third step: what Jumanji says with a discount that is not 0."""

    def step(self, state, action):
        new, timestep = super().step(state, action)
        cut = truncation(timestep.reward, timestep.observation)
        return new, jax.tree.map(lambda x, y: jnp.where(new.step_count == 3, x, y), cut, timestep)


@pytest.fixture
def interrupted():
    jumanji.register("Interrupted-v0", entry_point=f"{__name__}:Interrupted")
    yield "Interrupted-v0"
    del jumanji.registration._REGISTRY["Interrupted-v0"]


def test_an_environment_that_truncates_by_itself(interrupted):
    env, params = make_jumanji(interrupted)
    *_, terminated, truncated = play(jax.random.key(0), env, params, 4, 4)[1]
    assert not terminated.any()
    np.testing.assert_array_equal(truncated, np.tile(np.arange(4) == 2, (4, 1)))


def test_ppo():
    assert_ppo_stays_finite(*make_jumanji("Snake-v1", **SMALL))


def test_refusals():
    with pytest.raises(ValueError, match=r"Jumanji has no environment 'snake' \(did you mean Snak"):
        make_jumanji("snake")
    with pytest.raises(TypeError, match="num_holes"):
        make_jumanji("Snake-v1", num_holes=3)
    for env_id in ("Cleaner-v0", "Connector-v3", "JobShop-v0", "SearchAndRescue-v0"):
        with pytest.raises(TypeError, match=f"{env_id} has several agents or continuous actions"):
            make_jumanji(env_id)
