"""A receipt counts only for the configuration it was written for, and only with its shard whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from processors.histograms import feature_histogram
from processors.receipts import books_of, dependence, read_receipt, receipt_path, write_receipt
from processors.shards import write_shard

CHUNK = "361106.Zee.2lep/uuid_0-100"


@pytest.fixture
def receipt(tmp_path: Path) -> dict[str, Any]:
    path = f"{CHUNK}.parquet"
    shard = {"path": path, **write_shard(tmp_path / path, {"weight": np.array([1.5, -0.5])})}
    histogram = feature_histogram(
        "mll", "361106.Zee.2lep", 2, flcomp=[6, 7], values=[91, 88], weights={"nominal": [1.5, -0.5]}
    )
    content = {"config_hash": "now", "dataset": "361106.Zee.2lep", "events_read": 100, "shard": shard}
    return write_receipt(tmp_path, CHUNK, content, {"2L/mll": histogram})


def test_a_receipt_comes_back_with_its_histograms(tmp_path: Path, receipt: dict[str, Any]) -> None:
    assert read_receipt(tmp_path, CHUNK, "now") == receipt
    books = books_of(tmp_path, {CHUNK: "now"})
    assert books["receipts"] == {CHUNK: receipt}
    assert books["histograms"]["2L/mll"].sum(flow=True).value == 1.0
    assert books["histograms"]["2L/mll"].sum(flow=True).variance == 2.5
    assert receipt_path(tmp_path, CHUNK).parent == (tmp_path / CHUNK).parent, "it lies beside its shard"


def test_a_receipt_of_another_configuration_does_not_count(tmp_path: Path, receipt: dict[str, Any]) -> None:
    assert read_receipt(tmp_path, CHUNK, "before") is None


def test_a_receipt_that_is_damaged_does_not_count(tmp_path: Path, receipt: dict[str, Any]) -> None:
    path = receipt_path(tmp_path, CHUNK)
    path.write_bytes(path.read_bytes()[:100])
    assert read_receipt(tmp_path, CHUNK, "now") is None


def test_receipts_are_added_up_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Sums of floating-point numbers depend on their order, which must not be that of chunks being done."""
    weights = [1e16, 1.0, -1e16, 3.0]
    for number, weight in enumerate(weights):
        histogram = feature_histogram("mll", "a", 2, flcomp=[6], values=[91], weights={"nominal": [weight]})
        write_receipt(tmp_path, f"a/{number}", {"config_hash": "now", "shard": None}, {"2L/mll": histogram})
    names = {f"a/{number}": "now" for number in range(4)}
    one, other = (books_of(tmp_path, names)["histograms"]["2L/mll"] for _ in range(2))
    assert one.sum(flow=True).value == ((1e16 + 1.0) - 1e16) + 3.0 == other.sum(flow=True).value


@pytest.mark.parametrize("change", ["taken away", "other configuration", "no shard", "other shard"])
def test_what_was_changed_since_it_was_done_is_not_added_up(
    tmp_path: Path, receipt: dict[str, Any], change: str
) -> None:
    shard = tmp_path / receipt["shard"]["path"]
    if change == "taken away":
        receipt_path(tmp_path, CHUNK).unlink()
    elif change == "no shard":
        shard.unlink()
    elif change == "other shard":
        shard.write_bytes(shard.read_bytes() + b"x")
    hashes = {CHUNK: "before" if change == "other configuration" else "now"}
    assert books_of(tmp_path, hashes) == {"receipts": {}, "histograms": {}, "changed": {CHUNK}}


def test_a_chunk_without_receipt_must_be_done(tmp_path: Path) -> None:
    assert read_receipt(tmp_path, CHUNK, "now") is None


@pytest.mark.parametrize("damage", ["removed", "cut short", "another size", "one bit"])
def test_a_receipt_without_its_shard_does_not_count(
    tmp_path: Path, receipt: dict[str, Any], damage: str
) -> None:
    shard = tmp_path / receipt["shard"]["path"]
    content = shard.read_bytes()
    if damage == "removed":
        shard.unlink()
    elif damage == "one bit":
        shard.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
    else:
        shard.write_bytes(content[:-10] if damage == "cut short" else content + b"x")
    assert read_receipt(tmp_path, CHUNK, "now") is None


def test_a_chunk_that_selected_nothing_has_a_receipt_without_shard(tmp_path: Path) -> None:
    write_receipt(tmp_path, CHUNK, {"config_hash": "now", "shard": None}, {})
    known = read_receipt(tmp_path, CHUNK, "now")
    assert known is not None
    assert known["shard"] is None


def test_another_version_of_this_package_does_everything_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = dependence({"cut": 1})
    assert now == dependence({"cut": 1})
    assert now != dependence({"cut": 2})
    monkeypatch.setattr("importlib.metadata.version", lambda _: "99.0")
    assert dependence({"cut": 1}) != now
