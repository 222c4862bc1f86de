"""The autoencoder family as functional Keras models, written with `keras.ops` for every backend.

A network maps scaled inputs x, shape (n, k), to their reconstruction, shape (n, k). A variational one (Kingma
and Welling, arXiv:1312.6114; thesis eq. 1.8) gives shape (n, draws, k + 1): the last column is the
Kullback-Leibler divergence of the event's latent Gaussian from the unit Gaussian, so that every term of the
loss belongs to one event and takes its weight.

Importing this module imports Keras; `models.backend.start` comes first.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import keras
import numpy as np
from keras import ops

from models import backend
from models.forward import ACTIVATIONS, LOG_VARIANCE_RANGE, Dense, Stack
from models.own_network import OWN_NETWORK, OwnStack, own_network
from models.settings import ActivationName, TrainingSettings, Width

__all__ = [
    "GaussianDraws",
    "WithDivergence",
    "build",
    "divergence",
    "layers_of",
    "load",
    "negative_elbo",
    "prepare_training",
    "reconstruction_error",
    "save",
    "squared_errors",
]

Tensor: TypeAlias = Any
PACKAGE = "collider-anomalies"


@keras.saving.register_keras_serializable(PACKAGE)
class GaussianDraws(keras.layers.Layer):
    """Draws from a diagonal Gaussian in training, its mean otherwise: a score is never random.

    Takes (mean, log variance), each of shape (n, d), and gives shape (n, draws, d).
    """

    def __init__(self, draws: int = 1, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.draws = draws
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: list[Tensor], training: bool = False) -> Tensor:
        """Mean plus, in training, standard deviation times unit Gaussian noise."""
        mean, log_variance = (ops.expand_dims(part, 1) for part in inputs)
        repeated = ops.repeat(mean, self.draws, axis=1)
        if not training:
            return repeated
        noise = keras.random.normal(ops.shape(repeated), seed=self.generator)
        return repeated + ops.exp(0.5 * ops.clip(log_variance, *LOG_VARIANCE_RANGE)) * noise

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """(n, draws, d)."""
        return (input_shape[0][0], self.draws, input_shape[0][1])

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "draws": self.draws, "seed": self.seed}


@keras.saving.register_keras_serializable(PACKAGE)
class WithDivergence(keras.layers.Layer):
    """Appends the divergence of (mean, log variance) to reconstructions of shape (n, draws, k)."""

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Shape (n, draws, k + 1)."""
        reconstruction, mean, log_variance = inputs
        column = ops.reshape(divergence(mean, log_variance), (-1, 1, 1))
        return ops.concatenate([reconstruction, ops.repeat(column, reconstruction.shape[1], axis=1)], axis=-1)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """(n, draws, k + 1)."""
        n, draws, k = input_shape[0]
        return (n, draws, None if k is None else k + 1)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mean, variance) from N(0, 1), summed over d; shape (n,) (eq. 1.8)."""
    log_variance = ops.clip(log_variance, *LOG_VARIANCE_RANGE)
    return -0.5 * ops.sum(1 + log_variance - ops.square(mean) - ops.exp(log_variance), axis=-1)


def build(settings: TrainingSettings, n_inputs: int, *, seed: int = 0) -> keras.Model:
    """The network that the settings describe, with fresh weights.

    Args:
        settings: widths, activations, penalties and kind.
        n_inputs: number of columns k.
        seed: of fresh weights and of the VAE's latent draws.

    Raises:
        InputError: the user's own builder makes something else than an autoencoder of Keras' layers.
    """
    if settings.builder is not None:
        return _initialised(own_network(settings.builder, n_inputs), seed)
    inputs = keras.Input((n_inputs,), name="inputs")
    hidden = inputs
    last = len(settings.encoder) - 1
    for index, (width, activation) in enumerate(
        zip(settings.encoder, settings.encoder_activations, strict=True)
    ):
        if settings.kind == "vae" and index == last:
            break
        penalty = _penalised(settings, index)
        name = f"encoder_{index + 1}"
        hidden = _dense(hidden, width, activation, settings, n_inputs, name=name, penalty=penalty)
    if settings.kind == "vae":
        return _initialised(_variational(inputs, hidden, settings, n_inputs, seed), seed)
    return _initialised(keras.Model(inputs, _decode(hidden, settings, n_inputs), name="autoencoder"), seed)


def _initialised(model: keras.Model, seed: int) -> keras.Model:
    """Weights from the seed alone: Keras' own come from a global generator that any thread may draw from."""
    for place, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.Dense) and layer.name != "latent_log_variance":
            own = int(np.random.default_rng((seed, place)).integers(2**31))
            layer.kernel.assign(keras.initializers.GlorotUniform(seed=own)(layer.kernel.shape))
    return model


def _variational(
    inputs: Tensor, hidden: Tensor, settings: TrainingSettings, n_inputs: int, seed: int
) -> keras.Model:
    """A Gaussian latent space of the last encoder width; its activation applies to the mean."""
    width = _width(settings.encoder[-1], n_inputs)
    mean = _dense(
        hidden, width, settings.encoder_activations[-1], settings, n_inputs, name="latent_mean", penalty=False
    )
    # Zeros: every event starts as a unit Gaussian, and the exponential cannot run away in the first steps.
    log_variance = keras.layers.Dense(width, kernel_initializer="zeros", name="latent_log_variance")(hidden)
    latent = GaussianDraws(settings.draws, seed, name="latent")([mean, log_variance])
    outputs = WithDivergence(name="with_divergence")(
        [_decode(latent, settings, n_inputs), mean, log_variance]
    )
    return keras.Model(inputs, outputs, name="variational_autoencoder")


