"""What a trained network says of an event: its reconstruction errors and, of a variational one, the terms of eq. 1.8.

Each is a number that is not negative and larger for what the network knows less; a score is its log10. The latent
space is taken at its mean: a score is never random.

Importing this module imports Keras; `models.backend.start` comes first.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from models import backend
from models.autoencoder import GaussianDraws, negative_elbo, reconstruction_error, squared_errors
from models.settings import ScoreName

__all__ = ["EventFunction", "event_function"]

Tensor: TypeAlias = Any

ERROR_FLOOR = 1e-12  # a perfect reconstruction scores -12


class _Event(NamedTuple):
    """What a score is made of, for n events with k inputs."""

    inputs: Tensor  # (n, k)
    outputs: Tensor  # (n, k), of a VAE (n, draws, k + 1) with the divergence in the last column
    latent_mean: Tensor | None  # (n, d)
    beta: float


def _mean_absolute_error(event: _Event) -> Tensor:
    k = event.inputs.shape[-1]
    if event.latent_mean is not None:
        difference = event.outputs[:, :, :k] - ops.expand_dims(event.inputs, 1)
        return ops.mean(ops.abs(difference), axis=(1, 2))
    return ops.mean(ops.abs(event.outputs - event.inputs), axis=-1)


_SCORES: Final[dict[ScoreName, Callable[[_Event], Tensor]]] = {
    "mse": lambda event: reconstruction_error(event.inputs, event.outputs),
    "mae": _mean_absolute_error,
    "elbo": lambda event: negative_elbo(event.beta)(event.inputs, event.outputs),
    "kl": lambda event: event.outputs[:, 0, -1],
    "mu2": lambda event: ops.sum(ops.square(event.latent_mean), axis=-1),
}

Batch: TypeAlias = tuple[slice, NDArray[np.float32], NDArray[np.float32]]


EventFunction: TypeAlias = Callable[[NDArray[np.float32]], Iterator[Batch]]


def event_function(
    model: keras.Model,
    names: tuple[ScoreName, ...],
    *,
    n_inputs: int,
    rows: int,
    beta: float = 1.0,
    residuals: bool = False,
) -> EventFunction:
    """Scores of scaled events, compiled for one shape and computed in batches of exactly that shape.

    A matrix product may round differently for another number of rows: with a fixed one, filled up with
    zeros, an event gets the same score alone and among 100 000.

    Args:
        model: the network.
        names: of the scores.
        n_inputs: k.
        rows: events in a batch.
        beta: factor of the Kullback-Leibler term in the score elbo.
        residuals: give the squared error of each input too.

    Returns:
        A function of scaled inputs, shape (n, k), that yields for each batch its place, its scores, shape
        (b, names), and its squared errors, shape (b, k), or (b, 0) where they are not wanted.
    """
    draws = [layer for layer in model.layers if isinstance(layer, GaussianDraws)]
    network = keras.Model(model.inputs, [model.output, draws[0].input[0]]) if draws else model

    def scores(inputs: Tensor) -> Tensor:
        found = network(inputs, training=False)
        outputs, mean = found if draws else (found, None)
        event = _Event(inputs, outputs, mean, beta)
        floor = ops.full((rows,), ERROR_FLOOR)
        values = ops.stack([ops.maximum(_SCORES[name](event), floor) for name in names], axis=-1)
        errors = squared_errors(inputs, outputs) if residuals else ops.zeros((rows, 0))
        return values, errors

    run = backend.compiled(scores, (rows, n_inputs))

    def batched(scaled: NDArray[np.float32]) -> Iterator[Batch]:
        for start in range(0, len(scaled), rows):
            batch = scaled[start : start + rows]
            n = len(batch)
            if n < rows:
                batch = np.concatenate([batch, np.zeros((rows - n, n_inputs), dtype=np.float32)])
            values, errors = (ops.convert_to_numpy(part)[:n] for part in run(ops.convert_to_tensor(batch)))
            yield slice(start, start + n), np.log10(values), errors

    return batched
