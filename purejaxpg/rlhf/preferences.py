"""Comparisons of answers, labelled at random by how much better the one is than the other."""

from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.arguments import Key, Positive, check_shapes, checked


class Comparisons(NamedTuple):
    """M pairs of texts that begin with the same prompt.

    Attributes:
      chosen: `[M, L]`, the text that was preferred.
      rejected: `[M, L]`, the other one.
    """

    chosen: jax.Array
    rejected: jax.Array


@checked
def label(
    key: Key, score_a: jax.Array, score_b: jax.Array, *, temperature: Positive = 1.0
) -> jax.Array:
    """Whether a is preferred to b: P(a) = sigmoid((score_a - score_b) / temperature).

    Bradley and Terry 1952; Christiano et al. 2017, arXiv:1706.03741.

    Args:
      key: consumed.
      score_a: `[...]`, of the one answer.
      score_b: `[...]`, of the other.
      temperature: a positive number in the units of the scores; may be traced. The smaller, the surer.

    Returns:
      `[...]` boolean, true where a is preferred.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the scores differ in shape, or the temperature is out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from purejaxpg.rlhf.preferences import label
      >>> better, worse = jnp.array([9.0, 0.0]), jnp.array([0.0, 9.0])
      >>> label(jax.random.key(0), better, worse, temperature=0.1).tolist()
      [True, False]
    """
    check_shapes(score_a=score_a, score_b=score_b)
    return jax.random.bernoulli(key, jax.nn.sigmoid((score_a - score_b) / temperature))


@checked
def compare(
    key: Key, answers: jax.Array, scores: jax.Array, *, temperature: Positive = 1.0
) -> Comparisons:
    """Compare each of K answers to a prompt with every other one: all K (K - 1) / 2 pairs (Ouyang et al. 2022).

    arXiv:2203.02155. Pairs of one prompt are not independent: for a held-out set compare answers
    to other prompts.

    Args:
      key: consumed.
      answers: `[K, N, L]`, buffers of K answers to each of N prompts, at least 2.
      scores: `[K, N]`, hidden from whoever is given the comparisons.
      temperature: as in `label`.

    Returns:
      `Comparisons` of K (K - 1) / 2 N rows: first all prompts with answers 0 and 1, then those with 0 and 2,
      and so on.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: there are fewer than 2 answers, the scores do not fit them, or the temperature is out of
        range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from purejaxpg.rlhf.preferences import compare
      >>> answers, scores = jnp.array([[[5, 1]], [[5, 2]], [[5, 3]]]), jnp.array([[9.0], [0.0], [-9.0]])
      >>> compare(jax.random.key(0), answers, scores, temperature=0.1).chosen.tolist()
      [[5, 1], [5, 1], [5, 2]]
    """
    if answers.ndim != 3 or answers.shape[:2] != scores.shape:
        raise ValueError(
            f"answers must be [K, N, L] and scores [K, N], not {answers.shape} and {scores.shape}."
        )
    if len(answers) < 2:
        raise ValueError(
            f"A comparison needs at least 2 answers to each prompt, not {len(answers)}."
        )
    first, second = np.array(list(combinations(range(len(answers)), 2))).T
    a_wins = label(key, scores[first], scores[second], temperature=temperature)[..., None]
    a, b = answers[first], answers[second]
    chosen, rejected = jnp.where(a_wins, a, b), jnp.where(a_wins, b, a)
    return Comparisons(*(x.reshape(-1, x.shape[-1]) for x in (chosen, rejected)))


@checked
def check_comparisons(comparisons: Comparisons) -> None:
    """Check the shapes of comparisons.

    Args:
      comparisons: of texts.

    Raises:
      TypeError: `comparisons` is no `Comparisons`.
      ValueError: they are not two arrays `[M, L]` of one shape, M at least 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.preferences import Comparisons, check_comparisons
      >>> check_comparisons(Comparisons(jnp.array([[1, 2]]), jnp.array([[1, 3]])))
    """
    shapes = [jnp.shape(x) for x in comparisons]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
        raise ValueError(
            "Comparisons must be two arrays [M, L] of one shape, M at least 1, not "
            f"{shapes[0]} and {shapes[1]}."
        )
