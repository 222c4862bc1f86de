"""Hyperband with trials that are no training: what is stored, served, killed and continued."""

import json
import math
import threading

import pytest

import models.search.oracle
from fileset.exceptions import FailureError
from models import backend
from models.search.oracle import StoredHyperband, TrialWorker, served, worker_of
from models.search.space import search_space
from models.settings import SearchSettings

backend.start()

# KerasTuner 1.4.8 calls two methods of `threading` by their old names.
pytestmark = pytest.mark.filterwarnings(
    "ignore:currentThread:DeprecationWarning", "ignore:getName:DeprecationWarning"
)

SEARCH = SearchSettings(space="wide", max_epochs=4, factor=2)
SMALL = SearchSettings(space="wide", max_epochs=2, factor=2)  # five trials, of which one goes on from another
SEED = 5


class KilledError(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def hyperband(directory, **options):
    space = search_space("wide", n_inputs=8)
    return StoredHyperband(space, options.pop("search", SEARCH), seed=SEED, directory=directory, **options)


def pretend(values, directory):
    """A criterion that falls with the epochs and depends on every hyperparameter."""
    text = json.dumps(
        {key: value for key, value in values.items() if not key.startswith("tuner/")}, sort_keys=True
    )
    size = sum(map(ord, text)) % 997
    return float(size + 100 / values["tuner/epochs"])


def leaderboard(oracle):
    return sorted(
        (trial.score, number, json.dumps(trial.hyperparameters.values, sort_keys=True))
        for number, trial in oracle.trials.items()
    )


def searched(directory, run=pretend, **options):
    oracle = hyperband(directory, **options)
    TrialWorker(oracle, run, directory=directory).search()
    return oracle


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return leaderboard(searched(tmp_path_factory.mktemp("search") / "trials"))


def test_hyperband_has_the_rounds_of_its_paper(tmp_path):
    oracle = hyperband(tmp_path / "a", search=SearchSettings(max_epochs=15, factor=3))
    assert (oracle.n_trials, oracle.most_at_once) == (12 + 4 + 2 + 6 + 2 + 4, 12 + 6 + 4)
    twice = hyperband(tmp_path / "b", search=SearchSettings(max_epochs=15, factor=3, sweeps=2))
    assert twice.n_trials == 60


def test_all_trials_are_done_and_the_best_go_on(tmp_path):
    oracle = searched(tmp_path / "trials")
    assert len(oracle.trials) == oracle.n_trials
    continued = {
        values["tuner/trial_id"]: values["tuner/initial_epoch"]
        for values in (trial.hyperparameters.values for trial in oracle.trials.values())
        if "tuner/trial_id" in values
    }
    assert continued
    for parent, epochs in continued.items():
        assert oracle.trials[parent].hyperparameters.values["tuner/epochs"] == epochs


def test_a_search_killed_at_any_write_goes_on_to_the_undisturbed_result(tmp_path, monkeypatch):
    undisturbed = leaderboard(searched(tmp_path / "undisturbed", search=SMALL))
    write, writes = models.search.oracle.write_json, 0

    def killing(path, content):
        nonlocal writes
        writes -= 1
        if writes < 0:
            raise KilledError
        write(path, content)

    survived = False
    for after in range(200):
        directory = tmp_path / str(after)
        monkeypatch.setattr(models.search.oracle, "write_json", killing)
        writes = after
        try:
            searched(directory, search=SMALL)
            survived = True
        except KilledError:
            monkeypatch.setattr(models.search.oracle, "write_json", write)
            ended = set(hyperband(directory, search=SMALL).end_order)
            run = set()
            result = searched(
                directory,
                lambda values, folder, run=run: run.add(folder) or pretend(values, folder),
                search=SMALL,
            )
            assert leaderboard(result) == undisturbed
            assert not {folder.name.removeprefix("trial_") for folder in run} & ended
        if survived:
            break
    assert survived
    assert after > 2 * len(undisturbed)


def test_a_trial_that_was_drawn_but_never_stored_is_drawn_again(tmp_path, undisturbed):
    directory = tmp_path / "trials"
    (directory / "trial_0000").mkdir(parents=True)
    (directory / "trial_0000" / "trial.json").write_text("{}")
    assert leaderboard(searched(directory)) == undisturbed


def test_a_trial_that_cannot_be_trained_fails_alone(tmp_path):
    def fragile(values, directory):
        if values["latent"] % 2:
            message = "the loss is not finite"
            raise FailureError(message)
        return pretend(values, directory)

    oracle = searched(tmp_path / "trials", fragile)
    failed = [number for number, trial in oracle.trials.items() if trial.status == "FAILED"]
    assert failed
    assert all(trial.score is not None for number, trial in oracle.trials.items() if number not in failed)
    for number in failed:
        stored = json.loads((tmp_path / "trials" / f"trial_{number}" / "failure.json").read_text())
        assert stored == {"cause": "the loss is not finite"}


def test_a_trial_that_breaks_ends_the_search_and_is_done_again(tmp_path, undisturbed):
    def broken(values, directory):
        if directory.name == "trial_0002":
            message = "no memory"
            raise MemoryError(message)
        return pretend(values, directory)

    with pytest.raises(FailureError, match=r"trial 0002 of the search broke \(MemoryError: no memory\)"):
        searched(tmp_path / "trials", broken)
    assert leaderboard(searched(tmp_path / "trials")) == undisturbed


def test_one_worker_of_a_chief_does_what_a_process_alone_does(tmp_path, undisturbed):
    directory = tmp_path / "trials"
    oracle = hyperband(directory)
    with served(oracle, "127.0.0.1") as address:
        worker_of(address, "worker0", pretend, directory=directory).search()
    # 32 bits of the criterion travel.
    assert [entry[1:] for entry in leaderboard(oracle)] == [entry[1:] for entry in undisturbed]
    assert [entry[0] for entry in leaderboard(oracle)] == pytest.approx([entry[0] for entry in undisturbed])


def test_several_workers_share_the_trials_and_one_that_comes_back_gets_its_trial_again(tmp_path):
    directory, done = tmp_path / "trials", {}
    oracle = hyperband(directory)

    def run(name, address, killed):
        def counted(values, folder):
            if killed and len(done.get(name, ())) == 1:
                raise KilledError(folder.name)
            done.setdefault(name, []).append(folder.name)
            return pretend(values, folder)

        try:
            worker_of(address, name, counted, directory=directory).search()
        except KilledError as error:
            lost.append(str(error))
            run(name, address, killed=False)

    lost = []
    with served(oracle, "127.0.0.1") as address:
        threads = [
            threading.Thread(target=run, args=(f"worker{place}", address, place == 0)) for place in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert sorted(folder for folders in done.values() for folder in folders) == sorted(
        f"trial_{number}" for number in oracle.trials
    )
    assert len(oracle.trials) == oracle.n_trials
    assert len(lost) == 1
    assert lost[0] in done["worker0"]
    for trial in oracle.trials.values():
        expected = pretend(trial.hyperparameters.values, directory)
        assert math.isclose(trial.score, expected, rel_tol=1e-6)
