"""Pgx (Koyamada et al. 2023, arXiv:2303.17503): board games and MinAtar. Extra `pgx`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purejaxpg.environments.adapters import common
from purejaxpg.environments.wrappers import episode_statistics
from purejaxpg.types import Box, Discrete, Env, PyTree, Scalar, strong

Opponent = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(key, obs, mask) -> action` of the player whose turn it is; mask `[n]`, true where an action is allowed."""


class Game(NamedTuple):
    """State of a game of Pgx for one player.

    Attributes:
      state: the state of Pgx.
      player: the number of the player that learns, an integer scalar.
    """

    state: PyTree
    player: jax.Array


def random_opponent(key: jax.Array, obs: jax.Array, mask: jax.Array) -> jax.Array:
    """A legal action, all of them with the same probability.

    Args:
      key: consumed.
      obs: the opponent's observation, not used.
      mask: `[n]` boolean, true where an action is allowed.

    Returns:
      The number of the action, an integer scalar.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from purejaxpg.environments.adapters.pgx import random_opponent
      >>> int(random_opponent(jax.random.key(0), None, jnp.array([False, False, True])))
      2
    """
    return jax.random.categorical(key, jnp.where(mask, 0.0, -jnp.inf))


def make_pgx(
    env_id: str,
    *,
    opponent: Opponent = random_opponent,
    first: bool | None = None,
    max_steps_in_episode: Scalar = 1000,
) -> tuple[Env, common.TimeLimit]:
    """A game of Pgx for one player; the other one, if there is one, is part of the environment.

    A step is a move and all moves of the opponent until it is the player's turn again or the game is over; its
    reward is the sum of the player's own rewards on the way. Illegal moves get a mask. The end of a game
    terminates; the time limit, which Pgx has none of, truncates.

    Args:
      env_id: `"tic_tac_toe"`, `"connect_four"`, `"backgammon"`, `"minatar-breakout"`, ...
      opponent: a fixed policy, `(key, obs, mask [n]) -> action`.
      first: whether the player has the first move; drawn in each episode if None.
      max_steps_in_episode: time limit in moves of the player, may be traced. Only MinAtar and backgammon can
        go on for as long as the default.

    Returns:
      The environment and a `TimeLimit`.

    Raises:
      ValueError: there is no such game, or more than two play it.
      ModuleNotFoundError: Pgx is not installed.

    Example:
      >>> from purejaxpg.environments.adapters.pgx import make_pgx
      >>> env, env_params = make_pgx("tic_tac_toe", first=True)
      >>> env_params.max_steps_in_episode, env.action_space(env_params).n
      (1000, 9)
    """
    import pgx

    common.check_name(env_id, pgx.available_envs(), "Pgx")
    game = pgx.make(env_id)
    if game.num_players > 2:
        raise ValueError(f"{env_id} is for {game.num_players} players; supported are one and two.")
    start = jax.eval_shape(game.init, jax.random.key(0))
    shape, num_actions = start.observation.shape, start.legal_action_mask.shape[0]

    def opponent_moves(key, state, player):
        """Until it is the player's turn or the game is over: the state then, and the player's reward."""

        def waiting(carry):
            _, state, _ = carry
            return (state.current_player != player) & ~(state.terminated | state.truncated)

        def move(carry):
            key, state, reward = carry
            key, act_key, step_key = jax.random.split(key, 3)
            action = opponent(act_key, state.observation, state.legal_action_mask)
            state = game.step(state, action, step_key)
            return key, state, reward + state.rewards[player]

        return jax.lax.while_loop(waiting, move, (key, state, jnp.zeros(())))[1:]

    def observation(state, player):
        # Not `state.observation`: after the last move that is what the opponent sees.
        return common.join_mask(game._observe(state, player), state.legal_action_mask)

    def reset(key, params):
        init_key, player_key, key = jax.random.split(key, 3)
        state = jax.tree.map(strong, game.init(init_key))
        player = state.current_player
        if game.num_players == 2 and first is None:
            player = jax.random.randint(player_key, (), 0, 2)
        elif game.num_players == 2 and not first:
            player = 1 - player
        state, _ = opponent_moves(key, state, player)
        return observation(state, player), Game(state, player)

    def step(key, state, action, params):
        step_key, key = jax.random.split(key)
        player = state.player
        moved = game.step(state.state, action, step_key)
        after, reward = opponent_moves(key, moved, player)
        reward = (reward + moved.rewards[player]).astype(jnp.float32)
        obs = observation(after, player)
        return obs, Game(after, player), reward, after.terminated, after.truncated, {}

    observations = Box(0, 1, jax.eval_shape(observation, start, start.current_player).shape)
    env = Env(reset, step, lambda params: observations, lambda params: Discrete(num_actions))
    env = common.split_masks(env, shape)
    return episode_statistics(common.time_limit(env)), common.TimeLimit(max_steps_in_episode)
