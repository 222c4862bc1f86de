"""The compare stage: what is distorted in data is dropped, and only that; what is done is not done again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest

from fileset.exceptions import FailureError, InputError
from models.settings import TrainingSettings
from models.training import train
from processors.cells import load_cells, one_cell
from processors.files import read_json
from processors.settings import ComparisonSettings, ExecutionSettings, RMMSettings
from processors.stages.compare import compare_region
from processors.workers import Workers

ZEE, DATA = "361106.Zee.2lep", "data_A.2lep"
STRICT = ComparisonSettings(min_p=1e-5)


def compare(
    output: Path,
    settings: ComparisonSettings | None = None,
    *,
    blinded: bool = False,
    executor: str = "iterative",
) -> dict[str, Any]:
    with Workers(ExecutionSettings()) as workers:
        return compare_region(
            name="2L", convention="thesis", settings=settings or ComparisonSettings(), blinded=blinded,
            workers=workers, output=output,
        )  # fmt: skip


def inputs_in(output: Path) -> dict[str, Any]:
    return read_json(output / "shards" / "2L" / "inputs.json")


def displace_the_leading_lepton(branches: dict[str, Any]) -> None:
    """Moves z0 of the lepton of largest pT by 0.2 mm."""
    leptons = branches["lep"]
    leading = leptons.pt == ak.max(leptons.pt, axis=1, mask_identity=False)
    branches["lep"] = ak.with_field(leptons, ak.values_astype(leptons.z0 + 0.2 * leading, np.float32), "z0")


def large_sample(directory: Path, write_mini: Callable[..., Path], sample: Any, **data: Any) -> Any:
    """Simulation and data of one origin, large enough for a comparison."""
    files = {
        ZEE: (
            write_mini(directory / "mc_361106.Zee.2lep.root", 6_000, basket=3_000), sample.files[ZEE][1],
        ),
        DATA: (
            write_mini(
                directory / "data_A.2lep.root", 4_000, run=297730, dsid=0, data=True, basket=2_000, **data
            ),
            sample.files[DATA][1],
        ),
    }  # fmt: skip
    return type(sample)(files)


@pytest.fixture(scope="module")
def selected(
    tmp_path_factory: pytest.TempPathFactory, write_mini: Any, sample: Any, select: Any
) -> dict[str, Path]:
    """Outputs of select: of an undisturbed sample, and of one whose leading lepton is displaced in data."""
    outputs = {}
    for name, change in (("plain", None), ("distorted", displace_the_leading_lepton)):
        directory = tmp_path_factory.mktemp(name)
        select(large_sample(directory, write_mini, sample, change=change).fileset(3_000), directory)
        outputs[name] = directory
    return outputs


# --- which inputs are kept -------------------------------------------------------------------------------------------


def test_only_the_distorted_column_is_dropped_and_training_leaves_it_out(selected: dict[str, Path]) -> None:
    output = selected["distorted"]
    result = compare(output, STRICT)
    dropped = {name for name, entry in result["inputs"].items() if not entry["kept"]}
    assert dropped == {"lep1_z0"}
    assert "below" in result["inputs"]["lep1_z0"]["reason"]
    listed = inputs_in(output)
    assert set(listed["dropped"]) == {"lep1_z0"}
    table = read_json(output / "shards" / "2L" / "manifest.json")["features"]["table"]
    tiny = TrainingSettings(encoder=(4, 2), encoder_activations=("tanh", "tanh"), decoder=(4,),
                            decoder_activations=("tanh", "linear"), epochs=1)  # fmt: skip
    bundle = train(output / "shards/2L/manifest.json", features="table", settings=tiny, seed=1, output=output)
    card = read_json(bundle / "card.json")
    assert card["features"] == [name for name in table if name != "lep1_z0"]
    compare(output)
    bundle = train(output / "shards/2L/manifest.json", features="table", settings=tiny, seed=1, output=output)
    again = read_json(bundle / "card.json")
    assert again["features"] == table, "without thresholds nothing is dropped"
    assert again["hash"] != card["hash"]


def test_nothing_is_dropped_where_data_follow_the_simulation(selected: dict[str, Path]) -> None:
    result = compare(selected["plain"], STRICT)
    judged = [entry for entry in result["inputs"].values() if entry["chi2"] is not None]
    assert len(judged) > 100
    assert all(entry["kept"] for entry in result["inputs"].values())
    assert np.mean([entry["chi2_ndf"] for entry in judged]) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("limit", [{"max_chi2_ndf": 5.0}, {"max_deviation": 6.0}, {"min_p": 1e-5}])
def test_each_threshold_finds_the_distortion(selected: dict[str, Path], limit: dict[str, float]) -> None:
    result = compare(selected["distorted"], ComparisonSettings(**limit))
    assert [name for name, entry in result["inputs"].items() if not entry["kept"]] == ["lep1_z0"]


def test_a_wrong_normalisation_matters_to_absolute_numbers_only(selected: dict[str, Path]) -> None:
    # The sample's normalisation is arbitrary: far from the data.
    absolute = compare(selected["plain"], ComparisonSettings(normalise="absolute"))
    assert absolute["inputs"]["met_et"]["p"] < 1e-6
    shape = compare(selected["plain"])
    assert shape["inputs"]["met_et"]["p"] > 1e-3
    assert absolute["inputs"]["met_et"]["ndf"] > shape["inputs"]["met_et"]["ndf"] - 1


def test_every_feature_and_every_filled_cell_is_compared(selected: dict[str, Path]) -> None:
    result = compare(selected["plain"])
    manifest = read_json(selected["plain"] / "shards/2L/manifest.json")
    assert set(manifest["features"]["table"]) <= set(result["inputs"])
    cells, filled = manifest["features"]["rmm"], set()
    for shard in manifest["shards"]:
        table = pq.read_table(selected["plain"] / "shards/2L" / shard["path"], columns=cells)
        filled |= {name for name in cells if np.any(table[name])}
    assert filled == set(result["inputs"]) & set(cells)
    assert "det_mu5" not in result["inputs"], "no event has five muons"
    assert "det_mu5" in inputs_in(selected["plain"])["kept"], "but models of the sources have this input"


def test_absent_objects_are_counted_apart(selected: dict[str, Path]) -> None:
    result = compare(selected["plain"])
    manifest = read_json(selected["plain"] / "shards/2L/manifest.json")
    for kind, dataset in (("data", DATA), ("simulation", ZEE)):
        parts = [
            pq.read_table(selected["plain"] / "shards/2L" / shard["path"], columns=["weight", "et_b1"])
            for shard in manifest["shards"]
            if shard["dataset"] == dataset
        ]
        weight, value = (
            np.concatenate([part[name].to_numpy() for part in parts]) for name in ("weight", "et_b1")
        )
        assert result["inputs"]["et_b1"]["filled"][kind] == pytest.approx(
            weight[value != 0].sum() / weight.sum(), rel=1e-9
        )
    cell = one_cell(load_cells(selected["plain"] / "comparison/2L/cells.zip"), "et_b1")
    for dataset, book in manifest["datasets"].items():
        if book["rows"]:
            total = cell.values(flow=True)[list(cell.axes[0]).index(dataset)].sum()
            assert total == pytest.approx(book["sumw"], rel=1e-9)


# --- no data ---------------------------------------------------------------------------------------------------------


def test_blinded_data_are_not_looked_at(selected: dict[str, Path]) -> None:
    result = compare(selected["distorted"], STRICT, blinded=True)
    assert (result["status"], result["inputs"]) == ("blinded", {})
    listed = inputs_in(selected["distorted"])
    assert (listed["status"], listed["dropped"]) == ("blinded", {})
    assert "lep1_z0" in listed["kept"]


def test_without_data_every_input_is_kept(own_sample: Any, select: Any, tmp_path: Path) -> None:
    del own_sample.files[DATA]
    select(own_sample.fileset(), tmp_path)
    result = compare(tmp_path, STRICT)
    assert (result["status"], result["inputs"]) == ("no data", {})
    # The table, the cells, and H_T of the kinematics.
    assert len(inputs_in(tmp_path)["kept"]) == 33 + 529 + 1


def test_shards_without_a_matrix_are_compared_in_their_features(
    own_sample: Any, select: Any, tmp_path: Path
) -> None:
    select(own_sample.fileset(), tmp_path, rmm=RMMSettings(write=False))
    result = compare(tmp_path)
    assert "met_et" in result["inputs"]
    assert not (tmp_path / "comparison").exists()


# --- again -----------------------------------------------------------------------------------------------------------


def test_a_second_comparison_writes_nothing_and_a_changed_shard_is_done_again(
    own_sample: Any, select: Any, tmp_path: Path
) -> None:
    def times() -> dict[str, int]:
        rooms = (tmp_path / "comparison").rglob("*"), (tmp_path / "shards").rglob("*")
        return {
            str(p.relative_to(tmp_path)): p.stat().st_mtime_ns for room in rooms for p in room if p.is_file()
        }

    select(own_sample.fileset(), tmp_path)
    first, before = compare(tmp_path), times()
    assert compare(tmp_path) == first
    assert times() == before
    (tmp_path / "comparison/2L/cells.zip").unlink()
    assert compare(tmp_path) == first, "from the receipts"
    receipts = [p for p in before if p.endswith(".receipt.json") and p.startswith("comparison")]
    assert {p: times()[p] for p in receipts} == {p: before[p] for p in receipts}
    select(own_sample.fileset(60), tmp_path)
    again = compare(tmp_path)
    assert len(list((tmp_path / "comparison").rglob("*.receipt.json"))) > len(receipts)
    assert again["inputs"]["mll"]["chi2"] == pytest.approx(first["inputs"]["mll"]["chi2"], rel=1e-9)


def test_a_shard_that_cannot_be_read_is_named(own_sample: Any, select: Any, tmp_path: Path) -> None:
    select(own_sample.fileset(), tmp_path)
    shard = next((tmp_path / "shards/2L" / ZEE).glob("*.parquet"))
    shard.write_bytes(b"PAR1" + b"\0" * 64)
    with pytest.raises(FailureError, match=shard.stem):
        compare(tmp_path)


def test_a_list_of_other_shards_is_not_trained_on(own_sample: Any, select: Any, tmp_path: Path) -> None:
    select(own_sample.fileset(), tmp_path)
    compare(tmp_path)
    select(own_sample.fileset(60), tmp_path)
    with pytest.raises(InputError, match=r"inputs\.json.*run the stage compare again"):
        train(
            tmp_path / "shards/2L/manifest.json", features="table", settings=TrainingSettings(), seed=1,
            output=tmp_path,
        )  # fmt: skip
