"""Cross section and sum of weights come from the most trustworthy source, and it is said from which."""

import pytest

from fileset.catalog import load_catalog
from fileset.exceptions import InputError
from fileset.normalisation import InFile, Knowledge, luminosity, normalise

RELEASE = load_catalog("atlas-2020")
ONLY_RELEASE = Knowledge(None, RELEASE)


def of(dsid, in_file, knowledge=ONLY_RELEASE, skim="2lep"):
    metadata = {
        "dsid": dsid,
        "skim": skim,
        "kind": "background",
        "lumi_pb": 10064.0,
        "dataset": f"{dsid}.x.{skim}",
    }
    return normalise(metadata, in_file, knowledge, file="x.root")


def kinds(findings):
    return [(finding.kind, finding.severity) for finding in findings]


def test_the_catalogue_is_used_where_the_file_agrees_within_float32():
    chosen, findings = of(361106, InFile(1950.5295, 150277594200.0 * (1 + 5e-5)))
    assert chosen["norm_source"] == "catalogue atlas-2020"
    assert chosen["norm"] == pytest.approx(1950.5295 * 10064 / 150277594200.0, rel=1e-12)
    assert findings == []


def test_the_file_is_used_with_a_warning_where_its_sum_of_weights_differs():
    chosen, findings = of(361106, InFile(1950.5295, 150277594200.0 * (1 + 3e-4)))
    assert chosen["norm_source"] == "in-file"
    assert chosen["sumw"] == pytest.approx(150277594200.0 * (1 + 3e-4))
    assert kinds(findings) == [("in-file normalisation", "warning")]


@pytest.mark.parametrize("dsid", [410155, 410218, 410219])
def test_known_dummies_are_replaced_and_explained(dsid):
    chosen, findings = of(dsid, InFile(1.0, 1.0))
    assert chosen["norm_source"] == "catalogue atlas-2020"
    assert chosen["xsec_pb"] == RELEASE.samples[dsid].xsec_pb
    assert kinds(findings) == [("known in file", "note")]
    assert "dummies" in findings[0].message


@pytest.mark.parametrize("dsid", [361106, 999999])
def test_dummies_that_are_not_known_are_fatal_and_name_the_file(dsid):
    chosen, findings = of(dsid, InFile(1.0, 1.0))
    assert chosen["norm"] is None
    assert kinds(findings) == [("no normalisation", "fatal")]
    assert "x.root" in findings[0].message


def test_a_cross_section_that_lacks_a_factor_is_explained():
    # dmV_Zll: the file's 11.55 pb lack the filter efficiency of 0.117.
    chosen, findings = of(303511, InFile(11.55, 10000.0))
    assert chosen["xsec_pb"] == pytest.approx(1.35135)
    assert kinds(findings) == [("known in file", "note")]
    assert "filter efficiency" in findings[0].message


def test_another_cross_section_in_the_file_is_a_warning():
    chosen, findings = of(361106, InFile(1901.1, 150277594200.0))
    assert chosen["xsec_pb"] == 1950.5295
    assert kinds(findings) == [("cross section", "warning")]


def test_an_unpublished_sum_of_weights_is_taken_from_the_file():
    chosen, findings = of(364250, InFile(1.2516, 1234.0))
    assert (chosen["xsec_pb"], chosen["sumw"], chosen["norm_source"]) == (1.2516, 1234.0, "in-file")
    assert kinds(findings) == [("sum of weights from file", "note")]


def test_an_unknown_sample_is_normalised_from_its_file_with_a_warning():
    chosen, findings = of(999999, InFile(2.0, 50.0))
    assert chosen["norm"] == pytest.approx(2.0 * 10064 / 50)
    assert kinds(findings) == [("in-file normalisation", "warning")]


def test_a_catalogue_beside_the_files_wins(tmp_path, write_catalog):
    sample = {"name": "Zee", "group": "Zjets", "kind": "background", "xsec_pb": 100.0, "sumw": {"2lep": 5.0}}
    beside = load_catalog(write_catalog(tmp_path, {361106: sample}))
    chosen, findings = of(361106, InFile(100.0, 6.0), Knowledge(beside, RELEASE))
    assert (chosen["sumw"], chosen["norm_source"]) == (5.0, "catalog.yaml beside the files")
    assert kinds(findings) == [("sum of weights", "warning")]


def test_data_have_weight_one():
    chosen, findings = normalise({"kind": "data", "dsid": 0, "skim": "2lep"}, InFile(1, 1), ONLY_RELEASE)
    assert (chosen["norm"], chosen["norm_source"]) == (1.0, "data")
    assert findings == []


@pytest.mark.parametrize(
    ("periods", "expected"),
    [
        ([], 10064),
        (["data_A"], 500),
        (["data_B", "data_D"], 6600),
        (["data_A", "data_B", "data_C", "data_D"], 10064),
    ],
)
def test_luminosity_follows_the_periods(periods, expected):
    assert luminosity(ONLY_RELEASE, "2lep", periods, needed=True) == expected


def test_single_periods_of_2025_have_no_published_luminosity():
    knowledge = Knowledge(None, load_catalog("atlas-2025"))
    assert luminosity(knowledge, "3lep", ["data15_periodD"], needed=False) is None
    with pytest.raises(InputError, match="luminosity of data15_periodD"):
        luminosity(knowledge, "3lep", ["data15_periodD"], needed=True)
    assert luminosity(knowledge, "3lep", ["data15_periodD"], needed=True, override=113.0) == 113.0
    everything = [file.name for file in load_catalog("atlas-2025").files["3lep"] if not file.dsid]
    assert len(everything) == 16
    assert luminosity(knowledge, "3lep", everything, needed=True) == 36100
