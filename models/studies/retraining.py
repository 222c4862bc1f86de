"""Tests of robustness that train anew: without one known process, on little data, on a signal.

A training is told what its background is by a manifest of its own, whose shards are those of the region and whose
datasets have other kinds. What a new model is compared with is trained in the same way, as short, on all background.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import InputError
from models.efficiency import EFFICIENCIES, Strata
from models.presets import FeatureSet
from models.settings import RobustnessSettings, TrainingSettings
from models.stream import feature_columns, kept_columns
from models.studies.contrasts import Scored, difference, power
from models.studies.held_out import FeatureSample, read_features
from processors.files import write_json

__all__ = ["Retraining", "retrained"]

logger = logging.getLogger(__name__)

Tell = Callable[[str], None]
Scores = NDArray[np.float32]


class Retraining:
    """What new trainings of one region share.

    Args:
        path: `manifest.json` of the region's shards.
        manifest: its content.
        features: what the models see.
        training: settings; epochs are capped, one network is trained, and simulation is learnt from.
        settings: how many events, epochs and seeds.
        seed: the first one.
        directory: where models are kept.
    """

    def __init__(
        self,
        path: Path,
        manifest: Mapping[str, Any],
        *,
        features: FeatureSet,
        training: TrainingSettings,
        settings: RobustnessSettings,
        seed: int,
        directory: Path,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.features = features
        self.settings = settings
        self.seeds = range(seed, seed + settings.seeds)
        self.directory = directory
        epochs = min(training.epochs, settings.epochs)
        self.training = training.model_copy(update={"epochs": epochs, "members": 1, "train_on": "simulation"})
        self.columns = kept_columns(path, dict(manifest), feature_columns(dict(manifest), features))

    def of_kind(self, kind: str) -> list[str]:
        """Datasets with events."""
        filled = {entry["dataset"] for entry in self.manifest["shards"] if entry["rows"]}
        books = self.manifest["datasets"]
        return sorted(name for name in filled if books[name]["kind"] == kind)

    @property
    def groups(self) -> dict[str, list[str]]:
        """Processes of the background: datasets by group; none where there is only one."""
        groups: dict[str, list[str]] = {}
        for name in self.of_kind("background"):
            groups.setdefault(str(self.manifest["datasets"][name]["group"]), []).append(name)
        return groups if len(groups) > 1 else {}

    @property
    def learnt_signals(self) -> list[str]:
        """Signals that `inverse` trains on.

        Raises:
            InputError: one that is named is not there.
        """
        known = self.of_kind("signal")
        foreign = sorted(set(self.settings.inverse) - set(known))
        if foreign:
            msg = (
                f"no signal {foreign[0]!r} in region {self.manifest['region']}: there are {', '.join(known)}"
            )
            raise InputError(msg)
        rows = {
            name: sum(e["rows"] for e in self.manifest["shards"] if e["dataset"] == name) for name in known
        }
        return list(self.settings.inverse) or sorted(known, key=lambda name: -rows[name])[:1]

    def number(self, tests: Sequence[str]) -> int:
        """How many trainings some tests need."""
        of = {
            "without-process": len(self.groups) if "without-process" in tests else 0,
            "little-data": 1,
            "inverse": len(self.learnt_signals) if "inverse" in tests else 0,
        }
        return (1 + sum(of[test] for test in tests)) * len(self.seeds) if tests else 0

    def score(
        self, name: str, kinds: Mapping[str, str], seed: int, *, tell: Tell, part: float = 1.0
    ) -> tuple[Callable[[FeatureSample], Scores], dict[str, Any]]:
        """What scores events with a model that has learnt the datasets of kind "background", and its card.

        Args:
            name: of the model.
            kinds: dataset -> kind.
            seed: of split and training.
            tell: is told that a training begins.
            part: of the training events that is trained on.
        """
        from models.bundle import load_model  # noqa: PLC0415 - imports Keras
        from models.training import train  # noqa: PLC0415

        tell(f"{name}, seed {seed}")
        training = self.training
        if part < 1:
            rows = sum(e["rows"] for e in self.manifest["shards"] if kinds.get(e["dataset"]) == "background")
            known = training.max_train_events or round(rows * training.fractions[0])
            few = max(1, round(part * min(known, rows * training.fractions[0])))
            training = training.model_copy(update={"max_train_events": few})
        model = load_model(
            train(
                self._derived(name, kinds),
                features=self.features,
                settings=training,
                seed=seed,
                output=self.directory / name,
                name=f"seed{seed}",
            )
        )
        return lambda sample: model.score(sample.features), model.card

    def _derived(self, name: str, kinds: Mapping[str, str]) -> Path:
        """A manifest of the same shards in which datasets have other kinds; those without one are left out."""
        shards, directory = self.path.absolute().parent, self.directory.absolute() / name
        derived = directory / "manifest.json"
        books = self.manifest["datasets"]
        write_json(
            derived,
            {
                **self.manifest,
                "datasets": {dataset: books[dataset] | {"kind": kind} for dataset, kind in kinds.items()},
                "shards": [
                    entry | {"path": os.path.relpath(shards / entry["path"], directory)}
                    for entry in self.manifest["shards"]
                    if entry["dataset"] in kinds
                ],
            },
        )
        inputs = self.path.with_name("inputs.json")  # what the stage compare kept
        if inputs.is_file():
            shutil.copyfile(inputs, derived.with_name("inputs.json"))
        return derived

    def events(self, datasets: Sequence[str], seed: int, *, split: str | None = "test") -> FeatureSample:
        """Held-out, or all, events of some datasets."""
        return read_features(
            self.path,
            self.manifest,
            datasets,
            self.columns,
            seed=seed,
            limit=self.settings.max_events,
            fractions=self.training.fractions,
            split=split,
        )


def retrained(jobs: Retraining, tests: Sequence[str], *, tell: Tell) -> dict[str, Any]:
    """The tests that train anew, each the mean over the seeds.

    Args:
        jobs: what is trained.
        tests: of "without-process", "little-data" and "inverse".
        tell: is told what begins.

    Returns:
        `epochs` and `seeds`; `without-process` by group, `little-data` and `inverse` by signal: what was compared, and
        the power of the new model and of the `nominal` one. Empty where no test is asked for.
    """
    if not tests:
        return {}
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {test: {} for test in tests}
    for seed in jobs.seeds:
        run = _Run(jobs, seed, tell)
        for test in tests:
            for key, entry in _TESTS[test](run).items():
                runs[test].setdefault(key, []).append(entry)
    found: dict[str, Any] = {"epochs": jobs.training.epochs, "seeds": list(jobs.seeds)}
    for test, entries in runs.items():
        found[test] = {key: _mean(several) for key, several in entries.items()}
    return found


class _Run:
    """The nominal model of one seed and the events that all of its tests look at."""

    def __init__(self, jobs: Retraining, seed: int, tell: Tell) -> None:
        self.jobs, self.seed, self.tell = jobs, seed, tell
        self.kinds = dict.fromkeys(jobs.of_kind("background"), "background")
        self.nominal, self.card = jobs.score("nominal", self.kinds, seed, tell=tell)
        self.background = jobs.events(list(self.kinds), seed)
        self.signals = jobs.events(jobs.of_kind("signal"), seed, split=None)

    def entry(
        self,
        learnt: tuple[Scored, Scored],
        nominal: tuple[Scored, Scored],
        card: Mapping[str, Any],
        datasets: Sequence[str],
    ) -> dict[str, Any]:
        """One comparison: what the new and the nominal model tell of the same background and signal."""
        signal = learnt[1]
        books = self.jobs.manifest["datasets"]
        return {
            "label": books[datasets[0]].get("label", ""),
            "process": books[datasets[0]].get("process", ""),
            "group": books[datasets[0]]["group"],
            "n": len(signal.weight),
            "sumw": float(signal.weight.sum()),
            "n_train": card["trained_on"]["n_train"],
            "collapsed": bool(card["collapsed"]),
            **power(*learnt),
            "nominal": power(*nominal),
            **difference(learnt, nominal),
        }


def _scored(sample: FeatureSample, scores: Scores, which: NDArray[np.bool_]) -> Scored:
    return Scored(
        scores[which], sample.weight[which], Strata(sample.strata.index[which], sample.strata.sumw2)
    )


def _without_process(run: _Run) -> dict[str, dict[str, Any]]:
    """Each process as the signal of a model that has not seen it, against the held-out rest."""
    entries = {}
    for group, members in run.jobs.groups.items():
        kinds = {name: kind for name, kind in run.kinds.items() if name not in members}
        score, card = run.jobs.score(f"without-{group}", kinds, run.seed, tell=run.tell)
        removed = run.background.of(members)
        learnt, nominal = (
            (_scored(run.background, values, ~removed), _scored(run.background, values, removed))
            for values in (score(run.background), run.nominal(run.background))
        )
        entries[group] = run.entry(learnt, nominal, card, members)
    return entries


def _little_data(run: _Run) -> dict[str, dict[str, Any]]:
    """Every signal, with a model that has seen a hundredth of the events."""
    score, card = run.jobs.score(
        "little-data", run.kinds, run.seed, tell=run.tell, part=run.jobs.settings.train_fraction
    )
    pairs = [(values(run.background), values(run.signals)) for values in (score, run.nominal)]
    entries = {}
    every = np.ones(len(run.background), dtype=bool)
    for signal in run.jobs.of_kind("signal"):
        own = run.signals.of([signal])
        learnt, nominal = (
            (_scored(run.background, b, every), _scored(run.signals, s, own)) for b, s in pairs
        )
        entries[signal] = run.entry(learnt, nominal, card, [signal])
    return entries


def _inverse(run: _Run) -> dict[str, dict[str, Any]]:
    """The held-out background as the signal of a model that has learnt a signal; the nominal model the other way."""
    entries = {}
    for signal in run.jobs.learnt_signals:
        score, card = run.jobs.score(f"inverse-{signal}", {signal: "background"}, run.seed, tell=run.tell)
        known = run.jobs.events([signal], run.seed)
        every, own = (np.ones(len(sample), dtype=bool) for sample in (run.background, known))
        anomaly, usual = (
            _scored(sample, score(sample), which) for sample, which in ((run.background, every), (known, own))
        )
        nominal = power(
            _scored(run.background, run.nominal(run.background), every),
            _scored(known, run.nominal(known), own),
        )
        entries[signal] = run.entry((usual, anomaly), (usual, anomaly), card, [signal]) | {
            "n_known": len(known),
            "nominal": nominal,
            "difference": None,  # not the same task
            "difference_error": None,
        }
    return entries


_TESTS: Final[dict[str, Callable[[_Run], dict[str, dict[str, Any]]]]] = {
    "without-process": _without_process,
    "little-data": _little_data,
    "inverse": _inverse,
}


def _mean(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """One comparison over the seeds: means of values and errors, which share most events, and the spread."""
    areas = [entry["auc"] for entry in entries]
    known = None not in areas
    merged = entries[0] | {
        "by_seed": areas,
        "spread": float(np.std(areas, ddof=1)) if known and len(areas) > 1 else None,
        "collapsed": any(entry["collapsed"] for entry in entries),
    }
    for name in ("difference", "difference_error"):
        merged[name] = _mean_of([entry[name] for entry in entries])
    merged |= _mean_power(entries)
    return merged | {"nominal": _mean_power([entry["nominal"] for entry in entries])}


def _mean_power(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: _mean_of([entry[name] for entry in entries]) for name in ("auc", "auc_error")
    }
    found["eps_s"] = {
        key: {
            name: _mean_of([entry["eps_s"][key][name] for entry in entries])
            for name in ("value", "error", "n_eff_background")
        }
        for key in EFFICIENCIES
    }
    for entry in (found["eps_s"][key] for key in EFFICIENCIES):
        if entry["value"] is None:
            entry["unsupported"] = True
    return found | ({"unsupported": True} if found["auc"] is None else {})


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
