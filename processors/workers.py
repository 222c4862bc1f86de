"""Who does the work: this process, a pool of processes or a Dask cluster; one flag chooses."""

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fileset.exceptions import FailureError, InputError
from processors.progress import Watch, tidily
from processors.redaction import redacted_text
from processors.settings import ExecutionSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coffea.processor.executor import ExecutorBase

    from processors.readiness import Look

__all__ = ["Workers"]

logger = logging.getLogger(__name__)

# They print tracebacks of what comes back as an exception too.
_LOUD = ("distributed", "distributed.client", "distributed.utils", "tornado.application", "asyncio")


class Workers:
    """The workers of one run: started when first needed, shared by all stages, stopped at the end.

    A context manager. Stages ask it for coffea executors, everything else for a `map`. Before the first task it looks
    whether a Dask cluster is fit for it.

    Args:
        settings: where and how the work is done.
        watch: hears how the work goes.
        own: functions of the user's own, "module:function", whose modules a Dask cluster needs too.
    """

    def __init__(
        self, settings: ExecutionSettings, watch: Watch | None = None, own: tuple[str, ...] = ()
    ) -> None:
        for what, given in (
            ("a scheduler", settings.scheduler),
            ("a site", settings.site),
            ("a performance report", settings.performance_report),
        ):
            if given is not None and settings.executor != "dask":
                message = (
                    f"{what} ({redacted_text(str(given))}) needs the executor dask, not {settings.executor}"
                )
                raise InputError(message)
        # A site that makes no sense is told before anything starts.
        if settings.sites or settings.executor == "dask":
            from processors.sites import site_of, sites_known  # noqa: PLC0415 - only where there are any

            sites_known(settings)
            if settings.executor == "dask":
                site_of(settings)
        self.settings = settings
        self.watch = watch or Watch()
        self.own = own
        self._stack = ExitStack()
        self._looks: list[Look] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._stack.close()
        except TimeoutError as error:
            # What was asked for is done and written; workers that are slow to stop take nothing of it away.
            logger.warning("the workers did not stop in time: %s", error)

    @cached_property
    def _pool(self) -> ProcessPoolExecutor:
        # Forking a process that runs threads of TensorFlow can deadlock: spawn.
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.settings.n_workers, spawn, initializer=_end_with_parent)
        return self._stack.enter_context(pool)

    @cached_property
    def _client(self) -> Any:
        import dask  # noqa: PLC0415 - only where Dask is used
        import distributed  # noqa: F401, PLC0415 - its defaults, before they are changed

        from processors.sites import connected  # noqa: PLC0415

        # Workers that stop in the right order still complain; what matters comes back as an exception.
        with dask.config.set({"logging.distributed": "critical"}):
            if not logging.getLogger().isEnabledFor(logging.INFO):  # as with --debug
                for name in _LOUD:
                    logging.getLogger(name).setLevel(logging.CRITICAL)
            client = self._stack.enter_context(connected(self.settings))
        logger.info("Dask dashboard: %s", client.dashboard_link)
        if self.settings.performance_report is not None:
            self._stack.enter_context(_performance_report(self.settings.performance_report))
        return client

    @property
    def client(self) -> Any:
        """The Dask client, started when first asked for; None where no Dask is used."""
        return self._client if self.settings.executor == "dask" else None

    def look_first(
        self,
        *,
        output: Path | None = None,
        inputs: Mapping[str, str] | None = None,
        scoring: bool = False,
    ) -> "list[Look]":
        """Looks whether a Dask cluster is fit for the run, once; later calls give the same answer.

        Args:
            output: directory that every worker will write to.
            inputs: dataset -> a file of it that a worker must be able to read.
            scoring: models will be used, so their library must be there.

        Returns:
            What was seen; nothing where no Dask is used.

        Raises:
            NotReadyError: something is missing; it says everything that is.
            FailureError: the scheduler is lost.
        """
        from processors.readiness import check_workers  # noqa: PLC0415 - only where Dask is used

        if self._looks is None and self.settings.executor == "dask":
            client, timeout = self._client, self.settings.timeout
            try:
                self._looks = check_workers(
                    client, output=output, inputs=inputs, scoring=scoring, timeout=timeout, own=self.own
                )
            except OSError as error:
                raise _lost(client, error) from error
        return self._looks or []

    def executor(self, description: str) -> "ExecutorBase":
        """A coffea executor; the description stands beside its progress bar, and `run_chunks` tries again."""
        from processors.dispatch import DaskChunks, IterativeChunks, PoolChunks  # noqa: PLC0415 - imports coffea

        if self.settings.executor == "dask":
            self.look_first()
            return DaskChunks(client=self._client, desc=description, watch=self.watch)
        if self.settings.executor == "futures":
            return PoolChunks(
                pool=self._pool,
                workers=self.settings.n_workers,
                renew=self._new_pool,
                desc=description,
                watch=self.watch,
            )
        return IterativeChunks(desc=description, watch=self.watch)

    def _new_pool(self, broken: Executor) -> ProcessPoolExecutor:
        """A pool in place of one that broke when a process of it died."""
        if self._pool is broken:
            del self._pool
        return self._pool

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[Any]:
        """Like the builtin `map`, by the workers; results keep their order.

        Raises:
            FailureError: the Dask scheduler is lost, or all its workers are.
        """
        function = partial(tidily, function)
        if self.settings.executor == "dask":
            self.look_first()
            from distributed.client import FutureCancelledError  # noqa: PLC0415 - only where Dask is used
            from distributed.comm.core import CommClosedError  # noqa: PLC0415

            from processors.patience import DesertedError, Presence  # noqa: PLC0415

            client = self._client
            try:
                return Presence(client).gathered(client.map(function, list(items), pure=False))
            except (CommClosedError, FutureCancelledError) as error:
                raise _lost(client, error) from error
            except DesertedError as error:
                message = f"{redacted_text(str(error))}: look at its workers and run again"
                raise FailureError(message) from error
        if self.settings.executor == "futures":
            return self._pool.map(function, items)
        return map(function, items)


def _lost(client: Any, error: BaseException) -> FailureError:
    from processors.dispatch import cause_of  # noqa: PLC0415 - imports coffea

    address = redacted_text(str(client.scheduler.address))
    return FailureError(
        f"the Dask scheduler {address} was lost ({redacted_text(cause_of(error))}): start it again and run again"
    )


def _end_with_parent() -> None:
    """Lets a process of a pool end when the one that started it is gone.

    Nobody tells it so: a client that is killed closes no queue, and its processes would wait for work for ever. The
    kernel's own signal for this (PR_SET_PDEATHSIG) comes when the thread that started them ends, which is too early.
    """
    threading.Thread(target=_outlive_nobody, name="end-with-parent", daemon=True).start()


def _outlive_nobody() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _performance_report(path: Path) -> "Iterator[None]":
    """Dask's own report of all that its workers do meanwhile; a cluster that is lost at the end leaves none."""
    from distributed import performance_report  # noqa: PLC0415 - only where Dask is used

    path.parent.mkdir(parents=True, exist_ok=True)
    report = performance_report(filename=str(path))
    report.__enter__()
    try:
        yield
    finally:
        try:
            report.__exit__(None, None, None)
        except (OSError, ValueError, RuntimeError, TimeoutError) as error:
            logger.warning("no performance report could be written: %s", error)
