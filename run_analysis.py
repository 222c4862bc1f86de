"""The command line: one verb a stage.

    fileset    which events: resolve a catalogue, a directory or a list of files
    check      open every file once and compare it with what is known of it
    simulate   make the demo sample with Pythia 8
    validate   does simulation look like data: Z peak, b-tagging, leptons, jets
    select     events -> shards, histograms and cutflow
    compare    shards -> data against simulation, and which inputs may be trained on
    train      shards -> a model of the Standard Model, and baselines without a network
    tune       shards -> the best of many models
    score      shards and model -> a score for every event
    evaluate   scores -> each signal's power beside baselines; significance, false alarms, sculpting, reasons
    robustness what the score notices, and how it depends on what was learnt
    report     everything -> one page to look at
    run        all of these but simulate, validate, tune and robustness
    config     show or write the configuration
    completion let a shell complete verbs, options and names

Exit status: 0 done, 1 failed, 2 the input is wrong, 130 stopped by Ctrl-C. Without a verb, run.

Example: run_analysis.py run --fileset demo --region 2L --output output/demo
"""

import importlib.metadata
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fileset.exceptions import FailureError, InputError
from fileset.settings import FilesetSettings
from report.analysis import Analysis
from report.command_line import Verbs, taking_flags
from report.flags import FLAGS, ROBUSTNESS_FLAGS, SEARCH_FLAGS, SIMULATION_FLAGS, VALIDATION_FLAGS, Flags
from report.loudness import tell
from report.setup_verbs import completion, config

if TYPE_CHECKING:
    from processors.workers import Workers

__all__ = ["Analysis", "main"]


def _where(what: str, path: Path) -> str:
    """Where a result is: the last line of a stage."""
    return f"{what:<10} {path}"


# --- the stages ------------------------------------------------------------------------------------------------------


def _resolve(analysis: Analysis) -> dict[str, Any]:
    from fileset.resolve import resolve  # noqa: PLC0415 - --help must be quick

    return resolve(analysis.fileset, {name: analysis.region(name).skims for name in analysis.regions})


def _look_first(
    analysis: Analysis, workers: "Workers", *, scoring: bool, fileset: dict[str, Any] | None = None
) -> list[Any]:
    """Looks at a Dask cluster before it is given work, once; with a fileset, at one file of each dataset too."""
    if analysis.execution.executor != "dask":
        return []
    from processors.readiness import one_file_each  # noqa: PLC0415 - only where Dask is used

    return workers.look_first(output=analysis.output, inputs=one_file_each(fileset or {}), scoring=scoring)


def _checked(analysis: Analysis, workers: "Workers", *, scoring: bool = False) -> Any:
    """Resolves and audits the fileset; what was looked at before comes from the cache."""
    from fileset.audit import AuditError, check  # noqa: PLC0415 - --help must be quick
    from fileset.resolve import selections  # noqa: PLC0415
    from processors.files import write_json  # noqa: PLC0415
    from report import terminal  # noqa: PLC0415

    output, fileset = analysis.output, _resolve(analysis)
    _look_first(analysis, workers, scoring=scoring, fileset=fileset)
    with terminal.progress_bar("checking files") as tick:
        try:
            audit = check(
                fileset,
                strict=analysis.strict,
                allow_missing=analysis.allow_missing,
                checksums=analysis.fileset.checksums,
                photons=analysis.rmm.write and analysis.rmm.photons > 0,
                cache=output / "audit-cache.json",
                map=workers.map,
                progress=lambda done, total: tick(done, total, ""),
                timeout=analysis.execution.timeout,
                selections=selections(
                    analysis.fileset, {name: analysis.region(name).skims for name in analysis.regions}
                ),
            )
        except AuditError as error:
            write_json(output / "check.json", error.audit.to_json())
            raise
    write_json(output / "check.json", audit.to_json())
    write_json(output / "fileset.json", audit.fileset)
    return audit


def _fileset(analysis: Analysis, workers: "Workers") -> str:
    from processors.files import write_json  # noqa: PLC0415 - --help must be quick

    fileset = _resolve(analysis)
    write_json(analysis.output / "fileset.json", fileset)
    return f"{len(fileset)} datasets in {analysis.output / 'fileset.json'}"


def _simulate(analysis: Analysis, workers: "Workers") -> str:
    from fileset.simulation.generate import simulate  # noqa: PLC0415 - imports Pythia
    from report import terminal  # noqa: PLC0415

    with terminal.progress_bar("simulating") as tick:
        catalog = simulate(analysis.simulation, output=analysis.output, map=workers.map, progress=tick)
    return f"wrote {catalog}; analyse it with run --fileset {analysis.output}"


