"""Statistics against scipy, hand-computed cases and the definitions of arXiv:2108.13264."""

import itertools
from functools import partial

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from purejaxpg.reporting import statistics
from purejaxpg.reporting.statistics import (
    Interval,
    bootstrap_interval,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    replace_diverged,
)

AGGREGATES = [mean, median, iqm, optimality_gap]
THRESHOLDS = np.linspace(-2.0, 2.0, 9)

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def score_arrays(min_seeds=1):
    shapes = st.tuples(st.integers(min_seeds, 9), st.integers(1, 4))
    return hnp.arrays(np.float64, shapes, elements=st.floats(-1e6, 1e6, width=32))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def width(interval):
    return interval.high - interval.low


# --- the statistics


@pytest.mark.parametrize("num_tasks", [1, 2, 3])
@pytest.mark.parametrize("num_seeds", range(1, 12))
def test_iqm_is_scipys_trimmed_mean_for_any_number_of_scores(num_seeds, num_tasks):
    scores = normal(num_seeds, num_tasks, seed=num_seeds)
    expected = scipy.stats.trim_mean(scores.ravel(), 0.25)
    np.testing.assert_allclose(iqm(scores), expected, rtol=1e-12)


def test_iqm_by_hand():
    assert iqm([100.0, 0.0, 3.0, 1.0, 5.0, 2.0, 4.0, 6.0]) == 3.5  # 2, 3, 4, 5
    assert iqm([0.0, 1.0, 2.0, 3.0, 100.0]) == 2.0  # five scores: one off each end
    assert iqm([0.0, 1.0, 5.0]) == 2.0  # three: none
    # Pooled over tasks, not task by task: of 0 1 2 3 100 101 102 103 the middle is 2 3 100 101.
    assert iqm([[0, 100], [1, 101], [2, 102], [3, 103]]) == 51.5


def test_median_is_over_tasks_of_the_means_over_seeds():
    scores = [[0.0, 0.0, 3.0], [0.0, 9.0, 5.0]]  # task means 0, 4.5, 4; all scores: median 1.5
    assert median(scores) == 4.0
    assert median([0.0, 0.0, 9.0]) == 3.0  # one task: its mean


def test_mean_and_optimality_gap_by_hand():
    scores = [[0.0, 2.0], [0.5, 0.5]]
    assert mean(scores) == 0.75
    assert optimality_gap(scores) == 0.5  # gaps 1, 0, 0.5, 0.5
    assert optimality_gap(scores, target=2.0) == 1.25


def test_profile_counts_runs_strictly_above_the_threshold():
    scores = [[0.0, 1.0], [1.0, 2.0]]
    profile = performance_profile(scores, [-1.0, 0.0, 0.5, 1.0, 2.0])
    np.testing.assert_array_equal(profile, [1.0, 0.75, 0.75, 0.25, 0.0])


def test_profile_equals_its_definition():
    scores = normal(7, 3)
    for tau, fraction in zip(THRESHOLDS, performance_profile(scores, THRESHOLDS), strict=True):
        by_task = [sum(scores[n, m] > tau for n in range(7)) / 7 for m in range(3)]
        np.testing.assert_allclose(fraction, sum(by_task) / 3)


def test_probability_of_improvement_equals_its_definition_with_ties_and_unequal_seeds():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 4, size=(5, 3)), rng.integers(0, 4, size=(8, 3))
    wins = 0.0
    for n, k, m in itertools.product(range(5), range(8), range(3)):
        wins += 1.0 if x[n, m] > y[k, m] else 0.5 if x[n, m] == y[k, m] else 0.0
    np.testing.assert_allclose(probability_of_improvement(x, y), wins / (5 * 8 * 3))
    u = [scipy.stats.mannwhitneyu(x[:, m], y[:, m]).statistic / 40 for m in range(3)]
    np.testing.assert_allclose(probability_of_improvement(x, y), np.mean(u))


@pytest.mark.parametrize(
    "statistic", [*AGGREGATES, partial(performance_profile, thresholds=THRESHOLDS)]
)
def test_further_axes_are_kept_and_one_dimension_is_one_task(statistic):
    curves = normal(6, 2, 3, 4)
    result = statistic(curves)
    assert result.shape[-2:] == (3, 4)
    for i, j in np.ndindex(3, 4):
        np.testing.assert_allclose(result[..., i, j], statistic(curves[:, :, i, j]), rtol=1e-12)
    np.testing.assert_array_equal(statistic(curves[:, 0, 0, 0]), statistic(curves[:, :1, 0, 0]))


