"""The score of data against that of simulation: what agrees, what does not, and what may not be seen."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest

from processors.histograms import held_out, save_histograms
from report.blinding import blinding_text, without_data
from report.gallery import Region
from report.score_agreement import score_agreement_section
from report.score_comparison import sideband_limit
from report.sections import Section
from report.settings import ReportSettings
from report.stacks import draw_stack, stack_contents
from report.style import Sample

Datasets = dict[str, dict[str, Any]]
MODEL = "table-small"
MUMU = 7


@pytest.fixture
def score(histograms: dict[str, hist.Hist]) -> hist.Hist:
    return histograms[f"2L/score/{MODEL}"].copy()


def _region(score: hist.Hist, datasets: Datasets, demo: Sample, **settings: Any) -> Region:
    return Region("2L", demo, datasets, {f"score/{MODEL}": score}, {}, {}, ReportSettings(**settings))


def _blinded(
    folder: Path, score: hist.Hist, datasets: Datasets, demo: Sample, **settings: Any
) -> Section | None:
    """The section of a blinded region, whose data are nowhere but in the scores."""
    place = folder / "scores" / "2L" / MODEL
    place.mkdir(parents=True, exist_ok=True)
    save_histograms({f"2L/score/{MODEL}": score}, place)
    (place / "manifest.json").write_text(json.dumps({"datasets": datasets}))
    kept, histograms = without_data(datasets, {f"score/{MODEL}": score})
    region = Region(
        "2L", replace(demo, blinded=True), kept, histograms, {}, {},
        ReportSettings(blind_regions=("2L",), **settings),
    )  # fmt: skip
    return score_agreement_section(folder, region)


def _change_data(score: hist.Hist, factor: float, *, above: float, flavour: int | None = None) -> hist.Hist:
    """The same histogram with data multiplied above a score."""
    changed = score.copy()
    view = changed.view(flow=True)
    bins = np.concatenate([[False], score.axes[-1].edges[:-1] >= above - 1e-9, [True]])
    for row, name in enumerate(score.axes[0]):
        if name.startswith("data"):
            flavours = range(view.shape[2]) if flavour is None else [flavour]
            for f in flavours:
                view["value"][row, :, f, bins] = np.round(factor * view["value"][row, :, f, bins])
                view["variance"][row, :, f, bins] = view["value"][row, :, f, bins]
    return changed


def _row(section: Section | None, name: str) -> dict[str, Any]:
    assert section is not None
    (table,) = section.tables
    (row,) = [row for row in table.rows if row[0].value == name]
    return dict(zip(table.columns, row, strict=True))


def test_pseudo_data_of_the_same_simulation_agree(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    section = score_agreement_section(tmp_path, _region(score, datasets, demo))
    for name in ("all flavours", "ee", "\u03bc\u03bc", "e\u03bc", "Z+jets"):
        row = _row(section, name)
        assert row["p"].value > 0.001, name
        assert row["p, shape"].value > 0.001, name
        assert abs(row["Data / MC"].value - 1) < 4 * row["Data / MC"].error, name
    assert section is not None
    assert "Nothing is blinded: all scores are compared." in section.text


def test_a_wrong_normalisation_of_one_flavour_is_found_there_and_not_in_its_shape(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    wrong = _change_data(score, 1.2, above=-10, flavour=score.axes["flcomp"].index(MUMU))
    section = score_agreement_section(tmp_path, _region(wrong, datasets, demo))
    muons, electrons = _row(section, "\u03bc\u03bc"), _row(section, "ee")
    assert muons["Data / MC"].value == pytest.approx(1.2, abs=0.03)
    assert muons["p"].value < 1e-6
    assert muons["p, shape"].value > 1e-3
    assert electrons["p"].value > 1e-3


def test_every_event_of_the_background_is_expected_once(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    section = score_agreement_section(tmp_path, _region(score, datasets, demo))
    backgrounds = [
        score[{"dataset": name}].sum(flow=True)
        for name in score.axes[0]
        if datasets[name]["kind"] == "background"
    ]
    whole = _row(section, "all flavours")["Simulation"]
    assert whole.value == pytest.approx(sum(total.value for total in backgrounds), rel=1e-6)
    # How many events there are altogether all events of the simulation tell, not the held-out ones alone.
    assert whole.error == pytest.approx(np.sqrt(sum(total.variance for total in backgrounds)), rel=1e-6)
    parts = [_row(section, name)["Simulation"] for name in ("ee", "\u03bc\u03bc", "e\u03bc")]
    assert sum(part.value for part in parts) == pytest.approx(whole.value, rel=1e-6)
    # Which part of them a flavour is, only the held-out ones: a fifth of the events.
    for part in parts:
        assert part.error > 1.5 * whole.error * np.sqrt(part.value / whole.value)


def test_each_process_is_compared_where_it_is_the_largest(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    section = score_agreement_section(tmp_path, _region(score, datasets, demo))
    names = {to["process"]: to["label"] for to in datasets.values() if to["kind"] == "background"}
    assert len(names) > 5
    z, tops = _row(section, "Z+jets"), _row(section, "tt\u0304")
    assert z["Purity"].value > 0.9
    assert tops["Purity"].value > 0.3
    whole = _row(section, "all flavours")
    assert z["Data"].value + tops["Data"].value <= whole["Data"].value
    assert section is not None
    assert "Nowhere the largest of at least one event:" in section.text


@pytest.mark.parametrize("limit", [-0.6, 0.0, 0.37])
def test_data_above_the_limit_change_nothing(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample, limit: float
) -> None:
    sections = [
        score_agreement_section(tmp_path, _region(each, datasets, demo, blind_score=limit))
        for each in (score, _change_data(score, 7.0, above=limit), _change_data(score, 0.0, above=limit))
    ]
    first = sections[0]
    assert first is not None
    for other in sections[1:]:
        assert other is not None
        assert other.text == first.text
        assert other.tables == first.tables
        assert [drawing.data for drawing in other.drawings] == [drawing.data for drawing in first.drawings]
    assert "Data above a score of" in first.text


def test_not_even_the_range_of_an_axis_tells_of_blinded_data(
    score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    far = score.copy()
    view = far.view(flow=True)
    view[list(far.axes[0]).index("data_A.2lep"), 2, 6, -2] = (1.0, 1.0)  # one event in the last bin
    figures = [draw_stack(stack_contents(each, datasets, blind=0.5), sample=demo) for each in (score, far)]
    assert figures[0].axes[0].get_xlim() == figures[1].axes[0].get_xlim()
    assert figures[0].axes[0].get_ylim() == figures[1].axes[0].get_ylim()


def test_a_blinded_region_without_a_sideband_is_not_compared_and_says_so(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    section = _blinded(tmp_path, score, datasets, demo)
    assert section is not None
    assert not section.tables
    assert not section.drawings
    assert "names no sideband" in section.text


@pytest.mark.parametrize("part", [0.5, 0.9])
def test_of_a_blinded_region_only_the_sideband_is_seen(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample, part: float
) -> None:
    section = _blinded(tmp_path / "a", score, datasets, demo, blind_sideband=part)
    row = _row(section, "all flavours")
    backgrounds = sum(
        score[{"dataset": name}].sum(flow=True).value
        for name in score.axes[0]
        if datasets[name]["kind"] == "background"
    )
    assert 0.4 * part < row["Simulation"].value / backgrounds <= part
    assert row["p"].value > 0.001
    assert section is not None
    assert f"at most {100 * part:g} % of the expected background lie" in section.text
    limit = section.drawings[0].data["blinded_above"]
    changed = _change_data(score, 5.0, above=limit)
    other = _blinded(tmp_path / "b", changed, datasets, demo, blind_sideband=part)
    assert other is not None
    assert (other.text, other.tables) == (section.text, section.tables)
    assert [drawing.data for drawing in other.drawings] == [drawing.data for drawing in section.drawings]
    assert "2L_score_agreement_all" in [drawing.name for drawing in section.drawings]


def test_a_limit_of_the_score_stays_a_limit_within_the_sideband(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    section = _blinded(tmp_path, score, datasets, demo, blind_sideband=0.9, blind_score=-0.8)
    assert section is not None
    assert section.drawings[0].data["blinded_above"] == -0.8


def test_the_page_says_that_a_sideband_is_open() -> None:
    settings = ReportSettings(blind_regions=("2L",), blind_sideband=0.9)
    assert blinding_text(settings, ["2L"]) == (
        "Blinded: all collision data of region 2L but those below the score under which 90 % of the background lie, "
        "which are compared in the score."
    )


def test_background_alone_decides_the_sideband(score: hist.Hist, datasets: Datasets) -> None:
    kinds = {name: datasets[name]["kind"] for name in score.axes[0]}
    limit = sideband_limit(held_out(score, kinds), kinds, 0.5)
    assert limit == sideband_limit(held_out(_change_data(score, 9.0, above=-0.7), kinds), kinds, 0.5)
    assert limit < sideband_limit(held_out(score, kinds), kinds, 0.9)


def test_without_data_or_scores_there_is_nothing_to_compare(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    kept, histograms = without_data(datasets, {f"score/{MODEL}": score})
    assert score_agreement_section(tmp_path, _region(histograms[f"score/{MODEL}"], kept, demo)) is None
    assert score_agreement_section(tmp_path, Region("2L", demo, datasets, {}, {}, {})) is None


def test_a_limit_below_all_background_compares_nothing(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    section = score_agreement_section(tmp_path, _region(score, datasets, demo, blind_score=-5.5))
    assert section is not None
    assert "No background is expected below a score of \u22125.50" in section.text


def test_of_a_model_that_was_trained_on_data_only_the_rest_is_compared(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    card = {"trained_on": {"kind": "data", "fractions": [0.64, 0.16, 0.2]}}
    region = replace(_region(score, datasets, demo), models={MODEL: (card, {})})
    section = score_agreement_section(tmp_path, region)
    row = _row(section, "all flavours")
    whole = _row(score_agreement_section(tmp_path, _region(score, datasets, demo)), "all flavours")
    assert row["Simulation"].value == pytest.approx(0.2 * whole["Simulation"].value)
    assert row["Data"].value == pytest.approx(0.2 * whole["Data"].value, rel=0.02)
    assert row["p"].value > 0.001


def test_every_part_is_drawn_with_its_chi_square(
    tmp_path: Path, score: hist.Hist, datasets: Datasets, demo: Sample
) -> None:
    section = score_agreement_section(tmp_path, _region(score, datasets, demo, blind_score=0.5))
    assert section is not None
    names = [drawing.name for drawing in section.drawings]
    assert names == [f"2L_score_agreement{stem}" for stem in ("", "_ee", "_mumu", "_emu")]
    figure = section.drawings[0].draw()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[-1] == "all flavours"
    assert len(labels) == len(section.tables[0].rows)
    whole = _row(section, "all flavours")["χ²/ndf"].html
    assert whole in [text.get_text() for text in figure.axes[0].texts]
    for drawing in section.drawings:
        json.dumps(drawing.data, allow_nan=False)
        drawing.draw().savefig(BytesIO(), format="png")
