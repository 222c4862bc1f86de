"""Changes of events that a score should notice: of physics objects, of columns, of single values.

A physics object is changed before anything is computed from it, so that all that depends on it follows: energy,
invariant, transverse and stransverse masses, sums of momenta, cells of the matrix. Changes of columns leave the other
columns as they were, and with them an event that cannot be: each column alone looks as before.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import InputError
from processors.features import feature_table
from processors.objects import LEPTON_FIELDS, Ragged, good_leptons, rmm_objects, select_events
from processors.rmm import layout_of, rapidity_mass_matrix
from processors.schema import from_flat
from processors.settings import LeptonSettings, RegionSettings, RMMSettings

__all__ = [
    "Balance",
    "columns_of_objects",
    "event_features",
    "exchanged",
    "scaled_leading_lepton",
    "with_noise",
    "with_objects_of_others",
]

Balance: TypeAlias = Literal["kept", "balanced"]
Features: TypeAlias = NDArray[np.float32]


def scaled_leading_lepton(
    record: ak.Array, factor: float, *, leptons: LeptonSettings, met: Balance = "kept"
) -> ak.Array:
    """The record with the transverse momentum of each event's leading good electron or muon multiplied.

    Direction, mass, charge and the energy in the cones around it stay. Its energy follows:
    E'² = E² + (factor² - 1) p².

    Args:
        record: n events, from `schema.event_record`.
        factor: at least 1, so that the order by falling pT and the relative isolation still hold.
        leptons: what a good lepton is.
        met: the missing transverse momentum stays ("kept": the lepton is that heavy), or takes the opposite of what
            the lepton gained ("balanced": the lepton was measured wrongly).

    Returns:
        n events; those without a good lepton are as before.
    """
    ragged = Ragged.of(record.lepton, LEPTON_FIELDS)
    good = np.flatnonzero(good_leptons(ragged, leptons))
    events, first = np.unique(
        np.searchsorted(ragged.offsets, good, side="right") - 1, return_index=True
    )  # leptons stand by falling pT
    leading = good[first]
    pt, eta, energy, phi = (
        ragged[name][leading].astype(np.float64) for name in ("pt", "eta", "energy", "phi")
    )
    momentum = pt * np.cosh(eta)
    columns = dict(ragged.columns)
    for name, values in (
        ("pt", factor * pt),
        ("energy", np.sqrt(energy**2 + (factor**2 - 1) * momentum**2)),
    ):
        columns[name] = columns[name].copy()
        columns[name][leading] = values
    contents = {name: record[name] for name in record.fields} | {"lepton": from_flat(ragged.offsets, columns)}
    if met == "balanced":
        gained = (factor - 1) * pt
        met_pt, met_phi = (np.asarray(record.met[name], dtype=np.float64) for name in ("pt", "phi"))
        px, py = met_pt * np.cos(met_phi), met_pt * np.sin(met_phi)
        px[events] -= gained * np.cos(phi)
        py[events] -= gained * np.sin(phi)
        contents["met"] = ak.zip(
            {"pt": np.hypot(px, py).astype(np.float32), "phi": np.arctan2(py, px).astype(np.float32)}
        )
    return ak.zip(contents, depth_limit=1)


def event_features(
    record: ak.Array, columns: Sequence[str], *, region: RegionSettings, rmm: RMMSettings
) -> tuple[Features, NDArray[np.int64]]:
    """Features of the events with the region's number of good leptons, as the stage select makes them.

    Cuts of the region that look at anything else are not made: a changed event is looked at wherever it went.

    Args:
        record: from `schema.event_record`.
        columns: of the feature table, baseline variables or cells of the matrix.
        region: what good leptons and jets are, and how many leptons.
        rmm: which matrix; it is made only if one of its cells is wanted.

    Returns:
        Features of shape (m, k), and positions of the m events in the record, shape (m,).

    Raises:
        InputError: a column is not made.
    """
    events = select_events(record, n_leptons=region.n_leptons, leptons=region.leptons, jets=region.jets)
    made: dict[str, Features] = feature_table(events, region.columns)
    if not set(columns) <= set(made):
        layout = layout_of(rmm)
        matrix = rapidity_mass_matrix(
            rmm_objects(events, region.jets),
            ak.zip({"pt": events.met_pt, "phi": events.met_phi}),
            layout,
            convention=rmm.convention,
        ).reshape(len(events), -1)
        made |= {name: matrix[:, cell] for cell, name in enumerate(layout.cell_names)}
    unknown = [name for name in columns if name not in made]
    if unknown:
        msg = f"{unknown[0]!r} is not made from events with these settings of region and matrix: set them as for select"
        raise InputError(msg)
    features = np.array([made[name] for name in columns], dtype=np.float32).T
    return np.ascontiguousarray(features), events.index


def columns_of_objects(columns: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Which columns describe one object: of the table its own, of the matrix those in its row or column.

    Args:
        columns: names of inputs.

    Returns:
        Name of the object -> positions of its columns: `lep1`, `lep2`, ... and `met` of the table; of the matrix the
        first of each type (`j1`, `b1`, `e1`, `mu1`, `g1`) and `met`. Objects with fewer than two columns are left out.
    """
    of: dict[str, list[int]] = {}
    for position, column in enumerate(columns):
        for name in _objects_of(column):
            of.setdefault(name, []).append(position)
    return {name: np.array(found) for name, found in of.items() if len(found) > 1}


