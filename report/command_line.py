"""What the command line does for every verb: flags become a configuration, errors one sentence and an exit status."""

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fileset.configuration import read_configuration
from fileset.exceptions import FailureError, InputError
from fileset.suggestion import did_you_mean
from processors.own_functions import look_beside
from processors.redaction import redacted_text
from report.analysis import Analysis
from report.completion import completions
from report.flags import FLAGS, Flags, variable_of
from report.loudness import Call, Loudness, call, conclude, set_up_logging, taking_loudness, tell_error

if TYPE_CHECKING:
    from processors.workers import Workers

__all__ = ["Verbs", "analysis_of", "taking_flags"]

# What a shell makes of SIGINT, 128 + 2, and of SIGPIPE, 128 + 13.
_STOPPED = 130
_CLOSED = 141


class _NobodyReadsError(Exception):
    """A closed pipe, by a name that click does not know: it would end with status 1."""


class Verbs(click.Group):
    """Verbs in the order of the work; a wrong one is answered with the right one, and every error is one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's form
        """All verbs, in the order of the work."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without a verb it is `run`."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if "run" not in self.commands or ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        if not args:
            args = ["run"]
        elif args[0].startswith("-") and args[0].split("=")[0] not in own:
            verb = next((word for word in args if word in self.commands), None)
            if verb is not None:
                ctx.fail(
                    f"option {args[0]} stands before the verb: write {ctx.command_path} {verb} {args[0]}"
                )
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the verb, or names the one that was probably meant."""
        name = args[0] if args else ""
        if name not in self.commands and not name.startswith("-"):
            hint = did_you_mean(name, self.commands, otherwise=f"verbs are {', '.join(self.commands)}")
            ctx.fail(f"no verb {name!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, unless the help text holds it."""
        if ctx.parent is not None:
            super().format_commands(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the verb."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _NobodyReadsError from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a verb and exits: 0 done, 1 failed, 2 wrong input, 130 stopped, 141 nobody reads on."""
        told = extra.setdefault("obj", Call())
        extra.setdefault("color", False if os.environ.get("NO_COLOR") else None)

        def work() -> Any:
            return super(Verbs, self).main(args, prog_name, complete_var, standalone_mode=False, **extra)

        if not standalone_mode:
            return work()
        sys.excepthook = _Unforeseen(told)
        try:
            status = _status_of(work, told)
            sys.stdout.flush()
        except (BrokenPipeError, _NobodyReadsError):
            _read_no_more()
            status = _CLOSED
        sys.exit(status)


def _status_of(work: Callable[[], object], told: Call) -> int:
    """Exit status of a call; an error is told in one sentence."""
    try:
        done = work()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        tell_error(f"error: {_sentence(error)}")
        return error.exit_code
    except (InputError, FailureError, OSError) as error:
        _trace(told)
        text = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error)
        tell_error(f"error: {redacted_text(text)}")
        return 2 if isinstance(error, InputError) else 1
    except (KeyboardInterrupt, click.Abort):
        _trace(told)
        tell_error("stopped: run the same command again, it goes on")
        return _STOPPED
    return done if isinstance(done, int) else 0


def _trace(told: Call) -> None:
    if told.loudness == Loudness.DEBUG:
        click.echo(redacted_text(traceback.format_exc()), err=True)


def _sentence(error: click.ClickException) -> str:
    """What click has to say, as one sentence that ends with the remedy."""
    text = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption):
        text = f"no option {error.option_name}"
        if error.possibilities:
            return f"{text}: did you mean {error.possibilities[0]}?"
    if "did you mean" not in text and ": " not in text and context is not None:
        text = f"{text}: see {context.command_path} --help"
    return text[:1].lower() + text[1:]


class _Unforeseen:
    """An error that nobody foresaw, in one line; its traceback with --debug."""

    def __init__(self, told: Call) -> None:
        self._told = told

    def __call__(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if self._told.loudness == Loudness.DEBUG:
            click.echo(redacted_text("".join(traceback.format_exception(kind, error, trace))), err=True)
        tell_error(f"error: {kind.__name__}: {redacted_text(str(error))} (--debug tells more)")


def _read_no_more() -> None:
    """What is still to be written goes nowhere, so that Python finds nothing to complain of at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())


def _workers(analysis: Analysis) -> "Workers":
    from processors.progress import Watch  # noqa: PLC0415 - --help must be quick
    from processors.workers import Workers  # noqa: PLC0415
    from report import terminal  # noqa: PLC0415

    return Workers(analysis.execution, Watch(bar=terminal.events_bar), analysis.own_functions)


def _given(
    context: click.Context, table: Flags, flags: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings that flags or the environment give, and which of them are of the environment."""
    given, sources = {}, {}
    for flag, (setting, _) in table.items():
        name = flag.removeprefix("--").replace("-", "_")
        value = flags[name]
        if value is None or value is False or value == ():
            continue
        given[setting] = list(value) if isinstance(value, tuple) else value
        if context.get_parameter_source(name) == ParameterSource.ENVIRONMENT:
            sources[setting] = f"environment {variable_of(flag)}"
    return given, sources


def analysis_of(
    context: click.Context, table: Flags, config: Path | None, flags: Mapping[str, Any]
) -> Analysis:
    """The configuration that a verb was called with.

    Raises:
        InputError: a key, a value or a region is not known.
    """
    told = context.ensure_object(Call)
    told.config = config
    told.given, told.sources = _given(context, table, flags)
    analysis = read_configuration(Analysis, config, told.given, told.sources)
    if config is not None:
        look_beside(config)
    for region in analysis.regions:
        analysis.region(region)
    return analysis


def taking_flags(
    body: Callable[[Analysis, "Workers"], str | None], table: Flags = FLAGS, *, writes: bool = True
) -> Callable[..., None]:
    """Turns a function of an Analysis into a click command body with the flags of a table.

    Args:
        body: does the work of a verb; what it returns is the result, which --quiet shows too.
        table: its flags.
        writes: it writes to the output directory, which it holds alone meanwhile.
    """

    def command(config: Path | None, *, force_unlock: bool = False, **flags: Any) -> None:
        set_up_logging(call().loudness)
        analysis = analysis_of(click.get_current_context(), table, config, flags)
        with ExitStack() as stack:
            if writes:
                from processors.lock import held  # noqa: PLC0415 - --help must be quick

                command = [Path(sys.argv[0]).name, *sys.argv[1:]]
                stack.enter_context(held(analysis.output, command=command, force=force_unlock))
            result = body(analysis, stack.enter_context(_workers(analysis)))
        if result:
            conclude(result)

    if writes:
        command = click.option(
            "--force-unlock", is_flag=True, help="take the output directory from a run that is no more"
        )(command)
    for flag, (_, how) in reversed(table.items()):
        command = click.option(flag, default=None, envvar=variable_of(flag), **how, **completions(flag))(
            command
        )
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar=variable_of("--config"),
        help="configuration file; `config init` writes one",
        **completions("--config"),
    )(taking_loudness(command))
