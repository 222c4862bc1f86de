"""Electrons and muons of the parametrised detector: true, misidentified, and from other collisions.

Every number is a parameter of the simulation and stands in docs/simulation.md; the shapes of isolation,
impact parameters and identification follow the real simulated Z and tt̄ files of the 2020 release.
"""

from dataclasses import dataclass, fields
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from fileset.simulation.particles import BEAUTY, CHARM, LIGHT, PROMPT, TAU, Particles

__all__ = ["Candidates", "Leptons", "candidates_of", "reconstruct_leptons"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Columns = dict[str, npt.NDArray[Any]]

MIN_PT = 7.0  # GeV, as in the release
MAX_ETA = {11: 2.47, 13: 2.7}
CRACK = (1.37, 1.52)  # |η| between barrel and endcap calorimeter: no electrons
FAKE_FROM_HADRON = {11: 1.2e-2, 13: 7.0e-3}  # per charged hadron above MIN_PT
FAKE_FROM_PHOTON = 6.0e-2  # converted photon taken for an electron, per photon above MIN_PT
PILE_UP_LEPTONS = 1.5e-3  # mean number per event of leptons from other collisions
FSR_CONE = 0.1  # photons this close belong to the electron's cluster
ENERGY_SCALE = 1.0025  # calibration that brings the Z peak, low by photon radiation, to 91.2 GeV
MASS = {11: 0.000511, 13: 0.105658}
# (probability of the tight identification) by kind of lepton
TIGHT = {
    "prompt": {11: 0.93, 13: 0.93},
    "heavy": {11: 0.60, 13: 0.83},
    "fake": {11: 0.25, 13: 0.55},
}


@dataclass(frozen=True)
class Candidates:
    """Particles that may be seen as leptons, computed once for all passes through the detector.

    Attributes:
        event: (k,) event.
        particle: (k,) index among the particles.
        kind: (k,) 11 or 13 for true electrons and muons, 22 for photons, 211 for charged hadrons.
        pt: (k,) transverse momentum, with close-by photons for electrons [GeV].
    """

    event: Integers
    particle: Integers
    kind: Integers
    pt: Floats

    def __getitem__(self, chosen: npt.NDArray[np.generic]) -> "Candidates":
        """The chosen candidates, by mask or index."""
        return Candidates(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})


