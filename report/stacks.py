"""Stacked histograms of simulation by process, with data, their ratio and signals laid over."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import Any

import hist
import mplhep
import numpy as np
import numpy.typing as npt
from hist.intervals import poisson_interval
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import AutoMinorLocator, EngFormatter, LogLocator, MaxNLocator, NullLocator

from report.mathtext import to_plain
from report.processes import (
    Floats,
    Process,
    Spectrum,
    choose_signals,
    dataset_spectra,
    process_spectrum,
    processes_of,
)
from report.style import ALERT, DATA_COLOR, INK, MUTED, Sample, new_figure, stamp, styled

__all__ = ["Stack", "draw_stack", "garwood_interval", "stack_contents", "stacked"]

_SIGNAL_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))
_BAND: dict[str, Any] = {"facecolor": "none", "edgecolor": "#555555", "hatch": "//////", "linewidth": 0.0}
_LEFT, _WIDTH, _BOTTOM, _TOP = 0.135, 0.828, 0.112, 0.9
_RATIO_HEIGHT, _GAP = 0.185, 0.02


@dataclass(frozen=True)
class Stack:
    """All numbers of one stacked figure; what lies outside the edges is in the first and last bin.

    Attributes:
        edges: bin edges, shape (n + 1,).
        xlabel: label of the variable with its unit in brackets.
        backgrounds: process and spectrum, in rising order of their totals, none of them empty.
        data: the collision data; None where the sample has none.
        signals: process, spectrum at its own normalisation, and the factor it is drawn with.
        blind: the upper edge of what is shown of the data; None shows all.
        held_out: the background is drawn from held-out events only.
        is_score: the variable is a model's score.
    """

    edges: Floats
    xlabel: str
    backgrounds: list[tuple[Process, Spectrum]]
    data: Spectrum | None
    signals: list[tuple[Process, Spectrum, float]] = field(default_factory=list)
    blind: float | None = None
    held_out: bool = False
    is_score: bool = False

    @property
    def total(self) -> Spectrum:
        """The sum of all backgrounds."""
        bins = len(self.edges) - 1
        return sum((spectrum for _, spectrum in self.backgrounds), Spectrum(np.zeros(bins), np.zeros(bins)))

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Bins whose data are shown, shape (n,): all that do not reach beyond the blinding threshold."""
        if self.blind is None:
            return np.ones(len(self.edges) - 1, dtype=bool)
        return _seen(self.edges, self.blind)

    def to_dict(self) -> dict[str, Any]:
        """Everything that is drawn, in plain types, for the file beside the figure; blinded data are null."""

        def plain(spectrum: Spectrum) -> dict[str, list[float]]:
            return {"sumw": spectrum.values.tolist(), "sumw2": spectrum.variances.tolist()}

        content: dict[str, Any] = {
            "variable": to_plain(self.xlabel),
            "edges": self.edges.tolist(),
            "outside": "the first and last bin hold the events outside the edges",
            "held_out_background": self.held_out,
            "background": plain(self.total),
            "backgrounds": {process.key: plain(spectrum) for process, spectrum in self.backgrounds},
            "signals": {
                process.key: {**plain(spectrum), "drawn_times": factor}
                for process, spectrum, factor in self.signals
            },
        }
        if self.data is not None:
            low, high = garwood_interval(self.data.values)
            content["data"] = {
                name: [float(value) if seen else None for value, seen in zip(values, self.shown, strict=True)]
                for name, values in (("events", self.data.values), ("low", low), ("high", high))
            }
            content["data"]["blinded_above"] = self.blind
        return content


