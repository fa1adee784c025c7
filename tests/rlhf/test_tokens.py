"""The token environment against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.rlhf import tokens
from tests.rlhf.small import END, LENGTH, PROMPT, RESPONSE, VOCABULARY, random_texts, response_of

ENV = tokens.token_env(vocabulary_size=VOCABULARY, response_length=RESPONSE, end_token=END)
PROMPTS = np.array([[0, 1], [2, 3], [3, 0]])
PARAMS = tokens.TokenParams(jnp.asarray(PROMPTS))
B = 64


def anything(key, memory, obs, start):
    """Any token, END often, whatever is allowed."""
    return jax.random.choice(
        key, VOCABULARY, start.shape, p=jnp.array([0.2, 0.2, 0.2, 0.1, 0.3])
    ), memory


@pytest.fixture(scope="module")
def rollout():
    """Two episodes in each column."""

    @jax.jit
    def run(key):
        first, second = jax.random.split(key)
        loop = pg.begin(first, ENV, PARAMS, (), num_envs=B)
        return pg.unroll(second, ENV, PARAMS, anything, loop, num_steps=2 * RESPONSE)[1]

    return jax.tree.map(np.asarray, run(jax.random.key(0)))


def test_a_rollout_is_what_a_loop_writes(rollout):
    for b in range(B):
        text, place = None, None
        for t in range(2 * RESPONSE):
            if t % RESPONSE == 0:
                text, place = [*rollout.obs[t, b, :PROMPT], *[0] * RESPONSE], PROMPT
                assert any((text[:PROMPT] == prompt).all() for prompt in PROMPTS)
            assert rollout.start[t, b] == (t % RESPONSE == 0)
            assert rollout.obs[t, b].tolist() == [*text, place]
            text[place] = END if END in text[PROMPT:place] else rollout.action[t, b]
            place += 1
            assert rollout.next_obs[t, b].tolist() == [*text, place]
            assert rollout.terminated[t, b] == (place == LENGTH)
    assert not rollout.truncated.any()
    assert (rollout.reward == 0).all()
    assert rollout.obs.dtype == np.int8
    lengths = rollout.info["episode_length"][rollout.terminated]
    assert (lengths == RESPONSE).all()


def test_every_prompt_is_drawn_as_often():
    obs, _ = jax.jit(jax.vmap(ENV.reset, (0, None)))(
        jax.random.split(jax.random.key(1), 3000), PARAMS
    )
    count = [(np.asarray(obs)[:, :PROMPT] == prompt).all(axis=1).sum() for prompt in PROMPTS]
    assert sum(count) == 3000
    assert np.abs(np.array(count) - 1000).max() < 4 * np.sqrt(3000 * 2 / 9)


def test_after_end_only_end_is_allowed(rollout):
    mask = np.asarray(ENV.observe(rollout.obs, PARAMS).mask)
    for t, b in np.ndindex(*rollout.reward.shape):
        text, place = rollout.obs[t, b, :-1], rollout.obs[t, b, -1]
        over = END in text[PROMPT:place]
        assert mask[t, b].tolist() == [not over] * END + [True]
    assert 0.1 < mask[..., 0].mean() < 0.9


def test_without_end_nothing_is_masked():
    env = tokens.token_env(vocabulary_size=VOCABULARY, response_length=RESPONSE)
    obs, _ = env.reset(jax.random.key(0), PARAMS)
    assert env.observe(obs, PARAMS) is obs
    assert bool(tokens.live(obs, end_token=None))


def test_a_complete_text_stays_as_it_is():
    env = tokens.token_env(vocabulary_size=VOCABULARY, response_length=1)
    _, state = env.reset(jax.random.key(0), PARAMS)
    obs, state, _, terminated, *_ = env.step(jax.random.key(1), state, jnp.array(2), PARAMS)
    again, _, _, still, *_ = env.step(jax.random.key(1), state, jnp.array(3), PARAMS)
    assert obs.tolist() == again.tolist()
    assert bool(terminated)
    assert bool(still)


def test_live_and_finishing_rows(rollout):
    first = jax.tree.map(lambda x: x[:RESPONSE], rollout)
    live = np.asarray(tokens.live(first.obs, end_token=END))
    finishing = np.asarray(tokens.finishing(first, end_token=END))
    texts = np.asarray(tokens.buffers(first))
    for b in range(B):
        number = len(response_of(texts[b]))
        assert live[:, b].tolist() == [t < number for t in range(RESPONSE)]
        assert finishing[:, b].tolist() == [t == number - 1 for t in range(RESPONSE)]
    assert (np.asarray(tokens.responses(first)) == texts[:, PROMPT:]).all()


def test_rows_are_those_of_the_rollout(rollout):
    first = jax.tree.map(lambda x: x[:RESPONSE], rollout)
    found = tokens.rows(tokens.buffers(first), prompt_length=PROMPT)
    assert (np.asarray(found) == first.obs).all()
    assert found.dtype == jnp.int8


def test_counted_tokens():
    texts = random_texts(0, 50)
    found = np.asarray(tokens.counted(texts, prompt_length=PROMPT, end_token=END))
    for text, mask in zip(texts, found):
        stop = PROMPT + len(response_of(text))
        assert mask.tolist() == [PROMPT <= i < stop for i in range(LENGTH)]
    everything = np.asarray(tokens.counted(texts, prompt_length=0, end_token=None))
    assert everything.all()


def test_wide_observations_where_narrow_ones_are_too_small():
    env = tokens.token_env(vocabulary_size=129, response_length=3)
    obs, state = env.reset(jax.random.key(0), PARAMS)
    obs, *_ = env.step(jax.random.key(1), state, jnp.array(128), PARAMS)
    assert obs.tolist()[PROMPT] == 128
    assert env.observation_space(PARAMS).high == 128


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        (jnp.array([[0, 5]]), "must consist of the 5 tokens 0 to 4; found 0 to 5"),
        (jnp.array([[-1, 0]]), "found -1 to 0"),
        (jnp.array([[0, 4]]), "must not hold the end token 4"),
        (jnp.array([0, 1]), r"must be integers \[P, prompt_length\]"),
        (jnp.zeros((1, 2)), r"must be integers \[P, prompt_length\]"),
        (jnp.zeros((1, 0), int), "at least one prompt of at least one token"),
    ],
)
def test_other_prompts_are_refused(prompts, words):
    with pytest.raises(ValueError, match=words):
        pg.begin(jax.random.key(0), ENV, tokens.TokenParams(prompts), (), num_envs=2)


def test_wrong_calls_are_refused():
    with pytest.raises(TypeError, match="prompts of the environment's parameters must be an array"):
        ENV.reset(jax.random.key(0), None)
    with pytest.raises(ValueError, match="end_token must be one of the 4 tokens, 0 to 3, not 4"):
        tokens.token_env(vocabulary_size=4, response_length=2, end_token=4)
    with pytest.raises(ValueError, match="response_length must be at least 1"):
        tokens.token_env(vocabulary_size=4, response_length=0)
    with pytest.raises(ValueError, match="prompt_length=6 must be below the 6 tokens"):
        tokens.rows(random_texts(0, 1), prompt_length=6)
    with pytest.raises(ValueError, match="at most 32767, not 32768"):
        tokens.token_dtype(32768)
    after = jnp.zeros((4, 1, 4), jnp.int8)
    with pytest.raises(ValueError, match="must be one response"):
        tokens.responses(pg.Transition(*[None] * 5, after, None, {}))
