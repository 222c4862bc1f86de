"""What `evaluate` works out of a model's scores beside its power: a table of studies, each with its document.

It stands in the last room because each takes a part of the configuration of the whole analysis.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fileset.exceptions import InputError
from models.bundle import verified_card
from processors.files import write_json
from processors.shards import read_manifest
from report.analysis import Analysis, StudyName
from report.terminal import progress_bar, show_table

__all__ = [
    "baselines_of",
    "bundles_of",
    "events_of_an_epoch",
    "write_robustness",
    "write_studies",
    "write_workspaces",
]


@dataclass(frozen=True)
class _Scored:
    """One region whose events a model has scored."""

    analysis: Analysis
    region: str
    bundle: Path
    card: dict[str, Any]

    @property
    def scores(self) -> Path:
        return self.analysis.output / "scores" / self.region / str(self.card["name"]) / "manifest.json"

    @property
    def shards(self) -> Path:
        return self.analysis.output / "shards" / self.region / "manifest.json"

    @property
    def blinded(self) -> bool:
        """Whether all data or those with a high score are hidden."""
        report = self.analysis.report
        return report.blinds(self.region) or report.score_limit is not None


def _significance(scored: _Scored) -> dict[str, Any]:
    from models.studies.significance import significance  # noqa: PLC0415 - imports pyhf

    return significance(scored.scores, settings=scored.analysis.significance, card=scored.card)


def _alarms(scored: _Scored) -> dict[str, Any]:
    from models.studies.pseudo_experiments import pseudo_experiments  # noqa: PLC0415 - imports SciPy

    verdict = scored.analysis.output / "alarms" / f"{scored.region}_verdict.json"
    return pseudo_experiments(
        scored.scores,
        settings=scored.analysis.alarms,
        seed=scored.analysis.seed,
        record=lambda found: write_json(verdict, found),
    )


def _sculpting(scored: _Scored) -> dict[str, Any]:
    from models.studies.sculpting import sculpting  # noqa: PLC0415 - imports coffea and pyBumpHunter

    return sculpting(
        scored.scores,
        scored.shards,
        settings=scored.analysis.sculpting,
        seed=scored.analysis.seed,
        blinded=scored.blinded,
        card=scored.card,
        maps=scored.analysis.output / "decorrelation" / f"{scored.region}.json",
    )


def _explanation(scored: _Scored) -> dict[str, Any]:
    from models.studies.explanation import explain  # noqa: PLC0415 - imports Keras

    report = scored.analysis.report
    return explain(
        scored.scores,
        scored.shards,
        scored.bundle,
        settings=scored.analysis.explanation,
        blinded=report.blinds(scored.region),
        score_limit=report.score_limit,
        jets=scored.analysis.region(scored.region).jets,
    )


_STUDIES: Final[dict[StudyName, Callable[[_Scored], dict[str, Any]]]] = {
    "significance": _significance,
    "alarms": _alarms,
    "sculpting": _sculpting,
    "explanation": _explanation,
}


def baselines_of(analysis: Analysis, region: str) -> list[Path]:
    """Bundles of the scores without a network that a region's model is compared with, fitted where they are not yet."""
    from models.baselines import fit_baselines  # noqa: PLC0415 - imports scikit-learn

    return fit_baselines(
        analysis.output / "shards" / region / "manifest.json",
        features=analysis.feature_set,
        settings=analysis.baselines,
        seed=analysis.seed,
        output=analysis.output,
        training=analysis.training,
    )


