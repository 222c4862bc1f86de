"""Which figures a region has, and what is drawn in each."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Final

import hist
from matplotlib.figure import Figure

from processors.cells import MOMENTS, cell_label, cell_moments, one_cell
from processors.features import is_own
from processors.histograms import held_out, left_for_search
from report.architecture import architecture, layers_of, penalties_of
from report.mathtext import to_html, to_plain
from report.matrices import CellMeans, draw_event, draw_means, draw_ratio, means_to_dict
from report.pictures import Drawing
from report.power import SCORE, auc_overview, draw_shapes, roc, score_shapes, signal_name
from report.processes import Floats, Process, choose_signals, processes_of
from report.residuals import draw_error_shares, error_shares, shares_to_dict
from report.search import search_drawing
from report.settings import ReportSettings
from report.stacks import draw_stack, stack_contents
from report.style import Sample
from report.training import loss_curves

__all__ = [
    "Event",
    "Region",
    "cell_drawings",
    "event_drawings",
    "input_drawings",
    "matrix_drawings",
    "power_drawings",
    "region_drawing",
    "residual_drawings",
    "score_drawings",
    "scored_models",
    "training_drawings",
]

_LONGEST_LABEL: Final = 20  # letters of an input's label beside a bar


@dataclass(frozen=True)
class Event:
    """One event whose matrix is drawn.

    Attributes:
        dataset: that it is of.
        number: its eventNumber.
        cells: values of all cells, shape (cells,).
    """

    dataset: str
    number: int
    cells: Floats


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
        cell_names: of the rapidity-mass matrix, row by row; empty where the shards have none.
        cells: histograms by kind of cell, from the stage compare; empty where it was not run.
        events: whose matrices are drawn.
        searches: each a ``search.json``.
    """

    name: str
    sample: Sample
    datasets: Mapping[str, Mapping[str, Any]]
    histograms: Mapping[str, hist.Hist]
    evaluation: Mapping[str, Any]
    models: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
    settings: ReportSettings = field(default_factory=ReportSettings)
    cell_names: Sequence[str] = ()
    cells: Mapping[str, hist.Hist] = field(default_factory=dict)
    events: Sequence[Event] = ()
    searches: Sequence[Mapping[str, Any]] = ()

    @property
    def model(self) -> str:
        """Name of the model whose score is the main picture: the evaluated one, else the first scored."""
        scored = scored_models(self.histograms)
        evaluated = str(self.evaluation.get("model", {}).get("name", ""))
        if evaluated in scored or not scored:
            return evaluated
        return next((name for name in scored if name not in self.baselines), scored[0])

    @cached_property
    def labels(self) -> dict[str, str]:
        """Labels of variables and cells by their names, mathtext with units."""
        variables = {
            name: str(histogram.axes[-1].label)
            for name, histogram in self.histograms.items()
            if "/" not in name and histogram.axes[-1].label
        }
        return variables | {name: cell_label(name) for name in self.cell_names}

    def input_label(self, name: str) -> str:
        """What an input is called where there is little room: its label without the unit, or its name."""
        label = re.sub(r" \[\w+\]$", "", self.labels.get(name, name))
        return label if len(to_plain(label)) <= _LONGEST_LABEL else name

    @property
    def baselines(self) -> list[str]:
        """Names of the baselines that have scored the events."""
        return [
            name
            for name in scored_models(self.histograms)
            if name in self.models and self.models[name][0].get("role") == "baseline"
        ]


def scored_models(histograms: Iterable[str]) -> list[str]:
    """Names of the models in names of histograms "score/<model>"; further scores have "/<score>" behind them."""
    parts = (name.split("/") for name in histograms)
    return sorted(model[0] for head, *model in parts if head == "score" and len(model) == 1)


