"""Networks: shapes, the initialisation that the file promises, and that no sample sees another."""

import re
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.agent.acting import PolicyValue, begin_agent
from purejaxpg.functional.distributions import categorical, check_support, diagonal_gaussian
from purejaxpg.networks.feed_forward import feed_forward
from purejaxpg.networks.modules import CNN, MLP
from purejaxpg.networks.standard import policy_network, value_network
from purejaxpg.types import Box, Discrete, Env, Network

T, B = 5, 3
BOX = Box(-1.0, 1.0, (2,))


class Case(NamedTuple):
    network: Network
    obs_shape: tuple[int, ...]
    gains: list[float]  # of its kernels, from input to head


ROOT2 = np.sqrt(2)
CASES = {
    "discrete MLP": Case(policy_network(Discrete(4)), (6,), [ROOT2, ROOT2, 0.01]),
    "Gaussian MLP": Case(policy_network(BOX), (6,), [ROOT2, ROOT2, 0.01]),
    "value MLP": Case(value_network(), (6,), [ROOT2, ROOT2, 1.0]),
    "value MLP of one layer": Case(value_network(MLP((8,))), (3, 4), [ROOT2, 1.0]),
    "discrete CNN": Case(policy_network(Discrete(4), CNN()), (6, 6, 3), [ROOT2, ROOT2, 0.01]),
    "value CNN": Case(value_network(CNN(hidden_size=32)), (6, 6, 3), [ROOT2, ROOT2, 1.0]),
}
each = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def built():
    """Parameters, observations and output of every case."""
    result = {}
    for name, case in CASES.items():
        obs = jax.random.normal(jax.random.key(1), (T, B, *case.obs_shape))
        init = jax.jit(case.network.init, compiler_options={"xla_backend_optimization_level": 0})
        params = init(jax.random.key(0), obs)
        start = jnp.zeros((T, B), bool)
        output, memory = jax.jit(case.network.apply)(params, (), obs, start)
        assert memory == ()
        result[name] = params, obs, output
    return result


def leaves(params, kind):
    """Kernels or biases, from input to head: the torso's come first."""
    named = jax.tree_util.tree_leaves_with_path(params)
    chosen = [(jax.tree_util.keystr(path), leaf) for path, leaf in named if kind in str(path)]
    return [leaf for path, leaf in sorted(chosen, key=lambda item: ("torso" not in item[0], item))]


def flat_kernel(kernel):
    return np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])


@each
def test_initialisation(name, built):
    params, _, _ = built[name]
    kernels, biases = leaves(params, "kernel"), leaves(params, "bias")
    assert len(kernels) == len(biases) == len(CASES[name].gains)
    # In a CNN "Conv" sorts before "Dense"; in an MLP the layers are numbered.
    for kernel, gain in zip(kernels, CASES[name].gains, strict=True):
        w = flat_kernel(kernel)
        gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
        np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-5 * gain**2)
    assert all((bias == 0).all() for bias in biases)
    others = [leaf for leaf in jax.tree.leaves(params) if leaf.dtype != jnp.float32]
    assert not others


REMEMBERING = {"GRU": nn.GRUCell(8), "LSTM": nn.OptimizedLSTMCell(8)}


@pytest.mark.parametrize("name", [*CASES, *REMEMBERING])
def test_vmapped_on_a_cpu_one_network_is_drawn_after_the_other(name):
    """With the bits of each alone; batched, jaxlib 0.10's QR decompositions can wait for ever."""
    if name in CASES:
        network, obs_shape, _ = CASES[name]
    else:
        network, obs_shape = value_network(MLP((8,)), REMEMBERING[name]), (6,)
    obs = jnp.zeros((T, B, *obs_shape))
    keys = jax.random.split(jax.random.key(0), 3)
    lowered = jax.jit(jax.vmap(network.init, (0, None))).lower(keys, obs)
    decompositions = [line for line in lowered.as_text().splitlines() if "geqrf" in line]
    assert decompositions
    for line in decompositions:
        assert re.search(r"-> \(tensor<\d+x\d+xf32>", line), line
    together = lowered.compile()(keys, obs)
    for i, key in enumerate(keys):
        jax.tree.map(
            partial(np.testing.assert_array_equal, strict=True),
            jax.tree.map(lambda x, i=i: x[i], together),
            jax.jit(network.init)(key, obs),
        )


def test_sizes_of_the_default_torso(built):
    shapes = [kernel.shape for kernel in leaves(built["discrete MLP"][0], "kernel")]
    assert shapes == [(6, 64), (64, 64), (64, 4)]
    shapes = [kernel.shape for kernel in leaves(built["discrete CNN"][0], "kernel")]
    assert shapes == [(3, 3, 3, 16), (4 * 4 * 16, 128), (128, 4)]  # without padding


@each
def test_batch_shapes(name, built):
    _, _, output = built[name]
    if name.startswith("discrete"):
        assert output.batch_shape == (T, B)
        assert output.num_categories == 4
        assert output.sample(seed=jax.random.key(0)).shape == (T, B)
    elif name.startswith("Gaussian"):
        assert output.batch_shape == (T, B)
        assert output.event_shape == (2,)
        assert output.sample(seed=jax.random.key(0)).shape == (T, B, 2)
        assert output.log_prob(jnp.zeros((T, B, 2))).shape == (T, B)
    else:
        assert output.shape == (T, B)
        assert output.dtype == jnp.float32


