"""The page: one self-contained HTML file that shows a whole run."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from fileset.exceptions import InputError
from processors.histograms import load_histograms, nominal
from report.gallery import Region, input_drawings, power_drawings, score_drawings, training_drawings
from report.mathtext import to_html, to_plain
from report.numbers import count, duration, significant
from report.pictures import Drawing, render
from report.processes import processes_of
from report.settings import ReportSettings
from report.style import Sample, luminosity_label, source_label
from report.tables import (
    Table,
    cutflow_table,
    datasets_table,
    missing_table,
    power_table,
    write_csv,
    yields_table,
)

__all__ = ["write_page"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _RegionView:
    """One region as the template shows it."""

    name: str
    lumi: str
    drawings: Mapping[str, list[Drawing]]
    yields: Table
    cutflow: Table
    signal_cutflow: Table | None
    datasets: Table
    power_table: Table | None
    family_table: Table | None
    process_table: Table | None
    background: Mapping[str, Any]
    has_signals: bool
    has_data: bool
    collapsed: list[str]
    glance: list[tuple[str, str]]
    by_family: bool


def _read(path: Path, *, needed_from: str = "") -> dict[str, Any]:
    """Read a JSON document of the output folder; a missing one is empty unless a stage must have left it."""
    if not path.is_file():
        if needed_from:
            message = f"{path} is missing; run the stage {needed_from} first"
            raise InputError(message)
        return {}
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        message = f"{path} is no JSON document ({error}); remove it and run its stage again"
        raise InputError(message) from error
    return document


def _sample(
    name: str, lumi_pb: float | None, datasets: Mapping[str, Mapping[str, Any]], *, complete: bool
) -> Sample:
    """What stands on the figures of a region, from the metadata of its datasets."""
    kinds = sorted({str(entry["sample"]) for entry in datasets.values()})
    dois = sorted({str(entry["doi"]) for entry in datasets.values() if entry.get("doi")})
    return Sample(
        kind=" and ".join(kinds), lumi_pb=lumi_pb, region=name, doi=", ".join(dois), complete=complete
    )


def _models(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Card and history of each model in the folder of a region."""
    cards = sorted(folder.glob("*/card.json"))
    return {card.parent.name: (_read(card), _read(card.parent / "history.json")) for card in cards}


def _region_view(region: Region, cuts: list[str]) -> _RegionView:
    """Tabulate one region and say what is drawn of it."""
    processes = processes_of(region.datasets)
    kinds = {process.kind for process in processes}
    signals, families, others = (
        region.evaluation.get(kind) or {} for kind in ("signals", "families", "processes")
    )
    yields = yields_table(region.name, region.datasets)
    inputs, more_inputs = input_drawings(region)
    power = power_drawings(region)
    return _RegionView(
        name=region.name,
        lumi=to_html(luminosity_label(region.sample.lumi_pb)),
        drawings={
            "scores": score_drawings(region),
            "inputs": inputs,
            "more_inputs": more_inputs,
            "training": training_drawings(region),
            "power": power,
        },
        yields=yields,
        cutflow=cutflow_table(region.name, cuts, region.datasets),
        signal_cutflow=cutflow_table(region.name, cuts, region.datasets, kind="signal")
        if "signal" in kinds
        else None,
        datasets=datasets_table(region.name, region.datasets),
        power_table=power_table(region.name, signals, processes) if signals else None,
        family_table=power_table(region.name, families, processes, kind="families") if families else None,
        process_table=power_table(region.name, others, processes, kind="processes") if others else None,
        background=region.evaluation.get("background") or {},
        has_signals="signal" in kinds,
        has_data="data" in kinds,
        collapsed=[name for name, (card, _) in region.models.items() if card.get("collapsed")],
        glance=_glance(region, yields),
        by_family=len(signals) > region.settings.max_power_figures,
    )


def _glance(region: Region, yields: Table) -> list[tuple[str, str]]:
    """The few facts beside the main picture: name and value, both HTML."""
    read = sum(int(entry["events_read"]) for entry in region.datasets.values())
    facts = [("Luminosity", to_html(luminosity_label(region.sample.lumi_pb))), ("Events read", count(read))]
    facts += [(row[0].html, row[-1].html) for row in yields.totals]
    signals = sum(process.kind == "signal" for process in processes_of(region.datasets))
    facts.append(("Signals", count(signals)))
    if region.model in region.models:
        card, _ = region.models[region.model]
        facts.append(
            ("Model", escape(f"{region.model} ({card['preset']})" if "preset" in card else region.model))
        )
        facts.append(("Inputs of the model", count(len(card.get("features") or ()))))
    return facts


