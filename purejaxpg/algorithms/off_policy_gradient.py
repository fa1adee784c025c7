"""Several policy-gradient steps on one rollout, the data weighed by importance sampling."""

from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.acting import (
    PolicyValue,
    begin_agent,
    make_act,
    network_output,
    raw_networks,
)
from purejaxpg.agent.episodes import gather_from_start, whole_episodes
from purejaxpg.agent.experience import rows_that_count
from purejaxpg.agent.metrics import complete_metrics
from purejaxpg.agent.minibatch import choose_sequence_length
from purejaxpg.agent.values import ValueOptimizer, fit_value
from purejaxpg.arguments import (
    Count,
    NotNegativeCoefficient,
    StepsPerUpdate,
    check_pair,
    check_shapes,
    checked,
)
from purejaxpg.functional.advantages import normalize
from purejaxpg.functional.diagnostics import explained_variance, gradient_norm, mean_where
from purejaxpg.functional.losses import policy_gradient_loss
from purejaxpg.functional.schedules import resolve
from purejaxpg.functional.weightings import WeightingFn, per_step_weighting
from purejaxpg.types import Algorithm, Env, Network, RewardFn

Optimizer = Annotated[optax.GradientTransformation, StepsPerUpdate(("num_policy_steps",))]


class OffPolicyGradientState(NamedTuple):
    """State of `off_policy_gradient`. Every update begins with fresh episodes.

    Attributes:
      params: of both networks.
      opt_state: of both optimizers.
      update: int32, updates done.
    """

    params: PolicyValue
    opt_state: PolicyValue
    update: jax.Array


