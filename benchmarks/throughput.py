"""Events to histograms on one core: against ROOT's RDataFrame, against merely reading, and where the time goes.

Selection, the rapidity-mass matrix (529 cells) or the feature table, and the weighted histogram of missing transverse
momentum of one million events, through coffea's Runner; the peer does the same in C++ with the same yields
(`throughput_root.py`), the limit reads the same branches with uproot in the same steps. One process and one core each.

    python benchmarks/throughput.py --files DIRECTORY
    python benchmarks/throughput.py --first-chunks     # only what a fresh process and a fresh worker pay
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

import numpy as np
import pyarrow as pa
from reporting import arguments, in_pairs, machine, report, say, timed
from synthetic import make_fileset

HERE = Path(__file__).parent

# The bars: events/s over those of RDataFrame; seconds over those of reading; over 2L with the matrix; with shards.
ROOT_BAR, READING_BAR, VARIANT_BAR, SHARDS_BAR = 2.5, 2.2, 1.5, 2.2


class Peer:
    """The process that runs RDataFrame."""

    def __init__(self, directory: Path, files: Sequence[dict[str, Any]]) -> None:
        self.files = list(files)
        command = [sys.executable, str(HERE / "throughput_root.py"), str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, how: str, leptons: int, *, sums: bool = False) -> dict[str, Any]:
        """One event loop: see `throughput_root.main`."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            sys.exit("RDataFrame cannot be asked")
        print(
            json.dumps({"how": how, "files": self.files, "leptons": leptons, "sums": sums}),
            file=stdin,
            flush=True,
        )
        while line := stdout.readline():
            if line.startswith("{"):  # ROOT's own messages come this way too
                return dict(json.loads(line))
        sys.exit("RDataFrame did not answer")

    def seconds(self, how: str, leptons: int) -> float:
        """Of one event loop."""
        return float(self.ask(how, leptons)["seconds"])

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def agree(own: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Ends the benchmark unless both selected the same events and saw the same in them."""
    values = own["met_et"].project("met_et").values(flow=True)
    theirs = np.array(root["histogram"])
    moved = float(np.abs(values - theirs).sum() / theirs.sum())  # float32 on the edge of a bin
    cells = own["cells"] / root["sum_of_cells"] - 1
    if own["selected"] != root["selected"] or moved > 1e-5 or abs(cells) > 1e-5:
        sys.exit(
            f"not the same: {own['selected']} and {root['selected']} events, {moved:.1e} moved, cells {cells:.1e}"
        )
    return {"selected": own["selected"], "moved": moved, "cells_relative": cells}


def first_chunks(files: dict[str, str], chunksize: int, on: str) -> list[float]:
    """Seconds of the first and of the second chunk in this process, which has done nothing, or on a fresh worker."""
    from throughput_work import EventsToHistogram, chunks_of  # noqa: PLC0415 - they import what is to be measured

    from processors.execution import run_chunks  # noqa: PLC0415
    from processors.schema import OpenDataSchema  # noqa: PLC0415
    from processors.settings import REGIONS, ExecutionSettings  # noqa: PLC0415
    from processors.workers import Workers  # noqa: PLC0415

    processor = EventsToHistogram(REGIONS["2L"], "rmm")
    items = chunks_of(files, "mini", chunksize)[:3]
    executor = "dask" if on == "worker" else "iterative"
    seconds = []
    with Workers(ExecutionSettings(executor=executor, workers=1)) as workers:
        workers.look_first()
        for item in items:
            work = partial(run_chunks, [item], processor, workers.executor("chunk"), schema=OpenDataSchema)
            seconds.append(timed(work))
    return seconds


def fresh(files: dict[str, str], chunksize: int, on: str) -> list[float]:
    """`first_chunks` in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--chunks-of", json.dumps([files, chunksize, on])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    return list(json.loads(done.stdout.splitlines()[-1]))


def on_one_core() -> None:
    """Everything from here on, and what it starts, has one core; pyarrow has one thread."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def measured(given: Any, files: dict[str, str], directory: Path) -> dict[str, Any]:
    """All figures."""
    from throughput_work import (  # noqa: PLC0415 - slow to import, and after the core is chosen
        EventsToHistogram,
        Stopwatch,
        branches_of,
        chunks_of,
        half_of,
        read,
        run,
    )

    from processors.settings import REGIONS  # noqa: PLC0415

    items = chunks_of(files, "mini", given.chunksize)
    events = sum(len(item) for item in items)
    shards = directory / "shards"
    work = {
        (name, kind): EventsToHistogram(REGIONS[name], kind)
        for name in ("2L", "3L")
        for kind in ("rmm", "table")
    }

    def ours(which: tuple[str, str] = ("2L", "rmm")) -> float:
        return timed(lambda: run(items, work[which]))

    result: dict[str, Any] = {"events": events, "chunksize": given.chunksize, "ratios": {}}
    ratios = result["ratios"]
    for processor in work.values():
        run(items[:1], processor)  # kernels are loaded, files are in the page cache
    peer = None if given.without_root else Peer(directory, _for_root(files))
    if peer:
        say("comparing yields with RDataFrame, which is compiled first")
        result["yields"] = {}
        for name, leptons in (("2L", 2), ("3L", 3)):
            answer = peer.ask("compiled", leptons, sums=True)
            own = run(items, EventsToHistogram(REGIONS[name], "rmm", sums=True))
            result["yields"][name] = agree(own, answer)
        first = peer.ask("interpreted", 2)
        result["root"] = {
            "compiling_o3": answer["compiling"],
            "declaring": first["compiling"],
            "first_loop_interpreted": first["seconds"],
        }
        for how, name in (("interpreted", "2L over RDataFrame"), ("compiled", "2L over RDataFrame at -O3")):
            say(name)
            ratios[name] = _rates(in_pairs(partial(peer.seconds, how, 2), ours, given.pairs), events)
        peer.close()
    branches = branches_of(items, work["2L", "rmm"])
    result["branches"] = branches
    say("merely reading")
    ratios["2L over merely reading"] = in_pairs(
        ours, lambda: timed(lambda: read(items, branches)), given.pairs
    )
    for which in list(work)[1:]:
        say(f"{which[0]} with {which[1]}")
        ratios[f"{which[0]} {which[1]} over 2L rmm"] = in_pairs(partial(ours, which), ours, given.pairs)
    half = half_of(items)
    without, writing = EventsToHistogram(half, "rmm"), EventsToHistogram(half, "rmm", shards)
    shards.mkdir()
    result["passing_with_shards"] = run(items, without)["selected"] / events
    say("with shards")
    ratios["with shards over without"] = in_pairs(
        lambda: timed(lambda: run(items, writing)), lambda: timed(lambda: run(items, without)), given.pairs
    )
    if given.release_2025:
        ratios |= _of_2025(given, ours, events)
    result["profiles"] = {
        "2L, matrix": Stopwatch().profile(lambda: run(items, work["2L", "rmm"])),
        "2L, table": Stopwatch().profile(lambda: run(items, work["2L", "table"])),
        "half pass, matrix and shards": Stopwatch().profile(lambda: run(items, writing)),
        "the whole of select, 2L": Stopwatch().profile(lambda: run(items, _select(directory, files))),
    }
    return result


def _of_2025(given: Any, ours: Callable[[], float], events: int) -> dict[str, Any]:
    """The 2025 release beside 2020, by event."""
    from throughput_work import EventsToHistogram, chunks_of, run  # noqa: PLC0415

    from processors.settings import REGIONS  # noqa: PLC0415

    items = chunks_of({"data_2025": str(given.release_2025)}, "analysis", given.chunksize, release="2025")
    ratios = {}
    for name in ("2L", "3L"):
        for kind in ("rmm", "table"):
            processor = EventsToHistogram(REGIONS[name], kind)
            run(items, processor)
            share = events / sum(len(item) for item in items)
            say(f"2025, {name} with {kind}")
            newer = partial(lambda p, s: timed(lambda: run(items, p)) * s, processor, share)
            ratios[f"2025 {name} {kind} over 2L rmm"] = in_pairs(newer, ours, given.pairs)
    return ratios


def _select(directory: Path, files: dict[str, str]) -> Any:
    from processors.selection import SelectionProcessor  # noqa: PLC0415
    from processors.settings import REGIONS, RMMSettings, WeightSettings  # noqa: PLC0415

    return SelectionProcessor(
        name="2L",
        region=REGIONS["2L"],
        weights=WeightSettings(),
        rmm=RMMSettings(),
        shards=directory / "select",
        config_hashes=dict.fromkeys(files, ""),
    )


def _for_root(files: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"path": path, "norm": 1.0 if name.startswith("data") else 0.5, "data": name.startswith("data")}
        for name, path in files.items()
    ]


def _rates(seconds: dict[str, Any], events: int) -> dict[str, Any]:
    """The peer's seconds over ours are our events/s over its own."""
    return {
        **seconds,
        "ours_per_second": events / seconds["other"],
        "peer_per_second": events / seconds["one"],
    }


def main() -> None:
    """Makes the events, measures and reports."""
    if sys.argv[1:2] == ["--chunks-of"]:
        on_one_core()
        print(json.dumps(first_chunks(*json.loads(sys.argv[2]))))
        return
    parser = arguments(__doc__ or "")
    parser.add_argument("--events", type=float, default=1e6, help="of the release of 2020 [1e6]")
    parser.add_argument("--chunksize", type=int, default=100_000, help="events in a chunk [100000]")
    parser.add_argument(
        "--files", type=Path, help="where the synthetic files are kept [a temporary directory]"
    )
    parser.add_argument("--release-2025", type=Path, help="a file of the release of 2025 to run over too")
    parser.add_argument("--without-root", action="store_true", help="leave RDataFrame out")
    parser.add_argument("--first-chunks", action="store_true", help="only the chunks of fresh processes")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="throughput-"))
    try:
        fileset = json.loads(
            make_fileset(given.files or directory / "files", int(given.events)).read_text("utf-8")
        )
        files = {name: next(iter(content["files"])) for name, content in fileset.items()}
        on_one_core()
        result: dict[str, Any] = {"machine": machine()}
        if not given.first_chunks:
            result |= measured(given, files, directory)
        say("fresh processes")
        begin = time.perf_counter()
        result["first_chunks"] = {on: fresh(files, given.chunksize, on) for on in ("process", "worker")}
        say(f"took {time.perf_counter() - begin:.0f} s")
    finally:
        shutil.rmtree(directory)
    report("throughput", result, _tables(result), given.json)


