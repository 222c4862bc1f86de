"""The fit of a network to a sample: epochs, validation, the best weights, and how a fit that was killed goes on."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from models.checkpoints import Checkpoint, State
from models.reading import CHUNK_ROWS
from models.settings import TrainingSettings
from models.steps import passes_over
from models.stream import BackgroundSample

if TYPE_CHECKING:
    import keras

__all__ = ["FIT_RULE", "Fit", "Progress", "collapse_remark", "fit", "learning_rate", "no_better_than_mean"]

logger = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int, float, float], None]

# Of the fit: raised when the same events give another model, so that models are trained anew.
# 2: the validation error, which decides the best epoch, is that of all events, not of the last 16384.
FIT_RULE: Final = 2

# A model that removes less than this part of the mean predictor's error has learnt nothing.
COLLAPSE_MARGIN: Final = 0.05
PLATEAU_FACTOR: Final = 0.5


def no_better_than_mean(error: float, mean_predictor: float) -> bool:
    """Whether a model with this squared error has learnt nothing beyond the mean of each input."""
    return error > (1 - COLLAPSE_MARGIN) * mean_predictor


def collapse_remark(card: Mapping[str, Any]) -> str:
    """What is to be said of a collapsed model, by its card, after its name; nothing of any other."""
    if not card.get("collapsed"):
        return ""
    remark = "it is no better than predicting the mean of its inputs"
    if any(part.get("metrics", {}).get("still_falling") for part in (card, *card.get("members", ()))):
        return f"has collapsed or was not trained long enough: {remark}, and its error was still falling"
    return f"has collapsed: {remark}"


@dataclass
class Fit:
    """What happened in training; losses are weighted means of the squared error, without penalties."""

    mean_predictor: float
    val_mean_predictor: float
    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_objective: list[float] = field(default_factory=list)
    events: int = 0
    seconds: float = 0.0
    best: int = 0

    @property
    def collapsed(self) -> bool:
        """Whether the kept model is no better than predicting the mean of each input."""
        return no_better_than_mean(self.val_loss[self.best], self.val_mean_predictor)

    @property
    def still_falling(self) -> bool:
        """Whether as many epochs again would have left the mean predictor behind.

        Each of them gains as much less than the one before as the last epoch did.
        """
        if len(self.val_loss) < 2:
            return True  # one epoch tells nothing of the pace
        gains = np.maximum(-np.diff(self.val_loss[-3:]), 0.0)
        pace = min(float(gains[-1] / gains[0]), 1.0) if gains[0] > 0 else 1.0
        ahead = float(gains[-1]) * sum(pace**epoch for epoch in range(1, len(self.val_loss) + 1))
        return not no_better_than_mean(self.val_loss[-1] - ahead, self.val_mean_predictor)

    def add(self, loss: float, val_loss: float, val_objective: float) -> bool:
        """One more epoch; whether it is the best."""
        self.loss.append(loss)
        self.val_loss.append(val_loss)
        self.val_objective.append(val_objective)
        best = len(self.loss) == 1 or val_objective < self.val_objective[self.best]
        if best:
            self.best = len(self.loss) - 1
        return best

    def ended(self, settings: TrainingSettings) -> bool:
        """Whether all epochs are done, or patience has run out."""
        waited = len(self.loss) - 1 - self.best
        return len(self.loss) >= settings.epochs or (
            settings.patience is not None and waited >= settings.patience
        )

    def metrics(self) -> dict[str, Any]:
        """Figures of the kept epoch, for the card."""
        return {
            "loss": self.loss[self.best],
            "val_loss": self.val_loss[self.best],
            "mean_predictor_loss": self.mean_predictor,
            "val_mean_predictor_loss": self.val_mean_predictor,
            "best_epoch": self.best + 1,
            "still_falling": self.still_falling,
            "epochs": len(self.loss),
            "seconds": self.seconds,
            "events_per_second": self.events / self.seconds if self.seconds > 0 else 0.0,
        }

    def history(self) -> dict[str, Any]:
        """Losses of every epoch, for pictures."""
        return {
            "loss": self.loss,
            "val_loss": self.val_loss,
            "val_objective": self.val_objective,
            "mean_predictor_loss": self.mean_predictor,
            "val_mean_predictor_loss": self.val_mean_predictor,
            "collapsed": self.collapsed,
        }


def fit(
    network: "keras.Model",
    sample: BackgroundSample,
    settings: TrainingSettings,
    *,
    seed: int,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Train until the validation objective stops falling; the network keeps the weights of its best epoch.

    Args:
        network: of `models.autoencoder.build`.
        sample: scaled, see `models.training.scaled_sample`.
        settings: weights, optimiser, epochs and patience.
        seed: of the shuffling; every epoch has random numbers of its own.
        progress: called after each epoch with its number (from 1), their number at most, loss and validation
            loss; an exception that it raises ends the fit.
        checkpoint: where the state is kept after each epoch. A fit that finds one of its own goes on from there
            and ends with the same weights, to the bit, as one that was never stopped.

    Raises:
        FailureError: the loss is not finite.
    """
    from models.autoencoder import prepare_training  # noqa: PLC0415 (imports Keras)

    n_train = sample.rows["train"]
    # Equal batches: one compiled shape, and fewer events than batches are left out of an epoch.
    steps = min(max(-(-n_train // settings.batch_size), settings.min_steps), n_train)
    batch_size = n_train // steps
    prepare_training(network, settings, steps=steps * settings.epochs)
    _build(network, min(CHUNK_ROWS, sample.rows["validation"]))
    run, best = _start(network, sample, checkpoint)
    passes = passes_over(sample, network, batch_size, memory_mb=settings.memory_mb)
    while not run.ended(settings):
        epoch = len(run.loss)
        if settings.learning_rate_schedule == "plateau":
            network.optimizer.learning_rate = learning_rate(settings, run.val_objective)
        begin = time.perf_counter()
        network.reset_metrics()
        run.events += passes.train(np.random.default_rng((seed % 2**64, epoch)))
        logs = _metrics(network)
        run.seconds += time.perf_counter() - begin
        network.reset_metrics()
        passes.validate()
        validation = _metrics(network)
        if not np.isfinite([logs["loss"], *validation.values()]).all():
            msg = f"the loss is not finite after epoch {epoch + 1}: lower learning_rate"
            raise FailureError(msg)
        error = validation["error"]
        if run.add(logs["error"], error, validation.get("objective", error)):
            best = network.get_weights()
        if checkpoint is not None:
            checkpoint.save(State(asdict(run), {"state": _values(network), "best": best}))
        if progress is not None:
            progress(epoch + 1, settings.epochs, run.loss[-1], run.val_loss[-1])
    network.set_weights(best)
    return run


def _metrics(network: "keras.Model") -> dict[str, float]:
    return {name: float(value) for name, value in network.get_metrics_result().items()}


def learning_rate(settings: TrainingSettings, objective: list[float]) -> float:
    """The rate that follows some epochs of the schedule "plateau": halved when nothing was gained for a while.

    Args:
        settings: the first rate, and after how many epochs without gain it is halved.
        objective: validation objective of each epoch so far.
    """
    rate, best, waited = settings.learning_rate, np.inf, 0
    for value in objective:
        waited = 0 if value < best else waited + 1
        best = min(best, value)
        if waited == settings.plateau_epochs:
            rate, waited = rate * PLATEAU_FACTOR, 0
    return rate


def _build(network: "keras.Model", rows: int) -> None:
    """Make all variables, before a graph holds them and before they are read from a checkpoint."""
    network.optimizer.build(network.trainable_variables)
    nothing = np.zeros((rows, network.input_shape[-1]), np.float32)
    network.test_on_batch(nothing, nothing, sample_weight=np.zeros(rows, np.float32))


def _start(
    network: "keras.Model", sample: BackgroundSample, checkpoint: Checkpoint | None
) -> tuple[Fit, list[NDArray[Any]]]:
    """The history so far and the best weights: those of the checkpoint, whose state the network takes, or fresh."""
    found = checkpoint.load() if checkpoint is not None else None
    if found is None:
        return Fit(*_mean_predictor(sample)), network.get_weights()
    for variable, value in zip(_variables(network), found.arrays["state"], strict=True):
        variable.assign(value)
    run = Fit(**found.record)
    logger.info("training goes on after epoch %d", len(run.loss))
    return run, found.arrays["best"]


def _variables(network: "keras.Model") -> list[Any]:
    """All that an epoch changes: weights, the state of random draws, and the optimiser."""
    return [*network.variables, *network.optimizer.variables]


def _values(network: "keras.Model") -> list[NDArray[Any]]:
    import keras  # noqa: PLC0415 (after the backend was started)

    return [keras.ops.convert_to_numpy(variable) for variable in _variables(network)]


def _mean_predictor(sample: BackgroundSample) -> tuple[float, float]:
    """Error of predicting each input's mean over the training events, for training and validation."""
    moments: dict[str, list[NDArray[np.float64]]] = {}
    for split in ("train", "validation"):
        first, second = np.zeros(len(sample.columns)), np.zeros(len(sample.columns))
        total = 0.0
        for chunk in sample.chunks(split):
            weight = chunk.training_weight.astype(np.float64)
            first += weight @ chunk.features
            second += weight @ chunk.features.astype(np.float64) ** 2
            total += float(weight.sum())
        moments[split] = [first / total, second / total] if total > 0 else [first, second]
    mean = moments["train"][0]
    errors = [float(np.mean(second - 2 * mean * first + mean**2)) for first, second in moments.values()]
    return errors[0], errors[1]
