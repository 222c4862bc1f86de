"""Files are read by root:// and http://; a server that dies is tried again and then reported with file and entries.

The servers are real ones on this machine: Debian's XRootD server, and a web server with range requests.
"""

import json
import os
import pickle
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import uproot
import yaml

from fileset import inspection
from fileset.audit import AuditError, check
from fileset.coffea_forms import with_steps
from fileset.exceptions import FailureError, InputError
from fileset.inspection import Task, inspect_file
from fileset.remote import source_options
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from processors import execution
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.stages.select import select_region
from processors.workers import Workers

TIMEOUT = 3  # s
# Z to ee in four clusters, WZ in one, and the data, of one cluster too, cut in five.
CHUNKSIZE, CHUNKS = 3000, 10
LUMI = 500.0  # 1/pb
DATA, LLLV, ZEE = (
    "2lep/Data/data_A.2lep.root",
    "2lep/MC/mc_363491.lllv.2lep.root",
    "2lep/MC/mc_361106.Zee.2lep.root",
)


# --- the command line over real servers -----------------------------------------------------------------------


@pytest.fixture
def analyse(run_analysis, tmp_path, site):
    """Runs a verb on what the site serves, all output in one directory: `analyse("select")`."""
    addresses = [site.address(file) for file in (DATA, LLLV, ZEE)]
    if site.protocol == "root":
        listed = tmp_path / "files.json"
        names = ("data_A.2lep", "363491.lllv.2lep", "361106.Zee.2lep")
        listed.write_text(
            json.dumps({n: {"files": {a: "mini"}} for n, a in zip(names, addresses, strict=True)})
        )
    else:
        listed = tmp_path / "files.txt"
        listed.write_text("\n".join(addresses))
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump({"execution": {"timeout": TIMEOUT, "chunksize": CHUNKSIZE}, "regions": ["2L"]})
    )

    def run(verb, *flags):
        done = run_analysis(
            verb, *flags, "--fileset", listed, "--config", config, "--output", tmp_path / "out", timeout=90
        )
        assert "Traceback" not in done.stderr
        return done

    run.output = tmp_path / "out"
    return run


def _result(books, output):
    """What must not depend on where files are and on what happened on the way: counts, sums and checksums."""
    manifest = json.loads((output / "shards" / "2L" / "manifest.json").read_text())
    numbers = ("events_expected", "events_read", "selected", "sumw", "sumw2", "cutflow")
    return (
        json.loads(json.dumps({name: {key: book[key] for key in numbers} for name, book in books.items()})),
        {shard["path"]: (shard["rows"], shard["sumw"], shard["checksum"]) for shard in manifest["shards"]},
    )


def _written(output):
    books = json.loads((output / "select.json").read_text())["regions"]["2L"]["datasets"]
    return _result(books, output)


@pytest.fixture(scope="module")
def undisturbed(run_analysis, served, tmp_path_factory):
    """The result from the same files on disk."""
    output = tmp_path_factory.mktemp("local")
    config = output / "config.yaml"
    config.write_text(yaml.safe_dump({"execution": {"chunksize": CHUNKSIZE}, "regions": ["2L"]}))
    done = run_analysis("select", "--fileset", served, "--config", config, "--output", output)
    assert done.returncode == 0, done.stderr
    result = _written(output)
    assert sum(book["selected"] for book in result[0].values()) > 500
    assert len(result[1]) == CHUNKS
    return result


def _receipts(output):
    return {path: path.stat().st_mtime_ns for path in output.rglob("*.receipt.json")}


def test_remote_files_give_what_local_files_give(analyse, undisturbed):
    checked = analyse("check")
    assert checked.returncode == 0, checked.stderr
    found = json.loads((analyse.output / "check.json").read_text())
    assert {row["dataset"]: row["fatal"] for row in found["datasets"]} == {
        "361106.Zee.2lep": 0, "363491.lllv.2lep": 0, "data_A.2lep": 0,
    }  # fmt: skip
    selected = analyse("select")
    assert selected.returncode == 0, selected.stderr
    assert _written(analyse.output) == undisturbed


def test_what_a_dead_server_left_missing_is_named_and_made_up_for_later(analyse, site, served, undisturbed):
    assert analyse("check").returncode == 0
    site.sent, site.dies_after = 0, (served / ZEE).stat().st_size // 2
    died = analyse("select")
    assert site.deaths == 1
    assert died.returncode == 1
    assert not (analyse.output / "select.json").exists()
    ledger = json.loads((analyse.output / "shards" / "2L" / "ledger.json").read_text())
    before = _receipts(analyse.output)
    assert 0 < len(before) == ledger["done"] < CHUNKS
    # Chunks go by the name of their dataset: Z to ee was being read.
    first = ledger["missing"][0]
    assert first["file"] == site.address(ZEE)
    assert 0 < first["start"] < first["stop"]
    assert f"{first['file']}, entries {first['start']}-{first['stop']}" in died.stderr
    assert re.search("[Cc]onnect", first["cause"])
    assert {entry["file"] for entry in ledger["missing"]} == set(map(site.address, (ZEE, LLLV, DATA)))
    assert len(ledger["missing"]) == CHUNKS - ledger["done"]

    site.start()
    again = analyse("select")
    assert again.returncode == 0, again.stderr
    after = _receipts(analyse.output)
    assert {path: after[path] for path in before} == before  # only what was missing was done
    assert _written(analyse.output) == undisturbed


