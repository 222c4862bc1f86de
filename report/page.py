"""The page: one self-contained HTML file that shows a whole run."""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import hist
import jinja2

from fileset.exceptions import InputError
from fileset.suggestion import did_you_mean
from models.fitting import collapse_remark
from processors.cells import load_cells
from processors.features import baseline_names, table_names
from processors.histograms import left_for_search, load_histograms, nominal
from processors.shards import read_event
from report.alarms import alarms_section
from report.blinding import blinding_text, without_data
from report.explanation import explanation_section
from report.gallery import (
    Event,
    Region,
    cell_drawings,
    event_drawings,
    input_drawings,
    matrix_drawings,
    power_drawings,
    residual_drawings,
    score_drawings,
    scored_models,
    training_drawings,
)
from report.mathtext import to_html, to_plain
from report.numbers import count, measurement, significant
from report.pictures import Drawing, drawing_processes, render
from report.power import SCORE
from report.processes import processes_of
from report.robustness import robustness_section
from report.score_agreement import score_agreement_section
from report.scoreboard import scoreboard_section
from report.sculpting import sculpting_section
from report.search import search_table
from report.sections import Section, document
from report.settings import DEFAULT_VARIABLES, ReportSettings
from report.significance import significance_section
from report.sources import source_table
from report.style import Sample, luminosity_label, source_label
from report.tables import (
    Table,
    agreement_table,
    cutflow_table,
    datasets_table,
    missing_table,
    power_table,
    scores_table,
    stages_table,
    write_csv,
    yields_table,
)

__all__ = ["write_page"]

logger = logging.getLogger(__name__)

# Topics of a section each, in the order of the page; of a stage that has not run there is none.
_TOPICS: Final[tuple[Callable[[Path, Region], Section | None], ...]] = (
    score_agreement_section,
    scoreboard_section,
    significance_section,
    alarms_section,
    sculpting_section,
    explanation_section,
    robustness_section,
)


# What the navigation calls them, for it to fit into a line or two.
_SHORT: Final = {
    "score_agreement": "Data in the score",
    "scoreboard": "Baselines",
    "significance": "Significance",
    "alarms": "False alarms",
    "sculpting": "Masses",
    "explanation": "Why",
    "robustness": "Robustness",
}


@dataclass(frozen=True)
class _RegionView:
    """One region as the template shows it."""

    name: str
    lumi: str
    drawings: Mapping[str, list[Drawing]]
    agreement: Table | None
    agreement_text: str
    yields: Table
    cutflow: Table
    signal_cutflow: Table | None
    datasets: Table
    power_table: Table | None
    family_table: Table | None
    process_table: Table | None
    scores_table: Table | None
    source_table: Table | None
    searches: list[Table]
    background: Mapping[str, Any]
    has_signals: bool
    has_data: bool
    blinded: bool
    collapsed: list[tuple[str, str]]  # name, and what is to be said of it
    trained_on_data: list[str]
    glance: list[tuple[str, str]]
    by_family: bool
    baselines: int
    sections: list[Section]

    @property
    def all_drawings(self) -> list[Drawing]:
        """All that is drawn of it."""
        own = [drawing for part in self.drawings.values() for drawing in part]
        return own + [drawing for section in self.sections for drawing in section.drawings]


def _sample(
    name: str,
    lumi_pb: float | None,
    datasets: Mapping[str, Mapping[str, Any]],
    *,
    complete: bool,
    blinded: bool,
) -> Sample:
    """What stands on the figures of a region, from the metadata of its datasets."""
    kinds = sorted({str(entry["sample"]) for entry in datasets.values()})
    dois = sorted({str(entry["doi"]) for entry in datasets.values() if entry.get("doi")})
    return Sample(
        kind=" and ".join(kinds),
        lumi_pb=lumi_pb,
        region=name,
        doi=", ".join(dois),
        complete=complete,
        blinded=blinded,
    )


