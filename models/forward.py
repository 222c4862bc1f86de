"""What a trained network makes of its inputs, computed with NumPy in single or in double precision.

On a processor a score needs no machine-learning library: blocks of events that stay in a core's cache, one thread a
block, come closer to the limit of the matrix product than the compiled graphs do, and give the same numbers whatever
backend the network was trained with. Keras cannot compute in double precision with JAX at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["ACTIVATIONS", "LOG_VARIANCE_RANGE", "Dense", "Passed", "Stack"]

Floats: TypeAlias = NDArray[np.floating[Any]]

LOG_VARIANCE_RANGE: Final = (-20.0, 10.0)  # keeps exp() finite in single precision


def _sigmoid(values: Floats) -> None:
    values *= 0.5
    np.tanh(values, out=values)
    values += 1
    values *= 0.5


# Each works in place.
ACTIVATIONS: Final[dict[str, Callable[[Floats], Any]]] = {
    "linear": lambda values: values,
    "relu": lambda values: np.maximum(values, 0, out=values),
    "sigmoid": _sigmoid,
    "tanh": lambda values: np.tanh(values, out=values),
}


class Dense(NamedTuple):
    """One layer: activation(x kernel + bias), of which a leaky one multiplies what is below zero with its slope."""

    kernel: Floats  # (inputs, units)
    bias: Floats  # (units,)
    activation: str
    slope: float | None = None

    def __call__(self, inputs: Floats) -> Floats:
        """Shape (n, units)."""
        values: Floats = inputs @ self.kernel
        values += self.bias
        ACTIVATIONS[self.activation](values)
        if self.slope is not None:
            np.maximum(values, self.slope * values, out=values)  # of a slope between 0 and 1
        return values


class Passed(NamedTuple):
    """What n events became."""

    outputs: Floats  # (n, k), the reconstruction
    mean: Floats | None  # (n, d), of a VAE the latent mean, from which it is made
    divergence: Floats | None  # (n,), of a VAE from the unit Gaussian


@dataclass(frozen=True)
class Stack:
    """The layers of an autoencoder from its inputs to their reconstruction.

    Attributes:
        layers: in order.
        latent: of a VAE the place of the layer that gives the latent mean.
        log_variance: of a VAE the layer beside it that gives the latent Gaussian's log variance.
    """

    layers: tuple[Dense, ...]
    latent: int | None = None
    log_variance: Dense | None = None

    def astype(self, dtype: type[np.floating[Any]]) -> "Stack":
        """The same layers in another precision, in which all is computed then."""

        def cast(layer: Dense) -> Dense:
            kernel = np.ascontiguousarray(layer.kernel, dtype=dtype)
            return layer._replace(kernel=kernel, bias=layer.bias.astype(dtype))

        spread = None if self.log_variance is None else cast(self.log_variance)
        return Stack(tuple(map(cast, self.layers)), self.latent, spread)

    def __call__(self, inputs: Floats) -> Passed:
        """Inputs of shape (n, k) through all layers, in the precision of both."""
        values, mean, kl = inputs, None, None
        for place, layer in enumerate(self.layers):
            if place == self.latent and self.log_variance is not None:
                log_variance = np.clip(self.log_variance(values), *LOG_VARIANCE_RANGE)
                values = mean = layer(values)
                kl = -0.5 * np.sum(1 + log_variance - mean**2 - np.exp(log_variance), axis=-1)
            else:
                values = layer(values)
        return Passed(values, mean, kl)
