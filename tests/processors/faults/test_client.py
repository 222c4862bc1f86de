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


def test_a_killed_client_goes_on_where_it_was(facility: Any, tmp_path: Path) -> None:
    def command(output: Path, *where: str) -> list[str]:
        what = ["select", "--region", "2L", "--dsid", "363490", "--dsid", "392920", "--chunksize", "200"]
        return [sys.executable, str(RUN_ANALYSIS), *what, "--output", str(output), *where]

    output, there = tmp_path / "out", ("--executor", "dask", "--scheduler", facility.address)
    log = (tmp_path / "log").open("wb")
    with (
        log,
        subprocess.Popen(command(output, *there), stderr=log, stdout=log, start_new_session=True) as client,
    ):
        deadline = time.monotonic() + 120
        while len(_receipts(output)) < 5:
            assert client.poll() is None, (tmp_path / "log").read_text()
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
