"""The stages select, compare and score: chunks to do, what is done already, and the books at the end."""

import logging
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hist
from coffea.nanoevents import BaseSchema
from coffea.processor import ProcessorABC, accumulate
from coffea.processor.executor import ExecutorBase, WorkItem

from fileset.exceptions import FailureError, InputError
from processors.books import dataset_books, ledger, manifest_of, scaled_books
from processors.cells import add_absent, load_cells, save_cells
from processors.comparison import ComparisonProcessor, compared, inputs_of
from processors.execution import Missing, Workers, run_chunks, work_items
from processors.features import REDUCED, baseline_names, table_names
from processors.files import checksum, fingerprint, read_json, write_json
from processors.histograms import load_histograms, save_histograms, save_root
from processors.receipts import dependence, read_receipt, receipt_path
from processors.rmm import model_cells
from processors.schema import OpenDataSchema
from processors.scoring import ScoreProcessor
from processors.selection import SelectionProcessor, chunk_name
from processors.settings import ComparisonSettings, Convention, RegionSettings, RMMSettings, WeightSettings
from processors.shards import MANIFEST_FORMAT, read_manifest, remove_strays
from processors.weights import check_corrections, variation_names

__all__ = ["assemble", "compare_region", "disk_needed", "score_region", "select_region"]

logger = logging.getLogger(__name__)

# What the result of a dataset depends on, beside the cuts; labels and colours change no number.
_DECISIVE_METADATA = ("kind", "norm", "release", "tree")

# Bytes a selected event takes on disk, about: measured on the demo sample.
_BYTES_PER_EVENT = {True: 450, False: 180}

StageOutput = tuple[dict[str, dict[str, Any]], dict[str, hist.Hist], list[Missing]]


def disk_needed(fileset: Mapping[str, Any], rmm: RMMSettings) -> int:
    """Bytes that shards may take at most, about: as if every event passed."""
    entries = sum(file["num_entries"] for content in fileset.values() for file in content["files"].values())
    return int(entries * _BYTES_PER_EVENT[rmm.write])


def _run_what_is_missing(
    chunks: Mapping[str, WorkItem],
    hashes: Mapping[str, str],
    directory: Path,
    processor: ProcessorABC,
    executor: ExecutorBase,
    **how: Any,
) -> StageOutput:
    """Receipts and histograms of all chunks: of those done before, read from disk; the others are done now.

    Args:
        chunks: name -> chunk.
        hashes: name -> hash of what its result depends on.
        directory: of shards and receipts.
        processor: does one chunk.
        executor: who does them.
        how: further arguments of `execution.run_chunks`.
    """
    receipts: dict[str, dict[str, Any]] = {}
    histograms: dict[str, hist.Hist] = {}
    to_do = []
    for name in sorted(chunks):
        known = read_receipt(directory, name, hashes[name])
        if known is None:
            to_do.append(chunks[name])
        else:
            receipts[name] = known[0]
            histograms = accumulate([histograms, known[1]])
    if receipts:
        logger.info("%d of %d chunks were done before", len(receipts), len(chunks))
    if to_do:
        # Killed in the middle, a stage must not leave a manifest, or receipts, of what is being written over.
        (directory / "manifest.json").unlink(missing_ok=True)
        for name in chunks.keys() - receipts.keys():
            receipt_path(directory, name).unlink(missing_ok=True)
    output, missing = run_chunks(to_do, processor, executor, **how)
    if output is not None:
        receipts |= output["receipts"]
        histograms = accumulate([histograms, output["histograms"]])
    return receipts, histograms, missing


def _scaled(histogram: hist.Hist, scales: Mapping[str, float]) -> hist.Hist:
    """A histogram with each dataset multiplied by its factor."""
    if all(scales[dataset] == 1 for dataset in histogram.axes[0]):
        return histogram
    scaled = histogram.copy()
    view: Any = scaled.view(flow=True)
    for position, dataset in enumerate(histogram.axes[0]):
        view["value"][position] *= scales[dataset]
        view["variance"][position] *= scales[dataset] ** 2
    return scaled


