"""Isolation forest (Liu, Ting and Zhou, ICDM 2008): what few random cuts separate from all other events is anomalous.

The trees are scikit-learn's, kept as arrays and walked by a kernel of ours: what is stored can be read without running
any code, and a worker that scores need not import scikit-learn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.scores import Batch

__all__ = ["IsolationTrees", "fit_forest"]


@dataclass(frozen=True)
class IsolationTrees:
    """2^(-mean path length / expected path length): near 1 for what is isolated at once, about 0.4 for the bulk.

    Nodes of all trees stand behind one another.

    Attributes:
        roots: number of the first node of each tree, shape (trees,).
        left: node of events at or below the threshold, -1 where the tree ends, shape (nodes,).
        right: node of events above it.
        feature: input that is cut on.
        threshold: where it is cut.
        samples: training events in the node.
        drawn: training events that a tree was grown from, shape ().
        inputs: how many inputs there are, shape ().
    """

    roots: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    samples: NDArray[np.int64]
    drawn: NDArray[np.int64]
    inputs: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Looks whether every walk ends inside the arrays, since the kernel does not.

        Raises:
            ValueError: one would not.
        """
        nodes = np.arange(len(self.left))
        inner = self.left >= 0
        sound = (
            len({len(part) for part in (self.left, self.right, self.feature, self.threshold, self.samples)})
            == 1
            and len(self.roots) > 0
            and ((self.roots >= 0) & (self.roots < len(nodes))).all()
            # Children stand behind their parents: no walk is endless.
            and all(((part > nodes) & (part < len(nodes)))[inner].all() for part in (self.left, self.right))
            and ((self.feature >= 0) & (self.feature < int(self.inputs)))[inner].all()
        )
        if not sound:
            msg = "the nodes of a forest do not go together"
            raise ValueError(msg)

    @property
    def n_inputs(self) -> int:
        """Number of inputs k."""
        return int(self.inputs)

    @cached_property
    def _rest(self) -> NDArray[np.float64]:
        """Expected length of the path that a tree was not grown to the end of, at each node."""
        return _expected_length(self.samples)

    def __call__(self, scaled: NDArray[np.float32], *, residuals: bool = False) -> Iterator["Batch"]:
        """As a `models.scores.EventFunction`.

        Residuals are the score times the part of the cuts on an event's way that are on an input, averaged over trees:
        they add up to the score.
        """
        lengths, shares = _walk(
            np.ascontiguousarray(scaled),
            self.roots,
            self.left,
            self.right,
            self.feature,
            self.threshold,
            self._rest,
            self.n_inputs if residuals else 0,
        )
        expected = len(self.roots) * float(_expected_length(self.drawn[np.newaxis])[0])
        score = 2.0 ** -(lengths / expected if expected > 0 else np.ones_like(lengths))
        shares *= score[:, np.newaxis]
        yield slice(0, len(score)), score[:, np.newaxis].astype(np.float32), shares.astype(np.float32)


def fit_forest(
    scaled: NDArray[np.float32],
    weight: NDArray[np.float32],
    *,
    trees: int,
    events_per_tree: int,
    seed: int,
) -> IsolationTrees:
    """Grow a forest; each tree from events that are drawn with probabilities proportional to their weights.

    Args:
        scaled: inputs, shape (n, k).
        weight: shape (n,), positive.
        trees: how many.
        events_per_tree: at most n are drawn.
        seed: of the draws and the cuts.
    """
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415 (a worker that only scores need not import it)

    forest = IsolationForest(
        n_estimators=trees, max_samples=min(events_per_tree, len(scaled)), random_state=seed % 2**32
    ).fit(scaled, sample_weight=weight.astype(np.float64))
    grown = [estimator.tree_ for estimator in forest.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in grown)])[:-1]

    def joined(name: str, *, shifted: bool = False) -> NDArray[Any]:
        parts = [np.asarray(getattr(tree, name)) for tree in grown]
        if shifted:  # children, -1 where there are none
            parts = [np.where(part < 0, -1, part + root) for part, root in zip(parts, roots, strict=True)]
        return np.concatenate(parts)

    return IsolationTrees(
        roots=roots,
        left=joined("children_left", shifted=True),
        right=joined("children_right", shifted=True),
        feature=joined("feature"),
        threshold=joined("threshold"),
        samples=joined("n_node_samples"),
        drawn=np.array(forest.max_samples_),
        inputs=np.array(scaled.shape[1]),
    )


def _expected_length(samples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean length of the paths of a tree that is grown to the end, from so many events (eq. 1 of the paper).

    It is that of an unsuccessful search in a binary tree, 2 H(n - 1) - 2 (n - 1)/n with H(i) = ln i + 0.5772...
    """
    n = np.maximum(samples, 3).astype(np.float64)
    many = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    return np.where(samples > 2, many, np.where(samples == 2, 1.0, 0.0))


@numba.njit(cache=True)
def _walk(
    scaled: NDArray[np.float32],
    roots: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    feature: NDArray[np.int64],
    threshold: NDArray[np.float64],
    rest: NDArray[np.float64],
    n_shares: int,
) -> Any:
    """Length of each event's paths, summed over trees, and the share of each input in the cuts, (n, n_shares)."""
    lengths = np.zeros(len(scaled))
    shares = np.zeros((len(scaled), n_shares))
    for row in range(len(scaled)):
        for root in roots:
            node, depth = root, 0
            while left[node] >= 0:
                below = scaled[row, feature[node]] <= threshold[node]
                node = left[node] if below else right[node]
                depth += 1
            lengths[row] += depth + rest[node]
            if n_shares == 0 or depth == 0:
                continue
            node = root
            while left[node] >= 0:  # once more, now that the number of cuts is known
                shares[row, feature[node]] += 1 / (depth * len(roots))
                below = scaled[row, feature[node]] <= threshold[node]
                node = left[node] if below else right[node]
    return lengths, shares
