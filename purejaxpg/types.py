"""The four shapes that everything else is made of, and the convention of time.

Time. At step t an agent sees `obs[t]`, takes `action[t]`, receives `reward[t]` and arrives at
`next_obs[t]`, the observation *before* any reset. `terminated[t]` says that the task ended there, so
that V(next_obs[t]) = 0; `truncated[t]` says that a time limit cut the episode there, so that
V(next_obs[t]) still counts. Both may be true; then `terminated` wins. `start[t]` is true where `obs[t]`
is the first observation of an episode. Arrays are time-major, `[T, num_envs, ...]`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

PyTree = Any
Scalar = float | jax.Array
"""A real hyperparameter: a Python number, or a tracer that is vmapped over. Never meets an `if`."""
Coefficient = Scalar | Callable[[jax.Array], Scalar]
"""A Scalar, or a function of the update count (any optax schedule) that gives one."""


class Discrete(NamedTuple):
    """The integers 0, ..., n - 1.

    Attributes:
      n: how many there are, at least 1.
    """

    n: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()


class Box(NamedTuple):
    """Arrays of real numbers between two bounds.

    Attributes:
      low: the lower bound, a scalar or an array that broadcasts to `shape`; may be -inf.
      high: the upper bound, likewise; may be inf.
      shape: of an array.
    """

    low: Any
    high: Any
    shape: tuple[int, ...]


Space = Discrete | Box


class Reset(Protocol):
    def __call__(self, key: jax.Array, params: PyTree, /) -> tuple[jax.Array, PyTree]:
        """Begin an episode.

        Args:
          key: consumed.
          params: parameters of the environment, traced or not.

        Returns:
          `(obs, state)` of one environment.
        """


class Step(Protocol):
    def __call__(
        self,
        key: jax.Array,
        state: PyTree,
        action: jax.Array,
        params: PyTree,
        /,
    ) -> tuple[jax.Array, PyTree, jax.Array, jax.Array, jax.Array, dict[str, jax.Array]]:
        """Take one step, without a reset.

        Args:
          key: consumed.
          state: of the environment, from `reset` or from the step before.
          action: of the action space.
          params: parameters of the environment, traced or not.

        Returns:
          `(obs, state, reward, terminated, truncated, info)`: the observation of the state arrived at, that
          state in the types of the one before, a float32 reward, two booleans, and a flat dict of arrays that
          holds no observation.
        """


class Observe(Protocol):
    def __call__(self, obs: Any, params: PyTree, /) -> Any:
        """What a network sees of raw observations.

        Args:
          obs: raw observations `[..., *shape]` with any leading axes.
          params: parameters of the environment.

        Returns:
          A float32 array `[..., *other_shape]`, or a `Masked` where some actions are forbidden.
        """


def identity_observe(obs: Any, params: PyTree) -> Any:
    """Raw observations as they are: the default of `Env.observe`."""
    return obs


class Env(NamedTuple):
    """One environment as pure functions. It does not reset itself: `unroll` does that.

    Attributes:
      reset: `(key, params) -> (obs, state)`, see `Reset`.
      step: `(key, state, action, params) -> (obs, state, reward, terminated, truncated, info)`, see `Step`.
      observation_space: `(params) -> Space` of the raw observations.
      action_space: `(params) -> Space`.
      observe: `(obs, params) ->` what a network sees, see `Observe`; the identity by default. Observations are
        stored raw, in their narrowest type, and pass through here when a network uses them.
    """

    reset: Reset
    step: Step
    observation_space: Callable[[PyTree], Space]
    action_space: Callable[[PyTree], Space]
    observe: Observe = identity_observe


class Masked(NamedTuple):
    """What a network sees where only some of n actions are allowed.

    Attributes:
      obs: `[..., *shape]`.
      mask: `[..., n]` boolean, true where an action is allowed; at least one of them is.
    """

    obs: jax.Array
    mask: jax.Array


def split_mask(observed: jax.Array | Masked) -> tuple[jax.Array, jax.Array | None]:
    """What `Env.observe` gives, as the observation and the mask, None without one."""
    return (observed.obs, observed.mask) if isinstance(observed, Masked) else (observed, None)


def on_obs(function: Callable, observed: jax.Array | Masked) -> jax.Array | Masked:
    """`function` of an observation; a mask beside it stays as it is."""
    obs, mask = split_mask(observed)
    return function(obs) if mask is None else Masked(function(obs), mask)


class Transition(NamedTuple):
    """A rollout, time-major. See the convention of time above.

    Attributes:
      obs: `[T, num_envs, *shape]`, raw observations in the environment's own type.
      action: `[T, num_envs, ...]`, as the policy chose it (not clipped).
      reward: `[T, num_envs]`, float32, the environment's.
      terminated: `[T, num_envs]`, boolean, true where the task ended.
      truncated: `[T, num_envs]`, boolean, true where a time limit cut the episode.
      next_obs: `[T, num_envs, *shape]`, raw, before any reset.
      start: `[T, num_envs]`, boolean, true where `obs` begins an episode.
      info: name -> `[T, num_envs, ...]`, what the environment reports beside. A boolean `live` in it is false
        where an episode is over and only fills up a fixed length: such steps are in no mean.
    """

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: jax.Array
    start: jax.Array
    info: dict[str, jax.Array]


class NetworkInit(Protocol):
    def __call__(self, key: jax.Array, obs: Any, /) -> PyTree:
        """Draw parameters.

        Args:
          key: consumed.
          obs: `[T, B, ...]`, what `Env.observe` gives; shapes and types count.

        Returns:
          Parameters, a pytree of arrays with at least one element.
        """


class NetworkApply(Protocol):
    def __call__(
        self,
        params: PyTree,
        memory: PyTree,
        obs: Any,
        start: jax.Array,
        /,
    ) -> tuple[Any, PyTree]:
        """Map sequences to outputs. Always a sequence: T = 1 when acting.

        Args:
          params: from `init`.
          memory: `[B, ...]`, from before the first step; `()` for a network without memory.
          obs: `[T, B, ...]`, what `Env.observe` gives.
          start: `[T, B]` boolean; memory is reset where it is true.

        Returns:
          The output, batch shape `[T, B]`, and the memory after the last step.
        """


class Network(NamedTuple):
    """A policy (its output is a `Distribution`) or a value function (its output is an array).

    Attributes:
      init: `(key, obs [T, B, ...]) -> params`, see `NetworkInit`.
      initial_memory: `(batch) -> memory [B, ...]` before an episode, `()` for a feed-forward network.
      apply: `(params, memory [B], obs [T, B, ...], start [T, B]) -> (output [T, B], memory [B])`, see
        `NetworkApply`.
      sequence_length: steps of the sequences that a network without memory is shown in training, contiguous and
        from the first step of a rollout on; None if it takes steps one by one.
    """

    init: NetworkInit
    initial_memory: Callable[[int], PyTree]
    apply: NetworkApply
    sequence_length: int | None = None


class AlgorithmInit(Protocol):
    def __call__(self, key: jax.Array, env_params: PyTree, /) -> Any:
        """Draw parameters and reset the environments.

        Args:
          key: consumed.
          env_params: parameters of the environment.

        Returns:
          The state before the first update: a NamedTuple of arrays.
        """


class AlgorithmStep(Protocol):
    def __call__(
        self,
        key: jax.Array,
        state: Any,
        env_params: PyTree,
        /,
    ) -> tuple[Any, Transition, dict[str, jax.Array]]:
        """Make one update.

        Args:
          key: consumed.
          state: from `init` or from the update before.
          env_params: parameters of the environment.

        Returns:
          `(state, transitions, metrics)`: the state afterwards, what was experienced, and a flat dict of
          scalars.
        """


class Act(Protocol):
    def __call__(
        self,
        key: jax.Array,
        state: Any,
        memory: PyTree,
        obs: jax.Array,
        start: jax.Array,
        /,
        *,
        deterministic: bool = False,
        env_params: PyTree,
    ) -> tuple[jax.Array, PyTree]:
        """Choose an action for each of B environments.

        Args:
          key: consumed.
          state: of the algorithm.
          memory: `[B, ...]`, from `Algorithm.initial_memory` or from the call before.
          obs: `[B, *shape]`, raw observations.
          start: `[B]` boolean, true where an episode begins.
          deterministic: take the mode of the policy instead of a sample.
          env_params: parameters of the environment, which `Env.observe` is given.

        Returns:
          Actions `[B, ...]` and the memory afterwards.
        """


class Algorithm(NamedTuple):
    """A training algorithm as pure functions. Its state is a NamedTuple of arrays.

    The state has a field or property `update`, the int32 count of updates done. It holds no key.

    Attributes:
      init: `(key, env_params) -> state`, see `AlgorithmInit`.
      step: `(key, state, env_params) -> (state, transitions, metrics)`, one update, see `AlgorithmStep`.
      act: `(key, state, memory, obs, start, *, deterministic=False, env_params) -> (action, memory)`, see
        `Act`.
      initial_memory: `(batch) -> memory` of the policy.
    """

    init: AlgorithmInit
    step: AlgorithmStep
    act: Act
    initial_memory: Callable[[int], PyTree]


Build = Callable[[Env], Algorithm]
"""What outer algorithms (normalisation, domain randomisation, ...) take and return."""


class RewardFn(Protocol):
    def __call__(
        self,
        transitions: Transition,
        log_prob: jax.Array,
        env_params: PyTree,
        /,
    ) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """The reward that is learnt from, in place of the environment's.

        Args:
          transitions: of a rollout.
          log_prob: `[T, num_envs]`, of its actions under the policy that took them.
          env_params: parameters of the environment, nested by outer algorithms.

        Returns:
          The reward `[T, num_envs]`, or that and extras: a dict of arrays `[T, num_envs]`, which go with the
          samples into a `policy_loss` and whose means are metrics.
        """


def strong(x: Any) -> jax.Array:
    """An array of x's own dtype that is not weakly typed."""
    return jax.lax.convert_element_type(jnp.asarray(x), jnp.asarray(x).dtype)
