"""Figures of the validation: the Z peak, b-tagging, leptons, jets and missing momentum beside a reference."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from processors.constants import B_TAG_WORKING_POINTS
from processors.criteria import (
    Comparison,
    Criterion,
    TagComparison,
    b_tag_efficiencies,
    comparisons,
    criteria,
    folded,
    peaks,
    skims_of,
    tag_comparisons,
)
from processors.peak import PeakFit
from processors.validation import FLAVOURS, OBJECTS
from report.mathtext import to_html, to_plain
from report.pictures import Drawing
from report.processes import Floats
from report.style import FALLBACK_COLORS, INK, MUTED, new_figure, styled

__all__ = ["Validation", "validate", "validation_drawings"]

Histograms = Mapping[str, hist.Hist]

_SOURCES = {
    "demo-simulation": "Pythia 8 demo simulation",
    "atlas-open-data": "ATLAS Open Data simulation",
}

# Quantities that fall over orders of magnitude are drawn on a logarithmic axis.
_LOGARITHMIC = {"ptcone", "etcone", "d0_significance", "z0_sin_theta", "jet_pt", "jet_jvt", "n_jets"}

# Effective entries below which a skim is not drawn beside another.
_FEW = 50

_SKIM_LOOK: tuple[tuple[str, Any], ...] = ((FALLBACK_COLORS[4], "-"), (FALLBACK_COLORS[0], "-"))
_POINT_LOOK = dict(zip(B_TAG_WORKING_POINTS, ("#009E73", "#0072B2", "#D55E00", "#CC79A7"), strict=True))
_POINT_MARKERS = dict(zip(B_TAG_WORKING_POINTS, ("o", "s", "^", "D"), strict=True))


@dataclass(frozen=True)
class Validation:
    """All that the page says.

    Attributes:
        histograms: of the sample, see `processors.validation.ValidationProcessor`.
        reference: of the reference; empty without one.
        skim: of the sample's two-lepton region.
        sources: what sample and reference are: "demo-simulation" or "atlas-open-data"; the second may be empty.
        fits: of the Z peak, sample.
        reference_fits: of the Z peak, reference.
        criteria: what must hold.
        comparisons: quantities of both sides.
        tags: b-tag efficiencies of both sides.
    """

    histograms: Histograms
    reference: Histograms
    skim: str
    sources: tuple[str, str]
    fits: Mapping[str, PeakFit]
    reference_fits: Mapping[str, PeakFit]
    criteria: Sequence[Criterion]
    comparisons: Sequence[Comparison]
    tags: Sequence[TagComparison]

    @property
    def failed(self) -> list[Criterion]:
        """Criteria that do not hold."""
        return [criterion for criterion in self.criteria if not criterion.holds]

    @property
    def origin(self) -> str:
        """The line above every figure."""
        sample, reference = (_SOURCES.get(source, source) for source in self.sources)
        return f"{sample} and {reference}" if self.reference else sample


def validate(
    histograms: Histograms, reference: Histograms, *, skim: str, sources: tuple[str, str]
) -> Validation:
    """Fits, criteria and comparisons of histograms; see `Validation` for the arguments."""
    fits = peaks(histograms)
    return Validation(
        histograms=histograms,
        reference=reference,
        skim=skim,
        sources=sources,
        fits=fits,
        reference_fits=peaks(reference),
        criteria=criteria(histograms, fits, skim),
        comparisons=comparisons(histograms, reference),
        tags=tag_comparisons(histograms, reference, skim),
    )


# --- figures ---------------------------------------------------------------------------------------------------------


def _shape(histogram: hist.Hist) -> tuple[Floats, Floats, Floats]:
    """Edges, and contents with errors of a histogram normalised to one; zero where it is empty.

    Of many fine bins four are joined. What lies outside counts to the first and last bin, but for m_ll.
    """
    bins = len(histogram.axes[0])
    rebin = 4 if bins % 4 == 0 and bins > 10 else 1
    edges, contents, variances = folded(histogram, rebin, flow=histogram.axes[0].name != "mll")
    total = contents.sum()
    if total <= 0:
        return edges, np.zeros_like(contents), np.zeros_like(contents)
    return edges, contents / total, np.sqrt(variances) / total


def _head(figure: Figure, origin: str, title: str) -> None:
    """Two lines at the top of a figure: what it was made from, what it shows."""
    height = float(figure.get_size_inches()[1])
    figure.text(0.02, 1 - 0.13 / height, origin, ha="left", va="top", fontsize=11.5, color=INK)
    figure.text(0.98, 1 - 0.13 / height, r"√$s$ = 13 TeV", ha="right", va="top", fontsize=11.5, color=INK)
    figure.text(0.02, 1 - 0.37 / height, title, ha="left", va="top", fontsize=10.5, color=MUTED)


def _x_label(ax: Axes, label: str) -> None:
    ax.set_xlabel(label, loc="right")


@styled
def _draw_peak(histogram: hist.Hist, fit: PeakFit | None, *, origin: str, title: str, label: str) -> Figure:
    """m_ll with the fitted curve, and below the deviations in standard errors."""
    figure = new_figure(6.6, 5.9)
    _head(figure, origin, title)
    top = figure.add_axes((0.135, 0.31, 0.835, 0.585))
    bottom = figure.add_axes((0.135, 0.105, 0.835, 0.185), sharex=top)
    edges, contents, variances = folded(histogram, flow=False)
    centres, errors = 0.5 * (edges[1:] + edges[:-1]), np.sqrt(variances)
    top.axvspan(90.9, 91.5, color="#009E73", alpha=0.18, linewidth=0, label="criterion: 91.2 ± 0.3 GeV")
    top.errorbar(
        centres, contents, yerr=errors, fmt="o", color=INK, markersize=3.2, elinewidth=0.9, label="simulation"
    )
    top.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.32 * float(contents.max() or 1.0)))
    top.tick_params(labelbottom=False)
    top.set_ylabel(f"Events / {edges[1] - edges[0]:g} GeV", loc="top")
    bottom.set(ylim=(-4, 4), yticks=(-3, 0, 3))
    bottom.set_ylabel("Pull")
    bottom.axhline(0, color=FALLBACK_COLORS[5], linewidth=1.4)
    for level in (-3, 3):
        bottom.axhline(level, color=MUTED, linewidth=0.7, linestyle=":")
    _x_label(bottom, label)
    if fit is not None:
        expected = np.array(fit.expected)
        top.plot(
            centres,
            expected,
            color=FALLBACK_COLORS[5],
            linewidth=1.8,
            zorder=3,
            label=r"Breit–Wigner $\otimes$ resolution",
        )
        # The fit's errors are those that its curve expects.
        scale = np.sqrt(contents.sum() / fit.n_effective)
        pulls = (contents - expected) / (scale * np.sqrt(np.maximum(expected, 1e-12)))
        bottom.plot(centres, pulls, "o", color=INK, markersize=2.8)
        lines = (
            f"peak {fit.position:.2f} ± {fit.position_error:.2f} GeV",
            f"width {fit.width:.2f} ± {fit.width_error:.2f} GeV",
            f"full width at half maximum {fit.fwhm:.1f} GeV",
            rf"resolution $\sigma$ {fit.resolution:.2f} ± {fit.resolution_error:.2f} GeV",
            rf"$\chi^2$/ndf = {fit.chi2:.0f}/{fit.ndf}, $p$ = {fit.p:.2f}",
        )
        top.text(
            0.965,
            0.75,
            "\n".join(lines),
            transform=top.transAxes,
            ha="right",
            va="top",
            fontsize=9.5,
            linespacing=1.5,
        )
    else:
        top.text(0.965, 0.75, "not fitted: too few events", transform=top.transAxes, ha="right", va="top")
    top.legend(loc="upper left", ncols=2, fontsize=10)
    return figure


def _draw_curves(
    ax: Axes, own: Mapping[str, hist.Hist], reference: Mapping[str, hist.Hist], *, log: bool
) -> None:
    """One quantity: the sample's skims as lines with bands, the reference as points; all normalised to one."""
    highest, lowest = 0.0, 1.0
    for (color, dashes), histogram in zip(_looks(own), own.values(), strict=True):
        edges, heights, errors = _shape(histogram)
        ax.stairs(heights, edges, baseline=None, color=color, linestyle=dashes, linewidth=1.8, zorder=3)
        ax.stairs(
            heights + errors,
            edges,
            baseline=heights - errors,
            fill=True,
            color=color,
            alpha=0.28,
            linewidth=0,
        )
        highest = max(highest, float((heights + errors).max()))
        lowest = min([lowest, *heights[heights > 0]])
    for histogram in reference.values():
        edges, heights, errors = _shape(histogram)
        seen = heights != 0
        centres = 0.5 * (edges[1:] + edges[:-1])
        ax.errorbar(
            centres[seen],
            heights[seen],
            yerr=errors[seen],
            fmt="o",
            color=INK,
            markersize=3.4,
            elinewidth=0.9,
            zorder=5,
        )
        highest = max(highest, float((heights + errors).max()))
        lowest = min([lowest, *heights[heights > 0]])
    if log:
        ax.set_yscale("log")
        ax.set_ylim(max(0.4 * lowest, 2e-4), 2.5 * max(highest, 1e-3))
    else:
        ax.set_ylim(0, 1.18 * (highest or 1.0))


