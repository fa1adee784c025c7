"""The usual optimizer of policy gradients, and schedules of coefficients."""

import optax

from purejaxpg.functional.schedules import linear_decay
from purejaxpg.types import Scalar


def adam(
    learning_rate: Scalar,
    *,
    max_grad_norm: Scalar = 0.5,
    decay_steps: int | None = None,
    eps: Scalar = 1e-5,
) -> optax.GradientTransformation:
    """Clip the gradient to a global norm, then Adam (Kingma and Ba 2015, arXiv:1412.6980).

    Args:
      learning_rate: the (initial) step size; may be traced.
      max_grad_norm: gradients g become g min(1, max_grad_norm / |g|), |g| the norm of all parameters.
      decay_steps: the rate falls linearly to 0 over so many optimizer steps; None keeps it constant.
        An update of PPO makes `num_epochs * num_minibatches` steps.
      eps: Adam's epsilon.
    """
    rate = learning_rate if decay_steps is None else linear_decay(learning_rate, decay_steps)
    chain = optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.adam(rate, eps=eps))
    return optax.flatten(
        chain
    )  # one long vector: a third fewer kernels in an update of small networks
