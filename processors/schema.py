"""The two releases of the open data as one event record.

`OpenDataSchema` groups the branches of the trees `mini` (2020) and `analysis` (2025) into collections with the
same field names. A coffea schema can neither rescale nor sort, so `event_record` finishes the work: GeV, leptons
and jets by falling pT, b-tags as working points passed, whatever the release.
"""

from collections.abc import Collection
from types import MappingProxyType
from typing import Any

import awkward as ak
import numba
import numpy as np
from coffea.nanoevents import BaseSchema
from coffea.nanoevents.schemas.base import zip_forms
from numpy.typing import NDArray

from processors.constants import (
    ELECTRON_MASS,
    JVT_CUT,
    JVT_MAX_ABS_ETA,
    JVT_MAX_PT,
    MEV,
    MUON_MASS,
    MV2C10_CUTS,
)

__all__ = [
    "BRANCHES",
    "OpenDataSchema",
    "ShardSchema",
    "event_record",
    "flat_columns",
    "from_flat",
    "release_of",
]

# release -> collection -> field -> branch. `event` holds one value an event.
BRANCHES: MappingProxyType[str, dict[str, dict[str, str]]] = MappingProxyType(
    {
        "2020": {
            "lepton": {
                "pt": "lep_pt",
                "eta": "lep_eta",
                "phi": "lep_phi",
                "energy": "lep_E",
                "charge": "lep_charge",
                "flavour": "lep_type",
                "z0": "lep_z0",
                "d0": "lep_trackd0pvunbiased",
                "d0_significance": "lep_tracksigd0pvunbiased",
                "ptcone30": "lep_ptcone30",
                "etcone20": "lep_etcone20",
                "is_tight": "lep_isTightID",
            },
            "jet": {
                "pt": "jet_pt",
                "eta": "jet_eta",
                "phi": "jet_phi",
                "energy": "jet_E",
                "jvt": "jet_jvt",
                "btag": "jet_MV2c10",
            },
            "photon": {"pt": "photon_pt", "eta": "photon_eta", "phi": "photon_phi", "energy": "photon_E"},
            "met": {"pt": "met_et", "phi": "met_phi"},
            "event": {
                "channel": "channelNumber",
                "run": "runNumber",
                "event": "eventNumber",
                "generator": "mcWeight",
                "pileup": "scaleFactor_PILEUP",
                "electron": "scaleFactor_ELE",
                "muon": "scaleFactor_MUON",
                "lepton_trigger": "scaleFactor_LepTRIGGER",
                "btag": "scaleFactor_BTAG",
            },
        },
        "2025": {
            "lepton": {
                "pt": "lep_pt",
                "eta": "lep_eta",
                "phi": "lep_phi",
                "energy": "lep_e",
                "charge": "lep_charge",
                "flavour": "lep_type",
                "z0": "lep_z0",
                "d0": "lep_d0",
                "d0_significance": "lep_d0sig",
                "ptcone30": "lep_ptvarcone30",
                "etcone20": "lep_topoetcone20",
                "is_tight": "lep_isTightID",
            },
            "jet": {
                "pt": "jet_pt",
                "eta": "jet_eta",
                "phi": "jet_phi",
                "energy": "jet_e",
                "jvt": "jet_jvt",
                "btag": "jet_btag_quantile",
            },
            "photon": {"pt": "photon_pt", "eta": "photon_eta", "phi": "photon_phi", "energy": "photon_e"},
            "met": {"pt": "met", "phi": "met_phi"},
            "event": {
                "channel": "channelNumber",
                "run": "runNumber",
                "event": "eventNumber",
                "generator": "mcWeight",
                "pileup": "ScaleFactor_PILEUP",
                "electron": "ScaleFactor_ELE",
                "muon": "ScaleFactor_MUON",
                "lepton_trigger": "ScaleFactor_LepTRIGGER",
                "btag": "ScaleFactor_BTAG",
            },
        },
    }
)


def release_of(branches: Any) -> str:
    """Name of the release ("2020" or "2025") that a collection of branch names belongs to.

    Raises:
        ValueError: the names are of neither release.
    """
    names = set(branches)
    for release, collections in BRANCHES.items():
        if {collections["lepton"]["energy"], collections["met"]["pt"]} <= names:
            return release
    message = "branches lep_E and met_et (2020 release) or lep_e and met (2025 release) are missing"
    raise ValueError(message)


