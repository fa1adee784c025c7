"""How far a reward model is right, and in which units it speaks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.arguments import Count, check_shapes, checked
from purejaxpg.rlhf.best_of_n import win_rate
from purejaxpg.rlhf.preferences import Comparisons, check_comparisons
from purejaxpg.types import PyTree


class Calibration(NamedTuple):
    """Predicted probabilities against what happened, by bins of equal width.

    Attributes:
      predicted: `[bins]`, mean probability of the samples in each bin, NaN where there is none.
      observed: `[bins]`, fraction of them that came true, likewise.
      samples: `[bins]` int32, how many there are.
      expected_error: mean of |predicted - observed| over samples, a scalar between 0 and 1.
    """

    predicted: jax.Array
    observed: jax.Array
    samples: jax.Array
    expected_error: jax.Array


class Standardized(NamedTuple):
    """Parameters of a `standardized` reward model.

    Attributes:
      params: of the model itself.
      mean: of its scores on reference texts, a scalar.
      deviation: their standard deviation, a scalar.
    """

    params: Any
    mean: jax.Array
    deviation: jax.Array


@checked
def accuracy(score: Callable, params: PyTree, comparisons: Comparisons) -> jax.Array:
    """Fraction of comparisons whose chosen text has the higher score; a tie counts half.

    Args:
      score: `(params, texts [N, L]) -> scores [N]`.
      params: its parameters.
      comparisons: best those that the model was not fitted to.

    Returns:
      A scalar between 0 and 1. Labels at random have a limit below 1: the mean of sigmoid(|difference| /
      temperature) of the hidden scores.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: comparisons are not two arrays `[M, L]` of one shape, M at least 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.preferences import Comparisons
      >>> from purejaxpg.rlhf.calibration import accuracy
      >>> pairs = Comparisons(jnp.array([[3], [1]]), jnp.array([[2], [2]]))
      >>> float(accuracy(lambda weight, texts: weight * texts[:, 0], 1.0, pairs))
      0.5
    """
    check_comparisons(comparisons)
    return win_rate(*(score(params, texts) for texts in comparisons))


@checked
def calibration(probability: jax.Array, outcome: jax.Array, *, bins: Count = 10) -> Calibration:
    """Does what is predicted with probability p come true in a fraction p of the cases?

    The expected calibration error is sum_b n_b / N |predicted_b - observed_b| (Naeini et al. 2015; Guo et al.
    2017, arXiv:1706.04599), over bins of equal width. Of comparisons, take the texts of a pair in an
    order that says nothing of the outcome, as `label` does, or each pair both ways round: with the chosen text
    always first every outcome is true.

    Args:
      probability: `[...]`, predicted, between 0 and 1: sigmoid(score a - score b) that a is preferred.
      outcome: `[...]` boolean, what happened.
      bins: number of bins.

    Returns:
      A `Calibration`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the arrays differ in shape, or there is no bin or no sample.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.calibration import calibration
      >>> table = calibration(jnp.array([0.25, 0.25, 0.75, 0.75]), jnp.array([0, 0, 1, 0]), bins=2)
      >>> table.observed.tolist(), float(table.expected_error)
      ([0.0, 0.5], 0.25)
    """
    check_shapes(probability=probability, outcome=outcome)
    if 0 in probability.shape:
        raise ValueError("calibration needs at least one prediction.")
    probability, outcome = jnp.ravel(probability), jnp.ravel(outcome).astype(jnp.float32)
    index = jnp.clip(jnp.floor(probability * bins), 0, bins - 1).astype(jnp.int32)
    member = jax.nn.one_hot(index, bins)
    count = member.sum(axis=0)
    predicted, observed = (x @ member / count for x in (probability, outcome))
    gap = jnp.where(count > 0, jnp.abs(predicted - observed), 0.0)
    error = jnp.sum(count * gap) / probability.size
    return Calibration(predicted, observed, count.astype(jnp.int32), error)


@checked
def standardize(score: Callable, params: PyTree, texts: jax.Array) -> Standardized:
    """Parameters of a model that scores reference texts with mean 0 and standard deviation 1.

    A Bradley-Terry loss leaves the shift of a score free, and the scale of beta that goes with it unknown:
    Stiennon et al. 2020, arXiv:2009.01325, set the mean on reference texts to 0.

    Args:
      score: `(params, texts [N, L]) -> scores [N]`.
      params: its parameters.
      texts: `[N, L]`, reference texts: samples of the policy that learning begins with.

    Returns:
      `Standardized`, for `standardized(score)`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: there are fewer than 2 texts.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.calibration import standardize
      >>> found = standardize(lambda weight, texts: weight * texts[:, 0], 2.0, jnp.array([[1], [3]]))
      >>> float(found.mean), float(found.deviation)
      (4.0, 2.0)
    """
    if texts.ndim != 2 or len(texts) < 2:
        raise ValueError(f"texts must be at least 2 buffers [N, L], not of shape {texts.shape}.")
    scores = score(params, texts)
    return Standardized(params, jnp.mean(scores), jnp.std(scores))


@checked
def standardized(score: Callable) -> Callable:
    """The reward model (score - mean) / deviation.

    Args:
      score: `(params, texts [..., L]) -> scores [...]`.

    Returns:
      The same with `Standardized` for parameters.

    Raises:
      TypeError: `score` is no function.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.calibration import standardize, standardized
      >>> def score(weight, texts):
      ...     return weight * texts[:, 0]
      >>> texts = jnp.array([[1], [3]])
      >>> standardized(score)(standardize(score, 2.0, texts), texts).tolist()
      [-1.0, 1.0]
    """

    def scaled(params, texts):
        return (score(params.params, texts) - params.mean) / params.deviation

    return scaled
