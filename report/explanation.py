"""Why events are anomalous: the section of the page that the stage explain leaves its document for."""

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from processors.constants import FLAVOUR_COMBINATION
from report.event_display import Display, draw_event_display, input_text, input_unit
from report.gallery import Region, region_drawing
from report.mathtext import to_html, to_plain
from report.matrices import draw_cell_shares
from report.numbers import count, measurement, significant
from report.pictures import Drawing
from report.power import variable_label
from report.processes import Floats
from report.sections import Section, of_region
from report.shares import draw_latent_space, draw_share_chart
from report.tables import Cell, Table

__all__ = ["explanation_section"]

EXCESS: Final = 3.0
"""Standard errors by which a share exceeds that of the background before it is marked."""

_PARTS: Final = {
    "mse": "squared errors of all scaled inputs",
    "distance": "parts that all scaled inputs give to the score, squared error and half the square of the input "
    "itself,",
}
"""What adds up to the argument of a network's score."""

_FLAVOURS: Final = {
    number: "e" * electrons + "μ" * muons for (electrons, muons), number in FLAVOUR_COMBINATION.items()
}
_SHOWN: Final = (
    "mll",
    "mlll",
    "met_et",
    "meff",
)  # variables of the list of events, where the region has them
_IN_TABLE: Final = 3  # inputs that are named in the list of events


def explanation_section(output: Path, region: Region) -> Section | None:
    """What the page says of why events of a region are anomalous; None where the stage explain was not run.

    Collision data that the configuration blinds now are left out, also where the document has them.

    Args:
        output: directory of the whole analysis.
        region: without what is blinded.

    Raises:
        InputError: explanation.json is no JSON document.
    """
    found = of_region(output, "explanation", region.name)
    if not found:
        return None
    found = {**found, "events": _unblinded(region, found)}
    tables = [_events_table(region, found)] if found["events"] else []
    if found["shares"]["background"] is not None and found["shares"]["families"]:
        tables.append(_inputs_table(region, found))
    return Section(
        key="explanation",
        title="Why events are anomalous",
        text=_text(region, found),
        tables=tables,
        drawings=[
            *_share_drawings(region, found),
            *_event_drawings(region, found),
            *_latent_drawings(region, found),
        ],
    )


