"""Reading files of remote servers: waiting has an end, and whatever goes wrong is an `OSError`.

Found in uproot 5.7 and fsspec-xrootd 0.5: over http an exception of a request comes back as its result and is then
indexed (a `TypeError`); over XRootD the handle of a file whose server died is used again and again, so that a server
that came back is never found. Found in XRootD 6: times are looked at every 15 s only, a refused connection is tried
again after 120 s, and one that failed is given up for half an hour. Here it fails at once; those who read try again.

Of a file of this machine that is read chunk by chunk the tree can be kept from one chunk to the next: to parse its
description takes as long as to read ten thousand events.
"""

import threading
from collections.abc import Coroutine, Iterator, MutableMapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import aiohttp
from uproot.cache import LRUArrayCache, LRUCache
from uproot.source.chunk import Chunk, Source
from uproot.source.file import MultithreadedFileSource
from uproot.source.fsspec import FSSpecLoopExecutor, FSSpecSource
from uproot.source.futures import ResourceThreadPoolExecutor
from uproot.source.xrootd import XRootDResource, XRootDSource, get_server_config, trivial_resource

__all__ = ["source_options"]

# Codes of XRootD: a connection or an operation took too long (client), there is no such file (server).
_TOO_LONG = frozenset({103, 206})
_NOT_FOUND = 3011

# Closing is a courtesy that a server which no longer answers must not delay [s].
_CLOSING = 2

# What uproot keeps of a file by default: objects, and bytes of arrays.
_OBJECTS, _ARRAYS = 100, "100 MB"


def source_options(timeout: int, *, keep: bool = False, in_graph: bool = False) -> dict[str, Any]:
    """Options of `uproot.open` for files of any protocol.

    Args:
        timeout: time that the answer to one request is waited for [s].
        in_graph: a graph of tasks holds the files, and nobody closes them: they are closed when it is gone.
        keep: each thread keeps the tree of the last local file it opened, without a handle, as long as the file stays
            as it is. What is opened must be closed before the thread opens the same file again.
    """
    if not keep:
        return {"handler": _AnySourceInGraph if in_graph else _AnySource, "timeout": timeout}
    caches = {"object_cache": _KeptMapping("objects"), "array_cache": _KeptMapping("arrays")}
    return {"handler": _AnySourceKept, "timeout": timeout, **caches}


class _AnySource(Source):
    """Chooses the source by the protocol, for uproot takes one class for all files."""

    def __new__(cls, file_path: str, **options: Any) -> Any:
        if file_path.startswith("root://"):
            return _XRootDSource(file_path, **options)
        if "://" in file_path:
            return _WebSource(file_path, **options)
        return _LocalSource(file_path)


class _AnySourceInGraph(_AnySource):
    """The same, with local files that close themselves."""

    def __new__(cls, file_path: str, **options: Any) -> Any:
        if "://" in file_path:
            return super().__new__(cls, file_path, **options)
        return FSSpecSource(file_path, **options)


class _AnySourceKept(_AnySource):
    """The same, with local files that are kept."""

    def __new__(cls, file_path: str, **options: Any) -> Any:
        if "://" in file_path:
            _here.forget()
            return super().__new__(cls, file_path, **options)
        return _here.opened(file_path)


def _no_answer(timeout: int) -> str:
    return f"no answer within {timeout} s"


# --- files of this machine --------------------------------------------------------------------------------------


class _LocalSource(MultithreadedFileSource):
    """A file read without threads: of a disk at hand they take longer to wake than the bytes to read."""

    def __init__(self, file_path: str) -> None:
        super().__init__(file_path, num_workers=1, use_threads=False)


class _KeptSource(_LocalSource):
    """A file that can be opened again once it is closed: what was read of it then stays of use."""

    def __init__(self, file_path: str) -> None:
        self.state = _state_of(file_path)
        super().__init__(file_path)

    def open_again(self) -> None:
        """As new, on what was read before."""
        self._num_requests = self._num_requested_chunks = self._num_requested_bytes = 0
        self._open()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        if self is _here.source:
            _here.arrays.clear()


