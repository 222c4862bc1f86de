"""What is seen while chunks are done is the same for every executor: each event once, and none that was done before."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from coffea.nanoevents import BaseSchema
from coffea.processor.executor import WorkItem

from fileset.exceptions import FailureError
from processors.comparison import ComparisonProcessor
from processors.execution import run_chunks
from processors.progress import Tally, Watch, metered
from processors.settings import ExecutionSettings
from processors.shards import read_manifest
from processors.stages.resume import shard_chunks
from processors.workers import Workers

EVENTS = 330 + 120 + 150

EXECUTORS = [
    "iterative",
    pytest.param("futures", marks=pytest.mark.xdist_group("futures")),
    pytest.param("dask", marks=pytest.mark.xdist_group("dask")),
]


class Seen:
    """A bar that remembers what it was told."""

    def __init__(self) -> None:
        self.bars: list[tuple[str, int, int]] = []
        self.steps: list[int] = []

    @contextmanager
    def __call__(self, title: str, before: int, total: int) -> Iterator[Callable[[int], None]]:
        self.bars.append((title, before, total))
        yield self.steps.append


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_event_is_told_once_and_nothing_else_is_drawn(
    sample: Any, select: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], executor: str
) -> None:
    seen = Seen()
    with Workers(ExecutionSettings(executor=executor, workers=2), Watch(seen)) as workers:
        select(sample.fileset(100), tmp_path, workers=workers)
        assert seen.bars == [("selecting 2L", 0, EVENTS)]
        # Eight chunks of about a hundred events, each in one step.
        assert sum(seen.steps) == EVENTS
        assert len(seen.steps) == workers.watch.tally.chunks > 3
        select(sample.fileset(100), tmp_path, workers=workers)
        tally = workers.watch.tally
    assert capsys.readouterr() == ("", "")
    assert len(seen.bars) == 1  # the second time there was nothing to do
    assert (tally.events, tally.events_before) == (EVENTS, EVENTS)
    assert tally.chunks == tally.chunks_before
    assert tally.seconds > 0
    assert 0 < tally.processing_seconds <= tally.seconds * 2


def test_what_was_done_before_is_in_the_bar_and_not_in_the_rate(
    sample: Any, select: Callable[..., Any], tmp_path: Path
) -> None:
    seen, fileset = Seen(), sample.fileset(100)
    select(fileset, tmp_path)
    (path,) = (tmp_path / "shards" / "2L" / "data_A.2lep").glob("*_0-*.receipt.json")
    events = int(path.name.split("_0-")[1].split(".")[0])
    path.unlink()
    with Workers(ExecutionSettings(), Watch(seen)) as workers:
        select(fileset, tmp_path, workers=workers)
        tally = workers.watch.tally
    assert seen.bars == [("selecting 2L", EVENTS - events, EVENTS)]
    assert (tally.events, tally.events_before, tally.chunks) == (events, EVENTS - events, 1)


def test_a_chunk_that_cannot_be_read_is_not_counted(
    own_sample: Any, select: Callable[..., Any], tmp_path: Path
) -> None:
    fileset = own_sample.fileset(100)
    own_sample.files["361106.Zee.2lep"][0].unlink()
    with Workers(ExecutionSettings()) as workers:
        with pytest.raises(FailureError, match="could not be done"):
            select(fileset, tmp_path / "out", workers=workers)
        assert workers.watch.tally.events == EVENTS - 330


def test_bytes_read_of_root_files_are_at_most_those_of_the_files(
    sample: Any, select: Callable[..., Any], tmp_path: Path
) -> None:
    with Workers(ExecutionSettings()) as workers:
        select(sample.fileset(1000), tmp_path, workers=workers)  # a chunk for each file
        read = workers.watch.tally.bytes_read
    on_disk = sum(path.stat().st_size for path, _ in sample.files.values())
    # Not all branches are read; what uproot reads to find them is counted.
    assert 0.2 * on_disk < read < 1.5 * on_disk


def test_bytes_read_of_shards_are_all_of_them(
    sample: Any, select: Callable[..., Any], tmp_path: Path
) -> None:
    select(sample.fileset(1000), tmp_path)
    directory = tmp_path / "shards" / "2L"
    manifest = read_manifest(directory / "manifest.json")
    hashes = {shard["path"].removesuffix(".parquet"): "now" for shard in manifest["shards"]}
    chunks = shard_chunks(manifest, directory, hashes)
    processor = ComparisonProcessor(
        cells=manifest["features"]["rmm"],
        convention="thesis",
        scales=dict.fromkeys(manifest["datasets"], 1.0),
        directory=tmp_path / "comparison",
    )
    with Workers(ExecutionSettings()) as workers:
        how = {"schema": BaseSchema, "file_format": "parquet"}
        _, missing = run_chunks(list(chunks.values()), processor, workers.executor("comparing"), **how)
        assert missing == []
        assert workers.watch.tally.bytes_read == sum(shard["bytes"] for shard in manifest["shards"])


def test_what_a_chunk_says_of_the_bytes_it_read_is_left_alone() -> None:
    item = WorkItem("Zee", "nowhere.root", "mini", 0, 10, b"")
    metrics = {"bytesread": 7, "columns": {"met_et-data"}, "entries": 10, "processtime": 0.1}
    result = metered(lambda _: {"out": {}, "metrics": metrics}, (item, None))
    assert result["metrics"] == {"bytesread": 7, "entries": 10, "processtime": 0.1}


def test_a_stage_is_told_its_own_part_of_the_tally() -> None:
    earlier = Tally(chunks=2, events=200, bytes_read=10)
    later = Tally(chunks=5, events=450, bytes_read=30, events_before=7)
    assert later.since(earlier) == Tally(chunks=3, events=250, bytes_read=20, events_before=7)


def test_a_chunk_leaves_nothing_behind_that_refers_to_itself() -> None:
    class Events:
        def __init__(self) -> None:
            self.itself = self

    left = []

    def chunk(_: WorkItem) -> None:
        left.append(weakref.ref(Events()))
        if len(left) == 2:
            raise OSError("basket")  # noqa: EM101 - stands for a chunk

    item = WorkItem("Zee", "nowhere.root", "mini", 0, 10, b"")
    gc.disable()
    try:
        metered(chunk, item)
        with pytest.raises(OSError, match="basket"):
            metered(chunk, item)
        assert [events() for events in left] == [None, None]
        assert gc.get_freeze_count() == 0
    finally:
        gc.enable()
