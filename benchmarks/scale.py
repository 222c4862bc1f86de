"""Events in, and what they cost: throughput of one and two workers, memory of workers and client, linearity.

`select` runs from the command line, as a user runs it, on a local Dask cluster, over a fileset made of the demo's
events under new identities. The memory of the client (which holds the scheduler too) and of each worker is the
kernel's high-water mark; the time is that of the stage without the audit of files, from run.json.

    python benchmarks/scale.py --events 1e6 3e6 1e7
"""

import json
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from reporting import arguments, exponent, in_pairs, machine, peak_memory, report, say
from synthetic import EVENTS_PER_FILE, make_fileset

REPOSITORY = Path(__file__).parents[1]

# The bars: memory of a worker at the largest over that at the smallest fileset, two workers over one, and growth.
MEMORY_BAR, SPEED_BAR, EXPONENT_BAR = 1.15, 1.6, 1.1


def select(fileset: Path, workers: int, *more: str) -> dict[str, Any]:
    """Runs `select` in a process of its own.

    Args:
        fileset: to select.
        workers: of the local cluster.
        more: further arguments.

    Returns:
        What run.json says of the stage; `client_mb`, `worker_mb` (the largest) of peak memory; `wall` seconds in all.
    """
    output = Path(tempfile.mkdtemp(prefix="scale-"))
    command = [sys.executable, str(REPOSITORY / "run_analysis.py"), "select", "--fileset", str(fileset)]
    command += [
        "--region",
        "2L",
        "--executor",
        "dask",
        "--workers",
        str(workers),
        "--output",
        str(output),
        *more,
    ]
    peaks: dict[int, int] = {}
    try:
        with (output / "log").open("wb") as log:
            process = psutil.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=REPOSITORY)
            with peak_memory(peaks, process):
                status = process.wait()
        if status:
            sys.exit((output / "log").read_text(encoding="utf-8"))
        cost = json.loads((output / "run.json").read_text(encoding="utf-8"))["stages"]["select"]
    finally:
        shutil.rmtree(output)
    own = peaks.pop(process.pid)
    # Beside the workers there are helpers of multiprocessing, which are small.
    return {**cost, "workers": workers, "client_mb": own / 1e6, "worker_mb": max(peaks.values()) / 1e6}


def main() -> None:
    """Makes the filesets, runs all points and reports."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--events", type=float, nargs="+", default=[1e6, 3e6, 1e7], help="sizes [1e6 3e6 1e7]"
    )
    parser.add_argument("--workers", type=int, default=2, help="of the larger cluster [2]")
    parser.add_argument("--chunksize", type=int, default=100_000, help="events in a chunk [100000]")
    parser.add_argument(
        "--files", type=Path, help="where the synthetic files are kept [a temporary directory]"
    )
    given = parser.parse_args()
    directory = given.files or Path(tempfile.mkdtemp(prefix="synthetic-"))
    more = ("--chunksize", str(given.chunksize))
    sizes = sorted({max(round(n / EVENTS_PER_FILE / 4), 1) * EVENTS_PER_FILE * 4 for n in given.events})
    points: list[dict[str, Any]] = []

    def rate(fileset: Path, workers: int) -> float:
        say(f"selecting {fileset.stem.rpartition('-')[2]} events with {workers} workers")
        points.append(select(fileset, workers, *more))
        return float(points[-1]["events"] / points[-1]["working_seconds"])

    try:
        filesets = {n: make_fileset(directory, n) for n in sizes}
        facts = machine()
        smallest = filesets[sizes[0]]
        speed = in_pairs(partial(rate, smallest, given.workers), partial(rate, smallest, 1), given.pairs)
        for n in sizes[1:]:
            rate(filesets[n], given.workers)
    finally:
        if given.files is None:
            shutil.rmtree(directory)
    largest = [point for point in points if point["workers"] == given.workers]
    by_size = {n: [p for p in largest if p["events"] == n] for n in sizes}
    memory = {n: max(p["worker_mb"] for p in own) for n, own in by_size.items()}
    seconds = {n: float(np.median([p["working_seconds"] for p in own])) for n, own in by_size.items()}
    result = {
        "machine": facts,
        "chunksize": given.chunksize,
        "speed_of_more_workers": {"workers": given.workers, **speed, "bar": SPEED_BAR},
        "memory_of_a_worker": {
            "mb": memory,
            "ratio": memory[sizes[-1]] / memory[sizes[0]],
            "bar": MEMORY_BAR,
        },
        "growth_of_time": exponent(sizes, list(seconds.values())) if len(sizes) > 2 else None,
        "points": points,
    }
    report("scale", result, _tables(result), given.json)


def _tables(result: dict[str, Any]) -> list[Any]:
    rows = [
        (
            f"{point['events']:,}",
            f"{point['workers']}",
            f"{point['working_seconds']:.1f}",
            f"{point['events'] / point['working_seconds']:,.0f}",
            f"{point['bytes_read'] / point['working_seconds'] / 1e6:.0f}",
            f"{point['processing_seconds'] / point['workers'] / point['working_seconds']:.0%}",
            f"{point['worker_mb']:,.0f}",
            f"{point['client_mb']:,.0f}",
        )
        for point in result["points"]
    ]
    speed, memory = result["speed_of_more_workers"], result["memory_of_a_worker"]
    bars = [
        (f"{speed['workers']} workers over one", f"{speed['ratio']:.2f}", f">= {speed['bar']}"),
        ("memory of a worker, largest over smallest", f"{memory['ratio']:.3f}", f"<= {memory['bar']}"),
    ]
    if growth := result["growth_of_time"]:
        text = f"{growth['exponent']:.2f} ± {growth['error']:.2f}"
        bars.append(("exponent of time against events", text, f"<= {EXPONENT_BAR}"))
    header = ("events", "workers", "seconds", "events/s", "MB/s", "at work", "worker MB", "client MB")
    return [("select", header, rows), ("bars", ("what", "measured", "wanted"), bars)]


if __name__ == "__main__":
    main()
