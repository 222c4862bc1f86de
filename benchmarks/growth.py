"""How costs grow: the exponent of each, against events, features, files, chunks, datasets, signals, axes and toys.

Each is measured at five sizes or more with the product's own functions, in this process, by the time of its
processors, which other work on the machine disturbs little; the least of some repetitions counts. A cost has a fixed
part. It is told by the smallest size, and the exponent is fitted where the cost is at least twice that, over sizes
that span a factor of eight at least.

    python benchmarks/growth.py --demo output/demo
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from reporting import arguments, exponent, machine, report, say
from scheduler import a_real_chunk, books, items_of, write_receipts
from synthetic import make_fileset

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from models.settings import AlarmSettings, TrainingSettings
from models.studies.evaluation import evaluate
from models.studies.pseudo_experiments import pseudo_experiments
from models.training import scaled_sample
from processors.files import read_json, write_json
from processors.histograms import load_histograms, save_histograms, save_root, score_histogram
from processors.packing import added, packed
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.shards import write_shard
from processors.stages.select import select_region
from processors.workers import Workers

# No cost may grow faster, and a size counts where the cost is this many times the fixed part of it.
BAR, REGIME = 1.1, 2.0
SPAN = 8

Work = Callable[[], Any]
Prepared = Callable[[int], Work]


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="growth-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _select(fileset: dict[str, Any], rmm: RMMSettings) -> dict[str, Any]:
    """Selects the region 2L of a checked fileset in this process."""
    with _folder() as output, Workers(ExecutionSettings()) as workers:
        return select_region(
            fileset, name="2L", region=REGIONS["2L"], weights=WeightSettings(), rmm=rmm, workers=workers, output=output
        )  # fmt: skip


def _audited(files: Path) -> Any:
    return check(resolve(FilesetSettings(fileset=str(files)), ["2L"]))


def events(scratch: Path) -> Prepared:
    """`select` of files with more events, each file one chunk."""

    def prepared(size: int) -> Work:
        audit = _audited(make_fileset(scratch / f"events-{size}", size, per_file=size // 4))
        fileset = with_steps(audit.fileset, size, audit.clusters)
        return lambda: _select(fileset, RMMSettings())

    return prepared


def cells(scratch: Path) -> Prepared:
    """`select` of 16 000 events with larger matrices: cells of n objects of each of four kinds, and E_T^miss."""
    audit = _audited(make_fileset(scratch / "cells", 16_000, per_file=4_000))
    fileset = with_steps(audit.fileset, 4_000, audit.clusters)

    def prepared(size: int) -> Work:
        n = (round(size**0.5) - 1) // 4
        rmm = RMMSettings(light_jets=n, b_jets=n, electrons=n, muons=n)
        return lambda: _select(fileset, rmm)

    return prepared


def files(scratch: Path) -> Prepared:
    """`check` and `select` of more files of 200 events."""

    def prepared(size: int) -> Work:
        path = make_fileset(scratch / "files", 200 * size, per_file=200)

        def work() -> None:
            audit = _audited(path)
            _select(with_steps(audit.fileset, 200, audit.clusters), RMMSettings())

        return work

    return prepared


def chunks(scratch: Path) -> Prepared:
    """`select` of the same 16 000 events in more chunks."""
    audit = _audited(make_fileset(scratch / "chunks", 16_000, per_file=4_000))

    def prepared(size: int) -> Work:
        fileset = with_steps(audit.fileset, 16_000 // size)
        return lambda: _select(fileset, RMMSettings(write=False))

    return prepared


def _books(scratch: Path, chunks_of: Callable[[int], tuple[int, int]]) -> Prepared:
    with Workers(ExecutionSettings()) as workers, a_real_chunk(workers) as real:
        receipt, histograms, metadata = real

    def prepared(size: int) -> Work:
        items = items_of(*chunks_of(size), metadata)
        directory = scratch / f"receipts-{chunks_of(size)}"
        write_receipts(items, directory, receipt, histograms)

        def work() -> None:
            with Workers(ExecutionSettings()) as workers:
                books(items, directory, workers, metadata)

        return work

    return prepared


def receipts(scratch: Path) -> Prepared:
    """Books of a stage with more chunks of ten datasets: reading and adding up receipts, manifest, histograms."""
    return _books(scratch, lambda size: (size, 10))


def datasets(scratch: Path) -> Prepared:
    """The same with a chunk in each of more datasets."""
    return _books(scratch, lambda size: (size, size))


def columns(scratch: Path) -> Prepared:
    """Training's input: 10 000 events with more features read from shards, scaled, and put in memory."""
    rows, largest = 10_000, 4232
    names = [f"x{number}" for number in range(largest)]
    values = np.random.default_rng(1).exponential(40.0, (largest, rows)).astype(np.float32)
    own = {
        "channelNumber": np.full(rows, 1, np.int32), "runNumber": np.full(rows, 284500, np.int32),
        "eventNumber": np.arange(rows, dtype=np.uint64), "weight": np.ones(rows),
    }  # fmt: skip

    def prepared(size: int) -> Work:
        directory = scratch / f"columns-{size}"
        shard = write_shard(
            directory / "1.sample/0.parquet", {**own, **dict(zip(names[:size], values, strict=False))}
        )
        manifest = {
            "format": 1, "region": "2L", "config_hash": f"{size}", "complete": True,
            "features": {"table": names[:size]}, "variables": [],
            "datasets": {"1.sample": {"kind": "background", "group": "one", "scale": 1.0}},
            "shards": [{"path": "1.sample/0.parquet", "dataset": "1.sample", **shard}],
        }  # fmt: skip
        write_json(directory / "manifest.json", manifest)
        how = TrainingSettings()

        def work() -> None:
            sample, _ = scaled_sample(directory / "manifest.json", columns=names[:size], settings=how, seed=1)
            sample.close()

        return work

    return prepared


