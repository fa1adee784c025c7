"""Online actor-critic: one transition at a time, with eligibility traces if wanted."""

from functools import partial
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.acting import (
    PolicyValue,
    act_in_rollout,
    begin_agent,
    make_act,
    network_output,
    raw_networks,
)
from purejaxpg.agent.experience import learnt_reward
from purejaxpg.agent.metrics import complete_metrics
from purejaxpg.agent.rollout import Loop, unroll
from purejaxpg.arguments import Count, Fraction, NotNegativeCoefficient, StepsPerUpdate, checked
from purejaxpg.functional.diagnostics import gradient_norm, mean_where
from purejaxpg.functional.distributions import choices
from purejaxpg.functional.eligibility import accumulate, weighted_mean
from purejaxpg.functional.returns import td_targets
from purejaxpg.functional.schedules import resolve
from purejaxpg.types import Algorithm, Env, Network, RewardFn

Optimizer = Annotated[optax.GradientTransformation, StepsPerUpdate(("num_steps",))]


class OnlineActorCriticState(NamedTuple):
    """State of `online_actor_critic`.

    Attributes:
      params: of both networks.
      opt_state: of both optimizers.
      traces: `[num_envs, ...]`, eligibility traces of both networks.
      loop: where the environments stand.
      update: int32, calls of `step` done.
    """

    params: PolicyValue
    opt_state: PolicyValue
    traces: PolicyValue
    loop: Loop
    update: jax.Array


@checked
def online_actor_critic(
    env: Env,
    policy: Network,
    value: Network,
    optimizer: Optimizer,
    value_optimizer: Optimizer,
    *,
    num_envs: Count = 1,
    num_steps: Count = 128,
    discount: Fraction = 0.99,
    trace_lambda: Fraction = 0.9,
    entropy_coef: NotNegativeCoefficient = 0.0,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """Act; move V toward y = r + discount V(s'); A = r + discount V(s') - V(s); step up log pi(a|s) A.

    Sutton and Barto 2018, section 13.5, in this order for every single transition: A is that of the V
    just moved. The gradients of V and log pi enter through accumulating eligibility traces (p. 332),
    z <- discount trace_lambda z + gradient, z = gradient where an episode begins; with trace_lambda = 0
    they are the gradients. Several environments go side by side, each with its own traces: the
    optimizers then step along the mean over environments of (error times trace). The factor discount^t of
    step t of an episode, I in the book's algorithm, is dropped, as is usual: with a discount below 1 the steps
    do not follow the gradient of the discounted return.

    Args:
      env: the environment.
      policy: the policy network, without memory.
      value: the value network, without memory.
      optimizer: of the policy, e.g. `adam(1e-3)`; one step per transition.
      value_optimizer: of the value function; one step per transition.
      num_envs: Environments in parallel.
      num_steps: Steps of each environment per update; metrics are averaged over them.
      discount: Discount factor.
      trace_lambda: Decay of eligibility traces beside the discount; 0 for none.
      entropy_coef: Weight of the entropy bonus, which has no trace. A number, or a schedule of the count of
        calls.
      reward_fn: `(transitions, log_prob, env_params) -> reward` or `(reward, extras)`; the environment's reward
        if None.

    Returns:
      An `Algorithm`. Its metrics, averaged over the steps: `value_loss` (half the squared TD error),
      `advantage_mean` (units of the return), `entropy` (nats), `grad_norm` (of the policy's step direction);
      and `env_steps`, `episode_return_sum`, `episode_length_sum` and `episode_count`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or a network has a memory.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1")
      >>> policy = pg.policy_network(env.action_space(env_params))
      >>> algorithm = pg.online_actor_critic(env, policy, pg.value_network(), pg.adam(1e-3), pg.adam(1e-3))
      >>> state = jax.eval_shape(algorithm.init, jax.random.key(0), env_params)
      >>> state.update.dtype
      dtype('int32')
    """
    networks = PolicyValue(policy, value)
    if jax.tree.leaves([network.initial_memory(1) for network in networks]):
        raise ValueError(
            "online_actor_critic updates at every step: its networks must have no memory."
        )

    def init(key, env_params):
        params, loop = begin_agent(key, env, env_params, networks, num_envs=num_envs)
        opt_state = PolicyValue(optimizer.init(params.policy), value_optimizer.init(params.value))
        traces = jax.tree.map(lambda x: jnp.zeros((num_envs, *x.shape), x.dtype), params)
        return OnlineActorCriticState(params, opt_state, traces, loop, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        agent = raw_networks(networks, env, env_params)
        bonus = resolve(entropy_coef, state.update)

        def distribution_of(params, transitions):
            return network_output(agent.policy, params, (), transitions)

        def log_prob_of(params, transitions):
            return distribution_of(params, transitions).log_prob(transitions.action)

        def value_of(params, transitions):
            return network_output(agent.value, params, (), transitions)

        def one_transition(carry, key):
            params, opt_state, traces, loop = carry
            act = act_in_rollout(agent.policy, params.policy)
            loop, transitions = unroll(key, env, env_params, act, loop, num_steps=1)
            log_prob_fn = partial(log_prob_of, params.policy, transitions)
            reward, extras = learnt_reward(reward_fn, transitions, log_prob_fn, env_params)

            def td_error(params):
                next_value = value_of(params, transitions._replace(obs=transitions.next_obs))
                target = td_targets(reward, next_value, transitions.terminated, discount=discount)
                return target - value_of(params, transitions)

            decay = discount * trace_lambda
            trace = partial(accumulate, inputs=transitions, start=transitions.start, decay=decay)
            error = td_error(params.value)
            value_trace = trace(value_of, params.value, traces.value)
            descent = weighted_mean(value_trace, -error)
            updates, value_opt = value_optimizer.update(descent, opt_state.value, params.value)
            value_params = optax.apply_updates(params.value, updates)

            advantage = td_error(value_params)
            policy_trace = trace(log_prob_of, params.policy, traces.policy)

            def entropy_of(params):
                distribution = distribution_of(params, transitions)
                return mean_where(distribution.entropy(), choices(distribution))

            entropy, entropy_grad = jax.value_and_grad(entropy_of)(params.policy)
            descent = weighted_mean(policy_trace, -advantage)
            descent = jax.tree.map(lambda x, y: x - bonus * y, descent, entropy_grad)
            updates, policy_opt = optimizer.update(descent, opt_state.policy, params.policy)
            policy_params = optax.apply_updates(params.policy, updates)
            metrics = {
                "value_loss": 0.5 * jnp.mean(jnp.square(error)),
                "advantage_mean": jnp.mean(advantage),
                "entropy": entropy,
                "grad_norm": gradient_norm(descent),
            }
            carry = (
                PolicyValue(policy_params, value_params),
                PolicyValue(policy_opt, value_opt),
                PolicyValue(policy_trace, value_trace),
                loop,
            )
            return carry, (jax.tree.map(lambda x: x[0], (transitions, extras)), metrics)

        carry = state.params, state.opt_state, state.traces, state.loop
        keys = jax.random.split(key, num_steps)
        carry, ((transitions, extras), metrics) = jax.lax.scan(one_transition, carry, keys)
        new_state = OnlineActorCriticState(*carry, state.update + 1)
        means = jax.tree.map(jnp.mean, metrics)
        metrics = complete_metrics(means, new_state.update, transitions, extras)
        return new_state, transitions, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
