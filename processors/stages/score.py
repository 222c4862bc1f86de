"""Score: shards and a model to a score for every event."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coffea.nanoevents import BaseSchema

from fileset.exceptions import InputError
from processors.books import ledger
from processors.files import checksum, fingerprint, read_json, write_json
from processors.receipts import dependence
from processors.scoring import ScoreProcessor
from processors.settings import RegionSettings
from processors.shards import read_manifest
from processors.stages.results import write_results
from processors.stages.resume import refuse, run_what_is_missing, shard_chunks
from processors.workers import Workers

__all__ = ["score_region"]

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
    chunks = shard_chunks(manifest, shards)
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
    receipts, histograms, missing = run_what_is_missing(
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
        refuse(missing, directory / "ledger.json")
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
    write_results(directory, scored, histograms)
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
