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
from processors.histograms import load_histograms
from report.gallery import Region, draw_inputs, draw_power, draw_scores, draw_training
from report.mathtext import to_html, to_plain
from report.numbers import count, duration, significant
from report.pictures import Picture
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
    scores: list[Picture]
    inputs: list[Picture]
    more_inputs: list[Picture]
    training: list[Picture]
    power: list[Picture]
    yields: Table
    cutflow: Table
    signal_cutflow: Table | None
    datasets: Table
    power_table: Table | None
    background: Mapping[str, Any]
    has_signals: bool
    has_data: bool
    collapsed: list[str]
    glance: list[tuple[str, str]]
    not_drawn: list[str]


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
    name: str, lumi_pb: float, datasets: Mapping[str, Mapping[str, Any]], *, complete: bool
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
    """Draw and tabulate one region."""
    processes = processes_of(region.datasets)
    kinds = {process.kind for process in processes}
    signals = region.evaluation.get("signals") or {}
    inputs, more_inputs = draw_inputs(region)
    yields = yields_table(region.name, region.datasets)
    power = draw_power(region)
    drawn = {picture.name.removeprefix(f"{region.name}_roc_") for picture in power}
    return _RegionView(
        name=region.name,
        lumi=to_html(luminosity_label(region.sample.lumi_pb)),
        scores=draw_scores(region),
        inputs=inputs,
        more_inputs=more_inputs,
        training=draw_training(region),
        power=power,
        yields=yields,
        cutflow=cutflow_table(region.name, cuts, region.datasets),
        signal_cutflow=cutflow_table(region.name, cuts, region.datasets, kind="signal")
        if "signal" in kinds
        else None,
        datasets=datasets_table(region.name, region.datasets),
        power_table=power_table(region.name, signals, processes) if signals else None,
        background=region.evaluation.get("background") or {},
        has_signals="signal" in kinds,
        has_data="data" in kinds,
        collapsed=[name for name, (card, _) in region.models.items() if card.get("collapsed")],
        glance=_glance(region, yields),
        not_drawn=[name for name in signals if name not in drawn],
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
            facts.append((name, ", ".join(str(item) for item in value)))
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


def write_page(output: Path, *, settings: ReportSettings | None = None) -> Path:
    """Draw every figure and write ``report/index.html``, which needs no other file and no network.

    Args:
        output: the output folder of a run, with at least ``select.json`` and ``histograms.json``.
        settings: what is drawn.

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
        sample = _sample(name, float(selection["lumi_pb"][name]), part["datasets"], complete=complete)
        samples.append(sample)
        region = Region(
            name=name,
            sample=sample,
            datasets=part["datasets"],
            histograms={
                key.removeprefix(f"{name}/"): histogram
                for key, histogram in histograms.items()
                if key.startswith(f"{name}/")
            },
            evaluation=(evaluation.get("regions") or {}).get(name) or {},
            models=_models(output / "models" / name),
            folder=folder / "figures",
            settings=settings,
        )
        views.append(_region_view(region, list(part["cuts"])))
    missing = list((selection.get("ledger") or {}).get("missing") or [])
    missing_input = missing_table(missing) if missing else None
    for table in [missing_input, *(table for view in views for table in _tables(view))]:
        if table is not None:
            write_csv(table, folder / "tables")
    page = folder / "index.html"
    page.write_text(
        _environment()
        .get_template("index.html.j2")
        .render(
            regions=views,
            source=" and ".join(sorted({source_label(sample) for sample in samples})),
            dois=sorted({sample.doi for sample in samples if sample.doi}),
            open_data=any("atlas-open-data" in sample.kind for sample in samples),
            complete=complete,
            missing=missing_input,
            done=(selection.get("ledger") or {}).get("done"),
            facts=_facts({key: value for key, value in run.items() if key != "timings"}),
            timings=_timings(run),
            blind_score=settings.blind_score,
        ),
        encoding="utf-8",
    )
    logger.info("wrote %s", page)
    return page


def _tables(view: _RegionView) -> list[Table | None]:
    """All tables of a region."""
    return [view.yields, view.cutflow, view.signal_cutflow, view.datasets, view.power_table]
