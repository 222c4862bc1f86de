"""Receipts: what a chunk gave, written beside its shard, so that a stage killed anywhere can go on where it was."""

import base64
import importlib.metadata
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hist
import uhi.io.json

from processors.files import fingerprint, read_json, write_json

__all__ = ["dependence", "read_receipt", "receipt_path", "write_receipt"]

RECEIPT_FORMAT = 1


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
    packed = zlib.compress(json.dumps(histograms, default=uhi.io.json.default).encode(), 1)
    own = {"format": RECEIPT_FORMAT, **receipt}
    write_json(receipt_path(directory, chunk), {**own, "histograms": base64.b85encode(packed).decode()})
    return own


def read_receipt(
    directory: Path, chunk: str, config_hash: str
) -> tuple[dict[str, Any], dict[str, hist.Hist]] | None:
    """The receipt of a chunk and its histograms; None when the chunk must be done (again).

    A receipt counts when it is of the same configuration and its shard has the size it says.
    """
    path = receipt_path(directory, chunk)
    if not path.is_file():
        return None
    receipt: dict[str, Any] = read_json(path)
    if receipt["format"] != RECEIPT_FORMAT or receipt["config_hash"] != config_hash:
        return None
    shard = receipt["shard"]
    if shard is not None:
        file = directory / shard["path"]
        if not file.is_file() or file.stat().st_size != shard["bytes"]:
            return None
    packed = zlib.decompress(base64.b85decode(receipt.pop("histograms")))
    loaded = json.loads(packed, object_hook=uhi.io.json.object_hook)
    return receipt, {name: hist.Hist(histogram) for name, histogram in loaded.items()}
