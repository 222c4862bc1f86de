"""By how much a cut on a score improves the significance: ε_S/√ε_B along the signal efficiency."""

from collections.abc import Mapping
from math import floor, log10
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from report.power import SCORE, SCORE_COLOR, compared, contestant_label
from report.processes import Floats
from report.style import INK, MUTED, Sample, new_figure, stamp, styled

__all__ = ["improvement_curves"]

_DASHES = ((0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), "-")
_COLORS = ("#D55E00", "#009E73", "#CC79A7", "#111111")


def _curve(entry: Mapping[str, Any], eps_s: Any) -> tuple[Floats, Floats]:
    """ε_S and ε_S/√ε_B along a curve of ``evaluate.json``, from the first event on."""
    eps_b, eps_s = np.asarray(entry["roc"]["eps_b"]), np.asarray(eps_s)
    used = eps_b > 0
    return eps_s[used], eps_s[used] / np.sqrt(eps_b[used])


def _rivals(entry: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Label, mark and curve of what the score is compared with: best variable, best baseline, ceiling."""

    def best(role: str) -> str | None:
        known = {
            name: found["significance_improvement"]["value"]
            for name, found in compared(entry["scores"], (role,)).items()
            if name != SCORE and found["significance_improvement"]["value"] is not None
        }
        return max(known, key=lambda name: known[name], default=None)

    rivals = [
        (f"{contestant_label(name).partition(' (')[0]} (best {role})", name, entry["scores"][name])
        for role in ("variable", "baseline")
        if (name := best(role)) is not None
    ]
    ceiling = entry.get("ceiling")
    if ceiling and ceiling["roc"]["eps_b"]:
        rivals.append(("Trees that saw this signal", "ceiling", ceiling))
    return rivals


@styled
def improvement_curves(entry: Mapping[str, Any], *, label: str, sample: Sample) -> Figure:
    """Draw the significance improvement of the score against the signal efficiency, beside its best rivals.

    Lines end where fewer than ten effective background events are left; that of the score goes on as a thin one. The
    bands are the statistical error and, fainter, the range over the networks of an ensemble.

    Args:
        entry: the signal's part of ``evaluate.json``.
        label: name of the signal.
        sample: what the figure was made from.
    """
    figure = new_figure(6.0, 5.4)
    ax = figure.add_axes((0.13, 0.125, 0.825, 0.755))
    score = entry["scores"][SCORE]
    top, first = 1.0, 1.0
    curve = score["roc"]
    lines = [("Anomaly score", SCORE, score), *_rivals(entry)]
    for place, (text, name, found) in enumerate(lines):
        eps_s, factor = _curve(found, found["roc"]["eps_s"])
        eps_b = np.asarray(found["roc"]["eps_b"])
        told = eps_b[eps_b > 0] >= _least(found)
        top = max(top, float(factor[told].max(initial=1.0)))
        first = min(first, float(eps_s[told].min(initial=1.0)))
        style: dict[str, Any] = (
            {"color": SCORE_COLOR, "linewidth": 2.4, "zorder": 5}
            if name == SCORE
            else {"color": _COLORS[place - 1], "linewidth": 1.5, "linestyle": _DASHES[place - 1], "zorder": 4}
        )
        ax.plot(eps_s[told], factor[told], label=f"{text}  {_largest(found)}", **style)
        if name == SCORE:
            # What so few events say may be far above everything, where the legend is.
            seen = ~told & (factor <= top)
            ax.plot(eps_s[seen], factor[seen], color=SCORE_COLOR, linewidth=0.8, zorder=3)
    eps_s, factor = _curve(score, curve["eps_s"])
    eps_b = np.asarray(curve["eps_b"])
    eps_b = eps_b[eps_b > 0]
    told = eps_b >= _least(score)
    spread = np.asarray(curve["error"])[-len(eps_b) :] / np.sqrt(eps_b)
    ax.fill_between(
        eps_s[told], (factor - spread)[told], (factor + spread)[told], color=SCORE_COLOR, alpha=0.28, linewidth=0,
        zorder=2.6,
    )  # fmt: skip
    seeds = (score.get("seeds") or {}).get("roc")
    if seeds:
        low, high = (_curve(score, seeds[end])[1] for end in ("low", "high"))
        top = max(top, float(high[told].max(initial=1.0)))
        ax.fill_between(
            eps_s[told], low[told], high[told], color=SCORE_COLOR, alpha=0.14, linewidth=0, zorder=2.5,
            label=f"range of {score['seeds']['n']} networks",
        )  # fmt: skip
    unknown = eps_s[~told].max(initial=0.0)
    if unknown > 0:
        ax.axvspan(0, unknown, color=MUTED, alpha=0.13, linewidth=0, zorder=0.5)
        ax.annotate(
            "too few background events", (unknown, 0.02), (-2, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", fontsize=9, color=MUTED, rotation=90, ha="right", va="bottom", zorder=1,
        )  # fmt: skip
    ax.axhline(1.0, color=INK, linestyle=":", linewidth=1.0, zorder=1)
    rows = len(lines) + bool(seeds)
    free = 1 - (rows * 15.5 + 26) / (5.4 * 72 * 0.755)
    left = _left(first)
    ax.set(xlim=(left, 1), ylim=(0, 1.06 * top / free))
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_minor_locator(NullLocator() if left else FixedLocator(list(np.linspace(0, 1, 21))))
    ax.set_xlabel(r"Signal efficiency $\varepsilon_{S}$")
    ax.set_ylabel(r"Significance improvement $\varepsilon_{S}\,/\,\sqrt{\varepsilon_{B}}$", y=0.9, ha="right")
    ax.legend(
        loc="upper left", fontsize=10.5, bbox_to_anchor=(0.015, 0, 0.97, 0.985), borderaxespad=0, alignment="left",
        title=f"{label}:  largest improvement", title_fontproperties={"size": 11.5},
    )  # fmt: skip
    stamp(ax, sample, subtitle="background: held-out events")
    return figure


def _left(first: float) -> float:
    """Where the axis starts: at zero, or a little below what is told where that is a small part of the whole."""
    return first - 0.4 * (1 - first) if 0.6 < first < 1 else 0.0


def _largest(entry: Mapping[str, Any]) -> str:
    """Largest improvement ± error, and the background efficiency at which it is."""
    found = entry["significance_improvement"]
    if found["value"] is None:
        return "not measurable"
    places = 1 if found["error"] >= 0.05 else 2
    exponent = floor(log10(found["eps_b"]))
    mantissa = f"{found['eps_b'] / 10**exponent:.1f}"
    point = f"{mantissa}$\\times$10$^{{{exponent}}}$" if exponent < -1 else f"{found['eps_b']:.2g}"
    return f"{found['value']:.{places}f} ± {found['error']:.{places}f} at $\\varepsilon_{{B}}$ = {point}"


def _least(entry: Mapping[str, Any]) -> float:
    """Background efficiency from which on enough events are left."""
    return float(entry["significance_improvement"].get("least_eps_b") or 1.0)
