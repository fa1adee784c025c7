"""Everything public is documented, parameter by parameter, and the examples of the docstrings run."""

import ast
import builtins
import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import purejaxpg as pg

_SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Example")
_ENTRY = re.compile(r"  (\*{0,2}\w+): \S")
_CONTINUED = re.compile(r"    +\S")
_OF_FLAX = ("parent", "name")  # fields that every flax module has
_CHECKS_OF_CHEX = ("chex.assert_",)  # they raise AssertionError


def modules_in(package: str) -> list[str]:
    """The modules of a package, without importing them."""
    paths = importlib.import_module(package).__path__
    return [info.name for info in pkgutil.iter_modules(paths, f"{package}.")]


WHOLE = [
    *modules_in("purejaxpg.functional"),
    *modules_in("purejaxpg.reporting"),
    *modules_in("purejaxpg.rlhf"),
    *modules_in("purejaxpg.environments.adapters"),
    "purejaxpg.environments.tabular",
    "purejaxpg.environments.wrappers",
    "purejaxpg.networks.modules",
    "purejaxpg.training.checkpoint",
    "purejaxpg.training.search_space",
]
"""Modules in which every function and class without an underscore is public; elsewhere it is `__all__`."""


def public_objects() -> dict[str, dict[str, Any]]:
    """Module -> name -> function or class that a user may call, each where it is defined."""
    found: dict[str, dict[str, Any]] = {}

    def add(name: str, value: Any) -> None:
        documented = inspect.isfunction(value) or inspect.isclass(value)
        if documented and value.__module__.startswith("purejaxpg."):
            found.setdefault(value.__module__, {})[name] = value

    for name in pg.__all__:
        add(name, getattr(pg, name))
    for module in map(importlib.import_module, WHOLE):
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) == module.__name__ and name[0] != "_":
                add(name, value)
    return found


PUBLIC = public_objects()
MODULES = sorted(PUBLIC)


def sections_of(docstring: str) -> dict[str, list[str]]:
    """The lines below each header such as `Args:`, up to the next line that is not indented."""
    sections: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in inspect.cleandoc(docstring).splitlines():
        header = line.removesuffix(":")
        if line.endswith(":") and header in _SECTIONS:
            lines = sections.setdefault(header, [])
        elif line and not line.startswith(" "):
            lines = None
        elif line and lines is not None:
            lines.append(line)
    return sections


def entries_of(lines: list[str]) -> tuple[list[str], list[str]]:
    """Names that have an entry `  name: text`, and lines that belong to no entry."""
    names, strays = [], []
    for line in lines:
        if match := _ENTRY.match(line):
            names.append(match[1])
        elif not (names and _CONTINUED.match(line)):
            strays.append(line)
    return names, strays


def parameters_of(function: Any) -> list[str]:
    """Names of the parameters as the docstring spells them: `*args` and `**kwargs` with their stars."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(function).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in parameters if p.name != "self"]


def fields_of(cls: type) -> list[str]:
    """Fields of a NamedTuple, a dataclass or a flax module."""
    if hasattr(cls, "_fields"):
        return list(cls._fields)
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls) if field.name not in _OF_FLAX]
    return []


def raised_by(function: Any) -> set[str]:
    """Exceptions that the function raises on its own, functions inside of it apart."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]

    def nodes(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.Lambda):
                yield child
                yield from nodes(child)

    found = set()
    for node in nodes(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(_CHECKS_OF_CHEX):
            found.add("AssertionError")
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func))
    return {name for name in found if hasattr(builtins, name)}


def missing_entries(section: str, wanted: list[str], sections: dict[str, list[str]]) -> list[str]:
    """What is wrong with a section that has to have one entry per name."""
    names, strays = entries_of(sections.get(section, []))
    return [
        *(f"{section} lacks `{name}`" for name in wanted if name not in names),
        *(f"{section} has `{name}`, which there is not" for name in names if name not in wanted),
        *(f"{section} has `{name}` twice" for name in set(names) if names.count(name) > 1),
        *(f"{section} has a line that is no `name: text`: {line!r}" for line in strays),
    ]


def problems_of_function(function: Any) -> list[str]:
    """Everything in which the docstring of a function departs from the template."""
    sections = sections_of(function.__doc__ or "")
    problems = missing_entries("Args", parameters_of(function), sections)
    if inspect.signature(function).return_annotation not in (None, "None"):
        problems += [] if sections.get("Returns") else ["Returns is missing"]
    stated, strays = entries_of(sections.get("Raises", []))
    problems += [
        f"Raises lacks `{name}`" for name in sorted(raised_by(function)) if name not in stated
    ]
    problems += [f"Raises has a line that is no `name: text`: {line!r}" for line in strays]
    if not any(line.lstrip().startswith(">>> ") for line in sections.get("Example", [])):
        problems.append("Example is missing")
    return problems


def problems_of_class(cls: type) -> list[str]:
    """The same for a class: its fields, or what it is called with if it is a Protocol of a function."""
    sections = sections_of(cls.__doc__ or "")
    problems = [] if (cls.__doc__ or "").strip() else ["has no docstring"]
    problems += missing_entries("Attributes", fields_of(cls), sections)
    call = vars(cls).get("__call__")
    if getattr(cls, "_is_protocol", False) and call is not None:
        if not sections.get("Args"):
            sections = sections_of(call.__doc__ or "")
        problems += missing_entries("Args", parameters_of(call), sections)
        problems += [] if sections.get("Returns") else ["Returns is missing"]
    return problems


