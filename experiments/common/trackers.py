"""Where the metrics of a run go beside its own files: TensorBoard, or Weights & Biases offline.

One run per seed. Each needs an optional extra of its name, imported when a tracker is made.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Tracker(NamedTuple):
    """Two functions of the host.

    Attributes:
      log: `(step, {name: values [seeds]})`; steps must not fall.
      close: `()`, once, at the end.
    """

    log: Callable[[int, Mapping[str, ArrayLike]], None]
    close: Callable[[], None]


def tensorboard(
    folder: Path, seeds: Sequence[int], *, config: Mapping[str, Any], first_step: int = 0
) -> Tracker:
    """Event files in `folder/seed-<seed>`, by tensorboardX.

    Args:
      config: what determines the run; shown as text.
      first_step: what was logged from here on in an interrupted run is superseded.
    """
    from tensorboardX import SummaryWriter

    writers = [
        SummaryWriter(str(folder / f"seed-{seed}"), purge_step=first_step or None) for seed in seeds
    ]
    if not first_step:
        table = "\n".join(f"    {name}: {value}" for name, value in config.items())
        for writer in writers:
            writer.add_text("config", table)

    def log(step, metrics):
        for name, values in metrics.items():
            for writer, value in zip(writers, np.asarray(values).tolist(), strict=True):
                writer.add_scalar(name, value, step)

    def close():
        for writer in writers:
            writer.close()

    return Tracker(log, close)


def wandb_offline(
    folder: Path, seeds: Sequence[int], *, config: Mapping[str, Any], group: str
) -> Tracker:
    """Runs `seed <seed>` of a group, in `folder/wandb`; nothing is sent before `wandb sync`.

    A run that is gone on with is a new W&B run of the same name and group.
    """
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    runs = [
        wandb.init(
            mode="offline",
            dir=str(folder),
            project="purejaxpg",
            group=group,
            name=f"seed {seed}",
            config={**config, "seed": seed},
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        for seed in seeds
    ]

    def log(step, metrics):
        columns = {name: np.asarray(values).tolist() for name, values in metrics.items()}
        for i, run in enumerate(runs):
            run.log({name: values[i] for name, values in columns.items()}, step=step)

    def close():
        for run in runs:
            run.finish()

    return Tracker(log, close)
