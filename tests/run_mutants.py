"""Does a test fail when the project is wrong? Apply each mutant to a copy, and run the tests that it names.

    python tests/run_mutants.py                        # all of them, about a quarter of an hour
    python tests/run_mutants.py clip ratio --jobs 2    # those with one of these words in their names

The tests of a mutant must pass without it and fail with it. The exit code is 1 if a mutant survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.mutants import MUTANTS, Mutant  # noqa: E402

COPIED = ("purejaxpg", "experiments", "tests", "pyproject.toml", "README.md")


def copy_of_project(folder: Path) -> Path:
    """What the tests need of the project; compiled modules are valid as long as their files are old."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    return folder


def apply(mutant: Mutant, root: Path) -> None:
    """Change the line in its file.

    Raises:
      ValueError: the line is not there exactly once.
    """
    path = root / mutant.file
    lines = path.read_text().splitlines(keepends=True)
    found = [i for i, line in enumerate(lines) if line.strip() == mutant.line]
    if len(found) != 1:
        raise ValueError(f"{mutant.file} has {len(found)} lines {mutant.line!r}, not one.")
    (i,) = found
    lines[i] = lines[i].replace(mutant.line, mutant.changed)
    path.write_text("".join(lines))


def run_tests(tests: tuple[str, ...], root: Path) -> subprocess.CompletedProcess:
    """pytest's exit code is 0 where all tests pass, 1 where one fails, and more where they cannot be run."""
    names = [f"tests/{test}" for test in tests]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *names]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def failing(every: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """The sets of tests that do not pass as the project stands, or are skipped, and what pytest says."""
    with tempfile.TemporaryDirectory() as folder:
        root = copy_of_project(Path(folder))
        together = tuple(dict.fromkeys(test for tests in every for test in tests))
        if passed(run_tests(together, root)):
            return {}
        runs = {tests: run_tests(tests, root) for tests in every}
    return {tests: last_line(done) for tests, done in runs.items() if not passed(done)}


def passed(done: subprocess.CompletedProcess) -> bool:
    return done.returncode == 0 and "skipped" not in last_line(done)


def last_line(done: subprocess.CompletedProcess) -> str:
    return (done.stdout.strip().splitlines() or [done.stderr])[-1]


def outcome(mutant: Mutant) -> str:
    with tempfile.TemporaryDirectory() as folder:
        root = copy_of_project(Path(folder))
        apply(mutant, root)
        done = run_tests(mutant.tests, root)
    if done.returncode == 1:
        return "killed"
    return "SURVIVED" if done.returncode == 0 else f"not tried: {last_line(done)}"


def chosen(words: list[str]) -> dict[str, Mutant]:
    return {
        name: mutant
        for name, mutant in MUTANTS.items()
        if not words or any(word in name for word in words)
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="parts of names of mutants; all if not given")
    parser.add_argument("--jobs", type=int, default=1, help="mutants that are tried at once")
    options = parser.parse_args(arguments)
    mutants, began = chosen(options.words), time.monotonic()
    unsound = failing(sorted({mutant.tests for mutant in mutants.values()}))
    for tests, why in unsound.items():
        print(f"{' '.join(tests)} without any mutant: {why}", flush=True)
    tried = {name: mutant for name, mutant in mutants.items() if mutant.tests not in unsound}
    killed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for name, found in zip(tried, pool.map(outcome, tried.values())):
            killed += found == "killed"
            print(f"{found:9} {name}", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(f"{killed} of {len(mutants)} mutants killed in {minutes:.1f} minutes")
    return 0 if killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
