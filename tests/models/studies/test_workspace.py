"""The workspace of a score: pyhf fits it, and finds what is in it."""

from typing import Any

import numpy as np
import pyhf
import pytest
from coffea.processor import accumulate

from models.studies.workspace import bins_with_support, histfactory_workspace
from processors.histograms import score_histogram

# pyhf 0.7.6 validates with an old class of jsonschema.
pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver is deprecated:DeprecationWarning")

DATASETS = {
    "Zee": {"kind": "background", "group": "Zjets", "process": "Zee"},
    "ttbar": {"kind": "background", "group": "ttbar", "process": "ttbar_lep"},
    "data_A": {"kind": "data", "group": "data", "process": "data_A"},
    "C1N2": {"kind": "signal", "group": "SUSYC1N2", "process": "C1N2_450_300"},
    "WR": {"kind": "signal", "group": "WR_lN", "process": "WR_2000"},
}


def _histogram(*, injected: float = 0.0) -> Any:
    """Background with mean score 0 and 0.5, a signal at 3; data follow the background, plus `injected` signal."""
    rng = np.random.default_rng(7)

    def filled(dataset: str, score: Any, weight: float, *, varied: bool) -> Any:
        n = len(score)
        weights = {"nominal": np.full(n, weight)}
        if varied:
            weights |= {"normUp": np.full(n, 1.02 * weight), "normDown": np.full(n, 0.98 * weight)}
        return score_histogram(
            dataset,
            2,
            split=rng.integers(0, 3, n),
            flcomp=np.full(n, 6),
            score=score,
            weights=weights,
            variations=("nominal", "normUp", "normDown"),
        )

    observed = [rng.normal(0, 0.5, 1000), rng.normal(0.5, 0.5, 200), rng.normal(3, 0.3, round(50 * injected))]
    return accumulate(
        [
            filled("Zee", rng.normal(0, 0.5, 20_000), 0.05, varied=True),
            filled("ttbar", rng.normal(0.5, 0.5, 20_000), 0.01, varied=True),
            filled("C1N2", rng.normal(3, 0.3, 5_000), 0.01, varied=True),
            filled("WR", rng.normal(5, 0.3, 5_000), 0.001, varied=True),
            filled("data_A", np.concatenate(observed), 1.0, varied=False),
        ]
    )


def _fit(specification: dict[str, Any], signal: str) -> float:
    workspace = pyhf.Workspace(specification)
    model = workspace.model(measurement_name=signal)
    fitted = pyhf.infer.mle.fit(workspace.data(model), model)
    return float(fitted[model.config.poi_index])


def test_pyhf_finds_the_signal_strength_that_was_injected() -> None:
    specification = histfactory_workspace(_histogram(injected=1.0), DATASETS, region="2L")
    assert specification is not None
    assert _fit(specification, "C1N2_450_300") == pytest.approx(1.0, abs=0.35)


def test_pyhf_finds_nothing_in_background_alone() -> None:
    specification = histfactory_workspace(_histogram(), DATASETS, region="2L")
    assert specification is not None
    assert _fit(specification, "C1N2_450_300") < 0.1
    workspace = pyhf.Workspace(specification)
    model = workspace.model(measurement_name="C1N2_450_300")
    limit = pyhf.infer.hypotest(1.0, workspace.data(model), model, test_stat="qtilde")
    assert float(limit) < 0.05, "50 expected signal events above next to nothing are excluded"


def test_variations_and_statistics_stand_in_the_workspace() -> None:
    specification = histfactory_workspace(_histogram(), DATASETS, region="2L")
    assert specification is not None
    (channel,) = specification["channels"]
    z_jets = next(sample for sample in channel["samples"] if sample["name"] == "Zjets")
    for sample in channel["samples"]:
        has_error = any(modifier["type"] == "staterror" for modifier in sample["modifiers"])
        assert has_error == (sample["name"] in {"Zjets", "ttbar"}), (
            "signals must not dilute the background's error"
        )
    modifiers = {modifier["name"]: modifier for modifier in z_jets["modifiers"]}
    assert set(modifiers) == {"staterror_2L", "lumi"}
    np.testing.assert_allclose(
        modifiers["lumi"]["data"]["hi_data"], 1.02 * np.array(z_jets["data"]), atol=1e-5
    )
    assert sum(z_jets["data"]) == pytest.approx(1000, abs=1e-3)
    assert sum(specification["observations"][0]["data"]) == 1200


def test_a_workspace_of_incomplete_input_says_so_to_whoever_fits() -> None:
    scaled = {**DATASETS, "ttbar": {**DATASETS["ttbar"], "scale": 1.25}}
    specification = histfactory_workspace(_histogram(), scaled, region="2L")
    assert specification is not None
    workspace = pyhf.Workspace(specification)  # checks the format
    assert sorted(workspace.measurement_names) == ["C1N2_450_300 (incomplete)", "WR_2000 (incomplete)"]
    assert workspace.model(measurement_name="WR_2000 (incomplete)").config.poi_name == "mu_WR_2000"
    whole = {name: {**metadata, "scale": 1.0} for name, metadata in DATASETS.items()}
    specification = histfactory_workspace(_histogram(), whole, region="2L")
    assert specification is not None
    assert [entry["name"] for entry in specification["measurements"]] == ["C1N2_450_300", "WR_2000"]


def test_blinded_data_are_the_expectation() -> None:
    specification = histfactory_workspace(_histogram(injected=3.0), DATASETS, region="2L", blinded=True)
    assert specification is not None
    assert sum(specification["observations"][0]["data"]) == pytest.approx(1200, abs=1e-3)
    assert _fit(specification, "C1N2_450_300") < 0.05


def test_every_merged_bin_has_support() -> None:
    values = np.array([0, 5, 100, 20, 3, 0.5, 0.2, 0])
    variances = values * 0.5
    starts = bins_with_support(values, variances, minimum=10)
    assert starts[0] == 0
    merged, squared = np.add.reduceat(values, starts), np.add.reduceat(variances, starts)
    assert (merged**2 / squared >= 10).all()
    assert merged.sum() == values.sum()


def test_without_signal_there_is_nothing_to_fit() -> None:
    only = {
        name: {**m, "kind": "background" if m["kind"] == "signal" else m["kind"]}
        for name, m in DATASETS.items()
    }
    assert histfactory_workspace(_histogram(), only, region="2L") is None
