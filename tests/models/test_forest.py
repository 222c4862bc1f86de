import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from models.forest import fit_forest


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(5)
    return np.column_stack(
        [rng.normal(size=3000), rng.exponential(size=3000), rng.poisson(1.0, 3000)]
    ).astype(np.float32)


def score(forest, inputs, **wanted):
    ((rows, values, residuals),) = forest(inputs, **wanted)
    assert rows == slice(0, len(inputs))
    return values[:, 0], residuals


@pytest.mark.parametrize("weighted", [True, False])
def test_scores_are_those_of_scikit_learn(inputs, weighted):
    weight = np.random.default_rng(6).uniform(0.1, 10, len(inputs)).astype(np.float32) ** (
        1 if weighted else 0
    )
    forest = fit_forest(inputs, weight, trees=50, events_per_tree=256, seed=9)
    reference = IsolationForest(n_estimators=50, max_samples=256, random_state=9)
    reference.fit(inputs, sample_weight=weight.astype(np.float64))
    found = np.concatenate([inputs, [[50, 50, 50], [-50, 0, 0]]]).astype(np.float32)
    np.testing.assert_allclose(score(forest, found)[0], -reference.score_samples(found), rtol=0, atol=1e-6)


def test_what_is_far_away_is_isolated_first(inputs):
    forest = fit_forest(inputs, np.ones(3000, np.float32), trees=100, events_per_tree=256, seed=1)
    far = np.array([[10.0, 15.0, 12.0]], dtype=np.float32)
    assert score(forest, far)[0] > 0.7
    assert np.median(score(forest, inputs)[0]) < 0.5


def test_events_of_large_weight_are_what_is_ordinary(inputs):
    tail = inputs[:, 1] > 2
    scores = [
        score(
            fit_forest(
                inputs, np.where(tail, w, 1).astype(np.float32), trees=100, events_per_tree=256, seed=1
            ),
            inputs[tail],
        )[0].mean()
        for w in (1, 1000)
    ]
    assert scores[1] < scores[0] - 0.05


def test_shares_of_inputs_add_up_to_the_score_and_name_what_isolates(inputs):
    forest = fit_forest(inputs, np.ones(3000, np.float32), trees=100, events_per_tree=256, seed=1)
    values, residuals = score(forest, inputs, residuals=True)
    np.testing.assert_allclose(residuals.sum(axis=1), values, rtol=1e-4)
    assert score(forest, inputs)[1].shape == (3000, 0)
    far = np.array([[0.0, 30.0, 1.0]], dtype=np.float32)
    assert score(forest, far, residuals=True)[1].argmax() == 1


def test_an_event_that_is_all_there_is_has_no_length_to_compare_with(inputs):
    forest = fit_forest(inputs[:1], np.ones(1, np.float32), trees=3, events_per_tree=256, seed=1)
    assert score(forest, inputs)[0] == pytest.approx(0.5)


@pytest.mark.parametrize("broken", [{"left": 0}, {"right": 10**6}, {"feature": 3}, {"feature": -5}])
def test_nodes_that_lead_nowhere_are_refused(inputs, broken):
    forest = fit_forest(inputs, np.ones(3000, np.float32), trees=3, events_per_tree=256, seed=1)
    arrays = dict(vars(forest))
    ((name, value),) = broken.items()
    arrays[name] = np.where(np.arange(len(forest.left)) == 0, value, arrays[name])
    with pytest.raises(ValueError, match="do not go together"):
        type(forest)(**arrays)
