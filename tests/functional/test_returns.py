"""Every estimator against its definition in NumPy, rlax, hand-computed cases and identities."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from purejaxpg.functional import returns

T, B = 7, 3  # fixed, so that nothing recompiles
flags = arrays(bool, (T, B), elements=st.booleans())
unit = st.floats(0.0, 1.0, width=32)
seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=50, deadline=None)

td_targets = jax.jit(returns.td_targets)
discounted_returns = jax.jit(returns.discounted_returns)
n_step_returns = jax.jit(returns.n_step_returns, static_argnames="n")
lambda_returns = jax.jit(returns.lambda_returns)
gae = jax.jit(returns.gae)

# The definitions, for one environment, in float64. `_end` is the first row u >= t that ends an
# episode or the rollout; `_n_step` is the sum of the rewards t, ..., t + n - 1, cut short there.


def _end(t, terminated, truncated):
    return next(u for u in range(t, len(terminated)) if _is_cut(u, terminated, truncated))


def _is_cut(u, terminated, truncated):
    return terminated[u] or truncated[u] or u == len(terminated) - 1


def _n_step(t, reward, next_value, terminated, truncated, discount, n):
    last = min(t + n - 1, _end(t, terminated, truncated))
    total = sum(discount ** (u - t) * reward[u] for u in range(t, last + 1))
    if terminated[last]:
        return total
    return total + discount ** (last - t + 1) * next_value[last]


def _define_td(t, reward, next_value, terminated, truncated, discount):
    return _n_step(t, reward, next_value, terminated, truncated, discount, 1)


def _define_discounted(t, reward, next_value, terminated, truncated, discount):
    return _n_step(t, reward, next_value, terminated, truncated, discount, len(reward))


def _define_lambda(t, reward, next_value, terminated, truncated, discount, lambda_):
    steps = _end(t, terminated, truncated) - t + 1
    n_step = [
        _n_step(t, reward, next_value, terminated, truncated, discount, n)
        for n in range(1, steps + 1)
    ]
    mixture = sum((1 - lambda_) * lambda_ ** (n - 1) * n_step[n - 1] for n in range(1, steps))
    return mixture + lambda_ ** (steps - 1) * n_step[-1]


def _define_gae(t, reward, value, next_value, terminated, truncated, discount, gae_lambda):
    total = 0.0
    for u in range(t, _end(t, terminated, truncated) + 1):
        bootstrap = 0.0 if terminated[u] else next_value[u]
        delta = reward[u] + discount * bootstrap - value[u]
        total += (discount * gae_lambda) ** (u - t) * delta
    return total


def define(definition, *arrays, **hyperparameters):
    """Apply a definition to every row of every column of `[T, ...]` arrays."""
    arrays = [np.asarray(a) for a in arrays]
    arrays = [a if a.dtype == bool else a.astype(np.float64) for a in arrays]
    columns = [a.reshape(len(a), -1) for a in arrays]
    result = np.empty(columns[0].shape)
    for b in range(result.shape[1]):
        for t in range(len(result)):
            result[t, b] = definition(t, *(c[:, b] for c in columns), **hyperparameters)
    return result.reshape(arrays[0].shape)


def draw(seed, number, shape=(T, B)):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(number)]


def close(actual, expected):
    """Equal to 1e-5 of the largest return."""
    assert actual.dtype == jnp.float32
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# Against the definitions.


@given(seeds, flags, flags, unit)
@quick
def test_td_targets_definition(seed, terminated, truncated, discount):
    reward, next_value = draw(seed, 2)
    expected = define(_define_td, reward, next_value, terminated, truncated, discount=discount)
    close(td_targets(reward, next_value, terminated, discount=discount), expected)


@given(seeds, flags, flags, unit)
@quick
def test_discounted_returns_definition(seed, terminated, truncated, discount):
    data = (*draw(seed, 2), terminated, truncated)
    expected = define(_define_discounted, *data, discount=discount)
    close(discounted_returns(*data, discount=discount), expected)


@given(seeds, flags, flags, unit, st.sampled_from([1, 2, 3, T - 1, T, T + 5]))
@quick
def test_n_step_returns_definition(seed, terminated, truncated, discount, n):
    data = (*draw(seed, 2), terminated, truncated)
    expected = define(_n_step, *data, discount=discount, n=n)
    close(n_step_returns(*data, discount=discount, n=n), expected)


@given(seeds, flags, flags, unit, unit)
@quick
def test_lambda_returns_definition(seed, terminated, truncated, discount, lambda_):
    data = (*draw(seed, 2), terminated, truncated)
    expected = define(_define_lambda, *data, discount=discount, lambda_=lambda_)
    close(lambda_returns(*data, discount=discount, lambda_=lambda_), expected)


@given(seeds, flags, flags, unit, unit)
@quick
def test_gae_definition(seed, terminated, truncated, discount, gae_lambda):
    data = (*draw(seed, 3), terminated, truncated)
    expected = define(_define_gae, *data, discount=discount, gae_lambda=gae_lambda)
    close(gae(*data, discount=discount, gae_lambda=gae_lambda), expected)


# Against rlax, which knows terminations only and expects next_value[t] = value[t + 1].


@jax.jit
@partial(jax.vmap, in_axes=1, out_axes=1)
def _rlax_lambda(reward, discount, value, lambda_):
    return rlax.lambda_returns(reward, discount, value, lambda_)


@jax.jit
@partial(jax.vmap, in_axes=1, out_axes=1)
def _rlax_discounted(reward, discount, value):
    return rlax.discounted_returns(reward, discount, value)


@jax.jit
@partial(jax.vmap, in_axes=1, out_axes=1)
def _rlax_gae(reward, discount, lambda_, value):
    return rlax.truncated_generalized_advantage_estimation(reward, discount, lambda_, value)


@partial(jax.jit, static_argnums=3)
def _rlax_n_step(reward, discount, value, n):
    f = partial(rlax.n_step_bootstrapped_returns, n=n)
    return jax.vmap(f, in_axes=1, out_axes=1)(reward, discount, value)


@given(seeds, flags, unit, unit)
@quick
def test_rlax(seed, terminated, discount, lambda_):
    (reward,) = draw(seed, 1)
    (values,) = draw(seed + 1, 1, (T + 1, B))
    discounts = (discount * (1.0 - terminated)).astype(np.float32)
    lambdas = np.full((T, B), lambda_, np.float32)
    data = (reward, values[1:], terminated, np.zeros_like(terminated))

    close(
        lambda_returns(*data, discount=discount, lambda_=lambda_),
        _rlax_lambda(reward, discounts, values[1:], lambdas),
    )
    close(
        discounted_returns(*data, discount=discount),
        _rlax_discounted(reward, discounts, values[1:]),
    )
    close(
        gae(reward, values[:-1], *data[1:], discount=discount, gae_lambda=lambda_),
        _rlax_gae(reward, discounts, lambdas, values),
    )
    for n in (1, 3, T):
        close(
            n_step_returns(*data, discount=discount, n=n),
            _rlax_n_step(reward, discounts, values[1:], n),
        )


# Identities.


@given(seeds, flags, flags, unit, unit)
@quick
def test_gae_plus_value_is_lambda_return(seed, terminated, truncated, discount, lambda_):
    reward, value, next_value = draw(seed, 3)  # next_value keeps its own numbers at cut rows
    uncut = ~(terminated | truncated)[:-1]
    next_value[:-1] = np.where(uncut, value[1:], next_value[:-1])
    data = (next_value, terminated, truncated)
    advantage = gae(reward, value, *data, discount=discount, gae_lambda=lambda_)
    close(advantage + value, lambda_returns(reward, *data, discount=discount, lambda_=lambda_))


@given(seeds, flags, flags, unit)
@quick
def test_limits_of_lambda_and_n(seed, terminated, truncated, discount):
    data = (*draw(seed, 2), terminated, truncated)
    td = td_targets(*data[:3], discount=discount)
    monte_carlo = discounted_returns(*data, discount=discount)
    close(lambda_returns(*data, discount=discount, lambda_=0.0), td)
    close(lambda_returns(*data, discount=discount, lambda_=1.0), monte_carlo)
    close(n_step_returns(*data, discount=discount, n=1), td)
    for n in (T, T + 5):
        close(n_step_returns(*data, discount=discount, n=n), monte_carlo)


@given(seeds, flags, flags, unit)
@quick
def test_gae_limits(seed, terminated, truncated, discount):
    reward, value, *rest = *draw(seed, 3), terminated, truncated
    td = td_targets(reward, *rest[:2], discount=discount)
    close(gae(reward, value, *rest, discount=discount, gae_lambda=0.0), td - value)
    rest[0][:-1] = np.where((terminated | truncated)[:-1], rest[0][:-1], value[1:])
    monte_carlo = discounted_returns(reward, *rest, discount=discount)
    close(gae(reward, value, *rest, discount=discount, gae_lambda=1.0), monte_carlo - value)


def test_discount_is_a_death_state():
    """A discount equals dying after every step with probability 1 - discount (exactly)."""
    discount = 0.8
    reward, next_value = draw(0, 2, (T,))
    # Column d < T dies at step d, column T survives.
    terminated = np.eye(T, T + 1, dtype=bool)
    probability = np.append((1 - discount) * discount ** np.arange(T), discount**T)
    tile = partial(np.tile, reps=(T + 1, 1))
    undiscounted = returns.discounted_returns(
        tile(reward).T, tile(next_value).T, terminated, np.zeros_like(terminated), discount=1.0
    )
    no = np.zeros(T, bool)
    discounted = returns.discounted_returns(reward, next_value, no, no, discount=discount)
    np.testing.assert_allclose(undiscounted[0] @ probability, discounted[0], rtol=1e-5)


# By hand: discount 1/2, lambda 1/2, three steps with rewards 1, 2, 4 and next values 10, 20, 40.

HAND = {
    # terminated, truncated: td, discounted, two-step, lambda, gae with value (3, 5, 7)
    "rollout end": (
        [0, 0, 0],
        [0, 0, 0],
        [1 + 5, 2 + 10, 4 + 20],
        [1 + 1 + 1 + 5, 2 + 2 + 10, 4 + 20],
        [1 + 1 + 5, 2 + 2 + 10, 4 + 20],
        # G2 = 24; G1 = 2 + (20/2 + 24/2) / 2 = 13; G0 = 1 + (10/2 + 13/2) / 2
        [6.75, 13.0, 24.0],
        # delta = (3, 7, 17); A1 = 7 + 17/4; A0 = 3 + 11.25/4
        [5.8125, 11.25, 17.0],
    ),
    "terminated": (
        [0, 1, 0],
        [0, 0, 0],
        [6, 2, 24],
        [1 + 1, 2, 24],
        [1 + 1, 2, 24],
        [1 + (10 / 2 + 2 / 2) / 2, 2, 24],
        # delta = (3, -3, 17)
        [3 - 3 / 4, -3, 17],
    ),
    "truncated": (
        [0, 0, 0],
        [0, 1, 0],
        [6, 12, 24],
        [1 + 1 + 5, 2 + 10, 24],
        [1 + 1 + 5, 2 + 10, 24],
        [1 + (10 / 2 + 12 / 2) / 2, 12, 24],
        # delta = (3, 7, 17)
        [3 + 7 / 4, 7, 17],
    ),
    "both, terminated wins": (
        [0, 1, 0],
        [0, 1, 0],
        [6, 2, 24],
        [1 + 1, 2, 24],
        [1 + 1, 2, 24],
        [1 + (10 / 2 + 2 / 2) / 2, 2, 24],
        [3 - 3 / 4, -3, 17],
    ),
    "terminated at the rollout end": (
        [0, 0, 1],
        [0, 0, 0],
        [6, 12, 4],
        [1 + 1 + 1, 2 + 2, 4],
        [1 + 1 + 5, 2 + 2, 4],
        # G1 = 2 + (20/2 + 4/2) / 2 = 8; G0 = 1 + (10/2 + 8/2) / 2
        [5.5, 8, 4],
        # delta = (3, 7, -3)
        [3 + 6.25 / 4, 7 - 3 / 4, -3],
    ),
}


@pytest.mark.parametrize("dtype", [bool, np.float32, np.int32])
@pytest.mark.parametrize("case", HAND)
def test_by_hand(case, dtype):
    terminated, truncated, td, discounted, two_step, lambda_, advantage = HAND[case]
    reward = np.array([1, 2, 4], np.float32)
    value = np.array([3, 5, 7], np.float32)
    next_value = np.array([10, 20, 40], np.float32)
    flags = np.array(terminated, dtype), np.array(truncated, dtype)
    data = (reward, next_value, *flags)
    close(td_targets(*data[:3], discount=0.5), td)
    close(discounted_returns(*data, discount=0.5), discounted)
    close(n_step_returns(*data, discount=0.5, n=2), two_step)
    close(lambda_returns(*data, discount=0.5, lambda_=0.5), lambda_)
    close(gae(reward, value, *data[1:], discount=0.5, gae_lambda=0.5), advantage)


def test_n_step_sum_ends_at_t_plus_n_minus_1():
    """The slide's formula also adds discount^n r_{t+n}; a reward at t + n must not count."""
    no = np.zeros(5, bool)
    reward = np.array([0, 0, 0, 1, 0], np.float32)
    result = returns.n_step_returns(reward, np.zeros(5, np.float32), no, no, discount=0.5, n=3)
    np.testing.assert_array_equal(result, [0, 0.25, 0.5, 1, 0])
    next_value = np.array([0, 0, 8, 0, 0], np.float32)  # next_value[2] = V(s_3), bootstraps G_0
    result = returns.n_step_returns(0 * reward, next_value, no, no, discount=0.5, n=3)
    np.testing.assert_array_equal(result, [1, 0, 0, 0, 0])