def _models(folder: Path, scored: Collection[str]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Card and history of each model of a region whose scores are shown; of all where none has scored yet."""
    cards = sorted(folder.glob("*/card.json"))
    cards = [card for card in cards if card.parent.name in scored] or cards
    return {card.parent.name: (document(card), document(card.parent / "history.json")) for card in cards}


def _events(
    folder: Path, manifest: Mapping[str, Any], cells: list[str], settings: ReportSettings, name: str
) -> list[Event]:
    """The events of one region whose matrices are wanted; those of blinded data are left out.

    Where data are blinded above a score no event of the data is drawn: its score is not looked up here.
    """
    found = []
    for dataset, number in settings.events:
        book = manifest["datasets"].get(dataset)
        hidden = settings.blinds(name) or settings.score_limit is not None
        if book is not None and not (hidden and book["kind"] == "data"):
            values = read_event(folder, manifest, dataset=dataset, number=number, columns=cells)
            if values is not None:
                found.append(Event(dataset, number, values))
    return found


def _refuse_another_model(regions: Sequence[Region]) -> None:
    """Raises an error for an evaluated model whose scores are not among those that are drawn."""
    for region in regions:
        model = (region.evaluation.get("model") or {}).get("name")
        if model is not None and model not in scored_models(region.histograms):
            message = (
                f"evaluate.json is about the model {model} of region {region.name}, whose scores are not of the events "
                "that are selected now: run score and evaluate again"
            )
            raise InputError(message)


def _refuse_unknown_variables(histograms: Mapping[str, Any], settings: ReportSettings) -> None:
    """Raises an error for a variable that is none of any region; those of other regions are passed over."""
    known = {
        *(key.split("/")[1] for key in histograms),
        *DEFAULT_VARIABLES,
        *table_names(3),
        *baseline_names(3),
    }
    for name in settings.variables:
        if name not in known:
            hint = did_you_mean(name, sorted(known), otherwise=f"there are {', '.join(sorted(known))}")
            message = f"report.variables: no region has a variable {name!r}: {hint}"
            raise InputError(message)


def _refuse_unknown_events(
    regions: Sequence[Region], selection: Mapping[str, Any], settings: ReportSettings
) -> None:
    """Raises an error for a wanted event that no region has selected; data that may be blinded are passed over."""
    drawn = {(event.dataset, event.number) for region in regions for event in region.events}
    books = {
        dataset: book for part in selection["regions"].values() for dataset, book in part["datasets"].items()
    }
    blinding = settings.score_limit is not None or (settings.blind and settings.blind_regions)
    for dataset, number in settings.events:
        if dataset not in books:
            message = f"report.events: no dataset is called {dataset!r}; known are {', '.join(sorted(books))}"
            raise InputError(message)
        if (dataset, number) not in drawn and not (blinding and books[dataset]["kind"] == "data"):
            message = f"report.events: no region has selected the event {number} of {dataset}"
            raise InputError(message)


def _agreement_text(result: Mapping[str, Any]) -> str:
    """What the stage compare found, in a sentence."""
    if not result:
        return "Data and simulation were not compared: run the stage compare."
    if result["status"] != "compared":
        why = "they are blinded" if result["status"] == "blinded" else "this sample has none"
        return f"No data to compare with ({why}): every input is kept."
    judged = [entry for entry in result["inputs"].values() if entry["chi2"] is not None]
    dropped = sum(not entry["kept"] for entry in judged)
    limits = {name: value for name, value in result["thresholds"].items() if value is not None}
    wanted = ", ".join(f"{name} {value:g}" for name, value in limits.items())
    if not limits:
        verdict = "no threshold is set, so all are kept for training"
    else:
        verdict = f"{dropped or 'none'} dropped from training by {wanted}"
    chi2, ndf = (sum(entry[key] for entry in judged) for key in ("chi2", "ndf"))
    mean = f" χ²/ndf of all together: {significant(chi2 / ndf)}." if ndf else ""
    return (
        f"{len(judged)} of {len(result['inputs'])} inputs have enough events to be compared; {verdict}.{mean}"
    )


def _region_view(region: Region, cuts: list[str], agreement: Mapping[str, Any], output: Path) -> _RegionView:
    """Tabulate one region and say what is drawn of it."""
    processes = processes_of(region.datasets)
    kinds = {process.kind for process in processes}
    signals, families, others = (
        region.evaluation.get(kind) or {} for kind in ("signals", "families", "processes")
    )
    score_kinds = list((region.evaluation.get("model") or {}).get("scores") or [])
    yields = yields_table(region.name, region.datasets)
    inputs, more_inputs = input_drawings(region)
    power = power_drawings(region)
    matrices, more_matrices = matrix_drawings(region)
    return _RegionView(
        name=region.name,
        lumi=to_html(luminosity_label(region.sample.lumi_pb)),
        drawings={
            "scores": score_drawings(region),
            "inputs": inputs,
            "more_inputs": more_inputs + cell_drawings(region),
            "matrices": matrices + event_drawings(region),
            "more_matrices": more_matrices,
            "training": training_drawings(region),
            "power": power,
            "residuals": residual_drawings(region),
        },
        agreement=agreement_table(region.name, agreement, region.labels),
        agreement_text=_agreement_text(agreement),
        yields=yields,
        cutflow=cutflow_table(region.name, cuts, region.datasets),
        signal_cutflow=cutflow_table(region.name, cuts, region.datasets, kind="signal")
        if "signal" in kinds
        else None,
        datasets=datasets_table(region.name, region.datasets),
        power_table=power_table(region.name, signals, processes) if signals else None,
        family_table=power_table(region.name, families, processes, kind="families") if families else None,
        process_table=power_table(region.name, others, processes, kind="processes") if others else None,
        scores_table=scores_table(region.name, signals, processes, score_kinds)
        if signals and len(score_kinds) > 1
        else None,
        source_table=_in_the_sources_form(region),
        searches=[search_table(result) for result in region.searches],
        background=region.evaluation.get("background") or {},
        has_signals="signal" in kinds,
        has_data="data" in kinds,
        blinded=region.sample.blinded,
        collapsed=[
            (name, remark) for name, (card, _) in region.models.items() if (remark := collapse_remark(card))
        ],
        trained_on_data=[name for name, (card, _) in region.models.items() if left_for_search(card) < 1],
        glance=_glance(region, yields),
        by_family=len(signals) > region.settings.max_power_figures,
        baselines=len([name for name in region.baselines if name != region.model]),
        # Last: histograms of another selection are refused above.
        sections=[section for make in _TOPICS if (section := make(output, region)) is not None],
    )


def _in_the_sources_form(region: Region) -> Table | None:
    """The result as the report or the thesis gives it, where the model is one of theirs."""
    if "signals" not in region.evaluation:
        return None
    expected = sum(
        float(entry["sumw"]) for entry in region.datasets.values() if entry["kind"] == "background"
    )
    found = source_table(
        region.name, region.evaluation, events=source_label(region.sample), background_sumw=expected
    )
    return found.on_page(region.name) if found is not None else None


def _glance(region: Region, yields: Table) -> list[tuple[str, str]]:
    """The few facts beside the main picture: name and value, both HTML."""
    read = sum(int(entry["events_read"]) for entry in region.datasets.values())
    facts = [("Luminosity", to_html(luminosity_label(region.sample.lumi_pb))), ("Events read", count(read))]
    facts += [(row[0].html, row[-1].html) for row in yields.totals]
    if region.sample.blinded:
        facts.append(("Data", "blinded"))
    signals = sum(process.kind == "signal" for process in processes_of(region.datasets))
    facts.append(("Signals", count(signals)))
    if region.model in region.models:
        card, _ = region.models[region.model]
        facts.append(
            ("Model", escape(f"{region.model} ({card['preset']})" if "preset" in card else region.model))
        )
        facts.append(("Inputs of the model", count(len(card.get("features") or ()))))
    summary = (region.evaluation.get("summary") or {}).get("scores", {}).get(SCORE, {})
    if found := summary.get("delta_auc"):
        difference = measurement(found["mean"], found["error"])
        facts.append(
            (
                "AUC minus that of each signal's best variable, mean",
                f"+{difference}" if found["mean"] > 0 else difference,
            )
        )
    return facts


def _provenance(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was run, with what, as pairs of name and text; stages and configuration stand by themselves."""
    told = {key: value for key, value in run.items() if key not in {"format", "timings", "stages", "config"}}
    seeds = {f"seed of {name}": seed for name, seed in (told.pop("seeds", None) or {}).items()}
    versions = told.pop("versions", None) or {}
    return [(name.replace("_", " "), text) for name, text in _facts({**told, **seeds, **versions})]


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


_PARAGRAPH: Final = re.compile(r"<p>.*?</p>", re.DOTALL)


def _said_once(views: Sequence[_RegionView]) -> list[_RegionView]:
    """How something is done is said of the first region: the same paragraph is left out of later ones.

    The first paragraph of a section stays: it says what was found.
    """
    told: set[tuple[str, str]] = set()
    slimmer = []
    for view in views:
        sections = []
        for section in view.sections:
            first, *others = _PARAGRAPH.findall(section.text) or [section.text]
            news = [paragraph for paragraph in others if (section.key, paragraph) not in told]
            told.update((section.key, paragraph) for paragraph in others)
            sections.append(replace(section, text="\n".join([first, *news])))
        slimmer.append(replace(view, sections=sections))
    return slimmer


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


def _region(
    output: Path,
    name: str,
    selection: Mapping[str, Any],
    histograms: Mapping[str, hist.Hist],
    evaluation: Mapping[str, Any],
    settings: ReportSettings,
) -> Region:
    """All that is known of one region, without what is blinded."""
    part, blinded = selection["regions"][name], settings.blinds(name)
    datasets: Mapping[str, Mapping[str, Any]] = part["datasets"]
    own = {
        key.removeprefix(f"{name}/"): nominal(histogram)
        for key, histogram in histograms.items()
        if key.startswith(f"{name}/")
    }
    manifest = document(output / "shards" / name / "manifest.json")
    cell_names = list((manifest.get("features") or {}).get("rmm") or [])
    compared = output / "comparison" / name / "cells.zip"
    cells = load_cells(compared) if compared.is_file() and cell_names else {}
    sample = _sample(
        name, selection["lumi_pb"][name], datasets, complete=bool(selection["complete"]), blinded=blinded
    )
    if blinded:
        _, cells = without_data(datasets, cells)
        datasets, own = without_data(datasets, own)
    return Region(
        name=name,
        sample=sample,
        datasets=datasets,
        histograms=own,
        evaluation=evaluation,
        models=_models(
            output / "models" / name,
            scored_models(own),
        ),
        settings=settings,
        cell_names=cell_names,
        cells=cells,
        events=_events(output / "shards" / name, manifest, cell_names, settings, name) if cell_names else [],
        searches=[document(path) for path in sorted((output / "search" / name).glob("*/search.json"))],
    )


def write_page(
    output: Path,
    *,
    settings: ReportSettings | None = None,
    processes: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Draw every figure and write ``report/index.html``, which needs no other file and no network.

    Args:
        output: the output folder of a run, with at least ``select.json`` and ``histograms.json``.
        settings: what is drawn.
        processes: how many draw at once; more than one needs a main module that is safe to import.
        progress: called after each figure with how many are drawn, their number, and its name.

    Returns:
        The path of the page; the main picture of a region is ``figures/<region>_score.png`` beside it.

    Raises:
        InputError: a stage before has not left its document, or settings name an unknown signal.
        FailureError: the documents contradict each other.
    """
    if not (output / "select.json").is_file():
        message = (
            f"{output / 'select.json'} is missing; run the stage select first, the page is about its events also where "
            "others were scored with --bundle"
        )
        raise InputError(message)
    if not (output / "histograms.json").is_file():
        message = f"{output / 'histograms.json'} is missing; run the stage select first"
        raise InputError(message)
    with drawing_processes(processes) as pool:
        return _write_page(output, settings or ReportSettings(), pool, progress)


def _write_page(
    output: Path,
    settings: ReportSettings,
    pool: Executor | None,
    progress: Callable[[int, int, str], None] | None,
) -> Path:
    """As `write_page`, with the processes that draw."""
    selection = document(output / "select.json")
    histograms = load_histograms(output / "histograms.json")
    evaluation = document(output / "evaluate.json").get("regions") or {}
    agreement = document(output / "agreement.json").get("regions") or {}
    run = document(output / "run.json")
    complete = bool(selection["complete"])
    folder = output / "report"
    regions = [
        _region(output, name, selection, histograms, evaluation.get(name) or {}, settings)
        for name in selection["regions"]
    ]
    _refuse_another_model(regions)
    _refuse_unknown_events(regions, selection, settings)
    _refuse_unknown_variables(histograms, settings)
    views = [
        _region_view(
            region,
            list(selection["regions"][region.name]["cuts"]),
            {} if region.sample.blinded else agreement.get(region.name) or {},
            output,
        )
        for region in regions
    ]
    samples = [region.sample for region in regions]
    missing = list((selection.get("ledger") or {}).get("missing") or [])
    missing_input = missing_table(missing) if missing else None
    stages = stages_table(run["stages"]) if run.get("stages") else None
    tables = [missing_input, stages, *(table for view in views for table in _tables(view))]
    remark = "" if complete else "INCOMPLETE"
    written = [write_csv(table, folder / "tables", remark=remark) for table in tables if table is not None]
    drawings = [drawing for view in views for drawing in view.all_drawings]
    pictures = render(drawings, folder=folder / "figures", dpi=settings.png_dpi, pool=pool, progress=progress)
    # What an earlier page had may be blinded by now.
    for path in [*(folder / "tables").iterdir(), *(folder / "figures").iterdir()]:
        if path not in written and path.stem not in pictures:
            path.unlink()
    page = folder / "index.html"
    page.write_text(
        _environment()
        .get_template("index.html.j2")
        .render(
            regions=_said_once(views),
            topics={section.key: section.title for view in views for section in view.sections},
            short_titles=_SHORT,
            pictures=pictures,
            source=" and ".join(sorted({source_label(sample) for sample in samples})),
            dois=sorted({sample.doi for sample in samples if sample.doi}),
            open_data=any("atlas-open-data" in sample.kind for sample in samples),
            complete=complete,
            missing=missing_input,
            done=(selection.get("ledger") or {}).get("done"),
            facts=_provenance(run),
            config=_facts(run.get("config") or {}),
            stages=stages,
            blinding=blinding_text(settings, [region.name for region in regions]),
        ),
        encoding="utf-8",
    )
    logger.info("wrote %s", page)
    return page


def _tables(view: _RegionView) -> list[Table | None]:
    """All tables of a region."""
    return [
        view.agreement,
        view.yields,
        view.cutflow,
        view.signal_cutflow,
        view.datasets,
        view.power_table,
        view.family_table,
        view.process_table,
        view.scores_table,
        view.source_table,
        *view.searches,
        *(table for section in view.sections for table in section.tables),
    ]
