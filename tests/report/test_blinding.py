"""What is blinded is nowhere: not in figures, their numbers, tables or the page; and the page says so."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from fileset.exceptions import InputError
from report.blinding import blinding_text
from report.numbers import count
from report.page import write_page
from report.settings import ReportSettings
from report.style import Sample, stamp
from report.terminal import yields_table

FEW: dict[str, Any] = {
    "variables": ("met_et",), "max_overlays": 0, "max_power_figures": 0, "png_dpi": 50, "all_variables": False,
}  # fmt: skip


@pytest.fixture
def output(tmp_path: Path, output_writer: Callable[..., Path], comparison_writer: Any) -> Path:
    folder = output_writer(tmp_path, regions=("2L",), signals=False)
    comparison_writer(folder, "2L")
    return folder


def data_events(output: Path) -> int:
    datasets = json.loads((output / "select.json").read_text())["regions"]["2L"]["datasets"]
    return sum(book["selected"] for book in datasets.values() if book["kind"] == "data")


def figures(output: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted((output / "report/figures").glob("*.json")):
        yield path.stem, json.loads(path.read_text())


def test_nothing_of_a_blinded_region_is_left_even_where_it_was_shown_before(output: Path, event: Any) -> None:
    shown = write_page(output, settings=ReportSettings(**FEW, events=(event,))).read_text()
    total = count(data_events(output))
    assert total in shown
    assert "Nothing is blinded" in shown
    assert any("data" in content for _, content in figures(output))
    blind = ReportSettings(**FEW, blind_regions=("2L",), events=(event,))
    hidden = write_page(output, settings=blind).read_text()
    assert "Blinded: all collision data of region 2L." in hidden
    assert "The collision data of this region are blinded." in hidden
    assert total not in hidden
    for name, content in figures(output):
        assert "data" not in content, name
        assert "data" not in name
    for path in (output / "report").rglob("*"):
        assert "_data_" not in path.name
        assert "agreement" not in path.name
    for table in (output / "report/tables").iterdir():
        assert "Data," not in table.read_text().replace("Dataset,", ""), table.name
        assert str(data_events(output)) not in table.read_text(), table.name
    unblinded = write_page(output, settings=blind.model_copy(update={"blind": False})).read_text()
    assert total in unblinded
    assert "Unblinded by the configuration" in unblinded


def test_data_above_a_score_are_hidden_and_their_events_not_drawn(output: Path, event: Any) -> None:
    page = write_page(output, settings=ReportSettings(**FEW, blind_score=0.0, events=(event,))).read_text()
    assert "Blinded: collision data above a score of 0." in page
    score = dict(figures(output))["2L_score"]
    for high, events in zip(score["edges"][1:], score["data"]["events"], strict=True):
        assert (events is None) == (high > 1e-9)
    assert f"2L_rmm_{event[0]}_{event[1]}" not in dict(figures(output))
    write_page(output, settings=ReportSettings(**FEW, blind_score=0.0, blind=False))
    assert None not in dict(figures(output))["2L_score"]["data"]["events"]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (("data_A.2lep", 5), "no region has selected the event 5"),
        (("data_Z", 5), "no dataset is called 'data_Z'"),
    ],
)
def test_an_event_that_is_not_there_is_named(output: Path, wanted: tuple[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        write_page(output, settings=ReportSettings(**FEW, events=(wanted,)))


def test_the_sentence_on_the_page_follows_the_settings() -> None:
    def text(**settings: Any) -> str:
        return blinding_text(ReportSettings(**settings), ["2L", "3L"])

    assert text() == "Nothing is blinded."
    assert text(blind_regions=("SR",)) == text(), "this region is not on the page"
    assert text(blind_regions=("2L",), blind=False).startswith("Unblinded by the configuration")
    both = text(blind_regions=("2L", "3L"), blind_score=1.5)
    assert both == "Blinded: all collision data of region 2L and 3L; collision data above a score of 1.5."


def test_figures_of_a_blinded_region_say_so() -> None:
    axes = Figure().add_subplot()
    stamp(axes, Sample("demo-simulation", 700.0, "2L", blinded=True))
    assert "Region 2L · data blinded" in [text.get_text() for text in axes.texts]


def test_the_terminal_hides_the_yield_of_data(capsys: pytest.CaptureFixture[str]) -> None:
    books = {"events_read": 9, "selected": 7, "sumw": 7.0, "sumw2": 7.0}
    result = {
        "lumi_pb": 100.0,
        "datasets": {
            "a": {"kind": "background", "group": "Zjets", **books}, "b": {"kind": "data", "group": "data", **books},
        },
    }  # fmt: skip
    yields_table("2L", result, blinded=True)
    printed = capsys.readouterr().out
    assert "data blinded" in printed
    assert "Zjets" in printed
    assert printed.count("data") == 1
