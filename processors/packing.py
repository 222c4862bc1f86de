"""Histograms of a chunk as text, and the sum of many: what a hundred thousand receipts are made of.

The UHI form of one histogram takes a millisecond to write or to read, and a chunk has dozens. Here the contents of
all of them are one run of numbers behind one description of their axes, so that chunks of the same description are
added as arrays, and become histograms once.
"""

import base64
import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import hist
import numpy as np
import uhi.io.json
from coffea.processor import accumulate
from numpy.typing import NDArray

__all__ = ["added", "joined", "packed"]

# Storages whose contents are added number by number -> the parts that UHI has of them.
_PARTS = {"weighted": ("values", "variances"), "double": ("values",)}

_LENGTH = struct.Struct("<Q")


def packed(histograms: Mapping[str, hist.Hist]) -> str:
    """Histograms as text, without loss.

    Args:
        histograms: by name; their storage is Weight or Double.
    """
    description, contents = {}, []
    for name, histogram in histograms.items():
        plain = uhi.io.json.default(histogram)
        storage = plain["storage"]
        arrays = [np.ascontiguousarray(storage[part], np.float64) for part in _PARTS[storage["type"]]]
        contents += arrays
        description[name] = {**plain, "storage": {"type": storage["type"], "shape": arrays[0].shape}}
    head = json.dumps(description, default=uhi.io.json.default).encode()
    raw = b"".join([_LENGTH.pack(len(head)), head, *(array.tobytes() for array in contents)])
    return base64.b64encode(zlib.compress(raw, 1)).decode()


def added(packs: Iterable[str]) -> dict[str, hist.Hist]:
    """Sum of what was packed: in the order given among those of the same axes, and these in order of their first.

    Args:
        packs: from `packed`.
    """
    sums: dict[bytes, NDArray[np.float64]] = {}
    for pack in packs:
        raw = zlib.decompress(base64.b64decode(pack))
        begin = _LENGTH.size + _LENGTH.unpack_from(raw)[0]
        head, numbers = raw[_LENGTH.size : begin], np.frombuffer(raw[begin:], np.float64)
        if head in sums:
            sums[head] += numbers
        else:
            sums[head] = numbers.copy()
    return joined(dict(_unpacked(head, numbers)) for head, numbers in sums.items())


def joined(results: Iterable[Mapping[str, hist.Hist]]) -> dict[str, hist.Hist]:
    """Sum of histograms by name, in their order, mostly each of another dataset: made at once.

    To add one after the other copies all that were added before: it takes the square of the number of datasets.
    """
    parts: dict[str, list[hist.Hist]] = {}
    for result in results:
        for name, histogram in result.items():
            parts.setdefault(name, []).append(histogram)
    return {name: _joined(own) for name, own in parts.items()}


def _joined(parts: Sequence[hist.Hist]) -> hist.Hist:
    first = parts[0]
    by_dataset = isinstance(first.axes[0], hist.axis.StrCategory)
    if len(parts) == 1 or not by_dataset or any(part.axes[1:] != first.axes[1:] for part in parts):
        return accumulate(parts)
    axis = first.axes[0]
    names = {name: row for row, name in enumerate(dict.fromkeys(n for part in parts for n in part.axes[0]))}
    datasets = hist.axis.StrCategory(list(names), growth=True)
    datasets.__dict__.update(axis.__dict__)  # name and label as they are in the parts
    total = hist.Hist(datasets, *first.axes[1:], storage=first.storage_type())
    total.__dict__ |= first.__dict__
    contents = total.view(flow=True)
    for part in parts:
        own, rows = part.view(flow=True), [names[name] for name in part.axes[0]]
        for field in contents.dtype.names or [...]:  # Σw and Σw², or the only number of a bin
            contents[field][rows] += own[field]
    return total


def _unpacked(head: bytes, numbers: NDArray[np.float64]) -> Iterator[tuple[str, hist.Hist]]:
    """The histograms of a description, with these contents."""
    position = 0
    for name, plain in json.loads(head, object_hook=uhi.io.json.object_hook).items():
        storage, shape = plain["storage"], plain["storage"].pop("shape")
        for part in _PARTS[storage["type"]]:
            storage[part] = numbers[position : position + np.prod(shape)].reshape(shape)
            position += np.prod(shape)
        yield name, hist.Hist(plain)
