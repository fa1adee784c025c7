"""Text as an environment: a policy writes one token after the other behind a prompt.

An observation is one array `[prompt_length + response_length + 1]` of narrow integers: the tokens of prompt
and response, those that are not written yet as 0, and in the last entry the position, the number of tokens
that are there. A *buffer* is the tokens without the position. A text may end early, by an END token that
the rest of it is filled up with: it counts up to its first END, that END included. A row of a rollout in
which END has been written before leaves no choice, and does not count.
"""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.arguments import INT32, NOT_NEGATIVE, Count, Steps, check, checked, described
from purejaxpg.environments.wrappers import episode_statistics
from purejaxpg.types import Box, Discrete, Env, Masked, PyTree, Transition

Token = Annotated[int, NOT_NEGATIVE, INT32]


class TokenParams(NamedTuple):
    """Parameters of `token_env`. Any other NamedTuple that has such a field will do as well.

    Attributes:
      prompts: `[P, prompt_length]` integers, the prompts that an episode may begin with; none holds END.
    """

    prompts: jax.Array


@checked
def token_env(
    *, vocabulary_size: Count, response_length: Count, end_token: Token | None = None
) -> Env:
    """Write a response to a prompt, one token a step: the decision process of a language model.

    The state is the text so far, an action is its next token, and the reward is 0: what a text is worth is said
    by a `reward_fn`, once for each, and not by the environment at every step. A reset draws one of the
    prompts, each with the same probability. An episode is `response_length` steps long and terminates with the
    last one. After END `observe` allows END alone, and another action is written as END.

    As in Ouyang et al. 2022, arXiv:2203.02155, where an episode is one response.

    Args:
      vocabulary_size: V, number of tokens, which are the actions 0, ..., V - 1.
      response_length: tokens of a response, END and what follows it included.
      end_token: END, one of the tokens; None if every response has full length.

    Returns:
      The environment, with episode statistics, and `live` in `info`: steps after END are in no mean. Its
      parameters are a `TokenParams`. Observations are int8 where that holds tokens and position, and int16
      otherwise. `observe` gives them as they are, in a `Masked` where there is an END.

    Raises:
      TypeError: an argument is no integer.
      ValueError: a size is below 1, or END is none of the tokens; by `reset`, where the prompts are no table
        of tokens other than END (of their values only where they are not traced).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from purejaxpg.rlhf.tokens import TokenParams, token_env
      >>> env = token_env(vocabulary_size=5, response_length=3, end_token=4)
      >>> params = TokenParams(jnp.array([[1, 2]]))
      >>> obs, state = env.reset(jax.random.key(0), params)
      >>> obs, state, *_ = env.step(jax.random.key(1), state, jnp.array(4), params)
      >>> obs.tolist(), env.observe(obs, params).mask.tolist()
      ([1, 2, 4, 0, 0, 3], [False, False, False, False, True])
    """
    check_end_token(end_token, vocabulary_size)

    def form(params):
        length = _prompts(params, vocabulary_size, end_token).shape[1] + response_length
        return length, token_dtype(max(vocabulary_size - 1, length))

    def reset(key, params):
        prompts = _prompts(params, vocabulary_size, end_token)
        length, dtype = form(params)
        prompt = prompts[jax.random.randint(key, (), 0, len(prompts))].astype(dtype)
        obs = jnp.zeros(length + 1, dtype).at[: len(prompt)].set(prompt).at[-1].set(len(prompt))
        return obs, obs

    def step(key, state, action, params):
        length, dtype = form(params)
        token = jnp.asarray(action).astype(dtype)
        if end_token is not None:
            over = ended(state, end_token=end_token)
            token = jnp.where(over, jnp.asarray(end_token, dtype), token)
        here = position(state)
        written = state.at[here].set(token).at[-1].set((here + 1).astype(dtype))
        obs = jnp.where(here < length, written, state)  # a text that is complete stays as it is
        complete, never = position(obs) >= length, jnp.zeros((), bool)
        info = {"live": live(state, end_token=end_token)}
        return obs, obs, jnp.zeros(()), complete, never, info

    def observe(obs, params):
        if end_token is None:
            return obs
        only_end = ended(obs, end_token=end_token)[..., None]
        return Masked(obs, ~only_end | (jnp.arange(vocabulary_size) == end_token))

    def observation_space(params):
        length, _ = form(params)
        return Box(0, max(vocabulary_size - 1, length), (length + 1,))

    env = Env(reset, step, observation_space, lambda params: Discrete(vocabulary_size), observe)
    return episode_statistics(env)


@checked
def buffer(obs: jax.Array) -> jax.Array:
    """The tokens of an observation, those that are not written yet as 0.

    Args:
      obs: `[..., L + 1]`, raw observations.

    Returns:
      `[..., L]`.

    Raises:
      TypeError: `obs` is no array.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.tokens import buffer
      >>> buffer(jnp.array([7, 8, 0, 2])).tolist()
      [7, 8, 0]
    """
    return obs[..., :-1]


