"""What the user names becomes a coffea fileset, or one sentence that says what is wrong."""

import json
import re
from pathlib import Path

import pytest
from coffea.processor.executor import _PROTECTED_NAMES

from fileset.catalog import DEMO
from fileset.exceptions import InputError
from fileset.resolve import resolve
from fileset.settings import FilesetSettings

BOTH = ("2L", "3L")


def fileset_of(name, regions=BOTH, **settings):
    return resolve(FilesetSettings(fileset=str(name), **settings), regions)


def refusal(name, regions=BOTH, **settings):
    with pytest.raises(InputError) as caught:
        fileset_of(name, regions, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


# --- catalogues -----------------------------------------------------------------------------------------------


def test_a_release_is_read_from_the_skim_of_each_region():
    fileset = fileset_of("atlas-2020")
    by_region = {
        region: {e["metadata"]["skim"] for e in fileset.values() if region in e["metadata"]["regions"]}
        for region in BOTH
    }
    assert by_region == {"2L": {"2lep"}, "3L": {"3lep"}}
    # 225 files of the 2lep skim, without the nine inclusive Powheg samples and without 364250.
    assert sum(entry["metadata"]["skim"] == "2lep" for entry in fileset.values()) == 225 - 9 - 1
    json.dumps(fileset)


def test_metadata_hold_what_later_stages_need():
    entry = fileset_of("atlas-2020", dsids=[392226])["392226.C1N2_WZ_100p0_0p0_3L_2L7.3lep"]
    metadata = entry["metadata"]
    assert metadata["kind"] == "signal"
    assert (metadata["group"], metadata["process"]) == ("SUSYC1N2", "C1N2_WZ_100p0_0p0_3L_2L7")
    assert metadata["model"] == {"m_C1N2_GeV": 100.0, "m_N1_GeV": 0.0, "final_state": "3L"}
    assert metadata["norm"] == pytest.approx(0.498405594624 * 10064 / 21798.5046117)
    assert metadata["norm_source"] == "catalogue atlas-2020"
    assert metadata["doi"] == "10.7483/OPENDATA.ATLAS.DN95.JW6T"
    assert metadata["sample"] == "atlas-open-data"


def test_metadata_hold_no_word_that_coffea_reserves():
    for entry in fileset_of("atlas-2020").values():
        assert not _PROTECTED_NAMES & set(entry["metadata"])


def test_the_protocol_decides_the_address():
    (path,) = fileset_of("atlas-2020", ["2L"], dsids=[364100], protocol="https")[
        "364100.Zmumu_PTV0_70_CVetoBVeto.2lep"
    ]["files"]
    assert path.startswith("https://opendata.cern.ch/eos/")


def test_local_files_come_first(tmp_path, write_file):
    local = write_file(tmp_path / "2lep" / "MC" / "mc_410000.ttbar_lep.2lep.root", dsid=410000)
    fileset = fileset_of("atlas-2020", ["2L"], dsids=[410000, 363490], local=tmp_path)
    assert list(fileset["410000.ttbar_lep.2lep"]["files"]) == [str(local)]
    assert next(iter(fileset["363490.llll.2lep"]["files"])).startswith("root://")


def test_asking_for_overlapping_samples_is_an_error_that_says_which_to_drop():
    message = refusal("atlas-2020", dsids=["364100-364141", 361106])
    assert "drop inclusive Powheg (361106), or Sherpa PTV slices" in message


def test_one_of_two_overlapping_samples_may_be_asked_for():
    assert list(fileset_of("atlas-2020", ["2L"], dsids=[361106])) == ["361106.Zee.2lep"]
    groups = fileset_of("atlas-2020", ["2L"], groups=["Zjets"])
    assert all("PTV" in dataset for dataset in groups)


def test_groups_choose_data_too():
    kinds = {
        entry["metadata"]["kind"] for entry in fileset_of("atlas-2020", groups=["data", "Higgs"]).values()
    }
    assert kinds == {"data", "background"}


def test_groups_of_the_2025_release_that_are_left_out_can_be_asked_for():
    default = {entry["metadata"]["group"] for entry in fileset_of("atlas-2025").values()}
    assert not default & {"Vgamma", "ttgamma", "photons", "multijet"}
    assert {e["metadata"]["group"] for e in fileset_of("atlas-2025", groups=["multijet"]).values()} == {
        "multijet"
    }


def test_luminosity_is_that_of_the_data_read(skim):
    assert {e["metadata"]["lumi_pb"] for e in fileset_of(skim).values()} == {500 + 1900}
    without_data = fileset_of(skim, exclude=[0])
    assert {e["metadata"]["lumi_pb"] for e in without_data.values()} == {10064}
    assert {e["metadata"]["lumi_pb"] for e in fileset_of(skim, lumi_pb=3000).values()} == {3000}


def test_all_four_periods_are_the_full_luminosity():
    data = fileset_of("atlas-2020", groups=["data"])
    assert {entry["metadata"]["lumi_pb"] for entry in data.values()} == {10064}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"groups": ["Zjet"]}, "did you mean Zjets"),
        ({"dsids": [364199]}, "the nearest is 364197"),
        ({"skim": "5lep"}, "there are 2lep, 3lep, 4lep, exactly2lep"),
        ({"skim": "exactly2lep"}, "no event of region 3L"),
        ({"dsids": [303329], "skim": "3lep"}, "no file of dataset number 303329 in 3lep"),
        ({"local": Path("nowhere")}, "nowhere does not exist"),
    ],
)
def test_what_a_catalogue_does_not_have_is_said(settings, said):
    assert said in refusal("atlas-2020", **settings)


