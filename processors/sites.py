"""Where Dask workers run: a table of sites, and how each kind of them is reached.

What is particular of a site is data, in sites.yaml and in the configuration; what is particular of a kind is a row of
`_KINDS`. Passwords, tokens and certificates are Dask's own configuration's affair and never pass through here.
"""

import logging
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from fileset.exceptions import FailureError, InputError
from fileset.suggestion import did_you_mean
from processors.dispatch import cause_of
from processors.redaction import redacted_text
from processors.settings import ExecutionSettings, SiteSettings

__all__ = ["connected", "site_of", "sites_known"]

logger = logging.getLogger(__name__)

# How long a scheduler may take to answer [s].
_CONNECT = 30


# --- the table -------------------------------------------------------------------------------------------------


@cache
def _presets() -> dict[str, SiteSettings]:
    content = yaml.safe_load((files("processors") / "sites.yaml").read_text(encoding="utf-8"))
    return {name: SiteSettings.model_validate(preset) for name, preset in content.items()}


def sites_known(settings: ExecutionSettings) -> dict[str, SiteSettings]:
    """All sites by name: those shipped, then the user's own, each complete."""
    return {name: _resolved(name, settings) for name in dict.fromkeys((*_presets(), *settings.sites))}


def site_of(settings: ExecutionSettings) -> SiteSettings:
    """The site that the settings ask for, with everything that was said about it.

    Raises:
        InputError: there is no such site, it is asked for what it does not have, or it contradicts other settings.
    """
    if settings.scheduler is not None:
        if settings.site is not None:
            public = redacted_text(settings.scheduler)
            message = f"a scheduler ({public}) and a site ({settings.site}) were given: give one"
            raise InputError(message)
        return SiteSettings(kind="scheduler", address=settings.scheduler, wait=60)
    name = settings.site or "local"
    own = settings.site_options.model_dump(exclude_none=True)
    if settings.workers is not None:
        kind = str(_resolved(name, settings).kind)
        own.setdefault("cores" if kind == "local" else "maximum", settings.workers)
    site = _merged(_resolved(name, settings), own)
    _demand_sense(name, site, own)
    return site


def _resolved(name: str, settings: ExecutionSettings, seen: tuple[str, ...] = ()) -> SiteSettings:
    presets, own = _presets(), settings.sites
    if name not in presets and name not in own:
        known = dict.fromkeys((*presets, *own))
        hint = did_you_mean(name, known, otherwise="define it in the configuration under execution.sites")
        message = f"site {name!r} is none of {', '.join(known)}: {hint}"
        raise InputError(message)
    if name in seen:
        message = f"site {name} is like itself by way of {', '.join(seen)}: give it a kind instead"
        raise InputError(message)
    site = SiteSettings()
    for layer in (presets.get(name), own.get(name)):
        if layer is None:
            continue
        if layer.like is not None:
            site = _merged(_resolved(layer.like, settings, (*seen, name)), {})
        site = _merged(site, layer.model_dump(exclude_none=True, exclude={"like"}))
    if site.kind is None:
        message = f"site {name} has no kind: give it one ({', '.join(_KINDS)}), or say which site it is like"
        raise InputError(message)
    _demand_sense(name, site, (own[name] if name in own else SiteSettings()).model_dump(exclude_none=True))
    return site


def _merged(site: SiteSettings, own: Mapping[str, Any]) -> SiteSettings:
    # Mappings (directives, options) are merged too: who adds a line keeps the others.
    before = site.model_dump()
    both = {key: {**before[key], **own[key]} for key in own if isinstance(before[key], dict)}
    return SiteSettings.model_validate({**before, **own, **both, "like": None})


def _demand_sense(name: str, site: SiteSettings, own: Mapping[str, Any]) -> None:
    used = {"about", "kind", "like", "wait", *_KINDS[str(site.kind)].uses}
    for setting in own:
        if setting not in used:
            message = (
                f"site {name} has no setting {setting}, which a site of kind {site.kind} cannot use: it has "
                f"{', '.join(sorted(used - {'about', 'kind', 'like'}))}"
            )
            raise InputError(message)
    if site.minimum is not None and site.maximum is not None and site.minimum > site.maximum:
        message = f"site {name} keeps {site.minimum} workers at least and {site.maximum} at most: change one"
        raise InputError(message)


# --- how each kind is reached ----------------------------------------------------------------------------------


@contextmanager
def connected(settings: ExecutionSettings) -> Iterator[Any]:
    """The client of the cluster that the settings ask for, with a worker at least; what was started ends with it.

    Raises:
        InputError: see `site_of`.
        FailureError: an extra is not installed, nothing answers, or no worker comes.
    """
    site = site_of(settings)
    name = (
        f"site {settings.site}" if settings.site else redacted_text(settings.scheduler or "the local cluster")
    )
    kind = _KINDS[str(site.kind)]
    with ExitStack() as stack:
        try:
            client = kind.start(stack, site)
        except ModuleNotFoundError as error:
            message = f"{name} needs {error.name}: pip install 'collider-anomalies[{kind.extra}]'"
            raise FailureError(message) from error
        except (OSError, ValueError, RuntimeError) as error:
            message = f"{name} cannot be reached ({redacted_text(cause_of(error))}): {kind.unreached}"
            raise FailureError(message) from error
        try:
            client.wait_for_workers(1, timeout=site.wait or _CONNECT)
        except TimeoutError as error:
            message = f"no worker of {name} came within {site.wait or _CONNECT} s: {kind.without_workers}"
            raise FailureError(message) from error
        yield client


