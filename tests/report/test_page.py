"""The page shows everything, needs nothing from elsewhere, and says what is not there."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import hist
import pytest

from fileset.exceptions import FailureError, InputError
from report.gallery import Region
from report.page import write_page
from report.sections import Section
from report.settings import ReportSettings
from report.style import Sample


class _Elements(HTMLParser):
    """All tags with their attributes, and all text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="session")
def elements(page: Path) -> _Elements:
    return _Elements(page)


def test_every_figure_of_the_folder_is_on_the_page_in_three_formats_with_its_numbers(
    page: Path, elements: _Elements
) -> None:
    links = {attributes["href"] for attributes in elements.of("a")}
    drawn = sorted(path.stem for path in (page.parent / "figures").glob("*.png"))
    assert "2L_score" in drawn
    assert "2L_met_et" in drawn
    assert len(elements.of("figure")) == len(drawn)
    for name in drawn:
        for suffix in ("pdf", "png", "svg", "json"):
            assert f"figures/{name}.{suffix}" in links
            assert (page.parent / "figures" / f"{name}.{suffix}").stat().st_size > 0
        assert (
            json.loads((page.parent / "figures" / f"{name}.json").read_text())["origin"]["lumi_pb"] == 10064.0
        )


def test_nothing_is_loaded_from_elsewhere(elements: _Elements) -> None:
    loaded = [attributes.get("src") for _, attributes in elements.tags if attributes.get("src")]
    assert loaded
    assert all(source and source.startswith("data:image/svg+xml,") for source in loaded)
    assert not elements.of("link")
    remote = [attributes["href"] for attributes in elements.of("a") if "//" in (attributes["href"] or "")]
    assert all(target and target.startswith("https://doi.org/") for target in remote)
    for source in loaded:
        svg = unquote((source or "").partition(",")[2])
        assert not re.search(r"""(?:href|src)=['"](?!#|data:)""", svg)
        assert "@import" not in svg


def test_every_relative_link_leads_to_a_file_or_a_place_on_the_page(page: Path, elements: _Elements) -> None:
    places = {attributes.get("id") for _, attributes in elements.tags}
    for attributes in elements.of("a"):
        target = attributes["href"] or ""
        if target.startswith("#"):
            assert target[1:] in places
        elif "//" not in target:
            assert (page.parent / target).is_file()


def test_every_image_has_a_text_and_no_identifier_occurs_twice(elements: _Elements) -> None:
    images = [attributes for attributes in elements.of("img") if attributes.get("src")]
    assert all(attributes.get("alt") for attributes in images)
    identifiers = [attributes["id"] for _, attributes in elements.tags if attributes.get("id")]
    assert len(identifiers) == len(set(identifiers))


def test_the_page_says_what_the_demo_is(elements: _Elements) -> None:
    assert "Pythia 8 simulation, pseudo-data" in elements.text
    assert "ATLAS" not in elements.text
    assert "every event of every file was read" in elements.text


def test_real_files_without_signals_are_called_by_their_name(tmp_path: Path, output_writer: Any) -> None:
    output = output_writer(tmp_path, regions=("2L",), sample="atlas-open-data", signals=False)
    page = write_page(output, settings=ReportSettings(variables=("met_et",), png_dpi=60))
    elements = _Elements(page)
    assert "The real files contain no signal samples" in elements.text
    assert "ATLAS Open Data, for educational use" in elements.text
    assert "Pythia" not in elements.text
    assert "https://doi.org/10.7483/OPENDATA.ATLAS.GQ1W.I9VI" in {a["href"] for a in elements.of("a")}
    assert not [
        path for path in (page.parent / "figures").iterdir() if "roc" in path.name or "power" in path.name
    ]


def test_an_incomplete_sample_and_a_collapsed_model_are_shouted(tmp_path: Path, output_writer: Any) -> None:
    output = output_writer(tmp_path, regions=("2L",), complete=False, collapsed=True, signals=False)
    elements = _Elements(write_page(output, settings=ReportSettings(variables=(), png_dpi=60)))
    assert "Incomplete sample" in elements.text
    assert "OSError: truncated" in elements.text
    assert "has collapsed" in elements.text


