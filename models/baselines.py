"""Scores without a network, fitted to the same events: what a model that takes training time must be better than.

Each is a bundle as a model is, and is scored by the same stage. They are fitted to the training split of background
simulation with the weights of training, so that every one knows as much of the events as a network does.
"""

import logging
import platform
import shutil
from collections.abc import Callable
from contextlib import closing
from functools import partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.bundle import BUNDLE_FORMAT, AnomalyModel, checksum_of_json, write_bundle
from models.calibration import thresholds_of, trained_on
from models.cores import Core, Mahalanobis, PrincipalComponents, UpperTails, save_core
from models.forest import fit_forest
from models.presets import FeatureSet
from models.scaling import SCALER_RULE, Scaler
from models.settings import BaselineName, BaselineSettings, ScalerKind, TrainingSettings
from models.stream import BackgroundSample, feature_columns, kept_columns
from models.training import reusable, scaled_sample
from processors.shards import content_of, read_manifest

__all__ = ["fit_baselines"]

logger = logging.getLogger(__name__)

Floats: TypeAlias = NDArray[np.float64]
Fitted: TypeAlias = tuple[Core, dict[str, Any]]

# Beside its fractions, the settings of training that say which events are learnt from, and with which weights.
_EVENTS: Final = {"weighting", "train_on", "max_train_events", "max_validation_events"}
BASELINE_RULE: Final = 1  # raised when the same events and settings would give other numbers
VARIABLES: Final = "variables"  # the manifest's single variables, as a set of inputs


class _Method(NamedTuple):
    """How one baseline is fitted."""

    scaler: ScalerKind
    empty: Literal["scaled", "kept"]
    fit: Callable[[BackgroundSample, BaselineSettings, int], Fitted]
    settings: tuple[str, ...]  # those that its numbers depend on
    features: Literal["variables"] | None = None  # where it does not take those that are asked for


class _Job(NamedTuple):
    """A baseline that is to be fitted."""

    name: BaselineName
    columns: list[str]
    directory: Path
    identity: str


def fit_baselines(
    manifest: Path,
    *,
    features: FeatureSet | Literal["variables"],
    settings: BaselineSettings,
    seed: int,
    output: Path,
    training: TrainingSettings | None = None,
) -> list[Path]:
    """Fit all baselines of one region and write their bundles; those that are up to date are left as they are.

    Args:
        manifest: `manifest.json` of the region's shards.
        features: which feature set they take, of it what the stage compare kept, or the manifest's variables; the
            largest upper-tail value is always that of the variables.
        settings: which baselines, and what they are fitted with.
        seed: of the split and of the forest.
        output: directory of the analysis; the bundles go to models/<region>/baseline-<name>-<features> in it.
        training: of the model that they stand beside: which events it learns from, with which weights.

    Returns:
        The bundles' directories, in the order of the settings.

    Raises:
        InputError: the manifest cannot be used or holds nothing to train on.
        FailureError: a shard is broken, or the disk has no room for what does not fit into memory.
    """
    content = read_manifest(manifest)
    training = training or TrainingSettings()
    jobs = [
        _job(name, Path(manifest), content, features, settings, training, seed, Path(output))
        for name in settings.names
    ]
    waiting = [job for job in jobs if reusable(job.directory, job.identity) is None]
    for job in jobs:
        if job not in waiting:
            logger.debug("%s of region %s is up to date", job.directory.name, content["region"])

    def inputs(job: _Job) -> tuple[ScalerKind, str, list[str]]:
        return _METHODS[job.name].scaler, _METHODS[job.name].empty, job.columns

    for (scaler, empty, columns), group in groupby(sorted(waiting, key=inputs), key=inputs):
        own = training.model_copy(update={"scaler": scaler, "empty": empty})
        scratch = Path(output) / "models" / content["region"] / f".baselines.{content['region']}.events"
        try:
            sample, fitted = scaled_sample(
                manifest, columns=columns, settings=own, seed=seed, scratch=scratch
            )
            with closing(sample):
                for job in group:
                    _write(job, sample, fitted, content, settings, own, seed)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return [job.directory for job in jobs]


def _job(
    name: BaselineName,
    manifest: Path,
    content: dict[str, Any],
    features: str,
    settings: BaselineSettings,
    training: TrainingSettings,
    seed: int,
    output: Path,
) -> _Job:
    method = _METHODS[name]
    features = method.features or features
    if (
        features == VARIABLES
    ):  # not among what the stage compare looks at: single variables are told in any case
        columns = list(content["variables"])
    else:
        columns = kept_columns(manifest, content, feature_columns(content, features))
    identity = checksum_of_json(
        {
            "format": BUNDLE_FORMAT,
            "rules": [BASELINE_RULE, SCALER_RULE],
            "method": name,
            "settings": settings.model_dump(mode="json", include=set(method.settings)),
            "scaler": [method.scaler, method.empty],
            "fractions": training.fractions,
            "training": training.model_dump(mode="json", include=_EVENTS),
            "seed": seed,
            "features": columns,
            "shards": content_of(content, training.trained_kind),
        }
    )
    directory = output / "models" / str(content["region"]) / f"baseline-{name}-{features}"
    return _Job(name, columns, directory, identity)


