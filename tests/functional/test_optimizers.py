"""Adam against its algorithm in NumPy (Kingma and Ba 2015, algorithm 1), schedules by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from purejaxpg.functional.optimizers import adam
from purejaxpg.functional.schedules import adapt_kl_coef, linear_decay, resolve

PARAMS = {"a": jnp.array([1.0, -2.0]), "b": {"c": jnp.array([[0.5]])}}
# Norms 13, 0.13 and 6.5: the first and the last are clipped to 0.5.
GRADS = [
    {"a": jnp.array([3.0, -4.0]), "b": {"c": jnp.array([[12.0]])}},
    {"a": jnp.array([0.03, 0.04]), "b": {"c": jnp.array([[-0.12]])}},
    {"a": jnp.array([-1.5, 2.0]), "b": {"c": jnp.array([[6.0]])}},
]


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def numpy_adam(learning_rates, *, max_grad_norm=0.5, eps=1e-5, b1=0.9, b2=0.999):
    """The parameters after each step; the gradient is clipped by the norm of all parameters."""
    x, m, v, path = flat(PARAMS), 0.0, 0.0, []
    for t, (grads, rate) in enumerate(zip(GRADS, learning_rates, strict=True), start=1):
        g = flat(grads)
        g *= min(1.0, max_grad_norm / np.linalg.norm(g))
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        x = x - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        path.append(x)
    return np.stack(path)


def run(optimizer):
    """The parameters after each of three steps."""
    params, state, path = PARAMS, optimizer.init(PARAMS), []
    for grads in GRADS:
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        path.append(jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)]))
    return jnp.stack(path)


def test_the_norms_are_those_claimed():
    norms = [np.linalg.norm(flat(grads)) for grads in GRADS]
    np.testing.assert_allclose(norms, [13.0, 0.13, 6.5], rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"max_grad_norm": 2.0}, {"max_grad_norm": 1e9}, {"eps": 0.1}]
)
def test_adam(options):
    found = run(adam(0.01, **options))
    np.testing.assert_allclose(found, numpy_adam([0.01] * 3, **options), rtol=1e-5)


def test_adam_decays():
    """Over 2 steps: at the full rate, at half of it, then not at all."""
    found = run(adam(0.01, decay_steps=2))
    np.testing.assert_allclose(found, numpy_adam([0.01, 0.005, 0.0]), rtol=1e-5)
    np.testing.assert_array_equal(found[2], found[1])


@pytest.mark.parametrize("decay_steps", [None, 4])
def test_traced_hyperparameters(decay_steps):
    rates, norms = jnp.array([0.1, 0.01, 0.001]), jnp.array([0.5, 5.0, 50.0])

    def train(rate, norm):
        return run(adam(rate, max_grad_norm=norm, decay_steps=decay_steps))

    together = jax.jit(jax.vmap(train))(rates, norms)
    for i in range(3):
        alone = train(float(rates[i]), float(norms[i]))
        np.testing.assert_allclose(together[i], alone, rtol=1e-5)
    assert len(np.unique(together[:, 0, 0])) == 3


def test_linear_decay():
    schedule = linear_decay(3.0, 10)
    found = [schedule(jnp.array(count)) for count in (0, 1, 5, 9, 10, 11, 1000)]
    np.testing.assert_allclose(found, [3.0, 2.7, 1.5, 0.3, 0.0, 0.0, 0.0], rtol=1e-6, atol=1e-7)


def test_linear_decay_of_a_traced_start():
    found = jax.jit(jax.vmap(lambda start: linear_decay(start, 4)(jnp.array(1))))(jnp.arange(3.0))
    np.testing.assert_allclose(found, [0.0, 0.75, 1.5], rtol=1e-6)


def test_resolve():
    assert resolve(0.2, jnp.array(3)) == 0.2
    assert resolve(jnp.array(0.5), jnp.array(3)) == 0.5
    assert resolve(lambda update: 2.0 * update, jnp.array(3)) == 6.0
    assert resolve(linear_decay(1.0, 4), jnp.array(3)) == 0.25
    found = jax.vmap(lambda coefficient: resolve(coefficient, jnp.array(0)))(jnp.arange(3.0))
    np.testing.assert_array_equal(found, [0.0, 1.0, 2.0])


def test_kl_coef_by_hand():
    """Section 4 of arXiv:1707.06347 at target 0.02: bounds at 0.03 and 0.0133."""
    kl = jnp.array([0.0, 0.013, 0.0134, 0.02, 0.0299, 0.0301, jnp.inf, jnp.nan])
    coef = adapt_kl_coef(jnp.full(8, 3.0), kl, target=0.02)
    np.testing.assert_array_equal(coef, [1.5, 1.5, 3, 3, 3, 6, 6, 3])
    assert coef.dtype == jnp.float32
