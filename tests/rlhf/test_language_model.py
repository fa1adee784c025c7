"""Likelihoods token by token, fitting against a known entropy, and samples against their probabilities."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purejaxpg as pg
from purejaxpg.agent.acting import on_raw_observations
from purejaxpg.rlhf import tokens
from purejaxpg.rlhf.fitting import descend
from purejaxpg.rlhf.language_model import (
    cross_entropy,
    fit_language_model,
    sample_responses,
    token_log_probs,
)
from purejaxpg.rlhf.transformer import language_policy
from tests.rlhf.small import (
    END,
    LENGTH,
    PROMPT,
    RESPONSE,
    SIZES,
    VOCABULARY,
    bigram_policy,
    drawn_anew,
    random_texts,
    response_of,
)

POLICY = language_policy(**SIZES)
BIGRAMS = bigram_policy()
TEXTS = random_texts(3, 8)
log_probs = jax.jit(
    partial(token_log_probs, POLICY, prompt_length=PROMPT, end_token=END),
)


def params_for(texts):
    rows = tokens.rows(texts, prompt_length=0)
    return drawn_anew(jax.eval_shape(POLICY.init, jax.random.key(0), rows), 0)


PARAMS = params_for(TEXTS)


@jax.jit
def one_row(params, obs):
    """Logits `[N, V]` of one row alone."""
    return POLICY.apply(params, (), obs[None], jnp.zeros((1, len(obs)), bool))[0].logits[0]


def test_log_probabilities_are_those_of_one_token_after_the_other():
    found = np.asarray(log_probs(PARAMS, TEXTS))
    expected = np.zeros((len(TEXTS), RESPONSE))
    for t in range(RESPONSE):
        obs = np.zeros((len(TEXTS), LENGTH + 1), np.int8)
        obs[:, : PROMPT + t], obs[:, -1] = TEXTS[:, : PROMPT + t], PROMPT + t
        logits = np.asarray(one_row(PARAMS, obs), np.float64)
        log_prob = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        for n, text in enumerate(TEXTS):
            if t < len(response_of(text)):
                expected[n, t] = log_prob[n, text[PROMPT + t]]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert (found[expected == 0] == 0).all()
    assert (expected == 0).any()


def test_a_masked_policy_says_the_same():
    env = tokens.token_env(vocabulary_size=VOCABULARY, response_length=RESPONSE, end_token=END)
    params = tokens.TokenParams(jnp.zeros((1, PROMPT), jnp.int8))
    raw = on_raw_observations(POLICY, env, params)
    masked = jax.jit(partial(token_log_probs, raw, prompt_length=PROMPT, end_token=END))
    np.testing.assert_allclose(
        masked(PARAMS, TEXTS), log_probs(PARAMS, TEXTS), rtol=1e-5, atol=1e-6
    )


def test_the_gradient_is_that_of_finite_differences():
    @jax.jit
    @jax.value_and_grad
    def loss(params):
        return cross_entropy(POLICY, params, TEXTS, prompt_length=PROMPT, end_token=END).mean()

    now, gradient = loss(PARAMS)
    assert float(now) == pytest.approx(-float(log_probs(PARAMS, TEXTS).sum() / 8), rel=1e-5)
    direction = drawn_anew(PARAMS, 1)
    slope = sum(
        float(jnp.vdot(x, y)) for x, y in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction))
    )
    there, back = (
        float(loss(jax.tree.map(lambda x, y, step=step: x + step * y, PARAMS, direction))[0])
        for step in (3e-3, -3e-3)
    )
    assert slope == pytest.approx((there - back) / 6e-3, rel=0.02)


def test_fitting_finds_the_frequencies():
    texts = np.array([[0, END, END]] * 3 + [[1, 2, END]], np.int8)
    even = jnp.zeros((VOCABULARY + 1, VOCABULARY))

    @jax.jit
    def run(key):
        fitted, loss = fit_language_model(
            key,
            BIGRAMS,
            even,
            texts,
            pg.adam(0.05),
            prompt_length=0,
            end_token=END,
            num_steps=300,
            batch_size=64,
        )
        entropy = cross_entropy(BIGRAMS, fitted, texts[2:], prompt_length=0, end_token=END)
        return fitted, loss, jnp.exp(-entropy)

    fitted, loss, probability = run(jax.random.key(0))
    assert loss.shape == (300,)
    assert float(loss[0]) == pytest.approx(np.log(VOCABULARY), abs=1e-4)  # nats a token
    np.testing.assert_allclose(probability, [0.75, 0.25], atol=0.08)
    surprise = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    assert float(loss[-50:].mean()) == pytest.approx(
        surprise / 2.25, abs=0.03
    )  # 2.25 tokens a text
    assert (np.asarray(fitted[END]) == 0).all()  # what follows END is not learnt


def test_a_prompt_is_not_learnt():
    texts, even = np.array([[0, 1, 2]], np.int8), jnp.zeros((VOCABULARY + 1, VOCABULARY))
    fitted, _ = fit_language_model(
        jax.random.key(0),
        BIGRAMS,
        even,
        texts,
        optax.sgd(1.0),
        prompt_length=2,
        end_token=END,
        num_steps=1,
        batch_size=2,
    )
    expected = np.zeros_like(even)
    expected[1] = np.eye(VOCABULARY)[2] - 1 / VOCABULARY
    np.testing.assert_allclose(fitted, expected, atol=1e-6)


def test_responses_are_as_often_as_they_are_likely():
    number = 2000
    env = tokens.token_env(vocabulary_size=3, response_length=2, end_token=2)
    prompts = np.repeat([[0], [1]], number, axis=0).astype(np.int8)
    params = jax.random.normal(jax.random.key(4), (4, 3))
    probs = np.exp(params) / np.exp(params).sum(axis=1, keepdims=True)
    drawn = np.asarray(
        jax.jit(sample_responses, static_argnums=(1, 2))(
            jax.random.key(0), env, BIGRAMS, params, prompts
        )
    )
    assert drawn.dtype == np.int8
    assert (drawn[:, :1] == prompts).all()
    total = 0
    for text in product(range(2), range(3), range(3)):
        chance = probs[text[0], text[1]] * (
            text[2] == 2 if text[1] == 2 else probs[text[1], text[2]]
        )
        count = (drawn == text).all(axis=1).sum()
        assert abs(count - number * chance) <= 4.5 * np.sqrt(number * chance * (1 - chance))
        total += count
    assert total == 2 * number


def test_minibatches_are_drawn_from_everything():
    def loss_fn(params, batch):
        return jnp.sum(params * jnp.bincount(batch, length=5))

    sgd = optax.sgd(1.0)
    data = np.arange(5)
    params, _, _ = descend(
        jax.random.key(0),
        loss_fn,
        jnp.zeros(5),
        sgd.init(jnp.zeros(5)),
        data,
        sgd,
        num_steps=50,
        batch_size=20,
    )
    count = -np.asarray(params)
    assert count.sum() == 1000
    assert np.abs(count - 200).max() < 4.5 * np.sqrt(1000 * 0.2 * 0.8)


def test_wrong_calls_are_refused():
    floats, key, adam = jnp.zeros((2, 3)), jax.random.key(0), pg.adam()
    with pytest.raises(ValueError, match="Texts must be integers"):
        cross_entropy(POLICY, PARAMS, floats, prompt_length=1, end_token=END)
    with pytest.raises(ValueError, match="prompt_length=6 must be below the 6 tokens of a text"):
        token_log_probs(POLICY, PARAMS, TEXTS, prompt_length=6, end_token=END)
    with pytest.raises(ValueError, match="Texts must have 2 axes"):
        fit_language_model(
            key, POLICY, PARAMS, TEXTS[0], adam, prompt_length=1, end_token=END, num_steps=1
        )
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        fit_language_model(
            key, POLICY, PARAMS, TEXTS, adam, prompt_length=1, end_token=END, batch_size=0
        )
    with pytest.raises(ValueError, match=r"arrays .* of one N, at least 1"):
        descend(key, max, PARAMS, (), (TEXTS, TEXTS[:3]), adam, num_steps=1, batch_size=1)
    env = tokens.token_env(vocabulary_size=VOCABULARY, response_length=RESPONSE, end_token=END)
    with pytest.raises(ValueError, match="must not hold the end token 4"):
        sample_responses(key, env, POLICY, PARAMS, jnp.full((2, PROMPT), END))
