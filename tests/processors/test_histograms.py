"""Histograms lose no event, come back from their files as they were, and do not depend on the order of chunks."""

from pathlib import Path

import hist
import numpy as np
import pytest
import uproot
from coffea.processor import accumulate

from processors.features import baseline_names, table_names
from processors.histograms import (
    feature_histogram,
    held_out,
    histogrammed,
    left_for_search,
    load_histograms,
    nominal,
    rebinned,
    save_histograms,
    save_root,
    score_histogram,
)

RNG = np.random.default_rng(5)
N = 500
WEIGHT = RNG.normal(0.3, 1.0, N)
FLCOMP = RNG.choice([6, 7, 8], N)
MLL = RNG.exponential(150, N)


def mll(dataset: str, part: slice = slice(None)) -> hist.Hist:
    return feature_histogram(
        "mll", dataset, 2, flcomp=FLCOMP[part], values=MLL[part], weights={"nominal": WEIGHT[part]}
    )


@pytest.mark.parametrize("n_leptons", [2, 3])
def test_every_feature_and_baseline_has_a_binning_and_a_label(n_leptons: int) -> None:
    names = (*table_names(n_leptons), *baseline_names(n_leptons))
    assert histogrammed(names) == names
    for name in names:
        axis = feature_histogram(
            name, "d", n_leptons, flcomp=[6], values=[1.0], weights={"nominal": [1.0]}
        ).axes[-1]
        assert axis.name == name
        assert axis.label
        assert "_N" not in axis.label, "the lepton's number stands in the label"


def test_matrix_cells_have_no_binning_of_their_own() -> None:
    assert histogrammed(("met_et", "m_j1_e2", "lep")) == ("met_et",)
    with pytest.raises(ValueError, match="no binning is known for 'm_j1_e2'"):
        feature_histogram("m_j1_e2", "d", 2, flcomp=[], values=[], weights={"nominal": []})


def test_nothing_is_lost_with_the_flow_bins() -> None:
    filled = mll("Zee")
    assert [axis.name for axis in filled.axes] == ["dataset", "variation", "flcomp", "mll"]
    total = filled.sum(flow=True)
    assert total.value == pytest.approx(WEIGHT.sum(), rel=1e-12)
    assert total.variance == pytest.approx((WEIGHT**2).sum(), rel=1e-12)
    assert (MLL > 500).any(), "some events are beyond the axis"
    electrons = filled[{"dataset": "Zee", "flcomp": hist.loc(6)}].sum(flow=True)
    assert electrons.value == pytest.approx(WEIGHT[FLCOMP == 6].sum(), rel=1e-12)


def test_a_combination_without_number_is_kept_in_the_flow() -> None:
    filled = feature_histogram("mll", "d", 4, flcomp=[-1, -1], values=[90, 90], weights={"nominal": [1, 2]})
    assert filled.sum(flow=True).value == 3


def test_a_dataset_of_which_nothing_is_selected_is_there_and_empty() -> None:
    nothing = feature_histogram(
        "mll", "Ztautau", 2, flcomp=np.array([], np.int8), values=[], weights={"nominal": []}
    )
    both = accumulate([mll("Zee"), nothing])
    assert list(both.axes[0]) == ["Zee", "Ztautau"]
    assert both[{"dataset": "Ztautau"}].sum(flow=True).value == 0


def test_scores_integrate_over_all_splits_to_the_sum_of_weights() -> None:
    split = RNG.integers(0, 3, N)
    score = RNG.normal(0, 3, N)
    score[0] = 1e3
    filled = score_histogram("Zee", 2, split=split, flcomp=FLCOMP, score=score, weights={"nominal": WEIGHT})
    assert [axis.name for axis in filled.axes] == ["dataset", "variation", "split", "flcomp", "score"]
    assert list(filled.axes["split"]) == ["train", "validation", "test"]
    assert filled.sum(flow=True).value == pytest.approx(WEIGHT.sum(), rel=1e-12)
    assert filled.sum(flow=True).variance == pytest.approx((WEIGHT**2).sum(), rel=1e-12)
    held_out = filled[{"split": "test"}].sum(flow=True).value
    assert held_out == pytest.approx(WEIGHT[split == 2].sum(), rel=1e-12)


