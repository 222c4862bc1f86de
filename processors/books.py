"""Honest books: what was read, what was selected and what is missing, in sums that no order of chunks can change."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from processors.execution import Missing
from processors.shards import MANIFEST_FORMAT

__all__ = ["dataset_books", "ledger", "manifest_of", "scaled_books"]


def _exact_sums(triples: Iterable[Sequence[float]]) -> list[float]:
    """Component sums of (events, sum of weights, sum of squares), exactly rounded: free of any order."""
    events, sumw, sumw2 = zip(*triples, strict=True)
    return [int(sum(events)), math.fsum(sumw), math.fsum(sumw2)]


def dataset_books(
    fileset: Mapping[str, Any], receipts: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Books of each dataset of a fileset.

    Args:
        fileset: the checked fileset of one region.
        receipts: chunk -> receipt.

    Returns:
        dataset -> its metadata, `events_expected` (entries of its files), `events_read`, `selected`, `sumw`,
        `sumw2` (of the selected events) and `cutflow`: cut -> [events, sum of weights, sum of squares].
    """
    of_dataset: dict[str, list[Mapping[str, Any]]] = {dataset: [] for dataset in fileset}
    for name in sorted(receipts):
        of_dataset[receipts[name]["dataset"]].append(receipts[name])
    books = {}
    for dataset, own in of_dataset.items():
        cuts = list(own[0]["cutflow"]) if own else []
        cutflow = {cut: _exact_sums(receipt["cutflow"][cut] for receipt in own) for cut in cuts}
        selected, sumw, sumw2 = cutflow[cuts[-1]] if cuts else (0, 0.0, 0.0)
        books[dataset] = {
            **fileset[dataset]["metadata"],
            "events_expected": sum(f["num_entries"] for f in fileset[dataset]["files"].values()),
            "events_read": sum(receipt["events_read"] for receipt in own),
            "selected": selected,
            "sumw": sumw,
            "sumw2": sumw2,
            "cutflow": cutflow,
        }
    return books


def scaled_books(
    books: Mapping[str, dict[str, Any]], scales: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Books whose sums of weights have the factor of an incomplete dataset, which stands beside them as `scale`.

    Args:
        books: from `dataset_books`.
        scales: dataset -> factor on its weights; 1 unless it is incomplete.
    """
    return {
        name: {
            **book,
            "scale": scales[name],
            "sumw": book["sumw"] * scales[name],
            "sumw2": book["sumw2"] * scales[name] ** 2,
            "cutflow": {
                cut: [n, sumw * scales[name], sumw2 * scales[name] ** 2]
                for cut, (n, sumw, sumw2) in book["cutflow"].items()
            },
        }
        for name, book in books.items()
    }


def ledger(done: int, missing: Iterable[Missing]) -> dict[str, Any]:
    """The chunks done, and every one missing by file, entry range and cause."""
    return {"done": done, "missing": [asdict(m) for m in missing]}


def manifest_of(
    region: str,
    config_hash: str,
    books: Mapping[str, Mapping[str, Any]],
    receipts: Mapping[str, Mapping[str, Any]],
    scales: Mapping[str, float],
    *,
    complete: bool,
    **more: Any,
) -> dict[str, Any]:
    """The manifest of a region's shards: the only truth about which shards count.

    Args:
        region: name.
        config_hash: of everything the shards depend on.
        books: from `dataset_books`.
        receipts: chunk -> receipt.
        scales: dataset -> factor on its weights; 1 unless it is incomplete.
        complete: every chunk is there.
        more: further entries (feature names, luminosity, ...).
    """
    datasets = {
        name: {
            **{key: value for key, value in book.items() if key not in {"cutflow", "selected"}},
            "rows": book["selected"],
            "scale": scales[name],
        }
        for name, book in books.items()
    }
    shards = [
        {**receipts[name]["shard"], "dataset": receipts[name]["dataset"], "source": receipts[name]["source"]}
        for name in sorted(receipts)
        if receipts[name]["shard"] is not None
    ]
    return {
        "format": MANIFEST_FORMAT,
        "region": region,
        "config_hash": config_hash,
        "complete": complete,
        **more,
        "datasets": datasets,
        "shards": shards,
    }
