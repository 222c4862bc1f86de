"""Data against simulation in the score itself, as far as the configuration lets the data be seen.

A region that is blinded as a whole is compared in a sideband of the score, where the configuration names one.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from processors.agreement import MIN_EFFECTIVE, MIN_EXPECTED
from processors.files import read_json
from processors.histograms import left_for_search, load_histograms, nominal
from report.gallery import Region, region_drawing
from report.mathtext import to_html, to_plain
from report.numbers import count, interval, measurement, significant
from report.pictures import Drawing
from report.processes import processes_of
from report.score_comparison import (
    MODES,
    Comparison,
    Part,
    Scores,
    compare_part,
    compare_processes,
    parts_of,
    sideband_limit,
)
from report.sections import Section
from report.stacks import draw_stack
from report.style import INK, MUTED, Sample, new_figure, stamp, styled
from report.tables import Cell, Table

__all__ = ["draw_ratios", "score_agreement_section"]

_TITLE: Final = "Data and simulation in the score"


def score_agreement_section(output: Path, region: Region) -> Section | None:
    """Whether the score of data is that of simulation; None where there are no scores or no data.

    Of a region that is blinded as a whole the data are read from the scores of its events, and only of those scores
    that the configuration names as a sideband (`report.blind_sideband`).

    Args:
        output: directory of the whole analysis.
        region: without what is blinded.
    """
    if f"score/{region.model}" not in region.histograms:
        return None
    blinded = region.settings.blinds(region.name)
    if blinded and region.settings.blind_sideband is None:
        text = (
            "<p>The collision data of this region are blinded, and the configuration names no sideband of the score "
            "(report.blind_sideband) in which they may be looked at: data and simulation were not compared.</p>"
        )
        return Section("score_agreement", _TITLE, text)
    scores = _sideband(output, region) if blinded else _of_region(region)
    if scores is None or not scores.rows("data") or not scores.rows("background"):
        return None
    parts = parts_of(scores)
    found = [compare_part(scores, part) for part in parts]
    by_process = compare_processes(scores)
    if not any(comparison.expected > 0 for comparison in found):
        return Section("score_agreement", _TITLE, _nothing_seen(scores))
    return Section(
        key="score_agreement",
        title=_TITLE,
        text=_text(region, scores, found, by_process, blinded=blinded),
        tables=[_table(region.name, [*found, *by_process])],
        drawings=_drawings(region, scores, parts, found, by_process, whole=blinded),
    )


def _of_region(region: Region) -> Scores:
    card, _ = region.models.get(region.model, ({}, {}))
    return Scores(
        region.histograms[f"score/{region.model}"],
        region.datasets,
        region.settings.score_limit,
        left_for_search(card),
    )


def _sideband(output: Path, region: Region) -> Scores | None:
    """The scores of a blinded region with its data, to be seen up to the sideband's limit."""
    folder = output / "scores" / region.name / region.model
    name = f"{region.name}/score/{region.model}"
    path = folder / "histograms.json"
    histograms = load_histograms(path) if path.is_file() else {}
    if name not in histograms or region.settings.blind_sideband is None:
        return None
    datasets = read_json(folder / "manifest.json")["datasets"]
    card, _ = region.models.get(region.model, ({}, {}))
    scores = Scores(nominal(histograms[name]), datasets, None, left_for_search(card))
    limits = [
        limit
        for limit in (
            sideband_limit(scores.shown, scores.kinds, region.settings.blind_sideband),
            region.settings.score_limit,
        )
        if limit is not None
    ]
    return replace(scores, limit=min(limits))


def _nothing_seen(scores: Scores) -> str:
    return (
        f"<p>No background is expected below a score of {significant(scores.limit or 0.0)}, up to which data may be "
        "looked at: data and simulation were not compared.</p>"
    )


def _seen_text(region: Region, scores: Scores, *, blinded: bool) -> str:
    """Which data are compared."""
    limit, part = scores.limit, region.settings.blind_sideband
    if blinded and limit is not None and part is not None:
        return (
            f"This region is blinded. The configuration opens a sideband of the score for this comparison alone: only "
            f"data below {significant(limit)}, where at most {100 * part:g} % of the expected background lie, are used."
        )
    if limit is not None:
        return f"Data above a score of {significant(limit)} are blinded: compared is what lies below."
    return "Nothing is blinded: all scores are compared."


