"""Jets of the parametrised detector: anti-kt, energy resolution, flavour, MV2c10-like score and JVT."""

from dataclasses import dataclass, fields

import awkward as ak
import numba
import numpy as np
import numpy.typing as npt

from fileset.simulation.particles import Particles

__all__ = ["MV2C10", "Jets", "b_tag_score", "cluster", "jvt_score", "reconstruct_jets"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RADIUS = 0.4
MIN_PT = 20.0  # GeV
OVERLAP_PT = 12.0  # GeV: leptons in jets as soft as this are theirs
MAX_ETA = 2.5  # as in the release
JVT_CUT = 0.59  # below it jets with pT < 60 GeV and |η| < 2.4 are dropped, as in the release
JVT_EFFICIENCY = 0.92
PILE_UP_JETS = 0.05  # mean number per event that survive JVT

# Distribution of the score by true flavour: (score, fraction of jets below it). The fractions at the release's
# working points 0.9349, 0.8244273, 0.645925 and 0.1758475 are the efficiencies of ATL-PHYS-PUB-2016-012;
# between them the shape follows the real simulated tt̄ jets.
MV2C10: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    5: (
        (-1.0, -0.91, -0.69, -0.27, 0.1758475, 0.645925, 0.8244273, 0.9349, 0.98, 0.999, 1.0),
        (0.0, 0.01, 0.05, 0.10, 0.15, 0.23, 0.30, 0.40, 0.50, 0.75, 1.0),
    ),
    4: (
        (-1.0, -0.93, -0.90, -0.76, -0.41, 0.1758475, 0.645925, 0.8244273, 0.9349, 0.98, 1.0),
        (0.0, 0.05, 0.10, 0.25, 0.50, 0.685, 0.83, 0.915, 0.97, 0.988, 1.0),
    ),
    15: (
        (-1.0, -0.93, -0.85, -0.47, 0.1758475, 0.645925, 0.8244273, 0.9349, 1.0),
        (0.0, 0.10, 0.30, 0.60, 0.85, 0.955, 0.982, 0.995, 1.0),
    ),
    0: (
        (
            *(-1.0, -0.96, -0.944, -0.927, -0.888, -0.813, -0.633, -0.31, -0.029),
            *(0.1758475, 0.645925, 0.8244273, 0.9349, 1.0),
        ),
        (0.0, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.970, 0.9925, 0.9974, 0.99935, 1.0),
    ),
}
# Quantiles of JVT of jets of the collision: pT < 60 GeV in |η| < 2.4, pT > 60 GeV, and forward.
_JVT_CENTRAL = ((0.0, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 1.0),
                (0.59, 0.65, 0.77, 0.89, 0.972, 0.990, 0.997, 1.0, 1.0))  # fmt: skip
_JVT_HARD = ((0.0, 0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 1.0),
             (0.0, 0.10, 0.958, 0.980, 0.990, 0.995, 0.999, 1.0, 1.0))  # fmt: skip
_JVT_FORWARD = ((0.0, 0.50, 0.85, 0.90, 0.95, 1.0), (0.0, 0.0, 0.2, 0.53, 0.98, 1.0))


@dataclass(frozen=True)
class Jets:
    """Jets, flat, ordered by event and decreasing pT [GeV]."""

    event: Integers
    pt: Floats
    eta: Floats
    phi: Floats
    e: Floats
    true_px: Floats  # particle-level momentum, 0 for pile-up
    true_py: Floats
    flavour: Integers  # 5, 4, 15 or 0
    score: Floats
    jvt: Floats
    accepted: npt.NDArray[
        np.bool_
    ]  # above 20 GeV and passing JVT; the others only take part in overlap removal

    def __getitem__(self, chosen: npt.NDArray[np.generic]) -> "Jets":
        """The chosen jets, by mask or index."""
        return Jets(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def __len__(self) -> int:
        """Number of jets."""
        return len(self.event)


def cluster(particles: Particles, events: Integers) -> dict[str, npt.NDArray[np.generic]]:
    """Particle-level anti-kt jets (R = 0.4) above 8 GeV of the chosen events, muons and neutrinos left out.

    Args:
        particles: the particle level.
        events: (m,) increasing event numbers within the batch.

    Returns:
        Flat columns `event`, `px`, `py`, `pz`, `e` [GeV].
    """
    import fastjet  # noqa: PLC0415 - heavy, and only the extra [simulate] has it

    seen = np.zeros(len(particles), dtype=bool)
    seen[events] = True
    use = np.flatnonzero(particles.visible & (np.abs(particles.pdg) != 13) & seen[particles.event])
    counts = np.bincount(particles.event[use], minlength=len(particles))[events]
    columns = {
        "px": particles.px[use],
        "py": particles.py[use],
        "pz": particles.pz[use],
        "E": particles.e[use],
    }
    inputs = ak.unflatten(ak.zip(columns, with_name="Momentum4D"), counts)
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)  # the output belongs to the user
    sequence = fastjet.ClusterSequence(inputs, fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS))
    jets = sequence.inclusive_jets(min_pt=8.0)
    flat = {k: np.asarray(ak.flatten(jets[k])) for k in ("px", "py", "pz", "E")}
    return {"event": np.repeat(events, ak.num(jets)), **flat}


