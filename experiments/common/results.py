"""A folder of results: configuration, metrics, evaluations, pictures and the newest checkpoint.

Files are written beside their place and moved there whole, and the checkpoint comes last: a program
killed at any moment leaves a folder that can be gone on from.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from purejaxpg.training import checkpoint
from purejaxpg.types import PyTree

Arrays = dict[str, np.ndarray]
LOCK = ".lock"
"""A file in every folder of results that the process which writes there holds."""
PROGRAMS = {"run": "train.py", "sweep": "sweep.py", "policy": "evaluate.py"}
"""Kind of a folder of results, as its config.json says -> the program that makes it."""


class ResultsError(ValueError):
    """Results cannot be read, or say nothing: one sentence."""


_held: list[Any] = []


def folder_of(output: Path, name: str) -> Path:
    """The folder of results with this name.

    Raises:
      ValueError: it would not be below `output`.
    """
    folder = output / name
    if os.path.isabs(name) or ".." in Path(name).parts or folder == output:
        raise ValueError(f"--name must be that of a folder below --output, not {name!r}.")
    return folder


def hold(folder: Path) -> None:
    """Keep other processes out of a folder until `release`, or until this process ends, however it does.

    Raises:
      BlockingIOError: another process holds it.
    """
    file = (folder / LOCK).open("a")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            file.close()
            raise BlockingIOError(
                f"{folder} is in use by another process: wait for its end, or choose another --name."
            ) from None
        # A file system without locks: go on without one.
    _held.append(file)


def release() -> None:
    """Let other processes into every folder that this one holds."""
    while _held:
        _held.pop().close()


def claim(folder: Path, *, overwrite: bool, kind: str) -> None:
    """Make a new folder of results and hold it; one that exists is refused, or emptied when told to.

    Args:
      kind: of the results, see `PROGRAMS`; only such a folder is emptied.

    Raises:
      FileExistsError: it exists and is not to be overwritten, or holds anything but results.
      BlockingIOError: another process holds it.
    """
    if full := folder.exists() and any(map(_counts, folder.iterdir())):
        if not overwrite:
            raise FileExistsError(
                f"{folder} exists: choose another --name, go on with --resume, or --overwrite it."
            )
        if not (folder / "config.json").is_file() or read_config(folder)["kind"] != kind:
            raise FileExistsError(
                f"{folder} holds no results of {PROGRAMS[kind]}; it is left alone."
            )
    folder.mkdir(parents=True, exist_ok=True)
    hold(folder)
    for path in filter(_counts, folder.iterdir()) if full else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _counts(path: Path) -> bool:
    """Whether a file is more than what a program leaves that is killed early."""
    return path.name != LOCK and not path.name.startswith(".tmp-")


def write_text(path: Path, text: str) -> None:
    write_whole(path, lambda temporary: temporary.write_text(text))


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Raises FileNotFoundError or ValueError, one sentence each."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}.")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ResultsError(f"{path} is damaged: {error}.") from None


def read_config(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """What config.json says: what the folder is under `kind`, the options of a run under `config`, and more.

    Args:
      kind: what the folder must be, see `PROGRAMS`; anything if None.

    Raises:
      FileNotFoundError, ValueError: there is none, or none of these programs wrote it.
    """
    content = read_json(folder / "config.json")
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise ValueError(f"{folder / 'config.json'} is no configuration of these programs.")
    if "kind" not in content:  # written before there were kinds
        marks = {"policy_of_seed": "policy", "chunk_sizes": "sweep", "chunks": "run"}
        content["kind"] = next((made for mark, made in marks.items() if mark in content), "unknown")
    if not _has_what_its_kind_has(content):
        raise ValueError(f"{folder / 'config.json'} is no configuration of these programs.")
    if kind not in (None, content["kind"]):
        raise ValueError(f"{folder} holds no results of {PROGRAMS[kind]}.")
    return content


def _has_what_its_kind_has(content: dict[str, Any]) -> bool:
    """Whether whoever reads a configuration finds in it what there must be; options are checked elsewhere."""
    if content["kind"] == "run":
        stages = content.get("stages", [])
        return _are(stages, updates=int, config=dict)
    if content["kind"] == "sweep":
        groups: Any = content["config"].get("groups")
        sizes: Any = content.get("chunk_sizes")
        if not _are(groups, options=dict, static=dict, hyperparameters=dict) or not groups:
            return False
        if not isinstance(sizes, list) or len(sizes) != len(groups):
            return False
        return all(isinstance(size, int) and size > 0 for size in sizes)
    if content["kind"] == "policy":
        about = content.get("training", {"update": 0})  # not stored before
        return _are([content], policy_of_seed=int) and _are(
            [{"worst_return": 0.0, **about}] if isinstance(about, dict) else about,
            update=int,
            worst_return=int | float,
        )
    return False


def _are(found: Any, **kinds: Any) -> bool:
    """Whether it is a list of tables, each with these keys and kinds of values."""
    return isinstance(found, list) and all(
        isinstance(x, dict) and all(isinstance(x.get(key), kind) for key, kind in kinds.items())
        for x in found
    )


def write_arrays(path: Path, arrays: Arrays) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_whole(path, write)


def read_arrays(path: Path, names: list[str] | None = None) -> Arrays:
    """All arrays of a file, or those named. Raises FileNotFoundError or ResultsError, one sentence each."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}.")
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in names or arrays}
    except Exception as error:  # a changed byte makes zipfile, zlib and NumPy raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ResultsError(f"{path} is damaged: {reason}.") from None


