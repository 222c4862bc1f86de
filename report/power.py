"""How well the score and single variables tell each signal from the background."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from math import ceil
from typing import Any

import hist
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from report.processes import Process, Spectrum, dataset_spectra, process_spectrum, processes_of
from report.style import INK, MUTED, Sample, new_figure, stamp, styled

__all__ = [
    "SCORE",
    "auc_overview",
    "best_variable",
    "compared",
    "contestant_label",
    "draw_shapes",
    "left_of_labels",
    "roc",
    "score_shapes",
    "signal_name",
    "stamp_across",
    "stamp_high",
    "variable_label",
]

SCORE = "score"
"""Name of the model's score among the scores of ``evaluate.json``; the others have a role, or are single variables."""

SCORE_COLOR = "#0072B2"
RIVAL_COLOR = "#D55E00"
VARIABLE_COLORS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#6A3D9A", "#8C6D1F", "#7F7F7F")
FEWEST_EVENTS = 10.0
"""Effective number of background events below which a background efficiency is marked as unmeasurable."""

_VARIABLE_LABELS = {
    SCORE: "Anomaly score",
    "met_et": r"$E_{T}^{miss}$",
    "mll": r"$m_{\ell\ell}$",
    "mlll": r"$m_{\ell\ell\ell}$",
    "mt2": r"$m_{T2}$",
    "ht": r"$H_{T}$",
    "st": r"$S_{T}$",
    "meff": r"$m_{eff}$",
    "lep1_pt": r"$p_{T}^{\ell 1}$",
    "lep2_pt": r"$p_{T}^{\ell 2}$",
    "lep3_pt": r"$p_{T}^{\ell 3}$",
}


def variable_label(name: str) -> str:
    """Label of a score or single variable of ``evaluate.json``, with mathtext."""
    return _VARIABLE_LABELS.get(name, name)


_BASELINE_LABELS = {
    "baseline-pca": "PCA error",
    "baseline-mahalanobis": "Mahalanobis distance",
    "baseline-isolation-forest": "Isolation forest",
    "baseline-largest-tail": "Largest upper tail",
    "baseline-tail-sum": "Sum of upper tails",
}


def contestant_label(name: str) -> str:
    """Label of a score, baseline, other model or single variable, with mathtext; a baseline's inputs are named."""
    for stem, label in _BASELINE_LABELS.items():
        if name == stem or name.startswith(f"{stem}-"):
            inputs = name.removeprefix(stem).removeprefix("-")
            return f"{label} ({inputs})" if inputs else label
    return variable_label(name)


def _role(name: str, entry: Mapping[str, Any]) -> str:
    """Role of a score; documents of before there were any hold the model's scores and single variables."""
    if "role" in entry:
        return str(entry["role"])
    return "model" if name == SCORE else "score" if name.startswith(f"{SCORE}_") else "variable"


def compared(
    scores: Mapping[str, Mapping[str, Any]], roles: Sequence[str] = ("variable",)
) -> dict[str, Mapping[str, Any]]:
    """The model's score and those with some roles: by default the single variables.

    Args:
        scores: of one signal.
        roles: "model" (another one), "score" (a further one of the model), "baseline", "variable".
    """
    return {name: entry for name, entry in scores.items() if name == SCORE or _role(name, entry) in roles}


