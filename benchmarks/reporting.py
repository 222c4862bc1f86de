"""How every benchmark tells its result: a table for people, JSON for machines, ratios as medians of pairs.

A figure of one run says more about what else the machine did than about the code. So speed is told as the ratio to a
peer, or to a limit, that did the same work in the same run: `in_pairs` lets the two take turns.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["arguments", "exponent", "in_pairs", "machine", "peak_memory", "report", "say", "timed"]

RESULTS = Path("output") / "benchmarks"

_PACKAGES = ("coffea", "awkward", "uproot", "dask", "distributed", "numba", "numpy", "tensorflow", "keras")


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take: where the JSON goes and how often pairs are repeated."""
    parser = argparse.ArgumentParser(description=description.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help=f"file for the result [{RESULTS}/NAME.json]")
    parser.add_argument("--pairs", type=int, default=5, help="alternating pairs behind each ratio [5]")
    return parser


def machine(*, seconds: float = 1.0) -> dict[str, Any]:
    """What decides how fast anything can be: cores, matrix product, reading a cached file, versions; and the load."""
    one = np.random.default_rng(1).random((2048, 2048), dtype=np.float32)
    products, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds or not products:
        one @ one
        products += 1
    gigaflops = products * 2 * 2048**3 / (time.perf_counter() - begin) / 1e9
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "matrix_product_gflops": round(gigaflops, 1),
        "read_mb_per_second": round(_read_rate()),
        "python": platform.python_version(),
        "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
    }


def _read_rate(megabytes: int = 256) -> float:
    """Megabytes a second of reading a file that is in the page cache: the best of five."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(megabytes * 1_000_000))
        file.flush()
        target = bytearray(megabytes * 1_000_000)
        with Path(file.name).open("rb", buffering=0) as again:
            return max(megabytes / timed(lambda: (again.seek(0), again.readinto(target))) for _ in range(5))


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def say(text: str) -> None:
    """What is done now, for those who wait."""
    print(text, file=sys.stderr, flush=True)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that something takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_pairs(one: Callable[[], float], other: Callable[[], float], pairs: int) -> dict[str, Any]:
    """Figures of two that take turns, and the median of the ratio of each pair.

    Args:
        one: gives its own figure, such as seconds from `timed` or events per second.
        other: the peer or the limit.
        pairs: how often; who begins changes from pair to pair.

    Returns:
        `ratio` (one / other, median of pairs), `spread` (largest and smallest ratio), `one`, `other` (medians).
    """
    ones, others = [], []
    for pair in range(pairs):
        for who in (one, other) if pair % 2 == 0 else (other, one):
            (ones if who is one else others).append(who())
    ratios = [a / b for a, b in zip(ones, others, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
        "one": statistics.median(ones),
        "other": statistics.median(others),
        "pairs": pairs,
    }


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> dict[str, float]:
    """How a cost grows: the slope of log(cost) against log(size), 1 where it is linear, and its standard error.

    Args:
        sizes: at least three.
        costs: of each.
    """
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(costs, float))
    slope, offset = np.polyfit(x, y, 1)
    rest = np.sum((y - slope * x - offset) ** 2) / max(len(x) - 2, 1)
    return {"exponent": float(slope), "error": float(np.sqrt(rest / np.sum((x - x.mean()) ** 2)))}


@contextmanager
def peak_memory(peaks: dict[int, int], process: psutil.Process, *, every: float = 0.2) -> Iterator[None]:
    """Watches the memory of a process and of all it starts, while the block runs.

    Args:
        peaks: is filled: process id -> largest resident set [bytes].
        process: the parent of all.
        every: seconds between two looks; on Linux the kernel's own high-water mark is read, which misses nothing.
    """
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(every):
            try:
                family = [process, *process.children(recursive=True)]
            except psutil.Error:
                return
            for member in family:
                peaks[member.pid] = max(peaks.get(member.pid, 0), _high_water(member))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _high_water(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status")
    try:
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
        return int(process.memory_info().rss)
    except (OSError, psutil.Error):
        return 0


def report(
    name: str,
    result: Mapping[str, Any],
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
    target: Path | None = None,
) -> None:
    """Writes the JSON and shows the tables.

    Args:
        name: of the benchmark.
        result: everything measured, plain JSON types.
        tables: (title, header, rows) each.
        target: file of the JSON; by default output/benchmarks/<name>.json.
    """
    target = target or RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": name, "command": [Path(sys.argv[0]).name, *sys.argv[1:]], **result}
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    console = Console(width=None if sys.stdout.isatty() else 120)
    for title, header, rows in tables:
        table = Table(title=title, box=box.SIMPLE, title_justify="left")
        for position, column in enumerate(header):
            table.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    print(f"all figures: {target}")
