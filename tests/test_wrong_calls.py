"""The likeliest wrong calls of everything public end in one sentence that says what is allowed.

A row is a public name, what is wrong, the call, the exception and words of its message. A new public name needs
at least two rows.
"""

import math
import re
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces as gymnax_spaces

import purejaxpg as pg
from purejaxpg.agent.rollout import Loop
from purejaxpg.functional import diagnostics, eligibility, finite_mdp, policy_losses
from purejaxpg.functional import running_statistics as running
from purejaxpg.functional.advantages import normalize
from purejaxpg.functional.distributions import check_support
from purejaxpg.functional.schedules import adapt_kl_coef, resolve
from purejaxpg.networks.recurrent import recurrent
from tests.small import ALGORITHMS, small_actor_critic, small_ppo

LONGEST = 250
KEY, LEGACY = jax.random.key(0), jax.random.PRNGKey(0)
T, T1, TB = jnp.ones(3), jnp.ones((3, 1)), jnp.ones((3, 2))
LIST = [1.0, 2.0, 3.0]
NEVER = jnp.zeros(3, bool)
ADAM, VALUE, TORSO = pg.adam(), pg.value_network(pg.MLP((4,))), pg.MLP((4,))
MDP = pg.FiniteMDP(jnp.array([[[1.0], [0.0]]]), jnp.array([[1.0, 3.0]]), jnp.array([1.0]))
EVEN = jnp.array([[0.5, 0.5]])
TWICE = pg.FiniteMDP(*(2 * x for x in MDP))
ENV, ENV_PARAMS = pg.from_mdp(MDP, limit=3), MDP
POLICY = pg.policy_network(pg.Discrete(2), TORSO)
GAUSSIAN = pg.policy_network(pg.Box(-1.0, 1.0, (1,)), TORSO)
BATCH = pg.PolicyBatch(T, T, T, pg.categorical(TB), pg.categorical(TB), None, {})
DIAGONAL = partial(jax.tree.map, lambda x: 2.0 * x)


def step_of(**changes):
    """An environment of two actions whose `step` returns one thing that is wrong."""

    def step(key, state, action, params):
        given = {
            "obs": jnp.zeros(2),
            "state": state,
            "reward": jnp.ones(()),
            "terminated": jnp.array(False),
            "truncated": jnp.array(True),
            "info": {},
        }
        given |= changes
        return tuple(x for x in given.values() if x is not None)

    return pg.Env(
        lambda key, params: (jnp.zeros(2), jnp.zeros(())),
        step,
        lambda params: pg.Box(0.0, 1.0, (2,)),
        lambda params: pg.Discrete(2),
    )


RIGHT = pg.episode_statistics(step_of())
CONTINUOUS = RIGHT._replace(action_space=lambda params: pg.Box(-np.inf, np.inf, (1,)))
FOUR_ACTIONS = RIGHT._replace(action_space=lambda params: pg.Discrete(4))


def push(key, memory, obs, start):
    return jnp.zeros(start.shape, jnp.int32), memory


def loop_of(env):
    return pg.begin(KEY, env, None, (), num_envs=2)


def traced(function, *args):
    """Call under tracing only: nothing is compiled."""
    return jax.eval_shape(lambda: function(*args))


def unrolled(env, act=push):
    return traced(lambda: pg.unroll(KEY, env, None, act, loop_of(env), num_steps=2))


def updated(build=small_ppo, env=RIGHT, **options):
    """One update under tracing."""
    algorithm = build(env, None, **options)
    return traced(lambda: algorithm.step(KEY, algorithm.init(KEY, None), None))


def begun(**options):
    algorithm = pg.ppo(
        **{"env": RIGHT, "policy": POLICY, "value": VALUE, "optimizer": ADAM} | options
    )
    return traced(lambda: algorithm.init(KEY, None))


@lru_cache
def ppo_and_state(name="ppo", num_envs=4):
    """An algorithm and a state of it, of zeros."""
    algorithm = ALGORITHMS[name](RIGHT, None, num_envs=num_envs)
    like = traced(lambda: algorithm.init(KEY, None))
    return algorithm, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)


def train(algorithm=None, env_params=None, key=KEY, **options):
    algorithm = ppo_and_state()[0] if algorithm is None else algorithm
    return traced(lambda: pg.train(key, algorithm, env_params, **{"num_updates": 1} | options))


def evaluate(state=None, env=RIGHT, key=KEY, env_params=None, algorithm=None, **options):
    own, zeros = ppo_and_state()
    algorithm, state = algorithm or own, zeros if state is None else state
    options = {"num_episodes": 2, "max_steps": 3} | options
    return traced(lambda: pg.evaluate(key, algorithm, state, env, env_params, **options))


def train_and_evaluate(**options):
    options = {"num_updates": 4, "evaluate_every": 2, "evaluate_fn": push} | options
    return traced(lambda: pg.train_and_evaluate(KEY, ppo_and_state()[0], None, **options))


def run(key, *hyperparameters):
    return jax.random.uniform(key)


def acting(memory_less, obs):
    network = memory_less
    params = network.init(KEY, jnp.zeros((1, 2, 3)))
    return traced(lambda: network.apply(params, (), obs, jnp.ones((1, 2), bool)))


def of_network(network, obs):
    return traced(lambda: network.init(KEY, obs))


def rollout(function, wrong, position, count=4, **options):
    """An estimator called with one wrong array among right ones."""
    arrays = [T, T, T, T, NEVER, NEVER][-count:] if count > 3 else [T, T, NEVER]
    arrays[position] = wrong
    return lambda: function(*arrays, **options)


class Row(NamedTuple):
    """A wrong call and what it must end in; `call` takes nothing, or a folder with checkpoints."""

    name: str
    what: str
    call: Any
    error: Any
    words: str


def rows(name, *entries):
    return [Row(name, *entry) for entry in entries]


SHAPES = r"must have the same shape: .*\(3,\).*\(3, 1\)"
NO_LIST = "must be an array, not a list; jax.numpy.asarray makes one"
NO_KEY = r"must be a typed key, jax.random.key\(seed\), not"
NO_STRING_ENV = "env must be an Env, not .*; make one with make or from_gymnax"

# One row a line, where it fits.
# fmt: off
LOSSES = [
    *rows("policy_gradient_loss",
        ("list", lambda: pg.policy_gradient_loss(LIST, T), TypeError, f"log_prob {NO_LIST}"),
        ("[T, 1]", lambda: pg.policy_gradient_loss(T, T1), ValueError, SHAPES),
        ("transition", lambda: pg.policy_gradient_loss(T), TypeError, "missing a required argument"),
    ),
    *rows("surrogate_loss",
        ("[T, 1]", lambda: pg.surrogate_loss(T, T, T1), ValueError, SHAPES),
        ("string", lambda: pg.surrogate_loss(T, T, "a"), TypeError, "advantage must be an array, not 'a'"),
        (
            "clip_eps",
            lambda: pg.surrogate_loss(T, T, T, clip_eps=0.2),
            TypeError,
            "surrogate_loss: got an unexpected keyword argument 'clip_eps'; it takes log_prob, old_log_prob",
        ),
    ),
    *rows("ppo_clip_loss",
        ("negative", lambda: pg.ppo_clip_loss(T, T, T, clip_eps=-0.2), ValueError, "clip_eps must be greater"),
        ("none", lambda: pg.ppo_clip_loss(T, T, T), TypeError, "missing a required argument: 'clip_eps'"),
        ("[T, 1]", lambda: pg.ppo_clip_loss(T1, T, T, clip_eps=0.2), ValueError, "log_prob .3, 1., old_log"),
        ("several", lambda: pg.ppo_clip_loss(T, T, T, clip_eps=T),
         ValueError, r"clip_eps must be one number, not an array of shape \(3,\)"),
    ),
    *rows("ppo_kl_penalty_loss",
        ("[]", lambda: pg.ppo_kl_penalty_loss(T, T, T, jnp.ones(()), kl_coef=1.0), ValueError, r"kl \(\)"),
        ("negative", lambda: pg.ppo_kl_penalty_loss(T, T, T, T, kl_coef=-1.0), ValueError, "at least 0 and"),
        ("number", lambda: pg.ppo_kl_penalty_loss(T, T, T, 0.1, kl_coef=1.0), TypeError, "kl must be an arr"),
    ),
    *rows("value_loss",
        ("[T, 1]", lambda: pg.value_loss(T1, T), ValueError, r"value \(3, 1\), target \(3,\)"),
        ("[T, B]", lambda: pg.value_loss(TB, T), ValueError, r"value \(3, 2\), target \(3,\)"),
        ("list", lambda: pg.value_loss(T, LIST), TypeError, f"target {NO_LIST}"),
    ),
    *rows("clipped_value_loss",
        ("[T, 1]", lambda: pg.clipped_value_loss(T, T1, T, clip_eps=0.2), ValueError, r"old_value \(3, 1\)"),
        ("zero", lambda: pg.clipped_value_loss(T, T, T, clip_eps=0), ValueError, "greater than 0 .*, not 0"),
        ("NaN", lambda: pg.clipped_value_loss(T, T, T, clip_eps=math.nan), ValueError, "finite, not nan"),
    ),
    *rows("bradley_terry_loss",
        ("[T, 1]", lambda: pg.bradley_terry_loss(T, T1), ValueError, SHAPES),
        ("number", lambda: pg.bradley_terry_loss(1.0, T), TypeError, "chosen_reward must be an array, not 1.0"),
        ("one", lambda: pg.bradley_terry_loss(T), TypeError, "missing a required argument: 'rejected_rew"),
    ),
    *rows("entropy_loss",
        ("logits", lambda: pg.entropy_loss(T), TypeError, "must be a Distribution, not an array .*categorical"),
        ("class", lambda: pg.entropy_loss(pg.Distribution), TypeError, "not the class Distribution"),
        ("network", lambda: pg.entropy_loss(POLICY), TypeError, "not a Network"),
    ),
    *rows("kl_k1",
        ("[T, 1]", lambda: pg.kl_k1(T, T1), ValueError, SHAPES),
        ("list", lambda: pg.kl_k1(T, LIST), TypeError, f"old_log_prob {NO_LIST}"),
        ("distribution", lambda: pg.kl_k1(pg.categorical(TB), T),
         TypeError, "log_prob must be an array, not a"),
    ),
    *rows("kl_k3",
        ("[T, B]", lambda: pg.kl_k3(T, TB), ValueError, r"log_prob \(3,\), old_log_prob \(3, 2\)"),
        ("list", lambda: pg.kl_k3(LIST, T), TypeError, f"log_prob {NO_LIST}"),
        ("three", lambda: pg.kl_k3(T, T, T), TypeError, "too many positional arguments; it takes log_prob"),
    ),
]

