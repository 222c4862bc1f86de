"""Who is compared in a region, and with whom: scores of models and baselines, and the best single variable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import FailureError, InputError
from models.efficiency import EFFICIENCIES
from models.studies.power import MEMBER, Power, spread_of
from models.studies.scored import ScoredEvents, read_scored, score_columns
from processors.shards import read_manifest

__all__ = ["BEST", "IDENTITY", "Contestant", "against_best", "best_variables", "read_contest", "summary_of"]

BEST: Final = "best_variable"
"""Whoever knows each signal and picks the single variable that orders it best: in entries and in the summary."""

IDENTITY: Final = ("channelNumber", "runNumber", "eventNumber")

Measured: TypeAlias = tuple[
    dict[str, dict[str, Any]], dict[str, Power], dict[str, Power], dict[str, list[Power | None]]
]
"""Of one signal: entries, measures, replicas and measures of an ensemble's networks, each by score."""


@dataclass(frozen=True)
class Contestant:
    """A score or single variable.

    Attributes:
        name: of its column, and in evaluate.json: "score" is the evaluated model's.
        role: "model", "score" (a further one of the evaluated model), "baseline" or "variable".
        model: whose score it is.
        kind: of the score, "mse".
        members: columns with the scores of an ensemble's networks.
    """

    name: str
    role: str
    model: str = ""
    kind: str = ""
    members: tuple[str, ...] = ()


def read_contest(
    path: Path, manifest: Mapping[str, Any], others: Sequence[Path]
) -> tuple[list[Contestant], dict[str, ScoredEvents]]:
    """All contestants, and the simulated events of each dataset with their columns.

    Args:
        path: `manifest.json` of the evaluated model's scores.
        manifest: what it holds.
        others: manifests of other scores of the same events.

    Raises:
        InputError: two models have one name, or scores lack a dataset.
        FailureError: scores cannot be read, or are of other events.
    """
    own, names = _contestants(manifest, first="score")
    contestants = [*own]
    variables = [Contestant(name, "variable") for name in manifest["variables"]]
    simulated = [name for name, facts in sorted(manifest["datasets"].items()) if facts["kind"] != "data"]
    identity = IDENTITY if others else ()
    columns = [*names.values(), *manifest["variables"], *identity]
    events = {name: read_scored(path, manifest, name, columns) for name in simulated}
    for other in others:
        foreign = read_manifest(other, stage="score")
        found, names = _contestants(foreign, first=str(foreign["model"]))
        taken = {contestant.model for contestant in contestants} | set(manifest["variables"])
        if foreign["model"] in taken:
            msg = f"{other} and other scores are both of {foreign['model']!r}: give each model once"
            raise InputError(msg)
        contestants += found[:1]
        kept = {name: column for name, column in names.items() if name in {found[0].name, *found[0].members}}
        for name in simulated:
            events[name] = _beside(events[name], other, foreign, name, kept)
    plain = {
        name: replace(part, columns={c: v for c, v in part.columns.items() if c not in IDENTITY})
        for name, part in events.items()
    }
    return contestants + variables, plain


def _contestants(manifest: Mapping[str, Any], *, first: str) -> tuple[list[Contestant], dict[str, str]]:
    """The scores of a manifest, and the columns they are in by the names that they get."""
    model = str(manifest["model"])
    kinds = [str(kind) for kind in manifest.get("scores", ["mse"])]
    names = {
        first if column == "score" else column.replace("score_", f"{first}_", 1): column
        for column in score_columns(manifest)
    }
    members = tuple(
        name for name, kind in zip(names, kinds, strict=True) if MEMBER.fullmatch(kind) and name != first
    )
    role = "model" if first == "score" else str(manifest.get("role") or _role(model))
    found = [
        Contestant(name, role if name == first else "score", model, kind, members if name == first else ())
        for name, kind in zip(names, kinds, strict=True)
        if name not in members
    ]
    return found, names


def _role(model: str) -> str:
    return "baseline" if model.startswith("baseline-") else "model"


