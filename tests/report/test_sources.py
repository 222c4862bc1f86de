"""A preset's result in its source's own form: the right events together, and the source's number beside ours."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, poisson

from models.presets import PRESETS
from report.sources import asimov_significance, source_table

DEMO = "Pythia 8 simulation, pseudo-data"


def _signal(family: str, sumw: float, area: float, **model: float) -> dict[str, Any]:
    efficiencies = {
        "1e-1": {"value": 0.9, "n_eff_background": 40.0},
        "1e-2": {"value": 0.5, "n_eff_background": 16.0},
        "1e-3": {"value": None, "unsupported": True},
    }
    scores = {"score": {"auc": area, "eps_s": efficiencies}, "met_et": {"auc": 0.7}}
    return {"family": family, "n": 100, "sumw": sumw, "model": model, "scores": scores}


def _result(preset: str, *, collapsed: bool = False) -> dict[str, Any]:
    card = {"preset": preset, "collapsed": collapsed, "thresholds": {"1e-2": {"score": 1.25}}}
    signals = {
        "a": _signal("G_mumu", 900.0, 0.99),
        "b": _signal("G_ee", 30.0, 0.8),
        "c": _signal("SUSYC1N2", 10.0, 0.6, m_C1N2_GeV=450.0, m_N1_GeV=300.0),
        "d": _signal("WR_lN", 500.0, 1.0),
    }
    return {"model": {"card": card}, "signals": signals}


def test_the_reports_number_is_of_all_its_signals_but_one() -> None:
    """Heavy neutrinos were not among them; G_mumu would have decided the area."""
    table = source_table("2L", _result("report-standard"), events=DEMO)
    assert table is not None
    rows = {row[0]: row for row in table.rows}
    assert rows["all but G_mumu"][2] == f"{(30 * 0.8 + 10 * 0.6) / 40:.3f}"
    assert rows["all but G_mumu"][-1] == "0.69"
    assert rows["all"][-1] == "-"
    assert rows["all"][2] == f"{(900 * 0.99 + 30 * 0.8 + 10 * 0.6) / 940:.3f}"
    assert "WR_lN" not in rows


def test_the_thesis_prints_area_cut_and_significance_of_each_point() -> None:
    table = source_table("3L", _result("thesis-ae-big"), events=DEMO, background_sumw=400.0)
    assert table is not None
    assert table.rows[0][0] == "C1N2 450/300"
    assert table.rows[0][1:3] == ("0.600", "0.700")
    assert table.rows[0][3:7] == ("1.25", "5", "4 ± 1", f"{asimov_significance(5, 4, 1):.2g}")
    assert table.rows[0][7:] == ("0.81", "0.94")
    assert table.rows[1][:2] == ("C1N2 800/50", "-")  # not in this sample


def test_the_page_shows_the_table_with_its_warnings() -> None:
    table = source_table("2L", _result("report-minmax", collapsed=True), events=DEMO)
    assert table is not None
    shown = table.on_page("2L")
    assert len(shown.rows) == len(table.rows)
    assert "This model has collapsed" in shown.caption


def test_what_is_no_source_or_not_its_region_has_no_such_table() -> None:
    assert source_table("3L", _result("report-minmax"), events=DEMO) is None
    assert source_table("2L", _result("thesis-vae-big"), events=DEMO) is None
    assert source_table("2L", _result("default"), events=DEMO) is None
    for preset in PRESETS:
        regions = [region for region in ("2L", "3L") if source_table(region, _result(preset), events=DEMO)]
        assert regions == ([] if "-" not in preset or preset == "upper-tail" else
                           ["2L"] if preset.startswith("report") else ["3L"])  # fmt: skip


def test_other_events_and_a_collapse_are_said() -> None:
    demo = source_table("2L", _result("report-minmax", collapsed=True), events=DEMO)
    real = source_table("2L", _result("report-minmax"), events="ATLAS Open Data, for educational use")
    assert demo is not None
    assert real is not None
    assert any("collapsed" in note for note in demo.notes)
    assert any("not the source's events" in note for note in demo.notes)
    assert not any("not the source's events" in note for note in real.notes)


@pytest.mark.parametrize(("signal", "background"), [(12.0, 30.0), (30.0, 100.0)])
def test_the_significance_is_that_of_counting(signal: float, background: float) -> None:
    """Without an error: the p-value of as many events as signal and background give; an error lowers it."""
    counted = norm.isf(poisson.sf(signal + background - 1, background))
    sharp = asimov_significance(signal, background, 0.0)
    assert sharp == pytest.approx(counted, rel=0.08)
    assert asimov_significance(signal, background, 1e-4) == pytest.approx(sharp, rel=1e-5)
    gauss = signal / np.hypot(np.sqrt(background), 0.5 * background)
    assert asimov_significance(signal, background, 0.5 * background) == pytest.approx(gauss, rel=0.35)
    assert asimov_significance(0.0, background, 1.0) == 0.0
