"""Displays of single events: the transverse and the longitudinal view, and what makes the event anomalous."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon

from processors.cells import KINDS, kind_of
from report.labels import Labels
from report.processes import Floats
from report.style import INK, MUTED, Sample, new_figure, stamp, styled

__all__ = ["Display", "Momentum", "draw_event_display", "input_text", "input_unit"]

JET_RADIUS: Final = 0.4
"""Distance parameter of the jets of both releases (anti-kt)."""

_LABELLED: Final = 0.04  # smallest length, as part of the longest, at which an object bears its momentum
_RAYS: Final = (0.5, 1.0, 1.5, 2.0, 2.5)
# Lengths of the figure [inches].
_WIDTH = 8.4
_SIDE = 3.125  # of a square view
_BARS = 1.25  # shares of the leading inputs, from their top to the note
_LINE = 0.21

_MARGIN = 1.6  # of the frame around the longest momentum, which has its number at its tip


class _Look(NamedTuple):
    """How one kind of object is drawn; kinds differ in form as well as in colour."""

    label: str
    symbol: str
    color: str
    linestyle: Literal["-", "--", ":"] = "-"
    hatch: str = ""


_LOOKS: Final = {
    "electron": _Look("Electron", "e", "#0072B2"),
    "muon": _Look("Muon", "μ", "#009E73", "--"),
    "jet": _Look("Jet, cone of 0.4", "j", "#E69F00"),
    "b-jet": _Look("b-jet", "b", "#D55E00", hatch="////"),
    "met": _Look(r"$E_T^{miss}$", r"$E_T^{miss}$", INK, ":"),
}


class Momentum(NamedTuple):
    """An object of an event: pt [GeV], eta, phi; eta of the missing momentum is not known."""

    kind: str
    pt: float
    eta: float | None
    phi: float


@dataclass(frozen=True)
class Display:
    """What is drawn of one event.

    Attributes:
        name: of the event.
        objects: all of it.
        has_jets: False where the input file was not at hand.
        facts: lines of text beside the shares.
        inputs: names and values of the leading inputs.
        shares: in the score, of each of these.
    """

    name: str
    objects: Sequence[Momentum]
    has_jets: bool
    facts: Sequence[str]
    inputs: Sequence[str]
    shares: Sequence[float]

    @classmethod
    def of(
        cls, event: Mapping[str, Any], *, name: str, facts: Sequence[str], inputs: Sequence[str]
    ) -> "Display":
        """From an entry of explanation.json with a `display`.

        Args:
            event: the entry.
            name: of the event.
            facts: lines of text.
            inputs: names and values of the leading inputs, in the order of their shares.
        """
        known = event["display"]
        jets = known["jets"]
        objects = [
            *(Momentum(o["flavour"], o["pt"], o["eta"], o["phi"]) for o in known["leptons"]),
            *(Momentum("b-jet" if o["b"] else "jet", o["pt"], o["eta"], o["phi"]) for o in jets or ()),
            Momentum("met", known["met"]["pt"], None, known["met"]["phi"]),
        ]
        shares = [entry["share"] for entry in event["leading"]]
        return cls(name, objects, jets is not None, facts, inputs, shares)


_UNITS: Final = {
    **dict.fromkeys(("pt", "E", "ptcone30", "etcone20"), "GeV"),
    **dict.fromkeys(("mll", "mlll", "mt2", "met_et", "ht", "st", "meff"), "GeV"),
    **dict.fromkeys(("trackd0pvunbiased", "z0"), "mm"),
}


def input_unit(name: str, *, in_gev: bool = True) -> str:
    """The unit of an input, "GeV" of "lep1_pt"; empty for one that has none.

    Args:
        name: a column of the shards.
        in_gev: energies and masses in the matrix are in GeV, not over sqrt(s).
    """
    unit = _UNITS.get(name.split("_", 1)[1] if name.startswith("lep") else name, "")
    cell = name == "met" or name.startswith(("mt_", "et_", "m_"))
    if cell and in_gev and KINDS[kind_of(name)].is_energy:
        unit = "GeV"
    return unit


def input_text(label: str, value: float, unit: str) -> str:
    """An input and its value with the unit: "$p_T$ = 254 GeV"."""
    text = (f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}").replace("-", "\u2212")
    return f"{label} = {text} {unit}".rstrip()


@styled
def draw_event_display(display: Display, *, sample: Sample) -> Figure:
    """Draw one event in two views, and the inputs that its score comes from.

    Transverse: momenta in the plane across the beams. Longitudinal: along the beams and across them, upwards where
    the azimuth is above the horizon.

    Args:
        display: the event.
        sample: what it is from.
    """
    below = _BARS if display.inputs else _LINE * len(display.facts)
    bottom = below + 1.36
    height = bottom + _SIDE + 0.56
    figure = new_figure(_WIDTH, height)
    across = figure.add_axes((0.115, bottom / height, _SIDE / _WIDTH, _SIDE / height))
    along = figure.add_axes((0.603, bottom / height, _SIDE / _WIDTH, _SIDE / height))
    reach = _MARGIN * max(momentum.pt for momentum in display.objects)
    _draw_across(across, display.objects, reach)
    _draw_along(along, display.objects, reach)
    frame = figure.add_axes((0.115, bottom / height, 0.86, _SIDE / height), frameon=False)
    frame.set(xticks=[], yticks=[])
    frame.tick_params(which="both", length=0)
    frame.set_zorder(-1)
    stamp(frame, sample, subtitle=display.name)
    _draw_legend(figure, display, (bottom - 0.62) / height)
    _draw_leading(figure, display, height)
    return figure


def _draw_across(ax: Axes, objects: Sequence[Momentum], reach: float) -> None:
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set_xlabel(r"$p_x$ [GeV]", fontsize=12)
    ax.set_ylabel(r"$p_y$ [GeV]", fontsize=12)
    turn = np.linspace(0, 2 * np.pi, 181)
    for radius in [tick for tick in ax.get_xticks() if 0 < tick < reach]:
        ax.plot(radius * np.cos(turn), radius * np.sin(turn), color="#e3e5e8", linewidth=0.8, zorder=0)
    labels = Labels(ax)
    for momentum in objects:
        direction = np.array([np.cos(momentum.phi), np.sin(momentum.phi)])
        cone = None
        if "jet" in momentum.kind:
            arc = momentum.phi + np.linspace(-JET_RADIUS, JET_RADIUS, 21)
            cone = momentum.pt * np.column_stack([np.cos(arc), np.sin(arc)])
        _draw_object(ax, momentum, momentum.pt * direction, cone)
        _name_object(labels, momentum, momentum.pt * direction, reach)
    labels.write()


def _draw_along(ax: Axes, objects: Sequence[Momentum], reach: float) -> None:
    seen = [momentum for momentum in objects if momentum.eta is not None]
    tips = [momentum.pt * np.sinh(momentum.eta) for momentum in seen if momentum.eta is not None]
    length = _MARGIN * max([abs(tip) for tip in tips] + [reach / _MARGIN])
    ax.set(xlim=(-length, length), ylim=(-reach, reach))
    ax.set_xlabel(r"$p_z$ [GeV]", fontsize=12)
    ax.set_ylabel(r"$\pm p_T$ [GeV]", fontsize=12)
    rays: list[tuple[str, list[tuple[float, float]]]] = []
    for eta in _RAYS:
        for side in (-1, 1):
            # To the frame, which the ray meets above or at the side.
            end = min(reach, length / np.sinh(eta))
            x, y = side * end * np.sinh(eta), end
            ax.plot([-x, 0, x], [-y, 0, -y], color="#e3e5e8", linewidth=0.8, zorder=0)
            ax.plot([-x, 0, x], [y, 0, y], color="#e3e5e8", linewidth=0.8, zorder=0)
            if eta == round(eta):
                sign = "\u2212" if side < 0 else ""
                places = [(part * x, up * part * y) for up in (1, -1) for part in (0.78, 0.62, 0.46)]
                rays.append((rf"$\eta$ = {sign}{eta:g}", places))
    labels = Labels(ax)
    for momentum in seen:
        assert momentum.eta is not None  # those without were left out above
        up = 1.0 if np.sin(momentum.phi) >= 0 else -1.0
        tip = np.array([momentum.pt * np.sinh(momentum.eta), up * momentum.pt])
        cone = None
        if "jet" in momentum.kind:
            arc = momentum.eta + np.linspace(-JET_RADIUS, JET_RADIUS, 21)
            whole = momentum.pt * np.cosh(momentum.eta)
            cone = whole * np.column_stack([np.tanh(arc), up / np.cosh(arc)])
        _draw_object(ax, momentum, tip, cone)
        _name_object(labels, momentum, tip, reach)
    for text, places in rays:
        labels.beside(text, places, fontsize=8.5, color=MUTED, zorder=1)
    labels.write()


def _draw_object(ax: Axes, momentum: Momentum, tip: Floats, cone: Floats | None) -> None:
    """A vector from the origin, of a jet a cone."""
    look = _LOOKS[momentum.kind]
    if cone is not None:
        corners = np.concatenate([[[0.0, 0.0]], cone])
        ax.add_patch(
            Polygon(corners, facecolor=look.color, alpha=0.35, edgecolor="none", zorder=2),
        )
        ax.add_patch(
            Polygon(
                corners, facecolor="none", edgecolor=look.color, linewidth=1.1, hatch=look.hatch, zorder=2.5
            )
        )
    else:
        ax.plot([0, tip[0]], [0, tip[1]], color=look.color, linestyle=look.linestyle, linewidth=2.4, zorder=4)
        ax.plot(tip[0], tip[1], "o", color=look.color, markersize=5.5, zorder=4.5)


def _name_object(labels: Labels, momentum: Momentum, tip: Floats, reach: float) -> None:
    """Its symbol and transverse momentum at the tip, where it is not too short to be told from others."""
    look = _LOOKS[momentum.kind]
    text = look.symbol if momentum.kind == "met" else f"{look.symbol} {momentum.pt:.0f}"
    labels.vector(tip, text if momentum.pt > _LABELLED * reach else "", fontsize=9.5, color=INK, zorder=6)


def _draw_legend(figure: Figure, display: Display, top: float) -> None:
    """Kinds of objects that are there, between the views and the shares."""
    kinds = [kind for kind in _LOOKS if any(momentum.kind == kind for momentum in display.objects)]
    handles = [
        Patch(
            facecolor=(_LOOKS[kind].color, 0.35),
            edgecolor=_LOOKS[kind].color,
            hatch=_LOOKS[kind].hatch,
            label=_LOOKS[kind].label,
        )
        if "jet" in kind
        else Line2D(
            [], [], color=_LOOKS[kind].color, linestyle=_LOOKS[kind].linestyle, linewidth=2.4, marker="o", markersize=5,
            label=_LOOKS[kind].label,
        )
        for kind in kinds
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="upper left", ncols=len(handles), fontsize=10, bbox_to_anchor=(0.075, top),
        borderaxespad=0, handlelength=2.4,
    )  # fmt: skip
    note = "Numbers: transverse momentum [GeV]."
    if not display.has_jets:
        note += " Jets are not shown: the input file is not at hand."
    figure.text(0.98, 0.12 / figure.get_figheight(), note, fontsize=9, color=MUTED, ha="right", va="center")


def _draw_leading(figure: Figure, display: Display, height: float) -> None:
    """Shares of the leading inputs as bars, and facts about the event."""
    scored = bool(display.inputs)
    top = (_BARS if scored else _LINE * len(display.facts)) + 0.3
    figure.text(
        0.6 if scored else 0.083,
        top / height,
        "\n".join(display.facts),
        fontsize=10,
        va="top",
        linespacing=1.5,
    )
    if not scored:
        return
    ax = figure.add_axes((0.3, 0.52 / height, 0.27, 1.03 / height))
    places = np.arange(len(display.shares))
    ax.barh(places, display.shares, height=0.62, color="#7a7f87", zorder=2)
    ax.set_yticks(places, display.inputs, fontsize=9.5)
    ax.set_ylim(len(places) - 0.4, -0.6)
    ax.set_xlim(0, 1.15 * max([*display.shares, 0.01]))
    ax.tick_params(axis="y", which="both", length=0)
    ax.tick_params(axis="x", labelsize=9.5)
    ax.minorticks_off()
    ax.set_xlabel("Share in the score", fontsize=10.5)
