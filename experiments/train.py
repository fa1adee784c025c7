"""Train an algorithm on an environment, many seeds at once.

    python experiments/train.py ppo --env CartPole-v1 --seeds 16

writes results/ppo-CartPole-v1/: the configuration, metrics per update and seed, evaluations, a learning
curve and a checkpoint. `train.py ppo --env ID --help` lists every option with its default there.
"""

import dataclasses
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.common import command_line, runtime, trackers
from experiments.common.defaults import defaults
from experiments.common.hostloop import Outcome, Restored, restore_training, run_training
from experiments.common.options import RunOptions
from experiments.common.plan import real_options
from experiments.common.processes import ProcessOptions, agree, first_does, is_first, join
from experiments.common.ranking import curve_of_run, final_summary, interval_text, scored
from experiments.common.results import (
    claim,
    folder_of,
    has_checkpoint,
    hold,
    read_arrays,
    read_config,
    write_json,
)
from experiments.common.runs import Run, check_memory, make_run, run_from_config
from experiments.common.trackers import Tracker
from purejaxpg.reporting import plotting, statistics


@dataclass(frozen=True)
class FolderOptions(ProcessOptions):
    name: str | None = None
    """Folder of the results; `<algorithm>-<env>`, with a `-` for a `:`, if not given."""
    output: Path = Path("results")
    """Where the folders of results are."""
    resume: bool = False
    """Go on from the checkpoint in the folder, with the options it was started with; begin where there is none.
    A finished run goes on in a new stage with more --total-steps; then other real-valued options may change.
    """
    overwrite: bool = False
    """Empty the folder first."""
    tracker: Literal["none", "tensorboard", "wandb"] = "none"
    """Write metrics for TensorBoard or Weights & Biases (offline) too, one run per seed."""


def main(arguments: list[str]) -> int:
    return command_line.run_program(prepare, train, arguments)


def train(run: Run, folder: Path, restored: Restored | None, tracker: Tracker | None) -> int:
    """Train and report. Returns the exit code."""
    try:
        outcome = run_training(run, folder, restored, tracker)
    except KeyboardInterrupt:  # the second signal: the first stops the run in order
        print("Interrupted; --resume goes on from the newest checkpoint.", file=sys.stderr)
        return 130
    except OSError as error:
        raise OSError(f"{error} What was saved stays: --resume goes on from there.") from error
    if not is_first():
        return 0 if outcome.finished else 130
    if not outcome.finished:
        print(f"Stopped after {outcome.update} of {run.num_updates} updates; go on with --resume.")
        return 130
    report(run, folder, outcome)
    return 0


def prepare(arguments: list[str]) -> tuple[Run, Path, Restored | None, Tracker | None]:
    """The checked run of a command line, its folder, where it is to be gone on with, and its tracker."""
    join(arguments)
    run, options, stored = parse(arguments)
    check_memory(run)
    folder = folder_of(options.output, options.name or default_name(run.name, run.options.env))
    restored, config = None, {"kind": "run", "config": run.config(), "chunks": run.chunks()}
    if stored is not None:
        restored, config = go_on(run, folder, stored)
    agree(None)  # all have read what there is before the first one writes

    def begin():
        if stored is None:
            claim(folder, overwrite=options.overwrite, kind="run")
        else:
            hold(folder)
        if config is not stored:
            write_json(folder / "config.json", config | {"versions": runtime.describe()})

    first_does(begin)
    tracker = make_tracker(options.tracker, run, folder, restored) if is_first() else None
    return run, folder, restored, tracker


def go_on(run: Run, folder: Path, stored: dict[str, Any]) -> tuple[Restored | None, dict[str, Any]]:
    """Where the run that a folder holds is gone on from, in a new stage where options have changed.

    Args:
      stored: what config.json says.

    Returns:
      That, None for the beginning, and what config.json should say.
    """
    old = run_from_config(stored["config"])
    before = old.config()
    changed = [key for key, value in run.config().items() if before.get(key) != value]
    first = stored["stages"][-1]["updates"] if stored.get("stages") else 0
    restored = None
    if has_checkpoint(folder):
        restored = restore_training(old, folder, first)
    elif (folder / "metrics.npz").is_file() and len(read_arrays(folder / "metrics.npz")) > 1:
        raise FileNotFoundError(
            f"{folder} holds metrics but no checkpoint to go on from: choose another --name, or "
            "--overwrite it."
        )
    if not changed:
        return restored, stored
    update = 0 if restored is None else int(np.max(restored.state.update))
    may_change = {*real_options(run.options), "total_steps", "evaluations"}
    if restored is None or update < old.num_updates or set(changed) - may_change:
        raise ValueError(
            f"{folder} was started with other values of {', '.join(changed)}; leave these options away, or "
            "choose another --name: only a finished run goes on with more --total-steps, and then with "
            "other real-valued options too."
        )
    if run.num_updates <= update:
        had = update * run.options.steps_per_update
        raise ValueError(f"--total-steps must be more than the {had:,} that {folder} has had.")
    stages = [*stored.get("stages", []), {"updates": update, "config": stored["config"]}]
    config = {"kind": "run", "config": run.config(), "chunks": run.chunks(update), "stages": stages}
    return restored._replace(first=update), config


