"""Compare: data against simulation in every input of a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hist

from processors.cells import add_absent, load_cells, save_cells
from processors.comparison import ComparisonProcessor, compared, inputs_of
from processors.files import fingerprint, read_json, write_json
from processors.histograms import load_histograms
from processors.receipts import dependence, receipt_path
from processors.schema import ShardSchema
from processors.settings import ComparisonSettings, Convention
from processors.shards import MANIFEST_FORMAT, read_manifest
from processors.stages.resume import refuse, run_what_is_missing, shard_chunks
from processors.workers import Workers

__all__ = ["compare_region"]


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
    shards = output.absolute() / "shards" / name
    manifest = read_manifest(shards / "manifest.json")
    cells = {}
    if manifest["features"]["rmm"]:
        cells = _cells(manifest, shards, output.absolute() / "comparison" / name, convention, workers)
    features = {
        key.removeprefix(f"{name}/"): histogram
        for key, histogram in load_histograms(shards / "histograms.json").items()
    }
    result = compared(features, cells, manifest["datasets"], settings, blinded=blinded)
    result["complete"] = manifest["complete"]
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
    _, histograms, missing = run_what_is_missing(
        shard_chunks(manifest, shards, hashes),
        hashes,
        directory,
        ComparisonProcessor(cells=names, convention=convention, scales=scales, directory=directory),
        workers.executor(f"comparing {manifest['region']}"),
        schema=ShardSchema,
        file_format="parquet",
    )
    if missing:
        refuse(missing, directory / "ledger.json")
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
