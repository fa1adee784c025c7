"""Eligibility traces against the sums that define them, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from purejaxpg.functional.eligibility import accumulate, weighted_mean

T, B, F = 6, 3, 2


@jax.jit
def run(obs, start, decay):
    """All traces of V(obs) = w . obs + b over a rollout; gradients are obs and 1."""
    params = {"w": jnp.zeros(F), "b": jnp.zeros(())}

    def value(params, obs):
        return obs @ params["w"] + params["b"]

    def one(z, row):
        obs, start = row
        z = accumulate(value, params, z, obs[None], start[None], decay=decay)
        return z, z

    before = jax.tree.map(lambda x: jnp.full((B, *x.shape), jnp.nan), params)
    return jax.lax.scan(one, before, (obs, start))[1]


@given(
    st.integers(0, 2**32 - 1),
    arrays(bool, (T, B), elements=st.booleans()),
    st.floats(0, 1, width=32),
)
@settings(max_examples=50, deadline=None)
def test_traces_are_decayed_sums_since_the_episode_began(seed, start, decay):
    start[0] = True  # what was before it (NaN here) must not matter
    obs = np.random.default_rng(seed).normal(size=(T, B, F)).astype(np.float32)
    traces = run(obs, start, decay)
    for b in range(B):
        for t in range(T):
            began = max(k for k in range(t + 1) if start[k, b])
            powers = np.power(float(decay), t - np.arange(began, t + 1))  # 0^0 = 1
            expected = (powers[:, None] * obs[began : t + 1, b]).sum(axis=0)
            np.testing.assert_allclose(traces["w"][t, b], expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(traces["b"][t, b], powers.sum(), rtol=1e-4)


def test_weighted_mean():
    traces = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])}
    mean = weighted_mean(traces, jnp.array([[1.0, 0.0, -2.0]]))
    np.testing.assert_allclose(mean["w"], [(1 - 10) / 3, (2 - 12) / 3], rtol=1e-6)
