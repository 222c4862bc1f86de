"""The page says what a cut does to the masses, and shows nothing of blinded data."""

import json
import pickle
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from fileset.exceptions import InputError
from report.gallery import Region
from report.sculpting import sculpting_section
from report.settings import ReportSettings
from report.style import Sample

Datasets = dict[str, dict[str, Any]]

EDGES = [10.0, 40.0, 60.0, 90.0, 150.0, 900.0]
SHARE, ERROR = [0.2, 0.25, 0.25, 0.2, 0.1], [0.01] * 5


def _p(value: float, *, limit: bool = False) -> dict[str, Any]:
    return {"value": value, "error": None if limit else 0.01, "limit": limit, "toys": 1000}


def _shape(jsd: float | None, verdict: str) -> dict[str, Any]:
    if jsd is None:
        nothing = dict.fromkeys(("jsd", "jsd_error", "expected", "band", "p", "drawn"))
        return nothing | {"verdict": "unsupported", "unsupported": True}
    drawn = {
        "share": SHARE[::-1],
        "error": ERROR,
        "ratio": [0.5, 0.8, 1.0, 1.0, 2.0],
        "ratio_error": [0.1] * 5,
    }
    return {
        "jsd": jsd, "jsd_error": 0.004, "expected": 0.002, "band": [0.001, 0.004],
        "p": _p(0.001, limit=verdict == "changed"), "verdict": verdict, "drawn": drawn,
    }  # fmt: skip


def _hunt() -> dict[str, Any]:
    return {
        "edges": EDGES, "observed": [12.0, 10.0, 25.0, 3.0, 0.0], "expected": [14.0, 12.0, 12.0, 8.0, 4.0],
        "error": [1.0] * 5, "local_p": 3.2e-7, "global_p": _p(0.001, limit=True),
        "window": {"low": 60.0, "high": 90.0, "observed": 25.0, "expected": 12.0, "expected_error": 1.0},
    }  # fmt: skip


def _document(*, observed: str = "collision data", decorrelated: bool = True) -> dict[str, Any]:
    """One region with two masses and two cuts, of which statistics support the first."""
    masses = ("mll", "meff")
    cuts = {
        "1e-1": {
            "score": 0.5, "n_eff": 900.0, "n": 1200, "efficiency_error": 0.001, "unsupported": False,
            "shapes": {"mll": _shape(0.0651, "changed"), "meff": _shape(0.0021, "within noise")},
            "hunt": {"masses": {"mll": _hunt()}, "global_p": _p(0.25), "events": 50.0, "unsupported": False},
        },
        "1e-3": {
            "score": 1.5, "n_eff": 3.0, "n": 5, "efficiency_error": 0.001, "unsupported": True,
            "shapes": {name: _shape(None, "") for name in masses},
            "hunt": {"masses": {}, "global_p": None, "events": None, "unsupported": True},
        },
    }  # fmt: skip
    pair = {
        name: {"value": value, "error": 0.01}
        for name, value in (("before", 0.9), ("after", 0.7), ("difference", -0.2))
    }
    lost = {"before": None, "after": None, "difference": None, "unsupported": True}
    flat = {
        "1e-1": {"n_eff": 800.0, "unsupported": False, "shape": _shape(0.0031, "within noise")},
        "1e-3": {"n_eff": 2.0, "unsupported": True, "shape": _shape(None, "")},
    }
    cost = {
        "361200.C1N2_450_300.2lep": {
            "process": "C1N2_450_300", "label": "C1N2", "auc": pair, "eps_s": {"1e-1": pair, "1e-3": lost},
        }
    }  # fmt: skip
    drawn = {"edges": EDGES, "share": SHARE, "error": ERROR}
    region = {
        "observed": observed, "blinded": observed != "collision data", "toys": 1000, "model": "default-table",
        "masses": {name: {"edges": EDGES, "drawn": drawn} for name in masses},
        "cuts": cuts,
        "decorrelation": {name: {"bins": 10, "cuts": flat, "cost": cost} for name in masses} if decorrelated else {},
    }  # fmt: skip
    return {"format": 1, "regions": {"2L": region}}


@pytest.fixture
def region(datasets: Datasets, demo: Sample) -> Region:
    return Region(name="2L", sample=demo, datasets=datasets, histograms={}, evaluation={}, models={})


def _written(folder: Path, **kind: Any) -> Path:
    (folder / "sculpting.json").write_text(json.dumps(_document(**kind)))
    return folder


def test_there_is_no_section_without_the_stage(tmp_path: Path, region: Region) -> None:
    assert sculpting_section(tmp_path, region) is None
    _written(tmp_path)
    assert sculpting_section(tmp_path, replace(region, name="3L")) is None
    (tmp_path / "sculpting.json").write_text("{")
    with pytest.raises(InputError, match=r"sculpting\.json is no JSON document .* run its stage again"):
        sculpting_section(tmp_path, region)


