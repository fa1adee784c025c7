"""The study of importance sampling: its exact part by enumeration, and what its committed numbers must show."""

import json
from itertools import product
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.special import softmax

import purejaxpg as pg
from experiments.common import importance_exact as exact
from experiments.common import importance_learning, importance_samples
from experiments.common.study import spoken_iqm
from experiments.studies import importance_sampling

HORIZON, DISCOUNT = 3, 0.8
UNBIASED = ("marginalised", "per decision", "trajectory")
COMMITTED = Path(importance_sampling.__file__).parents[1] / "results/importance_sampling"


@pytest.fixture(scope="module")
def small():
    """Two states, two actions, no ends; and two policies."""
    random = np.random.default_rng(0)
    transition = random.dirichlet([1.0, 1.0], size=(2, 2))
    mdp = pg.FiniteMDP(transition, random.normal(size=(2, 2)), np.array([0.3, 0.7]))
    old, new = (random.dirichlet([2.0, 2.0], size=2) for _ in range(2))
    return mdp, exact.Pair(old, new)


def trajectories(mdp, pair):
    """(chance under old, states, actions, ratios, rewards) of each, by enumeration."""
    for states in product(range(2), repeat=HORIZON):
        for actions in product(range(2), repeat=HORIZON):
            chance = mdp.start[states[0]]
            for t in range(HORIZON):
                chance *= pair.old[states[t], actions[t]]
                if t + 1 < HORIZON:
                    chance *= mdp.transition[states[t], actions[t], states[t + 1]]
            ratio = pair.new[states, actions] / pair.old[states, actions]
            yield chance, states, actions, ratio, mdp.reward[states, actions]


def chances(mdp, policy):
    """P(s_t = s), `[HORIZON, 2]`, by matrix products."""
    chain = np.einsum("sa,sat->st", policy, mdp.transition)
    return np.array([mdp.start @ np.linalg.matrix_power(chain, t) for t in range(HORIZON)])


def test_moments_of_estimates_of_the_return(small):
    mdp, pair = small
    density = chances(mdp, pair.new) / chances(mdp, pair.old)
    powers = DISCOUNT ** np.arange(HORIZON)
    first, second = {}, {}
    for chance, states, _, ratio, reward in trajectories(mdp, pair):
        weights = {
            "no weights": np.ones(HORIZON),
            "trajectory": np.full(HORIZON, np.prod(ratio)),
            "per decision": np.cumprod(ratio),
            "marginalised": density[range(HORIZON), states] * ratio,
            "per step": ratio,
        }
        for name, weight in weights.items():
            estimate = np.sum(weight * powers * reward)
            first[name] = first.get(name, 0) + chance * estimate
            second[name] = second.get(name, 0) + chance * estimate**2
    found = exact.return_moments(mdp, pair, discount=DISCOUNT, horizon=HORIZON)
    assert found.keys() == first.keys()
    for name, (mean, deviation) in found.items():
        np.testing.assert_allclose(mean, first[name], rtol=1e-10)
        np.testing.assert_allclose(deviation**2, second[name] - first[name] ** 2, rtol=1e-8)
    true = chances(mdp, pair.new) * powers[:, None] @ (pair.new * mdp.reward).sum(1)[:, None]
    for name in ("trajectory", "per decision", "marginalised"):
        np.testing.assert_allclose(found[name][0], true.sum(), rtol=1e-10)


def test_means_of_estimates_of_the_gradient(small):
    """The exact one by central differences of the enumerated return; the biased ones by their definition."""
    mdp, pair = small
    (found,) = exact.gradients(mdp, pair, [HORIZON], discount=DISCOUNT)
    powers = DISCOUNT ** np.arange(HORIZON)
    logits = np.log(pair.new)

    def value(logits):
        policy = softmax(logits, axis=-1)
        return float(np.sum(chances(mdp, policy) @ (policy * mdp.reward).sum(1) * powers))

    for entry in np.ndindex(2, 2):
        step = np.zeros((2, 2))
        step[entry] = 1e-5
        slope = (value(logits + step) - value(logits - step)) / 2e-5
        np.testing.assert_allclose(found.exact[entry], slope, rtol=1e-6, atol=1e-9)

    density = chances(mdp, pair.new) / chances(mdp, pair.old)
    old, new = pair
    values = [np.zeros(2)]  # of the policy that acted, with 0, 1, ... steps left
    for _ in range(HORIZON):
        values.append((old * (mdp.reward + DISCOUNT * mdp.transition @ values[-1])).sum(1))
    means = {name: np.zeros((2, 2)) for name in (*found.biased, *UNBIASED)}
    for chance, states, actions, ratio, reward in trajectories(mdp, pair):
        for t in range(HORIZON):
            state, here = states[t], density[t, states[t]]
            later = np.sum(powers[t:] * reward[t:])
            weighed = np.sum(np.cumprod(ratio[t:]) * powers[t:] * reward[t:])  # from here on
            weighted = {
                "no weights": later - powers[t] * values[HORIZON - t][state],
                "per step": ratio[t] * later,
                "marginalised, old returns": here * ratio[t] * later,
                "marginalised": here * weighed,
                "per decision": np.prod(ratio[:t]) * weighed,
                "trajectory": np.prod(ratio) * later,
            }
            score = -new[state]
            score[actions[t]] += 1
            for name, advantage in weighted.items():
                means[name][state] += chance * advantage * score
    for name in UNBIASED:
        np.testing.assert_allclose(means[name], found.exact, atol=1e-10)
    for name, mean in found.biased.items():
        np.testing.assert_allclose(mean, means[name], atol=1e-10)


