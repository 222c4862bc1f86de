"""How the work is done changes nothing: executors, chunk sizes; and no chunk is lost without its name."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coffea.nanoevents import BaseSchema
from distributed import Client, LocalCluster

from fileset.exceptions import FailureError, InputError
from processors.dispatch import DaskChunks, IterativeChunks, added_up
from processors.execution import cause_of, run_chunks, work_items
from processors.histograms import load_histograms
from processors.settings import ExecutionSettings
from processors.shards import read_manifest
from processors.workers import Workers

CHUNKSIZES = (100, 37, 1000)


@pytest.fixture(scope="module")
def iterative(
    sample: Any, select: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, tuple[dict[str, Any], Path]]:
    """Result and output directory of the iterative executor by chunk size."""
    results = {}
    for chunksize in CHUNKSIZES:
        output = tmp_path_factory.mktemp(f"iterative{chunksize}")
        results[chunksize] = (select(sample.fileset(chunksize), output), output)
    return results


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with Workers(ExecutionSettings(executor="futures", workers=2)) as workers:
        yield workers


@pytest.fixture(scope="module")
def cluster() -> Iterator[Workers]:
    with Workers(ExecutionSettings(executor="dask", workers=2)) as workers:
        yield workers


def events_of(output: Path) -> pa.Table:
    """All selected events, in the order of their identity."""
    directory = output / "shards" / "2L"
    manifest = read_manifest(directory / "manifest.json")
    table = pa.concat_tables([pq.read_table(directory / shard["path"]) for shard in manifest["shards"]])
    return table.sort_by([(name, "ascending") for name in ("channelNumber", "runNumber", "eventNumber")])


def manifest_of(output: Path) -> dict[str, Any]:
    return read_manifest(output / "shards" / "2L" / "manifest.json")


def without_seconds(result: dict[str, Any]) -> str:
    return json.dumps({key: result[key] for key in ("cuts", "lumi_pb", "datasets")}, sort_keys=True)


def test_chunks_cover_every_entry_once(sample: Any) -> None:
    for chunksize in CHUNKSIZES:
        fileset = sample.fileset(chunksize)
        items = work_items(fileset)
        for dataset, content in fileset.items():
            own = sorted((i.entrystart, i.entrystop) for i in items if i.dataset == dataset)
            (file,) = content["files"].values()
            assert own[0][0] == 0
            assert own[-1][1] == file["num_entries"]
            assert all(one[1] == next_[0] for one, next_ in pairwise(own))
        assert all(item.usermeta["norm"] == fileset[item.dataset]["metadata"]["norm"] for item in items)


def test_an_empty_file_is_no_chunk(sample: Any) -> None:
    fileset = sample.fileset(1000)
    (file,) = fileset["data_A.2lep"]["files"].values()
    file["steps"] = [[0, 0]]
    assert "data_A.2lep" not in {item.dataset for item in work_items(fileset)}


def test_what_is_read_is_what_the_files_hold(iterative: dict[int, tuple[dict[str, Any], Path]]) -> None:
    for result, _ in iterative.values():
        for book in result["datasets"].values():
            assert book["events_read"] == book["events_expected"] == book["cutflow"]["all"][0]
            assert book["selected"] == book["cutflow"]["2 good leptons"][0] > 0
        assert result["ledger"]["missing"] == []
        data = result["datasets"]["data_A.2lep"]
        assert data["sumw"] == data["sumw2"] == data["selected"]


@pytest.mark.parametrize("chunksize", CHUNKSIZES[1:])
def test_the_chunk_size_changes_no_event_and_no_count(
    iterative: dict[int, tuple[dict[str, Any], Path]], chunksize: int
) -> None:
    (one, output), (other, other_output) = iterative[100], iterative[chunksize]
    assert events_of(output).equals(events_of(other_output))
    for dataset, book in one["datasets"].items():
        same = other["datasets"][dataset]
        assert (book["events_read"], book["selected"]) == (same["events_read"], same["selected"])
        assert book["sumw"] == pytest.approx(same["sumw"], rel=1e-12)
        assert book["sumw2"] == pytest.approx(same["sumw2"], rel=1e-12)


@pytest.mark.parametrize(
    "executor",
    [
        pytest.param("pool", marks=pytest.mark.xdist_group("futures")),
        pytest.param("cluster", marks=pytest.mark.xdist_group("dask")),
    ],
)
def test_executors_agree_to_the_last_digit(
    request: pytest.FixtureRequest,
    sample: Any,
    select: Callable[..., Any],
    iterative: dict[int, tuple[dict[str, Any], Path]],
    tmp_path: Path,
    executor: str,
) -> None:
    result = select(sample.fileset(100), tmp_path, workers=request.getfixturevalue(executor))
    expected, output = iterative[100]
    assert without_seconds(result) == without_seconds(expected)
    # Shards, their names and checksums, sums of weights: the manifest holds them all.
    assert manifest_of(tmp_path) == manifest_of(output)
    here, there = (load_histograms(o / "shards" / "2L" / "histograms.json") for o in (tmp_path, output))
    assert here.keys() == there.keys()
    for name, histogram in here.items():
        assert histogram.axes == there[name].axes
        for part in ("value", "variance"):
            one, other = (h.view(flow=True)[part] for h in (histogram, there[name]))
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.xdist_group("futures")
def test_a_pool_maps_in_order(pool: Workers) -> None:
    assert list(pool.map(abs, [-3, 2, -1])) == [3, 2, 1]


@pytest.mark.xdist_group("dask")
def test_a_cluster_maps_in_order(cluster: Workers) -> None:
    assert list(cluster.map(abs, [-3, 2, -1])) == [3, 2, 1]


def test_a_scheduler_without_dask_is_wrong_input() -> None:
    with pytest.raises(InputError, match="needs the executor dask, not futures"):
        Workers(ExecutionSettings(executor="futures", scheduler="tcp://127.0.0.1:1"))


def count_events(events: Any) -> dict[str, Any]:
    return {"events": {events.metadata["dataset"]: len(events.met_et)}}


def test_results_that_nobody_writes_down_come_back_added_up(sample: Any, pool: Workers) -> None:
    items = work_items(sample.fileset(37))
    for executor in (IterativeChunks(), pool.executor("counting")):
        output, missing = run_chunks(items, count_events, executor, schema=BaseSchema)
        assert output == {"events": {"361106.Zee.2lep": 330, "392220.C1N2.2lep": 120, "data_A.2lep": 150}}
        assert missing == []


def test_a_chunk_that_fails_is_tried_twice_and_the_others_once(sample: Any, tmp_path: Path) -> None:
    diary = tmp_path / "tried"  # coffea sends copies of what it is given

    def fails_once_or_always(events: Any) -> dict[str, Any]:
        chunk = f"{events.metadata['dataset']}_{events.metadata['entrystart']}"
        with diary.open("a") as tried:
            tried.write(f"{chunk}\n")
        times = diary.read_text().split().count(chunk)
        if chunk == "data_A.2lep_100" or (chunk == "361106.Zee.2lep_0" and times == 1):
            message = "this one"
            raise ValueError(message)
        return count_events(events)

    items = work_items(sample.fileset(100))
    output, missing = run_chunks(items, fails_once_or_always, IterativeChunks(), schema=BaseSchema)
    assert output is not None
    assert output["events"] == {"361106.Zee.2lep": 330, "392220.C1N2.2lep": 120, "data_A.2lep": 100}
    assert [(m.dataset, m.start, m.stop, m.cause) for m in missing] == [
        ("data_A.2lep", 100, 150, "ValueError: this one")
    ]
    tried = Counter(diary.read_text().split())
    assert len(tried) == len(items)
    assert {chunk for chunk, times in tried.items() if times != 1} == {"data_A.2lep_100", "361106.Zee.2lep_0"}
    assert max(tried.values()) == 2


@pytest.mark.xdist_group("dask")
def test_a_cluster_without_workers_is_waited_for_only_so_long(sample: Any) -> None:
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as empty,
        Client(empty) as client,
    ):
        executor = DaskChunks(client=client, patience=0.5)
        output, missing = run_chunks(
            work_items(sample.fileset(100)), count_events, executor, schema=BaseSchema
        )
    assert output is None
    assert len(missing) == 8
    assert all(re.match("no worker of the Dask scheduler .* runs for 0.5 s", m.cause) for m in missing)


def test_sums_have_the_shape_of_one_tree_whoever_adds(pool: Workers) -> None:
    """Floating-point sums depend on their order: 100 numbers of very different size."""
    numbers = list(np.random.default_rng(1).lognormal(0, 20, 100))
    here, there = (
        added_up(executor, abs, numbers) for executor in (IterativeChunks(), pool.executor("adding"))
    )
    assert here == there
    assert here != sum(numbers), "else the numbers would show nothing"


def test_the_cause_is_the_innermost_reason_in_one_line() -> None:
    inner, outer = OSError("expected Chunk\nof length 10"), RuntimeError("Failed processing file")
    outer.__cause__ = inner
    assert cause_of(outer) == "OSError: expected Chunk"


def test_whatever_a_chunk_raises_is_named_as_the_cause_of_what_is_missing(
    sample: Any, select: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: Any) -> None:
        message = "a mistake of ours"
        raise ValueError(message)

    monkeypatch.setattr("processors.selection.feature_table", mistaken)
    with pytest.raises(FailureError, match=r"could not be done .*ValueError: a mistake of ours"):
        select(sample.fileset(1000), tmp_path)


@pytest.mark.shared
@pytest.mark.parametrize("region", ["2L", "3L"])
def test_real_files_give_the_same_in_any_chunks(
    real_fileset: Callable[[int], dict[str, Any]], select: Callable[..., Any], tmp_path: Path, region: str
) -> None:
    whole = select(real_fileset(100_000), tmp_path / "whole", name=region)
    parts = select(real_fileset(250), tmp_path / "parts", name=region)
    assert parts["ledger"]["done"] > whole["ledger"]["done"]
    for dataset, book in whole["datasets"].items():
        same = parts["datasets"][dataset]
        assert book["events_read"] == book["events_expected"] == same["events_read"]
        assert book["selected"] == same["selected"]
        assert book["sumw"] == pytest.approx(same["sumw"], rel=1e-12)
    selected = {dataset: book["selected"] for dataset, book in whole["datasets"].items()}
    assert selected == REAL_YIELDS[region]


# Verified with a plain loop over the branches (test_objects.py) and with RDataFrame (test_against_root.py).
REAL_YIELDS = {
    "2L": {
        "361106.Zee.4lep": 164,
        "361108.Ztautau.4lep": 4,
        "410000.ttbar_lep.4lep": 458,
        "data_A.4lep": 5,
        "data_B.4lep": 32,
    },
    "3L": {
        "361106.Zee.4lep": 75,
        "361108.Ztautau.4lep": 0,
        "410000.ttbar_lep.4lep": 107,
        "data_A.4lep": 5,
        "data_B.4lep": 31,
    },
}


@pytest.mark.shared
@pytest.mark.xdist_group("dask")
def test_real_files_give_the_same_on_a_cluster(
    real_fileset: Callable[[int], dict[str, Any]],
    select: Callable[..., Any],
    tmp_path: Path,
    cluster: Workers,
) -> None:
    here = select(real_fileset(500), tmp_path / "here", name="3L")
    there = select(real_fileset(500), tmp_path / "there", name="3L", workers=cluster)
    assert without_seconds(here) == without_seconds(there)
    one, other = (
        read_manifest(tmp_path / place / "shards" / "3L" / "manifest.json") for place in ("here", "there")
    )
    assert one == other
