"""The grammar against brute force over all hidden paths and over all texts."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.rlhf.grammar import Grammar, draw_grammar, log_likelihood, sample

S, V, L, END = 2, 4, 3, 1  # END is not the last token
GRAMMAR = Grammar(
    jnp.array([0.3, 0.7]),
    jnp.array([[0.9, 0.1], [0.4, 0.6]]),
    jnp.array([[0.5, 0.0, 0.2, 0.3], [0.1, 0.0, 0.8, 0.1]]),
    jnp.array([0.1, 0.3]),
)


def every_text(end_token):
    """All buffers of L tokens, filled up with END."""
    texts = []
    for text in product(range(V), repeat=L):
        first = text.index(end_token) if end_token in text else L
        if all(token == end_token for token in text[first:]):
            texts.append(text)
    return np.array(texts)


def probability(text, end_token, min_length):
    """The sum over all hidden paths of what a text needs, one factor after the other."""
    start, transition, emission, end = (np.asarray(x, np.float64) for x in GRAMMAR)
    number = list(text).index(end_token) if end_token in text else L
    total = 0.0
    for path in product(
        range(S), repeat=number + 1
    ):  # the last state is the one after the last word
        one = start[path[0]]
        for t in range(number):
            goes_on = 1 - end[path[t]] if end_token is not None and t >= min_length else 1.0
            one *= goes_on * emission[path[t], text[t]] * transition[path[t], path[t + 1]]
        if number < L:
            one *= end[path[number]] if number >= min_length else 0.0
        total += one
    return total


@jax.jit
def found():
    """Log-likelihoods of every text, with END and without, from any length and from 2 on."""
    texts = jnp.asarray(every_text(END))
    free = log_likelihood(GRAMMAR, texts, end_token=END)
    late = log_likelihood(GRAMMAR, texts, end_token=END, min_length=2)
    return free, late


@pytest.mark.parametrize(("index", "min_length"), [(0, 0), (1, 2)])
def test_likelihood_is_the_sum_over_paths(index, min_length):
    texts = every_text(END)
    assert len(texts) == 1 + 3 + 9 + 27
    expected = [probability(text, END, min_length) for text in texts]
    np.testing.assert_allclose(np.exp(found()[index]), expected, rtol=1e-5, atol=1e-8)
    assert np.exp(found()[index]).sum() == pytest.approx(1, abs=1e-5)


def test_without_end():
    texts = np.array(list(product(range(V), repeat=L)))

    @jax.jit
    def total(key):
        grammar = draw_grammar(key, vocabulary_size=V, num_states=S, end_token=None)
        return jnp.exp(log_likelihood(grammar, jnp.asarray(texts), end_token=None)).sum()

    assert float(total(jax.random.key(5))) == pytest.approx(1, abs=1e-5)


def test_what_follows_end_is_not_read():
    texts = jnp.array([[2, END, END], [2, END, 0]], jnp.int8)
    one, other = log_likelihood(GRAMMAR, texts, end_token=END)
    assert float(one) == float(other)


@pytest.mark.parametrize("min_length", [0, 2])
def test_samples_are_as_often_as_they_are_likely(min_length):
    number = 20_000
    drawn = sample(
        jax.random.key(1), GRAMMAR, num_texts=number, length=L, end_token=END, min_length=min_length
    )
    assert drawn.dtype == jnp.int8
    texts = every_text(END)
    count = np.array([(np.asarray(drawn) == text).all(axis=1).sum() for text in texts])
    assert count.sum() == number
    chance = np.array([probability(text, END, min_length) for text in texts])
    error = np.abs(count - number * chance) / np.sqrt(number * chance * (1 - chance) + 1e-9)
    assert error.max() < 4.5


def test_a_grammar_at_random():
    options = {"vocabulary_size": 6, "num_states": 400, "end_token": 2, "end_probability": 0.2}
    grammar = jax.jit(lambda key: draw_grammar(key, **options))(jax.random.key(2))
    for rows in grammar[:3]:
        np.testing.assert_allclose(np.asarray(rows).sum(axis=-1), 1, atol=1e-5)
    emission = np.asarray(grammar.emission)
    assert (emission[:, 2] == 0).all()
    assert np.delete(emission, 2, axis=1).min() >= 0.02 / 5 - 1e-7  # smoothing over 5 words
    end = np.asarray(grammar.end)
    assert end.mean() == pytest.approx(0.2, abs=0.02)
    assert end.max() <= 0.4
    assert end.std() > 0.05


def test_wrong_calls_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="end_token must be one of the 4 tokens, 0 to 3, not 4"):
        draw_grammar(key, vocabulary_size=4, num_states=2, end_token=4)
    with pytest.raises(ValueError, match="needs a token beside END"):
        draw_grammar(key, vocabulary_size=1, num_states=2, end_token=0)
    with pytest.raises(ValueError, match=r"end_probability must be between 0 and 1/2, not 0\.6"):
        draw_grammar(key, vocabulary_size=4, num_states=2, end_token=3, end_probability=0.6)
    with pytest.raises(ValueError, match="end_token must be one of the 4 tokens"):
        sample(key, GRAMMAR, num_texts=2, length=3, end_token=4)
    with pytest.raises(ValueError, match="Texts must be integers"):
        log_likelihood(GRAMMAR, jnp.zeros((2, 3)), end_token=END)
