"""Figures of false alarms: claimed and measured rates, the way to the global p, injected and found significances."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from report.numbers import count
from report.style import INK, MUTED, Sample, new_figure, stamp, styled

__all__ = ["draw_calibration", "draw_false_alarms", "draw_injection"]

_OURS, _NAIVE = "#0072B2", "#D55E00"
_BAND, _WIDE_BAND, _GREY_BAND = "#7fb3d5", "#cfe2f0", "#dfe2e6"


@styled
def draw_false_alarms(rates: Mapping[str, Any], *, sample: Sample) -> Figure:
    """Draw the measured against the claimed rate of false alarms, with the band of binomial fluctuations.

    Args:
        rates: the part ``false_positives`` of a region of ``alarms.json``.
        sample: what the figure was made from.
    """
    figure = new_figure(6.0, 5.4)
    ax = figure.add_axes((0.135, 0.125, 0.835, 0.755))
    curve, toys = rates["curve"], rates["toys"]
    claimed, floor = np.asarray(curve["claimed"]), 0.3 / toys
    low, high = (np.maximum(curve[side], floor) for side in ("low", "high"))
    ax.fill_between(claimed, low, high, color=_GREY_BAND, linewidth=0, zorder=1)
    ax.plot(claimed, claimed, ":", color=MUTED, linewidth=1.1, zorder=2)
    for key, color, dashes in (("local", _NAIVE, (0, (4, 1.5))), ("global", _OURS, "-")):
        values = np.asarray(curve[key])
        shown = values > 0
        ax.plot(
            claimed[shown],
            values[shown],
            color=color,
            linestyle=dashes,
            linewidth=1.8,
            drawstyle="steps-post",
            zorder=3,
        )
    levels = [level["claimed"] for level in rates["levels"]]
    found = np.array([level["rate"] for level in rates["levels"]])
    errors = np.abs(np.array([[level["low"], level["high"]] for level in rates["levels"]]).T - found)
    measured = found > 0
    ax.errorbar(
        np.asarray(levels)[measured], found[measured], yerr=errors[:, measured], fmt="o", color=_OURS, markersize=5.5,
        elinewidth=1.3, zorder=4,
    )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlim=(1 / toys, 1.0), ylim=(floor, 15.0))
    ax.yaxis.set_major_locator(FixedLocator([10.0**power for power in range(-6, 1)]))
    ax.yaxis.set_minor_locator(
        FixedLocator([digit * 10.0**power for power in range(-6, 0) for digit in range(2, 10)])
    )
    ax.set_xlabel("Claimed rate of false alarms")
    ax.set_ylabel("Measured rate")
    handles = [
        Line2D([], [], color=_OURS, marker="o", markersize=5.5, linewidth=1.8),
        Line2D([], [], color=_NAIVE, linestyle=(0, (4, 1.5)), linewidth=1.8),
        Patch(color=_GREY_BAND),
    ]
    texts = [
        "Global p, with 99.9 % intervals at the claimed levels",
        "Smallest local p taken for a global one",
        "99.9 % of searches whose claim is right",
    ]
    ax.legend(handles, texts, loc="upper left", fontsize=10.5, borderaxespad=0.8)
    stamp(ax, sample, subtitle=f"{count(toys)} pseudo-experiments of background")
    return figure


@styled
def draw_calibration(calibration: Mapping[str, Any], *, cuts: int, sample: Sample) -> Figure:
    """Draw the largest local significance without a signal, and the global p against the smallest local p.

    Args:
        calibration: the part ``calibration`` of a region of ``alarms.json``.
        cuts: number of cuts that are used.
        sample: what the figure was made from.
    """
    figure = new_figure(8.4, 4.6)
    left = figure.add_axes((0.095, 0.145, 0.39, 0.69))
    right = figure.add_axes((0.59, 0.145, 0.39, 0.69))
    _draw_largest(left, calibration["largest_significance"])
    _draw_global_p(right, calibration, cuts)
    frame = figure.add_axes((0.095, 0.145, 0.885, 0.69), frameon=False)
    frame.set(xticks=[], yticks=[])
    frame.tick_params(which="both", length=0)
    frame.set_zorder(-1)
    stamp(frame, sample, subtitle="background without a signal")
    return figure


def _draw_largest(ax: Axes, largest: Mapping[str, Any]) -> None:
    """Both halves' largest local significances, the first scaled to the number of the second."""
    edges = np.asarray(largest["edges"])
    drawn, expected = (
        np.asarray(largest["pseudo_experiments"]),
        np.asarray(largest["calibration"], dtype=float),
    )
    expected *= max(drawn.sum(), 1) / max(expected.sum(), 1)
    ax.stairs(expected, edges, fill=True, color=_WIDE_BAND, zorder=1)
    ax.stairs(expected, edges, color=_OURS, linewidth=1.6, zorder=2)
    seen = drawn > 0
    centres = (edges[1:] + edges[:-1]) / 2
    ax.errorbar(
        centres[seen], drawn[seen], yerr=np.sqrt(drawn[seen]), fmt="o", color=INK, markersize=3.6, elinewidth=1.0,
        zorder=3,
    )  # fmt: skip
    top = max(drawn.max(initial=1), expected.max(initial=1))
    ax.set(yscale="log", ylim=(0.02, top * 25), xlim=(edges[0], edges[-1]))
    ax.set_xlabel("Largest local significance [σ]")
    ax.set_ylabel("Pseudo-experiments")
    ax.legend(
        [
            (Patch(color=_WIDE_BAND), Line2D([], [], color=_OURS, linewidth=1.6)),
            Line2D([], [], color=INK, marker="o", markersize=3.6, linestyle="none"),
        ],
        ["First half: gives the global p", "Second half: false alarms"],
        loc="upper left", fontsize=10, borderaxespad=0.8,
    )  # fmt: skip


