"""Passes over a sample: one epoch of training, and one look at the validation split.

What a small network costs is the way from Python into its graph and back: many steps are one call. With JAX the sample
stays on the device where it fits, and only the order of events goes there; the batches are those of any other sample.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from models import backend
from models.reading import CHUNK_ROWS
from models.stream import BackgroundSample, Chunk, MemorySample

if TYPE_CHECKING:
    import keras

__all__ = ["Passes", "passes_over"]

DEVICE_PART: Final = 0.8  # of an accelerator's memory may hold the sample

State: TypeAlias = tuple[Any, ...]


class Passes(NamedTuple):
    """What an epoch is made of; metrics of the network add up until they are reset."""

    train: Callable[
        [np.random.Generator], int
    ]  # over the training split, shuffled; gives the number of events
    validate: Callable[[], None]  # over the validation split


def passes_over(
    sample: BackgroundSample, network: "keras.Model", batch_size: int, *, memory_mb: float = np.inf
) -> Passes:
    """Passes of a compiled network over a sample.

    Args:
        sample: scaled.
        network: with optimiser and metrics built.
        batch_size: events of a training step.
        memory_mb: what the sample may take [MB]: where JAX has no accelerator, its copy counts too.
    """
    name = backend.start()
    if name == "jax":
        return _with_jax(sample, network, batch_size, memory_mb)
    train_on = (
        _in_one_graph(network, batch_size) if name == "tensorflow" else _one_by_one(network, batch_size)
    )
    test_step = network.test_step
    if name == "tensorflow":
        tf = import_module("tensorflow")  # only there if it is the backend
        test_step = tf.function(network.test_step, jit_compile=bool(network.jit_compile), autograph=False)

    def train(rng: np.random.Generator) -> int:
        events = 0
        for window in sample.windows(batch_size, rng):
            train_on(window)
            events += len(window.weight)
        return events

    def validate() -> None:
        for batch in _validation_batches(sample):
            test_step(tuple(map(_tensor, (batch.features, batch.features, batch.training_weight))))

    return Passes(train, validate)


def _tensor(values: Any) -> Any:
    import keras  # noqa: PLC0415 (after the backend was started)

    return keras.ops.convert_to_tensor(values)


def _one_by_one(network: "keras.Model", batch_size: int) -> Callable[[Chunk], None]:
    def train_on(window: Chunk) -> None:
        for start in range(0, len(window.weight), batch_size):
            batch = window.take(slice(start, start + batch_size))
            network.train_step(tuple(map(_tensor, (batch.features, batch.features, batch.training_weight))))

    return train_on


def _in_one_graph(network: "keras.Model", batch_size: int) -> Callable[[Chunk], None]:
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

    return lambda window: all_batches(tf.constant(window.features), tf.constant(window.training_weight))


def _with_jax(sample: BackgroundSample, network: "keras.Model", batch_size: int, memory_mb: float) -> Passes:
    """Each window of batches is one compiled loop; of a sample on the device only the order of events goes there."""
    jax = import_module("jax")  # only there if it is the backend

    def step(state: State, batch: tuple[Any, Any]) -> tuple[State, None]:
        features, weight = batch
        return network.train_step(state, (features, features, weight))[1], None

    def of_window(state: State, features: Any, weight: Any) -> State:
        batches = features.reshape(-1, batch_size, features.shape[-1]), weight.reshape(-1, batch_size)
        found: State = jax.lax.scan(step, state, batches)[0]
        return found

    def of_rows(state: State, rows: Any, features: Any, weight: Any) -> State:
        def gathered(state: State, rows: Any) -> tuple[State, None]:
            return step(state, (features[rows], weight[rows]))

        found: State = jax.lax.scan(gathered, state, rows.reshape(-1, batch_size))[0]
        return found

    on_window, on_rows = jax.jit(of_window), jax.jit(of_rows)
    on_validation = jax.jit(
        lambda state, features, weight: network.test_step(state, (features, features, weight))[1]
    )
    held = _on_device(sample, memory_mb)

    def train(rng: np.random.Generator) -> int:
        variables = _variables(network, with_optimizer=True)
        state, events = _values(variables), 0
        if held is not None and isinstance(sample, MemorySample):
            for rows in sample.orders(batch_size, rng):
                state = on_rows(state, rows.number, *held)
                events += rows.events
        else:
            for window in sample.windows(batch_size, rng):
                state = on_window(state, window.features, window.training_weight)
                events += window.events
        _assign(variables, state)
        return events

    kept: list[tuple[Any, Any]] = []  # batches of the validation split, where the sample stays on the device

    def validate() -> None:
        variables = _variables(network, with_optimizer=False)
        state = _values(variables)
        if held is not None and not kept:
            kept.extend(
                jax.device_put((batch.features, batch.training_weight))
                for batch in _validation_batches(sample)
            )
        batches = kept or ((batch.features, batch.training_weight) for batch in _validation_batches(sample))
        for features, weight in batches:
            state = on_validation(state, features, weight)
        _assign(variables, state)

    return Passes(train, validate)


def _on_device(sample: BackgroundSample, memory_mb: float) -> tuple[Any, Any] | None:
    """Features and training weights of the training split, on the device; nothing if the sample does not fit there."""
    if not isinstance(sample, MemorySample):
        return None
    jax = import_module("jax")
    size = sum(sample.arrays[split].features.nbytes for split in ("train", "validation"))
    memory = jax.devices()[0].memory_stats()  # none of a processor, which holds the sample a second time then
    if size > (DEVICE_PART * memory["bytes_limit"] if memory else memory_mb * 1e6 - size):
        return None
    of = sample.arrays["train"]
    found: tuple[Any, Any] = jax.device_put((of.features, of.training_weight))
    return found


def _variables(network: "keras.Model", *, with_optimizer: bool) -> list[list[Any]]:
    """All that a step changes, in the order in which Keras hands it through."""
    optimizer = [network.optimizer.variables] if with_optimizer else []
    return [
        network.trainable_variables,
        network.non_trainable_variables,
        *optimizer,
        network.metrics_variables,
    ]


def _values(variables: list[list[Any]]) -> State:
    return tuple([variable.value for variable in group] for group in variables)


def _assign(variables: list[list[Any]], state: State) -> None:
    for group, values in zip(variables, state, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.assign(value)


def _validation_batches(sample: BackgroundSample) -> Iterator[Chunk]:
    """The validation split in pieces of one compiled shape, filled up with events of weight 0."""
    rows = min(CHUNK_ROWS, sample.rows["validation"])
    for chunk in sample.chunks("validation"):
        for start in range(0, chunk.events, rows):
            piece = chunk.take(slice(start, start + rows))
            lacking = rows - piece.events
            if lacking:
                shape = ((0, lacking), (0, 0))
                piece = Chunk(
                    np.pad(piece.features, shape),
                    np.pad(piece.training_weight, shape[0]),
                    np.pad(piece.weight, shape[0]),
                )
            yield piece