def best_variable(scores: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Name of the single variable with the largest AUC for this signal; None if there is none."""
    scores = compared(scores)
    singles = [name for name, entry in scores.items() if name != SCORE and entry.get("auc") is not None]
    return max(singles, key=lambda name: float(scores[name]["auc"]), default=None)


def signal_name(key: str, entry: Mapping[str, Any], processes: Sequence[Process]) -> str:
    """Label of a signal of ``evaluate.json``: as in the stacks, where its process is known there."""
    for process in processes:
        if process.kind == "signal" and (entry.get("process") == process.key or key in process.datasets):
            return process.label
    return str(entry.get("label") or key)


def score_shapes(
    histogram: hist.Hist, datasets: Mapping[str, Mapping[str, Any]]
) -> tuple[np.ndarray, Spectrum, list[tuple[Process, Spectrum]]]:
    """Distributions of the score of all background (held-out events) and of each signal, at unit area.

    Returns:
        Bin edges, the background, and each signal that has events.
    """
    edges, spectra = dataset_spectra(histogram, datasets)
    bins = len(edges) - 1
    background = Spectrum(np.zeros(bins), np.zeros(bins))
    signals = []
    for process in processes_of(datasets):
        spectrum = process_spectrum(process, spectra, bins)
        if process.kind == "background":
            background += spectrum
        elif process.kind == "signal" and spectrum.total > 0:
            signals.append((process, spectrum.scaled(1.0 / spectrum.total)))
    if background.total > 0:
        background = background.scaled(1.0 / background.total)
    return edges, background, signals


@styled
def draw_shapes(
    edges: np.ndarray,
    background: Spectrum,
    signals: Sequence[tuple[Process, Spectrum]],
    *,
    xlabel: str,
    sample: Sample,
) -> Figure:
    """Draw the score of the background against that of each signal, one small panel a signal.

    Args:
        edges: bin edges, shape (n + 1,).
        background: at unit area.
        signals: each at unit area; at least one.
        xlabel: label of the score.
        sample: what the figure was made from.
    """
    columns = min(2, len(signals))
    rows = ceil(len(signals) / columns)
    height = 1.35 + 2.0 * rows
    figure = new_figure(6.6, height)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=0.12, right=0.975, bottom=0.62 / height, top=1 - 0.62 / height, wspace=0.06, hspace=0.09
    )
    shapes = [background] + [spectrum for _, spectrum in signals]
    positive = np.concatenate([spectrum.values[spectrum.values > 0] for spectrum in shapes])
    low = max(positive.min() * 0.5, 1e-6) if len(positive) else 1e-6
    top = max(float(spectrum.values.max()) for spectrum in shapes)
    used = np.flatnonzero(np.any([spectrum.values > 0 for spectrum in shapes], axis=0))
    for panel, (process, spectrum) in zip(axes.flat, signals, strict=False):
        panel.stairs(background.values, edges, baseline=low * 1e-3, fill=True, color="#c9cdd2", zorder=1)
        panel.stairs(background.values, edges, baseline=None, color=MUTED, linewidth=0.9, zorder=2)
        panel.stairs(spectrum.values, edges, baseline=None, color=process.color, linewidth=1.8, zorder=3)
        handles = [
            Line2D([], [], color=process.color, linewidth=1.8),
            Line2D([], [], color="#c9cdd2", linewidth=6),
        ]
        panel.legend(handles, [process.label, "Background"], loc="upper left", fontsize=10, borderaxespad=0.8)
    for panel in axes.flat[len(signals) :]:
        panel.set_visible(False)
    first = axes[0, 0]
    first.set(yscale="log", ylim=(low, low * (top / low) ** 1.5))
    first.yaxis.set_major_locator(LogLocator(numticks=6))
    first.yaxis.set_minor_locator(NullLocator())
    if len(used):
        first.set_xlim(edges[used[0]], edges[used[-1] + 1])
    for panel in axes[-1]:
        panel.set_xlabel(xlabel)
    if rows > 1:
        # The column above an empty place shows its own numbers.
        for panel in axes[-2][len(signals) - columns * (rows - 1) :]:
            panel.tick_params(labelbottom=True)
            panel.set_xlabel(xlabel)
    figure.supylabel("Fraction of events per bin", x=0.012, fontsize=13.5)
    stamp_across(figure, first, axes[0, -1], sample, "background: held-out events")
    return figure


def stamp_across(figure: Figure, first: Axes, last: Axes, sample: Sample, subtitle: str) -> None:
    """Write the stamp over a whole row of panels, with an invisible frame that spans them."""
    left, right = first.get_position(), last.get_position()
    frame = figure.add_axes((left.x0, left.y0, right.x1 - left.x0, left.height), frameon=False)
    frame.set(xticks=[], yticks=[])
    frame.tick_params(which="both", length=0)
    frame.set_zorder(-1)
    stamp(frame, sample, subtitle=subtitle)


def _auc_text(entry: Mapping[str, Any]) -> str:
    """AUC ± error for a legend."""
    if entry.get("auc") is None:
        return "not measurable"
    error = entry.get("auc_error")
    if error is None:
        return f"{entry['auc']:.3f}"
    places = 4 if error < 0.0005 else 3
    return f"{entry['auc']:.{places}f} ± {error:.{places}f}"


def _curve(entry: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Points of a ROC curve that a logarithmic axis can show, (ε_B, ε_S)."""
    eps_b, eps_s = np.asarray(entry["roc"]["eps_b"]), np.asarray(entry["roc"]["eps_s"])
    return eps_b[eps_b > 0], eps_s[eps_b > 0]


def _draw_bands(ax: Axes, entry: Mapping[str, Any]) -> None:
    """Draw the statistical error of a curve, and the range over the networks of an ensemble."""
    eps_b, eps_s = _curve(entry)
    curve = entry["roc"]
    used = np.asarray(curve["eps_b"]) > 0
    if "error" in curve:
        error = np.asarray(curve["error"])[used]
        low, high = np.clip(eps_s - error, 0, 1), np.clip(eps_s + error, 0, 1)
        ax.fill_between(eps_b, low, high, color=SCORE_COLOR, alpha=0.28, linewidth=0, zorder=2.6)
    seeds = (entry.get("seeds") or {}).get("roc")
    if seeds:
        low, high = np.asarray(seeds["low"])[used], np.asarray(seeds["high"])[used]
        ax.fill_between(eps_b, low, high, color=SCORE_COLOR, alpha=0.14, linewidth=0, zorder=2.5)


def _best_baseline(scores: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Name of the baseline with the largest AUC for this signal; None if there is none."""
    known = {
        name: float(entry["auc"])
        for name, entry in compared(scores, ("baseline",)).items()
        if name != SCORE and entry.get("auc") is not None
    }
    return max(known, key=lambda name: known[name], default=None)


@styled
def roc(
    entry: Mapping[str, Any], *, label: str, sample: Sample, n_eff: float | None = None, lowest: float = 1e-4
) -> Figure:
    """Draw the signal efficiency against the background efficiency for one signal.

    Args:
        entry: the signal's part of ``evaluate.json``.
        label: name of the signal.
        sample: what the figure was made from.
        n_eff: effective number of background events (Σw)²/Σw². The figure is shaded where the score's own entry says
            that background is not supported, or where ten of these would be left if it does not say.
        lowest: background efficiency at which the axis starts.

    Bands: statistical error of the score (bootstrap), and, fainter, the range over the networks of an ensemble.
    """
    figure = new_figure(6.0, 5.4)
    ax = figure.add_axes((0.12, 0.125, 0.85, 0.755))
    scores = compared(entry["scores"])
    singles = sorted(
        (name for name in scores if name != SCORE), key=lambda name: -(scores[name].get("auc") or 0)
    )
    colors = dict(zip((name for name in scores if name != SCORE), cycle(VARIABLE_COLORS), strict=False))
    if SCORE in scores:
        _draw_bands(ax, scores[SCORE])
        ax.plot(
            *_curve(scores[SCORE]), color=SCORE_COLOR, linewidth=2.4, zorder=4,
            label=f"{variable_label(SCORE)}  {_auc_text(scores[SCORE])}",
        )  # fmt: skip
    for name in singles:
        ax.plot(
            *_curve(scores[name]), color=colors[name], linewidth=1.1, zorder=3,
            linestyle=(0, (4, 1.5)),
            label=f"{variable_label(name)}  {_auc_text(scores[name])}",
        )  # fmt: skip
    strongest = _best_baseline(entry["scores"])
    if strongest is not None:
        ax.plot(
            *_curve(entry["scores"][strongest]), color=INK, linewidth=1.5, zorder=3.5, linestyle=(0, (1, 1)),
            # Its inputs are told in the tables: two columns of the legend hold no longer names.
            label=f"{contestant_label(strongest).split(' (')[0]}  {_auc_text(entry['scores'][strongest])}",
        )  # fmt: skip
    chance = np.logspace(np.log10(lowest), 0, 80)
    ax.plot(chance, chance, ":", color=MUTED, linewidth=1.1, label="Chance  0.5", zorder=2)
    rows = ceil((len(scores) + 1 + (strongest is not None)) / 2)
    free = 1 - (rows * 15.5 + 26) / (5.4 * 72 * 0.755)
    ax.set(xscale="log", xlim=(lowest, 1.0), ylim=(0.0, 1.02 / free))
    ax.yaxis.set_major_locator(FixedLocator(list(np.linspace(0, 1, 6))))
    ax.yaxis.set_minor_locator(FixedLocator(list(np.linspace(0, 1, 21))))
    ax.axhline(1.0, color=INK, linewidth=0.6, zorder=1)
    ax.set_xlabel(r"Background efficiency $\varepsilon_{B}$")
    ax.set_ylabel(r"Signal efficiency $\varepsilon_{S}$", y=free / 1.02, ha="right")
    known = (scores.get(SCORE, {}).get("significance_improvement") or {}).get("least_eps_b")
    edge = min(1.0, known or (FEWEST_EVENTS / n_eff if n_eff else 0.0))
    if edge > lowest:
        ax.axvspan(lowest, edge, ymax=free / 1.02, color=MUTED, alpha=0.13, linewidth=0, zorder=0.5)
        ax.annotate(
            "too few background events", (edge, 0.02), (-2, 0), textcoords="offset points", fontsize=9,
            color=MUTED, rotation=90, ha="right", va="bottom", zorder=1,
        )  # fmt: skip
    ax.legend(
        loc="upper left", ncols=2, fontsize=10.5 if strongest is None else 9.0, mode="expand",
        bbox_to_anchor=(0.015, 0, 0.97, 0.985), handlelength=1.6, handletextpad=0.5,
        borderaxespad=0, title=f"{label}:  AUC", title_fontproperties={"size": 11.5}, alignment="left",
    )  # fmt: skip
    stamp(ax, sample, subtitle="background: held-out events")
    return figure


@styled
def auc_overview(
    signals: Mapping[str, Mapping[str, Any]],
    *,
    labels: Mapping[str, str],
    sample: Sample,
    working_point: str = "1e-2",
) -> Figure:
    """Draw, for each signal, AUC and ε_S of the score beside the best and all other single variables.

    Args:
        signals: the part ``signals`` of a region of ``evaluate.json``; not empty.
        labels: name of each signal.
        sample: what the figure was made from.
        working_point: key of the background efficiency in ``eps_s``.
    """
    order = sorted(signals, key=lambda key: signals[key]["scores"].get(SCORE, {}).get("auc") or 0.0)
    roles = {role for entry in signals.values() for role in _beside(entry)}
    above = 0.22 if roles else 0.0  # of a second line of the legend [inches]
    height = 1.75 + above + 0.42 * len(order)
    figure = new_figure(8.4, height)
    axes = figure.subplots(1, 2, sharey=True)
    for row, key in enumerate(order):
        scores = compared(signals[key]["scores"])
        best = best_variable(scores)
        _draw_seeds(axes, row, scores.get(SCORE, {}).get("seeds"), working_point)
        for name, entry in [*scores.items(), *_beside(signals[key]).items()]:
            eps = (entry.get("eps_s") or {}).get(working_point) or {}
            pairs = ((entry.get("auc"), entry.get("auc_error")), (eps.get("value"), eps.get("error")))
            for panel, (value, error) in zip(axes, pairs, strict=True):
                if value is not None:
                    _draw_point(panel, row, value, error, name=name, best=best)
    first, second = axes
    first.set(yticks=range(len(order)), ylim=(-0.6, len(order) - 0.25))
    names = first.set_yticklabels([labels[key] for key in order])
    left = left_of_labels(figure, names)
    figure.subplots_adjust(
        left=left, right=0.975, bottom=0.62 / height, top=1 - (1.0 + above) / height, wspace=0.1
    )
    first.axvline(0.5, color=MUTED, linestyle=":", linewidth=1.0, zorder=1)
    first.set_xlabel("AUC")
    background_efficiency = f"10$^{{{round(np.log10(float(working_point)))}}}$"
    second.set_xlabel(rf"$\varepsilon_{{S}}$ at $\varepsilon_{{B}}$ = {background_efficiency}")
    second.set_xlim(-0.03, 1.03)
    first.set_xlim(max(0.0, min(0.45, first.get_xlim()[0])), 1.015)
    for panel in axes:
        panel.tick_params(axis="y", which="both", length=0)
        panel.yaxis.set_minor_locator(NullLocator())
        for row in range(len(order)):
            panel.axhline(row, color="#e3e5e8", linewidth=0.8, zorder=0)
    handles = [
        Line2D([], [], color=SCORE_COLOR, marker="o", linestyle="none", markersize=7),
        Line2D([], [], color=RIVAL_COLOR, marker="D", linestyle="none", markersize=6, fillstyle="none"),
        Line2D([], [], color="#9aa0a8", marker="|", linestyle="none", markersize=9, markeredgewidth=1.4),
    ]
    texts = ["Anomaly score", "Single variable of largest AUC", "Other single variables"]
    for role, text in _MARK_TEXTS.items():
        if role in roles:
            handles.append(Line2D([], [], **_MARKS[role]))
            texts.append(text)
    figure.legend(
        handles, texts, loc="upper left", ncols=3, fontsize=10.5, borderaxespad=0,
        bbox_to_anchor=(min(left, 0.27) - 0.015, 1 - 0.66 / height), handletextpad=0.3,
    )  # fmt: skip
    stamp_high(figure, sample, height, left=min(left, 0.27))
    return figure


def _beside(entry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What stands beside the score and single variables of a signal: the best baseline and the supervised ceiling."""
    strongest = _best_baseline(entry["scores"])
    found = {"ceiling": entry.get("ceiling")} if entry.get("ceiling") else {}
    return found | ({"baseline": entry["scores"][strongest]} if strongest else {})


def _draw_seeds(
    panels: Sequence[Axes], row: int, seeds: Mapping[str, Any] | None, working_point: str
) -> None:
    """Draw the range over the networks of an ensemble behind its score."""
    ranges = (seeds["auc"], seeds["eps_s"].get(working_point) or {}) if seeds else ()
    for panel, span in zip(panels, ranges, strict=False):
        if span.get("min") is not None:
            panel.plot(
                [span["min"], span["max"]], [row, row], color=SCORE_COLOR, alpha=0.3, linewidth=9, zorder=3,
                solid_capstyle="butt",
            )  # fmt: skip


def left_of_labels(figure: Figure, labels: Sequence[Text]) -> float:
    """Where panels start so that their longest label is seen, as a fraction of the width; half of it at most."""
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]  # matplotlib has no type
    widest = max(label.get_window_extent(renderer).width for label in labels)
    return min(0.5, (widest + 14 * figure.dpi / 72) / figure.bbox.width)


def stamp_high(figure: Figure, sample: Sample, height: float, *, left: float) -> None:
    """Write the stamp above a legend that stands outside of the frames."""
    frame = figure.add_axes((left, 1 - 0.66 / height, 0.975 - left, 0.05 / height), frameon=False)
    frame.set(xticks=[], yticks=[])
    frame.tick_params(which="both", length=0)
    stamp(frame, sample, subtitle="background: held-out events")


_AT_THE_FRAME = 0.93  # from here on a name would run over the frame at 1

_MARKS: dict[str, dict[str, Any]] = {
    "baseline": {"color": INK, "marker": "x", "linestyle": "none", "markersize": 6.5, "markeredgewidth": 1.5},
    "ceiling": {
        "color": "#009E73",
        "marker": "^",
        "linestyle": "none",
        "markersize": 6.5,
        "fillstyle": "none",
    },
}

_MARK_TEXTS = {"baseline": "Baseline of largest AUC", "ceiling": "Saw the signal"}


def _draw_point(
    panel: Axes, row: int, value: float, error: float | None, *, name: str, best: str | None
) -> None:
    """Draw one score of one signal: the model's as a dot, the best variable as a diamond, others as ticks."""
    if name == SCORE:
        panel.errorbar(
            value, row, xerr=error or 0.0, fmt="o", color=SCORE_COLOR, markersize=7, elinewidth=1.4, zorder=5
        )
    elif name == best:
        panel.errorbar(
            value, row, xerr=error or 0.0, fmt="D", color=RIVAL_COLOR, markersize=6, fillstyle="none",
            elinewidth=1.2, zorder=4,
        )  # fmt: skip
        inwards = value > _AT_THE_FRAME
        panel.annotate(
            variable_label(name), (value, row), (3 if inwards else 0, 7), textcoords="offset points",
            ha="right" if inwards else "center", va="bottom",
            fontsize=9, color=RIVAL_COLOR, zorder=6,
        )  # fmt: skip
    elif name in _MARKS:
        panel.plot(value, row, zorder=4.5, **_MARKS[name])
    else:
        panel.plot(value, row, "|", color="#9aa0a8", markersize=9, markeredgewidth=1.4, zorder=2)
