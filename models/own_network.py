"""A network of the user's own: a function that the configuration names builds it, and Keras computes what it gives.

Its bundle is loaded without that function, so it is made of Keras' own layers.

Importing this module imports Keras; `models.backend.start` comes first.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import InputError
from models.forward import Passed, Stack
from processors.own_functions import OWN_ERRORS, own_function

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
    try:
        made = own_function(builder)(n_inputs)
    except OWN_ERRORS as error:
        msg = f"{builder}({n_inputs}) fails ({type(error).__name__}: {error}): mend it"
        raise InputError(msg) from error
    shapes = [tuple(t.shape) for t in (*_ends(made, "inputs"), *_ends(made, "outputs"))]
    if shapes != [(None, n_inputs)] * 2:
        msg = f"{builder}({n_inputs}) must give a Keras model from {n_inputs} inputs to as many outputs"
        raise InputError(msg)
    for layer in made._flatten_layers():  # there is no public way into nested models
        foreign = not type(layer).__module__.startswith("keras.")
        if foreign or isinstance(layer, keras.layers.Lambda):
            msg = f"{builder} uses the layer {type(layer).__name__}, and a bundle holds layers of Keras alone, no code"
            raise InputError(msg)
    network = keras.Model(made.inputs[0], made.outputs[0], name=OWN_NETWORK)
    foreign_part = next(_foreign(_written(network, builder)), None)
    if foreign_part is not None:
        msg = f"{builder} uses {foreign_part}, and a bundle holds what Keras has itself, no code"
        raise InputError(msg)
    return network


def _ends(made: Any, which: str) -> list[Any]:
    """Inputs or outputs of a model; a class of one's own has none until it is called."""
    return list(getattr(made, which, None) or ()) if isinstance(made, keras.Model) else []


def _written(network: keras.Model, builder: str) -> Any:
    """The network as its file describes it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of lambdas, which are refused
            return keras.saving.serialize_keras_object(network)
    except (NotImplementedError, OSError, TypeError, ValueError) as error:
        msg = f"{builder} uses what cannot be written to a bundle ({error}): take what Keras has itself"
        raise InputError(msg) from error


def _foreign(written: Any) -> Iterator[str]:
    """Functions and classes in such a description that are none of Keras: activations, initialisers, penalties."""
    if isinstance(written, dict):
        kind = written.get("class_name")
        if kind == "function":
            yield f"the function {written.get('config')}"
        elif kind == "__lambda__" or written.keys() == {"value"}:  # its code, and nothing of what it is
            yield "a function of its own"
        elif kind is not None and not str(written.get("module") or "keras").startswith(("keras", "builtins")):
            yield f"the class {kind}"
        written = written.values()
    elif not isinstance(written, list | tuple):
        return
    for part in written:
        yield from _foreign(part)


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
