"""Background events from the shards of a manifest: in memory where they fit, streamed where they do not.

Only simulation of kind "background" is ever read here: a model has seen neither signal nor collision data.
In memory, events are ordered by the hash of their identity, so that the sample is the same to the bit
however the shards were cut. A stream shuffles within a bounded buffer; its order follows from the seed and
the shards.
"""

import json
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fileset.exceptions import FailureError, InputError
from models.settings import Weighting
from processors.shards import read_manifest
from processors.split import SPLITS, identity_hash, split_of

__all__ = [
    "BackgroundSample",
    "Chunk",
    "MemorySample",
    "Scaling",
    "ShardStream",
    "feature_columns",
    "kept_columns",
    "open_background",
]

logger = logging.getLogger(__name__)

IDENTITY = ("channelNumber", "runNumber", "eventNumber")
CHUNK_ROWS = 16_384  # rows that are read, scaled or evaluated at a time
_POWERS: dict[str, float] = {"physical": 1.0, "sqrt": 0.5, "unweighted": 0.0}


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

    def take(self, which: Any) -> "Chunk":
        """Some of the events: a slice (views), a mask or an array of indices (copies)."""
        return Chunk(self.features[which], self.training_weight[which], self.weight[which])

    def put(self, places: NDArray[np.intp], events: "Chunk") -> None:
        """Overwrite the events at some places."""
        self.features[places] = events.features
        self.training_weight[places] = events.training_weight
        self.weight[places] = events.weight


class BackgroundSample(Protocol):
    """Background events of one region, split into training, validation and test."""

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

    def batches(self, batch_size: int, rng: np.random.Generator) -> Iterator[Chunk]:
        """One epoch over the training split: shuffled batches of exactly `batch_size`, without the rest."""
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


@dataclass(frozen=True)
class _Shard:
    """One shard of a background dataset."""

    path: Path
    dataset: int
    rows: int
    scale: float


@dataclass(frozen=True)
class _Reader:
    """Reads features, weights and splits of background shards; knows no other kind."""

    shards: list[_Shard]
    columns: list[str]
    seed: int

    def open(self, shard: _Shard) -> pq.ParquetFile:
        """The shard's file, after a look at its rows and columns."""
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
        return file

    def identity(self, shard: _Shard) -> tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.float64]]:
        """Hash of the identity, index of the split and physical weight of the shard's events."""
        with _named_errors(shard):
            table = self.open(shard).read(columns=[*IDENTITY, "weight"])
        return self._identity(table, shard)

    def row_group(
        self, shard: _Shard, group: int, split: str
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Features and physical weight of those events of one row group that are in a split."""
        with _named_errors(shard):
            table = self.open(shard).read_row_group(group, columns=[*IDENTITY, "weight", *self.columns])
        _, index, weight = self._identity(table, shard)
        chosen = np.flatnonzero(index == SPLITS.index(split))
        return self._features(table, shard, chosen), weight[chosen]

    def features(self, shard: _Shard) -> Iterator[NDArray[np.float32]]:
        """Features of the shard's events, some rows at a time."""
        with _named_errors(shard):
            for batch in self.open(shard).iter_batches(batch_size=CHUNK_ROWS, columns=self.columns):
                yield self._features(pa.Table.from_batches([batch]), shard, slice(None))

    def _identity(
        self, table: pa.Table, shard: _Shard
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.float64]]:
        identity = [table[name].to_numpy() for name in IDENTITY]
        weight = table["weight"].to_numpy().astype(np.float64) * shard.scale
        if not np.isfinite(weight).all():
            msg = f"shard {shard.path} holds a weight that is not finite: run the stage select again"
            raise FailureError(msg)
        return identity_hash(*identity, seed=0), split_of(*identity, seed=self.seed), weight

    def _features(self, table: pa.Table, shard: _Shard, rows: Any) -> NDArray[np.float32]:
        # Column by column into rows of memory and transposed at once: six times as fast as row by row.
        columns = np.array([table[name].to_numpy()[rows] for name in self.columns], dtype=np.float32)
        finite = np.isfinite(columns).all(axis=1)
        if not finite.all():
            name = self.columns[int(np.argmin(finite))]
            msg = f"column {name!r} of shard {shard.path} holds a value that is not finite: run select again"
            raise FailureError(msg)
        return np.ascontiguousarray(columns.T)


