"""One look for every figure, and the line that says what the figure shows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

__all__ = [
    "ALERT",
    "DATA_COLOR",
    "FALLBACK_COLORS",
    "INK",
    "LOOK",
    "MUTED",
    "SOURCES",
    "Sample",
    "luminosity_label",
    "new_figure",
    "source_label",
    "stamp",
    "styled",
]

FALLBACK_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
"""Okabe and Ito, Color Universal Design (2008): told apart by people with any common colour blindness."""

INK = "#111111"
MUTED = "#5a5f66"
ALERT = "#b3261e"
DATA_COLOR = "#000000"

# mplhep's plain style carries the field's habits (ticks on all sides and inwards, labels at the ends of the
# axes, TeX Gyre Heros); its sizes are made for 10-inch slides, ours for a column of a page.
LOOK: dict[Any, Any] = {
    **mplhep.style.ROOT,
    "figure.figsize": (6.0, 5.7),
    "figure.dpi": 100,
    "font.size": 12.5,
    "axes.labelsize": 13.5,
    "axes.linewidth": 1.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.unicode_minus": True,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "xtick.major.size": 7,
    "xtick.minor.size": 3.5,
    "ytick.major.size": 7,
    "ytick.minor.size": 3.5,
    "xtick.major.pad": 5,
    "ytick.major.pad": 5,
    "legend.fontsize": 10.5,
    "legend.handlelength": 1.6,
    "legend.borderpad": 0.2,
    "legend.labelspacing": 0.35,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.6,
    "font.sans-serif": ["TeX Gyre Heros", "DejaVu Sans"],
    "mathtext.fallback": "stixsans",
    "mathtext.cal": "TeX Gyre Heros:italic",
    "svg.fonttype": "path",
    "svg.hashsalt": "report",
    "pdf.compression": 6,
}

SOURCES = {
    "demo-simulation": "Pythia 8 simulation, pseudo-data",
    "atlas-open-data": "ATLAS Open Data, for educational use",
}

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Sample:
    """What a figure was made from; every figure says it.

    Attributes:
        kind: "demo-simulation" or "atlas-open-data".
        lumi_pb: integrated luminosity [1/pb]; None where the release publishes none for the periods present.
        region: name of the event selection, "2L".
        doi: DOI of the data release, or empty.
        complete: False where events are missing.
        sqrt_s_tev: centre-of-mass energy [TeV].
        blinded: collision data are not shown.
    """

    kind: str
    lumi_pb: float | None
    region: str = ""
    doi: str = ""
    complete: bool = True
    sqrt_s_tev: float = 13.0
    blinded: bool = False


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Draw with the look of this project, whatever the settings of the session are."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(LOOK):
            return function(*args, **kwargs)

    return wrapper


def luminosity_label(lumi_pb: float | None) -> str:
    """Write an integrated luminosity with three digits, in 1/fb from 1000/pb on; say where it is not known."""
    if lumi_pb is None:
        return "luminosity not published"
    value, unit = (lumi_pb / 1000.0, "fb") if lumi_pb >= 1000.0 else (lumi_pb, "pb")
    digits = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    return rf"{digits} {unit}$^{{-1}}$"


def source_label(sample: Sample) -> str:
    """Write where the events come from."""
    return SOURCES.get(sample.kind, sample.kind)


def stamp(ax: Axes, sample: Sample, *, subtitle: str = "") -> None:
    """Write above the frame what the figure is: source, energy, luminosity, region, DOI, missing events.

    Args:
        ax: the topmost axes of the figure.
        sample: what the figure was made from.
        subtitle: what is special about this figure ("held-out events").
    """
    above: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "va": "baseline",
        "annotation_clip": False,
    }
    energy = rf"√$s$ = {sample.sqrt_s_tev:g} TeV, {luminosity_label(sample.lumi_pb)}"
    ax.annotate(source_label(sample), (0, 1), (0, 20), ha="left", fontsize=12, color=INK, **above)
    ax.annotate(energy, (1, 1), (0, 20), ha="right", fontsize=12, color=INK, **above)
    region = f"Region {sample.region}" if sample.region else ""
    blinded = "data blinded" if sample.blinded else ""
    left = " · ".join(part for part in (region, blinded, subtitle) if part)
    right = f"doi:{sample.doi}" if sample.doi else ""
    ax.annotate(left, (0, 1), (0, 6), ha="left", fontsize=10, color=MUTED, **above)
    ax.annotate(right, (1, 1), (0, 6), ha="right", fontsize=9, color=MUTED, **above)
    if not sample.complete:
        ax.text(
            0.5, 0.3, "INCOMPLETE", transform=ax.transAxes, ha="center", va="center", rotation=18, fontsize=36,
            fontweight="bold", color=ALERT, alpha=0.3, zorder=10,
        )  # fmt: skip


def _draw_minor_ticks_as_lines(figure: Figure) -> None:
    """Exchange the minor ticks of all axes, which bear no labels, for two lines of markers each.

    Of each tick matplotlib makes five objects and lays out two empty texts, in a third of the time of a figure.
    """
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    # First all places, then all locators: panels that share an axis share its locator.
    places = {axis: _minor_ticks(axis) for axis in axes}
    for axis, found in places.items():
        if not len(found):
            continue
        tick = axis.get_minor_ticks(1)[0]
        for mark, side in ((tick.tick1line, 0.0), (tick.tick2line, 1.0)):
            if mark.get_visible():
                line = Line2D([], [])
                line.update_from(mark)
                across = np.full(len(found), side)
                line.set_data(*((found, across) if axis.axis_name == "x" else (across, found)))
                line.set(transform=mark.get_transform(), zorder=axis.get_zorder(), clip_on=False)
                axis.axes.add_artist(line)
    for axis in axes:
        axis.set_minor_locator(NullLocator())


def _minor_ticks(axis: Axis) -> NDArray[np.float64]:
    """Where an axis that is drawn has minor ticks, within its limits."""
    if not axis.get_visible() or not axis.axes.get_visible() or not axis.axes.axison:
        return np.empty(0)
    low, high = sorted(axis.get_view_interval())
    places = np.asarray(axis.get_minorticklocs(), dtype=float)
    return places[(places >= low) & (places <= high)]


class StyledFigure(Figure):
    """A figure that keeps its look wherever it is saved: matplotlib resolves fonts only when it draws."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw with the look of this project."""
        with mpl.rc_context(LOOK):
            _draw_minor_ticks_as_lines(self)
            super().draw(renderer)


def new_figure(width: float = 6.0, height: float = 5.7) -> Figure:
    """Make a figure [inches] outside of pyplot's global list, so that it is freed when dropped."""
    return StyledFigure(figsize=(width, height))
