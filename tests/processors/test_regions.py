"""Regions: named cuts with boundaries, flavour combinations, regions of the user's, and exact cutflows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from pydantic import ValidationError

from processors.constants import FLAVOUR_COMBINATION
from processors.kinematics import invariant_mass
from processors.objects import select_events
from processors.regions import apply_region, flavour_combination
from processors.schema import event_record
from processors.settings import REGIONS, RegionSettings

E_PLUS, E_MINUS = {"flavour": 11, "charge": 1}, {"flavour": 11, "charge": -1}
MU_PLUS, MU_MINUS = {"flavour": 13, "charge": 1}, {"flavour": 13, "charge": -1}


def leptons(*kinds: dict[str, Any], pt: tuple[float, ...] = (60.0, 50.0, 40.0, 30.0)) -> dict[str, Any]:
    """An event with these leptons by falling pT, well apart."""
    return {
        "lepton": [
            {**kind, "pt": own_pt, "eta": 0.1 * i, "phi": 1.5 * i}
            for i, (kind, own_pt) in enumerate(zip(kinds, pt, strict=False))
        ]
    }


def kept(record: ak.Array, **cuts: Any) -> list[int]:
    """Positions of the events that a region with these cuts keeps."""
    region = RegionSettings(**{"n_leptons": 2, "skims": ("2lep",), **cuts})
    events, _ = apply_region(record, np.ones(len(record)), region)
    positions: list[int] = events.index.tolist()
    return positions


def test_lepton_pt_thresholds_are_in_order_of_pt(make_record: Callable[..., ak.Array]) -> None:
    record = make_record(
        leptons(E_PLUS, E_MINUS, pt=(26.0, 24.0)),
        leptons(E_PLUS, E_MINUS, pt=(26.0, 25.5)),
        leptons(E_PLUS, E_MINUS, pt=(24.9, 24.8)),
        leptons(E_PLUS, E_MINUS, pt=(25.0, 24.0)),
    )
    assert kept(record, lepton_pt_min=(25.0, 25.0)) == [1]
    assert kept(record, lepton_pt_min=(25.0,)) == [0, 1]
    assert kept(record) == [0, 1, 2, 3]


def test_m_ll_is_cut_on_both_sides(make_record: Callable[..., ak.Array]) -> None:
    # Back to back at eta 0: m_ll = 2 pT.
    def pair(mass: float) -> dict[str, Any]:
        return {"lepton": [{"pt": mass / 2, "eta": 0.0, "phi": phi} for phi in (0.0, np.pi)]}

    record = make_record(pair(69.9), pair(70.1), pair(109.9), pair(110.1))
    assert kept(record, mll_min=70.0) == [1, 2, 3]
    assert kept(record, mll_max=110.0) == [0, 1, 2]
    assert kept(record, mll_min=70.0, mll_max=110.0) == [1, 2]


def test_any_pair_of_opposite_sign_and_same_flavour_may_be_the_z(
    make_record: Callable[..., ak.Array],
) -> None:
    def event(third: dict[str, Any], mass: float) -> dict[str, Any]:
        pair = [
            {"pt": mass / 2, "eta": 0.0, "phi": phi, **lepton}
            for phi, lepton in ((0.0, E_PLUS), (np.pi, {**E_MINUS, **third}))
        ]
        return {"lepton": [{"pt": 60.0, "eta": 1.0, "phi": 1.5, **MU_PLUS}, *pair]}

    record = make_record(event({}, 91.0), event({}, 80.0), event(MU_PLUS, 91.0))
    three = {"n_leptons": 3, "skims": ("3lep",)}
    assert kept(record, **three, z_window=10.0) == [0]
    assert kept(record, **three, z_veto=10.0) == [1, 2]
    assert kept(record, **three, z_veto=5.0, z_window=15.0) == [1]


@pytest.mark.parametrize(
    "cuts",
    [{"mll_min": 100, "mll_max": 80}, {"n_b_jets_min": 2, "n_b_jets_max": 1}, {"z_veto": 20, "z_window": 10}],
)
def test_cuts_that_no_event_can_pass_are_refused(cuts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="no event has"):
        RegionSettings(n_leptons=2, skims=("2lep",), **cuts)


def test_m_ll_is_that_of_the_leading_leptons_among_three(make_record: Callable[..., ak.Array]) -> None:
    event = leptons(E_PLUS, E_MINUS, MU_PLUS)
    record = make_record(event)
    selected, _ = apply_region(record, np.ones(1), RegionSettings(n_leptons=3, skims=("3lep",)))
    mass = invariant_mass(selected.lepton, (0, 1))[0]
    assert kept(record, n_leptons=3, mll_min=mass - 0.1) == [0]
    assert kept(record, n_leptons=3, mll_min=mass + 0.1) == []


def test_missing_momentum_is_cut_above(make_record: Callable[..., ak.Array]) -> None:
    pair = leptons(E_PLUS, E_MINUS)
    record = make_record({**pair, "met": (50.0, 0.0)}, {**pair, "met": (50.1, 0.0)})
    assert kept(record, met_min=50.0) == [1]


def test_charges_of_the_leading_pair(make_record: Callable[..., ak.Array]) -> None:
    record = make_record(leptons(E_PLUS, E_MINUS), leptons(E_PLUS, MU_PLUS), leptons(MU_MINUS, MU_MINUS))
    assert kept(record, charge="opposite") == [0]
    assert kept(record, charge="same") == [1, 2]


@pytest.mark.parametrize(
    ("kinds", "pairs"),
    [
        ((E_PLUS, E_MINUS, MU_PLUS), 1),
        ((E_PLUS, E_PLUS, E_MINUS), 2),
        ((E_PLUS, E_PLUS, E_PLUS), 0),
        ((E_PLUS, MU_MINUS, MU_MINUS), 0),
        ((MU_PLUS, MU_MINUS, E_MINUS), 1),
        ((E_PLUS, E_MINUS, MU_PLUS, MU_MINUS), 2),
        ((E_PLUS, E_MINUS, E_PLUS, E_MINUS), 4),
    ],
)
def test_ossf_pairs_by_hand(
    make_record: Callable[..., ak.Array], kinds: tuple[dict[str, Any], ...], pairs: int
) -> None:
    record = make_record(leptons(*kinds))
    for asked in range(5):
        assert kept(record, n_leptons=len(kinds), n_ossf_pairs=asked) == ([0] if asked == pairs else [])


def test_b_jets_are_counted_at_the_chosen_point_after_jet_cuts(make_record: Callable[..., ak.Array]) -> None:
    pair = leptons(E_PLUS, E_MINUS)
    record = make_record(
        {**pair, "jet": []},
        {**pair, "jet": [{"btag": 1}]},
        {**pair, "jet": [{"btag": 2}, {"btag": 4, "pt": 19.0}]},
        {**pair, "jet": [{"btag": 2}, {"btag": 3}, {"btag": 4, "passes_jvt": False}]},
    )
    assert kept(record, n_b_jets_max=0) == [0, 1]
    assert kept(record, n_b_jets_min=1) == [2, 3]
    assert kept(record, n_b_jets_min=1, n_b_jets_max=1) == [2]
    assert kept(record, n_b_jets_min=1, jets={"b_jet_passes": 3}) == [3]
    assert kept(record, n_b_jets_min=1, jets={"b_jet_passes": 1}) == [1, 2, 3]


def test_a_region_of_the_users_own_from_plain_configuration(make_record: Callable[..., ak.Array]) -> None:
    """Exactly three leptons, one opposite-sign same-flavour pair, no b-jet: as YAML would give it."""
    region = RegionSettings.model_validate(
        {"n_leptons": 3, "skims": ["3lep"], "n_ossf_pairs": 1, "n_b_jets_max": 0}
    )
    record = make_record(
        leptons(E_PLUS, E_MINUS, MU_PLUS),
        {**leptons(E_PLUS, E_MINUS, MU_PLUS), "jet": [{"btag": 4}]},
        leptons(E_PLUS, E_MINUS, E_PLUS),
        leptons(E_PLUS, E_MINUS),
        leptons(E_PLUS, E_MINUS, MU_PLUS, MU_MINUS),
    )
    events, cutflow = apply_region(record, np.array([1.0, 2.0, 4.0, 8.0, 16.0]), region)
    assert events.index.tolist() == [0]
    assert cutflow == {
        "all": (5, 31.0, 341.0),
        "3 good leptons": (3, 7.0, 21.0),
        "1 OSSF pairs": (2, 3.0, 5.0),
        "at most 0 b-jets": (1, 1.0, 1.0),
    }


@pytest.mark.parametrize(
    ("kinds", "number"),
    [
        ((E_PLUS, E_PLUS, E_PLUS), 0),
        ((E_PLUS, MU_PLUS, E_MINUS), 1),
        ((MU_PLUS, MU_PLUS, E_MINUS), 2),
        ((MU_PLUS, MU_PLUS, MU_MINUS), 3),
        ((E_PLUS, E_PLUS), 6),
        ((MU_PLUS, MU_PLUS), 7),
        ((MU_PLUS, E_MINUS), 8),
        ((E_PLUS, MU_MINUS), 8),
        ((E_PLUS,), -1),
        ((E_PLUS, E_PLUS, MU_PLUS, MU_PLUS), -1),
    ],
)
def test_flavour_combinations(
    make_record: Callable[..., ak.Array], kinds: tuple[dict[str, Any], ...], number: int
) -> None:
    region = RegionSettings(n_leptons=len(kinds), skims=("any",))
    record = make_record(leptons(*kinds))
    events = select_events(record, n_leptons=len(kinds), leptons=region.leptons, jets=region.jets)
    assert flavour_combination(events).tolist() == [number]


@pytest.mark.parametrize(
    ("cuts", "sentence"),
    [
        ({"n_leptons": 2, "lepton_pt_min": (30.0, 20.0, 10.0)}, "has 3 thresholds for 2 leptons"),
        ({"n_leptons": 1, "mll_min": 70.0}, "mll_min needs two leptons"),
        ({"n_leptons": 1, "charge": "same"}, "charge needs two leptons"),
    ],
)
def test_cuts_on_leptons_that_the_region_has_not_are_refused(cuts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        RegionSettings(skims=("any",), **cuts)


def test_numbers_4_and_5_are_kept_free() -> None:
    assert sorted(FLAVOUR_COMBINATION.values()) == [0, 1, 2, 3, 6, 7, 8]


def test_cutflows_keep_negative_weights_and_add_up_to_what_is_selected(
    make_record: Callable[..., ak.Array],
) -> None:
    rng = np.random.default_rng(3)
    events = [
        {**leptons(E_PLUS, MU_MINUS, E_MINUS, pt=(pt, 0.9 * pt, 0.5 * pt)), "met": (met, 0.0)}
        for pt, met in zip(rng.uniform(10, 90, 200), rng.uniform(0, 90, 200), strict=True)
    ]
    record = make_record(*events)
    weight = rng.normal(0.5, 1.0, 200)
    region = RegionSettings(
        n_leptons=3, skims=("3lep",), lepton_pt_min=(25.0, 25.0), mll_min=40, met_min=20, n_ossf_pairs=1
    )
    selected, cutflow = apply_region(record, weight, region)
    assert list(cutflow) == [
        "all",
        "3 good leptons",
        "lepton 1 pT > 25 GeV",
        "lepton 2 pT > 25 GeV",
        "m_ll > 40 GeV",
        "1 OSSF pairs",
        "MET > 20 GeV",
    ]
    counts = [n for n, _, _ in cutflow.values()]
    squares = [sumw2 for _, _, sumw2 in cutflow.values()]
    assert counts == sorted(counts, reverse=True)
    assert squares == sorted(squares, reverse=True)
    assert 0 < counts[-1] < counts[0]
    own = weight[selected.index]
    assert cutflow["MET > 20 GeV"] == (len(selected), pytest.approx(own.sum()), pytest.approx((own**2).sum()))


def test_no_event_at_all_has_a_cutflow_of_zeros(make_record: Callable[..., ak.Array]) -> None:
    record = make_record({"lepton": []}, leptons(E_PLUS, E_MINUS))
    region = RegionSettings(
        n_leptons=4, skims=("4lep",), lepton_pt_min=(1.0,) * 4, mll_min=1, n_ossf_pairs=2, n_b_jets_max=0
    )
    events, cutflow = apply_region(record, np.ones(2), region)
    assert len(events) == 0
    assert flavour_combination(events).tolist() == []
    assert [n for n, _, _ in cutflow.values()] == [2] + [0] * (len(cutflow) - 1)


@pytest.mark.shared
def test_the_options_of_the_final_thesis_on_real_events(
    real_2020: dict[str, Path], read_events: Callable[..., Any]
) -> None:
    record = event_record(read_events(real_2020["361106.Zee.4lep"], "mini"))
    plain, _ = apply_region(record, np.ones(len(record)), REGIONS["3L"])
    options = REGIONS["3L"].model_copy(update={"mll_min": 70.0, "lepton_pt_min": (25.0, 25.0)})
    final, _ = apply_region(record, np.ones(len(record)), options)
    pt, mll = plain.lepton["pt"], invariant_mass(plain.lepton, (0, 1))
    expected = plain.index[(pt[:, 0] > 25) & (pt[:, 1] > 25) & (mll > 70)]
    assert 0 < len(expected) < len(plain)
    assert final.index.tolist() == expected.tolist()
