"""Options of the programs are those of the signatures, with the help of the docstrings."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from experiments import train
from experiments.common.algorithms import ALGORITHMS
from experiments.common.options import (
    fill,
    flag_of,
    known_name,
    options_of,
    options_type,
)
from experiments.common.recipes import arguments
from experiments.common.runs import run_from_config

SPACE = pg.Discrete(2)
EVERY = pytest.mark.parametrize("name", ALGORITHMS)


def plain_text(text: str) -> str:
    """Without the frame and the line breaks of a help page."""
    return re.sub(r"[\s│]+", " ", text)


def help_of(name, capsys) -> str:
    with pytest.raises(SystemExit):
        train.main([name, "--help"])
    return plain_text(capsys.readouterr().out)


@EVERY
def test_help_is_the_docstring_of_the_signature(name, capsys):
    text = help_of(name, capsys)
    known = {field.name for field in dataclasses.fields(options_type(name, {}))}
    own = [option for option in options_of(ALGORITHMS[name]) if option.name in known]
    assert len(own) >= 5
    for option in own:
        assert flag_of(option.name) in text
        estimator_has_it = name == "ppo" and option.name in ("discount", "gae_lambda")
        assert estimator_has_it or plain_text(option.help) in text, option.name
        assert option.help


def test_programs_say_what_there_is(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    text = capsys.readouterr().out
    for name, function in ALGORITHMS.items():
        assert re.search(rf"^ +{name} +{re.escape(function.__doc__.splitlines()[0])}$", text, re.M)


@EVERY
def test_defaults_are_those_of_the_signature(name):
    options = fill(name, {})
    for option in options_of(ALGORITHMS[name]):
        if hasattr(options, option.name) and option.default is not None:
            assert getattr(options, option.name) == option.default, option.name
    assert options.discount == 0.99


def test_arguments_reach_the_algorithm_under_their_names():
    options = fill("trpo", {"max_kl": 0.5, "cg_steps": 3, "natural": False, "total_steps": 10**6})
    made = arguments("trpo", options, SPACE)
    assert (made["max_kl"], made["cg_steps"], made["natural"]) == (0.5, 3, False)
    assert made["num_steps"] == 1024 and set(made) >= {"policy", "value", "value_optimizer"}
    assert "reward_fn" not in made and "advantage_fn" not in made


def test_annealing_is_one_rule_for_coefficients():
    row = {"num_envs": 2, "num_steps": 5, "total_steps": 100, "anneal_value_coef": True}
    made = arguments("ppo", fill("ppo", {**row, "value_coef": 0.6}), SPACE)
    assert [round(float(made["value_coef"](update)), 3) for update in (0, 5, 10)] == [0.6, 0.3, 0]
    assert made["clip_eps"] == 0.2
    none = arguments("ppo", fill("ppo", {**row, "anneal_value_clip_eps": True}), SPACE)
    assert none["value_clip_eps"] is None


@pytest.mark.parametrize(
    ("name", "argument", "steps"),
    [
        ("ppo", "optimizer", 10 * 3 * 5),
        ("trpo", "value_optimizer", 10 * 2 * 5),
        ("reinforce", "optimizer", 10),
        ("reinforce", "value_optimizer", 10 * 2 * 5),
        ("actor_critic", "optimizer", 10),
        ("online_actor_critic", "optimizer", 10 * 10),
        ("online_actor_critic", "value_optimizer", 10 * 10),
    ],
)
def test_learning_rates_are_annealed_over_the_optimizer_steps_of_a_run(name, argument, steps):
    row = {
        "num_envs": 1, "num_steps": 10, "total_steps": 100, "num_epochs": 3, "num_minibatches": 5,
        "num_value_epochs": 2, "num_value_minibatches": 5, "anneal_learning_rate": True,
    }  # fmt: skip
    optimizer = arguments(name, fill(name, row), SPACE)[argument]
    params = {"w": jnp.ones(3)}

    def step(state, _):
        updates, state = optimizer.update({"w": jnp.ones(3)}, state, params)
        return state, jnp.abs(updates["w"]).max()

    _, sizes = jax.lax.scan(step, optimizer.init(params), length=steps + 1)
    assert sizes[0] > 0 and sizes[steps - 1] > 0 and sizes[steps] == 0
    np.testing.assert_allclose(sizes[steps // 2], sizes[0] / 2, rtol=1e-3)


def test_a_second_optimizer_has_options_of_its_own_and_else_those_of_the_first():
    def clipped(row, argument):
        """How the optimizer clips a large gradient: seen in the first moment of Adam."""
        optimizer = arguments("reinforce", fill("reinforce", row), SPACE)[argument]
        _, state = optimizer.update(jnp.array([1000.0]), optimizer.init(jnp.ones(1)), jnp.ones(1))
        return 10 * float(max(jnp.abs(x).max() for x in jax.tree.leaves(state) if x.shape == (1,)))

    assert clipped({}, "value_optimizer") == pytest.approx(0.5)
    assert clipped({"max_grad_norm": 2.0}, "optimizer") == pytest.approx(2.0)
    assert clipped({"max_grad_norm": 2.0}, "value_optimizer") == pytest.approx(2.0)
    row = {"max_grad_norm": 2.0, "value_max_grad_norm": 3.0}
    assert clipped(row, "value_optimizer") == pytest.approx(3.0)
    assert clipped(row, "optimizer") == pytest.approx(2.0)


def test_the_only_optimizer_needs_no_prefix():
    names = {field.name for field in dataclasses.fields(options_type("trpo", {}))}
    assert known_name("max_grad_norm", names) == "value_max_grad_norm"
    assert known_name("anneal_learning_rate", names) == "anneal_value_learning_rate"
    assert known_name("learning_rate", {"learning_rate", "value_learning_rate"}) == "learning_rate"
    assert fill("trpo", {"max_grad_norm": 7.0}).value_max_grad_norm == 7.0
    words = ["trpo", "--max-grad-norm", "7", "--anneal-learning-rate", "--no-normalize-advantages"]
    run, *_ = train.parse([*words, "--num-steps=64"])
    assert run.options.value_max_grad_norm == 7.0 and run.options.anneal_value_learning_rate
    assert not run.options.normalize_advantages and run.options.num_steps == 64


def test_an_estimator_brings_its_options():
    names = {x.name for x in dataclasses.fields(options_type("actor_critic", {}))}
    assert "gae_lambda" in names and "n" not in names
    chosen = {"advantages": "n-step", "value_targets": "td"}
    names = {x.name for x in dataclasses.fields(options_type("actor_critic", chosen))}
    assert "n" in names and "gae_lambda" not in names
    run, *_ = train.parse(["ppo", "--advantages", "n-step", "--value-targets", "lambda", "--n", "3",
                          "--gae-lambda", "0.5", "--discount", "0.5"])  # fmt: skip
    made = arguments("ppo", run.options, SPACE)["advantage_fn"]
    zeros = jnp.zeros(4)
    advantage, target = made(zeros + 1, zeros, zeros + 8, zeros, zeros)
    np.testing.assert_allclose(advantage, [2.75, 2.75, 3.5, 5.0])  # 1 + .5 + .25 + .125 * 8, ...
    np.testing.assert_allclose(
        target, [4.015625, 4.0625, 4.25, 5.0]
    )  # 1 + .5 (.5 * 8 + .5 G_{t+1})
    with pytest.raises(ValueError, match="--advantages must be td, n-step"):
        options_type("ppo", {"advantages": "gea"})


@pytest.mark.parametrize(("baseline", "mean"), [("none", False), ("mean", True), ("value", False)])
def test_a_baseline_is_a_choice(baseline, mean):
    made = arguments("reinforce", fill("reinforce", {"baseline": baseline}), SPACE)
    assert made["mean_baseline"] is mean
    params = made["value"].init(jax.random.key(0), jnp.ones((1, 1, 3)))
    values, _ = made["value"].apply(params, (), jnp.ones((1, 1, 3)), jnp.ones((1, 1), bool))
    assert (float(values[0, 0]) != 0.0) == (baseline == "value")


def test_configurations_of_before_are_read():
    """TRPO's clip and annealing had no prefix, and there was no `eps`."""
    before = {
        "algorithm": "trpo", "env": "CartPole-v1", "num_envs": 2, "num_steps": 8, "total_steps": 64,
        "max_grad_norm": 10.0, "anneal_learning_rate": True, "hidden_sizes": [8], "discount": 0.9,
    }  # fmt: skip
    options = run_from_config(before).options
    assert options.value_max_grad_norm == 10.0 and options.anneal_value_learning_rate
    assert options.hidden_sizes == (8,) and options.value_eps == 1e-5
