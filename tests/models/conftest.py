"""Small shards with a manifest as the selection writes them, from events that are made here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from models.settings import TrainingSettings
from models.training import train

FEATURES = ["met_et", "mll", "mt2", "ht", "lep1_pt", "lep2_pt", "njet20", "never_filled"]
Events = dict[str, np.ndarray]


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
def trained(tmp_path_factory: pytest.TempPathFactory, samples: dict[str, tuple[str, str, Events]]) -> Path:
    """A bundle of the default model; tests that change it work on a copy."""
    output = tmp_path_factory.mktemp("output")
    manifest = write_shards(output / "shards" / "2L", samples)
    return train(manifest, features="table", settings=TrainingSettings(), seed=11, output=output)
