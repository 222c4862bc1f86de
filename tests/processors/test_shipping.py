"""Our packages where nobody installed them: all of them with their data, and nothing that is large."""

import hashlib
import importlib.metadata
import io
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from processors.shipping import PACKAGES, _archive, _found, _put_in_place

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(io.BytesIO(_archive())) as packed:
        packed.extractall(directory)
    return directory


def elsewhere(code: str, *path: Path, cwd: Path) -> str:
    """What a program prints that has the dependencies, but of our packages only those in `path`."""
    installed = [sysconfig.get_path(kind) for kind in ("purelib", "platlib")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, path), *installed])}
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_archive_holds_every_module_and_every_data_file_but_no_events() -> None:
    with zipfile.ZipFile(io.BytesIO(_archive())) as packed:
        names = set(packed.namelist())
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*"):
            if path.suffix in {".py", ".yaml", ".csv", ".json", ".j2"} and "__pycache__" not in path.parts:
                assert path.relative_to(REPOSITORY).as_posix() in names
    assert {"processors/sites.yaml", "report/templates/index.html.j2", "fileset/demo/catalog.yaml"} <= names
    assert not any(name.endswith(".root") for name in names)
    assert len(_archive()) < 2_000_000


def test_the_same_sources_make_the_same_archive() -> None:
    digests = set()
    for _ in range(2):
        _archive.cache_clear()
        digests.add(hashlib.sha256(_archive()).hexdigest())
    assert len(digests) == 1


def test_what_was_unpacked_is_complete_and_compiled_kernels_are_cached_beside_it(
    unpacked: Path, tmp_path: Path
) -> None:
    code = """
import importlib.metadata
import numba
import processors, processors.objects
from fileset.catalog import CATALOGS, load_catalog
from processors.receipts import dependence
from processors.settings import ExecutionSettings
from processors.sites import sites_known
import processors.selection, processors.scoring, models.bundle, report.page
print(processors.__file__)
print(len([load_catalog(name) for name in CATALOGS]), len(sites_known(ExecutionSettings())))
print(importlib.metadata.version("collider-anomalies"), len(dependence({})))
kernels = [k for k in vars(processors.objects).values() if isinstance(k, numba.core.dispatcher.Dispatcher)]
print(*{k._cache.cache_path for k in kernels})
"""
    place, catalogues, version, cache = elsewhere(code, unpacked, cwd=tmp_path).split("\n")
    assert Path(place).is_relative_to(unpacked)
    assert catalogues == "3 6"
    assert version.split()[0] == importlib.metadata.version("collider-anomalies")
    assert Path(cache) == unpacked / "processors" / "__pycache__"


def test_a_package_that_is_there_is_known_by_its_content() -> None:
    here = _found(PACKAGES, (".py",))
    assert all(len(digest) == 64 for digest in here.values())
    assert len(set(here.values())) == 4
    assert _found(("no_such_package",), (".py",)) == {"no_such_package": ""}


def test_where_the_same_is_installed_nothing_is_unpacked(tmp_path: Path) -> None:
    expected = _found(PACKAGES, (".py",))
    assert _put_in_place(_archive(), expected, (".py",), str(tmp_path)) == "installed"
    assert not list(tmp_path.iterdir())
