"""How well scores order signal above background: areas and efficiencies per signal, beside honest baselines.

Background is simulation of the test split alone (no weight was fitted to it, no threshold chosen on it), each dataset
scaled to the sum of weights of all its events, as in the stacked histograms; of a signal all events count, a model has
seen none. All weights are physical and keep their signs.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fileset.exceptions import InputError
from models.efficiency import EFFICIENCIES, MIN_EFFECTIVE, UpperTail, auc, share_error
from models.scored import ScoredEvents, read_scored, score_columns
from processors.shards import read_manifest

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)

# Points of a drawn curve: dense where an analysis cuts, and enough along the rest.
_ROC_EPS_B = np.unique(np.concatenate([[0.0], np.geomspace(1e-5, 1.0, 121), np.linspace(0, 1, 61)]))


class _Background:
    """Held-out background with what every signal is compared with, worked out once."""

    def __init__(self, events: ScoredEvents) -> None:
        self.events = events
        self.tails = {name: UpperTail.of(values, events.weight) for name, values in events.columns.items()}
        self._cuts: dict[tuple[str, str], _Cut] = {}

    def cut(self, name: str, key: str) -> "_Cut":
        """The cut on one score with an efficiency of `efficiency.EFFICIENCIES`."""
        if (name, key) not in self._cuts:
            tail, score = self.tails[name], self.events.columns[name]
            value, part, _ = tail.at(EFFICIENCIES[key])
            passing = np.where(score > value, 1.0, np.where(score == value, part, 0.0))
            error = share_error(passing, self.events.weight, self.events.strata)
            self._cuts[name, key] = _Cut(value, part, error, tail.effective_above(EFFICIENCIES[key]))
        return self._cuts[name, key]


@dataclass(frozen=True)
class _Cut:
    """A cut on a score, the part of events at exactly this score that passes, and what is known of its efficiency."""

    value: float
    part: float
    error: float
    n_eff: float


def evaluate(
    scores: Path, *, card: dict[str, Any] | None = None, signals: list[str] | None = None
) -> dict[str, Any]:
    """Power of a model's score, and of every single variable, in one region.

    Args:
        scores: `manifest.json` of scores/<region>/<model>.
        card: of the model, copied into the result.
        signals: datasets or families (groups) to evaluate; by default all of kind "signal".

    Returns:
        The region's entry of evaluate.json: `background` (n, sumw, n_eff of the test split), `signals` by
        dataset, `families` by group (all its datasets together, physical weights) and `processes` by
        background group, each against all other background. Every entry has `scores`: for "score" (the
        model's first), its further scores "score_<name>" and each variable the area, its error, `eps_s` at four
        background efficiencies and `roc`. A value that fewer than ten effective background events support is
        null and marked "unsupported".

    Raises:
        InputError: the manifest is missing or foreign, or holds no test background or not the
            signals that were asked for.
        FailureError: a shard of scores is missing or differs from the manifest.
    """
    manifest = read_manifest(scores, stage="score")
    kinds = manifest.get("scores", ["mse"])
    names = [*score_columns(manifest), *manifest["variables"]]
    datasets = manifest["datasets"]
    events = {
        dataset: read_scored(Path(scores), manifest, dataset, names)
        for dataset, facts in sorted(datasets.items())
        if facts["kind"] != "data"
    }
    groups: dict[str, list[str]] = {}
    for dataset in events:
        groups.setdefault(datasets[dataset]["group"], []).append(dataset)
    wanted = _chosen(datasets, signals)
    held_out = ScoredEvents.join(
        [part for name, part in events.items() if datasets[name]["kind"] == "background"]
    )
    if not len(held_out.weight) or not held_out.weight.sum() > 0:
        msg = f"the scores in {scores} hold no background of the test split: nothing can be evaluated"
        raise InputError(msg)
    background = _Background(held_out)
    families = {
        family: [name for name in members if name in wanted]
        for family, members in groups.items()
        if any(name in wanted for name in members)
    }
    card = card or {}
    return {
        "complete": manifest.get("complete", True),
        "model": {
            "name": manifest["model"],
            "features": card.get("features", []),
            "scores": kinds,
            "card": card,
        },
        "background": held_out.summary(),
        "signals": {name: _facts(datasets[name]) | _entry(events[name], background) for name in wanted},
        "families": {
            family: _family_facts(datasets[members[0]], members)
            | _entry(ScoredEvents.join([events[name] for name in members]), background)
            for family, members in families.items()
        },
        "processes": _processes(events, datasets, groups),
    }


def _chosen(datasets: dict[str, Any], signals: list[str] | None) -> list[str]:
    """Signal datasets, all or those that are named themselves or by their family."""
    known = {name: facts["group"] for name, facts in sorted(datasets.items()) if facts["kind"] == "signal"}
    if signals is None:
        return list(known)
    foreign = set(signals) - {*known, *known.values()}
    if foreign:
        msg = f"no signals {sorted(foreign)}; there are {sorted({*known, *known.values()})}"
        raise InputError(msg)
    return [name for name, family in known.items() if {name, family} & set(signals)]


def _processes(
    events: dict[str, ScoredEvents], datasets: dict[str, Any], groups: dict[str, list[str]]
) -> dict[str, Any]:
    """Each background group as if it were the anomaly, against the rest of the background."""
    backgrounds = {
        group: ScoredEvents.join([events[name] for name in members])
        for group, members in groups.items()
        if datasets[members[0]]["kind"] == "background"
    }
    entries = {}
    for group, chosen in backgrounds.items():
        rest = [other for name, other in backgrounds.items() if name != group]
        others = ScoredEvents.join(rest) if rest else None
        if others is None or not others.weight.sum() > 0 or not chosen.weight.sum() > 0:
            logger.info("process %s has nothing to be compared with", group)
            continue
        facts = _family_facts(datasets[groups[group][0]], groups[group])
        entries[group] = facts | _entry(chosen, _Background(others))
    return entries


def _facts(dataset: dict[str, Any]) -> dict[str, Any]:
    return {
        "family": dataset["group"],
        "label": dataset["label"],
        "process": dataset["process"],
        "model": dataset.get("model", {}),
    }


def _family_facts(dataset: dict[str, Any], members: list[str]) -> dict[str, Any]:
    return {"family": dataset["group"], "label": dataset["label"], "datasets": members}


def _entry(signal: ScoredEvents, background: _Background) -> dict[str, Any]:
    """Sums of a signal and its measures for every score."""
    return signal.summary() | {
        "scores": {name: _measures(name, signal, background) for name in signal.columns}
    }


def _measures(name: str, signal: ScoredEvents, background: _Background) -> dict[str, Any]:
    reference, tail = background.events, background.tails[name]
    area, error = auc(
        reference.columns[name], reference.weight, signal.columns[name], signal.weight, reference.strata
    )
    if not np.isfinite(area):  # no signal, or negative weights won
        nothing = {key: _unsupported(tail.effective_above(eps)) for key, eps in EFFICIENCIES.items()}
        return {"auc": None, "auc_error": None, "eps_s": nothing, "roc": {"eps_b": [], "eps_s": []}}
    signal_tail = UpperTail.of(signal.columns[name], signal.weight)
    return {
        "auc": area,
        "auc_error": error,
        "eps_s": {
            key: _signal_efficiency(signal_tail, tail, eps, background.cut(name, key))
            for key, eps in EFFICIENCIES.items()
        },
        "roc": _roc(signal_tail, tail),
    }


def _unsupported(n_eff: float) -> dict[str, Any]:
    return {"value": None, "error": None, "n_eff_background": n_eff, "unsupported": True}


def _signal_efficiency(signal: UpperTail, background: UpperTail, eps_b: float, cut: _Cut) -> dict[str, Any]:
    """Signal efficiency at a background efficiency; its error holds both samples' statistics."""
    if cut.n_eff < MIN_EFFECTIVE:
        return _unsupported(cut.n_eff)
    value, signal2 = signal.efficiency(cut.value, cut.part)
    # The background fixes the cut only to within its own error, along which the curve rises.
    low, high = (
        _eps_s(signal, background, eps) for eps in (max(eps_b - cut.error, 0), min(eps_b + cut.error, 1))
    )
    error = float(np.hypot(signal.efficiency_error(value, signal2), (high - low) / 2))
    return {"value": value, "error": error, "n_eff_background": cut.n_eff}


def _eps_s(signal: UpperTail, background: UpperTail, eps_b: float) -> float:
    cut, part, _ = background.at(eps_b)
    return signal.efficiency(cut, part)[0]


def _roc(signal: UpperTail, background: UpperTail) -> dict[str, list[float]]:
    """The curve from (0, 0) to (1, 1), thinned; points below one background event's share are left out."""
    smallest = float(background.sumw[background.sumw > 0][0]) / background.total
    inner = [float(eps) for eps in _ROC_EPS_B if smallest <= eps < 1]
    eps_s = [_eps_s(signal, background, eps) for eps in inner]
    return {"eps_b": [0.0, *inner, 1.0], "eps_s": [0.0, *eps_s, 1.0]}
