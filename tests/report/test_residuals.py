"""Each input's share of the error is shown beside that of the background; a model's further scores stay in a table."""

from dataclasses import replace
from typing import Any

import hist
import numpy as np
import pytest
from coffea.processor import accumulate
from matplotlib.patches import Rectangle

from processors.residuals import residual_histogram, residual_sums
from report.gallery import Region, input_drawings, residual_drawings, score_drawings
from report.power import best_variable, compared
from report.processes import processes_of
from report.residuals import draw_error_shares, error_shares
from report.style import Sample
from report.tables import scores_table

FEATURES = ("met_et", "mll", "mt2")
Datasets = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def residuals(datasets: Datasets) -> hist.Hist:
    """Errors of three inputs: in signals the first is ten times as large; background of the training split has none."""
    rng = np.random.default_rng(5)
    parts = []
    for name, facts in datasets.items():
        errors = rng.exponential([10.0 if facts["kind"] == "signal" else 1.0, 1.0, 2.0], (600, 3))
        split = rng.integers(0, 3, 600).astype(np.uint8)
        if facts["kind"] == "background":
            errors[split != 2] = 0
        sums = residual_sums(errors.astype(np.float32), np.full(600, 0.5), split)
        parts.append({"r": residual_histogram(name, FEATURES, sums)})
    merged: hist.Hist = accumulate(parts)["r"]
    return merged


@pytest.fixture
def region(
    datasets: Datasets, histograms: dict[str, hist.Hist], residuals: hist.Hist, demo: Sample
) -> Region:
    own = {name.removeprefix("2L/"): histogram for name, histogram in histograms.items()}
    own["score/table-small/mae"] = own["score/table-small"]
    own["residuals/table-small"] = residuals
    return Region(name="2L", sample=demo, datasets=datasets, histograms=own, evaluation={}, models={})


def test_shares_are_those_of_held_out_background_and_of_all_signal(
    datasets: Datasets, residuals: hist.Hist
) -> None:
    signals = [process for process in processes_of(datasets) if process.kind == "signal"]
    background, found = error_shares(residuals, datasets, signals)
    assert background is not None
    np.testing.assert_allclose(background.share, [0.25, 0.25, 0.5], atol=0.03)
    assert background.total == pytest.approx(4.0, rel=0.1), (
        "training events, which have no error, do not count"
    )
    for shares in found:
        np.testing.assert_allclose(shares.share, [10 / 13, 1 / 13, 2 / 13], atol=0.03)
        assert shares.share.sum() == pytest.approx(1)
        assert (shares.error > 0).all()


def test_the_error_of_a_share_is_that_of_a_ratio_of_correlated_sums() -> None:
    rng = np.random.default_rng(9)
    datasets = {
        name: {"kind": "signal", "process": "s", "group": "s", "label": "s", "color": "k"}
        for name in ("a", "b")
    }
    (signal,) = processes_of(datasets)

    def shares() -> Any:
        parts = []
        for name, scale in (("a", 1.0), ("b", 3.0)):
            errors = rng.exponential(scale, (300, 1)) * rng.dirichlet([8.0, 1.0, 1.0], 300)
            errors[:, 0] *= rng.lognormal(0.0, 1.0, 300)
            weight = rng.choice([1.0, 2.0], 300)
            weight /= weight.sum()
            sums = residual_sums(errors.astype(np.float32), weight, np.full(300, 2, np.uint8))
            parts.append({"r": residual_histogram(name, FEATURES, sums)})
        _, (found,) = error_shares(accumulate(parts)["r"], datasets, [signal])
        return found

    repeated = [shares() for _ in range(300)]
    spread = np.std([found.share for found in repeated], axis=0)
    np.testing.assert_allclose(np.mean([found.error for found in repeated], axis=0), spread, rtol=0.12)


def test_one_event_that_is_most_of_a_sum_leaves_no_error_above_one(datasets: Datasets, demo: Sample) -> None:
    process = next(process for process in processes_of(datasets) if process.kind == "signal")
    errors = np.array([[9e4, 1e4, 1.0], *[[1.0, 1.0, 1.0]] * 99], np.float32)
    sums = residual_sums(errors, np.ones(100), np.full(100, 2, np.uint8))
    _, (found,) = error_shares(residual_histogram(process.datasets[0], FEATURES, sums), datasets, [process])
    assert found.share[0] == pytest.approx(0.9, abs=0.01)
    assert found.error[0] < 0.02, "with all inputs taken as known it would be 0.9"
    figure = draw_error_shares(found, [found], labels=FEATURES, sample=demo, name="table-small")
    assert figure.axes[0].get_xlim()[0] == 0
    assert found.share[0] < figure.axes[0].get_xlim()[1] <= 1


def test_the_inputs_of_a_signal_are_ranked_by_their_share(
    datasets: Datasets, residuals: hist.Hist, demo: Sample
) -> None:
    signals = [process for process in processes_of(datasets) if process.kind == "signal"]
    background, found = error_shares(residuals, datasets, signals)
    assert background is not None
    figure = draw_error_shares(background, found[:3], labels=FEATURES, sample=demo, name="table-small")
    panels = [ax for ax in figure.axes if ax.get_visible() and ax.patches]
    assert len(panels) == 3
    for panel, shares in zip(panels, found, strict=False):
        assert [text.get_text() for text in panel.get_yticklabels()] == ["met_et", "mt2", "mll"]
        widths = [patch.get_width() for patch in panel.patches if isinstance(patch, Rectangle)]
        assert widths == sorted(widths, reverse=True)
        assert shares.label in {text.get_text() for text in panel.texts}


def test_a_page_has_the_picture_and_one_stack_of_the_first_score(region: Region) -> None:
    drawings = residual_drawings(region)
    assert drawings[0].name == "2L_residuals"
    assert drawings[0].data["features"] == list(FEATURES)
    assert [drawing.name for drawing in score_drawings(region)] == ["2L_score"]
    names = [drawing.name for part in input_drawings(region) for drawing in part]
    assert names
    assert not any("residuals" in name or "score" in name for name in names)
    assert residual_drawings(replace(region, histograms={})) == []


def test_without_signals_background_groups_are_shown(region: Region) -> None:
    real = {name: facts for name, facts in region.datasets.items() if facts["kind"] != "signal"}
    (drawing,) = residual_drawings(replace(region, datasets=real))
    assert "Background" in drawing.data["shares"]
    assert len(drawing.data["shares"]) > 2


def test_further_scores_are_no_rivals_of_the_score_and_have_a_table(
    datasets: Datasets, evaluation: dict[str, Any]
) -> None:
    signals = {
        key: {
            **entry,
            "scores": {**entry["scores"], "score_mae": {**entry["scores"]["score"], "auc": 0.9999}},
        }
        for key, entry in evaluation["signals"].items()
    }
    for key, entry in signals.items():
        assert best_variable(entry["scores"]) == best_variable(evaluation["signals"][key]["scores"])
        assert "score_mae" not in compared(entry["scores"])
    table = scores_table("2L", signals, processes_of(datasets), ["mse", "mae"])
    assert table.columns[1:3] == ["AUC,<br>squared error", "AUC,<br>absolute error"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert all(row[2].value == 0.9999 and row[2].strong and not row[1].strong for row in table.rows)
