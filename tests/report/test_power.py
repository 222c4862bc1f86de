"""Power is shown per signal, and never without the best single variable."""

import copy
from io import BytesIO
from typing import Any

import hist
import numpy as np
import pytest

from report.power import auc_overview, best_variable, contestant_label, draw_shapes, roc, score_shapes
from report.processes import processes_of
from report.style import Sample
from report.tables import power_table

Datasets = dict[str, dict[str, Any]]


def test_the_best_single_variable_is_not_the_score() -> None:
    scores = {"score": {"auc": 0.9}, "met_et": {"auc": 0.7}, "mll": {"auc": 0.8}, "ht": {"auc": None}}
    assert best_variable(scores) == "mll"
    assert best_variable({"score": {"auc": 0.9}}) is None


def test_baselines_have_the_names_that_a_reader_knows_and_say_what_they_saw() -> None:
    assert contestant_label("baseline-largest-tail-variables") == "Largest upper tail (variables)"
    assert contestant_label("baseline-pca-rmm") == "PCA error (rmm)"
    assert contestant_label("met_et") != contestant_label("baseline-met_et")


def test_shapes_have_unit_area(datasets: Datasets, histograms: dict[str, hist.Hist], demo: Sample) -> None:
    edges, background, signals = score_shapes(histograms["2L/score/table-small"], datasets)
    assert background.total == pytest.approx(1.0)
    assert len(signals) == 5
    assert all(spectrum.total == pytest.approx(1.0) for _, spectrum in signals)
    figure = draw_shapes(edges, background, signals, xlabel="score", sample=demo)
    shown = [ax for ax in figure.axes if ax.get_visible() and ax.get_legend()]
    assert len(shown) == 5


def test_a_roc_curve_starts_at_one_in_ten_thousand_and_names_every_area(
    evaluation: dict[str, Any], demo: Sample
) -> None:
    entry = next(iter(evaluation["signals"].values()))
    figure = roc(entry, label="signal", sample=demo, n_eff=1_900.0)
    ax = figure.axes[0]
    assert ax.get_xlim() == pytest.approx((1e-4, 1.0))
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(labels) == len(entry["scores"]) + 1
    score = entry["scores"]["score"]
    assert f"Anomaly score  {score['auc']:.3f} ± {score['auc_error']:.3f}" in labels
    for line in ax.lines[: len(entry["scores"])]:
        assert np.all(np.asarray(line.get_xdata()) > 0)
    figure.savefig(BytesIO(), format="png")


def test_the_region_without_background_events_is_shaded(evaluation: dict[str, Any], demo: Sample) -> None:
    entry = next(iter(evaluation["signals"].values()))
    few = roc(entry, label="signal", sample=demo, n_eff=1_000.0)
    many = roc(entry, label="signal", sample=demo, n_eff=1e7)
    assert any("too few background events" in text.get_text() for text in few.axes[0].texts)
    assert not any("too few background events" in text.get_text() for text in many.axes[0].texts)


def test_the_shade_ends_where_the_tables_begin_to_quote(evaluation: dict[str, Any], demo: Sample) -> None:
    entry = copy.deepcopy(next(iter(evaluation["signals"].values())))
    entry["scores"]["score"]["significance_improvement"] = {"least_eps_b": 2.5e-3}
    (shade,) = roc(entry, label="signal", sample=demo, n_eff=1_000.0).axes[0].patches
    assert shade.get_extents().transformed(shade.axes.transData.inverted()).x1 == pytest.approx(2.5e-3)


def test_a_score_that_could_not_be_measured_is_drawn_as_such(
    evaluation: dict[str, Any], datasets: Datasets, demo: Sample
) -> None:
    signals = copy.deepcopy(evaluation["signals"])
    name = next(iter(signals))
    for score in signals[name]["scores"].values():
        score |= {"auc": None, "auc_error": None, "roc": {"eps_b": [], "eps_s": []}}
        score["eps_s"] = {
            point: {"value": None, "error": None, "n_eff_background": 3.0, "unsupported": True}
            for point in score["eps_s"]
        }
    labels = {key: key for key in signals}
    auc_overview(signals, labels=labels, sample=demo).savefig(BytesIO(), format="png")
    roc(signals[name], label=name, sample=demo).savefig(BytesIO(), format="png")
    first = power_table("2L", signals, processes_of(datasets)).rows[0]
    assert [cell.html for cell in first[2:]] == ["\u2013"] * len(first[2:])


def test_every_power_in_the_table_has_its_rival_beside_it(
    evaluation: dict[str, Any], datasets: Datasets
) -> None:
    table = power_table("2L", evaluation["signals"], processes_of(datasets))
    scores = next(iter(evaluation["signals"].values()))["scores"]
    rivals = [entry["auc"] for name, entry in scores.items() if name != "score"]
    assert table.rows[0][2].value == scores["score"]["auc"]
    assert table.rows[0][3].value == max(rivals)
    assert table.rows[0][2].strong == (scores["score"]["auc"] > max(rivals))
    heads = table.columns[2:]
    assert all("score" in head for head in heads[::2])
    assert all("best variable" in head for head in heads[1::2])