def _tables(result: dict[str, Any]) -> list[Any]:
    bars = []
    for name, pair in result.get("ratios", {}).items():
        bar = VARIANT_BAR
        if "RDataFrame" in name:
            bar = ROOT_BAR
        elif "reading" in name:
            bar = READING_BAR
        elif "shards" in name:
            bar = SHARDS_BAR
        low, high = pair["spread"]
        row = (
            name,
            f"{pair['ratio']:.2f} ({low:.2f}-{high:.2f})",
            f"{pair['one']:.2f}",
            f"{pair['other']:.2f}",
        )
        bars.append((*row, f"{'>=' if 'RDataFrame' in name else '<='} {bar}"))
    tables = [("ratios", ("what", "median (spread)", "seconds", "seconds of the other", "wanted"), bars)]
    for name, profile in result.get("profiles", {}).items():
        rows = [(stage, f"{s:.2f}", f"{s / profile['total']:.1%}") for stage, s in profile.items()]
        tables.append((f"profile: {name}", ("stage", "seconds", "part"), rows))
    rows = [(on, *(f"{s:.2f}" for s in seconds)) for on, seconds in result["first_chunks"].items()]
    tables.append(("chunks of one that has done nothing", ("where", "first", "second", "third"), rows))
    return tables if bars else tables[1:]


if __name__ == "__main__":
    main()