_IN_MATRIX = {"j1", "b1", "e1", "mu1", "g1"}


def _objects_of(column: str) -> set[str]:
    head, *others = column.split("_")
    if head.startswith("lep") and others:
        return {head}
    if head == "met":
        return {"met"}
    return (_IN_MATRIX & set(others)) | ({"met"} if head == "mt" else set())


def exchanged(features: Features, pairs: Sequence[tuple[int, int]]) -> Features:
    """Features of shape (n, k) with the columns of each pair exchanged, one pair after the other."""
    order = np.arange(features.shape[1])
    for one, other in pairs:
        order[[one, other]] = order[[other, one]]
    return np.ascontiguousarray(features[:, order])


def with_objects_of_others(
    features: Features, weight: NDArray[np.float64], columns: NDArray[np.int64], rng: np.random.Generator
) -> Features:
    """Features with one object taken from another event that has it; events without it stay as they are.

    The donor is drawn by its weight, so that every column keeps its distribution over the whole background: what is
    new is that the columns of the object do not go with the others.

    Args:
        features: shape (n, k).
        weight: physical, shape (n,); events of negative weight give nothing.
        columns: of the object; an event has the object where one of them is not 0.
        rng: draws the donors.
    """
    has = np.flatnonzero((features[:, columns] != 0).any(axis=1))
    share = np.maximum(weight[has], 0.0)
    changed = features.copy()
    if share.sum() > 0:
        donors = rng.choice(has, size=len(has), p=share / share.sum())
        changed[np.ix_(has, columns)] = features[np.ix_(donors, columns)]
    return changed


def with_noise(
    scaled: Features,
    weight: NDArray[np.float64],
    size: float,
    rng: np.random.Generator,
    *,
    where: NDArray[np.bool_] | None = None,
) -> Features:
    """Scaled inputs with Gaussian noise.

    Args:
        scaled: shape (n, k).
        weight: physical, shape (n,).
        size: standard deviation of the noise, in standard deviations of each input over the weighted events; an input
            that never varies gets none.
        rng: draws the noise.
        where: which values get noise, shape (n, k); by default all.
    """
    total = weight.sum()
    mean = weight @ scaled / total
    deviation = np.sqrt(np.maximum(weight @ (scaled - mean) ** 2 / total, 0.0))
    noise = np.asarray(size * deviation, dtype=np.float32) * rng.standard_normal(
        scaled.shape, dtype=np.float32
    )
    return scaled + (noise if where is None else np.where(where, noise, np.float32(0)))
