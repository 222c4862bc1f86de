"""Workers die, run out of memory, are of another version; the scheduler dies: nothing is lost, nothing counts twice."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from fileset.exceptions import FailureError
from processors.dispatch import DaskChunks
from processors.execution import run_chunks
from processors.settings import ExecutionSettings
from processors.workers import Workers

pytestmark = pytest.mark.xdist_group("faults")

Select = Callable[..., dict[str, Any]]
Meanwhile = Callable[[Callable[[], None]], None]

CHUNKSIZE = 20


def test_a_worker_killed_three_times_changes_nothing(
    sample: Any,
    select: Select,
    expected: Any,
    outcome: Any,
    cluster: Workers,
    diary: Any,
    meanwhile: Meanwhile,
    tmp_path: Path,
) -> None:
    killed = []

    def killer() -> None:
        for number in (2, 7, 12):
            diary.wait_for(number)
            killed.append(diary.at_work()[0])
            os.kill(killed[-1], signal.SIGKILL)

    meanwhile(killer)
    result = select(sample.fileset(CHUNKSIZE), tmp_path / "out", workers=cluster)
    assert outcome(result, tmp_path / "out") == expected
    assert len(killed) == 3
    assert len(diary.lines("begun")) > 31, "what the dead had begun was begun again"


def test_all_workers_killed_and_replaced_change_nothing(
    sample: Any,
    select: Select,
    expected: Any,
    outcome: Any,
    cluster: Workers,
    diary: Any,
    meanwhile: Meanwhile,
    tmp_path: Path,
) -> None:
    def killer() -> None:
        diary.wait_for(4)
        for pid in diary.at_work():
            os.kill(pid, signal.SIGKILL)

    meanwhile(killer)
    result = select(sample.fileset(CHUNKSIZE), tmp_path / "out", workers=cluster)
    assert outcome(result, tmp_path / "out") == expected
    assert len({pid for pid, _ in diary.lines("done")}) > 2, "others went on"


def test_a_killed_process_of_a_pool_changes_nothing(
    sample: Any,
    select: Select,
    expected: Any,
    outcome: Any,
    diary: Any,
    meanwhile: Meanwhile,
    tmp_path: Path,
) -> None:
    def killer() -> None:
        diary.wait_for(4)
        os.kill(diary.at_work()[0], signal.SIGKILL)

    meanwhile(killer)
    with Workers(ExecutionSettings(executor="futures", workers=1)) as pool:
        result = select(sample.fileset(CHUNKSIZE), tmp_path / "out", workers=pool)
    assert outcome(result, tmp_path / "out") == expected


def test_a_chunk_done_twice_at_the_same_time_counts_once(
    sample: Any,
    select: Select,
    expected: Any,
    outcome: Any,
    cluster: Workers,
    diary: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def twice(items: Any, *others: Any, **how: Any) -> Any:
        return run_chunks([item for item in items for _ in range(2)], *others, **how)

    monkeypatch.setattr("processors.stages.select._BACKENDS", {"coffea": twice})
    result = select(sample.fileset(CHUNKSIZE), tmp_path / "out", workers=cluster)
    assert outcome(result, tmp_path / "out") == expected
    assert len(diary.done()) == 2 * len(set(diary.done())) == 62


def test_a_chunk_that_takes_all_memory_is_named_and_the_others_are_done(
    sample: Any,
    select: Select,
    expected: Any,
    outcome: Any,
    ledger_of: Any,
    facility: Any,
    diary: Any,
    tmp_path: Path,
) -> None:
    fileset, output = sample.fileset(CHUNKSIZE), tmp_path / "out"
    greedy = diary.directory / "361106.Zee.2lep_40.eats"
    greedy.touch()
    with facility.workers() as workers:
        with pytest.raises(
            FailureError, match=r"entries 40-60 of dataset 361106\.Zee\.2lep could not be done"
        ):
            select(fileset, output, workers=workers)
        ((_, _, start, stop), cause), *others = ledger_of(output).items()
        assert (start, stop, others) == (40, 60, [])
        assert "died" in cause
        assert "out of memory?" in cause
        assert len(diary.done()) == len(set(diary.done())) == 30

        greedy.unlink()
        result = select(fileset, output, workers=workers)
    assert outcome(result, output) == expected
    assert diary.done()[30:] == ["361106.Zee.2lep_40"], "only what was missing"


def test_a_worker_with_another_version_does_nothing(
    sample: Any,
    select: Select,
    expected: Any,
    outcome: Any,
    facility: Any,
    diary: Any,
    meanwhile: Meanwhile,
    tmp_path: Path,
) -> None:
    """It joins while the others work, as workers of an adaptive cluster do."""
    about = tmp_path / "other" / "numba-0.1.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n")
    late = []

    def join() -> None:
        diary.wait_for(1)
        late.append(facility.start_worker("--no-nanny", path=about.parents[1]))

    meanwhile(join)
    # Nothing else looks at versions here: what is tested is what comes with each chunk.
    with Client(facility.address) as client:
        result = select(sample.fileset(CHUNKSIZE), tmp_path / "out", workers=_Only(client))
    assert outcome(result, tmp_path / "out") == expected
    (worker,) = late
    worker.wait(60)
    assert worker.pid not in {pid for pid, _ in diary.lines("begun")}


class _Only:
    """Workers that are given to stages as they are."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.settings = ExecutionSettings(executor="dask")

    def executor(self, description: str) -> DaskChunks:
        return DaskChunks(client=self.client, desc=description)


def test_a_lost_scheduler_loses_nothing_that_was_done(
    sample: Any,
    select: Select,
    expected: Any,
    outcome: Any,
    ledger_of: Any,
    chunks_of: Any,
    facility: Any,
    diary: Any,
    meanwhile: Meanwhile,
    tmp_path: Path,
) -> None:
    fileset, output = sample.fileset(CHUNKSIZE), tmp_path / "out"

    def killer() -> None:
        diary.wait_for(8)
        facility.kill(facility.processes[0])

    meanwhile(killer)
    with facility.workers() as workers, pytest.raises(FailureError, match=r"more ranges could not be done"):
        select(fileset, output, workers=workers)
    ledger = ledger_of(output)
    assert ledger.keys() < chunks_of(fileset)
    assert all("scheduler" in cause for cause in ledger.values())
    before = set(diary.done())
    assert len(before) >= 8

    facility.stop()
    facility.start_scheduler()
    facility.start_worker()
    with facility.workers() as workers:
        result = select(fileset, output, workers=workers)
    assert outcome(result, output) == expected
    again = [chunk for chunk in diary.done() if chunk in before]
    assert len(again) - len(before) <= 1, "only what was in work when all was lost may have been done twice"
