"""The same file, or the same event, read twice.

Events are told apart by (channelNumber, runNumber, eventNumber). Files whose runs, or whose ranges of event numbers
within a run, are disjoint cannot share events: the audit knows these ranges, and only the rest is read again.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import uproot
from numpy.typing import NDArray

from fileset.branches import TREES
from fileset.findings import Finding
from fileset.inspection import identity_hash, iterate_identity
from fileset.read_errors import OPEN_ERRORS
from fileset.remote import source_options

__all__ = ["find_same_events", "find_same_files"]

# Events compared at once; more are split by hash into parts that are read one after the other.
EVENTS_AT_ONCE = 20_000_000

Fileset = Mapping[str, Mapping[str, Any]]
Records = Mapping[str, Mapping[str, Any]]


def find_same_files(fileset: Fileset, records: Records) -> list[Finding]:
    """Files read twice: the same path in two datasets, or the same UUID, size and entries under two names."""
    seen: dict[tuple[Any, ...], tuple[str, str]] = {}
    findings = []
    for dataset, entry in fileset.items():
        for path in entry["files"]:
            record = records[path]
            key = (record["uuid"], record["size"], record["entries"]) if record["uuid"] else (path,)
            if key in seen:
                other, other_dataset = seen[key]
                message = (
                    f"{path} is read in {other_dataset} and in {dataset}"
                    if path == other
                    else f"{path} and {other} are the same file (UUID {record['uuid']})"
                )
                findings.append(Finding("same file twice", message, dataset, path))
            else:
                seen[key] = (path, dataset)
    return findings


def find_same_events(fileset: Fileset, records: Records, timeout: int) -> list[Finding]:
    """Events that occur in two files of one skim; `timeout` is that of the audit [s]."""
    findings = []
    for files in _scopes(fileset, records):
        for group in _connected(files, records):
            findings += _compare(group, records, fileset, timeout)
    return findings


def _scopes(fileset: Fileset, records: Records) -> Iterator[list[tuple[str, str]]]:
    """Files (dataset, path) that may share events: all data of a skim, one simulated sample of a skim."""
    scopes: dict[tuple[str, int], list[tuple[str, str]]] = {}
    known: set[tuple[Any, ...]] = set()
    for dataset, entry in fileset.items():
        metadata = entry["metadata"]
        for path in entry["files"]:
            record = records[path]
            key = (record["uuid"], record["size"], record["entries"])
            if record["error"] or not record["runs"] or key in known:
                continue
            known.add(key)
            scopes.setdefault((metadata["skim"], metadata["dsid"]), []).append((dataset, path))
    yield from (files for files in scopes.values() if len(files) > 1)


def _may_share(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    ranges = {(channel, run): (low, high) for channel, run, low, high in other["runs"]}
    for channel, run, low, high in one["runs"]:
        span = ranges.get((channel, run))
        if span and low <= span[1] and span[0] <= high:
            return True
    return False


def _connected(files: Sequence[tuple[str, str]], records: Records) -> list[list[tuple[str, str]]]:
    """Groups of files that must be compared with one another."""
    groups: list[list[tuple[str, str]]] = [[file] for file in files]
    for one, other in combinations(files, 2):
        if _may_share(records[one[1]], records[other[1]]):
            first = next(group for group in groups if one in group)
            second = next(group for group in groups if other in group)
            if first is not second:
                first.extend(second)
                groups.remove(second)
    return [group for group in groups if len(group) > 1]


def _compare(
    files: Sequence[tuple[str, str]], records: Records, fileset: Fileset, timeout: int
) -> list[Finding]:
    """Read the identity of events of some files again, part by part, and find those in two of them."""
    total = sum(records[path]["entries"] for _, path in files)
    parts = max(1, -(-total // EVENTS_AT_ONCE))
    shared: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for part in range(parts):
        try:
            hashes, file_of, entry_of = _read_part(files, fileset, part, parts, timeout)
        except OPEN_ERRORS as error:
            names = ", ".join(path for _, path in files)
            message = f"{names} cannot be read a second time to compare their events ({type(error).__name__})"
            return [Finding("unreadable", message, files[0][0], files[0][1])]
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(np.diff(hashes[order]) == 0)
        for one, other in zip(order[same], order[same + 1], strict=True):
            owners = (int(file_of[one]), int(file_of[other]))
            if owners[0] != owners[1]:
                shared.setdefault(owners, []).append((int(entry_of[other]), int(entry_of[one])))
    findings = []
    for (one, other), entries in shared.items():
        dataset, path = files[other]
        first, of_one = min(entries)
        message = (
            f"{path} and {files[one][1]} share {len(entries)} event{'s' if len(entries) > 1 else ''}, the first in "
            f"entries {first} and {of_one}"
        )
        findings.append(Finding("same event twice", message, dataset, path, entries=(first, first + 1)))
    return findings


def _read_part(
    files: Sequence[tuple[str, str]], fileset: Fileset, part: int, parts: int, timeout: int
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int64]]:
    """Hashes of the events of one part, with the file's index and the entry of each."""
    hashes, owners, entries = [], [], []
    for index, (dataset, path) in enumerate(files):
        entry = fileset[dataset]
        identity = TREES[entry["metadata"]["release"]].identity
        with uproot.open(path, **source_options(timeout)) as file:
            tree = file[entry["metadata"]["tree"]]
            for start, channel, run, event in iterate_identity(tree, identity, [0, 0]):
                values = identity_hash(channel, run, event)
                mine = np.flatnonzero(values % np.uint64(parts) == part)
                hashes.append(values[mine])
                owners.append(np.full(len(mine), index, np.int32))
                entries.append(mine + start)
    return np.concatenate(hashes), np.concatenate(owners), np.concatenate(entries)