@dataclass(frozen=True)
class Leptons:
    """Reconstructed leptons, flat, ordered by event and decreasing pT; GeV and mm."""

    event: Integers
    particle: Integers  # index of the particle behind it, -1 for another collision
    pdg: Integers  # 11 or 13
    charge: Integers
    pt: Floats
    eta: Floats
    phi: Floats
    e: Floats
    d0: Floats
    sigma_d0: Floats
    z0: Floats
    tight: Booleans
    prompt: Booleans
    ptcone30: Floats
    etcone20: Floats
    trigger: Booleans

    def __getitem__(self, chosen: npt.NDArray[np.generic]) -> "Leptons":
        """The chosen leptons, by mask or index."""
        return Leptons(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def __len__(self) -> int:
        """Number of leptons."""
        return len(self.event)


@numba.njit(cache=True)
def _delta_phi(a: float, b: float) -> float:
    return abs((a - b + np.pi) % (2 * np.pi) - np.pi)


@numba.njit(cache=True)
def _dressed_pt(
    electrons: Integers, first: Integers, last: Integers, pdg: Integers, pt: Floats, eta: Floats, phi: Floats
) -> tuple[Floats, Booleans]:
    """Electron pT with the photons around it, and which photons were absorbed so."""
    absorbed = np.zeros(len(pdg), dtype=np.bool_)
    total = np.zeros(len(electrons))
    for n in range(len(electrons)):
        i = electrons[n]
        total[n] = pt[i]
        for k in range(first[n], last[n]):
            if pdg[k] != 22 or absorbed[k] or abs(eta[k] - eta[i]) > FSR_CONE:
                continue
            if (eta[k] - eta[i]) ** 2 + _delta_phi(phi[k], phi[i]) ** 2 < FSR_CONE**2:
                absorbed[k] = True
                total[n] += pt[k]
    return total, absorbed


def candidates_of(particles: Particles) -> Candidates:
    """Everything in the tracker's acceptance that can end as a lepton, before any random number."""
    code = np.abs(particles.pdg)
    central = np.abs(particles.eta) < 2.75
    electrons = np.flatnonzero((code == 11) & central & (particles.pt > 1.0))
    events = particles.event[electrons]
    dressed, absorbed = _dressed_pt(
        electrons,
        particles.offsets[events],
        particles.offsets[events + 1],
        particles.pdg,
        particles.pt,
        particles.eta,
        particles.phi,
    )
    muons = np.flatnonzero((code == 13) & central & (particles.pt > 5.0))
    hadrons = np.flatnonzero((code > 100) & (particles.charge != 0) & central & (particles.pt > MIN_PT))
    photons = np.flatnonzero((code == 22) & central & (particles.pt > MIN_PT) & ~absorbed)
    enough = dressed > 5.0
    index = np.concatenate([electrons[enough], muons, hadrons, photons])
    kind = np.repeat([11, 13, 211, 22], [int(enough.sum()), len(muons), len(hadrons), len(photons)])
    pt = np.concatenate([dressed[enough], particles.pt[muons], particles.pt[hadrons], particles.pt[photons]])
    return Candidates(event=particles.event[index], particle=index, kind=kind, pt=pt)


def efficiency(pdg: Integers, pt: Floats, eta: Floats, origin: Integers) -> Floats:
    """Probability to reconstruct and loosely identify a true lepton."""
    electron = pdg == 11
    plateau = np.where(electron, 0.95, np.where(np.abs(eta) < 0.1, 0.65, 0.97))
    turn_on = np.where(electron, 1 - 0.35 * np.exp(-(pt - 7) / 9), 1 - 0.10 * np.exp(-(pt - 7) / 6))
    in_jet = np.where((origin == PROMPT) | (origin == TAU), 1.0, np.where(electron, 0.45, 0.85))
    gap = electron & (np.abs(eta) > CRACK[0]) & (np.abs(eta) < CRACK[1])
    return np.asarray(np.where(gap, 0.0, plateau * turn_on * in_jet))


def resolution(pdg: Integers, pt: Floats, eta: Floats) -> Floats:
    """Relative resolution of the transverse momentum.

    Electrons, of the energy: 10 %/√E ⊕ 0.3/E ⊕ 1 % (1.7 % beyond the crack); muons: 1.7 % (2.5 % beyond
    |η| = 1.05) ⊕ 10 % pT/TeV.
    """
    energy = np.maximum(pt * np.cosh(eta), 1.0)
    constant = np.where(np.abs(eta) < 1.4, 0.010, 0.017)
    electron = np.sqrt(0.10**2 / energy + (0.3 / energy) ** 2 + constant**2)
    muon = np.hypot(np.where(np.abs(eta) < 1.05, 0.017, 0.025), 0.10e-3 * pt)
    return np.asarray(np.where(pdg == 11, electron, muon))


@numba.njit(cache=True)
def _cones(
    lepton: Integers,
    pdg: Integers,
    lepton_eta: Floats,
    lepton_phi: Floats,
    first: Integers,
    last: Integers,
    visible: Booleans,
    code: Integers,
    charge: Integers,
    pt: Floats,
    eta: Floats,
    phi: Floats,
) -> tuple[Floats, Floats]:
    """Σ pT of other tracks above 1 GeV within ΔR < 0.3, and Σ ET of other particles within ΔR < 0.2."""
    tracks = np.zeros(len(lepton))
    energy = np.zeros(len(lepton))
    for n in range(len(lepton)):
        for k in range(first[n], last[n]):
            if k == lepton[n] or not visible[k]:
                continue
            d_eta = abs(eta[k] - lepton_eta[n])
            if d_eta > 0.3:
                continue
            distance2 = d_eta**2 + _delta_phi(phi[k], lepton_phi[n]) ** 2
            if distance2 < 0.09 and charge[k] != 0 and pt[k] > 1.0 and abs(eta[k]) < 2.5:
                tracks[n] += pt[k]
            own_photon = code[k] == 22 and distance2 < FSR_CONE**2 and pdg[n] == 11
            if distance2 < 0.04 and code[k] != 13 and not own_photon:
                energy[n] += pt[k]
    return tracks, energy


def isolation(particles: Particles, leptons: Columns, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """`ptcone30` and `etcone20` [GeV]: the particles around, the underlying event and pile-up."""
    event, index = leptons["event"].astype(np.int64), leptons["particle"].astype(np.int64)
    pdg = leptons["pdg"].astype(np.int64)
    tracks, energy = _cones(
        index,
        pdg,
        leptons["eta"],
        leptons["phi"],
        particles.offsets[event],
        particles.offsets[event + 1],
        particles.visible,
        np.abs(particles.pdg),
        particles.charge,
        particles.pt,
        particles.eta,
        particles.phi,
    )
    elsewhere = index < 0  # its own collision is not the one that was simulated
    n = len(pdg)
    extra = (rng.random(n) < 0.10) * (1.0 + rng.exponential(0.7, n))
    own_collision = (rng.random(n) < 0.4) * (1.0 + rng.exponential(4.0, n))
    ptcone = np.where(elsewhere, own_collision, tracks) + extra
    electron_noise = rng.gamma(4.0, 0.6, n) - 2.10
    muon_noise = rng.gamma(1.5, 0.9, n) - 1.35
    etcone = np.where(elsewhere, own_collision, 0.9 * energy) + np.where(
        pdg == 11, electron_noise, muon_noise
    )
    return ptcone, etcone


def _true_and_fake(particles: Particles, candidates: Candidates, rng: np.random.Generator) -> Columns:
    """Which candidates are seen as which lepton, with their measured pT and charge."""
    index, kind = candidates.particle, candidates.kind
    eta, origin = particles.eta[index], particles.origin[index]
    draw = rng.random(len(index))
    true = (kind == 11) | (kind == 13)
    seen = true & (draw < efficiency(kind, candidates.pt, eta, origin))
    as_electron = (kind == 211) & (draw < FAKE_FROM_HADRON[11])
    as_electron |= (kind == 22) & (draw < FAKE_FROM_PHOTON)
    as_muon = (kind == 211) & ~as_electron & (draw < FAKE_FROM_HADRON[11] + FAKE_FROM_HADRON[13])
    chosen = np.flatnonzero(seen | as_electron | as_muon)
    index, kind, as_muon = index[chosen], kind[chosen], as_muon[chosen]
    pdg = np.where(kind == 13, 13, np.where(as_muon, 13, 11))
    pt, eta = candidates.pt[chosen], particles.eta[index]
    fake = kind > 13
    # A hadron leaves part of its energy outside the electron's cluster; a decay in flight loses the neutrino.
    response = np.where(kind == 211, rng.normal(0.85, 0.12, len(pt)).clip(0.3, 1.1), 1.0)
    smeared = pt * response * (1 + resolution(pdg, pt, eta) * rng.standard_normal(len(pt)))
    charge = particles.charge[index]
    flip = (pdg == 11) & (rng.random(len(pt)) < 0.001 + 0.004 * np.maximum(np.abs(eta) - 1.4, 0))
    sign = np.where(rng.random(len(pt)) < 0.5, 1, -1)
    charge = np.where(charge == 0, sign, np.where(flip, -charge, charge))
    origin = np.where(fake, LIGHT, particles.origin[index])
    return {
        "event": candidates.event[chosen],
        "particle": index,
        "pdg": pdg,
        "charge": charge,
        "pt": smeared * ENERGY_SCALE,
        "eta": eta,
        "phi": particles.phi[index],
        "origin": origin,
        "true_d0": np.where(kind == 22, 0.0, particles.d0[index]) + fake * rng.normal(0, 0.02, len(pt)),
        "true_z0": np.where(kind == 22, 0.0, particles.z0[index]),
    }


def _from_other_collisions(n_events: int, rng: np.random.Generator) -> Columns:
    """Soft leptons of pile-up collisions: far along the beam, mostly of heavy flavour."""
    n = int(rng.poisson(PILE_UP_LEPTONS * n_events))
    pdg = np.where(rng.random(n) < 0.45, 11, 13)
    return {
        "event": rng.integers(0, max(n_events, 1), n),
        "particle": np.full(n, -1),
        "pdg": pdg,
        "charge": np.where(rng.random(n) < 0.5, 1, -1),
        "pt": MIN_PT + rng.exponential(3.0, n),
        "eta": rng.uniform(-2.6, 2.6, n),
        "phi": rng.uniform(-np.pi, np.pi, n),
        "origin": np.full(n, CHARM),
        "true_d0": rng.laplace(0.0, 0.15, n),
        "true_z0": rng.normal(0.0, 55.0, n),
    }


def _tight_probability(pdg: Integers, pt: Floats, origin: Integers) -> Floats:
    electron = pdg == 11
    prompt = np.where(electron, TIGHT["prompt"][11] - 0.2 * np.exp(-(pt - 7) / 10), TIGHT["prompt"][13])
    heavy = np.where(electron, TIGHT["heavy"][11], TIGHT["heavy"][13])
    fake = np.where(electron, TIGHT["fake"][11], TIGHT["fake"][13])
    from_heavy = (origin == CHARM) | (origin == BEAUTY)
    return np.asarray(
        np.where((origin == PROMPT) | (origin == TAU), prompt, np.where(from_heavy, heavy, fake))
    )


def reconstruct_leptons(
    particles: Particles, candidates: Candidates, *, minimum: int, rng: np.random.Generator
) -> Leptons:
    """The leptons of the events that have at least `minimum` of them, the leading above 25 GeV.

    Isolation and the rest are worked out for those events only.

    Args:
        particles: the particle level.
        candidates: what may be seen as a lepton.
        minimum: fewest leptons an event must have to be kept.
        rng: source of random numbers.
    """
    found = _true_and_fake(particles, candidates, rng)
    other = _from_other_collisions(len(particles), rng)
    columns = {k: np.concatenate([found[k], other[k]]) for k in found}
    pdg, pt, eta = columns["pdg"], columns["pt"], np.abs(columns["eta"])
    good = (pt > MIN_PT) & (eta < np.where(pdg == 11, MAX_ETA[11], MAX_ETA[13]))
    good &= ~((pdg == 11) & (eta > CRACK[0]) & (eta < CRACK[1]))
    count = np.bincount(columns["event"][good], minlength=len(particles))
    leading = np.zeros(len(particles))
    np.maximum.at(leading, columns["event"][good], pt[good])
    good &= ((count >= minimum) & (leading > 25.0))[columns["event"]]
    chosen = np.flatnonzero(good)
    chosen = chosen[np.lexsort((-pt[chosen], columns["event"][chosen]))]
    columns = {k: v[chosen] for k, v in columns.items()}
    return _measure(particles, columns, rng)


def _measure(particles: Particles, columns: Columns, rng: np.random.Generator) -> Leptons:
    """Track parameters, identification, isolation and trigger of chosen leptons."""
    pdg = columns["pdg"].astype(np.int64)
    pt, eta = columns["pt"].astype(np.float64), columns["eta"].astype(np.float64)
    origin = columns["origin"].astype(np.int64)
    electron = pdg == 11
    n = len(pdg)
    # Resolution of d0: a ⊕ b/pT; the spread about the unbiased vertex is wider, as in the release.
    sigma = np.where(electron, np.hypot(0.0085, 0.22 / pt), np.hypot(0.006, 0.13 / pt))
    sigma *= np.exp(rng.normal(0.0, 0.15, n)) * (1 + 0.15 * eta**2 / 4)
    d0 = columns["true_d0"] + sigma * np.where(electron, 1.6, 2.0) * rng.standard_normal(n)
    sigma_z = np.hypot(0.032, 0.25 / pt) * np.cosh(eta)
    z0 = columns["true_z0"] + sigma_z * rng.standard_normal(n)
    tight = rng.random(n) < _tight_probability(pdg, pt, origin)
    ptcone, etcone = isolation(particles, columns, rng)
    plateau = np.where(electron, 0.95, np.where(np.abs(eta) < 1.05, 0.72, 0.88))
    trigger = (pt > 26.0) & (tight | ~electron) & (rng.random(n) < plateau)
    trigger &= electron | (np.abs(eta) < 2.5)
    mass = np.where(electron, MASS[11], MASS[13])
    return Leptons(
        event=columns["event"].astype(np.int64),
        particle=columns["particle"].astype(np.int64),
        pdg=pdg,
        charge=columns["charge"].astype(np.int64),
        pt=pt,
        eta=eta,
        phi=columns["phi"].astype(np.float64),
        e=np.hypot(pt * np.cosh(eta), mass),
        d0=np.asarray(d0),
        sigma_d0=np.asarray(sigma),
        z0=np.asarray(z0),
        tight=tight,
        prompt=(origin == PROMPT) | (origin == TAU),
        ptcone30=ptcone,
        etcone20=etcone,
        trigger=trigger,
    )
