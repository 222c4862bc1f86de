"""Shards hold what was given, half-written files are never read, and only listed shards stay."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fileset.exceptions import FailureError, InputError
from processors.files import checksum, write_json
from processors.shards import read_manifest, remove_strays, write_shard


def columns(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {
        "eventNumber": np.arange(2**40, 2**40 + n, dtype=np.uint64),
        "weight": rng.normal(0.1, 1.0, n),
        "flcomp": np.full(n, 7, dtype=np.int8),
        "mll": rng.exponential(90, n).astype(np.float32),
    }


def test_a_shard_gives_back_its_columns_and_says_what_it_holds(tmp_path: Path) -> None:
    written = columns(1000)
    path = tmp_path / "a.dataset" / "shard.parquet"
    said = write_shard(path, written)
    read = pq.read_table(path)
    assert read.column_names == list(written)
    for name, column in written.items():
        assert read[name].to_numpy().dtype == column.dtype
        np.testing.assert_array_equal(read[name].to_numpy(), column)
    assert said == {
        "rows": 1000,
        "sumw": pytest.approx(written["weight"].sum(), rel=1e-14),
        "bytes": path.stat().st_size,
        "checksum": checksum(path),
    }


def test_the_same_events_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write_shard(tmp_path / f"{i}.parquet", columns(100)) for i in range(2))
    assert one == other


def test_shards_of_before_columns_had_no_nulls_are_read_beside_new_ones(tmp_path: Path) -> None:
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    pq.write_table(pa.table(columns(10)), old)
    write_shard(new, columns(10))
    assert [pq.read_schema(path).field("mll").nullable for path in (old, new)] == [True, False]
    for paths in ([old, new], [new, old]):
        both = pd.read_parquet(paths)
        assert both["eventNumber"].tolist() == 2 * columns(10)["eventNumber"].tolist()
        np.testing.assert_array_equal(both["mll"], np.tile(columns(10)["mll"], 2))


def test_empty_cells_cost_nothing(tmp_path: Path) -> None:
    zeros = {f"cell{i}": np.zeros(10_000, dtype=np.float32) for i in range(50)}
    said = write_shard(tmp_path / "zeros.parquet", {"weight": np.ones(10_000), **zeros})
    assert said["bytes"] < 0.05 * 50 * 10_000 * 4


def test_a_write_that_fails_leaves_the_old_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shard.parquet"
    before = write_shard(path, columns(10))

    def full(_: Path) -> str:
        message = "no space left on device"
        raise OSError(message)

    with monkeypatch.context() as patch:
        patch.setattr("processors.shards.checksum", full)
        with pytest.raises(OSError, match="no space left"):
            write_shard(path, columns(20))
    assert checksum(path) == before["checksum"]
    assert [file.name for file in tmp_path.iterdir()] == ["shard.parquet"], "no temporary file is left"


def test_a_manifest_that_is_not_there_says_which_stage_writes_it(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"there is no manifest .*manifest\.json: run the stage select first"
    ):
        read_manifest(tmp_path / "manifest.json")


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"format": 99, "datasets": {}, "shards": []})
    with pytest.raises(InputError, match="no manifest of format 1"):
        read_manifest(tmp_path / "manifest.json")


def test_a_listed_shard_that_is_gone_is_named(tmp_path: Path) -> None:
    write_json(
        tmp_path / "manifest.json", {"format": 1, "datasets": {}, "shards": [{"path": "d/gone.parquet"}]}
    )
    with pytest.raises(FailureError, match=r"d/gone\.parquet is listed in manifest\.json but missing"):
        read_manifest(tmp_path / "manifest.json")


def test_strays_go_and_listed_shards_stay(tmp_path: Path) -> None:
    for name in ("listed", "stray"):
        write_shard(tmp_path / "d" / f"{name}.parquet", columns(3))
        write_json(tmp_path / "d" / f"{name}.receipt.json", {})
    remove_strays(tmp_path, {tmp_path / "d" / "listed.parquet"})
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [
        "listed.parquet",
        "listed.receipt.json",
    ]