def region_drawing(
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
    return region_drawing(
        region, draw, stack.to_dict(), name=name, title=title or to_html(stack.xlabel), alt=alt
    )


def _searched(region: Region, model: str, histogram: hist.Hist) -> tuple[Region, hist.Hist]:
    """What may be shown of a score: of a model that was trained on data the luminosity that is left for the search."""
    card, _ = region.models.get(model, ({}, {}))
    searched = left_for_search(card)
    if searched == 1 or "split" not in histogram.axes.name:
        return region, histogram
    kinds = {name: str(region.datasets[name]["kind"]) for name in histogram.axes[0]}
    lumi_pb = region.sample.lumi_pb
    sample = replace(region.sample, lumi_pb=None if lumi_pb is None else lumi_pb * searched)
    return replace(region, sample=sample), held_out(histogram, kinds, searched=searched)


def score_drawings(region: Region) -> list[Drawing]:
    """Draw the stacked score of each model; the main one first, as ``<region>_score``.

    Baselines and further scores of a model are tabulated, and their histograms are in histograms.json and
    histograms.root.
    """
    drawings = []
    shown_models = [
        name
        for name in scored_models(region.histograms)
        if name == region.model or name not in region.baselines
    ]
    for model in sorted(shown_models, key=lambda model: model != region.model):
        key = f"score/{model}"
        name = "score" if model == region.model else f"score_{model}"
        title = f"Anomaly score of the model {model}, region {region.name}"
        shown, histogram = _searched(region, model, region.histograms[key])
        drawings.append(
            _stack_drawing(shown, histogram, name=name, title=title, blind=region.settings.score_limit)
        )
    return drawings


def input_drawings(region: Region) -> tuple[list[Drawing], list[Drawing]]:
    """Draw input variables, data against simulation.

    Returns:
        The chosen variables, and all others where they are wanted.
    """
    known = [name for name in region.histograms if "/" not in name]
    # Columns of the user's own are drawn as well: that is what they were made for.
    own = [name for name in known if is_own(name)]
    chosen = [name for name in dict.fromkeys([*region.settings.variables, *own]) if name in known]
    others = [name for name in known if name not in chosen] if region.settings.all_variables else []
    first, rest = (
        [_stack_drawing(region, region.histograms[name], name=name, title="", blind=None) for name in names]
        for names in (chosen, others)
    )
    return first, rest


def cell_drawings(region: Region) -> list[Drawing]:
    """Draw every cell of the matrix that is filled, data against simulation, where all variables are wanted."""
    if not region.settings.all_variables:
        return []
    filled = {cell for kind, whole in region.cells.items() if kind != MOMENTS for cell in whole.axes[1]}
    drawings = []
    for cell in region.cell_names:
        if cell in filled:
            histogram = one_cell(region.cells, cell)
            view: Any = histogram.view(flow=True)
            # Absent objects stand in the underflow: they are no small values.
            for content in (view["value"], view["variance"]):
                content[:, 0] = 0.0
            title = to_html(f"{cell}: {histogram.axes[-1].label}")
            drawing = _stack_drawing(region, histogram, name=f"cell_{cell}", title=title, blind=None)
            drawings.append(replace(drawing, preview=True))
    return drawings


def _means(region: Region, datasets: Sequence[str]) -> CellMeans:
    """Means of the cells over some datasets."""
    sumw = sum(float(region.datasets[name]["sumw"]) for name in datasets)
    return CellMeans.of(cell_moments(region.cells, region.cell_names, datasets), sumw)


def _of_kind(processes: Sequence[Process], kind: str) -> list[str]:
    return [name for process in processes if process.kind == kind for name in process.datasets]


def matrix_drawings(region: Region) -> tuple[list[Drawing], list[Drawing]]:
    """Draw the mean matrix of the background, and of other processes relative to it.

    Returns:
        Background and chosen signals; data and each process group of the background.
    """
    processes = processes_of(region.datasets)
    if not region.cells or not _of_kind(processes, "background"):
        return [], []
    background = _means(region, _of_kind(processes, "background"))
    in_gev = "energy" not in region.cells or "GeV" in region.cells["energy"].axes[-1].label
    whole = region_drawing(
        region,
        partial(
            draw_means, region.cell_names, background, sample=region.sample, name="background", in_gev=in_gev
        ),
        means_to_dict(region.cell_names, {"background": background}),
        name="rmm_background",
        title="Mean rapidity\u2013mass matrix of the background",
        alt="Mean of each cell of the rapidity-mass matrix over the simulated background.",
    )
    totals = {
        process.key: sum(float(region.datasets[name]["sumw"]) for name in process.datasets)
        for process in processes
    }
    signals = choose_signals(
        processes, totals, wanted=region.settings.signals, largest_number=region.settings.max_overlays
    )
    others = [process for process in processes if process.kind != "signal"]
    first, rest = (
        [
            drawing
            for process in chosen
            if (drawing := _ratio_drawing(region, process, background)) is not None
        ]
        for chosen in (signals, others)
    )
    return [whole, *first], rest


def _ratio_drawing(region: Region, process: Process, background: CellMeans) -> Drawing | None:
    """The mean matrix of a process over that of the background; None where it has no event."""
    means = _means(region, process.datasets)
    if not means.filled.any():
        return None
    name = process.key if process.kind != "data" else "data"
    return region_drawing(
        region,
        partial(
            draw_ratio, region.cell_names, means, background, sample=region.sample, name=process.label,
            against="background",
        ),
        means_to_dict(region.cell_names, {name: means, "background": background}),
        name=f"rmm_{name}",
        title=f"Rapidity\u2013mass matrix: {to_html(process.label)} over background",
        alt=f"Mean of each cell for {to_plain(process.label)}, divided by that of the background.",
    )  # fmt: skip


def event_drawings(region: Region) -> list[Drawing]:
    """Draw the matrices of single events."""
    if not region.cells:
        return []
    background = _means(region, _of_kind(processes_of(region.datasets), "background"))
    in_gev = "energy" not in region.cells or "GeV" in region.cells["energy"].axes[-1].label
    drawings = []
    for event in region.events:
        name = f"{event.dataset}, event {event.number}"
        draw = partial(
            draw_event,
            region.cell_names,
            event.cells,
            background,
            sample=region.sample,
            name=name,
            against="background",
            in_gev=in_gev,
        )
        drawings.append(
            region_drawing(
                region,
                draw,
                {"cells": list(region.cell_names), "values": event.cells.tolist()},
                name=f"rmm_{event.dataset}_{event.number}",
                title=f"Rapidity\u2013mass matrix of {to_html(name)}",
                alt=f"Cells of the rapidity-mass matrix of {name}, coloured by their ratio to the background.",
            )
        )
    return drawings


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
            region_drawing(
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
                region_drawing(
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


def residual_drawings(region: Region) -> list[Drawing]:
    """Draw which inputs the score of each signal comes from; of each background group where there are no signals."""
    histogram = region.histograms.get(f"residuals/{region.model}")
    if histogram is None:
        return []
    processes = [process for process in processes_of(region.datasets) if process.kind == "signal"]
    processes = processes or [p for p in processes_of(region.datasets) if p.kind == "background"]
    background, found = error_shares(histogram, region.datasets, processes)
    if background is None or not found:
        return []
    drawings = []
    for number, start in enumerate(range(0, len(found), 8)):
        part = found[start : start + 8]
        names = ", ".join(to_plain(shares.label) for shares in part)
        drawings.append(
            region_drawing(
                region,
                partial(
                    draw_error_shares,
                    background,
                    part,
                    sample=region.sample,
                    name=region.model,
                    labels=[region.input_label(name) for name in background.features],
                ),
                shares_to_dict(background, part),
                name="residuals" if not number else f"residuals_{number + 1}",
                title="Inputs that the score of an event comes from",
                alt=f"Largest shares of single inputs in the score for {names}, beside the background's.",
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
            region_drawing(
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
    """Draw loss curves and architecture of each model of the region, and what searches have tried."""
    drawings = []
    for name, (card, history) in region.models.items():
        if not history:  # a baseline, which was fitted at once
            continue
        draw = partial(
            loss_curves, history, sample=region.sample, name=name, collapsed=bool(card.get("collapsed"))
        )
        drawings.append(
            region_drawing(
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
            draw = partial(architecture, layers, sample=region.sample, name=name, remark=penalties_of(card))
            sizes = "-".join(str(layer.units) for layer in layers)
            total = sum(layer.parameters for layer in layers)
            drawings.append(
                region_drawing(
                    region,
                    draw,
                    {"layers": [layer._asdict() for layer in layers], "parameters": total},
                    name=f"network_{name}",
                    title=f"Layers of the model {name}",
                    alt=f"Fully connected network {sizes} with {total} parameters; the latent space is marked.",
                )
            )
    return drawings + [search_drawing(result, sample=region.sample) for result in region.searches]
