"""Does simulation look like data: lepton, jet and event quantities, b-tag efficiencies and the Z peak.

Histograms of simulated Z and top-quark pair events of the 2020 release or in its form, filled chunk by chunk; what they
say is the business of `criteria`. Only the 2020 release tells of each lepton whether it is prompt and of each jet which
flavour it has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import awkward as ak
import hist
import numpy as np
from coffea.nanoevents.schemas.base import zip_forms
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from fileset.exceptions import FailureError, InputError
from processors.constants import B_TAG_WORKING_POINTS
from processors.execution import run_chunks, work_items
from processors.histograms import Variable
from processors.kinematics import invariant_mass
from processors.objects import JET_FIELDS, LEPTON_FIELDS, Ragged, good_jets, good_leptons, select_events
from processors.schema import OpenDataSchema, event_record
from processors.settings import JetSettings, LeptonSettings, RegionSettings, WeightSettings
from processors.weights import event_weights
from processors.workers import Workers

__all__ = [
    "FLAVOURS",
    "GROUPS",
    "OBJECTS",
    "TruthSchema",
    "ValidationProcessor",
    "simulation_of",
    "validation_histograms",
]

Floats = NDArray[np.float64]
Histograms = dict[str, hist.Hist]

GROUPS = ("Zjets", "ttbar")
"""Groups of processes that are looked at."""

FLAVOURS = {"b": 5, "c": 4, "light": 0}
"""True flavour of a jet -> value of `jet_trueflav`."""

# --- what is histogrammed: fine bins, which figures draw four by four ------------------------------------------------

_ETA = Variable(56, 0, 2.8, r"$|\eta|$")
_FLAGS = {
    "isolated": Variable(2, -0.5, 1.5, "isolated (both ratios below 0.15)"),
    "tight": Variable(2, -0.5, 1.5, "tight identification"),
}
_PROMPT_LEPTON = {
    "pt": Variable(80, 0, 160, r"$p_T$ [GeV]"),
    "eta": _ETA,
    "ptcone": Variable(80, 0, 0.4, r"$p_T^{cone30} / p_T$"),
    "etcone": Variable(80, -0.2, 0.4, r"$E_T^{cone20} / p_T$"),
    "d0_significance": Variable(80, 0, 8, r"$|d_0| / \sigma$"),
    "z0_sin_theta": Variable(80, 0, 0.4, r"$|z_0 \sin\theta|$ [mm]"),
    **_FLAGS,
}
_OTHER_LEPTON = {
    **_PROMPT_LEPTON,
    "pt": Variable(80, 0, 60, r"$p_T$ [GeV]"),
    "ptcone": Variable(80, 0, 3, r"$p_T^{cone30} / p_T$"),
    "etcone": Variable(80, -0.5, 2.5, r"$E_T^{cone20} / p_T$"),
    "d0_significance": Variable(80, 0, 20, r"$|d_0| / \sigma$"),
    "from_vertex": Variable(2, -0.5, 1.5, r"from the vertex, $|z_0 \sin\theta| < 0.5$ mm"),
}
_JET = {
    "jet_pt": Variable(80, 20, 180, r"jet $p_T$ [GeV]"),
    "jet_eta": Variable(56, 0, 2.8, r"jet $|\eta|$"),
    "jet_mass": Variable(80, 0, 32, "jet mass [GeV]"),
    "jet_jvt": Variable(80, -0.1, 1.1, "jet JVT"),
}
_EVENT = {"n_jets": Variable(10, -0.5, 9.5, r"number of jets, $p_T > 20$ GeV"), **_JET}


@dataclass(frozen=True)
class Objects:
    """A kind of objects that is looked at.

    Attributes:
        title: in words; mathtext allowed.
        group: of the processes whose events are taken; of Z events only Z -> ee (mumu), see `ValidationProcessor`.
        quantities: what is histogrammed of them.
        flavour: of leptons, 11 or 13; 0 for jets and events.
        prompt: leptons of the W and Z, or all others. In Z events of the release most others come from other
            collisions, some from the same few that were overlaid again and again: but for their z0, others are taken
            where |z0 sin(theta)| < 0.5 mm, as the three-lepton region does.
    """

    title: str
    group: str
    quantities: Mapping[str, Variable]
    flavour: int = 0
    prompt: bool = True


OBJECTS: Mapping[str, Objects] = {
    "Z_electrons": Objects(r"Prompt electrons of $Z \to ee$", "Zjets", _PROMPT_LEPTON, 11),
    "ttbar_electrons": Objects(r"Prompt electrons of $t\bar{t}$", "ttbar", _PROMPT_LEPTON, 11),
    "ttbar_muons": Objects(r"Prompt muons of $t\bar{t}$", "ttbar", _PROMPT_LEPTON, 13),
    "Z_other_electrons": Objects(r"Other electrons in $Z \to ee$", "Zjets", _OTHER_LEPTON, 11, prompt=False),
    "Z_other_muons": Objects(r"Other muons in $Z \to ee$", "Zjets", _OTHER_LEPTON, 13, prompt=False),
    "ttbar_other_electrons": Objects(
        r"Other electrons in $t\bar{t}$", "ttbar", _OTHER_LEPTON, 11, prompt=False
    ),
    "ttbar_other_muons": Objects(r"Other muons in $t\bar{t}$", "ttbar", _OTHER_LEPTON, 13, prompt=False),
    "Z_events": Objects(
        r"Jets and missing momentum of $Z \to ee$",
        "Zjets",
        {**_EVENT, "met": Variable(80, 0, 160, r"$E_T^{miss}$ [GeV]")},
    ),
    "ttbar_events": Objects(
        r"Jets and missing momentum of $t\bar{t}$",
        "ttbar",
        {**_EVENT, "met": Variable(80, 0, 240, r"$E_T^{miss}$ [GeV]")},
    ),
}

_MASS = Variable(100, 66, 116, r"$m_{\ell\ell}$ [GeV]")
_JET_PT_EDGES = (20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 250.0)
_FULL_EFFICIENCY_LEPTONS = {"ee": 11, "mumu": 13}


# |z0 sin(theta)| of leptons from the primary vertex [mm]: the cut of the region 3L.
_FROM_VERTEX = 0.5


class TruthSchema(OpenDataSchema):
    """The schema of the analysis, with which lepton is prompt and which flavour a jet has (2020 release).

    Raises:
        ValueError: the branches of the truth are missing.
    """

    def __init__(self, base_form: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        branches = dict(zip(base_form["fields"], base_form["contents"], strict=True))
        super().__init__(base_form, *args, **kwargs)
        for name, field, branch in (
            ("true_lepton", "prompt", "lep_truthMatched"),
            ("true_jet", "flavour", "jet_trueflav"),
        ):
            if branch not in branches:
                message = f"the branch {branch} is missing: only files of the 2020 release can be validated"
                raise ValueError(message)
            self._form["fields"].append(name)
            self._form["contents"].append(zip_forms({field: branches[branch]}, name))


def simulation_of(fileset: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The simulated Z and top-quark pair samples of a fileset.

    Args:
        fileset: dataset -> files and metadata.
        name: what the user calls it.

    Raises:
        InputError: there are none, or they are of another release than 2020.
    """
    chosen = {
        dataset: content
        for dataset, content in fileset.items()
        if content["metadata"]["kind"] == "background" and content["metadata"]["group"] in GROUPS
    }
    if not chosen:
        message = (
            f"{name} has no simulated Z or top-quark pair events (groups {' and '.join(GROUPS)}) to validate"
        )
        raise InputError(message)
    for dataset, content in chosen.items():
        if content["metadata"]["release"] != "2020":
            message = f"dataset {dataset} of {name} is not of the 2020 release: only there truth is stored"
            raise InputError(message)
    return chosen


