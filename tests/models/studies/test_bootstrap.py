"""Errors from replicas are those of the formulas, where there are formulas."""

import numpy as np
import pytest

from models.efficiency import auc, effective_events, share_error
from models.studies.bootstrap import Binning, ReplicaBackground, Replicas
from models.studies.power import GRID, Background, Power, entry_of, seeds_of
from models.studies.scored import ScoredEvents

NUMBER = 1_000


def events(score, weight, sumw2=None):
    return ScoredEvents(
        weight, {"score": score}, [len(weight)], [float(np.sum(weight**2) if sumw2 is None else sumw2)]
    )


@pytest.fixture(scope="module")
def samples():
    """Two backgrounds of which a fifth is held out, and a signal, all of Gaussian scores."""
    rng = np.random.default_rng(3)
    weights = {
        "Zee": rng.exponential(1, 4_000),
        "ttbar": rng.exponential(3, 1_500),
        "signal": rng.exponential(1, 900),
    }
    centres = {"Zee": 0.0, "ttbar": 1.0, "signal": 1.8}
    return {
        name: events(rng.normal(centres[name], 1, len(weight)), weight, np.sum(weight**2) / 5)
        for name, weight in weights.items()
    }


@pytest.fixture(scope="module")
def measured(samples):
    """Joined background, its ordered form, and measures of the signal, once and in all replicas."""
    known = {name: samples[name] for name in ("Zee", "ttbar")}
    signal, background = samples["signal"], ScoredEvents.join(list(known.values()))
    column = background.columns["score"]
    binning = Binning.of(column, background.weight)
    sums = Replicas.draw(known, number=NUMBER, seed=1, held_out=True).histograms(
        binning(column), binning.size
    )
    own = Replicas.draw({"signal": signal}, number=NUMBER, seed=1, held_out=False).histograms(
        binning(signal.columns["score"]), binning.size
    )[0]
    spread = Power(*ReplicaBackground(sums.sum(axis=0), GRID).measure(own))
    ordered = Background(column, background.weight)
    return background, ordered, ordered.measure(signal.columns["score"], signal.weight), spread


def test_the_area_and_its_error_are_those_of_delong(samples, measured):
    background, _, power, spread = measured
    signal = samples["signal"]
    area, error = auc(
        background.columns["score"],
        background.weight,
        signal.columns["score"],
        signal.weight,
        background.strata,
    )
    assert power.auc == pytest.approx(area, abs=1e-12)
    assert spread.auc.std() == pytest.approx(error, rel=0.1)
    assert spread.auc.mean() == pytest.approx(area, abs=0.2 * error)


def test_the_error_of_an_efficiency_at_a_fixed_cut_is_that_of_a_weighted_share(samples):
    signal = samples["signal"]
    binning = Binning(np.array([1.5]))
    replicas = Replicas.draw({"signal": signal}, number=NUMBER, seed=2, held_out=False)
    sums = replicas.histograms(binning(signal.columns["score"]), 2)[0]
    passing = signal.columns["score"] >= 1.5
    assert (sums[0] / sums.sum(axis=0)).std() == pytest.approx(share_error(passing, signal.weight), rel=0.1)


def test_held_out_events_fluctuate_as_strata_do(samples):
    known = {name: samples[name] for name in ("Zee", "ttbar")}
    background = ScoredEvents.join(list(known.values()))
    passing = background.columns["score"] >= 1.5
    replicas = Replicas.draw(known, number=NUMBER, seed=2, held_out=True)
    sums = replicas.histograms(Binning(np.array([1.5]))(background.columns["score"]), 2).sum(axis=0)
    expected = share_error(passing, background.weight, background.strata)
    assert (sums[0] / sums.sum(axis=0)).std() == pytest.approx(expected, rel=0.1)


def test_the_error_of_a_signal_efficiency_is_the_spread_of_repeated_experiments():
    rng = np.random.default_rng(5)
    found, errors = [], []
    for experiment in range(200):
        known, signal = (
            events(rng.normal(0, 1, 3_000), np.ones(3_000)),
            events(rng.normal(2, 1, 500), np.ones(500)),
        )
        b, s = known.columns["score"], signal.columns["score"]
        found.append(Background(b, known.weight).measure(s, signal.weight).at("1e-2"))
        if experiment % 5:
            continue
        binning = Binning.of(b, known.weight)
        sums = Replicas.draw({"b": known}, number=200, seed=1, held_out=True).histograms(
            binning(b), binning.size
        )
        own = Replicas.draw({"s": signal}, number=200, seed=1, held_out=False).histograms(
            binning(s), binning.size
        )
        errors.append(Power(*ReplicaBackground(sums[0], GRID).measure(own[0])).at("1e-2").std())
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.1)


