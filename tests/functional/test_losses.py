"""Every loss against hand-computed numbers and rlax, and its gradients."""

import warnings
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purejaxpg.functional import losses

LOG = np.log
N = 24


def draw(seed, number):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=N).astype(np.float32) for _ in range(number)]


def close(actual, expected, tolerance=1e-6):
    assert np.shape(actual) == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def f32(*numbers):
    return jnp.array(numbers, jnp.float32)


def gradient(loss, argument=0):
    """The gradient of every sample's loss with respect to one argument of that sample."""
    return jax.vmap(jax.grad(loss, argnums=argument))


# Values by hand.


def test_policy_gradient_loss_by_hand():
    loss = losses.policy_gradient_loss(f32(-0.5, -2.0), f32(2.0, -3.0))
    close(loss, [1.0, -6.0])


def test_surrogate_loss_by_hand():
    log_prob, old = f32(LOG(0.6), LOG(0.1)), f32(LOG(0.3), LOG(0.4))  # ratios 2 and 1/4
    close(losses.surrogate_loss(log_prob, old, f32(3.0, -2.0)), [-6.0, 0.5])


# ratio, advantage, clip_eps = 0.2: loss, gradient with respect to log_prob (-ratio advantage or 0)
CLIP_CASES = [
    (1.1, 2.0, -2.2, -2.2),  # inside
    (0.9, -2.0, 1.8, 1.8),
    (1.5, 2.0, -2.4, 0.0),  # outside, the way the advantage pushes: clipped
    (0.5, -2.0, 1.6, 0.0),
    (1.5, -2.0, 3.0, 3.0),  # outside, the other way: not clipped, so that it can come back
    (0.5, 2.0, -1.0, -1.0),
    (1.5, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("ratio", "advantage", "loss", "slope"), CLIP_CASES)
def test_ppo_clip_loss_by_hand(ratio, advantage, loss, slope):
    arguments = f32(LOG(0.3 * ratio)), f32(LOG(0.3)), f32(advantage)
    clip = partial(losses.ppo_clip_loss, clip_eps=0.2)
    close(clip(*arguments), [loss])
    found = gradient(clip)(*arguments)
    close(found, [slope])
    assert slope != 0.0 or found[0] == 0.0  # exactly


def test_ppo_kl_penalty_loss_by_hand():
    arguments = f32(LOG(0.6)), f32(LOG(0.3)), f32(3.0), f32(0.25)
    penalty = partial(losses.ppo_kl_penalty_loss, kl_coef=2.0)
    close(penalty(*arguments), [-5.5])
    close(gradient(penalty, 0)(*arguments), [-6.0])
    close(gradient(penalty, 3)(*arguments), [2.0])


def test_value_loss_by_hand():
    close(losses.value_loss(f32(3.0, -1.0), f32(1.0, 2.0)), [2.0, 4.5])
    close(gradient(losses.value_loss)(f32(3.0, -1.0), f32(1.0, 2.0)), [2.0, -3.0])


# value, old_value, target, clip_eps = 0.5: loss, gradient with respect to value
CLIPPED_VALUE_CASES = [
    (1.25, 1.0, 3.0, 0.5 * 1.75**2, -1.75),  # inside: the plain loss
    (2.0, 1.0, 3.0, 0.5 * 1.5**2, 0.0),  # left toward the target: that of old_value + 1/2
    (0.0, 1.0, -3.0, 0.5 * 3.5**2, 0.0),
    (0.0, 1.0, 3.0, 0.5 * 3.0**2, -3.0),  # left away from it: the plain loss, which leads back
    (2.0, 1.0, -3.0, 0.5 * 5.0**2, 5.0),
    (4.0, 1.0, 2.0, 0.5 * 2.0**2, 2.0),  # overshot by more than clipping undershoots
]


@pytest.mark.parametrize(("value", "old", "target", "loss", "slope"), CLIPPED_VALUE_CASES)
def test_clipped_value_loss_by_hand(value, old, target, loss, slope):
    clipped = partial(losses.clipped_value_loss, clip_eps=0.5)
    close(clipped(f32(value), f32(old), f32(target)), [loss])
    found = gradient(clipped)(f32(value), f32(old), f32(target))
    close(found, [slope])
    assert slope != 0.0 or found[0] == 0.0  # exactly


def test_bradley_terry_loss_by_hand():
    # Rewards log 3 and 0: the first is preferred with probability 3/4.
    close(losses.bradley_terry_loss(f32(LOG(3.0)), f32(0.0)), [-LOG(0.75)])
    close(losses.bradley_terry_loss(f32(0.0), f32(LOG(3.0))), [-LOG(0.25)])
    close(losses.bradley_terry_loss(f32(5.0), f32(5.0)), [LOG(2.0)])


def test_bradley_terry_loss_is_stable_and_trains_both():
    chosen, rejected = f32(200.0, -200.0, 0.0), f32(-200.0, 200.0, 0.0)
    close(losses.bradley_terry_loss(chosen, rejected), [0.0, 400.0, LOG(2.0)])
    close(gradient(losses.bradley_terry_loss, 0)(chosen, rejected), [0.0, -1.0, -0.5])
    close(gradient(losses.bradley_terry_loss, 1)(chosen, rejected), [0.0, 1.0, 0.5])


def test_bradley_terry_adds_up():
    """P(a preferred) + P(b preferred) = 1, and only the difference of the rewards matters."""
    a, b = draw(0, 2)
    probability = np.exp(-losses.bradley_terry_loss(a, b))
    close(probability + np.exp(-losses.bradley_terry_loss(b, a)), np.ones(N))
    close(losses.bradley_terry_loss(a + 4, b + 4), losses.bradley_terry_loss(a, b), 1e-5)


class Categorical(NamedTuple):
    logits: jax.Array

    def entropy(self):
        log_prob = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_prob) * log_prob, axis=-1)