RETURNS = [
    *rows("td_targets",
        ("1.5", lambda: pg.td_targets(T, T, NEVER, discount=1.5),
         ValueError, "discount must be between 0 and 1"),
        ("[T, 1]", lambda: pg.td_targets(T, T1, NEVER, discount=0.5), ValueError, r"next_value \(3, 1\)"),
        ("gamma", lambda: pg.td_targets(T, T, NEVER, gamma=0.5),
         TypeError, r"'gamma' \(did you mean discount\?\)"),
    ),
    *rows("discounted_returns",
        ("list", rollout(pg.discounted_returns, LIST, 0, discount=0.5), TypeError, f"reward {NO_LIST}"),
        ("[T, B]", rollout(pg.discounted_returns, TB, 1, discount=0.5), ValueError, r"next_value \(3, 2\)"),
        ("empty", lambda: pg.discounted_returns(*[jnp.zeros(0)] * 4, discount=0.5),
         ValueError, r"a time axis of at least 1 step, not shape \(0,\)"),
        ("no time", lambda: pg.discounted_returns(*[jnp.ones(())] * 4, discount=0.5),
         ValueError, r"a time axis of at least 1 step, not shape \(\)"),
    ),
    *rows("n_step_returns",
        ("float", rollout(pg.n_step_returns, T, 0, discount=0.5, n=5.0),
         TypeError, "n must be an int, not 5.0"),
        ("zero", rollout(pg.n_step_returns, T, 0, discount=0.5, n=0),
         ValueError, "n must be at least 1, not 0"),
        ("[T, 1]", rollout(pg.n_step_returns, T1, 2, discount=0.5, n=2), ValueError, r"terminated \(3, 1\)"),
    ),
    *rows("lambda_returns",
        ("2", rollout(pg.lambda_returns, T, 0, discount=0.5, lambda_=2), ValueError, "lambda_ must be between"),
        ("none", rollout(pg.lambda_returns, T, 0, discount=0.5), TypeError, "argument: 'lambda_'"),
        ("near", rollout(pg.lambda_returns, T, 0, discount=0.5, lambd=1),
         TypeError, r"'lambd' \(did you mean lambda_\?\)"),
    ),
    *rows("gae",
        ("1.5", rollout(pg.gae, T, 0, 5, discount=1.5, gae_lambda=0.9), ValueError, "discount must be between"),
        ("[T, 1]", rollout(pg.gae, T1, 1, 5, discount=0.5, gae_lambda=0.9), ValueError, r"value \(3, 1\)"),
        ("transition", lambda: pg.gae(pg.Transition(*[T] * 7, {}), T, T, T, T, discount=0.5, gae_lambda=0.5),
         TypeError, "reward must be an array, not a Transition"),
        ("per step", rollout(pg.gae, T, 0, 5, discount=TB, gae_lambda=0.9), ValueError, r"discount \(3, 2\)"),
    ),
    *[
        row
        for name in ("td", "n_step", "lambda", "monte_carlo", "gae")
        for function in [getattr(pg, f"{name}_advantage")]
        for row in rows(
            f"{name}_advantage",
            ("value [T, 1]", rollout(function, T1, 1, 5), ValueError, r"reward \(3,\), value \(3, 1\)"),
            ("value [T, B]", rollout(function, TB, 1, 5), ValueError, r"value \(3, 2\)"),
            ("list", rollout(function, LIST, 0, 5), TypeError, f"reward {NO_LIST}"),
            ("1.5", rollout(function, T, 0, 5, discount=1.5), ValueError, "discount must be between 0 and 1"),
        )
    ],
    *rows("n_step_advantage",
        ("n", rollout(pg.n_step_advantage, T, 0, 5, n=0), ValueError, "n must be at least 1, not 0"),
    ),
    *rows("gae_advantage",
        ("2", rollout(pg.gae_advantage, T, 0, 5, gae_lambda=2), ValueError, "gae_lambda must be between 0 and"),
    ),
    *rows("with_target_of",
        ("string", lambda: pg.with_target_of("td", pg.td_advantage),
         TypeError, "advantage_fn must be a function"),
        ("one", lambda: pg.with_target_of(pg.td_advantage), TypeError, "missing a required argument: 'target"),
        ("result", lambda: pg.with_target_of(pg.td_advantage, pg.td_advantage)(T, T1, T, NEVER, NEVER),
         ValueError, SHAPES),
    ),
    *rows("AdvantageFn",
        ("one array", lambda: updated(advantage_fn=lambda reward, *others: reward),
         ValueError, r"advantage_fn must return \(advantage, value_target\), not an array"),
        ("per step", lambda: updated(advantage_fn=lambda reward, *others: (reward[:, 0], reward)),
         ValueError, r"reward \(8, 4\), advantage \(8,\), value_target \(8, 4\)"),
        (
            "actor-critic",
            lambda: updated(
                small_actor_critic, advantage_fn=lambda reward, *x: (reward, reward[:1])
            ),
            ValueError,
            r"value_target \(1, 4\)",
        ),
        ("not partial", lambda: updated(advantage_fn=pg.gae), TypeError, "missing a required argument: 'disc"),
    ),
    *rows("normalize",
        ("list", lambda: normalize(LIST), TypeError, f"advantage {NO_LIST}"),
        ("empty", lambda: normalize(jnp.zeros(0)),
         ValueError, r"at least one sample is needed, not of shape \(0"),
        ("where", lambda: normalize(TB, T), ValueError, r"advantage \(3, 2\), where \(3,\)"),
    ),
]

