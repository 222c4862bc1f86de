"""Good leptons and jets: each cut on both sides of its boundary, and the 2L and 3L definitions on real files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from processors.objects import (
    JET_FIELDS,
    LEPTON_FIELDS,
    Ragged,
    good_jets,
    good_leptons,
    rmm_objects,
    select_events,
)
from processors.schema import event_record
from processors.settings import REGIONS, JetSettings, LeptonSettings

NO_CUT = LeptonSettings(relative_etcone20_max=None, relative_ptcone30_max=None)
THREE_LEPTONS = REGIONS["3L"].leptons


def is_good(record: ak.Array, settings: LeptonSettings) -> list[bool]:
    """Of the single lepton of each event."""
    result: list[bool] = good_leptons(Ragged.of(record.lepton, LEPTON_FIELDS), settings).tolist()
    return result


# setting, flavour, field, a value that passes, one that does not; pT is 100 GeV.
BOUNDARIES = [
    ("relative_etcone20_max", 0.15, 11, {"etcone20": 14.99}, {"etcone20": 15.01}),
    ("relative_etcone20_max", 0.15, 13, {"etcone20": -90.0}, {"etcone20": 15.01}),
    ("relative_ptcone30_max", 0.15, 11, {"ptcone30": 14.99}, {"ptcone30": 15.01}),
    ("electron_abs_eta_max", 2.47, 11, {"eta": -2.469}, {"eta": -2.471}),
    ("electron_abs_eta_max", 2.47, 11, {"eta": 2.469}, {"eta": 2.471}),
    ("muon_abs_eta_max", 2.7, 13, {"eta": 2.699}, {"eta": 2.701}),
    ("z0_sin_theta_max", 0.5, 11, {"z0": -0.499, "eta": 0.0}, {"z0": -0.501, "eta": 0.0}),
    # sin(theta) = 1 / cosh(eta) = 0.2658 at eta = 2
    ("z0_sin_theta_max", 0.5, 13, {"z0": 1.88, "eta": 2.0}, {"z0": 1.89, "eta": 2.0}),
    ("electron_d0_significance_max", 5.0, 11, {"d0_significance": 5.0}, {"d0_significance": 5.001}),
    ("muon_d0_significance_max", 3.0, 13, {"d0_significance": 3.0}, {"d0_significance": 3.001}),
    ("electron_tight", True, 11, {"is_tight": True}, {"is_tight": False}),
    ("muon_tight", True, 13, {"is_tight": True}, {"is_tight": False}),
]


@pytest.mark.parametrize(("setting", "value", "flavour", "passes", "fails"), BOUNDARIES)
def test_each_lepton_cut_on_both_sides_of_its_boundary(
    make_record: Callable[..., ak.Array],
    setting: str,
    value: Any,
    flavour: int,
    passes: dict[str, Any],
    fails: dict[str, Any],
) -> None:
    record = make_record(*[{"lepton": [{"pt": 100.0, "flavour": flavour, **own}]} for own in (passes, fails)])
    assert is_good(record, NO_CUT) == [True, True], "a cut that is null is not made"
    assert is_good(record, NO_CUT.model_copy(update={setting: value})) == [True, False]


@pytest.mark.parametrize(
    ("setting", "value", "flavour", "fails"),
    [(setting, value, flavour, fails) for setting, value, flavour, _, fails in BOUNDARIES],
)
def test_a_cut_on_one_flavour_leaves_the_other_alone(
    make_record: Callable[..., ak.Array], setting: str, value: Any, flavour: int, fails: dict[str, Any]
) -> None:
    other = 24 - flavour
    record = make_record({"lepton": [{"pt": 100.0, "flavour": other, **fails}]})
    expected = setting.startswith(("electron", "muon"))
    assert is_good(record, NO_CUT.model_copy(update={setting: value})) == [expected]


def test_a_lepton_without_momentum_is_not_good(make_record: Callable[..., ak.Array]) -> None:
    record = make_record({"lepton": [{"pt": 0.0}]}, {"lepton": [{"pt": 0.001}]})
    assert is_good(record, LeptonSettings()) == [False, True]


@pytest.mark.parametrize(
    ("jet", "settings", "good"),
    [
        ({"pt": 20.0}, JetSettings(), False),
        ({"pt": 20.01}, JetSettings(), True),
        ({"pt": 29.0}, JetSettings(pt_min=30), False),
        ({"pt": 31.0}, JetSettings(pt_min=30), True),
        ({"passes_jvt": False}, JetSettings(), False),
        ({"passes_jvt": False}, JetSettings(jvt=False), True),
    ],
)
def test_each_jet_cut_on_both_sides_of_its_boundary(
    make_record: Callable[..., ak.Array], jet: dict[str, Any], settings: JetSettings, good: bool
) -> None:
    jets = Ragged.of(make_record({"jet": [jet]}).jet, JET_FIELDS)
    assert good_jets(jets, settings).tolist() == [good]


def test_exactly_the_number_of_good_leptons_is_asked_and_bad_ones_do_not_count(
    make_record: Callable[..., ak.Array],
) -> None:
    good, bad = {"pt": 50.0}, {"pt": 90.0, "ptcone30": 60.0}
    record = make_record(
        {"lepton": [good]},
        {"lepton": [good, bad, {"pt": 30.0, "eta": 1.5}]},
        {"lepton": []},
        {"lepton": [good] * 3},
        {"lepton": [bad] * 2},
    )
    events = select_events(record, n_leptons=2, leptons=LeptonSettings(), jets=JetSettings())
    assert events.index.tolist() == [1]
    assert events.lepton["pt"].tolist() == [[50, 30]], "the leading lepton is the leading good one"
    assert events.lepton["eta"].tolist() == [[0.5, 1.5]]


def test_jets_met_and_photons_stay_with_their_event(make_record: Callable[..., ak.Array]) -> None:
    two = [{"pt": 50.0}, {"pt": 40.0}]
    record = make_record(
        {"lepton": two, "jet": [{"pt": 99.0}], "met": (1.0, 0.1), "photon": [{"pt": 11.0}]},
        {"lepton": [], "jet": [{"pt": 88.0}], "met": (2.0, 0.2), "photon": [{"pt": 12.0}]},
        {"lepton": two, "jet": [{"pt": 77.0}, {"pt": 15.0}, {"pt": 66.0}], "met": (3.0, 0.3), "photon": []},
    )
    events = select_events(record, n_leptons=2, leptons=LeptonSettings(), jets=JetSettings())
    assert len(events) == 2
    assert events.jets.to_awkward().pt.to_list() == [[99], [77, 66]]
    np.testing.assert_allclose(events.met_pt, [1, 3])
    assert events.photons is not None
    assert events.photons.to_awkward().pt.to_list() == [[11], []]
    last = events.where(np.array([False, True]))
    assert last.index.tolist() == [2]
    assert last.jets.to_awkward().pt.to_list() == [[77, 66]]
    assert last.photons is not None
    assert last.photons.to_awkward().pt.to_list() == [[]]


def test_a_jet_between_the_points_is_neither_light_nor_b(make_record: Callable[..., ak.Array]) -> None:
    jets = [{"pt": 100.0 - 10 * btag, "btag": btag} for btag in range(5)]
    leptons = [{"pt": 50.0, "flavour": 13}, {"pt": 40.0, "flavour": 11}]
    events = select_events(
        make_record({"lepton": leptons, "jet": jets}),
        n_leptons=2,
        leptons=LeptonSettings(),
        jets=JetSettings(),
    )
    objects = rmm_objects(events, JetSettings())
    assert objects["ljet"].pt.to_list() == [[100]], "fails the 85 % point"
    assert objects["bjet"].pt.to_list() == [[80, 70, 60]], "passes the 77 % point"
    assert objects["muon"].pt.to_list() == [[50]]
    assert objects["electron"].pt.to_list() == [[40]]


def test_counts_and_sums_of_an_event_without_objects_are_zero() -> None:
    ragged = Ragged(np.array([0, 0, 2]), {"pt": np.array([3.0, 4.0])})
    assert ragged.counts(ragged["pt"] > 3.5).tolist() == [0, 1]
    assert ragged.sums(ragged["pt"]).tolist() == [0, 7]


# --- the definitions of both sources, in plain loops over the branches of the real files -----------------------------


def plain_good(event: dict[str, Any], i: int, region: str) -> bool:
    """A good lepton of the 2020 files, in MeV, as PHYSICS words it."""
    pt = event["lep_pt"][i]
    if not (event["lep_etcone20"][i] / pt < 0.15 and event["lep_ptcone30"][i] / pt < 0.15):
        return False
    if region == "2L":
        return True
    theta = 2 * np.arctan(np.exp(-event["lep_eta"][i]))
    if not abs(event["lep_z0"][i] * np.sin(theta)) < 0.5:
        return False
    if event["lep_type"][i] == 11:
        return bool(
            abs(event["lep_eta"][i]) < 2.47
            and event["lep_isTightID"][i]
            and event["lep_tracksigd0pvunbiased"][i] <= 5
        )
    return bool(abs(event["lep_eta"][i]) < 2.7 and event["lep_tracksigd0pvunbiased"][i] <= 3)


@pytest.mark.shared
@pytest.mark.parametrize(("region", "n_leptons"), [("2L", 2), ("3L", 3)])
def test_both_regions_are_those_of_a_plain_loop_over_the_real_files(
    real_2020: dict[str, Path], read_events: Callable[..., Any], region: str, n_leptons: int
) -> None:
    settings = REGIONS[region]
    assert settings.n_leptons == n_leptons
    chosen = 0
    for path in real_2020.values():
        with uproot.open(path) as file:
            raw = file["mini"].arrays(filter_name=["lep_*", "jet_*", "eventNumber"]).to_list()
        expected = [
            (k, [i for i in range(event["lep_n"]) if plain_good(event, i, region)])
            for k, event in enumerate(raw)
        ]
        expected = [(k, good) for k, good in expected if len(good) == n_leptons]
        events = select_events(
            event_record(read_events(path, "mini")),
            n_leptons=n_leptons,
            leptons=settings.leptons,
            jets=settings.jets,
        )
        assert events.index.tolist() == [k for k, _ in expected]
        pts = [sorted((raw[k]["lep_pt"][i] / 1000 for i in good), reverse=True) for k, good in expected]
        np.testing.assert_allclose(events.lepton["pt"].reshape(-1), np.ravel(pts), rtol=1e-6)
        n_jets = [
            sum(
                pt > 20e3 and not (pt < 60e3 and abs(eta) < 2.4 and jvt < 0.59)
                for pt, eta, jvt in zip(raw[k]["jet_pt"], raw[k]["jet_eta"], raw[k]["jet_jvt"], strict=True)
            )
            for k, _ in expected
        ]
        assert np.diff(events.jets.offsets).tolist() == n_jets
        chosen += len(events)
    assert chosen > 200


def plain_good_2025(event: dict[str, Any], i: int, region: str) -> bool:
    """The same definition by the names, units and signs of the 2025 release."""
    pt = event["lep_pt"][i]
    if not (event["lep_topoetcone20"][i] / pt < 0.15 and event["lep_ptvarcone30"][i] / pt < 0.15):
        return False
    if region == "2L":
        return True
    is_electron = event["lep_type"][i] == 11
    theta = 2 * np.arctan(np.exp(-event["lep_eta"][i]))
    return bool(
        abs(event["lep_z0"][i] * np.sin(theta)) < 0.5
        and abs(event["lep_eta"][i]) < (2.47 if is_electron else 2.7)
        and abs(event["lep_d0sig"][i]) <= (5 if is_electron else 3)
        and (event["lep_isTightID"][i] or not is_electron)
    )


@pytest.mark.shared
@pytest.mark.parametrize(("region", "n_leptons"), [("2L", 2), ("3L", 3)])
def test_both_regions_are_the_same_definitions_in_the_2025_release(
    real_2025: Path, read_events: Callable[..., Any], region: str, n_leptons: int
) -> None:
    with uproot.open(real_2025) as file:
        raw = file["analysis"].arrays(filter_name=["lep_*"]).to_list()
    good = [[i for i in range(len(e["lep_pt"])) if plain_good_2025(e, i, region)] for e in raw]
    expected = [k for k, chosen in enumerate(good) if len(chosen) == n_leptons]
    settings = REGIONS[region]
    events = select_events(
        event_record(read_events(real_2025, "analysis")),
        n_leptons=n_leptons,
        leptons=settings.leptons,
        jets=settings.jets,
    )
    assert len(expected) == {"2L": 91, "3L": 3}[region]
    assert events.index.tolist() == expected
    pts = [sorted((raw[k]["lep_pt"][i] for i in good[k]), reverse=True) for k in expected]
    np.testing.assert_allclose(events.lepton["pt"], pts, rtol=1e-6)
