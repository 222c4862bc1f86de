"""The settings of the fileset stage, and the strict model that all settings of the analysis derive from."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fileset.catalog import expand_dsids

__all__ = ["FilesetSettings", "Settings"]


class Settings(BaseModel):
    """A group of settings: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _numbers(value: Any) -> Any:
    """Dataset numbers from numbers and ranges: `[363490, "364100-364141"]`."""
    if isinstance(value, str | int):
        value = [value]
    if not isinstance(value, Iterable):
        return value
    return tuple(sorted({dsid for part in value for dsid in expand_dsids(part)}))


DatasetNumbers = Annotated[
    tuple[int, ...], BeforeValidator(_numbers, json_schema_input_type=list[int | str] | int | str)
]


class FilesetSettings(Settings):
    """Which events are analysed."""

    fileset: str = Field(
        default="demo",
        description="a catalogue (demo, atlas-2020, atlas-2025), a directory in the release's layout, "
        "a coffea fileset (.json), a list of files (.txt), or atlasopenmagic:RELEASE",
    )
    skim: str | None = Field(
        default=None, description="the skim to read; by default the one that belongs to each region"
    )
    local: Path | None = Field(
        default=None, description="directory in the release's layout that is searched before remote files"
    )
    protocol: Literal["root", "https"] = Field(default="root", description="protocol of remote files")
    groups: tuple[str, ...] = Field(
        default=(), description="process groups to keep (`data` is one of them); empty keeps all"
    )
    dsids: DatasetNumbers = Field(
        default=(), description="dataset numbers or ranges to keep (0: data); empty keeps all"
    )
    exclude: DatasetNumbers = Field(
        default=(), description="dataset numbers or ranges to leave out (0: data)"
    )
    checksums: bool = Field(
        default=False,
        description="compare the checksums of local files with the catalogue's; reads every byte",
    )
    lumi_pb: float | None = Field(
        default=None, gt=0, description="integrated luminosity [1/pb]; by default that of the data present"
    )