def _text(
    region: Region,
    scores: Scores,
    found: Sequence[Comparison],
    by_process: Sequence[Comparison],
    *,
    blinded: bool,
) -> str:
    whole = found[0]
    result = whole.found["absolute"]
    first = f"Data over simulation is {measurement(whole.ratio, whole.ratio_error)} in the compared scores"
    if result is None:
        first += ", with too few events for a comparison bin by bin"
    else:
        first += f", with χ²/ndf = {result.chi2:.1f}/{result.ndf} (p = {significant(result.p, 2)})"
    told = [entry.found["absolute"] for entry in [*found[1:], *by_process]]
    probabilities = [entry.p for entry in told if entry is not None]
    smallest = ""
    if probabilities:
        least = min(probabilities)
        chance = 1 - (1 - least) ** len(probabilities)
        smallest = (
            f" The smallest p of the {len(probabilities)} parts is {significant(least, 2)}; if they were independent, "
            f"one as small would be seen in {significant(100 * chance, 2)} % of such comparisons."
        )
    nowhere = [
        to_html(process.label)
        for process in processes_of(scores.datasets)
        if process.kind == "background" and process.key not in {entry.name for entry in by_process}
    ]
    missing = f" Nowhere the largest of at least one event: {', '.join(nowhere)}." if nowhere else ""
    return (
        f"<p>{first}.{smallest} {_seen_text(region, scores, blinded=blinded)}</p>"
        f"<p>The score is that of the model {to_html(region.model)}. Events are compared by flavour combination, and "
        "by process: in those bins of flavour and score in which a process is the largest of the expected background; "
        "which one, other simulated events decide than those that are compared. χ² takes the statistical errors of "
        "data and of weighted simulation (Gagunashvili, NIM A 614 (2010) 287), in bins joined from low scores on until "
        f"{MIN_EXPECTED:g} events are expected from {MIN_EFFECTIVE:g} effective ones of simulation; systematic "
        f"uncertainties are not included.{missing}</p>"
    )


def _table(region: str, comparisons: Sequence[Comparison]) -> Table:
    dash = Cell("\u2013", None)
    rows = []
    for entry in comparisons:
        row = [
            Cell(to_html(entry.label), to_plain(entry.label), color=entry.color),
            Cell(count(entry.data), entry.data),
            Cell(measurement(entry.expected, entry.error), entry.expected, entry.error),
            Cell(measurement(entry.ratio, entry.ratio_error), entry.ratio, entry.ratio_error),
            dash if entry.purity is None else Cell(f"{100 * entry.purity:.0f} %", entry.purity),
        ]
        for mode in MODES:
            found = entry.found[mode]
            row += (
                [dash, dash]
                if found is None
                else [
                    Cell(f"{found.chi2:.1f}/{found.ndf}", found.chi2 / found.ndf),
                    Cell(significant(found.p, 2), found.p, strong=found.p < 0.01),
                ]
            )
        found = entry.found["absolute"]
        pull = dash
        if found is not None:
            where = found.deviation
            # Cells of a process are no interval of the score.
            span = f" <small>{interval(where.low, where.high)}</small>" if entry.purity is None else ""
            pull = Cell(f"{where.pull:+.1f}".replace("-", "\u2212") + span, where.pull)
        rows.append([*row, pull])
    return Table(
        name=f"{region}_score_agreement",
        caption="Data against simulated background in the score: all events, each flavour combination, and the bins "
        "in which each process is the largest, with its part of the expected events there. χ² of absolute numbers, and "
        "of shapes with the simulation normalised to the data; p below 0.01 are emphasised. The largest deviation is "
        "in standard errors of data and simulation together.",
        columns=[
            "Part", "Data", "Simulation", "Data / MC", "Purity", "χ²/ndf", "p", "χ²/ndf, shape", "p, shape",
            "Largest deviation",
        ],
        rows=rows,
    )  # fmt: skip


