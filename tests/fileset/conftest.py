"""Tiny files in the release's layout, whole or broken on purpose."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

from fileset.branches import TREES

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real files and metadata of the releases."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data with the real files is not there")
    return SHARED


def _column(kind: str, entries: int, generator: np.random.Generator) -> Any:
    """Values of one branch: one number an event, or two an event for a list."""
    is_list = kind.startswith("list of ")
    shape = (entries, 2) if is_list else (entries,)
    values: Any
    match kind.removeprefix("list of "):
        case "real":
            values = generator.uniform(1e4, 1e5, shape).astype(np.float32)
        case "integer":
            values = np.full(shape, 2, np.int32)
        case _:
            values = np.ones(shape, np.bool_)
    return ak.from_regular(ak.Array(values)) if is_list else values


@pytest.fixture(scope="session")
def write_file() -> Callable[..., Path]:
    """Write a file of the 2020 release: `write_file(path, dsid=361106, xsec=..., sumw=...)`.

    `dsid` 0 is data; `first` is the first event number; `drop` and `replace` change branches; `tree` its name.
    """

    def write(
        path: Path,
        *,
        dsid: int,
        xsec: float = 1.0,
        sumw: float = 1.0,
        entries: int = 20,
        first: int = 1,
        run: int = 284500,
        drop: tuple[str, ...] = (),
        replace: dict[str, Any] | None = None,
        tree: str = "mini",
    ) -> Path:
        expected = TREES["2020"]
        generator = np.random.default_rng(dsid + first)
        columns: dict[str, Any] = {
            name: _column(kind, entries, generator)
            for name, kind in {**expected.branches, **expected.simulation}.items()
        }
        run = 298773 if dsid == 0 else run
        columns["channelNumber"] = np.full(entries, dsid or run, np.int32)
        columns["runNumber"] = np.full(entries, run, np.int32)
        columns["eventNumber"] = np.arange(first, first + entries, dtype=np.int32)
        columns["XSection"] = np.full(entries, xsec, np.float32)
        columns["SumWeights"] = np.full(entries, sumw, np.float32)
        columns.update(replace or {})
        path.parent.mkdir(parents=True, exist_ok=True)
        with uproot.recreate(path) as file:
            kept = {name: values for name, values in columns.items() if name not in drop}
            # Assigning to file[tree] would write an RNTuple.
            written = file.mktree(tree, {name: _type_of(values) for name, values in kept.items()})
            if entries:
                written.extend(kept)
        return path

    return write


def _type_of(values: Any) -> Any:
    if isinstance(values, ak.Array):
        return ak.types.from_datashape(f"var * {values.layout.content.dtype.name}", highlevel=False)
    return values.dtype


ZEE = {"dsid": 361106, "xsec": 1950.5295, "sumw": 150277594200.0}


@pytest.fixture
def skim(tmp_path: Path, whole_skim: Path) -> Path:
    """A directory of the skim 2lep that a test may break."""
    return Path(shutil.copytree(whole_skim, tmp_path / "2lep"))


@pytest.fixture(scope="session")
def whole_skim(tmp_path_factory: pytest.TempPathFactory, write_file: Callable[..., Path]) -> Path:
    """The skim 2lep: data of two periods, Z to ee and top pairs, normalised as in the release."""
    directory = tmp_path_factory.mktemp("whole") / "2lep"
    write_file(directory / "Data" / "data_A.2lep.root", dsid=0, first=1)
    write_file(directory / "Data" / "data_B.2lep.root", dsid=0, first=101)
    write_file(directory / "MC" / "mc_361106.Zee.2lep.root", **ZEE)
    write_file(
        directory / "MC" / "mc_410000.ttbar_lep.2lep.root", dsid=410000, xsec=452.693559, sumw=49386600
    )
    return directory


@pytest.fixture
def write_catalog() -> Callable[..., Path]:
    """Write the `catalog.yaml` that the verb `simulate` writes: `write_catalog(directory, samples={...})`."""

    def write(directory: Path, samples: dict[int, dict[str, Any]], **changed: Any) -> Path:
        facts = {
            "format": 1,
            "name": "toy",
            "release": "2020",
            "sample": "demo-simulation",
            "tree": "mini",
            "energy_unit": "MeV",
            "sqrt_s_GeV": 13000.0,
            "lumi_pb": {"2lep": 1000.0, "3lep": 5000.0},
            "groups": {
                "Zjets": {"label": "$Z$", "color": "#3f90da", "kind": "background", "order": 1},
                "Toy": {"label": "Toy", "color": "#000000", "kind": "signal", "order": 2},
            },
            "samples": samples,
            "generator": {"name": "toy"},
        } | changed
        path = directory / "catalog.yaml"
        path.write_text(yaml.safe_dump(facts), "utf-8")
        return path

    return write
