"""How well scores order signal above background: areas and efficiencies per signal, beside honest baselines.

Background is simulation of the test split alone (no weight was fitted to it, no threshold chosen on it); of a
signal all events count, a model has seen none. All weights are physical and keep their signs.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fileset.exceptions import FailureError, InputError
from models.efficiency import EFFICIENCIES, MIN_EFFECTIVE, UpperTail, auc, effective_events
from processors.shards import read_manifest
from processors.split import SPLITS

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)

# Points of a drawn curve: dense where an analysis cuts, and enough along the rest.
_ROC_EPS_B = np.unique(np.concatenate([[0.0], np.geomspace(1e-5, 1.0, 121), np.linspace(0, 1, 61)]))


@dataclass(frozen=True)
class _Events:
    """Weights and scores of some events."""

    weight: NDArray[np.float64]  # (n,)
    scores: dict[str, NDArray[np.float64]]  # of each score name: (n,)

    @staticmethod
    def join(parts: "list[_Events]") -> "_Events":
        return _Events(
            np.concatenate([part.weight for part in parts]),
            {
                name: np.concatenate([part.scores[name] for part in parts])
                for name in (parts[0].scores if parts else ())
            },
        )

    def summary(self) -> dict[str, Any]:
        """Number of events, sum of weights and effective number."""
        return {
            "n": len(self.weight),
            "sumw": float(self.weight.sum()),
            "n_eff": effective_events(self.weight),
        }


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
        model) and each variable the area, its error, `eps_s` at four background efficiencies and `roc`. A
        value that fewer than ten effective background events support is null and marked "unsupported".

    Raises:
        InputError: the manifest is missing or foreign, or holds no test background or not the
            signals that were asked for.
        FailureError: a shard of scores is missing or differs from the manifest.
    """
    manifest = read_manifest(scores, stage="score")
    names = ["score", *manifest["variables"]]
    datasets = manifest["datasets"]
    events = {
        dataset: _read(Path(scores), manifest, dataset, names)
        for dataset, facts in sorted(datasets.items())
        if facts["kind"] != "data"
    }
    groups: dict[str, list[str]] = {}
    for dataset in events:
        groups.setdefault(datasets[dataset]["group"], []).append(dataset)
    wanted = _chosen(datasets, signals)
    background = _Events.join(
        [part for name, part in events.items() if datasets[name]["kind"] == "background"]
    )
    if not len(background.weight) or not background.weight.sum() > 0:
        msg = f"the scores in {scores} hold no background of the test split: nothing can be evaluated"
        raise InputError(msg)
    tails = {name: UpperTail.of(background.scores[name], background.weight) for name in names}
    families = {
        family: [name for name in members if name in wanted]
        for family, members in groups.items()
        if any(name in wanted for name in members)
    }
    card = card or {}
    return {
        "model": {"name": manifest["model"], "features": card.get("features", []), "card": card},
        "background": background.summary(),
        "signals": {
            name: _facts(datasets[name]) | _entry(events[name], background, tails) for name in wanted
        },
        "families": {
            family: _family_facts(datasets[members[0]], members)
            | _entry(_Events.join([events[name] for name in members]), background, tails)
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
    events: dict[str, _Events], datasets: dict[str, Any], groups: dict[str, list[str]]
) -> dict[str, Any]:
    """Each background group as if it were the anomaly, against the rest of the background."""
    backgrounds = {
        group: _Events.join([events[name] for name in members])
        for group, members in groups.items()
        if datasets[members[0]]["kind"] == "background"
    }
    entries = {}
    for group, chosen in backgrounds.items():
        rest = [other for name, other in backgrounds.items() if name != group]
        others = _Events.join(rest) if rest else None
        if others is None or not others.weight.sum() > 0 or not chosen.weight.sum() > 0:
            logger.info("process %s has nothing to be compared with", group)
            continue
        tails = {name: UpperTail.of(values, others.weight) for name, values in others.scores.items()}
        entries[group] = _family_facts(datasets[groups[group][0]], groups[group]) | _entry(
            chosen, others, tails
        )
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


def _entry(signal: _Events, background: _Events, tails: dict[str, UpperTail]) -> dict[str, Any]:
    """Sums of a signal and its measures for every score."""
    return signal.summary() | {
        "scores": {
            name: _measures(values, signal.weight, background.scores[name], background.weight, tails[name])
            for name, values in signal.scores.items()
        }
    }


def _measures(
    signal: NDArray[np.float64],
    signal_weight: NDArray[np.float64],
    background: NDArray[np.float64],
    background_weight: NDArray[np.float64],
    tail: UpperTail,
) -> dict[str, Any]:
    area, error = auc(background, background_weight, signal, signal_weight)
    if not np.isfinite(area):  # no signal, or negative weights won
        nothing = {name: _unsupported(tail.effective_above(eps)) for name, eps in EFFICIENCIES.items()}
        return {"auc": None, "auc_error": None, "eps_s": nothing, "roc": {"eps_b": [], "eps_s": []}}
    signal_tail = UpperTail.of(signal, signal_weight)
    return {
        "auc": area,
        "auc_error": error,
        "eps_s": {name: _signal_efficiency(signal_tail, tail, eps) for name, eps in EFFICIENCIES.items()},
        "roc": _roc(signal_tail, tail),
    }


def _unsupported(n_eff: float) -> dict[str, Any]:
    return {"value": None, "error": None, "n_eff_background": n_eff, "unsupported": True}


def _signal_efficiency(signal: UpperTail, background: UpperTail, eps_b: float) -> dict[str, Any]:
    """Signal efficiency at a background efficiency; its error holds both samples' statistics."""
    cut, part, passing2 = background.at(eps_b)
    n_eff = background.effective_above(eps_b)
    if n_eff < MIN_EFFECTIVE:
        return _unsupported(n_eff)
    value, signal2 = signal.efficiency(cut, part)
    # The background fixes the cut only to within its own error, along which the curve rises.
    error_b = background.efficiency_error(eps_b, passing2)
    low, high = (
        _eps_s(signal, background, eps) for eps in (max(eps_b - error_b, 0), min(eps_b + error_b, 1))
    )
    error = float(np.hypot(signal.efficiency_error(value, signal2), (high - low) / 2))
    return {"value": value, "error": error, "n_eff_background": n_eff}


def _eps_s(signal: UpperTail, background: UpperTail, eps_b: float) -> float:
    cut, part, _ = background.at(eps_b)
    return signal.efficiency(cut, part)[0]


def _roc(signal: UpperTail, background: UpperTail) -> dict[str, list[float]]:
    """The curve from (0, 0) to (1, 1), thinned; points below one background event's share are left out."""
    smallest = float(background.sumw[background.sumw > 0][0]) / background.total
    inner = [float(eps) for eps in _ROC_EPS_B if smallest <= eps < 1]
    eps_s = [_eps_s(signal, background, eps) for eps in inner]
    return {"eps_b": [0.0, *inner, 1.0], "eps_s": [0.0, *eps_s, 1.0]}


def _read(path: Path, manifest: dict[str, Any], dataset: str, names: list[str]) -> _Events:
    """Events of one dataset: all of a signal, those of the test split of a background."""
    background = manifest["datasets"][dataset]["kind"] == "background"
    weights, scores = [np.zeros(0)], {name: [np.zeros(0)] for name in names}
    for entry in manifest["shards"]:
        if entry["dataset"] != dataset:
            continue
        shard = path.parent / entry["path"]
        try:
            table = pq.read_table(shard, columns=["weight", "split", *names])
        except (OSError, KeyError, pa.ArrowInvalid) as error:
            msg = f"cannot read scores {shard} ({error}): run the stage score again"
            raise FailureError(msg) from error
        if table.num_rows != entry["rows"]:
            msg = f"scores {shard} have {table.num_rows} rows, the manifest {entry['rows']}: run score again"
            raise FailureError(msg)
        chosen = table["split"].to_numpy() == SPLITS.index("test") if background else slice(None)
        weights.append(table["weight"].to_numpy()[chosen])
        for name in names:
            scores[name].append(table[name].to_numpy()[chosen].astype(np.float64))
    found = _Events(np.concatenate(weights), {name: np.concatenate(parts) for name, parts in scores.items()})
    for name, values in found.scores.items():
        if not np.isfinite(values).all():
            msg = f"{name!r} of dataset {dataset} in {path} is not finite: run the stage score again"
            raise FailureError(msg)
    return found
