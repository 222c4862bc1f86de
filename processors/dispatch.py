"""Hands chunks to whoever does them, and learns the fate of each, whatever else dies on the way.

coffea's own executors give one result for all chunks, or one exception: what a worker takes with it when it dies is
lost with all the rest. These give the results of the chunks that were done, and of each other one the reason. What a
chunk itself raises is caught where it is done (`failed`, and the chunk is to blame); chunks that were never done
because those who do them were lost are `lost`, and nobody has to look into them.
"""

import importlib.metadata
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from coffea.processor import DaskExecutor, FuturesExecutor, IterativeExecutor, accumulate
from coffea.processor.executor import ExecutorBase, WorkItem

from fileset.exceptions import FailureError, InputError
from processors.packing import joined
from processors.patience import LOOK, PATIENCE, DesertedError, Presence, address_of
from processors.progress import Advance, Watch, metered

__all__ = ["DaskChunks", "Fates", "IterativeChunks", "PoolChunks", "Watched", "added_up", "cause_of"]

logger = logging.getLogger(__name__)

# Whatever a chunk raises, the others go on.
_ANY = (Exception,)

# Results that are added up at once: the tree has the same shape whoever adds, so every digit is the same.
WIDTH = 20

# A chunk that came to this many workers of other versions is not sent to another.
_REFUSALS = 5

# Packages that decide results: a worker must have them in the versions of this process.
_DECISIVE = ("collider-anomalies", "coffea", "awkward", "uproot", "numpy", "numba", "vector", "mt2", "hist")

_ChunkFunction: TypeAlias = Callable[[Any], Any]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def cause_of(error: BaseException) -> str:
    """The innermost reason of a failure that says anything, in one line; ours says it to whoever reads it."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, InputError | FailureError):
            return str(link).split("\n", 1)[0].strip()
    root = next((link for link in reversed(chain) if str(link)), chain[-1])
    return f"{type(root).__name__}: {root}".split("\n", 1)[0].strip()


@dataclass(frozen=True)
class _Outcome:
    """What became of one chunk: a cause, where it failed; its results, where they are wanted; what it cost."""

    cause: str = ""
    out: Any = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


def _attempt(function: _ChunkFunction, keep: bool, item: Any) -> _Outcome:
    """Does one chunk, where it is done."""
    try:
        result = metered(function, item)
    except _ANY as error:
        logger.debug("%s", item, exc_info=error)
        return _Outcome(cause_of(error))
    return _Outcome(out=result["out"] if keep else None, metrics=result["metrics"])


@dataclass
class Fates:
    """What became of each chunk."""

    advance: Advance
    watch: Watch
    outs: dict[WorkItem, Any] = field(default_factory=dict)
    failed: dict[WorkItem, str] = field(default_factory=dict)
    lost: dict[WorkItem, str] = field(default_factory=dict)
    hopeless: set[WorkItem] = field(default_factory=set)
    deserted: bool = False

    def settle(self, item: WorkItem, outcome: _Outcome) -> None:
        """A chunk that was tried."""
        if outcome.cause:
            self.failed[item] = outcome.cause
            return
        self.advance(len(item))
        self.watch.tally.add({**outcome.metrics, "chunks": 1})
        if outcome.out is not None:
            self.outs[item] = outcome.out

    def result(self, items: Sequence[WorkItem]) -> tuple[dict[str, Any], int]:
        """In coffea's form. Results are added up in the order of the chunks, not in that of being done."""
        out = _tree([self.outs[item] for item in items if item in self.outs])
        return {
            "out": out or {},
            "failed": self.failed,
            "lost": self.lost,
            "hopeless": self.hopeless,
            "deserted": self.deserted,
        }, 0

    def give_up(self, item: WorkItem, cause: str) -> None:
        """A chunk that killed whoever tried it, when it was tried alone: it is not tried again."""
        self.failed[item] = cause
        self.hopeless.add(item)


