"""Weights of importance sampling: what data of an old policy count for under a new one.

log_ratio_t = log pi_new(a_t | s_t) - log pi_old(a_t | s_t), `[T, ...]`, time-major; row 0 begins an
episode, and one ends where it is cut: terminated, truncated or at the last row. Weights are kept as
logarithms, whose products are sums that neither overflow nor underflow; exp of one above 88 is infinite
in float32. How they degrade with the length of episodes is exact for a finite process:
`finite_mdp.log_weight_moments`.
"""

import jax
import jax.numpy as jnp

from purejaxpg.arguments import check_shapes, checked
from purejaxpg.functional.returns import check_rollout, cut_rows, sum_to_cut


@checked
def trajectory_log_weights(
    log_ratio: jax.Array, terminated: jax.Array, truncated: jax.Array
) -> jax.Array:
    """log prod_{u of the episode} new(a_u|s_u) / old(a_u|s_u), the same at all steps of an episode.

    The dynamics cancel (Precup, Sutton and Singh 2000; Levine et al. 2020, arXiv:2005.01643, eq. 5). The
    exponential has mean 1 under the old policy, and its variance grows exponentially with the length.

    Args:
      log_ratio: `[T, ...]`, log new(a_t|s_t) - log old(a_t|s_t), in nats.
      terminated: `[T, ...]`, true where the task ended with this step.
      truncated: `[T, ...]`, true where a time limit cut the episode after this step.

    Returns:
      `[T, ...]`, in nats; of the steps so far where the last row cuts an episode.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> ends = jnp.array([False, True, False])
      >>> pg.trajectory_log_weights(jnp.array([1.0, 2.0, 4.0]), ends, ends).tolist()
      [3.0, 3.0, 4.0]
    """
    so_far = per_decision_log_weights(log_ratio, terminated, truncated)
    row = jnp.arange(len(log_ratio)).reshape(-1, *(1,) * (log_ratio.ndim - 1))
    ends = jnp.where(cut_rows(terminated, truncated), row, len(log_ratio))
    return jnp.take_along_axis(so_far, jax.lax.cummin(ends, reverse=True), axis=0)


@checked
def per_decision_log_weights(
    log_ratio: jax.Array, terminated: jax.Array, truncated: jax.Array
) -> jax.Array:
    """log prod_{u <= t} new(a_u|s_u) / old(a_u|s_u), over the steps of the episode up to this one.

    What a reward at step t needs: actions after it do not matter to it (Precup, Sutton and Singh 2000,
    "Eligibility traces for off-policy policy evaluation").

    Args:
      log_ratio: `[T, ...]`, log new(a_t|s_t) - log old(a_t|s_t), in nats.
      terminated: `[T, ...]`, true where the task ended with this step.
      truncated: `[T, ...]`, true where a time limit cut the episode after this step.

    Returns:
      `[T, ...]`, in nats.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> ends = jnp.array([False, True, False])
      >>> pg.per_decision_log_weights(jnp.array([1.0, 2.0, 4.0]), ends, ends).tolist()
      [1.0, 3.0, 4.0]
    """
    check_rollout(log_ratio=log_ratio, terminated=terminated, truncated=truncated)
    cut = cut_rows(terminated, truncated)
    starts = jnp.roll(cut, 1, axis=0)  # backwards in time an episode ends where it starts
    backwards, starts = jnp.flip(log_ratio, 0), jnp.flip(starts, 0)
    return jnp.flip(sum_to_cut(backwards, starts, starts, decay=1.0), 0)


@checked
def self_normalized(
    log_weight: jax.Array, *, axis: int | None = None, where: jax.Array | None = None
) -> jax.Array:
    """Weights that sum to 1, w_i / sum_j w_j: weighted importance sampling.

    Owen 2013, "Monte Carlo theory, methods and examples", eq. 9.3. Biased by O(1/N), bounded, and unchanged
    if a constant is added to all log weights.

    Args:
      log_weight: `[...]`, in nats; -inf is a weight of 0.
      axis: that the samples are along; all axes if None.
      where: `[...]` boolean, the samples that count; all if None. The others may be anything.

    Returns:
      `[...]`, 0 where a sample does not count. NaN where no weight is above 0.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: `where` has another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> [round(x, 3) for x in pg.self_normalized(jnp.log(jnp.array([1.0, 3.0])) + 500.0).tolist()]
      [0.25, 0.75]
    """
    weight = _relative(log_weight, axis, where)
    return weight / jnp.sum(weight, axis=axis, keepdims=True)


