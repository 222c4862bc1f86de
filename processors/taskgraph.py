"""Chunks as one graph of tasks: coffea's `preprocess` and `apply_to_fileset` with dask-awkward.

The graph of a fileset says before its first task which branches its end needs, so that only these are read, and merges
results as a tree. Each partition is one chunk and goes through the same processor as with coffea's Runner: the chunks,
their files and their numbers are the same. What the graph leaves undone goes to `execution.run_chunks`, which tries it
again and names what is missing.
"""

import logging
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Any, Protocol

import awkward as ak
from coffea.dataset_tools import DataGroupSpec, apply_to_fileset, preprocess
from coffea.nanoevents import BaseSchema
from coffea.processor import DaskExecutor, FuturesExecutor, accumulate
from coffea.processor.executor import ExecutorBase, WorkItem

from fileset.remote import source_options
from processors.execution import Missing, cause_of, run_chunks
from processors.progress import Advance, Watch

__all__ = ["ChunkProcessor", "chunk_graph", "run_chunks_as_graph"]

logger = logging.getLogger(__name__)

# Whatever a chunk raises, the others go on.
_ANY = (Exception,)

# Results that are merged by one task.
_MERGED_AT_ONCE = 16

# Name of the tasks that process a chunk, and of what a Dask worker tells of each that it has done.
_PROCESS = "process-chunk"


class ChunkProcessor(Protocol):
    """A coffea processor that says what it reads."""

    collections: Sequence[str]

    def process(self, events: ak.Array) -> dict[str, Any]:
        """One chunk."""
        ...


def run_chunks_as_graph(
    items: Sequence[WorkItem],
    processor: ChunkProcessor,
    executor: ExecutorBase,
    *,
    schema: type[BaseSchema],
    timeout: int = 60,
    is_done: Callable[[WorkItem], bool] | None = None,
) -> tuple[dict[str, Any] | None, list[Missing]]:
    """Runs a processor over chunks of ROOT files as a graph of tasks; stands in for `execution.run_chunks`.

    Args:
        items: the chunks.
        processor: what to do with each; its `collections` are those of the schema that are read.
        executor: from `Workers.executor`: its Dask client or pool does the tasks, else this process.
        schema: how branches are grouped.
        timeout: time that the answer to one request is waited for, of remote files [s].
        is_done: tells whether a chunk has left its results on disk. Where this is given, nothing else is wanted of
            the chunks, and none of it comes back to this process.

    Returns:
        The accumulated output of all chunks that were done (None when none was, or it is not wanted), and the chunks
        that were not.
    """
    if not items:
        return None, []
    output: dict[str, Any] | None = None
    done: set[WorkItem] = set()
    keep = is_done is None
    try:
        with _scheduled(executor, items):
            output, done = _computed(
                items, processor, _watch(executor), keep=keep, schema=schema, timeout=timeout
            )
    except _losses() as error:
        logger.warning(
            "the graph of tasks was lost (%s): what it left is done chunk by chunk", cause_of(error)
        )
        done = set() if is_done is None else {item for item in items if is_done(item)}
    left = [item for item in items if item not in done]
    if not left:
        return output, []
    rest, missing = run_chunks(left, processor, executor, schema=schema, timeout=timeout, is_done=is_done)
    return accumulate([output, rest]), missing


