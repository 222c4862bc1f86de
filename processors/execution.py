"""How a processor runs over chunks, whoever does the work.

Chunks are made from the checked fileset, so no file is opened twice to learn its length. A chunk that fails to read
is tried once more alone; if it fails again it comes back as missing, with its cause, and is never left out silently.
"""

import logging
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from coffea.nanoevents import BaseSchema
from coffea.processor import ProcessorABC, Runner
from coffea.processor.executor import ExecutorBase, WorkItem

from fileset.remote import source_options
from processors.progress import Watch, WatchedIterative

__all__ = ["Missing", "cause_of", "run_chunks", "work_items"]

logger = logging.getLogger(__name__)

# A server that went away is given this time to come back before its chunks are tried again [s].
PAUSE = 2.0


@dataclass(frozen=True)
class Missing:
    """A chunk that could not be done."""

    dataset: str
    file: str
    start: int
    stop: int
    cause: str


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def cause_of(error: BaseException) -> str:
    """The innermost reason of a failure that says anything, in one line."""
    chain = list(_chain(error))
    root = next((link for link in reversed(chain) if str(link)), chain[-1])
    return f"{type(root).__name__}: {root}".split("\n", 1)[0].strip()


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


def run_chunks(
    items: Sequence[WorkItem],
    processor: ProcessorABC,
    executor: ExecutorBase,
    *,
    schema: type[BaseSchema],
    file_format: Literal["root", "parquet"] = "root",
    timeout: int = 60,
) -> tuple[dict[str, Any] | None, list[Missing]]:
    """Runs a processor over chunks with coffea's Runner.

    Args:
        items: the chunks.
        processor: what to do with each.
        executor: from `Workers.executor`.
        schema: how branches are grouped.
        file_format: of the files.
        timeout: time that the answer to one request is waited for, of remote ROOT files [s].

    Returns:
        The accumulated output of all chunks that were done (None when none was), and the chunks that were not.
    """
    if not items:
        return None, []
    # Whatever a chunk raises, the others go on: what failed comes back as missing, with its cause.
    options = {"schema": schema, "format": file_format, "skipbadfiles": (Exception,), "savemetrics": True}
    how = {"uproot_options": source_options(timeout)} if file_format == "root" else {}
    watch = getattr(executor, "watch", Watch())
    output, done = _attempt(Runner(executor=executor, **options), items, processor, how, watch)
    failed = set(items) - done
    if any("://" in item.filename for item in failed):
        time.sleep(PAUSE)
    missing = []
    one_by_one = Runner(executor=WatchedIterative(retries=0), use_result_type=True, **options)
    for item in sorted(failed, key=lambda i: (i.dataset, i.filename, i.entrystart)):
        result = one_by_one.run([item], processor, **how)
        if result.is_ok():
            again = result.unwrap()["out"]
            watch.tally.add(result.unwrap()["metrics"])
            output = again if output is None else _merge(output, again)
        else:
            cause = cause_of(result.exception)
            logger.debug("%s", item, exc_info=result.exception)
            missing.append(Missing(item.dataset, item.filename, item.entrystart, item.entrystop, cause))
    return output, missing


def _attempt(
    runner: Runner, items: Sequence[WorkItem], processor: ProcessorABC, how: Mapping[str, Any], watch: Watch
) -> tuple[dict[str, Any] | None, set[WorkItem]]:
    with warnings.catch_warnings():
        # What is skipped is tried again and named by run_chunks.
        warnings.filterwarnings("ignore", "Skipping bad file")
        try:
            result = runner.run(list(items), processor, **how)
        except ValueError as error:
            if "No chunks returned results" not in str(error):
                raise
            return None, set()
    watch.tally.add({**result["metrics"], "chunks": len(result["processed"])})
    return result["out"], set(result["processed"])


def _merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    from coffea.processor import accumulate  # noqa: PLC0415 - beside its only use

    merged: dict[str, Any] = accumulate([one, other])
    return merged
