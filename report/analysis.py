"""The configuration of a whole analysis: what a person may set, room by room.

It stands in the last room because only from here every other can be seen; nothing heavy is imported.
"""

import re
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from pydantic import Field, field_validator

from fileset.exceptions import InputError
from fileset.settings import FilesetSettings, Settings
from fileset.simulation.settings import SimulationSettings
from fileset.suggestion import did_you_mean
from models.presets import PRESET_FEATURES, FeatureSet
from models.settings import (
    AlarmSettings,
    BaselineSettings,
    EvaluationSettings,
    ExplanationSettings,
    RobustnessSettings,
    SculptingSettings,
    SearchSettings,
    SignificanceSettings,
    TrainingSettings,
)
from processors.settings import (
    REGIONS,
    ColumnSettings,
    ComparisonSettings,
    ExecutionSettings,
    RegionSettings,
    RMMSettings,
    ScoringSettings,
    WeightSettings,
)
from report.settings import ReportSettings

__all__ = ["Analysis", "StudyName"]

StudyName: TypeAlias = Literal["significance", "alarms", "sculpting", "explanation"]


class Analysis(Settings):
    """The configuration of a whole analysis."""

    output: Path = Field(default=Path("output"), description="directory that everything is written to")
    regions: tuple[str, ...] = Field(default=("2L", "3L"), min_length=1, description="regions to analyse")
    features: FeatureSet | None = Field(
        default=None,
        description="what the model sees: table, reduced, kinematics, rmm or rmm-energies; null is what the preset was "
        "made for",
    )
    model: str | None = Field(
        default=None, description="name of the model that is trained and scores; null is <preset>-<features>"
    )
    reference: Path | None = Field(
        default=None,
        description="directory with simulated files of the release that `validate` compares with",
    )
    seed: int = Field(
        default=1, description="of the split into training, validation and test, and of training"
    )
    strict: bool = Field(default=False, description="warnings of the audit are fatal")
    allow_missing: bool = Field(
        default=False, description="scale incomplete simulated samples up instead of refusing them"
    )
    fileset: FilesetSettings = Field(default=FilesetSettings(), description="which events")
    define: dict[str, RegionSettings] = Field(
        default_factory=dict,
        description="further regions by name, or other cuts for 2L and 3L; `like` one of these, with any of "
        + ", ".join(name for name in RegionSettings.model_fields if name != "like"),
    )
    columns: dict[str, ColumnSettings] = Field(
        default_factory=dict, description="further columns of the feature table by name, in every region"
    )
    weights: WeightSettings = Field(default=WeightSettings(), description="weights of simulated events")
    rmm: RMMSettings = Field(default=RMMSettings(), description="the rapidity-mass matrix in the shards")
    execution: ExecutionSettings = Field(default=ExecutionSettings(), description="where the work is done")
    simulation: SimulationSettings = Field(
        default=SimulationSettings(), description="the sample that `simulate` makes"
    )
    comparison: ComparisonSettings = Field(
        default=ComparisonSettings(), description="which inputs must agree with data to be trained on"
    )
    training: TrainingSettings = Field(
        default_factory=TrainingSettings, description="the network and its training"
    )
    baselines: BaselineSettings = Field(
        default=BaselineSettings(), description="scores without a network that every model is compared with"
    )
    search: SearchSettings = Field(
        default=SearchSettings(), description="how `tune` searches for better settings"
    )
    scoring: ScoringSettings = Field(default=ScoringSettings(), description="the scores of events")
    evaluation: EvaluationSettings = Field(
        default=EvaluationSettings(), description="power for each signal, and its errors"
    )
    studies: tuple[StudyName, ...] = Field(
        default=get_args(StudyName), description="what `evaluate` works out beside the power for each signal"
    )
    significance: SignificanceSettings = Field(
        default=SignificanceSettings(), description="what expected significances and limits assume"
    )
    alarms: AlarmSettings = Field(default=AlarmSettings(), description="how false alarms are counted")
    sculpting: SculptingSettings = Field(
        default=SculptingSettings(), description="what a cut does to the masses of background"
    )
    explanation: ExplanationSettings = Field(
        default=ExplanationSettings(), description="what makes events anomalous"
    )
    robustness: RobustnessSettings = Field(
        default=RobustnessSettings(), description="what the score notices; the verb `robustness` tests it"
    )
    report: ReportSettings = Field(default=ReportSettings(), description="the page")

    @field_validator("define", mode="before")
    @classmethod
    def _like_another(cls, given: Any) -> Any:
        """Regions with the settings of those that they are like."""
        if not isinstance(given, dict):
            return given
        known = {name: region.model_dump(exclude={"like"}) for name, region in REGIONS.items()}
        for name, own in given.items():
            like = own.get("like") if isinstance(own, dict) else None
            if like is not None and like not in known:
                message = f"{name} is like {like}, which is none of {', '.join(known)}: define that first"
                raise ValueError(message)
            known[name] = _merged(known[like], own) if like is not None else own
        return {name: known[name] for name in given}

    @field_validator("regions")
    @classmethod
    def _distinct_names_of_directories(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(regions)) < len(regions):
            message = f"a region is named twice in {', '.join(regions)}"
            raise ValueError(message)
        for name in regions:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+.-]*", name):
                message = f"{name!r} names a directory too: letters, digits, -, _, + and . are allowed"
                raise ValueError(message)
        return regions

    @property
    def feature_set(self) -> FeatureSet:
        """What the model sees."""
        return self.features or PRESET_FEATURES[self.training.preset]

    @property
    def model_name(self) -> str:
        """Name of the model that is trained and scores."""
        return self.model or f"{self.training.preset}-{self.feature_set}"

    def region(self, name: str) -> RegionSettings:
        """The cuts of a region.

        Raises:
            InputError: there is no region of this name.
        """
        known = {**REGIONS, **self.define}
        if name not in known:
            hint = did_you_mean(name, known, otherwise="define it in the configuration under `define`")
            message = f"region {name!r} is none of {', '.join(known)}: {hint}"
            raise InputError(message)
        columns = {**self.columns, **known[name].columns}
        return known[name].model_copy(update={"columns": columns}) if columns else known[name]

    @property
    def own_functions(self) -> tuple[str, ...]:
        """Functions of the user's own modules, "module:function" each."""
        columns = [column for name in self.regions for column in self.region(name).columns.values()]
        builder = [self.training.builder] if self.training.builder else []
        return tuple(sorted({*(column.function for column in columns), *builder}))


def _merged(settings: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Settings with others in their place where there are any, at every depth."""
    return settings | {
        key: _merged(settings[key], value)
        if isinstance(value, dict) and isinstance(settings.get(key), dict)
        else value
        for key, value in own.items()
    }
