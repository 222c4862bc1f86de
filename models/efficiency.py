"""Areas, efficiencies and thresholds of weighted events, each with its statistical error.

Weights keep their signs: sums of signed weights are the unbiased estimates. A cumulative sum that falls where
negative weights gather is replaced by its running maximum, which the sum of all limits, before it is inverted.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "EFFICIENCIES",
    "MIN_EFFECTIVE",
    "Strata",
    "UpperTail",
    "auc",
    "effective_events",
    "placements",
    "rising_sums",
    "share_error",
]

EFFICIENCIES = {"1e-1": 1e-1, "1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}  # of background, with their JSON keys
MIN_EFFECTIVE = 10.0  # effective events above a cut, below which nothing is said about it


def effective_events(weight: ArrayLike) -> float:
    """(Σw)²/Σw², the number of unit-weight events with the same relative error."""
    weight = np.asarray(weight, dtype=np.float64)
    squares = float(np.sum(weight**2))
    return float(np.sum(weight)) ** 2 / squares if squares > 0 else 0.0


@dataclass(frozen=True)
class Strata:
    """The samples that some events are of; each has the sum of weights of more events than these.

    Held-out events stand for all events of their sample, to whose sum of weights theirs are scaled. What fluctuates is
    how the held-out events are distributed, and the sum of weights of all of them.
    """

    index: NDArray[np.int64]  # (n,), of the sample of each event
    sumw2: NDArray[np.float64]  # (m,), sum of squared weights of all events of each sample


def share_error(value: ArrayLike, weight: ArrayLike, strata: Strata | None = None) -> float:
    """Statistical error of the weighted mean Σwv/Σw, for instance of an efficiency (v is 0 or 1).

    Of one sample it is that of a ratio of sums, Σw²(v - mean)²/(Σw)²; v = 0 or 1 makes it the binomial error.
    Strata add to the error within each sample that of the share which each sample has: its own sum of weights.

    Args:
        value: v, shape (n,).
        weight: w, shape (n,), with strata scaled to the sums of weights of all events.
        strata: the samples, if the events stand for more than themselves.
    """
    v, w = np.asarray(value, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    total = float(np.sum(w))
    mean = float(w @ v) / total
    if strata is None:
        return float(np.sqrt(np.sum((w * (v - mean)) ** 2))) / abs(total)
    m = len(strata.sumw2)
    sumw, sumwv = (np.bincount(strata.index, weights=x, minlength=m) for x in (w, w * v))
    # A sample in which negative weights have won has no mean of its own.
    usable = sumw > 0
    own = np.where(usable, sumwv / np.where(usable, sumw, 1.0), mean)
    within = np.sum((w * (v - own[strata.index])) ** 2)
    between = np.sum((own - mean) ** 2 * strata.sumw2)
    return float(np.sqrt(within + between)) / abs(total)


def rising_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative sums of signed weights in a form that can be inverted: their running maximum, up to the last one.

    Args:
        sums: shape (n, ...), accumulated along the first axis; where the last is not positive nothing limits the
            maximum.
    """
    rising: NDArray[np.float64] = np.maximum.accumulate(sums, axis=0)
    if not len(sums):
        return rising
    return np.minimum(rising, np.where(sums[-1] > 0, sums[-1], np.inf))


