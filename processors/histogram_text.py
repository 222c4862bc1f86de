"""Histograms in the UHI form as JSON text, character for character what `json` writes, in a fraction of its time.

A score has hundreds of bins for each dataset, split, flavour and variation, of which few are filled: most of the text
are rows of zeros. These are written as one string each, and read as one word that says how many there are.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import hist
import numpy as np
import uhi.io.json
from numpy.typing import NDArray

__all__ = ["read", "written"]

# Stands for an array until its text takes its place; no name has it.
_MARK = "\0array"

_ZERO = "0.0"
# A row of zeros, or a string, whatever that holds.
_ROW_OF_ZEROS = re.compile(r'"(?:[^"\\]|\\.)*+"|\[0\.0(?:, 0\.0)*+\]')
_CHARACTERS = len("0.0, ")  # for each zero, the brackets instead of the last comma and space

# Contents of a storage; those of whole numbers, and positions of bins, have no rows of 0.0.
_CONTENTS = frozenset({"values", "variances", "counts", "sum_of_weights", "sum_of_weights_squared"})


def written(histograms: Mapping[str, hist.Hist]) -> str:
    """The text that `json.dumps(histograms, default=uhi.io.json.default)` gives."""
    arrays: list[str] = []

    def default(found: Any) -> Any:
        if isinstance(found, np.ndarray) and found.dtype == np.float64 and found.size:
            arrays.append(_text_of(found))
            return _MARK
        return uhi.io.json.default(found)

    first, *others = json.dumps(histograms, default=default).split(json.dumps(_MARK))
    return first + "".join(part for pair in zip(arrays, others, strict=True) for part in pair)


def _text_of(array: NDArray[np.float64]) -> str:
    rows = np.ascontiguousarray(array).reshape(-1, array.shape[-1])
    texts = [f"[{', '.join([_ZERO] * rows.shape[1])}]"] * len(rows)
    for row in np.flatnonzero(
        rows.view(np.uint64).any(axis=1)
    ):  # by their bits: -0.0 is another text than 0.0
        texts[row] = json.dumps(rows[row].tolist())
    for length in array.shape[-2::-1]:
        texts = [f"[{', '.join(texts[start : start + length])}]" for start in range(0, len(texts), length)]
    return texts[0]


def read(text: str) -> dict[str, hist.Hist]:
    """The histograms of such a text, whoever wrote it."""
    short = _ROW_OF_ZEROS.sub(_shortened, text)
    return {name: hist.Hist(plain) for name, plain in json.loads(short, object_hook=_with_arrays).items()}


def _shortened(found: re.Match[str]) -> str:
    # Among numbers a string stands for nothing else.
    return found[0] if found[0][0] == '"' else f'"{len(found[0]) // _CHARACTERS}"'


def _with_arrays(found: dict[str, Any]) -> dict[str, Any]:
    # A storage has a type; a histogram may have any name, that of a storage's contents too.
    if isinstance(found.get("type"), str) and found["type"] != "int":
        for key in _CONTENTS & found.keys():
            found[key] = _array_of(found[key])
    return uhi.io.json.object_hook(found)


def _array_of(nested: Any) -> NDArray[np.float64]:
    """Lists of lists of numbers, or of words that say how many zeros a list was."""
    rows, shape = [nested], []
    while (first := next((row for row in rows if isinstance(row, list)), None)) is not None:
        if not first:
            return np.asarray(nested, np.float64)
        if not isinstance(first[0], list | str):
            break
        shape.append(len(first))
        rows = [part for row in rows for part in row]
    array = np.zeros((len(rows), int(rows[0]) if first is None else len(first)))
    for number, row in enumerate(rows):
        if isinstance(row, list):
            array[number] = row
    return array.reshape(*shape, -1)
