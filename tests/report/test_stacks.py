"""A stack adds up, its bars are those of Poisson statistics, and it says what it is."""

from io import BytesIO
from typing import Any

import hist
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from report.stacks import draw_stack, garwood_interval, stack_contents, stacked
from report.style import Sample

Datasets = dict[str, dict[str, Any]]
Histograms = dict[str, hist.Hist]


def _texts(figure: Figure) -> str:
    """Everything that is written in a figure, legends included."""
    words = [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(words)


def _small(datasets: Datasets, contents: dict[str, tuple[list[float], list[float]]]) -> hist.Hist:
    """A histogram of four bins, filled at the given places with the given weights."""
    axis = hist.axis.Regular(4, 0, 4, name="x", label="x [GeV]")
    names = hist.axis.StrCategory(sorted(datasets), name="dataset")
    histogram = hist.Hist(
        names, hist.axis.IntCategory([6], name="flcomp"), axis, storage=hist.storage.Weight()
    )
    for name, (places, weights) in contents.items():
        histogram.fill(name, 6, places, weight=weights)
    return histogram


def test_the_stack_is_the_sum_of_all_backgrounds(datasets: Datasets, histograms: Histograms) -> None:
    histogram = histograms["2L/mll"]
    stack = stack_contents(histogram, datasets)
    names = [name for name, content in datasets.items() if content["kind"] == "background"]
    expected = sum(histogram[{"dataset": name}].sum(flow=True).value for name in names)
    assert stack.total.total == pytest.approx(expected)
    totals = [spectrum.total for _, spectrum in stack.backgrounds]
    assert totals == sorted(totals)
    data = [name for name, content in datasets.items() if content["kind"] == "data"]
    assert stack.data is not None
    assert stack.data.total == sum(histogram[{"dataset": name}].sum(flow=True).value for name in data)


def test_what_is_drawn_is_what_is_written_beside_the_figure(
    datasets: Datasets, histograms: Histograms, demo: Sample
) -> None:
    stack = stack_contents(histograms["2L/met_et"], datasets)
    figure = draw_stack(stack, sample=demo)
    tops = [patch.get_data().values for patch in figure.axes[0].patches if hasattr(patch, "get_data")]
    written = np.array(stack.to_dict()["background"]["sumw"])
    assert any(top.shape == written.shape and np.allclose(top, written) for top in tops)


def test_empty_groups_are_left_out(datasets: Datasets, histograms: Histograms) -> None:
    stack = stack_contents(histograms["2L/mll"], datasets)
    assert "Higgs" not in [process.key for process, _ in stack.backgrounds]


@pytest.mark.parametrize("observed", [0, 1, 3, 10, 250])
def test_data_bars_are_garwood_intervals(observed: int) -> None:
    low, high = garwood_interval([observed])
    tail = stats.norm.sf(1.0)
    assert low[0] == pytest.approx(stats.chi2.ppf(tail, 2 * observed) / 2 if observed else 0.0)
    assert high[0] == pytest.approx(stats.chi2.isf(tail, 2 * observed + 2) / 2)


def test_the_ratio_band_is_the_error_of_the_simulation(datasets: Datasets, demo: Sample) -> None:
    background = next(name for name in datasets if ".ttbaree." in name)
    data = next(name for name in datasets if name.startswith("data_A"))
    histogram = _small(
        datasets, {background: ([0.5, 0.5, 1.5], [3.0, 4.0, 2.0]), data: ([0.5] * 9, [1.0] * 9)}
    )
    figure = stacked(histogram, datasets, sample=demo)
    band = next(patch for patch in figure.axes[1].patches if patch.get_hatch())
    relative = np.array([5.0 / 7.0, 2.0 / 2.0, 0.0, 0.0])
    np.testing.assert_allclose(band.get_data().values, 1 + relative)
    np.testing.assert_allclose(band.get_data().baseline, 1 - relative)
    points = figure.axes[1].containers[0].lines[0].get_ydata()
    assert points[0] == pytest.approx(9 / 7)


def test_events_outside_the_axis_are_kept_and_this_is_said(datasets: Datasets, demo: Sample) -> None:
    background = next(name for name in datasets if ".ttbaree." in name)
    histogram = _small(datasets, {background: ([-3.0, 0.5, 7.0], [1.0, 2.0, 4.0])})
    stack = stack_contents(histogram, datasets)
    np.testing.assert_allclose(stack.total.values, [3, 0, 0, 4])
    assert "First and last bin include under- and overflow" in _texts(draw_stack(stack, sample=demo))


def test_negative_and_empty_bins_survive_a_logarithmic_axis(datasets: Datasets, demo: Sample) -> None:
    background = next(name for name in datasets if ".ttVee." in name)
    data = next(name for name in datasets if name.startswith("data_A"))
    histogram = _small(
        datasets, {background: ([0.5, 1.5, 2.5], [5.0, -1.0, 2.0]), data: ([0.5, 2.5], [1.0, 1.0])}
    )
    figure = stacked(histogram, datasets, sample=demo, log=True)
    figure.savefig(BytesIO(), format="png")
    low, high = figure.axes[0].get_ylim()
    assert 0 < low < 1
    assert high > 5
    assert np.isfinite(figure.axes[1].get_ylim()).all()


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("kinds", [("background",), ("data",), ("signal",), ("background", "signal"), ()])
def test_any_part_of_a_sample_can_be_drawn(
    datasets: Datasets, histograms: Histograms, demo: Sample, kinds: tuple[str, ...], log: bool
) -> None:
    chosen = {name: content for name, content in datasets.items() if content["kind"] in kinds}
    histogram = histograms["2L/met_et"]
    part = hist.Hist(
        hist.axis.StrCategory(sorted(chosen), name="dataset", growth=True),
        *histogram.axes[1:],
        storage=hist.storage.Weight(),
    )
    for number, name in enumerate(sorted(chosen)):
        part.view(flow=True)[number] = histogram.view(flow=True)[list(histogram.axes[0]).index(name)]
    figure = stacked(part, chosen, sample=demo, log=log)
    assert len(figure.axes) == 1
    figure.savefig(BytesIO(), format="png")


def test_nothing_drawn_reaches_under_the_legend(
    datasets: Datasets, histograms: Histograms, demo: Sample
) -> None:
    for name in ("2L/met_et", "2L/mll", "2L/score/table-small"):
        stack = stack_contents(histograms[name], datasets)
        figure = draw_stack(stack, sample=demo)
        figure.savefig(BytesIO(), format="png")
        ax = figure.axes[0]
        legend = ax.get_legend().get_window_extent().transformed(ax.transData.inverted())
        assert stack.data is not None
        assert stack.data.values.max() + np.sqrt(stack.data.values.max()) < legend.y0


@pytest.mark.parametrize(
    ("edges", "label", "expected"),
    [
        ([0, 10, 20, 30], "m [GeV]", "Events / 10 GeV"),
        ([-0.5, 0.5, 1.5], "jets", "Events"),
        ([0, 0.25, 0.5], "score", "Events / 0.25"),
        ([0, 10, 30, 100], "m [GeV]", "Events / GeV"),
        ([0, 1, 3], "score", "Events / unit"),
    ],
)
def test_the_y_label_is_honest_about_bin_widths(
    datasets: Datasets, demo: Sample, edges: list[float], label: str, expected: str
) -> None:
    name = next(name for name in datasets if ".ttbaree." in name)
    axis = hist.axis.Variable(edges, name="x", label=label)
    histogram = hist.Hist(hist.axis.StrCategory([name], name="dataset"), axis, storage=hist.storage.Weight())
    histogram.fill(name, [edges[0] + 0.1], weight=30.0)
    figure = stacked(histogram, datasets, sample=demo, log=False)
    assert figure.axes[0].get_ylabel() == expected
    height = max(patch.get_data().values.max() for patch in figure.axes[0].patches if not patch.get_hatch())
    first = 30.0 if len(set(np.diff(edges))) == 1 else 30.0 / (edges[1] - edges[0])
    assert height == pytest.approx(first)


def test_a_signal_too_small_to_see_is_scaled_and_the_legend_says_so(datasets: Datasets, demo: Sample) -> None:
    background = next(name for name in datasets if ".ttbaree." in name)
    signal = next(name for name in datasets if "ZPrime" in name)
    histogram = _small(datasets, {background: ([0.5], [1000.0]), signal: ([2.5], [0.002])})
    stack = stack_contents(histogram, datasets)
    ((_, _, factor),) = stack.signals
    assert factor == 1e5
    assert r"$10^{5}$" in _texts(draw_stack(stack, sample=demo))
    ((_, _, factor),) = stack_contents(histogram, datasets, signal_factor=1.0).signals
    assert factor == 1.0


def test_blinded_data_are_neither_drawn_nor_written(datasets: Datasets, demo: Sample) -> None:
    background = next(name for name in datasets if ".ttbaree." in name)
    data = next(name for name in datasets if name.startswith("data_A"))
    histogram = _small(
        datasets, {background: ([0.5, 1.5, 2.5, 3.5], [9.0] * 4), data: ([0.5, 1.5, 2.5, 3.5], [1.0] * 4)}
    )
    stack = stack_contents(histogram, datasets, blind=2.0)
    assert stack.to_dict()["data"]["events"] == [1.0, 1.0, None, None]
    figure = draw_stack(stack, sample=demo)
    for ax in figure.axes:
        points = ax.containers[-1].lines[0].get_ydata()
        np.testing.assert_array_equal(np.isfinite(points), [True, True, False, False])
    assert "data blinded" in _texts(figure)


def test_every_figure_names_source_energy_luminosity_and_axes(
    datasets: Datasets, histograms: Histograms, demo: Sample
) -> None:
    for name, histogram in histograms.items():
        figure = stacked(histogram, datasets, sample=demo)
        written = _texts(figure)
        assert "Pythia 8 simulation, pseudo-data" in written
        assert "13 TeV" in written
        assert "10.1 fb" in written
        assert "ATLAS" not in written
        assert figure.axes[0].get_ylabel().startswith("Events")
        assert figure.axes[-1].get_xlabel() == histogram.axes[-1].label, name


def test_a_score_without_splits_is_drawn_where_it_has_events(
    datasets: Datasets, histograms: Histograms, demo: Sample
) -> None:
    score = histograms["2L/score/table-small"].project("dataset", "flcomp", "score")
    low, high = stacked(score, datasets, sample=demo).axes[0].get_xlim()
    assert -6 < low < high < 10
