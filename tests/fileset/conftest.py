"""Tiny files in the release's layout, whole or broken on purpose, and servers of them that can die."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

from fileset.branches import TREES

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real files and metadata of the releases."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data with the real files is not there")
    return SHARED


def _column(kind: str, entries: int, generator: np.random.Generator) -> Any:
    """Values of one branch: one number an event, or two an event for a list."""
    is_list = kind.startswith("list of ")
    shape = (entries, 2) if is_list else (entries,)
    values: Any
    match kind.removeprefix("list of "):
        case "real":
            values = generator.uniform(1e4, 1e5, shape).astype(np.float32)
        case "integer":
            values = np.full(shape, 2, np.int32)
        case _:
            values = np.ones(shape, np.bool_)
    return ak.from_regular(ak.Array(values)) if is_list else values


@pytest.fixture(scope="session")
def write_file() -> Callable[..., Path]:
    """Write a file of the 2020 release: `write_file(path, dsid=361106, xsec=..., sumw=...)`.

    `dsid` 0 is data; `first` is the first event number; `drop` and `replace` change branches; `tree` its name.
    """

    def write(
        path: Path,
        *,
        dsid: int,
        xsec: float = 1.0,
        sumw: float = 1.0,
        entries: int = 20,
        first: int = 1,
        run: int = 284500,
        drop: tuple[str, ...] = (),
        replace: dict[str, Any] | None = None,
        tree: str = "mini",
    ) -> Path:
        expected = TREES["2020"]
        generator = np.random.default_rng(dsid + first)
        columns: dict[str, Any] = {
            name: _column(kind, entries, generator)
            for name, kind in {**expected.branches, **expected.simulation}.items()
        }
        run = 298773 if dsid == 0 else run
        columns["channelNumber"] = np.full(entries, dsid or run, np.int32)
        columns["runNumber"] = np.full(entries, run, np.int32)
        columns["eventNumber"] = np.arange(first, first + entries, dtype=np.int32)
        columns["XSection"] = np.full(entries, xsec, np.float32)
        columns["SumWeights"] = np.full(entries, sumw, np.float32)
        columns.update(replace or {})
        path.parent.mkdir(parents=True, exist_ok=True)
        with uproot.recreate(path) as file:
            kept = {name: values for name, values in columns.items() if name not in drop}
            # Assigning to file[tree] would write an RNTuple.
            written = file.mktree(tree, {name: _type_of(values) for name, values in kept.items()})
            if entries:
                written.extend(kept)
        return path

    return write


def _type_of(values: Any) -> Any:
    if isinstance(values, ak.Array):
        if values.ndim == 1:
            return ak.to_numpy(values).dtype
        return ak.types.from_datashape(f"var * {values.layout.content.dtype.name}", highlevel=False)
    return values.dtype


ZEE = {"dsid": 361106, "xsec": 1950.5295, "sumw": 150277594200.0}


@pytest.fixture
def skim(tmp_path: Path, whole_skim: Path) -> Path:
    """A directory of the skim 2lep that a test may break."""
    return Path(shutil.copytree(whole_skim, tmp_path / "2lep"))


@pytest.fixture(scope="session")
def whole_skim(tmp_path_factory: pytest.TempPathFactory, write_file: Callable[..., Path]) -> Path:
    """The skim 2lep: data of two periods, Z to ee and top pairs, normalised as in the release."""
    directory = tmp_path_factory.mktemp("whole") / "2lep"
    write_file(directory / "Data" / "data_A.2lep.root", dsid=0, first=1)
    write_file(directory / "Data" / "data_B.2lep.root", dsid=0, first=101)
    write_file(directory / "MC" / "mc_361106.Zee.2lep.root", **ZEE)
    write_file(
        directory / "MC" / "mc_410000.ttbar_lep.2lep.root", dsid=410000, xsec=452.693559, sumw=49386600
    )
    return directory


@pytest.fixture
def write_catalog() -> Callable[..., Path]:
    """Write the `catalog.yaml` that the verb `simulate` writes: `write_catalog(directory, samples={...})`."""

    def write(directory: Path, samples: dict[int, dict[str, Any]], **changed: Any) -> Path:
        facts = {
            "format": 1,
            "name": "toy",
            "release": "2020",
            "sample": "demo-simulation",
            "tree": "mini",
            "energy_unit": "MeV",
            "sqrt_s_GeV": 13000.0,
            "lumi_pb": {"2lep": 1000.0, "3lep": 5000.0},
            "groups": {
                "Zjets": {"label": "$Z$", "color": "#3f90da", "kind": "background", "order": 1},
                "Toy": {"label": "Toy", "color": "#000000", "kind": "signal", "order": 2},
            },
            "samples": samples,
            "generator": {"name": "toy"},
        } | changed
        path = directory / "catalog.yaml"
        path.write_text(yaml.safe_dump(facts), "utf-8")
        return path

    return write


# --- servers on this machine ----------------------------------------------------------------------------------


class WebServer(ThreadingHTTPServer):
    """Serves a directory over http with ranges; answers 503 from request `dies_at` until `lives_again`."""

    answered = 0
    dies_at = lives_again = 10**9

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.directory = directory
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def kill(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: WebServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.server.answered += 1
        if self.server.dies_at <= self.server.answered < self.server.lives_again:
            self.send_error(503)
            return
        path = self.server.directory / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        wanted = self.headers.get("Range")
        first, last = 0, len(content) - 1
        if wanted:
            start, stop = wanted.removeprefix("bytes=").split("-")
            first, last = int(start), min(int(stop or last), last)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if body:
            with suppress(ConnectionError):
                self.wfile.write(content[first : last + 1])


class XRootDServer:
    """Debian's XRootD server with a directory; it refuses all hosts but this one."""

    def __init__(self, directory: Path) -> None:
        self.server_port = _free_port()
        own = directory.parent / f"xrootd-{self.server_port}"
        own.mkdir()
        config = own / "xrootd.cfg"
        config.write_text(
            f"xrd.port {self.server_port}\nxrd.network nodnr\nxrd.allow host 127.0.0.1\nall.role server\n"
            f"all.export / r/o\noss.localroot {directory}\nall.adminpath {own}\nall.pidpath {own}\n"
        )
        command = ["xrootd", "-I", "v4", "-c", str(config), "-l", str(own / "log")]
        if os.geteuid() == 0:
            command += ["-R", "nobody"]  # it refuses to run as root
            shutil.chown(own, "nobody")
        self._process = subprocess.Popen(
            command, cwd=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.server_port), 1):
                return
            time.sleep(0.05)
        self.kill()
        log = "\n".join(path.read_text("utf-8") for path in own.rglob("log"))
        pytest.fail(f"the XRootD server did not start:\n{log}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """A server with an address that stays while the server itself may die, hang and come back.

    `dies_after` and `hangs_after` count the bytes that it sends. One that died comes back by itself after
    `absent` seconds where that is given.
    """

    def __init__(self, protocol: str, directory: Path) -> None:
        self.protocol, self._directory = protocol, directory
        self._kind = {"root": XRootDServer, "http": WebServer}[protocol]
        self.port = _free_port()
        self.sent = self.deaths = 0
        self.dies_after = self.hangs_after = 10**12
        self.absent: float | None = None
        self._return: threading.Timer | None = None
        self._lock = threading.Lock()
        self.start()

    def address(self, file: str) -> str:
        return f"{self.protocol}://127.0.0.1:{self.port}/{'/' if self.protocol == 'root' else ''}{file}"

    def start(self) -> None:
        self.sent, self.dies_after, self.hangs_after = 0, 10**12, 10**12
        self._server = self._kind(self._directory)
        self._open: list[socket.socket] = []
        self._alive = True
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def kill(self) -> None:
        """At once and in the middle of what it is sending; connections are refused from now on."""
        with self._lock:
            if not self._alive:
                return
            self._alive = False
            self.deaths += 1
            self._server.kill()
            for one in (self._listener, *self._open):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        if self.absent is not None:
            self._return = threading.Timer(self.absent, self.start)
            self._return.start()

    def close(self) -> None:
        self.absent = None
        if self._return is not None:
            self._return.cancel()
            self._return.join()
        self.kill()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server.server_port))
                self._open += [client, server]
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for pair, counted in (((client, server), False), ((server, client), True)):
                    threading.Thread(target=self._pass_on, args=(*pair, counted), daemon=True).start()

    def _pass_on(self, giver: socket.socket, taker: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while part := giver.recv(1 << 14):
                if counted:
                    self.sent += len(part)
                    if self.sent > self.dies_after:
                        threading.Thread(target=self.kill).start()
                        return
                    if self.sent > self.hangs_after:
                        continue
                taker.sendall(part)
        for one in (giver, taker):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="session")
def served(require: Callable[[object, str], None]) -> Iterator[Path]:
    """A directory in the release's layout that a server without privileges may read: some of the demo sample."""
    demo = Path(__file__).parents[2] / "fileset" / "demo"
    require(demo.is_dir(), "the demo sample is not there")
    with tempfile.TemporaryDirectory(prefix="served-") as name:
        release = Path(name) / "release"
        for file in ("Data/data_A.2lep.root", "MC/mc_363491.lllv.2lep.root"):
            (release / "2lep" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(demo / "2lep" / file, release / "2lep" / file)
        file = "2lep/MC/mc_361106.Zee.2lep.root"
        _in_clusters(demo / file, release / file, 4)
        for path in (Path(name), *Path(name).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield release


def _in_clusters(source: Path, target: Path, clusters: int) -> None:
    """Copies what the analysis reads of a file, in several clusters: chunks end where clusters do."""
    with uproot.open(source) as old, uproot.recreate(target) as new:
        expected = TREES["2020"]
        columns = old["mini"].arrays([*expected.branches, *expected.simulation])
        types = {name: _type_of(columns[name]) for name in columns.fields}
        written = new.mktree("mini", types)
        edges = np.linspace(0, len(columns), clusters + 1).astype(int)
        for start, stop in pairwise(edges.tolist()):
            written.extend({name: columns[name][start:stop] for name in columns.fields})


@pytest.fixture(params=["root", "http"])
def site(
    request: pytest.FixtureRequest, served: Path, require: Callable[[object, str], None]
) -> Iterator[Site]:
    """Serves the release's layout by one of the protocols."""
    if request.param == "root":
        require(shutil.which("xrootd"), "the XRootD server is not installed (Debian: xrootd-server)")
        require(find_spec("XRootD"), "the package xrootd is not installed (extra [xrootd])")
    site = Site(request.param, served)
    yield site
    site.close()


@pytest.fixture
def web_server() -> Iterator[Callable[[Path], WebServer]]:
    """Starts a web server of a directory."""
    started: list[WebServer] = []

    def start(directory: Path) -> WebServer:
        started.append(WebServer(directory))
        return started[-1]

    yield start
    for server in started:
        server.kill()
