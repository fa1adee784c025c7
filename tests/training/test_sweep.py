"""Rows in, rows out: against plain loops of the function that is swept."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.training.sweep import (
    distribute,
    fitting_chunk_size,
    memory_limit_of,
    sweep,
    zipped_rows,
)
from tests.small import assert_trees_equal, cartpole, small_ppo


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


# Chunks: as many runs at once as fit.


@pytest.mark.parametrize("chunk_size", [1, 2, 4, 7, 15])
def test_chunks_give_the_same_rows_from_one_program(chunk_size):

    def counted(traces):
        def counted_run(key, scale, shift):
            traces.append(None)
            return run(key, scale, shift) | {"key": key}

        return counted_run

    keys, scales = jax.random.split(jax.random.key(0), 5), jnp.array([1.0, 2.0, 3.0])
    whole = sweep(counted([]), keys, scales, 2 * scales)
    traces: list[None] = []
    parts = sweep(counted(traces), keys, scales, 2 * scales, chunk_size=chunk_size)
    assert len(traces) == 1
    assert parts["value"].shape == (3, 5, 2)
    np.testing.assert_array_equal(parts["value"], whole["value"])
    same = parts["key"] if chunk_size == 15 else jax.random.wrap_key_data(parts["key"])
    assert (same == keys).all()


def heavy(key):
    """Half a MiB per run as temporaries that cannot be fused away."""
    x = jax.random.normal(key, (256, 256))
    return jnp.linalg.norm(x @ x.T @ x)


def test_chunk_size_is_chosen_by_what_the_program_needs():
    rows, _ = zipped_rows(jax.random.split(jax.random.key(0), 64))
    device = jax.devices()[:1]

    def needed(size):  # by a program of our own
        memory = jax.jit(jax.vmap(heavy)).lower(rows[0][:size]).compile().memory_analysis()
        return memory.temp_size_in_bytes + memory.argument_size_in_bytes

    assert needed(64) > 8 * needed(4)
    limit = needed(20)
    size = fitting_chunk_size(heavy, *rows, devices=device, memory_limit=limit)
    assert 10 <= size <= 21
    assert needed(size) <= limit
    assert fitting_chunk_size(heavy, *rows, devices=device) == 64
    two = fitting_chunk_size(heavy, *rows, devices=jax.devices()[:2], memory_limit=limit)
    assert 1.5 * size < two <= 2 * size + 2 and two % 2 == 0  # the limit is of each device
    with pytest.raises(ValueError, match="and 1,000 are allowed"):
        sweep(heavy, rows[0], memory_limit=1000)
    results = sweep(heavy, rows[0], devices=device, memory_limit=limit)
    assert isinstance(results, np.ndarray)
    np.testing.assert_allclose(results[0], jax.vmap(heavy)(rows[0]), rtol=1e-5)


def test_choosing_compiles_nothing_more(caplog):
    def watched(key):
        return jax.random.normal(key)

    keys = jax.random.split(jax.random.key(0), 4)
    with jax.log_compiles():
        sweep(watched, keys)
    messages = [record.getMessage() for record in caplog.records]
    assert sum("Finished XLA compilation of jit(watched)" in message for message in messages) == 1


def test_memory_limit_is_the_devices_or_the_machines():
    def device(stats):
        return SimpleNamespace(process_index=0, memory_stats=lambda: stats)

    assert memory_limit_of((device({"bytes_limit": 1000}),)) == 900
    machine = int(re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text()).group(1))
    assert memory_limit_of((device(None),) * 4) == pytest.approx(1024 * machine / 8, rel=0.01)


def test_chunks_of_nothing_are_refused():
    with pytest.raises(ValueError, match="chunk_size must be at least 1, not 0"):
        sweep(heavy, jax.random.split(jax.random.key(0), 2), chunk_size=0)


# Whole training runs.

LEARNING_RATES = np.array([1e-3, 1e-2, 3e-4], np.float32)


def ppo_run(key, learning_rate):
    env, env_params = cartpole()
    algorithm = small_ppo(env, env_params, optimizer=pg.adam(learning_rate))
    return pg.train(key, algorithm, env_params, num_updates=3)


@pytest.mark.parametrize(("learning_rate", "loss"), [(1e3, 1e4), (1e30, np.inf)])
def test_a_diverging_configuration_leaves_its_neighbours_alone(learning_rate, loss):
    keys = jax.random.split(jax.random.key(0), 2)
    sane = sweep(ppo_run, keys, LEARNING_RATES)
    broken = sweep(ppo_run, keys, np.array([1e-3, learning_rate, 3e-4], np.float32))
    assert (sane[1]["value_loss"] < 1e3).all()
    assert not (broken[1]["value_loss"][1] < loss).all()  # NaN is not less either
    assert_trees_equal(*(jax.tree.map(lambda x: x[::2], tree) for tree in (sane, broken)))


def test_sweep_gives_the_numbers_of_plain_vmap():
    """After 3 updates, to 1e-4; over long runs rounding grows."""
    keys = jax.random.split(jax.random.key(0), 3)
    swept = sweep(ppo_run, keys, LEARNING_RATES)
    plain = jax.jit(jax.vmap(ppo_run))(jnp.tile(keys, 3), np.repeat(LEARNING_RATES, 3))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y.reshape(x.shape), rtol=1e-4, atol=1e-4),
        swept,
        plain,
    )


ELSEWHERE = """
import sys
import numpy as np
import jax
number, process, port, file = sys.argv[1:]
if int(number) > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", int(number), int(process))
from pathlib import Path
from jax.experimental import multihost_utils
from tests.training.test_sweep import LEARNING_RATES, ppo_run
import purejaxpg as pg
from purejaxpg.training import checkpoint
assert jax.process_count() == int(number), jax.process_count()
keys = jax.random.split(jax.random.key(0), 3)
state, metrics = pg.sweep(ppo_run, keys, LEARNING_RATES)
np.savez(file, *jax.tree.leaves((state.params, metrics)), devices=len(jax.devices()))

