"""How much a call of the command line says, and in which colours: results, remarks, what libraries log, errors."""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = [
    "Call",
    "Loudness",
    "call",
    "conclude",
    "is_quiet",
    "set_up_logging",
    "taking_loudness",
    "tell",
    "tell_error",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_ROOMS = ("fileset", "processors", "models", "report")


class Loudness(IntEnum):
    """What is shown: errors and the last result; the course of the work; details; tracebacks and libraries too."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2
    DEBUG = 3


# Loudness -> the level of our own rooms, and of libraries.
_LEVELS = {
    Loudness.QUIET: (logging.ERROR, logging.ERROR),
    Loudness.NORMAL: (logging.INFO, logging.ERROR),
    Loudness.VERBOSE: (logging.DEBUG, logging.WARNING),
    Loudness.DEBUG: (logging.DEBUG, logging.INFO),
}


@dataclass
class Call:
    """What is known of a call of the command line.

    Args:
        loudness: how much it says.
        config: the configuration file.
        given: dotted name of a setting -> value that a flag or the environment gave it.
        sources: dotted name of a setting -> "environment <NAME>", where it was not the command line.
    """

    loudness: Loudness = Loudness.NORMAL
    config: Path | None = None
    given: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


def call() -> Call:
    """The present call; outside of the command line, as in a notebook, an ordinary one."""
    context = click.get_current_context(silent=True)
    return Call() if context is None else context.ensure_object(Call)


def is_quiet() -> bool:
    """Whether only errors and the last result are shown."""
    return call().loudness == Loudness.QUIET


def tell(text: str = "", *, fg: str | None = None) -> None:
    """A line for a person who watches; --quiet leaves it out."""
    if not is_quiet():
        click.secho(text, fg=fg, color=_colour())


def conclude(text: str) -> None:
    """The last result of a verb, which --quiet shows too."""
    click.secho(text, color=_colour())


def tell_error(text: str) -> None:
    """One line on the error stream."""
    click.secho(text, fg="red", err=True, color=_colour())


def _colour() -> bool | None:
    """None leaves it to click, which colours terminals only (https://no-color.org)."""
    return False if os.environ.get("NO_COLOR") else None


class _Echo(logging.Handler):
    """Messages on what is the error stream now: a bar that moves there is not torn."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            click.echo(self.format(record), file=sys.stderr)
        except BrokenPipeError:
            raise
        except (OSError, ValueError):  # the stream is closed or full
            self.handleError(record)


def set_up_logging(loudness: Loudness) -> None:
    """What rooms and libraries say goes through logging, each from its level on."""
    own, foreign = _LEVELS[loudness]
    root = logging.getLogger()
    if not any(isinstance(handler, _Echo) for handler in root.handlers):
        handler = _Echo()
        detailed = "%(asctime)s %(name)s: %(message)s" if loudness >= Loudness.VERBOSE else "%(message)s"
        handler.setFormatter(logging.Formatter(detailed, datefmt="%H:%M:%S"))
        root.addHandler(handler)
    root.setLevel(foreign)
    logging.captureWarnings(capture=True)
    for room in _ROOMS:
        logging.getLogger(room).setLevel(own)
    if loudness < Loudness.DEBUG:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _chosen(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or parameter.name is None:
        return
    told, wanted = context.ensure_object(Call), Loudness[parameter.name.upper()]
    if told.loudness not in {Loudness.NORMAL, wanted}:
        message = "give one of --quiet, --verbose and --debug"
        raise click.UsageError(message, context)
    told.loudness = wanted


def taking_loudness(command: _Command) -> _Command:
    """Gives a command --quiet, --verbose and --debug."""
    for names, explained in (
        (("--debug",), "show tracebacks and what libraries say"),
        (("-v", "--verbose"), "show details"),
        (("-q", "--quiet"), "show only errors and the last result"),
    ):
        command = click.option(
            *names, is_flag=True, expose_value=False, is_eager=True, callback=_chosen, help=explained
        )(command)
    return command
