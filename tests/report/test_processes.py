"""Datasets are summed to processes, and only held-out events stand for the background of a score."""

from typing import Any

import hist
import numpy as np
import pytest

from fileset.exceptions import FailureError, InputError
from report.processes import choose_signals, dataset_spectra, process_spectrum, processes_of

Datasets = dict[str, dict[str, Any]]
Histograms = dict[str, hist.Hist]


def test_backgrounds_are_grouped_and_signals_stand_alone(datasets: Datasets) -> None:
    processes = {process.key: process for process in processes_of(datasets)}
    assert len(processes["Zjets"].datasets) == 2
    assert len(processes["data"].datasets) == 2
    assert processes["C1N2_450_300"].family == processes["C1N2_800_50"].family == "SUSYC1N2"
    assert processes["C1N2_450_300"].label.endswith("(450, 300 GeV)")


def test_a_process_is_the_sum_of_its_datasets_with_all_that_lies_outside(
    datasets: Datasets, histograms: Histograms
) -> None:
    histogram = histograms["2L/met_et"]
    edges, spectra = dataset_spectra(histogram, datasets)
    for process in processes_of(datasets):
        spectrum = process_spectrum(process, spectra, len(edges) - 1)
        expected = sum(histogram[{"dataset": name}].sum(flow=True).value for name in process.datasets)
        variance = sum(histogram[{"dataset": name}].sum(flow=True).variance for name in process.datasets)
        assert spectrum.total == pytest.approx(expected)
        assert spectrum.error == pytest.approx(np.sqrt(variance))


def joined(values: np.ndarray, bins: int) -> np.ndarray:
    """Fine bins as they are shown: neighbours in one."""
    return values.reshape(bins, -1).sum(axis=1)


def test_a_score_shows_held_out_background_at_its_full_sum_of_weights(
    datasets: Datasets, histograms: Histograms
) -> None:
    histogram = histograms["2L/score/table-small"]
    _, spectra = dataset_spectra(histogram, datasets)
    name = next(name for name in datasets if ".Zjetsee." in name)
    whole = histogram[{"dataset": name}].sum(flow=True)
    test = histogram[{"dataset": name, "split": "test"}].sum(flow=True)
    factor = whole.value / test.value
    assert factor > 4
    assert spectra[name].total == pytest.approx(whole.value)
    assert spectra[name].error == pytest.approx(factor * np.sqrt(test.variance))
    shape = histogram[{"dataset": name, "split": "test"}].project("score").values()
    np.testing.assert_allclose(spectra[name].values, factor * joined(shape, len(spectra[name].values)))


@pytest.mark.parametrize("kind", ["data", "signal"])
def test_a_score_shows_all_data_and_all_signal(datasets: Datasets, histograms: Histograms, kind: str) -> None:
    histogram = histograms["2L/score/table-small"]
    _, spectra = dataset_spectra(histogram, datasets)
    for name, metadata in datasets.items():
        if metadata["kind"] == kind:
            expected = histogram[{"dataset": name}].project("score").values()
            np.testing.assert_allclose(spectra[name].values, joined(expected, len(spectra[name].values)))


def test_a_dataset_without_held_out_events_counts_with_all(datasets: Datasets) -> None:
    name = next(name for name in datasets if ".ttVee." in name)
    histogram = hist.Hist(
        hist.axis.StrCategory([name], name="dataset"),
        hist.axis.StrCategory(["train", "validation", "test"], name="split"),
        hist.axis.Regular(4, 0, 4, name="score"),
        storage=hist.storage.Weight(),
    )
    histogram.fill(name, "train", [0.5, 2.5], weight=[2.0, 3.0])
    _, spectra = dataset_spectra(histogram, datasets)
    np.testing.assert_allclose(spectra[name].values, [2, 0, 3, 0])


def test_a_dataset_nobody_knows_is_refused(datasets: Datasets, histograms: Histograms) -> None:
    known = {name: content for name, content in datasets.items() if ".Zjetsee." not in name}
    with pytest.raises(FailureError, match=r"Zjetsee.*select\.json"):
        dataset_spectra(histograms["2L/met_et"], known)


def test_overlays_are_one_of_each_family_unless_they_are_named(datasets: Datasets) -> None:
    processes = processes_of(datasets)
    totals = {"C1N2_450_300": 5.0, "C1N2_800_50": 50.0}
    chosen = choose_signals(processes, totals, largest_number=2)
    assert [process.key for process in chosen] == ["C1N2_800_50", "ZPrime2000_ee"]
    named = choose_signals(processes, totals, wanted=["SUSYC1N2"])
    assert [process.key for process in named] == ["C1N2_450_300", "C1N2_800_50"]
    with pytest.raises(InputError, match="no signal is called 'Zprime'"):
        choose_signals(processes, totals, wanted=["Zprime"])
