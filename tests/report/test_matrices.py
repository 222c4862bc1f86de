"""Pictures of matrices show the numbers they were given, absent objects as absent, and every name."""

import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure

from processors.rmm import layout_of
from processors.settings import RMMSettings
from report.matrices import CellMeans, draw_event, draw_means, draw_ratio, layout_of_cells
from report.style import Sample

CELLS = layout_of(RMMSettings()).cell_names
SIZE = 23


def means(seed: int = 1, *, filled: float = 0.3) -> CellMeans:
    rng = np.random.default_rng(seed)
    n = len(CELLS)
    weight = np.where(rng.random(n) < filled, rng.exponential(20.0, n), 0.0)
    return CellMeans.of(np.array([weight, weight / 2, weight * rng.exponential(80.0, n)]), 100.0)


def squares(figure: Figure) -> list[PatchCollection]:
    return [c for c in figure.axes[0].collections if isinstance(c, PatchCollection)]


def cells_of(collection: PatchCollection) -> set[int]:
    """Positions of the cells whose squares are in a collection."""
    centres = [path.vertices[:4].mean(axis=0).round().astype(int) for path in collection.get_paths()]
    return {int(row * SIZE + column) for column, row in centres}


def drawn_without_warning(figure: Figure) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()


def test_means_are_over_filled_events_and_their_support_is_counted() -> None:
    # Two events of weight 2 and 1 with values 10 and 40 among events of Σw = 6; a cell that cancels; an empty one.
    found = CellMeans.of(np.array([[3.0, 0.0, 0.0], [5.0, 2.0, 0.0], [60.0, 7.0, 0.0]]), 6.0)
    assert found.mean[0] == pytest.approx(20.0)
    assert found.filled.tolist() == [0.5, 0.0, 0.0]
    assert found.effective[0] == pytest.approx(9 / 5)
    assert np.isnan(found.mean[1:]).all()
    assert found.to_dict()["mean"] == [pytest.approx(20.0), None, None]


def test_rows_are_named_by_object_and_bracketed_by_type(demo: Sample) -> None:
    figure = draw_means(CELLS, means(), sample=demo, name="background")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels[1:8] == ["j₁", "j₂", "j₃", "j₄", "j₅", "j₆", "b₁"]
    assert labels[-1] == "μ₅"
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == labels
    texts = [text.get_text() for text in figure.axes[0].texts]
    for group in ("light jets", "b-jets", "electrons", "muons"):
        assert texts.count(group) == 2, "at both axes"
    drawn_without_warning(figure)


def test_layouts_of_other_conventions_are_named_in_their_order(demo: Sample) -> None:
    settings = RMMSettings(convention="map2rmm", light_jets=2, b_jets=1, electrons=1, muons=2, photons=1)
    cells = layout_of(settings).cell_names
    assert layout_of_cells(cells) == ["j1", "j2", "b1", "mu1", "mu2", "e1", "g1"]
    one = CellMeans(np.full(64, 0.01), np.full(64, 0.5), np.full(64, 99.0))
    figure = draw_means(cells, one, sample=demo, name="background", in_gev=False)
    labels = [ax.get_ylabel() for ax in figure.axes[0].child_axes]
    assert any("sqrt{s}" in label for label in labels)
    assert not any("GeV" in label for label in labels)
    drawn_without_warning(figure)


def test_only_filled_cells_are_drawn_and_rare_ones_are_small(demo: Sample) -> None:
    shown = means()
    figure = draw_means(CELLS, shown, sample=demo, name="background")
    drawn = squares(figure)
    assert len(drawn) == 2, "energies and the others, each with a colour bar"
    assert len(figure.axes[0].child_axes) == 2
    assert cells_of(drawn[0]) | cells_of(drawn[1]) == set(np.flatnonzero(np.isfinite(shown.mean)).tolist())
    assert mpl.colors.same_color(figure.axes[0].get_facecolor(), "#d6dade"), "absent objects are grey"
    rare = CellMeans(np.full(529, 50.0), np.where(np.arange(529) % 2, 1e-4, 0.5), np.full(529, 99.0))
    widths = np.concatenate(
        [
            [np.ptp(path.vertices[:, 0]) for path in c.get_paths()]
            for c in squares(draw_means(CELLS, rare, sample=demo, name="x"))
        ]
    )
    assert set(widths.round(6)) == {0.25, 1.0}