@dataclass
class Watched(ExecutorBase):
    """What the three have in common.

    Args:
        watch: is told of each chunk that is done.
        keep: results are wanted; they are not where each chunk writes them down itself.
    """

    watch: Watch = field(default_factory=Watch)
    keep: bool = True
    retries: int = 0

    def __call__(self, items: Sequence[WorkItem], function: _ChunkFunction, _: Any) -> Any:
        """Does chunks.

        Returns:
            `out` (all results added up); `failed` and `lost`: chunk -> cause; `hopeless`: which of those that failed
            are not worth another try; `deserted`: whether workers were waited for in vain; and 0, as coffea wants it.
        """
        with self.watch.over(self.desc, items) as advance:
            fates = Fates(advance, self.watch)
            self.do(items, function, fates)
        return fates.result(items)

    def do(self, items: Sequence[WorkItem], function: _ChunkFunction, fates: Fates) -> None:
        """Does chunks and tells their fates."""
        raise NotImplementedError


@dataclass
class IterativeChunks(Watched, IterativeExecutor):
    """Chunks one after the other, in this process."""

    def do(self, items: Sequence[WorkItem], function: _ChunkFunction, fates: Fates) -> None:
        """Does chunks and tells their fates."""
        for item in items:
            fates.settle(item, _attempt(function, self.keep, item))


@dataclass
class PoolChunks(Watched, FuturesExecutor):
    """Chunks by a pool of processes; one that dies breaks the pool, and another goes on.

    Args:
        renew: gives a pool in place of a broken one.
    """

    pool: Any = None
    renew: Callable[[Executor], Executor] | None = None

    def do(self, items: Sequence[WorkItem], function: _ChunkFunction, fates: Fates) -> None:
        """Does chunks and tells their fates; those in work when a process died are tried one at a time."""
        waiting, suspects = deque(items), deque[WorkItem]()
        while waiting or suspects:
            alone = bool(suspects)
            queue, room = (suspects, 1) if alone else (waiting, 4 * self.workers)
            broken, in_work = self._some(queue, room, function, fates)
            if alone and in_work:
                fates.give_up(in_work[0], "the process that did it was killed (out of memory?)")
            elif in_work:
                suspects.extend(in_work)
            if broken:
                if self.renew is None:
                    fates.lost |= dict.fromkeys([*suspects, *waiting], "the pool of processes broke")
                    return
                self.pool = self.renew(self.pool)

    def _some(
        self, queue: deque[WorkItem], room: int, function: _ChunkFunction, fates: Fates
    ) -> tuple[bool, list[WorkItem]]:
        """Does chunks of the queue, at most `room` at a time: one, or until it is empty or the pool breaks.

        Returns:
            Whether it broke, and the chunks that were in work then.
        """
        running: dict[Future[_Outcome], WorkItem] = {}
        while queue or running:
            try:
                while queue and len(running) < room:
                    future = self.pool.submit(_attempt, function, self.keep, queue[0])
                    running[future] = queue.popleft()
            except BrokenExecutor:
                return True, [*running.values()]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    return True, [*running.values()]
                item = running.pop(future)
                fates.settle(item, future.result() if error is None else _Outcome(cause_of(error)))
            if room == 1:
                break
        return False, []


@dataclass
class DaskChunks(Watched, DaskExecutor):
    """Chunks by the workers of a Dask cluster, each a task of its own.

    Nothing hangs on anything else: a chunk that kills its workers is given up by the scheduler after the fourth, and
    the others are done. Chunks that merely waited on the same workers are given up with it; so all of them are tried
    again at the end, one at a time. What is done is let go at once: a worker that dies later takes nothing with it.

    Args:
        patience: time that is waited for a worker while there is none that runs [s].
    """

    patience: float = PATIENCE

    def do(self, items: Sequence[WorkItem], function: _ChunkFunction, fates: Fates) -> None:
        """Does chunks and tells their fates."""
        _DaskRun(self, function, fates).over(items)