def test_how_something_is_done_is_said_once_and_what_was_found_for_each_region(
    tmp_path: Path, output_writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def section(output: Path, region: Region) -> Section:
        text = "<p>Found nothing.</p>\n<p>Counted by hand.</p><p>In " + region.name + ".</p>"
        return Section("counting", "Counting", text)

    monkeypatch.setattr("report.page._TOPICS", (section,))
    output = output_writer(tmp_path, regions=("2L", "3L"))
    text = _Elements(write_page(output, settings=ReportSettings(variables=(), png_dpi=60))).text
    assert text.count("Found nothing.") == 2
    assert text.count("Counted by hand.") == 1
    assert text.count("In 2L.") == text.count("In 3L.") == 1


def test_inputs_are_called_by_their_labels_where_these_are_short(demo: Sample) -> None:
    histograms = {
        name: hist.Hist(hist.axis.Regular(2, 0, 1, label=label))
        for name, label in {
            "mll": r"$m_{\ell\ell}$ [GeV]",
            "isSF": "Leading leptons of the same flavour",
        }.items()
    }
    region = Region("2L", demo, {}, histograms, {}, {}, cell_names=["m_j1_e2"])
    names = ("mll", "isSF", "m_j1_e2", "njet20")
    assert [region.input_label(name) for name in names] == [
        r"$m_{\ell\ell}$",
        "isSF",
        "$m(j_{1}, e_{2})$",
        "njet20",
    ]


def test_a_page_of_a_selection_alone_can_be_written(tmp_path: Path, output_writer: Any) -> None:
    output = output_writer(tmp_path, regions=("2L",))
    histograms = json.loads((output / "histograms.json").read_text())
    (output / "histograms.json").write_text(
        json.dumps({name: content for name, content in histograms.items() if "score" not in name})
    )
    for name in ("evaluate.json", "run.json", "models/2L/table-small/card.json"):
        (output / name).unlink()
    elements = _Elements(write_page(output, settings=ReportSettings(variables=("mll",))))
    assert "No score has been computed" in elements.text
    assert "No model was trained" in elements.text
    assert "have not been evaluated" in elements.text


def test_a_missing_stage_and_an_unknown_signal_are_named(tmp_path: Path, output_writer: Any) -> None:
    with pytest.raises(InputError, match=r"select\.json is missing; run the stage select"):
        write_page(tmp_path)
    output = output_writer(tmp_path, regions=("2L",))
    with pytest.raises(InputError, match="no signal is called 'SUSYC1N3'"):
        write_page(output, settings=ReportSettings(signals=("SUSYC1N3",)))


def test_an_evaluated_model_whose_scores_are_not_shown_is_refused(tmp_path: Path, output_writer: Any) -> None:
    output = output_writer(tmp_path, regions=("2L",))
    evaluation = json.loads((output / "evaluate.json").read_text())
    evaluation["regions"]["2L"]["model"]["name"] = "from-elsewhere"
    (output / "evaluate.json").write_text(json.dumps(evaluation))
    with pytest.raises(InputError, match="about the model from-elsewhere of region 2L, whose scores are not"):
        write_page(output)


def test_histograms_of_another_selection_are_refused(tmp_path: Path, output_writer: Any) -> None:
    output = output_writer(tmp_path, regions=("2L",))
    selection = json.loads((output / "select.json").read_text())
    name, _ = selection["regions"]["2L"]["datasets"].popitem()
    (output / "select.json").write_text(json.dumps(selection))
    with pytest.raises(FailureError, match=re.escape(name)):
        write_page(output)


def test_the_same_run_gives_the_same_bytes_from_one_process_or_two(
    tmp_path: Path, output_writer: Any
) -> None:
    settings = ReportSettings(variables=("met_et", "mll", "ht", "njet20", "mt2"), png_dpi=60)
    pages = []
    for processes in (1, 2):
        output = output_writer(tmp_path / str(processes), regions=("2L",), signals=False)
        pages.append(write_page(output, settings=settings, processes=processes))
    for path in sorted((pages[0].parent / "figures").iterdir()):
        assert path.read_bytes() == (pages[1].parent / "figures" / path.name).read_bytes(), path.name
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_many_signals_are_drawn_by_families(tmp_path: Path, output_writer: Any) -> None:
    output = output_writer(tmp_path, regions=("2L",))
    page = write_page(output, settings=ReportSettings(variables=(), max_power_figures=4, png_dpi=60))
    drawn = {path.stem for path in (page.parent / "figures").glob("2L_roc_*.png")}
    assert drawn == {f"2L_roc_{family}" for family in ("SUSYC1N2", "Zprime_ee", "RS_G_ZZ", "dmV_Zll")}
    assert "figures show families" in _Elements(page).text
