"""Small shards with a manifest as the selection writes them, from events that are made here."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from models.settings import TrainingSettings
from models.training import train

# Modules whose tests never start Keras: with a second backend they would do the identical thing again.
WITHOUT_KERAS = {
    "test_bootstrap",
    "test_bumps",
    "test_checkpoints",
    "test_contrasts",
    "test_counting",
    "test_decorrelation",
    "test_efficiency",
    "test_evaluation",
    "test_fitting",
    "test_forest",
    "test_injection",
    "test_limits",
    "test_masses",
    "test_pseudo_experiments",
    "test_scaling",
    "test_sculpting",
    "test_settings",
    "test_shapes",
    "test_significance",
    "test_sketch",
    "test_stream",
    "test_workspace",
}
FEATURES = ["met_et", "mll", "mt2", "ht", "lep1_pt", "lep2_pt", "njet20", "never_filled"]
Events = dict[str, np.ndarray]


@pytest.hookimpl(tryfirst=True)  # before -m looks at marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `-m "not neutral"` leaves out of the run with a second backend."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.path.stem in WITHOUT_KERAS:
            item.add_marker("neutral")


@pytest.fixture(autouse=True)
def neutral_tests_start_no_backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that is marked as neutral and starts Keras after all."""
    running = "keras" in sys.modules
    yield
    if request.node.get_closest_marker("neutral"):
        assert running or "keras" not in sys.modules, "take the module out of WITHOUT_KERAS"


def make_events(n: int, *, channel: int, seed: int, scale: float = 1.0, weight: float = 1.0) -> Events:
    """Events on a curved two-dimensional surface in seven columns; `scale` stretches the energies."""
    rng = np.random.default_rng((channel, seed))
    hard, angle = scale * rng.exponential(40.0, n), rng.uniform(-1, 1, n)
    noise = rng.normal(0, 1.0, (7, n))
    jets = rng.poisson(0.02 * hard)
    columns = {
        "met_et": 0.5 * hard + 3 * noise[0],
        "mll": 91 + 0.2 * hard + 2.5 * noise[1],
        "mt2": 0.3 * hard * (1 + angle) + noise[2],
        "ht": 25.0 * jets + hard + noise[3],
        "lep1_pt": 25 + hard * (1.5 + angle) + noise[4],
        "lep2_pt": 20 + hard * (1.5 - angle) + noise[5],
        "njet20": jets.astype(float),
        "never_filled": np.zeros(n),
    }
    events = {
        "channelNumber": np.full(n, channel, dtype=np.int32),
        "runNumber": np.full(n, 284500, dtype=np.int32),
        "eventNumber": np.arange(1, n + 1, dtype=np.uint64),
        "weight": weight * rng.uniform(0.5, 1.5, n),
        "flcomp": rng.integers(6, 9, n).astype(np.int8),
    }
    return events | {name: column.astype(np.float32) for name, column in columns.items()}


def write_shards(
    directory: Path,
    samples: dict[str, tuple[str, str, Events]],
    *,
    chunk: int = 700,
    reverse: bool = False,
    row_group: int | None = None,
) -> Path:
    """Write {dataset: (kind, group, events)} as shards and return the path of their manifest."""
    manifest: dict[str, Any] = {
        "format": 1,
        "region": "2L",
        "config_hash": "c0ffee",
        "complete": True,
        "lumi_pb": 10064.0,
        "features": {"table": FEATURES, "reduced": FEATURES[:4], "rmm": []},
        "variables": ["met_et", "mll"],
        "datasets": {},
        "shards": [],
    }
    for dataset, (kind, group, events) in samples.items():
        n = len(events["weight"])
        manifest["datasets"][dataset] = {
            "dataset": dataset,
            "kind": kind,
            "process": dataset,
            "group": group,
            "label": group,
            "rows": n,
            "scale": 1.0,
        }
        starts = range(0, n, chunk)
        for start in reversed(starts) if reverse else starts:
            part = {name: column[start : start + chunk] for name, column in events.items()}
            relative = f"{dataset}/{'z' if reverse else 'a'}{n - start if reverse else start}.parquet"
            path = directory / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(part), path, row_group_size=row_group)
            manifest["shards"].append(
                {
                    "path": relative,
                    "dataset": dataset,
                    "rows": len(part["weight"]),
                    "sumw": float(part["weight"].sum()),
                    "checksum": f"xxh128:{xxhash.xxh128_hexdigest(path.read_bytes())}",
                }
            )
    path = directory / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


@pytest.fixture(scope="session")
def samples() -> dict[str, tuple[str, str, Events]]:
    """Two backgrounds, a signal ten times as hard, and collision data."""
    return {
        "1.Zee": ("background", "Zjets", make_events(3000, channel=1, seed=1, weight=2.0)),
        "2.ttbar": ("background", "ttbar", make_events(1500, channel=2, seed=1, scale=1.5, weight=0.2)),
        "3.susy": ("signal", "SUSY", make_events(400, channel=3, seed=1, scale=10.0, weight=0.01)),
        "data_A": ("data", "data", make_events(500, channel=9, seed=1)),
    }


@pytest.fixture
def manifest(tmp_path: Path, samples: dict[str, tuple[str, str, Events]]) -> Path:
    """The manifest of `samples` in a directory of its own."""
    return write_shards(tmp_path / "shards" / "2L", samples)