def test_the_first_sentence_names_what_changed_and_what_chance_does(tmp_path: Path, region: Region) -> None:
    section = sculpting_section(_written(tmp_path), region)
    assert section is not None
    first = section.text.split("</p>", maxsplit=1)[0]
    assert "10 % of background pass" in first
    assert "0.0651 ± 0.0040 bit where 0.0020 are expected by chance" in first
    assert "it is 0.0031 ± 0.0040 bit" in first
    assert "global p, over all masses, of 0.25" in first


def test_every_mass_and_cut_has_a_line_and_what_is_not_supported_says_so(
    tmp_path: Path, region: Region
) -> None:
    section = sculpting_section(_written(tmp_path), region)
    assert section is not None
    shapes, bumps, cost = section.tables
    assert len(shapes.rows) == 4
    verdicts = [row[6].html for row in shapes.rows]
    assert verdicts == ["changed", "too few events", "within noise", "too few events"]
    assert shapes.rows[0][6].strong
    assert [cell.html for cell in shapes.rows[1][3:6]] == ["\u2013"] * 3
    assert shapes.rows[0][5].html == "&lt; 1/1000"
    assert bumps.rows[0][-1].html == "&lt; 1/1000"
    assert bumps.totals[0][-1].value == 0.25
    assert [cell.value for cell in cost.rows[0][1:4]] == [0.9, -0.2, -0.2]


def test_every_figure_can_be_drawn_in_another_process(tmp_path: Path, region: Region) -> None:
    section = sculpting_section(_written(tmp_path), region)
    assert section is not None
    names = [drawing.name for drawing in section.drawings]
    assert names == ["2L_sculpting_mll", "2L_sculpting_meff", "2L_bumps_mll"]
    for drawing in section.drawings:
        assert drawing.data["origin"]["region"] == "2L"
        json.dumps(drawing.data, allow_nan=False)
        figure = pickle.loads(pickle.dumps(drawing.draw))()
        figure.savefig(BytesIO(), format="png")


def test_every_letter_of_a_figure_is_in_its_fonts_also_where_distances_are_tiny(
    tmp_path: Path, region: Region, caplog: pytest.LogCaptureFixture
) -> None:
    document = _document()
    for cut in document["regions"]["2L"]["cuts"].values():
        for shape in cut["shapes"].values():
            shape.update({"jsd": 3.2e-5, "expected": 4.1e-6} if shape["jsd"] is not None else {})
    (tmp_path / "sculpting.json").write_text(json.dumps(document))
    section = sculpting_section(tmp_path, region)
    assert section is not None
    for drawing in section.drawings:
        drawing.draw().savefig(BytesIO(), format="svg")
    assert "glyph" not in caplog.text


def test_a_limit_is_never_shown_as_a_measured_probability(tmp_path: Path, region: Region) -> None:
    section = sculpting_section(_written(tmp_path), region)
    assert section is not None
    hunt = section.drawings[-1].draw()
    texts = [text.get_text() for text in hunt.axes[0].get_legend().get_texts()]
    assert any("global p < 1/1000" in text for text in texts)
    assert any("$^{-7}$" in text for text in texts)


@pytest.mark.parametrize(
    ("settings", "blinded"), [(ReportSettings(), True), (ReportSettings(blind_score=0.7), False)]
)
def test_data_that_are_blinded_now_are_not_shown_from_an_older_document(
    tmp_path: Path, region: Region, settings: ReportSettings, blinded: bool
) -> None:
    hidden = replace(region, sample=replace(region.sample, blinded=blinded), settings=settings)
    section = sculpting_section(_written(tmp_path), hidden)
    assert section is not None
    assert "2L_bumps" not in [table.name for table in section.tables]
    assert not any("bumps" in drawing.name for drawing in section.drawings)
    assert "blinded now, and are left out" in section.text
    drawn = sculpting_section(_written(tmp_path, observed="background-only pseudo-data"), hidden)
    assert drawn is not None
    assert "2L_bumps" in [table.name for table in drawn.tables]
    assert "events drawn from the background (collision data are blinded or absent)" in drawn.text


def test_without_decorrelation_there_are_no_columns_for_it(tmp_path: Path, region: Region) -> None:
    section = sculpting_section(_written(tmp_path, decorrelated=False), region)
    assert section is not None
    assert [table.name for table in section.tables] == ["2L_sculpting", "2L_bumps"]
    assert not any("equal mass" in column for column in section.tables[0].columns)
    section.drawings[0].draw().savefig(BytesIO(), format="png")