def _local(stack: ExitStack, site: SiteSettings) -> Any:
    from dask.system import CPU_COUNT  # noqa: PLC0415 - only where Dask is used
    from dask.utils import parse_bytes  # noqa: PLC0415
    from distributed import Client, LocalCluster  # noqa: PLC0415
    from distributed.system import MEMORY_LIMIT  # noqa: PLC0415

    # Both know the limits of a container.
    number = site.cores or CPU_COUNT
    with _deaf_to_interrupts():
        cluster = LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            memory_limit=parse_bytes(site.memory) if site.memory else MEMORY_LIMIT // number,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=site.local_directory,
            silence_logs=logging.CRITICAL,
        )
    return stack.enter_context(Client(stack.enter_context(cluster), timeout=_CONNECT))


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started meanwhile ignore Ctrl-C, which is for this one: it stops them in order."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say so
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _scheduler(stack: ExitStack, site: SiteSettings) -> Any:
    from dask import config  # noqa: PLC0415 - only where Dask is used
    from distributed import Client  # noqa: PLC0415

    address = str(site.address)
    absent = [key for key in _TLS if not config.get(f"distributed.comm.tls.{key}", None)]
    if address.startswith("tls://") and absent:
        message = (
            f"{redacted_text(address)} wants a certificate and Dask's configuration has no distributed.comm.tls."
            f"{{{', '.join(absent)}}}: name the files in ~/.config/dask/*.yaml or in "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE and its like"
        )
        raise FailureError(message)
    return stack.enter_context(Client(address, timeout=_CONNECT))


def _gateway(stack: ExitStack, site: SiteSettings) -> Any:
    import dask_gateway  # noqa: PLC0415 - an extra
    from aiohttp import ClientError  # noqa: PLC0415
    from distributed.utils import LoopRunner  # noqa: PLC0415

    # Objects of dask-gateway 2026.3 are closed once more when they are forgotten, which fails on a loop of their own.
    loop = LoopRunner()
    loop.start()
    # Who is asked, and by which password or token, is said in Dask's configuration (gateway.address, gateway.auth).
    try:
        gateway = stack.enter_context(dask_gateway.Gateway(site.address, loop=loop.loop))
        if site.cluster is not None:
            return stack.enter_context(stack.enter_context(gateway.connect(site.cluster)).get_client())
        cluster = stack.enter_context(gateway.new_cluster(**_gateway_options(gateway, site)))
        cluster.adapt(minimum=site.minimum, maximum=site.maximum)
        return stack.enter_context(cluster.get_client())
    except (dask_gateway.GatewayClusterError, dask_gateway.GatewayServerError, ClientError) as error:
        raise RuntimeError(str(error)) from error


def _gateway_options(gateway: Any, site: SiteSettings) -> dict[str, Any]:
    """What a new cluster is asked for, in the words that this gateway offers."""
    from dask.utils import parse_bytes  # noqa: PLC0415 - only where Dask is used

    offered = dict(gateway.cluster_options())
    asked = {"worker_cores": site.cores, "worker_memory": site.memory, "image": site.image}
    wanted = {option: value for option, value in asked.items() if value is not None} | (site.options or {})
    for option in wanted:
        if option not in offered:
            message = (
                f"the gateway lets nobody choose {option}: leave it out, its options are "
                f"{', '.join(offered) or 'none'}"
            )
            raise InputError(message)
    if site.memory is not None and isinstance(offered["worker_memory"], int | float):
        wanted["worker_memory"] = parse_bytes(site.memory) / 2**30  # where it is a number it is one of GiB
    return wanted


def _batch(stack: ExitStack, site: SiteSettings) -> Any:
    interrupted = signal.getsignal(signal.SIGINT)
    from dask_jobqueue.htcondor import HTCondorCluster  # noqa: PLC0415 - an extra
    from dask_jobqueue.slurm import SLURMCluster  # noqa: PLC0415
    from distributed import Client  # noqa: PLC0415

    if signal.getsignal(signal.SIGINT) is not interrupted:  # dask_jobqueue.runner makes Ctrl-C an exit with 0
        signal.signal(signal.SIGINT, interrupted)

    start, command, own = {
        "slurm": (SLURMCluster, "sbatch", _slurm_only),
        "htcondor": (HTCondorCluster, "condor_submit", _htcondor_only),
    }[str(site.kind)]
    if shutil.which(command) is None:
        message = f"{command} is not on this machine: log in where jobs of {site.kind} are submitted"
        raise FailureError(message)
    cluster = stack.enter_context(_stopped_at_last(start(**_job(site), **own(site))))

    async def submit() -> None:
        cluster.worker_spec.update(cluster.new_worker_spec())
        await cluster

    # Adaptive scaling would ask again and again for a job that is refused; the first one is seen to by ourselves.
    try:
        cluster.sync(submit)
    except RuntimeError as error:
        said = " ".join(str(error).rpartition("stderr:\n")[2].split()) or cause_of(error)
        message = (
            f"{command} refuses the job ({said}): check what it asks for (queue, account, walltime, memory)"
        )
        raise FailureError(message) from error
    cluster.adapt(minimum=site.minimum, maximum=site.maximum)
    return stack.enter_context(Client(cluster, timeout=_CONNECT))


