"""The studies of the lecture's claims, made small: their numbers against exact ones and against each other."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from experiments.common.study import spoken_iqm
from experiments.studies import (
    discount,
    gradient_variance,
    importance_sampling,
    policy_evaluation,
    rlhf,
    surrogate_ablation,
    trpo_constraint,
    trust_regions,
    value_targets,
)
from purejaxpg.functional import finite_mdp


def run(program, folder, *arguments):
    assert program.main(["--output", str(folder / "study"), *arguments]) == 0
    assert (folder / "study" / "figure.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    return json.loads((folder / "study" / "results.json").read_text())


@pytest.mark.parametrize(
    "program, arguments, words",
    [
        (gradient_variance, ["--episodes", "100"], "multiple of 2000, not 100"),
        (value_targets, ["--episodes", "10"], "multiple of 1000, not 10"),
        (value_targets, ["--envs", "CartPole"], "Unknown environment 'CartPole'"),
        (discount, ["--horizon", "10"], "must be at least 100"),
        (policy_evaluation, ["--shown", "7"], "--shown must be one of --episodes"),
        (policy_evaluation, ["--seeds", "2"], "--seeds at least 3"),
        (trust_regions, ["--stages", "0"], "must be at least 1"),
        (surrogate_ablation, ["--total-steps", "2047"], "--total-steps at least 2048"),
        (trpo_constraint, ["--total-steps", "10"], "--total-steps must be at least"),
        (surrogate_ablation, ["--envs", "Acrobot"], "Unknown environment 'Acrobot'"),
        (importance_sampling, ["--samples", "99"], "--samples must be at least 100"),
        (importance_sampling, ["--seeds", "2"], "--seeds must be 0 or at least 3, not 2"),
        (importance_sampling, ["--discount", "1"], "--discount must be in [0, 1), not 1"),
        (rlhf, ["--answers", "1"], "--answers must be at least 2, to compare, not 1"),
        (rlhf, ["--betas", "0.1", "-1"], "--betas at least one number from 0 on"),
        (rlhf, ["--steps", "30"], "--steps must be a multiple of 20, not 30"),
    ],
)
def test_wrong_arguments_and_existing_folders_are_refused(
    program, arguments, words, tmp_path, capsys
):
    assert program.main(["--output", str(tmp_path / "new"), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert program.main(["--output", str(tmp_path)]) == 2
    assert f"{tmp_path} exists" in capsys.readouterr().err


def test_gradient_variance(tmp_path):
    content = run(gradient_variance, tmp_path, "--episodes", "2000")
    table = content["estimators"]

    def same(one, other):
        for form in ("discount^t", "usual"):
            for name in ("variance", "bias", "cosine_of_mean"):
                a, b = table[one][form][name], table[other][form][name]
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)

    same("1-step, fitted V", "TD, fitted V")
    same("GAE(0), fitted V", "TD, fitted V")
    same("GAE(1), fitted V", "reward to go, fitted V")
    trajectory = table["trajectory"]
    assert trajectory["discount^t"] == trajectory["usual"]  # discounted from the start either way
    for name in gradient_variance.UNBIASED:
        # A chi-square over the entries, divided by its mean: 12 entries weigh most; 4 is far out.
        assert table[name]["discount^t"]["excess"] < 4
        error = table[name]["discount^t"]["rmse"]
        np.testing.assert_allclose(error["1"] / error["16"], 4.0, rtol=0.25)  # 1 / sqrt(N)
    usual = table["TD, exact V"]["usual"]
    assert usual["excess"] > 4 and usual["bias"] > 0.1
    assert len(content["findings"]) == 4 + len(gradient_variance.RUNGS)


def test_value_targets_of_no_value_function_are_exactly_biased(tmp_path, monkeypatch):
    """V = 0: a one-step target is a reward, whose bias is known, and Monte Carlo has none."""
    monkeypatch.setattr(value_targets, "TARGET_N", (1, 3, 100))
    content = run(
        value_targets, tmp_path, "--envs", "--episodes", "4000", "--stages", "0", "20"
    )  # fmt: skip
    at = pg.frozen_lake(success_rate=0.8, reward_schedule=(1.0, -1.0, -0.1))
    policy = jnp.full(at.mdp.reward.shape, 0.25)
    value = finite_mdp.state_values(at.mdp, policy, discount=0.95)
    visits = finite_mdp.state_visits(at.mdp, policy, discount=1.0)
    bias = (policy * at.mdp.reward).sum(1) - value
    expected = float(visits @ bias**2 / visits.sum())
    table = content["targets"]["0"]
    np.testing.assert_allclose(table["1"]["bias_squared"], expected, rtol=0.03)
    assert table["100"]["bias_squared"] < 0.01 * table["1"]["bias_squared"]
    for row in (*table.values(), *content["targets"]["20"].values()):
        np.testing.assert_allclose(
            row["bias_squared"] + row["variance"], row["mean_square_error"], rtol=1e-3
        )
    assert content["targets"]["20"]["1"]["bias_squared"] < table["1"]["bias_squared"]


def test_discount(tmp_path, monkeypatch):
    monkeypatch.setattr(discount, "DISCOUNTS", (0.5, 0.8))
    content = run(discount, tmp_path, "--episodes", "2000", "--horizon", "1000")
    for row in content["death"]:
        np.testing.assert_allclose(row["exact_dying"], row["exact_discounted"], rtol=1e-4)
        for name in ("discounted", "dying"):  # 4 standard errors
            apart = abs(row[f"{name}_mean"] - row["exact_discounted"])
            assert apart < 4 / 1.96 * row[f"{name}_error"]
    growth = content["growth"]["1.0"]
    slope = (growth[-1] - growth[-2]) / discount.EVERY
    np.testing.assert_allclose(slope, content["average_reward"], rtol=1e-2)
    np.testing.assert_allclose(
        content["regression"]["0.9"][-1], content["fixed_points"]["0.9"], rtol=1e-3
    )
    diverging = content["regression"]["1.0"]
    assert diverging[-1] > 1.3 * diverging[len(diverging) // 2]


def test_policy_evaluation(tmp_path):
    content = run(
        policy_evaluation, tmp_path, "--episodes", "10", "50", "--shown", "50",
        "--passes", "40", "--seeds", "3",
    )  # fmt: skip
    assert len(content["exact"]) == 103
    for name, table in content["errors"].items():
        assert np.mean(table["50"]) < np.mean(table["10"]), name
        found, exact = np.array(content["fitted"][name]), np.array(content["exact"])
        error = np.sqrt(np.mean((found - exact) ** 2)) / exact.std()
        np.testing.assert_allclose(error, table["50"][0], rtol=1e-3)


@pytest.mark.slow  # a minute on jaxlib 0.10
def test_trust_regions(tmp_path, monkeypatch):
    monkeypatch.setattr(trust_regions, "SIZES", {"num_envs": 2, "num_steps": 32, "gae_lambda": 0.9})
    for name, sizes in (("KLS", (0.01, 1.0)), ("CLIPS", (0.2,)), ("RATES", (1e-5,))):
        monkeypatch.setattr(trust_regions, name, sizes)
    content = run(
        trust_regions, tmp_path, "--envs", "CartPole-v1", "--stages", "2", "--seeds", "3",
        "--eval-episodes", "2",
    )  # fmt: skip
    (steps,) = content["steps"].values()
    kl = {name: {size: np.array(row["kl"]) for size, row in x.items()} for name, x in steps.items()}
    for size in ("0.01", "1"):
        assert (kl["TRPO"][size] <= float(size) * 1.001).all()
        # The line search goes back from the full step, if anywhere.
        assert (kl["TRPO"][size] <= kl["natural gradient"][size] * 1.001).all()
    assert (kl["parameter ball"]["1"] > kl["parameter ball"]["0.01"]).all()
    assert (kl["without a clip, over learning rates"]["1e-05"] < 1e-4).all()
    for table in steps.values():
        assert np.isfinite([row["gain"] for row in table.values()]).all()


FORMS = {surrogate_ablation.RANDOM: (0.0,), "clip": (0.1, 0.2), "REINFORCE": (1e-3,)}


def test_scores_of_the_ablation_by_hand(monkeypatch):
    monkeypatch.setattr(surrogate_ablation, "FORMS", FORMS)
    table = {
        "one": {
            surrogate_ablation.RANDOM: [[10, 20, 30]],
            "clip": [[20, 30, 40], [100, 110, 180]],  # the best: 130
            "REINFORCE": [[None, 130, 130]],  # diverged: the worst of all, 10
        },
        "two": {
            surrogate_ablation.RANDOM: [[-3, -2, -1]],
            "clip": [[0, 0, 0], [-7, -7, -7]],  # the best, and worse than before training
            "REINFORCE": [[-2, -2, -2]],
        },
    }
    scores = surrogate_ablation.score(table)
    expected = {
        surrogate_ablation.RANDOM: [[-10 / 110, -0.5], [0, 0], [10 / 110, 0.5]],
        "clip 0.1": [[0, 1], [10 / 110, 1], [20 / 110, 1]],
        "clip 0.2": [[80 / 110, -2.5], [90 / 110, -2.5], [160 / 110, -2.5]],
        "REINFORCE": [[-10 / 110, 0], [1, 0], [1, 0]],
    }
    assert scores.keys() == expected.keys()
    for name, rows in expected.items():
        np.testing.assert_allclose(scores[name], rows, atol=1e-12)


def test_an_interrupted_ablation_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(surrogate_ablation, "FORMS", FORMS)
    asked = []

    def measure(options, env_id, env, env_params, form, coefficients):
        asked.append((env_id, form))
        if len(asked) == 5:
            raise KeyboardInterrupt
        return [[float(len(asked)), 2.0, 3.0]] * len(coefficients)

    monkeypatch.setattr(surrogate_ablation, "measure", measure)
    arguments = [
        "--output",
        str(tmp_path / "study"),
        "--envs",
        "CartPole-v1",
        "Acrobot-v1",
        "--seeds",
        "3",
    ]
    assert surrogate_ablation.main(arguments) == 130
    assert capsys.readouterr().err == "Interrupted.\n"
    assert surrogate_ablation.main([*arguments, "--seed", "1"]) == 2
    assert "was started with other options" in capsys.readouterr().err
    content = run(surrogate_ablation, tmp_path, *arguments[2:])
    one, two = "CartPole-v1", "Acrobot-v1"
    in_order = [(env_id, form) for env_id in (one, two) for form in FORMS]
    assert asked == [*in_order[:5], *in_order[4:]]  # the fifth was interrupted
    assert content["returns"]["CartPole-v1"]["REINFORCE"] == [[3.0, 2.0, 3.0]]
    assert not (tmp_path / "study" / "partial.json").exists()
    assert surrogate_ablation.main(arguments) == 2  # finished: nothing is overwritten
    assert "exists" in capsys.readouterr().err


@pytest.mark.slow  # eight programs
def test_surrogate_ablation(tmp_path, monkeypatch):
    for name, value in (
        ("SIZES", {"num_envs": 4, "num_steps": 16}),
        ("STEPS_PER_UPDATE", 64),
        ("EPOCHS", 2),
        ("MINIBATCHES", 2),
    ):
        monkeypatch.setattr(surrogate_ablation, name, value)
    content = run(
        surrogate_ablation, tmp_path, "--envs", "CartPole-v1", "--seeds", "3", "--total-steps", "128",
        "--eval-episodes", "4",
    )  # fmt: skip
    returns = content["returns"]["CartPole-v1"]
    for form, coefficients in surrogate_ablation.FORMS.items():
        table = np.array(returns[form], np.float64)
        assert table.shape == (len(coefficients), 3)
        assert ((table >= 8) & (table <= 500)).all()
    assert content["scores"][surrogate_ablation.RANDOM]["mean"]["estimate"] == 0
    best = max(column["mean"]["estimate"] for column in content["scores"].values())
    np.testing.assert_allclose(best, 1.0, rtol=1e-5)


def test_trpo_constraint(tmp_path):
    """The KL that is computed outside is that of the search, and within the bound."""
    content = run(
        trpo_constraint, tmp_path, "--envs", "CartPole-v1", "--seeds", "2", "--total-steps", "3072"
    )
    table = content["updates"]["CartPole-v1"]
    kl = np.array(table["kl"])
    assert kl.shape == (3,)
    assert ((kl > 1e-4) & (kl <= 0.01)).all()
    np.testing.assert_allclose(kl, table["kl_in_search"], rtol=1e-3)
    assert table["seeds_accepted"] == [2.0, 2.0, 2.0]
    assert "100.0% of 6 updates accepted" in content["findings"][0]


@pytest.mark.slow  # two minutes, nearly all of it compilation
def test_rlhf(tmp_path):
    content = run(
        rlhf, tmp_path, "--vocabulary", "6", "--prompt", "2", "--response", "3", "--features", "8",
        "--texts", "500", "--prompts", "64", "--steps", "20", "--updates", "2", "--num-envs", "8",
        "--pool", "8", "--seeds", "3", "--betas", "0", "1",
    )  # fmt: skip
    assert content["ppo"].keys() == {"0", "1"}
    for row in content["ppo"].values():
        assert all(len(scores) == 3 and np.isfinite(scores).all() for scores in row.values())
    assert (
        0 < content["reward_model"]["accuracy"] < content["reward_model"]["accuracy_of_gold"] <= 1
    )
    # Cross-entropy is at least the entropy: of 2,048 texts, within what chance allows.
    language = content["pretraining"]
    assert language["held_out"] > language["grammar"] - 0.05
    supervised = content["policies"]["supervised"]
    assert supervised["kl"] == 0 and abs(supervised["proxy"]) < 0.5  # scaled on such answers
    proxies = [row["proxy"] for row in content["best_of_n"].values()]
    assert proxies == sorted(proxies) and len(proxies) == 3
    assert len(content["texts"]) == 3 * 4


def test_the_page_says_what_the_study_of_rlhf_found():
    studies = Path(rlhf.__file__).parent
    content = json.loads((studies.parent / "results/rlhf/results.json").read_text())
    page = (studies / "README.md").read_text()
    for beta, row in content["ppo"].items():
        spoken = [spoken_iqm(row[name], 2) for name in ("gold", "proxy", "kl", "nats", "wins")]
        assert f"| {beta} | " + " | ".join(spoken) + " |" in page
    for name in ("base", "supervised"):
        assert f"{content['policies'][name]['gold']:.2f}" in page
    assert f"{content['best_of_n']['128']['gold']:.2f} for the best of 128" in page
    assert f"{content['pretraining']['held_out']:.3f} nats a token" in page
