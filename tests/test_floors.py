"""Imports go to a lower floor, or stay on their own without a circle; slow packages stay out."""

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import purejaxpg as pg

PACKAGE = Path(__file__).parents[1] / "purejaxpg"
FLOORS = (
    ("types", "arguments", "leaves"),
    ("functional",),
    ("environments", "networks"),
    ("agent",),
    ("algorithms",),
    ("outer", "rlhf"),
    ("training", "reporting"),
    ("",),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def module_of(path: Path) -> str:
    """`functional.returns` of purejaxpg/functional/returns.py; that of a package ends in its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(source: str) -> set[str]:
    """Modules of purejaxpg that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [x if x.partition(".")[2] in MODULES else node.module or "" for x in inside]
        found |= {name.partition(".")[2] for name in names if name.startswith("purejaxpg.")}
    return found


def floor_of(module: str) -> int:
    return FLOOR[module.partition(".")[0]]


def climbs(module: str, source: str) -> set[str]:
    """What a module imports from a higher floor."""
    return {other for other in imports_of(source) if floor_of(other) > floor_of(module)}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of imports, or nothing."""
    done: set[str] = set()

    def visit(module: str, above: list[str]) -> list[str]:
        if module in above:
            return [*above[above.index(module) :], module]
        if module not in done:
            for other in sorted(graph.get(module, ())):
                if found := visit(other, [*above, module]):
                    return found
            done.add(module)
        return []

    return next((found for module in graph if (found := visit(module, []))), [])


def test_folders_are_floors():
    found = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    found |= {path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    assert found == set(FLOOR) - {""}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    assert climbs(module, MODULES[module].read_text()) == set()


def test_an_import_that_goes_up_is_found():
    up = "from purejaxpg.agent.rollout import unroll"
    assert climbs("functional.losses", up) == {"agent.rollout"}
    inside = "def f():\n    import purejaxpg.training.train"
    assert climbs("functional.returns", inside) == {"training.train"}
    package = "from purejaxpg.training import sweep"
    assert climbs("outer.normalization", package) == {"training.sweep"}
    assert climbs("agent.rollout", "from purejaxpg.types import Env") == set()


def test_no_circle():
    assert circle({name: imports_of(path.read_text()) for name, path in MODULES.items()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize(
    ("package", "module"),
    [("distrax", "functional.distributions"), ("gymnax", "environments.gymnax")],
)
def test_one_file_only(package, module):
    def imports(path):
        lines = path.read_text().splitlines()
        return any(x.strip().startswith((f"import {package}", f"from {package}")) for x in lines)

    assert [name for name, path in MODULES.items() if imports(path)] == [module]


def test_nothing_imports_the_adapters():
    for module, path in MODULES.items():
        if not module.startswith("environments.adapters"):
            assert not any("adapters" in name for name in imports_of(path.read_text())), module


def test_import_is_light():
    code = "import sys, purejaxpg; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "purejaxpg" in loaded
    heavy = {"gymnax", "matplotlib", "pandas", "orbax", "seaborn", "tyro", "tensorboardX", "wandb"}
    heavy |= {"brax", "craftax", "jumanji", "pgx"}
    assert not heavy & set(loaded)


def test_public_names_are_no_modules():
    assert dir(pg) == sorted(pg.__all__)
    assert "ppo" in pg.__all__ and "__version__" in pg.__all__
    assert [x for x in pg.__all__ if isinstance(getattr(pg, x), ModuleType)] == []
    for name in ("statistics", "plotting", "checkpoint"):
        assert isinstance(getattr(pg, name), ModuleType)
    with pytest.raises(AttributeError, match=r"has no attribute 'pppo' \(did you mean ppo"):
        pg.pppo  # noqa: B018


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_no_module_is_shadowed(module):
    code = f"import purejaxpg.{module} as m, types; assert type(m) is types.ModuleType"
    exec(code)


def code_lines(source: str) -> int:
    """Lines that are neither empty nor of a docstring."""
    lines = dict(enumerate(source.splitlines(), 1))
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        if documented and ast.get_docstring(node) is not None:
            for number in range(node.body[0].lineno, node.body[0].end_lineno + 1):
                del lines[number]
    return sum(bool(line.strip()) for line in lines.values())


def test_lines_of_code_are_counted():
    assert code_lines('"""A.\n\nB."""\n\ndef f():\n    """C.\n\n    D."""\n    return 1\n') == 2


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "algorithms").glob("*.py")), ids=lambda p: p.stem
)
def test_an_algorithm_is_short(path):
    assert code_lines(path.read_text()) <= 150
