"""Tables of the page: yields, cutflow, power, datasets and missing input, as cells and as CSV."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from math import sqrt
from pathlib import Path
from typing import Any

from processors.agreement import MIN_EFFECTIVE, MIN_EXPECTED
from report.mathtext import to_html, to_plain
from report.numbers import count, duration, interval, measurement, significant
from report.power import SCORE, best_variable, compared, signal_name, variable_label
from report.processes import Process, processes_of

__all__ = [
    "Cell",
    "Table",
    "agreement_table",
    "cutflow_table",
    "datasets_table",
    "missing_table",
    "power_of_ten",
    "power_table",
    "scores_table",
    "stages_table",
    "write_csv",
    "yields_table",
]


@dataclass(frozen=True)
class Cell:
    """One cell: what is read (HTML), and the number it is sorted by and written to the CSV file with.

    Attributes:
        html: what is shown.
        value: number or text behind it.
        error: standard error of the number, where it has one.
        color: colour of a small square before the text, that of the legend; empty for none.
        strong: emphasised.
    """

    html: str
    value: float | str | None = None
    error: float | None = None
    color: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        name: stem of its CSV file.
        caption: what it says, HTML.
        columns: heads, HTML.
        rows: body.
        totals: rows that stay below the body when it is sorted.
    """

    name: str
    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    totals: list[list[Cell]] = field(default_factory=list)

    @property
    def numbers(self) -> list[bool]:
        """Which columns hold numbers, or dashes where there is none, and are aligned as such."""
        lines = self.rows + self.totals
        columns = [[line[place].value for line in lines] for place in range(len(self.columns))]
        return [
            any(isinstance(value, int | float) for value in column)
            or (bool(column) and all(value is None for value in column))
            for column in columns
        ]


def _text(text: str) -> Cell:
    return Cell(escape(text), text)


def _number(value: float, error: float | None = None, *, strong: bool = False) -> Cell:
    return Cell(measurement(value, error), value, error, strong=strong)


def _count(number: float) -> Cell:
    return Cell(count(number), number)


def _name(process: Process) -> Cell:
    return Cell(to_html(process.label), to_plain(process.label), color=process.color)


def _sums(process: Process, datasets: Mapping[str, Mapping[str, Any]]) -> tuple[int, float, float]:
    """Selected events, Σw and its error of one process."""
    members = [datasets[name] for name in process.datasets]
    selected = sum(int(entry["selected"]) for entry in members)
    sumw = sum(float(entry["sumw"]) for entry in members)
    return selected, sumw, sqrt(sum(float(entry["sumw2"]) for entry in members))


def _by_yield(datasets: Mapping[str, Mapping[str, Any]], kind: str) -> list[Process]:
    """Processes of one kind, the most abundant first."""
    chosen = [process for process in processes_of(datasets) if process.kind == kind]
    return sorted(chosen, key=lambda process: -_sums(process, datasets)[1])


def yields_table(region: str, datasets: Mapping[str, Mapping[str, Any]]) -> Table:
    """Selected events and weighted yields of each process, the total background, data, and their ratio.

    Args:
        region: name of the region.
        datasets: its part of ``select.json``.
    """
    rows = []
    backgrounds = _by_yield(datasets, "background")
    for process in backgrounds + _by_yield(datasets, "signal"):
        selected, sumw, error = _sums(process, datasets)
        effective = sumw**2 / error**2 if error else 0.0
        kind = "signal" if process.kind == "signal" else "background"
        rows.append([_name(process), _text(kind), _count(selected), _count(effective), _number(sumw, error)])
    totals = []
    selected, sumw, variance = 0, 0.0, 0.0
    for process in backgrounds:
        number, weight, error = _sums(process, datasets)
        selected, sumw, variance = selected + number, sumw + weight, variance + error**2
    if backgrounds:
        effective = sumw**2 / variance if variance else 0.0
        totals.append(
            [
                _text("Total background"),
                _text(""),
                _count(selected),
                _count(effective),
                _number(sumw, sqrt(variance)),
            ]
        )
    for process in _by_yield(datasets, "data"):
        number, events, _ = _sums(process, datasets)
        totals.append([_text("Data"), _text(""), _count(number), _count(number), _count(events)])
        if sumw > 0 and events > 0:
            ratio = events / sumw
            error = ratio * sqrt(1.0 / events + variance / sumw**2)
            empty = Cell("", None)
            totals.append([_text("Data / background"), _text(""), empty, empty, _number(ratio, error)])
    return Table(
        name=f"{region}_yields",
        caption="Events after all cuts. Σw is normalised to the luminosity; its error is √Σw². "
        "n<sub>eff</sub> = (Σw)²/Σw² is how many unweighted events the simulation is worth.",
        columns=["Process", "Kind", "Events", "n<sub>eff</sub>", "Σw ± error"],
        rows=rows,
        totals=totals,
    )


