"""Sweep hyperparameters of an algorithm as a TOML file describes it, many runs in one program.

    python experiments/sweep.py experiments/sweeps/ppo_learning_rate.toml --seeds 8

writes results/ppo_learning_rate/: the whole configuration, a table of results that grows chunk by chunk
(see parts.py; plan.py has the format of the file) and a summary. Options after the file override its
[options]. An interrupted or killed sweep goes on with --resume, where the chunk that it was in begins;
report.py makes pictures of the folder. With --keep, policies stay in folders as train.py writes them, below
configurations/.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import purejaxpg as pg
from experiments.common import kept, runtime
from experiments.common.command_line import run_program
from experiments.common.kept import Keep
from experiments.common.parts import is_whole, part_path, read_columns, write_part
from experiments.common.plan import Group, Plan, read_plan
from experiments.common.processes import ProcessOptions, agree, first_does, is_first, join
from experiments.common.ranking import COLUMNS, curves, rank, table_text
from experiments.common.results import claim, folder_of, hold, read_config, write_json
from experiments.common.runs import Run, run_from_config
from purejaxpg.training.sweep import chunk, distribute, fitting_chunk_size, zipped_rows
from purejaxpg.training.train import begin_training, evaluation_key

MOST_RUNS = 10_000_000
CHUNKS = 16
"""Chunks of a group on a CPU, about: there, more runs at once are no faster."""


@dataclass(frozen=True)
class SweepOptions(ProcessOptions):
    name: str | None = None
    """Folder of the results; that of the TOML file if not given."""
    output: Path = Path("results")
    """Where the folders of results are."""
    resume: bool = False
    """Go on with the folder, with the file and options it was started with; begin where there is none."""
    overwrite: bool = False
    """Empty the folder first."""
    chunk_size: int | None = None
    """Runs at once; by default as many as fit into memory, and on a CPU a sixteenth of them."""
    keep: Keep = "none"
    """Keep the last states of all configurations, or of the best, as train.py does those of a run."""


def main(arguments: list[str]) -> int:
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    return run_program(prepare, sweep, arguments)


def prepare(arguments: list[str]) -> tuple[Plan, list[Callable], list[int], Path, Keep]:
    """The plan in a file, programs and chunk sizes of its groups, the folder of the results, what is kept."""
    if not arguments:
        raise ValueError("The first argument must be the TOML file of a sweep.")
    file = Path(arguments[0])
    join(arguments)
    plan, options = read_plan(file, SweepOptions(), arguments[1:])
    folder = folder_of(options.output, options.name or file.stem)
    rows = sum(len(group.configurations) * group.run.options.seeds for group in plan.groups)
    if rows > MOST_RUNS:
        raise ValueError(f"{rows:,} runs are more than one table can hold, {MOST_RUNS:,} at most.")
    programs = [program(group.run, options.keep != "none") for group in plan.groups]
    return plan, programs, begin(plan, programs, options, folder), folder, options.keep


def sweep(
    plan: Plan, programs: list[Callable], chunk_sizes: list[int], folder: Path, keep: Keep
) -> int:
    """Compute, and say what was found. Returns the exit code."""
    try:
        run_sweep(plan, programs, chunk_sizes, folder, keep)
        summary = summarize(plan, folder) if is_first() else []
        if keep != "none":
            keep_policies(plan, chunk_sizes, folder, keep, summary)
    except KeyboardInterrupt:
        print("Interrupted; --resume goes on with the chunk that it was in.", file=sys.stderr)
        return 130
    except OSError as error:
        raise OSError(f"{error} What was computed stays: --resume goes on from there.") from error
    if not is_first():
        return 0
    print(table_text(summary))
    if len(summary) > 1:
        print(*kept.advice(folder, plan.config(), summary[0]["configuration"]), sep="\n")
    print(f"written to {folder}; report.py {folder} makes pictures of it")
    return 0


def summarize(plan: Plan, folder: Path) -> list[dict[str, Any]]:
    """A row per configuration, the best first; and written."""
    found = curves(read_columns(folder, COLUMNS), plan.groups[0].run.options.seeds)
    summary = rank([*found.values()], plan.configurations)
    write_json(folder / "summary.json", summary)
    return summary


def keep_policies(
    plan: Plan, chunk_sizes: list[int], folder: Path, keep: Keep, summary: list[dict[str, Any]]
) -> None:
    """Make the folders of what is kept, one after the other, and then remove the states they are made of."""
    numbers = [row["configuration"] for row in summary[: 1 if keep == "best" else None]]
    make = kept.keeper(folder, plan, chunk_sizes)
    for number in sorted(agree(numbers)):
        first_does(partial(make, number))
    first_does(partial(kept.remove_states, folder))


def begin(plan: Plan, programs: list[Callable], options: SweepOptions, folder: Path) -> list[int]:
    """Make the folder, or check the one that is gone on with. Returns the groups' chunk sizes."""
    if options.resume and options.overwrite:
        raise ValueError("--resume goes on with a folder and --overwrite empties it: choose one.")
    if options.chunk_size is not None and options.chunk_size < 1:
        raise ValueError(f"--chunk-size must be at least 1, not {options.chunk_size}.")
    stored = None
    if options.resume and (folder / "config.json").is_file():
        stored = read_config(folder, "sweep")
        if up_to_date(stored["config"]) != plan.config():
            raise ValueError(
                f"{folder} was started with another file or other options; choose another --name."
            )
        if options.chunk_size not in (None, *stored["chunk_sizes"]):
            sizes = stored["chunk_sizes"]
            raise ValueError(f"{folder} was started with chunks of {sizes}, which --resume keeps.")
        if options.keep != (before := stored.get("keep", "none")):
            raise ValueError(
                f"{folder} was started with --keep {before}, which --resume needs as well, not with "
                f"--keep {options.keep}."
            )
        if stored["versions"] != runtime.describe():
            print("note: earlier chunks are of other versions or devices, see config.json")

    def claim_folder():
        if stored is None:
            claim(folder, overwrite=options.overwrite, kind="sweep")
        else:
            hold(folder)

    agree(None)  # all have read what there is before the first one writes
    first_does(claim_folder)
    if options.keep != "none" and is_first():
        print(kept.announcement(plan, options.keep), flush=True)
    if stored is not None:
        return stored["chunk_sizes"]
    sizes = [options.chunk_size or choose_chunk_size(*both) for both in zip(plan.groups, programs)]
    content = {"kind": "sweep", "config": plan.config(), "chunk_sizes": sizes}
    content |= {"keep": options.keep, "versions": runtime.describe()}
    first_does(lambda: write_json(folder / "config.json", content))
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


