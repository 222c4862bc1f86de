"""A stage can be killed, repeated, changed and repaired: it does what is missing, mixes nothing, and says the rest."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from fileset.exceptions import FailureError, InputError
from processors.execution import run_chunks
from processors.files import checksum, read_json
from processors.histograms import is_complete, load_histograms
from processors.settings import REGIONS, RMMSettings
from processors.shards import read_manifest
from processors.stages.results import assemble
from processors.stages.select import disk_needed

ZEE, DATA = "361106.Zee.2lep", "data_A.2lep"
Select = Callable[..., dict[str, Any]]


def manifest_in(output: Path) -> dict[str, Any]:
    return read_manifest(output / "shards" / "2L" / "manifest.json")


def times(output: Path) -> dict[str, int]:
    """When each file below the shards was written."""
    return {
        str(path.relative_to(output)): path.stat().st_mtime_ns
        for path in (output / "shards").rglob("*")
        if path.is_file()
    }


def shards_in(output: Path) -> set[str]:
    directory = output / "shards" / "2L"
    return {str(path.relative_to(directory)) for path in directory.rglob("*.parquet")}


@pytest.fixture
def undisturbed(own_sample: Any, select: Select, tmp_path: Path) -> Path:
    output = tmp_path / "undisturbed"
    select(own_sample.fileset(), output)
    return output


# --- reuse -----------------------------------------------------------------------------------------------------------


def test_a_second_run_reuses_everything_and_writes_nothing(
    own_sample: Any, select: Select, undisturbed: Path
) -> None:
    before, fileset = times(undisturbed), own_sample.fileset()
    for path, _ in own_sample.files.values():
        path.unlink()
    result = select(fileset, undisturbed)
    assert times(undisturbed) == before
    assert result["ledger"] == {"done": 8, "missing": []}
    assert result["datasets"][ZEE]["events_read"] == 330


def test_another_cut_is_done_anew_and_leaves_nothing_of_the_old(
    own_sample: Any, select: Select, undisturbed: Path
) -> None:
    before, old = times(undisturbed), manifest_in(undisturbed)
    harder = REGIONS["2L"].model_copy(update={"met_min": 30.0})
    result = select(own_sample.fileset(), undisturbed, region=harder)
    new = manifest_in(undisturbed)
    assert new["config_hash"] != old["config_hash"]
    assert 0 < result["datasets"][ZEE]["selected"] < old["datasets"][ZEE]["rows"]
    assert shards_in(undisturbed) == {shard["path"] for shard in new["shards"]}
    assert not set(before.items()) & set(times(undisturbed).items()), "every file was written anew"
    select(own_sample.fileset(), undisturbed)
    assert manifest_in(undisturbed) == old, "and back again"


def test_another_normalisation_of_one_dataset_redoes_that_dataset_alone(
    own_sample: Any, select: Select, undisturbed: Path
) -> None:
    before, old = times(undisturbed), manifest_in(undisturbed)
    fileset = own_sample.fileset()
    fileset[ZEE]["metadata"] = {**fileset[ZEE]["metadata"], "norm": 2 * fileset[ZEE]["metadata"]["norm"]}
    result = select(fileset, undisturbed)
    assert result["datasets"][ZEE]["sumw"] == pytest.approx(2 * old["datasets"][ZEE]["sumw"], rel=1e-12)
    rewritten = {path for path, time in times(undisturbed).items() if before.get(path) != time}
    assert {Path(path).parent.name for path in rewritten} == {ZEE, "2L"}


def test_a_new_label_redoes_nothing_but_is_in_the_manifest(
    own_sample: Any, select: Select, undisturbed: Path
) -> None:
    before = times(undisturbed)
    fileset = own_sample.fileset()
    fileset[ZEE]["metadata"] = {**fileset[ZEE]["metadata"], "label": "$Z$ plus jets"}
    select(fileset, undisturbed)
    assert manifest_in(undisturbed)["datasets"][ZEE]["label"] == "$Z$ plus jets"
    unchanged = {path for path, time in times(undisturbed).items() if before[path] == time}
    assert len(unchanged) == len(before) - 2, "all but manifest and histograms"


def test_another_chunk_size_leaves_no_event_twice(own_sample: Any, select: Select, undisturbed: Path) -> None:
    rows = {name: book["rows"] for name, book in manifest_in(undisturbed)["datasets"].items()}
    select(own_sample.fileset(64), undisturbed)
    manifest = manifest_in(undisturbed)
    assert {name: book["rows"] for name, book in manifest["datasets"].items()} == rows
    assert shards_in(undisturbed) == {shard["path"] for shard in manifest["shards"]}


def test_another_convention_of_the_matrix_is_done_anew(
    own_sample: Any, select: Select, undisturbed: Path
) -> None:
    before, old = times(undisturbed), manifest_in(undisturbed)
    select(own_sample.fileset(), undisturbed, rmm=RMMSettings(convention="map2rmm"))
    new = manifest_in(undisturbed)
    assert not set(before.items()) & set(times(undisturbed).items()), "every file was written anew"
    assert new["datasets"][ZEE]["sumw"] == old["datasets"][ZEE]["sumw"]
    checksums = [
        {shard["path"]: shard["checksum"] for shard in manifest["shards"]} for manifest in (old, new)
    ]
    assert checksums[0].keys() == checksums[1].keys()
    assert not set(checksums[0].items()) & set(checksums[1].items()), "and no shard is of the old convention"


def test_a_shard_of_the_same_size_with_other_bytes_is_done_again(
    own_sample: Any, select: Select, undisturbed: Path
) -> None:
    before, manifest = times(undisturbed), manifest_in(undisturbed)
    spoilt = undisturbed / "shards" / "2L" / manifest["shards"][0]["path"]
    content = bytearray(spoilt.read_bytes())
    content[len(content) // 2] ^= 1
    spoilt.write_bytes(content)
    select(own_sample.fileset(), undisturbed)
    assert manifest_in(undisturbed) == manifest
    assert checksum(spoilt) == manifest["shards"][0]["checksum"]
    changed = {Path(path).stem for path, time in times(undisturbed).items() if before[path] != time}
    assert changed == {spoilt.stem, f"{spoilt.stem}.receipt", "manifest", "histograms"}


def test_a_lost_shard_is_done_again(own_sample: Any, select: Select, undisturbed: Path) -> None:
    before, manifest = times(undisturbed), manifest_in(undisturbed)
    lost = undisturbed / "shards" / "2L" / manifest["shards"][0]["path"]
    lost.unlink()
    select(own_sample.fileset(), undisturbed)
    assert manifest_in(undisturbed) == manifest
    changed = {Path(path).name for path, time in times(undisturbed).items() if before[path] != time}
    receipt = lost.name.replace(".parquet", ".receipt.json")
    assert changed == {lost.name, receipt, "manifest.json", "histograms.json"}


# --- killed ----------------------------------------------------------------------------------------------------------


def test_a_half_written_file_is_never_listed(own_sample: Any, select: Select, tmp_path: Path) -> None:
    output = tmp_path / "out"
    half = output / "shards" / "2L" / ZEE / ".uuid_0-100.parquet.4711.0badcafe"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"PAR1 and then the machine went away")
    select(own_sample.fileset(), output)
    assert not [shard for shard in manifest_in(output)["shards"] if "4711" in shard["path"]]
    assert not half.exists(), "and goes when the stage is done"


def test_a_stage_killed_under_another_configuration_leaves_no_manifest_of_the_old(
    own_sample: Any, select: Select, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some shards are already overwritten: whoever trained on the old manifest would mix two configurations."""
    old = manifest_in(undisturbed)
    harder = REGIONS["2L"].model_copy(update={"met_min": 30.0})
    with monkeypatch.context() as patch:
        patch.setattr("processors.selection.feature_histogram", _killed_after(60))
        with pytest.raises(KeyboardInterrupt):
            select(own_sample.fileset(), undisturbed, region=harder)
    with pytest.raises(InputError, match="there is no manifest"):
        manifest_in(undisturbed)
    select(own_sample.fileset(), undisturbed)
    assert manifest_in(undisturbed) == old, "the old configuration, whole again"


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_late_task_of_another_configuration_is_never_counted(
    own_sample: Any,
    select: Select,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rounds: int,
) -> None:
    """A worker that outlived its client writes shard and receipt of the old cuts after the new ones are done."""
    output, harder = tmp_path / "out", REGIONS["2L"].model_copy(update={"met_min": 30.0})
    old = undisturbed / "shards" / "2L"
    late = sorted(old.glob(f"{ZEE}/*"))[:2]
    assert [path.suffix for path in late] == [".parquet", ".json"], "a shard and its receipt"
    disturbed = []

    def overtaken(*what: Any, **how: Any) -> Any:
        fates = run_chunks(*what, **how)
        if len(disturbed) < rounds:
            disturbed.append(len(what[0]))
            for path in late:
                shutil.copy(path, output / "shards" / "2L" / path.relative_to(old))
        return fates

    monkeypatch.setattr("processors.stages.select._BACKENDS", {"coffea": overtaken})
    if rounds == 2:
        with pytest.raises(FailureError, match="another run writes to the same place: wait for it"):
            select(own_sample.fileset(), output, region=harder)
        assert read_json(output / "shards" / "2L" / "ledger.json")["done"] == 7
        assert not (output / "shards" / "2L" / "manifest.json").exists()
        assert disturbed == [8, 1], "the one that was written over is done once more"
        return
    result = select(own_sample.fileset(), output, region=harder)
    clean = tmp_path / "clean"
    assert result["datasets"] == select(own_sample.fileset(), clean, region=harder)["datasets"]
    assert manifest_in(output) == manifest_in(clean)


