"""The configuration at the command line: a file of all defaults, its schema for editors, and what is in force."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fileset.configuration import read_configuration
from report.analysis import Analysis
from report.setup_verbs import editor_schema

pytestmark = pytest.mark.neutral

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def written(command_line: Any, tmp_path: Path) -> Path:
    """What `config init` writes."""
    path = tmp_path / "my.yaml"
    done = command_line("config", "init", path)
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module")
def schema() -> Any:
    """A validator, by the specification of JSON schema and not by pydantic."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(editor_schema())
    return jsonschema.Draft202012Validator(editor_schema())


def _with_documented_keys(text: str) -> set[str]:
    return set(re.findall(r"^ *(?:# )?([a-z_0-9]+):", text, flags=re.MULTILINE))


def _keys(model: Any) -> set[str]:
    found = set(model.model_fields)
    for field in model.model_fields.values():
        if hasattr(field.annotation, "model_fields"):
            found |= _keys(field.annotation)
    return found


def test_a_written_file_is_the_defaults_and_names_every_key(written: Path) -> None:
    assert read_configuration(Analysis, written, {}) == Analysis()
    assert _keys(Analysis) <= _with_documented_keys(written.read_text(encoding="utf-8"))


def test_every_key_is_explained(written: Path) -> None:
    lines = written.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r" *[a-z_0-9]+:", line):
            assert lines[number - 1].lstrip().startswith("# "), line


def test_an_editor_finds_the_schema_beside_the_file_and_the_file_fits(written: Path, schema: Any) -> None:
    first = written.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=my.schema.json"
    assert json.loads((written.parent / "my.schema.json").read_text(encoding="utf-8")) == editor_schema()
    schema.validate(yaml.safe_load(written.read_text(encoding="utf-8")))


def test_the_schema_takes_the_examples_of_the_readme_and_the_guides(schema: Any, tmp_path: Path) -> None:
    known = set(Analysis.model_fields)
    taken = 0
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))):
        for example in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            content = yaml.safe_load(example)
            if isinstance(content, dict) and set(content) <= known:
                problems = [error.message for error in schema.iter_errors(content)]
                assert not problems, f"{page.name}: {problems}"
                taken += 1
    assert taken


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": 1},
        {"execution": {"chunksize": "many"}},
        {"training": {"preset": "hardnes"}},
        {"features": "tabel"},
        {"define": {"mine": {"skims": ["2lep"]}}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_the_program_refuses(schema: Any, wrong: dict[str, Any]) -> None:
    assert not schema.is_valid(wrong)
    with pytest.raises(ValueError, match=r".+"):
        Analysis.model_validate(wrong)


@pytest.mark.parametrize("dsids", [[363490, "364100-364141"], "361100-361108", 410000], ids=str)
def test_the_schema_takes_numbers_and_ranges_of_datasets(schema: Any, dsids: Any) -> None:
    content = {"fileset": {"exclude": dsids}}
    assert schema.is_valid(content)
    assert Analysis.model_validate(content).fileset.exclude


def test_a_file_that_is_there_is_not_written_over(command_line: Any, written: Path) -> None:
    before = written.read_bytes()
    done = command_line("config", "init", written)
    assert (done.exit_code, written.read_bytes()) == (2, before)
    assert "exists already" in done.stderr
    assert command_line("config", "init", written.parent / "nowhere" / "my.yaml").exit_code == 2


def test_what_is_in_force_says_where_it_comes_from(command_line: Any, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("seed: 2\nexecution:\n  chunksize: 5000\n  workers: 3\n", encoding="utf-8")
    shown = command_line(
        "config", "show", "--config", path, "--preset", "hardness", "--workers", 4,
        RUN_ANALYSIS_SEED="7", RUN_ANALYSIS_REGION="3L 2L",
    ).stdout  # fmt: skip
    values = dict(re.findall(r"^( *[a-z_]+: .*?)  # <- (.*)$", shown, flags=re.MULTILINE))
    assert values["seed: 7"] == "environment RUN_ANALYSIS_SEED"
    assert values["regions: [3L, 2L]"] == "environment RUN_ANALYSIS_REGION"
    assert values["  chunksize: 5000"] == f"{path}, line 3"
    assert values["  workers: 4"] == "the command line"
    assert values["  preset: hardness"] == "the command line"
    assert values["  members: 5"] == "preset hardness"
    assert values["  timeout: 60"] == "default"


def test_a_flag_overrules_the_environment(command_line: Any) -> None:
    shown = command_line("config", "show", "--seed", 3, RUN_ANALYSIS_SEED="7").stdout
    assert "\nseed: 3  # <- the command line\n" in shown


def test_a_wrong_value_in_the_environment_is_named(command_line: Any) -> None:
    done = command_line("config", "show", RUN_ANALYSIS_WORKERS="0")
    assert (done.exit_code, "environment RUN_ANALYSIS_WORKERS" in done.stderr) == (2, True)


def test_a_configuration_file_may_be_named_by_the_environment(command_line: Any, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("seed: 11\n", encoding="utf-8")
    assert (
        f"seed: 11  # <- {path}, line 1"
        in command_line("config", "show", RUN_ANALYSIS_CONFIG=str(path)).stdout
    )
