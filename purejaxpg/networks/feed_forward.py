"""Flax modules as `Network`s without memory."""

from collections.abc import Callable

import flax.errors
import flax.linen as nn
import jax
from jax.custom_batching import sequential_vmap

from purejaxpg.arguments import checked
from purejaxpg.types import Network, PyTree


@checked
def feed_forward(module: nn.Module, output_fn: Callable) -> Network:
    """A flax module `[N, ...] -> pytree [N, ...]` as a `Network` without memory.

    The module gets what `Env.observe` gives: an array, or a `Masked` where the environment forbids actions.

    Args:
      module: an instance of a flax module.
      output_fn: makes the output, a distribution for example, from what the module gives, `[T, B, ...]`.

    Returns:
      A `Network`, its memory `()`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.

    Example:
      >>> import jax, flax.linen as nn, purejaxpg as pg
      >>> network = pg.feed_forward(nn.Dense(2), pg.categorical)
      >>> obs, start = jax.numpy.zeros((5, 3, 4)), jax.numpy.zeros((5, 3), bool)
      >>> distribution, _ = network.apply(network.init(jax.random.key(0), obs), (), obs, start)
      >>> distribution.entropy().shape
      (5, 3)
    """

    # Time and batch are one axis for the module: XLA's CPU products on [1, B, f] are far slower.
    def init(key, obs):
        return module.init(key, merge_axes(obs))

    def apply(params, memory, obs, start):
        output = applied(module, params, merge_axes(obs))
        return output_fn(split_axes(output, jax.tree.leaves(obs)[0].shape[:2])), memory

    return Network(one_at_a_time(init), lambda batch: (), apply)


def applied(module: nn.Module, params: PyTree, *inputs: PyTree) -> PyTree:
    """`module.apply`, whose own error is a page long where parameters or inputs are of another network."""
    try:
        return module.apply(params, *inputs)
    except flax.errors.FlaxError as error:
        shapes = [tuple(x.shape) for x in jax.tree.leaves(inputs)]
        raise ValueError(
            f"The parameters are not those that {type(module).__name__} has for inputs of shapes {shapes}: the "
            "state must be of these networks, and observations must be those it was made for."
        ) from error


def one_at_a_time(init: Callable) -> Callable:
    """`init(key, obs)` that, vmapped on a CPU, draws one network after the other, with the same numbers.

    Orthogonal initialisation, which flax's recurrent cells want too, is a QR decomposition. A batched one
    of jaxlib 0.10 holds a thread of XLA's pool while it waits for others of that pool, so that as many at
    once as there are threads wait for ever. A single one does not, and other devices are better off with
    the batch.
    """
    alone = sequential_vmap(init)

    def choose(key: jax.Array, obs: PyTree) -> PyTree:
        return jax.lax.platform_dependent(key, obs, cpu=alone, default=init)

    return choose


def merge_axes(x: PyTree) -> PyTree:
    """`[T, B, ...] -> [T * B, ...]`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), x)


def split_axes(x: PyTree, leading: tuple[int, ...]) -> PyTree:
    """`[T * B, ...] -> [T, B, ...]`, `leading` being (T, B)."""
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), x)
