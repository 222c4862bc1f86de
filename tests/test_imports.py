"""What imports what: rooms in one direction, and networks, which take seconds and a gigabyte, where they are used."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.stages.select import select_region
from processors.workers import Workers

REPOSITORY = Path(__file__).parents[1]
DEMO = REPOSITORY / "fileset" / "demo"
FILES = ("Data/data_A.2lep.root", "MC/mc_410000.ttbar_lep.2lep.root")
NETWORKS = ("tensorflow", "keras", "jax", "torch")

# Runs verbs one after the other in one process, and says after each what has been imported until then.
PROBE = """
import json, sys
import run_analysis
seen = {}
for verb in json.loads(sys.argv[1]):
    run_analysis.main(verb, standalone_mode=False)
    seen[verb[0]] = sorted(name for name in sys.modules if "." not in name)
print("\\n" + json.dumps(seen))
"""


# Each may import what stands before it, and itself.
ROOMS = ("fileset", "processors", "models", "models.search", "models.studies", "report", "run_analysis")


def room(module: str) -> int | None:
    """Place of the room that a module is in; None for others' modules."""
    parts = module.split(".")
    names = (".".join(parts[:2]), parts[0])
    return next((ROOMS.index(name) for name in names if name in ROOMS), None)


def test_imports_run_one_way() -> None:
    backwards = []
    files = [
        path
        for name in ("fileset", "processors", "models", "report")
        for path in (REPOSITORY / name).rglob("*.py")
    ]
    for path in files:
        module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        own = room(module)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            backwards += [f"{module}: {name}" for name in names if (room(name) or 0) > (own or 0)]
    assert len(files) > 150
    assert backwards == []


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Two files of the demo with its catalogue."""
    for name in FILES:
        target = tmp_path / "sample" / "2lep" / name
        target.parent.mkdir(parents=True)
        shutil.copy(DEMO / "2lep" / name, target)
    shutil.copy(DEMO / "catalog.yaml", tmp_path / "sample")
    return tmp_path / "sample"


def imported_by(verbs: list[list[str]]) -> dict[str, set[str]]:
    command = [sys.executable, "-c", PROBE, json.dumps(verbs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=300)
    assert done.returncode == 0, done.stderr
    seen: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return {verb: set(names) for verb, names in seen.items()}


def test_stages_without_a_network_import_none(sample: Path, tmp_path: Path) -> None:
    configuration = tmp_path / "analysis.yaml"
    configuration.write_text("report: {variables: [met_et]}\n", encoding="utf-8")
    options = ["--config", str(configuration), "--fileset", str(sample), "--region", "2L"]
    options += ["--output", str(tmp_path / "out")]
    verbs = [
        ["config", "show", *options],
        *([v, *options] for v in ("fileset", "check", "select", "compare", "report")),
    ]
    seen = imported_by(verbs)
    for verb, modules in seen.items():
        assert not modules & set(NETWORKS), verb
    # What only resolves or shows needs nothing of what reads events either.
    for verb in ("config", "fileset"):
        assert not seen[verb] & {"coffea", "awkward", "uproot", "numba", "matplotlib", "dask", "sklearn"}, (
            verb
        )
    for verb in ("check", "select", "compare"):
        assert not seen[verb] & {"matplotlib", "sklearn"}, verb


@pytest.mark.xdist_group("dask")
def test_workers_that_only_select_import_no_network(sample: Path, tmp_path: Path) -> None:
    def imported() -> list[str]:
        return [name for name in sys.modules if "." not in name]

    with Workers(ExecutionSettings(executor="dask", workers=1)) as workers:
        audit = check(resolve(FilesetSettings(fileset=str(sample)), ["2L"]), map=workers.map)
        result: dict[str, Any] = select_region(
            with_steps(audit.fileset, 100_000, audit.clusters),
            name="2L",
            region=REGIONS["2L"],
            weights=WeightSettings(),
            rmm=RMMSettings(),
            workers=workers,
            output=tmp_path / "out",
        )
        of_workers = workers.client.run(imported)
    assert result["ledger"]["done"] == len(FILES)
    for modules in of_workers.values():
        assert "coffea" in modules
        assert not set(modules) & {*NETWORKS, "sklearn", "matplotlib"}