FUNCTIONAL = [
    *rows("categorical",
        ("list", lambda: pg.categorical(LIST), TypeError, f"logits {NO_LIST}"),
        ("scalar", lambda: pg.categorical(jnp.ones(())), ValueError, "a last axis of at least one action, not"),
        ("mask", lambda: pg.categorical(TB, NEVER), ValueError, r"A mask \(3,\) does not fit logits \(3, 2\)"),
        ("larger mask", lambda: pg.categorical(T, jnp.ones((5, 3))), ValueError, r"mask \(5, 3\) does not fit"),
    ),
    *rows("diagonal_gaussian",
        ("number", lambda: pg.diagonal_gaussian(T, 0.0), TypeError, "log_std must be an array, not 0.0"),
        ("scalar", lambda: pg.diagonal_gaussian(jnp.ones(()), jnp.ones(())),
         ValueError, "needs a last axis of"),
        ("shapes", lambda: pg.diagonal_gaussian(TB, T),
         ValueError, r"broadcasts to that of mean, not \(3, 2\) and"),
        ("larger", lambda: pg.diagonal_gaussian(T, jnp.ones((5, 3))), ValueError, r"not \(3,\) and \(5, 3\)"),
    ),
    *rows("Distribution",
        ("logits", lambda: check_support(TB, pg.Discrete(2)),
         TypeError, "distribution must be a Distribution, not"),
        ("policy gives logits", lambda: begun(policy=pg.feed_forward(nn.Dense(2), lambda x: x)),
         TypeError, "distribution must be a Distribution, not an array of shape .* make one with categorical"),
        ("space", lambda: check_support(pg.categorical(TB), 2),
         TypeError, "action_space must be a Discrete or a B"),
        ("number", lambda: check_support(pg.categorical(TB), pg.Discrete(4)),
         ValueError, "has 4 discrete actions"),
    ),
    *rows("Discrete",
        ("zero", lambda: pg.policy_network(pg.Discrete(0)),
         ValueError, "n of the action space must be at least 1"),
        ("float", lambda: pg.policy_network(pg.Discrete(2.0)),
         TypeError, "n of the action space must be an int"),
        ("class", lambda: pg.policy_network(pg.Discrete), TypeError, "not the class Discrete"),
    ),
    *rows("Box",
        ("shape", lambda: pg.policy_network(pg.Box(-1, 1, 3)), TypeError, "must be a sequence of ints, not 3"),
        ("axes", lambda: pg.policy_network(pg.Box(-1, 1, (2, 2))),
         ValueError, r"must have one axis, found \(2, 2"),
        ("no axis", lambda: pg.policy_network(pg.Box(-1, 1, ())),
         ValueError, r"must have one axis, found \(\)"),
    ),
    *rows("adam",
        ("norm", lambda: pg.adam(max_grad_norm=-1), ValueError, "max_grad_norm must be greater than 0, not -1"),
        ("schedule", lambda: pg.adam(pg.linear_decay(1e-3, 9)),
         TypeError, "must be a number or an array, not a f"),
        ("lr", lambda: pg.adam(lr=1e-3), TypeError, "'lr'"),
        ("steps", lambda: pg.adam(decay_steps=1e3),
         TypeError, "decay_steps must be an int or None, not 1000.0"),
        ("rates", lambda: pg.adam(T),
         ValueError, r"learning_rate must be one number, not an array of shape \(3"),
        ("list", lambda: pg.adam([1e-3]), TypeError, "learning_rate must be a number or an array, not a list"),
    ),
    *rows("linear_decay",
        ("zero", lambda: pg.linear_decay(0.2, 0), ValueError, "steps must be at least 1, not 0"),
        ("float", lambda: pg.linear_decay(0.2, 1e5), TypeError, "steps must be an int, not 100000.0"),
        ("string", lambda: pg.linear_decay("0.2", 3),
         TypeError, "start must be a number or an array, not '0.2'"),
    ),
    *rows("resolve",
        ("string", lambda: resolve("0.2", 1), TypeError, "must be a number, an array or a function, not '0.2'"),
        ("list", lambda: resolve([0.2], 1), TypeError, "coefficient must be a number, an array or a function"),
    ),
    *rows("adapt_kl_coef",
        ("target", lambda: adapt_kl_coef(1.0, 0.1, target=-1), ValueError, "target must be greater than 0"),
        ("none", lambda: adapt_kl_coef(None, 0.1, target=1), TypeError, "kl_coef must be a number or an array"),
        ("list", lambda: adapt_kl_coef(1.0, [0.1], target=1),
         TypeError, "kl must be a number or an array, not a"),
    ),
    *rows("explained_variance",
        ("[T, 1]", lambda: diagnostics.explained_variance(T1, T), ValueError, r"value \(3, 1\), target \(3,\)"),
        ("list", lambda: diagnostics.explained_variance(LIST, T), TypeError, f"value {NO_LIST}"),
        ("empty", lambda: diagnostics.explained_variance(*[T[:0]] * 2),
         ValueError, "at least one sample is need"),
    ),
    *rows("shift",
        ("list", lambda: diagnostics.shift(LIST), TypeError, f"x {NO_LIST}"),
        ("empty", lambda: diagnostics.shift(jnp.zeros((0, 2))), ValueError, "at least one sample is needed"),
    ),
    *rows("gradient_norm",
        ("string", lambda: diagnostics.gradient_norm({"w": "x"}), TypeError, "a number or an array, not 'x'"),
        ("function", lambda: diagnostics.gradient_norm(push),
         TypeError, "leaf of gradient must be a number or an"),
    ),
    *rows("empty_statistics",
        ("float", lambda: running.empty_statistics(2.0),
         TypeError, "shape must be a sequence of ints, not 2.0"),
        ("array", lambda: running.empty_statistics(T),
         TypeError, "shape must be a sequence of ints, not an arr"),
    ),
    *rows("update_statistics",
        ("shape", lambda: running.update_statistics(running.empty_statistics(()), TB),
         ValueError, r"batch must have the shape \[N\] of samples as before, not \(3, 2\)"),
        ("one sample", lambda: running.update_statistics(running.empty_statistics((3,)), T),
         ValueError, r"the shape \[N, 3\]"),
        ("tuple", lambda: running.update_statistics((0, 0, 1), T),
         TypeError, "must be a RunningStatistics, not a t"),
    ),
    *rows("finite_samples",
        ("list", lambda: running.finite_samples([LIST]), TypeError, f"batch {NO_LIST}"),
        ("scalar", lambda: running.finite_samples(jnp.ones(())),
         ValueError, r"batch must have a first axis, that of the samples, not shape \(\)"),
    ),
    *rows("accumulate",
        ("decay", lambda: eligibility.accumulate(push, T, T, T, T, decay=1.5),
         ValueError, "decay must be between 0 and 1, not 1.5"),
        (
            "traces of one",
            lambda: eligibility.accumulate(
                lambda w, x: w * x, T[0], T[0], T[None], T[None], decay=0.5
            ),
            ValueError,
            r"traces and \[num_envs, ...\] of params must have leaves of the same shapes, not \(\) and \(3,\)",
        ),
        ("fn", lambda: eligibility.accumulate(T, T, T, T, T, decay=0.5),
         TypeError, "fn must be a function, not"),
    ),
    *rows("weighted_mean",
        ("[B]", lambda: eligibility.weighted_mean(T, T), ValueError, r"weight \(3,\), .1, num_envs. of traces"),
        ("list", lambda: eligibility.weighted_mean(T, [LIST]), TypeError, f"weight {NO_LIST}"),
    ),
    *rows("PolicyBatch",
        ("scalar loss", lambda: updated(policy_loss=lambda batch: -batch.advantage.mean()),
         ValueError, r"same shape: log_prob \(1, 16\), loss of policy_loss \(\)"),
        (
            "scalar loss of trpo",
            lambda: updated(ALGORITHMS["trpo"], policy_loss=lambda batch: -batch.advantage.mean()),
            ValueError,
            r"loss of policy_loss \(\)",
        ),
        ("name", lambda: updated(policy_loss="clip"),
         TypeError, "policy_loss must be a function or None, not 'cl"),
    ),
    *rows("surrogate_policy_loss",
        ("array", lambda: policy_losses.surrogate_policy_loss(T),
         TypeError, "batch must be a PolicyBatch, not an"),
        ("[T, 1]", lambda: policy_losses.surrogate_policy_loss(BATCH._replace(advantage=T1)),
         ValueError, SHAPES),
    ),
    *rows("clip_policy_loss",
        ("negative", lambda: policy_losses.clip_policy_loss(BATCH, clip_eps=-0.2),
         ValueError, "clip_eps must be greater than 0 and finite, not -0.2"),
        ("none", lambda: policy_losses.clip_policy_loss(BATCH), TypeError, "argument: 'clip_eps'"),
    ),
    *rows("kl_penalty_policy_loss",
        ("negative", lambda: policy_losses.kl_penalty_policy_loss(BATCH, kl_coef=-1),
         ValueError, "kl_coef must be at least 0"),
        ("[T, 1]", lambda: policy_losses.kl_penalty_policy_loss(BATCH._replace(advantage=T1), kl_coef=1),
         ValueError, SHAPES),
    ),
    *rows("per_sample",
        ("mean", lambda: policy_losses.per_sample(lambda b: T.mean(), BATCH),
         ValueError, "loss of policy_loss"),
        ("string", lambda: policy_losses.per_sample("clip", BATCH),
         TypeError, "policy_loss must be a function"),
    ),
]

TRUST_REGION = [
    *rows("fisher_vector_product",
        ("logits", lambda: pg.fisher_vector_product(lambda x: x, T, damping=0.1),
         TypeError, "what distribution_fn returns must be a Distribution, not an array"),
        ("damping", lambda: pg.fisher_vector_product(pg.categorical, T, damping=-0.1),
         ValueError, "damping must be at least 0 and finite, not -0.1"),
        ("other tree", lambda: pg.fisher_vector_product(pg.categorical, T, damping=0.1)({"w": T}),
         ValueError, "v and params must be pytrees of the same structure"),
    ),
    *rows("conjugate_gradient",
        ("zero", lambda: pg.conjugate_gradient(DIAGONAL, T, num_steps=0),
         ValueError, "num_steps must be at least 1"),
        ("float", lambda: pg.conjugate_gradient(DIAGONAL, T, num_steps=3.0),
         TypeError, "num_steps must be an int"),
        ("integers", lambda: pg.conjugate_gradient(DIAGONAL, jnp.arange(3), num_steps=3),
         ValueError, "b must consist of real numbers, not of type int32"),
        ("matrix", lambda: pg.conjugate_gradient(TB, T, num_steps=3),
         TypeError, "matvec must be a function, not"),
        ("shape", lambda: pg.conjugate_gradient(lambda v: v[:2], T, num_steps=3),
         ValueError, r"b \(3,\), matvec\(b\) \(2,\)"),
    ),
    *rows("natural_step",
        ("max_kl", lambda: pg.natural_step(DIAGONAL, T, max_kl=-0.01, num_steps=2),
         ValueError, "max_kl must be greater than 0 and finite, not -0.01"),
        ("none", lambda: pg.natural_step(DIAGONAL, T, num_steps=2), TypeError, "argument: 'max_kl'"),
        ("near", lambda: pg.natural_step(DIAGONAL, T, max_kl=0.1, cg_steps=2),
         TypeError, r"'cg_steps' \(did you mean num_steps\?\)"),
    ),
    *rows("backtracking_line_search",
        (
            "per sample",
            lambda: pg.backtracking_line_search(lambda x: (x, x), T, T, max_kl=1.0),
            ValueError,
            r"evaluate must return two scalars \(objective, kl\), not arrays of shapes \(3,\) and \(3,\)",
        ),
        ("one result", lambda: pg.backtracking_line_search(lambda x: x.sum(), T, T, max_kl=1.0),
         ValueError, r"evaluate must return \(objective, kl\), not an array"),
        ("other step", lambda: pg.backtracking_line_search(lambda x: (x, x), T, T[:1], max_kl=1.0),
         ValueError, r"params and step must have leaves of the same shapes, not \(3,\) and \(1,\)"),
        ("ratio", lambda: pg.backtracking_line_search(push, T, T, max_kl=1.0, backtrack_ratio=2),
         ValueError, "backtrack_ratio must be between 0 and 1, not 2"),
    ),
    *rows("full_step",
        ("tree", lambda: pg.full_step(lambda x: (x, x), T, [T]), ValueError, "pytrees of the same structure"),
        ("per sample", lambda: pg.full_step(lambda x: (x, x), T, T), ValueError, "must return two scalars"),
        ("array", lambda: pg.full_step(T, T, T), TypeError, "evaluate must be a function, not an array"),
    ),
]

