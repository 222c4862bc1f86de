"""The local p is that of textbooks, the global p has the claimed rate of false alarms, and without it nothing has."""

import numpy as np
import pyhf
import pytest
from scipy import stats

from models.settings import AlarmSettings
from models.studies.counting import (
    Calibration,
    Expectation,
    Search,
    draw_counts,
    local_p,
    significance_of,
    upper_limit_of_p,
)

TOYS = 4000


def background(factor: float = 1.0) -> Expectation:
    """Two samples, one of heavy and a few negative weights, in four nested regions."""
    rng = np.random.default_rng(3)
    heavy, light = 600, 4000
    weight = np.concatenate([rng.normal(1.5, 0.1, heavy), rng.normal(0.1, 0.01, light)]) * factor
    weight[: heavy // 20] *= -1
    depth = np.minimum(rng.geometric(0.6, heavy + light), 4)
    return Expectation.of(weight, depth, np.repeat([0, 1], [heavy, light]), number=4)


def search(truth: Expectation, **settings: float) -> Search:
    """A search that is calibrated with what it is tried on."""
    chosen = AlarmSettings(calibration_toys=20_000, **settings)
    calibration = Calibration.of(
        truth, np.random.default_rng(8), chosen.calibration_toys, systematic=chosen.systematic
    )
    return Search(["1e-1", "1e-2", "1e-3", "1e-4"], truth, calibration, chosen)


def inside(passing: int, toys: int, claimed: float) -> bool:
    """Whether a claimed rate is in the binomial 99.9 % interval of the measured one."""
    interval = stats.binomtest(passing, toys).proportion_ci(0.999)
    return bool(interval.low <= claimed <= interval.high)


@pytest.mark.parametrize("count", [1, 3, 8, 15, 40])
def test_local_p_is_the_binomial_test_of_two_counts_and_the_tail_of_a_negative_binomial(count: int) -> None:
    simulated, tau = 20, 4.0  # a simulation of four times the luminosity
    p = float(local_p(count, simulated / tau, simulated / tau**2))
    binomial = stats.binomtest(count, count + simulated, 1 / (1 + tau), alternative="greater").pvalue
    assert p == pytest.approx(binomial, rel=1e-10)
    assert p == pytest.approx(stats.nbinom.sf(count - 1, simulated + 1, tau / (1 + tau)), rel=1e-10)


def test_local_p_of_a_background_without_error_is_the_poisson_probability() -> None:
    np.testing.assert_allclose(local_p([1, 5, 30], 4.0, 0.0), stats.poisson.sf([0, 4, 29], 4.0), rtol=1e-10)
    np.testing.assert_allclose(local_p(12, 5.0, 1e-7), stats.poisson.sf(11, 5.0), rtol=1e-4)


def test_no_event_and_no_background_are_no_excess() -> None:
    np.testing.assert_array_equal(local_p([0, 4, 4], [3.0, 0.0, -1.0], [1.0, 0.0, 2.0]), 1.0)


def test_a_systematic_error_counts_as_much_as_a_statistical_one() -> None:
    assert local_p(20, 10.0, 1.0, systematic=0.2) == pytest.approx(float(local_p(20, 10.0, 5.0)))
    assert local_p(20, 10.0, 1.0, systematic=0.2) > local_p(20, 10.0, 1.0)


# pyhf 0.7.6 validates with an old class of jsonschema.
@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")
@pytest.mark.parametrize(("count", "events", "error"), [(130, 100.0, 10.0), (70, 40.0, 6.0), (20, 8.0, 2.0)])
def test_significance_is_close_to_pyhfs_likelihood_ratio(count: int, events: float, error: float) -> None:
    model = pyhf.simplemodels.uncorrelated_background([10.0], [events], [error])
    asymptotic = pyhf.infer.hypotest(0.0, [count, *model.config.auxdata], model, test_stat="q0")
    ours = float(significance_of(local_p(count, events, error**2)))
    # The exact test of whole numbers is conservative, by up to half an event.
    assert float(stats.norm.isf(asymptotic)) - 0.2 < ours < float(stats.norm.isf(asymptotic))


def test_an_expectation_has_the_sums_of_its_events() -> None:
    weight = np.array([1.0, 2.0, -0.5, 0.5, 3.0, 7.0])
    depth = np.array([1, 2, 2, 1, 2, 0])  # the last is in no region
    expectation = Expectation.of(weight, depth, [0, 0, 0, 1, 1, 1], number=2)
    np.testing.assert_allclose(expectation.events, [6.0, 4.5])
    np.testing.assert_allclose(expectation.variance, [14.5, 13.25])
    np.testing.assert_allclose(expectation.bins, [1.5, 4.5])


def test_other_simulations_scatter_by_the_error_that_one_of_them_claims() -> None:
    truth = background()
    events, variance = truth.simulate(np.random.default_rng(1), 20_000)
    np.testing.assert_allclose(events.mean(axis=0), truth.events, rtol=0.01)
    np.testing.assert_allclose(events.var(axis=0), truth.variance, rtol=0.05)
    np.testing.assert_allclose(variance.mean(axis=0), truth.variance, rtol=0.01)
    # The tighter region is part of the looser.
    assert np.corrcoef(events[:, 0], events[:, 1])[0, 1] > 0.5


def test_a_systematic_error_moves_all_regions_of_a_simulation_together() -> None:
    truth = background()
    events, _ = truth.simulate(np.random.default_rng(1), 20_000, systematic=0.5)
    np.testing.assert_allclose(
        events.std(axis=0), np.sqrt(truth.variance * 1.25 + (0.5 * truth.events) ** 2), rtol=0.05
    )
    assert np.corrcoef(events[:, 0], events[:, 1])[0, 1] > 0.95


@pytest.mark.parametrize("systematic", [0.0, 0.3])
def test_background_alone_raises_as_many_alarms_as_claimed(systematic: float) -> None:
    trial = search(background(), systematic=systematic)
    p = trial.experiments(np.random.default_rng(2), TOYS)[-1]
    global_p = trial.calibration.global_p(p.min(axis=1))
    for claimed in (0.3, 0.05, 0.01, 0.0027):
        assert inside(int(np.sum(global_p < claimed)), TOYS, claimed)


def test_the_smallest_local_p_taken_for_a_global_one_raises_too_many_alarms() -> None:
    p = search(background()).experiments(np.random.default_rng(2), TOYS)[-1].min(axis=1)
    assert np.mean(p < 0.05) > 0.05
    assert not inside(int(np.sum(p < 0.05)), TOYS, 0.05)


def test_a_simulation_taken_for_exact_raises_too_many_alarms() -> None:
    trial = search(background())
    count, events, _, _ = trial.experiments(np.random.default_rng(2), TOYS)
    smallest = local_p(count, events, 0.0).min(axis=1)
    exact = draw_counts(np.random.default_rng(8), 20_000, trial.truth.bins)
    naive = Calibration(np.sort(local_p(exact, trial.truth.events, 0.0).min(axis=1)))
    alarms = int(np.sum(naive.global_p(smallest) < 0.01))
    assert not inside(alarms, TOYS, 0.01)
    assert alarms > 0.03 * TOYS


def test_the_rate_holds_where_the_truth_is_known_and_every_experiment_has_a_simulation_of_its_own() -> None:
    """Events of scattered weights, cuts fixed once: nothing is stood for by sums, no truth is taken from a sample."""
    rng = np.random.default_rng(11)
    cuts, yields, each = np.array([2.3, 3.4, 4.6]), np.array([900.0, 300.0]), np.array([2000, 3000])

    def simulation() -> Expectation:
        sizes = rng.poisson(each)
        sample = np.repeat([0, 1], sizes)
        score = rng.exponential(np.where(sample == 0, 1.0, 1.3))
        weight = (yields / each)[sample] * rng.uniform(0.5, 1.5, sizes.sum())
        return Expectation.of(weight, np.searchsorted(cuts, score), sample, number=3)

    calibration = Calibration.of(simulation(), rng, 20_000)
    above = yields @ np.exp(-cuts / np.array([[1.0], [1.3]]))
    smallest = []
    for _ in range(1500):
        expected = simulation()
        count = draw_counts(rng, 1, above - np.append(above[1:], 0.0))[0]
        smallest.append(local_p(count, expected.events, expected.variance).min())
    p = calibration.global_p(smallest)
    for claimed in (0.3, 0.05, 0.01):
        assert inside(int(np.sum(p < claimed)), len(p), claimed)
    assert not inside(int(np.sum(np.array(smallest) < 0.05)), len(p), 0.05)


def test_a_p_that_no_pseudo_experiment_reaches_is_limited_by_their_number() -> None:
    calibration = search(background()).calibration
    assert calibration.global_p(0.0) == 0
    assert upper_limit_of_p(calibration.global_p(0.0), calibration.toys) == 1 / 20_000
    assert upper_limit_of_p(0.3, calibration.toys) == 0.3
    assert calibration.global_p(1.0) == 1


def test_significances_are_finite() -> None:
    np.testing.assert_allclose(significance_of([0.5, stats.norm.sf(3), 0.0, 1.0]), [0, 3, 37, -3], atol=1e-9)
