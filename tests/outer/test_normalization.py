"""Normalisation around algorithms: statistics against NumPy, frozen while used, carried with the policy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.outer.normalization import NormalizationParams
from purejaxpg.training import checkpoint
from tests.algorithms.test_ppo import large_head_policy
from tests.small import ALGORITHMS, assert_trees_equal, cartpole, small_ppo

DISCOUNT = 0.9


def both(build, **options):
    rewards = pg.normalize_rewards(build, discount=DISCOUNT, **options)
    return pg.normalize_observations(rewards, **options)


def both_the_other_way(build, **options):
    observations = pg.normalize_observations(build, **options)
    return pg.normalize_rewards(observations, discount=DISCOUNT, **options)


def on_cartpole(name, normalized=both, **options):
    env, env_params = cartpole()
    space = env.action_space(env_params)
    return normalized(lambda env: ALGORITHMS[name](env, env_params, action_space=space))(env)


def several_updates(algorithm, env_params, number=3):
    """States before and after each update, and the transitions of each."""
    states = [jax.jit(algorithm.init)(jax.random.key(0), env_params)]
    step, seen = jax.jit(algorithm.step), []
    for i in range(number):
        output = step(jax.random.key(i), states[-1], env_params)
        state, transitions, metrics = jax.device_get(output)  # NumPy's arithmetic compiles nothing
        assert all(np.isfinite(value).all() for value in metrics.values())
        states.append(state)
        seen.append(transitions)
    return states, seen


def running_returns(seen, reward, begin):
    """discount G + reward along each environment, over all rollouts in turn."""
    total, result = begin, []
    for t in range(len(seen.reward)):
        total = np.where(seen.start[t], 0.0, total) * DISCOUNT + reward[t]
        result.append(total)
    return np.stack(result)


def assert_statistics(statistics, samples):
    samples = np.asarray(samples, np.float64)
    assert statistics.num_samples == len(samples)
    np.testing.assert_allclose(statistics.mean, samples.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(statistics.variance, samples.var(axis=0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("normalized", [both, both_the_other_way])
def test_statistics_are_those_of_all_that_was_seen(name, normalized):
    if normalized is both_the_other_way and name not in ("ppo", "reinforce"):
        pytest.skip("the other order is tested with two algorithms")
    states, seen = several_updates(on_cartpole(name, normalized), cartpole()[1])
    first, second = (lambda state: state), (lambda state: state.inner)
    of_obs, of_reward = (first, second) if normalized is both else (second, first)
    total, returns, obs = 0.0, [], []
    for before, after, transitions in zip(states, states[1:], seen):
        assert transitions.obs.max() != 0  # raw, as CartPole gave them
        # The scale of a whole rollout is that of the statistics from before it.
        scale = np.sqrt(np.asarray(of_reward(before).statistics.variance, np.float64))
        scaled = np.broadcast_to(np.clip(1 / scale, -10, 10), transitions.reward.shape)
        np.testing.assert_allclose(transitions.reward, scaled, rtol=1e-5)
        running = running_returns(transitions, np.ones_like(transitions.reward), total)
        total = running[-1]
        obs.append(transitions.obs.reshape(-1, 4))
        returns.append(running.reshape(-1))
        assert_statistics(of_obs(after).statistics, np.concatenate(obs))
        assert_statistics(of_reward(after).statistics, np.concatenate(returns))
        np.testing.assert_allclose(transitions.info["discounted_return"], running, rtol=1e-5)


def test_first_ratio_is_one_and_networks_see_normalised_observations():
    """In every update, against log-probabilities that NumPy's normalisation gives; a large head shows slips."""
    env, env_params = cartpole()
    policy = large_head_policy(env.action_space(env_params))
    value = pg.value_network(pg.MLP((8,)))

    def train_with(loss):
        def build(env):
            return pg.ppo(
                env, policy, value, pg.adam(1e-2), num_envs=4, num_steps=32, num_epochs=1,
                num_minibatches=1, entropy_coef=0.0, policy_loss=loss,
            )  # fmt: skip

        algorithm = both(build)(env)
        state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
        states, seen, losses = [state], [], []
        step = jax.jit(algorithm.step)
        for i in range(3):
            state, transitions, metrics = step(jax.random.key(i), state, env_params)
            states.append(state)
            seen.append(transitions)
            losses.append(float(metrics["policy_loss"]))
        return states, seen, losses

    _, _, off = train_with(lambda batch: jnp.abs(jnp.exp(batch.log_prob - batch.old_log_prob) - 1))
    assert max(off) <= 1e-6
    states, seen, recorded = train_with(lambda batch: batch.old_log_prob + 0 * batch.log_prob)
    for before, transitions, mean_log_prob in zip(states, seen, recorded):
        _, mean, variance = (np.asarray(x, np.float64) for x in before.statistics)
        obs = np.clip((np.asarray(transitions.obs) - mean) / np.sqrt(variance), -10, 10)
        distribution, _ = policy.apply(
            before.inner.inner.params.policy, (), jnp.float32(obs), transitions.start
        )
        log_prob = distribution.log_prob(transitions.action)
        np.testing.assert_allclose(mean_log_prob, log_prob.mean(), rtol=1e-4)
        # Acting meant the same: actions are as likely as the policy says, within 5 deviations.
        entropy = -(distribution.probs * distribution.logits).sum(-1)
        spread = (distribution.probs * distribution.logits**2).sum(-1) - entropy**2
        assert abs(log_prob.sum() + entropy.sum()) <= 5 * np.sqrt(spread.sum())
        raw = policy.apply(
            before.inner.inner.params.policy, (), transitions.obs, transitions.start
        )[0]
    # The check would have told raw observations from normalised ones.
    assert abs(float(raw.log_prob(transitions.action).mean()) - mean_log_prob) > 1e-2


