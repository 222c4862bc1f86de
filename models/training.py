"""Training: background shards in, a model bundle out."""

import logging
import shutil
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import FailureError, InputError
from models import backend
from models.bundle import (
    BUNDLE_FORMAT,
    AnomalyModel,
    checksum_of_json,
    read_card,
    verified_card,
    write_bundle,
)
from models.checkpoints import Checkpoint
from models.efficiency import EFFICIENCIES, MIN_EFFECTIVE, UpperTail
from models.fitting import Fit, Progress, fit
from models.presets import FeatureSet
from models.scaling import SCALER_RULE, Scaler, fit_scaler
from models.settings import ScoreName, TrainingSettings
from models.stream import BackgroundSample, feature_columns, kept_columns, open_background
from processors.files import fingerprint
from processors.shards import content_of, read_manifest

__all__ = ["Fit", "Progress", "fit", "scaled_sample", "train", "training_hash"]

logger = logging.getLogger(__name__)

# Settings that change where and how training runs, or what follows from it, and no number of the model.
_WITHOUT_EFFECT = {"fail_on_collapse", "memory_mb", "scratch"}
# Enough for a background efficiency of 1e-4 to 5 %; more would only take memory.
CALIBRATION_EVENTS = 4_000_000
_SEARCHED = (
    "the model has seen the train and validation splits of the collision data: only their test split was kept for "
    "the search and may be looked at as held out"
)