def _validation_input(
    settings: FilesetSettings, name: str, analysis: Analysis, workers: "Workers"
) -> dict[str, Any]:
    """The simulated Z and top-quark pair samples of a fileset, audited and cut into chunks."""
    from fileset.audit import check  # noqa: PLC0415 - --help must be quick
    from fileset.coffea_forms import with_steps  # noqa: PLC0415
    from fileset.resolve import resolve  # noqa: PLC0415
    from processors.validation import simulation_of  # noqa: PLC0415

    audit = check(
        simulation_of(resolve(settings, analysis.regions), name),
        strict=analysis.strict,
        cache=analysis.output / "validation" / "audit-cache.json",
        map=workers.map,
        timeout=analysis.execution.timeout,
    )
    return with_steps(audit.fileset, analysis.execution.chunksize, audit.clusters)


def _validate(analysis: Analysis, workers: "Workers") -> str:
    from processors.validation import validation_histograms  # noqa: PLC0415 - --help must be quick
    from report.validation import write_validation_page  # noqa: PLC0415
    from report.validation_figures import validate  # noqa: PLC0415

    name, region = analysis.fileset.fileset, analysis.region("2L")
    sample, reference = _validation_input(analysis.fileset, name, analysis, workers), {}
    if analysis.reference is not None:
        settings = FilesetSettings(fileset=str(analysis.reference))
        reference = _validation_input(settings, str(analysis.reference), analysis, workers)
    metadata = [content["metadata"] for content in sample.values()]
    skim = next((entry["skim"] for entry in metadata if "2L" in entry["regions"]), None)
    if skim is None:
        message = f"{name} serves no region 2L: the Z peak and b-tagging are measured there"
        raise InputError(message)
    sources = metadata[0]["sample"], next((c["metadata"]["sample"] for c in reference.values()), "")
    validation = validate(
        validation_histograms(sample, region, workers),
        validation_histograms(reference, region, workers) if reference else {},
        skim=skim,
        sources=sources,
    )
    page = write_validation_page(
        validation,
        analysis.output / "validation",
        facts={
            "Sample": name,
            "Datasets": ", ".join(sample),
            "Reference": str(analysis.reference or "none"),
            "Datasets of the reference": ", ".join(reference) or "none",
        },
        dpi=analysis.report.png_dpi,
        processes=analysis.execution.n_workers,
    )
    if validation.failed:
        message = f"{len(validation.failed)} of {len(validation.criteria)} criteria of the validation fail, see {page}"
        raise FailureError(message)
    return f"all {len(validation.criteria)} criteria hold: {page}"


def _of_region(fileset: dict[str, Any], region: str) -> dict[str, Any]:
    own = {name: content for name, content in fileset.items() if region in content["metadata"]["regions"]}
    if not own:
        message = f"the fileset has no file for region {region}: give --skim, or another --region"
        raise InputError(message)
    return own


def _select(analysis: Analysis, workers: "Workers") -> str:
    from fileset.coffea_forms import with_steps  # noqa: PLC0415 - --help must be quick
    from processors.files import write_json  # noqa: PLC0415
    from processors.stages.results import assemble  # noqa: PLC0415
    from processors.stages.select import disk_needed, select_region  # noqa: PLC0415
    from report import terminal  # noqa: PLC0415

    audit = _checked(analysis, workers)
    fileset = with_steps(audit.fileset, analysis.execution.chunksize, audit.clusters)
    tell(f"shards will take at most about {disk_needed(fileset, analysis.rmm) / 1e6:,.0f} MB")
    results = {}
    for name in analysis.regions:
        results[name] = select_region(
            _of_region(fileset, name),
            name=name,
            region=analysis.region(name),
            weights=analysis.weights,
            rmm=analysis.rmm,
            workers=workers,
            output=analysis.output,
            allow_missing=analysis.allow_missing,
        )
        terminal.yields_table(name, results[name], blinded=analysis.report.blinds(name))
        if not any(book["selected"] for book in results[name]["datasets"].values()):
            tell(f"no event of any dataset passes the cuts of region {name}", fg="yellow")
    terminal.regions_left_out(analysis.output / "select.json", results)
    missing = [entry for result in results.values() for entry in result["ledger"]["missing"]]
    write_json(
        analysis.output / "select.json",
        {
            "format": 1,
            "complete": not missing,
            "lumi_pb": {name: result["lumi_pb"] for name, result in results.items()},
            "regions": {
                name: {"cuts": result["cuts"], "datasets": result["datasets"]}
                for name, result in results.items()
            },
            "ledger": {
                "done": sum(result["ledger"]["done"] for result in results.values()),
                "missing": missing,
            },
        },
    )
    assemble(analysis.output, analysis.regions)
    return _where("selection", analysis.output / "select.json")


