"""Which inputs make the score: the squared error of each scaled input, averaged over the events of a dataset.

Sums of (w, w^2, w r, w^2 r, w^2 r^2, w^2 r t) over events with weight w, squared error r and the sum t of those of all
inputs are kept, since sums add up over chunks however small, also where negative weights bring a chunk's sum of weights
near zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import hist
import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from processors.split import SPLITS

__all__ = ["MeanResiduals", "combined_residuals", "mean_residuals", "residual_histogram", "residual_sums"]

Floats = NDArray[np.float64]

SUMS = ("w", "ww", "wr", "wwr", "wwrr", "wwrt")


@dataclass(frozen=True)
class MeanResiduals:
    """Mean squared error of each scaled input, and what part of the error of an event that is."""

    features: list[str]
    mean: Floats  # (k,)
    share: Floats  # (k,), adds up to 1; not a number where the means do not add up to a positive one
    share_error: Floats  # (k,), statistical


def residual_sums(residuals: NDArray[np.float32], weight: Floats, split: NDArray[np.uint8]) -> Floats:
    """Sums over some events, shape (splits, sums, k).

    Args:
        residuals: squared error of each scaled input, shape (n, k).
        weight: shape (n,).
        split: index into `split.SPLITS`, shape (n,).
    """
    # One row of weights for each split: a product with the errors, in their precision, adds them all up.
    own = np.where(split == np.arange(len(SPLITS))[:, np.newaxis], weight, 0.0)
    single, squared = own.astype(np.float32), (own**2).astype(np.float32)
    sums = np.empty((len(SPLITS), len(SUMS), residuals.shape[1]))
    sums[:, 0] = own.sum(axis=1)[:, np.newaxis]
    sums[:, 1] = (own**2).sum(axis=1)[:, np.newaxis]
    sums[:, 2] = single @ residuals
    sums[:, 3] = squared @ residuals
    sums[:, 4] = squared @ np.square(residuals)
    sums[:, 5] = squared @ (residuals * residuals.sum(axis=1, keepdims=True))
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

    Of background simulation the test events count, which the model has not seen, as in `histograms.held_out`. A share
    is the ratio of two sums over the same events: its error is that of the sum of w (r - share t), to first order.

    Args:
        histogram: axes dataset, split, sum, feature.
        kinds: dataset -> "data", "background" or "signal".
        datasets: over which.

    Raises:
        FailureError: the histogram holds other sums, those of an earlier version.
    """
    if tuple(histogram.axes[2]) != SUMS:
        message = "histograms.json holds other sums of the inputs' errors than these; run score again"
        raise FailureError(message)
    names, features = list(histogram.axes[0]), list(histogram.axes[3])
    counted = []
    for dataset in datasets:
        if dataset not in names:
            continue
        contents = np.asarray(histogram.view(flow=True)[names.index(dataset)])
        everything = contents.sum(axis=0)
        held_out = kinds[dataset] == "background" and contents[-1, 0, 0] > 0
        own = contents[-1] if held_out else everything
        if own[0, 0] > 0 and everything[0, 0] > 0:
            counted.append((float(everything[0, 0]), own))
    return combined_residuals(features, counted)


def combined_residuals(
    features: Sequence[str], counted: Sequence[tuple[float, Floats]]
) -> MeanResiduals | None:
    """Mean over some datasets; None where there is no event.

    Args:
        features: inputs of the model, k of them.
        counted: of each dataset the sum of weights of all its events, and the sums over those that stand for them,
            shape (sums, k).
    """
    features = list(features)
    total = sum(scale for scale, _ in counted)
    if not total > 0:
        return None
    mean = np.sum([scale * own[2] / own[0] for scale, own in counted], axis=0) / total
    if not mean.sum() > 0:
        return MeanResiduals(features, mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    share = mean / mean.sum()
    variance = np.sum([(scale / own[0]) ** 2 * _spread(own, share) for scale, own in counted], axis=0)
    return MeanResiduals(features, mean, share, np.sqrt(variance) / (total * mean.sum()))


def _spread(sums: Floats, share: Floats) -> Floats:
    """Sum of w^2 (z - mean of z)^2 with z = r - share t over the events of one dataset, shape (k,)."""
    w, ww, wr, wwr, wwrr, wwrt = sums
    of_all = wwr.sum()  # of w^2 t
    centre = (wr - share * wr.sum()) / w
    squares = wwrr - 2 * share * wwrt + share**2 * wwrt.sum()
    return np.asarray(np.maximum(squares - 2 * centre * (wwr - share * of_all) + centre**2 * ww, 0.0))
