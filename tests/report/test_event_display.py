"""An event is shown as it is: momenta in two views, in GeV, and what is missing is said."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Polygon

from report.event_display import Display, draw_event_display, input_text, input_unit
from report.style import Sample


def entry(**changes: Any) -> dict[str, Any]:
    """An event of explanation.json."""
    return {
        "display": {
            "leptons": [
                {"flavour": "electron", "pt": 120.0, "eta": 1.2, "phi": 0.4},
                {"flavour": "muon", "pt": 60.0, "eta": -0.5, "phi": -2.0},
            ],
            "met": {"pt": 80.0, "phi": 2.5},
            "jets": [
                {"b": True, "pt": 90.0, "eta": 0.3, "phi": 3.0},
                {"b": False, "pt": 30.0, "eta": -2.0, "phi": 1.0},
            ],
        },
        "leading": [
            {"input": "met_et", "share": 0.5, "value": 80.0},
            {"input": "lep1_z0", "share": 0.2, "value": -1.5},
        ],
    } | changes


def tips(ax: Axes) -> np.ndarray:
    """Where the vectors end."""
    return np.array([line.get_xydata()[0] for line in ax.lines if line.get_marker() == "o"])


def test_momenta_have_their_components_in_both_views(demo: Sample) -> None:
    figure = draw_event_display(Display.of(entry(), name="event", facts=[], inputs=[]), sample=demo)
    across, along = figure.axes[:2]
    np.testing.assert_allclose(
        tips(across),
        [[pt * np.cos(phi), pt * np.sin(phi)] for pt, phi in ((120.0, 0.4), (60.0, -2.0), (80.0, 2.5))],
    )
    # p_z = p_T sinh(eta); below the axis where the azimuth is; the missing momentum has no component along the beams.
    np.testing.assert_allclose(tips(along), [[120 * np.sinh(1.2), 120.0], [60 * np.sinh(-0.5), -60.0]])
    assert across.get_xlabel() == "$p_x$ [GeV]"
    assert along.get_xlabel() == "$p_z$ [GeV]"
    assert across.get_aspect() == 1.0


def test_cones_of_jets_are_as_wide_as_jets_are(demo: Sample) -> None:
    figure = draw_event_display(Display.of(entry(), name="event", facts=[], inputs=[]), sample=demo)
    across, along = figure.axes[:2]
    corners = next(patch for patch in across.patches if isinstance(patch, Polygon)).get_xy()[1:-1]
    np.testing.assert_allclose(np.hypot(*corners.T), 90.0)
    turned = np.unwrap(np.arctan2(corners[:, 1], corners[:, 0]))
    assert turned[-1] - turned[0] == pytest.approx(0.8)
    corners = next(patch for patch in along.patches if isinstance(patch, Polygon)).get_xy()[1:-1]
    eta = np.arcsinh(corners[:, 0] / np.abs(corners[:, 1]))
    assert (eta[0], eta[-1]) == pytest.approx((-0.1, 0.7))
    np.testing.assert_allclose(np.hypot(*corners.T), 90 * np.cosh(0.3), err_msg="the momentum of the jet")


def test_everything_is_inside_the_frame(demo: Sample) -> None:
    figure = draw_event_display(Display.of(entry(), name="event", facts=[], inputs=[]), sample=demo)
    for ax in figure.axes[:2]:
        points = np.concatenate(
            [tips(ax), *(patch.get_xy() for patch in ax.patches if isinstance(patch, Polygon))]
        )
        assert (np.abs(points) < [ax.get_xlim()[1], ax.get_ylim()[1]]).all()


def test_the_legend_names_what_is_there_and_the_figure_says_what_is_not(demo: Sample) -> None:
    inputs = ["$E_T^{miss}$ = 80 GeV", "lep1_z0 = −1.5 mm"]
    whole = draw_event_display(
        Display.of(entry(), name="event", facts=["Score 2"], inputs=inputs), sample=demo
    )
    names = [text.get_text() for text in whole.legends[0].get_texts()]
    assert names == ["Electron", "Muon", "Jet, cone of 0.4", "b-jet", "$E_T^{miss}$"]
    texts = [text.get_text() for text in whole.texts]
    assert "Score 2" in texts
    assert not any("not at hand" in text for text in texts)
    bare = entry()
    bare["display"] = bare["display"] | {"jets": None}
    figure = draw_event_display(Display.of(bare, name="event", facts=[], inputs=[]), sample=demo)
    assert len(figure.legends[0].get_texts()) == 3
    assert any(
        "Jets are not shown: the input file is not at hand" in text.get_text() for text in figure.texts
    )
    figure.savefig(BytesIO(), format="svg")


def test_bars_are_the_shares_of_the_leading_inputs(demo: Sample) -> None:
    inputs = ["$E_T^{miss}$ = 80 GeV", "lep1_z0 = −1.5 mm"]
    display = Display.of(entry(), name="event", facts=[], inputs=inputs)
    bars = draw_event_display(display, sample=demo).axes[3]
    assert [bar.get_width() for bar in bars.patches] == [0.5, 0.2]
    assert [label.get_text() for label in bars.get_yticklabels()] == inputs


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("lep2_E", 1234.5, "lep2_E = 1234 GeV"),
        ("isOS", 1.0, "isOS = 1"),
        ("met_phi", -0.5, "met_phi = −0.5"),
        ("m_j1_e2", 86.5, "m_j1_e2 = 86.5 GeV"),
        ("det_j2", 0.25, "det_j2 = 0.25"),
        ("met", 40.0, "met = 40 GeV"),
    ],
)
def test_inputs_have_their_units(name: str, value: float, text: str) -> None:
    assert input_text(name, value, input_unit(name)) == text


def test_cells_over_the_energy_of_the_collision_have_none() -> None:
    assert input_unit("m_j1_e2", in_gev=False) == ""
    assert input_text("m_j1_e2", 0.0865, "") == "m_j1_e2 = 0.0865"
