"""Shuffled epochs of minibatches over any update function."""

from collections import Counter
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from purejaxpg.leaves import leaf_paths
from purejaxpg.types import Network, PyTree


def shuffled_epochs(
    key: jax.Array,
    update: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    carry: PyTree,
    data: PyTree,
    *,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[PyTree, PyTree]:
    """Go `num_epochs` times through the data, each time in a new order, minibatch by minibatch.

    Args:
      key: consumed.
      update: `(carry, minibatch) -> (carry, metrics)`.
      carry: what the first update is given.
      data: `[L, S, ...]` in every leaf: S sequences of length L. Sequences are shuffled, not cut.
      num_epochs: passes through the data.
      num_minibatches: per pass; must divide S.

    Returns:
      The last carry and the metrics `[num_epochs * num_minibatches, ...]`.

    Raises:
      ValueError: leaves differ in L or S, or minibatches do not divide S evenly.
    """
    _, size = _leading_shape(data)
    _check_divides("num_minibatches", num_minibatches, "the sequences", size)
    order = jax.vmap(lambda key: permutation(key, size))(jax.random.split(key, num_epochs))
    batches = order.reshape(num_epochs * num_minibatches, size // num_minibatches)

    unravel = []  # found while the scan is traced: to trace an update twice takes a tenth of compiling

    def one(carry, indices):
        carry, metrics = update(carry, jax.tree.map(lambda x: _take(x, indices), data))
        # One vector is written per minibatch, not many scalars.
        vector, as_before = ravel_pytree(metrics)
        unravel.append(as_before)
        return carry, vector

    carry, metrics = jax.lax.scan(one, carry, batches)
    return carry, jax.vmap(unravel[-1])(metrics)


def sequences(data: PyTree, length: int) -> PyTree:
    """Cut rollouts into contiguous sequences.

    Args:
      data: `[T, B, ...]` in every leaf.
      length: steps of a sequence; must divide T.

    Returns:
      `[length, T / length * B, ...]` in every leaf.

    Raises:
      ValueError: leaves differ in T or B, or the length does not divide T evenly.
    """
    _check_divides("length", length, "the steps", _leading_shape(data)[0])

    def cut(x: jax.Array) -> jax.Array:
        pieces = x.reshape(-1, length, *x.shape[1:])
        return jnp.swapaxes(pieces, 0, 1).reshape(length, -1, *x.shape[2:])

    return jax.tree.map(cut, data)


def choose_sequence_length(
    networks: Iterable[Network],
    num_envs: int,
    num_steps: int,
    num_minibatches: int,
    sequence_length: int | None = None,
    *,
    name: str = "num_minibatches",
) -> int:
    """Steps of the sequences that minibatches of rollouts are made of.

    Args:
      networks: those that are trained on the minibatches.
      num_envs: environments in parallel.
      num_steps: steps of each environment per rollout.
      num_minibatches: minibatches that the sequences are shuffled into.
      sequence_length: what the caller asks for. If None: what a network declares, otherwise 1 for networks
        without memory, and all steps of a rollout for others.
      name: that the caller knows `num_minibatches` by.

    Returns:
      The length.

    Raises:
      ValueError: sequences do not divide rollouts, or minibatches the sequences, evenly, or a network declares
        another length.
    """
    networks = list(networks)
    remember = jax.tree.leaves([network.initial_memory(1) for network in networks])
    declared = {x.sequence_length for x in networks if x.sequence_length is not None}
    if len(declared | ({sequence_length} - {None})) > 1 or (declared and num_steps not in declared):
        needed = " and of ".join(map(str, sorted(declared)))
        raise ValueError(
            f"A network needs sequences and rollouts of {needed} steps, not num_steps={num_steps} and "
            f"sequence_length={sequence_length}."
        )
    length = num_steps if remember or declared else 1
    length = length if sequence_length is None else sequence_length
    _check_divides("sequence_length", length, "num_steps", num_steps)
    what = "num_envs * num_steps" + (f" / {length}" if length > 1 else "")
    _check_divides(name, num_minibatches, what, num_envs * num_steps // length)
    return length


def permutation(key: jax.Array, size: int) -> jax.Array:
    """A random order of 0, ..., size - 1, `[size]` int32, by one sort.

    Sorts uint32 words whose low bits carry the index and whose other bits are random. Ties among the
    random bits keep their order, so it is not exactly uniform; a partition into minibatches is touched
    only where a tie straddles a boundary, and at least 16 bits are random (beyond 65,536 things
    `jax.random.permutation`, which sorts key-value pairs twice, does the work).

    Args:
      key: consumed.
      size: how many there are.

    Returns:
      `[size]` int32.
    """
    index_bits = max(size - 1, 1).bit_length()
    if index_bits > 16:
        return jax.random.permutation(key, size)
    low = jnp.uint32(2**index_bits - 1)
    words = (jax.random.bits(key, (size,), jnp.uint32) & ~low) | jnp.arange(size, dtype=jnp.uint32)
    return (jnp.sort(words) & low).astype(jnp.int32)


def _leading_shape(data: PyTree) -> tuple[int, int]:
    """The first two axes, which all leaves have in common. Gathers below rely on it."""
    shapes = {path: leaf.shape[:2] for path, leaf in leaf_paths(data).items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 2:
        odd = Counter(shapes.values()).most_common()
        found = ", ".join(
            f"{shape} ({next(path for path in shapes if shapes[path] == shape) or 'the array'})"
            for shape, _ in odd
        )
        raise ValueError(
            f"All arrays of a batch need the same first two axes [T, B]; found {found}."
        )
    return next(iter(shapes.values()))


def _take(x: jax.Array, indices: jax.Array) -> jax.Array:
    return x.at[:, indices].get(mode="promise_in_bounds", unique_indices=True)


def _check_divides(name: str, number: int, what: str, size: int) -> None:
    if number < 1 or size % number:
        raise ValueError(f"{name}={number} must be at least 1 and divide {what} = {size} evenly.")
