"""Reward models: a transformer that scores texts, and how it is fitted to comparisons.

A reward model is any function `(params, texts [..., L]) -> scores [...]`.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from purejaxpg.arguments import Count, Key, Steps, checked
from purejaxpg.functional.losses import bradley_terry_loss
from purejaxpg.networks.feed_forward import applied
from purejaxpg.rlhf.fitting import descend
from purejaxpg.rlhf.preferences import Comparisons, check_comparisons
from purejaxpg.rlhf.tokens import Token, check_end_token, check_texts, counted
from purejaxpg.rlhf.transformer import Transformer
from purejaxpg.types import PyTree


class RewardModel(NamedTuple):
    """A score of texts as pure functions.

    Attributes:
      init: `(key, texts [N, L]) -> params`.
      score: `(params, texts [..., L]) -> scores [...]`.
    """

    init: Callable
    score: Callable


class RewardModelFit(NamedTuple):
    """What `fit_reward_model` gives.

    Attributes:
      params: those with the least held-out loss.
      loss: `[num_steps]`, of each minibatch before its step, in nats.
      held_out_loss: `[num_steps / steps_per_check + 1]`, before the first step and at each check, in nats.
    """

    params: PyTree
    loss: jax.Array
    held_out_loss: jax.Array


@checked
def reward_model(
    *,
    vocabulary_size: Count,
    prompt_length: Steps,
    end_token: Token | None,
    features: Count = 32,
    num_layers: Count = 1,
    num_heads: Count = 4,
) -> RewardModel:
    """A transformer that scores a text by one number, read after its END, or after its last token.

    The kernel of the last layer begins with variance 1 / (features + 1) (Stiennon et al. 2020,
    arXiv:2009.01325). What follows END does not matter.

    Args:
      vocabulary_size: number of tokens.
      prompt_length: tokens of the prompt, fewer than L.
      end_token: END; None if there is none.
      features: size of the hidden vectors, a multiple of `num_heads`.
      num_layers: number of layers.
      num_heads: number of attention heads of a layer.

    Returns:
      A `RewardModel`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, END is none of the tokens, or `features` is no multiple of
        `num_heads`; by its functions, where texts are no integers or have no token beside the prompt.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from purejaxpg.rlhf.reward_model import reward_model
      >>> model = reward_model(vocabulary_size=5, prompt_length=1, end_token=4, features=8, num_heads=2)
      >>> texts = jnp.array([[1, 2, 4, 4], [1, 2, 4, 0]])
      >>> scores = model.score(model.init(jax.random.key(0), texts), texts)
      >>> scores.shape, bool(scores[0] == scores[1])
      ((2,), True)
    """
    check_end_token(end_token, vocabulary_size)
    module = Transformer(
        vocabulary_size=vocabulary_size,
        outputs=1,
        features=features,
        num_layers=num_layers,
        num_heads=num_heads,
        output_init=nn.initializers.normal((features + 1) ** -0.5),
    )

    def inputs(texts):
        check_texts(texts, prompt_length, axes=None)
        words = counted(texts, prompt_length=prompt_length, end_token=end_token)
        last = prompt_length + words.sum(axis=-1)
        return texts.reshape(-1, texts.shape[-1]), last.reshape(1, -1)

    def init(key, texts):
        return module.init(key, *inputs(texts))

    def score(params, texts):
        return applied(module, params, *inputs(texts)).reshape(texts.shape[:-1])

    return RewardModel(init, score)


@checked
def fit_reward_model(
    key: Key,
    score: Callable,
    params: PyTree,
    comparisons: Comparisons,
    held_out: Comparisons,
    optimizer: optax.GradientTransformation,
    *,
    num_steps: Count = 1000,
    batch_size: Count = 64,
    steps_per_check: Count = 20,
) -> RewardModelFit:
    """Steps down -log sigmoid(score(chosen) - score(rejected)), stopped by held-out pairs.

    `bradley_terry_loss`: Christiano et al. 2017, arXiv:1706.03741; Stiennon et al. 2020,
    arXiv:2009.01325. Minibatches are drawn with replacement. All steps are one scan; to stop early
    means to return the parameters of the check with the least held-out loss.

    Args:
      key: consumed.
      score: `(params, texts [N, L]) -> scores [N]`, of a `RewardModel` for example.
      params: where to begin.
      comparisons: what is learnt from.
      held_out: other comparisons, of other prompts, by which the check to stop at is chosen.
      optimizer: makes the steps; its state begins anew.
      num_steps: how many steps.
      batch_size: pairs in a minibatch.
      steps_per_check: steps between two checks; divides `num_steps`.

    Returns:
      A `RewardModelFit`; its parameters are those from before the first step where no check was better.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, `steps_per_check` does not divide `num_steps`, or comparisons are
        not two arrays `[M, L]` of one shape, M at least 1.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from purejaxpg.rlhf.preferences import Comparisons
      >>> from purejaxpg.rlhf.reward_model import fit_reward_model
      >>> def score(weight, texts):
      ...     return weight * texts[:, -1]
      >>> pairs = Comparisons(jnp.array([[1, 3]]), jnp.array([[1, 2]]))
      >>> fit = fit_reward_model(jax.random.key(0), score, jnp.zeros(()), pairs, pairs, optax.sgd(1.0),
      ...                        num_steps=2, batch_size=1, steps_per_check=1)
      >>> round(float(fit.params), 3), [round(float(x), 3) for x in fit.held_out_loss]
      (0.878, [0.693, 0.474, 0.348])
    """
    check_comparisons(comparisons)
    check_comparisons(held_out)
    if num_steps % steps_per_check:
        raise ValueError(f"steps_per_check={steps_per_check} must divide num_steps={num_steps}.")

    def loss_fn(params, pairs):
        return jnp.mean(bradley_terry_loss(*(score(params, texts) for texts in pairs)))

    def check_after_steps(carry, key):
        params, opt_state, best, least = carry
        params, opt_state, loss = descend(
            key,
            loss_fn,
            params,
            opt_state,
            comparisons,
            optimizer,
            num_steps=steps_per_check,
            batch_size=batch_size,
        )
        now = loss_fn(params, held_out)
        best = jax.tree.map(lambda x, y: jnp.where(now < least, x, y), params, best)
        return (params, opt_state, best, jnp.minimum(now, least)), (loss, now)

    first = loss_fn(params, held_out)
    keys = jax.random.split(key, num_steps // steps_per_check)
    carry = params, optimizer.init(params), params, first
    (_, _, best, _), (loss, now) = jax.lax.scan(check_after_steps, carry, keys)
    return RewardModelFit(best, loss.reshape(-1), jnp.append(first, now))
