"""How a processor runs over chunks, whoever does the work.

Chunks are made from the checked fileset, so no file is opened twice to learn its length. A chunk that fails is tried
once more, by the workers too; if it fails again it comes back as missing, with its cause, and is never left out
silently. What was lost because workers or a scheduler went away is done again as long as somebody is there to do it.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from coffea.nanoevents import BaseSchema
from coffea.processor import ProcessorABC, Runner, accumulate
from coffea.processor.executor import ExecutorBase, WorkItem

from fileset.remote import source_options
from processors.dispatch import cause_of
from processors.progress import Watch

__all__ = ["Missing", "cause_of", "run_chunks", "unreadable", "work_items"]

# A chunk that failed this often is missing.
TRIES = 2

# Chunks that were lost with those who did them are handed out again this often.
ROUNDS = 4

# A server or scheduler that went away is given this time to come back before chunks are tried again [s].
PAUSE = 2.0


@dataclass(frozen=True)
class Missing:
    """A chunk that could not be done."""

    dataset: str
    file: str
    start: int
    stop: int
    cause: str


def work_items(fileset: Mapping[str, Any]) -> list[WorkItem]:
    """The chunks of a checked fileset: one for each step, as coffea's Runner takes them.

    Args:
        fileset: dataset -> `files`: path -> `object_path`, `uuid`, `steps` [[start, stop], ...]; and `metadata`.
    """
    return [
        WorkItem(
            dataset,
            path,
            file["object_path"],
            start,
            stop,
            uuid.UUID(file["uuid"]).bytes,
            dict(content["metadata"]),
        )
        for dataset, content in fileset.items()
        for path, file in content["files"].items()
        for start, stop in file["steps"]
        if stop > start
    ]


def unreadable(fileset: Mapping[str, Any]) -> list[Missing]:
    """The files that the audit let pass although they cannot be read: what is known to be missing of a fileset."""
    return [
        Missing(dataset, path, 0, file["num_entries"], file["unreadable"])
        for dataset, content in fileset.items()
        for path, file in content["files"].items()
        if "unreadable" in file
    ]


def run_chunks(
    items: Sequence[WorkItem],
    processor: ProcessorABC,
    executor: ExecutorBase,
    *,
    schema: type[BaseSchema],
    file_format: Literal["root", "parquet"] = "root",
    timeout: int = 60,
    is_done: Callable[[WorkItem], bool] | None = None,
) -> tuple[dict[str, Any] | None, list[Missing]]:
    """Runs a processor over chunks with coffea's Runner.

    Args:
        items: the chunks.
        processor: what to do with each.
        executor: from `Workers.executor`.
        schema: how branches are grouped.
        file_format: of the files.
        timeout: time that the answer to one request is waited for, of remote ROOT files [s].
        is_done: tells whether a chunk has left its results on disk. Where this is given, nothing else is wanted of
            the chunks, and none of it comes back to this process.

    Returns:
        The accumulated output of all chunks that were done (None when none was, or it is not wanted), and the chunks
        that were not.
    """
    options: dict[str, Any] = {"schema": schema, "format": file_format, "savemetrics": True}
    how = {"uproot_options": source_options(timeout, keep=True)} if file_format == "root" else {}
    executor = executor.copy(keep=is_done is None)
    output: dict[str, Any] | None = None
    tries: Counter[WorkItem] = Counter()
    causes: dict[WorkItem, str] = {}
    left = list(items)
    for number in range(ROUNDS):
        again = [item for item in left if tries[item] < TRIES]
        if not again:
            break
        if number:
            _give_time(again, causes)
            executor = executor.copy(watch=Watch(tally=executor.watch.tally))
        fates = Runner(executor=executor, **options).run(again, processor, **how)
        output = accumulate([output, fates["out"] or None])
        tries.update(fates["failed"].keys())
        tries.update(dict.fromkeys(fates["hopeless"], TRIES))
        causes |= fates["failed"] | fates["lost"]
        undone = fates["failed"].keys() | fates["lost"].keys()
        gone = set(again) - undone
        left = [i for i in left if i not in gone and not (i in undone and is_done is not None and is_done(i))]
        if fates["deserted"]:
            break
    left.sort(key=lambda i: (i.dataset, i.filename, i.entrystart))
    return output, [Missing(i.dataset, i.filename, i.entrystart, i.entrystop, causes[i]) for i in left]


def _give_time(items: Iterable[WorkItem], causes: Mapping[WorkItem, str]) -> None:
    """Waits before chunks are tried again whose server, or the workers, may come back."""
    if any("://" in item.filename or "scheduler" in causes[item] for item in items):
        time.sleep(PAUSE)