def _facts(run: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten provenance into pairs of name and text."""
    facts: list[tuple[str, str]] = []
    for key, value in run.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            facts += _facts(value, f"{name}.")
        elif isinstance(value, list):
            separator = " " if key == "command" else ", "
            facts.append((name, separator.join(str(item) for item in value) or "none"))
        else:
            facts.append((name, "\u2013" if value is None else str(value)))
    return facts


def _timings(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Stages and the time each took, where run.json has it as plain seconds."""
    timings = run.get("timings") or {}
    return [
        (str(stage), duration(float(seconds)))
        for stage, seconds in timings.items()
        if isinstance(seconds, int | float)
    ]


def _environment() -> jinja2.Environment:
    """The template's environment: everything that is not made by this package is escaped."""
    loader = jinja2.FunctionLoader(
        lambda name: (files("report") / "templates" / name).read_text(encoding="utf-8")
    )
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(count=count, significant=significant, plain=to_plain)
    return environment


def write_page(output: Path, *, settings: ReportSettings | None = None, processes: int = 1) -> Path:
    """Draw every figure and write ``report/index.html``, which needs no other file and no network.

    Args:
        output: the output folder of a run, with at least ``select.json`` and ``histograms.json``.
        settings: what is drawn.
        processes: how many draw at once; more than one needs a main module that is safe to import.

    Returns:
        The path of the page; the main picture of a region is ``figures/<region>_score.png`` beside it.

    Raises:
        InputError: a stage before has not left its document, or settings name an unknown signal.
        FailureError: the documents contradict each other.
    """
    settings = settings or ReportSettings()
    selection = _read(output / "select.json", needed_from="select")
    if not (output / "histograms.json").is_file():
        message = f"{output / 'histograms.json'} is missing; run the stage select first"
        raise InputError(message)
    histograms = load_histograms(output / "histograms.json")
    evaluation = _read(output / "evaluate.json")
    run = _read(output / "run.json")
    complete = bool(selection["complete"])
    folder = output / "report"
    views = []
    samples = []
    for name, part in selection["regions"].items():
        sample = _sample(name, selection["lumi_pb"][name], part["datasets"], complete=complete)
        samples.append(sample)
        region = Region(
            name=name,
            sample=sample,
            datasets=part["datasets"],
            histograms={
                key.removeprefix(f"{name}/"): nominal(histogram)
                for key, histogram in histograms.items()
                if key.startswith(f"{name}/")
            },
            evaluation=(evaluation.get("regions") or {}).get(name) or {},
            models=_models(output / "models" / name),
            settings=settings,
        )
        views.append(_region_view(region, list(part["cuts"])))
    missing = list((selection.get("ledger") or {}).get("missing") or [])
    missing_input = missing_table(missing) if missing else None
    for table in [missing_input, *(table for view in views for table in _tables(view))]:
        if table is not None:
            write_csv(table, folder / "tables")
    drawings = [drawing for view in views for part in view.drawings.values() for drawing in part]
    pictures = render(drawings, folder=folder / "figures", dpi=settings.png_dpi, processes=processes)
    page = folder / "index.html"
    page.write_text(
        _environment()
        .get_template("index.html.j2")
        .render(
            regions=views,
            pictures=pictures,
            source=" and ".join(sorted({source_label(sample) for sample in samples})),
            dois=sorted({sample.doi for sample in samples if sample.doi}),
            open_data=any("atlas-open-data" in sample.kind for sample in samples),
            complete=complete,
            missing=missing_input,
            done=(selection.get("ledger") or {}).get("done"),
            facts=_facts({key: value for key, value in run.items() if key not in {"timings", "config"}}),
            config=_facts(run.get("config") or {}),
            timings=_timings(run),
            blind_score=settings.blind_score,
        ),
        encoding="utf-8",
    )
    logger.info("wrote %s", page)
    return page


def _tables(view: _RegionView) -> list[Table | None]:
    """All tables of a region."""
    return [
        view.yields,
        view.cutflow,
        view.signal_cutflow,
        view.datasets,
        view.power_table,
        view.family_table,
        view.process_table,
    ]
