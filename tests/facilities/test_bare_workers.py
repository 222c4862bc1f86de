"""Workers that nobody prepared: without our packages, with another copy of them, or with other versions."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import processors
from fileset.exceptions import FailureError
from processors.readiness import NotReadyError
from processors.settings import ExecutionSettings
from processors.split import split_of
from processors.workers import Workers

pytestmark = [pytest.mark.xdist_group("facilities"), pytest.mark.timeout(180)]


@pytest.fixture
def other_hist(tmp_path: Path, python_without_us: tuple[str, str]) -> dict[str, str]:
    """Environment in which hist has another version."""
    about = tmp_path / "other" / "hist-2.0.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hist\nVersion: 2.0.0\n", encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join((str(about.parent), python_without_us[1]))}


def test_whoever_comes_later_gets_the_packages_too(
    plain: Any, wait_until: Callable[..., Any], log_of: Callable[[str], list[str]], other_hist: dict[str, str]
) -> None:
    plain.add_worker("one")
    with Workers(ExecutionSettings(scheduler=plain.address)) as workers:
        looks = {look.what: look.seen for look in workers.look_first()}
        assert looks["packages"] == "shipped on the scheduler and all 1 workers"
        (one,) = workers.client.scheduler_info()["workers"]

        plain.add_worker("two")
        workers.client.wait_for_workers(2, timeout=60)
        (two,) = set(workers.client.scheduler_info()["workers"]) - {one}
        for address in (one, two):
            future = workers.client.submit(
                split_of, [1, 2], [1, 1], [1, 2], seed=1, workers=[address], pure=False
            )
            assert len(future.result(timeout=60)) == 2

        # One with other versions could give other results: it is told to go.
        log = plain.add_worker("three", env=other_hist)
        wait_until(lambda: log_of("came late, has hist 2.0.0"), "its farewell", log)
        wait_until(lambda: "Closing Nanny" in log.read_text(), "its end", log)
        assert set(workers.client.scheduler_info()["workers"]) == {one, two}


def test_a_worker_that_died_comes_back_with_the_packages(plain: Any) -> None:
    plain.add_worker("one")
    with Workers(ExecutionSettings(scheduler=plain.address)) as workers:
        client = workers.client
        workers.look_first()
        ((_, pid),) = client.run(os.getpid).items()
        os.kill(pid, signal.SIGKILL)
        future = client.submit(split_of, [1, 2], [1, 1], [1, 2], seed=1)
        assert len(future.result(timeout=90)) == 2
        assert set(client.run(os.getpid).values()) != {pid}


def test_another_copy_of_our_packages_gives_way_to_ours(
    plain: Any, tmp_path: Path, python_without_us: tuple[str, str]
) -> None:
    old = tmp_path / "old"
    for package in ("fileset", "processors", "models", "report"):
        source = Path(str(processors.__file__)).parents[1] / package
        shutil.copytree(source, old / package, ignore=shutil.ignore_patterns("*.root", "__pycache__"))
    (old / "processors" / "split.py").write_text("raise RuntimeError('an old copy')", encoding="utf-8")
    plain.add_worker("one", env={"PYTHONPATH": os.pathsep.join((str(old), python_without_us[1]))})
    with Workers(ExecutionSettings(scheduler=plain.address)) as workers:
        workers.look_first()
        future = workers.client.submit(split_of, [1, 2], [1, 1], [1, 2], seed=1)
        assert len(future.result(timeout=60)) == 2


def test_other_versions_are_refused_before_the_first_task(
    plain: Any, other_hist: dict[str, str], tmp_path: Path
) -> None:
    plain.add_worker("one", env=other_hist)
    with (
        pytest.raises(NotReadyError) as raised,
        Workers(ExecutionSettings(scheduler=plain.address)) as workers,
    ):
        workers.look_first(output=tmp_path / "output", inputs={"data_A": str(tmp_path / "nowhere.root")})
    message = str(raised.value)
    assert message.startswith("2 things are missing on the cluster:\n- hist is 2.0.0 on all 1 workers and ")
    assert f"{tmp_path}/nowhere.root of data_A cannot be read on tcp://127.0.0.1:" in message
    assert not (tmp_path / "output" / "shards").exists()


def test_a_scheduler_without_workers_is_said_so(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site = ExecutionSettings(
        site="mine", sites={"mine": {"kind": "scheduler", "address": plain.address, "wait": 1}}
    )
    with (
        pytest.raises(FailureError, match=r"no worker of site mine came within 1 s: start some"),
        Workers(site) as workers,
    ):
        workers.map(abs, [1])