def _looks(own: Mapping[str, hist.Hist]) -> tuple[tuple[str, Any], ...]:
    """Colour and dashes of each skim of the sample; the last, which is compared, stands out."""
    return _SKIM_LOOK[-len(own) :] if len(own) <= len(_SKIM_LOOK) else (_SKIM_LOOK * len(own))[: len(own)]


def _legend(
    figure: Figure, own: Mapping[str, hist.Hist], reference: Mapping[str, hist.Hist], *, y: float
) -> None:
    handles: list[Any] = []
    labels: list[str] = []
    for (color, dashes), (skim, histogram) in zip(_looks(own), own.items(), strict=True):
        handles.append(Line2D([], [], color=color, linestyle=dashes, linewidth=2))
        labels.append(rf"this sample, {skim} ($n_{{eff}}$ = {_effective(histogram):.0f})")
    for skim, histogram in reference.items():
        handles.append(Line2D([], [], color=INK, marker="o", markersize=4.5, linestyle="none"))
        labels.append(rf"reference, {skim} ($n_{{eff}}$ = {_effective(histogram):.0f})")
    figure.legend(
        handles, labels, loc="upper right", bbox_to_anchor=(0.985, y), ncols=len(labels), fontsize=10
    )


@styled
def _draw_panels(
    panels: Mapping[str, tuple[Mapping[str, hist.Hist], Mapping[str, hist.Hist]]],
    results: Mapping[str, Comparison],
    *,
    origin: str,
    title: str,
) -> Figure:
    """Six quantities of one kind of objects."""
    figure = new_figure(12.6, 7.5)
    _head(figure, origin, title)
    left, bottom, width, height = 0.055, 0.075, 0.262, 0.345
    for number, (quantity, (own, reference)) in enumerate(panels.items()):
        row, column = divmod(number, 3)
        ax = figure.add_axes((left + 0.329 * column, bottom + 0.455 * (1 - row), width, height))
        _draw_curves(ax, own, reference, log=quantity in _LOGARITHMIC)
        axis = next(iter(own.values())).axes[0]
        ax.set_xlim(axis.edges[0], axis.edges[-1])
        _x_label(ax, str(axis.label))
        if column == 0:
            ax.set_ylabel("Fraction / bin", loc="top")
        if quantity in results:
            found = results[quantity]
            ax.set_title(
                f"KS distance {found.distance:.3f}, $p$ {_p(found.p)}",
                loc="right",
                fontsize=10,
                color=MUTED,
            )
    first = next(iter(panels.values()))
    _legend(figure, *first, y=1 - 0.3 / 7.5)
    return figure


