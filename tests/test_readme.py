"""The README's Python blocks run as they stand, and its commands name files that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs(block):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", block], capture_output=True, text=True, timeout=200
    )
    assert run.returncode == 0, run.stderr


def test_what_it_names_exists():
    named = set(re.findall(r"experiments/[\w./-]+\.(?:py|png|json)", README))
    assert "experiments/train.py" in named
    assert [name for name in named if not (ROOT / name).is_file()] == []
