"""Who does the work: one flag chooses, and a Dask cluster is looked at once before it gets any."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed.comm.core import CommClosedError

from fileset.exceptions import FailureError, InputError
from processors import readiness
from processors.settings import ExecutionSettings, SiteSettings
from processors.workers import Workers

pytestmark = pytest.mark.xdist_group("dask")


@pytest.fixture(scope="module")
def looked_at() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, looked_at: list[dict[str, Any]]
) -> Iterator[tuple[Workers, Path]]:
    """A local cluster that writes Dask's report of it at the end."""
    report = tmp_path_factory.mktemp("report") / "new" / "performance.html"
    settings = ExecutionSettings(
        executor="dask", workers=2, performance_report=report, site_options=SiteSettings(memory="1GiB")
    )
    look = readiness.check_workers

    def counted(client: Any, **what: Any) -> Any:
        looked_at.append(what)
        return look(client, **what)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readiness, "check_workers", counted)
        with Workers(settings) as workers:
            yield workers, report
    text = report.read_text(encoding="utf-8")
    assert "Dask Performance Report" in text or "bokeh" in text.lower()


def test_the_local_cluster_has_a_thread_and_a_limit_of_memory_for_each_worker(
    cluster: tuple[Workers, Path],
) -> None:
    workers, _ = cluster
    info = workers.client.scheduler_info()["workers"]
    assert [(worker["nthreads"], worker["memory_limit"]) for worker in info.values()] == [(1, 2**30)] * 2


def test_the_cluster_is_looked_at_once_before_the_first_task(
    cluster: tuple[Workers, Path], looked_at: list[dict[str, Any]], tmp_path: Path
) -> None:
    workers, _ = cluster
    assert list(workers.map(abs, [-3, 2, -1])) == [3, 2, 1]
    workers.executor("something")
    looks = workers.look_first(output=tmp_path)
    assert len(looked_at) == 1
    assert not any(look.failures for look in looks)


def test_a_lost_scheduler_is_told_with_the_remedy(
    cluster: tuple[Workers, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers, _ = cluster

    def lost(*_: Any, **__: Any) -> Any:
        raise CommClosedError

    told = r"^the Dask scheduler tcp://127.0.0.1:\d+ was lost \(.*\): start it again and run again$"
    with monkeypatch.context() as patch:
        patch.setattr(workers.client, "gather", lost)
        with pytest.raises(FailureError, match=told):
            workers.map(abs, [1])
        patch.setattr(workers.client, "run_on_scheduler", lost)
        patch.setattr(workers, "_looks", None)
        with pytest.raises(FailureError, match=told):
            workers.look_first()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"site": "slrum"}, r"did you mean slurm\?"),
        ({"sites": {"mine": SiteSettings(cores=2)}}, "site mine has no kind"),
        ({"performance_report": Path("x.html")}, "a performance report .* needs the executor dask"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_starts(content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Workers(ExecutionSettings(**content))


def test_without_dask_there_is_no_client_and_nothing_to_look_at(tmp_path: Path) -> None:
    with Workers(ExecutionSettings()) as workers:
        assert workers.client is None
        assert workers.look_first(output=tmp_path / "never") == []
    assert not (tmp_path / "never").exists()


def test_a_performance_report_is_one_of_dask(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"a performance report \(.*\) needs the executor dask, not iterative"
    ):
        Workers(ExecutionSettings(performance_report=tmp_path / "report.html"))


CLIENT = """
import time

from processors.settings import ExecutionSettings
from processors.workers import Workers


def sleep(_: int) -> None:
    print("asleep", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    with Workers(ExecutionSettings(executor="futures", workers=2)) as workers:
        list(workers.map(abs, range(20)))
        list(workers.map(sleep, [0]))
"""


def test_the_processes_of_a_killed_client_end_whether_they_work_or_wait(tmp_path: Path) -> None:
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=where, start_new_session=True
    ) as client:
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == "asleep\n"
            os.kill(client.pid, signal.SIGKILL)
            # Each process holds this end of the pipe for as long as it lives.
            client.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(client.pid, signal.SIGKILL)
            raise
