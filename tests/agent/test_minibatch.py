"""Permutations by counting, epochs by the definition of a pass through the data."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxpg.agent.minibatch import (
    choose_sequence_length,
    permutation,
    sequences,
    shuffled_epochs,
)
from purejaxpg.networks.modules import MLP
from purejaxpg.networks.standard import value_network


@pytest.mark.parametrize("size", [1, 2, 3, 7, 512, 8192, 65536, 70000])
def test_permutation(size):
    first, second = (permutation(jax.random.key(seed), size) for seed in (0, 1))
    for order in (first, second):
        assert order.shape == (size,)
        assert order.dtype == jnp.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(size))
    if size >= 512:
        assert (first != second).any()
        # The rank correlation of an order has standard deviation 1 / sqrt(size - 1).
        correlation = np.corrcoef(first, np.arange(size))[0, 1]
        assert abs(correlation) < 5 / np.sqrt(size - 1)
        assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(size - 1)


@pytest.fixture(scope="module")
def many():
    """20,000 permutations of 5 things."""
    keys = jax.random.split(jax.random.key(0), 20_000)
    return np.asarray(jax.jit(jax.vmap(lambda key: permutation(key, 5)))(keys))


def within(counts, number, probability):
    """Binomial counts within five standard deviations: one in 1.7 million is not."""
    deviation = np.sqrt(number * probability * (1 - probability))
    assert np.abs(counts - number * probability).max() < 5 * deviation


def test_each_thing_is_equally_often_in_each_place(many):
    within(np.stack([(many == thing).sum(0) for thing in range(5)]), len(many), 1 / 5)


def test_each_order_is_equally_frequent(many):
    _, counts = np.unique(many, axis=0, return_counts=True)
    assert len(counts) == 120
    within(counts, len(many), 1 / 120)


def test_each_thing_of_many_is_equally_often_in_the_first_half():
    """With 512 things 23 bits are random, so that ties (one pair in 8.4 million) cannot be seen."""
    keys = jax.random.split(jax.random.key(1), 2000)
    orders = np.asarray(jax.jit(jax.vmap(lambda key: permutation(key, 512)))(keys))
    counts = np.bincount(orders[:, :256].ravel(), minlength=512)
    within(counts, 2000, 1 / 2)


L, S, EPOCHS, MINIBATCHES = 3, 12, 4, 3


@partial(jax.jit, static_argnames=("num_epochs", "num_minibatches"))
def run(key, data, num_epochs=EPOCHS, num_minibatches=MINIBATCHES):
    def update(carry, batch):
        counts, step = carry
        counts = counts.at[batch["id"]].add(1)
        return (counts, step + 1), (batch, step)

    carry = (jnp.zeros((L * S,), jnp.int32), jnp.zeros((), jnp.int32))
    return shuffled_epochs(
        key, update, carry, data, num_epochs=num_epochs, num_minibatches=num_minibatches
    )


def make_data():
    """Sequence s holds s, S + s, 2S + s; `twice` says the same in other words."""
    ids = jnp.arange(L * S).reshape(L, S)
    return {"id": ids, "twice": jnp.stack([ids, 2 * ids], axis=-1).astype(jnp.float32)}


def test_each_sample_is_visited_once_an_epoch():
    (counts, steps), (batch, step) = run(jax.random.key(0), make_data())
    assert steps == EPOCHS * MINIBATCHES
    np.testing.assert_array_equal(counts, np.full(L * S, EPOCHS))
    np.testing.assert_array_equal(step, np.arange(EPOCHS * MINIBATCHES))
    assert batch["id"].shape == (EPOCHS * MINIBATCHES, L, S // MINIBATCHES)
    assert batch["twice"].shape == (EPOCHS * MINIBATCHES, L, S // MINIBATCHES, 2)
    epochs = np.asarray(batch["id"]).reshape(EPOCHS, -1)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(L * S), (EPOCHS, 1)))


def test_sequences_stay_whole_and_leaves_together():
    _, (batch, _) = run(jax.random.key(0), make_data())
    ids = np.asarray(batch["id"])
    np.testing.assert_array_equal(ids - ids[:, :1], np.broadcast_to(S * np.c_[:L], ids.shape))
    np.testing.assert_array_equal(batch["twice"], np.stack([ids, 2 * ids], axis=-1))


def test_each_epoch_and_each_key_has_its_own_order():
    orders = [np.asarray(run(jax.random.key(seed), make_data())[1][0]["id"]) for seed in (0, 1)]
    first_rows = np.concatenate([ids[:, 0].reshape(EPOCHS, S) for ids in orders])
    assert len(np.unique(first_rows, axis=0)) == 2 * EPOCHS
    again = np.asarray(run(jax.random.key(0), make_data())[1][0]["id"])
    np.testing.assert_array_equal(again, orders[0])


def test_one_minibatch_and_one_per_sequence():
    for num_minibatches in (1, S):
        (counts, steps), (batch, _) = run(
            jax.random.key(0), make_data(), num_epochs=1, num_minibatches=num_minibatches
        )
        assert steps == num_minibatches
        assert batch["id"].shape == (num_minibatches, L, S // num_minibatches)
        np.testing.assert_array_equal(counts, np.ones(L * S))


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_sequences_are_contiguous_pieces_of_one_environment(length):
    steps, envs = 6, 2
    data = {
        "time": np.arange(6)[:, None] + np.zeros((1, 2)),
        "env": np.zeros((6, 1)) + np.arange(2),
    }
    cut = sequences(jax.tree.map(jnp.asarray, data), length)
    assert cut["time"].shape == (length, steps // length * envs)
    np.testing.assert_array_equal(np.diff(cut["time"], axis=0), 1)
    np.testing.assert_array_equal(np.diff(cut["env"], axis=0), 0)
    found = sorted(zip(np.ravel(cut["time"]), np.ravel(cut["env"])))
    assert found == [(t, e) for t in range(steps) for e in range(envs)]


def test_networks_choose_the_length():
    without, remembering = value_network(MLP((2,))), value_network(MLP((2,)), nn.GRUCell(2))
    assert choose_sequence_length([without, without], 4, 8, 32) == 1
    assert choose_sequence_length([without, remembering], 4, 8, 4) == 8
    assert choose_sequence_length([without, remembering], 4, 8, 16, 2) == 2
    with pytest.raises(
        ValueError, match=r"mine=8 must .* divide num_envs \* num_steps / 8 = 4 evenly"
    ):
        choose_sequence_length([remembering], 4, 8, 8, name="mine")
    with pytest.raises(ValueError, match="sequence_length=0 must be at least 1"):
        choose_sequence_length([without], 4, 8, 1, 0)


@pytest.mark.parametrize("number", [0, -2, 3, 16])
def test_minibatches_that_do_not_divide_are_refused(number):
    message = (
        f"num_minibatches={number} must be at least 1 and divide num_envs \\* num_steps = 8 evenly"
    )
    with pytest.raises(ValueError, match=message):
        choose_sequence_length([value_network(MLP((2,)))], 2, 4, number)


@pytest.mark.parametrize("number", [1, 2, 4, 8])
def test_minibatches_that_divide_are_accepted(number):
    assert choose_sequence_length([value_network(MLP((2,)))], 2, 4, number) == 1


def test_what_has_other_axes_is_refused():
    """Gathers beyond the end of an array would give anything."""

    def cut(*shapes):
        sequences([jnp.ones(shape) for shape in shapes], 2)

    def shuffle(*shapes, number=1):
        data = [jnp.ones(shape) for shape in shapes]
        shuffled_epochs(
            jax.random.key(0), lambda carry, batch: (carry, ()), 0, data,
            num_epochs=1, num_minibatches=number,
        )  # fmt: skip

    for call in (cut, shuffle):
        for other in [(4, 3), (6, 2), (4,), (2, 4)]:
            with pytest.raises(ValueError, match="need the same first two axes"):
                call((4, 2), (4, 2), other)
    with pytest.raises(ValueError, match=r"num_minibatches=3 .* evenly"):
        shuffle((4, 2), number=3)
    with pytest.raises(ValueError, match=r"length=2 .* evenly"):
        cut((5, 2))