NO_MDP = "mdp must be a FiniteMDP, not a tuple; make one with FiniteMDP"
TABLES = [
    *rows("FiniteMDP",
        ("lists", lambda: pg.expected_return(pg.FiniteMDP([[[1.0]]], [[1.0]], [1.0]), T1[:1], discount=0.5),
         TypeError, "transition of a FiniteMDP must be an array, not a list"),
        ("shapes", lambda: pg.expected_return(MDP._replace(start=T), EVEN, discount=0.5),
         ValueError, r"A FiniteMDP needs transition \[S, A, S\], .*\(3,\)"),
        ("sums", lambda: pg.expected_return(TWICE, EVEN, discount=0.5),
         ValueError, "Rows of transition must be probabilities that sum to at most 1"),
        ("start", lambda: finite_mdp.check(MDP._replace(start=2 * MDP.start)),
         ValueError, "start must be probabil"),
        ("reward", lambda: finite_mdp.check(MDP._replace(reward=MDP.reward * math.nan)),
         ValueError, "reward must be finite"),
    ),
    *[
        row
        for name in (
            "state_values",
            "action_values",
            "advantages",
            "expected_return",
            "state_visits",
        )
        for function in [getattr(finite_mdp, name)]
        for row in rows(
            name,
            ("1.5", lambda f=function: f(MDP, EVEN, discount=1.5),
             ValueError, "discount must be between 0 and 1"),
            ("rows", lambda f=function: f(MDP, 2 * EVEN, discount=0.5),
             ValueError, "Rows of policy must be prob"),
            ("shape", lambda f=function: f(MDP, T, discount=0.5),
             ValueError, r"\[S, A\] = \(1, 2\), not an array"),
            ("tuple", lambda f=function: f((1, 2, 3), EVEN, discount=0.5), TypeError, NO_MDP),
        )
    ],
    *[
        row
        for name in ("finite_horizon_values", "finite_horizon_return")
        for function in [partial(getattr(finite_mdp, name), MDP, EVEN)]
        for row in rows(
            name,
            ("float", lambda f=function: f(discount=0.5, horizon=2.0),
             TypeError, "horizon must be an int, not 2.0"),
            ("negative", lambda f=function: f(discount=0.5, horizon=-1),
             ValueError, "horizon must be at least 0"),
            ("2", lambda f=function: f(discount=2, horizon=2),
             ValueError, "discount must be between 0 and 1, not 2"),
        )
    ],
    *rows("state_distributions",
        ("list", lambda: finite_mdp.state_distributions(MDP, [[1, 0]], horizon=2),
         TypeError, f"policy {NO_LIST}"),
        ("none", lambda: finite_mdp.state_distributions(MDP, EVEN), TypeError, "argument: 'horizon'"),
        ("logits", lambda: finite_mdp.state_distributions(MDP, 0 * EVEN, horizon=1),
         ValueError, "Rows of policy must be probabilities that sum to 1"),
    ),
    *rows("check",
        ("tuple", lambda: finite_mdp.check((1, 2, 3)), TypeError, NO_MDP),
        ("tolerance", lambda: finite_mdp.check(MDP, tolerance=-1), ValueError, "tolerance must be at least 0"),
        ("traced", lambda: traced(finite_mdp.with_restart, MDP._replace(start=T)),
         ValueError, "A FiniteMDP needs"),
    ),
    *rows("with_death",
        ("1.5", lambda: finite_mdp.with_death(MDP, discount=1.5),
         ValueError, "discount must be between 0 and 1"),
        ("tuple", lambda: finite_mdp.with_death((1, 2, 3), discount=0.5), TypeError, NO_MDP),
    ),
    *rows("with_restart",
        ("sums", lambda: finite_mdp.with_restart(TWICE), ValueError, "sum to at most 1"),
        ("env", lambda: finite_mdp.with_restart(ENV), TypeError, "mdp must be a FiniteMDP, not an Env"),
    ),
    *rows("with_action_noise",
        ("shape", lambda: finite_mdp.with_action_noise(MDP, T),
         ValueError, r"\[A, A\] = \(2, 2\), not an array of"),
        ("rows", lambda: finite_mdp.with_action_noise(MDP, jnp.ones((2, 2))),
         ValueError, "Rows of noise must be"),
        ("number", lambda: finite_mdp.with_action_noise(MDP, 0.1),
         TypeError, "noise must be an array, not 0.1"),
    ),
]

ENVIRONMENTS = [
    *rows("make",
        ("typo", lambda: pg.make("CartPole-v2"),
         ValueError, "Unknown environment .*did you mean .*CartPole-v1"),
        ("parameter", lambda: pg.make("CartPole-v1", lenght=1.0), ValueError, r"did you mean length"),
        ("NaN", lambda: pg.make("CartPole-v1", length=math.nan),
         ValueError, "length .* must be finite, not nan"),
        ("string", lambda: pg.make("CartPole-v1", length="1"), ValueError, "must be a number or an array: '1'"),
        ("list", lambda: pg.make("CartPole-v1", env_kwargs=[3]),
         TypeError, "env_kwargs must be a dict or None, not"),
        ("environment", lambda: pg.make(ENV),
         TypeError, "env_id must be a string, not a Env; from_gymnax takes an"),
    ),
    *rows("from_gymnax",
        ("id", lambda: pg.from_gymnax("CartPole-v1"), TypeError, "str is no gymnax Environment"),
        ("env", lambda: pg.from_gymnax(ENV),
         TypeError, "Env is no gymnax Environment .* pass the bare environment"),
    ),
    *rows("frozen_lake",
        ("2", lambda: pg.frozen_lake(success_rate=2),
         ValueError, "success_rate must be between 0 and 1, not 2"),
        ("map", lambda: pg.frozen_lake(map="8x8"),
         ValueError, "env_kwargs of FrozenLake-misc: .*'map'; it takes"),
        ("positional", lambda: pg.frozen_lake(0.8),
         TypeError, "too many positional arguments; it takes by name suc"),
    ),
    *rows("four_rooms",
        ("-1", lambda: pg.four_rooms(fail_prob=-1), ValueError, "fail_prob must be between 0 and 1, not -1"),
        ("string", lambda: pg.four_rooms(fail_prob="0"),
         TypeError, "fail_prob must be a number or an array, not"),
    ),
    *rows("from_mdp",
        ("zero", lambda: pg.from_mdp(MDP, limit=0), ValueError, "limit must be at least 1, not 0"),
        ("tuple", lambda: pg.from_mdp((1, 2, 3), limit=3), TypeError, NO_MDP),
        ("sums", lambda: pg.from_mdp(TWICE, limit=3), ValueError, "sum to at most 1"),
    ),
    *rows("tabular_policy",
        ("zero", lambda: pg.tabular_policy(0), ValueError, "num_actions must be at least 1, not 0"),
        ("space", lambda: pg.tabular_policy(pg.Discrete(4)),
         TypeError, "num_actions must be an int, not a Disc"),
    ),
    *rows("tabular_value",
        ("states", lambda: pg.tabular_value(16),
         TypeError, "too many positional arguments; it takes no arguments"),
        ("name", lambda: pg.tabular_value(n=16), TypeError, "unexpected keyword argument 'n'; it takes no"),
    ),
    *[
        row
        for name in (
            "boolean_observations",
            "clip_actions",
            "episode_statistics",
            "flatten_observations",
            "rescale_actions",
            "squash_actions",
        )
        for wrap in [getattr(pg, name)]
        for row in rows(
            name,
            ("pair", lambda wrap=wrap: wrap((ENV, ENV_PARAMS)), TypeError, NO_STRING_ENV),
            ("id", lambda wrap=wrap: wrap("CartPole-v1"), TypeError, NO_STRING_ENV),
        )
    ],
    *[
        row
        for name in ("clip_actions", "rescale_actions", "squash_actions")
        for wrap in [getattr(pg, name)]
        for row in rows(
            name,
            ("discrete", lambda wrap=wrap: wrap(ENV).action_space(MDP),
             ValueError, f"{name} needs continuous actions; this environment's are Discrete"),
            *[
                (
                    "infinite",
                    lambda wrap=wrap: wrap(CONTINUOUS).action_space(None),
                    ValueError,
                    f"{name} needs finite bounds of the actions; they are Box",
                )
            ][: name != "clip_actions"],
        )
    ],
    *rows("mask_actions",
        ("array", lambda: pg.mask_actions(ENV, NEVER), TypeError, "mask_fn must be a function, not an array"),
        ("number", lambda: pg.mask_actions(ENV, lambda obs, params: NEVER).observe(jnp.array(0), MDP),
         ValueError, r"A mask of shape \(3,\) does not fit the actions Discrete\(n=2\): it needs one boolean"),
        ("continuous", lambda: pg.mask_actions(CONTINUOUS, lambda obs, params: NEVER).observe(T, None),
         ValueError, "does not fit the actions Box"),
    ),
    *rows("Masked",
        (
            "network of observations alone",
            lambda: of_network(
                pg.feed_forward(TORSO, pg.categorical), pg.Masked(TB[None], TB[None] > 0)
            ),
            TypeError,
            "the observation must be an array, not a Masked",
        ),
        (
            "mask of other actions",
            lambda: begun(env=pg.mask_actions(FOUR_ACTIONS, lambda obs, params: obs[..., :1] > 0)),
            ValueError,
            "A mask of shape .1,. does not fit the actions Discrete",
        ),
    ),
    *rows("Env",
        ("five values", lambda: unrolled(step_of(info=None)),
         ValueError, r"Env.step must return \(obs, state, rew"),
        ("counted five values", lambda: unrolled(pg.episode_statistics(step_of(info=None))),
         ValueError, r"info a dict, not 5 values that end with an array"),
        ("int flag", lambda: unrolled(step_of(terminated=jnp.array(0))),
         ValueError, "must be one boolean .*int32"),
        ("python flag", lambda: unrolled(step_of(truncated=0)),
         ValueError, "truncated of Env.step must be one boo"),
        ("reward [1]", lambda: unrolled(step_of(reward=jnp.ones(1))), ValueError, r"one real number .*\(1,\)"),
        ("int reward", lambda: unrolled(step_of(reward=jnp.array(1))),
         ValueError, "one real number .* not int32"),
        (
            "other observation",
            lambda: unrolled(step_of(obs=jnp.zeros(3))),
            ValueError,
            r"The observation of Env.step must be like that of Env.reset, float32 of shape \(2,\), not .*3",
        ),
        ("other state", lambda: unrolled(step_of(state={})),
         ValueError, "The state of Env.step must have the structure that it has in Env.reset"),
        ("reset gives no state", lambda: loop_of(RIGHT._replace(reset=lambda key, params: T)),
         ValueError, r"Env.reset must return \(obs, state\), not an array"),
        ("uncounted episodes", lambda: updated(env=step_of()),
         ValueError, r"info has no 'episode_return'; wrap it: episode_statistics\(env\)"),
    ),
]

