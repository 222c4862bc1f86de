import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.efficiency import Strata, UpperTail, auc, effective_events, share_error

RNG_SEED = 8


@pytest.fixture
def events():
    """Scores with ties, and weights, of background and signal."""
    rng = np.random.default_rng(RNG_SEED)
    background, signal = np.round(rng.normal(0, 1, 3000), 1), np.round(rng.normal(0.8, 1, 700), 1)
    return background, rng.exponential(1, 3000), signal, rng.exponential(1, 700)


def test_the_area_is_that_of_scikit_learn_with_weights_and_ties(events):
    background, wb, signal, ws = events
    truth = np.repeat([0, 1], [len(background), len(signal)])
    expected = roc_auc_score(
        truth, np.concatenate([background, signal]), sample_weight=np.concatenate([wb, ws])
    )
    assert auc(*events)[0] == pytest.approx(expected, abs=1e-12)


def test_a_weight_of_two_is_the_event_twice_in_the_area(events):
    background, _, signal, _ = events
    ones_b, ones_s = np.ones(len(background)), np.ones(len(signal))
    doubled = ones_b.copy()
    doubled[:500] = 2
    repeated = np.concatenate([background, background[:500]])
    expected = auc(repeated, np.ones(3500), signal, ones_s)[0]
    assert auc(background, doubled, signal, ones_s)[0] == pytest.approx(expected, abs=1e-12)


def test_negative_weights_take_away_what_positive_ones_put(events):
    background, wb, signal, ws = events
    extra = np.linspace(-3, 3, 50)
    area = auc(
        np.concatenate([background, extra, extra]),
        np.concatenate([wb, np.full(50, 2.0), np.full(50, -2.0)]),
        signal,
        ws,
    )[0]
    assert area == pytest.approx(auc(*events)[0], abs=1e-9)


def test_the_error_of_the_area_is_the_spread_of_repeated_experiments():
    rng = np.random.default_rng(RNG_SEED)
    found = [
        auc(rng.normal(0, 1, 300), rng.exponential(1, 300), rng.normal(1, 1, 100), rng.exponential(1, 100))
        for _ in range(400)
    ]
    areas, errors = np.array(found).T
    assert areas.std() == pytest.approx(errors.mean(), rel=0.12)


def held_out(rng, sizes, rates):
    """Test events of samples around 0 and 1.5, in which a fifth of the events is held out, scaled to all of them."""
    scores, weights, index, sumw2 = [], [], [], []
    for number, (size, weight) in enumerate(zip(sizes, rates, strict=True)):
        n = rng.poisson(size)
        score, w = rng.normal(1.5 * number, 1, n), weight * rng.exponential(1, n)
        test = rng.random(n) < 0.2
        scores.append(score[test])
        weights.append(w[test] * w.sum() / w[test].sum())
        index.append(np.full(test.sum(), number))
        sumw2.append(np.sum(w**2))
    return np.concatenate(scores), np.concatenate(weights), Strata(np.concatenate(index), np.array(sumw2))


def test_errors_of_held_out_events_that_stand_for_all_are_the_spread_of_repeated_experiments():
    rng = np.random.default_rng(RNG_SEED)
    signal = rng.normal(1, 1, 20_000)
    areas, shares = [], []
    for _ in range(300):
        score, weight, strata = held_out(rng, (3000, 1500), (1.0, 3.0))
        areas.append(auc(score, weight, signal, np.ones(len(signal)), strata))
        passing = score > 1.5
        share = weight[passing].sum() / weight.sum()
        shares.append((share, share_error(passing, weight, strata)))
    for found in (areas, shares):
        values, errors = np.array(found).T
        assert values.std() == pytest.approx(errors.mean(), rel=0.1)


def test_an_error_of_one_sample_is_binomial():
    passing = np.arange(1000) < 200
    assert share_error(passing, np.full(1000, 0.3)) == pytest.approx(np.sqrt(0.2 * 0.8 / 1000))


def test_an_area_without_positive_sums_is_not_a_number():
    assert np.isnan(auc([1.0], [-1.0], [2.0], [1.0])).all()


def test_a_threshold_keeps_the_wanted_share_of_the_weight():
    rng = np.random.default_rng(RNG_SEED)
    score, weight = rng.normal(0, 1, 50_000), rng.exponential(1, 50_000)
    tail = UpperTail.of(score, weight)
    for efficiency in (0.5, 0.1, 0.01):
        cut, error = tail.threshold(efficiency)
        assert weight[score >= cut].sum() / weight.sum() == pytest.approx(efficiency, abs=1e-4)
        assert 0 < error < 0.1
        passing = weight[score >= cut]
        assert tail.effective_above(efficiency) == pytest.approx(effective_events(passing), rel=0.02)


def test_a_threshold_error_is_the_spread_of_repeated_experiments():
    rng = np.random.default_rng(RNG_SEED)
    found = [UpperTail.of(rng.normal(0, 1, 2000), np.ones(2000)).threshold(0.05) for _ in range(300)]
    cuts, errors = np.array(found).T
    assert cuts.std() == pytest.approx(errors.mean(), rel=0.15)


def test_effective_events_count_equal_weights_and_discount_unequal_ones():
    assert effective_events(np.full(7, 0.3)) == pytest.approx(7)
    assert effective_events([1.0, 100.0]) == pytest.approx(1.02, abs=0.01)
    assert effective_events([]) == 0


def test_negative_weights_at_the_lowest_scores_count_in_the_sum_of_all():
    score, weight = np.arange(10.0), np.array([-2.0, -1.0, 3, 1, 1, -1, 2, 1, 1, 1])
    tail = UpperTail.of(score, weight)
    assert tail.total == weight.sum() == 6
    assert tail.at(0.5)[:2] == (7.0, 1.0)
    assert tail.efficiency(0.0, 1.0)[0] == 1.0
    assert (np.diff(tail.sumw) >= 0).all()


def test_pairs_of_opposite_weights_change_no_cut():
    rng = np.random.default_rng(RNG_SEED)
    for _ in range(50):
        score, weight = rng.normal(0, 1, 200), rng.uniform(0.5, 2, 200)
        at, extra = rng.normal(0, 1, 40), rng.uniform(0.1, 3, 40)
        plain = UpperTail.of(score, weight)
        mixed = UpperTail.of(np.concatenate([score, at, at]), np.concatenate([weight, extra, -extra]))
        assert mixed.total == pytest.approx(plain.total)
        for efficiency in (0.051, 0.303, 0.907):
            assert mixed.at(efficiency)[0] == plain.at(efficiency)[0]
