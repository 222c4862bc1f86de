"""Scores beside the limit of a float32 matrix product and beside ONNX Runtime, torch and JAX on the same weights.

From float32 features in memory to scores: scaled, through the network, the error of each event, its log10. In turns
with ours: products of two matrices of 2048 x 2048, of which the network's own take so much a event; and each peer, in
the size of batch that suits it best. All scores must agree. What of the work a peer leaves out, and where the peers
come from, is said in `peers.py`.

Then what has no such peer: all residuals too, as the stage `score` asks for them; ensembles of five; events that are
computed again in double precision; the recipe `hardness`; and reading the shards of the 33-feature model beside it.

    python benchmarks/scoring.py --events 2e5
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from peers import absent, scorers
from reporting import arguments, in_pairs, machine, report, say
from training import make_shards, settings_of

from models import backend
from models.bundle import AnomalyModel
from models.forward import Stack
from models.reading import cores
from models.scaling import AffineScaler, fit_scaler
from models.settings import TrainingSettings
from processors.files import read_json
from processors.scoring import BATCH_ROWS
from processors.shards import check_whole

SEED = 1
TOLERANCE = 2e-4  # of scores in single precision, between libraries
BATCHES = (1024, 4096, 16_384)  # of which a peer takes the best
SIZE = 2048  # of the matrices of the limit
SECONDS = 0.4  # that one figure of a pair takes

Floats = NDArray[np.float32]
Rate = Callable[[], float]


def features_of(n: int, k: int) -> Floats:
    """Correlated energies; of a matrix (more than 100 columns) nine cells in ten are empty."""
    rng = np.random.default_rng(SEED)
    hidden = rng.exponential(40.0, (n, 4)).astype(np.float32)
    values = hidden @ rng.random((4, k), dtype=np.float32)
    values *= 1 + 0.05 * rng.standard_normal((n, k), dtype=np.float32)
    if k > 100:
        values *= rng.random((n, k), dtype=np.float32) < 0.1
    return values


def model_of(settings: TrainingSettings, features: Floats) -> AnomalyModel:
    """A model with fresh weights, whose scaler knows the features."""
    from models.autoencoder import build  # noqa: PLC0415 - the backend starts first
    from models.ensemble import Networks, scores_of  # noqa: PLC0415

    k = features.shape[1]
    columns = [f"x{number}" for number in range(k)]
    known = features[:20_000]
    scaler = fit_scaler(
        settings.scaler, [(known, np.ones(len(known), np.float32))], columns=columns, empty=settings.empty
    )
    members = tuple(build(settings, k, seed=SEED + number) for number in range(settings.members))
    card = {"name": "benchmark", "scores": scores_of(settings)}
    return AnomalyModel(Networks(members, settings.scores, settings.beta), scaler, card)


def stack_of(model: AnomalyModel) -> Stack:
    """The layers of the (first) network."""
    from models.autoencoder import layers_of  # noqa: PLC0415 - the backend starts first

    return layers_of(model.network).astype(np.float32)


def operations(model: AnomalyModel) -> int:
    """Floating-point operations of the matrix products for one event."""
    return len(model.networks) * sum(2 * layer.kernel.size for layer in stack_of(model).layers)


def limit_of(model: AnomalyModel, seconds: float = SECONDS) -> Rate:
    """Events per second if the machine did nothing but the network's products, each as fast as large ones."""
    one = np.random.default_rng(SEED).random((SIZE, SIZE), dtype=np.float32)

    def rate() -> float:
        products, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            one @ one
            products += 1
        return products * 2 * SIZE**3 / (time.perf_counter() - begin) / operations(model)

    return rate


def repeated(
    score: Callable[[Floats], Any], features: Floats, rows: int | None = None, seconds: float = SECONDS
) -> Rate:
    """Events per second of a function of features, all at once or in batches, for about some time."""
    size = rows or len(features)
    batches = [features[start : start + size] for start in range(0, len(features) - size + 1, size)]

    def rate() -> float:
        events, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            for batch in batches:
                score(batch)
                events += len(batch)
        return events / (time.perf_counter() - begin)

    return rate


def beside_peers(model: AnomalyModel, features: Floats, pairs: int) -> dict[str, Any]:
    """Ours beside the limit and each peer, after a look at whether all say the same."""
    scaler = model.scaler
    assert isinstance(scaler, AffineScaler)
    ours = model.score(features)
    result: dict[str, Any] = {"operations_per_event": operations(model), "peers": {}, "absent": absent()}
    rate = repeated(model.score, features)
    rate()
    result["limit"] = in_pairs(rate, limit_of(model), pairs)
    say(f"  of the limit: {_ratio(result['limit'])}")
    for name, score in scorers(stack_of(model), scaler.offset, scaler.scale).items():
        difference = float(np.abs(score(features[:BATCH_ROWS]) - ours[:BATCH_ROWS]).max())
        if difference > TOLERANCE:
            msg = f"{name} differs by {difference:.1e} in the score"
            raise SystemExit(msg)
        tried = {}
        for rows in BATCHES:
            score(features[:rows])  # compiles
            tried[rows] = repeated(score, features, rows)()
        best = max(tried, key=lambda rows: tried[rows])
        say(f"{name}: batches of {best}, {tried[best]:,.0f} events/s")
        result["peers"][name] = {
            "batch": best,
            "difference": difference,
            **in_pairs(rate, repeated(score, features, best), pairs),
        }
        say(f"  ours: {result['peers'][name]['one']:,.0f}, ratio {_ratio(result['peers'][name])}")
    return result


