"""Eligibility traces of gradients, one set for each environment."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from purejaxpg.arguments import Fraction, check_alike, check_shapes, checked
from purejaxpg.types import PyTree


@checked
def accumulate(
    fn: Callable[[PyTree, Any], jax.Array],
    params: PyTree,
    traces: PyTree,
    inputs: Any,
    start: jax.Array,
    *,
    decay: Fraction,
) -> PyTree:
    """Accumulating traces z <- decay z + gradient of fn, and z = gradient where an episode starts.

    Sutton and Barto 2018, eq. 12.5 and p. 332 (there gamma lambda is the decay).

    Args:
      fn: `(params, inputs [1, 1, ...]) -> [1, 1]`, V or log pi of one environment at one time step.
      params: where the gradient is taken, a pytree of arrays.
      traces: z, `[num_envs, ...]` in every leaf of the structure of `params`.
      inputs: a pytree of arrays `[1, num_envs, ...]`.
      start: `[1, num_envs]`, true where this is the first step of an episode.
      decay: a real number in [0, 1]; may be traced.

    Returns:
      The new traces, of the structure and shapes of `traces`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or the traces are not one of each parameter and environment.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.eligibility import accumulate
      >>> fn = lambda weight, x: weight * x
      >>> traces, x, start = jnp.array([4.0, 4.0]), jnp.array([[3.0, 3.0]]), jnp.array([[False, True]])
      >>> accumulate(fn, jnp.array(1.0), traces, x, start, decay=0.5).tolist()
      [5.0, 3.0]
    """

    num_envs = start.shape[-1:]
    check_alike(
        traces=traces,
        **{
            "[num_envs, ...] of params": jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(num_envs + jnp.shape(x), jnp.result_type(x)), params
            )
        },
    )

    def of_one(z, one, start):
        one = jax.tree.map(lambda x: x[:, None], one)
        gradient = jax.grad(lambda params: fn(params, one)[0, 0])(params)
        return jax.tree.map(lambda z, g: jnp.where(start[0], 0.0, decay * z) + g, z, gradient)

    return jax.vmap(of_one, in_axes=(0, 1, 1))(traces, inputs, start)


@checked
def weighted_mean(traces: PyTree, weight: jax.Array) -> PyTree:
    """The mean over environments of weight times trace.

    Args:
      traces: a pytree of arrays `[num_envs, ...]`.
      weight: `[1, num_envs]`, for example the TD error of each environment.

    Returns:
      A pytree of the structure of `traces` without their first axis.

    Raises:
      TypeError: the weight is no array.
      ValueError: it is not one number for each environment.

    Example:
      >>> import jax.numpy as jnp
      >>> from purejaxpg.functional.eligibility import weighted_mean
      >>> float(weighted_mean(jnp.array([4.0, 2.0]), jnp.array([[1.0, -3.0]])))
      -1.0
    """
    for z in jax.tree.leaves(traces):
        check_shapes(
            weight=weight, **{"[1, num_envs] of traces": jax.ShapeDtypeStruct((1, len(z)), z.dtype)}
        )
    return jax.tree.map(lambda z: jnp.tensordot(weight[0], z, 1) / weight.shape[1], traces)
