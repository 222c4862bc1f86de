"""What reading a broken ROOT file can raise.

Seen with uproot 5.7 on some 4 000 files cut short or overwritten at random places, and in its decompressors.
"""

import lzma
import re
import struct
import zlib

import aiohttp
import cramjam
import uproot

__all__ = ["OPEN_ERRORS", "READ_ERRORS", "hidden_read_error", "is_read_error"]

READ_ERRORS: tuple[type[Exception], ...] = (
    OSError,  # fewer bytes than the header promises, a server that went away
    EOFError,
    aiohttp.ClientError,  # of http and https, where it is no OSError
    zlib.error,
    lzma.LZMAError,
    cramjam.DecompressionError,
    uproot.KeyInFileError,
    uproot.deserialization.DeserializationError,
)
"""Raised by a damaged or unreachable file, hardly by anything else."""

OPEN_ERRORS: tuple[type[Exception], ...] = (
    *READ_ERRORS,
    ValueError,
    IndexError,
    NotImplementedError,
    RecursionError,
    struct.error,
)
"""Also what a damaged header or directory raises; ambiguous wherever more than reading is done."""


# uproot 5.7 takes the exception that a remote read ended with for its result, and indexes it.
_HIDDEN = re.compile(r"'(\w*(?:Error|Exception|Timeout|Disconnected)\w*)' object is not subscriptable")


def hidden_read_error(error: BaseException) -> str:
    """Name of the exception that uproot hides in a `TypeError`, empty where it hides none."""
    match = _HIDDEN.search(str(error)) if isinstance(error, TypeError) else None
    return match[1] if match else ""


def is_read_error(error: BaseException) -> bool:
    """Whether an exception, or one that it was raised from, comes from a damaged or unreachable file.

    coffea wraps what a chunk raises in a plain `Exception`; a server that dies in the middle of a read shows as a
    `TypeError` of uproot.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, READ_ERRORS) or hidden_read_error(link):
            return True
        link = link.__cause__ or link.__context__
    return False
