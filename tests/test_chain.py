"""The whole chain on both kinds of input: the books balance, and what was done is not done again."""

import glob
import json
import math
from pathlib import Path
from typing import Any

import hist
import pandas as pd
import pyarrow.parquet as pq
import pytest
import uproot

from processors.files import checksum
from processors.histograms import load_histograms

# Each run takes a minute or two: no second worker of the tests should make it again.
pytestmark = pytest.mark.xdist_group("chain")

# Short training: these tests are about books, not about the network.
CONFIGURATION = """
training:
  epochs: 3
report:
  variables: [met_et, mll]
  max_power_figures: 1
"""


@pytest.fixture(
    scope="module",
    params=[
        "demo",
        pytest.param("real", marks=pytest.mark.shared),
    ],
)
def output(
    request: pytest.FixtureRequest, run_analysis: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Output directory of a finished run."""
    fileset = "demo" if request.param == "demo" else request.getfixturevalue("real_files")
    directory = tmp_path_factory.mktemp(request.param)
    configuration = directory / "analysis.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    done = run_analysis("run", "--fileset", fileset, "--config", configuration, "--output", directory / "out")
    assert done.returncode == 0, done.stderr
    assert "index.html" in done.stdout
    assert "_score.png" in done.stdout
    return directory / "out"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _regions(output: Path) -> dict[str, Any]:
    return _read(output / "select.json")["regions"]


def test_every_entry_of_every_file_was_read(output: Path) -> None:
    fileset = _read(output / "fileset.json")
    for region in _regions(output).values():
        for dataset, book in region["datasets"].items():
            in_files = 0
            for path, file in fileset[dataset]["files"].items():
                with uproot.open(path) as opened:
                    in_files += opened[file["object_path"]].num_entries
            assert book["events_read"] == book["events_expected"] == in_files, dataset


def test_shards_hold_exactly_the_selected_events(output: Path) -> None:
    for name, region in _regions(output).items():
        directory = output / "shards" / name
        manifest = _read(directory / "manifest.json")
        rows = dict.fromkeys(region["datasets"], 0)
        for shard in manifest["shards"]:
            path = directory / shard["path"]
            assert checksum(path) == shard["checksum"]
            rows[shard["dataset"]] += pq.read_metadata(path).num_rows
        assert rows == {dataset: book["selected"] for dataset, book in region["datasets"].items()}
        assert {p.name for p in directory.glob("*/*.parquet")} == {
            Path(shard["path"]).name for shard in manifest["shards"]
        }


def test_pandas_reads_all_shards_at_once_as_the_readme_says(output: Path) -> None:
    for name, region in _regions(output).items():
        frame = pd.read_parquet(glob.glob(f"{output}/shards/{name}/*/*.parquet"))  # noqa: PTH207 - the README's line
        assert len(frame) == sum(book["selected"] for book in region["datasets"].values())


def test_score_histogram_integrates_to_the_sum_of_weights(output: Path) -> None:
    histograms = load_histograms(output / "histograms.json")
    for name, region in _regions(output).items():
        scores = {key: h for key, h in histograms.items() if key.startswith(f"{name}/score/")}
        model, baselines = f"{name}/score/default-table", f"{name}/score/baseline-"
        assert {model, f"{model}/mae"} <= set(scores)
        assert sum(key.startswith(baselines) for key in scores) == len(scores) - 2 == 5
        for in_histogram in map(_sums, scores.values()):
            for dataset, book in region["datasets"].items():
                value, variance = in_histogram.get(dataset, (0.0, 0.0))
                assert math.isclose(value, book["sumw"], rel_tol=1e-12, abs_tol=1e-12), dataset
                assert math.isclose(variance, book["sumw2"], rel_tol=1e-12, abs_tol=1e-12), dataset


def _sums(histogram: hist.Hist) -> dict[str, tuple[float, float]]:
    sums = {}
    for position, dataset in enumerate(histogram.axes[0]):
        view = histogram.view(flow=True)[position]
        sums[dataset] = (math.fsum(view["value"].ravel()), math.fsum(view["variance"].ravel()))
    return sums


def test_feature_histograms_integrate_to_the_sum_of_weights(output: Path) -> None:
    histograms = load_histograms(output / "histograms.json")
    for name, region in _regions(output).items():
        for variable in ("met_et", "mll", "lep1_pt"):
            for dataset, (value, _) in _sums(histograms[f"{name}/{variable}"]).items():
                assert math.isclose(value, region["datasets"][dataset]["sumw"], rel_tol=1e-9, abs_tol=1e-9)


def test_second_run_reuses_everything_and_changes_nothing(output: Path, run_analysis: Any) -> None:
    def snapshot() -> dict[str, tuple[str, int]]:
        return {
            str(path.relative_to(output)): (checksum(path), path.stat().st_mtime_ns)
            for room in ("shards", "scores", "models")
            for path in sorted((output / room).rglob("*"))
            if path.is_file()
        }

    def results() -> dict[str, str]:
        names = ("fileset.json", "select.json", "histograms.json", "evaluate.json")
        return {name: checksum(output / name) for name in names}

    before, numbers = snapshot(), results()
    run = _read(output / "run.json")
    again = run_analysis(
        "run", "--fileset", run["config"]["fileset"]["fileset"], "--config", output.parent / "analysis.yaml",
        "--output", output,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert snapshot() == before
    assert results() == numbers


def test_page_says_what_the_input_is(output: Path) -> None:
    page = (output / "report" / "index.html").read_text(encoding="utf-8")
    if _read(output / "run.json")["config"]["fileset"]["fileset"] == "demo":
        assert "Pythia 8 simulation, pseudo-data" in page
        assert "ATLAS Open Data" not in page
    else:
        assert "ATLAS Open Data" in page
        assert "educational use" in page
        assert "10.7483/OPENDATA.ATLAS" in page
        assert "no signal" in page
