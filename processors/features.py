"""The report's feature table: Table I of the report, 33 columns for two leptons, 44 for three.

Units are GeV, radians and mm. An absent object gives 0, never a mean.
"""

import numpy as np
from numpy.typing import NDArray

from processors.constants import B_TAG_WORKING_POINTS
from processors.kinematics import cos_theta_star, invariant_mass, stransverse_mass
from processors.objects import SelectedEvents

__all__ = ["REDUCED", "baseline_names", "feature_table", "kinematic_names", "table_names"]

_EVENT_FEATURES = (
    "njet20",
    "njet60",
    "nbjet60",
    "nbjet70",
    "nbjet77",
    "nbjet85",
    "isOS",
    "isSF",
    "mll",
    "mt2",
    "met_et",
    "met_phi",
    "costhstar",
)

# Column of a lepton -> field of the event record.
_LEPTON_FEATURES = {
    "flav": "flavour",
    "pt": "pt",
    "eta": "eta",
    "phi": "phi",
    "E": "energy",
    "ptcone30": "ptcone30",
    "etcone20": "etcone20",
    "trackd0pvunbiased": "d0",
    "isTightID": "is_tight",
    "z0": "z0",
}

# The report's reduced set (IV.B.2).
REDUCED = (
    "njet60",
    "nbjet85",
    "isOS",
    "isSF",
    "mt2",
    "met_et",
    "lep1_pt",
    "lep1_E",
    "lep1_ptcone30",
    "lep1_etcone20",
    "lep2_pt",
    "lep2_E",
    "costhstar",
)

# Never trained on: data and simulation disagreed in these (report III.B, figures 5 and 6).
_TRACKED_LEPTON_FEATURES = {"tracksigd0pvunbiased": "d0_significance"}


def table_names(n_leptons: int) -> tuple[str, ...]:
    """Columns of the feature table: 33 for two leptons; three leptons add `lep3_*` and `mlll`."""
    leptons = tuple(f"lep{i}_{name}" for i in range(1, n_leptons + 1) for name in _LEPTON_FEATURES)
    return _EVENT_FEATURES + leptons + (("mlll",) if n_leptons == 3 else ())


def baseline_names(n_leptons: int) -> tuple[str, ...]:
    """Single variables that every model is compared with."""
    return ("met_et", "mll", *(("mlll",) if n_leptons == 3 else ()), "mt2", "ht", "st", "meff", "lep1_pt")


def kinematic_names(n_leptons: int) -> tuple[str, ...]:
    """How hard an event is, one column for each way: jets, leptons, their mass, what is not seen, how many jets.

    None is a sum of others, so that none counts twice; [GeV] but for the number of jets.
    """
    mass = "mlll" if n_leptons == 3 else "mll"
    return ("ht", "lep1_pt", mass, "met_et", "mt2", "njet20")


def feature_table(events: SelectedEvents) -> dict[str, NDArray[np.float32]]:
    """Feature table, baseline variables and tracked variables of the selected events.

    Args:
        events: n events with L good leptons.

    Returns:
        Column name -> shape (n,) float32, all finite: `table_names(L)`; `ht`, `st`, `meff` [GeV], the scalar sums
        of jet pT, jet and lepton pT, and these and the missing transverse momentum; `lepN_tracksigd0pvunbiased`.
    """
    lepton, jets = events.lepton, events.jets
    n_leptons = lepton["pt"].shape[1]
    columns: dict[str, NDArray[np.generic]] = {
        "njet20": jets.counts(jets["pt"] > 20),
        "njet60": jets.counts(jets["pt"] > 60),
    }
    for passed, point in enumerate(B_TAG_WORKING_POINTS, start=1):
        columns[f"nbjet{point}"] = jets.counts((jets["pt"] > 20) & (jets["btag"] >= passed))
    if n_leptons > 1:
        columns |= {
            "isOS": lepton["charge"][:, 0] * lepton["charge"][:, 1] < 0,
            "isSF": lepton["flavour"][:, 0] == lepton["flavour"][:, 1],
            "mll": invariant_mass(lepton, (0, 1)),
            "mt2": stransverse_mass(lepton, events.met_pt, events.met_phi),
            "costhstar": cos_theta_star(lepton),
        }
    columns |= {"met_et": events.met_pt, "met_phi": events.met_phi}
    for i in range(n_leptons):
        for name, field in (_LEPTON_FEATURES | _TRACKED_LEPTON_FEATURES).items():
            columns[f"lep{i + 1}_{name}"] = lepton[field][:, i]
    if n_leptons == 3:
        columns["mlll"] = invariant_mass(lepton, (0, 1, 2))
    ht = jets.sums(jets["pt"])
    st = ht + lepton["pt"].sum(axis=1, dtype=np.float64)
    columns |= {"ht": ht, "st": st, "meff": st + events.met_pt}
    finite = {
        name: np.nan_to_num(column.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        for name, column in columns.items()
    }
    absent = np.zeros(len(events), dtype=np.float32)
    return {name: finite.get(name, absent) for name in dict.fromkeys((*table_names(n_leptons), *finite))}
