"""Fisher products, conjugate gradient and line search against dense algebra, and a whole step of TRPO
against one in float64 NumPy, written from the paper."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

import purejaxpg as pg
from purejaxpg.algorithms.trpo import trpo
from purejaxpg.functional.trust_region import (
    backtracking_line_search,
    conjugate_gradient,
    fisher_vector_product,
    natural_step,
)
from tests.small import SIZES, cartpole

N, K, D = 7, 3, 2  # states, actions, dimensions of a continuous action
KINDS = ["categorical", "masked", "gaussian"]


def relative_error(found, expected):
    expected = np.asarray(expected, np.float64)
    return np.linalg.norm(np.asarray(found, np.float64) - expected) / np.linalg.norm(expected)


# Fisher products.


@pytest.fixture(scope="module")
def network():
    """Parameters of a tanh network with two heads, observations, and masks of one to three actions."""
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3), "b": (3,), "logits": (3, K), "mean": (3, D), "log_std": (D,)}
    params = {
        name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()
    }
    obs = jnp.asarray(rng.normal(size=(N, 4)), jnp.float32)
    mask = np.arange(K) <= rng.integers(0, K, size=(N, 1))
    assert set(mask.sum(-1)) == {1, 2, 3}
    return params, obs, jnp.asarray(mask)


def distribution_of(kind, network):
    """params -> Distribution of N states."""
    _, obs, mask = network

    def distribution_fn(params):
        hidden = jnp.tanh(obs @ params["w"] + params["b"])
        if kind == "gaussian":
            return pg.diagonal_gaussian(hidden @ params["mean"], 0.5 * params["log_std"])
        return pg.categorical(hidden @ params["logits"], mask if kind == "masked" else None)

    return distribution_fn


def actions_and_weights(kind, distribution):
    """Actions `[M, N, ...]` and weights `[M, N]` that give exact expectations of what we need."""
    if kind != "gaussian":
        actions = jnp.broadcast_to(jnp.arange(K)[:, None], (K, N))
        return actions, np.asarray(distribution.probs).T
    # Scores are quadratic in the action, their products quartic: three nodes each are exact.
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    grid = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 1, D)
    actions = distribution.mean() + distribution.stddev() * grid
    return actions, np.broadcast_to(np.outer(weights, weights).reshape(-1, 1), (9, N))


@pytest.mark.parametrize("kind", KINDS)
def test_fisher_products_are_those_of_the_dense_matrix(kind, network):
    params, distribution_fn = network[0], distribution_of(kind, network)
    flat, unravel = ravel_pytree(params)
    old = distribution_fn(params)

    @jax.jit
    def products(damping):
        matvec = fisher_vector_product(distribution_fn, params, damping=damping)
        return jax.vmap(lambda v: ravel_pytree(matvec(unravel(v)))[0])(jnp.eye(flat.size))

    def mean_kl(flat):
        return jnp.mean(old.kl_divergence(distribution_fn(unravel(flat))))

    hessian = np.asarray(jax.jit(jax.hessian(mean_kl))(flat))
    actions, weights = actions_and_weights(kind, old)

    def log_probs(flat):
        return jax.vmap(distribution_fn(unravel(flat)).log_prob)(actions)

    scores = np.asarray(jax.jit(jax.jacrev(log_probs))(flat), np.float64)
    outer = np.einsum("mn,mni,mnj->ij", weights, scores, scores) / N
    found = np.asarray(products(0.0))
    assert np.linalg.norm(hessian) > 0.01
    assert relative_error(found, hessian) < 1e-4
    assert relative_error(found, outer) < 1e-4
    damped = np.asarray(products(0.3))
    np.testing.assert_allclose(damped, found + 0.3 * np.eye(flat.size), rtol=1e-5, atol=1e-6)


def test_forbidden_actions_and_certain_states_have_no_curvature(network):
    """With one action allowed nothing depends on the parameters."""
    params, obs, _ = network
    only = jnp.arange(K) == jnp.ones((N, 1), int)
    matvec = fisher_vector_product(
        distribution_of("masked", (params, obs, only)), params, damping=0.0
    )
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(matvec(params)))


def test_linearised_once(network):
    traces = []

    def distribution_fn(params):
        traces.append(1)
        return distribution_of("categorical", network)(params)

    matvec = fisher_vector_product(distribution_fn, network[0], damping=0.1)
    jax.jit(lambda b: conjugate_gradient(matvec, b, num_steps=3))(network[0])
    matvec(network[0])
    assert len(traces) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_fisher_products_are_in_float32(kind, network):
    """Whatever the precision around them: on accelerators the default is coarser."""

    def product(params, v):
        return fisher_vector_product(distribution_of(kind, network), params, damping=0.1)(v)

    with jax.default_matmul_precision("bfloat16"):
        program = jax.jit(product).lower(network[0], network[0]).as_text()
    matmuls = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert len(matmuls) >= 6
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in matmuls)


# Conjugate gradient.


def as_tree(flat):
    return {"a": flat[:4].reshape(2, 2), "b": (flat[4:],)}


def apply_dense(matrix, tree):
    return as_tree(matrix @ ravel_pytree(tree)[0])


@partial(jax.jit, static_argnames="num_steps")
@partial(jax.vmap, in_axes=(0, 0, None))
def solve(matrix, b, num_steps):
    return conjugate_gradient(partial(apply_dense, matrix), as_tree(b), num_steps=num_steps)


def solve_flat(matrix, b, num_steps):
    """`[R, n, n], [R, n] -> [R, n]`, by way of pytrees."""
    x = solve(jnp.asarray(matrix, jnp.float32), jnp.asarray(b, jnp.float32), num_steps)
    return np.asarray(jax.vmap(lambda x: ravel_pytree(x)[0])(x))


def random_spd(seed, size=6, condition=30.0):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    eigenvalues = condition ** rng.random(size)
    return (basis * eigenvalues) @ basis.T, rng.normal(size=size)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-20, 20))
def test_conjugate_gradient_is_a_dense_solve(seed, exponent):
    """Of a system of any scale."""
    matrix, b = random_spd(seed)
    b = b * 2.0**exponent
    found = solve_flat(matrix[None], b[None], 12)[0]
    assert relative_error(found, np.linalg.solve(matrix, b)) < 1e-4


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_fewer_steps_are_the_best_of_the_krylov_space(seed):
    """After k steps x minimises x^T A x / 2 - b^T x over the span of b, A b, ..., A^(k-1) b."""
    matrix, b = random_spd(seed)
    basis, _ = np.linalg.qr(np.stack([b, matrix @ b, matrix @ matrix @ b], 1))
    best = basis @ np.linalg.solve(basis.T @ matrix @ basis, basis.T @ b)
    assert relative_error(solve_flat(matrix[None], b[None], 3)[0], best) < 1e-4


def test_conjugate_gradient_stops_where_it_must():
    eye, ones = np.eye(6), np.ones(6)
    systems = {
        "zero b": (eye, 0 * ones, 0 * ones),
        "solved in one step": (eye, ones, ones),
        "negative definite": (-eye, ones, 0 * ones),
        "no matrix": (0 * eye, ones, 0 * ones),
        # p = b, p^T A p = 1 - 2/4, so x = 2.5 b; then p = (7.5, 7.5) with p^T A p < 0.
        "indefinite": (
            np.diag([1, -2, 1, 1, 1, 1.0]),
            [1, 0.5, 0, 0, 0, 0],
            [2.5, 1.25, 0, 0, 0, 0],
        ),
        # One step leaves a residual of half the second entry: below 10 eps |b| it is left there.
        "small residual": (
            np.diag([1, 0.5, 1, 1, 1, 1]),
            [1, 1e-7, 0, 0, 0, 0],
            [1, 1e-7, 0, 0, 0, 0],
        ),
        "larger residual": (
            np.diag([1, 0.5, 1, 1, 1, 1]),
            [1, 1e-5, 0, 0, 0, 0],
            [1, 2e-5, 0, 0, 0, 0],
        ),
        "NaN matrix": (np.nan * eye, ones, 0 * ones),
        "NaN b": (eye, np.nan * ones, 0 * ones),
        "tiny b": (eye, 1e-30 * ones, None),
        "overflow": (1e-30 * eye, 1e15 * ones, None),
    }
    matrices, bs, expected = zip(*systems.values())
    found = solve_flat(np.stack(matrices), np.stack(bs), 12)
    for name, x, should in zip(systems, found, expected):
        assert np.isfinite(x).all(), name
        if should is not None:
            np.testing.assert_allclose(x, should, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("where", ["matrix", "b"])
def test_a_nan_row_touches_no_other(where):
    matrices, bs = (np.stack(x) for x in zip(*map(random_spd, range(3))))
    sane = solve_flat(matrices, bs, 12)
    (matrices if where == "matrix" else bs)[1] = np.nan
    found = solve_flat(matrices, bs, 12)
    np.testing.assert_array_equal(found[[0, 2]], sane[[0, 2]])
    np.testing.assert_array_equal(found[1], 0)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="num_steps must be at least 1, not 0"):
        conjugate_gradient(lambda v: v, jnp.ones(2), num_steps=0)


# The full step.


@jax.jit
def full_step(matrix, b, max_kl):
    return natural_step(partial(apply_dense, matrix), as_tree(b), max_kl=max_kl, num_steps=12)


def test_natural_step_reaches_the_bound_of_the_quadratic_model():
    matrix, b = random_spd(0)
    found = full_step(jnp.float32(matrix), jnp.float32(b), 0.01)
    step, solution = np.asarray(ravel_pytree(found.step)[0]), np.linalg.solve(matrix, b)
    np.testing.assert_allclose(0.5 * step @ matrix @ step, 0.01, rtol=1e-4)
    assert relative_error(step / np.linalg.norm(step), solution / np.linalg.norm(solution)) < 1e-4
    np.testing.assert_allclose(found.curvature, solution @ b, rtol=1e-4)
    np.testing.assert_allclose(found.expected_improvement, step @ b, rtol=1e-4)
    assert float(found.residual) < 1e-4


@pytest.mark.parametrize("sign, scale", [(1.0, 0.0), (-1.0, 1.0), (0.0, 1.0)])
def test_natural_step_is_zero_without_gradient_or_curvature(sign, scale):
    found = full_step(sign * jnp.eye(6), scale * jnp.ones(6), 0.01)
    assert (ravel_pytree(found.step)[0] == 0).all()
    assert float(found.residual) == scale  # |g - A 0| / |g|
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


# Line search: from x = y towards x + 1, objective and KL functions of the distance gone.

SEARCHES = {
    # name: (objective, kl), the candidate that is first acceptable at max_kl = 1/32 and ratio 1/2
    "near enough": (lambda d: d, lambda d: d**2 / 2, 2),
    "at the bound": (lambda d: d, lambda d: d / 4, 3),
    "better": (lambda d: d * (0.3 - d), lambda d: 0.0 * d, 2),
    "full step": (lambda d: d, lambda d: 0.03 * d, 0),
    "last": (lambda d: d, lambda d: d / 2, 4),
    "too far": (lambda d: d, lambda d: 0.6 * d, None),
    "never better": (lambda d: -d, lambda d: 0.0 * d, None),
    "as good": (lambda d: 0.0 * d, lambda d: 0.0 * d, None),
    "NaN objective": (lambda d: jnp.where(d > 0.2, jnp.nan, d), lambda d: 0.0 * d, 3),
    "NaN KL": (lambda d: d, lambda d: jnp.where(d > 0.2, jnp.nan, 0.0 * d), 3),
    "old NaN": (lambda d: jnp.where(d > 0, d, jnp.nan), lambda d: 0.0 * d, None),
    "all NaN": (lambda d: jnp.nan * d, lambda d: jnp.nan * d, None),
}
# A negative zero and NaN survive only where the old bits are taken as they are.
OLD = {"x": jnp.array(1.0), "other": jnp.array([-0.0, 1e-30, 3.3333333, jnp.nan])}
STEP = {"x": jnp.array(1.0), "other": jnp.array([0.0, 1e-30, 1e-9, 0.0])}


@pytest.fixture(scope="module")
def searched():
    """Every search in its own row of one vmapped program: none touches another."""
    objectives, kls, _ = zip(*SEARCHES.values())

    def row(i, step, max_kl, ratio):
        def evaluate(params):
            d = params["x"] - 1.0
            return jax.lax.switch(i, objectives, d), jax.lax.switch(i, kls, d)

        return backtracking_line_search(
            evaluate, OLD, step, max_kl=max_kl, num_backtracks=5, backtrack_ratio=ratio
        )

    found = jax.jit(jax.vmap(row, in_axes=(0, None, None, None)))(
        jnp.arange(len(SEARCHES)), STEP, 1 / 32, 0.5
    )
    still = jax.jit(row)(0, jax.tree.map(jnp.zeros_like, STEP), 1 / 32, 0.5)
    return {
        **{name: jax.tree.map(lambda x, i=i: x[i], found) for i, name in enumerate(SEARCHES)},
        "no step": still,
    }


@pytest.mark.parametrize("name", [*SEARCHES, "no step"])
def test_line_search(name, searched):
    found = searched[name]
    index = SEARCHES[name][2] if name in SEARCHES else None
    if index is None:
        assert not found.accepted
        assert int(found.candidate) == 5
        assert float(found.kl) == float(found.improvement) == 0
        for new, old in zip(jax.tree.leaves(found.params), jax.tree.leaves(OLD)):
            assert np.asarray(new).tobytes() == np.asarray(old).tobytes()
        return
    objective, kl, _ = SEARCHES[name]
    distance = 0.5**index
    assert found.accepted
    assert int(found.candidate) == index
    assert float(found.params["x"]) == 1 + distance
    assert float(found.kl) == np.float32(kl(distance)) <= 1 / 32
    np.testing.assert_allclose(found.improvement, objective(distance), rtol=1e-6)
    np.testing.assert_array_equal(found.proposed_kl, np.float32(kl(1.0)))


def test_standing_still_is_never_accepted():
    """Not even where rounding differs between one compilation of the objective and another."""
    calls = []

    def evaluate(x):
        calls.append(1)
        return x + len(calls), 0.0 * x

    x = jnp.float32(1.0)
    for step in (0.0, 1e-10):
        found = backtracking_line_search(evaluate, x, jnp.float32(step), max_kl=1.0)
        assert not found.accepted
    assert backtracking_line_search(evaluate, x, jnp.float32(1e-3), max_kl=1.0).accepted


def test_line_search_stops_when_the_slowest_row_is_done():
    tried = []

    def row(limit):
        def evaluate(x):
            jax.debug.callback(lambda x: tried.append(float(x)), x)
            return x, jnp.where(x <= limit, 0.0, 1.0)

        return backtracking_line_search(
            evaluate, jnp.zeros(()), jnp.ones(()), max_kl=0.5, backtrack_ratio=0.5
        )

    found = jax.jit(jax.vmap(row))(jnp.array([1.0, 0.3, 0.6]))
    jax.effects_barrier()
    np.testing.assert_array_equal(found.candidate, [0, 2, 1])
    np.testing.assert_array_equal(found.params, [1, 0.25, 0.5])
    assert len(tried) == 1 + 3 * 3  # the old parameters, and three rows of three of ten candidates


def test_no_candidates_are_refused():
    with pytest.raises(ValueError, match="num_backtracks must be at least 1, not 0"):
        backtracking_line_search(lambda x: (x, x), 1.0, 1.0, max_kl=1.0, num_backtracks=0)


# A whole step, against the paper in float64.


def softmax_linear():
    """Logits obs W + c."""

    def init(key, obs):
        return {"w": jax.random.normal(key, (obs.shape[-1], 2)), "c": jnp.array([0.3, -0.2])}

    def apply(params, memory, obs, start):
        return pg.categorical(obs @ params["w"] + params["c"]), memory

    return pg.Network(init, lambda batch: (), apply)


def constant_value():
    """The same value everywhere, so that NumPy needs no network."""

    def apply(params, memory, obs, start):
        return jnp.broadcast_to(params, obs.shape[:2]), memory

    return pg.Network(lambda key, obs: jnp.array(2.0), lambda batch: (), apply)


def reference_step(params, seen, *, max_kl, fisher_subsample):
    """Schulman et al. 2015, appendix C, with dense matrices: new parameters `[5, 2]`, candidate, KL."""
    discount, gae_lambda, damping, cg_steps, entropy_coef, ratio = 0.9, 0.8, 1e-3, 3, 0.05, 0.7
    seen = jax.tree.map(lambda x: np.asarray(x, np.float64), seen)
    theta = np.concatenate([params["w"], params["c"][None]]).astype(np.float64)

    advantage = np.zeros_like(seen.reward)
    later = 0.0
    for t in reversed(range(len(advantage))):
        delta = seen.reward[t] + discount * (1 - seen.terminated[t]) * 2.0 - 2.0
        cut = np.maximum(seen.terminated[t], seen.truncated[t])
        later = advantage[t] = delta + discount * gae_lambda * (1 - cut) * later
    advantage = (advantage - advantage.mean()) / advantage.std()

    features = np.concatenate([seen.obs, np.ones((*seen.reward.shape, 1))], -1)  # [T, B, 5]
    chosen = np.eye(2)[seen.action.astype(int)]

    def probs(theta, features=features):
        logits = features @ theta
        p = np.exp(logits - logits.max(-1, keepdims=True))
        return p / p.sum(-1, keepdims=True)

    old = probs(theta)
    n = advantage.size

    def objective(theta):
        p = probs(theta)
        ratio = (p * chosen).sum(-1) / (old * chosen).sum(-1)
        return (ratio * advantage).mean() - entropy_coef * (p * np.log(p)).sum(-1).mean()

    def kl(theta):
        return (old * np.log(old / probs(theta))).sum(-1).mean()

    score = chosen - old
    entropy = -(old * np.log(old)).sum(-1, keepdims=True)
    slope = advantage[..., None] * score - entropy_coef * old * (np.log(old) + entropy)
    g = np.einsum("tbf,tba->fa", features, slope).reshape(-1) / n
    some, p = features[::fisher_subsample], old[::fisher_subsample]
    metric = np.einsum("tba,ac->tbac", p, np.eye(2)) - np.einsum("tba,tbc->tbac", p, p)
    fisher = np.einsum("tbf,tbac,tbh->fahc", some, metric, some).reshape(10, 10)
    a = fisher / p[..., 0].size + damping * np.eye(10)

    x, r, d = np.zeros(10), g, g
    for _ in range(cg_steps):
        alpha = r @ r / (d @ a @ d)
        x, new_r = x + alpha * d, r - alpha * a @ d
        d, r = new_r + (new_r @ new_r) / (r @ r) * d, new_r
    step = np.sqrt(2 * max_kl / (x @ a @ x)) * x.reshape(5, 2)
    for i in range(10):
        candidate = theta + ratio**i * step
        if objective(candidate) > objective(theta) and kl(candidate) <= max_kl:
            expected = {
                "kl": kl(candidate),
                "kl_proposed": kl(theta + step),
                "improvement": objective(candidate) - objective(theta),
                "expected_improvement": g @ step.reshape(-1),
                "accepted_candidate": i,
                "curvature": x @ a @ x,
                "cg_residual": np.linalg.norm(g - a @ x) / np.linalg.norm(g),
                "grad_norm": np.linalg.norm(g),
                "entropy": entropy.mean(),
            }
            return candidate, expected
    raise AssertionError("no candidate")


@pytest.mark.parametrize("fisher_subsample", [1, 3])
def test_a_whole_step_is_that_of_the_paper(fisher_subsample):
    env, env_params = cartpole()

    @jax.jit
    def step(key, max_kl):
        algorithm = trpo(
            env, softmax_linear(), constant_value(), pg.adam(1e-2), **{**SIZES, "num_steps": 32},
            discount=0.9, gae_lambda=0.8, max_kl=max_kl, damping=1e-3, cg_steps=3,
            fisher_subsample=fisher_subsample, backtrack_ratio=0.7, entropy_coef=0.05,
            num_value_epochs=1, num_value_minibatches=1,
        )  # fmt: skip
        state = algorithm.init(key, env_params)
        new, seen, metrics = algorithm.step(jax.random.fold_in(key, 1), state, env_params)
        return state.params.policy, new.params.policy, seen, metrics

    candidates = []
    for seed, max_kl in [(0, 0.01), (1, 0.01), (2, 0.3), (3, 2.0), (4, 0.01), (5, 0.1), (6, 1.0)]:
        old, new, seen, metrics = jax.device_get(step(jax.random.key(seed), max_kl))
        expected, numbers = reference_step(
            old, seen, max_kl=max_kl, fisher_subsample=fisher_subsample
        )
        theta, new = (np.concatenate([p["w"], p["c"][None]]) for p in (old, new))
        assert relative_error(new - theta, expected - theta) < 1e-3
        # 1e-5: a residual of a thousandth of |g| has lost three digits of its seven.
        for name, number in numbers.items():
            np.testing.assert_allclose(metrics[name], number, rtol=1e-3, atol=1e-5, err_msg=name)
        candidates.append(numbers["accepted_candidate"])
    assert min(candidates) == 0 < max(candidates), candidates  # the search is tested too
