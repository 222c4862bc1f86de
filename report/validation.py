"""The validation page: does simulation look like data, told by criteria, figures and differences in words."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import jinja2

from processors.criteria import Comparison, Criterion, TagComparison, skims_of
from processors.files import write_json
from processors.peak import PeakFit
from processors.validation import OBJECTS
from report.mathtext import to_html, to_plain
from report.numbers import measurement, significant
from report.pictures import drawing_processes, render
from report.tables import Cell, Table, write_csv
from report.validation_figures import Validation, validation_drawings

__all__ = ["write_validation_page"]

logger = logging.getLogger(__name__)

# A difference is told in words where chance gives it less often than this.
_RARE = 0.01

# What is known to make a difference: other selections, and what the demo leaves out on purpose.
_SELECTION = "the selections differ by a lepton, and jets that leptons come from are removed"
_PILE_UP = "the reference has leptons and tracks of other collisions, the demo hardly any"
_KNOWN = {
    (
        "Z_events",
        "met",
    ): "further leptons are misidentified or mismeasured, and the reference has one more of them",
    ("Z_events", "n_jets"): _SELECTION,
    ("ttbar_events", "n_jets"): _SELECTION,
    ("ttbar_events", "jet_pt"): _SELECTION,
    ("ttbar_events", "jet_mass"): "it follows the jets' pT",
    "z0_sin_theta": _PILE_UP,
    "from_vertex": _PILE_UP,
}


def _text(text: str) -> Cell:
    return Cell(escape(text), text)


def _number(value: float | None, error: float | None = None, *, factor: float = 1.0) -> Cell:
    if value is None:
        return Cell("\u2013", None)
    value, error = factor * value, None if error is None else factor * error
    return Cell(measurement(value, error), value, error)


def _probability(p: float) -> Cell:
    return Cell(f"{p:.2f}" if p >= 0.01 else f"{p:.3f}" if p >= 0.001 else "&lt; 0.001", p)


def _mark(holds: bool, yes: str, no: str) -> Cell:
    """A verdict in words, with a sign and a colour."""
    word, sign, style = (yes, "\u2714", "holds") if holds else (no, "\u2718", "fails")
    return Cell(f'<span class="{style}">{sign}\u00a0{word}</span>', word)


def _criteria_table(criteria: Sequence[Criterion]) -> Table:
    rows = []
    for criterion in criteria:
        unit = f" {criterion.unit}" if criterion.unit else ""
        value = _number(criterion.value, criterion.error)
        rows.append(
            [
                Cell(to_html(criterion.name), to_plain(criterion.name)),
                Cell(
                    value.html + unit if criterion.value is not None else value.html, value.value, value.error
                ),
                _text(f"{criterion.low:g} to {criterion.high:g}{unit}"),
                _mark(criterion.holds, "holds", "fails"),
            ]
        )
    return Table(
        "criteria", "What must hold of the sample.", ["Criterion", "Found", "Required", "Verdict"], rows
    )


_SELECTIONS = {
    "ee": "two good electrons of opposite charge",
    "mumu": "two good muons of opposite charge",
    "prompt_ee": "two prompt electrons",
}


def _peak_table(validation: Validation) -> Table:
    rows = []
    for side, fits in (("sample", validation.fits), ("reference", validation.reference_fits)):
        for name, fit in fits.items():
            skim, _, selection = name.split("/")
            rows.append([_text(f"{side}, {skim}: {_SELECTIONS[selection]}"), *_peak_cells(fit)])
    return Table(
        "peaks",
        "Fits of m<sub>ℓℓ</sub> from 66 to 116 GeV, in GeV. The width is half of the shortest interval with 68.27 % "
        "of the fitted curve, σ the resolution that the Breit–Wigner is convolved with.",
        ["Pairs", "n<sub>eff</sub>", "Position", "Width", "FWHM", "σ", "χ²/ndf", "p"],
        rows,
    )


def _peak_cells(fit: PeakFit) -> list[Cell]:
    return [
        Cell(f"{fit.n_effective:.0f}", fit.n_effective),
        _number(fit.position, fit.position_error),
        _number(fit.width, fit.width_error),
        Cell(f"{fit.fwhm:.1f}", fit.fwhm),
        _number(fit.resolution, fit.resolution_error),
        Cell(f"{fit.chi2:.0f}/{fit.ndf}", fit.chi2 / fit.ndf),
        _probability(fit.p),
    ]


def _tag_table(found: Sequence[TagComparison]) -> Table:
    with_reference = any(entry.reference is not None for entry in found)
    rows = []
    for entry in found:
        row = [
            _text(f"{entry.flavour} jets"),
            Cell(f"{entry.point} %", entry.point),
            _number(entry.sample.value, entry.sample.error, factor=100)
            if entry.sample.total
            else _number(None),
        ]
        if with_reference:
            other = entry.reference
            row.append(
                _number(other.value, other.error, factor=100) if other and other.total else _number(None)
            )
            told = entry.p is not None and entry.ndf > 0
            row.append(Cell(f"{entry.chi2:.1f}/{entry.ndf}", entry.chi2) if told else _number(None))
            row.append(_probability(entry.p) if told and entry.p is not None else _number(None))
        rows.append(row)
    columns = ["Jets of tt̄", "Point", "Sample [%]"]
    return Table(
        "btag",
        "Efficiency of the b-tag working points for jets above 20 GeV that pass JVT, counted without weights."
        + (" χ² compares the bins of pT with ten jets on both sides at least." if with_reference else ""),
        columns + (["Reference [%]", "χ²/ndf in p<sub>T</sub>", "p"] if with_reference else []),
        rows,
    )


def _label(comparison: Comparison) -> str:
    """Objects and quantity of a comparison, HTML."""
    objects = OBJECTS[comparison.objects]
    return f"{to_html(objects.title)}: {to_html(objects.quantities[comparison.quantity].label)}"


def _comparison_table(comparisons: Sequence[Comparison]) -> Table:
    rows = [
        [
            Cell(_label(entry), f"{entry.objects}/{entry.quantity}"),
            _number(*entry.mean),
            _number(*entry.reference),
            Cell(f"{entry.distance:.3f}", entry.distance),
            _probability(entry.p),
            _mark(entry.p >= _RARE, "agrees", "differs"),
        ]
        for entry in comparisons
    ]
    return Table(
        "comparisons",
        "Shapes of the sample and the reference: means (of what is 0 or 1, fractions; values beyond the axis count "
        "as its end), Kolmogorov–Smirnov distance and p-value. A quantity differs where p is below 0.01; leptons of "
        "one event are not independent, which makes p too small.",
        ["Quantity", "Sample, mean", "Reference, mean", "KS distance", "p", "Verdict"],
        rows,
    )


def _differences(validation: Validation) -> list[str]:
    """Every difference in a sentence, HTML; the largest first."""
    sentences = []
    differing = [entry for entry in validation.comparisons if entry.p < _RARE]
    for entry in sorted(differing, key=lambda entry: -entry.distance):
        why = _KNOWN.get((entry.objects, entry.quantity)) or _KNOWN.get(entry.quantity)
        kind = "fraction" if OBJECTS[entry.objects].quantities[entry.quantity].bins == 2 else "mean"
        sentences.append(
            f"<strong>{_label(entry)}</strong>: {kind} {measurement(*entry.mean)} against "
            f"{measurement(*entry.reference)} in the reference, KS distance {entry.distance:.2f}."
            + (f" Likely because {escape(why)}." if why else "")
        )
    sentences += _peak_differences(validation) + _tag_differences(validation.tags)
    return sentences


def _peak_differences(validation: Validation) -> list[str]:
    def told(side: str, fits: Mapping[str, PeakFit]) -> list[str]:
        return [
            f"{measurement(fit.position, fit.position_error)} GeV with a resolution of "
            f"{measurement(fit.resolution, fit.resolution_error)} GeV ({side}, {name.split('/')[0]})"
            for name, fit in fits.items()
            if name.endswith("/mll/prompt_ee")
        ]

    own, theirs = told("sample", validation.fits), told("reference", validation.reference_fits)
    if not own or not theirs:
        return []
    peaks = "; ".join(own + theirs)
    return [f"<strong>m<sub>ee</sub> of prompt electrons</strong>: the fitted peak stands at {peaks}."]


def _tag_differences(tags: Sequence[TagComparison]) -> list[str]:
    sentences = []
    for entry in tags:
        if entry.p is None or entry.reference is None or entry.p >= _RARE:
            continue
        sentences.append(
            f"<strong>{entry.flavour} jets at the {entry.point} % point</strong>: "
            f"{measurement(100 * entry.sample.value, 100 * entry.sample.error)} % against "
            f"{measurement(100 * entry.reference.value, 100 * entry.reference.error)} % of all jets, but the "
            f"dependence on p<sub>T</sub> differs: χ²/ndf = {significant(entry.chi2)}/{entry.ndf}."
        )
    return sentences


def _document(validation: Validation) -> dict[str, Any]:
    """The numbers of the page in plain types."""
    return {
        "format": 1,
        "holds": not validation.failed,
        "skim": validation.skim,
        "sources": list(validation.sources),
        "criteria": [{**asdict(entry), "holds": entry.holds} for entry in validation.criteria],
        "peaks": {
            side: {name: fit.to_dict() for name, fit in fits.items()}
            for side, fits in (("sample", validation.fits), ("reference", validation.reference_fits))
        },
        "btag": [asdict(entry) for entry in validation.tags],
        "comparisons": [asdict(entry) for entry in validation.comparisons],
    }


def write_validation_page(
    validation: Validation, folder: Path, *, facts: Mapping[str, str], dpi: int = 160, processes: int = 1
) -> Path:
    """Writes the page, its figures and tables, and validation.json with all numbers.

    Args:
        validation: what is said.
        folder: where to; the page is its index.html and needs no other file and no network.
        facts: what was validated: name and text.
        dpi: resolution of the PNG files.
        processes: how many draw at once; more than one needs a main module that is safe to import.

    Returns:
        The path of the page.
    """
    drawings = validation_drawings(validation)
    tables = {
        "criteria": _criteria_table(validation.criteria),
        "peaks": _peak_table(validation),
        "btag": _tag_table(validation.tags),
        "comparisons": _comparison_table(validation.comparisons),
    }
    written = [write_csv(table, folder / "tables") for table in tables.values() if table.rows]
    with drawing_processes(processes) as pool:
        pictures = render(
            [drawing for part in drawings.values() for drawing in part],
            folder=folder / "figures",
            dpi=dpi,
            pool=pool,
        )
    # A page without a reference must not lie beside figures of one.
    for path in [*(folder / "tables").iterdir(), *(folder / "figures").iterdir()]:
        if path not in written and path.stem not in pictures:
            path.unlink()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = folder / "index.html"
    page.write_text(
        environment.get_template("validation.html.j2").render(
            validation=validation,
            drawings=drawings,
            pictures=pictures,
            tables=tables,
            differences=_differences(validation),
            agreeing=sum(entry.p >= _RARE for entry in validation.comparisons),
            skims=skims_of(validation.histograms),
            reference_skims=skims_of(validation.reference),
            facts=facts,
        ),
        encoding="utf-8",
    )
    write_json(folder / "validation.json", _document(validation))
    logger.info("wrote %s", page)
    return page
