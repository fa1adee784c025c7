"""REINFORCE (Williams 1992): the policy gradient of whole episodes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.experience import (
    Params,
    begin_agent,
    gather_experience,
    initial_memory,
    make_act,
    views,
)
from purejaxpg.agent.metrics import rollout_metrics
from purejaxpg.agent.minibatch import check_counts, cut_length
from purejaxpg.agent.rollout import begin, first_steps
from purejaxpg.agent.values import fit_value
from purejaxpg.functional.advantages import normalize
from purejaxpg.functional.diagnostics import explained_variance, gradient_norm
from purejaxpg.functional.losses import policy_gradient_loss
from purejaxpg.functional.returns import discounted_returns
from purejaxpg.functional.schedules import resolve
from purejaxpg.types import Algorithm, Coefficient, Env, Network, RewardFn, Scalar


class ReinforceState(NamedTuple):
    """`opt_state` holds the states of the two optimizers. Every update begins with fresh episodes."""

    params: Params
    opt_state: Params
    update: jax.Array


def reinforce(
    env: Env,
    policy: Network,
    value: Network,
    optimizer: optax.GradientTransformation,
    value_optimizer: optax.GradientTransformation,
    *,
    num_envs: int = 8,
    num_steps: int = 512,
    discount: Scalar = 0.99,
    reward_to_go: bool = True,
    discounted_gradient: bool = False,
    first_episodes_only: bool = False,
    mean_baseline: bool = False,
    normalize_advantages: bool = False,
    entropy_coef: Coefficient = 0.0,
    num_value_epochs: int = 1,
    num_value_minibatches: int = 1,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """One step up 1/N sum_i sum_t (log pi(a_it|s_it) psi_it + entropy_coef H_it), i = 1 ... N episodes.

    A *mean over trajectories* of sums over their steps: the gradient of the return of an episode, not
    of a step. psi_it is the discounted reward to go G_it less V(s_it) or, without `reward_to_go`, at all
    steps of episode i that of its first, G_i0 - V(s_i0). With a discount below 1 this usual form is not
    the gradient of the discounted return; the factor discount^t of `discounted_gradient` makes it so.

    Every update resets the environments and runs them for `num_steps` steps. Steps of episodes that
    are not over by then count for nothing, so that the data favour short episodes. That bias is gone
    with `first_episodes_only` and `num_steps` no less than the time limit: then one whole episode of
    each environment counts. Where a time limit ended an episode, V of its last state stands for what
    was to come.

    Args:
      value: the baseline, fitted to rewards to go; `zero_value_network()` for none.
      optimizer, value_optimizer: of the policy and of the value function.
      mean_baseline: subtract from psi its mean over the rollout's steps (over its episodes without
        `reward_to_go`). That mean holds each sample itself, which shrinks the gradient by about 1 - 1/N.
      normalize_advantages: psi to mean 0 and deviation 1 over the rollout's steps.
      entropy_coef: a Scalar, or a schedule of the update count.
      num_value_epochs: passes of value regression over each rollout.
      num_value_minibatches: must divide `num_envs * num_steps`.
      reward_fn: `(transitions, log_prob, env_params) -> reward`; the environment's reward if None.

    Metrics: `counted_fraction` is the fraction of steps that belong to episodes that count.
    """
    check_counts(num_envs=num_envs, num_steps=num_steps, num_value_epochs=num_value_epochs)
    sizes = num_envs, num_steps, num_value_minibatches
    length = cut_length([value], *sizes, name="num_value_minibatches")

    def init(key, env_params):
        params, _ = begin_agent(key, env, env_params, policy, value, num_envs=num_envs)
        opt_state = Params(optimizer.init(params.policy), value_optimizer.init(params.value))
        return ReinforceState(params, opt_state, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        reset_key, rollout_key, shuffle_key = jax.random.split(key, 3)
        memory = initial_memory(policy, value, num_envs)
        loop = begin(reset_key, env, env_params, memory, num_envs=num_envs)
        _, old = gather_experience(
            rollout_key, env, env_params, policy, value, state.params, loop,
            num_steps=num_steps, reward_fn=reward_fn,
        )  # fmt: skip
        seen = old.transitions
        first = first_steps(seen.start)
        done = seen.terminated | seen.truncated
        counts = jax.lax.cumsum(done.astype(jnp.int32), reverse=True) > 0
        if first_episodes_only:
            counts &= first == 0
        returns = discounted_returns(
            old.reward, old.next_value, seen.terminated, seen.truncated, discount=discount
        )
        advantage = returns - old.value
        if not reward_to_go:
            advantage = jnp.take_along_axis(advantage, first, axis=0)
        if mean_baseline:
            among = counts if reward_to_go else counts & seen.start
            advantage -= jnp.mean(advantage, where=among)
        if normalize_advantages:
            advantage = normalize(advantage, where=counts)
        num_episodes = jnp.maximum(jnp.sum(counts & done), 1)
        weight = jnp.where(counts, 1.0 / num_episodes, 0.0)
        if discounted_gradient:
            weight *= discount ** (jnp.arange(num_steps)[:, None] - first)
        advantage = jnp.where(counts, advantage, 0.0)  # a mean over nothing is NaN
        distribution_of, value_of = views(env, env_params, policy, value)

        def loss_fn(params):
            distribution = distribution_of(params, seen, old.memory)
            loss = policy_gradient_loss(distribution.log_prob(seen.action), advantage)
            entropy = distribution.entropy()
            bonus = resolve(entropy_coef, state.update) * entropy
            return jnp.sum(weight * (loss - bonus)), (jnp.sum(weight * loss), jnp.mean(entropy))

        grads, (loss, entropy) = jax.grad(loss_fn, has_aux=True)(state.params.policy)
        updates, policy_opt = optimizer.update(grads, state.opt_state.policy, state.params.policy)
        value_params, value_opt, fit_loss = fit_value(
            shuffle_key, value_of, value_optimizer, state.params.value, state.opt_state.value,
            (seen, old.memory), returns, counts.astype(returns.dtype),
            num_epochs=num_value_epochs, num_minibatches=num_value_minibatches, sequence_length=length,
        )  # fmt: skip
        new_state = ReinforceState(
            Params(optax.apply_updates(state.params.policy, updates), value_params),
            Params(policy_opt, value_opt),
            state.update + 1,
        )
        metrics = {
            "policy_loss": loss,
            "value_loss": fit_loss,
            "entropy": entropy,
            "grad_norm": gradient_norm(grads),
            "counted_fraction": jnp.mean(counts.astype(jnp.float32)),
            "explained_variance": explained_variance(old.value, returns),
            **rollout_metrics(new_state.update, seen),
        }
        return new_state, seen, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