def _beside(
    events: ScoredEvents, path: Path, manifest: Mapping[str, Any], dataset: str, names: Mapping[str, str]
) -> ScoredEvents:
    """Events with further columns, of the same events in the same order."""
    if dataset not in manifest["datasets"]:
        msg = f"{path} has no scores of {dataset}: run the stage score for {manifest['model']} again"
        raise InputError(msg)
    found = read_scored(path, manifest, dataset, [*names.values(), *IDENTITY])
    for column in IDENTITY:
        if not np.array_equal(found.columns[column], events.columns[column]):
            msg = f"{path} has scores of other events of {dataset}: run the stage score for {manifest['model']} again"
            raise FailureError(msg)
    return replace(
        events, columns=events.columns | {name: found.columns[column] for name, column in names.items()}
    )


def best_variables(entries: Mapping[str, Mapping[str, Any]], variables: Sequence[str]) -> dict[str, Any]:
    """The single variable that is best for a signal, for each measure: who picks it knows the signal.

    Returns:
        `auc` and `significance_improvement`, and `eps_s` by background efficiency: names, null where none is supported.
    """

    def largest(value: Any) -> str | None:
        known = {name: value(entries[name]) for name in variables}
        known = {name: found for name, found in known.items() if found is not None}
        return max(known, key=lambda name: known[name], default=None)

    return {
        "auc": largest(lambda entry: entry["auc"]),
        "eps_s": {key: largest(lambda entry, key=key: entry["eps_s"][key]["value"]) for key in EFFICIENCIES},
        "significance_improvement": largest(lambda entry: entry["significance_improvement"]["value"]),
    }


