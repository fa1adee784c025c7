"""Arguments of public functions: their annotations say what they may be, and `checked` checks it.

    @checked
    def f(env: Env, *, num_envs: Count = 8, discount: Fraction = 0.99): ...

A wrong argument is refused in one sentence before anything is traced. A range holds for Python numbers only:
what is traced has no value yet, but it has a type and a shape, which are checked too.
"""

import difflib
import inspect
import math
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec, TypeVar, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from purejaxpg.types import Algorithm, Coefficient, Env, PyTree, Scalar

P = ParamSpec("P")
T = TypeVar("T")


class Range(NamedTuple):
    """What a number may be, in words and as a predicate that is false for NaN."""

    words: str
    holds: Callable[[Any], bool]


class Keys(NamedTuple):
    """That an argument is a typed key of JAX, or a vector of them."""

    number: Literal["one", "many"]


class Parameters(NamedTuple):
    """That an argument is what `make` gives beside an environment, and not the environment."""


class PerStep(NamedTuple):
    """That a number may be an array as well, with one number for each step of a rollout."""


class StepsPerUpdate(NamedTuple):
    """How many steps an optimizer makes in one update: the product of these arguments of the algorithm."""

    factors: tuple[str, ...]


AT_LEAST_ONE = Range("at least 1", lambda x: x >= 1)
ABOVE_ONE = Range("greater than 1", lambda x: x > 1)
ABOVE_ZERO = Range("greater than 0", lambda x: x > 0)
POSITIVE = Range("greater than 0 and finite", lambda x: 0 < x < math.inf)
NOT_NEGATIVE = Range("at least 0 and finite", lambda x: 0 <= x < math.inf)
FRACTION = Range("between 0 and 1", lambda x: 0 <= x <= 1)
INT32 = Range("between -2^31 and 2^31", lambda x: -(2**31) <= x < 2**31)  # what JAX can hold

Count = Annotated[int, AT_LEAST_ONE, INT32]
Positive = Annotated[Scalar, POSITIVE]
NotNegative = Annotated[Scalar, NOT_NEGATIVE]
Fraction = Annotated[Scalar, FRACTION]
Fractions = Annotated[Scalar, FRACTION, PerStep()]
AboveOne = Annotated[Scalar, ABOVE_ONE]
Clip = Annotated[Scalar, ABOVE_ZERO]
PositiveCoefficient = Annotated[Coefficient, POSITIVE]
NotNegativeCoefficient = Annotated[Coefficient, NOT_NEGATIVE]
Steps = Annotated[int, NOT_NEGATIVE, INT32]
Key = Annotated[jax.Array, Keys("one")]
KeyVector = Annotated[jax.Array, Keys("many")]
EnvParams = Annotated[PyTree, Parameters()]


class DistributionLike:
    """Stands for the annotation "Distribution" where distrax, which is slow to import, is imported by none."""


