"""The work while it is done: events that are through, and what was counted of them; the same for every executor.

coffea's executors each draw bars of their own, of chunks, and one of them cannot be kept from it. These tell instead
of every chunk that is done how many events it had, to whoever shows it, and keep a tally for run.json.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, TypeAlias

from coffea.processor import DaskExecutor, FuturesExecutor, IterativeExecutor, accumulate
from coffea.processor.executor import WorkItem
from coffea.util import coffea_console

__all__ = ["Bar", "Tally", "Watch", "WatchedDask", "WatchedFutures", "WatchedIterative"]

Advance: TypeAlias = Callable[[int], None]
# Title, events done before and events in all -> a context that gives what is told of further events.
Bar: TypeAlias = Callable[[str, int, int], AbstractContextManager[Advance]]


@dataclass
class Tally:
    """What was done, since a run began: events and chunks now, those found done before, bytes and time of workers."""

    chunks: int = 0
    chunks_before: int = 0
    events: int = 0
    events_before: int = 0
    bytes_read: int = 0
    processing_seconds: float = 0.0

    def add(self, metrics: dict[str, Any]) -> None:
        """Adds what coffea's Runner measured with `savemetrics`."""
        self.chunks += metrics["chunks"]
        self.events += metrics["entries"]
        self.bytes_read += metrics["bytesread"]
        self.processing_seconds += metrics["processtime"]

    def since(self, earlier: "Tally") -> "Tally":
        """What came after an earlier tally."""
        then = asdict(earlier)
        return Tally(**{name: value - then[name] for name, value in asdict(self).items()})


def _unseen(title: str, before: int, total: int) -> AbstractContextManager[Advance]:
    del title, before, total
    return nullcontext(lambda _: None)


@dataclass
class Watch:
    """Who is told of the work: a bar for each stage, and one tally for all.

    Args:
        bar: shows the events; by default nothing does.
        tally: what is counted.
    """

    bar: Bar = _unseen
    tally: Tally = field(default_factory=Tally)
    before: int = 0

    def found(self, chunks: int, events: int) -> None:
        """Chunks that were done before, in the stage that is about to begin."""
        self.tally.chunks_before += chunks
        self.tally.events_before += events
        self.before = events

    @contextmanager
    def over(self, title: str, chunks: Sequence[WorkItem]) -> Iterator[Advance]:
        """Shows a bar while these chunks are done; coffea's own stay away."""
        before, self.before = self.before, 0
        quiet, coffea_console.quiet = coffea_console.quiet, True
        try:
            with self.bar(title, before, before + sum(len(chunk) for chunk in chunks)) as advance:
                yield advance
        finally:
            coffea_console.quiet = quiet


@dataclass
class WatchedIterative(IterativeExecutor):
    """coffea's executor in this process, watched."""

    watch: Watch = field(default_factory=Watch)

    def __call__(self, items: Sequence[WorkItem], function: Callable[..., Any], accumulator: Any) -> Any:
        """Does the chunks, one after the other."""
        with self.watch.over(self.desc, items) as advance:

            def done() -> Iterator[Any]:
                for item in items:
                    yield _metered(function, item)
                    advance(len(item))

            return accumulate(done(), accumulator), 0


@dataclass
class WatchedFutures(FuturesExecutor):
    """coffea's executor on a pool of processes, watched."""

    watch: Watch = field(default_factory=Watch)

    def __call__(self, items: Sequence[WorkItem], function: Callable[..., Any], accumulator: Any) -> Any:
        """Does the chunks; results are merged in the pool, in batches that are merged again."""
        with self.watch.over(self.desc, items) as advance:
            pool = _WatchedPool(self.pool, advance)
            plain = FuturesExecutor(**{**_options(self, FuturesExecutor), "pool": pool})
            return plain(items, partial(_metered, function), accumulator)


@dataclass
class WatchedDask(DaskExecutor):
    """coffea's executor on a Dask cluster, watched; results are merged on the workers, as a tree."""

    watch: Watch = field(default_factory=Watch)

    def __call__(self, items: Sequence[WorkItem], function: Callable[..., Any], accumulator: Any) -> Any:
        """Does the chunks."""
        with self.watch.over(self.desc, items) as advance:
            client = _WatchedClient(self.client, advance)
            plain = DaskExecutor(**{**_options(self, DaskExecutor), "client": client, "status": False})
            return plain(items, partial(_metered, function), accumulator)


def _options(executor: Any, kind: Any) -> dict[str, Any]:
    """What an executor was made with, as far as a plain one of coffea knows it."""
    return {option.name: getattr(executor, option.name) for option in fields(kind)}


class _WatchedPool(Executor):
    """A pool of processes that tells of each chunk that is done."""

    def __init__(self, pool: Any, advance: Advance) -> None:
        self._pool = pool
        self._advance = advance

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self._pool.submit(function, *args, **kwargs)
        _tell(future, args[0], self._advance)
        return future


class _WatchedClient:
    """A Dask client that tells of each chunk that is done."""

    def __init__(self, client: Any, advance: Advance) -> None:
        self._client = client
        self._advance = advance

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        return self._client.submit(*args, **kwargs)

    def map(self, function: Callable[..., Any], items: Iterable[Any], **how: Any) -> list[Any]:
        items = list(items)
        futures: list[Any] = self._client.map(function, items, **how)
        for future, item in zip(futures, items, strict=True):
            _tell(future, item, self._advance)
        return futures


def _chunk_of(item: Any) -> WorkItem | None:
    """The chunk that a task is about; on Dask the processor comes with it. None of a merge."""
    chunk = item[0] if isinstance(item, tuple) else item
    return chunk if isinstance(chunk, WorkItem) else None


def _tell(future: Any, item: Any, advance: Advance) -> None:
    chunk = _chunk_of(item)
    if chunk is not None:
        events = len(chunk)
        # The future itself is not kept: a worker may forget a result as soon as it is merged.
        future.add_done_callback(lambda _: advance(events))


def _metered(function: Callable[[Any], Any], item: Any) -> Any:
    """Does a chunk, on the worker, and says what coffea does not: how much of a parquet file was read."""
    result = function(item)
    metrics = result.get("metrics") if isinstance(result, dict) else None
    chunk = _chunk_of(item)
    if metrics is not None and chunk is not None:
        columns = {column.partition("-")[0] for column in metrics.pop("columns", ())}
        if "bytesread" not in metrics:
            metrics["bytesread"] = _bytes_of(chunk.filename, columns)
    return result


def _bytes_of(path: str, columns: set[str]) -> int:
    """Compressed bytes of some columns of a parquet file."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - on workers that read parquet only

    content = pq.read_metadata(path)
    wanted = [index for index, name in enumerate(content.schema.names) if name in columns]
    groups = (content.row_group(group) for group in range(content.num_row_groups))
    return sum(group.column(index).total_compressed_size for group in groups for index in wanted)
