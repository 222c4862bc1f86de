"""Workers that installed our wheel: theirs is used where it is the same, and gives way where it is not."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from processors.settings import ExecutionSettings
from processors.split import split_of
from processors.workers import Workers

pytestmark = [pytest.mark.xdist_group("facilities"), pytest.mark.timeout(240)]


@pytest.fixture
def installed(distributions: Path, tmp_path: Path, python_without_us: tuple[str, str]) -> Mapping[str, str]:
    """Environment of a worker that has our wheel beside the other packages."""
    place = tmp_path / "installed"
    (wheel,) = distributions.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", place, wheel], check=True, capture_output=True, timeout=120)
    return {"PYTHONPATH": os.pathsep.join((str(place), python_without_us[1]))}


def test_a_worker_with_the_wheel_uses_its_own_copy(plain: Any, installed: Mapping[str, str]) -> None:
    plain.add_worker("one", env=installed)
    with Workers(ExecutionSettings(scheduler=plain.address)) as workers:
        looks = {look.what: look.seen for look in workers.look_first()}
        assert looks["packages"] == "shipped on the scheduler; installed on all 1 workers"
        future = workers.client.submit(split_of, [1, 2], [1, 1], [1, 2], seed=1)
        assert len(future.result(timeout=60)) == 2


def test_another_version_of_the_wheel_gives_way_to_ours(plain: Any, installed: Mapping[str, str]) -> None:
    place = Path(installed["PYTHONPATH"].split(os.pathsep)[0])
    (place / "processors" / "split.py").write_text("raise RuntimeError('another version')", encoding="utf-8")
    (about,) = place.glob("collider_anomalies-*.dist-info")
    metadata = (about / "METADATA").read_text(encoding="utf-8")
    (about / "METADATA").write_text(metadata.replace("\nVersion: ", "\nVersion: 99!", 1), encoding="utf-8")
    plain.add_worker("one", env=installed)
    with Workers(ExecutionSettings(scheduler=plain.address)) as workers:
        looks = {look.what: look.seen for look in workers.look_first()}
        assert looks["packages"] == "shipped on the scheduler and all 1 workers"
        (there,) = workers.client.run(version, "collider-anomalies").values()
        assert there == version("collider-anomalies")
        future = workers.client.submit(split_of, [1, 2], [1, 1], [1, 2], seed=1)
        assert len(future.result(timeout=60)) == 2
