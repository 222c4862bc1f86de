"""A receipt counts only for the configuration it was written for, and only with its shard whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from processors.histograms import feature_histogram
from processors.receipts import dependence, read_receipt, receipt_path, write_receipt
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
    known = read_receipt(tmp_path, CHUNK, "now")
    assert known is not None
    assert known[0] == receipt
    assert known[1]["2L/mll"].sum(flow=True).value == 1.0
    assert known[1]["2L/mll"].sum(flow=True).variance == 2.5
    assert receipt_path(tmp_path, CHUNK).parent == (tmp_path / CHUNK).parent, "it lies beside its shard"


def test_a_receipt_of_another_configuration_does_not_count(tmp_path: Path, receipt: dict[str, Any]) -> None:
    assert read_receipt(tmp_path, CHUNK, "before") is None


def test_a_chunk_without_receipt_must_be_done(tmp_path: Path) -> None:
    assert read_receipt(tmp_path, CHUNK, "now") is None


@pytest.mark.parametrize("damage", ["removed", "cut short", "another size"])
def test_a_receipt_without_its_shard_does_not_count(
    tmp_path: Path, receipt: dict[str, Any], damage: str
) -> None:
    shard = tmp_path / receipt["shard"]["path"]
    content = shard.read_bytes()
    if damage == "removed":
        shard.unlink()
    else:
        shard.write_bytes(content[:-10] if damage == "cut short" else content + b"x")
    assert read_receipt(tmp_path, CHUNK, "now") is None


def test_a_chunk_that_selected_nothing_has_a_receipt_without_shard(tmp_path: Path) -> None:
    write_receipt(tmp_path, CHUNK, {"config_hash": "now", "shard": None}, {})
    known = read_receipt(tmp_path, CHUNK, "now")
    assert known is not None
    assert known[0]["shard"] is None


def test_another_version_of_this_package_does_everything_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = dependence({"cut": 1})
    assert now == dependence({"cut": 1})
    assert now != dependence({"cut": 2})
    monkeypatch.setattr("importlib.metadata.version", lambda _: "99.0")
    assert dependence({"cut": 1}) != now
