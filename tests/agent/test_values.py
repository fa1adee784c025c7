"""Values of successors against the full pass that they save; the rest against NumPy in float64."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from purejaxpg.agent.values import fit_value, state_values
from purejaxpg.functional.advantages import normalize
from purejaxpg.functional.diagnostics import explained_variance
from purejaxpg.types import Transition

T, B, F = 7, 3, 2  # fixed, so that nothing recompiles
flags = arrays(bool, (T, B), elements=st.booleans())
quick = settings(max_examples=100, deadline=None)


def value_fn(obs):
    return jnp.sin(3.0 * obs[..., 0]) + obs[..., 1] ** 2


def rollout(seed, terminated, truncated):
    """Observations that are different everywhere, save that next_obs is obs where an episode goes on."""
    rng = np.random.default_rng(seed)
    next_obs = rng.normal(size=(T, B, F)).astype(np.float32)
    obs = rng.normal(size=(T, B, F)).astype(np.float32)
    going_on = ~(terminated | truncated)[:-1, :, None]
    obs[1:] = np.where(going_on, next_obs[:-1], obs[1:])
    start = np.concatenate([np.ones((1, B), bool), (terminated | truncated)[:-1]])
    zeros = np.zeros((T, B), np.float32)
    return Transition(obs, zeros, zeros, terminated, truncated, next_obs, start, {})


@jax.jit
def both(transitions):
    return state_values(value_fn, transitions), value_fn(transitions.next_obs)


def check(seed, terminated, truncated):
    transitions = rollout(seed, terminated, truncated)
    (value, next_value), full = both(transitions)
    assert value.shape == next_value.shape == (T, B)
    np.testing.assert_allclose(value, value_fn(transitions.obs), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        np.where(terminated, 0, next_value), np.where(terminated, 0, full), rtol=1e-5, atol=1e-6
    )


@given(st.integers(0, 2**32 - 1), flags, flags)
@quick
def test_state_values_equal_the_full_pass(seed, terminated, truncated):
    check(seed, terminated, truncated)


@pytest.mark.parametrize("terminated", [False, True, "some"])
@pytest.mark.parametrize("truncated", [False, True, "some"])
def test_state_values_with_flags_all_alike(terminated, truncated):
    some = np.random.default_rng(0).random((T, B)) < 0.3
    full = lambda flag: some if flag == "some" else np.full((T, B), flag)  # noqa: E731
    check(1, full(terminated), full(truncated))


@pytest.mark.parametrize("row", range(T))
@pytest.mark.parametrize("column", [0, B - 1])
def test_state_values_with_one_truncation(row, column):
    truncated = np.zeros((T, B), bool)
    truncated[row, column] = True
    check(2, np.zeros((T, B), bool), truncated)


def test_state_values_cost_one_pass_and_chunks():
    sizes = []

    def counted(obs):
        sizes.append(obs.shape)
        return value_fn(obs)

    transitions = rollout(0, np.zeros((T, B), bool), np.ones((T, B), bool))
    jax.eval_shape(lambda transitions: state_values(counted, transitions), transitions)
    assert set(sizes) == {(T + 1, B, F), (1, B, F)}


def test_state_values_of_many_seeds_at_once():
    rng = np.random.default_rng(3)
    terminated, truncated = rng.random((2, 5, T, B)) < np.array([0.2, 0.4])[:, None, None, None]
    each = [rollout(i, terminated[i], truncated[i]) for i in range(5)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *each)
    (_, next_value), full = jax.jit(jax.vmap(both))(together)
    expected = np.where(terminated, 0, full)
    np.testing.assert_allclose(np.where(terminated, 0, next_value), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_explained_variance(seed):
    rng = np.random.default_rng(seed)
    value, target = rng.normal(size=(2, T, B)) + np.array([2.0, -3.0])[:, None, None]
    value += seed * target  # from useless to good
    expected = 1 - np.var(target - value) / np.var(target)
    found = explained_variance(jnp.float32(value), jnp.float32(target))
    assert found.shape == ()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_explained_variance_of_special_cases():
    target = jnp.array([[1.0, 2.0], [4.0, -3.0]])
    assert explained_variance(target, target) == 1
    assert explained_variance(target + 5.0, target) == 1  # a bias does not count
    assert explained_variance(jnp.zeros((2, 2)), target) == 0
    np.testing.assert_allclose(explained_variance(-target, target), -3.0, rtol=1e-6)
    np.testing.assert_allclose(explained_variance(0.5 * target, target), 0.75, rtol=1e-6)


# 0.1 and its like: their mean in float32 may not be the number itself.
constants = pytest.mark.parametrize("constant", [0.0, 2.0, 0.1, 100.1, -7.7, 1e6 + 0.3])


@constants
@pytest.mark.parametrize("shape", [(T, B), (16, 8), (1, 1000)])
def test_constants(constant, shape):
    target = jnp.full(shape, constant, jnp.float32)
    value = jnp.arange(target.size, dtype=jnp.float32).reshape(shape)
    assert explained_variance(value, target) == 0
    assert explained_variance(target, target) == 0
    np.testing.assert_array_equal(normalize(target), np.zeros(shape))
    np.testing.assert_array_equal(jax.jit(normalize)(target), np.zeros(shape))


@pytest.mark.parametrize("shape", [(T, B), (64,)])
def test_normalize(shape):
    advantage = 3.0 + 0.7 * np.random.default_rng(0).normal(size=shape)
    found = normalize(jnp.float32(advantage))
    expected = (advantage - advantage.mean()) / advantage.std()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([found.mean(), found.std()], [0, 1], atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_fit_value_finds_the_least_squares_solution(weighted):
    rng = np.random.default_rng(1)
    obs, target = rng.normal(size=(T, B, F)), rng.normal(size=(T, B))
    weight = rng.integers(0, 2, size=(T, B)) if weighted else np.ones((T, B))
    root = np.sqrt(weight.reshape(-1, 1))
    expected, *_ = np.linalg.lstsq(
        root * obs.reshape(-1, F), root[:, 0] * target.reshape(-1), rcond=None
    )
    optimizer = optax.sgd(0.3)
    params = jnp.zeros(F)
    params, _, loss = jax.jit(
        lambda key, *data: fit_value(
            key, lambda w, x: x @ w, optimizer, params, optimizer.init(params), (data[0],), *data[1:],
            num_epochs=300, num_minibatches=1,
        )
    )(jax.random.key(0), *(jnp.asarray(x, jnp.float32) for x in (obs, target, weight)))  # fmt: skip
    np.testing.assert_allclose(params, expected, rtol=1e-4, atol=1e-5)
    residual = np.mean(weight * (obs @ expected - target) ** 2) / 2
    # The mean over a run that starts at zero weights and spends most of its time at the solution.
    assert residual <= loss <= np.mean(weight * target**2) / 2


def test_fit_value_takes_every_sample_once_per_epoch():
    targets = jnp.array([[0.0, 4.0], [8.0, 12.0]])
    optimizer = optax.sgd(0.25)
    params, _, loss = fit_value(
        jax.random.key(0), lambda w, x: w + 0 * x, optimizer, jnp.zeros(()),
        optimizer.init(jnp.zeros(())), (jnp.zeros((2, 2)),), targets, num_epochs=1, num_minibatches=4,
    )  # fmt: skip
    orders = set()
    for order in permutations(np.asarray(targets).reshape(-1)):
        w, losses = 0.0, []
        for y in order:
            losses.append((w - y) ** 2 / 2)
            w += 0.25 * (y - w)
        orders.add((w, np.mean(losses)))
    assert (float(params), float(loss)) in orders


@pytest.mark.parametrize("shape", [(T,), (T, 1), (T, B, 1), (T + 1, B), (1, B)])
@pytest.mark.parametrize("wrong", ["target", "weight", "inputs"])
def test_fit_value_refuses_what_has_another_shape(wrong, shape):
    if wrong == "inputs" and shape[:2] == (T, B):
        shape = (B, T)
    given = {"inputs": jnp.ones((T, B)), "target": jnp.ones((T, B)), "weight": jnp.ones((T, B))}
    given[wrong] = jnp.ones(shape)
    sgd = optax.sgd(0.1)
    with pytest.raises(ValueError, match=r"must have the same shape|need the same first two axes"):
        fit_value(
            jax.random.key(0), lambda w, x: w * x, sgd, jnp.zeros(()), sgd.init(jnp.zeros(())),
            (given["inputs"],), given["target"], given["weight"], num_epochs=1, num_minibatches=1,
        )  # fmt: skip