def test_an_unknown_region_is_refused_with_those_known():
    assert "there are 2L, 3L" in refusal("atlas-2020", ["4L"])


# --- directories ----------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_the_real_4lep_skim_serves_both_regions(shared):
    fileset = fileset_of(shared / "open-data-2020" / "4lep")
    assert list(fileset) == [
        "361106.Zee.4lep",
        "361108.Ztautau.4lep",
        "410000.ttbar_lep.4lep",
        "data_A.4lep",
        "data_B.4lep",
    ]
    assert all(entry["metadata"]["regions"] == ["2L", "3L"] for entry in fileset.values())
    assert fileset["data_A.4lep"]["metadata"]["norm"] == 1.0
    assert fileset["361106.Zee.4lep"]["metadata"]["group"] == "Zjets"


@pytest.mark.shared
def test_the_real_2025_file_is_read_from_a_plain_directory(shared):
    fileset = fileset_of(shared / "open-data-2025" / "exactly4lep")
    assert list(fileset["data15_periodD.exactly4lep"]["files"].values()) == ["analysis"]
    metadata = fileset["data15_periodD.exactly4lep"]["metadata"]
    assert (metadata["release"], metadata["kind"], metadata["norm"]) == ("2025", "data", 1.0)


@pytest.mark.shared
def test_a_skim_that_serves_no_region_must_be_named(shared):
    above = shared / "open-data-2020"
    assert "needs the skim 2lep or exactly2lep" in refusal(above)
    assert "has 4lep" in refusal(above)
    assert len(fileset_of(above, skim="4lep")) == 5


def test_a_directory_of_skims_is_read_region_by_region(tmp_path, skim, write_file):
    write_file(tmp_path / "3lep" / "MC" / "mc_410000.ttbar_lep.3lep.root", dsid=410000)
    fileset = fileset_of(tmp_path)
    assert fileset["410000.ttbar_lep.3lep"]["metadata"]["regions"] == ["3L"]
    assert fileset["410000.ttbar_lep.2lep"]["metadata"]["regions"] == ["2L"]


def test_a_missing_skim_is_named_with_those_that_exist(tmp_path, skim):
    message = refusal(tmp_path)
    assert "Region 3L needs the skim 3lep" in message
    assert "has 2lep" in message
    assert len(fileset_of(tmp_path, ["2L"])) == 4


def test_overlapping_samples_in_a_directory_are_refused_until_one_is_left_out(skim, write_file):
    write_file(skim / "MC" / "mc_364114.Zee_PTV0_70_CVetoBVeto.2lep.root", dsid=364114)
    assert "drop inclusive Powheg (361106)" in refusal(skim)
    assert "361106.Zee.2lep" not in fileset_of(skim, exclude=["361100-361108"])


@pytest.mark.parametrize("place", ["beside", "above"])
def test_a_catalogue_beside_the_files_comes_first(tmp_path, skim, write_catalog, place):
    sample = {"name": "Zee", "group": "Zjets", "kind": "background", "xsec_pb": 100.0, "sumw": {"2lep": 5.0}}
    write_catalog(skim if place == "beside" else tmp_path, {361106: sample})
    metadata = fileset_of(skim, ["2L"])["361106.Zee.2lep"]["metadata"]
    assert metadata["norm"] == pytest.approx(100.0 * 1000.0 / 5.0)
    assert metadata["norm_source"] == "catalog.yaml beside the files"
    assert metadata["label"] == "$Z$"
    assert metadata["sample"] == "demo-simulation"


def test_unknown_data_periods_need_a_luminosity(skim, write_file):
    write_file(skim / "Data" / "data_Q.2lep.root", dsid=0, first=501)
    assert "luminosity of data_Q" in refusal(skim)
    assert fileset_of(skim, lumi_pb=100)["361106.Zee.2lep"]["metadata"]["lumi_pb"] == 100


def test_what_cannot_be_read_is_said(tmp_path):
    assert "nothing here" in refusal(tmp_path / "nothing here")
    assert "does not exist" in refusal(tmp_path / "nothing")
    assert "holds no .root file" in refusal(tmp_path)
    (tmp_path / "odd.root").touch()
    assert "tells no dataset number" in refusal(tmp_path)
    assert "did you mean atlas-2025" in refusal("atlas-2052")
    assert "there are demo, atlas-2020, atlas-2025" in refusal("zzz")


