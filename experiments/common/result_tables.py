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
SCORES_HEAD = ("IQM", "95% interval", "worst, best seed")
RUN_HEAD = ("run", "seeds", "steps per seed", *SCORES_HEAD, "time")
PARTS_OF_PPO = "benchmark-CartPole-64x128.json"
TRPO_OPTIONS = ("fisher_subsample", "num_value_epochs")
"""What the two benchmarks of TRPO differ in."""
WIDTH = 100
"""Characters after which a command is broken by a backslash."""


class Results(NamedTuple):
    """A folder that train.py or sweep.py wrote: its name, what config.json says, and summary.json."""

    name: str
    stored: dict[str, Any]
    summary: Any

    @property
    def digits(self) -> int:
        """After the point: tenths of returns that go beyond 10, hundredths of small ones."""
        return 1 if max(map(abs, self.summary["return_per_seed"])) >= 10 else 2

    def row(self, folder: str = "") -> list[Any]:
        """Of a run, what `RUN_HEAD` says, with a link to it in this folder."""
        x, link = self.summary, f"[{self.name}]({folder}{self.name})"
        sizes = x["seeds"], f"{x['env_steps_per_seed']:,}"
        return [link, *sizes, *scores(x, self.digits), f"{x['train_seconds']:.0f} s"]


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


def read_results(folder: Path, *, sweeps: bool = False) -> list[Results]:
    """The runs, or sweeps, in the order of their commands; those without a command come last."""
    order = {name: place for place, name in enumerate(read_commands(folder))}
    found = []
    for path in sorted(folder.glob("*/config.json")):
        stored = read(path)
        if ("groups" in stored["config"]) == sweeps:
            summary = read(path.with_name("summary.json"))
            found.append(Results(path.parent.name, stored, summary))
    return sorted(found, key=lambda x: order.get(x.name, len(order)))


def headlines(folder: Path) -> str:
    """The result rows of the first page."""
    runs = {run.name: run for run in read_results(folder)}
    return table(RUN_HEAD, [runs[name].row("experiments/results/") for name in HEADLINES])


def run_tables(folder: Path) -> dict[str, str]:
    """Blocks `runs` and `adapters`: what train.py made in environments of gymnax, and in others."""
    head = [*RUN_HEAD, "first seed", "jax"]
    blocks = {}
    for name, adapted in (("runs", False), ("adapters", True)):
        runs = [x for x in read_results(folder) if (":" in x.stored["config"]["env"]) == adapted]
        rows = [[*x.row(), x.stored["config"]["seed"], x.stored["versions"]["jax"]] for x in runs]
        if adapted:
            head.append("IQM untrained")
            for row, x in zip(rows, runs):
                row.append(number(x.summary["return_iqm_untrained"], x.digits))
        blocks[name] = block(folder, head, rows, [x.name for x in runs])
    return blocks


def mode_table(folder: Path) -> str:
    """The modes of policies, from the mode.json that evaluate.py wrote beside a run."""
    rows, files = [], []
    for run in read_results(folder):
        if (path := folder / run.name / "mode.json").exists():
            mode = read(path)
            per_seed = mode["return_per_seed"]
            mode |= {"return_min": min(per_seed), "return_max": max(per_seed)}
            first = [f"[{run.name}]({run.name})", f"{mode['episodes_per_seed']:,}"]
            sampled = number(run.summary["return_iqm"], run.digits)
            rows.append([*first, sampled, *scores(mode, run.digits)])
            files.append(f"{run.name}/mode.json")
    head = ("run", "episodes per seed", "IQM, samples", "IQM, mode", *SCORES_HEAD[1:])
    return block(folder, head, rows, files)


def sweep_table(folder: Path) -> str:
    """One hyperparameter and what came of it, from the summary of each sweep."""
    shown = []
    for sweep in read_results(folder, sweeps=True):
        names = list(dict.fromkeys(name for row in sweep.summary for name in row["values"]))
        rows = []
        for row in sorted(sweep.summary, key=lambda row: row["configuration"]):
            values = [short(row["values"][name]) for name in names]
            rows.append([*values, row["seeds"], row["seeds_diverged"], *scores(row, 1)])
        head = [*(f"`{name}`" for name in names), "seeds", "diverged", *SCORES_HEAD]
        files = [x for x in read_commands(folder) if x.partition("/")[0] == sweep.name]
        shown.append(block(folder, head, rows, files))
    return "\n\n".join(shown)


