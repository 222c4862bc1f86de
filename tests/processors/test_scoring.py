"""Every selected event gets a score, its split and its full weight; the books still add up."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from fileset.exceptions import FailureError, InputError
from processors.files import write_json
from processors.histograms import held_out, load_histograms
from processors.residuals import mean_residuals
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.shards import read_manifest
from processors.split import split_of
from processors.stages.results import assemble, current_scores
from processors.stages.score import score_files, score_region
from processors.stages.select import input_recipe
from processors.workers import Workers

CARD = {"name": "linear", "scores": ["mse", "mae"], "features": ["mll", "met_et"], "seeds": {"split": 1}}


class LinearModel:
    """Stands for a bundle: the score is a sum of two columns, so that a test can do it by hand."""

    features = ("mll", "met_et")
    score_names = ("mse", "mae")

    def score(self, features: np.ndarray) -> np.ndarray:
        assert features.dtype == np.float32
        assert features.shape[1] == 2
        return (features[:, 0] / 100 - features[:, 1] / 50).astype(np.float32)

    def measures(self, features: np.ndarray) -> Iterator["Measured"]:
        for rows in (slice(0, 30), slice(30, len(features))):
            mse = self.score(features[rows])
            yield Measured(rows, {"mse": mse, "mae": mse / 2}, features[rows] ** 2)


class Measured(NamedTuple):
    rows: slice
    scores: dict[str, np.ndarray]
    residuals: np.ndarray


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A bundle that the loader "linear_model:load" reads."""
    loader = ModuleType("linear_model")
    loader.load = lambda _path: LinearModel()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "linear_model", loader)
    write_json(tmp_path / "model" / "card.json", CARD)
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
        *["channelNumber", "runNumber", "eventNumber", "weight", "flcomp", "split", "score", "score_mae"],
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


