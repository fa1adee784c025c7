"""PPO's own promises: the first ratio, time limits, each option, traced hyperparameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import purejaxpg as pg
from purejaxpg.agent.acting import make_act
from purejaxpg.agent.rollout import begin
from purejaxpg.functional.policy_losses import surrogate_policy_loss
from tests.small import (
    SIZES,
    assert_scalars_are_traced_and_matter,
    assert_trees_equal,
    cartpole,
    small_ppo,
)


def one_update(algorithm, env_params, key=None):
    key = jax.random.key(0) if key is None else key
    state = jax.jit(algorithm.init)(key, env_params)
    return jax.device_get(jax.jit(algorithm.step)(key, state, env_params))


def large_head_policy(action_space):
    """A policy far from uniform: with a head of gain 0.01, slips of time would hardly show."""
    policy = pg.policy_network(action_space, pg.MLP((8,)))

    def init(key, obs):
        return jax.tree.map(lambda x: x * 100.0, policy.init(key, obs))

    return policy._replace(init=init)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_first_ratio_is_one(env_id):
    """Against log-probabilities recorded while acting, and in the first minibatch."""
    env, env_params = pg.make(env_id)
    policy = large_head_policy(env.action_space(env_params))
    value = pg.value_network(pg.MLP((8,)))

    def recording_loss(batch):
        return jnp.abs(batch.log_prob - batch.old_log_prob) / (1 + jnp.abs(batch.old_log_prob))

    algorithm = pg.ppo(
        env, policy, value, pg.adam(0.0), **SIZES, num_epochs=1, num_minibatches=1,
        policy_loss=recording_loss,
    )  # fmt: skip
    _, _, metrics = one_update(algorithm, env_params)
    assert float(metrics["policy_loss"]) <= 1e-5
    assert abs(float(metrics["approx_kl"])) <= 1e-6
    assert "clip_fraction" not in metrics  # there is no clip

    # A rollout that records the log-probability of each action as it is taken.
    state = jax.jit(algorithm.init)(jax.random.key(1), env_params)

    def act(key, memory, obs, start):
        distribution, memory = policy.apply(
            state.params.policy, memory, env.observe(obs, env_params)[None], start[None]
        )
        action = distribution.sample(seed=key)
        return (action[0], distribution.log_prob(action)[0]), memory

    recording = env._replace(step=lambda key, s, action, p: env.step(key, s, action[0], p))

    @jax.jit
    def record(key):
        loop = begin(key, env, env_params, (), num_envs=4)
        return pg.unroll(key, recording, env_params, act, loop, num_steps=50)[1]

    seen = jax.device_get(record(jax.random.key(2)))
    action, recorded = seen.action

    @jax.jit
    def again(params):
        return policy.apply(params, (), seen.obs, seen.start)[0].log_prob(action)

    recomputed = np.asarray(again(state.params.policy))
    assert float(recorded.std()) > 0.1  # the policy is far from uniform
    assert (np.abs(recomputed - recorded) <= 1e-5 * (1 + np.abs(recorded))).all()


PLAIN = {
    "num_minibatches": 1, "value_coef": 0.0, "normalize_advantages": False, "gae_lambda": 1.0,
}  # fmt: skip


def return_less_value(state, seen):
    """The advantage of `gae_lambda=1`, by a loop over the rollout, in float64."""
    value = pg.value_network(pg.MLP((8,)))

    apply = jax.jit(value.apply)

    def values(obs):
        return np.asarray(apply(state.params.value, (), obs, seen.start)[0], np.float64)

    reward, terminated = np.asarray(seen.reward), np.asarray(seen.terminated)
    cut = terminated | np.asarray(seen.truncated)
    v, v_next = values(seen.obs), values(seen.next_obs)
    returns = np.zeros_like(v)
    later = v_next[-1]
    for t in reversed(range(len(v))):
        later = np.where(cut[t], np.where(terminated[t], 0.0, v_next[t]), later)
        later = returns[t] = reward[t] + 0.99 * later
    return returns - v


def test_first_gradient_is_that_of_equation_9():
    """At ratio 1 the gradient of L^CLIP is that of log pi A; here without the library's losses."""
    env, env_params = cartpole()
    weight, bonus = 0.7, 0.3
    options = {**PLAIN, "value_coef": weight, "entropy_coef": bonus}
    algorithm = small_ppo(env, env_params, num_epochs=1, optimizer=optax.sgd(1.0), **options)
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    state = state._replace(  # far from uniform, where the entropy's gradient is 0
        params=jax.tree.map(lambda x: np.float32(3) * x, jax.device_get(state.params))
    )
    new, seen, _ = jax.jit(algorithm.step)(jax.random.key(0), state, env_params)
    policy = pg.policy_network(pg.Discrete(2), pg.MLP((8,)))
    value = pg.value_network(pg.MLP((8,)))
    advantage = return_less_value(state, seen)

    @jax.jit
    @jax.grad
    def gradient(params):
        probs = policy.apply(params.policy, (), seen.obs, seen.start)[0].probs
        log_prob = jnp.log(jnp.take_along_axis(probs, seen.action[..., None], -1))[..., 0]
        entropy = -jnp.sum(probs * jnp.log(probs), axis=-1)
        v = value.apply(params.value, (), seen.obs, seen.start)[0]
        error = v - jax.lax.stop_gradient(v) - advantage
        return jnp.mean(log_prob * advantage + bonus * entropy - weight * 0.5 * error**2)

    expected = jax.device_get(gradient(state.params))
    step = jax.tree.map(np.subtract, new.params, state.params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), step, expected
    )


