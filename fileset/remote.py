"""Reading files of remote servers: waiting has an end, and whatever goes wrong is an `OSError`.

Found in uproot 5.7 and fsspec-xrootd 0.5: over http an exception of a request comes back as its result and is then
indexed (a `TypeError`); over XRootD the handle of a file whose server died is used again and again, so that a server
that came back is never found. Found in XRootD 6: times are looked at every 15 s only, a refused connection is tried
again after 120 s, and one that failed is given up for half an hour. Here it fails at once; those who read try again.
"""

from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

import aiohttp
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


def source_options(timeout: int) -> dict[str, Any]:
    """Options of `uproot.open` for files of any protocol.

    Args:
        timeout: time that the answer to one request is waited for [s].
    """
    return {"handler": _AnySource, "timeout": timeout}


class _AnySource(Source):
    """Chooses the source by the protocol, for uproot takes one class for all files."""

    def __new__(cls, file_path: str, **options: Any) -> Any:
        if file_path.startswith("root://"):
            return _XRootDSource(file_path, **options)
        if "://" in file_path:
            return _WebSource(file_path, **options)
        # Of a disk at hand fsspec's threads take longer to wake than the bytes to read.
        return MultithreadedFileSource(file_path, **{**options, "num_workers": 1, "use_threads": False})


def _no_answer(timeout: int) -> str:
    return f"no answer within {timeout} s"


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