def test_files_do_not_depend_on_the_order_in_which_chunks_finish(tmp_path: Path) -> None:
    first, second, other = mll("Zee", slice(0, 200)), mll("Zee", slice(200, N)), mll("data_A")
    orders = [[other, first, second], [first, second, other], [first, other, second]]
    for i, order in enumerate(orders):
        save_histograms({"2L/mll": accumulate(order)}, tmp_path / str(i))
    contents = {(tmp_path / str(i) / "histograms.json").read_bytes() for i in range(3)}
    assert len(contents) == 1
    read = load_histograms(tmp_path / "0" / "histograms.json")["2L/mll"]
    assert list(read.axes[0]) == ["Zee", "data_A"]
    for dataset in ("Zee", "data_A"):
        np.testing.assert_allclose(
            read[{"dataset": dataset}].values(flow=True), mll("Zee")[{"dataset": "Zee"}].values(flow=True)
        )
    assert read.axes[-1].label == r"$m_{\ell\ell}$ [GeV]"
    assert "\n" not in read.axes[-1].label


def test_root_files_hold_one_histogram_a_group_with_errors(tmp_path: Path) -> None:
    both = accumulate([mll("Zee"), mll("Zmumu", slice(0, 100)), mll("data_A", slice(0, 50))])
    save_root({"2L/mll": both}, tmp_path, {"Zee": "Zjets", "Zmumu": "Zjets", "data_A": "data"})
    with uproot.open(tmp_path / "histograms.root") as file:
        assert set(file.keys(cycle=False, recursive=True, filter_classname="TH1*")) == {
            "2L/mll/Zjets",
            "2L/mll/data",
        }
        z_jets = file["2L/mll/Zjets"]
        parts = [both[{"dataset": name}].project("mll") for name in ("Zee", "Zmumu")]
        expected = parts[0] + parts[1]
        np.testing.assert_allclose(z_jets.values(flow=True), expected.values(flow=True))
        np.testing.assert_allclose(z_jets.variances(flow=True), expected.variances(flow=True))


