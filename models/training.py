"""Training: background shards in, a model bundle out."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import FailureError, InputError
from models import backend
from models.bundle import BUNDLE_FORMAT, AnomalyModel, checksum_of_json, verified_card, write_bundle
from models.efficiency import EFFICIENCIES, MIN_EFFECTIVE, UpperTail
from models.presets import FeatureSet
from models.scaling import Scaler, fit_scaler
from models.settings import ScoreName, TrainingSettings
from models.stream import (
    CHUNK_ROWS,
    BackgroundSample,
    Chunk,
    feature_columns,
    kept_columns,
    open_background,
)
from processors.shards import read_manifest

if TYPE_CHECKING:
    import keras

__all__ = ["Fit", "Progress", "fit", "scaled_sample", "train", "training_hash"]

logger = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int, float, float], None]

# A model that removes less than this part of the mean predictor's error has learnt nothing.
COLLAPSE_MARGIN = 0.05


def train(
    manifest: Path,
    *,
    features: FeatureSet,
    settings: TrainingSettings,
    seed: int,
    output: Path,
    name: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train an autoencoder on the background of one region and write its bundle.

    A bundle that carries the same hash of settings, seed, features and shards is returned as it is.

    Args:
        manifest: `manifest.json` of the region's shards.
        features: which feature set of the manifest; of it, what the stage compare kept.
        settings: network, scaling, weights and optimiser.
        seed: of the split, of fresh weights and of the shuffling.
        output: directory of the analysis; the bundle goes to models/<region>/<name> in it.
        name: of the model; by default <preset>-<features>.
        threads: of TensorFlow; by default all cores.
        progress: called after each epoch with its number (from 1), their number at most, loss and
            validation loss.

    Returns:
        The bundle's directory.

    Raises:
        InputError: the manifest cannot be used or holds no background.
        FailureError: a shard is broken, the loss is not finite, or the model collapsed and
            `settings.fail_on_collapse` is set.
    """
    content = read_manifest(manifest)
    columns = kept_columns(manifest, content, feature_columns(content, features))
    name = name or f"{settings.preset}-{features}"
    if Path(name).name != name:
        msg = f"{name!r} cannot be the name of a model: it must be the name of one directory"
        raise InputError(msg)
    directory = Path(output) / "models" / str(content["region"]) / name
    identity = training_hash(content, columns=columns, settings=settings, seed=seed)
    card = _reusable(directory, identity)
    if card is None:
        card = _train(
            manifest,
            content,
            columns,
            settings,
            seed,
            threads,
            progress,
            directory=directory,
            identity=identity,
        )
    else:
        logger.info("model %s of region %s is up to date", name, content["region"])
    if card["collapsed"] and settings.fail_on_collapse:
        msg = (
            f"model {name} of region {content['region']} collapsed: its validation error "
            f"{card['metrics']['val_loss']:.4g} is not better than {card['metrics']['val_mean_predictor_loss']:.4g} "
            "of predicting the mean; choose another preset or lower the penalties"
        )
        raise FailureError(msg)
    return directory


def training_hash(
    manifest: dict[str, Any], *, columns: list[str], settings: TrainingSettings, seed: int
) -> str:
    """Hash of all that decides what is learnt: settings, seed, features and the background's shards."""
    background = {
        name: dataset.get("scale", 1.0)
        for name, dataset in manifest["datasets"].items()
        if dataset["kind"] == "background"
    }
    shards = sorted(
        (entry["path"], entry["checksum"]) for entry in manifest["shards"] if entry["dataset"] in background
    )
    return checksum_of_json(
        {
            "format": BUNDLE_FORMAT,
            "settings": settings.model_dump(mode="json", exclude={"fail_on_collapse"}),
            "seed": seed,
            "features": columns,
            "config_hash": manifest["config_hash"],
            "datasets": background,
            "shards": shards,
        }
    )


def scaled_sample(
    manifest: Path, *, columns: list[str], settings: TrainingSettings, seed: int
) -> tuple[BackgroundSample, Scaler]:
    """The events to train on, scaled, and their scaler, fitted on the training split alone.

    Args:
        manifest: `manifest.json` of the region's shards.
        columns: inputs, in order.
        settings: scaling, weights and memory.
        seed: of the split.

    Raises:
        InputError: there is no background to train on.
        FailureError: a shard is broken.
    """
    sample = open_background(
        manifest, columns=columns, seed=seed, weighting=settings.weighting, memory_mb=settings.memory_mb
    )
    scaler = fit_scaler(
        settings.scaler,
        ((chunk.features, chunk.training_weight) for chunk in sample.chunks("train")),
        columns=columns,
        n_events=sample.rows["train"],
        empty=settings.empty,
    )
    sample.scale(scaler)
    return sample, scaler


