"""What a model is trained on, from the shards of a manifest: in memory where it fits, ordered on disk where not.

Only simulation of kind "background" is read, or, if asked for, a fraction of the collision data; never signal.
Both kinds of sample hold the same events in the same order, that of the hash of their identity, and shuffle them
alike: scaler, batches and so the weights of a trained network are the same to the bit whether or not the events
fit into memory, however the shards were cut, and in whatever order they are read.
"""

import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import InputError
from models.ordering import Block, block_file, order_events, ordering, transformed
from models.reading import (
    CHUNK_ROWS,
    Kind,
    Shard,
    ShardReader,
    in_order,
    thinned,
)
from models.settings import Weighting
from models.weights import Sums, TrainingWeights
from processors.shards import read_manifest
from processors.split import SPLIT_FRACTIONS, SPLITS

__all__ = [
    "BackgroundSample",
    "Chunk",
    "MemorySample",
    "Rows",
    "Scaling",
    "StoredSample",
    "feature_columns",
    "kept_columns",
    "open_background",
    "shuffled",
]

logger = logging.getLogger(__name__)

# Chunks that are mixed at a time: of one window an epoch takes every event, in random order. Chunks are random
# samples of all processes already (the order is that of a hash), and other ones meet in every epoch.
WINDOW_CHUNKS: Final = 4


