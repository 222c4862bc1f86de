"""The audit: every file of a fileset is opened once, and what is wrong with it is said before anything is computed.

The result completes the fileset in coffea's own preprocessed form, so that no later stage needs to open the files
to learn how long they are (see `fileset.coffea_forms`).
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

from fileset.catalog import RemoteFile, load_catalog
from fileset.duplicates import find_same_events, find_same_files
from fileset.exceptions import FailureError, InputError
from fileset.findings import Finding
from fileset.inspection import Task, inspect_file
from fileset.normalisation import RELEASE_CATALOGS, InFile, known_about, normalise

__all__ = ["Audit", "AuditError", "check"]

_log = logging.getLogger(__name__)

CACHE_FORMAT = 1

# Findings named in the message of a failed audit; all are in its `audit`.
_NAMED = 3

# Kinds of findings that make one file useless, and say nothing about the others of its sample.
_OF_ONE_FILE = frozenset(
    {"unreadable", "vanished", "no tree", "missing branch", "branch type", "unequal lengths", "checksum"}
)

Records = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Audit:
    """What was found.

    `fileset` is the checked fileset: metadata completed, files in coffea's preprocessed form. `records` is what was
    seen in each file, by path. `findings` are in order of severity.
    """

    fileset: dict[str, dict[str, Any]]
    records: Records
    findings: tuple[Finding, ...]

    def of_severity(self, *severities: str) -> tuple[Finding, ...]:
        """Findings of these severities."""
        return tuple(finding for finding in self.findings if finding.severity in severities)

    @property
    def clusters(self) -> dict[str, list[int]]:
        """Entry offsets of the clusters of each file."""
        return {path: list(record["clusters"]) for path, record in self.records.items()}

    def rows(self) -> list[dict[str, Any]]:
        """One row a dataset for a table: files, entries, size, clusters, normalisation and findings."""
        rows = []
        for dataset, entry in self.fileset.items():
            records = [self.records[path] for path in entry["files"]]
            sizes = [b - a for record in records for a, b in _pairs(record["clusters"])]
            here = [finding for finding in self.findings if finding.dataset == dataset]
            metadata = entry["metadata"]
            rows.append(
                {
                    "dataset": dataset,
                    "kind": metadata["kind"],
                    "group": metadata["group"],
                    "files": len(records),
                    "entries": metadata["entries"],
                    "megabytes": sum(record["size"] or 0 for record in records) / 1e6,
                    "cluster": int(median(sizes)) if sizes else 0,
                    "norm": metadata["norm"],
                    "norm_source": metadata["norm_source"],
                    "fatal": sum(finding.severity == "fatal" for finding in here),
                    "warnings": sum(finding.severity == "warning" for finding in here),
                    "notes": sum(finding.severity == "note" for finding in here),
                }
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types: the rows, the findings and the files."""
        kept = ("size", "uuid", "entries", "error", "in_file", "from_cache", "checksum")
        return {
            "format": 1,
            "datasets": self.rows(),
            "findings": [finding.to_json() for finding in self.findings],
            "files": {
                path: {key: record[key] for key in kept} | {"clusters": max(len(record["clusters"]) - 1, 0)}
                for path, record in self.records.items()
            },
        }


class AuditError(FailureError):
    """The fileset cannot be analysed; `audit` holds everything that was found."""

    def __init__(self, message: str, audit: Audit) -> None:
        super().__init__(message)
        self.audit = audit


