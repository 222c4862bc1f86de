"""Events made hard in one way are so in this way alone, and keep their leptons."""

import awkward as ak
import numpy as np
import pytest

from models.studies.hardening import STRENGTHS, harder
from models.studies.perturbations import event_features
from processors.settings import REGIONS, RMMSettings

REGION = REGIONS["2L"]
LEPTONS, JETS, MET = ["lep1_pt", "lep2_pt", "lep2_eta", "mll"], ["ht", "njet20"], ["met_et", "met_phi"]
COLUMNS = [*LEPTONS, *JETS, *MET]


@pytest.fixture(scope="module")
def record(top_pairs):
    return top_pairs


def features(record):
    values, index = event_features(record, COLUMNS, region=REGION, rmm=RMMSettings())
    assert len(index) == len(record)  # all leptons are still good ones
    return dict(zip(COLUMNS, values.T.astype(np.float64), strict=True))


def changed(record, way, strength, seed=5):
    return harder(record, way, strength, leptons=REGION.leptons, rng=np.random.default_rng(seed))


def same(one, other, names):
    return all(np.allclose(one[name], other[name], rtol=1e-5, atol=1e-4) for name in names)


@pytest.mark.parametrize(
    ("way", "untouched"),
    [
        ("leading lepton", ["lep2_eta", *JETS, *MET]),
        ("leptons", ["lep2_eta", *JETS, *MET]),
        ("jets", [*LEPTONS, *MET]),
        ("more jets", [*LEPTONS, *MET]),
        ("missing momentum", [*LEPTONS, *JETS]),
    ],
)
def test_one_way_leaves_the_others_as_they_were(record, way, untouched):
    before, after = features(record), features(changed(record, way, STRENGTHS[way][1]))
    assert same(before, after, untouched)
    assert not same(before, after, [name for name in COLUMNS if name not in untouched])


def test_masses_and_sums_follow(record):
    before, after = features(record), features(changed(record, "everything", 2.5))
    heavy = before["mll"] > 20  # leptons' own masses do not grow
    np.testing.assert_allclose(after["mll"][heavy], 2.5 * before["mll"][heavy], rtol=1e-3)
    np.testing.assert_allclose(after["met_et"], 2.5 * before["met_et"], rtol=1e-5)
    assert (after["ht"] >= 2.5 * before["ht"] * (1 - 1e-5)).all()  # softer jets are counted now too


def test_missing_momentum_is_added_as_a_vector(record):
    before, after = features(record), features(changed(record, "missing momentum", 100))
    x = after["met_et"] * np.cos(after["met_phi"]) - before["met_et"] * np.cos(before["met_phi"])
    y = after["met_et"] * np.sin(after["met_phi"]) - before["met_et"] * np.sin(before["met_phi"])
    np.testing.assert_allclose(np.hypot(x, y), 100, rtol=1e-4)
    assert abs(np.cos(np.arctan2(y, x)).mean()) < 0.1  # no direction is preferred


def test_jets_of_other_events_are_as_many_as_theirs_and_ordered(record):
    more = changed(record, "more jets", 3)
    assert len(ak.flatten(more.jet)) == 4 * len(ak.flatten(record.jet))
    assert ak.all(more.jet.pt[:, :-1] >= more.jet.pt[:, 1:])


def test_the_same_numbers_make_the_same_events(record):
    one, same_again, other = (features(changed(record, "more jets", 1, seed)) for seed in (5, 5, 6))
    assert same(one, same_again, COLUMNS)
    assert not same(one, other, JETS)