NETWORKS = [
    *rows("MLP",
        ("int", lambda: pg.MLP(64), TypeError, "hidden_sizes must be a sequence of ints, not 64"),
        ("floats", lambda: pg.MLP((64.0,)), TypeError, "hidden_sizes must be a sequence of ints, not a tuple"),
        ("name", lambda: pg.MLP((8,), "tanh"), TypeError, "activation must be a function, not 'tanh'"),
        ("zero", lambda: pg.MLP([64, 0]), ValueError, "hidden_sizes must be at least 1, not 0"),
    ),
    *rows("CNN",
        ("float", lambda: pg.CNN(16.0), TypeError, "features must be an int, not 16.0"),
        ("zero", lambda: pg.CNN(hidden_size=0), ValueError, "hidden_size must be at least 1, not 0"),
        ("vectors", lambda: traced(pg.CNN().init, KEY, TB),
         ValueError, r"CNN needs observations \[height, width, channels\], found \(2,\); use MLP"),
    ),
    *rows("AttentionCell",
        ("window", lambda: pg.AttentionCell(8, window=0), ValueError, "window must be at least 1, not 0"),
        ("heads", lambda: pg.AttentionCell(6), ValueError, "features=6 must be a multiple of num_heads=4"),
        ("float", lambda: pg.AttentionCell(8.0), TypeError, "features must be an int, not 8.0"),
    ),
    *rows("feed_forward",
        ("function", lambda: pg.feed_forward(lambda x: x, pg.categorical),
         TypeError, "module must be a Module, not"),
        ("class", lambda: pg.feed_forward(pg.MLP, pg.categorical),
         TypeError, r"the class MLP; .* such as MLP\(\)"),
        ("output", lambda: pg.feed_forward(TORSO, 4), TypeError, "output_fn must be a function, not 4"),
    ),
    *rows("policy_network",
        ("number", lambda: pg.policy_network(2), TypeError, "action_space must be a Discrete or a Box, not 2"),
        ("not called", lambda: pg.policy_network(ENV.action_space), TypeError, "a function; env.action_space"),
        ("of gymnax", lambda: pg.policy_network(gymnax_spaces.Discrete(2)),
         TypeError, "must be a Discrete or a Box, not a gymnax.environments.spaces.Discrete"),
        ("cell", lambda: pg.policy_network(pg.Discrete(2), None, "gru"),
         TypeError, "cell must be a RNNCellBase or"),
        ("sizes", lambda: pg.policy_network(pg.Discrete(2), (64, 64)),
         TypeError, "torso must be a Module or None"),
    ),
    *rows("value_network",
        ("space", lambda: pg.value_network(pg.Discrete(2)),
         TypeError, "torso must be a Module or None, not a Disc"),
        ("cell class", lambda: pg.value_network(cell=nn.GRUCell),
         TypeError, "not the class GRUCell; pass an insta"),
        ("other observations", lambda: acting(VALUE, jnp.zeros((1, 2, 5))),
         ValueError, "The parameters are not those that ValueHead has for inputs of shapes"),
    ),
    *rows("zero_value_network",
        ("torso", lambda: pg.zero_value_network(TORSO),
         TypeError, "too many positional arguments; it takes no"),
        ("name", lambda: pg.zero_value_network(torso=None), TypeError, "unexpected keyword argument 'torso'"),
    ),
    *rows("recurrent",
        ("cell", lambda: recurrent(TORSO, TORSO, TORSO, push),
         TypeError, "cell must be a RNNCellBase, not a MLP"),
        ("head", lambda: recurrent(TORSO, nn.GRUCell(4), push, push),
         TypeError, "head must be a Module, not a func"),
    ),
    *rows("Network",
        ("value [T, B, 1]", lambda: begun(value=pg.feed_forward(nn.Dense(1), lambda x: x)),
         ValueError, r"The value network gives \(1, 8, 1\) where it is shown \[T, B\] = \(1, 8\) states"),
        (
            "no memory returned",
            lambda: begun(policy=POLICY._replace(apply=lambda params, memory, obs, start: obs)),
            ValueError,
            r"apply of the policy must return \(distribution, memory\), not an array",
        ),
        ("other actions", lambda: begun(env=FOUR_ACTIONS),
         ValueError, "has 4 discrete actions .* gives 2 discrete"),
        ("continuous", lambda: begun(env=CONTINUOUS),
         ValueError, r"continuous actions of shape \(1,\) but the pol"),
        ("discrete", lambda: begun(policy=GAUSSIAN),
         ValueError, "has 2 discrete actions but the policy gives cont"),
    ),
]


def build(name, **options):
    """The algorithm of this name, built with right arguments but for some."""
    optimizers = {"ppo": 1, "trpo": 1}.get(name, 2)
    given = [options.pop(x, y) for x, y in (("env", RIGHT), ("policy", POLICY), ("value", VALUE))]
    return lambda: getattr(pg, name)(
        *given, *[options.pop("optimizer", ADAM)] * optimizers, **options
    )


ALGORITHM_ROWS = [
    *[
        row
        for name in ("ppo", "trpo", "reinforce", "off_policy_gradient", "actor_critic", "online_actor_critic")
        for row in rows(
            name,
            ("float", build(name, num_envs=4.0), TypeError, "num_envs must be an int, not 4.0"),
            ("gamma", build(name, gamma=0.9), TypeError, f"{name}: got an unexpected keyword argument 'gamma'"),
            ("rate", build(name, optimizer=1e-3),
             TypeError, r"GradientTransformation, not 0.001; make one with adam"),
            ("pair", build(name, env=(RIGHT, None)), TypeError, NO_STRING_ENV),
            ("module", build(name, policy=TORSO),
             TypeError, "policy must be a Network, not a MLP; make one with"),
            ("legacy key", lambda name=name: updated_with(name, LEGACY), TypeError, f"key {NO_KEY} an array"),
            (
                "reward_fn",
                lambda name=name: updated(
                    ALGORITHMS[name], reward_fn=lambda t, log_prob, params: t.reward.sum()
                ),
                ValueError,
                r"rollout .*, reward of reward_fn \(\)",
            ),
        )
    ],
    *rows("ppo",
        ("discount", build("ppo", discount=1.5), ValueError, "discount must be between 0 and 1, not 1.5"),
        ("lambda", build("ppo", gae_lambda=2), ValueError, "gae_lambda must be between 0 and 1, not 2"),
        ("clip_eps", build("ppo", clip_eps=-0.2),
         ValueError, "clip_eps must be greater than 0 and finite, not -0.2"),
        ("vector", build("ppo", clip_eps=T),
         ValueError, r"clip_eps must be one number, not an array of shape \(3,"),
        ("minibatches", build("ppo", num_minibatches=3),
         ValueError, "num_minibatches=3 must .* divide num_envs"),
        ("typo", build("ppo", num_epoch=3), TypeError, r"'num_epoch' \(did you mean num_epochs"),
        ("both", build("ppo", discount=0.9, advantage_fn=pg.td_advantage),
         ValueError, "discount belong to gae_ad"),
    ),
    *rows("off_policy_gradient",
        ("weighting", build("off_policy_gradient", weighting_fn="vtrace"),
         TypeError, "weighting_fn must be a function, not 'vtrace'"),
        ("steps", build("off_policy_gradient", num_policy_steps=0),
         ValueError, "num_policy_steps must be at least 1, not 0"),
    ),
    *rows("trpo",
        ("max_kl", build("trpo", max_kl=0), ValueError, "max_kl must be greater than 0 and finite, not 0"),
        ("steps", build("trpo", cg_steps=1.5), TypeError, "cg_steps must be an int, not 1.5"),
    ),
    *rows("reinforce",
        ("discount", build("reinforce", discount=-0.1),
         ValueError, "discount must be between 0 and 1, not -0.1"),
        ("flag", build("reinforce", reward_to_go=1), TypeError, "reward_to_go must be a bool, not 1"),
    ),
    *rows("actor_critic",
        ("discount", build("actor_critic", discount=0.9), TypeError, "unexpected keyword argument 'discount'"),
        ("estimator", build("actor_critic", advantage_fn="gae"),
         TypeError, "advantage_fn must be a function, not"),
    ),
    *rows("online_actor_critic",
        ("lambda", build("online_actor_critic", trace_lambda=2),
         ValueError, "trace_lambda must be between 0 and 1"),
        ("memory", build("online_actor_critic", value=pg.value_network(TORSO, nn.GRUCell(4))),
         ValueError, "its networks must have no memory"),
    ),
    *rows("normalize_observations",
        ("algorithm", lambda: pg.normalize_observations(ppo_and_state()[0]),
         TypeError, "build must be a function"),
        ("pair", lambda: pg.normalize_observations(lambda env: (env, None))(RIGHT),
         TypeError, "what build returns must be an Algorithm, not a tuple; make one with ppo"),
        ("steps", lambda: pg.normalize_observations(push, warmup_steps=-1),
         ValueError, "warmup_steps must be at l"),
        ("twice", lambda: traced(pg.normalize_observations(normalized)(RIGHT).init, KEY, None),
         ValueError, "The observations are normalised already"),
    ),
    *rows("normalize_rewards",
        ("discount", lambda: pg.normalize_rewards(push, discount=1.5),
         ValueError, "discount must be between 0 and"),
        ("none", lambda: pg.normalize_rewards(push), TypeError, "missing a required argument: 'discount'"),
        ("env", lambda: pg.normalize_rewards(RIGHT, discount=0.9), TypeError, "such as lambda env: ppo"),
    ),
]


