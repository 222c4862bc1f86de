"""Scores of scaled inputs without a network: reconstruction by principal components, a distance, upper tails, a forest.

Each core is a handful of arrays, stored as an `.npz` that no code is run to read, and is called as the networks are:
`models.scores.EventFunction`. None of them needs Keras.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from models.forest import IsolationTrees

if TYPE_CHECKING:
    from models.scores import Batch

__all__ = [
    "CORES",
    "PARAMETERS",
    "SCORE_FLOOR",
    "Core",
    "Mahalanobis",
    "PrincipalComponents",
    "UpperTails",
    "load_core",
    "save_core",
]

Floats: TypeAlias = NDArray[np.float64]

PARAMETERS: Final = "parameters.npz"
SCORE_FLOOR: Final = 1e-12  # of what the log10 is a score: a perfect reconstruction scores -12


@dataclass(frozen=True)
class PrincipalComponents:
    """log10 of the mean squared error that the projection on the first principal components leaves of each input.

    Attributes:
        mean: of the inputs, shape (k,).
        components: orthonormal rows, shape (q, k).
    """

    mean: Floats
    components: Floats

    def __post_init__(self) -> None:
        _look(self.mean.shape + self.components.shape[1:], self.mean.shape * 2)

    @property
    def n_inputs(self) -> int:
        """Number of inputs k."""
        return len(self.mean)

    def __call__(self, scaled: NDArray[np.float32], *, residuals: bool = False) -> Iterator["Batch"]:
        """As a `models.scores.EventFunction`; residuals are squared errors, their mean is 10 to the score."""
        centred = scaled - self.mean
        errors = np.square(centred - (centred @ self.components.T) @ self.components)
        yield _batch(_log10(errors.mean(axis=1)), errors, residuals=residuals)


@dataclass(frozen=True)
class Mahalanobis:
    """log10 of the squared Mahalanobis distance (x - mean)^T C^+ (x - mean), C^+ the pseudo-inverse of the covariance.

    With the symmetric square root of C^+ it is a sum of squares, each of which belongs to one input: of all whitening
    transforms this one leaves the inputs most like themselves (Kessy, Lewin and Strimmer, Am. Stat. 72 (2018) 309).

    Attributes:
        mean: of the inputs, shape (k,).
        whitening: the symmetric square root of C^+, shape (k, k).
    """

    mean: Floats
    whitening: Floats

    def __post_init__(self) -> None:
        _look(self.whitening.shape, self.mean.shape * 2)

    @property
    def n_inputs(self) -> int:
        """Number of inputs k."""
        return len(self.mean)

    def __call__(self, scaled: NDArray[np.float32], *, residuals: bool = False) -> Iterator["Batch"]:
        """As a `models.scores.EventFunction`; residuals add up to 10 to the score."""
        squares = np.square((scaled - self.mean) @ self.whitening)
        yield _batch(_log10(squares.sum(axis=1)), squares, residuals=residuals)


@dataclass(frozen=True)
class UpperTails:
    """Mean of the largest -ln P(X >= x) of an event's inputs, which are scaled to upper tails.

    Attributes:
        terms: how many are counted, shape ().
        inputs: how many there are, shape ().
    """

    terms: NDArray[np.int64]
    inputs: NDArray[np.int64]

    def __post_init__(self) -> None:
        _look(self.terms.shape + self.inputs.shape, ())

    @property
    def n_inputs(self) -> int:
        """Number of inputs k."""
        return int(self.inputs)

    def __call__(self, scaled: NDArray[np.float32], *, residuals: bool = False) -> Iterator["Batch"]:
        """As a `models.scores.EventFunction`; residuals are the part of each input, they add up to the score."""
        n = min(int(self.terms), self.n_inputs)
        counted = np.argpartition(scaled, self.n_inputs - n, axis=1)[:, self.n_inputs - n :]
        values = np.sort(np.take_along_axis(scaled, counted, axis=1), axis=1).astype(np.float64)
        parts = np.zeros(scaled.shape if residuals else (len(scaled), 0), dtype=np.float32)
        if residuals:
            np.put_along_axis(
                parts, counted, np.take_along_axis(scaled, counted, axis=1) / np.float32(n), axis=1
            )
        yield _batch(values.mean(axis=1), parts, residuals=residuals)


Core: TypeAlias = PrincipalComponents | Mahalanobis | UpperTails | IsolationTrees

CORES: Final[dict[str, type[Core]]] = {
    "pca": PrincipalComponents,
    "mahalanobis": Mahalanobis,
    "isolation-forest": IsolationTrees,
    "largest-tail": UpperTails,
    "tail-sum": UpperTails,
}


def save_core(core: Core, directory: Path) -> None:
    """Write the arrays of a core."""
    np.savez(
        directory / PARAMETERS,
        allow_pickle=False,
        **{field.name: getattr(core, field.name) for field in fields(core)},
    )


def load_core(directory: Path, card: dict[str, Any]) -> Core:
    """The core of a baseline's bundle.

    Raises:
        ValueError: an array is missing, is none of numbers, or has another shape than the card's features ask for.
    """
    kind = CORES.get(card["method"])
    if kind is None:
        msg = f"its method {card['method']!r} is not known"
        raise ValueError(msg)
    try:
        with np.load(directory / PARAMETERS, allow_pickle=False) as content:
            core = kind(**{field.name: content[field.name] for field in fields(kind)})
    except (KeyError, BadZipFile) as error:
        msg = f"{PARAMETERS} does not hold what {card['method']} needs"
        raise ValueError(msg) from error
    if core.n_inputs != len(card["features"]):
        msg = f"{PARAMETERS} is of {core.n_inputs} features, its card of {len(card['features'])}"
        raise ValueError(msg)
    return core


def _look(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Looks at the shapes of a core's arrays.

    Raises:
        ValueError: they do not go together.
    """
    if shape != expected:
        msg = f"the arrays of a baseline have shapes {shape} where {expected} are needed"
        raise ValueError(msg)


def _log10(values: Floats) -> Floats:
    logarithm: Floats = np.log10(np.maximum(values, SCORE_FLOOR))
    return logarithm


def _batch(score: NDArray[Any], parts: NDArray[Any], *, residuals: bool) -> "Batch":
    """One batch of all events, in single precision."""
    own = parts if residuals else np.zeros((len(score), 0))
    return slice(0, len(score)), score[:, np.newaxis].astype(np.float32), own.astype(np.float32)
