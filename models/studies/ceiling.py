"""The supervised ceiling: boosted trees that saw the signal, which tell how far a score that did not could come at all.

Trees (scikit-learn's HistGradientBoostingClassifier, Ke et al., LightGBM, NIPS 2017) learn the model's inputs:
background of the training and validation split against half of one signal, drawn by a hash of the events' identity,
with physical weights and both classes of the same sum. They are measured on the held-out background and the other
half.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fileset.exceptions import FailureError, InputError
from models.efficiency import MIN_EFFECTIVE, effective_events
from models.settings import EvaluationSettings
from models.studies.bootstrap import Binning, ReplicaBackground, Replicas
from models.studies.power import GRID, Background, Power, entry_of, heaviest_of
from models.studies.scored import ScoredEvents
from processors.shards import check_whole, read_manifest
from processors.split import SPLITS, identity_hash

__all__ = ["ceilings"]

logger = logging.getLogger(__name__)

_IDENTITY: Final = ("channelNumber", "runNumber", "eventNumber")
_SALTS: Final = {"half": 0xCE111, "draw": 0xCE112}  # neither draw may follow the split or the other
_TREES: Final[dict[str, Any]] = {
    "max_iter": 200,
    "learning_rate": 0.05,
    "max_leaf_nodes": 15,
    "l2_regularization": 1.0,
    "early_stopping": False,
}


@dataclass(frozen=True)
class _Inputs:
    """Some events with the inputs of the model; n of them."""

    features: NDArray[np.float32]  # (n, k)
    weight: NDArray[np.float64]  # physical and signed
    split: NDArray[np.uint8]
    identity: tuple[NDArray[Any], ...]

    def hash(self, purpose: str, seed: int) -> NDArray[np.uint64]:
        """Uniform over 64 bits, for one purpose."""
        channel, run, event = self.identity
        return identity_hash(channel, run, event, seed=seed ^ _SALTS[purpose])


def ceilings(
    scores: Path,
    shards: Path | None,
    features: Sequence[str],
    background: Mapping[str, ScoredEvents],
    signals: Mapping[str, ScoredEvents],
    replicas: tuple[Replicas, Replicas],
    *,
    settings: EvaluationSettings,
) -> dict[str, dict[str, Any]]:
    """What trees that saw a signal reach for it.

    Args:
        scores: manifest of the model's scores, which say what each event was used for.
        shards: manifest of the region's shards, which hold the model's inputs.
        features: the inputs.
        background: held-out events of each dataset, as they were read.
        signals: all events of each signal.
        replicas: of the background, and of the signals.
        settings: how many background events at most, and the seed.

    Returns:
        An entry as of a score for each signal, with `saw_this_signal` and what was trained on.

    Raises:
        InputError: there are no shards, or no inputs are named.
        FailureError: a shard is not that of the scores.
    """
    if shards is None or not features:
        msg = "the supervised ceiling needs the region's shards and the model's inputs: run select and train first"
        raise InputError(msg)
    manifests = (read_manifest(Path(scores), stage="score"), read_manifest(Path(shards)))
    folders = (Path(scores).parent, Path(shards).parent)
    known = {name: _read(folders, manifests, name, features) for name in background}
    held_out = {name: _held_out(known[name], part) for name, part in background.items()}
    test = np.concatenate([known[name].features[which] for name, which in held_out.items()])
    train, weight = _training_background(known, held_out, settings)
    joined = ScoredEvents.join(list(background.values()))
    weights, heaviest = joined.weight, heaviest_of(joined)
    results = {}
    for place, (name, events) in enumerate(signals.items()):
        inputs = _read(folders, manifests, name, features)
        seen = inputs.hash("half", settings.seed) >> np.uint64(63) == 0
        if min(effective_events(inputs.weight[half]) for half in (seen, ~seen)) < MIN_EFFECTIVE:
            logger.info("signal %s has too few events to train and to test a ceiling on", name)
            continue
        score = _trained(train, weight, inputs, seen, settings.seed)
        of_signal, of_background = score(inputs.features[~seen]), score(test)
        known_replicas, unknown = replicas
        binning = Binning.of(of_background, weights)
        sums = known_replicas.histograms(binning(of_background), binning.size).sum(axis=0)
        mine = unknown.take(unknown.dataset == place).take(~seen)
        own = mine.histograms(binning(of_signal), binning.size)[place]
        reference = Background(of_background, weights, heaviest)
        power = reference.measure(of_signal, events.weight[~seen])
        spread = Power(*ReplicaBackground(sums, GRID).measure(own))
        results[name] = entry_of(power, spread, reference, effective_events(events.weight[~seen])) | {
            "role": "ceiling",
            "saw_this_signal": True,
            "n": int((~seen).sum()),
            "trained_on": {"background": len(train), "signal": int(seen.sum())},
        }
    return results


def _training_background(
    known: Mapping[str, _Inputs], held_out: Mapping[str, NDArray[np.bool_]], settings: EvaluationSettings
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Inputs and weights of the background that is trained on.

    A negative weight w counts |w| times Σw/Σ|w| of its dataset, as in the training of models.
    """
    features, weights, draws = [], [], []
    for name, inputs in known.items():
        free = ~held_out[name] & (inputs.split != SPLITS.index("test"))
        size = float(np.abs(inputs.weight[free]).sum())
        ratio = max(float(inputs.weight[free].sum()), 0.0) / size if size > 0 else 0.0
        features.append(inputs.features[free])
        weights.append(np.abs(inputs.weight[free]) * ratio)
        draws.append(inputs.hash("draw", settings.seed)[free])
    draw = np.concatenate(draws)
    kept = np.sort(np.argsort(draw, kind="stable")[: settings.ceiling_events])
    train, weight = np.concatenate(features)[kept], np.concatenate(weights)[kept]
    if not weight.sum() > 0:
        msg = "all background is held out: there is none to train the supervised ceiling on; give a larger fileset"
        raise InputError(msg)
    return train, weight