def test_entropy_loss():
    close(losses.entropy_loss(Categorical(jnp.zeros((2, 4)))), [-LOG(4.0)] * 2)
    # A step down the gradient raises the entropy.
    logits = f32(2.0, 0.0, -1.0)
    slope = jax.grad(lambda logits: losses.entropy_loss(Categorical(logits)))(logits)
    after = Categorical(logits - 0.1 * slope)
    assert after.entropy() > Categorical(logits).entropy() + 0.01


def test_kl_estimates_by_hand():
    log_prob, old = f32(LOG(0.6), LOG(0.1)), f32(LOG(0.3), LOG(0.4))  # ratios 2 and 1/4
    close(losses.kl_k1(log_prob, old), [-LOG(2.0), LOG(4.0)])
    close(losses.kl_k3(log_prob, old), [1 - LOG(2.0), LOG(4.0) - 0.75])


# Against rlax.


def test_policy_gradient_loss_is_rlax():
    logits = np.stack(draw(1, 5), axis=1)
    advantage, weight = draw(2, 2)
    action = np.arange(N, dtype=np.int32) % 5

    def ours(logits):
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
        return jnp.mean(losses.policy_gradient_loss(log_prob, advantage) * weight)

    def theirs(logits):
        with warnings.catch_warnings():  # "Rlax softmax will be deprecated"
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            return rlax.policy_gradient_loss(logits, action, advantage, weight)

    for a, b in zip(jax.value_and_grad(ours)(logits), jax.value_and_grad(theirs)(logits)):
        close(a, b, 1e-5)


def test_ppo_clip_loss_is_rlax():
    log_prob, old, advantage = draw(3, 3)

    def ours(log_prob):
        return jnp.mean(losses.ppo_clip_loss(log_prob, old, advantage, clip_eps=0.3))

    def theirs(log_prob):
        return rlax.clipped_surrogate_pg_loss(jnp.exp(log_prob - old), advantage, 0.3)

    for a, b in zip(jax.value_and_grad(ours)(log_prob), jax.value_and_grad(theirs)(log_prob)):
        close(a, b, 1e-5)


# Gradients.


def test_at_ratio_1_all_policy_losses_have_the_policy_gradient():
    log_prob, advantage = draw(4, 2)
    expected = gradient(losses.policy_gradient_loss)(log_prob, advantage)
    close(expected, -advantage)
    data = (log_prob, log_prob, advantage)
    close(gradient(losses.surrogate_loss)(*data), expected)
    close(gradient(partial(losses.ppo_clip_loss, clip_eps=0.2))(*data), expected)
    penalty = partial(losses.ppo_kl_penalty_loss, kl_coef=3.0)
    close(gradient(penalty)(*data, np.zeros_like(log_prob)), expected)


LOSSES = {
    # name: (loss, number of arguments, those that gradients flow through)
    "policy_gradient": (losses.policy_gradient_loss, 2, {0}),
    "surrogate": (losses.surrogate_loss, 3, {0}),
    "ppo_clip": (partial(losses.ppo_clip_loss, clip_eps=0.2), 3, {0}),
    "ppo_kl_penalty": (partial(losses.ppo_kl_penalty_loss, kl_coef=0.5), 4, {0, 3}),
    "value": (losses.value_loss, 2, {0}),
    "clipped_value": (partial(losses.clipped_value_loss, clip_eps=0.2), 3, {0}),
    "bradley_terry": (losses.bradley_terry_loss, 2, {0, 1}),
    "kl_k1": (losses.kl_k1, 2, {0}),
    "kl_k3": (losses.kl_k3, 2, {0}),
}
every_loss = pytest.mark.parametrize(("loss", "number", "flows"), LOSSES.values(), ids=LOSSES)


@every_loss
def test_gradients_flow_only_where_they_should(loss, number, flows):
    data = draw(5, number)
    for argument in range(number):
        slopes = gradient(loss, argument)(*data)
        if argument in flows:
            assert np.mean(slopes != 0) > 0.25
        else:
            np.testing.assert_array_equal(slopes, np.zeros(N))


