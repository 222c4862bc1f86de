"""One score, wherever and however it is computed: alone or among many, in any process, worker and backend."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.bundle import load_model
from models.settings import TrainingSettings
from models.training import train
from processors.files import checksum, write_json
from processors.settings import REGIONS, ExecutionSettings
from processors.shards import read_manifest
from processors.stages.score import score_region
from processors.workers import Workers

logger = logging.getLogger(__name__)  # the figures: pytest -o log_cli=true -o log_cli_level=INFO

REPOSITORY = Path(__file__).parents[1]
FEATURES = ["met_et", "mll", "mt2", "ht", "lep1_pt", "lep2_pt", "njet20", "never_filled"]
N = 1200

VAE = {
    "kind": "vae",
    "encoder": (16, 4),
    "encoder_activations": ("tanh", "linear"),
    "decoder": (16,),
    "decoder_activations": ("leakyrelu", "linear"),
}


def _events(channel: int, hardness: float) -> dict[str, np.ndarray]:
    """Events with correlated energies; every fortieth is so hard that no training event was like it."""
    rng = np.random.default_rng(channel)
    scale = hardness * rng.exponential(40.0, N) * np.where(np.arange(N) % 40, 1.0, 30.0)
    columns = {name: scale * (1 + 0.2 * rng.normal(0, 1, N)) for name in FEATURES[:6]}
    columns |= {"njet20": rng.poisson(2, N), "never_filled": np.zeros(N)}
    return {
        "channelNumber": np.full(N, channel, np.int32),
        "runNumber": np.full(N, 284500, np.int32),
        "eventNumber": np.arange(N, dtype=np.uint64),
        "weight": rng.uniform(0.5, 1.5, N),
        "flcomp": np.full(N, 6, np.int8),
        **{name: np.asarray(column, np.float32) for name, column in columns.items()},
    }


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of background and signal, three of each, and the bundles of an autoencoder and a variational one."""
    directory = tmp_path_factory.mktemp("parity")
    kinds = {"1.Zee": ("background", 1.0), "2.susy": ("signal", 5.0)}
    shards = []
    for number, (dataset, (_, hardness)) in enumerate(kinds.items(), start=1):
        events = _events(number, hardness)
        for start in range(0, N, 400):
            path = directory / "shards" / "2L" / dataset / f"{start}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({name: c[start : start + 400] for name, c in events.items()}), path)
            name = f"{dataset}/{start}.parquet"
            shards.append({"path": name, "dataset": dataset, "rows": 400, "checksum": checksum(path)})
    manifest = {
        "format": 1,
        "region": "2L",
        "config_hash": "parity",
        "complete": True,
        "lumi_pb": 10064.0,
        "features": {"table": FEATURES, "reduced": FEATURES, "rmm": []},
        "variables": ["met_et", "mll"],
        "variations": ["nominal"],
        "datasets": {
            dataset: {
                "kind": kind,
                "group": dataset,
                "process": dataset,
                "label": dataset,
                "rows": N,
                "scale": 1.0,
            }
            for dataset, (kind, _) in kinds.items()
        },
        "shards": shards,
    }
    path = directory / "shards" / "2L" / "manifest.json"
    write_json(path, manifest)
    for name, network in (("ae", {}), ("vae", VAE)):
        settings = TrainingSettings(epochs=3, **network)
        train(path, features="table", settings=settings, seed=3, output=directory, name=name)
    return directory


@pytest.fixture(scope="module")
def events(output: Path) -> np.ndarray:
    """All events in the order of the manifest, shape (2400, 8)."""
    shards = read_manifest(output / "shards" / "2L" / "manifest.json")["shards"]
    tables = [pq.read_table(output / "shards" / "2L" / shard["path"]) for shard in shards]
    return np.concatenate(
        [np.column_stack([table[name].to_numpy() for name in FEATURES]) for table in tables]
    )


@pytest.fixture(scope="module", params=["ae", "vae"])
def bundle(request: pytest.FixtureRequest, output: Path) -> Path:
    return output / "models" / "2L" / str(request.param)