def _scales(books: Mapping[str, Mapping[str, Any]], missing: Sequence[Missing]) -> dict[str, float]:
    """What corrects the normalisation of incomplete simulated samples: entries expected over entries read.

    Raises:
        FailureError: collision data are missing, or nothing of a simulated sample could be read.
    """
    incomplete = {m.dataset: m for m in missing}
    scales = {}
    for dataset, book in books.items():
        if dataset not in incomplete:
            scales[dataset] = 1.0
            continue
        lost = incomplete[dataset]
        if book["kind"] == "data" or book["events_read"] == 0:
            message = (
                f"{lost.file}, entries {lost.start}-{lost.stop}: missing events of {dataset} cannot be made up for "
                f"({lost.cause}); repair the file and run again"
            )
            raise FailureError(message)
        scales[dataset] = book["events_expected"] / book["events_read"]
    return scales


def _refuse(missing: Sequence[Missing], ledger_file: Path) -> None:
    first = missing[0]
    others = f" and {len(missing) - 1} more ranges" if len(missing) > 1 else ""
    message = (
        f"{first.file}, entries {first.start}-{first.stop} of dataset {first.dataset}{others} could not be done "
        f"({first.cause}); {ledger_file} names them all: mend the cause and run again, only what is missing is done"
    )
    raise FailureError(message)


def select_region(
    fileset: Mapping[str, Any],
    *,
    name: str,
    region: RegionSettings,
    weights: WeightSettings,
    rmm: RMMSettings,
    workers: Workers,
    output: Path,
    allow_missing: bool = False,
) -> dict[str, Any]:
    """Selects one region: shards, manifest and histograms under output/shards/<region>, and its part of select.json.

    Args:
        fileset: the checked fileset of this region, with steps: each becomes a chunk.
        name: of the region.
        region: its cuts.
        weights: which weight factors.
        rmm: which matrix.
        workers: who do the work.
        output: directory of the whole analysis.
        allow_missing: scale incomplete simulated samples up to what they should be instead of refusing.

    Returns:
        `cuts`, `lumi_pb`, `datasets` (see `books.dataset_books`) and `ledger`.

    Raises:
        FailureError: chunks could not be read and that is not allowed; the ledger is written all the same.
    """
    check_corrections(weights, (*table_names(region.n_leptons), *baseline_names(region.n_leptons)))
    directory = output / "shards" / name
    common = {
        "cuts": region.model_dump(),
        "weights": weights.model_dump(),
        "corrections": {name: checksum(c.file) for name, c in weights.corrections.items()},
        "rmm": rmm.model_dump(exclude={"removed"}),  # the shards hold every cell
    }
    dataset_hashes = {
        dataset: dependence({**common, **{k: content["metadata"].get(k) for k in _DECISIVE_METADATA}})
        for dataset, content in fileset.items()
    }
    items = {
        chunk_name(i.dataset, str(uuid.UUID(bytes=i.fileuuid)), i.entrystart, i.entrystop): i
        for i in work_items(fileset)
    }
    processor = SelectionProcessor(
        name=name, region=region, weights=weights, rmm=rmm, shards=directory, config_hashes=dataset_hashes
    )
    receipts, histograms, missing = _run_what_is_missing(
        items,
        {chunk: dataset_hashes[item.dataset] for chunk, item in items.items()},
        directory,
        processor,
        workers.executor(f"selecting {name}"),
        schema=OpenDataSchema,
        timeout=workers.settings.timeout,
    )
    books = dataset_books(fileset, receipts)
    result = {
        "cuts": max((list(book["cutflow"]) for book in books.values()), key=len),
        "lumi_pb": next(iter(books.values()))["lumi_pb"],
        "datasets": books,
        "ledger": ledger(len(receipts), missing),
    }
    if missing:
        write_json(directory / "ledger.json", result["ledger"])
        if not allow_missing:
            _refuse(missing, directory / "ledger.json")
    scales = _scales(books, missing)
    manifest = manifest_of(
        name,
        fingerprint(
            [dataset_hashes, scales, sorted(r["shard"]["checksum"] for r in receipts.values() if r["shard"])]
        ),
        books,
        receipts,
        scales,
        complete=not missing,
        lumi_pb=result["lumi_pb"],
        features={
            "table": list(table_names(region.n_leptons)),
            "reduced": list(REDUCED),
            "rmm": list(model_cells(rmm)),
        },
        variables=list(baseline_names(region.n_leptons)),
        variations=list(variation_names(weights)),
    )
    _write_results(directory, manifest, {key: _scaled(h, scales) for key, h in histograms.items()})
    return {**result, "datasets": scaled_books(books, scales)}


