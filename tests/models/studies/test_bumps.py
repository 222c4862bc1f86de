"""The hunt for bumps does what pyBumpHunter does, and claims what it keeps."""

import numpy as np
import pytest
from pyBumpHunter import BumpHunter1D
from scipy.stats import binomtest, poisson

from models.studies.bumps import Binning, counted, hunt_bumps, mass_bins, smallest_p

EDGES = np.linspace(0.0, 200.0, 21)


def _background(n, seed=1):
    """Falling spectra of two masses that go together."""
    rng = np.random.default_rng(seed)
    first = rng.exponential(60.0, n)
    return {"mll": first, "meff": first + rng.exponential(30.0, n)}


@pytest.fixture
def bins():
    return {"mll": Binning(EDGES), "meff": Binning(2 * EDGES)}


def _hunt(simulated, observed, bins, *, weight=1.0, toys=500, seed=2, expected_events=400.0):
    weights = np.full(len(simulated["mll"]), weight)
    return hunt_bumps(
        simulated,
        weights,
        weights,
        observed,
        bins,
        expected_events=expected_events,
        toys=toys,
        rng=np.random.default_rng(seed),
    )


def test_the_smallest_local_p_is_that_of_py_bump_hunter_in_every_spectrum(capsys):
    rng = np.random.default_rng(3)
    expected = 80 * np.exp(-np.arange(20) / 5)
    spectra = rng.poisson(expected, size=(50, 20))
    p, first, width = smallest_p(spectra, expected)
    for i, spectrum in enumerate(spectra):
        hunter = BumpHunter1D(bins=EDGES, width_max=10, npe=1, nworker=1, seed=1)
        hunter.bump_scan(spectrum, expected, is_hist=True)
        assert p[i] == pytest.approx(hunter.min_Pval_ar[0], rel=1e-9)
        assert (first[i], width[i]) == (hunter.min_loc_ar[0], hunter.min_width_ar[0])


def test_a_local_p_is_the_poisson_probability_of_so_many_or_more():
    observed, expected = np.array([3.0, 12.0, 4.0, 5.0]), np.full(4, 5.0)
    assert smallest_p(observed, expected)[0][0] == pytest.approx(poisson.sf(11, 5.0))


def test_a_well_known_background_gives_the_global_p_of_py_bump_hunter(bins, capsys):
    simulated = _background(100_000)
    observed = _background(400, seed=9)
    observed = {name: np.append(values, np.full(18, 125.0)) for name, values in observed.items()}
    found, _ = _hunt(simulated, observed, {"mll": bins["mll"]}, toys=1000)
    spectrum = np.bincount(bins["mll"].index(observed["mll"]), minlength=20)
    nominal = np.bincount(bins["mll"].index(simulated["mll"]), minlength=20)
    hunter = BumpHunter1D(bins=EDGES, width_max=10, npe=1000, nworker=1, seed=4)
    hunter.bump_scan(spectrum, nominal * (spectrum.sum() / nominal.sum()), is_hist=True)
    ours = found["mll"].passed / found["mll"].toys
    # Theirs lets the number of events fluctuate against a fixed expectation, which makes excesses more common.
    assert found["mll"].local_p == pytest.approx(hunter.min_Pval_ar[0], rel=1e-9)
    assert ours < hunter.global_Pval + 0.01
    assert ours == pytest.approx(hunter.global_Pval, abs=0.04)


def test_an_injected_bump_is_found_where_it_is(bins):
    observed = {
        name: np.append(values, np.full(40, 125.0)) for name, values in _background(400, seed=5).items()
    }
    found, over_all = _hunt(_background(100_000), observed, bins)
    entry = found["mll"].to_dict()
    assert entry["window"]["low"] <= 125.0 < entry["window"]["high"]
    assert entry["global_p"] == {"value": 1 / 500, "error": None, "limit": True, "toys": 500}
    assert over_all["limit"]


def test_few_simulated_events_make_the_same_excess_less_improbable(bins):
    observed = {
        name: np.append(values, np.full(14, 125.0)) for name, values in _background(400, seed=5).items()
    }
    poor, _ = _hunt(_background(400), observed, bins, toys=1000)
    simulated = _background(400)
    many = {name: np.tile(values, 1000) for name, values in simulated.items()}
    rich, _ = _hunt(many, observed, bins, toys=1000)
    assert rich["mll"].local_p == pytest.approx(poor["mll"].local_p)
    assert poor["mll"].passed > rich["mll"].passed + 30


