"""An independent witness: the same events selected, weighted and described in C++, with ROOT's RDataFrame.

The C++ (rdataframe_witness.py) is written from the definitions (report III.A, thesis chapter 3 and eq. 3.1) with
ROOT's own four-vectors; it reads the files with ROOT and converts MeV to GeV in double precision. What it is compared
with went through the whole stage: schema, processor, shards and histograms.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from processors.histograms import load_histograms
from processors.shards import read_manifest

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(find_spec("ROOT") is None, reason="the ROOT wheel is not installed"),
]

DEMO = Path(__file__).parents[2] / "fileset" / "demo"
WITNESS = Path(__file__).with_name("rdataframe_witness.py")


@dataclass(frozen=True)
class Compared:
    """Both accounts of the same files, events in the order of dataset and event number.

    `own` and `root` hold one value an event under the same names, `matrix` (n, 23, 23) among them; `books` are those
    of the stage by dataset, `histograms` and `root_histograms` by variable.
    """

    own: dict[str, np.ndarray]
    root: dict[str, np.ndarray]
    books: dict[str, dict[str, Any]]
    histograms: dict[str, Any]
    root_histograms: dict[str, np.ndarray]


def run_witness(filesets: dict[str, dict[str, Any]], directory: Path) -> dict[str, dict[str, np.ndarray]]:
    """What RDataFrame says of the fileset of each region."""
    request = {
        region: [
            {"path": path, "norm": content["metadata"]["norm"], "data": content["metadata"]["kind"] == "data"}
            for content in fileset.values()
            for path in content["files"]
        ]
        for region, fileset in filesets.items()
    }
    assert all(len(request[region]) == len(filesets[region]) for region in request), "one file a dataset"
    (directory / "request.json").write_text(json.dumps(request), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, WITNESS, directory / "request.json", directory],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {region: dict(np.load(directory / f"{region}.npz")) for region in filesets}


def seen_by_the_stage(
    fileset: dict[str, Any], region: str, output: Path, select: Callable[..., Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    result = select(fileset, output, name=region)
    directory = output / "shards" / region
    manifest = read_manifest(directory / "manifest.json")
    positions = {dataset: position for position, dataset in enumerate(fileset)}
    tables = [pq.read_table(directory / shard["path"]) for shard in manifest["shards"]]
    samples = [np.full(shard["rows"], positions[shard["dataset"]]) for shard in manifest["shards"]]
    table = pa.concat_tables(tables)
    own = {name: table[name].to_numpy() for name in ("weight", "mll", "met_et")}
    own |= {"sample": np.concatenate(samples), "event": table["eventNumber"].to_numpy()}
    own["matrix"] = np.stack([table[cell].to_numpy() for cell in manifest["features"]["rmm"]], axis=1)
    own["matrix"] = own["matrix"].reshape(-1, 23, 23)
    return own, result["datasets"], load_histograms(directory / "histograms.json")


@dataclass(frozen=True)
class Witnessed:
    """The checked files of a sample by region, and what RDataFrame says of them."""

    filesets: dict[str, dict[str, Any]]
    answers: dict[str, dict[str, np.ndarray]]


@pytest.fixture(scope="module", params=[pytest.param("real", marks=pytest.mark.shared), "demo"])
def witnessed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Witnessed:
    """The real files, and the demo sample."""
    name = "demo"
    if request.param == "real":
        name = str(next(iter(request.getfixturevalue("real_2020").values())).parents[1])
    elif not DEMO.is_dir():
        pytest.skip("the demo sample is not there")
    filesets = {
        region: with_steps(check(resolve(FilesetSettings(fileset=name), (region,))).fileset, 100_000)
        for region in ("2L", "3L")
    }
    return Witnessed(filesets, run_witness(filesets, tmp_path_factory.mktemp("witness")))


@pytest.fixture(scope="module", params=["2L", "3L"])
def compared(
    request: pytest.FixtureRequest,
    witnessed: Witnessed,
    select: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Compared:
    """Both accounts of a sample in a region."""
    region, directory = request.param, tmp_path_factory.mktemp("stage")
    fileset, root = witnessed.filesets[region], witnessed.answers[region]
    own, books, histograms = seen_by_the_stage(fileset, region, directory, select)
    per_event = ("sample", "event", "weight", "mll", "met_et", "matrix")

    def ordered(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        order = np.lexsort((columns["event"], columns["sample"]))
        return {name: columns[name][order] for name in per_event}

    return Compared(
        ordered(own),
        ordered(root),
        books,
        {name.partition("/")[2]: histogram for name, histogram in histograms.items()},
        {name: root[name] for name in root if name not in per_event},
    )


def test_the_same_events_are_selected(compared: Compared) -> None:
    assert compared.root["event"].size > 200
    np.testing.assert_array_equal(compared.own["sample"], compared.root["sample"])
    np.testing.assert_array_equal(compared.own["event"], compared.root["event"])


def test_yields_and_sums_of_weights_agree(compared: Compared) -> None:
    # ROOT multiplies in double, coffea too; only their order differs.
    np.testing.assert_allclose(compared.own["weight"], compared.root["weight"], rtol=1e-12)
    for position, (dataset, book) in enumerate(compared.books.items()):
        weight = compared.root["weight"][compared.root["sample"] == position]
        assert book["selected"] == weight.size, dataset
        assert book["sumw"] == pytest.approx(weight.sum(), rel=1e-12, abs=1e-12), dataset
        assert book["sumw2"] == pytest.approx((weight**2).sum(), rel=1e-12, abs=1e-12), dataset


@pytest.mark.parametrize("variable", ["mll", "met_et"])
def test_variables_agree_event_by_event(compared: Compared, variable: str) -> None:
    np.testing.assert_allclose(compared.own[variable], compared.root[variable], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("variable", ["mll", "met_et"])
def test_histograms_agree_bin_by_bin(compared: Compared, variable: str) -> None:
    values, weight = compared.root[variable], np.abs(compared.root["weight"])
    # float32 can carry an event to the other side of the edge that it lies on; there are a few at most.
    on_edge = np.abs(values / 10 - np.round(values / 10)) * 10 < 1e-6 * values
    assert on_edge.sum() < 5
    histogram = compared.histograms[variable]
    assert set(histogram.axes[0]) == {
        dataset for dataset, book in compared.books.items() if book["events_read"]
    }
    for position, dataset in enumerate(compared.books):
        if dataset not in histogram.axes[0]:  # a file without entries
            continue
        here = compared.root["sample"] == position
        moved, total = weight[here & on_edge].sum(), weight[here].sum()
        own = histogram[{"dataset": dataset}].project(variable)
        root = compared.root_histograms[f"{variable}_value"][position]
        assert np.abs(own.values(flow=True) - root).sum() <= 2 * moved + 1e-12 * total, dataset
        if not moved:
            errors = compared.root_histograms[f"{variable}_error"][position]
            np.testing.assert_allclose(own.variances(flow=True) ** 0.5, errors, rtol=1e-12, atol=1e-12)


# Cells of one kind of the 23 x 23 matrix: where they stand, and whether an object in them is a jet.
ROW, COLUMN = np.indices((23, 23))
JETS = ((ROW > 0) & (ROW < 13)) | ((COLUMN > 0) & (COLUMN < 13))
RAPIDITY = ROW > COLUMN
IMBALANCE = (ROW == COLUMN) & ~np.isin(ROW, [0, 1, 7, 13, 18])
ENERGY = ~RAPIDITY & ~IMBALANCE


@pytest.mark.parametrize(
    ("cells", "jets", "relative", "absolute"),
    [
        # The package holds the files' numbers in GeV as float32: seven digits where nothing cancels ...
        pytest.param(ENERGY, False, 2e-6, 1e-6, id="masses of leptons [GeV]"),
        pytest.param(RAPIDITY, False, 2e-6, 1e-7, id="rapidities of leptons"),
        pytest.param(IMBALANCE, False, 0.0, 2e-7, id="imbalance of leptons"),
        # ... but a jet's mass is sqrt(E^2 - p^2), and what hangs on it keeps four.
        pytest.param(ENERGY, True, 5e-5, 1e-2, id="masses with jets [GeV]"),
        pytest.param(RAPIDITY, True, 5e-5, 1e-5, id="rapidities with jets"),
        pytest.param(IMBALANCE, True, 0.0, 1e-5, id="imbalance of jets"),
    ],
)
def test_rapidity_mass_matrices_agree_cell_by_cell(
    compared: Compared, cells: np.ndarray, jets: bool, relative: float, absolute: float
) -> None:
    which = cells & (JETS if jets else ~JETS)
    own, root = (
        matrix[:, which].astype(np.float64) for matrix in (compared.own["matrix"], compared.root["matrix"])
    )
    assert np.count_nonzero(root) > 0
    if cells is RAPIDITY:
        # cosh(dy) - 1 is dy^2 / 2: its root is what is linear in the rapidities.
        own, root = np.sqrt(own), np.sqrt(np.maximum(root, 0))
    np.testing.assert_allclose(own, root, rtol=relative, atol=absolute)


def test_the_same_cells_are_filled(compared: Compared) -> None:
    own, root = compared.own["matrix"], compared.root["matrix"]
    assert np.count_nonzero(root) > 10 * len(root)
    # ROOT's round-off fills cells whose objects have the same transverse energy or rapidity.
    np.testing.assert_array_equal(own != 0, np.abs(root) > 1e-15)
