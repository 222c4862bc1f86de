"""Which inputs make the score: the squared error of each scaled input, averaged over the events of a dataset.

Sums of (w, w^2, w r, w r^2) over events with weight w and squared error r are kept, since sums add up over chunks
however small, also where negative weights bring a chunk's sum of weights near zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import hist
import numpy as np
from numpy.typing import NDArray

from processors.split import SPLITS

__all__ = ["MeanResiduals", "mean_residuals", "residual_histogram", "residual_sums"]

Floats = NDArray[np.float64]

SUMS = ("w", "ww", "wr", "wrr")


@dataclass(frozen=True)
class MeanResiduals:
    """Mean squared error of each scaled input."""

    features: list[str]
    mean: Floats  # (k,)
    error: Floats  # (k,), statistical


def residual_sums(residuals: NDArray[np.float32], weight: Floats, split: NDArray[np.uint8]) -> Floats:
    """Sums over some events, shape (splits, sums, k).

    Args:
        residuals: squared error of each scaled input, shape (n, k).
        weight: shape (n,).
        split: index into `split.SPLITS`, shape (n,).
    """
    # One row of weights for each split: a product with the errors, in their precision, adds them all up.
    own = np.where(split == np.arange(len(SPLITS))[:, np.newaxis], weight, 0.0)
    single = own.astype(np.float32)
    sums = np.empty((len(SPLITS), len(SUMS), residuals.shape[1]))
    sums[:, 0] = own.sum(axis=1)[:, np.newaxis]
    sums[:, 1] = (own**2).sum(axis=1)[:, np.newaxis]
    sums[:, 2] = single @ residuals
    sums[:, 3] = single @ np.square(residuals)
    return sums


def residual_histogram(dataset: str, features: Sequence[str], sums: Floats) -> hist.Hist:
    """Sums of one dataset as a histogram; axes dataset, split, sum, feature.

    Args:
        dataset: of the events.
        features: inputs of the model, k of them.
        sums: from `residual_sums`, added up.
    """
    filled = hist.Hist(
        hist.axis.StrCategory([dataset], growth=True, name="dataset"),
        hist.axis.StrCategory(SPLITS, name="split", overflow=False),
        hist.axis.StrCategory(SUMS, name="sum", overflow=False),
        hist.axis.StrCategory(features, name="feature", overflow=False, label="input of the model"),
        storage=hist.storage.Double(),
    )
    filled.view(flow=True)[0] = sums
    return filled


def mean_residuals(
    histogram: hist.Hist, kinds: Mapping[str, str], datasets: Sequence[str]
) -> MeanResiduals | None:
    """Mean over some datasets, each with the sum of weights of all its events; None where there is no event.

    Of background simulation the test events count, which the model has not seen, as in `histograms.held_out`.

    Args:
        histogram: axes dataset, split, sum, feature.
        kinds: dataset -> "data", "background" or "signal".
        datasets: over which.
    """
    names, features = list(histogram.axes[0]), list(histogram.axes[3])
    total, mean, variance = 0.0, np.zeros(len(features)), np.zeros(len(features))
    for dataset in datasets:
        if dataset not in names:
            continue
        contents = np.asarray(histogram.view(flow=True)[names.index(dataset)])
        everything = contents.sum(axis=0)
        counted = contents[-1] if kinds[dataset] == "background" and contents[-1, 0, 0] > 0 else everything
        w, ww, wr, wrr = counted
        scale = everything[0, 0]
        if not (w[0] > 0 and scale > 0):
            continue
        own = wr / w
        total += scale
        mean += scale * own
        variance += scale**2 * np.maximum(wrr / w - own**2, 0.0) * ww / w**2
    if not total > 0:
        return None
    return MeanResiduals(features, mean / total, np.sqrt(variance) / total)