def _compare(analysis: Analysis, workers: "Workers") -> str:
    from processors.files import write_json  # noqa: PLC0415 - --help must be quick
    from processors.stages.compare import compare_region  # noqa: PLC0415
    from report import terminal  # noqa: PLC0415

    regions = {}
    for name in analysis.regions:
        regions[name] = compare_region(
            name=name,
            convention=analysis.rmm.convention,
            settings=analysis.comparison,
            blinded=analysis.report.blinds(name),
            workers=workers,
            output=analysis.output,
        )
        terminal.agreement_table(name, regions[name])
    write_json(analysis.output / "agreement.json", {"format": 1, "regions": regions})
    return _where("agreement", analysis.output / "agreement.json")


def _train(analysis: Analysis, workers: "Workers") -> str:
    from models.bundle import read_card  # noqa: PLC0415 - --help must be quick
    from models.training import train  # noqa: PLC0415
    from report import terminal  # noqa: PLC0415
    from report.studies import baselines_of, events_of_an_epoch  # noqa: PLC0415

    done = []
    for name in analysis.regions:
        with terminal.training_bar(f"training {name}", events_of_an_epoch(analysis, name)) as tick:
            bundle = train(
                analysis.output / "shards" / name / "manifest.json",
                features=analysis.feature_set,
                settings=analysis.training,
                seed=analysis.seed,
                output=analysis.output,
                name=analysis.model_name,
                progress=tick,
            )
        terminal.training_remarks(bundle, read_card(bundle))
        with terminal.progress_bar(f"fitting baselines {name}"):
            baselines_of(analysis, name)
        done.append(_where("model", bundle))
    return "\n".join(done)


def _tune(analysis: Analysis, workers: "Workers") -> str:
    from models.search.tuning import search, train_winner  # noqa: PLC0415 - --help must be quick
    from processors.files import read_json  # noqa: PLC0415
    from report import terminal  # noqa: PLC0415
    from report.search import leaderboard_table  # noqa: PLC0415
    from report.studies import events_of_an_epoch  # noqa: PLC0415

    _look_first(analysis, workers, scoring=True)
    done = []
    for name in analysis.regions:
        manifest = analysis.output / "shards" / name / "manifest.json"
        with terminal.progress_bar(f"searching {name}") as tick:
            path = search(
                manifest,
                features=analysis.feature_set,
                settings=analysis.search,
                training=analysis.training,
                seed=analysis.seed,
                output=analysis.output,
                workers=workers,
                progress=tick,
            )
        leaderboard_table(read_json(path))
        with terminal.training_bar(f"training the winner {name}", events_of_an_epoch(analysis, name)) as tick:
            bundle = train_winner(
                path,
                manifest,
                training=analysis.training,
                output=analysis.output,
                progress=tick,
            )
        tell(_where("settings", path.with_name("best.yaml")) + ": train --config trains it again")
        done.append(_where("model", bundle) + f": score --model {bundle.name}")
    return "\n".join(done)


def _score(analysis: Analysis, workers: "Workers") -> str:
    from models.bundle import read_card  # noqa: PLC0415 - --help must be quick
    from processors.files import read_json  # noqa: PLC0415
    from processors.stages.results import assemble  # noqa: PLC0415
    from processors.stages.score import score_region  # noqa: PLC0415
    from report.studies import baselines_of, bundles_of  # noqa: PLC0415

    bundles = bundles_of(analysis)
    if analysis.scoring.bundle is not None:
        done = _score_files(analysis.model_copy(update={"regions": tuple(bundles)}), workers, bundles)
        selection = analysis.output / "select.json"
        if selection.is_file():
            assemble(analysis.output, list(read_json(selection)["regions"]))
        return done
    _look_first(analysis, workers, scoring=True)
    for name, (bundle, _) in bundles.items():
        for path, card in ((path, read_card(path)) for path in (bundle, *baselines_of(analysis, name))):
            score_region(
                name=name,
                region=analysis.region(name),
                model=path,
                model_name=str(card["name"]),
                loader="models.bundle:load_model",
                seed=analysis.seed,
                workers=workers,
                output=analysis.output,
                friends=analysis.scoring.friends and path == bundle,
            )
    assemble(analysis.output, analysis.regions)
    return "\n".join(
        _where("scores", analysis.output / "scores" / name / str(card["name"]))
        for name, (_, card) in bundles.items()
    )


