"""Arguments of public functions: what they may be, said once, and checked before anything compiles."""

import difflib
from collections.abc import Iterable


def near(name: str, names: Iterable[str]) -> str:
    """` (did you mean x, y?)`, or nothing where no name is like this one."""
    lower = {known.lower(): known for known in names}
    matches = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    return f" (did you mean {', '.join(lower[match] for match in matches)}?)" if matches else ""
