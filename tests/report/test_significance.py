"""Expected significances on the page: nothing beyond what simulation supports, failures by name, no data."""

import copy
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest

from models.studies.significance import asimov_significance
from report.gallery import Region
from report.settings import ReportSettings
from report.significance import draw_limits, draw_scan, significance_section
from report.style import Sample

Datasets = dict[str, dict[str, Any]]
EFFICIENCIES = np.geomspace(1, 1e-5, 51)
N_EFF = 2_000 * EFFICIENCIES
B = 5_000 * EFFICIENCIES


def _measures(s: np.ndarray, eps: np.ndarray) -> dict[str, Any]:
    b, n_eff = 5_000 * eps, 2_000 * eps
    z = asimov_significance(s, b, np.hypot(b / np.sqrt(n_eff), 0.1 * b))
    found = {
        "z": z, "z_error": 0.1 * z, "z_statistical": 1.2 * z, "z_without": asimov_significance(s, b),
        "s_over_sqrt_b": s / np.sqrt(b),
    }  # fmt: skip
    return {
        name: [float(v) if n >= 10 else None for v, n in zip(values, n_eff, strict=True)]
        for name, values in found.items()
    }


def _document(datasets: Datasets) -> dict[str, Any]:
    """The part of significance.json of a region; the last signal's fit has failed, one has few events."""
    stated = {key: float(key) for key in ("1e-1", "1e-2", "1e-3", "1e-4")}
    signals: dict[str, Any] = {}
    names = [facts["process"] for facts in datasets.values() if facts["kind"] == "signal"]
    for number, name in enumerate(names):
        yields = 40.0 / (1 + number) * EFFICIENCIES**0.1
        at = _measures(
            40.0 / (1 + number) * np.array(list(stated.values())) ** 0.1, np.array(list(stated.values()))
        )
        scan = _measures(yields, EFFICIENCIES)
        limit: dict[str, Any] = {"status": "failed", "reason": "the fit at a strength of 1 did not converge"}
        if number < len(names) - 1:
            limit = {
                "status": "fitted", "reason": "", "median": 0.5 + number, "minus2": 0.2 + number,
                "minus1": 0.3 + number, "plus1": 0.8 + number, "plus2": 1.2 + number,
                "without_systematic": 0.45 + number, "error": 0.01, "events": 4.0 + number, "few_events": number == 0,
            }  # fmt: skip
        best = int(np.nanargmax([-1.0 if z is None else z for z in scan["z"]]))
        signals[name] = {
            "family": name, "label": name, "process": name, "model": {}, "datasets": [name], "n": 3000,
            "sumw": 40.0, "sumw_error": 0.7,
            "cuts": {
                key: {
                    "s": 10.0, "s_error": 0.5, **{field: values[i] for field, values in at.items()},
                    "unsupported": at["z"][i] is None,
                    "variable": {"name": "met_et", "z": 1.5, "z_error": 0.1} if number else None,
                }
                for i, key in enumerate(stated)
            },
            "scan": {"s": yields.tolist(), **scan},
            "best": {
                "eps_b": float(EFFICIENCIES[best]), "score": 1.0, "s": 9.0, "b": 30.0, "n_eff": 11.0,
                "z": scan["z"][best], "z_error": 0.1,
            },
            "limit": limit,
        }  # fmt: skip
    return {
        "complete": True, "model": "table-small", "lumi_pb": 10_064.0, "systematic": 0.1, "min_effective": 10.0,
        "background": {"n": 2000, "sumw": 5000.0, "n_eff": 2000.0},
        "cuts": {
            key: {
                "eps_b": eps, "score": -np.log10(eps), "b": 5_000 * eps, "b_error": 5_000 * eps / np.sqrt(2_000 * eps),
                "b_uncertainty": 600 * eps, "n_eff": 2_000 * eps, "supported": 2_000 * eps >= 10,
            }
            for key, eps in stated.items()
        },
        "tightest": "1e-2",
        "scan": {
            "eps_b": EFFICIENCIES.tolist(), "score": (-np.log10(EFFICIENCIES)).tolist(), "b": B.tolist(),
            "b_error": (B / np.sqrt(N_EFF)).tolist(), "n_eff": N_EFF.tolist(),
        },
        "signals": signals,
        "limits": {"confidence": 0.95, "min_effective": 10.0, "background": [1.0] * 12, "variations": ["normUp"]},
    }  # fmt: skip


@pytest.fixture
def document(datasets: Datasets) -> dict[str, Any]:
    return json.loads(json.dumps(_document(datasets)))


@pytest.fixture
def region(datasets: Datasets, histograms: dict[str, hist.Hist], demo: Sample) -> Region:
    return Region("2L", demo, datasets, {}, {}, {}, ReportSettings())


def _write(folder: Path, document: dict[str, Any]) -> Path:
    (folder / "significance.json").write_text(json.dumps({"format": 1, "regions": {"2L": document}}))
    return folder


