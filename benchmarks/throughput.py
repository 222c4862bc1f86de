"""Events to histograms on one core: against ROOT's RDataFrame, against merely reading, and where the time goes.

Selection, the rapidity-mass matrix (529 cells) or the feature table, and the weighted histogram of missing transverse
momentum of one million events, through coffea's Runner; the peer does the same in C++ with the same yields
(`throughput_root.py`), the limit reads the same branches with uproot in the same steps. One process and one core each.

    python benchmarks/throughput.py --files DIRECTORY
    python benchmarks/throughput.py --parts first     # only what a fresh process and a fresh worker pay
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
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

    def __init__(self, directory: Path, files: dict[str, str]) -> None:
        self.files = [
            {"path": path, "norm": 1.0 if name.startswith("data") else 0.5, "data": name.startswith("data")}
            for name, path in files.items()
        ]
        command = [sys.executable, str(HERE / "throughput_root.py"), str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request: Any) -> dict[str, Any]:
        """One answer: see `throughput_root.main`."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            sys.exit("RDataFrame cannot be asked")
        print(json.dumps({"files": self.files, "sums": False, **request}), file=stdin, flush=True)
        while line := stdout.readline():
            if line.startswith("{"):  # ROOT's own messages come this way too
                return dict(json.loads(line))
        sys.exit("RDataFrame did not answer")

    def seconds(self, how: str, leptons: int) -> float:
        """Of one event loop."""
        return float(self.ask(how=how, leptons=leptons)["seconds"])

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


class Bench:
    """The events, and what runs over them.

    Args:
        given: from the command line.
        files: dataset -> path.
        directory: for what is written.
    """

    def __init__(self, given: Any, files: dict[str, str], directory: Path) -> None:
        import throughput_work as w  # noqa: PLC0415 - slow to import, and after the core is chosen

        from processors.settings import REGIONS  # noqa: PLC0415

        self.w, self.regions = w, REGIONS
        self.given, self.files, self.directory = given, files, directory
        self.items = w.chunks_of(files, "mini", given.chunksize)
        self.events = sum(len(item) for item in self.items)
        self.reference = w.EventsToHistogram(REGIONS["2L"], "rmm")
        w.run(self.items[:1], self.reference)  # kernels are loaded, files are in the page cache

    def seconds(self, processor: Any = None, items: Any = None) -> float:
        """Of all chunks through coffea's Runner; by default the reference: two leptons, the matrix, no shards."""
        return timed(lambda: self.w.run(items or self.items, processor or self.reference))

    def pairs(self, one: Callable[[], float], other: Callable[[], float] | None = None) -> dict[str, Any]:
        """A ratio, by default to the reference."""
        return in_pairs(one, other or self.seconds, self.given.pairs)

    def root(self) -> dict[str, Any]:
        """Beside RDataFrame: just in time as from a notebook, and compiled at -O3."""
        peer = Peer(self.directory, self.files)
        yields, ratios = {}, {}
        for name, leptons in (("2L", 2), ("3L", 3)):
            answer = peer.ask(how="compiled", leptons=leptons, sums=True)
            processor = self.w.EventsToHistogram(self.regions[name], "rmm", sums=True)
            yields[name] = agree(self.w.run(self.items, processor), answer)
        ratios["2L over RDataFrame at -O3"] = _rates(
            self.pairs(partial(peer.seconds, "compiled", 2)), self.events
        )
        peer.close()
        peer = Peer(self.directory, self.files)  # the interpreter must not know what was compiled
        first = peer.ask(how="interpreted", leptons=2)
        ratios["2L over RDataFrame"] = _rates(
            self.pairs(partial(peer.seconds, "interpreted", 2)), self.events
        )
        peer.close()
        ours = ratios["2L over RDataFrame"]["other"]
        with_compilation = {
            "RDataFrame, first run": (first["compiling"] + first["seconds"]) / ours,
            "RDataFrame at -O3, compiled before": (
                answer["compiling"] + ratios["2L over RDataFrame at -O3"]["one"]
            )
            / ours,
        }
        return {"yields": yields, "with_compilation": with_compilation, "ratios": ratios}

    def reading(self) -> dict[str, Any]:
        """Beside merely reading the same branches."""
        branches = self.w.branches_of(self.items, self.reference)
        ratio = self.pairs(self.seconds, lambda: timed(lambda: self.w.read(self.items, branches)))
        return {"branches": branches, "ratios": {"2L over merely reading": ratio}}

    def variants(self) -> dict[str, Any]:
        """Regions and feature sets, of both releases if there is a file of 2025, by event over the reference."""
        samples = {"": self.items}
        if self.given.release_2025:
            target = str(self.directory / "data_2025.root")
            peer = Peer(self.directory, {})
            peer.ask(
                how="repeat", source=str(self.given.release_2025), target=target, events=self.events // 4
            )
            peer.close()
            chunks = self.w.chunks_of({"data_2025": target}, "analysis", self.given.chunksize, release="2025")
            samples["2025 "] = chunks
        ratios = {}
        for sample, items in samples.items():
            share = self.events / sum(len(item) for item in items)
            for name, kind in (("2L", "rmm"), ("2L", "table"), ("3L", "rmm"), ("3L", "table")):
                processor = self.w.EventsToHistogram(self.regions[name], kind)
                if not sample and (name, kind) == ("2L", "rmm"):
                    continue
                self.w.run(items[:1], processor)
                one = partial(lambda p, i, s: self.seconds(p, i) * s, processor, items, share)
                ratios[f"{sample}{name} {kind} over 2L rmm"] = self.pairs(one)
        return {"ratios": ratios}

    def shards(self) -> dict[str, Any]:
        """With shards of all cells over without, where half of the events pass."""
        half, target = self.w.half_of(self.items), self.directory / "shards"
        target.mkdir()
        without = self.w.EventsToHistogram(half, "rmm")
        writing = self.w.EventsToHistogram(half, "rmm", target)
        passing = self.w.run(self.items, without)["selected"] / self.events
        ratio = self.pairs(partial(self.seconds, writing), partial(self.seconds, without))
        profile = self.w.Stopwatch().profile(partial(self.seconds, writing))
        return {
            "passing_with_shards": passing,
            "ratios": {"with shards over without": ratio},
            "profiles": {"half pass, matrix and shards": profile},
        }

    def profiles(self) -> dict[str, Any]:
        """Where the time goes."""
        table = self.w.EventsToHistogram(self.regions["2L"], "table")
        work = {"2L, matrix": self.reference, "2L, table": table, "the whole of select, 2L": self._select()}
        return {
            "profiles": {
                name: self.w.Stopwatch().profile(partial(self.seconds, processor))
                for name, processor in work.items()
            }
        }

    def _select(self) -> Any:
        from processors.selection import SelectionProcessor  # noqa: PLC0415
        from processors.settings import RMMSettings, WeightSettings  # noqa: PLC0415

        return SelectionProcessor(
            name="2L",
            region=self.regions["2L"],
            weights=WeightSettings(),
            rmm=RMMSettings(),
            shards=self.directory / "select",
            config_hashes=dict.fromkeys(self.files, ""),
        )

    def first(self) -> dict[str, Any]:
        """The first chunks of a fresh process and of a fresh worker."""
        return {
            "first_chunks": {on: fresh(self.files, self.given.chunksize, on) for on in ("process", "worker")}
        }