def normalized(env):
    return pg.normalize_observations(lambda env: small_ppo(env, None, action_space=pg.Discrete(2)))(
        env
    )


def updated_with(name, key):
    algorithm, state = ppo_and_state(name)
    return traced(lambda: algorithm.step(key, state, None))


TRAINING = [
    *rows("Algorithm",
        ("function", lambda: train(pg.ppo),
         TypeError, "algorithm must be an Algorithm, not .*; make one with ppo"),
        ("state", lambda: train(ppo_and_state()[1]),
         TypeError, "algorithm must be an Algorithm, not a PPOState"),
        ("legacy key", lambda: traced(ppo_and_state()[0].init, LEGACY, None),
         TypeError, f"key {NO_KEY} an array"),
        ("int key", lambda: ppo_and_state()[0].init(0, None), TypeError, "key"),
        ("env", lambda: ppo_and_state()[0].init(KEY, RIGHT),
         TypeError, "parameters of the environment, not an Env"),
    ),
    *rows("begin",
        ("legacy key", lambda: pg.begin(LEGACY, RIGHT, None, (), num_envs=2),
         TypeError, f"key {NO_KEY} an array"),
        ("no parameters", lambda: pg.begin(KEY, ENV, None, (), num_envs=2),
         TypeError, "env_params must be the parameters of this environment, not None: make gives both"),
        ("keys", lambda: pg.begin(jax.random.split(KEY), RIGHT, None, (), num_envs=2),
         ValueError, "one typed key"),
        ("zero", lambda: pg.begin(KEY, RIGHT, None, (), num_envs=0), ValueError, "num_envs must be at least 1"),
        ("env", lambda: pg.begin(KEY, RIGHT, RIGHT, (), num_envs=2),
         TypeError, "env_params must be the parameters"),
    ),
    *rows("unroll",
        ("pair", lambda: pg.unroll(KEY, RIGHT, None, push, (1, 2), num_steps=2),
         TypeError, "loop must be a Loop, n"),
        ("float", lambda: pg.unroll(KEY, RIGHT, None, push, Loop(*[T] * 4), num_steps=2.0),
         TypeError, "num_steps must be an int, not 2.0"),
        ("legacy key", lambda: pg.unroll(LEGACY, RIGHT, None, push, loop_of(RIGHT), num_steps=2),
         TypeError, f"key {NO_KEY} an array"),
        ("algorithm", lambda: unrolled(RIGHT, ppo_and_state()[0]),
         TypeError, "act must be a function, not an Algor"),
        ("memory", lambda: unrolled(RIGHT, lambda *x: (push(*x)[0], T)),
         ValueError, "memory that act is given and that which it returns must be pytrees of the same struct"),
        ("only action", lambda: unrolled(RIGHT, lambda *x: T),
         ValueError, r"act must return \(action, memory\), not"),
        ("one action", lambda: unrolled(RIGHT, lambda key, memory, *x: (0, memory)),
         ValueError, r"one action for each of the 2 environments, not an array of shape \(\)"),
    ),
    *rows("begin_training",
        ("int key", lambda: pg.begin_training(0, ppo_and_state()[0], None), TypeError, f"key {NO_KEY} 0"),
        ("swapped", lambda: pg.begin_training(ppo_and_state()[0], KEY, None),
         TypeError, f"key {NO_KEY} an Algor"),
    ),
    *rows("train",
        ("legacy key", lambda: train(key=LEGACY),
         TypeError, rf"key {NO_KEY} an array of shape \(2,\) and type uint32"),
        ("list key", lambda: train(key=[0, 1]), TypeError, f"key {NO_KEY} a list"),
        ("none", lambda: train(key=None), TypeError, f"key {NO_KEY} None"),
        ("keys", lambda: train(key=jax.random.split(KEY, 3)),
         ValueError, r"one typed key, not an .* shape \(3,\)"),
        ("env", lambda: train(env_params=RIGHT),
         TypeError, "env_params must be the parameters of .*env, env_params ="),
        ("float", lambda: train(num_updates=1e3), TypeError, "num_updates must be an int, not 1000.0"),
        ("negative", lambda: train(num_updates=-1),
         ValueError, "num_updates must be at least 0 and finite, not -1"),
        (
            "no number",
            lambda: pg.train(KEY, ppo_and_state()[0], None),
            TypeError,
            "train: missing a required argument: 'num_updates'; it takes key, algorithm, env_params and by",
        ),
        ("state of another algorithm", lambda: train(state=ppo_and_state("trpo")[1]),
         ValueError, "must be one of this algorithm and these networks, .* not a TRPOState"),
        ("state of other num_envs", lambda: train(state=ppo_and_state(num_envs=2)[1]),
         ValueError, r"float32 \(2, 2\) where float32 \(4, 2\) is needed|num_envs must be those"),
        ("state and metrics", lambda: train(state=(ppo_and_state()[1], {})),
         ValueError, "as train returns it first, not a tuple"),
    ),
    *rows("train_and_evaluate",
        ("divide", lambda: train_and_evaluate(evaluate_every=3),
         ValueError, "evaluate_every=3 must divide num_upda"),
        ("zero", lambda: train_and_evaluate(evaluate_every=0), ValueError, "evaluate_every must be at least 1"),
        ("no function", lambda: train_and_evaluate(evaluate_fn=None),
         TypeError, "evaluate_fn must be a function"),
    ),
    *rows("evaluate",
        ("legacy key", lambda: evaluate(key=LEGACY), TypeError, f"key {NO_KEY} an array"),
        ("zero", lambda: evaluate(num_episodes=0), ValueError, "num_episodes must be at least 1, not 0"),
        ("pair", lambda: evaluate((ppo_and_state()[1], {})),
         ValueError, "state must be one of the algorithm, .*tuple"),
        ("actions", lambda: evaluate(env=CONTINUOUS), ValueError, "The actions of this environment are Box"),
        ("env", lambda: evaluate(env_params=RIGHT),
         TypeError, "env_params must be the parameters of the environ"),
        (
            "observations",
            lambda: evaluate(env=other_observations()),
            ValueError,
            "The parameters are not those that DiscreteHead has for inputs of shapes .* observations must be",
        ),
        ("state of other networks", lambda: evaluate(state=other_networks()),
         ValueError, "The parameters are not those that DiscreteHead has"),
    ),
    *rows("Episodes",
        ("iqm", lambda: pg.statistics.iqm(pg.Episodes(T, T, T, T)),
         TypeError, "not an Episodes; take one of its"),
        ("mean", lambda: pg.statistics.mean(pg.Episodes(T, T, T, T)), TypeError, "returns, lengths, completed"),
    ),
    *rows("Transition",
        ("gae", lambda: pg.td_targets(pg.Transition(*[T] * 7, {}), T, T, discount=0.5),
         TypeError, "reward must be an array, not a Transition"),
        ("extras", lambda: updated(reward_fn=lambda t, log_prob, params: (t.reward, {"entropy": t.reward})),
         ValueError, "reward_fn returns extras named as metrics are: entropy"),
        ("reward [T]", lambda: updated(reward_fn=lambda t, log_prob, params: t.reward[:, 0]),
         ValueError, r"rollout \(8, 4\), reward of reward_fn \(8,\)"),
    ),
    *rows("sweep",
        ("legacy key", lambda: pg.sweep(run, LEGACY),
         TypeError, "keys must be a vector of typed keys, jax.random.s"),
        ("one key", lambda: pg.sweep(run, KEY),
         ValueError, r"vector of at least one typed key, found shape \(\)"),
        ("seeds", lambda: pg.sweep(run, [0, 1]),
         TypeError, r"jax.random.split\(jax.random.key\(seed\), seeds\), not"),
        ("called", lambda: pg.sweep(run(KEY), jax.random.split(KEY)),
         TypeError, "run must be a function, not an"),
        ("numbers", lambda: pg.sweep(run, jax.random.split(KEY), [0.1, 0.2]),
         ValueError, "Hyperparameters are zipped, one entry per configuration"),
        ("lengths", lambda: pg.sweep(run, jax.random.split(KEY), T, T[:2]),
         ValueError, r"the same length of at least 1, found \[\(3,\), \(2,\)\]"),
        ("chunk", lambda: pg.sweep(run, jax.random.split(KEY), chunk_size=0),
         ValueError, "chunk_size must be at le"),
        ("device", lambda: pg.sweep(run, jax.random.split(KEY), devices="cpu"),
         TypeError, "devices must be a sequen"),
    ),
]


def other_observations():
    def reset(key, params):
        return jnp.zeros(5), jnp.zeros(())

    return step_of(obs=jnp.zeros(5))._replace(reset=reset)


def other_networks():
    algorithm = pg.ppo(RIGHT, POLICY, VALUE, ADAM, num_envs=4, num_steps=8)
    like = traced(lambda: algorithm.init(KEY, None))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)


