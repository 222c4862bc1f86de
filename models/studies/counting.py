"""The statistical test of a search that cuts on a score and counts: local p and global p.

Above each of a few cuts events are counted and compared with what simulation expects. The expectation is a sum of
weights with a statistical error of its own: as much as if (sum w)^2/sum w^2 events of one weight had been counted in a
sample that is larger than the data by tau = sum w/sum w^2. Two Poisson counts whose means stand in a known ratio are
compared by the binomial test (Cousins, Linnemann and Tucker, NIM A 595 (2008) 480), which is the Poisson probability
averaged over a Gamma distribution of the mean, a negative binomial. The global p is the probability that background
alone gives the smallest local p of all cuts, from pseudo-experiments.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.settings import AlarmSettings

__all__ = [
    "Calibration",
    "Expectation",
    "Search",
    "draw_counts",
    "local_p",
    "significance_of",
    "upper_limit_of_p",
]

Floats = NDArray[np.float64]

LOWEST_SIGNIFICANCE = -3.0  # of a deficit, down to no event at all: p = 1 would be minus infinity
HIGHEST_SIGNIFICANCE = 37.0  # beyond it p is too small a number for double precision


@dataclass(frozen=True)
class Expectation:
    """What simulation expects in nested regions of falling size, as independent sums of equal weights.

    Events of one sample, one sign of the weight and one bin (in region r, not in r + 1) are stood for by a Poisson
    count times one weight with the same sum of weights and of their squares (Bohm and Zech, NIM A 748 (2014) 1).
    Samples have nearly equal weights in themselves.
    """

    bin: NDArray[np.int64]  # (k,), tightest region that the events are in
    scale: Floats  # (k,), weight of a count
    rate: Floats  # (k,), mean of the count
    regions: int

    @classmethod
    def of(cls, weight: ArrayLike, regions: ArrayLike, sample: ArrayLike, *, number: int) -> Self:
        """From events.

        Args:
            weight: shape (n,), may be negative.
            regions: in how many regions each event is, shape (n,).
            sample: index of the sample of each event, shape (n,).
            number: of regions.
        """
        signed, inside = np.asarray(weight, dtype=np.float64), np.asarray(regions)
        chosen = (inside > 0) & (signed != 0)
        signed, inside = signed[chosen], inside[chosen]
        kinds, index = np.unique(
            np.stack([inside - 1, np.asarray(sample)[chosen], signed > 0]).astype(np.int64),
            axis=1,
            return_inverse=True,
        )
        index = index.reshape(-1)
        sumw, sumw2 = (np.bincount(index, weights=x, minlength=kinds.shape[1]) for x in (signed, signed**2))
        return cls(kinds[0], sumw2 / sumw, sumw**2 / sumw2, number)

    @property
    def bins(self) -> Floats:
        """Expected events that are in region r and not in r + 1, shape (regions,); never negative."""
        return np.maximum(self._sums(self.scale * self.rate), 0.0)

    @property
    def events(self) -> Floats:
        """Expected events in each region, shape (regions,)."""
        return _nested(self._sums(self.scale * self.rate))

    @property
    def variance(self) -> Floats:
        """Statistical variance of `events`, shape (regions,)."""
        return _nested(self._sums(self.scale**2 * self.rate))

    def _sums(self, value: Floats) -> Floats:
        return np.bincount(self.bin, weights=value, minlength=self.regions).astype(np.float64)

    def simulate(
        self, rng: np.random.Generator, toys: int, *, systematic: float = 0.0
    ) -> tuple[Floats, Floats]:
        """What other samples of simulated events, as large as this one, would have expected.

        Args:
            rng: source of random numbers.
            toys: how many samples.
            systematic: relative error of the normalisation, common to all regions.

        Returns:
            Expected events and their statistical variances, each of shape (toys, regions).
        """
        sums = np.zeros((2, self.regions, toys))
        for place, scale, rate in zip(self.bin, self.scale, self.rate, strict=True):
            count = rng.poisson(rate, toys)
            sums[0, place] += scale * count
            sums[1, place] += scale**2 * count
        events, variance = _nested(sums.transpose(0, 2, 1))
        if systematic > 0:
            shift = rng.gamma(systematic**-2, systematic**2, toys)[:, np.newaxis]
            events, variance = events * shift, variance * shift**2
        return events, variance


def _nested(bins: Floats) -> Floats:
    """Sums over all tighter bins, along the last axis."""
    sums: Floats = np.cumsum(bins[..., ::-1], axis=-1)[..., ::-1]
    return sums


def draw_counts(rng: np.random.Generator, toys: int, bins: Floats) -> Floats:
    """Counts of pseudo-data in nested regions.

    Args:
        rng: source of random numbers.
        toys: how many.
        bins: expected events in region r and not in r + 1, shape (regions,).

    Returns:
        Shape (toys, regions).
    """
    return _nested(rng.poisson(bins, (toys, len(bins))).astype(np.float64))


def local_p(count: ArrayLike, events: ArrayLike, variance: ArrayLike, *, systematic: float = 0.0) -> Floats:
    """Probability of at least so many events from background whose expectation is known within its error.

    p = I_x(n, m + 1) with x = 1/(1 + tau), the regularised incomplete beta function: for a whole number m it is the
    binomial probability of n or more out of n + m (Cousins, Linnemann and Tucker, eq. 14), and the tail of a negative
    binomial. The background counts as m = b^2/V events in a sample tau = b/V times the data's size.

    Args:
        count: observed events n.
        events: expected background b; where it is not positive nothing can be tested, and p is 1.
        variance: statistical variance of b; 0 makes it the Poisson probability.
        systematic: relative error of b; adds (systematic * b)^2 to V.
    """
    from scipy import special  # noqa: PLC0415 - only this stage needs it

    n, b, v = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (count, events, variance)))
    v = v + (systematic * b) ** 2
    usable, exact = (n > 0) & (b > 0), v <= 0
    b, v = np.where(usable, b, 1.0), np.where(exact, 1.0, v)
    averaged = special.betainc(np.maximum(n, 1.0), b**2 / v + 1.0, v / (v + b))
    poisson = special.gammainc(np.maximum(n, 1.0), b)
    p: Floats = np.where(usable, np.where(exact, poisson, averaged), 1.0)
    return p


def significance_of(p: ArrayLike) -> Floats:
    """Standard deviations of a one-sided Gaussian tail with this probability, within what can be told apart."""
    from scipy import special  # noqa: PLC0415 - only this stage needs it

    z: Floats = -special.ndtri(np.asarray(p, dtype=np.float64))
    return np.clip(z, LOWEST_SIGNIFICANCE, HIGHEST_SIGNIFICANCE)


@dataclass(frozen=True)
class Calibration:
    """Smallest local p of pseudo-experiments without a signal, from which every global p is read."""

    smallest: Floats  # (toys,), rising

    @classmethod
    def of(
        cls,
        background: Expectation,
        rng: np.random.Generator,
        toys: int,
        *,
        systematic: float = 0.0,
    ) -> Self:
        """Draw pseudo-experiments from an expectation: of each the pseudo-data and the simulation."""
        p = local_p(
            draw_counts(rng, toys, background.bins),
            *background.simulate(rng, toys, systematic=systematic),
            systematic=systematic,
        )
        return cls(np.sort(p.min(axis=1)))

    @property
    def toys(self) -> int:
        """Number of pseudo-experiments."""
        return len(self.smallest)

    def global_p(self, smallest: ArrayLike) -> Floats:
        """Part of the pseudo-experiments with a local p as small as this; 0 means less than 1/`toys`."""
        passing = np.searchsorted(self.smallest, np.asarray(smallest), side="right")
        return passing / self.toys


def upper_limit_of_p(p: ArrayLike, toys: int) -> Floats:
    """A p from pseudo-experiments, or where none has passed what it is certainly below: 1/toys."""
    return np.maximum(np.asarray(p, dtype=np.float64), 1.0 / toys)


@dataclass(frozen=True)
class Search:
    """What is fixed before any pseudo-data are looked at."""

    names: list[str]  # of the regions, by background efficiency, from the loosest
    truth: Expectation  # that pseudo-experiments are drawn from
    calibration: Calibration
    settings: AlarmSettings

    def experiments(
        self, rng: np.random.Generator, toys: int, signal: Floats | float = 0.0
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Counts, expected background, its variance, and local p of pseudo-experiments, each (toys, regions)."""
        systematic = self.settings.systematic
        count = draw_counts(rng, toys, self.truth.bins + signal)
        events, variance = self.truth.simulate(rng, toys, systematic=systematic)
        return count, events, variance, local_p(count, events, variance, systematic=systematic)

    @property
    def alarm(self) -> float:
        """Global p below which the search says that it has found something."""
        return min(self.settings.levels)
