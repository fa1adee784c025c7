"""Tables against itertools, and draws against scipy's distributions."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

import purejaxpg as pg


def test_a_grid_is_the_product():
    table = pg.grid(learning_rate=[1e-4, 1e-3, 1e-2], clip_eps=[0.1, 0.2], discount=0.99)
    expected = list(itertools.product([1e-4, 1e-3, 1e-2], [0.1, 0.2], [0.99]))
    np.testing.assert_array_equal(np.array(expected, np.float32).T, [*table.values()])
    assert [*table] == ["learning_rate", "clip_eps", "discount"]


def test_crossed_tables_are_the_product_of_their_configurations():
    one = pg.listed([{"a": 1, "b": 2}, {"b": 4, "a": 3}])
    table = pg.cross(one, pg.grid(c=[5, 6, 7]))
    rows = list(zip(*(table[name].tolist() for name in "abc")))
    assert rows == [(a, b, c) for (a, b), c in itertools.product([(1, 2), (3, 4)], [5, 6, 7])]
    with pytest.raises(ValueError, match="Given twice: a"):
        pg.cross(one, pg.grid(a=[1]))


def test_draws_follow_their_distributions():
    draw = {
        "flat": pg.uniform(-1, 3),
        "log": pg.log_uniform(1e-5, 1e-1),
        "one": pg.choice(2, 8, 32),
    }
    table = pg.random_search(jax.random.key(0), 3000, **draw)
    assert all(x.shape == (3000,) and x.dtype == np.float32 for x in table.values())
    assert stats.kstest(table["flat"], stats.uniform(-1, 4).cdf).pvalue > 0.01
    assert stats.kstest(table["log"], stats.loguniform(1e-5, 1e-1).cdf).pvalue > 0.01
    values, counts = np.unique(table["one"], return_counts=True)
    np.testing.assert_array_equal(values, [2, 8, 32])
    assert stats.chisquare(counts).pvalue > 0.01
    # The names are drawn independently of each other, and the key decides.
    assert abs(stats.spearmanr(table["flat"], table["log"]).statistic) < 0.06
    again = pg.random_search(jax.random.key(0), 3000, **draw)
    other = pg.random_search(jax.random.key(1), 3000, **draw)
    assert all((table[name] == again[name]).all() for name in table)
    assert (table["flat"] != other["flat"]).mean() > 0.99


def test_a_table_is_what_sweep_takes():
    table = pg.grid(a=[1.0, 2.0], b=[10.0, 20.0])
    keys = jax.random.split(jax.random.key(0), 3)
    results = pg.sweep(lambda key, row: row["a"] + row["b"], keys, table)
    np.testing.assert_array_equal(results, np.repeat([[11], [21], [12], [22]], 3, axis=1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pg.listed([]), "at least one"),
        (lambda: pg.listed([{}]), "at least one"),
        (lambda: pg.listed([{"a": 1}, {"b": 1}]), "same names"),
        (lambda: pg.listed([{"a": 1e39}]), "a needs finite numbers that fit into float32"),
        (lambda: pg.listed([{"a": "much"}]), "a needs finite numbers"),
        (lambda: pg.grid(a=[1.0, np.nan]), "a needs finite numbers"),
        (lambda: pg.uniform(1, 1), "low < high"),
        (lambda: pg.uniform(0, np.nan), "low < high"),
        (lambda: pg.log_uniform(0, 1), "positive"),
        (lambda: pg.choice(), "choice needs numbers"),
        (lambda: pg.random_search(jax.random.key(0), 0, a=pg.uniform(0, 1)), "at least 1"),
        (lambda: pg.random_search(jax.random.key(0), 3), "at least one name"),
    ],
)
def test_senseless_spaces_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