@every_loss
def test_element_wise(loss, number, flows):
    """One number per sample, each from its own sample, for any shape."""
    data = draw(6, number)
    result = loss(*data)
    assert result.dtype == jnp.float32
    close(result, jnp.stack([loss(*(x[i] for x in data)) for i in range(N)]), 1e-5)
    close(loss(*(x.reshape(2, 3, 4) for x in data)), result.reshape(2, 3, 4))


@every_loss
def test_shapes_must_agree(loss, number, flows):
    first, *rest = draw(7, number)
    with pytest.raises(ValueError, match="must have the same shape"):
        loss(first[:, None], *rest)  # would broadcast to [N, N]


@every_loss
def test_mask_as_documented(loss, number, flows):
    """Masked samples, NaN ones included, change neither the masked mean nor its gradient."""
    data = draw(8, number)
    mask = np.arange(N) % 3 > 0

    def masked_mean(*data):
        per_sample = loss(*(jnp.where(mask, x, 0.0) for x in data))
        return jnp.sum(per_sample * mask) / jnp.sum(mask)

    def over_kept(*data):
        return jnp.mean(loss(*(x[mask] for x in data)))

    broken = [np.where(mask, x, np.float32(np.nan)) for x in data]
    arguments = tuple(sorted(flows))
    found, slopes = jax.value_and_grad(masked_mean, arguments)(*broken)
    expected, expected_slopes = jax.value_and_grad(over_kept, arguments)(*data)
    close(found, expected, 1e-5)
    for a, b in zip(slopes, expected_slopes):
        close(a, b, 1e-5)


HYPERPARAMETER = {
    "ppo_clip": (losses.ppo_clip_loss, 3, "clip_eps"),
    "ppo_kl_penalty": (losses.ppo_kl_penalty_loss, 4, "kl_coef"),
    "clipped_value": (losses.clipped_value_loss, 3, "clip_eps"),
}


@pytest.mark.parametrize(("loss", "number", "name"), HYPERPARAMETER.values(), ids=HYPERPARAMETER)
def test_hyperparameters_vmap_and_are_keyword_only(loss, number, name):
    data = draw(9, number)
    numbers = jnp.array([0.05, 0.2, 0.8])
    batched = jax.jit(jax.vmap(lambda x: loss(*data, **{name: x})))(numbers)
    for i in range(3):
        close(batched[i], loss(*data, **{name: float(numbers[i])}), 1e-5)
    with pytest.raises(TypeError, match="positional"):
        loss(*data, 0.2)


# The estimates of KL(old, new).


def _policies(seed):
    rng = np.random.default_rng(seed)
    old, new = jax.nn.log_softmax(rng.normal(size=(2, 6)).astype(np.float32))
    return old, new


@pytest.mark.parametrize("estimate", [losses.kl_k1, losses.kl_k3])
@pytest.mark.parametrize("seed", range(3))
def test_kl_estimates_are_unbiased_for_kl_old_new(estimate, seed):
    """The exact expectation over the old policy's actions is KL(old, new), gradient included."""
    old, new = _policies(seed)
    probability = jnp.exp(old)

    def expectation(logits):
        return probability @ estimate(jax.nn.log_softmax(logits), old)

    def kl(logits):
        return probability @ (old - jax.nn.log_softmax(logits))

    reverse = jnp.exp(new) @ (new - old)
    assert abs(kl(new) - reverse) > 0.01  # the test can tell KL(old, new) from KL(new, old)
    close(expectation(new), kl(new), 1e-5)
    close(jax.grad(expectation)(new), jax.grad(kl)(new), 1e-5)


def test_k3_is_never_negative_and_accurate_near_zero():
    log_ratio = np.concatenate([s * np.logspace(-9, 1, 1001) for s in (-1, 1)]).astype(np.float32)
    k3 = losses.kl_k3(log_ratio, np.zeros_like(log_ratio))
    assert np.all(k3 >= 0)
    assert losses.kl_k3(f32(0.0), f32(0.0))[0] == 0
    small = np.abs(log_ratio) < 1e-3
    # k3 = x^2/2 + x^3/6 + ...; exp(x) - 1 - x would be off by 6e-8, the whole of it for x = 3e-4.
    series = log_ratio**2 / 2 + log_ratio**3 / 6
    np.testing.assert_allclose(k3[small], series[small], rtol=0.01, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_k3_varies_less_than_k1_near_the_old_policy(seed):
    old, new = _policies(seed)
    new = jax.nn.log_softmax(old + 0.1 * (new - old))
    probability = np.exp(old)

    def variance(x):
        return probability @ (x - probability @ x) ** 2

    assert variance(losses.kl_k3(new, old)) < 0.1 * variance(losses.kl_k1(new, old))
