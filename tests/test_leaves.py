"""Leaves by the end of their path, and an outer algorithm that changes one whatever is nested around it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purejaxpg as pg
from purejaxpg.environments.parameters import override
from purejaxpg.leaves import find_path, get_leaf, leaf_paths, replace_leaves
from purejaxpg.types import PyTree


class Outer(NamedTuple):
    params: PyTree
    noise: float


class Inner(NamedTuple):
    length: float
    statistics: dict


NESTED = Outer(Outer(Inner(0.5, {"mean": 1.0, "count": [2.0, 3.0]}), 0.1), 0.2)


def test_every_leaf_has_a_path():
    assert leaf_paths(NESTED) == {
        "params.params.length": 0.5,
        "params.params.statistics.count.0": 2.0,
        "params.params.statistics.count.1": 3.0,
        "params.params.statistics.mean": 1.0,
        "params.noise": 0.1,
        "noise": 0.2,
    }


def test_the_end_of_a_path_is_enough():
    assert get_leaf(NESTED, "length") == get_leaf(NESTED, "params.length") == 0.5
    assert find_path(NESTED, "count.1") == "params.params.statistics.count.1"
    assert get_leaf(NESTED, "noise") == 0.2  # the whole path
    changed = replace_leaves(NESTED, {"length": 0.7, "params.noise": 0.3})
    assert changed == Outer(Outer(NESTED.params.params._replace(length=0.7), 0.3), 0.2)
    assert NESTED.params.noise == 0.1


def test_unknown_and_ambiguous_names_are_refused():
    with pytest.raises(
        ValueError, match=r"no parameter 'lenght' \(did you mean length\?\); it has"
    ):
        get_leaf(NESTED, "lenght")
    with pytest.raises(ValueError, match="no parameter 'ength'"):  # not part of a name
        get_leaf(NESTED, "ength")
    twice = {"a": {"x": 1}, "b": {"x": 2}}
    with pytest.raises(
        ValueError, match=r"several parameters 'x': a.x, b.x; give more of the path"
    ):
        replace_leaves(twice, {"x": 3})


def test_derived_parameters_follow_wherever_they_are():
    _, plain = pg.make("CartPole-v1")
    nested = override(Outer(plain, 0.1), {"masspole": 0.3, "params.length": 0.7, "noise": 0.2})
    assert nested.noise == 0.2 and nested.params.gravity == plain.gravity
    assert nested.params.total_mass == pytest.approx(1.3)
    assert nested.params.polemass_length == pytest.approx(0.21)
    assert override(plain, {"masspole": 0.3, "total_mass": 5.0}).total_mass == 5.0
    with pytest.raises(ValueError, match="My env has no parameter 'x'"):
        override(plain, {"x": 1.0}, owner="My env")


def with_leaf(build, name, value):
    """An outer algorithm that trains with another value of a plain parameter, however deep it is nested."""

    def build_outer(env):
        inner = build(env)

        def shifted(env_params):
            return override(env_params, {name: value})

        return inner._replace(
            init=lambda key, env_params: inner.init(key, shifted(env_params)),
            step=lambda key, state, env_params: inner.step(key, state, shifted(env_params)),
        )

    return build_outer


class Probe(NamedTuple):
    update: jax.Array


def probe(env):
    """An algorithm that takes steps and reports where they led: enough to show which physics it met."""

    def init(key, env_params):
        return Probe(jnp.zeros((), jnp.int32))

    def step(key, state, env_params):
        loop = pg.begin(key, env, env_params, (), num_envs=2)

        def act(key, memory, obs, start):
            return jnp.zeros((2, 1)), memory

        _, transitions = pg.unroll(key, env, env_params, act, loop, num_steps=3)
        return Probe(state.update + 1), transitions, {"obs": transitions.next_obs[-1].sum()}

    return pg.Algorithm(init, step, lambda *args, **kwargs: None, lambda batch: ())


def test_a_field_is_changed_inside_and_outside_of_normalisation():
    env, env_params = pg.make("Pendulum-v1")
    _, heavy = pg.make("Pendulum-v1", g=20.0)

    def run(build, params):
        state, metrics = pg.train(jax.random.key(0), build(env), params, num_updates=2)
        return np.asarray(metrics["obs"]), np.asarray(state.statistics.mean)

    expected = run(pg.normalize_observations(probe), heavy)
    inside = pg.normalize_observations(with_leaf(probe, "g", 20.0))
    outside = with_leaf(pg.normalize_observations(probe), "g", 20.0)
    for build in (inside, outside):
        for x, y in zip(run(build, env_params), expected, strict=True):
            np.testing.assert_array_equal(x, y)
    assert (run(pg.normalize_observations(probe), env_params)[0] != expected[0]).all()
