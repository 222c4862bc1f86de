"""The settings of the stages that compute: objects, regions, weights, matrix, execution.

Nothing heavy is imported here: the command line reads settings before it knows what it will need.
"""

import os
import re
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fileset.settings import Settings

__all__ = [
    "REGIONS",
    "ColumnSettings",
    "ComparisonSettings",
    "Convention",
    "CorrectionSettings",
    "ExecutionSettings",
    "JetSettings",
    "LeptonSettings",
    "RMMSettings",
    "RegionSettings",
    "ScoringSettings",
    "SiteSettings",
    "WeightSettings",
]

Convention = Literal["thesis", "thesis-code", "map2rmm"]


class LeptonSettings(Settings):
    """What makes a lepton good; a cut that is null is not made."""

    relative_etcone20_max: float | None = Field(default=0.15, description="etcone20 / pT below this")
    relative_ptcone30_max: float | None = Field(default=0.15, description="ptcone30 / pT below this")
    electron_abs_eta_max: float | None = Field(default=None, description="|eta| of electrons below this")
    muon_abs_eta_max: float | None = Field(default=None, description="|eta| of muons below this")
    z0_sin_theta_max: float | None = Field(default=None, description="|z0 sin(theta)| [mm] below this")
    electron_d0_significance_max: float | None = Field(
        default=None, description="|d0|/sigma of electrons at most this"
    )
    muon_d0_significance_max: float | None = Field(
        default=None, description="|d0|/sigma of muons at most this"
    )
    electron_tight: bool = Field(default=False, description="electrons pass the tight identification")
    muon_tight: bool = Field(default=False, description="muons pass the tight identification")


class JetSettings(Settings):
    """What makes a jet, a b-jet and a light jet."""

    pt_min: float = Field(default=20.0, ge=0, description="pT [GeV] above this")
    jvt: bool = Field(default=True, description="drop jets that the jet-vertex tagger takes for pile-up")
    b_jet_passes: int = Field(
        default=2, ge=1, le=4, description="a b-jet passes this many b-tag points: 77 %"
    )
    light_jet_passes_less_than: int = Field(
        default=1, ge=1, le=4, description="a light jet passes fewer b-tag points than this: not 85 %"
    )


_FUNCTION = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class ColumnSettings(Settings):
    """A further column of the feature table: what a function of one's own gives for the selected events."""

    function: str = Field(
        json_schema_extra={"pattern": _FUNCTION},
        description='"module:function" of a module beside the configuration file, or of an installed package; it takes '
        "the selected events (`processors.objects.SelectedEvents`) and gives one number for each",
    )
    bins: int = Field(ge=1, description="bins of its histogram")
    low: float = Field(description="where its histogram begins")
    high: float = Field(description="where its histogram ends")
    label: str | None = Field(default=None, description="of its axis, with the unit; null is its name")
    sets: tuple[Literal["table", "reduced", "kinematics"], ...] = Field(
        default=("table",),
        description="feature sets that it joins; without any it is drawn and not trained on",
    )

    @field_validator("function")
    @classmethod
    def _names_a_function(cls, name: str) -> str:
        if not re.match(_FUNCTION, name):
            message = f"{name!r} names no function: write the module, a colon and the function, as in my_columns:mass"
            raise ValueError(message)
        return name

    @model_validator(mode="after")
    def _has_a_width(self) -> Self:
        if self.high <= self.low:
            message = f"a histogram from {self.low:g} to {self.high:g} has no width"
            raise ValueError(message)
        return self


