"""New trainings learn what they are said to, and are compared with a model that was trained alike."""

import json

import pytest

from fileset.exceptions import InputError
from models.bundle import read_card
from models.settings import RobustnessSettings, TrainingSettings
from models.studies.retraining import Retraining, retrained
from processors.shards import read_manifest

TESTS = ("without-process", "little-data", "inverse")


def jobs_of(manifest, directory, **settings):
    return Retraining(
        manifest,
        read_manifest(manifest),
        features="table",
        training=TrainingSettings(train_on="data"),
        settings=RobustnessSettings(**{"epochs": 2, "train_fraction": 0.05, **settings}),
        seed=11,
        directory=directory,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, shard_writer, samples):
    """All three tests of two backgrounds and a signal ten times as hard."""
    output = tmp_path_factory.mktemp("output")
    manifest = shard_writer(output / "shards" / "2L", samples)
    jobs, said = jobs_of(manifest, output / "robustness" / "2L"), []
    found = retrained(jobs, TESTS, tell=said.append)
    return jobs, json.loads(json.dumps(found, allow_nan=False)), said


def cards(jobs):
    return {path.parts[-5]: read_card(path.parent) for path in jobs.directory.rglob("seed11/card.json")}


def test_each_model_has_learnt_what_its_test_says(run):
    jobs, _, _ = run
    learnt = {name: card["trained_on"]["datasets"] for name, card in cards(jobs).items()}
    assert learnt == {
        "nominal": ["1.Zee", "2.ttbar"],
        "without-Zjets": ["2.ttbar"],
        "without-ttbar": ["1.Zee"],
        "little-data": ["1.Zee", "2.ttbar"],
        "inverse-3.susy": ["3.susy"],
    }
    rows = {name: card["trained_on"]["n_train"] for name, card in cards(jobs).items()}
    assert rows["little-data"] == pytest.approx(0.05 * rows["nominal"], rel=0.05)


def test_trainings_are_as_many_as_were_announced_and_as_short(run):
    jobs, found, said = run
    assert len(said) == jobs.number(TESTS) == 5
    assert found["epochs"] == 2
    assert found["seeds"] == [11]
    history = json.loads(next(jobs.directory.rglob("nominal/**/seed11/history.json")).read_text())
    assert len(history["loss"]) == 2


def test_a_process_looks_more_anomalous_to_a_model_that_has_not_seen_it(run):
    entry = run[1]["without-process"]["ttbar"]
    assert entry["auc"] > entry["nominal"]["auc"] - 3 * entry["difference_error"]
    assert entry["difference"] == pytest.approx(entry["auc"] - entry["nominal"]["auc"], abs=1e-9)
    assert entry["n_train"] == pytest.approx(0.64 * 3000, rel=0.05)
    assert entry["n"] == pytest.approx(0.2 * 1500, rel=0.15)


def test_a_hard_signal_is_found_even_with_little_data(run, samples):
    entry = run[1]["little-data"]["3.susy"]
    assert entry["n"] == len(samples["3.susy"][2]["weight"])
    assert entry["auc"] > 0.8
    assert 0 < entry["auc_error"] < 0.05


def test_the_inverse_task_is_another_one_than_the_nominal(run):
    entry = run[1]["inverse"]["3.susy"]
    assert 0 <= entry["auc"] <= 1
    assert entry["n_known"] == pytest.approx(0.2 * 400, rel=0.3)
    assert entry["difference"] is None
    assert entry["nominal"]["auc"] > 0.8


def test_values_are_means_over_the_seeds_with_their_spread(run):
    jobs, found, _ = run
    several = jobs_of(jobs.path, jobs.directory, seeds=2)
    entry = retrained(several, ["little-data"], tell=lambda _: None)["little-data"]["3.susy"]
    assert len(entry["by_seed"]) == 2
    assert entry["by_seed"][0] == found["little-data"]["3.susy"]["auc"]
    assert entry["auc"] == pytest.approx(sum(entry["by_seed"]) / 2)
    assert entry["spread"] == pytest.approx(abs(entry["by_seed"][0] - entry["by_seed"][1]) / 2**0.5)


def test_a_second_run_trains_nothing_and_says_the_same(run):
    jobs, found, _ = run
    before = {path: path.stat().st_mtime_ns for path in jobs.directory.rglob("model.keras")}
    again = retrained(jobs, TESTS, tell=lambda _: None)
    assert json.loads(json.dumps(again)) == found
    assert {path: path.stat().st_mtime_ns for path in jobs.directory.rglob("model.keras")} == before


def test_an_unknown_signal_is_named(manifest, tmp_path):
    with pytest.raises(InputError, match=r"no signal 'dark' in region 2L: there are 3\.susy"):
        jobs_of(manifest, tmp_path, inverse=("dark",)).number(["inverse"])


def test_a_background_of_one_process_has_none_to_remove(tmp_path, shard_writer, samples):
    manifest = shard_writer(tmp_path, {name: samples[name] for name in ("1.Zee", "3.susy")})
    jobs = jobs_of(manifest, tmp_path / "models")
    assert jobs.groups == {}
    assert jobs.number(["without-process"]) == 1


def test_no_test_needs_no_training(manifest, tmp_path):
    assert retrained(jobs_of(manifest, tmp_path / "models"), [], tell=lambda _: None) == {}
    assert not (tmp_path / "models").exists()
