"""What the card of a model says of the events: which it has learnt from, and where its score cuts background."""

from itertools import islice
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.efficiency import EFFICIENCIES, MIN_EFFECTIVE, UpperTail
from models.settings import TrainingSettings
from models.stream import BackgroundSample
from processors.files import fingerprint
from processors.shards import content_of

__all__ = ["thresholds_of", "trained_on"]

# Enough for a background efficiency of 1e-4 to 5 %; more would only take memory.
CALIBRATION_EVENTS: Final = 4_000_000
_SEARCHED: Final = (
    "the model has seen the train and validation splits of the collision data: only their test split was kept for "
    "the search and may be looked at as held out"
)


class _Model(Protocol):
    @property
    def score_names(self) -> tuple[str, ...]: ...

    def scores_scaled(self, scaled: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]: ...


def trained_on(
    manifest: dict[str, Any], sample: BackgroundSample, settings: TrainingSettings
) -> dict[str, Any]:
    """Which events a model has learnt from, and what of them it has not seen.

    Args:
        manifest: content of the shards' manifest.
        sample: what was trained on.
        settings: which kind of events, and their split.
    """
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


def thresholds_of(model: _Model, sample: BackgroundSample) -> dict[str, Any]:
    """`thresholds` of a model's first score and `other_thresholds` by the names of its others.

    They are those of events that nothing was fitted to: of the splits validation and, of simulation, test, with
    signed weights. Of more than `CALIBRATION_EVENTS` evenly spaced chunks are taken, each of which is a random sample
    of all processes.

    Args:
        model: whose scores.
        sample: scaled.

    Returns:
        Of each score, for each of `EFFICIENCIES`: `score`, `error` and `n_eff`; the former two are None where fewer
        than ten effective events lie above.
    """
    scores: dict[str, list[NDArray[np.float32]]] = {name: [] for name in model.score_names}
    weights = []
    step = -(-(sample.rows["validation"] + sample.rows["test"]) // CALIBRATION_EVENTS)
    for split in ("validation", "test"):
        for chunk in islice(sample.chunks(split), None, None, step):
            for name, values in model.scores_scaled(chunk.features).items():
                scores[name].append(values)
            weights.append(chunk.weight)
    weight = np.concatenate(weights)
    others = {
        name: _thresholds(UpperTail.of(np.concatenate(parts), weight)) for name, parts in scores.items()
    }
    return {"thresholds": others.pop(model.score_names[0]), "other_thresholds": others}


def _thresholds(tail: UpperTail) -> dict[str, dict[str, float | None]]:
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
