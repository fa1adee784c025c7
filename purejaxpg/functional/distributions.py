"""Action distributions. The only file that imports distrax.

A `Distribution` is a distrax distribution: `sample(seed=key)`, `log_prob(action)`, `entropy()`,
`mode()`, `kl_divergence(other)`, which is KL(self, other). It is a pytree: it passes through vmap and scan.
"""

from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from distrax import Distribution as Distribution

from purejaxpg.arguments import checked
from purejaxpg.types import Box, Discrete, Space

# The least log-probability. Its exponential is exactly 0 in float32, and it is finite, so that 0 times the
# difference of two of them is 0 and not NaN in entropy and KL.
_LEAST = -1e9
_MAX_LOG_STD = 20.0


class _Categorical(distrax.Categorical):
    """From any logits. They are normalised once, when it is made; distrax would do so again for the entropy.

    Samples are drawn from the logits as they were: a compiled program that only acts normalises nothing, and
    does not ask at every step whether they are valid, as distrax does.
    """

    def __init__(self, logits: jax.Array, choice: jax.Array | None = None):
        distrax.Distribution.__init__(self)
        self._choice = choice
        logits = logits.astype(jnp.result_type(logits, 0.0))
        limit = jnp.finfo(logits.dtype).max
        logits = jnp.clip(logits, -limit, limit)
        best = jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
        # No gradient flows to logits so far below the best that their probability is 0.
        self._unnormalized = jnp.maximum(logits - best, _LEAST)
        self._logits = jax.nn.log_softmax(self._unnormalized)
        self._probs = None
        self._dtype = jnp.int32

    def _sample_n(self, key: jax.Array, n: int) -> jax.Array:
        shape = (n, *self._unnormalized.shape[:-1])
        return jax.random.categorical(key, self._unnormalized, shape=shape).astype(self._dtype)

    def entropy(self) -> jax.Array:
        return -jnp.sum(jnp.exp(self._logits) * self._logits, axis=-1)

    def __getitem__(self, index: Any) -> "_Categorical":
        choice = None if self._choice is None else self._choice[index]
        return type(self)(super().__getitem__(index).logits, choice)


@checked
def categorical(logits: jax.Array, mask: jax.Array | None = None) -> Distribution:
    """A distribution over n actions, the integers 0, ..., n - 1, with P(a) proportional to exp(logits[a]).

    Any logits but NaN give numbers: log-probabilities end at -1e9, where the probability is exactly 0 and no
    gradient flows to the logit. An infinite logit counts as the largest number of its sign, without a gradient.

    Args:
      logits: `[..., n]`, unnormalised log-probabilities; -inf forbids an action as `mask` does.
      mask: `[..., n]` boolean, true where an action is allowed; at least one must be. Forbidden
        actions have probability exactly 0 and no gradient flows to their logits. None allows all.

    Returns:
      The distribution, batch shape `logits.shape[:-1]`, with int32 actions of shape `[...]`.

    Raises:
      TypeError: an argument is no array.
      ValueError: there is no action, or the mask does not fit the logits.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> policy = pg.categorical(jnp.zeros(3), jnp.array([True, False, True]))
      >>> [round(x, 3) for x in policy.probs.tolist()]
      [0.5, 0.0, 0.5]
    """
    if logits.shape[-1:] in ((), (0,)):
        raise ValueError(
            f"logits need a last axis of at least one action, not shape {logits.shape}."
        )
    if mask is not None:
        if not _broadcasts(mask, logits.shape) or np.shape(mask)[-1:] != logits.shape[-1:]:
            raise ValueError(f"A mask {np.shape(mask)} does not fit logits {logits.shape}.")
        choice = jnp.broadcast_to(mask, logits.shape).sum(axis=-1) > 1
        # A real number, since distributions are differentiated.
        return _Categorical(jnp.where(mask, logits, -jnp.inf), choice.astype(jnp.float32))
    return _Categorical(logits)


@checked
def choices(distribution: Distribution) -> jax.Array | None:
    """Where there is anything to choose: rows in which a mask leaves more than one action.

    A forced move has entropy, KL and gradient 0 whatever the policy, so it belongs in no mean of them: the
    algorithms take theirs over the other rows.

    Args:
      distribution: what a policy gives, batch shape `[...]`.

    Returns:
      `[...]` boolean; None for a distribution that was made without a mask, where every row is a choice.

    Raises:
      TypeError: this is no distribution.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.functional.distributions import choices
      >>> policy = pg.categorical(jnp.zeros((2, 3)), jnp.array([[True, False, True], [False, True, False]]))
      >>> choices(policy).tolist(), choices(pg.categorical(jnp.zeros((2, 3))))
      ([True, False], None)
    """
    choice = getattr(distribution, "_choice", None)
    return None if choice is None else choice > 0


@checked
def diagonal_gaussian(mean: jax.Array, log_std: jax.Array) -> Distribution:
    """N(mean, diag(exp(log_std))^2) over the last axis, batch shape `mean.shape[:-1]`.

    Args:
      mean: `[..., d]`, in the units of the actions.
      log_std: logarithm of the standard deviation; broadcasts to `mean`, so that one that does not
        depend on the state has shape `[d]`. It counts as +-20 beyond these, without a gradient.

    Returns:
      The distribution, batch shape `mean.shape[:-1]`, with real actions of shape `[..., d]`.

    Raises:
      TypeError: an argument is no array.
      ValueError: the mean has no axis, or log_std does not broadcast to it.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> policy = pg.diagonal_gaussian(jnp.zeros((5, 2)), jnp.zeros(2))
      >>> policy.log_prob(jnp.zeros((5, 2))).shape, round(float(policy.log_prob(jnp.zeros(2))[0]), 3)
      ((5,), -1.838)
    """
    if mean.ndim == 0 or not _broadcasts(log_std, mean.shape):
        raise ValueError(
            "mean needs a last axis of the components of an action, and log_std a shape that broadcasts to "
            f"that of mean, not {mean.shape} and {np.shape(log_std)}."
        )
    # distrax.MultivariateNormalDiag is not a sound pytree under jit and vmap; this one is.
    scale = jnp.broadcast_to(jnp.exp(jnp.clip(log_std, -_MAX_LOG_STD, _MAX_LOG_STD)), mean.shape)
    return distrax.Independent(distrax.Normal(mean, scale), 1)


@checked
def check_support(distribution: Distribution, action_space: Space) -> None:
    """Check that a policy's distribution produces the actions of a space.

    Args:
      distribution: what the policy gives.
      action_space: the space of the environment's actions, `Discrete` or `Box`.

    Raises:
      TypeError: the policy gives no distribution, or the space is none.
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


def _broadcasts(x: jax.Array, shape: tuple[int, ...]) -> bool:
    """Whether an array broadcasts to a shape."""
    last = np.shape(x)[::-1]
    return len(last) <= len(shape) and all(n in (1, m) for n, m in zip(last, shape[::-1]))
