"""The picture of the study of importance sampling."""

from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.common.study import draw_band, panels
from purejaxpg.reporting.plotting import PALETTE, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("tilted", "natural")
"""Of the steps in (b), the two that are drawn."""


def draw(numbers: dict[str, Any]) -> Any:
    """All parts; nine panels, or six without learning."""
    learned = "one_rollout" in numbers
    figure, axes = panels(9 if learned else 6, columns=3)
    draw_normal(axes[0], numbers["normal"])
    for axis, kind in zip(axes[1:3], KINDS):
        draw_weights(axis, kind, numbers["weights"][kind])
    draw_returns(axes[3], numbers["returns"])
    draw_gradients(axes[4], numbers["gradients"])
    draw_bias(axes[5], numbers["gradient_bias"])
    if learned:
        draw_rollout(axes[6], numbers["one_rollout"], "trajectory_ess")
        axes[6].set(yscale="log", ylabel="effective fraction of trajectories")
        draw_rollout(axes[7], numbers["one_rollout"], "return")
        axes[7].set(ylabel="return after k steps, IQM")
        draw_runs(axes[8], numbers["whole_runs"])
        handles, labels = axes[7].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def draw_normal(axes: "Axes", table: dict[str, Any]) -> None:
    axes.plot(table["shift"], table["exact"], color="black", label="exact, exp(-shift\u00b2)")
    for i, (size, (low, middle, high)) in enumerate(table["measured"].items()):
        axes.plot(table["shift"], middle, "--", color=PALETTE[i], label=f"{int(size):,} samples")
        axes.fill_between(table["shift"], low, high, color=PALETTE[i], alpha=0.2)
    axes.set(yscale="log", xlabel="shift of the mean, in deviations", title="(a) two normals")
    axes.set(ylabel="effective fraction of the sample", ylim=(1e-5, 2))
    axes.legend(fontsize=8)


def draw_weights(axes: "Axes", kind: str, table: dict[str, Any]) -> None:
    for i, (kl, row) in enumerate(table.items()):
        curve, color = row["curve"], PALETTE[i]
        axes.plot(curve["steps"], curve["effective"], color=color, label=f"KL {kl}, exact")
        low, middle, high = curve["measured_effective"]
        axes.plot(curve["steps"], middle, "--", color=color)
        axes.fill_between(curve["steps"], low, high, color=color, alpha=0.2)
        axes.axvline(row["crossing"]["predicted"], color=color, linewidth=1, linestyle=":")
        if row["parts_at"]:
            nearest = np.argmin(np.abs(np.array(curve["steps"]) - row["parts_at"]))
            axes.plot(row["parts_at"], middle[nearest], "o", color=color, markersize=5)
    axes.axhline(0.01, color="0.4", linewidth=1)
    axes.set(xscale="log", yscale="log", ylim=(1e-6, 2), xlabel="steps of the episode")
    axes.set(ylabel="effective fraction of the episodes", title=f"(b) {kind} steps of a policy")
    axes.plot([], [], "--", color="0.4", label="measured; dot: twice the exact")
    axes.plot([], [], ":", color="0.4", label="1%, foretold by the spectral radius")
    axes.legend(fontsize=8, loc="lower left")


def draw_returns(axes: "Axes", table: dict[str, Any]) -> None:
    horizons = [int(horizon) for horizon in table]
    for i, name in enumerate(next(iter(table.values()))["estimators"]):
        rows = [row["estimators"][name] for row in table.values()]
        axes.plot(horizons, [row["rmse"] for row in rows], color=PALETTE[i], label=name)
        axes.plot(
            horizons, [row["measured_rmse"] for row in rows], "o--", color=PALETTE[i], markersize=3
        )
    axes.plot(horizons, [row["new"] - row["old"] for row in table.values()], ":", color="0.4",
              label="what the step gained")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="steps of the episode")
    axes.set(
        ylabel="error, 1,000 episodes (dashed: measured)", title="(c) the return of the new policy"
    )
    axes.legend(fontsize=8, loc="upper left")


def draw_gradients(axes: "Axes", table: dict[str, Any]) -> None:
    horizons = [int(horizon) for horizon in table]
    for i, name in enumerate(next(iter(table.values()))):
        rmse = [row[name]["rmse"] for row in table.values()]
        axes.plot(horizons, rmse, "o-", color=PALETTE[i], markersize=3, label=name)
    axes.set(xscale="log", yscale="log", xlabel="steps of the episode")
    axes.set(ylabel="error over norm, 1,000 episodes", title="(c) the gradient")
    axes.legend(fontsize=8)


def draw_bias(axes: "Axes", table: dict[str, Any]) -> None:
    for i, (kind, by_kl) in enumerate(table.items()):
        kls = [float(kl) for kl in by_kl]
        for name, dashes in (("per step", "o-"), ("marginalised, old returns", "s--")):
            values = [row[name] for row in by_kl.values()]
            axes.plot(
                kls, values, dashes, color=PALETTE[i], markersize=4, label=f"{kind} step: {name}"
            )
    axes.plot(kls, 0.5 * np.sqrt(kls), ":", color="0.4", label="slope of sqrt(KL)")
    axes.set(xscale="log", yscale="log", xlabel="KL(old, new) of the step, nats")
    axes.set(ylabel="bias over the gradient's norm, exact", title="(c) bias of the gradient")
    axes.legend(fontsize=8)


def draw_rollout(axes: "Axes", table: dict[str, Any], score: str) -> None:
    names = [name for name in table if name != "before"]
    for i, name in enumerate(names):
        scores = {int(k): row[score] for k, row in table[name].items()}
        style = line_style(i)
        draw_band(axes, scores, style["linestyle"], color=style["color"], label=name)
    axes.set(xscale="log", xlabel="policy steps on one rollout", title="(d) CartPole, one rollout")


def draw_runs(axes: "Axes", table: dict[str, Any]) -> None:
    for i, by_rate in enumerate(table.values()):
        scores = {float(rate): row for rate, row in by_rate.items()}
        style = line_style(i)
        draw_band(axes, scores, style["linestyle"], color=style["color"])
    axes.set(xscale="log", xlabel="learning rate", ylabel="return at the end, IQM")
    axes.set(title="(d) CartPole, whole runs of 8 steps per rollout")
    axes.minorticks_off()
    axes.set_xticks(list(scores), [f"{rate:g}" for rate in scores])
