"""The page says why events are anomalous, and shows no data that are blinded now."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fileset.exceptions import InputError
from processors.rmm import layout_of
from processors.settings import RMMSettings
from report.explanation import explanation_section
from report.gallery import Region
from report.matrices import draw_cell_shares
from report.settings import ReportSettings
from report.shares import draw_latent_space, draw_share_chart
from report.style import Sample
from report.tables import write_csv

Datasets = dict[str, dict[str, Any]]
TABLE = ["met_et", "mll", "lep1_pt", "njet20"]
CELLS = list(layout_of(RMMSettings()).cell_names)


def shares_of(rng: np.random.Generator, k: int, leading: int, label: str) -> dict[str, Any]:
    share = rng.uniform(0, 0.2, k)
    share[leading] = share.sum()
    share /= share.sum()
    error = 0.02 * share
    return {
        "label": label, "events": 100, "share": share.tolist(), "error": error.tolist(),
        "share_of_sum": share.tolist(), "share_of_sum_error": error.tolist(), "sum_of_squared_errors": 3.0,
    }  # fmt: skip


def explanation(inputs: list[str], kind: str = "data", n: int = 12) -> dict[str, Any]:
    """A region of explanation.json: scores fall from 3 in steps of 0.1."""
    rng = np.random.default_rng(1)
    events = []
    for number in range(n):
        share = rng.dirichlet(np.full(len(inputs), 0.3))
        order = np.argsort(-share)[:5]
        events.append(
            {
                "dataset": "data_A.2lep" if kind == "data" else "361101.Zjetsee.2lep",
                "channelNumber": 1, "runNumber": 299000, "eventNumber": 100 + number, "score": 3.0 - 0.1 * number,
                "weight": 1.0, "flcomp": 7, "variables": {"met_et": 80.0, "mll": 91.0, "meff": 400.0},
                "leading": [{"input": inputs[i], "share": float(share[i]), "value": 1.5} for i in order],
                "expected_background": {"value": None, "error": None, "n_eff": 3.0, "unsupported": True, "below": 2.5}
                if number < 2
                else {"value": 4.0 + number, "error": 0.5, "n_eff": 64.0},
            }
        )  # fmt: skip
    for event in events[:2]:
        event["shares"] = rng.dirichlet(np.full(len(inputs), 0.3)).tolist()
        event["display"] = {
            "leptons": [{"flavour": "muon", "pt": 50.0, "eta": 0.1, "phi": phi} for phi in (0.0, 2.0)],
            "met": {"pt": 80.0, "phi": 2.5}, "jets": None,
        }  # fmt: skip
    sumw = rng.poisson(3.0, (20, 20)).astype(float).tolist()
    plane = {
        "dimensions": 6, "labels": ["Principal component 1", "Principal component 2"], "variance": [0.6, 0.2],
        "edges": [np.linspace(-1, 1, 21).tolist(), np.linspace(-2, 2, 21).tolist()],
        "background": {"sumw": sumw, "outside": 0.0, "score": [[None] * 20, *[[1.0] * 20] * 19]},
        "processes": {family: {"sumw": sumw, "outside": 0.0} for family in ("SUSYC1N2", "RS_G_ZZ")},
    }  # fmt: skip
    return {
        "model": "table-small", "role": "model", "score": "mse", "inputs": inputs, "named": 3,
        "listed": {"kind": kind, "blinded": kind != "data", "score_limit": None, "test_only": kind != "data"},
        "events": events,
        "shares": {
            "background": shares_of(rng, len(inputs), 1, "$Z$+jets"), "processes": {}, "signals": {},
            "families": {
                "SUSYC1N2": shares_of(rng, len(inputs), 0, r"$\tilde{\chi}^{\pm}_{1}\tilde{\chi}^{0}_{2}$"),
                "RS_G_ZZ": shares_of(rng, len(inputs), 2, r"$G\to ZZ$"),
            },
        },
        "latent": plane,
    }  # fmt: skip


@pytest.fixture
def region(datasets: Datasets, demo: Sample) -> Region:
    return Region(
        name="2L", sample=demo, datasets=datasets, histograms={}, evaluation={}, models={}, cell_names=CELLS
    )


def write(output: Path, content: dict[str, Any]) -> Path:
    (output / "explanation.json").write_text(json.dumps({"format": 1, "regions": {"2L": content}}))
    return output


def test_without_the_stage_there_is_no_section(tmp_path: Path, region: Region) -> None:
    assert explanation_section(tmp_path, region) is None
    assert explanation_section(write(tmp_path, explanation(TABLE)), replace(region, name="3L")) is None
    (tmp_path / "explanation.json").write_text("{")
    with pytest.raises(InputError, match=r"explanation\.json is no JSON document"):
        explanation_section(tmp_path, region)


def test_the_text_says_what_makes_the_score(tmp_path: Path, region: Region) -> None:
    texts = {}
    for score in ("mse", "distance", "elbo"):
        section = explanation_section(write(tmp_path, explanation(TABLE) | {"score": score}), region)
        assert section is not None
        texts[score] = section.text
    assert "the squared errors of all scaled inputs of the model" in texts["mse"]
    assert "half the square of the input itself, of the model" in texts["distance"]
    assert "shares say part of it" not in texts["mse"] + texts["distance"]
    assert "The score (elbo) is not the squared error: shares say part of it." in texts["elbo"]


def test_events_stand_in_a_table_with_the_background_that_is_expected(tmp_path: Path, region: Region) -> None:
    section = explanation_section(write(tmp_path, explanation(TABLE)), region)
    assert section is not None
    events, inputs = section.tables
    assert len(events.rows) == 12
    assert events.columns[:4] == ["#", "Run / event", "Score", "Expected"]
    assert [row[2].value for row in events.rows] == sorted(
        (row[2].value for row in events.rows), reverse=True
    )
    unsupported, supported = events.rows[0][3], events.rows[2][3]
    assert (unsupported.html, unsupported.value) == ("&lt; 2.5", None)
    assert (supported.value, supported.error) == (6.0, 0.5)
    assert events.rows[0][5].html == "μμ"
    assert len(inputs.rows) == 2 * 3
    assert inputs.rows[0][2].value == "met_et"
    assert inputs.rows[0][3].strong
    text = write_csv(events, tmp_path).read_text()
    assert "299000 / 100" in text
    assert "12 most anomalous events of the collision data." in section.text
    assert "met_et for χ̃" in section.text


def test_of_blinded_data_the_page_shows_simulated_events_and_says_so(tmp_path: Path, region: Region) -> None:
    section = explanation_section(write(tmp_path, explanation(TABLE, "background")), region)
    assert section is not None
    assert (
        "held-out, simulated background events: the collision data of this region are blinded" in section.text
    )
    assert "Dataset" in section.tables[0].columns


def test_data_that_are_blinded_since_are_left_out(tmp_path: Path, region: Region) -> None:
    output = write(tmp_path, explanation(TABLE))
    hidden = explanation_section(output, replace(region, sample=replace(region.sample, blinded=True)))
    assert hidden is not None
    assert [table.name for table in hidden.tables] == ["2L_leading_inputs"]
    assert not any("event" in drawing.name for drawing in hidden.drawings)
    assert "blinded now and left out" in hidden.text
    limited = explanation_section(output, replace(region, settings=ReportSettings(blind_score=2.55)))
    assert limited is not None
    assert [row[2].value for row in limited.tables[0].rows] == pytest.approx(
        [2.5 - 0.1 * n for n in range(7)]
    )
    assert not any("event" in drawing.name for drawing in limited.drawings)
    assert "a score of at most 2.55" in limited.text
    everything = json.dumps([drawing.data for drawing in limited.drawings])
    assert '"score": 3.0' not in everything


def test_inputs_of_a_table_make_one_chart_and_cells_make_matrices(tmp_path: Path, region: Region) -> None:
    table = explanation_section(write(tmp_path, explanation(TABLE)), region)
    assert table is not None
    assert [drawing.name for drawing in table.drawings] == [
        "2L_explanation_shares", "2L_explanation_event_1", "2L_explanation_event_2", "2L_explanation_latent",
    ]  # fmt: skip
    # A part of the cells is drawn on the matrix too.
    cells = explanation_section(write(tmp_path, explanation(CELLS[:200])), region)
    assert cells is not None
    assert [drawing.name.removeprefix("2L_explanation_") for drawing in cells.drawings] == [
        "cells_background", "cells_SUSYC1N2", "cells_RS_G_ZZ", "event_1", "event_1_cells", "event_2", "event_2_cells",
        "latent",
    ]  # fmt: skip
    for drawing in (*table.drawings[:2], *cells.drawings[1:5:3]):
        drawing.draw().savefig(BytesIO(), format="png")
        json.dumps(drawing.data, allow_nan=False)


def test_a_model_without_a_latent_space_or_signals_has_what_is_left(tmp_path: Path, region: Region) -> None:
    content = explanation(TABLE) | {"latent": None}
    content["shares"]["families"] = {}
    section = explanation_section(write(tmp_path, content), region)
    assert section is not None
    assert [drawing.name for drawing in section.drawings] == [
        "2L_explanation_event_1",
        "2L_explanation_event_2",
    ]
    assert [table.name for table in section.tables] == ["2L_anomalous_events"]


def test_the_chart_shows_the_leading_inputs_in_per_cent(demo: Sample) -> None:
    content = explanation([f"x{i}" for i in range(40)])["shares"]
    inputs = [f"x{i}" for i in range(40)]
    figure = draw_share_chart(
        inputs, content["background"], list(content["families"].values()), sample=demo, name="m"
    )
    ax = figure.axes[0]
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert len(shown) == 24
    assert {"x0", "x1", "x2"} <= set(shown)
    largest = 100 * content["background"]["share"][1]
    assert f"{largest:.0f}" in [text.get_text() for text in ax.texts]


def test_cells_are_coloured_by_their_share_and_marked_where_they_exceed(demo: Sample) -> None:
    shares = np.full(len(CELLS), np.nan)
    shares[[0, 24, 30]] = 0.5, 0.3, 1e-6
    exceeding = np.zeros(len(CELLS), dtype=bool)
    exceeding[[24, 30, 40]] = True
    figure = draw_cell_shares(CELLS, shares, exceeding, sample=demo, name="signal", note="")
    ax = figure.axes[0]
    (squares,) = ax.collections
    assert squares.get_array().tolist() == [0.5, 0.3]
    (marks,) = [line for line in ax.lines if line.get_marker() == "o"]
    assert marks.get_xydata().tolist() == [[24 % 23, 24 // 23]]


def test_contours_hold_the_parts_they_are_named_for(demo: Sample) -> None:
    centres = np.linspace(-4.9, 4.9, 50)
    x, y = np.meshgrid(centres, centres, indexing="ij")
    gauss = np.exp(-0.5 * (x**2 + y**2))
    latent = explanation(TABLE)["latent"] | {
        "edges": [np.linspace(-5, 5, 51).tolist()] * 2,
        "processes": {"S": {"sumw": gauss.tolist(), "outside": 0.0}},
    }
    latent["background"] = {"sumw": gauss.tolist(), "score": gauss.tolist(), "outside": 0.0}
    figure = draw_latent_space(latent, labels={"S": "signal"}, colors={}, sample=demo, name="m")
    panel = figure.axes[1]
    assert panel.get_legend().get_texts()[0].get_text() == "signal"
    lines = next(found for found in panel.collections if not found.get_facecolor().size)
    radii = [np.hypot(*path.vertices.T).mean() for path in lines.get_paths()]
    # Inside radius r of a two-dimensional Gaussian lies 1 - exp(-r^2 / 2 s^2); s^2 = 1 + (1.2 bins of 0.2)^2.
    wanted = [np.sqrt(-2 * np.log(1 - part) * (1 + 0.24**2)) for part in (0.9, 0.5)]
    np.testing.assert_allclose(radii, wanted, rtol=0.05)
