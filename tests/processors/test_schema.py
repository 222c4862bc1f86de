"""Both releases come out as the same record: values, order, units, identity, and nothing read in vain."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from processors.constants import JVT_CUT, MV2C10_CUTS
from processors.objects import JET_FIELDS, LEPTON_FIELDS
from processors.schema import BRANCHES, event_record, flat_columns, from_flat, release_of

# Branches as an uproot-written file of a few events has them; in MeV.
Branches = dict[str, Any]


def raw_2020(n: int, leptons: Branches, jets: Branches, **events: Any) -> Branches:
    lepton = {
        "pt": 30e3,
        "eta": 0.0,
        "phi": 0.0,
        "E": 30e3,
        "charge": 1,
        "type": 11,
        "z0": 0.0,
        "trackd0pvunbiased": 0.0,
        "tracksigd0pvunbiased": 0.0,
        "ptcone30": 0.0,
        "etcone20": 0.0,
        "isTightID": True,
    }
    jet = {"pt": 50e3, "eta": 0.0, "phi": 0.0, "E": 60e3, "jvt": 1.0, "MV2c10": -1.0}
    kinds = {"charge": np.int32, "type": np.uint32, "isTightID": np.bool_}

    def zipped(defaults: Branches, given: Branches) -> ak.Array:
        given = {name: ak.Array(value) for name, value in given.items()}
        like = next(iter(given.values()))
        columns = {
            name: given.get(name, ak.full_like(like, value, dtype=kinds.get(name, np.float32)))
            for name, value in defaults.items()
        }
        return ak.zip({name: ak.values_astype(c, kinds.get(name, np.float32)) for name, c in columns.items()})

    one = np.ones(n, dtype=np.float32)
    scalars = {
        "channelNumber": np.full(n, 361106, np.int32),
        "runNumber": np.full(n, 284500, np.int32),
        "eventNumber": np.arange(1, n + 1, dtype=np.int32),
        "mcWeight": one,
        **{f"scaleFactor_{f}": one for f in ("PILEUP", "ELE", "MUON", "LepTRIGGER", "BTAG")},
        "met_et": 10e3 * one,
        "met_phi": one,
    }
    return {**scalars, **events, "lep": zipped(lepton, leptons), "jet": zipped(jet, jets)}


@pytest.fixture
def record_of(tmp_path: Path, read_events: Callable[..., Any]) -> Callable[..., ak.Array]:
    """The record of a file with these leptons and jets."""

    def make(n: int, leptons: Branches, jets: Branches, **events: Any) -> ak.Array:
        branches = raw_2020(n, leptons, jets, **events)
        with uproot.recreate(tmp_path / "mini.root") as file:
            tree = file.mktree(
                "mini",
                {k: c.type.content if isinstance(c, ak.Array) else c.dtype for k, c in branches.items()},
                counter_name=lambda name: f"{name}_n",
                field_name=lambda outer, inner: f"{outer}_{inner}",
            )
            tree.extend(branches)
        return event_record(read_events(tmp_path / "mini.root", "mini"))

    return make


# --- hand-made files -------------------------------------------------------------------------------------------------


def test_energies_become_gev_and_lengths_stay_mm(record_of: Callable[..., ak.Array]) -> None:
    record = record_of(
        1,
        {"pt": [[45e3]], "E": [[90e3]], "z0": [[0.7]], "ptcone30": [[1500.0]], "etcone20": [[-200.0]]},
        {"pt": [[120e3]], "E": [[130e3]]},
        met_et=np.array([33e3], np.float32),
    )
    lepton, jet = record.lepton[0, 0], record.jet[0, 0]
    assert lepton.pt == pytest.approx(45)
    assert lepton.energy == pytest.approx(90)
    assert lepton.ptcone30 == pytest.approx(1.5)
    assert lepton.etcone20 == pytest.approx(-0.2)
    assert lepton.z0 == pytest.approx(0.7)
    assert jet.pt == pytest.approx(120)
    assert record.met[0].pt == pytest.approx(33)


def test_every_field_moves_with_its_lepton_when_leptons_are_sorted(
    record_of: Callable[..., ak.Array],
) -> None:
    record = record_of(
        2,
        {"pt": [[10e3, 40e3, 20e3], [5e3]], "eta": [[1.0, 4.0, 2.0], [0.5]], "charge": [[1, -1, 1], [-1]]},
        {"pt": [[30e3, 90e3], []], "phi": [[0.3, 0.9], []]},
    )
    assert record.lepton.pt.to_list() == [[40, 20, 10], [5]]
    assert record.lepton.eta.to_list() == [[4, 2, 1], [0.5]]
    assert record.lepton.charge.to_list() == [[-1, 1, 1], [-1]]
    np.testing.assert_allclose(record.jet.phi[0], [0.9, 0.3])


def test_leptons_of_equal_pt_keep_their_order(record_of: Callable[..., ak.Array]) -> None:
    record = record_of(1, {"pt": [[20e3, 30e3, 20e3]], "eta": [[1.0, 2.0, 3.0]]}, {"pt": [[]]})
    assert record.lepton.eta.to_list() == [[2, 1, 3]]


def test_a_wrapped_event_number_is_unwrapped(record_of: Callable[..., ak.Array]) -> None:
    record = record_of(
        3,
        {"pt": [[1e4]] * 3},
        {"pt": [[]] * 3},
        eventNumber=np.array([-1, -(2**31), 2**31 - 1], np.int32),
    )
    assert record.event.to_list() == [2**32 - 1, 2**31, 2**31 - 1]
    assert np.asarray(record.event).dtype == np.uint64


def test_b_tags_count_the_working_points_passed(record_of: Callable[..., ak.Array]) -> None:
    below = np.nextafter(np.float32(MV2C10_CUTS), np.float32(-1))
    above = np.nextafter(np.float32(MV2C10_CUTS), np.float32(1))
    record = record_of(2, {"pt": [[1e4]] * 2}, {"pt": [[5e4] * 4] * 2, "MV2c10": [list(below), list(above)]})
    assert record.jet.btag.to_list() == [[0, 1, 2, 3], [1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("pt", "eta", "jvt", "kept"),
    [
        (59.0, 0.0, 0.58, False),
        (59.0, 0.0, 0.60, True),
        (61.0, 0.0, 0.10, True),
        (59.0, 2.39, 0.10, False),
        (59.0, -2.39, 0.10, False),
        (59.0, 2.41, 0.10, True),
    ],
)
def test_the_jet_vertex_tagger_decides_only_soft_central_jets(
    record_of: Callable[..., ak.Array], pt: float, eta: float, jvt: float, kept: bool
) -> None:
    assert pytest.approx(0.59) == JVT_CUT
    record = record_of(1, {"pt": [[1e4]]}, {"pt": [[pt * 1e3]], "eta": [[eta]], "jvt": [[jvt]]})
    assert record.jet.passes_jvt.to_list() == [[kept]]


def test_masses_are_those_of_the_flavour_and_of_the_jet(record_of: Callable[..., ak.Array]) -> None:
    record = record_of(
        1,
        {"pt": [[30e3, 20e3]], "type": [[11, 13]], "E": [[29e3, 19e3]]},
        {"pt": [[50e3, 40e3]], "E": [[np.hypot(50e3, 8e3), 39.9e3]]},
    )
    np.testing.assert_allclose(record.lepton.mass[0], [0.000511, 0.10566], rtol=1e-4)
    np.testing.assert_allclose(record.jet.mass[0], [8.0, 0.0], rtol=1e-4, err_msg="E < |p| gives mass 0")


def test_an_event_without_objects(record_of: Callable[..., ak.Array]) -> None:
    empty = record_of(1, {"pt": ak.values_astype(ak.Array([[1.0]])[:, :0], np.float32)}, {"pt": [[]]})
    assert empty.lepton.pt.to_list() == [[]]
    assert empty.jet.pt.to_list() == [[]]


def test_a_tree_of_neither_release_is_refused() -> None:
    assert release_of(["lep_E", "met_et", "x"]) == "2020"
    assert release_of(["lep_e", "met"]) == "2025"
    with pytest.raises(ValueError, match="lep_E and met_et"):
        release_of(["Electron_pt", "MET_pt"])


def test_flat_columns_and_from_flat_are_inverse() -> None:
    ragged = ak.Array([[{"pt": 3.0, "n": 1}, {"pt": 2.0, "n": 2}], [], [{"pt": 1.0, "n": 3}]])[[2, 1, 0]]
    offsets, columns = flat_columns(ragged, ("pt", "n"))
    assert offsets.tolist() == [0, 1, 1, 3]
    assert from_flat(offsets, columns).to_list() == ragged.to_list()


# --- real files ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def records(
    real_2020: dict[str, Path], real_2025: Path, read_events: Callable[..., Any]
) -> dict[str, ak.Array]:
    return {
        "2020": event_record(read_events(real_2020["410000.ttbar_lep.4lep"], "mini"), photons=True),
        "2025": event_record(read_events(real_2025, "analysis"), photons=True),
    }


def of_file(path: Path, tree: str, *branches: str) -> ak.Array:
    with uproot.open(path) as file:
        return file[tree].arrays(list(branches))


@pytest.mark.shared
def test_both_releases_give_the_same_type(records: dict[str, ak.Array]) -> None:
    of_2020, of_2025 = records["2020"], records["2025"]
    assert of_2020.fields == of_2025.fields
    for name in ("lepton", "jet", "photon", "met", "weight"):
        fields = of_2020[name].fields
        assert sorted(fields) == sorted(of_2025[name].fields)
        for field in fields:
            one, other = (ak.type(r[name][field]).content for r in (of_2020, of_2025))
            assert str(one) == str(other), f"{name}.{field}"
    for name in ("channel", "run", "event"):
        assert ak.type(of_2020[name]).content == ak.type(of_2025[name]).content
    assert set(LEPTON_FIELDS) <= set(of_2020.lepton.fields)
    assert set(JET_FIELDS) <= set(of_2020.jet.fields)


@pytest.mark.shared
@pytest.mark.parametrize("collection", ["lepton", "jet", "photon"])
def test_values_of_2020_are_those_of_the_file_in_gev(
    records: dict[str, ak.Array], real_2020: dict[str, Path], collection: str
) -> None:
    branches = BRANCHES["2020"][collection]
    raw = of_file(real_2020["410000.ttbar_lep.4lep"], "mini", *branches.values())
    order = ak.argsort(raw[branches["pt"]], axis=1, ascending=False, stable=True)
    for field, branch in branches.items():
        if field in {"btag", "jvt"}:
            continue
        factor = 1e-3 if field in {"pt", "energy", "ptcone30", "etcone20"} else 1.0
        expected = ak.flatten(raw[branch][order]) * factor
        np.testing.assert_allclose(ak.flatten(records["2020"][collection][field]), expected, rtol=2e-7)


@pytest.mark.shared
def test_scalars_of_2020_are_those_of_the_file(
    records: dict[str, ak.Array], real_2020: dict[str, Path]
) -> None:
    raw = of_file(
        real_2020["410000.ttbar_lep.4lep"], "mini", *BRANCHES["2020"]["event"].values(), "met_et", "met_phi"
    )
    record = records["2020"]
    np.testing.assert_allclose(record.met.pt, raw.met_et / 1000, rtol=2e-7)
    np.testing.assert_array_equal(record.met.phi, raw.met_phi)
    np.testing.assert_array_equal(record.event, raw.eventNumber)
    for name, branch in list(BRANCHES["2020"]["event"].items())[3:]:
        np.testing.assert_array_equal(record.weight[name], raw[branch])


@pytest.mark.shared
def test_leptons_and_jets_of_both_releases_fall_in_pt(records: dict[str, ak.Array], real_2025: Path) -> None:
    in_file = of_file(real_2025, "analysis", "lep_pt").lep_pt
    assert not ak.all(in_file[:, :-1] >= in_file[:, 1:]), "the file itself is not ordered"
    for record in records.values():
        for collection in ("lepton", "jet", "photon"):
            pt = record[collection].pt
            assert ak.all(pt[:, :-1] >= pt[:, 1:])
    np.testing.assert_array_equal(
        ak.flatten(records["2025"].lepton.pt), ak.flatten(ak.sort(in_file, ascending=False))
    )


@pytest.mark.shared
def test_b_tags_of_2025_are_quantiles_less_one(records: dict[str, ak.Array], real_2025: Path) -> None:
    raw = of_file(real_2025, "analysis", "jet_pt", "jet_btag_quantile", "jet_jvt")
    order = ak.argsort(raw.jet_pt, axis=1, ascending=False, stable=True)
    quantile = ak.flatten(raw.jet_btag_quantile[order])
    assert set(np.unique(quantile)) >= {1, 5}
    np.testing.assert_array_equal(ak.flatten(records["2025"].jet.btag), np.clip(quantile - 1, 0, 4))
    np.testing.assert_array_equal(ak.flatten(records["2025"].jet.passes_jvt), ak.flatten(raw.jet_jvt[order]))


@pytest.mark.shared
def test_displacement_significance_has_no_sign_in_either_release(
    records: dict[str, ak.Array], real_2025: Path
) -> None:
    assert ak.any(of_file(real_2025, "analysis", "lep_d0sig").lep_d0sig < 0)
    for record in records.values():
        assert ak.all(record.lepton.d0_significance >= 0)


@pytest.mark.shared
def test_event_numbers_of_2025_keep_64_bits(records: dict[str, ak.Array], real_2025: Path) -> None:
    raw = of_file(real_2025, "analysis", "eventNumber").eventNumber
    np.testing.assert_array_equal(records["2025"].event, raw)


@pytest.mark.shared
@pytest.mark.parametrize("photons", [False, True])
def test_only_what_is_needed_is_read(
    real_2020: dict[str, Path], read_events: Callable[..., Any], photons: bool
) -> None:
    log: list[Any] = []
    event_record(read_events(real_2020["361106.Zee.4lep"], "mini", access_log=log), photons=photons)
    touched = {entry.branch for entry in log}
    wanted = {
        branch for name, fields in BRANCHES["2020"].items() for branch in fields.values() if name != "photon"
    }
    if photons:
        wanted |= set(BRANCHES["2020"]["photon"].values())
    assert touched == wanted


@pytest.mark.shared
def test_entry_ranges_add_up_to_the_whole(
    real_2020: dict[str, Path], read_events: Callable[..., Any]
) -> None:
    path = real_2020["410000.ttbar_lep.4lep"]
    whole = event_record(read_events(path, "mini"))
    edges = [0, 1, 400, 777, len(whole)]
    parts = [
        event_record(read_events(path, "mini", entry_start=start, entry_stop=stop))
        for start, stop in pairwise(edges)
    ]
    together = ak.concatenate(parts)
    assert len(together) == len(whole) == 1031
    for name in whole.fields:
        assert ak.array_equal(together[name], whole[name], check_parameters=False)


def test_the_schema_leaves_out_what_the_file_has_not(tmp_path: Path, read_events: Callable[..., Any]) -> None:
    with uproot.recreate(tmp_path / "few.root") as file:
        tree = file.mktree("mini", {"lep_E": "var * float32", "met_et": np.float32, "other": np.float32})
        tree.extend({"lep_E": ak.Array([[1.0]]), "met_et": np.ones(1), "other": np.ones(1)})
    events = read_events(tmp_path / "few.root", "mini")
    assert events.fields == ["lepton", "met"]
    assert events.lepton.fields == ["energy"]
