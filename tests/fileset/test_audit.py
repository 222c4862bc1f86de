"""The audit finds what is wrong with files before anything is computed, and completes the fileset."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import awkward as ak
import numpy as np
import pytest
import uproot

from fileset import audit as audit_module
from fileset.audit import Audit, AuditError, check
from fileset.catalog import load_catalog
from fileset.coffea_forms import with_steps
from fileset.exceptions import FailureError
from fileset.findings import KINDS
from fileset.resolve import resolve, selections
from fileset.settings import FilesetSettings


def audit(path, regions=("2L",), **options) -> Audit:
    return check(resolve(FilesetSettings(fileset=str(path)), regions), **options)


def failure(path, **options) -> tuple[str, Audit]:
    with pytest.raises(AuditError) as caught:
        audit(path, **options)
    assert isinstance(caught.value, FailureError)
    assert "\n" not in str(caught.value)
    return str(caught.value), caught.value.audit


def found(result: Audit, *severities: str) -> set[str]:
    return {finding.kind for finding in result.of_severity(*(severities or ("fatal", "warning", "note")))}


# --- whole files ----------------------------------------------------------------------------------------------


def test_a_whole_skim_passes_but_for_its_size(skim):
    result = audit(skim)
    assert found(result) == {"size"}
    rows = {row["dataset"]: row for row in result.rows()}
    assert rows["361106.Zee.2lep"]["entries"] == 20
    assert rows["361106.Zee.2lep"]["norm_source"] == "catalogue atlas-2020"
    json.dumps(result.to_json())


def test_the_fileset_comes_back_complete_and_in_coffeas_form(skim):
    entry = audit(skim).fileset["361106.Zee.2lep"]
    ((path, spec),) = entry["files"].items()
    assert path.endswith("mc_361106.Zee.2lep.root")
    assert spec == {"object_path": "mini", "steps": [[0, 20]], "num_entries": 20, "uuid": spec["uuid"]}
    metadata = entry["metadata"]
    assert metadata["entries"] == 20
    assert metadata["norm"] == pytest.approx(1950.5295 * 2400 / 150277594200.0)


@pytest.mark.shared
def test_the_real_files_pass(shared):
    result = audit(shared / "open-data-2020" / "4lep", ("2L", "3L"))
    assert found(result, "fatal") == set()
    rows = {row["dataset"]: row["entries"] for row in result.rows()}
    assert rows["data_A.4lep"] + rows["data_B.4lep"] == 195
    assert sum(rows.values()) == 195 + 1938
    # The files at hand are some kB smaller than those of the portal's records.
    assert found(result, "warning") == {"size"}


@pytest.mark.shared
def test_the_real_2025_file_passes(shared):
    result = audit(shared / "open-data-2025" / "exactly4lep", ("2L", "3L"))
    assert result.findings == ()
    (row,) = result.rows()
    assert (row["entries"], row["cluster"]) == (3424, 55)


def test_any_map_gives_the_same_audit_and_progress_reaches_all_files(skim):
    steps = []
    with ThreadPoolExecutor(2) as pool:
        parallel = audit(skim, map=pool.map, progress=lambda done, total: steps.append((done, total)))
    assert parallel.fileset == audit(skim).fileset
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


# --- broken files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_named_with_its_bytes(skim, kept):
    path = skim / "MC" / "mc_361106.Zee.2lep.root"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    message, _ = failure(skim)
    assert str(path) in message
    assert ("truncated" in message and f"of {len(content)} bytes" in message) or "0 bytes" in message


def test_damaged_bytes_are_found_with_their_entries(skim):
    path = skim / "MC" / "mc_361106.Zee.2lep.root"
    with uproot.open(path) as file:
        basket = int(file["mini"]["jet_MV2c10"].member("fBasketSeek")[0])
    content = bytearray(path.read_bytes())
    content[basket + 90 : basket + 110] = bytes(20)
    path.write_bytes(content)
    message, result = failure(skim)
    assert str(path) in message
    (finding,) = result.of_severity("fatal")
    assert finding.kind == "unreadable"
    assert finding.entries == (0, 20)


def test_a_file_without_the_tree_is_named_with_the_trees_it_has(skim, write_file):
    path = write_file(skim / "MC" / "mc_363490.llll.2lep.root", dsid=363490, tree="events")
    message, _ = failure(skim)
    assert f"{path} has no tree 'mini' (trees present: events)" in message


def test_what_is_no_root_file_is_said(skim):
    (skim / "MC" / "mc_361106.Zee.2lep.root").write_text("<html>404</html>")
    assert "is no ROOT file" in failure(skim)[0]


def test_missing_branches_are_named(skim, write_file):
    write_file(skim / "MC" / "mc_361106.Zee.2lep.root", dsid=361106, drop=("lep_z0", "scaleFactor_ELE"))
    assert "has no branch lep_z0, scaleFactor_ELE" in failure(skim)[0]


def test_data_need_no_scale_factors(skim, write_file):
    write_file(skim / "Data" / "data_A.2lep.root", dsid=0, drop=("scaleFactor_ELE", "mcWeight"))
    assert found(audit(skim), "fatal") == set()


def test_a_branch_of_another_type_is_named(skim, write_file):
    flat = {"lep_pt": np.ones(20, np.float32), "met_et": np.ones(20, np.int32)}
    write_file(skim / "MC" / "mc_361106.Zee.2lep.root", dsid=361106, replace=flat)
    _, result = failure(skim)
    messages = [finding.message for finding in result.of_severity("fatal") if finding.kind == "branch type"]
    assert any("lep_pt has type float and not list of real" in message for message in messages)
    assert any("met_et has type int32_t and not real" in message for message in messages)


def test_collections_of_unequal_lengths_are_found_at_their_first_entry(skim, write_file):
    lengths = np.full(20, 2)
    lengths[7] = 3
    ragged = ak.unflatten(np.ones(41, np.float32), lengths)
    write_file(skim / "MC" / "mc_361106.Zee.2lep.root", dsid=361106, replace={"jet_MV2c10": ragged})
    message, result = failure(skim)
    assert "jet_pt has length 2 and jet_MV2c10 3 in entry 7" in message
    assert result.of_severity("fatal")[0].entries == (7, 8)


def test_a_counter_that_does_not_count_is_found(skim, write_file):
    counts = np.full(20, 2, np.int32)
    counts[0] = 1
    write_file(skim / "MC" / "mc_361106.Zee.2lep.root", dsid=361106, replace={"lep_n": counts})
    assert "lep_n 1 in entry 0" in failure(skim)[0]


def test_all_files_are_looked_at_before_the_audit_fails(skim):
    for name in ("mc_361106.Zee", "mc_410000.ttbar_lep"):
        (skim / "MC" / f"{name}.2lep.root").write_bytes(b"root")
    message, result = failure(skim)
    assert "has 2 problems" in message
    assert len(result.records) == 4


# --- twice ----------------------------------------------------------------------------------------------------


def test_a_copied_file_is_found_by_its_uuid(skim):
    shutil.copy(skim / "Data" / "data_A.2lep.root", skim / "Data" / "data_C.2lep.root")
    message, _ = failure(skim)
    assert "are the same file (UUID" in message


def test_an_event_twice_in_one_file_is_found(skim, write_file):
    numbers = np.arange(20, dtype=np.int32)
    numbers[15] = numbers[3]
    write_file(skim / "MC" / "mc_361106.Zee.2lep.root", dsid=361106, replace={"eventNumber": numbers})
    message, result = failure(skim)
    assert "(361106, 284500, 3) in entries 3 and 15" in message
    assert found(result, "fatal") >= {"same event twice"}


def test_events_shared_by_two_data_files_are_found(skim, write_file):
    # Events 15 to 20 of data_A again.
    write_file(skim / "Data" / "data_C.2lep.root", dsid=0, first=15)
    message, result = failure(skim)
    assert "share 6 events" in message
    (finding,) = [finding for finding in result.findings if finding.kind == "same event twice"]
    assert finding.entries == (0, 1)


def test_the_same_event_in_two_skims_is_no_finding(tmp_path, skim, write_file):
    write_file(tmp_path / "3lep" / "Data" / "data_A.3lep.root", dsid=0, first=1)
    assert found(audit(tmp_path, ("2L", "3L"))) == {"size"}


# --- normalisation and names ----------------------------------------------------------------------------------


def test_a_wrong_sum_of_weights_is_a_warning_and_the_files_is_used(skim, write_file):
    write_file(skim / "MC" / "mc_361106.Zee.2lep.root", dsid=361106, xsec=1950.5295, sumw=1e9)
    result = audit(skim)
    assert "in-file normalisation" in found(result, "warning")
    assert result.fileset["361106.Zee.2lep"]["metadata"]["sumw"] == pytest.approx(1e9)


def test_dummies_of_an_unknown_sample_are_fatal(skim, write_file):
    path = write_file(skim / "MC" / "mc_999999.mine.2lep.root", dsid=999999)
    message, _ = failure(skim)
    assert f"{path} holds the dummies XSection = 1 and SumWeights = 1" in message


def test_an_unknown_sample_is_a_warning(skim, write_file):
    write_file(skim / "MC" / "mc_999999.mine.2lep.root", dsid=999999, xsec=2, sumw=10)
    result = audit(skim)
    assert {"unknown sample", "in-file normalisation"} <= found(result, "warning")
    assert result.fileset["999999.mine.2lep"]["metadata"]["norm"] == pytest.approx(2 * 2400 / 10)


def test_a_file_under_a_wrong_name_is_a_warning(skim, write_file):
    write_file(skim / "MC" / "mc_363490.llll.2lep.root", dsid=363491, xsec=1.2578, sumw=7538705.8077)
    assert "channel number" in found(audit(skim), "warning")


def test_an_empty_file_is_a_warning(skim, write_file):
    write_file(skim / "MC" / "mc_363490.llll.2lep.root", dsid=363490, entries=0)
    result = audit(skim)
    assert "empty file" in found(result, "warning")
    assert result.fileset["363490.llll.2lep"]["metadata"]["entries"] == 0


def test_strict_makes_warnings_fatal(skim):
    audit(skim)
    message, _ = failure(skim, strict=True)
    assert "the release's file" in message


def test_the_checksum_of_a_file_of_the_right_size_must_agree(skim, monkeypatch):
    path = skim / "MC" / "mc_361106.Zee.2lep.root"
    known = load_catalog("atlas-2020").remote_file("2lep", path.name)
    of_this_size = replace(known, size=path.stat().st_size)
    monkeypatch.setattr(audit_module, "_remote", lambda _, name: of_this_size if name == str(path) else None)
    assert audit(skim).findings == ()
    message, _ = failure(skim, checksums=True)
    assert "has the checksum adler32:" in message
    assert known.checksum in message


# --- the cache ------------------------------------------------------------------------------------------------


def test_a_second_audit_reads_the_cache_and_says_the_same(skim, tmp_path):
    cache = tmp_path / "cache" / "audit.json"
    first = audit(skim, cache=cache)
    second = audit(skim, cache=cache)
    assert not any(record["from_cache"] for record in first.records.values())
    assert all(record["from_cache"] for record in second.records.values())
    assert second.fileset == first.fileset
    assert second.findings == first.findings


def test_a_changed_file_is_looked_at_again(skim, tmp_path, write_file):
    cache = tmp_path / "audit.json"
    audit(skim, cache=cache)
    path = write_file(skim / "MC" / "mc_361106.Zee.2lep.root", dsid=361106, xsec=2, sumw=3, entries=21)
    records = audit(skim, cache=cache).records
    assert records[str(path)]["entries"] == 21
    assert sum(record["from_cache"] for record in records.values()) == 3


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 0}'])
def test_a_cache_that_cannot_be_read_is_made_anew(skim, tmp_path, content):
    cache = tmp_path / "audit.json"
    cache.write_text(content)
    audit(skim, cache=cache)
    assert json.loads(cache.read_text())["format"] == 1


def test_every_kind_of_finding_has_a_severity_and_a_remedy():
    assert {kind.severity for kind in KINDS.values()} == {"fatal", "warning", "note"}
    assert all(kind.remedy and kind.meaning for kind in KINDS.values())


def test_two_samples_in_one_dataset_are_refused(tmp_path):
    found = resolve(FilesetSettings(fileset="demo", dsids=(361106, 410000)), ("2L",))
    zee, ttbar = found["361106.Zee.2lep"], found["410000.ttbar_lep.2lep"]
    both = {"361106.Zee.2lep": {**zee, "files": zee["files"] | ttbar["files"]}}
    with pytest.raises(AuditError, match="another cross section or sum of weights"):
        check(both)


# --- files that may be missing --------------------------------------------------------------------------------

SAMPLE = {"dsid": 361106, "xsec": 1950.5295, "sumw": 150277594200.0}


@pytest.fixture
def in_two_files(skim, write_file):
    """A sample of 20 and of 30 entries, and data; looked at once when all was whole: what checks it again."""
    one, more = skim / "MC" / "mc_361106.Zee.2lep.root", skim / "MC" / "more.root"
    fileset = resolve(FilesetSettings(fileset=str(skim)), ("2L",))
    fileset["361106.Zee.2lep"]["files"] = {str(one): "mini", str(more): "mini"}
    write_file(more, first=1001, entries=30, **SAMPLE)
    cache = skim.parent / "cache.json"
    check(fileset, cache=cache)
    return more, lambda **options: check(fileset, allow_missing=True, **({"cache": cache} | options))


DAMAGES = {
    "gone": lambda path, _: path.unlink(),
    "cut short": lambda path, _: path.write_bytes(path.read_bytes()[:400]),
    "no tree": lambda path, write: write(path, dsid=361106, tree="events"),
    "without a branch": lambda path, write: write(path, **SAMPLE, first=1001, entries=30, drop=("lep_z0",)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_of_simulation_may_be_missing_where_its_entries_are_known(in_two_files, write_file, damage):
    path, look = in_two_files
    DAMAGES[damage](path, write_file)
    result = look()
    assert found(result, "fatal") == set()
    assert "left out" in found(result, "warning")
    entry = result.fileset["361106.Zee.2lep"]
    spec = entry["files"][str(path)]
    assert (spec["num_entries"], spec["steps"]) == (30, [])
    assert spec["unreadable"]
    assert str(path) not in spec["unreadable"]
    assert entry["metadata"]["entries"] == 50
    steps = with_steps(result.fileset, 10, result.clusters)["361106.Zee.2lep"]["files"]
    assert steps[str(path)] == spec
    with pytest.raises(AuditError):
        look(strict=True)


def test_a_missing_file_whose_entries_nobody_knows_is_refused(in_two_files):
    path, look = in_two_files
    path.unlink()
    with pytest.raises(AuditError, match="how many entries it should have is not known"):
        look(cache=None)


def test_a_sample_of_which_nothing_is_left_is_refused(in_two_files):
    path, look = in_two_files
    for file in (path, path.parent / "mc_361106.Zee.2lep.root"):
        file.unlink()
    with pytest.raises(AuditError, match="has 2 problems"):
        look()


def test_data_are_never_missing(in_two_files):
    path, look = in_two_files
    (path.parents[1] / "Data" / "data_A.2lep.root").unlink()
    with pytest.raises(AuditError, match=r"data_A\.2lep\.root does not exist"):
        look()


def test_a_file_damaged_in_part_is_left_to_who_reads_it(in_two_files):
    path, look = in_two_files
    with uproot.open(path) as file:
        basket = int(file["mini"]["jet_MV2c10"].member("fBasketSeek")[0])
    content = bytearray(path.read_bytes())
    content[basket + 90 : basket + 110] = bytes(20)
    path.write_bytes(content)
    spec = look().fileset["361106.Zee.2lep"]["files"][str(path)]
    assert (spec["num_entries"], spec["steps"]) == (30, [[0, 30]])
    assert "unreadable" not in spec


# --- files that are gone --------------------------------------------------------------------------------------


@pytest.fixture
def again(skim):
    """Audits what a user asks of the directory, with the memory of one output."""

    def look(regions=("2L",), *, allow_missing=False, **asked) -> Audit:
        settings = FilesetSettings(fileset=str(skim), **asked)
        return check(
            resolve(settings, regions),
            cache=skim.parent / "cache.json",
            allow_missing=allow_missing,
            selections=selections(settings, regions),
        )

    return look


@pytest.mark.parametrize("name", ["MC/mc_361106.Zee.2lep.root", "Data/data_A.2lep.root"])
@pytest.mark.parametrize("allow_missing", [False, True])
def test_a_file_that_vanishes_from_a_directory_is_missed(skim, again, name, allow_missing):
    again(("2L", "3L"))
    content = (skim / name).read_bytes()
    (skim / name).unlink()
    with pytest.raises(AuditError, match=r"is gone: bring it back, .* exclude, .* --output") as caught:
        again(("2L",), allow_missing=allow_missing)
    assert str(skim / name) in str(caught.value)
    (finding,) = caught.value.audit.of_severity("fatal")
    assert (finding.kind, finding.file) == ("vanished", str(skim / name))
    with pytest.raises(AuditError, match="is gone"):  # it is not forgotten by failing
        again(("2L",))
    (skim / name).write_bytes(content)
    assert found(again(("2L",)), "fatal") == set()


def test_who_asks_for_less_misses_nothing(skim, again):
    whole = again()
    (skim / "MC" / "mc_361106.Zee.2lep.root").unlink()
    for asked in ({"dsids": (0, 410000)}, {"exclude": (361106,)}, {"groups": ("data",)}):
        assert len(again(**asked).records) < len(whole.records)
    assert len(again(skim="2lep").records) == len(whole.records) - 1


def test_a_file_under_another_name_has_moved(skim, again):
    again()
    path = skim / "MC" / "mc_361106.Zee.2lep.root"
    path.rename(path.with_name("mc_361106.Zee_e.2lep.root"))
    assert found(again(), "fatal") == set()


def test_a_vanished_part_of_a_sample_may_be_missing(skim, write_file, again):
    path = write_file(skim / "MC" / "more" / "mc_361106.Zee.2lep.root", first=1001, entries=30, **SAMPLE)
    again()
    path.unlink()
    for _ in range(2):
        result = again(allow_missing=True)
        entry = result.fileset["361106.Zee.2lep"]
        assert "left out" in found(result, "warning")
        assert entry["files"][str(path)]["num_entries"] == 30
        assert entry["files"][str(path)]["unreadable"]
        assert entry["metadata"]["entries"] == 50


@pytest.mark.parametrize("fileset", ["atlas-2020", "atlas-2025", "atlasopenmagic:2020e"])
def test_only_directories_are_remembered(fileset):
    assert selections(FilesetSettings(fileset=fileset), ("2L",)) == {}
