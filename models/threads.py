"""How many threads compute, and how matrix products share them.

Where each thread has events of its own, a matrix product that starts further threads only gets in their way.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import OpenBLASController, ThreadpoolController

__all__ = ["cores", "single_matrix_threads", "threads_asked"]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_asked() -> int | None:
    """OMP_NUM_THREADS, which Dask sets to 1 for its workers; nothing if it is not set."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else None


class _Limit:
    """How many ask for matrix products of one thread; the last one puts back what the first one found.

    threadpoolctl lets one thread alone change OpenBLAS and passes silently over what others ask for. Here first and
    last may be any two threads, and the lock sees to it that they do not get in each other's way.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.holders = 0
        self.limit: Any = None

    def enter(self) -> None:
        with self.lock:
            if not self.holders:
                OpenBLASController.clear_controlling_thread(force=True)
                self.limit = _libraries().limit(limits=1)
            self.holders += 1

    def leave(self) -> None:
        with self.lock:
            self.holders -= 1
            if not self.holders:
                OpenBLASController.clear_controlling_thread(force=True)
                self.limit.restore_original_limits()
                OpenBLASController.clear_controlling_thread(force=True)


_LIMIT = _Limit()


@cache
def _libraries() -> ThreadpoolController:
    """NumPy's library of matrix products, and those of others that are loaded when first asked."""
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def single_matrix_threads() -> Iterator[None]:
    """Matrix products of NumPy, in all threads of this process, take one thread each while a block runs.

    Blocks may overlap in several threads. Libraries that threadpoolctl does not know keep their threads.
    """
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()
