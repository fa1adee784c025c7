"""Make pictures and one self-contained page of results: of a sweep, or of several runs side by side.

    python experiments/report.py results/ppo_learning_rate --target 500
    python experiments/report.py results/ppo-CartPole-v1 results/trpo-CartPole-v1 --output comparison

A folder is one that sweep.py or train.py wrote. Each picture is a PNG and a PDF; report.html holds them, the
table and the whole configuration, and needs no other file. A sweep that is still going on is reported as
far as its configurations are complete.
"""

import base64
import html
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from experiments.common import kept, ranking
from experiments.common.command_line import read_options, run_program
from experiments.common.parts import read_columns
from experiments.common.results import ResultsError, read_config, read_history, write_text
from purejaxpg.reporting import comparison_plots, plotting, statistics, sweep_plots

SHOWN = 6
"""Configurations in a picture of several: all, or the best ones and the worst."""


@dataclass(frozen=True)
class Options:
    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of results."""
    output: Path | None = None
    """Folder of the report; `report` in the first folder of results if not given."""
    target: float | None = None
    """Return from which on a run is as good as can be, for the optimality gap; else the best found."""


class Results(NamedTuple):
    """Configurations `values`, curves, numbers; what is stored of them; environment; how far they are."""

    values: list[dict[str, Any]]
    curves: list[ranking.Curve]
    numbers: list[int]
    config: dict[str, Any]
    env: str
    state: str


def main(arguments: list[str]) -> int:
    return run_program(prepare, report, arguments)


def prepare(arguments: list[str]) -> tuple[Options, list[Results], Path]:
    """Options, what is reported, and the folder of the report."""
    options = read_options(Options, arguments)
    if not options.folders:
        raise ValueError("The first argument must be a folder of results.")
    if options.target is not None and not np.isfinite(options.target):
        raise ValueError(f"--target must be finite, not {options.target}.")
    every = [load(folder) for folder in options.folders]
    envs = {results.env for results in every}
    if len(envs) > 1:
        raise ValueError(f"Returns of {', '.join(sorted(envs))} cannot be compared.")
    folder = options.output or options.folders[0] / "report"
    page = folder / "report.html"
    ours = page.is_file() and MARK in page.read_text(errors="replace")[:200]
    if folder.exists() and not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} holds no report of report.py: choose another --output.")
    folder.mkdir(parents=True, exist_ok=True)
    return options, every, folder


def report(options: Options, every: list[Results], folder: Path) -> None:
    names = [f.name for f in options.folders]
    values = [
        row if len(every) == 1 else {"results": name, **row}
        for name, results in zip(names, every)
        for row in results.values
    ]
    found = [curve for results in every for curve in results.curves]
    pictures = draw(folder, values, found, every[0].env, options.target)
    states = [results.state for results in every for _ in results.curves]
    rows = [
        {
            **row,
            "state": states[row["configuration"]],
            "steps": int(found[row["configuration"]].steps[-1]),
        }
        for row in ranking.rank(found, values)
    ]
    advice = best_of_many(options.folders, every, rows)
    page = render(", ".join(names), rows, pictures, folder, every, advice)
    write_text(folder / "report.html", page)
    print(f"{len(found)} configurations, {len(pictures)} pictures: {folder / 'report.html'}")


def load(folder: Path) -> Results:
    """Read what sweep.py or train.py wrote.

    Raises:
      FileNotFoundError, ValueError: it is neither, or damaged, or nothing is complete yet.
    """
    content = read_config(folder)
    if content["kind"] != "sweep":
        return load_run(folder, content)
    groups = content["config"]["groups"]
    values = [
        {**group["static"], **dict(zip(group["hyperparameters"], row))}
        for group in groups
        for row in list(zip(*group["hyperparameters"].values())) or [()]
    ]
    options = groups[0]["options"]
    found = ranking.curves(read_columns(folder, ranking.COLUMNS), options["seeds"])
    if not found:
        raise ValueError(f"No configuration of {folder} is complete yet.")
    shown = [values[number] for number in found]
    state = "finished" if len(found) == len(values) else f"{len(found)} of {len(values)} finished"
    return Results(shown, [*found.values()], [*found], content, options["env"], state)


def load_run(folder: Path, content: dict[str, Any]) -> Results:
    metrics, evaluations = read_history(folder)
    del metrics["seconds"]
    config = content["config"]  # not built: its environment may be of a library that is not here
    counts = [config.get(name) for name in ("num_envs", "num_steps", "total_steps")]
    if not all(isinstance(x, int) and x > 0 for x in counts) or not isinstance(
        config.get("env"), str
    ):
        raise ResultsError(f"{folder / 'config.json'} is damaged: it says no sizes or environment.")
    steps_per_update = counts[0] * counts[1]
    curve = ranking.curve_of_run(metrics, evaluations, steps_per_update)
    updates, total = curve.steps[-1] // steps_per_update, config["total_steps"] // steps_per_update
    state = "finished" if updates == total else f"not finished: {updates} of {total} updates"
    return Results([{}], [curve], [0], content, config["env"], state)


def best_of_many(
    folders: tuple[Path, ...], every: list[Results], rows: list[dict[str, Any]]
) -> list[str]:
    """What is to be known of the best configuration of each sweep, and done to know its worth."""
    lines, first = [], 0
    for folder, results in zip(folders, every):
        mine = range(first, first + len(results.numbers))
        if results.config["kind"] == "sweep" and len(mine) > 1:
            best = next(row["configuration"] for row in rows if row["configuration"] in mine)
            plan = results.config["config"]
            lines += kept.advice(folder, plan, results.numbers[best - first])
        first = mine.stop
    return lines


def draw(
    folder: Path, values: list[dict], found: list[ranking.Curve], env: str, target: float | None
) -> dict[str, str]:
    """Draw what there is to see. Returns name of a picture -> what it shows."""
    scores = ranking.scored(found)
    final = [x[:, -1] for x in scores]
    order = np.argsort([-float(statistics.iqm(x)) for x in final], kind="stable")
    shown = order if len(order) <= SHOWN else [*order[: SHOWN - 1], order[-1]]
    unit = "undiscounted return per episode"
    labels = {int(i): plain(ranking.label(values[i])) for i in shown}
    pictures = {}

    def save(name: str, caption: str, figure: Any) -> None:
        for suffix in (".png", ".pdf"):
            plotting.finish(figure, folder / (name + suffix))
        pictures[name] = caption

    few = f" of the best {SHOWN - 1} and the worst configuration" if len(order) > SHOWN else ""
    lines = {labels[i]: (found[i].steps, scores[i]) for i in labels}
    words: dict[str, Any] = {"y_label": unit, "title": env}
    figure = plotting.learning_curve(lines, x_label="environment steps per seed", **words)
    save("learning_curves", f"Evaluations during training{few}.", figure)
    ends = {labels[i]: final[i] for i in labels}
    figure = comparison_plots.performance_profiles(ends, x_label=f"threshold: {unit}", title=env)
    save("profiles", f"Performance profiles of the final policies{few}.", figure)
    best = max(float(x.max()) for x in scores) if target is None else target
    figure = comparison_plots.aggregate_bars(ends, target=best, score_label="return", title=env)
    save("aggregates", f"Statistics of the final policies{few}.", figure)
    if len({len(x) for x in final}) > 1 or len({frozenset(row) for row in values}) > 1:
        return pictures  # no sweep: runs of different kinds
    table = {name: [row[name] for row in values] for name in values[0]}
    varied = {name: x for name, x in table.items() if len(set(map(str, x))) > 1}
    numbers = {
        name: x
        for name, x in varied.items()
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in x)
    }
    diverged = [int(curve.diverged[:, -1].sum()) for curve in found]
    for name, x in numbers.items():
        joined = len(varied) == 1 or 2 * len(set(x)) <= len(x)
        words["x_label"] = name.replace("_", " ")
        figure = sweep_plots.sensitivity(x, final, diverged=diverged, joined=joined, **words)
        save(f"sensitivity_{name}", f"Final return over {name}.", figure)
    axes = {name.replace("_", " "): shortened(x) for name, x in varied.items()}
    pairs = [*zip(*(map(str, x) for x in varied.values()))]
    sides = [len(set(map(str, x))) for x in varied.values()]
    if len(varied) == 2 and len(pairs) == len(set(pairs)) == sides[0] * sides[1]:  # a grid
        (x_label, x), (y_label, y) = axes.items()
        figure = sweep_plots.heat_map(
            y, x, final, x_label=x_label, y_label=y_label, score_label=unit, title=env
        )
        save("heat_map", f"Final return over {' and '.join(varied)}.", figure)
    if len(varied) >= 2:
        figure = sweep_plots.parallel_axes(axes, final, score_label=unit, title=env)
        save("parallel_axes", "Every configuration and its final return.", figure)
    return pictures


def shortened(values: list[Any]) -> list[Any]:
    return [x if isinstance(x, int | float) else plain(ranking.short(x)) for x in values]


def plain(text: str) -> str:
    """For matplotlib: a pair of dollars in a folder's name is no formula."""
    return text.replace("$", r"\$")


