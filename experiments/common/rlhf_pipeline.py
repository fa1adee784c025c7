"""The stages of RLHF in a small world of which everything is known: each is a function, compiled once."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import purejaxpg as pg
from purejaxpg.rlhf import (
    calibration,
    gold,
    grammar,
    language_model,
    learning,
    preferences,
    reward_model,
)
from purejaxpg.rlhf.tokens import counted, rows, token_env
from purejaxpg.rlhf.transformer import language_policy, language_value
from purejaxpg.training.sweep import distribute


class Sizes(NamedTuple):
    """Of texts and networks; END is the last token."""

    vocabulary: int
    prompt: int
    response: int
    features: int
    layers: int

    @property
    def end(self) -> int:
        return self.vocabulary - 1

    @property
    def length(self) -> int:
        return self.prompt + self.response


class World(NamedTuple):
    """What texts are like, and what is wanted of them."""

    sizes: Sizes
    grammar: grammar.Grammar
    gold: gold.Gold

    @property
    def by(self) -> dict[str, Any]:
        """What most functions of texts must be told."""
        return {"prompt_length": self.sizes.prompt, "end_token": self.sizes.end}

    def networks(self) -> dict[str, int]:
        sizes = self.sizes
        return {
            "vocabulary_size": sizes.vocabulary,
            "features": sizes.features,
            "num_layers": sizes.layers,
        }

    def env(self) -> pg.Env:
        sizes = self.sizes
        return token_env(
            vocabulary_size=sizes.vocabulary, response_length=sizes.response, end_token=sizes.end
        )

    def policy(self) -> pg.Network:
        return language_policy(response_length=self.sizes.response, **self.networks())

    def score(self, texts: jax.Array) -> jax.Array:
        return gold.gold_score(self.gold, texts, **self.by)


def draw_world(key: jax.Array, sizes: Sizes, *, num_states: int) -> World:
    """A grammar and a gold reward at random; the best response has half the tokens that there is room for."""
    grammar_key, gold_key = jax.random.split(key)
    language = grammar.draw_grammar(
        grammar_key, vocabulary_size=sizes.vocabulary, num_states=num_states, end_token=sizes.end
    )
    wanted = gold.draw_gold(
        gold_key, vocabulary_size=sizes.vocabulary, length=max(1.0, sizes.response / 2)
    )
    return World(sizes, language, wanted)


def draw_texts(key: jax.Array, world: World, number: int) -> jax.Array:
    """Texts of the grammar `[number, L]` whose prompts are whole."""
    sizes = world.sizes
    return grammar.sample(
        key, world.grammar, num_texts=number, length=sizes.length, end_token=sizes.end,
        min_length=sizes.prompt,
    )  # fmt: skip


def nats(world: World, texts: jax.Array) -> jax.Array:
    """-log P(response | prompt) of the grammar, `[N]`."""
    end, length = world.sizes.end, world.sizes.prompt
    whole, prompt = (
        grammar.log_likelihood(world.grammar, x, end_token=end, min_length=length)
        for x in (texts, texts[..., :length])
    )
    return prompt - whole


def fit_policy(
    key: jax.Array,
    world: World,
    params: Any,
    texts: jax.Array,
    *,
    given: int,
    steps: int,
    rate: float,
) -> tuple[Any, jax.Array]:
    """Steps down the cross-entropy of texts of which the first tokens are given: parameters and losses."""
    policy = world.policy()

    def fit(key, params, texts):
        optimizer = pg.adam(rate, decay_steps=steps)
        return language_model.fit_language_model(
            key, policy, params, texts, optimizer,
            prompt_length=given, end_token=world.sizes.end, num_steps=steps,
        )  # fmt: skip

    return jax.jit(fit)(key, params, texts)


def initial_params(key: jax.Array, world: World) -> Any:
    blank = jnp.zeros((1, world.sizes.length), jnp.int8)
    return world.policy().init(key, rows(blank, prompt_length=0))


class Sampler:
    """Responses of policies: `sample(key, params, prompts [N, .]) -> texts [N, L]`, compiled once a shape."""

    def __init__(self, world: World):
        env, policy = world.env(), world.policy()
        self.sample = jax.jit(
            lambda key, params, prompts: language_model.sample_responses(
                key, env, policy, params, prompts
            )
        )

    def several(self, key: jax.Array, params: Any, prompts: jax.Array, number: int) -> jax.Array:
        """`[number, N, L]`"""
        texts = self.sample(key, params, jnp.tile(prompts, (number, 1)))
        return texts.reshape(number, len(prompts), -1)


def best_answers(world: World, answers: jax.Array) -> jax.Array:
    """Of answers `[K, N, L]` the one with the highest gold score to each prompt, `[N, L]`."""
    best = jnp.argmax(world.score(answers), axis=0)
    return jnp.take_along_axis(answers, best[None, :, None], axis=0)[0]


class Rewarded(NamedTuple):
    """A fitted reward model: its parameters, scaled on reference texts, and how far it is right."""

    params: calibration.Standardized
    accuracy: float
    limit: float
    """Accuracy of the gold score itself: labels are drawn at random."""
    calibration: calibration.Calibration
    held_out_loss: jax.Array


def fit_reward(
    key: jax.Array, world: World, answers: jax.Array, held_out: jax.Array, *, temperature: float,
    steps: int, rate: float,
) -> Rewarded:  # fmt: skip
    """A reward model of comparisons of answers `[K, N, L]`, held against those of other prompts."""
    model = reward_model.reward_model(**world.networks(), **world.by)
    keys = jax.random.split(key, 4)

    def fit(keys, answers, held_out):
        pairs, others = (
            preferences.compare(k, x, world.score(x), temperature=temperature)
            for k, x in zip(keys[:2], (answers, held_out))
        )
        fitted = reward_model.fit_reward_model(
            keys[2], model.score, model.init(keys[3], pairs.chosen[:1]), pairs, others,
            pg.adam(rate), num_steps=steps, steps_per_check=max(1, steps // 20),
        )  # fmt: skip
        scaled = calibration.standardize(
            model.score, fitted.params, answers.reshape(-1, answers.shape[-1])
        )
        return fitted, scaled, pairs, others

    fitted, scaled, _, others = jax.jit(fit)(keys, answers, held_out)

    def judge(params, others):
        better, worse = (model.score(params, x) for x in others)
        # Each pair both ways round, so that the order says nothing of the outcome.
        predicted = jax.nn.sigmoid(jnp.concatenate([better - worse, worse - better]))
        outcome = jnp.repeat(jnp.array([1.0, 0.0]), len(better))
        exact = calibration.accuracy(lambda _, texts: world.score(texts), None, others)
        return (
            calibration.accuracy(model.score, params, others),
            exact,
            calibration.calibration(predicted, outcome),
        )

    accuracy, limit, table = jax.jit(judge)(fitted.params, others)
    return Rewarded(scaled, float(accuracy), float(limit), table, fitted.held_out_loss)


def proxy_of(world: World) -> Any:
    """The reward model as a score `(params, texts) -> scores`, scaled."""
    model = reward_model.reward_model(**world.networks(), **world.by)
    return calibration.standardized(model.score)


def learn(
    keys: jax.Array, betas: np.ndarray, world: World, prompts: jax.Array, reference: Any, rewarded: Rewarded,
    *, updates: int, num_envs: int, rate: float,
) -> tuple[Any, dict[str, jax.Array]]:  # fmt: skip
    """PPO from the reference on, over rows of keys and betas: policies and metrics `[rows, updates]`."""
    env, policy = world.env(), world.policy()
    value = language_value(response_length=world.sizes.response, **world.networks())

    def build(env, reward_fn):
        return pg.ppo(
            env, policy, value, pg.adam(rate, max_grad_norm=1.0), num_envs=num_envs,
            num_steps=world.sizes.response, num_epochs=2, num_minibatches=4, discount=1.0,
            gae_lambda=0.95, value_coef=0.1, entropy_coef=0.0, reward_fn=reward_fn,
        )  # fmt: skip

    algorithm = learning.rlhf(build, policy, proxy_of(world), end_token=world.sizes.end)(env)

    def run(key, beta):
        env_params = learning.RLHFParams(prompts, reference, rewarded.params, beta)
        state, metrics = pg.train(key, algorithm, env_params, num_updates=updates)
        return state.inner.params.policy, metrics

    return distribute(run)(keys, jnp.float32(betas))


def judged(
    key: jax.Array,
    world: World,
    params: Any,
    reference: Any,
    rewarded: Rewarded,
    prompts: jax.Array,
) -> dict[str, jax.Array]:
    """One response to each prompt: scores, log ratio to the reference, nats of the grammar a token, ends."""
    env, policy, proxy = world.env(), world.policy(), proxy_of(world)
    texts = language_model.sample_responses(key, env, policy, params, prompts)

    def log_probs(x):
        return language_model.token_log_probs(policy, x, texts, **world.by).sum(axis=1)

    return {
        "gold": world.score(texts),
        "proxy": proxy(rewarded.params, texts),
        "log_ratio": log_probs(params) - log_probs(reference),
        "nats": nats(world, texts) / counted(texts, **world.by).sum(axis=-1),
        "ended": jnp.any(texts[:, world.sizes.prompt :] == world.sizes.end, axis=-1),
        "texts": texts,
    }
