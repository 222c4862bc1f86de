"""Events of many shards in one order on disk, without ever holding them: an external sort by identity.

In one pass every event goes to the bucket of its hash (equally full, since the hash is uniform), then one bucket
after the other is sorted in memory. What results are Arrow files, one a split, of record batches of `CHUNK_ROWS`
rows: the same rows in the same batches however shards were cut and however many threads read them. Hash order is a
random order as far as physics goes, so that neighbouring rows make a good shuffle and are read at the disk's pace.
Features lie row by row and are compressed: an empty cell of a matrix costs next to nothing (of 529 columns of the
demo 116 of 2116 bytes are left, of 33 columns 98 of 132), and reading stays at more than 1 GB/s.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from fileset.exceptions import FailureError
from models.reading import CHUNK_ROWS, Shard, ShardReader, in_order
from models.weights import Sums
from processors.split import SPLITS

__all__ = ["Block", "BlockFile", "block_file", "order_events", "ordering", "transformed"]

_BUCKETS_IN_MEMORY: Final = 4  # one bucket is read, sorted and written, each with a copy
_MOST_BUCKETS: Final = 256  # open files
# Two copies while features are scaled, rows that compress less well than columns, and some room.
_DISK_MARGIN: Final = 3.0
_COMPRESSED: Final = ipc.IpcWriteOptions(compression="lz4")


class Block(NamedTuple):
    """Rows that follow one another in an ordered file."""

    dataset: NDArray[np.int32]  # (m,)
    weight: NDArray[np.float64]  # (m,)
    features: NDArray[np.float32]  # (m, k)

    def take(self, which: Any) -> "Block":
        """Some of the rows: a slice (views) or an array of indices (copies)."""
        return Block(self.dataset[which], self.weight[which], self.features[which])

    def join(self, other: "Block") -> "Block":
        """These rows, then others."""
        return Block(
            np.concatenate([self.dataset, other.dataset]),
            np.concatenate([self.weight, other.weight]),
            np.concatenate([self.features, other.features]),
        )


def ordering(
    key: NDArray[np.uint64], split: NDArray[np.uint8], dataset: NDArray[Any], weight: NDArray[np.float64]
) -> NDArray[np.intp]:
    """The order of events: by split, then by hash; one that is there twice by what else is known of it."""
    return np.lexsort((weight, dataset, key, split))


class BlockFile:
    """An ordered file that is open for reading."""

    def __init__(self, path: Path) -> None:
        self.source = pa.OSFile(str(path))  # not mapped: pages of a map would count as memory of this process
        self.reader = ipc.open_file(self.source)
        self.lock = Lock()

    def __len__(self) -> int:
        return int(self.reader.num_record_batches)

    def __getitem__(self, number: int) -> Block:
        """One block; IndexError behind the last."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        with self.lock:
            return _block(self.reader.get_batch(number))


@contextmanager
def block_file(path: Path) -> Iterator[BlockFile]:
    """Open an ordered file.

    Raises:
        FailureError: it cannot be read.
    """
    try:
        file = BlockFile(path)
        with file.source:
            yield file
    except (OSError, pa.ArrowException) as error:
        msg = f"the ordered copy {path} of the events cannot be read ({error}): train again"
        raise FailureError(msg) from error


