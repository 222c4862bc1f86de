"""Score: shards, or events themselves, and a model to a score for every event."""

import logging
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hist
from coffea.processor.executor import WorkItem

from fileset.exceptions import InputError
from processors.books import dataset_books, manifest_of
from processors.execution import unreadable, work_items
from processors.features import baseline_names, made_names
from processors.files import checksum, fingerprint, read_json
from processors.friends import write_friends
from processors.histograms import left_for_search
from processors.receipts import dependence
from processors.rmm import layout_of
from processors.schema import OpenDataSchema, ShardSchema
from processors.scoring import EventScoreProcessor, ScoreProcessor, Scoring
from processors.selection import SelectionProcessor, chunk_name
from processors.settings import RegionSettings, RMMSettings, WeightSettings
from processors.shards import content_of, read_manifest
from processors.split import SPLIT_FRACTIONS
from processors.stages.results import write_results
from processors.stages.resume import refuse, run_what_is_missing, shard_chunks
from processors.stages.select import input_recipe, selection_hashes
from processors.weights import check_corrections, variation_names
from processors.workers import Workers

__all__ = ["score_files", "score_region"]

logger = logging.getLogger(__name__)


def score_region(
    *,
    name: str,
    region: RegionSettings,
    model: Path,
    model_name: str,
    loader: str,
    seed: int,
    workers: Workers,
    output: Path,
    friends: bool = True,
) -> dict[str, Any]:
    """Scores every event of a region's shards: output/scores/<region>/<model>.

    Args:
        name: of the region.
        region: its cuts.
        model: directory of the model's bundle.
        model_name: name of the model.
        loader: "module:function" that loads the bundle.
        seed: of the split into training, validation and test.
        workers: who do the work.
        output: directory of the whole analysis.
        friends: write a ROOT tree of each dataset's scores too.

    Returns:
        The manifest of the scores.

    Raises:
        InputError: the model is missing, of another split, or takes inputs that the shards do not hold.
        FailureError: a shard could not be read.
    """
    shards = output.absolute() / "shards" / name
    manifest = read_manifest(shards / "manifest.json")
    scales = {dataset: book["scale"] for dataset, book in manifest["datasets"].items()}
    card = _card(model, seed)
    in_shards = {
        *manifest["variables"],
        *(column for part in manifest["features"].values() for column in part),
    }
    _check_inputs(model, card, name, region, in_shards, manifest.get("recipe") or {})
    trained_on = card.get("trained_on", {})
    now = fingerprint(content_of(manifest, trained_on.get("kind", "background")))
    if trained_on.get("shards", now) != now:
        logger.warning(
            "model %s was trained on other shards than it scores now: train again unless that is meant", model
        )
    # What a baseline is worth is told without variations: their histograms would be most of all that is written.
    variations = manifest["variations"][: None if card.get("role", "model") == "model" else 1]
    scoring = Scoring(
        region=name,
        n_leptons=region.n_leptons,
        name=model_name,
        model=model.absolute(),
        loader=loader,
        variables=manifest["variables"],
        variations=variations,
        seed=seed,
        directory=output.absolute() / "scores" / name / model_name,
        fractions=_fractions(card),
    )
    hashes = _shard_hashes(scoring, manifest)
    receipts, histograms = _done(
        scoring,
        shard_chunks(manifest, shards, hashes),
        hashes,
        ScoreProcessor(scoring, scales=scales),
        workers,
        schema=ShardSchema,
        file_format="parquet",
    )
    scored = {
        **manifest,
        "model": model_name,
        "model_checksum": card.get("checksum"),
        "scores": card.get("scores", ["mse"]),
        "role": card.get("role", "model"),
        "variations": variations,
        "scored_shards": manifest["config_hash"],
        "config_hash": fingerprint(hashes),
        "seed": seed,
        "fractions": list(scoring.fractions),
        "searched": left_for_search(card),
        "shards": [
            {**receipts[chunk]["shard"], "dataset": receipts[chunk]["dataset"]} for chunk in sorted(receipts)
        ],
    }
    return _written(scoring, scored, histograms, workers, friends=friends)


