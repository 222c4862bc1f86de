"""What the TAB key offers in a shell: click knows verbs, options and closed lists, this is the rest.

Shells ask while a line is being typed, so nothing heavy is imported and nothing is an error.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeAlias

import click
import yaml
from click.shell_completion import CompletionItem, get_completion_class

from fileset.exceptions import InputError
from processors.settings import REGIONS

__all__ = ["SHELLS", "completions", "script"]

Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

SHELLS: Final = ("bash", "zsh", "fish")
# The command that `pip install` makes; a shell looks up completions by the first word of a line.
_COMMAND: Final = "run-analysis"


def script(shell: str) -> str:
    """What a shell must read to complete `run-analysis`."""
    kind = get_completion_class(shell)
    if kind is None:
        message = f"there is no completion for {shell}: shells are {', '.join(SHELLS)}"
        raise InputError(message)
    variable = f"_{_COMMAND.upper().replace('-', '_')}_COMPLETE"
    completion = kind(click.Command(_COMMAND), {}, _COMMAND, variable)
    # Not source(): click starts a bash there, to ask for its version.
    return completion.source_template % completion.source_vars()


def _configured(context: click.Context, *keys: str) -> Iterable[str]:
    """Names under a key of the configuration file on the line."""
    path = context.params.get("config")
    content: Any = {}
    with suppress(OSError, yaml.YAMLError, UnicodeDecodeError):
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path else {}
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return [str(name) for name in content] if isinstance(content, dict) else []


def _regions(context: click.Context) -> Iterable[str]:
    return (*REGIONS, *_configured(context, "define"))


def _sites(context: click.Context) -> Iterable[str]:
    shipped = yaml.safe_load((files("processors") / "sites.yaml").read_text(encoding="utf-8"))
    return (*shipped, *_configured(context, "execution", "sites"))


def _groups(context: click.Context) -> Iterable[str]:
    from fileset.catalog import load_catalog  # noqa: PLC0415 - only where it is asked for

    with suppress(InputError, OSError):
        return sorted(load_catalog(context.params.get("fileset") or "demo").groups)
    return ()


def _processes(context: click.Context) -> Iterable[str]:
    from fileset.simulation.samples import SAMPLES  # noqa: PLC0415 - only where it is asked for

    wanted = context.params.get("sample") or "demo"
    return [
        process.name for sample, processes in SAMPLES.items() if sample == wanted for process in processes
    ]


def _models(context: click.Context) -> Iterable[str]:
    folder = Path(context.params.get("output") or "output") / "models"
    return sorted({path.name for path in folder.glob("[!.]*/[!.]*") if (path / "card.json").is_file()})


def _of_names(names: Callable[[click.Context], Iterable[str]]) -> Complete:
    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        given = dict.fromkeys(names(context))
        return [CompletionItem(name) for name in given if name.startswith(incomplete)]

    return complete


def _filesets(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Catalogues; where none is meant, files and directories, which the shell knows itself."""
    from fileset.catalog import CATALOGS  # noqa: PLC0415 - only where it is asked for

    found = [CompletionItem(name) for name in CATALOGS if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def _configurations(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """YAML files and directories; where there are none, the shell looks itself."""
    folder = Path(incomplete).parent if not incomplete.endswith("/") else Path(incomplete)
    with suppress(OSError):
        paths = [f"{path}/" if path.is_dir() else str(path) for path in sorted(folder.iterdir())]
        near = [path for path in paths if path.startswith(incomplete.removeprefix("./"))]
        found = [CompletionItem(path) for path in near if path.endswith((".yaml", ".yml"))]
        if found:
            return found
    return [CompletionItem(incomplete, type="file")]


_COMPLETE: Final[dict[str, Complete]] = {
    "--config": _configurations,
    "--fileset": _filesets,
    "--region": _of_names(_regions),
    "--site": _of_names(_sites),
    "--group": _of_names(_groups),
    "--process": _of_names(_processes),
    "--model": _of_names(_models),
}


def completions(flag: str) -> dict[str, Any]:
    """The keyword of `click.option` by which a flag completes its value, where it is no closed list."""
    return {"shell_complete": _COMPLETE[flag]} if flag in _COMPLETE else {}
