"""What a repository is expected to have is there, and what it says is true."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from repo_review.processor import process

REPOSITORY = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]

# Extras that the tests do without: they need another machine, a service, or gigabytes.
NOT_PINNED = {"bench", "cuda", "openmagic"}

pytestmark = pytest.mark.neutral


def text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    lines = [line for line in text("constraints.txt").splitlines() if not line.startswith("#")]
    pins = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in pins}


# --- Scientific Python's guide ------------------------------------------------------------------------------------


def test_scientific_python_finds_nothing_but_what_is_explained() -> None:
    families, results = process(REPOSITORY)
    assert {"general", "pyproject", "github", "mypy", "pre-commit", "ruff", "rtd", "noxfile"} <= set(families)
    assert len(results) > 60
    assert [(check.name, check.err_msg) for check in results if check.result is False] == []


def test_every_exception_has_a_reason_and_is_needed() -> None:
    exceptions: dict[str, str] = PYPROJECT["tool"]["repo-review"]["ignore"]
    assert all(exceptions.values())
    # With exceptions of its own, the tool does not look at those of the configuration.
    _, results = process(REPOSITORY, select=set(exceptions), ignore={"nothing"})
    assert {check.name for check in results if check.result} == set()


# --- what is pinned -----------------------------------------------------------------------------------------------


def _requirements(*extras: str) -> Iterator[Requirement]:
    """What the project and some extras ask for, on this platform."""
    wanted = list(PROJECT["dependencies"])
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    for line in wanted:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == PROJECT["name"]:
            yield from _requirements(*requirement.extras)
        elif requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def test_every_requirement_is_pinned_within_its_range(pinned: dict[str, str]) -> None:
    extras = set(PROJECT["optional-dependencies"]) - NOT_PINNED
    for requirement in _requirements(*extras):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is not {version}"


def _needed(requirement: Requirement) -> Iterator[tuple[Requirement, str]]:
    """Requirements of an installed package, with the extras it is asked for."""
    for line in importlib.metadata.requires(requirement.name) or []:
        further = Requirement(line)
        if further.marker is None or any(
            further.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        ):
            yield further, requirement.name


def test_what_requirements_bring_along_is_pinned_too(pinned: dict[str, str]) -> None:
    asked, missing = [(requirement, "us") for requirement in _requirements("test")], set()
    seen: set[tuple[str, frozenset[str]]] = set()
    while asked:
        requirement, wanted_by = asked.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        # pip and setuptools come with the environment.
        if key[0] not in pinned and key[0] not in {"pip", "setuptools", "wheel"}:
            missing.add(f"{requirement.name} (for {wanted_by})")
            continue
        asked += _needed(requirement)
    assert missing == set()


def test_pip_finds_nothing_that_does_not_go_together() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name", ["constraints.txt", "pyproject.toml", "Makefile", ".ci/run", ".github/workflows/ci.yml"]
)
def test_no_file_says_where_packages_are_fetched(name: str) -> None:
    assert not re.search(r"index-url|find-links|trusted-host|https?://", text(name))


# --- what is said of the project ----------------------------------------------------------------------------------


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == PROJECT["version"]
    assert (citation["title"], citation["license"]) == (PROJECT["name"], PROJECT["license"])
    assert {"cff-version", "message", "authors"} <= set(citation)


def test_the_license_is_the_one_that_is_declared() -> None:
    terms = " ".join(text("LICENSE").split())
    assert terms.startswith("BSD 3-Clause License")
    for clause in (
        "1. Redistributions of source code",
        "2. Redistributions in binary form",
        "3. Neither the name",
    ):
        assert clause in terms


def test_the_changelog_knows_this_version_or_what_comes() -> None:
    headings = re.findall(r"^## \[?([^\]\n ]+)", text("CHANGELOG.md"), flags=re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0] == PROJECT["version"]


# --- one command, whoever calls it --------------------------------------------------------------------------------


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", text("Makefile"), flags=re.MULTILINE))


@pytest.mark.parametrize("name", ["noxfile.py", "CONTRIBUTING.md", "README.md", ".ci/run"])
def test_what_others_ask_of_make_is_there(name: str) -> None:
    code = re.findall(r"_make\(session, \"([a-z-]+)\"", text(name))
    for line in re.findall(r"^(?:`{0,3})make ((?:[a-z-]+ ?)+)", text(name), flags=re.MULTILINE):
        code += line.split()
    assert code, f"{name} calls make nowhere"
    assert set(code) <= _targets()


def test_nox_offers_what_make_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nox", "--list"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    offered = set(re.findall(r"^[*-] ([a-z]+)(?:\(([\d.]+)\))?", done.stdout, flags=re.MULTILINE))
    versions = {
        name.removeprefix("Programming Language :: Python :: ")
        for name in PROJECT["classifiers"]
        if re.search(r"Python :: 3\.\d+$", name)
    }
    assert {version for name, version in offered if name == "tests"} == versions
    assert {name for name, _ in offered} == {"lint", "types", "tests", "docs", "demo", "benchmarks"}


def test_the_workflow_runs_what_continuous_integration_runs_everywhere() -> None:
    workflow = yaml.safe_load(text(".github/workflows/ci.yml"))
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert "pull_request" in workflow[True], "YAML 1.1 reads `on` as true"
    assert job["permissions"] == {"contents": "read"}


def test_hooks_before_a_commit_are_the_tools_of_make() -> None:
    (repo,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert repo["repo"] == "local"
    recipes = text("Makefile")
    for hook in repo["hooks"]:
        tool = Path(hook["entry"].split()[0]).name
        assert f"$(BIN)/{tool}" in recipes, hook["id"]