def _trained(
    background: NDArray[np.float32],
    weight: NDArray[np.float64],
    signal: _Inputs,
    seen: NDArray[np.bool_],
    seed: int,
) -> Any:
    """Trains trees; returns the function from inputs to their score."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - a second that --help need not spend

    own = np.abs(signal.weight[seen])
    inputs = np.concatenate([background, signal.features[seen]])
    # Both classes weigh half of the events, so that the trees' regularisation means the same for any luminosity.
    balanced = np.concatenate([weight / weight.sum(), own / own.sum()]) * (len(inputs) / 2)
    trees = HistGradientBoostingClassifier(**_TREES, random_state=seed)
    trees.fit(inputs, np.repeat([0, 1], [len(background), len(own)]), sample_weight=balanced)

    def score(features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(trees.decision_function(features), dtype=np.float64)

    return score


def _held_out(inputs: _Inputs, events: ScoredEvents) -> NDArray[np.bool_]:
    """Which events of a background dataset were read as held-out: those of the test split, or for want of them all."""
    test = inputs.split == SPLITS.index("test")
    return test if test.sum() == len(events.weight) else np.ones(len(test), dtype=bool)


def _read(
    folders: tuple[Path, Path],
    manifests: tuple[Mapping[str, Any], Mapping[str, Any]],
    dataset: str,
    features: Sequence[str],
) -> _Inputs:
    """Inputs of all events of a dataset, in the order of its scores."""
    listed = {shard["path"]: shard for shard in manifests[1]["shards"]}
    parts: list[list[NDArray[Any]]] = [[] for _ in range(len(_IDENTITY) + 3)]
    for entry in manifests[0]["shards"]:
        if entry["dataset"] != dataset:
            continue
        if entry["path"] not in listed:
            msg = f"scores {entry['path']} are of no shard in {folders[1]}: run the stage score again"
            raise FailureError(msg)
        scored = pq.read_table(folders[0] / entry["path"], columns=[*_IDENTITY, "weight", "split"])
        shard = _shard(folders[1] / entry["path"], listed[entry["path"]], features)
        if any(not scored[name].equals(shard[name]) for name in _IDENTITY):
            msg = f"shard {folders[1] / entry['path']} and its scores have other events: run the stage score again"
            raise FailureError(msg)
        columns = [scored[name].to_numpy() for name in (*_IDENTITY, "weight", "split")]
        rows = np.empty((scored.num_rows, len(features)), np.float32)
        for place, name in enumerate(features):
            rows[:, place] = shard[name].to_numpy()
        for part, column in zip(parts, [*columns, rows], strict=True):
            part.append(column)
    if not parts[0]:
        none = np.zeros(0, np.int64)
        return _Inputs(
            np.zeros((0, len(features)), np.float32), np.zeros(0), np.zeros(0, np.uint8), (none, none, none)
        )
    *identity, weight, split, inputs = (np.concatenate(part) for part in parts)
    return _Inputs(inputs, weight, split, tuple(identity))


def _shard(path: Path, entry: Mapping[str, Any], features: Sequence[str]) -> pa.Table:
    try:
        if "checksum" in entry:
            check_whole(path, entry["checksum"])
        return pq.read_table(path, columns=list(dict.fromkeys([*_IDENTITY, *features])))
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        msg = f"cannot read shard {path} ({error}): run the stage select again"
        raise FailureError(msg) from error
