"""Real components of facilities on loopback: a scheduler with TLS, a dask-gateway server, a one-node Slurm.

Everything is started by the tests and stopped with them. Schedulers and workers outside of this process run an
interpreter that has all dependencies but none of our packages, as the image of a facility does.
"""

import datetime as dt
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from processors.readiness import one_file_each
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.stages.select import select_region
from processors.workers import Workers

Require = Callable[[object, str], None]

# Installed packages without the path to this checkout, which site adds; -P leaves the current directory out.
SITE_PACKAGES = os.pathsep.join(dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib")))
BARE_PYTHON = (sys.executable, "-S", "-P")
BARE = {"PYTHONPATH": SITE_PACKAGES}


@pytest.fixture(scope="session", autouse=True)
def _workers_lack_our_packages() -> None:
    probe = "import importlib.util as u; print([p for p in ('coffea', 'processors') if u.find_spec(p)])"
    found = subprocess.run(
        [*BARE_PYTHON, "-c", probe], env=os.environ | BARE, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "['coffea']", "the tests need an editable installation: pip install -e ."


# --- daemons ---------------------------------------------------------------------------------------------------


@contextmanager
def daemon(
    command: Sequence[object], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs meanwhile, and with it whatever it starts."""
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | (env or {}),
            cwd=cwd or log.parent,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
    process.wait(timeout=10)


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., Any]:
    """Waits for a true answer."""
    return wait_until


@pytest.fixture
def log_of(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """What was logged here and holds some words."""
    return lambda words: [message for message in caplog.messages if words in message]


def wait_until(ready: Callable[[], object], what: str, log: Path, seconds: float = 60) -> Any:
    """The first true answer; the end of the log says why there was none."""
    end = time.monotonic() + seconds
    while not (answer := ready()):
        if time.monotonic() > end:
            text = log.read_text(errors="replace")[-2000:] if log.is_file() else ""
            pytest.fail(f"{what} within {seconds} s did not come: {text}")
        time.sleep(0.2)
    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


# --- what is computed everywhere -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def demo() -> dict[str, Any]:
    """Some files of the demo sample, in chunks."""
    settings = FilesetSettings(fileset="demo", skim="3lep", dsids=(0, 361106, 363491, 900301))
    audit = check(resolve(settings, ("3L",)))
    return with_steps(audit.fileset, 400, audit.clusters)


def selected(fileset: dict[str, Any], output: Path, workers: Workers) -> dict[str, Any]:
    """Selects 3L; returns what must be the same everywhere: yields, and the checksums of all shards."""
    result = select_region(
        fileset,
        name="3L",
        region=REGIONS["3L"],
        weights=WeightSettings(),
        rmm=RMMSettings(),
        workers=workers,
        output=output,
    )
    assert result["ledger"]["missing"] == []
    manifest = json.loads((output / "shards" / "3L" / "manifest.json").read_text(encoding="utf-8"))
    return {"datasets": result["datasets"], "cuts": result["cuts"], "manifest": manifest}


@pytest.fixture(scope="session")
def here(demo: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The selection by this process alone."""
    with Workers(ExecutionSettings()) as workers:
        result = selected(demo, tmp_path_factory.mktemp("here"), workers)
    assert sum(book["selected"] for book in result["datasets"].values()) > 500
    return result


@pytest.fixture
def same_as_here(
    demo: dict[str, Any], here: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[ExecutionSettings], dict[str, str]]:
    """Looks first, selects at a site, and demands the very same result; returns what was seen."""

    def run(settings: ExecutionSettings) -> dict[str, str]:
        monkeypatch.chdir(tmp_path)
        output = Path("there")  # of this process; workers run elsewhere
        with Workers(settings) as workers:
            looks = workers.look_first(output=output, inputs=one_file_each(demo), scoring=True)
            result = selected(demo, output, workers)
        assert result == here
        assert not list(output.glob(".look*"))
        return {look.what: look.seen for look in looks}

    return run


# --- a scheduler with TLS --------------------------------------------------------------------------------------


class Certificates:
    """A certificate authority of the test's own, and what it issued: one certificate for all of Dask."""

    def __init__(self, directory: Path) -> None:
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

        directory.mkdir(parents=True)
        self.ca, self.cert, self.key = (directory / name for name in ("ca.pem", "cert.pem", "key.pem"))
        now = dt.datetime.now(dt.UTC)

        def issue(name: str, key: Any, issuer: str, signer: Any, *, ca: bool) -> bytes:
            def named(text: str) -> x509.Name:
                return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

            builder = (
                x509.CertificateBuilder()
                .subject_name(named(name))
                .issuer_name(named(issuer))
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - dt.timedelta(minutes=5))
                .not_valid_after(now + dt.timedelta(hours=2))
                .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
                .add_extension(
                    x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                    critical=False,
                )
            )
            return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

        authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.ca.write_bytes(issue("test authority", authority, "test authority", authority, ca=True))
        self.cert.write_bytes(issue("dask", own, "test authority", authority, ca=False))
        self.key.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.key.chmod(0o600)

    @property
    def arguments(self) -> tuple[object, ...]:
        """Of `dask scheduler` and `dask worker`."""
        return ("--tls-ca-file", self.ca, "--tls-cert", self.cert, "--tls-key", self.key)

    @property
    def configuration(self) -> dict[str, Any]:
        """Of a client, as it stands in Dask's configuration."""
        return {
            "distributed.comm.tls.ca-file": str(self.ca),
            "distributed.comm.tls.client.cert": str(self.cert),
            "distributed.comm.tls.client.key": str(self.key),
        }


class Scheduler:
    """A Dask scheduler in a process of its own, and the workers it is given."""

    def __init__(self, directory: Path, stack: ExitStack, certificates: Certificates | None = None) -> None:
        self.directory, self.stack = directory, stack
        self.security = certificates.arguments if certificates else ()
        self.log = directory / "scheduler.log"
        port, protocol = free_port(), "tls" if certificates else "tcp"
        self.address = f"{protocol}://127.0.0.1:{port}"
        address = ("--host", "127.0.0.1", "--port", port, "--protocol", protocol, "--no-dashboard")
        program = (*BARE_PYTHON, "-m", "distributed.cli.dask_scheduler")
        stack.enter_context(daemon((*program, *address, *self.security), self.log, env=BARE))
        wait_until(lambda: answers(port), "scheduler", self.log)

    def add_worker(self, name: str, *arguments: object, env: Mapping[str, str] | None = None) -> Path:
        """A worker with one thread; returns its log."""
        log = self.directory / f"{name}.log"
        program = (*BARE_PYTHON, "-m", "distributed.cli.dask_worker", self.address)
        options = ("--nthreads", 1, "--name", name, "--no-dashboard", "--host", "127.0.0.1")
        options += ("--local-directory", self.directory / "scratch", *arguments, *self.security)
        self.stack.enter_context(daemon((*program, *options), log, env={**BARE, **(env or {})}))
        return log


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Certificates:
    require(find_spec("cryptography"), "certificates are made with cryptography")
    return Certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Scheduler]:
    """A scheduler that speaks TLS only, with two workers."""
    with ExitStack() as stack:
        scheduler = Scheduler(tmp_path_factory.mktemp("secured"), stack, certificates)
        logs = [scheduler.add_worker(name) for name in ("one", "two")]
        for log in logs:
            wait_until(lambda log=log: "Registered to" in log.read_text(), "worker", log)
        yield scheduler


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Scheduler]:
    """A scheduler without TLS and without workers."""
    with ExitStack() as stack:
        yield Scheduler(tmp_path, stack)


