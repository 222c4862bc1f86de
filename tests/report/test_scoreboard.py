"""Models, baselines and variables stand in one table, each number with its error or with why there is none."""

import copy
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from report.gallery import Region
from report.improvement import improvement_curves
from report.power import auc_overview, best_variable, roc
from report.scoreboard import scoreboard_section
from report.style import Sample
from report.tables import scores_table

Datasets = dict[str, dict[str, Any]]
FEW = {
    "value": None,
    "error": None,
    "unsupported": True,
    "reason": "3 effective background events where 10 are needed",
}
EPS_B = np.concatenate([[0.0], np.logspace(-4, 0, 65)])


def entry(role: str, power: float, *, seeds: bool = False) -> dict[str, Any]:
    """A score with ε_S = ε_B^power, whose area is 1/(1 + power)."""
    area, eps_s = 1 / (1 + power), EPS_B**power
    found = {
        "role": role, "auc": area, "auc_error": 0.002,
        "eps_s": {f"1e-{d}": {"value": 10 ** (-d * power), "error": 0.01, "n_eff_background": 1_900 * 10.0**-d}
                  for d in (1, 2)} | {f"1e-{d}": FEW | {"n_eff_background": 1_900 * 10.0**-d} for d in (3, 4)},
        "significance_improvement": {"value": 200 ** (0.5 - power), "error": 0.3, "eps_b": 0.005,
                                     "n_eff_background": 10.0, "least_n_eff": 10.0, "least_eps_b": 0.005},
        "roc": {"eps_b": EPS_B.tolist(), "eps_s": eps_s.tolist(), "error": (0.02 * eps_s).tolist()},
        "against_best": {"auc": {"variable": "met_et", "difference": area - 0.9, "error": 0.001},
                         "eps_s": {f"1e-{d}": {"variable": "met_et", "ratio": 0.9, "error": 0.02} for d in (1, 2)}},
    }  # fmt: skip
    if seeds:
        found["seeds"] = {
            "n": 5, "auc": {"min": area - 0.01, "max": area, "values": [area - 0.01, area]},
            "eps_s": {f"1e-{d}": {"min": None, "max": None, "values": [None]} for d in (1, 2, 3, 4)},
            "significance_improvement": {"min": 2.0, "max": 3.0, "values": [2.0, 3.0]},
            "roc": {"low": (0.9 * eps_s).tolist(), "high": eps_s.tolist()},
        }  # fmt: skip
    return found


@pytest.fixture
def compared(evaluation: dict[str, Any]) -> dict[str, Any]:
    """A region of evaluate.json with an ensemble, a baseline that beats every variable, and a ceiling."""
    result = copy.deepcopy(evaluation)
    for signal in [*result["signals"].values(), *result["processes"].values()]:
        signal["scores"] = {
            "score": entry("model", 0.15, seeds=True), "baseline-pca": entry("baseline", 0.05),
            "met_et": entry("variable", 1 / 9), "mll": entry("variable", 0.4),
        }  # fmt: skip
        signal["best_variable"] = {
            "auc": "met_et",
            "eps_s": {"1e-3": None},
            "significance_improvement": "met_et",
        }
    for signal in result["signals"].values():
        signal["ceiling"] = entry("ceiling", 0.01) | {"saw_this_signal": True}
    names = list(result["signals"])
    means = {f"1e-{d}": {"mean": 0.5, "error": 0.01, "ratio": 0.9, "ratio_error": 0.02} for d in (1, 2)}
    means |= {
        f"1e-{d}": {"mean": None, "error": None, "ratio": None, "ratio_error": None} | FEW for d in (3, 4)
    }
    delta = {"mean": -0.03, "error": 0.002, "worst": -0.04, "worst_error": 0.001, "worst_signal": names[0]}
    result["summary"] = {
        "signals": names, "left_out": [],
        "scores": {
            "score": {"role": "model", "auc": {"mean": 0.87, "error": 0.002}, "delta_auc": delta, "eps_s": means},
            "best_variable": {"role": "oracle", "auc": {"mean": 0.9, "error": 0.0}, "delta_auc": delta, "eps_s": means},
        },
    }  # fmt: skip
    result["bootstrap"] = {"replicas": 400, "seed": 7}
    return result


@pytest.fixture
def region(compared: dict[str, Any], datasets: Datasets, demo: Sample) -> Region:
    return Region(name="2L", sample=demo, datasets=datasets, histograms={}, evaluation=compared, models={})


