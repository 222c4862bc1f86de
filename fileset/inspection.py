"""Looking into one file: is it whole, does it hold what the analysis reads, and what does it say of itself?

`inspect_file` is what the audit maps over all files; it takes and returns plain JSON types, so that any pool can
run it and a cache can keep its results.
"""

import hashlib
import json
import logging
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from fileset.branches import TreeExpectation, accepts, expectation
from fileset.read_errors import OPEN_ERRORS
from fileset.remote import source_options

__all__ = ["Task", "identity_hash", "inspect_file", "iterate_identity"]

_log = logging.getLogger(__name__)

RECORD_FORMAT = 1

# The branches of the collections are read in every entry of files up to this size; in larger ones in ranges spread
# evenly, for this costs nearly a full read. The identity of events is read in full.
FULL_ENTRIES = 1_000_000
FULL_ENTRIES_REMOTE = 20_000
SAMPLED_RANGES = 10
STEP = 100_000

# Errors that no second attempt mends.
_ABSENT = "does not exist"
_NO_TREE = "no tree"

# Remote files are tried again after these pauses [s].
PAUSES = (1.0, 4.0)


@dataclass(frozen=True)
class Task:
    """A file to look into: its tree, the release whose branches it must hold, and what is already known."""

    path: str
    tree: str
    release: str
    simulation: bool
    photons: bool = False
    checksum: bool = False
    timeout: int = 60
    cached: Mapping[str, Any] | None = None

    @property
    def question(self) -> str:
        """Hash of everything that the answer depends on beside the file."""
        asked = {key: value for key, value in asdict(self).items() if key not in {"cached", "timeout"}}
        expected = repr(expectation(self.release, photons=self.photons))
        text = json.dumps([RECORD_FORMAT, asked, expected], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def inspect_file(task: Task) -> dict[str, Any]:
    """Open a file once and look at everything that the audit asks.

    A remote file that cannot be read is tried again; what still fails is in the record, never raised.

    Returns:
        JSON types: `path`, `size` [bytes], `uuid`, `entries`, `clusters` (entry offsets), `error` (a sentence, or
        empty), `error_entries`, `trees` (those present when the wanted one is not), `missing` and `wrong_type`
        branches, `unequal` lengths, `in_file` (xsec_pb, sumw), `channels`, `runs` (what identifies the events) and
        `twice` (an event that occurs twice).
    """
    record = _inspect(task)
    for pause in PAUSES if "://" in task.path else ():
        if record["error"] in {"", _ABSENT, _NO_TREE}:
            break
        _log.info("%s %s: trying again in %g s", task.path, record["error"], pause)
        time.sleep(pause)
        reached = record["error_entries"]
        record = _inspect(task)
        if record["error"] and not record["error_entries"]:
            # The server is gone altogether now; how far the first attempt came is worth saying.
            record["error_entries"] = reached
    return record


def _inspect(task: Task) -> dict[str, Any]:
    record: dict[str, Any] = {
        "path": task.path,
        "question": task.question,
        "size": None,
        "modified": None,
        "uuid": "",
        "entries": None,
        "clusters": [],
        "error": "",
        "error_entries": [],
        "trees": [],
        "missing": [],
        "wrong_type": {},
        "unequal": [],
        "in_file": None,
        "channels": [],
        "runs": [],
        "twice": [],
        "checksum": "",
        "from_cache": False,
    }
    try:
        if "://" not in task.path:
            status = Path(task.path).stat()
            record.update(size=status.st_size, modified=status.st_mtime_ns)
        with uproot.open(task.path, **source_options(task.timeout)) as file:
            record["uuid"] = str(file.file.uuid)
            if record["size"] is None:
                record["size"] = file.file.source.num_bytes
            if _still_valid(task.cached, record):
                return {**task.cached, "from_cache": True}  # type: ignore[dict-item]  # checked above
            _look(file, task, record)
        if task.checksum and not record["error"]:
            record["checksum"] = _adler32(task.path)
    except OPEN_ERRORS as error:
        record["error"] = _reason(task.path, error)
    return record


def _still_valid(cached: Mapping[str, Any] | None, record: Mapping[str, Any]) -> bool:
    keys = ("path", "question", "size", "modified", "uuid")
    return cached is not None and not cached["error"] and all(cached[key] == record[key] for key in keys)


def _look(file: Any, task: Task, record: dict[str, Any]) -> None:
    """Fill the record from an open file."""
    classes = file.classnames(recursive=True, cycle=False)
    if classes.get(task.tree) != "TTree":
        record["trees"] = sorted(name for name, kind in classes.items() if kind == "TTree")
        record["error"] = _NO_TREE
        return
    tree = file[task.tree]
    record["entries"] = int(tree.num_entries)
    expected = expectation(task.release, photons=task.photons)
    wanted = {**expected.branches, **(expected.simulation if task.simulation else {})}
    types = {name: tree[name].typename for name in wanted if name in tree}
    record["missing"] = sorted(set(wanted) - set(types))
    record["wrong_type"] = {
        name: [types[name], kind]
        for name, kind in wanted.items()
        if name in types and not accepts(kind, types[name])
    }
    record["clusters"] = [int(offset) for offset in tree.common_entry_offsets()]
    if not record["entries"]:
        return
    reading = [0, record["entries"]]
    usable = set(types) - set(record["wrong_type"])
    try:
        record["in_file"] = _in_file(tree, expected)
        if set(expected.identity) <= usable:
            _look_at_identity(tree, expected, record, reading)
        _look_at_lengths(tree, expected, usable, record, reading)
    except OPEN_ERRORS as error:
        record["error"] = _reason(task.path, error)
        record["error_entries"] = list(reading)


def _in_file(tree: Any, expected: TreeExpectation) -> dict[str, float] | None:
    """Cross section with its factors [pb] and sum of weights, from the first entry."""
    names = [*expected.cross_section, expected.sum_of_weights]
    if any(name not in tree for name in names):
        return None
    first = tree.arrays(names, entry_stop=1, library="np")
    values = [float(first[name][0]) for name in names]
    return {"xsec_pb": float(np.prod(values[:-1])), "sumw": values[-1]}


# --- identity -------------------------------------------------------------------------------------------------


def identity_hash(channel: NDArray[Any], run: NDArray[Any], event: NDArray[Any]) -> NDArray[np.uint64]:
    """64-bit hash of the identity of events (SplitMix64 finaliser of the three numbers in turn).

    Args:
        channel: channelNumber, shape (n,).
        run: runNumber, shape (n,).
        event: eventNumber, shape (n,); a wrapped int32 is taken as uint32.

    Returns:
        Shape (n,). Two of 10^7 different events share a value with probability 3e-6.
    """
    mixed = np.zeros(len(event), np.uint64)
    for column in (channel, run, event):
        if column.dtype == np.int32:
            column = column.view(np.uint32)  # noqa: PLW2901  the same bits
        mixed = mixed + column.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def iterate_identity(
    tree: Any, identity: tuple[str, str, str], reading: list[int]
) -> Iterator[tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Start entry and the three identity columns, in steps; `reading` follows the range being read."""
    entries = int(tree.num_entries)
    for start in range(0, entries, 10 * STEP):
        reading[:] = [start, min(start + 10 * STEP, entries)]
        columns = tree.arrays(list(identity), entry_start=start, entry_stop=reading[1], library="np")
        yield start, columns[identity[0]], columns[identity[1]], columns[identity[2]]


def _look_at_identity(
    tree: Any, expected: TreeExpectation, record: dict[str, Any], reading: list[int]
) -> None:
    """Runs of the file with their range of event numbers, and an event that occurs twice in it."""
    hashes = []
    runs: dict[tuple[int, int], list[int]] = {}
    for _, channel, run, event in iterate_identity(tree, expected.identity, reading):
        hashes.append(identity_hash(channel, run, event))
        number = event.view(np.uint32) if event.dtype == np.int32 else event
        of_run = channel.astype(np.uint64) << np.uint64(32) | run.astype(np.uint32).astype(np.uint64)
        order = np.argsort(of_run, kind="stable")
        keys, starts = np.unique(of_run[order], return_index=True)
        lows = np.minimum.reduceat(number[order], starts)
        highs = np.maximum.reduceat(number[order], starts)
        for run_key, low, high in zip(keys.tolist(), lows.tolist(), highs.tolist(), strict=True):
            known = runs.get((run_key >> 32, run_key & 0xFFFFFFFF), [low, high])
            runs[run_key >> 32, run_key & 0xFFFFFFFF] = [min(low, known[0]), max(high, known[1])]
    record["channels"] = sorted({channel for channel, _ in runs})
    record["runs"] = [[*key, *span] for key, span in sorted(runs.items())]
    everything = np.concatenate(hashes)
    order = np.argsort(everything, kind="stable")
    same = np.flatnonzero(np.diff(everything[order]) == 0)
    if same.size:
        earliest = same[np.argmin(order[same])]
        first, second = int(order[earliest]), int(order[earliest + 1])
        event = tree.arrays(list(expected.identity), entry_start=first, entry_stop=first + 1, library="np")
        numbers = [int(event[name][0]) for name in expected.identity]
        record["twice"] = [first, second, numbers, int(same.size)]


# --- collections ----------------------------------------------------------------------------------------------


def _ranges(entries: int, *, remote: bool) -> list[tuple[int, int]]:
    """Entry ranges whose collections are read: all of a small file, some of a large one."""
    full = FULL_ENTRIES_REMOTE if remote else FULL_ENTRIES
    if entries <= full:
        return [(start, min(start + STEP, entries)) for start in range(0, entries, STEP)]
    length = full // (5 * SAMPLED_RANGES)
    starts = np.linspace(0, entries - length, SAMPLED_RANGES).astype(int)
    return [(int(start), int(start) + length) for start in starts]


def _look_at_lengths(
    tree: Any, expected: TreeExpectation, usable: set[str], record: dict[str, Any], reading: list[int]
) -> None:
    """Read all that the analysis reads; note each collection's first entry of branches with different lengths."""
    names = sorted(usable - set(expected.identity))
    unequal: dict[str, list[Any]] = {}
    for start, stop in _ranges(record["entries"], remote="://" in record["path"]):
        reading[:] = [start, stop]
        arrays = tree.arrays(names, entry_start=start, entry_stop=stop)
        for counter, members in expected.counters.items():
            lengths = {name: ak.to_numpy(ak.num(arrays[name])) for name in members if name in usable}
            if counter in usable:
                lengths[counter] = ak.to_numpy(arrays[counter])
            for name, values in lengths.items():
                reference_name, reference = next(iter(lengths.items()))
                different = np.flatnonzero(values != reference)
                if different.size and counter not in unequal:
                    at = int(different[0])
                    found = [reference_name, name, start + at, int(reference[at]), int(values[at])]
                    unequal[counter] = [counter, *found]
    record["unequal"] = list(unequal.values())


# --- damage ---------------------------------------------------------------------------------------------------


def _reason(path: str, error: Exception) -> str:
    """One clause on why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return _ABSENT
    if "://" not in path:
        truncated = _truncation(Path(path))
        if truncated:
            return truncated
    try:
        first_line = next(iter(str(error).strip().splitlines()), "").strip()
    except OPEN_ERRORS:
        # uproot's errors describe the damaged object, which can fail again.
        first_line = ""
    return f"cannot be read ({type(error).__name__}{': ' if first_line else ''}{first_line[:160]})"


def _truncation(path: Path) -> str:
    """Whether a file is shorter than its header says, or no ROOT file at all."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return ""
    if not head.startswith(b"root"):
        return "is no ROOT file" if head else "is empty (0 bytes)"
    version = int.from_bytes(head[4:8], "big")
    # TFile header: versions from 1 000 000 on have a 64-bit end of file.
    end = int.from_bytes(head[12:20] if version >= 1_000_000 else head[12:16], "big")
    size = path.stat().st_size
    return f"is truncated, it holds {size} of {end} bytes" if size < end else ""


def _adler32(path: str) -> str:
    """Adler-32 checksum of all bytes of a local file, as the CERN Open Data portal writes it."""
    if "://" in path:
        return ""
    value = 1
    with Path(path).open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.adler32(block, value)
    return f"adler32:{value:08x}"
