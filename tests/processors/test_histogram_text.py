"""histograms.json is to the character what UHI and Python's `json` make of the histograms, and is read without loss."""

import json
from typing import Any

import hist
import numpy as np
import pytest
import uhi.io
import uhi.io.json

from processors.histogram_text import read, written


def sparse() -> hist.Hist:
    """A score of three datasets, of which one is empty and few bins of the others are filled."""
    histogram = hist.Hist(
        hist.axis.StrCategory(["Zee", "nothing", "data"], growth=True, name="dataset"),
        hist.axis.IntCategory([1, 2], name="flcomp"),
        hist.axis.Regular(200, -6, 10, name="score", label=r"$\log_{10}$ error [0]"),
        storage=hist.storage.Weight(),
    )
    rng = np.random.default_rng(1)
    histogram.fill("Zee", rng.integers(1, 4, 9), rng.normal(0, 9, 9), weight=rng.normal(0, 1e-3, 9))
    histogram.fill("data", 2, [1e9, -1e9, 0.5])
    histogram.complete = False
    return histogram


def one_bin() -> hist.Hist:
    histogram = hist.Hist(hist.axis.Regular(1, 0, 1, flow=False), storage=hist.storage.Double())
    histogram.view()[...] = -0.0
    return histogram


def mean() -> hist.Hist:
    filled = hist.Hist(
        hist.axis.StrCategory([], growth=True, name="dataset"),
        hist.axis.Regular(3, 0, 1),
        storage=hist.storage.Mean(),
    )
    filled.fill("Zee", [0.2, 0.2, 0.9, 0.9], sample=[1.0, 3.0, -2.0, 0.5])
    return filled


def counts() -> hist.Hist:
    """Whole numbers, which are no rows of zeros."""
    return hist.Hist(
        hist.axis.Regular(2, 0, 1), hist.axis.Regular(3, 0, 1), storage=hist.storage.Int64()
    ).fill([0.1], [0.1])


HISTOGRAMS = {
    "sparse": sparse(),
    "one bin": one_bin(),
    "mean": mean(),
    "counts": counts(),
    "empty": hist.Hist(hist.axis.Regular(4, 0, 1), storage=hist.storage.Weight()),
    "no dataset": hist.Hist(hist.axis.StrCategory([], growth=True), hist.axis.Regular(2, 0, 1)),
}


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_text_is_that_of_json_and_is_read_without_loss(name: str) -> None:
    own = {name: HISTOGRAMS[name]}
    text = written(own)
    assert text == json.dumps(own, default=uhi.io.json.default)
    out = read(text)[name]
    theirs = hist.Hist(json.loads(text, object_hook=uhi.io.json.object_hook)[name])
    assert out == theirs == own[name]
    assert out.view(flow=True).tobytes() == own[name].view(flow=True).tobytes()
    assert out.axes[0].label == own[name].axes[0].label
    assert getattr(out, "complete", True) == getattr(own[name], "complete", True)


def test_many_histograms_keep_their_order_and_names() -> None:
    text = written(HISTOGRAMS)
    assert text == json.dumps(HISTOGRAMS, default=uhi.io.json.default)
    assert list(read(text)) == list(HISTOGRAMS)


def test_text_of_another_writer_is_read_too() -> None:
    plain: dict[str, Any] = json.loads(written({"x": sparse()}), object_hook=uhi.io.json.object_hook)
    indented = json.dumps(plain, indent=1, default=uhi.io.json.default)
    assert read(indented)["x"] == sparse()
    whole = json.loads(written({"x": HISTOGRAMS["empty"]}))
    whole["x"]["storage"]["values"] = [0, 2, 0, 0, 1, 0]
    assert read(json.dumps(whole))["x"].values(flow=True).tolist() == [0, 2, 0, 0, 1, 0]


def test_labels_may_look_like_rows_of_zeros() -> None:
    labelled = {
        label: hist.Hist(hist.axis.StrCategory([label], growth=True), hist.axis.Regular(2, 0, 1, label=label))
        for label in ("from [0.0, 0.0], to", r'a "quoted" [0.0]', "\\", "[0.0]")
    }
    text = written(labelled)
    assert text == json.dumps(labelled, default=uhi.io.json.default)
    assert read(text) == labelled