# All, as (reward, value, next_value, terminated, truncated, discount, lambda) -> [T, ...].

ESTIMATORS = {
    "td_targets": lambda r, v, nv, te, tr, d, x: returns.td_targets(r, nv, te, discount=d),
    "discounted_returns": lambda r, v, nv, te, tr, d, x: returns.discounted_returns(
        r, nv, te, tr, discount=d
    ),
    "n_step_returns": lambda r, v, nv, te, tr, d, x: returns.n_step_returns(
        r, nv, te, tr, discount=d, n=3
    ),
    "lambda_returns": lambda r, v, nv, te, tr, d, x: returns.lambda_returns(
        r, nv, te, tr, discount=d, lambda_=x
    ),
    "gae": lambda r, v, nv, te, tr, d, x: returns.gae(r, v, nv, te, tr, discount=d, gae_lambda=x),
}
every_estimator = pytest.mark.parametrize("estimate", ESTIMATORS.values(), ids=ESTIMATORS.keys())


def sample(shape, seed=0):
    rng = np.random.default_rng(seed)
    return *draw(seed, 3, shape), rng.random(shape) < 0.2, rng.random(shape) < 0.2


@every_estimator
@pytest.mark.parametrize("batch", [(), (B,), (2, 3)])
def test_trailing_shapes_do_not_mix(estimate, batch):
    data = sample((T, *batch))
    estimate = jax.jit(estimate)
    result = estimate(*data, 0.9, 0.8)
    assert result.shape == (T, *batch)
    for index in np.ndindex(*batch):
        column = (slice(None), *index)
        close(result[column], estimate(*(x[column] for x in data), 0.9, 0.8))