def log_probs(params, seen):
    policy = pg.policy_network(pg.Discrete(2), pg.MLP((8,)))
    return jax.nn.log_softmax(policy.apply(params, (), seen.obs, seen.start)[0].logits)


def test_kl_penalty_is_equation_8():
    """Three steps of gradient descent on -ratio A + beta KL(old, new), replayed from the formula."""
    env, env_params = cartpole()
    rate, beta = 0.3, 2.0
    algorithm = small_ppo(
        env, env_params, num_epochs=3, optimizer=optax.sgd(rate), kl_coef=beta, **PLAIN
    )
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    new, seen, metrics = jax.jit(algorithm.step)(jax.random.key(0), state, env_params)
    advantage = return_less_value(state, seen)
    old = log_probs(state.params.policy, seen)

    @jax.jit
    @jax.value_and_grad
    def loss(params, beta):
        now = log_probs(params, seen)
        one = jax.nn.one_hot(seen.action, 2)
        ratio = jnp.exp(((now - old) * one).sum(-1))
        return jnp.mean(-ratio * advantage + beta * (jnp.exp(old) * (old - now)).sum(-1))

    def replay(beta):
        params, total = state.params.policy, 0.0
        for _ in range(3):
            value, grads = jax.device_get(loss(params, beta))
            params = jax.tree.map(lambda x, g: x - np.float32(rate) * g, params, grads)
            total += value / 3
        return params, total

    expected, mean_loss = replay(beta)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
        new.params.policy, expected,
    )  # fmt: skip
    np.testing.assert_allclose(metrics["policy_loss"], mean_loss, rtol=1e-4)
    assert float(metrics["kl_coef"]) == float(new.kl_coef) == beta
    free, _ = replay(0.0)  # and the penalty did matter
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), free, expected)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_adaptive_kl_coef_follows_the_kl_of_the_whole_update():
    """Twice beyond 1.5 times the target, half below its 1.5th part, of KL(old, new) as it is outside."""
    env, env_params = cartpole()

    @jax.jit
    def update(adaptive_kl):
        algorithm = small_ppo(
            env, env_params, optimizer=pg.adam(0.1), kl_coef=0.5, adaptive_kl=adaptive_kl
        )
        state = algorithm.init(jax.random.key(3), env_params)
        new, seen, _ = algorithm.step(jax.random.key(3), state, env_params)
        return new.kl_coef, [log_probs(x.params.policy, seen) for x in (state, new)]

    old, new = map(np.float64, update(1.0)[1])
    kl, reverse = ((np.exp(p) * (p - q)).sum(-1).mean() for p, q in ((old, new), (new, old)))
    assert abs(reverse / kl - 1) > 0.1  # far enough to tell one direction from the other
    for factor, expected in ((1.49, 0.5), (1.51, 1.0), (1 / 1.49, 0.5), (1 / 1.51, 0.25)):
        assert float(update(kl / factor)[0]) == expected, factor


