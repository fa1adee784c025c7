"""One run in several processes, on one machine or on many: all compute, the first one writes.

Each process runs the same command, in a folder that all of them see.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from experiments.common.command_line import known_words
from experiments.common.results import ResultsError

T = TypeVar("T")
HEARTBEAT_SECONDS = 30
"""So long after a process has died the others end as well."""


@dataclass(frozen=True)
class ProcessOptions:
    distributed: bool = False
    """Be one of several processes that SLURM, Kubernetes or a TPU pod has started with this command."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes, where none of these has started them."""
    process: int | None = None
    """Number of this process, from 0, with --coordinator."""
    processes: int | None = None
    """How many there are, with --coordinator."""


def join(arguments: list[str]) -> None:
    """Find the other processes, if a command line says that there are any. Before JAX is first used.

    Raises:
      ValueError: what it says does not fit together, or they are not found.
    """
    names = ("coordinator", "process", "processes")
    known = known_words(arguments, distributed=False, **dict.fromkeys(names))
    given = [known[name] for name in names]
    if not known["distributed"] and given == [None] * 3:
        return
    if (None in given) != (given == [None] * 3) or (known["distributed"] and None not in given):
        raise ValueError(
            "Give --coordinator, --process and --processes together, or --distributed."
        )
    options: dict[str, Any] = {"heartbeat_timeout_seconds": HEARTBEAT_SECONDS}
    if None not in given:
        numbers = [int(x) if x.isdigit() else -1 for x in given[1:]]
        if not 0 <= numbers[0] < numbers[1]:
            raise ValueError("--process must be a number from 0 to --processes - 1.")
        options |= {
            "coordinator_address": given[0],
            "process_id": numbers[0],
            "num_processes": numbers[1],
        }
    try:
        jax.distributed.initialize(**options)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"The other processes are not found: {str(error).splitlines()[0]}"
        ) from None


def is_first() -> bool:
    return jax.process_index() == 0


def agree(value: T) -> T:
    """What the first process says, in all of them; it must be plain JSON."""
    if jax.process_count() == 1:
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    said = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(broadcast_one_to_all(np.int32(len(said))))
    padded = np.zeros(size, np.uint8)
    padded[: len(said)] = said[:size]
    return json.loads(bytes(np.asarray(broadcast_one_to_all(padded), np.uint8)))


def any_of(flag: bool) -> bool:
    """Whether it is true in any process."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental.multihost_utils import process_allgather

    return bool(np.any(process_allgather(np.array(flag))))


def first_does(work: Callable[[], None]) -> None:
    """Let the first process do something; where it fails, all do.

    Raises:
      ResultsError: in the other processes; in the first one what `work` raises.
    """
    failure, words = None, ""
    if is_first():
        try:
            work()
        except (ValueError, TypeError, OSError) as error:
            failure, words = error, str(error)
    words = agree(words)
    if failure is not None:
        raise failure
    if words:
        raise ResultsError(words)