@every_estimator
def test_jit_and_vmap_over_hyperparameters(estimate):
    data = sample((T, B))
    discounts, others = jnp.array([0.0, 0.5, 1.0]), jnp.array([1.0, 0.7, 0.0])
    batched = jax.jit(jax.vmap(partial(estimate, *data)))(discounts, others)
    for i in range(3):
        expected = estimate(*data, float(discounts[i]), float(others[i]))
        close(batched[i], expected)
        close(jax.jit(estimate)(*data, discounts[i], others[i]), expected)


@every_estimator
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_next_value_is_ignored_where_terminated(estimate, bad):
    reward, value, next_value, terminated, truncated = sample((T, B))
    terminated[3, 0] = terminated[-1, 1] = truncated[3, 0] = True
    ignored = np.where(terminated, np.float32(bad), next_value)

    @jax.jit
    def f(next_value, *hyperparameters):
        data = (reward, value, next_value, terminated, truncated)
        return estimate(*data, *hyperparameters)

    np.testing.assert_array_equal(f(ignored, 0.9, 0.8), f(next_value, 0.9, 0.8))
    gradient = jax.jit(jax.grad(lambda *x: f(*x).sum(), argnums=(0, 1, 2)))
    for a, b in zip(gradient(ignored, 0.9, 0.8), gradient(next_value, 0.9, 0.8), strict=True):
        np.testing.assert_array_equal(a, b)


