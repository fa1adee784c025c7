"""What the command lines share: the name of an algorithm, then the options of a run and of it."""

import argparse
import dataclasses
from typing import Any

import tyro

from experiments.common.options import RunOptions
from experiments.common.recipes import ALGORITHMS
from experiments.common.runs import fill


def algorithm_name(arguments: list[str], description: str) -> str:
    """The first argument.

    Raises:
      ValueError: it is no algorithm.
    """
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(description)
        raise SystemExit(0)
    if name not in ALGORITHMS:
        raise ValueError(
            f"The first argument must be an algorithm ({', '.join(ALGORITHMS)}): {name!r}."
        )
    return name


def environment_id(arguments: list[str]) -> str:
    """What `--env` says: defaults of the other options depend on it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--env", default=RunOptions.env)
    return parser.parse_known_args(arguments)[0].env


def parse_options(
    arguments: list[str], row: dict[str, Any], own: Any, *, program: str, description: str
) -> Any:
    """The options after the name, in fields `run`, `algorithm` and `own`.

    Args:
      row: defaults of the run and of the algorithm.
      own: the program's own options, with their defaults.
    """
    options_type, _ = ALGORITHMS[arguments[0]]
    fields = [("run", RunOptions), ("algorithm", options_type), ("own", type(own))]
    all_options = dataclasses.make_dataclass("Options", fields)
    return tyro.cli(
        all_options,
        args=arguments[1:],
        default=all_options(fill(RunOptions, row), fill(options_type, row), own),
        prog=f"{program} {arguments[0]}",
        description=description,
        config=(tyro.conf.OmitArgPrefixes,),
    )