def bundles_of(analysis: Analysis) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Region -> the whole bundle that scores its events, and its card; a model has the name that its card says.

    Raises:
        InputError: there is none, or it is a bundle of another name or region.
        FailureError: it is incomplete or was changed after it was written.
    """
    given = analysis.scoring.bundle
    if given is not None:
        card = verified_card(given)
        return {str(card["region"]): (given, card)}
    found = {}
    for name in analysis.regions:
        bundle = analysis.output / "models" / name / analysis.model_name
        card = verified_card(bundle)
        if (card["region"], card["name"]) != (name, bundle.name):
            message = (
                f"{bundle} is a copy of the model {card['name']} of region {card['region']}: "
                "give it with --bundle where it was, or train one of this name"
            )
            raise InputError(message)
        found[name] = bundle, card
    return found


def events_of_an_epoch(analysis: Analysis, region: str) -> int:
    """About how many events train: a hash of its identity decides it for each."""
    training, manifest = (
        analysis.training,
        read_manifest(analysis.output / "shards" / region / "manifest.json"),
    )
    own = {name for name, book in manifest["datasets"].items() if book["kind"] == training.trained_kind}
    rows = sum(int(shard["rows"]) for shard in manifest["shards"] if shard["dataset"] in own)
    return min(round(rows * training.fractions[0]), training.max_train_events or rows)


def write_workspaces(analysis: Analysis, region: str, card: dict[str, Any], datasets: dict[str, Any]) -> None:
    """Writes OUTPUT/workspaces/<region>.json and the models of its limits; none where there is nothing to fit.

    Args:
        analysis: the configuration.
        region: its name.
        card: of the model that has scored its events.
        datasets: metadata of each of its datasets.
    """
    from models.studies.limits import limits_workspace  # noqa: PLC0415 - --help must be quick
    from models.studies.workspace import histfactory_workspace  # noqa: PLC0415
    from processors.histograms import left_for_search, load_histograms  # noqa: PLC0415

    scores, settings = analysis.output / "scores" / region / card["name"], analysis.significance
    histogram = load_histograms(scores / "histograms.json")[f"{region}/score/{card['name']}"]
    searched = left_for_search(card)
    blinded = analysis.report.blinds(region) or analysis.report.score_limit is not None
    workspaces = {
        region: histfactory_workspace(
            histogram,
            datasets,
            region=region,
            minimum=settings.limit_min_effective,
            blinded=blinded,
            searched=searched,
        ),
        f"{region}_limits": limits_workspace(
            histogram, datasets, region=region, settings=settings, searched=searched
        ),
    }
    for stem, workspace in workspaces.items():
        path = analysis.output / "workspaces" / f"{stem}.json"
        if workspace is not None:
            write_json(path, workspace)
        else:
            path.unlink(missing_ok=True)


def write_studies(analysis: Analysis, bundles: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    """Writes OUTPUT/<study>.json for each study that is wanted; one that is not leaves none.

    Args:
        analysis: the configuration.
        bundles: region -> bundle of the model that has scored its events, and its card.
    """
    wanted = [study for study in _STUDIES if study in analysis.studies]
    for study in _STUDIES:
        if study not in wanted:
            (analysis.output / f"{study}.json").unlink(missing_ok=True)
    found: dict[str, dict[str, Any]] = {}
    with progress_bar("evaluating") as tick:
        done, total = 0, len(wanted) * len(bundles)
        for study in wanted:
            regions = {}
            for name, (bundle, card) in bundles.items():
                tick(done, total, f"{study} {name}")
                regions[name] = _STUDIES[study](_Scored(analysis, name, bundle, card))
                done += 1
            found[study] = regions
            write_json(analysis.output / f"{study}.json", {"format": 1, "regions": regions})
        tick(done, total, "")
    if "alarms" in found:
        _show_alarms(found["alarms"])


def _show_alarms(regions: dict[str, Any]) -> None:
    """Whether claimed rates of false alarms hold, on the terminal."""
    from report.alarms import ALARMS_HEADER, alarms_rows  # noqa: PLC0415 - imports Matplotlib

    rows = [row for name, entry in regions.items() for row in alarms_rows(name, entry)]
    show_table("False alarms of pseudo-experiments without a signal", ALARMS_HEADER, rows)


def write_robustness(analysis: Analysis, bundles: dict[str, tuple[Path, dict[str, Any]]]) -> None:
    """Writes OUTPUT/robustness.json: tests with changed events and with new trainings; arguments as above."""
    from models.studies.robustness import robustness  # noqa: PLC0415 - imports Keras

    regions = {}
    for name, (bundle, _) in bundles.items():
        with progress_bar(f"robustness {name}") as tick:
            regions[name] = robustness(
                analysis.output / "shards" / name / "manifest.json",
                bundle,
                features=analysis.feature_set,
                training=analysis.training,
                settings=analysis.robustness,
                region=analysis.region(name),
                rmm=analysis.rmm,
                seed=analysis.seed,
                output=analysis.output,
                progress=tick,
            )
    write_json(analysis.output / "robustness.json", {"format": 1, "regions": regions})
