"""The section says what was changed, what the score made of it, and what could not be told."""

import copy
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from models.studies.hardening import STRENGTHS
from report.gallery import Region
from report.robustness import robustness_section
from report.sections import Section
from report.style import Sample

Datasets = dict[str, dict[str, Any]]
NOTHING = {"value": None, "error": None, "n_eff_background": 3.0, "unsupported": True}


def change(auc: float, alarms: float | None = 0.2, **what: Any) -> dict[str, Any]:
    told = NOTHING if alarms is None else {"value": alarms, "error": 0.01, "n_eff_background": 50.0}
    return {**what, "auc": auc, "auc_error": 0.01, "shift": auc - 0.5, "shift_error": 0.002, "alarms": told}


def power(auc: float | None) -> dict[str, Any]:
    eps_s = {"1e-1": {"value": 0.5, "error": 0.02, "n_eff_background": 90.0}, "1e-2": NOTHING}
    return {"auc": auc, "auc_error": None if auc is None else 0.012, "eps_s": eps_s}


def compared(auc: float | None, nominal: float | None, label: str, process: str = "") -> dict[str, Any]:
    known = auc is not None and nominal is not None
    return {
        "label": label, "process": process, "group": "any", "n": 321, "sumw": 12.0, "n_train": 4567,
        "collapsed": False, "by_seed": [auc, auc], "spread": 0.0034 if known else None,
        "difference": auc - nominal if auc is not None and nominal is not None else None,
        "difference_error": 0.004 if known else None, **power(auc), "nominal": power(nominal),
    }  # fmt: skip


@pytest.fixture
def result(datasets: Datasets) -> dict[str, Any]:
    signal, learnt = [name for name, entry in datasets.items() if entry["kind"] == "signal"][:2]
    return {
        "complete": True,
        "model": {"name": "default-table", "features": 33, "checksum": "xxh128:0"},
        "sample": {"n": 11_533, "sumw": 14_000.0, "n_eff": 6_700.0},
        "inputs": {
            "lepton-pt": [change(0.5, factor=1.0), change(0.93, factor=3.0)],
            "lepton-pt-balanced": [change(0.5, factor=1.0), change(0.98, factor=3.0)],
            "harder": [
                change(0.8, way=way, strength=strength)
                for way, both in STRENGTHS.items()
                for strength in both
            ],
            "swapped-columns": [
                change(0.6, columns=[["mll", "met_et"]]),
                change(0.7, columns=[["mll", "met_et"], ["a<b", "c"]]),
            ],
            "swapped-objects": [change(0.55, object="e1", share=0.46), change(0.52, object="met", share=1.0)],
            "noise": [change(0.6, size=0.1), change(0.9, size=1.0)],
        },
        "retraining": {
            "epochs": 10,
            "seeds": [1, 2],
            "without-process": {
                "ttbar": compared(0.988, 0.97, r"$t\bar{t}$"),
                "Wjets": compared(None, None, r"$W$+jets"),
            },
            "little-data": {signal: compared(0.95, 0.96, "family", datasets[signal]["process"])},
            "inverse": {learnt: compared(0.74, 0.99, "family", datasets[learnt]["process"])},
        },
    }


@pytest.fixture
def section_of(tmp_path: Path, datasets: Datasets, demo: Sample) -> Callable[..., Section | None]:
    def make(result: dict[str, Any], name: str = "2L") -> Section | None:
        (tmp_path / "robustness.json").write_text(json.dumps({"format": 1, "regions": {"2L": result}}))
        return robustness_section(tmp_path, Region(name, demo, datasets, {}, {}, {}))

    return make


def texts(section: Section | None, table: str) -> list[list[str]]:
    assert section is not None
    (found,) = [one for one in section.tables if one.name == f"2L_robustness_{table}"]
    return [[cell.html for cell in row] for row in found.rows]


def test_there_is_no_section_where_the_stage_was_not_run(
    tmp_path: Path,
    datasets: Datasets,
    demo: Sample,
    result: dict[str, Any],
    section_of: Callable[..., Section | None],
) -> None:
    assert robustness_section(tmp_path, Region("2L", demo, datasets, {}, {}, {})) is None
    assert section_of(result, "3L") is None


