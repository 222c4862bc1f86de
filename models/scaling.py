"""Scaling of the network's inputs: fitted once, on training events, stored as JSON, invertible.

Affine scalers come from scikit-learn's `partial_fit`. The upper-tail transform replaces a value by
-ln P(X >= x) of the background, one-sided on purpose: new heavy physics lives in upper tails.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.settings import ScalerKind

__all__ = ["AffineScaler", "Scaler", "UpperTailScaler", "fit_scaler", "scaler_from_json"]

SCALER_FORMAT = 1
SELECTIVE_RANGE = (-3.0, 3.0)  # the thesis scales only columns that leave this range
TAIL_PROBABILITY = 0.02  # beyond the 98 % quantile the upper tail is an exponential
N_KNOTS = 128
MAX_TAIL_VALUES = 100_000_000  # a tail is fitted to sorted values in memory: 0.4 GB of them are enough

Events: TypeAlias = Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]
Empty: TypeAlias = Literal["scaled", "kept"]


@dataclass(frozen=True)
class Scaler(ABC):
    """A transform of each column on its own."""

    kind: ScalerKind
    columns: list[str]
    empty: Empty  # "kept": an exact zero (absent object) stays zero

    def transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale features of shape (n, k); float32 as are the features."""
        scaled = self._transform(np.asarray(features, dtype=np.float32))
        if self.empty == "kept":
            scaled[features == 0] = 0
        return scaled

    def invert(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """The features again, shape (n, k), as far as rounding and constant columns allow.

        With `empty` "kept", what scaled to exactly 0 comes back as an absent object.
        """
        features = self._invert(np.asarray(scaled, dtype=np.float32))
        if self.empty == "kept":
            features[scaled == 0] = 0
        return features

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON types; `scaler_from_json` reads it."""
        head = {"format": SCALER_FORMAT, "kind": self.kind, "columns": self.columns, "empty": self.empty}
        return head | self._parameters()

    @abstractmethod
    def _transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]: ...

    @abstractmethod
    def _invert(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]: ...

    @abstractmethod
    def _parameters(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class AffineScaler(Scaler):
    """(x - offset)/scale for each column."""

    offset: NDArray[np.float32]  # (k,)
    scale: NDArray[np.float32]  # (k,), never 0

    def _transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled = features - self.offset
        scaled /= self.scale
        return scaled

    def _invert(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        return scaled * self.scale + self.offset

    def _parameters(self) -> dict[str, Any]:
        return {"offset": self.offset.tolist(), "scale": self.scale.tolist()}


@dataclass(frozen=True)
class UpperTailScaler(Scaler):
    """x -> -ln P(X >= x), interpolated between knots and linear (an exponential tail) beyond the last.

    A constant column gives 0 everywhere: it says nothing about a tail.
    """

    values: list[NDArray[np.float64]]  # of each column: knots in x, rising
    surprise: list[NDArray[np.float64]]  # -ln P(X >= x) at the knots, rising from 0
    slope: NDArray[np.float64]  # (k,): beyond the last knot, per unit of x

    def _transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        columns = np.ascontiguousarray(features.T)
        for column, x, u, slope in zip(columns, self.values, self.surprise, self.slope, strict=True):
            # Most cells of an RMM are empty: what zero becomes is computed once.
            filled = np.flatnonzero(column)
            value = np.append(column[filled].astype(np.float64), 0.0)
            surprise = np.interp(value, x, u) + slope * np.maximum(value - x[-1], 0)
            column[:] = surprise[-1]
            column[filled] = surprise[:-1]
        return np.ascontiguousarray(columns.T)

    def _invert(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        features = np.empty_like(scaled)
        for index, (x, u, slope) in enumerate(zip(self.values, self.surprise, self.slope, strict=True)):
            column = scaled[:, index].astype(np.float64)
            beyond = np.maximum(column - u[-1], 0) / slope if slope > 0 else 0.0
            features[:, index] = np.interp(column, u, x) + beyond
        return features

    def _parameters(self) -> dict[str, Any]:
        return {
            "values": [x.tolist() for x in self.values],
            "surprise": [u.tolist() for u in self.surprise],
            "slope": self.slope.tolist(),
        }


def scaler_from_json(stored: dict[str, Any]) -> Scaler:
    """The scaler that `Scaler.to_json` described.

    Raises:
        ValueError: the format is not known or a part is missing.
    """
    if stored.get("format") != SCALER_FORMAT:
        msg = f"scaler format {stored.get('format')!r} is not {SCALER_FORMAT}"
        raise ValueError(msg)
    try:
        head = {name: stored[name] for name in ("kind", "columns", "empty")}
        if stored["kind"] == "upper-tail":
            return UpperTailScaler(
                **head,
                values=[np.array(x, dtype=np.float64) for x in stored["values"]],
                surprise=[np.array(u, dtype=np.float64) for u in stored["surprise"]],
                slope=np.array(stored["slope"], dtype=np.float64),
            )
        return AffineScaler(
            **head,
            offset=np.array(stored["offset"], dtype=np.float32),
            scale=np.array(stored["scale"], dtype=np.float32),
        )
    except KeyError as error:
        msg = f"the scaler has no {error}"
        raise ValueError(msg) from error


def fit_scaler(
    kind: ScalerKind, events: Events, *, columns: list[str], n_events: int, empty: Empty = "scaled"
) -> Scaler:
    """Fit a scaler to a stream of training events.

    Args:
        kind: standard and minmax as in scikit-learn; selective: standard for columns that leave [-3, 3] and
            the others as they are (thesis); upper-tail: see `UpperTailScaler`.
        events: chunks of features, shape (m, k), with their weights, shape (m,), not negative. Weights count
            in means, variances and tails; a range (minmax) has none.
        columns: names of the k columns.
        n_events: events in the whole stream.
        empty: "kept" leaves exact zeros, which stand for absent objects, out of the fit and at zero.
    """
    if kind == "upper-tail":
        return _fit_upper_tail(events, columns=columns, n_events=n_events, empty=empty)
    return _fit_affine(kind, events, columns=columns, empty=empty)


def _fit_affine(kind: ScalerKind, events: Events, *, columns: list[str], empty: Empty) -> AffineScaler:
    # A worker that only scores need not spend the seconds that this import takes.
    from sklearn.preprocessing import MinMaxScaler, StandardScaler  # noqa: PLC0415

    k = len(columns)
    # Where absent objects stay out, every column has events of its own.
    blocks = [slice(index, index + 1) for index in range(k)] if empty == "kept" else [slice(0, k)]
    fits = [(block, StandardScaler(), MinMaxScaler()) for block in blocks]
    seen = np.zeros(k, dtype=np.bool_)
    for features, weight in events:
        for block, moments, extent in fits:
            counted = weight > 0
            if empty == "kept":
                counted &= features[:, block.start] != 0
            if not counted.any():
                continue
            seen[block] = True
            values = features[counted, block].astype(np.float64)
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
    return AffineScaler(kind, columns, empty, offset.astype(np.float32), scale.astype(np.float32))


def _fit_upper_tail(events: Events, *, columns: list[str], n_events: int, empty: Empty) -> UpperTailScaler:
    share = MAX_TAIL_VALUES / (len(columns) * max(n_events, 1))
    rng = np.random.default_rng(0)
    parts = []
    for features, weight in events:
        chosen = weight > 0
        if share < 1:
            chosen &= rng.random(len(weight)) < share
        parts.append((features[chosen], weight[chosen].astype(np.float64)))
    weight = np.concatenate([part[1] for part in parts])
    fits = []
    for index in range(len(columns)):
        column = np.concatenate([part[0][:, index] for part in parts]).astype(np.float64)
        filled = column != 0 if empty == "kept" else np.ones(len(column), dtype=np.bool_)
        fits.append(_tail(column[filled], weight[filled]))
    values, surprise, slope = zip(*fits, strict=True)
    return UpperTailScaler("upper-tail", columns, empty, list(values), list(surprise), np.array(slope))


def _tail(
    column: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Knots and slope of -ln P(X >= x) for one column."""
    x, inverse = np.unique(column, return_inverse=True)
    if len(x) < 2:
        return (x if len(x) else np.zeros(1)), np.zeros(1), 0.0
    mass = np.bincount(inverse, weights=weight)
    above = np.cumsum(mass[::-1])[::-1]  # weight at or above each value
    surprise = np.log(above[0] / above)
    # The tail starts at the first value with P <= 2 %, or, for a few distinct values, at the last of them.
    start = min(int(np.searchsorted(surprise, -np.log(TAIL_PROBABILITY))), len(x) - 1)
    mean_excess = float(mass[start:] @ (x[start:] - x[start])) / above[start]
    # A last value without anything beyond: one e-fold for each step as wide as the one before it.
    slope = 1 / mean_excess if mean_excess > 0 else 1 / (x[start] - x[start - 1])
    wanted = np.searchsorted(surprise[: start + 1], np.linspace(0, surprise[start], N_KNOTS))
    knots = np.unique(np.append(wanted, start)) if start >= N_KNOTS else np.arange(start + 1)
    return x[knots], surprise[knots], float(slope)
