"""Recurrent cells of flax between torso and head, as `Network`s with memory."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxpg.arguments import checked
from purejaxpg.networks.feed_forward import applied, merge_axes, one_at_a_time, split_axes
from purejaxpg.types import Network, on_obs, split_mask


@checked
def recurrent(
    torso: nn.Module, cell: nn.RNNCellBase, head: nn.Module, output_fn: Callable
) -> Network:
    """`head(h)` of h, memory = `cell(memory, torso(obs))`, the memory 0 where an episode starts.

    Args:
      torso: `[N, ...] -> [N, features]`.
      cell: a recurrent cell of flax, whose memory begins with zeros.
      head: `[N, features] -> pytree [N, ...]`; like a module of `feed_forward` it gets a `Masked` where the
        environment forbids actions.
      output_fn: as in `feed_forward`.

    Returns:
      A `Network`, its memory that of the cell.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.

    Example:
      >>> import jax, flax.linen as nn
      >>> from purejaxpg.networks.recurrent import recurrent
      >>> network = recurrent(nn.Dense(8), nn.GRUCell(6), nn.Dense(1), lambda output: output[..., 0])
      >>> obs, start = jax.numpy.zeros((5, 3, 4)), jax.numpy.zeros((5, 3), bool)
      >>> params = network.init(jax.random.key(0), obs)
      >>> values, memory = network.apply(params, network.initial_memory(3), obs, start)
      >>> values.shape, memory.shape
      ((5, 3), (3, 6))
    """

    def initial_memory(batch):
        return cell.initialize_carry(jax.random.key(0), (batch, 1))

    def init(key, obs):
        torso_key, cell_key, head_key = jax.random.split(key, 3)
        flat = merge_axes(obs)
        torso_params = torso.init(torso_key, split_mask(flat)[0])
        features: jax.Array = torso.apply(torso_params, split_mask(flat)[0])  # type: ignore[assignment]
        memory = initial_memory(features.shape[0])
        (_, hidden), cell_params = cell.init_with_output(cell_key, memory, features)
        head_params = head.init(head_key, on_obs(lambda _: hidden, flat))
        return {"torso": torso_params, "cell": cell_params, "head": head_params}

    def apply(params, memory, obs, start):
        flat = merge_axes(obs)
        features = split_axes(applied(torso, params["torso"], split_mask(flat)[0]), start.shape)
        fresh = initial_memory(start.shape[1])

        def step(memory, now):
            features, start = now
            memory = jax.tree.map(partial(jax.vmap(jnp.where), start), fresh, memory)
            return applied(cell, params["cell"], memory, features)

        memory, hidden = jax.lax.scan(step, memory, (features, start))
        output = applied(head, params["head"], on_obs(lambda _: merge_axes(hidden), flat))
        return output_fn(split_axes(output, start.shape)), memory

    return Network(one_at_a_time(init), initial_memory, apply)