def cutflow_table(
    region: str, cuts: Sequence[str], datasets: Mapping[str, Mapping[str, Any]], *, kind: str = "background"
) -> Table:
    """Events left after each cut, raw and weighted, by process.

    Args:
        region: name of the region.
        cuts: names in order.
        datasets: its part of ``select.json``.
        kind: "background" gives the backgrounds, their sum and data; "signal" the signals.
    """
    processes = _by_yield(datasets, kind)
    data = _by_yield(datasets, "data") if kind == "background" else []
    rows = []
    for cut in cuts:
        cells = [_text(cut)]
        sums = [_cut_sums(process, cut, datasets) for process in processes]
        cells += [_cut_cell(*entry) for entry in sums]
        if kind == "background" and sums:
            total = [sum(column) for column in zip(*sums, strict=True)]
            cells.append(_cut_cell(total[0], total[1], total[2], strong=True))
        cells += [_count(_cut_sums(process, cut, datasets)[0]) for process in data]
        rows.append(cells)
    columns = ["Cut", *(to_html(process.label) for process in processes)]
    if kind == "background" and processes:
        columns.append("Background")
    columns += ["Data" for _ in data]
    return Table(
        name=f"{region}_cutflow_{kind}",
        caption="Events left after each cut: Σw ± error, and the number of simulated events below it.",
        columns=columns,
        rows=rows,
    )


def _cut_sums(
    process: Process, cut: str, datasets: Mapping[str, Mapping[str, Any]]
) -> tuple[float, float, float]:
    """(n, Σw, Σw²) of a process after a cut; zero for a dataset that was never read."""
    entries = [datasets[name]["cutflow"].get(cut, (0, 0.0, 0.0)) for name in process.datasets]
    return (
        float(sum(entry[0] for entry in entries)),
        float(sum(entry[1] for entry in entries)),
        float(sum(entry[2] for entry in entries)),
    )


def _cut_cell(number: float, sumw: float, sumw2: float, *, strong: bool = False) -> Cell:
    error = sqrt(max(sumw2, 0.0))
    return Cell(f"{measurement(sumw, error)}<br><small>{count(number)}</small>", sumw, error, strong=strong)


_POWER_CAPTIONS = {
    "signals": "Power of the score for each signal",
    "families": "Power of the score for each family of signals",
    "processes": "Power of the score to tell each background process from all others",
}


