"""Arguments of public functions: their annotations say what they may be, and `checked` checks it.

    @checked
    def f(env: Env, *, num_envs: Count = 8, discount: Fraction = 0.99): ...

A wrong argument is refused in one sentence before anything is traced. A range holds for Python numbers only:
what is traced has no value yet.
"""

import difflib
import inspect
import math
import typing
from collections.abc import Callable, Iterable
from functools import lru_cache, wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec, TypeVar, get_args, get_origin

import jax
import numpy as np

from purejaxpg.types import Coefficient, Scalar

P = ParamSpec("P")
T = TypeVar("T")


class Range(NamedTuple):
    """What a number may be, in words and as a predicate that is false for NaN."""

    words: str
    holds: Callable[[Any], bool]


class StepsPerUpdate(NamedTuple):
    """How many steps an optimizer makes in one update: the product of these arguments of the algorithm."""

    factors: tuple[str, ...]


AT_LEAST_ONE = Range("at least 1", lambda x: x >= 1)
POSITIVE = Range("greater than 0 and finite", lambda x: 0 < x < math.inf)
NOT_NEGATIVE = Range("at least 0 and finite", lambda x: 0 <= x < math.inf)
FRACTION = Range("between 0 and 1", lambda x: 0 <= x <= 1)

Count = Annotated[int, AT_LEAST_ONE]
Positive = Annotated[Scalar, POSITIVE]
NotNegative = Annotated[Scalar, NOT_NEGATIVE]
Fraction = Annotated[Scalar, FRACTION]
PositiveCoefficient = Annotated[Coefficient, POSITIVE]
NotNegativeCoefficient = Annotated[Coefficient, NOT_NEGATIVE]

_REMEDIES = {
    "Network": "make one with policy_network, value_network, feed_forward or recurrent",
    "Env": "make one with make or from_gymnax",
    "GradientTransformation": "make one with adam(learning_rate) or any function of optax",
    "Algorithm": "make one with ppo, trpo, reinforce, actor_critic or online_actor_critic",
    "Discrete or Box": "env.action_space(env_params) gives that of an environment",
    "Module": "pass an instance, such as MLP()",
    "RNNCellBase": "pass an instance, such as flax.linen.GRUCell(64)",
    "function": "pass a function, such as lambda env: ppo(env, policy, value, optimizer)",
}
_NOUNS = {None: "None", NoneType: "None", float: "number", jax.Array: "array"}


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, which first checks its arguments against their annotations.

    Raises:
      TypeError: an argument is not of the annotated kind.
      ValueError: a Python number is out of its `Range`, or a string is none of a `Literal`.
    """
    signature = inspect.signature(function)

    @lru_cache(maxsize=1)
    def hints() -> dict[str, Any]:
        return typing.get_type_hints(function, include_extras=True)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            kind = signature.parameters[name].kind
            if kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
                check(name, value, hints().get(name, Any))
        return function(*args, **kwargs)

    return call


def check(name: str, value: Any, annotation: Any) -> None:
    """Raise TypeError or ValueError, one sentence, unless a value is what an annotation says."""
    kinds = alternatives(annotation)
    if any(_is(value, kind) for kind in kinds):
        for limits in ranges(annotation):
            for x in value if isinstance(value, tuple) else (value,):
                if isinstance(x, Real) and not limits.holds(x):
                    raise ValueError(f"{name} must be {limits.words}, not {x}.")
        return
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices and isinstance(value, str):
        raise ValueError(f"{name} must be {_either(choices)}, not {value!r}{near(value, choices)}.")
    words = list(dict.fromkeys(_words(kind) for kind in kinds))
    remedy = _REMEDIES.get(" or ".join(x for x in words if x != "None"))
    raise TypeError(
        f"{name} must be {_either(_article(x) for x in words)}, not {_found(value)}"
        + (f"; {remedy}." if remedy else ".")
    )


def alternatives(annotation: Any) -> list[Any]:
    """The kinds that a union is made of, whatever is nested in it."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (typing.Union, UnionType):
        return [kind for part in get_args(annotation) for kind in alternatives(part)]
    return [annotation]


def ranges(annotation: Any) -> list[Range]:
    """The ranges that an annotation states, whatever they are nested in."""
    stated = [x for x in getattr(annotation, "__metadata__", ()) if isinstance(x, Range)]
    if get_origin(annotation) in (Annotated, typing.Union, UnionType):
        stated += [x for part in get_args(annotation) for x in ranges(part)]
    return stated


def near(name: str, names: Iterable[str]) -> str:
    """` (did you mean x, y?)`, or nothing where no name is like this one."""
    lower = {str(known).lower(): str(known) for known in names}
    matches = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    return f" (did you mean {', '.join(lower[match] for match in matches)}?)" if matches else ""


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind. True for kinds that nothing is known about."""
    origin = get_origin(kind)
    if kind is Any or isinstance(kind, TypeVar):
        return True
    if kind in (None, NoneType):
        return value is None
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if kind is jax.Array:
        return isinstance(value, jax.Array | np.ndarray | np.generic)
    if origin is Literal:
        return value in get_args(kind)
    if origin is not None or not isinstance(kind, type):  # Callable[...] and other generics
        is_function = getattr(origin, "__name__", "") == "Callable"
        return not is_function or (callable(value) and not isinstance(value, type))
    if getattr(kind, "_is_protocol", False):
        return callable(value)
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    if get_origin(kind) is not None or getattr(kind, "_is_protocol", False):
        return "function"
    return _NOUNS.get(kind, getattr(kind, "__name__", str(kind)))


def _found(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, bool | int | float | str | NoneType):
        return repr(value)
    return _article(type(value).__name__)


def _article(noun: str) -> str:
    article = "an" if noun[0].lower() in "aeio" else "a"
    return noun if noun == "None" else f"{article} {noun}"


def _either(words: Iterable[Any]) -> str:
    *first, last = map(str, words)
    return f"{', '.join(first)} or {last}" if first else last
