"""REINFORCE's own promises: each estimator against episodes taken one by one, and what it leaves out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purejaxpg as pg
from purejaxpg.functional import finite_mdp
from tests.small import (
    assert_scalars_are_traced_and_matter,
    assert_trees_equal,
    cartpole,
    small_reinforce,
)

POLICY = pg.policy_network(pg.Discrete(2), pg.MLP((8,)))
VALUE = pg.value_network(pg.MLP((8,)))
DISCOUNT = 0.8
STEPS = 14


def episodes_of(seen):
    """(environment, rows) of every episode that ended in the rollout, in the order of its environment."""
    done = np.asarray(seen.terminated | seen.truncated)
    for env in range(done.shape[1]):
        begin = 0
        for end in np.flatnonzero(done[:, env]):
            yield env, np.arange(begin, end + 1)
            begin = end + 1


def expected_gradient(params, seen, *, whole, factor, first, mean, normalized, baseline, bonus):
    """The gradient of the docstring's formula, in NumPy but for the scores of single steps."""
    start = np.zeros(seen.start.shape, bool)

    apply = jax.jit(VALUE.apply)

    def values(obs):
        value = apply(params.value, (), obs, start)[0]
        return np.asarray(value, np.float64) * baseline

    v, v_next = values(seen.obs), values(seen.next_obs)
    chosen, psis, times = [], [], []
    for env, rows in episodes_of(seen):
        if first and rows[0] != 0:
            continue
        last = rows[-1]
        later = 0.0 if seen.terminated[last, env] else v_next[last, env]
        returns = []
        for t in reversed(rows):
            later = float(seen.reward[t, env]) + DISCOUNT * later
            returns.insert(0, later)
        psi = np.array(returns) - v[rows, env]
        psis.append(np.full(len(rows), psi[0]) if whole else psi)
        chosen.append((env, rows))
        times.append(np.arange(len(rows)))
    if mean:
        offset = np.mean([psi[0] for psi in psis]) if whole else np.mean(np.concatenate(psis))
        psis = [psi - offset for psi in psis]
    if normalized:
        together = np.concatenate(psis)
        psis = [(psi - together.mean()) / (together.std() + 1e-8) for psi in psis]
    weight, counted = np.zeros(seen.reward.shape), np.zeros(seen.reward.shape)
    for (env, rows), psi, time in zip(chosen, psis, times):
        power = DISCOUNT**time if factor else 1.0
        weight[rows, env] = (1.0 if whole else power) * psi / len(chosen)
        counted[rows, env] = power / len(chosen)

    def objective(policy_params):
        distribution, _ = POLICY.apply(policy_params, (), seen.obs, seen.start)
        log_prob = jnp.log(jnp.take_along_axis(distribution.probs, seen.action[..., None], -1))
        probs = distribution.probs
        entropy = -jnp.sum(probs * jnp.log(probs), axis=-1)
        return jnp.sum(weight * log_prob[..., 0]) + bonus * jnp.sum(counted * entropy)

    return len(chosen), jax.jit(jax.grad(objective))(params.policy)


BASE = {
    "whole": False, "factor": False, "first": False, "mean": False, "normalized": False,
    "baseline": 0.0, "bonus": 0.0,
}  # fmt: skip
CASES = {
    "reward to go": {},
    "whole return, its mean": {"mean": True, "whole": True},
    "first episodes, discounted, with entropy": {"first": True, "factor": True, "bonus": 0.7},
    "fitted value, mean": {"mean": True, "baseline": 1.0},
    "reward to go, discounted, with entropy": {"factor": True, "bonus": 0.7},
    "whole return less fitted value, discounted": {"baseline": 1.0, "whole": True, "factor": True},
    "normalised": {"normalized": True, "baseline": 1.0},
}


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_that_of_the_formula(case):
    form = {**BASE, **CASES[case]}
    # Episodes of at most 6 steps: some end by falling, some by the limit, and rollouts cut others.
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=6, theta_threshold_radians=0.06)
    algorithm = small_reinforce(
        env, env_params, num_steps=STEPS, optimizer=optax.sgd(1.0), discount=DISCOUNT,
        value=VALUE if form["baseline"] else pg.zero_value_network(),
        reward_to_go=not form["whole"], discounted_gradient=form["factor"],
        first_episodes_only=form["first"], mean_baseline=form["mean"],
        normalize_advantages=form["normalized"], entropy_coef=form["bonus"],
    )  # fmt: skip
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    # Far from a constant, so that every slip shows.
    larger = jax.tree.map(lambda x: np.float32(3) * x, jax.device_get(state.params))
    state = state._replace(params=larger)
    new, seen, metrics = jax.device_get(
        jax.jit(algorithm.step)(jax.random.key(1), state, env_params)
    )
    assert seen.terminated.any() and (seen.truncated & ~seen.terminated).any()
    params = state.params
    if not form["baseline"]:
        params = params._replace(value=jax.jit(VALUE.init)(jax.random.key(0), seen.obs))
    number, gradient = expected_gradient(params, seen, **form)
    assert number > 3
    step = jax.tree.map(np.subtract, new.params.policy, state.params.policy)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-4), step, gradient
    )
    assert 0 < float(metrics["counted_fraction"]) < 1