def alone(model: AnomalyModel, features: Floats, pairs: int) -> dict[str, Any]:
    """Scores and, as the stage `score` asks for them, all residuals, beside the limit."""
    scores, measures = (
        repeated(score, features) for score in (model.scores, lambda batch: list(model.measures(batch)))
    )
    scores()
    found = {"scores": in_pairs(scores, limit_of(model), pairs), "stage": in_pairs(measures, scores, pairs)}
    say(
        f"  {model.score_names}: {found['scores']['one']:,.0f} events/s, {_ratio(found['scores'])} of the limit"
    )
    return {"operations_per_event": operations(model), **found}


def reading(model: AnomalyModel, directory: Path, events: int, pairs: int) -> dict[str, Any]:
    """The shards of a model's features read as the stage `score` does, and the model on the same events in memory."""
    manifest = make_shards(directory, "table", events)
    shards = read_json(manifest)["shards"]

    def read() -> float:
        begin = time.perf_counter()
        for shard in shards:
            path = directory / shard["path"]
            check_whole(path, shard["checksum"])
            for rows in pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS, columns=model.features):
                columns = [rows.column(name).to_numpy() for name in model.features]
                np.ascontiguousarray(np.array(columns, dtype=np.float32).T)
        return events / (time.perf_counter() - begin)

    features = features_of(events, len(model.features))
    read()
    return in_pairs(repeated(model.score, features), read, pairs)


def main() -> None:
    """Measures and tells."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--events", type=float, default=1e5, help="of the matrix; of tables four times as many [1e5]"
    )
    options = parser.parse_args()
    n, pairs = int(options.events), options.pairs
    backend.start()
    result: dict[str, Any] = {"machine": machine(), "threads": cores()}
    matrix, table, hard = features_of(n, 529), features_of(4 * n, 33), features_of(4 * n, 6)
    deep = settings_of("rmm")
    report_model = model_of(TrainingSettings(preset="report-standard"), table)
    for name, model, features in (
        ("529-200-60-20-9", model_of(deep, matrix), matrix),
        ("report-standard", report_model, table),
    ):
        say(name)
        result[name] = beside_peers(model, features, pairs)
    five = deep.model_copy(update={"members": 5})
    small = TrainingSettings(members=5)
    shrunk = model_of(small, matrix)
    shrunk.scaler.scale[:] *= (
        1e4  # next to nothing comes out for inputs of next to nothing: all in double precision
    )
    others: Sequence[tuple[str, AnomalyModel, Floats]] = (
        ("529-200-60-20-9", model_of(deep, matrix), matrix),
        ("five of 529-200-60-20-9", model_of(five, matrix), matrix),
        ("five of 529-64-32-6", model_of(small, matrix), matrix),
        ("the same, all again in double precision", shrunk, matrix),
        ("report-standard", report_model, table),
        ("hardness", model_of(TrainingSettings(preset="hardness"), hard), hard),
    )
    result["alone"] = {name: alone(model, features, pairs) for name, model, features in others}
    with tempfile.TemporaryDirectory() as scratch:
        result["reading"] = reading(report_model, Path(scratch), 4 * n, pairs)
    tell(result, options.json)


def tell(result: dict[str, Any], target: Path | None) -> None:
    """The tables."""
    rows = []
    for name in ("529-200-60-20-9", "report-standard"):
        found = result[name]
        compared = [("limit of the matrix product", found["limit"]), *found["peers"].items()]
        rows += [
            [
                name,
                peer,
                f"{pair['one']:,.0f}",
                f"{pair['other']:,.0f}",
                _ratio(pair),
                f"{pair.get('difference', 0):.0e}",
            ]
            for peer, pair in compared
        ]
        rows += [[name, f"{peer} (absent)", "", "", "", ""] for peer in found["absent"]]
    single = [
        [name, f"{found['scores']['one']:,.0f}", _ratio(found["scores"]), f"{found['stage']['one']:,.0f}"]
        for name, found in result["alone"].items()
    ]
    read = result["reading"]
    report(
        "scoring",
        result,
        [
            (
                "Scores from features in memory [events/s]",
                ["model", "beside", "ours", "theirs", "ratio (spread)", "difference"],
                rows,
            ),
            (
                "All scores, and with what each input gives to them [events/s]",
                ["model", "scores", "of the limit (spread)", "with residuals"],
                single,
            ),
            (
                "The 33-feature model is bound by reading [events/s]",
                ["scoring", "reading its shards", "ratio (spread)"],
                [[f"{read['one']:,.0f}", f"{read['other']:,.0f}", _ratio(read)]],
            ),
        ],
        target,
    )


def _ratio(pair: dict[str, Any]) -> str:
    return f"{pair['ratio']:.2f} ({pair['spread'][0]:.2f}–{pair['spread'][1]:.2f})"


if __name__ == "__main__":
    main()
