"""From physical to training weights: what a negative weight means to a loss, and how weights are normalised."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import InputError
from models.settings import Weighting
from processors.split import SPLITS

__all__ = ["Sums", "TrainingWeights"]

_POWERS: Final[dict[Weighting, float]] = {"physical": 1.0, "sqrt": 0.5, "unweighted": 0.0}


@dataclass(frozen=True)
class TrainingWeights:
    """From physical to training weights.

    A negative weight (higher-order generators) has no meaning for a loss: with it, reconstructing an event
    *badly* would pay. Training therefore takes `|w|` times `Σw/Σ|w|` of the event's dataset, which keeps every
    process' share of the background; histograms, quantiles and efficiencies keep the signs.
    """

    power: float
    ratio: NDArray[np.float64]  # Σw/Σ|w| of each dataset
    mean: float  # over the training split, before normalisation

    def __call__(self, weight: NDArray[np.float64], dataset: Any) -> NDArray[np.float32]:
        """Training weights of events, shape (n,), from physical ones and the numbers of their datasets."""
        training: NDArray[np.float64] = (np.abs(weight) * self.ratio[dataset]) ** self.power / self.mean
        return training.astype(np.float32)


class Sums:
    """Events, Σw, Σ|w| and Σ|w|^p for each dataset and split."""

    def __init__(self, n_datasets: int, weighting: Weighting) -> None:
        self.power = _POWERS[weighting]
        self.table = np.zeros((4, n_datasets, len(SPLITS)))

    def add(self, dataset: Any, split: Any, weight: NDArray[np.float64]) -> None:
        """Count events; sums round in the order in which they come, so it must be one that is always the same."""
        cell = np.broadcast_to(
            np.asarray(dataset, np.intp) * len(SPLITS) + np.asarray(split, np.intp), weight.shape
        )
        size = np.abs(weight)
        for index, summand in enumerate((np.ones_like(weight), weight, size, size**self.power)):
            self.table[index].flat += np.bincount(cell, weights=summand, minlength=self.table[index].size)

    def rows(self) -> dict[str, int]:
        """Events of each split."""
        return {name: int(n) for name, n in zip(SPLITS, self.table[0].sum(axis=0), strict=True)}

    def sumw(self) -> dict[str, float]:
        """Sum of physical weights of each split."""
        return {name: float(s) for name, s in zip(SPLITS, self.table[1].sum(axis=0), strict=True)}

    def weights(self, region: str) -> TrainingWeights:
        """The map to training weights, of mean 1 over the training split.

        Raises:
            InputError: there is nothing to train on, or it has no positive weight.
        """
        rows = self.rows()
        if not rows["train"] or not rows["validation"]:
            msg = (
                f"region {region} has {rows['train']} events to train on and {rows['validation']} to validate "
                "with where each needs one: give a larger fileset"
            )
            raise InputError(msg)
        sumw, sumabs = self.table[1].sum(axis=1), self.table[2].sum(axis=1)
        ratio = np.divide(np.maximum(sumw, 0), sumabs, out=np.zeros_like(sumw), where=sumabs > 0)
        mean = float(self.table[3, :, 0] @ ratio**self.power) / rows["train"]
        if not mean > 0:
            msg = f"what region {region} would be trained on has no positive sum of weights"
            raise InputError(msg)
        return TrainingWeights(self.power, ratio, mean)
