"""Training: background shards in, a model bundle out."""

import logging
import shutil
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

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
from models.calibration import thresholds_of, trained_on
from models.checkpoints import Checkpoint
from models.fitting import FIT_RULE, Fit, Progress, fit, no_better_than_mean
from models.presets import FeatureSet
from models.scaling import SCALER_RULE, Scaler, fit_scaler
from models.settings import TrainingSettings
from models.stream import BackgroundSample, feature_columns, kept_columns, open_background
from processors.files import write_json
from processors.own_functions import digest_of
from processors.shards import content_of, read_manifest

if TYPE_CHECKING:
    import keras

__all__ = ["Fit", "Progress", "fit", "reusable", "scaled_sample", "train", "training_hash"]

logger = logging.getLogger(__name__)

# Settings that change where and how training runs, or what follows from it, and no number of the model.
_WITHOUT_EFFECT = {"fail_on_collapse", "memory_mb", "scratch"}


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
    """Train an autoencoder, or several, on the background of one region and write its bundle.

    With `settings.members` above one, so many networks are trained one after the other on the same events, each from a
    seed of its own, and the bundle is an ensemble: its score is the mean of theirs.

    A bundle that carries the same hash of settings, seed, features, shards and backend is returned as it is. Training
    that was killed goes on after its last whole epoch and ends with the same weights.

    Args:
        manifest: `manifest.json` of the region's shards.
        features: which feature set of the manifest; of it, what the stage compare kept.
        settings: network, scaling, weights and optimiser.
        seed: of the split, of fresh weights and of the shuffling; for the latter two, further members have the
            seeds that follow it.
        output: directory of the analysis; the bundle goes to models/<region>/<name> in it.
        name: of the model; by default <preset>-<features>.
        threads: of TensorFlow; by default all cores.
        origin: where the settings come from, such as the hash of a search; recorded in the card.
        progress: called after each epoch with its number (from 1), their number at most, loss and
            validation loss; the epochs of members are counted one after the other.

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
    card = reusable(directory, identity)
    if card is None:
        _spare_another_origin(directory, origin)
        if (directory / "card.json").is_file():
            logger.info(
                "model %s of region %s was trained with other settings, events or rules: it is trained again",
                name,
                content["region"],
            )
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
    if settings.fail_on_collapse:
        _refuse_collapsed(card)
    return directory


def training_hash(
    manifest: dict[str, Any], *, columns: list[str], settings: TrainingSettings, seed: int
) -> str:
    """Hash of all that decides what is learnt: settings, seed, features, the shards that are trained on, the backend.

    Nothing else of the manifest counts: with another signal the model stays what it is.
    """
    decisive = settings.model_dump(mode="json", exclude=_WITHOUT_EFFECT | {"builder"})
    if settings.builder is not None:
        decisive["builder"] = [settings.builder, digest_of(settings.builder)]
    return checksum_of_json(
        {
            "format": BUNDLE_FORMAT,
            "scaler_rule": SCALER_RULE,
            "fit_rule": FIT_RULE,
            "backend": backend.asked(),  # whose random numbers are its own
            "settings": decisive,
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


def reusable(directory: Path, identity: str) -> dict[str, Any] | None:
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
    from models.ensemble import Networks, save_networks, scores_of  # noqa: PLC0415 (imports Keras)

    # What a killed process left here may be gigabytes.
    scratch = (settings.scratch or directory.parent) / f".{directory.name}.{content['region']}.events"
    shutil.rmtree(scratch, ignore_errors=True)
    checkpoints = _checkpoints(directory, identity["hash"], settings.members)
    try:
        sample, scaler = scaled_sample(
            manifest, columns=columns, settings=settings, seed=seed, scratch=scratch
        )
        with closing(sample):
            networks, runs = [], []
            for number, checkpoint in enumerate(checkpoints):
                counted = _counted(progress, number, settings) if progress is not None else None
                network, run = _fitted(sample, settings, seed + number, checkpoint, counted)
                networks.append(network)
                runs.append(run)
            card = {"settings": settings.model_dump(mode="json"), "scores": scores_of(settings)}
            model = AnomalyModel(Networks(tuple(networks), settings.scores, settings.beta), scaler, card)
            thresholds = thresholds_of(model, sample)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    model.card |= {
        "format": BUNDLE_FORMAT,
        "kind": "network" if len(runs) == 1 else "ensemble",
        "role": "model",
        "name": directory.name,
        "region": content["region"],
        "features": columns,
        "preset": settings.preset,
        **identity,
        "trained_on": trained_on(content, sample, settings),
        "seeds": {"split": seed, "training": seed},
        "versions": backend.versions(),
        **_outcome(runs, seed),
        **thresholds,
    }

    def write(to: Path) -> None:
        save_networks(networks, to, settings, len(columns))
        write_json(to / "history.json", _history(runs))

    write_bundle(directory, model, write)
    for checkpoint in checkpoints:
        checkpoint.remove()
    for what, metrics in _collapsed(model.card).items():
        logger.warning(
            "%s collapsed: validation error %.4g, predicting the mean gives %.4g",
            what,
            metrics["val_loss"],
            metrics["val_mean_predictor_loss"],
        )
    return model.card


def _checkpoints(directory: Path, identity: str, members: int) -> list[Checkpoint]:
    """Where the state of each member is kept: that of a member that is done too, until the bundle is written."""
    numbers = [""] if members == 1 else [str(number) for number in range(1, members + 1)]
    return [
        Checkpoint(
            directory.with_name(f".{directory.name}.checkpoint{number}.npz"),
            checksum_of_json([identity, backend.versions(), *number]),
        )
        for number in numbers
    ]


def _fitted(
    sample: BackgroundSample,
    settings: TrainingSettings,
    seed: int,
    checkpoint: Checkpoint,
    progress: Progress | None,
) -> tuple["keras.Model", Fit]:
    """One network, and what happened in its training."""
    import keras  # noqa: PLC0415 (after the backend was started)

    from models.autoencoder import build  # noqa: PLC0415

    keras.utils.set_random_seed(seed % 2**32)
    network = build(settings, len(sample.columns), seed=seed % 2**31)
    return network, fit(network, sample, settings, seed=seed, progress=progress, checkpoint=checkpoint)


def _counted(progress: Progress, number: int, settings: TrainingSettings) -> Progress:
    """Progress of one member, whose epochs follow those of the members before it."""

    def counted(epoch: int, epochs: int, loss: float, val_loss: float) -> None:
        progress(number * epochs + epoch, settings.members * epochs, loss, val_loss)

    return counted


def _outcome(runs: list[Fit], seed: int) -> dict[str, Any]:
    """What the card says of the training; of an ensemble the means over its members, and each of them."""
    of_each = [run.metrics() for run in runs]
    if len(runs) == 1:
        return {"metrics": of_each[0], "collapsed": runs[0].collapsed}
    metrics = {name: fmean(entry[name] for entry in of_each) for name in of_each[0] if name.endswith("loss")}
    metrics |= {name: sum(entry[name] for entry in of_each) for name in ("epochs", "seconds")}
    metrics["still_falling"] = any(entry["still_falling"] for entry in of_each)
    return {
        "members": [
            {"seed": seed + number, "metrics": run.metrics(), "collapsed": run.collapsed}
            for number, run in enumerate(runs)
        ],
        "metrics": metrics,
        "collapsed": no_better_than_mean(metrics["val_loss"], metrics["val_mean_predictor_loss"]),
    }


def _history(runs: list[Fit]) -> dict[str, Any]:
    """Losses of every epoch: of the first network, and beside it those of all members of an ensemble."""
    histories = [run.history() for run in runs]
    return histories[0] | ({"members": histories} if len(runs) > 1 else {})


def _collapsed(card: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures of what is no better than predicting the mean: the model, or members of it."""
    name = f"model {card['name']} of region {card['region']}"
    parts = {name: card} | {
        f"member {number} of {name}": member for number, member in enumerate(card.get("members", ()), start=1)
    }
    return {name: part["metrics"] for name, part in parts.items() if part["collapsed"]}


def _refuse_collapsed(card: dict[str, Any]) -> None:
    """Raises a FailureError if the model, or a member of it, has collapsed."""
    for what, metrics in _collapsed(card).items():
        falling = metrics.get("still_falling")
        msg = (
            f"{what} collapsed{' or was not trained long enough' if falling else ''}: its validation error "
            f"{metrics['val_loss']:.4g} is not better than {metrics['val_mean_predictor_loss']:.4g} of predicting the "
            f"mean; {'train for more epochs, ' if falling else ''}choose another preset or lower the penalties"
        )
        raise FailureError(msg)
