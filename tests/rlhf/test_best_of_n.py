"""Best of n by enumerating all subsets, and in exact arithmetic."""

from fractions import Fraction
from itertools import combinations
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.rlhf.best_of_n import best_of_n, best_of_n_kl, win_rate


def by_enumeration(gold, proxy, n):
    """Mean over all subsets of the gold score of the best by proxy; those that tie share."""
    chosen = []
    for subset in combinations(range(len(gold)), n):
        best = max(proxy[i] for i in subset)
        chosen.append(np.mean([gold[i] for i in subset if proxy[i] == best]))
    return np.mean(chosen)


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_the_mean_over_all_subsets(ties):
    rng = np.random.default_rng(0)
    gold = rng.normal(size=7).astype(np.float32)
    proxy = rng.integers(0, 3, 7).astype(np.float32) if ties else rng.permutation(7) / 7.0
    for n in range(1, 8):
        found = float(best_of_n(gold, proxy, n))
        assert found == pytest.approx(by_enumeration(gold, proxy, n), abs=1e-5)


def test_a_large_pool_in_exact_arithmetic():
    size, n = 4000, 256
    weight = [Fraction(comb(i - 1, n - 1), comb(size, n)) for i in range(1, size + 1)]
    assert sum(weight) == 1
    rng = np.random.default_rng(1)
    gold, proxy = rng.normal(size=size), rng.permutation(size)
    ranked = gold[np.argsort(proxy)]
    expected = sum(float(w) * x for w, x in zip(weight, ranked))
    assert float(best_of_n(gold, proxy, n)) == pytest.approx(expected, abs=1e-5)
    assert float(best_of_n(np.ones(size), proxy, n)) == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_chosen_may_be_anything():
    gold, proxy = np.array([np.nan, *range(6)]), np.arange(7.0)
    chosen = [
        max(subset) for subset in combinations(range(-1, 6), 3)
    ]  # the place of the worst is -1
    assert float(best_of_n(gold, proxy, 3)) == pytest.approx(np.mean(chosen), abs=1e-5)


def test_pools_may_be_vmapped():
    gold = jax.random.normal(jax.random.key(0), (3, 5))
    found = jax.jit(jax.vmap(lambda x: best_of_n(x, x, 2)))(gold)
    expected = [by_enumeration(x, x, 2) for x in np.asarray(gold)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("n", [1, 4, 64])
def test_kl_is_a_bound_that_is_reached_by_many_answers(n):
    def exact(number):
        """KL of best of n from the uniform distribution over so many ranked answers."""
        rank = np.arange(number + 1) / number
        chance = np.diff(rank**n)
        chance = chance[chance > 0]
        return (chance * np.log(chance * number)).sum()

    bound = float(best_of_n_kl(n))
    assert exact(10) <= bound + 1e-6
    assert exact(10**6) == pytest.approx(bound, abs=1e-3)


def test_a_tie_is_half_a_win():
    score, other = np.array([1.0, 2.0, 2.0, 0.0, 7.0]), np.array([0.0, 2.0, 3.0, 5.0, 7.0])
    assert float(win_rate(score, other)) == pytest.approx((1 + 0.5 + 0 + 0 + 0.5) / 5)


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match=r"between 1 and N, of one pool of N answers: not 4 of"):
        best_of_n(jnp.zeros(3), jnp.zeros(3), 4)
    with pytest.raises(ValueError, match="of one pool"):
        best_of_n(jnp.zeros((2, 3)), jnp.zeros((2, 3)), 1)
    with pytest.raises(ValueError, match="n must be at least 1, not 0"):
        best_of_n(jnp.zeros(3), jnp.zeros(3), 0)
    with pytest.raises(TypeError, match="n must be an int"):
        best_of_n_kl(2.5)
    with pytest.raises(ValueError, match="at least one pair"):
        win_rate(jnp.zeros(0), jnp.zeros(0))
