"""The plan of a sweep: from a TOML file to checked runs and tables of hyperparameters.

    algorithm = "ppo"

    [options]                      # any option of train.py, the same for all runs
    env = "CartPole-v1"
    seeds = 16

    [grid]                         # real-valued options: traced, every combination in one program
    learning_rate = [1e-4, 1e-3]

    [random]                       # drawn independently
    configurations = 20
    seed = 0
    clip_eps = { uniform = [0.1, 0.3] }
    entropy_coef = { log_uniform = [1e-4, 1e-1] }
    gae_lambda = { choice = [0.9, 0.95] }

    [[list]]                       # configurations as they are
    value_coef = 0.5
    max_grad_norm = 0.5

    [static]                       # any other option: every combination is a program of its own
    hidden_sizes = [[64, 64], [128]]

`grid`, `random` and `list` are crossed where several are given, and with each combination of `static`.
"""

import itertools
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, get_args

import jax

import purejaxpg as pg
from experiments.common.algorithms import ALGORITHMS
from experiments.common.command_line import environment_id, parse_options
from experiments.common.defaults import defaults
from experiments.common.options import check_options, known_name, words_of
from experiments.common.runs import Run, make_run
from purejaxpg.arguments import Count, Range, check
from purejaxpg.training.search_space import Table

SECTIONS = ("algorithm", "options", "grid", "random", "list", "static")
DISTRIBUTIONS = ("uniform", "log_uniform", "choice")
"""Functions of `purejaxpg`."""
MOST_DRAWS = Range("at most 1000000", lambda x: x <= 1_000_000)
SEEDS = Range("at least 0 and less than 2^31", lambda x: 0 <= x < 2**31)
# They decide which rows of results there are, and what the returns of different rows have in common.
_NOT_STATIC = ("env", "env_params", "env_kwargs", "seed", "seeds", "eval_episodes", "deterministic")


@dataclass(frozen=True)
class Group:
    """The configurations that one program computes."""

    run: Run
    static: dict[str, Any]
    """What other groups have other values of."""
    table: Table
    """Traced hyperparameters, `[configurations]` each; empty if nothing is traced."""
    first: int
    """Number of the first configuration."""

    @property
    def configurations(self) -> list[dict[str, Any]]:
        """The values that tell each configuration from the others."""
        rows = zip(*(x.tolist() for x in self.table.values())) if self.table else [()]
        return [{**self.static, **dict(zip(self.table, row))} for row in rows]


@dataclass(frozen=True)
class Plan:
    algorithm: str
    groups: list[Group]

    @property
    def configurations(self) -> list[dict[str, Any]]:
        return [row for group in self.groups for row in group.configurations]

    def config(self) -> dict[str, Any]:
        """What determines the results, as plain JSON."""
        groups = [
            {
                "options": group.run.config(),
                "static": group.static,
                "hyperparameters": {name: x.tolist() for name, x in group.table.items()},
            }
            for group in self.groups
        ]
        return json.loads(json.dumps({"algorithm": self.algorithm, "groups": groups}))


