"""Advantages without a value function: each of K answers beside the others to the same question."""

import jax
import jax.numpy as jnp

from purejaxpg.arguments import checked


@checked
def leave_one_out_advantage(reward: jax.Array, *, axis: int = -1) -> jax.Array:
    """R_k minus the mean reward of the other K - 1 answers of the group: the advantage of RLOO.

    Kool, van Hoof and Welling 2019; Ahmadian et al. 2024, arXiv:2402.14740, eq. 6. The baseline does not
    depend on the answer that it is subtracted from, so that the gradient is unbiased. It is K / (K - 1) times
    R_k - mean R, which Dr. GRPO takes (Liu et al. 2025, arXiv:2503.20783).

    Args:
      reward: `[..., K, ...]`, one number for each answer.
      axis: that the K answers of a group are along; at least 2 of them.

    Returns:
      Of the shape and in the units of the reward.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: there is no such axis, or fewer than two answers along it.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.leave_one_out_advantage(jnp.array([1.0, 2.0, 6.0])).tolist()
      [-3.0, -1.5, 4.5]
    """
    size = _group_size(reward, axis)
    return (reward - jnp.mean(reward, axis=axis, keepdims=True)) * (size / (size - 1))


@checked
def group_normalized_advantage(reward: jax.Array, *, axis: int = -1) -> jax.Array:
    """(R_k - mean R) / (standard deviation of R + 1e-8) over the group: the advantage of GRPO.

    Shao et al. 2024 (DeepSeekMath), arXiv:2402.03300, section 4.1.2. Groups whose answers differ little weigh
    as much as those whose answers differ greatly, which biases the gradient; equal rewards become 0.

    Args:
      reward: `[..., K, ...]`, one number for each answer.
      axis: that the K answers of a group are along; at least 2 of them.

    Returns:
      Of the shape of the reward, without a unit.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: there is no such axis, or fewer than two answers along it.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.group_normalized_advantage(jnp.array([[1.0, 3.0], [0.1, 0.1]])).tolist()
      [[-1.0, 1.0], [0.0, 0.0]]
    """
    _group_size(reward, axis)
    # Equal rewards are exactly 0 apart from the first one, whatever their mean is rounded to.
    relative = reward - jnp.take(reward, jnp.array([0]), axis=axis)
    mean, deviation = (f(relative, axis=axis, keepdims=True) for f in (jnp.mean, jnp.std))
    return (relative - mean) / (deviation + 1e-8)


def _group_size(reward: jax.Array, axis: int) -> int:
    if not -reward.ndim <= axis < reward.ndim or reward.shape[axis] < 2:
        raise ValueError(
            f"A group needs at least 2 answers along axis {axis}, not rewards of shape {reward.shape}."
        )
    return reward.shape[axis]
