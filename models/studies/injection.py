"""Known and hidden signals in pseudo-data: is the significance found that is expected, is a blind mix seen through?"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.studies.counting import Expectation, Search, significance_of, upper_limit_of_p
from models.studies.significance import asimov_significance

__all__ = ["Envelope", "blind_mix", "inject"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
_FIXES_REGION = 3.0  # expected significance at which the region of a signal is chosen
_BANDS = {"low95": 0.025, "low68": 0.16, "median": 0.5, "high68": 0.84, "high95": 0.975}


def _strength(wanted: float, signal: float, events: float, variance: float) -> float:
    """Signal strength that gives an expected significance; infinite where no strength does."""
    from scipy.optimize import brentq  # noqa: PLC0415 - only this stage needs it

    if wanted <= 0:
        return 0.0
    if signal <= 0:
        return float("inf")
    error = float(np.sqrt(variance))

    def missing(strength: float) -> float:
        return wanted - float(asimov_significance(strength * signal, events, error))

    high = wanted * float(np.sqrt(events + variance)) / signal  # where s is small
    while missing(high) > 0:
        high *= 2.0
    return float(brentq(missing, 1e-3 * high, high))


def _best_region(search: Search, signal: Expectation) -> tuple[int, Callable[[float], float]] | None:
    """The region in which the least of a signal is expected to be seen, and strength by expected significance."""
    truth = search.truth
    variance = truth.variance + (search.settings.systematic * truth.events) ** 2
    regions = list(zip(np.cumsum(signal.bins[::-1])[::-1], truth.events, variance, strict=True))
    needed = [_strength(_FIXES_REGION, *region) for region in regions]
    best = int(np.argmin(needed))
    if not np.isfinite(needed[best]):
        return None
    return best, lambda wanted: _strength(wanted, *regions[best])


def _band(z: Floats) -> dict[str, float]:
    """Median and bands; the error of the median from the order of the values, whatever their distribution is."""
    quantiles = np.quantile(z, list(_BANDS.values()))
    half = 0.5 / np.sqrt(len(z))
    low, high = np.quantile(z, [max(0.5 - half, 0.0), min(0.5 + half, 1.0)])
    return dict(zip(_BANDS, quantiles.tolist(), strict=True)) | {"error": float(high - low) / 2}


def inject(search: Search, signal: Expectation, rng: np.random.Generator) -> dict[str, Any]:
    """Significance found of a signal that is injected with so much strength that so much is expected."""
    chosen = _best_region(search, signal)
    if chosen is None:
        return {"region": None, "injected": [], "unsupported": True}
    region, strength_for = chosen
    calibration, entries = search.calibration, []
    for wanted in search.settings.injected:
        strength = strength_for(wanted)
        p = search.experiments(rng, search.settings.toys, strength * signal.bins)[-1]
        global_p = calibration.global_p(p.min(axis=1))
        local = _band(significance_of(p[:, region]))
        found = float(np.mean(global_p < search.alarm))
        entries.append(
            {
                "expected": wanted,
                "strength": strength,
                "events": strength * float(signal.bins[region:].sum()),
                "local": local,
                "bias": local["median"] - wanted,
                "global": _band(significance_of(upper_limit_of_p(global_p, calibration.toys)))
                | {"limited": bool(np.median(global_p) == 0)},
                "found": found,
                "found_error": float(np.sqrt(found * (1 - found) / len(global_p))),
            }
        )
    return {"region": search.names[region], "injected": entries}


class Envelope:
    """What is hidden in a blind mix; it opens only against a verdict.

    Args:
        content: what is hidden, plain JSON types.
        rng: makes the number that keeps the digest from being guessed.
    """

    def __init__(self, content: Mapping[str, Any], rng: np.random.Generator) -> None:
        self._content = dict(content) | {"nonce": rng.bytes(16).hex()}

    @property
    def digest(self) -> str:
        """SHA-256 of the content, which can be published before the envelope is opened."""
        return _digest(self._content)

    def open(self, verdict: Mapping[str, Any]) -> dict[str, Any]:
        """The content, against the verdict of a search on the mix that has this digest.

        Raises:
            ValueError: the verdict says nothing, or is on another mix.
        """
        if not isinstance(verdict.get("found"), bool) or verdict.get("envelope_sha256") != self.digest:
            msg = "an envelope opens only against a verdict, found or not, on its own mix"
            raise ValueError(msg)
        return dict(self._content)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def blind_mix(
    search: Search,
    signals: Mapping[str, Expectation],
    rng: np.random.Generator,
    record: Callable[[dict[str, Any]], None] | None,
) -> dict[str, Any] | None:
    """A signal that the seed chooses, with a strength that it chooses, and what the search says of it.

    The verdict is fixed, and recorded, before the envelope is opened.
    """
    known = {
        name: best for name, signal in signals.items() if (best := _best_region(search, signal)) is not None
    }
    if not known:
        return None
    name = str(rng.choice(sorted(known)))
    expected = float(rng.choice(search.settings.injected))
    region, strength_for = known[name]
    strength = strength_for(expected)
    hidden = Envelope(
        {
            "signal": name if strength > 0 else None,
            "expected": expected,
            "strength": strength,
            "region": search.names[region],
        },
        rng,
    )
    mix = search.experiments(rng, 1, strength * signals[name].bins)
    verdict = _verdict(search, *(numbers[0] for numbers in mix)) | {"envelope_sha256": hidden.digest}
    logger.info("blind mix: %s", "something was found" if verdict["found"] else "nothing was found")
    if record is not None:
        record(verdict)
    content = hidden.open(verdict)
    outcomes = {
        (True, True): "found",
        (True, False): "missed",
        (False, True): "false alarm",
        (False, False): "rightly silent",
    }
    outcome = outcomes[content["signal"] is not None, verdict["found"]]
    return {"verdict": verdict, "envelope": content, "outcome": outcome}


def _verdict(search: Search, count: Floats, events: Floats, variance: Floats, p: Floats) -> dict[str, Any]:
    """What the search says of one set of counts, from them and from what it believes alone."""
    global_p = float(search.calibration.global_p(p.min()))
    toys = search.calibration.toys
    return {
        "found": global_p < search.alarm,
        "alarm": search.alarm,
        "global_p": global_p or None,  # none of the pseudo-experiments: less than 1/global_toys
        "global_toys": toys,
        "global_significance": float(significance_of(upper_limit_of_p(global_p, toys))),
        "region": search.names[int(np.argmin(p))],
        "counts": {
            name: {
                "count": int(n),
                "events": float(b),
                "error": float(np.sqrt(v)),
                "local_p": float(local),
                "local_significance": float(significance_of(local)),
            }
            for name, n, b, v, local in zip(search.names, count, events, variance, p, strict=True)
        },
    }
