"""Expected significances and limits on the page: what a cut, or a fit of the score, could find."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from report.gallery import Region, region_drawing
from report.mathtext import to_html, to_plain
from report.numbers import count, measurement, significant
from report.pictures import Drawing
from report.power import signal_name, variable_label
from report.processes import Process, processes_of
from report.sections import Section, of_region
from report.style import ALERT, INK, MUTED, Sample, new_figure, stamp, styled
from report.tables import Cell, Table

__all__ = ["draw_limits", "draw_scan", "significance_section"]

_SCORE_COLOR = "#0072B2"
_KNOWN_COLOR = "#D55E00"
_ONE_SIGMA, _TWO_SIGMA = "#5fb99b", "#f3e77c"
_PANELS = 8
_ROWS = 24
_HELD_OUT = "expected, background: held-out events"


def significance_section(output: Path, region: Region) -> Section | None:
    """What could be found in a region at its luminosity; None where the stage was not run.

    Args:
        output: directory of the whole analysis, with significance.json.
        region: whose signals and labels these are.
    """
    found = of_region(output, "significance", region.name)
    if not found:
        return None
    processes = processes_of(region.datasets)
    signals: Mapping[str, Mapping[str, Any]] = found["signals"]
    names = {key: signal_name(key, entry, processes) for key, entry in signals.items()}
    tables = [_cuts_table(region.name, found)]
    if signals:
        tables.append(_signals_table(region.name, found, names, processes))
        tables.append(_limits_table(region.name, found, names, processes))
    return Section(
        key="significance",
        title="Expected significance and limits",
        text=_text(found),
        tables=tables,
        drawings=[*_scan_drawings(region, found, names), *_limit_drawings(region, found, names)],
    )


def _percent(part: float) -> str:
    return f"{significant(100 * part, 2)} %"


def _power(key: str) -> str:
    """10⁻² of "1e-2"."""
    return f"10<sup>\u2212{key.removeprefix('1e-')}</sup>"


def _text(found: Mapping[str, Any]) -> str:
    tightest, systematic = found["tightest"], _percent(found["systematic"])
    if tightest is None:
        first = (
            "No cut of the stated background efficiencies leaves ten effective background events: the simulation is "
            "too small for any significance."
        )
    else:
        cut = found["cuts"][tightest]
        first = (
            f"The tightest of the stated cuts that the simulation supports keeps {_power(tightest)} of the background: "
            f"{measurement(cut['b'], cut['b_error'])} events, from {significant(cut['n_eff'])} effective ones."
        )
    failed = [entry for entry in found["signals"].values() if entry["limit"]["status"] == "failed"]
    few = [entry for entry in found["signals"].values() if entry["limit"].get("few_events")]
    remarks = ""
    if failed:
        number = f"{count(len(failed))} signal{'s' * (len(failed) > 1)}"
        remarks += f" <strong>The fit failed for {number}</strong>, named in the table."
    if few:
        remarks += (
            " Limits marked * correspond to fewer than five signal events, where the asymptotic formulae are too "
            "optimistic: without any background they give 1.9 events in place of 3.0."
        )
    bins = len(found["limits"].get("background", []))
    limits = (
        "<p>Limits are expected CLs upper limits at 95 % confidence on μ, the factor on each signal's cross section, "
        f"from a fit of all bins of the score with pyhf: each of {bins} bins has "
        f"at least {significant(found['limits'].get('min_effective', 0), 2)} effective background events (bins are "
        "merged from the high scores, background alone decides), and its own uncertainty of statistics and "
        f"{systematic}{_variations(found)}.{remarks}</p>"
    )
    return (
        f"<p>{first} Everything here is expected: collision data take no part.</p>"
        f"<p>The cut on the score of the model {to_html(found['model'])} is chosen on background alone. Background is "
        "that of the held-out events, scaled to the whole luminosity; the error of so few events, and a systematic "
        f"uncertainty of {systematic}, enter the significance Z<sub>A</sub> (Cowan 2012, eq. 20, Asimov data with an "
        "uncertain background). Where fewer than ten effective background events are left, or less background than a "
        "typical event of the heaviest sample weighs, nothing is claimed. The best "
        "variable beside it is chosen for each signal with knowledge of it, and so is the best of the scanned cuts: "
        "what a search for anomalies may claim is the columns of the stated cuts.</p>"
        + (limits if bins else "")
    )


def _variations(found: Mapping[str, Any]) -> str:
    names = [name.removesuffix("Up") for name in found["limits"].get("variations", [])]
    return f"; the variations {', '.join(names)} move all bins together" if names else ""


def _cell(value: float | None, error: float | None = None, *, strong: bool = False, mark: str = "") -> Cell:
    """A number, or a dash for what statistics do not support."""
    if value is None:
        return Cell("\u2013", None)
    return Cell(measurement(value, error) + mark, value, error, strong=strong)


def _short(value: float | None) -> Cell:
    return Cell("\u2013" if value is None else significant(value), value)


def _name_cell(key: str, names: Mapping[str, str], processes: Sequence[Process]) -> Cell:
    colors = {process.key: process.color for process in processes if process.kind == "signal"}
    return Cell(to_html(names[key]), to_plain(names[key]), color=colors.get(key, ""))


def _cuts_table(region: str, found: Mapping[str, Any]) -> Table:
    rows = [
        [
            Cell(_power(key), cut["eps_b"], strong=key == found["tightest"]),
            _short(cut["score"]),
            _cell(cut["b"], cut["b_error"]),
            _short(cut["b_uncertainty"]),
            _short(cut["n_eff"]),
            Cell(supported := "yes" if cut["supported"] else "no", supported),
        ]
        for key, cut in found["cuts"].items()
    ]
    return Table(
        name=f"{region}_significance_cuts",
        caption="Cuts on the score, chosen on background alone: expected background above them with its statistical "
        f"error, the uncertainty with {_percent(found['systematic'])} systematic beside it, and the effective number "
        "of held-out events behind it.",
        columns=["ε<sub>B</sub>", "Score", "b ± stat.", "σ<sub>b</sub>", "n<sub>eff</sub>", "Supported"],
        rows=rows,
    )


def _signals_table(
    region: str, found: Mapping[str, Any], names: Mapping[str, str], processes: Sequence[Process]
) -> Table:
    tightest = found["tightest"]
    rows = []
    for key, entry in found["signals"].items():
        row = [_name_cell(key, names, processes), _cell(entry["sumw"], entry["sumw_error"])]
        row += [
            _cell(cut["z"], cut["z_error"], strong=name == tightest) for name, cut in entry["cuts"].items()
        ]
        at = entry["cuts"].get(tightest, {})
        row += [
            _cell(at.get("s"), at.get("s_error")),
            *(_short(at.get(name)) for name in ("z_statistical", "z_without", "s_over_sqrt_b")),
        ]
        variable = at.get("variable")
        if variable:
            label = f" <small>{to_html(variable_label(variable['name']))}</small>"
            row.append(_cell(variable["z"], variable["z_error"], mark=label))
        else:
            row.append(_cell(None))
        best = entry["best"]
        where = f" <small>at {significant(best['eps_b'], 2)}</small>" if best else ""
        row.append(_cell(best and best["z"], best and best["z_error"], mark=where))
        rows.append(row)
    at_tightest = f"at {_power(tightest)}:<br>" if tightest else ""
    return Table(
        name=f"{region}_significance",
        caption="Expected significance of each signal in standard deviations, with the background's statistical and "
        f"{_percent(found['systematic'])} systematic uncertainty; its error is that of both samples' statistics. At "
        "the tightest supported cut also with the statistical uncertainty alone, with a background that is known, and "
        "s/√b. The best variable (at the same background efficiency) and the best scanned cut are chosen with "
        "knowledge of the signal.",
        columns=[
            "Signal",
            "Expected events",
            *(f"Z<sub>A</sub> at<br>ε<sub>B</sub> = {_power(key)}" for key in found["cuts"]),
            *(
                f"{at_tightest}{head}"
                for head in ("s", "Z<sub>A</sub>, stat.", "Z<sub>A</sub>, b known", "s/√b", "best variable")
            ),
            "Best cut<br>of the scan",
        ],
        rows=rows,
    )


_BANDS = {"minus2": "\u22122σ", "minus1": "\u22121σ", "plus1": "+1σ", "plus2": "+2σ"}


def _limits_table(
    region: str, found: Mapping[str, Any], names: Mapping[str, str], processes: Sequence[Process]
) -> Table:
    rows = []
    for key, entry in found["signals"].items():
        limit = entry["limit"]
        row = [
            _name_cell(key, names, processes),
            _cell(limit.get("median"), limit.get("error"), mark=" *" if limit.get("few_events") else ""),
        ]
        row += [_short(limit.get(band)) for band in _BANDS]
        row += [_short(limit.get("without_systematic")), _short(limit.get("events"))]
        remark = {"fitted": "", "no signal": "no signal"}.get(limit["status"], "fit failed")
        reason = f" <small>{to_html(limit['reason'])}</small>" if limit["reason"] else ""
        row.append(Cell(remark + reason, remark, strong=limit["status"] == "failed"))
        rows.append(row)
    return Table(
        name=f"{region}_limits",
        caption="Expected upper limits on the strength μ of each signal, 95 % confidence (CLs, asymptotic), where the "
        "background is as expected and where it fluctuates by one and two standard deviations. The error is that of "
        "the signal's statistics. The last numbers are the limit without the systematic uncertainty and the signal "
        "events that the limit stands for.",
        columns=[
            "Signal", "μ<sub>95</sub>", *_BANDS.values(), "μ<sub>95</sub>, no syst.", "Events at μ<sub>95</sub>",
            "Remark",
        ],
        rows=rows,
    )  # fmt: skip


def _scan_drawings(region: Region, found: Mapping[str, Any], names: Mapping[str, str]) -> list[Drawing]:
    """Scans of the signals of largest significance, eight to a figure."""
    known = [(key, entry) for key, entry in found["signals"].items() if entry["best"] is not None]
    most = region.settings.max_power_figures
    chosen = {key for key, _ in sorted(known, key=lambda item: -item[1]["best"]["z"])[:most]}
    drawn = [(names[key], entry["scan"]) for key, entry in known if key in chosen]
    left_out = f" (the {len(drawn)} of largest significance)" if len(drawn) < len(known) else ""
    drawings = []
    for number, start in enumerate(range(0, len(drawn), _PANELS)):
        part = drawn[start : start + _PANELS]
        drawings.append(
            region_drawing(
                region,
                name="significance_scan" + (f"_{number + 1}" if number else ""),
                title=f"Expected significance along the cut on the score{left_out}",
                alt="Expected significance against background efficiency with its statistical band, for "
                f"{', '.join(to_plain(name) for name, _ in part)}.",
                draw=partial(
                    draw_scan, found["scan"], part, sample=region.sample, systematic=found["systematic"],
                    fewest=found["min_effective"],
                ),
                data={"scan": found["scan"], "signals": {to_plain(name): scan for name, scan in part}},
            )
        )  # fmt: skip
    return drawings


def _curve(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


@styled
def draw_scan(
    scan: Mapping[str, Sequence[float]],
    signals: Sequence[tuple[str, Mapping[str, Sequence[float | None]]]],
    *,
    sample: Sample,
    systematic: float,
    fewest: float,
) -> Figure:
    """Draw the expected significance of signals along the cut, one panel each.

    Args:
        scan: cuts: "eps_b" falling, "n_eff".
        signals: label, and "z", "z_error", "z_without" and "s_over_sqrt_b" at each cut; at least one.
        sample: what the figure was made from.
        systematic: relative uncertainty of the background.
        fewest: effective background events below which nothing is claimed.
    """
    eps_b, supported = np.asarray(scan["eps_b"]), np.asarray(scan["n_eff"]) >= fewest
    lowest = min(1e-4, float(eps_b[supported].min()) if supported.any() else 1.0)
    columns = min(2, len(signals))
    rows = ceil(len(signals) / columns)
    height = 1.75 + 1.85 * rows
    figure = new_figure(7.2, height)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    figure.subplots_adjust(
        left=0.13, right=0.975, bottom=0.62 / height, top=1 - 1.05 / height, wspace=0.22, hspace=0.12
    )
    for panel, (label, curves) in zip(axes.flat, signals, strict=False):
        _draw_curves(panel, eps_b, supported, curves, label)
        panel.set(xscale="log", xlim=(1.0, lowest))
    for panel in axes.flat[len(signals) :]:
        panel.set_visible(False)
    below = [*axes[-1], *(axes[-2][len(signals) - columns * (rows - 1) :] if rows > 1 else ())]
    for panel in below:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(r"Background efficiency $\varepsilon_{B}$ of the cut")
    figure.supylabel("Expected significance", x=0.006, fontsize=13.5)
    texts = [f"$Z_{{A}}$, stat. and {100 * systematic:g}% syst.", "$Z_{A}$, background known", r"$s/\sqrt{b}$",
             f"fewer than {fewest:g} effective events"]  # fmt: skip
    handles: list[Any] = [
        (Patch(facecolor=_SCORE_COLOR, alpha=0.3), Line2D([], [], color=_SCORE_COLOR, linewidth=2.0)),
        Line2D([], [], color=_KNOWN_COLOR, linewidth=1.4, linestyle=(0, (5, 1.5))),
        Line2D([], [], color=INK, linewidth=1.2, linestyle=(0, (1, 1.3))),
        Patch(facecolor=MUTED, alpha=0.18),
    ]
    figure.legend(
        handles, texts, loc="upper left", ncols=4, fontsize=9.5, borderaxespad=0, mode="expand",
        bbox_to_anchor=(0.125, 1 - 0.72 / height, 0.855, 0), handletextpad=0.4,
    )  # fmt: skip
    _stamp_above(figure, sample, height, left=0.13)
    return figure


def _draw_curves(
    panel: Axes,
    eps_b: np.ndarray,
    supported: np.ndarray,
    curves: Mapping[str, Sequence[float | None]],
    label: str,
) -> None:
    """Draw what is expected of one signal, as far as the background supports it."""
    z, error = _curve(curves["z"]), _curve(curves["z_error"])
    known, ratio = _curve(curves["z_without"]), _curve(curves["s_over_sqrt_b"])
    panel.fill_between(eps_b, np.maximum(z - error, 0), z + error, color=_SCORE_COLOR, alpha=0.3, linewidth=0)
    panel.plot(eps_b, ratio, color=INK, linewidth=1.2, linestyle=(0, (1, 1.3)), zorder=4)
    panel.plot(eps_b, known, color=_KNOWN_COLOR, linewidth=1.4, linestyle=(0, (5, 1.5)), zorder=3)
    panel.plot(eps_b, z, color=_SCORE_COLOR, linewidth=2.0, zorder=5)
    last = eps_b[supported].min() if supported.any() else 1.0
    panel.axvspan(last, eps_b.min() / 10, color=MUTED, alpha=0.18, linewidth=0, zorder=0.5)
    top = float(np.nanmax([z + error, known, ratio]))
    panel.set_ylim(0.0, 1.32 * top)
    panel.yaxis.set_major_locator(MaxNLocator(4, prune="upper"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(_tick))
    panel.tick_params(axis="y", labelsize=10)
    panel.xaxis.set_major_locator(LogLocator(numticks=8))
    panel.text(0.03, 0.93, label, transform=panel.transAxes, va="top", fontsize=10.5)


def _tick(value: float, _: int) -> str:
    """A number on an axis, short also where a signal is hardly expected at all: 4.5e−4."""
    text = f"{value:.3g}" if value == 0 or value >= 1e-3 else f"{value:.1e}"
    return text.replace("e-0", "e\u2212")


def _stamp_above(figure: Figure, sample: Sample, height: float, *, left: float) -> None:
    """Write the stamp above a legend that stands outside of the frames."""
    frame = figure.add_axes((left, 1 - 0.66 / height, 0.975 - left, 0.05 / height), frameon=False)
    frame.set(xticks=[], yticks=[])
    frame.tick_params(which="both", length=0)
    stamp(frame, sample, subtitle=_HELD_OUT)


def _limit_drawings(region: Region, found: Mapping[str, Any], names: Mapping[str, str]) -> list[Drawing]:
    limits = [(names[key], entry["limit"]) for key, entry in found["signals"].items()]
    if not any(limit["status"] == "fitted" for _, limit in limits):
        return []
    limits.sort(key=lambda item: -item[1].get("median", float("inf")))
    drawings = []
    for number, start in enumerate(range(0, len(limits), _ROWS)):
        part = limits[start : start + _ROWS]
        drawings.append(
            region_drawing(
                region,
                name="limits" + (f"_{number + 1}" if number else ""),
                title="Expected upper limits on the strength of each signal",
                alt="Median expected 95 % upper limit on the signal strength with bands of one and two standard "
                f"deviations for {', '.join(to_plain(name) for name, _ in part)}.",
                draw=partial(draw_limits, part, sample=region.sample),
                data={"limits": {to_plain(name): limit for name, limit in part}},
            )
        )
    return drawings


@styled
def draw_limits(limits: Sequence[tuple[str, Mapping[str, Any]]], *, sample: Sample) -> Figure:
    """Draw expected limits on signal strengths, a row each, with the bands of one and two standard deviations.

    Args:
        limits: label and limit as in significance.json, from the lowest row up; at least one is fitted.
        sample: what the figure was made from.
    """
    height = 2.0 + 0.36 * len(limits)
    figure = new_figure(7.2, height)
    ax = figure.add_axes((0.3, 0.66 / height, 0.665, 1 - 1.74 / height))
    fitted = [limit for _, limit in limits if limit["status"] == "fitted"]
    low, high = min(limit["minus2"] for limit in fitted), max(limit["plus2"] for limit in fitted)
    ax.set(
        xscale="log", xlim=(min(low / 1.6, 0.6), max(high * 1.6, 1.7)), ylim=(-0.7, len(limits) - 0.3),
        xlabel=r"95% CL$_{s}$ upper limit on the signal strength $\mu$",
    )  # fmt: skip
    for row, (_, limit) in enumerate(limits):
        if limit["status"] != "fitted":
            text = "no signal" if limit["status"] == "no signal" else "fit failed"
            ax.text(0.5, row, text, transform=ax.get_yaxis_transform(), ha="center", va="center", color=ALERT,
                    fontsize=10)  # fmt: skip
            continue
        for color, ends in ((_TWO_SIGMA, ("minus2", "plus2")), (_ONE_SIGMA, ("minus1", "plus1"))):
            start, stop = (limit[end] for end in ends)
            ax.barh(row, stop - start, left=start, height=0.62, color=color, linewidth=0, zorder=2)
        ax.plot([limit["median"]] * 2, [row - 0.31, row + 0.31], color=INK, linewidth=1.8, zorder=4)
        ax.plot(
            limit["without_systematic"], row, "o", color="white", markeredgecolor=INK, markersize=4, zorder=5
        )
    ax.axvline(1.0, color=ALERT, linestyle=(0, (4, 2)), linewidth=1.1, zorder=1)
    ax.set_yticks(range(len(limits)))
    names = ax.set_yticklabels(
        [label + (" *" if limit.get("few_events") else "") for label, limit in limits], fontsize=10.5
    )
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]  # matplotlib has no type
    widest = max(name.get_window_extent(renderer).width for name in names)
    left = min(0.5, (widest + 0.25 * figure.dpi) / figure.bbox.width)
    ax.set_position((left, 0.66 / height, 0.965 - left, 1 - 1.74 / height))
    ax.tick_params(axis="y", which="both", length=0)
    ax.yaxis.set_minor_locator(NullLocator())
    handles = [
        Line2D([], [], color=INK, linewidth=1.8), Patch(facecolor=_ONE_SIGMA), Patch(facecolor=_TWO_SIGMA),
        Line2D([], [], marker="o", color="white", markeredgecolor=INK, markersize=4, linestyle="none"),
        Line2D([], [], color=ALERT, linestyle=(0, (4, 2)), linewidth=1.1),
    ]  # fmt: skip
    figure.legend(
        handles, ["Median", "±1σ", "±2σ", "without syst.", r"$\mu$ = 1"], loc="upper left", ncols=5, fontsize=10,
        borderaxespad=0, bbox_to_anchor=(min(left, 0.1), 1 - 0.72 / height), handletextpad=0.5,
    )  # fmt: skip
    _stamp_above(figure, sample, height, left=min(left, 0.1))
    return figure