class RegionSettings(Settings):
    """A region; a cut that is null is not made."""

    like: str | None = Field(
        default=None, description="region whose cuts and objects hold where nothing else is said, such as 3L"
    )
    n_leptons: int = Field(ge=1, le=4, description="exactly this many good leptons")
    skims: tuple[str, ...] = Field(description="skims to read, the first that exists")
    leptons: LeptonSettings = Field(default=LeptonSettings(), description="what a good lepton is")
    jets: JetSettings = Field(default=JetSettings(), description="what a jet is")
    lepton_pt_min: tuple[float, ...] | None = Field(
        default=None, description="pT [GeV] of the leading, second, ... lepton above these"
    )
    mll_min: float | None = Field(default=None, description="m_ll [GeV] of the leading leptons above this")
    mll_max: float | None = Field(default=None, description="m_ll [GeV] of the leading leptons below this")
    z_window: float | None = Field(
        default=None,
        gt=0,
        description="an opposite-sign same-flavour pair within so many GeV of the Z's mass",
    )
    z_veto: float | None = Field(
        default=None,
        gt=0,
        description="no opposite-sign same-flavour pair within so many GeV of the Z's mass",
    )
    met_min: float | None = Field(default=None, description="missing transverse momentum [GeV] above this")
    charge: Literal["opposite", "same"] | None = Field(
        default=None, description="relative charge of the two leading leptons"
    )
    n_ossf_pairs: int | None = Field(
        default=None, ge=0, description="exactly this many opposite-sign same-flavour pairs"
    )
    n_b_jets_min: int | None = Field(default=None, ge=0, description="at least this many b-jets")
    n_b_jets_max: int | None = Field(default=None, ge=0, description="at most this many b-jets; 0 is a veto")
    columns: dict[str, ColumnSettings] = Field(
        default_factory=dict, description="further columns of the feature table in this region alone, by name"
    )

    @model_validator(mode="after")
    def _leptons_that_cuts_ask_for(self) -> Self:
        if len(self.lepton_pt_min or ()) > self.n_leptons:
            message = (
                f"lepton_pt_min has {len(self.lepton_pt_min or ())} thresholds for {self.n_leptons} leptons"
            )
            raise ValueError(message)
        for low, high in (("mll_min", "mll_max"), ("n_b_jets_min", "n_b_jets_max"), ("z_veto", "z_window")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                message = f"no event has {low} = {least:g} and {high} = {most:g}"
                raise ValueError(message)
        for cut in ("mll_min", "mll_max", "charge", "z_window", "z_veto"):
            if self.n_leptons < 2 and getattr(self, cut) is not None:
                message = f"{cut} needs two leptons and the region has one"
                raise ValueError(message)
        return self


REGIONS: MappingProxyType[str, RegionSettings] = MappingProxyType(
    {
        "2L": RegionSettings(n_leptons=2, skims=("2lep", "exactly2lep", "2to4lep")),
        "3L": RegionSettings(
            n_leptons=3,
            skims=("3lep", "exactly3lep"),
            leptons=LeptonSettings(
                electron_abs_eta_max=2.47,
                muon_abs_eta_max=2.7,
                z0_sin_theta_max=0.5,
                electron_d0_significance_max=5.0,
                muon_d0_significance_max=3.0,
                electron_tight=True,
            ),
        ),
    }
)


class CorrectionSettings(Settings):
    """A further factor on the weight of selected simulated events, from a correctionlib JSON file."""

    file: Path = Field(description="correctionlib file, .json or .json.gz")
    correction: str = Field(description="name of the correction in the file")
    inputs: tuple[str | float, ...] = Field(
        description="its inputs in order: a column of the feature table, a number, other text as it stands, or "
        "{systematic}, which is replaced by `nominal`, `up` and `down` below"
    )
    nominal: str = Field(default="nominal", description="what {systematic} is for the nominal factor")
    up: str | None = Field(default=None, description="what it is for the upward variation; null has none")
    down: str | None = Field(default=None, description="what it is for the downward variation; null has none")


class WeightSettings(Settings):
    """Which factors the weight of a simulated event has beside cross section and luminosity."""

    btag_weight: bool = Field(
        default=False, description="multiply the b-tagging scale factor (of the 70 % point) too"
    )
    uncertainties: dict[
        Literal["norm", "generator", "pileup", "electron", "muon", "lepton_trigger", "btag"],
        Annotated[float, Field(gt=0, lt=1)],
    ] = Field(
        default_factory=dict,
        description="relative uncertainty of a factor, which makes its two variations: norm stands for the "
        "luminosity (0.021 in 2015 and 2016 data), the others are generator and scale factors",
    )
    corrections: dict[str, CorrectionSettings] = Field(
        default_factory=dict, description="further factors by name, from correctionlib files"
    )


class RMMSettings(Settings):
    """The rapidity-mass matrix that is written to the shards."""

    write: bool = Field(default=True, description="write the matrix to the shards at all")
    convention: Convention = Field(default="thesis", description="which published convention")
    light_jets: int = Field(default=6, ge=0, description="number of light jets")
    b_jets: int = Field(default=6, ge=0, description="number of b-jets")
    electrons: int = Field(default=5, ge=0, description="number of electrons")
    muons: int = Field(default=5, ge=0, description="number of muons")
    photons: int = Field(default=0, ge=0, description="number of photons")
    removed: Literal["nothing", "atlas-2024"] = Field(
        default="nothing",
        description="cells that models do not see: atlas-2024 takes away the nine invariant masses in which the ATLAS "
        "search of 2024 looked for bumps",
    )


class ComparisonSettings(Settings):
    """Which inputs must agree with data to be trained on; by default all are kept, whatever the comparison says.

    Hundreds of inputs are compared: with `min_p: 0.01` one in a hundred falls although nothing is wrong with it.
    """

    normalise: Literal["shape", "absolute"] = Field(
        default="shape", description="compare shapes (simulation normalised to data) or absolute numbers"
    )
    max_chi2_ndf: float | None = Field(
        default=None, gt=0, description="inputs with a larger chi-square over degrees of freedom are dropped"
    )
    min_p: float | None = Field(
        default=None, gt=0, lt=1, description="inputs with a smaller p-value are dropped"
    )
    max_deviation: float | None = Field(
        default=None, gt=0, description="inputs that deviate by more standard errors in any bin are dropped"
    )


class ScoringSettings(Settings):
    """How events are scored."""

    bundle: Path | None = Field(
        default=None,
        description="model from elsewhere that scores the events of the files directly, without shards; null scores "
        "the shards with the model that `train` wrote",
    )
    friends: bool = Field(
        default=True,
        description="write ROOT trees of scores too, friends of the input by run and event number",
    )


class SiteSettings(Settings):
    """A place where Dask workers run; what is null is left to its preset, to Dask's configuration or to the place.

    Secrets have no place here: passwords, tokens and certificates stay in Dask's own configuration.
    """

    like: str | None = Field(default=None, description="site whose settings hold where nothing else is said")
    kind: Literal["local", "scheduler", "gateway", "slurm", "htcondor"] | None = Field(
        default=None, description="how workers are got: started here, found at a scheduler, asked for as jobs"
    )
    about: str | None = Field(default=None, description="what a person should know of it")
    cores: int | None = Field(
        default=None, ge=1, description="cores of a job, each for a worker with one thread"
    )
    memory: str | None = Field(default=None, description="memory of a job, such as 3GB")
    disk: str | None = Field(default=None, description="scratch space of a job, such as 10GB")
    walltime: str | None = Field(
        default=None, pattern=r"^(\d+-)?\d{1,3}:\d{2}:\d{2}$", description="time of a job, hh:mm:ss"
    )
    image: str | None = Field(default=None, description="container image that workers run in")
    queue: str | None = Field(default=None, description="queue or partition")
    account: str | None = Field(default=None, description="account or accounting group that is charged")
    minimum: int | None = Field(
        default=None, ge=1, description="workers kept at least; none at all would never come back"
    )
    maximum: int | None = Field(default=None, ge=1, description="workers asked for at most")
    wait: int | None = Field(default=None, ge=1, description="seconds that the first worker is waited for")
    address: str | None = Field(
        default=None, description="of the Dask scheduler or of the dask-gateway server"
    )
    cluster: str | None = Field(
        default=None, description="name of a running cluster of the gateway to join, instead of a new one"
    )
    options: dict[str, str | int | float | bool] | None = Field(
        default=None, description="further options of a new cluster that the gateway offers"
    )
    interface: str | None = Field(
        default=None, description="network interface that scheduler and workers use"
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="port of the scheduler")
    worker_ports: str | None = Field(
        default=None,
        pattern=r"^\d+(:\d+)?$",
        description="port of workers, or first:last, that a firewall allows",
    )
    directives: dict[str, str] | None = Field(
        default=None, description="further lines of the job's description: option -> value"
    )
    submit: tuple[str, ...] | None = Field(
        default=None, description="further arguments of the command that submits a job"
    )
    prologue: tuple[str, ...] | None = Field(
        default=None,
        description="shell commands before a worker starts, such as those that set an environment up",
    )
    python: str | None = Field(default=None, description="command of the Python that workers run with")
    log_directory: str | None = Field(default=None, description="directory that jobs write what they say to")
    local_directory: str | None = Field(default=None, description="scratch directory of workers")


class ExecutionSettings(Settings):
    """Where and how the work is done; results do not depend on it."""

    executor: Literal["iterative", "futures", "dask"] = Field(
        default="iterative", description="this process, a pool of processes, or a Dask cluster"
    )
    workers: int | None = Field(default=None, ge=1, description="processes; by default one for each core")
    scheduler: str | None = Field(
        default=None, description="address of a running Dask scheduler, tcp://... or tls://..."
    )
    site: str | None = Field(
        default=None,
        description="a place where Dask workers run: local, coffea-casa, gateway, slurm, htcondor, "
        "lxplus, or one of `sites`",
    )
    sites: dict[str, SiteSettings] = Field(
        default_factory=dict, description="further sites by name, or other settings for those that are known"
    )
    site_options: SiteSettings = Field(
        default=SiteSettings(), description="what is different at the site this time"
    )
    backend: Literal["coffea", "dask-awkward"] = Field(
        default="coffea",
        description="what runs the selection: coffea's Runner, or a task graph of dask-awkward; same numbers",
    )
    performance_report: Path | None = Field(
        default=None, description="HTML file that Dask's performance report of the run is written to"
    )
    timeout: int = Field(
        default=60, ge=1, description="seconds that a server of files may take to answer one request"
    )
    chunksize: int = Field(default=100_000, ge=1, description="events in a chunk, about")

    @model_validator(mode="before")
    @classmethod
    def _a_cluster_is_one_of_dask(cls, content: Any) -> Any:
        # `config init` writes `executor: iterative`; who names a site beside it wants the site.
        if not isinstance(content, dict) or not (content.get("site") or content.get("scheduler")):
            return content
        if content.get("executor", "iterative") != "iterative":
            return content
        return {**content, "executor": "dask"}

    @property
    def n_workers(self) -> int:
        """Number of processes."""
        return self.workers or len(os.sched_getaffinity(0))