class Ramp(NamedTuple):
    time: jax.Array


def ramp_env():
    """Observation (1000 + t, 0.1) in integers of t, reward 100 (t - 2), an episode of five steps."""

    def obs_of(time):
        return jnp.stack([1000.0 + time, jnp.full((), 0.1)])

    def reset(key, params):
        return obs_of(jnp.zeros(())), Ramp(jnp.zeros(()))

    def step(key, state, action, params):
        reward = 100.0 * (state.time - 2)
        time = state.time + 1
        return obs_of(time), Ramp(time), reward, time >= 5, jnp.array(False), {}

    return pg.episode_statistics(
        pg.Env(reset, step, lambda params: pg.Box(0, 0, (2,)), lambda params: pg.Discrete(2))
    )


def test_rewards_keep_their_sign_and_both_are_clipped():
    env = ramp_env()
    below = []

    def build(env):
        below.append(env)
        return small_ppo(env, None, action_space=pg.Discrete(2), num_steps=10)

    algorithm = both(build)(env)
    state = jax.jit(algorithm.init)(jax.random.key(0), None)
    step = jax.jit(algorithm.step)
    state, seen, metrics = step(jax.random.key(0), state, None)
    # Raw at first: the statistics of nothing scale by 1. Rewards of -200 ... 200 are clipped.
    np.testing.assert_allclose(seen.reward[:5, 0], [-10, -10, 0, 10, 10], atol=1e-5)
    assert metrics["episode_return_sum"] == 0  # the sum of the raw rewards of whole episodes
    np.testing.assert_allclose(seen.obs[0, 0], [1000, 0.1])
    returns = running_returns(seen, np.tile(100.0 * np.arange(-2, 3), 2)[:, None], 0.0)
    statistics = state.statistics
    _, seen, _ = step(jax.random.key(0), state, None)
    expected = 100.0 * np.arange(-2, 3) / np.std(returns)
    np.testing.assert_allclose(seen.reward[:5, 0], expected, rtol=1e-4)  # no mean subtracted
    # Standardised: (t - 2) over the deviation of 0 ... 4. The constant is 0, and far away is 10.
    obs = jnp.array([[1000.0, 0.1], [1004.0, 0.1], [2000.0, 0.2], [-2000.0, 0.0]])
    nested = NormalizationParams(NormalizationParams(None, statistics), state.inner.statistics)
    shown = below[0].observe(obs, nested)
    side = 2 / np.sqrt(2)
    np.testing.assert_allclose(shown, [[-side, 0], [side, 0], [10, 10], [-10, -10]], rtol=1e-4)