@dataclass(frozen=True)
class UpperTail:
    """Σw and Σw² of events at or above each distinct score, from the highest score down."""

    score: NDArray[np.float64]  # (m,), falling
    sumw: NDArray[np.float64]  # (m,), rising (`rising_sums`)
    sumw2: NDArray[np.float64]  # (m,)

    @classmethod
    def of(cls, score: ArrayLike, weight: ArrayLike) -> Self:
        """From scores and weights of events, each of shape (n,)."""
        values, inverse = np.unique(np.asarray(score, dtype=np.float64), return_inverse=True)
        weight = np.asarray(weight, dtype=np.float64)
        sums = np.zeros((2, len(values)))
        np.add.at(sums[0], inverse, weight)
        np.add.at(sums[1], inverse, weight**2)
        sumw, sumw2 = np.cumsum(sums[:, ::-1], axis=1)
        return cls(values[::-1], rising_sums(sumw), sumw2)

    @property
    def total(self) -> float:
        """Σw of all events."""
        return float(self.sumw[-1]) if len(self.sumw) else 0.0

    def at(self, efficiency: float) -> tuple[float, float, float]:
        """The cut with a given efficiency.

        Returns:
            The score of the cut, the part of the events with exactly this score that passes, and Σw² of all
            that pass.
        """
        wanted = efficiency * self.total
        index = min(int(np.searchsorted(self.sumw, wanted)), len(self.sumw) - 1)
        below, below2 = (self.sumw[index - 1], self.sumw2[index - 1]) if index else (0.0, 0.0)
        step = self.sumw[index] - below
        part = min(max((wanted - below) / step, 0.0), 1.0) if step > 0 else 1.0
        return float(self.score[index]), float(part), float(below2 + part * (self.sumw2[index] - below2))

    def efficiency(self, cut: float, part: float) -> tuple[float, float]:
        """Efficiency of these events above a cut, and Σw² of those that pass; the arguments are from `at`."""
        above = int(np.searchsorted(-self.score, -cut, side="left"))
        with_ties = int(np.searchsorted(-self.score, -cut, side="right"))
        low, low2 = (self.sumw[above - 1], self.sumw2[above - 1]) if above else (0.0, 0.0)
        high, high2 = (self.sumw[with_ties - 1], self.sumw2[with_ties - 1]) if with_ties else (0.0, 0.0)
        passing, passing2 = low + part * (high - low), low2 + part * (high2 - low2)
        return float(passing) / self.total, float(passing2)

    def efficiency_error(self, efficiency: float, passing2: float) -> float:
        """Binomial error of an efficiency for weighted events."""
        failing2 = float(self.sumw2[-1]) - passing2
        variance = (1 - efficiency) ** 2 * passing2 + efficiency**2 * max(failing2, 0.0)
        return float(np.sqrt(variance)) / abs(self.total)

    def effective_above(self, efficiency: float) -> float:
        """Effective number of events above the cut with this efficiency."""
        _, _, passing2 = self.at(efficiency)
        return (efficiency * self.total) ** 2 / passing2 if passing2 > 0 else 0.0

    def threshold(self, efficiency: float) -> tuple[float, float]:
        """The score with this efficiency and its error, half the distance between the cuts one error apart."""
        cut, _, passing2 = self.at(efficiency)
        error = self.efficiency_error(efficiency, passing2)
        return cut, (self.at(max(efficiency - error, 0.0))[0] - self.at(min(efficiency + error, 1.0))[0]) / 2


def auc(
    background: ArrayLike,
    background_weight: ArrayLike,
    signal: ArrayLike,
    signal_weight: ArrayLike,
    strata: Strata | None = None,
) -> tuple[float, float]:
    """Area under the ROC curve and its error, for weighted events.

    The area is the probability that a signal event scores above a background event, ties counting half; for
    non-negative weights it is scikit-learn's `roc_auc_score`, which refuses negative ones. The error is that of
    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837, with each event's share squared for its
    multiplicity.

    Args:
        background: scores, shape (n,).
        background_weight: shape (n,).
        signal: scores, shape (m,).
        signal_weight: shape (m,).
        strata: of the background, if its events stand for more than themselves.

    Returns:
        Area and error; both nan where a sum of weights is not positive.
    """
    wb, ws = np.asarray(background_weight, dtype=np.float64), np.asarray(signal_weight, dtype=np.float64)
    if not (wb.sum() > 0 and ws.sum() > 0):
        return float("nan"), float("nan")
    below, above = placements(background, wb, signal, ws)
    area = float(ws @ below) / float(ws.sum())
    return area, float(np.hypot(share_error(below, ws), share_error(above, wb, strata)))


def placements(
    background: ArrayLike, background_weight: ArrayLike, signal: ArrayLike, signal_weight: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each event stands in the other sample (DeLong et al.); their weighted means are both the area.

    Args:
        background: scores, shape (n,).
        background_weight: shape (n,), of positive sum.
        signal: scores, shape (m,).
        signal_weight: shape (m,), of positive sum.

    Returns:
        For each signal event the share of the background below it, shape (m,); for each background event the share
        of the signal above it, shape (n,).
    """
    b, wb = np.asarray(background, dtype=np.float64), np.asarray(background_weight, dtype=np.float64)
    s, ws = np.asarray(signal, dtype=np.float64), np.asarray(signal_weight, dtype=np.float64)
    return _share_below(s, b, wb) / float(wb.sum()), 1 - _share_below(b, s, ws) / float(ws.sum())


def _share_below(
    at: NDArray[np.float64], score: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum of weights with a score below each value, those with the same score counting half."""
    order = np.argsort(score, kind="stable")
    cumulative = np.concatenate([[0.0], np.cumsum(weight[order])])
    ranked = score[order]
    below: NDArray[np.float64] = cumulative[np.searchsorted(ranked, at, side="left")]
    not_above: NDArray[np.float64] = cumulative[np.searchsorted(ranked, at, side="right")]
    return (below + not_above) / 2
