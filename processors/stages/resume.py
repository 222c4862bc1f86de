"""What a stage does of its chunks: those without a receipt; and what it says when some cannot be done."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hist
from coffea.processor import ProcessorABC, accumulate
from coffea.processor.executor import ExecutorBase, WorkItem

from fileset.exceptions import FailureError
from processors.execution import Missing, run_chunks
from processors.receipts import read_receipt, receipt_path

__all__ = ["refuse", "run_what_is_missing", "shard_chunks"]

logger = logging.getLogger(__name__)

StageOutput = tuple[dict[str, dict[str, Any]], dict[str, hist.Hist], list[Missing]]


def run_what_is_missing(
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
    if watch := getattr(executor, "watch", None):
        watch.found(len(receipts), sum(len(chunks[name]) for name in receipts))
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


def refuse(missing: Sequence[Missing], ledger_file: Path) -> None:
    """Ends a stage whose books do not balance.

    Raises:
        FailureError: always; it names the first range that is missing, why, and where all are listed.
    """
    first = missing[0]
    others = f" and {len(missing) - 1} more ranges" if len(missing) > 1 else ""
    message = (
        f"{first.file}, entries {first.start}-{first.stop} of dataset {first.dataset}{others} could not be done "
        f"({first.cause}); {ledger_file} names them all: mend the cause and run again, only what is missing is done"
    )
    raise FailureError(message)


def shard_chunks(manifest: Mapping[str, Any], shards: Path) -> dict[str, WorkItem]:
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
