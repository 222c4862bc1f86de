"""One trial of a search: a network trained on a sample that its process reads and scales only once."""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from models import backend
from models.bundle import checksum_of_json
from models.checkpoints import Checkpoint
from models.fitting import fit
from models.settings import SearchSettings, TrainingSettings
from models.training import scaled_sample
from processors.files import read_json, replace_atomically, write_json

if TYPE_CHECKING:
    from models.stream import BackgroundSample

__all__ = ["RESULT", "SCRATCH", "SearchJob", "TrialTrainer", "configuration", "criterion", "reduced_settings"]

RESULT = "result.json"
SCRATCH = ".events."


@dataclass(frozen=True)
class SearchJob:
    """All that decides what a search does; it travels to the workers."""

    manifest: Path
    region: str
    features: str
    columns: tuple[str, ...]
    search: SearchSettings
    training: TrainingSettings
    seed: int
    identity: str  # hash of all of this and of the shards
    directory: Path  # of the trials
    threads: int | None = None

    @property
    def checkpoints(self) -> Path:
        """Directory of the states of trials, which are needed until the search has ended."""
        return self.directory / "checkpoints"


class TrialTrainer:
    """Trains the trials of one process."""

    def __init__(self, job: SearchJob) -> None:
        self.job = job
        self._sample: BackgroundSample | None = None

    def __call__(self, values: Mapping[str, Any], directory: Path) -> float:
        """Train with these hyperparameters, unless that was done before, and write `result.json`.

        Every trial has the seed of the search, so that a plain `train` with its settings and this seed is the same
        fit to the bit. A trial that goes on from an earlier one starts from that one's last epoch, with its weights,
        optimiser and random numbers; so does one that was killed.

        Args:
            values: of the hyperparameters.
            directory: of the trial.

        Returns:
            What is minimised, see `criterion`; rounded as KerasTuner's protocol does, with or without workers.

        Raises:
            FailureError: the loss is not finite, or a shard is broken.
        """
        backend.start(self.job.threads)
        from models.search.space import trial_settings  # noqa: PLC0415 (imports Keras)

        settings = trial_settings(values, self.job.training, epochs=int(values["tuner/epochs"]))
        path = directory / RESULT
        identity = checksum_of_json([self.job.identity, settings.model_dump(mode="json")])
        if not path.is_file() or read_json(path)["hash"] != identity:
            content = self._train(settings)
            with replace_atomically(directory / "train.yaml") as temporary:
                temporary.write_text(
                    configuration(self.job, settings, trial=directory.name), encoding="utf-8"
                )
            write_json(path, {"hash": identity, **content})
        return float(np.float32(read_json(path)["criterion"]))

    def close(self) -> None:
        """Remove what the sample has on disk."""
        if self._sample is not None:
            self._sample.close()

    def _opened(self) -> "BackgroundSample":
        """Events of training and validation, read and scaled for the first trial and kept for all others."""
        if self._sample is None:
            self._sample, _ = scaled_sample(
                self.job.manifest,
                columns=list(self.job.columns),
                settings=self.job.training,
                seed=self.job.seed,
                scratch=self.job.directory / f"{SCRATCH}{os.getpid()}.{os.urandom(4).hex()}",
            )
        return self._sample

    def _state(self, settings: TrainingSettings) -> Checkpoint:
        """Where a trial's state is kept: the same place whatever its number of epochs."""
        content = settings.model_dump(mode="json", exclude={"epochs"})
        key = checksum_of_json([self.job.identity, content, backend.versions()])
        return Checkpoint(self.job.checkpoints / f"{key.removeprefix('xxh128:')}.npz", key)

    def _train(self, settings: TrainingSettings) -> dict[str, Any]:
        import keras  # noqa: PLC0415 (after the backend's threads are set)

        from models.autoencoder import build  # noqa: PLC0415

        sample, seed = self._opened(), self.job.seed
        begin = time.perf_counter()
        keras.utils.clear_session()  # what the last trial left
        # Every trial is another network: that its graphs are traced anew is no mistake to warn of.
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        keras.utils.set_random_seed(seed % 2**32)
        network = build(settings, len(sample.columns), seed=seed % 2**31)
        run = fit(network, sample, settings, seed=seed, checkpoint=self._state(settings))
        value, epoch = criterion(run.history(), settings, n_inputs=len(sample.columns))
        return {
            "criterion": value,
            "best_epoch": epoch,
            "seed": seed,
            "parameters": int(network.count_params()),
            "collapsed": run.collapsed,
            "settings": settings.model_dump(mode="json"),
            "metrics": run.metrics(),
            "history": run.history(),
            "seconds": time.perf_counter() - begin,
        }


def criterion(history: Mapping[str, Any], settings: TrainingSettings, *, n_inputs: int) -> tuple[float, int]:
    """What a search minimises, from background alone, and the epoch (from 1) that reached it.

    For an autoencoder the validation MSE. A VAE's loss depends on the factor of its Kullback-Leibler term, which may
    be searched, and its MSE falls without end as that factor does: its criterion is -ELBO with the factor 1, the bound
    on the likelihood of the validation events, whatever the factor in training was.

    Args:
        history: losses of each epoch, `val_loss` and `val_objective`.
        settings: of the network.
        n_inputs: number of columns.
    """
    values = np.asarray(history["val_loss"], dtype=np.float64)
    if settings.kind == "vae":
        likelihood = 0.5 * n_inputs * values
        objective = np.asarray(history["val_objective"], dtype=np.float64)
        values = likelihood + (objective - likelihood) / settings.beta if settings.beta > 0 else objective
    best = int(np.argmin(values))
    return float(values[best]), best + 1


def reduced_settings(settings: TrainingSettings) -> dict[str, Any]:
    """What of the settings is not already in their preset, in plain types: the shortest configuration."""
    preset = TrainingSettings(preset=settings.preset).model_dump(mode="json")
    content = settings.model_dump(mode="json")
    different = {name: value for name, value in content.items() if value != preset[name]}
    return {"preset": settings.preset, **different}


def configuration(job: SearchJob, settings: TrainingSettings, *, trial: str) -> str:
    """A configuration file with which `train` does a trial again.

    Its model has a name of its own, <space>-<features>-<trial>: it writes over neither the model of the same preset nor
    the winner of the search.
    """
    content = {
        "model": f"{job.search.space}-{job.features}-{trial}".replace("_", "-"),
        "regions": [job.region],
        "features": job.features,
        "seed": job.seed,
        "training": reduced_settings(settings),
    }
    return yaml.safe_dump(content, sort_keys=False)
