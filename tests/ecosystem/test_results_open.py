"""Results open in the tools that people use next: shards in polars, workspaces in cabinetry.

ROOT, uproot and pandas: tests/processors/test_hand_over.py and test_friends.py; pyhf: test_workspace.py of
tests/models/studies.
"""

import json
from pathlib import Path
from typing import Any

import cabinetry
import numpy as np
import polars as pl
import pyhf
import pytest
from coffea.processor import accumulate

from models.studies.workspace import histfactory_workspace
from processors.histograms import score_histogram
from processors.shards import write_shard

# pyhf 0.7.6 validates with an old class of jsonschema.
pytestmark = [
    pytest.mark.neutral,
    pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning"),
]


# --- polars -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two datasets, as `select` leaves them."""
    rng = np.random.default_rng(11)
    for dataset, mean in (("361106.Zee.2lep", 91.0), ("410000.ttbar_lep.2lep", 150.0)):
        (tmp_path / dataset).mkdir()
        for number in (1, 2):
            columns = {
                "eventNumber": np.array([number, 2**63, 2**64 - 1], dtype=np.uint64),
                "weight": np.array([0.5, -0.5, 2.0]),
                "mll": rng.normal(mean, 5, 3).astype(np.float32),
                "m_j1_e2": np.zeros(3, np.float32),
            }
            write_shard(tmp_path / dataset / f"{number}.parquet", columns)
    return tmp_path


def test_polars_reads_all_shards_with_their_types(shards: Path) -> None:
    frame = pl.read_parquet(shards / "*" / "*.parquet")
    assert frame.schema == {
        "eventNumber": pl.UInt64,
        "weight": pl.Float64,
        "mll": pl.Float32,
        "m_j1_e2": pl.Float32,
    }
    assert frame.height == 12
    assert frame["eventNumber"].max() == 2**64 - 1
    assert frame.null_count().sum_horizontal().item() == 0


def test_polars_makes_a_table_of_yields_without_loading_what_it_does_not_need(shards: Path) -> None:
    lazy = pl.scan_parquet(shards / "*" / "*.parquet", include_file_paths="file")
    dataset = pl.col("file").str.split("/").list.get(-2).alias("dataset")
    yields = lazy.filter(pl.col("mll") > 120).group_by(dataset).agg(pl.col("weight").sum()).collect()
    assert yields.rows() == [("410000.ttbar_lep.2lep", 4.0)]


# --- cabinetry ----------------------------------------------------------------------------------------------------

DATASETS = {
    "Zee": {"kind": "background", "group": "Zjets", "process": "Zee"},
    "data_A": {"kind": "data", "group": "data", "process": "data_A"},
    "C1N2": {"kind": "signal", "group": "SUSYC1N2", "process": "C1N2_450_300"},
    "WR": {"kind": "signal", "group": "WR_lN", "process": "WR_2000"},
}


@pytest.fixture(scope="module")
def histogram() -> Any:
    """1000 events of background, and in data all of the 50 events that one signal is expected to give."""
    rng = np.random.default_rng(7)

    def filled(dataset: str, score: Any, weight: float) -> Any:
        n = len(score)
        weights = {"nominal": np.full(n, weight)}
        if dataset != "data_A":
            weights |= {"normUp": np.full(n, 1.02 * weight), "normDown": np.full(n, 0.98 * weight)}
        return score_histogram(
            dataset,
            2,
            split=rng.integers(0, 3, n),
            flcomp=np.full(n, 6),
            score=score,
            weights=weights,
            variations=("nominal", "normUp", "normDown"),
        )

    observed = np.concatenate([rng.normal(0, 0.5, 1000), rng.normal(3, 0.3, 50)])
    return accumulate(
        [
            filled("Zee", rng.normal(0, 0.5, 20_000), 0.05),
            filled("C1N2", rng.normal(3, 0.3, 5_000), 0.01),
            filled("WR", rng.normal(5, 0.3, 5_000), 0.001),
            filled("data_A", observed, 1.0),
        ]
    )


@pytest.fixture
def workspace(histogram: Any, tmp_path: Path) -> dict[str, Any]:
    """As cabinetry reads it from the file."""
    path = tmp_path / "2L.json"
    path.write_text(json.dumps(histfactory_workspace(histogram, DATASETS, region="2L")), encoding="utf-8")
    read: dict[str, Any] = cabinetry.workspace.load(path)
    return read


def of_signal(workspace: dict[str, Any], signal: str) -> tuple[pyhf.pdf.Model, list[float]]:
    """Model and data of one measurement; cabinetry takes the first."""
    chosen = [measurement for measurement in workspace["measurements"] if measurement["name"] == signal]
    model, data = cabinetry.model_utils.model_and_data({**workspace, "measurements": chosen})
    return model, data


def test_cabinetry_fits_the_strength_that_was_injected_as_pyhf_does(workspace: dict[str, Any]) -> None:
    model, data = of_signal(workspace, "C1N2_450_300")
    fit = cabinetry.fit.fit(model, data)
    position = fit.labels.index("mu_C1N2_450_300")
    assert abs(fit.bestfit[position] - 1) < 2 * fit.uncertainty[position]
    assert fit.uncertainty[position] == pytest.approx(1 / np.sqrt(50), rel=0.25)
    assert fit.bestfit[position] == pytest.approx(float(pyhf.infer.mle.fit(data, model)[position]), abs=1e-2)
    # The other signal is held at zero, and the luminosity is one nuisance parameter of all samples.
    assert fit.uncertainty[fit.labels.index("mu_WR_2000")] == 0
    assert "lumi" in fit.labels


def test_cabinetry_sees_the_signal_in_data_and_nothing_while_data_are_blinded(
    workspace: dict[str, Any], histogram: Any
) -> None:
    seen = cabinetry.fit.significance(*of_signal(workspace, "C1N2_450_300"))
    assert seen.observed_significance > 5
    blinded = histfactory_workspace(histogram, DATASETS, region="2L", blinded=True)
    assert blinded is not None
    unseen = cabinetry.fit.significance(*of_signal(blinded, "C1N2_450_300"))
    assert unseen.observed_significance < 0.1
    assert unseen.expected_significance > 5


def test_cabinetry_predicts_the_yields_of_every_process(workspace: dict[str, Any]) -> None:
    model, data = of_signal(workspace, "C1N2_450_300")
    assert sum(data[: sum(model.config.channel_nbins.values())]) == 1050
    asimov = cabinetry.model_utils.prediction(model)
    expected = dict(zip(model.config.samples, np.sum(asimov.model_yields[0], axis=1), strict=True))
    assert expected["Zjets"] == pytest.approx(1000, rel=1e-6)
    assert expected["C1N2_450_300"] < 1e-3, "strengths start at zero"
