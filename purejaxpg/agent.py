"""What every algorithm with a policy and a value network does alike: begin, and act."""

from typing import Any, NamedTuple

import jax

from purejaxpg.distributions import check_support
from purejaxpg.rollout import Loop, begin
from purejaxpg.types import Env, Network, PyTree


class Params(NamedTuple):
    """Parameters of the two networks."""

    policy: PyTree
    value: PyTree


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
    obs, start = env.observe(loop.obs, env_params)[None], loop.start[None]
    params = Params(policy.init(policy_key, obs), value.init(value_key, obs))
    distribution, _ = policy.apply(params.policy, loop.memory, obs, start)
    check_support(distribution, env.action_space(env_params))
    return params, loop


def make_act(env: Env, policy: Network):
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
        seen = env.observe(obs, env_params)[None]
        distribution, memory = policy.apply(state.params.policy, memory, seen, start[None])
        action = distribution.mode() if deterministic else distribution.sample(seed=key)
        return action[0], memory

    return act
