"""The reward model: where it is read, how it is fitted, and that the best check is kept."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.rlhf.calibration import accuracy
from purejaxpg.rlhf.preferences import Comparisons
from purejaxpg.rlhf.reward_model import fit_reward_model, reward_model
from tests.rlhf.small import END, LENGTH, PROMPT, SIZES, drawn_anew, random_texts, response_of

MODEL = reward_model(**SIZES, prompt_length=PROMPT, end_token=END)
score = jax.jit(MODEL.score)
TEXTS = random_texts(5, 16)
PARAMS = drawn_anew(jax.eval_shape(MODEL.init, jax.random.key(0), TEXTS), 0)


def test_what_follows_end_does_not_matter_and_all_before_does():
    before = np.asarray(score(PARAMS, TEXTS))
    for place in range(LENGTH):
        texts = TEXTS.copy()
        texts[:, place] = (texts[:, place] + 1) % END
        moved = np.abs(np.asarray(score(PARAMS, texts)) - before)
        for n, text in enumerate(TEXTS):
            last = PROMPT + len(response_of(text))
            if place >= last:
                assert moved[n] == 0
            elif text[place] != END:  # changing END would change where the model is read
                assert moved[n] > 1e-4


def test_the_score_is_read_after_end():
    """Of two texts that differ in nothing but END and after it, the one is read later than the other."""
    texts = np.array([[0, 1, 2, END, END, END], [0, 1, 2, 3, 3, 3]], np.int8)
    plain = reward_model(**SIZES, prompt_length=PROMPT, end_token=None)
    cut = reward_model(**SIZES, prompt_length=PROMPT, end_token=3)  # the first 3 is the end
    models = MODEL, plain, cut
    with_end, none, first = jax.jit(lambda: [model.score(PARAMS, texts) for model in models])()
    assert float(with_end[1]) == pytest.approx(
        float(none[1]), abs=1e-5
    )  # read after the last token
    assert abs(float(with_end[0]) - float(none[0])) > 1e-3
    assert abs(float(first[1]) - float(none[1])) > 1e-3


def test_any_leading_axes():
    found = score(PARAMS, TEXTS.reshape(2, 8, LENGTH))
    np.testing.assert_allclose(found.reshape(-1), score(PARAMS, TEXTS), rtol=1e-5, atol=1e-6)


def test_the_head_begins_with_small_variance():
    @jax.jit
    @jax.vmap
    def heads(key):
        return MODEL.init(key, TEXTS[:1])["params"]["Dense_2"]

    head = heads(jax.random.split(jax.random.key(0), 1000))
    assert head["kernel"].shape == (1000, 8, 1)
    assert float(jnp.var(head["kernel"])) == pytest.approx(1 / 9, rel=0.07)
    assert (np.asarray(head["bias"]) == 0).all()


def pairs(seed, number):
    """Comparisons in which the text with more tokens 0 in its response was chosen."""
    rng = np.random.default_rng(seed)
    texts = rng.integers(0, END, (2, number, LENGTH)).astype(np.int8)
    zeros = (texts[:, :, PROMPT:] == 0).sum(axis=-1)
    texts, zeros = texts[:, zeros[0] != zeros[1]], zeros[:, zeros[0] != zeros[1]]
    first = (zeros[0] > zeros[1])[:, None]
    return Comparisons(np.where(first, *texts), np.where(first, texts[1], texts[0]))


def count_score(weight, texts):
    """A linear score of how often each token is in the response."""
    return jax.nn.one_hot(texts[..., PROMPT:], END + 1).sum(axis=-2) @ weight


FIRST = jnp.array([-0.3, 0.2, 0.1, 0.0, 0.0])


@pytest.fixture(scope="module")
def fits():
    """Fitted, and held-out pairs: as they are, and the other way round."""
    train, held_out = pairs(0, 100), pairs(1, 60)

    @jax.jit
    def run(key, held_out):
        fit = fit_reward_model(
            key,
            count_score,
            FIRST,
            train,
            held_out,
            pg.adam(0.02),
            num_steps=60,
            batch_size=32,
            steps_per_check=6,
        )
        return fit, held_out_loss(fit.params, held_out), accuracy(count_score, fit.params, held_out)

    return [run(jax.random.key(0), x) for x in (held_out, Comparisons(*held_out[::-1]))]


def held_out_loss(params, held_out):
    difference = count_score(params, held_out.chosen) - count_score(params, held_out.rejected)
    return jnp.mean(jnp.log1p(jnp.exp(-difference)))


def test_it_learns_what_was_preferred(fits):
    fit, _, right = fits[0]
    assert float(right) > 0.8
    assert fit.loss.shape == (60,)
    assert float(fit.loss[-10:].mean()) < 0.6 * float(fit.loss[0])


def test_the_best_check_is_kept(fits):
    for fit, loss, _ in fits:
        assert fit.held_out_loss.shape == (11,)
        assert float(loss) == pytest.approx(float(fit.held_out_loss.min()), rel=1e-4)


def test_the_first_parameters_are_kept_where_learning_makes_it_worse(fits):
    fit, _, _ = fits[1]
    assert int(fit.held_out_loss.argmin()) == 0
    np.testing.assert_array_equal(fit.params, FIRST)
    assert float(fit.held_out_loss[-1]) > float(fit.held_out_loss[0]) + 0.1


def test_wrong_calls_are_refused():
    key, adam, held_out = jax.random.key(0), pg.adam(), pairs(0, 5)
    fit = partial(fit_reward_model, key, MODEL.score, PARAMS)
    with pytest.raises(ValueError, match="steps_per_check=7 must divide num_steps=60"):
        fit(held_out, held_out, adam, num_steps=60, steps_per_check=7)
    empty = Comparisons(*(x[:0] for x in held_out))
    for one, other in ((empty, held_out), (held_out, empty)):
        with pytest.raises(ValueError, match="Comparisons must be two arrays"):
            fit(one, other, adam)
    with pytest.raises(TypeError, match="comparisons must be a Comparisons"):
        fit(tuple(held_out), held_out, adam)
    with pytest.raises(ValueError, match="end_token must be one of the 5 tokens"):
        reward_model(**SIZES, prompt_length=PROMPT, end_token=5)
    with pytest.raises(ValueError, match="features=8 must be a multiple of num_heads=3"):
        reward_model(**SIZES | {"num_heads": 3}, prompt_length=PROMPT, end_token=END)
    with pytest.raises(ValueError, match="must be below the 2 tokens"):
        MODEL.score(PARAMS, TEXTS[:, :PROMPT])
