"""Games of Pgx against the rules of tic-tac-toe in NumPy, and against Pgx's own stepping."""

from functools import cache
from statistics import mean

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.adapted import assert_ppo_stays_finite, play, until_done
from tests.environments.test_gymnax import assert_types

pgx = pytest.importorskip("pgx")

from purejaxpg.environments.adapters.pgx import make_pgx  # noqa: E402

LINES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]]


def lowest(key, obs, mask):
    """An opponent that takes the first square that is free."""
    return jnp.argmax(mask)


def moves(env, params, actions):
    """`(seen, reward, terminated, truncated)` after the reset and after each action."""
    obs, state = env.reset(jax.random.key(0), params)
    found = [(env.observe(obs, params), 0.0, False, False)]
    step = jax.jit(env.step)
    for action in actions:
        obs, state, *rest, _ = step(jax.random.key(1), state, jnp.array(action), params)
        found.append((env.observe(obs, params), *(x.item() for x in rest)))
    return found


def squares(seen):
    """Mine and the opponent's."""
    board = np.asarray(seen.obs).reshape(9, 2)
    return np.flatnonzero(board[:, 0]).tolist(), np.flatnonzero(board[:, 1]).tolist()


@pytest.mark.parametrize("game", ["tic_tac_toe", "kuhn_poker", "2048"])
def test_types(game):
    assert_types(*make_pgx(game))


def test_tic_tac_toe_has_its_rules():
    """Legal moves, replies, ends and rewards of 200 random games, from the squares alone."""
    env, params = make_pgx("tic_tac_toe")
    first, (obs, _, action, _, reward, terminated, truncated) = jax.device_get(
        play(jax.random.key(0), env, params, 5, 200)
    )
    seen = env.observe(jnp.concatenate([first[:, None], obs], axis=1), params)
    assert seen.obs.shape == (200, 6, 3, 3, 2) and seen.mask.dtype == bool
    board = np.asarray(seen.obs, bool).reshape(200, 6, 9, 2)
    mine, theirs = board[..., 0], board[..., 1]
    assert not (mine & theirs).any()
    won, lost = ([x[..., line].all(-1) for line in LINES] for x in (mine, theirs))
    won, lost = np.any(won, axis=0)[:, 1:], np.any(lost, axis=0)[:, 1:]
    full = (mine | theirs).all(-1)[:, 1:]
    counted = until_done(terminated)
    np.testing.assert_array_equal(terminated[counted], (won | lost | full)[counted])
    np.testing.assert_array_equal(reward[counted], (1.0 * won - 1.0 * lost)[counted])
    assert {-1.0, 0.0, 1.0} == set(reward[terminated & counted])
    assert not truncated.any()
    assert (reward[~counted] == 0).all()  # a game that is over stays so

    free = ~(mine | theirs)
    over = np.concatenate([np.zeros((200, 1), bool), terminated], axis=1)
    np.testing.assert_array_equal(np.asarray(seen.mask)[~over], free[~over])
    assert np.asarray(seen.mask)[over].all()
    # A move takes the square of the action, a reply one that was free; no stone ever moves.
    own = np.eye(9, dtype=bool)[action]
    np.testing.assert_array_equal(mine[:, 1:][counted], (mine[:, :-1] | own)[counted])
    replies = theirs[:, 1:] & ~theirs[:, :-1]
    assert (theirs[:, 1:] >= theirs[:, :-1]).all()
    assert (replies <= (free[:, :-1] & ~own))[counted].all()
    expected = np.where(terminated & (won | ((theirs.sum(-1) + mine.sum(-1)) == 9)[:, 1:]), 0, 1)
    assert (replies.sum(-1) <= 1).all()
    assert (replies.sum(-1) >= expected)[counted].all()


@cache
def value(board, turn, mine):
    """Expected return of player 1 against uniform replies; `mine` makes one value of those of his moves."""
    for player, reward in ((1, 1.0), (2, -1.0)):
        if any(all(board[i] == player for i in line) for line in LINES):
            return reward
    free = [i for i in range(9) if board[i] == 0]
    after = [value((*board[:i], turn, *board[i + 1 :]), 3 - turn, mine) for i in free]
    return (mine if turn == 1 else mean)(after) if after else 0.0


