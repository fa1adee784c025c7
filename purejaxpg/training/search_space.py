"""Tables of hyperparameters for `sweep`: name -> values `[configurations]`, zipped.

    sweep(run, keys, grid(learning_rate=[1e-4, 1e-3], clip_eps=[0.1, 0.2]))   # run(key, configuration)

A table is a dict of float32 arrays of one length; configuration i has the i-th entry of each, so `run`
gets a dict of scalars. `run(key, learning_rate, clip_eps)` takes `*table.values()` instead.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

Table = dict[str, NDArray[np.float32]]
Quantile = Callable[[jax.Array], jax.Array]
"""What a hyperparameter is drawn from: `u` uniform on [0, 1) -> a value, the inverse of its distribution."""


def grid(**values: ArrayLike) -> Table:
    """Every combination of the values `[n]` of each name; the last name changes fastest."""
    return reduce(cross, (listed([{name: x} for x in np.ravel(v)]) for name, v in values.items()))


def listed(rows: Sequence[Mapping[str, float]]) -> Table:
    """Configurations as they are given, one mapping from names to values each.

    Raises:
      ValueError: there are none, not all have the same names, or a value is no finite float32.
    """
    if not rows or not rows[0] or any(set(row) != set(rows[0]) for row in rows):
        raise ValueError(
            f"Configurations need the same names each, at least one, found {[[*row] for row in rows]}."
        )
    return {name: _column(name, [row[name] for row in rows]) for name in rows[0]}


def random_search(key: jax.Array, num_configurations: int, **quantiles: Quantile) -> Table:
    """Independent draws (Bergstra and Bengio 2012, JMLR 13:281), e.g. `clip_eps=uniform(0.1, 0.3)`."""
    if num_configurations < 1 or not quantiles:
        raise ValueError(f"Nothing to draw: {num_configurations=} of {[*quantiles]}.")
    u = jax.random.uniform(key, (len(quantiles), num_configurations))
    return {name: np.asarray(f(x), np.float32) for x, (name, f) in zip(u, quantiles.items())}


def cross(one: Table, other: Table) -> Table:
    """Every configuration of one table with every one of the other, the latter changing fastest.

    Raises:
      ValueError: a name is in both.
    """
    if twice := sorted(set(one) & set(other)):
        raise ValueError(f"Given twice: {', '.join(twice)}.")
    n, m = (len(next(iter(table.values()))) for table in (one, other))
    return {
        **{name: np.repeat(x, m) for name, x in one.items()},
        **{name: np.tile(x, n) for name, x in other.items()},
    }


def uniform(low: float, high: float) -> Quantile:
    """Uniform on [low, high)."""
    _check_range(low, high)
    return lambda u: low + u * (high - low)


def log_uniform(low: float, high: float) -> Quantile:
    """The logarithm is uniform on [log low, log high)."""
    _check_range(low, high)
    if low <= 0:
        raise ValueError(f"log_uniform is for positive numbers, got low={low}.")
    return lambda u: low * jnp.exp(u * jnp.log(high / low))


def choice(*values: float) -> Quantile:
    """Each of the values with the same probability."""
    if not values:
        raise ValueError("choice needs at least one value.")
    return lambda u: jnp.asarray(values)[(u * len(values)).astype(int)]


def _column(name: str, values: list[float]) -> NDArray[np.float32]:
    try:
        column = np.array(values, np.float64)
    except (TypeError, ValueError):
        column = np.full(1, np.nan)
    if column.ndim != 1 or not (np.abs(column) <= np.finfo(np.float32).max).all():
        raise ValueError(f"{name} needs finite numbers that fit into float32, not {values}.")
    return column.astype(np.float32)


def _check_range(low: float, high: float) -> None:
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"A range needs finite low < high, got {low} and {high}.")