@every_estimator
def test_a_bad_value_stays_in_its_episode(estimate):
    """One environment's NaN reaches neither its other episodes nor another environment."""
    reward, value, next_value, _, _ = sample((T, B))
    terminated, truncated = np.zeros((2, T, B), bool)
    truncated[[2, 4], 0] = True
    estimate = jax.jit(estimate)
    broken = next_value.copy()
    broken[4, 0] = np.nan
    result = estimate(reward, value, broken, terminated, truncated, 0.9, 0.8)
    clean = estimate(reward, value, next_value, terminated, truncated, 0.9, 0.8)
    other = np.ones((T, B), bool)
    other[3:5, 0] = False
    assert np.isnan(result[4, 0])
    np.testing.assert_array_equal(result[other], clean[other])


def test_monte_carlo_uses_next_value_only_where_cut():
    reward, _, next_value, terminated, truncated = sample((T, B))
    cut = terminated | truncated
    cut[-1] = True
    data = (terminated, truncated)
    result = returns.discounted_returns(
        reward, np.where(cut, next_value, np.nan), *data, discount=0.9
    )
    close(result, returns.discounted_returns(reward, next_value, *data, discount=0.9))


def test_td_targets_of_one_transition():
    assert returns.td_targets(
        jnp.float32(1), jnp.float32(4), jnp.asarray(False), discount=0.5
    ) == pytest.approx(3.0)


@pytest.mark.parametrize("n", [0, -1, 2.0, jnp.array(2), None])
def test_n_must_be_a_static_positive_integer(n):
    reward, _, next_value, terminated, truncated = sample((T, B))
    words = "n must be at least 1" if isinstance(n, int) else "n must be an int, not"
    with pytest.raises((TypeError, ValueError), match=words):
        returns.n_step_returns(reward, next_value, terminated, truncated, discount=0.9, n=n)


@every_estimator
def test_shapes_must_agree(estimate):
    reward, *data = sample((T, B))
    with pytest.raises(ValueError, match="must have the same shape: reward"):
        estimate(reward[:, 0], *data, 0.9, 0.8)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_hyperparameters_are_keyword_only(name):
    reward, value, next_value, terminated, truncated = sample((T, B))
    data = {
        "td_targets": (reward, next_value, terminated),
        "gae": (reward, value, next_value, terminated, truncated),
    }.get(name, (reward, next_value, terminated, truncated))
    with pytest.raises(TypeError, match="positional"):
        getattr(returns, name)(*data, 0.9, 0.9)