def default_name(algorithm: str, env_id: str) -> str:
    return f"{algorithm}-{env_id.replace(':', '-')}"


def make_tracker(name: str, run: Run, folder: Path, restored: Restored | None) -> Tracker | None:
    seeds = range(run.options.seed, run.options.seed + run.options.seeds)
    if name == "tensorboard":
        update = 0 if restored is None else int(np.max(restored.state.update)) + 1
        first = update * run.options.steps_per_update
        path = folder / "tensorboard"
        return trackers.tensorboard(path, seeds, config=run.config(), first_step=first)
    if name == "wandb":
        return trackers.wandb_offline(folder, seeds, config=run.config(), group=folder.name)
    return None


def parse(arguments: list[str]) -> tuple[Run, FolderOptions, dict[str, Any] | None]:
    """The run of a command line, the program's own options, and what config.json says of what is resumed."""
    name = command_line.algorithm_name(arguments, str(__doc__))
    # Defaults depend on the environment, or on the run that is gone on from; so look for these first.
    known = command_line.known_words(
        arguments[1:], env=RunOptions.env, name=None, output=FolderOptions.output, resume=False
    )
    folder = folder_of(Path(known["output"]), known["name"] or default_name(name, known["env"]))

    known_row, stored = defaults(name, known["env"]), None
    if known["resume"] and (folder / "config.json").is_file():
        stored = read_config(folder, "run")
        known_row = run_from_config(stored["config"]).config()
    # tyro would make an option of each key of a default that is a dict: such a default is put in below.
    dicts = {key: value for key, value in known_row.items() if isinstance(value, dict)}
    row = {key: value for key, value in known_row.items() if key not in dicts}
    options, own = command_line.parse_options(arguments, row, FolderOptions(), str(__doc__))
    package = {"tensorboard": "tensorboardX", "wandb": "wandb"}.get(own.tracker)
    if package is not None and find_spec(package) is None:
        extra = own.tracker
        raise ValueError(f"--tracker {extra} needs an extra: pip install -e .[{extra}].")
    if own.resume and own.overwrite:
        raise ValueError("--resume goes on with a folder and --overwrite empties it: choose one.")
    dicts = {key: getattr(options, key) or value for key, value in dicts.items()}
    run = make_run(name, dataclasses.replace(options, **dicts))
    return run, own, stored


def report(run: Run, folder: Path, outcome: Outcome) -> None:
    """Write summary.json and the learning curve, and print the table."""
    curve = curve_of_run(outcome.metrics, outcome.evaluations, run.options.steps_per_update)
    (scores,) = scored([curve])
    final = scores[:, -1]
    summary = {
        "env_steps_per_seed": int(curve.steps[-1]),
        **final_summary(curve, final),
        "eval_episodes_per_seed": run.options.eval_episodes,
        "policy": "deterministic" if run.options.deterministic else "stochastic",
        "return_iqm_untrained": float(statistics.iqm(scores[:, 0])),
        "train_seconds": round(outcome.seconds, 2),
        "env_steps_per_second": round(curve.steps[-1] * len(final) / outcome.seconds),
        "return_per_seed": final.tolist(),
    }
    interval = interval_text(summary["return_iqm_95"], 1)
    if summary["return_iqm_95"] is None:
        del summary["return_iqm_95"]
        interval = f"none from fewer than {statistics.MIN_SEEDS} seeds"
    write_json(folder / "summary.json", summary)
    plotting.learning_curve(
        {run.name.upper(): (curve.steps, scores)},
        x_label="environment steps per seed",
        y_label="undiscounted return per episode",
        title=f"{run.options.env}, {run.options.eval_episodes} {summary['policy']} episodes per seed",
        path=folder / "learning_curve.png",
    )
    rows = {
        "seeds (diverged)": f"{summary['seeds']} ({summary['seeds_diverged']})",
        "environment steps per seed": f"{summary['env_steps_per_seed']:,}",
        "final return, IQM": f"{summary['return_iqm']:.1f}",
        "  95% bootstrap interval": interval,
        "  mean, min, max over seeds": f"{final.mean():.1f}, {final.min():.1f}, {final.max():.1f}",
        "training, compilation included": f"{outcome.seconds:.1f} s",
        "environment steps per second": f"{summary['env_steps_per_second']:,}",
    }
    for label, value in rows.items():
        print(f"{label:32}{value}")
    print(f"written to {folder}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
