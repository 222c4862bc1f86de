"""One run at a time in an output directory.

A lock is a file that says who holds it: host, process, since when. It is made by a hard link, which one of many can
make also on shared file systems that know no flock (open(2) on NFS); where there are no links, by O_EXCL. A run that is
killed leaves its lock behind: on the same machine the next one sees that the process is gone, and takes it over; of
another machine nothing can be known, and a person has to say so.
"""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fileset.exceptions import FailureError, InputError
from processors.redaction import redacted

__all__ = ["LOCK", "held"]

logger = logging.getLogger(__name__)

LOCK = ".run-analysis.lock"

# How often a lock that vanishes while it is looked at is tried again, and how long between [s].
_TRIES = 20
_PAUSE = 0.05

_NOT_OURS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True)
class _Holder:
    """Who holds a lock.

    Args:
        host: name of the machine.
        machine: what tells machines and containers of one name apart: boot and namespace of processes.
        pid: process.
        born: when it began, in ticks since the boot; a later process may get the same number.
        since: when the lock was taken, for a person.
        command: what it runs.
    """

    host: str
    machine: str
    pid: int
    born: str
    since: str
    command: tuple[str, ...]

    @property
    def is_gone(self) -> bool:
        """Whether it is known to be no more, which only its own machine can tell."""
        if (self.host, self.machine) != (socket.gethostname(), _machine()):
            return False
        return not _lives(self.pid) or self.born != _born(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since} ({' '.join(self.command)})"


def _machine() -> str:
    """Boot and namespace of processes; empty where the system does not tell."""
    told = []
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        told.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(told)


def _born(pid: int) -> str:
    """Start of a process [clock ticks since boot], field 22 of proc(5); empty where the system does not tell."""
    with suppress(OSError, IndexError):
        # The name of the program, in parentheses, may hold spaces.
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    return ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


@contextmanager
def held(output: Path, *, command: Sequence[str], force: bool = False) -> Iterator[None]:
    """Holds an output directory for one run; at its end the lock is gone.

    Args:
        output: directory; it is made, and taken away again if nothing was written.
        command: what runs, for whoever finds the directory held.
        force: take it from whoever holds it.

    Raises:
        InputError: another run holds it, or it is no directory that may be written to.
        FailureError: its disk is full or fails.
    """
    pid = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    own = _Holder(
        socket.gethostname(),
        _machine(),
        pid,
        _born(pid),
        since,
        tuple(str(word) for word in redacted(command)),
    )
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        _acquire(output / LOCK, own, force=force)
    except OSError as error:
        message = (
            f"output directory {output} cannot be written to ({error.strerror}): give another with --output"
        )
        raise (InputError if error.errno in _NOT_OURS else FailureError)(message) from error
    try:
        yield
    finally:
        with suppress(OSError):
            if _read(output / LOCK) == own:
                (output / LOCK).unlink()
            if made:
                output.rmdir()  # it stays unless it is empty


def _acquire(lock: Path, own: _Holder, *, force: bool) -> None:
    taken_over = False
    for _ in range(_TRIES):
        if _made(lock, own):
            if not taken_over:
                return
            # Whoever saw the same dead lock may still rename ours, and puts it back: see _take_away.
            time.sleep(_PAUSE)
        holder = _read(lock)
        if holder is None:  # released, or just being written
            time.sleep(_PAUSE)
            continue
        if holder == own:
            return
        if not (force or holder.is_gone):
            _refuse(lock, holder)
        logger.info(
            "%s was held by %s", lock.parent, f"{holder}, which is no more" if holder.is_gone else holder
        )
        _take_away(lock, holder)
        taken_over = True
    if force and lock.exists():
        lock.unlink(missing_ok=True)
        if _made(lock, own):
            return
    message = f"{lock} cannot be read: delete it if no other run writes to {lock.parent}"
    raise InputError(message)


def _refuse(lock: Path, holder: _Holder) -> None:
    here = holder.host == socket.gethostname()
    remedy = "wait for it or give another --output"
    doubt = "" if here and holder.machine == _machine() else "; if it is no more, add --force-unlock"
    message = f"output directory {lock.parent} is in use by {holder}: {remedy}{doubt}"
    raise InputError(message)


def _made(lock: Path, own: _Holder) -> bool:
    """Makes the lock, with its content, unless there is one."""
    text = json.dumps(asdict(own)) + "\n"
    draft = lock.with_name(f"{lock.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        draft.write_text(text, encoding="utf-8")
        try:
            lock.hardlink_to(draft)
        except FileExistsError:
            # Of NFS an answer may be lost: then two names say that the link was made (link(2)).
            return draft.stat().st_nlink == 2
        except OSError:  # this file system has no hard links
            return _made_exclusively(lock, text)
        return True
    finally:
        draft.unlink(missing_ok=True)


def _made_exclusively(lock: Path, text: str) -> bool:
    try:
        with lock.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _read(lock: Path) -> _Holder | None:
    try:
        content = json.loads(lock.read_text(encoding="utf-8"))
        return _Holder(**{**content, "command": tuple(content["command"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _take_away(lock: Path, holder: _Holder) -> None:
    """Takes a lock of this holder away; of several that try at once, one does.

    What is taken away is renamed first, and looked at: another run may have taken the lock over in between.
    """
    aside = lock.with_name(f"{lock.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        lock.rename(aside)
    except FileNotFoundError:
        return
    if _read(aside) != holder:
        try:
            lock.hardlink_to(aside)
        except FileExistsError:
            pass
        except OSError:  # this file system has no hard links
            with suppress(OSError):
                _made_exclusively(lock, aside.read_text(encoding="utf-8"))
    aside.unlink(missing_ok=True)
