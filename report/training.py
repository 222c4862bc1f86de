"""How a model was trained."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from report.style import ALERT, MUTED, Sample, new_figure, stamp, styled

__all__ = ["loss_curves"]

_TRAIN, _VALIDATION, _OBJECTIVE = "#0072B2", "#D55E00", "#009E73"


@styled
def loss_curves(
    history: Mapping[str, Any], *, sample: Sample, name: str = "", collapsed: bool = False
) -> Figure:
    """Draw the squared error per epoch and the level of a model that only predicts the mean of its inputs.

    Where the epoch was chosen by something else than the error (of a VAE), that is drawn too. Of an ensemble it is the
    first network, beside the validation error of the others.

    Args:
        history: ``history.json`` of the model.
        sample: what the model was trained on.
        name: of the model, for the line above the frame.
        collapsed: the model is no better than that level; the figure says so.
    """
    figure = new_figure(6.0, 4.75 if collapsed else 4.4)
    ax = figure.add_axes((0.135, 0.14, 0.835, 0.66 if collapsed else 0.71))
    curves: list[tuple[str, str, str, Any]] = [
        ("loss", "Training", _TRAIN, "-"),
        ("val_loss", "Validation", _VALIDATION, (0, (5, 1.5))),
    ]
    if _has_own_objective(history):
        curves.append(("val_objective", "Validation objective", _OBJECTIVE, (0, (1.5, 1))))
    values: list[float] = []
    for key, label, color, dashes in curves:
        losses = np.asarray(history.get(key) or [], dtype=np.float64)
        if losses.size:
            epochs = np.arange(1, losses.size + 1)
            ax.plot(epochs, losses, color=color, linestyle=dashes, marker="o", markersize=3.2, label=label)
            values += losses[np.isfinite(losses)].tolist()
    for number, member in enumerate(history.get("members", ())[1:]):
        losses = np.asarray(member["val_loss"], dtype=np.float64)
        label = "Validation of other members" if number == 0 else "_"  # of which the legend shows none
        ax.plot(
            np.arange(1, losses.size + 1),
            losses,
            color=_VALIDATION,
            lw=0.8,
            alpha=0.5,
            label=label,
            zorder=1.5,
        )
        values += losses[np.isfinite(losses)].tolist()
    levels = (
        ("mean_predictor_loss", "Predicting the mean (training)", _TRAIN),
        ("val_mean_predictor_loss", "Predicting the mean (validation)", _VALIDATION),
    )
    for key, label, color in levels:
        if history.get(key) is not None:
            ax.axhline(history[key], color=color, linestyle=":", linewidth=1.4, label=label)
            values.append(float(history[key]))
    best = _best_epoch(history)
    if best:
        ax.axvline(
            best,
            color=MUTED,
            linestyle=(0, (1, 2)),
            linewidth=1.2,
            ymax=0.72,
            label=f"Kept: epoch {best}",
            zorder=1,
        )
    low, high = (min(values), max(values)) if values else (0.1, 1.0)
    if low > 0 and high / low > 5:
        ax.set(yscale="log", ylim=(low / 1.3, high * (high / low) ** 0.45))
    else:
        span = (high - low) or abs(high) or 1.0
        ax.set_ylim(max(0.0, low - 0.15 * span), high + 0.4 * span)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("Epoch")
    ax.set_ylabel("Mean squared error" + (", objective" if len(curves) > 2 else ""))
    if values:
        ax.legend(
            loc="upper left", ncols=2, fontsize=10, mode="expand", bbox_to_anchor=(0.015, 0, 0.97, 0.985),
            borderaxespad=0,
        )  # fmt: skip
    if collapsed:
        ax.text(
            0.5, 0.955, "COLLAPSED: no better than predicting the mean", transform=figure.transFigure, ha="center",
            va="center", color=ALERT, fontsize=12, fontweight="bold", zorder=8,
            bbox={"facecolor": "white", "edgecolor": ALERT, "boxstyle": "round,pad=0.35"},
        )  # fmt: skip
    stamp(ax, sample, subtitle=f"model {name}" if name else "")
    return figure


def _has_own_objective(history: Mapping[str, Any]) -> bool:
    """Whether the epoch was chosen by another number than the squared error of the validation split."""
    objective, losses = history.get("val_objective") or [], history.get("val_loss") or []
    return bool(objective) and (len(objective) != len(losses) or not np.allclose(objective, losses))


def _best_epoch(history: Mapping[str, Any]) -> int | None:
    """The epoch with the smallest validation objective, whose weights are kept; None if not recorded."""
    objective = history.get("val_objective") or history.get("val_loss") or []
    return int(np.argmin(objective)) + 1 if len(objective) else None
