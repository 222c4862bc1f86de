"""Sites: a table that a person can add to; what is asked for in vain is said at once."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from dask_jobqueue.htcondor import HTCondorJob
from dask_jobqueue.slurm import SLURMJob

from fileset.configuration import read_configuration
from fileset.exceptions import FailureError, InputError
from processors import sites
from processors.settings import ExecutionSettings, SiteSettings
from processors.sites import connected, site_of, sites_known
from processors.workers import Workers

SHIPPED = ("local", "coffea-casa", "gateway", "slurm", "htcondor", "lxplus")


def configured(tmp_path: Path, **content: Any) -> ExecutionSettings:
    path = tmp_path / "analysis.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_configuration(ExecutionSettings, path, {})


def test_six_sites_are_shipped_and_each_is_documented() -> None:
    known = sites_known(ExecutionSettings())
    assert tuple(known) == SHIPPED
    page = (Path(__file__).parents[2] / "docs" / "facilities.md").read_text(encoding="utf-8")
    for name, site in known.items():
        assert site.about
        assert f"| `{name}` |" in page
    assert known["coffea-casa"].address == "tls://localhost:8786"


def test_a_site_or_a_scheduler_means_dask() -> None:
    assert ExecutionSettings(site="slurm").executor == "dask"
    assert ExecutionSettings(scheduler="tcp://127.0.0.1:1").executor == "dask"
    # What `config init` writes is no wish.
    assert ExecutionSettings(executor="iterative", site="slurm").executor == "dask"
    assert ExecutionSettings().executor == "iterative"
    with pytest.raises(InputError, match=r"a site \(slurm\) needs the executor dask, not futures"):
        Workers(ExecutionSettings(executor="futures", site="slurm"))
    with pytest.raises(InputError, match="were given: give one"):
        site_of(ExecutionSettings(site="slurm", scheduler="tcp://127.0.0.1:1"))


def test_a_site_may_be_changed_in_part_and_once() -> None:
    execution = ExecutionSettings(
        site="slurm",
        sites={"slurm": SiteSettings(queue="short", memory="4GB")},
        site_options=SiteSettings(memory="5GB"),
        workers=7,
    )
    site = site_of(execution)
    assert (site.queue, site.memory, site.walltime, site.maximum) == ("short", "5GB", "02:00:00", 7)


def test_a_site_of_ones_own_is_like_another(tmp_path: Path) -> None:
    own = {"like": "lxplus", "queue": "longlunch", "directives": {"+Department": "x"}}
    site = site_of(configured(tmp_path, site="mine", sites={"mine": own}))
    assert (site.kind, site.queue, site.memory, site.port) == ("htcondor", "longlunch", "2GB", 8786)
    assert (site.directives or {}).keys() == {"+Department", "MY.IsDaskWorker", "MY.SpoolOnEvict"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"site": "slrum"}, r"site 'slrum' is none of local, .*, lxplus: did you mean slurm\?"),
        ({"site": "moon"}, "define it in the configuration under execution.sites"),
        ({"site": "mine", "sites": {"mine": {"cores": 2}}}, "site mine has no kind"),
        ({"site": "a", "sites": {"a": {"like": "b"}, "b": {"like": "a"}}}, "is like itself"),
        ({"site": "slurm", "site_options": {"image": "x"}}, "site slurm has no setting image"),
        ({"site": "slurm", "site_options": {"minimum": 30}}, "30 workers at least and 20 at most"),
        ({"sites": {"slurm": {"memmory": "3GB"}}}, r"line 3: unknown key .*did you mean memory\?"),
        ({"sites": {"slurm": {"minimum": 0}}}, r"sites.slurm.minimum = 0 is not allowed"),
        ({"sites": {"slurm": {"walltime": "2h"}}}, r"sites.slurm.walltime = '2h' is not allowed"),
        ({"sites": {"slurm": {"kind": "pbs"}}}, r"sites.slurm.kind = 'pbs' is not allowed"),
    ],
)
def test_nonsense_is_wrong_input(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        site_of(configured(tmp_path, **content))


@pytest.mark.parametrize(
    ("site", "module", "extra"),
    [("gateway", "dask_gateway", "gateway"), ("slurm", "dask_jobqueue.htcondor", "jobqueue")],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, site: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(FailureError, match=rf"pip install 'collider-anomalies\[{extra}\]'"),
        connected(ExecutionSettings(site=site)),
    ):
        pass


def test_no_scheduler_is_said_with_the_address_but_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "_CONNECT", 1)
    with (
        pytest.raises(
            FailureError, match=r"tcp://127.0.0.1:1 cannot be reached .*or correct the address"
        ) as told,
        connected(ExecutionSettings(scheduler="tcp://bob:s3cret@127.0.0.1:1")),
    ):
        pass
    assert "s3cret" not in str(told.value)
    with pytest.raises(InputError, match=r"a scheduler \(tcp://h:1\) needs the executor dask"):
        Workers(ExecutionSettings(executor="futures", scheduler="tcp://bob:s3cret@h:1"))


def job(settings: SiteSettings) -> dict[str, Any]:
    own = {"slurm": sites._slurm_only, "htcondor": sites._htcondor_only}[str(settings.kind)](settings)
    job = sites._job(settings) | own
    del job["scheduler_options"]
    return job


def test_a_job_of_slurm_asks_for_what_was_said() -> None:
    own = SiteSettings(
        queue="short", account="atlas", cores=4, memory="8GiB", directives={"--constraint": "x"}
    )
    site = site_of(ExecutionSettings(site="slurm", site_options=own))
    script = SLURMJob(scheduler="tcp://there:1", name="w", **job(site)).job_script()
    for line in ("-p short", "-A atlas", "--cpus-per-task=4", "--mem=8G", "-t 02:00:00", "--constraint=x"):
        assert f"#SBATCH {line}\n" in script
    assert "--nthreads 1 --memory-limit 2.00GiB --nworkers 4" in script


def test_a_job_of_lxplus_asks_for_what_the_batch_system_of_cern_wants() -> None:
    own = SiteSettings(image="/cvmfs/an/image", walltime="1-02:00:00", account="group_u_ATLAS")
    site = site_of(ExecutionSettings(site="lxplus", site_options=own))
    made = HTCondorJob(scheduler="tcp://there:1", name="w", **job(site))
    script = made.job_script()
    for line in (
        'MY.SingularityImage = "/cvmfs/an/image"',
        "MY.MaxRuntime = 93600",
        "accounting_group = group_u_ATLAS",
    ):
        assert f"{line}\n" in script
    assert "--worker-port 10000:10100" in script
    assert made.submit_command.split() == ["condor_submit", "-spool"]
    assert sites._job(site)["scheduler_options"]["port"] == 8786


def test_a_job_that_is_refused_ends_at_once_in_the_words_of_the_batch_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusal = "sbatch: error: invalid partition specified: nosuch"
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "{refusal}" >&2\nexit 1\n', encoding="utf-8")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    own = SiteSettings(like="slurm", wait=15, queue="nosuch", interface="lo")
    begin = time.monotonic()
    with (
        pytest.raises(FailureError, match=rf"^sbatch refuses the job \({refusal}\): check what it asks for"),
        connected(ExecutionSettings(site="mine", sites={"mine": own})),
    ):
        pass
    assert time.monotonic() - begin < 10.0


def test_ctrl_c_stays_an_interrupt_where_a_batch_system_is_used() -> None:
    program = (
        "import signal; from contextlib import ExitStack; from fileset.exceptions import FailureError\n"
        "from processors import sites; from processors.settings import SiteSettings\n"
        "sites.shutil.which = lambda _: None\n"
        "try: sites._batch(ExitStack(), SiteSettings(kind='slurm'))\n"
        "except FailureError: pass\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
