"""Analysis regions: named cuts, each a configurable quantity, and the cutflow they give.

2L is the report's selection (III.A.1), 3L the thesis' (listing 3.2 and its chapter 3).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from processors.constants import FLAVOUR_COMBINATION, Z_MASS
from processors.kinematics import invariant_mass
from processors.objects import SelectedEvents, select_events
from processors.settings import RegionSettings

__all__ = ["apply_region", "flavour_combination", "tally"]


def _ossf(events: SelectedEvents) -> Iterator[tuple[tuple[int, int], NDArray[np.bool_]]]:
    """Pairs of leptons, and which events have them of opposite sign and the same flavour."""
    charge, flavour = events.lepton["charge"], events.lepton["flavour"]
    for i in range(charge.shape[1]):
        for j in range(i):
            yield (j, i), (charge[:, i] == -charge[:, j]) & (flavour[:, i] == flavour[:, j])


def _ossf_pairs(events: SelectedEvents) -> NDArray[np.int64]:
    return sum((pairs.astype(np.int64) for _, pairs in _ossf(events)), start=np.zeros(len(events), np.int64))


def _has_z(events: SelectedEvents, width: float) -> NDArray[np.bool_]:
    """Whether any opposite-sign same-flavour pair has a mass within so many GeV of the Z's."""
    found = np.zeros(len(events), dtype=np.bool_)
    for leptons, pairs in _ossf(events):
        found |= pairs & (np.abs(invariant_mass(events.lepton, leptons) - Z_MASS) < width)
    return found


def _b_jets(events: SelectedEvents, region: RegionSettings) -> NDArray[np.int64]:
    return events.jets.counts(events.jets["btag"] >= region.jets.b_jet_passes)


Keeps = Callable[[SelectedEvents], NDArray[np.bool_]]


def _lepton_above(position: int, minimum: float) -> Keeps:
    return lambda events: events.lepton["pt"][:, position] > minimum


# setting -> (name of the cut, what passes), for every optional cut that is one number; in the order of the cutflow.
_CUTS: dict[str, tuple[str, Callable[[SelectedEvents, RegionSettings, Any], NDArray[np.bool_]]]] = {
    "charge": (
        "{} charge",
        lambda e, _, c: e.lepton["charge"][:, 0] * e.lepton["charge"][:, 1] == (-1 if c == "opposite" else 1),
    ),
    "mll_min": ("m_ll > {:g} GeV", lambda e, _, c: invariant_mass(e.lepton, (0, 1)) > c),
    "mll_max": ("m_ll < {:g} GeV", lambda e, _, c: invariant_mass(e.lepton, (0, 1)) < c),
    "n_ossf_pairs": ("{} OSSF pairs", lambda e, _, c: _ossf_pairs(e) == c),
    "z_window": ("a Z within {:g} GeV", lambda e, _, c: _has_z(e, c)),
    "z_veto": ("no Z within {:g} GeV", lambda e, _, c: ~_has_z(e, c)),
    "met_min": ("MET > {:g} GeV", lambda e, _, c: e.met_pt > c),
    "n_b_jets_min": ("at least {} b-jets", lambda e, region, c: _b_jets(e, region) >= c),
    "n_b_jets_max": ("at most {} b-jets", lambda e, region, c: _b_jets(e, region) <= c),
}


def _cuts(region: RegionSettings) -> Iterator[tuple[str, Keeps]]:
    """The optional cuts that are made, in order: their name and what they keep."""
    for i, minimum in enumerate(region.lepton_pt_min or ()):
        yield f"lepton {i + 1} pT > {minimum:g} GeV", _lepton_above(i, minimum)
    for setting, (name, passes) in _CUTS.items():
        cut = getattr(region, setting)
        if cut is not None:
            yield name.format(cut), partial(lambda e, p, c: p(e, region, c), p=passes, c=cut)


def tally(weight: NDArray[np.float64]) -> tuple[int, float, float]:
    """Number of events, sum of weights and sum of squared weights."""
    return int(weight.size), float(np.sum(weight)), float(np.sum(weight * weight))


def apply_region(
    record: ak.Array, weight: NDArray[np.float64], region: RegionSettings
) -> tuple[SelectedEvents, dict[str, tuple[int, float, float]]]:
    """The events of a region and its cutflow.

    Args:
        record: from `schema.event_record`.
        weight: of every event of the record, shape (n_events,).
        region: the cuts.

    Returns:
        The selected events; cut name -> (events, sum of weights, sum of squared weights), from "all" on.
    """
    cutflow = {"all": tally(weight)}
    events = select_events(record, n_leptons=region.n_leptons, leptons=region.leptons, jets=region.jets)
    cutflow[f"{region.n_leptons} good leptons"] = tally(weight[events.index])
    for name, keeps in _cuts(region):
        events = events.where(keeps(events))
        cutflow[name] = tally(weight[events.index])
    return events, cutflow


def flavour_combination(events: SelectedEvents) -> NDArray[np.int8]:
    """Flavour combination as `constants.FLAVOUR_COMBINATION` numbers it, shape (n,); -1 where it has no number."""
    n_leptons = events.lepton["flavour"].shape[1]
    electrons = np.sum(events.lepton["flavour"] == 11, axis=1)
    number_of = np.array([FLAVOUR_COMBINATION.get((e, n_leptons - e), -1) for e in range(n_leptons + 1)])
    return np.asarray(number_of[electrons], dtype=np.int8)
