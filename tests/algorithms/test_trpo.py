"""TRPO's own promises: the constraint, rejections that change nothing, degenerate updates, NaN seeds."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.algorithms.trpo import trpo
from purejaxpg.functional import trust_region
from tests.small import SIZES, assert_trees_equal, cartpole, small_trpo

SEEDS = 3


@lru_cache
def seeds_on(env_id):
    """`keys -> states` and `(keys, states, max_kl) -> (states, [old, new] distributions, metrics)`, vmapped."""
    env, env_params = pg.make(env_id)
    policy = pg.policy_network(env.action_space(env_params), pg.MLP((8,)))

    def build(max_kl):
        return trpo(
            env, policy, pg.value_network(pg.MLP((8,))), pg.adam(1e-2), num_envs=4, num_steps=32,
            max_kl=max_kl, num_value_epochs=2, entropy_coef=0.01,
        )  # fmt: skip

    def init(key):
        return build(0.01).init(key, env_params)

    def step(key, state, max_kl):
        new, seen, metrics = build(max_kl).step(key, state, env_params)
        distributions = [
            policy.apply(s.params.policy, (), env.observe(seen.obs, env_params), seen.start)[0]
            for s in (state, new)
        ]
        return new, distributions, metrics

    return jax.jit(jax.vmap(init)), jax.jit(jax.vmap(step, in_axes=(0, 0, None)))


def keys_of(seed):
    return jax.random.split(jax.random.key(seed), SEEDS)


def mean_kl(p, q):
    """Mean over states of KL(p, q) of each seed, in float64."""
    if hasattr(p, "logits"):
        log_p, log_q = np.float64(p.logits), np.float64(q.logits)
        kl = np.exp(log_p) * (log_p - log_q)
    else:
        (m, s), (n, r) = (map(np.float64, (d.mean(), d.stddev())) for d in (p, q))
        kl = np.log(r / s) + (s**2 + (m - n) ** 2) / (2 * r**2) - 0.5
    return kl.sum(-1).mean((1, 2))


@pytest.mark.parametrize("max_kl", [0.01, 0.3])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"])
def test_every_accepted_step_keeps_the_constraint(env_id, max_kl):
    """KL from the old to the new policy, recomputed outside the search from their distributions."""
    init, step = seeds_on(env_id)
    states = init(keys_of(0))
    accepted, forward, backward, reported = [], [], [], []
    for i in range(12):
        before = states
        states, (old, new), metrics = step(keys_of(i + 1), states, max_kl)
        accepted.append(np.asarray(metrics["step_accepted"]))
        forward.append(mean_kl(old, new))
        backward.append(mean_kl(new, old))
        reported.append(np.asarray(metrics["kl"]))
        assert all(np.isfinite(value).all() for value in metrics.values())
        assert (metrics["improvement"] >= 0).all()
        assert ((metrics["accepted_candidate"] < 10) == (accepted[-1] == 1)).all()
        for x, y in zip(
            jax.tree.leaves(before.params.policy), jax.tree.leaves(states.params.policy)
        ):
            moved = (np.asarray(x) != np.asarray(y)).reshape(SEEDS, -1).any(-1)
            assert not moved[accepted[-1] == 0].any()
    accepted, forward, backward, reported = map(np.stack, (accepted, forward, backward, reported))
    assert accepted.mean() > 0.8
    assert (forward <= max_kl * (1 + 1e-4)).all()
    assert (forward[accepted == 1] > 0.1 * max_kl).all()
    np.testing.assert_allclose(reported, forward, rtol=1e-3, atol=1e-6)
    if max_kl == 0.3:  # far enough to tell one direction from the other
        assert (np.abs(reported - backward) > 0.02 * forward)[accepted == 1].mean() > 0.5


def test_a_nan_seed_touches_no_other():
    init, step = seeds_on("CartPole-v1")
    states = init(keys_of(0))
    params = states.params
    broken = params._replace(policy=jax.tree.map(lambda x: x.at[1].set(jnp.nan), params.policy))
    sane, ill = states, states._replace(params=broken)
    for i in range(3):
        sane, _, sane_metrics = step(keys_of(i + 1), sane, 0.01)
        ill, _, metrics = step(keys_of(i + 1), ill, 0.01)
        for row in (0, 2):
            assert_trees_equal(
                *(jax.tree.map(lambda x, row=row: x[row], x) for x in (sane, ill)),
            )
            assert all(metrics[name][row] == sane_metrics[name][row] for name in metrics)
        assert metrics["step_accepted"][1] == 0


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_certain_and_steep_policies(env_id):
    """Logits, or means, of millions: no NaN, and the constraint holds."""
    init, step = seeds_on(env_id)
    states = init(keys_of(0))
    steep = jax.tree.map(lambda x: x * 1e8, states.params.policy)
    states = states._replace(params=states.params._replace(policy=steep))
    for i in range(2):
        states, _, metrics = step(keys_of(i + 1), states, 0.01)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states.params, metrics)))
        assert (metrics["kl"] <= 0.01).all()


def constant_value():
    """One number, whatever the state."""

    def apply(params, memory, obs, start):
        return jnp.broadcast_to(params, obs.shape[:2]), memory

    return pg.Network(lambda key, obs: jnp.zeros(()), lambda batch: (), apply)


def test_no_gradient_no_step():
    """Constant advantages: nothing to learn for the policy, bit by bit; the value still learns."""
    env, env_params = cartpole()
    policy = pg.policy_network(pg.Discrete(2), pg.MLP((8,)))
    algorithm = trpo(
        env, policy, constant_value(), pg.adam(0.1), **SIZES, gae_lambda=0.0, discount=0.0,
        reward_fn=lambda transitions, log_prob, env_params: jnp.ones_like(log_prob),
    )  # fmt: skip
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    new, _, metrics = jax.jit(algorithm.step)(jax.random.key(1), state, env_params)
    assert_trees_equal(new.params.policy, state.params.policy)
    assert 0.9 < float(new.params.value) < 1.1
    assert all(np.isfinite(value) for value in metrics.values())
    for name in ("step_accepted", "grad_norm", "kl", "kl_proposed", "improvement", "curvature"):
        assert float(metrics[name]) == 0, name


def cliff(action_space):
    """A policy that is certain as soon as its parameters are not exactly what they were drawn."""
    policy = pg.policy_network(action_space, pg.MLP((8,)))

    def init(key, obs):
        params = policy.init(key, obs)
        return params, params

    def apply(params, memory, obs, start):
        now, drawn = params
        drawn = jax.lax.stop_gradient(drawn)
        moved = jnp.stack(
            [jnp.any(x != y) for x, y in zip(jax.tree.leaves(now), jax.tree.leaves(drawn))]
        )
        distribution, memory = policy.apply(now, memory, obs, start)
        jump = jnp.where(moved.any(), 100.0, 0.0) * jnp.array([1.0, 0.0])
        return pg.categorical(distribution.logits + jump), memory

    return policy._replace(init=init, apply=apply)


def test_rejected_steps_leave_the_policy_as_it_was():
    env, env_params = cartpole()
    algorithm = trpo(
        env, cliff(pg.Discrete(2)), constant_value(), pg.adam(0.1), **SIZES, num_value_epochs=2
    )
    step = jax.jit(algorithm.step)
    first = state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    values = [0.0]
    for i in range(4):
        state, _, metrics = step(jax.random.key(i), state, env_params)
        assert float(metrics["kl_proposed"]) > 0.01  # a step was proposed,
        assert float(metrics["expected_improvement"]) > 0
        assert float(metrics["step_accepted"]) == 0  # none was taken,
        assert int(metrics["accepted_candidate"]) == 10
        assert float(metrics["kl"]) == float(metrics["improvement"]) == 0
        assert_trees_equal(state.params.policy, first.params.policy)
        values.append(float(state.params.value))
    assert values == sorted(set(values))  # and the value goes on learning


def test_one_state():
    env, env_params = cartpole()
    algorithm = small_trpo(
        env, env_params, num_envs=1, num_steps=1, num_value_minibatches=1,
        normalize_advantages=False,
    )  # fmt: skip
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    step = jax.jit(algorithm.step)
    for i in range(3):
        state, _, metrics = step(jax.random.key(i), state, env_params)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, metrics)))
        assert float(metrics["step_accepted"]) == 1
        assert 0 < float(metrics["kl"]) <= 0.01


def test_every_scalar_is_traced_and_used():
    """One program over many values; each number changes what is learnt."""
    env, env_params = cartpole()
    base = {
        "discount": 0.9, "gae_lambda": 0.8, "max_kl": 1.0, "damping": 1e-3, "backtrack_ratio": 0.5,
        "entropy_coef": 0.1,
    }  # fmt: skip
    other = {
        "discount": 0.5, "gae_lambda": 0.2, "max_kl": 0.1, "damping": 0.1, "backtrack_ratio": 0.7,
        "entropy_coef": 0.5,
    }  # fmt: skip
    rows = [base, *({**base, name: other[name]} for name in base)]
    stacked = {name: jnp.array([row[name] for row in rows]) for name in base}

    @jax.jit
    @jax.vmap
    def run(scalars):
        algorithm = small_trpo(env, env_params, **scalars)
        state, metrics = pg.train(jax.random.key(0), algorithm, env_params, num_updates=2)
        return state.params.policy, metrics

    policies, metrics = run(stacked)
    assert all(np.isfinite(value).all() for value in metrics.values())
    for i, name in enumerate(base):
        same = [(x[0] == x[i + 1]).all() for x in jax.tree.leaves(policies)]
        assert not all(same), name


def test_counts_are_checked():
    env, env_params = cartpole()
    for name in ("num_steps", "cg_steps", "fisher_subsample", "num_backtracks", "num_value_epochs"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
            small_trpo(env, env_params, **{name: 0})
    with pytest.raises(ValueError, match="num_value_minibatches=5"):
        small_trpo(env, env_params, num_value_minibatches=5)


@pytest.mark.parametrize("natural", [True, False])
def test_steps_without_a_line_search(natural):
    """The whole step is taken, 3 times too long for its KL or not; in the parameter ball along g."""
    env, env_params = cartpole()
    max_kl = 0.5
    options = {"max_kl": max_kl, "natural": natural, "normalize_advantages": False}
    free, searched = (
        small_trpo(env, env_params, line_search=line_search, **options)
        for line_search in (False, True)
    )
    state = jax.jit(free.init)(jax.random.key(0), env_params)
    new, _, metrics = jax.jit(free.step)(jax.random.key(1), state, env_params)
    _, _, others = jax.jit(searched.step)(jax.random.key(1), state, env_params)
    assert float(metrics["step_accepted"]) == 1 and float(metrics["accepted_candidate"]) == 0
    np.testing.assert_allclose(metrics["kl"], others["kl_proposed"], rtol=1e-4)
    for name in ("grad_norm", "curvature", "expected_improvement"):
        np.testing.assert_allclose(metrics[name], others[name], rtol=1e-4)
    step = jax.tree.map(jnp.subtract, new.params.policy, state.params.policy)
    length = float(np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(step))))
    if natural:  # s^T A s is that of g along the step: (g . step)^2 = 2 max_kl s^T A s
        np.testing.assert_allclose(
            metrics["expected_improvement"] ** 2, 2 * max_kl * metrics["curvature"], rtol=0.02
        )
    else:
        np.testing.assert_allclose(length, np.sqrt(2 * max_kl), rtol=1e-4)
        np.testing.assert_allclose(
            metrics["expected_improvement"], length * metrics["grad_norm"], rtol=1e-4
        )


def test_a_step_that_is_not_finite_is_not_taken():
    params = {"w": jnp.arange(3.0)}

    def evaluate(params):
        return jnp.sum(params["w"]), jnp.sum(params["w"] ** 2)

    bad = trust_region.full_step(evaluate, params, {"w": jnp.array([1.0, jnp.nan, 0.0])})
    assert_trees_equal(bad.params, params)
    assert not bad.accepted and int(bad.candidate) == 1 and float(bad.improvement) == 0
    good = trust_region.full_step(evaluate, params, {"w": jnp.ones(3)})
    np.testing.assert_array_equal(good.params["w"], [1.0, 2.0, 3.0])
    assert good.accepted and float(good.improvement) == 3 and float(good.kl) == 14
