"""What validation histograms say: criteria that hold or do not, and differences to a reference in numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hist
import numpy as np
from numpy.typing import NDArray

from processors.constants import B_TAG_WORKING_POINTS
from processors.peak import PeakFit, fit_peak
from processors.validation import FLAVOURS, OBJECTS

__all__ = [
    "Comparison",
    "Criterion",
    "Efficiency",
    "TagComparison",
    "b_tag_efficiencies",
    "compared",
    "comparisons",
    "criteria",
    "folded",
    "peaks",
    "skims_of",
    "tag_comparisons",
]

Floats = NDArray[np.float64]
Histograms = Mapping[str, hist.Hist]


def skims_of(histograms: Iterable[str]) -> list[str]:
    """The skims that histograms are of, sorted."""
    return sorted({name.split("/")[0] for name in histograms})


def folded(histogram: hist.Hist, rebin: int = 1, *, flow: bool = True) -> tuple[Floats, Floats, Floats]:
    """Edges (n + 1,), contents (n,) and variances (n,); what lies outside is in the first and last bin.

    Args:
        histogram: one axis, storage Weight.
        rebin: bins that are joined.
        flow: false leaves out what lies outside.
    """
    columns = []
    for flowing in (histogram.values(flow=True), histogram.variances(flow=True)):
        column = np.array(flowing[1:-1], dtype=np.float64)
        if flow:
            column[0] += flowing[0]
            column[-1] += flowing[-1]
        columns.append(column.reshape(-1, rebin).sum(axis=1))
    return np.asarray(histogram.axes[0].edges[::rebin]), columns[0], columns[1]


@dataclass(frozen=True)
class Comparison:
    """How a quantity of a sample compares with a reference; shapes only.

    Attributes:
        objects: key of `OBJECTS`.
        quantity: key of its quantities.
        skims: of the sample and of the reference.
        mean: of the sample, with its standard error; values beyond the axis count as its end.
        reference: mean of the reference, with its standard error.
        distance: Kolmogorov-Smirnov distance, the largest difference of the cumulative distributions.
        p: probability of a larger distance between two samples of one distribution.
        n_effective: effective numbers of entries of both.
    """

    objects: str
    quantity: str
    skims: tuple[str, str]
    mean: tuple[float, float]
    reference: tuple[float, float]
    distance: float
    p: float
    n_effective: tuple[float, float]


def _mean(edges: Floats, contents: Floats, variances: Floats) -> tuple[float, float]:
    centres, total = 0.5 * (edges[:-1] + edges[1:]), contents.sum()
    mean = float((contents * centres).sum() / total)
    return mean, float(np.sqrt((variances * (centres - mean) ** 2).sum()) / total)


def compared(sample: hist.Hist, reference: hist.Hist) -> dict[str, Any] | None:
    """Means and Kolmogorov-Smirnov distance of two weighted histograms with the same axis.

    The p-value is Kolmogorov's asymptotic one with effective numbers of entries (bins make it too large, leptons that
    come in pairs too small); of a quantity that is 0 or 1 it is that of the difference of the means.

    Returns:
        `mean`, `reference`, `distance`, `p` and `n_effective` of a `Comparison`; None where one is empty.
    """
    from scipy.special import erfc, kolmogorov  # noqa: PLC0415 - only this stage needs it

    means, cumulative, numbers = [], [], []
    for histogram in (sample, reference):
        edges, contents, variances = folded(histogram)
        if contents.sum() <= 0:
            return None
        means.append(_mean(edges, contents, variances))
        cumulative.append(np.cumsum(contents) / contents.sum())
        numbers.append(float(contents.sum() ** 2 / variances.sum()))
    distance = float(np.abs(cumulative[0] - cumulative[1]).max())
    scale = float(np.sqrt(numbers[0] * numbers[1] / (numbers[0] + numbers[1])))
    p = kolmogorov(scale * distance)
    if len(cumulative[0]) == 2:
        error = np.hypot(means[0][1], means[1][1])
        p = erfc(distance / error / np.sqrt(2)) if error > 0 else float(distance == 0)
    return {
        "mean": means[0],
        "reference": means[1],
        "distance": distance,
        "p": float(p),
        "n_effective": (numbers[0], numbers[1]),
    }


def _nearest(skims: Sequence[str], wanted: str) -> str:
    """The skim of the sample that is most like one of the reference: the same, else that with most leptons."""
    return wanted if wanted in skims else skims[-1]


def comparisons(histograms: Histograms, reference: Histograms) -> list[Comparison]:
    """All quantities that both sides have, in the order of `OBJECTS`."""
    found = []
    skims = skims_of(histograms)
    for wanted in skims_of(reference):
        own = _nearest(skims, wanted)
        for key, objects in OBJECTS.items():
            for quantity in objects.quantities:
                ours, theirs = (
                    side.get(f"{skim}/{key}/{quantity}")
                    for side, skim in ((histograms, own), (reference, wanted))
                )
                result = compared(ours, theirs) if ours is not None and theirs is not None else None
                if result is not None:
                    found.append(Comparison(key, quantity, (own, wanted), **result))
    return found


@dataclass(frozen=True)
class Efficiency:
    """A fraction of counted jets with its Wilson interval of 68.3 %."""

    passed: int
    total: int

    @property
    def value(self) -> float:
        """The fraction; NaN without jets."""
        return self.passed / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end (E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209)."""
        if not self.total:
            return 0.0, 1.0
        n, p = self.total, self.value
        centre, half = (p + 0.5 / n) / (1 + 1 / n), np.sqrt(p * (1 - p) / n + 0.25 / n**2) / (1 + 1 / n)
        return max(0.0, float(centre - half)), min(1.0, float(centre + half))

    @property
    def error(self) -> float:
        """Half of the interval."""
        low, high = self.interval
        return 0.5 * (high - low)