class _DaskRun:
    """Chunks while they are with a Dask cluster."""

    def __init__(self, executor: DaskChunks, function: _ChunkFunction, fates: Fates) -> None:
        self.client: Any = executor.client
        self.presence = Presence(executor.client, executor.patience)
        self.priority = executor.priority
        self.name = executor.function_name or "chunk"
        self.fates = fates
        self.chunks: dict[str, WorkItem] = {}
        self.suspects: deque[WorkItem] = deque()
        self.alone = False
        self.refused: dict[WorkItem, int] = {}
        self.task = _checked({package: _version(package) for package in _DECISIVE})
        self.work = (partial(_attempt, function, executor.keep), executor.heavy_input)
        self.shared: Any = None
        self.reason = ""  # why outcomes are lost that were there already
        self.address = address_of(executor.client)

    def over(self, items: Sequence[WorkItem]) -> None:
        from distributed import as_completed  # noqa: PLC0415 - only where Dask is used

        if self.client.status != "running":
            self.fates.lost |= dict.fromkeys(items, f"the Dask scheduler {self.address} is gone")
            return
        waiting = as_completed(raise_errors=False, loop=self.client.loop)
        waiting.update(self._submit(items))
        while self.chunks or self.suspects:
            if not self.chunks:
                self.alone = True
                waiting.update(self._submit([self.suspects.popleft()]))
            done = waiting.next_batch(block=False)
            if done:
                waiting.update(self._submit(self._settle(done)))
                self.presence.shown()
                continue
            time.sleep(LOOK)
            reason = self.presence.nobody_left()
            if reason:
                self.fates.deserted = self.presence.deserted
                self.fates.lost |= dict.fromkeys([*self.chunks.values(), *self.suspects], reason)
                return

    def _submit(self, items: Sequence[WorkItem]) -> list[Any]:
        import cloudpickle  # noqa: PLC0415 - beside its only use

        if not items:
            return []
        if self.shared is None:
            function, processor = self.work
            # A worker unpickles neither function nor processor before it has compared versions.
            self.shared = self.client.submit(
                _itself, (cloudpickle.dumps(function), processor), pure=False, key=f"{self.name}-shared"
            )
        futures = self.client.map(
            self.task,
            list(items),
            shared=self.shared,
            pure=False,
            retries=0,
            priority=self.priority,
            key=self.name,
        )
        self.chunks |= {future.key: item for future, item in zip(futures, items, strict=True)}
        return list(futures)

    def _settle(self, done: Sequence[Any]) -> list[WorkItem]:
        """Notes what became of chunks; returns those that must be sent again."""
        items = {future.key: self.chunks.pop(future.key) for future in done}
        finished = [future for future in done if future.status == "finished"]
        outcomes = dict(zip([f.key for f in finished], self._gathered(finished), strict=True))
        again = []
        for future in done:
            item, outcome = items[future.key], outcomes.get(future.key)
            if isinstance(outcome, _Outcome):
                self.fates.settle(item, outcome)
            elif outcome is not None:
                again += self._send_away(item, *outcome)
            elif future.status == "error":
                self._judge(item, future.exception())
            else:
                self.fates.lost[item] = self.reason or f"the Dask scheduler {self.address} was lost"
        return again

    def _judge(self, item: WorkItem, error: BaseException) -> None:
        """Notes what ended a task from outside."""
        from distributed import KilledWorker  # noqa: PLC0415 - only where Dask is used

        if not isinstance(error, KilledWorker):
            self.fates.failed[item] = cause_of(error)
        elif self.alone:
            number = error.allowed_failures + 1
            self.fates.give_up(item, f"{number} workers died while they did it alone (out of memory?)")
        else:
            self.suspects.append(item)

    def _gathered(self, finished: Sequence[Any]) -> list[Any]:
        """Outcomes, all at once; None where the scheduler was lost with them, or workers that none came after."""
        from concurrent.futures import CancelledError  # noqa: PLC0415 - beside its only use

        try:
            return self.presence.gathered(finished)
        except DesertedError as error:
            self.reason, self.fates.deserted = str(error), True
        except (CancelledError, OSError):
            pass
        return [None] * len(finished)

    def _send_away(self, item: WorkItem, worker: str, difference: str) -> list[WorkItem]:
        """A worker of other versions would take chunk after chunk: it is retired, and the chunk sent to another."""
        logger.warning("worker %s is sent away: it has %s", worker, difference)
        self.client.retire_workers([worker], close_workers=True)
        self.refused[item] = self.refused.get(item, 0) + 1
        if self.refused[item] < _REFUSALS:
            return [item]
        self.fates.failed[item] = f"worker {worker} has {difference}"
        return []


