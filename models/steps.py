"""Many training steps in one call: what a small network costs is the way from Python into its graph and back."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models import backend

if TYPE_CHECKING:
    import keras

__all__ = ["Steps", "training_steps"]

Steps: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.float32]], None]


def training_steps(network: "keras.Model", batch_size: int) -> Steps:
    """A function that trains a compiled network on all batches of a window, one after the other.

    With TensorFlow the loop over batches is part of the graph; other backends step one by one. Metrics add up
    until they are reset.

    Args:
        network: compiled, with optimiser and metrics built.
        batch_size: events of a step.

    Returns:
        A function of features, shape (n, k), and weights, shape (n,); n is a multiple of `batch_size`.
    """
    if backend.start() == "tensorflow":
        return _in_one_graph(network, batch_size)

    def one_by_one(features: NDArray[np.float32], weight: NDArray[np.float32]) -> None:
        for start in range(0, len(weight), batch_size):
            batch = features[start : start + batch_size]
            network.train_on_batch(batch, batch, sample_weight=weight[start : start + batch_size])

    return one_by_one


def _in_one_graph(network: "keras.Model", batch_size: int) -> Steps:
    import tensorflow as tf  # noqa: PLC0415 (only there if it is the backend)

    n_inputs = int(network.input_shape[-1])
    step = tf.function(network.train_step, jit_compile=bool(network.jit_compile))

    def body(start: Any, features: Any, weight: Any) -> Any:
        # A slice of known shape: the graph is made for one size of batch.
        batch = tf.slice(features, [start, 0], [batch_size, n_inputs])
        step((batch, batch, tf.slice(weight, [start], [batch_size])))
        return start + batch_size

    @tf.function(
        input_signature=[tf.TensorSpec((None, n_inputs), tf.float32), tf.TensorSpec((None,), tf.float32)],
        autograph=False,
    )
    def all_batches(features: Any, weight: Any) -> None:
        tf.while_loop(
            lambda start: start < tf.shape(weight)[0],
            lambda start: body(start, features, weight),
            [tf.constant(0)],
            parallel_iterations=1,
        )

    return lambda features, weight: all_batches(tf.constant(features), tf.constant(weight))