def test_steps_have_the_size_that_was_asked_for(small):
    mdp, _ = small
    logits = np.random.default_rng(1).normal(size=(2, 2))
    for kind, direction in exact.directions(mdp, logits, DISCOUNT).items():
        pair = exact.step_along(mdp, logits, direction, 0.02)
        np.testing.assert_allclose(exact.divergence(mdp, pair), 0.02, rtol=1e-9, err_msg=kind)
    pair = exact.tilted(mdp, 0.02)
    np.testing.assert_array_equal(pair.old, 0.5)
    np.testing.assert_allclose(pair.new[0], pair.new[1], rtol=1e-12)


def test_episodes_are_drawn_with_their_chances(small):
    """Pearson's statistic over all trajectories of two steps: chi-square with 15 degrees of freedom."""
    mdp, pair = small
    mdp = mdp._replace(start=np.array([0.5, 0.5]))  # episodes begin anywhere
    number = 40_000
    walk = importance_samples.walk_of(mdp, pair.old)
    found = importance_samples.draw_episodes(jax.random.key(2), walk, horizon=2, number=number)
    (s, s_next), (a, a_next) = np.asarray(found.state), np.asarray(found.action)
    counts = np.bincount(8 * s + 4 * a + 2 * s_next + a_next, minlength=16)
    first = mdp.start[:, None] * pair.old
    joint = first[..., None, None] * mdp.transition[..., None] * pair.old
    expected = number * joint.ravel()
    assert np.sum((counts - expected) ** 2 / expected) < 37.7  # the 99.9% quantile
    np.testing.assert_array_equal(found.truncated, [[False] * number, [True] * number])
    assert not found.terminated.any()


