"""Why events are anomalous: which inputs the score comes from, which events lead, where they lie in the latent space.

The share of an input in an event is its part of what all scaled inputs give to the score, r_i / Σ_j r_j: of a network
the squared errors, for the score distance with half the squares of the inputs (`AnomalyModel.residuals`). Of a process
it is the mean over its events. Beside it stands the ratio of two sums, Σw r_i / Σw Σ_j r_j, in which few events with
large ones may win.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import InputError
from models.bundle import AnomalyModel, load_model
from models.reading import Shard, ShardReader, thinned
from models.settings import ExplanationSettings
from models.studies.event_list import event_list
from models.studies.latent import Encoder, Points, Projection, binned, encoder_of, projection_of
from processors.residuals import SUMS, combined_residuals, residual_sums
from processors.settings import JetSettings
from processors.shards import read_manifest
from processors.split import SPLITS

__all__ = ["explain"]

Floats = NDArray[np.float64]

_NO_POINTS: Final = Points(np.zeros((0, 0)), np.zeros(0), np.zeros(0, np.float32))


@dataclass(frozen=True)
class _Dataset:
    """What stands for all events of one dataset."""

    sumw: float  # of all its events
    n: int  # events that were looked at
    sums: Floats  # over these, of errors and of their shares: (2, sums, k), see `processors.residuals`
    points: Points  # weights are those of all events


def explain(
    scores: Path,
    shards: Path,
    bundle: Path,
    *,
    settings: ExplanationSettings,
    blinded: bool,
    score_limit: float | None,
    jets: JetSettings | None = None,
) -> dict[str, Any]:
    """Why events of one region are anomalous.

    Collision data are read for the list of events alone; of a blinded region they are not, and then the list is of
    held-out background simulation.

    Args:
        scores: `manifest.json` of scores/<region>/<model>.
        shards: `manifest.json` of shards/<region>, from which the scores were made.
        bundle: directory of the model.
        settings: how many events, inputs and bins.
        blinded: collision data are not looked at.
        score_limit: collision data above this score are not looked at; None for no limit.
        jets: what a jet is in this region.

    Returns:
        The region's entry of explanation.json: `model`, its `role` (model or baseline), `score`, `inputs`; `listed`
        (kind of the `events`, and why); `events`, the largest score first; `shares` of the `background`, of its
        `processes`, of the `signals` and of their `families`; `latent`, in bins, or null.

    Raises:
        InputError: a stage before has not run, or its result is of another version.
        FailureError: scores, shards and model do not belong together.
    """
    scored, selected = read_manifest(scores, stage="score"), read_manifest(shards)
    model = load_model(bundle)
    if scored.get("model") != model.name:
        msg = f"the scores {scores} are of the model {scored.get('model')}, not of {model.name}: score with it first"
        raise InputError(msg)
    datasets = _datasets(scored, selected, shards, model, settings)
    shares, latent = _shares_and_latent(datasets, scored["datasets"], model, settings)
    return {
        "model": model.name,
        "role": str(model.card.get("role", "model")),
        "score": model.score_names[0],
        "inputs": list(model.features),
        "named": settings.leading,
        **event_list(
            (scores, scored),
            (shards, selected),
            model,
            settings,
            blinded=blinded,
            score_limit=score_limit,
            jets=jets or JetSettings(),
        ),
        "shares": shares,
        "latent": latent,
    }


def _datasets(
    scored: Mapping[str, Any],
    selected: Mapping[str, Any],
    path: Path,
    model: AnomalyModel,
    settings: ExplanationSettings,
) -> Iterator[tuple[str, _Dataset]]:
    """Simulated datasets that have events, those of background first."""
    encode = encoder_of(model.networks[0]) if model.networks else None
    books = selected["datasets"]
    groups: dict[str, int] = {}
    for book in books.values():
        groups[_process(book)] = groups.get(_process(book), 0) + int(book["rows"])
    for kind in ("background", "signal"):
        for name, book in books.items():
            if book["kind"] != kind or not book["rows"]:
                continue
            limit = max(1, settings.max_events * int(book["rows"]) // groups[_process(book)])
            found = _dataset(name, selected, path, model, encode, limit=limit, seed=int(scored["seed"]))
            if found is not None:
                yield name, found


def _process(book: Mapping[str, Any]) -> str:
    return str(book["process"] if book["kind"] == "signal" else book["group"])


def _dataset(
    name: str,
    manifest: Mapping[str, Any],
    path: Path,
    model: AnomalyModel,
    encode: Encoder | None,
    *,
    limit: int,
    seed: int,
) -> _Dataset | None:
    """Of background the test events, as in `models.studies.scored`; None where negative weights win."""
    book = manifest["datasets"][name]
    scale = float(book.get("scale", 1.0))
    entries = [entry for entry in manifest["shards"] if entry["dataset"] == name]
    shards = [Shard(path.parent / e["path"], 0, int(e["rows"]), scale, str(e["checksum"])) for e in entries]
    sumw = sum(float(entry["sumw"]) for entry in entries) * scale
    everything = (0.0, 0.0, 1.0)
    trained = tuple(model.card["trained_on"]["fractions"])
    held_out = book["kind"] == "background" and model.card["trained_on"]["kind"] == "background"
    for fractions in (trained, everything) if held_out else (everything,):
        reader, _ = thinned(ShardReader(shards, list(model.features), seed, fractions), (0, 0, limit))
        found = _measured(reader, model, encode)
        own = float(found.sums[0, 0, 0])
        if sumw > 0 and own > 0:
            points = Points(found.points.latent, found.points.weight * (sumw / own), found.points.score)
            return _Dataset(sumw, found.n, found.sums, points)
    return None


def _measured(reader: ShardReader, model: AnomalyModel, encode: Encoder | None) -> _Dataset:
    """Sums of the errors, and the latent space, of the events that a reader uses."""
    sums = np.zeros((2, len(SUMS), len(model.features)))
    parts: list[Points] = []
    for shard in reader.shards:
        for events, features in reader.used_rows(shard):
            score = np.empty(len(features), dtype=np.float32)
            test = np.full(len(features), SPLITS.index("test"), dtype=np.uint8)
            for measures in model.measures(features):
                rows = measures.rows
                score[rows] = measures.scores[str(model.score_names[0])]
                total = measures.residuals.sum(axis=1, keepdims=True)
                shares = (measures.residuals / np.where(total > 0, total, np.inf)).astype(np.float32)
                for place, values in enumerate([measures.residuals, shares]):
                    sums[place] += residual_sums(values, events.weight[rows], test[rows])[-1]
            latent = encode(model.scaler.transform(features)) if encode else np.zeros((len(features), 0))
            parts.append(Points(latent, events.weight, score))
    points = Points.join(parts) if parts else _NO_POINTS
    return _Dataset(float(points.weight.sum()), len(points.weight), sums, points)


def _shares_and_latent(
    datasets: Iterator[tuple[str, _Dataset]],
    books: Mapping[str, Mapping[str, Any]],
    model: AnomalyModel,
    settings: ExplanationSettings,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Shares of each process, and the latent space in bins; of signals only their places in the plane are kept."""
    found: dict[str, _Dataset] = {}
    planes: dict[str, list[Points]] = {}
    background: list[Points] = []
    projection: Projection | None = None
    for name, dataset in datasets:
        if books[name]["kind"] == "background":
            background.append(dataset.points)
        else:
            if not planes:
                projection = _projection(background)
            own = planes.setdefault(str(books[name]["group"]), [])
            if projection is not None:
                own.append(projection(dataset.points))
        found[name] = replace(
            dataset, points=_NO_POINTS
        )  # a wide latent space of all signals would fill the memory
    projection = projection or _projection(background)
    latent = None
    if projection is not None:
        latent = binned(
            projection(Points.join(background)),
            {family: Points.join(parts) for family, parts in planes.items() if parts},
            projection,
            bins=settings.latent_bins,
        )
    return _shares(found, books, model), latent


