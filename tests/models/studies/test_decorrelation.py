"""A decorrelated score keeps the same part of background at every mass, and says which part."""

import json

import numpy as np
import pytest

from fileset.exceptions import FailureError, InputError
from models.studies.decorrelation import Decorrelation, load_decorrelations, save_decorrelations


def _background(n, seed):
    """A score that rises with the mass; above the median of its mass it falls exponentially."""
    rng = np.random.default_rng(seed)
    mass = 20 + rng.exponential(60.0, n)
    excess = rng.exponential(1.0, n)
    return mass, 0.02 * mass + excess, excess, rng.choice([0.5, 1.0, 2.0], n)


@pytest.fixture(scope="module")
def made():
    mass, score, _, weight = _background(200_000, seed=1)
    return Decorrelation.fit("mll", mass, score, weight, bins=20)


def test_the_score_is_minus_log10_of_the_part_of_background_above(made):
    mass, score, excess, _ = _background(50_000, seed=2)
    bulk = (mass > 25) & (mass < 150) & (excess < 4)
    true = excess[bulk] / np.log(10)
    np.testing.assert_allclose(made(score, mass)[bulk], true, atol=0.12)
    assert np.mean(made(score, mass)[bulk] - true) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("part", [0.1, 0.01])
def test_a_cut_keeps_the_same_part_at_every_mass(made, part):
    mass, score, _, weight = _background(400_000, seed=3)
    for which, low, high in (("raw", 0.0, 0.5), ("decorrelated", 0.7, 1.3)):
        values = score if which == "raw" else made(score, mass)
        order = np.argsort(-values)
        cut = values[order][np.searchsorted(np.cumsum(weight[order]), part * weight.sum())]
        slices = np.searchsorted(np.quantile(mass, np.arange(0.1, 1, 0.1)), mass)
        kept = [
            weight[(slices == k) & (values > cut)].sum() / weight[slices == k].sum() / part for k in range(10)
        ]
        if which == "raw":
            assert min(kept) < 0.5
            assert max(kept) > 1.5
        else:
            assert low < min(kept) <= max(kept) < high


def test_of_two_events_of_one_mass_the_one_with_the_larger_score_stays_ahead(made):
    score = np.linspace(0.0, 40.0, 400)
    for mass in (1.0, 20.0, 33.0, 90.0, 5000.0):
        values = made(score, np.full(400, mass))
        assert (np.diff(values) >= 0).all()
        assert values[-1] > values[200]


def test_tails_beyond_all_background_go_on_exponentially(made):
    far = made(np.array([0.02 * 60 + 20.0, 0.02 * 60 + 22.0]), np.full(2, 60.0))
    assert far[1] - far[0] == pytest.approx(2.0 / np.log(10), rel=0.3)


def test_a_small_sample_has_fewer_bins_whose_tails_it_can_measure():
    mass, score, _, weight = _background(250, seed=4)
    made = Decorrelation.fit("mll", mass, score, weight, bins=10)
    assert len(made.centres) <= 3
    with pytest.raises(InputError, match="too little background to decorrelate the score from mll"):
        Decorrelation.fit("mll", mass[:3], score[:3], weight[:3], bins=10)


def test_negative_weights_and_ties_are_allowed():
    mass, score, _, weight = _background(20_000, seed=5)
    weight[::11] *= -1
    made = Decorrelation.fit("mll", mass, np.round(score, 1), weight, bins=5)
    values = made(np.round(score, 1), mass)
    assert np.isfinite(values).all()
    assert weight[values > 1].sum() / weight.sum() == pytest.approx(0.1, abs=0.03)


def test_maps_survive_the_way_to_disk(tmp_path, made):
    path = tmp_path / "decorrelation" / "2L.json"
    save_decorrelations(path, {"mll": made}, region="2L", model="default-table")
    back = load_decorrelations(path, model="default-table")["mll"]
    mass, score, _, _ = _background(1000, seed=6)
    np.testing.assert_array_equal(back(score, mass), made(score, mass))


def test_maps_that_cannot_be_used_are_named(tmp_path, made):
    path = tmp_path / "2L.json"
    with pytest.raises(InputError, match="run the stage sculpting first"):
        load_decorrelations(path, model="default-table")
    save_decorrelations(path, {"mll": made}, region="2L", model="default-table")
    with pytest.raises(InputError, match="decorrelates the score of default-table, not of other"):
        load_decorrelations(path, model="other")
    content = json.loads(path.read_text())
    content["maps"]["mll"]["scores"][0].reverse()
    for broken in (json.dumps(content), "{", '{"maps": 3, "model": "default-table"}'):
        path.write_text(broken)
        with pytest.raises(FailureError, match="holds no decorrelation"):
            load_decorrelations(path, model="default-table")
