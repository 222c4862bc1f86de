"""The parametrised detector: from stable particles to the quantities of the release's `mini` tree.

Leptons come first (leptons.py), because most events end there; the jets of the others are clustered
(jets.py), overlaps removed as in the release (no lepton within ΔR < 0.4 of a jet), E_T^miss is worked out
from what was mismeasured, and single-lepton triggers are asked for. Documented in docs/simulation.md.
"""

import awkward as ak
import numba
import numpy as np
import numpy.typing as npt

from fileset.simulation.jets import MAX_ETA, Jets, reconstruct_jets
from fileset.simulation.leptons import Candidates, Leptons, reconstruct_leptons
from fileset.simulation.particles import Particles

__all__ = ["detect"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

SOFT_RESOLUTION = 9.0  # GeV per component: pile-up and the soft term
SOFT_LOSS = 0.35  # share of the soft hadronic recoil that tracks do not see
MEV = 1000.0
_COARSE = 10  # bits of mantissa of what is known to a per mille at best


@numba.njit(cache=True)
def _overlaps(
    lepton_event: Integers,
    electron: Booleans,
    lepton_pt: Floats,
    lepton_eta: Floats,
    lepton_phi: Floats,
    jet_event: Integers,
    jet_true_pt: Floats,
    jet_eta: Floats,
    jet_phi: Floats,
) -> tuple[Booleans, Booleans]:
    """Which leptons and jets survive.

    A jet within ΔR < 0.2 of an electron (muon) with less than 1.2 (0.4) times its pT is that lepton's own;
    then a lepton within ΔR < 0.4 of a remaining jet belongs to the jet.
    """
    keep_lepton = np.ones(len(lepton_event), dtype=np.bool_)
    keep_jet = np.ones(len(jet_event), dtype=np.bool_)
    for step in range(2):
        for n in range(len(lepton_event)):
            first = np.searchsorted(jet_event, lepton_event[n])
            last = np.searchsorted(jet_event, lepton_event[n] + 1)
            share = 1.2 if electron[n] else 0.4
            for k in range(first, last):
                if not keep_jet[k] or abs(jet_eta[k]) > 2.8:
                    continue
                d_phi = abs((jet_phi[k] - lepton_phi[n] + np.pi) % (2 * np.pi) - np.pi)
                distance2 = (jet_eta[k] - lepton_eta[n]) ** 2 + d_phi**2
                if step == 0 and distance2 < 0.04 and jet_true_pt[k] < share * lepton_pt[n]:
                    keep_jet[k] = False
                elif step == 1 and distance2 < 0.16:
                    keep_lepton[n] = False
    return keep_lepton, keep_jet


def _sum(event: Integers, values: Floats, n_events: int) -> Floats:
    return np.bincount(event, weights=values, minlength=n_events).astype(np.float64, copy=False)


def missing_momentum(
    particles: Particles, leptons: Leptons, jets: Jets, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Missing transverse momentum of every event of the batch [GeV], as (E_T^miss, φ).

    E_T^miss = what no detector sees + muons not reconstructed + what leptons and jets were mismeasured by
    + a share of the soft recoil + Gaussian noise.
    """
    n_events = len(particles)
    known = leptons.particle >= 0
    muon = leptons.pdg == 13
    true_muon = known & (np.abs(particles.pdg[leptons.particle]) == 13)
    directions = {"x": np.cos, "y": np.sin}
    components = []
    for axis, direction in directions.items():
        momentum, calorimeter = getattr(particles, f"p{axis}"), getattr(particles, f"calorimeter_p{axis}")
        true_jet = getattr(jets, f"true_p{axis}")
        true_lepton = np.where(known, momentum[leptons.particle], 0.0)
        clustered = _sum(jets.event, true_jet, n_events)
        in_calorimeter = _sum(leptons.event, true_lepton * ~muon, n_events)
        total = -calorimeter - _sum(leptons.event, true_lepton * true_muon, n_events)
        total += _sum(leptons.event, true_lepton - leptons.pt * direction(leptons.phi), n_events)
        total += clustered - _sum(jets.event, jets.pt * direction(jets.phi), n_events)
        total += SOFT_LOSS * (calorimeter - clustered - in_calorimeter)
        total += SOFT_RESOLUTION * rng.standard_normal(n_events)
        components.append(total)
    return np.hypot(*components), np.arctan2(components[1], components[0])


def _rounded(values: Floats, mantissa: int = 15) -> npt.NDArray[np.float32]:
    """Float32 with a shorter mantissa (15 bits: 2e-5 relative): what no detector resolves need not be stored."""
    dropped = 23 - mantissa
    half, mask = np.uint32(1 << (dropped - 1)), np.uint32((0xFFFFFFFF << dropped) & 0xFFFFFFFF)
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + half) & mask).view(np.float32)


def _collections(
    leptons: Leptons, jets: Jets, keep: Integers, n_events: int
) -> tuple[dict[str, npt.NDArray[np.generic]], dict[str, npt.NDArray[np.generic]], Integers, Integers]:
    """Columns of the lepton and jet branches of the kept events, with the counts per event."""
    chosen = np.zeros(n_events, dtype=bool)
    chosen[keep] = True
    leptons, jets = leptons[chosen[leptons.event]], jets[chosen[jets.event] & (np.abs(jets.eta) < MAX_ETA)]
    lepton_count = np.bincount(leptons.event, minlength=n_events)[keep]
    jet_count = np.bincount(jets.event, minlength=n_events)[keep]
    spread = np.where(leptons.pdg == 11, 0.004, 0.002 + 2e-5 * leptons.pt)
    lepton_columns = {
        "lep_truthMatched": leptons.prompt,
        "lep_trigMatched": leptons.trigger,
        "lep_pt": _rounded(leptons.pt * MEV),
        "lep_eta": _rounded(leptons.eta),
        "lep_phi": _rounded(leptons.phi),
        "lep_E": _rounded(leptons.e * MEV),
        "lep_z0": _rounded(leptons.z0, _COARSE),
        "lep_charge": leptons.charge.astype(np.int32),
        "lep_type": leptons.pdg.astype(np.uint32),
        "lep_isTightID": leptons.tight,
        "lep_ptcone30": _rounded(leptons.ptcone30 * MEV, _COARSE),
        "lep_etcone20": _rounded(leptons.etcone20 * MEV, _COARSE),
        "lep_trackd0pvunbiased": _rounded(leptons.d0, _COARSE),
        "lep_tracksigd0pvunbiased": _rounded(np.abs(leptons.d0) / leptons.sigma_d0, _COARSE),
        "lep_pt_syst": _rounded(leptons.pt * spread * MEV, _COARSE),
    }
    jet_columns = {
        "jet_pt": _rounded(jets.pt * MEV),
        "jet_eta": _rounded(jets.eta),
        "jet_phi": _rounded(jets.phi),
        "jet_E": _rounded(jets.e * MEV),
        "jet_jvt": _rounded(jets.jvt, _COARSE),
        "jet_trueflav": jets.flavour.astype(np.int32),
        "jet_truthMatched": jets.flavour != 0,
        "jet_MV2c10": _rounded(jets.score),
        "jet_pt_syst": _rounded(jets.pt * (0.02 + 1.2 / jets.pt) * MEV, _COARSE),
    }
    return lepton_columns, jet_columns, lepton_count, jet_count


def detect(
    particles: Particles, candidates: Candidates, *, minimum: int, rng: np.random.Generator
) -> ak.Array:
    """Pass a batch of events through the detector once.

    Args:
        particles: the particle level.
        candidates: what may be seen as a lepton (`candidates_of(particles)`).
        minimum: fewest leptons of an event that is kept.
        rng: source of random numbers.

    Returns:
        Record array of the kept events: branches of the `mini` tree in MeV and mm, and `index`, the number
        of the event within the batch. Kept are events with enough leptons, one of which fired a
        single-lepton trigger, as in the release.
    """
    leptons = reconstruct_leptons(particles, candidates, minimum=minimum, rng=rng)
    jets = reconstruct_jets(particles, np.unique(leptons.event), rng)
    keep_lepton, keep_jet = _overlaps(
        leptons.event,
        leptons.pdg == 11,
        leptons.pt,
        leptons.eta,
        leptons.phi,
        jets.event,
        np.hypot(jets.true_px, jets.true_py),
        jets.eta,
        jets.phi,
    )
    leptons, jets = leptons[keep_lepton], jets[keep_jet & jets.accepted]
    n_events = len(particles)
    met, met_phi = missing_momentum(particles, leptons, jets, rng)
    fired = np.zeros((2, n_events), dtype=bool)
    fired[0, leptons.event[leptons.trigger & (leptons.pdg == 11)]] = True
    fired[1, leptons.event[leptons.trigger & (leptons.pdg == 13)]] = True
    count = np.bincount(leptons.event, minlength=n_events)
    keep = np.flatnonzero((count >= minimum) & (fired[0] | fired[1]))
    lepton_columns, jet_columns, lepton_count, jet_count = _collections(leptons, jets, keep, n_events)
    branches: dict[str, object] = {
        "index": keep,
        "trigE": fired[0, keep],
        "trigM": fired[1, keep],
        "met_et": _rounded(met[keep] * MEV),
        "met_phi": _rounded(met_phi[keep]),
        "met_et_syst": _rounded(met[keep] * MEV * 0.05, _COARSE),
        "lep_n": lepton_count.astype(np.uint32),
        "jet_n": jet_count.astype(np.uint32),
    }
    branches |= {k: ak.unflatten(v, lepton_count) for k, v in lepton_columns.items()}
    branches |= {k: ak.unflatten(v, jet_count) for k, v in jet_columns.items()}
    return ak.Array(branches)
