"""Does a cut on the score make a bump? Shapes of masses before and after it, and a hunt for bumps behind it.

Background is what the model has not seen: the test split, scaled for each dataset to all its events. The hunt looks
into collision data, or where these are blinded or absent into events drawn from the background.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import InputError
from models.efficiency import (
    EFFICIENCIES,
    MIN_EFFECTIVE,
    UpperTail,
    auc,
    placements,
    share_error,
)
from models.settings import SculptingSettings
from models.studies.bumps import hunt_bumps, mass_bins
from models.studies.decorrelation import Decorrelation, save_decorrelations
from models.studies.masses import MASSES, read_masses
from models.studies.scored import ScoredEvents
from models.studies.shapes import Cut, ShapeComparison
from processors.histograms import left_for_search
from processors.shards import read_manifest

__all__ = ["sculpting"]

Floats = NDArray[np.float64]


def sculpting(
    scores: Path,
    shards: Path,
    *,
    settings: SculptingSettings,
    seed: int,
    blinded: bool,
    card: Mapping[str, Any] | None = None,
    maps: Path | None = None,
) -> dict[str, Any]:
    """What a cut on the score does to the masses of background, in one region.

    Args:
        scores: `manifest.json` of scores/<region>/<model>.
        shards: `manifest.json` of shards/<region>.
        settings: cuts, bins, pseudo-experiments.
        seed: of everything that is drawn.
        blinded: collision data are not looked at; bumps are hunted in events drawn from the background.
        card: of the model: what was trained on data is not hunted in.
        maps: where the decorrelation is written, OUTPUT/decorrelation/<region>.json; nowhere by default.

    Returns:
        The region's entry of sculpting.json: `masses` (bins, uncut shapes), `cuts` by background efficiency (score,
        `shapes` by mass with distances, `hunt`), `decorrelation` by mass (its distances and its cost per signal).

    Raises:
        InputError: a manifest is missing or foreign, or there is no background.
        FailureError: a shard is missing or damaged, or scores and shards are of different events.
    """
    manifest = read_manifest(scores, stage="score")
    read_manifest(shards)
    searched = left_for_search(card or {})
    events = {
        dataset: read_masses(scores, manifest, shards, dataset, searched=searched)
        for dataset, facts in sorted(manifest["datasets"].items())
        if not (blinded and facts["kind"] == "data")
    }
    kinds = {dataset: manifest["datasets"][dataset]["kind"] for dataset in events}
    parts = {
        kind: [events[name] for name in events if kinds[name] == kind] for kind in ("background", "data")
    }
    background = ScoredEvents.join([part.used for part in parts["background"]])
    if not len(background.weight) or not background.weight.sum() > 0:
        msg = f"the scores in {scores} hold no background: no shape can be compared"
        raise InputError(msg)
    data = ScoredEvents.join([part.used for part in parts["data"]]) if parts["data"] else None
    rng = np.random.default_rng(seed)
    masses: list[str] = [name for name in MASSES if name in background.columns]
    cuts: dict[str, Cut] = {
        key: Cut.at(EFFICIENCIES[key], background.columns["score"], background)
        for key in settings.efficiencies
    }
    shape = ShapeComparison.of(background, masses, bins=settings.shape_bins, replicas=settings.toys, rng=rng)
    signals = {name: part.used for name, part in events.items() if kinds[name] == "signal"}
    result = {
        "complete": manifest.get("complete", True),
        "model": manifest["model"],
        "observed": "collision data" if data is not None else "background-only pseudo-data",
        "blinded": blinded,
        "seed": seed,
        "toys": settings.toys,
        "background": background.summary(),
        "masses": {name: shape.uncut(name) for name in masses},
        "cuts": {
            key: cut.to_dict()
            | {"shapes": {name: shape(name, cut) for name in masses}}
            | {"hunt": _hunt(cut, background, data, masses, settings, rng)}
            for key, cut in cuts.items()
        },
        "decorrelation": {},
    }
    if settings.decorrelate:
        fitted = ScoredEvents.join([part.fitted for part in parts["background"]])
        found = _fitted(masses, fitted, settings)
        result["decorrelation"] = {
            name: _decorrelated(found[name], background, signals, cuts, shape, manifest["datasets"])
            for name in found
        }
        if maps is not None:
            save_decorrelations(maps, found, region=manifest["region"], model=manifest["model"])
    return result


def _hunt(
    cut: Cut,
    background: ScoredEvents,
    data: ScoredEvents | None,
    masses: Sequence[str],
    settings: SculptingSettings,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Bumps in the masses of what passes a cut."""
    nothing: dict[str, Any] = {"masses": {}, "global_p": None, "events": None, "unsupported": True}
    if cut.n_eff < MIN_EFFECTIVE:
        return nothing
    passes = cut.passing > 0
    weight = (background.weight * cut.passing)[passes]
    simulated = {name: background.columns[name][passes] for name in masses}
    found = {
        name: mass_bins(
            simulated[name], weight, resolution=settings.resolution, fewest=settings.fewest_simulated
        )
        for name in masses
    }
    bins = {name: binning for name, binning in found.items() if binning is not None}
    observed = None
    if data is not None:
        seen = data.columns["score"] >= cut.value
        observed = {name: data.columns[name][seen] for name in masses}
    if not bins:
        return nothing
    hunts, over_all = hunt_bumps(
        simulated,
        weight,
        _without_signs(background)[passes] * cut.passing[passes],
        observed,
        bins,
        expected_events=float(weight.sum()),
        toys=settings.toys,
        rng=rng,
    )
    if not hunts:
        return nothing
    return {
        "masses": {name: hunt.to_dict() for name, hunt in hunts.items()},
        "global_p": over_all,
        "events": float(next(iter(hunts.values())).observed.sum()),
        "expected_events": float(weight.sum()),
        "unsupported": False,
    }