def render(
    title: str,
    rows: list[dict],
    pictures: dict[str, str],
    folder: Path,
    every: list[Results],
    advice: list[str],
) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    head = [
        *names,
        "steps",
        "state",
        "seeds",
        "diverged",
        "IQM",
        "95% interval",
        "mean",
        "min",
        "max",
    ]
    cells = []
    for row in rows:
        iqm, *others = (f"{row[f'return_{of}']:.2f}" for of in ("iqm", "mean", "min", "max"))
        values = [ranking.short(row["values"].get(name, "")) for name in names]
        counts = [f"{row['steps']:,}", row["state"], str(row["seeds"]), str(row["seeds_diverged"])]
        interval = ranking.interval_text(row["return_iqm_95"], 2)
        cells.append([*values, *counts, iqm, interval, *others])
    figures = []
    for name, caption in pictures.items():
        data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        image = f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
        figures.append(f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>")
    folded = "<details><summary>Configuration</summary><pre>{}</pre></details>"
    configs = [folded.format(html.escape(json.dumps(x.config, indent=1))) for x in every]
    return PAGE.format(
        title=html.escape(title),
        figures="\n".join(figures),
        head=_row(head, "th"),
        rows="\n".join(_row(row, "td") for row in cells),
        configs="\n".join(configs),
        advice="\n".join(map(_paragraph, advice)),
    )


def _paragraph(line: str) -> str:
    """A sentence, or a command."""
    tag = "pre" if line.startswith("python ") else "p"
    return f"<{tag}>{html.escape(line)}</{tag}>"


def _row(cells: list[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


MARK = '<meta name="generator" content="purejaxpg report.py">'
PAGE = f"""<!DOCTYPE html>
<html lang="en"><head>{MARK}"""
PAGE += """<meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; font-size: 0.9em; }}
th, td {{ padding: 0.2em 0.8em; text-align: right; border-bottom: 1px solid #ddd; }}
figure {{ margin: 1.5em 0; }} img {{ max-width: 100%; }} pre {{ overflow-x: auto; }}
</style></head><body>
<h1>{title}</h1>
<p>Returns are undiscounted means over the evaluation episodes of each seed's policy after so many environment
steps, the last one where the run is finished. IQM is the
interquartile mean over seeds; intervals are percentiles of the stratified bootstrap. A run has diverged
when a metric is not finite or its value loss is out of all proportion to its returns; it counts as the
worst return of all and is never left out.</p>
{figures}
<table><thead>{head}</thead><tbody>
{rows}
</tbody></table>
{advice}
{configs}
</body></html>
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
