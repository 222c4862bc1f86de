"""A bounded sample of events with their features, from shards: what a model is tried on without being trained anew.

Background stands for all of it with its held-out events, each dataset scaled to the sum of weights of all its events,
as in `models.studies.scored`. However large the sample is, so many events are read at most, from as few shards as hold
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from models.efficiency import Strata, effective_events
from processors.files import fingerprint
from processors.shards import check_whole
from processors.split import SPLIT_FRACTIONS, SPLITS, identity_hash, split_of

__all__ = ["FeatureSample", "Origin", "read_features"]

_IDENTITY: Final = ("channelNumber", "runNumber", "eventNumber")
_FEWEST: Final = 100  # events of a dataset that are kept before any is thinned
_DRAW_SALT: Final = 0x0B5E55ED  # who is kept must not follow the split

_Which: TypeAlias = tuple[tuple[float, float, float], int]  # fractions of the splits, and which of them


@dataclass(frozen=True)
class Origin:
    """Where some events of a sample were selected from: one chunk of a file."""

    dataset: str
    source: Mapping[str, Any]  # file, uuid, start, stop
    rows: slice  # of the sample


@dataclass(frozen=True)
class FeatureSample:
    """n events, of one dataset after the other."""

    features: NDArray[np.float32]  # (n, k)
    weight: NDArray[np.float64]  # (n,), each dataset scaled to the sum of weights of all its events
    key: NDArray[np.uint64]  # (n,), hash of the identity
    index: NDArray[np.int64]  # (n,), of the dataset
    datasets: list[str]
    sumw2: NDArray[np.float64]  # (datasets,), of all events of each
    origins: list[Origin]

    def __len__(self) -> int:
        return len(self.weight)

    @cached_property
    def strata(self) -> Strata:
        """The datasets."""
        return Strata(self.index, self.sumw2)

    def of(self, datasets: Sequence[str]) -> NDArray[np.bool_]:
        """Which events are of these datasets, shape (n,)."""
        return np.isin(self.index, [number for number, name in enumerate(self.datasets) if name in datasets])

    def summary(self) -> dict[str, Any]:
        """Number of events, sum of weights and effective number."""
        return {
            "n": len(self),
            "sumw": float(self.weight.sum()),
            "n_eff": effective_events(self.weight),
        }


def read_features(
    path: Path,
    manifest: Mapping[str, Any],
    datasets: Sequence[str],
    columns: Sequence[str],
    *,
    seed: int,
    limit: int,
    fractions: tuple[float, float, float] = SPLIT_FRACTIONS,
    split: str | None = "test",
) -> FeatureSample:
    """Events of some datasets with their features.

    Which events are kept of a dataset that has more than its part of the limit is decided by hashes of shard and
    identity; a dataset keeps 100 events before any is left out.

    Args:
        path: `manifest.json` of the region's shards.
        manifest: its content.
        datasets: which.
        columns: features, in order.
        seed: of the split.
        limit: events at most, beside those 100 of each dataset.
        fractions: of the split.
        split: "train", "validation" or "test"; None takes all events. A dataset of which that split holds nothing
            counts with all events anyway.

    Raises:
        FailureError: a shard is missing or differs from the manifest.
    """
    entries = {name: [e for e in manifest["shards"] if e["dataset"] == name] for name in sorted(datasets)}
    which = None if split is None else (fractions, SPLITS.index(split))
    part = 1.0 if which is None else fractions[which[1]]
    expected = part * sum(entry["rows"] for found in entries.values() for entry in found)
    share = min(1.0, limit / expected) if expected else 1.0
    parts: list[_Part] = []
    for name, found in entries.items():
        scale = float(manifest["datasets"][name].get("scale", 1.0))
        rows = sum(entry["rows"] for entry in found)
        quota = max(_FEWEST, ceil(share * part * rows)) if share < 1 else rows
        ordered = sorted(found, key=lambda entry: fingerprint([entry["path"], seed]))
        fields = (path.parent, ordered, columns)
        own = _dataset(*fields, seed=seed, quota=quota, which=which)
        if which is not None and not sum(float(p.weight.sum()) for p in own) > 0:
            own = _dataset(*fields, seed=seed, quota=quota, which=None)
        parts += _scaled(own, sum(entry["sumw"] for entry in found), rows, scale)
    return _joined(parts, sorted(datasets), len(columns))


@dataclass
class _Part:
    """Events of one shard."""

    entry: Mapping[str, Any]
    key: NDArray[np.uint64]
    draw: NDArray[np.uint64]
    weight: NDArray[np.float64]
    features: NDArray[np.float32]
    sumw2: float = 0.0  # what these events add to that of the whole dataset

    def take(self, which: NDArray[np.bool_]) -> "_Part":
        return _Part(
            self.entry,
            self.key[which],
            self.draw[which],
            self.weight[which],
            self.features[which],
            self.sumw2,
        )


def _dataset(
    directory: Path,
    entries: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    seed: int,
    quota: int,
    which: _Which | None,
) -> list[_Part]:
    """Events of one dataset, shard by shard until there are enough; of them those with the lowest draws."""
    parts: list[_Part] = []
    for entry in entries:
        if sum(len(part.key) for part in parts) >= quota:
            break
        parts.append(_shard(directory / entry["path"], entry, columns, seed=seed, which=which))
    draws = np.concatenate([part.draw for part in parts]) if parts else np.zeros(0, dtype=np.uint64)
    if len(draws) <= quota:
        return parts
    last = np.partition(draws, quota - 1)[quota - 1]
    return [part.take(part.draw <= last) for part in parts]


def _shard(
    path: Path,
    entry: Mapping[str, Any],
    columns: Sequence[str],
    *,
    seed: int,
    which: _Which | None,
) -> _Part:
    try:
        check_whole(path, entry["checksum"])
        table = pq.read_table(path, columns=list(dict.fromkeys([*_IDENTITY, "weight", *columns])))
    except (OSError, KeyError, pa.ArrowException) as error:
        msg = f"cannot read shard {path} ({error}): run the stage select again"
        raise FailureError(msg) from error
    identity = [table[name].to_numpy() for name in _IDENTITY]
    if which is None:
        rows = np.arange(table.num_rows)
    else:
        fractions, split = which
        rows = np.flatnonzero(split_of(*identity, seed=seed, fractions=fractions) == split)
    features = np.array([table[name].to_numpy()[rows] for name in columns], dtype=np.float32)
    return _Part(
        entry,
        identity_hash(*identity, seed=0)[rows],
        identity_hash(*identity, seed=seed + _DRAW_SALT)[rows],
        table["weight"].to_numpy()[rows].astype(np.float64),
        features.reshape(len(columns), len(rows)).T,
    )


def _scaled(parts: list[_Part], sumw: float, rows: int, scale: float) -> list[_Part]:
    """The events of a dataset with weights that add up to those of all its events."""
    kept, n = sum(float(part.weight.sum()) for part in parts), sum(len(part.key) for part in parts)
    # Where negative weights win, each event stands for as many others as any.
    factor = scale * (sumw / kept if kept > 0 and sumw > 0 else rows / max(n, 1))
    for part in parts:
        part.sumw2 = float(np.sum((scale * part.weight) ** 2)) * rows / max(n, 1)
        part.weight = part.weight * factor
    return [part for part in parts if len(part.key)]


def _joined(parts: list[_Part], datasets: list[str], k: int) -> FeatureSample:
    sumw2, index, origins, start = np.zeros(len(datasets)), [], [], 0
    for part in parts:
        name = part.entry["dataset"]
        sumw2[datasets.index(name)] += part.sumw2
        index.append(np.full(len(part.key), datasets.index(name)))
        origins.append(Origin(name, part.entry.get("source", {}), slice(start, start + len(part.key))))
        start += len(part.key)
    return FeatureSample(
        np.concatenate([part.features for part in parts] or [np.zeros((0, k), dtype=np.float32)]),
        np.concatenate([part.weight for part in parts] or [np.zeros(0)]),
        np.concatenate([part.key for part in parts] or [np.zeros(0, dtype=np.uint64)]),
        np.concatenate(index or [np.zeros(0, dtype=np.int64)]),
        datasets,
        sumw2,
        origins,
    )
