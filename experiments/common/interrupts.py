"""Signals that end a program: Ctrl-C, SIGTERM and, unless it is ignored as under nohup, SIGHUP."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""SIGHUP is not known on Windows."""


@contextmanager
def handled_by(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle these signals, those apart that the program was started to ignore."""
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    heard = [x for x in numbers if signal.getsignal(x) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def interrupted() -> Iterator[list[int]]:
    """A signal raises KeyboardInterrupt, and is in this list: Python ignores what is raised in a callback."""
    heard: list[int] = []

    def handle(number: int, frame: Any) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    report = sys.unraisablehook

    def report_others(ignored: Any) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            report(ignored)

    sys.unraisablehook = report_others
    try:
        with handled_by(handle):
            yield heard
    finally:
        sys.unraisablehook = report


@contextmanager
def stop_in_order(words: str) -> Iterator[list[int]]:
    """A list that the first signal puts something into; the second one interrupts at once.

    Args:
      words: the answer to the first signal, at once.
    """
    stop: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.append(number)
        # Not by print, which may be what was interrupted.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{words}\n".encode())

    with handled_by(handle):
        yield stop
