"""The settings of the simulation stage."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from fileset.settings import Settings
from fileset.simulation.samples import SAMPLES, SampleName
from fileset.suggestion import did_you_mean

__all__ = ["SKIMS", "SimulationSettings", "Skim"]

Skim = Literal["2lep", "3lep"]
SKIMS: tuple[Skim, ...] = ("2lep", "3lep")


class SimulationSettings(Settings):
    """Which events are simulated, and how many."""

    sample: SampleName = Field(
        default="demo",
        description="which sample: the shipped one, or one for studies of tails, with sliced backgrounds",
    )
    processes: tuple[str, ...] = Field(
        default=(), description="names of the processes to simulate; empty simulates all of the sample"
    )
    skims: tuple[Skim, ...] = Field(default=SKIMS, min_length=1, description="skims to write")
    scale: float = Field(
        default=1.0, gt=0, description="factor on the number of generated events of each process"
    )
    events: int | None = Field(
        default=None, gt=0, description="generated events of every process and skim, instead of the table's"
    )
    seed: int = Field(default=20200819, ge=0, description="seed of everything that is random")
    block_size: int = Field(
        default=5000, ge=50, description="events of a unit of work; part of what a seed reproduces"
    )
    pseudo_data: bool = Field(
        default=True, description="also draw collision pseudo-data from an independent Standard Model sample"
    )
    lumi_pb: dict[Skim, float] = Field(
        default={"2lep": 10.0, "3lep": 100.0}, description="luminosity of the pseudo-data of each skim [1/pb]"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = [process.name for process in SAMPLES[self.sample]]
        for name in self.processes:
            if name not in known:
                hint = did_you_mean(name, known, otherwise=f"known are {', '.join(known)}")
                message = f"unknown process {name!r} in sample {self.sample}: {hint}"
                raise ValueError(message)
        return self

    @field_validator("lumi_pb")
    @classmethod
    def _positive(cls, lumi: dict[Skim, float]) -> dict[Skim, float]:
        for skim in SKIMS:
            if lumi.get(skim, 0.0) <= 0:
                message = f"lumi_pb needs a positive luminosity [1/pb] for skim {skim}"
                raise ValueError(message)
        return lumi
