"""Seeds and hyperparameters, vmapped inside a device and sharded over devices. The file that compiles."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from purejaxpg.types import PyTree


def sweep(
    run: Callable[..., PyTree],
    keys: jax.Array,
    *hyperparameters: PyTree,
    devices: Sequence[Any] | None = None,
) -> PyTree:
    """Call `run(key, *hyperparameters)` for every configuration and every seed, in one program.

    Args:
      run: one whole run as a pure function, of a key and of scalars it traces. Reuse the same function
        object: it is what a compiled program is remembered by.
      keys: `[seeds]`. Every configuration gets the same ones.
      *hyperparameters: arrays (or pytrees of them) `[configurations, ...]`, zipped: configuration i has
        the i-th entry of each. Without any there is one configuration.
      devices: to share the work among; all devices of this process by default. On a CPU, set
        `XLA_FLAGS=--xla_force_host_platform_device_count=<cores>` before JAX starts: vmapped seeds on
        one device leave cores idle.

    Returns:
      The results of `run` with leading axes `[configurations, seeds]`.
    """
    if keys.ndim != 1 or keys.shape[0] == 0:
        raise ValueError(
            f"keys must be a vector of at least one typed key, found shape {keys.shape}."
        )
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(hyperparameters)}
    if len(sizes) > 1 or () in sizes or (0,) in sizes:
        raise ValueError(
            "Hyperparameters are zipped, one entry per configuration: they need one leading axis of the "
            f"same length of at least 1, found {[np.shape(x) for x in jax.tree.leaves(hyperparameters)]}."
        )
    seeds = keys.shape[0]
    configurations = sizes.pop()[0] if sizes else 1
    index = np.arange(configurations * seeds)
    rows = (
        keys[index % seeds],
        *jax.tree.map(lambda x: jnp.asarray(x)[index // seeds], hyperparameters),
    )
    results = distribute(run, devices=devices)(*rows)
    return jax.tree.map(lambda x: x.reshape(configurations, seeds, *x.shape[1:]), results)


def distribute(
    run: Callable[..., PyTree],
    *,
    devices: Sequence[Any] | None = None,
    donate: tuple[int, ...] = (),
) -> Callable[..., PyTree]:
    """A compiled function of rows: `run` vmapped over the leading axis of all its arguments, over devices.

    Where the number of rows does not divide by the number of devices, the last row is repeated and the
    surplus dropped.

    Args:
      donate: positions of arguments whose buffers may be reused for the results; the caller's arrays are
        then no longer valid.
    """
    available = tuple(jax.local_devices() if devices is None else devices)

    def call(*rows: PyTree) -> PyTree:
        number = jax.tree.leaves(rows)[0].shape[0]
        chosen = available[:number]
        compiled, placement = _compile(run, chosen, donate)
        surplus = -number % len(chosen)
        if surplus:
            index = np.minimum(np.arange(number + surplus), number - 1)
            rows = jax.tree.map(lambda x: x[index], rows)
        # Placed the same way wherever they come from: a restored state needs no second program.
        results = compiled(*jax.device_put(rows, placement))
        return jax.tree.map(lambda x: x[:number], results) if surplus else results

    return call


@lru_cache(maxsize=32)
def _compile(
    run: Callable, devices: tuple, donate: tuple[int, ...]
) -> tuple[Callable, NamedSharding]:
    mesh = Mesh(np.asarray(devices), ("rows",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("rows")
    # Carries of scans that start as constants do not vary over devices at first: no such check.
    sharded = jax.shard_map(
        jax.vmap(run), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
    return jax.jit(sharded, donate_argnums=donate), NamedSharding(mesh, spec)
