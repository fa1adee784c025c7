"""Write the tables of the committed results into the pages that show them.

    python experiments/summarize.py            # after a new result, or a changed one
    python experiments/summarize.py --check    # says what is not up to date, and exits 1

In a page a table stands between the markers `<!-- name -->` and `<!-- /name -->`; what is around them is
written by hand and stays as it is. Figures come from the JSON files in experiments/results, and commands
from commands.json there.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.common import result_tables as tables
from experiments.common.command_line import read_options, run_program
from experiments.common.results import write_text

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Options:
    check: bool = False
    """Write nothing; exit with 1 where a page is not up to date."""
    root: Path = ROOT
    """The checkout, with README.md and experiments/results/."""


def main(arguments: list[str]) -> int:
    return run_program(prepare, write_pages, arguments)


def prepare(arguments: list[str]) -> tuple[Options, dict[Path, str]]:
    """Options, and the pages with every table as it should be."""
    options = read_options(Options, arguments)
    try:
        return options, filled_pages(options.root)
    except KeyError as error:
        raise ValueError(f"{error} is missing in the results.") from None


def write_pages(options: Options, pages: dict[Path, str]) -> int:
    """Write what is not up to date, or say so. Returns the exit code."""
    stale = [path for path, text in pages.items() if path.read_text() != text]
    for path in stale:
        if options.check:
            print(f"{path} is not up to date: run python experiments/summarize.py.")
        else:
            write_text(path, pages[path])
            print(f"written: {path}")
    return 1 if stale and options.check else 0


def filled_pages(root: Path) -> dict[Path, str]:
    """Page -> its text with every table as it should be.

    Raises:
      FileNotFoundError, KeyError, ValueError: a file, a figure in it or a marker is missing.
    """
    results = root / "experiments" / "results"
    blocks = {
        root / "README.md": {
            "results": tables.headlines(results),
            "speed": tables.parts_table(results),
        },
        results / "README.md": {
            **tables.run_tables(results),
            "modes": tables.mode_table(results),
            "sweep": tables.sweep_table(results),
            **tables.comparison_tables(results),
            **tables.benchmark_tables(results),
            "animation": tables.listed(results, ["breakout.gif"]).strip(),
        },
    }
    return {path: fill(path, block) for path, block in blocks.items()}


def fill(path: Path, blocks: dict[str, str]) -> str:
    """The text of a page, with these blocks between their markers.

    Raises:
      ValueError: the page has no such markers, or has them twice.
    """
    text = path.read_text()
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, others = text.partition(begin)
        _, found, after = others.partition(end)
        if not found or begin in after:
            raise ValueError(f"{path} needs the markers {begin} and {end}, once.")
        text = f"{before}{begin}\n{block}\n{end}{after}"
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