def run_sweep(
    plan: Plan, programs: list[Callable], chunk_sizes: list[int], folder: Path, keep: Keep
) -> None:
    """Compute and write every chunk that is not there yet."""
    work = [len(group.configurations) * group.run.options.seeds for group in plan.groups]
    steps = [group.run.num_updates * group.run.options.steps_per_update for group in plan.groups]
    total = sum(runs * each for runs, each in zip(work, steps))
    style: dict[str, Any] = {"unit": "step", "unit_scale": True, "dynamic_ncols": True}
    with tqdm(total=total, disable=not is_first(), **style) as progress:
        progress.set_description(f"{plan.algorithm}, {sum(work)} runs")
        progress.set_postfix_str("compiles, and computes the first chunk of runs")
        for number, (group, size) in enumerate(zip(plan.groups, chunk_sizes)):
            rows, _ = zipped_rows(group.run.keys(), group.table)
            call = distribute(programs[number])
            for start in range(0, work[number], size):
                path = part_path(folder, number, start)
                states = kept.states_path(folder, number, start)
                index = np.arange(start, min(start + size, work[number]))
                if agree(
                    is_first()
                    and is_whole(path, len(index))
                    and kept.has_states(folder, keep, group, states, index)
                ):
                    progress.initial += len(index) * steps[number]
                else:
                    began = time.monotonic()
                    results = jax.device_get(call(*chunk(rows, start, size)))
                    seconds = time.monotonic() - began
                    first_does(partial(write_results, path, states, group, index, results, seconds))
                progress.set_postfix_str(f"{path.stem} done", refresh=False)
                progress.update(len(index) * steps[number])


@lru_cache(maxsize=16)  # a sweep that goes on in the same process compiles nothing again
def program(run: Run, keep: bool = False) -> Callable[..., Any]:
    """`(key, hyperparameters) -> (metrics, returns)`, `[updates + 1]` each, of one run; its last state if kept.

    Returns are those of the policy after so many updates, 0 at first, and NaN where it is not evaluated; the
    last of the metrics are of no update.
    """
    updates = run.num_updates
    evaluated = np.zeros(updates + 1, bool)
    evaluated[evaluation_times(run)] = True

    def whole_run(key, hyperparameters):
        algorithm = run.algorithm_with(hyperparameters)

        def test(state):
            return pg.evaluate(
                evaluation_key(key, state.update), algorithm, state, run.env, run.env_params,
                num_episodes=run.options.eval_episodes, deterministic=run.options.deterministic,
                max_steps=run.options.eval_max_steps,
            ).returns.mean()  # fmt: skip

        def train_one(state):
            return pg.train(key, algorithm, run.env_params, num_updates=1, state=state)

        state = begin_training(key, algorithm, run.env_params)
        no_metrics = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(train_one, state)[1]
        )

        # The predicates are of no run, so that nothing is computed in vain; one program holds it all once.
        def step(state, now):
            update, evaluated = now
            returns = jax.lax.cond(evaluated, test, lambda state: jnp.float32(jnp.nan), state)
            state, metrics = jax.lax.cond(
                update < updates, train_one, lambda state: (state, no_metrics), state
            )
            return state, (jax.tree.map(lambda x: x[0], metrics), returns)

        state, both = jax.lax.scan(step, state, (jnp.arange(updates + 1), evaluated))
        return (*both, state) if keep else both

    return whole_run


def evaluation_times(run: Run) -> np.ndarray:
    """Numbers of updates after which policies are evaluated: 0, and as many as the options say."""
    number = min(run.options.evaluations, run.num_updates)
    return np.ceil(np.arange(number + 1) * run.num_updates / number).astype(int)


def write_results(
    path: Path, states: Path, group: Group, index: np.ndarray, results: Any, seconds: float
) -> None:
    """Write the part of a chunk; its states before, where there are any, so that no part lacks them."""
    metrics, returns, *state = jax.tree.map(lambda x: x[: len(index)], results)
    if state:
        kept.write_states(states, state[0], seconds)
    metrics = {name: x[:, :-1] for name, x in metrics.items()}
    options, values = group.run.options, dict(enumerate(group.configurations, group.first))
    which = group.first + index // options.seeds, options.seed + index % options.seeds
    write_part(path, values, *which, metrics, returns, evaluation_times(group.run))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
