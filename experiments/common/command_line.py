"""What the command lines share: errors, the name of an algorithm, then the options of a run and of it."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tyro

from experiments.common import runtime
from experiments.common.algorithms import ALGORITHMS
from experiments.common.options import RunOptions, fill, flag_of, known_name, options_type

T = TypeVar("T")


def run_program(
    prepare: Callable[[list[str]], tuple], work: Callable[..., int | None], arguments: list[str]
) -> int:
    """Do what a command line asks for. Returns the exit code.

    Args:
      prepare: makes what `work` is called with; what it refuses is one sentence, and the exit code is 2.
      work: returns the exit code, or None where all went well.
    """
    runtime.set_up()
    try:
        prepared = prepare(arguments)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return work(*prepared) or 0


def read_options(options_type: type[T], arguments: list[str]) -> T:
    """The options of a program, which the docstring of their module describes."""
    about = sys.modules[options_type.__module__].__doc__
    return tyro.cli(options_type, args=arguments, prog=_program(options_type), description=about)


def _program(options_type: type) -> str:
    """The file that has its options."""
    return Path(str(sys.modules[options_type.__module__].__file__)).name


def algorithm_name(arguments: list[str], description: str) -> str:
    """The first argument.

    Raises:
      ValueError: it is no algorithm.
    """
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(description, "Algorithms, each with its own --help:", sep="\n")
        for known, function in ALGORITHMS.items():
            print(f"  {known:22}{(function.__doc__ or '').partition(chr(10))[0]}")
        raise SystemExit(0)
    if name not in ALGORITHMS:
        raise ValueError(
            f"The first argument must be an algorithm ({', '.join(ALGORITHMS)}): {name!r}."
        )
    return name


def known_words(arguments: list[str], **defaults: Any) -> dict[str, Any]:
    """What a command line says of these options, on which defaults and kinds of the others depend."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name, default in defaults.items():
        kind = {"action": "store_true"} if default is False else {"default": default}
        parser.add_argument(flag_of(name), **kind)
    return vars(parser.parse_known_args(arguments)[0])


def environment_id(arguments: list[str]) -> str:
    """What `--env` says."""
    return known_words(arguments, env=RunOptions.env)["env"]


def parse_options(
    arguments: list[str], row: Mapping[str, Any], own: Any, description: str
) -> tuple[Any, Any]:
    """The options after the name of an algorithm: those of the run, and the program's own.

    Args:
      row: defaults of the run.
      own: the program's own options, with their defaults.
    """
    name, *words = arguments
    choices = known_words(words, advantages=None, value_targets=None)
    row = {**row, **{key: value for key, value in choices.items() if value is not None}}
    run_options = options_type(name, row)
    names = {x.name for x in dataclasses.fields(run_options)}
    both = dataclasses.make_dataclass("Options", [("run", run_options), ("own", type(own))])
    parsed = tyro.cli(
        both,
        args=[_known_flag(word, names) for word in words],
        default=both(fill(name, row), own),
        prog=f"{_program(type(own))} {name}",
        description=description,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return parsed.run, parsed.own


def _known_flag(word: str, names: set[str]) -> str:
    """A flag under the name that the algorithm's options have for it; other words stay as they are."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word[2:].partition("=")
    no, name = ("no-", flag[3:]) if flag.startswith("no-") else ("", flag)
    known = known_name(name.replace("-", "_"), names)
    if known == name.replace("-", "_"):
        return word
    return f"--{no}{known.replace('_', '-')}{equals}{value}"
