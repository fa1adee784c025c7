"""Exact values, returns and policy gradients of small Markov decision processes, by linear algebra.

A policy is an array `[S, A]` of probabilities. Everything differentiates and vmaps: the exact gradient of
the softmax policy with logits theta `[S, A]` is

    jax.grad(lambda theta: expected_return(mdp, jax.nn.softmax(theta), discount=0.99))(theta)

Results have the dtype of the arrays. Systems with a discount near 1 and long episodes are ill-conditioned:
in float32 about 1e-7 / (1 - discount) of a value is lost.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.types import Scalar


class FiniteMDP(NamedTuple):
    """Arrays of a Markov decision process with S states and A actions.

    Attributes:
      transition: `[S, A, S]`, probability of going on in s'. What a row lacks to 1 is the probability of
        termination; terminal states are none of the S.
      reward: `[S, A]`, expected reward of the step.
      start: `[S]`, distribution of the first state.
    """

    transition: jax.Array
    reward: jax.Array
    start: jax.Array


def check(mdp: FiniteMDP, *, tolerance: float = 1e-5) -> FiniteMDP:
    """The same process if its arrays fit together.

    Raises:
      ValueError: shapes do not fit, or rows are no (sub)distributions. Not for traced arrays.
    """
    transition, reward, start = (np.asarray(x) for x in mdp)
    states, actions = reward.shape if reward.ndim == 2 else (0, 0)
    if states == 0 or transition.shape != (states, actions, states) or start.shape != (states,):
        raise ValueError(
            "A FiniteMDP needs transition [S, A, S], reward [S, A] and start [S], found "
            f"{transition.shape}, {reward.shape} and {start.shape}."
        )
    if transition.min() < -tolerance or transition.sum(-1).max() > 1 + tolerance:
        raise ValueError("Rows of transition must be probabilities that sum to at most 1.")
    if start.min() < -tolerance or abs(start.sum() - 1) > tolerance:
        raise ValueError("start must be probabilities that sum to 1.")
    return mdp


def state_values(mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar) -> jax.Array:
    """V `[S]`, the solution of V = r_pi + discount P_pi V (Sutton and Barto 2018, eq. 3.14).

    Without a discount below 1 it exists only where every episode ends; elsewhere the result is not finite,
    or large and meaningless.
    """
    chain, reward = _chain(mdp, policy)
    return jnp.linalg.solve(jnp.eye(len(reward), dtype=reward.dtype) - discount * chain, reward)


def action_values(mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar) -> jax.Array:
    """Q `[S, A]`: r(s, a) + discount sum_s' P(s'|s, a) V(s')."""
    return mdp.reward + discount * mdp.transition @ state_values(mdp, policy, discount=discount)


def advantages(mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar) -> jax.Array:
    """A `[S, A]`: Q(s, a) - V(s)."""
    values = state_values(mdp, policy, discount=discount)
    return mdp.reward + discount * mdp.transition @ values - values[:, None]


def expected_return(mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar) -> jax.Array:
    """J, the expected discounted return of an episode: start . V."""
    return mdp.start @ state_values(mdp, policy, discount=discount)


def state_visits(mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar) -> jax.Array:
    """d `[S]`, sum_t discount^t P(s_t = s): the solution of d = start + discount P_pi^T d."""
    chain, reward = _chain(mdp, policy)
    eye = jnp.eye(len(reward), dtype=reward.dtype)
    return jnp.linalg.solve(eye - discount * chain.T, mdp.start)


def finite_horizon_values(
    mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar, horizon: int
) -> jax.Array:
    """V_k `[horizon + 1, S]`: the value with k steps left, V_0 = 0, by dynamic programming.

    Nothing counts after the last step, as when a time limit is taken for the end.
    """
    chain, reward = _chain(mdp, policy)

    def one_more(value, _):
        value = reward + discount * chain @ value
        return value, value

    zero = jnp.zeros_like(reward)
    return jnp.concatenate([zero[None], jax.lax.scan(one_more, zero, length=horizon)[1]])


def finite_horizon_return(
    mdp: FiniteMDP, policy: jax.Array, *, discount: Scalar, horizon: int
) -> jax.Array:
    """J_H, the expected discounted return of the first `horizon` steps of an episode."""
    return mdp.start @ finite_horizon_values(mdp, policy, discount=discount, horizon=horizon)[-1]


def state_distributions(mdp: FiniteMDP, policy: jax.Array, *, horizon: int) -> jax.Array:
    """P(s_t = s) `[horizon, S]` for t = 0, ..., horizon - 1; a row sums to P(episode goes on)."""
    chain, _ = _chain(mdp, policy)
    return jax.lax.scan(lambda d, _: (d @ chain, d), mdp.start, length=horizon)[1]


def with_death(mdp: FiniteMDP, *, discount: Scalar) -> FiniteMDP:
    """Every step is followed by termination with probability 1 - discount: discounting as a death state."""
    return mdp._replace(transition=discount * mdp.transition)


def with_restart(mdp: FiniteMDP) -> FiniteMDP:
    """Begin again where an episode would terminate: a task that goes on for ever."""
    ends = 1 - mdp.transition.sum(-1, keepdims=True)
    return mdp._replace(transition=mdp.transition + ends * mdp.start)


def with_action_noise(mdp: FiniteMDP, noise: jax.Array) -> FiniteMDP:
    """Action b is carried out where a was chosen with probability `noise[a, b]`, `[A, A]`."""
    return mdp._replace(
        transition=jnp.einsum("ab,sbt->sat", noise, mdp.transition), reward=mdp.reward @ noise.T
    )


def _chain(mdp: FiniteMDP, policy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """P_pi `[S, S]` and r_pi `[S]`."""
    transition = jnp.einsum("sa,sat->st", policy, mdp.transition)
    return transition, jnp.sum(policy * mdp.reward, axis=-1)
