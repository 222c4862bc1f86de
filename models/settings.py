"""The settings of training: the network, its inputs' scaling, the weights and the optimiser."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import Field, PositiveInt, model_validator

from fileset.settings import Settings
from fileset.suggestion import did_you_mean
from models.presets import PRESETS

__all__ = [
    "ActivationName",
    "AlarmSettings",
    "BaselineName",
    "BaselineSettings",
    "EvaluationSettings",
    "ExplanationSettings",
    "RobustnessSettings",
    "RobustnessTest",
    "ScalerKind",
    "ScoreName",
    "SculptingSettings",
    "SearchSettings",
    "SignificanceSettings",
    "SpaceName",
    "TrainingSettings",
    "Weighting",
    "Width",
]

BaselineName: TypeAlias = Literal["pca", "mahalanobis", "isolation-forest", "largest-tail", "tail-sum"]
ActivationName: TypeAlias = Literal["relu", "tanh", "leakyrelu", "linear", "sigmoid"]
RobustnessTest: TypeAlias = Literal[
    "lepton-pt",
    "lepton-pt-balanced",
    "harder",
    "swapped-columns",
    "swapped-objects",
    "noise",
    "noise-filled",
    "without-process",
    "little-data",
    "inverse",
]
ScalerKind: TypeAlias = Literal["standard", "minmax", "selective", "upper-tail", "log", "quantile"]
ScoreName: TypeAlias = Literal["mse", "mae", "distance", "elbo", "kl", "mu2"]
SpaceName: TypeAlias = Literal["report", "thesis", "wide"]
Weighting: TypeAlias = Literal["physical", "sqrt", "unweighted"]
Width: TypeAlias = PositiveInt | Literal["n"]


class TrainingSettings(Settings):
    """How a model is trained; `preset` fills every field that is not given."""

    preset: str = Field(default="default", description=f"named experiment: {', '.join(PRESETS)}")
    kind: Literal["autoencoder", "vae"] = Field(
        default="autoencoder", description="autoencoder, or variational autoencoder (thesis eq. 1.8)"
    )
    builder: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description='"module:function" of a module beside the configuration file: makes an autoencoder of one\'s own '
        "from the number of inputs, a Keras model of Keras' layers; encoder and decoder do not count then",
    )
    encoder: tuple[Width, ...] = Field(
        default=(64, 32, 6),
        min_length=1,
        description='widths of the encoder, the last is the latent space; "n" is the number of inputs',
    )
    encoder_activations: tuple[ActivationName, ...] = Field(
        default=("tanh", "tanh", "tanh"), description="one activation per encoder layer"
    )
    decoder: tuple[Width, ...] = Field(
        default=(32, 64), description="widths of the decoder's hidden layers, without the output"
    )
    decoder_activations: tuple[ActivationName, ...] = Field(
        default=("tanh", "tanh", "linear"),
        description="one activation per decoder layer and one for the output",
    )
    leaky_alpha: float = Field(default=0.1, ge=0, le=1, description="slope of leakyrelu below zero")
    kernel_l1: float = Field(default=0.0, ge=0, description="L1 penalty on the kernels of hidden layers")
    activity_l2: float = Field(default=0.0, ge=0, description="L2 penalty on the outputs of hidden layers")
    penalised: Literal["hidden", "alternate"] = Field(
        default="hidden",
        description="layers with penalties: all hidden ones, or every second one from the first on (thesis listing)",
    )
    beta: float = Field(default=1.0, ge=0, description="factor of the VAE's Kullback-Leibler term")
    draws: PositiveInt = Field(default=1, description="random draws of the VAE's latent space per event")
    scaler: ScalerKind = Field(default="standard", description="scaling of inputs, fitted on training events")
    empty: Literal["scaled", "kept"] = Field(
        default="scaled",
        description="zeros of absent objects: scaled like any value, or left out of the fit and kept at zero",
    )
    weighting: Weighting = Field(
        default="physical",
        description="event weights in loss and scaler: physical, their square root, or one per event; a negative "
        "weight w counts |w| times the sum of w over that of |w| of its dataset, so that every process keeps its share",
    )
    learning_rate: float = Field(default=3.0e-3, gt=0, description="learning rate of Adam")
    learning_rate_schedule: Literal["constant", "cosine", "plateau"] = Field(
        default="cosine",
        description="constant, falling to zero along a cosine over all epochs, or halved on a plateau of the "
        "validation loss",
    )
    plateau_epochs: PositiveInt = Field(
        default=3, description="epochs without a better validation loss after which `plateau` halves the rate"
    )
    batch_size: PositiveInt = Field(
        default=1024, description="events per step at most; all batches are equal"
    )
    min_steps: PositiveInt = Field(
        default=32, description="steps of an epoch at least: a small sample gets smaller batches"
    )
    epochs: PositiveInt = Field(default=50, description="epochs at most")
    members: PositiveInt = Field(
        default=1,
        description="networks that are trained, each from a seed of its own; the score is the mean of theirs",
    )
    patience: PositiveInt | None = Field(
        default=10, description="epochs without a better validation loss before stopping; null never stops"
    )
    memory_mb: PositiveInt = Field(
        default=4096,
        description="memory for the sample [MB]; a larger one is ordered on disk and read from there, with the same "
        "result to the bit",
    )
    scratch: Path | None = Field(
        default=None,
        description="directory for the ordered copy of a sample that exceeds memory_mb; by default beside the model",
    )
    max_train_events: PositiveInt | None = Field(
        default=None,
        description="train on a random subsample of at most so many events, drawn by a hash of their identity",
    )
    max_validation_events: PositiveInt | None = Field(
        default=None, description="validate on at most so many events, drawn likewise"
    )
    train_on: Literal["simulation", "data"] = Field(
        default="simulation", description="background simulation, or a fraction of the collision data"
    )
    data_fraction: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="with `train_on: data`: the part of the data, drawn by a hash of the events' identity, that is "
        "trained (80 %) and validated (20 %) on; only the rest is searched",
    )
    test_fraction: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="part of the background simulation that is held out: all that is told of a model's power rests on "
        "it; of the rest four fifths train and one validates",
    )
    xla: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="compile training steps with XLA; auto: with TensorFlow on a GPU. JAX always does",
    )
    score: ScoreName | None = Field(
        default=None,
        description="the score: log10 of mean squared (mse) or absolute (mae) error of scaled inputs, or of the "
        "squared error and half the inputs' mean square (distance); of a VAE also of -ELBO (elbo), the divergence "
        "(kl) or the squared latent mean (mu2); by default mse, for a VAE elbo",
    )
    fail_on_collapse: bool = Field(
        default=False, description="end with an error if the model is no better than predicting the mean"
    )

    @property
    def trained_kind(self) -> Literal["background", "data"]:
        """Kind of the datasets that are trained on."""
        return "data" if self.train_on == "data" else "background"

    @property
    def fractions(self) -> tuple[float, float, float]:
        """Parts of training, validation and test; of collision data, "test" is what stays for the search."""
        held_out = self.test_fraction if self.train_on == "simulation" else 1 - self.data_fraction
        return round(0.8 * (1 - held_out), 12), round(0.2 * (1 - held_out), 12), held_out

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = given.get("preset", "default")
        if preset not in PRESETS:
            hint = did_you_mean(str(preset), PRESETS, otherwise=f"allowed are {', '.join(PRESETS)}")
            msg = f"unknown preset {preset!r}: {hint}"
            raise ValueError(msg)
        return PRESETS[preset] | given

    @model_validator(mode="after")
    def _one_activation_per_layer(self) -> Self:
        for part, extra in (("encoder", 0), ("decoder", 1)):
            widths, activations = getattr(self, part), getattr(self, f"{part}_activations")
            if len(activations) != len(widths) + extra:
                wanted = "one per layer" if not extra else "one per layer and one for the output"
                msg = (
                    f"{part}_activations has {len(activations)} entries for {len(widths)} {part} layers; "
                    f"give {wanted}"
                )
                raise ValueError(msg)
        return self

    @property
    def scores(self) -> tuple[ScoreName, ...]:
        """All scores of such a network; the first is the one that is cut on, the others stand beside it."""
        first: ScoreName = self.score or ("elbo" if self.kind == "vae" else "mse")
        known: tuple[ScoreName, ...] = (
            ("mse", "mae", "elbo", "kl", "mu2") if self.kind == "vae" else ("mse", "mae")
        )
        if first not in {*known, "distance"}:
            msg = f"score {first} needs a latent Gaussian: an autoencoder has {', '.join(known)}"
            raise ValueError(msg)
        return first, *(name for name in known if name != first)

    @model_validator(mode="after")
    def _one_kind_of_network(self) -> Self:
        if self.builder is not None and self.kind == "vae":
            msg = "builder makes an autoencoder of your own, and kind is vae: leave one of them out"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _score_that_the_network_has(self) -> Self:
        _ = self.scores
        return self


class BaselineSettings(Settings):
    """How the scores without a network are fitted that every model is compared with."""

    names: tuple[BaselineName, ...] = Field(
        default=("pca", "mahalanobis", "isolation-forest", "largest-tail", "tail-sum"),
        min_length=1,
        description="which: error of principal components, Mahalanobis distance, isolation forest, largest upper-tail "
        "value of the single variables, mean of the largest upper-tail values of the inputs",
    )
    variance: float = Field(
        default=0.95, gt=0, lt=1, description="of the inputs, which the principal components explain at least"
    )
    cutoff: float = Field(
        default=1e-8,
        gt=0,
        lt=1,
        description="part of the largest eigenvalue of the covariance, below which a direction is left out of the "
        "Mahalanobis distance: inputs depend on one another there",
    )
    trees: PositiveInt = Field(default=100, description="of the isolation forest")
    events_per_tree: int = Field(default=256, ge=2, description="that a tree of the forest is grown from")
    max_events: PositiveInt = Field(
        default=200_000,
        description="the forest draws from at most so many training events, a random subsample of all",
    )
    terms: PositiveInt = Field(default=5, description="upper-tail values that are averaged in the tail sum")


class SearchSettings(Settings):
    """How `tune` searches for better training settings: Hyperband (Li et al., JMLR 18 (2018) 185)."""

    space: SpaceName = Field(
        default="report",
        description="what is tried: the tunable networks of the report or of the thesis, or wide: any shape",
    )
    max_epochs: int = Field(
        default=15, ge=2, description="epochs of the trials that survive; most end after a fraction of them"
    )
    factor: int = Field(
        default=3,
        ge=2,
        description="of the trials of a round, one in so many goes on, for so many times longer",
    )
    sweeps: PositiveInt = Field(default=1, description="how often all of Hyperband is done")
    max_train_events: PositiveInt = Field(
        default=10_000_000,
        description="trials train on a random subsample of at most so many events, drawn by a hash of their identity; "
        "the winner is trained on everything",
    )
    max_validation_events: PositiveInt = Field(
        default=2_000_000, description="trials are validated on at most so many events, drawn likewise"
    )


class RobustnessSettings(Settings):
    """Tests on what a score should notice, and how it depends on what was learnt; `robustness` runs them."""

    tests: tuple[RobustnessTest, ...] = Field(
        default=get_args(RobustnessTest), min_length=1, description="which tests, in this order"
    )
    max_events: PositiveInt = Field(
        default=20_000, description="held-out background events that are changed or scored at most"
    )
    lepton_factors: tuple[Annotated[float, Field(ge=1)], ...] = Field(
        default=(1.0, 1.5, 3.0, 5.0, 7.0, 10.0),
        description="factors on pT of the leading electron or muon (thesis); 1 shows that nothing else changes",
    )
    noise: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.1, 0.3, 1.0, 3.0),
        description="Gaussian noise on scaled inputs, in standard deviations of each over the background",
    )
    swaps: tuple[tuple[str, str], ...] = Field(
        default=(),
        description="pairs of columns that are exchanged; by default drawn from those that are filled and vary",
    )
    n_swaps: PositiveInt = Field(default=6, description="pairs that are drawn where none are named")
    epochs: PositiveInt = Field(
        default=10, description="epochs of each new training at most; the model they are compared with too"
    )
    seeds: PositiveInt = Field(
        default=1, description="trainings of each kind, with seeds that follow one another"
    )
    train_fraction: float = Field(
        default=0.01, gt=0, le=1, description="part of the training events that `little-data` trains on"
    )
    inverse: tuple[str, ...] = Field(
        default=(),
        description="signals (datasets) that `inverse` trains on in turn; by default the one with most events",
    )


class ExplanationSettings(Settings):
    """How `explain` says what makes events anomalous."""

    events: int = Field(
        default=50, ge=0, le=1000, description="how many of the most anomalous events are listed"
    )
    displays: int = Field(
        default=3,
        ge=0,
        le=20,
        description="of how many of them a display is drawn; their jets are read again from the input files",
    )
    leading: PositiveInt = Field(
        default=8,
        description="inputs with the largest shares of the error that are named per family of signals",
    )
    max_events: int = Field(
        default=50_000,
        ge=100,
        le=1_000_000,
        description="shares and the latent space are of at most about so many events of each process, drawn by a hash "
        "of their identity",
    )
    latent_bins: int = Field(
        default=50, ge=10, le=200, description="bins of the picture of the latent space, along each axis"
    )


class SignificanceSettings(Settings):
    """What the expected significances and limits assume."""

    systematic: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="relative systematic uncertainty of the expected background above a cut, and in each bin of the "
        "fit, beside its statistical error; results without it are always given too",
    )
    limit_min_effective: float = Field(
        default=10.0,
        ge=2,
        description="effective background events in each bin of the fit, at least: bins are merged from the side of "
        "high scores",
    )


class AlarmSettings(Settings):
    """How false alarms are counted: pseudo-experiments without, with a known, and with a hidden signal."""

    toys: int = Field(
        default=1000,
        ge=1000,
        description="pseudo-experiments without a signal, and of each signal at each strength",
    )
    calibration_toys: int = Field(
        default=100_000,
        ge=1000,
        description="pseudo-experiments from which the global p is read; a smaller one is given as < 1/N",
    )
    levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.05, 0.01, 0.0027),
        min_length=1,
        description="claimed rates of false alarms that are tested; at the smallest the search says found",
    )
    injected: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.0, 1.0, 2.0, 3.0, 5.0),
        min_length=1,
        description="expected significances of the signals that are injected",
    )
    signals: tuple[str, ...] = Field(
        default=(), description="signals that are injected, by dataset or group; empty takes all"
    )
    systematic: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="relative error of the expected background, beside the statistical one of its simulation",
    )

    @model_validator(mode="after")
    def _levels_that_can_be_read(self) -> Self:
        if min(self.levels) < 10 / self.calibration_toys:
            msg = (
                f"a rate of {min(self.levels):g} needs calibration_toys of {10 / min(self.levels):.0f} at least, "
                f"ten for each alarm; there are {self.calibration_toys}"
            )
            raise ValueError(msg)
        return self


class SculptingSettings(Settings):
    """How shapes of masses behind a cut on the score are compared, hunted in and decorrelated."""

    efficiencies: tuple[Literal["1e-1", "1e-2", "1e-3", "1e-4"], ...] = Field(
        default=("1e-1", "1e-2", "1e-3"), min_length=1, description="background efficiencies of the cuts"
    )
    shape_bins: int = Field(
        default=20,
        ge=4,
        description="bins, of equal parts of the uncut background, in which shapes are compared",
    )
    toys: int = Field(
        default=1000,
        ge=100,
        description="pseudo-experiments behind each probability: none below one in so many is told apart",
    )
    resolution: float = Field(
        default=0.05, gt=0, lt=1, description="relative width of the finest bins in which bumps are hunted"
    )
    fewest_simulated: float = Field(
        default=5.0,
        gt=0,
        description="effective simulated events in a bin in which bumps are hunted; narrower bins are joined",
    )
    decorrelate: bool = Field(
        default=True,
        description="also make scores that are ordinary at every mass alike, one for each mass, with their cost",
    )
    mass_bins: int = Field(
        default=10,
        ge=1,
        description="bins of mass, of equal background, in which a score is made ordinary; the outermost are halved "
        "while a half has 100 effective events",
    )


class EvaluationSettings(Settings):
    """How `evaluate` finds statistical errors, and whether it trains the supervised ceiling."""

    replicas: int = Field(
        default=400,
        ge=200,
        description="replicas of the bootstrap; an error is known to one part in the root of twice as many",
    )
    seed: int = Field(default=7, ge=0, description="of the replicas, and of the ceiling's trees")
    ceiling: bool = Field(
        default=False,
        description="train boosted trees on half of each signal, the ceiling that no unsupervised score can reach; "
        "seconds to a minute a signal",
    )
    ceiling_events: PositiveInt = Field(
        default=100_000,
        description="background events that these trees train on at most, drawn by a hash of their identity",
    )