def _unblinded(region: Region, found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The listed events that may be shown."""
    events: list[Mapping[str, Any]] = list(found["events"])
    if found["listed"]["kind"] != "data":
        return events
    if region.sample.blinded:
        return []
    limit = region.settings.score_limit
    return [event for event in events if limit is None or event["score"] <= limit]


# --- words -----------------------------------------------------------------------------------------------------------


def _text(region: Region, found: Mapping[str, Any]) -> str:
    """What was done and what is seen."""
    listed, n = found["listed"], len(found["events"])
    name = escape(str(found["model"]))
    sentences = [_who_is_listed(listed, n, hidden=region.sample.blinded, limit=region.settings.score_limit)]
    sentences.append(
        "Beside each stands how many background events are expected with at least its score, from held-out "
        "simulation; where fewer than ten effective events are left above the score, only a bound is known, from the "
        "next lower score that enough of them reach."
    )
    baseline = found["role"] == "baseline"
    what = (
        "parts that all inputs give to the score" if baseline else _PARTS.get(found["score"], _PARTS["mse"])
    )
    meaning = (
        "that the value is far out, or that the model does not know it"
        if found["score"] == "distance"
        else "that the model does not know such values there"
    )
    second = (
        f"The share of an input is its part of the sum of the {what} of the model {name}: of one event, or the mean "
        "over the events of a process. Beside it is tabulated its part of the sum over all events, in which few events "
        f"with large sums may win. A large share means {meaning}: it does not "
        "mean that the input is mismodelled, or that it alone would find the signal."
    )
    if not baseline and found["score"] not in _PARTS:
        second += (
            f" The score ({escape(str(found['score']))}) is not the squared error: shares say part of it."
        )
    leaders = _leaders(region, found)
    if leaders:
        second += f" {leaders}"
    return f"<p>{' '.join(sentences)}</p>\n<p>{second}</p>"


def _who_is_listed(listed: Mapping[str, Any], n: int, *, hidden: bool, limit: float | None) -> str:
    if listed["kind"] == "data":
        if hidden:
            return (
                "The list of events was made of collision data, which are blinded now and left out: run explain again "
                "for the most anomalous simulated events."
            )
        limits = [value for value in (limit, listed["score_limit"]) if value is not None]
        remark = (
            f" with a score of at most {min(limits):g}: data above are blinded, and not looked at"
            if limits
            else ""
        )
        searched = ", of those that the model was not trained on" if listed["test_only"] else ""
        return f"Listed are the {count(n)} most anomalous events of the collision data{searched}{remark}."
    why = (
        "the collision data of this region are blinded"
        if listed["blinded"]
        else "there are no collision data"
    )
    held_out = "held-out, " if listed["test_only"] else ""
    return (
        f"Listed are the {count(n)} most anomalous {held_out}simulated background events: {why}, and no event of them "
        "was scored here."
    )


def _leaders(region: Region, found: Mapping[str, Any]) -> str:
    """The input with the largest share of each family, in a sentence."""
    leaders: dict[str, list[str]] = {}
    for entry in found["shares"]["families"].values():
        leaders.setdefault(found["inputs"][int(np.argmax(entry["share"]))], []).append(
            to_html(entry["label"])
        )
    parts = [
        f"{to_html(region.input_label(name))} for {', '.join(labels)}" for name, labels in leaders.items()
    ]
    return f"The largest share has {'; '.join(parts)}." if parts else ""


# --- tables ----------------------------------------------------------------------------------------------------------


def _events_table(region: Region, found: Mapping[str, Any]) -> Table:
    """The listed events, the most anomalous first."""
    events = found["events"]
    simulated = found["listed"]["kind"] != "data"
    variables = [name for name in _SHOWN if name in events[0]["variables"]]
    rows = []
    for number, event in enumerate(events, start=1):
        leading = event["leading"][:_IN_TABLE]
        named = ", ".join(f"{entry['input']} {100 * entry['share']:.0f} %" for entry in leading)
        shown = ", ".join(
            f"{to_html(region.input_label(entry['input']))} {100 * entry['share']:.0f} %" for entry in leading
        )
        identity = f"{event['runNumber']} / {event['eventNumber']}"
        flavours = _FLAVOURS.get(event["flcomp"], "\u2013")
        row = [Cell(count(number), number), Cell(escape(identity), identity)]
        if simulated:
            row.append(Cell(escape(event["dataset"]), event["dataset"]))
        row += [
            Cell(f"{event['score']:.3f}".replace("-", "\u2212"), event["score"]),
            _expected_cell(event["expected_background"]),
            Cell(
                significant(event["expected_background"]["n_eff"], 2), event["expected_background"]["n_eff"]
            ),
            Cell(flavours, flavours),
        ]
        row += [Cell(significant(event["variables"][name]), event["variables"][name]) for name in variables]
        rows.append([*row, Cell(shown, named)])
    return Table(
        name=f"{region.name}_anomalous_events",
        caption=f"The most anomalous {'simulated background events' if simulated else 'events of the data'} by the "
        f"model {escape(str(found['model']))}. Expected: background events with at least this score, of the whole "
        "sample; n<sub>eff</sub> is how many effective simulated events that number rests on. Energies and masses in "
        "GeV. Leading inputs with their shares of what makes the event's score.",
        columns=[
            "#", "Run / event", *(["Dataset"] if simulated else []), "Score", "Expected", "n<sub>eff</sub>",
            "Flavours", *(to_html(variable_label(name)) for name in variables), "Leading inputs",
        ],
        rows=rows,
    )  # fmt: skip


def _expected_cell(expected: Mapping[str, Any]) -> Cell:
    """A number with its error, or the bound where statistics do not support one."""
    if expected["value"] is not None:
        return Cell(measurement(expected["value"], expected["error"]), expected["value"], expected["error"])
    if expected["below"] is None:
        return Cell("\u2013", None)
    return Cell(f"&lt; {significant(expected['below'], 2)}", None)


def _measured(value: float, error: float, *, strong: bool = False) -> Cell:
    return Cell(measurement(value, error), value, error, strong=strong)


def _inputs_table(region: Region, found: Mapping[str, Any]) -> Table:
    """The leading inputs of each family of signals, beside their shares in the background."""
    background = found["shares"]["background"]
    rows = []
    for entry in found["shares"]["families"].values():
        label = Cell(to_html(entry["label"]), to_plain(entry["label"]))
        for rank, i in enumerate(
            np.argsort(-np.array(entry["share"]), kind="stable")[: found["named"]], start=1
        ):
            share, error = entry["share"][i], entry["error"][i]
            known, known_error = background["share"][i], background["error"][i]
            excess = (share - known) / max(float(np.hypot(error, known_error)), 1e-12)
            rows.append(
                [
                    label,
                    Cell(count(rank), rank),
                    Cell(to_html(region.input_label(found["inputs"][i])), found["inputs"][i]),
                    _measured(share, error, strong=excess > EXCESS),
                    _measured(known, known_error),
                    _measured(entry["share_of_sum"][i], entry["share_of_sum_error"][i]),
                ]
            )
    return Table(
        name=f"{region.name}_leading_inputs",
        caption="The inputs with the largest shares in what makes the score of each family of signals, with the same "
        "input's in held-out background: means over events, emphasised where the signal's exceeds the background's "
        f"by more than {EXCESS:g} standard errors. Last the part of the sum over all events of the family. Errors are "
        "statistical.",
        columns=["Family", "Rank", "Input", "Share", "Share, background", "Share of the sum"],
        rows=rows,
    )


# --- drawings --------------------------------------------------------------------------------------------------------


def _on_matrix(region: Region, inputs: Sequence[str]) -> bool:
    return bool(region.cell_names) and set(inputs) <= set(region.cell_names)


def _in_cells(region: Region, inputs: Sequence[str], shares: Sequence[float]) -> Floats:
    """Shares in the order of the matrix; NaN for cells that are no inputs."""
    by_name = dict(zip(inputs, shares, strict=True))
    return np.array([by_name.get(cell, np.nan) for cell in region.cell_names])


def _share_drawings(region: Region, found: Mapping[str, Any]) -> list[Drawing]:
    """Shares of background and families: on the matrix where inputs are its cells, otherwise as one chart."""
    shares, inputs = found["shares"], found["inputs"]
    background = shares["background"]
    if background is None or not shares["families"]:
        return []
    if not _on_matrix(region, inputs):
        return [
            region_drawing(
                region,
                partial(
                    draw_share_chart, [region.input_label(name) for name in inputs], background,
                    list(shares["families"].values()), sample=region.sample, name=found["model"],
                ),
                {"inputs": inputs, **shares},
                name="explanation_shares",
                title="Inputs that the score comes from, for background and each family of signals",
                alt="Share of each leading input in the score of background and of each family of signals.",
            )
        ]  # fmt: skip
    known, known_error = (_in_cells(region, inputs, background[key]) for key in ("share", "error"))
    nothing = np.zeros(len(region.cell_names), dtype=bool)
    drawings = [
        _matrix(region, found, "background", background, nothing, "Cells without colour: below 0.01 %.")
    ]
    for family, entry in shares["families"].items():
        share, error = (_in_cells(region, inputs, entry[key]) for key in ("share", "error"))
        exceeding = share - known > EXCESS * np.hypot(error, known_error)
        note = (
            f"\u2022 larger than in held-out background by more than {EXCESS:g} standard errors.\n"
            "Cells without colour: below 0.01 %."
        )
        drawings.append(_matrix(region, found, family, entry, exceeding, note))
    return drawings


def _matrix(
    region: Region,
    found: Mapping[str, Any],
    key: str,
    entry: Mapping[str, Any],
    exceeding: np.ndarray,
    note: str,
) -> Drawing:
    label = "background" if key == "background" else entry["label"]
    shares = _in_cells(region, found["inputs"], entry["share"])
    return region_drawing(
        region,
        partial(
            draw_cell_shares, region.cell_names, shares, exceeding, sample=region.sample,
            name=f"shares in the score: {label}", note=note,
        ),
        {"inputs": found["inputs"], **entry},
        name=f"explanation_cells_{key}",
        title=f"Cells that the score of {to_html(label)} comes from",
        alt=f"Share of each cell of the rapidity-mass matrix in the score for {to_plain(label)}.",
    )  # fmt: skip


def _event_drawings(region: Region, found: Mapping[str, Any]) -> list[Drawing]:
    """Displays of the first events, each with its cells where inputs are those of the matrix."""
    in_gev = "energy" not in region.cells or "GeV" in region.cells["energy"].axes[-1].label
    drawings = []
    for number, event in enumerate(found["events"], start=1):
        if "display" not in event:
            continue
        name = f"event {event['eventNumber']} of run {event['runNumber']}"
        if found["listed"]["kind"] != "data":
            name = f"{event['dataset']}, event {event['eventNumber']}"
        inputs = [
            input_text(
                region.input_label(entry["input"]), entry["value"], input_unit(entry["input"], in_gev=in_gev)
            )
            for entry in event["leading"]
        ]
        display = Display.of(event, name=name, facts=_facts(event, number), inputs=inputs)
        drawings.append(
            region_drawing(
                region,
                partial(draw_event_display, display, sample=region.sample),
                event,
                name=f"explanation_event_{number}",
                title=f"Number {number} of the most anomalous events: {escape(name)}",
                alt=f"Transverse and longitudinal view of {name}: momenta of leptons, jets and missing momentum. "
                f"Leading inputs: {', '.join(map(to_plain, display.inputs))}.",
            )
        )
        if _on_matrix(region, found["inputs"]):
            shares = _in_cells(region, found["inputs"], event["shares"])
            drawings.append(
                region_drawing(
                    region,
                    partial(
                        draw_cell_shares, region.cell_names, shares, np.zeros(len(shares), dtype=bool),
                        sample=region.sample, name=f"shares in the score: {name}",
                        note="Cells without colour: below 0.01 %.",
                    ),
                    {"cells": list(region.cell_names), "shares": np.nan_to_num(shares).tolist()},
                    name=f"explanation_event_{number}_cells",
                    title=f"Cells that the score of event number {number} comes from",
                    alt=f"Share of each cell of the rapidity-mass matrix in the score of {name}.",
                )
            )  # fmt: skip
    return drawings


def _facts(event: Mapping[str, Any], number: int) -> list[str]:
    """Lines beside a display."""
    expected = event["expected_background"]
    if expected["value"] is not None:
        background = measurement(expected["value"], expected["error"])
    else:
        background = "not known" if expected["below"] is None else f"< {significant(expected['below'], 2)}"
    values = [
        f"{variable_label(name)} = {significant(event['variables'][name])} GeV"
        for name in _SHOWN
        if name in event["variables"]
    ]
    lines = [
        f"Number {number}, {_FLAVOURS.get(event['flcomp'], '')}: score {event['score']:.2f}".replace(
            "-", "\u2212"
        ),
        f"Expected background at or above: {background}",
        ", ".join(values[:2]),
        ", ".join(values[2:]),
    ]
    # The figures' font has no thin space.
    return [line.replace("\u202f", " ") for line in lines]


def _latent_drawings(region: Region, found: Mapping[str, Any]) -> list[Drawing]:
    """The latent space of background and families; nothing for a model that has none."""
    latent = found["latent"]
    if latent is None:
        return []
    colors = {str(book["group"]): str(book.get("color") or "") for book in region.datasets.values()}
    families = found["shares"]["families"]
    labels = {key: str(families[key]["label"]) if key in families else key for key in latent["processes"]}
    projected = latent["variance"] is not None
    what = (
        f"two leading principal components of {latent['dimensions']} dimensions"
        if projected
        else "two dimensions"
    )
    return [
        region_drawing(
            region,
            partial(
                draw_latent_space,
                latent,
                labels=labels,
                colors=colors,
                sample=region.sample,
                name=found["model"],
            ),
            latent,
            name="explanation_latent",
            title=f"Latent space of the model {escape(str(found['model']))}: {what}",
            alt="Density of background in the latent space with its mean score, and where each family of signals lies.",
        )
    ]
