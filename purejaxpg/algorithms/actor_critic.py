"""Batch actor-critic: a policy gradient with any advantage estimator, and value regression."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.experience import Params, begin_agent, gather_experience, make_act, views
from purejaxpg.agent.metrics import rollout_metrics
from purejaxpg.agent.minibatch import check_counts, cut_length
from purejaxpg.agent.rollout import Loop
from purejaxpg.agent.values import fit_value
from purejaxpg.functional.advantages import AdvantageFn, normalize
from purejaxpg.functional.diagnostics import explained_variance, gradient_norm
from purejaxpg.functional.losses import policy_gradient_loss
from purejaxpg.functional.schedules import resolve
from purejaxpg.types import Algorithm, Coefficient, Env, Network, RewardFn


class ActorCriticState(NamedTuple):
    """`opt_state` holds the states of the two optimizers."""

    params: Params
    opt_state: Params
    loop: Loop
    update: jax.Array


def actor_critic(
    env: Env,
    policy: Network,
    value: Network,
    optimizer: optax.GradientTransformation,
    value_optimizer: optax.GradientTransformation,
    *,
    advantage_fn: AdvantageFn,
    num_envs: int = 8,
    num_steps: int = 16,
    entropy_coef: Coefficient = 0.0,
    num_value_epochs: int = 1,
    num_value_minibatches: int = 1,
    normalize_advantages: bool = False,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """One step up mean(log pi(a|s) A + entropy_coef H) per rollout, and the regression of V on its targets.

    Sutton and Barto 2018, section 13.5, over a batch; the advantages are those of the values from before the
    update. Synchronous A2C (Mnih et al. 2016, arXiv:1602.01783) is `advantage_fn=partial(n_step_advantage,
    discount=0.99, n=num_steps)` with one value step, the defaults, and RMSProp; its joint loss of two networks
    without common parameters is these two losses, but for the common norm to which it clips gradients.

    Args:
      optimizer, value_optimizer: of the policy and of the value function.
      advantage_fn: `(reward, value, next_value, terminated, truncated) -> (advantage, value_target)`, any of
        `purejaxpg.functional.advantages` with its discount filled in.
      entropy_coef: a Scalar, or a schedule of the update count.
      num_value_epochs: passes of value regression over each rollout.
      num_value_minibatches: must divide `num_envs * num_steps`.
      normalize_advantages: to mean 0 and deviation 1 over the rollout.
      reward_fn: `(transitions, log_prob, env_params) -> reward`; the environment's reward if None.
    """
    check_counts(num_envs=num_envs, num_steps=num_steps, num_value_epochs=num_value_epochs)
    sizes = num_envs, num_steps, num_value_minibatches
    length = cut_length([value], *sizes, name="num_value_minibatches")

    def init(key, env_params):
        params, loop = begin_agent(key, env, env_params, policy, value, num_envs=num_envs)
        opt_state = Params(optimizer.init(params.policy), value_optimizer.init(params.value))
        return ActorCriticState(params, opt_state, loop, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        rollout_key, shuffle_key = jax.random.split(key)
        loop, old = gather_experience(
            rollout_key, env, env_params, policy, value, state.params, state.loop,
            num_steps=num_steps, reward_fn=reward_fn,
        )  # fmt: skip
        seen = old.transitions
        advantage, target = advantage_fn(
            old.reward, old.value, old.next_value, seen.terminated, seen.truncated
        )
        advantage = normalize(advantage) if normalize_advantages else advantage
        distribution_of, value_of = views(env, env_params, policy, value)

        def loss_fn(params):
            distribution = distribution_of(params, seen, old.memory)
            loss = policy_gradient_loss(distribution.log_prob(seen.action), advantage).mean()
            entropy = distribution.entropy().mean()
            return loss - resolve(entropy_coef, state.update) * entropy, (loss, entropy)

        grads, (loss, entropy) = jax.grad(loss_fn, has_aux=True)(state.params.policy)
        updates, policy_opt = optimizer.update(grads, state.opt_state.policy, state.params.policy)
        value_params, value_opt, fit_loss = fit_value(
            shuffle_key, value_of, value_optimizer, state.params.value, state.opt_state.value,
            (seen, old.memory), target, num_epochs=num_value_epochs,
            num_minibatches=num_value_minibatches, sequence_length=length,
        )  # fmt: skip
        new_state = ActorCriticState(
            Params(optax.apply_updates(state.params.policy, updates), value_params),
            Params(policy_opt, value_opt),
            loop,
            state.update + 1,
        )
        metrics = {
            "policy_loss": loss,
            "value_loss": fit_loss,
            "entropy": entropy,
            "grad_norm": gradient_norm(grads),
            "explained_variance": explained_variance(old.value, target),
            **rollout_metrics(new_state.update, seen),
        }
        return new_state, seen, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
