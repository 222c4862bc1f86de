"""The line above each frame says what the figure is."""

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from report.style import Sample, luminosity_label, new_figure, stamp, styled


def _stamped(sample: Sample) -> dict[str, str]:
    """Texts above a frame, with their style."""
    ax = Figure().subplots()
    stamp(ax, sample, subtitle="held-out events")
    return {text.get_text(): f"{text.get_fontweight()} {text.get_fontstyle()}" for text in ax.texts}


def test_the_demo_is_never_called_open_data() -> None:
    written = _stamped(Sample("demo-simulation", 500.0, region="2L"))
    assert "Pythia 8 simulation, pseudo-data" in written
    assert not any("ATLAS" in text for text in written)
    assert not any("INCOMPLETE" in text for text in written)


def test_open_data_carry_their_doi_and_purpose_but_not_the_collaboration_s_label() -> None:
    doi = "10.7483/OPENDATA.ATLAS.GQ1W.I9VI"
    written = _stamped(Sample("atlas-open-data", 10_064.0, doi=doi))
    assert "ATLAS Open Data, for educational use" in written
    assert f"doi:{doi}" in written
    assert written["ATLAS Open Data, for educational use"] == "normal normal"


def test_missing_events_are_shouted() -> None:
    assert "INCOMPLETE" in _stamped(Sample("demo-simulation", 500.0, complete=False))


@pytest.mark.parametrize(
    ("lumi_pb", "label"),
    [(10_064.0, "10.1 fb"), (36_100.0, "36.1 fb"), (500.0, "500 pb"), (2_400.0, "2.4 fb")],
)
def test_the_unit_of_luminosity_fits_its_size(lumi_pb: float, label: str) -> None:
    assert luminosity_label(lumi_pb) == label + "$^{-1}$"


def test_the_look_does_not_leak_into_the_session() -> None:
    before = dict(mpl.rcParams)
    figure = styled(new_figure)()
    figure.subplots()
    figure.canvas.draw()
    assert dict(mpl.rcParams) == before
