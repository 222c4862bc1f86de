"""Data against simulation: chi-square, p-value and largest deviation of one histogram.

Pure functions of bin contents; which histograms are compared is the business of `comparison`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["MIN_EFFECTIVE", "MIN_EXPECTED", "Agreement", "Deviation", "agreement", "merged_bins"]

Floats = NDArray[np.float64]

# Below these numbers of events neither the Poisson nor the weighted contents of a bin are normally distributed
# (in toys with 25 effective simulated events p-values are uniform even where the simulation dominates the error; with
# the 10 that Gagunashvili asks for they are not).
MIN_EXPECTED = 5.0
MIN_EFFECTIVE = 25.0


@dataclass(frozen=True)
class Deviation:
    """The merged bin that deviates most.

    Attributes:
        low: lower edge.
        high: upper edge.
        pull: (data - simulation) / its standard error.
    """

    low: float
    high: float
    pull: float


@dataclass(frozen=True)
class Agreement:
    """What a comparison says.

    Attributes:
        chi2: the statistic.
        ndf: degrees of freedom.
        p: probability of a larger chi-square if data follow the simulation.
        deviation: the largest one.
    """

    chi2: float
    ndf: int
    p: float
    deviation: Deviation


def merged_bins(
    expected: Floats,
    variance: Floats,
    *,
    min_expected: float = MIN_EXPECTED,
    min_effective: float = MIN_EFFECTIVE,
) -> NDArray[np.intp]:
    """Positions at which merged bins start, shape (m,); empty where all bins together do not suffice.

    Neighbours are joined from the left until enough is expected; what is left at the right end joins the last group.
    The choice knows nothing of the data, so it does not bias the comparison.

    Args:
        expected: simulated events, shape (n,).
        variance: of the simulation, shape (n,).
        min_expected: events expected in each merged bin at least.
        min_effective: effective simulated events, expected^2 / variance, at least.
    """
    starts: list[int] = []
    begin, content, error = 0, 0.0, 0.0
    for position in range(len(expected)):
        content += float(expected[position])
        error += float(variance[position])
        if content >= min_expected and content**2 >= min_effective * error:
            starts.append(begin)
            begin, content, error = position + 1, 0.0, 0.0
    return np.array(starts, dtype=np.intp)


def _best_means(data: Floats, expected: Floats, variance: Floats) -> Floats:
    """The means most likely to give both: Poisson data and a simulation with normal errors; all shape (n,).

    The positive root of mu^2 + mu (s^2 - m) - n s^2 = 0, which is Gagunashvili's eq. 11 with mu = N p.
    """
    shift = expected - variance
    return np.asarray(0.5 * (shift + np.sqrt(shift**2 + 4.0 * variance * data)))


def agreement(
    data: ArrayLike,
    expected: ArrayLike,
    variance: ArrayLike,
    edges: ArrayLike,
    *,
    normalise: Literal["shape", "absolute"] = "shape",
) -> Agreement | None:
    r"""Compares collision data with weighted simulation.

    The statistic is that of N. D. Gagunashvili, "Chi-square tests for comparing weighted histograms", NIM A 614
    (2010) 287 (physics/0605123) for an unweighted and a weighted histogram, as in ROOT's `TH1::Chi2Test("UW")`:

    .. math:: \chi^2 = \sum_i \frac{(n_i - \hat\mu_i)^2}{\hat\mu_i} + \sum_i \frac{(f m_i - \hat\mu_i)^2}{f^2 s_i^2}

    with n data and m ± s simulated events, f = Σn/Σm for shapes (one degree of freedom less) and 1 otherwise, and
    the means that both suggest together. For small s it is Pearson's chi-square.

    Args:
        data: events, shape (n,).
        expected: simulated events Σw, shape (n,).
        variance: Σw² of the simulation, shape (n,).
        edges: of the bins, shape (n + 1,).
        normalise: compare shapes, with the simulation normalised to the data, or absolute numbers.

    Returns:
        None where too few events are expected for one degree of freedom, or there are no data to normalise to.
    """
    n, m, s2, edges = (np.asarray(a, dtype=np.float64) for a in (data, expected, variance, edges))
    if normalise == "shape":
        if not (n.sum() > 0 and m.sum() > 0):
            return None
        factor = n.sum() / m.sum()
        m, s2 = m * factor, s2 * factor**2
    starts = merged_bins(m, s2)
    ndf = len(starts) - (normalise == "shape")
    if ndf < 1:
        return None
    n, m, s2 = (np.add.reduceat(content, starts) for content in (n, m, s2))
    means = _best_means(n, m, s2)
    from_data = np.divide((n - means) ** 2, means, out=np.zeros_like(means), where=means > 0)
    from_simulation = np.divide((m - means) ** 2, s2, out=np.zeros_like(means), where=s2 > 0)
    chi2 = float(from_data.sum() + from_simulation.sum())
    return Agreement(chi2, ndf, _survival(chi2, ndf), _largest(n, m, s2, edges, starts))


def _survival(chi2: float, ndf: int) -> float:
    from scipy.special import chdtrc  # noqa: PLC0415 - a third of a second that most stages need not spend

    return float(chdtrc(ndf, chi2))


def _largest(n: Floats, m: Floats, s2: Floats, edges: Floats, starts: NDArray[np.intp]) -> Deviation:
    """The largest pull: (n - m) / sqrt(m + s^2), errors of both sides together if data follow the simulation."""
    pulls = (n - m) / np.sqrt(m + s2)
    worst = int(np.argmax(np.abs(pulls)))
    stop = starts[worst + 1] if worst + 1 < len(starts) else len(edges) - 1
    return Deviation(float(edges[starts[worst]]), float(edges[stop]), float(pulls[worst]))