def power_table(
    region: str,
    signals: Mapping[str, Mapping[str, Any]],
    processes: Sequence[Process],
    *,
    kind: str = "signals",
) -> Table:
    """AUC and signal efficiencies of the score, always beside the best single variable.

    Args:
        region: name of the region.
        signals: the part ``kind`` of the region in ``evaluate.json``.
        processes: of the region, for names and colours.
        kind: "signals", "families" or "processes".
    """
    points = sorted(
        {point for entry in signals.values() for point in entry["scores"].get(SCORE, {}).get("eps_s", {})},
        key=float,
        reverse=True,
    )
    columns = [
        "Signal" if kind == "signals" else "Family" if kind == "families" else "Process",
        "Events",
        "AUC,<br>score",
        "AUC,<br>best variable",
    ]
    for point in points:
        power = f"ε<sub>S</sub> at ε<sub>B</sub> = {power_of_ten(point)}"
        columns += [f"{power},<br>score", f"{power},<br>best variable"]
    colors = {process.key: process.color for process in processes}
    colors |= {process.family: process.color for process in processes}
    rows = []
    for key, entry in signals.items():
        scores = compared(entry["scores"])
        label = signal_name(key, entry, processes) if kind == "signals" else str(entry["label"])
        color = colors.get(str(entry.get("process", key)), "")
        row = [Cell(to_html(label), to_plain(label), color=color), _count(entry["n"])]
        best = best_variable(scores)
        row += _duel(scores.get(SCORE, {}), scores.get(best or "", {}), best, "auc", "auc_error")
        for point in points:
            at = {name: (found.get("eps_s") or {}).get(point) or {} for name, found in scores.items()}
            rivals = {
                name: found["value"]
                for name, found in at.items()
                if name != SCORE and found.get("value") is not None
            }
            best = max(rivals, key=lambda name: rivals[name], default=None)
            row += _duel(at.get(SCORE, {}), at.get(best or "", {}), best, "value", "error")
        rows.append(row)
    return Table(
        name=f"{region}_power" if kind == "signals" else f"{region}_power_{kind}",
        caption=f"{_POWER_CAPTIONS[kind]}, with the best single variable beside it: chosen for each "
        "row and column with knowledge of what it looks for, which the score does not have. The larger "
        "of the two is emphasised. A dash stands where fewer than ten effective background events are left.",
        columns=columns,
        rows=rows,
    )


SCORE_NAMES = {
    "mse": "squared error",
    "mae": "absolute error",
    "distance": "squared error and half the size",
    "elbo": "\u2212ELBO",
    "kl": "KL divergence",
    "mu2": "Σμ²",
}


def scores_table(
    region: str,
    signals: Mapping[str, Mapping[str, Any]],
    processes: Sequence[Process],
    kinds: Sequence[str],
) -> Table:
    """AUC, and signal efficiency at a background efficiency of 1 %, of each score of a model.

    Args:
        region: name of the region.
        signals: the part "signals" of the region in ``evaluate.json``.
        processes: of the region, for names and colours.
        kinds: of the scores; the first is the one that is called "the score" everywhere else.
    """
    # Networks of an ensemble are no scores of their own but the range of the first.
    columns = {SCORE: kinds[0], **{f"{SCORE}_{kind}": kind for kind in kinds[1:] if "member" not in kind}}
    names = {column: SCORE_NAMES.get(kind, kind) for column, kind in columns.items()}
    rows = []
    for key, entry in signals.items():
        label = signal_name(key, entry, processes)
        row = [Cell(to_html(label), to_plain(label))]
        for value, error in (("auc", "auc_error"), ("value", "error")):
            found = [entry["scores"].get(column, {}) for column in columns]
            if value == "value":
                found = [(each.get("eps_s") or {}).get("1e-2") or {} for each in found]
            largest = max((each[value] for each in found if each.get(value) is not None), default=None)
            for each in found:
                strong = largest is not None and each.get(value) == largest
                row.append(
                    Cell(
                        measurement(each.get(value), each.get(error)),
                        each.get(value),
                        each.get(error),
                        strong=strong,
                    )
                )
        rows.append(row)
    return Table(
        name=f"{region}_scores",
        caption=f"All scores of the model: everywhere else, the score is the {names[SCORE]}. Each is the log10 of what "
        "it is named for, and larger is more anomalous; the largest of a row is emphasised.",
        columns=[
            "Signal",
            *(f"AUC,<br>{name}" for name in names.values()),
            *(
                f"ε<sub>S</sub> at ε<sub>B</sub> = {power_of_ten('1e-2')},<br>{name}"
                for name in names.values()
            ),
        ],
        rows=rows,
    )


