"""A search on small shards: every trial is a plain training, whoever did it and whatever happened meanwhile."""

import json
import os
import signal

import pytest
import yaml

from fileset.exceptions import FailureError, InputError
from models.bundle import load_model, read_card
from models.fitting import fit
from models.search.trial import TrialTrainer, criterion
from models.search.tuning import search, train_winner
from models.settings import SearchSettings, TrainingSettings
from models.training import train
from processors.settings import ExecutionSettings
from processors.workers import Workers

# KerasTuner 1.4.8 calls two methods of `threading` by their old names.
pytestmark = pytest.mark.filterwarnings(
    "ignore:currentThread:DeprecationWarning", "ignore:getName:DeprecationWarning"
)

# Two brackets with one and two epochs: five trials, of which one goes on from another.
SEARCH = SearchSettings(space="wide", max_epochs=2, factor=2)
TRAINING = TrainingSettings(min_steps=4, epochs=3)
SEED = 11


class KilledError(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def tuned(manifest, output, **changed):
    options = {"features": "table", "settings": SEARCH, "training": TRAINING, "seed": SEED, **changed}
    with Workers(ExecutionSettings(executor="iterative")) as workers:
        return search(manifest, output=output, workers=workers, **options)


def leaderboard(path):
    return json.loads(path.read_text())["trials"]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, shard_writer, samples):
    """One copy for all tests, of which none changes it."""
    return shard_writer(tmp_path_factory.mktemp("shards") / "2L", samples)


@pytest.fixture(scope="module")
def done(tmp_path_factory, manifest):
    """A search by one worker, undisturbed."""
    return tuned(manifest, tmp_path_factory.mktemp("output"))


def fake(trainer, settings):
    """What a trial leaves, without a training."""
    value = float(sum(map(ord, settings.model_dump_json(exclude={"epochs"}))) % 997 + 1 / settings.epochs)
    metrics = {"val_loss": value, "val_mean_predictor_loss": 1.0}
    content = {"criterion": value, "best_epoch": 1, "parameters": 1, "collapsed": False, "seconds": 0.0}
    return content | {
        "seed": trainer.job.seed,
        "settings": settings.model_dump(mode="json"),
        "metrics": metrics,
    }


@pytest.fixture
def no_training(monkeypatch):
    """Trials cost nothing; the list of those that were done."""
    trained = []

    def counted(trainer, settings):
        trained.append(settings)
        return fake(trainer, settings)

    monkeypatch.setattr(TrialTrainer, "_train", counted)
    return trained


def retrained(manifest, folder, output):
    """What a plain `train` with a trial's configuration reaches."""
    content = yaml.safe_load((folder / "train.yaml").read_text())
    assert content["regions"] == ["2L"]
    bundle = train(
        manifest,
        features=content["features"],
        settings=TrainingSettings.model_validate(content["training"]),
        seed=content["seed"],
        output=output,
        name=folder.name,
    )
    return read_card(bundle)["metrics"]


def folder_of(path, trial):
    (folder,) = path.parent.glob(f"*/trial_{trial}")
    return folder


def test_the_same_seed_gives_the_same_leaderboard_and_no_trial_begins_anew(
    tmp_path, manifest, done, monkeypatch
):
    epochs = []

    def counting(network, sample, settings, **options):
        return fit(
            network,
            sample,
            settings,
            **options,
            progress=lambda epoch, *_: epochs.append((settings.epochs, epoch)),
        )

    monkeypatch.setattr("models.search.trial.fit", counting)
    path = tuned(manifest, tmp_path)
    assert leaderboard(path) == leaderboard(done)
    # Brackets: two trials of one epoch, one of them goes on for one more; two of two epochs.
    assert sorted(epochs) == [(1, 1)] * 2 + [(2, 1)] * 2 + [(2, 2)] * 3
    assert list(path.parent.glob("*/checkpoints")) == []


def test_the_leaderboard_is_in_the_order_of_the_validation_error(done):
    trials = leaderboard(done)
    assert len(trials) == 5
    errors = [trial["criterion"] for trial in trials]
    assert errors == sorted(errors)
    assert len(set(errors)) > 1
    content = json.loads(done.read_text())
    assert content["criterion"] == "validation MSE"
    assert set(content["trial_seconds"]) == {trial["trial"] for trial in trials}


def test_every_trial_is_a_plain_training(tmp_path, manifest, done):
    trials = leaderboard(done)
    fresh = next(trial for trial in trials if trial["continues"] is None)
    continued = next(trial for trial in trials if trial["continues"] is not None)
    for trial in (fresh, continued):
        folder = folder_of(done, trial["trial"])
        assert (
            yaml.safe_load((folder / "train.yaml").read_text())["model"]
            == f"wide-table-trial-{trial['trial']}"
        )
        metrics = retrained(manifest, folder, tmp_path)
        assert metrics["val_loss"] == trial["criterion"]
        assert metrics["best_epoch"] == trial["best_epoch"]


def test_trials_of_a_cluster_that_loses_a_worker_are_the_same_trainings(tmp_path, manifest):
    with Workers(ExecutionSettings(executor="dask", workers=2)) as workers:
        pids = workers.client.run(os.getpid)

        def kill(ended, total, remark):
            if ended == 1:
                os.kill(next(iter(pids.values())), signal.SIGKILL)

        path = search(
            manifest,
            features="table",
            settings=SEARCH,
            training=TRAINING,
            seed=SEED,
            output=tmp_path,
            workers=workers,
            progress=kill,
        )
    trials = leaderboard(path)
    assert len(trials) == 5
    assert None not in {trial["criterion"] for trial in trials}
    for trial in trials[:2]:
        metrics = retrained(manifest, folder_of(path, trial["trial"]), tmp_path / "again")
        assert metrics["val_loss"] == pytest.approx(trial["criterion"], rel=1e-6)