# --- dask-gateway ----------------------------------------------------------------------------------------------

GATEWAY = """
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.DaskGateway.address = "127.0.0.1:{private}"
c.SimpleAuthenticator.password = "{password}"
c.Proxy.address = "127.0.0.1:{public}"
c.UnsafeLocalBackend.clusters_directory = "{directory}"
c.UnsafeLocalBackend.sigint_timeout = 3
c.ClusterConfig.scheduler_cmd = {python} + ["-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = {python} + ["-m", "distributed.cli.dask_worker"]
c.ClusterConfig.environment = {environment}
from dask_gateway_server.options import Float, Options
c.Backend.cluster_options = Options(
    Float("worker_memory", default=1.0, min=0.5, max=4.0),
    handler=lambda options: {{"worker_memory": "%f G" % options.worker_memory}},
)
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Iterator[dict[str, Any]]:
    """A dask-gateway server with its local backend; yields Dask's configuration of its clients."""
    require(find_spec("dask_gateway_server"), "dask-gateway-server is not installed")
    require(find_spec("sqlalchemy"), "the local backend of dask-gateway-server needs SQLAlchemy")
    require(find_spec("dask_gateway"), "dask-gateway is not installed")
    import_module("dask_gateway")  # its defaults must be in Dask's configuration before a test changes them
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "clusters").mkdir()
    public, private, password = free_port(), free_port(), "correct horse battery staple"
    (directory / "config.py").write_text(
        GATEWAY.format(
            public=public,
            private=private,
            password=password,
            directory=directory / "clusters",
            python=list(BARE_PYTHON),
            environment=BARE,
        ),
        encoding="utf-8",
    )
    log = directory / "server.log"
    command = (sys.executable, "-m", "dask_gateway_server", "-f", directory / "config.py")
    with daemon(command, log):
        wait_until(lambda: healthy(f"http://127.0.0.1:{public}/api/health"), "gateway", log)
        yield {
            "gateway.address": f"http://127.0.0.1:{public}",
            "gateway.auth.type": "basic",
            "gateway.auth.kwargs": {"username": "root", "password": password},
        }


