"""How processors run: one flag chooses this process, a pool of processes or a Dask cluster, and nothing else changes.

Chunks are made from the checked fileset, so no file is opened twice to learn its length. A chunk that fails to read
is tried once more alone; if it fails again it comes back as missing, with its cause, and is never left out silently.
"""

import logging
import multiprocessing
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self, cast

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
from fileset.remote import source_options
from processors.settings import ExecutionSettings

__all__ = ["Missing", "Workers", "cause_of", "run_chunks", "work_items"]

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


class Workers:
    """The workers of one run: started when first needed, shared by all stages, stopped at the end.

    A context manager. Stages ask it for coffea executors, everything else for a `map`.
    """

    def __init__(self, settings: ExecutionSettings) -> None:
        if settings.scheduler is not None and settings.executor != "dask":
            message = f"a scheduler ({settings.scheduler}) needs the executor dask, not {settings.executor}"
            raise InputError(message)
        self.settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        # Forking a process that runs threads of TensorFlow can deadlock: spawn.
        spawn = multiprocessing.get_context("spawn")
        return self._stack.enter_context(ProcessPoolExecutor(self.settings.n_workers, spawn))

    @cached_property
    def _client(self) -> Any:
        import dask  # noqa: PLC0415 - only where Dask is used
        from distributed import Client, LocalCluster  # noqa: PLC0415

        address = self.settings.scheduler
        # Workers that stop in the right order still complain; what matters comes back as an exception.
        with dask.config.set({"logging.distributed": "critical"}):
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
            if address is None:
                address = self._stack.enter_context(
                    LocalCluster(
                        n_workers=self.settings.n_workers,
                        threads_per_worker=1,
                        host="127.0.0.1",
                        dashboard_address="127.0.0.1:0",
                        silence_logs=logging.CRITICAL,
                    )
                )
            try:
                client = self._stack.enter_context(Client(address, timeout="30s"))
            except (OSError, ValueError) as error:
                message = f"no Dask scheduler answers at {address}: {cause_of(error)}"
                raise FailureError(message) from error
        logger.info("Dask dashboard: %s", client.dashboard_link)
        return client

    def executor(self, description: str) -> ExecutorBase:
        """A coffea executor; the description stands beside its progress bar.

        It tries nothing again but what a Dask worker took with it when it died: `run_chunks` does.
        """
        if self.settings.executor == "dask":
            return DaskExecutor(client=self._client, retries=1, desc=description)
        if self.settings.executor == "futures":
            return FuturesExecutor(pool=self._pool, retries=0, desc=description)
        return IterativeExecutor(retries=0, desc=description)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[Any]:
        """Like the builtin `map`, by the workers; results keep their order."""
        if self.settings.executor == "dask":
            return cast("list[Any]", self._client.gather(self._client.map(function, list(items), pure=False)))
        if self.settings.executor == "futures":
            return self._pool.map(function, items)
        return map(function, items)


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
    options = {"schema": schema, "format": file_format, "skipbadfiles": (Exception,)}
    how = {"uproot_options": source_options(timeout)} if file_format == "root" else {}
    output, done = _attempt(Runner(executor=executor, **options), items, processor, how)
    failed = set(items) - done
    if any("://" in item.filename for item in failed):
        time.sleep(PAUSE)
    missing = []
    one_by_one = Runner(executor=IterativeExecutor(status=False, retries=0), use_result_type=True, **options)
    for item in sorted(failed, key=lambda i: (i.dataset, i.filename, i.entrystart)):
        result = one_by_one.run([item], processor, **how)
        if result.is_ok():
            again = result.unwrap()["out"]
            output = again if output is None else _merge(output, again)
        else:
            cause = cause_of(result.exception)
            logger.debug("%s", item, exc_info=result.exception)
            missing.append(Missing(item.dataset, item.filename, item.entrystart, item.entrystop, cause))
    return output, missing


def _attempt(
    runner: Runner, items: Sequence[WorkItem], processor: ProcessorABC, how: Mapping[str, Any]
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
    return result["out"], set(result["processed"])


def _merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    from coffea.processor import accumulate  # noqa: PLC0415 - beside its only use

    merged: dict[str, Any] = accumulate([one, other])
    return merged