@pytest.mark.parametrize("normalized", [both, both_the_other_way])
def test_warm_up_gives_the_first_statistics(normalized):
    warm = on_cartpole("ppo", lambda build: normalized(build, warmup_steps=8))
    state = jax.jit(warm.init)(jax.random.key(0), cartpole()[1])
    assert state.statistics.num_samples == state.inner.statistics.num_samples == 16 * 8
    of_obs = (state if normalized is both else state.inner).statistics
    # CartPole begins uniformly in +-0.05 and is pushed to and fro: velocities vary most.
    assert (of_obs.variance > 1e-4).all() and (of_obs.variance < 1).all()
    assert of_obs.variance[1] > of_obs.variance[0]
    _, transitions, _ = jax.jit(warm.step)(jax.random.key(0), state, cartpole()[1])
    assert not (transitions.reward == 1).any()  # scaled from the first rollout on


def test_a_seed_taken_out_plays_as_at_the_end_of_training():
    """Return of the last rollout against `evaluate` with the plain environment, from the state alone."""
    env, env_params = pg.make("CartPole-v1", max_steps_in_episode=100)
    policy, value = pg.policy_network(env.action_space(env_params)), pg.value_network()

    def ppo_of(**options):
        def build(env):
            return pg.ppo(env, policy, value, **options)

        return both(build)(env)

    learning = ppo_of(
        optimizer=pg.adam(1e-3), num_envs=8, num_steps=64, discount=DISCOUNT, entropy_coef=0.0
    )
    keys = jax.random.split(jax.random.key(0), 2)
    states, _ = pg.sweep(lambda key: pg.train(key, learning, env_params, num_updates=12), keys)
    state = jax.tree.map(lambda x: x[0, 1], jax.device_get(states))

    def last_rollout(key):
        """Of the policy in the loop of training, with its statistics: whole episodes from their start."""
        acting = ppo_of(optimizer=pg.adam(0.0), num_envs=256, num_steps=100, num_epochs=1)
        inner = acting.init(key, env_params).inner.inner._replace(params=state.inner.inner.params)
        begun = state._replace(inner=state.inner._replace(inner=inner))
        _, seen, _ = acting.step(key, begun, env_params)
        done = seen.terminated | seen.truncated
        first = jnp.cumsum(done, axis=0) - done == 0
        return jnp.sum(first & done) == 256, jnp.sum(first, axis=0)

    complete, lengths = jax.jit(last_rollout)(jax.random.key(1))
    assert complete
    test = jax.jit(
        lambda key, state: pg.evaluate(key, learning, state, env, env_params, num_episodes=256)
    )
    episodes = test(jax.random.key(2), state)
    assert 30 < lengths.mean() < 100  # it has learnt, and there is something to tell apart
    error = np.sqrt((lengths.var() + episodes.returns.var()) / 256)
    assert abs(lengths.mean() - episodes.returns.mean()) <= 4 * error
    # Without its statistics the policy plays another game.
    blank = jax.jit(learning.init)(jax.random.key(0), env_params).statistics
    blank = state._replace(statistics=blank)
    assert abs(test(jax.random.key(2), blank).returns.mean() - lengths.mean()) > 8 * error


def test_a_checkpoint_goes_on_bitwise(tmp_path):
    env_params = cartpole()[1]
    algorithm = on_cartpole("ppo")
    key = jax.random.key(5)

    @jax.jit
    def two_more(state):
        return pg.train(key, algorithm, env_params, num_updates=2, state=state)[0]

    begun = jax.jit(lambda: pg.begin_training(key, algorithm, env_params))()
    middle = two_more(begun)
    checkpoint.save(tmp_path / "middle", middle)
    like = jax.eval_shape(algorithm.init, key, env_params)
    restored = checkpoint.restore(tmp_path / "middle", like)
    assert_trees_equal(restored, middle)
    assert_trees_equal(two_more(restored), two_more(middle))


