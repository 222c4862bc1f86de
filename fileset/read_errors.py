"""What reading a broken ROOT file can raise.

Seen with uproot 5.7 on some 4 000 files cut short or overwritten at random places, and in its decompressors.
"""

import lzma
import struct
import zlib

import aiohttp
import cramjam
import uproot

__all__ = ["OPEN_ERRORS", "READ_ERRORS"]

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
