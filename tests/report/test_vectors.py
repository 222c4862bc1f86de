"""Short SVG shows what the long one shows: every line and letter, within a hundredth of a point of its place."""

import base64
import re
from io import StringIO
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path

from report.style import LOOK, new_figure
from report.vectors import as_data_uri, compact

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"


@pytest.fixture(scope="module")
def long() -> str:
    """A figure with words, a formula, markers, dashes and a clip path, as matplotlib writes it."""
    figure = new_figure(4.0, 3.0)
    ax = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    ax.plot([0.123456, 1, 2.5], [3, -1.987654, 0], "o--", label=r"$E_T^{miss}$ of all")
    ax.set_xlabel("two words")
    ax.legend()
    written = StringIO()
    with mpl.rc_context(LOOK):
        figure.savefig(written, format="svg")
    return written.getvalue()


def test_a_figure_whose_markers_all_lie_outside_is_a_document() -> None:
    figure = new_figure(4.0, 3.0)
    ax = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    ax.plot([1, 2], [300, 400], "o")
    ax.errorbar([1, 2], [500, 600], yerr=1, fmt="o")
    ax.set_ylim(0, 1)
    written = StringIO()
    with mpl.rc_context(LOOK):
        figure.savefig(written, format="svg")
    assert re.search(r"<g[^<>]*/>", written.getvalue()), "what matplotlib writes of such markers"
    short = compact(written.getvalue())
    assert len(outlines(short)) == len(outlines(written.getvalue()))
    ET.fromstring(unquote(as_data_uri(short).partition(",")[2]))


@pytest.fixture(scope="module")
def short(long: str) -> str:
    return compact(long)


def outlines(svg: str) -> list[tuple[list[str], np.ndarray]]:
    """Commands and absolute points of all paths that draw something, read by fontTools."""
    found = []
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        if path.get("d"):
            pen = RecordingPen()
            parse_path(path.get("d"), pen)
            commands = [command for command, _ in pen.value]
            found.append((commands, np.array([point for _, points in pen.value for point in points])))
    return found


def letters(svg: str) -> list[tuple[str, float, float]]:
    """Glyph and place of each letter that has an outline."""
    tree = ET.fromstring(svg)
    glyphs = {
        path.get("id") for path in tree.iter(f"{SVG}path") if path.get("d") and "-" in path.get("id", "")
    }
    found = []
    for use in tree.iter(f"{SVG}use"):
        name = use.attrib[HREF][1:]
        if name in glyphs:
            moved = re.match(r"translate\((\S+) (\S+)\)", use.get("transform", ""))
            x, y = moved.groups() if moved else (use.get("x", 0), use.get("y", 0))
            found.append((name, float(x), float(y)))
    return found


def test_all_outlines_are_the_same_to_a_hundredth_of_a_point(long: str, short: str) -> None:
    before, after = outlines(long), outlines(short)
    assert len(before) > 20
    assert [commands for commands, _ in after] == [commands for commands, _ in before]
    for (_, known), (_, found) in zip(before, after, strict=True):
        np.testing.assert_allclose(found, known, atol=0.0101)


def test_all_letters_stand_where_they_stood(long: str, short: str) -> None:
    before, after = letters(long), letters(short)
    assert len(before) > 20
    assert [name for name, *_ in after] == [name for name, *_ in before]
    # In units of which the text's own scale makes a tenth of a point and less.
    np.testing.assert_allclose([place for _, *place in after], [place for _, *place in before], atol=0.0501)


def test_markers_keep_their_places_and_their_colours(long: str, short: str) -> None:
    def markers(svg: str) -> list[tuple[str, float, float]]:
        uses = ET.fromstring(svg).iter(f"{SVG}use")
        return [
            (use.attrib[HREF], float(use.attrib["x"]), float(use.attrib["y"]))
            for use in uses
            if use.attrib[HREF].startswith("#m")
        ]

    before, after = markers(long), markers(short)
    assert [name for name, *_ in after] == [name for name, *_ in before]
    np.testing.assert_allclose([place for _, *place in after], [place for _, *place in before], atol=0.0051)

    def colours(svg: str) -> set[str]:
        return set(re.findall(r"#[0-9a-f]{6}\b", svg))

    assert colours(short) == colours(long)


def test_the_data_uri_is_a_whole_document_that_an_attribute_can_hold(short: str) -> None:
    uri = as_data_uri(short)
    assert not set(uri) & {'"', "&", "\n", "#"}
    tree = ET.fromstring(unquote(uri.removeprefix("data:image/svg+xml,")))
    names = [each.get("id") for each in tree.iter() if each.get("id")]
    assert len(names) == len(set(names))
    used = {each.attrib[HREF][1:] for each in tree.iter(f"{SVG}use")}
    used |= set(re.findall(r"url\(%23(\w+)\)", uri))
    assert used <= set(names)
    assert len(outlines(unquote(uri.partition(",")[2]))) == len(outlines(short))


def test_it_has_not_half_the_bytes(long: str, short: str) -> None:
    assert len(as_data_uri(short)) < 0.5 * len(base64.b64encode(long.encode()))