def _drawings(
    region: Region,
    scores: Scores,
    parts: Sequence[Part],
    found: Sequence[Comparison],
    by_process: Sequence[Comparison],
    *,
    whole: bool,
) -> list[Drawing]:
    """The ratios of all parts, and the stacked score of each flavour combination.

    Args:
        region: of the page.
        scores: what is compared.
        parts: all events and each flavour combination.
        found: the comparison of each.
        by_process: of the processes.
        whole: draw the stack of all events too, which is not among the scores of a blinded region.
    """
    lumi_pb = region.sample.lumi_pb
    sample = replace(
        region.sample, blinded=False, lumi_pb=None if lumi_pb is None else lumi_pb * scores.searched
    )
    drawn = replace(region, sample=sample)
    everything = [*found, *by_process]
    drawings = [
        region_drawing(
            drawn,
            name="score_agreement",
            title="Data over simulation in the score, by flavour combination and by process",
            alt="Ratio of data to simulated background with its errors for "
            f"{', '.join(to_plain(entry.label) for entry in everything)}.",
            draw=partial(draw_ratios, everything, sample=sample),
            data={"compared": [entry.to_dict() for entry in everything], "blinded_above": scores.limit},
        )
    ]
    for part, comparison in zip(parts, found, strict=True):
        if part.name != "all" or whole:
            drawings.append(
                region_drawing(
                    drawn,
                    name=f"score_agreement_{part.name}",
                    title=f"Anomaly score, {to_html(part.label)}: {_verdict(comparison)}",
                    alt=f"Stacked histogram of the score with data for {part.label}.",
                    draw=partial(
                        draw_stack, part.stack, sample=replace(sample, region=f"{region.name}, {part.label}")
                    ),
                    data=part.stack.to_dict(),
                )
            )
    return drawings


def _verdict(comparison: Comparison) -> str:
    found = comparison.found["absolute"]
    if found is None:
        return "too few events for a comparison"
    return f"χ²/ndf = {found.chi2:.1f}/{found.ndf}, p = {significant(found.p, 2)}"


@styled
def draw_ratios(comparisons: Sequence[Comparison], *, sample: Sample) -> Figure:
    """Draw data over simulation, a row for each part, with the errors of both and the chi-square.

    Args:
        comparisons: from the highest row down; at least one expects events.
        sample: what the figure was made from.
    """
    drawn = [entry for entry in comparisons if entry.ratio is not None][::-1]
    height = 2.0 + 0.36 * len(drawn)
    figure = new_figure(7.2, height)
    ax = figure.add_axes((0.2, 0.66 / height, 0.5, 1 - 1.74 / height))
    reach = 0.1
    for row, entry in enumerate(drawn):
        ratio, relative = float(entry.ratio or 0.0), entry.error / entry.expected
        error = sqrt(entry.data) / entry.expected
        ax.barh(row, 2 * relative, left=1 - relative, height=0.7, color="#c9cdd2", linewidth=0, zorder=1)
        ax.errorbar(ratio, row, xerr=error, fmt="o", color=INK, markersize=4.5, elinewidth=1.3, zorder=4)
        reach = max(reach, abs(ratio - 1) + error, relative)
        found = entry.found["absolute"]
        texts = (
            ("\u2013", "") if found is None else (f"{found.chi2:.1f}/{found.ndf}", significant(found.p, 2))
        )
        for place, text in zip((1.06, 1.36), texts, strict=True):
            ax.text(place, row, text, transform=ax.get_yaxis_transform(), va="center", fontsize=10.5)
        if entry.color:
            ax.plot(-0.03, row, "s", color=entry.color, markersize=7, transform=ax.get_yaxis_transform(),
                    clip_on=False)  # fmt: skip
    for place, head in ((1.06, "χ²/ndf"), (1.36, "p")):
        ax.text(
            place, len(drawn) - 0.35, head, transform=ax.get_yaxis_transform(), fontsize=10.5, color=MUTED
        )
    ax.axvline(1.0, color=INK, linewidth=0.8, zorder=2)
    reach = min(1.15 * reach, 1.0)
    ax.set(xlim=(1 - reach, 1 + reach), ylim=(-0.7, len(drawn) - 0.3), xlabel="Data / MC")
    ax.set_yticks(range(len(drawn)))
    ax.set_yticklabels([entry.label for entry in drawn], fontsize=11)
    ax.tick_params(axis="y", which="both", length=0, pad=14)
    ax.yaxis.set_minor_locator(NullLocator())
    handles: list[Any] = [
        Line2D([], [], color=INK, marker="o", markersize=4.5, linestyle="none"),
        Patch(facecolor="#c9cdd2"),
    ]
    data = "Pseudo-data" if sample.kind == "demo-simulation" else "Data"
    figure.legend(
        handles, [f"{data}, stat.", "MC stat. uncertainty"], loc="upper left", ncols=2, fontsize=10,
        borderaxespad=0, bbox_to_anchor=(0.2, 1 - 0.72 / height), handletextpad=0.5,
    )  # fmt: skip
    frame = figure.add_axes((0.2, 1 - 0.66 / height, 0.77, 0.05 / height), frameon=False)
    frame.set(xticks=[], yticks=[])
    frame.tick_params(which="both", length=0)
    stamp(frame, sample, subtitle="background: held-out events")
    return figure
