"""Small environments beside their exact arrays, and tables as networks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.arguments import Count, EnvParams, Fraction, checked
from purejaxpg.environments.gymnax import make
from purejaxpg.environments.wrappers import episode_statistics, map_observations
from purejaxpg.functional.distributions import categorical
from purejaxpg.functional.finite_mdp import FiniteMDP, check, with_action_noise
from purejaxpg.types import Discrete, Env, Network, PyTree, Space


class Tabular(NamedTuple):
    """An environment whose observations are the states 0, ..., S - 1, and what is exactly known of it.

    Attributes:
      env: the environment to train on. Observations are int32; `observe` makes them one-hot for networks.
      env_params: its parameters.
      mdp: its transitions, rewards and first states; the time limit is left out.
      cells: `[S, 2]`, row and column of each state on the grid.
    """

    env: Env
    env_params: PyTree
    mdp: FiniteMDP
    cells: np.ndarray


@checked
def frozen_lake(*, success_rate: Fraction = 1 / 3, **env_kwargs: Any) -> Tabular:
    """FrozenLake-misc of gymnax. The states are the cells of the lake that are neither a hole nor the goal.

    The chosen move is made with probability `success_rate`, otherwise one of the two at right angles;
    with `is_slippery=False` it is always made.

    Args:
      success_rate: probability of the chosen move, in [0, 1]; the default is that of gymnax.
      **env_kwargs: of gymnax's constructor, e.g. `map_name="8x8"`.

    Returns:
      A `Tabular`. Actions are left, down, right, up.

    Raises:
      TypeError: a probability is no number.
      ValueError: a probability is out of range, or an argument that gymnax's constructor does not take.

    Example:
      >>> import purejaxpg as pg
      >>> # A start and, right of it, the goal. Moving up or down slips to the right with probability 1/4.
      >>> lake = pg.frozen_lake(desc=["SG"], success_rate=0.5)  # doctest: +SKIP
      >>> lake.mdp.reward.tolist()  # doctest: +SKIP
      [[0.0, 0.25, 0.5, 0.25]]
    """
    options = {**env_kwargs, "success_rate": success_rate}
    env, env_params = make("FrozenLake-misc", env_kwargs=options)
    sure, _ = make("FrozenLake-misc", env_kwargs={**env_kwargs, "is_slippery": False})
    desc = env_kwargs.get("desc")
    columns = len(desc[0]) if desc else round(_number(env.observation_space(env_params)) ** 0.5)
    observations, mdp = tabulate(sure, env_params.replace(max_steps_in_episode=10**6))
    success_rate = success_rate if env_kwargs.get("is_slippery", True) else 1.0
    eye = np.eye(4)
    aside = (np.roll(eye, 1, axis=1) + np.roll(eye, -1, axis=1)) / 2
    mdp = with_action_noise(mdp, jnp.asarray(success_rate * eye + (1 - success_rate) * aside))
    cells = np.stack(np.divmod(observations, columns), axis=1)
    return Tabular(indexed(env, observations), env_params, check(mdp), cells)


@checked
def four_rooms(*, fail_prob: Fraction = 1 / 3, **env_kwargs: Any) -> Tabular:
    """FourRooms-misc of gymnax with a fixed start and goal. The states are the free cells except the goal.

    With probability 4/3 `fail_prob`, but at most 1, a move drawn uniformly from all four replaces the
    chosen one, so that `fail_prob` is the probability of another move.

    Args:
      fail_prob: a real number in [0, 1]; the default is that of gymnax.
      **env_kwargs: of gymnax's constructor, e.g. `goal_fixed=[1, 11]` or `pos_fixed=[11, 1]`.

    Returns:
      A `Tabular`. Actions are up, right, down, left.

    Raises:
      TypeError: a probability is no number.
      ValueError: a probability is out of range, or an argument that gymnax's constructor does not take.

    Example:
      >>> import purejaxpg as pg
      >>> pg.four_rooms().mdp.reward.shape  # doctest: +SKIP
      (103, 4)
    """
    env, env_params = make("FourRooms-misc", env_kwargs=env_kwargs, fail_prob=fail_prob)
    observations, mdp = tabulate(env, env_params.replace(fail_prob=0.0, max_steps_in_episode=10**6))
    random = min(4 / 3 * fail_prob, 1.0)
    mdp = with_action_noise(mdp, (1 - random) * jnp.eye(4) + random / 4)
    return Tabular(indexed(env, observations), env_params, check(mdp), observations[:, :2])


@checked
def tabulate(env: Env, env_params: EnvParams) -> tuple[np.ndarray, FiniteMDP]:
    """Step a deterministic environment from every state it can reach, with every action.

    Observations must tell states apart; rewards, terminations and the first state must not be random.

    Args:
      env: an environment with `Discrete` actions.
      env_params: its parameters, with a time limit that is out of reach.

    Returns:
      The observations `[S, ...]` of the states, the first state first, and the arrays of the process.

    Raises:
      TypeError: `env` is no `Env`, or the actions are not discrete.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.environments.tabular import tabulate
      >>> env = pg.Env(  # from 7 to 8, and from there to the end
      ...     reset=lambda key, params: (jnp.array(7), jnp.array(7)),
      ...     step=lambda key, state, action, params: (state + 1, state + 1, 1.0, state == 8, False, {}),
      ...     observation_space=lambda params: pg.Discrete(10),
      ...     action_space=lambda params: pg.Discrete(1),
      ... )
      >>> observations, mdp = tabulate(env, None)
      >>> observations.tolist(), mdp.transition[:, 0].tolist()
      ([7, 8], [[0.0, 1.0], [0.0, 0.0]])
    """
    key, actions = jax.random.key(0), jnp.arange(_number(env.action_space(env_params)))
    obs, state = env.reset(key, env_params)
    first = np.asarray(obs)
    states, observations, index = [state], [first], {first.tobytes(): 0}
    edges: list[tuple[int, int, int]] = []
    rewards: list[np.ndarray] = []
    while len(rewards) < len(states):  # step from the states in the order in which they were found
        obs, after, reward, terminated, *_ = jax.vmap(env.step, in_axes=(None, None, 0, None))(
            key, states[len(rewards)], actions, env_params
        )
        arrived = np.asarray(obs)
        for action in np.flatnonzero(~np.asarray(terminated)).tolist():
            code = arrived[action].tobytes()
            if code not in index:
                index[code] = len(states)
                states.append(jax.tree.map(lambda x, action=action: x[action], after))
                observations.append(arrived[action])
            edges.append((len(rewards), action, index[code]))
        rewards.append(np.asarray(reward))
    transition = np.zeros((len(states), len(actions), len(states)), np.float32)
    transition[tuple(np.array(edges, int).T)] = 1.0
    start = np.eye(len(states), dtype=np.float32)[0]
    mdp = FiniteMDP(jnp.asarray(transition), jnp.asarray(np.stack(rewards)), jnp.asarray(start))
    return np.stack(observations), mdp


def _number(space: Space) -> int:
    if not isinstance(space, Discrete):
        raise TypeError(f"Tables need Discrete spaces, found {space}.")
    return space.n


def indexed(env: Env, observations: np.ndarray) -> Env:
    """Replace the observation of a state by its number in a list of observations.

    Args:
      env: an environment whose observations tell states apart.
      observations: `[S, ...]`, the observations of the states, those of terminal ones apart.

    Returns:
      The environment with int32 observations in `Discrete(S)`, 0 for one that is not listed (a terminal
      one); `observe` makes them one-hot.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> from purejaxpg.environments.tabular import indexed
      >>> env = pg.Env(
      ...     reset=lambda key, params: (jnp.array(8), ()),
      ...     step=lambda key, state, action, params: (jnp.array(7), (), 1.0, False, False, {}),
      ...     observation_space=lambda params: pg.Discrete(10),
      ...     action_space=lambda params: pg.Discrete(1),
      ... )
      >>> int(indexed(env, jnp.array([7, 8])).reset(None, None)[0])
      1
    """
    table = jnp.asarray(observations)

    def number(obs):
        equal = (table == obs).reshape(len(table), -1).all(axis=1)
        return jnp.argmax(equal).astype(jnp.int32)

    return map_observations(env, number)._replace(
        observation_space=lambda params: Discrete(len(table)),
        observe=lambda obs, params: jax.nn.one_hot(obs, len(table), dtype=jnp.float32),
    )


class FromMDPState(NamedTuple):
    """State of `from_mdp`.

    Attributes:
      position: the number of the state, an int32 scalar.
      time: number of steps since the episode began, an int32 scalar.
    """

    position: jax.Array
    time: jax.Array


@checked
def from_mdp(mdp: FiniteMDP, *, limit: Count) -> Env:
    """A finite MDP as an environment; its `env_params` are the arrays, a `FiniteMDP`, and may be traced.

    Rewards are the expected ones. Observations are as in `Tabular`. Resets and steps consume their key.

    Args:
      mdp: its arrays only say how many states and actions there are; those that count are `env_params`.
      limit: number of steps after which an episode is truncated, at least 1.

    Returns:
      The environment, with episode statistics.

    Raises:
      TypeError: `mdp` is no `FiniteMDP`, or `limit` no integer.
      ValueError: `limit` is below 1, or the arrays are no process (where they are not traced).

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> mdp = pg.FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
      >>> env = pg.from_mdp(mdp, limit=10)
      >>> _, state = env.reset(jax.random.key(0), mdp)
      >>> _, _, reward, terminated, truncated, _ = env.step(jax.random.key(1), state, 1, mdp)
      >>> float(reward), bool(terminated), bool(truncated)
      (3.0, True, False)
    """
    states, actions = np.shape(mdp.reward)
    if not any(isinstance(x, jax.core.Tracer) for x in mdp):
        check(mdp)

    def reset(key, params):
        index = jax.random.choice(key, states, p=params.start).astype(jnp.int32)
        return index, FromMDPState(index, jnp.zeros((), jnp.int32))

    def step(key, state, action, params):
        chances = chances_of(params.transition[state.position, action])
        index = jax.random.choice(key, states + 1, p=chances).astype(jnp.int32)
        terminated = index == states
        time = state.time + 1
        index = jnp.where(terminated, 0, index)
        reward = params.reward[state.position, action].astype(jnp.float32)
        return index, FromMDPState(index, time), reward, terminated, time >= limit, {}

    def observe(obs, params):
        return jax.nn.one_hot(obs, states, dtype=jnp.float32)

    env = Env(reset, step, lambda params: Discrete(states), lambda params: Discrete(actions))
    return episode_statistics(env._replace(observe=observe))


def chances_of(row: jax.Array) -> jax.Array:
    """The distribution of what follows a step, termination included.

    Args:
      row: `[S]`, a row of `transition`: probability of each next state.

    Returns:
      `[S + 1]`, the row and then the probability of termination, 0 where rounding explains what is left.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.environments.tabular import chances_of
      >>> chances_of(jnp.array([0.5, 0.25])).tolist()
      [0.5, 0.25, 0.25]
    """
    end = 1 - row.sum()
    return jnp.append(row, jnp.where(end > 1e-5, end, 0.0))


@checked
def tabular_policy(num_actions: Count) -> Network:
    """A softmax policy whose parameters are its logits `[S, A]`, 0 at first, for one-hot observations.

    Args:
      num_actions: A, at least 1.

    Returns:
      A feed-forward policy `Network`.

    Raises:
      TypeError: `num_actions` is no integer.
      ValueError: it is below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> policy, states = pg.tabular_policy(4), jnp.eye(3)[:, None]
      >>> params = policy.init(None, states)
      >>> distribution, _ = policy.apply(params, (), states, None)
      >>> params.shape, distribution.probs[0, 0].tolist()
      ((3, 4), [0.25, 0.25, 0.25, 0.25])
    """
    return _table((num_actions,), categorical)


@checked
def tabular_value() -> Network:
    """A value function whose parameters are its values `[S]`, 0 at first, for one-hot observations.

    Returns:
      A feed-forward value `Network`.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> value, states = pg.tabular_value(), jnp.eye(2)[:, None]
      >>> value.init(None, states).shape, value.apply(jnp.array([3.0, 5.0]), (), states, None)[0].tolist()
      ((2,), [[3.0], [5.0]])
    """
    return _table((), lambda values: values)


def _table(shape: tuple[int, ...], output_fn: Callable) -> Network:
    """A network that is linear in one-hot states: parameters of a shape for each state."""
    return Network(
        lambda key, obs: jnp.zeros((obs.shape[-1], *shape)),
        lambda batch: (),
        lambda params, memory, obs, start: (output_fn(obs @ params), memory),
    )
