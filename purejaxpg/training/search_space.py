"""Tables of hyperparameters for `sweep`: name -> values `[configurations]`, zipped.

    sweep(run, keys, grid(learning_rate=[1e-4, 1e-3], clip_eps=[0.1, 0.2]))   # run(key, configuration)

A table is a dict of float32 arrays of one length; configuration i has the i-th entry of each array, so `run`
gets a dict of scalars. `run(key, learning_rate, clip_eps)` takes `*table.values()` instead.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from purejaxpg.arguments import Count, Key, check, checked
from purejaxpg.types import Scalar

Table = dict[str, NDArray[np.float32]]
Quantile = Callable[[jax.Array], jax.Array]
"""What a hyperparameter is drawn from: `u` uniform on [0, 1) -> a value, the inverse of its distribution."""


@checked
def grid(**values: ArrayLike) -> Table:
    """Every combination of the values of all names; the last name changes fastest.

    Args:
      **values: name -> `[n]`, finite numbers; n may differ from name to name.

    Returns:
      A table of as many configurations as there are combinations.

    Raises:
      ValueError: a name has no values, or a value is no finite float32.
      TypeError: there is no name.

    Example:
      >>> import purejaxpg as pg
      >>> table = pg.grid(num_steps=[8, 16], clip_eps=[0.25, 0.5])
      >>> {name: values.tolist() for name, values in table.items()}
      {'num_steps': [8.0, 8.0, 16.0, 16.0], 'clip_eps': [0.25, 0.5, 0.25, 0.5]}
    """
    if not values:
        raise TypeError("grid needs at least one name, as grid(learning_rate=[1e-4, 1e-3]) has.")
    if empty := [name for name, x in values.items() if np.size(x) == 0]:
        raise ValueError(f"{empty[0]} needs at least one value, as {empty[0]}=[1, 2] has.")
    return reduce(cross, (listed([{name: x} for x in np.ravel(v)]) for name, v in values.items()))


@checked
def listed(rows: Sequence[Mapping[str, float]]) -> Table:
    """Configurations as they are given.

    Args:
      rows: one mapping from names to finite numbers per configuration, all with the same names.

    Returns:
      A table of `len(rows)` configurations, its names in the order of the first.

    Raises:
      TypeError: the rows are no sequence of dicts.
      ValueError: there are none, not all have the same names, or a value is no finite float32.

    Example:
      >>> import purejaxpg as pg
      >>> table = pg.listed([{"clip_eps": 0.25, "n": 1}, {"clip_eps": 0.5, "n": 4}])
      >>> table["n"].tolist()
      [1.0, 4.0]
    """
    if not rows or not rows[0] or any(set(row) != set(rows[0]) for row in rows):
        raise ValueError(
            f"Configurations need the same names each, at least one, found {[[*row] for row in rows]}."
        )
    return {name: _column(name, [row[name] for row in rows]) for name in rows[0]}


@checked
def random_search(key: Key, num_configurations: Count, **quantiles: Quantile) -> Table:
    """Independent draws from a distribution per name (Bergstra and Bengio 2012, JMLR 13:281).

    Args:
      key: consumed.
      num_configurations: number of draws, at least 1.
      **quantiles: name -> what its values are drawn from, e.g. `clip_eps=uniform(0.1, 0.3)`; see
        `uniform`, `log_uniform` and `choice`.

    Returns:
      A table of `num_configurations` configurations.

    Raises:
      TypeError: an argument is not of the kind that its annotation says.
      ValueError: `num_configurations` is below 1, there is no name, or a value is no finite float32.

    Example:
      >>> import jax
      >>> import purejaxpg as pg
      >>> table = pg.random_search(jax.random.key(0), 3, n=pg.choice(4), clip_eps=pg.uniform(0.1, 0.3))
      >>> table["n"].tolist(), table["clip_eps"].shape
      ([4.0, 4.0, 4.0], (3,))
    """
    if not quantiles:
        raise ValueError("random_search needs at least one name, as clip_eps=uniform(0.1, 0.3) is.")
    u = jax.random.uniform(key, (len(quantiles), num_configurations))
    return {name: _column(name, np.asarray(f(x))) for x, (name, f) in zip(u, quantiles.items())}


@checked
def cross(one: Table, other: Table) -> Table:
    """Every configuration of one table with every one of another.

    Args:
      one: a table of n configurations, which change slowest.
      other: a table of m configurations, which change fastest.

    Returns:
      A table of n * m configurations with the names of both.

    Raises:
      TypeError: an argument is no dict.
      ValueError: a name is in both, or a table is empty.

    Example:
      >>> import purejaxpg as pg
      >>> table = pg.cross(pg.listed([{"a": 1}, {"a": 2}]), pg.listed([{"b": 3}, {"b": 4}]))
      >>> {name: values.tolist() for name, values in table.items()}
      {'a': [1.0, 1.0, 2.0, 2.0], 'b': [3.0, 4.0, 3.0, 4.0]}
    """
    if twice := sorted(set(one) & set(other)):
        raise ValueError(f"Given twice: {', '.join(twice)}.")
    if not one or not other:
        raise ValueError("A table must have at least one name, and one of these has none.")
    n, m = (len(next(iter(table.values()))) for table in (one, other))
    return {
        **{name: np.repeat(x, m) for name, x in one.items()},
        **{name: np.tile(x, n) for name, x in other.items()},
    }


@checked
def uniform(low: Scalar, high: Scalar) -> Quantile:
    """Uniform on [low, high).

    Args:
      low: the least value, a finite number.
      high: the bound of the values, a finite number above `low`.

    Returns:
      The quantile function, `u` in [0, 1) -> value.

    Raises:
      TypeError: an argument is no number.
      ValueError: not low < high, or one of them is not finite.

    Example:
      >>> import purejaxpg as pg
      >>> pg.uniform(1.0, 3.0)(0.25)
      1.5
    """
    _check_range(low, high)
    return lambda u: low + u * (high - low)


@checked
def log_uniform(low: Scalar, high: Scalar) -> Quantile:
    """The logarithm is uniform on [log low, log high).

    Args:
      low: the least value, a positive finite number.
      high: the bound of the values, a finite number above `low`.

    Returns:
      The quantile function, `u` in [0, 1) -> value.

    Raises:
      TypeError: an argument is no number.
      ValueError: not 0 < low < high, or one of them is not finite.

    Example:
      >>> import purejaxpg as pg
      >>> round(float(pg.log_uniform(1.0, 100.0)(0.5)), 3)
      10.0
    """
    _check_range(low, high)
    if low <= 0:
        raise ValueError(f"log_uniform is for positive numbers, got low={low}.")
    return lambda u: low * jnp.exp(u * jnp.log(high / low))


@checked
def choice(*values: Any) -> Quantile:
    """One of several values, all with the same probability.

    Args:
      *values: the numbers to choose from, at least one: `choice(0.1, 0.2)`.

    Returns:
      The quantile function, `u` in [0, 1) -> value.

    Raises:
      TypeError: a value is no number.
      ValueError: there are no values, or one of them is a sequence.

    Example:
      >>> import jax.numpy as jnp
      >>> import purejaxpg as pg
      >>> pg.choice(1, 2, 4)(jnp.array([0.0, 0.5, 0.99])).tolist()
      [1, 2, 4]
    """
    if not values or any(np.ndim(value) != 0 for value in values):
        raise ValueError(f"choice needs numbers, as choice(0.1, 0.2) has, not {values}.")
    for value in values:
        check("a value of choice", value, Scalar)
    return lambda u: jnp.asarray(values)[(u * len(values)).astype(int)]


def _column(name: str, values: ArrayLike) -> NDArray[np.float32]:
    try:
        text = np.asarray(values).dtype.kind in "SU"  # which NumPy would read numbers from
        column = np.array(np.nan if text else values, np.float64)
    except (TypeError, ValueError):
        column = np.full(1, np.nan)
    if column.ndim != 1 or not (np.abs(column) <= np.finfo(np.float32).max).all():
        raise ValueError(f"{name} needs finite numbers that fit into float32, not {values!r}.")
    return column.astype(np.float32)


def _check_range(low: Scalar, high: Scalar) -> None:
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"A range needs finite low < high, got {low!r} and {high!r}.")
