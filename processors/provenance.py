"""Where results come from: run.json, with configuration, versions, revision, seeds and the cost of each stage."""

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processors.files import fingerprint, read_json, write_json
from processors.redaction import redacted

if TYPE_CHECKING:
    from processors.progress import Tally

__all__ = ["recorded"]

_PACKAGES = ("collider-anomalies", "coffea", "awkward", "uproot", "dask", "keras", "tensorflow", "numpy")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in _PACKAGES}


def _git_revision() -> str:
    """Revision of the working copy that this file lies in; empty outside of one."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        answer = subprocess.run(  # noqa: S603 - fixed arguments
            git, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def _cost(seconds: float, spent: "Tally | None") -> dict[str, Any]:
    """What a stage took: seconds in all; where it read events, how many in which time, and what was read for them."""
    cost: dict[str, Any] = {"seconds": round(seconds, 2)}
    if spent is None or not spent.chunks + spent.chunks_before:
        return cost
    return {
        **cost,
        "events": spent.events,
        "events_before": spent.events_before,
        "events_per_second": round(spent.events / spent.seconds, 1) if spent.seconds else 0.0,
        "bytes_read": spent.bytes_read,
        "chunks": spent.chunks,
        "chunks_before": spent.chunks_before,
        "working_seconds": round(spent.seconds, 2),
        "processing_seconds": round(spent.processing_seconds, 2),
    }


@contextmanager
def recorded(
    output: Path,
    stage: str,
    *,
    config: Mapping[str, Any],
    command: Sequence[str],
    tally: "Tally | None" = None,
) -> Iterator[None]:
    """Times a stage and, when it succeeds, writes it down in output/run.json, without secrets.

    Args:
        output: directory of the analysis.
        stage: name.
        config: the whole configuration.
        command: the command line.
        tally: of the workers, which count what they read; the stage's own part of it is written.
    """
    begin = time.perf_counter()
    earlier = None if tally is None else replace(tally)
    path, fileset = output / "run.json", output / "fileset.json"
    yield
    seconds = time.perf_counter() - begin
    spent = None if tally is None or earlier is None else tally.since(earlier)
    known = read_json(path) if path.is_file() else {}
    write_json(
        path,
        {
            "format": 1,
            "command": redacted(command),
            "config": redacted(config),
            "versions": _versions(),
            "git": _git_revision(),
            "fileset_hash": fingerprint(read_json(fileset)) if fileset.is_file() else None,
            "seeds": {"split": config["seed"], "training": config["seed"]},
            "timings": {**known.get("timings", {}), stage: round(seconds, 2)},
            "stages": {**known.get("stages", {}), stage: _cost(seconds, spent)},
        },
    )
