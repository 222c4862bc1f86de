"""Which figures a region has, and what is drawn in each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import hist
from matplotlib.figure import Figure

from report.mathtext import to_html, to_plain
from report.pictures import Drawing
from report.power import SCORE, auc_overview, draw_shapes, roc, score_shapes, signal_name
from report.processes import processes_of
from report.settings import ReportSettings
from report.stacks import draw_stack, stack_contents
from report.style import Sample
from report.training import architecture, layers_of, loss_curves

__all__ = ["Region", "input_drawings", "power_drawings", "score_drawings", "training_drawings"]


@dataclass(frozen=True)
class Region:
    """What the figures of one region are drawn from.

    Attributes:
        name: "2L".
        sample: what is written on every figure.
        datasets: its part of ``select.json``.
        histograms: of this region, by the name without the region: "met_et", "score/table-small".
        evaluation: its part of ``evaluate.json``, or empty.
        models: card and history by name of the model.
        settings: what is drawn.
    """

    name: str
    sample: Sample
    datasets: Mapping[str, Mapping[str, Any]]
    histograms: Mapping[str, hist.Hist]
    evaluation: Mapping[str, Any]
    models: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
    settings: ReportSettings = field(default_factory=ReportSettings)

    @property
    def model(self) -> str:
        """Name of the model whose score is the main picture: the evaluated one, else the first scored."""
        scored = sorted(name.removeprefix("score/") for name in self.histograms if name.startswith("score/"))
        evaluated = str(self.evaluation.get("model", {}).get("name", ""))
        return evaluated if evaluated in scored or not scored else scored[0]


def _drawing(
    region: Region, draw: Callable[[], Figure], data: Mapping[str, Any], *, name: str, title: str, alt: str
) -> Drawing:
    """A drawing of a region, called ``<region>_<name>``, with its origin beside the numbers."""
    sample = region.sample
    origin = {
        "sample": sample.kind,
        "region": region.name,
        "lumi_pb": sample.lumi_pb,
        "sqrt_s_tev": sample.sqrt_s_tev,
        "doi": sample.doi,
        "complete": sample.complete,
    }
    return Drawing(
        name=f"{region.name}_{name}",
        title=title,
        alt=f"{alt} Region {region.name}.",
        draw=draw,
        data={"origin": origin, **data},
    )


def _stack_drawing(
    region: Region, histogram: hist.Hist, *, name: str, title: str, blind: float | None
) -> Drawing:
    """Stack one histogram."""
    settings = region.settings
    stack = stack_contents(
        histogram, region.datasets, signals=settings.signals, max_overlays=settings.max_overlays, blind=blind
    )
    parts = [to_plain(process.label) for process, _ in reversed(stack.backgrounds)]
    alt = f"Stacked histogram of {to_plain(stack.xlabel)}: {', '.join(parts) or 'no background'}."
    if stack.data is not None:
        alt += " Data points with Poisson errors."
    if stack.signals:
        alt += f" Signals as lines: {', '.join(to_plain(process.label) for process, *_ in stack.signals)}."
    draw = partial(draw_stack, stack, sample=region.sample)
    return _drawing(region, draw, stack.to_dict(), name=name, title=title or to_html(stack.xlabel), alt=alt)


def score_drawings(region: Region) -> list[Drawing]:
    """Draw the stacked score of each model; the main one first, as ``<region>_score``."""
    drawings = []
    scored = sorted(name for name in region.histograms if name.startswith("score/"))
    for key in sorted(scored, key=lambda name: name != f"score/{region.model}"):
        model = key.removeprefix("score/")
        name = "score" if model == region.model else f"score_{model}"
        title = f"Anomaly score of the model {model}, region {region.name}"
        drawings.append(
            _stack_drawing(
                region, region.histograms[key], name=name, title=title, blind=region.settings.blind_score
            )
        )
    return drawings


def input_drawings(region: Region) -> tuple[list[Drawing], list[Drawing]]:
    """Draw input variables, data against simulation.

    Returns:
        The chosen variables, and all others where they are wanted.
    """
    known = [name for name in region.histograms if not name.startswith("score/")]
    chosen = [name for name in region.settings.variables if name in known]
    others = [name for name in known if name not in chosen] if region.settings.all_variables else []
    first, rest = (
        [_stack_drawing(region, region.histograms[name], name=name, title="", blind=None) for name in names]
        for names in (chosen, others)
    )
    return first, rest


def power_drawings(region: Region) -> list[Drawing]:
    """Overview, shapes and ROC curves of the signals; nothing where there are none.

    More signals than ``max_power_figures`` are drawn by families, all members of one together.
    """
    signals: Mapping[str, Mapping[str, Any]] = region.evaluation.get("signals") or {}
    many = len(signals) > region.settings.max_power_figures
    drawn: Mapping[str, Mapping[str, Any]] = (
        region.evaluation.get("families") or {} if many else _by_process(signals)
    )
    processes = processes_of(region.datasets)
    labels = {
        name: str(entry["label"]) if many else signal_name(name, entry, processes)
        for name, entry in drawn.items()
    }
    drawings = []
    if drawn:
        drawings.append(
            _drawing(
                region,
                partial(auc_overview, drawn, labels=labels, sample=region.sample),
                {"signals": _without_curves(drawn)},
                name="power",
                title=f"Power per {'family of signals' if many else 'signal'}, beside single variables",
                alt="AUC and signal efficiency of the score and of single variables for each signal; "
                "the numbers are in the table.",
            )
        )
    key = f"score/{region.model}"
    if key in region.histograms:
        drawings += _shape_drawings(region, region.histograms[key])
    n_eff = region.evaluation.get("background", {}).get("n_eff")
    for name, entry in drawn.items():
        if entry["scores"].get(SCORE, {}).get("roc", {}).get("eps_b"):
            drawings.append(
                _drawing(
                    region,
                    partial(roc, entry, label=labels[name], sample=region.sample, n_eff=n_eff),
                    {"signal": name, "n_eff_background": n_eff, "scores": entry["scores"]},
                    name=f"roc_{name}",
                    title=f"ROC: {to_html(labels[name])}",
                    alt=f"Signal against background efficiency for {to_plain(labels[name])}, of the score "
                    "and of single variables.",
                )
            )
    return drawings


def _by_process(signals: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Signals by the short name of their process, or of their dataset where two share a process."""
    processes = [str(entry["process"]) for entry in signals.values()]
    return {
        process if processes.count(process) == 1 else key: entry
        for process, (key, entry) in zip(processes, signals.items(), strict=True)
    }


