"""The networks behind a score: one, or several of different seeds whose mean is taken.

What a network finds depends on the weights it starts from. The mean over some of them depends less on it, and their
spread is the part of a score's uncertainty that comes from training (Lakshminarayanan et al., arXiv:1612.01474).

Importing this module imports Keras; `models.backend.start` comes first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from models.autoencoder import load, save
from models.bundle import network_files
from models.scores import Batch, Values, event_values
from models.settings import ScoreName, TrainingSettings

__all__ = ["Networks", "load_networks", "save_networks", "scores_of"]

CACHED_INPUTS: Final = 1 << 18  # a megabyte, as much as the cache of a core holds
ROWS_RANGE: Final = (
    9,
    12,
)  # powers of two: below, products are slower; above is more than a thread is handed


@dataclass(frozen=True)
class Networks:
    """Networks of the same inputs and scores, whose scores and errors are averaged.

    The mean is taken of what a score is the log10 of. Behind the averaged scores stand those of each member: its
    first one. A single network gives its own scores.

    Attributes:
        members: at least one.
        names: of the scores of each.
        beta: factor of the Kullback-Leibler term in the score elbo.
    """

    members: tuple[keras.Model, ...]
    names: tuple[ScoreName, ...]
    beta: float = 1.0

    @property
    def rows(self) -> int:
        """Events that are scored at a time: with all that is computed of them they stay in the cache of a core."""
        wanted = round(np.log2(CACHED_INPUTS / self.members[0].input_shape[-1]))
        return 1 << int(np.clip(wanted, *ROWS_RANGE))

    def __call__(self, scaled: NDArray[np.float32], *, residuals: bool = False) -> Iterator[Batch]:
        """As a `models.scores.EventFunction`."""
        for found in zip(*(run(scaled, residuals=residuals) for run in self._runs), strict=True):
            values, parts = found[0][1:] if len(found) == 1 else _mean(found)
            yield found[0][0], np.log10(values).astype(np.float32), parts

    @cached_property
    def _runs(self) -> list[Callable[..., Iterator[Values]]]:
        return [
            event_values(member, self.names, n_inputs=member.input_shape[-1], rows=self.rows, beta=self.beta)
            for member in self.members
        ]


def _mean(found: Sequence[Values]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """What several networks say of the same events, and behind it what each says first."""
    own = np.stack([values for _, values, _ in found])  # (members, b, names)
    total = found[0][2].copy()
    for _, _, parts in found[1:]:  # one after the other: squared errors of a matrix are large
        total += parts
    total /= np.float32(len(found))
    return np.concatenate([own.mean(axis=0), own[:, :, 0].T], axis=1), total


def scores_of(settings: TrainingSettings) -> list[str]:
    """Names of all scores of what these settings train; the first is the one that is cut on."""
    members = range(1, settings.members + 1) if settings.members > 1 else ()
    return [*settings.scores, *(f"member{number}" for number in members)]


def save_networks(
    members: Sequence[keras.Model], directory: Path, settings: TrainingSettings, n_inputs: int
) -> None:
    """Write the `.keras` file of each network."""
    for network, name in zip(members, network_files(len(members)), strict=True):
        save(network, directory / name, settings, n_inputs)


def load_networks(directory: Path, card: dict[str, Any]) -> Networks:
    """The networks of a bundle.

    Raises:
        ValueError: one cannot be read, or has not the inputs and outputs that the card says.
        TypeError, OSError: one cannot be read.
    """
    files, k = network_files(len(card.get("members", [None]))), len(card["features"])
    members = tuple(load(directory / name) for name in files)
    for name, network in zip(files, members, strict=True):
        shapes = network.input_shape, (network.output_shape[0], network.output_shape[-1])
        if shapes not in {((None, k), (None, k)), ((None, k), (None, k + 1))}:
            msg = f"{name} is no network of the {k} features of the card"
            raise ValueError(msg)
    names = card.get("scores", ["mse"])
    if len(members) > 1:
        names = names[: -len(members)]
    return Networks(members, tuple(names), float(card["settings"]["beta"]))