_REMEDIES = {
    "Network": "make one with policy_network, value_network, feed_forward or recurrent",
    "Env": "make one with make or from_gymnax",
    "GradientTransformation": "make one with adam(learning_rate) or any function of optax",
    "Algorithm": "make one with ppo, trpo, reinforce, actor_critic or online_actor_critic",
    "Discrete or Box": "env.action_space(env_params) gives that of an environment",
    "Module": "pass an instance, such as MLP()",
    "RNNCellBase": "pass an instance, such as flax.linen.GRUCell(64)",
    "Distribution": "make one with categorical or diagonal_gaussian",
    "FiniteMDP": "make one with FiniteMDP(transition, reward, start)",
    "Loop": "begin and unroll give one",
    "array": "jax.numpy.asarray makes one",
}
_NOUNS = {None: "None", NoneType: "None", float: "number", str: "string", jax.Array: "array"}
_OTHER_NAMES = {"gamma": "discount", "lr": "learning_rate", "lam": "gae_lambda"}
_BUILDER_REMEDY = "pass a function, such as lambda env: ppo(env, policy, value, optimizer)"


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, which first checks its arguments against their annotations.

    Raises:
      TypeError: an argument is not of the annotated kind, is missing, or is none of the function's.
      ValueError: a Python number is out of its `Range`, an array is no single number where one has a range, or
        a string is none of a `Literal`.
    """
    signature = inspect.signature(function)

    @lru_cache(maxsize=1)
    def hints() -> dict[str, Any]:
        return {x.name: _evaluated(x.annotation, function) for x in signature.parameters.values()}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(_misfit(function.__name__, signature, str(error), kwargs)) from None
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            given = {name: value}
            if kind is inspect.Parameter.VAR_KEYWORD:
                given = value
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                given = {f"{name}[{i}]": x for i, x in enumerate(value)}
            for one, x in given.items():
                check(one, x, hints()[name])
        return function(*args, **kwargs)

    return call


def check(name: str, value: Any, annotation: Any) -> None:
    """Raise TypeError or ValueError, one sentence, unless a value is what an annotation says."""
    if keys := _stated(annotation, Keys):
        _check_keys(name, value, keys[0])
        return
    if _stated(annotation, Parameters) and isinstance(value, Env | Algorithm):
        raise TypeError(
            f"{name} must be the parameters of the environment, not {described(value)}: make gives both, "
            "env, env_params = make(env_id)."
        )
    kinds = alternatives(annotation)
    if any(_is(value, kind) for kind in kinds):
        may_be_array = isinstance(value, list | tuple) or _stated(annotation, PerStep)
        for limits in ranges(annotation):
            if np.shape(value) != () and not may_be_array:
                raise ValueError(f"{name} must be one number, not {described(value)}.")
            for x in value if isinstance(value, list | tuple) else (value,):
                if isinstance(x, Real) and not limits.holds(x):
                    raise ValueError(f"{name} must be {limits.words}, not {x}.")
        return
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices and isinstance(value, str):
        raise ValueError(f"{name} must be {_either(choices)}, not {value!r}{near(value, choices)}.")
    words = list(dict.fromkeys(_words(kind) for kind in kinds))
    remedy = _REMEDIES.get(" or ".join(x for x in words if x != "None"))
    if any(get_args(kind)[-1:] == (Algorithm,) for kind in kinds):
        remedy = _BUILDER_REMEDY
    found = described(value)
    if type(value).__name__ in words:  # of the same name in another library
        found = _article(f"{type(value).__module__}.{type(value).__name__}")
    raise TypeError(
        f"{name} must be {_either(_article(x) for x in words)}, not {found}"
        + (f"; {remedy}." if remedy else ".")
    )


def check_fields(module: Any) -> None:
    """`check` of every field that the class of a flax module annotates: call it in `__post_init__`."""
    for name, annotation in inspect.get_annotations(type(module)).items():
        if name not in ("parent", "name"):  # those of flax
            check(name, getattr(module, name), annotation)


def check_shapes(**arrays: jax.Array | jax.ShapeDtypeStruct) -> None:
    """Raise ValueError, one sentence that names them, unless all arrays have the same shape."""
    if len({np.shape(x) for x in arrays.values()}) > 1:
        found = ", ".join(f"{name} {np.shape(x)}" for name, x in arrays.items())
        raise ValueError(f"These arrays must have the same shape: {found}.")


def same_structure(x: PyTree, y: PyTree) -> bool:
    """Whether two pytrees have the same containers with as many leaves."""
    structures: list[Any] = [jax.tree.structure(tree) for tree in (x, y)]
    return bool(structures[0] == structures[1])


def check_alike(**trees: PyTree) -> None:
    """Raise ValueError, one sentence, unless two pytrees have the same structure and shapes of leaves."""
    (one, x), (other, y) = trees.items()
    if not same_structure(x, y):
        raise ValueError(
            f"{one} and {other} must be pytrees of the same structure, one leaf for each leaf of the other."
        )
    for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y)):
        if np.shape(a) != np.shape(b):
            raise ValueError(
                f"{one} and {other} must have leaves of the same shapes, not {np.shape(a)} and {np.shape(b)}."
            )


def check_step(result: Any) -> tuple:
    """What `Env.step` returned; ValueError, one sentence, unless it is six values, the last a dict."""
    if not isinstance(result, tuple) or len(result) != 6 or not isinstance(result[-1], dict):
        found = described(result)
        if isinstance(result, tuple):
            found = (
                f"{len(result)} values that end with {described(result[-1]) if result else 'none'}"
            )
        raise ValueError(
            "Env.step must return (obs, state, reward, terminated, truncated, info), info a dict, "
            f"not {found}."
        )
    return result


def check_pair(name: str, result: Any, first: str, second: str) -> tuple:
    """What a function returned; ValueError, one sentence, unless it is a tuple of two."""
    if not isinstance(result, tuple) or len(result) != 2:
        found = f"{len(result)} values" if isinstance(result, tuple) else described(result)
        raise ValueError(f"{name} must return ({first}, {second}), not {found}.")
    return result


def alternatives(annotation: Any) -> list[Any]:
    """The kinds that a union is made of, whatever is nested in it."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (typing.Union, UnionType):
        return [kind for part in get_args(annotation) for kind in alternatives(part)]
    return [annotation]


def ranges(annotation: Any) -> list[Range]:
    """The ranges that an annotation states, whatever they are nested in."""
    return _stated(annotation, Range)


