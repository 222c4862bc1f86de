"""Verbs that read no events: show and write the configuration, and let a shell and an editor complete it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fileset.configuration import commented_yaml, origins_of
from fileset.exceptions import InputError
from models.presets import PRESETS
from processors.settings import REGIONS
from report.analysis import Analysis
from report.command_line import Verbs, taking_flags
from report.completion import SHELLS, script
from report.flags import Word
from report.loudness import call, conclude, taking_loudness

if TYPE_CHECKING:
    from processors.workers import Workers

__all__ = ["completion", "config", "editor_schema"]


def editor_schema() -> dict[str, Any]:
    """JSON schema of a configuration file, by which editors complete and check it (draft 2020-12)."""
    schema = Analysis.model_json_schema()
    # What these may be is said elsewhere than in their types.
    schema["$defs"]["TrainingSettings"]["properties"]["preset"]["enum"] = list(PRESETS)
    schema["properties"]["regions"]["examples"] = [list(REGIONS)]
    # A region that is like another says only what is different.
    region = schema["$defs"]["RegionSettings"]
    region["anyOf"] = [{"required": region.pop("required")}, {"required": ["like"]}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Configuration of run_analysis.py",
    }


@click.group(
    "config",
    cls=Verbs,
    no_args_is_help=True,
    help="Show or write the configuration.\n\nExample: run_analysis.py config init my.yaml",
)
def config() -> None:
    """Show or write the configuration."""


def _show(analysis: Analysis, _: "Workers") -> None:
    told = call()
    origins = origins_of(analysis, told.config, told.given, told.sources)
    click.echo(commented_yaml(analysis, origins=origins), nl=False)


config.command(
    "show",
    help="Print what is in force, and where each value comes from: default, preset, line of a file, environment or "
    "command line.\n\n"
    "Each option can be set in the environment too: RUN_ANALYSIS_SITE=slurm stands for --site slurm.\n\n"
    "Example: run_analysis.py config show --config my.yaml --preset report-minmax",
)(taking_flags(_show, writes=False))


@config.command(
    "init",
    help="Write a file with every default, explained, and beside it the JSON schema by which editors complete and "
    "check it.\n\nExample: run_analysis.py config init my.yaml",
)
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default="analysis.yaml")
@taking_loudness
def config_init(path: Path) -> None:
    """Write a configuration file with every default, and its schema."""
    schema = path.with_suffix(".schema.json")
    if path.exists():
        message = f"{path} exists already: give another name"
        raise InputError(message)
    if not path.parent.is_dir():
        message = f"{path.parent} is no directory: make it first, or give another name"
        raise InputError(message)
    schema.write_text(json.dumps(editor_schema(), indent=1) + "\n", encoding="utf-8")
    # https://github.com/redhat-developer/yaml-language-server: relative to the file
    heading = f"# yaml-language-server: $schema={schema.name}\n"
    path.write_text(heading + commented_yaml(Analysis()), encoding="utf-8")
    conclude(f"wrote {path}, and {schema.name} beside it for editors")


@config.command(
    "schema",
    help="Print the JSON schema that lets an editor complete and check a configuration.\n\n"
    "Example: run_analysis.py config schema > analysis.schema.json",
)
@taking_loudness
def config_schema() -> None:
    """Print the JSON schema of the configuration."""
    click.echo(json.dumps(editor_schema(), indent=1))


@click.command(
    "completion",
    help="Print what makes a shell complete verbs, options, presets, regions, sites and files of `run-analysis`, the "
    "command that `pip install .` makes (not of `python run_analysis.py`: shells complete by the first word).\n\n"
    "\b\n"
    "bash   echo 'eval \"$(run-analysis completion bash)\"' >> ~/.bashrc\n"
    "zsh    echo 'eval \"$(run-analysis completion zsh)\"' >> ~/.zshrc\n"
    "fish   run-analysis completion fish > ~/.config/fish/completions/run-analysis.fish\n\n"
    "Example: run_analysis.py completion bash",
)
@click.argument("shell", type=Word(SHELLS))
@taking_loudness
def completion(shell: str) -> None:
    """Print the script of a shell."""
    click.echo(script(shell))
