"""The search for better training settings: Hyperband over background events, by any executor.

A search is known by the hash of all that decides it: space, seed, settings, features and shards. Its trials stand in a
directory of this hash, so that a search that was killed goes on, and one that was changed begins anew.
"""

import logging
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from fileset.exceptions import FailureError, InputError
from models import backend
from models.bundle import checksum_of_json
from models.fitting import Progress
from models.presets import FeatureSet
from models.search.trial import RESULT, SearchJob, TrialTrainer, configuration, reduced_settings
from models.settings import SearchSettings, TrainingSettings
from models.stream import feature_columns, kept_columns
from models.training import train, training_hash
from processors.dispatch import cause_of
from processors.files import read_json, replace_atomically, write_json
from processors.shards import read_manifest
from processors.workers import Workers

if TYPE_CHECKING:
    from models.search.oracle import StoredHyperband

__all__ = ["SEARCH_FORMAT", "SearchProgress", "run_worker", "search", "train_winner"]

logger = logging.getLogger(__name__)

SEARCH_FORMAT = 1
SearchProgress: TypeAlias = Callable[[int, int, str], None]

_REACHABLE = 10.0  # time for a connection from worker to chief [s]


def search(
    manifest: Path,
    *,
    features: FeatureSet,
    settings: SearchSettings,
    training: TrainingSettings,
    seed: int,
    output: Path,
    workers: Workers,
    progress: SearchProgress | None = None,
) -> Path:
    """Search the settings that reconstruct background best; signals and collision data are not looked at.

    One worker finds the same for the same seed. Of several, who is asked first differs from run to run, and with it
    which trials go on; each trial is the same wherever and whenever it runs.

    Args:
        manifest: `manifest.json` of the region's shards.
        features: which feature set of the manifest; of it, what the stage compare kept.
        settings: space and extent of the search.
        training: all that is not searched.
        seed: of the search, and of split, weights and shuffling of every trial.
        output: directory of the analysis, seen by all workers; all goes to search/<region>/<space>-<features> in it.
        workers: who trains.
        progress: called after each trial with trials done, their number at most and a remark.

    Returns:
        `search.json`, the leaderboard; beside it `best.yaml`, a configuration that trains the winner.

    Raises:
        InputError: the manifest cannot be used, the space needs more inputs, or the network is one of the user's own.
        FailureError: no trial could be trained, or workers were lost.
    """
    if training.builder is not None:
        msg = f"training.builder = {training.builder} is one network, and tune tries many: leave it out, or train it"
        raise InputError(msg)
    content = read_manifest(manifest)
    columns = kept_columns(manifest, content, feature_columns(content, features))
    region = str(content["region"])
    folder = Path(output).resolve() / "search" / region / f"{settings.space}-{features}"
    identity = checksum_of_json(
        {
            "format": SEARCH_FORMAT,
            "search": settings.model_dump(mode="json"),
            "trained": training_hash(content, columns=columns, settings=training, seed=seed),
        }
    )
    path = folder / "search.json"
    if _finished(path, identity):
        logger.info("search %s of region %s is up to date", folder.name, region)
        return path
    job = SearchJob(
        manifest=Path(manifest).resolve(),
        region=region,
        features=features,
        columns=tuple(columns),
        search=settings,
        training=_of_trials(training, settings),
        seed=seed,
        identity=identity,
        directory=folder / identity.removeprefix("xxh128:")[:16],
    )
    begin = time.perf_counter()
    oracle = _hyperband(job, progress)
    _run_trials(job, oracle, workers)
    result = {
        "format": SEARCH_FORMAT,
        "region": region,
        "name": folder.name,
        "hash": identity,
        "space": settings.space,
        "features": features,
        "columns": columns,
        "seed": seed,
        "criterion": "validation -ELBO, beta = 1" if training.kind == "vae" else "validation MSE",
        "settings": settings.model_dump(mode="json"),
        "training": reduced_settings(training),
        "hyperparameters": [_described(parameter) for parameter in oracle.get_space().space],
        **_leaderboard(job, oracle),
        "versions": backend.versions(),
        "seconds": time.perf_counter() - begin,
    }
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    with replace_atomically(folder / "best.yaml") as temporary:
        temporary.write_text(configuration(job, _winner(result, training), trial="best"), encoding="utf-8")
    write_json(path, result)
    return path


