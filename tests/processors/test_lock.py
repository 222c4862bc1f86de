"""One run at a time writes to an output directory, and what a killed one leaves behind holds nobody up."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fileset.exceptions import FailureError, InputError
from processors.lock import LOCK, _read, _take_away, held

pytestmark = pytest.mark.neutral


def _left_behind(output: Path, **changed: object) -> None:
    """The lock of a run that was killed, with something else in it."""
    with held(output, command=["select"]):
        content = json.loads((output / LOCK).read_text(encoding="utf-8"))
    output.mkdir(exist_ok=True)
    (output / LOCK).write_text(json.dumps(content | changed), encoding="utf-8")


def _dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_run_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with (
        held(tmp_path, command=["run_analysis.py", "select"]),
        pytest.raises(
            InputError, match=rf"process {os.getpid()} on .* \(run_analysis.py select\): wait for it"
        ),
        held(tmp_path, command=["run_analysis.py", "train"]),
    ):
        pass


def test_at_its_end_a_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FailureError), held(tmp_path / "out", command=[]):
        raise FailureError
    assert not (tmp_path / "out").exists()
    with held(tmp_path / "out", command=[]):
        (tmp_path / "out" / "select.json").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["select.json"]


def test_a_lock_is_whole_as_soon_as_it_is_there(tmp_path: Path) -> None:
    with held(tmp_path, command=["select"]):
        content = json.loads((tmp_path / LOCK).read_text(encoding="utf-8"))
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert (content["host"], content["pid"], content["command"]) == (
        socket.gethostname(),
        os.getpid(),
        ["select"],
    )


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    _left_behind(tmp_path, pid=_dead_process())
    with held(tmp_path, command=[]):
        assert json.loads((tmp_path / LOCK).read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_a_later_process_of_the_same_number_is_another(tmp_path: Path) -> None:
    _left_behind(tmp_path, born="1")
    with held(tmp_path, command=[]):
        pass


@pytest.mark.parametrize("place", ["host", "machine"])
def test_the_lock_of_another_machine_is_a_persons_to_break(tmp_path: Path, place: str) -> None:
    _left_behind(tmp_path, pid=_dead_process(), **{place: "elsewhere"})
    with pytest.raises(InputError, match="--force-unlock"), held(tmp_path, command=[]):
        pass
    with held(tmp_path, command=[], force=True):
        pass
    assert not (tmp_path / LOCK).exists()


def test_a_broken_lock_is_named_and_can_be_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.lock._PAUSE", 0.0)
    (tmp_path / LOCK).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read: delete it"), held(tmp_path, command=[]):
        pass
    with held(tmp_path, command=[], force=True):
        pass


def test_a_run_whose_lock_was_taken_leaves_that_of_the_other(tmp_path: Path) -> None:
    with held(tmp_path, command=["first"]):
        content = json.loads((tmp_path / LOCK).read_text(encoding="utf-8")) | {"host": "elsewhere"}
        (tmp_path / LOCK).write_text(json.dumps(content), encoding="utf-8")
    assert (tmp_path / LOCK).exists()


def _no_hard_links(self: Path, target: Path) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "hardlink_to", _no_hard_links)
    with (
        held(tmp_path, command=["first"]),
        pytest.raises(InputError, match="in use by"),
        held(tmp_path, command=["second"]),
    ):
        pass


@pytest.mark.parametrize("has_links", [True, False])
def test_a_lock_that_was_taken_in_between_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", _no_hard_links)
    _left_behind(tmp_path, pid=_dead_process())
    dead = _read(tmp_path / LOCK)
    assert dead is not None
    (tmp_path / LOCK).unlink()
    with held(tmp_path, command=["of the quicker one"]):
        _take_away(tmp_path / LOCK, dead)  # by one that saw the dead lock before
        with pytest.raises(InputError, match="of the quicker one"), held(tmp_path, command=["late"]):
            pass
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def _all_at_once(number: int, work: Callable[[], None]) -> None:
    gate = threading.Barrier(number)

    def wait_and_work() -> None:
        gate.wait()
        work()

    threads = [threading.Thread(target=wait_and_work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_at_once_one_gets_it(tmp_path: Path, *, stale: bool) -> None:
    if stale:
        _left_behind(tmp_path, pid=_dead_process())
    inside, refused = [], []
    leave = threading.Event()

    def work() -> None:
        try:
            with held(tmp_path, command=[str(threading.get_ident())]):
                inside.append(1)
                leave.wait(20)
        except InputError:
            refused.append(1)
            if len(refused) == 7:
                leave.set()

    _all_at_once(8, work)
    assert (len(inside), len(refused)) == (1, 7)


def test_a_file_is_no_output_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to"), held(tmp_path / "file", command=[]):
        pass


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no file system that makes no directory")
def test_a_place_where_no_directory_can_be_made_is_a_wrong_input() -> None:
    with pytest.raises(InputError, match="cannot be written to"), held(Path("/proc/nowhere"), command=[]):
        pass


def test_secrets_on_the_command_line_stay_out_of_the_lock(tmp_path: Path) -> None:
    with held(tmp_path, command=["check", "--fileset", "https://me:secret@example.org/x"]):
        assert "secret" not in (tmp_path / LOCK).read_text(encoding="utf-8")
