"""The Z peak in m_ll: a Breit-Wigner convolved with the resolution, its position and its width."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import hist
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["WIDTH_CONTENT", "Z_WIDTH", "PeakFit", "fit_peak", "half_width", "peak_contents"]

Floats = NDArray[np.float64]

# Particle Data Group 2024 [GeV].
Z_WIDTH = 2.4955

# A normal distribution has this part of its events within one standard deviation.
WIDTH_CONTENT = 0.6827

# Step of the numerical convolution and how far the resolution reaches [GeV].
_STEP = 0.05
_REACH = 40.0

# Where the radiative tail may begin [standard deviations]; from 5 on there is none.
_TAIL_RANGE = (0.3, 5.0)

_MIN_EFFECTIVE = 100.0


@dataclass(frozen=True)
class PeakFit:
    """What a fit of the Z peak says; masses in GeV.

    Attributes:
        position: where the fitted curve is largest, with its standard error.
        resolution: standard deviation of the Gaussian that the Breit-Wigner is convolved with, with its error.
        tail: standard deviations below the peak at which the radiative tail begins.
        width: half of the shortest interval with 68.27 % of the fitted curve in the window, with its error: the
            standard deviation, were the peak a Gaussian.
        fwhm: full width of the fitted curve at half of its maximum.
        chi2: of the fit.
        ndf: degrees of freedom.
        p: probability of a larger chi-square.
        n_effective: (sum of weights)^2 / sum of squared weights in the window.
        expected: fitted bin contents, shape (n,).
    """

    position: float
    position_error: float
    resolution: float
    resolution_error: float
    tail: float
    width: float
    width_error: float
    fwhm: float
    chi2: float
    ndf: int
    p: float
    n_effective: float
    expected: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {**asdict(self), "expected": list(self.expected)}


def _resolution(shift: Floats, sigma: float, tail: float) -> Floats:
    """A Gaussian whose lower side goes over into 1/(energy lost), the spectrum of radiated photons.

    The Crystal Ball function (J. Gaiser, SLAC-255 (1982), appendix F) with its power n = 1.
    """
    t = shift / sigma
    lost = np.maximum(1.0 / tail - tail - t, 1e-6)
    return np.where(t > -tail, np.exp(-0.5 * t**2), np.exp(-0.5 * tail**2) / tail / lost)


def _curve(low: float, high: float, mass: float, sigma: float, tail: float) -> tuple[Floats, Floats]:
    """Masses from low to high in steps, and the curve there, not normalised; both shape (k,)."""
    from scipy.signal import fftconvolve  # noqa: PLC0415 - only this stage needs it

    steps = np.arange(-_REACH, _REACH + 0.5 * _STEP, _STEP)
    grid = np.arange(low - _REACH, high + _REACH + 0.5 * _STEP, _STEP)
    breit_wigner = 1.0 / ((grid - mass) ** 2 + 0.25 * Z_WIDTH**2)
    folded = fftconvolve(breit_wigner, _resolution(steps, sigma, tail), mode="same")
    inside = slice(len(steps) // 2, len(grid) - len(steps) // 2)
    return grid[inside], np.maximum(folded[inside], 0.0)


def peak_contents(edges: ArrayLike, events: float, mass: float, sigma: float, tail: float) -> Floats:
    """Expected bin contents, shape (n,).

    Args:
        edges: of the bins [GeV], shape (n + 1,).
        events: between the first and the last edge.
        mass: of the resonance [GeV]; its width is that of the Z (PDG).
        sigma: resolution [GeV].
        tail: standard deviations below the peak at which the radiative tail begins; from 5 on it is of no account.
    """
    edges = np.asarray(edges, dtype=np.float64)
    masses, curve = _curve(edges[0], edges[-1], mass, sigma, tail)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (curve[1:] + curve[:-1]))])
    contents = np.diff(np.interp(edges, masses, cumulative))
    return np.asarray(events * contents / contents.sum())


def half_width(masses: Floats, curve: Floats) -> float:
    """Half of the shortest interval that holds `WIDTH_CONTENT` of a curve.

    Args:
        masses: equidistant, shape (k,).
        curve: its height there, shape (k,).
    """
    cumulative = np.cumsum(curve) / curve.sum()
    ends = np.interp(cumulative + WIDTH_CONTENT, cumulative, masses, right=np.inf)
    return float(0.5 * np.min(ends - masses))


def _full_width_at_half_maximum(masses: Floats, curve: Floats) -> float:
    above = masses[curve >= 0.5 * curve.max()]
    return float(above[-1] - above[0])


def _maximum(masses: Floats, curve: Floats) -> float:
    """Where a curve is largest: the parabola through its three highest neighbours."""
    top = int(np.clip(np.argmax(curve), 1, len(curve) - 2))
    left, middle, right = (float(height) for height in curve[top - 1 : top + 2])
    bend = left - 2.0 * middle + right
    return float(masses[top] + (0.5 * _STEP * (left - right) / bend if bend < 0 else 0.0))


def fit_peak(histogram: hist.Hist) -> PeakFit | None:
    """Fits the Z peak in the whole range of a histogram of m_ll.

    Least squares with the errors that the fitted curve expects, in three rounds: errors from the contents of the
    bins would pull the curve down. The width of the Z is fixed (PDG); free are the number of events, the mass, the
    resolution and where the radiative tail begins.

    Args:
        histogram: one axis, storage Weight.

    Returns:
        None where fewer than 100 effective events are there or the fit does not converge.
    """
    from scipy.optimize import curve_fit  # noqa: PLC0415 - only this stage needs it
    from scipy.special import chdtrc  # noqa: PLC0415

    edges = np.asarray(histogram.axes[0].edges, dtype=np.float64)
    contents, variances = histogram.values(), histogram.variances()
    total = float(contents.sum())
    if total <= 0 or total**2 < _MIN_EFFECTIVE * variances.sum():
        return None
    weight = float(variances.sum() / total)  # of an effective event
    start = [total, float(0.5 * (edges[:-1] + edges[1:])[np.argmax(contents)]), 1.5, 2.0]
    bounds = ([0.0, edges[0], 0.2, _TAIL_RANGE[0]], [np.inf, edges[-1], 10.0, _TAIL_RANGE[1]])
    expected = np.full(len(contents), total / len(contents))
    for _ in range(3):
        errors = np.sqrt(weight * np.maximum(expected, 0.5 * weight))
        try:
            start, covariance = curve_fit(
                peak_contents, edges, contents, p0=start, sigma=errors, absolute_sigma=True, bounds=bounds
            )
        except RuntimeError:
            return None
        expected = peak_contents(edges, *start)
    errors = np.sqrt(weight * np.maximum(expected, 0.5 * weight))
    chi2, ndf = float((((contents - expected) / errors) ** 2).sum()), len(contents) - len(start)
    _, mass, sigma, tail = (float(value) for value in start)
    masses, curve = _curve(edges[0], edges[-1], mass, sigma, tail)

    def width_of(shape: Floats) -> float:
        return half_width(*_curve(edges[0], edges[-1], mass, float(shape[0]), float(shape[1])))

    return PeakFit(
        position=_maximum(masses, curve),
        position_error=float(np.sqrt(covariance[1, 1])),
        resolution=sigma,
        resolution_error=float(np.sqrt(covariance[2, 2])),
        tail=tail,
        width=half_width(masses, curve),
        width_error=_propagated(width_of, np.array([sigma, tail]), covariance[2:, 2:]),
        fwhm=_full_width_at_half_maximum(masses, curve),
        chi2=chi2,
        ndf=ndf,
        p=float(chdtrc(ndf, chi2)),
        n_effective=total**2 / float(variances.sum()),
        expected=tuple(float(value) for value in expected),
    )


def _propagated(function: Callable[[Floats], float], at: Floats, covariance: Floats) -> float:
    """Standard error of a function of fitted parameters, from its numerical gradient."""
    errors = np.minimum(np.sqrt(np.diag(covariance)), 0.1 * at)
    steps = np.diag(np.maximum(errors, 1e-3 * at))
    gradient = np.array([(function(at + step) - function(at - step)) / (2 * step.sum()) for step in steps])
    return float(np.sqrt(max(gradient @ covariance @ gradient, 0.0)))
