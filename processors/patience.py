"""Waits for the workers of a Dask cluster: as long as somebody works, or may come, and no longer.

Dask itself waits for ever: a result that was lost with its worker is made again by the next one, whenever that comes.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

__all__ = ["LOOK", "PATIENCE", "DesertedError", "Presence", "address_of"]

# A cluster without any worker that runs is waited for this long: batch systems have queues [s].
PATIENCE = 600.0

# Between looks at what is done, and at the workers while nothing gets done [s].
LOOK, _LOOK_AT_WORKERS = 0.05, 2.0


class DesertedError(Exception):
    """No worker ran for as long as one was waited for."""


def address_of(client: Any) -> str:
    """Of the scheduler that a client is connected to."""
    scheduler = getattr(client, "scheduler", None)
    return str(getattr(scheduler, "address", "")) or "(closed)"


class Presence:
    """Whether there is anybody to wait for.

    Args:
        client: of the cluster.
        patience: time that is waited for a worker while there is none that runs [s].
    """

    def __init__(self, client: Any, patience: float = PATIENCE) -> None:
        self._client, self._patience = client, patience
        self._address = address_of(client)
        self.deserted = False
        # When somebody was last seen to work, or able to, and when that was last looked at.
        self._alive = self._looked = time.monotonic()

    def shown(self) -> None:
        """Something was done: somebody is there."""
        if not self.deserted:
            self._alive = time.monotonic()

    def nobody_left(self) -> str:
        """Why there is nobody to wait for; empty where somebody is."""
        if self._client.status == "closed":
            return f"the Dask scheduler {self._address} was lost"
        now = time.monotonic()
        if now - max(self._alive, self._looked) > min(_LOOK_AT_WORKERS, self._patience):
            self._looked = now
            try:
                workers = self._client.scheduler_info().get("workers", {}).values()
            except OSError:
                return ""  # futures tell of a lost scheduler
            if any(worker.get("status") == "running" for worker in workers):
                self._alive = now
        if now - self._alive > self._patience:
            self.deserted = True
            return f"no worker of the Dask scheduler {self._address} runs for {self._patience:g} s"
        return ""

    def gathered(self, futures: Sequence[Any]) -> list[Any]:
        """Results of tasks, in their order.

        Raises:
            DesertedError: there is nobody to wait for.
        """
        if not futures:
            return []
        self.shown()
        asked = asyncio.run_coroutine_threadsafe(
            self._client.gather(list(futures), errors="raise", asynchronous=True),
            self._client.loop.asyncio_loop,
        )
        while True:
            try:
                found: list[Any] = asked.result(timeout=LOOK)
            except TimeoutError:
                if asked.done():
                    raise
                if reason := self.nobody_left():
                    asked.cancel()
                    raise DesertedError(reason) from None
            else:
                return found