@each
def test_a_batch_is_evaluated_as_its_members_are(name, built):
    params, obs, output = built[name]
    apply = jax.jit(CASES[name].network.apply)
    start = jnp.ones((1, 1), bool)
    for t, b in ((0, 0), (1, 2), (T - 1, B - 1)):
        one, _ = apply(params, (), obs[t : t + 1, b : b + 1], start)
        for x, batch in zip(jax.tree.leaves(one), jax.tree.leaves(output), strict=True):
            np.testing.assert_allclose(x[0, 0], batch[t, b], rtol=1e-5, atol=1e-6)


def test_an_mlp_by_hand(built):
    """The MLP of [3, 4] observations is tanh over the flattened observation, then a linear head."""
    params, obs, output = built["value MLP of one layer"]
    (hidden, head) = (flat_kernel(kernel) for kernel in leaves(params, "kernel"))
    expected = np.tanh(np.asarray(obs, np.float64).reshape(T, B, -1) @ hidden) @ head
    np.testing.assert_allclose(output, expected[..., 0], rtol=1e-4, atol=1e-5)


def test_log_std_does_not_depend_on_the_state(built):
    params, _, output = built["Gaussian MLP"]
    (log_std,) = leaves(params, "log_std")
    np.testing.assert_array_equal(log_std, [0.0, 0.0])
    network = CASES["Gaussian MLP"].network
    wide = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.array([0.5, -1.0]) if "log_std" in str(path) else x, params
    )
    obs = jax.random.normal(jax.random.key(5), (T, B, 6))
    changed, _ = network.apply(wide, (), obs, jnp.zeros((T, B), bool))
    scale = np.broadcast_to(np.exp([0.5, -1.0]), (T, B, 2))
    np.testing.assert_allclose(changed.distribution.scale, scale, rtol=1e-6)
    np.testing.assert_array_equal(output.distribution.scale, np.ones((T, B, 2)))
    assert np.ptp(changed.mode(), axis=(0, 1)).min() > 0


def test_the_activation_is_that_of_the_caller():
    network = value_network(MLP((8,), activation=lambda x: 0.0 * x))
    obs = jnp.ones((1, 2, 3))
    params = network.init(jax.random.key(0), obs)
    np.testing.assert_array_equal(
        network.apply(params, (), obs, jnp.zeros((1, 2), bool))[0], [[0, 0]]
    )


def test_own_modules_and_outputs():
    """`feed_forward` takes any pytree that a module gives, and any leading axes of its leaves."""

    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x):
            return {"sum": x.sum(-1), "copy": x}

    network = feed_forward(Pair(), lambda output: (output["sum"], output["copy"]))
    obs = jnp.arange(T * B * 2.0).reshape(T, B, 2)
    params = network.init(jax.random.key(0), obs)
    (total, copy), memory = network.apply(params, (), obs, jnp.zeros((T, B), bool))
    assert (memory, network.initial_memory(7)) == ((), ())
    np.testing.assert_array_equal(total, obs.sum(-1))
    np.testing.assert_array_equal(copy, obs)


# Policy and value.


def make_env(action_space):
    def reset(key, params):
        return jnp.zeros(6), ()

    return Env(reset, reset, lambda params: Box(-1.0, 1.0, (6,)), lambda params: action_space)


def test_policy_and_value_share_nothing():
    """Not even the draw of their first layers, though both were given the same module."""
    torso = MLP((16,))
    networks = PolicyValue(policy_network(Discrete(2), torso), value_network(torso))
    params, _ = begin_agent(jax.random.key(0), make_env(Discrete(2)), None, networks, num_envs=2)
    first_layers = [leaves(tree, "kernel")[0] for tree in params]
    assert first_layers[0].shape == first_layers[1].shape == (6, 16)
    assert np.abs(first_layers[0] - first_layers[1]).max() > 0.1

    obs, start = jnp.ones((1, 2, 6)), jnp.zeros((1, 2), bool)
    value = lambda params: networks[1].apply(params.value, (), obs, start)[0].sum()  # noqa: E731
    gradient = jax.grad(value)(params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient.policy))
    assert any((leaf != 0).any() for leaf in jax.tree.leaves(gradient.value))


# Refusals.


def test_a_cnn_needs_channels():
    network = value_network(CNN())
    with pytest.raises(ValueError, match=r"\[height, width, channels\], found \(10, 5\); use MLP"):
        network.init(jax.random.key(0), jnp.zeros((1, 2, 10, 5)))


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_actions_have_one_axis(shape):
    with pytest.raises(ValueError, match="Continuous actions must have one axis, found"):
        policy_network(Box(-1.0, 1.0, shape))


@pytest.mark.parametrize(
    ("given", "needed", "message"),
    [
        (Discrete(3), BOX, r"continuous actions of shape \(2,\) but the policy gives discrete"),
        (Discrete(3), Discrete(4), "has 4 discrete actions but the policy gives 3 discrete"),
        (BOX, Discrete(4), "has 4 discrete actions but the policy gives continuous actions"),
        (Box(0, 1, (3,)), BOX, r"of shape \(2,\) but the policy gives actions of shape \(3,\)"),
    ],
)
def test_policies_that_do_not_fit_the_environment(given, needed, message):
    networks = PolicyValue(policy_network(given), value_network())
    with pytest.raises(ValueError, match=message + r".*policy_network\(env.action_space"):
        begin_agent(jax.random.key(0), make_env(needed), None, networks, num_envs=2)


def test_policies_that_fit():
    check_support(categorical(jnp.zeros((1, 2, 4))), Discrete(4))
    check_support(categorical(jnp.zeros((1, 2, 4)), jnp.ones((1, 2, 4), bool)), Discrete(4))
    check_support(diagonal_gaussian(jnp.zeros((1, 2, 2)), jnp.zeros(2)), BOX)
