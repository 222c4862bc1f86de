"""A model as a directory that travels: what it learnt, scaler, feature order and card, all checked on loading.

Kinds of models differ in what makes a score of scaled inputs, their core, and in the files that hold it: a network,
an ensemble of networks, or a baseline without any. All else is the same for every kind.

Reading a card does not import Keras; loading a network does.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd
import xxhash
from numpy.typing import NDArray

from fileset.exceptions import FailureError, InputError
from models import backend
from models.cores import PARAMETERS, load_core
from models.reading import in_order
from models.scaling import Scaler, scaler_from_json
from models.threads import single_matrix_threads, threads_asked
from processors.files import write_json

if TYPE_CHECKING:
    import keras

    from models.scores import Batch, EventFunction

__all__ = [
    "BUNDLE_FORMAT",
    "AnomalyModel",
    "Measures",
    "checksum_of_json",
    "load_model",
    "network_files",
    "read_card",
    "verified_card",
    "write_bundle",
]

BUNDLE_FORMAT = 1
BATCH_ROWS = 4096  # that one thread scores at a time; a core may divide them further
_FILES: Final = ("scaler.json", "features.json")  # of every kind


class Measures(NamedTuple):
    """What a model says of some events that follow one another."""

    rows: slice
    scores: dict[str, NDArray[np.float32]]  # of each score name: (n,)
    residuals: NDArray[np.float32]  # (n, k), what each input gives to the score


class AnomalyModel:
    """A core with its scaler: features in, anomaly scores out."""

    def __init__(self, core: "EventFunction", scaler: Scaler, card: dict[str, Any]) -> None:
        self.core = core
        self.scaler = scaler
        self.card = card
        self.features = scaler.columns

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return str(self.card["name"])

    @property
    def networks(self) -> "tuple[keras.Model, ...]":
        """The networks behind the score; none of a baseline."""
        return getattr(self.core, "members", ())

    @property
    def network(self) -> "keras.Model":
        """The network, of an ensemble the first.

        Raises:
            InputError: the model is a baseline, which has none.
        """
        if not self.networks:
            msg = f"model {self.name} is a baseline and has no network: give one that was trained"
            raise InputError(msg)
        return self.networks[0]

    @property
    def score_names(self) -> tuple[str, ...]:
        """All scores that this model has; the first is what `score` gives."""
        return tuple(self.card.get("scores", ("mse",)))

    def score(self, features: NDArray[np.floating[Any]] | pd.DataFrame) -> NDArray[np.float32]:
        """The score of each event; larger is more anomalous.

        Log10 of the mean squared error of the scaled inputs, for a VAE of -ELBO, or what the setting `score` says; of
        an ensemble log10 of the mean over its networks. Of baselines see `models.baselines`.

        Args:
            features: shape (n, k) in the order of `features`, or a table with (at least) these columns in any
                order. Units as in the shards.

        Returns:
            Shape (n,), the same for an event however many others come with it.

        Raises:
            InputError: columns are missing, the shape is wrong or a value is not finite.
        """
        inputs = self._inputs(features)
        scores = np.empty(len(inputs), dtype=np.float32)
        for part, values, _ in self._measured(inputs):
            scores[part] = values[:, 0]
        return scores

    def scores(self, features: NDArray[np.floating[Any]] | pd.DataFrame) -> dict[str, NDArray[np.float32]]:
        """All scores, each of shape (n,); arguments as in `score`."""
        inputs = self._inputs(features)
        scores = np.empty((len(inputs), len(self.score_names)), dtype=np.float32)
        for part, values, _ in self._measured(inputs):
            scores[part] = values
        return {name: scores[:, column] for column, name in enumerate(self.score_names)}

    def residuals(self, features: NDArray[np.floating[Any]] | pd.DataFrame) -> NDArray[np.float32]:
        """What each input gives to the score, shape (n, k); arguments as in `score`.

        Of networks the squared error of each scaled input, for the score distance with half its square, so that their
        mean is what the score is the log10 of; of an ensemble the mean over its networks.
        """
        inputs = self._inputs(features)
        residuals = np.empty(inputs.shape, dtype=np.float32)
        for measures in self.measures(inputs):
            residuals[measures.rows] = measures.residuals
        return residuals

    def measures(self, features: NDArray[np.floating[Any]] | pd.DataFrame) -> Iterator[Measures]:
        """All scores and residuals, some events at a time; arguments as in `score`."""
        for part, values, residuals in self._measured(self._inputs(features), residuals=True):
            scores = {name: values[:, column] for column, name in enumerate(self.score_names)}
            yield Measures(part, scores, residuals)

    def scores_scaled(self, scaled: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """All scores of inputs that went through the scaler already, shape (n, k)."""
        scores = np.empty((len(scaled), len(self.score_names)), dtype=np.float32)
        for part, values, _ in self._measured(scaled, scaled=True):
            scores[part] = values
        return {name: scores[:, column] for column, name in enumerate(self.score_names)}

    def _measured(
        self, inputs: NDArray[np.float32], *, scaled: bool = False, residuals: bool = False
    ) -> "Iterator[Batch]":
        """Place, scores and residuals of the inputs, some events at a time and in order; cores take turns."""
        # What is scaled at a time stays in the cache on its way through the core.
        rows = getattr(self.core, "rows", BATCH_ROWS)
        k = len(self.features) if residuals else 0

        def measured(first: int) -> "Batch":
            events = inputs[first : first + BATCH_ROWS]
            scores = np.empty((len(events), len(self.score_names)), dtype=np.float32)
            parts = np.empty((len(events), k), dtype=np.float32)
            with single_matrix_threads():
                for start in range(0, len(events), rows):
                    batch = events[start : start + rows]
                    batch = batch if scaled else self.scaler.transform(batch)
                    for place, values, own in self.core(batch, residuals=residuals):
                        scores[start : start + len(batch)][place] = values
                        parts[start : start + len(batch)][place] = own
            return slice(first, first + len(events)), scores, parts

        starts = range(0, len(inputs), BATCH_ROWS)
        yield from map(measured, starts) if len(starts) < 2 else in_order(measured, starts, threads_asked())

    def _inputs(self, features: NDArray[np.floating[Any]] | pd.DataFrame) -> NDArray[np.float32]:
        if isinstance(features, pd.DataFrame):
            missing = [name for name in self.features if name not in features.columns]
            if missing:
                msg = f"model {self.name} needs the columns {missing}, which the given table does not have"
                raise InputError(msg)
            features = features[self.features].to_numpy(dtype=np.float32)
        inputs = np.asarray(features, dtype=np.float32)
        if inputs.ndim != 2 or inputs.shape[1] != len(self.features):
            msg = f"model {self.name} needs features of shape (n, {len(self.features)}), not {inputs.shape}"
            raise InputError(msg)
        finite = np.isfinite(inputs)
        if not finite.all():
            name = self.features[int(np.argmin(finite.all(axis=0)))]
            msg = f"model {self.name} cannot score a value that is not finite: see column {name!r}"
            raise InputError(msg)
        return inputs


class _Kind(NamedTuple):
    """What is different in a kind of model."""

    files: Callable[[dict[str, Any]], tuple[str, ...]]  # beside those of every kind, from the card
    core: "Callable[[Path, dict[str, Any]], EventFunction]"  # from the files


def network_files(members: int) -> tuple[str, ...]:
    """Names of the files of one or several networks."""
    return (
        ("model.keras",)
        if members == 1
        else tuple(f"member{number}.keras" for number in range(1, members + 1))
    )


def _files_of_networks(card: dict[str, Any]) -> tuple[str, ...]:
    return (*network_files(len(card.get("members", [None]))), "history.json")


def _networks(path: Path, card: dict[str, Any]) -> "EventFunction":
    backend.start()
    from models.ensemble import load_networks  # noqa: PLC0415 (imports Keras)

    return load_networks(path, card)


_KINDS: Final = {
    "network": _Kind(_files_of_networks, _networks),
    "ensemble": _Kind(_files_of_networks, _networks),
    "baseline": _Kind(lambda _: (PARAMETERS,), load_core),
}


def _kind(card: dict[str, Any]) -> _Kind:
    return _KINDS[card.get("kind", "network")]  # the only one that there was at first


def load_model(path: Path | str) -> AnomalyModel:
    """Load a bundle; a second call in the same process for the same content costs a look at its card.

    Args:
        path: directory models/<region>/<name>.

    Raises:
        InputError: there is no bundle, or it is of another kind or format.
        FailureError: it is incomplete or was changed after it was written.
    """
    resolved = Path(path).resolve()
    return _load(resolved, read_card(resolved)["checksum"])


def read_card(path: Path) -> dict[str, Any]:
    """The card of a bundle, after a look at its format and its own checksum.

    Raises:
        InputError: there is no bundle, or it is of another kind or format.
        FailureError: the card was changed after it was written.
    """
    try:
        card = json.loads((path / "card.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        msg = f"there is no model bundle (card.json) in {path}: run the stage train first"
        raise InputError(msg) from None
    except OSError as error:
        msg = f"cannot read the card of model bundle {path} ({error.strerror}): train again"
        raise FailureError(msg) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        msg = f"the card of model bundle {path} is no valid JSON ({error}): train again"
        raise FailureError(msg) from error
    if not isinstance(card, dict) or card.get("format") != BUNDLE_FORMAT or "checksums" not in card:
        msg = f"{path} is no model bundle of format {BUNDLE_FORMAT}: train again with this version"
        raise InputError(msg)
    if card.get("checksum") != _card_checksum(card):
        msg = f"the card of model bundle {path} was changed after it was written: train again"
        raise FailureError(msg)
    if card.get("kind", "network") not in _KINDS:
        msg = (
            f"model bundle {path} is of kind {card['kind']!r}, where {', '.join(_KINDS)} are known: "
            "train again with this version"
        )
        raise InputError(msg)
    return card


def verified_card(path: Path) -> dict[str, Any]:
    """The card of a bundle, after a look at the checksums of all its files.

    Raises:
        InputError: there is no bundle, or it is of another kind or format.
        FailureError: it is incomplete or was changed after it was written.
    """
    card = read_card(path)
    for name in (*_FILES, *_kind(card).files(card)):
        try:
            found = _checksum((path / name).read_bytes())
        except FileNotFoundError:
            msg = f"model bundle {path} is incomplete, it lacks {name}: train again"
            raise FailureError(msg) from None
        except OSError as error:
            msg = f"cannot read {name} of model bundle {path} ({error.strerror}): train again"
            raise FailureError(msg) from error
        if found != card["checksums"].get(name):
            msg = f"{name} of model bundle {path} was changed after it was written: train again"
            raise FailureError(msg)
    return card


def write_bundle(directory: Path, model: AnomalyModel, write: Callable[[Path], None]) -> None:
    """Write a bundle beside its final place and move it there whole; an older one is replaced.

    Args:
        directory: models/<region>/<name>.
        model: with its card, to which the checksums are added.
        write: puts the files of the model's kind into a directory.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        write(new)
        write_json(new / "scaler.json", model.scaler.to_json())
        write_json(new / "features.json", {"format": BUNDLE_FORMAT, "features": model.features})
        card = model.card
        files = (*_FILES, *_kind(card).files(card))
        card["checksums"] = {name: _checksum((new / name).read_bytes()) for name in files}
        card["checksum"] = _card_checksum(card)
        write_json(new / "card.json", card)
        if directory.exists():
            # A directory cannot be replaced in one step; the old one leaves with the scratch directory.
            directory.replace(Path(scratch) / "old")
        new.replace(directory)