def against_best(
    score: str,
    best: Mapping[str, Any],
    entries: Mapping[str, Mapping[str, Any]],
    powers: Mapping[str, Power],
    spreads: Mapping[str, Power],
) -> dict[str, Any]:
    """A score less, or over, the best variable, with errors that know what the two have in common.

    Returns:
        `auc`: variable, difference and error; `eps_s` by background efficiency: variable, ratio and error.
    """
    nothing = {"variable": None, "unsupported": True}
    result: dict[str, Any] = {"auc": nothing | {"difference": None, "error": None}, "eps_s": {}}
    rival = best["auc"]
    if rival is not None and entries[score]["auc"] is not None:
        result["auc"] = {
            "variable": rival,
            "difference": float(powers[score].auc - powers[rival].auc),
            "error": spread_of(spreads[score].auc - spreads[rival].auc),
        }
    for key, name in best["eps_s"].items():
        own = entries[score]["eps_s"][key]["value"]
        if name is None or own is None or not float(powers[name].at(key)) > 0:
            result["eps_s"][key] = nothing | {"ratio": None, "error": None}
        else:
            ratio = _ratio(spreads[score].at(key), spreads[name].at(key))
            value = float(powers[score].at(key) / powers[name].at(key))
            result["eps_s"][key] = {"variable": name, "ratio": value, "error": spread_of(ratio)}
    return result


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratio in each replica; nan where it has none."""
    usable = below > 0
    return np.where(usable, above / np.where(usable, below, 1.0), np.nan)


def summary_of(contestants: Sequence[Contestant], signals: Mapping[str, Measured]) -> dict[str, Any]:
    """Means over all signals, each of the same weight, for every contestant and for the best variable of each signal.

    Args:
        contestants: whom to compare.
        signals: what was measured for each.

    Returns:
        `signals` that count and those `left_out` for want of events; `scores` by name, and "best_variable": `auc` and
        `delta_auc` (mean and worst), `eps_s` by background efficiency: mean, ratio to that of the best variables, and
        mean of the ratios, all with errors; `seeds` of ensembles: the same for each of their networks.
    """
    counted = [name for name, (entries, *_) in signals.items() if _has_area(entries, contestants)]
    variables = [contestant.name for contestant in contestants if contestant.role == "variable"]
    chosen = {name: signals[name] for name in counted}
    best = {name: best_variables(entries, variables) for name, (entries, *_) in chosen.items()}
    scores = {}
    if counted:
        for contestant in contestants:
            scores[contestant.name] = {"role": contestant.role} | _means(contestant, chosen, best)
        if variables:
            scores[BEST] = {"role": "oracle"} | _means(None, chosen, best)
    return {
        "signals": counted,
        "left_out": [name for name in signals if name not in counted],
        "scores": scores,
    }


def _has_area(entries: Mapping[str, Any], contestants: Sequence[Contestant]) -> bool:
    return all(entries[contestant.name]["auc"] is not None for contestant in contestants)


def _means(
    contestant: Contestant | None, signals: Mapping[str, Measured], best: Mapping[str, Any]
) -> dict[str, Any]:
    """Means over signals of one contestant; of the best variable of each signal where there is none."""
    own, spread, rival, rival_spread = ([] for _ in range(4))
    for name, (_, powers, spreads, _) in signals.items():
        other = best[name]["auc"]
        mine = contestant.name if contestant else other
        own.append(powers[mine].auc)
        spread.append(spreads[mine].auc)
        rival.append(powers[other].auc if other else np.nan)
        rival_spread.append(spreads[other].auc if other else np.full_like(spreads[mine].auc, np.nan))
    result: dict[str, Any] = {
        "auc": {"mean": float(np.mean(own)), "error": spread_of(np.mean(spread, axis=0))}
    }
    if np.isfinite(rival).all():
        result["delta_auc"] = _differences(
            list(signals), np.subtract(own, rival), np.subtract(spread, rival_spread)
        )
    result["eps_s"] = {key: _efficiencies(contestant, key, signals, best) for key in EFFICIENCIES}
    if contestant and contestant.members:
        supported = [key for key, found in result["eps_s"].items() if found["mean"] is not None]
        result["seeds"] = _over_seeds(contestant, signals, np.array(rival), supported)
    return result


def _differences(
    names: Sequence[str], value: NDArray[np.float64], spread: NDArray[np.float64]
) -> dict[str, Any]:
    """Mean and worst of differences of shape (signals,), with errors from replicas of shape (signals, replicas)."""
    worst = int(np.argmin(value))
    return {
        "mean": float(value.mean()),
        "error": spread_of(spread.mean(axis=0)),
        "worst": float(value[worst]),
        "worst_error": spread_of(spread[worst]),
        "worst_signal": names[worst],
    }


def _efficiencies(
    contestant: Contestant | None, key: str, signals: Mapping[str, Measured], best: Mapping[str, Any]
) -> dict[str, Any]:
    """Mean signal efficiency at one background efficiency, and relative to the best variables."""
    nothing = dict.fromkeys(("mean", "error", "ratio", "ratio_error", "mean_ratio", "mean_ratio_error"))
    own, spread, rival, rival_spread = ([] for _ in range(4))
    for name, (entries, powers, spreads, _) in signals.items():
        other = best[name]["eps_s"][key]
        mine = contestant.name if contestant else other
        if mine is None or entries[mine]["eps_s"][key]["value"] is None:
            reason = entries[mine]["eps_s"][key]["reason"] if mine else "no variable is supported"
            return nothing | {"unsupported": True, "reason": reason}
        own.append(float(powers[mine].at(key)))
        spread.append(spreads[mine].at(key))
        if other is not None:
            rival.append(float(powers[other].at(key)))
            rival_spread.append(spreads[other].at(key))
    result = nothing | {"mean": float(np.mean(own)), "error": spread_of(np.mean(spread, axis=0))}
    if len(rival) < len(own) or not np.mean(rival) > 0:
        return result
    of_means = _ratio(np.mean(spread, axis=0), np.mean(rival_spread, axis=0))
    result |= {"ratio": float(np.mean(own) / np.mean(rival)), "ratio_error": spread_of(of_means)}
    if min(rival) > 0:
        each = _ratio(np.array(spread), np.array(rival_spread))
        result |= {
            "mean_ratio": float(np.mean(np.divide(own, rival))),
            "mean_ratio_error": spread_of(each.mean(axis=0)),
        }
    return result


def _over_seeds(
    contestant: Contestant,
    signals: Mapping[str, Measured],
    rival: NDArray[np.float64],
    supported: Sequence[str],
) -> dict[str, Any] | None:
    """The means of each network of an ensemble by itself; efficiencies where those of the ensemble are supported."""
    found = [seeds[contestant.name] for _, _, _, seeds in signals.values()]
    powers = [[power for power in row if power is not None] for row in found]
    if any(len(row) < len(contestant.members) for row in powers):
        return None
    delta = np.array([[float(power.auc) for power in row] for row in powers]) - rival[:, None]
    return {
        "n": len(contestant.members),
        "delta_auc_mean": delta.mean(axis=0).tolist(),
        "delta_auc_worst": delta.min(axis=0).tolist(),
        "eps_s": {
            key: np.mean([[float(power.at(key)) for power in row] for row in powers], axis=0).tolist()
            if key in supported
            else None
            for key in EFFICIENCIES
        },
    }