def test_a_baseline_is_no_single_variable_however_good(compared: dict[str, Any]) -> None:
    scores = next(iter(compared["signals"].values()))["scores"]
    assert scores["baseline-pca"]["auc"] > scores["met_et"]["auc"]
    assert best_variable(scores) == "met_et"


def test_every_table_has_the_score_its_rivals_and_the_ceiling(region: Region) -> None:
    section = scoreboard_section(Path(), region)
    assert section is not None
    goal, areas, *_ = section.tables
    assert areas.columns[2:] == [
        "Score", "range over seeds", "best variable", "score \u2212 best", "PCA error",
        areas.columns[7], areas.columns[8], "trees, saw this signal",
    ]  # fmt: skip
    row = areas.rows[0]
    assert [row[place].value for place in (2, 4, 6)] == pytest.approx([1 / 1.15, 0.9, 1 / 1.05])
    assert all(row[place].error == 0.002 for place in (2, 4, 6, 9))
    assert goal.rows[0][4].value == -0.04
    assert "best single variable of each signal" in section.text
    assert all(len(line) == len(table.columns) for table in section.tables for line in table.rows)


def test_what_statistics_cannot_support_is_a_dash_with_the_reason(region: Region) -> None:
    section = scoreboard_section(Path(), region)
    assert section is not None
    efficiencies = next(table for table in section.tables if table.name.endswith("1e-3"))
    cell = efficiencies.rows[0][2]
    assert cell.value is None
    assert cell.html.startswith("\u2013")
    assert "3 effective background events" in cell.html


def test_an_evaluation_of_before_has_no_scoreboard(region: Region, evaluation: dict[str, Any]) -> None:
    assert scoreboard_section(Path(), replace(region, evaluation=evaluation)) is None


def test_networks_of_an_ensemble_are_no_scores_of_their_own(compared: dict[str, Any]) -> None:
    assert len(scores_table("2L", compared["signals"], [], ["mse", "member1", "mae"]).columns) == 5


def test_curves_have_bands_and_end_where_events_do(compared: dict[str, Any], demo: Sample) -> None:
    signals = compared["signals"]
    name = next(iter(signals))
    figure = improvement_curves(signals[name], label="signal", sample=demo)
    ax = figure.axes[0]
    assert len(ax.collections) >= 2  # error and range over networks
    score = ax.lines[0]
    assert min(np.asarray(score.get_xdata())) == pytest.approx(0.005**0.15, rel=0.03)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "range of 5 networks" in labels
    assert any("Trees that saw this signal" in label for label in labels)
    curve = roc(signals[name], label="signal", sample=demo, n_eff=1_900.0)
    assert any("PCA error" in text.get_text() for text in curve.axes[0].get_legend().get_texts())
    overview = auc_overview(signals, labels={key: key for key in signals}, sample=demo)
    assert "Saw the signal" in [text.get_text() for text in overview.legends[0].get_texts()]
    for drawn in (figure, curve, overview):
        drawn.savefig(BytesIO(), format="png")


@pytest.mark.parametrize(("power", "left"), [(0.15, 0.0), (0.0005, 1 - 1.4 * (1 - 0.005**0.0005))])
def test_the_axis_starts_near_what_is_told_where_that_is_little(
    compared: dict[str, Any], demo: Sample, power: float, left: float
) -> None:
    signal = compared["signals"][next(iter(compared["signals"]))]
    only = {"scores": {"score": entry("model", power)}}
    ax = improvement_curves(signal | only | {"ceiling": None}, label="signal", sample=demo).axes[0]
    told = np.asarray(ax.lines[0].get_xdata())
    assert ax.get_xlim()[0] == pytest.approx(left, abs=1e-4)
    assert ax.get_xlim()[0] < told.min()


def test_names_of_variables_stay_inside_the_frame_of_the_overview(
    compared: dict[str, Any], demo: Sample
) -> None:
    signals = {
        key: signal
        | {"scores": {"score": entry("model", 0.01), "met_et": entry("variable", 1e-6)}, "ceiling": None}
        for key, signal in compared["signals"].items()
    }
    figure = auc_overview(signals, labels={key: key for key in signals}, sample=demo)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    for panel in figure.axes[:2]:
        frame = panel.get_window_extent(renderer)
        assert panel.texts
        for text in panel.texts:
            box = text.get_window_extent(renderer)
            assert box.x1 < frame.x1
            assert box.y1 < frame.y1
