"""False alarms are counted: pseudo-experiments without a signal, with a known one, and with a hidden one.

Nothing here reads collision data. Held-out background is divided by a hash of the events' identity:

- one half fixes the cuts on the score at the stated background efficiencies, and from it the global p is calibrated;
- the other is the truth of all pseudo-experiments. Each draws from it pseudo-data at the luminosity of the sample,
  and, independently of these, the simulation that it believes: a sample with the statistics of this half.

So the rate of false alarms contains the statistical error of the simulation, which is not the same in two
pseudo-experiments, and it is measured on other events than those that the global p comes from. Pseudo-data drawn
from the events of one fixed half would be compared with one fixed fluctuation of the other again and again.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import InputError
from models.efficiency import EFFICIENCIES, MIN_EFFECTIVE, UpperTail, effective_events
from models.settings import AlarmSettings
from models.studies.counting import Calibration, Expectation, Search, significance_of
from models.studies.injection import blind_mix, inject
from models.studies.scored import ScoredEvents, read_scored
from processors.shards import read_manifest
from processors.split import identity_hash

__all__ = ["pseudo_experiments"]

Floats = NDArray[np.float64]
_IDENTITY = ("channelNumber", "runNumber", "eventNumber")
_HALF_SALT = 0x0FA15EA1A4  # the halves must not follow the split into training and test
_CONFIDENCE = 0.999  # of the binomial interval that a claimed rate has to be in
_CURVE = 121  # points of drawn curves
# Effective events, by squared weight, behind the error of an expectation. Few heavy events among many light ones may
# all be missing in one pseudo-experiment, and with them the error: how often depends on how many there are, which the
# two halves then disagree on. With 2 to 4 of them the claimed 0.0027 was up to 0.012; from 5 on it holds.
_BEHIND_ERROR = 5.0


def pseudo_experiments(
    scores: Path,
    *,
    settings: AlarmSettings,
    seed: int,
    score: str = "score",
    record: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Rate of false alarms, significance found of injected signals, and a blind mix, in one region.

    Args:
        scores: `manifest.json` of scores/<region>/<model>.
        settings: how many pseudo-experiments, and of which kind.
        seed: of the division in halves and of all that is drawn.
        score: the column that is cut on.
        record: is given the verdict on the blind mix before its envelope is opened, to write it down.

    Returns:
        The region's entry of alarms.json: `cuts` by background efficiency, `calibration`, `false_positives`,
        `injection` by signal and `blind_mix`. Where fewer than ten effective events of either half are above a cut,
        or fewer than five behind their statistical error, its numbers are null and it is marked "unsupported"; where
        that holds for all cuts, so is the region.

    Raises:
        InputError: the manifest is missing or foreign, or holds no held-out background or not the signals that
            were asked for.
        FailureError: a shard of scores is missing or differs from the manifest.
    """
    manifest = read_manifest(scores, stage="score")
    datasets = dict(sorted(manifest["datasets"].items()))
    backgrounds = [name for name, facts in datasets.items() if facts["kind"] == "background"]
    background = ScoredEvents.join(
        [read_scored(Path(scores), manifest, name, [score, *_IDENTITY]) for name in backgrounds]
    )
    if not background.weight.sum() > 0:
        msg = f"the scores in {scores} hold no background of the test split: run score with background simulation"
        raise InputError(msg)
    region = str(manifest["region"])
    streams = np.random.SeedSequence([seed % 2**64, crc32(region.encode())]).spawn(4)
    calibrating, counting, injecting, mixing = (np.random.default_rng(stream) for stream in streams)
    halves = _halves(background, seed)
    cuts = _cuts(background, halves, score)
    supported = {name: cut["cut"] for name, cut in cuts.items() if not cut.get("unsupported")}
    result: dict[str, Any] = {
        "complete": manifest.get("complete", True),
        "model": manifest["model"],
        "score": score,
        "lumi_pb": manifest.get("lumi_pb"),
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "halves": {name: _summary(background, half) for name, half in halves.items()},
        "cuts": cuts,
    }
    if not supported:
        return result | {"unsupported": True}
    limits = list(supported.values())
    simulated, truth = (
        _expectation(background, score, limits, factor=2.0, chosen=half) for half in halves.values()
    )
    systematic = settings.systematic
    calibration = Calibration.of(simulated, calibrating, settings.calibration_toys, systematic=systematic)
    search = Search(list(supported), truth, calibration, settings)
    wanted = _signals(datasets, settings.signals)
    signals = {
        name: _expectation(read_scored(Path(scores), manifest, name, [score]), score, limits)
        for name in wanted
    }
    false_positives = _false_positives(search, counting)
    smallest = false_positives.pop("smallest")
    return result | {
        "calibration": _calibration(search, smallest),
        "false_positives": false_positives,
        "injection": {
            name: _facts(datasets[name]) | inject(search, signal, injecting)
            for name, signal in signals.items()
        },
        "blind_mix": blind_mix(search, signals, mixing, record),
    }


def _signals(datasets: Mapping[str, Any], wanted: tuple[str, ...]) -> list[str]:
    """Signal datasets, all or those that are named themselves or by their family."""
    known = {name: facts["group"] for name, facts in datasets.items() if facts["kind"] == "signal"}
    foreign = set(wanted) - {*known, *known.values()}
    if foreign:
        msg = f"no signals {sorted(foreign)} to inject; there are {sorted({*known, *known.values()})}"
        raise InputError(msg)
    return [name for name, family in known.items() if not wanted or {name, family} & set(wanted)]


