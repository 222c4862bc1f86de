"""The work while it is done: events that are through, and what was counted of them; the same for every executor.

coffea's executors each draw bars of their own, of chunks. Here whoever hands out chunks tells of every one that is
done how many events it had, to whoever shows it, and keeps a tally for run.json.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from coffea.processor.executor import WorkItem

__all__ = ["Advance", "Bar", "Tally", "Watch", "metered", "tidily"]

Advance: TypeAlias = Callable[[int], None]
# Title, events done before and events in all -> a context that gives what is told of further events.
Bar: TypeAlias = Callable[[str, int, int], AbstractContextManager[Advance]]


@dataclass
class Tally:
    """What was done since a run began.

    Args:
        chunks: done now.
        chunks_before: found done.
        events: in the chunks done now.
        events_before: in those found done.
        bytes_read: compressed, of the chunks done now.
        seconds: that passed while chunks were done.
        processing_seconds: that workers spent on them, all together.
    """

    chunks: int = 0
    chunks_before: int = 0
    events: int = 0
    events_before: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
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
    def over(self, title: str, chunks: "Sequence[WorkItem]") -> Iterator[Advance]:
        """Shows a bar while these chunks are done; coffea's own stay away."""
        before, self.before = self.before, 0
        from coffea.util import coffea_console  # noqa: PLC0415 - stages without chunks need no coffea

        quiet, coffea_console.quiet = coffea_console.quiet, True
        begin = time.perf_counter()
        try:
            with self.bar(title, before, before + sum(len(chunk) for chunk in chunks)) as advance:
                yield advance
        finally:
            coffea_console.quiet = quiet
            self.tally.seconds += time.perf_counter() - begin


def _chunk_of(item: Any) -> "WorkItem | None":
    """The chunk that a task is about; on Dask the processor comes with it. None of a merge."""
    from coffea.processor.executor import WorkItem  # noqa: PLC0415 - stages without chunks need no coffea

    chunk = item[0] if isinstance(item, tuple) else item
    return chunk if isinstance(chunk, WorkItem) else None


def tidily(function: Callable[[Any], Any], item: Any) -> Any:
    """Does one piece of work and leaves nothing of it behind.

    coffea's events and uproot's files refer to themselves in circles. Python looks for such garbage when there are many
    new objects, and arrays are few: 30 MB of a chunk of 100 000 events would wait for it, and more of an audited file.
    What was there before the work is not looked through.
    """
    gc.freeze()
    try:
        return function(item)
    finally:
        gc.collect()
        gc.unfreeze()


def metered(function: Callable[[Any], Any], item: Any) -> Any:
    """Does a chunk, on the worker, and says what coffea does not: bytes of a shard.

    A shard is read as a whole, for its checksum is compared.
    """
    result = tidily(function, item)
    metrics = result.get("metrics") if isinstance(result, dict) else None
    chunk = _chunk_of(item)
    if metrics is not None and chunk is not None:
        metrics.pop("columns", None)
        if "bytesread" not in metrics:
            metrics["bytesread"] = Path(chunk.filename).stat().st_size
    return result
