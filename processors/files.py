"""Files that are either whole or absent, and the hashes by which they are known again."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

__all__ = ["checksum", "fingerprint", "read_json", "replace_atomically", "write_json"]


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same directory that takes the place of `path` when the block succeeds.

    A process killed in the middle leaves the old file, or none; a task executed twice leaves the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, atomically; NaN and infinities are errors since JSON has none."""
    with replace_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def checksum(path: Path) -> str:
    """`xxh128:<hex>` of a file's bytes."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"xxh128:{digest.hexdigest()}"


def fingerprint(content: Any) -> str:
    """Hash of JSON-like content; the order of keys does not matter."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return xxhash.xxh3_128_hexdigest(canonical.encode())
