"""Statistical errors by replicas: what would have been measured with other events of the same samples.

In each replica every event counts as often as a Poisson variable of mean 1 says (G. Chamandy et al., "Estimating
uncertainty for massive data streams", 2012; Efron's bootstrap for samples whose size itself fluctuates). All scores
and signals of a region see the same replicas, so errors of differences hold their correlations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from zlib import crc32

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.efficiency import rising_sums
from models.studies.scored import ScoredEvents

__all__ = ["Binning", "ReplicaBackground", "Replicas"]

# Background in a bin, relative to all that scores higher and to all there is: far below the error of the number of
# events that do.
_BIN_WIDTH, _BIN_SHARE = 0.01, 0.002
# A replica of a sample that has lost nearly all its weight cannot be scaled to what the sample should have.
_LOST = 0.1


@dataclass(frozen=True)
class Replicas:
    """How often each event of some datasets counts in each replica.

    Attributes:
        counts: shape (n, replicas), unsigned bytes: 1 in 10^500 replicas would need more.
        weight: of the events, shape (n,).
        dataset: number of each event's dataset, shape (n,).
        scale: of each dataset in each replica, shape (m, replicas).
    """

    counts: NDArray[np.uint8]
    weight: NDArray[np.float64]
    dataset: NDArray[np.int64]
    scale: NDArray[np.float64]

    @classmethod
    def draw(cls, samples: Mapping[str, ScoredEvents], *, number: int, seed: int, held_out: bool) -> Self:
        """Draw the replicas of each dataset from a generator of its own, whatever other datasets there are.

        Args:
            samples: events of each dataset by its name.
            number: of replicas.
            seed: of all of them.
            held_out: events stand for all events of their dataset: a replica fluctuates in how they are distributed,
                and in the sum of weights of all events (see `efficiency.Strata`).
        """
        counts, scales = [np.zeros((0, number), np.uint8)], [np.zeros((0, number))]
        for name, events in samples.items():
            rng = np.random.default_rng([seed, crc32(name.encode())])
            drawn = rng.poisson(1.0, (len(events.weight), number)).astype(np.uint8)
            counts.append(drawn)
            scales.append(_scale(events, drawn, rng)[None] if held_out else np.ones((1, number)))
        rows = [len(events.weight) for events in samples.values()]
        weights = [np.zeros(0), *(events.weight for events in samples.values())]
        return cls(
            np.concatenate(counts),
            np.concatenate(weights),
            np.repeat(np.arange(len(rows)), rows),
            np.concatenate(scales),
        )

    @property
    def number(self) -> int:
        """How many replicas there are."""
        return int(self.counts.shape[1])

    def take(self, which: NDArray[np.bool_]) -> "Replicas":
        """Those of some of the events."""
        return Replicas(self.counts[which], self.weight[which], self.dataset[which], self.scale)

    def histograms(
        self, bins: NDArray[np.int64], size: int, groups: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Sums of weights of groups of datasets in bins, in each replica.

        Args:
            bins: number of each event's bin, shape (n,).
            size: number of bins.
            groups: number of each dataset's group, shape (m,); by default each is its own.

        Returns:
            Shape (groups, size, replicas).
        """
        group = np.arange(len(self.scale)) if groups is None else np.asarray(groups, dtype=np.int64)
        sums = np.zeros(((int(group.max()) + 1 if len(group) else 0) * size, self.number))
        _fill(sums, group[self.dataset] * size + bins, self.counts, self.weight, self.dataset, self.scale)
        return sums.reshape(-1, size, self.number)