def test_a_write_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="Zee"):
        save_root({"2L/mll": mll("Zee")}, tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_variations_are_an_axis_and_data_have_none(tmp_path: Path) -> None:
    def filled(dataset: str, weights: dict[str, object]) -> hist.Hist:
        return feature_histogram(
            "mll",
            dataset,
            2,
            flcomp=FLCOMP,
            values=MLL,
            weights=weights,
            variations=("nominal", "normUp", "normDown"),
        )

    simulated = filled("Zee", {"nominal": WEIGHT, "normUp": 1.1 * WEIGHT, "normDown": 0.9 * WEIGHT})
    both = accumulate([simulated, filled("data_A", {"nominal": np.ones(N)})])
    for variation, factor in (("nominal", 1.0), ("normUp", 1.1), ("normDown", 0.9)):
        total = both[{"dataset": "Zee", "variation": variation}].sum(flow=True).value
        assert total == pytest.approx(factor * WEIGHT.sum(), rel=1e-12)
    assert both[{"dataset": "data_A", "variation": "normUp"}].sum(flow=True).value == 0
    assert nominal(both)[{"dataset": "data_A"}].sum(flow=True).value == N
    save_root({"2L/mll": both}, tmp_path, {"Zee": "Zjets", "data_A": "data"})
    with uproot.open(tmp_path / "histograms.root") as file:
        assert set(file.keys(cycle=False, recursive=True, filter_classname="TH1*")) == {
            "2L/mll/Zjets",
            "2L/mll/Zjets__normUp",
            "2L/mll/Zjets__normDown",
            "2L/mll/data",
        }


def test_held_out_background_keeps_its_sum_of_weights_in_every_variation() -> None:
    split = RNG.integers(0, 3, N)
    score = RNG.normal(0, 1, N)
    varied = WEIGHT * RNG.uniform(0.8, 1.2, N)
    filled = accumulate(
        [
            score_histogram(
                dataset,
                2,
                split=split,
                flcomp=FLCOMP,
                score=score,
                weights={"nominal": WEIGHT, "electronUp": varied},
                variations=("nominal", "electronUp"),
            )
            for dataset in ("Zee", "C1N2")
        ]
    )
    compared = held_out(filled, {"Zee": "background", "C1N2": "signal"})
    assert [axis.name for axis in compared.axes] == ["dataset", "variation", "flcomp", "score"]
    for variation, weight in (("nominal", WEIGHT), ("electronUp", varied)):
        background = compared[{"dataset": "Zee", "variation": variation}]
        assert background.sum(flow=True).value == pytest.approx(weight.sum(), rel=1e-12)
        factor = weight.sum() / weight[split == 2].sum()
        bin_0 = (score >= 0.04) & (score < 0.06)
        at = background.project("score")[hist.loc(0.05)]
        assert at.value == pytest.approx(factor * weight[(split == 2) & bin_0].sum(), rel=1e-9)
        assert at.variance == pytest.approx(factor**2 * (weight[(split == 2) & bin_0] ** 2).sum(), rel=1e-9)
        signal = compared[{"dataset": "C1N2", "variation": variation}].project("score")[hist.loc(0.05)]
        assert signal.value == pytest.approx(weight[bin_0].sum(), rel=1e-9)


@pytest.mark.parametrize(("width", "step"), [(1.0, 0.1), (0.05, 0.04), (0.02, 0.02)])
def test_a_score_is_shown_in_finer_steps_where_the_background_is_narrow(width: float, step: float) -> None:
    filled = score_histogram(
        "Zee",
        2,
        split=RNG.integers(0, 3, N),
        flcomp=FLCOMP,
        score=RNG.normal(0, width, N),
        weights={"nominal": WEIGHT},
    )
    shown = rebinned(filled, {"Zee": "background"})
    assert shown.axes["score"].widths[0] == pytest.approx(step)
    assert shown.axes["score"].edges[0] == filled.axes["score"].edges[0]
    assert shown.sum(flow=True).value == pytest.approx(filled.sum(flow=True).value, rel=1e-12)
    assert shown.sum(flow=True).variance == pytest.approx(filled.sum(flow=True).variance, rel=1e-12)


def test_of_data_that_a_model_was_trained_on_only_the_rest_counts_beside_simulation_of_its_luminosity() -> (
    None
):
    split, score = RNG.integers(0, 3, N), RNG.normal(0, 1, N)
    filled = accumulate(
        [
            score_histogram(dataset, 2, split=split, flcomp=FLCOMP, score=score, weights={"nominal": weight})
            for dataset, weight in (("Zee", WEIGHT), ("C1N2", WEIGHT), ("data_A", np.ones(N)))
        ]
    )
    card = {"trained_on": {"kind": "data", "fractions": [0.48, 0.12, 0.4]}}
    kinds = {"Zee": "background", "C1N2": "signal", "data_A": "data"}
    compared = held_out(filled, kinds, searched=left_for_search(card))
    data = compared[{"dataset": "data_A"}].sum(flow=True)
    assert data.value == data.variance == np.sum(split == 2)
    for dataset in ("Zee", "C1N2"):
        simulated = compared[{"dataset": dataset}].sum(flow=True)
        assert simulated.value == pytest.approx(0.4 * WEIGHT.sum(), rel=1e-12)
        assert simulated.variance == pytest.approx(0.4**2 * (WEIGHT**2).sum(), rel=1e-12)
    assert left_for_search({"trained_on": {"kind": "background", "fractions": [0.64, 0.16, 0.2]}}) == 1
