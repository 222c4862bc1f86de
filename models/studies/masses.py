"""The masses in which a cut on the score must not make a bump, of events with their scores.

m_ll, m_lll and m_eff stand beside the scores; the transverse mass is worked out from the shards of the selection,
whose rows are those of the scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from models.studies.scored import ScoredEvents, read_scored
from processors.constants import Z_MASS
from processors.split import SPLITS

__all__ = ["MASSES", "MassEvents", "read_masses", "transverse_mass"]

Floats = NDArray[np.float64]

MASSES: Final = ("mll", "mlll", "mt", "meff")
_IDENTITY: Final = ("channelNumber", "runNumber", "eventNumber")


@dataclass(frozen=True)
class MassEvents:
    """Events of one dataset with their masses.

    Attributes:
        used: what stands for the dataset: of a background the test split, scaled, else all; columns are the
            masses and the score.
        fitted: background of the training and validation splits, with its own weights; nothing of other kinds.
    """

    used: ScoredEvents
    fitted: ScoredEvents


def read_masses(
    path: Path,
    manifest: Mapping[str, Any],
    shards: Path,
    dataset: str,
    *,
    searched: float = 1.0,
) -> MassEvents:
    """Scores and masses [GeV] of the events of one dataset.

    Args:
        path: `manifest.json` of scores/<region>/<model>.
        manifest: what it holds.
        shards: `manifest.json` of shards/<region>, of the selection that was scored.
        dataset: which one.
        searched: part of the collision data that the model was not trained on
            (`processors.histograms.left_for_search`): less than 1, only data of the test split count, and background
            with all its events.

    Raises:
        FailureError: a shard is missing, broken, or of other events than the scores.
    """
    kind = manifest["datasets"][dataset]["kind"]
    names = [name for name in MASSES if name in manifest["variables"]]
    events = read_scored(path, manifest, dataset, ["score", "split", *names, *_IDENTITY], everything=True)
    columns = {name: events.columns[name] for name in ("score", *names)}
    columns["mt"] = _transverse_masses(shards.parent, manifest, dataset, events.columns)
    events, split = ScoredEvents(events.weight, columns, events.rows, events.sumw2), events.columns["split"]
    test = split == SPLITS.index("test")
    nothing = _some(events, np.zeros(len(test), dtype=bool))
    if kind == "data":
        return MassEvents(events if searched == 1 else _some(events, test), nothing)
    if kind != "background":
        return MassEvents(events, nothing)
    fitted = _some(events, ~test)
    sumw, held_out = float(events.weight.sum()), float(events.weight[test].sum())
    # As in `read_scored`: without a test event, or where negative weights win among them, all events stand for it.
    if searched < 1 or not (sumw > 0 and held_out > 0):
        return MassEvents(events, fitted)
    return MassEvents(_some(events, test, sumw / held_out), fitted)


def _some(events: ScoredEvents, which: NDArray[np.bool_], scale: float = 1.0) -> ScoredEvents:
    return ScoredEvents(
        events.weight[which] * scale,
        {name: values[which] for name, values in events.columns.items()},
        [int(which.sum())],
        events.sumw2,
    )


def _transverse_masses(
    directory: Path, manifest: Mapping[str, Any], dataset: str, columns: Mapping[str, NDArray[Any]]
) -> Floats:
    """Transverse masses of all events of a dataset, in the order of their scores."""
    parts = [np.zeros(0)]
    start = 0
    for entry in manifest["shards"]:
        if entry["dataset"] != dataset:
            continue
        table = _leptons(directory / entry["path"])
        rows = slice(start, start + entry["rows"])
        start = rows.stop
        if len(table["met_et"]) != entry["rows"] or any(
            not np.array_equal(table[name], columns[name][rows]) for name in _IDENTITY
        ):
            msg = f"shard {directory / entry['path']} has other events than its scores: run score again"
            raise FailureError(msg)
        parts.append(transverse_mass(table))
    return np.concatenate(parts)


def _leptons(shard: Path) -> dict[str, NDArray[Any]]:
    """The columns of a shard that a transverse mass needs."""
    wanted = [*_IDENTITY, "met_et", "met_phi", "isOS"]
    try:
        file = pq.ParquetFile(shard)
        n_leptons = 3 if "lep3_pt" in file.schema_arrow.names else 2
        wanted += [f"lep{n}_{part}" for n in range(1, n_leptons + 1) for part in ("pt", "eta", "phi", "flav")]
        table = file.read(columns=wanted)
        return {name: table[name].to_numpy() for name in wanted}
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        msg = f"cannot read shard {shard} ({error}): run the stage select again"
        raise FailureError(msg) from error


def transverse_mass(events: Mapping[str, NDArray[Any]]) -> Floats:
    """m_T = √(2 pT E_T^miss (1 − cos Δφ)) of one lepton and E_T^miss [GeV], shape (n,).

    With two leptons it is the leading one. With three it is the lepton that a Z boson leaves over: of the pairs of
    one flavour the one nearest to the mass of the Z (massless leptons) is the Z's. Charges are known of the two
    leading leptons alone ("isOS"), which are no pair if their charges are equal; where no pair is left, it is the
    softest lepton.

    Args:
        events: columns met_et, met_phi, isOS, lepN_pt, lepN_eta, lepN_phi, lepN_flav, each (n,).
    """
    pt, eta, phi, flavour = (
        np.array(
            [events[f"lep{n}_{part}"] for n in (1, 2, 3) if f"lep{n}_{part}" in events], dtype=np.float64
        )
        for part in ("pt", "eta", "phi", "flav")
    )
    chosen = np.zeros(pt.shape[1], dtype=np.intp)
    if len(pt) == 3:
        distance = np.full(pt.shape[1], np.inf)
        chosen[:] = 2
        for i, j, left_over in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
            squared = 2 * pt[i] * pt[j] * (np.cosh(eta[i] - eta[j]) - np.cos(phi[i] - phi[j]))
            off = np.abs(np.sqrt(np.maximum(squared, 0.0)) - Z_MASS)
            a_pair = flavour[i] == flavour[j]
            if left_over == 2:
                a_pair &= np.asarray(events["isOS"]) > 0.5
            nearer = a_pair & (off < distance)
            distance[nearer], chosen[nearer] = off[nearer], left_over
    every = np.arange(pt.shape[1])
    met, angle = np.asarray(events["met_et"], np.float64), phi[chosen, every] - events["met_phi"]
    mass: Floats = np.sqrt(np.maximum(2 * pt[chosen, every] * met * (1 - np.cos(angle)), 0.0))
    return mass
