"""What a trained network says of an event: its reconstruction errors and, of a variational one, the terms of eq. 1.8.

Each is a number that is not negative and larger for what the network knows less; a score is its log10. The latent
space is taken at its mean: a score is never random.

Networks of `models.autoencoder.build` are computed with NumPy (`models.forward`), so that a bundle scores the same
whatever backend Keras has; one of a user's own layers is left to Keras.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import keras
import numba
import numpy as np
from numpy.typing import NDArray

from models.autoencoder import layers_of
from models.cores import SCORE_FLOOR
from models.forward import Passed
from models.settings import ScoreName

__all__ = ["Batch", "EventFunction", "Values", "event_function", "event_values"]

# Below this part of the inputs' mean square (terms of the latent space: below this), float32 does not hold log10 of an
# error to 1e-5.
ROUNDED: Final = 1e-2

Floats: TypeAlias = NDArray[np.float64]


class _Event(NamedTuple):
    """What a score is made of, for n events; each of shape (n,)."""

    squared: Floats  # mean squared error
    absolute: Floats  # mean absolute error
    size: Floats  # mean square of the inputs
    divergence: Floats  # of a VAE
    mu2: Floats  # squared latent mean of a VAE
    n_inputs: int
    beta: float


_SCORES: Final[dict[ScoreName, Callable[[_Event], Floats]]] = {
    "mse": lambda event: event.squared,
    "mae": lambda event: event.absolute,
    # Half the square, as the divergence of eq. 1.8 has of the latent mean: far along what background does counts too.
    "distance": lambda event: event.squared + event.size / 2,
    # Gaussians of unit variance around the output.
    "elbo": lambda event: 0.5 * event.n_inputs * event.squared + event.beta * event.divergence,
    "kl": lambda event: event.divergence,
    "mu2": lambda event: event.mu2,
}

Batch: TypeAlias = tuple[slice, NDArray[np.float32], NDArray[np.float32]]
Values: TypeAlias = tuple[slice, Floats, NDArray[np.float32]]


class EventFunction(Protocol):
    """All scores of scaled events, batch by batch."""

    def __call__(self, scaled: NDArray[np.float32], *, residuals: bool = False) -> Iterator[Batch]:
        """Yields for each batch its place, its scores, (b, names), and its residuals, (b, k) or (b, 0).

        Args:
            scaled: inputs, shape (n, k).
            residuals: hand out what each input gives to the first score too: the squared error, for the score
                distance with half the square of the input. Their mean is 10 to the score mse or distance.
        """


def event_function(
    model: keras.Model, names: tuple[ScoreName, ...], *, n_inputs: int, rows: int, beta: float = 1.0
) -> EventFunction:
    """Scores of scaled events: the log10 of `event_values`, which has the same arguments."""
    values_of = event_values(model, names, n_inputs=n_inputs, rows=rows, beta=beta)

    def scored(scaled: NDArray[np.float32], *, residuals: bool = False) -> Iterator[Batch]:
        for place, values, parts in values_of(scaled, residuals=residuals):
            yield place, np.log10(values).astype(np.float32), parts

    return scored


def event_values(
    model: keras.Model, names: tuple[ScoreName, ...], *, n_inputs: int, rows: int, beta: float = 1.0
) -> Callable[..., Iterator[Values]]:
    """What scores are the log10 of, for scaled events in batches of exactly one shape.

    A matrix product may round differently for another number of rows: with a fixed one, filled up with zeros, an event
    gets the same score alone and among 100 000. A small error is the difference of two numbers that rounding has
    touched, on each kind of processor in its own way: such events are computed again in double precision, where NumPy
    knows the network.

    Args:
        model: the network.
        names: of the scores.
        n_inputs: k.
        rows: events in a batch.
        beta: factor of the Kullback-Leibler term in the score elbo.

    Returns:
        A function as `EventFunction`, of what the scores are the log10 of.
    """
    stack = layers_of(model)
    single, double = stack.astype(np.float32), stack.astype(np.float64)
    halves = names[0] == "distance"

    def batched(scaled: NDArray[np.float32], *, residuals: bool = False) -> Iterator[Values]:
        for start in range(0, len(scaled), rows):
            batch = scaled[start : start + rows]
            n = len(batch)
            if n < rows:
                batch = np.concatenate([batch, np.zeros((rows - n, n_inputs), dtype=np.float32)])
            parts = np.empty((n, n_inputs if residuals else 0), dtype=np.float32)
            event = _event(batch, single(batch), parts, beta, halves=halves)
            values = _values(event, names)[:n]
            again = _rounded(event, names)[:n].nonzero()[0]
            if len(again) and double is not single:  # one of a user's own has single precision alone
                precise = np.empty((len(again), parts.shape[1]), dtype=np.float32)
                batch = batch[again]
                event = _event(batch, double(batch.astype(np.float64)), precise, beta, halves=halves)
                values[again], parts[again] = _values(event, names), precise
            yield slice(start, start + n), values, parts

    return batched


def _event(
    inputs: NDArray[np.float32], passed: Passed, parts: NDArray[np.float32], beta: float, *, halves: bool
) -> _Event:
    """What the scores of some events are made of; fills `parts`, (n, k) or (n, 0), of the first n events."""
    sums = np.empty((3, len(inputs)))
    _sums(inputs, passed.outputs, sums)
    if parts.shape[1]:
        _parts(inputs, passed.outputs, 0.5 if halves else 0.0, parts)
    none = np.zeros(len(inputs))
    squared, absolute, size = sums
    return _Event(
        squared,
        absolute,
        size,
        divergence=none if passed.divergence is None else passed.divergence.astype(np.float64),
        mu2=none if passed.mean is None else np.sum(np.square(passed.mean, dtype=np.float64), axis=-1),
        n_inputs=inputs.shape[1],
        beta=beta,
    )


def _values(event: _Event, names: tuple[ScoreName, ...]) -> Floats:
    """What the scores are the log10 of, shape (n, names)."""
    return np.maximum(np.stack([_SCORES[name](event) for name in names], axis=-1), SCORE_FLOOR)


def _rounded(event: _Event, names: tuple[ScoreName, ...]) -> NDArray[np.bool_]:
    """Which events single precision is not enough for, shape (n,)."""
    # Hidden layers are of order one for small inputs too.
    rounded = event.squared < ROUNDED * (0.5 + event.size)
    for name in names:
        if name in {"kl", "mu2"}:
            rounded |= _SCORES[name](event) < ROUNDED
    return rounded


# Sums in double precision may be taken in any order, and so in vectors.
@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})
def _sums(inputs: NDArray[np.float32], outputs: NDArray[Any], sums: Floats) -> None:
    """Means over inputs of squared and absolute errors and of squares of the inputs, shape (3, n)."""
    n, k = inputs.shape
    for row in range(n):
        squared, absolute, size = 0.0, 0.0, 0.0
        for column in range(k):
            value = np.float64(inputs[row, column])
            error = np.float64(outputs[row, column]) - value
            squared += error * error
            absolute += abs(error)
            size += value * value
        sums[0, row], sums[1, row], sums[2, row] = squared / k, absolute / k, size / k


@numba.njit(nogil=True, cache=True)
def _parts(
    inputs: NDArray[np.float32], outputs: NDArray[Any], of_square: float, parts: NDArray[np.float32]
) -> None:
    """Squared error of each input, and a part of its square, for the first len(parts) events."""
    half = np.float32(of_square)
    for row in range(len(parts)):
        for column in range(inputs.shape[1]):
            error = np.float32(outputs[row, column] - inputs[row, column])
            parts[row, column] = error * error + half * inputs[row, column] * inputs[row, column]
