"""What the command line does for every verb: flags become a configuration, errors one sentence and an exit status."""

import difflib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fileset.configuration import read_configuration
from fileset.exceptions import FailureError, InputError
from processors.redaction import redacted_text
from report.analysis import Analysis
from report.flags import FLAGS, Flags

if TYPE_CHECKING:
    from processors.workers import Workers

__all__ = ["Verbs", "taking_flags"]


# What a shell makes of SIGINT, 128 + 2.
_STOPPED = 130


class Verbs(click.Group):
    """Suggests the right verb for a wrong one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the verb, or names the one that was probably meant."""
        name = args[0] if args else ""
        if name not in self.commands and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.commands, n=1)
            hint = f"did you mean {near[0]}?" if near else f"verbs are {', '.join(self.commands)}"
            ctx.fail(f"no verb {name!r}: {hint}")
        return super().resolve_command(ctx, args)


def _set_up_logging(*, debug: bool) -> None:
    """What libraries say goes through logging; only with --debug is all of it shown."""
    logging.basicConfig(
        level=logging.INFO if debug else logging.ERROR, format="%(message)s", stream=sys.stderr
    )
    logging.captureWarnings(True)
    for room in ("fileset", "processors", "models", "report"):
        logging.getLogger(room).setLevel(logging.DEBUG if debug else logging.INFO)
    if not debug:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        sys.excepthook = _one_line


def _one_line(kind: type[BaseException], error: BaseException, _: object) -> None:
    """An error that nobody foresaw, without its traceback."""
    click.secho(
        f"error: {kind.__name__}: {redacted_text(str(error))} (--debug tells more)", fg="red", err=True
    )


def _workers(analysis: Analysis) -> "Workers":
    from processors.progress import Watch  # noqa: PLC0415 - --help must be quick
    from processors.workers import Workers  # noqa: PLC0415
    from report import terminal  # noqa: PLC0415

    return Workers(analysis.execution, Watch(bar=terminal.events_bar))


def taking_flags(body: Callable[[Analysis, "Workers"], None], table: Flags = FLAGS) -> Callable[..., None]:
    """Turns a function of an Analysis into a click command body with the flags of a table."""

    def command(config: Path | None, debug: bool, **flags: Any) -> None:
        _set_up_logging(debug=debug)
        try:
            given = {
                setting: list(value) if isinstance(value, tuple) else value
                for flag, (setting, _) in table.items()
                if (value := flags[flag.removeprefix("--").replace("-", "_")]) is not None
                and value is not False
                and value != ()
            }
            analysis = read_configuration(Analysis, config, given)
            click.get_current_context().obj = config, given
            for region in analysis.regions:
                analysis.region(region)
            with _workers(analysis) as workers:
                body(analysis, workers)
        except (InputError, FailureError, OSError) as error:
            if debug:
                raise
            text = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error)
            click.secho(f"error: {redacted_text(text)}", fg="red", err=True)
            sys.exit(2 if isinstance(error, InputError) else 1)
        except KeyboardInterrupt:
            if debug:
                raise
            click.secho("stopped: run the same command again, it goes on", fg="red", err=True)
            sys.exit(_STOPPED)

    for flag, (_, how) in reversed(table.items()):
        command = click.option(flag, default=None, **how)(command)
    command = click.option("--debug", is_flag=True, help="show tracebacks and every message")(command)
    return click.option(
        "--config", type=click.Path(path_type=Path), help="configuration file; `config init` writes one"
    )(command)
