"""Options of the programs, read from where they are said: signatures, annotations and docstrings.

What a run needs beside its algorithm is `RunOptions`. An algorithm's options are those parameters of its
function that have a default and are annotated as an int, a bool, a real number or a Literal; help texts are its
docstring's, and what a number may be is its annotation's. Three kinds of arguments bring options of the
functions that make them: an optimizer those of `adam`, under the argument's own prefix; an `advantage_fn` or
a `weighting_fn` those of the functions that are chosen; and every real number that may be a schedule a switch
that anneals it.
"""

import inspect
import itertools
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, get_origin, get_type_hints

import optax
import tyro

import purejaxpg as pg
from experiments.common.algorithms import ALGORITHMS, BASELINES, CHOICES, Choice
from purejaxpg.arguments import (
    AT_LEAST_ONE,
    INT32,
    NOT_NEGATIVE,
    Count,
    alternatives,
    check,
    ranges,
)

# The names under which parameters of estimators are options.
_OPTION_NAMES = {"lambda_": "gae_lambda"}


def default_of(function: Callable, name: str) -> Any:
    return inspect.signature(function).parameters[name].default


def argument_help(function: Callable) -> dict[str, str]:
    """Parameter -> what the docstring's Args say of it."""
    section = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^  \*{0,2}(\w+): (.*(?:\n    .*)*)", section, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in found}


@dataclass(frozen=True)
class RunOptions:
    env: str = "CartPole-v1"
    """Id of a gymnax environment, `library:name` of brax, craftax, jumanji or pgx, or a `module:Class`."""
    env_params: dict[str, float] = field(default_factory=dict)
    """Parameters of the environment to override, e.g. `length 0.7 masspole 0.2`."""
    env_kwargs: dict[str, str] = field(default_factory=dict)
    """Arguments of the environment's constructor or of its adapter, e.g. `map_name 8x8`, `first True`."""
    actions: Literal["clip", "rescale", "tanh"] = "clip"
    """How continuous actions meet their bounds: clipped, rescaled from [-1, 1], or squashed by tanh."""
    seeds: Count = 16
    """Number of seeds, all trained at once."""
    seed: Annotated[int, NOT_NEGATIVE] = 0
    """The first seed; the others follow it."""
    total_steps: Annotated[int, AT_LEAST_ONE] = 500_000
    """Environment steps of each seed, rounded down to whole updates."""
    normalize_observations: bool = False
    """Show networks observations minus their running mean, in units of their standard deviation."""
    normalize_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return."""
    warmup_steps: Annotated[
        Annotated[int, NOT_NEGATIVE, INT32],
        tyro.conf.arg(help=argument_help(pg.normalize_observations)["warmup_steps"]),
    ] = default_of(pg.normalize_observations, "warmup_steps")
    network: Literal["mlp", "cnn"] = "mlp"
    """Torso of policy and value network."""
    hidden_sizes: Annotated[tuple[int, ...], AT_LEAST_ONE, INT32] = tuple(pg.MLP.hidden_sizes)
    """Units of each hidden layer of the mlp."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Activation function of the networks."""
    memory: Literal["none", "gru", "lstm", "attention"] = "none"
    """Recurrent cell, or transformer block, between torso and head of both networks."""
    memory_size: Count = 64
    """Units of the cell; a multiple of 4 for attention."""
    memory_window: Count = pg.AttentionCell.window
    """Observations that attention sees, the present one the last of them."""
    evaluations: Count = 20
    """How often to evaluate during the run, its end included."""
    eval_episodes: Count = 128
    """Episodes of each evaluation and seed."""
    eval_max_steps: Count = 20_000
    """Steps after which an episode of an evaluation is given up; its return is that up to then."""
    deterministic: bool = False
    """Evaluate the mode of the policy instead of its samples."""

    # Of the algorithm, whose signature has the defaults.
    @property
    def steps_per_update(self) -> int:
        return self.num_envs * self.num_steps  # type: ignore[attr-defined]

    @property
    def num_updates(self) -> int:
        return self.total_steps // self.steps_per_update


class Option(NamedTuple):
    """An option that a function's signature declares.

    Attributes:
      name: of the parameter.
      annotation: of the parameter.
      type: what a command line makes of its words.
      default: of the parameter.
      help: of the docstring.
    """

    name: str
    annotation: Any
    type: Any
    default: Any
    help: str

    @property
    def may_be_annealed(self) -> bool:
        origins = [get_origin(kind) for kind in alternatives(self.annotation)]
        return any(getattr(origin, "__name__", "") == "Callable" for origin in origins)


def options_of(function: Callable) -> list[Option]:
    """The parameters of a function that are options."""
    hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    help_texts = argument_help(function)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        plain = _plain(hints.get(name, Any))
        if plain is not None and parameter.default is not inspect.Parameter.empty:
            text = help_texts.get(name, "")
            found.append(Option(name, hints[name], plain, parameter.default, text))
    return found


def arguments_of_kind(function: Callable, kind: Any) -> dict[str, Any]:
    """Parameter -> annotation, of those that may be of a kind."""
    hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    return {x: hints[x] for x in hints if x != "return" and kind in alternatives(hints[x])}


def optimizer_prefixes(function: Callable) -> dict[str, str]:
    """Argument that is an optimizer -> the prefix of its options: `value_optimizer` has `value_`."""
    names = arguments_of_kind(function, optax.GradientTransformation)
    return {name: name.removesuffix("optimizer") for name in names}


