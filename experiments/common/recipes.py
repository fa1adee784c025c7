"""From options to environments and algorithms."""

import ast
import importlib
import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import flax.linen as nn
import optax

import purejaxpg as pg
from experiments.common.algorithms import ALGORITHMS, BASELINES
from experiments.common.options import (
    RunOptions,
    arguments_of_kind,
    choice_of,
    chosen_functions,
    optimizer_prefixes,
    option_name,
    options_of,
)
from purejaxpg.arguments import StepsPerUpdate
from purejaxpg.environments.adapters.brax import make_brax
from purejaxpg.environments.adapters.craftax import make_craftax
from purejaxpg.environments.adapters.jumanji import make_jumanji
from purejaxpg.environments.adapters.pgx import make_pgx
from purejaxpg.environments.parameters import override
from purejaxpg.types import Algorithm, Build, Env, PyTree, Space

ACTIVATIONS: dict[str, Callable] = {"tanh": nn.tanh, "relu": nn.relu}
CELLS: dict[str, Callable[[RunOptions], nn.RNNCellBase | None]] = {
    "none": lambda run: None,
    "gru": lambda run: nn.GRUCell(run.memory_size),
    "lstm": lambda run: nn.OptimizedLSTMCell(run.memory_size),
    "attention": lambda run: pg.AttentionCell(run.memory_size, window=run.memory_window),
}
ACTIONS: dict[str, Callable[[Env], Env]] = {
    "clip": lambda env: env,  # what `make` does
    "rescale": pg.rescale_actions,
    "tanh": pg.squash_actions,
}
ADAPTERS: dict[str, Callable[..., tuple[Env, PyTree]]] = {
    "brax": make_brax,
    "craftax": make_craftax,
    "jumanji": make_jumanji,
    "pgx": make_pgx,
}
"""Library, also the name of its extra -> what makes its environments: `--env brax:hopper`."""


def build_env(options: RunOptions) -> tuple[Env, PyTree]:
    """The environment of a run and its parameters."""
    env_kwargs = {name: _literal(value) for name, value in options.env_kwargs.items()}
    library, colon, name = options.env.partition(":")
    make: Callable[..., Any] = partial(pg.make, options.env, env_kwargs=env_kwargs)
    if colon:
        adapter = _adapter(library)
        make = partial(_own_env, options.env, env_kwargs)
        if adapter is not None:
            make = partial(adapter, name, **env_kwargs)
    try:
        env, env_params = make(**options.env_params)
    except (ArithmeticError, LookupError) as error:  # constructors of gymnax check little
        raise ValueError(f"{options.env} cannot be built with {env_kwargs}: {error}.") from None
    return ACTIONS[options.actions](env), env_params


def _adapter(library: str) -> Callable[..., tuple[Env, PyTree]] | None:
    if library in ADAPTERS and find_spec(library) is None:
        raise ValueError(f"{library} is not installed: pip install -e .[{library}].")
    return ADAPTERS.get(library)


def _own_env(env: str, env_kwargs: dict[str, Any], **params: Any) -> tuple[Env, PyTree]:
    """What `module:Class` makes, a gymnax environment; modules are also looked for in the working directory."""
    made = own_gymnax_env(env, env_kwargs)
    try:
        return pg.from_gymnax(made), override(made.default_params, params, owner=env)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{env} makes no environment of gymnax: {error}") from None


def own_gymnax_env(env: str, env_kwargs: Mapping[str, Any]) -> Any:
    module, _, name = env.partition(":")
    known = f"libraries are {', '.join(ADAPTERS)}, and module:Class an environment of gymnax"
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), name)(**env_kwargs)
    except ModuleNotFoundError as error:
        raise ValueError(f"There is no module {error.name!r} for {env}; {known}.") from None
    except (AttributeError, ImportError, TypeError) as error:
        raise ValueError(f"{env} cannot be built: {error}; {known}.") from None


