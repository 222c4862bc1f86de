"""Distances, efficiencies and verdicts agree with hand calculations and with scipy."""

import hist
import numpy as np
import pytest
import scipy.stats

from processors.criteria import Criterion, Efficiency, compared, criteria, folded, tag_comparisons


def _filled(values: np.ndarray, weights: np.ndarray | None = None, bins: int = 400) -> hist.Hist:
    filled = hist.Hist(hist.axis.Regular(bins, -4, 4, name="x"), storage=hist.storage.Weight())
    return filled.fill(values, weight=np.ones(len(values)) if weights is None else weights)


def test_what_lies_outside_is_in_the_first_and_last_bin() -> None:
    edges, contents, variances = folded(_filled(np.array([-9.0, 0.1, 9.0, 9.0]), bins=8), rebin=2)
    assert edges.tolist() == [-4, -2, 0, 2, 4]
    assert contents.tolist() == [1, 0, 1, 2]
    assert variances.tolist() == contents.tolist()
    assert folded(_filled(np.array([-9.0, 0.1]), bins=8), flow=False)[1].sum() == 1


def test_distance_and_p_value_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.normal(0, 1, 900), rng.normal(0.15, 1, 700)
    exact = scipy.stats.ks_2samp(one, two, method="asymp")
    found = compared(_filled(one), _filled(two))
    assert found is not None
    assert found["distance"] == pytest.approx(exact.statistic, abs=0.01)
    assert found["p"] == pytest.approx(exact.pvalue, abs=0.05)
    assert found["mean"][0] == pytest.approx(one.mean(), abs=0.01)
    assert found["mean"][1] == pytest.approx(one.std() / np.sqrt(900), rel=0.02)


def test_p_values_of_samples_of_one_distribution_are_spread_evenly_whatever_the_weights() -> None:
    rng = np.random.default_rng(2)
    p = []
    for _ in range(200):
        weights = rng.exponential(1.0, 500)
        found = compared(_filled(rng.normal(size=500), weights), _filled(rng.normal(size=800)))
        assert found is not None
        p.append(found["p"])
    assert 0.005 < np.mean(np.array(p) < 0.1) < 0.16
    assert np.mean(p) == pytest.approx(0.5, abs=0.12)


def test_fractions_are_compared_by_their_difference() -> None:
    def flags(passed: int, total: int) -> hist.Hist:
        filled = hist.Hist(hist.axis.Regular(2, -0.5, 1.5, name="x"), storage=hist.storage.Weight())
        return filled.fill(np.arange(total) < passed, weight=np.ones(total))

    found = compared(flags(600, 1000), flags(550, 1000))
    assert found is not None
    assert found["mean"][0] == pytest.approx(0.6)
    z = 0.05 / np.sqrt(0.6 * 0.4 / 1000 + 0.55 * 0.45 / 1000)
    assert found["p"] == pytest.approx(2 * scipy.stats.norm.sf(z), rel=1e-3)


def test_nothing_is_compared_with_an_empty_histogram() -> None:
    assert compared(_filled(np.zeros(3)), _filled(np.zeros(0))) is None


def test_wilson_interval_of_a_few_jets() -> None:
    few = Efficiency(0, 10)
    assert few.value == 0
    assert few.interval[0] == 0
    assert few.interval[1] == pytest.approx(1 / 11, rel=1e-6)
    assert Efficiency(770, 1000).error == pytest.approx(np.sqrt(0.77 * 0.23 / 1000), rel=0.01)
    assert Efficiency(0, 0).interval == (0.0, 1.0)


def test_a_criterion_that_could_not_be_measured_does_not_hold() -> None:
    assert Criterion("x", 1.0, None, 1.0, 2.0).holds
    assert not Criterion("x", 2.1, None, 1.0, 2.0).holds
    assert not Criterion("x", None, None, 1.0, 2.0).holds
    assert not any(entry.holds for entry in criteria({}, {}, "2lep"))


def _tags(passing: list[float]) -> hist.Hist:
    """One hundred jets in each of two bins of pT, of which these fractions pass all working points."""
    filled = hist.Hist(
        hist.axis.Variable([20, 50, 200], name="pt"),
        hist.axis.Integer(0, 5, name="passed", flow=False),
        storage=hist.storage.Int64(),
    )
    for pt, fraction in zip((30, 100), passing, strict=True):
        filled.fill(np.full(100, pt), np.where(np.arange(100) < 100 * fraction, 4, 0))
    return filled


def test_a_dependence_on_pt_is_found_though_the_mean_is_the_same() -> None:
    flat, rising = {"2lep/btag/b": _tags([0.7, 0.7])}, {"4lep/btag/b": _tags([0.5, 0.9])}
    found = tag_comparisons(flat, rising, "2lep")
    assert [entry.point for entry in found] == [85, 77, 70, 60]
    assert found[1].reference is not None
    assert found[1].sample.value == pytest.approx(found[1].reference.value)
    assert found[1].ndf == 2
    assert found[1].p is not None
    assert found[1].p < 1e-3
    same = tag_comparisons(flat, {"4lep/btag/b": flat["2lep/btag/b"]}, "2lep")
    assert same[0].chi2 == 0
    assert tag_comparisons(flat, {}, "2lep")[0].reference is None
