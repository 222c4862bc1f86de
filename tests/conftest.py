"""What tests of several rooms share: where the real files are, and the command line as a user runs it."""

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

# Test modules import Keras while they are collected; XRootD's library must come first, as models.backend sees to.
if find_spec("XRootD") is not None:
    import_module("XRootD.client")

REPOSITORY = Path(__file__).parents[1]
REAL_FILES = REPOSITORY.parent / "shared" / "data" / "open-data-2020" / "4lep"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run_analysis() -> Run:
    """Runs `run_analysis.py` with the given arguments in a process of its own."""

    def run(*arguments: object, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(REPOSITORY / "run_analysis.py"), *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, cwd=REPOSITORY
        )

    return run


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls the command line in this process, as far as nothing heavy is needed."""
    from run_analysis import main  # noqa: PLC0415 - only where it is called

    monkeypatch.setattr("report.command_line.set_up_logging", lambda _: None)
    monkeypatch.setattr("sys.excepthook", sys.excepthook)

    def call(*arguments: object, **environment: str) -> Result:
        return CliRunner(env=environment).invoke(
            main, [str(a) for a in arguments], prog_name="run_analysis.py"
        )

    return call


@pytest.fixture(autouse=True)
def _no_client_outlives_its_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Clients that lost their scheduler close when they are collected, which waits for ever while another one starts.

    `Client.__del__` wants the lock that `LoopRunner.start` holds until the new thread runs, and the collector may be at
    work in that thread. So it is at work here.
    """
    yield
    if "distributed" in sys.modules and request.node.get_closest_marker("xdist_group"):
        gc.collect()


@pytest.fixture
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Handlers and levels are put back, and the process looks as if none had been set up."""
    root = logging.getLogger()
    names = ("fileset", "processors", "models", "report", "matplotlib")
    levels = {name: logging.getLogger(name).level for name in ("", *names)}
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr("sys.excepthook", sys.excepthook)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    yield
    logging.captureWarnings(capture=False)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def require() -> Callable[[object, str], None]:
    """Skips a test whose need is not met; in continuous integration, where all must be there, it fails."""

    def require(need: object, reason: str) -> None:
        if need:
            return
        if os.environ.get("CI"):
            pytest.fail(f"{reason}, and a skip fails CI")
        pytest.skip(reason)

    return require


@pytest.fixture(scope="session")
def real_files() -> Path:
    """The real files of the 2020 release."""
    if not REAL_FILES.is_dir():
        pytest.skip(f"real files of the release are not at {REAL_FILES}")
    return REAL_FILES


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the source distribution of this checkout."""
    directory = tmp_path_factory.mktemp("distributions")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(directory)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
    return directory
