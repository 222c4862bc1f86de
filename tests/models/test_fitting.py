"""What is said of a fit afterwards: whether it learnt anything, and whether it was given the time."""

import pytest

from models.fitting import Fit, collapse_remark, no_better_than_mean


def _fit(*errors):
    run = Fit(mean_predictor=1.0, val_mean_predictor=1.0)
    for error in errors:
        run.add(error, error, error)
    return run


def _card(*errors, **more):
    run = _fit(*errors)
    return {"collapsed": run.collapsed, "metrics": run.metrics()} | more


def test_what_removes_less_than_a_twentieth_of_the_error_of_the_mean_has_collapsed():
    assert no_better_than_mean(0.96, 1.0)
    assert not no_better_than_mean(0.94, 1.0)
    assert _fit(1.2, 0.96).collapsed
    assert not _fit(1.2, 0.94, 2.0).collapsed, "the kept epoch is the second"
    assert collapse_remark(_card(1.2, 0.5)) == ""


@pytest.mark.parametrize("errors", [(2.0, 1.5, 1.2), (1.3,), (1.02, 1.0, 0.98)])
def test_an_error_that_would_have_passed_the_mean_in_as_many_epochs_again_was_still_falling(errors):
    remark = collapse_remark(_card(*errors))
    assert remark.startswith("has collapsed or was not trained long enough: it is no better")
    assert remark.endswith("its error was still falling")


@pytest.mark.parametrize("errors", [(2.0, 1.0, 1.0), (5.0, 1.5, 1.49), (1.0, 0.99, 1.1), (1.001, 1.0, 0.999)])
def test_an_error_that_has_settled_at_the_mean_has_collapsed(errors):
    assert collapse_remark(_card(*errors)) == (
        "has collapsed: it is no better than predicting the mean of its inputs"
    )


def test_the_min_max_preset_of_the_report_slows_down_above_the_mean():
    """Its losses on the demo, in units of the mean predictor's: penalties hold it there, not lack of time."""
    errors = (6.50, 5.11, 3.86, 2.86, 2.25, 1.88, 1.66, 1.51, 1.40, 1.32, 1.264, 1.221, 1.179, 1.153, 1.137)
    assert collapse_remark(_card(*errors)).startswith("has collapsed:")
    assert "not trained long enough" in collapse_remark(_card(*errors[:4]))


def test_the_members_of_an_ensemble_are_asked_too():
    means = {"collapsed": True, "metrics": {"val_loss": 1.2}}
    assert "not trained long enough" in collapse_remark(means | {"members": [_card(2.0, 1.2)]})
    assert "not trained long enough" not in collapse_remark(means | {"members": [_card(1.0, 1.0)]})
    assert collapse_remark({"collapsed": True}).startswith("has collapsed:"), "a card of an older version"