def test_without_the_stage_there_is_no_section(tmp_path: Path, region: Region, document: Any) -> None:
    assert significance_section(tmp_path, region) is None
    _write(tmp_path, document)
    other = Region("3L", region.sample, region.datasets, {}, {}, {})
    assert significance_section(tmp_path, other) is None


def test_unsupported_significances_are_dashes(tmp_path: Path, region: Region, document: Any) -> None:
    section = significance_section(_write(tmp_path, document), region)
    assert section is not None
    cuts, signals, _ = section.tables
    assert [row[-1].value for row in cuts.rows] == ["yes", "yes", "no", "no"]
    place = [column.endswith("10<sup>\u22123</sup>") for column in signals.columns].index(True)
    assert {row[place].html for row in signals.rows} == {"\u2013"}
    assert all(row[place - 1].value is not None for row in signals.rows)


def test_the_page_says_which_fits_failed_and_which_limits_are_of_few_events(
    tmp_path: Path, region: Region, document: Any
) -> None:
    section = significance_section(_write(tmp_path, document), region)
    assert section is not None
    limits = section.tables[-1]
    assert [row[-1].value for row in limits.rows] == [""] * (len(limits.rows) - 1) + ["fit failed"]
    assert limits.rows[-1][1].html == "\u2013"
    assert "did not converge" in limits.rows[-1][-1].html
    assert limits.rows[0][1].html.endswith("*")
    assert not limits.rows[1][1].html.endswith("*")
    assert "The fit failed for 1 signal<" in section.text
    assert "fewer than five signal events" in section.text
    assert "norm move all bins together" in section.text


def test_the_systematic_uncertainty_that_is_assumed_is_stated(
    tmp_path: Path, region: Region, document: Any
) -> None:
    section = significance_section(_write(tmp_path, {**document, "systematic": 0.25}), region)
    assert section is not None
    assert "systematic uncertainty of 25 %" in section.text


def test_simulation_too_small_for_any_cut_is_said_first(
    tmp_path: Path, region: Region, document: Any
) -> None:
    for cut in document["cuts"].values():
        cut["supported"] = False
    section = significance_section(_write(tmp_path, {**document, "tightest": None}), region)
    assert section is not None
    assert section.text.startswith("<p>No cut of the stated background efficiencies")


def test_without_signals_the_cuts_are_still_told(tmp_path: Path, region: Region, document: Any) -> None:
    section = significance_section(_write(tmp_path, {**document, "signals": {}, "limits": {}}), region)
    assert section is not None
    assert [table.name for table in section.tables] == ["2L_significance_cuts"]
    assert not section.drawings


def test_curves_end_where_ten_effective_events_end(document: Any, demo: Sample) -> None:
    signals = [(name, entry["scan"]) for name, entry in document["signals"].items()]
    figure = draw_scan(document["scan"], signals, sample=demo, systematic=0.1, fewest=10)
    panels = [ax for ax in figure.axes if ax.get_visible() and ax.lines]
    assert len(panels) == len(signals)
    for panel in panels:
        assert panel.get_xlim() == pytest.approx((1.0, 1e-4)), "the tightest cut is on the right"
        for line in panel.lines:
            x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            assert x[np.isfinite(y)].min() >= 10 / 2_000
            assert np.nanmax(y) < panel.get_ylim()[1] / 1.3
    figure.savefig(BytesIO(), format="png")


def test_a_failed_fit_is_drawn_as_words(document: Any, demo: Sample) -> None:
    limits = [(name, entry["limit"]) for name, entry in document["signals"].items()]
    figure = draw_limits(limits, sample=demo)
    ax = figure.axes[0]
    assert "fit failed" in [text.get_text() for text in ax.texts]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0].endswith(" *")
    assert len(labels) == len(limits)
    bands = [patch for patch in ax.patches if patch.get_width() > 0]
    assert len(bands) >= 2 * (len(limits) - 1)
    figure.savefig(BytesIO(), format="png")


def test_more_signals_than_are_drawn_one_by_one_leave_the_weakest_out(
    tmp_path: Path, datasets: Datasets, demo: Sample, document: Any
) -> None:
    few = Region("2L", demo, datasets, {}, {}, {}, ReportSettings(max_power_figures=2))
    section = significance_section(_write(tmp_path, document), few)
    assert section is not None
    scan = next(drawing for drawing in section.drawings if drawing.name == "2L_significance_scan")
    assert len(scan.data["signals"]) == 2
    assert "the 2 of largest significance" in scan.title
    json.dumps([drawing.data for drawing in section.drawings], allow_nan=False)


def test_a_document_of_another_signal_is_still_shown_by_its_label(
    tmp_path: Path, region: Region, document: Any
) -> None:
    other = copy.deepcopy(document)
    entry = other["signals"].pop(next(iter(other["signals"])))
    other["signals"]["unknown"] = {**entry, "process": "unknown", "label": "An unknown signal"}
    section = significance_section(_write(tmp_path, other), region)
    assert section is not None
    assert "An unknown signal" in {row[0].html for row in section.tables[1].rows}