class OpenDataSchema(BaseSchema):
    """Groups the branches of either release into lepton, jet, photon, met and event; drops the others."""

    def __init__(self, base_form: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(base_form, *args, **kwargs)
        branches = dict(zip(base_form["fields"], base_form["contents"], strict=True))
        collections: dict[str, Any] = {}
        release = release_of(branches)
        for name, fields in BRANCHES[release].items():
            forms = {field: branches[branch] for field, branch in fields.items() if branch in branches}
            if forms:
                collections[name] = zip_forms(forms, name)
        self._form["parameters"]["release"] = release
        self._form["fields"] = list(collections)
        self._form["contents"] = list(collections.values())


class ShardSchema(BaseSchema):
    """One column of a shard, so that coffea knows how many events it has.

    A shard with a matrix has more than 500: to make an array of each, virtual as it is, takes coffea longer than the
    rest of what is done with a small shard. Processors of shards read the columns they need with Arrow.
    """

    def __init__(self, base_form: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(base_form, *args, **kwargs)
        self._form["fields"] = base_form["fields"][:1]
        self._form["contents"] = base_form["contents"][:1]


def flat_columns(
    collection: ak.Array, fields: tuple[str, ...]
) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """Offsets (n_events + 1,) and flat content of the named fields of a ragged record array, without loops.

    Args:
        collection: n_events lists of records.
        fields: the fields wanted; only these are read from the file.
    """
    first = ak.to_packed(collection[fields[0]]).layout
    columns = {fields[0]: np.asarray(first.content.data)}
    for field in fields[1:]:
        columns[field] = np.asarray(ak.to_packed(collection[field]).layout.content.data)
    return np.asarray(first.offsets.data, dtype=np.int64), columns


def from_flat(offsets: NDArray[np.int64], columns: dict[str, NDArray[Any]]) -> ak.Array:
    """The ragged record array of flat columns: the inverse of `flat_columns`, without a copy."""
    record = ak.contents.RecordArray([ak.contents.NumpyArray(c) for c in columns.values()], list(columns))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))


@numba.njit(cache=True)
def _falling_order(
    offsets: NDArray[np.int64], pt: NDArray[np.float32]
) -> tuple[bool, NDArray[np.int64]]:  # pragma: no cover - compiled
    """Whether every list is in falling order already, and the stable permutation that puts it so."""
    order = np.arange(pt.size)
    ordered = True
    for event in range(offsets.size - 1):
        for i in range(offsets[event] + 1, offsets[event + 1]):
            candidate = order[i]
            j = i
            while j > offsets[event] and pt[order[j - 1]] < pt[candidate]:
                order[j] = order[j - 1]
                j -= 1
                ordered = False
            order[j] = candidate
    return ordered, order