def b_tag_efficiencies(histogram: hist.Hist) -> dict[int, tuple[Efficiency, list[Efficiency]]]:
    """Working point [%] -> efficiency of all jets (also beyond the axis of pT), and in each bin of pT."""
    everything = np.asarray(histogram.values(flow=True))
    result = {}
    for number, point in enumerate(B_TAG_WORKING_POINTS):
        passed, total = everything[:, number + 1 :].sum(axis=1), everything.sum(axis=1)
        bins = [Efficiency(int(p), int(t)) for p, t in zip(passed[1:-1], total[1:-1], strict=True)]
        result[point] = Efficiency(int(passed.sum()), int(total.sum())), bins
    return result


@dataclass(frozen=True)
class TagComparison:
    """A b-tag working point for jets of one flavour, of a sample and of a reference.

    Attributes:
        flavour: key of `validation.FLAVOURS`.
        point: nominal efficiency for b jets [%].
        sample: of all jets.
        reference: of all jets; None without a reference.
        chi2: of the efficiencies in bins of pT, sample against reference; bins with 10 jets on both sides at least.
        ndf: number of these bins.
        p: probability of a larger chi-square; None without a reference.
    """

    flavour: str
    point: int
    sample: Efficiency
    reference: Efficiency | None
    chi2: float = 0.0
    ndf: int = 0
    p: float | None = None


def tag_comparisons(histograms: Histograms, reference: Histograms, skim: str) -> list[TagComparison]:
    """Every working point and flavour.

    Args:
        histograms: of the sample.
        reference: of the reference, its first skim is taken; may be empty.
        skim: of the sample's two-lepton region.
    """
    found = []
    for flavour in FLAVOURS:
        own = histograms.get(f"{skim}/btag/{flavour}")
        other = next((h for name, h in sorted(reference.items()) if name.endswith(f"/btag/{flavour}")), None)
        if own is None:
            continue
        theirs = b_tag_efficiencies(other) if other is not None else {}
        for point, (sample, bins) in b_tag_efficiencies(own).items():
            if point not in theirs:
                found.append(TagComparison(flavour, point, sample, None))
                continue
            total, there = theirs[point]
            found.append(TagComparison(flavour, point, sample, total, *_chi2_of_fractions(bins, there)))
    return found


def _chi2_of_fractions(one: Sequence[Efficiency], other: Sequence[Efficiency]) -> tuple[float, int, float]:
    """Chi-square that pairs of fractions have the same truth (pooled variances), its degrees of freedom and p."""
    from scipy.special import chdtrc  # noqa: PLC0415 - only this stage needs it

    chi2, ndf = 0.0, 0
    for a, b in zip(one, other, strict=True):
        if min(a.total, b.total) < 10:
            continue
        pooled = (a.passed + b.passed) / (a.total + b.total)
        variance = pooled * (1 - pooled) * (1 / a.total + 1 / b.total)
        if variance > 0:
            chi2, ndf = chi2 + (a.value - b.value) ** 2 / variance, ndf + 1
    return chi2, ndf, float(chdtrc(ndf, chi2)) if ndf else 1.0


def peaks(histograms: Histograms) -> dict[str, PeakFit]:
    """Fits of every histogram of m_ll that can be fitted, by its name."""
    fits = {
        name: fit_peak(histogram) for name, histogram in histograms.items() if name.split("/")[1] == "mll"
    }
    return {name: fit for name, fit in fits.items() if fit is not None}


@dataclass(frozen=True)
class Criterion:
    """A number that must lie in a range.

    Attributes:
        name: what, in words; mathtext allowed.
        value: what was found; None where it could not be measured.
        error: its standard error.
        low: of the range, inclusive.
        high: of the range, inclusive.
        unit: of all numbers.
    """

    name: str
    value: float | None
    error: float | None
    low: float
    high: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value lies in the range; what could not be measured does not hold."""
        return self.value is not None and self.low <= self.value <= self.high


def criteria(histograms: Histograms, fits: Mapping[str, PeakFit], skim: str) -> list[Criterion]:
    """What must hold of a sample.

    Args:
        histograms: of the sample.
        fits: from `peaks`.
        skim: of the two-lepton region.
    """
    found = []
    for pair, symbol in (("ee", "ee"), ("mumu", r"\mu\mu")):
        fit = fits.get(f"{skim}/mll/{pair}")
        numbers: list[tuple[float | None, float | None]] = [(None, None)] * 3
        if fit is not None:
            numbers = [(fit.position, fit.position_error), (fit.width, fit.width_error), (fit.p, None)]
        ranges = (
            ("position of the peak", 90.9, 91.5, "GeV"),
            ("width of the peak", 2.5, 4.0, "GeV"),
            ("p-value of the fit", 0.001, 1.0, ""),
        )
        found += [
            Criterion(rf"$Z \to {symbol}$: {name}", value, error, low, high, unit)
            for (name, low, high, unit), (value, error) in zip(ranges, numbers, strict=True)
        ]
    points = [("b", point, point - 2.0, point + 2.0) for point in reversed(B_TAG_WORKING_POINTS)]
    for flavour, point, low, high in (*points, ("light", 77, 0.5, 1.5)):
        histogram = histograms.get(f"{skim}/btag/{flavour}")
        efficiency = Efficiency(0, 0) if histogram is None else b_tag_efficiencies(histogram)[point][0]
        measured = efficiency.total > 0
        found.append(
            Criterion(
                f"{flavour} jets above the {point} % b-tag point",
                100 * efficiency.value if measured else None,
                100 * efficiency.error if measured else None,
                low,
                high,
                "%",
            )
        )
    return found