PARTS = ("root", "reading", "variants", "shards", "profiles", "first")


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
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure [all]")
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="throughput-"))
    try:
        fileset = json.loads(
            make_fileset(given.files or directory / "files", int(given.events)).read_text("utf-8")
        )
        files = {name: next(iter(content["files"])) for name, content in fileset.items()}
        on_one_core()
        bench = Bench(given, files, directory)
        result: dict[str, Any] = {"machine": machine(), "events": bench.events, "chunksize": given.chunksize}
        result |= {"ratios": {}, "profiles": {}, "first_chunks": {}}
        for part in given.parts:
            say(f"measuring: {part}")
            for key, value in getattr(bench, part)().items():
                result[key] = {**result[key], **value} if key in result else value
    finally:
        shutil.rmtree(directory)
    report("throughput", result, _tables(result), given.json)


def _tables(result: dict[str, Any]) -> list[Any]:
    bars = []
    for name, pair in result["ratios"].items():
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
    for name, profile in result["profiles"].items():
        rows = [(stage, f"{s:.2f}", f"{s / profile['total']:.1%}") for stage, s in profile.items()]
        tables.append((f"profile: {name}", ("stage", "seconds", "part"), rows))
    for name, ratio in result.get("with_compilation", {}).items():
        bars.append((f"2L over {name}, compilation included", f"{ratio:.2f}", "", "", ""))
    rows = [(on, *(f"{s:.2f}" for s in seconds)) for on, seconds in result["first_chunks"].items()]
    tables.append(("chunks of one that has done nothing", ("where", "first", "second", "third"), rows))
    return [table for table in tables if table[2]]


if __name__ == "__main__":
    main()
