"""Which inputs drive the score: each input's share of what adds up to it, process by process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import hist
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from processors.residuals import MeanResiduals, mean_residuals
from report.processes import Floats, Process, processes_of
from report.style import INK, MUTED, Sample, new_figure, stamp, styled

__all__ = ["ErrorShares", "draw_error_shares", "error_shares", "shares_to_dict"]

LARGEST = 7
"""Inputs that are drawn of a process."""


@dataclass(frozen=True)
class ErrorShares:
    """Part of a process' mean squared error, or of another sum that makes a score, that comes from each input.

    Attributes:
        label: of the process, mathtext allowed.
        color: of the process.
        features: inputs of the model.
        share: shape (k,); adds up to 1.
        error: statistical error of the share, shape (k,).
        total: mean of the sum of all squared errors over the events.
    """

    label: str
    color: str
    features: Sequence[str]
    share: Floats
    error: Floats
    total: float

    @classmethod
    def of(cls, process: Process, means: MeanResiduals) -> "ErrorShares | None":
        """From mean squared errors; None where a sum of them is not positive."""
        total = float(means.mean.sum())
        if not total > 0:
            return None
        return cls(process.label, process.color, means.features, means.share, means.share_error, total)


def error_shares(
    histogram: hist.Hist, datasets: Mapping[str, Mapping[str, Any]], processes: Sequence[Process]
) -> tuple[ErrorShares | None, list[ErrorShares]]:
    """Shares of all background together (held-out events), and of each of some processes that has events.

    Args:
        histogram: "residuals/<model>", see `processors.residuals`.
        datasets: metadata of each dataset.
        processes: those that are drawn.
    """
    kinds = {name: str(book["kind"]) for name, book in datasets.items()}
    all_background = Process(
        key="background",
        label="Background",
        color=MUTED,
        kind="background",
        family="background",
        datasets=tuple(name for p in processes_of(datasets) if p.kind == "background" for name in p.datasets),
    )
    found = [
        ErrorShares.of(process, means)
        if (means := mean_residuals(histogram, kinds, process.datasets)) is not None
        else None
        for process in (all_background, *processes)
    ]
    return found[0], [shares for shares in found[1:] if shares is not None]


def shares_to_dict(background: ErrorShares, processes: Sequence[ErrorShares]) -> dict[str, Any]:
    """All shares in plain JSON types, also of inputs that are not drawn."""
    return {
        "features": list(background.features),
        "shares": {
            shares.label: {
                "share": shares.share.tolist(),
                "error": shares.error.tolist(),
                "sum_of_squared_errors": shares.total,
            }
            for shares in (background, *processes)
        },
    }


@styled
def draw_error_shares(
    background: ErrorShares,
    processes: Sequence[ErrorShares],
    *,
    labels: Sequence[str],
    sample: Sample,
    name: str,
) -> Figure:
    """Draw the largest shares of each process, with that of the same input in the background beside it.

    Args:
        background: all background together.
        processes: one panel each; at least one.
        labels: of the inputs, in their order, mathtext allowed.
        sample: what the figure was made from.
        name: of the model.
    """
    columns = min(2, len(processes))
    rows = ceil(len(processes) / columns)
    height = 1.5 + 2.05 * rows
    figure = new_figure(4.2 * columns + 0.4, height)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    figure.subplots_adjust(
        left=0.3 / columns, right=0.975, bottom=0.62 / height, top=1 - 0.95 / height, wspace=0.42, hspace=0.16
    )
    for panel, shares in zip(axes.flat, processes, strict=False):
        largest = np.argsort(-shares.share, kind="stable")[:LARGEST]
        places = np.arange(len(largest))
        share, error = shares.share[largest], shares.error[largest]
        # No share is below 0 or above 1: neither is the end of its bar.
        bars = np.clip([error, error], 0.0, [share, 1.0 - share])
        panel.barh(
            places, share, xerr=bars, height=0.62, color=shares.color,
            alpha=0.75, error_kw={"elinewidth": 1.0, "ecolor": INK}, zorder=2,
        )  # fmt: skip
        panel.plot(
            background.share[largest], places, "|", color=INK, markersize=11, markeredgewidth=2, zorder=3
        )
        panel.set_yticks(places, [labels[i] for i in largest], fontsize=9.5)
        panel.set_ylim(LARGEST - 0.4, -0.6)
        panel.yaxis.set_minor_locator(NullLocator())
        panel.tick_params(axis="y", which="both", length=0)
        panel.xaxis.set_major_locator(MaxNLocator(5, prune="upper"))
        # Bars get shorter downwards: this corner is free.
        panel.annotate(
            shares.label, (1, 0), (-7, 8), xycoords="axes fraction", textcoords="offset points", ha="right",
            va="bottom", fontsize=11,
        )  # fmt: skip
    axes[0, 0].set_xlim(0.0, min(1.0, axes[0, 0].get_xlim()[1]))
    for panel in axes.flat[len(processes) :]:
        panel.set_visible(False)
    shown = axes[0, : len(processes)]
    for column in range(columns):
        lowest = [row for row in range(rows) if row * columns + column < len(processes)][-1]
        axes[lowest, column].set_xlabel("Share in the score", fontsize=12)
        axes[lowest, column].tick_params(labelbottom=True)
    left, right = shown[0].get_position(), shown[-1].get_position()
    frame = figure.add_axes((left.x0, left.y0, right.x1 - left.x0, left.height), frameon=False)
    frame.set(xticks=[], yticks=[])
    frame.tick_params(which="both", length=0)
    frame.set_zorder(-1)
    stamp(frame, sample, subtitle=f"model {name}")
    handle = Line2D([], [], color=INK, marker="|", linestyle="none", markersize=10, markeredgewidth=2)
    figure.legend(
        [handle], ["the same input in all background (held-out events)"], loc="upper right", fontsize=9.5,
        bbox_to_anchor=(0.975, 1 - 0.16 / height), borderaxespad=0, handletextpad=0.2,
    )  # fmt: skip
    return figure