def _itself(content: Any) -> Any:
    return content


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _checked(versions: Mapping[str, str]) -> Callable[..., Any]:
    """The task of a chunk; where versions differ it gives, instead of an outcome, the worker and the difference.

    A function within a function is pickled with its code: a worker of another version has none of ours to run.
    """

    def chunk(item: Any, shared: tuple[bytes, Any]) -> Any:
        import importlib.metadata  # noqa: PLC0415 - runs where this module may be another
        import pickle  # noqa: PLC0415

        from distributed import get_worker  # noqa: PLC0415

        worker = get_worker()
        # Looked up once in a worker's life: for every chunk it would take longer than Dask takes to hand one out.
        found = worker.__dict__.setdefault("versions_found", {})
        differing = []
        for package, wanted in versions.items():
            if package not in found:
                try:
                    found[package] = importlib.metadata.version(package)
                except importlib.metadata.PackageNotFoundError:
                    found[package] = ""
            if found[package] != wanted:
                differing.append(f"{package} {found[package] or 'missing'} and not {wanted or 'missing'}")
        if differing:
            return worker.address, ", ".join(differing)
        function, processor = shared
        return pickle.loads(function)(item if processor is None else (item, processor))  # noqa: S301 - our own message, no file

    return chunk


# --- adding up -------------------------------------------------------------------------------------------------------


def _tree(partial_results: Sequence[Any]) -> Any:
    level = list(partial_results)
    while len(level) > 1:
        level = [_sum(level[start : start + WIDTH]) for start in range(0, len(level), WIDTH)]
    return level[0] if level else None


def _sum(results: Sequence[Any]) -> Any:
    """As coffea accumulates, but for histograms, which it would copy once for every dataset."""
    if not all(isinstance(result, dict) and "histograms" in result for result in results):
        return accumulate(results)
    rest = accumulate([{k: v for k, v in result.items() if k != "histograms"} for result in results])
    return {**rest, "histograms": joined(result["histograms"] for result in results)}


def added_up(executor: ExecutorBase, function: Callable[[Any], Any], batches: Sequence[Any]) -> Any:
    """Adds up what a function gives for each batch, by the workers, as a tree of one shape: every digit is the same.

    What the function gives must not depend on who calls it: where workers are lost, this process does all of it.

    Args:
        executor: from `Workers.executor`.
        function: batch -> something that coffea can accumulate.
        batches: in order.
    """
    if not batches:
        return None
    if isinstance(executor, FuturesExecutor):
        try:
            return _tree(list(executor.pool.map(function, batches)))
        except BrokenExecutor as error:
            logger.warning("the pool was lost (%s): results are added up here", cause_of(error))
    if isinstance(executor, DaskExecutor) and getattr(executor.client, "status", "") == "running":
        try:
            return _tree_of_tasks(executor.client, function, batches)
        except _losses() as error:
            logger.warning("the cluster was lost (%s): results are added up here", cause_of(error))
    return _tree([function(batch) for batch in batches])


def _tree_of_tasks(client: Any, function: Callable[[Any], Any], batches: Sequence[Any]) -> Any:
    """The sum, by the workers."""
    level = client.map(function, list(batches), pure=False)
    while len(level) > 1:
        parts = [level[start : start + WIDTH] for start in range(0, len(level), WIDTH)]
        level = [client.submit(_sum, part, pure=False) for part in parts]
    return Presence(client, PATIENCE).gathered(level)[0]


def _losses() -> tuple[type[BaseException], ...]:
    from distributed import KilledWorker  # noqa: PLC0415 - only where Dask is used
    from distributed.client import FutureCancelledError  # noqa: PLC0415

    return OSError, DesertedError, KilledWorker, FutureCancelledError
