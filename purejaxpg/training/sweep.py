"""Seeds and hyperparameters, vmapped inside a device and sharded over devices. The file that compiles.

Several hosts: call `jax.distributed.initialize` first, then the same function with the same arguments in
every process. Work is shared among all devices of all processes, and each process gets all the results.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from purejaxpg.arguments import Count, KeyVector, Steps, checked
from purejaxpg.types import PyTree


@checked
def sweep(
    run: Callable[..., PyTree],
    keys: KeyVector,
    *hyperparameters: PyTree,
    devices: Sequence[Any] | None = None,
    chunk_size: Count | None = None,
    memory_limit: Steps | None = None,
) -> PyTree:
    """Call `run(key, *hyperparameters)` for every configuration and every seed, in one program.

    Args:
      run: one whole run as a pure function, of a key and of scalars it traces. Reuse the same function
        object: it is what a compiled program is remembered by.
      keys: `[seeds]`. Every configuration gets the same ones.
      *hyperparameters: arrays (or pytrees of them) `[configurations, ...]`, zipped: configuration i has
        the i-th entry of each (`search_space` makes them). Without any there is one configuration.
      devices: to share the work among; all devices of all processes by default. On a CPU, set
        `XLA_FLAGS=--xla_force_host_platform_device_count=<cores>` before JAX starts: vmapped seeds on
        one device leave cores idle.
      chunk_size: run so many (configuration, seed) pairs at once and the others after them, with the
        same program; by default as many as fit, see `fitting_chunk_size`.
      memory_limit: bytes per device that count as fitting.

    Returns:
      The results of `run` with leading axes `[configurations, seeds]`. With several chunks or processes
      they are NumPy arrays, in the host's memory, and typed keys among them come as their data.

    Raises:
      TypeError: an argument is not of the kind that its annotation says: a legacy key, for example.
      ValueError: keys or hyperparameters have the wrong shapes, or not even one run fits into memory.

    Example:
      >>> import jax, purejaxpg as pg
      >>> def run(key, scale):
      ...     return scale * jax.random.uniform(key)
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> pg.sweep(run, keys, jax.numpy.array([1.0, 10.0, 100.0])).shape
      (3, 4)
    """
    rows, configurations = zipped_rows(keys, *hyperparameters)
    number = len(rows[0])
    if chunk_size is None:
        chunk_size = fitting_chunk_size(run, *rows, devices=devices, memory_limit=memory_limit)
    call = distribute(run, devices=devices)
    if chunk_size >= number:
        results = call(*rows)
    else:
        starts = range(0, number, chunk_size)
        results = _joined((call(*chunk(rows, start, chunk_size)) for start in starts), number)
    return jax.tree.map(lambda x: x.reshape(configurations, -1, *x.shape[1:]), results)


@checked
def zipped_rows(keys: KeyVector, *hyperparameters: PyTree) -> tuple[tuple[PyTree, ...], int]:
    """Arguments `[configurations * seeds, ...]` of every run, all seeds of a configuration in turn.

    Args:
      keys: `[seeds]`.
      *hyperparameters: as of `sweep`.

    Returns:
      The rows (keys, then hyperparameters), and the number of configurations.
    """
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(hyperparameters)}
    if len(sizes) > 1 or () in sizes or (0,) in sizes:
        raise ValueError(
            "Hyperparameters are zipped, one entry per configuration: they need one leading axis of the "
            f"same length of at least 1, found {[np.shape(x) for x in jax.tree.leaves(hyperparameters)]}."
        )
    seeds = keys.shape[0]
    configurations = sizes.pop()[0] if sizes else 1
    index = np.arange(configurations * seeds)
    table = jax.tree.map(lambda x: jnp.asarray(x)[index // seeds], hyperparameters)
    return (keys[index % seeds], *table), configurations


def chunk(rows: PyTree, start: int, size: int) -> PyTree:
    """`size` rows from `start` on; beyond the end the last row is repeated, so that sizes are alike.

    Args:
      rows: `[rows, ...]` in every leaf.
      start: number of the first row.
      size: how many.

    Returns:
      `[size, ...]` in every leaf.
    """
    index = np.minimum(np.arange(start, start + size), len(jax.tree.leaves(rows)[0]) - 1)
    return jax.tree.map(lambda x: x[index], rows)


def fitting_chunk_size(
    run: Callable[..., PyTree],
    *rows: PyTree,
    devices: Sequence[Any] | None = None,
    memory_limit: int | None = None,
) -> int:
    """How many rows fit into memory at once, by XLA's analysis of the compiled program.

    All of them if they do, and then nothing is compiled beyond what running them needs; otherwise a
    multiple of the number of devices.

    Args:
      run: as of `sweep`.
      *rows: arguments `[rows, ...]` of all runs.
      devices: as of `sweep`.
      memory_limit: bytes per device; by default nine tenths of what the device says it has, and on a
        CPU its share of half of the machine's memory.

    Returns:
      A number of rows.

    Raises:
      ValueError: not even one row per device fits.
    """
    number = len(jax.tree.leaves(rows)[0])
    available = _choose(devices, number)
    limit = memory_limit_of(available) if memory_limit is None else memory_limit
    size = number
    while (need := _memory_needed(run, rows, size, available)) > limit:
        per_device = -(-size // len(available))
        if per_device == 1:
            raise ValueError(
                f"One run per device needs {need:,} bytes and {limit:,} are allowed: make the run "
                "smaller, raise memory_limit, or state a chunk_size to try it nevertheless."
            )
        size = len(available) * max(1, int(per_device * limit / need))
    return size


def distribute(
    run: Callable[..., PyTree],
    *,
    devices: Sequence[Any] | None = None,
    donate: tuple[int, ...] = (),
) -> Callable[..., PyTree]:
    """A compiled function of rows: `run` vmapped over the leading axis of all its arguments, over devices.

    Where the number of rows does not divide by the number of devices, the last row is repeated and the
    surplus dropped. Results of several processes are gathered, as NumPy arrays, in each of them.

    Args:
      run: as of `sweep`.
      devices: as of `sweep`.
      donate: positions of arguments whose buffers may be reused for the results; the caller's arrays are
        then no longer valid.

    Returns:
      A function of arguments `[rows, ...]`, whose results are `[rows, ...]`.
    """

    def call(*rows: PyTree) -> PyTree:
        number = len(jax.tree.leaves(rows)[0])
        chosen = _choose(devices, number)
        compiled, placement = _compile(run, chosen, donate)
        surplus = -number % len(chosen)
        if surplus:
            rows = chunk(rows, 0, number + surplus)
        # Placed the same way wherever they come from: a restored state needs no second program.
        results = compiled(*_place(rows, placement))
        if not placement.is_fully_addressable:
            from jax.experimental.multihost_utils import process_allgather

            results = process_allgather(_without_keys(results), tiled=True)
        return jax.tree.map(lambda x: x[:number], results) if surplus else results

    return call


def _choose(devices: Sequence[Any] | None, number: int) -> tuple[Any, ...]:
    """No more devices than rows, unless they belong to several processes: each must take part."""
    available = tuple(jax.devices() if devices is None else devices)
    one_process = len({device.process_index for device in available}) == 1
    return available[:number] if one_process else available


@lru_cache(maxsize=32)
def _compile(run: Callable, devices: tuple, donate: tuple[int, ...]) -> tuple[Any, NamedSharding]:
    mesh = Mesh(np.asarray(devices), ("rows",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("rows")
    # Carries of scans that start as constants do not vary over devices at first: no such check.
    sharded = jax.shard_map(
        _without_empty_constants(jax.vmap(run)),
        mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False,
    )  # fmt: skip
    return jax.jit(sharded, donate_argnums=donate), NamedSharding(mesh, spec)


def _without_empty_constants(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The same function, in which arrays without elements that it closes over are made, not captured.

    Indexing in an environment makes such constants. Captured, they are operands of `shard_map`, and the
    partitioner of jaxlib 0.11.2 dies of a segmentation fault where it drops one that nothing uses.
    """

    @wraps(function)  # a compiled program keeps its name
    def call(*rows):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*rows)
        constants = [jnp.zeros(x.shape, x.dtype) if x.size == 0 else x for x in closed.consts]
        results = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, constants))(*jax.tree.leaves(rows))
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return call


