"""Distances of shapes are Jensen-Shannon's, and a cut that knows nothing of the mass is at the distance of chance."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from models.studies.bumps import Binning
from models.studies.scored import ScoredEvents
from models.studies.shapes import Cut, ShapeComparison, divergence, equal_parts


@pytest.fixture
def background():
    """Events of two samples of different weights, with a score that is independent of the mass and one that is not."""
    rng = np.random.default_rng(1)
    mass = rng.exponential(80.0, 6000) + 20.0
    weight = np.repeat([2.0, 0.2], 3000) * rng.choice([1.0, 1.5, -0.2], 6000, p=[0.6, 0.35, 0.05])
    columns = {"mll": mass, "blind": rng.normal(size=6000), "seeing": mass + rng.normal(0, 60, 6000)}
    return ScoredEvents(weight, columns, [3000, 3000], [float((weight[:3000] ** 2).sum())] * 2)


def _comparison(background, seed=2, replicas=400):
    return ShapeComparison.of(
        background, ["mll"], bins=10, replicas=replicas, rng=np.random.default_rng(seed)
    )


def test_the_divergence_is_that_of_scipy():
    rng = np.random.default_rng(3)
    first, second = rng.exponential(1.0, (5, 12)), rng.exponential(1.0, (5, 12))
    first[0, :4] = 0.0
    expected = [jensenshannon(p, q, base=2) ** 2 for p, q in zip(first, second, strict=True)]
    np.testing.assert_allclose(divergence(first, second), expected, rtol=1e-9)


def test_equal_shapes_are_at_no_distance_and_disjoint_ones_one_bit_apart():
    assert divergence([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]) == pytest.approx(0.0, abs=1e-12)
    assert divergence([1.0, 0.0], [0.0, 5.0]) == pytest.approx(1.0)
    assert divergence([1.0, -0.1], [2.0, 0.0]) == pytest.approx(0.0)


def test_bins_hold_equal_parts_of_the_background(background):
    edges = equal_parts(background.columns["mll"], background.weight, 10).edges
    share = (
        np.histogram(background.columns["mll"], edges, weights=background.weight)[0] / background.weight.sum()
    )
    np.testing.assert_allclose(share, 0.1, atol=2e-3)


def test_a_cut_keeps_the_part_that_was_asked_for(background):
    cut = Cut.at(0.1, background.columns["blind"], background)
    assert background.weight @ cut.passing == pytest.approx(0.1 * background.weight.sum())
    passing = (background.weight * cut.passing)[cut.passing > 0]
    assert cut.n_eff == pytest.approx(passing.sum() ** 2 / (passing**2).sum(), rel=0.02)


def test_cuts_that_know_nothing_of_the_mass_are_at_the_distance_of_chance(background):
    rng = np.random.default_rng(5)
    compare = _comparison(background)
    entries = [compare("mll", Cut.at(0.1, rng.normal(size=6000), background)) for _ in range(40)]
    assert np.median([entry["jsd"] for entry in entries]) == pytest.approx(entries[0]["expected"], rel=0.2)
    outside = sum(not entry["band"][0] <= entry["jsd"] <= entry["band"][1] for entry in entries)
    assert outside <= 7  # two are expected; eight or more have a probability of 1e-3
    assert np.mean([entry["p"]["value"] for entry in entries]) == pytest.approx(0.5, abs=0.2)


def test_a_cut_that_follows_the_mass_is_seen_at_once(background):
    entry = _comparison(background)("mll", Cut.at(0.1, background.columns["seeing"], background))
    assert entry["verdict"] == "changed"
    assert entry["p"]["limit"]
    assert entry["jsd"] > entry["band"][1]
    assert entry["drawn"]["ratio"][0] < 0.2
    assert entry["drawn"]["ratio"][-1] > 3


def test_ratios_are_efficiencies_in_bins_with_binomial_errors(background):
    unweighted = ScoredEvents(np.ones(6000), background.columns, [6000], [6000.0])
    compare = _comparison(unweighted)
    cut = Cut.at(0.1, unweighted.columns["seeing"], unweighted)
    drawn, edges = compare("mll", cut)["drawn"], np.array(compare.uncut("mll")["drawn"]["edges"])
    inside = (unweighted.columns["mll"] >= edges[3]) & (unweighted.columns["mll"] < edges[4])
    n, k = inside.sum(), cut.passing[inside].sum()
    assert drawn["ratio"][3] == pytest.approx(k / n / 0.1)
    assert drawn["ratio_error"][3] == pytest.approx(np.sqrt(k / n * (1 - k / n) / n) / 0.1)
    assert sum(drawn["share"]) == pytest.approx(1.0)


def test_errors_are_those_of_samples_made_again():
    """The error of a distance is its spread over independent samples of the same size."""
    found, errors = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        mass = rng.exponential(80.0, 3000)
        score = mass + rng.normal(0, 80, 3000)
        events = ScoredEvents(np.ones(3000), {"mll": mass}, [3000], [3000.0])
        bins = {"mll": Binning(80.0 * np.array([0, 0.1, 0.3, 0.6, 1.0, 1.6, 2.5, 100]))}
        compare = ShapeComparison(events, bins, bins, 200, rng)
        entry = compare("mll", Cut.at(0.2, score, events))
        found.append(entry["jsd"])
        errors.append(entry["jsd_error"])
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.5)


def test_a_cut_with_too_few_events_behind_it_is_not_judged(background):
    entry = _comparison(background)("mll", Cut.at(1e-3, background.columns["seeing"], background))
    assert entry["unsupported"]
    assert entry["jsd"] is None