folder = Path(file).parent / "checkpoint"
if jax.process_index() == 0:
    checkpoint.save(folder, state)
else:
    try:
        checkpoint.save(folder, state)
    except ValueError as error:
        assert "call save in process 0 only" in str(error)
    else:
        raise AssertionError("a second process must not write")
multihost_utils.sync_global_devices("saved")
jax.tree.map(np.testing.assert_array_equal, checkpoint.restore(folder, state), state)
"""


@pytest.mark.parametrize(("processes", "devices"), [(1, 8), (2, 2)])
def test_more_devices_and_more_processes_give_the_same(processes, devices, tmp_path):
    """Nine runs on eight devices, or on two devices of each of two processes, against one device."""
    flag = "--xla_force_host_platform_device_count"
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "XLA_FLAGS": re.sub(rf"{flag}=\d+", f"{flag}={devices}", os.environ["XLA_FLAGS"]),
        "PYTHONPATH": str(root),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [tmp_path / f"{process}.npz" for process in range(processes)]
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                ELSEWHERE,
                str(processes),
                str(i),
                str(port),
                file,
            ],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i, file in enumerate(files)
    ]
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    keys = jax.random.split(jax.random.key(0), 3)
    state, metrics = sweep(ppo_run, keys, LEARNING_RATES, devices=jax.devices()[:1])
    expected = jax.tree.leaves((state.params, metrics))
    for file in files:
        with np.load(file) as found:
            assert found["devices"] == processes * devices
            for i, x in enumerate(expected):
                np.testing.assert_allclose(found[f"arr_{i}"], x, rtol=1e-4, atol=1e-4)


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


def test_constants_without_elements_do_not_kill_the_compiler():
    """jaxlib 0.11.2 died of a segmentation fault where shard_map closes over one and nothing uses it."""
    nothing = np.zeros(0, np.int32)

    def run(key):
        return jax.random.uniform(key) + jnp.sum(nothing)

    keys = jax.random.split(jax.random.key(0), len(jax.devices()))
    assert len(keys) > 1
    np.testing.assert_array_equal(pg.sweep(run, keys)[0], jax.vmap(jax.random.uniform)(keys))