def check(
    fileset: Mapping[str, Mapping[str, Any]],
    *,
    strict: bool = False,
    cache: Path | None = None,
    map: Callable[..., Iterable[dict[str, Any]]] = map,
    progress: Callable[[int, int], None] | None = None,
    checksums: bool = False,
    photons: bool = False,
    timeout: int = 60,
    allow_missing: bool = False,
    selections: Mapping[str, str] = MappingProxyType({}),
) -> Audit:
    """Look into every file of a fileset, once.

    The identity of events is read in full; the other branches in full of files up to a million entries (20 000 if
    remote), in evenly spread ranges of larger ones.

    Args:
        fileset: from `fileset.resolve`.
        strict: make warnings fatal.
        cache: JSON file that keeps what was seen, by path, size and UUID of a file; made where it does not exist.
        map: calls a function for every item of a list and yields the results in order: the builtin, that of a
            process pool, or one that submits to Dask.
        progress: called with the number of files done and of all files.
        checksums: compare the checksums that the release's catalogue knows; reads all bytes of local files.
        photons: expect the branches of photons too.
        timeout: time that the answer to one request is waited for, of remote files [s].
        allow_missing: let files of simulation pass that cannot be used, as long as it is known how many entries are
            missing with them, and others of their sample can be used. In the fileset they are `unreadable`, and why.
        selections: region -> what names what was asked for, from `fileset.resolve.selections`: files that the cache
            knows under this name and that are gone are findings. Other selections have other files.

    Returns:
        The audit, with the completed fileset.

    Raises:
        AuditError: (a `FailureError`) something fatal was found; raised after all files were looked at.
    """
    options = {"checksum": checksums, "photons": photons, "timeout": timeout}
    records = _inspect_all(fileset, cache, map, progress, options)
    fileset, findings = _with_vanished(fileset, records, cache, selections)
    gone = {finding.file for finding in findings}
    completed: dict[str, dict[str, Any]] = {}
    for dataset, entry in sorted(fileset.items()):
        metadata, files = dict(entry["metadata"]), entry["files"]
        for path in files:
            findings += [] if path in gone else _file_findings(dataset, metadata, records[path])
        completed[dataset], found = _complete(dataset, metadata, files, records)
        findings += found
    if allow_missing:
        findings = _let_pass(findings, completed, records)
    findings += find_same_files(completed, records)
    findings += find_same_events(completed, records, timeout)
    findings += _skim_entries(completed)
    order = {"fatal": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda finding: order[finding.severity])
    audit = Audit(completed, records, tuple(findings))
    alone = len(audit.of_severity("fatal")) == 1
    for finding in audit.findings:
        if not (alone and finding.severity == "fatal"):  # a single one is what the error says
            _log.info("%s: %s", finding.severity, finding.sentence)
    _refuse(audit, strict=strict)
    _remember(fileset, cache, selections)
    return audit


def _refuse(audit: Audit, *, strict: bool) -> None:
    bad = audit.of_severity("fatal", "warning") if strict else audit.of_severity("fatal")
    if not bad:
        return
    if len(bad) == 1:
        raise AuditError(bad[0].sentence, audit)
    named = "; ".join(finding.message for finding in bad[:_NAMED])
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    what = "problems or warnings" if strict else "problems"
    msg = f"The fileset has {len(bad)} {what}: {named}{more}."
    raise AuditError(msg, audit)


# --- looking --------------------------------------------------------------------------------------------------


