"""Help: every verb shows an example, every example is one that the command line takes, and help is quick."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from report.analysis import Analysis
from report.command_line import analysis_of
from report.flags import FLAGS, ROBUSTNESS_FLAGS, SEARCH_FLAGS, SIMULATION_FLAGS, VALIDATION_FLAGS
from run_analysis import main

pytestmark = pytest.mark.neutral

_TABLES = {
    "tune": SEARCH_FLAGS,
    "robustness": ROBUSTNESS_FLAGS,
    "simulate": SIMULATION_FLAGS,
    "validate": VALIDATION_FLAGS,
}


def _verbs(group: click.Group = main, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from _verbs(command, (*before, name))


def _examples(text: str) -> list[list[str]]:
    """The words behind `run_analysis.py` of every example."""
    found = re.findall(r"Example: run_analysis\.py ([^\n]*(?:\n  [^\s][^\n]*)*)", text)
    return [shlex.split(example.split(" > ")[0]) for example in found]


@pytest.mark.parametrize("verb", list(_verbs()), ids=" ".join)
def test_the_example_of_a_verb_is_one_that_it_takes(
    command_line: Any, verb: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_line("config", "init", "my.yaml").exit_code == 0
    examples = _examples(command_line(*verb, "--help").output)
    assert examples
    for words in examples:
        context = _called(words)
        if "config" in context.params:
            config = context.params.pop("config")
            table = _TABLES.get(verb[0], FLAGS)
            assert isinstance(analysis_of(context, table, config, context.params), Analysis)


def _called(words: list[str]) -> click.Context:
    """What click makes of a line; an error where the verb does not take it."""
    command: click.Command = main
    while isinstance(command, click.Group):
        name, words = words[0], words[1:]
        command = command.commands[name]
    return command.make_context(name, words)


def test_the_help_names_every_verb(command_line: Any) -> None:
    listed = re.findall(r"^      (\S+) ", command_line("--help").output, flags=re.MULTILINE)
    assert set(listed) == set(main.commands)


def test_every_verb_can_be_quiet_or_talkative() -> None:
    for verb in _verbs():
        command: click.Command = main
        for name in verb:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        options = {name for parameter in command.params for name in parameter.opts}
        assert isinstance(command, click.Group) or options >= {"--quiet", "--verbose", "--debug"}, verb


def test_without_a_verb_everything_is_run(command_line: Any) -> None:
    done = command_line("--region", "9L")
    assert (done.exit_code, "region '9L' is none of 2L, 3L" in done.output) == (2, True)


def test_an_option_before_the_verb_says_where_it_belongs(command_line: Any) -> None:
    done = command_line("--debug", "select")
    assert done.exit_code == 2
    assert "write run_analysis.py select --debug" in done.output
