"""Proximal policy optimisation with a clipped surrogate (Schulman et al. 2017, arXiv:1707.06347)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent import Params, begin_agent, make_act
from purejaxpg.losses import clipped_value_loss, kl_k3, ppo_clip_loss, value_loss
from purejaxpg.minibatch import check_divides, shuffled_epochs
from purejaxpg.optimizers import resolve
from purejaxpg.returns import gae
from purejaxpg.rollout import Loop, episode_metrics, unroll
from purejaxpg.types import Algorithm, Coefficient, Env, Network, PyTree, RewardFn, Scalar
from purejaxpg.values import explained_variance, normalize, state_values


class PPOState(NamedTuple):
    params: Params
    opt_state: PyTree
    loop: Loop
    update: jax.Array


class Sample(NamedTuple):
    """What a minibatch is made of, `[1, num_steps * num_envs, ...]` in every leaf."""

    obs: jax.Array
    start: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


def ppo(
    env: Env,
    policy: Network,
    value: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_envs: int = 8,
    num_steps: int = 128,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    discount: Scalar = 0.99,
    gae_lambda: Scalar = 0.95,
    clip_eps: Coefficient = 0.2,
    value_coef: Coefficient = 0.5,
    entropy_coef: Coefficient = 0.0,
    value_clip_eps: Coefficient | None = None,
    normalize_advantages: bool = True,
    target_kl: Scalar | None = None,
    policy_loss: Callable[..., jax.Array] | None = None,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """Maximise L^CLIP - value_coef L^VF + entropy_coef H (eq. 9) over minibatches of a rollout.

    Args:
      optimizer: of policy and value together, e.g. `optimizers.adam(3e-4)`.
      num_minibatches: must divide `num_envs * num_steps`.
      clip_eps, value_coef, entropy_coef, value_clip_eps: Scalars, or schedules of the update count.
      value_clip_eps: clip the value's move in its loss; None, the default, does not.
      normalize_advantages: to mean 0 and deviation 1 in each minibatch.
      target_kl: skip the rest of an update from the first minibatch whose approximate KL exceeds it.
      policy_loss: `(log_prob, old_log_prob, advantage) -> loss` per sample, in place of L^CLIP.
      reward_fn: `(transitions, log_prob, env_params) -> reward`; the environment's reward if None.
    """
    if min(num_envs, num_steps, num_epochs) < 1:
        raise ValueError(f"Must be at least 1: {num_envs=}, {num_steps=}, {num_epochs=}.")
    check_divides(num_minibatches, num_envs * num_steps, "num_envs * num_steps")
    act = make_act(env, policy)

    def init(key, env_params):
        params, loop = begin_agent(key, env, env_params, policy, value, num_envs=num_envs)
        return PPOState(params, optimizer.init(params), loop, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        rollout_key, shuffle_key = jax.random.split(key)

        def apply_policy(params, obs, start):
            return policy.apply(params.policy, (), env.observe(obs, env_params), start)[0]

        def apply_value(params, obs):
            start = jnp.zeros(obs.shape[:2], bool)
            return value.apply(params.value, (), env.observe(obs, env_params), start)[0]

        # 1. Act with the policy as it is.
        loop, transitions = unroll(
            rollout_key,
            env,
            env_params,
            lambda key, *args: act(key, state, *args, env_params=env_params),
            state.loop,
            num_steps=num_steps,
        )

        # 2. What the old policy and the old value function say of it, in one pass each.
        obs, action, start = transitions.obs, transitions.action, transitions.start
        log_prob = apply_policy(state.params, obs, start).log_prob(action)
        values, next_values = state_values(partial(apply_value, state.params), transitions)
        reward = transitions.reward
        if reward_fn is not None:
            reward = reward_fn(transitions, log_prob, env_params)
        cuts = (transitions.terminated, transitions.truncated)
        advantage = gae(
            reward, values, next_values, *cuts, discount=discount, gae_lambda=gae_lambda
        )
        target = advantage + values

        # 3. Epochs of minibatches.
        clip = resolve(clip_eps, state.update)
        surrogate = policy_loss or partial(ppo_clip_loss, clip_eps=clip)

        def loss_fn(params, batch):
            distribution = apply_policy(params, batch.obs, batch.start)
            new_log_prob, new_value = (
                distribution.log_prob(batch.action),
                apply_value(params, batch.obs),
            )
            advantage = normalize(batch.advantage) if normalize_advantages else batch.advantage
            value_term = value_loss(new_value, batch.target)
            if value_clip_eps is not None:
                eps = resolve(value_clip_eps, state.update)
                value_term = clipped_value_loss(new_value, batch.value, batch.target, clip_eps=eps)
            terms = {
                "policy_loss": surrogate(new_log_prob, batch.log_prob, advantage).mean(),
                "value_loss": value_term.mean(),
                "entropy": distribution.entropy().mean(),
                "approx_kl": kl_k3(new_log_prob, batch.log_prob).mean(),
                "clip_fraction": (
                    jnp.abs(jnp.exp(new_log_prob - batch.log_prob) - 1) > clip
                ).mean(),
            }
            loss = terms["policy_loss"] + resolve(value_coef, state.update) * terms["value_loss"]
            return loss - resolve(entropy_coef, state.update) * terms["entropy"], terms

        def update(carry, batch):
            params, opt_state, going_on = carry
            grads, terms = jax.grad(loss_fn, has_aux=True)(params, batch)
            if target_kl is not None:
                going_on &= terms["approx_kl"] <= target_kl
            updates, new_opt_state = optimizer.update(grads, opt_state, params)
            new = optax.apply_updates(params, updates), new_opt_state
            if target_kl is not None:
                new = jax.tree.map(lambda x, y: jnp.where(going_on, x, y), new, (params, opt_state))
            terms |= {"grad_norm": optax.tree.norm(grads), "applied_fraction": going_on * 1.0}
            return (*new, going_on), terms

        samples = Sample(obs, start, action, log_prob, values, advantage, target)
        samples = jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), samples)
        (params, opt_state, _), terms = shuffled_epochs(
            shuffle_key,
            update,
            (state.params, state.opt_state, jnp.array(True)),
            samples,
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
        )
        new_state = PPOState(params, opt_state, loop, state.update + 1)
        metrics = {
            **jax.tree.map(jnp.mean, terms),
            "explained_variance": explained_variance(values, target),
            "env_steps": new_state.update.astype(jnp.float32) * (num_steps * num_envs),
            **episode_metrics(transitions),
        }
        return new_state, transitions, metrics

    return Algorithm(init, step, act, policy.initial_memory)
