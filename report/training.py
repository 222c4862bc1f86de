"""How a model was trained, and what it looks like."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from report.style import ALERT, INK, MUTED, Sample, new_figure, stamp, styled

__all__ = ["architecture", "layers_of", "loss_curves"]

_TRAIN, _VALIDATION = "#0072B2", "#D55E00"


@styled
def loss_curves(
    history: Mapping[str, Any], *, sample: Sample, name: str = "", collapsed: bool = False
) -> Figure:
    """Draw the loss per epoch and the level of a model that only predicts the mean of its inputs.

    Args:
        history: ``history.json`` of the model.
        sample: what the model was trained on.
        name: of the model, for the line above the frame.
        collapsed: the model is no better than that level; the figure says so.
    """
    figure = new_figure(6.0, 4.4)
    ax = figure.add_axes((0.135, 0.15, 0.835, 0.70))
    curves = (("loss", "Training", _TRAIN, "-"), ("val_loss", "Validation", _VALIDATION, (0, (5, 1.5))))
    values: list[float] = []
    for key, label, color, dashes in curves:
        losses = np.asarray(history.get(key) or [], dtype=np.float64)
        if losses.size:
            epochs = np.arange(1, losses.size + 1)
            ax.plot(epochs, losses, color=color, linestyle=dashes, marker="o", markersize=3.2, label=label)
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
    ax.set_ylabel("Loss")
    if values:
        ax.legend(
            loc="upper left", ncols=2, fontsize=10, mode="expand", bbox_to_anchor=(0.015, 0, 0.97, 0.985),
            borderaxespad=0,
        )  # fmt: skip
    if collapsed:
        ax.text(
            0.5, 0.08, "COLLAPSED: no better than predicting the mean", transform=ax.transAxes, ha="center",
            va="bottom", color=ALERT, fontsize=12, fontweight="bold", zorder=8,
            bbox={"facecolor": "white", "edgecolor": ALERT, "boxstyle": "round,pad=0.35"},
        )  # fmt: skip
    stamp(ax, sample, subtitle=f"model {name}" if name else "")
    return figure


def _best_epoch(history: Mapping[str, Any]) -> int | None:
    """The epoch with the smallest validation objective, whose weights are kept; None if not recorded."""
    objective = history.get("val_objective") or history.get("val_loss") or []
    return int(np.argmin(objective)) + 1 if len(objective) else None


@styled
def architecture(layers: Sequence[tuple[int, str]], *, sample: Sample, name: str = "") -> Figure:
    """Draw a fully connected network as bars, one a layer, as tall as it has units.

    Args:
        layers: number of units and activation of each layer, the input first ("") and the output last.
        sample: what the model was trained on.
        name: of the model, for the line above the frame.
    """
    figure = new_figure(6.0, 3.5)
    ax = figure.add_axes((0.03, 0.02, 0.94, 0.80))
    sizes = np.array([size for size, _ in layers], dtype=np.float64)
    # Square roots keep a bottleneck of two visible beside 529 inputs.
    heights = np.sqrt(sizes / sizes.max())
    width = 0.34
    narrowest = int(sizes[1:-1].min()) if len(layers) > 2 else 0
    for place, ((size, activation), height) in enumerate(zip(layers, heights, strict=True)):
        outer = place in {0, len(layers) - 1}
        color = "#5a5f66" if outer else "#D55E00" if size == narrowest else "#56B4E9"
        if place + 1 < len(layers):
            following = heights[place + 1]
            corners = [
                (place + width / 2, height / 2),
                (place + 1 - width / 2, following / 2),
                (place + 1 - width / 2, -following / 2),
                (place + width / 2, -height / 2),
            ]
            ax.add_patch(Polygon(corners, facecolor="#e7ebef", edgecolor="none", zorder=1))
        ax.add_patch(
            Rectangle(
                (place - width / 2, -height / 2),
                width,
                height,
                facecolor=color,
                edgecolor=INK,
                linewidth=0.6,
                zorder=2,
            )
        )
        ax.text(place, height / 2 + 0.03, f"{size}", ha="center", va="bottom", fontsize=12, color=INK)
        text = activation or ("input" if place == 0 else "")
        ax.text(place, -height / 2 - 0.04, text, ha="right" if len(layers) > 7 else "center", va="top",
                fontsize=9.5, color=MUTED, rotation=38 if len(layers) > 7 else 0, rotation_mode="anchor")  # fmt: skip
    ax.set(xlim=(-0.6, len(layers) - 0.4), ylim=(-0.82, 0.68))
    ax.set_axis_off()
    stamp(ax, sample, subtitle=f"model {name}" if name else "")
    return figure


def layers_of(card: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Read the layers of a network from its card.

    Args:
        card: ``card.json`` of the model, with its training settings and list of features.

    Returns:
        Units and activation of each layer, the input first; empty where the card does not tell.
    """
    settings = card.get("settings") or {}
    inputs = len(card.get("features") or ())
    if not inputs or "encoder" not in settings:
        return []
    widths = [*settings["encoder"], *settings.get("decoder", ()), inputs]
    activations = [*settings.get("encoder_activations", ()), *settings.get("decoder_activations", ())]
    activations += [""] * (len(widths) - len(activations))
    layers = [
        (inputs if width == "n" else int(width), str(activation))
        for width, activation in zip(widths, activations, strict=False)
    ]
    return [(inputs, ""), *layers]