def test_a_server_that_dies_during_the_audit_is_reported_with_file_and_entries(analyse, site, served):
    site.dies_after = (served / ZEE).stat().st_size // 2
    died = analyse("check", "--dsid", 361106, "--lumi", 500)
    assert died.returncode == 1
    assert re.search(rf"{site.address(ZEE)} cannot be read \(.*\) in entries 0 to \d+", died.stderr)
    found = json.loads((analyse.output / "check.json").read_text())
    assert found["files"][site.address(ZEE)]["error"]


# --- the stage select -----------------------------------------------------------------------------------------


@pytest.fixture
def audited(site, tmp_path):
    """The fileset of addresses, audited, in chunks of one cluster each; what comes next is the selection."""

    def audited(*files):
        listed = tmp_path / "files.txt"
        listed.write_text("\n".join(map(site.address, files)))
        audit = check(resolve(FilesetSettings(fileset=str(listed), lumi_pb=LUMI), ["2L"]), timeout=TIMEOUT)
        site.sent = 0
        return with_steps(audit.fileset, CHUNKSIZE, audit.clusters)

    return audited


def _select(fileset, output):
    with Workers(ExecutionSettings(timeout=TIMEOUT)) as workers:
        return select_region(
            fileset,
            name="2L",
            region=REGIONS["2L"],
            weights=WeightSettings(),
            rmm=RMMSettings(),
            workers=workers,
            output=output,
        )


def test_a_server_that_comes_back_soon_is_no_failure(audited, site, served, undisturbed, tmp_path):
    fileset = audited(DATA, LLLV, ZEE)
    site.absent, site.dies_after = 0.5, (served / ZEE).stat().st_size // 2
    result = _select(fileset, tmp_path)
    assert site.deaths == 1
    assert result["ledger"] == {"done": CHUNKS, "missing": []}
    assert _result(result["datasets"], tmp_path) == undisturbed


def test_a_server_that_hangs_is_waited_for_no_longer_than_allowed(audited, site, served, tmp_path):
    fileset = audited(LLLV)
    site.hangs_after = (served / LLLV).stat().st_size // 2
    begin = time.monotonic()
    with pytest.raises(
        FailureError, match=rf"{site.address(LLLV)}, entries 0-.*no answer within {TIMEOUT} s"
    ):
        _select(fileset, tmp_path)
    # Two attempts, each with a second that XRootD's clock rounds up and with what closing may take.
    assert time.monotonic() - begin < execution.PAUSE + 2 * (TIMEOUT + 1 + TIMEOUT) + 5


# --- one file -------------------------------------------------------------------------------------------------


@pytest.fixture
def server(web_server, whole_skim, monkeypatch):
    monkeypatch.setattr(inspection, "PAUSES", (0.01, 0.01))
    return web_server(whole_skim)


def _listed(server, tmp_path):
    names = ["Data/data_A.2lep.root", "MC/mc_361106.Zee.2lep.root"]
    listed = tmp_path / "files.txt"
    listed.write_text("\n".join(f"http://127.0.0.1:{server.server_port}/{name}" for name in names))
    return resolve(FilesetSettings(fileset=str(listed)), ["2L"])


def test_remote_files_pass_like_local_ones(server, tmp_path):
    audit = check(_listed(server, tmp_path), timeout=10)
    assert [row["entries"] for row in audit.rows()] == [20, 20]
    assert not audit.of_severity("fatal")


def test_a_server_that_dies_is_reported_by_file_and_entries(server, tmp_path):
    fileset = _listed(server, tmp_path)
    (path,) = fileset["361106.Zee.2lep"]["files"]
    task = Task(path, "mini", "2020", simulation=True, timeout=10)
    assert not inspect_file(task)["error"]
    needed = server.answered
    server.answered, server.dies_at = 0, needed
    record = inspect_file(task)
    assert "cannot be read" in record["error"]
    assert record["error_entries"] == [0, 20]
    server.answered, server.dies_at = 0, 2
    with pytest.raises(AuditError, match="mc_361106"):
        check(fileset, timeout=10)


def test_a_server_that_comes_back_is_no_failure(server, tmp_path):
    server.dies_at, server.lives_again = 5, 6
    audit = check(_listed(server, tmp_path), timeout=10)
    assert not audit.of_severity("fatal")