def _p(p: float) -> str:
    """Write what a p-value is equal to, or below."""
    return f"= {p:.2f}" if p >= 0.01 else f"= {p:.3f}" if p >= 0.001 else "< 0.001"


@styled
def _draw_masses(
    own: Mapping[str, hist.Hist], reference: Mapping[str, hist.Hist], *, origin: str, title: str
) -> Figure:
    """m_ee of the pair of prompt electrons, normalised to one."""
    figure = new_figure(6.6, 5.9)
    _head(figure, origin, title)
    ax = figure.add_axes((0.135, 0.105, 0.835, 0.755))
    _draw_curves(ax, own, reference, log=False)
    ax.set_xlim(66, 116)
    _x_label(ax, r"$m_{ee}$ of the two prompt electrons [GeV]")
    ax.set_ylabel("Fraction / 2 GeV", loc="top")
    handles, labels = [], []
    for (color, _), skim in zip(_looks(own), own, strict=True):
        handles.append(Line2D([], [], color=color, linewidth=2))
        labels.append(f"this sample, {skim}")
    for skim in reference:
        handles.append(Line2D([], [], color=INK, marker="o", markersize=4.5, linestyle="none"))
        labels.append(f"reference, {skim}")
    ax.legend(handles, labels, loc="upper left", fontsize=10)
    return figure


