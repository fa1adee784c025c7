"""Online actor-critic: one transition at a time, with eligibility traces if wanted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from purejaxpg.agent.experience import Params, acting, begin_agent, make_act, views
from purejaxpg.agent.metrics import rollout_metrics
from purejaxpg.agent.minibatch import check_counts
from purejaxpg.agent.rollout import Loop, unroll
from purejaxpg.functional.diagnostics import gradient_norm
from purejaxpg.functional.eligibility import accumulate, weighted_mean
from purejaxpg.functional.returns import td_targets
from purejaxpg.functional.schedules import resolve
from purejaxpg.types import (
    Algorithm,
    Coefficient,
    Env,
    Network,
    RewardFn,
    Scalar,
)


class OnlineActorCriticState(NamedTuple):
    """`opt_state` and `traces` have one entry for each network; traces are `[num_envs, ...]`."""

    params: Params
    opt_state: Params
    traces: Params
    loop: Loop
    update: jax.Array


def online_actor_critic(
    env: Env,
    policy: Network,
    value: Network,
    optimizer: optax.GradientTransformation,
    value_optimizer: optax.GradientTransformation,
    *,
    num_envs: int = 1,
    num_steps: int = 128,
    discount: Scalar = 0.99,
    trace_lambda: Scalar = 0.0,
    entropy_coef: Coefficient = 0.0,
    reward_fn: RewardFn | None = None,
) -> Algorithm:
    """Act; move V toward y = r + discount V(s'); A = r + discount V(s') - V(s); step up log pi(a|s) A.

    Sutton and Barto 2018, section 13.5, in this order for every single transition: A is that of the V
    just moved. The gradients of V and log pi enter through accumulating eligibility traces (p. 332),
    z <- discount trace_lambda z + gradient, z = gradient where an episode begins; with trace_lambda = 0
    they are the gradients. Several environments go side by side, each with its own traces: the
    optimizers then step along the mean over environments of (error times trace).

    Args:
      optimizer, value_optimizer: of the policy and of the value function; one step per transition each.
      num_steps: transitions of each environment per call of `step`; its metrics are means over them.
      trace_lambda: in [0, 1].
      entropy_coef: a Scalar, or a schedule of the count of calls. The bonus has no trace.
      reward_fn: `(transitions, log_prob, env_params) -> reward`; the environment's reward if None.
    """
    check_counts(num_envs=num_envs, num_steps=num_steps)
    if jax.tree.leaves((policy.initial_memory(1), value.initial_memory(1))):
        raise ValueError(
            "online_actor_critic updates at every step: its networks must have no memory."
        )

    def init(key, env_params):
        params, loop = begin_agent(key, env, env_params, policy, value, num_envs=num_envs)
        opt_state = Params(optimizer.init(params.policy), value_optimizer.init(params.value))
        traces = jax.tree.map(lambda x: jnp.zeros((num_envs, *x.shape), x.dtype), params)
        return OnlineActorCriticState(params, opt_state, traces, loop, jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        distribution_of, value_of = views(env, env_params, policy, value)
        bonus, none = resolve(entropy_coef, state.update), state.loop.memory

        def log_prob_of(params, seen):
            return distribution_of(params, seen, none).log_prob(seen.action)

        def one_transition(carry, key):
            params, opt_state, traces, loop = carry
            act = acting(env, env_params, policy, params)
            loop, seen = unroll(key, env, env_params, act, loop, num_steps=1)
            reward = seen.reward
            if reward_fn is not None:
                reward = reward_fn(seen, log_prob_of(params.policy, seen), env_params)

            def td_error(params):
                next_value = value_of(params, seen._replace(obs=seen.next_obs), none)
                target = td_targets(reward, next_value, seen.terminated, discount=discount)
                return target - value_of(params, seen, none)

            decay = discount * trace_lambda
            error = td_error(params.value)
            value_trace = accumulate(
                lambda params, seen: value_of(params, seen, none),
                params.value, traces.value, seen, seen.start, decay=decay,
            )  # fmt: skip
            descent = weighted_mean(value_trace, -error)
            updates, value_opt = value_optimizer.update(descent, opt_state.value, params.value)
            value_params = optax.apply_updates(params.value, updates)

            advantage = td_error(value_params)
            policy_trace = accumulate(
                log_prob_of, params.policy, traces.policy, seen, seen.start, decay=decay
            )

            def entropy_of(params):
                return jnp.mean(distribution_of(params, seen, none).entropy())

            entropy, entropy_grad = jax.value_and_grad(entropy_of)(params.policy)
            descent = jax.tree.map(
                lambda x, y: x - bonus * y, weighted_mean(policy_trace, -advantage), entropy_grad
            )
            updates, policy_opt = optimizer.update(descent, opt_state.policy, params.policy)
            policy_params = optax.apply_updates(params.policy, updates)
            metrics = {
                "value_loss": 0.5 * jnp.mean(jnp.square(error)),
                "advantage_mean": jnp.mean(advantage),
                "entropy": entropy,
                "grad_norm": gradient_norm(descent),
            }
            carry = (
                Params(policy_params, value_params),
                Params(policy_opt, value_opt),
                Params(policy_trace, value_trace),
                loop,
            )
            return carry, (jax.tree.map(lambda x: x[0], seen), metrics)

        carry = state.params, state.opt_state, state.traces, state.loop
        carry, (seen, metrics) = jax.lax.scan(
            one_transition, carry, jax.random.split(key, num_steps)
        )
        new_state = OnlineActorCriticState(*carry, state.update + 1)
        metrics = {
            **jax.tree.map(jnp.mean, metrics),
            **rollout_metrics(new_state.update, seen),
        }
        return new_state, seen, metrics

    return Algorithm(init, step, make_act(env, policy), policy.initial_memory)