def order_events(
    reader: ShardReader, directory: Path, sums: Sums, *, n_rows: int, memory: float
) -> list[Path]:
    """Write the events that a reader gives in the order of their hash.

    Args:
        reader: of the shards.
        directory: empty, for the files.
        sums: counts the events, in this order.
        n_rows: how many there will be.
        memory: that sorting may take [bytes].

    Returns:
        The file of each split.

    Raises:
        FailureError: a shard is broken, or the disk has not enough room.
    """
    _look_at_disk(directory, reader.bytes_per_row() * n_rows * _DISK_MARGIN)
    # Plain numbers of a row beside its features are 21 bytes.
    size = n_rows * (4 * len(reader.columns) + 21)
    n_buckets = min(max(1, int(-(-size * _BUCKETS_IN_MEMORY // max(memory, 1)))), _MOST_BUCKETS)
    buckets = [directory / f"bucket-{number}.arrow" for number in range(n_buckets)]
    files = [directory / f"{split}.arrow" for split in SPLITS]
    with _room(directory):
        _scatter(reader, buckets)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(_blocks_into(path, len(reader.columns), partial(_count, sums, number)))
                for number, path in enumerate(files)
            ]
            for bucket in buckets:
                _sort(bucket, writers)
                bucket.unlink()
    pa.default_memory_pool().release_unused()
    return files


def transformed(path: Path, transform: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
    """Replace the features of an ordered file by a function of them, block by block."""
    new = path.with_suffix(".new")
    with block_file(path) as file, _room(path.parent):

        def block(number: int) -> Block:
            found = file[number]
            return found._replace(features=np.ascontiguousarray(transform(found.features), dtype=np.float32))

        blocks = in_order(block, range(len(file)))
        n_columns = file.reader.schema.field("features").type.list_size
        with _batches_into(new, _schema(n_columns)) as write:
            for found in blocks:
                write(_record_batch(_schema(n_columns), *found))
    new.replace(path)


def _schema(n_columns: int, *extra: pa.Field) -> pa.Schema:
    return pa.schema(
        [
            *extra,
            pa.field("dataset", pa.int32()),
            pa.field("weight", pa.float64()),
            pa.field("features", pa.list_(pa.float32(), n_columns)),
        ]
    )


def _record_batch(schema: pa.Schema, *columns: NDArray[Any]) -> pa.RecordBatch:
    *plain, features = columns
    rows = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features.shape[1])
    return pa.record_batch([*map(pa.array, plain), rows], schema=schema)


def _block(batch: pa.RecordBatch) -> Block:
    features = batch["features"]
    return Block(
        batch["dataset"].to_numpy(),
        batch["weight"].to_numpy(),
        features.flatten().to_numpy().reshape(-1, features.type.list_size),
    )


@contextmanager
def _batches_into(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    with (
        pa.OSFile(str(path), "wb") as sink,
        ipc.new_file(sink, schema, options=_COMPRESSED) as writer,
    ):
        yield writer.write_batch


@contextmanager
def _blocks_into(
    path: Path, n_columns: int, count: Callable[[Block], None]
) -> Iterator[Callable[[Block], None]]:
    """A function that takes any number of rows and writes full blocks; the last may be shorter."""
    schema = _schema(n_columns)
    rest: list[Block] = []

    def put(block: Block) -> None:
        count(block)
        write_batch(_record_batch(schema, *block))

    def write(rows: Block) -> None:
        found = rest.pop().join(rows) if rest else rows
        full = len(found.weight) - len(found.weight) % CHUNK_ROWS
        for start in range(0, full, CHUNK_ROWS):
            put(found.take(slice(start, start + CHUNK_ROWS)))
        rest.append(found.take(np.arange(full, len(found.weight))))

    with _batches_into(path, schema) as write_batch:
        yield write
        for rows in rest:
            if len(rows.weight):
                put(rows)


def _scatter(reader: ShardReader, buckets: list[Path]) -> None:
    """Put every event into the bucket of its hash; threads share the buckets."""
    schema = _schema(len(reader.columns), pa.field("key", pa.uint64()), pa.field("split", pa.uint8()))
    with ExitStack() as stack:
        writers = [stack.enter_context(_batches_into(path, schema)) for path in buckets]
        locks = [Lock() for _ in buckets]

        def scatter(shard: Shard) -> None:
            for events, features in reader.used_rows(shard):
                place = _bucket(events.key, len(buckets))
                order = np.argsort(place, kind="stable")
                edges = np.searchsorted(place[order], np.arange(len(buckets) + 1))
                for number in np.flatnonzero(np.diff(edges)):
                    rows = order[edges[number] : edges[number + 1]]
                    dataset = np.full(len(rows), shard.dataset, np.int32)
                    batch = _record_batch(
                        schema,
                        events.key[rows],
                        events.split[rows],
                        dataset,
                        events.weight[rows],
                        features[rows],
                    )
                    with locks[number]:
                        writers[number](batch)

        for _ in in_order(scatter, reader.shards):
            pass


def _bucket(key: NDArray[np.uint64], n_buckets: int) -> NDArray[np.int64]:
    """Number of the bucket, rising with the hash."""
    return ((key >> np.uint64(32)) * np.uint64(n_buckets) >> np.uint64(32)).astype(np.int64)


def _count(sums: Sums, split: int, block: Block) -> None:
    sums.add(block.dataset, split, block.weight)


def _sort(bucket: Path, writers: list[Callable[[Block], None]]) -> None:
    """Write a bucket's events in order, each split into its file."""
    with block_file(bucket) as file:
        batches = [file.reader.get_batch(number) for number in range(len(file))]
    if not batches:
        return
    key, split, dataset, weight = (
        np.concatenate([batch[name].to_numpy() for batch in batches])
        for name in ("key", "split", "dataset", "weight")
    )
    order = ordering(key, split, dataset, weight)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    features = np.empty((len(order), _block(batches[0]).features.shape[1]), dtype=np.float32)
    stop = len(order)
    while batches:  # the memory of what was copied is free for the next
        rows = _block(batches.pop()).features
        features[place[stop - len(rows) : stop]] = rows
        stop -= len(rows)
    ordered = Block(dataset[order], weight[order], features)
    edges = np.searchsorted(split[order], np.arange(len(SPLITS) + 1))
    for number, write in enumerate(writers):
        write(ordered.take(slice(edges[number], edges[number + 1])))


def _look_at_disk(directory: Path, needed: float) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise FailureError(
            _no_room(directory, f"needs about {needed / 1e9:.3g} GB, {free / 1e9:.3g} are free")
        )


@contextmanager
def _room(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FailureError(_no_room(directory, str(error))) from error


def _no_room(directory: Path, why: str) -> str:
    return (
        f"the ordered copy of the events in {directory} cannot be written ({why}): make room, set "
        "training.scratch to a directory with more, raise training.memory_mb, or limit training.max_train_events"
    )