def _score_files(
    analysis: Analysis, workers: "Workers", bundles: dict[str, tuple[Path, dict[str, Any]]]
) -> str:
    """Events of the files are selected and scored in one pass by a bundle that came from elsewhere."""
    from fileset.coffea_forms import with_steps  # noqa: PLC0415 - --help must be quick
    from processors.stages.score import score_files  # noqa: PLC0415

    audit = _checked(analysis, workers, scoring=True)
    fileset = with_steps(audit.fileset, analysis.execution.chunksize, audit.clusters)
    done = []
    for name, (bundle, _) in bundles.items():
        scored = score_files(
            _of_region(fileset, name),
            name=name,
            region=analysis.region(name),
            weights=analysis.weights,
            rmm=analysis.rmm,
            model=bundle,
            loader="models.bundle:load_model",
            seed=None,
            workers=workers,
            output=analysis.output,
            friends=analysis.scoring.friends,
        )
        rows = sum(shard["rows"] for shard in scored["shards"])
        done.append(f"{rows:,} events scored: {analysis.output / 'scores' / name / scored['model']}")
    return "\n".join(done)


def _evaluate(analysis: Analysis, workers: "Workers") -> str:
    from models.studies.evaluation import evaluate  # noqa: PLC0415 - --help must be quick
    from processors.files import write_json  # noqa: PLC0415
    from processors.stages.results import current_scores, other_scores  # noqa: PLC0415
    from report import terminal  # noqa: PLC0415
    from report.studies import bundles_of, write_studies, write_workspaces  # noqa: PLC0415

    regions, bundles = {}, bundles_of(analysis)
    for name, (_, card) in bundles.items():
        datasets = current_scores(analysis.output, name, card)["datasets"]
        scores = analysis.output / "scores" / name / card["name"]
        with terminal.progress_bar(f"measuring power {name}", unit="events") as tick:
            regions[name] = evaluate(
                scores / "manifest.json",
                card=card,
                others=other_scores(analysis.output, name, str(card["name"])),
                shards=analysis.output / "shards" / name / "manifest.json",
                settings=analysis.evaluation,
                progress=tick,
            )
        write_workspaces(analysis, name, card, datasets)
        terminal.show_power(name, regions[name], datasets)
    write_json(analysis.output / "evaluate.json", {"format": 1, "regions": regions})
    write_studies(analysis, bundles)
    return _where("power", analysis.output / "evaluate.json")


def _robustness(analysis: Analysis, workers: "Workers") -> str:
    from report.studies import bundles_of, write_robustness  # noqa: PLC0415 - --help must be quick

    write_robustness(analysis, bundles_of(analysis))
    return _where("robustness", analysis.output / "robustness.json")


def _report(analysis: Analysis, workers: "Workers") -> str:
    from report import terminal  # noqa: PLC0415 - --help must be quick
    from report.page import write_page  # noqa: PLC0415

    with terminal.progress_bar("drawing", unit="figures") as tick:
        write_page(
            analysis.output, settings=analysis.report, processes=analysis.execution.n_workers, progress=tick
        )
    folder = analysis.output / "report"
    pictures = [folder / "figures" / f"{name}_score.png" for name in analysis.regions]
    return "\n".join(
        [
            _where("page", folder / "index.html"),
            *(_where("picture", picture) for picture in pictures if picture.is_file()),
        ]
    )


def _check(analysis: Analysis, workers: "Workers") -> str:
    return _audited(_checked(analysis, workers, scoring=True), analysis)


def _audited(audit: Any, analysis: Analysis) -> str:
    warnings = len(audit.of_severity("warning"))
    entries = sum(row["entries"] for row in audit.rows())
    where = analysis.output / "check.json"
    return f"{len(audit.records)} files with {entries:,} entries checked, {warnings} warnings: {where}"


def _check_in_full(analysis: Analysis, workers: "Workers") -> str:
    from processors.readiness import NotReadyError  # noqa: PLC0415 - --help must be quick
    from report import terminal  # noqa: PLC0415

    try:
        looks = _look_first(analysis, workers, scoring=True, fileset=_resolve(analysis))
    except NotReadyError as error:
        terminal.looks_table(error.looks)
        raise
    if looks:
        terminal.looks_table(looks)
    audit = _checked(analysis, workers)
    terminal.audit_table(audit.rows())
    for finding in audit.of_severity("note"):
        tell(f"note: {finding.message}")
    return _audited(audit, analysis)


