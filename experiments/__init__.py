"""Programs. Ctrl-C while they are still importing JAX ends in a word instead of a traceback."""

import sys


def _hook(kind, error, trace):
    if issubclass(kind, KeyboardInterrupt):
        print("Interrupted.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _hook
