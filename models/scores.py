"""What a trained network says of an event: its reconstruction errors and, of a variational one, the terms of eq. 1.8.

Each is a number that is not negative and larger for what the network knows less; a score is its log10. The latent
space is taken at its mean: a score is never random.

Importing this module imports Keras; `models.backend.start` comes first.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from models import backend
from models.autoencoder import (
    GaussianDraws,
    in_double_precision,
    negative_elbo,
    reconstruction_error,
    squared_errors,
)
from models.cores import SCORE_FLOOR
from models.settings import ScoreName

__all__ = ["EventFunction", "event_function"]

Tensor: TypeAlias = Any

# Below this part of the inputs' mean square (terms of the latent space: below this), float32 does not hold log10 of an
# error to 1e-5.
ROUNDED = 1e-2


class _Event(NamedTuple):
    """What a score is made of, for n events with k inputs."""

    inputs: Tensor  # (n, k)
    outputs: Tensor  # (n, k), of a VAE (n, draws, k + 1) with the divergence in the last column
    latent_mean: Tensor | None  # (n, d)
    beta: float
    squares: Tensor  # (n, k), of the inputs

    @property
    def size(self) -> Tensor:
        """Mean square of the inputs, shape (n,)."""
        return ops.mean(self.squares, axis=-1)


def _mean_absolute_error(event: _Event) -> Tensor:
    k = event.inputs.shape[-1]
    if event.latent_mean is not None:
        difference = event.outputs[:, :, :k] - ops.expand_dims(event.inputs, 1)
        return ops.mean(ops.abs(difference), axis=(1, 2))
    return ops.mean(ops.abs(event.outputs - event.inputs), axis=-1)


_SCORES: Final[dict[ScoreName, Callable[[_Event], Tensor]]] = {
    "mse": lambda event: reconstruction_error(event.inputs, event.outputs),
    "mae": _mean_absolute_error,
    # Half the square, as the divergence of eq. 1.8 has of the latent mean: far along what background does counts too.
    "distance": lambda event: reconstruction_error(event.inputs, event.outputs) + event.size / 2,
    "elbo": lambda event: negative_elbo(event.beta)(event.inputs, event.outputs),
    "kl": lambda event: event.outputs[:, 0, -1],
    "mu2": lambda event: ops.sum(ops.square(event.latent_mean), axis=-1),
}


def _parts(event: _Event, name: ScoreName) -> Tensor:
    """What each input gives to a score, shape (n, k): the squared error, and what else the score counts of it."""
    errors = squared_errors(event.inputs, event.outputs)
    return errors + event.squares / 2 if name == "distance" else errors


Batch: TypeAlias = tuple[slice, NDArray[np.float32], NDArray[np.float32]]


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
    """Scores of scaled events, compiled for one shape and computed in batches of exactly that shape.

    A matrix product may round differently for another number of rows: with a fixed one, filled up with
    zeros, an event gets the same score alone and among 100 000. A compiler that joins operations, as XLA does, may
    round differently where something else is computed beside a score: so one program computes all, whatever is
    asked for. A small error is the difference of two numbers that rounding has touched, in each backend in its own
    way: such events are computed again in double precision.

    Args:
        model: the network.
        names: of the scores.
        n_inputs: k.
        rows: events in a batch.
        beta: factor of the Kullback-Leibler term in the score elbo.
    """
    draws = [layer for layer in model.layers if isinstance(layer, GaussianDraws)]
    network = keras.Model(model.input, [model.output, draws[0].input[0]]) if draws else model

    def scores(inputs: Tensor) -> Tensor:
        found = network(inputs, training=False)
        outputs, mean = found if draws else (found, None)
        event = _Event(inputs, outputs, mean, beta, ops.square(inputs))
        # Hidden layers are of order one for small inputs too.
        rounded = _SCORES["mse"](event) < ROUNDED * (0.5 + event.size)
        for name in names:
            if name in {"kl", "mu2"}:
                rounded = ops.logical_or(rounded, _SCORES[name](event) < ROUNDED)
        return _values(event, names), rounded, _parts(event, names[0])

    run = backend.compiled(scores, (rows, n_inputs))

    def batched(scaled: NDArray[np.float32], *, residuals: bool = False) -> Iterator[Batch]:
        for start in range(0, len(scaled), rows):
            batch = scaled[start : start + rows]
            n = len(batch)
            if n < rows:
                batch = np.concatenate([batch, np.zeros((rows - n, n_inputs), dtype=np.float32)])
            found = run(ops.convert_to_tensor(batch))
            # Copies: what a backend hands out may not be written to.
            values, rounded = (np.array(ops.convert_to_numpy(of)[:n]) for of in found[:2])
            parts = np.zeros((n, 0), dtype=np.float32)
            if residuals:
                parts = np.array(ops.convert_to_numpy(found[2])[:n])
            if rounded.any():
                event = _precise(model, batch[:n][rounded], beta)
                values[rounded] = ops.convert_to_numpy(_values(event, names))
                if residuals:
                    parts[rounded] = ops.convert_to_numpy(_parts(event, names[0]))
            yield slice(start, start + n), np.log10(values), parts

    return batched


def _values(event: _Event, names: tuple[ScoreName, ...]) -> Tensor:
    """What the scores are the log10 of, shape (n, names)."""
    return ops.stack([ops.maximum(_SCORES[name](event), SCORE_FLOOR) for name in names], axis=-1)


def _precise(model: keras.Model, inputs: NDArray[np.float32], beta: float) -> _Event:
    """The same events with the differences of outputs and inputs from double precision, as if inputs were 0."""
    reconstruction, mean, kl = in_double_precision(model, inputs)
    outputs = (reconstruction - inputs).astype(np.float32)
    if mean is not None and kl is not None:
        outputs = np.column_stack([outputs, kl.astype(np.float32)])[:, np.newaxis]
        mean = mean.astype(np.float32)
    squares = ops.convert_to_tensor(np.square(inputs))
    return _Event(ops.zeros(inputs.shape), ops.convert_to_tensor(outputs), mean, beta, squares)
