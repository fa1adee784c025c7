"""What is written comes back bit by bit; what is not ours, or is damaged, is refused in a sentence."""

import shutil

import jax
import jax.numpy as jnp
import pytest

import purejaxpg as pg
from purejaxpg.training import checkpoint
from tests.small import assert_trees_equal, cartpole, small_ppo


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


DAMAGE = {
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "other": lambda file: file.write_bytes(bytes(x ^ 255 for x in file.read_bytes())),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_no_damage_to_any_file_goes_unnoticed(damage, tmp_path):
    tree = {"a": jnp.arange(3000.0), "key": jax.random.key(1), "n": jnp.int32(4)}
    checkpoint.save(tmp_path / "x", tree)
    files = [p.relative_to(tmp_path / "x") for p in (tmp_path / "x").rglob("*") if p.is_file()]
    assert len(files) > 8
    for i, file in enumerate(files):
        copy = shutil.copytree(tmp_path / "x", tmp_path / str(i))
        DAMAGE[damage](copy / file)
        if damage == "gone" and file.name == "checksums.json":  # one of before there were any
            assert_trees_equal(checkpoint.restore(copy, tree)["a"], tree["a"])
            continue
        with pytest.raises(ValueError, match="is damaged") as error:
            checkpoint.restore(copy, tree)
        assert str(copy) in str(error.value) and "\n" not in str(error.value)


def test_keys_that_come_back_as_numbers_are_refused(tmp_path):
    tree = {"key": jax.random.key(1)}
    checkpoint.save(tmp_path / "x", tree)
    (tmp_path / "x" / "checksums.json").unlink()
    shutil.rmtree(tmp_path / "x" / "array_metadatas")  # without it orbax does not know of keys
    with pytest.raises(ValueError, match="is damaged: its types"):
        checkpoint.restore(tmp_path / "x", tree)


def test_an_unfinished_save_is_no_checkpoint_and_in_nobodys_way(tmp_path, monkeypatch):
    def die(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "_checksums", die)
        checkpoint.save(tmp_path / "x", {"a": jnp.ones(2)})
    with pytest.raises(FileNotFoundError):
        checkpoint.restore(tmp_path / "x", {"a": jnp.ones(2)})
    checkpoint.save(tmp_path / "x", {"a": jnp.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    "name",
    ["a[1]", "b*", "c?", "d{x}", "e\\f", "g$h", "i#j", "k l", "m%n", "ö", "o'p\"q", "r\ns", "-t"],
)
def test_any_name_that_the_file_system_takes(name, tmp_path):
    path, tree = tmp_path / name / name, {"a": jnp.arange(3), "key": jax.random.key(1)}
    checkpoint.save(path, tree)
    assert [x.name for x in path.parent.iterdir()] == [name]
    assert_trees_equal(checkpoint.restore(path, tree)["a"], tree["a"])


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ({"a": jnp.ones(3, int)}, r"a is float32 \(3,\) there, and int32 \(3,\) is needed"),
        ({"a": jnp.ones(4)}, r"a is float32 \(3,\) there, and float32 \(4,\) is needed"),
        ({"a": jnp.ones((3, 1))}, r"and float32 \(3, 1\) is needed"),
        ({"b": jnp.ones(3)}, r"b is nothing there"),
        ({"a": jnp.ones(3), "b": jnp.ones(3)}, r"b is nothing there"),
        ({}, r"a is float32 \(3,\) there, and nothing is needed"),
    ],
)
def test_nothing_is_cast_padded_or_left_away(like, words, tmp_path):
    checkpoint.save(tmp_path / "tree", {"a": jnp.ones(3)})
    with pytest.raises(ValueError, match=words):
        checkpoint.restore(tmp_path / "tree", like)


def test_arrays_without_elements_are_refused(tmp_path):
    with pytest.raises(ValueError, match="without elements cannot be saved: a"):
        checkpoint.save(tmp_path / "tree", {"a": jnp.zeros((0, 3))})
    assert not list(tmp_path.iterdir())