def test_random_play_is_worth_what_all_games_say():
    """In 4,000 games each, beginning and not; what the best play is worth stands in the README."""
    empty = (0,) * 9
    for first, turn in ((True, 1), (False, 2)):
        env, params = make_pgx("tic_tac_toe", first=first)
        *_, reward, _, _ = play(jax.random.key(5), env, params, 5, 4000)[1]
        returns = np.asarray(reward).sum(1)
        error = returns.std() / np.sqrt(4000)
        assert abs(returns.mean() - value(empty, turn, mean)) < 4 * error
    best = [value(empty, turn, max) for turn in (1, 2)]
    np.testing.assert_allclose([*best, mean(best)], [0.995, 0.925, 0.960], atol=5e-4)


def test_replies_are_random():
    env, params = make_pgx("tic_tac_toe", first=True)
    first, (obs, *_) = play(jax.random.key(1), env, params, 1, 400)
    theirs = np.asarray(env.observe(obs, params).obs)[:, 0].reshape(400, 9, 2)[..., 1]
    assert (theirs.sum(0) > 400 / 9 / 2).all()
    assert not np.asarray(env.observe(first, params).obs).any()


def test_who_begins_is_drawn():
    env, params = make_pgx("tic_tac_toe")
    obs, _ = jax.vmap(env.reset, in_axes=(0, None))(
        jax.random.split(jax.random.key(2), 400), params
    )
    seen = np.asarray(env.observe(obs, params).obs)
    assert not seen[..., 0].any()
    begun = seen[..., 1].sum((1, 2))
    assert set(begun) == {0, 1}
    assert 160 < begun.sum() < 240


def test_an_opponent_that_wins_with_its_reply():
    found = moves(*make_pgx("tic_tac_toe", opponent=lowest, first=True), [8, 4, 3])
    assert [squares(seen) for seen, *_ in found] == [
        ([], []),
        ([8], [0]),
        ([4, 8], [0, 1]),
        ([3, 4, 8], [0, 1, 2]),
    ]
    assert [rest for _, *rest in found[1:]] == [[0, False, False]] * 2 + [[-1, True, False]]


def test_an_opponent_that_begins_and_loses():
    """The last observation is mine still, though it would have been the opponent's turn."""
    found = moves(*make_pgx("tic_tac_toe", opponent=lowest, first=False), [4, 2, 6])
    assert [squares(seen) for seen, *_ in found] == [
        ([], [0]),
        ([4], [0, 1]),
        ([2, 4], [0, 1, 3]),
        ([2, 4, 6], [0, 1, 3]),
    ]
    assert [rest for _, *rest in found[1:]] == [[0, False, False]] * 2 + [[1, True, False]]
    assert not found[2][0].mask[jnp.array([0, 1, 2, 3, 4])].any()


def test_a_time_limit_truncates():
    made = make_pgx("tic_tac_toe", opponent=lowest, first=True, max_steps_in_episode=2)
    assert [rest for _, *rest in moves(*made, [8, 4])[1:]] == [[0, False, False], [0, False, True]]


def test_a_game_for_one_is_that_of_pgx():
    """2048 with the same keys, as its step is given them."""
    env, params = make_pgx("2048")
    game = pgx.make("2048")
    _, (obs, state, action, key, reward, terminated, _) = play(jax.random.key(0), env, params, 4, 3)
    inner = state.env_state.env_state.state
    before, after = (jax.tree.map(lambda x, s=s: x[:, s], inner) for s in (slice(3), slice(1, 4)))

    def theirs(state, action, key):
        return game.step(state, action, jax.random.split(key)[0])

    expected = jax.jit(jax.vmap(jax.vmap(theirs)))(before, action[:, 1:], key[:, 1:])
    jax.tree.map(np.testing.assert_array_equal, after, expected)
    np.testing.assert_array_equal(reward[:, 1:], expected.rewards[..., 0])
    np.testing.assert_array_equal(terminated[:, 1:], expected.terminated)
    seen = env.observe(obs[:, 1:], params)
    np.testing.assert_array_equal(seen.obs, expected.observation)
    np.testing.assert_array_equal(seen.mask, expected.legal_action_mask)


def test_ppo():
    assert_ppo_stays_finite(*make_pgx("tic_tac_toe"))


def test_refusals():
    with pytest.raises(ValueError, match=r"Pgx has no environment 'tictactoe' \(did you mean tic_"):
        make_pgx("tictactoe")
    with pytest.raises(ValueError, match="sparrow_mahjong is for 3 players; supported are one"):
        make_pgx("sparrow_mahjong")
