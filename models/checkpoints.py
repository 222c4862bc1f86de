"""The state of a fit after an epoch, in a file that is whole or absent: who is killed goes on where it was.

A checkpoint is an `.npz` of plain arrays, which no code is run to read. It belongs to one configuration, one
sample and one set of package versions; any other is ignored.
"""

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from processors.files import replace_atomically

__all__ = ["Checkpoint", "State"]

logger = logging.getLogger(__name__)

_RECORD = "record"


class State(NamedTuple):
    """What decides how a fit goes on."""

    record: dict[str, Any]  # plain JSON types: history and number of epochs
    arrays: dict[str, list[NDArray[Any]]]  # weights, optimiser and random numbers, by what they are


class Checkpoint(NamedTuple):
    """Where the state of one configuration is kept.

    Attributes:
        path: of the file.
        key: hash of everything that the state depends on.
    """

    path: Path
    key: str

    def save(self, state: State) -> None:
        """Take the place of the state before, in one step."""
        content = {
            f"{name}/{number}": array
            for name, arrays in state.arrays.items()
            for number, array in enumerate(arrays)
        }
        record = json.dumps({"key": self.key, "record": state.record, "counts": _counts(state.arrays)})
        with replace_atomically(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **content, **{_RECORD: np.array(record)})

    def load(self) -> State | None:
        """The state, if there is one of this key; a broken file is as good as none."""
        if not self.path.is_file():
            return None
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                stored = json.loads(str(content[_RECORD]))
                if stored["key"] != self.key:
                    logger.info("%s is of another configuration and is ignored", self.path)
                    return None
                arrays = {
                    name: [content[f"{name}/{number}"] for number in range(count)]
                    for name, count in stored["counts"].items()
                }
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            logger.warning("checkpoint %s cannot be read (%s): training starts anew", self.path, error)
            return None
        return State(stored["record"], arrays)

    def remove(self) -> None:
        """Training has ended."""
        self.path.unlink(missing_ok=True)


def _counts(arrays: dict[str, list[NDArray[Any]]]) -> dict[str, int]:
    return {name: len(of) for name, of in arrays.items()}
