"""Shuffled epochs of minibatches over any update function."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

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
      data: `[L, S, ...]` in every leaf: S sequences of length L. Sequences are shuffled, not cut.

    Returns:
      The last carry and the metrics `[num_epochs * num_minibatches, ...]`.
    """
    size = jax.tree.leaves(data)[0].shape[1]
    order = jax.vmap(lambda key: permutation(key, size))(jax.random.split(key, num_epochs))
    batches = order.reshape(num_epochs * num_minibatches, size // num_minibatches)

    def one(carry, indices):
        carry, metrics = update(carry, jax.tree.map(lambda x: _take(x, indices), data))
        return carry, ravel_pytree(metrics)[
            0
        ]  # one vector is written per minibatch, not many scalars

    _, like = jax.eval_shape(update, carry, jax.tree.map(lambda x: _take(x, batches[0]), data))
    _, unravel = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like))
    carry, metrics = jax.lax.scan(one, carry, batches)
    return carry, jax.vmap(unravel)(metrics)


def sequences(data: PyTree, length: int) -> PyTree:
    """Cut rollouts `[T, B, ...]` into contiguous sequences `[length, T / length * B, ...]`."""

    def cut(x: jax.Array) -> jax.Array:
        pieces = x.reshape(-1, length, *x.shape[1:])
        return jnp.swapaxes(pieces, 0, 1).reshape(length, -1, *x.shape[2:])

    return jax.tree.map(cut, data)


def check_counts(**counts: int) -> None:
    """Raise ValueError unless each of these arguments is at least 1."""
    if min(counts.values()) < 1:
        given = ", ".join(f"{name}={count}" for name, count in counts.items())
        raise ValueError(f"Must be at least 1: {given}.")


def check_divides(number: int, size: int, what: str, *, name: str = "num_minibatches") -> None:
    """Raise ValueError unless so many minibatches divide `size` things evenly. `name` is the argument's."""
    if number < 1 or size % number:
        raise ValueError(f"{name}={number} must be at least 1 and divide {what} = {size} evenly.")


def cut_length(
    networks: Sequence[Network],
    num_envs: int,
    num_steps: int,
    num_minibatches: int,
    sequence_length: int | None = None,
    *,
    name: str = "num_minibatches",
) -> int:
    """Steps of the sequences that minibatches of rollouts are made of.

    If not given: 1 for networks without memory, otherwise all steps of a rollout.

    Args:
      name: that the caller knows `num_minibatches` by.

    Raises:
      ValueError: sequences do not divide rollouts, or minibatches the sequences, evenly.
    """
    remember = jax.tree.leaves([network.initial_memory(1) for network in networks])
    length = (num_steps if remember else 1) if sequence_length is None else sequence_length
    check_divides(length, num_steps, "num_steps", name="sequence_length")
    what = "num_envs * num_steps" + (f" / {length}" if length > 1 else "")
    check_divides(num_minibatches, num_envs * num_steps // length, what, name=name)
    return length


def permutation(key: jax.Array, size: int) -> jax.Array:
    """A random order of 0, ..., size - 1, `[size]` int32, by one sort.

    Sorts uint32 words whose low bits carry the index and whose other bits are random. Ties among the
    random bits keep their order, so it is not exactly uniform; a partition into minibatches is touched
    only where a tie straddles a boundary, and at least 16 bits are random (beyond 65,536 things
    `jax.random.permutation`, which sorts key-value pairs twice, does the work).
    """
    index_bits = max(size - 1, 1).bit_length()
    if index_bits > 16:
        return jax.random.permutation(key, size)
    low = jnp.uint32(2**index_bits - 1)
    words = (jax.random.bits(key, (size,), jnp.uint32) & ~low) | jnp.arange(size, dtype=jnp.uint32)
    return (jnp.sort(words) & low).astype(jnp.int32)


def _take(x: jax.Array, indices: jax.Array) -> jax.Array:
    return x.at[:, indices].get(mode="promise_in_bounds", unique_indices=True)
