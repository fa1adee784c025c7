"""The tables of results are those of the committed files, and a changed file is noticed."""

import json
import shutil

import pytest

from experiments import summarize
from experiments.common import result_tables

RUN = "experiments/results/ppo-Acrobot-v1/summary.json"


@pytest.fixture
def copy(tmp_path):
    """The first page, and of the results what tables are made of."""
    shutil.copy(summarize.ROOT / "README.md", tmp_path)
    results = "experiments/results"
    shutil.copytree(
        summarize.ROOT / results, tmp_path / results, ignore=shutil.ignore_patterns("*.npz", "checkpoints")
    )  # fmt: skip
    return tmp_path


def test_the_pages_are_up_to_date(capsys):
    assert summarize.main(["--check"]) == 0, capsys.readouterr().out


def test_a_changed_figure_is_noticed_and_written(copy, capsys):
    arguments = ["--root", str(copy)]
    assert summarize.main([*arguments, "--check"]) == 0
    summary = json.loads((copy / RUN).read_text())
    (copy / RUN).write_text(json.dumps({**summary, "return_iqm": -12.34}))
    pages = [copy / "README.md", copy / "experiments" / "results" / "README.md"]
    before = [page.read_text() for page in pages]
    assert summarize.main([*arguments, "--check"]) == 1
    out = capsys.readouterr().out
    assert all(f"{page} is not up to date" in out for page in pages)
    assert [page.read_text() for page in pages] == before

    assert summarize.main(arguments) == 0
    for page, old in zip(pages, before):
        assert "-12.3" in page.read_text() and "-12.3" not in old
        assert page.read_text().replace("-12.3 ", "-79.6 ") == old
    assert summarize.main([*arguments, "--check"]) == 0


def test_a_new_run_is_a_row(copy):
    shutil.copytree((copy / RUN).parent, (copy / RUN).parent.with_name("ppo-new"))
    assert summarize.main(["--root", str(copy)]) == 0
    page = (copy / "experiments" / "results" / "README.md").read_text()
    assert page.count("\n| [ppo-new](ppo-new) | 10 | 499,712 | -79.6 |") == 1


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (RUN, "{", "is damaged"),
        (RUN, "{}", "'seeds' is missing"),
        (RUN, None, "No such file"),
        ("experiments/results/commands.json", '{"gone": "python x.py"}', "names gone: not there"),
        (
            "README.md",
            "<!-- results -->",
            "needs the markers <!-- results --> and <!-- /results -->",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(copy, file, content, message, capsys):
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_text(content)
    assert summarize.main(["--root", str(copy), "--check"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_numbers_and_commands_are_written_for_readers():
    assert result_tables.number(-0.0026, 2) == "0.00"
    assert result_tables.short(0.0003000000142492354) == "0.0003"
    assert result_tables.short(1000.0) == "1000"
    short = "python a.py --b 1"
    assert result_tables.broken(short) == short
    options = " ".join(f"--option-{i} {i}" for i in range(12))
    lines = result_tables.broken(f"python a.py {options}").split(" \\\n")
    assert len(lines) > 1 and all(len(line) <= result_tables.WIDTH for line in lines)
    assert " ".join(" ".join(lines).split()) == f"python a.py {options}"
    assert result_tables.broken("python a.py && python b.py") == "python a.py\npython b.py"
