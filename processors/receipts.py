"""Receipts: what a chunk gave, written beside its shard, so that a stage killed anywhere can go on where it was."""

import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hist

from fileset.exceptions import FailureError
from processors.files import fingerprint, read_json, write_json
from processors.packing import added, packed
from processors.shards import is_whole

__all__ = ["books_of", "dependence", "read_receipt", "receipt_path", "write_receipt"]

logger = logging.getLogger(__name__)

RECEIPT_FORMAT = 2


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
    receipt = _content(directory, chunk)
    if receipt is None or receipt["config_hash"] != config_hash:
        return None
    shard = receipt["shard"]
    if shard is not None and not is_whole(directory / shard["path"], shard):
        return None
    del receipt["histograms"]
    return receipt


def _content(directory: Path, chunk: str) -> dict[str, Any] | None:
    """What a receipt holds; None where there is none, or no whole one of this format."""
    path = receipt_path(directory, chunk)
    try:
        receipt = read_json(path) if path.is_file() else None
    except ValueError:
        logger.warning("the receipt %s is damaged: its chunk is done again", path)
        return None
    if not isinstance(receipt, dict) or receipt.get("format") != RECEIPT_FORMAT:
        return None
    return receipt


def books_of(directory: Path, chunks: Sequence[str]) -> dict[str, Any]:
    """What some chunks gave, added up in their order.

    Args:
        directory: of the receipts.
        chunks: names, of chunks that were done.

    Returns:
        `receipts`: chunk -> receipt; `histograms`: name -> histogram of all these chunks.
    """
    receipts: dict[str, dict[str, Any]] = {}
    packs = []
    for chunk in chunks:
        receipt = _content(directory, chunk)
        if receipt is None:
            message = f"the receipt {receipt_path(directory, chunk)} was taken away: run again"
            raise FailureError(message)
        packs.append(receipt.pop("histograms"))
        receipts[chunk] = receipt
    return {"receipts": receipts, "histograms": added(packs)}