def test_the_root_file_holds_scores_of_held_out_background_alone(
    score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    manifest = score()
    everything = assemble(tmp_path, ("2L",))["2L/score/linear"]
    kinds = {dataset: book["kind"] for dataset, book in manifest["datasets"].items()}
    expected = held_out(everything, kinds).project("dataset", "score")
    assert manifest["searched"] == 1.0
    with uproot.open(tmp_path / "histograms.root") as file:
        for dataset, book in manifest["datasets"].items():
            if book["rows"]:
                found = file[f"2L/score/linear/{book['group']}"]
                np.testing.assert_allclose(
                    found.values(flow=True), expected[dataset, :].values(flow=True), rtol=1e-9
                )
    background = everything[{"dataset": "361106.Zee.2lep"}].project("score").values(flow=True)
    assert not np.allclose(background, expected["361106.Zee.2lep", :].values(flow=True)), (
        "some of it was trained on"
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
    write_json(model / "card.json", {**CARD, "seeds": {"split": 2}})
    assert score(seed=2)["config_hash"] != first["config_hash"]
    rows = sum(book["rows"] for book in first["datasets"].values())
    assert sum(scored) == rows
    write_json(model / "card.json", {**CARD, "seeds": {"split": 2}, "trained": "again"})
    score(seed=2)
    assert sum(scored) == 2 * rows


def test_a_changed_cross_section_of_one_sample_scores_that_sample_alone(
    score: Callable[..., dict[str, Any]],
    select: Callable[..., Any],
    sample: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = score()
    fileset = sample.fileset()
    fileset["361106.Zee.2lep"]["metadata"]["norm"] *= 2
    select(fileset, tmp_path)
    scored: list[int] = []
    original = LinearModel.score
    monkeypatch.setattr(LinearModel, "score", lambda self, x: scored.append(len(x)) or original(self, x))
    again = score()
    assert sum(scored) == again["datasets"]["361106.Zee.2lep"]["rows"]
    for one, other in zip(first["shards"], again["shards"], strict=True):
        assert (one == other) == (one["dataset"] != "361106.Zee.2lep")


def test_scoring_that_was_killed_goes_on_where_it_was(
    score: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends as if nothing had happened."""
    undisturbed = score()
    directory = tmp_path / "scores" / "2L" / "linear"
    shutil.rmtree(directory)
    left = iter(range(3))
    original = LinearModel.measures

    def killed(self: LinearModel, features: np.ndarray) -> Iterator[Measured]:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return original(self, features)

    with monkeypatch.context() as patch:
        patch.setattr(LinearModel, "measures", killed)
        with pytest.raises(KeyboardInterrupt):
            score()
    assert not (directory / "manifest.json").exists()
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*.receipt.json")}
    assert len(before) == 3
    assert score() == undisturbed
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("how", ["cut short", "garbled", "one bit"])
def test_a_broken_shard_is_named(score: Callable[..., dict[str, Any]], tmp_path: Path, how: str) -> None:
    directory = tmp_path / "shards" / "2L"
    shard = directory / read_manifest(directory / "manifest.json")["shards"][0]["path"]
    content = shard.read_bytes()
    middle = len(content) // 2
    damaged = {
        "cut short": content[:-100],
        "garbled": content[:4] + bytes(len(content) - 4),
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
    }
    shard.write_bytes(damaged[how])
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


def test_events_are_split_in_the_parts_that_the_model_was_trained_with(
    score: Callable[..., dict[str, Any]], model: Path, tmp_path: Path
) -> None:
    write_json(model / "card.json", {**CARD, "trained_on": {"fractions": [0.1, 0.1, 0.8]}})
    score()
    scored = events_of(tmp_path / "scores" / "2L" / "linear")
    identity = [scored[name].to_numpy() for name in ("channelNumber", "runNumber", "eventNumber")]
    expected = split_of(*identity, seed=1, fractions=(0.1, 0.1, 0.8))
    np.testing.assert_array_equal(scored["split"].to_numpy(), expected)


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


def test_scores_of_another_model_or_of_shards_that_are_no_more_are_not_evaluated(
    score: Callable[..., dict[str, Any]], select: Callable[..., Any], sample: Any, model: Path, tmp_path: Path
) -> None:
    write_json(model / "card.json", {**CARD, "checksum": "first"})
    score()
    assert current_scores(tmp_path, "2L", {**CARD, "checksum": "first"})["model_checksum"] == "first"
    with pytest.raises(InputError, match="of another model than linear is now: run score again"):
        current_scores(tmp_path, "2L", {**CARD, "checksum": "trained again"})
    fileset = sample.fileset()
    for entry in fileset.values():
        entry["metadata"]["norm"] *= 2
    select(fileset, tmp_path)
    with pytest.raises(InputError, match="of shards that are no more: run score again"):
        current_scores(tmp_path, "2L", {**CARD, "checksum": "first"})


def test_a_model_of_other_inputs_does_not_score_shards(
    score: Callable[..., dict[str, Any]], model: Path
) -> None:
    write_json(model / "card.json", {**CARD, "features": ["mll", "lep3_pt"]})
    with pytest.raises(InputError, match="takes 'lep3_pt', which is not made in region 2L"):
        score()
    recipe = input_recipe(REGIONS["3L"], RMMSettings())
    write_json(model / "card.json", {**CARD, "trained_on": {"recipe": recipe}})
    with pytest.raises(InputError, match="other settings of leptons than region 2L"):
        score()


def test_a_model_of_other_shards_is_told_of(
    score: Callable[..., dict[str, Any]], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_json(model / "card.json", {"name": "linear", "trained_on": {"shards": "others"}})
    score()
    assert "trained on other shards" in caplog.text


def test_every_further_score_has_a_column_and_an_axis_of_its_own(
    score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    manifest = score()
    assert manifest["scores"] == ["mse", "mae"]
    scored = events_of(tmp_path / "scores" / "2L" / "linear")
    np.testing.assert_array_equal(scored["score_mae"].to_numpy(), scored["score"].to_numpy() / 2)
    histograms = load_histograms(tmp_path / "scores" / "2L" / "linear" / "histograms.json")
    assert set(histograms) == {"2L/score/linear", "2L/score/linear/mae", "2L/residuals/linear"}
    first, other = (histograms[name].axes["score"] for name in ("2L/score/linear", "2L/score/linear/mae"))
    assert first.label != other.label
    assert (first.edges[0], first.edges[-1]) == (-6, 10)
    assert (other.edges[0], other.edges[-1]) == (-5, 7)
    totals = [histograms[f"2L/score/linear{other}"].sum(flow=True).value for other in ("", "/mae")]
    assert totals[0] == pytest.approx(totals[1], rel=1e-12)


def test_residuals_are_averaged_over_held_out_background_and_over_all_signal(
    score: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    manifest = score()
    assemble(tmp_path, ("2L",))
    histogram = load_histograms(tmp_path / "histograms.json")["2L/residuals/linear"]
    kinds = {name: book["kind"] for name, book in manifest["datasets"].items()}
    events, scored = events_of(tmp_path / "shards" / "2L"), events_of(tmp_path / "scores" / "2L" / "linear")
    channel = events["channelNumber"].to_numpy()
    for dataset, number, counted in (
        ("361106.Zee.2lep", 361106, scored["split"].to_numpy() == 2),
        ("392220.C1N2.2lep", 392220, np.ones(len(channel), bool)),
    ):
        found = mean_residuals(histogram, kinds, [dataset])
        assert found is not None
        assert found.features == ["mll", "met_et"]
        of = (channel == number) & counted
        weight = events["weight"].to_numpy()[of]
        squared = np.stack(
            [events[name].to_numpy().astype(float)[of] ** 2 for name in found.features], axis=1
        )
        np.testing.assert_allclose(found.mean, np.average(squared, axis=0, weights=weight), rtol=1e-5)
        np.testing.assert_allclose(found.share, found.mean / found.mean.sum())
        left = squared - found.share * squared.sum(axis=1, keepdims=True)
        error = np.sqrt((weight**2) @ left**2) / (weight @ squared).sum()
        np.testing.assert_allclose(found.share_error, error, rtol=1e-3)
    assert mean_residuals(histogram, kinds, []) is None


def _score_files(fileset: Any, output: Path, model: Path, **options: Any) -> dict[str, Any]:
    with Workers(ExecutionSettings()) as workers:
        return score_files(
            fileset,
            name="2L",
            region=options.pop("region", REGIONS["2L"]),
            weights=WeightSettings(),
            rmm=RMMSettings(),
            model=model,
            loader="linear_model:load",
            seed=None,
            workers=workers,
            output=output,
        )


def test_events_are_scored_without_shards_as_they_are_with_them(
    score: Callable[..., dict[str, Any]], sample: Any, model: Path, tmp_path: Path
) -> None:
    with_shards = score()
    direct = _score_files(sample.fileset(), tmp_path / "direct", model)
    order = [("channelNumber", "ascending"), ("eventNumber", "ascending")]
    one, other = (
        events_of(directory / "scores" / "2L" / "linear").sort_by(order)
        for directory in (tmp_path, tmp_path / "direct")
    )
    assert one.equals(other)
    for dataset, book in with_shards["datasets"].items():
        for key in ("rows", "sumw", "sumw2", "kind", "events_read"):
            assert direct["datasets"][dataset][key] == book[key], (dataset, key)
    histograms = (
        load_histograms(directory / "scores" / "2L" / "linear" / "histograms.json")["2L/score/linear"]
        for directory in (tmp_path, tmp_path / "direct")
    )
    np.testing.assert_allclose(*(histogram.values(flow=True) for histogram in histograms), rtol=1e-12)
    assert not list((tmp_path / "direct").glob("shards/**/*.parquet"))


def test_scores_without_shards_are_among_the_results_where_the_same_events_are_selected(
    score: Callable[..., dict[str, Any]], select: Callable[..., Any], sample: Any, model: Path, tmp_path: Path
) -> None:
    score()
    expected = load_histograms(tmp_path / "scores" / "2L" / "linear" / "histograms.json")["2L/score/linear"]
    _score_files(sample.fileset(), tmp_path, model)
    found = assemble(tmp_path, ("2L",))["2L/score/linear"]
    np.testing.assert_allclose(found.values(flow=True), expected.values(flow=True), rtol=1e-12)
    assert current_scores(tmp_path, "2L", CARD)["scored_shards"] is None
    fileset = sample.fileset()
    for entry in fileset.values():
        entry["metadata"]["norm"] *= 2
    select(fileset, tmp_path)
    assert "2L/score/linear" not in assemble(tmp_path, ("2L",))


def test_a_model_of_other_inputs_does_not_score_events(sample: Any, model: Path, tmp_path: Path) -> None:
    write_json(model / "card.json", {**CARD, "features": ["mll", "lep3_pt"]})
    with pytest.raises(InputError, match="takes 'lep3_pt', which is not made in region 2L"):
        _score_files(sample.fileset(), tmp_path, model)
    recipe = input_recipe(REGIONS["3L"], RMMSettings(convention="map2rmm"))
    write_json(model / "card.json", {**CARD, "trained_on": {"recipe": recipe}})
    with pytest.raises(InputError, match="other settings of leptons than region 2L"):
        _score_files(sample.fileset(), tmp_path, model)
    write_json(
        model / "card.json", {**CARD, "features": ["mll", "m_j1_e2"], "trained_on": {"recipe": recipe}}
    )
    with pytest.raises(InputError, match="other settings of leptons and rmm than region 2L"):
        _score_files(sample.fileset(), tmp_path, model)