@checked
def effective_sample_size(
    log_weight: jax.Array, *, axis: int | None = None, where: jax.Array | None = None
) -> jax.Array:
    """(sum_i w_i)^2 / sum_i w_i^2: as many equal weights would vary as much.

    Kong 1992; Owen 2013, eq. 9.13. From N samples it cannot fall below 1, and so overestimates N /
    E[w^2] long before that: from few samples it looks well where the estimate is worthless.

    Args:
      log_weight: `[...]`, in nats; -inf is a weight of 0.
      axis: that the samples are along; all axes if None.
      where: `[...]` boolean, the samples that count; all if None. The others may be anything.

    Returns:
      Between 1 and the number of samples, without `axis`; NaN where no weight is above 0.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: `where` has another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> float(pg.effective_sample_size(jnp.array([0.0, 0.0, 0.0, -jnp.inf])))
      3.0
    """
    weight = _relative(log_weight, axis, where)
    return jnp.square(jnp.sum(weight, axis=axis)) / jnp.sum(jnp.square(weight), axis=axis)


@checked
def self_normalized_by_age(
    log_weight: jax.Array, terminated: jax.Array, truncated: jax.Array
) -> jax.Array:
    """Weights whose mean over all episodes is 1 at every age, an ended one counting with its last.

    Weighted importance sampling where episodes differ in length (Precup, Sutton and Singh 2000): at step k
    the weight of an episode is divided by the mean of the weights that all episodes have at step k, or had
    when they ended. Without those that ended the rest would be biased.

    Args:
      log_weight: `[T, ...]`, of `trajectory_log_weights` or `per_decision_log_weights`.
      terminated: `[T, ...]`, true where the task ended with this step.
      truncated: `[T, ...]`, true where a time limit cut the episode after this step.

    Returns:
      `[T, ...]`. All episodes of all columns are normalised together.

    Raises:
      TypeError: an argument is no array.
      ValueError: the arrays differ in shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.importance_sampling import self_normalized_by_age
      >>> ends = jnp.array([[True, False], [False, False]])  # the first episode lasts one step
      >>> weight = jnp.array([[3.0, 1.0], [1.0, 2.0]])  # at age 1: 2, beside 3 and 1, which have ended
      >>> [[round(x, 3) for x in row] for row in self_normalized_by_age(jnp.log(weight), ends, ends).tolist()]
      [[1.8, 0.6], [0.6, 1.0]]
    """
    check_rollout(log_weight=log_weight, terminated=terminated, truncated=truncated)
    num_steps, cut = len(log_weight), cut_rows(terminated, truncated)
    starts = jnp.roll(cut, 1, axis=0)
    row = jnp.arange(num_steps).reshape(-1, *(1,) * (cut.ndim - 1))
    age = row - jax.lax.cummax(jnp.where(starts, row, 0), axis=0)

    def log_sums(where: jax.Array) -> jax.Array:
        """log of the sum of the weights of each age, `[T]`."""
        masked = jnp.where(where, log_weight, -jnp.inf).ravel()
        largest = jax.ops.segment_max(masked, age.ravel(), num_steps)
        largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
        relative = jnp.exp(masked - largest[age.ravel()])
        return jnp.log(jax.ops.segment_sum(relative, age.ravel(), num_steps)) + largest

    at_age, at_end = log_sums(jnp.ones_like(cut)), log_sums(cut)
    ended_before = jnp.concatenate([jnp.full(1, -jnp.inf), jax.lax.cumlogsumexp(at_end)[:-1]])
    log_total = jnp.logaddexp(at_age, ended_before)
    return jnp.exp(log_weight + jnp.log(jnp.sum(starts)) - log_total[age])


def _relative(log_weight: jax.Array, axis: int | None, where: jax.Array | None) -> jax.Array:
    """Weights in units of the largest that counts."""
    if where is not None:
        check_shapes(log_weight=log_weight, where=where)
        log_weight = jnp.where(where, log_weight, -jnp.inf)
    largest = jax.lax.stop_gradient(jnp.max(log_weight, axis=axis, keepdims=True))
    return jnp.exp(log_weight - jnp.where(jnp.isneginf(largest), 0.0, largest))