def _inspect_all(
    fileset: Mapping[str, Mapping[str, Any]],
    cache: Path | None,
    mapper: Callable[..., Iterable[dict[str, Any]]],
    progress: Callable[[int, int], None] | None,
    options: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    _check_protocols(path for entry in fileset.values() for path in entry["files"])
    kept = _read_cache(cache)["files"]
    tasks: dict[str, Task] = {}
    for entry in fileset.values():
        metadata = entry["metadata"]
        for path, tree in entry["files"].items():
            tasks[path] = Task(
                path=path,
                tree=tree["object_path"] if isinstance(tree, dict) else tree,
                release=metadata["release"],
                simulation=metadata["kind"] != "data",
                cached=kept.get(path),
                **options,
            )
    records: dict[str, dict[str, Any]] = {}
    for record in mapper(inspect_file, list(tasks.values())):
        records[record["path"]] = record
        if progress:
            progress(len(records), len(tasks))
    readable = {path: record for path, record in records.items() if not record["error"]}
    _write_cache(cache, files={**kept, **readable})
    for path, record in records.items():
        record["entries_before"] = kept.get(path, {}).get("entries")
    return records


def _check_protocols(paths: Iterable[str]) -> None:
    """Refuse addresses that the packages installed cannot read."""
    if any(path.startswith("root://") for path in paths) and find_spec("XRootD") is None:
        msg = (
            "Files are to be read by XRootD, and the package xrootd is not installed: install the extra "
            "[xrootd], or read them over the web with protocol https."
        )
        raise InputError(msg)


def _read_cache(cache: Path | None) -> dict[str, dict[str, Any]]:
    """What earlier audits saw: `files`, records by path; `selections`, filesets by the name of a selection.

    A cache that cannot be read is no cache.
    """
    empty: dict[str, dict[str, Any]] = {"files": {}, "selections": {}}
    if cache is None or not cache.is_file():
        return empty
    try:
        content = json.loads(cache.read_text("utf-8"))
    except (OSError, ValueError):
        _log.warning("The cache of the audit %s cannot be read: it is made anew.", cache)
        return empty
    if not isinstance(content, dict) or content.get("format") != CACHE_FORMAT:
        return empty
    return {key: content.get(key, {}) for key in empty}


def _write_cache(cache: Path | None, **changed: Mapping[str, Any]) -> None:
    if cache is None:
        return
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(f".{cache.name}.{os.getpid()}")
    content = {"format": CACHE_FORMAT, **_read_cache(cache), **changed}
    partial.write_text(json.dumps(content, indent=None), "utf-8")
    partial.replace(cache)


# --- what was there before ------------------------------------------------------------------------------------


def _remember(
    fileset: Mapping[str, Mapping[str, Any]], cache: Path | None, selections: Mapping[str, str]
) -> None:
    """Writes down which files each selection has, for the next audit to miss those that are gone."""
    if cache is None or not selections:
        return
    known = _read_cache(cache)["selections"]
    for region, selection in selections.items():
        known[selection] = {
            name: entry for name, entry in fileset.items() if region in entry["metadata"]["regions"]
        }
    _write_cache(cache, selections=known)


def _with_vanished(
    fileset: Mapping[str, Mapping[str, Any]],
    records: dict[str, dict[str, Any]],
    cache: Path | None,
    selections: Mapping[str, str],
) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """The fileset with the files that the same selection had before and that are gone, and their findings.

    A file of which the same bytes (by UUID) are read under another name has moved. Records of files that are gone
    are added to `records`.
    """
    completed = {name: {**entry, "files": dict(entry["files"])} for name, entry in fileset.items()}
    findings: list[Finding] = []
    kept = _read_cache(cache)
    uuids = {record["uuid"] for record in records.values()}
    for region, selection in selections.items():
        for dataset, entry in kept["selections"].get(selection, {}).items():
            for path, tree in entry["files"].items():
                before = kept["files"].get(path, {})
                if path in records or Path(path).exists() or before.get("uuid", path) in uuids:
                    continue
                metadata = {**entry["metadata"], "regions": [region]}
                known = completed.setdefault(dataset, {"files": {}, "metadata": metadata})
                known["files"][path] = tree
                task = Task(path=path, tree=tree, release=metadata["release"], simulation=False)
                records[path] = {**inspect_file(task), "entries_before": before.get("entries")}
                message = f"{path}, which this output has read as part of the fileset, is gone"
                findings.append(Finding("vanished", message, dataset, path))
    return completed, findings


# --- judging --------------------------------------------------------------------------------------------------


def _pairs(offsets: Iterable[int]) -> list[tuple[int, int]]:
    return list(pairwise(offsets))


def _file_findings(dataset: str, metadata: Mapping[str, Any], record: Mapping[str, Any]) -> list[Finding]:
    """What is wrong with one file by itself."""
    path = record["path"]
    where = (dataset, path)
    if record["error"] == "no tree":
        present = ", ".join(record["trees"]) or "none"
        message = f"{path} has no tree {metadata['tree']!r} (trees present: {present})"
        return [Finding("no tree", message, *where)]
    if record["error"]:
        span = tuple(record["error_entries"])
        at = f" in entries {span[0]} to {span[1]}" if span else ""
        return [Finding("unreadable", f"{path} {record['error']}{at}", *where, entries=span)]
    findings = []
    if record["entries"] == 0:
        findings.append(Finding("empty file", f"{path} has no entries", *where))
    if record["missing"]:
        names = ", ".join(record["missing"])
        findings.append(Finding("missing branch", f"{path} has no branch {names}", *where))
    for name, (found, expected) in record["wrong_type"].items():
        message = f"{path}: branch {name} has type {found} and not {expected}"
        findings.append(Finding("branch type", message, *where))
    for _, one, other, entry, length, other_length in record["unequal"]:
        message = f"{path}: {one} has length {length} and {other} {other_length} in entry {entry}"
        findings.append(Finding("unequal lengths", message, *where, entries=(entry, entry + 1)))
    if record["twice"]:
        first, second, numbers, count = record["twice"]
        message = (
            f"{path} holds {count} event{'s' if count > 1 else ''} twice, the first is "
            f"(channelNumber, runNumber, eventNumber) = {tuple(numbers)} in entries {first} and {second}"
        )
        findings.append(Finding("same event twice", message, *where, entries=(first, second + 1)))
    dsid = metadata["dsid"]
    if metadata["kind"] != "data" and record["channels"] and record["channels"] != [dsid]:
        message = (
            f"{path} holds channelNumber {', '.join(map(str, record['channels'][:3]))}, its name says {dsid}"
        )
        findings.append(Finding("channel number", message, *where))
    return findings + _release_findings(metadata, record, where)


def _release_findings(
    metadata: Mapping[str, Any], record: Mapping[str, Any], where: tuple[str, str]
) -> list[Finding]:
    """Size and checksum against the release's list of files."""
    known = _remote(metadata, record["path"])
    if known is None:
        return []
    if record["size"] != known.size:
        message = f"{record['path']} has {record['size']} bytes, the release's file {known.size}"
        return [Finding("size", message, *where)]
    if record["checksum"] and record["checksum"] != known.checksum:
        message = (
            f"{record['path']} has the checksum {record['checksum']}, the release's file {known.checksum}"
        )
        return [Finding("checksum", message, *where)]
    return []


def _remote(metadata: Mapping[str, Any], path: str) -> RemoteFile | None:
    name = RELEASE_CATALOGS.get(metadata["release"])
    if name is None or metadata.get("sample") != "atlas-open-data":
        return None
    return load_catalog(name).remote_file(metadata["skim"], path.rsplit("/", 1)[-1])


def _complete(
    dataset: str, metadata: dict[str, Any], files: Mapping[str, Any], records: Records
) -> tuple[dict[str, Any], list[Finding]]:
    """A dataset in coffea's preprocessed form, with entries and the final normalisation."""
    path = next(iter(files))
    knowledge = known_about(path, metadata["release"])
    in_files = [record["in_file"] for record in (records[path] for path in files) if record["in_file"]]
    in_file = InFile(**in_files[0]) if in_files else None
    chosen, findings = normalise(metadata | {"dataset": dataset}, in_file, knowledge, file=path)
    if metadata["kind"] != "data":
        for other in files:
            if records[other]["in_file"] and records[other]["in_file"] != in_files[0]:
                message = (
                    f"{other} of dataset {dataset} has another cross section or sum of weights than {path}"
                )
                findings.append(Finding("several samples", message, dataset, other))
    readable = all(not records[path]["error"] for path in files)
    entries = sum(records[path]["entries"] or 0 for path in files)
    if chosen["norm"] is None and readable and entries and not findings:
        message = f"{path} holds no cross section and sum of weights, and no catalogue knows {dataset}"
        findings.append(Finding("no normalisation", message, dataset, path))
    if metadata["kind"] != "data" and knowledge.sample(metadata["dsid"]) is None:
        message = f"{dataset}: no catalogue knows dataset number {metadata['dsid']}"
        findings.append(Finding("unknown sample", message, dataset, path))
    if chosen["norm"] is None and not entries:
        chosen["norm"] = 0.0
    completed = {
        "files": {path: _preprocessed(tree, records[path]) for path, tree in files.items()},
        "metadata": deepcopy(metadata) | chosen | {"entries": entries},
    }
    return completed, findings


def _preprocessed(tree: Any, record: Mapping[str, Any]) -> dict[str, Any]:
    entries = record["entries"] or 0
    return {
        "object_path": tree["object_path"] if isinstance(tree, dict) else tree,
        "steps": [[0, entries]],
        "num_entries": entries,
        "uuid": record["uuid"],
    }


def _let_pass(
    findings: Iterable[Finding], fileset: dict[str, dict[str, Any]], records: Records
) -> list[Finding]:
    """Findings without those about single files of simulation that may be missing; the fileset marks the files.

    Where only some entries cannot be read the file stays as it is: whoever reads it finds out which.
    """
    kept, unusable = [], dict[tuple[str, str], list[Finding]]()
    for finding in findings:
        where = (finding.dataset, finding.file)
        if finding.kind in _OF_ONE_FILE and fileset[finding.dataset]["metadata"]["kind"] != "data":
            unusable.setdefault(where, []).append(finding)
        else:
            kept.append(finding)
    whole = {where for where, found in unusable.items() if not _in_part(found, records[where[1]])}
    for (dataset, path), found in unusable.items():
        entry, record = fileset[dataset], records[path]
        entries = record["entries"] if record["entries"] is not None else record["entries_before"]
        if all((dataset, other) in whole for other in entry["files"]):
            kept += found
        elif entries is None:
            message = f"{found[0].message}, and how many entries it should have is not known"
            kept.append(replace(found[0], message=message))
        else:
            kept += [replace(finding, kind="left out") for finding in found]
            if (dataset, path) in whole:
                cause = found[0].message.removeprefix(path).lstrip(": ")
                entry["files"][path] |= {"num_entries": entries, "steps": [], "unreadable": cause}
        entry["metadata"]["entries"] = sum(file["num_entries"] for file in entry["files"].values())
    return kept


def _in_part(findings: Iterable[Finding], record: Mapping[str, Any]) -> bool:
    """Whether what was found concerns some entries of a file only."""
    return record["entries"] is not None and all(finding.kind == "unreadable" for finding in findings)


def _skim_entries(fileset: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Entries of whole skims against the release's, where all their files are read."""
    totals: dict[tuple[str, str, bool], list[int]] = {}
    for entry in fileset.values():
        metadata = entry["metadata"]
        if metadata.get("sample") == "atlas-open-data" and metadata["release"] in RELEASE_CATALOGS:
            key = (metadata["release"], metadata["skim"], metadata["kind"] == "data")
            total = totals.setdefault(key, [0, 0])
            total[0] += len(entry["files"])
            total[1] += metadata["entries"]
    findings = []
    for (release, skim, is_data), (files, entries) in totals.items():
        catalog = load_catalog(RELEASE_CATALOGS[release])
        known = catalog.skims.get(skim)
        expected = (known.data_entries if is_data else known.entries) if known else None
        all_files = sum((file.dsid == 0) == is_data for file in catalog.files.get(skim, ()))
        if expected is not None and files == all_files and entries != expected:
            what = "data" if is_data else "simulation"
            message = f"the {what} of {skim} has {entries} entries, the release's {expected}"
            findings.append(Finding("entries", message))
    return findings
