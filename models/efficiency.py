"""Areas, efficiencies and thresholds of weighted events, each with its statistical error.

Weights keep their signs: sums of signed weights are the unbiased estimates. A cumulative sum that falls where
negative weights gather is replaced by its running maximum before it is inverted.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["EFFICIENCIES", "MIN_EFFECTIVE", "UpperTail", "auc", "effective_events"]

EFFICIENCIES = {"1e-1": 1e-1, "1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}  # of background, with their JSON keys
MIN_EFFECTIVE = 10.0  # effective events above a cut, below which nothing is said about it


def effective_events(weight: ArrayLike) -> float:
    """(Σw)²/Σw², the number of unit-weight events with the same relative error."""
    weight = np.asarray(weight, dtype=np.float64)
    squares = float(np.sum(weight**2))
    return float(np.sum(weight)) ** 2 / squares if squares > 0 else 0.0


@dataclass(frozen=True)
class UpperTail:
    """Σw and Σw² of events at or above each distinct score, from the highest score down."""

    score: NDArray[np.float64]  # (m,), falling
    sumw: NDArray[np.float64]  # (m,), rising (running maximum)
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
        return cls(values[::-1], np.maximum.accumulate(sumw), sumw2)

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
    background: ArrayLike, background_weight: ArrayLike, signal: ArrayLike, signal_weight: ArrayLike
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

    Returns:
        Area and error; both nan where a sum of weights is not positive.
    """
    b, wb = np.asarray(background, dtype=np.float64), np.asarray(background_weight, dtype=np.float64)
    s, ws = np.asarray(signal, dtype=np.float64), np.asarray(signal_weight, dtype=np.float64)
    total_b, total_s = float(np.sum(wb)), float(np.sum(ws))
    if not (total_b > 0 and total_s > 0):
        return float("nan"), float("nan")
    below = _share_below(s, b, wb) / total_b  # for each signal event: background below it
    above = 1 - _share_below(b, s, ws) / total_s  # for each background event: signal above it
    area = float(ws @ below) / total_s
    variance = (
        np.sum((ws * (below - area)) ** 2) / total_s**2 + np.sum((wb * (above - area)) ** 2) / total_b**2
    )
    return area, float(np.sqrt(variance))


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