BASELINE = {
    "discount": 0.99, "gae_lambda": 0.7, "clip_eps": 0.2, "value_coef": 0.7, "entropy_coef": 0.7,
    "value_clip_eps": 10.0, "target_kl": 10.0,
}  # fmt: skip
CHANGED = {
    "discount": 0.9, "gae_lambda": 0.5, "clip_eps": 0.01, "value_coef": 0.1, "entropy_coef": 0.3,
    "value_clip_eps": 0.01, "target_kl": 1e-9,
}  # fmt: skip


def test_every_scalar_is_traced_and_matters():
    env, env_params = cartpole()
    rows = [BASELINE, *({**BASELINE, name: value} for name, value in CHANGED.items())]

    def run(key, scalars):
        algorithm = small_ppo(env, env_params, optimizer=pg.adam(1e-2), num_epochs=4, **scalars)
        return pg.train(key, algorithm, env_params, num_updates=2)[0].params

    key = jax.random.key(0)
    zipped = {name: jnp.array([row[name] for row in rows]) for name in BASELINE}
    swept = jax.tree.map(lambda x: x[:, 0], jax.device_get(pg.sweep(run, key[None], zipped)))
    alone = jax.jit(lambda key: run(key, BASELINE))(key)  # Python floats, not traced
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x[0], y, rtol=1e-4, atol=1e-5), swept, alone
    )
    for i, name in enumerate(CHANGED, start=1):
        moved = jax.tree.map(lambda x, i=i: np.abs(x[i] - x[0]).max(), swept)
        assert max(jax.tree.leaves(moved)) > 1e-6, name


def test_kl_coefficients_are_traced():
    env, env_params = cartpole()

    def run(key, kl_coef, adaptive_kl):
        algorithm = small_ppo(
            env, env_params, optimizer=pg.adam(1e-2), kl_coef=kl_coef, adaptive_kl=adaptive_kl
        )
        return pg.train(key, algorithm, env_params, num_updates=3)[0].params

    assert_scalars_are_traced_and_matter(run, [(1.0, 1e-6), (100.0, 1e-6), (1.0, 1e3)])


def test_learning_rate_and_schedules_are_traced():
    env, env_params = cartpole()

    def run(key, rate, clip):
        optimizer = pg.adam(rate, decay_steps=16)
        clip_eps = pg.linear_decay(clip, 4)
        algorithm = small_ppo(env, env_params, optimizer=optimizer, clip_eps=clip_eps)
        return pg.train(key, algorithm, env_params, num_updates=4)

    keys = jax.random.split(jax.random.key(0), 2)
    state, metrics = pg.sweep(run, keys, jnp.array([0.0, 1e-2]), jnp.array([0.2, 0.2]))
    assert metrics["policy_loss"].shape == (2, 2, 4)
    begun = jax.jit(jax.vmap(lambda key: run_init(env, env_params, key)))(keys)
    params, begun = jax.device_get((state.params, begun))
    still = jax.tree.map(lambda x, y: (x[0] == y).all(), params, begun)
    assert all(jax.tree.leaves(still))  # a rate of 0 learns nothing


def run_init(env, env_params, key):
    return pg.begin_training(key, small_ppo(env, env_params), env_params).params


def test_a_schedule_is_its_value_at_the_update():
    env, env_params = cartpole()
    fixed = small_ppo(env, env_params, entropy_coef=0.5)
    scheduled = small_ppo(
        env, env_params, entropy_coef=lambda update: jnp.where(update == 0, 0.5, 9)
    )
    first, second = (one_update(a, env_params)[0] for a in (fixed, scheduled))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), first, second)


