"""Batch actor-critic: a policy gradient with any advantage estimator, and value regression."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.acting import PolicyValue, begin_agent, make_act, network_output, raw_networks
from purejaxpg.agent.experience import (
    estimated_advantage,
    gather_experience,
    rows_that_count,
    whitened,
)
from purejaxpg.agent.metrics import complete_metrics
from purejaxpg.agent.minibatch import choose_sequence_length
from purejaxpg.agent.rollout import Loop
from purejaxpg.agent.values import ValueOptimizer, fit_value
from purejaxpg.arguments import Count, NotNegativeCoefficient, checked
from purejaxpg.functional.advantages import AdvantageFn, gae_advantage
from purejaxpg.functional.diagnostics import explained_variance, gradient_norm, mean_where
from purejaxpg.functional.losses import policy_gradient_loss
from purejaxpg.functional.schedules import resolve
from purejaxpg.types import Algorithm, Env, Network, RewardFn


class ActorCriticState(NamedTuple):
    """State of `actor_critic`.

    Attributes:
      params: of both networks.
      opt_state: of both optimizers.
      loop: where the environments stand.
      update: int32, updates done.
    """

    params: PolicyValue
    opt_state: PolicyValue
    loop: Loop
    update: jax.Array


@checked
def actor_critic(
    env: Env,
    policy: Network,
    value: Network,
    optimizer: optax.GradientTransformation,
    value_optimizer: ValueOptimizer,
    *,
    num_envs: Count = 8,
    num_steps: Count = 16,
    advantage_fn: AdvantageFn = gae_advantage,
    entropy_coef: NotNegativeCoefficient = 0.0,
    num_value_epochs: Count = 1,
    num_value_minibatches: Count = 1,
    normalize_advantages: bool = False,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """One step up mean(log pi(a|s) A + entropy_coef H) per rollout, and the regression of V on its targets.

    Sutton and Barto 2018, section 13.5, over a batch; the advantages are those of the values from before the
    update. This is the usual form, without the factor discount^t of step t of an episode that the gradient of
    the discounted return has (Thomas 2014). Synchronous A2C (Mnih et al. 2016, arXiv:1602.01783) is
    `advantage_fn=partial(n_step_advantage, discount=0.99, n=num_steps)` with one value step, the defaults, and
    RMSProp; its joint loss of two networks without common parameters is these two losses, but for the common
    norm to which it clips gradients.

    Args:
      env: the environment.
      policy: the policy network.
      value: the value network.
      optimizer: of the policy, e.g. `adam(7e-4)`.
      value_optimizer: of the value function.
      num_envs: Environments in parallel.
      num_steps: Steps of each environment per update.
      advantage_fn: Estimator of advantages and value targets.
      entropy_coef: Weight of the entropy bonus. A number, or a schedule of the update count.
      num_value_epochs: Passes of value regression over each rollout.
      num_value_minibatches: Minibatches per pass; divides num_envs * num_steps.
      normalize_advantages: Normalise advantages over each rollout.
      reward_fn: `(transitions, log_prob, env_params) -> reward` or `(reward, extras)`; the environment's reward
        if None.

    Returns:
      An `Algorithm`. Its metrics, over the rollout: `policy_loss`, `value_loss` (squared units of the return,
      averaged over minibatches, each before its step), `entropy` (nats), `grad_norm` (of the policy's
      gradient), `explained_variance`, `env_steps`, `episode_return_sum`,
      `episode_length_sum` and `episode_count`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or minibatches do not divide the rollout evenly.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> algorithm = pg.actor_critic(env, policy, pg.value_network(), pg.adam(7e-4), pg.adam(7e-4))
      >>> state = jax.eval_shape(algorithm.init, jax.random.key(0), env_params)
      >>> state.update.dtype
      dtype('int32')
    """
    networks = PolicyValue(policy, value)
    sizes = num_envs, num_steps, num_value_minibatches
    length = choose_sequence_length([value], *sizes, name="num_value_minibatches")

    def init(key, env_params):
        params, loop = begin_agent(key, env, env_params, networks, num_envs=num_envs)
        opt_state = PolicyValue(optimizer.init(params.policy), value_optimizer.init(params.value))
        return ActorCriticState(params, opt_state, loop, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        rollout_key, shuffle_key = jax.random.split(key)
        agent = raw_networks(networks, env, env_params)
        loop, old = gather_experience(
            rollout_key, env, env_params, agent, state.params, state.loop,
            num_steps=num_steps, reward_fn=reward_fn,
        )  # fmt: skip
        transitions, memory = old.transitions, old.memory
        advantage, target = estimated_advantage(advantage_fn, old)
        rows = rows_that_count(old)
        advantage = whitened(advantage, rows.choice) if normalize_advantages else advantage

        def loss_fn(params):
            distribution = network_output(agent.policy, params, memory.policy, transitions)
            loss = policy_gradient_loss(distribution.log_prob(transitions.action), advantage)
            loss, entropy = (mean_where(x, rows.choice) for x in (loss, distribution.entropy()))
            return loss - resolve(entropy_coef, state.update) * entropy, (loss, entropy)

        grads, (loss, entropy) = jax.grad(loss_fn, has_aux=True)(state.params.policy)
        updates, policy_opt = optimizer.update(grads, state.opt_state.policy, state.params.policy)
        policy_params = optax.apply_updates(state.params.policy, updates)
        value_params, value_opt, fit_loss = fit_value(
            shuffle_key, partial(network_output, agent.value), value_optimizer,
            state.params.value, state.opt_state.value, (memory.value, transitions), target, where=rows.live,
            num_epochs=num_value_epochs, num_minibatches=num_value_minibatches, sequence_length=length,
        )  # fmt: skip
        params = PolicyValue(policy_params, value_params)
        opt_state = PolicyValue(policy_opt, value_opt)
        new_state = ActorCriticState(params, opt_state, loop, state.update + 1)
        metrics = {
            "policy_loss": loss,
            "value_loss": fit_loss,
            "entropy": entropy,
            "grad_norm": gradient_norm(grads),
            "explained_variance": explained_variance(old.value, target, where=rows.live),
        }
        metrics = complete_metrics(metrics, new_state.update, transitions, old.extras)
        return new_state, transitions, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
