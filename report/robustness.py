"""What the page says of the tests of robustness: which changes the score notices, and what it owes to training."""

from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Final

from report.gallery import Region, region_drawing
from report.mathtext import to_html, to_plain
from report.numbers import count, measurement, significant
from report.pictures import Drawing
from report.power import signal_name
from report.processes import processes_of
from report.robustness_figures import draw_comparison, draw_response
from report.sections import Section, of_region
from report.tables import Cell, Table

__all__ = ["robustness_section"]

Entry = Mapping[str, Any]

# figure -> (tests whose curves it has, what stands on its axis, key of that value)
_CURVES: Final[dict[str, tuple[tuple[str, ...], str, str]]] = {
    "lepton": (("lepton-pt", "lepton-pt-balanced"), r"Factor on $p_{T}$ of the leading lepton", "factor"),
    "noise": (("noise", "noise-filled"), "Noise [standard deviations of each scaled input]", "size"),
}
_TITLES: Final = {
    "lepton": "The leading electron or muon made harder in the events of the files; features are computed anew",
    "noise": "Noise on the scaled inputs",
}
_COMPARISONS: Final = {
    "without-process": ("Process", "Each process as the signal of a model that has not seen it"),
    "little-data": ("Signal", "A model trained on a small part of the events"),
}


def robustness_section(output: Path, region: Region) -> Section | None:
    """The section of one region; None where the stage robustness was not run.

    Args:
        output: directory of the whole analysis, with robustness.json.
        region: of the page.
    """
    found = of_region(output, "robustness", region.name)
    if not found:
        return None
    names = _names(found, region)
    tables = [
        table
        for table in (
            _inputs_table(region.name, found),
            *(_comparison_table(region.name, found, test, names) for test in _COMPARISONS),
            _inverse_table(region.name, found, names),
        )
        if table.rows
    ]
    return Section(
        "robustness", "Robustness of the score", _text(found), tables, _drawings(region, found, names)
    )


def _names(result: Entry, region: Region) -> dict[str, str]:
    """Labels of processes and signals, with mathtext."""
    processes = processes_of(region.datasets)
    retraining = result["retraining"]
    names = {key: str(entry["label"] or key) for key, entry in retraining.get("without-process", {}).items()}
    for test in ("little-data", "inverse"):
        names |= {key: signal_name(key, entry, processes) for key, entry in retraining.get(test, {}).items()}
    return names


def _text(result: Entry) -> str:
    sample, retraining = result["sample"], result["retraining"]
    first = (
        f"<p>{count(sample['n'])} held-out background events (n<sub>eff</sub> {count(sample['n_eff'])}) were changed "
        f"and scored again with the model {escape(str(result['model']['name']))}. AUC is the probability that a "
        "changed event scores above an unchanged one: 0.5 where nothing is noticed. Its error, and that of the mean "
        "shift of the score, know that both are the same events.</p>"
    )
    swaps = (
        "<p>Momenta are changed in the events of the files, before features are made: masses, sums, transverse masses "
        "and cells of the matrix follow. Columns are exchanged, and an object is taken from another background event, "
        "in the inputs alone: what is derived from them stays, so that each input looks usual and the event does "
        "not.</p>"
    )
    if not retraining:
        return first + swaps
    seeds = len(retraining["seeds"])
    return (
        first
        + swaps
        + f"<p>New trainings took at most {retraining['epochs']} epochs and {seeds} seed{'s' if seeds > 1 else ''}; "
        "they are compared with a nominal one that was as short, on the same held-out events. A dash stands where "
        "fewer than ten effective events are left.</p>"
    )


# --- tables ----------------------------------------------------------------------------------------------------------


def _inputs_table(region: str, result: Entry) -> Table:
    rows = []
    for test, entries in result["inputs"].items():
        for entry in entries:
            alarms = entry["alarms"]
            rows.append(
                [
                    Cell(_CHANGES[test](entry), to_plain(_CHANGES[test](entry))),
                    _number(entry["auc"], entry["auc_error"]),
                    _number(entry["shift"], entry["shift_error"]),
                    _number(alarms["value"], alarms["error"]),
                ]
            )
    return Table(
        name=f"{region}_robustness_inputs",
        caption="Changed against unchanged background. The last column is the share of changed events above the cut "
        "that one unchanged event in a hundred passes; a dash stands where fewer than ten effective events do.",
        columns=["Change", "AUC", "Mean shift of the score", "Above the cut of 1 %"],
        rows=rows,
    )


def _pairs(entry: Entry) -> str:
    pairs = entry["columns"]
    if len(pairs) > 1:
        return f"these {len(pairs)} pairs at once"
    return " ↔ ".join(escape(name) for name in pairs[0])


