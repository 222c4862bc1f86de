"""Sections of the page that stand for one topic each, made from the document that its stage left."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from report.pictures import Drawing
from report.tables import Table

__all__ = ["Section"]


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