@pytest.fixture(scope="module")
def reference(bundle: Path, events: np.ndarray) -> dict[str, np.ndarray]:
    """All scores, in batches of 100 000 events."""
    model = load_model(bundle)
    many = np.tile(events, (-(-100_000 // len(events)), 1))[:100_000]
    scores = {name: values[: len(events)] for name, values in model.scores(many).items()}
    one = model.score(many)[: len(events)]
    np.testing.assert_allclose(one, scores[model.score_names[0]], rtol=0, atol=1e-6)
    return scores


def _distance(found: dict[str, Any], reference: dict[str, np.ndarray]) -> float:
    """The largest difference of any score of any event."""
    assert set(found) == set(reference)
    return max(float(np.max(np.abs(np.asarray(found[name]) - reference[name]))) for name in reference)


def test_alone_and_among_100_000(bundle: Path, events: np.ndarray, reference: dict[str, np.ndarray]) -> None:
    model = load_model(bundle)
    alone = [model.scores(event[np.newaxis]) for event in events[::10]]
    found = {name: [float(scores[name][0]) for scores in alone] for name in reference}
    distance = _distance(found, {name: values[::10] for name, values in reference.items()})
    logger.info("%s, batches of 1: %.1e", bundle.name, distance)
    assert distance <= 1e-6


# What a notebook does, in a process of its own.
NOTEBOOK = """
import json, sys
import numpy as np
from models.bundle import load_model

events = np.load(sys.argv[1])
found = {path: load_model(path).scores(events) for path in sys.argv[2:]}
print(json.dumps({path: {name: v.tolist() for name, v in scores.items()} for path, scores in found.items()}))
"""


@pytest.mark.parametrize(("backend", "tolerance"), [("tensorflow", 1e-6), ("jax", 1e-5)])
def test_in_another_process_and_with_the_other_backend(
    output: Path, events: np.ndarray, require: Any, backend: str, tolerance: float
) -> None:
    require(find_spec(backend), f"{backend} is not installed")
    np.save(output / "events.npy", events)
    bundles = [str(output / "models" / "2L" / name) for name in ("ae", "vae")]
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, str(output / "events.npy"), *bundles],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    assert done.returncode == 0, done.stderr
    for path, found in json.loads(done.stdout).items():
        distance = _distance(found, load_model(path).scores(events))
        logger.info("%s, another process, %s: %.1e", Path(path).name, backend, distance)
        assert distance <= tolerance, path


@pytest.fixture(scope="module")
def dask_worker() -> Iterator[Workers]:
    with Workers(ExecutionSettings(executor="dask", workers=1)) as workers:
        yield workers


def _loads(_: int) -> int:
    """How often the worker that this runs on has loaded a bundle from disk."""
    from models.bundle import _load  # noqa: PLC0415 - in the worker

    return _load.cache_info().misses


@pytest.mark.parametrize("executor", ["iterative", "dask"])
def test_in_the_coffea_processor_here_and_on_a_dask_worker(
    output: Path,
    bundle: Path,
    reference: dict[str, np.ndarray],
    request: pytest.FixtureRequest,
    executor: str,
) -> None:
    workers = request.getfixturevalue("dask_worker") if executor == "dask" else Workers(ExecutionSettings())
    before = max(workers.map(_loads, [0]))
    manifest = score_region(
        name="2L",
        region=REGIONS["2L"],
        model=bundle,
        model_name=f"{bundle.name}-{executor}",
        loader="models.bundle:load_model",
        seed=3,
        workers=workers,
        output=output,
        friends=False,
    )
    assert len(manifest["shards"]) == 6
    directory = output / "scores" / "2L" / f"{bundle.name}-{executor}"
    scored = pa.concat_tables([pq.read_table(directory / shard["path"]) for shard in manifest["shards"]])
    first, *others = reference
    found = {first: scored["score"].to_numpy()}
    found |= {name: scored[f"score_{name}"].to_numpy() for name in others}
    distance = _distance(found, reference)
    logger.info("%s, coffea processor, %s: %.1e", bundle.name, executor, distance)
    assert distance <= 1e-6
    loads = max(workers.map(_loads, [0])) - before
    assert loads == (1 if executor == "dask" else 0), "a model is loaded once a worker"
