"""Training from disk beside training from memory, beside plain loops of Keras and torch, and the memory that it takes.

Shards are made with as many columns as the feature table and the rapidity-mass matrix have (of the matrix most cells
are empty), and trained on with batches of 8192 events. In turns: a sample in memory and the same sample ordered on
disk, read, mixed and trained on for one epoch each; our epoch and Keras' own `fit` with its default settings, and our
epoch and a plain loop of torch (`peers.py` says how to get it), on the same arrays. Then whole trainings from disk in
processes of their own, of a sample and of one ten times as large.

    python benchmarks/training.py --events 4e5

With `--device` nothing but epochs of the 33-feature model is measured, on an accelerator if JAX finds one (extra
`[cuda]`), otherwise on the processor. The report's sample took a minute an epoch with XLA on a GPU:

    KERAS_BACKEND=jax python benchmarks/training.py --device --events 51e6
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers import absent, torch_epoch
from reporting import arguments, in_pairs, machine, report

from models import backend
from models.presets import FeatureSet
from models.settings import TrainingSettings
from models.stream import BackgroundSample, Chunk, MemorySample
from models.training import scaled_sample, train
from processors.files import write_json
from processors.shards import write_shard

SEED = 1
SHARD_ROWS = 50_000
COLUMNS: dict[FeatureSet, int] = {"table": 33, "rmm": 529}
FILLED: dict[FeatureSet, float] = {"table": 1.0, "rmm": 0.1}
# Of the report's and of DESIGN.md's measurement: hidden widths up to the latent space and back.
NETWORKS: dict[FeatureSet, tuple[int, ...]] = {"table": (22, 15, 10, 2), "rmm": (200, 60, 20, 9)}


def make_shards(directory: Path, features: FeatureSet, events: int) -> Path:
    """Shards of some processes that differ in scale, and their manifest."""
    k, shards = COLUMNS[features], []
    names = [f"x{number}" for number in range(k)]
    for start in range(0, events, SHARD_ROWS):
        rng = np.random.default_rng((SEED, start))
        n, process = min(SHARD_ROWS, events - start), start // SHARD_ROWS % 8
        hidden = rng.exponential(40.0 + 5 * process, (n, 4)).astype(np.float32)
        values = hidden @ np.random.default_rng(0).random((4, k), dtype=np.float32)
        values *= 1 + 0.05 * rng.standard_normal((n, k), dtype=np.float32)
        if FILLED[features] < 1:
            values *= rng.random((n, k), dtype=np.float32) < FILLED[features]
        path = f"{process}.sample/{start}.parquet"
        columns = {
            "channelNumber": np.full(n, process, np.int32),
            "runNumber": np.full(n, 284500, np.int32),
            "eventNumber": np.arange(start, start + n, dtype=np.uint64),
            "weight": rng.uniform(0.5, 1.5, n),
            **dict(zip(names, values.T, strict=True)),
        }
        shards.append(
            {"path": path, "dataset": f"{process}.sample", **write_shard(directory / path, columns)}
        )
    datasets = {
        shard["dataset"]: {"kind": "background", "group": shard["dataset"], "scale": 1.0} for shard in shards
    }
    manifest = {
        "format": 1, "region": "2L", "config_hash": f"{features}-{events}", "complete": True,
        "features": {features: names}, "variables": [], "datasets": datasets, "shards": shards,
    }  # fmt: skip
    write_json(directory / "manifest.json", manifest)
    return directory / "manifest.json"


def settings_of(features: FeatureSet, **changes: Any) -> TrainingSettings:
    """The network of the comparison."""
    widths = NETWORKS[features]
    given: dict[str, Any] = {
        "encoder": widths,
        "encoder_activations": ("tanh",) * len(widths),
        "decoder": widths[-2::-1],
        "decoder_activations": ("tanh",) * (len(widths) - 1) + ("linear",),
        "batch_size": 8192,
        "min_steps": 1,
        "epochs": 1,
    }
    return TrainingSettings(**given | changes)


def epoch_of(sample: BackgroundSample, settings: TrainingSettings) -> Callable[[], float]:
    """Trains an epoch as `models.fitting.fit` does and gives events per second."""
    from models.autoencoder import build, prepare_training  # noqa: PLC0415 - the backend starts first
    from models.steps import passes_over  # noqa: PLC0415

    network = build(settings, len(sample.columns), seed=SEED)
    prepare_training(network, settings, steps=1000)
    network.optimizer.build(network.trainable_variables)
    nothing = np.zeros((1, len(sample.columns)), np.float32)
    network.test_on_batch(nothing, nothing, sample_weight=np.zeros(1, np.float32))
    passes = passes_over(sample, network, settings.batch_size)

    def epoch() -> float:
        begin = time.perf_counter()
        events = passes.train(np.random.default_rng(SEED))
        float(network.get_metrics_result()["loss"])  # waits for what a device has still to do
        return events / (time.perf_counter() - begin)

    return epoch


def keras_epoch(sample: MemorySample, settings: TrainingSettings) -> Callable[[], float]:
    """An epoch of Keras' own `fit`, all else at its default, on the same arrays."""
    from models.autoencoder import build  # noqa: PLC0415 - the backend starts first

    network = build(settings, len(sample.columns), seed=SEED)
    network.compile(optimizer="adam", loss="mse")
    train_split = sample.arrays["train"]

    def epoch() -> float:
        begin = time.perf_counter()
        network.fit(
            train_split.features,
            train_split.features,
            sample_weight=train_split.training_weight,
            batch_size=settings.batch_size,
            verbose=0,
        )
        return len(train_split.weight) / (time.perf_counter() - begin)

    return epoch