def _by_falling_pt(offsets: NDArray[np.int64], columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    ordered, order = _falling_order(offsets, columns["pt"])
    return columns if ordered else {name: column[order] for name, column in columns.items()}


def _energies_to_gev(columns: dict[str, NDArray[Any]], release: str) -> dict[str, NDArray[Any]]:
    if release == "2025":
        return columns
    in_mev = {"pt", "energy", "ptcone30", "etcone20"}
    scale = np.float32(MEV)
    return {name: column * scale if name in in_mev else column for name, column in columns.items()}


def _leptons(events: ak.Array, release: str, fields: Collection[str] | None) -> ak.Array:
    known = tuple(BRANCHES[release]["lepton"])
    wanted = known if fields is None else tuple(f for f in known if f in {"pt", "flavour", *fields})
    offsets, columns = flat_columns(events.lepton, wanted)
    columns = _energies_to_gev(columns, release)
    columns["flavour"] = np.abs(columns["flavour"].astype(np.int32))
    if "charge" in columns:
        columns["charge"] = columns["charge"].astype(np.int32)
    if "d0_significance" in columns:  # unsigned in 2020, signed in 2025
        columns["d0_significance"] = np.abs(columns["d0_significance"])
    columns["mass"] = np.where(columns["flavour"] == 11, ELECTRON_MASS, MUON_MASS).astype(np.float32)
    return from_flat(offsets, _by_falling_pt(offsets, columns))


def _mass(columns: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Mass from the stored energy; 0 where rounding of the file makes E < |p|."""
    momentum = columns["pt"].astype(np.float64) * np.cosh(columns["eta"].astype(np.float64))
    squared = columns["energy"].astype(np.float64) ** 2 - momentum**2
    return np.sqrt(np.maximum(squared, 0)).astype(np.float32)


def _jets(events: ak.Array, release: str) -> ak.Array:
    offsets, columns = flat_columns(events.jet, tuple(BRANCHES[release]["jet"]))
    columns = _energies_to_gev(columns, release)
    jvt, btag = columns.pop("jvt"), columns.pop("btag")
    if release == "2020":
        pile_up = (columns["pt"] < JVT_MAX_PT) & (np.abs(columns["eta"]) < JVT_MAX_ABS_ETA) & (jvt < JVT_CUT)
        columns["passes_jvt"] = ~pile_up
        score = btag.astype(np.float64)
        columns["btag"] = np.searchsorted(MV2C10_CUTS, score, side="left").astype(np.int8)
    else:
        columns["passes_jvt"] = jvt.astype(bool)
        # Quantile 1 passes none, 2 the 85 % point, ... 5 the 60 % point.
        columns["btag"] = np.clip(btag - 1, 0, 4).astype(np.int8)
    columns["mass"] = _mass(columns)
    return from_flat(offsets, _by_falling_pt(offsets, columns))


def _photons(events: ak.Array, release: str) -> ak.Array:
    offsets, columns = flat_columns(events.photon, tuple(BRANCHES[release]["photon"]))
    columns = _energies_to_gev(columns, release)
    columns["mass"] = np.zeros_like(columns["pt"])
    return from_flat(offsets, _by_falling_pt(offsets, columns))


def event_record(
    events: ak.Array, *, photons: bool = False, leptons: Collection[str] | None = None
) -> ak.Array:
    """The same record for both releases, in GeV, radians and mm, leptons and jets by falling pT.

    Args:
        events: n_events events read through `OpenDataSchema`.
        photons: read photons too (only matrices with photons need them).
        leptons: fields of leptons that are wanted, as `objects.lepton_fields` gives them; all where none are given.
            Only their branches are read, and `pt` and `flavour`.

    Returns:
        n_events records with
        `channel`, `run` (int64), `event` (uint64): the event's identity;
        `weight`: record of `generator`, `pileup`, `electron`, `muon`, `lepton_trigger`, `btag` (float32);
        `met`: record of `pt`, `phi`;
        `lepton`: lists of `pt, eta, phi, energy, mass` (of the flavour, PDG), `charge`, `flavour` (11 or 13), `z0`,
        `d0`, `d0_significance` (unsigned), `ptcone30`, `etcone20`, `is_tight`;
        `jet`: lists of `pt, eta, phi, energy, mass` (>= 0), `btag` (number of working points of
        `constants.B_TAG_WORKING_POINTS` passed), `passes_jvt`;
        `photon` where asked.
    """
    release = ak.parameters(events)["release"]
    scalars = {name: np.asarray(events.event[name]) for name in BRANCHES[release]["event"]}
    met_scale = np.float32(MEV if release == "2020" else 1.0)
    number = scalars["event"]
    contents = {
        "channel": scalars["channel"].astype(np.int64),
        "run": scalars["run"].astype(np.int64),
        # 2020 stores int32, negative where the number is above 2^31: unwrap.
        "event": (number.astype(np.int32).view(np.uint32) if release == "2020" else number).astype(np.uint64),
        "weight": ak.zip({name: scalars[name] for name in list(BRANCHES[release]["event"])[3:]}),
        "met": ak.zip(
            {"pt": np.asarray(events.met.pt) * met_scale, "phi": np.asarray(events.met.phi)},
        ),
        "lepton": _leptons(events, release, leptons),
        "jet": _jets(events, release),
    }
    if photons:
        contents["photon"] = _photons(events, release)
    return ak.zip(contents, depth_limit=1)
