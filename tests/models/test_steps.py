"""An epoch is the same wherever the sample lies, and the validation error is of the whole validation split."""

import numpy as np
import pytest

from models import backend

backend.start()
keras = pytest.importorskip("keras")

from models.autoencoder import build, reconstruction_error  # noqa: E402
from models.fitting import fit  # noqa: E402
from models.reading import CHUNK_ROWS  # noqa: E402
from models.settings import TrainingSettings  # noqa: E402
from models.stream import Chunk, MemorySample  # noqa: E402

K = 3
# More validation events than are looked at in one step.
ROWS = {"train": 9_000, "validation": CHUNK_ROWS + 1_000, "test": 10}
SETTINGS = TrainingSettings(
    encoder=(2,), encoder_activations=("tanh",), decoder=(), decoder_activations=("linear",)
)


def sample():
    arrays = {}
    for number, (split, n) in enumerate(ROWS.items()):
        rng = np.random.default_rng(number)
        features = rng.normal(0, 1 + np.linspace(0, 1, n)[:, np.newaxis], (n, K)).astype(np.float32)
        arrays[split] = Chunk(features, rng.uniform(0.5, 1.5, n).astype(np.float32), np.ones(n))
    return MemorySample(["a", "b", "c"], ["background"], ROWS, dict.fromkeys(ROWS, 1.0), arrays)


def fitted(**changes):
    settings = SETTINGS.model_copy(update={"epochs": 1, "batch_size": 512, **changes})
    network = build(settings, K, seed=1)
    return network, fit(network, sample(), settings, seed=2)


def test_the_validation_error_is_the_weighted_mean_over_all_chunks():
    network, run = fitted()
    events = sample().arrays["validation"]
    error = keras.ops.convert_to_numpy(reconstruction_error(events.features, network(events.features)))
    assert run.val_loss[0] == pytest.approx(np.average(error, weights=events.training_weight), rel=1e-5)


def test_the_training_error_is_the_weighted_mean_over_all_batches():
    """With a learning rate of next to nothing the network of the last batch is that of the first."""
    network, run = fitted(learning_rate=1e-12)
    events = sample().arrays["train"]
    error = keras.ops.convert_to_numpy(reconstruction_error(events.features, network(events.features)))
    assert run.loss[0] == pytest.approx(np.average(error, weights=events.training_weight), rel=1e-2)


def test_a_sample_that_the_device_does_not_hold_gives_the_same_weights_to_the_bit():
    on_device, windowed = fitted(epochs=2), fitted(epochs=2, memory_mb=1)
    assert on_device[1].loss == windowed[1].loss
    assert on_device[1].val_loss == windowed[1].val_loss
    for one, other in zip(on_device[0].get_weights(), windowed[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_order_of_events_is_that_of_their_windows():
    events = sample()
    train = events.arrays["train"]
    windows = events.windows(512, np.random.default_rng(5))
    orders = events.orders(512, np.random.default_rng(5))
    for window, rows in zip(windows, orders, strict=True):
        np.testing.assert_array_equal(window.features, train.features[rows.number])
