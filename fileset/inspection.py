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

from fileset.branches import TREES, TreeExpectation, accepts
from fileset.read_errors import OPEN_ERRORS

__all__ = ["Task", "identity_hash", "inspect_file", "iterate_identity"]

_log = logging.getLogger(__name__)

RECORD_FORMAT = 1

# The lengths of collections are compared in every entry of files up to this size; in larger ones in the first and
# last entries and in ranges spread evenly between, for they cost nearly a full read.
FULL_ENTRIES = 1_000_000
SAMPLED_RANGES = 10
STEP = 100_000

# Remote files are tried again after these pauses [s].
PAUSES = (1.0, 4.0)


@dataclass(frozen=True)
class Task:
    """A file to look into: its tree, the release whose branches it must hold, and what is already known."""

    path: str
    tree: str
    release: str
    simulation: bool
    checksum: bool = False
    timeout: float = 60.0
    cached: Mapping[str, Any] | None = None

    @property
    def question(self) -> str:
        """Hash of everything that the answer depends on beside the file."""
        asked = {key: value for key, value in asdict(self).items() if key not in {"cached", "timeout"}}
        expected = repr(TREES.get(self.release))
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
    pauses = PAUSES if "://" in task.path else ()
    for pause in (*pauses, None):
        record = _inspect(task)
        if not record["error"] or pause is None:
            return record
        _log.warning("%s: %s; trying again in %g s", task.path, record["error"], pause)
        time.sleep(pause)
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
        with uproot.open(task.path, timeout=task.timeout) as file:
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
        record["error"] = "no tree"
        return
    tree = file[task.tree]
    record["entries"] = int(tree.num_entries)
    expected = TREES[task.release]
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
    try:
        record["in_file"] = _in_file(tree, expected)
        usable = set(types) - set(record["wrong_type"])
        if set(expected.identity) <= usable:
            _look_at_identity(tree, expected, record, reading)
        _look_at_lengths(tree, expected, usable, record, reading)
    except OPEN_ERRORS as error:
        record["error"] = _reason(task.path, error)
        record["error_entries"] = list(reading)


def _in_file(tree: Any, expected: TreeExpectation) -> dict[str, float] | None:
    """Cross section with its factors [pb] and sum of weights, from the first entry."""
    names = (*expected.cross_section, expected.sum_of_weights)
    if any(name not in tree for name in names):
        return None
    values = [float(tree[name].array(entry_stop=1, library="np")[0]) for name in names]
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
        columns = [
            tree[name].array(entry_start=start, entry_stop=reading[1], library="np") for name in identity
        ]
        yield start, columns[0], columns[1], columns[2]


def _look_at_identity(
    tree: Any, expected: TreeExpectation, record: dict[str, Any], reading: list[int]
) -> None:
    """Runs of the file with their range of event numbers, and an event that occurs twice in it."""
    hashes = []
    runs: dict[tuple[int, int], list[int]] = {}
    for _, channel, run, event in iterate_identity(tree, expected.identity, reading):
        hashes.append(identity_hash(channel, run, event))
        number = event.view(np.uint32) if event.dtype == np.int32 else event
        pairs = np.stack([channel.astype(np.int64), run.astype(np.int64)])
        for pair in np.unique(pairs, axis=1).T:
            of_run = number[(pairs[0] == pair[0]) & (pairs[1] == pair[1])]
            key = (int(pair[0]), int(pair[1]))
            low, high = runs.get(key, (int(of_run[0]), int(of_run[0])))
            runs[key] = [min(low, int(of_run.min())), max(high, int(of_run.max()))]
    record["channels"] = sorted({channel for channel, _ in runs})
    record["runs"] = [[*key, *span] for key, span in sorted(runs.items())]
    everything = np.concatenate(hashes)
    order = np.argsort(everything, kind="stable")
    same = np.flatnonzero(np.diff(everything[order]) == 0)
    if same.size:
        first, second = int(order[same[0]]), int(order[same[0] + 1])
        names = expected.identity
        numbers = [
            int(tree[name].array(entry_start=first, entry_stop=first + 1, library="np")[0]) for name in names
        ]
        record["twice"] = [first, second, numbers, int(same.size)]


# --- collections ----------------------------------------------------------------------------------------------


def _ranges(entries: int) -> list[tuple[int, int]]:
    """Entry ranges whose collections are compared: all of a small file, some of a large one."""
    if entries <= FULL_ENTRIES:
        return [(start, min(start + STEP, entries)) for start in range(0, entries, STEP)]
    starts = np.linspace(0, entries - STEP // 5, SAMPLED_RANGES).astype(int)
    return [(int(start), int(start) + STEP // 5) for start in starts]


def _look_at_lengths(
    tree: Any, expected: TreeExpectation, usable: set[str], record: dict[str, Any], reading: list[int]
) -> None:
    """The first entry of each collection whose branches have different lengths; reads those branches."""
    for start, stop in _ranges(record["entries"]):
        reading[:] = [start, stop]
        for counter, members in expected.counters.items():
            present = [name for name in members if name in usable]
            lengths = {
                name: ak.to_numpy(ak.num(tree[name].array(entry_start=start, entry_stop=stop)))
                for name in present
            }
            if counter in usable:
                lengths[counter] = tree[counter].array(entry_start=start, entry_stop=stop, library="np")
            if len(lengths) < 2 or any(found[0] == counter for found in record["unequal"]):
                continue
            reference_name, reference = next(iter(lengths.items()))
            for name, values in lengths.items():
                different = np.flatnonzero(values != reference)
                if different.size:
                    at = int(different[0])
                    record["unequal"].append(
                        [counter, reference_name, name, start + at, int(reference[at]), int(values[at])]
                    )
                    break
        # What the analysis reads beside the collections must be readable too.
        for name in sorted(
            usable - set(expected.counters) - {b for m in expected.counters.values() for b in m}
        ):
            tree[name].array(entry_start=start, entry_stop=stop, library="np")


# --- damage ---------------------------------------------------------------------------------------------------


def _reason(path: str, error: Exception) -> str:
    """One clause on why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if "://" not in path:
        truncated = _truncation(Path(path))
        if truncated:
            return truncated
    first_line = str(error).strip().splitlines()[0].strip() if str(error).strip() else ""
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