def test_a_search_that_was_killed_goes_on(tmp_path, manifest, no_training):
    whole = leaderboard(tuned(manifest, tmp_path / "whole"))
    no_training.clear()

    def kill(ended, total, remark):
        assert total == 5
        if ended == 3:
            raise KilledError

    with pytest.raises(KilledError):
        tuned(manifest, tmp_path, progress=kill)
    assert not (tmp_path / "search" / "2L" / "wide-table" / "search.json").exists()
    assert leaderboard(tuned(manifest, tmp_path)) == whole
    assert len(no_training) == 5


def test_a_finished_search_is_not_done_again(tmp_path, manifest, no_training):
    path = tuned(manifest, tmp_path)
    before = path.stat().st_mtime_ns
    no_training.clear()
    assert tuned(manifest, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    assert no_training == []


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 12},
        {"features": "reduced"},
        {"settings": SEARCH.model_copy(update={"max_epochs": 4})},
        {"settings": SEARCH.model_copy(update={"max_train_events": 100})},
        {"training": TRAINING.model_copy(update={"scaler": "minmax"})},
    ],
    ids=["seed", "features", "epochs", "subsample", "scaler"],
)
def test_another_configuration_begins_anew(tmp_path, manifest, no_training, change):
    first = json.loads(tuned(manifest, tmp_path).read_text())
    no_training.clear()
    path = tuned(manifest, tmp_path, **change)
    second = json.loads(path.read_text())
    assert second["hash"] != first["hash"]
    assert len(no_training) == len(second["trials"])
    assert len(list((tmp_path / "search" / "2L").glob("*/*/oracle.json"))) == 2


def test_other_shards_begin_anew(tmp_path, shard_writer, event_maker, no_training):
    def background(seed):
        return {"1.Zee": ("background", "Zjets", event_maker(400, channel=1, seed=seed))}

    hashes = {
        json.loads(tuned(shard_writer(tmp_path / str(seed), background(seed)), tmp_path).read_text())["hash"]
        for seed in (1, 2)
    }
    assert len(hashes) == 2
    assert len(no_training) == 10


def test_trials_see_a_subsample_and_the_winner_everything(tmp_path, manifest, no_training):
    few = SEARCH.model_copy(update={"max_train_events": 300, "max_validation_events": 100})
    path = tuned(manifest, tmp_path, settings=few)
    assert {(settings.max_train_events, settings.max_validation_events) for settings in no_training} == {
        (300, 100)
    }
    best = yaml.safe_load((path.parent / "best.yaml").read_text())["training"]
    assert "max_train_events" not in best


def test_the_winner_is_trained_with_the_epochs_of_the_configuration(tmp_path, manifest, done):
    bundle = train_winner(done, manifest, training=TRAINING, output=tmp_path)
    result = json.loads(done.read_text())
    winner = result["trials"][0]
    card = load_model(bundle).card
    assert bundle == tmp_path / "models" / "2L" / "tuned-wide-table"
    assert card["origin"] == {"search": result["hash"], "trial": winner["trial"]}
    assert card["settings"]["encoder"] == winner["settings"]["encoder"]
    assert card["settings"]["learning_rate"] == winner["settings"]["learning_rate"]
    assert card["metrics"]["epochs"] <= TRAINING.epochs == card["settings"]["epochs"]
    best = yaml.safe_load((done.parent / "best.yaml").read_text())
    assert TrainingSettings.model_validate(best["training"]).model_dump(mode="json") == card["settings"]


def test_a_variational_network_is_judged_by_one_bound_whatever_its_beta():
    history = {
        "val_loss": [1.0, 0.5],
        "val_objective": [0.5 * 8 * 1.0 + 0.1 * 3.0, 0.5 * 8 * 0.5 + 0.1 * 9.0],
    }
    settings = TrainingSettings(preset="thesis-vae-small", beta=0.1)
    # 4 + 3 in the first epoch, 2 + 9 in the second: the error falls, the bound does not.
    assert criterion(history, settings, n_inputs=8) == (pytest.approx(7.0), 1)
    assert criterion(history, TrainingSettings(), n_inputs=8) == (0.5, 2)


def test_too_few_inputs_for_a_space_are_an_error_of_the_input(tmp_path, manifest):
    with pytest.raises(InputError, match="only 8 inputs"):
        tuned(manifest, tmp_path, settings=SEARCH.model_copy(update={"space": "report"}))


def test_a_search_without_any_trained_trial_says_why(tmp_path, manifest, monkeypatch):
    def diverging(trainer, settings):
        message = "the loss is not finite after epoch 1: lower learning_rate"
        raise FailureError(message)

    monkeypatch.setattr(TrialTrainer, "_train", diverging)
    with pytest.raises(FailureError, match=r"none of the \d trials .* \(the loss is not finite"):
        tuned(manifest, tmp_path)


def test_the_winner_is_not_written_over_by_a_training_of_its_name(tmp_path, manifest, done):
    bundle = train_winner(done, manifest, training=TRAINING, output=tmp_path)
    with pytest.raises(InputError, match="winner of a search"):
        train(manifest, features="table", settings=TRAINING, seed=7, output=tmp_path, name=bundle.name)
    assert load_model(bundle).card["origin"]
    best = yaml.safe_load((done.parent / "best.yaml").read_text())["model"]
    assert best == "wide-table-best", "neither the winner's name nor that of the model of the same preset"
