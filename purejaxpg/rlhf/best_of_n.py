"""The best of n answers, as a proxy of their worth ranks them: what reinforcement learning has to beat."""

import jax
import jax.numpy as jnp

from purejaxpg.arguments import Count, check_shapes, checked


@checked
def best_of_n(gold: jax.Array, proxy: jax.Array, n: Count) -> jax.Array:
    """Mean gold score of the answer with the best proxy score among n of a pool of N, over all such subsets.

        E = sum_i C(i - 1, n - 1) / C(N, n) gold_(i)

    with gold_(i) the gold score of the i-th answer, ranked by *proxy* from below. Nakano et al. 2021,
    arXiv:2112.09332; Gao et al. 2022, arXiv:2210.10760. An unbiased estimate of the mean of best
    of n from one pool. The weights are products of n / N and (j - n + 1) / j, j = i ... N - 1, whose logarithms
    are summed: single precision holds these, where binomial coefficients overflow and differences of log-gamma
    functions cancel. Answers of equal proxy score are ranked at random: they share the mean of their weights.

    Args:
      gold: `[N]`, score of each answer; vmap over the pools of several prompts.
      proxy: `[N]`, score that the answers are chosen by.
      n: answers to choose from, between 1 and N.

    Returns:
      A scalar, in the units of `gold`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the scores are not one pool each, or n is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.best_of_n import best_of_n
      >>> gold, proxy = jnp.array([1.0, 5.0, 3.0]), jnp.array([0.1, 0.2, 0.3])
      >>> round(float(best_of_n(gold, proxy, 2)), 3)  # of 1 and 5 the 5, of the two others the 3
      3.667
    """
    check_shapes(gold=gold, proxy=proxy)
    if gold.ndim != 1 or not 1 <= n <= gold.shape[0]:
        raise ValueError(
            f"best_of_n chooses n, between 1 and N, of one pool of N answers: not {n} of scores {gold.shape}."
        )
    size = gold.shape[0]
    order = jnp.argsort(proxy)
    ranked = jnp.asarray(proxy)[order]
    below = jnp.arange(1, size)
    steps = jnp.log(jnp.maximum(below - n + 1, 0) / below)
    later = jnp.append(jnp.cumsum(steps[::-1])[::-1], 0.0)
    weight = jnp.exp(later + jnp.log(n / size))
    tie = jnp.cumsum(jnp.append(0, ranked[1:] != ranked[:-1]))
    total, number = (jax.ops.segment_sum(x, tie, size) for x in (weight, jnp.ones(size)))
    shared = (total / jnp.maximum(number, 1))[tie]
    # What cannot be chosen may be anything.
    return jnp.sum(jnp.where(shared > 0, shared * jnp.asarray(gold)[order], 0.0))


@checked
def best_of_n_kl(n: Count) -> jax.Array:
    """log n - (n - 1) / n, an upper bound of KL(best of n, the policy that the n are drawn from), in nats.

    Stiennon et al. 2020, arXiv:2009.01325. Exact where no two answers have the same proxy score
    and none is drawn twice, too large otherwise (Beirami et al. 2024, arXiv:2401.01879).

    Args:
      n: answers to choose from, at least 1.

    Returns:
      A scalar.

    Raises:
      TypeError: `n` is no integer.
      ValueError: `n` is below 1.

    Example:
      >>> from purejaxpg.rlhf.best_of_n import best_of_n_kl
      >>> float(best_of_n_kl(1)), round(float(best_of_n_kl(256)), 3)
      (0.0, 4.549)
    """
    return jnp.log(n) - (n - 1) / n


@checked
def win_rate(score: jax.Array, other: jax.Array) -> jax.Array:
    """Fraction of pairs in which the first score is higher; a tie counts half.

    Args:
      score: `[...]`, of the one side's answers.
      other: `[...]`, of the other side's answers to the same prompts.

    Returns:
      A scalar between 0 and 1.

    Raises:
      TypeError: an argument is no array.
      ValueError: the scores differ in shape, or there are none.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.best_of_n import win_rate
      >>> float(win_rate(jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([0.0, 2.0, 5.0, 0.0])))
      0.625
    """
    check_shapes(score=score, other=other)
    if 0 in score.shape:
        raise ValueError("win_rate needs at least one pair of scores.")
    return jnp.mean((score > other) + 0.5 * (score == other))
