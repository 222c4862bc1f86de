"""Figures on disk: each as SVG, PDF and PNG, with the numbers that it shows beside it."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

__all__ = ["Picture", "save_picture"]

# Two decimals of a point are far below what an eye or a printer resolves; the page becomes half as large.
_LONG_NUMBER = re.compile(r"(-?\d+\.\d{2})\d+")
_COORDINATES = re.compile(r'\b(d|x|y|points)="[^"]*"', re.DOTALL)


@dataclass(frozen=True)
class Picture:
    """A figure as the page needs it.

    Attributes:
        name: stem of its files.
        title: caption on the page, HTML.
        alt: what it shows, for those who cannot see it.
        svg: data URI of the vector form.
        links: format and path relative to the page ("PDF", "figures/2L_score.pdf").
    """

    name: str
    title: str
    alt: str
    svg: str
    links: tuple[tuple[str, str], ...]


def _compact(svg: str) -> str:
    """Drop what a browser does not need: prologue, metadata, superfluous digits, line breaks."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = _COORDINATES.sub(lambda found: _LONG_NUMBER.sub(r"\1", " ".join(found[0].split())), svg)
    return re.sub(r">\s+<", "><", svg)


def save_picture(
    figure: Figure,
    data: Mapping[str, Any],
    *,
    folder: Path,
    name: str,
    title: str,
    alt: str,
    dpi: int = 160,
) -> Picture:
    """Write a figure as SVG, PDF and PNG and its numbers as JSON.

    Args:
        figure: the figure.
        data: the numbers drawn, in plain types.
        folder: the folder ``figures`` beside the page.
        name: stem of the files.
        title: caption on the page, HTML.
        alt: alternative text.
        dpi: resolution of the PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = _compact(buffer.getvalue())
    (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    # Without a creation date the same numbers give the same bytes.
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    figure.savefig(
        folder / f"{name}.png", dpi=dpi, metadata={"Software": None}, pil_kwargs={"compress_level": 3}
    )
    (folder / f"{name}.json").write_text(json.dumps(data) + "\n", encoding="utf-8")
    links = tuple((form, f"{folder.name}/{name}.{form.lower()}") for form in ("PDF", "PNG", "SVG", "JSON"))
    encoded = base64.b64encode(svg.encode()).decode("ascii")
    return Picture(name=name, title=title, alt=alt, svg=f"data:image/svg+xml;base64,{encoded}", links=links)