class Scaling(Protocol):
    """What a sample needs to know of a scaler."""

    def transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale features of shape (n, k)."""
        ...


class Chunk(NamedTuple):
    """Some events of one split, in an order that does not depend on any random number."""

    features: NDArray[np.float32]  # (m, k)
    training_weight: NDArray[np.float32]  # (m,), mean 1 over the training split, never negative
    weight: NDArray[np.float64]  # (m,), physical and signed

    @property
    def events(self) -> int:
        """Their number m."""
        return len(self.weight)

    def take(self, which: Any) -> "Chunk":
        """Some of the events: a slice (views), a mask or an array of indices (copies)."""
        return Chunk(self.features[which], self.training_weight[which], self.weight[which])

    def empty(self, n: int) -> "Chunk":
        """Room for n such events."""
        return Chunk(*(np.empty((n, *part.shape[1:]), part.dtype) for part in self))

    def put(self, places: Any, events: "Chunk") -> None:
        """Overwrite the events at some places."""
        self.features[places] = events.features
        self.training_weight[places] = events.training_weight
        self.weight[places] = events.weight


class Rows(NamedTuple):
    """Numbers of some events of the training split, where their order is all that is asked for."""

    number: NDArray[np.int32]  # (m,)

    @property
    def events(self) -> int:
        """Their number m."""
        return len(self.number)

    def take(self, which: Any) -> "Rows":
        """As of a chunk."""
        return Rows(self.number[which])

    def empty(self, n: int) -> "Rows":
        """Room for n such numbers."""
        return Rows(np.empty(n, self.number.dtype))

    def put(self, places: Any, rows: "Rows") -> None:
        """Overwrite the numbers at some places."""
        self.number[places] = rows.number


Piece = TypeVar("Piece", Chunk, Rows)


class BackgroundSample(Protocol):
    """Events of one region to train on, split into training, validation and test."""

    columns: list[str]
    datasets: list[str]
    rows: dict[str, int]
    sumw: dict[str, float]

    def scale(self, scaler: Scaling) -> None:
        """Scale all features from now on; called once."""
        ...

    def chunks(self, split: str) -> Iterator[Chunk]:
        """All events of a split in fixed order."""
        ...

    def windows(self, batch_size: int, rng: np.random.Generator) -> Iterator[Chunk]:
        """One epoch over the training split, shuffled; see `shuffled`."""
        ...

    def close(self) -> Any:
        """Free what the sample takes on disk."""
        ...


def feature_columns(manifest: dict[str, Any], features: str) -> list[str]:
    """Names of the columns of a feature set, in the order of the manifest.

    Raises:
        InputError: the manifest holds no such set.
    """
    known = manifest["features"]
    if not known.get(features):
        msg = (
            f"the shards of region {manifest['region']} have no feature set {features!r}; "
            f"there are {', '.join(sorted(known))}"
        )
        raise InputError(msg)
    return list(known[features])


def kept_columns(path: Path, manifest: dict[str, Any], columns: list[str]) -> list[str]:
    """Those of the columns that the stage compare kept, in their order; all where it was not run.

    Args:
        path: `manifest.json` of the region; the list is `inputs.json` beside it.
        manifest: its content.
        columns: of a feature set.

    Raises:
        InputError: the list was made from other shards, is not readable, or keeps none of the columns.
    """
    listed = Path(path).with_name("inputs.json")
    if not listed.is_file():
        return columns
    try:
        inputs = json.loads(listed.read_text(encoding="utf-8"))
        kept, made_of = set(inputs["kept"]), inputs["config_hash"]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{listed} is no list of inputs ({error}): run the stage compare again"
        raise InputError(msg) from error
    if made_of != manifest["config_hash"]:
        msg = f"{listed} was made from other shards than there are now: run the stage compare again"
        raise InputError(msg)
    remaining = [name for name in columns if name in kept]
    if not remaining:
        msg = (
            f"the stage compare left none of the {len(columns)} inputs of region {manifest['region']}: "
            "loosen the thresholds under `comparison`"
        )
        raise InputError(msg)
    return remaining


def shuffled(
    n_rows: int, batch_size: int, rng: np.random.Generator, read: Callable[[int], Piece]
) -> Iterator[Piece]:
    """One epoch in random order: windows of whole batches, each event at most once, without the rest.

    The next window is mixed in a thread while one is in use.

    Args:
        n_rows: events of the split.
        batch_size: events in a batch.
        rng: decides which chunks are mixed with one another, and the order of events.
        read: gives a chunk, by its number.
    """
    numbers = rng.permutation(-(-n_rows // CHUNK_ROWS))
    windows = [numbers[start : start + WINDOW_CHUNKS] for start in range(0, len(numbers), WINDOW_CHUNKS)]
    mixed = _mixed(windows, n_rows, batch_size, rng, read)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, mixed, None)
        while (window := following.result()) is not None:
            following = pool.submit(next, mixed, None)
            if window.events:
                yield window


def _mixed(
    windows: list[NDArray[np.intp]],
    n_rows: int,
    batch_size: int,
    rng: np.random.Generator,
    read: Callable[[int], Piece],
) -> Iterator[Piece]:
    """Windows in random order; what is less than a batch at the end of one comes first in the next."""
    rest: Piece | None = None
    for numbers in windows:
        waiting = 0 if rest is None else rest.events
        n = int(np.minimum(CHUNK_ROWS, n_rows - numbers * CHUNK_ROWS).sum())
        places = waiting + rng.permutation(n)
        window: Piece | None = None
        for chunk in map(read, map(int, numbers)):  # one at a time: a chunk of a matrix is large
            if window is None:
                window, filled = chunk.empty(waiting + n), 0
                if rest is not None:
                    window.put(slice(waiting), rest)
            window.put(places[filled : filled + chunk.events], chunk)
            filled += chunk.events
        if window is not None:
            whole = window.events - window.events % batch_size
            rest = window.take(np.arange(whole, window.events))
            yield window.take(slice(whole))


@dataclass
class MemorySample:
    """A sample that is held in memory, ordered by the hash of the events' identity."""

    columns: list[str]
    datasets: list[str]
    rows: dict[str, int]
    sumw: dict[str, float]
    arrays: dict[str, Chunk] = field(repr=False)

    def scale(self, scaler: Scaling) -> None:
        """Scale all features, in place."""
        for split in SPLITS:
            for chunk in self.chunks(split):
                chunk.features[:] = scaler.transform(chunk.features)

    def chunks(self, split: str) -> Iterator[Chunk]:
        """All events of a split in fixed order, as views."""
        return (self._chunk(split, number) for number in range(-(-self.rows[split] // CHUNK_ROWS)))

    def windows(self, batch_size: int, rng: np.random.Generator) -> Iterator[Chunk]:
        """One epoch over the training split in random order; see `shuffled`."""
        return shuffled(self.rows["train"], batch_size, rng, partial(self._chunk, "train"))

    def orders(self, batch_size: int, rng: np.random.Generator) -> Iterator[Rows]:
        """As `windows`, the numbers of the events in `arrays["train"]` instead of them."""
        n = self.rows["train"]

        def numbers(chunk: int) -> Rows:
            return Rows(np.arange(chunk * CHUNK_ROWS, min((chunk + 1) * CHUNK_ROWS, n), dtype=np.int32))

        return shuffled(n, batch_size, rng, numbers)

    def close(self) -> None:
        """Nothing is left to do."""

    def _chunk(self, split: str, number: int) -> Chunk:
        return self.arrays[split].take(slice(number * CHUNK_ROWS, (number + 1) * CHUNK_ROWS))


@dataclass
class StoredSample:
    """A sample that lies on disk in the order of the hash of the events' identity; gone when it is closed."""

    columns: list[str]
    datasets: list[str]
    rows: dict[str, int]
    sumw: dict[str, float]
    files: dict[str, Path] = field(repr=False)
    weights: TrainingWeights = field(repr=False)

    def __post_init__(self) -> None:
        self.close = weakref.finalize(self, shutil.rmtree, self.files["train"].parent, ignore_errors=True)

    def scale(self, scaler: Scaling) -> None:
        """Scale all features: once, in a new copy, since some scalings cost more than reading."""
        for path in self.files.values():
            transformed(path, scaler.transform)

    def chunks(self, split: str) -> Iterator[Chunk]:
        """All events of a split in fixed order."""
        with block_file(self.files[split]) as file:
            yield from in_order(lambda number: self._chunk(file[number]), range(len(file)), threads=2)

    def windows(self, batch_size: int, rng: np.random.Generator) -> Iterator[Chunk]:
        """One epoch over the training split in random order; see `shuffled`."""
        with block_file(self.files["train"]) as file:
            yield from shuffled(self.rows["train"], batch_size, rng, lambda number: self._chunk(file[number]))

    def _chunk(self, block: Block) -> Chunk:
        return Chunk(block.features, self.weights(block.weight, block.dataset), block.weight)


def open_background(
    path: Path,
    *,
    columns: list[str],
    seed: int,
    weighting: Weighting = "physical",
    memory_mb: int = 4096,
    kind: Kind = "background",
    fractions: tuple[float, float, float] = SPLIT_FRACTIONS,
    max_train_events: int | None = None,
    max_validation_events: int | None = None,
    scratch: Path | None = None,
) -> MemorySample | StoredSample:
    """The events of a manifest to train on, in memory if they fit into the budget and on disk otherwise.

    Args:
        path: `manifest.json` of one region's shards.
        columns: feature columns, in order.
        seed: of the split into training, validation and test, and of subsamples.
        weighting: how training weights follow from physical ones.
        memory_mb: what features may take [MB]; it changes where events are, and nothing else.
        kind: of the datasets: background simulation, or collision data, whose test split is not even read.
        fractions: of train, validation and test.
        max_train_events: more are thinned to a random subsample, see `models.reading.thinned`.
        max_validation_events: likewise.
        scratch: directory for the ordered copy of what does not fit; by default the system's for temporary files.

    Raises:
        InputError: there is nothing to train on.
        FailureError: a shard is missing or differs from the manifest, or the disk has not enough room.
    """
    manifest = read_manifest(path)
    names, shards = _shards(Path(path), manifest, kind)
    reader = ShardReader(shards, columns, seed, fractions)
    limits = (max_train_events, max_validation_events, 0 if kind == "data" else None)
    n_rows = sum(shard.rows for shard in shards)
    if any(limit is not None for limit in limits):
        reader, n_rows = thinned(reader, limits)
    sums = Sums(len(names), weighting)
    size_mb = n_rows * len(columns) * 4 / 1e6
    if size_mb <= memory_mb:
        return _in_memory(reader, names, sums, region=manifest["region"])
    if scratch is not None:
        Path(scratch).mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="events-", dir=scratch))
    logger.info("%.0f MB of features are ordered on disk in %s", size_mb, directory)
    with ExitStack() as undo:  # an interrupt too must not leave gigabytes behind
        undo.callback(shutil.rmtree, directory, ignore_errors=True)
        files = order_events(reader, directory, sums, n_rows=n_rows, memory=memory_mb * 1e6)
        sample = StoredSample(
            columns,
            names,
            sums.rows(),
            sums.sumw(),
            dict(zip(SPLITS, files, strict=True)),
            sums.weights(manifest["region"]),
        )
        undo.pop_all()
    return sample


def _shards(path: Path, manifest: dict[str, Any], kind: Kind) -> tuple[list[str], list[Shard]]:
    """Names of the datasets of a kind, and their shards."""
    chosen = {name: dataset for name, dataset in manifest["datasets"].items() if dataset["kind"] == kind}
    names = sorted(chosen)
    shards = [
        Shard(
            path=path.parent / entry["path"],
            dataset=names.index(entry["dataset"]),
            rows=int(entry["rows"]),
            scale=float(chosen[entry["dataset"]].get("scale", 1.0)),
            checksum=str(entry["checksum"]),
        )
        for entry in sorted(manifest["shards"], key=lambda entry: str(entry["path"]))
        if entry["dataset"] in chosen
    ]
    if not shards:
        what = {"background": "background simulation", "data": "collision data"}[kind]
        msg = f"region {manifest['region']} selected no {what}: there is nothing to train on"
        raise InputError(msg)
    return names, shards


def _in_memory(reader: ShardReader, names: list[str], sums: Sums, *, region: str) -> MemorySample:
    found = list(in_order(reader.events, reader.shards))
    used = [reader.used(events) for events in found]
    key, split, _, weight = (
        np.concatenate(parts)
        for parts in zip(*(events.take(of) for events, of in zip(found, used, strict=True)), strict=True)
    )
    counts = [int(of.sum()) for of in used]
    dataset = np.repeat(np.array([shard.dataset for shard in reader.shards], dtype=np.int32), counts)
    order = ordering(key, split, dataset, weight)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    features = np.empty((len(order), len(reader.columns)), dtype=np.float32)

    def fill(number: int) -> None:
        row = starts[number]
        for rows in reader.features(reader.shards[number], used[number]):
            features[place[row : row + len(rows)]] = rows
            row += len(rows)

    starts = [0, *accumulate(counts)]
    for _ in in_order(fill, range(len(counts))):
        pass
    dataset, weight, split = dataset[order], weight[order], split[order]
    edges = np.searchsorted(split, np.arange(len(SPLITS) + 1))
    for number in range(len(SPLITS)):
        for start in range(edges[number], edges[number + 1], CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, edges[number + 1]))
            sums.add(dataset[rows], number, weight[rows])
    whole = Chunk(features, sums.weights(region)(weight, dataset), weight)
    arrays = {name: whole.take(slice(edges[index], edges[index + 1])) for index, name in enumerate(SPLITS)}
    return MemorySample(reader.columns, names, sums.rows(), sums.sumw(), arrays)
