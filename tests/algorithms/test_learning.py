"""Learning, with the default options of the command line, on seeds that nothing was tuned on."""

import numpy as np
import pytest

import purejaxpg as pg
from experiments.common.defaults import defaults
from experiments.common.options import fill
from experiments.common.runs import make_run
from purejaxpg.reporting.statistics import iqm
from purejaxpg.training.train import evaluation_key

# The interquartile mean over 16 seeds that must be reached. Random play: CartPole 22, Pendulum -1200.
LEAST = {
    ("ppo", "CartPole-v1"): 495,
    ("trpo", "CartPole-v1"): 495,
    ("reinforce", "CartPole-v1"): 483,
    ("off_policy_gradient", "CartPole-v1"): 483,
    ("actor_critic", "CartPole-v1"): 495,
    ("online_actor_critic", "CartPole-v1"): 195,
    ("reinforce", "Pendulum-v1"): -200,
    ("actor_critic", "Pendulum-v1"): -163,
    ("online_actor_critic", "Pendulum-v1"): -700,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "env_id"), LEAST, ids=["-".join(pair) for pair in LEAST])
def test_learns(name, env_id):
    row = {**defaults(name, env_id), "seeds": 16, "seed": 100}
    run = make_run(name, fill(name, row))

    def one(key):
        state, _ = pg.train(key, run.algorithm, run.env_params, num_updates=run.num_updates)
        return pg.evaluate(
            evaluation_key(key, state.update),
            run.algorithm,
            state,
            run.env,
            run.env_params,
            num_episodes=64,
        ).returns.mean()

    returns = np.asarray(pg.sweep(one, run.keys()))[0]
    print(np.round(np.sort(returns), 1))
    assert iqm(returns) >= LEAST[name, env_id]
