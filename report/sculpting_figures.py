"""Figures of masses behind a cut on the score: shapes before and after, and the hunt for bumps."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from report.numbers import significant
from report.power import stamp_across
from report.processes import Floats
from report.stacks import garwood_interval
from report.style import DATA_COLOR, INK, MUTED, Sample, new_figure, stamp, styled

__all__ = ["MASS_LABELS", "draw_hunt", "draw_mass_shapes", "drawable", "probability_text"]

MASS_LABELS: Final = {
    "mll": r"$m_{\ell\ell}$",
    "mlll": r"$m_{\ell\ell\ell}$",
    "mt": r"$m_{T}$",
    "meff": r"$m_{eff}$",
}
_CUT_COLORS: Final = {"1e-1": "#56B4E9", "1e-2": "#0072B2", "1e-3": "#D55E00", "1e-4": "#CC79A7"}
_FEWEST_IN_BIN: Final = 2.0  # effective events per bin on average, below which a shape is no picture
_WINDOW_COLOR: Final = "#E69F00"
_RATIO_SPAN: Final = 30.0


def probability_text(p: Mapping[str, Any]) -> str:
    """A probability from pseudo-experiments; where none was so extreme, the limit "< 1/N"."""
    return f"< 1/{p['toys']}" if p["limit"] else significant(float(p["value"]), 2)


def _mathtext(text: str) -> str:
    """Superscript digits as mathtext: the fonts of figures do not have them."""
    plain = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    return re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: f"$^{{{found[0].translate(plain)}}}$", text)


def _gev_axis(ax: Axes, edges: Floats) -> None:
    """A logarithmic axis of masses with numbers that are read at a glance."""
    ax.set(xscale="log", xlim=(edges[0], edges[-1]))
    ticks = [
        x * 10.0**n for n in range(-1, 5) for x in (1, 2, 5) if edges[0] <= x * 10.0**n <= edges[-1] / 1.15
    ]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _power_of_ten(key: str) -> str:
    return rf"10$^{{-{key.rpartition('-')[2]}}}$"


def _shown(edges: Floats) -> Floats:
    """Edges as a logarithmic axis can show them: the outermost bins are cut, they reach to the last event."""
    shown = edges.copy()
    shown[0] = max(edges[0], edges[1] / 4)
    shown[-1] = min(edges[-1], edges[-2] * 4)
    return shown


def drawable(n_eff: float, shape: Mapping[str, Any]) -> bool:
    """Whether a shape has effective events enough to be looked at, about two in each bin."""
    return shape["drawn"] is not None and n_eff >= _FEWEST_IN_BIN * len(shape["drawn"]["share"])


@styled
def draw_mass_shapes(
    mass: str,
    uncut: Mapping[str, Any],
    shapes: Sequence[tuple[str, Sequence[tuple[str, Mapping[str, Any]]]]],
    *,
    sample: Sample,
) -> Figure:
    """Draw the shape of one mass before and after cuts, and their ratio: one column for each score.

    Args:
        mass: its name.
        uncut: `edges`, `share` and `error` of the background before any cut, as drawn.
        shapes: for each score what it is called, and for each cut its background efficiency and shape; those with
            too few events (`drawable`) are left out before.
        sample: what the figure was made from.
    """
    height, width = 5.6, 4.45 * len(shapes) + 0.55
    figure = new_figure(width, height)
    axes = figure.subplots(
        2, len(shapes), sharex=True, sharey="row", squeeze=False, gridspec_kw={"height_ratios": (2.3, 1)}
    )
    left = 0.85 / width
    figure.subplots_adjust(left=left, right=0.98, bottom=0.115, top=0.885, hspace=0.07, wspace=0.05)
    edges = np.asarray(uncut["edges"])
    density, shown = 1 / np.diff(edges), _shown(edges)
    share, error = (np.asarray(uncut[name]) for name in ("share", "error"))
    drawn = [share * density]
    for (title, cuts), (top, bottom) in zip(shapes, axes.T, strict=True):
        top.stairs(share * density, shown, fill=True, color="#d6d9dd", baseline=1e-12, zorder=1)
        top.stairs(share * density, shown, baseline=None, color=MUTED, linewidth=1.0, zorder=2)
        relative = np.divide(error, share, out=np.zeros_like(share), where=share > 0)
        _band(bottom, shown, 1 - relative, 1 + relative, MUTED)
        bottom.axhline(1.0, color=MUTED, linewidth=1.0, zorder=2)
        handles: list[Any] = [Patch(facecolor="#d6d9dd", edgecolor=MUTED)]
        texts = ["no cut"]
        for key, shape in cuts:
            color = _CUT_COLORS[key]
            values, errors, ratio, ratio_error = (
                np.asarray(shape["drawn"][name]) for name in ("share", "error", "ratio", "ratio_error")
            )
            drawn.append(values[values > 0] * density[values > 0])
            _band(top, shown, (values - errors) * density, (values + errors) * density, color)
            top.stairs(values * density, shown, baseline=None, color=color, zorder=4)
            _band(bottom, shown, ratio - ratio_error, ratio + ratio_error, color)
            bottom.stairs(ratio, shown, baseline=None, color=color, zorder=4)
            handles.append(Line2D([], [], color=color, linewidth=2))
            distance = f"{significant(shape['jsd'], 2)} bit ({significant(shape['expected'], 2)} by chance)"
            texts.append(rf"$\varepsilon_{{B}}$ = {_power_of_ten(key)}:  {_mathtext(distance)}")
        top.legend(
            handles, texts, loc="upper right", fontsize=9.5, title=title,
            title_fontproperties={"size": 10.5}, alignment="left",
        )  # fmt: skip
        bottom.set_xlabel(f"{MASS_LABELS[mass]} [GeV]")
    first, below = axes[:, 0]
    everything = np.concatenate(drawn)
    low, high = float(everything.min()) / 2, float(everything.max())
    # A third of the height is left to the legend.
    for ax in axes[1]:
        _gev_axis(ax, shown)
    first.set(yscale="log", ylim=(low, high * (high / low) ** 0.62))
    first.set_ylabel("Fraction of events / GeV")
    below.set(yscale="log", ylim=(1 / _RATIO_SPAN, _RATIO_SPAN))
    below.set_ylabel("Ratio to no cut", loc="center", fontsize=10.5)
    below.yaxis.set_major_locator(LogLocator(numticks=5))
    for axis in (first.yaxis, below.yaxis):
        axis.set_minor_formatter(NullFormatter())
    below.yaxis.set_minor_locator(NullLocator())
    stamp_across(figure, axes[0, 0], axes[0, -1], sample, "background: held-out events")
    figure.align_ylabels()
    return figure


def _band(ax: Axes, edges: Floats, low: Floats, high: Floats, color: str) -> None:
    ax.fill_between(
        edges, np.append(low, low[-1]), np.append(high, high[-1]), step="post", color=color, alpha=0.28,
        linewidth=0, zorder=3,
    )  # fmt: skip


@styled
def draw_hunt(mass: str, hunt: Mapping[str, Any], *, key: str, observed: str, sample: Sample) -> Figure:
    """Draw events behind a cut against what is expected, with the most significant window.

    Args:
        mass: its name.
        hunt: what was found in it.
        key: background efficiency of the cut.
        observed: what was hunted in: "collision data" or "background-only pseudo-data".
        sample: what the figure was made from.
    """
    height = 5.6
    figure = new_figure(6.0, height)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (2.3, 1)})
    figure.subplots_adjust(left=0.15, right=0.97, bottom=0.115, top=0.885, hspace=0.07)
    edges, events, expected, error = (
        np.asarray(hunt[name]) for name in ("edges", "observed", "expected", "error")
    )
    width, shown = np.diff(edges), _shown(edges)
    centre = np.sqrt(shown[1:] * shown[:-1])
    top.stairs(expected / width, shown, fill=True, color="#cfe3f3", baseline=1e-12, zorder=1)
    top.stairs(expected / width, shown, baseline=None, color="#0072B2", linewidth=1.2, zorder=2)
    _band(top, shown, (expected - error) / width, (expected + error) / width, INK)
    filled = events > 0
    interval = np.abs(np.array(garwood_interval(events)) - events)
    top.errorbar(
        centre[filled], (events / width)[filled],
        yerr=(interval / width)[:, filled], fmt="o", color=DATA_COLOR, markersize=4,
        elinewidth=1.0, zorder=5,
    )  # fmt: skip
    window = hunt["window"]
    for ax in (top, bottom):
        ax.axvspan(
            max(window["low"], shown[0]), min(window["high"], shown[-1]), color=_WINDOW_COLOR, alpha=0.3,
            linewidth=0, zorder=0.5,
        )  # fmt: skip
    spread = np.sqrt(expected + error**2)
    pull = np.divide(events - expected, spread, out=np.zeros_like(spread), where=spread > 0)
    bottom.stairs(pull, shown, fill=True, color="#7f868e", baseline=0.0, zorder=2)
    bottom.axhline(0.0, color=INK, linewidth=0.8, zorder=3)
    reach = max(3.4, 1.15 * float(np.abs(pull).max()))
    bottom.set(ylim=(-reach, reach), ylabel="Deviation", xlabel=f"{MASS_LABELS[mass]} [GeV]")
    positive = np.concatenate([(expected / width)[expected > 0], (events / width)[filled]])
    low, high = float(positive.min()) / 3, float(positive.max())
    _gev_axis(bottom, shown)
    top.set(yscale="log", ylim=(low, high * (high / low) ** 0.5))
    top.set_ylabel("Events / GeV")
    top.yaxis.set_minor_formatter(NullFormatter())
    found = (
        f"{significant(window['low'])}–{significant(window['high'])} GeV: "
        f"{window['observed']:.0f} events, {significant(window['expected'])} ± "
        f"{significant(window['expected_error'], 2)} expected"
    )
    handles: list[Any] = [
        Line2D([], [], color=DATA_COLOR, marker="o", linestyle="none", markersize=4),
        (Patch(facecolor="#cfe3f3", edgecolor="#0072B2")),
        Patch(facecolor=_WINDOW_COLOR, alpha=0.3),
    ]
    data = "Pseudo-data" if sample.kind == "demo-simulation" else "Data"
    name = data if observed == "collision data" else "Drawn from the background"
    probability = f"local p = {significant(hunt['local_p'], 2)}, global p {_equal(hunt['global_p'])}"
    top.legend(
        handles, [name, "Expected background, of as many events", _mathtext(f"{found}\n{probability}")],
        loc="upper left", fontsize=9.5,
    )  # fmt: skip
    subtitle = rf"score cut at $\varepsilon_{{B}}$ = {_power_of_ten(key)}"
    stamp(top, sample, subtitle=subtitle)
    figure.align_ylabels()
    return figure


def _equal(p: Mapping[str, Any]) -> str:
    text = probability_text(p)
    return text if p["limit"] else f"= {text}"
