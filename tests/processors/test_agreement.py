"""The chi-square of data against simulation: by hand, by ROOT, and right on average in toys."""

import numpy as np
import pytest
from scipy import stats

from processors.agreement import MIN_EFFECTIVE, MIN_EXPECTED, agreement, merged_bins

EDGES = np.arange(5.0)


def test_without_simulation_error_it_is_pearsons_chi_square() -> None:
    data, expected = np.array([12.0, 25.0, 31.0, 40.0]), np.array([10.0, 30.0, 30.0, 38.0])
    found = agreement(data, expected, np.zeros(4), EDGES, normalise="absolute")
    assert found is not None
    assert found.chi2 == pytest.approx(4 / 10 + 25 / 30 + 1 / 30 + 4 / 38)
    assert found.ndf == 4
    assert found.p == pytest.approx(stats.chi2.sf(found.chi2, 4), rel=1e-12)


def test_shapes_are_compared_as_scipy_does_with_one_degree_of_freedom_less() -> None:
    data, expected = np.array([12.0, 25.0, 31.0, 40.0]), np.array([100.0, 300.0, 300.0, 380.0])
    found = agreement(data, expected, np.zeros(4), EDGES)
    scipy = stats.chisquare(data, expected * data.sum() / expected.sum())
    assert found is not None
    assert (found.chi2, found.p, found.ndf) == (
        pytest.approx(scipy.statistic), pytest.approx(scipy.pvalue), 3,
    )  # fmt: skip


def test_one_bin_with_simulation_error_by_hand() -> None:
    # n = 130, m = 100, s = 10: mu^2 + mu (100 - 100) - 13000 = 0.
    found = agreement([130.0], [100.0], [100.0], [0.0, 1.0], normalise="absolute")
    mu = np.sqrt(13_000.0)
    assert found is not None
    assert found.chi2 == pytest.approx((130 - mu) ** 2 / mu + (100 - mu) ** 2 / 100)
    assert found.deviation.pull == pytest.approx(30 / np.sqrt(200))


def test_the_largest_deviation_names_its_merged_bin() -> None:
    found = agreement(
        [50.0, 80.0, 2.0, 1.0], [50.0, 50.0, 3.0, 3.0], np.zeros(4), EDGES, normalise="absolute"
    )
    assert found is not None
    assert (found.deviation.low, found.deviation.high) == (1.0, 2.0)
    assert found.deviation.pull == pytest.approx(30 / np.sqrt(50))
    assert found.ndf == 3, "the last two bins are one"


def test_bins_are_merged_until_enough_is_expected_and_lose_no_event() -> None:
    rng = np.random.default_rng(3)
    expected, variance = rng.exponential(3.0, 60), rng.exponential(0.3, 60)
    starts = merged_bins(expected, variance)
    assert starts[0] == 0
    groups = np.add.reduceat(expected, starts)
    assert groups.sum() == pytest.approx(expected.sum())
    assert groups.min() >= MIN_EXPECTED
    assert (groups[:-1] ** 2 / np.add.reduceat(variance, starts)[:-1]).min() >= MIN_EFFECTIVE


def test_a_bin_of_few_heavy_simulated_events_is_not_trusted() -> None:
    # Ten events expected from a single simulated one.
    assert len(merged_bins(np.array([50.0, 10.0, 50.0]), np.array([1.0, 100.0, 1.0]))) == 2


@pytest.mark.parametrize(
    ("data", "expected"),
    [([0.0] * 4, [9.0] * 4), ([9.0] * 4, [0.0] * 4), ([3.0, 1.0, 0.0, 0.0], [1.0] * 4)],
    ids=["no data", "no simulation", "one merged bin"],
)
def test_what_cannot_be_compared_is_not(data: list[float], expected: list[float]) -> None:
    assert agreement(data, expected, np.zeros(4), EDGES) is None


def test_events_where_nothing_is_expected_count_against_the_simulation() -> None:
    agreeing = agreement([50, 50, 0, 0], [50, 50, 0, 0], np.zeros(4), EDGES, normalise="absolute")
    off = agreement([50, 50, 0, 40], [50, 50, 0, 0], np.zeros(4), EDGES, normalise="absolute")
    assert agreeing is not None
    assert off is not None
    assert agreeing.chi2 == 0
    assert off.p < 1e-6


@pytest.mark.parametrize("normalise", ["shape", "absolute"])
@pytest.mark.parametrize("events", [1_500, 40_000], ids=["data dominate the error", "simulation does"])
def test_toys_drawn_from_the_simulation_give_uniform_p_values(normalise: str, events: int) -> None:
    rng = np.random.default_rng(11)
    shape = np.exp(-np.arange(50) / 6.0)
    shape /= shape.sum()
    light, heavy = 0.5, 13 / 6  # two weights with mean 1, as of two samples
    ratios, p_values = [], []
    for _ in range(600):
        first, second = rng.poisson(0.7 * 9_000 * shape), rng.poisson(0.3 * 9_000 * shape)
        scale = events / 9_000
        found = agreement(
            rng.poisson(events * shape),
            scale * (light * first + heavy * second),
            scale**2 * (light**2 * first + heavy**2 * second),
            np.linspace(0, 500, 51),
            normalise=normalise,  # type: ignore[arg-type]
        )
        assert found is not None
        ratios.append(found.chi2 / found.ndf)
        p_values.append(found.p)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.04)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


@pytest.mark.root
def test_shapes_are_compared_as_root_does() -> None:
    ROOT = pytest.importorskip("ROOT")
    rng = np.random.default_rng(5)
    shape = np.exp(-np.arange(12) / 6.0)
    data, simulated = rng.poisson(900 * shape), rng.poisson(700 * shape)
    unweighted = ROOT.TH1D("unweighted", "", 12, 0, 12)
    weighted = ROOT.TH1D("weighted", "", 12, 0, 12)
    for position in range(12):
        unweighted.SetBinContent(position + 1, float(data[position]))
        weighted.SetBinContent(position + 1, 1.3 * simulated[position])
        weighted.SetBinError(position + 1, 1.3 * np.sqrt(simulated[position]))
    found = agreement(data, 1.3 * simulated, 1.69 * simulated, np.arange(13.0))
    assert found is not None
    assert found.ndf == 11
    assert found.chi2 == pytest.approx(unweighted.Chi2Test(weighted, "UW CHI2"), rel=1e-9)
    assert found.p == pytest.approx(unweighted.Chi2Test(weighted, "UW"), rel=1e-9)
