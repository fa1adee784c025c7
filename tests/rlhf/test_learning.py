"""Learning from a reward model: rewards by hand, what is exact before learning, the optimum by enumeration."""

from functools import lru_cache
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purejaxpg as pg
from purejaxpg.rlhf.learning import RLHFParams, penalised_reward, rlhf
from purejaxpg.rlhf.tokens import token_env
from purejaxpg.rlhf.transformer import language_policy, language_value
from tests.rlhf.small import (
    END,
    LENGTH,
    PROMPT,
    RESPONSE,
    SIZES,
    VOCABULARY,
    bigram_policy,
    response_of,
)

PROMPTS = jnp.array([[1, 2], [3, 0]])


def tables(seed):
    return jax.random.normal(jax.random.key(seed), (VOCABULARY + 1, VOCABULARY))


def of_tokens(weights, texts):
    """A score that reads the whole buffer, what follows END too: such a one must be given the filled text."""
    return weights[texts.astype(int)].sum(axis=-1)


@lru_cache
def rewarded():
    """Texts `[B, L]`, log-probabilities, rewards and extras of a rollout; the policy and reference in use."""
    env = token_env(vocabulary_size=VOCABULARY, response_length=RESPONSE, end_token=END)
    policy, params = bigram_policy(), tables(0)
    weights = jnp.array([1.0, -2.0, 0.5, 3.0, 0.25])
    env_params = RLHFParams(PROMPTS, tables(1), weights, jnp.array(0.3))

    def act(key, memory, obs, start):
        output, _ = policy.apply(
            params, (), jax.tree.map(lambda x: x[None], env.observe(obs, env_params)), start
        )
        return output.sample(seed=key)[0], memory

    @jax.jit
    def run(key):
        loop = pg.begin(key, env, env_params, (), num_envs=200)
        _, seen = pg.unroll(
            jax.random.fold_in(key, 1), env, env_params, act, loop, num_steps=RESPONSE
        )
        output, _ = policy.apply(params, (), env.observe(seen.obs, env_params), seen.start)
        log_prob = output.log_prob(seen.action)
        reward_fn = penalised_reward(env, policy, of_tokens, end_token=END)
        return (
            seen.next_obs[-1, :, :-1],
            log_prob,
            *reward_fn(seen, log_prob, env_params),
            seen.info["live"],
        )

    results = jax.device_get(run(jax.random.key(2)))
    return (*results, *map(np.float64, (params, env_params.reference, weights)))


def log_probabilities(table, text):
    """log p of each token of the response, in float64."""
    before, result = int(text[PROMPT - 1]), []
    for token in response_of(text):
        logits = table[before]
        result.append(logits[token] - np.log(np.exp(logits).sum()))
        before = token
    return np.array(result)


def test_rewards_sum_to_score_less_penalty():
    texts, log_prob, reward, extras, live, params, reference, weights = rewarded()
    lengths = set()
    for i, text in enumerate(texts):
        n = len(response_of(text))
        lengths.add(n)
        new, old = (log_probabilities(table, text) for table in (params, reference))
        score = weights[text].sum()
        np.testing.assert_allclose(reward[:, i].sum(), score - 0.3 * (new - old).sum(), atol=1e-5)
        expected = -0.3 * (new - old)  # it charges where the policy likes a token better
        expected[-1] += score  # on the row of END, or the last
        np.testing.assert_allclose(reward[:n, i], expected, atol=1e-5)
        for x in (reward, log_prob, extras["log_ratio"], extras["score"]):
            assert (x[n:, i] == 0).all()
        np.testing.assert_array_equal(live[:, i], np.arange(RESPONSE) < n)
    assert lengths == set(range(1, RESPONSE + 1))


NETWORKS = {**SIZES, "response_length": RESPONSE}


def build_ppo(optimizer, **options):
    policy, value = language_policy(**NETWORKS), language_value(**NETWORKS)
    options = {
        "num_envs": 8,
        "num_steps": RESPONSE,
        "num_minibatches": 2,
        "num_epochs": 2,
        **options,
    }

    def build(env, reward_fn):
        return pg.ppo(env, policy, value, optimizer, discount=1.0, reward_fn=reward_fn, **options)

    return build, policy


@lru_cache
def updates():
    """Metrics of 2 updates, policies before and after: at rate 0 and above, each over two betas."""
    policy = language_policy(**NETWORKS)
    env = token_env(vocabulary_size=VOCABULARY, response_length=RESPONSE, end_token=END)

    def run(key, beta, rate):
        build, _ = build_ppo(optax.sgd(rate))
        algorithm = rlhf(build, policy, of_tokens, end_token=END, target_kl=1.0)(env)
        reference = policy.init(key, jnp.zeros((1, 1, LENGTH + 1), jnp.int8))
        env_params = RLHFParams(PROMPTS, reference, jnp.arange(5.0), beta)
        state, metrics = pg.train(key, algorithm, env_params, num_updates=2)
        return metrics, reference, state.inner.params.policy

    over = jax.jit(jax.vmap(run, (0, 0, None)))
    keys, betas = jax.random.split(jax.random.key(0)), jnp.array([0.1, 2.0])
    return [jax.device_get(over(keys, betas, rate)) for rate in (0.0, 1e-2)]


def test_before_learning_every_ratio_is_one_and_kl_zero():
    (metrics, reference, params), (learnt, _, moved) = updates()
    for name in ("kl_to_reference", "log_ratio", "approx_kl", "clip_fraction"):
        assert (metrics[name] == 0).all(), name
    assert (metrics["score_mean"] > 0).all() and (metrics["entropy"] > 0).all()
    jax.tree.map(np.testing.assert_array_equal, reference, params)
    assert (learnt["kl_to_reference"][:, 0] == 0).all()
    assert max(jax.tree.leaves(jax.tree.map(lambda x, y: np.abs(x - y).max(), moved, params))) > 0