@styled
def _draw_efficiencies(
    own: hist.Hist, reference: hist.Hist | None, *, flavour: str, origin: str, title: str
) -> Figure:
    """Efficiency of each b-tag working point against pT: filled points the sample, open ones the reference."""
    figure = new_figure(6.6, 5.9)
    _head(figure, origin, title)
    ax = figure.add_axes((0.135, 0.105, 0.835, 0.755))
    edges = np.asarray(own.axes[0].edges)
    sides = [(own, -0.1, True)] + ([(reference, 0.1, False)] if reference is not None else [])
    highest = 0.0
    for histogram, shift, is_own in sides:
        for number, (point, (_, bins)) in enumerate(b_tag_efficiencies(histogram).items()):
            color, marker = _POINT_LOOK[point], _POINT_MARKERS[point]
            # Points of one bin stand beside each other, none hides another.
            place = 0.5 + (shift if reference is not None else 0.0) + 0.035 * (number - 1.5)
            x = edges[:-1] * (edges[1:] / edges[:-1]) ** place
            shown = np.array([entry.total > 0 and (flavour == "b" or entry.passed > 0) for entry in bins])
            if not shown.any():
                continue
            values = np.array([entry.value for entry in bins])[shown]
            low, high = np.array([entry.interval for entry in bins])[shown].T
            ax.errorbar(
                x[shown],
                values,
                yerr=[np.maximum(values - low, 0), np.maximum(high - values, 0)],
                fmt=marker,
                color=color,
                markerfacecolor=color if is_own else "white",
                markersize=5,
                elinewidth=1.0,
                zorder=4 if is_own else 5,
            )
            highest = max(highest, float(high.max()))
    if flavour == "b":
        for point in B_TAG_WORKING_POINTS:
            ax.axhline(point / 100, color=_POINT_LOOK[point], linewidth=0.9, linestyle="--", zorder=1)
    ax.set_xscale("log")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_xticks([20, 30, 50, 100, 200], ["20", "30", "50", "100", "200"])
    _x_label(ax, str(own.axes[0].label))
    ax.set_ylabel(f"Efficiency for {flavour} jets", loc="top")
    if flavour == "light":
        ax.set_yscale("log")
        ax.set_ylim(2e-4, 1.0)
    else:
        ax.set_ylim(0, 1.45 if flavour == "b" else 1.35 * highest)
        ax.set_yticks([tick for tick in np.arange(0, 1.01, 0.2) if flavour == "b" or tick <= 1.35 * highest])
    handles = [
        Line2D([], [], color=_POINT_LOOK[point], marker=_POINT_MARKERS[point], markersize=5, linestyle="none")
        for point in B_TAG_WORKING_POINTS
    ]
    labels = [f"{point} % point" for point in B_TAG_WORKING_POINTS]
    if reference is not None:
        for face, name in ((MUTED, "this sample"), ("white", "reference")):
            handles.append(Line2D([], [], color=MUTED, marker="o", markerfacecolor=face, linestyle="none"))
            labels.append(name)
    if flavour == "b":
        handles.append(Line2D([], [], color=MUTED, linestyle="--", linewidth=0.9))
        labels.append("nominal")
    ax.legend(handles, labels, loc="upper left", ncols=2, fontsize=10)
    return figure


def _numbers(histogram: hist.Hist) -> dict[str, Any]:
    """A drawn histogram in plain types."""
    edges, heights, errors = _shape(histogram)
    return {"edges": edges.tolist(), "fraction": heights.tolist(), "error": errors.tolist()}


def _of(side: Histograms, name: str) -> dict[str, hist.Hist]:
    """A histogram of each skim that has it; those with a few entries are left out where others have more."""
    found = {skim: side[f"{skim}/{name}"] for skim in skims_of(side) if f"{skim}/{name}" in side}
    telling = {skim: histogram for skim, histogram in found.items() if _effective(histogram) >= _FEW}
    return telling or found


def _effective(histogram: hist.Hist) -> float:
    """(sum of weights)^2 / sum of squared weights; of a histogram of counts their number."""
    contents, variances = histogram.values(flow=True), histogram.variances(flow=True)
    return float(contents.sum() ** 2 / variances.sum()) if variances.sum() > 0 else 0.0


