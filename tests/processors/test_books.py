"""Books add up, in sums that no order of chunks can change, and say what is missing."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from processors.books import dataset_books, ledger, manifest_of
from processors.execution import Missing

FILESET = {
    "361106.Zee.2lep": {
        "files": {"a.root": {"num_entries": 300}, "b.root": {"num_entries": 100}},
        "metadata": {"kind": "background", "group": "Zjets", "lumi_pb": 10.0},
    },
    "data_A.2lep": {"files": {"c.root": {"num_entries": 7}}, "metadata": {"kind": "data", "group": "data"}},
}
DATASET = "361106.Zee.2lep"


def receipt(file: str, weight: np.ndarray, *, passes: int) -> dict[str, Any]:
    def tally(w: np.ndarray) -> tuple[int, float, float]:
        return int(w.size), float(w.sum()), float((w * w).sum())

    name = f"{DATASET}/{file}"
    shard = {"path": f"{name}.parquet", "rows": passes, "checksum": "xxh128:0"} if passes else None
    return {
        "dataset": DATASET,
        "events_read": weight.size,
        "cutflow": {"all": tally(weight), "2 good leptons": tally(weight[:passes])},
        "shard": shard,
        "source": {"file": file},
    }


@pytest.fixture
def receipts() -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(2)
    # Weights of very different size: the sum of floats depends on their order.
    sizes = ((10.0 ** rng.uniform(-8, 8, 100)) * rng.choice([-1, 1], 100) for _ in range(4))
    return {
        f"{DATASET}/{file}": receipt(file, weight, passes=passes)
        for file, weight, passes in zip("abcd", sizes, (60, 0, 3, 100), strict=True)
    }


def test_books_add_up_the_chunks(receipts: dict[str, dict[str, Any]]) -> None:
    books = dataset_books(FILESET, receipts)
    assert list(books) == list(FILESET)
    book = books[DATASET]
    assert (book["events_expected"], book["events_read"], book["selected"]) == (400, 400, 163)
    assert book["cutflow"]["all"][0] == 400
    for position, key in ((1, "sumw"), (2, "sumw2")):
        parts = [r["cutflow"]["2 good leptons"][position] for r in receipts.values()]
        assert book[key] == pytest.approx(sum(parts), rel=1e-9)
    assert book["group"] == "Zjets", "what is known of the dataset stays with it"


def test_no_order_of_chunks_changes_a_digit() -> None:
    # In floating point 1e16 + 1 - 1e16 + 1 is 1, 0 or 2, as the order has it.
    weights = [np.array([w]) for w in (1e16, 1.0, -1e16, 1.0)]
    for order in permutations(weights):
        receipts = {f"{DATASET}/{i}": receipt(str(i), weight, passes=1) for i, weight in enumerate(order)}
        assert dataset_books(FILESET, receipts)[DATASET]["sumw"] == 2.0


def test_a_dataset_of_which_nothing_was_done_has_empty_books(receipts: dict[str, dict[str, Any]]) -> None:
    book = dataset_books(FILESET, receipts)["data_A.2lep"]
    assert (book["events_expected"], book["events_read"], book["selected"], book["sumw"]) == (7, 0, 0, 0.0)


def test_the_ledger_names_every_missing_range() -> None:
    missing = Missing("data_A.2lep", "c.root", 0, 7, "OSError: gone")
    assert ledger(3, [missing]) == {
        "done": 3,
        "missing": [
            {"dataset": "data_A.2lep", "file": "c.root", "start": 0, "stop": 7, "cause": "OSError: gone"}
        ],
    }


def test_the_manifest_lists_shards_and_effective_weights(receipts: dict[str, dict[str, Any]]) -> None:
    books = dataset_books(FILESET, receipts)
    manifest = manifest_of(
        "2L", "hash", books, receipts, {DATASET: 1.25, "data_A.2lep": 1.0}, complete=False, lumi_pb=10.0
    )
    assert manifest["format"] == 1
    assert manifest["complete"] is False
    assert manifest["lumi_pb"] == 10.0
    paths = [shard["path"] for shard in manifest["shards"]]
    assert paths == [f"{DATASET}/{file}.parquet" for file in "acd"], (
        "a chunk that selects nothing has no shard"
    )
    assert sum(shard["rows"] for shard in manifest["shards"]) == manifest["datasets"][DATASET]["rows"] == 163
    assert manifest["datasets"][DATASET]["scale"] == 1.25
    assert manifest["datasets"][DATASET]["sumw"] == books[DATASET]["sumw"], (
        "the scale is applied by who reads"
    )