def problems_of(objects: dict[str, Any]) -> list[str]:
    """One line for each thing that is missing or wrong in the docstrings of these objects."""
    lines = []
    for name, value in objects.items():
        check = problems_of_class if inspect.isclass(value) else problems_of_function
        lines += [f"{name}: {problem}" for problem in check(value)]
    return lines


def failed_examples(module: ModuleType, *, slow: bool = False) -> tuple[str, int]:
    """The report of the examples that fail in a module, and how many there are.

    They begin without any names: what an example uses it has to import, as its reader has to. Those that
    take long are marked with `# doctest: +SKIP`, and run if `slow`.
    """
    report: list[str] = []
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
    count = 0
    for test in finder.find(module, module.__name__, module=module, globs={}):
        count += len(test.examples)
        for example in test.examples if slow else ():
            example.options.pop(doctest.SKIP, None)
        runner.run(test, out=report.append)
    return "".join(report), count


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_is_documented(module):
    problems = problems_of(PUBLIC[module])
    if not importlib.import_module(module).__doc__:
        problems.insert(0, "the module has no docstring")
    assert not problems, "\n".join([f"in {module}:", *problems])


def has_slow_examples(module: str) -> bool:
    return "# doctest: +SKIP" in inspect.getsource(importlib.import_module(module))


def adapted_library(module: str) -> str | None:
    """The library that the examples of a module need and that need not be installed."""
    parent, _, name = module.rpartition(".")
    return name if parent == "purejaxpg.environments.adapters" and name != "common" else None


@pytest.mark.filterwarnings("ignore:JAXopt is no longer maintained:DeprecationWarning")  # Brax
@pytest.mark.filterwarnings("ignore:Brax System:UserWarning")
@pytest.mark.parametrize("module", MODULES)
def test_the_examples_run(module):
    if adapted_library(module):
        pytest.importorskip(adapted_library(module))
    report, count = failed_examples(importlib.import_module(module))
    assert not report, report
    functions = [x for x in PUBLIC[module].values() if inspect.isfunction(x)]
    assert count >= len(functions)


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted(name for name in MODULES if has_slow_examples(name)))
def test_the_slow_examples_run(module):
    report, _ = failed_examples(importlib.import_module(module), slow=True)
    assert not report, report


def test_the_public_names_are_found():
    names = {name for objects in PUBLIC.values() for name in objects}
    assert {"ppo", "gae", "MLP", "check_support", "bootstrap_interval", "save", "make_pgx"} <= names
    assert not names & {"Distribution", "partial", "near", "Figure"}


class _Pair(NamedTuple):
    """Two numbers.

    Attributes:
      left, right: the numbers.
    """

    left: float
    right: float


def _squeezed(x, y, *rest, scale=1.0):
    """Adds.

    Args:
      x, y: two parameters that share a line.
      z: a parameter that there is not.
      scale: a factor.
    """
    if scale < 0:
        raise ValueError("no")
    return x + y


def _good(x: float, *rest: float, **options: float) -> float:
    """Double a number.

    Args:
      x: the number,
        with a second line.
      *rest: ignored.
      **options: ignored.

    Returns:
      Twice the number.

    Raises:
      ValueError: where it is negative.

    Example:
      >>> 1 + 1
      2
    """
    if x < 0:
        raise ValueError("no")
    return 2 * x


def test_wrong_docstrings_are_found():
    assert problems_of({"good": _good}) == []
    assert problems_of({"add": _squeezed, "Pair": _Pair}) == [
        "add: Args lacks `x`",
        "add: Args lacks `y`",
        "add: Args lacks `*rest`",
        "add: Args has `z`, which there is not",
        "add: Args has a line that is no `name: text`: '  x, y: two parameters that share a line.'",
        "add: Returns is missing",
        "add: Raises lacks `ValueError`",
        "add: Example is missing",
        "Pair: Attributes lacks `left`",
        "Pair: Attributes lacks `right`",
        "Pair: Attributes has a line that is no `name: text`: '  left, right: the numbers.'",
    ]
    assert problems_of({"bare": lambda: None}) == [
        "bare: Returns is missing",
        "bare: Example is missing",
    ]


@pytest.mark.parametrize(
    ("example", "complaint"),
    [
        (">>> 1 + 1\n3\n", "Expected:\n    3\nGot:\n    2"),
        (">>> import jax.numpy as jnp\n>>> jnp.nothing\n", "AttributeError"),
        (
            ">>> inspect.unwrap\n",
            "NameError",
        ),  # a name of the module that the example never imports
    ],
)
def test_wrong_examples_are_found(example, complaint):
    module = ModuleType("wrong", example)
    module.inspect = inspect
    report, count = failed_examples(module)
    assert complaint in report
    assert count >= 1


def test_right_examples_pass():
    assert failed_examples(ModuleType("right", ">>> 1 + 1\n2\n")) == ("", 1)


def test_slow_examples_run_if_told():
    module = ModuleType("slow", ">>> 1 + 1  # doctest: +SKIP\n3\n")
    assert failed_examples(module) == ("", 1)
    assert "Got:\n    2" in failed_examples(module, slow=True)[0]
