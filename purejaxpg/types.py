"""The four shapes that everything else is made of, and the convention of time.

Time. At step t an agent sees `obs[t]`, takes `action[t]`, receives `reward[t]` and arrives at
`next_obs[t]`, the observation *before* any reset. `terminated[t]` says that the task ended there, so
that V(next_obs[t]) = 0; `truncated[t]` says that a time limit cut the episode there, so that
V(next_obs[t]) still counts. Both may be true; then `terminated` wins. `start[t]` is true where `obs[t]`
is the first observation of an episode. Arrays are time-major, `[T, num_envs, ...]`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any
Scalar = float | jax.Array
"""A real hyperparameter: a Python float, or a tracer that is vmapped over. Never meets an `if`."""
Coefficient = Scalar | Callable[[jax.Array], Scalar]
"""A Scalar, or a function of the update count (any optax schedule) that gives one."""


class Discrete(NamedTuple):
    """The integers 0, ..., n - 1."""

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()


class Box(NamedTuple):
    """Arrays of `shape` between `low` and `high` (scalars or arrays that broadcast to `shape`)."""

    low: Any
    high: Any
    shape: tuple[int, ...]


Space = Discrete | Box


class Env(NamedTuple):
    """One environment as pure functions. It does not reset itself: `rollout.unroll` does that.

    Attributes:
      reset: `(key, params) -> (obs, state)`.
      step: `(key, state, action, params) -> (obs, state, reward, terminated, truncated, info)`;
        `obs` is that of the state arrived at. `info` is a flat dict that holds no observation.
      observation_space: `(params) -> Space` of the raw observations.
      action_space: `(params) -> Space`.
      observe: `(obs, params) -> ` what a network sees, for `obs` with any leading axes: an array, or
        a `Masked` where actions are forbidden. Observations are stored raw, in their narrowest type,
        and pass through here when used.
    """

    reset: Callable[..., Any]
    step: Callable[..., Any]
    observation_space: Callable[[PyTree], Space]
    action_space: Callable[[PyTree], Space]
    observe: Callable[[jax.Array, PyTree], jax.Array] = lambda obs, params: obs


class Masked(NamedTuple):
    """What a network sees where only some of n actions are allowed.

    Attributes:
      obs: `[..., *shape]`.
      mask: `[..., n]` boolean, true where an action is allowed; at least one of them is.
    """

    obs: jax.Array
    mask: jax.Array


def split_mask(seen: jax.Array | Masked) -> tuple[jax.Array, jax.Array | None]:
    """What `Env.observe` gives, as the observation and the mask, None without one."""
    return (seen.obs, seen.mask) if isinstance(seen, Masked) else (seen, None)


def on_obs(function: Callable, seen: jax.Array | Masked) -> jax.Array | Masked:
    """`function` of an observation; a mask beside it stays as it is."""
    obs, mask = split_mask(seen)
    return function(obs) if mask is None else Masked(function(obs), mask)


class Transition(NamedTuple):
    """A rollout, `[T, num_envs, ...]` in every leaf. See the convention of time above."""

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: jax.Array
    start: jax.Array
    info: dict[str, jax.Array]


class Network(NamedTuple):
    """A policy (its output is a distribution) or a value function (its output is an array).

    Attributes:
      init: `(key, obs [T, B, ...]) -> params`.
      initial_memory: `(batch) -> memory`, `()` for a feed-forward network.
      apply: `(params, memory [B], obs [T, B, ...], start [T, B]) -> (output [T, B], memory [B])`.
        Always a sequence, T = 1 when acting. Memory is reset where `start` is true.
    """

    init: Callable[..., PyTree]
    initial_memory: Callable[[int], PyTree]
    apply: Callable[..., tuple[Any, PyTree]]


class Algorithm(NamedTuple):
    """A training algorithm as pure functions. Its state is a NamedTuple of arrays.

    The state has a field or property `update`, the int32 count of updates done. It holds no key.

    Attributes:
      init: `(key, env_params) -> state`.
      step: `(key, state, env_params) -> (state, transitions, metrics)`, one update. `metrics` is a
        flat dict of scalars.
      act: `(key, state, memory, obs [B, ...], start [B], *, deterministic=False, env_params=None)
        -> (action [B, ...], memory)` for raw observations. `env_params` is what `Env.observe` is
        given; environments whose `observe` ignores it do without.
      initial_memory: `(batch) -> memory` of the policy.
    """

    init: Callable[..., Any]
    step: Callable[..., Any]
    act: Callable[..., tuple[jax.Array, PyTree]]
    initial_memory: Callable[[int], PyTree]


Build = Callable[[Env], Algorithm]
"""What outer algorithms (normalisation, domain randomisation, ...) take and return."""
RewardFn = Callable[[Transition, jax.Array, PyTree], jax.Array]
"""`(transitions, log_prob, env_params) -> reward [T, num_envs]`: the reward that is learnt from."""


def strong(x: Any) -> jax.Array:
    """An array of x's own dtype that is not weakly typed."""
    return jax.lax.convert_element_type(jnp.asarray(x), jnp.asarray(x).dtype)
