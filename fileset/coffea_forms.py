"""A checked fileset with steps, in the form that coffea's `dataset_tools` reads.

Found in coffea 2026.9: `dataset_tools` (`apply_to_fileset`, `slice_files`, ...) takes the preprocessed form that
`fileset.audit.check` returns, `{dataset: {"files": {path: {"object_path", "steps", "num_entries", "uuid"}}}}`.
`processor.Runner` does not: it is handed work items instead (`processors.execution`). `dataset` and some other words
are reserved and must not be among the metadata.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["with_steps"]

Fileset = Mapping[str, Mapping[str, Any]]


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
