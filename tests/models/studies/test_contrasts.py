"""Errors of areas between scores that are not independent, against resampling and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.efficiency import Strata
from models.studies.contrasts import Scored, changed, difference, power

N = 400


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def events(rng, n=N, centre=0.0):
    return Scored(rng.normal(centre, 1, n), rng.uniform(0.5, 2, n))


def area(background, weight, signal, signal_weight):
    labels = np.repeat([0, 1], [len(background), len(signal)])
    return roc_auc_score(
        labels, np.concatenate([background, signal]), sample_weight=np.concatenate([weight, signal_weight])
    )


def resampled(n, statistic, rng, times=500):
    return np.std([statistic(rng.integers(0, n, n)) for _ in range(times)])


def test_the_area_of_changed_events_is_that_of_scikit_learn(rng):
    before = events(rng)
    after = before.score + rng.normal(0.5, 1, N)
    found = changed(before, after)
    assert found["auc"] == pytest.approx(area(before.score, before.weight, after, before.weight), abs=1e-12)
    assert found["shift"] == pytest.approx(np.average(after - before.score, weights=before.weight))


def test_errors_know_that_changed_and_unchanged_events_are_the_same(rng):
    before = events(rng)
    after = before.score + rng.normal(0.3, 0.2, N)
    found = changed(before, after)

    def again(which):
        return area(before.score[which], before.weight[which], after[which], before.weight[which])

    expected = resampled(N, again, rng)
    assert found["auc_error"] == pytest.approx(expected, rel=0.2)
    independent = power(before, Scored(after, before.weight))["auc_error"]
    assert found["auc_error"] < 0.5 * independent


def test_events_that_are_not_changed_are_not_noticed_and_nothing_is_uncertain(rng):
    before = events(rng, 20_000)
    found = changed(before, before.score)
    assert (found["auc"], found["auc_error"]) == (pytest.approx(0.5), pytest.approx(0, abs=1e-9))
    assert (found["shift"], found["shift_error"]) == (0, 0)
    assert found["alarms"]["value"] == pytest.approx(0.01, abs=1e-6)


def test_the_difference_of_two_models_is_surer_than_either_area(rng):
    truth = np.concatenate([rng.normal(0, 1, N), rng.normal(1, 1, N)])
    weight = rng.uniform(0.5, 2, 2 * N)
    one, other = (truth + rng.normal(0, size, 2 * N) for size in (0.2, 0.4))

    def pair(score):
        return Scored(score[:N], weight[:N]), Scored(score[N:], weight[N:])

    found = difference(pair(one), pair(other))
    areas = [power(*pair(score)) for score in (one, other)]
    assert found["difference"] == pytest.approx(areas[0]["auc"] - areas[1]["auc"], abs=1e-12)

    def again(which):
        b, s = which, N + rng.integers(0, N, N)
        return area(one[b], weight[b], one[s], weight[s]) - area(other[b], weight[b], other[s], weight[s])

    assert found["difference_error"] == pytest.approx(resampled(N, again, rng), rel=0.2)
    assert found["difference_error"] < 0.7 * areas[0]["auc_error"]


def test_signal_efficiency_is_the_share_above_the_background_quantile(rng):
    background, signal = (
        Scored(rng.normal(0, 1, 50_000), np.ones(50_000)),
        Scored(rng.normal(2, 1, 5000), np.ones(5000)),
    )
    found = power(background, signal)["eps_s"]["1e-2"]
    cut = np.quantile(background.score, 0.99)
    assert found["value"] == pytest.approx((signal.score > cut).mean(), abs=1e-3)
    assert found["n_eff_background"] == pytest.approx(500, rel=0.01)
    assert 0.005 < found["error"] < 0.03


def test_what_statistics_cannot_support_is_null_and_marked(rng):
    background = events(rng)
    few = events(rng, 9)
    found = power(background, few)
    assert found["auc"] is None
    assert found["unsupported"]
    assert difference((background, few), (background, few)) == {"difference": None, "difference_error": None}
    assert changed(few, few.score + 1)["unsupported"]
    assert power(background, background)["eps_s"]["1e-3"]["unsupported"]  # 0.4 events


def test_datasets_that_stand_for_more_events_are_less_uncertain_in_their_share(rng):
    """Two processes with different shifts: how much there is of each is known from all of their events."""
    index = np.repeat([0, 1], N // 2)
    before = Scored(rng.normal(0, 1, N), np.ones(N))
    after = before.score + np.where(index == 0, 0.0, 1.0)
    alone = changed(before, after)["shift_error"]
    strata = Strata(index, np.array([N / 2 / 100] * 2))
    assert changed(before._replace(strata=strata), after)["shift_error"] == pytest.approx(
        alone / 10, rel=0.01
    )
