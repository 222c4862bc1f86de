"""The result of a preset in the form in which its source gives it, the source's number beside ours.

The report (two leptons) gives one area under the ROC curve, all signals but G_mumu together; the thesis (three leptons)
one for each of two C1N2 points, a cut on the score and the significance behind it. Neither is how this project
judges a score: that is each signal on its own, beside single variables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log, sqrt
from typing import Any, Final

from models.fitting import collapse_remark
from report.tables import Cell, Table

__all__ = ["SourceTable", "asimov_significance", "source_table"]

_BROKEN: Final = "G_mumu"  # its weights in the release lift every combined area
_REPORT_SIGNALS: Final[tuple[str, ...]] = (
    "SUSYSlepSlep", "SUSYC1C1", "SUSYC1N2", "GG_ttn1", "TT_directTT", "Zprime_ee", "Zprime_mumu", "Zprime_tt",
    "RS_G_ZZ", "G_ee", "G_mumu", "dmV_Zll",
)  # fmt: skip
_POINTS: Final = ((450.0, 300.0), (800.0, 50.0))  # m(C1N2), m(N1) [GeV]
_CUTS: Final = ("1e-3", "1e-2", "1e-1")  # background efficiencies, the tightest that is supported is taken

_REPORT_AREAS: Final[dict[str, float]] = {
    "report-minmax": 0.577,
    "report-unstacked": 0.483,
    "report-reduced": 0.597,
    "report-standard": 0.692,
}
# Of the variational models one pair is given, and not said of which.
_THESIS_AREAS: Final[dict[str, tuple[float, float] | None]] = {
    "thesis-ae-small": None,
    "thesis-ae-big": (0.81, 0.95),
    "thesis-tunable": None,
    "thesis-vae-small": (0.51, 0.66),
    "thesis-vae-big": (0.51, 0.66),
}
_THESIS_MET: Final = (0.94, 0.99)  # missing transverse energy alone, same points


@dataclass(frozen=True)
class SourceTable:
    """A table as a source prints it.

    Attributes:
        title: what is compared with what, and on which events.
        header: names of the columns.
        rows: cells as text; "-" where there is no number.
        notes: what must be known to read it, a sentence each.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: list[str]

    def on_page(self, region: str) -> Table:
        """The same as a table of the page, its notes in the caption."""
        caption = escape(f"{self.title}. " + "".join(f"{note[0].upper()}{note[1:]}. " for note in self.notes))
        rows = [[Cell(escape(text), text) for text in row] for row in self.rows]
        return Table(f"{region}_source", caption.strip(), [escape(name) for name in self.header], rows)


def source_table(
    region: str, result: Mapping[str, Any], *, events: str, background_sumw: float | None = None
) -> SourceTable | None:
    """The result of a source's preset in the form of that source.

    Args:
        region: its name; the report is about 2L, the thesis about 3L.
        result: its part of evaluate.json.
        events: what was analysed, such as "Pythia 8 simulation, pseudo-data": the sources had ATLAS Open Data.
        background_sumw: weight of the whole background that is expected in data; without it there is no
            cut and no significance.

    Returns:
        The table, or nothing where the model is not of a source, or the region not the source's.
    """
    card = result["model"].get("card") or {}
    preset = str(card.get("preset", ""))
    if preset in _REPORT_AREAS and region == "2L":
        table = _report(preset, result, events)
    elif preset in _THESIS_AREAS and region == "3L":
        table = _thesis(preset, result, events, background_sumw)
    else:
        return None
    if remark := collapse_remark(card):
        table.notes.append(f"this model {remark}")
    if "Open Data" not in events:
        table.notes.append(
            f"these are not the source's events but {events}: orderings may be compared, not digits"
        )
    return table


def _report(preset: str, result: Mapping[str, Any], events: str) -> SourceTable:
    signals = result["signals"]
    present = {str(entry["family"]) for entry in signals.values()}
    families = [family for family in _REPORT_SIGNALS if family in present]
    groups = [(family, [family]) for family in families]
    without = [family for family in families if family != _BROKEN]
    groups += [(f"all but {_BROKEN}", without), ("all", families)]
    rows = []
    for name, members in groups:
        chosen = [entry for entry in signals.values() if entry["family"] in members]
        published = f"{_REPORT_AREAS[preset]:.2f}" if members == without else "-"
        rows.append(
            (
                name,
                f"{sum(entry['n'] for entry in chosen):,}",
                _number(_combined(chosen, "score")),
                _number(_combined(chosen, "met_et")),
                published,
            )
        )
    return SourceTable(
        f"In the form of the report: {preset} on {events}",
        ("signal", "events", "AUC", "AUC of missing ET alone", "AUC in the report"),
        rows,
        [
            "areas over several signals weigh each with its expected events: one large signal decides them",
            f"{_BROKEN} stands apart because its weights in the release are broken",
        ],
    )


