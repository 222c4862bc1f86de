"""The report's feature table: Table I of the report, 33 columns for two leptons, 44 for three.

Units are GeV, radians and mm. An absent object gives 0, never a mean.
"""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import InputError
from processors.constants import B_TAG_WORKING_POINTS
from processors.kinematics import cos_theta_star, invariant_mass, stransverse_mass
from processors.objects import SelectedEvents
from processors.own_functions import OWN_ERRORS, own_function
from processors.settings import ColumnSettings, RegionSettings

__all__ = [
    "REDUCED",
    "baseline_names",
    "feature_sets",
    "feature_table",
    "is_own",
    "kinematic_names",
    "made_names",
    "table_names",
]

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


# Columns of a shard that are no features, and how the names of others begin.
_BOOKS = ("channelNumber", "runNumber", "eventNumber", "flcomp", "split", "dataset")
_RESERVED = re.compile(r"lep\d_|weight|score|met$|(mt|hl|d?et)_(j|b|e|mu|g)\d|[mh]_(j|b|e|mu|g)\d+_")


def feature_sets(region: RegionSettings) -> dict[str, list[str]]:
    """What models may take of the table: name of the set -> its columns, those of the user's own at the end."""
    sets = {
        "table": table_names(region.n_leptons),
        "reduced": REDUCED,
        "kinematics": kinematic_names(region.n_leptons),
    }
    return {
        name: [*columns, *(own for own, column in region.columns.items() if name in column.sets)]
        for name, columns in sets.items()
    }


def is_own(column: str) -> bool:
    """Whether a column of shards or a variable of histograms is one of the user's own."""
    return not _RESERVED.match(column) and column not in {*_BOOKS, *table_names(3), *baseline_names(3)}


def made_names(region: RegionSettings) -> tuple[str, ...]:
    """Every column that is made without the matrix and may be asked for.

    Raises:
        InputError: a column of the user's own has the name of another, or its function cannot be imported.
    """
    made = (*table_names(region.n_leptons), *baseline_names(region.n_leptons))
    for name, column in region.columns.items():
        if name in {*made, *_BOOKS} or _RESERVED.match(name) or not name.isidentifier():
            message = f"a column cannot have the name {name!r}: take letters, digits and _ that name no other column"
            raise InputError(message)
        own_function(column.function)
    return (*made, *region.columns)


def feature_table(
    events: SelectedEvents, own: Mapping[str, ColumnSettings] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Feature table, baseline variables and tracked variables of the selected events.

    Args:
        events: n events with L good leptons.
        own: further columns, see `ColumnSettings`.

    Returns:
        Column name -> shape (n,) float32, all finite: `table_names(L)`; `ht`, `st`, `meff` [GeV], the scalar sums
        of jet pT, jet and lepton pT, and these and the missing transverse momentum; `lepN_tracksigd0pvunbiased`;
        and those of the user's own.

    Raises:
        InputError: a function of the user's own does not give one number for each event.
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
    columns |= {name: _own_column(events, column.function) for name, column in (own or {}).items()}
    finite = {
        name: np.nan_to_num(column.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        for name, column in columns.items()
    }
    absent = np.zeros(len(events), dtype=np.float32)
    return {name: finite.get(name, absent) for name in dict.fromkeys((*table_names(n_leptons), *finite))}


def _own_column(events: SelectedEvents, function: str) -> NDArray[np.generic]:
    made = own_function(function)
    try:
        values = np.asarray(made(events))
    except OWN_ERRORS as error:
        message = f"{function} fails ({type(error).__name__}: {error}): mend it"
        raise InputError(message) from error
    if values.shape != (len(events),) or values.dtype.kind not in "biuf":
        message = (
            f"{function} gives {values.dtype} of shape {values.shape} for {len(events)} events: it must give one "
            "number for each"
        )
        raise InputError(message)
    return values