def near(name: str, names: Iterable[str]) -> str:
    """` (did you mean x, y?)`, or nothing where no name is like this one."""
    lower = {str(known).lower(): str(known) for known in names}
    matches = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    return f" (did you mean {', '.join(lower[match] for match in matches)}?)" if matches else ""


def _stated(annotation: Any, kind: type[T]) -> list[T]:
    """What an annotation states of one kind, whatever it is nested in."""
    stated = [x for x in getattr(annotation, "__metadata__", ()) if isinstance(x, kind)]
    if get_origin(annotation) in (Annotated, typing.Union, UnionType):
        stated += [x for part in get_args(annotation) for x in _stated(part, kind)]
    return stated


def _evaluated(annotation: Any, function: Callable) -> Any:
    """An annotation, where it is a string what that stands for, or Any where only a type checker knows."""
    if annotation is inspect.Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    try:
        known = {"Distribution": DistributionLike}
        return eval(annotation, inspect.unwrap(function).__globals__, known)
    except NameError:
        return Any


def _misfit(name: str, signature: inspect.Signature, error: str, given: Iterable[str]) -> str:
    """Why arguments do not fit a signature, and what would."""
    error = error.replace("keyword-only argument", "argument")  # from Python 3.12 on
    parameters = signature.parameters.values()
    any_name = any(x.kind is inspect.Parameter.VAR_KEYWORD for x in parameters)
    unknown = [x for x in given if x not in signature.parameters and not any_name]
    if unknown:
        error = f"got an unexpected keyword argument {unknown[0]!r}"
        known = _OTHER_NAMES.get(unknown[0], unknown[0])
        if hint := near(known, signature.parameters):
            return f"{name}: {error}{hint}."
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    bare = [
        (x.kind in named, str(x.replace(annotation=x.empty, default=x.empty))) for x in parameters
    ]
    first = ", ".join(x for is_named, x in bare if not is_named)
    others = ", ".join(x for is_named, x in bare if is_named)
    takes = " and ".join(x for x in (first, others and f"by name {others}") if x)
    return f"{name}: {error}; it takes {takes or 'no arguments'}."


def _check_keys(name: str, value: Any, keys: Keys) -> None:
    one = keys.number == "one"
    if not jnp.issubdtype(getattr(value, "dtype", bool), jax.dtypes.prng_key):
        wanted = "a typed key, jax.random.key(seed)"
        if not one:
            wanted = "a vector of typed keys, jax.random.split(jax.random.key(seed), seeds)"
        raise TypeError(f"{name} must be {wanted}, not {described(value)}.")
    if one and value.shape != ():
        raise ValueError(
            f"{name} must be one typed key, not an array of keys of shape {value.shape}."
        )
    if not one and (value.ndim != 1 or value.shape[0] == 0):
        raise ValueError(
            f"{name} must be a vector of at least one typed key, found shape {value.shape}."
        )


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind. True for kinds that nothing is known about."""
    origin = get_origin(kind)
    if kind is Any or isinstance(kind, TypeVar):
        return True
    if kind is DistributionLike:
        return hasattr(value, "entropy") and not isinstance(value, type)
    if kind in (None, NoneType):
        return value is None
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if kind is jax.Array:
        host = isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "OSU"
        return host or isinstance(value, jax.Array)
    if origin is Literal:
        return value in get_args(kind)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if origin in (list, tuple, Sequence):
        part, *more = get_args(kind)
        part = Any if more not in ([], [Ellipsis]) else part
        return isinstance(value, list | tuple) and all(
            any(_is(x, one) for one in alternatives(part)) for x in value
        )
    if Callable in (origin, kind):
        return callable(value) and not isinstance(value, type)
    if not isinstance(origin or kind, type) or getattr(origin, "_is_protocol", False):
        return True
    if origin is not None:
        return isinstance(value, origin)
    if getattr(kind, "_is_protocol", False):
        return callable(value)
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (dict, Mapping):
        return "dict"
    if origin in (list, tuple, Sequence):
        return f"sequence of {_words(get_args(kind)[0])}s"
    if kind is DistributionLike:
        return "Distribution"
    if Callable in (origin, kind) or getattr(kind, "_is_protocol", False):
        return "function"
    return _NOUNS.get(kind, getattr(origin or kind, "__name__", str(kind)))


def described(value: Any) -> str:
    """A value in a few words, for a sentence that refuses it."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, bool | int | float | str | NoneType):
        return repr(value)
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)} and type {value.dtype}"
    return _article(type(value).__name__)


def _article(noun: str) -> str:
    article = "an" if noun[0].lower() in "aeio" else "a"
    return noun if noun == "None" else f"{article} {noun}"


def _either(words: Iterable[Any]) -> str:
    *first, last = map(str, words)
    return f"{', '.join(first)} or {last}" if first else last
