"""A network as a picture: one box a layer, with width and activation, the latent space marked."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon

from report.style import INK, MUTED, Sample, new_figure, stamp, styled

__all__ = ["Layer", "architecture", "layers_of", "penalties_of"]

_OUTER, _HIDDEN, _LATENT = "#dfe3e8", "#9fd0ee", "#e69f00"
_BOX = 0.62  # width of a box; layers are one apart
_SHORT = {"leakyrelu": "leaky ReLU", "relu": "ReLU"}


class Layer(NamedTuple):
    """A fully connected layer.

    Attributes:
        units: number of outputs.
        activation: "" for the inputs.
        role: "input", "encoder", "latent", "decoder" or "output".
        parameters: weights and biases that lead to it.
        gaussian: mean and logarithm of the variance of a Gaussian for each unit (the latent space of a VAE).
    """

    units: int
    activation: str
    role: str
    parameters: int
    gaussian: bool = False


def layers_of(card: Mapping[str, Any]) -> list[Layer]:
    """Read the layers of a network from its card.

    Args:
        card: ``card.json`` of the model, with its training settings and list of features.

    Returns:
        The layers, the input first; empty where the card does not tell.
    """
    settings = card.get("settings") or {}
    inputs = len(card.get("features") or ())
    if not inputs or "encoder" not in settings or settings.get("builder"):
        return []
    encoder, decoder = list(settings["encoder"]), list(settings.get("decoder", ()))
    widths = [inputs if width == "n" else int(width) for width in (*encoder, *decoder, inputs)]
    activations = [*settings.get("encoder_activations", ()), *settings.get("decoder_activations", ())]
    roles = ["encoder"] * (len(encoder) - 1) + ["latent"] + ["decoder"] * len(decoder) + ["output"]
    layers = [Layer(inputs, "", "input", 0)]
    for width, activation, role in zip(widths, activations, roles, strict=True):
        gaussian = role == "latent" and settings.get("kind") == "vae"
        parameters = (layers[-1].units + 1) * width * (2 if gaussian else 1)
        layers.append(Layer(width, str(activation), role, parameters, gaussian))
    return layers


def penalties_of(card: Mapping[str, Any]) -> str:
    """What else the settings say of the network, as one line: slope of leaky ReLU and penalties."""
    settings = card.get("settings") or {}
    used = {*settings.get("encoder_activations", ()), *settings.get("decoder_activations", ())}
    parts = (
        (f"leaky ReLU slope {settings.get('leaky_alpha')}", "leakyrelu" in used),
        (f"kernel L1 {settings.get('kernel_l1')}", settings.get("kernel_l1")),
        (f"activity L2 {settings.get('activity_l2')}", settings.get("activity_l2")),
        (
            f"β {settings.get('beta')}, draws per event: {settings.get('draws')}",
            settings.get("kind") == "vae",
        ),
    )
    return ", ".join(text for text, wanted in parts if wanted)


@styled
def architecture(layers: Sequence[Layer], *, sample: Sample, name: str = "", remark: str = "") -> Figure:
    """Draw a fully connected network as boxes, one a layer, the taller the more units it has.

    Args:
        layers: from `layers_of`.
        sample: what the model was trained on.
        name: of the model, for the line above the frame.
        remark: a line below the network, from `penalties_of`.
    """
    figure = new_figure(6.0, 3.9)
    ax = figure.add_axes((0.015, 0.02, 0.97, 0.82))
    widest = max(layer.units for layer in layers)
    # Square roots keep a bottleneck of two visible beside 529 inputs; a box has room for its number.
    heights = [0.16 + 0.84 * (layer.units / widest) ** 0.5 for layer in layers]
    small = len(layers) > 8
    for place, (layer, height) in enumerate(zip(layers, heights, strict=True)):
        if place + 1 < len(layers):
            _funnel(ax, place, height, heights[place + 1])
        _box(ax, place, height, layer, fontsize=11 if small else 13)
        text = _SHORT.get(layer.activation, layer.activation) or "inputs"
        ax.text(place, -height / 2 - 0.035, text, ha="right" if small else "center", va="top", fontsize=10,
                color=INK, rotation=40 if small else 0, rotation_mode="anchor")  # fmt: skip
        if layer.role == "latent":
            label = "latent space" + (": mean and log variance" if layer.gaussian else "")
            ax.text(place, 0.545, label, ha="center", va="bottom", fontsize=11, color=INK, fontweight="bold")
            ax.plot([place, place], [height / 2 + 0.02, 0.535], color=INK, linewidth=0.8, zorder=3)
    total = sum(layer.parameters for layer in layers)
    lines = f"{total:,} parameters"
    ax.text((len(layers) - 1) / 2, -0.86, lines + (f"; {remark}" if remark else ""), ha="center", va="bottom",
            fontsize=10, color=MUTED)  # fmt: skip
    ax.set(xlim=(-0.55, len(layers) - 0.45), ylim=(-0.88, 0.62))
    ax.set_axis_off()
    stamp(ax, sample, subtitle=f"model {name}" if name else "")
    return figure


def _funnel(ax: Axes, place: int, height: float, following: float) -> None:
    """Every unit of one layer is connected with every unit of the next."""
    left, right = place + _BOX / 2, place + 1 - _BOX / 2
    corners = [(left, height / 2), (right, following / 2), (right, -following / 2), (left, -height / 2)]
    ax.add_patch(Polygon(corners, facecolor="#eef1f4", edgecolor="none", zorder=1))


def _box(ax: Axes, place: int, height: float, layer: Layer, *, fontsize: float) -> None:
    color = _LATENT if layer.role == "latent" else _OUTER if layer.role in {"input", "output"} else _HIDDEN
    ax.add_patch(
        FancyBboxPatch(
            (place - _BOX / 2 + 0.03, -height / 2 + 0.03), _BOX - 0.06, height - 0.06, facecolor=color,
            edgecolor=INK, linewidth=1.8 if layer.role == "latent" else 0.8, zorder=2,
            boxstyle="round,pad=0.03,rounding_size=0.05", mutation_aspect=0.5,
        )
    )  # fmt: skip
    units = f"2 × {layer.units}" if layer.gaussian else f"{layer.units}"
    ax.text(place, 0, units, ha="center", va="center", fontsize=fontsize, color=INK, zorder=3)
