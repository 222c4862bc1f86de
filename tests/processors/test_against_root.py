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
from functools import cache
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
    pytest.mark.xdist_group("witness"),
    pytest.mark.skipif(find_spec("ROOT") is None, reason="the ROOT wheel is not installed"),
]

DEMO = Path(__file__).parents[2] / "fileset" / "demo"
WITNESS = Path(__file__).with_name("rdataframe_witness.py")

# Matrices of events whose number is a multiple of this are compared; all else is of all events.
EVERY = {"real": 1, "demo": 1}


@dataclass(frozen=True)
class Compared:
    """Both accounts of the same files, events in the order of dataset and event number.

    `own` and `root` hold one value an event under the same names; `own_matrix` and `root_matrix` (k, 23, 23) are of
    some of these; `books` are those of the stage by dataset, `histograms` and `root_histograms` by variable.
    """

    own: dict[str, np.ndarray]
    root: dict[str, np.ndarray]
    own_matrix: np.ndarray
    root_matrix: np.ndarray
    books: dict[str, dict[str, Any]]
    histograms: dict[str, Any]
    root_histograms: dict[str, np.ndarray]


def run_witness(
    filesets: dict[str, dict[str, Any]], every: int, directory: Path
) -> dict[str, dict[str, np.ndarray]]:
    """What RDataFrame says of the fileset of each region."""
    request = {}
    for region, fileset in filesets.items():
        files = [
            {"path": path, "norm": content["metadata"]["norm"], "data": content["metadata"]["kind"] == "data"}
            for content in fileset.values()
            for path in content["files"]
        ]
        assert len(files) == len(fileset), "one file a dataset"
        request[region] = {"files": files, "every": every}
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
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any], dict[str, Any]]:
    """Columns and matrices of the selected events, books and histograms."""
    result = select(fileset, output, name=region)
    directory = output / "shards" / region
    manifest = read_manifest(directory / "manifest.json")
    positions = {dataset: position for position, dataset in enumerate(fileset)}
    tables = [pq.read_table(directory / shard["path"]) for shard in manifest["shards"]]
    samples = [np.full(shard["rows"], positions[shard["dataset"]]) for shard in manifest["shards"]]
    table = pa.concat_tables(tables)
    own = {name: table[name].to_numpy() for name in ("weight", "mll", "met_et")}
    own |= {"sample": np.concatenate(samples), "event": table["eventNumber"].to_numpy()}
    cells = np.stack([table[cell].to_numpy() for cell in manifest["features"]["rmm"]], axis=1)
    return own, cells.reshape(-1, 23, 23), result["datasets"], load_histograms(directory / "histograms.json")


@dataclass(frozen=True)
class Witnessed:
    """The checked files of a sample by region, and what RDataFrame says of them."""

    filesets: dict[str, dict[str, Any]]
    answers: dict[str, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def witnessed(
    real_or_demo: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Witnessed]:
    """Has RDataFrame look at a sample, once for both regions."""

    @cache
    def of(sample: str) -> Witnessed:
        settings = FilesetSettings(fileset=real_or_demo(sample))
        filesets = {
            region: with_steps(check(resolve(settings, (region,))).fileset, 100_000)
            for region in ("2L", "3L")
        }
        return Witnessed(filesets, run_witness(filesets, EVERY[sample], tmp_path_factory.mktemp("witness")))

    return of


@pytest.fixture(scope="module")
def real_or_demo(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Name of the fileset of a sample; skips where it is absent."""

    def name(sample: str) -> str:
        if sample == "real":
            return str(next(iter(request.getfixturevalue("real_2020").values())).parents[1])
        if not DEMO.is_dir():
            pytest.skip("the demo sample is not there")
        return "demo"

    return name


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("real", "2L"), marks=pytest.mark.shared, id="real-2L"),
        pytest.param(("real", "3L"), marks=pytest.mark.shared, id="real-3L"),
        pytest.param(("demo", "2L"), id="demo-2L"),
        pytest.param(("demo", "3L"), id="demo-3L"),
    ],
)
def compared(
    request: pytest.FixtureRequest,
    witnessed: Callable[[str], Witnessed],
    select: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Compared:
    """Both accounts of a sample in a region."""
    sample, region = request.param
    directory, seen = tmp_path_factory.mktemp("stage"), witnessed(sample)
    fileset, root = seen.filesets[region], seen.answers[region]
    own, matrix, books, histograms = seen_by_the_stage(fileset, region, directory, select)

    def order(sample: np.ndarray, event: np.ndarray) -> np.ndarray:
        return np.lexsort((event, sample))

    in_own, in_root = (order(seen["sample"], seen["event"]) for seen in (own, root))
    own = {name: column[in_own] for name, column in own.items()}
    with_matrix = own["event"] % EVERY[request.param[0]] == 0
    in_matrices = order(root["matrix_sample"], root["matrix_event"])
    return Compared(
        own,
        {name: root[name][in_root] for name in own},
        matrix[in_own][with_matrix],
        root["matrix"][in_matrices],
        books,
        {name.partition("/")[2]: histogram for name, histogram in histograms.items()},
        {name: root[name] for name in root if name.endswith(("_value", "_error"))},
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
    # float32 can carry an event to the other side of the edge that it lies on.
    on_edge = np.abs(values / 10 - np.round(values / 10)) * 10 < 1e-6 * values
    assert on_edge.mean() < 1e-3
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
        # ... but a jet's mass is sqrt(E^2 - p^2): what hangs on it, and is small beside its energy, keeps fewer.
        pytest.param(ENERGY, True, 5e-5, 5e-2, id="masses with jets [GeV]"),
        pytest.param(RAPIDITY, True, 5e-5, 1e-5, id="rapidities with jets"),
        pytest.param(IMBALANCE, True, 0.0, 1e-5, id="imbalance of jets"),
    ],
)
def test_rapidity_mass_matrices_agree_cell_by_cell(
    compared: Compared, cells: np.ndarray, jets: bool, relative: float, absolute: float
) -> None:
    which = cells & (JETS if jets else ~JETS)
    own, root = (m[:, which].astype(np.float64) for m in (compared.own_matrix, compared.root_matrix))
    assert np.count_nonzero(root) > 0
    if cells is RAPIDITY:
        # cosh(dy) - 1 is dy^2 / 2: its root is what is linear in the rapidities.
        own, root = np.sqrt(own), np.sqrt(np.maximum(root, 0))
    np.testing.assert_allclose(own, root, rtol=relative, atol=absolute)
    if cells is ENERGY and jets:
        filled = root != 0
        beyond = np.abs(own - root) > 5e-5 * np.abs(root) + 1e-3
        assert beyond[filled].mean() < 1e-3, "more than 1 MeV is rare"


def test_the_same_cells_are_filled(compared: Compared) -> None:
    own, root = compared.own_matrix != 0, compared.root_matrix != 0
    assert np.count_nonzero(root) > 10 * len(root)
    # Two objects of the same transverse energy or rapidity but for round-off.
    assert (np.abs(compared.root_matrix[own != root]) < 1e-7).all()
    assert (own != root).mean() < 1e-5
