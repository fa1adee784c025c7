"""A wrong argument is refused in one sentence that names what is allowed, before anything is traced."""

import math
from typing import Annotated, Literal

import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.arguments import (
    Count,
    Fraction,
    NotNegative,
    Positive,
    PositiveCoefficient,
    Range,
    alternatives,
    check,
    checked,
    ranges,
)
from tests.small import cartpole

ENV, ENV_PARAMS = cartpole()
POLICY, VALUE = pg.policy_network(pg.Discrete(2)), pg.value_network()
ADAM = pg.adam(1e-3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: pg.ppo(ENV, POLICY, VALUE, 3e-4),
            r"optimizer must be a GradientTransformation, not 0.0003; make one with adam\(learning_rate\)",
        ),
        (
            lambda: pg.ppo(ENV, pg.MLP(), VALUE, ADAM),
            "policy must be a Network, not a MLP; make one with policy_network",
        ),
        (
            lambda: pg.ppo(ENV, POLICY, nn.Dense, ADAM),
            "value must be a Network, not the class Dense",
        ),
        (
            lambda: pg.ppo(None, POLICY, VALUE, ADAM),
            "env must be an Env, not None; make one with make",
        ),
        (
            lambda: pg.policy_network(ENV),
            r"action_space must be a Discrete or a Box, not an Env; env.action_space\(env_params\)",
        ),
        (
            lambda: pg.policy_network(pg.Discrete(2), pg.MLP),
            r"torso must be a Module or None, not the class MLP; pass an instance, such as MLP\(\)",
        ),
        (
            lambda: pg.value_network(None, nn.GRUCell),
            "cell must be a RNNCellBase or None, not the class",
        ),
        (
            lambda: pg.normalize_observations(ENV),
            "build must be a function, not an Env; pass a function, such as lambda env: ppo",
        ),
        (lambda: pg.normalize_rewards(ENV, discount=0.9), "build must be a function, not an Env"),
        (
            lambda: pg.make(gymnax.make("CartPole-v1")[0]),
            "env_id must be a string, not a CartPole; from_gymnax takes an environment",
        ),
        (
            lambda: pg.ppo(ENV, POLICY, VALUE, ADAM, num_envs=4.0),
            "num_envs must be an int, not 4.0",
        ),
        (
            lambda: pg.ppo(ENV, POLICY, VALUE, ADAM, num_envs=True),
            "num_envs must be an int, not True",
        ),
        (
            lambda: pg.ppo(ENV, POLICY, VALUE, ADAM, normalize_advantages=1),
            "normalize_advantages must be a bool, not 1",
        ),
        (
            lambda: pg.ppo(ENV, POLICY, VALUE, ADAM, clip_eps="0.2"),
            "clip_eps must be a number, an array or a function, not '0.2'",
        ),
        (
            lambda: pg.train(jax.random.key(0), POLICY, None, num_updates=1),
            "algorithm must be an Algor",
        ),
        (lambda: pg.adam("fast"), "learning_rate must be a number or an array, not 'fast'"),
    ],
)
def test_the_wrong_kind(call, words):
    with pytest.raises(TypeError, match=words) as error:
        call()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: pg.trpo(ENV, POLICY, VALUE, ADAM, cg_steps=0),
            "cg_steps must be at least 1, not 0",
        ),
        (
            lambda: pg.trpo(ENV, POLICY, VALUE, ADAM, max_kl=0.0),
            "max_kl must be greater than 0 and",
        ),
        (
            lambda: pg.ppo(ENV, POLICY, VALUE, ADAM, discount=1.5),
            "discount must be between 0 and 1",
        ),
        (
            lambda: pg.ppo(ENV, POLICY, VALUE, ADAM, clip_eps=-0.2),
            "clip_eps must be greater than 0",
        ),
        (lambda: pg.ppo(ENV, POLICY, VALUE, ADAM, gae_lambda=2.0), "gae_lambda must be between 0"),
        (
            lambda: pg.adam(1e-3, max_grad_norm=-1.0),
            "max_grad_norm must be greater than 0, not -1.0",
        ),
        (lambda: pg.adam(math.nan), "learning_rate must be at least 0 and finite, not nan"),
        (
            lambda: pg.train(jax.random.key(0), object(), None, num_updates=1),
            "algorithm must be an Algorithm",
        ),
    ],
)
def test_a_number_out_of_range(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


def test_what_is_traced_or_a_schedule_has_no_range_to_check():
    def build(discount, clip_eps):
        return pg.ppo(ENV, POLICY, VALUE, ADAM, discount=discount, clip_eps=clip_eps)

    jax.eval_shape(lambda x: build(x, x).init(jax.random.key(0), ENV_PARAMS), 1.5)
    build(np.float32(0.5), lambda update: -1.0)
    build(jnp.array(7.0), pg.linear_decay(0.2, 10))


@checked
def function(
    count: Count,
    *,
    share: Fraction | None = None,
    eps: PositiveCoefficient = 0.1,
    form: Literal["mean", "sum"] = "mean",
    sizes: Annotated[tuple[int, ...], Range("at least 1", lambda x: x >= 1)] = (1,),
    **more: float,
) -> str:
    """Documented."""
    return f"{count} {share} {form}"


def test_checked_functions_are_as_before():
    assert function(2, share=None, form="sum", other=3) == "2 None sum"
    assert function.__doc__ == "Documented."
    with pytest.raises(TypeError, match="missing a required argument: 'count'"):
        function()
    with pytest.raises(
        ValueError, match=r"form must be mean or sum, not 'summ' \(did you mean sum"
    ):
        function(2, form="summ")
    with pytest.raises(ValueError, match="sizes must be at least 1, not 0"):
        function(2, sizes=(3, 0))
    with pytest.raises(ValueError, match="share must be between 0 and 1, not -1"):
        function(2, share=-1)
    with pytest.raises(TypeError, match="count must be an int, not None"):
        function(None)


def test_annotations_are_taken_apart():
    assert alternatives(Fraction | None) == [float, jax.Array, type(None)]
    assert [limits.words for limits in ranges(Fraction | None)] == ["between 0 and 1"]
    assert ranges(int | None) == []


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Count, [1, np.int64(3)], [0, -1]),
        (Fraction, [0, 1, 0.5], [-1e-9, 1 + 1e-9, math.nan, math.inf]),
        (Positive, [1e-30, 1e30], [0, -1.0, math.inf, math.nan]),
        (NotNegative, [0.0, 5], [-1e-30, math.inf, math.nan]),
    ],
)
def test_ranges(annotation, good, bad):
    for value in good:
        check("x", value, annotation)
    for value in bad:
        with pytest.raises(ValueError, match="x must be"):
            check("x", value, annotation)
