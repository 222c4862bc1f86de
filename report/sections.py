"""Sections of the page that stand for one topic each, made from the document that its stage left."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fileset.exceptions import InputError
from report.pictures import Drawing
from report.tables import Table

__all__ = ["Section", "document", "of_region"]


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


def document(path: Path) -> dict[str, Any]:
    """A JSON document of the output folder; one that is not there is empty.

    Raises:
        InputError: it is no JSON document.
    """
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        message = f"{path} is no JSON document ({error}); remove it and run its stage again"
        raise InputError(message) from error
    return found


def of_region(output: Path, topic: str, region: str) -> dict[str, Any]:
    """A region's part of OUTPUT/<topic>.json; empty where its stage has not run."""
    return (document(output / f"{topic}.json").get("regions") or {}).get(region) or {}
