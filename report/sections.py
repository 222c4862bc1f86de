"""Sections of the page that stand for one topic each, made from the document that its stage left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from report.gallery import Region
from report.pictures import Drawing
from report.tables import Table

__all__ = ["Section", "sections_of"]


@dataclass(frozen=True)
class Section:
    """What the page says of one topic in one region.

    Attributes:
        key: stem of anchors, "significance".
        title: heading, HTML.
        text: what was done and what is seen, HTML; the first paragraph says it to a reader in a hurry.
        tables: in their order.
        drawings: in their order, called "<region>_<key>...".
    """

    key: str
    title: str
    text: str
    tables: Sequence[Table] = field(default_factory=tuple)
    drawings: Sequence[Drawing] = field(default_factory=tuple)


SectionMaker: TypeAlias = Callable[[Path, Region], Section | None]

# In the order of the page.
_SECTIONS: Final[tuple[SectionMaker, ...]] = ()


def sections_of(output: Path, region: Region) -> list[Section]:
    """The sections of a region whose stages have run.

    Args:
        output: directory of the whole analysis.
        region: without what is blinded.
    """
    found = (make(output, region) for make in _SECTIONS)
    return [section for section in found if section is not None]
