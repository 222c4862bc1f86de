"""The page says whether claimed rates of false alarms hold, what was found, and what was in the blind mix."""

import json
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection

from models.studies.counting import Calibration, Expectation
from report.alarm_figures import draw_calibration, draw_false_alarms, draw_injection
from report.alarms import ALARMS_HEADER, alarms_rows, alarms_section
from report.gallery import Region
from report.numbers import p_value
from report.pictures import save
from report.style import Sample

TOYS = 1000
Datasets = dict[str, dict[str, Any]]


def band(median: float) -> dict[str, float]:
    """Bands of a Gaussian significance."""
    places = {"low95": -2, "low68": -1, "median": 0, "high68": 1, "high95": 2}
    return {name: median + place for name, place in places.items()} | {"error": 0.04}


def rate(passing: int, *, inside: bool = True) -> dict[str, Any]:
    found = passing / TOYS
    return {"passing": passing, "rate": found, "low": 0.6 * found, "high": 1.5 * found, "inside": inside}


def injected(expected: float) -> dict[str, Any]:
    limited = expected > 4
    return {
        "expected": expected,
        "strength": expected / 2,
        "events": 3 * expected,
        "local": band(expected - 0.1),
        "bias": -0.1,
        "global": band(min(expected - 0.3, 4.26)) | {"limited": limited},
        "found": 0.003 + expected / 6,
        "found_error": 0.01,
    }


@pytest.fixture
def entry(datasets: Datasets) -> dict[str, Any]:
    """A region's part of alarms.json."""
    names = [name for name, facts in datasets.items() if facts["kind"] == "signal"]
    grid = np.geomspace(1e-3, 1, 20).tolist()
    used = {
        "cut": 0.2,
        "n_eff": [400.0, 450.0],
        "events": [1400.0, 1450.0],
        "error": [70.0, 69.0],
        "pull": -0.5,
    }
    unused = {"cut": None, "n_eff": [3.0, 5.0], "events": None, "error": None, "unsupported": True}
    counts = {"count": 299, "events": 154.0, "error": 17.0, "local_p": 6.5e-9, "local_significance": 5.7}
    return {
        "model": "table-small",
        "lumi_pb": 10.0,
        "settings": {
            "toys": TOYS, "calibration_toys": 100_000, "levels": [0.05, 0.0027], "injected": [0.0, 3.0, 5.0],
            "systematic": 0.0,
        },
        "cuts": {"1e-1": used, "1e-2": used | {"cut": 0.5}, "1e-3": unused},
        "calibration": {
            "toys": 100_000,
            "local_p": grid,
            "global_p": np.minimum(2 * np.array(grid), 1).tolist(),
            "largest_significance": {
                "edges": np.linspace(-2, 5, 8).tolist(),
                "calibration": [10_000, 30_000, 40_000, 15_000, 4000, 900, 100],
                "pseudo_experiments": [100, 300, 400, 150, 40, 9, 1],
            },
        },
        "false_positives": {
            "toys": TOYS,
            "confidence": 0.999,
            "levels": [
                {"claimed": 0.05} | rate(43) | {"uncorrected": rate(91, inside=False)},
                {"claimed": 0.0027} | rate(0) | {"uncorrected": rate(4)},
            ],
            "curve": {
                "claimed": grid, "global": grid, "local": grid, "low": (0.5 * np.array(grid)).tolist(),
                "high": (1.5 * np.array(grid)).tolist(),
            },
        },
        "injection": {
            name: {
                "group": datasets[name]["group"], "label": datasets[name]["label"],
                "process": datasets[name]["process"], "region": "1e-2",
                "injected": [injected(expected) for expected in (0.0, 3.0, 5.0)],
            }
            for name in names[:-1]
        } | {
            names[-1]: {
                "group": "x", "label": "x", "process": "x", "region": None, "injected": [], "unsupported": True,
            },
        },
        "blind_mix": {
            "verdict": {
                "found": True, "alarm": 0.0027, "global_p": None, "global_toys": 100_000, "region": "1e-2",
                "global_significance": 4.26, "counts": {"1e-1": counts | {"local_p": 0.2}, "1e-2": counts},
            },
            "envelope": {"signal": names[0], "expected": 5.0, "strength": 3.0, "region": "1e-2", "nonce": "00"},
            "outcome": "found",
        },
    }  # fmt: skip


@pytest.fixture
def region(datasets: Datasets, histograms: dict[str, hist.Hist], demo: Sample) -> Region:
    own = {name.removeprefix("2L/"): histogram for name, histogram in histograms.items()}
    return Region(name="2L", sample=demo, datasets=datasets, histograms=own, evaluation={}, models={})


def write(output: Path, entry: dict[str, Any]) -> Path:
    output.mkdir(exist_ok=True)
    (output / "alarms.json").write_text(json.dumps({"format": 1, "regions": {"2L": entry}}))
    return output


def test_a_probability_that_no_pseudo_experiment_reaches_is_no_zero() -> None:
    calibration = Calibration.of(
        Expectation(np.array([0]), np.array([1.0]), np.array([20.0]), 1), np.random.default_rng(1), 49
    )
    assert p_value(float(calibration.global_p(1e-30)), 49) == "< 1/49"
    one_of_them = float(calibration.global_p(calibration.smallest[0]))
    assert p_value(one_of_them, 49) == "0.020"
    assert p_value(0.0, 100_000) == "< 1/100\u202f000"
    assert p_value(1e-5, 100_000) == "1.0 × 10⁻⁵"