@checked
def position(obs: jax.Array) -> jax.Array:
    """Number of tokens that are there, which is the place of the next one.

    Args:
      obs: `[..., L + 1]`, raw observations.

    Returns:
      `[...]` int32, between the length of the prompt and L.

    Raises:
      TypeError: `obs` is no array.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.tokens import position
      >>> int(position(jnp.array([7, 8, 0, 2])))
      2
    """
    return obs[..., -1].astype(jnp.int32)


@checked
def ended(obs: jax.Array, *, end_token: Token | None) -> jax.Array:
    """Whether END has been written.

    Args:
      obs: `[..., L + 1]`, raw observations.
      end_token: END; None if there is none.

    Returns:
      `[...]` boolean.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: END is below 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.tokens import ended
      >>> ended(jnp.array([[7, 9, 0, 2], [7, 0, 0, 1]]), end_token=9).tolist()
      [True, False]
    """
    if end_token is None:
        return jnp.zeros(obs.shape[:-1], bool)
    written = jnp.arange(obs.shape[-1] - 1) < position(obs)[..., None]
    return jnp.any(written & (buffer(obs) == end_token), axis=-1)


@checked
def live(obs: jax.Array, *, end_token: Token | None) -> jax.Array:
    """Where a token is chosen: the text is neither complete nor has it ended.

    Means over steps are means over these: all others have log-probability, entropy and value 0.

    Args:
      obs: `[..., L + 1]`, raw observations, such as `transitions.obs`.
      end_token: END; None if there is none.

    Returns:
      `[...]` boolean, true up to and with the row in which END is chosen.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: END is below 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.tokens import live
      >>> live(jnp.array([[7, 0, 0, 1], [7, 9, 0, 2], [7, 5, 9, 3]]), end_token=9).tolist()
      [True, False, False]
    """
    return ~ended(obs, end_token=end_token) & (position(obs) < obs.shape[-1] - 1)


@checked
def finishing(transitions: Transition, *, end_token: Token | None) -> jax.Array:
    """The row in which a response ends, one of every episode: where its score belongs.

    Args:
      transitions: `[T, B, ...]`, of `token_env`.
      end_token: END; None if there is none.

    Returns:
      `[T, B]` boolean: END was chosen, or the last token of a response without one.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: END is below 0.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.rlhf.tokens import finishing, rows
      >>> obs = rows(jnp.array([[7, 9, 9]]), prompt_length=1)
      >>> after = jnp.array([[[7, 9, 0, 2]], [[7, 9, 9, 3]]])
      >>> none = jnp.zeros((2, 1))
      >>> finishing(pg.Transition(obs, none, none, none, none, after, none, {}), end_token=9).tolist()
      [[True], [False]]
    """
    before = live(transitions.obs, end_token=end_token)
    return before & ~live(transitions.next_obs, end_token=end_token)


@checked
def buffers(transitions: Transition) -> jax.Array:
    """The whole texts of a rollout in which every column is one episode.

    Args:
      transitions: `[T, B, ...]`, of `token_env`, T the length of a response.

    Returns:
      `[B, L]`, prompt and response.

    Raises:
      TypeError: `transitions` is no `Transition`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.rlhf.tokens import TokenParams, buffers, token_env
      >>> env, params = token_env(vocabulary_size=9, response_length=2), TokenParams(jnp.array([[7, 8]]))
      >>> def threes(key, memory, obs, start):
      ...     return 3 * start.astype(int), memory
      >>> loop = pg.begin(jax.random.key(0), env, params, (), num_envs=1)
      >>> _, transitions = pg.unroll(jax.random.key(1), env, params, threes, loop, num_steps=2)
      >>> buffers(transitions).tolist()
      [[7, 8, 3, 0]]
    """
    return buffer(transitions.next_obs[-1])


@checked
def responses(transitions: Transition) -> jax.Array:
    """`buffers` without the prompts.

    Args:
      transitions: `[T, B, ...]`, of `token_env`, T the length of a response.

    Returns:
      `[B, T]`.

    Raises:
      TypeError: `transitions` is no `Transition`.
      ValueError: there are more rows than a text has tokens.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.rlhf.tokens import responses
      >>> after, none = jnp.array([[[7, 8, 3, 0, 3]], [[7, 8, 3, 5, 4]]]), jnp.zeros((2, 1))
      >>> responses(pg.Transition(none, none, none, none, none, after, none, {})).tolist()
      [[3, 5]]
    """
    texts, length = buffers(transitions), len(transitions.next_obs)
    if length > texts.shape[-1]:
        raise ValueError(
            f"A column of a rollout must be one response, and texts of {texts.shape[-1]} tokens have none of "
            f"{length} steps."
        )
    return texts[:, texts.shape[-1] - length :]