# --- Slurm -----------------------------------------------------------------------------------------------------

SLURM = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=physics Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(require: Require) -> Iterator[Path]:
    """A Slurm of one node with two cores, this machine; yields the directory of its logs."""
    require(os.geteuid() == 0, "Slurm's daemons are started as root")
    require(shutil.which("slurmctld") and shutil.which("slurmd"), "Debian's slurm-wlm is not installed")
    require(shutil.which("munged"), "Debian's munge is not installed")
    # munged runs as its own user, to whom pytest's directories are closed.
    directory = Path(tempfile.mkdtemp(prefix="slurm-"))
    directory.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        for name in ("state", "spool"):
            (directory / name).mkdir()
        ports = (free_port(), free_port())
        config = directory / "slurm.conf"
        host = socket.gethostname().partition(".")[0]
        config.write_text(SLURM.format(directory=directory, host=host, ports=ports), encoding="utf-8")
        patch.setenv("SLURM_CONF", str(config))
        _start_munge(directory / "munge", stack)
        for name in ("slurmctld", "slurmd"):
            stack.enter_context(daemon((shutil.which(name), "-D", "-f", config), directory / f"{name}.out"))
        wait_until(_node_is_idle, "Slurm's node", directory / "slurmctld.log")
        stack.callback(subprocess.run, ["scancel", "--full", "--user", "root"], check=False, timeout=20)
        yield directory


def _start_munge(directory: Path, stack: ExitStack) -> None:
    directory.mkdir(mode=0o700)
    key = directory / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for path in (directory, key):
        shutil.chown(path, "munge", "munge")
    # Those who authenticate reach the socket through a directory that is theirs to enter.
    directory.chmod(0o711)
    files = {"key-file": key, "socket": directory / "socket", "pid-file": directory / "pid"}
    files |= {"log-file": directory / "log", "seed-file": directory / "seed"}
    options = [f"--{name}={path}" for name, path in files.items()]
    munged = ("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", shutil.which("munged"))
    log = directory.parent / "munged.out"
    stack.enter_context(daemon((*munged, "--foreground", "--force", *options), log, cwd=directory.parent))
    wait_until((directory / "socket").exists, "munge", log)


def _node_is_idle() -> bool:
    sinfo = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False, timeout=20
    )
    return sinfo.stdout.strip() == "idle"


@pytest.fixture(scope="session")
def python_without_us() -> tuple[str, str]:
    """Command of an interpreter that lacks our packages, and the PYTHONPATH that gives it the others."""
    return " ".join(BARE_PYTHON), SITE_PACKAGES
