"""Proximal policy optimisation with a clipped surrogate (Schulman et al. 2017, arXiv:1707.06347)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent import Params, begin_agent, gather_experience, make_act, views
from purejaxpg.losses import clipped_value_loss, kl_k3, ppo_clip_loss, value_loss
from purejaxpg.minibatch import check_divides, shuffled_epochs
from purejaxpg.optimizers import gradient_norm, resolve
from purejaxpg.returns import gae
from purejaxpg.rollout import Loop, episode_metrics
from purejaxpg.types import Algorithm, Coefficient, Env, Network, PyTree, RewardFn, Scalar
from purejaxpg.values import explained_variance, normalize


class PPOState(NamedTuple):
    params: Params
    opt_state: PyTree
    loop: Loop
    update: jax.Array


class Sample(NamedTuple):
    """What minibatches are made of, `[1, num_steps * num_envs, ...]` in every leaf."""

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
    """Maximise L^CLIP - value_coef L^VF + entropy_coef H (eq. 9) over minibatches of each rollout.

    Args:
      optimizer: of policy and value together, e.g. `adam(3e-4)` of purejaxpg.
      num_minibatches: must divide `num_envs * num_steps`.
      clip_eps, value_coef, entropy_coef, value_clip_eps: Scalars, or schedules of the update count.
      value_clip_eps: clip the value's move in its loss; None, the default, does not.
      normalize_advantages: to mean 0 and deviation 1 in each minibatch.
      target_kl: skip the rest of an update from the first minibatch on whose approximate KL exceeds it.
      policy_loss: `(log_prob, old_log_prob, advantage) -> loss` per sample, in place of L^CLIP.
      reward_fn: `(transitions, log_prob, env_params) -> reward`; the environment's reward if None.
    """
    if min(num_envs, num_steps, num_epochs) < 1:
        raise ValueError(f"Must be at least 1: {num_envs=}, {num_steps=}, {num_epochs=}.")
    check_divides(num_minibatches, num_envs * num_steps, "num_envs * num_steps")

    def init(key, env_params):
        params, loop = begin_agent(key, env, env_params, policy, value, num_envs=num_envs)
        return PPOState(params, optimizer.init(params), loop, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        rollout_key, shuffle_key = jax.random.split(key)
        loop, old = gather_experience(
            rollout_key, env, env_params, policy, value, state.params, state.loop,
            num_steps=num_steps, reward_fn=reward_fn,
        )  # fmt: skip
        seen = old.transitions
        advantage = gae(
            old.reward, old.value, old.next_value, seen.terminated, seen.truncated,
            discount=discount, gae_lambda=gae_lambda,
        )  # fmt: skip
        target = advantage + old.value
        distribution_of, value_of = views(env, env_params, policy, value)
        weights = (clip_eps, value_coef, entropy_coef)
        clip, value_weight, entropy_weight = (resolve(x, state.update) for x in weights)
        surrogate = policy_loss or partial(ppo_clip_loss, clip_eps=clip)

        def loss_fn(params, batch):
            distribution = distribution_of(params.policy, batch.obs, batch.start)
            log_prob = distribution.log_prob(batch.action)
            new_value = value_of(params.value, batch.obs)
            advantage = normalize(batch.advantage) if normalize_advantages else batch.advantage
            if value_clip_eps is None:
                value_term = value_loss(new_value, batch.target)
            else:
                eps = resolve(value_clip_eps, state.update)
                value_term = clipped_value_loss(new_value, batch.value, batch.target, clip_eps=eps)
            terms = {
                "policy_loss": surrogate(log_prob, batch.log_prob, advantage),
                "value_loss": value_term,
                "entropy": distribution.entropy(),
                "approx_kl": kl_k3(log_prob, batch.log_prob),
                "clip_fraction": (jnp.abs(jnp.exp(log_prob - batch.log_prob) - 1) > clip) * 1.0,
            }
            # All means in one reduction: small updates are bound by the number of kernels.
            terms = dict(zip(terms, jnp.stack([*terms.values()]).mean(axis=(1, 2))))
            loss = terms["policy_loss"] + value_weight * terms["value_loss"]
            return loss - entropy_weight * terms["entropy"], terms

        def update(carry, batch):
            params, opt_state, going_on = carry
            grads, terms = jax.grad(loss_fn, has_aux=True)(params, batch)
            updates, new_opt_state = optimizer.update(grads, opt_state, params)
            new = optax.apply_updates(params, updates), new_opt_state
            if target_kl is not None:
                going_on &= terms["approx_kl"] <= target_kl
                new = jax.tree.map(lambda x, y: jnp.where(going_on, x, y), new, (params, opt_state))
            terms |= {"grad_norm": gradient_norm(grads), "applied_fraction": going_on * 1.0}
            return (*new, going_on), terms

        data = Sample(seen.obs, seen.start, seen.action, old.log_prob, old.value, advantage, target)
        (params, opt_state, _), terms = shuffled_epochs(
            shuffle_key,
            update,
            (state.params, state.opt_state, jnp.array(True)),
            jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), data),
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
        )
        new_state = PPOState(params, opt_state, loop, state.update + 1)
        metrics = {
            **jax.tree.map(jnp.mean, terms),
            "explained_variance": explained_variance(old.value, target),
            "env_steps": new_state.update.astype(jnp.float32) * (num_steps * num_envs),
            **episode_metrics(seen),
        }
        return new_state, seen, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
