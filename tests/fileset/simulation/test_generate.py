"""Simulated samples: reproducible, in the release's own form, with honest books."""

import json
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml
from distributed import Client, LocalCluster
from pydantic import ValidationError

from fileset.catalog import load_catalog
from fileset.simulation.blocks import Block, BlockResult, simulate_block
from fileset.simulation.generate import collect, draw, plan, simulate
from fileset.simulation.processes import GROUPS, PROCESSES
from fileset.simulation.samples import BY_NAME, SAMPLES, SampleName
from fileset.simulation.settings import SimulationSettings

DEMO = Path(__file__).parents[3] / "fileset" / "demo"
SMALL = SimulationSettings(
    processes=("Zee", "lllv", "C1N2_WZ_450_300"),
    events=240,
    block_size=120,
    seed=11,
    lumi_pb={"2lep": 0.2, "3lep": 0.5},
)


# ROOT's wheel says on import that it is an alpha release.
pytestmark = pytest.mark.filterwarnings("ignore:\\nThis distribution of ROOT is in alpha:UserWarning")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample of three processes made by one worker."""
    return simulate(SMALL, output=tmp_path_factory.mktemp("one")).parent


def _files(directory: Path) -> Iterator[Path]:
    return iter(sorted(directory.glob("*lep/*/*.root")))


@pytest.mark.simulation
@pytest.mark.timeout(120)
def test_two_workers_write_the_same_content_as_one(sample: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        simulate(SMALL, output=tmp_path, map=pool.map)
    assert [p.relative_to(sample) for p in _files(sample)] == [
        p.relative_to(tmp_path) for p in _files(tmp_path)
    ]
    for first, second in zip(_files(sample), _files(tmp_path), strict=True):
        with uproot.open(first) as one, uproot.open(second) as two:
            left, right = one["mini"].arrays(), two["mini"].arrays()
        assert ak.array_equal(left, right), first.name
    assert (sample / "catalog.yaml").read_text() == (tmp_path / "catalog.yaml").read_text()


@pytest.mark.simulation
@pytest.mark.timeout(120)
def test_a_dask_cluster_writes_the_same_content(sample: Path, tmp_path: Path) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        simulate(
            SMALL.model_copy(update={"processes": ("lllv",), "pseudo_data": False}),
            output=tmp_path,
            map=lambda function, blocks: client.gather(client.map(function, list(blocks), pure=False)),
        )
    name = "3lep/MC/mc_363491.lllv.3lep.root"
    with uproot.open(sample / name) as one, uproot.open(tmp_path / name) as two:
        assert ak.array_equal(one["mini"].arrays(), two["mini"].arrays())


@pytest.mark.simulation
def test_another_seed_gives_other_events(sample: Path, tmp_path: Path) -> None:
    settings = SMALL.model_copy(
        update={"seed": 12, "processes": ("Zee",), "skims": ("2lep",), "pseudo_data": False}
    )
    simulate(settings, output=tmp_path)
    name = "2lep/MC/mc_361106.Zee.2lep.root"
    values = []
    for directory in (sample, tmp_path):
        with uproot.open(directory / name) as file:
            values.append(file["mini"]["lep_pt"].array())
    assert not ak.array_equal(*values)


@pytest.mark.simulation
@pytest.mark.shared
def test_branches_are_those_of_the_release_in_name_type_and_order(sample: Path) -> None:
    reference = Path(__file__).parents[4] / "shared" / "data" / "branches.json"
    if not reference.is_file():
        pytest.skip(f"the release's list of branches is not at {reference}")
    branches = json.loads(reference.read_text())["2020_mini_observed"]["branches"]
    expected = [(name, facts["type"]) for name, facts in branches.items()]
    for path in _files(sample):
        with uproot.open(path) as file:
            assert [(b.name, b.typename) for b in file["mini"].branches] == expected, path.name


@pytest.mark.simulation
def test_skims_hold_two_or_more_and_exactly_three_leptons(sample: Path) -> None:
    for path in _files(sample):
        with uproot.open(path) as file:
            leptons = file["mini"]["lep_n"].array(library="np")
            assert np.all(leptons == 3) if path.name.endswith(".3lep.root") else np.all(leptons >= 2)


@pytest.mark.simulation
def test_collection_lengths_and_identities_are_consistent(sample: Path) -> None:
    for path in _files(sample):
        with uproot.open(path) as file:
            events = file["mini"].arrays()
        for branch in ("lep_pt", "lep_z0", "lep_charge", "lep_trigMatched", "lep_pt_syst"):
            assert ak.all(ak.num(events[branch]) == events.lep_n)
        for branch in ("jet_pt", "jet_MV2c10", "jet_jvt", "jet_pt_syst"):
            assert ak.all(ak.num(events[branch]) == events.jet_n)
        assert len(np.unique(events.eventNumber)) == len(events)
        assert ak.all(events.eventNumber > 0)


@pytest.mark.simulation
def test_file_and_catalogue_agree_on_cross_section_and_sum_of_all_generated_weights(sample: Path) -> None:
    catalog = load_catalog(sample)
    for path in sample.glob("*lep/MC/*.root"):
        dsid, skim = int(path.name[3:9]), path.parent.parent.name
        facts = catalog.samples[dsid]
        process = BY_NAME[facts.name]
        assert facts.sumw[skim] == 240 * process.passes.get(skim, 1)
        with uproot.open(path) as file:
            tree = file["mini"].arrays(["XSection", "SumWeights", "channelNumber", "mcWeight"], library="np")
        assert np.all(tree["SumWeights"] == np.float32(facts.sumw[skim]))
        assert np.allclose(tree["XSection"], facts.xsec_pb, rtol=1e-6)
        assert np.all(tree["channelNumber"] == dsid)
        assert tree["mcWeight"].sum() <= facts.sumw[skim]


@pytest.mark.simulation
def test_pseudo_data_look_like_collision_data(sample: Path) -> None:
    with uproot.open(sample / "2lep/Data/data_A.2lep.root") as file:
        data = file["mini"].arrays()
    assert len(data) > 20
    assert ak.all(data.mcWeight == 0)
    assert ak.all(data.channelNumber == data.runNumber)
    assert ak.all((data.XSection == 1) & (data.SumWeights == 1))
    assert ak.sum(ak.num(data.lep_truthMatched)) == 0
    with uproot.open(sample / "2lep/MC/mc_361106.Zee.2lep.root") as file:
        simulated = file["mini"]["met_et"].array(library="np")
    assert not np.isin(np.asarray(data.met_et), simulated).any(), "pseudo-data share no event with simulation"


@pytest.mark.simulation
def test_pseudo_data_count_what_cross_section_times_luminosity_expects(sample: Path) -> None:
    catalog = load_catalog(sample)
    expected = 0.0
    for name in ("Zee", "lllv"):
        process = BY_NAME[name]
        facts = catalog.samples[process.dsid]
        with uproot.open(sample / f"2lep/MC/mc_{process.dsid}.{name}.2lep.root") as file:
            accepted = file["mini"]["mcWeight"].array(library="np").sum()
        expected += facts.xsec_pb * SMALL.lumi_pb["2lep"] * accepted / facts.sumw["2lep"]
    with uproot.open(sample / "2lep/Data/data_A.2lep.root") as file:
        observed = file["mini"].num_entries
    assert abs(observed - expected) < 5 * math.sqrt(2 * expected)


@pytest.mark.simulation
def test_leading_order_cross_sections_are_near_the_known_ones() -> None:
    known = {"Zee": 1430.0, "ttbar_lep": 53.0, "lllv": 0.73, "C1N2_WZ_450_300": 0.060}  # pb, leading order
    for name, value in known.items():
        result: BlockResult = simulate_block(Block(name, "simulation", 0, 150, 0, {"2lep": 1}, 3))
        assert result.pythia_pb == pytest.approx(value, rel=0.35), name


def test_the_table_is_consistent() -> None:
    every = BY_NAME.values()
    assert len({p.dsid for p in every}) == len(every)
    assert {p.group for p in every} == set(GROUPS)
    assert len({g.color for g in GROUPS.values()}) == len(GROUPS)
    for process in every:
        assert set(process.passes) <= set(process.generated) <= {"2lep", "3lep"}, process.name
        assert process.notes, f"{process.name} says what is approximated"
        assert (process.kind == "signal") == bool(process.model)


def test_every_signal_family_of_the_study_is_there() -> None:
    families = {p.group for p in PROCESSES if p.kind == "signal"}
    assert len(families) == 13
    assert sum(p.group == "SUSYC1N2" for p in PROCESSES) == 2
    assert sum(p.group == "WR_lN" for p in PROCESSES) == 2


@pytest.mark.parametrize("sample", SAMPLES)
def test_no_sample_counts_a_process_twice(sample: SampleName) -> None:
    processes = SAMPLES[sample]
    assert len({p.name for p in processes}) == len(processes)
    # A process in slices of pT and the same one whole would be counted twice.
    names = {p.name for p in processes}
    assert not {"lllv", "lllv_pt150"} <= names
    assert not {"Zee_ptv100", "Zee_parton_ptv100"} <= names


def test_slices_of_pt_add_up_to_the_whole() -> None:
    # Pythia's cross sections of few events; the whole has its own from NNLO.
    whole = BY_NAME["lllv"].cross_section.value
    parts = 0.0
    for name in ("lllv_pt0_150", "lllv_pt150"):
        result = simulate_block(Block(name, "simulation", 0, 300, 0, {"2lep": 1}, 3))
        parts += BY_NAME[name].cross_section.value * result.pythia_pb
    assert parts == pytest.approx(whole, rel=0.06)


@pytest.mark.parametrize("events", [1, 119, 120, 1000])
def test_blocks_cover_every_event_of_each_skim_once(events: int) -> None:
    settings = SMALL.model_copy(update={"block_size": 120})
    wanted = {"2lep": events, "3lep": 2 * events + 7}
    blocks = plan(BY_NAME["Zee"], wanted, stream="simulation", settings=settings)
    for skim, number in wanted.items():
        own = [b for b in blocks if skim in b.passes]
        assert sum(b.events for b in own) == number
        assert [b.first for b in own] == list(np.cumsum([0, *(b.events for b in own[:-1])]))
    assert max(b.events for b in blocks) <= 120


def test_a_larger_sample_begins_with_the_events_of_a_smaller_one_of_whole_blocks() -> None:
    settings = SMALL.model_copy(update={"block_size": 100})
    few = plan(BY_NAME["llvv"], {"2lep": 200}, stream="simulation", settings=settings)
    many = plan(BY_NAME["llvv"], {"2lep": 500}, stream="simulation", settings=settings)
    assert many[: len(few)] == few


def test_drawing_follows_the_weights_and_takes_no_event_twice() -> None:
    process = BY_NAME["Zee"]
    weights = np.where(np.arange(4000) < 1000, 3.0, 1.0)
    events = ak.Array({"weight": weights, "number": np.arange(4000)})
    block = plan(
        process, {"2lep": 60_000}, stream="data", settings=SMALL.model_copy(update={"block_size": 60_000})
    )
    sample = collect(process, [BlockResult(block[0], 1000.0, {"2lep": events})], {"2lep": 60_000})
    drawn = draw(sample, "2lep", 1.0, np.random.default_rng(1))
    expected = sample.xsec_pb / 60_000 * weights.sum()
    assert abs(len(drawn) - expected) < 5 * math.sqrt(expected)
    assert len(np.unique(drawn["number"])) == len(drawn)
    assert ak.mean(drawn["weight"] == 3) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"processes": ("Zeee",)}, "unknown process 'Zeee'"),
        ({"lumi_pb": {"2lep": 1.0}}, "skim 3lep"),
        ({"evnts": 3}, "evnts"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SimulationSettings.model_validate(wrong)


@pytest.mark.simulation
def test_the_shipped_sample_is_what_the_default_settings_make() -> None:
    settings, process = SimulationSettings(), BY_NAME["ggH125_ZZ4lep"]
    first = plan(process, {"2lep": process.generated["2lep"]}, stream="simulation", settings=settings)[0]
    made = simulate_block(first).events["2lep"]
    with uproot.open(DEMO / "2lep/MC/mc_345060.ggH125_ZZ4lep.2lep.root") as file:
        shipped = file["mini"].arrays()[: len(made)]
    # Processors differ in the last digit of a float, which can move an event across a cut.
    assert np.mean(np.isin(made["number"], shipped.eventNumber)) > 0.99
    same = np.isin(made["number"], shipped.eventNumber), np.isin(shipped.eventNumber, made["number"])
    assert np.allclose(made["met_et"][same[0]], shipped.met_et[same[1]], rtol=1e-3)


def test_the_shipped_sample_is_what_its_catalogue_says() -> None:
    catalog = yaml.safe_load((DEMO / "catalog.yaml").read_text())
    events = {"2lep": 0, "3lep": 0}
    for dsid, entry in catalog["samples"].items():
        for skim, number in entry["n_events"].items():
            with uproot.open(DEMO / skim / "MC" / f"mc_{dsid}.{entry['name']}.{skim}.root") as file:
                assert file["mini"].num_entries == number
            events[skim] += number * (entry["kind"] == "background")
            if entry["kind"] == "signal":
                assert number >= 500, entry["name"]
    assert events["2lep"] >= 60_000
    assert events["3lep"] >= 15_000
    for skim, number in catalog["generator"]["pseudo_data_events"].items():
        with uproot.open(DEMO / skim / "Data" / f"data_A.{skim}.root") as file:
            assert file["mini"].num_entries == number
    assert sum(path.stat().st_size for path in DEMO.rglob("*.*")) < 30_000_000