def plain_torch(sample: MemorySample, settings: TrainingSettings) -> Callable[[], float]:
    """An epoch of a plain torch loop on the same arrays, from the same weights."""
    from models.autoencoder import build, layers_of  # noqa: PLC0415 - the backend starts first

    train_on = torch_epoch(sample, settings, layers_of(build(settings, len(sample.columns), seed=SEED)))

    def epoch() -> float:
        begin = time.perf_counter()
        events, _ = train_on()
        return events / (time.perf_counter() - begin)

    return epoch


def on_device(events: int, epochs: int = 3) -> dict[str, Any]:
    """Seconds of epochs of the 33-feature model with all events in the memory of JAX' device, and of the first."""
    if backend.start() != "jax":
        msg = "--device needs KERAS_BACKEND=jax"
        raise SystemExit(msg)
    import jax  # noqa: PLC0415 - only there if it is the backend

    settings, k = settings_of("table"), COLUMNS["table"]
    rows = {"train": events, "validation": settings.batch_size, "test": 0}
    rng = np.random.default_rng(SEED)
    arrays = {}
    for split, n in rows.items():
        features = rng.standard_normal((n, k), dtype=np.float32)
        weight = rng.uniform(0.5, 1.5, n)
        arrays[split] = Chunk(features, weight.astype(np.float32), weight)
    names = [f"x{number}" for number in range(k)]
    sample = MemorySample(names, ["made"], rows, dict.fromkeys(rows, 1.0), arrays)
    begin = time.perf_counter()
    epoch = epoch_of(sample, settings)
    epoch()
    first = time.perf_counter() - begin
    seconds = [events / epoch() for _ in range(epochs)]
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "events": events,
        "first_epoch_seconds": first,
        "epoch_seconds": min(seconds),
        "all_epochs_seconds": seconds,
        "events_per_second": events / min(seconds),
    }


def throughput(manifest: Path, features: FeatureSet, scratch: Path, pairs: int) -> dict[str, Any]:
    """Events per second from disk and from memory, ours, of Keras and of torch."""
    backend.start()
    columns = json.loads(manifest.read_text())["features"][features]
    settings = settings_of(features)
    memory, _ = scaled_sample(manifest, columns=columns, settings=settings, seed=SEED)
    size_mb = sum(memory.rows.values()) * len(columns) * 4e-6
    ordered = settings.model_copy(update={"memory_mb": int(size_mb / 4)})
    begin = time.perf_counter()
    stored, _ = scaled_sample(manifest, columns=columns, settings=ordered, seed=SEED, scratch=scratch)
    seconds = time.perf_counter() - begin
    rows = sum(stored.rows.values())
    size = sum(path.stat().st_size for path in scratch.rglob("*.arrow"))
    epochs = {
        "disk": epoch_of(stored, settings),
        "memory": epoch_of(memory, settings),
        "keras": keras_epoch(memory, settings),
    }
    for epoch in epochs.values():  # compiles
        epoch()
    result = {
        "events": rows,
        "columns": len(columns),
        "ordering_events_per_second": rows / seconds,
        "bytes_per_event_on_disk": size / rows,
        "bytes_per_event_in_memory": 4 * len(columns),
        "disk_to_memory": in_pairs(epochs["disk"], epochs["memory"], pairs),
        "ours_to_keras_fit": in_pairs(epochs["memory"], epochs["keras"], pairs),
    }
    if "torch" not in absent():
        plain = plain_torch(memory, settings)
        plain()
        result["ours_to_torch"] = in_pairs(epochs["memory"], plain, pairs)
    stored.close()
    return result


