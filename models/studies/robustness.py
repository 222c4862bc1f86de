"""The thesis' tests of robustness: what a trained model notices, and how it depends on what it has learnt.

Held-out background is changed and scored again, beside what it was: momenta multiplied, columns and objects
exchanged, noise added. What needs new trainings is in `models.studies.retraining`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import FailureError, InputError
from models.presets import FeatureSet
from models.settings import RobustnessSettings, TrainingSettings
from models.studies.contrasts import Scored, changed
from models.studies.hardening import STRENGTHS, harder
from models.studies.held_out import FeatureSample, Origin, read_features
from models.studies.perturbations import (
    Balance,
    Features,
    columns_of_objects,
    exchanged,
    scaled_leading_lepton,
    with_noise,
    with_objects_of_others,
)
from models.studies.retraining import Retraining, retrained
from models.studies.source_events import Change, event_changes
from processors.settings import LeptonSettings, RegionSettings, RMMSettings
from processors.shards import read_manifest
from processors.split import SPLIT_FRACTIONS

__all__ = ["Progress", "robustness"]

logger = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int, str], None]

_RETRAINED: Final = ("without-process", "little-data", "inverse")
_FILLED: Final = 0.1  # share of the background in which a column that is exchanged is filled at least
# Streams of random numbers, so that no test depends on which others are made.
_STREAMS: Final = {
    "swapped-columns": 1, "swapped-objects": 2, "noise": 3, "noise-filled": 4,
    "lepton-pt": 5, "lepton-pt-balanced": 6, "harder": 7,
}  # fmt: skip


class Model(Protocol):
    """What is tested: `models.bundle.AnomalyModel`."""

    features: list[str]
    scaler: Any

    def score(self, features: Features) -> NDArray[np.float32]:
        """Scores of n events, features of shape (n, k)."""
        ...

    def scores_scaled(self, scaled: Features) -> Mapping[Any, NDArray[np.float32]]:
        """All scores of scaled inputs; the first is the one that is cut on."""
        ...


def robustness(
    manifest: Path,
    bundle: Path,
    *,
    features: FeatureSet,
    training: TrainingSettings,
    settings: RobustnessSettings,
    region: RegionSettings,
    rmm: RMMSettings,
    seed: int,
    output: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The tests of one region.

    New trainings are kept in output/robustness/<region>, and used again where nothing has changed.

    Args:
        manifest: `manifest.json` of the region's shards.
        bundle: directory of the trained model.
        features: what new trainings see.
        training: their settings; epochs are capped, and they learn from simulation.
        settings: which tests.
        region: its cuts, as the stage select used them: changed leptons are selected and described anew.
        rmm: which matrix, likewise.
        seed: of the split, of trainings and of random changes.
        output: directory of the analysis.
        progress: called with the number of tests and trainings done, all there are, and what comes next; at the end,
            when all are done, with "done".

    Returns:
        The region's entry of robustness.json: `model`, `sample` (held-out background), `inputs` by test, a list of
        changes with what each does to the score, and `retraining` by test.

    Raises:
        InputError: the model is of another split, or the tests cannot be made of these events.
        FailureError: shards or the files they were selected from cannot be read or are not those of the manifest.
    """
    from models.bundle import load_model  # noqa: PLC0415 - imports Keras when it loads

    content = read_manifest(manifest)
    model = load_model(bundle)
    card = model.card
    if int(card["seeds"]["split"]) != seed:
        own = card["seeds"]["split"]
        msg = f"model {bundle} was trained with the split of seed {own}, not {seed}: test it with that"
        raise InputError(msg)
    background = _of_kind(content, "background")
    train, validation, test = card.get("trained_on", {}).get("fractions", SPLIT_FRACTIONS)
    sample = read_features(
        manifest,
        content,
        background,
        model.features,
        seed=seed,
        limit=settings.max_events,
        fractions=(train, validation, test),
    )
    if not sample.weight.sum() > 0:
        msg = f"region {content['region']} has no background: there is nothing to test with"
        raise InputError(msg)
    inputs = [test for test in settings.tests if test not in _RETRAINED]
    anew = [test for test in settings.tests if test in _RETRAINED]
    jobs = Retraining(
        manifest,
        content,
        features=features,
        training=training,
        settings=settings,
        seed=seed,
        directory=output / "robustness" / str(content["region"]),
    )
    tell = _counted(progress, len(inputs) + jobs.number(anew))
    events = partial(event_changes, content, model.features, region=region, rmm=rmm)
    result = {
        "complete": content.get("complete", True),
        "model": {"name": model.name, "features": len(model.features), "checksum": card.get("checksum")},
        "sample": sample.summary(),
        "inputs": _input_tests(
            model, sample, inputs, settings, seed=seed, events=events, leptons=region.leptons, tell=tell
        ),
        "retraining": retrained(jobs, anew, tell=tell),
    }
    tell("done")
    return result