def _write(
    job: _Job,
    sample: BackgroundSample,
    scaler: Scaler,
    content: dict[str, Any],
    settings: BaselineSettings,
    training: TrainingSettings,
    seed: int,
) -> None:
    """Fit one baseline, find its thresholds and write its bundle."""
    method = _METHODS[job.name]
    core, metrics = method.fit(sample, settings, seed)
    model = AnomalyModel(core, scaler, {"scores": [job.name]})
    model.card |= {
        "format": BUNDLE_FORMAT,
        "kind": "baseline",
        "role": "baseline",
        "method": job.name,
        "name": job.directory.name,
        "region": content["region"],
        "features": job.columns,
        "hash": job.identity,
        "settings": settings.model_dump(mode="json", include=set(method.settings)),
        "trained_on": trained_on(content, sample, training),
        "seeds": {"split": seed, "training": seed},
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("numpy", "scikit-learn", "numba")},
        "metrics": metrics,
        "collapsed": False,
        **thresholds_of(model, sample),
    }
    write_bundle(job.directory, model, partial(save_core, core))


def _moments(sample: BackgroundSample) -> tuple[Floats, Floats]:
    """Weighted mean, shape (k,), and covariance, shape (k, k), of the training split."""
    k = len(sample.columns)
    total, first, second = 0.0, np.zeros(k), np.zeros((k, k))
    for chunk in sample.chunks("train"):
        weight, inputs = chunk.training_weight.astype(np.float64), chunk.features.astype(np.float64)
        total += float(weight.sum())
        first += weight @ inputs
        second += (inputs * weight[:, np.newaxis]).T @ inputs
    mean = first / total
    return mean, second / total - np.outer(mean, mean)


def _fit_components(sample: BackgroundSample, settings: BaselineSettings, _: int) -> Fitted:
    """As many components as scikit-learn's PCA takes to explain more than a part of the variance."""
    mean, covariance = _moments(sample)
    variance, directions = np.linalg.eigh(covariance)
    explained = np.cumsum(np.maximum(variance[::-1], 0))
    number = int(np.searchsorted(explained, settings.variance * explained[-1], side="right")) + 1
    number = min(number, len(mean))
    core = PrincipalComponents(mean, np.ascontiguousarray(directions[:, ::-1][:, :number].T))
    part = float(explained[number - 1] / explained[-1]) if explained[-1] > 0 else 1.0
    return core, {"components": number, "explained_variance": part}


def _fit_distance(sample: BackgroundSample, settings: BaselineSettings, _: int) -> Fitted:
    mean, covariance = _moments(sample)
    variance, directions = np.linalg.eigh(covariance)
    kept = variance > settings.cutoff * max(float(variance[-1]), np.finfo(np.float64).tiny)
    whitening = (directions[:, kept] / np.sqrt(variance[kept])) @ directions[:, kept].T
    return Mahalanobis(mean, whitening), {"rank": int(kept.sum())}


def _fit_forest(sample: BackgroundSample, settings: BaselineSettings, seed: int) -> Fitted:
    """From the first training events: their order is that of a hash, and they a random subsample."""
    inputs, weights, taken = [], [], 0
    for chunk in sample.chunks("train"):
        counted = chunk.take(np.flatnonzero(chunk.training_weight > 0)[: settings.max_events - taken])
        inputs.append(counted.features)
        weights.append(counted.training_weight)
        taken += len(counted.weight)
        if taken == settings.max_events:
            break
    core = fit_forest(
        np.concatenate(inputs),
        np.concatenate(weights),
        trees=settings.trees,
        events_per_tree=settings.events_per_tree,
        seed=seed,
    )
    return core, {"events": taken, "nodes": len(core.left)}


def _fit_tails(terms: int | None, sample: BackgroundSample, settings: BaselineSettings, _: int) -> Fitted:
    """Nothing is left to fit once the inputs are scaled to upper tails."""
    counted = min(settings.terms if terms is None else terms, len(sample.columns))
    return UpperTails(np.array(counted), np.array(len(sample.columns))), {"terms": counted}


_FOREST: Final = ("trees", "events_per_tree", "max_events")
_METHODS: Final[dict[BaselineName, _Method]] = {
    "pca": _Method("standard", "scaled", _fit_components, ("variance",)),
    "mahalanobis": _Method("standard", "scaled", _fit_distance, ("cutoff",)),
    "isolation-forest": _Method("standard", "scaled", _fit_forest, _FOREST),
    # A tail is conditional on what is there: an absent object adds nothing.
    "largest-tail": _Method("upper-tail", "kept", partial(_fit_tails, 1), (), VARIABLES),
    "tail-sum": _Method("upper-tail", "kept", partial(_fit_tails, None), ("terms",)),
}
