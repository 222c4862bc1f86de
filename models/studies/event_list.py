"""The most anomalous events one by one: identity, variables, leading inputs, and what a display of them needs."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from models.bundle import AnomalyModel
from models.reading import IDENTITY
from models.settings import ExplanationSettings
from models.studies.anomalous import (
    AnomalousEvents,
    background_tail,
    expected_above,
    most_anomalous,
    read_rows,
)
from processors.histograms import left_for_search
from processors.original import OriginalEvent, original_event
from processors.settings import JetSettings

__all__ = ["event_list"]

logger = logging.getLogger(__name__)

_NAMED: Final = 5  # inputs that are named for a single event
# Scores are stored in single precision, and backends round in their own ways.
_SAME_SCORE: Final = 1e-3
_SAME_MOMENTUM: Final = 1e-3  # relative


def event_list(
    scores: tuple[Path, Mapping[str, Any]],
    shards: tuple[Path, Mapping[str, Any]],
    model: AnomalyModel,
    settings: ExplanationSettings,
    *,
    blinded: bool,
    score_limit: float | None,
    jets: JetSettings,
) -> dict[str, Any]:
    """The most anomalous events, and what is known of each.

    Args:
        scores: path and content of the manifest of scores/<region>/<model>.
        shards: path and content of the manifest of shards/<region>.
        model: that has scored.
        settings: how many events and displays.
        blinded: collision data are not looked at.
        score_limit: collision data above this score are not looked at.
        jets: what a jet is.

    Returns:
        `listed`: `kind` of the events, whether data were there but `blinded`, the `score_limit` in force, and whether
        they are of the test split only; `events`, the largest score first.

    Raises:
        FailureError: scores, shards and model do not belong together.
    """
    (path, scored), (_, selected) = scores, shards
    books = scored["datasets"]
    data = [name for name, book in books.items() if book["kind"] == "data"]
    kind = "data" if data and not blinded else "background"
    searched = left_for_search(model.card)
    events = most_anomalous(
        path,
        scored,
        data if kind == "data" else [name for name, book in books.items() if book["kind"] == kind],
        settings.events,
        limit=score_limit if kind == "data" else None,
        test_only=(kind == "data") == (searched < 1),
    )
    entries = [str(entry["path"]) for entry in scored["shards"]]
    leptons = [name for name in selected["features"]["table"] if name.startswith("lep")]
    names = [*model.features, "flcomp", *scored["variables"], *leptons, "met_et", "met_phi", "njet20"]
    known = {*selected["features"]["table"], *selected["features"]["rmm"], *scored["variables"], "flcomp"}
    columns = read_rows(*shards, entries, events, [name for name in dict.fromkeys(names) if name in known])
    described = _described(events, columns, model, scored) if len(events) else []
    tail = background_tail(path, scored, searched=searched) if described else None
    by_path = {str(entry["path"]): entry for entry in selected["shards"]}
    for number, event in enumerate(described):
        event["expected_background"] = expected_above(tail, event["score"]) if tail is not None else None
        if number < settings.displays:
            place = int(events.shard[number])
            source = by_path[entries[place]].get("source")
            tree = str(books[event["dataset"]].get("tree", "mini"))
            event["display"] = _display(event, {n: c[number] for n, c in columns.items()}, source, tree, jets)
        else:
            del event["shares"]
    return {
        "listed": {
            "kind": kind,
            "blinded": blinded and bool(data),
            "score_limit": score_limit if kind == "data" else None,
            "test_only": (kind == "data") == (searched < 1),
        },
        "events": described,
    }


def _described(
    events: AnomalousEvents,
    columns: Mapping[str, NDArray[Any]],
    model: AnomalyModel,
    scored: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Identity, score, variables and leading inputs of each event.

    Raises:
        FailureError: the model gives the events other scores than those that were stored.
    """
    features = np.column_stack([columns[name] for name in model.features]).astype(np.float32)
    found = list(model.measures(features))
    residuals = np.concatenate([measures.residuals for measures in found]).astype(np.float64)
    score = np.concatenate([measures.scores[str(model.score_names[0])] for measures in found])
    if np.abs(score - events.columns["score"]).max() > _SAME_SCORE:
        msg = (
            f"the model {model.name} gives other scores than those that are stored: run the stage score again"
        )
        raise FailureError(msg)
    total = residuals.sum(axis=1, keepdims=True)
    shares = np.divide(residuals, total, out=np.zeros_like(residuals), where=total > 0)
    described = []
    for number in range(len(events)):
        largest = np.argsort(-shares[number], kind="stable")[:_NAMED]
        described.append(
            {
                "dataset": str(scored["shards"][int(events.shard[number])]["dataset"]),
                **{name: int(events.columns[name][number]) for name in IDENTITY},
                "score": float(events.columns["score"][number]),
                "weight": float(events.columns["weight"][number]),
                "flcomp": int(columns["flcomp"][number]),
                "variables": {name: float(columns[name][number]) for name in scored["variables"]},
                "leading": [
                    {
                        "input": model.features[i],
                        "share": float(shares[number, i]),
                        "value": float(features[number, i]),
                    }
                    for i in largest
                    if shares[number, i] > 0  # what a model cannot attribute has no leader
                ],
                "shares": shares[number].tolist(),
            }
        )
    return described


def _display(
    event: Mapping[str, Any],
    values: Mapping[str, Any],
    source: Mapping[str, Any] | None,
    tree: str,
    jets: JetSettings,
) -> dict[str, Any]:
    """Leptons and missing transverse momentum from the shard, jets from the input file; null without that."""
    numbers = sorted({name[3] for name in values if name.startswith("lep") and name.endswith("_pt")})
    leptons = [
        {
            "flavour": "electron" if round(float(values[f"lep{i}_flav"])) == 11 else "muon",
            **{name: float(values[f"lep{i}_{name}"]) for name in ("pt", "eta", "phi")},
        }
        for i in numbers
    ]
    found = _jets(event, values, source, tree, jets)
    return {
        "leptons": leptons,
        "met": {"pt": float(values["met_et"]), "phi": float(values["met_phi"])},
        "jets": None
        if found is None
        else [
            {"b": bool(b), "pt": float(pt), "eta": float(eta), "phi": float(phi)}
            for b, pt, eta, phi in zip(
                found.is_b, *(found.jets[n] for n in ("pt", "eta", "phi")), strict=True
            )
        ],
    }


def _jets(
    event: Mapping[str, Any],
    values: Mapping[str, Any],
    source: Mapping[str, Any] | None,
    tree: str,
    jets: JetSettings,
) -> OriginalEvent | None:
    """The event as it stands in its input file; None where that cannot be read or holds another event."""
    if source is None:
        return None
    channel, run, number = (int(event[name]) for name in IDENTITY)
    try:
        found = original_event(source, (channel, run, number), tree=tree, jets=jets)
    except FailureError as error:
        logger.warning("%s: its display has no jets", error)
        return None
    n_jets = int(np.sum(found.jets["pt"] > 20))
    same = np.isclose(found.met_pt, values["met_et"], rtol=_SAME_MOMENTUM) and n_jets == values["njet20"]
    if not same:
        logger.warning(
            "event %d in %s is not the one that was selected: its display has no jets", number, source["file"]
        )
    return found if same else None