def test_target_kl_stops_the_epochs():
    env, env_params = cartpole()
    stopped = small_ppo(
        env, env_params, target_kl=1e-12, num_epochs=4, optimizer=pg.adam(1e-2, max_grad_norm=10.0)
    )
    state = jax.jit(stopped.init)(jax.random.key(0), env_params)
    new, _, metrics = jax.jit(stopped.step)(jax.random.key(0), state, env_params)
    # The first minibatch has KL 0; after its step every other exceeds the target.
    assert float(metrics["applied_fraction"]) == 1 / 8
    count = [x for x in jax.tree.leaves(new.opt_state) if x.dtype == jnp.int32]
    assert [int(x) for x in count] == [1] * len(count)


def test_reward_fn_is_what_is_learnt_from():
    env, env_params = cartpole()
    seen = {}

    def reward_fn(transitions, log_prob, env_params):
        seen["shapes"] = transitions.reward.shape, log_prob.shape
        return jnp.zeros_like(transitions.reward)

    plain, zero = small_ppo(env, env_params), small_ppo(env, env_params, reward_fn=reward_fn)
    _, transitions, _ = one_update(plain, env_params)
    _, again, metrics = one_update(zero, env_params)
    assert seen["shapes"] == ((8, 4), (8, 4))
    assert_trees_equal(transitions, again)  # the environment is as it was ...
    assert float(metrics["value_loss"]) < 1.0  # ... and returns are nearly 0
    assert float(one_update(plain, env_params)[2]["value_loss"]) > 1.0


def test_custom_policy_loss():
    env, env_params = cartpole()
    algorithm = small_ppo(
        env, env_params, policy_loss=lambda batch: 0.0 * batch.log_prob,
        optimizer=optax.sgd(0.1),
    )  # fmt: skip
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    new, _, metrics = jax.jit(algorithm.step)(jax.random.key(0), state, env_params)
    assert_trees_equal(new.params.policy, state.params.policy)
    assert float(metrics["policy_loss"]) == 0.0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_minibatches": 3}, "num_minibatches=3 must be at least 1 and divide"),
        ({"num_minibatches": 0}, "num_minibatches must be at least 1, not 0"),
        ({"num_envs": 0}, "num_envs must be at least 1, not 0"),
        ({"num_epochs": 0}, "num_epochs must be at least 1, not 0"),
        ({"adaptive_kl": 0.01}, "adaptive_kl needs a kl_coef"),
        ({"kl_coef": 1.0, "policy_loss": surrogate_policy_loss}, "policy_loss excludes both"),
    ],
)
def test_wrong_arguments(options, sentence):
    env, env_params = cartpole()
    with pytest.raises(ValueError, match=sentence):
        small_ppo(env, env_params, **options)


def test_a_policy_for_other_actions_is_refused():
    env, env_params = pg.make("Pendulum-v1")
    discrete = pg.policy_network(pg.Discrete(2), pg.MLP((8,)))
    algorithm = pg.ppo(env, discrete, pg.value_network(), pg.adam(1e-3))
    with pytest.raises(ValueError, match="continuous actions of shape"):
        algorithm.init(jax.random.key(0), env_params)


def test_acting_is_deterministic_on_request():
    env, env_params = pg.make("Pendulum-v1")
    algorithm = small_ppo(env, env_params)
    state = algorithm.init(jax.random.key(0), env_params)
    obs = jnp.ones((3, 3))
    policy = pg.policy_network(env.action_space(env_params), pg.MLP((8,)))
    act = partial(make_act(env, policy), env_params=env_params)
    args = (state, (), obs, jnp.zeros(3, bool))
    first, _ = act(jax.random.key(1), *args, deterministic=True)
    second, _ = act(jax.random.key(2), *args, deterministic=True)
    sampled, _ = act(jax.random.key(2), *args)
    np.testing.assert_array_equal(first, second)
    assert (sampled != first).all()