def read_plan(path: Path, own: Any, arguments: list[str]) -> tuple[Plan, Any]:
    """The checked plan in a file, and the program's own options.

    Args:
      own: the program's own options, with their defaults.
      arguments: of the command line, after the file: they override its [options].

    Raises:
      FileNotFoundError, ValueError, TypeError: one sentence that says what makes no sense.
    """
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}.") from None
    if unknown := sorted(set(content) - set(SECTIONS)):
        raise ValueError(f"{path} has {', '.join(unknown)}; known are {', '.join(SECTIONS)}.")
    name = content.get("algorithm")
    if name not in ALGORITHMS:
        raise ValueError(f"{path} needs an algorithm ({', '.join(ALGORITHMS)}): {name!r}.")
    static = content.get("static", {})
    for section in ("options", "static", "grid", "random"):
        if not isinstance(content.get(section, {}), Mapping):
            raise ValueError(
                f"[{section}] of {path} must be a table of options, not a list of them."
            )
    if not isinstance(content.get("list", []), list):
        raise ValueError(f"[[list]] of {path} needs two brackets each: a configuration per table.")
    if not all(content.get(section, True) for section in ("grid", "list")):
        raise ValueError(
            f"[grid] or [[list]] of {path} is empty: give it an option, or leave it away."
        )
    if own_ones := sorted({*content.get("options", {}), *static} & {x.name for x in fields(own)}):
        raise ValueError(f"{', '.join(own_ones)} belong on the command line, not into {path}.")
    for option, values in static.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"[static] needs a list of values for {option}, not {values!r}.")
    groups: list[Group] = []
    for values in itertools.product(*static.values()):
        row = dict(zip(static, values))
        options, own = _parse(name, {**content.get("options", {}), **row}, own, arguments)
        table = _table(content, options)
        if refused := [option for option in static if option in _NOT_STATIC]:
            raise ValueError(f"{', '.join(refused)} cannot be in [static].")
        names = {x.name for x in fields(options)}
        fixed = [known_name(x, names) for x in content.get("options", {})]
        flags = {word.partition("=")[0].removeprefix("--no-") for word in arguments}
        stated = {known_name(x.removeprefix("--").replace("-", "_"), names) for x in flags}
        swept = [*table, *(known_name(x, names) for x in static)]
        twice = [
            x for x in swept if swept.count(x) > 1 or x in stated or (x in fixed and x in table)
        ]
        if twice:
            found = ", ".join(dict.fromkeys(twice))
            raise ValueError(f"{found} would be swept and fixed, or swept twice: give it once.")
        if "evaluations" in stated or "evaluations" in fixed:
            check_evaluations(options)
        run = make_run(name, options)
        first = groups[-1].first + len(groups[-1].configurations) if groups else 0
        groups.append(Group(run, row, table, first))
        for configuration in groups[-1].configurations:
            check_options(replace(options, **{option: configuration[option] for option in table}))
    return Plan(name, groups), own


def check_evaluations(options: Any) -> None:
    """Refuse a number of evaluations that was asked for and would become another one."""
    if options.evaluations > options.num_updates:
        raise ValueError(
            f"--evaluations must be at most the {options.num_updates} updates of a run, not "
            f"{options.evaluations}."
        )


def _parse(
    name: str, options: Mapping[str, Any], own: Any, arguments: list[str]
) -> tuple[Any, Any]:
    """The options of a run as train.py's command line reads them, and the program's own."""
    words = [name, *words_of(options), *arguments]
    row = defaults(name, environment_id(words))
    return parse_options(words, row, own, str(__doc__))


def real_options(options: Any) -> set[str]:
    """The options, of a type that `options_type` makes, that may be traced."""
    types = {x.name: (*get_args(x.type), x.type)[0] for x in fields(options)}
    return {name for name, kind in types.items() if kind in (float, float | None)}


def _table(content: Mapping[str, Any], options: Any) -> Table:
    """The configurations that `grid`, `random` and `list` make together."""
    real = real_options(options)
    tables = []
    try:
        if "grid" in content:
            tables.append(pg.grid(**_checked(content["grid"], real)))
        if "random" in content:
            space = dict(content["random"])
            number, seed = space.pop("configurations"), space.pop("seed", 0)
            check("configurations of [random]", number, Annotated[Count, MOST_DRAWS])
            check("seed of [random]", seed, Annotated[int, SEEDS])
            draws = {option: _distribution(x) for option, x in _checked(space, real).items()}
            tables.append(pg.random_search(jax.random.key(seed), number, **draws))
        if "list" in content:
            tables.append(pg.listed([_checked(row, real) for row in content["list"]]))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"[grid], [random] or [[list]] cannot be read: {error!r}.") from None
    return reduce(pg.cross, tables) if tables else {}


def _checked(options: Mapping[str, Any], real: set[str]) -> dict[str, Any]:
    options = {known_name(name, real): value for name, value in options.items()}
    if wrong := sorted(set(options) - real):
        raise ValueError(
            f"{', '.join(wrong)} cannot be traced: [grid], [random] and [[list]] take "
            f"{', '.join(sorted(real))}; others may be in [static]."
        )
    return options


def _distribution(given: Mapping[str, list[float]]) -> Any:
    if len(given) != 1 or next(iter(given)) not in DISTRIBUTIONS:
        raise ValueError(
            f"Hyperparameters are drawn from one of {', '.join(DISTRIBUTIONS)}, not {given}."
        )
    ((name, arguments),) = given.items()
    return getattr(pg, name)(*arguments)
