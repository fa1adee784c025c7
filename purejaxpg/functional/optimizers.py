"""The usual optimizer of policy gradients."""

from typing import Annotated

import optax

from purejaxpg.arguments import Count, NotNegative, Positive, Range, checked
from purejaxpg.functional.schedules import linear_decay
from purejaxpg.types import Scalar

MaxNorm = Annotated[Scalar, Range("greater than 0", lambda x: x > 0)]


@checked
def adam(
    learning_rate: NotNegative = 3e-4,
    *,
    max_grad_norm: MaxNorm = 0.5,
    decay_steps: Count | None = None,
    eps: Positive = 1e-5,
) -> optax.GradientTransformation:
    """Clip the gradient to a global norm, then Adam.

    Kingma and Ba 2015, arXiv:1412.6980. A gradient g becomes g min(1, max_grad_norm / |g|), |g| the norm of all
    parameters together. The chain works on one long vector (`optax.flatten`): a third fewer kernels in an
    update of small networks.

    Args:
      learning_rate: Step size of Adam, the initial one if it is annealed. May be traced. 3e-4 is the usual
        default of PPO.
      max_grad_norm: Global norm to which gradients are clipped, infinity for none. May be traced. 0.5 is that
        of OpenAI baselines.
      decay_steps: optimizer steps over which the learning rate falls linearly to 0; constant if None. An
        update of `ppo` makes `num_epochs * num_minibatches` steps.
      eps: Adam's epsilon. May be traced. 1e-5 is that of OpenAI baselines.

    Returns:
      An `optax.GradientTransformation`.

    Raises:
      TypeError: an argument is no number.
      ValueError: a Python number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> optimizer = pg.adam(0.1)
      >>> params = jnp.ones(2)
      >>> step, state = optimizer.update(jnp.array([1.0, -1.0]), optimizer.init(params))
      >>> [round(float(x), 3) for x in step]
      [-0.1, 0.1]
    """
    rate = learning_rate if decay_steps is None else linear_decay(learning_rate, decay_steps)
    chain = optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(rate, eps=eps))
    return optax.flatten(chain)