def _shape_drawings(region: Region, histogram: hist.Hist) -> list[Drawing]:
    """Shapes of the score, eight signals to a figure."""
    edges, background, signals = score_shapes(histogram, region.datasets)
    drawings = []
    for number, start in enumerate(range(0, len(signals), 8)):
        part = signals[start : start + 8]
        label = histogram.axes[-1].label
        draw = partial(draw_shapes, edges, background, part, xlabel=label, sample=region.sample)
        data = {
            "edges": edges.tolist(),
            "background": background.values.tolist(),
            "signals": {process.key: spectrum.values.tolist() for process, spectrum in part},
        }
        names = ", ".join(to_plain(process.label) for process, _ in part)
        drawings.append(
            _drawing(
                region,
                draw,
                data,
                name="shapes" if not number else f"shapes_{number + 1}",
                title=f"{to_html(label)}: background against each signal, unit area",
                alt=f"Score of the background against that of each signal: {names}.",
            )
        )
    return drawings


def _without_curves(signals: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Evaluation without ROC curves, which have files of their own."""
    return {
        key: {
            name: {field: value for field, value in score.items() if field != "roc"}
            for name, score in entry["scores"].items()
        }
        for key, entry in signals.items()
    }


def training_drawings(region: Region) -> list[Drawing]:
    """Draw loss curves and architecture of each model of the region."""
    drawings = []
    for name, (card, history) in region.models.items():
        draw = partial(
            loss_curves, history, sample=region.sample, name=name, collapsed=bool(card.get("collapsed"))
        )
        drawings.append(
            _drawing(
                region,
                draw,
                dict(history),
                name=f"loss_{name}",
                title=f"Loss of the model {name}",
                alt="Training and validation loss per epoch, and the level of predicting the mean.",
            )
        )
        layers = layers_of(card)
        if layers:
            draw = partial(architecture, layers, sample=region.sample, name=name)
            sizes = "-".join(str(size) for size, _ in layers)
            drawings.append(
                _drawing(
                    region,
                    draw,
                    {"layers": layers},
                    name=f"network_{name}",
                    title=f"Layers of the model {name}",
                    alt=f"Fully connected network {sizes}.",
                )
            )
    return drawings
