"""Events with their scores, as every measure of a score's power reads them.

Held-out background stands for all of it: events of the test split (no weight was fitted to them, no threshold chosen
on them), each dataset scaled to the sum of weights of all its events, as in the stacked histograms. Of signals and of
data all events count.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from models.efficiency import Strata, effective_events
from processors.shards import check_whole
from processors.split import SPLITS

__all__ = ["ScoredEvents", "read_scored", "score_columns"]


@dataclass(frozen=True)
class ScoredEvents:
    """Weights and columns of some events, of one dataset after the other."""

    weight: NDArray[np.float64]  # (n,)
    columns: dict[
        str, NDArray[Any]
    ]  # scores and variables by name: each (n,), in double precision; other columns as stored
    rows: list[int]  # of each dataset
    sumw2: list[float]  # of each dataset: over all its events, also those that are not held out

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The events of several datasets, one after the other."""
        return cls(
            np.concatenate([part.weight for part in parts]) if parts else np.zeros(0),
            {
                name: np.concatenate([part.columns[name] for part in parts])
                for name in (parts[0].columns if parts else ())
            },
            [rows for part in parts for rows in part.rows],
            [sumw2 for part in parts for sumw2 in part.sumw2],
        )

    @cached_property
    def strata(self) -> Strata:
        """The datasets, each scaled to the sum of weights of all its events."""
        return Strata(np.repeat(np.arange(len(self.rows)), self.rows), np.array(self.sumw2))

    def summary(self) -> dict[str, Any]:
        """Number of events, sum of weights and effective number."""
        return {
            "n": len(self.weight),
            "sumw": float(self.weight.sum()),
            "n_eff": effective_events(self.weight),
        }


def score_columns(manifest: Mapping[str, Any]) -> list[str]:
    """Names of the columns with scores: "score", the model's first, and "score_<name>" of the others."""
    return ["score", *(f"score_{name}" for name in manifest.get("scores", ["mse"])[1:])]


def read_scored(
    path: Path,
    manifest: Mapping[str, Any],
    dataset: str,
    names: Iterable[str],
    *,
    everything: bool = False,
) -> ScoredEvents:
    """Events of one dataset: the test split of a background, which stands for all of it, and all of any other.

    A background dataset without a test event, or in whose test events negative weights win, counts with all events:
    as in `processors.histograms.held_out`.

    Args:
        path: `manifest.json` of scores/<region>/<model>.
        manifest: what it holds.
        dataset: which one.
        names: columns that are read: scores (`score_columns`), the manifest's `variables`, and any other.
        everything: also the events of a background that trained or validated the model.

    Raises:
        FailureError: a shard of scores is missing or differs from the manifest.
    """
    names = list(names)
    everything |= manifest["datasets"][dataset]["kind"] != "background"
    sumw = sumw2 = 0.0
    weights: list[NDArray[np.float64]] = [np.zeros(0)]
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for entry in manifest["shards"]:
        if entry["dataset"] != dataset:
            continue
        table = _table(path.parent / entry["path"], entry, names)
        weight = table["weight"].to_numpy()
        sumw, sumw2 = sumw + float(np.sum(weight)), sumw2 + float(np.sum(weight**2))
        chosen = slice(None) if everything else table["split"].to_numpy() == SPLITS.index("test")
        weights.append(weight[chosen])
        for name in names:
            parts[name].append(_in_double_precision(table[name].to_numpy()[chosen]))
    weight = np.concatenate(weights)
    held_out = float(np.sum(weight))
    if not everything and not (sumw > 0 and held_out > 0):
        return read_scored(path, manifest, dataset, names, everything=True)
    columns = {name: np.concatenate(part) if part else np.zeros(0) for name, part in parts.items()}
    for name, values in columns.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            msg = f"{name!r} of dataset {dataset} in {path} is not finite: run the stage score again"
            raise FailureError(msg)
    return ScoredEvents(weight if everything else weight * (sumw / held_out), columns, [len(weight)], [sumw2])


def _table(shard: Path, entry: Mapping[str, Any], names: list[str]) -> pa.Table:
    try:
        if "checksum" in entry:
            check_whole(shard, entry["checksum"], stage="score")
        table = pq.read_table(shard, columns=list(dict.fromkeys(["weight", "split", *names])))
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        msg = f"cannot read scores {shard} ({error}): run the stage score again"
        raise FailureError(msg) from error
    if table.num_rows != entry["rows"]:
        msg = f"scores {shard} have {table.num_rows} rows, the manifest {entry['rows']}: run score again"
        raise FailureError(msg)
    return table


def _in_double_precision(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float64) if values.dtype.kind == "f" else values
