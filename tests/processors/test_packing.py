"""Histograms come out of a receipt as they went in, and their sum is the sum of the histograms."""

import hist
import numpy as np
import pytest
from coffea.processor import accumulate

from processors.dispatch import WIDTH, IterativeChunks, added_up
from processors.packing import added, packed


def histograms(dataset: str, seed: int) -> dict[str, hist.Hist]:
    rng = np.random.default_rng(seed)
    weighted = hist.Hist(
        hist.axis.StrCategory([dataset], growth=True, name="dataset"),
        hist.axis.IntCategory([1, 2], name="flcomp"),
        hist.axis.Variable([0, 1, 3, 7], name="pt", label=r"$p_T$ [GeV]"),
        storage=hist.storage.Weight(),
    )
    weighted.fill(dataset, rng.integers(1, 4, 50), rng.uniform(-1, 9, 50), weight=rng.normal(1, 0.5, 50))
    plain = hist.Hist(
        hist.axis.StrCategory([dataset], growth=True, name="dataset"),
        hist.axis.Regular(4, 0, 1, name="x"),
        storage=hist.storage.Double(),
    )
    plain.fill(dataset, rng.uniform(-1, 2, 30), weight=rng.normal(1, 0.5, 30))
    return {"pt": weighted, "x": plain}


def test_nothing_is_lost_in_a_pack() -> None:
    own = histograms("Zee", 1)
    out = added([packed(own)])
    assert list(out) == list(own)
    for name, histogram in own.items():
        assert out[name] == histogram  # axes, contents, flow and storage
        assert [axis.label for axis in out[name].axes] == [axis.label for axis in histogram.axes]


def test_packs_add_up_to_the_sum_of_the_histograms() -> None:
    chunks = [
        histograms(dataset, seed) for seed, dataset in enumerate(["Zee", "Zmumu", "Zee", "data", "Zee"])
    ]
    expected = accumulate(chunks)
    out = added([packed(chunk) for chunk in chunks])
    for name, histogram in expected.items():
        assert set(out[name].axes[0]) == {"Zee", "Zmumu", "data"}
        for dataset in out[name].axes[0]:
            one, other = (h[{"dataset": dataset}].view(flow=True) for h in (out[name], histogram))
            for field in one.dtype.names or [...]:
                np.testing.assert_allclose(one[field], other[field], rtol=1e-14)


def test_the_sum_does_not_change_what_was_packed() -> None:
    pack = packed(histograms("Zee", 1))
    first, again = added([pack, pack]), added([pack, pack])
    assert first["pt"] == again["pt"]
    assert first["pt"].sum(flow=True).value == pytest.approx(2 * added([pack])["pt"].sum(flow=True).value)


def test_of_no_packs_the_sum_is_empty() -> None:
    assert added([]) == {}


def test_contents_that_are_not_added_number_by_number_are_refused() -> None:
    mean = hist.Hist(hist.axis.Regular(2, 0, 1, name="x"), storage=hist.storage.Mean())
    with pytest.raises(KeyError, match="mean"):
        packed({"x": mean})


def test_sums_of_many_datasets_are_to_the_bit_those_of_adding_one_after_the_other() -> None:
    chunks = [histograms(f"{100 * (seed % 7)}.sample", seed) for seed in range(20)]
    out = added([packed(chunk) for chunk in chunks])
    by_dataset = [
        accumulate(chunks[number::7]) for number in range(7)
    ]  # packs of the same axes are added first
    expected = accumulate(by_dataset)
    for name, histogram in expected.items():
        assert out[name] == histogram
        assert list(out[name].axes[0]) == list(histogram.axes[0])


def test_histograms_of_one_name_and_other_bins_are_not_added() -> None:
    narrow = {"x": hist.Hist(hist.axis.StrCategory(["a"], growth=True), hist.axis.Regular(4, 0, 1))}
    wide = {"x": hist.Hist(hist.axis.StrCategory(["b"], growth=True), hist.axis.Regular(4, 0, 2))}
    with pytest.raises(ValueError, match="axes"):
        added([packed(narrow), packed(wide)])


def test_books_of_many_batches_are_added_up_as_coffea_does() -> None:
    books = [
        {
            "receipts": {f"chunk {seed}": {"events_read": seed}},
            "histograms": histograms(f"{seed % 9}.sample", seed),
            "changed": {seed},
        }
        for seed in range(30)
    ]
    out = added_up(IterativeChunks(), books.__getitem__, range(len(books)))
    groups = [accumulate(books[start : start + WIDTH]) for start in range(0, len(books), WIDTH)]
    expected = accumulate(groups)
    assert out["receipts"] == expected["receipts"]
    assert out["changed"] == set(range(30))
    for name, histogram in expected["histograms"].items():
        assert out["histograms"][name] == histogram  # to the bit
        assert list(out["histograms"][name].axes[0]) == list(histogram.axes[0])