def test_beta_follows_the_target():
    """KL is 0 in the first update, far below the target: beta falls by a fifth of a tenth."""
    for metrics, *_ in updates():
        np.testing.assert_array_equal(metrics["beta"][:, 0], np.float32([0.1, 2]))
        np.testing.assert_allclose(metrics["beta"][:, 1] / metrics["beta"][:, 0], 0.98, rtol=1e-6)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_steps": 8}, r"rollouts of 4 steps, not num_steps=8"),
        ({"sequence_length": 2}, r"sequence_length=2"),
    ],
)
def test_sequences_of_another_length_are_refused(options, words):
    build, _ = build_ppo(optax.sgd(0.1), **options)
    env = token_env(vocabulary_size=VOCABULARY, response_length=RESPONSE, end_token=END)
    with pytest.raises(ValueError, match=words):
        build(env, None)


def test_wrong_calls():
    env = token_env(vocabulary_size=VOCABULARY, response_length=RESPONSE, end_token=END)
    build, policy = build_ppo(optax.sgd(0.1))
    algorithm = rlhf(build, policy, lambda params, texts: jnp.zeros(3), end_token=END)(env)
    reference = policy.init(jax.random.key(0), jnp.zeros((1, 1, LENGTH + 1), jnp.int8))
    good = RLHFParams(PROMPTS, reference, None, jnp.array(0.1))
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="beta must be at least 0"):
        algorithm.init(key, good._replace(beta=-1.0))
    with pytest.raises(TypeError, match="env_params must be RLHFParams"):
        jax.eval_shape(lambda: pg.train(key, algorithm, PROMPTS, num_updates=1))
    with pytest.raises(ValueError, match="one number for each of 8 responses, not of shape"):
        jax.eval_shape(lambda: pg.train(key, algorithm, good, num_updates=1))
    longer = rlhf(
        lambda env, reward_fn: pg.ppo(
            env, bigram_policy(), pg.value_network(), pg.adam(), num_steps=8, reward_fn=reward_fn
        ),
        bigram_policy(), of_tokens, end_token=END,
    )(env)  # fmt: skip
    with pytest.raises((ValueError, TypeError)):
        jax.eval_shape(lambda: pg.train(key, longer, good, num_updates=1))


@pytest.mark.slow  # learns for a minute
@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_the_optimum_is_that_of_enumeration(beta):
    """All 3^3 responses of full length: pi* is pi_ref exp(R / beta), and J* = beta log E_ref exp(R / beta)."""
    size, length = 3, 3
    texts = np.array([(0, *y) for y in product(range(size), repeat=length)])
    rng = np.random.default_rng(0)
    score = jnp.asarray(rng.normal(size=(size, size)), jnp.float32)

    def of_pairs(params, texts):
        texts = texts.astype(int)
        return params[texts[..., :-1], texts[..., 1:]].sum(axis=-1)

    def beginning(obs):
        """The number of what is written, of all beginnings of a text."""
        tokens, place = obs[..., :-1].astype(int), obs[..., -1].astype(int)
        written = jnp.arange(length + 1) < place[..., None]
        digits = jnp.where(written, tokens, 0) * size ** jnp.arange(length + 1)
        return jnp.sum(digits, axis=-1) + place * size ** (length + 1)

    def table_network(columns, output_fn):
        """A row of a table for each beginning, at first 0."""
        return pg.Network(
            lambda key, obs: jnp.zeros((rows, columns)), lambda batch: (),
            lambda params, memory, obs, start: (output_fn(params[beginning(obs)]), memory),
        )  # fmt: skip

    rows = (length + 1) * size ** (length + 1)
    reference = jnp.asarray(rng.normal(size=(rows, size)), jnp.float32)
    policy, value = table_network(size, pg.categorical), table_network(1, lambda x: x[..., 0])

    updates = 150
    optimizer = pg.adam(0.03, decay_steps=updates * 8)

    def build(env, reward_fn):
        return pg.ppo(
            env, policy, value, optimizer, num_envs=1024, num_steps=length, num_epochs=2, num_minibatches=4,
            discount=1.0, entropy_coef=0.0, reward_fn=reward_fn,
        )  # fmt: skip

    algorithm = rlhf(build, policy, of_pairs, end_token=None)(
        token_env(vocabulary_size=size, response_length=length)
    )
    env_params = RLHFParams(jnp.zeros((1, 1), int), reference, score, jnp.array(beta))

    @jax.jit
    @jax.vmap
    def run(key):
        return pg.train(key, algorithm, env_params, num_updates=updates)[0].inner.params.policy

    found = jax.device_get(run(jax.random.split(jax.random.key(0), 4)))

    def log_p(table):
        total = np.zeros(len(texts))
        for t in range(1, length + 1):
            row = (texts[:, :t] * size ** np.arange(t)).sum(1) + t * size ** (length + 1)
            logits = np.float64(table)[row]
            total += logits[np.arange(len(texts)), texts[:, t]] - np.log(np.exp(logits).sum(1))
        return total

    ref, rewards = log_p(reference), np.asarray(of_pairs(score, texts), np.float64)
    best = beta * np.log(np.sum(np.exp(ref + rewards / beta)))
    first = np.sum(np.exp(ref) * rewards)
    assert best - first > 0.1
    for table in found:
        p = log_p(table)
        reached = np.sum(np.exp(p) * (rewards - beta * (p - ref)))
        assert (reached - first) / (best - first) > 0.97
