"""What a hundred thousand chunks cost before any event is read: Dask's scheduler, receipts, and the books.

Tasks do nothing (or sleep), go the way that chunks of `select` go, and say what each costs beside its events. Then
receipts with the histograms of a real chunk are written for as many chunks, and a stage that finds all of them done
reads and adds them up: what a resume costs, and what every run costs at its end.

    python benchmarks/scheduler.py --chunks 1e5
"""

import json
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hist
import psutil
from coffea.processor.executor import WorkItem
from reporting import arguments, machine, report, say, timed
from synthetic import DEMO

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from processors.books import dataset_books, manifest_of
from processors.files import fingerprint, read_json, write_json
from processors.histograms import load_histograms
from processors.receipts import receipt_path, write_receipt
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.shards import write_shard
from processors.stages.results import write_results
from processors.stages.resume import run_what_is_missing
from processors.stages.select import select_region
from processors.workers import Workers

EVENTS_PER_CHUNK = 100_000


def items_of(chunks: int, datasets: int, metadata: dict[str, Any]) -> dict[str, WorkItem]:
    """Chunks as `select` has them: name -> work item, ten to a file, with the metadata of a dataset."""
    items = {}
    for number in range(chunks):
        dataset, file = f"{number % datasets:06d}.Sample.2lep", number // datasets // 10
        identity = uuid.UUID(int=(number % datasets) << 64 | file)
        start = number // datasets % 10 * EVENTS_PER_CHUNK
        stop = start + EVENTS_PER_CHUNK
        items[f"{dataset}/{identity}_{start}-{stop}"] = WorkItem(
            dataset,
            f"root://storage.example.org//release/2lep/MC/{dataset}/part{file:06d}.root",
            "mini",
            start,
            stop,
            identity.bytes,
            {**metadata, "dataset": dataset},
        )
    return items


def nothing(sleep: float, item: Any) -> dict[str, Any]:
    """Does what a chunk does, without the events."""
    time.sleep(sleep)
    chunk = item[0] if isinstance(item, tuple) else item
    metrics = {"entries": len(chunk), "bytesread": 0, "processtime": sleep}
    return {"out": {}, "metrics": metrics, "processed": {chunk}}


def resident() -> float:
    """Memory of this process: the client, and with a local cluster the scheduler too [MB]."""
    return float(psutil.Process().memory_info().rss / 1e6)


def processor_time(workers: Workers) -> dict[str, float]:
    """Time that processors worked for the client (with it, the scheduler) and for the workers, until now [s]."""
    of_workers = workers.client.run(time.process_time).values() if workers.client else ()
    return {"client_and_scheduler": time.process_time(), "workers": sum(of_workers)}


def since(before: dict[str, float], workers: Workers, chunks: int) -> dict[str, float]:
    """Time of processors since then, for each chunk [ms]: what a busy machine changes little."""
    return {name: (now - before[name]) / chunks * 1e3 for name, now in processor_time(workers).items()}


def scheduling(items: dict[str, WorkItem], workers: Workers, sleep: float) -> dict[str, Any]:
    """Costs of handing out chunks that do nothing."""
    executor = workers.executor("doing nothing").copy(keep=False)
    executor(list(items.values())[:100], partial(nothing, 0.0), None)  # workers are up, imports are done
    before, cpu = resident(), processor_time(workers)
    seconds = timed(lambda: executor(list(items.values()), partial(nothing, sleep), None))
    at_work = sleep * len(items) / workers.settings.n_workers
    return {
        "seconds": seconds,
        "chunks_per_second": len(items) / seconds,
        "overhead_per_chunk_ms": (seconds - at_work) / len(items) * 1e3,
        "processor_ms_per_chunk": since(cpu, workers, len(items)),
        "client_and_scheduler_mb": {"before": before, "after": resident()},
    }


@contextmanager
def a_real_chunk(workers: Workers) -> Iterator[tuple[dict[str, Any], dict[str, hist.Hist], dict[str, Any]]]:
    """Receipt, histograms and metadata of a demo file that `select` has read."""
    with tempfile.TemporaryDirectory() as folder:
        settings = FilesetSettings(fileset=str(DEMO / "MC" / "mc_361107.Zmumu.2lep.root"))
        audit = check(resolve(settings, ["2L"]))
        select_region(
            with_steps(audit.fileset, EVENTS_PER_CHUNK, audit.clusters),
            name="2L",
            region=REGIONS["2L"],
            weights=WeightSettings(),
            rmm=RMMSettings(),
            workers=workers,
            output=Path(folder),
        )
        (receipt,) = (Path(folder) / "shards" / "2L").glob("*/*.receipt.json")
        content = json.loads(receipt.read_text(encoding="utf-8"))
        del content["histograms"]
        (dataset,) = audit.fileset.values()
        yield (
            content,
            load_histograms(Path(folder) / "shards" / "2L" / "histograms.json"),
            dataset["metadata"],
        )


def write_receipts(
    items: dict[str, WorkItem],
    directory: Path,
    receipt: dict[str, Any],
    histograms: dict[str, hist.Hist],
) -> float:
    """Writes a receipt for each chunk, and a shard of one event; gives the milliseconds that one receipt takes.

    The first of each dataset is written as a worker does; the others take its histograms over.
    """
    took: list[float] = []
    packs: dict[str, str] = {}
    for chunk, item in items.items():
        shard = write_shard(directory / f"{chunk}.parquet", {"weight": [1.0]})
        content = {
            **receipt,
            "config_hash": "benchmark",
            "dataset": item.dataset,
            "source": {**receipt["source"], "start": item.entrystart, "stop": item.entrystop},
            "shard": {"path": f"{chunk}.parquet", **shard},
        }
        path = receipt_path(directory, chunk)
        if item.dataset in packs:
            write_json(path, {**content, "histograms": packs[item.dataset]})
            continue
        own = {key: _renamed(histogram, item.dataset) for key, histogram in histograms.items()}
        took.append(timed(partial(write_receipt, directory, chunk, content, own)))
        packs[item.dataset] = read_json(path)["histograms"]
    return statistics.median(took) * 1e3


