"""Real faults: processes killed, disks filled, servers that hang; and what an undisturbed run gives.

The selection of these tests keeps a diary: which process works on which chunk and what is done. It takes its time, so
that there is a middle to kill somebody in.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from processors.execution import work_items
from processors.files import read_json
from processors.histograms import load_histograms
from processors.selection import SelectionProcessor
from processors.settings import ExecutionSettings
from processors.shards import read_manifest
from processors.workers import Workers

# 600 events: 31 chunks.
CHUNKSIZE = 20

Select = Callable[..., dict[str, Any]]


class DiarySelection(SelectionProcessor):
    """The selection; says who works on what, and is slow."""

    def __init__(self, diary: Path, pause: float, **options: Any) -> None:
        super().__init__(**options)
        self.diary = diary
        self.pause = pause

    def process(self, events: Any) -> dict[str, Any]:
        chunk = f"{events.metadata['dataset']}_{events.metadata['entrystart']}"
        with (self.diary / "begun").open("a") as begun:
            begun.write(f"{os.getpid()} {chunk}\n")
        time.sleep(self.pause)
        if (self.diary / f"{chunk}.eats").exists():
            eaten = []
            while True:
                eaten.append(bytearray(os.urandom(1 << 20)) * 20)
                time.sleep(0.02)
        result = super().process(events)
        with (self.diary / "done").open("a") as done:
            done.write(f"{os.getpid()} {chunk}\n")
        return result


# Workers have no tests to import: the class travels with its code.
cloudpickle.register_pickle_by_value(sys.modules[DiarySelection.__module__])


@dataclass
class Diary:
    """What the selection wrote down."""

    directory: Path

    def lines(self, name: str) -> list[tuple[int, str]]:
        path = self.directory / name
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(pid), chunk) for pid, chunk in (line.split() for line in lines)]

    def done(self) -> list[str]:
        return [chunk for _, chunk in self.lines("done")]

    def at_work(self) -> list[int]:
        """Living processes, the one that began last first; at least one, which is waited for."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            pids = dict.fromkeys(pid for pid, _ in reversed(self.lines("begun")))
            living = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
            if living:
                return living
            time.sleep(0.01)
        message = "nobody works any more"
        raise TimeoutError(message)

    def wait_for(self, number: int, *, timeout: float = 60) -> None:
        """Waits until so many chunks are done."""
        deadline = time.monotonic() + timeout
        while len(self.done()) < number:
            assert time.monotonic() < deadline, f"{len(self.done())} of {number} chunks are done"
            time.sleep(0.01)


