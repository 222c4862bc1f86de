"""Reading shards: features, weights and splits of the events that a model may be trained on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from models.threads import cores
from processors.shards import check_whole
from processors.split import SPLIT_FRACTIONS, SPLITS, identity_hash, split_of

__all__ = [
    "CHUNK_ROWS",
    "Events",
    "Kind",
    "Shard",
    "ShardReader",
    "in_order",
    "thinned",
]

Kind: TypeAlias = Literal["background", "data"]
T = TypeVar("T")
U = TypeVar("U")

IDENTITY: Final = ("channelNumber", "runNumber", "eventNumber")
CHUNK_ROWS: Final = 16_384  # rows that are read, scaled or evaluated at a time
_DRAW_BITS: Final = 20
_DRAW_SALT: Final = 0x5AB5A3B1E  # a subsample must not follow the split, which is drawn with the seed alone


class Shard(NamedTuple):
    """One shard of a dataset that may be trained on."""

    path: Path
    dataset: int
    rows: int
    scale: float
    checksum: str


class Events(NamedTuple):
    """What is known of some events without their features; each of shape (n,)."""

    key: NDArray[np.uint64]  # hash of the identity
    split: NDArray[np.uint8]
    draw: NDArray[np.uint32]  # uniform in 0 ... 2^20 - 1: who is in a subsample
    weight: NDArray[np.float64]  # physical and signed

    def take(self, which: Any) -> "Events":
        """Some of the events: a mask or an array of indices."""
        return Events(self.key[which], self.split[which], self.draw[which], self.weight[which])


@dataclass(frozen=True)
class ShardReader:
    """Reads shards.

    Attributes:
        shards: what to read.
        columns: features, in order.
        seed: of the split and of subsamples.
        fractions: of train, validation and test.
        cutoffs: of each split: events whose draw lies below it are used.
    """

    shards: list[Shard]
    columns: list[str]
    seed: int
    fractions: tuple[float, float, float] = SPLIT_FRACTIONS
    cutoffs: tuple[int, int, int] = (1 << _DRAW_BITS,) * 3
    _whole: set[Path] = field(default_factory=set, repr=False, compare=False)  # shards that were looked at

    def used(self, events: Events) -> NDArray[np.bool_]:
        """Which events belong to the sample."""
        return events.draw < np.asarray(self.cutoffs, dtype=np.uint32)[events.split]

    def open(self, shard: Shard) -> pq.ParquetFile:
        """The shard's file, after a look at its rows and columns, and when it is first read at its checksum."""
        with _named_errors(shard):
            file = pq.ParquetFile(shard.path, pre_buffer=True)
        if file.metadata.num_rows != shard.rows:
            msg = (
                f"shard {shard.path} has {file.metadata.num_rows} rows where the manifest has {shard.rows}: "
                "run the stage select again"
            )
            raise FailureError(msg)
        missing = {*self.columns, *IDENTITY, "weight"} - set(file.schema_arrow.names)
        if missing:
            msg = f"shard {shard.path} lacks the columns {sorted(missing)}: run the stage select again"
            raise FailureError(msg)
        if shard.path not in self._whole:
            with _named_errors(shard):
                check_whole(shard.path, shard.checksum)
            self._whole.add(shard.path)
        return file

    def events(self, shard: Shard) -> Events:
        """All that is known of the shard's events without their features."""
        with _named_errors(shard):
            table = self.open(shard).read(columns=[*IDENTITY, "weight"])
        return self._events(table, shard)

    def features(self, shard: Shard, used: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
        """Features of those of the shard's events that are used, shape (m, k), some rows at a time."""
        start = 0
        for table in self._tables(shard, self.columns):
            rows = np.flatnonzero(used[start : start + len(table)])
            start += len(table)
            yield self._features(table, shard, rows)

    def used_rows(self, shard: Shard) -> Iterator[tuple[Events, NDArray[np.float32]]]:
        """Those events of a shard that are used, with their features, some rows at a time."""
        for table in self._tables(shard, [*IDENTITY, "weight", *self.columns]):
            events = self._events(table, shard)
            rows = np.flatnonzero(self.used(events))
            if len(rows):
                yield events.take(rows), self._features(table, shard, rows)

    def bytes_per_row(self, sampled: int = 32) -> float:
        """What an event's features take on disk, from the footers of some shards."""
        step = max(1, len(self.shards) // sampled)
        size = rows = 0
        wanted = set(self.columns)
        for shard in self.shards[::step]:
            metadata = self.open(shard).metadata
            rows += metadata.num_rows
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                chunks = (group.column(index) for index in range(group.num_columns))
                size += sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema in wanted)
        return size / max(rows, 1)

    def _tables(self, shard: Shard, columns: list[str]) -> Iterator[pa.Table]:
        with _named_errors(shard):
            for batch in self.open(shard).iter_batches(batch_size=CHUNK_ROWS, columns=columns):
                yield pa.Table.from_batches([batch])

    def _events(self, table: pa.Table, shard: Shard) -> Events:
        identity = [table[name].to_numpy() for name in IDENTITY]
        weight = table["weight"].to_numpy().astype(np.float64) * shard.scale
        if not np.isfinite(weight).all():
            msg = f"shard {shard.path} holds a weight that is not finite: run the stage select again"
            raise FailureError(msg)
        draw = identity_hash(*identity, seed=self.seed + _DRAW_SALT) >> np.uint64(64 - _DRAW_BITS)
        return Events(
            key=identity_hash(*identity, seed=0),
            split=split_of(*identity, seed=self.seed, fractions=self.fractions),
            draw=draw.astype(np.uint32),
            weight=weight,
        )

    def _features(self, table: pa.Table, shard: Shard, rows: Any) -> NDArray[np.float32]:
        # Column by column into rows of memory and transposed at once: six times as fast as row by row.
        columns = np.array([table[name].to_numpy()[rows] for name in self.columns], dtype=np.float32)
        finite = np.isfinite(columns).all(axis=1)
        if not finite.all():
            name = self.columns[int(np.argmin(finite))]
            msg = f"column {name!r} of shard {shard.path} holds a value that is not finite: run select again"
            raise FailureError(msg)
        return np.ascontiguousarray(columns.T)


def thinned(
    reader: ShardReader, limits: tuple[int | None, int | None, int | None]
) -> tuple[ShardReader, int]:
    """A reader that uses at most so many events of each split, and how many it uses in all.

    Who stays is decided by a hash of the identity and the seed: no order of files or shards, and no cut of them,
    changes it. Of n events fewer than n/2^20 are left out beyond the limit.

    Args:
        reader: of the shards, without cutoffs.
        limits: of train, validation and test; None for all.
    """
    counts = np.zeros((len(SPLITS), 1 << _DRAW_BITS), dtype=np.int64)
    for events in in_order(reader.events, reader.shards):
        for split in range(len(SPLITS)):
            draws, found = np.unique(events.draw[events.split == split], return_counts=True)
            counts[split, draws] += found
    below = np.cumsum(counts, axis=1)
    train, validation, test = (
        1 << _DRAW_BITS if limit is None else int(np.searchsorted(of, limit, side="right"))
        for of, limit in zip(below, limits, strict=True)
    )
    n_rows = sum(
        int(of[cutoff - 1]) for of, cutoff in zip(below, (train, validation, test), strict=True) if cutoff
    )
    return replace(reader, cutoffs=(train, validation, test)), n_rows


def in_order(function: Callable[[T], U], items: Iterable[T], threads: int | None = None) -> Iterator[U]:
    """Results of a function in the order of its arguments, a few of them ahead in threads.

    Arrow and NumPy release the interpreter's lock for what takes time.
    """
    threads = threads or cores()
    with ThreadPoolExecutor(threads) as pool:
        waiting = iter(items)
        pending: deque[Future[U]] = deque(pool.submit(function, item) for item in islice(waiting, threads))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in islice(waiting, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _named_errors(shard: Shard) -> Iterator[None]:
    """What Arrow cannot read becomes one sentence with the shard's name."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        msg = f"cannot read shard {shard.path} ({error}): run the stage select again"
        raise FailureError(msg) from error
