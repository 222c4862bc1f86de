"""The branches expected are those that the schema reads, in types that the releases use."""

import json

import pytest

from fileset.branches import TREES, accepts, expectation
from processors.schema import BRANCHES


@pytest.mark.parametrize("release", ["2020", "2025"])
def test_every_branch_that_the_schema_reads_is_expected(release):
    read = {
        branch
        for collection, fields in BRANCHES[release].items()
        if collection != "photon"  # read only where a matrix with photons is asked for
        for branch in fields.values()
    }
    tree = TREES[release]
    expected = {*tree.branches, *tree.simulation}
    assert read <= expected
    assert expected - read == {"lep_n", "jet_n"}


@pytest.mark.parametrize("release", ["2020", "2025"])
def test_photons_are_expected_where_asked_for(release):
    photons = set(BRANCHES[release]["photon"].values())
    assert not photons & set(expectation(release).branches)
    assert photons < set(expectation(release, photons=True).branches)
    assert expectation(release, photons=True).counters["photon_n"] == tuple(
        BRANCHES[release]["photon"].values()
    )


@pytest.mark.shared
@pytest.mark.parametrize(
    ("release", "key"), [("2020", "2020_mini_observed"), ("2025", "2025_analysis_observed")]
)
def test_the_types_of_the_releases_are_accepted(release, key, shared):
    observed = json.loads((shared / "branches.json").read_text())[key]["branches"]
    tree = TREES[release]
    for name, expected in {**tree.branches, **tree.simulation}.items():
        assert accepts(expected, observed[name]["type"]), name
    for name in (*tree.cross_section, tree.sum_of_weights):
        assert name in observed


@pytest.mark.parametrize(
    ("expected", "typename", "answer"),
    [
        ("real", "float", True),
        ("real", "double", True),
        ("real", "int32_t", False),
        ("real", "std::vector<float>", False),
        ("list of real", "std::vector<float>", True),
        ("list of real", "RVec<double>", True),
        ("list of real", "ROOT::VecOps::RVec<float>", True),
        ("list of real", "float[]", True),
        ("list of real", "float[lep_n]", True),
        ("list of real", "float", False),
        ("list of real", "std::vector<std::vector<float>>", False),
        ("list of integer", "std::vector<uint32_t>", True),
        ("list of integer", "std::vector<float>", False),
        ("integer", "uint64_t", True),
        ("list of boolean", "RVec<bool>", True),
        ("list of boolean", "std::vector<int32_t>", False),
    ],
)
def test_types_are_accepted_by_kind_and_depth(expected, typename, answer):
    assert accepts(expected, typename) is answer
