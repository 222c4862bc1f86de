"""Guides tell the truth: links lead somewhere, commands and settings are understood, sentences are the product's."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

import run_analysis
from report.analysis import Analysis

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("fileset", "processors", "models", "report")
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "notebooks/*.md")
    for path in REPOSITORY.glob(pattern)
)


def _page(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _blocks(path: Path, *languages: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def _anchors(path: Path) -> set[str]:
    """What headings are called in links, as GitHub and MyST make it of them, and the names given to places."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=_page)
def test_every_relative_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert not dead


def _commands() -> list[tuple[str, list[str]]]:
    """Every call of the analysis that a page shows in a block, with the page's name."""
    commands = []
    for page in PAGES:
        for line in "\n".join(_blocks(page, "sh", "", "bash")).replace("\\\n", " ").splitlines():
            found = re.search(r"(?:run_analysis\.py|run-analysis) +(.*)", line)
            if found and page.name != "CHANGELOG.md":
                words = shlex.split(re.split(r" [>|&]| && |; ", found[1])[0], comments=True)
                commands.append((_page(page), words))
    return commands


@pytest.mark.parametrize(
    ("page", "words"), _commands(), ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_every_command_is_understood(page: str, words: list[str]) -> None:
    """Verbs, flags and choices; nothing is run."""
    command: click.Command = run_analysis.main
    context = None
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(command, parent=context, info_name=words[0])
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, list(words), parent=context)


@pytest.mark.parametrize("page", PAGES, ids=_page)
def test_every_configuration_is_allowed(page: Path) -> None:
    for block in _blocks(page, "yaml"):
        content = yaml.safe_load(block)
        if set(content) <= set(Analysis.model_fields):
            Analysis.model_validate(content)
        else:
            assert set(content) <= {"distributed", "gateway"} or "samples" in content, (
                "Dask's, or a catalogue"
            )


@cache
def _texts() -> tuple[str, ...]:
    """Every text in the source; where a value is put in, it has a gap."""
    texts = []
    for path in (
        *(p for room in ROOMS for p in sorted((REPOSITORY / room).rglob("*.py"))),
        REPOSITORY / "run_analysis.py",
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
                )
    return tuple(texts)


def test_every_symptom_is_a_sentence_of_the_product() -> None:
    symptoms = []
    for page in (REPOSITORY / "docs" / "troubleshooting.md", REPOSITORY / "README.md"):
        symptoms += re.findall(r"^\| `([^`]+)` ", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(symptoms) > 25
    parts = {part.strip() for symptom in symptoms for part in symptom.split("…") if len(part.strip()) > 3}
    unknown = {part for part in parts if not any(part in text for text in _texts())}
    assert not unknown


def test_the_reference_has_every_module_with_public_names() -> None:
    public = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for room in ROOMS
        for path in (REPOSITORY / room).rglob("*.py")
        if re.search(r"^__all__ = ", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    reference = "".join(page.read_text(encoding="utf-8") for page in REPOSITORY.glob("docs/api-*.md"))
    assert set(re.findall(r"automodule:: ([\w.]+)", reference)) == public


def test_every_page_of_the_guides_is_in_the_table_of_contents() -> None:
    index = (REPOSITORY / "docs" / "index.md").read_text(encoding="utf-8")
    index += (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    listed = {
        line.strip()
        for block in re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
        for line in block.splitlines()
    }
    assert {page.stem for page in PAGES if page.parent.name == "docs"} - {"index"} <= listed
