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

from experiments.common.parts import read_columns
from experiments.common.ranking import COLUMNS, Curve, curves, label, rank, scored, short
from experiments.common.results import read_arrays, read_config, write_text
from experiments.common.scores import has_diverged
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
    """Configurations `values` and their curves; what is stored about them; the environment."""

    values: list[dict[str, Any]]
    curves: list[Curve]
    config: dict[str, Any]
    env: str


def main(arguments: list[str]) -> int:
    options = tyro.cli(Options, args=arguments, prog="report.py", description=__doc__)
    try:
        every = [load(folder) for folder in options.folders]
        envs = {results.env for results in every}
        if len(envs) > 1:
            raise ValueError(f"Returns of {', '.join(sorted(envs))} cannot be compared.")
        folder = options.output or options.folders[0] / "report"
        folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    names = [f.name for f in options.folders]
    values = [
        row if len(every) == 1 else {"results": name, **row}
        for name, results in zip(names, every)
        for row in results.values
    ]
    found = [curve for results in every for curve in results.curves]
    pictures = draw(folder, values, found, envs.pop(), options.target)
    page = render(", ".join(names), rank(found, values), pictures, folder, every)
    write_text(folder / "report.html", page)
    print(f"{len(found)} configurations, {len(pictures)} pictures: {folder / 'report.html'}")
    return 0


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
        for row in zip(*group["hyperparameters"].values()) or [()]
    ]
    seeds = groups[0]["options"]["seeds"]
    found = curves(read_columns(folder, COLUMNS), seeds)
    if not found:
        raise ValueError(f"No configuration of {folder} is complete yet.")
    return Results(
        [values[number] for number in found],
        [*found.values()],
        content,
        groups[0]["options"]["env"],
    )


def load_run(folder: Path, content: dict[str, Any]) -> Results:
    metrics, evaluations = (read_arrays(folder / f"{x}.npz") for x in ("metrics", "evaluations"))
    metrics.pop("seconds", None)
    returns = evaluations["returns"].astype(np.float64).mean(axis=-1)
    times = evaluations["update"][0]
    broken = np.pad(has_diverged(metrics), ((0, 0), (1, 0)))[:, times] | ~np.isfinite(returns)
    config = content["config"]
    steps = times * config["num_envs"] * config["num_steps"]
    return Results([{}], [Curve(steps, returns, broken)], content, config["env"])


def draw(
    folder: Path, values: list[dict[str, Any]], found: list[Curve], env: str, target: float | None
) -> dict[str, str]:
    """Draw what there is to see. Returns name of a picture -> what it shows."""
    scores = scored(found)
    final = [x[:, -1] for x in scores]
    order = np.argsort([-float(statistics.iqm(x)) for x in final], kind="stable")
    shown = order if len(order) <= SHOWN else [*order[: SHOWN - 1], order[-1]]
    unit = "undiscounted return per episode"
    labels = {int(i): label(values[i]) for i in shown}
    best = max(float(x.max()) for x in scores)
    pictures = {}

    def save(name: str, caption: str, function: Any, *arguments: Any, **options: Any) -> None:
        figure = function(*arguments, **options, title=env)
        for suffix in (".png", ".pdf"):
            plotting.finish(figure, folder / (name + suffix))
        pictures[name] = caption

    few = (
        "" if len(shown) == len(order) else f" of the best {SHOWN - 1} and the worst configuration"
    )
    save(
        "learning_curves",
        f"Evaluations during training{few}.",
        plotting.learning_curve,
        {labels[i]: (found[i].steps, scores[i]) for i in labels},
        x_label="environment steps per seed",
        y_label=unit,
    )
    save(
        "profiles",
        f"Performance profiles of the final policies{few}.",
        comparison_plots.performance_profiles,
        {labels[i]: final[i] for i in labels},
        x_label=f"threshold: {unit}",
    )
    save(
        "aggregates",
        f"Statistics of the final policies{few}.",
        comparison_plots.aggregate_bars,
        {labels[i]: final[i] for i in labels},
        target=best if target is None else target,
        score_label="return",
    )
    if len({len(x) for x in final}) > 1 or len({frozenset(row) for row in values}) > 1:
        return pictures  # no sweep: runs of different kinds
    table = {name: [row[name] for row in values] for name in values[0]}
    varied = {name: x for name, x in table.items() if len(set(map(str, x))) > 1}
    numbers = {n: x for n, x in varied.items() if all(isinstance(v, int | float) for v in x)}
    diverged = [int(curve.diverged[:, -1].sum()) for curve in found]
    for name, x in numbers.items():
        save(
            f"sensitivity_{name}",
            f"Final return over {name}.",
            sweep_plots.sensitivity,
            x,
            final,
            x_label=name.replace("_", " "),
            y_label=unit,
            diverged=diverged,
            joined=len(varied) == 1 or 2 * len(set(x)) <= len(x),
        )
    if len(varied) == 2:
        (x_name, x), (y_name, y) = ((n, shortened(v)) for n, v in varied.items())
        save(
            "heat_map",
            f"Final return over {x_name} and {y_name}.",
            sweep_plots.heat_map,
            y,
            x,
            final,
            x_label=x_name.replace("_", " "),
            y_label=y_name.replace("_", " "),
            score_label=unit,
        )
    if len(varied) >= 2:
        save(
            "parallel_axes",
            "Every configuration and its final return.",
            sweep_plots.parallel_axes,
            {name.replace("_", " "): shortened(x) for name, x in varied.items()},
            final,
            score_label=unit,
        )
    return pictures


def shortened(values: list[Any]) -> list[Any]:
    return [x if isinstance(x, int | float) else short(x) for x in values]


def render(
    title: str,
    rows: list[dict[str, Any]],
    pictures: dict[str, str],
    folder: Path,
    every: list[Results],
) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    head = [*names, "seeds", "diverged", "IQM", "95% interval", "mean", "min", "max"]
    cells = []
    for row in rows:
        interval = row["return_iqm_95"]
        cells.append(
            [
                *(short(row["values"].get(name, "")) for name in names),
                str(row["seeds"]),
                str(row["seeds_diverged"]),
                f"{row['return_iqm']:.2f}",
                f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "none",
                *(f"{row[f'return_{of}']:.2f}" for of in ("mean", "min", "max")),
            ]
        )
    figures = []
    for name, caption in pictures.items():
        data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        image = f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
        figures.append(f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>")
    configs = [html.escape(json.dumps(results.config, indent=1)) for results in every]
    return PAGE.format(
        title=html.escape(title),
        figures="\n".join(figures),
        head=_row(head, "th"),
        rows="\n".join(_row(row, "td") for row in cells),
        configs="\n".join(
            f"<details><summary>Configuration</summary><pre>{x}</pre></details>" for x in configs
        ),
    )


def _row(cells: list[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; font-size: 0.9em; }}
th, td {{ padding: 0.2em 0.8em; text-align: right; border-bottom: 1px solid #ddd; }}
figure {{ margin: 1.5em 0; }} img {{ max-width: 100%; }} pre {{ overflow-x: auto; }}
</style></head><body>
<h1>{title}</h1>
<p>Returns are undiscounted means over the evaluation episodes of each seed's final policy. IQM is the
interquartile mean over seeds; intervals are percentiles of the stratified bootstrap. A run has diverged
when a metric is not finite or its value loss is out of all proportion to its returns; it counts as the
worst return of all and is never left out.</p>
{figures}
<table><thead>{head}</thead><tbody>
{rows}
</tbody></table>
{configs}
</body></html>
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
