"""Estimators of one signature, by hand on an episode and by what they have in common."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.functional.advantages import normalize
from purejaxpg.functional.diagnostics import explained_variance

DISCOUNT = 0.5
# Three steps that terminate, then two that the rollout's end cuts.
REWARD = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
VALUE = jnp.array([10.0, 20.0, 30.0, 40.0, 50.0])
NEXT_VALUE = jnp.array([20.0, 30.0, jnp.nan, 50.0, 60.0])
TERMINATED = jnp.array([False, False, True, False, False])
ROLLOUT = (REWARD, VALUE, NEXT_VALUE, TERMINATED, jnp.zeros(5, bool))
BY_HAND = {
    "td": (pg.td_advantage, {}, [11.0, 17.0, 4.0, 33.0, 46.0]),
    "monte_carlo": (pg.monte_carlo_advantage, {}, [3.0, 4.0, 4.0, 31.0, 46.0]),
    # 1 + 2/2 + 30/4; 2 + 4/2; 4; 8 + 16/2 + 60/4; 16 + 60/2
    "2-step": (pg.n_step_advantage, {"n": 2}, [9.5, 4.0, 4.0, 31.0, 46.0]),
    # lambda = 1/2, backwards: G = r + (V' + G')/4, and the one-step target in the last row of a piece.
    "lambda": (pg.lambda_advantage, {"lambda_": 0.5}, [8.625, 10.5, 4.0, 32.0, 46.0]),
    "gae": (pg.gae_advantage, {"gae_lambda": 0.5}, [8.625, 10.5, 4.0, 32.0, 46.0]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    advantage_fn, options, target = BY_HAND[name]
    advantage, value_target = advantage_fn(*ROLLOUT, discount=DISCOUNT, **options)
    np.testing.assert_allclose(value_target, target, rtol=1e-6)
    np.testing.assert_allclose(advantage, np.array(target) - VALUE, rtol=1e-6)


def test_with_target_of_takes_one_from_each():
    td = partial(pg.td_advantage, discount=DISCOUNT)
    monte_carlo = partial(pg.monte_carlo_advantage, discount=DISCOUNT)
    advantage, target = pg.with_target_of(td, monte_carlo)(*ROLLOUT)
    np.testing.assert_array_equal(advantage, td(*ROLLOUT)[0])
    np.testing.assert_array_equal(target, monte_carlo(*ROLLOUT)[1])


def test_gae_differs_from_lambda_returns_where_next_value_is_not_the_next_value():
    """After a time limit V(next_obs) is of another state than the next row's: only GAE uses both."""
    truncated = jnp.array([False, True, False, False, False])
    rollout = (REWARD, VALUE, jnp.full(5, 7.0), jnp.zeros(5, bool), truncated)
    gae, _ = pg.gae_advantage(*rollout, discount=DISCOUNT, gae_lambda=0.5)
    delta = REWARD + DISCOUNT * 7.0 - VALUE
    np.testing.assert_allclose(gae[0], delta[0] + 0.25 * delta[1], rtol=1e-6)
    np.testing.assert_allclose(gae[1], delta[1], rtol=1e-6)
    returns, _ = pg.lambda_advantage(*rollout, discount=DISCOUNT, lambda_=0.5)
    assert not np.isclose(returns[0], gae[0])


def test_real_hyperparameters_are_traced():
    for advantage_fn, options, _ in BY_HAND.values():
        reals = {k: v for k, v in options.items() if k != "n"} | {"discount": DISCOUNT}
        counts = {k: v for k, v in options.items() if k == "n"}

        def many(reals, advantage_fn=advantage_fn, counts=counts):
            return advantage_fn(*ROLLOUT, **counts, **reals)[0]

        stacked = {k: jnp.array([0.3, v]) for k, v in reals.items()}
        result = jax.vmap(many)(stacked)
        np.testing.assert_allclose(result[1], many(reals), rtol=1e-6)
        assert not np.allclose(result[0], result[1])


@pytest.mark.parametrize("excluded", [1e8, np.inf, np.nan])
def test_normalisation_is_of_the_samples_that_count(excluded):
    """Whatever the others are, the first of all included."""
    where = jnp.array([False, True, True, False, True])
    found = normalize(jnp.array([excluded, 1.0, 2.0, excluded, 3.0]), where)
    np.testing.assert_allclose(found[where], np.array([-1.0, 0.0, 1.0]) / np.sqrt(2 / 3), rtol=1e-6)
    value = jnp.array([excluded, 1.0, 1.0, 0.0, 2.0])
    target = jnp.array([0.0, 1.0, 2.0, excluded, 3.0])
    # errors 0, 1 and 1 of targets 1, 2 and 3: 1 - (2 / 9) / (2 / 3)
    np.testing.assert_allclose(explained_variance(value, target, where), 2 / 3, rtol=1e-6)
    assert float(explained_variance(value, target, jnp.zeros(5, bool))) == 0.0