def test_every_update_begins_with_fresh_episodes():
    env, env_params = cartpole()
    algorithm = small_reinforce(env, env_params)
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    step = jax.jit(algorithm.step)
    for i in range(2):
        state, seen, _ = step(jax.random.key(i), state, env_params)
        assert seen.start[0].all()
        assert (jnp.abs(seen.obs[0]) <= 0.05).all()  # CartPole's initial states


def test_without_a_whole_episode_nothing_is_learnt():
    env, env_params = pg.make("Pendulum-v1")  # 200 steps, always
    algorithm = small_reinforce(env, env_params, mean_baseline=True, normalize_advantages=True)
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    new, _, metrics = jax.jit(algorithm.step)(jax.random.key(1), state, env_params)
    assert_trees_equal(new.params, state.params)
    assert float(metrics["counted_fraction"]) == 0.0
    assert all(np.isfinite(value) for value in metrics.values())


def test_a_baseline_is_fitted_to_whole_episodes_only():
    """Reward 1 per step, episodes of exactly 4 steps that a limit ends: V learns from 8 of 10 rows."""
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=4)
    algorithm = small_reinforce(env, env_params, num_steps=10, num_envs=2)
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    _, seen, metrics = jax.jit(algorithm.step)(jax.random.key(1), state, env_params)
    np.testing.assert_allclose(metrics["counted_fraction"], 0.8)
    v, v_next = (
        np.asarray(jax.jit(VALUE.apply)(state.params.value, (), x, seen.start)[0], np.float64)
        for x in (seen.obs, seen.next_obs)
    )
    target = v_next.copy()
    for t in reversed(range(8)):
        later = v_next[t] if t in (3, 7) else target[t + 1]
        target[t] = 1 + 0.99 * later
    error = np.where(np.arange(10)[:, None] < 8, v - target, 0.0)
    np.testing.assert_allclose(metrics["value_loss"], 0.5 * np.mean(error**2), rtol=1e-5)


def test_reward_fn_is_what_is_learnt_from():
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=4)

    def run(scale):
        algorithm = small_reinforce(
            env, env_params, optimizer=optax.sgd(1.0), value=pg.zero_value_network(),
            reward_fn=lambda seen, log_prob, env_params: scale * seen.reward + 0 * log_prob,
        )  # fmt: skip
        state = algorithm.init(jax.random.key(0), env_params)
        new, _, _ = algorithm.step(jax.random.key(0), state, env_params)
        return jax.tree.map(jnp.subtract, new.params.policy, state.params.policy)

    once, thrice = jax.jit(run)(1.0), jax.jit(run)(3.0)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(once)) > 1e-3
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(3 * x, y, rtol=1e-3, atol=1e-5), once, thrice
    )


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"num_envs": 0}, "num_envs must be at least 1, not 0"),
        ({"num_value_epochs": 0}, "num_value_epochs must be at least 1, not 0"),
        (
            {"num_value_minibatches": 3},
            r"num_value_minibatches=3 must be at least 1 and divide num_envs \* num_steps = 32",
        ),
    ],
)
def test_wrong_arguments(options, sentence):
    env, env_params = cartpole()
    with pytest.raises(ValueError, match=sentence):
        small_reinforce(env, env_params, **options)


def test_scalars_are_traced_and_matter():
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=5)

    def run(key, discount, entropy_coef):
        algorithm = small_reinforce(
            env, env_params, discount=discount, entropy_coef=entropy_coef, discounted_gradient=True,
            optimizer=pg.adam(1e-2),
        )  # fmt: skip
        return pg.train(key, algorithm, env_params, num_updates=2)[0].params.policy

    rows = [[0.9, 0.1], [0.5, 0.1], [0.9, 0.9]]
    assert_scalars_are_traced_and_matter(run, rows)


LAYERS, STATES = 3, 2


