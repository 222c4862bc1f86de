"""Scaling of the network's inputs: fitted once, on training events, stored as JSON, invertible.

Moments and ranges come from scikit-learn's `partial_fit`. The upper-tail transform replaces a value by
-ln P(X >= x) of the background, one-sided on purpose: new heavy physics lives in upper tails.

A curve follows the events as long as `MIN_EFFECTIVE` of them, (sum w)^2 / sum w^2, lie at its place or further out.
It then goes on as an exponential whose slope at least as many events and distinct values tell, see `_Tail.slope`:
no single heavy event and no two neighbouring values decide how an event further out is scaled.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, Self, TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from models.efficiency import MIN_EFFECTIVE
from models.settings import ScalerKind
from models.sketch import Spectrum

__all__ = [
    "SCALER_RULE",
    "AffineScaler",
    "CurveScaler",
    "LogScaler",
    "Scaler",
    "fit_scaler",
    "scaler_from_json",
]

SCALER_FORMAT = 2  # of the JSON
SCALER_RULE = 2  # of the fit: raised when the same events give other numbers, so that models are trained anew
SELECTIVE_RANGE = (-3.0, 3.0)  # the thesis scales only columns that leave this range
N_KNOTS = 128
N_TAIL_KNOTS = 16  # of them in each tail of a quantile, which is curved
TAIL_SURPRISE = 1e4  # -ln of the rank there: 141 standard deviations
# Columns of which 0 is a value, not the sign of an absent object: numbers of objects, flags, and what belongs to the
# event as a whole (an mt2 of 0 is a small one). All others are an object's or a pair's, RMM cells among them.
ZERO_IS_A_VALUE: Final = re.compile(r"n[a-z]*jet\d*|(\w+_)?is[A-Z]\w*|mt2|costhstar|met_(et|phi)|ht|st|meff")
_FILLED_AT_ZERO = np.finfo(
    np.float32
).tiny  # 0 to a network, and yet another number than that of an absent object

Events: TypeAlias = Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]
Empty: TypeAlias = Literal["scaled", "kept"]


@dataclass(frozen=True)
class Scaler(ABC):
    """A transform of each column on its own."""

    kind: ScalerKind
    columns: list[str]
    empty: Empty
    gaps: NDArray[np.bool_]  # (k,), where an exact zero is an absent object and stays zero

    def transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale features of shape (n, k); float32 as are the features.

        With `empty` "kept", absent objects give exactly 0 and nothing else does: what is there and would scale to
        0, such as the smallest value of an upper tail, gives the smallest positive normal number.
        """
        scaled = self._transform(np.asarray(features, dtype=np.float32))
        if self.gaps.any():
            absent = (features == 0) & self.gaps
            scaled[(scaled == 0) & self.gaps] = _FILLED_AT_ZERO
            scaled[absent] = 0
        return scaled

    def invert(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """The features again, shape (n, k), as far as rounding and constant columns allow.

        With `empty` "kept", an exact 0 comes back as an absent object.
        """
        features = self._invert(np.asarray(scaled, dtype=np.float32))
        features[(scaled == 0) & self.gaps] = 0
        return features

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON types; `scaler_from_json` reads it."""
        head = {"format": SCALER_FORMAT, "kind": self.kind, "columns": self.columns, "empty": self.empty}
        head["gaps"] = self.gaps.tolist()
        return head | self._parameters()

    @abstractmethod
    def _transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]: ...

    @abstractmethod
    def _invert(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]: ...

    @abstractmethod
    def _parameters(self) -> dict[str, Any]: ...


def _has_gaps(columns: list[str], empty: Empty) -> NDArray[np.bool_]:
    return np.array(
        [empty == "kept" and not ZERO_IS_A_VALUE.fullmatch(name) for name in columns], dtype=np.bool_
    )


@dataclass(frozen=True)
class AffineScaler(Scaler):
    """(x - offset)/scale for each column."""

    offset: NDArray[np.float32]  # (k,)
    scale: NDArray[np.float32]  # (k,), never 0

    def _transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return _shifted(np.ascontiguousarray(features), self.offset, self.scale)

    def _invert(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        return scaled * self.scale + self.offset

    def _parameters(self) -> dict[str, Any]:
        return {"offset": self.offset.tolist(), "scale": self.scale.tolist()}


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _shifted(
    features: NDArray[np.float32], offset: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(features - offset)/scale in one pass, shape (n, k)."""
    scaled = np.empty_like(features)
    for row in range(len(features)):
        for column in range(features.shape[1]):
            scaled[row, column] = (features[row, column] - offset[column]) / scale[column]
    return scaled


@dataclass(frozen=True)
class LogScaler(AffineScaler):
    """The affine scaling of `sign(x) ln(1 + abs(x))`, x in the units of the column (GeV, number, radian)."""

    def _transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return super()._transform(_logarithm(features))

    def _invert(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        logarithm = super()._invert(scaled)
        features: NDArray[np.float32] = np.copysign(np.expm1(np.abs(logarithm)), logarithm)
        return features


def _logarithm(features: NDArray[Any]) -> NDArray[Any]:
    logarithm: NDArray[Any] = np.copysign(np.log1p(np.abs(features)), features)
    return logarithm


@dataclass(frozen=True)
class _Curve:
    """A rising curve: linear between knots and beyond them."""

    x: NDArray[np.float64]  # (m,), rising
    y: NDArray[np.float64]  # (m,), rising
    below: float  # slope before the first knot
    above: float  # slope after the last knot


@dataclass(frozen=True)
class CurveScaler(Scaler):
    """Each column through a rising curve of its own.

    upper-tail: x -> -ln P(X >= x), 0 below the smallest value and an exponential's straight line where fewer than
    `MIN_EFFECTIVE` effective events lie above. quantile: x -> the quantile of a unit Gaussian with the same rank, on
    both sides that of the exponential's rank where fewer lie beyond: it rises like sqrt(-2 ln p) (drawn within 2 %). A
    constant column gives 0 everywhere: it says nothing about a tail or a rank.
    """

    curves: list[_Curve]  # k

    def _transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return _through_curves(np.ascontiguousarray(features), *self._table)

    @cached_property
    def _table(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """What the kernel reads: x, shape (k, m); y and slope to the next knot, (k, m, 2); slopes before the first.

        m is a power of two; what a column has not got is never reached.
        """
        width = 1 << max(len(curve.x) - 1 for curve in self.curves).bit_length()
        x = np.full((len(self.curves), width), np.inf)
        y = np.zeros((len(self.curves), width, 2))
        for index, curve in enumerate(self.curves):
            x[index, : len(curve.x)] = curve.x
            y[index, : len(curve.x), 0] = curve.y
            y[index, : len(curve.x), 1] = np.append(np.diff(curve.y) / np.diff(curve.x), curve.above)
        return x, y, np.array([curve.below for curve in self.curves])

    def _invert(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        features = np.empty_like(scaled)
        for index, curve in enumerate(self.curves):
            column = scaled[:, index].astype(np.float64)
            found = np.interp(column, curve.y, curve.x)
            if curve.above > 0:
                found += np.maximum(column - curve.y[-1], 0) / curve.above
            if curve.below > 0:
                found += np.minimum(column - curve.y[0], 0) / curve.below
            features[:, index] = found
        return features

    def _parameters(self) -> dict[str, Any]:
        return {
            "curves": [
                {"x": curve.x.tolist(), "y": curve.y.tolist(), "below": curve.below, "above": curve.above}
                for curve in self.curves
            ]
        }


@numba.njit(cache=True)
def _on_curve(value: float, x: NDArray[np.float64], y: NDArray[np.float64], below: np.float64) -> Any:
    """A rising curve at one value; `x` has a power of two of knots."""
    if value < x[0]:
        return y[0, 0] + below * (value - x[0])
    last, step = 0, len(x) // 2  # the last knot that is not above the value
    while step > 0:
        last += step * (x[last + step] <= value)  # no branch: the way down is not to be guessed
        step //= 2
    return y[last, 0] + y[last, 1] * (value - x[last])


@numba.njit(nogil=True, cache=True)
def _through_curves(
    features: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    below: NDArray[np.float64],
) -> NDArray[np.float32]:
    """The curve of each column at its features, shape (n, k); computed in double precision."""
    n, k = features.shape
    at_zero = np.empty(k, dtype=np.float32)
    for column in range(k):
        at_zero[column] = _on_curve(0.0, x[column], y[column], below[column])
    scaled = np.empty((n, k), dtype=np.float32)
    for row in range(n):
        for column in range(k):
            value = features[row, column]
            if value == 0:  # most cells of an RMM are empty
                scaled[row, column] = at_zero[column]
            else:
                scaled[row, column] = _on_curve(float(value), x[column], y[column], below[column])
    return scaled


def scaler_from_json(stored: dict[str, Any]) -> Scaler:
    """The scaler that `Scaler.to_json` described.

    Raises:
        ValueError: the format is not known or a part is missing.
    """
    if stored.get("format") != SCALER_FORMAT:
        msg = f"the scaler has format {stored.get('format')!r}, not {SCALER_FORMAT}"
        raise ValueError(msg)
    try:
        head = {name: stored[name] for name in ("kind", "columns", "empty")}
        # Scalers stored without took every zero of every column for an absent object.
        all_or_none = [stored["empty"] == "kept"] * len(stored["columns"])
        head["gaps"] = np.array(stored.get("gaps", all_or_none), dtype=np.bool_)
        if stored["kind"] in _CURVES:
            curves = [
                _Curve(np.array(curve["x"]), np.array(curve["y"]), curve["below"], curve["above"])
                for curve in stored["curves"]
            ]
            return CurveScaler(**head, curves=curves)
        return (LogScaler if stored["kind"] == "log" else AffineScaler)(
            **head,
            offset=np.array(stored["offset"], dtype=np.float32),
            scale=np.array(stored["scale"], dtype=np.float32),
        )
    except KeyError as error:
        msg = f"the scaler has no {error}"
        raise ValueError(msg) from error


def fit_scaler(kind: ScalerKind, events: Events, *, columns: list[str], empty: Empty = "scaled") -> Scaler:
    """Fit a scaler to a stream of training events, of which only one chunk is held at a time.

    Args:
        kind: standard and minmax as in scikit-learn; selective: standard for columns that leave [-3, 3] and
            the others as they are (thesis); log: standard after sign(x) ln(1 + abs(x)); upper-tail and quantile: see
            `CurveScaler`, the weight above each knot is exact and knots are at least 0.2 % apart
            (`models.sketch`).
        events: chunks of features, shape (m, k), with their weights, shape (m,), not negative. Weights count
            in means, variances, tails and ranks; a range (minmax) has none.
        columns: names of the k columns.
        empty: "kept" leaves exact zeros, which stand for absent objects, out of the fit and at zero; an upper
            tail is then conditional on the object's presence. A zero of a column that `ZERO_IS_A_VALUE` names is
            scaled like any value.
    """
    if kind in _CURVES:
        return _fit_curves(kind, events, columns=columns, empty=empty)
    return _fit_affine(kind, events, columns=columns, empty=empty)


def _fit_affine(kind: ScalerKind, events: Events, *, columns: list[str], empty: Empty) -> AffineScaler:
    # A worker that only scores need not spend the seconds that this import takes.
    from sklearn.preprocessing import MinMaxScaler, StandardScaler  # noqa: PLC0415

    k = len(columns)
    # Where absent objects stay out, every column has events of its own.
    gaps = _has_gaps(columns, empty)
    blocks = [slice(index, index + 1) for index in range(k)] if gaps.any() else [slice(0, k)]
    fits = [(block, StandardScaler(), MinMaxScaler()) for block in blocks]
    seen = np.zeros(k, dtype=np.bool_)
    for features, weight in events:
        for block, moments, extent in fits:
            counted = weight > 0
            if gaps[block.start]:
                counted &= features[:, block.start] != 0
            if not counted.any():
                continue
            seen[block] = True
            values = features[counted, block].astype(np.float64)
            if kind == "log":
                values = _logarithm(values)
            moments.partial_fit(values, sample_weight=weight[counted].astype(np.float64))
            extent.partial_fit(values)
    offset, scale = np.zeros(k), np.ones(k)
    low, high = SELECTIVE_RANGE
    for block, moments, extent in fits:
        if not seen[block].any():
            continue
        if kind == "minmax":
            offset[block], scale[block] = extent.data_min_, extent.data_range_
        else:
            offset[block], scale[block] = moments.mean_, moments.scale_
        if kind == "selective":
            inside = (extent.data_min_ >= low) & (extent.data_max_ <= high)
            offset[block][inside], scale[block][inside] = 0, 1
    scale[scale <= 0] = 1
    scaler = LogScaler if kind == "log" else AffineScaler
    return scaler(kind, columns, empty, gaps, offset.astype(np.float32), scale.astype(np.float32))


def _fit_curves(kind: ScalerKind, events: Events, *, columns: list[str], empty: Empty) -> CurveScaler:
    nothing = np.zeros(0, dtype=np.float32)
    spectra = [Spectrum.of(nothing, nothing) for _ in columns]
    gaps = _has_gaps(columns, empty)
    for features, weight in events:
        counted = weight > 0
        columnwise, weights = np.ascontiguousarray(features[counted].T), weight[counted]
        for index, column in enumerate(columnwise):
            filled = column != 0 if gaps[index] else slice(None)
            spectra[index] += Spectrum.of(column[filled], weights[filled])
    return CurveScaler(kind, columns, empty, gaps, [_CURVES[kind](spectrum) for spectrum in spectra])


@dataclass(frozen=True)
class _Tail:
    """What lies at each of b rising values or above; all arrays have shape (b,)."""

    x: NDArray[np.float64]
    weight: NDArray[np.float64]
    moment: NDArray[np.float64]  # sum of weight times value
    effective: NDArray[np.float64]  # number of events

    @classmethod
    def of(cls, spectrum: Spectrum, *, lower: bool = False) -> Self:
        """The upper tail, or the lower one as the upper tail of -x."""
        turn = slice(None, None, -1)
        order, sign = (turn, -1.0) if lower else (slice(None), 1.0)
        weight, moment, squares = (
            np.cumsum(part[order][turn])[turn]
            for part in (spectrum.weight, sign * spectrum.moment, spectrum.squares)
        )
        x = sign * spectrum.smallest[order].astype(np.float64)
        return cls(x, weight, moment, weight**2 / squares)

    @cached_property
    def known(self) -> int:
        """The last place with `MIN_EFFECTIVE` effective events at or above; the first where there is none."""
        return int(np.flatnonzero(self.effective >= MIN_EFFECTIVE).max(initial=0))

    @cached_property
    def slope(self) -> float:
        """Of -ln P(X >= x) beyond what is known, per unit of x; how many are enough is `MIN_EFFECTIVE`.

        Of whole numbers: that of the most likely geometric distribution of the events at the last known value or
        above, with one event more, a step further. Of others: that of the most likely exponential of the events
        beyond a place; it is the last one with enough effective events and enough distinct values beyond. Where
        there is none: ln of the effective number of events, at least 1, over the range of the column.
        """
        x, enough = self.x, int(MIN_EFFECTIVE)
        if self.effective[0] >= enough and _whole(x):
            step = float(np.gcd.reduce(np.diff(x).astype(np.int64)))
            at = self.known
            excess = max(self.moment[at] / self.weight[at] - x[at], 0.0) / step
            return float(np.log1p(1 / (excess + 1 / self.effective[at])) / step)
        candidates = self.effective[1 : max(len(x) - enough, 0) + 1]
        places = np.flatnonzero(candidates >= enough)
        if not len(places):
            return float(max(np.log(self.effective[0]), 1.0) / (x[-1] - x[0]))
        at = int(places[-1])
        return float(1 / (self.moment[at + 1] / self.weight[at + 1] - x[at]))


def _whole(x: NDArray[np.float64]) -> bool:
    """Whether values count something; beyond 2^24 single precision knows nothing but whole numbers."""
    return bool(((x == np.rint(x)) & (np.abs(x) < 1 << 24)).all())


def _upper_tail(spectrum: Spectrum) -> _Curve:
    """-ln P(X >= x) of one column."""
    if len(spectrum.smallest) < 2:
        return _flat(spectrum)
    tail = _Tail.of(spectrum)
    surprise = np.log(tail.weight[0] / tail.weight[: tail.known + 1])
    knots = _knots(surprise)
    return _Curve(tail.x[knots], surprise[knots], 0.0, tail.slope)


def _quantile(spectrum: Spectrum) -> _Curve:
    """The unit Gaussian's quantile of the middle rank of each value of one column."""
    from scipy.special import ndtri  # noqa: PLC0415 (only this kind needs it)

    if len(spectrum.smallest) < 2:
        return _flat(spectrum)
    upper, lower = _Tail.of(spectrum), _Tail.of(spectrum, lower=True)
    x, total = upper.x, upper.weight[0]
    above = (upper.weight - spectrum.weight / 2) / total
    below = (lower.weight[::-1] - spectrum.weight / 2) / total
    # Each from the smaller probability, which is the precise one.
    normal = np.where(above < below, -ndtri(above), ndtri(below))
    first, last = len(x) - 1 - lower.known, upper.known
    knots = first + _knots(normal[first : last + 1], N_KNOTS - 2 * N_TAIL_KNOTS)
    rates = [lower.slope, upper.slope]
    if first >= last:  # too few events for two tails: one straight line over the range
        knots = np.array([0, len(x) - 1])
        across = (normal[-1] - normal[0]) / (x[-1] - x[0])
        ends = (-normal[0], normal[-1])
        rates = [min(across / _mills_ratio(z), rate) for rate, z in zip(rates, ends, strict=True)]
    left = _gaussian_tail(-x[knots[0]], -normal[knots[0]], rates[0])
    right = _gaussian_tail(x[knots[-1]], normal[knots[-1]], rates[1])
    return _Curve(
        np.concatenate([-left.x[::-1], x[knots], right.x]),
        np.concatenate([-left.y[::-1], normal[knots], right.y]),
        left.above,
        right.above,
    )


def _gaussian_tail(x: float, z: float, rate: float) -> _Curve:
    """The unit Gaussian's quantile of an exponential's upper tail, beyond x, which has the quantile z.

    Args:
        x: last value known.
        z: its quantile.
        rate: of the exponential, -d ln p/dx.
    """
    from scipy.special import log_ndtr, ndtri_exp  # noqa: PLC0415 (only this kind needs it)

    first = -log_ndtr(-z)
    surprise = np.geomspace(first + 0.1, TAIL_SURPRISE, N_TAIL_KNOTS + 1)[1:]
    beyond = x + (surprise - first) / rate
    # A step that double precision does not resolve is none.
    kept = np.diff(beyond, prepend=x) > 0
    beyond, normal = beyond[kept], -ndtri_exp(-surprise[kept])
    end = normal[-1] if len(normal) else z
    return _Curve(beyond, normal, 0.0, float(rate * _mills_ratio(end)))


def _mills_ratio(z: float) -> float:
    """How fast a Gaussian quantile rises with -ln of the tail probability: P(Z >= z)/phi(z), of no z below 0."""
    from scipy.special import erfcx  # noqa: PLC0415 (only this kind needs it)

    return float(np.sqrt(np.pi / 2) * erfcx(max(z, 0.0) / np.sqrt(2)))


def _flat(spectrum: Spectrum) -> _Curve:
    x = spectrum.smallest.astype(np.float64)
    return _Curve(x if len(x) else np.zeros(1), np.zeros(1), 0.0, 0.0)


def _knots(y: NDArray[np.float64], most: int = N_KNOTS) -> NDArray[np.int64]:
    """Places of so many values at most along a rising curve, evenly spread, with its two ends."""
    if len(y) <= most:
        return np.arange(len(y))
    wanted = np.searchsorted(y, np.linspace(y[0], y[-1], most))
    return np.unique(np.minimum(wanted, len(y) - 1))


_CURVES: Final[dict[str, Callable[[Spectrum], _Curve]]] = {"upper-tail": _upper_tail, "quantile": _quantile}
