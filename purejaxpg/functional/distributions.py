"""Action distributions. The only file that imports distrax.

A `Distribution` is a distrax distribution: `sample(seed=key)`, `log_prob(action)`, `entropy()`,
`mode()`, `kl_divergence(other)`, which is KL(self, other). It is a pytree: it passes through vmap and scan.
"""

import distrax
import jax
import jax.numpy as jnp
from distrax import Distribution as Distribution

from purejaxpg.types import Box, Discrete, Space

# Large enough that its exponential is exactly 0 in float32, finite so that 0 * (difference of two
# masked log-probabilities) is 0 and not NaN in entropy and KL.
_MASKED_LOGIT = -1e9


class _Categorical(distrax.Categorical):
    """Its logits are normalised once, when it is made; distrax would do so again for the entropy."""

    def entropy(self) -> jax.Array:
        return -jnp.sum(jnp.exp(self.logits) * self.logits, axis=-1)


def categorical(logits: jax.Array, mask: jax.Array | None = None) -> Distribution:
    """A distribution over n actions, the integers 0, ..., n - 1, with P(a) proportional to exp(logits[a]).

    The logits are normalised once, when the distribution is made.

    Args:
      logits: `[..., n]`, unnormalised log-probabilities.
      mask: `[..., n]` boolean, true where an action is allowed; at least one must be. Forbidden
        actions have probability exactly 0 and no gradient flows to their logits. None allows all.

    Returns:
      The distribution, batch shape `logits.shape[:-1]`, with int32 actions of shape `[...]`.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> policy = pg.categorical(jnp.zeros(3), jnp.array([True, False, True]))
      >>> [round(x, 3) for x in policy.probs.tolist()]
      [0.5, 0.0, 0.5]
    """
    if mask is not None:
        logits = jnp.where(mask, logits, _MASKED_LOGIT)
    return _Categorical(logits=logits, dtype=jnp.int32)


def diagonal_gaussian(mean: jax.Array, log_std: jax.Array) -> Distribution:
    """N(mean, diag(exp(log_std))^2) over the last axis, batch shape `mean.shape[:-1]`.

    Args:
      mean: `[..., d]`, in the units of the actions.
      log_std: logarithm of the standard deviation; broadcasts to `mean`, so that one that does not
        depend on the state has shape `[d]`.

    Returns:
      The distribution, batch shape `mean.shape[:-1]`, with real actions of shape `[..., d]`.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> policy = pg.diagonal_gaussian(jnp.zeros((5, 2)), jnp.zeros(2))
      >>> policy.log_prob(jnp.zeros((5, 2))).shape, round(float(policy.log_prob(jnp.zeros(2))[0]), 3)
      ((5,), -1.838)
    """
    # distrax.MultivariateNormalDiag is not a sound pytree under jit and vmap; this one is.
    scale = jnp.broadcast_to(jnp.exp(log_std), mean.shape)
    return distrax.Independent(distrax.Normal(mean, scale), 1)


def check_support(distribution: Distribution, action_space: Space) -> None:
    """Check that a policy's distribution produces the actions of a space.

    Args:
      distribution: what the policy gives.
      action_space: the space of the environment's actions, `Discrete` or `Box`.

    Raises:
      ValueError: the number of discrete actions or the shape of the continuous ones is another one, or
        the policy gives the one kind where the environment has the other.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.functional.distributions import check_support
      >>> check_support(pg.categorical(jnp.zeros(3)), pg.Discrete(3))
    """
    if isinstance(action_space, Discrete):
        number = getattr(distribution, "num_categories", None)
        if number != action_space.n:
            found = "continuous actions" if number is None else f"{number} discrete actions"
            raise ValueError(
                f"The environment has {action_space.n} discrete actions but the policy gives {found}; "
                "build it with policy_network(env.action_space(env_params))."
            )
    elif isinstance(action_space, Box):
        shape = getattr(distribution, "event_shape", ())
        if hasattr(distribution, "num_categories") or tuple(shape) != tuple(action_space.shape):
            found = "discrete actions" if shape == () else f"actions of shape {tuple(shape)}"
            raise ValueError(
                f"The environment has continuous actions of shape {tuple(action_space.shape)} but the "
                f"policy gives {found}; build it with policy_network(env.action_space(env_params))."
            )