def test_every_change_is_said_in_words_with_its_errors(
    result: dict[str, Any], section_of: Callable[..., Section | None]
) -> None:
    rows = texts(section_of(result), "inputs")
    assert len(rows) == 10 + 12
    assert rows[1] == [
        "leading lepton p<sub>T</sub> × 3",
        "0.930 ± 0.010",
        "0.4300 ± 0.0020",
        "0.200 ± 0.010",
    ]
    assert [row[0] for row in rows[4::6][:2]] == [
        "leading lepton p<sub>T</sub> × 2",
        "with the jets of other events: 1",
    ]
    assert [row[0] for row in rows[16:]] == [
        "mll ↔ met_et",
        "these 2 pairs at once",
        "e1 of another event (in 46.0 % of events)",
        "met of another event",
        "noise of 0.1 times the standard deviation",
        "noise of 1 times the standard deviation",
    ]


def test_new_trainings_stand_beside_the_nominal_one(
    result: dict[str, Any], section_of: Callable[..., Section | None]
) -> None:
    top, wjets = texts(section_of(result), "without-process")
    assert top[1:6] == [
        "321",
        "4\u202f567",
        "0.988 ± 0.012 <small>(0.0034)</small>",
        "0.970 ± 0.012",
        "0.0180 ± 0.0040",
    ]
    assert wjets[0] == "W+jets"
    assert set(wjets[3:6]) == {"–"}
    (inverse,) = texts(section_of(result), "inverse")
    assert inverse[2].startswith("0.740 ± 0.012")
    assert inverse[3] == "0.990 ± 0.012"


def test_a_collapsed_training_is_marked(
    result: dict[str, Any], section_of: Callable[..., Section | None]
) -> None:
    result["retraining"]["without-process"]["ttbar"]["collapsed"] = True
    assert "collapsed" in texts(section_of(result), "without-process")[0][0]


def test_the_text_says_how_long_was_trained_and_is_short_where_it_was_not(
    result: dict[str, Any], section_of: Callable[..., Section | None]
) -> None:
    section = section_of(result)
    assert section is not None
    assert "11\u202f533 held-out" in section.text
    assert "at most 10 epochs and 2 seeds" in section.text
    short = section_of(result | {"retraining": {}})
    assert short is not None
    assert "epochs" not in short.text
    assert [table.name for table in short.tables] == ["2L_robustness_inputs"]


def test_figures_show_what_was_tried_and_hold_their_numbers(
    result: dict[str, Any], section_of: Callable[..., Section | None]
) -> None:
    section = section_of(result)
    assert section is not None
    drawings = {drawing.name: drawing for drawing in section.drawings}
    assert list(drawings) == [
        f"2L_robustness_{name}" for name in ("lepton", "noise", "without-process", "little-data")
    ]
    lepton = drawings["2L_robustness_lepton"].draw()
    left, right = lepton.axes[:2]
    assert [list(line.get_xdata()) for line in left.lines[:2]] == [[1.0, 3.0], [1.0, 3.0]]
    assert list(left.lines[1].get_ydata()) == [0.5, 0.98]
    assert list(right.lines[0].get_ydata()) == [0.2, 0.2]
    assert len(left.collections) == 2  # a band each
    lepton.savefig(BytesIO(), format="png")
    processes = drawings["2L_robustness_without-process"]
    assert set(processes.data["without-process"]) == {"ttbar"}  # what is not known is not drawn
    names = [text.get_text() for text in processes.draw().axes[0].get_yticklabels()]
    assert names == [r"$t\bar{t}$"]


def test_where_the_cut_is_not_known_only_areas_are_drawn(
    result: dict[str, Any], section_of: Callable[..., Section | None]
) -> None:
    few = copy.deepcopy(result)
    few["inputs"] = {"noise": [change(0.6, None, size=0.1), change(0.9, None, size=1.0)]}
    section = section_of(few | {"retraining": {}})
    assert section is not None
    (drawing,) = section.drawings
    panels = [ax for ax in drawing.draw().axes if ax.lines]
    assert len(panels) == 1
    assert [row[3] for row in texts(section, "inputs")] == ["–", "–"]