def test_a_killed_stage_goes_on_where_it_was(
    own_sample: Any, select: Select, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr("processors.selection.feature_histogram", _killed_after(150))
        with pytest.raises(KeyboardInterrupt):
            select(own_sample.fileset(), output)
    before = times(output)
    assert before
    select(own_sample.fileset(), output)
    assert manifest_in(output) == manifest_in(undisturbed)
    after = times(output)
    done = {path for path in before if path.endswith(".receipt.json")}
    assert done
    assert all(after[path] == before[path] for path in done)


def _killed_after(calls: int) -> Callable[..., Any]:
    from processors.histograms import feature_histogram  # noqa: PLC0415 - the original, before it is replaced

    left = iter(range(calls))

    def histogram(*args: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return feature_histogram(*args, **options)

    return histogram


# --- broken files ----------------------------------------------------------------------------------------------------


def damage_basket(path: Path, branch: str, basket: int, *, all_of_it: bool = False) -> None:
    """Overwrites the compressed bytes of one basket: all of them with zeros, or a few in the middle."""
    with uproot.open(path) as file:
        found = file["mini"][branch]
        seek, size = (int(found.member(name)[basket]) for name in ("fBasketSeek", "fBasketBytes"))
        key = int(found.basket_key(basket).fKeylen)
    content = bytearray(path.read_bytes())
    if all_of_it:
        content[seek + key : seek + size] = bytes(size - key)
    else:
        middle = seek + (key + size) // 2
        content[middle : middle + 8] = b"\x55" * 8
    path.write_bytes(content)


def damage(path: Path, how: str) -> list[tuple[int, int]]:
    """Damages a file of 330 entries in baskets of 50; gives the chunks of 100 that cannot be read any more."""
    if how == "gone":
        path.unlink()
        return [(0, 100), (100, 200), (200, 300), (300, 330)]
    if how == "cut short":
        with uproot.open(path) as file:
            keep = int(file["mini/lep_pt"].member("fBasketSeek")[4])
        path.write_bytes(path.read_bytes()[:keep])
        return [(200, 300), (300, 330)]
    damage_basket(path, "lep_pt", 3, all_of_it=how == "zeroed basket")
    return [(100, 200)]


@pytest.mark.parametrize("how", ["gone", "cut short", "garbled basket", "zeroed basket"])
def test_a_broken_file_is_named_and_after_repair_only_what_is_missing_is_done(
    own_sample: Any, select: Select, tmp_path: Path, how: str
) -> None:
    fileset, path = own_sample.fileset(), own_sample.files[ZEE][0]
    whole = tmp_path / "whole.root"
    shutil.copy2(path, whole)
    select(fileset, tmp_path / "undisturbed")
    lost = damage(path, how)

    output = tmp_path / "out"
    with pytest.raises(FailureError) as caught:
        select(fileset, output)
    message = str(caught.value)
    assert str(path) in message
    assert f"entries {lost[0][0]}-{lost[0][1]}" in message
    assert ZEE in message
    assert "\n" not in message
    ledger = read_json(output / "shards" / "2L" / "ledger.json")
    assert [(m["file"], m["start"], m["stop"]) for m in ledger["missing"]] == [(str(path), *r) for r in lost]
    assert all(m["dataset"] == ZEE and m["cause"] for m in ledger["missing"])
    assert ledger["done"] == 8 - len(lost)
    assert not (output / "shards" / "2L" / "manifest.json").exists()
    before = times(output)

    shutil.copy2(whole, path)
    result = select(fileset, output)
    assert result["ledger"] == {"done": 8, "missing": []}
    assert manifest_in(output) == manifest_in(tmp_path / "undisturbed")
    assert not (output / "shards" / "2L" / "ledger.json").exists()
    after = times(output)
    kept = {name for name in before if name.endswith((".parquet", ".receipt.json"))}
    assert len(kept) >= 8 - len(lost)
    assert all(after[name] == before[name] for name in kept), "what was done is not done again"
    one, other = (
        load_histograms(o / "shards/2L/histograms.json") for o in (output, tmp_path / "undisturbed")
    )
    for name, histogram in one.items():
        np.testing.assert_allclose(
            histogram.view(flow=True)["value"], other[name].view(flow=True)["value"], rtol=1e-12, atol=1e-12
        )


def test_incomplete_simulation_is_scaled_where_that_is_allowed(
    own_sample: Any, select: Select, tmp_path: Path
) -> None:
    fileset, output = own_sample.fileset(), tmp_path / "out"
    damage_basket(own_sample.files[ZEE][0], "lep_eta", 3)
    result = select(fileset, output, allow_missing=True)
    manifest = manifest_in(output)
    scales = {name: book["scale"] for name, book in manifest["datasets"].items()}
    assert scales == {ZEE: 330 / 230, "392220.C1N2.2lep": 1.0, DATA: 1.0}
    assert manifest["complete"] is False
    assert not any(is_complete(h) for h in assemble(output, ("2L",)).values())
    assert not any(is_complete(h) for h in load_histograms(output / "histograms.json").values())
    with uproot.open(output / "histograms.root") as file:
        assert "input is missing" in str(file["INCOMPLETE"])
    assert result["ledger"]["missing"][0]["start"] == 100
    shown = result["datasets"][ZEE]
    assert shown["sumw"] == pytest.approx(manifest["datasets"][ZEE]["sumw"] * 330 / 230, rel=1e-12)
    assert shown["cutflow"][result["cuts"][-1]][1] == shown["sumw"]
    book = manifest["datasets"][ZEE]
    assert (book["events_read"], book["events_expected"]) == (230, 330)
    for name, histogram in load_histograms(output / "shards" / "2L" / "histograms.json").items():
        for dataset, own in manifest["datasets"].items():
            total = histogram[{"dataset": dataset}].sum(flow=True)
            assert total.value == pytest.approx(own["scale"] * own["sumw"], rel=1e-12), name
            assert total.variance == pytest.approx(own["scale"] ** 2 * own["sumw2"], rel=1e-12), name


def test_a_file_that_the_audit_let_pass_is_a_range_of_the_ledger(
    own_sample: Any, select: Select, write_mini: Any, tmp_path: Path
) -> None:
    """A sample of two files, of which one is known to hold 100 entries and cannot be opened."""
    fileset, gone = own_sample.fileset(), str(tmp_path / "gone.root")
    files = fileset[ZEE]["files"]
    (whole,) = files
    files[gone] = {
        **files[whole],
        "num_entries": 100,
        "steps": [],
        "uuid": "",
        "unreadable": "does not exist",
    }
    with pytest.raises(FailureError, match=r"gone\.root, entries 0-100 of dataset .* \(does not exist\)"):
        select(fileset, tmp_path / "out")
    result = select(fileset, tmp_path / "out", allow_missing=True)
    manifest = manifest_in(tmp_path / "out")
    assert manifest["complete"] is False
    assert manifest["datasets"][ZEE]["scale"] == 430 / 330
    assert result["ledger"]["missing"] == [
        {"dataset": ZEE, "file": gone, "start": 0, "stop": 100, "cause": "does not exist"}
    ]
    before = times(tmp_path / "out")
    write_mini(Path(gone), 100, seed=2)
    repaired = type(own_sample)({"more": (Path(gone), fileset[ZEE]["metadata"])}).fileset()
    files[gone] = repaired["more"]["files"][gone]
    result = select(fileset, tmp_path / "out")
    assert result["ledger"] == {"done": 9, "missing": []}
    assert result["datasets"][ZEE]["events_read"] == 430
    assert manifest_in(tmp_path / "out")["complete"] is True
    after = times(tmp_path / "out")
    kept = [name for name in before if name.endswith((".parquet", ".receipt.json"))]
    assert all(after[name] == before[name] for name in kept)


def test_missing_collision_data_are_never_made_up_for(
    own_sample: Any, select: Select, tmp_path: Path
) -> None:
    fileset = own_sample.fileset()
    damage_basket(own_sample.files[DATA][0], "lep_pt", 0)
    with pytest.raises(
        FailureError, match=r"data_A\.2lep\.root, entries 0-100: missing events .* cannot be made up"
    ):
        select(fileset, tmp_path, allow_missing=True)
    assert read_json(tmp_path / "shards" / "2L" / "ledger.json")["missing"][0]["dataset"] == DATA
    assert not (tmp_path / "shards" / "2L" / "manifest.json").exists()


def test_simulation_of_which_nothing_can_be_read_is_not_scaled(
    own_sample: Any, select: Select, tmp_path: Path
) -> None:
    fileset = own_sample.fileset()
    own_sample.files[ZEE][0].unlink()
    with pytest.raises(FailureError, match="cannot be made up for"):
        select(fileset, tmp_path, allow_missing=True)


# --- all regions together --------------------------------------------------------------------------------------------


def test_histograms_of_all_regions_come_together(own_sample: Any, select: Select, tmp_path: Path) -> None:
    results = {name: select(own_sample.fileset(), tmp_path, name=name) for name in ("2L", "3L")}
    histograms = assemble(tmp_path, ("2L", "3L"))
    assert {"2L/mll", "3L/mll", "3L/mlll"} <= set(histograms)
    read = load_histograms(tmp_path / "histograms.json")
    for region, result in results.items():
        for dataset, book in result["datasets"].items():
            total = read[f"{region}/mll"][{"dataset": dataset}].sum(flow=True)
            assert total.value == pytest.approx(book["sumw"], rel=1e-12)
            assert total.variance == pytest.approx(book["sumw2"], rel=1e-12)
    with uproot.open(tmp_path / "histograms.root") as file:
        data = results["3L"]["datasets"][DATA]["selected"]
        assert file["3L/mlll/data"].values(flow=True).sum() == data


def test_the_disk_needed_grows_with_the_entries_and_shrinks_without_the_matrix(own_sample: Any) -> None:
    fileset = own_sample.fileset()
    everything, features = (disk_needed(fileset, RMMSettings(write=write)) for write in (True, False))
    assert everything > features > 600 * 100
    assert disk_needed({ZEE: fileset[ZEE]}, RMMSettings()) == pytest.approx(everything * 330 / 600)