def test_replicas_in_bins_of_one_count_each_are_the_measure_itself(samples, measured):
    """Bins are far finer than errors: with every event counted once, binned and exact measures are one."""
    background, ordered, power, spread = measured
    signal, column = samples["signal"], background.columns["score"]
    binning = Binning.of(column, background.weight)
    sums = np.bincount(binning(column), background.weight, binning.size)[:, None]
    own = np.bincount(binning(signal.columns["score"]), signal.weight, binning.size)[:, None]
    area, eps_s = ReplicaBackground(sums, GRID).measure(own)
    assert area[0] == pytest.approx(power.auc, abs=0.05 * spread.auc.std())
    told = ordered.supported
    assert np.all(np.abs(eps_s[told, 0] - power.eps_s[told]) < 0.35 * spread.eps_s[told].std(axis=1) + 1e-12)


def test_replicas_of_a_dataset_are_the_same_beside_any_other(samples):
    alone = Replicas.draw({"ttbar": samples["ttbar"]}, number=50, seed=1, held_out=True)
    among = Replicas.draw(samples, number=50, seed=1, held_out=True)
    start = len(samples["Zee"].weight)
    assert np.array_equal(alone.counts, among.counts[start : start + len(alone.counts)])
    assert np.array_equal(alone.scale[0], among.scale[1])
    assert alone.counts.mean() == pytest.approx(1, abs=0.02)


def test_a_difference_of_equal_scores_has_no_error_and_of_similar_ones_a_small_one(samples):
    rng = np.random.default_rng(6)
    known, signal = samples["Zee"], samples["signal"]
    spreads = []
    for noise in (0.0, 0.0, 0.1):
        b, s = (
            part.columns["score"] + noise * rng.normal(0, 1, len(part.weight)) for part in (known, signal)
        )
        binning = Binning.of(b, known.weight)
        sums = Replicas.draw({"Zee": known}, number=NUMBER, seed=1, held_out=True).histograms(
            binning(b), binning.size
        )
        own = Replicas.draw({"s": signal}, number=NUMBER, seed=1, held_out=False).histograms(
            binning(s), binning.size
        )
        spreads.append(ReplicaBackground(sums[0], GRID).measure(own[0])[0])
    assert (spreads[1] - spreads[0]).std() == 0
    assert 0 < (spreads[2] - spreads[0]).std() < 0.3 * spreads[0].std()


def test_the_significance_improvement_is_largest_where_ten_effective_events_are_left(measured):
    _, ordered, power, spread = measured
    entry = entry_of(power, spread, ordered, 500.0)["significance_improvement"]
    assert entry["n_eff_background"] >= 10
    curve = [power.eps_s[i] / np.sqrt(eps) for i, eps in enumerate(GRID) if ordered.n_eff[i] >= 10]
    assert entry["value"] == pytest.approx(max(curve))
    assert entry["value"] == pytest.approx(
        power.eps_s[np.argmin(abs(GRID - entry["eps_b"]))] / entry["eps_b"] ** 0.5
    )
    assert 0 < entry["error"] < 0.5 * entry["value"]


def test_fewer_than_ten_effective_events_support_nothing_and_say_so(measured):
    _, ordered, power, spread = measured
    entry = entry_of(power, spread, ordered, 9.0)
    assert entry["auc"] is None
    assert entry["reason"] == "9 effective signal events where 10 are needed"
    few = Background(np.arange(5.0), np.ones(5))
    assert "background" in entry_of(few.measure(np.ones(50), np.ones(50)), spread, few, 50.0)["reason"]
    assert entry_of(None, None, ordered, 0.0)["reason"] == "no signal events"
    whole = entry_of(power, spread, ordered, 500.0)["eps_s"]["1e-4"]
    assert whole["value"] is None
    assert whole["n_eff_background"] < 10


def test_a_band_spans_all_seeds_and_one_network_has_none(samples, measured):
    background, ordered, power, _ = measured
    signal = samples["signal"]
    worse = Background(background.columns["score"] * -1, background.weight)
    other = worse.measure(-signal.columns["score"] - 1, signal.weight)
    band = seeds_of([power, other], [ordered, worse], ordered)
    assert band["n"] == 2
    assert [band["auc"]["min"], band["auc"]["max"]] == sorted([power.auc, other.auc])
    assert np.all(np.array(band["roc"]["low"]) <= np.array(band["roc"]["high"]))
    assert seeds_of([power], [ordered], ordered) is None


def test_effective_events_of_a_cut_are_those_above_it(measured):
    background, ordered, _, _ = measured
    cut = ordered.tail.at(0.1)[0]
    passing = background.weight[background.columns["score"] >= cut]
    assert ordered.n_eff[np.argmin(abs(GRID - 0.1))] == pytest.approx(effective_events(passing), rel=0.02)