def _renamed(histogram: hist.Hist, dataset: str) -> hist.Hist:
    axis = hist.axis.StrCategory([dataset], growth=True, name="dataset")
    renamed = hist.Hist(axis, *list(histogram.axes)[1:], storage=histogram.storage_type())
    renamed.view(flow=True)[...] = histogram.view(flow=True)
    return renamed


def books(items: dict[str, WorkItem], directory: Path, workers: Workers, metadata: Any) -> dict[str, Any]:
    """Costs of a stage that finds every chunk done: reading receipts, adding up, books, manifest."""
    costs: dict[str, Any] = {}
    before, cpu, begin = resident(), processor_time(workers), time.perf_counter()
    receipts, histograms, _ = run_what_is_missing(
        items, dict.fromkeys(items, "benchmark"), directory, None, workers.executor("resuming")
    )
    costs["receipts_s"] = time.perf_counter() - begin
    costs["processor_ms_per_chunk"] = since(cpu, workers, len(items))
    fileset: dict[str, Any] = {}
    for item in items.values():
        files = fileset.setdefault(item.dataset, {"files": {}, "metadata": metadata})["files"]
        files.setdefault(item.filename, {"num_entries": 0})["num_entries"] += len(item)
    begin = time.perf_counter()
    own = dataset_books(fileset, receipts)
    config = fingerprint(sorted(r["shard"]["checksum"] for r in receipts.values()))
    manifest = manifest_of("2L", config, own, receipts, dict.fromkeys(own, 1.0), complete=True)
    costs["books_s"] = time.perf_counter() - begin
    costs["manifest_and_histograms_s"] = timed(partial(write_results, directory, manifest, histograms))
    costs["select_json_s"] = timed(partial(write_json, directory / "select.json", own))
    costs["histograms_mb"] = sum(h.view(flow=True).nbytes for h in histograms.values()) / 1e6
    costs["manifest_mb"] = (directory / "manifest.json").stat().st_size / 1e6
    costs["client_and_scheduler_mb"] = {"before": before, "after": resident()}
    costs["total_s"] = sum(value for key, value in costs.items() if key.endswith("_s"))
    costs["per_chunk_ms"] = costs["total_s"] / len(items) * 1e3
    return costs


def main() -> None:
    """Runs all of it and reports."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--chunks", type=float, default=1e5, help="how many [1e5]")
    parser.add_argument("--datasets", type=int, default=200, help="that they belong to [200]")
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds that a task sleeps [0]")
    parser.add_argument("--workers", type=int, default=2, help="of the local Dask cluster [2]")
    parser.add_argument("--executor", default="dask", help="dask, futures or iterative [dask]")
    given = parser.parse_args()
    result: dict[str, Any] = {"machine": machine(), "chunks": int(given.chunks), "datasets": given.datasets}
    directory = Path(tempfile.mkdtemp(prefix="receipts-"))
    try:
        with Workers(ExecutionSettings(executor=given.executor, workers=given.workers)) as workers:
            with a_real_chunk(workers) as (receipt, histograms, metadata):
                items = items_of(int(given.chunks), given.datasets, metadata)
                say("handing out chunks that do nothing")
                result["scheduling"] = scheduling(items, workers, given.sleep)
                say("writing receipts")
                result["receipt_write_ms"] = write_receipts(items, directory, receipt, histograms)
            sizes = [path.stat().st_size for path in directory.glob("*/*.receipt.json")]
            result["receipt_kb"] = sum(sizes) / len(sizes) / 1e3
            say("reading receipts and adding them up")
            result["books"] = books(items, directory, workers, metadata)
    finally:
        shutil.rmtree(directory)
    report(
        "scheduler", result, [(f"{int(given.chunks):,} chunks", ("what", "cost"), _rows(result))], given.json
    )


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    scheduling, books = result["scheduling"], result["books"]
    memory = {name: result[name]["client_and_scheduler_mb"] for name in ("scheduling", "books")}
    times = {name: result[name]["processor_ms_per_chunk"] for name in ("scheduling", "books")}
    return [
        ("chunks handed out and back", f"{scheduling['chunks_per_second']:,.0f} /s"),
        ("handing out a chunk", f"{scheduling['overhead_per_chunk_ms']:.2f} ms"),
        ("writing a receipt, on the worker", f"{result['receipt_write_ms']:.2f} ms"),
        ("size of a receipt", f"{result['receipt_kb']:.1f} kB"),
        ("reading and adding up all receipts", f"{books['receipts_s']:.1f} s"),
        ("books", f"{books['books_s']:.1f} s"),
        ("manifest and histograms", f"{books['manifest_and_histograms_s']:.1f} s"),
        ("end of the stage, per chunk", f"{books['per_chunk_ms']:.2f} ms"),
        ("histograms of all datasets", f"{books['histograms_mb']:.0f} MB"),
        ("manifest", f"{books['manifest_mb']:.0f} MB"),
        *(
            (f"processor time per chunk, {name}: {who.replace('_', ' ')}", f"{ms:.2f} ms")
            for name, parts in times.items()
            for who, ms in parts.items()
        ),
        *(
            (f"memory, {name}: client and scheduler", f"{mb['before']:,.0f} -> {mb['after']:,.0f} MB")
            for name, mb in memory.items()
        ),
    ]


if __name__ == "__main__":
    main()
