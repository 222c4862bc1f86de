"""The parametrised detector, from drawn scores to whole events of Pythia."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from fileset.simulation.jets import MV2C10, b_tag_score, jvt_score
from fileset.simulation.leptons import efficiency, resolution
from fileset.simulation.particles import BEAUTY, PROMPT

WORKING_POINTS = {60: 0.9349, 70: 0.8244273, 77: 0.645925, 85: 0.1758475}
N = 200_000
DEMO = Path(__file__).parents[3] / "fileset" / "demo"


@pytest.mark.parametrize(("percent", "cut"), WORKING_POINTS.items())
def test_b_jets_pass_each_working_point_as_often_as_its_name_says(percent: int, cut: float) -> None:
    score = b_tag_score(np.full(N, 5), np.random.default_rng(1))
    assert np.mean(score > cut) == pytest.approx(percent / 100, abs=0.005)


def test_the_77_percent_point_rejects_light_jets_a_hundred_times_and_charm_five_times() -> None:
    rng = np.random.default_rng(2)
    passing = {code: np.mean(b_tag_score(np.full(N, code), rng) > WORKING_POINTS[77]) for code in MV2C10}
    assert 0.005 < passing[0] < 0.012
    assert 0.15 < passing[4] < 0.22
    assert passing[0] < passing[15] < passing[4]


@pytest.mark.parametrize("flavour", MV2C10)
def test_the_score_of_every_flavour_is_a_distribution_on_minus_one_to_one(flavour: int) -> None:
    values, below = MV2C10[flavour]
    assert values[0] == -1
    assert values[-1] == 1
    assert below[0] == 0
    assert below[-1] == 1
    assert np.all(np.diff(values) > 0)
    assert np.all(np.diff(below) > 0)


def test_central_soft_jets_all_pass_the_jet_vertex_tagger_and_most_pass_it_clearly() -> None:
    n = 10_000
    score = jvt_score(np.full(n, 30.0), np.zeros(n), np.random.default_rng(3))
    assert score.min() >= 0.59
    assert np.mean(score > 0.9) > 0.85


def test_electrons_are_lost_in_the_crack_and_muons_at_eta_zero_and_leptons_in_jets_more_often() -> None:
    eta = np.array([0.5, 1.45, 0.05])
    pt, prompt = np.full(3, 40.0), np.full(3, PROMPT)
    electron = efficiency(np.full(3, 11), pt, eta, prompt)
    muon = efficiency(np.full(3, 13), pt, eta, prompt)
    assert electron[1] == 0
    assert electron[0] > 0.9
    assert muon[2] < muon[0]
    assert np.all(efficiency(np.full(3, 11), pt, eta, np.full(3, BEAUTY)) <= electron)


def test_electrons_are_measured_better_and_muons_worse_at_high_momentum() -> None:
    pt, eta = np.array([20.0, 1000.0]), np.zeros(2)
    electron, muon = resolution(np.full(2, 11), pt, eta), resolution(np.full(2, 13), pt, eta)
    assert electron[1] < 0.02 < electron[0] < 0.04
    assert muon[0] < 0.02
    assert muon[1] == pytest.approx(0.10, abs=0.01)


def _flat(events: ak.Array, branch: str, mask: ak.Array) -> np.ndarray:
    return np.asarray(ak.flatten(events[branch][mask]), dtype=float)


@pytest.mark.simulation
def test_the_z_peak_stands_at_91_gev_with_the_width_of_a_detector(z_events: ak.Array) -> None:
    pair = z_events[(z_events.lep_n == 2)]
    pt, eta, phi = pair.lep_pt, pair.lep_eta, pair.lep_phi
    mass = np.sqrt(2 * pt[:, 0] * pt[:, 1] * (np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1])))
    peak = np.asarray(mass)[(mass > 84_000) & (mass < 98_000)] / 1000
    assert len(peak) > 500
    assert np.median(peak) == pytest.approx(91.2, abs=0.3)
    assert 2.0 < peak.std() < 4.0


@pytest.mark.simulation
def test_prompt_leptons_are_isolated_opposite_and_from_the_vertex(z_events: ak.Array) -> None:
    prompt = z_events.lep_truthMatched
    pt = _flat(z_events, "lep_pt", prompt)
    assert np.mean(_flat(z_events, "lep_ptcone30", prompt) / pt < 0.15) > 0.95
    assert np.mean(_flat(z_events, "lep_etcone20", prompt) / pt < 0.15) > 0.95
    assert np.median(_flat(z_events, "lep_tracksigd0pvunbiased", prompt)) == pytest.approx(1.15, abs=0.3)
    assert np.mean(ak.sum(z_events.lep_charge, axis=1) == 0) > 0.95


def test_leptons_of_the_heavy_flavours_of_top_events_are_displaced_and_not_isolated() -> None:
    with uproot.open(DEMO / "2lep/MC/mc_410000.ttbar_lep.2lep.root") as file:
        events = file["mini"].arrays(filter_name="lep_*")
    muon = events.lep_type == 13
    other, prompt = muon & ~events.lep_truthMatched, muon & events.lep_truthMatched
    assert len(_flat(events, "lep_pt", other)) > 100
    significance = [np.median(_flat(events, "lep_tracksigd0pvunbiased", mask)) for mask in (other, prompt)]
    assert significance[0] > 2.5 * significance[1]
    isolated = [
        np.mean(_flat(events, "lep_ptcone30", mask) / _flat(events, "lep_pt", mask) < 0.15)
        for mask in (other, prompt)
    ]
    assert isolated[0] < 0.6
    assert isolated[1] > 0.95


@pytest.mark.simulation
def test_top_events_have_b_jets_and_missing_momentum_and_z_events_have_not(
    top_events: ak.Array, z_events: ak.Array
) -> None:
    assert (
        0.7
        < np.mean(_flat(top_events, "jet_MV2c10", top_events.jet_trueflav == 5) > WORKING_POINTS[77])
        < 0.84
    )
    assert ak.mean(ak.any(top_events.jet_trueflav == 5, axis=1)) > 0.85
    assert np.median(top_events.met_et) > 45_000
    assert np.median(z_events.met_et) < 20_000


@pytest.mark.simulation
def test_objects_are_where_the_detector_and_the_release_have_them(top_events: ak.Array) -> None:
    events = top_events
    assert ak.all(events.lep_pt > 7_000)
    assert ak.all(events.lep_pt[:, 0] > 25_000)
    assert ak.all(events.lep_pt[:, :-1] >= events.lep_pt[:, 1:])
    assert ak.all(events.jet_pt > 20_000 * 0.9999)
    assert ak.all(abs(events.jet_eta) < 2.5)
    assert ak.all(events.trigE | events.trigM)
    assert ak.all(ak.any(events.lep_trigMatched, axis=1))
    electron_eta = abs(events.lep_eta[events.lep_type == 11])
    assert not ak.any((electron_eta > 1.371) & (electron_eta < 1.519))
    leptons = ak.zip({"eta": events.lep_eta, "phi": events.lep_phi})
    jets = ak.zip({"eta": events.jet_eta, "phi": events.jet_phi})
    lepton, jet = ak.unzip(ak.cartesian([leptons, jets]))
    delta_phi = (lepton.phi - jet.phi + np.pi) % (2 * np.pi) - np.pi
    assert ak.min(np.hypot(lepton.eta - jet.eta, delta_phi), axis=None) > 0.399


@pytest.mark.simulation
def test_masses_and_energies_are_consistent(z_events: ak.Array) -> None:
    momentum = z_events.lep_pt * np.cosh(z_events.lep_eta)
    assert ak.all(abs(z_events.lep_E / momentum - 1) < 2e-3)