@contextmanager
def _stopped_at_last(cluster: Any) -> Iterator[Any]:
    """A cluster that is closed at the end; what it has to say about jobs that were refused hides no other error."""
    from distributed.core import Status  # noqa: PLC0415 - only where Dask is used

    try:
        yield cluster
    finally:
        for job in cluster.workers.values():
            if job.status == Status.created:  # never started: closing would wonder
                job.status = Status.failed
        try:
            cluster.__exit__(None, None, None)
        except (AssertionError, RuntimeError) as error:
            logger.debug("the cluster was not closed in order", exc_info=error)
            cluster.status = (
                Status.closed
            )  # all that can be done was done: it need not complain when it is dropped


def _job(site: SiteSettings) -> dict[str, Any]:
    """Arguments that dask-jobqueue takes for every batch system; what is not given is its configuration's affair."""
    ports = ["--worker-port", site.worker_ports] if site.worker_ports else []
    given = {
        "cores": site.cores,
        "processes": site.cores,
        "memory": site.memory,
        "interface": site.interface,
        "python": site.python,
        "log_directory": site.log_directory,
        "local_directory": site.local_directory,
        "job_script_prologue": list(site.prologue) if site.prologue else None,
        "worker_extra_args": ports or None,
    }
    scheduler = {"dashboard_address": ":0"} | ({"port": site.port} if site.port else {})
    return {key: value for key, value in given.items() if value is not None} | {
        "scheduler_options": scheduler
    }


def _slurm_only(site: SiteSettings) -> dict[str, Any]:
    given = {
        "queue": site.queue,
        "account": site.account,
        "walltime": site.walltime,
        "job_extra_directives": [f"{k}={v}" if v else k for k, v in (site.directives or {}).items()] or None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _htcondor_only(site: SiteSettings) -> dict[str, Any]:
    directives = dict(site.directives or {})
    if site.image is not None:
        directives["MY.SingularityImage"] = f'"{site.image}"'
    if site.account is not None:
        directives["accounting_group"] = site.account
    if site.queue is not None:
        directives["MY.JobFlavour"] = f'"{site.queue}"'
    elif site.walltime is not None:
        directives["MY.MaxRuntime"] = str(_seconds(site.walltime))
    given = {
        "disk": site.disk,
        "job_extra_directives": directives or None,
        "submit_command_extra": list(site.submit) if site.submit else None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _seconds(walltime: str) -> int:
    days, _, clock = walltime.rpartition("-")
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    return int(days or 0) * 86_400 + hours * 3_600 + minutes * 60 + seconds


@dataclass(frozen=True)
class _Kind:
    """How sites of a kind are reached.

    `start` opens the client on a stack; `uses` names the settings that mean something there; the others are remedies.
    """

    start: Callable[[ExitStack, SiteSettings], Any]
    uses: frozenset[str]
    unreached: str
    without_workers: str
    extra: str = ""


_JOB = frozenset(
    {
        "account",
        "cores",
        "directives",
        "interface",
        "local_directory",
        "log_directory",
        "maximum",
        "memory",
        "minimum",
        "port",
        "prologue",
        "python",
        "queue",
        "walltime",
        "worker_ports",
    }
)
_KINDS: Mapping[str, _Kind] = {
    "local": _Kind(
        _local,
        frozenset({"cores", "memory", "local_directory"}),
        "free memory and ports, or use --executor iterative",
        "free memory and ports, or use --executor iterative",
    ),
    "scheduler": _Kind(
        _scheduler,
        frozenset({"address"}),
        "start the scheduler (dask scheduler), or correct the address",
        "start some (dask worker ADDRESS), or ask the facility for them",
    ),
    "gateway": _Kind(
        _gateway,
        frozenset({"address", "cluster", "options", "cores", "memory", "image", "minimum", "maximum"}),
        "check gateway.address and gateway.auth in Dask's configuration",
        "the gateway has no room now or its image is wrong; ask for less (cores, memory) or wait longer",
        "gateway",
    ),
    "slurm": _Kind(
        _batch,
        _JOB,
        "check what the job asks for and the ports of this machine",
        "see squeue --me and, with log_directory set, what the jobs say",
        "jobqueue",
    ),
    "htcondor": _Kind(
        _batch,
        _JOB | {"disk", "image", "submit"},
        "check what the job asks for and the ports of this machine",
        "see condor_q and, with log_directory set, what the jobs say",
        "jobqueue",
    ),
}

# What a client needs to show who it is and to know the scheduler, below distributed.comm.tls.
_TLS = ("ca-file", "client.cert", "client.key")