def _of_kind(manifest: Mapping[str, Any], kind: str) -> list[str]:
    return sorted(name for name, book in manifest["datasets"].items() if book["kind"] == kind)


def _counted(progress: Progress | None, total: int) -> Callable[[str], None]:
    """Says what comes next, and how much was done before."""
    done = iter(range(total + 1))

    def tell(what: str) -> None:
        logger.info("robustness: %s", what)
        if progress is not None:
            progress(next(done), total, what)

    return tell


# --- changed events --------------------------------------------------------------------------------------------------


def _input_tests(
    model: Model,
    sample: FeatureSample,
    tests: Sequence[str],
    settings: RobustnessSettings,
    *,
    seed: int,
    events: Callable[[Origin, NDArray[np.uint64]], Callable[[Change], Features]],
    leptons: LeptonSettings,
    tell: Callable[[str], None],
) -> dict[str, list[dict[str, Any]]]:
    """Every test: a list of changes, each with what it is and what it does to the score."""
    before = Scored(model.score(sample.features), sample.weight, sample.strata)
    found: dict[str, list[dict[str, Any]]] = {}
    in_files = [test for test in tests if test in _EVENT_CHANGES]
    for test in in_files:
        tell(test)
    if in_files:
        found |= _event_tests(model, sample, before, in_files, settings, events, leptons=leptons, seed=seed)
    for test in tests:
        if test in _CHANGES:
            tell(test)
            rng = np.random.default_rng((seed % 2**32, _STREAMS[test]))
            found[test] = [
                what | changed(before, after) for what, after in _CHANGES[test](model, sample, settings, rng)
            ]
    return {test: found[test] for test in tests}


def _event_tests(
    model: Model,
    sample: FeatureSample,
    before: Scored,
    tests: Sequence[str],
    settings: RobustnessSettings,
    events: Callable[[Origin, NDArray[np.uint64]], Callable[[Change], Features]],
    *,
    leptons: LeptonSettings,
    seed: int,
) -> dict[str, list[dict[str, Any]]]:
    """Physics objects made harder, in the events of the files."""
    changes = {
        (test, number): (what, change)
        for test in tests
        for number, (what, change) in enumerate(_EVENT_CHANGES[test](settings, leptons))
    }
    after = {key: np.empty(len(sample), dtype=np.float32) for key in changes}
    for origin in sample.origins:
        key = sample.key[origin.rows]
        features = events(origin, key)
        if not np.allclose(features(_unchanged), sample.features[origin.rows], rtol=1e-4, atol=1e-4):
            msg = (
                f"events {origin.source['start']} to {origin.source['stop']} of {origin.source['file']} do not give "
                "the features in the shards: run the stage select again with the present settings"
            )
            raise FailureError(msg)
        for (test, number), scores in after.items():
            # The same for any order of files, and beside any other test.
            rng = np.random.default_rng((seed % 2**32, _STREAMS[test], number, int(key[0])))
            change = changes[test, number][1]
            scores[origin.rows] = model.score(features(partial(change, rng=rng)))
    return {
        test: [what | changed(before, after[of]) for of, (what, _) in changes.items() if of[0] == test]
        for test in tests
    }


def _unchanged(record: ak.Array) -> ak.Array:
    return record


EventChanges: TypeAlias = Iterator[tuple[dict[str, Any], Callable[..., ak.Array]]]


