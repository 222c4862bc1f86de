"""A network that a function of the user's own builds: what it may be, and that it scores as Keras says."""

import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from fileset.exceptions import InputError
from models.autoencoder import build, load, save
from models.own_network import own_network
from models.scores import event_function
from models.settings import TrainingSettings
from processors.own_functions import look_beside

BUILDERS = """
import keras


def normalised(n):
    inputs = keras.Input((n,))
    hidden = keras.layers.LayerNormalization()(keras.layers.Dense(8, activation="swish")(inputs))
    return keras.Model(inputs, keras.layers.Dense(n)(keras.layers.Dropout(0.5)(hidden)))


def of_operations(n):
    inputs = keras.Input((n,))
    hidden = keras.layers.Dense(3, activation=keras.activations.gelu, kernel_regularizer=keras.regularizers.L2(1e-3))
    return keras.Model(inputs, keras.layers.Dense(n)(hidden(inputs)) + 0.5 * keras.ops.tanh(inputs))


def in_a_row(n):
    return keras.Sequential([keras.Input((n,)), keras.layers.Dense(2), keras.layers.Dense(n)])


def too_narrow(n):
    return keras.Sequential([keras.Input((n,)), keras.layers.Dense(n - 1)])


def no_model(n):
    return n


def with_code(n):
    return keras.Sequential([keras.Input((n,)), keras.layers.Lambda(lambda x: x)])


def doubled(x):
    return 2 * x


def with_its_activation(n):
    return keras.Sequential([keras.Input((n,)), keras.layers.Dense(n, activation=doubled)])


def with_a_lambda(n):
    return keras.Sequential([keras.Input((n,)), keras.layers.Dense(n, activation=lambda x: x)])


class Penalty(keras.regularizers.Regularizer):
    def __call__(self, x):
        return 0.0

    def get_config(self):
        return {}


class Unwritten(keras.regularizers.Regularizer):
    def __call__(self, x):
        return 0.0


def with_its_penalty(n):
    return keras.Sequential([keras.Input((n,)), keras.layers.Dense(n, kernel_regularizer=Penalty())])


def with_what_is_not_written(n):
    return keras.Sequential([keras.Input((n,)), keras.layers.Dense(n, kernel_regularizer=Unwritten())])


class Subclass(keras.Model):
    def call(self, x):
        return x


def never_called(n):
    return Subclass()


def broken(n):
    return {}[n]


class Mine(keras.layers.Layer):
    def call(self, x):
        return x


def with_a_layer_of_its_own(n):
    return keras.Sequential([keras.Input((n,)), Mine()])
"""


@pytest.fixture(autouse=True)
def builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "mine_builders.py").write_text(BUILDERS, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    look_beside(tmp_path / "analysis.yaml")
    yield
    sys.modules.pop("mine_builders", None)


@pytest.mark.parametrize("name", ["normalised", "in_a_row", "of_operations"])
def test_scores_are_the_errors_that_keras_gives_and_survive_a_file(name: str, tmp_path: Path) -> None:
    settings = TrainingSettings(builder=f"mine_builders:{name}")
    network = build(settings, 5, seed=3)
    inputs = np.random.default_rng(1).normal(size=(300, 5)).astype(np.float32)
    outputs = keras.ops.convert_to_numpy(network(inputs, training=False))
    expected = np.log10(np.mean(np.square(outputs - inputs), axis=1))
    save(network, tmp_path / "model.keras", settings, 5)
    for model in (network, load(tmp_path / "model.keras")):
        scored = event_function(model, ("mse", "mae"), n_inputs=5, rows=128)
        found = np.concatenate([scores for _, scores, _ in scored(inputs)])
        assert np.allclose(found[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("too_narrow", r"too_narrow\(5\) must give a Keras model from 5 inputs to as many outputs"),
        ("no_model", r"no_model\(5\) must give a Keras model"),
        ("with_code", "with_code uses the layer Lambda"),
        ("with_a_layer_of_its_own", "uses the layer Mine, and a bundle holds layers of Keras alone"),
        ("with_its_activation", "with_its_activation uses the function doubled"),
        ("with_a_lambda", "with_a_lambda uses a function of its own"),
        ("with_its_penalty", "with_its_penalty uses the class Penalty"),
        ("with_what_is_not_written", "uses what cannot be written to a bundle"),
        ("never_called", r"never_called\(5\) must give a Keras model"),
        ("broken", r"broken\(5\) fails .KeyError: 5"),
        ("nowhere", "the module mine_builders has none of this name"),
    ],
)
def test_what_could_not_be_loaded_without_its_code_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        own_network(f"mine_builders:{name}", 5)


def test_a_variational_network_is_none_of_ones_own() -> None:
    with pytest.raises(ValueError, match="leave one of them out"):
        TrainingSettings(builder="mine_builders:normalised", kind="vae")
