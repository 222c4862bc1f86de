"""The catalogues say what the releases' metadata say, and forbid adding what overlaps."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fileset import catalog as module
from fileset.catalog import expand_dsids, load_catalog
from fileset.exceptions import InputError

RELEASES = ("atlas-2020", "atlas-2025")
BACKGROUNDS = {"Zjets", "Wjets", "ttbar", "singletop", "diboson", "ttV", "Higgs"}
FAMILIES = (
    "SUSYSlepSlep",
    "SUSYC1C1",
    "SUSYC1N2",
    "GG_ttn1",
    "TT_directTT",
    "Zprime_ee",
    "Zprime_mumu",
    "Zprime_tt",
    "RS_G_ZZ",
    "G_ee",
    "G_mumu",
    "dmV_Zll",
)


@pytest.mark.shared
@pytest.mark.parametrize("release", RELEASES)
def test_every_address_size_and_checksum_is_that_of_the_metadata(release, shared):
    metadata = json.loads((shared / f"metadata_{release[-4:]}.json").read_text())
    expected = {
        (skim, file["uri"], file["size"], file["checksum"])
        for sample in metadata["samples"].values()
        for skim, file in sample["files"].items()
    } | {
        (skim, file["uri"], file["size"], file["checksum"])
        for skim, files in metadata["_about"]["data_files"].items()
        for file in files.values()
    }
    known = {
        (skim, file.uri("root"), file.size, file.checksum)
        for skim, files in load_catalog(release).files.items()
        for file in files
    }
    if release == "atlas-2025":
        assert {skim for skim, *_ in known} == {"2to4lep", "3lep", "exactly3lep", "2J2LMET30"}
        expected = {
            entry for entry in expected if entry[0] in {"2to4lep", "3lep", "exactly3lep", "2J2LMET30"}
        }
    assert known == expected


@pytest.mark.shared
def test_2020_cross_sections_and_sums_of_weights_are_those_of_the_metadata(shared):
    metadata = json.loads((shared / "metadata_2020.json").read_text())
    catalog = load_catalog("atlas-2020")
    assert set(catalog.samples) == {int(dsid) for dsid in metadata["samples"]}
    assert len(catalog.samples) == 228
    for dsid, facts in metadata["samples"].items():
        sample = catalog.samples[int(dsid)]
        assert (sample.name, sample.xsec_pb) == (facts["name"], facts["xsec_pb"])
        assert (sample.kind == "signal") == facts["is_signal"]
        assert set(sample.sumw.values()) == ({facts["sumw"]} if facts["sumw"] is not None else set())
        assert dict(sample.model) == (facts.get("model_params") or {})


@pytest.mark.shared
def test_2025_cross_sections_hold_k_factor_and_filter_efficiency(shared):
    metadata = json.loads((shared / "metadata_2025.json").read_text())
    catalog = load_catalog("atlas-2025")
    assert set(catalog.samples) == {int(dsid) for dsid in metadata["samples"]}
    assert len(catalog.samples) == 373
    for dsid, facts in metadata["samples"].items():
        sample = catalog.samples[int(dsid)]
        product = facts["cross_section_pb"] * facts["genFiltEff"] * facts["kFactor"]
        assert sample.xsec_pb == pytest.approx(product, rel=1e-12)
        assert (sample.k_factor, sample.filter_efficiency) == (facts["kFactor"], facts["genFiltEff"])
        assert set(sample.sumw.values()) == {facts["sumOfWeights"]}
        assert sample.kind == "signal" or not facts["is_signal"]


@pytest.mark.parametrize("release", RELEASES)
def test_every_sample_belongs_to_a_group_of_its_kind(release):
    catalog = load_catalog(release)
    for sample in catalog.samples.values():
        assert catalog.groups[sample.group].kind == sample.kind, sample
    assert {key for key, group in catalog.groups.items() if group.kind == "background"} >= BACKGROUNDS
    assert {sample.group for sample in catalog.samples.values()} | {"data"} == set(catalog.groups)


def test_the_signal_families_are_the_twelve_of_the_report():
    catalog = load_catalog("atlas-2020")
    assert catalog.families == FAMILIES
    assert all(sample.model for sample in catalog.samples.values() if sample.kind == "signal")


@pytest.mark.parametrize("release", RELEASES)
def test_backgrounds_and_signals_are_told_apart_by_colour_and_order(release):
    groups = [group for group in load_catalog(release).groups.values() if group.kind != "data"]
    backgrounds = [group.color for group in groups if group.kind == "background"]
    signals = [group.color for group in groups if group.kind == "signal"]
    assert len(set(backgrounds)) == len(backgrounds)
    assert len(set(signals)) == len(signals)
    assert len({group.order for group in groups}) == len(groups)
    assert all(len(color) == 7 and int(color[1:], 16) >= 0 for color in backgrounds + signals)


def test_dummies_in_the_files_are_known():
    samples = load_catalog("atlas-2020").samples
    assert {dsid for dsid, sample in samples.items() if sample.wrong_in_file == "dummy"} == {
        410155,
        410218,
        410219,
    }
    # dmV_Zll lacks a filter efficiency in the file, C1N2_WZ the branching ratios.
    lacking = {sample.group for sample in samples.values() if sample.wrong_in_file == "xsec"}
    assert lacking == {"dmV_Zll", "SUSYC1N2"}


def test_the_2020_periods_are_known_and_all_four_are_10064_per_pb():
    catalog = load_catalog("atlas-2020")
    assert dict(catalog.periods) == {"data_A": 500, "data_B": 1900, "data_C": 2900, "data_D": 4700}
    assert set(catalog.lumi_pb.values()) == {10064}


def test_sherpa_slices_and_inclusive_powheg_are_never_added():
    catalog = load_catalog("atlas-2020")
    with pytest.raises(InputError, match=r"drop inclusive Powheg \(361106-361107\), or Sherpa PTV slices"):
        catalog.check_overlaps([364100, 364101, 361106, 361107])
    with pytest.raises(InputError, match=r"drop filtered \(364250\), or inclusive"):
        catalog.check_overlaps([363490, 364250])
    catalog.check_overlaps(range(364100, 364198))
    catalog.check_overlaps(range(361100, 361109))


def test_sherpa_slices_are_the_default():
    default = load_catalog("atlas-2020").default_dsids()
    assert default >= set(range(364100, 364142)) | set(range(364156, 364198)) | {363490}
    assert not default & (set(range(361100, 361109)) | {364250})
    assert len(default) == 228 - 9 - 1
    z_jets = load_catalog("atlas-2020").group_dsids(["Zjets"])
    assert z_jets == set(range(364100, 364142))


@pytest.mark.parametrize("release", RELEASES)
def test_the_default_holds_one_choice_of_each_overlap(release):
    catalog = load_catalog(release)
    default = catalog.default_dsids()
    catalog.check_overlaps(default)
    for overlap in catalog.overlaps:
        members = [dsid for ids in overlap.choices.values() for dsid in ids]
        assert len(set(members)) == len(members), f"{overlap.name} names a sample twice"
        assert set(members) <= set(catalog.samples)
        groups = {catalog.samples[dsid].group for dsid in members}
        if not groups & set(catalog.left_out):
            assert default & next(iter(overlap.choices.values()))
    numbers = [dsid for overlap in catalog.overlaps for ids in overlap.choices.values() for dsid in ids]
    assert len(set(numbers)) == len(numbers), "a sample stands in two overlaps"


def test_the_2025_default_counts_each_higgs_decay_once():
    catalog = load_catalog("atlas-2025")
    higgs = {dsid for dsid in catalog.default_dsids() if catalog.samples[dsid].group == "Higgs"}
    # Inclusive in the decay: VBF, ZH, W+H, W-H, ttH; their samples by decay are left out.
    assert {346317, 346310, 346311, 346312, 346343, 346344, 346345} <= higgs
    assert not {345948, 345211, 346525, 346340} & higgs
    # The effective cross sections of production of ggH to gamma gamma: 28.3 pb x 1.717 x 0.227 %.
    assert catalog.samples[343981].xsec_pb == pytest.approx(28.3 * 1.717 * 0.00227)


def test_addresses_by_protocol():
    file = load_catalog("atlas-2020").remote_file("4lep", "mc_361106.Zee.4lep.root")
    tail = "/eos/opendata/atlas/OutreachDatasets/2020-08-19/4lep/MC/mc_361106.Zee.4lep.root"
    assert file.uri("root") == f"root://eospublic.cern.ch/{tail}"
    assert file.uri("https") == f"https://opendata.cern.ch{tail}"
    assert load_catalog("atlas-2020").remote_file("4lep", "mc_1.nothing.4lep.root") is None


@pytest.mark.parametrize("release", RELEASES)
def test_a_catalogue_loads_quickly(release):
    module._load.cache_clear()
    start = time.perf_counter()
    load_catalog(release)
    assert time.perf_counter() - start < 0.3


def test_loading_a_catalogue_imports_nothing_heavy():
    code = (
        "import sys; from fileset.catalog import load_catalog; load_catalog('atlas-2020'); "
        "print(sorted({'numpy', 'awkward', 'uproot', 'coffea', 'tensorflow'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_an_unknown_catalogue_is_answered_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean atlas-2020"):
        load_catalog("atlas2020")


def test_a_catalogue_of_a_simulated_sample_is_read(tmp_path, write_catalog):
    sample = {
        "name": "Zee",
        "group": "Zjets",
        "kind": "background",
        "xsec_pb": 100.0,
        "xsec_source": "Pythia 8",
        "sumw": {"2lep": 5.0, "3lep": 7.0},
        "n_generated": 10,
        "model": {},
        "notes": "",
    }
    catalog = load_catalog(write_catalog(tmp_path, {900001: sample}))
    assert catalog.sample == "demo-simulation"
    assert dict(catalog.lumi_pb) == {"2lep": 1000.0, "3lep": 5000.0}
    assert dict(catalog.samples[900001].sumw) == {"2lep": 5.0, "3lep": 7.0}
    assert load_catalog(tmp_path) is catalog


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ("format: 1\nname: x", "lumi_pb"),
        ("format: 7", "format 1"),
        ("- a", "format 1"),
        ("a: [", "not a valid catalogue"),
    ],
)
def test_a_broken_catalogue_is_named(tmp_path, broken, named):
    path = tmp_path / "catalog.yaml"
    path.write_text(broken)
    with pytest.raises(InputError, match=named) as caught:
        load_catalog(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sample_of_an_unknown_group_is_refused(tmp_path, write_catalog):
    sample = {"name": "x", "group": "Nothing", "kind": "signal", "xsec_pb": 1, "sumw": {}}
    with pytest.raises(InputError, match="group 'Nothing'"):
        load_catalog(write_catalog(tmp_path, {1: sample}))


def test_dataset_numbers_are_written_as_ranges():
    assert expand_dsids("364100-364102, 7") == {7, 364100, 364101, 364102}
    assert expand_dsids(5) == {5}