def train(
    manifest: Path,
    *,
    features: FeatureSet,
    settings: TrainingSettings,
    seed: int,
    output: Path,
    name: str | None = None,
    threads: int | None = None,
    origin: dict[str, str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train an autoencoder on the background of one region and write its bundle.

    A bundle that carries the same hash of settings, seed, features, shards and backend is returned as it is. Training
    that was killed goes on after its last whole epoch and ends with the same weights.

    Args:
        manifest: `manifest.json` of the region's shards.
        features: which feature set of the manifest; of it, what the stage compare kept.
        settings: network, scaling, weights and optimiser.
        seed: of the split, of fresh weights and of the shuffling.
        output: directory of the analysis; the bundle goes to models/<region>/<name> in it.
        name: of the model; by default <preset>-<features>.
        threads: of TensorFlow; by default all cores.
        origin: where the settings come from, such as the hash of a search; recorded in the card.
        progress: called after each epoch with its number (from 1), their number at most, loss and
            validation loss.

    Returns:
        The bundle's directory.

    Raises:
        InputError: the manifest cannot be used or holds nothing to train on.
        FailureError: a shard is broken, the loss is not finite, the disk has no room for what does not fit into
            memory, or the model collapsed and `settings.fail_on_collapse` is set.
    """
    content = read_manifest(manifest)
    columns = kept_columns(manifest, content, feature_columns(content, features))
    name = name or f"{settings.preset}-{features}"
    if Path(name).name != name:
        msg = f"{name!r} cannot be the name of a model: it must be the name of one directory"
        raise InputError(msg)
    directory = Path(output) / "models" / str(content["region"]) / name
    identity = training_hash(content, columns=columns, settings=settings, seed=seed)
    if origin:
        identity = checksum_of_json([identity, origin])
    card = _reusable(directory, identity)
    if card is None:
        _spare_another_origin(directory, origin)
        card = _train(
            manifest,
            content,
            columns,
            settings,
            seed,
            threads,
            progress,
            directory=directory,
            identity={"hash": identity} | ({"origin": origin} if origin else {}),
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
    """Hash of all that decides what is learnt: settings, seed, features, the shards that are trained on, the backend.

    Nothing else of the manifest counts: with another signal the model stays what it is.
    """
    return checksum_of_json(
        {
            "format": BUNDLE_FORMAT,
            "scaler_rule": SCALER_RULE,
            "backend": backend.asked(),  # whose random numbers are its own
            "settings": settings.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
            "seed": seed,
            "features": columns,
            "shards": content_of(manifest, settings.trained_kind),
        }
    )


def scaled_sample(
    manifest: Path,
    *,
    columns: list[str],
    settings: TrainingSettings,
    seed: int,
    scratch: Path | None = None,
) -> tuple[BackgroundSample, Scaler]:
    """The events to train on, scaled, and their scaler, fitted on the training split alone.

    Args:
        manifest: `manifest.json` of the region's shards.
        columns: inputs, in order.
        settings: scaling, weights, memory, and which events.
        seed: of the split.
        scratch: directory for what does not fit into memory; by default the setting, or the system's.

    Returns:
        The sample, to be closed by who is done with it, and the scaler.

    Raises:
        InputError: there is nothing to train on.
        FailureError: a shard is broken, or the disk has no room for what does not fit into memory.
    """
    sample = open_background(
        manifest,
        columns=columns,
        seed=seed,
        weighting=settings.weighting,
        memory_mb=settings.memory_mb,
        kind=settings.trained_kind,
        fractions=settings.fractions,
        max_train_events=settings.max_train_events,
        max_validation_events=settings.max_validation_events,
        scratch=scratch or settings.scratch,
    )
    scaler = fit_scaler(
        settings.scaler,
        ((chunk.features, chunk.training_weight) for chunk in sample.chunks("train")),
        columns=columns,
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


def _spare_another_origin(directory: Path, origin: dict[str, str] | None) -> None:
    """Looks that the winner of a search is not written over by a training of its name.

    Raises:
        InputError: it would be.
    """
    try:
        found = read_card(directory).get("origin", {})
    except (InputError, FailureError):
        return
    if found and not origin:
        msg = f"{directory} is the winner of a search: score and evaluate it as it is, or train under another name"
        raise InputError(msg)


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
    identity: dict[str, Any],
) -> dict[str, Any]:
    """Fit scaler and network, calibrate thresholds and write the bundle; its card is returned."""
    backend.start(threads)
    import keras  # noqa: PLC0415 (after the backend's threads are set)

    from models.autoencoder import build  # noqa: PLC0415

    # What a killed process left here may be gigabytes.
    scratch = (settings.scratch or directory.parent) / f".{directory.name}.{content['region']}.events"
    shutil.rmtree(scratch, ignore_errors=True)
    checkpoint = Checkpoint(
        directory.with_name(f".{directory.name}.checkpoint.npz"),
        checksum_of_json([identity["hash"], backend.versions()]),
    )
    try:
        sample, scaler = scaled_sample(
            manifest, columns=columns, settings=settings, seed=seed, scratch=scratch
        )
        with closing(sample):
            keras.utils.set_random_seed(seed % 2**32)
            network = build(settings, len(columns), seed=seed % 2**31)
            run = fit(network, sample, settings, seed=seed, progress=progress, checkpoint=checkpoint)
            identification = {"settings": settings.model_dump(mode="json"), "scores": list(settings.scores)}
            model = AnomalyModel(network, scaler, identification)
            thresholds = {name: _thresholds(tail) for name, tail in _held_out_tails(model, sample).items()}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    model.card |= {
        "format": BUNDLE_FORMAT,
        "name": directory.name,
        "region": content["region"],
        "features": columns,
        "preset": settings.preset,
        **identity,
        "trained_on": _trained_on(content, sample, settings),
        "seeds": {"split": seed, "training": seed},
        "versions": backend.versions(),
        "metrics": run.metrics(),
        "collapsed": run.collapsed,
        "thresholds": thresholds.pop(model.score_names[0]),
        "other_thresholds": thresholds,
    }
    write_bundle(directory, model, settings=settings, history=run.history())
    checkpoint.remove()
    if run.collapsed:
        logger.warning(
            "model %s collapsed: validation error %.4g, predicting the mean gives %.4g",
            directory.name,
            run.val_loss[run.best],
            run.val_mean_predictor,
        )
    return model.card


def _trained_on(
    manifest: dict[str, Any], sample: BackgroundSample, settings: TrainingSettings
) -> dict[str, Any]:
    """What the card says of the events: which they were, and what of them the model has not seen."""
    kind = settings.trained_kind
    return {
        "kind": kind,
        "fractions": list(settings.fractions),
        "datasets": sample.datasets,
        "rows": sample.rows,
        "sumw": sample.sumw,
        "n_train": sample.rows["train"],
        "sumw_train": sample.sumw["train"],
        "shards": fingerprint(content_of(manifest, kind)),
        "config_hash": manifest["config_hash"],
        "recipe": manifest.get("recipe", {}),
    } | ({"blinding": _SEARCHED} if kind == "data" else {})


def _held_out_tails(model: AnomalyModel, sample: BackgroundSample) -> dict[ScoreName, UpperTail]:
    """Each score of events that the weights were not fitted to, with signed weights.

    They are those of the splits validation and, of simulation, test. Of more than `CALIBRATION_EVENTS` evenly spaced
    chunks are taken, each of which is a random sample of all processes.
    """
    scores: dict[ScoreName, list[NDArray[np.float32]]] = {name: [] for name in model.score_names}
    weights = []
    step = -(-(sample.rows["validation"] + sample.rows["test"]) // CALIBRATION_EVENTS)
    for split in ("validation", "test"):
        for chunk in islice(sample.chunks(split), None, None, step):
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
