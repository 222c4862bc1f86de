"""At each kind of facility the selection gives what this process gives, although it has none of our packages."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.config
import distributed  # noqa: F401 - its defaults must be there before a test changes them
import pytest

from fileset.exceptions import FailureError
from processors.settings import ExecutionSettings, SiteSettings
from processors.workers import Workers

pytestmark = [pytest.mark.xdist_group("facilities"), pytest.mark.timeout(240)]

SameAsHere = Callable[[ExecutionSettings], dict[str, str]]


def test_a_scheduler_with_tls_gives_the_same(
    secured: Any, certificates: Any, same_as_here: SameAsHere
) -> None:
    with dask.config.set(certificates.configuration):
        seen = same_as_here(ExecutionSettings(scheduler=secured.address))
    assert seen["workers"].startswith("2 with 2 threads")
    assert seen["packages"] == "shipped on the scheduler and all 2 workers"


def test_without_a_certificate_nobody_connects(secured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.sites._CONNECT", 2)
    with (
        pytest.raises(FailureError, match=r"wants a certificate .* distributed.comm.tls.{ca-file, client"),
        Workers(ExecutionSettings(scheduler=secured.address)) as workers,
    ):
        workers.look_first()
    unsecured = secured.address.replace("tls://", "tcp://")
    with (
        pytest.raises(FailureError, match="cannot be reached"),
        Workers(ExecutionSettings(scheduler=unsecured)) as workers,
    ):
        workers.look_first()


def test_a_certificate_of_another_authority_does_not_connect(
    secured: Any, certificates: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.sites._CONNECT", 2)
    stranger = type(certificates)(tmp_path / "stranger")
    # It knows the scheduler; the scheduler does not know it.
    mixed = stranger.configuration | {"distributed.comm.tls.ca-file": str(certificates.ca)}
    with (
        dask.config.set(mixed),
        pytest.raises(FailureError, match="cannot be reached"),
        Workers(ExecutionSettings(scheduler=secured.address)) as workers,
    ):
        workers.look_first()


def test_a_gateway_gives_the_same(gateway: dict[str, Any], same_as_here: SameAsHere) -> None:
    site = SiteSettings(memory="1.5GiB", maximum=2, wait=60)
    with dask.config.set(gateway):
        seen = same_as_here(ExecutionSettings(site="gateway", site_options=site))
    assert "1.5 GB each" in seen["workers"] or "1.6 GB each" in seen["workers"]
    assert seen["packages"].startswith("shipped on the scheduler and all")


def test_a_gateway_says_what_cannot_be_chosen_and_who_is_not_let_in(gateway: dict[str, Any]) -> None:
    execution = ExecutionSettings(site="gateway", site_options=SiteSettings(image="ours:latest"))
    with (
        dask.config.set(gateway),
        pytest.raises(Exception, match="nobody choose image: leave it out, its options are worker_memory"),
        Workers(execution) as workers,
    ):
        workers.look_first()
    wrong = gateway | {"gateway.auth.kwargs": {"username": "root", "password": "a guess"}}
    with (
        dask.config.set(wrong),
        pytest.raises(FailureError, match=r"site gateway cannot be reached .*gateway.auth") as raised,
        Workers(ExecutionSettings(site="gateway")) as workers,
    ):
        workers.look_first()
    assert "a guess" not in str(raised.value)


def test_slurm_gives_the_same(
    slurm: Path, python_without_us: tuple[str, str], same_as_here: SameAsHere
) -> None:
    python, path = python_without_us
    site = SiteSettings(
        cores=1,
        memory="1GB",
        walltime="00:10:00",
        queue="physics",
        minimum=2,
        maximum=2,
        wait=90,
        interface="lo",
        python=python,
        prologue=(f"export PYTHONPATH={path}",),
        log_directory=str(slurm),
        local_directory=str(slurm),
    )
    seen = same_as_here(ExecutionSettings(site="slurm", sites={"slurm": site}))
    assert seen["workers"].endswith("1.0 GB each")
    # The scheduler of a batch system is in this process.
    assert "installed on the scheduler; shipped on" in seen["packages"]


def test_no_batch_system_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep)
    with (
        pytest.raises(FailureError, match="sbatch is not on this machine"),
        Workers(ExecutionSettings(site="slurm")) as workers,
    ):
        workers.look_first()
