"""Policy and value networks in flax, made into `Network`s. Policy and value share no parameters.

Initialisation: orthogonal, gain sqrt(2) in hidden layers, 0.01 in the policy's head, 1 in the value's
head, zero biases (Engstrom et al. 2020, arXiv:2005.12729; Andrychowicz et al. 2021, arXiv:2006.05990).
"""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap

from purejaxpg.distributions import categorical, diagonal_gaussian
from purejaxpg.types import Discrete, Masked, Network, PyTree, Space, on_obs, split_mask

Activation = Callable[[jax.Array], jax.Array]


class MLP(nn.Module):
    """Dense layers over the flattened observation: `[N, ...] -> [N, hidden_sizes[-1]]`."""

    hidden_sizes: Sequence[int] = (64, 64)
    activation: Activation = nn.tanh

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = self.activation(_dense(size, np.sqrt(2))(x))
        return x


class CNN(nn.Module):
    """The small network of MinAtar (Young and Tian 2019): one 3x3 convolution, one dense layer.

    `[N, height, width, channels] -> [N, hidden_size]`.
    """

    features: int = 16
    hidden_size: int = 128
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if x.ndim != 4:
            raise ValueError(
                f"CNN needs observations [height, width, channels], found {x.shape[1:]}; use MLP."
            )
        orthogonal = nn.initializers.orthogonal(np.sqrt(2))
        x = self.activation(
            nn.Conv(self.features, (3, 3), padding="VALID", kernel_init=orthogonal)(x)
        )
        return self.activation(_dense(self.hidden_size, np.sqrt(2))(x.reshape(x.shape[0], -1)))


class DiscreteHead(nn.Module):
    """Logits `[N, n]`, and the mask of the actions that are allowed, `[N, n]` or None."""

    torso: Callable
    n: int

    @nn.compact
    def __call__(self, seen: jax.Array | Masked) -> tuple[jax.Array, jax.Array | None]:
        obs, mask = split_mask(seen)
        return _dense(self.n, 0.01)(self.torso(obs)), mask


class GaussianHead(nn.Module):
    """Mean `[N, d]` and a state-independent log standard deviation, broadcast to `[N, d]`."""

    torso: Callable
    size: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean = _dense(self.size, 0.01)(self.torso(obs))
        log_std = self.param("log_std", nn.initializers.zeros, (self.size,))
        return mean, jnp.broadcast_to(log_std, mean.shape)


class ValueHead(nn.Module):
    """Values `[N]`."""

    torso: Callable

    @nn.compact
    def __call__(self, seen: jax.Array | Masked) -> jax.Array:
        obs, _ = split_mask(seen)
        return _dense(1, 1.0)(self.torso(obs)).squeeze(-1)


def policy_network(
    action_space: Space, torso: nn.Module | None = None, cell: nn.RNNCellBase | None = None
) -> Network:
    """A policy: categorical for a Discrete space, diagonal Gaussian for a Box.

    Args:
      action_space: `env.action_space(env_params)`. A Box must have one axis.
      torso: any flax module `[N, ...] -> [N, features]`; an `MLP` by default.
      cell: what remembers, between torso and head: `flax.linen.GRUCell(64)`, for example,
        `flax.linen.OptimizedLSTMCell(64)` or `AttentionCell(64)` of purejaxpg. Without one the policy is
        feed-forward.
    """
    torso = MLP() if torso is None else torso
    if isinstance(action_space, Discrete):
        discrete = partial(DiscreteHead, n=action_space.n)
        return _network(torso, cell, discrete, lambda output: categorical(*output))
    if len(action_space.shape) != 1:
        raise ValueError(f"Continuous actions must have one axis, found {action_space.shape}.")
    gaussian = partial(GaussianHead, size=action_space.shape[0])
    return _network(torso, cell, gaussian, lambda output: diagonal_gaussian(*output))


def value_network(torso: nn.Module | None = None, cell: nn.RNNCellBase | None = None) -> Network:
    """A value function; torso and cell are as in `policy_network`."""
    torso = MLP() if torso is None else torso
    return _network(torso, cell, ValueHead, lambda output: output)


def zero_value_network() -> Network:
    """V = 0 everywhere: no baseline and no bootstrapping."""
    return Network(
        lambda key, obs: jnp.zeros(1),  # not used, but optimizers that flatten want something
        lambda batch: (),
        lambda params, memory, obs, start: (jnp.zeros(start.shape), memory),
    )


def feed_forward(module: nn.Module, output_fn: Callable) -> Network:
    """A flax module `[N, ...] -> pytree [N, ...]` as a `Network` without memory.

    The module gets what `Env.observe` gives: an array, or a `Masked` where the environment forbids actions.

    Args:
      output_fn: makes the output, a distribution for example, from what the module gives, `[T, B, ...]`.
    """

    # Time and batch are one axis for the module: XLA's CPU products on [1, B, f] are far slower.
    def init(key, obs):
        return module.init(key, _flat(obs))

    def apply(params, memory, obs, start):
        output = module.apply(params, _flat(obs))
        return output_fn(_unflat(output, jax.tree.leaves(obs)[0].shape[:2])), memory

    return Network(_one_at_a_time(init), lambda batch: (), apply)


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
    """

    def initial_memory(batch):
        return cell.initialize_carry(jax.random.key(0), (batch, 1))

    def init(key, obs):
        torso_key, cell_key, head_key = jax.random.split(key, 3)
        flat = _flat(obs)
        torso_params = torso.init(torso_key, split_mask(flat)[0])
        features: jax.Array = torso.apply(torso_params, split_mask(flat)[0])  # type: ignore[assignment]
        memory = initial_memory(features.shape[0])
        (_, hidden), cell_params = cell.init_with_output(cell_key, memory, features)
        head_params = head.init(head_key, on_obs(lambda _: hidden, flat))
        return {"torso": torso_params, "cell": cell_params, "head": head_params}

    def apply(params, memory, obs, start):
        flat = _flat(obs)
        features = _unflat(torso.apply(params["torso"], split_mask(flat)[0]), start.shape)
        fresh = initial_memory(start.shape[1])

        def step(memory, now):
            features, start = now
            memory = jax.tree.map(partial(jax.vmap(jnp.where), start), fresh, memory)
            return cell.apply(params["cell"], memory, features)

        memory, hidden = jax.lax.scan(step, memory, (features, start))
        output = head.apply(params["head"], on_obs(lambda _: _flat(hidden), flat))
        return output_fn(_unflat(output, start.shape)), memory

    return Network(_one_at_a_time(init), initial_memory, apply)


def _network(
    torso: nn.Module, cell: nn.RNNCellBase | None, head: Callable, output_fn: Callable
) -> Network:
    """`head` makes a module of a torso. Without a cell the torso is part of that module."""
    if cell is None:
        return feed_forward(head(torso), output_fn)
    return recurrent(torso, cell, head(lambda features: features), output_fn)


def _one_at_a_time(init: Callable) -> Callable:
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


def _flat(x: PyTree) -> PyTree:
    """`[T, B, ...] -> [T * B, ...]`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), x)


def _unflat(x: PyTree, leading: tuple[int, ...]) -> PyTree:
    """`[T * B, ...] -> [T, B, ...]`, `leading` being (T, B)."""
    return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), x)


def _dense(size: int, gain: float) -> nn.Dense:
    return nn.Dense(size, kernel_init=nn.initializers.orthogonal(gain))
