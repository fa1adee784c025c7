"""Flax modules: torsos and heads.

Initialisation: orthogonal, gain sqrt(2) in hidden layers, 0.01 in the policy's head, 1 in the value's
head, zero biases (Engstrom et al. 2020, arXiv:2005.12729; Andrychowicz et al. 2021, arXiv:2006.05990).
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.arguments import AT_LEAST_ONE, Count, check, check_fields
from purejaxpg.types import Masked, split_mask

Activation = Callable[[jax.Array], jax.Array]
Sizes = Annotated[Sequence[int], AT_LEAST_ONE]


class MLP(nn.Module):
    """Dense layers over the flattened observation: `[N, ...] -> [N, hidden_sizes[-1]]`.

    Attributes:
      hidden_sizes: units of each layer; two layers of 64 are those of the PPO paper (Schulman et al. 2017,
        arXiv:1707.06347, section 6.1).
      activation: after every layer, the last included; tanh as in the PPO paper.

    Raises:
      TypeError: a field is not of the kind that its annotation says, or the observation is no array.
      ValueError: a layer has less than 1 unit.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> torso = pg.MLP(hidden_sizes=(8, 5))
      >>> jax.eval_shape(torso.init_with_output, jax.random.key(0), jnp.zeros((3, 2, 4)))[0].shape
      (3, 5)
    """

    hidden_sizes: Sizes = (64, 64)
    activation: Activation = nn.tanh

    def __post_init__(self) -> None:
        check_fields(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Flatten and transform observations `[N, ...]`.

        Args:
          x: `[N, ...]`, real observations.

        Returns:
          `[N, hidden_sizes[-1]]`.
        """
        check("the observation", x, jax.Array)
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = self.activation(dense(size, np.sqrt(2))(x))
        return x


class CNN(nn.Module):
    """The small network of MinAtar (Young and Tian 2019, arXiv:1903.03176): one convolution, one dense layer.

    `[N, height, width, channels] -> [N, hidden_size]`. The convolution is 3x3 with stride 1 and no padding.

    Attributes:
      features: channels of the convolution, as in MinAtar.
      hidden_size: units of the dense layer, as in MinAtar.
      activation: after both layers.

    Raises:
      TypeError: a field is not of the kind that its annotation says, or the observation is no array.
      ValueError: a layer has less than 1 unit, or the observation has another number of axes.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> output, variables = jax.eval_shape(
      ...     pg.CNN().init_with_output, jax.random.key(0), jnp.zeros((3, 10, 10, 4))
      ... )
      >>> output.shape, variables["params"]["Dense_0"]["kernel"].shape  # 8 * 8 * 16 inputs
      ((3, 128), (1024, 128))
    """

    features: Count = 16
    hidden_size: Count = 128
    activation: Activation = nn.relu

    def __post_init__(self) -> None:
        check_fields(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Transform images.

        Args:
          x: `[N, height, width, channels]`, real.

        Returns:
          `[N, hidden_size]`.

        Raises:
          ValueError: `x` has another number of axes.
        """
        check("the observation", x, jax.Array)
        if x.ndim != 4:
            raise ValueError(
                f"CNN needs observations [height, width, channels], found {x.shape[1:]}; use MLP."
            )
        orthogonal = nn.initializers.orthogonal(np.sqrt(2))
        convolve = nn.Conv(self.features, (3, 3), padding="VALID", kernel_init=orthogonal)
        x = self.activation(convolve(x))
        return self.activation(dense(self.hidden_size, np.sqrt(2))(x.reshape(x.shape[0], -1)))


class DiscreteHead(nn.Module):
    """Logits `[N, n]`, and the mask of the actions that are allowed, `[N, n]` or None.

    Attributes:
      torso: `[N, ...] -> [N, features]`, a flax module such as `MLP`.
      n: number of actions.
    """

    torso: Callable
    n: int

    @nn.compact
    def __call__(self, observed: jax.Array | Masked) -> tuple[jax.Array, jax.Array | None]:
        """The logits and the mask.

        Args:
          observed: what `Env.observe` gives, `[N, ...]` or a `Masked`.

        Returns:
          Logits `[N, n]`, and the mask `[N, n]` or None.
        """
        obs, mask = split_mask(observed)
        return dense(self.n, 0.01)(self.torso(obs)), mask


class GaussianHead(nn.Module):
    """Mean `[N, d]` and a state-independent log standard deviation, broadcast to `[N, d]`.

    The log standard deviation is a parameter of its own and begins as 0, a standard deviation of 1.

    Attributes:
      torso: `[N, ...] -> [N, features]`, a flax module such as `MLP`.
      size: d, number of components of an action.
    """

    torso: Callable
    size: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The mean and the log standard deviation.

        Args:
          obs: what `Env.observe` gives, `[N, ...]`.

        Returns:
          Both `[N, d]`.
        """
        mean = dense(self.size, 0.01)(self.torso(obs))
        log_std = self.param("log_std", nn.initializers.zeros, (self.size,))
        return mean, jnp.broadcast_to(log_std, mean.shape)


class ValueHead(nn.Module):
    """Values `[N]`; a mask of actions is ignored.

    Attributes:
      torso: `[N, ...] -> [N, features]`, a flax module such as `MLP`.
    """

    torso: Callable

    @nn.compact
    def __call__(self, observed: jax.Array | Masked) -> jax.Array:
        """The values.

        Args:
          observed: what `Env.observe` gives, `[N, ...]` or a `Masked`.

        Returns:
          `[N]`, in the units of the return.
        """
        obs, _ = split_mask(observed)
        return dense(1, 1.0)(self.torso(obs)).squeeze(-1)


def dense(size: int, gain: float) -> nn.Dense:
    """A dense layer with an orthogonal kernel and zero biases.

    Args:
      size: number of units.
      gain: factor of the orthogonal matrix, a positive number.

    Returns:
      The flax module.

    Example:
      >>> from purejaxpg.networks.modules import dense
      >>> dense(8, 1.0).features
      8
    """
    return nn.Dense(size, kernel_init=nn.initializers.orthogonal(gain))
