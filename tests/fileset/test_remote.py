"""Files are read over the web, and a server that dies is tried again and then reported with the entries."""

import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fileset import inspection
from fileset.audit import AuditError, check
from fileset.exceptions import InputError
from fileset.inspection import Task, inspect_file
from fileset.resolve import resolve
from fileset.settings import FilesetSettings


class _Server(ThreadingHTTPServer):
    """Serves a directory with range requests; answers with errors from request `dies_at` until `lives_again`."""

    directory: Path
    answered = 0
    dies_at = 10**9
    lives_again = 10**9


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body):
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
            self.wfile.write(content[first : last + 1])


@pytest.fixture
def server(whole_skim, monkeypatch) -> Iterator[_Server]:
    monkeypatch.setattr(inspection, "PAUSES", (0.01, 0.01))
    server = _Server(("127.0.0.1", 0), _Handler)
    server.directory = whole_skim
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _listed(server, tmp_path):
    names = ["Data/data_A.2lep.root", "MC/mc_361106.Zee.2lep.root"]
    listed = tmp_path / "files.txt"
    listed.write_text("\n".join(f"http://127.0.0.1:{server.server_port}/{name}" for name in names))
    return resolve(FilesetSettings(fileset=str(listed)), ["2L"])


def test_remote_files_pass_like_local_ones(server, tmp_path):
    audit = check(_listed(server, tmp_path), timeout=10)
    assert [row["entries"] for row in audit.rows()] == [20, 20]
    assert not audit.of_severity("fatal")


def test_a_server_that_dies_is_reported_by_file_and_entries(server, tmp_path):
    fileset = _listed(server, tmp_path)
    (path,) = fileset["361106.Zee.2lep"]["files"]
    task = Task(path, "mini", "2020", simulation=True, timeout=10)
    assert not inspect_file(task)["error"]
    needed = server.answered
    server.answered, server.dies_at = 0, needed
    record = inspect_file(task)
    assert "cannot be read" in record["error"]
    assert record["error_entries"] == [0, 20]
    server.answered, server.dies_at = 0, 2
    with pytest.raises(AuditError, match="mc_361106"):
        check(fileset, timeout=10)


def test_a_server_that_comes_back_is_no_failure(server, tmp_path):
    server.dies_at, server.lives_again = 5, 6
    audit = check(_listed(server, tmp_path), timeout=10)
    assert not audit.of_severity("fatal")


def test_a_remote_file_that_does_not_exist_is_said_at_once(server):
    record = inspect_file(
        Task(f"http://127.0.0.1:{server.server_port}/x.root", "mini", "2020", True, timeout=10)
    )
    assert record["error"] == "does not exist"


def test_files_by_xrootd_need_the_extra(monkeypatch):
    monkeypatch.setattr("fileset.audit.find_spec", lambda _: None)
    fileset = resolve(FilesetSettings(fileset="atlas-2020", dsids=(364100,)), ["2L"])
    with pytest.raises(InputError, match=r"install the extra \[xrootd\]"):
        check(fileset)