def compare_region(
    *,
    name: str,
    convention: Convention,
    settings: ComparisonSettings,
    blinded: bool,
    workers: Workers,
    output: Path,
) -> dict[str, Any]:
    """Compares data with simulation in every input: output/comparison/<region>, and inputs.json beside the shards.

    Args:
        name: of the region.
        convention: of the matrix in the shards.
        settings: normalisation and thresholds.
        blinded: data of this region must not be looked at.
        workers: who do the work.
        output: directory of the whole analysis.

    Returns:
        The region's part of agreement.json, see `comparison.compared`.

    Raises:
        FailureError: a shard could not be read.
    """
    shards = output / "shards" / name
    manifest = read_manifest(shards / "manifest.json")
    cells = {}
    if manifest["features"]["rmm"]:
        cells = _cells(manifest, shards, output / "comparison" / name, convention, workers)
    features = {
        key.removeprefix(f"{name}/"): histogram
        for key, histogram in load_histograms(shards / "histograms.json").items()
    }
    result = compared(features, cells, manifest["datasets"], settings, blinded=blinded)
    inputs = inputs_of(name, manifest, result)
    known = shards / "inputs.json"
    if not (known.is_file() and read_json(known) == inputs):
        write_json(known, inputs)
    return result


def _cells(
    manifest: Mapping[str, Any], shards: Path, directory: Path, convention: Convention, workers: Workers
) -> dict[str, hist.Hist]:
    """Histograms of the matrix' cells: those of the last time where the shards are the same."""
    names, scales = (
        manifest["features"]["rmm"],
        {d: book["scale"] for d, book in manifest["datasets"].items()},
    )
    hashes = {
        shard["path"].removesuffix(".parquet"): dependence(
            [shard["checksum"], scales[shard["dataset"]], convention, names]
        )
        for shard in manifest["shards"]
    }
    own = {"format": MANIFEST_FORMAT, "region": manifest["region"], "config_hash": fingerprint(hashes)}
    known, cells = directory / "manifest.json", directory / "cells.zip"
    if known.is_file() and cells.is_file() and read_json(known) == own:
        return load_cells(cells)
    receipts, _, missing = _run_what_is_missing(
        _shard_chunks(manifest, shards),
        hashes,
        directory,
        ComparisonProcessor(
            cells=names, convention=convention, scales=scales, directory=directory, config_hashes=hashes
        ),
        workers.executor(f"comparing {manifest['region']}"),
        schema=BaseSchema,
        file_format="parquet",
    )
    if missing:
        write_json(directory / "ledger.json", ledger(len(receipts), missing))
        _refuse(missing, directory / "ledger.json")
    histograms: dict[str, hist.Hist] = {}
    for chunk in sorted(receipts):
        done = read_receipt(directory, chunk, hashes[chunk])
        if done is not None:
            histograms = accumulate([histograms, done[1]])
    totals = {
        dataset: (book["sumw"] * book["scale"], book["sumw2"] * book["scale"] ** 2)
        for dataset, book in manifest["datasets"].items()
    }
    histograms = add_absent(histograms, totals, names)
    save_cells(histograms, cells)
    write_json(known, own)
    (directory / "ledger.json").unlink(missing_ok=True)
    for path in set(directory.glob("*/*.receipt.json")) - {
        receipt_path(directory, chunk) for chunk in hashes
    }:
        path.unlink()
    return histograms


