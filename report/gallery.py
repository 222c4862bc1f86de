"""All figures of one region, drawn and saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import hist

from report.mathtext import to_html, to_plain
from report.pictures import Picture, save_picture
from report.power import SCORE, auc_overview, draw_shapes, roc, score_shapes, signal_name
from report.processes import processes_of
from report.settings import ReportSettings
from report.stacks import draw_stack, stack_contents
from report.style import Sample
from report.training import architecture, layers_of, loss_curves

__all__ = ["Region", "draw_inputs", "draw_power", "draw_scores", "draw_training"]


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
        folder: where figures go.
        settings: what is drawn.
    """

    name: str
    sample: Sample
    datasets: Mapping[str, Mapping[str, Any]]
    histograms: Mapping[str, hist.Hist]
    evaluation: Mapping[str, Any]
    models: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
    folder: Path
    settings: ReportSettings = field(default_factory=ReportSettings)

    @property
    def model(self) -> str:
        """Name of the model whose score is the main picture: the evaluated one, else the first scored."""
        scored = sorted(name.removeprefix("score/") for name in self.histograms if name.startswith("score/"))
        evaluated = str(self.evaluation.get("model", {}).get("name", ""))
        return evaluated if evaluated in scored or not scored else scored[0]


def _save(
    region: Region, figure: Any, data: Mapping[str, Any], *, name: str, title: str, alt: str
) -> Picture:
    """Save a figure of a region under ``<region>_<name>``, with its origin beside the numbers."""
    sample = region.sample
    origin = {
        "sample": sample.kind, "region": region.name, "lumi_pb": sample.lumi_pb, "sqrt_s_tev": sample.sqrt_s_tev,
        "doi": sample.doi, "complete": sample.complete,
    }  # fmt: skip
    return save_picture(
        figure,
        {"origin": origin, **data},
        folder=region.folder,
        name=f"{region.name}_{name}",
        title=title,
        alt=f"{alt} Region {region.name}.",
        dpi=region.settings.png_dpi,
    )


def _stack_picture(
    region: Region, histogram: hist.Hist, *, name: str, title: str, blind: float | None
) -> Picture:
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
    figure = draw_stack(stack, sample=region.sample)
    return _save(region, figure, stack.to_dict(), name=name, title=title or to_html(stack.xlabel), alt=alt)


def draw_scores(region: Region) -> list[Picture]:
    """Draw the stacked score of each model; the main one first, as ``<region>_score``."""
    pictures = []
    scored = sorted(name for name in region.histograms if name.startswith("score/"))
    for key in sorted(scored, key=lambda name: name != f"score/{region.model}"):
        model = key.removeprefix("score/")
        name = "score" if model == region.model else f"score_{model}"
        title = f"Anomaly score of the model {model}, region {region.name}"
        pictures.append(
            _stack_picture(
                region, region.histograms[key], name=name, title=title, blind=region.settings.blind_score
            )
        )
    return pictures


def draw_inputs(region: Region) -> tuple[list[Picture], list[Picture]]:
    """Draw input variables, data against simulation.

    Returns:
        The chosen variables, and all others where they are wanted.
    """
    known = [name for name in region.histograms if not name.startswith("score/")]
    chosen = [name for name in region.settings.variables if name in known]
    others = [name for name in known if name not in chosen] if region.settings.all_variables else []
    first, rest = (
        [_stack_picture(region, region.histograms[name], name=name, title="", blind=None) for name in names]
        for names in (chosen, others)
    )
    return first, rest


