"""What can be put into algorithms: a policy's loss, an estimator of advantages, a reward with extras.

Programs that must be the same are compared as programs (jaxprs): nothing is compiled for it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purejaxpg as pg
from purejaxpg.functional.policy_losses import (
    PolicyBatch,
    clip_policy_loss,
    kl_penalty_policy_loss,
    surrogate_policy_loss,
)
from tests.small import ALGORITHMS, SIZES, cartpole, small_ppo, small_trpo

EVERY = pytest.mark.parametrize("name", ALGORITHMS)
SHAPED = ("log_prob", "old_log_prob", "advantage")
ENV, ENV_PARAMS = cartpole()


def program(algorithm):
    """An update as text."""
    state = jax.eval_shape(algorithm.init, jax.random.key(0), ENV_PARAMS)
    step = jax.make_jaxpr(lambda key, state: algorithm.step(key, state, ENV_PARAMS))
    return str(step(jax.random.key(0), state))


def metrics_of(algorithm):
    """Shapes of the metrics of an update."""
    state = jax.eval_shape(algorithm.init, jax.random.key(0), ENV_PARAMS)
    return jax.eval_shape(
        lambda state: algorithm.step(jax.random.key(0), state, ENV_PARAMS), state
    )[2]


def test_clip_and_penalty_are_functions_of_a_batch():
    """Two actions of one state: old probabilities 1/2 each, new ones 0.8 and 0.2; advantages 3 and -3."""
    old = pg.categorical(jnp.zeros((1, 2, 2)))
    new = pg.categorical(jnp.log(jnp.array([[[0.8, 0.2], [0.8, 0.2]]])))
    action = jnp.array([[0, 1]])
    batch = PolicyBatch(
        new.log_prob(action), old.log_prob(action), jnp.array([[3.0, -3.0]]), new, old, None, {}
    )
    kl = 0.5 * np.log(0.5 / 0.8) + 0.5 * np.log(0.5 / 0.2)
    found = surrogate_policy_loss(batch)  # ratios 1.6 and 0.4
    np.testing.assert_allclose(found, [[-4.8, 1.2]], rtol=1e-5)
    np.testing.assert_allclose(clip_policy_loss(batch, clip_eps=0.1), [[-3.3, 2.7]], rtol=1e-5)
    penalised = kl_penalty_policy_loss(batch, kl_coef=2.0)
    np.testing.assert_allclose(penalised, [[-4.8 + 2 * kl, 1.2 + 2 * kl]], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "clipped"),
    [
        ({"clip_eps": 0.1}, True),
        ({"kl_coef": 0.5}, False),
        ({"policy_loss": partial(clip_policy_loss, clip_eps=0.1)}, False),
    ],
)
def test_the_clip_fraction_is_reported_where_there_is_a_clip(options, clipped):
    assert ("clip_fraction" in metrics_of(small_ppo(ENV, ENV_PARAMS, **options))) == clipped


def test_the_batch_holds_what_a_loss_may_depend_on():
    """A loss made of old and new distribution, transitions and extras, in the shapes that are promised."""
    shapes = {}

    def reward_fn(transitions, log_prob, env_params):
        return transitions.reward, {"reference": log_prob - 1.0}

    def policy_loss(batch):
        shapes.update({name: jnp.shape(x) for name, x in batch._asdict().items() if name in SHAPED})
        shapes["extras"] = {name: x.shape for name, x in batch.extras.items()}
        shapes["obs"] = batch.transitions.obs.shape
        kl = batch.old_distribution.kl_divergence(batch.distribution)
        new = batch.distribution.log_prob(batch.transitions.action)
        # Exactly 0 each before the first step: whatever is mixed up shows.
        off = jnp.abs(batch.old_log_prob - batch.extras["reference"] - 1.0)
        return off + jnp.abs(new - batch.log_prob) + jnp.abs(kl) + 0.0 * batch.advantage

    algorithm = small_ppo(
        ENV, ENV_PARAMS, policy_loss=policy_loss, reward_fn=reward_fn, optimizer=optax.sgd(0.0),
        num_epochs=1,
    )  # fmt: skip
    run = jax.jit(lambda key: pg.train(key, algorithm, ENV_PARAMS, num_updates=1))
    _, metrics = run(jax.random.key(0))
    assert float(metrics["policy_loss"][0]) <= 1e-5
    assert -2.0 < float(metrics["reference"][0]) < -1.0  # a mean of log-probabilities less 1
    sample = (1, SIZES["num_envs"] * SIZES["num_steps"] // 2)
    assert {shapes[name] for name in SHAPED} == {sample}
    assert shapes["extras"] == {"reference": sample} and shapes["obs"] == (*sample, 4)


def test_trpo_has_the_slot_too():
    plain = program(small_trpo(ENV, ENV_PARAMS))
    assert program(small_trpo(ENV, ENV_PARAMS, policy_loss=surrogate_policy_loss)) == plain
    doubled = small_trpo(
        ENV, ENV_PARAMS, policy_loss=lambda batch: 2.0 * surrogate_policy_loss(batch)
    )
    assert program(doubled) != plain


def test_ppo_takes_an_advantage_fn():
    build = partial(small_ppo, ENV, ENV_PARAMS)
    by_hand = partial(pg.gae_advantage, discount=0.9, gae_lambda=0.7)
    assert program(build(discount=0.9, gae_lambda=0.7)) == program(build(advantage_fn=by_hand))
    assert program(build()) == program(build(discount=0.99, gae_lambda=0.95))
    assert program(build()) != program(build(advantage_fn=pg.td_advantage))


@pytest.mark.parametrize("given", [{"gae_lambda": 0.95}, {"discount": 0.99}])
def test_hyperparameters_of_another_estimator_are_refused(given):
    (name,) = given
    with pytest.raises(
        ValueError, match=f"{name} belong to gae_advantage: give advantage_fn its own"
    ):
        small_ppo(ENV, ENV_PARAMS, advantage_fn=pg.td_advantage, **given)


@EVERY
def test_extras_are_metrics(name):
    """Beside those that there are without."""

    def reward_fn(transitions, log_prob, env_params):
        return transitions.reward, {"twice": 2.0 * transitions.reward, "log_prob": log_prob}

    plain = metrics_of(ALGORITHMS[name](ENV, ENV_PARAMS))
    extra = metrics_of(ALGORITHMS[name](ENV, ENV_PARAMS, reward_fn=reward_fn))
    assert set(extra) == {*plain, "twice", "log_prob"}
    assert extra["twice"].shape == ()


def test_extras_named_as_metrics_are_refused():
    def reward_fn(transitions, log_prob, env_params):
        return transitions.reward, {"entropy": log_prob}

    with pytest.raises(ValueError, match="extras named as metrics are: entropy"):
        metrics_of(small_ppo(ENV, ENV_PARAMS, reward_fn=reward_fn))