@contextmanager
def _named_errors(shard: _Shard) -> Iterator[None]:
    """What Arrow cannot read becomes one sentence with the shard's name."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        msg = f"cannot read shard {shard.path} ({error}): run the stage select again"
        raise FailureError(msg) from error


@dataclass(frozen=True)
class _Weights:
    """From physical to training weights.

    A negative weight (higher-order generators) has no meaning for a loss: with it, reconstructing an event
    *badly* would pay. Training therefore takes |w| times Σw/Σ|w| of the event's dataset, which keeps every
    process' share of the background; histograms, quantiles and efficiencies keep the signs.
    """

    power: float
    ratio: NDArray[np.float64]  # Σw/Σ|w| of each dataset
    mean: float  # over the training split, before normalisation

    def __call__(self, weight: NDArray[np.float64], dataset: Any) -> NDArray[np.float32]:
        training: NDArray[np.float64] = (np.abs(weight) * self.ratio[dataset]) ** self.power / self.mean
        return training.astype(np.float32)


class _Sums:
    """Events, Σw, Σ|w| and Σ|w|^p for each dataset and split."""

    def __init__(self, n_datasets: int, power: float) -> None:
        self.power = power
        self.table = np.zeros((4, n_datasets, len(SPLITS)))

    def add(self, dataset: Any, split: NDArray[np.uint8], weight: NDArray[np.float64]) -> None:
        cell = np.asarray(dataset) * len(SPLITS) + split.astype(np.intp)
        size = np.abs(weight)
        for index, summand in enumerate((np.ones_like(weight), weight, size, size**self.power)):
            self.table[index].flat += np.bincount(cell, weights=summand, minlength=self.table[index].size)

    def rows(self) -> dict[str, int]:
        return {name: int(n) for name, n in zip(SPLITS, self.table[0].sum(axis=0), strict=True)}

    def sumw(self) -> dict[str, float]:
        return {name: float(s) for name, s in zip(SPLITS, self.table[1].sum(axis=0), strict=True)}

    def weights(self, region: str) -> _Weights:
        """The map to training weights.

        Raises:
            InputError: there is nothing to train on, or it has no positive weight.
        """
        rows = self.rows()
        if not rows["train"] or not rows["validation"]:
            msg = (
                f"region {region} has {rows['train']} background events to train on and "
                f"{rows['validation']} to validate with where each needs one: give a larger fileset"
            )
            raise InputError(msg)
        sumw, sumabs = self.table[1].sum(axis=1), self.table[2].sum(axis=1)
        ratio = np.divide(np.maximum(sumw, 0), sumabs, out=np.zeros_like(sumw), where=sumabs > 0)
        mean = float(self.table[3, :, 0] @ ratio**self.power) / rows["train"]
        if not mean > 0:
            msg = f"the background simulation of region {region} has no positive sum of weights to train with"
            raise InputError(msg)
        return _Weights(self.power, ratio, mean)


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
        whole = self.arrays[split]
        for start in range(0, len(whole.weight), CHUNK_ROWS):
            yield whole.take(slice(start, start + CHUNK_ROWS))

    def batches(self, batch_size: int, rng: np.random.Generator) -> Iterator[Chunk]:
        """One epoch over the training split in random order; see `BackgroundSample`."""
        train = self.arrays["train"]
        order = rng.permutation(len(train.weight))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            yield train.take(order[start : start + batch_size])


@dataclass
class ShardStream:
    """A sample that stays on disk: row groups in random order, shuffled in a buffer of events."""

    columns: list[str]
    datasets: list[str]
    rows: dict[str, int]
    sumw: dict[str, float]
    reader: _Reader = field(repr=False)
    weights: _Weights = field(repr=False)
    buffer_rows: int
    readers: int = 2
    scaler: Scaling | None = None
    groups: list[tuple[_Shard, int]] = field(default_factory=list, repr=False)

    def scale(self, scaler: Scaling) -> None:
        """Scale features as they are read."""
        self.scaler = scaler

    def chunks(self, split: str) -> Iterator[Chunk]:
        """All events of a split, in the order of the shards' paths."""
        yield from self._read(split, self._row_groups())

    def batches(self, batch_size: int, rng: np.random.Generator) -> Iterator[Chunk]:
        """One epoch over the training split; see `BackgroundSample`."""
        groups = self._row_groups()
        shuffled = [groups[index] for index in rng.permutation(len(groups))]
        size = max(min(self.buffer_rows, self.rows["train"]), 2 * batch_size)
        pool = Chunk(
            np.empty((size, len(self.columns)), np.float32), np.empty(size, np.float32), np.empty(size)
        )
        free, order, used = np.arange(size), rng.permutation(size), 0
        for chunk in self._read("train", shuffled):
            start = 0
            while start < len(chunk.weight):
                slots = free[: len(chunk.weight) - start]
                pool.put(slots, chunk.take(slice(start, start + len(slots))))
                start, free = start + len(slots), free[len(slots) :]
                if len(free):
                    continue
                # Full: a random batch leaves and makes room. Newcomers wait for the next permutation, which
                # comes when half of the places were emptied, so that events of distant row groups meet.
                if used + batch_size > max(size // 2, batch_size):
                    order, used = rng.permutation(size), 0
                free = order[used : used + batch_size]
                used += batch_size
                yield pool.take(free)
        rest = rng.permutation(np.setdiff1d(np.arange(size), free))
        for start in range(0, len(rest) - batch_size + 1, batch_size):
            yield pool.take(rest[start : start + batch_size])

    def _row_groups(self) -> list[tuple[_Shard, int]]:
        if not self.groups:
            self.groups = [
                (shard, group)
                for shard in self.reader.shards
                for group in range(self.reader.open(shard).metadata.num_row_groups)
            ]
        return self.groups

    def _read(self, split: str, groups: list[tuple[_Shard, int]]) -> Iterator[Chunk]:
        """Read ahead in threads (Arrow releases the interpreter's lock), in the order of `groups`."""
        with ThreadPoolExecutor(self.readers) as pool:
            tasks = iter(groups)
            pending: deque[Future[Chunk]] = deque(
                pool.submit(self._load, split, *task) for task in islice(tasks, self.readers)
            )
            while pending:
                chunk = pending.popleft().result()
                pending.extend(pool.submit(self._load, split, *task) for task in islice(tasks, 1))
                if len(chunk.weight):
                    yield chunk

    def _load(self, split: str, shard: _Shard, group: int) -> Chunk:
        features, weight = self.reader.row_group(shard, group, split)
        if self.scaler is not None and len(features):
            features = self.scaler.transform(features)
        return Chunk(features, self.weights(weight, shard.dataset), weight)


def open_background(
    path: Path, *, columns: list[str], seed: int, weighting: Weighting = "physical", memory_mb: int = 4096
) -> MemorySample | ShardStream:
    """The background events of a manifest, in memory if they fit into the budget and streamed otherwise.

    Args:
        path: `manifest.json` of one region's shards.
        columns: feature columns, in order.
        seed: of the split into training, validation and test.
        weighting: how training weights follow from physical ones.
        memory_mb: what features may take [MB].

    Raises:
        InputError: there is no background to train on.
        FailureError: a shard is missing or differs from the manifest.
    """
    manifest = read_manifest(path)
    background = {
        name: dataset for name, dataset in manifest["datasets"].items() if dataset["kind"] == "background"
    }
    names = sorted(background)
    shards = [
        _Shard(
            path=Path(path).parent / entry["path"],
            dataset=names.index(entry["dataset"]),
            rows=int(entry["rows"]),
            scale=float(background[entry["dataset"]].get("scale", 1.0)),
        )
        for entry in sorted(manifest["shards"], key=lambda entry: str(entry["path"]))
        if entry["dataset"] in background
    ]
    if not shards:
        msg = f"region {manifest['region']} selected no background simulation: there is nothing to train on"
        raise InputError(msg)
    reader = _Reader(shards, columns, seed)
    sums = _Sums(len(names), _POWERS[weighting])
    size_mb = sum(shard.rows for shard in shards) * len(columns) * 4 / 1e6
    if size_mb <= memory_mb:
        return _in_memory(reader, names, sums, region=manifest["region"])
    for shard in shards:
        _, split, weight = reader.identity(shard)
        sums.add(shard.dataset, split, weight)
    buffer_rows = max(1, int(memory_mb * 1e6 / (4 * len(columns))))
    logger.info("streaming %.0f MB of features through a buffer of %d events", size_mb, buffer_rows)
    return ShardStream(
        columns, names, sums.rows(), sums.sumw(), reader, sums.weights(manifest["region"]), buffer_rows
    )


def _in_memory(reader: _Reader, names: list[str], sums: _Sums, *, region: str) -> MemorySample:
    """Read identities first and features second, straight to their final place."""
    found = [reader.identity(shard) for shard in reader.shards]
    identity, split, weight = (np.concatenate(part) for part in zip(*found, strict=True))
    dataset = np.repeat(
        np.array([shard.dataset for shard in reader.shards], dtype=np.intp),
        [shard.rows for shard in reader.shards],
    )
    # By split first; an event that is there twice is ordered by what else is known of it.
    order = np.lexsort((weight, dataset, identity, split))
    sums.add(dataset[order], split[order], weight[order])
    training_weight = sums.weights(region)(weight, dataset)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    features = np.empty((len(order), len(reader.columns)), dtype=np.float32)
    start = 0
    for shard in reader.shards:
        for part in reader.features(shard):
            features[place[start : start + len(part)]] = part
            start += len(part)
    whole = Chunk(features, training_weight[order], weight[order])
    edges = np.cumsum([0, *sums.rows().values()])
    arrays = {name: whole.take(slice(edges[index], edges[index + 1])) for index, name in enumerate(SPLITS)}
    return MemorySample(reader.columns, names, sums.rows(), sums.sumw(), arrays)
