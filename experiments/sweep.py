"""Sweep hyperparameters of an algorithm as a TOML file describes it, many runs in one program.

    python experiments/sweep.py experiments/sweeps/ppo_learning_rate.toml --seeds 8

writes results/ppo_learning_rate/: the whole configuration, a table of results that grows chunk by chunk
(see parts.py; plan.py has the format of the file) and a summary. Options after the file override its
[options]. An interrupted or killed sweep goes on with --resume, where the chunk that it was in begins;
report.py makes pictures of the folder.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import purejaxpg as pg
from experiments.common import runtime
from experiments.common.command_line import run_program
from experiments.common.parts import part_path, read_columns, write_part
from experiments.common.plan import Group, Plan, read_plan
from experiments.common.ranking import COLUMNS, curves, rank, table_text
from experiments.common.results import claim, read_config, write_json
from experiments.common.runs import Run, run_from_config
from purejaxpg.training.sweep import chunk, distribute, fitting_chunk_size, zipped_rows

CHUNKS = 16
"""Chunks of a group on a CPU, about: there, more runs at once are no faster."""


@dataclass(frozen=True)
class SweepOptions:
    name: str | None = None
    """Folder of the results; that of the TOML file if not given."""
    output: Path = Path("results")
    """Where the folders of results are."""
    resume: bool = False
    """Go on with the folder, with the file and options it was started with."""
    overwrite: bool = False
    """Empty the folder first."""
    chunk_size: int | None = None
    """Runs at once; by default as many as fit into memory, and on a CPU a sixteenth of them."""


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    return run_program(prepare, sweep, arguments)


def prepare(arguments: list[str]) -> tuple[Plan, list[Callable], list[int], Path]:
    """The plan in a file, the programs and chunk sizes of its groups, and the folder of the results."""
    file = Path(arguments[0])
    plan, options = read_plan(file, SweepOptions(), arguments[1:])
    folder = options.output / (options.name or file.stem)
    programs = [program(group.run) for group in plan.groups]
    return plan, programs, begin(plan, programs, options, folder), folder


def sweep(plan: Plan, programs: list[Callable], chunk_sizes: list[int], folder: Path) -> int:
    """Compute, and say what was found. Returns the exit code."""
    try:
        run_sweep(plan, programs, chunk_sizes, folder)
    except KeyboardInterrupt:
        print("Interrupted; --resume goes on with the chunk that it was in.", file=sys.stderr)
        return 130
    found = curves(read_columns(folder, COLUMNS), plan.groups[0].run.options.seeds)
    summary = rank([*found.values()], plan.configurations)
    write_json(folder / "summary.json", summary)
    print(table_text(summary))
    print(f"written to {folder}; report.py {folder} makes pictures of it")
    return 0


def begin(plan: Plan, programs: list[Callable], options: SweepOptions, folder: Path) -> list[int]:
    """Make the folder, or check the one that is gone on with. Returns the groups' chunk sizes."""
    if options.resume and options.overwrite:
        raise ValueError("--resume goes on with a folder and --overwrite empties it: choose one.")
    if options.chunk_size is not None and options.chunk_size < 1:
        raise ValueError(f"--chunk-size must be at least 1, not {options.chunk_size}.")
    if options.resume:
        stored = read_config(folder)
        if up_to_date(stored["config"]) != plan.config():
            raise ValueError(
                f"{folder} was started with another file or other options; choose another --name."
            )
        sizes = stored["chunk_sizes"]
        if options.chunk_size not in (None, *sizes):
            raise ValueError(f"{folder} was started with chunks of {sizes}, which --resume keeps.")
        if stored["versions"] != runtime.describe():
            print("note: earlier chunks are of other versions or devices, see config.json")
        return sizes
    claim(folder, overwrite=options.overwrite, kind="sweep")
    sizes = [options.chunk_size or choose_chunk_size(*both) for both in zip(plan.groups, programs)]
    content = {"kind": "sweep", "config": plan.config(), "chunk_sizes": sizes}
    write_json(folder / "config.json", content | {"versions": runtime.describe()})
    return sizes


def up_to_date(config: dict[str, Any]) -> dict[str, Any]:
    """A stored plan with options named as they are now."""
    groups = config["groups"]
    now = [{**x, "options": run_from_config(x["options"]).config()} for x in groups]
    return {**config, "groups": now}


def choose_chunk_size(group: Group, program: Callable) -> int:
    rows, _ = zipped_rows(group.run.keys(), group.table)
    number, devices = len(rows[0]), len(jax.devices())
    if jax.default_backend() == "cpu":
        number = min(number, devices * -(-number // (CHUNKS * devices)))
    return fitting_chunk_size(program, *chunk(rows, 0, number))


def run_sweep(plan: Plan, programs: list[Callable], chunk_sizes: list[int], folder: Path) -> None:
    """Compute and write every chunk that is not there yet."""
    work = [len(group.configurations) * group.run.options.seeds for group in plan.groups]
    steps = [group.run.num_updates * group.run.options.steps_per_update for group in plan.groups]
    total = sum(runs * each for runs, each in zip(work, steps))
    with tqdm(total=total, unit="step", unit_scale=True, dynamic_ncols=True) as progress:
        progress.set_description(f"{plan.algorithm}, {sum(work)} runs")
        for number, (group, size) in enumerate(zip(plan.groups, chunk_sizes)):
            rows, _ = zipped_rows(group.run.keys(), group.table)
            call = distribute(programs[number])
            for start in range(0, work[number], size):
                path = part_path(folder, number, start)
                index = np.arange(start, min(start + size, work[number]))
                if path.exists():  # whole, since it was moved there
                    progress.initial += len(index) * steps[number]
                else:
                    results = jax.device_get(call(*chunk(rows, start, size)))
                    write_results(path, group, index, results)
                progress.update(len(index) * steps[number])


def program(run: Run) -> Callable[..., Any]:
    """`(key, hyperparameters) -> (metrics [updates], returns [evaluations])` of one run."""

    def whole_run(key, hyperparameters):
        algorithm = run.algorithm_with(hyperparameters)

        def test(key, state):
            return pg.evaluate(
                key, algorithm, state, run.env, run.env_params,
                num_episodes=run.options.eval_episodes, deterministic=run.options.deterministic,
            ).returns.mean()  # fmt: skip

        every = run.num_updates // evaluations(run)
        sizes = {"num_updates": run.num_updates, "evaluate_every": every}
        return pg.train_and_evaluate(key, algorithm, run.env_params, evaluate_fn=test, **sizes)[1]

    return whole_run


def evaluations(run: Run) -> int:
    """The number of evaluations that divides the updates, at most what the options say."""
    return max(n for n in range(1, run.options.evaluations + 1) if run.num_updates % n == 0)


def write_results(path: Path, group: Group, index: np.ndarray, results: Any) -> None:
    metrics, returns = jax.tree.map(lambda x: x[: len(index)], results)
    options, values = group.run.options, dict(enumerate(group.configurations, group.first))
    which = group.first + index // options.seeds, options.seed + index % options.seeds
    write_part(path, values, *which, metrics, returns)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
