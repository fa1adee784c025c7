"""Labels by their frequencies, comparisons pair by pair."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.rlhf.preferences import Comparisons, check_comparisons, compare, label


def test_labels_are_as_often_true_as_bradley_and_terry_say():
    number = 20_000
    for difference, temperature in ((0.5, 1.0), (0.5, 0.25), (-2.0, 2.0)):
        a, b = jnp.full(number, 3.0 + difference), jnp.full(number, 3.0)
        found = float(label(jax.random.key(1), a, b, temperature=temperature).mean())
        assert found == pytest.approx(1 / (1 + np.exp(-difference / temperature)), abs=0.012)


def test_every_pair_is_compared_once_and_the_better_is_chosen():
    answers = np.arange(4 * 3 * 2).reshape(4, 3, 2)  # every answer is another one
    scores = np.random.default_rng(0).permutation(12).reshape(4, 3) * 10.0
    found = compare(jax.random.key(0), answers, scores, temperature=0.1)
    expected = []
    for i, j in combinations(range(4), 2):
        for n in range(3):
            best, worst = (i, j) if scores[i, n] > scores[j, n] else (j, i)
            expected.append((answers[best, n].tolist(), answers[worst, n].tolist()))
    pairs = zip(np.asarray(found.chosen).tolist(), np.asarray(found.rejected).tolist())
    assert list(pairs) == expected
    assert len(expected) == 18


def test_no_two_pairs_share_a_draw():
    answers = jnp.arange(2 * 1000)[:, None].reshape(2, 1000, 1)
    found = compare(jax.random.key(0), answers, jnp.zeros((2, 1000)))
    first_chosen = np.asarray(found.chosen[:, 0] < 1000)
    assert 0.44 < first_chosen.mean() < 0.56
    assert (np.asarray(found.chosen + found.rejected)[:, 0] == 1000 + 2 * np.arange(1000)).all()


def test_wrong_calls_are_refused():
    key, one = jax.random.key(0), jnp.zeros((1, 5, 3), int)
    with pytest.raises(ValueError, match="needs at least 2 answers to each prompt, not 1"):
        compare(key, one, jnp.zeros((1, 5)))
    with pytest.raises(ValueError, match=r"answers must be \[K, N, L\] and scores \[K, N\]"):
        compare(key, one, jnp.zeros((5, 1)))
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        label(key, jnp.zeros(2), jnp.zeros(2), temperature=0.0)
    with pytest.raises(ValueError, match="must have the same shape"):
        label(key, jnp.zeros(2), jnp.zeros(3))
    for shapes in (((2, 3), (1, 3)), ((0, 3), (0, 3)), ((3,), (3,))):
        with pytest.raises(ValueError, match=r"must be two arrays \[M, L\] of one shape"):
            check_comparisons(Comparisons(*map(jnp.zeros, shapes)))
