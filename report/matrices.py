"""Pictures of rapidity-mass matrices: means of processes and single events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from processors.cells import KINDS, kind_of
from report.processes import Floats
from report.style import INK, MUTED, Sample, new_figure, stamp, styled

__all__ = [
    "CellMeans",
    "draw_cell_shares",
    "draw_event",
    "draw_means",
    "draw_ratio",
    "layout_of_cells",
    "means_to_dict",
]

_GROUPS = {"j": "light jets", "b": "b-jets", "e": "electrons", "mu": "muons", "g": "photons"}
# Plain text: mathtext would take half the time of a picture.
_SYMBOLS = {"j": "j", "b": "b", "e": "e", "mu": "μ", "g": "γ"}
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_ABSENT = "#d6dade"
_FEW = 10
"""Means of fewer effective events say little, and are marked."""

_SMALLEST_SHARE = 1e-4
"""Cells with smaller shares of an error are left out: hundreds of them together are a few per cent."""

# ColorBrewer's maps are told apart with any common colour blindness; their palest end would pass for "absent".
_ENERGY_MAP, _OTHER_MAP, _RATIO_MAP = ("YlGnBu", 0.18), ("YlOrRd", 0.16), ("RdBu_r", 0.0)

# Part of the events in which a cell is filled -> side of its square.
_FULL, _LEAST, _SMALLEST_SIDE = 1e-1, 1e-4, 0.25

_READING = (
    r"Diagonal: $E_T$ of the leading object, imbalances $\delta E_T$ of the next. Above: masses $m$; first row: $m_T$."
    "\n"
    r"Below: $C(\cosh\,\Delta y-1)$; first column: $C(\cosh\,y-1)$. Mean over the events in which the cell is filled."
)


@dataclass(frozen=True)
class CellMeans:
    """Means of the cells of a matrix over the events of one process, shape (cells,) each.

    Attributes:
        mean: over the events in which the cell is filled; NaN where none is.
        filled: part of the events in which it is.
        effective: what these events are worth, (Σw)²/Σw².
    """

    mean: Floats
    filled: Floats
    effective: Floats

    @classmethod
    def of(cls, moments: Floats, sumw: float) -> "CellMeans":
        """From Σw, Σw², Σwx of the filled values, shape (3, cells), and Σw of all events.

        A cell whose positive and negative weights cancel has no mean.
        """
        weight, squares, product = moments
        filled = weight > 0
        mean = np.divide(product, weight, out=np.full_like(product, np.nan), where=filled)
        effective = np.divide(weight**2, squares, out=np.zeros_like(weight), where=filled)
        part = weight / sumw if sumw > 0 else np.zeros_like(weight)
        return cls(mean, np.where(filled, part, 0.0), effective)

    def to_dict(self) -> dict[str, Any]:
        """Plain types; null where there is no mean."""
        return {
            "mean": [None if np.isnan(value) else float(value) for value in self.mean],
            "filled": self.filled.tolist(),
            "n_eff": self.effective.tolist(),
        }


def layout_of_cells(cells: Sequence[str]) -> list[str]:
    """Objects of the rows of a matrix, without that of the missing momentum: `j1`, ..., `mu5`.

    Args:
        cells: names of all cells, row by row.
    """
    return [name.removeprefix("mt_") for name in cells if name.startswith("mt_")]


def _kind(name: str) -> str:
    return name.rstrip("0123456789")


def _tick_labels(objects: Sequence[str]) -> list[str]:
    numbered = [(_kind(name), name.removeprefix(_kind(name)).translate(_SUBSCRIPTS)) for name in objects]
    return [r"$E_T^{miss}$", *(f"{_SYMBOLS[kind]}{number}" for kind, number in numbered)]


def _map(name: str, start: float) -> Colormap:
    """A colour map without its first part."""
    whole = mpl.colormaps[name]
    return ListedColormap(whole(np.linspace(start, 1.0, 256)), name=f"{name}_{start}")


def _sides(filled: Floats) -> Floats:
    """Sides of the squares, shape (cells,): they grow with the logarithm of how often a cell is filled."""
    span = np.log(np.clip(filled, _LEAST, _FULL) / _LEAST) / np.log(_FULL / _LEAST)
    return np.where(filled > 0, _SMALLEST_SIDE + (1 - _SMALLEST_SIDE) * span, 0.0)


def _frame(size: int, sample: Sample, subtitle: str) -> tuple[Figure, Axes]:
    """An empty matrix with a stamp above."""
    figure = new_figure(7.6, 7.4)
    ax = figure.add_axes((0.125, 0.2, 0.7, 0.7 * 7.6 / 7.4))
    ax.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    stamp(ax, sample, subtitle=subtitle)
    return figure, ax


def _name_rows(ax: Axes, objects: Sequence[str]) -> None:
    """Names of rows and columns, brackets around the objects of one type, and lines between types."""
    size = len(objects) + 1
    # The figures' font has no digits below the line; DejaVu Sans comes with matplotlib.
    font: dict[str, Any] = {"fontsize": float(np.clip(215 / size, 4.0, 9.5)), "fontfamily": "DejaVu Sans"}
    ax.set_xticks(range(size), _tick_labels(objects), **font)
    ax.set_yticks(range(size), _tick_labels(objects), **font)
    ax.tick_params(which="both", length=0, pad=2.5)
    ax.minorticks_off()
    first = 1
    for kind, members in groupby(objects, key=_kind):
        number = len(list(members))
        low, high = first - 0.42, first + number - 0.58
        middle, first = 0.5 * (low + high), first + number
        for line in (ax.axvline, ax.axhline):
            line(low - 0.08, color="white", linewidth=2.2, zorder=3)
            line(low - 0.08, color=MUTED, linewidth=0.5, zorder=3)
        look: dict[str, Any] = {"color": INK, "linewidth": 0.9, "clip_on": False, "solid_capstyle": "butt"}
        place, tip = -0.055, 0.010
        ax.plot([low, low, high, high], [place + tip, place, place, place + tip],
                transform=ax.get_xaxis_transform(), **look)  # fmt: skip
        ax.plot([place - 0.012 + tip, place - 0.012, place - 0.012, place - 0.012 + tip], [low, low, high, high],
                transform=ax.get_yaxis_transform(), **look)  # fmt: skip
        ax.text(middle, place - 0.012, _GROUPS[kind], transform=ax.get_xaxis_transform(), ha="center", va="top",
                fontsize=10.5)  # fmt: skip
        ax.text(place - 0.024, middle, _GROUPS[kind], transform=ax.get_yaxis_transform(), ha="right", va="center",
                fontsize=10.5, rotation=90)  # fmt: skip


def _squares(
    ax: Axes, values: Floats, chosen: NDArray[np.bool_], sides: Floats, norm: Normalize, colors: Colormap
) -> PatchCollection:
    """Coloured squares of the chosen cells; all arrays have shape (cells,)."""
    size = round(np.sqrt(len(values)))
    rectangles = []
    for position in np.flatnonzero(chosen):
        row, column = divmod(int(position), size)
        side = sides[position]
        rectangles.append(Rectangle((column - side / 2, row - side / 2), side, side))
    drawn = PatchCollection(rectangles, cmap=colors, norm=norm, linewidth=0, zorder=2)
    drawn.set_array(values[chosen])
    ax.add_collection(drawn)
    return drawn


def _colour_bar(
    ax: Axes, drawn: PatchCollection, label: str, *, bottom: float = 0.0, top: float = 1.0
) -> None:
    """A colour bar beside the matrix, over a part of its height."""
    bar = ax.inset_axes((1.03, bottom, 0.033, top - bottom))
    colours = ax.figure.colorbar(drawn, cax=bar)
    colours.outline.set_linewidth(0.8)
    bar.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=99))
    bar.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.yaxis.set_minor_formatter(NullFormatter())
    bar.minorticks_off()
    bar.tick_params(labelsize=9.5, length=4, direction="out", right=True, left=False)
    bar.set_ylabel(label, fontsize=11, loc="center")


def _size_legend(ax: Axes) -> None:
    """What the size of a square says."""
    size = ax.get_xlim()[1] + 0.5
    unit = size / 23
    y, x = -0.143, -0.5
    look: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False, "linewidth": 0}
    words: dict[str, Any] = {"transform": look["transform"], "fontsize": 9.5, "va": "center", "color": INK}
    ax.text(x, y, "Filled in", **words)
    x += 3.1 * unit
    texts = (
        (1e-4, "\u2264 0.01 %", 2.9),
        (1e-3, "0.1 %", 2.3),
        (1e-2, "1 %", 1.8),
        (1e-1, "\u2265 10 % of events", 5.0),
    )
    for part, text, width in texts:
        side = float(_sides(np.array([part]))[0]) * unit
        ax.add_patch(Rectangle((x, y - side / size / 2), side, side / size, color="#7f8790", **look))
        ax.text(x + side + 0.25 * unit, y, text, **words)
        x += side + (width + 0.5) * unit
    ax.add_patch(Rectangle((x, y - unit / size / 2), unit, unit / size, color=_ABSENT, **look))
    ax.text(x + 1.25 * unit, y, "absent", **words)


def _limits(values: Floats) -> tuple[float, float]:
    """Range of a logarithmic colour scale: the central 98 % of the values, rounded outwards to 1, 2, 5."""
    good = values[np.isfinite(values) & (values > 0)]
    if not len(good):
        return 0.1, 10.0
    low, high = np.quantile(good, [0.01, 0.99])
    steps = np.array([1.0, 2.0, 5.0, 10.0])
    floor, ceiling = 10.0 ** np.floor(np.log10(low)), 10.0 ** np.floor(np.log10(high))
    low = floor * steps[steps <= low / floor * (1 + 1e-9)].max()
    high = ceiling * steps[steps >= high / ceiling * (1 - 1e-9)].min()
    return float(low), float(max(high, 2 * low))


def _paint_absent(ax: Axes) -> None:
    ax.set_facecolor(_ABSENT)
    size = round(ax.get_xlim()[1] + 0.5)
    for edge in np.arange(0.5, size - 1):
        ax.axvline(edge, color="white", linewidth=0.5, zorder=1)
        ax.axhline(edge, color="white", linewidth=0.5, zorder=1)


@styled
def draw_means(
    cells: Sequence[str], means: CellMeans, *, sample: Sample, name: str, in_gev: bool = True
) -> Figure:
    """Draw the mean matrix of one process: energies and masses in one scale, rapidities and imbalances in another.

    Args:
        cells: names of all cells, row by row.
        means: of the process.
        sample: what they were made from.
        name: of the process, mathtext allowed.
        in_gev: energies and masses are in GeV, not over sqrt(s).
    """
    objects = layout_of_cells(cells)
    figure, ax = _frame(len(objects) + 1, sample, f"mean rapidity\u2013mass matrix: {name}")
    _paint_absent(ax)
    energy = np.array([KINDS[kind_of(cell)].is_energy for cell in cells])
    seen = np.isfinite(means.mean)
    sides = _sides(means.filled)
    unit = " [GeV]" if in_gev else r" / $\sqrt{s}$"
    parts = (
        (energy, _ENERGY_MAP, rf"Mean of $E_T^{{miss}}$, $E_T$, $m_T$, $m${unit}", 0.52, 1.0),
        (~energy, _OTHER_MAP, r"Mean of $C(\cosh\,\Delta y-1)$, $\delta E_T$", 0.0, 0.48),
    )
    for chosen, colors, label, bottom, top in parts:
        # A mean imbalance may be negative: it is drawn as the smallest value.
        low, high = _limits(means.mean[chosen & seen])
        values = np.clip(means.mean, low, high)
        drawn = _squares(ax, values, chosen & seen, sides, LogNorm(low, high), _map(*colors))
        _colour_bar(ax, drawn, label, bottom=bottom, top=top)
    _finish(figure, ax, objects, _READING)
    return figure


@styled
def draw_ratio(
    cells: Sequence[str], means: CellMeans, reference: CellMeans, *, sample: Sample, name: str, against: str
) -> Figure:
    """Draw the means of one process over those of another, cell by cell: above one is red, below is blue.

    Args:
        cells: names of all cells, row by row.
        means: of the process.
        reference: of what it is compared with.
        sample: what they were made from.
        name: of the process, mathtext allowed.
        against: name of the reference.
    """
    objects = layout_of_cells(cells)
    size = len(objects) + 1
    figure, ax = _frame(size, sample, f"rapidity\u2013mass matrix: {name} over {against}")
    _paint_absent(ax)
    ratio, known = _ratio(means.mean, reference.mean)
    norm = _ratio_norm(ratio[known])
    drawn = _squares(ax, np.clip(ratio, norm.vmin, norm.vmax), known, _sides(means.filled), norm,
                     _map(*_RATIO_MAP))  # fmt: skip
    _colour_bar(ax, drawn, f"Mean of {name} / mean of {against}")
    only_here = np.isfinite(means.mean) & ~np.isfinite(reference.mean)
    _mark(ax, only_here, marker="x", markersize=90 / size, markeredgewidth=0.9)
    few = known & (np.minimum(means.effective, reference.effective) < _FEW)
    _mark(ax, few, marker="o", markersize=50 / size, markeredgewidth=0)
    notes = [f"\u2022 fewer than {_FEW} effective events in one of the two"] if few.any() else []
    notes += [f"\u00d7 never filled in {against}"] if only_here.any() else []
    _finish(figure, ax, objects, "\n".join([_READING, "   ".join(notes)]) if notes else _READING)
    return figure


def _mark(ax: Axes, chosen: NDArray[np.bool_], **how: Any) -> None:
    """Put a mark into the chosen cells, shape (cells,)."""
    rows, columns = np.divmod(np.flatnonzero(chosen), round(np.sqrt(len(chosen))))
    ax.plot(columns, rows, linestyle="none", color=INK, zorder=3, **how)


@styled
def draw_event(
    cells: Sequence[str],
    values: Floats,
    reference: CellMeans,
    *,
    sample: Sample,
    name: str,
    against: str,
    in_gev: bool = True,
) -> Figure:
    """Draw the matrix of one event: numbers, coloured by their ratio to the mean of the background.

    Args:
        cells: names of all cells, row by row.
        values: of the event, shape (cells,); 0 where an object is absent.
        reference: means that it is compared with.
        sample: what the event is from.
        name: of the event.
        against: name of the reference.
        in_gev: energies and masses are in GeV, not over sqrt(s).
    """
    objects = layout_of_cells(cells)
    size = len(objects) + 1
    figure, ax = _frame(size, sample, name)
    _paint_absent(ax)
    present = values != 0
    ratio, known = _ratio(np.where(present, values, np.nan), reference.mean)
    norm = _ratio_norm(ratio[known])
    colors = np.clip(np.where(known, ratio, 1.0), norm.vmin, norm.vmax)
    drawn = _squares(ax, colors, present, np.full(len(cells), 0.94), norm, _map(*_RATIO_MAP))
    unknown = present & ~np.isfinite(reference.mean)
    frames = _squares(ax, colors, unknown, np.full(len(cells), 0.86), norm, ListedColormap(["white"]))
    frames.set(edgecolor=INK, linewidth=0.7)
    _colour_bar(ax, drawn, f"Value of the event / mean of {against}")
    middle = np.abs(norm(colors) - 0.5) < 0.31
    for position in np.flatnonzero(present):
        row, column = divmod(int(position), size)
        ax.text(
            column, row, _short(float(values[position])), ha="center", va="center_baseline",
            fontsize=float(np.clip(155 / size, 2.5, 7.0)), color=INK if middle[position] else "white", zorder=4,
        )  # fmt: skip
    notes = [_READING.rsplit(" Mean over", 1)[0]]
    notes += ["Energies and masses in GeV."] if in_gev else []
    notes += [f"Framed: never filled in {against}."] if unknown.any() else []
    _finish(figure, ax, objects, " ".join(notes), sizes=False)
    return figure


@styled
def draw_cell_shares(
    cells: Sequence[str],
    shares: Floats,
    exceeding: NDArray[np.bool_],
    *,
    sample: Sample,
    name: str,
    note: str,
) -> Figure:
    """Draw which cells the error of an event, or of the events of a process, comes from.

    Args:
        cells: names of all cells, row by row.
        shares: of each cell, shape (cells,); NaN where a cell is no input of the model.
        exceeding: cells that are marked, shape (cells,).
        sample: what they were made from.
        name: of the event or the process, mathtext allowed.
        note: what is said below; a second line says what the mark means.
    """
    objects = layout_of_cells(cells)
    size = len(objects) + 1
    figure, ax = _frame(size, sample, name)
    _paint_absent(ax)
    seen = shares > _SMALLEST_SHARE  # never of what is not a number
    top = float(_limits(shares[seen])[1]) if seen.any() else 1.0
    norm = LogNorm(_SMALLEST_SHARE, max(top, 10 * _SMALLEST_SHARE))
    drawn = _squares(ax, shares, seen, np.full(len(cells), 0.94), norm, _map(*_OTHER_MAP))
    _colour_bar(ax, drawn, "Share in the score")
    _mark(ax, seen & exceeding, marker="o", markersize=50 / size, markeredgewidth=0)
    _finish(figure, ax, objects, note, sizes=False)
    return figure


def _finish(figure: Figure, ax: Axes, objects: Sequence[str], note: str, *, sizes: bool = True) -> None:
    _name_rows(ax, objects)
    if sizes:
        _size_legend(ax)
    figure.text(
        0.02,
        0.012 if sizes else 0.05,
        note,
        fontsize=8.6,
        color=MUTED,
        ha="left",
        va="bottom",
        linespacing=1.35,
    )


def _ratio(values: Floats, reference: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Values over reference, and where both are positive."""
    known = np.isfinite(values) & np.isfinite(reference) & (values > 0) & (reference > 0)
    return np.divide(values, reference, out=np.full_like(reference, np.nan), where=known), known


def _ratio_norm(ratio: Floats) -> LogNorm:
    """A symmetric logarithmic scale around one, wide enough for 95 % of the cells; from 2 to 10."""
    reach = np.quantile(np.abs(np.log10(ratio)), 0.95) if len(ratio) else 0.0
    limit = next((step for step in (2.0, 5.0) if reach <= np.log10(step)), 10.0)
    return LogNorm(1 / limit, limit)


def _short(value: float) -> str:
    """A number in at most four characters."""
    size = abs(value)
    if size >= 999.5:
        return f"{value / 1000:.1f}k"
    if size >= 9.95:
        return f"{value:.0f}"
    if size >= 0.0095:
        return f"{value:.1f}" if size >= 0.95 else f"{value:.2f}".replace("0.", ".", 1)
    return "~0"


def means_to_dict(cells: Sequence[str], parts: Mapping[str, CellMeans]) -> dict[str, Any]:
    """The numbers of a picture, for the file beside it."""
    return {"cells": list(cells), **{name: means.to_dict() for name, means in parts.items()}}
