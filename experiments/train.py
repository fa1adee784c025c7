"""Train an algorithm on an environment, many seeds at once.

    python experiments/train.py ppo --env CartPole-v1 --seeds 16

writes results/ppo-CartPole-v1/: the configuration, metrics per update and seed, evaluations, a learning
curve and a checkpoint. `train.py ppo --env ID --help` lists every option with its default there.
"""

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import runtime  # isort: skip  # before JAX: it sets XLA up
import jax
import numpy as np
import tyro
from defaults import defaults
from hostloop import Outcome, Run, run_training
from recipes import ALGORITHMS, RunOptions, build_env, check
from results import claim, read_json, write_json

from purejaxpg import plotting, statistics


@dataclass(frozen=True)
class FolderOptions:
    name: str | None = None
    """Folder of the results; `<algorithm>-<env>` if not given."""
    output: Path = Path("results")
    """Where the folders of results are."""
    resume: bool = False
    """Go on from the checkpoint in the folder, with the options it was begun with."""
    overwrite: bool = False
    """Empty the folder first."""


def main(arguments: list[str]) -> int:
    try:
        run, folder, resume = prepare(arguments)
    except (ValueError, TypeError, ConnectionError, FileExistsError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    outcome = run_training(run, folder, resume=resume)
    if not outcome.finished:
        print(f"Stopped after {outcome.update} of {run.num_updates} updates; go on with --resume.")
        return 130
    report(run, folder, outcome)
    return 0


def prepare(arguments: list[str]) -> tuple[Run, Path, bool]:
    """The checked run that a command line asks for, its folder, and whether it is gone on with."""
    run, options = parse(arguments)
    folder = options.output / (options.name or f"{run.name}-{run.options.env}")
    if options.resume:
        return run, folder, True
    claim(folder, overwrite=options.overwrite)
    config = {"config": run.config(), "chunks": run.chunks(), "versions": runtime.describe()}
    write_json(folder / "config.json", config)
    return run, folder, False


def parse(arguments: list[str]) -> tuple[Run, FolderOptions]:
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(__doc__)
        raise SystemExit(0)
    if name not in ALGORITHMS:
        raise ValueError(
            f"The first argument must be an algorithm ({', '.join(ALGORITHMS)}): {name!r}."
        )
    # Defaults depend on the environment, or on the run that is gone on from; so look for these first.
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--env", default=RunOptions.env)
    first.add_argument("--name")
    first.add_argument("--output", type=Path, default=FolderOptions.output)
    first.add_argument("--resume", action="store_true")
    known, _ = first.parse_known_args(arguments[1:])
    folder = known.output / (known.name or f"{name}-{known.env}")

    options_type, build = ALGORITHMS[name]
    stored = read_json(folder / "config.json")["config"] if known.resume else None
    row = defaults(name, known.env) if stored is None else stored
    all_options = dataclasses.make_dataclass(
        "Options", [("run", RunOptions), ("algorithm", options_type), ("folder", FolderOptions)]
    )
    options: Any = tyro.cli(
        all_options,
        args=arguments[1:],
        default=all_options(_fill(RunOptions, row), _fill(options_type, row), FolderOptions()),
        prog=f"train.py {name}",
        description=__doc__,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    check(options.run)
    check(options.algorithm)
    env, env_params = build_env(options.run)
    algorithm = build(options.algorithm, options.run, env, env_params)
    jax.eval_shape(algorithm.init, jax.random.key(0), env_params)  # networks must fit the spaces
    run = Run(name, options.run, options.algorithm, env, env_params, algorithm)
    if stored is not None:
        changed = [key for key, value in run.config().items() if stored.get(key) != value]
        if changed:
            raise ValueError(
                f"{folder} was begun with other values of {', '.join(changed)}; leave these options "
                "away, or choose another --name."
            )
    return run, options.folder


def report(run: Run, folder: Path, outcome: Outcome) -> None:
    """Write summary.json and the learning curve, and print the table."""
    returns = outcome.evaluations["returns"].astype(np.float64).mean(axis=-1)  # [seeds, times]
    diverged = ~np.isfinite(returns)
    for values in outcome.metrics.values():
        diverged[:, -1] |= ~np.isfinite(values).all(axis=1)
    finite = returns[~diverged]
    scores = returns
    if diverged.any():
        worst = finite.min() if finite.size else 0.0
        scores = statistics.replace_diverged(np.where(diverged, np.nan, returns), worst)
    steps = outcome.evaluations["update"][0] * run.algorithm_options.steps_per_update
    final = scores[:, -1]
    summary: dict[str, Any] = {
        "env_steps_per_seed": int(steps[-1]),
        "seeds": len(final),
        "seeds_diverged": int(diverged[:, -1].sum()),
        "eval_episodes_per_seed": run.options.eval_episodes,
        "policy": "deterministic" if run.options.deterministic else "stochastic",
        "return_iqm": float(statistics.iqm(final)),
        "return_mean": float(final.mean()),
        "return_min": float(final.min()),
        "return_max": float(final.max()),
        "train_seconds": round(outcome.seconds, 2),
        "env_steps_per_second": round(steps[-1] * len(final) / outcome.seconds),
        "return_per_seed": final.tolist(),
    }
    if len(final) >= statistics.MIN_SEEDS:
        interval = statistics.bootstrap_interval(statistics.iqm, final)
        summary["return_iqm_95"] = [float(interval.low), float(interval.high)]
    write_json(folder / "summary.json", summary)
    plotting.learning_curve(
        {run.name.upper(): (steps, scores)},
        x_label="environment steps per seed",
        y_label=f"undiscounted return of {run.options.env}",
        title=f"{run.options.env}, {run.options.eval_episodes} {summary['policy']} episodes per seed",
        path=folder / "learning_curve.png",
    )
    low, high = summary.get("return_iqm_95", (float("nan"), float("nan")))
    rows = {
        "seeds (diverged)": f"{summary['seeds']} ({summary['seeds_diverged']})",
        "environment steps per seed": f"{summary['env_steps_per_seed']:,}",
        "final return, IQM": f"{summary['return_iqm']:.1f}",
        "  95% bootstrap interval": f"{low:.1f} to {high:.1f}",
        "  mean, min, max over seeds": f"{final.mean():.1f}, {final.min():.1f}, {final.max():.1f}",
        "training, compilation included": f"{outcome.seconds:.1f} s",
        "environment steps per second": f"{summary['env_steps_per_second']:,}",
    }
    for label, value in rows.items():
        print(f"{label:32}{value}")
    print(f"written to {folder}")


def _fill(options_type: type, row: dict[str, Any]) -> Any:
    """Options with the values of a row that belong to them; JSON's lists become tuples."""
    names = {field.name for field in dataclasses.fields(options_type)}
    return options_type(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k in names}
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