def _decode(hidden: Tensor, settings: TrainingSettings, n_inputs: int) -> Tensor:
    for index, (width, activation) in enumerate(
        zip(settings.decoder, settings.decoder_activations[:-1], strict=True)
    ):
        penalty = _penalised(settings, len(settings.encoder) + index)
        name = f"decoder_{index + 1}"
        hidden = _dense(hidden, width, activation, settings, n_inputs, name=name, penalty=penalty)
    output = settings.decoder_activations[-1]
    return _dense(hidden, n_inputs, output, settings, n_inputs, name="reconstruction", penalty=False)


def _dense(
    hidden: Tensor,
    width: Width,
    activation: ActivationName,
    settings: TrainingSettings,
    n_inputs: int,
    *,
    name: str,
    penalty: bool,
) -> Tensor:
    """One layer; hidden ones carry the L1 penalty on kernels and the L2 penalty on activations.

    The L1 penalty is the sum of |w| over a kernel, the L2 penalty the sum of squares over the layer's units, averaged
    over the events of a batch without their weights.
    """
    kernel = keras.regularizers.L1(settings.kernel_l1) if penalty and settings.kernel_l1 else None
    activity = keras.regularizers.L2(settings.activity_l2) if penalty and settings.activity_l2 else None
    leaky = activation == "leakyrelu"
    dense = keras.layers.Dense(
        _width(width, n_inputs),
        activation=None if leaky else activation,
        kernel_regularizer=kernel,
        activity_regularizer=None if leaky else activity,
        name=name,
    )
    if not leaky:
        return dense(hidden)
    activated = keras.layers.LeakyReLU(
        negative_slope=settings.leaky_alpha, activity_regularizer=activity, name=f"{name}_leakyrelu"
    )
    return activated(dense(hidden))


def _penalised(settings: TrainingSettings, place: int) -> bool:
    """Whether the hidden layer at this place of the stack, from 0, carries penalties."""
    return settings.penalised == "hidden" or place % 2 == 0


def _width(width: Width, n_inputs: int) -> int:
    return n_inputs if width == "n" else int(width)


def squared_errors(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Squared error of each input, shape (n, k); for a VAE the mean over its draws."""
    k = inputs.shape[-1]
    if len(outputs.shape) == 3:
        return ops.mean(ops.square(outputs[:, :, :k] - ops.expand_dims(inputs, 1)), axis=1)
    return ops.square(outputs - inputs)


def reconstruction_error(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Mean squared error of each event, shape (n,)."""
    return ops.mean(squared_errors(inputs, outputs), axis=-1)


def negative_elbo(beta: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Loss of a VAE for each event, shape (n,): eq. 1.8 with Gaussians of unit variance around the output."""

    def loss(inputs: Tensor, outputs: Tensor) -> Tensor:
        likelihood = 0.5 * ops.sum(squared_errors(inputs, outputs), axis=-1)
        return likelihood + beta * outputs[:, 0, -1]

    return loss


def prepare_training(model: keras.Model, settings: TrainingSettings, *, steps: int) -> None:
    """Compile a model with loss, optimiser and schedule.

    The loss is the sum over a batch of (event weight x event loss) over the number of events: with weights of
    mean 1 every event pulls as much in a batch of light events as in one of heavy ones. The metrics are the
    means per unit of weight: `error` (squared error) and, for a VAE, `objective`.
    """
    vae = settings.kind == "vae"
    loss = negative_elbo(settings.beta) if vae else reconstruction_error
    metrics = [keras.metrics.MeanMetricWrapper(reconstruction_error, name="error")]
    if vae:
        metrics.append(keras.metrics.MeanMetricWrapper(loss, name="objective"))
    rate: Any = settings.learning_rate
    if settings.learning_rate_schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=loss,
        weighted_metrics=metrics,
        jit_compile=backend.xla(settings.xla),
    )


def layers_of(model: keras.Model) -> Stack:
    """The layers of a network made by `build`, to be computed without Keras, to which one of a user's own is left."""
    if model.name == OWN_NETWORK or not all(isinstance(layer, _LAYERS) for layer in model.layers):
        return OwnStack((), network=model)
    slopes = {
        layer.name.removesuffix("_leakyrelu"): float(layer.negative_slope)
        for layer in model.layers
        if isinstance(layer, keras.layers.LeakyReLU)
    }
    dense = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            kernel, bias = layer.get_weights()
            dense[layer.name] = Dense(kernel, bias, layer.activation.__name__, slopes.get(layer.name))
    if any(layer.activation not in ACTIVATIONS for layer in dense.values()) or not all(
        0 <= slope <= 1 for slope in slopes.values()
    ):
        return OwnStack((), network=model)
    log_variance = dense.pop("latent_log_variance", None)
    latent = list(dense).index("latent_mean") if log_variance is not None else None
    return Stack(tuple(dense.values()), latent, log_variance)


_LAYERS: Final = (
    keras.layers.InputLayer,
    keras.layers.Dense,
    keras.layers.LeakyReLU,
    keras.layers.Identity,
    GaussianDraws,
    WithDivergence,
)


def save(model: keras.Model, path: Path, settings: TrainingSettings, n_inputs: int) -> None:
    """Write a `.keras` file with the network alone, without optimiser and loss."""
    bare = build(settings, n_inputs)
    bare.set_weights(model.get_weights())
    bare.save(path)


def load(path: Path) -> keras.Model:
    """Read a `.keras` file in safe mode: no code in the file is run."""
    return keras.saving.load_model(path, compile=False, safe_mode=True)
