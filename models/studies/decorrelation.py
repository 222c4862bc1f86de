"""A score that is ordinary at every mass alike: its quantile among background of the same mass.

The score s of an event of mass m becomes s' = −log10 P_background(S ≥ s | m): 2 means one in a hundred of background
events of its mass. P is measured in bins of mass that share the background's weight equally, the outermost halved as
long as simulation allows (masses have long tails), and is interpolated between the weighted medians of the bins.
Beyond the last score that ten effective events support, tails fall exponentially. A cut on s' keeps the same part of
background at every mass, so it cannot make a bump (compare J. Dolen et al., JHEP 05 (2016) 156). It is fitted on
events that are not used to measure anything: background of the training and validation splits.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fileset.exceptions import FailureError, InputError
from models.efficiency import MIN_EFFECTIVE, UpperTail, effective_events

__all__ = ["Decorrelation", "load_decorrelations", "save_decorrelations"]

Floats = NDArray[np.float64]

_LEVELS: Final = np.arange(0.0, 6.01, 0.1)  # −log10 P at which the score of a bin is kept
_SLOPE_SPAN: Final = 5  # levels from which the slope of a tail is taken: half a decade
# Effective events in a bin of mass: ten of them above its quantile of one in ten. A tail with fewer is guessed, not
# measured, and the cut then falls elsewhere in each bin.
_FEWEST: Final = 100.0
_HALVINGS: Final = 6


@dataclass(frozen=True)
class Decorrelation:
    """The map from score and mass to the decorrelated score.

    Attributes:
        mass: name of the mass.
        centres: weighted median mass of each bin [GeV], rising, shape (k,).
        scores: score at each level of −log10 P, rising, shape (k, levels).
    """

    mass: str
    centres: Floats
    scores: Floats

    @classmethod
    def fit(cls, mass: str, values: ArrayLike, score: ArrayLike, weight: ArrayLike, *, bins: int) -> Self:
        """Measure the tails of background in bins of mass.

        Args:
            mass: name of the mass.
            values: masses [GeV], shape (n,).
            score: shape (n,).
            weight: shape (n,), may have signs.
            bins: of equal weight, at most; the outermost are halved further.

        Raises:
            InputError: there is not a single bin with enough background.
        """
        m, s, w = (np.asarray(part, dtype=np.float64) for part in (values, score, weight))
        edges = _bin_edges(m, w, max(1, min(bins, int(effective_events(w) / _FEWEST))))
        place = np.searchsorted(edges, m, side="right")
        found = []
        for k in range(len(edges) + 1):
            inside = place == k
            if effective_events(w[inside]) < MIN_EFFECTIVE or not w[inside].sum() > 0:
                continue
            centre = UpperTail.of(m[inside], w[inside]).at(0.5)[0]
            found.append((centre, _tail(s[inside], w[inside])))
        if not found:
            msg = f"too little background to decorrelate the score from {mass}: simulate more events"
            raise InputError(msg)
        centres = np.array([centre for centre, _ in found])
        order = np.argsort(centres, kind="stable")
        return cls(mass, centres[order], np.array([scores for _, scores in found])[order])

    def __call__(self, score: ArrayLike, mass: ArrayLike) -> Floats:
        """The decorrelated score of events, shape (n,): 0 for the least anomalous ones, 3 for one in a thousand."""
        s, m = np.asarray(score, dtype=np.float64), np.asarray(mass, dtype=np.float64)
        position = np.interp(m, self.centres, np.arange(len(self.centres), dtype=np.float64))
        lower = np.minimum(position.astype(np.intp), max(len(self.centres) - 2, 0))
        result = np.zeros(len(s))
        for k in np.unique(lower):
            here = lower == k
            part = position[here] - k
            upper = min(k + 1, len(self.centres) - 1)
            result[here] = (1 - part) * self._level(k, s[here]) + part * self._level(upper, s[here])
        return result

    def _level(self, k: int, score: Floats) -> Floats:
        """−log10 P(S ≥ score) in one bin, linear beyond the last level."""
        scores = self.scores[k]
        slope = (_LEVELS[-1] - _LEVELS[-2]) / (scores[-1] - scores[-2])
        level: Floats = np.interp(score, scores, _LEVELS) + slope * np.maximum(score - scores[-1], 0.0)
        return level

    def to_dict(self) -> dict[str, Any]:
        """In plain JSON types."""
        return {"mass": self.mass, "centres": self.centres.tolist(), "scores": self.scores.tolist()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """From what `to_dict` made.

        Raises:
            ValueError: the numbers are no such map.
        """
        centres, scores = (np.array(content[name], dtype=np.float64) for name in ("centres", "scores"))
        whole = scores.shape == (len(centres), len(_LEVELS)) and len(centres) > 0
        if not whole or (np.diff(centres) < 0).any() or (np.diff(scores, axis=1) <= 0).any():
            msg = "centres or scores do not rise"
            raise ValueError(msg)
        return cls(str(content["mass"]), centres, scores)


def _bin_edges(mass: Floats, weight: Floats, bins: int) -> Floats:
    """Inner edges of bins of equal weight, the outermost halved while both halves have enough simulated events."""
    tail = UpperTail.of(mass, weight)
    shares = [i / bins for i in range(1, bins)]
    for upper in (True, False):
        part = 1 / bins
        for _ in range(_HALVINGS):
            part /= 2
            share = part if upper else 1 - part
            edge = tail.at(share)[0]
            if effective_events(weight[mass >= edge if upper else mass < edge]) < _FEWEST:
                break
            shares.append(share)
    return np.unique([tail.at(share)[0] for share in shares])


def _tail(score: Floats, weight: Floats) -> Floats:
    """Score at each level of −log10 P, strictly rising."""
    tail = UpperTail.of(score, weight)
    supported = [level for level in _LEVELS if tail.effective_above(10.0**-level) >= MIN_EFFECTIVE]
    n = max(len(supported), 2)
    scores = np.array([tail.at(10.0**-level)[0] for level in _LEVELS[:n]])
    # Ties, where a step of the tail spans several levels, get a slope too small to matter.
    smallest = 1e-9 * max(float(np.ptp(score)), 1.0)
    scores = np.maximum.accumulate(scores) + smallest * np.arange(n)
    start = max(0, n - 1 - _SLOPE_SPAN)
    slope = (scores[-1] - scores[start]) / (_LEVELS[n - 1] - _LEVELS[start])
    return np.concatenate([scores, scores[-1] + slope * (_LEVELS[n:] - _LEVELS[n - 1])])


def save_decorrelations(path: Path, maps: Mapping[str, Decorrelation], *, region: str, model: str) -> None:
    """Write maps of one model by mass.

    Args:
        path: OUTPUT/decorrelation/<region>.json.
        maps: by name of the mass.
        region: of the events.
        model: whose score they are made for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": 1,
        "region": region,
        "model": model,
        "levels": [round(float(level), 6) for level in _LEVELS],
        "maps": {name: found.to_dict() for name, found in maps.items()},
    }
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def load_decorrelations(path: Path, *, model: str) -> dict[str, Decorrelation]:
    """Read the maps of one model.

    Args:
        path: what `save_decorrelations` wrote.
        model: whose scores are to be decorrelated.

    Raises:
        InputError: there is no such file, or it is for another model.
        FailureError: it is damaged.
    """
    if not path.is_file():
        msg = f"there is no {path}: run the stage sculpting first"
        raise InputError(msg)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        maps = {name: Decorrelation.from_dict(found) for name, found in content["maps"].items()}
        made_for = content["model"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} holds no decorrelation ({error}): run the stage sculpting again"
        raise FailureError(msg) from error
    if made_for != model:
        msg = f"{path} decorrelates the score of {made_for}, not of {model}: run the stage sculpting for it"
        raise InputError(msg)
    return maps
