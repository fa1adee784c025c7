"""A stochastic regular grammar: "natural language" of which the likelihood is exactly known."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from purejaxpg.arguments import Count, Fraction, Key, NotNegative, Range, Steps, checked
from purejaxpg.rlhf.tokens import Token, check_end_token, check_texts, token_dtype
from purejaxpg.types import Scalar

EndProbability = Annotated[Scalar, Range("between 0 and 1/2", lambda x: 0 <= x <= 0.5)]


class Grammar(NamedTuple):
    """A hidden Markov model over S hidden states and V tokens.

    In state h a text ends with probability end[h]; otherwise a token is drawn from emission[h], and the next
    state from transition[h]. Rabiner 1989, with ends.

    Attributes:
      start: `[S]`, probability of the first state.
      transition: `[S, S]`, probability of the next state (columns) after each (rows).
      emission: `[S, V]`, probability of a token that is not END; that of END is 0.
      end: `[S]`, probability that the text ends here.
    """

    start: jax.Array
    transition: jax.Array
    emission: jax.Array
    end: jax.Array


@checked
def draw_grammar(
    key: Key,
    *,
    vocabulary_size: Count,
    num_states: Count,
    end_token: Token | None,
    end_probability: EndProbability = 0.1,
    sharpness: NotNegative = 3.0,
    smoothing: Fraction = 0.02,
) -> Grammar:
    """A grammar at random: rows softmax(sharpness z) with z standard normal, ends from a uniform distribution.

    Args:
      key: consumed.
      vocabulary_size: V, number of tokens, END among them.
      num_states: S, number of hidden states.
      end_token: END, which is never emitted otherwise; None for a grammar whose texts do not end.
      end_probability: mean of the probabilities to end, which are uniform between 0 and twice that; from 0 to
        1/2, without effect where there is no END.
      sharpness: standard deviation of the logits, at least 0: the larger, the more is known of what comes
        next, and with 0 nothing is.
      smoothing: share of the uniform distribution in every emission, between 0 and 1; above 0 every text has
        a finite log-likelihood.

    Returns:
      A `Grammar`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, END is none of the tokens, or there is no other.

    Example:
      >>> import jax
      >>> from purejaxpg.rlhf.grammar import draw_grammar
      >>> grammar = draw_grammar(jax.random.key(0), vocabulary_size=5, num_states=3, end_token=4)
      >>> grammar.emission.shape, float(grammar.emission[:, 4].max())
      ((3, 5), 0.0)
    """
    check_end_token(end_token, vocabulary_size)
    words = vocabulary_size - (end_token is not None)
    if words == 0:
        raise ValueError("A grammar needs a token beside END: vocabulary_size must be at least 2.")
    start_key, transition_key, emission_key, end_key = jax.random.split(key, 4)

    def rows_of(key, *shape):
        return jax.nn.softmax(sharpness * jax.random.normal(key, shape))

    start = rows_of(start_key, num_states)
    transition = rows_of(transition_key, num_states, num_states)
    emission = rows_of(emission_key, num_states, words)
    emission = (1 - smoothing) * emission + smoothing / words
    end = jnp.zeros(num_states)
    if end_token is not None:
        emission = jnp.insert(emission, end_token, 0.0, axis=1)
        end = 2 * end_probability * jax.random.uniform(end_key, (num_states,))
    return Grammar(start, transition, emission, end)


@checked
def sample(
    key: Key,
    grammar: Grammar,
    *,
    num_texts: Count,
    length: Count,
    end_token: Token | None,
    min_length: Steps = 0,
) -> jax.Array:
    """Texts of a grammar, cut after `length` tokens and filled up with END.

    Args:
      key: consumed.
      grammar: what they are drawn from.
      num_texts: N, how many.
      length: L, tokens of a buffer.
      end_token: END; None if there is none, and then `grammar.end` is not used.
      min_length: so many tokens at least come before END: no text ends there.

    Returns:
      `[N, L]`, int8 or int16.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or END is none of the tokens.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from purejaxpg.rlhf.grammar import Grammar, sample
      >>> up_and_down = Grammar(jnp.array([1.0, 0.0]), 1 - jnp.eye(2), jnp.eye(2, 3), jnp.array([0.0, 0.0]))
      >>> sample(jax.random.key(0), up_and_down, num_texts=1, length=5, end_token=2).tolist()
      [[0, 1, 0, 1, 0]]
    """
    vocabulary_size = grammar.emission.shape[-1]
    check_end_token(end_token, vocabulary_size)
    start_key, text_key = jax.random.split(key)
    log_start, log_transition, log_emission = (jnp.log(x) for x in grammar[:3])
    end = jnp.asarray(grammar.end)
    state = jax.random.categorical(start_key, log_start, shape=(num_texts,))

    def write(carry, now):
        state, over = carry
        key, time = now
        end_key, token_key, state_key = jax.random.split(key, 3)
        token = jax.random.categorical(token_key, log_emission[state])
        if end_token is not None:
            ends = jax.random.uniform(end_key, (num_texts,)) < end[state]
            over = over | (ends & (time >= min_length))
            token = jnp.where(over, end_token, token)
        return (jax.random.categorical(state_key, log_transition[state]), over), token

    times = jax.random.split(text_key, length), jnp.arange(length)
    _, tokens = jax.lax.scan(write, (state, jnp.zeros(num_texts, bool)), times)
    return tokens.T.astype(token_dtype(vocabulary_size - 1))


@checked
def log_likelihood(
    grammar: Grammar, texts: jax.Array, *, end_token: Token | None, min_length: Steps = 0
) -> jax.Array:
    """log P(text), summed over all hidden paths; of a text without END that of all texts which begin so.

    The forward recursion (Rabiner 1989) in logarithms: with a_t(h) the joint probability of the
    first t tokens and state h after them, a_0 = start,

        a_(t+1)(h') = sum_h a_t(h) (1 - end(h)) emission(h, token_t) transition(h, h')

    and P = sum_h a_t(h) end(h) where token_t is END, sum_h a_L(h) if none is. Over all buffers of one length,
    filled up with END, these probabilities add up to 1. That of a response given its prompt is the difference
    of two: of the buffer, and of the prompt alone.

    Args:
      grammar: of S states.
      texts: `[..., L]` integers; what follows the first END is not read.
      end_token: END; None if there is none, and then `grammar.end` is not used.
      min_length: that of `sample`: there is no END among the first so many tokens.

    Returns:
      `[...]` in nats; -inf for a text that the grammar does not know.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, END is none of the tokens, or the texts are no integers.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.grammar import Grammar, log_likelihood
      >>> coin = Grammar(jnp.ones(1), jnp.ones((1, 1)), jnp.array([[0.5, 0.5, 0.0]]), jnp.array([0.2]))
      >>> texts = jnp.array([[0, 1, 2]])  # 0.8 * 0.5 * 0.8 * 0.5 * 0.2
      >>> round(float(jnp.exp(log_likelihood(coin, texts, end_token=2))[0]), 4)
      0.032
    """
    check_texts(texts, 0, axes=None)
    check_end_token(end_token, grammar.emission.shape[-1])
    log_start, log_transition, log_emission = (jnp.log(x) for x in grammar[:3])
    leading, states = texts.shape[:-1], grammar.start.shape[0]
    done = jnp.zeros(leading, bool)
    forward = jnp.broadcast_to(log_start, (*leading, states))

    def read(carry, now):
        forward, done = carry
        token, time = now
        ends = jnp.zeros(states) if end_token is None else grammar.end * (time >= min_length)
        emitted = forward + jnp.log1p(-ends) + jnp.moveaxis(log_emission[:, token], 0, -1)
        after = logsumexp(emitted[..., None] + log_transition, axis=-2)
        over = jnp.zeros_like(done) if end_token is None else token == end_token
        after = jnp.where(over[..., None], forward + jnp.log(ends), after)
        return (jnp.where(done[..., None], forward, after), done | over), None

    tokens = jnp.moveaxis(texts.astype(jnp.int32), -1, 0)
    times = jnp.arange(tokens.shape[0])
    (forward, _), _ = jax.lax.scan(read, (forward, done), (tokens, times))
    return logsumexp(forward, axis=-1)
