"""The client is killed and the command run again: it goes on where it was, and ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("faults")

RUN_ANALYSIS = Path(__file__).parents[3] / "run_analysis.py"


def _receipts(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in output.glob("shards/2L/*/*.receipt.json")}


def test_a_killed_client_goes_on_where_it_was(sample: Any, facility: Any, tmp_path: Path) -> None:
    directory = next(iter(sample.files.values()))[0].parent

    def command(output: Path, *where: str) -> list[str]:
        how = [
            "select",
            "--region",
            "2L",
            "--chunksize",
            "5",
            "--fileset",
            str(directory),
            "--output",
            str(output),
        ]
        return [sys.executable, str(RUN_ANALYSIS), *how, *where]

    output, there = tmp_path / "out", ("--executor", "dask", "--scheduler", facility.address)
    with subprocess.Popen(
        command(output, *there), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as client:
        deadline = time.monotonic() + 120
        while len(_receipts(output)) < 5:
            assert client.poll() is None, "the client ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(client.pid, signal.SIGKILL)
    time.sleep(1.0)  # what the worker has begun it ends
    before = _receipts(output)
    assert not (output / "shards" / "2L" / "manifest.json").exists()

    again = subprocess.run(command(output, *there), capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 0, again.stderr
    after = _receipts(output)
    assert 5 <= len(before) < len(after)
    assert {path: after[path] for path in before} == before, "what was done is not done again"

    undisturbed = tmp_path / "undisturbed"
    subprocess.run(command(undisturbed), capture_output=True, check=True, timeout=300)
    for name in ("select.json", "shards/2L/manifest.json", "shards/2L/histograms.json"):
        one, other = (json.loads((place / name).read_text()) for place in (output, undisturbed))
        assert one == other, name