def _facts(dataset: Mapping[str, Any]) -> dict[str, Any]:
    return {key: dataset.get(key) for key in ("group", "label", "process")}


def _halves(background: ScoredEvents, seed: int) -> dict[str, NDArray[np.bool_]]:
    """Which events calibrate, and which are the truth of pseudo-experiments: by one bit of their hash."""
    number = identity_hash(*(background.columns[name] for name in _IDENTITY), seed=seed ^ _HALF_SALT)
    second = (number >> np.uint64(63)).astype(bool)
    return {"calibration": ~second, "truth": second}


def _summary(background: ScoredEvents, half: NDArray[np.bool_]) -> dict[str, Any]:
    weight = 2.0 * background.weight[half]
    return {"n": len(weight), "sumw": float(weight.sum()), "n_eff": effective_events(weight)}


def _cuts(
    background: ScoredEvents, halves: Mapping[str, NDArray[np.bool_]], score: str
) -> dict[str, dict[str, Any]]:
    """Cuts at the stated background efficiencies of the first half, and what both halves expect above them.

    A half stands for all by twice its weights, not by the known sum of weights of each sample: then its sums are
    those of Poisson counts, whose error is what the test takes it for.
    """
    calibrating, truth = halves.values()
    values = background.columns[score]
    tail = UpperTail.of(values[calibrating], background.weight[calibrating])
    cuts: dict[str, dict[str, Any]] = {}
    inner = np.zeros(2)  # expected events of both halves in the next tighter region
    for name, efficiency in sorted(EFFICIENCIES.items(), key=lambda item: item[1]):
        cut = tail.at(efficiency)[0] if tail.total > 0 else np.inf
        sums = [2.0 * background.weight[half & (values >= cut)] for half in (calibrating, truth)]
        n_eff = [effective_events(weight) for weight in sums]
        behind_error = [effective_events(weight**2) for weight in sums]
        events = np.array([weight.sum() for weight in sums])
        few = min(n_eff) < MIN_EFFECTIVE or min(behind_error) < _BEHIND_ERROR
        facts: dict[str, Any] = {"n_eff": n_eff, "n_eff_of_error": behind_error}
        if few or (events <= inner).any():
            # A region with no more than the next tighter one tests nothing else.
            cuts[name] = facts | {"cut": None, "events": None, "error": None, "unsupported": True}
            continue
        inner = events
        error = np.sqrt([np.sum(weight**2) for weight in sums])
        cuts[name] = facts | {
            "cut": cut,
            "events": events.tolist(),
            "error": error.tolist(),
            "pull": float((events[1] - events[0]) / np.hypot(*error)),
        }
    return dict(reversed(cuts.items()))


def _expectation(
    events: ScoredEvents,
    score: str,
    cuts: list[float],
    *,
    factor: float = 1.0,
    chosen: NDArray[np.bool_] | slice = slice(None),
) -> Expectation:
    inside = np.searchsorted(np.array(cuts), events.columns[score][chosen], side="right")
    return Expectation.of(
        factor * events.weight[chosen], inside, events.strata.index[chosen], number=len(cuts)
    )


def _rate(passing: int, toys: int, claimed: float) -> dict[str, Any]:
    """Measured rate with its binomial interval (Clopper and Pearson), and whether the claimed one is inside."""
    from scipy.stats import binomtest  # noqa: PLC0415 - only this stage needs it

    low, high = binomtest(passing, toys).proportion_ci(_CONFIDENCE)
    return {
        "passing": passing,
        "rate": passing / toys,
        "low": float(low),
        "high": float(high),
        "inside": bool(low <= claimed <= high),
    }


def _false_positives(search: Search, rng: np.random.Generator) -> dict[str, Any]:
    """How often background alone gives a global p below the claimed rates, and a local one."""
    from scipy.stats import binom  # noqa: PLC0415 - only this stage needs it

    toys = search.settings.toys
    smallest = search.experiments(rng, toys)[-1].min(axis=1)
    p = search.calibration.global_p(smallest)
    grid = np.geomspace(1.0 / toys, 1.0, _CURVE)
    band = binom.ppf([[(1 - _CONFIDENCE) / 2], [(1 + _CONFIDENCE) / 2]], toys, grid) / toys
    return {
        "toys": toys,
        "confidence": _CONFIDENCE,
        "levels": [
            {"claimed": level}
            | _rate(int(np.sum(p < level)), toys, level)
            | {"uncorrected": _rate(int(np.sum(smallest < level)), toys, level)}
            for level in search.settings.levels
        ],
        "curve": {
            "claimed": grid.tolist(),
            "global": [float(np.mean(p < level)) for level in grid],
            "local": [float(np.mean(smallest < level)) for level in grid],
            "low": band[0].tolist(),
            "high": band[1].tolist(),
        },
        "smallest": smallest,
    }


def _calibration(search: Search, smallest: Floats) -> dict[str, Any]:
    """The way from the smallest local p to the global one, and both ensembles' largest significances."""
    calibration = search.calibration
    local = np.geomspace(max(calibration.smallest[0], 1e-12), 1.0, _CURVE)
    edges = np.linspace(-2.0, 5.0, 36)
    # What lies beyond is counted in the outermost bins.
    found = [
        np.histogram(np.clip(significance_of(p), edges[0], edges[-1]), edges)[0].tolist()
        for p in (calibration.smallest, smallest)
    ]
    return {
        "toys": calibration.toys,
        "local_p": local.tolist(),
        "global_p": calibration.global_p(local).tolist(),
        "largest_significance": {
            "edges": edges.tolist(),
            "calibration": found[0],
            "pseudo_experiments": found[1],
        },
    }
