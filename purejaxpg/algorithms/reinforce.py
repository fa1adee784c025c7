"""REINFORCE (Williams 1992): the policy gradient of whole episodes."""

from functools import partial
from typing import NamedTuple

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
from purejaxpg.arguments import Count, Fraction, NotNegativeCoefficient, checked
from purejaxpg.functional.advantages import normalize
from purejaxpg.functional.diagnostics import explained_variance, gradient_norm, mean_where
from purejaxpg.functional.losses import policy_gradient_loss
from purejaxpg.functional.returns import discounted_returns
from purejaxpg.functional.schedules import resolve
from purejaxpg.types import Algorithm, Env, Network, RewardFn


class ReinforceState(NamedTuple):
    """State of `reinforce`. Every update begins with fresh episodes.

    Attributes:
      params: of both networks.
      opt_state: of both optimizers.
      update: int32, updates done.
    """

    params: PolicyValue
    opt_state: PolicyValue
    update: jax.Array


@checked
def reinforce(
    env: Env,
    policy: Network,
    value: Network,
    optimizer: optax.GradientTransformation,
    value_optimizer: ValueOptimizer,
    *,
    num_envs: Count = 4,
    num_steps: Count = 512,
    discount: Fraction = 0.99,
    reward_to_go: bool = True,
    discounted_gradient: bool = False,
    first_episodes_only: bool = False,
    mean_baseline: bool = False,
    normalize_advantages: bool = True,
    entropy_coef: NotNegativeCoefficient = 0.0,
    num_value_epochs: Count = 4,
    num_value_minibatches: Count = 4,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """One step up 1/N sum_i sum_t (log pi(a_it|s_it) psi_it + entropy_coef H_it), i = 1 ... N episodes.

    A *mean over trajectories* of sums over their steps: the gradient of the return of an episode, not
    of a step. psi_it is the discounted reward to go G_it minus V(s_it) or, without `reward_to_go`, at all
    steps of episode i that of its first, G_i0 - V(s_i0). With a discount below 1 the usual form of reward
    to go is not the gradient of the discounted return; the factor discount^t of `discounted_gradient`
    makes it so. The whole return is discounted from the first step on already: psi has no such factor
    there, and the sum is that gradient either way.

    Every update resets the environments and runs them for `num_steps` steps. Steps of episodes that
    are not over by then count for nothing, so that the data favour short episodes. That bias is gone
    with `first_episodes_only` and `num_steps` no less than the time limit: then one whole episode of
    each environment counts. Where a time limit ended an episode, V of its last state stands for what
    was to come.

    Args:
      env: the environment.
      policy: the policy network.
      value: the baseline, fitted to rewards to go; `zero_value_network()` for none.
      optimizer: of the policy, e.g. `adam(2e-3)`.
      value_optimizer: of the value function.
      num_envs: Environments in parallel.
      num_steps: Steps of each environment per update.
      discount: Discount factor.
      reward_to_go: Weigh a step by what came after it, not by the return of the whole episode.
      discounted_gradient: Weigh step t of an episode by discount^t, its entropy included, which makes it the
        gradient of the discounted return; without reward_to_go, where psi is so already, its entropy alone.
      first_episodes_only: Count the first episode of each environment only, which does not favour short ones.
      mean_baseline: Subtract from psi its mean over the rollout's steps (over its episodes without
        reward_to_go). That mean holds each sample itself, which shrinks the gradient by about 1 - 1/N.
      normalize_advantages: Normalise what steps are weighed by over each rollout.
      entropy_coef: Weight of the entropy bonus. A number, or a schedule of the update count.
      num_value_epochs: Passes of value regression over each rollout.
      num_value_minibatches: Minibatches per pass; divides num_envs * num_steps.
      reward_fn: `(transitions, log_prob, env_params) -> reward` or `(reward, extras)`; the environment's reward
        if None.

    Returns:
      An `Algorithm`. Its metrics, over the rollout: `policy_loss`, `value_loss` (squared units of the return,
      averaged over minibatches, each before its step), `entropy` (nats), `grad_norm` (of the policy's
      gradient), `counted_fraction` (of the steps, those of episodes that count), `explained_variance`,
      `env_steps`, `episode_return_sum`, `episode_length_sum` and `episode_count`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or minibatches do not divide the rollout evenly.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> algorithm = pg.reinforce(env, policy, pg.value_network(), pg.adam(2e-3), pg.adam(2e-3))
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
        return ReinforceState(params, opt_state, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        reset_key, rollout_key, shuffle_key = jax.random.split(key, 3)
        agent = raw_networks(networks, env, env_params)
        old = gather_from_start(
            (reset_key, rollout_key), env, env_params, agent, state.params,
            num_envs=num_envs, num_steps=num_steps, reward_fn=reward_fn,
        )  # fmt: skip
        transitions, memory = old.transitions, old.memory
        first, counts, weight = whole_episodes(transitions, first_only=first_episodes_only)
        ends = transitions.terminated, transitions.truncated
        returns = discounted_returns(old.reward, old.next_value, *ends, discount=discount)
        rows = rows_that_count(old)
        chosen, live = rows.within(counts)
        advantage = returns - old.value
        if not reward_to_go:
            advantage = jnp.take_along_axis(advantage, first, axis=0)
        if mean_baseline:
            among = counts if reward_to_go else counts & transitions.start
            advantage -= jnp.mean(advantage, where=among)
        if normalize_advantages:
            advantage = normalize(advantage, where=chosen)
        bonus_weight = weight
        if discounted_gradient:
            bonus_weight = weight * discount ** (jnp.arange(num_steps)[:, None] - first)
            weight = bonus_weight if reward_to_go else weight
        advantage = jnp.where(chosen, advantage, 0.0)  # a mean over nothing is NaN

        def loss_fn(params):
            distribution = network_output(agent.policy, params, memory.policy, transitions)
            loss = policy_gradient_loss(distribution.log_prob(transitions.action), advantage)
            entropy = distribution.entropy()
            bonus = resolve(entropy_coef, state.update) * entropy
            loss = jnp.sum(weight * loss)
            return loss - jnp.sum(bonus_weight * bonus), (loss, mean_where(entropy, rows.choice))

        grads, (loss, entropy) = jax.grad(loss_fn, has_aux=True)(state.params.policy)
        updates, policy_opt = optimizer.update(grads, state.opt_state.policy, state.params.policy)
        policy_params = optax.apply_updates(state.params.policy, updates)
        value_params, value_opt, fit_loss = fit_value(
            shuffle_key, partial(network_output, agent.value), value_optimizer,
            state.params.value, state.opt_state.value, (memory.value, transitions), returns,
            counts.astype(returns.dtype), where=rows.live,
            num_epochs=num_value_epochs, num_minibatches=num_value_minibatches, sequence_length=length,
        )  # fmt: skip
        params = PolicyValue(policy_params, value_params)
        opt_state = PolicyValue(policy_opt, value_opt)
        new_state = ReinforceState(params, opt_state, state.update + 1)
        metrics = {
            "policy_loss": loss,
            "value_loss": fit_loss,
            "entropy": entropy,
            "grad_norm": gradient_norm(grads),
            "counted_fraction": jnp.mean(counts.astype(jnp.float32)),
            "explained_variance": explained_variance(old.value, returns, where=live),
        }
        metrics = complete_metrics(metrics, new_state.update, transitions, old.extras)
        return new_state, transitions, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