@pytest.mark.parametrize("simulated_events", [1_000, 5_000])
def test_bumps_are_claimed_in_background_as_often_as_their_p_says(bins, simulated_events):
    truth, claimed, looked = _background(100_000, seed=6), 0, 80
    rng = np.random.default_rng(7)
    for trial in range(looked):
        drawn, seen = (rng.integers(0, 100_000, n) for n in (simulated_events, 300))
        _, over_all = _hunt(
            {name: values[drawn] for name, values in truth.items()},
            {name: values[seen] for name, values in truth.items()},
            bins,
            toys=100,
            seed=trial,
        )
        claimed += over_all["value"] <= 0.1
    assert binomtest(claimed, looked, 0.1).pvalue > 1e-3


def test_a_window_that_heavy_events_missed_by_chance_is_no_bump():
    """A rare process simulated in many events, a common one in few: between those, nearly nothing is expected."""
    rng = np.random.default_rng(8)
    claimed, looked = 0, 60
    for trial in range(looked):
        mass = 30 + rng.exponential(100.0, 8_200)
        weight = np.repeat([2.0, 0.002], [200, 8_000])
        seen = {"meff": 30 + rng.exponential(100.0, 400)}
        binning = {"meff": mass_bins(mass, weight, resolution=0.05, fewest=5.0)}
        _, over_all = hunt_bumps(
            {"meff": mass}, weight, weight, seen, binning,
            expected_events=400.0, toys=100, rng=np.random.default_rng(trial),
        )  # fmt: skip
        claimed += over_all["value"] <= 0.05
    assert binomtest(claimed, looked, 0.05, alternative="greater").pvalue > 1e-3


def test_bins_stay_fine_where_only_light_events_can_be():
    """The tail of a process in slices: heavy events end at 300 GeV."""
    rng = np.random.default_rng(9)
    mass = np.concatenate([rng.uniform(30, 300, 200), rng.uniform(30, 2000, 8_000)])
    binning = mass_bins(mass, np.repeat([2.0, 0.002], [200, 8_000]), resolution=0.05, fewest=5.0)
    widths, low = np.diff(np.log(binning.edges)), binning.edges[:-1]
    assert widths[(low > 600) & (low < 1500)].max() < 0.08
    assert (binning.edges < 300).sum() < 45


def test_the_probability_over_all_masses_knows_that_they_go_together(bins):
    """Two copies of one mass are one look, not two."""
    simulated, observed = _background(50_000), _background(300, seed=11)
    twin = {"mll": bins["mll"], "meff": bins["mll"]}
    found, over_all = _hunt(dict.fromkeys(twin, simulated["mll"]), dict.fromkeys(twin, observed["mll"]), twin)
    assert over_all["value"] == pytest.approx(found["mll"].passed / found["mll"].toys)
    different, over_both = _hunt(simulated, observed, bins)
    assert over_both["value"] >= min(hunt.passed / hunt.toys for hunt in different.values())


def test_without_data_events_are_drawn_from_the_background(bins):
    found, _ = _hunt(_background(50_000), None, bins, expected_events=400.0)
    again, _ = _hunt(_background(50_000), None, bins, expected_events=400.0)
    assert 320 < found["mll"].observed.sum() < 480
    assert found["mll"].observed.sum() == found["meff"].observed.sum()
    assert found["mll"].expected.sum() == pytest.approx(found["mll"].observed.sum())
    np.testing.assert_array_equal(found["mll"].observed, again["mll"].observed)
    assert _hunt(_background(50_000), None, bins, expected_events=0.0) == ({}, None)


def test_the_global_generator_and_the_terminal_are_left_alone(bins, capsys):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - it is the global generator that is asked about
    _hunt(_background(1000), None, bins)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert capsys.readouterr().out == ""


def test_events_of_any_mass_are_in_a_bin():
    binning = Binning(EDGES)
    assert binning.index([-5.0, 0.0, 10.0, 199.0, 3000.0]).tolist() == [0, 0, 1, 19, 19]


def test_bins_have_enough_simulated_events_and_are_no_finer_than_a_bump():
    mass, weight = _background(20_000)["mll"], np.ones(20_000)
    binning = mass_bins(mass, weight, resolution=0.05, fewest=5.0)
    assert np.bincount(binning.index(mass)).min() >= 5
    assert (np.diff(binning.edges) > 0.999 * np.maximum(0.05 * binning.edges[:-1], 1.0)).all()
    assert mass_bins(mass[:8], weight[:8], resolution=0.05, fewest=5.0) is None
    assert mass_bins(np.zeros(50), np.ones(50), resolution=0.05, fewest=5.0) is None


def test_a_probability_that_no_pseudo_experiment_reached_is_a_limit():
    assert counted(0, 250) == {"value": 0.004, "error": None, "limit": True, "toys": 250}
    entry = counted(25, 250)
    assert entry["value"] == pytest.approx(0.1)
    assert entry["error"] == pytest.approx(np.sqrt(0.1 * 0.9 / 250))
    assert not entry["limit"]
