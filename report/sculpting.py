"""Does a cut on the score make a bump: the section of the page that the stage sculpting leaves its document for."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from report.gallery import Region, region_drawing
from report.mathtext import to_html, to_plain
from report.numbers import count, interval, measurement, significant
from report.pictures import Drawing
from report.power import signal_name
from report.processes import processes_of
from report.sculpting_figures import (
    MASS_LABELS,
    draw_hunt,
    draw_mass_shapes,
    drawable,
    probability_text,
)
from report.sections import Section, of_region
from report.tables import Cell, Table

__all__ = ["sculpting_section"]

_DASH = Cell("\u2013", None)
_RAW, _FLAT = "Cut on the score", "Cut on the score at equal mass"


def sculpting_section(output: Path, region: Region) -> Section | None:
    """What the page says of the masses behind a cut on the score; None where the stage sculpting was not run.

    What was found in collision data that the configuration blinds now is left out, also where the document has it.

    Args:
        output: directory of the whole analysis.
        region: without what is blinded.

    Raises:
        InputError: sculpting.json is no JSON document.
    """
    found = of_region(output, "sculpting", region.name)
    if not found:
        return None
    tables = [_shapes_table(region, found)]
    hidden = _hidden(region, found)
    if not hidden:
        tables.append(_hunts_table(region, found))
    point = _working_point(found)
    if found["decorrelation"] and point is not None:
        tables.append(_cost_table(region, found, point))
    drawings = _shape_drawings(region, found)
    if not hidden:
        drawings += _hunt_drawings(region, found)
    return Section(
        key="sculpting",
        title="Masses behind a cut on the score",
        text=_text(found, point, hidden=hidden),
        tables=tables,
        drawings=drawings,
    )


def _hidden(region: Region, found: Mapping[str, Any]) -> bool:
    """Whether the hunt looked into what may not be shown now."""
    blinded = region.sample.blinded or region.settings.score_limit is not None
    return blinded and found["observed"] == "collision data"


def _working_point(found: Mapping[str, Any]) -> str | None:
    """The tightest cut that statistics support for the score and for all decorrelated ones."""
    supported = [
        key
        for key, cut in found["cuts"].items()
        if not cut["unsupported"]
        and not any(other["cuts"][key]["unsupported"] for other in found["decorrelation"].values())
    ]
    return min(supported, key=float, default=None)


# --- words -----------------------------------------------------------------------------------------------------------


def _text(found: Mapping[str, Any], point: str | None, *, hidden: bool) -> str:
    """What was done and what is seen."""
    first = _shapes_sentence(found, point)
    if hidden:
        first += " Bumps were hunted in collision data that are blinded now, and are left out: run sculpting again."
    else:
        first += f" {_hunts_sentence(found)}"
    bins = max(len(mass["edges"]) - 1 for mass in found["masses"].values())
    second = (
        f"Distances are Jensen–Shannon divergences in {bins} bins of equal parts of the uncut background: 0 bit for "
        "equal shapes, 1 bit where they do not overlap. A finite sample is at a distance from its own parent: “by "
        "chance” is what a cut has that knows nothing of the mass and keeps as many events of the same weights, its "
        "median and central 95 %. A shape has changed where less than 1 % of such cuts are as far. m<sub>T</sub> is "
        "that of E<sub>T</sub><sup>miss</sup> and the leading lepton, with three leptons of the one that a Z leaves "
        "over. Background is simulation that the model has not seen."
    )
    third = (
        "The hunt (pyBumpHunter, arXiv:1101.0390) looks for the window of neighbouring bins whose excess is least "
        f"probable, its local p; the global p is the part of {count(found['toys'])} background-only "
        "pseudo-experiments with a smaller one anywhere in this mass, in the last line anywhere in all masses. Shapes "
        "alone are compared: the expectation has as many events as there are. Pseudo-experiments know how well the "
        "simulation knows the background, the local p does not. Each cut is a further look at the same events."
    )
    fourth = (
        "At equal mass, the score is −log10 of the part of background of the same mass with at least this score, "
        "measured in the training and validation splits: a cut on it keeps the same part at every mass. What that "
        "costs is the last table: a signal that is anomalous by its mass alone is lost."
    )
    paragraphs = [first, second, third, *([fourth] if found["decorrelation"] else [])]
    return "\n".join(f"<p>{text}</p>" for text in paragraphs)


def _shapes_sentence(found: Mapping[str, Any], point: str | None) -> str:
    """The largest change of a shape, and what decorrelation leaves of it."""
    if point is None:
        return "Too little background is simulated behind any cut for its shape to be compared."
    shapes = found["cuts"][point]["shapes"]
    changed = [name for name, shape in shapes.items() if shape["verdict"] == "changed"]
    efficiency = f"{100 * float(point):g} %"
    if not changed:
        return (
            f"A cut on the score that {efficiency} of background pass changes the shape of no mass visibly."
        )
    largest = max(changed, key=lambda name: float(shapes[name]["jsd"] - shapes[name]["expected"]))
    shape = shapes[largest]
    names = ", ".join(_label(name) for name in changed)
    text = (
        f"A cut on the score that {efficiency} of background pass changes the shape of {names}: most that of "
        f"{_label(largest)}, by {measurement(shape['jsd'], shape['jsd_error'])} bit where "
        f"{significant(shape['expected'], 2)} are expected by chance."
    )
    if found["decorrelation"]:
        flat = found["decorrelation"][largest]["cuts"][point]["shape"]
        text += (
            f" With the score at equal {_label(largest)} it is {measurement(flat['jsd'], flat['jsd_error'])} bit, "
            f"with {significant(flat['expected'], 2)} by chance."
        )
    return text


def _hunts_sentence(found: Mapping[str, Any]) -> str:
    """What was hunted in, and the least probable bump of each cut."""
    parts = [
        f"{escape(probability_text(cut['hunt']['global_p']))} behind ε<sub>B</sub> = {_power_of_ten(key)}"
        for key, cut in found["cuts"].items()
        if cut["hunt"]["global_p"] is not None
    ]
    where = "collision data" if found["observed"] == "collision data" else "events drawn from the background"
    why = "" if where == "collision data" else " (collision data are blinded or absent)"
    if not parts:
        return f"Too few events are left for a hunt for bumps in {where}{why}."
    return f"A hunt for bumps in {where}{why} has a global p, over all masses, of {', '.join(parts)}."


def _label(mass: str) -> str:
    return to_html(MASS_LABELS[mass])


def _power_of_ten(key: str) -> str:
    return f"10<sup>\u2212{key.rpartition('-')[2]}</sup>"


# --- tables ----------------------------------------------------------------------------------------------------------


def _lines(found: Mapping[str, Any]) -> list[tuple[str, str, list[Cell]]]:
    """Mass, cut and the first two cells of each line of a table."""
    return [
        (mass, key, [Cell(_label(mass), mass), Cell(_power_of_ten(key), float(key))])
        for mass in found["masses"]
        for key in found["cuts"]
    ]


def _distance_cells(cut: Mapping[str, Any], shape: Mapping[str, Any]) -> list[Cell]:
    """Effective events, distance, what is expected by chance, probability and verdict."""
    n_eff = Cell(significant(cut["n_eff"]), cut["n_eff"])
    if shape["jsd"] is None:
        return [n_eff, _DASH, _DASH, _DASH, Cell("too few events", "unsupported")]
    low, high = shape["band"]
    changed = shape["verdict"] == "changed"
    return [
        n_eff,
        Cell(measurement(shape["jsd"], shape["jsd_error"]), shape["jsd"], shape["jsd_error"]),
        Cell(
            f"{significant(shape['expected'], 2)} <small>{significant(low, 2)} to {significant(high, 2)}</small>",
            shape["expected"],
        ),
        Cell(escape(probability_text(shape["p"])), shape["p"]["value"]),
        Cell(shape["verdict"], shape["verdict"], strong=changed),
    ]


def _shapes_table(region: Region, found: Mapping[str, Any]) -> Table:
    """Distances behind each cut, of the score and of the score at equal mass."""
    heads = ["Effective<br>events", "Distance [bit]", "by chance [bit]", "p", "Shape"]
    columns = ["Mass", "ε<sub>B</sub>", *heads]
    if found["decorrelation"]:
        columns += [f"{head},<br>at equal mass" for head in heads]
    rows = []
    for mass, key, names in _lines(found):
        cut = found["cuts"][key]
        row = names + _distance_cells(cut, cut["shapes"][mass])
        if found["decorrelation"]:
            flat = found["decorrelation"][mass]["cuts"][key]
            row += _distance_cells(flat, flat["shape"])
        rows.append(row)
    return Table(
        name=f"{region.name}_sculpting",
        caption="Distance of the shape of each mass behind a cut on the score to its shape before, for background; "
        "beside it what a cut has by chance, with the central 95 %"
        + (", and the same for the score at equal values of this mass." if found["decorrelation"] else "."),
        columns=columns,
        rows=rows,
    )


def _hunts_table(region: Region, found: Mapping[str, Any]) -> Table:
    """The most significant window of each mass behind each cut."""
    rows = []
    for mass, key, names in _lines(found):
        hunt = found["cuts"][key]["hunt"]["masses"].get(mass)
        if hunt is None:
            rows.append([*names, *[_DASH] * 4, Cell("too few events", "unsupported")])
            continue
        window = hunt["window"]
        rows.append(
            [
                *names,
                Cell(interval(window["low"], window["high"]), window["low"]),
                Cell(count(window["observed"]), window["observed"]),
                Cell(
                    measurement(window["expected"], window["expected_error"]),
                    window["expected"],
                    window["expected_error"],
                ),
                Cell(significant(hunt["local_p"], 2), hunt["local_p"]),
                Cell(escape(probability_text(hunt["global_p"])), hunt["global_p"]["value"]),
            ]
        )
    totals = [
        [
            Cell("all", "all"),
            Cell(_power_of_ten(key), float(key)),
            *[_DASH] * 4,
            Cell(escape(probability_text(cut["hunt"]["global_p"])), cut["hunt"]["global_p"]["value"]),
        ]
        for key, cut in found["cuts"].items()
        if cut["hunt"]["global_p"] is not None
    ]
    name = "collision data" if found["observed"] == "collision data" else "events drawn from the background"
    return Table(
        name=f"{region.name}_bumps",
        caption=f"The window with the least probable excess in {name} behind each cut. The outermost bins hold "
        "everything beyond them.",
        columns=["Mass", "ε<sub>B</sub>", "Window [GeV]", "Events", "Expected", "Local p", "Global p"],
        rows=rows,
        totals=totals,
    )


def _cost_table(region: Region, found: Mapping[str, Any], point: str) -> Table:
    """What each signal loses by each decorrelation."""
    masses = list(found["decorrelation"])
    costs = {mass: found["decorrelation"][mass]["cost"] for mass in masses}
    processes = processes_of(region.datasets)
    power = f"ε<sub>S</sub> at ε<sub>B</sub> = {_power_of_ten(point)}"
    columns = ["Signal", "AUC"] + [f"AUC change,<br>at equal {_label(mass)}" for mass in masses]
    columns += [power] + [f"its change,<br>at equal {_label(mass)}" for mass in masses]
    colors = {process.key: process.color for process in processes}
    rows = []
    for key, entry in costs[masses[0]].items():
        label = signal_name(key, entry, processes)
        row = [Cell(to_html(label), to_plain(label), color=colors.get(str(entry.get("process")), ""))]
        for measures in (
            [costs[mass][key]["auc"] for mass in masses],
            [costs[mass][key]["eps_s"][point] for mass in masses],
        ):
            row.append(_measured(measures[0]["before"]))
            row += [_measured(each["difference"]) for each in measures]
        rows.append(row)
    return Table(
        name=f"{region.name}_decorrelation",
        caption="What each signal pays for a score at equal mass: AUC and signal efficiency of the score, and their "
        "changes on the same events.",
        columns=columns,
        rows=rows,
    )


def _measured(value: Mapping[str, Any] | None) -> Cell:
    if value is None:
        return _DASH
    return Cell(measurement(value["value"], value["error"]), value["value"], value["error"])


# --- figures ---------------------------------------------------------------------------------------------------------


def _shape_drawings(region: Region, found: Mapping[str, Any]) -> list[Drawing]:
    """Shapes of each mass before and after the cuts that leave events enough to draw."""
    drawings = []
    for mass, content in found["masses"].items():
        shapes: list[tuple[str, Sequence[tuple[str, Mapping[str, Any]]]]] = [
            (
                _RAW,
                [
                    (key, cut["shapes"][mass])
                    for key, cut in found["cuts"].items()
                    if drawable(cut["n_eff"], cut["shapes"][mass])
                ],
            )
        ]
        if found["decorrelation"]:
            cuts = found["decorrelation"][mass]["cuts"]
            flat = [(key, cut["shape"]) for key, cut in cuts.items() if drawable(cut["n_eff"], cut["shape"])]
            shapes.append((_FLAT, flat))
        if not any(cuts for _, cuts in shapes):
            continue
        drawings.append(
            region_drawing(
                region,
                partial(draw_mass_shapes, mass, content["drawn"], shapes, sample=region.sample),
                {"uncut": content, "shapes": {title: dict(cuts) for title, cuts in shapes}},
                name=f"sculpting_{mass}",
                title=f"{_label(mass)} of background before and after cuts on the score",
                alt=f"Shape of {to_plain(MASS_LABELS[mass])} of background before and behind cuts on the score, and "
                "the ratio to no cut.",
            )
        )
    return drawings


def _hunt_drawings(region: Region, found: Mapping[str, Any]) -> list[Drawing]:
    """The hunt in each mass, behind the tightest cut that leaves enough."""
    drawings = []
    for mass in found["masses"]:
        keys = [key for key, cut in found["cuts"].items() if _told(cut["hunt"]["masses"].get(mass))]
        if not keys:
            continue
        key = min(keys, key=float)
        hunt = found["cuts"][key]["hunt"]["masses"][mass]
        drawings.append(
            region_drawing(
                region,
                partial(draw_hunt, mass, hunt, key=key, observed=found["observed"], sample=region.sample),
                {"observed": found["observed"], "efficiency": key, **hunt},
                name=f"bumps_{mass}",
                title=f"Hunt for bumps in {_label(mass)} behind ε<sub>B</sub> = {_power_of_ten(key)}",
                alt=f"Events in {to_plain(MASS_LABELS[mass])} behind a cut on the score against the expected "
                "background, with the most significant window.",
            )
        )
    return drawings


def _told(hunt: Mapping[str, Any] | None) -> bool:
    """Whether a hunt is worth a picture: events enough to see a shape."""
    return hunt is not None and sum(hunt["observed"]) >= 10
