"""What a stage does of its chunks: those without a receipt; and what it says when some cannot be done.

What each chunk gave lies on disk, beside its shard, before anybody is told that it is done. The books are made of
these receipts alone, so that nothing is lost with a worker, a scheduler or the client, and the client never holds
more than the sums. A worker that outlived an earlier run may still write to the same place: only receipts of this
configuration are counted.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hist
from coffea.processor import ProcessorABC
from coffea.processor.executor import ExecutorBase, WorkItem

from fileset.exceptions import FailureError
from processors.books import ledger
from processors.dispatch import added_up
from processors.execution import Missing, run_chunks
from processors.files import write_json
from processors.progress import Watch
from processors.receipts import books_of, read_receipt, receipt_path

__all__ = ["refuse", "run_what_is_missing", "shard_chunks"]

logger = logging.getLogger(__name__)

StageOutput = tuple[dict[str, dict[str, Any]], dict[str, hist.Hist], list[Missing]]

# Receipts that one task reads.
_BATCH = 50

# What is said of a chunk that was written over twice.
_OVERWRITTEN = "another run writes to the same place: wait for it, or give another output"

# A line of the ledger takes about this much [bytes].
_LEDGER_LINE = 600


def run_what_is_missing(
    chunks: Mapping[str, WorkItem],
    hashes: Mapping[str, str],
    directory: Path,
    processor: ProcessorABC,
    executor: ExecutorBase,
    *,
    run: Callable[..., tuple[Any, list[Missing]]] = run_chunks,
    known_missing: Sequence[Missing] = (),
    **how: Any,
) -> StageOutput:
    """Receipts and histograms of all chunks: those done before are left as they are, the others are done now.

    Args:
        chunks: name -> chunk.
        hashes: name -> hash of what its result depends on.
        directory: of shards and receipts.
        processor: does one chunk, and writes its receipt.
        executor: who does them.
        run: how, `execution.run_chunks` or what stands in for it.
        known_missing: ranges of which it is known that they cannot be read.
        how: further arguments of `run`.

    Returns:
        Receipts by chunk, in order of names; histograms, added up in that order; what is missing, of which the
        ledger.json in the directory tells too.
    """
    names = sorted(chunks)
    before = _done_before(executor, directory, names, hashes)
    if before:
        logger.info("%d of %d chunks were done before", len(before), len(chunks))
    if watch := getattr(executor, "watch", None):
        watch.found(len(before), sum(len(chunks[name]) for name in before))
    doing: Callable[[Sequence[str], ExecutorBase], list[Missing]] = partial(
        _do, chunks, hashes, directory, processor, run=run, **how
    )
    missing = [*known_missing, *doing([name for name in names if name not in before], executor)]
    books = _added_books(executor, directory, chunks, hashes, missing)
    if changed := sorted(books["changed"]):
        logger.warning("%d chunks were written over since they were done: they are done again", len(changed))
        # Their bar is one of its own; the tally goes on.
        again = executor.copy(watch=Watch(tally=watch.tally)) if watch else executor
        missing += doing(changed, again)
        books = _added_books(executor, directory, chunks, hashes, missing)
        lost = [chunks[name] for name in sorted(books["changed"])]
        missing += [Missing(i.dataset, i.filename, i.entrystart, i.entrystop, _OVERWRITTEN) for i in lost]
    receipts = books["receipts"]
    if missing:
        write_json(directory / "ledger.json", ledger(len(receipts), missing))
    return {name: receipts[name] for name in names if name in receipts}, books["histograms"], missing


def _do(
    chunks: Mapping[str, WorkItem],
    hashes: Mapping[str, str],
    directory: Path,
    processor: ProcessorABC,
    names: Sequence[str],
    executor: ExecutorBase,
    *,
    run: Callable[..., tuple[Any, list[Missing]]],
    **how: Any,
) -> list[Missing]:
    """Does the chunks of these names, whatever lies there of them; returns those that could not be done."""
    name_of = {chunks[name]: name for name in names}
    if name_of:
        # Killed in the middle, a stage must not leave a manifest, or receipts, of what is being written over.
        (directory / "manifest.json").unlink(missing_ok=True)
        for name in names:
            receipt_path(directory, name).unlink(missing_ok=True)
    spare = _set_space_aside(directory, len(name_of))

    def is_done(item: WorkItem) -> bool:
        return read_receipt(directory, name_of[item], hashes[name_of[item]]) is not None

    try:
        return run(list(name_of), processor, executor, is_done=is_done, **how)[1] if name_of else []
    finally:
        spare.unlink(missing_ok=True)


def _added_books(
    executor: ExecutorBase,
    directory: Path,
    chunks: Mapping[str, WorkItem],
    hashes: Mapping[str, str],
    missing: Sequence[Missing],
) -> dict[str, Any]:
    """What `receipts.books_of` gives of all chunks but those that are missing, in order of their names."""
    undone = {(m.dataset, m.file, m.start, m.stop) for m in missing}
    done = [
        name
        for name, item in sorted(chunks.items())
        if (item.dataset, item.filename, item.entrystart, item.entrystop) not in undone
    ]
    books = added_up(executor, partial(books_of, directory), _batches(done, hashes))
    return books or {"receipts": {}, "histograms": {}, "changed": set()}


def _batches(names: Sequence[str], hashes: Mapping[str, str]) -> list[dict[str, str]]:
    """Hashes of chunks, as many as one task takes."""
    return [
        {name: hashes[name] for name in names[start : start + _BATCH]}
        for start in range(0, len(names), _BATCH)
    ]


def _done_before(
    executor: ExecutorBase, directory: Path, names: Sequence[str], hashes: Mapping[str, str]
) -> set[str]:
    """The chunks whose receipts count."""
    if not directory.is_dir():
        return set()
    return added_up(executor, partial(_valid, directory), _batches(names, hashes)) or set()


def _valid(directory: Path, hashes: Mapping[str, str]) -> set[str]:
    return {name for name, own in hashes.items() if read_receipt(directory, name, own) is not None}


def _set_space_aside(directory: Path, chunks: int) -> Path:
    """Takes the space that the ledger may need, so that a disk that fills up can be told of.

    Raises:
        OSError: not even that much is there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    spare = directory / ".ledger.spare"
    spare.write_bytes(b"\0" * (_LEDGER_LINE * chunks))
    return spare


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


def shard_chunks(manifest: Mapping[str, Any], shards: Path, hashes: Mapping[str, str]) -> dict[str, WorkItem]:
    """The shards of a manifest as chunks, by their names without ending.

    Args:
        manifest: of the shards.
        shards: directory of the manifest.
        hashes: name -> hash of what its result depends on. Each chunk carries its own: a processor with those of all
            chunks would be unpacked, with all of them, for every chunk.
    """
    return {
        shard["path"].removesuffix(".parquet"): WorkItem(
            shard["dataset"],
            str(shards / shard["path"]),
            "",
            0,
            shard["rows"],
            b"",
            {
                "kind": manifest["datasets"][shard["dataset"]]["kind"],
                "checksum": shard["checksum"],
                "config_hash": hashes[shard["path"].removesuffix(".parquet")],
            },
        )
        for shard in manifest["shards"]
    }