def _peak_drawings(validation: Validation) -> list[Drawing]:
    drawings = []
    for pair, symbol in (("ee", "ee"), ("mumu", r"\mu\mu")):
        key = f"{validation.skim}/mll/{pair}"
        if key not in validation.histograms:
            continue
        fit = validation.fits.get(key)
        histogram = validation.histograms[key]
        drawings.append(
            Drawing(
                name=f"peak_{pair}",
                title=f"Z → {to_html(f'${symbol}$')} with the fit",
                alt=f"Invariant mass of {pair} pairs with the fitted peak"
                + (f", which stands at {fit.position:.2f} GeV." if fit else "; it could not be fitted."),
                draw=partial(
                    _draw_peak,
                    histogram,
                    fit,
                    origin=_SOURCES.get(validation.sources[0], validation.sources[0]),
                    title=f"{validation.skim}, two good leptons of opposite charge",
                    label=rf"$m_{{{symbol}}}$ [GeV]",
                ),
                data={
                    "edges": histogram.axes[0].edges.tolist(),
                    "sumw": histogram.values().tolist(),
                    "sumw2": histogram.variances().tolist(),
                    "fit": fit.to_dict() if fit else None,
                },
            )
        )
    own, reference = (_of(side, "mll/prompt_ee") for side in (validation.histograms, validation.reference))
    if own and reference:
        drawings.append(
            Drawing(
                name="peak_prompt",
                title="The pair of prompt electrons, whatever else is in the event",
                alt="Invariant mass of prompt electron pairs of the sample and the reference, normalised to one.",
                draw=partial(
                    _draw_masses, own, reference, origin=validation.origin, title="Normalised to one"
                ),
                data={
                    "sample": {skim: _numbers(h) for skim, h in own.items()},
                    "reference": {skim: _numbers(h) for skim, h in reference.items()},
                },
            )
        )
    return drawings


def _b_tag_drawings(validation: Validation) -> list[Drawing]:
    drawings = []
    for flavour in FLAVOURS:
        own = validation.histograms.get(f"{validation.skim}/btag/{flavour}")
        if own is None:
            continue
        found = _of(validation.reference, f"btag/{flavour}")
        reference = next(iter(found.values()), None)
        title = rf"Jets of $t\bar{{t}}$ above 20 GeV that pass JVT, {validation.skim}" + "".join(
            f"; reference {skim}" for skim in found
        )
        data = {
            name: {
                str(point): [
                    {"passed": entry.passed, "total": entry.total, "interval": list(entry.interval)}
                    for entry in bins
                ]
                for point, (_, bins) in b_tag_efficiencies(histogram).items()
            }
            for name, histogram in (("sample", own), ("reference", reference))
            if histogram is not None
        }
        drawings.append(
            Drawing(
                name=f"btag_{flavour}",
                title=f"{flavour} jets",
                alt=f"Efficiency of the four b-tag working points for {flavour} jets against transverse momentum.",
                draw=partial(
                    _draw_efficiencies, own, reference, flavour=flavour, origin=validation.origin, title=title
                ),
                data={"edges": own.axes[0].edges.tolist(), **data},
            )
        )
    return drawings


def _object_drawings(validation: Validation, chosen: Sequence[str]) -> list[Drawing]:
    drawings = []
    for key in chosen:
        objects = OBJECTS[key]
        panels = {}
        for quantity, variable in objects.quantities.items():
            own, reference = (
                _of(side, f"{key}/{quantity}") for side in (validation.histograms, validation.reference)
            )
            if own and variable.bins > 2:
                panels[quantity] = own, reference
        if not panels:
            continue
        results = {result.quantity: result for result in validation.comparisons if result.objects == key}
        drawings.append(
            Drawing(
                name=key,
                title=to_html(objects.title),
                alt=f"{to_plain(objects.title)}: "
                + ", ".join(to_plain(objects.quantities[q].label) for q in panels),
                draw=partial(
                    _draw_panels,
                    panels,
                    results,
                    origin=validation.origin,
                    title=objects.title,
                ),
                data={
                    quantity: {
                        "sample": {skim: _numbers(h) for skim, h in own.items()},
                        "reference": {skim: _numbers(h) for skim, h in reference.items()},
                        "comparison": asdict(results[quantity]) if quantity in results else None,
                    }
                    for quantity, (own, reference) in panels.items()
                },
            )
        )
    return drawings


def validation_drawings(validation: Validation) -> dict[str, list[Drawing]]:
    """All figures, by part of the page: peak, btag, leptons, events."""
    return {
        "peak": _peak_drawings(validation),
        "btag": _b_tag_drawings(validation),
        "leptons": _object_drawings(validation, [key for key, o in OBJECTS.items() if o.flavour]),
        "events": _object_drawings(validation, [key for key, o in OBJECTS.items() if not o.flavour]),
    }
