"""The list of mutants fits the project: lines occur once, and the tests that kill them exist."""

import ast
from functools import lru_cache
from pathlib import Path

import pytest

from tests.mutants import MUTANTS
from tests.run_mutants import apply

ROOT = Path(__file__).parents[1]


@lru_cache
def functions_of(file: Path) -> dict[str, str]:
    """Names of the tests in a file, and their decorators."""
    functions = [x for x in ast.parse(file.read_text()).body if isinstance(x, ast.FunctionDef)]
    return {x.name: " ".join(map(ast.unparse, x.decorator_list)) for x in functions}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_can_be_tried(name):
    mutant = MUTANTS[name]
    lines = [line.strip() for line in (ROOT / mutant.file).read_text().splitlines()]
    assert lines.count(mutant.line) == 1
    assert mutant.changed not in ("", mutant.line)
    assert mutant.tests
    for test in mutant.tests:
        file, _, function = test.partition("::")
        found = functions_of(ROOT / "tests" / file)
        decorators = found[function.partition("[")[0]] if function else ""
        assert "mark.slow" not in decorators  # the default run kills it


def test_mutants_are_many_and_everywhere():
    assert len({(mutant.file, mutant.line, mutant.changed) for mutant in MUTANTS.values()}) >= 45
    folders = {path.parent.name for path in (ROOT / "purejaxpg").glob("*/__init__.py")}
    assert folders <= {Path(mutant.file).parent.name for mutant in MUTANTS.values()}


def test_a_line_that_is_not_there_once_is_refused(tmp_path):
    mutant = next(iter(MUTANTS.values()))
    path = tmp_path / mutant.file
    path.parent.mkdir(parents=True)
    path.write_text(f"def f():\n    {mutant.line}\n")
    apply(mutant, tmp_path)
    assert path.read_text() == f"def f():\n    {mutant.changed}\n"
    with pytest.raises(ValueError, match=r"has 0 lines .*, not one"):
        apply(mutant, tmp_path)
    path.write_text(f"{mutant.line}\n{mutant.line}\n")
    with pytest.raises(ValueError, match=r"has 2 lines .*, not one"):
        apply(mutant, tmp_path)
