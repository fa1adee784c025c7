"""A small language model: a decoder-only transformer as a policy, and as a value function.

A column of a rollout is one text, so all its rows are prefixes of the last one. A causal pass over that one
gives what a pass over every row would: T rows cost one pass, not T ("teacher forcing").
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxpg.arguments import Count, check, checked
from purejaxpg.functional.distributions import categorical
from purejaxpg.networks.attention import check_heads
from purejaxpg.networks.feed_forward import applied
from purejaxpg.rlhf.tokens import buffer, position
from purejaxpg.types import Network, split_mask


class Transformer(nn.Module):
    """What follows from the tokens before a position, at several positions of each of N texts.

    With x_0 a learnt token "begin", x_i the token i - 1, p a learnt code of places and LN layer normalisation,

        h = embedding(x) + p
        h = h + attention(LN(h)), of each place to those up to itself    h = h + MLP(LN(h))    in every layer
        output = linear(LN(h))

    so that the output at position i is a function of the i tokens before it and of no other. Vaswani et al.
    2017, arXiv:1706.03762; decoder only and normalised first as in Radford et al. 2019 (GPT-2) and Xiong et al.
    2020, arXiv:2002.04745.

    Attributes:
      vocabulary_size: number of tokens, 0 to `vocabulary_size` - 1.
      outputs: numbers at each position.
      features: size of h, a multiple of `num_heads`.
      num_layers: number of layers.
      num_heads: number of attention heads of a layer.
      output_init: initialiser of the last layer's kernel; its bias begins as 0.

    Raises:
      TypeError: a field is not of the kind that its annotation says.
      ValueError: a field is below 1, or `features` is no multiple of `num_heads`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from purejaxpg.rlhf.transformer import Transformer
      >>> model = Transformer(vocabulary_size=5, outputs=3, features=8, num_heads=2)
      >>> tokens, positions = jnp.zeros((2, 6), jnp.int8), jnp.full((4, 2), 6)
      >>> jax.eval_shape(model.init_with_output, jax.random.key(0), tokens, positions)[0].shape
      (4, 2, 3)
    """

    vocabulary_size: Count
    outputs: Count
    features: Count = 32
    num_layers: Count = 1
    num_heads: Count = 4
    output_init: Callable = nn.initializers.normal(0.02)

    def __post_init__(self) -> None:
        check_heads(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, tokens: jax.Array, positions: jax.Array) -> jax.Array:
        """One causal pass over N texts, read at T positions of each.

        Args:
          tokens: `[N, L]` integers; those from the largest position on do not matter.
          positions: `[T, N]` integers from 0 to L, the number of tokens that are seen.

        Returns:
          `[T, N, outputs]`.
        """
        number, length = tokens.shape
        begin = jnp.full((number, 1), self.vocabulary_size, jnp.int32)
        inputs = jnp.concatenate([begin, tokens.astype(jnp.int32)], axis=1)
        # Both are as large as what a layer adds, so that a token is not lost in the sum.
        init = nn.initializers.normal(0.5)
        hidden = nn.Embed(self.vocabulary_size + 1, self.features, embedding_init=init)(inputs)
        hidden = hidden + self.param("place_code", init, (length + 1, self.features))
        causal = nn.make_causal_mask(inputs)
        for _ in range(self.num_layers):
            normed = nn.LayerNorm()(hidden)
            hidden = hidden + nn.MultiHeadDotProductAttention(self.num_heads)(normed, mask=causal)
            wide = nn.gelu(nn.Dense(4 * self.features)(nn.LayerNorm()(hidden)))
            hidden = hidden + nn.Dense(self.features)(wide)
        read = jnp.take_along_axis(hidden, positions.T[..., None], axis=1, mode="clip")
        output = nn.Dense(self.outputs, kernel_init=self.output_init)(nn.LayerNorm()(read))
        return jnp.swapaxes(output, 0, 1)


@checked
def language_policy(
    *,
    vocabulary_size: Count,
    response_length: Count | None = None,
    features: Count = 32,
    num_layers: Count = 1,
    num_heads: Count = 4,
) -> Network:
    """A language model as a policy: pi(token | the tokens before it), for `token_env`.

    It gets rows `[T, B]` of which every column is one text that grows, and makes one pass over the last row.
    Where a row is no beginning of the last one, as in a rollout of more than one episode, its output is NaN.
    Where one token alone is allowed its log-probability is 0.

    Args:
      vocabulary_size: number of tokens.
      response_length: tokens of a response, the `sequence_length` that the network declares: whole responses
        are then shown in training, one pass for each. None shows rows one by one, a pass for each row.
      features: size of the hidden vectors, a multiple of `num_heads`.
      num_layers: number of layers.
      num_heads: number of attention heads of a layer.

    Returns:
      A `Network` without memory, whose output is a categorical `Distribution`, batch shape `[T, B]`.

    Raises:
      TypeError: an argument is no integer.
      ValueError: one is below 1, or `features` is no multiple of `num_heads`; by `init` and `apply`, where
        observations are no tokens or there are more rows than a text has.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from purejaxpg.rlhf.tokens import rows
      >>> from purejaxpg.rlhf.transformer import language_policy
      >>> policy = language_policy(vocabulary_size=5, features=8, num_heads=2)
      >>> obs = rows(jnp.array([[1, 2, 3, 4]]), prompt_length=2)  # [T, B, L + 1]
      >>> start = jnp.zeros((2, 1), bool)
      >>> distribution, _ = policy.apply(policy.init(jax.random.key(0), obs), (), obs, start)
      >>> distribution.logits.shape
      (2, 1, 5)
    """
    module = Transformer(
        vocabulary_size=vocabulary_size,
        outputs=vocabulary_size,
        features=features,
        num_layers=num_layers,
        num_heads=num_heads,
    )
    return _teacher_forced(module, categorical, response_length)


@checked
def language_value(
    *,
    vocabulary_size: Count,
    response_length: Count | None = None,
    features: Count = 32,
    num_layers: Count = 1,
    num_heads: Count = 4,
) -> Network:
    """A transformer as a value function for `token_env`, a network of its own that begins as V = 0.

    Rows are as in `language_policy`; those after END, where one token alone is allowed, have value 0.

    Args:
      vocabulary_size: number of tokens.
      response_length: tokens of a response, the `sequence_length` that the network declares: whole responses
        are then shown in training, one pass for each. None shows rows one by one, a pass for each row.
      features: size of the hidden vectors, a multiple of `num_heads`.
      num_layers: number of layers.
      num_heads: number of attention heads of a layer.

    Returns:
      A `Network` without memory, whose output is values `[T, B]`.

    Raises:
      TypeError: an argument is no integer.
      ValueError: as in `language_policy`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from purejaxpg.rlhf.tokens import rows
      >>> from purejaxpg.rlhf.transformer import language_value
      >>> value = language_value(vocabulary_size=5, features=8, num_heads=2)
      >>> obs = rows(jnp.array([[1, 2, 3, 4]]), prompt_length=2)
      >>> start = jnp.zeros((2, 1), bool)
      >>> value.apply(value.init(jax.random.key(0), obs), (), obs, start)[0].tolist()
      [[0.0], [0.0]]
    """
    module = Transformer(
        vocabulary_size=vocabulary_size,
        outputs=1,
        features=features,
        num_layers=num_layers,
        num_heads=num_heads,
        output_init=nn.initializers.zeros,
    )

    def values(output, mask):
        value = output[..., 0]
        return value if mask is None else jnp.where(mask.sum(axis=-1) > 1, value, 0.0)

    return _teacher_forced(module, values, response_length)


def _teacher_forced(module: Transformer, output_fn: Callable, length: int | None) -> Network:
    """The module at the position of every row, by one pass over the last one.

    Args:
      output_fn: makes the output of what the module gives, `[T, B, outputs]`, and the mask.
      length: `sequence_length`.
    """

    def init(key, obs):
        tokens = _tokens(split_mask(obs)[0])
        return module.init(key, buffer(tokens[-1]), position(tokens))

    def apply(params, memory, obs, start):
        tokens, mask = split_mask(obs)
        tokens = _tokens(tokens)
        positions, text = position(tokens), buffer(tokens[-1])
        output = applied(module, params, text, positions)
        if len(tokens) > 1:  # what is read from another text would be wrong without a word
            unwritten = jnp.arange(text.shape[-1]) >= positions[..., None]
            same = jnp.all(unwritten | (buffer(tokens) == text), axis=-1)
            output = jnp.where(same[..., None], output, jnp.nan)
        return output_fn(output, mask), memory

    return Network(init, lambda batch: (), apply, length)


def _tokens(obs: jax.Array) -> jax.Array:
    """The raw observations; ValueError, one sentence, unless they can be rows of texts."""
    check("the observation", obs, jax.Array)
    if obs.ndim != 3 or not jnp.issubdtype(obs.dtype, jnp.integer) or obs.shape[-1] < 2:
        raise ValueError(
            "A language model needs the observations of token_env, integers [T, B, L + 1], not "
            f"{obs.dtype} of shape {obs.shape}."
        )
    if len(obs) > obs.shape[-1]:
        raise ValueError(
            f"A column must be one text: {len(obs)} rows are more than one of {obs.shape[-1] - 1} tokens has; "
            "num_steps must be the response_length."
        )
    return obs
