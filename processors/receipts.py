"""Receipts: what a chunk gave, written beside its shard, so that a stage killed anywhere can go on where it was."""

import importlib.metadata
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hist

from processors.files import fingerprint, read_json, write_json
from processors.packing import added, packed
from processors.shards import is_whole

__all__ = ["books_of", "dependence", "read_receipt", "receipt_path", "write_receipt"]

logger = logging.getLogger(__name__)

RECEIPT_FORMAT = 3


def dependence(content: Any) -> str:
    """Hash of everything a chunk's result depends on; that includes the version of this package."""
    return fingerprint({"version": importlib.metadata.version("collider-anomalies"), "content": content})


def receipt_path(directory: Path, chunk: str) -> Path:
    """Where the receipt of a chunk ("<dataset>/<name>") lies: beside its shard."""
    return directory / f"{chunk}.receipt.json"


def write_receipt(
    directory: Path, chunk: str, receipt: Mapping[str, Any], histograms: Mapping[str, hist.Hist]
) -> dict[str, Any]:
    """Writes a receipt with the chunk's histograms, atomically; returns it without them.

    Args:
        directory: of the region's shards or of a model's scores.
        chunk: "<dataset>/<name>".
        receipt: `config_hash`, `dataset`, `source`, `events_read`, `cutflow`, `shard` (None where nothing passed),
            `seconds`.
        histograms: of this chunk alone.
    """
    own = {"format": RECEIPT_FORMAT, **receipt}
    write_json(receipt_path(directory, chunk), {**own, "histograms": packed(histograms)})
    return own


def read_receipt(directory: Path, chunk: str, config_hash: str) -> dict[str, Any] | None:
    """The receipt of a chunk without its histograms; None when the chunk must be done (again).

    A receipt counts when it is whole, of the same configuration, and its shard has the bytes it was written with.
    """
    receipt = _content(directory, chunk, config_hash)
    if receipt is None:
        return None
    shard = receipt["shard"]
    if shard is not None and not is_whole(directory / shard["path"], shard):
        return None
    del receipt["histograms"]
    return receipt


def _content(directory: Path, chunk: str, config_hash: str) -> dict[str, Any] | None:
    """What a receipt holds; None where there is none, or no whole one of this format and configuration."""
    path = receipt_path(directory, chunk)
    try:
        receipt = read_json(path) if path.is_file() else None
    except ValueError:
        logger.warning("the receipt %s is damaged: its chunk is done again", path)
        return None
    if not isinstance(receipt, dict) or receipt.get("format") != RECEIPT_FORMAT:
        return None
    return receipt if receipt["config_hash"] == config_hash else None


def books_of(directory: Path, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What some chunks gave, added up in their order.

    Somebody else may have written over a chunk since it was done: a worker that outlived a run of another
    configuration. Such chunks are left out. Shards are known by their size here; whoever reads one compares its
    checksum.

    Args:
        directory: of the receipts.
        hashes: chunk that was done -> hash of what its result depends on.

    Returns:
        `receipts`: chunk -> receipt; `histograms`: name -> histogram of all these chunks; `changed`: the chunks whose
        receipt or shard is not, or no longer, that of this configuration.
    """
    receipts: dict[str, dict[str, Any]] = {}
    packs = []
    changed = set()
    for chunk, config_hash in hashes.items():
        receipt = _content(directory, chunk, config_hash)
        if receipt is None or not _has_its_size(directory, receipt["shard"]):
            changed.add(chunk)
            continue
        packs.append(receipt.pop("histograms"))
        receipts[chunk] = receipt
    return {"receipts": receipts, "histograms": added(packs), "changed": changed}


def _has_its_size(directory: Path, shard: Mapping[str, Any] | None) -> bool:
    """Whether there is a shard of this size, or none is needed."""
    if shard is None:
        return True
    try:
        # A network disk may remember the size of the file before; opening it asks the server.
        with Path(directory, shard["path"]).open("rb") as file:
            return file.seek(0, os.SEEK_END) == int(shard["bytes"])
    except FileNotFoundError:
        return False