def choice_of(name: str) -> tuple[str, Choice] | None:
    """The argument of an algorithm that is one of several functions, and those; None if there is none."""
    for kind, choice in CHOICES.items():
        for parameter in arguments_of_kind(ALGORITHMS[name], kind):
            return parameter, choice
    return None


def chosen_functions(given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The names of the functions that are chosen for that argument, one for each of the choice's flags."""
    found = choice_of(name)
    if found is None:
        return ()
    parameter, choice = found
    default = default_of(ALGORITHMS[name], parameter)
    names = [known for known, function in choice.functions.items() if function is default]
    default = names[0] if names else "gae"
    chosen = tuple(given.get(flag, default) for flag in choice.flags)
    for flag, value in zip(choice.flags, chosen):
        check(flag_of(flag), value, Literal[tuple(choice.functions)])
    return chosen


@lru_cache
def _options_type(name: str, chosen: tuple[str, ...]) -> type[RunOptions]:
    function = ALGORITHMS[name]
    made: dict[str, tuple[Any, Any]] = {}

    def add(name: str, type_: Any, default: Any, text: str, limits: Iterable[Any] = ()) -> None:
        allowed = type_ if default is not None else type_ | None
        annotation: Any = Annotated[allowed, tyro.conf.arg(help=text), *limits]
        made.setdefault(name, (annotation, field(default=default)))

    def add_option(option: Option, name: str, default: Any, note: str = "") -> None:
        add(name, option.type, default, option.help + note, ranges(option.annotation))

    def add_anneal(name: str, default: bool | None = False, note: str = "") -> None:
        add(f"anneal_{name}", bool, default, f"Let {name} fall linearly to 0 over the run{note}.")

    if found := choice_of(name):
        functions, flags = found[1]
        allowed: Any = Literal[tuple(functions)]  # type: ignore[valid-type]
        for (flag, text), one in zip(flags.items(), chosen):
            add(flag, allowed, one, text)
        for one in chosen:
            for option in options_of(functions[one]):
                add_option(option, option_name(option.name), option.default)
    for option in options_of(function):
        if option.name == "mean_baseline":
            text = "Subtracted from returns: nothing, their mean, or a fitted value function."
            add("baseline", Literal[tuple(BASELINES)], "value", text)
        else:
            add_option(option, option.name, option.default)
            if option.may_be_annealed:
                add_anneal(option.name)
    for number, prefix in enumerate(optimizer_prefixes(function).values()):
        for option in options_of(pg.adam):
            name = prefix + option.name
            if option.name == "decay_steps":
                continue  # the length of the run
            if option.name == "learning_rate" or number == 0:
                add_option(option, name, option.default)
            else:
                add_option(option, name, None, " That of the first optimizer if not given.")
        note = ", as learning_rate does if not given" if number else ""
        add_anneal(f"{prefix}learning_rate", None if number else False, note)
    columns = [(name, *both) for name, both in made.items() if not hasattr(RunOptions, name)]
    return make_dataclass(f"{name}_options", columns, bases=(RunOptions,), frozen=True)


def options_type(name: str, given: Mapping[str, Any]) -> type[RunOptions]:
    """The dataclass of all options of a run: those of `RunOptions` and those of an algorithm.

    Args:
      name: of the algorithm.
      given: options that are known already; the choice of functions decides which others there are.

    Raises:
      ValueError: there is no such function.
    """
    return _options_type(name, chosen_functions(given, name))


def option_name(parameter: str) -> str:
    return _OPTION_NAMES.get(parameter, parameter)


def known_name(name: str, names: Iterable[str]) -> str:
    """`value_X` for X where only that is an option: an algorithm with one optimizer needs no prefix."""
    prefix = "anneal_" if name.startswith("anneal_") else ""
    longer = f"{prefix}value_{name.removeprefix(prefix)}"
    names = set(names)
    return longer if name not in names and longer in names else name


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def words_of(options: Mapping[str, Any]) -> list[str]:
    """The words of a command line that give options these values."""
    words = []
    for option, value in options.items():
        flag = flag_of(option)
        if isinstance(value, bool):
            words.append(flag if value else flag_of(f"no_{option}"))
        elif isinstance(value, Mapping):
            words += [flag, *map(str, itertools.chain(*value.items()))]
        elif isinstance(value, list | tuple):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return words


def fill(name: str, row: Mapping[str, Any]) -> RunOptions:
    """Options of a run of an algorithm with the values of a row that belong to it; lists become tuples."""
    type_: Any = options_type(name, row)
    names = {x.name for x in fields(type_)}
    known = {known_name(key, names): value for key, value in row.items()}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in known.items() if k in names}
    return type_(**values)


def check_options(options: RunOptions) -> None:
    """Raise ValueError, one sentence, where an option has a value that makes no sense."""
    hints = get_type_hints(type(options), include_extras=True)
    for x in fields(options):
        check(flag_of(x.name), getattr(options, x.name), hints[x.name])
    if options.seed >= 2**31 - options.seeds:
        raise ValueError(f"--seed must be less than 2^31 with all that follow, not {options.seed}.")


def _plain(annotation: Any) -> Any:
    """What a command line makes of a parameter: int, bool, float or a Literal, or None: it is no option."""
    kinds = alternatives(annotation)
    plain: list[Any] = [kind for kind in (bool, int, float) if kind in kinds]
    plain += [kind for kind in kinds if get_origin(kind) is Literal]
    if not plain:
        return None
    return plain[0] | None if types.NoneType in kinds else plain[0]