_STAGES: dict[str, tuple[str, Callable[[Analysis, "Workers"], str]]] = {
    "fileset": ("Resolve which files are read.", _fileset),
    "check": ("Open every file once and audit it.", _check),
    "select": ("Select events: shards, histograms, cutflow.", _select),
    "compare": ("Compare data with simulation in every input.", _compare),
    "train": ("Train the model on background simulation.", _train),
    "score": ("Score every selected event.", _score),
    "evaluate": ("Tell each signal's power beside single variables.", _evaluate),
    "report": ("Draw the figures and the page.", _report),
}


# As a verb of its own, check shows every dataset.
_VERBS = {**_STAGES, "check": (_STAGES["check"][0], _check_in_full)}


def _stage(stage: str, analysis: Analysis, workers: "Workers", stages: dict[str, Any] = _STAGES) -> str:
    from processors.provenance import recorded  # noqa: PLC0415 - --help must be quick

    config = analysis.model_dump(mode="json")
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    with recorded(analysis.output, stage, config=config, command=command, tally=workers.watch.tally):
        done: str = stages[stage][1](analysis, workers)
    return done


def _run(analysis: Analysis, workers: "Workers") -> str:
    from processors.files import read_json  # noqa: PLC0415 - --help must be quick
    from report import terminal  # noqa: PLC0415

    *before, last = _STAGES
    for stage in before:
        tell(_stage(stage, analysis, workers))
    page = _stage(last, analysis, workers)
    done = read_json(analysis.output / "run.json")
    terminal.timing_table({stage: done["timings"][stage] for stage in _STAGES}, done["stages"])
    return page


# --- the command line ------------------------------------------------------------------------------------------------


@click.group(cls=Verbs, help=__doc__.replace("\n    ", "\n\b\n    ", 1))
@click.version_option(importlib.metadata.version("collider-anomalies"))
def main() -> None:  # noqa: D103 - its help is the module's
    pass


_EXAMPLES = {
    "fileset": "fileset --fileset atlas-2020 --skim 2lep --local path/to/downloads",
    "check": "check --fileset path/to/2lep --region 2L --output output/mine",
    "select": "select --fileset demo --region 2L --executor futures --output output/demo",
    "compare": "compare --region 2L --output output/demo",
    "train": "train --region 2L --preset hardness --output output/demo",
    "score": "score --region 2L --preset hardness --output output/demo",
    "evaluate": "evaluate --region 2L --preset hardness --output output/demo",
    "report": "report --region 2L --output output/demo",
    "tune": "tune --region 2L --space wide --executor dask --output output/demo",
    "robustness": "robustness --region 2L --epochs 10 --output output/demo",
    "simulate": "simulate --process Zee --events 10000 --executor futures --output sample",
    "validate": "validate --fileset demo --reference open-data/4lep --output output/validation",
    "run": "run --fileset demo --region 2L --output output/demo",
}


def _verb(name: str, summary: str, body: Callable[[Analysis, "Workers"], str], table: Flags = FLAGS) -> None:
    help_text = f"{summary}\n\n\b\nExample: run_analysis.py {_EXAMPLES[name]}"
    main.command(name, help=help_text)(taking_flags(body, table))


for _name, (_summary, _) in _STAGES.items():
    _verb(_name, _summary, partial(_stage, _name, stages=_VERBS))
_verb("run", "All stages in turn.", _run)
_verb(
    "tune",
    "Search for better training settings with Hyperband, and train the best.",
    partial(_stage, "tune", stages={"tune": ("", _tune)}),
    SEARCH_FLAGS,
)
_verb(
    "robustness",
    "Test what the score notices: harder leptons, noise, trainings without a process or on little data.",
    partial(_stage, "robustness", stages={"robustness": ("", _robustness)}),
    ROBUSTNESS_FLAGS,
)
_verb("simulate", "Make a sample in the release's layout with Pythia 8.", _simulate, SIMULATION_FLAGS)
_verb(
    "validate",
    "Does simulation look like data? Z peak, b-tagging, leptons, jets, missing momentum on one page.",
    _validate,
    VALIDATION_FLAGS,
)
main.add_command(config)
main.add_command(completion)


if __name__ == "__main__":
    main()
