"""Every score is the log10 of the formula it is named for, whatever the batch."""

import numpy as np
import pytest

from models import backend

backend.start()
keras = pytest.importorskip("keras")

from models.autoencoder import build, divergence  # noqa: E402
from models.scores import event_function  # noqa: E402
from models.settings import TrainingSettings  # noqa: E402

K = 5
VAE = TrainingSettings(
    kind="vae",
    encoder=(8, 3),
    encoder_activations=("tanh", "leakyrelu"),
    decoder=(8,),
    decoder_activations=("relu", "linear"),
    beta=0.3,
    draws=2,
)
PLAIN = TrainingSettings(
    encoder=(4, 2),
    encoder_activations=("tanh", "tanh"),
    decoder=(4,),
    decoder_activations=("tanh", "linear"),
)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(3).normal(0, 2, (150, K)).astype(np.float32)


def scored(network, settings, inputs, rows=64):
    names = settings.scores
    batches = event_function(network, names, n_inputs=K, rows=rows, beta=settings.beta)(
        inputs, residuals=True
    )
    rows_of, values, residuals = zip(*batches, strict=True)
    assert [part.start for part in rows_of] == list(range(0, len(inputs), rows))
    return dict(zip(names, np.concatenate(values).T, strict=True)), np.concatenate(residuals)


def test_an_autoencoder_has_the_squared_and_the_absolute_error(inputs):
    network = build(PLAIN, K)
    found, residuals = scored(network, PLAIN, inputs)
    difference = keras.ops.convert_to_numpy(network(inputs)) - inputs
    assert list(found) == ["mse", "mae"]
    np.testing.assert_allclose(found["mse"], np.log10(np.mean(difference**2, axis=1)), atol=1e-5)
    np.testing.assert_allclose(found["mae"], np.log10(np.mean(np.abs(difference), axis=1)), atol=1e-5)
    np.testing.assert_allclose(residuals, difference**2, rtol=1e-4, atol=1e-5)


def test_a_variational_one_adds_the_terms_of_its_loss_at_the_latent_mean(inputs):
    network = build(VAE, K)
    spread = network.get_layer("latent_log_variance")
    spread.set_weights([np.full_like(weight, 0.1) for weight in spread.get_weights()])
    found, _ = scored(network, VAE, inputs)
    assert list(found) == ["elbo", "mse", "mae", "kl", "mu2"]
    latent = keras.Model(network.input, network.get_layer("latent").input)(inputs)
    mean, log_variance = (keras.ops.convert_to_numpy(part) for part in latent)
    difference = keras.ops.convert_to_numpy(network(inputs))[:, 0, :K] - inputs
    kl = keras.ops.convert_to_numpy(divergence(mean, log_variance))
    expected = {
        "elbo": 0.5 * np.sum(difference**2, axis=1) + 0.3 * kl,
        "mse": np.mean(difference**2, axis=1),
        "mae": np.mean(np.abs(difference), axis=1),
        "kl": kl,
        "mu2": np.sum(mean**2, axis=1),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], np.log10(value), atol=2e-5, err_msg=name)
    again, _ = scored(network, VAE, inputs)
    for name, value in found.items():
        np.testing.assert_array_equal(again[name], value, err_msg=f"{name} is never random")


def test_a_perfect_reconstruction_has_a_finite_score(inputs):
    identity = keras.Sequential([keras.Input((K,)), keras.layers.Identity()])
    found, _ = scored(identity, PLAIN, inputs)
    np.testing.assert_allclose(found["mse"], -12, atol=1e-5)


def test_an_autoencoder_has_no_latent_gaussian():
    assert PLAIN.model_copy(update={"score": "mae"}).scores == ("mae", "mse")
    with pytest.raises(ValueError, match="score kl needs a latent Gaussian"):
        TrainingSettings(score="kl")


def test_the_distance_is_the_squared_error_and_half_the_size(inputs):
    settings = PLAIN.model_copy(update={"score": "distance"})
    scores, _ = scored(build(settings, K, seed=1), settings, inputs)
    size = np.mean(inputs.astype(np.float64) ** 2, axis=1)
    np.testing.assert_allclose(10 ** scores["distance"], 10 ** scores["mse"] + size / 2, rtol=1e-5)


def test_the_parts_of_the_inputs_have_the_distance_as_their_mean(inputs):
    small = np.concatenate([inputs, 1e-3 * inputs[:20]])  # reconstructed in double precision
    settings = PLAIN.model_copy(update={"score": "distance"})
    network = build(settings, K, seed=1)
    scores, parts = scored(network, settings, small)
    np.testing.assert_allclose(np.log10(parts.mean(axis=1)), scores["distance"], atol=1e-5)
    difference = keras.ops.convert_to_numpy(network(small)) - small
    np.testing.assert_allclose(parts, difference**2 + small**2 / 2, rtol=1e-4, atol=1e-5)