def test_without_the_document_or_the_region_there_is_no_section(
    tmp_path: Path, region: Region, entry: dict[str, Any]
) -> None:
    assert alarms_section(tmp_path, region) is None
    (tmp_path / "alarms.json").write_text(json.dumps({"format": 1, "regions": {"3L": entry}}))
    assert alarms_section(tmp_path, region) is None


def test_the_section_says_what_holds_and_what_was_in_the_blind_mix(
    tmp_path: Path, region: Region, entry: dict[str, Any]
) -> None:
    section = alarms_section(write(tmp_path, entry), region)
    assert section is not None
    assert "43 have a global p below 0.05, where 50 are claimed" in section.text
    assert "All claimed rates of false alarms are inside" in section.text
    assert "something is there (global p &lt; 1/100\u202f000)" in section.text
    assert "of 5 expected standard deviations: the hidden signal was <strong>found</strong>" in section.text
    assert [table.name for table in section.tables] == [
        f"2L_alarms_{name}" for name in ("rates", "injection", "mix", "cuts")
    ]
    assert [drawing.name for drawing in section.drawings] == [
        f"2L_alarms_{name}" for name in ("rate", "calibration", "injection")
    ]
    for table in section.tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_a_rate_that_does_not_hold_and_a_missed_signal_are_said_plainly(
    tmp_path: Path, region: Region, entry: dict[str, Any]
) -> None:
    entry["false_positives"]["levels"][1]["inside"] = False
    entry["blind_mix"]["verdict"] |= {"found": False, "global_p": 0.04}
    entry["blind_mix"]["outcome"] = "missed"
    section = alarms_section(write(tmp_path, entry), region)
    assert section is not None
    assert "the global p of this search is not what it says" in section.text
    assert "nothing is found (global p = 0.040)" in section.text
    assert "<strong>not found</strong>" in section.text


def test_tables_mark_what_is_outside_and_what_is_not_supported(
    tmp_path: Path, region: Region, entry: dict[str, Any]
) -> None:
    section = alarms_section(write(tmp_path, entry), region)
    assert section is not None
    rates, injection, mix, cuts = section.tables
    assert mix.rows[1][-1].value == "< 1/100\u202f000", "also in the CSV file it is no zero"
    inside, outside = rates.rows[0][3], rates.rows[0][6]
    assert (inside.value, inside.strong, outside.value, outside.strong) == ("inside", False, "outside", True)
    assert injection.rows[0][3].value == pytest.approx(-0.1)
    assert "2.90" in injection.rows[0][3].html
    assert injection.rows[-1][1].value == "unsupported"
    assert [cell.html for cell in cuts.rows[-1][1:4]] == ["\u2013"] * 3, (
        "no cut, so nothing expected above it"
    )


def test_a_region_without_enough_background_says_so_and_draws_nothing(
    tmp_path: Path, region: Region, entry: dict[str, Any]
) -> None:
    cuts = {"1e-1": entry["cuts"]["1e-3"]}
    section = alarms_section(write(tmp_path, {"unsupported": True, "cuts": cuts}), region)
    assert section is not None
    assert "Not supported" in section.text
    assert not section.drawings


def test_the_terminal_shows_every_claimed_rate(entry: dict[str, Any]) -> None:
    entry["false_positives"]["levels"][1]["inside"] = False
    rows = alarms_rows("2L", entry)
    assert rows[0] == ("2L", "0.05", "43 of 1000", "0.043", "0.026 to 0.065", "inside", "found")
    assert rows[1][5] == "OUTSIDE"
    assert {len(row) for row in rows} == {len(ALARMS_HEADER)}
    assert alarms_rows("3L", {"unsupported": True})[0][5] == "unsupported"


def test_figures_are_drawn_with_bands_and_say_what_they_show(
    tmp_path: Path, region: Region, entry: dict[str, Any]
) -> None:
    section = alarms_section(write(tmp_path / "output", entry), region)
    assert section is not None
    for drawing in section.drawings:
        picture = save(drawing, folder=tmp_path, dpi=60)
        assert picture.image.startswith("data:image/svg+xml")
        assert json.loads((tmp_path / f"{drawing.name}.json").read_text())["origin"]["region"] == "2L"
    labels = dict.fromkeys(list(entry["injection"])[:2], "signal")
    figure = draw_injection(entry["injection"], labels=labels, sample=region.sample)
    panels = [ax for ax in figure.axes if ax.get_visible() and ax.lines]
    assert len(panels) == 2
    for panel in panels:
        wide, narrow = (part for part in panel.collections if isinstance(part, FillBetweenPolyCollection))
        medians = next(
            line for line in panel.lines if len(line.get_xdata()) == 3 and line.get_marker() == "o"
        )
        np.testing.assert_allclose(medians.get_ydata(), [-0.1, 2.9, 4.9])
        for part, half in ((wide, 2), (narrow, 1)):
            heights = part.get_paths()[0].vertices[:, 1]
            assert (heights.min(), heights.max()) == pytest.approx((-0.1 - half, 4.9 + half))


def test_a_rate_of_zero_is_no_point_of_a_logarithmic_axis(entry: dict[str, Any], demo: Sample) -> None:
    ax = draw_false_alarms(entry["false_positives"], sample=demo).axes[0]
    (points,) = ax.containers
    np.testing.assert_allclose(points.lines[0].get_xdata(), [0.05])
    assert draw_calibration(entry["calibration"], cuts=1, sample=demo).axes[1].get_legend() is not None
