"""Where results come from: run.json, with configuration, versions, revision, seeds and the time of each stage."""

import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processors.files import fingerprint, read_json, write_json

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


@contextmanager
def recorded(
    output: Path, stage: str, *, config: Mapping[str, Any], command: Sequence[str]
) -> Iterator[None]:
    """Times a stage and, when it succeeds, writes it down in output/run.json.

    Args:
        output: directory of the analysis.
        stage: name.
        config: the whole configuration.
        command: the command line.
    """
    begin = time.perf_counter()
    path, fileset = output / "run.json", output / "fileset.json"
    yield
    timings = read_json(path)["timings"] if path.is_file() else {}
    write_json(
        path,
        {
            "format": 1,
            "command": list(command),
            "config": config,
            "versions": _versions(),
            "git": _git_revision(),
            "fileset_hash": fingerprint(read_json(fileset)) if fileset.is_file() else None,
            "seeds": {"split": config["seed"], "training": config["seed"]},
            "timings": {**timings, stage: round(time.perf_counter() - begin, 2)},
        },
    )
