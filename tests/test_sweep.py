"""Rows in, rows out: against plain loops of the function that is swept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.sweep import distribute, sweep


def run(key, scale, shift):
    return {"value": scale * jax.random.normal(key, (2,)) + shift, "scale": scale}


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_configurations_times_seeds(seeds, num_devices):
    keys = jax.random.split(jax.random.key(0), seeds)
    scales, shifts = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 5.0, 7.0])
    results = sweep(run, keys, scales, shifts, devices=jax.devices()[:num_devices])
    assert results["value"].shape == (3, seeds, 2)
    for c in range(3):
        for s in range(seeds):
            expected = run(keys[s], scales[c], shifts[c])
            np.testing.assert_allclose(
                results["value"][c, s], expected["value"], rtol=1e-5, atol=1e-5
            )
            assert results["scale"][c, s] == scales[c]


def test_without_hyperparameters_there_is_one_configuration():
    results = sweep(lambda key: jax.random.normal(key), jax.random.split(jax.random.key(0), 4))
    assert results.shape == (1, 4)


def test_a_pytree_of_hyperparameters():
    table = {"a": jnp.arange(2.0), "b": (jnp.arange(4).reshape(2, 2),)}
    keys = jax.random.split(jax.random.key(0), 3)
    results = sweep(lambda key, row: row["a"] + row["b"][0].sum(), keys, table)
    np.testing.assert_array_equal(results, [[1.0] * 3, [6.0] * 3])


def test_work_is_on_every_device():
    devices = jax.devices()
    assert len(devices) == 2  # conftest asks for two
    results = sweep(lambda key: jax.random.normal(key), jax.random.split(jax.random.key(0), 4))
    compiled = distribute(lambda x: 2 * x)(jnp.arange(4.0))
    assert compiled.sharding.device_set == set(devices)
    assert results.shape == (1, 4)


def test_one_compilation_for_many_calls():
    traces = []

    def counted(key):
        traces.append(None)
        return jax.random.normal(key)

    for i in range(3):
        sweep(counted, jax.random.split(jax.random.key(i), 4))
    assert len(traces) == 1


def test_a_row_does_not_depend_on_its_neighbours():
    """A NaN in one configuration leaves the bits of the others as they were."""
    keys = jax.random.split(jax.random.key(0), 2)
    zeros = jnp.zeros(3)
    sane = sweep(run, keys, jnp.array([1.0, 2.0, 3.0]), zeros)["value"]
    broken = sweep(run, keys, jnp.array([1.0, jnp.nan, 3.0]), zeros)["value"]
    np.testing.assert_array_equal(sane[::2], broken[::2])
    assert np.isnan(broken[1]).all()


@pytest.mark.parametrize(
    ("keys", "hyperparameters", "sentence"),
    [
        ((0,), (), "at least one"),
        ((2, 2), (), "vector"),
        ((2,), ((3,), (4,)), "same length"),
        ((2,), ((),), "one leading axis"),
        ((2,), ((0,),), "at least 1"),
    ],
)
def test_wrong_shapes_are_refused(keys, hyperparameters, sentence):
    keys = jax.random.split(jax.random.key(0), keys)
    with pytest.raises(ValueError, match=sentence):
        sweep(run, keys, *(jnp.zeros(shape) for shape in hyperparameters))
