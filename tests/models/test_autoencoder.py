import numpy as np
import pytest

from models import backend

backend.start()
keras = pytest.importorskip("keras")

from models.autoencoder import (  # noqa: E402
    build,
    divergence,
    load,
    negative_elbo,
    prepare_training,
    reconstruction_error,
    save,
    squared_errors,
)
from models.settings import TrainingSettings  # noqa: E402

K = 6
VAE = TrainingSettings(
    kind="vae",
    encoder=(8, 3),
    encoder_activations=("leakyrelu", "linear"),
    decoder=(8,),
    decoder_activations=("relu", "linear"),
    draws=4,
)
PENALISED = TrainingSettings(
    encoder=("n", 3),
    encoder_activations=("leakyrelu", "tanh"),
    decoder=(),
    decoder_activations=("leakyrelu",),
    kernel_l1=0.05,
    activity_l2=0.5,
)


@pytest.fixture
def inputs():
    return np.random.default_rng(3).normal(size=(64, K)).astype(np.float32)


def test_the_network_has_the_configured_layers_and_penalties():
    network = build(PENALISED, K)
    assert [network.get_layer(name).units for name in ("encoder_1", "encoder_2", "reconstruction")] == [
        K,
        3,
        K,
    ]
    assert network.get_layer("encoder_1_leakyrelu").negative_slope == pytest.approx(0.1)
    assert float(network.get_layer("encoder_2").kernel_regularizer.l1) == pytest.approx(0.05)
    assert float(network.get_layer("encoder_1_leakyrelu").activity_regularizer.l2) == pytest.approx(0.5)
    assert network.get_layer("reconstruction").kernel_regularizer is None