def comparison_tables(folder: Path) -> dict[str, str]:
    """Blocks `sb3` and `sb3-speed`: TRPO here and in sb3-contrib."""
    file, fast = "trpo-against-sb3-contrib.json", "trpo-against-sb3-contrib-speed.json"
    rows, speeds = [], []
    for env, sides in read(folder / file).items():
        for side, found in sides.items():
            row = [f"{env}, {side}", len(found["sampled"])]
            for returns in (found["sampled"], found["mode"]):
                estimate, *ends = bootstrap_interval(iqm, returns)
                row.append(f"{number(estimate, 1)} ({numbers(ends, 1, ' to ')})")
                row.append(numbers((min(returns), max(returns)), 1))
            rows.append(row)
    head = ("", "seeds", "IQM, sampled", "worst, best", "IQM, mode", "worst, best")
    for env, sides in read(folder / fast).items():
        ours, theirs = (x["steps_per_second"]["1 at once"] for x in sides.values())
        speeds.append([env, f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.0f}"])
    speed_head = ("steps/s, one run", *sides, "times as fast")
    return {
        "sb3": block(folder, head, rows, [file]),
        "sb3-speed": block(folder, speed_head, speeds, [fast]),
    }


def parts_table(folder: Path) -> str:
    """How long the parts of a training run take."""
    rows = []
    for part, x in read(folder / PARTS_OF_PPO)["figures"].items():
        times = [number(1e3 * x[f"{of}_seconds"], 1) for of in ("median", "min", "max")]
        rows.append([part, *times, f"{x['steps_per_second']:,.0f}"])
    return table(("part", "median ms", "fastest", "slowest", "steps/s"), rows)


def benchmark_tables(folder: Path) -> dict[str, str]:
    """Blocks `parts`, `trpo-speed`, `sharded` and `gpu`, from the files that benchmark.py wrote."""
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
        "parts": parts_table(folder) + listed(folder, [PARTS_OF_PPO]),
        "trpo-speed": block(folder, head, trpo, files),
        "sharded": sharded_table(folder),
        "gpu": gpu_table(folder),
    }


def sharded_table(folder: Path) -> str:
    """Seeds over two devices, as `sweep` does it, against plain vmap on one, for each version of JAX."""
    commands = read_commands(folder)
    rows, made = [], []
    for old in (x for x in commands if x.startswith("benchmark-sweep-") and "jax-0.10" in x):
        options = commands[old].partition("benchmark.py ")[2].partition(" --seeds")[0]
        row = [f"`{options}`"]
        for file in (old, old.replace("jax-0.10", "jax-0.11")):
            figures = read(folder / file)["figures"]
            sharded, plain = (figures[x]["median_seconds"] for x in ("sharded", "plain vmap"))
            row += [f"{1e3 * sharded:,.0f}", f"{1e3 * plain:,.0f}", number(plain / sharded, 2)]
            made.append(file)
        rows.append(row)
    versions = [read(folder / file)["versions"]["jax"] for file in made[:2]]
    what = ("sharded, ms", "plain vmap, ms", "times as fast")
    head = ("options", *(f"jax {version}: {x}" for version in versions for x in what))
    return block(folder, head, rows, made)


def gpu_table(folder: Path) -> str:
    """Agents at once on a GPU."""
    commands, rows = read_commands(folder), []
    files = [name for name in commands if name.startswith("benchmark-h200-")]
    for file in files:
        content = read(folder / file)
        figures, versions = content["figures"], content["versions"]
        options = commands[file].partition("benchmark.py ")[2].partition(" --repeats")[0]
        device = f"{versions['devices'][0].partition(':')[2]}, jax {versions['jax']}"
        update, training = (figures[part] for part in ("update", "training"))
        times = [number(1e3 * x["median_seconds"], 1) for x in (update, training)]
        rows.append([f"`{options}`", device, *times, f"{training['steps_per_second']:,.0f}"])
    head = ("options", "on", "update, median ms", "training, median ms", "steps/s in training")
    return block(folder, head, rows, files)


def scores(summary: dict[str, Any], digits: int) -> list[str]:
    """What `SCORES_HEAD` says."""
    interval = summary.get("return_iqm_95")
    return [
        number(summary["return_iqm"], digits),
        numbers(interval, digits, " to ") if interval else "none",
        numbers((summary["return_min"], summary["return_max"]), digits),
    ]


def number(x: Any, digits: int) -> str:
    """So many digits after the point, and no minus before a zero."""
    return f"{round(float(x), digits) + 0.0:.{digits}f}"


def short(x: float) -> str:
    """Four digits at most, which hide that a hyperparameter was rounded to 32 bits."""
    return f"{float(f'{x:.4g}'):g}"


def numbers(values: Iterable[Any], digits: int, between: str = ", ") -> str:
    return between.join(number(x, digits) for x in values)


def table(head: Iterable[str], rows: Iterable[list]) -> str:
    """A Markdown table."""
    head = list(head)
    return "\n".join(
        f"| {' | '.join(map(str, line))} |" for line in (head, ["---"] * len(head), *rows)
    )


def block(folder: Path, head: Iterable[str], rows: Iterable[list], made: Iterable[str]) -> str:
    """A table, and below it the commands that made these files or folders."""
    return table(head, rows) + listed(folder, made)


def listed(folder: Path, names: Iterable[str]) -> str:
    """The commands that are known of these files or folders, as a block of code below a table."""
    commands = read_commands(folder)
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