def test_other_kinds_of_observations():
    """Booleans and one-hot observations are normalised as networks see them."""
    for env_id, size in (("Breakout-MinAtar", (10, 10, 4)), ("FrozenLake-misc", (16,))):
        env, env_params = pg.make(env_id)
        space = env.action_space(env_params)
        algorithm = both(lambda env, space=space: small_ppo(env, None, action_space=space))(env)
        states, seen = several_updates(algorithm, env_params, 1)
        assert states[-1].statistics.mean.shape == size
        assert seen[0].obs.dtype == env.reset(jax.random.key(0), env_params)[0].dtype
        obs = np.concatenate([np.asarray(x.obs).reshape(32, -1) for x in seen])
        if env_id == "FrozenLake-misc":
            obs = np.eye(16)[obs[:, 0]]
        assert_statistics(states[-1].statistics, obs.reshape(-1, *size))


def test_what_makes_no_sense_is_refused():
    env, env_params = cartpole()
    space = env.action_space(env_params)

    def build(env):
        return small_ppo(env, None, action_space=space)

    with pytest.raises(ValueError, match="warmup_steps must be at least 0 and finite, not -1"):
        pg.normalize_observations(build, warmup_steps=-1)(env)
    twice = pg.normalize_rewards(pg.normalize_rewards(build, discount=0.9), discount=0.9)(env)
    with pytest.raises(ValueError, match="normalised already"):
        key = jax.random.key(0)
        state = jax.eval_shape(twice.init, key, env_params)
        jax.eval_shape(twice.step, key, state, env_params)


@pytest.mark.parametrize("normalized", [both, both_the_other_way])
def test_one_broken_sample_does_not_spoil_the_statistics(normalized):
    """Every third step of an environment shows NaN, or pays infinity; the metrics count such samples."""
    env, env_params = cartpole()

    def step(key, state, action, params):
        obs, new, reward, *rest = env.step(key, state, action, params)
        broken = new.episode_length % 3 == 0
        return jnp.where(broken, jnp.nan, obs), new, jnp.where(broken, jnp.inf, reward), *rest

    space = env.action_space(env_params)
    build = normalized(lambda env: small_ppo(env, env_params, action_space=space))
    algorithm = build(env._replace(step=step))
    state = jax.jit(algorithm.init)(jax.random.key(0), env_params)
    after, transitions, metrics = jax.jit(algorithm.step)(jax.random.key(1), state, env_params)
    broken = ~np.isfinite(transitions.obs).all(axis=-1)
    assert 0 < metrics["observations_left_out"] == broken.sum()
    assert 0 < metrics["rewards_left_out"] < transitions.reward.size
    statistics = after.statistics, after.inner.statistics
    of_obs, of_reward = statistics if normalized is both else statistics[::-1]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(statistics))
    assert_statistics(of_obs, np.asarray(transitions.obs)[~broken])
    assert of_reward.num_samples == transitions.reward.size - metrics["rewards_left_out"]


@pytest.mark.parametrize("between", [lambda build: build, both_the_other_way])
def test_normalising_twice_is_refused(between):
    env, env_params = cartpole()
    build = lambda env: small_ppo(env, env_params, action_space=pg.Discrete(2))  # noqa: E731
    twice = {
        "observations": pg.normalize_observations(between(pg.normalize_observations(build))),
        "rewards": pg.normalize_rewards(
            between(pg.normalize_rewards(build, discount=0.9)), discount=0.9
        ),
    }
    for what, built in twice.items():
        with pytest.raises(ValueError, match=f"The {what} are normalised already"):
            jax.eval_shape(built(env).init, jax.random.key(0), env_params)
