"""A policy and a value function in an environment: how they begin, and how they act."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from purejaxpg.agent.rollout import Loop, begin
from purejaxpg.arguments import Count, EnvParams, Key, check_pair, checked
from purejaxpg.functional.distributions import check_support
from purejaxpg.types import Act, Env, Network, PyTree, Transition


class PolicyValue(NamedTuple):
    """A pair of things of which the policy has one and the value function has one.

    The networks themselves, their parameters, their memories, or the states of their optimizers.

    Attributes:
      policy: the policy's.
      value: the value function's.
    """

    policy: Any
    value: Any


def on_raw_observations(network: Network, env: Env, env_params: PyTree) -> Network:
    """The same network as a function of raw observations. The one place that calls `Env.observe`.

    Args:
      network: of what `env.observe` gives.
      env: the environment.
      env_params: its parameters, constants of the network that is returned.

    Returns:
      A `Network` whose `init` and `apply` take raw observations `[T, B, *shape]`.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("FrozenLake-misc")  # raw observations are integers
      >>> network = on_raw_observations(pg.tabular_value(), env, env_params)
      >>> network.init(jax.random.key(0), jax.numpy.zeros((1, 1), int)).shape
      (16,)
    """

    def init(key, obs):
        return network.init(key, env.observe(obs, env_params))

    def apply(params, memory, obs, start):
        return network.apply(params, memory, env.observe(obs, env_params), start)

    return network._replace(init=init, apply=apply)


def raw_networks(networks: PolicyValue, env: Env, env_params: PyTree) -> PolicyValue:
    """`on_raw_observations` of policy and value network."""
    return PolicyValue(*(on_raw_observations(network, env, env_params) for network in networks))


def network_output(
    network: Network, params: PyTree, memory: PyTree, transitions: Transition
) -> Any:
    """What a network says of sequences that were experienced.

    Args:
      network: of raw observations.
      params: its parameters. Gradients flow.
      memory: `[L, B, ...]`, from before each step; the first row counts, as a constant to gradients.
      transitions: `[L, B, ...]`, B sequences of L steps.

    Returns:
      The output, batch shape `[L, B]`.
    """
    first = jax.tree.map(lambda x: x[0], memory)
    return network.apply(params, first, transitions.obs, transitions.start)[0]


def initial_memory(networks: PolicyValue, num_envs: int) -> PolicyValue:
    """What both networks remember before anything: the memory of a rollout's `Loop`."""
    return PolicyValue(*(network.initial_memory(num_envs) for network in networks))


@checked
def begin_agent(
    key: Key, env: Env, env_params: EnvParams, networks: PolicyValue, *, num_envs: Count
) -> tuple[PolicyValue, Loop]:
    """Draw the networks' parameters and reset the environments.

    Args:
      key: consumed.
      env: the environment.
      env_params: its parameters.
      networks: policy and value network, of what `env.observe` gives.
      num_envs: environments in parallel.

    Returns:
      The parameters of both networks, and where the first rollout begins.

    Raises:
      TypeError: an argument is not of the kind that its annotation says, or the policy gives no distribution.
      ValueError: the policy's distribution does not fit the environment's action space, or the value network
        does not give one number per state.
    """
    policy_key, value_key, env_key = jax.random.split(key, 3)
    memory = initial_memory(networks, num_envs)
    loop = begin(env_key, env, env_params, memory, num_envs=num_envs)
    policy, value = raw_networks(networks, env, env_params)
    obs, start = loop.obs[None], loop.start[None]
    params = PolicyValue(policy.init(policy_key, obs), value.init(value_key, obs))
    applied = policy.apply(params.policy, memory.policy, obs, start)
    distribution, _ = check_pair("apply of the policy", applied, "distribution", "memory")
    check_support(distribution, env.action_space(env_params))
    applied = jax.eval_shape(value.apply, params.value, memory.value, obs, start)
    values, _ = check_pair("apply of the value network", applied, "values", "memory")
    if getattr(values, "shape", None) != start.shape:
        raise ValueError(
            f"The value network gives {getattr(values, 'shape', 'no array')} where it is shown [T, B] = "
            f"{start.shape} states: it must give one number each."
        )
    return params, loop


@checked
def choose_action(
    key: Key,
    policy: Network,
    params: PyTree,
    memory: PyTree,
    obs: jax.Array,
    start: jax.Array,
    *,
    deterministic: bool = False,
) -> tuple[jax.Array, PyTree]:
    """An action for each of B raw observations.

    Args:
      key: consumed.
      policy: of raw observations.
      params: its parameters.
      memory: `[B, ...]`.
      obs: `[B, *shape]`.
      start: `[B]` boolean, true where an episode begins.
      deterministic: take the mode of the policy instead of a sample.

    Returns:
      Actions `[B, ...]` and the memory after them.
    """
    distribution, memory = policy.apply(params, memory, obs[None], start[None])
    action = distribution.mode() if deterministic else distribution.sample(seed=key)
    return action[0], memory


def make_act(env: Env, policy: Network) -> Act:
    """`Algorithm.act` for a state whose policy parameters are `state.params.policy`."""

    def act(key, state, memory, obs, start, *, deterministic=False, env_params):
        network = on_raw_observations(policy, env, env_params)
        params = state.params.policy
        return choose_action(key, network, params, memory, obs, start, deterministic=deterministic)

    return act


def act_in_rollout(policy: Network, params: PyTree) -> Callable:
    """`act` of `unroll`, whose memory is that of both networks; the value function's stays as it is."""

    def act(key: jax.Array, memory: PolicyValue, obs: jax.Array, start: jax.Array):
        action, after = choose_action(key, policy, params, memory.policy, obs, start)
        return action, memory._replace(policy=after)

    return act
