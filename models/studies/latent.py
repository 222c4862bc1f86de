"""A network's latent space in two dimensions: where background and signals lie in it.

Importing this module does not import Keras; `encoder_of` does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

__all__ = ["Encoder", "Points", "Projection", "binned", "encoder_of", "projection_of"]

Floats = NDArray[np.float64]
Encoder = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_ROWS: Final = 16_384  # that are encoded at a time
_OUTSIDE: Final = 0.005  # part of the events of a process that may lie beyond each edge of the picture


def encoder_of(network: "keras.Model") -> Encoder | None:
    """Scaled inputs, shape (n, k), to the latent space, (n, d); of a variational network to its mean, never random.

    Args:
        network: made by `models.autoencoder.build`.

    Returns:
        None where the network has no layer that is known as its latent space.
    """
    import keras  # noqa: PLC0415 (the caller has started a backend)

    names = {layer.name for layer in network.layers}
    depth = max((int(name.split("_")[1]) for name in names if name.startswith("encoder_")), default=0)
    layers = ("latent_mean", f"encoder_{depth}")
    last = next((name for name in layers if name in names), None)
    if last is None:
        return None
    # A leaky activation is a layer of its own behind the dense one.
    last = f"{last}_leakyrelu" if f"{last}_leakyrelu" in names else last
    encoder = keras.Model(network.input, network.get_layer(last).output)

    def encode(scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = [
            np.asarray(keras.ops.convert_to_numpy(encoder(scaled[start : start + _ROWS], training=False)))
            for start in range(0, len(scaled), _ROWS)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, encoder.output_shape[-1]), dtype=np.float32)

    return encode


@dataclass(frozen=True)
class Points:
    """Events in the latent space.

    Attributes:
        latent: shape (n, d), or of a plane (n, 2).
        weight: shape (n,).
        score: shape (n,).
    """

    latent: NDArray[np.floating[Any]]
    weight: Floats
    score: NDArray[np.float32]

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All events of some parts, at least one."""
        return cls(
            np.concatenate([part.latent for part in parts]),
            np.concatenate([part.weight for part in parts]),
            np.concatenate([part.score for part in parts]),
        )


@dataclass(frozen=True)
class Projection:
    """From the latent space to a plane: (latent - centre) @ directions.

    Attributes:
        centre: shape (d,).
        directions: shape (d, 2).
        labels: of the two axes.
        variance: parts of the background's variance along them; None where nothing is projected.
    """

    centre: Floats
    directions: Floats
    labels: tuple[str, str]
    variance: tuple[float, float] | None = None

    def __call__(self, points: Points) -> Points:
        """The same events in the plane."""
        return Points((points.latent - self.centre) @ self.directions, points.weight, points.score)


def projection_of(background: Points) -> Projection | None:
    """Two latent dimensions as they are; of more the two leading weighted principal components of the background.

    Args:
        background: its weights may be negative; their sum is not.

    Returns:
        None for a latent space of one dimension, or without background.
    """
    d = background.latent.shape[1]
    total = float(background.weight.sum())
    if d < 2 or not total > 0:
        return None
    if d == 2:
        return Projection(np.zeros(2), np.eye(2), ("Latent mean 1", "Latent mean 2"))
    latent = background.latent.astype(np.float64)
    centre = background.weight @ latent / total
    covariance = (latent - centre).T @ ((latent - centre) * background.weight[:, np.newaxis]) / total
    values, vectors = np.linalg.eigh(covariance)
    directions = vectors[:, ::-1][:, :2]
    # The sign of a component means nothing: its largest coefficient is made positive, so that it is always the same.
    directions = directions * np.sign(directions[np.argmax(np.abs(directions), axis=0), (0, 1)])
    parts = np.maximum(values[::-1][:2], 0) / np.trace(covariance)
    return Projection(
        centre,
        directions,
        ("Principal component 1", "Principal component 2"),
        (float(parts[0]), float(parts[1])),
    )


def binned(
    background: Points, processes: Mapping[str, Points], projection: Projection, *, bins: int
) -> dict[str, Any]:
    """The plane in bins, in plain types: sums of weights of background and of each process.

    Args:
        background: all of it, in the plane.
        processes: by name, in the plane, not empty each.
        projection: with which they came there.
        bins: along each axis.

    Returns:
        `labels`, `variance`, `edges` of both axes; `background` with `sumw` of each bin (rows along the first axis)
        and the mean score `score` of its events, null where there is none; `processes` with `sumw`; all with the part
        `outside` of the sum of weights.
    """
    plane = background.latent
    reach = np.array(
        [
            np.quantile(points.latent, [_OUTSIDE, 1 - _OUTSIDE], axis=0)
            for points in (background, *processes.values())
        ]
    )
    low, high = reach[:, 0].min(axis=0), reach[:, 1].max(axis=0)
    margin = np.maximum(0.03 * (high - low), 1e-6)
    edges = [np.linspace(low[axis] - margin[axis], high[axis] + margin[axis], bins + 1) for axis in (0, 1)]

    def sums(of: NDArray[np.floating[Any]], weight: Floats) -> Floats:
        return np.asarray(np.histogram2d(of[:, 0], of[:, 1], bins=edges, weights=weight)[0])

    def entry(of: NDArray[np.floating[Any]], weight: Floats) -> dict[str, Any]:
        inside, total = sums(of, weight), float(weight.sum())
        outside = 1 - float(inside.sum()) / total if total > 0 else 0.0
        return {"sumw": _rounded(inside), "outside": round(outside, 6)}

    # Of an average of what events look like, every event has a part: negative weights would make none of it.
    size = np.abs(background.weight)
    filled = sums(plane, size)
    scores = np.divide(
        sums(plane, size * background.score), filled, out=np.full_like(filled, np.nan), where=filled > 0
    )
    return {
        "dimensions": len(projection.centre),
        "labels": list(projection.labels),
        "variance": None if projection.variance is None else list(projection.variance),
        "edges": [axis.tolist() for axis in edges],
        "background": entry(plane, background.weight) | {"score": _rounded(scores)},
        "processes": {name: entry(points.latent, points.weight) for name, points in processes.items()},
    }


def _rounded(values: Floats) -> list[list[float | None]]:
    """Five digits; null for what is not a number."""
    return [[None if np.isnan(value) else float(f"{value:.5g}") for value in row] for row in values]
