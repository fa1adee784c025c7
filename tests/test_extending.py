"""Changing one thing by the code of the library's page, and the page's algorithm in the programs."""

import re
from pathlib import Path

import jax
import pytest

import purejaxpg as pg
from experiments import evaluate, train
from experiments.common.algorithms import ALGORITHMS
from experiments.common.results import read_config, read_json

PAGE = (Path(pg.__file__).parent / "README.md").read_text()


def block_under(heading: str) -> str:
    """The first Python block of a section."""
    section = PAGE.partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
    return re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)[1]


@pytest.fixture(scope="module")
def algorithm():
    """What the block on a new algorithm defines; its use below that is run with all blocks of the pages."""
    names: dict = {"__name__": "page"}
    definition, made, _ = block_under("A new algorithm").partition("\nenv, env_params = pg.make")
    assert made
    exec(compile(definition, "page", "exec"), names)
    return names["joint_actor_critic"]


def test_the_algorithm_learns_something(algorithm):
    env, env_params = pg.make("CartPole-v1")
    policy, value = pg.policy_network(env.action_space(env_params)), pg.value_network()
    built = algorithm(env, policy, value, pg.adam(1e-2), num_envs=8, num_steps=32)

    @jax.jit
    def run(key):
        state, _ = pg.train(key, built, env_params, num_updates=60)
        return pg.evaluate(key, built, state, env, env_params, num_episodes=32).returns.mean()

    assert run(jax.random.key(0)) > 60  # a random policy has about 22


def test_one_line_makes_it_known_to_the_programs(algorithm, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(ALGORITHMS, "joint_actor_critic", algorithm)
    with pytest.raises(SystemExit):
        train.main(["joint_actor_critic", "--help"])
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for flag in ("value-coef", "anneal-value-coef", "learning-rate", "max-grad-norm", "advantages"):
        assert f"--{flag}" in shown
    assert "Weight of the value loss. (default: 0.5)" in shown
    tiny = "--num-envs 2 --num-steps 8 --total-steps 96 --seeds 3 --hidden-sizes 8 --evaluations 2"
    options = f"--eval-episodes 2 --value-coef 0.7 --advantages n-step --n 3 --output {tmp_path}"
    assert train.main(["joint_actor_critic", *tiny.split(), *options.split()]) == 0
    folder = tmp_path / "joint_actor_critic-CartPole-v1"
    config = read_config(folder)["config"]
    assert (config["value_coef"], config["n"], config["discount"]) == (0.7, 3, 0.99)
    assert read_json(folder / "summary.json")["seeds_diverged"] == 0
    assert evaluate.main([str(folder), "--episodes", "2"]) == 0
    assert train.main(["joint_actor_critic", "--resume", "--output", str(tmp_path)]) == 0
    message = train.main(["joint_actor_critic", "--value-coef", "-1", "--output", str(tmp_path)])
    assert message == 2 and "--value-coef must be at least 0" in capsys.readouterr().err


HEADINGS = ("A new loss", "A new wrapper", "A new network", "A new algorithm")


@pytest.mark.parametrize("heading", HEADINGS)
def test_blocks_train_vmap_and_evaluate(heading):
    """And assert what comes of it, where test_readme.py runs all blocks of the pages."""
    block = block_under(heading)
    for word in ("pg.train(", "jax.vmap(", "pg.evaluate(", "assert returns.shape == (3,)"):
        assert word in block
