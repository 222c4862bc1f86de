"""Parquet shards of selected events, and the manifest that says which of them count."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fileset.exceptions import FailureError, InputError
from processors.files import checksum, read_json, replace_atomically

__all__ = [
    "MANIFEST_FORMAT",
    "check_whole",
    "content_of",
    "is_whole",
    "read_event",
    "read_manifest",
    "remove_strays",
    "write_shard",
]

MANIFEST_FORMAT = 1

_MANIFEST_KEYS = {"datasets", "shards"}


def write_shard(path: Path, columns: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Writes one parquet file, atomically.

    Dictionaries are off: they double the time and gain nothing for continuous values. Zeros compress to nothing.
    Columns are declared to have no nulls: to write down of each value that it is there takes as long as the values.

    Args:
        path: of the shard.
        columns: name -> shape (n,).

    Returns:
        `rows`, `sumw` (of the column `weight`), `bytes`, `checksum`.
    """
    arrays = [pa.array(column) for column in columns.values()]
    fields = zip(columns, arrays, strict=True)
    schema = pa.schema([pa.field(name, array.type, nullable=False) for name, array in fields])
    table = pa.table(arrays, schema=schema)
    with replace_atomically(path) as temporary:
        pq.write_table(table, temporary, compression="lz4", use_dictionary=False, write_statistics=False)
        digest, size = checksum(temporary), temporary.stat().st_size
    return {
        "rows": table.num_rows,
        "sumw": float(np.sum(columns["weight"])),
        "bytes": size,
        "checksum": digest,
    }


def is_whole(path: Path, shard: Mapping[str, Any]) -> bool:
    """Whether a file has the bytes that were written.

    Hashing them takes a fraction of the time of reading them, which whoever uses the shard does too.

    Args:
        path: of the file.
        shard: `bytes` and `checksum`, from `write_shard`.
    """
    return path.is_file() and path.stat().st_size == shard["bytes"] and checksum(path) == shard["checksum"]


def check_whole(path: Path, digest: str, *, stage: str = "select") -> None:
    """Ends a chunk whose shard is not the one that was listed.

    Args:
        path: of the shard.
        digest: its checksum in the manifest.
        stage: that writes it, for messages.

    Raises:
        FailureError: its bytes are others.
    """
    if checksum(path) != digest:
        message = (
            f"the shard {path} does not have the checksum of its manifest: run {stage} again, it is made anew"
        )
        raise FailureError(message)


def read_manifest(path: Path, *, stage: str = "select") -> dict[str, Any]:
    """The manifest of a region's shards, or of a model's scores.

    A manifest whose `complete` is false is of samples that `--allow-missing` scaled up; who draws them says so.

    Args:
        path: of the manifest.
        stage: that writes it, for messages.

    Raises:
        InputError: there is none, it is no manifest, or its format is of another version.
        FailureError: a shard it lists is missing or has another size.
    """
    if not path.is_file():
        message = f"there is no manifest {path}: run the stage {stage} first"
        raise InputError(message)
    try:
        manifest = read_json(path)
    except ValueError as error:
        message = f"the manifest {path} is no valid JSON ({error}): run the stage {stage} again"
        raise InputError(message) from error
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != MANIFEST_FORMAT
        or not set(manifest) >= _MANIFEST_KEYS
    ):
        message = f"{path} is no manifest of format {MANIFEST_FORMAT}: run the stage {stage} with this version again"
        raise InputError(message)
    for shard in manifest["shards"]:
        file = path.parent / shard["path"]
        if not file.is_file() or file.stat().st_size != shard.get("bytes", file.stat().st_size):
            message = f"shard {file} is listed in {path.name} but missing or changed: run {stage} again"
            raise FailureError(message)
    return dict(manifest)


def content_of(manifest: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What the shards of one kind of dataset ("background", "data" or "signal") hold; of another kind nothing counts.

    Args:
        manifest: of a region's shards.
        kind: of datasets.

    Returns:
        `scales` by dataset, and `shards`: path and checksum of each, sorted.
    """
    scales = {
        name: book.get("scale", 1.0) for name, book in manifest["datasets"].items() if book["kind"] == kind
    }
    shards = sorted(
        (entry["path"], entry["checksum"]) for entry in manifest["shards"] if entry["dataset"] in scales
    )
    return {"scales": scales, "shards": shards}


def read_event(
    directory: Path, manifest: Mapping[str, Any], *, dataset: str, number: int, columns: Sequence[str]
) -> NDArray[np.float64] | None:
    """Some columns of one event, shape (columns,); None where the dataset's shards do not hold it.

    Args:
        directory: of the manifest.
        manifest: of the region's shards.
        dataset: of the event.
        number: its eventNumber; of several events with this number the first is taken.
        columns: names.
    """
    for shard in manifest["shards"]:
        if shard["dataset"] == dataset:
            path = directory / shard["path"]
            numbers = pq.read_table(path, columns=["eventNumber"])["eventNumber"].to_numpy()
            rows = np.flatnonzero(numbers == number)
            if len(rows):
                found = pq.read_table(path, columns=list(columns)).slice(int(rows[0]), 1)
                return np.array([found[name][0].as_py() for name in columns], dtype=np.float64)
    return None


def remove_strays(directory: Path, listed: set[Path]) -> None:
    """Deletes shards, and their receipts, that a finished stage does not list (other chunks or configurations).

    Whoever reads the directory without the manifest must not count events twice. What killed processes have left half
    written goes too.
    """
    for path in directory.glob("*/*.parquet"):
        if path.name.startswith(".") or path in listed:
            continue
        path.unlink()
        path.with_name(path.name.removesuffix(".parquet") + ".receipt.json").unlink(missing_ok=True)
    for pattern in ("*/.*.parquet.*", "*/.*.json.*"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)
