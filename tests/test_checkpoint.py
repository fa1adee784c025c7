"""What is written comes back bit by bit; what is not ours, or is damaged, is refused in a sentence."""

import json

import jax
import jax.numpy as jnp
import pytest
from small import assert_trees_equal, cartpole, small_ppo

import purejaxpg as pg
from purejaxpg import checkpoint


@pytest.fixture(scope="module")
def trained():
    env, env_params = cartpole()
    algorithm = small_ppo(env, env_params)
    state, _ = jax.jit(lambda: pg.train(jax.random.key(0), algorithm, env_params, num_updates=2))()
    return algorithm, env_params, state


def test_a_state_comes_back_bitwise(trained, tmp_path):
    algorithm, env_params, state = trained
    checkpoint.save(tmp_path / "state", state)
    like = jax.eval_shape(algorithm.init, jax.random.key(0), env_params)
    restored = checkpoint.restore(tmp_path / "state", like)
    assert type(restored) is type(state)
    assert_trees_equal(restored, state)


def test_a_resumed_run_is_bitwise_an_uninterrupted_one(trained, tmp_path):
    algorithm, env_params, state = trained
    chunk = jax.jit(
        lambda state: pg.train(jax.random.key(0), algorithm, env_params, num_updates=2, state=state)
    )
    checkpoint.save(tmp_path / "state", state)
    assert_trees_equal(chunk(checkpoint.restore(tmp_path / "state", state)), chunk(state))


def test_typed_keys_bools_and_empty_leaves(tmp_path):
    tree = {
        "key": jax.random.key(7),
        "flag": jnp.array([True, False]),
        "empty": (),
        "n": jnp.int32(3),
    }
    checkpoint.save(tmp_path / "tree", tree)
    restored = checkpoint.restore(tmp_path / "tree", tree)
    assert restored["empty"] == ()
    assert_trees_equal(jax.random.key_data(restored["key"]), jax.random.key_data(tree["key"]))
    assert_trees_equal({**restored, "key": 0 * tree["n"]}, {**tree, "key": 0 * tree["n"]})


def test_nothing_is_overwritten(tmp_path):
    checkpoint.save(tmp_path / "x", {"a": jnp.ones(2)})
    with pytest.raises(FileExistsError, match="never overwritten"):
        checkpoint.save(tmp_path / "x", {"a": jnp.zeros(2)})
    assert checkpoint.restore(tmp_path / "x", {"a": jnp.zeros(2)})["a"].sum() == 2


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no checkpoint at"):
        checkpoint.restore(tmp_path / "nothing", {})
    (tmp_path / "foreign").mkdir()
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        checkpoint.restore(tmp_path / "foreign", {})
    checkpoint.save(tmp_path / "x", {"a": jnp.ones(2)})
    for like in ({"b": jnp.ones(2)}, {"a": jnp.ones(3)}, {"a": jnp.ones(2), "b": jnp.ones(1)}):
        with pytest.raises(ValueError, match="not a checkpoint of this algorithm"):
            checkpoint.restore(tmp_path / "x", like)


def test_another_format_is_refused(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "x", {"a": jnp.ones(2)})
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    with pytest.raises(ValueError, match="has format 1; this version of purejaxpg reads 99"):
        checkpoint.restore(tmp_path / "x", {"a": jnp.ones(2)})


@pytest.mark.parametrize("name", ["_METADATA", "_CHECKPOINT_METADATA"])
def test_a_truncated_file_is_refused(tmp_path, name):
    checkpoint.save(tmp_path / "x", {"a": jnp.ones(2)})
    file = tmp_path / "x" / name
    json.loads(file.read_text())
    file.write_text(file.read_text()[:20])
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.restore(tmp_path / "x", {"a": jnp.ones(2)})