SEARCH = [
    *rows("grid",
        ("nothing", lambda: pg.grid(), TypeError, "grid needs at least one name, as grid"),
        ("no values", lambda: pg.grid(lr=[]), ValueError, "lr needs at least one value"),
        ("string", lambda: pg.grid(lr="0.1"), ValueError, "lr needs finite numbers that fit into float32"),
        ("NaN", lambda: pg.grid(lr=[0.1, math.nan]), ValueError, "lr needs finite numbers"),
        ("dict", lambda: pg.grid({"lr": [0.1]}), TypeError, "grid: too many positional arguments"),
    ),
    *rows("listed",
        ("dict", lambda: pg.listed({"lr": 0.1}), TypeError, "rows must be a sequence of dicts, not a dict"),
        ("numbers", lambda: pg.listed([0.1, 0.2]), TypeError, "rows must be a sequence of dicts, not a list"),
        ("names", lambda: pg.listed([{"a": 1}, {"b": 1}]),
         ValueError, "need the same names each, at least one"),
        ("nothing", lambda: pg.listed([]), ValueError, r"at least one, found \[\]"),
    ),
    *rows("cross",
        ("twice", lambda: pg.cross(pg.grid(a=1), pg.grid(a=1)), ValueError, "Given twice: a"),
        ("empty", lambda: pg.cross({}, pg.grid(a=1)), ValueError, "must have at least one name"),
        ("list", lambda: pg.cross([{"a": 1}], pg.grid(a=1)), TypeError, "one must be a dict, not a list"),
    ),
    *rows("random_search",
        ("legacy key", lambda: pg.random_search(LEGACY, 3, a=pg.choice(1)),
         TypeError, f"key {NO_KEY} an array"),
        ("zero", lambda: pg.random_search(KEY, 0, a=pg.choice(1)),
         ValueError, "num_configurations must be at least"),
        ("nothing", lambda: pg.random_search(KEY, 3),
         ValueError, "needs at least one name, as clip_eps=uniform"),
        ("list", lambda: pg.random_search(KEY, 3, a=[1, 2]), TypeError, "a must be a function, not a list"),
        ("NaN", lambda: pg.random_search(KEY, 2, a=lambda u: u * math.nan),
         ValueError, "a needs finite numbers that fit into float32"),
    ),
    *rows("uniform",
        ("order", lambda: pg.uniform(2, 1), ValueError, "A range needs finite low < high, got 2 and 1"),
        ("NaN", lambda: pg.uniform(math.nan, 1), ValueError, "A range needs finite low < high, got nan and 1"),
        ("string", lambda: pg.uniform("0", 1), TypeError, "low must be a number or an array, not '0'"),
        ("list", lambda: pg.uniform([0, 1]), TypeError, "missing a required argument: 'high'"),
    ),
    *rows("log_uniform",
        ("zero", lambda: pg.log_uniform(0, 1), ValueError, "log_uniform is for positive numbers, got low=0"),
        ("infinite", lambda: pg.log_uniform(1, math.inf), ValueError, "finite low < high, got 1 and inf"),
        ("none", lambda: pg.log_uniform(1, None), TypeError, "high must be a number or an array, not None"),
    ),
    *rows("choice",
        ("list", lambda: pg.choice([0.1, 0.2]), ValueError, r"choice needs numbers, as choice\(0.1, 0.2\) has"),
        ("nothing", lambda: pg.choice(), ValueError, r"choice needs numbers, as choice\(0.1, 0.2\) has"),
        ("strings", lambda: pg.choice("a", "b"), TypeError, "a value of choice must be a number or an array"),
    ),
]

stats, plotting = pg.statistics, pg.plotting
CURVE = {"PPO": ([0, 1], [[0.0, 1.0]] * 3)}
draw = partial(plotting.learning_curve, x_label="steps", y_label="return")

REPORTING = [
    *[
        row
        for name in ("check_scores", "mean", "median", "iqm", "optimality_gap")
        for function in [getattr(stats, name)]
        for row in rows(
            f"statistics.{name}",
            ("empty", lambda f=function: f([]), ValueError, r"must be a non-empty .*, got shape \(0,\)"),
            ("scalar", lambda f=function: f(3.0), ValueError, r"must be a non-empty .*, got shape \(\)"),
            ("NaN", lambda f=function: f([1.0, math.nan]),
             ValueError, "1 of 2 scores are NaN .* replace_diverged"),
            ("string", lambda f=function: f("abc"),
             TypeError, "Scores must be an array of numbers, .* not 'abc'"),
            ("ragged", lambda f=function: f([[1.0], [1.0, 2.0]]),
             TypeError, "lists of equal lengths of them, not"),
        )
    ],
    *rows("statistics.optimality_gap",
        ("target", lambda: stats.optimality_gap([1.0], target="1"),
         TypeError, "target must be a number, not '1'"),
    ),
    *rows("statistics.replace_diverged",
        ("NaN", lambda: stats.replace_diverged([1.0], math.nan),
         ValueError, "worst score must be finite, got nan"),
        ("tasks", lambda: stats.replace_diverged(TB, T),
         ValueError, r"one number or one per task, got shape \(3,\)"),
        ("none", lambda: stats.replace_diverged([1.0], None), TypeError, "worst must be an array of numbers"),
    ),
    *rows("statistics.performance_profile",
        ("empty", lambda: stats.performance_profile(T, []),
         ValueError, "thresholds must be .num_thresholds., not e"),
        ("number", lambda: stats.performance_profile(T, 1.0),
         ValueError, "thresholds must be .num_thresholds."),
        ("string", lambda: stats.performance_profile(T, "a"),
         TypeError, "thresholds must be an array of numbers"),
    ),
    *rows("statistics.probability_of_improvement",
        ("tasks", lambda: stats.probability_of_improvement(TB, T),
         ValueError, "x and y must differ only in seeds"),
        ("one", lambda: stats.probability_of_improvement(T), TypeError, "missing a required argument: 'y'"),
    ),
    *rows("statistics.bootstrap_interval",
        ("seeds", lambda: stats.bootstrap_interval(stats.iqm, [1.0, 2.0]),
         ValueError, "needs at least 3 seeds, got"),
        ("axes", lambda: stats.bootstrap_interval(partial(np.mean, axis=-1), T1),
         ValueError, "keep the others"),
        ("order", lambda: stats.bootstrap_interval(T, stats.iqm),
         TypeError, "statistic must be a function, not an"),
        ("none", lambda: stats.bootstrap_interval(stats.iqm), ValueError, "needs at least one array of scores"),
        ("percent", lambda: stats.bootstrap_interval(stats.iqm, T, confidence=95),
         ValueError, "confidence must be between 0 and 1, both excluded, not 95"),
        ("key", lambda: stats.bootstrap_interval(stats.iqm, T, seed=KEY),
         TypeError, "seed must be an int, not an"),
        ("float", lambda: stats.bootstrap_interval(stats.iqm, T, num_resamples=1e3),
         TypeError, "must be an int, not"),
    ),
    *rows("plotting.learning_curve",
        ("nothing", lambda: draw({}), ValueError, "There are no curves to draw"),
        ("list", lambda: draw([1.0, 2.0]), TypeError, "curves must be a dict, not a list"),
        ("scores", lambda: draw({"PPO": TB}),
         TypeError, "Curve 'PPO' must be a tuple of x and scores, not an array"),
        ("[T]", lambda: draw({"PPO": (T, T)}),
         ValueError, r"must have x \[T\] and scores \[num_seeds, T\], got shap"),
        ("[T, seeds]", lambda: draw({"PPO": (T, TB)}), ValueError, r"got shapes \(3,\) and \(3, 2\)"),
        ("x", lambda: draw({"PPO": ([1, 0], TB)}),
         ValueError, "The x of curve 'PPO' must be finite and increase"),
        ("NaN", lambda: draw({"PPO": ([0, 1], TB * math.nan)}),
         ValueError, "Curve 'PPO': 6 of 6 scores are NaN"),
        ("suffix", lambda: draw(CURVE, path="a.jpg"), ValueError, "saved as .png or .pdf, got 'a.jpg'"),
        ("by position", lambda: plotting.learning_curve(CURVE, "steps", "return"),
         TypeError, "too many positional arguments; it takes curves and by name x_label, y_label"),
        ("label", lambda: draw(CURVE, x_label=" "), ValueError, "All axes need a label"),
        ("path", lambda: draw(CURVE, path=3), TypeError, "path must be a string, a PathLike or None, not 3"),
        ("percent", lambda: draw(CURVE, confidence=95), ValueError, "confidence must be between 0 and 1, both"),
    ),
    *rows("plotting.interval_or_point",
        ("statistic", lambda: plotting.interval_or_point("iqm", T),
         TypeError, "statistic must be a function, not"),
        ("NaN", lambda: plotting.interval_or_point(stats.iqm, [math.nan]), ValueError, "1 of 1 scores are NaN"),
    ),
    *rows("plotting.check_output",
        ("suffix", lambda: plotting.check_output("a.svg", "x"),
         ValueError, "saved as .png or .pdf, got 'a.svg'"),
        ("label", lambda: plotting.check_output(None, ""), ValueError, "All axes need a label"),
        ("none", lambda: plotting.check_output(None, None), TypeError, r"labels.0. must be a string, not None"),
    ),
    *rows("plotting.new_figure",
        ("zero", lambda: plotting.new_figure(0), ValueError, "columns must be at least 1, not 0"),
        ("size", lambda: plotting.new_figure((6, 4)), TypeError, "columns must be an int, not a tuple"),
    ),
    *rows("plotting.line_style",
        ("string", lambda: plotting.line_style("-"), TypeError, "i must be an int, not '-'"),
        ("negative", lambda: plotting.line_style(-1), ValueError, "i must be at least 0"),
    ),
    *rows("plotting.describe_interval",
        ("zero", lambda: plotting.describe_interval(0, 0.95),
         ValueError, "num_seeds must be at least 1, not 0"),
        ("percent", lambda: plotting.describe_interval(3, 95),
         ValueError, "between 0 and 1, both excluded, not 95"),
    ),
]


# fmt: on


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a checkpoint, `good`, and an empty folder, `other`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    pg.checkpoint.save(folder / "good", {"w": T})
    (folder / "other").mkdir()
    return folder