def chunk_graph(
    items: Sequence[WorkItem],
    processor: ChunkProcessor,
    *,
    schema: type[BaseSchema],
    timeout: int = 60,
    keep: bool = True,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The graph of chunks, not computed; chunks of files that cannot be opened or have changed are left out.

    Args:
        items: the chunks.
        processor: what to do with each.
        schema: how branches are grouped.
        timeout: time that the answer to one request is waited for, of remote files [s].
        keep: results are wanted; they are not where each chunk writes them down itself.

    Returns:
        dataset -> dask-awkward collection with one partition for each chunk, which computes to a mapping of `done`
        (the chunk), `metrics` and `out` (what the processor gives), or to nothing where that failed; and
        dataset -> uproot's report on reading.
    """
    options = source_options(timeout, in_graph=True)
    with warnings.catch_warnings():
        # What cannot be opened is left out here, and named by `run_chunks`.
        warnings.filterwarnings("ignore", "There was no populated list of files")
        readable, _ = preprocess(
            DataGroupSpec.model_validate(_fileset(items)),
            skip_bad_files=True,
            file_exceptions=_ANY,
            allow_empty_datasets=True,
            # Learning the form of every file takes four times as long as opening one file of a dataset again.
            save_form=False,
            uproot_options=options,
        )
    fileset, chunks = _unchanged(readable.model_dump(), items)
    if not fileset:
        return {}, {}
    outputs, reports = apply_to_fileset(
        partial(_chunk_by_chunk, processor, chunks, keep),
        DataGroupSpec.model_validate(fileset),
        schemaclass=schema,
        uproot_options={**options, "allow_read_errors_with_report": _ANY},
    )
    return outputs, reports


def _computed(
    items: Sequence[WorkItem], processor: ChunkProcessor, watch: Watch, **how: Any
) -> tuple[dict[str, Any] | None, set[WorkItem]]:
    """What the graph gives, and of which chunks."""
    dask: Any = import_module("dask")
    outputs, reports = chunk_graph(items, processor, **how)
    if not outputs:
        return None, set()
    # Bags know nothing of branches: what is read is settled before results are merged, and stays.
    outputs, reports = dask.optimize(outputs, reports)
    result, reports = dask.compute(_merged(outputs), reports, optimize_graph=False)
    lines = [line for report in reports.values() for line in report.to_list()]
    for line in lines:
        if line["exception"] is not None:
            logger.info("%s: %s: %s", ", ".join(line["args"][:4]), line["exception"], line["message"])
    if not result:
        return None, set()
    read = sum((line["performance_counters"] or {}).get("num_requested_bytes", 0) for line in lines)
    watch.tally.add({**result["metrics"], "bytesread": read})
    return result.get("out"), result["done"]


def _merged(outputs: Mapping[str, Any]) -> Any:
    """One result of all partitions of all datasets, as a tree."""
    bag: Any = import_module("dask.bag")
    partitions = bag.concat([bag.Bag(one.dask, one.name, one.npartitions) for one in outputs.values()])
    return partitions.reduction(_itself, accumulate, split_every=_MERGED_AT_ONCE)


def _itself(result: Any) -> Any:
    return result


def _chunk_by_chunk(
    processor: ChunkProcessor, chunks: Mapping[str, Sequence[WorkItem]], keep: bool, events: Any
) -> Any:
    """The part of the graph that `apply_to_fileset` asks for: of one dataset, not computed."""
    dak: Any = import_module("dask_awkward")
    own = chunks[events.metadata["dataset"]]
    if len(own) != events.npartitions:
        message = f"{len(own)} chunks and {events.npartitions} partitions of {own[0].dataset}"
        raise ValueError(message)
    nothing = ak.to_backend(ak.Array([{}]), "typetracer")
    identities = dak.from_map(_itself, own, label="chunk", meta=nothing)
    return dak.map_partitions(_process, processor, events, identities, keep, label=_PROCESS, meta=nothing)


def _process(processor: ChunkProcessor, events: ak.Array, chunk: WorkItem, keep: bool) -> Any:
    """One partition; while the graph is planned, what it would read."""
    if ak.backend(events) == "typetracer":
        return ak.typetracer.touch_data(events[list(processor.collections)])
    # Reading failed, and uproot made an empty partition of it.
    if len(events) != len(chunk):
        return {}
    begin = time.perf_counter()
    identity = {
        "filename": chunk.filename,
        "fileuuid": str(uuid.UUID(bytes=chunk.fileuuid)),
        "entrystart": chunk.entrystart,
        "entrystop": chunk.entrystop,
    }
    named = ak.with_parameter(events, "metadata", {**events.metadata, **identity})
    # What is lost here is not done, is tried again and named with its cause.
    with suppress(*_ANY):
        output = processor.process(named)
        _tell(len(chunk))
        metrics = {"chunks": 1, "entries": len(chunk), "processtime": time.perf_counter() - begin}
        return {"done": {chunk}, "metrics": metrics} | ({"out": output} if keep else {})
    return {}


def _tell(events: int) -> None:
    """A Dask worker says that a chunk is done; other workers need not."""
    from distributed import get_worker  # noqa: PLC0415 - only this backend needs it

    with suppress(ValueError):
        get_worker().log_event(_PROCESS, events)


def _fileset(items: Sequence[WorkItem]) -> dict[str, Any]:
    """Chunks in the form of coffea's `dataset_tools`: the inverse of `execution.work_items`."""
    fileset: dict[str, Any] = {}
    for item in sorted(items, key=lambda i: (i.dataset, i.filename, i.entrystart)):
        content = fileset.setdefault(item.dataset, {"files": {}, "metadata": dict(item.usermeta or {})})
        file = content["files"].setdefault(
            item.filename,
            {"object_path": item.treename, "uuid": str(uuid.UUID(bytes=item.fileuuid)), "steps": []},
        )
        file["steps"].append([item.entrystart, item.entrystop])
    return fileset


def _unchanged(
    readable: Mapping[str, Any], items: Sequence[WorkItem]
) -> tuple[dict[str, Any], dict[str, list[WorkItem]]]:
    """The files that are as they were when they were checked, and their chunks in the order of partitions."""
    known = {(i.dataset, i.filename, i.fileuuid, i.entrystart, i.entrystop): i for i in items}
    fileset: dict[str, Any] = {}
    chunks: dict[str, list[WorkItem]] = {}
    for dataset, content in readable.items():
        for path, file in content["files"].items():
            identity = uuid.UUID(file["uuid"]).bytes
            own = [known.get((dataset, path, identity, *step)) for step in file["steps"]]
            if None in own:
                continue
            fileset.setdefault(dataset, {**content, "files": {}})["files"][path] = file
            chunks.setdefault(dataset, []).extend(item for item in own if item is not None)
    return fileset, chunks


@contextmanager
def _scheduled(executor: ExecutorBase, items: Sequence[WorkItem]) -> Iterator[None]:
    """Dask gives its tasks to whom coffea would give chunks, and whoever watches hears of those that are done."""
    dask: Any = import_module("dask")
    multiprocessing: Any = import_module("dask.multiprocessing")
    import_module("dask_awkward")  # lays down its defaults, which must be before they are changed
    whom: dict[str, Any]
    with _watch(executor).over(executor.desc, items) as advance, ExitStack() as stack:
        if isinstance(executor, DaskExecutor):
            client = executor.client
            client.subscribe_topic(_PROCESS, lambda event: advance(event[1]))
            stack.callback(client.unsubscribe_topic, _PROCESS)
            whom = {"scheduler": client}
        elif isinstance(executor, FuturesExecutor):
            stack.enter_context(_told(advance))
            whom = {"scheduler": multiprocessing.get, "pool": executor.pool, "chunksize": 1}
        else:
            stack.enter_context(_told(advance))
            whom = {"scheduler": dask.get}
        # A graph that cannot be planned would read every branch: that is a mistake of ours.
        with dask.config.set({**whom, "awkward.optimization.on-fail": "raise"}):
            yield


def _watch(executor: ExecutorBase) -> Watch:
    """Who is told of the work."""
    watch: Watch = getattr(executor, "watch", Watch())
    return watch


def _told(advance: Advance) -> Any:
    """A context in which this process hears of each chunk that its own tasks have done."""
    callbacks: Any = import_module("dask.callbacks")

    told: set[WorkItem] = set()

    def after(_: Any, result: Any, *__: Any) -> None:
        # Tasks are fused and renamed: a chunk may come again with the next merge.
        new = result["done"] - told if isinstance(result, dict) and "done" in result else ()
        told.update(new)
        advance(sum(len(chunk) for chunk in new))

    return callbacks.Callback(posttask=after)


def _losses() -> tuple[type[Exception], ...]:
    """What ends a graph from outside: workers or the scheduler were lost."""
    from distributed import KilledWorker  # noqa: PLC0415 - only this backend needs it
    from distributed.client import FutureCancelledError  # noqa: PLC0415

    return OSError, BrokenExecutor, KilledWorker, FutureCancelledError