def _without_signs(events: ScoredEvents) -> Floats:
    """Weights |w| Σw/Σ|w| of each dataset: every process keeps its share, none is negative."""
    index = events.strata.index
    sumw, sumabs = (
        np.bincount(index, weights=w, minlength=len(events.rows))
        for w in (events.weight, np.abs(events.weight))
    )
    ratio = np.divide(np.maximum(sumw, 0.0), sumabs, out=np.zeros_like(sumw), where=sumabs > 0)
    return np.abs(events.weight) * ratio[index]


def _fitted(
    masses: Sequence[str], fitted: ScoredEvents, settings: SculptingSettings
) -> dict[str, Decorrelation]:
    return {
        name: Decorrelation.fit(
            name, fitted.columns[name], fitted.columns["score"], fitted.weight, bins=settings.mass_bins
        )
        for name in masses
    }


def _decorrelated(
    made: Decorrelation,
    background: ScoredEvents,
    signals: Mapping[str, ScoredEvents],
    cuts: Mapping[str, Cut],
    shape: ShapeComparison,
    datasets: Mapping[str, Any],
) -> dict[str, Any]:
    """Shapes behind cuts on the score decorrelated from one mass, and what it costs each signal."""
    mass = made.mass
    score = made(background.columns["score"], background.columns[mass])
    after = {key: Cut.at(EFFICIENCIES[key], score, background) for key in cuts}
    costs = {}
    for name, signal in signals.items():
        if not signal.weight.sum() > 0:
            continue
        own = made(signal.columns["score"], signal.columns[mass])
        facts = {entry: datasets[name].get(entry) for entry in ("process", "label", "group")}
        costs[name] = facts | _cost(
            background,
            (background.columns["score"], score),
            signal,
            (signal.columns["score"], own),
            (cuts, after),
        )
    return {
        "bins": len(made.centres),
        "cuts": {key: cut.to_dict() | {"shape": shape(mass, cut)} for key, cut in after.items()},
        "cost": costs,
    }


def _cost(
    background: ScoredEvents,
    scores: tuple[Floats, Floats],
    signal: ScoredEvents,
    signal_scores: tuple[Floats, Floats],
    cuts: tuple[Mapping[str, Cut], Mapping[str, Cut]],
) -> dict[str, Any]:
    """AUC and signal efficiencies before and after, with errors of their differences on the same events."""
    weight, strata = background.weight, background.strata
    areas = [
        auc(score, weight, own, signal.weight, strata)
        for score, own in zip(scores, signal_scores, strict=True)
    ]
    below, above = (
        second - first
        for first, second in zip(
            *(
                placements(score, weight, own, signal.weight)
                for score, own in zip(scores, signal_scores, strict=True)
            ),
            strict=True,
        )
    )
    entry: dict[str, Any] = {
        "auc": _difference(
            areas, float(np.hypot(share_error(below, signal.weight), share_error(above, weight, strata)))
        ),
        "eps_s": {},
    }
    for key in cuts[0]:
        pair = [at[key] for at in cuts]
        if min(cut.n_eff for cut in pair) < MIN_EFFECTIVE:
            entry["eps_s"][key] = {"before": None, "after": None, "difference": None, "unsupported": True}
            continue
        passed = [(own > cut.value).astype(np.float64) for own, cut in zip(signal_scores, pair, strict=True)]
        values: list[tuple[float, float]] = []
        steps: list[float] = []
        for passing, own, score, cut in zip(passed, signal_scores, scores, pair, strict=True):
            step = _slope_error(own, score, cut, signal.weight, weight, EFFICIENCIES[key])
            steps.append(step)
            value = min(max(float(signal.weight @ passing) / float(signal.weight.sum()), 0.0), 1.0)
            # An efficiency of 1 has no error but that of rounding.
            values.append((value, round(float(np.hypot(share_error(passing, signal.weight), step)), 12)))
        error = float(
            np.hypot(share_error(passed[1] - passed[0], signal.weight), np.hypot(steps[0], steps[1]))
        )
        entry["eps_s"][key] = _difference(values, error)
    return entry


def _difference(pair: Sequence[tuple[float, float]], error: float) -> dict[str, Any]:
    """Value and error before and after, and their difference."""
    (before, before_error), (after, after_error) = pair
    return {
        "before": {"value": before, "error": before_error},
        "after": {"value": after, "error": after_error},
        "difference": {"value": after - before, "error": error},
    }


def _slope_error(
    own: Floats, score: Floats, cut: Cut, signal_weight: Floats, weight: Floats, efficiency: float
) -> float:
    """Error of a signal efficiency by that of the cut, which background fixes only to within its own."""
    tail = UpperTail.of(score, weight)
    loose, tight = (tail.at(min(max(efficiency + sign * cut.error, 0.0), 1.0))[0] for sign in (1, -1))
    between = (own > loose) & (own <= tight)
    return float(signal_weight[between].sum()) / float(signal_weight.sum()) / 2