def _reusable(directory: Path, identity: str) -> dict[str, Any] | None:
    """The card of a whole bundle with this hash, if there is one."""
    try:
        card = verified_card(directory)
    except (InputError, FailureError):
        return None
    return card if card.get("hash") == identity else None


def _train(
    manifest: Path,
    content: dict[str, Any],
    columns: list[str],
    settings: TrainingSettings,
    seed: int,
    threads: int | None,
    progress: Progress | None,
    *,
    directory: Path,
    identity: str,
) -> dict[str, Any]:
    """Fit scaler and network, calibrate thresholds and write the bundle; its card is returned."""
    backend.start(threads)
    import keras  # noqa: PLC0415 (after the backend's threads are set)

    from models.autoencoder import build  # noqa: PLC0415

    sample, scaler = scaled_sample(manifest, columns=columns, settings=settings, seed=seed)
    keras.utils.set_random_seed(seed % 2**32)
    network = build(settings, len(columns), seed=seed % 2**31)
    run = fit(network, sample, settings, seed=seed, progress=progress)
    identification = {"settings": settings.model_dump(mode="json"), "scores": list(settings.scores)}
    model = AnomalyModel(network, scaler, identification)
    thresholds = {name: _thresholds(tail) for name, tail in _held_out_tails(model, sample).items()}
    trained_on = {
        "datasets": sample.datasets,
        "rows": sample.rows,
        "sumw": sample.sumw,
        "n_train": sample.rows["train"],
        "sumw_train": sample.sumw["train"],
        "config_hash": content["config_hash"],
    }
    model.card |= {
        "format": BUNDLE_FORMAT,
        "name": directory.name,
        "region": content["region"],
        "features": columns,
        "preset": settings.preset,
        "hash": identity,
        "trained_on": trained_on,
        "seeds": {"split": seed, "training": seed},
        "versions": backend.versions(),
        "metrics": run.metrics(),
        "collapsed": run.collapsed,
        "thresholds": thresholds.pop(model.score_names[0]),
        "other_thresholds": thresholds,
    }
    write_bundle(directory, model, settings=settings, history=run.history())
    if run.collapsed:
        logger.warning(
            "model %s collapsed: validation error %.4g, predicting the mean gives %.4g",
            directory.name,
            run.val_loss[run.best],
            run.val_mean_predictor,
        )
    return model.card


@dataclass
class Fit:
    """What happened in training; losses are weighted means of the squared error, without penalties."""

    mean_predictor: float
    val_mean_predictor: float
    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_objective: list[float] = field(default_factory=list)
    events: int = 0
    seconds: float = 0.0
    best: int = 0

    @property
    def collapsed(self) -> bool:
        return self.val_loss[self.best] > (1 - COLLAPSE_MARGIN) * self.val_mean_predictor

    def metrics(self) -> dict[str, Any]:
        return {
            "loss": self.loss[self.best],
            "val_loss": self.val_loss[self.best],
            "mean_predictor_loss": self.mean_predictor,
            "val_mean_predictor_loss": self.val_mean_predictor,
            "best_epoch": self.best + 1,
            "epochs": len(self.loss),
            "seconds": self.seconds,
            "events_per_second": self.events / self.seconds if self.seconds > 0 else 0.0,
        }

    def history(self) -> dict[str, Any]:
        return {
            "loss": self.loss,
            "val_loss": self.val_loss,
            "val_objective": self.val_objective,
            "mean_predictor_loss": self.mean_predictor,
            "val_mean_predictor_loss": self.val_mean_predictor,
            "collapsed": self.collapsed,
        }