def _duel(
    score: Mapping[str, Any], rival: Mapping[str, Any], name: str | None, value: str, error: str
) -> list[Cell]:
    """Cells of the score and of its best rival, the larger emphasised."""
    ours, theirs = score.get(value), rival.get(value)
    ahead = ours is not None and (theirs is None or ours > theirs)
    behind = theirs is not None and (ours is None or theirs > ours)
    label = f" <small>{to_html(variable_label(name))}</small>" if name and theirs is not None else ""
    return [
        Cell(measurement(ours, score.get(error)), ours, score.get(error), strong=ahead),
        Cell(measurement(theirs, rival.get(error)) + label, theirs, rival.get(error), strong=behind),
    ]


def power_of_ten(point: str) -> str:
    """Write the key of a working point, "1e-2", as 10⁻²."""
    mantissa, _, exponent = point.partition("e")
    if mantissa == "1" and exponent:
        minus = exponent.replace("-", "\u2212")
        return f"10<sup>{minus}</sup>"
    return escape(point)


def datasets_table(region: str, datasets: Mapping[str, Mapping[str, Any]]) -> Table:
    """Every dataset of the region: what it is, how it was normalised, how many events were read and kept."""
    rows = []
    for name, entry in datasets.items():
        data = entry["kind"] == "data"
        read, expected = int(entry["events_read"]), int(entry["events_expected"])
        blank = Cell("\u2013", None)
        rows.append(
            [
                Cell(escape(name), name, color=str(entry.get("color") or "")),
                _text(str(entry["group"])),
                blank if data else _number(float(entry["xsec_pb"]), None),
                Cell(escape(str(entry.get("norm_source", ""))), str(entry.get("norm_source", ""))),
                Cell(
                    count(read) + ("" if read == expected else f" of {count(expected)}"),
                    read,
                    strong=read != expected,
                ),
                _count(entry["selected"]),
                _count(entry["sumw"]) if data else _number(float(entry["sumw"]), sqrt(float(entry["sumw2"]))),
            ]
        )
    return Table(
        name=f"{region}_datasets",
        caption="Every dataset: cross section, where its normalisation comes from, events read and selected.",
        columns=["Dataset", "Group", "\u03c3 [pb]", "Normalised by", "Events read", "Selected", "Σw ± error"],
        rows=rows,
    )


def agreement_table(region: str, result: Mapping[str, Any], labels: Mapping[str, str]) -> Table | None:
    """How each input of a region agrees with data, the worst first; None where nothing was compared.

    Args:
        region: name of the region.
        result: its part of ``agreement.json``.
        labels: of inputs, mathtext allowed; others stand by their names.
    """
    inputs: Mapping[str, Mapping[str, Any]] = result.get("inputs") or {}
    if not inputs:
        return None
    dash = Cell("\u2013", None)

    def order(name: str) -> tuple[bool, bool, float, float]:
        entry = inputs[name]
        told = entry["chi2"] is not None
        return entry["kept"], not told, entry["p"] if told else 1.0, -entry["chi2_ndf"] if told else 0.0

    rows = []
    for name in sorted(inputs, key=order):
        entry = inputs[name]
        label = f"{escape(name)} <small>{to_html(labels[name])}</small>" if name in labels else escape(name)
        row = [Cell(label, name)]
        if entry["chi2"] is None:
            row += [dash] * 5
        else:
            deviation = entry["deviation"]
            span = interval(deviation["low"], deviation["high"])
            row += [
                Cell(significant(entry["chi2_ndf"]), entry["chi2_ndf"]),
                _count(entry["ndf"]),
                Cell(significant(entry["p"], 2), entry["p"]),
                Cell(f"{deviation['pull']:+.1f}".replace("-", "\u2212"), deviation["pull"]),
                Cell(span, deviation["low"]),
            ]
        filled = entry["filled"] or {}
        for kind in ("data", "simulation"):
            part = filled.get(kind)
            row.append(dash if part is None else Cell(f"{significant(100 * part)} %", part))
        verdict = "kept" if entry["kept"] else "dropped"
        reason = f" <small>{escape(entry['reason'])}</small>" if entry["reason"] else ""
        row.append(Cell(verdict + reason, verdict, strong=not entry["kept"]))
        rows.append(row)
    compares = (
        "shapes, with simulation normalised to data" if result["normalise"] == "shape" else "absolute numbers"
    )
    return Table(
        name=f"{region}_agreement",
        caption=f"Data against simulated background in every input; what is compared are {compares}. χ² takes the "
        "statistical errors of both (Gagunashvili, NIM A 614 (2010) 287), in bins merged from the left until "
        f"{MIN_EXPECTED:g} events are expected from {MIN_EFFECTIVE:g} effective ones of simulation. The largest "
        "deviation is in standard errors of data and simulation together. Cells of the matrix "
        "are compared where they are filled; in how many events they are is beside it.",
        columns=[
            "Input", "χ²/ndf", "ndf", "p", "Largest deviation", "where", "Filled, data", "simulation", "Verdict",
        ],
        rows=rows,
    )  # fmt: skip


