"""What one chunk leaves: a shard with every column by its name, weighted histograms, and a receipt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest

from processors.features import feature_table, table_names
from processors.histograms import histogrammed
from processors.objects import rmm_objects
from processors.regions import apply_region
from processors.rmm import layout_of, rapidity_mass_matrix
from processors.schema import event_record
from processors.selection import SelectionProcessor, chunk_name
from processors.settings import REGIONS, LeptonSettings, RegionSettings, RMMSettings, WeightSettings
from processors.weights import event_weights

DATASET = "361106.Zee.2lep"
IDENTITY = {
    "channelNumber": np.int32,
    "runNumber": np.int32,
    "eventNumber": np.uint64,
    "weight": np.float64,
    "flcomp": np.int8,
}


@pytest.fixture
def process(sample: Any, tmp_path: Path, read_events: Callable[..., Any]) -> Callable[..., Any]:
    """Runs the processor on entries of the simulated file; gives its output and the events."""

    def run(
        region: RegionSettings = REGIONS["2L"], rmm: RMMSettings | None = None, stop: int = 200
    ) -> tuple[dict[str, Any], ak.Array]:
        path, metadata = sample.files[DATASET]
        chunk = {
            "dataset": DATASET,
            "filename": str(path),
            "fileuuid": "u-u-i-d",
            "entrystart": 0,
            "entrystop": stop,
        }
        events = read_events(path, "mini", entry_stop=stop, metadata={**metadata, **chunk})
        processor = SelectionProcessor(
            name="2L",
            region=region,
            weights=WeightSettings(),
            rmm=rmm or RMMSettings(),
            shards=tmp_path,
            config_hashes={DATASET: "c0ffee"},
        )
        return processor.postprocess(processor.process(events)), event_record(events)

    return run


def test_a_chunk_and_its_files_have_one_name_however_often_it_is_done() -> None:
    assert chunk_name("d", "uuid", 0, 100) == "d/uuid_0-100"


def test_the_shard_holds_identity_weight_features_and_matrix(
    process: Callable[..., Any], tmp_path: Path
) -> None:
    output, record = process()
    ((chunk, receipt),) = output["receipts"].items()
    assert chunk == f"{DATASET}/u-u-i-d_0-200"
    table = pq.read_table(tmp_path / receipt["shard"]["path"])
    weight = event_weights(record, {"kind": "background", "norm": 0.37}, WeightSettings()).weight()
    events, _ = apply_region(record, weight, REGIONS["2L"])
    assert table.num_rows == receipt["shard"]["rows"] == len(events) > 20
    assert {name: table[name].to_numpy().dtype for name in IDENTITY} == {
        name: np.dtype(kind) for name, kind in IDENTITY.items()
    }
    np.testing.assert_array_equal(table["eventNumber"].to_numpy(), np.asarray(record.event)[events.index])
    np.testing.assert_array_equal(table["weight"].to_numpy(), weight[events.index])
    assert (table["weight"].to_numpy() < 0).any(), "negative weights are kept"
    for name, column in feature_table(events).items():
        np.testing.assert_array_equal(table[name].to_numpy(), column, err_msg=name)
    layout = layout_of(RMMSettings())
    matrix = rapidity_mass_matrix(
        rmm_objects(events, REGIONS["2L"].jets), ak.zip({"pt": events.met_pt, "phi": events.met_phi}), layout
    )
    cells = np.stack([table[name].to_numpy() for name in layout.cell_names], axis=1)
    np.testing.assert_array_equal(cells, matrix.reshape(len(events), 529))
    features = [name for name in table.column_names if name not in IDENTITY]
    assert {table[name].to_numpy().dtype for name in features} == {np.dtype(np.float32)}
    assert len(set(table.column_names)) == len(table.column_names)


def test_every_histogram_integrates_to_the_sum_of_weights(process: Callable[..., Any]) -> None:
    output, _ = process()
    (receipt,) = output["receipts"].values()
    n, sumw, sumw2 = receipt["cutflow"]["2 good leptons"]
    assert n == receipt["shard"]["rows"]
    assert receipt["shard"]["sumw"] == pytest.approx(sumw, rel=1e-14)
    names = {name.removeprefix("2L/") for name in output["histograms"]}
    assert set(histogrammed(table_names(2))) <= names
    assert {"ht", "st", "meff", "lep1_tracksigd0pvunbiased"} <= names
    for name, histogram in output["histograms"].items():
        total = histogram.sum(flow=True)
        assert total.value == pytest.approx(sumw, rel=1e-12), name
        assert total.variance == pytest.approx(sumw2, rel=1e-12), name


def test_the_receipt_says_what_was_read(process: Callable[..., Any]) -> None:
    output, _ = process(stop=50)
    (receipt,) = output["receipts"].values()
    assert receipt["events_read"] == 50
    assert receipt["config_hash"] == "c0ffee"
    assert receipt["source"]["start"] == 0
    assert receipt["source"]["stop"] == 50
    assert receipt["cutflow"]["all"][0] == 50


def test_a_chunk_that_selects_nothing_writes_no_shard_but_a_receipt(
    process: Callable[..., Any], tmp_path: Path
) -> None:
    nothing = REGIONS["2L"].model_copy(update={"met_min": 1e6})
    output, _ = process(nothing)
    (receipt,) = output["receipts"].values()
    assert receipt["shard"] is None
    assert receipt["cutflow"]["MET > 1e+06 GeV"] == (0, 0.0, 0.0)
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".json"]
    assert all(h.sum(flow=True).value == 0 for h in output["histograms"].values())


def test_the_matrix_is_left_out_where_it_is_not_wanted(process: Callable[..., Any], tmp_path: Path) -> None:
    output, _ = process(rmm=RMMSettings(write=False, photons=5))
    (receipt,) = output["receipts"].values()
    names = pq.read_schema(tmp_path / receipt["shard"]["path"]).names
    assert not {"met", "mt_j1", "et_e1"} & set(names)
    assert "met_et" in names


@pytest.mark.shared
def test_photons_fill_their_cells_for_real_events(
    real_2025: Path, tmp_path: Path, read_events: Callable[..., Any]
) -> None:
    chunk = {
        "dataset": "data15",
        "filename": str(real_2025),
        "fileuuid": "u",
        "entrystart": 0,
        "entrystop": 1000,
    }
    events = read_events(
        real_2025, "analysis", entry_stop=1000, metadata={"kind": "data", "norm": 1.0, **chunk}
    )
    photons = RMMSettings(convention="map2rmm", light_jets=2, b_jets=1, electrons=2, muons=2, photons=2)
    any_four = LeptonSettings(relative_etcone20_max=None, relative_ptcone30_max=None)
    four = RegionSettings(n_leptons=4, skims=("exactly4lep",), leptons=any_four)
    processor = SelectionProcessor(
        name="4L",
        region=four,
        weights=WeightSettings(),
        rmm=photons,
        shards=tmp_path,
        config_hashes={"data15": "c0ffee"},
    )
    (receipt,) = processor.process(events)["receipts"].values()
    table = pq.read_table(tmp_path / receipt["shard"]["path"])
    record = event_record(events, photons=True)
    selected, _ = apply_region(record, np.ones(1000), four)
    leading = ak.fill_none(ak.firsts(record.photon.pt[selected.index]), 0)
    assert ak.any(leading > 0)
    np.testing.assert_allclose(table["et_g1"].to_numpy(), leading / 13_000, rtol=1e-6)