def test_nothing_left_is_said(skim):
    assert "left" in refusal(skim, dsids=[361106], exclude=[361106])
    assert "no file of dataset number 5" in refusal(skim, dsids=[5])
    assert "there are Zjets, data, ttbar" in refusal(skim, groups=["qqqqqq"])


# --- lists and filesets ---------------------------------------------------------------------------------------


def test_a_text_list_is_read(tmp_path, skim):
    listed = tmp_path / "files.txt"
    listed.write_text("# mine\n2lep/MC/mc_361106.Zee.2lep.root\n\nroot://h//mc_410000.ttbar_lep.2lep.root\n")
    fileset = fileset_of(listed)
    assert list(fileset["361106.Zee.2lep"]["files"]) == [str(skim / "MC" / "mc_361106.Zee.2lep.root")]
    assert list(fileset["410000.ttbar_lep.2lep"]["files"]) == ["root://h//mc_410000.ttbar_lep.2lep.root"]


def test_one_file_or_address_is_a_fileset(skim):
    path = skim / "MC" / "mc_361106.Zee.2lep.root"
    assert list(fileset_of(path)["361106.Zee.2lep"]["files"]) == [str(path)]
    address = "root://host//mc_361106.Zee.2lep.root"
    assert list(fileset_of(address)["361106.Zee.2lep"]["files"]) == [address]


def test_the_demo_sample_is_a_fileset_of_both_regions():
    if not (DEMO / "catalog.yaml").is_file():
        pytest.skip("the demo sample is not there")
    fileset = fileset_of("demo")
    assert {entry["metadata"]["sample"] for entry in fileset.values()} == {"demo-simulation"}
    sources = {e["metadata"]["norm_source"] for e in fileset.values() if e["metadata"]["kind"] != "data"}
    assert sources == {"catalog.yaml beside the files"}
    assert {region for entry in fileset.values() for region in entry["metadata"]["regions"]} == set(BOTH)


def test_a_coffea_fileset_is_read_again(tmp_path, skim):
    first = fileset_of(skim)
    path = tmp_path / "fileset.json"
    path.write_text(json.dumps(first))
    assert fileset_of(path) == first


def test_a_coffea_fileset_keeps_what_it_says_of_its_datasets(tmp_path, skim):
    file = str(skim / "MC" / "mc_361106.Zee.2lep.root")
    metadata = {"kind": "signal", "group": "mine", "label": "Mine", "color": "#123456"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"my Z": {"files": {file: "mini"}, "metadata": metadata}}))
    entry = fileset_of(path, ["2L"])["my Z"]
    assert {key: entry["metadata"][key] for key in metadata} == metadata


@pytest.mark.parametrize("content", ["[", "[]", "{}", '{"a": {}}', '{"a": {"files": []}}'])
def test_what_is_no_coffea_fileset_is_refused(tmp_path, content):
    path = tmp_path / "fileset.json"
    path.write_text(content)
    assert re.search("not a (coffea fileset|JSON file)", refusal(path))


def test_listed_files_must_exist(tmp_path):
    listed = tmp_path / "files.txt"
    listed.write_text("mc_361106.Zee.2lep.root\n")
    assert "does not exist" in refusal(listed)
    listed.write_text("# nothing\n")
    assert "lists no file" in refusal(listed)


# --- regions of one's own, filesets that were written before ---------------------------------------------------


def test_a_region_of_ones_own_reads_the_skim_it_names():
    found = resolve(
        FilesetSettings(fileset="demo"), {"2L": ("2lep",), "three-leptons-no-b": ("4lep", "3lep")}
    )
    served = {(entry["metadata"]["skim"], *entry["metadata"]["regions"]) for entry in found.values()}
    assert served == {("2lep", "2L"), ("3lep", "three-leptons-no-b")}
    with pytest.raises(InputError, match="needs the skim 5lep"):
        resolve(FilesetSettings(fileset="demo"), {"mine": ("5lep",)})


def _written(tmp_path, change):
    found = resolve(FilesetSettings(fileset="demo", dsids=(361106,), lumi_pb=7.0), {"2L": ("2lep",)})
    change(found["361106.Zee.2lep"]["metadata"])
    path = tmp_path / "fileset.json"
    path.write_text(json.dumps(found))
    return resolve(FilesetSettings(fileset=str(path)), {"2L": ("2lep",)})["361106.Zee.2lep"]["metadata"]


def test_a_fileset_that_was_written_before_keeps_its_luminosity_and_normalisation(tmp_path):
    metadata = _written(tmp_path, lambda _: None)
    assert metadata["lumi_pb"] == 7.0
    assert metadata["norm"] == pytest.approx(metadata["xsec_pb"] * 7.0 / metadata["sumw"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"xsec_pb": 12345.0}, "xsec_pb 12345"),
        ({"kind": "bckground"}, "kind 'bckground'"),
        ({"dsid": "abc"}, "dsid 'abc'"),
    ],
)
def test_a_fileset_that_says_something_else_is_refused(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        _written(tmp_path, lambda metadata: metadata.update(change))
