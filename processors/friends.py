"""Scores as ROOT trees beside the input: one file a dataset, to be attached as a friend by run and event number.

A tree holds the selected events. Two ways to use it, with an index of the tree that is looked up:
`events.AddFriend(scores)` gives every event its score where it was selected, and RDataFrame's `FilterAvailable` keeps
those; `scores.AddFriend(events)` walks through the selected events alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import uproot
from numpy.typing import NDArray

from processors.files import replace_atomically

__all__ = ["TREE", "write_friends"]

TREE = "scores"

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def write_friends(directory: Path, manifest: Mapping[str, Any], map: Map = map) -> list[dict[str, Any]]:
    """Writes directory/friends/<dataset>.root for every dataset with selected events; others are removed.

    Branches: `runNumber`, `eventNumber` and `channelNumber` as in the input files, `weight`, `flcomp`, `split`
    (0 train, 1 validation, 2 test), `score` and further `score_<name>`. Entries follow the shards of the manifest.
    Where input is missing, a string `INCOMPLETE` beside the tree says so, and the factor that the weights lack.

    Args:
        directory: of the scores.
        manifest: of the scores; `scores` names them, the first is the column `score`.
        map: like the builtin one, for instance that of `workers.Workers`.

    Returns:
        `path`, `dataset` and `rows` of each file.
    """
    shards: dict[str, list[str]] = {}
    for shard in manifest["shards"]:
        shards.setdefault(shard["dataset"], []).append(shard["path"])
    columns = ["score", *(f"score_{name}" for name in manifest["scores"][1:])]
    write = partial(_write_friend, directory, columns)
    jobs = [
        (
            dataset,
            str(manifest["datasets"][dataset].get("release", "")),
            "" if manifest.get("complete", True) else _remark(dataset, manifest["datasets"]),
            paths,
        )
        for dataset, paths in sorted(shards.items())
    ]
    friends = list(map(write, jobs))
    listed = {directory / friend["path"] for friend in friends}
    for path in directory.glob("friends/*.root"):
        if path not in listed:
            path.unlink()
    return friends


def _remark(dataset: str, datasets: Mapping[str, Mapping[str, Any]]) -> str:
    """What must be known of a dataset where the input is incomplete."""
    scale = datasets[dataset].get("scale", 1.0)
    if scale == 1.0:
        missing = ", ".join(name for name, book in sorted(datasets.items()) if book.get("scale", 1.0) != 1.0)
        return f"input of other datasets is missing: {missing}"
    return f"input of this dataset is missing: its weights are scaled up by {scale:.6g}"


def _write_friend(
    directory: Path, columns: Sequence[str], job: tuple[str, str, str, list[str]]
) -> dict[str, Any]:
    dataset, release, remark, shards = job
    friend, rows = Path("friends") / f"{dataset}.root", 0
    # The release of 2020 stores event numbers as int32, negative above 2^31; an index compares what is stored.
    types: dict[str, type[np.generic]] = {
        "runNumber": np.int32,
        "eventNumber": np.int32 if release == "2020" else np.uint64,
        "channelNumber": np.int32,
        "weight": np.float64,
        "flcomp": np.int32,
        "split": np.int32,
        **dict.fromkeys(columns, np.float32),
    }
    with replace_atomically(directory / friend) as path, uproot.recreate(path) as file:
        if remark:
            file["INCOMPLETE"] = remark
        title = f"scores of {dataset}" + (" (INCOMPLETE)" if remark else "")
        tree = file.mktree(TREE, types, title=title)
        for shard in shards:
            table = pq.ParquetFile(directory / shard).read(columns=list(types))
            rows += table.num_rows
            tree.extend({name: _as_stored(table[name].to_numpy(), kind) for name, kind in types.items()})
    return {"path": str(friend), "dataset": dataset, "rows": rows}


def _as_stored(column: NDArray[Any], kind: type[np.generic]) -> NDArray[Any]:
    if column.dtype == np.uint64 and kind is np.int32:
        return column.astype(np.uint32).view(np.int32)
    return column.astype(kind)
