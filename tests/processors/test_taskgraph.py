"""A graph of tasks gives what coffea's Runner gives, reads only what is needed, and names what it could not do."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import dask_awkward as dak
import numpy as np
import pytest
import uproot

from fileset.exceptions import FailureError
from processors.execution import work_items
from processors.files import read_json
from processors.histograms import load_histograms
from processors.schema import OpenDataSchema
from processors.selection import SelectionProcessor
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.shards import read_manifest
from processors.taskgraph import chunk_graph
from processors.workers import Workers

ZEE = "361106.Zee.2lep"
STEPS = [[0, 100], [100, 200], [200, 300], [300, 330]]
GRAPH = ExecutionSettings(backend="dask-awkward")


@pytest.fixture
def in_this_process() -> Iterator[Workers]:
    with Workers(GRAPH) as workers:
        yield workers


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with Workers(GRAPH.model_copy(update={"executor": "futures", "workers": 2})) as workers:
        yield workers


@pytest.fixture(scope="module")
def cluster() -> Iterator[Workers]:
    with Workers(GRAPH.model_copy(update={"executor": "dask", "workers": 2})) as workers:
        yield workers


@pytest.fixture(scope="module")
def of_the_runner(
    sample: Any, select: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, Any], Path]]:
    """Result and output directory of coffea's Runner by region."""
    output = tmp_path_factory.mktemp("runner")
    return {name: (select(sample.fileset(100), output, name=name), output) for name in REGIONS}


@pytest.fixture
def processor(tmp_path: Path) -> SelectionProcessor:
    """The processor of region 2L."""
    return selection("2L", tmp_path, RMMSettings())


def selection(region: str, shards: Path, rmm: RMMSettings) -> SelectionProcessor:
    return SelectionProcessor(
        name=region,
        region=REGIONS[region],
        weights=WeightSettings(),
        rmm=rmm,
        shards=shards,
        config_hashes={ZEE: "c0ffee"},
    )