@pytest.fixture(scope="session")
def shard_writer() -> Callable[..., Path]:
    """`write_shards`, for tests that cut their own."""
    return write_shards


@pytest.fixture
def event_maker() -> Callable[..., Events]:
    """`make_events`, for tests that need other events."""
    return make_events


@pytest.fixture(scope="session")
def features() -> list[str]:
    """Columns of the feature set "table" in these shards."""
    return list(FEATURES)


@pytest.fixture(scope="session")
def top_pairs() -> Any:
    """Records of 2lep events of the demo: top-quark pairs with two good leptons."""
    from coffea.nanoevents import NanoEventsFactory  # noqa: PLC0415 - only where it is asked for

    from models.studies.perturbations import event_features  # noqa: PLC0415
    from processors.schema import OpenDataSchema, event_record  # noqa: PLC0415
    from processors.settings import REGIONS, RMMSettings  # noqa: PLC0415

    file = Path(__file__).parents[2] / "fileset" / "demo" / "2lep" / "MC" / "mc_410000.ttbar_lep.2lep.root"
    events = NanoEventsFactory.from_root(
        {str(file): "mini"}, schemaclass=OpenDataSchema, entry_stop=1500
    ).events()
    record = event_record(events)
    return record[event_features(record, ["mll"], region=REGIONS["2L"], rmm=RMMSettings())[1]]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, samples: dict[str, tuple[str, str, Events]]) -> Path:
    """A bundle of the default model; tests that change it work on a copy."""
    output = tmp_path_factory.mktemp("output")
    manifest = write_shards(output / "shards" / "2L", samples)
    return train(manifest, features="table", settings=TrainingSettings(), seed=11, output=output)


def _two_leptons(
    n: int, *, channel: int, hard: float, weight: float, anomaly: float
) -> tuple[Events, Events]:
    """Columns of shards and of scores of two-lepton events; the score follows m_ll and m_eff in part."""
    rng = np.random.default_rng(channel)
    identity = {
        "channelNumber": np.full(n, channel, dtype=np.int32),
        "runNumber": np.full(n, 284500, dtype=np.int32),
        "eventNumber": np.arange(1, n + 1, dtype=np.uint64),
        "weight": weight * rng.uniform(0.5, 1.5, n),
    }
    mll = np.where(rng.random(n) < 0.6, rng.normal(91, 3, n), 15 + rng.exponential(hard, n))
    met = rng.exponential(0.5 * hard, n)
    leptons = {"met_et": met, "met_phi": rng.uniform(-np.pi, np.pi, n), "isOS": np.ones(n)}
    for number in (1, 2):
        leptons |= {
            f"lep{number}_pt": 20 + rng.exponential(hard / number, n),
            f"lep{number}_flav": np.full(n, 11.0),
        }
        leptons |= {
            f"lep{number}_eta": rng.normal(0, 1, n),
            f"lep{number}_phi": rng.uniform(-np.pi, np.pi, n),
        }
    meff = met + leptons["lep1_pt"] + leptons["lep2_pt"] + rng.exponential(hard, n)
    scored = {
        "split": rng.choice(3, n, p=(0.64, 0.16, 0.20)).astype(np.uint8),
        "score": (0.004 * mll + 0.003 * meff + anomaly + rng.exponential(0.3, n)).astype(np.float32),
        "mll": mll.astype(np.float32),
        "meff": meff.astype(np.float32),
    }
    return identity | {name: column.astype(np.float32) for name, column in leptons.items()}, identity | scored


@pytest.fixture
def sculpting_run(tmp_path: Path) -> tuple[Path, Path, dict[str, str]]:
    """Manifests of scores and of the shards that were scored, and the kinds of their datasets."""
    samples = {
        "1.Zee": ("background", _two_leptons(12_000, channel=1, hard=40.0, weight=0.5, anomaly=0.0)),
        "2.ttbar": ("background", _two_leptons(3_000, channel=2, hard=70.0, weight=0.2, anomaly=0.1)),
        "3.susy": ("signal", _two_leptons(800, channel=3, hard=150.0, weight=0.01, anomaly=0.8)),
        "data_A": ("data", _two_leptons(6_000, channel=9, hard=40.0, weight=1.0, anomaly=0.0)),
    }
    paths = {room: tmp_path / room / "2L" for room in ("shards", "scores")}
    books = {room: {"format": 1, "region": "2L", "complete": True, "shards": []} for room in paths}
    datasets = {
        name: {"kind": kind, "group": name, "process": name, "label": name, "rows": 0}
        for name, (kind, _) in samples.items()
    }
    for name, (_, tables) in samples.items():
        for room, table in zip(paths, tables, strict=True):
            for start in range(0, len(table["weight"]), 5000):
                part = {column: values[start : start + 5000] for column, values in table.items()}
                path = paths[room] / name / f"{start:05d}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(pa.table(part), path)
                entry = {"path": f"{name}/{path.name}", "dataset": name, "rows": len(part["weight"])}
                books[room]["shards"].append(entry)
    for room, book in books.items():
        book |= {"model": "default-table", "variables": ["mll", "meff"], "datasets": datasets}
        (paths[room] / "manifest.json").write_text(json.dumps(book))
    return (
        paths["scores"] / "manifest.json",
        paths["shards"] / "manifest.json",
        {name: kind for name, (kind, _) in samples.items()},
    )