def _combined(entries: list[Mapping[str, Any]], score: str) -> float | None:
    """Area of several signals together: an area is linear in the signal, so it is the mean by expected events."""
    known = [entry for entry in entries if entry["scores"].get(score, {}).get("auc") is not None]
    total = sum(float(entry["sumw"]) for entry in known)
    if not known or len(known) < len(entries) or total <= 0:
        return None
    return sum(float(entry["sumw"]) * float(entry["scores"][score]["auc"]) for entry in known) / total


def _thesis(
    preset: str, result: Mapping[str, Any], events: str, background_sumw: float | None
) -> SourceTable:
    areas = _THESIS_AREAS[preset] or (None, None)
    thresholds = (result["model"].get("card") or {}).get("thresholds") or {}
    rows = []
    for place, (heavy, light) in enumerate(_POINTS):
        name = f"C1N2 {heavy:.0f}/{light:.0f}"
        entry = _point(result["signals"], heavy, light)
        published = (_number(areas[place], 2), f"{_THESIS_MET[place]:.2f}")
        if entry is None:
            rows.append((name, "-", "-", "-", "-", "-", "-", *published))
            continue
        cut = _cut(entry, background_sumw)
        score = (thresholds.get(cut[0]) or {}).get("score") if cut else None
        rows.append(
            (
                name,
                _number(entry["scores"]["score"]["auc"]),
                _number((entry["scores"].get("met_et") or {}).get("auc")),
                "-" if score is None else f"{score:.2f}",
                f"{cut[1]:.3g}" if cut else "-",
                f"{cut[2]:.3g} ± {cut[3]:.2g}" if cut else "-",
                f"{cut[4]:.2g}" if cut else "-",
                *published,
            )
        )
    return SourceTable(
        f"In the form of the thesis: {preset} on {events}",
        ("signal", "AUC", "AUC of missing ET", "cut on the score", "signal above", "background above", "Z",
         "AUC in the thesis", "its missing ET"),
        rows,
        [
            "the cut keeps the least background that ten effective events support; the thesis chose it on the signal",
            "Z is the expected significance with the statistical error of the background, which the thesis left out",
        ],
    )  # fmt: skip


def _point(signals: Mapping[str, Mapping[str, Any]], heavy: float, light: float) -> Mapping[str, Any] | None:
    """The C1N2 signal with these masses [GeV]."""
    for entry in signals.values():
        model = entry.get("model") or {}
        if entry["family"] == "SUSYC1N2" and (model.get("m_C1N2_GeV"), model.get("m_N1_GeV")) == (
            heavy,
            light,
        ):
            return entry
    return None


def _cut(
    entry: Mapping[str, Any], background_sumw: float | None
) -> tuple[str, float, float, float, float] | None:
    """Share of background kept, signal and background above the cut, error of the background, significance."""
    if background_sumw is None:
        return None
    for name in _CUTS:
        efficiency = entry["scores"]["score"]["eps_s"].get(name) or {}
        if efficiency.get("value") is None or not efficiency.get("n_eff_background"):
            continue
        signal = float(efficiency["value"]) * float(entry["sumw"])
        kept = float(name) * background_sumw
        error = kept / sqrt(float(efficiency["n_eff_background"]))
        return name, signal, kept, error, asimov_significance(signal, kept, error)
    return None


def asimov_significance(signal: float, background: float, error: float) -> float:
    """Median significance of a signal over a background that is known with an error.

    Cowan, Cranmer, Gross and Vitells, arXiv:1007.1727, eq. 97, with a background from an auxiliary count, G. Cowan,
    "Discovery sensitivity for a counting experiment with background uncertainty" (2012), eq. 20.

    Args:
        signal: expected events.
        background: expected events.
        error: standard error of the background.
    """
    if signal <= 0 or background <= 0:
        return 0.0
    total, variance = signal + background, error**2
    if variance <= 0:
        return sqrt(2 * (total * log(total / background) - signal))
    first = total * log(total * (background + variance) / (background**2 + total * variance))
    second = background**2 / variance * log(1 + variance * signal / (background * (background + variance)))
    return sqrt(max(0.0, 2 * (first - second)))


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