def run_small(folder, monkeypatch, **options):
    for name in ("RETURN_HORIZONS", "GRADIENT_HORIZONS"):
        monkeypatch.setattr(importance_sampling, name, (3,))
    monkeypatch.setattr(importance_sampling, "KLS", (0.1,))
    monkeypatch.setattr(importance_sampling, "BIAS_KLS", (0.01,))
    options = {"output": folder / "study", "samples": 1000, "replications": 3, **options}
    arguments = [x for k, v in options.items() for x in (f"--{k.replace('_', '-')}", str(v))]
    assert importance_sampling.main(arguments) == 0
    assert (folder / "study/figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    return json.loads((folder / "study/results.json").read_text())


def test_the_program_without_learning(tmp_path, monkeypatch):
    content = run_small(tmp_path, monkeypatch, seeds=0)
    assert len(content["findings"]) == 4 + 5 + 1 + 2
    for row in content["returns"]["3"]["estimators"].values():
        # The error of means of 1,000 episodes, of 3 replications: within what chi-square allows.
        assert 0.05 < row["measured_rmse"] / row["rmse"] < 2.4
    for row in content["gradients"]["3"].values():
        assert (
            0 < row["rmse"] < 3 and row["cosine"] > 0
        )  # 1,000 episodes of 3 steps tell its direction


@pytest.mark.slow  # a minute, nearly all of it compilation
def test_the_program(tmp_path, monkeypatch):
    monkeypatch.setattr(importance_learning, "POLICY_STEPS", (1,))
    monkeypatch.setattr(importance_learning, "RATES", (2e-3,))
    weighting = importance_learning.WEIGHTINGS["per step"]
    monkeypatch.setattr(importance_learning, "WEIGHTINGS", {"per step": weighting})
    content = run_small(
        tmp_path, monkeypatch, seeds=3, stage=1, fresh_episodes=4, eval_episodes=2, total_steps=2048
    )
    assert len(content["findings"]) == 4 + 5 + 1 + 2 + 3
    one = content["one_rollout"]
    assert np.max(one["before"]["0"]["kl"]) == 0 and np.min(one["per step"]["1"]["kl"]) > 0
    np.testing.assert_allclose(one["before"]["0"]["trajectory_ess"], 1.0, rtol=1e-5)


@pytest.fixture(scope="module")
def committed():
    return json.loads((COMMITTED / "results.json").read_text())


def rows_of(committed):
    return [(kind, kl, row) for kind, by in committed["weights"].items() for kl, row in by.items()]


def test_committed_crossings(committed):
    for kind, kl, row in rows_of(committed):
        crossing = row["crossing"]
        np.testing.assert_allclose(crossing["slope"], crossing["log_rho"], rtol=1e-5)  # 6 digits
        if kind == "tilted":
            assert crossing["exact"] == np.ceil(crossing["predicted"])
            np.testing.assert_allclose(crossing["log_rho"], crossing["per_step"], rtol=1e-5)
            measured = [x or np.inf for x in row["measured_crossings"]]
            assert len(measured) >= 20
            np.testing.assert_allclose(np.median(measured), crossing["exact"], rtol=0.25)
            low, high = row["step_second_moment"]
            np.testing.assert_allclose(low, high, rtol=1e-5)  # flat from the first step on
        assert row["largest_step_z"] < 4.5, (kind, kl)
        assert row["z_within_3"] >= 0.97, (kind, kl)
    sizes = [
        (row["crossing"]["exact"], row["crossing"]["predicted"]) for *_, row in rows_of(committed)
    ]
    assert any(abs(x - y) > 1 for x, y in sizes)  # C is not enough everywhere, and it is said
    said = sum("steps off" in line for line in committed["findings"])
    assert said == sum(abs(x - y) > 1 for x, y in sizes)


def test_committed_returns_and_gradients(committed):
    for table in committed["returns"].values():
        for name in ("trajectory", "per decision", "marginalised"):
            np.testing.assert_allclose(table["estimators"][name]["mean"], table["new"], rtol=1e-4)
    rows = list(committed["gradients"].values())
    # Squared errors over what the variance explains; the gradient has few large entries.
    assert all(row[x]["excess"] < 4 for row in rows[:3] for x in ("marginalised", "per decision"))
    of_random = committed["gradient_bias"]["random"]
    assert 0.05 < of_random["0.01"]["marginalised, old returns"] < 0.1
    kls, biases = zip(*((float(kl), row["per step"]) for kl, row in of_random.items()))
    slope = np.polyfit(np.log(kls[:4]), np.log(biases[:4]), 1)[0]
    np.testing.assert_allclose(slope, 0.5, atol=0.05)  # as the square root of KL
    shorter, longer = ([row["per step"]["rmse"] - row["per decision"]["rmse"] for row in x]
                       for x in (rows[:2], rows[-2:]))  # fmt: skip
    assert max(longer) < 0 < max(shorter)  # which is nearer depends on the length


def test_the_page_says_what_the_file_holds(committed):
    page = (Path(importance_sampling.__file__).parent / "README.md").read_text()
    named = {"tilted": "one action preferred alike everywhere", "random": "random"}
    named |= {"gradient": "along the gradient", "natural": "along the natural gradient"}
    for kind, kl, row in rows_of(committed):
        if kind != "tilted" and kl != "0.01":
            continue
        crossing, late = (
            row["crossing"],
            np.median([x or np.inf for x in row["measured_crossings"]]),
        )
        said = f"{late:g}" if np.isfinite(late) else "not within 22 steps"
        name = named[kind] if kl == "0.01" else ""
        cells = (name, kl, crossing["exact"], f"{crossing['predicted']:.1f}", said)
        assert "| " + " | ".join(map(str, cells)).lstrip() + " |" in page

    shown = {"no weights": "none"}
    shown |= {
        name: name.replace("per step", "of the action")
        for name in ("per step", "per step, at most 2")
    }
    for name in importance_learning.WEIGHTINGS:
        low, middle, high = committed["whole_runs"][name].values()
        cells = (
            shown.get(name, name),
            spoken_iqm(committed["one_rollout"][name]["16"]["return"], 0),
        )
        cells += (spoken_iqm(low, 1), spoken_iqm(middle, 0), spoken_iqm(high, 0))
        assert "| " + " | ".join(cells) + " |" in page


def test_committed_learning(committed):
    names = importance_learning.WEIGHTINGS.keys()
    assert committed["one_rollout"].keys() == {"before", *names}
    assert committed["whole_runs"].keys() == names
    for by in committed["whole_runs"].values():
        assert all(len(scores) >= 10 for scores in by.values())
    before = committed["one_rollout"]["before"]["0"]
    assert len(before["return"]) >= 10 and committed["config"]["fresh_episodes"] >= 1000
