"""A checked fileset in the forms that coffea's two ways of running read.

Found in coffea 2026.9: `dataset_tools` (`apply_to_fileset`, `slice_files`, ...) takes the preprocessed form that
`fileset.audit.check` returns, `{dataset: {"files": {path: {"object_path", "steps", "num_entries", "uuid"}}}}`.
`processor.Runner` does not: it takes `{path: tree}`, and opens every file for entries and UUID unless its
`metadata_cache` knows the file; what is in the cache replaces the dataset's metadata, so these must be in it too.
`dataset` and some other words are reserved and must not be among the metadata.
"""

import itertools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["metadata_cache", "runner_fileset", "with_steps"]

Fileset = Mapping[str, Mapping[str, Any]]


def runner_fileset(fileset: Fileset) -> dict[str, dict[str, Any]]:
    """The form that `coffea.processor.Runner` takes: `{dataset: {"files": {path: tree}, "metadata": {...}}}`."""
    return {
        dataset: {
            "files": {
                path: spec["object_path"] if isinstance(spec, Mapping) else spec
                for path, spec in entry["files"].items()
            },
            "metadata": dict(entry["metadata"]),
        }
        for dataset, entry in fileset.items()
    }


def metadata_cache(
    fileset: Fileset, clusters: Mapping[str, Sequence[int]] | None = None
) -> dict[Any, dict[str, Any]]:
    """What `Runner(metadata_cache=...)` needs so that it opens no file to plan its chunks.

    Args:
        fileset: checked, in the preprocessed form.
        clusters: entry offsets of the clusters by path (`Audit.clusters`), for `align_clusters=True`.

    Returns:
        Metadata by coffea's `FileMeta`.
    """
    from coffea.processor.executor import FileMeta  # noqa: PLC0415  importing coffea takes seconds

    cache = {}
    for dataset, entry in fileset.items():
        for path, spec in entry["files"].items():
            found = {
                **entry["metadata"],
                "numentries": spec["num_entries"],
                "uuid": uuid.UUID(spec["uuid"]).bytes,
            }
            if clusters is not None:
                found["clusters"] = list(clusters[path])
            cache[FileMeta(dataset, path, spec["object_path"])] = found
    return cache


def with_steps(
    fileset: Fileset, step: int, clusters: Mapping[str, Sequence[int]] | None = None
) -> dict[str, dict[str, Any]]:
    """The preprocessed form with steps of about `step` entries, at cluster boundaries where these are given.

    Files that the audit let pass although they are unreadable have none.
    """
    result: dict[str, dict[str, Any]] = {}
    for dataset, entry in fileset.items():
        files = {}
        for path, spec in entry["files"].items():
            if "unreadable" in spec:
                files[path] = dict(spec)
                continue
            entries = spec["num_entries"]
            edges = _edges(clusters[path], step) if clusters else list(range(0, entries, step))
            cuts = [0]
            for edge in edges:
                if edge - cuts[-1] >= step and edge < entries:
                    cuts.append(edge)
            files[path] = {
                **spec,
                "steps": [list(pair) for pair in zip(cuts, [*cuts[1:], entries], strict=True)],
            }
        result[dataset] = {"files": files, "metadata": dict(entry["metadata"])}
    return result


def _edges(clusters: Sequence[int], step: int) -> list[int]:
    """Boundaries of clusters, and cuts within those that are longer than two steps, so that memory stays bounded."""
    edges: list[int] = []
    for start, stop in itertools.pairwise(clusters):
        parts = max(round((stop - start) / step), 1) if stop - start > 2 * step else 1
        edges += [start + (stop - start) * part // parts for part in range(parts)]
    return [*edges, *clusters[-1:]]
