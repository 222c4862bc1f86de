"""Every selected event gets a score, its split and its full weight; the books still add up."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fileset.exceptions import FailureError, InputError
from processors.files import write_json
from processors.histograms import load_histograms
from processors.settings import REGIONS, ExecutionSettings
from processors.shards import read_manifest
from processors.split import split_of
from processors.stages.results import assemble
from processors.stages.score import score_region
from processors.workers import Workers


class LinearModel:
    """Stands for a bundle: the score is a sum of two columns, so that a test can do it by hand."""

    features = ["mll", "met_et"]  # noqa: RUF012 - the protocol asks for a list

    def score(self, features: np.ndarray) -> np.ndarray:
        assert features.dtype == np.float32
        assert features.shape[1] == 2
        return (features[:, 0] / 100 - features[:, 1] / 50).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A bundle that the loader "linear_model:load" reads."""
    loader = ModuleType("linear_model")
    loader.load = lambda _path: LinearModel()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "linear_model", loader)
    write_json(tmp_path / "model" / "card.json", {"name": "linear"})
    return tmp_path / "model"


@pytest.fixture
def score(
    model: Path, sample: Any, select: Callable[..., Any], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Scores the tiny sample's selected events; they are selected first."""
    select(sample.fileset(), tmp_path)

    def run(seed: int = 1) -> dict[str, Any]:
        with Workers(ExecutionSettings()) as workers:
            return score_region(
                name="2L",
                region=REGIONS["2L"],
                model=model,
                model_name="linear",
                loader="linear_model:load",
                seed=seed,
                workers=workers,
                output=tmp_path,
            )

    return run


def events_of(directory: Path) -> pa.Table:
    manifest = read_manifest(directory / "manifest.json")
    return pa.concat_tables([pq.read_table(directory / shard["path"]) for shard in manifest["shards"]])


def test_every_selected_event_has_its_score_split_and_variables(
    score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    manifest = score()
    events, scored = events_of(tmp_path / "shards" / "2L"), events_of(tmp_path / "scores" / "2L" / "linear")
    assert scored.column_names == [
        *["channelNumber", "runNumber", "eventNumber", "weight", "flcomp", "split", "score"],
        *manifest["variables"],
    ]
    assert manifest["variables"] == ["met_et", "mll", "mt2", "ht", "st", "meff", "lep1_pt"]
    for name in ("channelNumber", "runNumber", "eventNumber", "weight", "flcomp", *manifest["variables"]):
        assert scored[name].equals(events[name]), name
    by_hand = events["mll"].to_numpy() / 100 - events["met_et"].to_numpy() / 50
    np.testing.assert_allclose(scored["score"].to_numpy(), by_hand, rtol=1e-6, atol=1e-6)
    assert scored["score"].type == pa.float32()
    identity = [events[name].to_numpy() for name in ("channelNumber", "runNumber", "eventNumber")]
    np.testing.assert_array_equal(scored["split"].to_numpy(), split_of(*identity, seed=1))


def test_all_splits_of_a_dataset_integrate_to_its_sum_of_weights(
    score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    manifest = score()
    assemble(tmp_path, ("2L",))
    histogram = load_histograms(tmp_path / "histograms.json")["2L/score/linear"]
    for dataset, book in manifest["datasets"].items():
        total = histogram[{"dataset": dataset}].sum(flow=True)
        assert total.value == pytest.approx(book["sumw"], rel=1e-12)
        assert total.variance == pytest.approx(book["sumw2"], rel=1e-12)
    assert sum(shard["rows"] for shard in manifest["shards"]) == sum(
        b["rows"] for b in manifest["datasets"].values()
    )


def test_the_scale_of_incomplete_simulation_is_in_the_weights(
    score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "shards" / "2L" / "manifest.json"
    shards = read_manifest(path)
    shards["datasets"]["361106.Zee.2lep"]["scale"] = 1.5
    write_json(path, shards)
    manifest = score()
    for dataset, book in manifest["datasets"].items():
        own = [shard for shard in manifest["shards"] if shard["dataset"] == dataset]
        factor = 1.5 if dataset == "361106.Zee.2lep" else 1.0
        assert sum(shard["sumw"] for shard in own) == pytest.approx(factor * book["sumw"], rel=1e-12)


def test_a_second_run_scores_nothing_and_another_model_or_seed_scores_all(
    score: Callable[..., dict[str, Any]], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = score()
    scored: list[int] = []
    original = LinearModel.score
    monkeypatch.setattr(LinearModel, "score", lambda self, x: scored.append(len(x)) or original(self, x))
    assert score() == first
    assert scored == []
    assert score(seed=2)["config_hash"] != first["config_hash"]
    rows = sum(book["rows"] for book in first["datasets"].values())
    assert sum(scored) == rows
    write_json(model / "card.json", {"name": "linear", "trained": "again"})
    score(seed=2)
    assert sum(scored) == 2 * rows


@pytest.mark.parametrize("how", ["cut short", "garbled"])
def test_a_broken_shard_is_named(score: Callable[..., dict[str, Any]], tmp_path: Path, how: str) -> None:
    directory = tmp_path / "shards" / "2L"
    shard = directory / read_manifest(directory / "manifest.json")["shards"][0]["path"]
    content = shard.read_bytes()
    shard.write_bytes(content[:-100] if how == "cut short" else content[:4] + bytes(len(content) - 4))
    with pytest.raises(FailureError, match=shard.name):
        score()


def test_a_model_does_not_score_with_another_split_than_it_was_trained_with(
    score: Callable[..., dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    write_json(model / "card.json", {"name": "linear", "seeds": {"split": 7}})
    with pytest.raises(InputError, match="split of seed 7, not 1"):
        score()
    assert score(seed=7)["seed"] == 7
    (model / "card.json").unlink()
    with pytest.raises(InputError, match="run the stage train first"):
        score()


def test_scores_of_shards_that_are_no_more_stay_out_of_the_results(
    score: Callable[..., dict[str, Any]], select: Callable[..., Any], sample: Any, tmp_path: Path
) -> None:
    score()
    assert "2L/score/linear" in assemble(tmp_path, ("2L",))
    fileset = sample.fileset()
    for entry in fileset.values():
        entry["metadata"]["norm"] *= 2
    select(fileset, tmp_path)
    assert "2L/score/linear" not in assemble(tmp_path, ("2L",))
    score()
    assert "2L/score/linear" in assemble(tmp_path, ("2L",))


def test_a_model_of_other_shards_is_told_of(
    score: Callable[..., dict[str, Any]], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_json(model / "card.json", {"name": "linear", "trained_on": {"config_hash": "of other shards"}})
    score()
    assert "trained on other shards" in caplog.text
