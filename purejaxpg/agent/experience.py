"""What every algorithm with a policy and a value network does alike: begin, act, gather experience."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.agent.rollout import Loop, begin, unroll
from purejaxpg.agent.values import recurrent_state_values, state_values
from purejaxpg.functional.distributions import Distribution, check_support
from purejaxpg.types import Env, Network, PyTree, RewardFn, Transition


class Params(NamedTuple):
    """Parameters of the two networks, or whatever else there is one of for each."""

    policy: PyTree
    value: PyTree


class Experience(NamedTuple):
    """A rollout, and what the networks that made it say of it; `[T, num_envs, ...]` in every leaf.

    `memory` is that of each network *before* each step, without leaves where it has none.
    """

    transitions: Transition
    reward: jax.Array
    distribution: Distribution
    log_prob: jax.Array
    value: jax.Array
    next_value: jax.Array
    memory: Params


def initial_memory(policy: Network, value: Network, num_envs: int) -> Params:
    """What both networks remember before anything: the memory of a rollout's `Loop`."""
    return Params(policy.initial_memory(num_envs), value.initial_memory(num_envs))


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
    memory = initial_memory(policy, value, num_envs)
    loop = begin(env_key, env, env_params, memory, num_envs=num_envs)
    obs, start = env.observe(loop.obs[None], env_params), loop.start[None]
    params = Params(policy.init(policy_key, obs), value.init(value_key, obs))
    distribution, _ = policy.apply(params.policy, memory.policy, obs, start)
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


def acting(env: Env, env_params: PyTree, policy: Network, params: Params) -> Callable:
    """`act` of `unroll` with the memory of both networks; the value function's stays as it is."""

    def act(key: jax.Array, memory: Params, obs: jax.Array, start: jax.Array):
        seen = memory.policy, obs, start
        action, after = choose_action(key, env, env_params, policy, params.policy, *seen)
        return action, memory._replace(policy=after)

    return act


def views(
    env: Env, env_params: PyTree, policy: Network, value: Network
) -> tuple[Callable[..., Distribution], Callable[..., jax.Array]]:
    """The two networks as functions of what was seen, `Transition`s `[T, B, ...]` of sequences.

    Returns:
      `(params.policy, seen, memory) -> distribution [T, B]` of `seen.obs`, and the like for the values.
      `memory` is `Experience.memory`; its first row counts, as a constant to gradients.
    """

    def distribution(params: PyTree, seen: Transition, memory: Params) -> Distribution:
        first = jax.tree.map(lambda x: x[0], memory.policy)
        return policy.apply(params, first, env.observe(seen.obs, env_params), seen.start)[0]

    def values(params: PyTree, seen: Transition, memory: Params) -> jax.Array:
        first = jax.tree.map(lambda x: x[0], memory.value)
        return value.apply(params, first, env.observe(seen.obs, env_params), seen.start)[0]

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

    Nothing is evaluated while acting but the policy: log-probabilities and values come afterwards, from
    one batched pass each over the whole rollout where there is no memory. The key is consumed.

    Args:
      reward_fn: `(transitions, log_prob, env_params) -> reward`; the environment's reward if None.
    """
    begun = loop.memory
    act = acting(env, env_params, policy, params)
    loop, seen = unroll(key, env, env_params, act, loop, num_steps=num_steps)

    def each(network: Network, params: PyTree, memory: PyTree, obs: jax.Array, start: jax.Array):
        return _each_step(network, params, memory, env.observe(obs, env_params), start)

    now, policy_memory, _ = each(policy, params.policy, begun.policy, seen.obs, seen.start)
    value_fn = partial(each, value, params.value)
    if jax.tree.leaves(begun.value):
        values, value_memory, after = recurrent_state_values(value_fn, begun.value, seen)
        loop = loop._replace(memory=loop.memory._replace(value=after))
    else:
        values = state_values(
            lambda obs: value_fn((), obs, jnp.zeros(obs.shape[:2], bool))[0], seen
        )
        value_memory = begun.value
    log_prob = now.log_prob(seen.action)
    reward = seen.reward
    if reward_fn is not None:
        reward = reward_fn(seen, log_prob, env_params)
    memory = Params(policy_memory, value_memory)
    return loop, Experience(seen, reward, now, log_prob, *values, memory)


def _each_step(
    network: Network, params: PyTree, memory: PyTree, seen: Any, start: jax.Array
) -> tuple[Any, PyTree, PyTree]:
    """A network's output at each step `[T, B]`, its memory before each, and its memory after all."""
    if not jax.tree.leaves(memory):  # nothing hands anything on: all steps in one pass
        return network.apply(params, memory, seen, start)[0], memory, memory

    def step(memory, now):
        now = jax.tree.map(lambda x: x[None], now)
        output, after = network.apply(params, memory, *now)
        return after, (jax.tree.map(lambda x: x[0], output), memory)

    after, (output, before) = jax.lax.scan(step, memory, (seen, start))
    return output, before, after
