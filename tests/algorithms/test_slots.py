"""What can be put into algorithms: a policy's loss, an estimator of advantages, a reward with extras."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purejaxpg as pg
from purejaxpg.functional.policy_losses import (
    clip_policy_loss,
    kl_penalty_policy_loss,
    surrogate_policy_loss,
)
from tests.small import ALGORITHMS, SIZES, cartpole, small_ppo, small_trpo

EVERY = pytest.mark.parametrize("name", ALGORITHMS)


def updated(algorithm, env_params, num_updates=1):
    run = jax.jit(lambda key: pg.train(key, algorithm, env_params, num_updates=num_updates))
    return run(jax.random.key(0))


def assert_same_params(one, two, **tolerance):
    close = partial(np.testing.assert_allclose, **(tolerance or {"rtol": 1e-5, "atol": 1e-6}))
    jax.tree.map(close, one.params, two.params)


@pytest.mark.parametrize(
    ("options", "policy_loss"),
    [
        ({"clip_eps": 0.1}, partial(clip_policy_loss, clip_eps=0.1)),
        ({"kl_coef": 0.5}, partial(kl_penalty_policy_loss, kl_coef=0.5)),
    ],
    ids=["clip", "penalty"],
)
def test_clip_and_penalty_are_functions_of_the_slot(options, policy_loss):
    env, env_params = cartpole()
    optimizer = pg.adam(1e-2)
    built_in = small_ppo(env, env_params, optimizer=optimizer, **options)
    given = small_ppo(env, env_params, optimizer=optimizer, policy_loss=policy_loss)
    (one, own), (two, other) = updated(built_in, env_params), updated(given, env_params)
    assert_same_params(one, two)
    assert ("clip_fraction" in own) == ("clip_eps" in options)
    assert "clip_fraction" not in other


def test_the_batch_holds_what_a_loss_may_depend_on():
    """A loss made of old and new distribution, transitions and extras, in the shapes that are promised."""
    env, env_params = cartpole()
    shapes = {}

    def reward_fn(transitions, log_prob, env_params):
        return transitions.reward, {"reference": log_prob - 1.0}

    def policy_loss(batch):
        shapes.update({name: jnp.shape(x) for name, x in batch._asdict().items() if name in SHAPED})
        shapes["extras"] = {name: x.shape for name, x in batch.extras.items()}
        shapes["obs"] = batch.transitions.obs.shape
        kl = batch.old_distribution.kl_divergence(batch.distribution)
        new = batch.distribution.log_prob(batch.transitions.action)
        # Exactly 1, 0 and 0 before the first step: whatever is mixed up shows.
        off = jnp.abs(batch.old_log_prob - batch.extras["reference"] - 1.0)
        return off + jnp.abs(new - batch.log_prob) + jnp.abs(kl) + 0.0 * batch.advantage

    algorithm = small_ppo(
        env, env_params, policy_loss=policy_loss, reward_fn=reward_fn, optimizer=optax.sgd(0.0),
        num_epochs=1,
    )  # fmt: skip
    _, metrics = updated(algorithm, env_params)
    assert float(metrics["policy_loss"][0]) <= 1e-5
    sample = (1, SIZES["num_envs"] * SIZES["num_steps"] // 2)
    assert {shapes[name] for name in SHAPED} == {sample}
    assert shapes["extras"] == {"reference": sample} and shapes["obs"] == (*sample, 4)


SHAPED = ("log_prob", "old_log_prob", "advantage")


def test_trpo_has_the_slot_too():
    env, env_params = cartpole()
    plain = small_trpo(env, env_params)
    given = small_trpo(env, env_params, policy_loss=surrogate_policy_loss)
    none = small_trpo(env, env_params, policy_loss=lambda batch: 0.0 * batch.log_prob)
    (one, _), (two, _), (three, metrics) = (updated(x, env_params) for x in (plain, given, none))
    assert_same_params(one, two, rtol=0, atol=0)
    start = pg.begin_training(jax.random.key(0), none, env_params)
    jax.tree.map(np.testing.assert_array_equal, three.params.policy, start.params.policy)
    assert float(metrics["step_accepted"][0]) == 0.0


def test_ppo_takes_an_advantage_fn():
    """One epoch on all samples: the policy's gradient is that of a hand-made estimator."""
    env, env_params = cartpole()
    options = {"num_epochs": 1, "num_minibatches": 1, "normalize_advantages": False}
    build = partial(small_ppo, env, env_params, optimizer=optax.sgd(0.1), **options)
    by_name, _ = updated(build(discount=0.9, gae_lambda=0.7), env_params)
    by_hand, _ = updated(
        build(advantage_fn=partial(pg.gae_advantage, discount=0.9, gae_lambda=0.7)), env_params
    )
    assert_same_params(by_name, by_hand, rtol=0, atol=0)
    default, _ = updated(build(), env_params)
    stated, _ = updated(build(discount=0.99, gae_lambda=0.95), env_params)
    assert_same_params(default, stated, rtol=0, atol=0)

    def nothing(reward, value, next_value, terminated, truncated):
        return 0.0 * value, value

    state, metrics = updated(build(advantage_fn=nothing), env_params)
    start = pg.begin_training(jax.random.key(0), build(), env_params)
    jax.tree.map(np.testing.assert_array_equal, state.params, start.params)
    assert float(metrics["policy_loss"][0]) == 0.0 and float(metrics["value_loss"][0]) == 0.0


@pytest.mark.parametrize("given", [{"gae_lambda": 0.95}, {"discount": 0.99}])
def test_hyperparameters_of_another_estimator_are_refused(given):
    env, env_params = cartpole()
    (name,) = given
    with pytest.raises(
        ValueError, match=f"{name} belong to gae_advantage: give advantage_fn its own"
    ):
        small_ppo(env, env_params, advantage_fn=pg.td_advantage, **given)


@EVERY
def test_extras_are_metrics(name):
    """Means of what `reward_fn` returns beside the reward; the reward itself is what it was."""
    env, env_params = cartpole()

    def reward_fn(transitions, log_prob, env_params):
        return transitions.reward, {"twice": 2.0 * transitions.reward, "log_prob": log_prob}

    plain, extra = (
        ALGORITHMS[name](env, env_params),
        ALGORITHMS[name](env, env_params, reward_fn=reward_fn),
    )
    (one, _), (two, metrics) = updated(plain, env_params), updated(extra, env_params)
    assert_same_params(one, two)
    assert float(metrics["twice"][0]) == 2.0  # CartPole's reward is 1
    assert -1.0 < float(metrics["log_prob"][0]) < 0.0


def test_extras_named_as_metrics_are_refused():
    env, env_params = cartpole()

    def reward_fn(transitions, log_prob, env_params):
        return transitions.reward, {"entropy": log_prob}

    algorithm = small_ppo(env, env_params, reward_fn=reward_fn)
    with pytest.raises(ValueError, match="extras named as metrics are: entropy"):
        jax.eval_shape(
            lambda key: pg.train(key, algorithm, env_params, num_updates=1), jax.random.key(0)
        )
