"""Checkpoints of any pytree of arrays, typed keys included, by orbax (imported when used)."""

import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purejaxpg.arguments import described
from purejaxpg.leaves import leaf_paths
from purejaxpg.types import PyTree

FORMAT = 1
"""The number written into every checkpoint; raised when what is stored changes its meaning."""
_FORMAT_KEY = "purejaxpg_format"
_LEAVES_KEY = "purejaxpg_leaves"
_CHECKSUMS = "checksums.json"


def save(path: str | Path, tree: PyTree) -> None:
    """Write a pytree of arrays into a new folder, which is there as a whole or not at all.

    Where there are several processes, only the first one may write, and it must hold the whole tree (as it
    does the results of `sweep`); every process may read.

    Args:
      path: the folder, which must not exist.
      tree: a pytree of arrays, such as the state of an algorithm; typed keys are allowed.

    Raises:
      FileExistsError: `path` exists; nothing is overwritten.
      OSError: it could not be written, on a full disk for example; what was there before stays.
      TypeError: a leaf is no array.
      ValueError: an array has no elements; or called in another process than the first, or with typed keys
        where there are several.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder, "checkpoint")
      ...     pg.checkpoint.save(path, {"weight": jnp.array([1.0, 2.0])})
      ...     path.is_dir()
      True
    """
    _check_arrays(tree)
    if jax.process_count() > 1:
        tree = _host_copy(tree)
    path = Path(path).absolute()
    if path.exists():
        raise FileExistsError(f"{path} exists; a checkpoint is never overwritten.")
    if empty := [name for name, x in leaf_paths(tree).items() if x.size == 0]:
        raise ValueError(f"Arrays without elements cannot be saved: {', '.join(empty)}.")
    unfinished = path.with_name(f".saving-{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _plain_path(unfinished.parent) as parent, _checkpointer() as checkpointer:
            metadata = {_FORMAT_KEY: FORMAT, _LEAVES_KEY: _described(tree)}
            plain = parent / f".saving-{zlib.crc32(os.fsencode(path.name))}"
            shutil.rmtree(plain, ignore_errors=True)
            checkpointer.save(plain, tree, custom_metadata=metadata)
            checkpointer.wait_until_finished()
            os.rename(plain, unfinished)
        (unfinished / _CHECKSUMS).write_text(json.dumps(_checksums(unfinished)))
    except Exception as error:  # orbax raises what it likes where a disk is full
        raise OSError(f"{path} could not be written: {_first_line(error)}.") from error
    os.rename(unfinished, path)


def restore(path: str | Path, like: PyTree) -> PyTree:
    """Read a checkpoint into a pytree with the structure, shapes and dtypes of another, on one device.

    Args:
      path: the folder that `save` wrote.
      like: a pytree of arrays, or `jax.eval_shape(algorithm.init, key, env_params)`: only shapes and dtypes
        are used, so nothing need be computed.

    Returns:
      A pytree like `like`, with the arrays that were saved.

    Raises:
      FileNotFoundError: there is no checkpoint at `path`.
      TypeError: a leaf of `like` is no array.
      ValueError: the checkpoint is damaged, has another format or does not have the shapes of `like`.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> tree = {"weight": jnp.array([1.0, 2.0])}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder, "checkpoint")
      ...     pg.checkpoint.save(path, tree)
      ...     pg.checkpoint.restore(path, tree)["weight"].tolist()
      [1.0, 2.0]
    """
    _check_arrays(like)
    path = Path(path).absolute()
    if not path.is_dir():
        raise FileNotFoundError(f"There is no checkpoint at {path}.")
    _check_files(path)
    # One device, whatever the devices that it was saved from were.
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), like)
    with _plain_path(path) as plain, _checkpointer() as checkpointer:
        _check_metadata(path, plain, checkpointer, like)
        try:
            restored = checkpointer.restore(plain, target)
        except Exception as error:  # orbax raises bare ones where data cannot be read
            raise ValueError(
                f"{path} is damaged or not a checkpoint of this algorithm and these networks: "
                f"{_first_line(error)}"
            ) from error
    if any(x.dtype != y.dtype for x, y in zip(jax.tree.leaves(restored), jax.tree.leaves(like))):
        raise ValueError(f"{path} is damaged: its types are not those that it was saved with.")
    return restored


