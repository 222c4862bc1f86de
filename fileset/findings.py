"""What the audit can find: every kind of finding, how severe it is and what to do about it.

A fatal finding stops the analysis, a warning stops it under `--strict`, a note explains a difference that is known.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

__all__ = ["KINDS", "Finding", "FindingKind", "Severity"]

Severity = Literal["fatal", "warning", "note"]


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding: its severity, what it means and the remedy."""

    severity: Severity
    meaning: str
    remedy: str


KINDS: Mapping[str, FindingKind] = MappingProxyType(
    {
        "unreadable": FindingKind(
            "fatal",
            "the file cannot be read, or not to its end",
            "fetch it again, or leave its dataset out with exclude",
        ),
        "vanished": FindingKind(
            "fatal",
            "a file that the same output has read before is not there any more",
            "bring it back, leave its dataset out with exclude, or begin another output with --output",
        ),
        "no tree": FindingKind(
            "fatal", "the file has no tree of the release", "fetch it again, or remove it from the fileset"
        ),
        "missing branch": FindingKind(
            "fatal", "branches that the analysis reads are missing", "use a file of the 2020 or 2025 release"
        ),
        "branch type": FindingKind(
            "fatal", "branches have a type that cannot be read as expected", "use a file of the release"
        ),
        "unequal lengths": FindingKind(
            "fatal", "the branches of one collection have different lengths", "fetch the file again"
        ),
        "same file twice": FindingKind("fatal", "one file is read twice", "remove one of the two"),
        "same event twice": FindingKind(
            "fatal",
            "one event (channelNumber, runNumber, eventNumber) occurs twice",
            "remove one of the files",
        ),
        "several samples": FindingKind(
            "fatal",
            "files of one simulated dataset have different cross sections or sums of weights",
            "make a dataset of each sample",
        ),
        "no normalisation": FindingKind(
            "fatal",
            "neither catalogue nor file gives cross section and sum of weights",
            "write a catalog.yaml beside the files, or leave the dataset out with exclude",
        ),
        "checksum": FindingKind(
            "fatal", "the file has the size but not the bytes of the release's", "fetch it again"
        ),
        "left out": FindingKind(
            "warning",
            "a file, or a part of it, cannot be used; its sample is scaled up, as --allow-missing asks",
            "mend the file and run again, then only what is missing is done",
        ),
        "empty file": FindingKind("warning", "the file has no entries", "nothing, if that is expected"),
        "in-file normalisation": FindingKind(
            "warning",
            "cross section and sum of weights come from the file, not from a catalogue",
            "compare them with the release's table",
        ),
        "cross section": FindingKind(
            "warning",
            "the file's cross section is not the catalogue's, which is used",
            "check which of the two belongs to the sample",
        ),
        "sum of weights": FindingKind(
            "warning",
            "the file's sum of weights is not that of the catalog.yaml beside it, which is used",
            "check which of the two belongs to the sample",
        ),
        "unknown sample": FindingKind(
            "warning",
            "no catalogue knows the dataset number; the sample counts as background",
            "write a catalog.yaml beside the files",
        ),
        "channel number": FindingKind(
            "warning",
            "channelNumber in the file is not the dataset number of its name",
            "check the file's name",
        ),
        "size": FindingKind(
            "warning", "the file is not the release's own: its size differs", "fetch the release's file"
        ),
        "entries": FindingKind(
            "warning", "all files of a skim together do not have its entries", "fetch the skim again"
        ),
        "known in file": FindingKind(
            "note",
            "the file's cross section or sum of weights is known to be wrong",
            "none: the catalogue's is used",
        ),
        "sum of weights from file": FindingKind(
            "note", "no sum of weights is published for the sample", "none: that of the file is used"
        ),
    }
)


@dataclass(frozen=True)
class Finding:
    """One thing found: its kind, a sentence, and where.

    `entries` is the range of entries concerned, empty where it is the whole file.
    """

    kind: str
    message: str
    dataset: str = ""
    file: str = ""
    entries: tuple[int, int] | tuple[()] = ()

    @property
    def severity(self) -> Severity:
        """How severe findings of this kind are."""
        return KINDS[self.kind].severity

    @property
    def sentence(self) -> str:
        """The message with the remedy."""
        return f"{self.message}: {KINDS[self.kind].remedy}."

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "severity": self.severity, "remedy": KINDS[self.kind].remedy}
