"""Evaluation of a trained policy."""

import jax.numpy as jnp

from purejaxpg.agent.rollout import Episodes, first_episodes
from purejaxpg.arguments import Count, EnvParams, Key, Steps, checked, described
from purejaxpg.types import Algorithm, Discrete, Env, PyTree


@checked
def evaluate(
    key: Key,
    algorithm: Algorithm,
    state: PyTree,
    env: Env,
    env_params: EnvParams,
    *,
    num_episodes: Count,
    deterministic: bool = False,
    max_steps: Steps | None = None,
) -> Episodes:
    """Play the first episode of each of `num_episodes` fresh environments with the current policy.

    Args:
      key: consumed; training's random stream is not touched.
      algorithm: whose `act` is evaluated.
      state: of the algorithm.
      env: the environment that `build` or the algorithm was given, or any other with the same spaces.
      env_params: its parameters; shifted ones (another gravity, say) show how the policy generalises.
      num_episodes: so many, all at once.
      deterministic: take the mode of the policy instead of a sample.
      max_steps: give up on episodes that are longer; None waits for the last one to end.

    Returns:
      `Episodes(returns, lengths, completed, finite)`, `[num_episodes]` each; returns are undiscounted sums of
      the rewards of `env`, and NaN where the world did not stay finite.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, the state is none of an algorithm, or the actions are not of the
        kind and shape of the environment's.

    Example:
      >>> import jax, purejaxpg as pg
      >>> env, env_params = pg.make("CartPole-v1", max_steps_in_episode=3)
      >>> policy, value = pg.policy_network(env.action_space(env_params)), pg.value_network()
      >>> algorithm = pg.ppo(env, policy, value, pg.adam(), num_envs=2, num_steps=4)
      >>> state = algorithm.init(jax.random.key(0), env_params)
      >>> pg.evaluate(jax.random.key(1), algorithm, state, env, env_params, num_episodes=2).returns.tolist()
      [3.0, 3.0]
    """
    if state is None or type(state) in (tuple, list, dict):  # what train returns beside it, perhaps
        raise ValueError(
            f"state must be one of the algorithm, as train returns it first, not {described(state)}."
        )
    space = env.action_space(env_params)

    def act(key, memory, obs, start):
        action, memory = algorithm.act(
            key, state, memory, obs, start, deterministic=deterministic, env_params=env_params
        )
        kind = jnp.integer if isinstance(space, Discrete) else jnp.floating
        if action.shape[1:] != space.shape or not jnp.issubdtype(action.dtype, kind):
            raise ValueError(
                f"The actions of this environment are {space}; the algorithm acts with "
                f"{action.dtype} of shape {action.shape[1:]}: evaluate it where it can act."
            )
        return action, memory

    memory = algorithm.initial_memory(num_episodes)
    return first_episodes(
        key, env, env_params, act, memory, num_episodes=num_episodes, max_steps=max_steps
    )