# fmt: off
CHECKPOINTS = [
    *rows("checkpoint.save",
        ("there", lambda at: pg.checkpoint.save(at / "good", {"w": T}),
         FileExistsError, "is never overwritten"),
        ("number", lambda at: pg.checkpoint.save(at / "new", {"w": T, "step": 3}),
         TypeError, "a pytree of arrays, without 3 at step; jax.numpy.asarray makes one"),
        ("empty", lambda at: pg.checkpoint.save(at / "new", {"w": T[:0]}),
         ValueError, "without elements .*: w"),
    ),
    *rows("checkpoint.restore",
        ("missing", lambda at: pg.checkpoint.restore(at / "no", T),
         FileNotFoundError, "There is no checkpoint at"),
        ("number", lambda at: pg.checkpoint.restore(at / "good", {"w": 1.0}),
         TypeError, "a pytree of arrays, without 1.0 at w; jax.numpy.asarray makes one"),
        ("foreign", lambda at: pg.checkpoint.restore(at / "other", T),
         ValueError, "is damaged or no checkpoint"),
        ("shape", lambda at: pg.checkpoint.restore(at / "good", {"w": TB}),
         ValueError, r"w is float32 \(3,\) there"),
        ("name", lambda at: pg.checkpoint.restore(at / "good", {"v": T}),
         ValueError, "v is nothing there, and floa"),
        ("dtype", lambda at: pg.checkpoint.restore(at / "good", {"w": T.astype(int)}),
         ValueError, r"and int32 \(3,\) is needed"),
    ),
]

PAIR = jnp.array([0.0, 1.0])
OFF_POLICY = [
    *[
        row
        for name, function in (
            ("trajectory_log_weights", pg.trajectory_log_weights),
            ("per_decision_log_weights", pg.per_decision_log_weights),
        )
        for row in rows(name,
            ("[T, 1]", rollout(function, T1, 1, 3), ValueError, r"log_ratio \(3,\), terminated \(3, 1\)"),
            ("list", rollout(function, LIST, 0, 3), TypeError, f"log_ratio {NO_LIST}"),
        )
    ],
    *[
        row
        for name, function in (
            ("self_normalized", pg.self_normalized), ("effective_sample_size", pg.effective_sample_size)
        )
        for row in rows(name,
            ("where", lambda f=function: f(T, where=T1), ValueError, r"log_weight \(3,\), where \(3, 1\)"),
            ("axis", lambda f=function: f(T, axis=1.0), TypeError, "axis must be an int or None, not 1.0"),
        )
    ],
    *[
        row
        for name in ("unweighted", "per_step_weighting", "per_decision_weighting", "trajectory_weighting",
                     "vtrace", "per_decision_returns", "retrace")
        for function, number in [(getattr(pg, name), 5 if name == "per_decision_returns" else 6)]
        for row in rows(name,
            ("[T, 1]", rollout(function, T1, 1, number, discount=0.9), ValueError, SHAPES),
            ("log_ratio", rollout(function, TB, number - 3, number, discount=0.9), ValueError, r"\(3, 2\)"),
            ("discount", rollout(function, T, 0, number, discount=1.5), ValueError, "discount must be between"),
            ("missing", rollout(function, T, 0, 3, discount=0.9), TypeError, "missing a required argument"),
        )
    ],
    *rows("vtrace",
        ("clip", rollout(pg.vtrace, T, 0, 6, clip_rho=0.0), ValueError, "clip_rho must be greater than 0, not"),
    ),
    *rows("trajectory_weighting",
        ("most", rollout(pg.trajectory_weighting, T, 0, 6, max_weight=-1.0), ValueError, "max_weight must be"),
    ),
    *rows("sum_to_cut",
        ("[T, 1]", lambda: pg.sum_to_cut(T, T1, T, decay=1.0), ValueError, SHAPES),
        ("decay", lambda: pg.sum_to_cut(T, T, T, decay=TB), ValueError, r"decay \(3, 2\)"),
    ),
    *[
        row
        for name in ("leave_one_out_advantage", "group_normalized_advantage")
        for function in [getattr(pg, name)]
        for row in rows(name,
            ("one", lambda f=function: f(T1), ValueError, "A group needs at least 2 answers along axis -1"),
            ("axis", lambda f=function: f(T, axis=2), ValueError, "at least 2 answers along axis 2"),
        )
    ],
    *rows("awr_loss",
        ("[T, 1]", lambda: pg.awr_loss(T, T1, temperature=1.0), ValueError, SHAPES),
        ("zero", lambda: pg.awr_loss(T, T, temperature=0.0), ValueError, "temperature must be greater than 0"),
    ),
    *rows("dual_clip_loss",
        ("[T, 1]", lambda: pg.dual_clip_loss(T, T, T1, clip_eps=0.2), ValueError, SHAPES),
        ("below 1", lambda: pg.dual_clip_loss(T, T, T, clip_eps=0.2, dual_clip=0.9),
         ValueError, "dual_clip must be greater than 1, not 0.9"),
    ),
    *rows("dpo_loss",
        ("[T, 1]", lambda: pg.dpo_loss(T, T, T1, T, beta=0.1), ValueError, SHAPES),
        ("beta", lambda: pg.dpo_loss(T, T, T, T, beta=-0.1), ValueError, "beta must be greater than 0 and"),
    ),
    *rows("expected_policy_gradient_loss",
        ("[T, 1]", lambda: pg.expected_policy_gradient_loss(T, T1), ValueError, SHAPES),
        ("list", lambda: pg.expected_policy_gradient_loss(T, LIST), TypeError, f"q_value {NO_LIST}"),
    ),
    *rows("huber_value_loss",
        ("[T, 1]", lambda: pg.huber_value_loss(T, T1), ValueError, SHAPES),
        ("delta", lambda: pg.huber_value_loss(T, T, delta=0), ValueError, "delta must be greater than 0 and"),
    ),
    *rows("kl_k2",
        ("[T, 1]", lambda: pg.kl_k2(T, T1), ValueError, SHAPES),
        ("one", lambda: pg.kl_k2(T), TypeError, "missing a required argument: 'old_log_prob'"),
    ),
    *[
        row
        for name in ("symlog", "symexp")
        for function in [getattr(pg, name)]
        for row in rows(name,
            ("list", lambda f=function: f(LIST), TypeError, f"x {NO_LIST}"),
            ("number", lambda f=function: f(1.0), TypeError, "x must be an array, not 1.0"),
        )
    ],
    *rows("two_hot",
        ("one bin", lambda: pg.two_hot(T, PAIR[:1]), ValueError, "bins must be a vector of at least 2 numbers"),
        ("matrix", lambda: pg.two_hot(T, T1), ValueError, "bins must be a vector of at least 2 numbers, not"),
    ),
    *rows("two_hot_mean",
        ("bins", lambda: pg.two_hot_mean(T, PAIR), ValueError, "logits need one number for each bin along"),
        ("list", lambda: pg.two_hot_mean(LIST, T), TypeError, f"logits {NO_LIST}"),
    ),
    *rows("two_hot_value_loss",
        ("bins", lambda: pg.two_hot_value_loss(TB, T, T), ValueError, "logits need one number for each bin"),
        ("target", lambda: pg.two_hot_value_loss(TB, T1, PAIR), ValueError, "must have the same shape: .*targ"),
    ),
    *rows("vmpo_policy_loss",
        ("[T, 1]", lambda: pg.vmpo_policy_loss(T, T1, temperature=1.0), ValueError, SHAPES),
        ("more than all", lambda: pg.vmpo_policy_loss(T, T, temperature=1.0, top_fraction=2.0),
         ValueError, "top_fraction must be at most 1"),
    ),
    *rows("vmpo_temperature_loss",
        ("zero", lambda: pg.vmpo_temperature_loss(T, temperature=0.0, epsilon=0.1), ValueError, "temperature"),
        ("list", lambda: pg.vmpo_temperature_loss(LIST, temperature=1.0, epsilon=0.1), TypeError, NO_LIST),
    ),
    *rows("vmpo_alpha_loss",
        ("alpha", lambda: pg.vmpo_alpha_loss(T, alpha=-1.0, epsilon=0.1), ValueError, "alpha must be at least"),
        ("none", lambda: pg.vmpo_alpha_loss(T, alpha=1.0), TypeError, "missing a required argument: 'epsilon'"),
    ),
]
# fmt: on
TABLE = [
    *OFF_POLICY,
    *LOSSES,
    *RETURNS,
    *FUNCTIONAL,
    *TRUST_REGION,
    *TABLES,
    *ENVIRONMENTS,
    *NETWORKS,
    *ALGORITHM_ROWS,
    *TRAINING,
    *SEARCH,
    *REPORTING,
]


def refuse(call, error, words):
    """Assert that a call ends in one sentence of this exception with these words."""
    with pytest.raises(error, match=words) as caught:
        call()
    sentence = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in sentence and sentence.endswith("."), sentence
    told = re.split("; it takes|; registered are", sentence)[0]  # a list of names may be longer
    assert len(told) <= LONGEST, f"{len(told)} characters: {told}"
    raised_in = caught.traceback[-1].path
    assert "purejaxpg" in raised_in.parts, f"raised in {raised_in}"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.name}: {row.what}")
def test_a_wrong_call_is_refused_in_a_sentence(row):
    refuse(row.call, row.error, row.words)


@pytest.mark.parametrize("row", CHECKPOINTS, ids=lambda row: f"{row.name}: {row.what}")
def test_a_wrong_checkpoint_is_refused(row, saved):
    refuse(partial(row.call, saved), row.error, row.words)


def test_everything_public_has_two_rows():
    names = [row.name for row in TABLE]
    public = [name for name in pg.__all__ if callable(getattr(pg, name))]
    assert len(public) > 80
    assert [name for name in public if names.count(name) < 2] == []


def test_no_row_is_there_twice():
    ids = [f"{row.name}: {row.what}" for row in TABLE + CHECKPOINTS]
    assert len(set(ids)) == len(ids)
