"""Policy and value networks in flax, made into `Network`s. Policy and value share no parameters.

Initialisation: orthogonal, gain sqrt(2) in hidden layers, 0.01 in the policy's head, 1 in the value's
head, zero biases (Engstrom et al. 2020, arXiv:2005.12729; Andrychowicz et al. 2021, arXiv:2006.05990).
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from purejaxpg.arguments import Count, check, checked
from purejaxpg.functional.distributions import categorical, diagonal_gaussian
from purejaxpg.networks.feed_forward import feed_forward
from purejaxpg.networks.modules import MLP, DiscreteHead, GaussianHead, ValueHead
from purejaxpg.networks.recurrent import recurrent
from purejaxpg.types import Discrete, Network, Space


@checked
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

    Returns:
      A `Network` whose output is a `Distribution` with batch shape `[T, B]`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: there is no action, or a Box has not one axis.

    Example:
      >>> import jax, purejaxpg as pg
      >>> policy = pg.policy_network(pg.Discrete(3), pg.MLP((8,)))
      >>> obs, start = jax.numpy.zeros((1, 2, 4)), jax.numpy.ones((1, 2), bool)
      >>> params = policy.init(jax.random.key(0), obs)
      >>> distribution, memory = policy.apply(params, policy.initial_memory(2), obs, start)
      >>> distribution.sample(seed=jax.random.key(1)).shape
      (1, 2)
    """
    if isinstance(action_space, Discrete):
        check("n of the action space", action_space.n, Count)
        discrete = partial(DiscreteHead, n=action_space.n)
        return _network(torso, cell, discrete, lambda output: categorical(*output))
    check("shape of the action space", action_space.shape, tuple[int, ...])
    if len(action_space.shape) != 1:
        raise ValueError(f"Continuous actions must have one axis, found {action_space.shape}.")
    gaussian = partial(GaussianHead, size=action_space.shape[0])
    return _network(torso, cell, gaussian, lambda output: diagonal_gaussian(*output))


@checked
def value_network(torso: nn.Module | None = None, cell: nn.RNNCellBase | None = None) -> Network:
    """A value function.

    Args:
      torso: as in `policy_network`.
      cell: as in `policy_network`.

    Returns:
      A `Network` whose output is an array of values `[T, B]`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.

    Example:
      >>> import jax, purejaxpg as pg
      >>> value = pg.value_network()
      >>> obs, start = jax.numpy.zeros((1, 2, 4)), jax.numpy.ones((1, 2), bool)
      >>> value.apply(value.init(jax.random.key(0), obs), (), obs, start)[0].tolist()
      [[0.0, 0.0]]
    """
    return _network(torso, cell, ValueHead, lambda output: output)


@checked
def zero_value_network() -> Network:
    """V = 0 everywhere: no baseline and no bootstrapping.

    Returns:
      A `Network` whose output is zeros `[T, B]`.

    Example:
      >>> import jax, purejaxpg as pg
      >>> value = pg.zero_value_network()
      >>> value.apply(None, (), None, jax.numpy.ones((1, 2), bool))[0].tolist()
      [[0.0, 0.0]]
    """
    return Network(
        lambda key, obs: jnp.zeros(1),  # not used, but optimizers that flatten want something
        lambda batch: (),
        lambda params, memory, obs, start: (jnp.zeros(start.shape), memory),
    )


def _network(
    torso: nn.Module | None, cell: nn.RNNCellBase | None, head: Callable, output_fn: Callable
) -> Network:
    """`head` makes a module of a torso. Without a cell the torso is part of that module."""
    torso = MLP() if torso is None else torso
    if cell is None:
        return feed_forward(head(torso), output_fn)
    return recurrent(torso, cell, head(lambda features: features), output_fn)
