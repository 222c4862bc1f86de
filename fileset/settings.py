"""The settings of the fileset stage, and the strict model that all settings of the analysis derive from."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FilesetSettings", "Settings"]


class Settings(BaseModel):
    """A group of settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FilesetSettings(Settings):
    """Which events are analysed."""

    fileset: str = Field(
        default="demo",
        description="a catalogue (demo, atlas-2020, atlas-2025), a directory in the release's layout, "
        "a coffea fileset (.json) or a list of files (.txt)",
    )
    skim: str | None = Field(
        default=None, description="the skim to read; by default the one that belongs to each region"
    )
    local: Path | None = Field(
        default=None, description="directory in the release's layout that is searched before remote files"
    )
    protocol: Literal["root", "https"] = Field(default="root", description="protocol of remote files")
    groups: tuple[str, ...] = Field(default=(), description="process groups to keep; empty keeps all")
    dsids: tuple[int, ...] = Field(default=(), description="dataset numbers to keep; empty keeps all")
    lumi_pb: float | None = Field(
        default=None, gt=0, description="integrated luminosity [1/pb]; by default that of the data present"
    )