def _check_arrays(tree: PyTree) -> None:
    for name, leaf in leaf_paths(tree).items():
        if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
            where = f" at {name}" if name else ""
            raise TypeError(
                f"A checkpoint is a pytree of arrays, without {described(leaf)}{where}; jax.numpy.asarray "
                "makes one."
            )


def _checkpointer() -> Any:
    """Orbax's, which otherwise waits for all processes."""
    from orbax.checkpoint import StandardCheckpointer
    from orbax.checkpoint.options import MultiprocessingOptions

    me = jax.process_index()
    alone = MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )
    return StandardCheckpointer(multiprocessing_options=alone)


@contextmanager
def _plain_path(folder: Path) -> Iterator[Path]:
    """A path to a folder without characters that orbax takes for a pattern, and then finds nothing."""
    if re.fullmatch(r"[\w\-./: ~+=@,]*", folder.as_posix()):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        link = Path(place, "folder")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _host_copy(tree: PyTree) -> PyTree:
    """Arrays of NumPy: orbax writes no array of JAX that only one of several processes has."""
    if jax.process_index() > 0:
        raise ValueError(
            f"Process {jax.process_index()} cannot write a checkpoint: call save in process 0 only."
        )
    if any(jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) for x in jax.tree.leaves(tree)):
        raise ValueError(
            "Typed keys cannot be saved from several processes: save jax.random.key_data of them."
        )
    return jax.tree.map(np.asarray, tree)


def _described(tree: PyTree) -> dict[str, str]:
    """Path of each leaf -> its type and shape."""
    return {path: f"{x.dtype} {tuple(x.shape)}" for path, x in leaf_paths(tree).items()}


def _check_leaves(path: Path, stated: dict[str, str], like: PyTree) -> None:
    """Refuse what orbax would cast, or report at length."""
    wanted = _described(like)
    for leaf in [*wanted, *(name for name in stated if name not in wanted)]:
        found, needed = stated.get(leaf, "nothing"), wanted.get(leaf, "nothing")
        if found != needed:
            raise ValueError(
                f"{path} is not a checkpoint of this algorithm and these networks: {leaf or 'the array'} is "
                f"{found} there, and {needed} is needed."
            )


def _checksums(path: Path) -> dict[str, int]:
    """Every file below `path` and the CRC-32 of its content."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != _CHECKSUMS]
    return {str(file.relative_to(path)): zlib.crc32(file.read_bytes()) for file in files}


def _check_files(path: Path) -> None:
    """Find damage before orbax does: its threads report what they meet at length."""
    file = path / _CHECKSUMS
    if not file.is_file():
        return  # foreign, or of before there were checksums
    try:
        stated = json.loads(file.read_text())
    except ValueError:
        raise ValueError(f"{path} is damaged: {_CHECKSUMS} cannot be read.") from None
    found = _checksums(path)
    if damaged := sorted(name for name in stated if found.get(name) != stated[name]):
        raise ValueError(f"{path} is damaged: {', '.join(damaged)} changed or missing.")


def _check_metadata(path: Path, plain: Path, checkpointer: Any, like: PyTree) -> None:
    """Whether what is stored has this format, and the leaves of `like`."""
    try:
        metadata = checkpointer.metadata(plain).custom_metadata or {}
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint: {_first_line(error)}") from error
    found = metadata.get(_FORMAT_KEY)
    if found is None:
        raise ValueError(f"{path} is damaged or no checkpoint of purejaxpg: it states no format.")
    if found != FORMAT:
        raise ValueError(f"{path} has format {found}; this version of purejaxpg reads {FORMAT}.")
    if (stated := metadata.get(_LEAVES_KEY)) is not None:  # not in older ones
        _check_leaves(path, stated, like)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
