"""Imports go to a lower floor (or stay on their own without a circle); slow packages stay out."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "purejaxpg"
FLOORS = {
    0: ["types"],
    1: [
        "returns",
        "advantages",
        "eligibility",
        "finite_mdp",
        "losses",
        "optimizers",
        "running_statistics",
        "distributions",
        "trust_region",
    ],
    2: [
        "environments",
        "tabular",
        "networks",
        "attention",
        "rollout",
        "values",
        "minibatch",
        "agent",
        "adapters",
    ],
    3: ["algorithms"],
    4: ["normalization"],
    5: [
        "train",
        "sweep",
        "search_space",
        "statistics",
        "plotting",
        "sweep_plots",
        "comparison_plots",
        "checkpoint",
        "trackers",
    ],
    6: ["__init__"],
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}


def name_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(source: str) -> set[str]:
    """Modules `purejaxpg.<name>` that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module or ""]
            if node.module == "purejaxpg":
                names = [f"purejaxpg.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("purejaxpg.")}
    return found


def climbs(name: str, source: str) -> set[str]:
    """What a file imports from a higher floor."""
    return {other for other in imports_of(source) if FLOOR[other] > FLOOR[name]}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_go_down(path):
    assert name_of(path) in FLOOR, f"{path} has no floor yet"
    assert climbs(name_of(path), path.read_text()) == set()


def test_an_import_that_goes_up_is_found():
    assert climbs("losses", "from purejaxpg.rollout import unroll") == {"rollout"}
    assert climbs("returns", "def f():\n    import purejaxpg.train") == {"train"}
    assert climbs("rollout", "from purejaxpg.types import Env") == set()


def test_no_circle():
    graph = {
        path.relative_to(PACKAGE)
        .with_suffix("")
        .as_posix()
        .replace("algorithms/", "algorithms.")
        .replace("adapters/", "adapters."): (imports_of(path.read_text()))
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"circle: {(*above, name)}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    ("package", "file"), [("distrax", "distributions.py"), ("gymnax", "environments.py")]
)
def test_one_file_only(package, file):
    importing = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if any(
            line.strip().startswith((f"import {package}", f"from {package}"))
            for line in path.read_text().splitlines()
        )
    }
    assert importing == {file}


def test_nothing_imports_the_adapters():
    for path in PACKAGE.rglob("*.py"):
        if name_of(path) != "adapters":
            assert "adapters" not in imports_of(path.read_text()), path


def test_import_is_light():
    code = "import sys, purejaxpg; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "purejaxpg" in loaded
    heavy = {"gymnax", "matplotlib", "pandas", "orbax", "seaborn", "tyro", "tensorboardX", "wandb"}
    heavy |= {"brax", "craftax", "jumanji", "pgx"}
    assert not heavy & set(loaded)


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "algorithms").glob("*.py")), ids=lambda p: p.stem
)
def test_an_algorithm_is_short(path):
    assert len(path.read_text().splitlines()) <= 150
