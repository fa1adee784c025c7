"""The transformer against its equation in NumPy, and one pass against many."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

import purejaxpg as pg
from purejaxpg.rlhf import tokens
from purejaxpg.rlhf.transformer import Transformer, language_policy, language_value
from tests.layers import layers
from tests.rlhf.small import (
    END,
    LENGTH,
    PROMPT,
    RESPONSE,
    SIZES,
    VOCABULARY,
    drawn_anew,
    random_texts,
)

ENV = tokens.token_env(vocabulary_size=VOCABULARY, response_length=RESPONSE, end_token=END)
PARAMS = tokens.TokenParams(jnp.array([[0, 1], [2, 3], [3, 0]]))
POLICY, VALUE = language_policy(**SIZES), language_value(**SIZES)
B = 6
TEXTS = random_texts(0, B)


def all_rows(texts):
    """Observations of all steps, and the one after the last."""
    rows = tokens.rows(texts, prompt_length=PROMPT)
    last = np.concatenate([texts, np.full((len(texts), 1), LENGTH, np.int8)], axis=1)
    return jnp.concatenate([rows, last[None]])


@partial(jax.jit, static_argnums=0)
def outputs(kind, params, obs):
    network = POLICY if kind == "policy" else VALUE
    output, _ = network.apply(params, (), ENV.observe(obs, PARAMS), jnp.zeros(obs.shape[:2], bool))
    return output.logits if kind == "policy" else output


@pytest.fixture(scope="module")
def params():
    obs = all_rows(TEXTS)
    networks = {"policy": POLICY, "value": VALUE}
    shapes = {name: jax.eval_shape(x.init, jax.random.key(0), obs) for name, x in networks.items()}
    return {name: drawn_anew(x, seed) for seed, (name, x) in enumerate(shapes.items())}


@pytest.mark.parametrize("kind", ["policy", "value"])
def test_teacher_forcing_is_step_by_step(kind, params):
    obs = all_rows(TEXTS)
    at_once = outputs(kind, params[kind], obs)
    one_by_one = [outputs(kind, params[kind], row[None])[0] for row in obs]
    assert len(at_once) == RESPONSE + 1
    np.testing.assert_allclose(at_once, jnp.stack(one_by_one), rtol=1e-5, atol=1e-5)


def test_later_tokens_change_nothing(params):
    obs = all_rows(TEXTS)
    before = np.asarray(outputs("policy", params["policy"], obs))
    for place in range(PROMPT, LENGTH):
        texts = TEXTS.copy()
        texts[:, place] = (texts[:, place] + 1) % END  # never END, so that masks stay
        live = ~np.asarray(tokens.ended(obs, end_token=END))
        after = np.asarray(outputs("policy", params["policy"], all_rows(texts)))
        seen = place - PROMPT + 1  # rows that do not see the token
        np.testing.assert_array_equal(after[:seen], before[:seen])
        moved = np.abs(after - before)[seen:].max(axis=-1)
        assert (moved[live[seen:]] > 1e-4).all()


def test_output_is_that_of_the_equation(params):
    weights = jax.tree.map(lambda x: np.asarray(x, np.float64), params["policy"]["params"])
    found = outputs("policy", params["policy"], all_rows(TEXTS))

    attention = weights["MultiHeadDotProductAttention_0"]
    dense, norm, project = layers(weights)

    for b, text in enumerate(TEXTS):
        for t in range(RESPONSE + 1):
            seen = [
                VOCABULARY,
                *text[: PROMPT + t],
            ]  # the token "begin" is the last row of the table
            x = weights["Embed_0"]["embedding"][seen] + weights["place_code"][: len(seen)]
            normed = norm("LayerNorm_0", x)
            query, key, value = (project(name, normed) for name in ("query", "key", "value"))
            mixed = np.zeros_like(query)
            for i in range(len(seen)):
                scores = np.einsum("hd,shd->hs", query[i], key[: i + 1]) / np.sqrt(8 / 2)
                mixed[i] = np.einsum("hs,shd->hd", softmax(scores, axis=-1), value[: i + 1])
            x = x + np.einsum("shd,hdf->sf", mixed, attention["out"]["kernel"])
            x = x + attention["out"]["bias"]
            wide = dense("Dense_0", norm("LayerNorm_1", x))
            gelu = wide / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
            x = x + dense("Dense_1", gelu)
            logits = dense("Dense_2", norm("LayerNorm_2", x[-1]))
            if END in text[PROMPT : PROMPT + t]:
                expected = np.array([-np.inf] * END + [0.0])
                np.testing.assert_array_equal(np.exp(found[t, b]), np.exp(expected))
            else:
                np.testing.assert_allclose(found[t, b], log_softmax(logits), rtol=1e-4, atol=1e-4)


def test_rows_after_end_have_value_and_entropy_zero(params):
    obs = all_rows(TEXTS)
    over = np.asarray(tokens.ended(obs, end_token=END))
    values = np.asarray(outputs("value", params["value"], obs))
    assert over.any()
    assert (values[over] == 0).all()
    assert (np.abs(values[~over]) > 1e-3).all()
    distribution = pg.categorical(outputs("policy", params["policy"], obs))
    assert (np.asarray(distribution.entropy())[over] == 0).all()
    assert (np.asarray(distribution.log_prob(END))[over] == 0).all()


def test_the_value_begins_at_zero():
    obs = all_rows(TEXTS)
    values = outputs("value", jax.jit(VALUE.init)(jax.random.key(3), obs), obs)
    assert (np.asarray(values) == 0).all()


def test_rows_of_another_text_are_nan(params):
    obs = all_rows(TEXTS)
    obs = obs.at[0, 0, 0].set((obs[0, 0, 0] + 1) % END)
    for kind in ("policy", "value"):
        found = np.isnan(np.asarray(outputs(kind, params[kind], obs))).reshape(RESPONSE + 1, B, -1)
        assert found.any(axis=-1).sum() == 1
        assert found[0, 0].any()


def test_they_fit_an_algorithm():
    algorithm = pg.ppo(
        ENV,
        POLICY,
        VALUE,
        pg.adam(1e-2),
        num_envs=4,
        num_steps=RESPONSE,
        sequence_length=RESPONSE,
        num_epochs=1,
        num_minibatches=1,
        discount=1.0,
    )

    def run(key):
        state = algorithm.init(key, PARAMS)
        return state, *algorithm.step(key, state, PARAMS)

    before, after, transitions, _ = jax.eval_shape(run, jax.random.key(0))
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert transitions.obs.shape == (RESPONSE, 4, LENGTH + 1)


@pytest.mark.parametrize("network", [POLICY, VALUE])
def test_other_observations_are_refused(network):
    start = jnp.zeros((2, 1), bool)
    params = jax.eval_shape(network.init, jax.random.key(0), all_rows(TEXTS))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape), params)
    with pytest.raises(ValueError, match=r"needs the observations of token_env, integers"):
        network.apply(zeros, (), jnp.zeros((2, 1, 7)), start)
    with pytest.raises(ValueError, match="8 rows are more than one of 6 tokens has"):
        network.apply(zeros, (), jnp.zeros((8, 1, 7), jnp.int8), start)
    with pytest.raises(ValueError, match="not those that Transformer has for inputs"):
        network.apply(zeros, (), jnp.zeros((2, 1, 9), jnp.int8), start)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_heads": 3}, "features=8 must be a multiple of num_heads=3"),
        ({"num_layers": 0}, "num_layers must be at least 1, not 0"),
        ({"vocabulary_size": 0}, "vocabulary_size must be at least 1, not 0"),
    ],
)
def test_impossible_sizes_are_refused(arguments, words):
    for build in (language_policy, language_value, partial(Transformer, outputs=2)):
        with pytest.raises(ValueError, match=words):
            build(**SIZES | arguments)
