"""Hand-made events, tiny files in the release's form, and the real files where they lie beside the repository."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.nanoevents import NanoEventsFactory

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from processors.constants import ELECTRON_MASS, MUON_MASS
from processors.schema import OpenDataSchema, from_flat
from processors.settings import REGIONS, ExecutionSettings, RegionSettings, RMMSettings, WeightSettings
from processors.stages.select import select_region
from processors.workers import Workers

REPOSITORY = Path(__file__).parents[2]
SHARED = REPOSITORY.parent / "shared" / "data"


# --- records as `event_record` gives them, written down object by object ---------------------------------------------

_LEPTON: dict[str, tuple[Any, type]] = {
    "pt": (40.0, np.float32),
    "eta": (0.5, np.float32),
    "phi": (0.3, np.float32),
    "energy": (50.0, np.float32),
    "charge": (1, np.int32),
    "flavour": (11, np.int32),
    "z0": (0.0, np.float32),
    "d0": (0.01, np.float32),
    "d0_significance": (0.5, np.float32),
    "ptcone30": (0.0, np.float32),
    "etcone20": (0.0, np.float32),
    "is_tight": (True, np.bool_),
}
_JET: dict[str, tuple[Any, type]] = {
    "pt": (45.0, np.float32),
    "eta": (-1.0, np.float32),
    "phi": (2.0, np.float32),
    "energy": (80.0, np.float32),
    "mass": (6.0, np.float32),
    "btag": (0, np.int8),
    "passes_jvt": (True, np.bool_),
}
_PHOTON: dict[str, tuple[Any, type]] = {
    name: (value, np.float32) for name, value in (("pt", 30.0), ("eta", 1.0), ("phi", -1.0), ("mass", 0.0))
}


def _collection(
    events: Iterable[list[dict[str, Any]]], fields: Mapping[str, tuple[Any, type]], more: Any = None
) -> ak.Array:
    events = list(events)
    unknown = {key for event in events for one in event for key in one} - set(fields)
    assert not unknown, f"no such field: {unknown}"
    ordered = [sorted(event, key=lambda one: -one.get("pt", fields["pt"][0])) for event in events]
    offsets = np.concatenate([[0], np.cumsum([len(event) for event in events])]).astype(np.int64)
    columns = {
        name: np.array([one.get(name, default) for event in ordered for one in event], dtype=kind)
        for name, (default, kind) in fields.items()
    }
    if more is not None:
        columns |= more(columns)
    return from_flat(offsets, columns)


def _record(*events: dict[str, Any]) -> ak.Array:
    """A record of events given as {"lepton": [{...}], "jet": [{...}], "photon": [...], "met": (pt, phi), ...}."""

    def with_mass(columns: dict[str, Any]) -> dict[str, Any]:
        mass = np.where(columns["flavour"] == 11, ELECTRON_MASS, MUON_MASS)
        return {"mass": mass.astype(np.float32)}

    factors = ("generator", "pileup", "electron", "muon", "lepton_trigger", "btag")
    met = np.array([event.get("met", (25.0, 1.0)) for event in events], dtype=np.float32).reshape(-1, 2)
    contents = {
        "channel": np.array([event.get("channel", 361106) for event in events], dtype=np.int64),
        "run": np.array([event.get("run", 284500) for event in events], dtype=np.int64),
        "event": np.arange(1, len(events) + 1, dtype=np.uint64),
        "weight": ak.zip(
            {
                name: np.array([e.get("weight", {}).get(name, 1.0) for e in events], np.float32)
                for name in factors
            }
        ),
        "met": ak.zip({"pt": met[:, 0], "phi": met[:, 1]}),
        "lepton": _collection((event.get("lepton", []) for event in events), _LEPTON, with_mass),
        "jet": _collection((event.get("jet", []) for event in events), _JET),
    }
    if any("photon" in event for event in events):
        contents["photon"] = _collection((event.get("photon", []) for event in events), _PHOTON)
    return ak.zip(contents, depth_limit=1)


@pytest.fixture(scope="session")
def make_record() -> Callable[..., ak.Array]:
    """Builds the record that `event_record` would give of events written down object by object."""
    return _record


# --- tiny files of tree `mini`, in MeV -------------------------------------------------------------------------------


def _mini_branches(n: int, *, dsid: int, run: int, seed: int, data: bool) -> dict[str, Any]:
    """Random events with two to four leptons, some not isolated, loose or displaced; in no order of pT."""
    rng = np.random.default_rng((dsid, seed))
    n_lep, n_jet = rng.integers(2, 5, n), rng.poisson(2.0, n)

    def real(counts: np.ndarray, draw: Callable[[int], np.ndarray]) -> ak.Array:
        return ak.unflatten(draw(counts.sum()).astype(np.float32), counts)

    lep_pt = real(n_lep, lambda k: 7e3 + rng.exponential(4e4, k))
    lep_eta = real(n_lep, lambda k: rng.uniform(-2.7, 2.7, k))
    jet_pt = real(n_jet, lambda k: 2e4 + rng.exponential(3e4, k))
    jet_eta = real(n_jet, lambda k: rng.uniform(-4.5, 4.5, k))
    one = np.ones(n, dtype=np.float32)
    scale_factor = (lambda: one) if data else (lambda: rng.normal(1, 0.05, n).astype(np.float32))
    sign = np.where(rng.random(n) < 0.1, -1, 1)
    lepton = {
        "pt": lep_pt,
        "eta": lep_eta,
        "phi": real(n_lep, lambda k: rng.uniform(-np.pi, np.pi, k)),
        "E": lep_pt * np.cosh(lep_eta),
        "charge": ak.unflatten(rng.choice([-1, 1], n_lep.sum()).astype(np.int32), n_lep),
        "type": ak.unflatten(rng.choice([11, 13], n_lep.sum()).astype(np.uint32), n_lep),
        "z0": real(n_lep, lambda k: rng.normal(0, 0.2, k)),
        "trackd0pvunbiased": real(n_lep, lambda k: rng.normal(0, 0.02, k)),
        "tracksigd0pvunbiased": real(n_lep, lambda k: rng.exponential(1.0, k)),
        "ptcone30": lep_pt * real(n_lep, lambda k: np.where(rng.random(k) < 0.7, 0, rng.uniform(0, 0.3, k))),
        "etcone20": lep_pt * real(n_lep, lambda k: rng.normal(0.02, 0.05, k)),
        "isTightID": ak.unflatten(rng.random(n_lep.sum()) < 0.9, n_lep),
    }
    jet = {
        "pt": jet_pt,
        "eta": jet_eta,
        "phi": real(n_jet, lambda k: rng.uniform(-np.pi, np.pi, k)),
        "E": jet_pt * np.cosh(jet_eta) * 1.01,
        "jvt": real(n_jet, lambda k: np.where(rng.random(k) < 0.8, 0.95, 0.1)),
        "MV2c10": real(n_jet, lambda k: rng.uniform(-1, 1, k)),
    }
    return {
        "runNumber": np.full(n, run, dtype=np.int32),
        # Event numbers above 2^31 are negative in the release's int32.
        "eventNumber": rng.choice(2**32, n, replace=False).astype(np.uint32).view(np.int32),
        "channelNumber": np.full(n, run if data else dsid, dtype=np.int32),
        "mcWeight": 0 * one if data else (sign * rng.uniform(0.8, 1.2, n)).astype(np.float32),
        **{f"scaleFactor_{name}": scale_factor() for name in ("PILEUP", "ELE", "MUON", "BTAG", "LepTRIGGER")},
        "XSection": one,
        "SumWeights": one,
        "met_et": rng.exponential(3e4, n).astype(np.float32),
        "met_phi": rng.uniform(-np.pi, np.pi, n).astype(np.float32),
        "lep": ak.zip(lepton),
        "jet": ak.zip(jet),
    }


def _write_mini(
    path: Path,
    n: int,
    *,
    dsid: int = 361106,
    run: int = 284500,
    seed: int = 1,
    data: bool = False,
    basket: int = 50,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Writes n events with baskets of `basket` events; lists are float[lep_n], which uproot can write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    branches = _mini_branches(n, dsid=dsid, run=run, seed=seed, data=data)
    if change is not None:
        change(branches)
    with uproot.recreate(path) as file:
        tree = file.mktree(
            "mini",
            {
                name: column.type.content if isinstance(column, ak.Array) else column.dtype
                for name, column in branches.items()
            },
            counter_name=lambda name: f"{name}_n",
            field_name=lambda outer, inner: f"{outer}_{inner}",
        )
        for start in range(0, n, basket):
            tree.extend({name: column[start : start + basket] for name, column in branches.items()})
    return path


@pytest.fixture(scope="session")
def write_mini() -> Callable[..., Path]:
    """Writes a tiny file in the form of the 2020 release."""
    return _write_mini


def _fileset_of(files: Mapping[str, tuple[Path, dict[str, Any]]], chunksize: int) -> dict[str, Any]:
    """A checked fileset of dataset -> (file, metadata), in steps of the chunk size."""
    checked: dict[str, Any] = {}
    for dataset, (path, metadata) in files.items():
        with uproot.open(path) as file:
            found = {
                "object_path": metadata["tree"],
                "num_entries": file[metadata["tree"]].num_entries,
                "uuid": str(file.file.uuid),
                "steps": [],
            }
        checked[dataset] = {"files": {str(path): found}, "metadata": metadata}
    return with_steps(checked, chunksize)


def _metadata(kind: str, group: str, norm: float) -> dict[str, Any]:
    common = {"release": "2020", "tree": "mini", "lumi_pb": 2400.0, "regions": ["2L", "3L"], "label": group}
    return {"kind": kind, "group": group, "process": group, "norm": norm, **common}


@dataclass(frozen=True)
class Sample:
    """Three tiny datasets: two simulated ones and collision data."""

    files: dict[str, tuple[Path, dict[str, Any]]]

    def fileset(self, chunksize: int = 100) -> dict[str, Any]:
        return _fileset_of(self.files, chunksize)


def _sample(directory: Path) -> Sample:
    return Sample(
        {
            "361106.Zee.2lep": (
                _write_mini(directory / "mc_361106.Zee.2lep.root", 330),
                _metadata("background", "Zjets", 0.37),
            ),
            "392220.C1N2.2lep": (
                _write_mini(directory / "mc_392220.C1N2.2lep.root", 120, dsid=392220),
                _metadata("signal", "SUSYC1N2", 0.0121),
            ),
            "data_A.2lep": (
                _write_mini(directory / "data_A.2lep.root", 150, run=297730, dsid=0, data=True),
                _metadata("data", "data", 1.0),
            ),
        }
    )


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """The tiny sample; nobody changes it."""
    return _sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def own_sample(tmp_path: Path) -> Sample:
    """The same tiny sample, for a test that damages it."""
    return _sample(tmp_path / "sample")


# --- the stage select, as the command line runs it --------------------------------------------------------------------


def _select(
    fileset: Mapping[str, Any],
    output: Path,
    *,
    name: str = "2L",
    region: RegionSettings | None = None,
    workers: Workers | None = None,
    rmm: RMMSettings | None = None,
    **options: Any,
) -> dict[str, Any]:
    with nullcontext(workers) if workers is not None else Workers(ExecutionSettings()) as who:
        return select_region(
            fileset,
            name=name,
            region=region or REGIONS[name],
            weights=WeightSettings(),
            rmm=rmm or RMMSettings(),
            workers=who,
            output=output,
            **options,
        )


@pytest.fixture(scope="session")
def select() -> Callable[..., dict[str, Any]]:
    """Runs the stage select on a checked fileset."""
    return _select


# --- real files ------------------------------------------------------------------------------------------------------


def _read(path: Path, tree: str, **options: Any) -> Any:
    factory = NanoEventsFactory.from_root(
        {str(path): tree},
        schemaclass=OpenDataSchema,
        mode="virtual",
        access_log=options.pop("access_log", None),
        **options,
    )
    return factory.events()


@pytest.fixture(scope="session")
def read_events() -> Callable[..., Any]:
    """Opens a file through `OpenDataSchema`, as virtual arrays."""
    return _read


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Directory of the real files and reference values beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not there")
    return SHARED


@pytest.fixture(scope="session")
def real_2020(shared_data: Path) -> dict[str, Path]:
    """Real files of the 2020 release by dataset."""
    files = sorted((shared_data / "open-data-2020" / "4lep").glob("*/*.root"))
    assert len(files) == 5
    return {path.stem.removeprefix("mc_"): path for path in files}


@pytest.fixture(scope="session")
def real_2025(shared_data: Path) -> Path:
    """The real file of the 2025 release."""
    (path,) = (shared_data / "open-data-2025").glob("*/*.root")
    return path


@pytest.fixture(scope="session")
def rmm_reference(shared_data: Path) -> list[dict[str, Any]]:
    """300 events for which two published programs give their matrices."""
    events: list[dict[str, Any]] = json.loads((shared_data / "rmm_ref" / "events.json").read_text("utf-8"))
    return events


@pytest.fixture(scope="session")
def real_fileset(real_2020: dict[str, Path]) -> Callable[[int], dict[str, Any]]:
    """The checked fileset of the real files, as the command line makes it, for a chunk size."""
    (directory,) = {path.parents[1] for path in real_2020.values()}
    audit = check(resolve(FilesetSettings(fileset=str(directory)), ("2L", "3L")))
    return lambda chunksize: with_steps(audit.fileset, chunksize)
