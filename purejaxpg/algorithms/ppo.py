"""Proximal policy optimisation, by a clip or a KL penalty (Schulman et al. 2017, arXiv:1707.06347)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.experience import Params, begin_agent, gather_experience, make_act, views
from purejaxpg.agent.metrics import rollout_metrics
from purejaxpg.agent.minibatch import check_counts, cut_length, sequences, shuffled_epochs
from purejaxpg.agent.rollout import Loop
from purejaxpg.functional import losses
from purejaxpg.functional.advantages import gae_advantage, normalize
from purejaxpg.functional.diagnostics import explained_variance, gradient_norm
from purejaxpg.functional.schedules import adapt_kl_coef, resolve
from purejaxpg.types import Algorithm, Coefficient, Env, Network, PyTree, RewardFn, Scalar


class PPOState(NamedTuple):
    params: Params
    opt_state: PyTree
    loop: Loop
    update: jax.Array
    kl_coef: jax.Array  # weight of the KL penalty, 0 without one


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
    sequence_length: int | None = None,
    discount: Scalar = 0.99,
    gae_lambda: Scalar = 0.95,
    clip_eps: Coefficient = 0.2,
    value_coef: Coefficient = 0.5,
    entropy_coef: Coefficient = 0.0,
    value_clip_eps: Coefficient | None = None,
    normalize_advantages: bool = True,
    kl_coef: Scalar | None = None,
    adaptive_kl: Scalar | None = None,
    target_kl: Scalar | None = None,
    policy_loss: Callable[..., jax.Array] | None = None,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """Maximise L^CLIP - value_coef L^VF + entropy_coef H (eq. 9) over minibatches of each rollout.

    Args:
      optimizer: of policy and value together, e.g. `adam(3e-4)` of purejaxpg.
      num_minibatches: of whole sequences. sequence_length: 1 if None, all steps for networks with memory.
      clip_eps, value_coef, entropy_coef, value_clip_eps: Scalars, or schedules of the update count.
      value_clip_eps: clip the value's move in its loss. normalize_advantages: in each minibatch.
      kl_coef, adaptive_kl: weight of a KL(old, new) penalty in place of the clip (eq. 8); the KL it adapts to.
      target_kl: skip the rest of an update from the first minibatch on whose approximate KL exceeds it.
      policy_loss: `(log_prob, old_log_prob, advantage) -> loss` per sample, in place of L^CLIP.
      reward_fn: `(transitions, log_prob, env_params) -> reward`; the environment's reward if None.
    """
    check_counts(num_envs=num_envs, num_steps=num_steps, num_epochs=num_epochs)
    length = cut_length([policy, value], num_envs, num_steps, num_minibatches, sequence_length)
    penalised = kl_coef is not None
    if (adaptive_kl is not None and not penalised) or (penalised and policy_loss is not None):
        raise ValueError("adaptive_kl needs a kl_coef to begin with; policy_loss excludes both.")

    def init(key, env_params):
        params, loop = begin_agent(key, env, env_params, policy, value, num_envs=num_envs)
        coef = jnp.asarray(kl_coef if penalised else 0.0, jnp.float32)
        return PPOState(params, optimizer.init(params), loop, jnp.zeros((), jnp.int32), coef)

    def step(key, state, env_params):
        rollout_key, shuffle_key = jax.random.split(key)
        loop, old = gather_experience(
            rollout_key, env, env_params, policy, value, state.params, state.loop,
            num_steps=num_steps, reward_fn=reward_fn,
        )  # fmt: skip
        seen = old.transitions
        advantage, target = gae_advantage(
            old.reward, old.value, old.next_value, seen.terminated, seen.truncated,
            discount=discount, gae_lambda=gae_lambda)  # fmt: skip
        distribution_of, value_of = views(env, env_params, policy, value)
        weights = (clip_eps, value_coef, entropy_coef)
        clip, value_weight, entropy_weight = (resolve(x, state.update) for x in weights)

        def loss_fn(params, batch):
            old, advantage, target = batch
            seen = old.transitions
            distribution = distribution_of(params.policy, seen, old.memory)
            log_prob = distribution.log_prob(seen.action)
            new_value = value_of(params.value, seen, old.memory)
            advantage = normalize(advantage) if normalize_advantages else advantage
            taken = log_prob, old.log_prob, advantage
            if policy_loss is not None:
                policy_term = policy_loss(*taken)
            elif penalised:
                kl = old.distribution.kl_divergence(distribution)
                policy_term = losses.ppo_kl_penalty_loss(*taken, kl, kl_coef=state.kl_coef)
            else:
                policy_term = losses.ppo_clip_loss(*taken, clip_eps=clip)
            value_term = losses.value_loss(new_value, target)
            if value_clip_eps is not None:
                eps = resolve(value_clip_eps, state.update)
                value_term = losses.clipped_value_loss(new_value, old.value, target, clip_eps=eps)
            terms = {
                "policy_loss": policy_term,
                "value_loss": value_term,
                "entropy": distribution.entropy(),
                "approx_kl": losses.kl_k3(log_prob, old.log_prob),
                "clip_fraction": (jnp.abs(jnp.exp(log_prob - old.log_prob) - 1) > clip) * 1.0,
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

        (params, opt_state, _), terms = shuffled_epochs(
            shuffle_key, update, (state.params, state.opt_state, jnp.array(True)),
            sequences((old, advantage, target), length),
            num_epochs=num_epochs, num_minibatches=num_minibatches,
        )  # fmt: skip
        coef = state.kl_coef
        if adaptive_kl is not None:
            new = distribution_of(params.policy, seen, old.memory)
            kl = old.distribution.kl_divergence(new).mean()
            coef = adapt_kl_coef(coef, kl, target=adaptive_kl)
        new_state = PPOState(params, opt_state, loop, state.update + 1, coef)
        metrics = {
            **jax.tree.map(jnp.mean, terms),
            "kl_coef": state.kl_coef,
            "explained_variance": explained_variance(old.value, target),
            **rollout_metrics(new_state.update, seen),
        }
        return new_state, seen, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