@checked
def off_policy_gradient(
    env: Env,
    policy: Network,
    value: Network,
    optimizer: Optimizer,
    value_optimizer: ValueOptimizer,
    *,
    num_envs: Count = 4,
    num_steps: Count = 512,
    num_policy_steps: Count = 4,
    weighting_fn: WeightingFn = per_step_weighting,
    first_episodes_only: bool = False,
    normalize_advantages: bool = True,
    entropy_coef: NotNegativeCoefficient = 0.0,
    num_value_epochs: Count = 4,
    num_value_minibatches: Count = 4,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """k steps up 1/N sum_i sum_t (log pi(a_it|s_it) psi_it + entropy_coef H_it) on N episodes of one rollout.

    psi is what `weighting_fn` makes of the rollout and of the log ratio of the policy as it is now to the one
    that acted: the lecture's off-policy policy gradient with one of its forms of importance sampling, or
    IMPALA's update with `vtrace` (Espeholt et al. 2018, arXiv:1802.01561). With one step it is `reinforce`
    under all of them, `vtrace` with lambda 1 included. V is that of the rollout's beginning in all
    steps; it is fitted once, after them, to the value targets of the last.

    Every update resets the environments and runs them for `num_steps` steps. As in `reinforce`, steps of
    episodes that are not over by then count for nothing, so that the data favour short episodes, unless
    `first_episodes_only` and `num_steps` is no less than the time limit.

    Args:
      env: the environment.
      policy: the policy network.
      value: the baseline; `zero_value_network()` for none.
      optimizer: of the policy, e.g. `adam(2e-3)`.
      value_optimizer: of the value function.
      num_envs: Environments in parallel.
      num_steps: Steps of each environment per update.
      num_policy_steps: Steps of the policy on each rollout; 1 is REINFORCE.
      weighting_fn: How the data of the policy that acted count for the present one.
      first_episodes_only: Count the first episode of each environment only, which does not favour short ones.
      normalize_advantages: Normalise what steps are weighed by over each rollout, importance weights included.
      entropy_coef: Weight of the entropy bonus. A number, or a schedule of the update count.
      num_value_epochs: Passes of value regression over each rollout.
      num_value_minibatches: Minibatches per pass; divides num_envs * num_steps.
      reward_fn: `(transitions, log_prob, env_params) -> reward` or `(reward, extras)`; the environment's reward
        if None.

    Returns:
      An `Algorithm`. Its metrics, over the rollout: `policy_loss`, `entropy` (nats) and `grad_norm` (of the
      policy's gradient), averaged over the steps; `kl`, KL(old, new) before the last step (nats); `value_loss`
      (squared units of the return, averaged over minibatches, each before its step), `counted_fraction` (of the
      steps, those of episodes that count), `explained_variance`, `env_steps`, `episode_return_sum`,
      `episode_length_sum` and `episode_count`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or minibatches do not divide the rollout evenly.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> networks = policy, pg.value_network(), pg.adam(2e-3), pg.adam(2e-3)
      >>> algorithm = pg.off_policy_gradient(env, *networks, weighting_fn=pg.vtrace)
      >>> state = jax.eval_shape(algorithm.init, jax.random.key(0), env_params)
      >>> state.update.dtype
      dtype('int32')
    """
    networks = PolicyValue(policy, value)
    sizes = num_envs, num_steps, num_value_minibatches
    length = choose_sequence_length([value], *sizes, name="num_value_minibatches")

    def init(key, env_params):
        params, _ = begin_agent(key, env, env_params, networks, num_envs=num_envs)
        opt_state = PolicyValue(optimizer.init(params.policy), value_optimizer.init(params.value))
        return OffPolicyGradientState(params, opt_state, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        reset_key, rollout_key, shuffle_key = jax.random.split(key, 3)
        agent = raw_networks(networks, env, env_params)
        old = gather_from_start(
            (reset_key, rollout_key), env, env_params, agent, state.params,
            num_envs=num_envs, num_steps=num_steps, reward_fn=reward_fn,
        )  # fmt: skip
        transitions, memory = old.transitions, old.memory
        episodes = whole_episodes(transitions, first_only=first_episodes_only)
        ends = transitions.terminated, transitions.truncated
        rows = rows_that_count(old)
        chosen, live = rows.within(episodes.counts)

        def loss_fn(params):
            distribution = network_output(agent.policy, params, memory.policy, transitions)
            log_prob = distribution.log_prob(transitions.action)
            log_ratio = jax.lax.stop_gradient(log_prob) - old.log_prob
            weighted = weighting_fn(old.reward, old.value, old.next_value, log_ratio, *ends)
            advantage, target = check_pair("weighting_fn", weighted, "advantage", "value_target")
            check_shapes(reward=old.reward, advantage=advantage, value_target=target)
            if normalize_advantages:
                advantage = normalize(advantage, where=chosen)
            advantage = jnp.where(chosen, advantage, 0.0)  # a mean over nothing is NaN
            loss = policy_gradient_loss(log_prob, advantage)
            entropy = distribution.entropy()
            bonus = resolve(entropy_coef, state.update) * entropy
            means = {
                "policy_loss": jnp.sum(episodes.weight * loss),
                "entropy": mean_where(entropy, rows.choice),
                "kl": mean_where(old.distribution.kl_divergence(distribution), rows.choice),
            }
            return jnp.sum(episodes.weight * (loss - bonus)), (target, means)

        def one_step(carry, _):
            params, opt_state, _ = carry
            grads, (target, means) = jax.grad(loss_fn, has_aux=True)(params)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            means["grad_norm"] = gradient_norm(grads)
            return (optax.apply_updates(params, updates), opt_state, target), means

        carry = state.params.policy, state.opt_state.policy, jnp.zeros_like(old.value)
        carry, metrics = jax.lax.scan(one_step, carry, length=num_policy_steps)
        policy_params, policy_opt, target = carry
        value_params, value_opt, fit_loss = fit_value(
            shuffle_key, partial(network_output, agent.value), value_optimizer,
            state.params.value, state.opt_state.value, (memory.value, transitions), target,
            episodes.counts.astype(target.dtype), where=rows.live,
            num_epochs=num_value_epochs, num_minibatches=num_value_minibatches, sequence_length=length,
        )  # fmt: skip
        params = PolicyValue(policy_params, value_params)
        opt_state = PolicyValue(policy_opt, value_opt)
        new_state = OffPolicyGradientState(params, opt_state, state.update + 1)
        own = {
            **jax.tree.map(jnp.mean, metrics),
            "kl": metrics["kl"][-1],
            "value_loss": fit_loss,
            "counted_fraction": jnp.mean(episodes.counts.astype(jnp.float32)),
            "explained_variance": explained_variance(old.value, target, where=live),
        }
        own = complete_metrics(own, new_state.update, transitions, old.extras)
        return new_state, transitions, own

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
