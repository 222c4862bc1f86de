"""Expected limits: those of pyhf itself, of textbooks where there are many events, and never silently missing."""

import json
from typing import Any

import numpy as np
import pyhf
import pytest
from coffea.processor import accumulate

import models.studies.limits
from fileset.exceptions import FailureError
from models.settings import SignificanceSettings
from models.studies.limits import expected_limits, limits_workspace, signal_model, strength_limits
from processors.histograms import score_histogram

DATASETS = {
    "Zee": {"kind": "background", "group": "Zjets", "process": "Zee"},
    "ttbar": {"kind": "background", "group": "ttbar", "process": "ttbar_lep"},
    "data_A": {"kind": "data", "group": "data", "process": "data_A"},
    "C1N2": {"kind": "signal", "group": "SUSYC1N2", "process": "C1N2_450_300"},
    "WR": {"kind": "signal", "group": "WR_lN", "process": "WR_2000"},
    "none": {"kind": "signal", "group": "WR_lN", "process": "WR_9000"},
}
NOT_ASSUMED = SignificanceSettings(systematic=0.0)


def _histogram(*, norm: float = 0.02, data: int = 1200, of_signal: float = 0.01) -> Any:
    rng = np.random.default_rng(7)
    test = np.full(20_000, 2)

    def filled(dataset: str, centre: float, n: int, weight: float) -> Any:
        weights = {"nominal": np.full(n, weight)}
        if DATASETS[dataset]["kind"] != "data":
            weights |= {
                "normUp": np.full(n, (1 + norm) * weight),
                "normDown": np.full(n, (1 - norm) * weight),
            }
        return score_histogram(
            dataset, 2, split=test[:n], flcomp=np.full(n, 6), score=rng.normal(centre, 0.5, n), weights=weights,
            variations=("nominal", "normUp", "normDown"),
        )  # fmt: skip

    return accumulate(
        [
            filled("Zee", 0.0, 20_000, 0.05),
            filled("ttbar", 0.5, 20_000, 0.01),
            filled("C1N2", 2.0, 5_000, of_signal),
            filled("WR", 1.0, 5_000, 0.01),
            filled("none", 1.0, 0, 1.0),
            filled("data_A", 0.0, data, 1.0),
        ]
    )


@pytest.fixture(scope="module")
def limits() -> dict[str, Any]:
    return expected_limits(_histogram(), DATASETS, settings=SignificanceSettings())


def test_limits_are_those_that_pyhf_finds_fit_by_fit() -> None:
    background, error, signal = (np.array(a) for a in ([60.0, 12.0, 2.5], [4.0, 2.0, 0.7], [2.0, 4.0, 3.0]))
    varied = {"lumi": (1.05 * background, 0.95 * background)}
    model = signal_model(background, error, signal, background_varied=varied)
    initial = model.config.suggested_init()
    initial[model.config.poi_index] = 0.0
    _, theirs = pyhf.infer.intervals.upper_limits.upper_limit(model.expected_data(initial).tolist(), model)
    ours = strength_limits(model)
    assert list(ours.values()) == pytest.approx([float(limit) for limit in theirs], rel=2e-3)


def test_with_many_events_a_limit_is_two_standard_deviations() -> None:
    b, sigma, s = 10_000.0, 200.0, 500.0
    model = signal_model(np.array([b]), np.array([sigma]), np.array([s]))
    found = strength_limits(model)
    spread = np.hypot(np.sqrt(b), sigma) / s
    assert found["median"] == pytest.approx(1.96 * spread, rel=0.01)
    assert found["plus1"] == pytest.approx((1 + 1.727) * spread, rel=0.015)  # ndtri(1 - 0.05 ndtr(1))


def test_without_background_the_asymptotic_limit_is_known_to_be_two_events() -> None:
    model = signal_model(np.array([1e-6]), np.array([1e-7]), np.array([1.0]))
    assert strength_limits(model, bands={"median": 0})["median"] == pytest.approx(1.92, abs=0.01)


@pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")
def test_pyhf_repeats_the_limits_from_the_workspace_that_is_written(limits: dict[str, Any]) -> None:
    settings = SignificanceSettings()
    written = limits_workspace(_histogram(), DATASETS, region="2L", settings=settings)
    assert written is not None
    workspace = pyhf.Workspace(json.loads(json.dumps(written)))
    for name in ("C1N2_450_300", "WR_2000"):
        model = workspace.model(measurement_name=name)
        _, theirs = pyhf.infer.intervals.upper_limits.upper_limit(workspace.data(model), model)
        assert float(theirs[2]) == pytest.approx(limits["signals"][name]["median"], rel=5e-3)
        assert model.config.suggested_bounds()[model.config.poi_index][1] > 2 * float(theirs[4])


