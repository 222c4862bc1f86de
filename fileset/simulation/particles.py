"""The particle level of simulated events: flat arrays of stable particles, with the origin of each lepton.

`Pythia.nextBatch` hands over whole event records; one compiled pass keeps what the detector can see.
Momenta in GeV, lengths in mm.
"""

from dataclasses import dataclass
from typing import Any

import awkward as ak
import numba
import numpy as np
import numpy.typing as npt

__all__ = ["BEAUTY", "CHARM", "LIGHT", "PROMPT", "TAU", "Particles", "particles_of"]

LIGHT, PROMPT, TAU, CHARM, BEAUTY = 0, 1, 2, 4, 5  # origin of a lepton

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Particles:
    """The stable particles of a batch of events, and its weakly decaying heavy hadrons and τ leptons.

    Attributes:
        offsets: (n_events + 1,) first particle of each event.
        event: (n,) event each particle belongs to.
        pdg, charge: (n,) PDG identity and electric charge [e].
        visible: (n,) whether the calorimeters or the muon system can see it (`|η| < 4.9`).
        px, py, pz, e, pt, eta, phi: (n,) momentum [GeV].
        d0, z0: (n,) impact parameters of the straight line through the production vertex [mm].
        origin: (n,) for electrons and muons PROMPT, TAU, CHARM, BEAUTY or LIGHT (other hadrons, photons).
        heavy_event, heavy_flavour, heavy_pt, heavy_eta, heavy_phi: (k,) b hadrons (5), c hadrons (4),
            hadronically decaying or not, and τ leptons (15).
        boson_pt: (n_events,) transverse momentum of the last Z or virtual photon in the record [GeV], 0 without one.
        calorimeter_px, calorimeter_py: (n_events,) vector sums of all visible particles but muons [GeV].
    """

    offsets: Integers
    event: Integers
    pdg: Integers
    charge: Integers
    visible: npt.NDArray[np.bool_]
    px: Floats
    py: Floats
    pz: Floats
    e: Floats
    pt: Floats
    eta: Floats
    phi: Floats
    d0: Floats
    z0: Floats
    origin: Integers
    heavy_event: Integers
    heavy_flavour: Integers
    heavy_pt: Floats
    heavy_eta: Floats
    heavy_phi: Floats
    boson_pt: Floats
    calorimeter_px: Floats
    calorimeter_py: Floats

    def __len__(self) -> int:
        """Number of events."""
        return len(self.offsets) - 1


