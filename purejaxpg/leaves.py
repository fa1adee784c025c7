"""Leaves of nested parameters, named by the end of their path.

Outer algorithms nest `env_params`: what was `params.length` may become `params.params.length`. The name
`length` still reaches it, and so does any longer end of the path, `params.length` for example.
"""

from collections.abc import Mapping
from typing import Any

import jax

from purejaxpg.arguments import near
from purejaxpg.types import PyTree


def leaf_paths(tree: PyTree) -> dict[str, Any]:
    """Every leaf by its dotted path.

    Args:
      tree: any pytree.

    Returns:
      Path -> leaf, in the order of `jax.tree.leaves`.

    Example:
      >>> leaf_paths({"params": {"length": 0.5, "gravity": 9.8}, "steps": 3})
      {'params.gravity': 9.8, 'params.length': 0.5, 'steps': 3}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {".".join(str(_name(key)) for key in path): leaf for path, leaf in leaves}


def find_path(tree: PyTree, name: str) -> str:
    """The path of the one leaf whose path ends in `name`.

    Args:
      tree: any pytree.
      name: the last part of a leaf's path, or several parts joined by dots.

    Returns:
      The whole path, joined by dots.

    Raises:
      ValueError: no leaf has such a path, or several have; the message names near matches, or all of them.

    Example:
      >>> find_path({"params": {"length": 0.5}}, "length")
      'params.length'
    """
    paths = list(leaf_paths(tree))
    found = [path for path in paths if path == name or path.endswith(f".{name}")]
    if len(found) > 1 and name not in found:
        raise ValueError(f"several parameters {name!r}: {', '.join(found)}; give more of the path.")
    if not found:
        names = dict.fromkeys(path.rpartition(".")[2] for path in paths)
        raise ValueError(f"no parameter {name!r}{near(name, names)}; it has {', '.join(names)}.")
    return name if name in found else found[0]


def get_leaf(tree: PyTree, name: str) -> Any:
    """The one leaf whose path ends in `name`.

    Args:
      tree: any pytree.
      name: as in `find_path`.

    Returns:
      The leaf.

    Raises:
      ValueError: as `find_path`.

    Example:
      >>> get_leaf({"params": {"length": 0.5}}, "length")
      0.5
    """
    return leaf_paths(tree)[find_path(tree, name)]


def replace_leaves(tree: PyTree, values: Mapping[str, Any]) -> PyTree:
    """The same tree with other values of some leaves.

    Args:
      tree: any pytree.
      values: name, as in `find_path`, -> the new leaf: a Python number or an array, traced or not.

    Returns:
      A tree of the same structure.

    Raises:
      ValueError: as `find_path`.

    Example:
      >>> replace_leaves({"params": {"length": 0.5}, "steps": 3}, {"length": 0.7})
      {'params': {'length': 0.7}, 'steps': 3}
    """
    replaced = {find_path(tree, name): value for name, value in values.items()}
    leaves = {**leaf_paths(tree), **replaced}
    return jax.tree.unflatten(jax.tree.structure(tree), leaves.values())


def _name(key: Any) -> Any:
    """An attribute's name, a dict's key, or a position."""
    return next(getattr(key, x) for x in ("name", "key", "idx") if hasattr(key, x))