def _shard_hashes(scoring: Scoring, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Chunk -> hash of everything its scores depend on."""
    of_model = [checksum(scoring.model / "card.json"), scoring.seed, scoring.variables, scoring.variations]
    return {
        shard["path"].removesuffix(".parquet"): dependence(
            [*of_model, shard["checksum"], manifest["datasets"][shard["dataset"]]["scale"]]
        )
        for shard in manifest["shards"]
    }


def score_files(
    fileset: Mapping[str, Any],
    *,
    name: str,
    region: RegionSettings,
    weights: WeightSettings,
    rmm: RMMSettings,
    model: Path,
    loader: str,
    seed: int | None,
    workers: Workers,
    output: Path,
    friends: bool = True,
) -> dict[str, Any]:
    """Selects and scores events of ROOT files in one pass, without shards: output/scores/<region>/<model>.

    The scores are those that `score_region` gives of the same events.

    Args:
        fileset: the checked fileset of this region, with steps: each becomes a chunk.
        name: of the region.
        region: its cuts.
        weights: which weight factors.
        rmm: which matrix; it is made only if the model takes its cells.
        model: directory of the model's bundle.
        loader: "module:function" that loads the bundle.
        seed: of the split into training, validation and test; by default the model's own.
        workers: who do the work.
        output: directory of the whole analysis.
        friends: write a ROOT tree of each dataset's scores too.

    Returns:
        The manifest of the scores.

    Raises:
        InputError: the model is missing, of another split, or takes inputs that are not made here.
        FailureError: a chunk could not be read.
    """
    check_corrections(weights, made_names(region))
    card = _card(model, seed)
    seed = int(card["seeds"]["split"]) if seed is None else seed
    rmm = rmm.model_copy(update={"write": not _in_table(region).issuperset(card["features"])})
    made = _in_table(region) | set(layout_of(rmm).cell_names)
    _check_inputs(model, card, name, region, made, input_recipe(region, rmm))
    scoring = Scoring(
        region=name,
        n_leptons=region.n_leptons,
        name=str(card["name"]),
        model=model.absolute(),
        loader=loader,
        variables=list(baseline_names(region.n_leptons)),
        variations=list(variation_names(weights)),
        seed=seed,
        directory=output.absolute() / "scores" / name / str(card["name"]),
        fractions=_fractions(card),
    )
    of_model = [checksum(model / "card.json"), seed]
    selection = selection_hashes(fileset, region=region, weights=weights, rmm=rmm)
    hashes = {dataset: dependence([*of_model, selected]) for dataset, selected in selection.items()}
    chunks = {
        chunk_name(i.dataset, str(uuid.UUID(bytes=i.fileuuid)), i.entrystart, i.entrystop): i
        for i in work_items(fileset)
    }
    selecting = SelectionProcessor(
        name=name,
        region=region,
        weights=weights,
        rmm=rmm,
        shards=scoring.directory,
        config_hashes=hashes,
    )
    receipts, histograms = _done(
        scoring,
        chunks,
        {chunk: hashes[item.dataset] for chunk, item in chunks.items()},
        EventScoreProcessor(scoring, selecting, config_hashes=hashes),
        workers,
        schema=OpenDataSchema,
        known_missing=unreadable(fileset),
        timeout=workers.settings.timeout,
    )
    manifest = _manifest_of_files(scoring, fileset, receipts, fingerprint([hashes, sorted(receipts)]), card)
    return _written(scoring, manifest, histograms, workers, friends=friends)


def _manifest_of_files(
    scoring: Scoring,
    fileset: Mapping[str, Any],
    receipts: Mapping[str, Mapping[str, Any]],
    config_hash: str,
    card: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of scores of events, with what a manifest of scored shards has."""
    books = dataset_books(fileset, receipts)
    return manifest_of(
        scoring.region,
        config_hash,
        books,
        receipts,
        dict.fromkeys(books, 1.0),
        complete=True,
        lumi_pb=next(iter(books.values()))["lumi_pb"],
        variables=list(scoring.variables),
        variations=list(scoring.variations),
        model=scoring.name,
        model_checksum=card.get("checksum"),
        scores=card.get("scores", ["mse"]),
        role=card.get("role", "model"),
        scored_shards=None,
        seed=scoring.seed,
        fractions=list(scoring.fractions),
        searched=left_for_search(card),
    )


def _done(
    scoring: Scoring,
    chunks: Mapping[str, WorkItem],
    hashes: Mapping[str, str],
    processor: ScoreProcessor | EventScoreProcessor,
    workers: Workers,
    **how: Any,
) -> tuple[dict[str, dict[str, Any]], dict[str, hist.Hist]]:
    """Receipts and histograms of all chunks.

    Raises:
        FailureError: some could not be done; ledger.json beside the scores names them.
    """
    receipts, histograms, missing = run_what_is_missing(
        chunks,
        hashes,
        scoring.directory,
        processor,
        workers.executor(f"scoring {scoring.region} with {scoring.name}"),
        **how,
    )
    if missing:
        refuse(missing, scoring.directory / "ledger.json")
    return receipts, histograms


def _written(
    scoring: Scoring,
    manifest: dict[str, Any],
    histograms: Mapping[str, hist.Hist],
    workers: Workers,
    *,
    friends: bool,
) -> dict[str, Any]:
    """The manifest, after it and all that goes with it is on disk; what is there already is left as it is."""
    known = scoring.directory / "manifest.json"
    before = read_json(known) if known.is_file() else {}
    trees = before.get("friends", [])
    same = before == {**manifest, "friends": trees} and bool(trees) == friends
    if not same or not all((scoring.directory / tree["path"]).is_file() for tree in trees):
        trees = write_friends(scoring.directory, manifest, workers.map) if friends else []
    manifest = {**manifest, "friends": trees}
    write_results(scoring.directory, manifest, histograms)
    return manifest


def _card(model: Path, seed: int | None) -> dict[str, Any]:
    """The card of a model that may score with this split.

    Raises:
        InputError: there is none, or its split is of another seed, so that events it has trained on would pass for
            held-out ones.
    """
    if not (model / "card.json").is_file():
        message = f"there is no model {model}: run the stage train first"
        raise InputError(message)
    card: dict[str, Any] = read_json(model / "card.json")
    own = card.get("seeds", {}).get("split", seed)
    if seed not in {None, own}:
        message = f"model {model} was trained with the split of seed {own}, not {seed}: score with that, or train again"
        raise InputError(message)
    return card


def _fractions(card: Mapping[str, Any]) -> tuple[float, float, float]:
    """Parts of the model's split: what it has trained on must not pass for held out."""
    train, validation, test = card.get("trained_on", {}).get("fractions", SPLIT_FRACTIONS)
    return float(train), float(validation), float(test)


def _in_table(region: RegionSettings) -> set[str]:
    """Columns that are made without the matrix."""
    return set(made_names(region))


def _check_inputs(
    model: Path,
    card: Mapping[str, Any],
    name: str,
    region: RegionSettings,
    made: set[str],
    recipe: Mapping[str, Any],
) -> None:
    """Looks whether the columns that there are here are those that a model has learnt.

    Raises:
        InputError: they have other names, or mean something else.
    """
    features = card.get("features", [])
    unknown = [feature for feature in features if feature not in made]
    if unknown:
        message = (
            f"model {model} takes {unknown[0]!r}, which is not made in region {name}: score another region"
        )
        raise InputError(message)
    own, cells = card.get("trained_on", {}).get("recipe") or {}, not _in_table(region).issuperset(features)
    own, recipe = _of_inputs(own, features), _of_inputs(recipe, features)
    parts = [
        part for part in own if part in recipe and own[part] != recipe[part] and (part != "rmm" or cells)
    ]
    if parts:
        message = (
            f"model {model} was trained with other settings of {' and '.join(parts)} than region {name} has now: "
            "set them as they were, or train again"
        )
        raise InputError(message)


def _of_inputs(recipe: Mapping[str, Any], features: Sequence[str]) -> dict[str, Any]:
    """A recipe with those columns of the user's own alone that a model takes; how they are drawn does not matter."""
    known = recipe.get("columns", {})
    columns = {f: [known[f][what] for what in ("function", "content")] for f in features if f in known}
    return {**recipe, "columns": columns}
