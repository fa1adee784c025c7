"""What every algorithm with a policy and a value network does alike: begin, act, gather experience."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.distributions import Distribution, check_support
from purejaxpg.rollout import Loop, begin, unroll
from purejaxpg.types import Env, Network, PyTree, RewardFn, Transition
from purejaxpg.values import state_values


class Params(NamedTuple):
    """Parameters of the two networks."""

    policy: PyTree
    value: PyTree


class Experience(NamedTuple):
    """A rollout, and what the networks that made it say of it; `[T, num_envs, ...]` in every leaf."""

    transitions: Transition
    reward: jax.Array
    distribution: Distribution
    log_prob: jax.Array
    value: jax.Array
    next_value: jax.Array


def begin_agent(
    key: jax.Array,
    env: Env,
    env_params: PyTree,
    policy: Network,
    value: Network,
    *,
    num_envs: int,
) -> tuple[Params, Loop]:
    """Draw the networks' parameters and reset the environments. The key is consumed.

    Raises:
      ValueError: the policy's distribution does not fit the environment's action space.
    """
    policy_key, value_key, env_key = jax.random.split(key, 3)
    loop = begin(env_key, env, env_params, policy.initial_memory(num_envs), num_envs=num_envs)
    obs, start = env.observe(loop.obs[None], env_params), loop.start[None]
    params = Params(policy.init(policy_key, obs), value.init(value_key, obs))
    distribution, _ = policy.apply(params.policy, loop.memory, obs, start)
    check_support(distribution, env.action_space(env_params))
    return params, loop


def choose_action(
    key: jax.Array,
    env: Env,
    env_params: PyTree,
    policy: Network,
    params: PyTree,
    memory: PyTree,
    obs: jax.Array,
    start: jax.Array,
    *,
    deterministic: bool = False,
) -> tuple[jax.Array, PyTree]:
    """An action for each raw observation `[B, ...]`, and the memory after it. The key is consumed."""
    seen = env.observe(obs[None], env_params)
    distribution, memory = policy.apply(params, memory, seen, start[None])
    action = distribution.mode() if deterministic else distribution.sample(seed=key)
    return action[0], memory


def make_act(env: Env, policy: Network) -> Callable:
    """`Algorithm.act` for a state whose policy parameters are `state.params.policy`."""

    def act(
        key: jax.Array,
        state: Any,
        memory: PyTree,
        obs: jax.Array,
        start: jax.Array,
        *,
        deterministic: bool = False,
        env_params: PyTree = None,
    ) -> tuple[jax.Array, PyTree]:
        network = env, env_params, policy, state.params.policy
        return choose_action(key, *network, memory, obs, start, deterministic=deterministic)

    return act


def views(
    env: Env, env_params: PyTree, policy: Network, value: Network
) -> tuple[Callable[..., Distribution], Callable[..., jax.Array]]:
    """The two networks as functions of raw observations.

    Returns:
      `(params.policy, obs [T, B, ...], start [T, B]) -> distribution [T, B]` and
      `(params.value, obs [T, B, ...]) -> values [T, B]`.
    """

    def distribution(params: PyTree, obs: jax.Array, start: jax.Array) -> Distribution:
        return policy.apply(params, (), env.observe(obs, env_params), start)[0]

    def values(params: PyTree, obs: jax.Array) -> jax.Array:
        start = jnp.zeros(obs.shape[:2], bool)
        return value.apply(params, (), env.observe(obs, env_params), start)[0]

    return distribution, values


def gather_experience(
    key: jax.Array,
    env: Env,
    env_params: PyTree,
    policy: Network,
    value: Network,
    params: Params,
    loop: Loop,
    *,
    num_steps: int,
    reward_fn: RewardFn | None,
) -> tuple[Loop, Experience]:
    """Act from `loop` on, then ask the networks what they think of it.

    Nothing is evaluated while acting but the policy: log-probabilities and values come from one batched
    pass each over the whole rollout. The key is consumed.

    Args:
      reward_fn: `(transitions, log_prob, env_params) -> reward`; the environment's reward if None.
    """
    network = env, env_params, policy, params.policy
    loop, transitions = unroll(
        key,
        env,
        env_params,
        lambda key, *seen: choose_action(key, *network, *seen),
        loop,
        num_steps=num_steps,
    )
    distribution, values = views(env, env_params, policy, value)
    policy_now = distribution(params.policy, transitions.obs, transitions.start)
    log_prob = policy_now.log_prob(transitions.action)
    value_now, value_next = state_values(partial(values, params.value), transitions)
    reward = transitions.reward
    if reward_fn is not None:
        reward = reward_fn(transitions, log_prob, env_params)
    return loop, Experience(transitions, reward, policy_now, log_prob, value_now, value_next)
