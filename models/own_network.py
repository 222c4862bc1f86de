"""A network of the user's own: a function that the configuration names builds it, and Keras computes what it gives.

Its bundle is loaded without that function, so it is made of Keras' own layers.

Importing this module imports Keras; `models.backend.start` comes first.
"""

from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import InputError
from models.forward import Passed, Stack
from processors.own_functions import own_function

__all__ = ["OWN_NETWORK", "OwnStack", "own_network"]

OWN_NETWORK: Final = "own_network"  # its name, in `.keras` files too


def own_network(builder: str, n_inputs: int) -> keras.Model:
    """What a function of the user's own builds, after a look at it.

    Args:
        builder: "module:function"; it takes the number of inputs k and gives a Keras model from shape (n, k) to (n, k).
        n_inputs: k.

    Raises:
        InputError: it cannot be imported, or makes something else, or uses a layer with code of its own.
    """
    made = own_function(builder)(n_inputs)
    shapes = [tuple(t.shape) for t in (*made.inputs, *made.outputs)] if isinstance(made, keras.Model) else []
    if shapes != [(None, n_inputs)] * 2:
        msg = f"{builder}({n_inputs}) must give a Keras model from {n_inputs} inputs to as many outputs"
        raise InputError(msg)
    for layer in made._flatten_layers():  # there is no public way into nested models
        foreign = not type(layer).__module__.startswith("keras.")
        if foreign or isinstance(layer, keras.layers.Lambda):
            msg = f"{builder} uses the layer {type(layer).__name__}, and a bundle holds layers of Keras alone, no code"
            raise InputError(msg)
    return keras.Model(made.inputs[0], made.outputs[0], name=OWN_NETWORK)


@dataclass(frozen=True)
class OwnStack(Stack):
    """Such a network where scores are made of a `Stack`; it knows single precision alone.

    Attributes:
        network: from `own_network`, or from its file.
    """

    network: keras.Model | None = None

    def astype(self, dtype: type[np.floating[Any]]) -> "OwnStack":  # noqa: ARG002 - of `Stack`
        """The same: Keras computes in single precision."""
        return self

    def __call__(self, inputs: NDArray[np.floating[Any]]) -> Passed:
        """Inputs of shape (n, k) through the network, as for an event that is scored: nothing is random."""
        network: Any = self.network
        outputs = network(inputs.astype(np.float32), training=False)
        return Passed(np.array(keras.ops.convert_to_numpy(outputs)), None, None)