def fit(
    network: "keras.Model",
    sample: BackgroundSample,
    settings: TrainingSettings,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Fit:
    """Train until the validation objective stops falling; the network keeps the weights of its best epoch.

    Args:
        network: of `models.autoencoder.build`.
        sample: scaled, see `scaled_sample`.
        settings: weights, optimiser, epochs and patience.
        seed: of the shuffling; every epoch has random numbers of its own.
        progress: see `train`; an exception that it raises ends the fit.

    Raises:
        FailureError: the loss is not finite.
    """
    from models.autoencoder import prepare_training  # noqa: PLC0415 (imports Keras)

    n_train = sample.rows["train"]
    # Equal batches: one compiled shape, and fewer events than batches are left out of an epoch.
    steps = min(max(-(-n_train // settings.batch_size), settings.min_steps), n_train)
    batch_size = n_train // steps
    prepare_training(network, settings, steps=steps * settings.epochs)
    run = Fit(*_mean_predictor(sample))
    weights = network.get_weights()
    for epoch in range(settings.epochs):
        begin = time.perf_counter()
        rng = np.random.default_rng((seed % 2**64, epoch))
        network.reset_metrics()
        logs: dict[str, Any] = {}
        for batch in sample.batches(batch_size, rng):
            logs = network.train_on_batch(
                batch.features, batch.features, sample_weight=batch.training_weight, return_dict=True
            )
            run.events += batch_size
        run.seconds += time.perf_counter() - begin
        validation = _validate(network, sample)
        if not np.isfinite([logs["loss"], *validation.values()]).all():
            msg = f"the loss is not finite after epoch {epoch + 1}: lower learning_rate"
            raise FailureError(msg)
        run.loss.append(float(logs["error"]))
        run.val_loss.append(float(validation["error"]))
        run.val_objective.append(float(validation.get("objective", validation["error"])))
        if progress is not None:
            progress(epoch + 1, settings.epochs, run.loss[-1], run.val_loss[-1])
        if run.val_objective[-1] < run.val_objective[run.best] or epoch == 0:
            run.best, weights = epoch, network.get_weights()
        elif settings.patience is not None and epoch - run.best >= settings.patience:
            break
    network.set_weights(weights)
    return run


def _validate(network: "keras.Model", sample: BackgroundSample) -> dict[str, Any]:
    network.reset_metrics()
    logs: dict[str, Any] = {}
    rows = min(CHUNK_ROWS, sample.rows["validation"])
    for chunk in sample.chunks("validation"):
        for batch in _padded(chunk, rows):
            logs = network.test_on_batch(
                batch.features, batch.features, sample_weight=batch.training_weight, return_dict=True
            )
    return logs


def _padded(chunk: Chunk, rows: int) -> Iterator[Chunk]:
    """Pieces of one compiled shape, filled up with events of weight 0."""
    for start in range(0, len(chunk.weight), rows):
        piece = chunk.take(slice(start, start + rows))
        lacking = rows - len(piece.weight)
        if lacking:
            shape = ((0, lacking), (0, 0))
            piece = Chunk(
                np.pad(piece.features, shape),
                np.pad(piece.training_weight, shape[0]),
                np.pad(piece.weight, shape[0]),
            )
        yield piece


def _mean_predictor(sample: BackgroundSample) -> tuple[float, float]:
    """Error of predicting each input's mean over the training events, for training and validation."""
    moments: dict[str, list[NDArray[np.float64]]] = {}
    for split in ("train", "validation"):
        first, second = np.zeros(len(sample.columns)), np.zeros(len(sample.columns))
        total = 0.0
        for chunk in sample.chunks(split):
            weight = chunk.training_weight.astype(np.float64)
            first += weight @ chunk.features
            second += weight @ chunk.features.astype(np.float64) ** 2
            total += float(weight.sum())
        moments[split] = [first / total, second / total] if total > 0 else [first, second]
    mean = moments["train"][0]
    errors = [float(np.mean(second - 2 * mean * first + mean**2)) for first, second in moments.values()]
    return errors[0], errors[1]


def _held_out_tails(model: AnomalyModel, sample: BackgroundSample) -> dict[ScoreName, UpperTail]:
    """Each score of the background that the weights were not fitted to: validation and test, signed weights."""
    scores: dict[ScoreName, list[NDArray[np.float32]]] = {name: [] for name in model.score_names}
    weights = []
    for split in ("validation", "test"):
        for chunk in sample.chunks(split):
            for name, values in model.scores_scaled(chunk.features).items():
                scores[name].append(values)
            weights.append(chunk.weight)
    weight = np.concatenate(weights)
    return {name: UpperTail.of(np.concatenate(parts), weight) for name, parts in scores.items()}


def _thresholds(tail: UpperTail) -> dict[str, dict[str, float | None]]:
    """Score at each background efficiency; nothing where fewer than ten effective events lie above."""
    thresholds: dict[str, dict[str, float | None]] = {}
    for name, efficiency in EFFICIENCIES.items():
        n_eff = tail.effective_above(efficiency)
        score, error = tail.threshold(efficiency)
        known = n_eff >= MIN_EFFECTIVE
        thresholds[name] = {
            "score": score if known else None,
            "error": error if known else None,
            "n_eff": n_eff,
        }
    return thresholds