# --- filling ---------------------------------------------------------------------------------------------------------


def _histogram(variable: Variable, name: str) -> hist.Hist:
    axis = hist.axis.Regular(variable.bins, variable.low, variable.high, name=name, label=variable.label)
    return hist.Hist(axis, storage=hist.storage.Weight())


def _b_tag_histogram() -> hist.Hist:
    return hist.Hist(
        hist.axis.Variable(_JET_PT_EDGES, name="pt", label=r"jet $p_T$ [GeV]"),
        hist.axis.Integer(
            0, len(B_TAG_WORKING_POINTS) + 1, name="passed", label="working points passed", flow=False
        ),
        storage=hist.storage.Int64(),
    )


def _owner(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the event of each object, shape (n_objects,)."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _lepton_values(leptons: Ragged) -> dict[str, NDArray[Any]]:
    """Every quantity of leptons, each shape (n_leptons,)."""
    pt = leptons["pt"]
    z0_sin_theta = np.abs(leptons["z0"]) / np.cosh(leptons["eta"])
    return {
        "pt": pt,
        "eta": np.abs(leptons["eta"]),
        "ptcone": leptons["ptcone30"] / pt,
        "etcone": leptons["etcone20"] / pt,
        "d0_significance": leptons["d0_significance"],
        "z0_sin_theta": z0_sin_theta,
        "from_vertex": (z0_sin_theta < _FROM_VERTEX).astype(np.int8),
        "isolated": good_leptons(leptons, LeptonSettings()).astype(np.int8),
        "tight": leptons["is_tight"].astype(np.int8),
    }


class ValidationProcessor(ProcessorABC):
    """Fills the histograms of a chunk, called `<skim>/<objects>/<quantity>`.

    Beside `OBJECTS` there are `<skim>/mll/<selection>` and `<skim>/btag/<flavour>`.
    Objects of Z events are taken where two prompt electrons are, so that Z -> ee of any sample are compared with
    Z -> ee. m_ll is histogrammed of pairs that are selected as in an analysis (`ee`, `mumu`: two good leptons of
    opposite charge) and of pairs of prompt electrons (`prompt_ee`) whatever else is in the event.

    Args:
        region: the cuts of the two-lepton region, of which good leptons and jets are taken.
    """

    def __init__(self, region: RegionSettings) -> None:
        self.region = region

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Histograms by name."""
        metadata = events.metadata
        record = event_record(events)
        weight = event_weights(record, metadata, WeightSettings()).weight()
        # The record is by falling pT: bring the truth into the same order.
        order = ak.argsort(events.lepton.pt, axis=1, ascending=False, stable=True)
        prompt = np.asarray(ak.flatten(events.true_lepton.prompt[order])).astype(bool)
        order = ak.argsort(events.jet.pt, axis=1, ascending=False, stable=True)
        jvt = np.asarray(ak.flatten(events.jet.jvt[order]))
        flavour = np.asarray(ak.flatten(events.true_jet.flavour[order]))

        leptons, jets = Ragged.of(record.lepton, LEPTON_FIELDS), Ragged.of(record.jet, JET_FIELDS)
        electron = leptons["flavour"] == 11
        of_kind = np.ones(len(record), dtype=bool)
        filled: Histograms = {}
        if metadata["group"] == "Zjets":
            of_kind = leptons.counts(prompt & electron) == 2
            filled = _masses(record, leptons, prompt & electron, weight, self.region)
        for key, objects in OBJECTS.items():
            if objects.group == metadata["group"] and objects.flavour:
                mask = (electron if objects.flavour == 11 else ~electron) & (prompt == objects.prompt)
                mask &= of_kind[_owner(leptons.offsets)]
                filled |= _of_leptons(key, objects, leptons, mask, weight)
            elif objects.group == metadata["group"]:
                met = np.asarray(record.met.pt)
                filled |= _of_events(key, objects, jets, jvt, met, of_kind, weight)
        if metadata["group"] == "ttbar":
            passing = good_jets(jets, JetSettings())
            for name, value in FLAVOURS.items():
                mask = passing & (flavour == value)
                filled[f"btag/{name}"] = _b_tag_histogram().fill(jets["pt"][mask], jets["btag"][mask])
        return {f"{metadata['skim']}/{name}": histogram for name, histogram in filled.items()}

    def postprocess(self, accumulator: Any) -> Any:
        """Nothing is left to do."""
        return accumulator


def _masses(
    record: ak.Array,
    leptons: Ragged,
    prompt_electron: NDArray[np.bool_],
    weight: Floats,
    region: RegionSettings,
) -> Histograms:
    filled = {f"mll/{name}": _histogram(_MASS, "mll") for name in ("ee", "mumu", "prompt_ee")}
    selected = select_events(record, n_leptons=2, leptons=region.leptons, jets=region.jets)
    charge, flavour = selected.lepton["charge"], selected.lepton["flavour"]
    mass = invariant_mass(selected.lepton, (0, 1))
    opposite = charge[:, 0] == -charge[:, 1]
    for name, kind in _FULL_EFFICIENCY_LEPTONS.items():
        mask = opposite & (flavour == kind).all(axis=1)
        filled[f"mll/{name}"].fill(mass[mask], weight=weight[selected.index][mask])
    index = np.flatnonzero(leptons.counts(prompt_electron) == 2)
    pairs = leptons.where(prompt_electron, index)
    pair = {name: column.reshape(-1, 2) for name, column in pairs.columns.items()}
    opposite = pair["charge"][:, 0] == -pair["charge"][:, 1]
    filled["mll/prompt_ee"].fill(invariant_mass(pair, (0, 1))[opposite], weight=weight[index][opposite])
    return filled


def _of_leptons(
    key: str, objects: Objects, leptons: Ragged, mask: NDArray[np.bool_], weight: Floats
) -> Histograms:
    values, weights = _lepton_values(leptons), weight[_owner(leptons.offsets)]
    from_vertex = mask if objects.prompt else mask & values["from_vertex"].astype(bool)
    filled = {}
    for name, variable in objects.quantities.items():
        chosen = mask if name in {"z0_sin_theta", "from_vertex"} else from_vertex
        filled[f"{key}/{name}"] = _histogram(variable, name).fill(
            values[name][chosen], weight=weights[chosen]
        )
    return filled


def _of_events(
    key: str,
    objects: Objects,
    jets: Ragged,
    jvt: NDArray[Any],
    met: NDArray[Any],
    of_kind: NDArray[np.bool_],
    weight: Floats,
) -> Histograms:
    """Quantities of events, and of their jets: of all above 20 GeV the JVT, of those that pass it the others."""
    passing = good_jets(jets, JetSettings())
    owner = _owner(jets.offsets)
    good = passing & of_kind[owner]
    hard = (jets["pt"] > JetSettings().pt_min) & of_kind[owner]
    columns = {
        "n_jets": (jets.counts(passing)[of_kind], weight[of_kind]),
        "met": (met[of_kind], weight[of_kind]),
        "jet_pt": (jets["pt"][good], weight[owner[good]]),
        "jet_eta": (np.abs(jets["eta"][good]), weight[owner[good]]),
        "jet_mass": (jets["mass"][good], weight[owner[good]]),
        "jet_jvt": (jvt[hard], weight[owner[hard]]),
    }
    return {
        f"{key}/{name}": _histogram(variable, name).fill(columns[name][0], weight=columns[name][1])
        for name, variable in objects.quantities.items()
    }


def validation_histograms(fileset: Mapping[str, Any], region: RegionSettings, workers: Workers) -> Histograms:
    """Histograms of all chunks of a fileset, see `ValidationProcessor`.

    Args:
        fileset: checked, from `simulation_of`, with steps: each becomes a chunk.
        region: the two-lepton region.
        workers: who do the work.

    Raises:
        FailureError: a chunk could not be read.
    """
    output, missing = run_chunks(
        work_items(fileset),
        ValidationProcessor(region),
        workers.executor("validating"),
        schema=TruthSchema,
        timeout=workers.settings.timeout,
    )
    if missing:
        first = missing[0]
        message = (
            f"{first.file}, entries {first.start}-{first.stop} could not be validated ({first.cause}): repair "
            "the file, or take another fileset"
        )
        raise FailureError(message)
    return dict(sorted((output or {}).items()))
