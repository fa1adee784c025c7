"""What the command lines share: errors, the name of an algorithm, then the options of a run and of it."""

import argparse
import dataclasses
import io
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import tyro

from experiments.common import runtime
from experiments.common.algorithms import ALGORITHMS, CHOICE_FLAGS
from experiments.common.interrupts import interrupted
from experiments.common.options import RunOptions, fill, flag_of, known_name, options_type
from experiments.common.results import ResultsError, release
from purejaxpg.arguments import alternatives

T = TypeVar("T")


def run_program(
    prepare: Callable[[list[str]], tuple], work: Callable[..., int | None], arguments: list[str]
) -> int:
    """Do what a command line asks for. Returns the exit code.

    Args:
      prepare: makes what `work` is called with; what it refuses is one sentence, and the exit code is 2.
      work: returns the exit code, or None where all went well. A file that cannot be written or read, or too
        little memory, ends it with one sentence and the exit code 1; what was saved before stays saved.
    """
    runtime.set_up()
    code = 2
    # A file's name may have letters that a terminal has not.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    with interrupted() as heard:
        try:
            prepared = prepare(arguments)
            if not heard:
                code = 1
                return work(*prepared) or 0
        except KeyboardInterrupt:
            pass
        except Exception as error:
            if not heard:  # an import that is interrupted raises ImportError
                return _told(error, code)
        finally:
            release()
        print("Interrupted.", file=sys.stderr)
        return 130


def _told(error: Exception, code: int) -> int:
    """Say in a sentence what a command line, a file or the memory is to blame for; raise what is our fault."""
    if isinstance(error, MemoryError | jax.errors.JaxRuntimeError):
        short = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        what = (
            "There is too little memory" if short else "JAX ended the program"
        )  # or another process did
        message = f"{what}: {str(error).partition(chr(10))[0].rstrip('.')}."
    elif isinstance(error, OSError | ResultsError) or (
        code == 2 and isinstance(error, ValueError | TypeError)
    ):
        message = str(error)
    else:
        raise error
    print(f"error: {_on_one_line(message)}", file=sys.stderr)
    return code


def _on_one_line(message: str) -> str:
    """A line break, or another sign that moves a terminal's cursor, is written as Python writes it."""
    return "".join(x if x.isprintable() else repr(x)[1:-1] for x in message)


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
    parser = _Parser(add_help=False, allow_abbrev=False)
    for name, default in defaults.items():
        kind = {"action": "store_true"} if default is False else {"default": default}
        parser.add_argument(flag_of(name), **kind)
    return vars(parser.parse_known_args(arguments)[0])


class _Parser(argparse.ArgumentParser):
    """It knows a part of the options: its own words on how to use them would mislead."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message.removeprefix('argument ')}.")


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
    choices = known_words(words, **dict.fromkeys(CHOICE_FLAGS))
    row = {**row, **{key: value for key, value in choices.items() if value is not None}}
    run_options = options_type(name, row)
    names = {x.name for x in dataclasses.fields(run_options)}
    both = dataclasses.make_dataclass("Options", [("run", run_options), ("own", type(own))])
    parsed = tyro.cli(
        both,
        args=_whole_numbers([_known_flag(word, names) for word in words], run_options),
        default=both(fill(name, row), own),
        prog=f"{_program(type(own))} {name}",
        description=description,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    run = parsed.run
    if run.warmup_steps and not (run.normalize_observations or run.normalize_rewards):
        if known_words(words, warmup_steps=None)["warmup_steps"] is not None:
            raise ValueError(
                "--warmup-steps is for --normalize-observations or --normalize-rewards: give one."
            )
        run = dataclasses.replace(run, warmup_steps=0)  # the default is for the default, normalised
    return run, parsed.own


def _whole_numbers(words: list[str], run_options: type) -> list[str]:
    """`1e6` as `1000000`, where it follows the flag of an option that is an int."""
    whole = {flag_of(x.name) for x in dataclasses.fields(run_options) if _is_whole(x.type)}

    def plain(word: str) -> str:
        number = float(word) if re.fullmatch(r"\d+(\.\d+)?[eE]\+?\d{1,2}", word) else 0.5
        return str(int(number)) if number.is_integer() else word

    found = []
    for before, word in zip(["", *words], words):
        flag, equals, value = word.partition("=")
        if before in whole:
            word = plain(word)
        elif equals and flag in whole:
            word = f"{flag}={plain(value)}"
        found.append(word)
    return found


def _is_whole(annotation: Any) -> bool:
    return int in alternatives(annotation)


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
