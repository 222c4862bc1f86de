"""What a search may choose: the spaces of the two sources and a wide one, and the settings of a trial.

Importing this module imports Keras through KerasTuner; `models.backend.start` comes first.
"""

from collections.abc import Mapping
from typing import Any, Final

from keras_tuner import HyperParameters

from fileset.exceptions import InputError
from models.settings import SpaceName, TrainingSettings

__all__ = ["active_values", "search_space", "trial_settings"]

# Widths of the encoder's layers from the inputs to the latent space, of n inputs; the decoder's mirror them.
_STACKS: Final[dict[SpaceName, tuple[tuple[int, int | None], ...]]] = {
    "report": ((20, None), (15, 19), (10, 14), (1, 9)),  # None: n - 1
    "thesis": ((60, None), (30, 59), (10, 29), (1, 9)),
}
_ACTIVATIONS: Final = ["relu", "tanh", "leakyrelu", "linear"]
_PENALTIES: Final = [0.5, 0.1, 0.05, 0.01]
_LEAKY_ALPHAS: Final = [1.0, 0.5, 0.1, 0.05, 0.01]
_LEARNING_RATES: Final = [9.0e-2, 9.5e-2, 1.0e-3, 1.5e-3]

_WIDE_LAYERS: Final = 3  # hidden layers on each side of the latent space at most
_WIDE_LATENT: Final = 64
_WIDE_PENALTIES: Final = [0.0, 1.0e-6, 1.0e-5, 1.0e-4, 1.0e-3, 1.0e-2]
_WIDE_BATCHES: Final = [256, 1024, 4096, 8192]
_WIDE_DRAWS: Final = [1, 2, 4]

_SCALARS: Final = ("kernel_l1", "activity_l2", "leaky_alpha", "learning_rate", "batch_size", "beta", "draws")
_OTHERS: Final = {"encoder_layers", "decoder_layers", *_SCALARS}
_DIGITS: Final = 3  # of numbers drawn from an interval: enough to choose, few enough to type


def search_space(name: SpaceName, *, n_inputs: int, variational: bool = False) -> HyperParameters:
    """The hyperparameters of a space.

    Neither scaler nor weighting is among them: each has its own units of the error, so that the search would
    compare what cannot be compared. They come from the training settings, as does the kind of the network.

    Args:
        name: "report" and "thesis" are the tunable stacks of the sources (four layers, the decoder's ranges mirror
            the encoder's); "wide" has any two depths and shapes.
        n_inputs: number of columns, n.
        variational: the factor of the Kullback-Leibler term and the number of draws may be chosen too.

    Raises:
        InputError: the space's layers are wider than the inputs.
    """
    space = HyperParameters()
    if name == "wide":
        _wide(space, n_inputs, variational=variational)
        return space
    widest = _STACKS[name][0][0]
    if n_inputs <= widest:
        msg = (
            f"the search space {name!r} begins with layers of {widest} units and there are only {n_inputs} "
            "inputs: take the space 'wide' or another feature set"
        )
        raise InputError(msg)
    *hidden, latent = [(low, high or n_inputs - 1) for low, high in _STACKS[name]]
    for place, limits in enumerate(hidden, 1):
        _layer(space, f"encoder_{place}", limits)
    _layer(space, "latent", latent)
    for place, limits in enumerate(reversed(hidden), 1):
        _layer(space, f"decoder_{place}", limits)
    space.Choice("output_activation", _ACTIVATIONS)
    space.Choice("kernel_l1", _PENALTIES)
    space.Choice("activity_l2", _PENALTIES)
    space.Choice("leaky_alpha", _LEAKY_ALPHAS)
    space.Choice("learning_rate", _LEARNING_RATES)
    return space


def _layer(space: HyperParameters, name: str, limits: tuple[int, int], sampling: str = "linear") -> None:
    space.Int(name, *limits, sampling=sampling)
    space.Choice(f"{name}_activation", _ACTIVATIONS)


def _wide(space: HyperParameters, n_inputs: int, *, variational: bool) -> None:
    """Encoder and decoder of any depth and shape, also wider than the inputs; penalties may be absent."""
    for side in ("encoder", "decoder"):
        space.Int(f"{side}_layers", 0, _WIDE_LAYERS)
        # KerasTuner's conditions do not survive its own protocol: layers beyond the depth are drawn and left out.
        for place in range(1, _WIDE_LAYERS + 1):
            _layer(space, f"{side}_{place}", (2, 2 * n_inputs), "log")
        if side == "encoder":
            _layer(space, "latent", (1, max(1, min(n_inputs - 1, _WIDE_LATENT))), "log")
    space.Choice("output_activation", _ACTIVATIONS)
    space.Choice("kernel_l1", _WIDE_PENALTIES)
    space.Choice("activity_l2", _WIDE_PENALTIES)
    space.Float("leaky_alpha", 0.01, 1.0, sampling="log")
    space.Float("learning_rate", 1.0e-4, 1.0e-1, sampling="log")
    space.Choice("batch_size", _WIDE_BATCHES)
    if variational:
        space.Float("beta", 0.01, 4.0, sampling="log")
        space.Choice("draws", _WIDE_DRAWS)


def trial_settings(values: Mapping[str, Any], training: TrainingSettings, *, epochs: int) -> TrainingSettings:
    """The training settings of a trial: a plain `train` with them does the same again.

    A trial's first epochs must not depend on how many follow, or it could not be continued: the learning rate is
    constant and nothing stops early.

    Args:
        values: of the hyperparameters.
        training: everything that is not searched.
        epochs: of the trial.
    """
    encoder, decoder = [*_layers("encoder", values), "latent"], _layers("decoder", values)
    scalars = {name: _short(values[name]) for name in _SCALARS if name in values}
    return TrainingSettings.model_validate(
        {
            **training.model_dump(mode="json"),
            "encoder": [int(values[name]) for name in encoder],
            "encoder_activations": [values[f"{name}_activation"] for name in encoder],
            "decoder": [int(values[name]) for name in decoder],
            "decoder_activations": [values[f"{name}_activation"] for name in [*decoder, "output"]],
            **scalars,
            "learning_rate_schedule": "constant",
            "epochs": epochs,
            "patience": None,
            "fail_on_collapse": False,
        }
    )


def active_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that make a difference: without Hyperband's own, and without layers beyond the depth."""
    layers = {"latent", "output", *_layers("encoder", values), *_layers("decoder", values)}
    return {
        name: value
        for name, value in values.items()
        if not name.startswith("tuner/") and (name in _OTHERS or name.removesuffix("_activation") in layers)
    }


def _layers(side: str, values: Mapping[str, Any]) -> list[str]:
    depth = int(values.get(f"{side}_layers", _WIDE_LAYERS))
    return [f"{side}_{place}" for place in range(1, depth + 1)]


def _short(value: float) -> float | int:
    return value if isinstance(value, int) else float(f"{value:.{_DIGITS}g}")
