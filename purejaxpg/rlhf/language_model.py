"""A policy as a language model: how likely texts are, pre-training and supervised fine-tuning, and sampling."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.acting import choose_action, on_raw_observations
from purejaxpg.agent.rollout import Loop, unroll
from purejaxpg.arguments import Count, Key, Steps, checked
from purejaxpg.rlhf.fitting import descend
from purejaxpg.rlhf.tokens import Token, TokenParams, buffers, check_texts, live, rows
from purejaxpg.types import Env, Network, PyTree


@checked
def token_log_probs(
    policy: Network,
    params: PyTree,
    texts: jax.Array,
    *,
    prompt_length: Steps,
    end_token: Token | None,
) -> jax.Array:
    """log pi(y_t | x, y_<t) of each token of given responses, in one pass; 0 after END.

    Their sum over a response is log pi(y | x): what the KL penalty and `dpo_loss` are made of. With
    `prompt_length` 0 it is that of the whole text.

    Args:
      policy: a policy without memory, such as `language_policy`.
      params: its parameters. Gradients flow.
      texts: `[N, L]` integers, buffers of prompt and response.
      prompt_length: tokens of the prompt, fewer than L.
      end_token: END; None if there is none.

    Returns:
      `[N, L - prompt_length]`, in nats.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the texts are no integers `[N, L]`, or the prompt leaves no token for a response.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from purejaxpg.rlhf.language_model import token_log_probs
      >>> from purejaxpg.rlhf.tokens import rows
      >>> from purejaxpg.rlhf.transformer import language_policy
      >>> policy, texts = language_policy(vocabulary_size=5, features=8, num_heads=2), jnp.array([[1, 4, 4]])
      >>> params = policy.init(jax.random.key(0), rows(texts, prompt_length=1))
      >>> log_prob = token_log_probs(policy, params, texts, prompt_length=1, end_token=4)
      >>> (log_prob < 0).tolist(), float(log_prob[0, 1])
      ([[True, False]], 0.0)
    """
    obs = rows(texts, prompt_length=prompt_length)
    distribution, _ = policy.apply(params, (), obs, jnp.zeros(obs.shape[:2], bool))
    log_prob = distribution.log_prob(texts[:, prompt_length:].T.astype(jnp.int32))
    return jnp.where(live(obs, end_token=end_token), log_prob, 0.0).T


@checked
def cross_entropy(
    policy: Network,
    params: PyTree,
    texts: jax.Array,
    *,
    prompt_length: Steps,
    end_token: Token | None,
) -> jax.Array:
    """-log pi(response | prompt) = -sum_t log pi(y_t | x, y_<t), up to and with END.

    Its mean over demonstrations is the loss of supervised fine-tuning (Ouyang et al. 2022, arXiv:2203.02155),
    and over texts of a language, with `prompt_length` 0, that of pre-training.

    Args:
      policy: a policy without memory, such as `language_policy`.
      params: its parameters. Gradients flow.
      texts: `[N, L]` integers, buffers of prompt and response.
      prompt_length: tokens of the prompt, fewer than L.
      end_token: END; None if there is none.

    Returns:
      `[N]`, in nats for each response.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the texts are no integers `[N, L]`, or the prompt leaves no token for a response.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.rlhf.language_model import cross_entropy
      >>> even = pg.Network(None, None, lambda params, memory, obs, start: (
      ...     pg.categorical(jnp.zeros((*obs.shape[:2], 5))), memory))
      >>> loss = cross_entropy(even, None, jnp.array([[1, 2, 4], [1, 4, 4]]), prompt_length=1, end_token=4)
      >>> [round(float(x), 3) for x in loss]  # log 5 for each of two tokens, and of one
      [3.219, 1.609]
    """
    log_prob = token_log_probs(
        policy, params, texts, prompt_length=prompt_length, end_token=end_token
    )
    return -log_prob.sum(axis=1)


@checked
def fit_language_model(
    key: Key,
    policy: Network,
    params: PyTree,
    texts: jax.Array,
    optimizer: optax.GradientTransformation,
    *,
    prompt_length: Steps,
    end_token: Token | None,
    num_steps: Count = 1000,
    batch_size: Count = 64,
) -> tuple[PyTree, jax.Array]:
    """Steps down the cross-entropy, the mean over the tokens that count: pre-training and fine-tuning.

    Minibatches are drawn with replacement; all steps are one scan.

    Args:
      key: consumed.
      policy: a policy without memory, such as `language_policy`.
      params: where to begin: drawn by `policy.init`, or pre-trained.
      texts: `[N, L]` integers, buffers of prompt and response.
      optimizer: makes the steps; its state begins anew.
      prompt_length: tokens that are given and not learnt, fewer than L: 0 for pre-training.
      end_token: END; None if there is none. It is learnt; what follows it is not.
      num_steps: how many steps.
      batch_size: texts in a minibatch.

    Returns:
      New parameters, and the loss of each minibatch `[num_steps]`, in nats a token, from before its step.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the texts are no integers `[N, L]`, the prompt leaves no token for a response, or a number is
        out of range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.rlhf.language_model import fit_language_model
      >>> from purejaxpg.rlhf.tokens import rows
      >>> from purejaxpg.rlhf.transformer import language_policy
      >>> policy, texts = language_policy(vocabulary_size=5, features=8, num_heads=2), jnp.array([[1, 2, 4]])
      >>> def fit(key):
      ...     params = policy.init(key, rows(texts, prompt_length=0))
      ...     return fit_language_model(
      ...         key, policy, params, texts, pg.adam(0.1),
      ...         prompt_length=0, end_token=4, num_steps=9, batch_size=2)
      >>> jax.eval_shape(fit, jax.random.key(0))[1].shape
      (9,)
    """
    check_texts(texts, prompt_length)
    loss_of = partial(cross_entropy, policy, prompt_length=prompt_length, end_token=end_token)

    def loss_fn(params, batch):
        tokens = live(rows(batch, prompt_length=prompt_length), end_token=end_token).sum()
        return loss_of(params, batch).sum() / tokens

    opt_state = optimizer.init(params)
    params, _, loss = descend(
        key,
        loss_fn,
        params,
        opt_state,
        texts,
        optimizer,
        num_steps=num_steps,
        batch_size=batch_size,
    )
    return params, loss


@checked
def sample_responses(
    key: Key, env: Env, policy: Network, params: PyTree, prompts: jax.Array
) -> jax.Array:
    """One response to each prompt, from a policy.

    Args:
      key: consumed.
      env: of `token_env`, which says how long a response is and where it ends.
      policy: a policy of what `env.observe` gives, without memory.
      params: its parameters.
      prompts: `[N, prompt_length]` integers; repeat one for several responses.

    Returns:
      `[N, L]`, buffers of prompt and response, filled up with END.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: by `env.reset`, where these are no prompts.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.rlhf.language_model import sample_responses
      >>> from purejaxpg.rlhf.tokens import token_env
      >>> env = token_env(vocabulary_size=5, response_length=2)
      >>> twos = pg.Network(None, lambda batch: (), lambda params, memory, obs, start: (
      ...     pg.categorical(99.0 * jax.nn.one_hot(jnp.full(start.shape, 2), 5)), memory))
      >>> sample_responses(jax.random.key(0), env, twos, None, jnp.array([[3], [4]])).tolist()
      [[3, 2, 2], [4, 2, 2]]
    """
    reset_key, rollout_key = jax.random.split(key)
    table = TokenParams(prompts)
    jax.eval_shape(lambda key: env.reset(key, table), reset_key)  # refuses what is no prompt
    raw = on_raw_observations(policy, env, table)

    def begin_with(key, prompt):
        return env.reset(key, TokenParams(prompt[None]))

    def act(key, memory, obs, start):
        return choose_action(key, raw, params, memory, obs, start)

    keys = jax.random.split(reset_key, len(prompts))
    obs, state = jax.vmap(begin_with)(keys, prompts)
    loop = Loop(state, obs, jnp.ones(len(prompts), bool), policy.initial_memory(len(prompts)))
    length = obs.shape[-1] - 1 - prompts.shape[1]
    _, transitions = unroll(rollout_key, env, table, act, loop, num_steps=length)
    return buffers(transitions)