def test_ratio_is_of_the_means_and_says_where_it_says_nothing(demo: Sample) -> None:
    above, below = np.full(529, np.nan), np.full(529, np.nan)
    above[:3], below[:3] = [20.0, 5.0, 10.0], [10.0, 10.0, 10.0]
    above[30] = 7.0  # never filled in the reference
    n_eff = np.full(529, 500.0)
    n_eff[2] = 3.0
    process = CellMeans(above, np.where(np.isfinite(above), 0.5, 0.0), n_eff)
    reference = CellMeans(below, np.where(np.isfinite(below), 0.5, 0.0), np.full(529, 500.0))
    figure = draw_ratio(CELLS, process, reference, sample=demo, name="signal", against="background")
    (drawn,) = squares(figure)
    assert drawn.get_array().tolist() == [2.0, 0.5, 1.0]
    assert drawn.norm.vmin * drawn.norm.vmax == pytest.approx(1.0), "one is in the middle of the colours"
    marks = {
        line.get_marker(): line.get_xydata().tolist()
        for line in figure.axes[0].lines
        if line.get_marker() in "xo"
    }
    assert marks == {"x": [[30 - SIZE, 1.0]], "o": [[2.0, 0.0]]}
    words = figure.texts[0].get_text()
    assert "never filled in background" in words
    assert "fewer than 10 effective events" in words
    drawn_without_warning(figure)


def test_an_event_is_drawn_with_its_numbers(demo: Sample) -> None:
    values = np.zeros(529)
    values[[0, 1, 24, 25, 47]] = [345.6, 1234.0, 0.1234, 9.97, -0.004]
    figure = draw_event(
        CELLS, values, means(filled=1.0), sample=demo, name="data_A, event 7", against="background"
    )
    ax = figure.axes[0]
    inside = [text for text in ax.texts if text.get_transform() == ax.transData]
    numbers = {tuple(text.get_position()): text.get_text() for text in inside}
    assert numbers == {(0, 0): "346", (1, 0): "1.2k", (1, 1): ".12", (2, 1): "10", (1, 2): "~0"}
    stamped = " ".join(
        child.get_text() for child in figure.axes[0].get_children() if hasattr(child, "get_text")
    )
    assert "data_A, event 7" in stamped
    assert "13 TeV" in stamped
    drawn_without_warning(figure)


# --- on the page -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: Any, output_writer: Callable[..., Any], comparison_writer: Any, event: Any) -> Any:
    """Output with a page on which everything is drawn that a matrix gives."""
    from report.page import write_page  # noqa: PLC0415 - beside its settings
    from report.settings import ReportSettings  # noqa: PLC0415

    output = output_writer(tmp_path_factory.mktemp("matrices"), regions=("2L",))
    comparison_writer(output, "2L")
    settings = ReportSettings(variables=("met_et",), max_overlays=1, max_power_figures=0, all_variables=True,
                              events=(event,), png_dpi=50)  # fmt: skip
    write_page(output, settings=settings)
    return output


def _json(path: Any) -> Any:
    import json  # noqa: PLC0415

    return json.loads(path.read_text())


def test_matrices_of_background_signal_data_and_groups_are_on_the_page(page: Any) -> None:
    text = (page / "report/index.html").read_text()
    for name in ("background", "data", "Zjets", "ttbar", "C1N2_450_300", "data_A.2lep_4000000007"):
        assert f'id="fig-2L_rmm_{name}"' in text, name
        assert (page / f"report/figures/2L_rmm_{name}.png").is_file()
    assert "Rapidity–mass matrices" in text


def test_the_event_has_the_cells_of_its_shard(page: Any, event: Any) -> None:
    import pyarrow.parquet as pq  # noqa: PLC0415

    dataset, number = event
    table = pq.read_table(page / f"shards/2L/{dataset}/a.parquet").to_pylist()
    (row,) = [row for row in table if row["eventNumber"] == number]
    found = _json(page / f"report/figures/2L_rmm_{dataset}_{number}.json")
    assert dict(zip(found["cells"], found["values"], strict=True)) == {
        name: row[name] for name in found["cells"]
    }


def test_every_filled_cell_is_drawn_without_its_absent_objects(page: Any) -> None:
    result = _json(page / "agreement.json")["regions"]["2L"]["inputs"]
    cells = {name: entry for name, entry in result.items() if entry["filled"]}
    assert len(cells) > 10
    for name, entry in cells.items():
        shown = _json(page / f"report/figures/2L_cell_{name}.json")
        data = _json(page / "select.json")["regions"]["2L"]["datasets"]
        total = sum(book["sumw"] for book in data.values() if book["kind"] == "data")
        assert (page / f"report/figures/2L_cell_{name}.png").is_file()
        assert not (page / f"report/figures/2L_cell_{name}.svg").exists(), "hundreds of figures are previews"
        assert sum(shown["data"]["events"]) == pytest.approx(entry["filled"]["data"] * total, rel=1e-6), name


def test_the_agreement_table_has_the_worst_first(page: Any) -> None:
    lines = (page / "report/tables/2L_agreement.csv").read_text().splitlines()
    assert lines[0].startswith("Input,χ²/ndf,ndf,p,Largest deviation")
    verdicts = [line.rsplit(",", 1)[1] for line in lines[1:]]
    dropped = verdicts.count("dropped")
    assert dropped
    assert verdicts == ["dropped"] * dropped + ["kept"] * (len(verdicts) - dropped)
    p_values = [float(line.split(",")[3]) for line in lines[1 + dropped :] if line.split(",")[3]]
    assert p_values == sorted(p_values)
    text = (page / "report/index.html").read_text()
    assert f"{dropped} dropped from training by max_chi2_ndf 2" in text
