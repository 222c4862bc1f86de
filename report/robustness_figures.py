"""How growing changes of events are noticed, and what new trainings tell beside the nominal one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from report.power import left_of_labels, stamp_across, stamp_high
from report.style import MUTED, Sample, new_figure, styled

__all__ = ["draw_comparison", "draw_response"]

Entry = Mapping[str, Any]

_NEW, _NOMINAL = "#0072B2", "#D55E00"
_LABELS: Final = {
    "lepton-pt": r"$E_{T}^{miss}$ as it was",
    "lepton-pt-balanced": r"$E_{T}^{miss}$ balances the lepton",
    "noise": "All inputs",
    "noise-filled": "Inputs that are not 0",
}


@styled
def draw_response(
    curves: Mapping[str, Sequence[Entry]], *, xlabel: str, value: str, sample: Sample
) -> Figure:
    """Draw how a growing change is noticed: AUC, and the share of events above a cut where it can be told.

    Args:
        curves: changes by test.
        xlabel: what grows.
        value: its key in each change.
        sample: what the figure was made from.
    """
    told = any(entry["alarms"]["value"] is not None for entries in curves.values() for entry in entries)
    figure = new_figure(8.4 if told else 6.0, 4.2)
    panels: list[tuple[Axes, Callable[[Entry], tuple[Any, Any]]]] = []
    axes = figure.subplots(1, 2 if told else 1, squeeze=False)[0]
    figure.subplots_adjust(left=0.095 if told else 0.13, right=0.975, bottom=0.15, top=0.86, wspace=0.24)
    panels.append((axes[0], lambda entry: (entry["auc"], entry["auc_error"])))
    if told:
        panels.append((axes[1], lambda entry: (entry["alarms"]["value"], entry["alarms"]["error"])))
    for ax, of in panels:
        for (test, entries), (color, marker) in zip(
            curves.items(), ((_NEW, "o"), (_NOMINAL, "D")), strict=False
        ):
            _band(ax, [(entry[value], *of(entry)) for entry in entries], color, marker, _LABELS[test])
        _ticks(
            ax, sorted({entry[value] for entries in curves.values() for entry in entries if entry[value] > 0})
        )
        ax.set_xlabel(xlabel, fontsize=12)
    axes[0].axhline(0.5, color=MUTED, linestyle=":", linewidth=1.1, zorder=1)
    axes[0].set_ylabel("AUC, changed against unchanged")
    low = min(
        0.5, *(entry["auc"] for entries in curves.values() for entry in entries if entry["auc"] is not None)
    )
    axes[0].set_ylim(low - 0.04, 1.02)
    axes[0].legend(loc="lower right", fontsize=10.5, bbox_to_anchor=(1.0, 0.1))
    if told:
        axes[1].axhline(0.01, color=MUTED, linestyle=":", linewidth=1.1, zorder=1)
        axes[1].set(yscale="log", ylim=(0.005, 2.0))
        axes[1].set_ylabel("Changed events above the cut of 1 %")
    stamp_across(figure, axes[0], axes[-1], sample, "held-out background")
    return figure


def _band(ax: Axes, points: Sequence[tuple[Any, Any, Any]], color: str, marker: str, label: str) -> None:
    """A line with a band of one standard error."""
    known = [point for point in points if point[1] is not None and point[0] > 0]
    if not known:
        return
    x, y, error = np.array(known, dtype=np.float64).T
    ax.fill_between(x, y - error, y + error, color=color, alpha=0.25, linewidth=0, zorder=2)
    ax.plot(x, y, color=color, marker=marker, markersize=5, linewidth=1.6, label=label, zorder=3)


def _ticks(ax: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis whose ticks are what was tried."""
    ax.set_xscale("log")
    ax.set_xlim(values[0] / 1.2, values[-1] * 1.2)
    ax.xaxis.set_major_locator(FixedLocator(list(values)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))
    ax.xaxis.set_minor_locator(NullLocator())


@styled
def draw_comparison(
    entries: Mapping[str, Entry], *, labels: Mapping[str, str], test: str, sample: Sample
) -> Figure:
    """Draw the AUC of each process or signal with the new training and with the nominal one.

    Args:
        entries: comparisons whose areas are known; at least one.
        labels: their names.
        test: which one, for the legend.
        sample: what the figure was made from.
    """
    order = sorted(entries, key=lambda key: entries[key]["nominal"]["auc"])
    height = 1.75 + 0.4 * len(order)
    figure = new_figure(6.6, height)
    ax = figure.add_subplot()
    for row, key in enumerate(order):
        entry, nominal = entries[key], entries[key]["nominal"]
        for part, shift, color, marker, fill in (
            (nominal, -0.13, _NOMINAL, "D", "none"),
            (entry, 0.13, _NEW, "o", "full"),
        ):
            ax.errorbar(
                part["auc"], row + shift, xerr=part["auc_error"], fmt=marker, color=color, markersize=6,
                fillstyle=fill, elinewidth=1.3, zorder=4,
            )  # fmt: skip
        ax.axhline(row, color="#e3e5e8", linewidth=0.8, zorder=0)
    ax.set(yticks=range(len(order)), ylim=(-0.6, len(order) - 0.4))
    left = left_of_labels(figure, ax.set_yticklabels([labels[key] for key in order]))
    figure.subplots_adjust(left=left, right=0.97, bottom=0.62 / height, top=1 - 1.0 / height)
    ax.tick_params(axis="y", which="both", length=0)
    ax.yaxis.set_minor_locator(NullLocator())
    low = ax.get_xlim()[0]
    ax.set_xlim(low, 1.0 + 0.03 * (1.0 - low))
    if low < 0.5:
        ax.axvline(0.5, color=MUTED, linestyle=":", linewidth=1.0, zorder=1)
    ax.set_xlabel("AUC")
    handles = [
        Line2D([], [], color=_NEW, marker="o", linestyle="none", markersize=6),
        Line2D([], [], color=_NOMINAL, marker="D", linestyle="none", markersize=6, fillstyle="none"),
    ]
    texts = {"without-process": "Trained without it", "little-data": "Trained on little data"}
    figure.legend(
        handles, [texts[test], "Nominal training"], loc="upper left", ncols=2, fontsize=10.5, borderaxespad=0,
        bbox_to_anchor=(min(left, 0.27) - 0.015, 1 - 0.66 / height), handletextpad=0.3,
    )  # fmt: skip
    stamp_high(figure, sample, height, left=min(left, 0.27))
    return figure
