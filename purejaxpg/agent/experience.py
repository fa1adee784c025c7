"""Experience: a rollout, and what the networks that made it say of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.agent.acting import PolicyValue, act_in_rollout
from purejaxpg.agent.rollout import Loop, unroll
from purejaxpg.agent.values import recurrent_state_values, state_values
from purejaxpg.arguments import check_pair, check_shapes
from purejaxpg.functional.advantages import AdvantageFn, normalize
from purejaxpg.functional.distributions import Distribution, choices
from purejaxpg.types import Env, Network, PyTree, RewardFn, Transition


class Experience(NamedTuple):
    """A rollout, and what the networks that made it say of it; `[T, num_envs, ...]` in every leaf.

    Attributes:
      transitions: the rollout.
      reward: what is learnt from: the environment's reward, or that of `reward_fn`.
      extras: name -> `[T, num_envs]`, what `reward_fn` returned beside the reward.
      distribution: of the policy that acted.
      log_prob: of the actions under that policy.
      value: V(obs).
      next_value: V(next_obs), of the observations before any reset.
      memory: of each network *before* each step, without leaves where it has none.
    """

    transitions: Transition
    reward: jax.Array
    extras: dict[str, jax.Array]
    distribution: Distribution
    log_prob: jax.Array
    value: jax.Array
    next_value: jax.Array
    memory: PolicyValue


def gather_experience(
    key: jax.Array,
    env: Env,
    env_params: PyTree,
    networks: PolicyValue,
    params: PolicyValue,
    loop: Loop,
    *,
    num_steps: int,
    reward_fn: RewardFn | None,
) -> tuple[Loop, Experience]:
    """Act from `loop` on, then ask the networks what they think of it.

    Nothing is evaluated while acting but the policy: log-probabilities and values come afterwards, from
    one batched pass each over the whole rollout where there is no memory.

    Args:
      key: consumed.
      env: the environment.
      env_params: its parameters.
      networks: policy and value network, of raw observations.
      params: of both networks.
      loop: where the last rollout stopped.
      num_steps: steps of each environment.
      reward_fn: `(transitions, log_prob, env_params) -> reward` or `(reward, extras)`; the environment's
        reward if None.

    Returns:
      Where this rollout stopped, and the experience.
    """
    act = act_in_rollout(networks.policy, params.policy)
    memory = loop.memory
    loop, transitions = unroll(key, env, env_params, act, loop, num_steps=num_steps)
    distribution, policy_memory, _ = _evaluate_steps(
        networks.policy, params.policy, memory.policy, transitions.obs, transitions.start
    )
    value_fn = partial(_evaluate_steps, networks.value, params.value)
    if jax.tree.leaves(memory.value):
        values, value_memory, after = recurrent_state_values(value_fn, memory.value, transitions)
        loop = loop._replace(memory=loop.memory._replace(value=after))
    else:
        values = state_values(
            lambda obs: value_fn((), obs, jnp.zeros(obs.shape[:2], bool))[0], transitions
        )
        value_memory = memory.value
    log_prob = distribution.log_prob(transitions.action)
    reward, extras = learnt_reward(reward_fn, transitions, lambda: log_prob, env_params)
    memory = PolicyValue(policy_memory, value_memory)
    return loop, Experience(transitions, reward, extras, distribution, log_prob, *values, memory)


def estimated_advantage(
    advantage_fn: AdvantageFn, experience: Experience
) -> tuple[jax.Array, jax.Array]:
    """What an estimator makes of an experience.

    Args:
      advantage_fn: the estimator.
      experience: of a rollout.

    Returns:
      `(advantage, value_target)`, `[T, num_envs]` each.

    Raises:
      ValueError: it returns anything else.
    """
    transitions, reward = experience.transitions, experience.reward
    values, ends = (
        (experience.value, experience.next_value),
        (transitions.terminated, transitions.truncated),
    )
    estimate = advantage_fn(reward, *values, *ends)
    advantage, target = check_pair("advantage_fn", estimate, "advantage", "value_target")
    check_shapes(reward=reward, advantage=advantage, value_target=target)
    return advantage, target


class Rows(NamedTuple):
    """Which steps of a rollout the means of an update are over, `[T, num_envs]` boolean or None for all.

    Attributes:
      choice: those where the policy chooses: forced moves, of a mask that leaves one action, are in no mean of
        whitening, policy loss, entropy, KL or Fisher matrix.
      live: those that are not `info["live"] = False`: an episode that is over and waits for the others to reach
        a fixed length is in no mean at all, the value's included.
    """

    choice: jax.Array | None
    live: jax.Array | None

    def within(self, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Those of both that are in `counts`, `[T, num_envs]` boolean."""
        choice, live = (counts if x is None else counts & x for x in self)
        return choice, live


def rows_that_count(experience: Experience) -> Rows:
    """Where there is a choice, and where an episode goes on.

    Args:
      experience: of a rollout, or of a minibatch of it.

    Returns:
      `Rows` of the experience's shape.
    """
    choice, live = choices(experience.distribution), experience.transitions.info.get("live")
    if choice is not None and live is not None:
        choice = choice & live
    return Rows(live if choice is None else choice, live)


def whitened(advantage: jax.Array, where: jax.Array | None) -> jax.Array:
    """`normalize` over the rows that count; 0 in the others, since a mean over nothing is NaN.

    Args:
      advantage: `[T, num_envs]`.
      where: boolean of the same shape; all if None.

    Returns:
      `[T, num_envs]`.
    """
    if where is None:
        return normalize(advantage)
    return jnp.where(where, normalize(advantage, where=where), 0.0)


def learnt_reward(
    reward_fn: RewardFn | None,
    transitions: Transition,
    log_prob_fn: Callable[[], jax.Array],
    env_params: PyTree,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The reward that is learnt from, and the extras beside it.

    Args:
      reward_fn: of the algorithm; None takes the environment's reward.
      transitions: of a rollout.
      log_prob_fn: gives the log-probabilities of its actions, if they are wanted.
      env_params: parameters of the environment.

    Returns:
      The reward `[T, num_envs]`, and name -> `[T, num_envs]`.

    Raises:
      ValueError: `reward_fn` returns another shape.
    """
    if reward_fn is None:
        return transitions.reward, {}
    given = reward_fn(transitions, log_prob_fn(), env_params)
    reward, extras = given if isinstance(given, tuple) else (given, {})
    named = {f"extras {name!r}": x for name, x in extras.items()}
    check_shapes(rollout=transitions.reward, **{"reward of reward_fn": reward}, **named)
    return reward, extras


def _evaluate_steps(
    network: Network, params: PyTree, memory: PyTree, obs: jax.Array, start: jax.Array
) -> tuple[Any, PyTree, PyTree]:
    """A network's output at each step `[T, B]`, its memory before each, and its memory after all."""
    if not jax.tree.leaves(memory):  # nothing hands anything on: all steps in one pass
        return network.apply(params, memory, obs, start)[0], memory, memory

    def step(memory, now):
        output, after = network.apply(params, memory, *(x[None] for x in now))
        return after, (jax.tree.map(lambda x: x[0], output), memory)

    after, (output, before) = jax.lax.scan(step, memory, (obs, start))
    return output, before, after
