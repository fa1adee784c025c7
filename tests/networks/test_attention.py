"""The attention cell against its equation in NumPy, over the last inputs of an episode and no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

import purejaxpg as pg
from tests.layers import layers

WINDOW, FEATURES, HEADS, T = 3, 6, 2, 7
CELL = pg.AttentionCell(FEATURES, window=WINDOW, num_heads=HEADS)


@jax.jit
def run(params, inputs):
    """Outputs `[T, features]` from an empty memory."""
    memory, outputs = CELL.initialize_carry(jax.random.key(0), (1, 4)), []
    for x in inputs:
        memory, output = CELL.apply(params, memory, x[None])
        outputs.append(output[0])
    return jnp.stack(outputs)


@pytest.fixture(scope="module")
def params():
    """Drawn anew, so that no scale is 1 and no bias 0."""
    memory = CELL.initialize_carry(jax.random.key(0), (1, 4))
    shapes = CELL.init(jax.random.key(1), memory, jnp.zeros((1, 4)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), jnp.float32), shapes)


def test_output_is_that_of_the_equation(params):
    weights = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    inputs = np.random.default_rng(1).normal(size=(T, 4))

    attention = weights["MultiHeadDotProductAttention_0"]
    dense, norm, project = layers(weights)

    x = dense("Dense_0", inputs)
    found = run(params, jnp.asarray(inputs, jnp.float32))
    for t in range(T):
        past = range(max(0, t - WINDOW + 1), t + 1)
        coded = np.stack([norm("LayerNorm_0", x[s]) + weights["age_code"][t - s] for s in past])
        query, key, value = (project(name, coded) for name in ("query", "key", "value"))
        scores = np.einsum("hd,shd->hs", query[-1], key) / np.sqrt(FEATURES / HEADS)
        mixed = np.einsum("hs,shd->hd", softmax(scores, axis=-1), value)
        out = np.einsum("hd,hdf->f", mixed, attention["out"]["kernel"]) + attention["out"]["bias"]
        hidden = x[t] + out
        wide = dense("Dense_1", norm("LayerNorm_1", hidden))
        gelu = wide / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
        expected = norm("LayerNorm_2", hidden + dense("Dense_2", gelu))
        np.testing.assert_allclose(found[t], expected, rtol=1e-4, atol=1e-4)


def test_only_the_window_is_seen(params):
    inputs = jax.random.normal(jax.random.key(2), (T, 4))
    by_inputs = jax.grad(lambda inputs: run(params, inputs)[-1] @ jnp.arange(1.0, FEATURES + 1))(
        inputs
    )
    size = np.abs(by_inputs).max(axis=1)
    assert (size[:-WINDOW] == 0).all()  # exactly
    assert (size[-WINDOW:] > 1e-4).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"window": 0}, "window must be at least 1, not 0"),
        ({"num_heads": 4}, "features=6 must be a multiple of num_heads=4"),
    ],
)
def test_impossible_sizes_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        pg.AttentionCell(**{"features": 6, "window": 3, "num_heads": 2, **arguments})
