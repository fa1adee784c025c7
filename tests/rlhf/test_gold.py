"""The gold reward against a loop, and its optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.rlhf.gold import Gold, draw_gold, gold_score
from tests.rlhf.small import END, LENGTH, PROMPT, VOCABULARY, random_texts, response_of

score_of = jax.jit(gold_score, static_argnames=("prompt_length", "end_token"))
GOLD = draw_gold(
    jax.random.key(0), vocabulary_size=VOCABULARY, num_features=3, distance=2.0, length=3.0
)


def test_score_is_that_of_a_loop():
    texts = random_texts(1, 40)
    found = score_of(GOLD, texts, prompt_length=PROMPT, end_token=END)
    token_features, prompt_features = (np.asarray(x, np.float64) for x in GOLD[:2])
    for text, score in zip(texts, found):
        direction = sum(prompt_features[token] for token in text[:PROMPT])
        words = [token for token in response_of(text) if token != END]
        mean = np.mean([token_features[token] for token in words], axis=0) if words else 0.0
        gap = mean - 2.0 * direction / np.sqrt((direction**2).sum())
        expected = -(gap**2).sum() / 4 - (len(words) - 3.0) ** 2 / 9
        assert float(score) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_nothing_depends_on_what_follows_end():
    texts = np.array([[0, 1, 2, END, END, END], [0, 1, 2, END, 3, 0]])
    texts = np.resize(texts, (40, LENGTH))
    one, other = score_of(GOLD, texts, prompt_length=PROMPT, end_token=END)[:2]
    assert float(one) == float(other)
    assert float(score_of(GOLD, texts, prompt_length=PROMPT, end_token=None)[0]) != float(one)


def test_more_of_a_good_thing_becomes_bad():
    gold = Gold(jnp.eye(VOCABULARY, 2), jnp.eye(VOCABULARY, 2), jnp.array(0.5), jnp.array(4.0))
    texts = np.zeros((5, LENGTH), int)
    for number in range(5):  # so many good tokens among four; the others are about nothing
        texts[number, PROMPT:] = [0] * number + [2] * (4 - number)
    scores = np.asarray(score_of(gold, texts, prompt_length=PROMPT, end_token=END))
    np.testing.assert_allclose(scores, [-1, -0.25, 0, -0.25, -1], atol=1e-6)
    texts[:, :PROMPT] = 1  # asks for something else
    scores = np.asarray(score_of(gold, texts, prompt_length=PROMPT, end_token=END))
    assert (np.diff(scores) < 0).all()


def test_longer_is_better_and_then_worse():
    gold = Gold(jnp.eye(VOCABULARY, 2), jnp.eye(VOCABULARY, 2), jnp.array(1.0), jnp.array(2.0))
    texts = np.full((5, LENGTH), END)
    texts[:, :PROMPT] = 0
    for number in range(5):
        texts[number, PROMPT : PROMPT + number] = 0
    scores = np.asarray(score_of(gold, texts, prompt_length=PROMPT, end_token=END))
    np.testing.assert_allclose(scores, [-2, -0.25, 0, -0.25, -1], atol=1e-6)


def test_tokens_at_random_have_mean_squared_norm_one():
    gold = draw_gold(jax.random.key(1), vocabulary_size=2000, num_features=5)
    assert float((gold.token_features**2).sum(axis=1).mean()) == pytest.approx(1, abs=0.05)
    assert float((gold.prompt_features**2).mean()) == pytest.approx(1, abs=0.05)
    assert gold.distance.dtype == jnp.float32


def test_wrong_calls_are_refused():
    texts = random_texts(0, 1)
    with pytest.raises(ValueError, match="needs a prompt: prompt_length must be at least 1"):
        gold_score(GOLD, texts, prompt_length=0, end_token=END)
    with pytest.raises(ValueError, match="end_token must be one of the 5 tokens"):
        gold_score(GOLD, texts, prompt_length=PROMPT, end_token=5)
    with pytest.raises(ValueError, match="distance must be greater than 0"):
        draw_gold(jax.random.key(0), vocabulary_size=4, distance=0.0)
    with pytest.raises(ValueError, match="length must be greater than 0"):
        draw_gold(jax.random.key(0), vocabulary_size=4, length=0.0)
