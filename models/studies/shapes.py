"""Shapes of masses before and after a cut, the distance between them, and what it would be by chance.

The distance is the Jensen-Shannon divergence in bits: 0 for equal shapes, 1 where they do not overlap (J. Lin, IEEE
Trans. Inf. Theory 37 (1991) 145). A finite sample has a distance from its own parent; what a cut has that knows
nothing of the mass is found by giving the events that pass, with their weights, masses drawn from the uncut
background.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.efficiency import MIN_EFFECTIVE, UpperTail, share_error
from models.studies.bumps import Binning, counted, mass_bins
from models.studies.scored import ScoredEvents

__all__ = ["Cut", "ShapeComparison", "divergence", "equal_parts", "histogram"]

Floats = NDArray[np.float64]

_WEIGHT_CLASSES: Final = 32
_DRAWN_WIDTH: Final = 0.08  # relative width of the finest bins that are drawn
_DRAWN_EVENTS: Final = 25.0  # effective events in each of them before a cut
_CHANGED: Final = 0.01  # probability below which a distance is not ascribed to chance


def divergence(first: ArrayLike, second: ArrayLike) -> Floats:
    """Jensen-Shannon divergence of histograms [bits], shape (...).

    Args:
        first: contents, shape (..., b); negative ones count as none, sums do not matter.
        second: likewise.
    """
    p, q = (np.maximum(np.asarray(part, dtype=np.float64), 0.0) for part in (first, second))
    p, q = (part / np.maximum(part.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny) for part in (p, q))
    middle = (p + q) / 2
    terms = (
        part * np.log2(np.divide(part, middle, out=np.ones_like(middle), where=part > 0)) for part in (p, q)
    )
    total: Floats = np.maximum(sum(term.sum(axis=-1) for term in terms) / 2, 0.0)
    return total


@dataclass(frozen=True)
class Cut:
    """Background behind a cut with a given efficiency."""

    value: float
    passing: Floats  # part of each event that passes: 1, 0, and between at exactly the score of the cut
    error: float
    n_eff: float

    @classmethod
    def at(cls, efficiency: float, score: Floats, events: ScoredEvents) -> "Cut":
        """The cut on a score with a given efficiency of background."""
        tail = UpperTail.of(score, events.weight)
        value, part, _ = tail.at(efficiency)
        passing = np.where(score > value, 1.0, np.where(score == value, part, 0.0))
        error = share_error(passing, events.weight, events.strata)
        return cls(value, passing, error, tail.effective_above(efficiency))

    def to_dict(self) -> dict[str, Any]:
        """In plain JSON types."""
        return {
            "score": self.value,
            "efficiency_error": self.error,
            "n_eff": self.n_eff,
            "n": int((self.passing > 0).sum()),
            "unsupported": self.n_eff < MIN_EFFECTIVE,
        }


@dataclass(frozen=True)
class _Counts:
    """Events of one sample by class of weight and bin: enough to draw other samples like it."""

    weight: Floats  # (classes,)
    events: NDArray[np.int64]  # (classes, bins)

    @classmethod
    def of(cls, weight: Floats, place: NDArray[np.intp], bins: int) -> "_Counts":
        used = weight != 0
        weight, place = weight[used], place[used]
        if not len(weight):
            return cls(np.zeros(1), np.zeros((1, bins), dtype=np.int64))
        values, index = np.unique(weight, return_inverse=True)
        if len(values) > _WEIGHT_CLASSES:
            edges = np.unique(np.quantile(weight, np.linspace(0, 1, _WEIGHT_CLASSES + 1)[1:-1]))
            index = np.searchsorted(edges, weight, side="right")
        classes = int(index.max()) + 1
        number = np.bincount(index, minlength=classes)
        mean = np.bincount(index, weights=weight, minlength=classes) / np.maximum(number, 1)
        events = np.bincount(index * bins + place, minlength=classes * bins).reshape(classes, bins)
        return cls(mean, events)

    def repeated(self, replicas: int, rng: np.random.Generator) -> Floats:
        """Histograms of bootstrapped samples, (replicas, bins): each event any number of times, once on average."""
        total = np.zeros((replicas, self.events.shape[1]))
        for weight, events in self._filled():
            total += weight * rng.poisson(events, size=total.shape)
        return total

    def shuffled(self, share: Floats, replicas: int, rng: np.random.Generator) -> Floats:
        """Histograms of as many events of the same weights, with bins drawn by their share, (replicas, bins)."""
        total = np.zeros((replicas, self.events.shape[1]))
        for weight, events in self._filled():
            total += weight * rng.multinomial(int(events.sum()), share, size=replicas)
        return total

    def _filled(self) -> list[tuple[float, NDArray[np.int64]]]:
        return [
            (float(weight), events)
            for weight, events in zip(self.weight, self.events, strict=True)
            if events.any()
        ]


def equal_parts(mass: Floats, weight: Floats, bins: int) -> Binning:
    """Bins that hold equal parts of the background."""
    tail = UpperTail.of(mass, weight)
    inner = [tail.at(1 - i / bins)[0] for i in range(1, bins)]
    return Binning(np.unique([float(mass.min()), *inner, float(mass.max())]))


@dataclass(frozen=True)
class ShapeComparison:
    """Shapes of background behind cuts.

    Attributes:
        events: of the background.
        bins: in which distances are measured, by mass.
        drawn: in which shapes are drawn: finer where there are events enough.
        replicas: of samples that are drawn for the error and for chance.
        rng: source of random numbers.
    """

    events: ScoredEvents
    bins: Mapping[str, Binning]
    drawn: Mapping[str, Binning]
    replicas: int
    rng: np.random.Generator

    @classmethod
    def of(
        cls,
        events: ScoredEvents,
        masses: Sequence[str],
        *,
        bins: int,
        replicas: int,
        rng: np.random.Generator,
    ) -> "ShapeComparison":
        """Compare in so many bins of equal parts of the events."""
        parts = {name: equal_parts(events.columns[name], events.weight, bins) for name in masses}
        drawn = {
            name: mass_bins(
                events.columns[name], events.weight, resolution=_DRAWN_WIDTH, fewest=_DRAWN_EVENTS
            )
            or parts[name]
            for name in masses
        }
        return cls(events, parts, drawn, replicas, rng)

    def uncut(self, mass: str) -> dict[str, Any]:
        """Edges of the bins of a mass, and its shape before any cut."""
        binning = self.drawn[mass]
        return {
            "edges": self.bins[mass].edges.tolist(),
            "drawn": {"edges": binning.edges.tolist()}
            | histogram(binning.index(self.events.columns[mass]), len(binning), self.events.weight),
        }

    def __call__(self, mass: str, cut: Cut) -> dict[str, Any]:
        """The distance of the shape of one mass behind a cut to the uncut one, and what it would be by chance.

        Args:
            mass: its name.
            cut: which part of each event passes.

        Returns:
            `jsd` and its error, the median `expected` by chance with its central 95 % `band`, `p` of a distance as
            large by chance, the `verdict`, and the histogram that is `drawn`.
        """
        weight, bins = self.events.weight, len(self.bins[mass])
        place = self.bins[mass].index(self.events.columns[mass])
        replicas, rng = self.replicas, self.rng
        if cut.n_eff < MIN_EFFECTIVE:
            nothing = dict.fromkeys(("jsd", "jsd_error", "expected", "band", "p", "drawn"))
            return nothing | {"verdict": "unsupported", "unsupported": True}
        uncut = np.bincount(place, weights=weight, minlength=bins)
        passed = np.bincount(place, weights=weight * cut.passing, minlength=bins)
        behind, before = (_Counts.of(weight * part, place, bins) for part in (cut.passing, 1.0 - cut.passing))
        value = float(divergence(passed, uncut))
        above = behind.repeated(replicas, rng)
        below = before.repeated(replicas, rng)
        error = float(np.std(divergence(above, above + below)))
        parent = np.maximum(uncut, 0.0) / np.maximum(uncut, 0.0).sum()
        chance_above = behind.shuffled(parent, replicas, rng)
        chance = divergence(chance_above, chance_above + before.shuffled(parent, replicas, rng))
        larger = int((chance >= value).sum())
        return {
            "jsd": value,
            "jsd_error": error,
            "expected": float(np.median(chance)),
            "band": [float(q) for q in np.quantile(chance, [0.025, 0.975])],
            "p": counted(larger, replicas),
            "drawn": histogram(
                self.drawn[mass].index(self.events.columns[mass]), len(self.drawn[mass]), weight, cut.passing
            ),
            "verdict": "within noise" if larger / replicas >= _CHANGED else "changed",
        }


def histogram(
    place: NDArray[np.intp], bins: int, weight: Floats, passing: Floats | None = None
) -> dict[str, Any]:
    """Shape of what passes a cut, and its ratio to that of all: the cut's efficiency in each bin over that of all.

    Args:
        place: bin of each event, (n,).
        bins: how many there are.
        weight: of each event, (n,).
        passing: part of each event that passes, (n,); None for no cut.

    Returns:
        `share` of each bin with `error`; with a cut `ratio` with `ratio_error`, binomial for weighted events.
    """
    kept = weight if passing is None else weight * passing
    sumw, sumw2 = (np.bincount(place, weights=w, minlength=bins) for w in (kept, kept**2))
    total = float(kept.sum())
    found = {"share": (sumw / total).tolist(), "error": (np.sqrt(sumw2) / total).tolist()}
    if passing is None:
        return found
    uncut = np.bincount(place, weights=weight, minlength=bins)
    whole = np.where(uncut > 0, uncut, 1.0)
    efficiency = np.where(uncut > 0, sumw / whole, 0.0)
    variance = np.bincount(place, weights=(weight * (passing - efficiency[place])) ** 2, minlength=bins)
    mean = total / float(weight.sum())
    return found | {
        "ratio": (efficiency / mean).tolist(),
        "ratio_error": (np.sqrt(variance) / whole / mean).tolist(),
    }