def build_algorithm(name: str, options: RunOptions, env: Env, env_params: PyTree) -> Algorithm:
    """An algorithm with the normalisations that its options ask for."""
    action_space = env.action_space(env_params)

    def plain(env: Env) -> Algorithm:
        return ALGORITHMS[name](env=env, **arguments(name, options, action_space))

    build: Build = plain
    warmup_steps = options.warmup_steps
    if options.normalize_rewards:
        if not hasattr(options, "discount"):
            raise ValueError(f"--normalize-rewards needs a discount, which {name} has not.")
        build = pg.normalize_rewards(build, discount=options.discount, warmup_steps=warmup_steps)
    if options.normalize_observations:
        build = pg.normalize_observations(build, warmup_steps=warmup_steps)
    return build(env)


def arguments(name: str, options: RunOptions, action_space: Space) -> dict[str, Any]:
    """What an algorithm's function is called with, but for the environment."""
    function, given = ALGORITHMS[name], vars(options)
    policy, value = networks(options, action_space)
    made: dict[str, Any] = {"policy": policy, "value": value}
    brought: set[str] = set()
    if found := choice_of(name):
        parameter, choice = found
        filled = []
        for chosen in dict.fromkeys(chosen_functions(given, name)):
            names = {x.name: option_name(x.name) for x in options_of(choice.functions[chosen])}
            values = {own: given[name] for own, name in names.items()}
            filled.append(partial(choice.functions[chosen], **values))
            brought.update(names.values())
        made[parameter] = filled[0] if len(filled) == 1 else pg.with_target_of(*filled)
    for option in options_of(function):
        if option.name == "mean_baseline":
            network, made["mean_baseline"] = BASELINES[given["baseline"]]
            made["value"] = network(value)
        elif option.name not in brought:
            made[option.name] = _annealed(option.name, given, options.num_updates)
    for parameter, prefix in optimizer_prefixes(function).items():
        made[parameter] = _adam(function, parameter, prefix, options)
    return made


def _annealed(name: str, given: Mapping[str, Any], steps: int) -> Any:
    """An option's value, or its linear decay to 0 over so many steps if it is to be annealed."""
    value = given[name]
    if given.get(f"anneal_{name}") and value is not None:
        return pg.linear_decay(value, steps)
    return value


def _adam(
    function: Callable, parameter: str, prefix: str, options: RunOptions
) -> optax.GradientTransformation:
    """The optimizer of an argument; what a second one is not given is as of the first."""
    given = vars(options)

    def value_of(own_name: str, name: str) -> Any:
        own = given[own_name]
        return given[name] if own is None else own

    annotation = arguments_of_kind(function, optax.GradientTransformation)[parameter]
    stated = [x for x in getattr(annotation, "__metadata__", ()) if isinstance(x, StepsPerUpdate)]
    per_update = math.prod(given[factor] for counts in stated for factor in counts.factors)
    anneal = value_of(f"anneal_{prefix}learning_rate", "anneal_learning_rate")
    return pg.adam(
        given[f"{prefix}learning_rate"],
        max_grad_norm=value_of(f"{prefix}max_grad_norm", "max_grad_norm"),
        eps=value_of(f"{prefix}eps", "eps"),
        decay_steps=options.num_updates * per_update if anneal else None,
    )


def build_gymnax_env(options: RunOptions) -> Any:
    """gymnax's own environment of a run, for its visualizer."""
    import gymnax

    kwargs = {name: _literal(value) for name, value in options.env_kwargs.items()}
    return gymnax.make(options.env, **kwargs)[0]


def networks(run: RunOptions, action_space: Space) -> tuple[pg.Network, pg.Network]:
    """Policy and value network of a run."""
    cell = CELLS[run.memory](run)
    policy = pg.policy_network(action_space, _torso(run), cell)
    return policy, pg.value_network(_torso(run), cell)


def _torso(run: RunOptions) -> nn.Module:
    activation = ACTIVATIONS[run.activation]
    if run.network == "cnn":
        return pg.CNN(activation=activation)
    return pg.MLP(run.hidden_sizes, activation)


def _literal(text: str) -> Any:
    """`10` is a number, `True` a truth value, `8x8` a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