def peak(manifest: Path, features: FeatureSet, output: Path, memory_mb: int) -> dict[str, float]:
    """Largest resident memory [MB] of a process that trains from disk, and what Python and Keras take of it."""
    command = [sys.executable, __file__, "--child", str(manifest), features, str(output), str(memory_mb)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def child(manifest: str, features: FeatureSet, output: str, memory_mb: str) -> None:
    """What `peak` runs."""
    backend.start()
    before = _high_water()
    settings = settings_of(features).model_copy(update={"memory_mb": int(memory_mb)})
    train(Path(manifest), features=features, settings=settings, seed=SEED, output=Path(output))
    print(json.dumps({"keras_mb": before, "peak_mb": _high_water()}))


def _high_water() -> float:
    # Not ru_maxrss, which a new process inherits from its parent.
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1e3
    return float("nan")


def main() -> None:
    """Measures and tells."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--events", type=float, default=4e5, help="of the table; of the matrix half as many [4e5]"
    )
    parser.add_argument("--memory-mb", type=int, default=32, help="for the sample, in the memory runs [32]")
    parser.add_argument(
        "--device", action="store_true", help="epochs with the data on JAX' device, and nothing else"
    )
    parser.add_argument("--speed-only", action="store_true", help="leave the memory runs out")
    parser.add_argument("--child", nargs=4, help="(what the memory runs start)")
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    if options.device:
        found = on_device(int(options.events))
        row = [found["device"], f"{found['events']:,}", f"{found['epoch_seconds']:.2f}"]
        row += [f"{found['events_per_second']:,.0f}", f"{found['first_epoch_seconds']:.1f}"]
        header = ["device", "events", "seconds an epoch", "events/s", "first epoch, with compilation"]
        title = "Training of the 33-feature model with the data on the device, batches of 8192"
        report("training_device", {"machine": machine(), **found}, [(title, header, [row])], options.json)
        return
    sizes: dict[FeatureSet, int] = {"table": int(options.events), "rmm": int(options.events / 2)}
    result: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for features, events in sizes.items():
            manifest = make_shards(root / features, features, events)
            result[features] = throughput(manifest, features, root / "ordered", options.pairs)
        for times in () if options.speed_only else (1, 10):
            manifest = make_shards(root / f"table-{times}", "table", times * sizes["table"])
            result[f"memory_{times}x"] = peak(manifest, "table", root / f"out-{times}", options.memory_mb)
    speeds = [
        [
            f"{features}, {result[features]['columns']} columns",
            *(
                f"{result[features][name]['ratio']:.2f} ({result[features][name]['one']:,.0f} : "
                f"{result[features][name]['other']:,.0f})"
                if name in result[features]
                else "torch is absent"
                for name in ("disk_to_memory", "ours_to_keras_fit", "ours_to_torch")
            ),
            f"{result[features]['bytes_per_event_on_disk']:.0f} of {result[features]['bytes_per_event_in_memory']}",
            f"{result[features]['ordering_events_per_second']:,.0f}",
        ]
        for features in sizes
    ]
    peaks = []
    for times in () if options.speed_only else (1, 10):
        found = result[f"memory_{times}x"]
        peaks.append(
            [f"{times * sizes['table']:,} events", f"{found['keras_mb']:.0f}", f"{found['peak_mb']:.0f}"]
        )
    report(
        "training",
        result,
        [
            (
                "Events per second in an epoch, batches of 8192",
                [
                    "features",
                    "disk : memory",
                    "ours : Keras fit",
                    "ours : torch",
                    "bytes per event",
                    "ordered per second",
                ],
                speeds,
            ),
            (
                f"Memory of training from disk with memory_mb={options.memory_mb} [MB]",
                ["sample", "Keras alone", "peak"],
                peaks,
            ),
        ],
        options.json,
    )


if __name__ == "__main__":
    main()