def layered_mdp():
    """A process of 3 layers of 2 states, left at the last layer or before; its steps differ in reward."""
    rng = np.random.default_rng(0)
    transition = np.zeros((LAYERS * STATES, 2, LAYERS * STATES))
    for s in range((LAYERS - 1) * STATES):
        below = (s // STATES + 1) * STATES
        transition[s, :, below : below + STATES] = 0.9 * rng.dirichlet(np.ones(STATES), size=2)
    reward = rng.normal(size=(LAYERS * STATES, 2))
    return transition, reward, np.eye(LAYERS * STATES)[:STATES].mean(0)


def enumerated_return(logits, discount):
    """J in float64, layer by layer from the first: the probability of each state times what it pays."""
    transition, reward, here = layered_mdp()
    policy = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    total = 0.0
    for t in range(LAYERS):
        total += discount**t * np.sum(here[:, None] * policy * reward)
        here = np.einsum("s,sa,sau->u", here, policy, transition)
    return total


CLAIMS = [
    {"reward_to_go": to_go, "discounted_gradient": factor, "mean_baseline": mean, "value": value}
    for to_go, factor in ((True, True), (False, True), (False, False))
    for mean in (False, True)
    for value in ("zero", "table")
]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda x: "-".join(str(y) for y in x.values()))
def test_what_claims_to_be_the_gradient_of_the_return_is(claim):
    """Every such combination of options, within 4 standard errors of 40 rollouts of 1,000 episodes.

    Against finite differences of the return, summed over all paths in float64. The usual form of reward to go,
    which makes no such claim, is far off.
    """
    discount, logits = 0.8, np.random.default_rng(1).normal(size=(LAYERS * STATES, 2))
    exact = np.zeros_like(logits)
    for i in np.ndindex(*logits.shape):
        step = np.zeros_like(logits)
        step[i] = 1e-6
        exact[i] = enumerated_return(logits + step, discount)
        exact[i] -= enumerated_return(logits - step, discount)
    exact /= 2e-6
    mdp = pg.FiniteMDP(*(jnp.float32(x) for x in layered_mdp()))
    env = pg.from_mdp(mdp, limit=LAYERS + 1)
    value = {"zero": pg.zero_value_network(), "table": pg.tabular_value()}[claim["value"]]
    options = {key: x for key, x in claim.items() if key != "value"}

    @jax.jit
    @jax.vmap
    def gradient(key):
        def one(**options):
            algorithm = pg.reinforce(
                env, pg.tabular_policy(2), value, optax.sgd(1.0), optax.sgd(0.0), num_envs=1000,
                num_steps=LAYERS + 1, discount=discount, first_episodes_only=True,
                normalize_advantages=False, **options,
            )  # fmt: skip
            state = algorithm.init(key, mdp)
            params = state.params._replace(policy=jnp.float32(logits))
            if claim["value"] == "table":
                params = params._replace(value=jnp.linspace(-1.0, 1.0, len(logits)))
            new, _, _ = algorithm.step(key, state._replace(params=params), mdp)
            return new.params.policy - params.policy

        usual_form = {"reward_to_go": True, "discounted_gradient": False}
        return one(**options), one(**usual_form)

    keys = jax.random.split(jax.random.key(0), 40)
    for sample, holds in zip(jax.device_get(gradient(keys)), (True, False)):
        sample = np.float64(sample)
        error = sample.std(axis=0, ddof=1) / np.sqrt(len(sample)) + 1e-3 * np.abs(exact)
        z = np.abs(sample.mean(axis=0) - exact) / np.maximum(error, 1e-7)
        assert (z.max() < 4) == holds, z.max()


def test_explained_variance_is_of_the_steps_that_count():
    """Episodes of 4 steps, rollouts of 6: the last 2 rows belong to no whole episode."""
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=4)
    algorithm = small_reinforce(env, env_params, num_steps=6, num_envs=3, discount=1.0)
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    _, seen, metrics = jax.jit(algorithm.step)(jax.random.key(1), state, env_params)
    v, last = (
        np.asarray(jax.jit(VALUE.apply)(state.params.value, (), x, seen.start)[0], np.float64)
        for x in (seen.obs, seen.next_obs)
    )
    target = np.arange(4, 0, -1)[:, None] + last[3]
    expected = 1 - np.var(target - v[:4]) / np.var(target)
    np.testing.assert_allclose(metrics["explained_variance"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("first_episodes_only", [True, False])
def test_mean_gradient_is_exact_if_only_first_episodes_count(first_episodes_only):
    """Stopping pays 1, going on 0.3 a step: episodes of 1 to 8 steps, of which a rollout holds several.

    The mean over 20 rollouts of 1,000 environments lies within 4 standard errors of the exact
    gradient if one whole episode of each counts, and far outside if cut ones are left out.
    """
    transition = jnp.zeros((1, 2, 1)).at[0, 1, 0].set(0.9)
    mdp = pg.FiniteMDP(transition, jnp.array([[1.0, 0.3]]), jnp.ones(1))
    env = pg.from_mdp(mdp, limit=8)
    algorithm = pg.reinforce(
        env, pg.tabular_policy(2), pg.zero_value_network(), optax.sgd(1.0), optax.sgd(1.0),
        num_envs=1000, num_steps=8, discount=0.9, discounted_gradient=True,
        first_episodes_only=first_episodes_only, normalize_advantages=False,
    )  # fmt: skip

    def gradient(key):
        state = algorithm.init(key, mdp)
        return algorithm.step(key, state, mdp)[0].params.policy  # from logits of 0 by one step

    sample = np.float64(jax.jit(jax.vmap(gradient))(jax.random.split(jax.random.key(0), 20)))[:, 0]
    exact = jax.grad(
        lambda logits: finite_mdp.finite_horizon_return(
            mdp, jax.nn.softmax(logits), discount=0.9, horizon=8
        )
    )(jnp.zeros((1, 2)))[0]
    error = (sample.mean(axis=0) - exact) / (sample.std(axis=0, ddof=1) / np.sqrt(len(sample)))
    assert (np.abs(error) < 4).all() if first_episodes_only else (np.abs(error) > 20).all()