def _draw_global_p(ax: Axes, calibration: Mapping[str, Any], cuts: int) -> None:
    local, globally = np.asarray(calibration["local_p"]), np.asarray(calibration["global_p"])
    low = 1.0 / calibration["toys"]
    axis = np.geomspace(low / 10, 1.0, 60)
    ax.plot(axis, axis, ":", color=MUTED, linewidth=1.1, label="One cut")
    if cuts > 1:
        ax.plot(
            axis,
            np.minimum(cuts * axis, 1),
            "--",
            color=_NAIVE,
            linewidth=1.3,
            label=f"{cuts} independent cuts",
        )
    shown = globally > 0
    ax.plot(local[shown], globally[shown], color=_OURS, linewidth=2.0, label="This search")
    ax.set(xscale="log", yscale="log", xlim=(low / 10, 1.0), ylim=(low, 1.6))
    ax.set_xlabel("Smallest local p")
    ax.set_ylabel("Global p")
    ax.legend(loc="upper left", fontsize=10, borderaxespad=0.8)


@styled
def draw_injection(
    injection: Mapping[str, Mapping[str, Any]], *, labels: Mapping[str, str], sample: Sample
) -> Figure:
    """Draw median and bands of the significance found against the injected one, one small panel a signal.

    Args:
        injection: the part ``injection`` of a region of ``alarms.json``.
        labels: names of the signals that are drawn; at least one.
        sample: what the figure was made from.
    """
    columns = min(3, len(labels))
    rows = ceil(len(labels) / columns)
    height = 1.6 + 2.2 * rows
    width = 1.0 + 2.6 * max(2, columns)
    figure = new_figure(width, height)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=0.72 / width, right=1 - 0.15 / width, bottom=0.62 / height, top=1 - 1.0 / height, wspace=0.06,
        hspace=0.08,
    )  # fmt: skip
    for panel, (key, label) in zip(axes.flat, labels.items(), strict=False):
        _draw_found(panel, injection[key]["injected"], label)
    for panel in axes.flat[len(labels) :]:
        panel.set_visible(False)
    axes[0, 0].set_ylim(-2.4, 1.35 * max(3.0, *(panel.get_ylim()[1] for panel in axes.flat)))
    for column in range(columns):
        lowest = [row for row in range(rows) if row * columns + column < len(labels)][-1]
        axes[lowest, column].tick_params(labelbottom=True)
    figure.supxlabel("Injected: expected significance [σ]", y=0.1 / height, fontsize=13.5)
    figure.supylabel("Found significance [σ]", x=0.1 / width, fontsize=13.5)
    handles: list[Any] = [
        (Patch(color=_BAND), Line2D([], [], color=_OURS, marker="o", markersize=4.5, linewidth=1.6)),
        Patch(color=_WIDE_BAND),
        Line2D([], [], color=INK, linestyle=":", linewidth=1.2),
        Line2D([], [], color=_NAIVE, linestyle="--", marker="D", markersize=4, fillstyle="none"),
        Line2D([], [], color=_NAIVE, linestyle="none", marker="^", markersize=5.5),
    ]
    texts = ["Local: median and 68 %", "95 %", "As expected", "Global: median", "at least"]
    figure.legend(
        handles, texts, loc="upper left", ncols=5, fontsize=10, borderaxespad=0,
        bbox_to_anchor=(0.72 / width, 1 - 0.66 / height), handletextpad=0.4, columnspacing=1.0,
    )  # fmt: skip
    frame = figure.add_axes((0.72 / width, 1 - 0.66 / height, 1 - 0.87 / width, 0.05 / height), frameon=False)
    frame.set(xticks=[], yticks=[])
    frame.tick_params(which="both", length=0)
    stamp(frame, sample, subtitle="signals injected into background")
    return figure


def _draw_found(ax: Axes, entries: Sequence[Mapping[str, Any]], label: str) -> None:
    expected = np.array([entry["expected"] for entry in entries])
    local = {band: np.array([entry["local"][band] for entry in entries]) for band in entries[0]["local"]}
    ax.fill_between(expected, local["low95"], local["high95"], color=_WIDE_BAND, linewidth=0, zorder=1)
    ax.fill_between(expected, local["low68"], local["high68"], color=_BAND, linewidth=0, zorder=2)
    ax.plot(expected, expected, ":", color=INK, linewidth=1.2, zorder=3)
    ax.plot(expected, local["median"], "o-", color=_OURS, markersize=4.5, linewidth=1.6, zorder=5)
    limited = np.array([entry["global"]["limited"] for entry in entries])
    globally = np.array([entry["global"]["median"] for entry in entries])
    ax.plot(expected, globally, "--", color=_NAIVE, linewidth=1.3, zorder=4)
    ax.plot(
        expected[~limited],
        globally[~limited],
        "D",
        color=_NAIVE,
        markersize=4,
        fillstyle="none",
        zorder=4,
    )
    ax.plot(expected[limited], globally[limited], "^", color=_NAIVE, markersize=5.5, zorder=4)
    ax.annotate(
        label, (0, 1), (8, -8), xycoords="axes fraction", textcoords="offset points", ha="left", va="top",
        fontsize=10.5,
    )  # fmt: skip
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(expected)