def _shard_chunks(manifest: Mapping[str, Any], shards: Path) -> dict[str, WorkItem]:
    """The shards of a manifest as chunks, by their names without ending."""
    return {
        shard["path"].removesuffix(".parquet"): WorkItem(
            shard["dataset"],
            str(shards / shard["path"]),
            "",
            0,
            shard["rows"],
            b"",
            {"kind": manifest["datasets"][shard["dataset"]]["kind"]},
        )
        for shard in manifest["shards"]
    }


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

    Returns:
        The manifest of the scores.

    Raises:
        FailureError: a shard could not be read.
    """
    shards, directory = output / "shards" / name, output / "scores" / name / model_name
    manifest = read_manifest(shards / "manifest.json")
    scales = {dataset: book["scale"] for dataset, book in manifest["datasets"].items()}
    _check_model(model, manifest, seed)
    card = checksum(model / "card.json")
    hashes = {
        shard["path"]: dependence(
            [
                card,
                shard["checksum"],
                scales[shard["dataset"]],
                seed,
                manifest["variables"],
                manifest["variations"],
            ]
        )
        for shard in manifest["shards"]
    }
    chunks = _shard_chunks(manifest, shards)
    processor = ScoreProcessor(
        region=name,
        n_leptons=region.n_leptons,
        name=model_name,
        model=model,
        loader=loader,
        variables=manifest["variables"],
        variations=manifest["variations"],
        scales=scales,
        seed=seed,
        scores=directory,
        config_hashes=hashes,
    )
    receipts, histograms, missing = _run_what_is_missing(
        chunks,
        {chunk: hashes[f"{chunk}.parquet"] for chunk in chunks},
        directory,
        processor,
        workers.executor(f"scoring {name}"),
        schema=BaseSchema,
        file_format="parquet",
    )
    if missing:
        write_json(directory / "ledger.json", ledger(len(receipts), missing))
        _refuse(missing, directory / "ledger.json")
    scored = {
        **manifest,
        "model": model_name,
        "scored_shards": manifest["config_hash"],
        "config_hash": fingerprint(hashes),
        "seed": seed,
        "shards": [
            {**receipts[chunk]["shard"], "dataset": receipts[chunk]["dataset"]} for chunk in sorted(receipts)
        ],
    }
    _write_results(directory, scored, histograms)
    return scored


def _check_model(model: Path, manifest: Mapping[str, Any], seed: int) -> None:
    """Looks whether a model may score these shards.

    Raises:
        InputError: its split is of another seed, so that events it has trained on would pass for held-out ones.
    """
    if not (model / "card.json").is_file():
        message = f"there is no model {model}: run the stage train first"
        raise InputError(message)
    card = read_json(model / "card.json")
    own = card.get("seeds", {}).get("split", seed)
    if own != seed:
        message = f"model {model} was trained with the split of seed {own}, not {seed}: score with that, or train again"
        raise InputError(message)
    if card.get("trained_on", {}).get("config_hash", manifest["config_hash"]) != manifest["config_hash"]:
        logger.warning(
            "model %s was trained on other shards than it scores now: train again unless that is meant", model
        )


def _write_results(directory: Path, manifest: dict[str, Any], histograms: Mapping[str, hist.Hist]) -> None:
    """Writes manifest and histograms, unless the same are there already, and removes what no longer counts."""
    known = directory / "manifest.json"
    if not (known.is_file() and read_json(known) == manifest and (directory / "histograms.json").is_file()):
        save_histograms(histograms, directory)
        write_json(known, manifest)
    (directory / "ledger.json").unlink(missing_ok=True)
    listed = {directory / shard["path"] for shard in manifest["shards"]}
    remove_strays(directory, listed)


def assemble(output: Path, regions: Sequence[str]) -> dict[str, hist.Hist]:
    """Puts the histograms of all regions and scores together in histograms.json and histograms.root.

    Args:
        output: directory of the whole analysis.
        regions: names.
    """
    histograms: dict[str, hist.Hist] = {}
    groups: dict[str, str] = {}
    for region in regions:
        manifest = read_manifest(output / "shards" / region / "manifest.json")
        groups |= {dataset: book["group"] for dataset, book in manifest["datasets"].items()}
        histograms |= load_histograms(output / "shards" / region / "histograms.json")
        for scores in sorted((output / "scores" / region).glob("*/manifest.json")):
            # Scores of shards that are no more stay on disk until they are made anew, and out of the results.
            if read_json(scores).get("scored_shards") == manifest["config_hash"]:
                histograms |= load_histograms(scores.parent / "histograms.json")
    save_histograms(histograms, output)
    save_root(histograms, output, groups)
    return histograms