def draw_power(region: Region) -> list[Picture]:
    """Draw overview, shapes and ROC curves of the signals; nothing where there are none."""
    signals: Mapping[str, Mapping[str, Any]] = region.evaluation.get("signals") or {}
    key = f"score/{region.model}"
    pictures = []
    processes = processes_of(region.datasets)
    labels = {name: signal_name(name, entry, processes) for name, entry in signals.items()}
    if signals:
        figure = auc_overview(signals, labels=labels, sample=region.sample)
        pictures.append(
            _save(
                region,
                figure,
                {"signals": _without_curves(signals)},
                name="power",
                title="Power per signal, beside single variables",
                alt="AUC and signal efficiency of the score and of single variables for each signal; "
                "the numbers are in the table.",
            )
        )
    if key in region.histograms:
        pictures += _shape_pictures(region, region.histograms[key])
    n_eff = region.evaluation.get("background", {}).get("n_eff")
    for name in _most_different(signals, region.settings.max_power_figures):
        entry = signals[name]
        figure = roc(entry, label=labels[name], sample=region.sample, n_eff=n_eff)
        pictures.append(
            _save(
                region,
                figure,
                {"signal": name, "n_eff_background": n_eff, "scores": entry["scores"]},
                name=f"roc_{name}",
                title=f"ROC: {to_html(labels[name])}",
                alt=f"Signal against background efficiency for {to_plain(labels[name])}, of the score and of "
                "single variables.",
            )
        )
    return pictures


def _shape_pictures(region: Region, histogram: hist.Hist) -> list[Picture]:
    """Shapes of the score, eight signals to a figure."""
    edges, background, signals = score_shapes(histogram, region.datasets)
    pictures = []
    for number, start in enumerate(range(0, len(signals), 8)):
        part = signals[start : start + 8]
        label = histogram.axes[-1].label
        figure = draw_shapes(edges, background, part, xlabel=label, sample=region.sample)
        data = {
            "edges": edges.tolist(),
            "background": background.values.tolist(),
            "signals": {process.key: spectrum.values.tolist() for process, spectrum in part},
        }
        names = ", ".join(to_plain(process.label) for process, _ in part)
        pictures.append(
            _save(
                region,
                figure,
                data,
                name="shapes" if not number else f"shapes_{number + 1}",
                title=f"{to_html(label)}: background against each signal, unit area",
                alt=f"Score of the background against that of each signal: {names}.",
            )
        )
    return pictures


def _without_curves(signals: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Evaluation without ROC curves, which have files of their own."""
    return {
        key: {
            name: {field: value for field, value in score.items() if field != "roc"}
            for name, score in entry["scores"].items()
        }
        for key, entry in signals.items()
    }


def _most_different(signals: Mapping[str, Mapping[str, Any]], largest_number: int) -> Sequence[str]:
    """Names of the signals that get their own figure: by turns one of each family, in the order given."""
    families: dict[str, list[str]] = {}
    for name, entry in signals.items():
        if SCORE in entry["scores"]:
            families.setdefault(str(entry.get("family", name)), []).append(name)
    turns = [
        (turn, place, name)
        for place, members in enumerate(families.values())
        for turn, name in enumerate(members)
    ]
    chosen = {name for *_, name in sorted(turns)[:largest_number]}
    return [name for name in signals if name in chosen]


def draw_training(region: Region) -> list[Picture]:
    """Draw loss curves and architecture of each model of the region."""
    pictures = []
    for name, (card, history) in region.models.items():
        figure = loss_curves(history, sample=region.sample, name=name, collapsed=bool(card.get("collapsed")))
        finite = {
            key: value for key, value in history.items() if not isinstance(value, float) or isfinite(value)
        }
        pictures.append(
            _save(
                region,
                figure,
                dict(finite),
                name=f"loss_{name}",
                title=f"Loss of the model {name}",
                alt="Training and validation loss per epoch, and the level of predicting the mean.",
            )
        )
        layers = layers_of(card)
        if layers:
            figure = architecture(layers, sample=region.sample, name=name)
            sizes = "-".join(str(size) for size, _ in layers)
            pictures.append(
                _save(
                    region,
                    figure,
                    {"layers": layers},
                    name=f"network_{name}",
                    title=f"Layers of the model {name}",
                    alt=f"Fully connected network {sizes}.",
                )
            )
    return pictures
