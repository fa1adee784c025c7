"""A folder of results: configuration, metrics, evaluations, pictures and the newest checkpoint.

Files are written beside their place and moved there whole, and the checkpoint comes last: a program
killed at any moment leaves a folder that can be gone on from.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from purejaxpg.training import checkpoint
from purejaxpg.types import PyTree

Arrays = dict[str, np.ndarray]
PROGRAMS = {"run": "train.py", "sweep": "sweep.py", "policy": "evaluate.py"}
"""Kind of a folder of results, as its config.json says -> the program that makes it."""


def claim(folder: Path, *, overwrite: bool, kind: str) -> None:
    """Make a new folder of results; one that exists is refused, or emptied when told to.

    Args:
      kind: of the results, see `PROGRAMS`; only such a folder is emptied.

    Raises:
      FileExistsError: it exists and is not to be overwritten, or holds anything but results.
    """
    if folder.exists() and any(folder.iterdir()):  # empty where a program was killed early
        if not overwrite:
            raise FileExistsError(
                f"{folder} exists: choose another --name, go on with --resume, or --overwrite it."
            )
        if not (folder / "config.json").is_file() or read_config(folder)["kind"] != kind:
            raise FileExistsError(
                f"{folder} holds no results of {PROGRAMS[kind]}; it is left alone."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


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
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}.") from None


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json says: what the folder is under `kind`, the options of a run under `config`, and more.

    Raises:
      FileNotFoundError, ValueError: there is none, or none of these programs wrote it.
    """
    content = read_json(folder / "config.json")
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise ValueError(f"{folder / 'config.json'} is no configuration of these programs.")
    if "kind" not in content:  # written before there were kinds
        marks = {"policy_of_seed": "policy", "chunk_sizes": "sweep", "chunks": "run"}
        content["kind"] = next((kind for mark, kind in marks.items() if mark in content), "unknown")
    return content


def write_arrays(path: Path, arrays: Arrays) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_whole(path, write)


def read_arrays(path: Path, names: list[str] | None = None) -> Arrays:
    """All arrays of a file, or those named. Raises FileNotFoundError or ValueError, one sentence each."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}.")
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in names or arrays}
    except KeyError as error:
        raise ValueError(f"{path} is of another program: {error.args[0]}.") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged: {error}.") from None


def save_state(folder: Path, state: PyTree, update: int) -> None:
    """Write a checkpoint and, once it is there, remove the older ones."""
    path = folder / "checkpoints" / f"{update:09d}"
    if not path.exists():
        checkpoint.save(path, state)
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


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "checkpoints").glob("*") if path.name.isdigit())


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside its place, and move it there."""
    temporary = path.with_name(f".tmp-{path.name}")
    write(temporary)
    os.replace(temporary, path)
