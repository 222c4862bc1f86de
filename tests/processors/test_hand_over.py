"""What other tools get: histograms that ROOT reads, shards that pandas and polars users read."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from processors.histograms import feature_histogram, save_root
from processors.shards import write_shard

READ_WITH_ROOT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import ROOT
file = ROOT.TFile.Open(sys.argv[1])
h = file.Get("2L/mll/Zjets")
n = h.GetNbinsX()
print(json.dumps({
    "class": h.ClassName(), "bins": n, "title": h.GetXaxis().GetTitle(),
    "contents": [h.GetBinContent(i) for i in range(n + 2)],
    "errors": [h.GetBinError(i) for i in range(n + 2)],
}))
"""


@pytest.mark.root
@pytest.mark.skipif(find_spec("ROOT") is None, reason="the ROOT wheel is not installed")
def test_root_reads_contents_and_errors_with_overflow(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    n = 1000
    values, weight = rng.exponential(200, n), rng.normal(1, 0.5, n)
    filled = feature_histogram(
        "mll", "Zee", 2, flcomp=rng.integers(6, 9, n), values=values, weights={"nominal": weight}
    )
    save_root({"2L/mll": filled}, tmp_path, {"Zee": "Zjets"})
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_ROOT, str(tmp_path / "histograms.root")],
        capture_output=True,
        text=True,
        check=True,
    )
    read = json.loads(done.stdout.splitlines()[-1])
    assert read["class"] == "TH1D"
    assert "GeV" in read["title"]
    edges = np.linspace(0, 500, read["bins"] + 1)
    position = np.searchsorted(edges, values, side="right")
    np.testing.assert_allclose(read["contents"], np.bincount(position, weight, read["bins"] + 2))
    np.testing.assert_allclose(read["errors"], np.sqrt(np.bincount(position, weight**2, read["bins"] + 2)))


def test_pandas_reads_a_shard_column_by_column(tmp_path: Path) -> None:
    columns = {
        "eventNumber": np.array([1, 2**63], dtype=np.uint64),
        "weight": np.array([0.5, -0.5]),
        "m_j1_e2": np.zeros(2, np.float32),
    }
    write_shard(tmp_path / "1.parquet", columns)
    frame = pd.read_parquet(tmp_path / "1.parquet")
    assert frame.eventNumber.tolist() == [1, 2**63]
    assert frame.query("m_j1_e2 == 0").weight.sum() == 0
    assert frame.m_j1_e2.dtype == np.float32