def test_fluctuations_upwards_weaken_the_limit(limits: dict[str, Any]) -> None:
    for name in ("C1N2_450_300", "WR_2000"):
        entry = limits["signals"][name]
        assert entry["status"] == "fitted"
        bands = [entry[band] for band in ("minus2", "minus1", "median", "plus1", "plus2")]
        assert bands == sorted(bands)
        assert entry["without_systematic"] < entry["median"]


def test_a_signal_far_from_the_background_is_limited_best(limits: dict[str, Any]) -> None:
    assert limits["signals"]["C1N2_450_300"]["median"] < 0.5 * limits["signals"]["WR_2000"]["median"]


def test_limits_scale_with_the_signal_and_know_how_many_events_they_are(limits: dict[str, Any]) -> None:
    weak = expected_limits(_histogram(of_signal=1e-5), DATASETS, settings=SignificanceSettings())
    one, other = (found["signals"]["C1N2_450_300"] for found in (limits, weak))
    assert other["median"] == pytest.approx(1000 * one["median"], rel=1e-3)
    assert (
        other["events"]
        == pytest.approx(one["events"], rel=1e-3)
        == pytest.approx(50 * one["median"], rel=1e-3)
    )
    assert one["few_events"] == (one["events"] < 5)
    # 5 000 equal events tell their number to 1.4 %, and those in the bins that matter not as well.
    assert 0.014 < one["error"] / one["median"] < 0.03


def test_background_alone_decides_the_bins(limits: dict[str, Any]) -> None:
    other = expected_limits(_histogram(data=0, of_signal=3.0), DATASETS, settings=SignificanceSettings())
    assert other["edges"] == limits["edges"]
    b, error = np.array(limits["background"]), np.array(limits["background_error"])
    assert (b**2 / error**2 >= 10).all()
    assert b.sum() == pytest.approx(1200)


def test_collision_data_do_not_matter(limits: dict[str, Any]) -> None:
    assert expected_limits(_histogram(data=0), DATASETS, settings=SignificanceSettings()) == limits


def test_what_moves_all_bins_weakens_limits_too() -> None:
    sure, unsure = (
        expected_limits(_histogram(norm=norm), DATASETS, settings=NOT_ASSUMED)["signals"]["WR_2000"]
        for norm in (0.001, 0.3)
    )
    assert unsure["median"] > 1.05 * sure["median"]


def test_a_signal_without_events_is_reported(limits: dict[str, Any]) -> None:
    assert limits["signals"]["WR_9000"]["status"] == "no signal"
    assert "not positive" in limits["signals"]["WR_9000"]["reason"]


def test_a_fit_that_fails_is_reported_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = models.studies.limits._limits

    def fitted(name: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        if name == "WR_2000":
            msg = "the fit at a strength of 1 did not converge"
            raise FailureError(msg)
        return whole(name, *arguments, **options)

    monkeypatch.setattr(models.studies.limits, "_limits", fitted)
    found = expected_limits(_histogram(), DATASETS, settings=SignificanceSettings())["signals"]
    assert found["WR_2000"] == {"status": "failed", "reason": "the fit at a strength of 1 did not converge"}
    assert found["C1N2_450_300"]["status"] == "fitted"


def test_a_likelihood_without_a_value_is_a_failure() -> None:
    negative = signal_model(np.array([1.0, 1.0]), np.array([0.1, 0.1]), np.array([0.1, -50.0]))
    with pytest.raises(FailureError, match="did not converge"):
        strength_limits(negative)


def test_bins_in_which_negative_weights_win_hold_no_signal() -> None:
    """A bin of the signal with a negative sum counts as empty: nothing can be expected less than never."""
    histogram = _histogram()
    rng = np.random.default_rng(3)
    negative = score_histogram(
        "C1N2", 2, split=np.full(50, 2), flcomp=np.full(50, 6), score=rng.normal(0.0, 0.1, 50),
        weights={name: np.full(50, -0.2) for name in ("nominal", "normUp", "normDown")},
        variations=("nominal", "normUp", "normDown"),
    )  # fmt: skip
    entry = expected_limits(accumulate([histogram, negative]), DATASETS, settings=SignificanceSettings())
    clean = expected_limits(histogram, DATASETS, settings=SignificanceSettings())
    one, other = (found["signals"]["C1N2_450_300"]["median"] for found in (entry, clean))
    assert one == pytest.approx(other, rel=0.01)


def test_without_signal_there_are_no_limits() -> None:
    only = {
        name: {**facts, "kind": "background" if facts["kind"] == "signal" else facts["kind"]}
        for name, facts in DATASETS.items()
    }
    assert expected_limits(_histogram(), only, settings=SignificanceSettings())["signals"] == {}
