"""Who does the work: this process, a pool of processes or a Dask cluster; one flag chooses."""

import logging
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from typing import Any, Self, cast

from coffea.processor.executor import ExecutorBase

from fileset.exceptions import FailureError, InputError
from processors.execution import cause_of
from processors.progress import Watch, WatchedDask, WatchedFutures, WatchedIterative
from processors.settings import ExecutionSettings

__all__ = ["Workers"]

logger = logging.getLogger(__name__)


class Workers:
    """The workers of one run: started when first needed, shared by all stages, stopped at the end.

    A context manager. Stages ask it for coffea executors, everything else for a `map`.
    """

    def __init__(self, settings: ExecutionSettings, watch: Watch | None = None) -> None:
        if settings.scheduler is not None and settings.executor != "dask":
            message = f"a scheduler ({settings.scheduler}) needs the executor dask, not {settings.executor}"
            raise InputError(message)
        self.settings = settings
        self.watch = watch or Watch()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        # Forking a process that runs threads of TensorFlow can deadlock: spawn.
        spawn = multiprocessing.get_context("spawn")
        return self._stack.enter_context(ProcessPoolExecutor(self.settings.n_workers, spawn))

    @cached_property
    def _client(self) -> Any:
        import dask  # noqa: PLC0415 - only where Dask is used
        from distributed import Client, LocalCluster  # noqa: PLC0415

        address = self.settings.scheduler
        # Workers that stop in the right order still complain; what matters comes back as an exception.
        with dask.config.set({"logging.distributed": "critical"}):
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
            if address is None:
                address = self._stack.enter_context(
                    LocalCluster(
                        n_workers=self.settings.n_workers,
                        threads_per_worker=1,
                        host="127.0.0.1",
                        dashboard_address="127.0.0.1:0",
                        silence_logs=logging.CRITICAL,
                    )
                )
            try:
                client = self._stack.enter_context(Client(address, timeout="30s"))
            except (OSError, ValueError) as error:
                message = f"no Dask scheduler answers at {address}: {cause_of(error)}"
                raise FailureError(message) from error
        logger.info("Dask dashboard: %s", client.dashboard_link)
        return client

    def executor(self, description: str) -> ExecutorBase:
        """A coffea executor; the description stands beside its progress bar.

        It tries nothing again but what a Dask worker took with it when it died: `run_chunks` does.
        """
        if self.settings.executor == "dask":
            return WatchedDask(client=self._client, retries=1, desc=description, watch=self.watch)
        if self.settings.executor == "futures":
            # Merged by the pool, in batches of batches: this process would unpack and pack all of it for every chunk.
            return WatchedFutures(
                pool=self._pool, retries=0, merging=True, desc=description, watch=self.watch
            )
        return WatchedIterative(retries=0, desc=description, watch=self.watch)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[Any]:
        """Like the builtin `map`, by the workers; results keep their order."""
        if self.settings.executor == "dask":
            return cast("list[Any]", self._client.gather(self._client.map(function, list(items), pure=False)))
        if self.settings.executor == "futures":
            return self._pool.map(function, items)
        return map(function, items)
