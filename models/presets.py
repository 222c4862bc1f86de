"""Named experiments: the networks of the two sources, and a default.

Each entry holds the values of `models.settings.TrainingSettings` that differ from its defaults; "n" as a
width stands for the number of inputs. Report: the two-lepton report. Thesis: the three-lepton thesis.
"""

from typing import Any, Final, Literal, TypeAlias

__all__ = ["PRESETS", "PRESET_FEATURES", "FeatureSet"]

FeatureSet: TypeAlias = Literal["table", "reduced", "kinematics", "rmm", "rmm-energies"]

_REPORT: Final[dict[str, Any]] = {"batch_size": 8192, "patience": None}
_THESIS: Final[dict[str, Any]] = {"batch_size": 8192, "learning_rate": 1.0e-3, "leaky_alpha": 0.3}
# Upper-tail inputs, and one number between them: how hard an event is.
_ONE_LINE: Final[dict[str, Any]] = {
    "scaler": "upper-tail",
    "encoder_activations": ("tanh", "tanh"),
    "decoder_activations": ("tanh", "linear"),
    "batch_size": 2048,
    "epochs": 30,
    "members": 5,
}

PRESETS: Final[dict[str, dict[str, Any]]] = {
    # Everything is in the defaults of TrainingSettings.
    "default": {},
    # One-sided inputs of the study on simulated events: new heavy physics lives in upper tails.
    "upper-tail": {"scaler": "upper-tail"},
    # The first recipe of docs/anomaly-search.md. Background lies along one line, how hard an event is: the score is how
    # far from it and how far along it an event is.
    "hardness": {**_ONE_LINE, "encoder": (4, 1), "decoder": (4,), "score": "distance"},
    # What benchmarks/recipe.py chose on background that was made harder, without a signal, by its two rules.
    "hardened": {**_ONE_LINE, "encoder": (16, 1), "decoder": (16,), "score": "mse"},
    "shortfall": {
        **_ONE_LINE,
        "encoder": (32, 16, 3),
        "encoder_activations": ("tanh", "tanh", "tanh"),
        "decoder": (16, 32),
        "decoder_activations": ("tanh", "tanh", "linear"),
        "score": "distance",
    },
    "report-minmax": {
        **_REPORT,
        "scaler": "minmax",
        "encoder": (22, 15, 10, 2),
        "encoder_activations": ("tanh", "linear", "linear", "leakyrelu"),
        "decoder": (10, 16, 27),
        "decoder_activations": ("relu", "leakyrelu", "tanh", "linear"),
        "learning_rate": 1.5e-3,
        "kernel_l1": 0.05,
        "activity_l2": 0.5,
        "leaky_alpha": 1.0,
        "epochs": 15,
        "learning_rate_schedule": "constant",
    },
    "report-unstacked": {
        **_REPORT,
        "scaler": "minmax",
        "encoder": (24,),
        "encoder_activations": ("tanh",),
        "decoder": (),
        "decoder_activations": ("linear",),
        "learning_rate": 0.09,  # printed as 0.9, run with 0.09
        "kernel_l1": 0.05,
        "activity_l2": 0.01,
        "epochs": 6,
        "learning_rate_schedule": "constant",
    },
    # The stored model's first hidden layer was never connected: three encoder layers remain.
    "report-reduced": {
        **_REPORT,
        "scaler": "minmax",
        "encoder": (7, 6, 2),
        "encoder_activations": ("linear", "leakyrelu", "linear"),
        "decoder": (6, 8, 11),
        "decoder_activations": ("leakyrelu", "tanh", "relu", "linear"),
        "learning_rate": 1.5e-3,
        "kernel_l1": 0.5,
        "activity_l2": 0.5,
        "leaky_alpha": 0.1,
        "epochs": 5,
        "learning_rate_schedule": "constant",
    },
    # Sizes were not published: those of the MinMax model.
    "report-standard": {
        **_REPORT,
        "scaler": "standard",
        "encoder": (22, 15, 10, 2),
        "encoder_activations": ("tanh", "tanh", "tanh", "tanh"),
        "decoder": (10, 16, 27),
        "decoder_activations": ("leakyrelu", "leakyrelu", "tanh", "tanh"),
        "learning_rate": 1.5e-3,
        "kernel_l1": 0.01,
        "activity_l2": 0.01,
        "leaky_alpha": 0.01,
        "epochs": 15,
        "learning_rate_schedule": "constant",
    },
    "thesis-ae-small": {
        **_THESIS,
        "scaler": "selective",
        "encoder": ("n", 150),
        "encoder_activations": ("tanh", "leakyrelu"),
        "decoder": (),
        "decoder_activations": ("leakyrelu",),
    },
    "thesis-ae-big": {
        **_THESIS,
        "scaler": "selective",
        "encoder": ("n", 450, 300, 200, 150),
        "encoder_activations": ("tanh", "tanh", "leakyrelu", "relu", "leakyrelu"),
        "decoder": (200, 350, 450),
        "decoder_activations": ("relu", "leakyrelu", "tanh", "leakyrelu"),
    },
    # What the thesis' listing tunes: `tune` with the space "thesis" replaces widths and activations, this is the
    # middle of its ranges. Penalties are on every second layer; the listing's leaky_relu has TensorFlow's slope.
    "thesis-tunable": {
        **_THESIS,
        "scaler": "selective",
        "encoder": (294, 45, 20, 5),
        "encoder_activations": ("tanh", "tanh", "tanh", "tanh"),
        "decoder": (20, 45, 294),
        "decoder_activations": ("tanh", "tanh", "tanh", "linear"),
        "learning_rate": 1.5e-3,
        "kernel_l1": 0.01,
        "activity_l2": 0.01,
        "leaky_alpha": 0.2,
        "penalised": "alternate",
    },
    "thesis-vae-small": {
        **_THESIS,
        "kind": "vae",
        "scaler": "minmax",
        "encoder": ("n", 150),
        "encoder_activations": ("tanh", "linear"),
        "decoder": (),
        "decoder_activations": ("sigmoid",),
    },
    "thesis-vae-big": {
        **_THESIS,
        "kind": "vae",
        "scaler": "minmax",
        "encoder": (400, 300, 200, 150),
        "encoder_activations": ("tanh", "relu", "leakyrelu", "linear"),
        "decoder": (200, 300, 400),
        "decoder_activations": ("leakyrelu", "relu", "tanh", "sigmoid"),
    },
}

PRESET_FEATURES: Final[dict[str, FeatureSet]] = {
    "default": "table",
    "upper-tail": "table",
    "hardness": "kinematics",
    "hardened": "kinematics",
    "shortfall": "kinematics",
    "report-minmax": "table",
    "report-unstacked": "table",
    "report-reduced": "reduced",
    "report-standard": "table",
    "thesis-ae-small": "rmm",
    "thesis-ae-big": "rmm",
    "thesis-tunable": "rmm",
    "thesis-vae-small": "rmm",
    "thesis-vae-big": "rmm",
}