def train_winner(
    path: Path,
    manifest: Path,
    *,
    training: TrainingSettings,
    output: Path,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train the winner of a search on everything; its bundle is tuned-<space>-<features>.

    Epochs and patience are those of the configuration, all else is the winner's.

    Args:
        path: `search.json`.
        manifest: `manifest.json` of the region's shards, the same that was searched with.
        training: of the configuration, the same that was searched with.
        output: directory of the analysis.
        threads: see `models.training.train`.
        progress: see `models.training.train`.

    Returns:
        The bundle's directory; its card names the search by its hash.
    """
    result = read_json(path)
    return train(
        manifest,
        features=result["features"],
        settings=_winner(result, training),
        seed=int(result["seed"]),
        output=output,
        name=f"tuned-{result['name']}",
        threads=threads,
        origin={"search": result["hash"], "trial": result["trials"][0]["trial"]},
        progress=progress,
    )


def run_worker(order: tuple[SearchJob, tuple[str, int], str]) -> None:
    """A worker's whole life: take trials from the chief until there are none.

    Args:
        order: what is searched, the chief's host and port, the worker's name.
    """
    job, address, name = order
    try:
        socket.create_connection(address, timeout=_REACHABLE).close()
    except OSError as error:
        msg = (
            f"worker {socket.gethostname()} does not reach the search at {address[0]}:{address[1]} "
            f"({cause_of(error)}): start `tune` on a machine that workers reach, or there without a cluster"
        )
        raise FailureError(msg) from error
    backend.start(job.threads)
    from models.search.oracle import worker_of  # noqa: PLC0415 (imports Keras)

    with closing(TrialTrainer(job)) as trainer:
        worker_of(address, name, trainer, directory=job.directory).search()


def _of_trials(training: TrainingSettings, search: SearchSettings) -> TrainingSettings:
    """The training settings that all trials share."""
    limits = {
        name: min(getattr(search, name), getattr(training, name) or getattr(search, name))
        for name in ("max_train_events", "max_validation_events")
    }
    return training.model_copy(update=limits)


def _winner(result: Mapping[str, Any], training: TrainingSettings) -> TrainingSettings:
    best = TrainingSettings.model_validate(result["trials"][0]["settings"])
    kept = ("epochs", "patience", "fail_on_collapse", "max_train_events", "max_validation_events")
    return best.model_copy(update={name: getattr(training, name) for name in kept})


def _finished(path: Path, identity: str) -> bool:
    try:
        return bool(read_json(path)["hash"] == identity)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def _hyperband(job: SearchJob, progress: SearchProgress | None) -> "StoredHyperband":
    backend.start(job.threads)
    from models.search.oracle import StoredHyperband  # noqa: PLC0415 (imports Keras)
    from models.search.space import search_space  # noqa: PLC0415

    def tell(oracle: "StoredHyperband") -> None:
        if progress is not None:
            found = [trial.score for trial in oracle.trials.values() if trial.score is not None]
            remark = f"best {min(found):.4g}" if found else "none finished"
            progress(len(oracle.end_order), oracle.n_trials, remark)

    space = search_space(job.search.space, n_inputs=len(job.columns), variational=job.training.kind == "vae")
    oracle = StoredHyperband(space, job.search, seed=job.seed, directory=job.directory, on_end=tell)
    if oracle.end_order:
        logger.info("the search goes on after %d of %d trials", len(oracle.end_order), oracle.n_trials)
    tell(oracle)
    return oracle


def _run_trials(job: SearchJob, oracle: "StoredHyperband", workers: Workers) -> None:
    """Run what is left of the trials: here, or by workers that this process is the chief of."""
    from models.search.oracle import TrialWorker, served  # noqa: PLC0415 (imports Keras)

    if workers.settings.executor == "iterative":
        with closing(TrialTrainer(job)) as trainer:
            TrialWorker(oracle, trainer, directory=job.directory).search()
        return
    # Who comes when all is done leaves at once: as many as could ever be busy may come, late ones too.
    count = oracle.most_at_once if workers.client else min(oracle.most_at_once, workers.settings.n_workers)
    alone = replace(job, threads=1)  # more threads than cores would only wait for each other
    lost: tuple[type[Exception], ...] = (BrokenExecutor, CancelledError, OSError)
    if workers.client:
        from distributed.scheduler import KilledWorker  # noqa: PLC0415 (only where Dask is used)

        lost = (*lost, KilledWorker)
    with served(oracle, _own_host(workers)) as address:
        orders = [(alone, address, f"worker{place}") for place in range(count)]
        try:
            for _ in workers.map(run_worker, orders):
                pass
        except lost as error:
            msg = (
                f"workers of the search were lost ({cause_of(error)}): run the same command again to continue"
            )
            raise FailureError(msg) from error


def _own_host(workers: Workers) -> str:
    """Address at which workers reach this process: that by which it reaches their scheduler."""
    if not workers.client:
        return "127.0.0.1"
    from distributed.comm.addressing import get_address_host  # noqa: PLC0415 (only where Dask is used)
    from distributed.utils import get_ip  # noqa: PLC0415

    return str(get_ip(get_address_host(workers.client.scheduler.address)))


def _leaderboard(job: SearchJob, oracle: "StoredHyperband") -> dict[str, Any]:
    """Trials from the best to the worst, then those that failed; and how long each took."""
    from models.search.space import active_values  # noqa: PLC0415 (imports Keras)

    trials, seconds = [], {}
    for number, trial in oracle.trials.items():
        values = trial.hyperparameters.values
        entry: dict[str, Any] = {
            "trial": number,
            "criterion": None,
            "round": int(values["tuner/round"]),
            "epochs": int(values["tuner/epochs"]),
            "continues": values.get("tuner/trial_id"),
            "values": active_values(values),
        }
        folder = job.directory / f"trial_{number}"
        if trial.score is None:
            entry["cause"] = read_json(folder / "failure.json")["cause"]
        else:
            found = read_json(folder / RESULT)
            seconds[number] = found["seconds"]
            metrics = found["metrics"]
            entry |= {key: found[key] for key in ("criterion", "best_epoch", "parameters", "collapsed")}
            entry["relative_error"] = metrics["val_loss"] / metrics["val_mean_predictor_loss"]
            entry |= {"seed": found["seed"], "settings": found["settings"]}
        trials.append(entry)
    trials.sort(key=lambda entry: (entry["criterion"] is None, entry["criterion"] or 0.0, entry["trial"]))
    if not trials or trials[0]["criterion"] is None:
        cause = trials[0]["cause"] if trials else "there was none"
        msg = f"none of the {len(trials)} trials of the search could be trained ({cause})"
        raise FailureError(msg)
    return {"trials": trials, "trial_seconds": dict(sorted(seconds.items()))}


def _described(parameter: Any) -> dict[str, Any]:
    """A hyperparameter in plain types: what it may be."""
    config = parameter.get_config()
    if "values" in config:
        return {"name": config["name"], "values": list(config["values"])}
    return {
        "name": config["name"],
        "min": config["min_value"],
        "max": config["max_value"],
        "log": config["sampling"] == "log",
    }