def test_a_remote_file_that_does_not_exist_is_said_at_once(site):
    task = Task(site.address("2lep/MC/x.root"), "mini", "2020", simulation=True, timeout=10)
    assert inspect_file(task)["error"] == "does not exist"


def test_a_server_that_accepts_and_never_answers_is_given_up(site, monkeypatch):
    monkeypatch.setattr(inspection, "PAUSES", (0.01,))
    site.hangs_after = 0
    begin = time.monotonic()
    record = inspect_file(Task(site.address(ZEE), "mini", "2020", simulation=True, timeout=1))
    assert record["error"] == "cannot be read (TimeoutError: no answer within 1 s)"
    assert time.monotonic() - begin < 2 * (1 + 2)  # two attempts, each with what XRootD's clock rounds up


def test_a_read_that_dies_is_an_os_error(site, served):
    with uproot.open(site.address(ZEE), **source_options(TIMEOUT)) as file:
        tree = file["mini"]
        assert len(tree["lep_pt"].array(library="np")) == tree.num_entries
        site.kill()
        with pytest.raises(OSError, match="onnect"):
            tree["jet_pt"].array()
        with pytest.raises(OSError, match="onnect"):
            uproot.open(site.address(ZEE), **source_options(TIMEOUT))
    site.start()
    with uproot.open(site.address(ZEE), **source_options(TIMEOUT)) as file:
        assert len(file["mini"]["jet_pt"].array()) == tree.num_entries


def test_files_by_xrootd_need_the_extra(monkeypatch):
    monkeypatch.setattr("fileset.audit.find_spec", lambda _: None)
    fileset = resolve(FilesetSettings(fileset="atlas-2020", dsids=(364100,)), ["2L"])
    with pytest.raises(InputError, match=r"install the extra \[xrootd\]"):
        check(fileset)


# --- a file of this machine that is read chunk by chunk ----------------------------------------------------------


def kept():
    """The options as a worker gets them with each chunk."""
    return pickle.loads(pickle.dumps(source_options(TIMEOUT, keep=True)))


def written(path, values):
    with uproot.recreate(path) as file:
        file.mktree("mini", {"x": np.float32})
        file["mini"].extend({"x": np.asarray(values, np.float32)})
    return str(path)


def test_the_tree_is_kept_for_the_next_chunk_without_a_handle(tmp_path):
    path = written(tmp_path / "one.root", [1, 2, 3])
    with uproot.open(path, **kept()) as file:
        tree = file["mini"]
        assert tree["x"].array(library="np").tolist() == [1, 2, 3]
        requested = file.file.source.num_requested_bytes
    with pytest.raises(OSError, match="closed"):
        tree["x"].array(entry_stop=2)
    with uproot.open(path, **kept()) as file:
        assert file["mini"] is tree
        assert tree["x"].array(entry_start=1, library="np").tolist() == [2, 3]
        assert file.file.source.num_requested_bytes < requested  # those of this chunk
    with uproot.open(path, **source_options(TIMEOUT)) as file:
        assert file["mini"] is not tree


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    path, other = written(tmp_path / "one.root", [1, 2, 3]), written(tmp_path / "other.root", [4, 5, 6])
    with uproot.open(path, **kept()) as file:
        assert file["mini"]["x"].array(library="np").tolist() == [1, 2, 3]
    Path(other).replace(path)
    with uproot.open(path, **kept()) as file:
        assert file["mini"]["x"].array(library="np").tolist() == [4, 5, 6]
    os.truncate(path, 200)
    with (
        pytest.raises((OSError, ValueError, uproot.DeserializationError)),
        uproot.open(path, **kept()) as file,
    ):
        file["mini"]["x"].array()


def test_another_file_takes_the_place_of_the_first(tmp_path):
    one, two = written(tmp_path / "one.root", [1, 2, 3]), written(tmp_path / "two.root", [4, 5, 6])
    trees = []
    for path in (one, two, one):
        with uproot.open(path, **kept()) as file:
            trees.append(file["mini"])
            assert trees[-1]["x"].array(library="np").tolist() == ([1, 2, 3] if path == one else [4, 5, 6])
    assert trees[0] is not trees[2]


def test_files_that_are_open_at_once_do_not_disturb_each_other(tmp_path):
    path = written(tmp_path / "one.root", [1, 2, 3])
    with uproot.open(path, **kept()) as outer:
        tree = outer["mini"]
        trees = []

        def of_a_thread():
            with uproot.open(path, **kept()) as file:
                trees.append(file["mini"])

        thread = threading.Thread(target=of_a_thread)
        thread.start()
        thread.join()
        with uproot.open(path, **kept()) as inner:
            trees.append(inner["mini"])
        assert tree["x"].array(library="np").tolist() == [1, 2, 3]
    assert all(other is not tree for other in trees)
