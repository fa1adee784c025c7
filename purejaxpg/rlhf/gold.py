"""A hidden "gold" reward: what people really want, which a reward model is to learn from comparisons."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.arguments import Count, Key, Positive, Steps, checked
from purejaxpg.rlhf.tokens import Token, check_end_token, check_texts, counted


class Gold(NamedTuple):
    """A gold reward in which prompt and response meet.

    Attributes:
      token_features: `[V, D]`, what each token is about.
      prompt_features: `[V, D]`, what each token of a prompt asks for.
      distance: how far the mean of a response's features should go into the direction that is asked for;
        positive, in the units of the token features.
      length: how many tokens a response should have, END apart; positive.
    """

    token_features: jax.Array
    prompt_features: jax.Array
    distance: jax.Array
    length: jax.Array


@checked
def draw_gold(
    key: Key,
    *,
    vocabulary_size: Count,
    num_features: Count = 4,
    distance: Positive = 1.0,
    length: Positive = 6.0,
) -> Gold:
    """A gold reward at random: independent normal features, those of a token of mean squared norm 1.

    Args:
      key: consumed.
      vocabulary_size: V, number of tokens.
      num_features: D, in how many ways responses differ.
      distance: of the best response from the empty one, a positive number; may be traced.
      length: tokens of the best response, a positive number; may be traced.

    Returns:
      A `Gold`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range.

    Example:
      >>> import jax
      >>> from purejaxpg.rlhf.gold import draw_gold
      >>> draw_gold(jax.random.key(0), vocabulary_size=5).token_features.shape
      (5, 4)
    """
    token_key, prompt_key = jax.random.split(key)
    shape = (vocabulary_size, num_features)
    token_features = jax.random.normal(token_key, shape) / num_features**0.5
    prompt_features = jax.random.normal(prompt_key, shape)
    return Gold(
        token_features, prompt_features, jnp.asarray(1.0 * distance), jnp.asarray(1.0 * length)
    )


@checked
def gold_score(
    gold: Gold, texts: jax.Array, *, prompt_length: Steps, end_token: Token | None
) -> jax.Array:
    """score = -|m - distance g / |g||^2 / distance^2 - (n / length - 1)^2.

    m = sum_t e(y_t) / n is what a response is about and g = sum_s p(x_s) what its prompt asks for: x are the
    tokens of the prompt, y the n tokens of the response before END, e token features and p prompt features. The
    best response depends on the prompt, and more of what is good at first, be it a kind of token or length, is
    bad in the end: who maximises a model of this score can go too far.

    Args:
      gold: the features.
      texts: `[..., L]` integers, buffers of prompt and response.
      prompt_length: tokens of the prompt, at least 1.
      end_token: END; None if there is none. END and what follows it add nothing.

    Returns:
      `[...]`, at most 0, which is a perfect response; an empty one has -2.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the prompt is empty or leaves no token for a response, or END is none of the tokens.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.gold import Gold, gold_score
      >>> features = jnp.array([[4.0], [0.0], [0.0]])
      >>> gold = Gold(features, features, distance=jnp.array(2.0), length=jnp.array(2.0))
      >>> texts = jnp.array([[0, 1, 1, 2], [0, 0, 1, 2], [0, 0, 0, 2], [0, 2, 2, 2]])
      >>> gold_score(gold, texts, prompt_length=1, end_token=2).tolist()
      [-1.0, -0.0, -1.0, -2.0]
    """
    check_texts(texts, prompt_length, axes=None)
    check_end_token(end_token, gold.token_features.shape[0])
    if prompt_length == 0:
        raise ValueError("gold_score needs a prompt: prompt_length must be at least 1, not 0.")
    words = counted(texts, prompt_length=prompt_length, end_token=end_token)
    if end_token is not None:
        words = words & (texts != end_token)
    number = words.sum(axis=-1)
    token_features, prompt_features = (jnp.asarray(x) for x in gold[:2])
    tokens = texts.astype(jnp.int32)
    total = jnp.sum(token_features[tokens] * words[..., None], axis=-2)
    mean = total / jnp.maximum(number, 1)[..., None]
    wanted = jnp.sum(prompt_features[tokens[..., :prompt_length]], axis=-2)
    norm = jnp.linalg.norm(wanted, axis=-1, keepdims=True)
    gap = mean - gold.distance * wanted / jnp.maximum(norm, 1e-6)
    return -jnp.sum(gap**2, axis=-1) / gold.distance**2 - (number / gold.length - 1) ** 2
