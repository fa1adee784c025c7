"""Flax modules: torsos and heads.

Initialisation: orthogonal, gain sqrt(2) in hidden layers, 0.01 in the policy's head, 1 in the value's
head, zero biases (Engstrom et al. 2020, arXiv:2005.12729; Andrychowicz et al. 2021, arXiv:2006.05990).
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.types import Masked, split_mask

Activation = Callable[[jax.Array], jax.Array]


class MLP(nn.Module):
    """Dense layers over the flattened observation: `[N, ...] -> [N, hidden_sizes[-1]]`."""

    hidden_sizes: Sequence[int] = (64, 64)
    activation: Activation = nn.tanh

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = self.activation(dense(size, np.sqrt(2))(x))
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
        return self.activation(dense(self.hidden_size, np.sqrt(2))(x.reshape(x.shape[0], -1)))


class DiscreteHead(nn.Module):
    """Logits `[N, n]`, and the mask of the actions that are allowed, `[N, n]` or None."""

    torso: Callable
    n: int

    @nn.compact
    def __call__(self, seen: jax.Array | Masked) -> tuple[jax.Array, jax.Array | None]:
        obs, mask = split_mask(seen)
        return dense(self.n, 0.01)(self.torso(obs)), mask


class GaussianHead(nn.Module):
    """Mean `[N, d]` and a state-independent log standard deviation, broadcast to `[N, d]`."""

    torso: Callable
    size: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean = dense(self.size, 0.01)(self.torso(obs))
        log_std = self.param("log_std", nn.initializers.zeros, (self.size,))
        return mean, jnp.broadcast_to(log_std, mean.shape)


class ValueHead(nn.Module):
    """Values `[N]`."""

    torso: Callable

    @nn.compact
    def __call__(self, seen: jax.Array | Masked) -> jax.Array:
        obs, _ = split_mask(seen)
        return dense(1, 1.0)(self.torso(obs)).squeeze(-1)


def dense(size: int, gain: float) -> nn.Dense:
    return nn.Dense(size, kernel_init=nn.initializers.orthogonal(gain))
