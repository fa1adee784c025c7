"""The pages: their Python blocks run as they stand, what they name exists, and no line is a wall of text."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

import purejaxpg as pg
from tests.small import ALGORITHMS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for folder in (".", "purejaxpg", "experiments", "experiments/*")
    for path in ROOT.glob(f"{folder}/*.md")
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FIRST = ROOT / "README.md"


class Block(NamedTuple):
    """A block of code: its language, the number of its first line, and its text."""

    language: str
    line: int
    text: str


def blocks_of(page):
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    text = page.read_text()
    return [Block(x[1], text.count("\n", 0, x.start()) + 2, x[2]) for x in found]


def prose_of(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors_of(page):
    """Those that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page):
    """Relative links of a page to a file, a folder or a heading that is not there."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    return broken


def missing_files(page):
    """Files of this project that are named in a page, by their path from its root, and are not there."""
    named = re.findall(
        r"\b(?:experiments|purejaxpg|tests)/[\w./-]+\.(?:py|png|gif|json|toml|md)\b",
        page.read_text(),
    )
    return [name for name in dict.fromkeys(named) if not (ROOT / name).is_file()]


def long_lines(page):
    """Numbers of lines of more than 120 characters, but for tables and commands."""
    commands = {
        block.line + i
        for block in blocks_of(page)
        if block.language == "bash"
        for i in range(block.text.count("\n"))
    }
    lines = enumerate(page.read_text().splitlines(), 1)
    return [i for i, x in lines if len(x) > 120 and x[0] != "|" and i not in commands]


PYTHON = [
    pytest.param(page, block, id=f"{name}:{block.line}")
    for page, name in zip(PAGES, NAMES)
    for block in blocks_of(page)
    if block.language == "python"
]


def test_the_pages_are_found():
    assert {"README.md", "purejaxpg/README.md", "experiments/studies/README.md"} < set(NAMES)
    assert len(PYTHON) >= 8


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("page", "block"), PYTHON)
def test_block_runs(page, block, tmp_path, monkeypatch):
    """In this process, which has imported everything already, and in a namespace of its own."""
    monkeypatch.chdir(tmp_path)
    code = "\n" * (block.line - 1) + block.text  # errors name the line of the page
    exec(compile(code, str(page), "exec"), {"__name__": "block"})
    if page == FIRST:
        assert (tmp_path / "learning_curve.png").stat().st_size > 10_000
        assert sum(bool(line.strip()) for line in block.text.splitlines()) <= 20


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_it_names_exists(page):
    assert broken_links(page) == []
    assert missing_files(page) == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_line_is_long(page):
    assert long_lines(page) == []


def test_the_first_page_is_short():
    assert len(FIRST.read_text().splitlines()) <= 150
    assert "experiments/train.py" in FIRST.read_text()


def test_what_is_wrong_in_a_page_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One heading, and `more.py`\n[a](#one-heading-and-morepy) [b](#other) [c](gone.md) [d](page.md)\n"
        "[e](https://example.org) tests/test_readme.py tests/test_gone.py\n"
        f"| {'table ' * 30} |\n```bash\n{'command ' * 20}\n```\n{'wall ' * 30}\n```python\n[f](gone.md)\n```\n"
    )
    assert broken_links(page) == ["#other", "gone.md"]
    assert missing_files(page) == ["tests/test_gone.py"]
    assert long_lines(page) == [8]
    assert [(x.language, x.line) for x in blocks_of(page)] == [("bash", 6), ("python", 10)]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_metric_is_explained(name):
    """The table says of every metric which algorithms have it, and of no other that they do."""
    env, env_params = pg.make("CartPole-v1")
    algorithm = ALGORITHMS[name](env, env_params)
    key = jax.random.key(0)
    state = jax.eval_shape(algorithm.init, key, env_params)
    metrics = jax.eval_shape(algorithm.step, key, state, env_params)[2]
    page = (ROOT / "purejaxpg" / "README.md").read_text().partition("\n## Metrics\n")[2]
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", page, flags=re.MULTILINE)
    letters = re.findall(r"\b([A-Z])(?: is)?\s+`(\w+)`", page)
    (letter,) = [letter for letter, of in letters if of == name]
    explained = {metric for metric, where in rows if re.search(rf"\b(all|{letter})\b", where)}
    assert explained == set(metrics)


def test_ci_takes_the_test_command_from_the_first_page():
    """One command of several lines comes out of the shell's own words as one line."""
    script = (ROOT / ".ci" / "run").read_text()
    taken = script[script.index("command=$(") : script.index("\n[ -n")]
    shell = f'root={ROOT}\n{taken}\nprintf %s "$command"'
    run = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    (block,) = [x for x in blocks_of(FIRST) if x.language == "bash" and "pytest" in x.text]
    assert run.stdout == re.sub(r"\s*\\\n\s*", " ", block.text).strip()
    assert run.stdout.endswith("-m pytest -q -n 2")
