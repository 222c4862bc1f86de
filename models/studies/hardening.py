"""Events made hard in one way at a time: what a search for anything heavy should notice, told without any signal.

New physics of high mass shows in some of six ways: hard leptons, one hard lepton, hard jets, many jets, missing
transverse momentum, or all of it. Each is done to the physics objects of an event, before anything is computed from
them, and leaves the others as they were.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from models.studies.perturbations import scaled_leading_lepton
from processors.objects import JET_FIELDS, LEPTON_FIELDS, Ragged, good_leptons
from processors.schema import from_flat
from processors.settings import LeptonSettings

__all__ = ["STRENGTHS", "harder"]

_Way: TypeAlias = Callable[[ak.Array, float, LeptonSettings, np.random.Generator], ak.Array]

# How hard: factors on momenta, transverse momentum that goes missing [GeV], other events whose jets are added.
STRENGTHS: Final[dict[str, tuple[float, float]]] = {
    "leading lepton": (2, 4),
    "leptons": (1.5, 2.5),
    "jets": (2, 4),
    "more jets": (1, 3),
    "missing momentum": (100, 300),
    "everything": (1.5, 2.5),
}


def _with(record: ak.Array, **changed: ak.Array) -> ak.Array:
    contents = {name: record[name] for name in record.fields}
    return ak.zip(contents | changed, depth_limit=1)


def _leptons(record: ak.Array, factor: float, settings: LeptonSettings) -> ak.Array:
    """Momenta of all good leptons multiplied; how many are good, directions and charges stay."""
    ragged = Ragged.of(record.lepton, LEPTON_FIELDS)
    factors = np.where(good_leptons(ragged, settings), np.float32(factor), np.float32(1))
    harder = {component: factors * ragged[component] for component in ("pt", "energy")}
    leptons = from_flat(ragged.offsets, dict(ragged.columns) | harder)
    return _with(record, lepton=_by_falling_pt(leptons))


def _jets(record: ak.Array, factor: float) -> ak.Array:
    """Four-momenta of all jets multiplied."""
    ragged = Ragged.of(record.jet, JET_FIELDS)
    harder = {component: np.float32(factor) * ragged[component] for component in ("pt", "energy", "mass")}
    return _with(record, jet=from_flat(ragged.offsets, dict(ragged.columns) | harder))


def _by_falling_pt(objects: ak.Array) -> ak.Array:
    return objects[ak.argsort(objects.pt, axis=1, ascending=False, stable=True)]


def _missing(record: ak.Array, size: float, rng: np.random.Generator) -> ak.Array:
    """Some transverse momentum in a random direction gone missing, beside what was missing already."""
    met_pt, met_phi = (np.asarray(record.met[name], dtype=np.float64) for name in ("pt", "phi"))
    direction = rng.uniform(-np.pi, np.pi, len(record))
    px = met_pt * np.cos(met_phi) + size * np.cos(direction)
    py = met_pt * np.sin(met_phi) + size * np.sin(direction)
    return _with(record, met=_met(np.hypot(px, py), np.arctan2(py, px)))


def _met(pt: NDArray[np.float64], phi: NDArray[np.float64]) -> ak.Array:
    return ak.zip({"pt": pt.astype(np.float32), "phi": phi.astype(np.float32)})


def _more_jets(record: ak.Array, others: int, rng: np.random.Generator) -> ak.Array:
    """The jets of so many other events of the same process added to those of an event."""
    donors = [record.jet[rng.permutation(len(record))] for _ in range(others)]
    return _with(record, jet=_by_falling_pt(ak.concatenate([record.jet, *donors], axis=1)))


def _everything(record: ak.Array, factor: float, leptons: LeptonSettings) -> ak.Array:
    harder = _jets(_leptons(record, factor, leptons), factor)
    met_pt, met_phi = (np.asarray(record.met[name], dtype=np.float64) for name in ("pt", "phi"))
    return _with(harder, met=_met(factor * met_pt, met_phi))


_WAYS: Final[dict[str, _Way]] = {
    "leading lepton": lambda record, size, leptons, _: scaled_leading_lepton(record, size, leptons=leptons),
    "leptons": lambda record, size, leptons, _: _leptons(record, size, leptons),
    "jets": lambda record, size, _, __: _jets(record, size),
    "more jets": lambda record, size, _, rng: _more_jets(record, int(size), rng),
    "missing momentum": lambda record, size, _, rng: _missing(record, size, rng),
    "everything": lambda record, size, leptons, _: _everything(record, size, leptons),
}


def harder(
    record: ak.Array, way: str, strength: float, *, leptons: LeptonSettings, rng: np.random.Generator
) -> ak.Array:
    """The record with every event made harder in one way.

    Args:
        record: n events, from `schema.event_record`.
        way: of `STRENGTHS`.
        strength: at least 1: a factor on momenta, a transverse momentum [GeV], or a number of other events.
        leptons: what a good lepton is; only good ones are made harder, so that their number stays.
        rng: draws directions and the events whose jets are added, which are of the same record.
    """
    return _WAYS[way](record, strength, leptons, rng)