def missing_table(missing: Sequence[Mapping[str, Any]]) -> Table:
    """The ranges of events that could not be read."""
    rows = [
        [
            _text(str(entry["dataset"])),
            _text(str(entry["file"])),
            _count(entry["start"]),
            _count(entry["stop"]),
            _text(str(entry["cause"])),
        ]
        for entry in missing
    ]
    return Table(
        name="missing",
        caption="Ranges of events that could not be read: from the entry Start up to the one before Stop.",
        columns=["Dataset", "File", "Start", "Stop", "Cause"],
        rows=rows,
    )


_DONE = {  # of a stage in run.json: its column and what a number of it is written as
    "events": ("Events", count),
    "events_before": ("of earlier runs", count),
    "events_per_second": ("Events per second", lambda rate: significant(rate, 3)),
    "bytes_read": ("Read [MB]", lambda size: significant(size / 1e6, 3)),
    "chunks": ("Chunks", count),
}


def stages_table(stages: Mapping[str, Mapping[str, Any]]) -> Table:
    """The time of each stage, and how much it did where it is a pass over events; ``stages`` of run.json."""
    dash = Cell("\u2013", None)
    rows = []
    for name, stage in stages.items():
        row = [_text(name), Cell(duration(stage["seconds"]), stage["seconds"])]
        row += [
            Cell(form(stage[key]), stage[key]) if key in stage else dash for key, (_, form) in _DONE.items()
        ]
        rows.append(row)
    return Table(
        name="stages",
        caption="What each stage of the last command did. The rate is that of its passes over events, without what "
        "comes before and after; events of earlier runs were not read again.",
        columns=["Stage", "Time", *(head for head, _ in _DONE.values())],
        rows=rows,
    )


def write_csv(table: Table, folder: Path, *, remark: str = "") -> Path:
    """Write the numbers behind a table, with a column of errors after each column that has any.

    A remark, such as that input is missing, stands in a last column of every row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = table.rows + table.totals
    with_error = [any(line[place].error is not None for line in lines) for place in range(len(table.columns))]
    path = folder / f"{table.name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        heads: list[str] = []
        for head, erring in zip(table.columns, with_error, strict=True):
            plain = re.sub(r"<[^>]+>", "", head.replace("<br>", " "))
            heads += [plain, f"{plain} (error)"] if erring else [plain]
        writer.writerow(heads + ["Remark"] * bool(remark))
        for line in lines:
            values: list[float | str | None] = []
            for cell, erring in zip(line, with_error, strict=True):
                values += [cell.value, cell.error] if erring else [cell.value]
            values += [remark] * bool(remark)
            writer.writerow(["" if value is None else value for value in values])
    return path