@pytest.fixture
def diary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Diary:
    """The diary of every selection of this test."""
    kept = Diary(tmp_path / "diary")
    kept.directory.mkdir()
    monkeypatch.setattr(
        "processors.stages.select.SelectionProcessor",
        lambda **options: DiarySelection(kept.directory, 0.15, **options),
    )
    return kept


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Does something in the background; what it raises fails the test."""
    with ThreadPoolExecutor() as pool:
        started: list[Future[None]] = []
        yield lambda what: started.append(pool.submit(what))
        for future in started:
            future.result(timeout=60)


# --- what comes out --------------------------------------------------------------------------------------------------


def _outcome(result: Mapping[str, Any], output: Path) -> dict[str, Any]:
    directory = output / "shards" / "2L"
    histograms = load_histograms(directory / "histograms.json")
    return {
        "books": json.loads(json.dumps({key: result[key] for key in ("cuts", "lumi_pb", "datasets")})),
        "missing": result["ledger"]["missing"],
        "manifest": read_manifest(directory / "manifest.json"),
        "shards": sorted(str(path.relative_to(directory)) for path in directory.rglob("*.parquet")),
        "histograms": {name: h.view(flow=True).tolist() for name, h in histograms.items()},
    }


@pytest.fixture(scope="session")
def outcome() -> Callable[..., dict[str, Any]]:
    """What no fault may change: books, shards with their checksums, and every bin of every histogram."""
    return _outcome


@pytest.fixture(scope="session")
def ledger_of() -> Callable[[Path], dict[tuple[str, str, int, int], str]]:
    """The ledger on disk: dataset, file, start, stop -> cause."""

    def ledger(output: Path) -> dict[tuple[str, str, int, int], str]:
        missing = read_json(output / "shards" / "2L" / "ledger.json")["missing"]
        return {(m["dataset"], m["file"], m["start"], m["stop"]): m["cause"] for m in missing}

    return ledger


@pytest.fixture(scope="session")
def chunks_of() -> Callable[..., set[tuple[str, str, int, int]]]:
    """The chunks of a fileset, as the ledger names them."""

    def chunks(fileset: Mapping[str, Any], dataset: str | None = None) -> set[tuple[str, str, int, int]]:
        return {
            (item.dataset, item.filename, item.entrystart, item.entrystop)
            for item in work_items(fileset)
            if dataset in {None, item.dataset}
        }

    return chunks


@pytest.fixture(scope="session")
def undisturbed(
    sample: Any, select: Select, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Any], dict[str, Any]]:
    """What the same selection gives when nothing happens, in this process."""

    def run(fileset: Any) -> dict[str, Any]:
        output = tmp_path_factory.mktemp("undisturbed")
        return _outcome(select(fileset, output), output)

    return run


@pytest.fixture(scope="session")
def expected(sample: Any, undisturbed: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """What comes out of the tiny sample."""
    return undisturbed(sample.fileset(CHUNKSIZE))


# --- who does the work -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def cluster() -> Iterator[Workers]:
    """Two workers, processes of their own, with nannies."""
    with Workers(ExecutionSettings(executor="dask", workers=2, timeout=1)) as workers:
        yield workers


class Facility:
    """A scheduler and workers started by somebody else."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = ""
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        file = self.directory / "scheduler.json"
        file.unlink(missing_ok=True)
        process = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", file
        )
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text().strip():
            assert time.monotonic() < deadline, "the scheduler does not start"
            time.sleep(0.1)
        self.address = read_json(file)["address"]
        return process

    def start_worker(self, *options: object, path: Path | None = None) -> subprocess.Popen[bytes]:
        """A worker of one thread; modules and packages in `path` come first."""
        return self._start(
            "worker",
            self.address,
            "--nthreads",
            1,
            "--no-dashboard",
            "--host",
            "127.0.0.1",
            *options,
            path=path,
        )

    def _start(self, *command: object, path: Path | None = None) -> subprocess.Popen[bytes]:
        environment = dict(os.environ, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
        if path is not None:
            environment["PYTHONPATH"] = str(path)
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + str(command[0]), *map(str, command[1:])],
                cwd=self.directory,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """SIGKILL, to a process and all it started."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)

    def stop(self) -> None:
        for process in reversed(self.processes):
            self.kill(process)

    def workers(self) -> Workers:
        return Workers(ExecutionSettings(executor="dask", scheduler=self.address))


@pytest.fixture(scope="module")
def facility(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facility]:
    """A scheduler of its own with one worker that may use 1.2 GB."""
    place = Facility(tmp_path_factory.mktemp("facility"))
    try:
        place.start_scheduler()
        place.start_worker("--memory-limit", "1.2GB")
        yield place
    finally:
        place.stop()


# --- servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def deaf_port() -> Iterator[tuple[int, Callable[[], None]]]:
    """A port on which somebody accepts and never answers, and what makes it free again."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1], server.close


class _Ranges(SimpleHTTPRequestHandler):
    """Gives ranges of the files of its directory."""

    def do_GET(self) -> None:
        content = (Path(self.directory) / self.path.lstrip("/")).read_bytes()
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(content)), len(content) - 1) + 1
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        self.wfile.write(content[begin:end])

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str((Path(self.directory) / self.path.lstrip("/")).stat().st_size))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def served() -> Callable[..., AbstractContextManager[None]]:
    """A web server that gives ranges of the files of a directory."""

    @contextmanager
    def serving(directory: Path, port: int) -> Iterator[None]:
        handler = partial(_Ranges, directory=str(directory))
        with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    return serving
