"""A figure drawn once onto three canvases is the one that matplotlib itself draws three times."""

from io import BytesIO, StringIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from report.canvases import draw_once
from report.style import new_figure, styled

DPI = 100


@styled
def figure_of(kind: str) -> Figure:
    """One of each sort of artist that figures of the page are made of."""
    figure = new_figure()
    ax = figure.subplots()
    if kind == "mesh":
        ax.pcolormesh(np.arange(30.0).reshape(5, 6), edgecolors="white", linewidth=0.6)
    elif kind == "hatched":
        ax.fill_between([0, 3], [1, 2], [2, 3], hatch="///", alpha=0.5)
        ax.scatter([1, 2], [1, 2], s=[20, 80])
    else:
        ax.stairs([3, 20, 400], [0, 1, 2, 3], fill=True)
        ax.errorbar([0.5, 1.5], [5, 30], yerr=[2, 5], fmt="o")
        ax.set_yscale("log")
        ax.set_xlabel(r"$m_{\ell\ell}$ [GeV]")
    return figure


@pytest.mark.parametrize("kind", ["mesh", "hatched", "stack"])
def test_svg_is_the_same_to_the_character_and_png_to_the_eye(kind: str) -> None:
    once = draw_once(figure_of(kind), dpi=DPI)
    svg, png = StringIO(), BytesIO()
    figure_of(kind).savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure_of(kind).savefig(png, format="png", dpi=DPI)
    assert once.svg == svg.getvalue()
    ours, theirs = (
        np.asarray(Image.open(BytesIO(data)).convert("L"), float) for data in (once.png, png.getvalue())
    )
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 3  # of 255: texts are placed by half a dot differently
    assert once.pdf.startswith(b"%PDF")