def test_probability_of_improvement_keeps_further_axes():
    x, y = normal(4, 2, 3), normal(5, 2, 3, seed=1)
    result = probability_of_improvement(x, y)
    expected = [probability_of_improvement(x[..., t], y[..., t]) for t in range(3)]
    np.testing.assert_allclose(result, expected)


@pytest.mark.parametrize("statistic", AGGREGATES)
def test_statistics_compute_in_float64_and_leave_their_input_alone(statistic):
    scores = normal(9, 2).astype(np.float32)
    before = scores.copy()
    result = statistic(scores)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, statistic(scores.astype(np.float64)))
    np.testing.assert_array_equal(scores, before)


# --- properties


@quick
@given(score_arrays(), st.integers(0, 2**32 - 1))
def test_the_order_of_seeds_and_tasks_does_not_matter(scores, seed):
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(scores, axis=0)[:, rng.permutation(scores.shape[1])]
    for statistic in AGGREGATES:
        np.testing.assert_allclose(statistic(shuffled), statistic(scores), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(
        performance_profile(shuffled, THRESHOLDS), performance_profile(scores, THRESHOLDS)
    )


@quick
@given(score_arrays())
def test_averages_lie_between_the_extreme_scores_and_gaps_are_not_negative(scores):
    slack = 1e-12 * (1.0 + np.abs(scores).max())
    for statistic in (mean, median, iqm):
        assert scores.min() - slack <= statistic(scores) <= scores.max() + slack
    assert optimality_gap(scores) >= 0.0
    assert optimality_gap(scores, target=scores.min()) == 0.0


@quick
@given(score_arrays())
def test_profile_falls_from_one_to_zero(scores):
    taus = np.unique(np.concatenate([scores.ravel(), [scores.min() - 1.0, scores.max() + 1.0]]))
    profile = performance_profile(scores, taus)
    assert profile[0] == pytest.approx(1.0)
    assert profile[-1] == 0.0
    assert (np.diff(profile) <= 1e-12).all()


@quick
@given(score_arrays(), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_probabilities_of_improvement_of_x_over_y_and_y_over_x_sum_to_one(x, num_seeds, seed):
    y = np.random.default_rng(seed).choice(x.ravel(), size=(num_seeds, x.shape[1]))
    total = probability_of_improvement(x, y) + probability_of_improvement(y, x)
    assert total == pytest.approx(1.0)
    assert probability_of_improvement(x, x) == pytest.approx(0.5)


@quick
@given(score_arrays(min_seeds=3))
def test_interval_is_ordered_within_the_scores_and_moves_with_their_unit(scores):
    slack = 1e-9 * (1.0 + np.abs(scores).max())
    for statistic in (mean, median, iqm):
        interval = bootstrap_interval(statistic, scores, num_resamples=200)
        assert interval.estimate == statistic(scores)
        assert scores.min() - slack <= interval.low <= interval.high <= scores.max() + slack
        rescaled = bootstrap_interval(statistic, 2.0 * scores + 3.0, num_resamples=200)
        np.testing.assert_allclose(rescaled, 2.0 * np.array(interval) + 3.0, atol=10 * slack)
    of_mean = bootstrap_interval(mean, scores)
    assert of_mean.low - slack <= of_mean.estimate <= of_mean.high + slack


# --- the bootstrap


@pytest.mark.parametrize(
    ("statistic", "theirs"),
    [(mean, np.mean), (iqm, lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis))],
)
def test_one_task_interval_is_scipys_percentile_bootstrap(statistic, theirs):
    scores = np.random.default_rng(3).gamma(2.0, size=40)
    ours = bootstrap_interval(statistic, scores, confidence=0.9, num_resamples=20000)
    expected = scipy.stats.bootstrap(
        (scores,),
        theirs,
        n_resamples=20000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(4),
    ).confidence_interval
    tolerance = 0.03 * (expected.high - expected.low)
    assert ours.low == pytest.approx(expected.low, abs=tolerance)
    assert ours.high == pytest.approx(expected.high, abs=tolerance)


@pytest.mark.parametrize(
    "statistic",
    [
        mean,
        median,
        iqm,
        partial(optimality_gap, target=8.0),
        lambda scores: performance_profile(scores, [5.0])[0],
    ],
)
def test_two_task_interval_is_that_of_all_the_stratified_resamples(statistic):
    scores = normal(3, 2) * [1.0, 5.0] + [0.0, 10.0]
    draws = list(itertools.product(range(3), repeat=3))
    exact = [
        statistic(np.stack([scores[list(a), 0], scores[list(b), 1]], axis=1))
        for a, b in itertools.product(draws, draws)  # all 27 x 27, equally likely
    ]
    interval = bootstrap_interval(statistic, scores, confidence=0.8, num_resamples=20000)
    slack = 1e-9
    assert np.quantile(exact, 0.09) - slack <= interval.low <= np.quantile(exact, 0.11) + slack
    assert np.quantile(exact, 0.89) - slack <= interval.high <= np.quantile(exact, 0.91) + slack


def test_95_percent_interval_of_the_mean_covers_about_95_percent():
    rng = np.random.default_rng(5)
    replications = 400
    covered = 0
    for i in range(replications):
        interval = bootstrap_interval(mean, rng.normal(7.0, 2.0, size=30), seed=i)
        covered += interval.low <= 7.0 <= interval.high
    assert 0.90 <= covered / replications <= 0.98


def test_differences_between_tasks_do_not_widen_the_interval():
    scores = normal(30, 2)
    apart = bootstrap_interval(mean, scores + np.array([0.0, 1000.0]))
    np.testing.assert_allclose(width(apart), width(bootstrap_interval(mean, scores)), rtol=1e-6)
    assert width(apart) == pytest.approx(2 * 1.96 / np.sqrt(60), rel=0.25)


def test_tasks_are_resampled_independently_of_each_other():
    one = normal(50, 1)
    # Two equal columns drawn apart average out; drawn together they would give a ratio of 1.
    ratio = width(bootstrap_interval(mean, np.hstack([one, one]), num_resamples=10000)) / width(
        bootstrap_interval(mean, one, num_resamples=10000)
    )
    assert ratio == pytest.approx(np.sqrt(0.5), rel=0.06)


def test_seeds_are_resampled_jointly_over_the_curve():
    curves = np.repeat(normal(10, 2, 1), 5, axis=2)  # flat in time

    def rise(scores):
        return (scores[:, :, 4] - scores[:, :, 0]).mean(axis=(0, 1))

    assert bootstrap_interval(rise, curves) == Interval(0.0, 0.0, 0.0)
    flat = bootstrap_interval(mean, curves)
    assert (flat.low == flat.low[0]).all()
    assert (flat.high == flat.high[0]).all()


def test_interval_of_a_curve_is_the_interval_at_each_of_its_points():
    curves = normal(8, 2, 4)
    whole = bootstrap_interval(iqm, curves)
    assert whole.low.shape == whole.high.shape == whole.estimate.shape == (4,)
    for t in range(4):
        at_t = bootstrap_interval(iqm, curves[:, :, t])
        np.testing.assert_allclose([part[t] for part in whole], at_t, rtol=1e-12)


def test_two_algorithms_are_each_resampled_on_their_own():
    scores = normal(40, 1)

    def difference(x, y):
        return mean(x) - mean(y)

    both = bootstrap_interval(difference, scores, scores, num_resamples=10000)
    alone = bootstrap_interval(mean, scores, num_resamples=10000)
    assert width(both) == pytest.approx(np.sqrt(2.0) * width(alone), rel=0.06)


def test_interval_of_the_probability_of_improvement_is_scipys():
    x, y = normal(25, 1) + 0.5, normal(30, 1, seed=1)

    def theirs(x, y, axis):
        return scipy.stats.mannwhitneyu(x, y, axis=axis).statistic / (25 * 30)

    ours = bootstrap_interval(probability_of_improvement, x, y, confidence=0.9, num_resamples=5000)
    expected = scipy.stats.bootstrap(
        (x[:, 0], y[:, 0]),
        theirs,
        n_resamples=5000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(4),
    ).confidence_interval
    tolerance = 0.06 * (expected.high - expected.low)
    assert ours.low == pytest.approx(expected.low, abs=tolerance)
    assert ours.high == pytest.approx(expected.high, abs=tolerance)


def test_probability_of_improvement_has_an_interval():
    x, y = normal(20, 3) + 1.0, normal(10, 3, seed=1)
    interval = bootstrap_interval(probability_of_improvement, x, y)
    assert 0.5 < interval.low < interval.estimate < interval.high < 1.0
    assert interval.estimate == probability_of_improvement(x, y)


def test_profile_has_a_band_over_thresholds_and_options_go_in_by_partial():
    statistic = partial(performance_profile, thresholds=THRESHOLDS)
    band = bootstrap_interval(statistic, normal(10, 2))
    assert band.low.shape == THRESHOLDS.shape
    assert (band.low <= band.high).all()
    assert bootstrap_interval(statistic, normal(10, 2, 4)).low.shape == (9, 4)
    gap = bootstrap_interval(partial(optimality_gap, target=5.0), normal(10, 2))
    assert gap.estimate == optimality_gap(normal(10, 2), target=5.0)


def test_higher_confidence_is_wider_and_the_seed_decides_the_rest():
    scores = normal(12, 2)
    widths = [width(bootstrap_interval(iqm, scores, confidence=c)) for c in (0.5, 0.8, 0.95, 0.99)]
    assert sorted(widths) == widths
    assert len(set(widths)) == 4
    assert bootstrap_interval(iqm, scores) == bootstrap_interval(iqm, scores, seed=0)
    assert bootstrap_interval(iqm, scores) != bootstrap_interval(iqm, scores, seed=1)


def test_memory_is_bounded_by_chunks_that_do_not_change_the_result(monkeypatch):
    x, y = normal(7, 3, 2), normal(5, 3, 2, seed=1)
    sizes = []

    def spy(x, y):
        sizes.append(x.size + y.size)
        return probability_of_improvement(x, y)

    whole = bootstrap_interval(spy, x, y, num_resamples=100)
    monkeypatch.setattr(statistics, "_CHUNK_FLOATS", 1000)
    sizes.clear()
    chunked = bootstrap_interval(spy, x, y, num_resamples=100)
    assert max(sizes) <= 1000
    np.testing.assert_array_equal(whole, chunked)


# --- refusals


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_interval_is_refused_below_three_seeds(num_seeds):
    with pytest.raises(ValueError, match=rf"at least 3 seeds, got {num_seeds}"):
        bootstrap_interval(mean, normal(num_seeds, 4))
    with pytest.raises(ValueError, match=rf"at least 3 seeds, got {num_seeds}"):
        bootstrap_interval(probability_of_improvement, normal(9, 4), normal(num_seeds, 4))
    bootstrap_interval(mean, normal(3, 4))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_diverged_runs_are_refused_until_they_are_given_a_score(bad):
    scores = normal(6, 2)
    scores[3, 1] = bad
    calls = [
        *(partial(statistic, scores) for statistic in AGGREGATES),
        partial(performance_profile, scores, THRESHOLDS),
        partial(probability_of_improvement, scores, normal(6, 2)),
        partial(probability_of_improvement, normal(6, 2), scores),
        partial(bootstrap_interval, lambda x: np.nanmean(x, axis=(0, 1)), scores),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"1 of 12 scores .* replace_diverged"):
            call()
    assert mean(replace_diverged(scores, -5.0)) == pytest.approx(
        (np.delete(scores.ravel(), 7).sum() - 5.0) / 12
    )


def test_replace_diverged_copies_and_takes_one_worst_score_per_task():
    scores = np.array([[1.0, np.nan], [np.inf, 2.0], [-np.inf, 3.0]])
    before = scores.copy()
    replaced = replace_diverged(scores, [-1.0, -2.0])
    np.testing.assert_array_equal(replaced, [[1.0, -2.0], [-1.0, 2.0], [-1.0, 3.0]])
    np.testing.assert_array_equal(scores, before)
    curves = np.where(np.arange(2)[:, None] == 0, np.nan, np.zeros((3, 2, 4)))
    np.testing.assert_array_equal(
        replace_diverged(curves, [-1.0, -2.0]), np.where(np.isnan(curves), -1.0, 0.0)
    )
    np.testing.assert_array_equal(replace_diverged([np.nan, 1.0], 0.0), [0.0, 1.0])
    with pytest.raises(ValueError, match="finite"):
        replace_diverged(scores, np.nan)
    for worst in ([-1.0, -2.0, -3.0], [[-1.0, -2.0]]):
        with pytest.raises(ValueError, match="one per task"):
            replace_diverged(scores, worst)


@pytest.mark.parametrize("scores", [1.0, [], np.zeros((0, 3)), np.zeros((3, 0))])
def test_scores_without_seeds_or_tasks_are_refused(scores):
    with pytest.raises(ValueError, match="num_seeds, num_tasks"):
        mean(scores)


def test_other_wrong_arguments_are_refused():
    scores = normal(5, 2)
    with pytest.raises(ValueError, match="differ only in seeds"):
        probability_of_improvement(scores, normal(5, 3))
    for thresholds in ([], [[0.0]], [np.nan], 0.0):
        with pytest.raises(ValueError, match="thresholds"):
            performance_profile(scores, thresholds)
    for confidence in (0.0, 1.0, 95.0, np.nan):
        with pytest.raises(ValueError, match="confidence"):
            bootstrap_interval(mean, scores, confidence=confidence)
    with pytest.raises(ValueError, match="num_resamples"):
        bootstrap_interval(mean, scores, num_resamples=0)
    with pytest.raises(ValueError, match="at least one array"):
        bootstrap_interval(mean)
    # np.mean also averages over the resamples, which would give an interval of width zero.
    with pytest.raises(ValueError, match="reduce the first two axes"):
        bootstrap_interval(np.mean, scores)
