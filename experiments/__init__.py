"""Programs. Ctrl-C while one of them is still importing JAX ends it with a word instead of a traceback."""

import os
import signal
import sys
from pathlib import Path


def _end(number, frame):
    # No exception: where it is raised in a callback Python ignores it, and the program would go on.
    os.write(2, b"Interrupted.\n")
    os._exit(130)


_program = Path(sys.argv[0])
_is_ours = _program.suffix == ".py" and _program.resolve().is_relative_to(Path(__file__).parent)
if _is_ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
