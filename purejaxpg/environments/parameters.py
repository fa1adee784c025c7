"""Other values of an environment's parameters, however deep outer algorithms have nested them."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from purejaxpg.leaves import find_path, leaf_paths, replace_leaves
from purejaxpg.types import PyTree

# gymnax's CartPole stores what follows from other parameters; left alone it would be wrong physics.
_SOURCES = ("masscart", "masspole", "length")
_DERIVED = {
    "total_mass": lambda masscart, masspole, length: masscart + masspole,
    "polemass_length": lambda masscart, masspole, length: masspole * length,
}


def override(
    env_params: PyTree, values: Mapping[str, Any], *, owner: str = "The environment"
) -> PyTree:
    """The same parameters with other values of some, and what follows from these.

    Where `masscart`, `masspole` or `length` of CartPole changes, `total_mass` and `polemass_length` follow,
    unless they are given too.

    Args:
      env_params: of an environment, nested or not.
      values: name, or a longer end of a leaf's path, -> a Python number or an array, traced or not.
      owner: whose parameters they are, for messages.

    Returns:
      Parameters of the same structure.

    Raises:
      ValueError: an unknown or ambiguous name, with near matches, or no finite number (as far as it is not
        traced), or what follows from it is none.

    Example:
      >>> import purejaxpg as pg
      >>> _, env_params = pg.make("CartPole-v1")
      >>> nested = override({"params": env_params}, {"masspole": 0.3})
      >>> nested["params"].masspole, nested["params"].total_mass
      (0.3, 1.3)
    """
    for name, value in values.items():
        if not isinstance(value, bool | int | float | np.ndarray | np.generic | jax.Array):
            raise ValueError(
                f"Parameter {name} of {owner} must be a number or an array: {value!r}."
            )
    try:
        changed = {find_path(env_params, name): value for name, value in values.items()}
    except ValueError as error:
        raise ValueError(f"{owner} has {error}") from None
    changed |= _derived({**leaf_paths(env_params), **changed}, changed)
    for path, value in changed.items():
        if not isinstance(value, jax.core.Tracer) and not np.isfinite(value).all():
            raise ValueError(f"Parameter {path} of {owner} must be finite, not {value}.")
    return replace_leaves(env_params, changed)


def _derived(leaves: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> value of what follows from the leaves that have changed."""
    found = {}
    for path in leaves:
        prefix, _, name = path.rpartition(".")
        sources = [f"{prefix}.{source}".lstrip(".") for source in _SOURCES]
        if name in _DERIVED and path not in changed and any(x in changed for x in sources):
            found[path] = _DERIVED[name](*(leaves[source] for source in sources))
    return found