def _place(rows: PyTree, placement: NamedSharding) -> PyTree:
    if placement.is_fully_addressable:
        return jax.device_put(rows, placement)

    def place(x):
        if _is_key(x):
            return jax.random.wrap_key_data(
                place(jax.random.key_data(x)), impl=jax.random.key_impl(x)
            )
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, placement, lambda index: host[index])

    return jax.tree.map(place, rows)


def _memory_needed(run: Callable, rows: PyTree, size: int, devices: tuple) -> int:
    """Bytes on each device: arguments, results and temporaries of `size` rows at once."""
    compiled, placement = _compile(run, devices, ())
    padded = size + -size % len(devices)
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((padded, *x.shape[1:]), x.dtype, sharding=placement), rows
    )
    # The call that follows with such rows finds this very program compiled already.
    memory = compiled.lower(*like).compile().memory_analysis()
    if memory is None:  # a back end that does not say
        return 0
    return sum(getattr(memory, f"{of}_size_in_bytes") for of in ("argument", "output", "temp"))


def memory_limit_of(devices: tuple) -> int:
    """Bytes per device, the same in all processes."""
    local = [device for device in devices if device.process_index == jax.process_index()]
    stated = (local[0].memory_stats() or {}).get("bytes_limit")
    limit = _physical_memory() // (2 * len(local)) if stated is None else int(0.9 * stated)
    if len(local) < len(devices):
        from jax.experimental.multihost_utils import process_allgather

        # In KiB: JAX's integers have 32 bits.
        limit = 1024 * int(np.min(process_allgather(np.int32(limit // 1024))))
    return limit


def _physical_memory() -> int:
    """Bytes of this machine, or of the container in which this process is; 8 GiB if nothing says."""
    sizes = []
    with suppress(AttributeError, ValueError, OSError):  # not on Windows
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroups, versions 2 and 1
        with suppress(ValueError, OSError):  # no container, or "max"
            sizes.append(int(Path("/sys/fs/cgroup", name).read_text()))
    return min(sizes, default=8 * 2**30)


def _joined(parts: Iterable[PyTree], number: int) -> PyTree:
    """Parts of equal numbers of rows, one after the other in the host's memory, the surplus dropped."""
    joined, start = None, 0
    for part in parts:
        on_host = jax.device_get(_without_keys(part))
        if joined is None:
            joined = jax.tree.map(lambda x: np.empty((number, *x.shape[1:]), x.dtype), on_host)

        def copy(whole, x, start=start):
            whole[start : start + len(x)] = x[: len(whole) - start]

        jax.tree.map(copy, joined, on_host)
        start += len(jax.tree.leaves(on_host)[0])
    return joined


def _without_keys(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