@checked
def rows(texts: jax.Array, *, prompt_length: Steps) -> jax.Array:
    """The observations from which given responses would have been written.

    Args:
      texts: `[N, L]` integers, buffers of prompt and response.
      prompt_length: tokens that are there from the beginning, fewer than L; 0 is allowed.

    Returns:
      `[L - prompt_length, N, L + 1]`, time-major, of the type of the buffers or int16 if that does not hold L.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the buffers have not two axes, or the prompt leaves no token for a response.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.tokens import rows
      >>> rows(jnp.array([[7, 8, 9]]), prompt_length=1).tolist()
      [[[7, 0, 0, 1]], [[7, 8, 0, 2]]]
    """
    check_texts(texts, prompt_length)
    texts = jnp.asarray(texts)
    number, length = texts.shape
    dtype = jnp.promote_types(texts.dtype, token_dtype(length))
    positions = jnp.arange(prompt_length, length)[:, None, None]
    written = jnp.where(jnp.arange(length) < positions, texts, 0).astype(dtype)
    places = jnp.broadcast_to(positions.astype(dtype), (length - prompt_length, number, 1))
    return jnp.concatenate([written, places], axis=-1)


@checked
def counted(texts: jax.Array, *, prompt_length: Steps, end_token: Token | None) -> jax.Array:
    """Which tokens of a buffer are the response: up to and with its first END.

    Args:
      texts: `[..., L]` integers, buffers of prompt and response.
      prompt_length: tokens of the prompt, fewer than L.
      end_token: END; None if there is none.

    Returns:
      `[..., L]` boolean.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the prompt leaves no token for a response, or END is below 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.tokens import counted
      >>> counted(jnp.array([7, 3, 9, 9]), prompt_length=1, end_token=9).tolist()
      [False, True, True, False]
    """
    check_texts(texts, prompt_length, axes=None)
    answer = jnp.arange(texts.shape[-1]) >= prompt_length
    if end_token is None:
        return jnp.broadcast_to(answer, texts.shape)
    end = answer & (texts == end_token)
    return answer & (jnp.cumsum(end, axis=-1) - end == 0)


@checked
def token_dtype(largest: Steps) -> np.dtype:
    """The narrowest signed type for numbers up to the largest.

    Args:
      largest: at most 32,767.

    Returns:
      int8 or int16.

    Raises:
      TypeError: an argument is no integer.
      ValueError: the number is out of range.

    Example:
      >>> from purejaxpg.rlhf.tokens import token_dtype
      >>> token_dtype(127), token_dtype(128)
      (dtype('int8'), dtype('int16'))
    """
    if largest > np.iinfo(np.int16).max:
        raise ValueError(f"Tokens and lengths must be at most 32767, not {largest}.")
    return np.dtype(np.int8 if largest <= np.iinfo(np.int8).max else np.int16)


@checked
def check_end_token(end_token: Token | None, vocabulary_size: Count) -> None:
    """Check that END is one of the tokens.

    Args:
      end_token: END; None if there is none.
      vocabulary_size: number of tokens.

    Raises:
      TypeError: an argument is no integer.
      ValueError: END is none of the tokens.

    Example:
      >>> from purejaxpg.rlhf.tokens import check_end_token
      >>> check_end_token(4, 5)
    """
    if end_token is not None and end_token >= vocabulary_size:
        raise ValueError(
            f"end_token must be one of the {vocabulary_size} tokens, 0 to {vocabulary_size - 1}, not "
            f"{end_token}."
        )


@checked
def check_texts(texts: jax.Array, prompt_length: Steps, axes: Count | None = 2) -> None:
    """Check that an array holds buffers with place for a response.

    Args:
      texts: `[..., L]`, buffers.
      prompt_length: tokens of the prompt.
      axes: how many axes there must be, any number of them if None.

    Raises:
      TypeError: `texts` is no array.
      ValueError: these are no integers, there is another number of axes, or no token beside the prompt.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.rlhf.tokens import check_texts
      >>> check_texts(jnp.array([[7, 3, 9]]), 2)
    """
    found = f"not {described(texts)}"
    if not jnp.issubdtype(texts.dtype, jnp.integer) or texts.ndim == 0:
        raise ValueError(f"Texts must be integers [..., L], {found}.")
    if axes is not None and texts.ndim != axes:
        raise ValueError(f"Texts must have {axes} axes, {found}.")
    if prompt_length >= texts.shape[-1]:
        raise ValueError(
            f"prompt_length={prompt_length} must be below the {texts.shape[-1]} tokens of a text."
        )


def _prompts(params: PyTree, vocabulary_size: int, end_token: int | None) -> jax.Array:
    """The table of prompts; ValueError, one sentence, unless it is one of tokens other than END."""
    prompts: Any = getattr(params, "prompts", None)
    check("prompts of the environment's parameters", prompts, jax.Array)
    if prompts.ndim != 2 or 0 in prompts.shape or not jnp.issubdtype(prompts.dtype, jnp.integer):
        raise ValueError(
            "prompts must be integers [P, prompt_length], at least one prompt of at least one token, not "
            f"{described(prompts)}."
        )
    if not isinstance(prompts, jax.core.Tracer):
        values = np.asarray(prompts)
        if values.min() < 0 or values.max() >= vocabulary_size:
            raise ValueError(
                f"prompts must consist of the {vocabulary_size} tokens 0 to {vocabulary_size - 1}; found "
                f"{values.min()} to {values.max()}."
            )
        if end_token is not None and (values == end_token).any():
            raise ValueError(
                f"prompts must not hold the end token {end_token}: they would be over."
            )
    return jnp.asarray(prompts)