def _projection(background: list[Points]) -> Projection | None:
    return projection_of(Points.join(background)) if background else None


def _shares(
    found: Mapping[str, _Dataset], books: Mapping[str, Mapping[str, Any]], model: AnomalyModel
) -> dict[str, Any]:
    """Shares of all background together, of its groups, of each signal, and of each family of signals."""

    def of_kind(kind: str, key: str) -> dict[str, Any]:
        groups: dict[str, list[str]] = {}
        for name in found:
            if books[name]["kind"] == kind:
                groups.setdefault(str(books[name][key]), []).append(name)
        entries = {group: _share(found, names, books, model) for group, names in groups.items()}
        return {group: entry for group, entry in entries.items() if entry is not None}

    background = [name for name in found if books[name]["kind"] == "background"]
    return {
        "background": _share(found, background, books, model) if background else None,
        "processes": of_kind("background", "group"),
        "signals": of_kind("signal", "process"),
        "families": of_kind("signal", "group"),
    }


def _share(
    found: Mapping[str, _Dataset],
    names: list[str],
    books: Mapping[str, Mapping[str, Any]],
    model: AnomalyModel,
) -> dict[str, Any] | None:
    errors, shares = (
        combined_residuals(model.features, [(found[name].sumw, found[name].sums[place]) for name in names])
        for place in (0, 1)
    )
    if errors is None or shares is None or not (np.isfinite(errors.share) & np.isfinite(shares.share)).all():
        return None
    return {
        "label": str(books[names[0]]["label"]),
        "events": sum(found[name].n for name in names),
        "share": shares.share.tolist(),
        "error": shares.share_error.tolist(),
        "share_of_sum": errors.share.tolist(),
        "share_of_sum_error": errors.share_error.tolist(),
        "sum_of_squared_errors": float(errors.mean.sum()),
    }