def _scale(events: ScoredEvents, counts: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
    """What brings a replica of held-out events to the fluctuating sum of weights of all events; shape (replicas,)."""
    total, sumw2 = float(events.weight.sum()), float(sum(events.sumw2))
    if not (total > 0 and sumw2 > 0):
        return np.ones(counts.shape[1])
    # A gamma distribution has the mean and variance of a sum of weights, and as that sum it is positive.
    effective = total**2 / sumw2
    wanted = total * rng.gamma(effective, 1 / effective, counts.shape[1])
    found = events.weight @ counts
    kept = found > _LOST * total
    return np.where(kept, wanted / np.where(kept, found, 1.0), 1.0)


@numba.njit(cache=True)
def _fill(
    sums: NDArray[np.float64],
    cell: NDArray[np.int64],
    counts: NDArray[np.uint8],
    weight: NDArray[np.float64],
    dataset: NDArray[np.int64],
    scale: NDArray[np.float64],
) -> None:  # pragma: no cover - compiled
    for event in range(cell.size):
        row, of = cell[event], dataset[event]
        for replica in range(counts.shape[1]):
            sums[row, replica] += weight[event] * scale[of, replica] * counts[event, replica]


@dataclass(frozen=True)
class Binning:
    """Bins of a score, the highest first: each with a hundredth of the background above it, in the tail single events.

    Attributes:
        edges: rising; an event at an edge is in the bin above it.
    """

    edges: NDArray[np.float64]

    @classmethod
    def of(cls, score: NDArray[np.float64], weight: NDArray[np.float64]) -> Self:
        """From the background's scores and weights, each of shape (n,); sizes of weights, as signs cancel."""
        order = np.argsort(score)[::-1]
        above = np.cumsum(np.abs(weight[order]))
        bulk = np.arange(1.0, _BIN_SHARE / _BIN_WIDTH, -_BIN_SHARE)
        first = max(above[0] / above[-1], 1e-9)
        tail = np.exp(np.arange(np.log(first), np.log(bulk[-1]), _BIN_WIDTH))
        wanted = above[-1] * np.concatenate([bulk, tail])
        values = score[order][np.minimum(np.searchsorted(above, wanted), len(order) - 1)]
        # What scores higher than all background has a bin without any.
        return cls(np.unique([*values, np.nextafter(score[order[0]], np.inf)]))

    @property
    def size(self) -> int:
        """Number of bins."""
        return len(self.edges) + 1

    def __call__(self, score: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of each event's bin, shape (n,)."""
        return len(self.edges) - np.searchsorted(self.edges, score, side="right")


class ReplicaBackground:
    """Background of a score in each replica, against which signals are measured.

    Args:
        sums: of weights in bins (`Binning`), shape (bins, replicas).
        eps_b: efficiencies of the background, shape (g,).
    """

    def __init__(self, sums: NDArray[np.float64], eps_b: NDArray[np.float64]) -> None:
        above = np.cumsum(sums, axis=0)
        self._total = above[-1]
        self._below = self._total - above + sums / 2  # of the background; what is in the same bin counts half
        rising = rising_sums(above)
        replicas = range(sums.shape[1])
        wanted = np.outer(eps_b, rising[-1])
        self._bin = np.transpose([np.searchsorted(rising[:, r], wanted[:, r]) for r in replicas])
        self._bin = np.minimum(self._bin, len(sums) - 1)
        upper = np.take_along_axis(rising, self._bin, axis=0)
        lower = np.where(self._bin > 0, np.take_along_axis(rising, np.maximum(self._bin - 1, 0), axis=0), 0.0)
        step = upper - lower
        self._part = np.clip((wanted - lower) / np.where(step > 0, step, 1.0), 0.0, 1.0)
        self._part[step <= 0] = 1.0

    def measure(self, sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Area under the ROC curve and efficiencies of a signal.

        Args:
            sums: its weights in the same bins, shape (bins, replicas).

        Returns:
            Areas, shape (replicas,), and efficiencies, shape (g, replicas); nan where a replica has no positive sum.
        """
        above = np.cumsum(sums, axis=0)
        total = np.where(above[-1] > 0, above[-1], np.nan)
        area = np.einsum("br,br->r", sums, self._below) / total
        area /= np.where(self._total > 0, self._total, np.nan)
        upper = np.take_along_axis(above, self._bin, axis=0)
        inside = np.take_along_axis(sums, self._bin, axis=0)
        return area, (upper - (1 - self._part) * inside) / total