def read_history(folder: Path) -> tuple[Arrays, Arrays]:
    """The metrics of a run, `[seeds, updates]` but for `seconds`, and evaluations, `[seeds, times, episodes]`.

    Raises:
      FileNotFoundError, ResultsError: a file is missing or damaged, or they do not fit together.
    """
    metrics, evaluations = (read_arrays(folder / f"{x}.npz") for x in ("metrics", "evaluations"))
    none = np.zeros(0)
    shapes = {x.shape for name, x in metrics.items() if name != "seconds"} or {(1, 0)}
    shape = shapes.pop()
    update, returns = evaluations.get("update", none), evaluations.get("returns", none)
    numbers = [*metrics.values(), update, returns]
    if (
        shapes or len(shape) != 2 or metrics.get("seconds", none).ndim
        or update.shape[:1] != (1,) or update.ndim != 2 or not 0 < update.size == returns.shape[1]
        or not all(np.issubdtype(x.dtype, np.number) for x in numbers)
        or returns.ndim != 3 or update.max() > shape[1]
    ):  # fmt: skip
        raise ResultsError(f"metrics.npz and evaluations.npz of {folder} do not fit together.")
    return metrics, evaluations


def save_state(folder: Path, state: PyTree, update: int) -> None:
    """Write a checkpoint and, once it can be read, remove the older ones."""
    path = folder / "checkpoints" / f"{update:09d}"
    if not path.exists():
        checkpoint.save(path, state)
        checkpoint.restore(path, state)
    unfinished = path.parent.glob(".saving-*")  # left by a program that was killed
    for old in (*_checkpoints(folder)[:-1], *unfinished):
        shutil.rmtree(old)


def restore_state(folder: Path, like: PyTree) -> PyTree:
    """The newest checkpoint of a folder of results.

    Raises:
      FileNotFoundError, ValueError: there is none, or it is not what `like` says.
    """
    checkpoints = _checkpoints(folder)
    if not checkpoints:
        raise FileNotFoundError(f"{folder} holds no checkpoint yet.")
    return checkpoint.restore(checkpoints[-1], like)


def has_checkpoint(folder: Path) -> bool:
    return bool(_checkpoints(folder))


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "checkpoints").glob("*") if path.name.isdigit())


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside its place, and move it there."""
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