def checksum_of_json(content: Any) -> str:
    """Checksum of plain JSON types, whatever the order of keys."""
    return _checksum(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


@lru_cache(maxsize=8)
def _load(path: Path, checksum: str) -> AnomalyModel:  # noqa: ARG001
    """Keyed by the card's checksum too, so that a newly trained bundle is not mistaken for the old one."""
    card = verified_card(path)
    try:
        return AnomalyModel(_kind(card).core(path, card), _scaler(path, card), card)
    except (ValueError, TypeError, OSError, KeyError) as error:
        reason = str(error).split("\n", 1)[0].split(". ", 1)[0]  # Keras writes paragraphs
        msg = f"model bundle {path} cannot be loaded ({reason}): train again"
        raise FailureError(msg) from error


def _scaler(path: Path, card: dict[str, Any]) -> Scaler:
    scaler = scaler_from_json(json.loads((path / "scaler.json").read_text(encoding="utf-8")))
    if scaler.columns != card["features"]:
        msg = "its scaler has other features than its card"
        raise ValueError(msg)
    return scaler


def _card_checksum(card: dict[str, Any]) -> str:
    return checksum_of_json({name: value for name, value in card.items() if name != "checksum"})


def _checksum(content: bytes) -> str:
    return f"xxh128:{xxhash.xxh128_hexdigest(content)}"
