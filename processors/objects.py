"""Good leptons and jets, and the events that are left: everything on flat buffers, no Python loop over events."""

from dataclasses import dataclass
from typing import Any

import awkward as ak
import numba
import numpy as np
from numpy.typing import NDArray

from processors.schema import flat_columns, from_flat
from processors.settings import JetSettings, LeptonSettings

__all__ = [
    "Ragged",
    "SelectedEvents",
    "good_jets",
    "good_leptons",
    "lepton_fields",
    "rmm_objects",
    "select_events",
]

LEPTON_FIELDS = (
    "pt",
    "eta",
    "phi",
    "energy",
    "mass",
    "charge",
    "flavour",
    "z0",
    "d0",
    "d0_significance",
    "ptcone30",
    "etcone20",
    "is_tight",
)
JET_FIELDS = ("pt", "eta", "phi", "energy", "mass", "btag", "passes_jvt")


@dataclass(frozen=True)
class Ragged:
    """A ragged collection as flat buffers: object i of event k stands at offsets[k] + i."""

    offsets: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, collection: ak.Array, fields: tuple[str, ...]) -> "Ragged":
        """The named fields of a ragged record array."""
        return cls(*flat_columns(collection, fields))

    def __getitem__(self, field: str) -> NDArray[Any]:
        return self.columns[field]

    def where(self, mask: NDArray[np.bool_], events: NDArray[np.int64] | None = None) -> "Ragged":
        """The objects where mask is true, in the given events (all events where none are given)."""
        if events is None:
            events = np.arange(self.offsets.size - 1)
        offsets, positions = _take(self.offsets, mask, events)
        return Ragged(offsets, {name: column[positions] for name, column in self.columns.items()})

    def counts(self, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Number of objects of each event where mask is true, shape (n_events,)."""
        return _count(self.offsets, mask)

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum over the objects of each event of one value an object, shape (n_events,)."""
        return _sum(self.offsets, values)

    def to_awkward(self) -> ak.Array:
        """The same as a ragged record array, without a copy."""
        return from_flat(self.offsets, self.columns)


@numba.njit(cache=True)
def _sum(offsets: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.float64]:  # pragma: no cover
    """Sum of the values of each list, shape (n_events,)."""
    sums = np.zeros(offsets.size - 1)
    for event in range(sums.size):
        for i in range(offsets[event], offsets[event + 1]):
            sums[event] += values[i]
    return sums


@numba.njit(cache=True)
def _count(offsets: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.int64]:  # pragma: no cover
    """Number of true values in each list, shape (n_events,)."""
    counts = np.zeros(offsets.size - 1, dtype=np.int64)
    for event in range(counts.size):
        for i in range(offsets[event], offsets[event + 1]):
            counts[event] += mask[i]
    return counts


@numba.njit(cache=True)
def _take(
    offsets: NDArray[np.int64], mask: NDArray[np.bool_], events: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # pragma: no cover - compiled
    """New offsets and flat positions of the true values in the given events."""
    new_offsets = np.zeros(events.size + 1, dtype=np.int64)
    for k in range(events.size):
        kept = 0
        for i in range(offsets[events[k]], offsets[events[k] + 1]):
            kept += mask[i]
        new_offsets[k + 1] = new_offsets[k] + kept
    positions = np.empty(new_offsets[-1], dtype=np.int64)
    out = 0
    for k in range(events.size):
        for i in range(offsets[events[k]], offsets[events[k] + 1]):
            if mask[i]:
                positions[out] = i
                out += 1
    return new_offsets, positions


def good_leptons(leptons: Ragged, settings: LeptonSettings) -> NDArray[np.bool_]:
    """Which leptons are good (report III.A.1; thesis listing 3.2), shape (n_leptons,)."""
    pt, is_electron = leptons["pt"], leptons["flavour"] == 11
    abs_eta = np.abs(leptons["eta"])
    good = pt > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        for cone, maximum in (
            ("etcone20", settings.relative_etcone20_max),
            ("ptcone30", settings.relative_ptcone30_max),
        ):
            if maximum is not None:
                good &= leptons[cone] / pt < maximum
    if settings.z0_sin_theta_max is not None:
        # sin(theta) = 1 / cosh(eta)
        good &= np.abs(leptons["z0"]) / np.cosh(leptons["eta"]) < settings.z0_sin_theta_max
    for is_flavour, eta_max, significance_max, tight in (
        (
            is_electron,
            settings.electron_abs_eta_max,
            settings.electron_d0_significance_max,
            settings.electron_tight,
        ),
        (~is_electron, settings.muon_abs_eta_max, settings.muon_d0_significance_max, settings.muon_tight),
    ):
        if eta_max is not None:
            good &= ~is_flavour | (abs_eta < eta_max)
        if significance_max is not None:
            good &= ~is_flavour | (leptons["d0_significance"] <= significance_max)
        if tight:
            good &= ~is_flavour | leptons["is_tight"]
    return good


def lepton_fields(settings: LeptonSettings) -> tuple[str, ...]:
    """The fields that tell which leptons are good, and their momenta: what a matrix needs."""
    significances = (settings.electron_d0_significance_max, settings.muon_d0_significance_max)
    is_cut_on = {
        "z0": settings.z0_sin_theta_max is not None,
        "d0_significance": any(cut is not None for cut in significances),
        "ptcone30": settings.relative_ptcone30_max is not None,
        "etcone20": settings.relative_etcone20_max is not None,
        "is_tight": settings.electron_tight or settings.muon_tight,
    }
    return ("pt", "eta", "phi", "flavour", *(field for field, cut in is_cut_on.items() if cut))


def good_jets(jets: Ragged, settings: JetSettings) -> NDArray[np.bool_]:
    """Which jets count, shape (n_jets,)."""
    good = jets["pt"] > settings.pt_min
    return good & jets["passes_jvt"] if settings.jvt else good


@dataclass(frozen=True)
class SelectedEvents:
    """n events with the same number L of good leptons, and what features are computed from.

    Attributes:
        index: positions in the chunk, shape (n,).
        lepton: field -> shape (n, L), by falling pT.
        jets: good jets, by falling pT.
        met_pt: missing transverse momentum [GeV], shape (n,).
        met_phi: its azimuth, shape (n,).
        photons: photons where the record has them.
    """

    index: NDArray[np.int64]
    lepton: dict[str, NDArray[Any]]
    jets: Ragged
    met_pt: NDArray[np.float32]
    met_phi: NDArray[np.float32]
    photons: Ragged | None = None

    def __len__(self) -> int:
        return self.index.size

    def where(self, mask: NDArray[np.bool_]) -> "SelectedEvents":
        """The events where mask (shape (n,)) is true."""
        kept = np.flatnonzero(mask)
        every_jet = np.ones(self.jets["pt"].size, dtype=bool)
        photons = self.photons
        if photons is not None:
            photons = photons.where(np.ones(photons["pt"].size, dtype=bool), kept)
        return SelectedEvents(
            index=self.index[kept],
            lepton={name: column[kept] for name, column in self.lepton.items()},
            jets=self.jets.where(every_jet, kept),
            met_pt=self.met_pt[kept],
            met_phi=self.met_phi[kept],
            photons=photons,
        )


def select_events(
    record: ak.Array, *, n_leptons: int, leptons: LeptonSettings, jets: JetSettings
) -> SelectedEvents:
    """The events with exactly n_leptons good leptons.

    Args:
        record: from `schema.event_record`.
        n_leptons: how many good leptons.
        leptons: what a good lepton is.
        jets: what a jet is.
    """
    present = tuple(field for field in LEPTON_FIELDS if field in record.lepton.fields)
    all_leptons = Ragged.of(record.lepton, present)
    is_good = good_leptons(all_leptons, leptons)
    index = np.flatnonzero(all_leptons.counts(is_good) == n_leptons)
    chosen = all_leptons.where(is_good, index)
    all_jets = Ragged.of(record.jet, JET_FIELDS)
    photons = None
    if "photon" in record.fields:
        every = Ragged.of(record.photon, ("pt", "eta", "phi", "mass"))
        photons = every.where(np.ones(every["pt"].size, dtype=bool), index)
    return SelectedEvents(
        index=index,
        lepton={name: column.reshape(-1, n_leptons) for name, column in chosen.columns.items()},
        jets=all_jets.where(good_jets(all_jets, jets), index),
        met_pt=np.asarray(record.met.pt)[index],
        met_phi=np.asarray(record.met.phi)[index],
        photons=photons,
    )


def rmm_objects(events: SelectedEvents, settings: JetSettings) -> dict[str, ak.Array]:
    """The objects of the rapidity-mass matrix: light jets, b-jets, electrons, muons (and photons)."""
    n, n_leptons = events.lepton["pt"].shape
    kinematics = ("pt", "eta", "phi", "mass")
    leptons = Ragged(
        np.arange(n + 1, dtype=np.int64) * n_leptons, {k: events.lepton[k].reshape(-1) for k in kinematics}
    )
    jets = Ragged(events.jets.offsets, {k: events.jets[k] for k in kinematics})
    is_electron = (events.lepton["flavour"] == 11).reshape(-1)
    btag = events.jets["btag"]
    objects = {
        "ljet": jets.where(btag < settings.light_jet_passes_less_than),
        "bjet": jets.where(btag >= settings.b_jet_passes),
        "electron": leptons.where(is_electron),
        "muon": leptons.where(~is_electron),
    }
    if events.photons is not None:
        objects["photon"] = events.photons
    return {name: ragged.to_awkward() for name, ragged in objects.items()}