def garwood_interval(counts: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Central 68.27 % confidence interval of Poisson means (Garwood, Biometrika 28 (1936) 437).

    Args:
        counts: observed numbers of events, shape (n,).

    Returns:
        Lower and upper ends, each of shape (n,); 0 and 1.84 where nothing was observed.
    """
    low, high = poisson_interval(np.asarray(counts, dtype=np.float64))
    return np.asarray(low), np.asarray(high)


def _overlay_factor(signal: Spectrum, background: Spectrum, *, log: bool) -> float:
    """Power of ten that a signal is drawn with: 1 unless it would be lost at its own normalisation."""
    peak, reference = float(signal.values.max()), float(background.values.max())
    if peak <= 0 or reference <= 0 or background.total <= 0:
        return 1.0
    lost = peak < 1e-7 * reference or peak < 0.05 if log else peak < 0.05 * reference
    if not lost:
        return 1.0
    return float(10.0 ** max(0, floor(log10(background.total / signal.total))))


def stack_contents(
    histogram: hist.Hist,
    datasets: Mapping[str, Mapping[str, Any]],
    *,
    xlabel: str = "",
    log: bool = True,
    signals: Sequence[str] = (),
    max_overlays: int = 4,
    signal_factor: float | None = None,
    blind: float | None = None,
) -> Stack:
    """Sum a histogram over the datasets of each process.

    Args:
        histogram: axes [dataset, (split,) flcomp, variable], storage Weight.
        datasets: metadata of each dataset, as in ``select.json``.
        xlabel: label of the variable; by default that of the histogram's axis.
        log: the stack will be drawn on a logarithmic axis, where few signals need a factor to be seen.
        signals: process names or families laid over; empty chooses.
        max_overlays: largest number of signals when none are named.
        signal_factor: factor on all signals; by default 1, or a power of ten below the background total for
            a signal which could not be seen.
        blind: data in bins that reach beyond this value are not shown.

    Raises:
        InputError: an unknown signal.
        FailureError: the histogram does not fit the datasets.
    """
    edges, spectra = dataset_spectra(histogram, datasets)
    processes = processes_of(datasets)
    sums = {process: process_spectrum(process, spectra, len(edges) - 1) for process in processes}
    backgrounds = [
        (process, spectrum)
        for process, spectrum in sums.items()
        if process.kind == "background" and (spectrum.values.any() or spectrum.variances.any())
    ]
    backgrounds.sort(key=lambda entry: entry[1].total)
    data = [spectrum for process, spectrum in sums.items() if process.kind == "data"]
    stack = Stack(
        edges=edges,
        xlabel=xlabel or histogram.axes[-1].label or histogram.axes[-1].name,
        backgrounds=backgrounds,
        data=_unblinded(data[0], edges, blind) if data else None,
        blind=blind,
        held_out="split" in [axis.name for axis in histogram.axes],
        is_score=histogram.axes[-1].name == "score",
    )
    total = stack.total
    totals = {process.key: sums[process].total for process in processes if process.kind == "signal"}
    for process in choose_signals(processes, totals, wanted=signals, largest_number=max_overlays):
        if sums[process].values.any():
            factor = signal_factor or _overlay_factor(sums[process], total, log=log)
            stack.signals.append((process, sums[process], factor))
    return stack


def _unblinded(data: Spectrum, edges: Floats, blind: float | None) -> Spectrum:
    """The data that are shown: of the others not even the range of an axis may tell."""
    if blind is None or _seen(edges, blind)[-1]:
        return data
    kept = np.where(_seen(edges, blind), [data.values, data.variances], 0.0)
    return Spectrum(kept[0], kept[1], data.underflow)


def _seen(edges: Floats, blind: float) -> npt.NDArray[np.bool_]:
    """Bins that do not reach beyond the blinding threshold, shape (n,)."""
    return np.asarray(edges[1:] <= blind + 1e-12 * max(1.0, abs(blind)))


def _geometric(edges: Floats) -> bool:
    """Edges that grow by a constant factor are drawn on a logarithmic axis."""
    return bool(edges[0] > 0 and len(edges) > 3 and np.allclose(edges[1:] / edges[:-1], edges[1] / edges[0]))


def _event_scale(edges: Floats, xlabel: str) -> tuple[Floats, str]:
    """Factor per bin from contents to heights, and the y label that is honest about bin widths."""
    widths = np.diff(edges)
    if _geometric(edges):
        return np.ones_like(widths), "Events / bin"
    found = re.search(r"\[([^\]]+)\]\s*$", xlabel)
    unit = f" {found[1]}" if found else ""
    if np.allclose(widths, widths[0], rtol=1e-6):
        if not unit and np.isclose(widths[0], 1.0):
            return np.ones_like(widths), "Events"
        return np.ones_like(widths), f"Events / {widths[0]:.3g}{unit}"
    return 1.0 / widths, f"Events /{unit}" if unit else "Events / unit"


def _legend_entries(stack: Stack, sample: Sample) -> tuple[list[Any], list[str]]:
    """Handles and labels: data, the stack from its top down, its uncertainty, the signals."""
    handles: list[Any] = []
    labels: list[str] = []
    if stack.data is not None:
        dot = Line2D([], [], color=DATA_COLOR, marker="o", markersize=4.5, linestyle="none")
        handles.append(dot)
        labels.append("Pseudo-data" if sample.kind == "demo-simulation" else "Data")
    for process, _ in reversed(stack.backgrounds):
        handles.append(Patch(facecolor=process.color, edgecolor=INK, linewidth=0.4))
        labels.append(process.label)
    if stack.backgrounds:
        handles.append(Patch(**_BAND))
        labels.append("MC stat. uncertainty")
    for number, (process, _, factor) in enumerate(stack.signals):
        handles.append(
            Line2D([], [], color=process.color, linestyle=_SIGNAL_DASHES[number % 4], linewidth=1.8)
        )
        labels.append(process.label + ("" if factor == 1 else f" \u00d7 {_factor_text(factor)}"))
    return handles, labels


def _factor_text(factor: float) -> str:
    """Write the factor of an overlay: 10, 100, then powers of ten."""
    exponent = log10(factor)
    if factor >= 1000 and exponent == round(exponent):
        return rf"$10^{{{round(exponent)}}}$"
    return f"{factor:g}"


def _legend(figure: Figure, ax: Axes, stack: Stack, sample: Sample) -> float:
    """Put the legend at the top of the frame.

    Returns:
        The fraction of the height of the axes that it leaves free below.
    """
    handles, labels = _legend_entries(stack, sample)
    if not labels:
        return 0.95
    longest = max(len(to_plain(label)) for label in labels)
    columns = 3 if longest <= 17 and len(labels) > 6 else 2
    rows = ceil(len(labels) / columns)
    size = 10.5 if rows <= 6 and longest <= 30 else 9.5 if longest <= 36 else 8.5
    legend = ax.legend(
        handles, labels, loc="upper left", ncols=columns, fontsize=size, mode="expand",
        bbox_to_anchor=(0.015, 0.0, 0.97, 0.985), borderaxespad=0,
    )  # fmt: skip
    # Rows with indices above each other are higher: their height must be measured.
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]  # matplotlib has no type
    lower_end = legend.get_window_extent(renderer).y0
    return float((lower_end - ax.bbox.y0) / ax.bbox.height) - 0.02


def _set_log_range(ax: Axes, stack: Stack, heights: Floats, free: float) -> float:
    """Choose the range of a logarithmic axis so that everything drawn stays below the legend.

    Returns:
        The lower limit, which a negative or empty bin is drawn at.
    """
    wanted = [0.5 * stack.total.values * heights]
    if stack.data is not None:
        wanted.append(0.5 * stack.data.values * heights)
    curves = [spectrum for _, spectrum in stack.backgrounds]
    curves += [spectrum.scaled(factor) for _, spectrum, factor in stack.signals]
    wanted += [np.array([0.1 * float((spectrum.values * heights).max())]) for spectrum in curves]
    everything = np.concatenate(wanted)
    positive = everything[everything > 0]
    top = _highest(stack, heights)
    if not len(positive) or top <= 0:
        ax.set(yscale="log", ylim=(0.1, 10.0))
        return 0.1
    # Down to the smallest thing drawn, but not beyond what anyone would look at.
    least = max(top * 1e-8, min(0.01 * float(heights.min()), top * 1e-3))
    low = 10.0 ** floor(log10(max(positive.min(), least)) + 1e-9)
    # The legend covers the top of the frame: what is drawn ends at this fraction of the (log) height.
    span = (log10(top * 1.2) - log10(low)) / free
    ax.set(yscale="log", ylim=(low, low * 10.0**span))
    ax.yaxis.set_major_locator(LogLocator(numticks=9))
    ax.yaxis.set_minor_locator(
        LogLocator(subs=tuple(range(2, 10)), numticks=90) if span < 5 else NullLocator()
    )
    return float(low)


def _highest(stack: Stack, heights: Floats) -> float:
    """The highest thing drawn: background with its error, data with their bars, signals with their factor."""
    total = stack.total
    tops = [total.values + np.sqrt(total.variances)]
    if stack.data is not None:
        tops.append(
            np.where(stack.shown & (stack.data.values > 0), garwood_interval(stack.data.values)[1], 0.0)
        )
    tops += [spectrum.values * factor for _, spectrum, factor in stack.signals]
    return float(max((heights * top).max() for top in tops))


def _draw_data(ax: Axes, stack: Stack, scale: Floats) -> None:
    """Draw data divided by ``scale``, shape (n,), with Garwood bars; empty bins and ``scale`` 0 are left out."""
    if stack.data is None:
        return
    counts = stack.data.values
    low, high = garwood_interval(counts)
    seen = stack.shown & (scale > 0) & (counts > 0)
    divisor = np.where(seen, scale, np.nan)
    centres = 0.5 * (stack.edges[1:] + stack.edges[:-1])
    ax.errorbar(
        centres,
        counts / divisor,
        yerr=[(counts - low) / divisor, (high - counts) / divisor],
        fmt="o",
        color=DATA_COLOR,
        markersize=3.8,
        elinewidth=1.0,
        zorder=6,
    )


def _draw_main(ax: Axes, stack: Stack, heights: Floats) -> None:
    """Draw the stack, its statistical band, the signals and the data."""
    if stack.backgrounds:
        mplhep.histplot(
            [spectrum.values * heights for _, spectrum in stack.backgrounds],
            bins=stack.edges,
            stack=True,
            histtype="fill",
            color=[process.color for process, _ in stack.backgrounds],
            edgecolor=INK,
            linewidth=0.4,
            flow="none",
            ax=ax,
        )
        total = stack.total
        error = np.sqrt(total.variances)
        ax.stairs(
            (total.values + error) * heights,
            stack.edges,
            baseline=(total.values - error) * heights,
            fill=True,
            zorder=3,
            **_BAND,
        )
    for number, (process, spectrum, factor) in enumerate(stack.signals):
        dashes = _SIGNAL_DASHES[number % 4]
        ax.stairs(
            spectrum.values * heights * factor,
            stack.edges,
            baseline=None,
            color="white",
            linewidth=3.2,
            zorder=4,
        )
        ax.stairs(
            spectrum.values * heights * factor,
            stack.edges,
            baseline=None,
            color=process.color,
            linestyle=dashes,
            linewidth=1.8,
            zorder=5,
        )
    _draw_data(ax, stack, 1.0 / heights)


def _draw_ratio(ax: Axes, stack: Stack) -> None:
    """Draw data over simulation, and the statistical error of the simulation around one."""
    total = stack.total
    expected = np.where(total.values > 0, total.values, np.nan)
    relative = np.sqrt(total.variances) / expected
    known = np.isfinite(relative)
    ax.stairs(
        np.where(known, 1 + relative, 1.0),
        stack.edges,
        baseline=np.where(known, 1 - relative, 1.0),
        fill=True,
        **_BAND,
    )
    ax.axhline(1.0, color=INK, linewidth=0.8, zorder=1)
    _draw_data(ax, stack, np.nan_to_num(expected))
    low, high = 0.5, 1.5
    if stack.data is not None:
        low, high = _draw_extremes(ax, stack, stack.data.values, expected)
    ax.set_ylim(low, high)
    ax.yaxis.set_major_locator(MaxNLocator(4, prune="both"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylabel("Data / MC", loc="center", fontsize=12)


def _draw_extremes(ax: Axes, stack: Stack, counts: Floats, expected: Floats) -> tuple[float, float]:
    """Choose the range of the ratio, and point at what lies outside with a triangle at the edge.

    An empty bin in which the simulation expects at least one event is a ratio of zero, with its upper bar.

    Returns:
        The smallest range that agrees with nine tenths of the data.
    """
    lower, upper = garwood_interval(counts)
    seen = stack.shown & (expected > 0) & ((counts > 0) | (expected >= 1.0))
    ratio = np.where(seen, counts / expected, np.nan)
    for low, high in ((0.5, 1.5), (0.0, 2.0), (0.0, 4.0)):
        outside = (lower / expected > high) | (upper / expected < low)
        if outside[seen].sum() <= 0.1 * seen.sum():
            break
    centres = 0.5 * (stack.edges[1:] + stack.edges[:-1])
    empty = seen & (counts == 0)
    ax.vlines(centres[empty], 0.0, upper[empty] / expected[empty], color=DATA_COLOR, linewidth=1.0, zorder=6)
    inset = 0.06 * (high - low)
    for beyond, level, marker in ((ratio > high, high - inset, "^"), (ratio <= low, low + inset, "v")):
        ax.plot(
            centres[beyond], np.full(int(beyond.sum()), level), marker, color=ALERT, markersize=4.5, zorder=7
        )
    return low, high


def _shown_range(stack: Stack) -> tuple[float, float]:
    """The range of the axis that is drawn: without long empty ends.

    A score has no natural range: it is drawn where it has events, with one bin more on each side. Another
    variable is cut only above, and only where more than a third of the axis would be empty.
    """
    contents = [stack.total, *(spectrum for _, spectrum, _ in stack.signals)]
    if stack.data is not None:
        contents.append(stack.data)
    used = np.flatnonzero(np.any([spectrum.variances > 0 for spectrum in contents], axis=0))
    bins = len(stack.edges) - 1
    if not len(used):
        return float(stack.edges[0]), float(stack.edges[-1])
    first, last = (max(int(used[0]) - 1, 0), min(int(used[-1]) + 2, bins))
    if not stack.is_score:
        first, last = 0, bins if last > 2 * bins / 3 else last
    return float(stack.edges[first]), float(stack.edges[last])


def _notes(stack: Stack) -> str:
    """What must be said inside the frame: events outside the edges."""
    everything = [spectrum for _, spectrum in stack.backgrounds] + [entry[1] for entry in stack.signals]
    if stack.data is not None:
        everything.append(stack.data)
    under = any(spectrum.underflow for spectrum in everything)
    over = any(spectrum.overflow for spectrum in everything)
    if under and over:
        return "First and last bin include under- and overflow"
    if over:
        return "Last bin includes overflow"
    return "First bin includes underflow" if under else ""


def _shade_blinded(ax: Axes, stack: Stack, *, text: bool) -> None:
    """Shade the region in which data are not shown."""
    if stack.blind is None or stack.data is None or stack.shown.all():
        return
    hidden = stack.edges[:-1][~stack.shown]
    ax.axvspan(hidden[0], stack.edges[-1], color=MUTED, alpha=0.13, linewidth=0, zorder=0.5)
    if text:
        middle = 0.5 * (hidden[0] + ax.get_xlim()[1])
        ax.text(
            middle, 0.06, "data blinded", transform=ax.get_xaxis_transform(), color=ALERT, fontsize=10.5,
            ha="center", va="bottom", zorder=8, bbox={"facecolor": "white", "linewidth": 0, "alpha": 0.8, "pad": 1},
        )  # fmt: skip


@styled
def draw_stack(stack: Stack, *, sample: Sample, log: bool = True, ratio: bool = True) -> Figure:
    """Draw a stacked histogram.

    Args:
        stack: the numbers, from :func:`stack_contents`.
        sample: what they were made from, written above the frame.
        log: logarithmic y axis.
        ratio: draw data over simulation below; only where there are both.
    """
    ratio = ratio and stack.data is not None and bool(stack.backgrounds)
    figure = new_figure()
    bottom = _BOTTOM + (_RATIO_HEIGHT + _GAP if ratio else 0.0)
    ax = figure.add_axes((_LEFT, bottom, _WIDTH, _TOP - bottom))
    heights, ylabel = _event_scale(stack.edges, stack.xlabel)
    _draw_main(ax, stack, heights)
    free = _legend(figure, ax, stack, sample)
    if log:
        _set_log_range(ax, stack, heights, free)
    else:
        lowest_content = float((stack.total.values * heights).min())
        ax.set_ylim(min(0.0, 1.2 * lowest_content), _highest(stack, heights) / free * 1.05 or 1.0)
        ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_ylabel(ylabel)
    ax.set_xlim(*_shown_range(stack))
    _shade_blinded(ax, stack, text=not ratio)
    lowest = ax
    if ratio:
        lowest = figure.add_axes((_LEFT, _BOTTOM, _WIDTH, _RATIO_HEIGHT), sharex=ax)
        _draw_ratio(lowest, stack)
        _shade_blinded(lowest, stack, text=True)
        ax.tick_params(labelbottom=False)
    lowest.set_xlabel(stack.xlabel)
    # A tick costs a millisecond in each format: few minor ones keep a page of figures quick.
    if _geometric(stack.edges):
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_minor_locator(AutoMinorLocator(2))
    figure.text(_LEFT - 0.115, 0.018, _notes(stack), fontsize=9, color=MUTED, ha="left")
    figure.align_ylabels()
    stamp(ax, sample, subtitle="background: held-out events" if stack.held_out else "")
    return figure


def stacked(
    histogram: hist.Hist,
    datasets: Mapping[str, Mapping[str, Any]],
    *,
    sample: Sample,
    xlabel: str = "",
    log: bool = True,
    signals: Sequence[str] = (),
    signal_factor: float | None = None,
    ratio: bool = True,
    blind: float | None = None,
) -> Figure:
    """Stack a histogram by process and draw it: :func:`stack_contents`, then :func:`draw_stack`."""
    contents = stack_contents(
        histogram, datasets, xlabel=xlabel, log=log, signals=signals, signal_factor=signal_factor, blind=blind
    )
    return draw_stack(contents, sample=sample, log=log, ratio=ratio)