@numba.njit(cache=True)
def _heaviest_quark(pdg: int) -> int:
    """5 for a b hadron, 4 for a c hadron, 1 for another hadron, 0 for anything else."""
    code = abs(pdg)
    if code <= 100 or code >= 1_000_000:
        return 0
    digits = (code // 1000 % 10, code // 100 % 10, code // 10 % 10)
    heaviest = max(digits)
    return heaviest if heaviest >= 4 else 1


@numba.njit(cache=True)
def _charge(pdg: int) -> int:
    """Charge of a long-lived particle in units of e."""
    code = abs(pdg)
    if code in (211, 321, 2212, 3222):
        return 1 if pdg > 0 else -1
    if code in (11, 13, 15, 3112, 3312, 3334):
        return -1 if pdg > 0 else 1
    return 0


@numba.njit(cache=True)
def _origin(start: int, first: int, pdg: Integers, mother: Integers) -> int:
    """Where a lepton comes from: the heaviest flavour of the chain of hadrons above it, else τ or prompt."""
    through_tau = False
    hadron = 0
    index = first + mother[start]
    for _ in range(200):
        if index <= first:
            break
        code = abs(pdg[index])
        quark = _heaviest_quark(pdg[index])
        hadron = max(hadron, quark)
        if quark == 0:
            if code == 15:
                through_tau = True
            elif hadron > 0 or code in (23, 24, 25, 32, 6) or code >= 1_000_000:
                break
            elif code == 22:
                hadron = 1
        index = first + mother[index]
    if hadron >= 4:
        return hadron
    if hadron == 1:
        return 0
    return 2 if through_tau else 1


@numba.njit(cache=True)
def _stable(
    offsets: Integers, pdg: Integers, status: Integers, mother: Integers
) -> tuple[Integers, Integers, Integers]:
    """Indices of stable particles, of weakly decaying heavy hadrons and τ, and the last Z of each event."""
    n_events = len(offsets) - 1
    keep = np.zeros(len(pdg), dtype=np.int64)
    heavy = np.zeros(len(pdg), dtype=np.int64)
    boson = np.full(n_events, -1, dtype=np.int64)
    for i in range(n_events):
        first, last = offsets[i], offsets[i + 1]
        for k in range(first, last):
            code = abs(pdg[k])
            if code == 23:
                boson[i] = k
            quark = _heaviest_quark(pdg[k])
            if quark >= 4 or code == 15:
                heavy[k] = quark if quark >= 4 else 15
            if status[k] > 0:
                keep[k] = 1
        # A hadron (or τ) with a daughter of the same flavour is not the one that decays weakly.
        for k in range(first, last):
            above = first + mother[k]
            if heavy[k] > 0 and above > first and heavy[above] == heavy[k]:
                heavy[above] = 0
    return keep, heavy, boson


@numba.njit(cache=True)
def _origins(
    chosen: Integers, event_first: Integers, pdg: Integers, mother: Integers
) -> tuple[Integers, Integers]:
    origin = np.zeros(len(chosen), dtype=np.int64)
    charge = np.zeros(len(chosen), dtype=np.int64)
    for n in range(len(chosen)):
        k = chosen[n]
        charge[n] = _charge(pdg[k])
        if abs(pdg[k]) == 11 or abs(pdg[k]) == 13:
            origin[n] = _origin(k, event_first[n], pdg, mother)
    return origin, charge


def _eta(px: Floats, py: Floats, pz: Floats) -> Floats:
    pt = np.maximum(np.hypot(px, py), 1e-9)
    return np.asarray(np.arcsinh(pz / pt))


def _impact(momentum: tuple[Floats, ...], vertex: tuple[Floats, ...]) -> tuple[Floats, Floats]:
    """Transverse and longitudinal impact parameters of straight lines to the beam line [mm]."""
    px, py, pz, pt = momentum
    x, y, z = vertex
    inverse = 1.0 / np.maximum(pt, 1e-9)
    d0 = (x * py - y * px) * inverse
    along = (x * px + y * py) * inverse
    return d0, z - along * pz * inverse


def _sum(event: Integers, values: Floats, n_events: int) -> Floats:
    return np.bincount(event, weights=values, minlength=n_events).astype(np.float64, copy=False)


def particles_of(batch: Any) -> Particles:
    """Flatten what `Pythia.nextBatch` returned.

    Args:
        batch: awkward array with field `prt`, one record of all particles an event.
    """
    layout = ak.to_packed(batch["prt"]).layout
    offsets = np.asarray(layout.offsets, dtype=np.int64)
    record = layout.content
    pdg = np.asarray(record["id"].data, dtype=np.int64)
    status = np.asarray(record["status"].data, dtype=np.int64)
    mother = np.asarray(record["mother1"].data, dtype=np.int64)
    momentum = {k: np.asarray(record["p"][k].data) for k in ("px", "py", "pz", "e")}
    option = record["vProd"]
    where = np.asarray(option.index.data, dtype=np.int64)
    vertices = {k: np.asarray(option.content[k].data) for k in ("px", "py", "pz")}

    keep, heavy, boson = _stable(offsets, pdg, status, mother)
    chosen = np.flatnonzero(keep)
    event = np.searchsorted(offsets, chosen, side="right") - 1
    origin, charge = _origins(chosen, offsets[event], pdg, mother)
    px, py, pz, e = (momentum[k][chosen] for k in ("px", "py", "pz", "e"))
    pt = np.hypot(px, py)
    eta = _eta(px, py, pz)
    has = where[chosen]
    displaced = [np.where(has >= 0, values[np.maximum(has, 0)], 0.0) for values in vertices.values()]
    d0, z0 = _impact((px, py, pz, pt), tuple(displaced))
    code = np.abs(pdg[chosen])
    neutral = np.isin(code, (22, 130, 310, 2112, 3122, 3322))
    visible = ((charge != 0) | neutral) & (np.abs(eta) < 4.9)

    decaying = np.flatnonzero(heavy)
    hx, hy, hz = (momentum[k][decaying] for k in ("px", "py", "pz"))
    with_boson = boson >= 0
    boson_pt = np.hypot(momentum["px"][boson], momentum["py"][boson]) * with_boson
    deposits = visible & (code != 13)
    n_events = len(offsets) - 1
    return Particles(
        offsets=np.searchsorted(chosen, offsets).astype(np.int64),
        event=event,
        pdg=pdg[chosen],
        charge=charge,
        visible=visible,
        px=px,
        py=py,
        pz=pz,
        e=e,
        pt=pt,
        eta=eta,
        phi=np.arctan2(py, px),
        d0=d0,
        z0=z0,
        origin=origin,
        heavy_event=np.searchsorted(offsets, decaying, side="right") - 1,
        heavy_flavour=heavy[decaying],
        heavy_pt=np.hypot(hx, hy),
        heavy_eta=_eta(hx, hy, hz),
        heavy_phi=np.arctan2(hy, hx),
        boson_pt=boson_pt,
        calorimeter_px=_sum(event, px * deposits, n_events),
        calorimeter_py=_sum(event, py * deposits, n_events),
    )