@numba.njit(cache=True)
def _flavour(
    jet_event: Integers,
    jet_eta: Floats,
    jet_phi: Floats,
    event: Integers,
    flavour: Integers,
    pt: Floats,
    eta: Floats,
    phi: Floats,
) -> Integers:
    """5, 4 or 15 if a b hadron, c hadron or τ with pT > 5 GeV lies within ΔR < 0.3, in this order; else 0."""
    result = np.zeros(len(jet_event), dtype=np.int64)
    for n in range(len(jet_event)):
        first = np.searchsorted(event, jet_event[n])
        last = np.searchsorted(event, jet_event[n] + 1)
        best = 0
        for k in range(first, last):
            if pt[k] < 5.0:
                continue
            d_phi = abs((phi[k] - jet_phi[n] + np.pi) % (2 * np.pi) - np.pi)
            if (eta[k] - jet_eta[n]) ** 2 + d_phi**2 < 0.09:
                rank = 3 if flavour[k] == 5 else (2 if flavour[k] == 4 else 1)
                best = max(best, rank)
        result[n] = (0, 15, 4, 5)[best]
    return result


def b_tag_score(flavour: Integers, rng: np.random.Generator) -> Floats:
    """Draw an MV2c10-like score for jets of a true flavour (5, 4, 15, 0)."""
    draw = rng.random(len(flavour))
    score = np.empty(len(flavour))
    for code, (values, below) in MV2C10.items():
        chosen = flavour == code
        score[chosen] = np.interp(draw[chosen], below, values)
    return score


def jvt_score(pt: Floats, eta: Floats, rng: np.random.Generator) -> Floats:
    """Draw the jet-vertex-tagger output of jets of the simulated collision that pass it."""
    draw = rng.random(len(pt))
    central = np.abs(eta) < 2.4
    forward, hard = np.interp(draw, *_JVT_FORWARD), np.interp(draw, *_JVT_HARD)
    return np.asarray(np.where(~central, forward, np.where(pt > 60, hard, np.interp(draw, *_JVT_CENTRAL))))


def jet_resolution(pt: Floats) -> Floats:
    """Relative resolution of the transverse momentum: noise 3.5 GeV/pT ⊕ 75 %/√pT ⊕ 4 %."""
    return np.asarray(np.sqrt((3.5 / pt) ** 2 + 0.75**2 / pt + 0.04**2))


def reconstruct_jets(particles: Particles, events: Integers, rng: np.random.Generator) -> Jets:
    """Jets above 12 GeV within `|η| < 4.5` of the chosen events, with those of pile-up within `|η| < 2.5`."""
    truth = cluster(particles, events)
    px, py, pz, e = (truth[k].astype(np.float64) for k in ("px", "py", "pz", "E"))
    pt = np.hypot(px, py)
    scale = np.maximum(1 + jet_resolution(pt) * rng.standard_normal(len(pt)), 0.05)
    eta, phi = np.arcsinh(pz / pt), np.arctan2(py, px)
    event = truth["event"].astype(np.int64)
    flavour = _flavour(
        event,
        eta,
        phi,
        particles.heavy_event,
        particles.heavy_flavour,
        particles.heavy_pt,
        particles.heavy_eta,
        particles.heavy_phi,
    )
    jvt = jvt_score(pt * scale, eta, rng)
    n_extra = rng.poisson(PILE_UP_JETS, len(events))
    m = int(n_extra.sum())
    extra_pt = MIN_PT + rng.exponential(6.0, m)
    extra_eta = rng.uniform(-MAX_ETA, MAX_ETA, m)
    extra_mass = extra_pt * rng.uniform(0.1, 0.25, m)
    zeros = np.zeros(m)
    columns = {
        "event": np.concatenate([event, np.repeat(events, n_extra)]),
        "pt": np.concatenate([pt * scale, extra_pt]),
        "eta": np.concatenate([eta, extra_eta]),
        "phi": np.concatenate([phi, rng.uniform(-np.pi, np.pi, m)]),
        "e": np.concatenate([e * scale, np.hypot(extra_pt * np.cosh(extra_eta), extra_mass)]),
        "true_px": np.concatenate([px, zeros]),
        "true_py": np.concatenate([py, zeros]),
        "flavour": np.concatenate([flavour, zeros.astype(np.int64)]),
        "jvt": np.concatenate([jvt, rng.uniform(JVT_CUT, 1.0, m)]),
    }
    good = (columns["pt"] > OVERLAP_PT) & (np.abs(columns["eta"]) < 4.5)
    subject = (columns["pt"] < 60) & (np.abs(columns["eta"]) < 2.4) & (columns["true_px"] != 0)
    columns["accepted"] = (columns["pt"] > MIN_PT) & (~subject | (rng.random(len(good)) < JVT_EFFICIENCY))
    chosen = np.flatnonzero(good)
    chosen = chosen[np.lexsort((-columns["pt"][chosen], columns["event"][chosen]))]
    columns = {k: v[chosen] for k, v in columns.items()}
    return Jets(**columns, score=b_tag_score(columns["flavour"], rng))
