"""Pictures of all events together: what each input adds to the score, and the latent space."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from report.processes import Floats
from report.style import INK, Sample, new_figure, stamp, styled

__all__ = ["draw_latent_space", "draw_share_chart"]

MOST_INPUTS: Final = 24
"""Inputs of the chart: those whose largest share of any family is largest."""

CONTAINED: Final = (0.9, 0.5)
"""Parts of the events of a process inside its contours."""

_HEADROOM: Final = 0.28  # room for names above the events, as part of the height

_SMOOTHING: Final = 1.2  # width of the Gaussian that contours are smoothed with [bins]


@styled
def draw_share_chart(
    inputs: Sequence[str],
    background: Mapping[str, Any],
    families: Sequence[Mapping[str, Any]],
    *,
    sample: Sample,
    name: str,
) -> Figure:
    """Draw the shares of the leading inputs, one column for the background and one for each family.

    Args:
        inputs: of the model, k of them.
        background: its `share`, shape (k,).
        families: `label` and `share` of each; at least one.
        sample: what the figure was made from.
        name: of the model.
    """
    shares = np.array([background["share"], *(family["share"] for family in families)]).T
    rows = np.argsort(-shares.max(axis=1), kind="stable")[:MOST_INPUTS]
    rows = rows[np.argsort(rows, kind="stable")]  # in the order of the model's inputs
    shown = shares[rows]
    n_rows, n_columns = shown.shape
    left, top, bottom, bar = 1.85, 0.62, 1.5, 0.95  # around the chart [inches]
    cell = min(0.9, max(0.44, (6.4 - left - bar) / n_columns))
    width, height = left + cell * n_columns + bar, top + 0.26 * n_rows + bottom
    figure = new_figure(width, height)
    ax = figure.add_axes((left / width, bottom / height, cell * n_columns / width, 0.26 * n_rows / height))
    colors = mpl.colormaps["YlGnBu"]
    norm = PowerNorm(0.5, 0.0, max(float(shown.max()), 0.01))
    drawn = ax.pcolormesh(np.clip(shown, 0, None), cmap=colors, norm=norm, edgecolors="white", linewidth=0.6)
    for row, column in np.argwhere(shown >= 0.005):
        value = shown[row, column]
        ax.text(
            column + 0.5, row + 0.5, f"{100 * value:.0f}", ha="center", va="center", fontsize=9,
            color="white" if norm(value) > 0.55 else INK,
        )  # fmt: skip
    ax.set_ylim(n_rows, 0)
    ax.set_yticks(np.arange(n_rows) + 0.5, [inputs[i] for i in rows], fontsize=9.5)
    ax.set_xticks(
        np.arange(n_columns) + 0.5, ["Background", *(family["label"] for family in families)], fontsize=10,
        rotation=55, ha="right", rotation_mode="anchor",
    )  # fmt: skip
    ax.tick_params(which="both", length=0)
    ax.minorticks_off()
    ax.axvline(1.0, color=INK, linewidth=1.0)
    scale = ax.inset_axes((1 + 0.22 / (cell * n_columns), 0.0, 0.16 / (cell * n_columns), 1.0))
    ticks = figure.colorbar(drawn, cax=scale)
    ticks.ax.yaxis.set_major_locator(MaxNLocator(5))
    ticks.ax.minorticks_off()
    ticks.ax.tick_params(labelsize=9.5, length=4, direction="out", right=True, left=False)
    ticks.set_label("Share in the score (numbers: %)", fontsize=11)
    frame = figure.add_axes(
        (left / width, bottom / height, 1 - (left + 0.1) / width, 0.26 * n_rows / height), frameon=False
    )
    frame.set(xticks=[], yticks=[])
    frame.tick_params(which="both", length=0)
    frame.set_zorder(-1)
    stamp(frame, sample, subtitle=f"model {name}")
    return figure


@styled
def draw_latent_space(
    latent: Mapping[str, Any],
    *,
    labels: Mapping[str, str],
    colors: Mapping[str, str],
    sample: Sample,
    name: str,
) -> Figure:
    """Draw the mean score of background in the latent space, and the contours of each family of signals.

    Args:
        latent: in bins, from explanation.json.
        labels: of each family.
        colors: of each family.
        sample: what the figure was made from.
        name: of the model.
    """
    columns = 3
    families = latent["processes"]
    rows = ceil((1 + len(families)) / columns)
    height = 1.75 + 2.3 * rows
    figure = new_figure(8.4, height)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=0.095, right=0.975, bottom=1.05 / height, top=1 - 0.62 / height, wspace=0.06, hspace=0.07
    )
    edges = [np.array(axis) for axis in latent["edges"]]
    density = np.array(latent["background"]["sumw"])
    first, *panels = axes.flat
    _draw_background(figure, first, edges, density, latent["background"]["score"])
    for panel, (key, entry) in zip(panels, families.items(), strict=False):
        _contours(panel, edges, density, color="#8f959d", filled=True)
        color = colors.get(key) or INK
        _contours(panel, edges, np.array(entry["sumw"]), color=color, filled=False)
        panel.legend(
            [Line2D([], [], color=color, linewidth=1.8)],
            [labels[key]],
            loc="upper left",
            fontsize=10,
            borderaxespad=0.5,
        )
    for panel in panels[len(families) :]:
        panel.set_visible(False)
    low, high = edges[1][0], edges[1][-1]
    axes[0, 0].set(xlim=(edges[0][0], edges[0][-1]), ylim=(low, high + _HEADROOM * (high - low)))
    for panel in axes.flat:
        panel.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
        panel.yaxis.set_major_locator(MaxNLocator(4, prune="both"))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_minor_locator(NullLocator())
        panel.tick_params(labelsize=10)
    _name_axes(figure, axes, latent, len(families), height)
    left, right = axes[0, 0].get_position(), axes[0, -1].get_position()
    frame = figure.add_axes((left.x0, left.y0, right.x1 - left.x0, left.height), frameon=False)
    frame.set(xticks=[], yticks=[])
    frame.tick_params(which="both", length=0)
    frame.set_zorder(-1)
    stamp(frame, sample, subtitle=f"latent space of {name}; background: held-out events")
    return figure


def _draw_background(
    figure: Figure,
    ax: Axes,
    edges: Sequence[Floats],
    density: Floats,
    scores: Sequence[Sequence[float | None]],
) -> None:
    """Mean score of each bin as colour, and contours of the density."""
    mean = np.array([[np.nan if value is None else value for value in row] for row in scores])
    drawn = ax.pcolormesh(edges[0], edges[1], mean.T, cmap="viridis", linewidth=0, rasterized=True)
    _contours(ax, edges, density, color=INK, filled=False)
    scale = ax.inset_axes((0.06, 0.925, 0.4, 0.04))
    bar = figure.colorbar(drawn, cax=scale, orientation="horizontal")
    bar.ax.xaxis.set_major_locator(MaxNLocator(3))
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8, length=2, pad=1.5)
    ax.annotate("mean score", (0.48, 0.945), xycoords="axes fraction", va="center", fontsize=8.5)
    ax.annotate(
        "Background", (1, 0), (-6, 6), xycoords="axes fraction", textcoords="offset points", ha="right", va="bottom",
        fontsize=10, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
    )  # fmt: skip


def _contours(ax: Axes, edges: Sequence[Floats], sumw: Floats, *, color: str, filled: bool) -> None:
    """Contours inside which stand given parts of the events, of smoothed sums of weights."""
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415 - only where it is drawn

    smooth = gaussian_filter(np.maximum(sumw, 0.0), _SMOOTHING, mode="nearest")
    levels = _levels(smooth)
    if len(levels) < len(CONTAINED):
        return
    x, y = (0.5 * (axis[1:] + axis[:-1]) for axis in edges)
    if filled:
        ax.contourf(x, y, smooth.T, levels=[*levels, np.inf], colors=["#dfe2e6", "#b9bec5"], zorder=1)
    else:
        ax.contour(x, y, smooth.T, levels=levels, colors=[color], linewidths=[1.0, 1.8], zorder=3)


def _levels(density: Floats) -> list[float]:
    """Densities above which lie the parts `CONTAINED` of the sum, rising; fewer where they are equal."""
    ranked = np.sort(density.ravel())[::-1]
    total = ranked.sum()
    if not total > 0:
        return []
    inside = np.cumsum(ranked) / total
    levels = [float(ranked[np.searchsorted(inside, part)]) for part in CONTAINED]
    return levels if 0 < levels[0] < levels[1] else []


def _name_axes(figure: Figure, axes: Any, latent: Mapping[str, Any], n_families: int, height: float) -> None:
    """Labels of the axes, with the part of the variance where they are principal components, and the legend."""
    labels = list(latent["labels"])
    if latent["variance"] is not None:
        labels = [
            f"{label} ({100 * part:.0f} % of variance)"
            for label, part in zip(labels, latent["variance"], strict=True)
        ]
    rows, columns = axes.shape
    for column in range(columns):
        lowest = max((row for row in range(rows) if row * columns + column <= n_families), default=0)
        axes[lowest, column].tick_params(labelbottom=True)
    figure.text(0.975, 0.58 / height, labels[0], ha="right", va="center", fontsize=12)
    figure.text(0.016, 1 - 0.62 / height, labels[1], ha="left", va="top", rotation=90, fontsize=12)
    handles = [
        Patch(facecolor="#dfe2e6"), Patch(facecolor="#b9bec5"), Line2D([], [], color=INK, linewidth=1.0),
        Line2D([], [], color=INK, linewidth=1.8),
    ]  # fmt: skip
    outer, inner = (f"{100 * part:.0f} %" for part in CONTAINED)
    figure.legend(
        handles, [f"{outer} of background", f"{inner} of background", f"{outer} of the panel's own", f"{inner} of it"],
        loc="lower left", ncols=4, fontsize=9.5, bbox_to_anchor=(0.085, 0.06 / height), borderaxespad=0,
    )  # fmt: skip