def damage(path: Path, how: str) -> list[list[int]]:
    """Damages a file of 330 entries in baskets of 50; gives the chunks of 100 that cannot be read any more."""
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
        return STEPS
    with uproot.open(path) as file:
        seek, size = (int(file["mini/lep_pt"].member(name)[3]) for name in ("fBasketSeek", "fBasketBytes"))
    if how == "cut short":
        path.write_bytes(content[:seek])
        return STEPS[1:]
    content[seek + size // 2 : seek + size // 2 + 8] = b"\x55" * 8
    path.write_bytes(content)
    return STEPS[1:2]


def without_seconds(result: dict[str, Any]) -> str:
    return json.dumps({key: result[key] for key in ("cuts", "lumi_pb", "datasets")}, sort_keys=True)


def assert_same(one: Path, other: Path, region: str) -> None:
    """Shards, their names and checksums, sums of weights, histograms."""
    here, there = (directory / "shards" / region for directory in (one, other))
    assert read_manifest(here / "manifest.json") == read_manifest(there / "manifest.json")
    histograms, expected = (load_histograms(place / "histograms.json") for place in (here, there))
    assert histograms.keys() == expected.keys()
    for name, histogram in histograms.items():
        assert histogram.axes == expected[name].axes
        for part in ("value", "variance"):
            np.testing.assert_allclose(
                histogram.view(flow=True)[part],
                expected[name].view(flow=True)[part],
                rtol=1e-12,
                atol=1e-12,
                err_msg=name,
            )


@pytest.mark.parametrize(
    ("who", "region"),
    [
        ("in_this_process", "2L"),
        ("in_this_process", "3L"),
        pytest.param("pool", "3L", marks=pytest.mark.xdist_group("futures")),
        pytest.param("cluster", "2L", marks=pytest.mark.xdist_group("dask")),
        pytest.param("cluster", "3L", marks=pytest.mark.xdist_group("dask")),
    ],
)
def test_the_graph_gives_what_the_runner_gives(
    request: pytest.FixtureRequest,
    sample: Any,
    select: Callable[..., Any],
    of_the_runner: dict[str, tuple[dict[str, Any], Path]],
    tmp_path: Path,
    who: str,
    region: str,
) -> None:
    workers = request.getfixturevalue(who)
    before = workers.watch.tally.chunks
    result = select(sample.fileset(100), tmp_path, name=region, workers=workers)
    expected, output = of_the_runner[region]
    assert result["ledger"]["missing"] == []
    assert without_seconds(result) == without_seconds(expected)
    assert_same(tmp_path, output, region)
    assert workers.watch.tally.chunks - before == len(work_items(sample.fileset(100)))


@pytest.mark.shared
@pytest.mark.parametrize("region", REGIONS)
def test_real_files_give_the_same_as_with_the_runner(
    real_fileset: Callable[[int], dict[str, Any]],
    select: Callable[..., Any],
    in_this_process: Workers,
    tmp_path: Path,
    region: str,
) -> None:
    graph = select(real_fileset(700), tmp_path / "graph", name=region, workers=in_this_process)
    runner = select(real_fileset(700), tmp_path / "runner", name=region)
    assert without_seconds(graph) == without_seconds(runner)
    assert_same(tmp_path / "graph", tmp_path / "runner", region)


def with_photons(branches: dict[str, Any]) -> None:
    """Adds photons to events, and a branch that nobody asks for."""
    lepton = branches["lep"]
    branches["photon"] = ak.zip({name: lepton[name] for name in ("pt", "eta", "phi", "E")})
    branches["unused"] = branches["mcWeight"]


@pytest.mark.parametrize("photons", [0, 2])
def test_the_graph_reads_the_branches_that_the_processor_uses_and_no_other(
    sample: Any,
    write_mini: Callable[..., Path],
    read_events: Callable[..., Any],
    tmp_path: Path,
    photons: int,
) -> None:
    path = write_mini(tmp_path / "mc_361106.Zee.2lep.root", 120, change=with_photons)
    fileset = type(sample)({ZEE: (path, sample.files[ZEE][1])}).fileset()
    processor = selection("2L", tmp_path, RMMSettings(photons=photons))
    outputs, _ = chunk_graph(work_items(fileset), processor, schema=OpenDataSchema)
    assert outputs[ZEE].npartitions == 2
    (branches,) = dak.report_necessary_columns(outputs).values()
    log: list[Any] = []
    chunk = {"dataset": ZEE, "filename": str(path), "fileuuid": "u", "entrystart": 0, "entrystop": 120}
    events = read_events(path, "mini", access_log=log, metadata={**sample.files[ZEE][1], **chunk})
    processor.process(events)
    assert branches == {entry.branch for entry in log}
    assert ("photon_pt" in branches) == (photons > 0)
    assert "unused" not in branches


@pytest.mark.parametrize("how", ["gone", "cut short", "garbled basket"])
def test_what_cannot_be_read_is_named_as_with_the_runner(
    own_sample: Any,
    select: Callable[..., Any],
    in_this_process: Workers,
    tmp_path: Path,
    how: str,
) -> None:
    fileset, path = own_sample.fileset(), own_sample.files[ZEE][0]
    lost = damage(path, how)
    ledgers = []
    for place, workers in (("runner", None), ("graph", in_this_process)):
        with pytest.raises(FailureError, match=str(path)):
            select(fileset, tmp_path / place, workers=workers)
        ledgers.append(read_json(tmp_path / place / "shards" / "2L" / "ledger.json"))
    assert ledgers[0] == ledgers[1]
    assert [[entry["start"], entry["stop"]] for entry in ledgers[1]["missing"]] == lost
    assert ledgers[1]["done"] == 8 - len(lost)


def test_what_the_processor_raises_is_named(
    sample: Any,
    select: Callable[..., Any],
    in_this_process: Workers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mistaken(*_: Any) -> None:
        message = "a mistake of ours"
        raise ValueError(message)

    monkeypatch.setattr("processors.selection.feature_table", mistaken)
    with pytest.raises(FailureError, match=r"could not be done .*ValueError: a mistake of ours"):
        select(sample.fileset(1000), tmp_path, workers=in_this_process)


def test_a_file_that_changed_since_it_was_checked_is_not_in_the_graph(
    own_sample: Any, write_mini: Callable[..., Path], processor: SelectionProcessor
) -> None:
    items = work_items(own_sample.fileset())
    write_mini(own_sample.files[ZEE][0], 330, seed=2)
    outputs, _ = chunk_graph(items, processor, schema=OpenDataSchema)
    assert outputs.keys() == own_sample.files.keys() - {ZEE}


def test_a_graph_that_is_lost_is_done_chunk_by_chunk(
    sample: Any,
    select: Callable[..., Any],
    of_the_runner: dict[str, tuple[dict[str, Any], Path]],
    in_this_process: Workers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def lost(*_: Any, **__: Any) -> None:
        message = "the scheduler does not answer"
        raise OSError(message)

    monkeypatch.setattr("processors.taskgraph.chunk_graph", lost)
    result = select(sample.fileset(100), tmp_path, workers=in_this_process)
    assert "the scheduler does not answer" in caplog.text
    expected, output = of_the_runner["2L"]
    assert without_seconds(result) == without_seconds(expected)
    assert_same(tmp_path, output, "2L")