def _state_of(file_path: str) -> tuple[int, ...]:
    """What differs once a file is replaced or written to."""
    status = Path(file_path).stat()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class _Kept(threading.local):
    """What a thread keeps of the last file it opened: threads share neither handles nor what reads through them."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing is kept any more."""
        self.source: _KeptSource | None = None
        self.objects = LRUCache(_OBJECTS)
        self.arrays = LRUArrayCache(_ARRAYS)

    def opened(self, file_path: str) -> _KeptSource:
        """The source of a file: the one that is kept where it is of this file, closed, and the file unchanged."""
        kept = self.source
        if (
            kept is not None
            and kept.closed
            and kept.file_path == file_path
            and kept.state == _state_of(file_path)
        ):
            kept.open_again()
            return kept
        self.forget()
        self.source = _KeptSource(file_path)
        return self.source


_here = _Kept()


class _KeptMapping(MutableMapping[str, Any]):
    """One of the caches of this thread; it can be sent to a worker, and is that one's there."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def _cache(self) -> MutableMapping[str, Any]:
        cache: MutableMapping[str, Any] = getattr(_here, self._name)
        return cache

    def __getitem__(self, key: str) -> Any:
        return self._cache[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._cache[key] = value

    def __delitem__(self, key: str) -> None:
        del self._cache[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cache)

    def __len__(self) -> int:
        return len(self._cache)


# --- http and https -------------------------------------------------------------------------------------------


def _plain(error: BaseException, timeout: int) -> Exception:
    """An `OSError` that says what happened."""
    if isinstance(error, FileNotFoundError):
        return error
    if isinstance(error, TimeoutError):
        return TimeoutError(_no_answer(timeout))
    return OSError(f"{type(error).__name__} {error}".rstrip())


class _RaisingExecutor(FSSpecLoopExecutor):
    """Raises the exceptions that fsspec returns among its results."""

    def __init__(self, timeout: int) -> None:
        self._timeout = timeout

    def submit(self, coroutine: Coroutine[Any, Any, list[Any]]) -> Future[list[bytes]]:
        future: Future[list[bytes]] = super().submit(self._parts(coroutine))
        return future

    async def _parts(self, coroutine: Coroutine[Any, Any, list[Any]]) -> list[bytes]:
        parts = await coroutine
        for part in parts:
            if isinstance(part, BaseException):
                raise _plain(part, self._timeout) from part
        return parts


class _WebSource(FSSpecSource):
    """A file read through fsspec."""

    def __init__(self, file_path: str, *, timeout: int, **options: Any) -> None:
        self._timeout = timeout
        super().__init__(file_path, timeout=timeout, **options)

    def _open(self) -> None:
        super()._open()
        self._executor = _RaisingExecutor(self._timeout)

    def chunk(self, start: int, stop: int) -> Chunk:
        """One range of bytes."""
        try:
            return super().chunk(start, stop)
        except (OSError, aiohttp.ClientError) as error:
            raise _plain(error, self._timeout) from error

    @property
    def num_bytes(self) -> int:
        """Size of the file [bytes]."""
        try:
            return int(super().num_bytes)
        except (OSError, aiohttp.ClientError) as error:
            raise _plain(error, self._timeout) from error


# --- XRootD ---------------------------------------------------------------------------------------------------


def _limit_waiting(timeout: int) -> None:
    """Make the XRootD client of this process keep to a time; what the user sets as XRD_* in the environment stays."""
    from XRootD.client.env import EnvPutInt  # noqa: PLC0415  of the extra [xrootd]

    for name, value in {
        "TimeoutResolution": 1,
        "RequestTimeout": timeout,
        "StreamTimeout": timeout,  # of an answer that stops in the middle
        "ConnectionWindow": timeout,
        "ConnectionRetry": 1,
        "StreamErrorWindow": 0,
    }.items():
        EnvPutInt(name, value)


class _XRootDResource(XRootDResource):
    """An open file of an XRootD server."""

    def _xrd_error(self, status: Any) -> None:
        if status.errno == _NOT_FOUND:
            raise FileNotFoundError(self._file_path)
        if status.code in _TOO_LONG:
            raise TimeoutError(_no_answer(self._timeout))
        raise OSError(status.message.strip())

    def __exit__(self, *exception: object) -> None:
        self._file.close(timeout=min(_CLOSING, self._timeout))


class _XRootDSource(XRootDSource):
    """A file read with uproot's own client of XRootD."""

    def _open(self) -> None:
        _limit_waiting(self._timeout)
        self._resource = _XRootDResource(self._file_path, self._timeout)
        self._executor = ResourceThreadPoolExecutor([trivial_resource()])
        self._max_num_elements, self._max_element_size = get_server_config(self._resource.file)
