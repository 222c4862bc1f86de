"""How processors run: one flag chooses this process, a pool of processes or a Dask cluster, and nothing else changes.

Chunks are made from the checked fileset, so no file is opened twice to learn its length. A chunk that fails to read
is tried once more alone; if it fails again it comes back as missing, with its cause, and is never left out silently.
"""

import logging
import multiprocessing
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from coffea.nanoevents import BaseSchema
from coffea.processor import (
    DaskExecutor,
    FuturesExecutor,
    IterativeExecutor,
    ProcessorABC,
    Runner,
)
from coffea.processor.executor import ExecutorBase, WorkItem

from fileset.exceptions import FailureError, InputError
from fileset.read_errors import READ_ERRORS
from processors.settings import ExecutionSettings

__all__ = ["Missing", "open_executor", "parallel_map", "run_chunks", "work_items"]

logger = logging.getLogger(__name__)


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
    """The innermost reason of a failure, in one line."""
    root = list(_chain(error))[-1]
    return f"{type(root).__name__}: {root}".split("\n", 1)[0].strip()


@contextmanager
def _dask_client(settings: ExecutionSettings) -> Iterator[Any]:
    from distributed import Client, LocalCluster  # noqa: PLC0415 - only where Dask is used

    with ExitStack() as stack:
        if settings.scheduler is None:
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=settings.n_workers,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",
                    host="127.0.0.1",
                    silence_logs=logging.ERROR,
                )
            )
            client = stack.enter_context(Client(cluster))
        else:
            try:
                client = stack.enter_context(Client(settings.scheduler, timeout="30s"))
            except (OSError, ValueError) as error:
                message = f"no Dask scheduler answers at {settings.scheduler}: {cause_of(error)}"
                raise FailureError(message) from error
        logger.info("Dask dashboard: %s", client.dashboard_link)
        yield client


@contextmanager
def open_executor(settings: ExecutionSettings) -> Iterator[Callable[..., ExecutorBase]]:
    """A maker of coffea executors that share one pool or cluster while the context is open.

    Raises:
        InputError: a scheduler is given but the executor is not dask.
        FailureError: the scheduler does not answer.
    """
    if settings.scheduler is not None and settings.executor != "dask":
        message = f"--scheduler {settings.scheduler} needs --executor dask, not {settings.executor}"
        raise InputError(message)
    with ExitStack() as stack:
        if settings.executor == "dask":
            client = stack.enter_context(_dask_client(settings))
            yield lambda **options: DaskExecutor(client=client, retries=1, **options)
        elif settings.executor == "futures":
            # Forking a process that runs threads of TensorFlow can deadlock: spawn.
            pool = stack.enter_context(
                ProcessPoolExecutor(settings.n_workers, multiprocessing.get_context("spawn"))
            )
            yield lambda **options: FuturesExecutor(pool=pool, **options)
        else:
            yield IterativeExecutor


@contextmanager
def parallel_map(settings: ExecutionSettings) -> Iterator[Callable[..., Iterable[Any]]]:
    """A `map` over the same pool or cluster, for work that is no coffea processor; results keep their order."""
    with ExitStack() as stack:
        if settings.executor == "dask":
            client = stack.enter_context(_dask_client(settings))
            yield lambda function, items: client.gather(client.map(function, list(items), pure=False))
        elif settings.executor == "futures":
            pool = stack.enter_context(
                ProcessPoolExecutor(settings.n_workers, multiprocessing.get_context("spawn"))
            )
            yield pool.map
        else:
            yield map


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
) -> tuple[dict[str, Any] | None, list[Missing]]:
    """Runs a processor over chunks with coffea's Runner.

    Args:
        items: the chunks.
        processor: what to do with each.
        executor: from `open_executor`.
        schema: how branches are grouped.
        file_format: of the files.

    Returns:
        The accumulated output of all chunks that were done (None when none was), and the chunks that were not.
    """
    if not items:
        return None, []
    options = {"schema": schema, "format": file_format, "skipbadfiles": READ_ERRORS}
    output, done = _attempt(Runner(executor=executor, **options), items, processor)
    missing = []
    one_by_one = Runner(executor=IterativeExecutor(status=False), use_result_type=True, **options)
    for item in sorted(set(items) - done, key=lambda i: (i.dataset, i.filename, i.entrystart)):
        result = one_by_one.run([item], processor)
        if result.is_ok():
            again = result.unwrap()["out"]
            output = again if output is None else _merge(output, again)
        else:
            cause = cause_of(result.exception)
            missing.append(Missing(item.dataset, item.filename, item.entrystart, item.entrystop, cause))
    return output, missing


def _attempt(
    runner: Runner, items: Sequence[WorkItem], processor: ProcessorABC
) -> tuple[dict[str, Any] | None, set[WorkItem]]:
    with warnings.catch_warnings():
        # What is skipped is tried again and named by run_chunks.
        warnings.filterwarnings("ignore", "Skipping bad file")
        try:
            result = runner.run(list(items), processor)
        except ValueError as error:
            if "No chunks returned results" not in str(error):
                raise
            return None, set()
    return result["out"], set(result["processed"])


def _merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    from coffea.processor import accumulate  # noqa: PLC0415 - beside its only use

    merged: dict[str, Any] = accumulate([one, other])
    return merged
