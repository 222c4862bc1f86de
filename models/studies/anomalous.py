"""The most anomalous events of a sample, and how many background events are expected to look as anomalous."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from models.efficiency import MIN_EFFECTIVE, UpperTail
from models.reading import IDENTITY
from models.studies.scored import read_scored
from processors.shards import check_whole
from processors.split import SPLITS

__all__ = ["AnomalousEvents", "background_tail", "expected_above", "most_anomalous", "read_rows"]


@dataclass(frozen=True)
class AnomalousEvents:
    """The events with the largest scores, the largest first; n of them.

    Attributes:
        columns: `score`, `weight` and the identity (`models.reading.IDENTITY`), each of shape (n,).
        shard: place in the manifest of the shard that each stands in, shape (n,).
        row: its row there, shape (n,).
    """

    columns: dict[str, NDArray[Any]]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: NDArray[Any]) -> "AnomalousEvents":
        """Some of the events."""
        return AnomalousEvents(
            {name: column[which] for name, column in self.columns.items()}, self.shard[which], self.row[which]
        )

    def leading(self, number: int) -> "AnomalousEvents":
        """The first of them; of equal scores the one with the smallest identity comes first."""
        columns = self.columns
        return self.take(
            np.lexsort((*(columns[name] for name in reversed(IDENTITY)), -columns["score"]))[:number]
        )

    @classmethod
    def join(cls, parts: Sequence["AnomalousEvents"]) -> "AnomalousEvents":
        """All events of some parts."""
        return cls(
            {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
            np.concatenate([part.shard for part in parts]),
            np.concatenate([part.row for part in parts]),
        )


def most_anomalous(
    path: Path,
    manifest: Mapping[str, Any],
    datasets: Collection[str],
    number: int,
    *,
    limit: float | None = None,
    test_only: bool = False,
) -> AnomalousEvents:
    """The events with the largest scores; no more than one shard and so many events are held at a time.

    Args:
        path: `manifest.json` of scores/<region>/<model>.
        manifest: what it holds.
        datasets: that are looked through.
        number: of events.
        limit: events above this score are not looked at.
        test_only: only events of the test split.

    Raises:
        FailureError: a shard of scores is missing or differs from the manifest.
    """
    names = ["score", "weight", *IDENTITY]
    best = _of_table(pa.table({name: pa.array([], pa.float64()) for name in (*names, "split")}), names, 0)
    for place, entry in enumerate(manifest["shards"]):
        if entry["dataset"] not in datasets or not number:
            continue
        table = _scores(path.parent / entry["path"], entry, [*names, "split"])
        score = table["score"].to_numpy()
        chosen = np.ones(len(score), dtype=bool)
        if test_only:
            chosen &= table["split"].to_numpy() == SPLITS.index("test")
        if limit is not None:
            chosen &= score <= limit
        if len(best) == number:
            chosen &= score >= best.columns["score"][-1]
        rows = np.flatnonzero(chosen)
        if len(rows) > number:
            # Every event with the score of the last one stays: which of them do is decided by their identity.
            rows = rows[score[rows] >= np.partition(score[rows], -number)[-number]]
        if len(rows):
            found = _of_table(table, names, place).take(rows)
            best = AnomalousEvents.join([best, found] if len(best) else [found]).leading(number)
    return best


def _of_table(table: pa.Table, names: Sequence[str], place: int) -> AnomalousEvents:
    n = table.num_rows
    return AnomalousEvents(
        {name: table[name].to_numpy() for name in names}, np.full(n, place), np.arange(n, dtype=np.int64)
    )


def _scores(shard: Path, entry: Mapping[str, Any], names: list[str]) -> pa.Table:
    try:
        if "checksum" in entry:
            check_whole(shard, entry["checksum"], stage="score")
        return pq.read_table(shard, columns=names)
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        msg = f"cannot read scores {shard} ({error}): run the stage score again"
        raise FailureError(msg) from error


def read_rows(
    path: Path,
    manifest: Mapping[str, Any],
    entries: Sequence[str],
    events: AnomalousEvents,
    names: Sequence[str],
) -> dict[str, NDArray[Any]]:
    """Some columns of the given events from the shards that their scores were made from, each of shape (n,).

    Args:
        path: `manifest.json` of shards/<region>.
        manifest: what it holds.
        entries: relative path of the shard of each place in the manifest of the scores.
        events: n events.
        names: of the columns.

    Raises:
        FailureError: a shard has gone, was changed, or holds other events than the scores.
    """
    listed = {entry["path"]: entry for entry in manifest["shards"]}
    found: dict[str, NDArray[Any]] = {}
    for place in np.unique(events.shard):
        relative, own = entries[int(place)], np.flatnonzero(events.shard == place)
        if relative not in listed:
            msg = f"{path} does not list the shard {relative} that was scored: run the stage score again"
            raise FailureError(msg)
        file = path.parent / relative
        try:
            check_whole(file, listed[relative]["checksum"])
            table = pq.read_table(file, columns=list(dict.fromkeys([*IDENTITY, *names])))
        except (OSError, KeyError, pa.ArrowInvalid) as error:
            msg = f"cannot read shard {file} ({error}): run the stage select again"
            raise FailureError(msg) from error
        rows = events.row[own]
        same = rows.max() < table.num_rows and all(
            np.array_equal(table[name].to_numpy()[rows], events.columns[name][own]) for name in IDENTITY
        )
        if not same:
            msg = f"the shard {file} holds other events than its scores: run the stage score again"
            raise FailureError(msg)
        for name in names:
            column = table[name].to_numpy()
            found.setdefault(name, np.zeros(len(events), dtype=column.dtype))[own] = column[rows]
    return found or {name: np.zeros(0) for name in names}


def background_tail(path: Path, manifest: Mapping[str, Any], *, searched: float = 1.0) -> UpperTail:
    """Σw and Σw² of the background at and above each score: held-out events, see `models.studies.scored`.

    Args:
        path: `manifest.json` of scores/<region>/<model>.
        manifest: what it holds.
        searched: part of the collision data that is compared with, see `processors.histograms.left_for_search`; below
            one the model was trained on data, and no simulation has to be held out.
    """
    score, weight = [np.zeros(0)], [np.zeros(0)]
    for name, book in manifest["datasets"].items():
        if book["kind"] == "background":
            events = read_scored(path, manifest, name, ["score"], everything=searched < 1)
            score.append(events.columns["score"])
            weight.append(events.weight * searched)
    return UpperTail.of(np.concatenate(score), np.concatenate(weight))


def expected_above(tail: UpperTail, score: float) -> dict[str, Any]:
    """Expected number of background events with at least this score.

    Args:
        tail: of the background.
        score: of an event.

    Returns:
        `value`, its statistical `error` √Σw², and `n_eff`. Fewer than ten effective events support no number:
        `value` and `error` are null, the entry is marked "unsupported", and `below` is the number at the next lower
        cut that is supported, which is an upper bound (null where there is none).
    """
    number = int(np.searchsorted(-tail.score, -score, side="right"))
    sumw, sumw2 = (float(of[number - 1]) if number else 0.0 for of in (tail.sumw, tail.sumw2))
    n_eff = sumw**2 / sumw2 if sumw2 > 0 and sumw > 0 else 0.0
    if n_eff >= MIN_EFFECTIVE:
        return {"value": sumw, "error": float(np.sqrt(sumw2)), "n_eff": n_eff}
    rest = slice(number, None)
    enough = (tail.sumw[rest] > 0) & (tail.sumw[rest] ** 2 >= MIN_EFFECTIVE * tail.sumw2[rest])
    below = float(tail.sumw[rest][np.argmax(enough)]) if enough.any() else None
    return {"value": None, "error": None, "n_eff": n_eff, "unsupported": True, "below": below}
