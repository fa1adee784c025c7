"""The ingredients of trust-region steps: Fisher products, conjugate gradient and the line search.

KL is KL(old, new) everywhere, the old policy first, averaged over states. Everything is a pure function
of pytrees that vmaps over seeds: whatever goes wrong in one row (NaN, no curvature, no gradient) stops
that row and touches no other.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from purejaxpg.arguments import (
    Count,
    DistributionLike,
    Fraction,
    NotNegative,
    Positive,
    check,
    check_alike,
    check_pair,
    check_shapes,
    checked,
)
from purejaxpg.functional.diagnostics import mean_where
from purejaxpg.types import PyTree

if TYPE_CHECKING:  # importing distrax costs more than this whole module
    from purejaxpg.functional.distributions import Distribution


@checked
def fisher_vector_product(
    distribution_fn: Callable[[PyTree], "Distribution"],
    params: PyTree,
    *,
    damping: NotNegative,
    where: jax.Array | None = None,
) -> Callable[[PyTree], PyTree]:
    """The function v -> (F + damping I) v with F = 1/N sum_s J_s^T M_s J_s, the Fisher matrix.

    Schulman et al. 2015, arXiv:1502.05477, appendix C.1. J_s is the Jacobian of the distribution's
    parameters at state s with respect to `params`. M_s is the Fisher metric at state s: the Hessian of
    KL(old, new) with respect to the new distribution's parameters. F equals the Hessian of the mean
    KL(old, new) with respect to `params` at new = old, since the gradient of KL vanishes there, and it
    equals the mean outer product of scores.

    The policy is linearised here, once; each product costs one pass forward and one backward. Products
    are in float32 whatever the default precision of the accelerator.

    Args:
      distribution_fn: `params -> Distribution` of N states, batch shape `[...]`; of any kind that has
        `kl_divergence` and real parameters. Traced once.
      params: where to linearise. Not stopped: differentiate through the product if you must.
      damping: a non-negative number; may be traced.
      where: `[...]` boolean, the states that the mean is over; all if None.

    Returns:
      `matvec(v)` for `v` of the structure of `params`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says, or the function gives no distribution.
      ValueError: a number is out of range; by the product, where `v` is not like the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> policy = lambda mean: pg.diagonal_gaussian(mean, jnp.zeros(1))  # F = 1 / variance = 1
      >>> product = pg.fisher_vector_product(policy, jnp.zeros(1), damping=0.5)
      >>> product(jnp.array([2.0])).tolist()
      [3.0]
    """
    with jax.default_matmul_precision("float32"):
        distribution, jvp = jax.linearize(distribution_fn, params)
        check("what distribution_fn returns", distribution, DistributionLike)
        vjp = jax.linear_transpose(jvp, params)

        def mean_kl(new: "Distribution") -> jax.Array:
            return mean_where(distribution.kl_divergence(new), where)

        _, metric = jax.linearize(jax.grad(mean_kl), distribution)  # M / N, state by state

    def matvec(v: PyTree) -> PyTree:
        check_alike(v=v, params=params)
        (product,) = vjp(metric(jvp(v)))
        return jax.tree.map(lambda x, y: x + damping * y, product, v)

    return matvec


@checked
def conjugate_gradient(
    matvec: Callable[[PyTree], PyTree], b: PyTree, *, num_steps: Count
) -> PyTree:
    """Solve A x = b for a symmetric positive definite A, from x = 0.

    Nocedal and Wright 2006, algorithm 5.2. It always makes `num_steps` iterations, but a row stands still

    - once |b - A x| <= 10 eps |b|, so that b = 0 gives x = 0;
    - where p^T A p <= 0 along the direction p: x stays what it was before, 0 on the first step;
    - where a number is no longer finite: x stays the last finite one, 0 if b itself is not finite.

    For the residual at the end, call `matvec` once more.

    Args:
      matvec: `v -> A v` for pytrees of the structure of `b`.
      b: a pytree of arrays of one dtype.
      num_steps: number of iterations, a static integer of at least 1; as many as there are unknowns give
        the exact solution up to rounding.

    Returns:
      x, a pytree like `b`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, `b` does not consist of real numbers, or `matvec` gives another
        number of unknowns.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> x = pg.conjugate_gradient(lambda v: jnp.array([2.0, 4.0]) * v, jnp.array([2.0, 8.0]), num_steps=2)
      >>> [round(value, 3) for value in x.tolist()]
      [1.0, 2.0]
    """
    # On one vector: leaf by leaf, a step would take three products and three sums for each of them.
    flat_b, unravel = ravel_pytree(b)
    if not jnp.issubdtype(flat_b.dtype, jnp.floating):
        raise ValueError(f"b must consist of real numbers, not of type {flat_b.dtype}.")
    start = _dot(flat_b, flat_b)
    small = (10 * jnp.finfo(flat_b.dtype).eps) ** 2 * start

    def one_step(_, carry):
        x, residual, direction, square = carry
        product, _ = ravel_pytree(matvec(unravel(direction)))
        check_shapes(b=flat_b, **{"matvec(b)": product})
        curvature = _dot(direction, product)
        going_on = (square > small) & (curvature > 0)
        length = square / jnp.where(going_on, curvature, 1.0)
        new_residual = residual - length * product
        new_square = _dot(new_residual, new_residual)
        ratio = new_square / jnp.where(going_on, square, 1.0)
        new_x = x + length * direction
        going_on &= jnp.isfinite(new_square) & jnp.all(jnp.isfinite(new_x))
        new = new_x, new_residual, new_residual + ratio * direction, new_square
        return jax.tree.map(lambda new, old: jnp.where(going_on, new, old), new, carry)

    carry = jnp.zeros_like(flat_b), flat_b, flat_b, start
    return unravel(jax.lax.fori_loop(0, num_steps, one_step, carry)[0])


class NaturalStep(NamedTuple):
    """What `natural_step` gives; scalars, the step apart.

    Attributes:
      step: what to add to the parameters, of their structure.
      curvature: s^T A s of the direction s before it is scaled, damping included.
      expected_improvement: g^T step, the improvement of the objective to first order.
      residual: |g - A s| / |g|, or 0 if g is 0.
    """

    step: PyTree
    curvature: jax.Array
    expected_improvement: jax.Array
    residual: jax.Array


@checked
def natural_step(
    matvec: Callable[[PyTree], PyTree], gradient: PyTree, *, max_kl: Positive, num_steps: Count
) -> NaturalStep:
    """sqrt(2 max_kl / s^T A s) s with A s = g: uphill until the quadratic model of KL reaches max_kl.

    Schulman et al. 2015, arXiv:1502.05477, appendix C; Kakade 2001, "A natural policy gradient". The
    step is 0 where that length is not a positive finite number: without a gradient or without curvature.

    Args:
      matvec: `v -> A v`, e.g. `fisher_vector_product(...)`; called `num_steps + 1` times.
      gradient: g, the gradient of what is to be increased, a pytree of arrays of one dtype.
      max_kl: size of the step, a positive number, in nats; may be traced.
      num_steps: iterations of `conjugate_gradient`, a static integer of at least 1.

    Returns:
      A `NaturalStep`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, or `matvec` gives another number of unknowns.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> found = pg.natural_step(lambda v: 4 * v, jnp.array([8.0]), max_kl=2.0, num_steps=1)
      >>> found.step.tolist(), float(found.expected_improvement)  # KL = 1/2 4 step^2 = 2
      ([1.0], 8.0)
    """
    direction = conjugate_gradient(matvec, gradient, num_steps=num_steps)
    flat, unravel = ravel_pytree(direction)
    flat_gradient, _ = ravel_pytree(gradient)
    product, _ = ravel_pytree(matvec(direction))
    curvature = _dot(flat, product)
    square = 2.0 * max_kl / curvature
    length = jnp.sqrt(jnp.where(jnp.isfinite(square) & (square > 0), square, 0.0))
    norm = jnp.linalg.norm(flat_gradient)
    residual = jnp.linalg.norm(flat_gradient - product) / jnp.where(norm > 0, norm, 1.0)
    step = length * flat
    return NaturalStep(unravel(step), curvature, _dot(flat_gradient, step), residual)


class LineSearch(NamedTuple):
    """What `backtracking_line_search` found; scalars, the parameters apart.

    Attributes:
      params: the candidate that was accepted; the old ones, bit by bit, if none was.
      accepted: whether a candidate was accepted.
      candidate: its number, counted from 0; the number of candidates if none was accepted.
      kl: mean KL(old, new) of `params` in nats, 0 if they are the old ones.
      improvement: increase of the objective from the old parameters to `params`, 0 if they are the same.
      proposed_kl: mean KL(old, new) of the full step, in nats.
    """

    params: PyTree
    accepted: jax.Array
    candidate: jax.Array
    kl: jax.Array
    improvement: jax.Array
    proposed_kl: jax.Array


@checked
def backtracking_line_search(
    evaluate: Callable[[PyTree], tuple[jax.Array, jax.Array]],
    params: PyTree,
    step: PyTree,
    *,
    max_kl: Positive,
    num_backtracks: Count = 10,
    backtrack_ratio: Fraction = 0.8,
) -> LineSearch:
    """The first of params + backtrack_ratio^i step, i = 0, 1, ..., that is better and near enough.

    Schulman et al. 2015, arXiv:1502.05477, appendix C: accepted if objective(new) > objective(old) and
    KL(old, new) <= max_kl. A NaN in either rejects, and so does a step too small to change a parameter.
    Under vmap it goes on until the slowest row is done, over at most `num_backtracks` candidates.

    Args:
      evaluate: `params -> (objective, kl)`, scalars: what the step was made to increase (an entropy
        bonus included), and KL(old, new) averaged over all states.
      params: the old parameters, a pytree of arrays.
      step: the full step, of the structure of `params`.
      max_kl: the largest KL that is accepted, in nats; may be traced.
      num_backtracks: number of candidates, the full step the first of them; a static integer of at least
        1. The default is that of OpenAI's Spinning Up.
      backtrack_ratio: factor from one candidate to the next, between 0 and 1; may be traced. The default
        is that of OpenAI's Spinning Up.

    Returns:
      A `LineSearch`.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: a number is out of range, the step is not like the parameters, or `evaluate` does not return
        two scalars.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> evaluate = lambda x: (x, x**2)  # the objective, and a KL that the steps 4 and 2 make too large
      >>> found = pg.backtracking_line_search(
      ...     evaluate, jnp.array(0.0), jnp.array(4.0), max_kl=1.0, backtrack_ratio=0.5
      ... )
      >>> float(found.params), int(found.candidate), float(found.proposed_kl)
      (1.0, 2, 16.0)
    """
    check_alike(params=params, step=step)
    old, unravel = ravel_pytree(params)
    flat_step, _ = ravel_pytree(step)
    old_objective, old_kl = _evaluated(evaluate, params)

    def searching(carry):
        index, found, *_ = carry
        return (index < num_backtracks) & ~found

    def try_next(carry):
        index, _, scale, proposed_kl, *_ = carry
        candidate = old + scale * flat_step
        objective, kl = evaluate(unravel(candidate))
        improvement = objective - old_objective
        found = (improvement > 0) & (kl <= max_kl) & jnp.any(candidate != old)
        proposed_kl = jnp.where(index == 0, kl, proposed_kl)
        scale = scale * backtrack_ratio
        return index + ~found, found, scale, proposed_kl, candidate, kl, improvement

    zero = jnp.zeros_like(old_kl)
    carry = (
        jnp.zeros((), jnp.int32), jnp.array(False), jnp.ones((), old.dtype), zero,
        old, zero, jnp.zeros_like(old_objective),
    )  # fmt: skip
    carry = jax.lax.while_loop(searching, try_next, carry)
    index, found, _, proposed_kl, candidate, kl, improvement = carry
    new = jax.tree.map(lambda new, old: jnp.where(found, new, old), unravel(candidate), params)
    kl, improvement = jnp.where(found, kl, 0.0), jnp.where(found, improvement, 0.0)
    return LineSearch(new, found, index, kl, improvement, proposed_kl)


@checked
def full_step(
    evaluate: Callable[[PyTree], tuple[jax.Array, jax.Array]], params: PyTree, step: PyTree
) -> LineSearch:
    """params + step, whatever comes of it: what the line search is there to prevent.

    Kakade 2001, "A natural policy gradient", where the step is a natural one. A step that is not finite is
    not taken, and any other counts as accepted.

    Args:
      evaluate: `params -> (objective, kl)`, scalars, as for `backtracking_line_search`.
      params: the old parameters, a pytree of arrays.
      step: what is added to them, of the structure of `params`.

    Returns:
      A `LineSearch`, whose candidate is 0 where the step was taken and 1 elsewhere.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: the step is not like the parameters, or `evaluate` does not return two scalars.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> found = pg.full_step(lambda x: (x, x**2), jnp.array(0.0), jnp.array(4.0))
      >>> float(found.params), float(found.kl)
      (4.0, 16.0)
    """
    check_alike(params=params, step=step)
    old_objective, _ = _evaluated(evaluate, params)
    finite = jnp.all(jnp.isfinite(ravel_pytree(step)[0]))
    new = jax.tree.map(lambda x, y: jnp.where(finite, x + y, x), params, step)
    objective, kl = evaluate(new)
    candidate = 1 - finite.astype(jnp.int32)
    return LineSearch(new, finite, candidate, kl, objective - old_objective, kl)


def _evaluated(evaluate: Callable, params: PyTree) -> tuple[jax.Array, jax.Array]:
    objective, kl = check_pair("evaluate", evaluate(params), "objective", "kl")
    if jnp.shape(objective) != () or jnp.shape(kl) != ():
        raise ValueError(
            "evaluate must return two scalars (objective, kl), not arrays of shapes "
            f"{jnp.shape(objective)} and {jnp.shape(kl)}: take the means."
        )
    return objective, kl


def _dot(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.vdot(x, y, precision="highest")
