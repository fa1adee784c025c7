"""Learning from a reward model, held near a reference policy: an outer algorithm around any batch algorithm."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.agent.acting import network_output, on_raw_observations
from purejaxpg.arguments import NotNegative, Positive, check, checked
from purejaxpg.rlhf.tokens import Token, buffers, finishing
from purejaxpg.types import Algorithm, Build, Env, Network, PyTree, RewardFn, Transition

CLIP = 0.2
"""Of the relative error of the KL that moves beta (Ziegler et al. 2019)."""


class RLHFParams(NamedTuple):
    """Parameters of `token_env` and of what is learnt in it. All may be traced, so one vmap covers them.

    Attributes:
      prompts: `[P, prompt_length]`, as of `TokenParams`.
      reference: parameters of the reference policy, where learning begins.
      reward_model: parameters of the score.
      beta: weight of the KL penalty, at least 0, in units of the score for each nat. Where it adapts,
        the first one.
    """

    prompts: jax.Array
    reference: PyTree
    reward_model: PyTree
    beta: jax.Array


class RLHFState(NamedTuple):
    """State of `rlhf`.

    Attributes:
      inner: of the algorithm inside.
      beta: float32, weight of the penalty in the next update.
    """

    inner: Any
    beta: jax.Array

    @property
    def update(self) -> jax.Array:
        return self.inner.update


@checked
def penalised_reward(
    env: Env, policy: Network, score: Callable, *, end_token: Token | None
) -> RewardFn:
    """r_t = -beta (log pi(y_t | x, y_<t) - log pi_ref(y_t | x, y_<t)), and + R(x, y) at END or the last token.

    Summed over a response it is R(x, y) - beta log(pi(y | x) / pi_ref(y | x)), whose mean is what Ziegler et
    al. 2019, arXiv:1909.08593, and Ouyang et al. 2022, arXiv:2203.02155, maximise. The penalty charges tokens
    that the policy likes better than the reference does.

    Args:
      env: of `token_env`.
      policy: the policy network, without memory, of which the reference has other parameters.
      score: `(params, texts [B, L]) -> R [B]`; called once for each response.
      end_token: END, as of `token_env`.

    Returns:
      A `reward_fn` for `env_params` that are or nest `RLHFParams`. Its extras: `reference_log_prob`,
      `log_ratio` (log pi - log pi_ref, nats) and `score` (R in the row that ends the response, 0 elsewhere).

    Raises:
      TypeError: an argument is not of the kind that its annotation says; by the function, where there are no
        `RLHFParams`.
      ValueError: by the function, where a column of the rollout is not one response, or a score is not `[B]`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.rlhf.learning import RLHFParams, penalised_reward
      >>> from purejaxpg.rlhf.tokens import token_env
      >>> env = token_env(vocabulary_size=2, response_length=2)
      >>> table = pg.Network(None, lambda batch: (), lambda params, memory, obs, start: (
      ...     pg.categorical(jnp.broadcast_to(params, (*start.shape, 2))), memory))
      >>> params = RLHFParams(jnp.zeros((1, 1), int), jnp.zeros(2), 3.0, jnp.array(0.5))
      >>> def ones(key, memory, obs, start):
      ...     return jnp.ones(start.shape, int), memory
      >>> loop = pg.begin(jax.random.key(0), env, params, (), num_envs=1)
      >>> _, transitions = pg.unroll(jax.random.key(1), env, params, ones, loop, num_steps=2)
      >>> reward_fn = penalised_reward(env, table, lambda weight, texts: weight * texts[:, -1], end_token=None)
      >>> reward, _ = reward_fn(transitions, jnp.zeros((2, 1)), params)  # as if the policy were sure
      >>> [round(float(x), 3) for x in reward[:, 0]]  # -log(2) / 2, and 3 more at the end
      [-0.347, 2.653]
    """

    def reward_fn(
        transitions: Transition, log_prob: jax.Array, env_params: PyTree
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        own = _rlhf_params(env_params)
        _check_columns(transitions, own)
        reference = on_raw_observations(policy, env, own)
        distribution = network_output(reference, own.reference, (), transitions)
        reference_log_prob = distribution.log_prob(transitions.action)
        log_ratio = jnp.where(transitions.info["live"], log_prob - reference_log_prob, 0.0)
        scores = score(own.reward_model, buffers(transitions))
        if jnp.shape(scores) != log_prob.shape[1:]:
            raise ValueError(
                f"The score must be one number for each of {log_prob.shape[1]} responses, not of shape "
                f"{jnp.shape(scores)}."
            )
        at_end = jnp.where(finishing(transitions, end_token=end_token), scores, 0.0)
        extras = {"reference_log_prob": reference_log_prob, "log_ratio": log_ratio, "score": at_end}
        return at_end - own.beta * log_ratio, extras

    return reward_fn


@checked
def rlhf(
    build: Callable,
    policy: Network,
    score: Callable,
    *,
    end_token: Token | None,
    target_kl: Positive | None = None,
    horizon: Positive = 10.0,
) -> Build:
    """Maximise the score of responses less beta KL(pi, pi_ref), from the reference on, by any batch algorithm.

    With a `target_kl` beta follows it (Ziegler et al. 2019, arXiv:1909.08593): after each update

        beta <- beta (1 + clip(KL / target_kl - 1, -0.2, 0.2) / horizon)

    where KL is the mean over the rollout's responses of the sampled log(pi(y | x) / pi_ref(y | x)).

    Args:
      build: `(env, reward_fn) -> algorithm`, such as `lambda env, reward_fn: ppo(env, policy, ...,
        num_steps=response_length, reward_fn=reward_fn, discount=1.0)`.
      policy: the policy network that `build` uses.
      score: the reward model, `(params, texts [B, L]) -> R [B]`.
      end_token: END, as of `token_env`.
      target_kl: KL that beta is to keep, in nats for each response; None leaves beta as it is given.
      horizon: updates that beta takes to move by a fifth of itself; with a `target_kl` only.

    Returns:
      `(env) -> algorithm` for `env` of `token_env`, run with `RLHFParams`. It adds the metrics `beta`,
      `kl_to_reference` (nats) and `score_mean`, both per response of the rollout.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range; in training, as of `penalised_reward`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.rlhf.learning import RLHFParams, rlhf
      >>> from purejaxpg.rlhf.tokens import rows, token_env
      >>> from purejaxpg.rlhf.transformer import language_policy, language_value
      >>> sizes = {"vocabulary_size": 5, "response_length": 3, "features": 8, "num_heads": 2}
      >>> policy, value = language_policy(**sizes), language_value(**sizes)
      >>> build = rlhf(
      ...     lambda env, reward_fn: pg.ppo(env, policy, value, pg.adam(1e-3), num_envs=8, num_steps=3,
      ...                                   discount=1.0, reward_fn=reward_fn),
      ...     policy, lambda params, texts: jnp.sum(texts == params, axis=-1) * 1.0, end_token=4)
      >>> def run(key, beta):
      ...     prompts = jnp.array([[1, 2]])
      ...     reference = policy.init(key, rows(jnp.zeros((1, 5), int), prompt_length=2))
      ...     env_params = RLHFParams(prompts, reference, 3, beta)
      ...     algorithm = build(token_env(vocabulary_size=5, response_length=3, end_token=4))
      ...     return pg.train(key, algorithm, env_params, num_updates=2)
      >>> _, metrics = jax.eval_shape(jax.vmap(run, (None, 0)), jax.random.key(0), jnp.array([0.1, 1.0]))
      >>> metrics["kl_to_reference"].shape
      (2, 2)
    """

    def build_rlhf(env: Env) -> Algorithm:
        inner = build(env, penalised_reward(env, policy, score, end_token=end_token))
        check("what build returns", inner, Algorithm)

        def init(key, env_params):
            own = _rlhf_params(env_params)
            state = inner.init(key, env_params)
            params = state.params._replace(policy=own.reference)
            return RLHFState(state._replace(params=params), jnp.asarray(own.beta, jnp.float32))

        def step(key, state, env_params):
            now = _rlhf_params(env_params)._replace(beta=state.beta)
            inner_state, transitions, metrics = inner.step(key, state.inner, now)
            # Means over live steps, times live steps of a response, are sums over a response.
            steps = jnp.mean(jnp.sum(transitions.info["live"], axis=0))
            kl = steps * metrics["log_ratio"]
            own = {
                "beta": state.beta,
                "kl_to_reference": kl,
                "score_mean": steps * metrics["score"],
            }
            beta = state.beta
            if target_kl is not None:
                error = jnp.clip(kl / target_kl - 1, -CLIP, CLIP)
                beta = beta * (1 + error / horizon)
            return RLHFState(inner_state, beta), transitions, metrics | own

        def act(key, state, memory, obs, start, *, deterministic=False, env_params):
            return inner.act(
                key, state.inner, memory, obs, start,
                deterministic=deterministic, env_params=env_params,
            )  # fmt: skip

        return Algorithm(init, step, act, inner.initial_memory)

    return build_rlhf


def _rlhf_params(env_params: PyTree) -> RLHFParams:
    """The `RLHFParams` that the parameters are or nest."""
    while not isinstance(env_params, RLHFParams):
        if not hasattr(env_params, "params"):
            raise TypeError(
                "env_params must be RLHFParams: prompts, reference, reward_model, beta."
            )
        env_params = env_params.params
    check("prompts", env_params.prompts, jax.Array)
    check("beta", env_params.beta, NotNegative)
    if not isinstance(env_params.beta, jax.core.Tracer) and not np.all(
        np.asarray(env_params.beta) >= 0
    ):
        raise ValueError(f"beta must be at least 0, not {env_params.beta}.")
    return env_params


def _check_columns(transitions: Transition, own: RLHFParams) -> None:
    """Refuse rollouts whose columns are not one response each: a score would be that of another text."""
    length = transitions.obs.shape[-1] - 1 - jnp.shape(own.prompts)[1]
    if len(transitions.reward) != length:
        raise ValueError(
            f"num_steps must be the response_length {length}, one response a column, not "
            f"{len(transitions.reward)}."
        )
