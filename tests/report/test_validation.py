"""The validation page has every figure, tells verdicts in words, names differences, and needs no network."""

import json
import re
from pathlib import Path

import hist
import numpy as np
import pytest

from processors.validation import OBJECTS
from report.validation import write_validation_page
from report.validation_figures import Validation, validate, validation_drawings

EXPECTED = {"peak_ee", "peak_mumu", "peak_prompt", "btag_b", "btag_light", "ttbar_other_muons"}


def _histogram(values: np.ndarray, bins: int, low: float, high: float, name: str, label: str) -> hist.Hist:
    axis = hist.axis.Regular(bins, low, high, name=name, label=label)
    return hist.Hist(axis, storage=hist.storage.Weight()).fill(values, weight=np.full(len(values), 0.5))


def _jets(efficiency: float, rng: np.random.Generator) -> hist.Hist:
    filled = hist.Hist(
        hist.axis.Variable([20, 50, 200], name="pt", label=r"jet $p_T$ [GeV]"),
        hist.axis.Integer(0, 5, name="passed", flow=False),
        storage=hist.storage.Int64(),
    )
    thresholds = np.array([0.85, 0.77, 0.70, 0.60]) * efficiency / 0.77
    tagged = (rng.random((8000, 1)) < thresholds).sum(axis=1)
    return filled.fill(rng.uniform(20, 200, 8000), tagged)


def _sample(skim: str, *, mass: float, isolation: float) -> dict[str, hist.Hist]:
    """What a sample looks like whose Z stands at a mass and whose muons have so much energy around them."""
    rng = np.random.default_rng(7)
    filled = {}
    for pair in ("ee", "mumu", "prompt_ee"):
        masses = mass + 1.25 * rng.standard_cauchy(9000) + 1.4 * rng.standard_normal(9000)
        filled[f"{skim}/mll/{pair}"] = _histogram(masses, 100, 66, 116, "mll", r"$m_{\ell\ell}$ [GeV]")
    for quantity in ("pt", "etcone", "isolated"):
        variable = OBJECTS["ttbar_other_muons"].quantities[quantity]
        values = rng.exponential(isolation if quantity == "etcone" else 12.0, 2000)
        if quantity == "isolated":
            values = (values < 2.0).astype(float)
        filled[f"{skim}/ttbar_other_muons/{quantity}"] = _histogram(
            values, variable.bins, variable.low, variable.high, quantity, variable.label
        )
    return {
        **filled,
        f"{skim}/btag/b": _jets(0.77, rng),
        f"{skim}/btag/light": _jets(0.0075, rng),
    }


def _validation(*, mass: float = 91.2, reference: bool = True) -> Validation:
    return validate(
        _sample("2lep", mass=mass, isolation=0.4),
        _sample("4lep", mass=90.5, isolation=0.1) if reference else {},
        skim="2lep",
        sources=("demo-simulation", "atlas-open-data" if reference else ""),
    )


def _write(validation: Validation, folder: Path) -> str:
    page = write_validation_page(validation, folder, facts={"Sample": "toys <1>"}, dpi=50)
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("validation")
    _write(_validation(), folder)
    return folder


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


def test_every_figure_is_on_the_page_and_beside_it_in_three_formats_with_its_numbers(
    folder: Path, text: str
) -> None:
    assert set(re.findall(r'<figure class="[^"]*" id="fig-([^"]+)"', text)) == EXPECTED
    for name in EXPECTED:
        for form in ("svg", "pdf", "png", "json"):
            assert (folder / "figures" / f"{name}.{form}").stat().st_size > 0
    shown = json.loads((folder / "figures" / "ttbar_other_muons.json").read_text())["etcone"]
    assert sum(shown["sample"]["2lep"]["fraction"]) == pytest.approx(1.0)
    assert shown["comparison"]["distance"] > 0.3


def test_nothing_is_loaded_from_elsewhere(text: str) -> None:
    sources = re.findall(r'(?:src|href|action|poster|data)="([^"]*)"', text)
    assert all(source.startswith(("data:", "#", "figures/", "tables/")) for source in sources)
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(\s*['\"]?http|fetch\(|XMLHttpRequest", text)


def test_every_link_leads_to_a_file_or_a_place_on_the_page(folder: Path, text: str) -> None:
    identifiers = re.findall(r'\bid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    for link in re.findall(r'href="([^"]+)"', text):
        assert link[1:] in identifiers if link.startswith("#") else (folder / link).is_file(), link


def test_verdicts_are_words_and_not_only_colours(text: str) -> None:
    table = text[text.index('id="table-criteria"') :]
    assert "\u2714\u00a0holds" in table[: table.index("</table>")]
    assert "All 11 criteria hold" in text


def test_differences_are_told_with_their_numbers(text: str) -> None:
    part = text[text.index('<ul class="differences">') :]
    part = part[: part.index("</ul>")]
    assert "E<sub>T</sub><sup>cone20</sup>" in part
    assert re.search(
        r"mean 0\.3\d+ ± 0\.\d+ against 0\.\d+ ± 0\.\d+ in the reference, KS distance 0\.\d+", part
    )
    assert "m<sub>ee</sub> of prompt electrons" in part
    assert re.search(r"90\.\d+ ± 0\.0\d+ GeV with a resolution", part)


def test_what_a_user_calls_files_is_escaped(text: str) -> None:
    assert "toys &lt;1&gt;" in text


def test_the_document_holds_the_numbers_of_the_page(folder: Path) -> None:
    document = json.loads((folder / "validation.json").read_text())
    assert document["holds"] is True
    assert len(document["criteria"]) == 11
    assert document["peaks"]["sample"]["2lep/mll/ee"]["position"] == pytest.approx(91.2, abs=0.15)
    assert (folder / "tables" / "comparisons.csv").read_text().count("\n") == 4


def test_a_peak_at_the_wrong_mass_is_shouted_and_a_page_without_reference_says_so(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "peak_prompt.png").write_bytes(b"of a page with a reference")
    wrong = _validation(mass=93.1, reference=False)
    assert {criterion.name.split(": ")[1] for criterion in wrong.failed} >= {"position of the peak"}
    text = _write(wrong, tmp_path)
    assert re.search(r'role="alert"><strong>\d of 11 criteria fail', text)
    assert "\u2718\u00a0fails" in text
    assert "No reference was given" in text
    assert not (tmp_path / "figures" / "peak_prompt.png").exists()


def test_skims_with_a_few_entries_are_not_drawn_beside_others() -> None:
    many = _sample("3lep", mass=91.2, isolation=0.4)
    few = {
        f"2lep/{name.split('/', 1)[1]}": histogram * 1
        for name, histogram in many.items()
        if "ttbar_other_muons" in name
    }
    for histogram in few.values():
        histogram.reset()
        histogram.fill(np.full(10, 0.5), weight=np.ones(10))
    validation = validate({**many, **few}, {}, skim="3lep", sources=("demo-simulation", ""))
    (drawing,) = validation_drawings(validation)["leptons"]
    assert list(drawing.data["pt"]["sample"]) == ["3lep"]
