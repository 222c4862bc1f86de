"""What a call prints: as much as was asked for, colours for terminals only, and no traceback whatever happens."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from fileset.exceptions import FailureError, InputError
from processors.lock import LOCK
from report.command_line import Verbs, taking_flags
from report.loudness import tell
from report.terminal import progress_bar, show_table

pytestmark = pytest.mark.neutral

REPOSITORY = Path(__file__).parents[1]
LOGGER = logging.getLogger("processors.anything")


@pytest.fixture
def verb(logging_as_before: None) -> Callable[..., Result]:
    """A verb that says everything that can be said, or fails."""

    def call(*arguments: str, error: BaseException | None = None, **environment: str) -> Result:
        def body(*_: object) -> str:
            LOGGER.debug("a detail")
            LOGGER.info("a remark")
            tell("the course", fg="yellow")
            show_table("A table", ("name", "number"), [("one", "1")])
            with progress_bar("working") as tick:
                tick(1, 1, "")
            if error is not None:
                raise error
            return "the result"

        verbs = Verbs("run-analysis", commands=[click.command("work")(taking_flags(body, {}, writes=False))])
        return CliRunner(env=environment).invoke(verbs, ["work", *arguments])

    return call


def test_by_default_the_course_of_the_work_is_shown(verb: Any) -> None:
    done = verb()
    assert done.exit_code == 0
    for said in ("a remark", "the course", "A table", "working", "the result"):
        assert said in done.output
    assert "a detail" not in done.output


def test_quiet_leaves_the_result_alone(verb: Any) -> None:
    done = verb("--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "the result\n", "")


def test_quiet_tells_errors(verb: Any) -> None:
    done = verb("-q", error=InputError("there is no such thing"))
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "error: there is no such thing\n")


def test_verbose_tells_details_and_of_whom(verb: Any) -> None:
    assert "processors.anything: a detail" in verb("--verbose").stderr
    assert "Traceback" not in verb("--verbose", error=FailureError("it broke")).output


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("no such region"), 2, "error: no such region"),
        (FailureError("a worker died"), 1, "error: a worker died"),
        (OSError(28, "No space left on device"), 1, "error: OSError: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, "stopped: run the same command again, it goes on"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_one_line_and_with_debug_a_traceback_too(
    verb: Any, error: BaseException, status: int, line: str
) -> None:
    done = verb("--quiet", error=error)
    assert (done.exit_code, done.stderr.strip()) == (status, line)
    done = verb("--debug", error=error)
    assert done.exit_code == status
    assert "Traceback" in done.stderr
    assert done.stderr.rstrip().endswith(line)


def test_secrets_are_in_no_traceback(verb: Any) -> None:
    done = verb("--debug", error=FailureError("https://me:secret@example.org cannot be reached"))
    assert "secret" not in done.output


def _in_a_terminal(*arguments: str, **environment: str) -> str:
    pexpect = pytest.importorskip("pexpect")
    return str(
        pexpect.run(
            f"{sys.executable} {REPOSITORY / 'run_analysis.py'} {' '.join(arguments)}",
            env={**os.environ, "TERM": "xterm", **environment},
            encoding="utf-8",
            timeout=60,
        )
    )


def test_colours_are_for_terminals_and_for_those_who_like_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert "\x1b[31merror" in _in_a_terminal("selct")
    assert "\x1b" not in _in_a_terminal("selct", NO_COLOR="1")


def test_a_pipe_gets_no_colours(command_line: Any) -> None:
    assert "\x1b" not in command_line("selct").output


_SLOW = """
import sys, time
sys.path.insert(0, {repository!r})
import run_analysis
from report.command_line import taking_flags
def body(analysis, workers):
    for number in range(10_000):
        print(f"line {{number}} " + "x" * 100, flush={flush})
        time.sleep({pause})
run_analysis.main.command("slow")(taking_flags(body))
run_analysis.main(prog_name="run_analysis.py")
"""


def _slow(tmp_path: Path, *, flush: bool, pause: float) -> subprocess.Popen[str]:
    code = _SLOW.format(repository=str(REPOSITORY), flush=flush, pause=pause)
    return subprocess.Popen(
        [sys.executable, "-c", code, "slow", "--output", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("flush", [True, False])
def test_a_closed_pipe_ends_the_run_without_a_word(tmp_path: Path, *, flush: bool) -> None:
    with _slow(tmp_path, flush=flush, pause=0) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (128 + signal.SIGPIPE, "")
    assert not (tmp_path / LOCK).exists()


def test_ctrl_c_ends_the_run_in_one_line_and_lets_the_output_go(tmp_path: Path) -> None:
    process = _slow(tmp_path, flush=True, pause=0.05)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (130, "stopped: run the same command again, it goes on")
    assert not (tmp_path / LOCK).exists()


def test_a_killed_run_holds_up_no_other_one_that_runs_does(tmp_path: Path, run_analysis: Any) -> None:
    first = _slow(tmp_path, flush=True, pause=0.05)
    assert first.stdout is not None
    first.stdout.readline()
    refused = run_analysis("fileset", "--output", tmp_path)
    assert refused.returncode == 2
    assert f"is in use by process {first.pid} on " in refused.stderr
    first.kill()
    first.communicate(timeout=60)
    assert (tmp_path / LOCK).exists()
    assert run_analysis("fileset", "--quiet", "--output", tmp_path).returncode == 0
    assert not (tmp_path / LOCK).exists()
