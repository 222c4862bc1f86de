"""What pip installs is the whole product: wherever it is put, the command runs with its catalogues and its demo."""

import email
import email.message
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("fileset", "processors", "models", "report")

pytestmark = [pytest.mark.neutral, pytest.mark.xdist_group("distributions")]

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    return content["project"]


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*-py3-none-any.whl")
    return path


@pytest.fixture(scope="module")
def source(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(directory := tmp_path_factory.mktemp("source"), filter="data")
    (root,) = directory.iterdir()
    return root


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel where pip put it, beside no source and outside of any environment."""
    place = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", place, wheel], check=True, capture_output=True, timeout=120)
    return place


@pytest.fixture(scope="module")
def run_analysis_there(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The installed command, in an empty directory and with nothing of this checkout on the path."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    libraries = [sysconfig.get_path(kind) for kind in ("purelib", "platlib")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), *libraries])}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        # -S: without the path to this checkout, which an editable installation adds.
        command = [sys.executable, "-S", "-P", str(installed / "bin" / "run-analysis"), *map(str, arguments)]
        return subprocess.run(
            command, cwd=elsewhere, env=env, capture_output=True, text=True, timeout=240, check=False
        )

    return run


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as packed:
        return {name for name in packed.namelist() if ".dist-info/" not in name}


def about(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as packed:
        (path,) = [entry for entry in packed.namelist() if entry.endswith(f".dist-info/{name}")]
        return packed.read(path).decode()


def test_the_wheel_holds_every_file_of_the_rooms_and_nothing_else(wheel: Path) -> None:
    rooms = {
        path.relative_to(REPOSITORY).as_posix()
        for room in ROOMS
        for path in (REPOSITORY / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert contents(wheel) == rooms | {"run_analysis.py"}


@pytest.mark.parametrize(
    "needed",
    [
        *(f"{room}/py.typed" for room in ROOMS),
        *(f"fileset/catalogs/atlas-{year}.yaml" for year in (2020, 2025)),
        *(f"fileset/catalogs/atlas-{year}-{table}.csv" for year in (2020, 2025) for table in ("files", "samples")),
        "fileset/demo/catalog.yaml",
        "fileset/demo/2lep/Data/data_A.2lep.root",
        "processors/sites.yaml",
        "report/templates/index.html.j2",
        "report/templates/page.css",
        "report/templates/page.js",
    ],
)  # fmt: skip
def test_data_beside_the_source_come_along(wheel: Path, needed: str) -> None:
    assert needed in contents(wheel)


def test_its_metadata_are_the_projects(wheel: Path, project: dict[str, Any]) -> None:
    metadata: email.message.Message = email.message_from_string(about(wheel, "METADATA"))
    assert (metadata["Name"], metadata["Version"]) == (project["name"], project["version"])
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    assert "run-analysis = run_analysis:main" in about(wheel, "entry_points.txt")
    assert about(wheel, "licenses/LICENSE") == (REPOSITORY / "LICENSE").read_text(encoding="utf-8")


def test_whoever_has_the_source_distribution_can_test_build_and_document(source: Path) -> None:
    for needed in (
        *("LICENSE", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "constraints.txt"),
        *(".ci/run", "noxfile.py", "tests/conftest.py", "tests/models/test_scores.py", "docs/conf.py"),
        *("benchmarks/README.md", "notebooks/05_at_a_facility.py"),
    ):
        assert (source / needed).is_file(), needed
    unwanted = {".venv", "output", "dist", ".git", ".mypy_cache", ".hypothesis"}
    assert not unwanted & {path.name for path in source.iterdir()}


def test_the_source_distribution_makes_the_same_wheel(wheel: Path, source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (again,) = tmp_path.glob("*.whl")
    assert about(again, "RECORD") == about(wheel, "RECORD")


def test_the_installed_command_finds_its_demo_from_any_directory(
    run_analysis_there: Command, installed: Path, tmp_path: Path
) -> None:
    done = run_analysis_there("fileset", "--fileset", "demo", "--region", "3L", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    fileset = json.loads((tmp_path / "fileset.json").read_text(encoding="utf-8"))
    files = [Path(path) for entry in fileset.values() for path in entry["files"]]
    assert len(files) == len(list((REPOSITORY / "fileset" / "demo" / "3lep").rglob("*.root")))
    assert all(path.is_relative_to(installed) and path.is_file() for path in files)


def test_the_installed_command_knows_the_releases_and_the_sites(
    run_analysis_there: Command, tmp_path: Path
) -> None:
    done = run_analysis_there("fileset", "--fileset", "atlas-2020", "--skim", "4lep", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "100 datasets" in done.stdout + done.stderr
    done = run_analysis_there("check", "--fileset", "demo", "--site", "nowhere", "--output", tmp_path)
    assert done.returncode == 2
    assert "none of local, coffea-casa, gateway, slurm, htcondor, lxplus" in done.stderr
