"""The stage says what a cut does to the masses, what a hunt finds behind it, and what to pay for flat ones."""

import json
import shutil

import numpy as np
import pytest

from fileset.exceptions import InputError
from models.efficiency import auc
from models.settings import SculptingSettings
from models.studies.decorrelation import load_decorrelations
from models.studies.masses import read_masses
from models.studies.sculpting import sculpting

SETTINGS = SculptingSettings(toys=150, efficiencies=("1e-1", "1e-2"))


def _run(sculpting_run, *, settings=SETTINGS, seed=1, blinded=False, **more):
    scores, shards, _ = sculpting_run
    return sculpting(scores, shards, settings=settings, seed=seed, blinded=blinded, **more)


def test_the_result_is_plain_json_and_the_same_for_the_same_seed(sculpting_run):
    first, second = (json.dumps(_run(sculpting_run), allow_nan=False) for _ in range(2))
    assert first == second
    assert first != json.dumps(_run(sculpting_run, seed=2), allow_nan=False)


def test_a_score_that_follows_a_mass_changes_its_shape_and_its_decorrelation_does_not(sculpting_run):
    region = _run(sculpting_run)
    for mass in ("mll", "meff"):
        raw = region["cuts"]["1e-1"]["shapes"][mass]
        flat = region["decorrelation"][mass]["cuts"]["1e-1"]["shape"]
        assert raw["verdict"] == "changed"
        assert raw["jsd"] > 3 * raw["expected"]
        assert flat["jsd"] < raw["jsd"] / 2
        assert flat["jsd"] < 1.2 * flat["band"][1]


def test_shapes_are_of_held_out_background_in_bins_of_equal_parts(sculpting_run):
    region = _run(sculpting_run)
    scores, shards, _ = sculpting_run
    manifest = json.loads(scores.read_text())
    events = [read_masses(scores, manifest, shards, name).used for name in ("1.Zee", "2.ttbar")]
    mass = np.concatenate([part.columns["mll"] for part in events])
    weight = np.concatenate([part.weight for part in events])
    edges = np.array(region["masses"]["mll"]["edges"])
    assert len(edges) == 21
    place = np.searchsorted(edges[1:-1], mass, side="right")
    share = np.bincount(place, weights=weight) / weight.sum()
    np.testing.assert_allclose(share, 0.05, atol=0.003)
    drawn = region["masses"]["mll"]["drawn"]
    place = np.searchsorted(np.array(drawn["edges"])[1:-1], mass, side="right")
    np.testing.assert_allclose(drawn["share"], np.bincount(place, weights=weight) / weight.sum())


def test_the_cost_is_the_difference_of_areas_on_the_same_events(sculpting_run, tmp_path):
    maps = tmp_path / "decorrelation" / "2L.json"
    region = _run(sculpting_run, maps=maps)
    scores, shards, _ = sculpting_run
    manifest = json.loads(scores.read_text())
    events = {name: read_masses(scores, manifest, shards, name).used for name in manifest["datasets"]}
    made = load_decorrelations(maps, model="default-table")["meff"]
    areas = []
    for change in (
        lambda part: part.columns["score"],
        lambda part: made(part.columns["score"], part.columns["meff"]),
    ):
        background = [events[name] for name in ("1.Zee", "2.ttbar")]
        areas.append(
            auc(
                np.concatenate([change(part) for part in background]),
                np.concatenate([part.weight for part in background]),
                change(events["3.susy"]),
                events["3.susy"].weight,
            )[0]
        )
    cost = region["decorrelation"]["meff"]["cost"]["3.susy"]["auc"]
    assert cost["before"]["value"] == pytest.approx(areas[0])
    assert cost["after"]["value"] == pytest.approx(areas[1])
    assert cost["difference"]["value"] == pytest.approx(areas[1] - areas[0])
    # Both areas are of the same events: their difference is better known than either.
    assert 0 < cost["difference"]["error"] < np.hypot(cost["before"]["error"], cost["after"]["error"])
    assert cost["difference"]["value"] < -3 * cost["difference"]["error"]


def test_data_of_a_blinded_region_are_not_even_read(sculpting_run):
    scores, shards, _ = sculpting_run
    for manifest in (scores, shards):
        for shard in (manifest.parent / "data_A").iterdir():
            shard.write_bytes(b"must not be opened")
    region = _run(sculpting_run, blinded=True)
    assert region["blinded"]
    assert region["observed"] == "background-only pseudo-data"
    hunt = region["cuts"]["1e-1"]["hunt"]
    assert hunt["events"] == pytest.approx(hunt["expected_events"], abs=5 * np.sqrt(hunt["expected_events"]))


def test_data_behind_the_cut_are_hunted_in_against_as_much_background(sculpting_run):
    region = _run(sculpting_run)
    assert region["observed"] == "collision data"
    scores, shards, _ = sculpting_run
    data = read_masses(scores, json.loads(scores.read_text()), shards, "data_A").used
    for cut in region["cuts"].values():
        assert cut["hunt"]["events"] == (data.columns["score"] >= cut["score"]).sum()
        for hunt in cut["hunt"]["masses"].values():
            assert sum(hunt["expected"]) == pytest.approx(sum(hunt["observed"]))
            assert 0 < hunt["local_p"] <= 1
            assert hunt["window"]["low"] < hunt["window"]["high"]
        assert cut["hunt"]["global_p"]["toys"] == 150


def test_what_too_few_events_are_behind_is_marked_and_not_judged(sculpting_run):
    settings = SculptingSettings(toys=100, efficiencies=("1e-4",))
    region = _run(sculpting_run, settings=settings)
    cut = region["cuts"]["1e-4"]
    assert cut["unsupported"]
    assert cut["hunt"]["unsupported"]
    assert all(shape["unsupported"] and shape["jsd"] is None for shape in cut["shapes"].values())
    entry = region["decorrelation"]["mll"]["cost"]["3.susy"]["eps_s"]["1e-4"]
    assert entry["unsupported"]
    assert entry["before"] is None


def test_decorrelation_is_an_option(sculpting_run, tmp_path):
    maps = tmp_path / "2L.json"
    settings = SETTINGS.model_copy(update={"decorrelate": False})
    assert _run(sculpting_run, settings=settings, maps=maps)["decorrelation"] == {}
    assert not maps.exists()


def test_scores_without_background_or_shards_are_named(sculpting_run):
    scores, shards, _ = sculpting_run
    shutil.move(shards, shards.with_suffix(".away"))
    with pytest.raises(InputError, match="run the stage select first"):
        _run(sculpting_run)
    shutil.move(shards.with_suffix(".away"), shards)
    content = json.loads(scores.read_text())
    content["datasets"] = {
        name: facts for name, facts in content["datasets"].items() if facts["kind"] == "data"
    }
    scores.write_text(json.dumps(content))
    with pytest.raises(InputError, match="hold no background"):
        _run(sculpting_run)
