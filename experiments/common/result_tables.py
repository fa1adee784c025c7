"""Tables of the committed results, in Markdown: what summarize.py puts into the pages.

Every figure is read from a JSON file in the folder of results; `commands.json` there says what made each.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from purejaxpg.reporting.statistics import bootstrap_interval, iqm

HEADLINES = (
    "ppo-CartPole-v1",
    "ppo-Acrobot-v1",
    "ppo-MountainCar-v0",
    "ppo-Breakout-MinAtar",
    "trpo-Pendulum-v1",
    "reinforce-CartPole-v1",
    "actor_critic-Pendulum-v1",
    "online_actor_critic-CartPole-v1",
)
"""The rows of the first page: a small task, a large one and a hard one, and every algorithm."""
RUN_HEAD = ("run", "seeds", "steps per seed", "IQM", "95% interval", "worst, best seed", "time")
PARTS_OF_PPO = "benchmark-CartPole-64x128.json"
TRPO_OPTIONS = ("fisher_subsample", "num_value_epochs")
"""What the two benchmarks of TRPO differ in."""
WIDTH = 100
"""Characters after which a command is broken by a backslash."""


class Run(NamedTuple):
    """A folder that train.py wrote."""

    name: str
    options: dict[str, Any]
    versions: dict[str, Any]
    summary: dict[str, Any]

    @property
    def digits(self) -> int:
        """After the point: tenths of returns that go beyond 10, hundredths of small ones."""
        return 1 if max(map(abs, self.summary["return_per_seed"])) >= 10 else 2


def read(path: Path) -> Any:
    """Raises FileNotFoundError or ValueError, one sentence that names the file."""
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}.") from None


def read_commands(folder: Path) -> dict[str, str]:
    """File or folder of the results -> the command that made it.

    Raises:
      ValueError: a command is there for something that is not.
    """
    commands: dict[str, str] = read(folder / "commands.json")
    if missing := [name for name in commands if not (folder / name).exists()]:
        raise ValueError(f"{folder / 'commands.json'} names {', '.join(missing)}: not there.")
    return commands


def read_runs(folder: Path) -> list[Run]:
    """The runs of train.py, in the order of their commands; those without a command come last."""
    order = {name: place for place, name in enumerate(read_commands(folder))}
    runs = []
    for path in sorted(folder.glob("*/config.json")):
        content = read(path)
        if "groups" not in content["config"]:  # which a sweep has
            summary = read(path.with_name("summary.json"))
            runs.append(Run(path.parent.name, content["config"], content["versions"], summary))
    return sorted(runs, key=lambda run: order.get(run.name, len(order)))


def headlines(folder: Path) -> str:
    """The result rows of the first page."""
    runs = {run.name: run for run in read_runs(folder)}
    return table(RUN_HEAD, (_run_row(runs[name], "experiments/results/") for name in HEADLINES))


def run_tables(folder: Path) -> dict[str, str]:
    """Blocks `runs` and `adapters`: what train.py made in environments of gymnax, and in others."""
    plain = [run for run in read_runs(folder) if ":" not in run.options["env"]]
    others = [run for run in read_runs(folder) if ":" in run.options["env"]]
    head = (*RUN_HEAD, "first seed", "jax")
    commands = read_commands(folder)

    def rows(runs: list[Run]) -> Iterable[list[str]]:
        return ([*_run_row(x), str(x.options["seed"]), x.versions["jax"]] for x in runs)

    untrained = [number(x.summary["return_iqm_untrained"], x.digits) for x in others]
    return {
        "runs": table(head, rows(plain)) + listed(commands, [x.name for x in plain]),
        "adapters": table(
            (*head, "IQM untrained"), ([*row, x] for row, x in zip(rows(others), untrained))
        )
        + listed(commands, [x.name for x in others]),
    }


def mode_table(folder: Path) -> str:
    """The modes of policies, from the mode.json that evaluate.py wrote beside a run."""
    head = ("run", "episodes per seed", "IQM, samples", "IQM, mode", "95% interval")
    rows, files = [], []
    for run in read_runs(folder):
        if (path := folder / run.name / "mode.json").exists():
            mode = read(path)
            scores = mode["return_per_seed"]
            row = [_link(run.name), f"{mode['episodes_per_seed']:,}"]
            row += [number(x["return_iqm"], run.digits) for x in (run.summary, mode)]
            row += [between(mode["return_iqm_95"], run.digits)]
            rows.append([*row, pair(min(scores), max(scores), run.digits)])
            files.append(f"{run.name}/mode.json")
    return table((*head, "worst, best seed"), rows) + listed(read_commands(folder), files)


def sweep_table(folder: Path) -> str:
    """One hyperparameter and what came of it, from the summary of each sweep."""
    shown, commands = [], read_commands(folder)
    for path in sorted(folder.glob("*/config.json")):
        config = read(path)["config"]
        if "groups" not in config:
            continue
        rows = read(path.with_name("summary.json"))
        names = list(dict.fromkeys(name for row in rows for name in row["values"]))
        head = (*(f"`{name}`" for name in names), "seeds", "diverged", "IQM", "95% interval")
        body = [
            [
                *(short(row["values"][name]) for name in names),
                str(row["seeds"]),
                str(row["seeds_diverged"]),
                number(row["return_iqm"], 1),
                between(row["return_iqm_95"], 1) if row["return_iqm_95"] else "none",
                pair(row["return_min"], row["return_max"], 1),
            ]
            for row in sorted(rows, key=lambda row: row["configuration"])
        ]
        name = path.parent.name
        made = [x for x in commands if x.partition("/")[0] == name]
        shown.append(table((*head, "worst, best seed"), body) + listed(commands, made))
    return "\n\n".join(shown)


def comparison_tables(folder: Path) -> dict[str, str]:
    """Blocks `sb3` and `sb3-speed`: TRPO here and in sb3-contrib."""
    file, fast = "trpo-against-sb3-contrib.json", "trpo-against-sb3-contrib-speed.json"
    rows = []
    for env, sides in read(folder / file).items():
        for side, found in sides.items():
            row = [f"{env}, {side}", str(len(found["sampled"]))]
            for policy in ("sampled", "mode"):
                scores = found[policy]
                interval = bootstrap_interval(iqm, scores)
                row += [f"{number(iqm(scores), 1)} ({between((interval.low, interval.high), 1)})"]
                row += [pair(min(scores), max(scores), 1)]
            rows.append(row)
    head = ("", "seeds", "IQM, sampled", "worst, best", "IQM, mode", "worst, best")
    speeds = []
    for env, sides in read(folder / fast).items():
        ours, theirs = (x["steps_per_second"]["1 at once"] for x in sides.values())
        speeds.append([env, f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.0f}"])
    commands = read_commands(folder)
    return {
        "sb3": table(head, rows) + listed(commands, [file]),
        "sb3-speed": table(("steps/s, one run", *sides, "times as fast"), speeds)
        + listed(commands, [fast]),
    }


def parts_table(folder: Path) -> str:
    """How long the parts of a training run take."""
    figures = read(folder / PARTS_OF_PPO)["figures"]
    head = ("part", "median ms", "fastest", "slowest", "steps/s")
    return table(
        head,
        (
            [
                part,
                *(number(1e3 * x[f"{of}_seconds"], 1) for of in ("median", "min", "max")),
                f"{x['steps_per_second']:,.0f}",
            ]
            for part, x in figures.items()
        ),
    )


def benchmark_tables(folder: Path) -> dict[str, str]:
    """Blocks `parts`, `trpo-speed` and `sharded`, from the files that benchmark.py wrote."""
    commands = read_commands(folder)
    of_ppo = read(folder / PARTS_OF_PPO)["figures"]
    trpo, files = [], ["benchmark-trpo-tenth.json", "benchmark-trpo-all.json"]
    for name in files:
        content = read(folder / name)
        row = [f"`--{x.replace('_', '-')} {content['config'][x]}`" for x in TRPO_OPTIONS]
        for part in ("update", "training"):
            ours, ppo = (x[part]["median_seconds"] for x in (content["figures"], of_ppo))
            row += [number(1e3 * ours, 1), number(ours / ppo, 2)]
        trpo.append(row)
    measured = ("update, median ms", "times PPO's", "training, median ms", "times PPO's")
    head = ("Fisher products of", "regression of V", *measured)
    return {
        "parts": parts_table(folder) + listed(commands, [PARTS_OF_PPO]),
        "trpo-speed": table(head, trpo) + listed(commands, files),
        "sharded": sharded_table(folder),
    }


def sharded_table(folder: Path) -> str:
    """Seeds over two devices, as `sweep` does it, against plain vmap on one, for each version of JAX."""
    commands = read_commands(folder)
    rows: list[list[str]] = []
    made: list[str] = []
    for old in (x for x in commands if x.startswith("benchmark-sweep-") and "jax-0.10" in x):
        files = old, old.replace("jax-0.10", "jax-0.11")
        options = commands[old].partition("benchmark.py ")[2].partition(" --seeds")[0]
        row = [f"`{options}`"]
        for file in files:
            figures = read(folder / file)["figures"]
            sharded, plain = (figures[x]["median_seconds"] for x in ("sharded", "plain vmap"))
            row += [f"{1e3 * sharded:,.0f}", f"{1e3 * plain:,.0f}", number(plain / sharded, 2)]
        rows.append(row)
        made += files
    versions = [read(folder / file)["versions"]["jax"] for file in made[:2]]
    what = ("sharded, ms", "plain vmap, ms", "times as fast")
    head = ("options", *(f"jax {version}: {x}" for version in versions for x in what))
    return table(head, rows) + listed(commands, made)


def _run_row(run: Run, folder: str = "") -> list[str]:
    summary = run.summary
    interval = summary.get("return_iqm_95")
    return [
        f"[{run.name}]({folder}{run.name})",
        str(summary["seeds"]),
        f"{summary['env_steps_per_seed']:,}",
        number(summary["return_iqm"], run.digits),
        between(interval, run.digits) if interval else "none",
        pair(summary["return_min"], summary["return_max"], run.digits),
        f"{summary['train_seconds']:.0f} s",
    ]


def _link(name: str) -> str:
    return f"[{name}]({name})"


def number(x: Any, digits: int) -> str:
    """So many digits after the point, and no minus before a zero."""
    return f"{round(float(x), digits) + 0.0:.{digits}f}"


def short(x: float) -> str:
    """Four digits at most, which hide that a hyperparameter was rounded to 32 bits."""
    return f"{float(f'{x:.4g}'):g}"


def between(interval: Any, digits: int) -> str:
    return f"{number(interval[0], digits)} to {number(interval[1], digits)}"


def pair(low: float, high: float, digits: int) -> str:
    return f"{number(low, digits)}, {number(high, digits)}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(commands: dict[str, str], names: Iterable[str]) -> str:
    """The commands that are known of these files or folders, as a block of code below a table."""
    found = [broken(commands[name]) for name in names if name in commands]
    return "\n\n```bash\n" + "\n".join(found) + "\n```" if found else ""


def broken(command: str) -> str:
    """A command over several lines where it is long, broken before options; one after && stands below."""
    if "&&" in command:
        return "\n".join(broken(part.strip()) for part in command.split("&&"))
    lines = [""]
    for word in command.replace(" --", "\n--").split("\n"):
        if lines[-1] and len(lines[-1]) + len(word) + 3 > WIDTH:
            lines.append("  " + word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return " \\\n".join(lines)
