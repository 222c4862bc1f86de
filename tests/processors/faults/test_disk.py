"""The output disk fills up: no half shard counts, the ledger is written all the same, more space is all it takes."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fileset.exceptions import FailureError
from processors.workers import Workers

pytestmark = pytest.mark.xdist_group("faults")

CHUNKSIZE = 60


def _mount(*options: object) -> bool:
    return subprocess.run(["mount", *map(str, options)], capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path, require: Callable[[object, str], None]) -> Iterator[Path]:
    """A file system of its own with 600 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    require(os.geteuid() == 0, "only root can mount a small disk")
    require(_mount("-t", "tmpfs", "-o", "size=600k", "tmpfs", place), "this container may not mount a disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_told_of_and_more_space_is_all_it_takes(
    sample: Any,
    select: Callable[..., dict[str, Any]],
    undisturbed: Any,
    outcome: Any,
    ledger_of: Any,
    chunks_of: Any,
    cluster: Workers,
    diary: Any,
    small_disk: Path,
) -> None:
    fileset, output = sample.fileset(CHUNKSIZE), small_disk / "out"
    expected = undisturbed(fileset)
    begun = len(diary.done())
    with pytest.raises(FailureError, match="No space left on device"):
        select(fileset, output, workers=cluster)
    ledger, done = ledger_of(output), set(diary.done()[begun:])
    assert 0 < len(ledger) < 11
    assert ledger.keys() < chunks_of(fileset)
    assert all("No space left on device" in cause for cause in ledger.values())
    assert len(done) == 11 - len(ledger)

    assert _mount("-o", "remount,size=50m", small_disk)
    result = select(fileset, output, workers=cluster)
    assert outcome(result, output) == expected
    again = diary.done()[begun + len(done) :]
    assert len(again) == len(ledger), "only what was missing"