def _axes(build: Callable[[int], Any], scratch: Path) -> Prepared:
    """A chunk's histogram of the score through receipt, sum of ten datasets, JSON and ROOT."""

    def prepared(size: int) -> Work:
        def work() -> None:
            own = {"2L/score/model": build(size)}
            pack = packed(own)
            total = added([pack] * 10)
            save_histograms(total, scratch)
            load_histograms(scratch / "histograms.json")
            save_root(total, scratch, {"1.sample": "one"})

        return work

    return prepared


def _scores(n: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {"split": rng.integers(0, 3, n), "flcomp": rng.integers(0, 3, n), "score": rng.normal(0, 1, n)}


def variations(scratch: Path) -> Prepared:
    """Histogram of the score of 20 000 events with more systematic variations: filled, added, written and read."""
    own, weight = _scores(20_000), np.ones(20_000)

    def build(size: int) -> Any:
        names = [f"v{number}" for number in range(size)]
        return score_histogram("1.sample", 2, weights=dict.fromkeys(names, weight), variations=names, **own)

    return _axes(build, scratch)


def signals(demo: Path) -> Callable[[Path], Prepared]:
    """`evaluate` of more signals: those of the demo again and again under other names."""
    scores = demo / "scores" / "2L" / "default-table"

    def with_scratch(scratch: Path) -> Prepared:
        manifest = read_json(scores / "manifest.json")
        of_signals = [name for name, book in manifest["datasets"].items() if book["kind"] == "signal"]
        others = [name for name in manifest["datasets"] if name not in of_signals]

        def prepared(size: int) -> Work:
            directory = Path(tempfile.mkdtemp(dir=scratch))
            for name in manifest["datasets"]:
                (directory / name).symlink_to((scores / name).resolve())
            names = {f"{number:04d}.{of_signals[number % len(of_signals)]}": number for number in range(size)}
            source = {name: of_signals[number % len(of_signals)] for name, number in names.items()}
            books_ = {name: manifest["datasets"][name] for name in others}
            books_ |= {name: manifest["datasets"][own] for name, own in source.items()}
            shards = [shard for shard in manifest["shards"] if shard["dataset"] in others]
            shards += [
                {**shard, "dataset": name}
                for name, own in source.items()
                for shard in manifest["shards"]
                if shard["dataset"] == own
            ]
            write_json(directory / "manifest.json", {**manifest, "datasets": books_, "shards": shards})
            return lambda: evaluate(directory / "manifest.json", card={})

        return prepared

    return with_scratch


def toys(demo: Path) -> Callable[[Path], Prepared]:
    """False alarms of the demo with more pseudo-experiments of each kind, calibration included."""
    scores = demo / "scores" / "2L" / "default-table" / "manifest.json"

    def with_scratch(_: Path) -> Prepared:
        def prepared(size: int) -> Work:
            how = AlarmSettings(toys=size, calibration_toys=50 * size, levels=(0.05, 0.01))
            return lambda: pseudo_experiments(scores, settings=how, seed=1)

        return prepared

    return with_scratch


# name -> preparation, sizes (the first tells the fixed part), repetitions.
COSTS: dict[str, tuple[Callable[[Path], Prepared], tuple[int, ...], int]] = {
    "events": (events, (400, 160_000, 320_000, 640_000, 1_280_000), 1),
    "cells of the matrix": (cells, (25, 3721, 7225, 14_641, 29_929), 1),
    "features": (columns, (33, 132, 264, 529, 1058, 2116, 4232), 2),
    "files": (files, (4, 16, 32, 64, 128), 1),
    "chunks": (chunks, (1, 16, 32, 64, 128), 1),
    "receipts": (receipts, (20, 500, 1000, 2000, 4000), 1),
    "datasets": (datasets, (4, 32, 64, 128, 256), 1),
    "variations": (variations, (1, 8, 16, 32, 64), 2),
}
OF_THE_DEMO: dict[str, tuple[Callable[[Path], Callable[[Path], Prepared]], tuple[int, ...], int]] = {
    "signals": (signals, (1, 14, 28, 56, 112), 1),
    "toys": (toys, (1000, 4000, 8000, 16_000, 32_000), 1),
}


def measured(make: Callable[[Path], Prepared], sizes: tuple[int, ...], repetitions: int) -> dict[str, Any]:
    """Costs at all sizes [s], and the exponent where they exceed the fixed part."""
    costs = []
    with _folder() as scratch:
        prepared = make(scratch)
        prepared(sizes[0])()  # imports, compiled kernels
        for size in sizes:
            work, took = prepared(size), []
            for _ in range(repetitions):
                begin = time.process_time()
                work()
                took.append(time.process_time() - begin)
            costs.append(min(took))
            say(f"  {size:>8,}: {costs[-1]:.2f} s")
    above = [(size, cost) for size, cost in zip(sizes, costs, strict=True) if cost >= REGIME * costs[0]]
    enough = len(above) >= 3 and above[-1][0] >= SPAN * above[0][0]
    if not enough:
        above = list(zip(sizes[1:], costs[1:], strict=True))
    sizes_above, costs_above = zip(*above, strict=True)
    return {
        "sizes": list(sizes),
        "processor_seconds": costs,
        "fixed_seconds": costs[0],
        "from": sizes_above[0],
        "exceeds_the_fixed_part": enough,
        **exponent(sizes_above, costs_above),
        "bar": BAR,
    }


def main() -> None:
    """Measures and tells."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--demo",
        type=Path,
        default=Path("output/demo"),
        help="a finished run of the demo, for signals and toys",
    )
    parser.add_argument("--only", nargs="+", choices=[*COSTS, *OF_THE_DEMO], help="only these costs")
    given = parser.parse_args()
    costs = dict(COSTS)
    if (given.demo / "scores" / "2L" / "default-table" / "manifest.json").is_file():
        costs |= {name: (make(given.demo.resolve()), *how) for name, (make, *how) in OF_THE_DEMO.items()}  # type: ignore[misc]
    else:
        say(f"{given.demo} holds no scores (run make demo): no growth with {' and '.join(OF_THE_DEMO)}")
    growth = {}
    for name, (make, sizes, repetitions) in costs.items():
        if given.only is None or name in given.only:
            say(name)
            growth[name] = measured(make, sizes, repetitions)
    rows = [
        (
            name,
            f"{one['from']:,}–{one['sizes'][-1]:,}",
            f"{one['fixed_seconds']:.2f}",
            f"{one['processor_seconds'][-1]:.2f}",
            f"{one['exponent']:.2f} ± {one['error']:.2f}"
            + ("" if one["exceeds_the_fixed_part"] else " (fixed part)"),
            "yes" if one["exponent"] <= BAR else "NO",
        )
        for name, one in growth.items()
    ]
    header = ("cost against", "sizes", "fixed part [s]", "at the largest [s]", "exponent", f"<= {BAR}")
    report("growth", {"machine": machine(), "growth": growth}, [("growth", header, rows)], given.json)


if __name__ == "__main__":
    main()
