"""A world of five tokens that the tests of this folder share."""

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from purejaxpg.types import split_mask

VOCABULARY, PROMPT, RESPONSE, END = 5, 2, 4, 4
LENGTH = PROMPT + RESPONSE
SIZES = {"vocabulary_size": VOCABULARY, "features": 8, "num_layers": 1, "num_heads": 2}


def bigram_policy():
    """Logits that are a table `[V + 1, V]` of the token before, the last row for none: quick to compile."""

    def apply(params, memory, obs, start):
        obs, mask = split_mask(obs)
        tokens, place = obs[..., :-1], obs[..., -1:].astype(int)
        before = jnp.take_along_axis(tokens, jnp.maximum(place - 1, 0), axis=-1)
        row = jnp.where(place > 0, before, len(params) - 1)[..., 0]
        return pg.categorical(params[row], mask), memory

    return pg.Network(None, lambda batch: (), apply)


def random_texts(seed, number, *, end_rate=0.3):
    """Buffers `[number, LENGTH]` in NumPy, filled up with END."""
    rng = np.random.default_rng(seed)
    texts = rng.integers(0, END, (number, LENGTH))
    for text in texts:
        for i in range(PROMPT, LENGTH):
            if text[i - 1] == END or rng.random() < end_rate:
                text[i] = END
    return texts.astype(np.int8)


def response_of(text):
    """The tokens that count, END included, as a list."""
    words = []
    for token in text[PROMPT:]:
        words.append(int(token))
        if token == END:
            break
    return words


def drawn_anew(params, seed):
    """Parameters of these shapes of which none is 0 or 1."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), jnp.float32), params)