ACTIVATIONS = {
    "tanh": np.tanh,
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "leakyrelu": lambda x: np.where(x > 0, x, 0.1 * x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("penalised", ["hidden", "alternate"])
def test_the_loss_is_the_weighted_error_and_the_penalties_to_the_last_digit(inputs, penalised):
    """By hand: L1 of kernels, L2 of activations per event, on the layers that are to carry them, not on the output."""
    settings = TrainingSettings(
        encoder=(5, 3),
        encoder_activations=("leakyrelu", "tanh"),
        decoder=(4,),
        decoder_activations=("relu", "sigmoid"),
        kernel_l1=0.05,
        activity_l2=0.5,
        penalised=penalised,
    )
    network = build(settings, K)
    prepare_training(network, settings, steps=10)
    weight = np.random.default_rng(1).uniform(0.2, 3.0, 64).astype(np.float32)
    names = ["encoder_1", "encoder_2", "decoder_1", "reconstruction"]
    activations = [*settings.encoder_activations, *settings.decoder_activations]
    x, penalties = inputs.astype(np.float64), 0.0
    for place, (name, activation) in enumerate(zip(names, activations, strict=True)):
        kernel, bias = (np.asarray(part, np.float64) for part in network.get_layer(name).get_weights())
        x = ACTIVATIONS[activation](x @ kernel + bias)
        if name != "reconstruction" and (penalised == "hidden" or place in {0, 2}):
            penalties += 0.05 * np.abs(kernel).sum() + 0.5 * np.mean(np.sum(x**2, axis=1))
    error = np.mean(weight * np.mean((x - inputs) ** 2, axis=1))
    found = network.test_on_batch(inputs, inputs, sample_weight=weight, return_dict=True)
    assert found["loss"] == pytest.approx(error + penalties, rel=1e-5)
    mean_error = np.average(np.mean((x - inputs) ** 2, axis=1), weights=weight)
    assert found["error"] == pytest.approx(mean_error, rel=1e-5)


def test_shapes_need_not_be_symmetric(inputs):
    settings = TrainingSettings(
        encoder=(12, 2),
        encoder_activations=("tanh", "linear"),
        decoder=(3, 5, 9, 20),
        decoder_activations=("relu", "tanh", "tanh", "leakyrelu", "linear"),
    )
    network = build(settings, K)
    units = [layer.units for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    assert units == [12, 2, 3, 5, 9, 20, K]
    assert network(inputs).shape == (64, K)


def test_the_error_of_a_vae_falls_with_the_number_of_draws(inputs):
    """Eq. 1.8 averages over L draws: the expected loss stays, its spread falls with 1/L."""
    losses = {}
    for draws in (1, 16):
        settings = VAE.model_copy(update={"draws": draws})
        network = build(settings, K, seed=5)
        loss = negative_elbo(1.0)
        values = [keras.ops.convert_to_numpy(loss(inputs, network(inputs, training=True))) for _ in range(30)]
        losses[draws] = np.array(values)
    spread = {draws: np.mean(np.std(values, axis=0)) for draws, values in losses.items()}
    assert spread[16] == pytest.approx(spread[1] / 4, rel=0.25)


def test_the_divergence_is_that_of_a_numerical_integral():
    mean, log_variance = np.array([[0.7, -1.2]], np.float32), np.array([[0.5, -0.8]], np.float32)
    x, step = np.linspace(-15, 15, 60_001, retstep=True)
    expected = 0.0
    for mu, log_var in zip(mean[0], log_variance[0], strict=True):
        q = np.exp(-0.5 * (x - mu) ** 2 / np.exp(log_var)) / np.sqrt(2 * np.pi * np.exp(log_var))
        p = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
        expected += np.sum(q * np.log(np.maximum(q, 1e-300) / p)) * step
    found = keras.ops.convert_to_numpy(divergence(mean, log_variance))
    assert found[0] == pytest.approx(expected, rel=1e-4)


def test_the_vae_draws_in_training_and_never_in_scoring(inputs):
    network = build(VAE, K, seed=5)
    twice = [keras.ops.convert_to_numpy(network(inputs, training=False)) for _ in range(2)]
    np.testing.assert_array_equal(*twice)
    assert twice[0].shape == (64, 4, K + 1)
    np.testing.assert_array_equal(twice[0][:, 0], twice[0][:, 3])
    drawn = keras.ops.convert_to_numpy(network(inputs, training=True))
    assert not np.allclose(drawn[:, 0, :K], drawn[:, 1, :K])


def test_the_vae_loss_is_eq_1_8_of_each_event(inputs):
    outputs = keras.ops.convert_to_numpy(build(VAE, K)(inputs, training=False))
    likelihood = 0.5 * np.sum((outputs[:, 0, :K] - inputs) ** 2, axis=1)
    found = keras.ops.convert_to_numpy(negative_elbo(0.3)(inputs, keras.ops.convert_to_tensor(outputs)))
    np.testing.assert_allclose(found, likelihood + 0.3 * outputs[:, 0, K], rtol=1e-5)


@pytest.mark.parametrize("settings", [VAE, PENALISED], ids=["vae", "autoencoder"])
def test_a_network_returns_from_its_file_in_safe_mode(tmp_path, inputs, settings):
    network = build(settings, K)
    save(network, tmp_path / "model.keras", settings, K)
    again = load(tmp_path / "model.keras")
    expected, found = (
        keras.ops.convert_to_numpy(model(inputs, training=False)) for model in (network, again)
    )
    np.testing.assert_array_equal(found, expected)
    assert not again.compiled


def test_residuals_average_to_the_error(inputs):
    network = build(PENALISED, K)
    outputs = network(inputs)
    per_input = keras.ops.convert_to_numpy(squared_errors(inputs, outputs))
    per_event = keras.ops.convert_to_numpy(reconstruction_error(inputs, outputs))
    assert per_input.shape == inputs.shape
    np.testing.assert_allclose(per_input.mean(axis=1), per_event, rtol=1e-6)


@pytest.mark.parametrize("settings", [VAE.model_copy(update={"draws": 1}), PENALISED], ids=["vae", "ae"])
def test_a_weight_of_two_trains_like_the_event_twice(inputs, settings):
    """In one step over all events; weights are normalised to mean 1, as in training."""
    if settings.kind == "vae":
        settings = settings.model_copy(update={"beta": 0.0})
    # Penalties on activations count events without weights, and are not part of this statement.
    settings = settings.model_copy(update={"activity_l2": 0.0})
    weight = np.where(np.arange(64) < 32, 2.0, 1.0).astype(np.float32)
    repeated = np.concatenate([inputs, inputs[:32]])
    trained = []
    for x, w in ((inputs, weight / weight.mean()), (repeated, np.ones(96, np.float32))):
        keras.utils.set_random_seed(1)
        network = build(settings, K)
        if settings.kind == "vae":  # without noise both see the same latent values
            network.get_layer("latent_log_variance").bias.assign(np.full(3, -20.0, np.float32))
            network.get_layer("latent_log_variance").trainable = False
        prepare_training(network, settings, steps=10)
        network.train_on_batch(x, x, sample_weight=w)
        trained.append(network.get_weights())
    for one, other in zip(*trained, strict=True):
        if one.dtype == np.float32:
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-4)
