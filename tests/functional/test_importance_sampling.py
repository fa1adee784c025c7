"""Importance weights, targets and weightings: loops over the definitions, rlax, enumeration, and identities."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

import purejaxpg as pg
from purejaxpg.functional.importance_sampling import self_normalized_by_age

T, B = 9, 3
DISCOUNT, LAMBDA = 0.9, 0.7


def rollout(seed=0, *, ends="both"):
    """reward, value, next_value, log_ratio, terminated, truncated; some rows are both ends at once."""
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.normal(size=(3, T, B)).astype(np.float32)
    log_ratio = (0.5 * rng.normal(size=(T, B))).astype(np.float32)
    terminated = (rng.random((T, B)) < 0.2) & (ends != "truncated")
    truncated = (rng.random((T, B)) < 0.2) & (ends != "terminated")
    terminated[3, 0] = truncated[3, 0] = ends == "both"
    return reward, value, next_value, log_ratio, terminated, truncated


def episodes(terminated, truncated):
    """(column, rows) of every episode, the one that the last row cuts included."""
    for b in range(B):
        rows = []
        for t in range(T):
            rows.append(t)
            if terminated[t, b] or truncated[t, b] or t == T - 1:
                yield b, np.array(rows)
                rows = []


def test_weights_are_products_over_episodes():
    *_, log_ratio, terminated, truncated = rollout()
    whole = pg.trajectory_log_weights(log_ratio, terminated, truncated)
    so_far = pg.per_decision_log_weights(log_ratio, terminated, truncated)
    ratio = np.exp(np.float64(log_ratio))
    for b, rows in episodes(terminated, truncated):
        np.testing.assert_allclose(np.exp(whole[rows, b]), np.prod(ratio[rows, b]), rtol=1e-5)
        np.testing.assert_allclose(np.exp(so_far[rows, b]), np.cumprod(ratio[rows, b]), rtol=1e-5)


def test_weights_normalised_by_age():
    *_, log_ratio, terminated, truncated = rollout()
    log_weight = np.asarray(pg.per_decision_log_weights(log_ratio, terminated, truncated))
    found = self_normalized_by_age(
        log_weight + 200.0, terminated, truncated
    )  # a constant is nothing
    everyone = [
        np.exp(np.float64(log_weight[rows, b])) for b, rows in episodes(terminated, truncated)
    ]
    for (b, rows), weight in zip(episodes(terminated, truncated), everyone):
        for age, row in enumerate(rows):
            mean = np.mean([other[min(age, len(other) - 1)] for other in everyone])
            np.testing.assert_allclose(found[row, b], weight[age] / mean, rtol=1e-4)


def test_self_normalised_weights_and_effective_sample_size():
    weight, where = np.array([1.0, 2.0, 5.0, 0.0]), np.array([True, True, False, True])
    with np.errstate(divide="ignore"):
        log_weight = np.log(weight) + 300.0
    some = np.where(where, log_weight, np.nan)  # what does not count may be anything
    np.testing.assert_allclose(pg.self_normalized(log_weight), weight / 8, rtol=1e-4)
    np.testing.assert_allclose(
        pg.self_normalized(some, where=where), [1 / 3, 2 / 3, 0, 0], rtol=1e-4
    )
    np.testing.assert_allclose(pg.effective_sample_size(log_weight), 64 / 30, rtol=1e-4)
    np.testing.assert_allclose(pg.effective_sample_size(some, where=where), 9 / 5, rtol=1e-4)
    np.testing.assert_allclose(pg.effective_sample_size(jnp.zeros((5, 2)), axis=0), [5.0, 5.0])
    huge = pg.effective_sample_size(jnp.array([1e30, 0.0, -1e30]))
    assert float(huge) == 1.0
    gradient = jax.grad(lambda x: pg.self_normalized(x)[0])(jnp.array([100.0, -100.0, 100.0]))
    np.testing.assert_allclose(gradient, [0.25, 0.0, -0.25], atol=1e-6)


@pytest.mark.parametrize("ends", ["terminated", "both"])
@pytest.mark.parametrize("clips", [(1.0, 1.0), (0.8, 1.3)])
def test_vtrace_against_rlax(clips, ends):
    """rlax has one clip of rho and c; a truncated row has lambda 0 there, and its advantage cannot be said."""
    clip_rho, clip_pg_rho = clips
    reward, value, next_value, log_ratio, terminated, truncated = rollout(ends=ends)
    cut = terminated | truncated
    next_value[:-1] = np.where(cut[:-1], next_value[:-1], value[1:])  # as rlax takes it to be
    advantage, target = pg.vtrace(
        reward, value, next_value, log_ratio, terminated, truncated, discount=DISCOUNT, lambda_=LAMBDA,
        clip_rho=clip_rho, clip_c=1.0, clip_pg_rho=clip_pg_rho,
    )  # fmt: skip
    discount = DISCOUNT * ~terminated
    for b in range(B):
        errors = rlax.vtrace(
            value[:, b], next_value[:, b], reward[:, b], discount[:, b], np.exp(log_ratio[:, b]),
            np.where(cut[:, b], 0.0, LAMBDA), clip_rho,
        )  # fmt: skip
        np.testing.assert_allclose(target[:, b] - value[:, b], errors, rtol=1e-4, atol=1e-5)
    if ends == "terminated":
        for b in range(B):
            whole = rlax.vtrace_td_error_and_advantage(
                value[:, b], next_value[:, b], reward[:, b], discount[:, b], np.exp(log_ratio[:, b]),
                np.full(T, LAMBDA), clip_rho, clip_pg_rho,
            )  # fmt: skip
            np.testing.assert_allclose(advantage[:, b], whole.pg_advantage, rtol=1e-4, atol=1e-5)


def test_vtrace_advantage_by_loop():
    """Against the definition, with truncated rows, where the value of the last state stands for the rest."""
    reward, value, next_value, log_ratio, terminated, truncated = rollout(1)
    clips = {"clip_rho": 1.5, "clip_c": 0.9, "clip_pg_rho": 2.0}
    found = pg.vtrace(
        reward, value, next_value, log_ratio, terminated, truncated, discount=DISCOUNT, lambda_=LAMBDA, **clips
    )  # fmt: skip
    ratio = np.exp(np.float64(log_ratio))
    for b, rows in episodes(terminated, truncated):
        later = None
        for t in reversed(rows):
            after = 0.0 if terminated[t, b] else float(next_value[t, b])
            target = min(1.5, ratio[t, b]) * (reward[t, b] + DISCOUNT * after - value[t, b])
            mixed = after
            if later is not None:
                target += DISCOUNT * LAMBDA * min(0.9, ratio[t, b]) * (later - value[t + 1, b])
                mixed = (1 - LAMBDA) * after + LAMBDA * later
            later = value[t, b] + target
            advantage = min(2.0, ratio[t, b]) * (reward[t, b] + DISCOUNT * mixed - value[t, b])
            np.testing.assert_allclose(found[0][t, b], advantage, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found[1][t, b], later, rtol=1e-4, atol=1e-5)


def test_vtrace_at_ratio_1_and_with_infinite_clips():
    reward, value, next_value, log_ratio, terminated, truncated = rollout()
    cut = terminated | truncated
    next_value[:-1] = np.where(cut[:-1], next_value[:-1], value[1:])
    ends = terminated, truncated
    both = {"discount": DISCOUNT}
    advantage, target = pg.vtrace(
        reward, value, next_value, 0 * reward, *ends, lambda_=LAMBDA, **both
    )
    gae = pg.gae(reward, value, next_value, *ends, gae_lambda=LAMBDA, **both)
    lambda_return = pg.lambda_returns(reward, next_value, *ends, lambda_=LAMBDA, **both)
    np.testing.assert_allclose(advantage, gae, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(target, lambda_return, rtol=1e-4, atol=1e-5)
    free = dict.fromkeys(("clip_rho", "clip_c", "clip_pg_rho"), np.inf)
    zero = 0 * reward
    _, target = pg.vtrace(reward, zero, zero, log_ratio, *ends, **both, **free)
    ratio = np.exp(np.float64(log_ratio))
    for b, rows in episodes(*ends):
        for i, t in enumerate(rows):
            weight = np.cumprod(ratio[rows[i:], b]) * DISCOUNT ** np.arange(len(rows) - i)
            np.testing.assert_allclose(
                target[t, b], weight @ reward[rows[i:], b], rtol=1e-4, atol=1e-5
            )
    found = pg.per_decision_returns(reward, zero, log_ratio, *ends, **both)
    np.testing.assert_allclose(found, target, rtol=1e-5, atol=1e-6)


def test_retrace_against_rlax():
    reward, q_value, next_value, log_ratio, terminated, _ = rollout(ends="terminated")
    found = pg.retrace(
        reward, q_value, next_value, log_ratio, terminated, np.zeros_like(terminated),
        discount=DISCOUNT, lambda_=LAMBDA,
    )  # fmt: skip
    for b in range(B):
        errors = rlax.retrace_continuous(
            q_value[:, b], q_value[1:, b], next_value[:, b], reward[:, b],
            DISCOUNT * ~terminated[:, b], log_ratio[1:, b], LAMBDA,
        )  # fmt: skip
        np.testing.assert_allclose(found[:, b] - q_value[:, b], errors, rtol=1e-4, atol=1e-5)


def test_retrace_stops_at_time_limits():
    reward, q_value, next_value, log_ratio, terminated, truncated = rollout(2)
    found = pg.retrace(
        reward, q_value, next_value, log_ratio, terminated, truncated, discount=DISCOUNT, lambda_=LAMBDA
    )  # fmt: skip
    trace = LAMBDA * np.minimum(1.0, np.exp(np.float64(log_ratio)))
    for b, rows in episodes(terminated, truncated):
        error = 0.0
        for t in reversed(rows):
            after = 0.0 if terminated[t, b] else next_value[t, b]
            later = DISCOUNT * trace[t + 1, b] * error if t != rows[-1] else 0.0
            error = reward[t, b] + DISCOUNT * after - q_value[t, b] + later
            np.testing.assert_allclose(found[t, b], q_value[t, b] + error, rtol=1e-4, atol=1e-5)


WEIGHTINGS = {
    "unweighted": pg.unweighted,
    "per step": pg.per_step_weighting,
    "per decision": pg.per_decision_weighting,
    "per decision, self-normalised": partial(pg.per_decision_weighting, self_normalize=True),
    "trajectory": pg.trajectory_weighting,
    "trajectory, at most 2": partial(pg.trajectory_weighting, max_weight=2.0),
    "trajectory, self-normalised": partial(pg.trajectory_weighting, self_normalize=True),
    "vtrace": pg.vtrace,
}


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_with_the_same_policy_each_weighting_is_reinforce(name):
    """Old and new policy alike: V(next_obs) of an episode that goes on cancels, also in V-trace."""
    reward, value, next_value, _, *ends = rollout()
    cut = ends[0] | ends[1]
    next_value[:-1] = np.where(cut[:-1], next_value[:-1], value[1:])
    advantage, target = WEIGHTINGS[name](
        reward, value, next_value, 0 * reward, *ends, discount=DISCOUNT
    )
    returns = pg.discounted_returns(reward, next_value, *ends, discount=DISCOUNT)
    np.testing.assert_allclose(advantage, returns - value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(target, returns, rtol=1e-4, atol=1e-5)
    whole = pg.trajectory_weighting(
        reward, value, next_value, 0 * reward, *ends, discount=DISCOUNT, reward_to_go=False
    )[0]
    for b, rows in episodes(*ends):
        np.testing.assert_allclose(whole[rows, b], (returns - value)[rows[0], b], rtol=1e-5)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_extreme_ratios_leave_values_and_gradients_finite(name):
    reward, value, next_value, _, *ends = rollout()
    log_ratio = np.random.default_rng(0).choice([-1e4, -100.0, 0.0, 100.0, 1e4], (T, B))

    def total(log_ratio):
        weighted = WEIGHTINGS[name](
            0 * reward, value, next_value, log_ratio, *ends, discount=DISCOUNT
        )
        return sum(jnp.sum(x) for x in weighted), weighted

    gradient, weighted = jax.grad(total, has_aux=True)(jnp.float32(log_ratio))
    for x in (gradient, *weighted):
        assert np.isfinite(x).all()


STATES, ACTIONS, HORIZON = 2, 2, 3


def test_the_weighted_gradient_is_that_of_the_new_policy():
    """By enumeration of all trajectories of a process: the dynamics cancel, and discount 1 needs no factor.

    The exact gradient is that of J(new) = sum over trajectories of their probability times their return, by
    finite differences in float64; the weighted one takes trajectories with their probability under the old.
    """
    rng = np.random.default_rng(3)
    transition = rng.dirichlet(np.ones(STATES), size=(STATES, ACTIONS))
    reward, start = rng.normal(size=(STATES, ACTIONS)), rng.dirichlet(np.ones(STATES))
    new, old = rng.normal(size=(2, STATES, ACTIONS))

    def probs(logits):
        return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)

    paths = list(product(range(STATES), range(ACTIONS), repeat=HORIZON))
    states, actions = np.array(paths)[:, 0::2], np.array(paths)[:, 1::2]

    def probability(logits):
        chosen = probs(logits)[states, actions].prod(1)
        moves = transition[states[:, :-1], actions[:, :-1], states[:, 1:]].prod(1)
        return start[states[:, 0]] * moves * chosen

    def expected_return(logits):
        return probability(logits) @ reward[states, actions].sum(1)

    exact = np.zeros_like(new)
    for i in np.ndindex(*new.shape):
        step = np.zeros_like(new)
        step[i] = 1e-5
        exact[i] = (expected_return(new + step) - expected_return(new - step)) / 2e-5
    log_ratio = np.log(probs(new) / probs(old))[states, actions].T
    ends = np.zeros((HORIZON, len(paths)), bool)
    ends[-1] = True
    scores = -probs(new)[states][..., None, :] * np.ones((ACTIONS, 1)) + np.eye(ACTIONS)
    scores = np.take_along_axis(scores, actions[..., None, None], axis=2)[
        :, :, 0
    ]  # d log pi / d logits(s)

    def gradient(weighting, **options):
        value = rng.normal(size=STATES)[states].T  # any baseline of the state
        advantage, target = weighting(
            np.float32(reward[states, actions].T), np.float32(value), 0 * ends, np.float32(log_ratio),
            ends, 0 * ends, discount=1.0, **options,
        )  # fmt: skip
        found = np.zeros_like(new)
        each = probability(old)[:, None, None] * np.float64(advantage).T[..., None] * scores
        np.add.at(found, states.ravel(), each.reshape(-1, ACTIONS))
        return found, np.float64(target)

    whole = partial(gradient, pg.trajectory_weighting)
    per_decision = gradient(pg.per_decision_weighting)
    for found in (whole()[0], whole(reward_to_go=False)[0], per_decision[0]):
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)
    # The target of the first state has the mean that the new policy's return has.
    np.testing.assert_allclose(
        probability(old) @ per_decision[1][0], expected_return(new), rtol=1e-5
    )
    # One ratio alone is right where nothing follows, at the last step, and wrong elsewhere.
    assert np.abs(gradient(pg.per_step_weighting)[0] - exact).max() > 0.01


def test_discounts_and_lambdas_of_each_step():
    """Per row as rlax takes them, and a constant array is the number."""
    reward, value, next_value, _, terminated, truncated = rollout(ends="terminated")
    next_value[:-1] = np.where(terminated[:-1], next_value[:-1], value[1:])
    rng = np.random.default_rng(5)
    discount, lambda_ = rng.random((2, T, B)).astype(np.float32)
    ends = terminated, truncated
    found = pg.lambda_returns(reward, next_value, *ends, discount=discount, lambda_=lambda_)
    gae = pg.gae(reward, value, next_value, *ends, discount=discount, gae_lambda=lambda_)
    monte_carlo = pg.discounted_returns(reward, next_value, *ends, discount=discount)
    n_step = pg.n_step_returns(reward, next_value, *ends, discount=discount, n=3)
    for b in range(B):
        row = reward[:, b], discount[:, b] * ~terminated[:, b]
        expected = rlax.lambda_returns(*row, next_value[:, b], lambda_[:, b])
        np.testing.assert_allclose(found[:, b], expected, rtol=1e-4, atol=1e-5)
        values = np.append(value[:, b], next_value[-1, b])
        expected = rlax.truncated_generalized_advantage_estimation(*row, lambda_[:, b], values)
        np.testing.assert_allclose(gae[:, b], expected, rtol=1e-4, atol=1e-5)
        expected = rlax.discounted_returns(*row, next_value[:, b])
        np.testing.assert_allclose(monte_carlo[:, b], expected, rtol=1e-4, atol=1e-5)
        expected = rlax.n_step_bootstrapped_returns(*row, next_value[:, b], 3)
        np.testing.assert_allclose(n_step[:, b], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"same shape: .*discount \(9,\)"):
        pg.discounted_returns(reward, next_value, *ends, discount=discount[:, 0])


def test_sums_to_the_cut():
    x, _, _, _, terminated, truncated = rollout()
    decay = np.random.default_rng(1).normal(size=(T, B)).astype(np.float32)
    found = pg.sum_to_cut(x, terminated, truncated, decay=decay)
    for b, rows in episodes(terminated, truncated):
        y = 0.0
        for t in reversed(rows):
            y = x[t, b] + decay[t, b] * y
            np.testing.assert_allclose(found[t, b], y, rtol=1e-5, atol=1e-6)