_WAYS: Final = {
    "leading lepton": "leading lepton p<sub>T</sub> × {}",
    "leptons": "p<sub>T</sub> of all leptons × {}",
    "jets": "p<sub>T</sub> of all jets × {}",
    "more jets": "with the jets of other events: {}",
    "missing momentum": "{} GeV more missing transverse momentum",
    "everything": "p<sub>T</sub> of leptons and jets and E<sub>T</sub><sup>miss</sup> × {}",
}
_CHANGES: Final[dict[str, Callable[[Entry], str]]] = {
    "lepton-pt": lambda entry: f"leading lepton p<sub>T</sub> × {entry['factor']:g}",
    "lepton-pt-balanced": lambda entry: (
        f"leading lepton p<sub>T</sub> × {entry['factor']:g}, balanced by E<sub>T</sub><sup>miss</sup>"
    ),
    "harder": lambda entry: _WAYS[entry["way"]].format(f"{entry['strength']:g}"),
    "swapped-columns": _pairs,
    "swapped-objects": lambda entry: (
        f"{escape(entry['object'])} of another event"
        + ("" if entry["share"] > 0.9995 else f" (in {significant(100 * entry['share'])} % of events)")
    ),
    "noise": lambda entry: f"noise of {entry['size']:g} times the standard deviation",
    "noise-filled": lambda entry: (
        f"noise of {entry['size']:g} times the standard deviation, where an input is not 0"
    ),
}


def _comparison_table(region: str, result: Entry, test: str, names: Mapping[str, str]) -> Table:
    head, caption = _COMPARISONS[test]
    rows = []
    for key, entry in result["retraining"].get(test, {}).items():
        nominal = entry["nominal"]
        row = [_name(names[key], entry), _count(entry["n"]), _count(entry["n_train"])]
        row += [_area(part) for part in (entry, nominal)]
        row.append(_number(entry["difference"], entry["difference_error"]))
        for point in ("1e-1", "1e-2"):
            row += [
                _number(part["eps_s"][point]["value"], part["eps_s"][point]["error"])
                for part in (entry, nominal)
            ]
        rows.append(row)
    power = [f"ε<sub>S</sub> at ε<sub>B</sub> = {point}" for point in ("10<sup>−1</sup>", "10<sup>−2</sup>")]
    return Table(
        name=f"{region}_robustness_{test}",
        caption=f"{caption}, beside the nominal training. The error of the difference knows that both saw the same "
        "events; a spread over seeds stands in brackets.",
        columns=[
            head, "Events", "Trained on", "AUC", "AUC,<br>nominal", "Difference",
            *(f"{text}{of}" for text in power for of in ("", ",<br>nominal")),
        ],
        rows=rows,
    )  # fmt: skip


def _inverse_table(region: str, result: Entry, names: Mapping[str, str]) -> Table:
    rows = [
        [_name(names[key], entry), _count(entry["n_train"]), _area(entry), _area(entry["nominal"])]
        for key, entry in result["retraining"].get("inverse", {}).items()
    ]
    return Table(
        name=f"{region}_robustness_inverse",
        caption="The inverse task: the model has learnt a signal, and the background is the anomaly. Below 0.5 the "
        "background looks more usual than the signal that was learnt. The last column is the usual task, with the same "
        "events.",
        columns=[
            "Learnt signal",
            "Trained on",
            "AUC, background<br>as the anomaly",
            "AUC, signal<br>as the anomaly",
        ],
        rows=rows,
    )


def _name(label: str, entry: Entry) -> Cell:
    mark = " <small>collapsed</small>" if entry["collapsed"] else ""
    return Cell(to_html(label) + mark, to_plain(label))


def _number(value: float | None, error: float | None) -> Cell:
    return Cell(measurement(value, error), value, error)


def _count(number: float) -> Cell:
    return Cell(count(number), number)


def _area(entry: Entry) -> Cell:
    spread = entry.get("spread")
    text = measurement(entry["auc"], entry["auc_error"])
    return Cell(
        text + (f" <small>({significant(spread, 2)})</small>" if spread else ""),
        entry["auc"],
        entry["auc_error"],
    )


# --- figures ---------------------------------------------------------------------------------------------------------


def _drawings(region: Region, result: Entry, names: Mapping[str, str]) -> list[Drawing]:
    drawings = []
    for key, (tests, xlabel, value) in _CURVES.items():
        curves = {test: result["inputs"][test] for test in tests if result["inputs"].get(test)}
        if curves:
            draw = partial(draw_response, curves, xlabel=xlabel, value=value, sample=region.sample)
            drawings.append(
                region_drawing(
                    region,
                    draw,
                    {"curves": curves},
                    name=f"robustness_{key}",
                    title=_TITLES[key],
                    alt=f"Area under the ROC curve of changed against unchanged background. {_TITLES[key]}.",
                )
            )
    for test, (_, title) in _COMPARISONS.items():
        entries = {
            key: entry
            for key, entry in result["retraining"].get(test, {}).items()
            if entry["auc"] is not None and entry["nominal"]["auc"] is not None
        }
        if entries:
            draw = partial(
                draw_comparison,
                entries,
                labels={key: names[key] for key in entries},
                test=test,
                sample=region.sample,
            )
            drawings.append(
                region_drawing(
                    region, draw, {test: entries}, name=f"robustness_{test}", title=title,
                    alt=f"{title}: area under the ROC curve beside that of the nominal training.",
                )
            )  # fmt: skip
    return drawings