def _leading_leptons(settings: RobustnessSettings, leptons: LeptonSettings, *, met: Balance) -> EventChanges:
    for factor in settings.lepton_factors:

        def change(record: ak.Array, *, rng: np.random.Generator, factor: float = factor) -> ak.Array:  # noqa: ARG001
            return scaled_leading_lepton(record, factor, leptons=leptons, met=met)

        yield {"factor": factor}, change


def _harder(_: RobustnessSettings, leptons: LeptonSettings) -> EventChanges:
    for way, strengths in STRENGTHS.items():
        for strength in strengths:
            yield (
                {"way": way, "strength": strength},
                partial(harder, way=way, strength=strength, leptons=leptons),
            )


_EVENT_CHANGES: Final[dict[str, Callable[[RobustnessSettings, LeptonSettings], EventChanges]]] = {
    "lepton-pt": partial(_leading_leptons, met="kept"),
    "lepton-pt-balanced": partial(_leading_leptons, met="balanced"),
    "harder": _harder,
}


# --- changed columns -------------------------------------------------------------------------------------------------

Changes: TypeAlias = Iterator[tuple[dict[str, Any], NDArray[np.float32]]]


def _swapped_columns(
    model: Model, sample: FeatureSample, settings: RobustnessSettings, rng: np.random.Generator
) -> Changes:
    """Each pair of columns exchanged, and all of them at once."""
    pairs = _named_pairs(model.features, settings.swaps) or _drawn_pairs(sample, settings.n_swaps, rng)
    for one, other in pairs:
        names = [model.features[one], model.features[other]]
        yield {"columns": [names]}, model.score(exchanged(sample.features, [(one, other)]))
    if len(pairs) > 1:
        every = [[model.features[one], model.features[other]] for one, other in pairs]
        yield {"columns": every}, model.score(exchanged(sample.features, pairs))


def _named_pairs(features: Sequence[str], swaps: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """Positions of the pairs that these inputs have.

    Raises:
        InputError: pairs are named and the model has none of them.
    """
    known = [pair for pair in swaps if set(pair) <= set(features)]
    if swaps and not known:
        msg = f"the model has none of the pairs of columns under `swaps`, such as {' and '.join(swaps[0])}"
        raise InputError(msg)
    return [(features.index(one), features.index(other)) for one, other in known]


def _drawn_pairs(sample: FeatureSample, n: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Pairs of columns that are filled often enough and vary."""
    filled = sample.weight @ (sample.features != 0) / sample.weight.sum() >= _FILLED
    drawn = rng.permutation(np.flatnonzero(filled & (np.ptp(sample.features, axis=0) > 0)))
    return [(int(one), int(other)) for one, other in drawn[: 2 * min(n, len(drawn) // 2)].reshape(-1, 2)]


def _swapped_objects(
    model: Model, sample: FeatureSample, _: RobustnessSettings, rng: np.random.Generator
) -> Changes:
    for name, columns in columns_of_objects(model.features).items():
        has = (sample.features[:, columns] != 0).any(axis=1)
        share = float(sample.weight[has].sum() / sample.weight.sum())
        yield (
            {"object": name, "share": share},
            model.score(with_objects_of_others(sample.features, sample.weight, columns, rng)),
        )


def _noise(
    model: Model,
    sample: FeatureSample,
    settings: RobustnessSettings,
    rng: np.random.Generator,
    *,
    filled: bool = False,
) -> Changes:
    """Noise on scaled inputs: on all, or on those that are not 0, so that what is absent stays so."""
    scaled = model.scaler.transform(sample.features)
    for size in settings.noise:
        where = sample.features != 0 if filled else None
        noisy = with_noise(scaled, sample.weight, size, rng, where=where)
        yield {"size": size}, next(iter(model.scores_scaled(noisy).values()))


_CHANGES: Final[
    dict[str, Callable[[Model, FeatureSample, RobustnessSettings, np.random.Generator], Changes]]
] = {
    "swapped-columns": _swapped_columns,
    "swapped-objects": _swapped_objects,
    "noise": _noise,
    "noise-filled": partial(_noise, filled=True),
}
